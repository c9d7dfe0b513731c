/* The spawner: starting device hosts for a broker that cannot. */
#include "vmmd/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "vmmd/proc.h"

#define FDS_MAX 3u

enum op {
	OP_ADD, /* program; fd */
	OP_CHANGE, /* fd */
	OP_SPAWN, /* fds in the answer: channel, pidfd, mounts or none */
	OP_MEMORY,
};

struct request {
	int32_t op; /* enum op */
	uint32_t index;
	int32_t pid; /* OP_MEMORY */
	struct spawner_program program; /* OP_ADD */
};

struct answer {
	int32_t result; /* 0 or -errno */
	int32_t pid; /* also of one that failed, and is to be waited for */
	struct proc_memory memory;
	char text[256];
};

/* ---- messages, of both ends ---- */

struct fd_message {
	struct msghdr msg;
	struct iovec iov;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
};

static void
prepare(struct fd_message *m, void *data, size_t size)
{
	memset(m, 0, sizeof(*m));
	m->iov = (struct iovec){ .iov_base = data, .iov_len = size };
	m->msg.msg_iov = &m->iov;
	m->msg.msg_iovlen = 1;
}

static int
send_with_fds(int fd, void *data, size_t size, const int *fds, unsigned nfds)
{
	struct fd_message m;
	ssize_t n;

	prepare(&m, data, size);
	if (nfds > 0) {
		struct cmsghdr *c = &m.control.align;

		m.msg.msg_control = &m.control;
		m.msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		n = sendmsg(fd, &m.msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* 0 and the fds, which are the caller's; -EPIPE: the end, or no message of
 * ours. */
static int
receive_with_fds(
    int fd, void *data, size_t size, int fds[FDS_MAX], unsigned *nfds)
{
	struct fd_message m;
	ssize_t n;

	*nfds = 0;
	prepare(&m, data, size);
	m.msg.msg_control = &m.control;
	m.msg.msg_controllen = sizeof(m.control);
	do
		n = recvmsg(fd, &m.msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg); c != NULL;
	     c = CMSG_NXTHDR(&m.msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
	}
	return (size_t)n == size ? 0 : -EPIPE;
}

/* ---- the spawner's side ---- */

struct program {
	int fd; /* -1: none */
	struct spawner_program is;
};

static void
on_set(struct program *p, const struct request *q, int fd, struct answer *a)
{
	bool add = q->op == OP_ADD;

	if (fd < 0 || add == (p->fd >= 0)) {
		a->result = add ? -EEXIST : -ENOENT;
		if (fd >= 0)
			close(fd);
		return;
	}
	if (add) {
		p->is = q->program;
		p->is.type[sizeof(p->is.type) - 1] = '\0';
	} else {
		close(p->fd);
	}
	p->fd = fd;
}

/* How many fds of the answer. */
static unsigned
on_spawn(struct program *p, struct answer *a, int fds[FDS_MAX])
{
	char name[] = "devhost";
	char *const argv[] = { name, p->is.type, NULL };
	struct sandbox_spawn s = {
		.exec_fd = p->fd,
		.argv = argv,
		.mode = p->is.mode,
		.uid = p->is.uid,
		.network = p->is.network,
		.for_parent = true,
	};
	unsigned n = 2;
	int pair[2];
	pid_t pid;

	a->result = -ENOENT;
	if (p->fd < 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, pair) < 0) {
		a->result = -errno;
		return 0;
	}
	s.control_fd = pair[1];
	a->result = sandbox_spawn(&s, &pid, &fds[1], a->text, sizeof(a->text));
	a->pid = pid;
	close(pair[1]);
	if (a->result < 0) {
		close(pair[0]);
		return 0;
	}
	fds[0] = pair[0];
	fds[2] = proc_hold_mounts(pid);
	if (fds[2] >= 0)
		n++;
	return n;
}

static void
serve(int fd)
{
	static struct program programs[SPAWNER_PROGRAMS];
	struct request q;
	int fds[FDS_MAX];
	unsigned n;

	for (unsigned i = 0; i < SPAWNER_PROGRAMS; i++)
		programs[i].fd = -1;
	while (receive_with_fds(fd, &q, sizeof(q), fds, &n) == 0) {
		struct answer a = { .result = 0 };
		unsigned given = 0;

		BUG_ON(n > 1 || q.index >= SPAWNER_PROGRAMS);
		if (q.op == OP_MEMORY)
			proc_memory(q.pid, &a.memory);
		else if (q.op == OP_SPAWN)
			given = on_spawn(&programs[q.index], &a, fds);
		else
			on_set(&programs[q.index], &q, n > 0 ? fds[0] : -1, &a);
		if (send_with_fds(fd, &a, sizeof(a), fds, given) < 0)
			return;
		for (unsigned i = 0; i < given; i++)
			close(fds[i]);
	}
}

static NORETURN void
run(int fd)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };

	/* They are the broker's, and its end is ours. */
	for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "vmmd-spawner");
	/* The broker's sockets: their ends are to be seen when it dies. */
	if (dup2(fd, STDERR_FILENO + 1) < 0 ||
	    syscall(SYS_close_range, STDERR_FILENO + 2, ~0u, 0) < 0)
		_exit(1);
	proc_init();
	serve(STDERR_FILENO + 1);
	_exit(0);
}

