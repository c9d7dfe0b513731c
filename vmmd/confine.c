/* The broker's own sandbox. */
#include "vmmd/confine.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmmd/proc.h"
#include "vmmd/vm.h"

#define FDS_MAX	       16384u
#define ADDRESS_SPACE  ((rlim_t)256 << 30) /* beside guest RAM */
#define HYPERVISOR_MAX 64u
#define CALL(x, why)                            \
	{                                       \
		.nr = __NR_##x, .reason = (why) \
	}
#define NO_EXEC ~(uint64_t)(PROT_READ | PROT_WRITE)

/*
 * What is done while a VM runs, all of it on fds that are there or that a peer
 * sends.  A device is started again by the spawner.
 */
static const struct sandbox_syscall common[] = {
	CALL(epoll_wait, "event loop: sleep"),
	CALL(epoll_ctl, "event loop: what to wake for"),
	CALL(recvmsg, "control channels, the spawner"),
	CALL(sendmsg, "control channels, the spawner"),
	CALL(accept4, "clients"),
	{ .nr = __NR_getsockopt,
	    .reason = "who a client is",
	    .nargs = 2,
	    .args = { { 1, SANDBOX_EQ, SOL_SOCKET, 0 },
		{ 2, SANDBOX_EQ, SO_PEERCRED, 0 } } },
	{ .nr = __NR_ioctl,
	    .reason = "does a client keep up?",
	    .nargs = 1,
	    .args = { { 1, SANDBOX_EQ, SIOCOUTQ, 0 } } },
	CALL(read, "eventfds, signals"),
	CALL(write, "eventfds: kicks, interrupts; messages on stderr"),
	CALL(close, "of who is gone"),
	CALL(pidfd_send_signal, "kill a device"),
	CALL(waitid, "how it died"),
	CALL(futex, "vCPUs that wait; locks"),
	CALL(sched_yield, "let others have a shared core"),
	CALL(rt_sigprocmask, "of a thread that signals or ends"),
	CALL(clock_gettime, "CPU time of a device; time without vDSO"),
	{ .nr = __NR_mmap,
	    .reason = "memory; never executable",
	    .nargs = 1,
	    .args = { { 2, SANDBOX_MASKED_EQ, NO_EXEC, 0 } } },
	CALL(munmap, "memory"),
	CALL(mremap, "memory"),
	CALL(madvise, "memory of a thread that ended"),
	CALL(brk, "memory"),
	CALL(memfd_create, "a black box; the state of another version"),
	CALL(ftruncate, "their size"),
	{ .nr = __NR_fcntl,
	    .reason = "their seals",
	    .nargs = 1,
	    .args = { { 1, SANDBOX_EQ, F_ADD_SEALS, 0 } } },
	CALL(exit, "end of a vCPU's thread"),
	CALL(exit_group, "end"),
};

static bool
has_inline(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].is_inline)
			return true;
	return false;
}

static bool
is_left_out(const struct vm *vm)
{
	return vm->sandbox == SANDBOX_OFF || has_inline(vm);
}

static struct sandbox_policy
policy_of(const struct vm *vm)
{
	return (struct sandbox_policy){
		.mode = vm->sandbox,
		.max_as_bytes = vm->config->memory + ADDRESS_SPACE,
		.max_fds = FDS_MAX,
		/* vCPUs are yet to come; then the filter allows no more. */
		.max_threads = 1,
		.unshare = true,
		.signals = true,
	};
}

int
confine_begin(struct vm *vm, char *err, size_t size)
{
	struct sandbox_policy p = policy_of(vm);

	proc_close();
	/* Heaps of threads would need mprotect(). */
	mallopt(M_ARENA_MAX, 1);
	/* gmtime_r() looks for a time zone once. */
	tzset();
	if (is_left_out(vm))
		return 0;
	p.steps = SANDBOX_LIMITS | SANDBOX_NNP | SANDBOX_LANDLOCK;
	/*
	 * For others than root the namespaces would take one of users, in which
	 * we could not tell root from somebody else when a client comes.
	 */
	if (vm->owner == 0)
		p.steps |= SANDBOX_NAMESPACES | SANDBOX_ROOT;
	/* As the maker of a device's user namespace we may kill it without;
	 * where there is none we may not. */
	if (vm->owner == 0 && vm->sandbox == SANDBOX_ON)
		p.steps |= SANDBOX_CAPS;
	return sandbox_enter(&p, &vm->sandbox_steps, err, size);
}

int
confine_finish(struct vm *vm, char *err, size_t size)
{
	struct sandbox_syscall list[ARRAY_LEN(common) + HYPERVISOR_MAX];
	struct sandbox_policy p = policy_of(vm);
	size_t n = ARRAY_LEN(common);
	int r;

	if (is_left_out(vm))
		return 0;
	memcpy(list, common, sizeof(common));
	BUG_ON(vm->hv->nrequests + vm->hv->ncalls > HYPERVISOR_MAX);
	for (unsigned i = 0; i < vm->hv->ncalls; i++) {
		bool to_us = vm->hv->calls[i] == __NR_tgkill;

		list[n++] = (struct sandbox_syscall){
			.nr = vm->hv->calls[i],
			.reason = "the hypervisor's",
			.nargs = to_us ? 1 : 0,
			.args = { { 0, SANDBOX_EQ, (uint64_t)vm->pid, 0 } },
		};
	}
	for (unsigned i = 0; i < vm->hv->nrequests; i++)
		list[n++] = (struct sandbox_syscall){
			.nr = __NR_ioctl,
			.reason = "the hypervisor's",
			.nargs = 1,
			.args = { { 1, SANDBOX_EQ, vm->hv->requests[i], 0 } },
		};
	p.steps = SANDBOX_SECCOMP;
	p.syscalls = list;
	p.nsyscalls = n;
	r = sandbox_enter(&p, &vm->sandbox_steps, err, size);
	if (r == 0 && (vm->sandbox_steps & SANDBOX_SECCOMP) != 0)
		vm->sandbox_calls = sandbox_count_calls(list, n);
	BUG_ON(vm->sandbox_calls > CONFINE_CALLS_MAX);
	return r;
}
