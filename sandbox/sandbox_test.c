/*
 * The sandbox, seen from outside: what a program in it can do, and what the
 * kernel says of it.  Run as root it runs twice, the second time as nobody in
 * particular.
 */
#include "sandbox/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/named_tests.h"
#include "tests/sandboxed.h"

#define CHILD_UID   54321
#define USER_UID    12345
#define PATIENCE_MS 20000

static int program = -1;
/* Of the next child. */
static bool keep_network;

struct child {
	pid_t pid;
	int pidfd, control;
	struct sandboxed_report report;
};

static int
start_in(struct child *c, enum sandbox_mode mode, const char *act,
    const char *filter, char *err, size_t err_size)
{
	char name[] = "sandboxed", act_arg[32], filter_arg[16], pid_arg[16];
	char *argv[] = { name, act_arg, filter_arg, pid_arg, NULL };
	struct sandbox_spawn s = {
		.exec_fd = program, .argv = argv, .mode = mode, .uid = CHILD_UID
	};
	struct pollfd p = { .events = POLLIN };
	int pair[2], r;

	snprintf(act_arg, sizeof(act_arg), "%s", act);
	snprintf(filter_arg, sizeof(filter_arg), "%s", filter);
	snprintf(pid_arg, sizeof(pid_arg), "%d", getpid());
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	s.control_fd = pair[1];
	s.network = keep_network;
	r = sandbox_spawn(&s, &c->pid, &c->pidfd, err, err_size);
	close(pair[1]);
	c->control = pair[0];
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	memset(&c->report, 0, sizeof(c->report));
	p.fd = c->control;
	if (poll(&p, 1, PATIENCE_MS) != 1 ||
	    read(c->control, &c->report, sizeof(c->report)) !=
		sizeof(c->report))
		c->report.result = -EIO;
	return 0;
}

static void
start(struct child *c, const char *act, const char *filter)
{
	char err[256];
	int r = start_in(c, SANDBOX_ON, act, filter, err, sizeof(err));

	if (r < 0)
		fprintf(stderr, "spawn: %s\n", err);
	CU_ASSERT_EQUAL_FATAL(r, 0);
	if (c->report.result < 0)
		fprintf(stderr, "enter: %s\n", c->report.err);
	CU_ASSERT_EQUAL(c->report.result, 0);
}

/* Let it act, and wait for its end: its exit status, or -signal; and what it
 * said then. */
static int
finish_hearing(struct child *c, char words[32])
{
	siginfo_t info = { 0 };
	ssize_t n;
	int r;

	if (send(c->control, "", 1, MSG_NOSIGNAL) != 1)
		fprintf(stderr, "the child is gone already\n");
	do
		r = waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED);
	while (r < 0 && errno == EINTR);
	n = recv(c->control, words, 31, MSG_DONTWAIT);
	words[MAX(n, 0)] = '\0';
	close(c->pidfd);
	close(c->control);
	return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static int
finish(struct child *c)
{
	char words[32];

	return finish_hearing(c, words);
}

static void
forbidden_acts_are_the_end_and_named(void)
{
	static const struct {
		const char *act, *call;
	} rows[] = {
		{ "open", "openat" },
		{ "connect", "socket" },
		{ "execve", "execve" },
		{ "ptrace", "ptrace" },
		{ "kill", "kill" },
		{ "mount", "mount" },
		{ "unshare", "unshare" },
		{ "process_vm_readv", "process_vm_readv" },
		{ "fork", "clone" },
		{ "setuid", "setuid" },
		{ "wrong_argument", "personality" },
		{ "handle_sigsys", "rt_sigaction" },
		{ "block_sigsys", "rt_sigprocmask" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct child c;
		char words[32];
		int end;

		start(&c, rows[i].act, "filtered");
		end = finish_hearing(&c, words);
		if (end != SANDBOX_DENIED || strcmp(words, rows[i].call) != 0)
			fprintf(stderr, "%s: %d %s\n", rows[i].act, end, words);
		CU_ASSERT_EQUAL(end, SANDBOX_DENIED);
		CU_ASSERT_STRING_EQUAL(words, rows[i].call);
	}
}

/* One that gets rid of the handler is killed all the same. */
static void
nothing_survives_a_denied_call(void)
{
	struct child c;

	start(&c, "without_handler", "allowed");
	CU_ASSERT_EQUAL(finish(&c), -SIGSYS);
}

static void
without_the_filter_the_rest_still_refuses(void)
{
	static const char *const acts[] = { "open", "create", "connect",
		"network", "execve", "ptrace", "kill", "mount", "unshare",
		"process_vm_readv", "fork", "setuid" };

	for (unsigned i = 0; i < ARRAY_LEN(acts); i++) {
		struct child c;
		int end;

		start(&c, acts[i], "allowed");
		end = finish(&c);
		if (end != SANDBOXED_REFUSED)
			fprintf(stderr, "%s: %d\n", acts[i], end);
		CU_ASSERT_EQUAL(end, SANDBOXED_REFUSED);
	}
}

static void
what_is_allowed_works(void)
{
	static const char *const acts[] = { "nothing", "right_argument" };

	for (unsigned i = 0; i < ARRAY_LEN(acts); i++) {
		struct child c;

		start(&c, acts[i], "filtered");
		CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
	}
}

/* The value of a line of /proc/PID/status. */
static void
status_of(pid_t pid, const char *key, char *value, size_t size)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	snprintf(value, size, "none");
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL) {
		size_t n = strlen(key);

		if (strncmp(line, key, n) != 0 || line[n] != ':')
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(value, size, "%s",
		    line + n + 1 + strspn(line + n + 1, " \t"));
	}
	fclose(f);
}