/* ---- the broker's side ---- */

int
spawner_start(struct spawner *s)
{
	int pair[2];

	s->fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	s->pid = fork();
	if (s->pid == 0)
		run(pair[1]);
	close(pair[1]);
	if (s->pid < 0) {
		close(pair[0]);
		return -errno;
	}
	s->fd = pair[0];
	return 0;
}

void
spawner_stop(struct spawner *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* 0: *a and the fds are there. */
static int
ask(struct spawner *s, struct request *q, int fd, struct answer *a,
    int fds[FDS_MAX], unsigned *nfds)
{
	int r = send_with_fds(s->fd, q, sizeof(*q), &fd, fd >= 0 ? 1 : 0);

	if (r == 0)
		r = receive_with_fds(s->fd, a, sizeof(*a), fds, nfds);
	return r < 0 ? -EPIPE : 0;
}

int
spawner_set(struct spawner *s, unsigned index, const struct spawner_program *p,
    int program_fd)
{
	struct request q = { .op = OP_CHANGE, .index = index };
	struct answer a;
	int fds[FDS_MAX], r;
	unsigned n;

	BUG_ON(index >= SPAWNER_PROGRAMS);
	if (p != NULL) {
		q.op = OP_ADD;
		q.program = *p;
	}
	r = ask(s, &q, program_fd, &a, fds, &n);
	return r < 0 ? r : a.result;
}

int
spawner_spawn(struct spawner *s, unsigned index, struct spawned *out, char *err,
    size_t size)
{
	struct request q = { .op = OP_SPAWN, .index = index };
	struct answer a;
	int fds[FDS_MAX];
	unsigned n;
	siginfo_t si;

	BUG_ON(index >= SPAWNER_PROGRAMS);
	if (ask(s, &q, -1, &a, fds, &n) < 0) {
		snprintf(err, size, "the spawner is gone");
		return -EPIPE;
	}
	if (a.result < 0) {
		/* It has been killed already. */
		if (a.pid > 0)
			waitid(P_PID, (id_t)a.pid, &si, WEXITED);
		snprintf(err, size, "%.*s", (int)sizeof(a.text) - 1, a.text);
		return a.result;
	}
	*out = (struct spawned){
		.pid = a.pid,
		.channel = fds[0],
		.pidfd = fds[1],
		.mounts = n > 2 ? fds[2] : -1,
	};
	return 0;
}

void
spawner_memory(struct spawner *s, pid_t pid, struct proc_memory *out)
{
	struct request q = { .op = OP_MEMORY, .pid = pid };
	struct answer a;
	int fds[FDS_MAX];
	unsigned n;

	*out = (struct proc_memory){ .ram_mapped = 0 };
	if (pid > 0 && ask(s, &q, -1, &a, fds, &n) == 0)
		*out = a.memory;
}
