/*
 * Start vmmctl and see it through: for the tests of whole VMs.
 *
 * A test calls vm_prepare() first.  The test's process then inherits what a VM
 * leaves behind, so that vm_left_behind() can count it.
 */
#ifndef TESTS_VM_H
#define TESTS_VM_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/exitcodes.h"

#define VM_COMMAND 4096u
#define VM_OUTPUT  (2u << 20)

/* The build folder: the test program is in its tests/. */
static char vm_build[PATH_MAX / 2];

struct vm_run {
	pid_t pid; /* of vmmctl; 0: it has ended */
	int fd; /* both of its outputs; -1: closed */
	uint64_t started_ns, ended_ns;
	uint64_t deadline_ns; /* killed if it is not done by then */
	bool late; /* it had to be killed */
	int code; /* exit status; -1: a signal */
	size_t n;
	char text[VM_OUTPUT];
};

static inline void
vm_sleep_ms(long n)
{
	const struct timespec ts = { n / 1000, n % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* 0, or 77 after saying which of `needed` is not built. */
static inline int
vm_prepare(const char *const *needed, size_t count)
{
	ssize_t n = readlink("/proc/self/exe", vm_build, sizeof(vm_build) - 1);
	char path[PATH_MAX];

	if (n < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return 77;
	vm_build[n] = '\0';
	for (unsigned i = 0; i < 2; i++)
		*strrchr(vm_build, '/') = '\0';
	for (size_t i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", vm_build, needed[i]);
		if (access(path, R_OK) < 0) {
			printf("skipped: %s is not built\n", needed[i]);
			return 77;
		}
	}
	return 0;
}

/*
 * Run a shell command in the build folder; `exec vmmctl/vmmctl ...` makes pid
 * that of vmmctl.
 */
static inline void PRINTF_LIKE(3, 4)
    vm_start(struct vm_run *r, unsigned seconds, const char *fmt, ...)
{
	char command[VM_COMMAND];
	int pair[2];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
	r->code = -1;
	r->started_ns = time_now_ns();
	r->deadline_ns = r->started_ns + seconds * 1000000000ull;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return;
	r->pid = fork();
	if (r->pid == 0) {
		int null = open("/dev/null", O_RDONLY);

		if (null < 0 || chdir(vm_build) < 0)
			_exit(126);
		dup2(null, STDIN_FILENO);
		close(null);
		dup2(pair[1], STDOUT_FILENO);
		dup2(pair[1], STDERR_FILENO);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	if (r->pid < 0) {
		close(pair[0]);
		r->pid = 0;
		return;
	}
	r->fd = pair[0];
}

/* Read what is there. */
static inline void
vm_read(struct vm_run *r)
{
	char discard[4096];
	size_t room = sizeof(r->text) - 1 - r->n;
	ssize_t n = room > 0 ? read(r->fd, r->text + r->n, room)
			     : read(r->fd, discard, sizeof(discard));

	if (n > 0) {
		r->n += room > 0 ? (size_t)n : 0;
		r->text[r->n] = '\0';
	} else {
		close(r->fd);
		r->fd = -1;
	}
}

static inline void
vm_reap(struct vm_run *r)
{
	int status;

	if (r->pid == 0 || waitpid(r->pid, &status, WNOHANG) != r->pid)
		return;
	r->pid = 0;
	r->ended_ns = time_now_ns();
	r->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Look at all of them for up to 20 ms.  False: all have ended. */
static inline bool
vm_step(struct vm_run *runs, unsigned n)
{
	struct pollfd p[32];
	bool more = false;

	BUG_ON(n > ARRAY_LEN(p));
	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = runs[i].fd, .events = POLLIN };
	poll(p, n, 20);
	for (unsigned i = 0; i < n; i++) {
		struct vm_run *r = &runs[i];

		if (r->fd >= 0 && p[i].revents != 0)
			vm_read(r);
		vm_reap(r);
		if (r->pid != 0 && !r->late && time_now_ns() > r->deadline_ns) {
			r->late = true;
			kill(r->pid, SIGKILL);
		}
		/* What outlives vmmctl may hold its output open. */
		if (r->pid == 0 && r->fd >= 0 &&
		    time_now_ns() - r->ended_ns > 1000000000u) {
			close(r->fd);
			r->fd = -1;
		}
		more |= r->pid != 0 || r->fd >= 0;
	}
	return more;
}

static inline void
vm_finish(struct vm_run *runs, unsigned n)
{
	while (vm_step(runs, n))
		continue;
}

/* Wait until it has printed that.  False: it ended, or time is up. */
static inline bool
vm_await(struct vm_run *r, const char *text, long ms)
{
	uint64_t end = time_now_ns() + (uint64_t)ms * 1000000;

	while (strstr(r->text, text) == NULL) {
		if (!vm_step(r, 1) || time_now_ns() > end)
			return strstr(r->text, text) != NULL;
	}
	return true;
}

/* Did it end so?  Print what it did if not. */
static inline bool
vm_ended(const struct vm_run *r, const char *claim, int code, const char *says)
{
	bool right =
	    !r->late && r->code == code && strstr(r->text, says) != NULL;

	if (!right)
		printf("\n%s: %sexit %d, not %d with \"%s\":\n%.4000s\n", claim,
		    r->late ? "late, " : "", r->code, code, says, r->text);
	return right;
}

/* Processes of VMs that are still there `ms` after their ends. */
static inline unsigned
vm_left_behind(long ms)
{
	uint64_t end = time_now_ns() + (uint64_t)ms * 1000000;
	char line[4096] = "";
	unsigned n = 0;
	FILE *f;

	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return 0;
		if (pid == 0 && time_now_ns() > end)
			break;
		if (pid == 0)
			vm_sleep_ms(10);
	}
	f = fopen("/proc/thread-self/children", "re");
	if (f != NULL && fgets(line, sizeof(line), f) != NULL)
		printf("left behind: %s\n", line);
	for (char *p = line; *p != '\0'; p++)
		n += *p == ' ';
	if (f != NULL)
		fclose(f);
	return n > 0 ? n : 1;
}

/* Is there a socket with that in its name? */
static inline bool
vm_has_socket(const char *name)
{
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/net/unix", "re");

	while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
		found = strstr(line, "bulkhead/") != NULL &&
		    strstr(line, name) != NULL;
	if (f != NULL)
		fclose(f);
	return found;
}

/* How many fds this process has open. */
static inline unsigned
vm_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

/* ---- looking at processes ---- */

#define VM_CHILDREN 64u

static inline unsigned
vm_children_of(pid_t pid, pid_t out[VM_CHILDREN])
{
	char path[64], line[2048] = "", *at = line, *end;
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fgets(line, sizeof(line), f) == NULL)
		line[0] = '\0';
	fclose(f);
	while (n < VM_CHILDREN) {
		long child = strtol(at, &end, 10);

		if (end == at)
			break;
		out[n++] = (pid_t)child;
		at = end;
	}
	return n;
}

/* The second word of its command line: of a device host, the type. */
static inline void
vm_type_of(pid_t pid, char out[32])
{
	char path[64], line[128];
	ssize_t n;
	size_t first;
	int fd;

	snprintf(out, 32, "?");
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, line, sizeof(line) - 2);
	close(fd);
	if (n <= 0)
		return;
	line[n] = line[n + 1] = '\0';
	first = strlen(line);
	snprintf(out, 32, "%.31s", line + first + 1);
}

/* The process of a device below that vmmctl; 0: none within `ms`. */
static inline pid_t
vm_find_device(const struct vm_run *r, const char *type, long ms)
{
	uint64_t end = time_now_ns() + (uint64_t)ms * 1000000;
	pid_t brokers[VM_CHILDREN], hosts[VM_CHILDREN];
	char name[32];

	do {
		unsigned n = vm_children_of(r->pid, brokers);

		for (unsigned i = 0; i < n; i++) {
			unsigned m = vm_children_of(brokers[i], hosts);

			for (unsigned j = 0; j < m; j++) {
				vm_type_of(hosts[j], name);
				if (strcmp(name, type) == 0)
					return hosts[j];
			}
		}
		vm_sleep_ms(5);
	} while (time_now_ns() < end);
	return 0;
}

static inline pid_t
vm_find_broker(const struct vm_run *r)
{
	pid_t brokers[VM_CHILDREN];

	return vm_children_of(r->pid, brokers) == 1 ? brokers[0] : 0;
}

#endif
