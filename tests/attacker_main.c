/*
 * A device host that has been taken over.
 *
 * It is the real one, in its real sandbox, with all that Configure brought;
 * a moment after it runs, it attacks instead of being a device.  So it has what
 * an attacker has who executes any code in a device's process.
 *
 * It stands as `devhost` in a folder with `devhost.real`, `hostile`, which holds
 * "TYPE ATTACK", and `starts`, which counts: an attack of many tries takes the
 * next one at each start.  Devices of other types are the real ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devhost/host.h"
#include "devhost/host_impl.h"
#include "devhost/manifest.h"
#include "proto/base.h"

#define CONTROL_FD   3
#define AFTER_NS     40000000u /* of running */
#define LASTS_NS     1500000000u
#define MEMORY_LIMIT ((rlim_t)128 << 20)
#define FDS_LIMIT    256u
#define CHUNK	     ((size_t)1 << 20)
#define STORE_FD     0u /* of Configure's: control.proto */
#define RINGS_FD     1u
#define KICK_FD	     2u
#define TRIGGER_FD   3u

static char folder[PATH_MAX / 2];
static unsigned start;
static uint64_t began_ns;
static struct host *self;

static bool
goes_on(void)
{
	return time_now_ns() - began_ns < LASTS_NS;
}

static void
say(const char *text, uint64_t n)
{
	Bulkhead__Log log;
	char words[96];

	bulkhead__log__init(&log);
	snprintf(words, sizeof(words), "attack: %s %llu", text,
	    (unsigned long long)n);
	log.level = 1;
	log.text = words;
	/* What it has flooded may still be full. */
	while (channel_send(&self->channel, BULKHEAD__ENVELOPE__BODY_LOG, &log,
		   NULL, 0, 0) == -EAGAIN)
		sched_yield();
}

/* ---- system calls: to open, connect, signal, look, multiply, persist ---- */

static void
attack_calls(void)
{
	static const char name[] = "/bin/sh";
	static char bytes[256];

	switch (start) {
	case 0:
		syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
		break;
	case 1:
		syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
		break;
	case 2:
		syscall(SYS_execve, name, NULL, NULL);
		break;
	case 3:
		syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		break;
	case 4:
		syscall(SYS_kill, -1, SIGKILL);
		break;
	case 5:
		syscall(SYS_ptrace, PTRACE_ATTACH, 2, 0, 0);
		break;
	case 6:
		syscall(SYS_process_vm_readv, 2, bytes, 1, bytes, 1, 0);
		break;
	case 7:
		syscall(SYS_pidfd_getfd, CONTROL_FD, 0, 0);
		break;
	case 8:
		syscall(SYS_memfd_create, "x", 0);
		break;
	case 9:
		/* Code of its own, from memory it can write. */
		syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED,
		    self->fds[STORE_FD], 0);
		break;
	case 10:
		syscall(SYS_mprotect, bytes, 4096, PROT_READ | PROT_EXEC);
		break;
	case 11:
		syscall(SYS_dup, CONTROL_FD);
		break;
	case 12:
		/* Its peer would die of SIGBUS. */
		syscall(SYS_ftruncate, self->fds[STORE_FD], 0);
		break;
	case 13:
		syscall(SYS_unshare, CLONE_NEWUSER);
		break;
	case 14:
		syscall(SYS_io_uring_setup, 8, bytes);
		break;
	case 15:
		syscall(SYS_bpf, 0, bytes, sizeof(bytes));
		break;
	case 16:
		syscall(SYS_prctl, 15, "x", 0, 0, 0);
		break;
	case 17:
		syscall(SYS_rt_sigaction, SIGSYS, NULL, NULL, 8);
		break;
	case 18:
		/* Wait for good, of somebody else's memory. */
		syscall(SYS_futex, bytes, FUTEX_WAIT, 0, NULL, NULL, 0);
		break;
	case 19:
		syscall(SYS_fcntl, CONTROL_FD, F_DUPFD, 100);
		break;
	default:
		break;
	}
}

