/*
 * The parent's half: new namespaces, no fds, exec.
 *
 * The child of a process with threads may call only what is
 * async-signal-safe: everything that needs memory or formatting is made ready
 * before the clone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define NAMESPACES                                                  \
	(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | \
	    CLONE_NEWUTS | CLONE_NEWCGROUP)

#define CONTROL_FD 3
/* The child first moves its fds up here, out of the way of 0 to 3. */
#define HIGH_FD 16
/* Our variable, those of the sanitizers, NULL. */
#define ENV_MAX 8

/* Where the child failed; the parent has the words. */
enum place {
	AT_RELEASE,
	AT_IDS,
	AT_FDS,
	AT_EXEC,
};

struct report {
	int place, error;
};

struct plan {
	const struct sandbox_spawn *s;
	uint64_t namespaces; /* that it is to have */
	uint64_t flags; /* of clone3; those of namespaces only */
	bool as_root;
	int devnull;
	int release[2]; /* parent to child: the maps are written */
	int status[2]; /* child to parent: a struct report, or EOF by exec */
	char variable[64];
	char *env[ENV_MAX];
};

static int PRINTF_LIKE(4, 5)
    fail(char *err, size_t err_size, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, err_size, fmt, ap);
	va_end(ap);
	return r;
}

static NORETURN void
die(int status_fd, enum place place, int error)
{
	struct report r = { .place = (int)place, .error = error };

	/* Nobody to tell if it fails. */
	if (write(status_fd, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

static void
default_signals(void)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Become the one user of the new namespace.  Raw calls: glibc's would signal
 * threads that the child does not have. */
static int
take_ids(const struct plan *p)
{
	if ((p->flags & CLONE_NEWUSER) == 0)
		return 0;
	if ((p->as_root && syscall(SYS_setgroups, 0, NULL) < 0) ||
	    syscall(SYS_setresgid, 0, 0, 0) < 0 ||
	    syscall(SYS_setresuid, 0, 0, 0) < 0)
		return errno;
	return 0;
}

static NORETURN void
child(struct plan *p)
{
	int status = fcntl(p->status[1], F_DUPFD_CLOEXEC, HIGH_FD);
	int exec_fd = fcntl(p->s->exec_fd, F_DUPFD_CLOEXEC, HIGH_FD);
	int control = fcntl(p->s->control_fd, F_DUPFD_CLOEXEC, HIGH_FD);
	int devnull = fcntl(p->devnull, F_DUPFD_CLOEXEC, HIGH_FD);
	int error;
	char go;

	if (status < 0 || exec_fd < 0 || control < 0 || devnull < 0)
		die(p->status[1], AT_FDS, errno);
	/* Else the child would hold the pipe's other end open itself. */
	close(p->release[1]);
	if (read(p->release[0], &go, 1) != 1)
		die(status, AT_RELEASE, EPIPE);
	error = take_ids(p);
	if (error != 0)
		die(status, AT_IDS, error);
	/* After the change of uid, which clears it. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	default_signals();
	if (dup2(devnull, 0) < 0 || dup2(2, 1) < 0 ||
	    dup2(control, CONTROL_FD) < 0)
		die(status, AT_FDS, errno);
	/* By exec, not now: the program itself is one of them. */
	if (syscall(SYS_close_range, CONTROL_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC) <
	    0)
		die(status, AT_FDS, errno);
	syscall(SYS_execveat, exec_fd, "", p->s->argv, p->env, AT_EMPTY_PATH);
	die(status, AT_EXEC, errno);
}

static uint64_t
steps_of(const struct plan *p)
{
	uint64_t steps = SANDBOX_FDS;

	if ((p->flags & CLONE_NEWUSER) != 0)
		steps |= SANDBOX_USERNS;
	if ((p->flags & p->namespaces) == p->namespaces)
		steps |= SANDBOX_NAMESPACES;
	return steps;
}

static void
make_environment(struct plan *p)
{
	unsigned n = 0;

	snprintf(p->variable, sizeof(p->variable),
	    SANDBOX_VARIABLE "=%s:%" PRIx64 ":%u",
	    sandbox_mode_name(p->s->mode), steps_of(p),
	    p->as_root ? p->s->uid : geteuid());
	p->env[n++] = p->variable;
#if defined(BULKHEAD_ASAN) || defined(BULKHEAD_TSAN)
	for (char **e = environ; *e != NULL && n < ENV_MAX - 1; e++)
		if (strncmp(*e, "ASAN_OPTIONS=", 13) == 0 ||
		    strncmp(*e, "UBSAN_OPTIONS=", 14) == 0 ||
		    strncmp(*e, "TSAN_OPTIONS=", 13) == 0)
			p->env[n++] = *e;
#endif
	p->env[n] = NULL;
}

static pid_t
start(struct plan *p, int *pidfd)
{
	struct clone_args args = {
		.flags = p->flags | CLONE_PIDFD |
		    (p->s->for_parent ? (uint64_t)CLONE_PARENT : 0),
		.pidfd = (uintptr_t)pidfd,
		/* Of a sibling: what ours is. */
		.exit_signal = p->s->for_parent ? 0 : SIGCHLD,
	};
	sigset_t all, old;
	pid_t pid;

	make_environment(p);
	/* A handler of ours must not run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		child(p);
	if (pid < 0)
		pid = -errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

static int
write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];
	ssize_t n;
	int fd, r = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	if (n < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Map the namespace's uid and gid 0, and nothing else. */
static int
write_maps(const struct plan *p, pid_t pid)
{
	uid_t uid = p->as_root ? p->s->uid : geteuid();
	gid_t gid = p->as_root ? p->s->uid : getegid();
	char map[64];
	int r;

	/* Root lets the child drop its groups instead. */
	if (!p->as_root) {
		r = write_proc(pid, "setgroups", "deny");
		if (r < 0)
			return r;
	}
	snprintf(map, sizeof(map), "0 %u 1", gid);
	r = write_proc(pid, "gid_map", map);
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "0 %u 1", uid);
	return write_proc(pid, "uid_map", map);
}

/* Has a sysctl that forbids user namespaces been set? */
static const char *
userns_reason(int error)
{
	static const struct {
		const char *path, *name;
		char bad;
	} knobs[] = {
		{ "/proc/sys/user/max_user_namespaces",
		    "user.max_user_namespaces=0", '0' },
		{ "/proc/sys/kernel/unprivileged_userns_clone",
		    "kernel.unprivileged_userns_clone=0", '0' },
		{ "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
		    "kernel.apparmor_restrict_unprivileged_userns=1", '1' },
	};

	for (unsigned i = 0; i < ARRAY_LEN(knobs); i++) {
		int fd = open(knobs[i].path, O_RDONLY | O_CLOEXEC);
		char text[2] = { 0 };

		if (fd < 0)
			continue;
		if (read(fd, text, 2) == 2 && text[0] == knobs[i].bad &&
		    text[1] == '\n') {
			close(fd);
			return knobs[i].name;
		}
		close(fd);
	}
	return strerrordesc_np(error);
}

static void
reap(pid_t pid, int *pidfd)
{
	siginfo_t info;

	kill(pid, SIGKILL);
	while (
	    waitid(P_PIDFD, (id_t)*pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	close(*pidfd);
	*pidfd = -1;
}

static int
open_pipes(struct plan *p)
{
	p->devnull = p->release[0] = p->release[1] = -1;
	p->status[0] = p->status[1] = -1;
	p->devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (p->devnull < 0 || pipe2(p->release, O_CLOEXEC) < 0 ||
	    pipe2(p->status, O_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static void
close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
close_pipes(struct plan *p)
{
	close_end(&p->devnull);
	for (unsigned i = 0; i < 2; i++) {
		close_end(&p->release[i]);
		close_end(&p->status[i]);
	}
}

/* Let the child go on, and see it exec. */
static int
release(struct plan *p, char *err, size_t err_size)
{
	static const char *const places[] = {
		[AT_RELEASE] = "waiting for its parent",
		[AT_IDS] = "taking the uid and gid of its namespace",
		[AT_FDS] = "setting up its fds",
		[AT_EXEC] = "executing the program",
	};
	struct report report;
	ssize_t n;

	if (write(p->release[1], "", 1) != 1)
		return fail(err, err_size, -errno, "starting the child: %s",
		    strerrordesc_np(errno));
	close_end(&p->status[1]);
	do
		n = read(p->status[0], &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	if (n != sizeof(report))
		return fail(err, err_size, -EIO, "the child did not start");
	return fail(err, err_size, -report.error, "the child failed %s: %s",
	    places[report.place], strerrordesc_np(report.error));
}

/* One attempt with p->flags. */
static int
attempt(struct plan *p, pid_t *pid, int *pidfd, char *err, size_t err_size)
{
	int r;

	r = open_pipes(p);
	if (r < 0) {
		fail(err, err_size, r, "pipes: %s", strerrordesc_np(-r));
		goto out;
	}
	*pid = start(p, pidfd);
	if (*pid < 0) {
		r = *pid;
		fail(err, err_size, r,
		    "%s are forbidden (%s): run with --sandbox=best-effort",
		    (p->flags & CLONE_NEWUSER) != 0 ? "user namespaces"
						    : "namespaces",
		    userns_reason(-r));
		goto out;
	}
	if ((p->flags & CLONE_NEWUSER) != 0)
		r = write_maps(p, *pid);
	if (r < 0)
		fail(err, err_size, r,
		    "writing the uid map is forbidden (%s): "
		    "run with --sandbox=best-effort",
		    strerrordesc_np(-r));
	else
		r = release(p, err, err_size);
	if (r < 0)
		reap(*pid, pidfd);
out:
	close_pipes(p);
	return r;
}

int
sandbox_spawn(const struct sandbox_spawn *s, pid_t *pid, int *pidfd, char *err,
    size_t err_size)
{
	/* From all to nothing, for SANDBOX_BEST_EFFORT. */
	static const uint64_t choices[] = {
		CLONE_NEWUSER | NAMESPACES,
		CLONE_NEWUSER | (NAMESPACES & ~CLONE_NEWCGROUP),
		NAMESPACES,
		NAMESPACES & ~CLONE_NEWCGROUP,
		CLONE_NEWUSER,
		0,
	};
	struct plan p = {
		.s = s,
		.as_root = geteuid() == 0,
		.namespaces = s->network ? NAMESPACES & ~(uint64_t)CLONE_NEWNET
					 : NAMESPACES,
	};
	int r = -EINVAL;

	*pidfd = -1;
	*pid = -1;
	snprintf(err, err_size, "%s", "");
	if (s->mode == SANDBOX_OFF) {
		p.flags = 0;
		return attempt(&p, pid, pidfd, err, err_size);
	}
	for (unsigned i = 0; i < ARRAY_LEN(choices); i++) {
		p.flags = choices[i] & (p.namespaces | CLONE_NEWUSER);
		r = attempt(&p, pid, pidfd, err, err_size);
		if (r == 0 || s->mode == SANDBOX_ON)
			break;
	}
	if (r == 0)
		snprintf(err, err_size, "%s", "");
	return r;
}
