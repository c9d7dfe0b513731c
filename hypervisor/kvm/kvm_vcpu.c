/* The KVM backend: vCPUs. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hypervisor/kvm/kvm.h"

static pthread_once_t signal_once = PTHREAD_ONCE_INIT;

static void
on_kick(int sig)
{
	(void)sig;
}

/* Without SA_RESTART, and doing nothing: its only purpose is EINTR. */
static void
signal_install(void)
{
	struct sigaction sa = { .sa_handler = on_kick };

	sigaction(SIGRTMIN, &sa, NULL);
}

int
kvm_kick_signal(void)
{
	pthread_once(&signal_once, signal_install);
	return SIGRTMIN;
}

int
kvm_vcpu_create(struct hv_partition *p, unsigned index, struct hv_vcpu **out)
{
	struct hv_vcpu *v;
	int r;

	if (index >= p->ncpus)
		return -EINVAL;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->p = p;
	v->index = index;
	kvm_kick_signal();
	v->fd = kvm_ioctl_value(p->vm, KVM_CREATE_VCPU, index);
	if (v->fd < 0) {
		r = v->fd;
		goto fail;
	}
	v->run = mmap(
	    NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		r = -errno;
		v->run = NULL;
		goto fail;
	}
	r = kvm_cpuid_set(v);
	if (r)
		goto fail;
	pthread_mutex_lock(&p->lock);
	if (!p->nmsrs)
		kvm_msrs_find(v);
	pthread_mutex_unlock(&p->lock);
	*out = v;
	return 0;
fail:
	kvm_vcpu_destroy(v);
	return r;
}

void
kvm_vcpu_destroy(struct hv_vcpu *v)
{
	if (v->run)
		munmap(v->run, v->p->run_size);
	if (v->fd >= 0)
		close(v->fd);
	free(v);
}

/*
 * The order of the three stores matters, and is the mirror image of that in
 * interrupted() and enter(): the vCPU clears immediate_exit before it looks at
 * `kicked`, and sets `inside` before KVM_RUN looks at immediate_exit.
 */
void
kvm_vcpu_kick(struct hv_vcpu *v)
{
	atomic_store(&v->kicked, 1);
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (atomic_load(&v->inside))
		syscall(SYS_tgkill, getpid(), atomic_load(&v->thread),
		    kvm_kick_signal());
}

static bool
interrupted(struct hv_vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	return atomic_exchange(&v->kicked, 0);
}

static int
enter(struct hv_vcpu *v)
{
	int r;

	atomic_store(&v->inside, 1);
	r = kvm_ioctl_value(v->fd, KVM_RUN, 0);
	atomic_store(&v->inside, 0);
	return r;
}

/* One or, for a string instruction, more accesses of the same size. */
static void
port_exit(struct hv_vcpu *v, const struct hv_handler *h)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t n = 0; n < run->io.count; n++, data += run->io.size) {
		struct hv_access a = {
			.addr = run->io.port,
			.size = run->io.size,
			.write = run->io.direction == KVM_EXIT_IO_OUT,
			.space = HV_PIO,
		};

		if (a.write)
			memcpy(&a.data, data, a.size);
		h->access(h->ctx, &a);
		if (!a.write)
			memcpy(data, &a.data, a.size);
	}
}

/* KVM hands over what one instruction accesses in a page: 1 to 8 bytes, which
 * need not be a power of two. */
static void
mmio_exit(struct hv_vcpu *v, const struct hv_handler *h)
{
	struct kvm_run *run = v->run;
	uint32_t len = MIN(run->mmio.len, 8u);

	for (uint32_t at = 0; at < len;) {
		struct hv_access a = {
			.addr = run->mmio.phys_addr + at,
			.write = run->mmio.is_write,
			.space = HV_MMIO,
			.size = 8,
		};

		while (a.size > len - at)
			a.size /= 2;
		if (a.write)
			memcpy(&a.data, run->mmio.data + at, a.size);
		h->access(h->ctx, &a);
		if (!a.write)
			memcpy(run->mmio.data + at, &a.data, a.size);
		at += a.size;
	}
}

static void
describe_internal_error(struct hv_vcpu *v)
{
	struct kvm_run *run = v->run;
	struct kvm_regs regs = { 0 };
	int n;

	kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
	n = snprintf(v->error, sizeof(v->error),
	    "KVM internal error %u at rip 0x%llx", run->internal.suberror,
	    regs.rip);
	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
	    run->emulation_failure.ndata < 3 ||
	    !(run->emulation_failure.flags &
		KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return;
	for (unsigned i = 0; i < MIN(run->emulation_failure.insn_size, 15); i++)
		n += snprintf(v->error + n, sizeof(v->error) - (size_t)n,
		    "%s%02x", i ? " " : ", instruction ",
		    run->emulation_failure.insn_bytes[i]);
}

/* False: *stop says why the vCPU cannot go on. */
static bool
exit_handle(struct hv_vcpu *v, const struct hv_handler *h, enum hv_stop *stop)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_exit(v, h);
		return true;
	case KVM_EXIT_MMIO:
		mmio_exit(v, h);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_HLT:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	case KVM_EXIT_SHUTDOWN:
		*stop = HV_STOP_SHUTDOWN;
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		describe_internal_error(v);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(v->error, sizeof(v->error),
		    "the processor refuses the guest's state, reason 0x%llx",
		    run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		snprintf(v->error, sizeof(v->error), "unexpected KVM exit %u",
		    run->exit_reason);
		break;
	}
	*stop = HV_STOP_ERROR;
	return false;
}

static void
thread_prepare(struct hv_vcpu *v)
{
	pid_t me = (pid_t)syscall(SYS_gettid);
	sigset_t set;

	if (atomic_load(&v->thread) == me)
		return;
	sigemptyset(&set);
	sigaddset(&set, kvm_kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	atomic_store(&v->thread, me);
}

enum hv_stop
kvm_vcpu_run(struct hv_vcpu *v, const struct hv_handler *handler)
{
	enum hv_stop stop;

	thread_prepare(v);
	for (;;) {
		int r = enter(v);

		if (r == 0) {
			if (!exit_handle(v, handler, &stop))
				return stop;
		} else if (r == -EINTR) {
			/* KVM_RUN first completes the access handed over
			 * before, so the state is whole from here on. */
			if (interrupted(v))
				return HV_STOP_KICKED;
		} else if (r != -EAGAIN) {
			snprintf(v->error, sizeof(v->error), "KVM_RUN: %s",
			    strerror(-r));
			return HV_STOP_ERROR;
		}
	}
}

const char *
kvm_vcpu_error(struct hv_vcpu *v)
{
	return v->error;
}
