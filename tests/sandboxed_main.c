/*
 * A program in a sandbox that tries one forbidden act: for sandbox_test.
 *
 *	sandboxed ACT filtered|allowed PID
 *
 * "filtered": the act's system calls are not in the list.  "allowed": they are,
 * so that what stands behind the filter is seen.  PID is of a process outside.
 * It enters the sandbox, sends a struct sandboxed_report on fd 3, waits there
 * for a byte, and acts.  Exit status: SANDBOXED_REFUSED when the act gave an
 * error, SANDBOXED_DONE when it worked, SANDBOXED_FAILED on its own failure,
 * SANDBOX_DENIED when the filter did not let it, after the call's name on fd 3.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/sandboxed.h"

#define CALLS_MAX 16

static pid_t outside;

static long
act_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long
act_open_root(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
}

static long
act_connect(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(22),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

	return fd < 0 ? fd : syscall(SYS_connect, fd, &to, sizeof(to));
}

/* There is a network, if it says that nobody listens. */
static long
act_network(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(1),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	long fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		return fd;
	return syscall(SYS_connect, fd, &to, sizeof(to)) == 0 ||
		errno == ECONNREFUSED
	    ? 0
	    : -1;
}

static long
act_execve(void)
{
	char name[] = "/bin/sh";
	char *const argv[] = { name, NULL };

	return syscall(SYS_execve, name, argv, environ);
}

static long
act_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_ATTACH, outside, 0, 0);
}

static long
act_kill(void)
{
	return syscall(SYS_kill, outside, 0);
}

static long
act_mount(void)
{
	return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}

static long
act_unshare(void)
{
	return syscall(SYS_unshare, CLONE_NEWNET);
}

static long
act_readv(void)
{
	char byte;
	struct iovec to = { .iov_base = &byte, .iov_len = 1 };
	struct iovec from = { .iov_base = &outside, .iov_len = 1 };

	return syscall(SYS_process_vm_readv, outside, &to, 1, &from, 1, 0);
}

static long
act_fork(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}

static long
act_create(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/file", O_WRONLY | O_CREAT, 0600);
}

static long
act_setuid(void)
{
	return syscall(SYS_setuid, 1);
}

#define QUERY 0xffffffffu

static long
act_right_argument(void)
{
	return syscall(SYS_personality, QUERY);
}

static long
act_wrong_argument(void)
{
	return syscall(SYS_personality, 0);
}

static long
act_handle_sigsys(void)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };

	return sigaction(SIGSYS, &sa, NULL);
}

static long
act_block_sigsys(void)
{
	sigset_t all;

	sigfillset(&all);
	return sigprocmask(SIG_BLOCK, &all, NULL);
}

static long
act_without_handler(void)
{
	act_handle_sigsys();
	return syscall(SYS_setuid, 1);
}

static long
act_nothing(void)
{
	return 0;
}

static const struct act {
	const char *name;
	long (*run)(void);
	int calls[2];
} acts[] = {
	{ "nothing", act_nothing, { -1, -1 } },
	{ "open", act_open, { SYS_openat, -1 } },
	{ "open_root", act_open_root, { SYS_openat, -1 } },
	{ "connect", act_connect, { SYS_socket, SYS_connect } },
	{ "network", act_network, { SYS_socket, SYS_connect } },
	{ "execve", act_execve, { SYS_execve, -1 } },
	{ "ptrace", act_ptrace, { SYS_ptrace, -1 } },
	{ "kill", act_kill, { SYS_kill, -1 } },
	{ "mount", act_mount, { SYS_mount, -1 } },
	{ "unshare", act_unshare, { SYS_unshare, -1 } },
	{ "process_vm_readv", act_readv, { SYS_process_vm_readv, -1 } },
	{ "fork", act_fork, { SYS_clone, -1 } },
	{ "create", act_create, { SYS_openat, -1 } },
	{ "setuid", act_setuid, { SYS_setuid, -1 } },
	{ "handle_sigsys", act_handle_sigsys, { -1, -1 } },
	{ "block_sigsys", act_block_sigsys, { -1, -1 } },
	{ "without_handler", act_without_handler, { SYS_rt_sigaction, -1 } },
	{ "right_argument", act_right_argument, { -1, -1 } },
	{ "wrong_argument", act_wrong_argument, { -1, -1 } },
};

static const struct act *
find_act(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(acts); i++)
		if (strcmp(acts[i].name, name) == 0)
			return &acts[i];
	return NULL;
}

/* The test reads it. */
static void
tell(int nr, const char *name)
{
	(void)nr;
	if (write(3, name, strlen(name)) < 0)
		_exit(SANDBOXED_FAILED);
}

static size_t
make_list(struct sandbox_syscall *list, const struct act *act, bool allowed)
{
	static const struct sandbox_syscall base[] = {
		{ .nr = SYS_read, .reason = "wait for the byte" },
		{ .nr = SYS_write, .reason = "report" },
		{ .nr = SYS_exit_group, .reason = "end" },
		{ .nr = SYS_rt_sigreturn, .reason = "signals" },
		{ .nr = SYS_personality,
		    .reason = "argument filters",
		    .nargs = 1,
		    .args = { { .arg = 0, .op = SANDBOX_EQ, .a = QUERY } } },
	};
	size_t n = ARRAY_LEN(base);

	memcpy(list, base, sizeof(base));
	for (unsigned i = 0; allowed && i < ARRAY_LEN(act->calls); i++)
		if (act->calls[i] >= 0)
			list[n++] =
			    (struct sandbox_syscall){ .nr = act->calls[i],
				    .reason = "the act" };
	return n;
}

int
main(int argc, char **argv)
{
	struct sandbox_syscall list[CALLS_MAX];
	struct sandboxed_report report = { 0 };
	struct sandbox_policy policy = { .mode = sandbox_inherited_mode() };
	const struct act *act;
	char go;

	act = argc == 4 ? find_act(argv[1]) : NULL;
	if (act == NULL)
		return SANDBOXED_FAILED;
	outside = (pid_t)atoi(argv[3]);
	policy.denied = tell;
	policy.syscalls = list;
	policy.network = strcmp(argv[2], "network") == 0;
	policy.nsyscalls = make_list(
	    list, act, policy.network || strcmp(argv[2], "allowed") == 0);
	report.result = sandbox_enter(
	    &policy, &report.steps, report.err, sizeof(report.err));
	if (write(3, &report, sizeof(report)) != sizeof(report) ||
	    report.result < 0 || read(3, &go, 1) != 1)
		_exit(SANDBOXED_FAILED);
	_exit(act->run() < 0 ? SANDBOXED_REFUSED : SANDBOXED_DONE);
}