static void
the_kernel_says_that_it_has_nothing(void)
{
	char uid[64];
	const struct {
		const char *key, *value;
	} rows[] = {
		{ "Uid", uid },
		{ "Gid", uid },
		{ "CapInh", "0000000000000000" },
		{ "CapPrm", "0000000000000000" },
		{ "CapEff", "0000000000000000" },
		{ "CapBnd", "0000000000000000" },
		{ "CapAmb", "0000000000000000" },
		{ "NoNewPrivs", "1" },
		{ "Seccomp", "2" },
		{ "SigBlk", "0000000000000000" },
	};
	unsigned id = geteuid() == 0 ? CHILD_UID : geteuid();
	struct child c;

	snprintf(uid, sizeof(uid), "%u\t%u\t%u\t%u", id, id, id, id);
	start(&c, "nothing", "filtered");
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		char value[128];

		status_of(c.pid, rows[i].key, value, sizeof(value));
		if (strcmp(value, rows[i].value) != 0)
			fprintf(stderr, "%s: %s\n", rows[i].key, value);
		CU_ASSERT_STRING_EQUAL(value, rows[i].value);
	}
	CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
}

/* Is this namespace of the child another than ours? */
static bool
is_its_own(const struct child *c, const char *name)
{
	char path[64], ours[64] = "", its[64] = "";
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", c->pid, name);
	n = readlink(path, its, sizeof(its) - 1);
	CU_ASSERT(n > 0);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	n = readlink(path, ours, sizeof(ours) - 1);
	CU_ASSERT(n > 0);
	return strcmp(ours, its) != 0;
}

static const char *const namespaces[] = { "user", "mnt", "pid", "ipc", "uts",
	"cgroup", "net" };

static void
its_namespaces_are_its_own(void)
{
	struct child c;

	start(&c, "nothing", "filtered");
	for (unsigned i = 0; i < ARRAY_LEN(namespaces); i++)
		CU_ASSERT_TRUE(is_its_own(&c, namespaces[i]));
	CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
}

static void
one_that_needs_the_network_keeps_only_that(void)
{
	struct child c;

	keep_network = true;
	start(&c, "network", "network");
	keep_network = false;
	for (unsigned i = 0; i < ARRAY_LEN(namespaces); i++)
		CU_ASSERT_EQUAL(is_its_own(&c, namespaces[i]),
		    strcmp(namespaces[i], "net") != 0);
	CU_ASSERT_EQUAL(c.report.steps | SANDBOX_LANDLOCK, SANDBOX_ALL);
	CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
}

/* Entries of a directory but . and ..; -1 if it cannot be read. */
static int
count_entries(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	if (d == NULL)
		return -1;
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			n++;
	closedir(d);
	return n;
}

static void
its_root_is_empty_and_it_has_four_fds(void)
{
	struct child c;
	char path[64];

	start(&c, "nothing", "filtered");
	snprintf(path, sizeof(path), "/proc/%d/root/", c.pid);
	CU_ASSERT_EQUAL(count_entries(path), 0);
	snprintf(path, sizeof(path), "/proc/%d/fd", c.pid);
	CU_ASSERT_EQUAL(count_entries(path), 4);
	CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
}

static void
the_steps_reported_are_all(void)
{
	struct child c;
	uint64_t missing;

	start(&c, "nothing", "filtered");
	missing = SANDBOX_ALL & ~c.report.steps;
	/* Not every kernel has Landlock. */
	CU_ASSERT(missing == 0 || missing == SANDBOX_LANDLOCK);
	CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
}

