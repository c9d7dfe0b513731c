/* The process of a switch: its sandbox, its sockets. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devhost/host.h"
#include "devhost/switch.h"
#include "proto/base.h"
#include "proto/packet.h"

#define TURN	    32u /* frames of one port before the next one's */
#define SEND_BUFFER (4u << 20) /* bytes for what a port has not taken yet */
/* Of a switch that root started: nobody's; it has no files to be told from. */
#define SWITCH_UID 65534u

struct process {
	struct switch_table table;
	int fd[SWITCH_PORTS];
	unsigned nports;
	/* One longer than allowed, to see that it is. */
	uint8_t frame[PACKET_BYTES_MAX + 1];
};

static void
drop(struct process *p, unsigned port)
{
	close(p->fd[port]);
	p->fd[port] = -1;
	p->nports--;
	switch_remove(&p->table, port);
}

static void
take_port(struct process *p, int listener)
{
	int size = SEND_BUFFER;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int port;

	if (fd < 0)
		return;
	port = switch_add(&p->table);
	if (port < 0) {
		close(fd);
		return;
	}
	/* As far as the system's limit goes. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	p->fd[port] = fd;
	p->nports++;
}

static void
send_to(struct process *p, unsigned port, size_t n)
{
	struct iovec iov = { p->frame, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	/* A port that is gone is found out when it is read. */
	if (sendmsg(p->fd[port], &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		p->table.port[port].lost++;
}

static void
pass_on(struct process *p, unsigned from, size_t n, uint64_t now)
{
	int to = switch_forward(
	    &p->table, from, p->frame + PACKET_HEADER, n - PACKET_HEADER, now);

	if (to >= 0)
		send_to(p, (unsigned)to, n);
	for (unsigned i = 0; to == SWITCH_ALL && i < SWITCH_PORTS; i++)
		if (i != from && p->fd[i] >= 0)
			send_to(p, i, n);
}

static void
serve(struct process *p, unsigned port, uint64_t now)
{
	struct iovec iov = { p->frame, sizeof(p->frame) };
	ssize_t n;

	for (unsigned i = 0; i < TURN; i++) {
		/* No room for control data: fds sent to us are dropped. */
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

		n = recvmsg(p->fd[port], &m, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* A port that sends what is no frame is not a port. */
		if (n <= (ssize_t)PACKET_HEADER ||
		    n > (ssize_t)PACKET_BYTES_MAX) {
			drop(p, port);
			return;
		}
		pass_on(p, port, (size_t)n, now);
	}
}

/* Fill the table of poll(): the listener and the ports that are there. */
static unsigned
list(const struct process *p, int listener, struct pollfd *fds)
{
	fds[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	for (unsigned i = 0; i < SWITCH_PORTS; i++)
		/* A negative fd is passed over. */
		fds[i + 1] =
		    (struct pollfd){ .fd = p->fd[i], .events = POLLIN };
	return SWITCH_PORTS + 1;
}

int
switch_run(int listener, unsigned idle_ms)
{
	static struct process p;
	struct pollfd fds[SWITCH_PORTS + 1];
	int n;

	memset(&p, 0, sizeof(p));
	memset(p.fd, 0xff, sizeof(p.fd));
	if (getrandom(&p.table.key, sizeof(p.table.key), 0) < 0)
		return HOST_EXIT_RESOURCE;
	for (;;) {
		n = poll(fds, list(&p, listener, fds),
		    p.nports > 0 ? -1 : (int)idle_ms);
		if (n == 0)
			return HOST_EXIT_OK;
		if (n < 0 && errno != EINTR)
			return HOST_EXIT_RESOURCE;
		for (unsigned i = 0; n > 0 && i < SWITCH_PORTS; i++)
			if (fds[i + 1].revents != 0)
				serve(&p, i, time_now_ns());
		if (n > 0 && fds[0].revents != 0)
			take_port(&p, listener);
	}
}

static const struct sandbox_syscall calls[] = {
	{ .nr = __NR_poll, .reason = "sleep" },
	{ .nr = __NR_accept4, .reason = "a new port" },
	{ .nr = __NR_setsockopt,
	    .reason = "its send buffer",
	    .nargs = 2,
	    .args = { { 1, SANDBOX_EQ, SOL_SOCKET, 0 },
		{ 2, SANDBOX_EQ, SO_SNDBUF, 0 } } },
	{ .nr = __NR_recvmsg, .reason = "frames" },
	{ .nr = __NR_sendmsg, .reason = "frames" },
	{ .nr = __NR_close, .reason = "a port that is gone" },
	{ .nr = __NR_getrandom, .reason = "the key of the hash" },
	{ .nr = __NR_clock_gettime, .reason = "time, where there is no vDSO" },
	{ .nr = __NR_write, .reason = "last words" },
	{ .nr = __NR_exit_group, .reason = "end" },
};

static int
enter_and_run(int listener, enum sandbox_mode mode, unsigned idle_ms)
{
	const struct sandbox_policy policy = {
		.mode = mode,
		.syscalls = calls,
		.nsyscalls = ARRAY_LEN(calls),
		.max_fds = SWITCH_PORTS + 8,
	};
	uint64_t steps = 0;
	char err[256] = "";
	int rc;

	/* A connection that has gone again must not make accept() wait. */
	if (fcntl(listener, F_SETFL, O_NONBLOCK) < 0)
		return HOST_EXIT_RESOURCE;
	rc = sandbox_enter(&policy, &steps, err, sizeof(err));
	if (err[0] != '\0')
		fprintf(stderr, "devhost switch: sandbox: %s\n", err);
	if (rc < 0)
		return HOST_EXIT_SANDBOX;
	return switch_run(listener, idle_ms);
}

/* Start ourselves again, with nothing; and be its parent, as long as it lives. */
static int
spawn(int listener, enum sandbox_mode mode)
{
	char name[] = "devhost", what[] = "switch";
	char *const argv[] = { name, what, NULL };
	struct sandbox_spawn s = {
		.exec_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC),
		.argv = argv,
		.control_fd = listener,
		.mode = mode,
		.uid = SWITCH_UID,
	};
	siginfo_t info = { 0 };
	char err[256] = "";
	int pidfd = -1, rc;
	pid_t pid;

	if (s.exec_fd < 0)
		return HOST_EXIT_RESOURCE;
	rc = sandbox_spawn(&s, &pid, &pidfd, err, sizeof(err));
	close(s.exec_fd);
	if (rc < 0) {
		fprintf(stderr, "devhost switch: %s\n", err);
		return HOST_EXIT_SANDBOX;
	}
	/* Only the switch itself is to hold its address. */
	close(listener);
	do
		rc = waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED);
	while (rc < 0 && errno == EINTR);
	return info.si_code == CLD_EXITED ? info.si_status : HOST_EXIT_RESOURCE;
}

int
switch_main(int listener, enum sandbox_mode mode, unsigned idle_ms)
{
	if (sandbox_was_spawned())
		return enter_and_run(
		    listener, sandbox_inherited_mode(), idle_ms);
	return spawn(listener, mode);
}