/* ---- resources ---- */

/* RLIMIT_AS is the bound. */
static void
attack_memory(void)
{
	uint64_t n = 0;

	for (;;) {
		uint8_t *p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || n > MEMORY_LIMIT / CHUNK)
			break;
		for (size_t i = 0; i < CHUNK; i += 4096)
			p[i] = 1;
		n++;
	}
	say(n <= MEMORY_LIMIT / CHUNK ? "memory is bounded at MiB"
				      : "memory has no bound",
	    n);
}

/* An fd more, from itself to itself. */
static void
attack_fds(void)
{
	unsigned n = 0;

	for (unsigned fd = 0; fd < 4096; fd++)
		n += syscall(SYS_newfstatat, fd, "", &(struct stat){ 0 },
			 AT_EMPTY_PATH) == 0;
	say(n <= FDS_LIMIT ? "fds are bounded at" : "fds have no bound", n);
}

static void
attack_cpu(void)
{
	for (;;)
		cpu_relax();
}

/* ---- what it shares with the broker ---- */

static uint64_t
next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static void
scribble(unsigned which)
{
	struct stat st;
	uint64_t seed = 0x9e3779b97f4a7c15u + start;
	uint8_t *p;

	if (fstat(self->fds[which], &st) < 0)
		return;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    self->fds[which], 0);
	if (p == MAP_FAILED)
		return;
	while (goes_on())
		for (unsigned i = 0; i < 4096; i++)
			p[next(&seed) % (uint64_t)st.st_size] =
			    (uint8_t)(seed >> 32);
	say("scribbled", which);
}

static void
attack_store(void)
{
	scribble(STORE_FD);
}

static void
attack_rings(void)
{
	scribble(RINGS_FD);
}

/* Level up and level down, for ever, from a device whose guest is elsewhere. */
static void
attack_interrupts(void)
{
	uint64_t one = 1, n = 0;

	while (goes_on())
		n += write(self->fds[TRIGGER_FD], &one, sizeof(one)) > 0;
	say("interrupts", n);
}

static void
attack_kicks(void)
{
	uint64_t all = UINT64_MAX - 1;
	unsigned n = 0;

	/* Every eventfd at its brim: who writes it next must not wait. */
	for (unsigned i = KICK_FD; i < self->nfds; i++)
		n += write(self->fds[i], &all, sizeof(all)) > 0;
	while (goes_on())
		continue;
	say("eventfds filled", n);
}

/* ---- messages ---- */

