/*
 * Can this KVM run an unmodified kernel?  Some cannot: they emulate the
 * guest's kernel mode, and stop at instructions that every kernel executes.
 * So a guest of a dozen instructions, in 64-bit kernel mode, executes them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hypervisor/kvm/kvm.h"

/* Of this thread's processor time, and of the clock on a busy machine. */
#define PROBE_CPU_NS  25000000u
#define PROBE_WALL_NS 250000000u
#define TRIES	      2 /* the first run of all is a cold one */
#define TICK_NS	      3000000
#define MEMORY	      0x10000u
#define PML4	      0x1000u
#define PDPT	      0x2000u
#define PD	      0x3000u
#define IDT	      0x4000u
#define CODE	      0x6000u
#define STACK	      0x8000u
#define DATA	      0x9000u /* for cmpxchg16b and, at +64, XSAVE */

#define PORT_STEP     0x80 /* about to execute this one */
#define PORT_DONE     0x81
#define PORT_TRAP     0x82 /* an exception that should not be */
#define PORT_WRONG    0x83 /* a result that should not be */

#define CR4_BASE      0x620u /* PAE, OSFXSR, OSXMMEXCPT */
#define CR4_XSAVE     (1u << 18)

enum step { S_INT3, S_CX16, S_XSAVE, S_FPU, S_RDTSCP, S_STAC, S_POPCNT, STEPS };

/* Where CPUID says that a kernel may use it; function 0: always. */
static const struct {
	const char *name;
	uint32_t function;
	unsigned reg; /* 1: ebx, 2: ecx, 3: edx */
	unsigned bit;
} steps[STEPS] = {
	[S_INT3] = { "int3", 0, 0, 0 },
	[S_CX16] = { "cmpxchg16b", 1, 2, 13 },
	[S_XSAVE] = { "xsetbv, xsave and xrstor", 1, 2, 26 },
	[S_FPU] = { "fninit and stmxcsr", 0, 0, 0 },
	[S_RDTSCP] = { "rdtscp", 0x80000001, 3, 27 },
	[S_STAC] = { "stac and clac", 7, 1, 20 },
	[S_POPCNT] = { "popcnt", 1, 2, 23 },
};

extern const uint8_t probe_guest[], probe_guest_int3[], probe_guest_trap[],
    probe_guest_end[];

/* ebp: which steps to take; rsi: DATA. */
__asm__(".pushsection .rodata\n"
	"probe_guest:\n"
	"	mov	$0, %al\n"
	"	out	%al, $0x80\n"
	"	int3\n"
	"	test	$2, %ebp\n"
	"	jz	1f\n"
	"	mov	$1, %al\n"
	"	out	%al, $0x80\n"
	"	xor	%eax, %eax\n"
	"	xor	%edx, %edx\n"
	"	mov	$7, %ebx\n"
	"	mov	$9, %ecx\n"
	"	lock cmpxchg16b (%rsi)\n"
	"	jnz	9f\n"
	"	cmpl	$9, 8(%rsi)\n"
	"	jne	9f\n"
	"1:	test	$4, %ebp\n"
	"	jz	1f\n"
	"	mov	$2, %al\n"
	"	out	%al, $0x80\n"
	"	xor	%ecx, %ecx\n"
	"	xor	%edx, %edx\n"
	"	mov	$3, %eax\n"
	"	xsetbv\n"
	"	xsave	64(%rsi)\n"
	"	xrstor	64(%rsi)\n"
	"1:	mov	$3, %al\n"
	"	out	%al, $0x80\n"
	"	fninit\n"
	"	fnstcw	(%rsi)\n"
	"	cmpw	$0x37f, (%rsi)\n"
	"	jne	9f\n"
	"	stmxcsr	(%rsi)\n"
	"	test	$16, %ebp\n"
	"	jz	1f\n"
	"	mov	$4, %al\n"
	"	out	%al, $0x80\n"
	"	rdtscp\n"
	"1:	test	$32, %ebp\n"
	"	jz	1f\n"
	"	mov	$5, %al\n"
	"	out	%al, $0x80\n"
	"	stac\n"
	"	clac\n"
	"1:	test	$64, %ebp\n"
	"	jz	1f\n"
	"	mov	$6, %al\n"
	"	out	%al, $0x80\n"
	"	mov	$0xf0, %ecx\n"
	"	popcnt	%ecx, %ecx\n"
	"	cmp	$4, %ecx\n"
	"	jne	9f\n"
	"1:	out	%al, $0x81\n"
	"2:	hlt\n"
	"	jmp	2b\n"
	"9:	out	%al, $0x83\n"
	"	jmp	2b\n"
	"probe_guest_int3:\n"
	"	iretq\n"
	"probe_guest_trap:\n"
	"	out	%al, $0x82\n"
	"	jmp	2b\n"
	"probe_guest_end:\n"
	".popsection\n");

struct probe {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *memory;
	struct kvm_cpuid2 *cpuid;
	uint32_t mask; /* 1 << enum step */
};