static void
landlock_closes_even_the_empty_root(void)
{
	struct child c;
	bool landlock;

	start(&c, "open_root", "allowed");
	landlock = (c.report.steps & SANDBOX_LANDLOCK) != 0;
	CU_ASSERT_EQUAL(
	    finish(&c), landlock ? SANDBOXED_REFUSED : SANDBOXED_DONE);
}

static void
mode_off_reports_that_nothing_was_done(void)
{
	struct child c;
	char err[256];

	CU_ASSERT_EQUAL_FATAL(
	    start_in(&c, SANDBOX_OFF, "open", "filtered", err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(c.report.steps, SANDBOX_FDS);
	CU_ASSERT_EQUAL(finish(&c), SANDBOXED_DONE);
}

static void
a_program_that_cannot_be_executed_is_an_error(void)
{
	int real = program, r;
	struct child c;
	char err[256];

	program = open("/dev/null", O_PATH | O_CLOEXEC);
	r = start_in(&c, SANDBOX_ON, "nothing", "filtered", err, sizeof(err));
	close(program);
	program = real;
	CU_ASSERT_EQUAL(r, -EACCES);
	CU_ASSERT_PTR_NOT_NULL(strstr(err, "executing the program"));
	CU_ASSERT_EQUAL(waitpid(-1, NULL, WNOHANG), -1);
	CU_ASSERT_EQUAL(errno, ECHILD);
}

static void
it_dies_with_its_parent(void)
{
	struct pollfd p = { .events = POLLIN };
	char name[] = "sandboxed", act[] = "nothing", how[] = "filtered",
	     pid_arg[] = "1";
	char *argv[] = { name, act, how, pid_arg, NULL };
	struct sandboxed_report report;
	int pair[2], stop[2], status;
	pid_t middle;
	char byte;

	CU_ASSERT_EQUAL_FATAL(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	CU_ASSERT_EQUAL_FATAL(pipe2(stop, O_CLOEXEC), 0);
	middle = fork();
	if (middle == 0) {
		struct sandbox_spawn s = { .exec_fd = program,
			.argv = argv,
			.control_fd = pair[1],
			.uid = CHILD_UID };
		char err[256];
		pid_t pid;
		int pidfd;

		close(stop[1]);
		if (sandbox_spawn(&s, &pid, &pidfd, err, sizeof(err)) < 0)
			_exit(1);
		_exit(read(stop[0], &byte, 1) != 0);
	}
	close(pair[1]);
	close(stop[0]);
	p.fd = pair[0];
	/* It has to hold after the change of uid in the sandbox too. */
	CU_ASSERT_EQUAL(poll(&p, 1, PATIENCE_MS), 1);
	CU_ASSERT_EQUAL(read(pair[0], &report, sizeof(report)), sizeof(report));
	CU_ASSERT_EQUAL(report.result, 0);
	close(stop[1]);
	CU_ASSERT_EQUAL(waitpid(middle, &status, 0), middle);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(poll(&p, 1, PATIENCE_MS), 1);
	CU_ASSERT_EQUAL(read(pair[0], &report, sizeof(report)), 0);
	close(pair[0]);
}

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/*
 * In a user namespace that may have no others, when the parent has written its
 * maps: bits of what went wrong.
 */
static int
without_user_namespaces(int ready, int go, bool many_uids)
{
	uint64_t least = SANDBOX_SECCOMP;
	char err[256], byte = 0;
	struct child c;
	int bad = 0;

	if (unshare(CLONE_NEWUSER) < 0 || write(ready, &byte, 1) != 1 ||
	    read(go, &byte, 1) != 1)
		return 32;
	if (many_uids)
		least = SANDBOX_ALL & ~(uint64_t)SANDBOX_USERNS &
		    ~(uint64_t)SANDBOX_LANDLOCK;
	write_file("/proc/sys/user/max_user_namespaces", "0");
	if (start_in(&c, SANDBOX_ON, "nothing", "filtered", err, sizeof(err)) !=
	    -ENOSPC)
		bad |= 1;
	if (strstr(err, "user.max_user_namespaces=0") == NULL ||
	    strstr(err, "--sandbox=best-effort") == NULL)
		bad |= 2;
	if (start_in(&c, SANDBOX_BEST_EFFORT, "open", "filtered", err,
		sizeof(err)) < 0)
		return bad | 4;
	if ((c.report.steps & SANDBOX_USERNS) != 0 ||
	    (c.report.steps & least) != least ||
	    strstr(c.report.err, "userns") == NULL)
		bad |= 8;
	if (finish(&c) != SANDBOX_DENIED)
		bad |= 16;
	return bad;
}

static void
write_map(pid_t pid, const char *name, unsigned id)
{
	char path[64], map[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	/* Root gives enough for uids of the children's own. */
	snprintf(map, sizeof(map), "0 %u %u", id, id == 0 ? 65536u : 1u);
	write_file(path, map);
}

static void
names_why_namespaces_are_forbidden(void)
{
	bool root = geteuid() == 0;
	int ready[2], go[2], status;
	char path[64], byte = 0;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe2(ready, O_CLOEXEC), 0);
	CU_ASSERT_EQUAL_FATAL(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		_exit(without_user_namespaces(ready[1], go[0], root));
	/* If it fails it says nothing. */
	close(ready[1]);
	CU_ASSERT_EQUAL(read(ready[0], &byte, 1), 1);
	if (!root) {
		snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
		write_file(path, "deny");
	}
	write_map(pid, "gid_map", getegid());
	write_map(pid, "uid_map", geteuid());
	CU_ASSERT_EQUAL(write(go[1], &byte, 1), 1);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fprintf(stderr, "bits: %d\n", WEXITSTATUS(status));
	CU_ASSERT_EQUAL(status, 0);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
}

static void
names_every_step(void)
{
	enum sandbox_mode mode;

	for (unsigned bit = 1; bit < SANDBOX_ALL; bit <<= 1)
		CU_ASSERT_STRING_NOT_EQUAL(sandbox_step_name(bit), "?");
	CU_ASSERT_STRING_EQUAL(sandbox_step_name(SANDBOX_ALL + 1), "?");
	CU_ASSERT_STRING_EQUAL(sandbox_step_name(3), "?");
	CU_ASSERT_EQUAL(sandbox_mode_parse("best-effort", &mode), 0);
	CU_ASSERT_EQUAL(mode, SANDBOX_BEST_EFFORT);
	CU_ASSERT_EQUAL(sandbox_mode_parse("maybe", &mode), -EINVAL);
}

static int
run(const char *suite_name)
{
	static const struct named_test tests[] = {
		NAMED_TEST(names_every_step),
		NAMED_TEST(what_is_allowed_works),
		NAMED_TEST(forbidden_acts_are_the_end_and_named),
		NAMED_TEST(nothing_survives_a_denied_call),
		NAMED_TEST(without_the_filter_the_rest_still_refuses),
		NAMED_TEST(the_kernel_says_that_it_has_nothing),
		NAMED_TEST(its_namespaces_are_its_own),
		NAMED_TEST(one_that_needs_the_network_keeps_only_that),
		NAMED_TEST(its_root_is_empty_and_it_has_four_fds),
		NAMED_TEST(the_steps_reported_are_all),
		NAMED_TEST(landlock_closes_even_the_empty_root),
		NAMED_TEST(mode_off_reports_that_nothing_was_done),
		NAMED_TEST(a_program_that_cannot_be_executed_is_an_error),
		NAMED_TEST(it_dies_with_its_parent),
		NAMED_TEST(names_why_namespaces_are_forbidden),
	};

	return named_tests_run(suite_name, tests, ARRAY_LEN(tests));
}

static int
become_user(void)
{
	if (setgroups(0, NULL) < 0 ||
	    setresgid(USER_UID, USER_UID, USER_UID) < 0 ||
	    setresuid(USER_UID, USER_UID, USER_UID) < 0)
		return -errno;
	/* As it is after an exec; else /proc/PID of a child is root's. */
	return prctl(PR_SET_DUMPABLE, 1) < 0 ? -errno : 0;
}

/* Is there a kernel here that lets us?  77 with the reason if not. */
static int
can_run(void)
{
	struct child c;
	char err[256];
	int r =
	    start_in(&c, SANDBOX_ON, "nothing", "filtered", err, sizeof(err));

	if (r == 0) {
		(void)finish(&c);
		return 0;
	}
	if (r == -EPERM || r == -ENOSPC || r == -EINVAL || r == -ENOSYS) {
		printf("skipped: %s\n", err);
		return 77;
	}
	return 0;
}

int
main(void)
{
	char path[PATH_MAX] = "";
	char full[PATH_MAX + 32];
	int bad, status;
	pid_t pid;

	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
		return 1;
	snprintf(full, sizeof(full), "%s/../tests/sandboxed", dirname(path));
	program = open(full, O_PATH | O_CLOEXEC);
	if (program < 0) {
		printf("skipped: %s: %s\n", full, strerror(errno));
		return 77;
	}
	status = can_run();
	if (status != 0)
		return status;
	bad = run(geteuid() == 0 ? "sandbox, as root" : "sandbox");
	if (geteuid() != 0)
		return bad;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (become_user() < 0)
			_exit(1);
		exit(run("sandbox, as a user"));
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		bad = 1;
	return bad;
}