static void
send_raw(const void *bytes, size_t n, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
	} control = { 0 };
	uint8_t copy[4096];
	struct iovec iov = { copy, MIN(n, sizeof(copy)) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	memcpy(copy, bytes, iov.iov_len);
	if (nfds > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memset(CMSG_DATA(&control.align), 0, nfds * sizeof(int));
	}
	n = (size_t)sendmsg(CONTROL_FD, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Each message that there is, empty, with a sequence number that is another's:
 * the protobuf encoding of { seq: 77, body: {} }. */
static void
attack_messages(void)
{
	unsigned field = start + 1;
	uint8_t bytes[8] = { 0x08, 77, (uint8_t)(field << 3 | 2), 0 };
	size_t n = 4;

	if (field > 15) {
		bytes[2] = (uint8_t)((field << 3 | 2) & 0x7f) | 0x80;
		bytes[3] = (uint8_t)(field >> 4);
		bytes[4] = 0;
		n = 5;
	}
	send_raw(bytes, n, 0);
	while (goes_on())
		sched_yield();
}

static void
attack_flood(void)
{
	/* Legal ones: { seq: 1, pong: {} } by the real encoder. */
	Bulkhead__Pong pong;
	uint64_t n = 0;

	bulkhead__pong__init(&pong);
	while (goes_on())
		n += channel_send(&self->channel, BULKHEAD__ENVELOPE__BODY_PONG,
			 &pong, NULL, 0, 0) == 0;
	say("pongs", n);
}

static void
attack_fd_flood(void)
{
	static const uint8_t log[] = { 0x08, 1, 0x5a, 0 };

	for (unsigned i = 0; i < 1000; i++)
		send_raw(log, sizeof(log), CHANNEL_FDS_MAX);
}

/* ---- */

static const struct {
	const char *name;
	void (*run)(void);
} attacks[] = {
	{ "calls", attack_calls },
	{ "memory", attack_memory },
	{ "fds", attack_fds },
	{ "cpu", attack_cpu },
	{ "store", attack_store },
	{ "rings", attack_rings },
	{ "interrupts", attack_interrupts },
	{ "kicks", attack_kicks },
	{ "messages", attack_messages },
	{ "flood", attack_flood },
	{ "fd-flood", attack_fd_flood },
};

static void (*chosen)(void);
static bool done;

static uint64_t
deadline(struct device *dev)
{
	static uint64_t when;

	if (when == 0)
		when = device_now(dev) + AFTER_NS;
	return done ? UINT64_MAX : when;
}

static void
timer(struct device *dev, uint64_t now_ns)
{
	(void)now_ns;
	(void)dev;
	done = true;
	began_ns = time_now_ns();
	chosen();
}

/* Last words as the real one's. */
static void
denied(int nr, const char *name)
{
	Bulkhead__Failure f;
	char text[96];

	bulkhead__failure__init(&f);
	snprintf(text, sizeof(text), "denied system call %s (%d)", name, nr);
	f.text = text;
	channel_send(&self->channel, BULKHEAD__ENVELOPE__BODY_FAILURE, &f, NULL,
	    0, UINT64_MAX);
}

static int
run(const struct device_type *real)
{
	static struct device_type type;
	static struct device_ops ops;
	struct sandbox_syscall list[MANIFEST_SYSCALLS_MAX];
	struct sandbox_policy policy = {
		.mode = sandbox_inherited_mode(),
		.syscalls = list,
		.nsyscalls = manifest_syscalls(real, list),
		.max_as_bytes = MEMORY_LIMIT,
		.max_fds = FDS_LIMIT,
		.denied = denied,
		.denied_status = HOST_EXIT_SECCOMP,
	};
	struct host_identity identity = { 0 };
	char err[256];

	type = *real;
	ops = *real->ops;
	ops.deadline = deadline;
	ops.timer = timer;
	type.ops = &ops;
	if (host_open(&type, CONTROL_FD, &self) < 0)
		return HOST_EXIT_RESOURCE;
	if (sandbox_enter(&policy, &identity.sandbox, err, sizeof(err)) < 0)
		return HOST_EXIT_SANDBOX;
	identity.syscalls = (unsigned)policy.nsyscalls;
	return host_run(self, &identity);
}

/* How many starts there were before this one. */
static unsigned
count_start(void)
{
	char path[PATH_MAX], text[16] = "0";
	unsigned n;
	int fd;

	snprintf(path, sizeof(path), "%s/starts", folder);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0 ||
	    read(fd, text, sizeof(text) - 1) < 0)
		return 0;
	n = (unsigned)atoi(text);
	snprintf(text, sizeof(text), "%u", n + 1);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		perror("attacker: starts");
	close(fd);
	return n;
}

int
main(int argc, char **argv)
{
	char path[PATH_MAX], who[32], what[32];
	ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	FILE *f;

	if (n < 0)
		return 1;
	folder[n] = '\0';
	*strrchr(folder, '/') = '\0';
	snprintf(path, sizeof(path), "%s/hostile", folder);
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "%31s %31s", who, what) != 2)
		return 1;
	fclose(f);
	for (unsigned i = 0; i < ARRAY_LEN(attacks); i++)
		if (strcmp(attacks[i].name, what) == 0)
			chosen = attacks[i].run;
	if (argc == 2 && strcmp(argv[1], who) == 0 && chosen != NULL) {
		start = count_start();
		return run(device_type_find(who));
	}
	snprintf(path, sizeof(path), "%s/devhost.real", folder);
	execv(path, argv);
	perror(path);
	return 1;
}
