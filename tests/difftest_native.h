/*
 * The host's side.  A child process runs the cases of the mailbox one after
 * the other: it sets TF, so that every instruction ends in a signal if it does
 * not fault, and lets sigreturn load the state of the next case.  Whatever an
 * instruction does, the child can only compute: seccomp leaves it read and
 * write on its two pipes.
 */
#ifndef TESTS_DIFFTEST_NATIVE_H
#define TESTS_DIFFTEST_NATIVE_H

#include <asm/prctl.h>
#include <errno.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/difftest.h"

#define REP_STEPS 20000u
/* Of processor time, for a batch that takes milliseconds: however busy the
 * machine is, this one hangs. */
#define HANG_S 20

struct native {
	pid_t pid;
	int to, from; /* pipes: a byte starts a batch, a byte ends it */
	struct mailbox *box;
	uint8_t *code; /* the parent's view of CODE_BASE */
	int code_fd;
	uint64_t began_ns; /* the child's processor time when the batch began */
};

static struct {
	struct mailbox *box;
	uint32_t at, steps;
	bool busy;
	greg_t home[NGREG];
	uint8_t home_fx[512];
} child;

/* Without libc: FS, which it needs, belongs to the cases. */
UNPROTECTED static inline long
raw_syscall(long nr, long a, long b, long c)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return r;
}

/* REG_* of our register n. */
static const uint8_t greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
	REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
	REG_R12, REG_R13, REG_R14, REG_R15 };

UNPROTECTED static void
copy_bytes(void *to, const void *from, size_t size)
{
	__asm__ volatile("rep movsb"
			 : "+D"(to), "+S"(from), "+c"(size)
			 :
			 : "memory");
}

UNPROTECTED static void
child_collect(struct outcome *o, const greg_t *g, const uint8_t *fx)
{
	unsigned n;

	for (n = 0; n < 16; n++)
		o->gpr[n] = (uint64_t)g[greg_of[n]];
	o->rip = (uint64_t)g[REG_RIP];
	o->rflags = (uint32_t)g[REG_EFL];
	o->vector = (uint32_t)g[REG_TRAPNO];
	o->error = (uint32_t)g[REG_ERR];
	o->cr2 = o->vector == 14 ? (uint64_t)g[REG_CR2] : 0;
	copy_bytes(o->fx, fx, 512);
	scratch_collect((uint8_t *)(uintptr_t)SCRATCH_BASE, child.box->base, o);
}

UNPROTECTED static void
child_signal(int sig UNUSED, siginfo_t *si UNUSED, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
	const struct job *j;
	unsigned n;

	/* A case may have set AC, with which this would not run, and NT
	 * and ID, which sigreturn would leave to the next. */
	__asm__ volatile("pushfq; andl $~0x244000, (%%rsp); popfq" ::
			     : "cc", "memory");
	/* Clears the error pointers, which sigreturn loads only while an
	 * exception is pending. */
	__asm__ volatile("fninit");
	if (child.busy) {
		j = &child.box->job[child.at];
		if (j->rep && g[REG_TRAPNO] == 1 &&
		    (uint64_t)g[REG_RIP] == j->rip && ++child.steps < REP_STEPS)
			return;
		child_collect(&child.box->native[child.at], g, fx);
		child.at++;
	} else {
		for (n = 0; n < NGREG; n++)
			child.home[n] = g[n];
		copy_bytes(child.home_fx, fx, 512);
		child.busy = true;
		child.at = 0;
	}
	child.box->progress = child.at;
	child.steps = 0;
	if (child.at == child.box->count) {
		for (n = 0; n < NGREG; n++)
			g[n] = child.home[n];
		copy_bytes(fx, child.home_fx, 464);
		child.busy = false;
		return;
	}
	j = &child.box->job[child.at];
	for (n = 0; n < 16; n++)
		g[greg_of[n]] = (greg_t)j->gpr[n];
	g[REG_RIP] = (greg_t)j->rip;
	g[REG_EFL] = j->rflags | 0x100;
	copy_bytes(fx, j->fx, 416);
	/* XSTATE_BV: x87 and SSE stand. */
	fx[512] |= 3;
}

/* Back here with the registers as they were, but nobody else's state. */
UNPROTECTED NORETURN static void
child_loop(int in, int out)
{
	uint8_t byte;

	for (;;) {
		if (raw_syscall(SYS_read, in, (long)&byte, 1) != 1)
			raw_syscall(SYS_exit_group, 0, 0, 0);
		__asm__ volatile("int3" ::: "memory");
		raw_syscall(SYS_write, out, (long)&byte, 1);
	}
}