static void
put64(struct probe *p, unsigned at, uint64_t value)
{
	memcpy(p->memory + at, &value, sizeof(value));
}

static void
gate_put(struct probe *p, unsigned vector, const uint8_t *handler)
{
	uint64_t at = CODE + (uint64_t)(handler - probe_guest);

	/* A present 64-bit interrupt gate in segment 8. */
	put64(p, IDT + 16 * vector,
	    (at & 0xffff) | 8ull << 16 | 0x8eull << 40 | (at >> 16) << 48);
	put64(p, IDT + 16 * vector + 8, at >> 32);
}

static void
memory_fill(struct probe *p)
{
	put64(p, PML4, PDPT | 3);
	put64(p, PDPT, PD | 3);
	put64(p, PD, 0x83); /* the first 2 MiB */
	for (unsigned v = 0; v < 32; v++)
		gate_put(p, v, v == 3 ? probe_guest_int3 : probe_guest_trap);
	memcpy(p->memory + CODE, probe_guest,
	    (size_t)(probe_guest_end - probe_guest));
	/* The GDT stands at 0, its null descriptor included: int3's gate and
	 * iretq load CS and SS from it. */
	put64(p, 8, 0x00af9b000000ffff);
	put64(p, 16, 0x00cf93000000ffff);
}

static uint32_t
cpuid_reg(const struct kvm_cpuid_entry2 *e, unsigned reg)
{
	return reg == 1 ? e->ebx : reg == 2 ? e->ecx : e->edx;
}

static void
mask_find(struct probe *p)
{
	for (unsigned s = 0; s < STEPS; s++) {
		if (!steps[s].function)
			p->mask |= 1u << s;
		for (uint32_t n = 0; n < p->cpuid->nent; n++) {
			const struct kvm_cpuid_entry2 *e =
			    &p->cpuid->entries[n];

			if (steps[s].function && !e->index &&
			    e->function == steps[s].function &&
			    (cpuid_reg(e, steps[s].reg) >> steps[s].bit & 1))
				p->mask |= 1u << s;
		}
	}
}

static int
registers_set(struct probe *p)
{
	const struct kvm_segment code = { .limit = UINT32_MAX,
		.selector = 8,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1 };
	const struct kvm_segment data = { .limit = UINT32_MAX,
		.selector = 16,
		.type = 3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1 };
	struct kvm_regs r = {
		.rip = CODE,
		.rsp = STACK,
		.rsi = DATA,
		.rbp = p->mask,
		.rflags = 2,
	};
	struct kvm_sregs s;
	int err = kvm_ioctl(p->vcpu, KVM_GET_SREGS, &s);

	if (err)
		return err;
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.gdt.base = 0;
	s.gdt.limit = 23;
	s.idt.base = IDT;
	s.idt.limit = 32 * 16 - 1;
	s.cr0 = 0x80010033;
	s.cr3 = PML4;
	s.cr4 = CR4_BASE | (p->mask & (1u << S_XSAVE) ? CR4_XSAVE : 0);
	s.efer = 0x500; /* LME, LMA */
	err = kvm_ioctl(p->vcpu, KVM_SET_SREGS, &s);
	return err ? err : kvm_ioctl(p->vcpu, KVM_SET_REGS, &r);
}

static int
probe_create(struct probe *p)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = MEMORY,
		.userspace_addr = (uintptr_t)p->memory,
	};
	int r;

	do
		r = kvm_ioctl_value(p->kvm, KVM_CREATE_VM, 0);
	while (r == -EINTR);
	if (r < 0)
		return r;
	p->vm = r;
	/* VT-x without unrestricted guests wants its three pages. */
	kvm_ioctl_value(p->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	r = kvm_ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region);
	if (r < 0)
		return r;
	r = kvm_ioctl_value(p->vm, KVM_CREATE_VCPU, 0);
	if (r < 0)
		return r;
	p->vcpu = r;
	r = kvm_ioctl_value(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < 0)
		return r;
	p->run_size = (size_t)r;
	p->run = mmap(
	    NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (p->run == MAP_FAILED)
		return -errno;
	p->cpuid->nent = 256;
	r = kvm_ioctl(p->kvm, KVM_GET_SUPPORTED_CPUID, p->cpuid);
	if (!r)
		r = kvm_ioctl(p->vcpu, KVM_SET_CPUID2, p->cpuid);
	if (r)
		return r;
	mask_find(p);
	memory_fill(p);
	return registers_set(p);
}

static int
refuse(char *why, size_t size, unsigned step, const char *how)
{
	snprintf(
	    why, size, "this KVM %s %s in kernel mode", how, steps[step].name);
	return -ENOTSUP;
}