static int
child_confine(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err;

	if (!f)
		return -ENOMEM;
	err = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigreturn), 0);
	if (!err)
		err = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(read), 0);
	if (!err)
		err = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(write), 0);
	if (!err)
		err = seccomp_rule_add(
		    f, SCMP_ACT_ALLOW, SCMP_SYS(exit_group), 0);
	if (!err)
		err = seccomp_rule_add(
		    f, SCMP_ACT_ALLOW, SCMP_SYS(arch_prctl), 0);
	/* Not released: from here on free() may not ask the kernel. */
	return err ? err : seccomp_load(f);
}

UNPROTECTED NORETURN static void
child_main(struct native *n, int in, int out)
{
	static const int signals[] = { SIGSEGV, SIGILL, SIGFPE, SIGTRAP,
		SIGBUS };
	struct sigaction sa;
	stack_t ss = { .ss_size = 65536 };
	unsigned k;

	child.box = n->box;
	ss.ss_sp = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL) ||
	    mmap((void *)(uintptr_t)CODE_BASE, CODE_SIZE, PROT_READ | PROT_EXEC,
		MAP_SHARED | MAP_FIXED_NOREPLACE, n->code_fd,
		0) == MAP_FAILED ||
	    mmap((void *)(uintptr_t)SCRATCH_BASE, SCRATCH_SIZE + PAGE,
		PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		0) == MAP_FAILED)
		_exit(2);
	memcpy(
	    (void *)(uintptr_t)SCRATCH_BASE, n->box->base, SCRATCH_SIZE + PAGE);
	if (mprotect((void *)(uintptr_t)READONLY_BASE, PAGE, PROT_READ))
		_exit(2);
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = child_signal;
	sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	for (k = 0; k < ARRAY_LEN(signals); k++)
		if (sigaction(signals[k], &sa, NULL))
			_exit(2);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (child_confine())
		_exit(2);
	raw_syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE, 0);
	raw_syscall(SYS_arch_prctl, ARCH_SET_FS, FS_BASE, 0);
	child_loop(in, out);
}

static int
native_start(struct native *n)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC))
		return -errno;
	if (pipe2(from, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	n->pid = fork();
	if (n->pid < 0)
		return -errno;
	if (!n->pid) {
		close(to[1]);
		close(from[0]);
		child_main(n, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	n->to = to[1];
	n->from = from[0];
	return 0;
}

static int
native_create(struct native *n, uint64_t seed)
{
	n->box = mmap(NULL, sizeof(*n->box), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	n->code_fd = memfd_create("difftest-code", MFD_CLOEXEC);
	if (n->box == MAP_FAILED || n->code_fd < 0 ||
	    ftruncate(n->code_fd, CODE_SIZE))
		return -errno;
	n->code = mmap(
	    NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, n->code_fd, 0);
	if (n->code == MAP_FAILED)
		return -errno;
	gen_base(seed, n->box->base);
	signal(SIGPIPE, SIG_IGN);
	return native_start(n);
}

static void
native_stop(struct native *n)
{
	close(n->to);
	close(n->from);
	waitpid(n->pid, NULL, 0);
}

/* The processor time that the child has used; 0: it is gone. */
static uint64_t
native_used_ns(const struct native *n)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid(n->pid, &clock) || clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Start a batch; native_wait() for its end. */
static int
native_begin(struct native *n)
{
	n->began_ns = native_used_ns(n);
	return write(n->to, "", 1) == 1 ? 0 : -EPIPE;
}

/* 0; or there is a new child because the case at box->progress ended the old
 * one, -EPIPE, or hung, -ETIMEDOUT; or there is none, another error. */
static int
native_wait(struct native *n)
{
	struct pollfd p = { .fd = n->from, .events = POLLIN };
	int why = -EPIPE, err;
	uint8_t byte;

	while (!poll(&p, 1, 1000))
		if (native_used_ns(n) >
		    n->began_ns + HANG_S * (uint64_t)1000000000) {
			why = -ETIMEDOUT;
			kill(n->pid, SIGKILL);
		}
	if (read(n->from, &byte, 1) == 1)
		return 0;
	native_stop(n);
	err = native_start(n);
	return err ? err : why;
}

#endif