static uint64_t
cpu_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* -ETIMEDOUT: it is still running. */
static int
probe_run(struct probe *p, char *why, size_t size)
{
	uint64_t cpu_end = cpu_now_ns() + PROBE_CPU_NS;
	uint64_t wall_end = time_now_ns() + PROBE_WALL_NS;
	unsigned step = 0;

	for (;;) {
		int r = kvm_ioctl_value(p->vcpu, KVM_RUN, 0);

		if (cpu_now_ns() > cpu_end || time_now_ns() > wall_end) {
			refuse(why, size, step, "does not come back from");
			return -ETIMEDOUT;
		}
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r < 0) {
			snprintf(why, size, "KVM_RUN: %s", strerror(-r));
			return -ENOTSUP;
		}
		if (p->run->exit_reason != KVM_EXIT_IO)
			return refuse(why, size, step, "stops at");
		switch (p->run->io.port) {
		case PORT_STEP:
			step = *((uint8_t *)p->run + p->run->io.data_offset);
			step = MIN(step, STEPS - 1u);
			break;
		case PORT_DONE:
			return 0;
		case PORT_TRAP:
			return refuse(
			    why, size, step, "raises an exception for");
		default:
			return refuse(why, size, step, "does wrong by");
		}
	}
}

/* A signal every few ms, to this thread, so that KVM_RUN always returns. */
static int
ticks_start(timer_t *timer)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = kvm_kick_signal() };
	struct itimerspec it = {
		.it_value.tv_nsec = TICK_NS,
		.it_interval.tv_nsec = TICK_NS,
	};

	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &ev, timer) < 0)
		return -errno;
	timer_settime(*timer, 0, &it, NULL);
	return 0;
}

static int
probe_guest_run(struct probe *p, char *why, size_t size)
{
	sigset_t set, old;
	timer_t timer;
	int err;

	sigemptyset(&set);
	sigaddset(&set, kvm_kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, &old);
	err = ticks_start(&timer);
	if (err == 0) {
		err = probe_run(p, why, size);
		timer_delete(timer);
	} else {
		snprintf(
		    why, size, "no timer for the probe: %s", strerror(-err));
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

static int
required_check(int kvm, char *why, size_t size)
{
	static const struct {
		int cap;
		const char *name;
	} need[] = {
		{ KVM_CAP_IRQCHIP, "irqchip" },
		{ KVM_CAP_PIT2, "PIT2" },
		{ KVM_CAP_IRQFD, "irqfd" },
		{ KVM_CAP_IOEVENTFD, "ioeventfd" },
		{ KVM_CAP_IRQ_ROUTING, "IRQ routing" },
		{ KVM_CAP_SIGNAL_MSI, "SIGNAL_MSI" },
		{ KVM_CAP_IMMEDIATE_EXIT, "immediate_exit" },
		{ KVM_CAP_XSAVE, "XSAVE" },
	};

	if (kvm_ioctl_value(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		snprintf(
		    why, size, "KVM's API version is not %d", KVM_API_VERSION);
		return -ENOTSUP;
	}
	for (size_t n = 0; n < ARRAY_LEN(need); n++) {
		if (kvm_ioctl_value(kvm, KVM_CHECK_EXTENSION,
			(unsigned long)need[n].cap) > 0)
			continue;
		snprintf(why, size, "this KVM lacks %s", need[n].name);
		return -ENOTSUP;
	}
	return 0;
}

static int
device_open(int *fd, char *why, size_t size)
{
	*fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	snprintf(why, size, "/dev/kvm: %s", strerror(errno));
	return errno == EACCES || errno == EPERM ? -EACCES : -ENOENT;
}

/* One guest, made, run and taken away. */
static int
probe_once(int kvm, char *why, size_t size)
{
	struct probe p = { .kvm = kvm, .vm = -1, .vcpu = -1 };
	int err;

	p.cpuid =
	    calloc(1, sizeof(*p.cpuid) + 256 * sizeof(p.cpuid->entries[0]));
	p.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!p.cpuid || p.memory == MAP_FAILED) {
		err = -ENOMEM;
		snprintf(why, size, "no memory for the probe");
		goto out;
	}
	err = probe_create(&p);
	if (err) {
		snprintf(why, size, "the probe guest cannot be made: %s",
		    strerror(-err));
		err = -ENOTSUP;
	} else {
		err = probe_guest_run(&p, why, size);
	}
out:
	if (p.run && p.run != MAP_FAILED)
		munmap(p.run, p.run_size);
	if (p.vcpu >= 0)
		close(p.vcpu);
	if (p.vm >= 0)
		close(p.vm);
	if (p.memory != MAP_FAILED)
		munmap(p.memory, MEMORY);
	free(p.cpuid);
	return err;
}

int
kvm_probe(char *why, size_t size)
{
	int err, kvm;

	if (size)
		why[0] = '\0';
	err = device_open(&kvm, why, size);
	if (err)
		return err;
	err = required_check(kvm, why, size);
	if (!err) {
		err = -ETIMEDOUT;
		for (int n = 0; n < TRIES && err == -ETIMEDOUT; n++)
			err = probe_once(kvm, why, size);
		if (!err && size)
			why[0] = '\0';
	}
	close(kvm);
	return err == -ETIMEDOUT ? -ENOTSUP : err;
}
