/* The connector. */
#include "vmmctl/connector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/connector.h"
#include "vmmctl/switch.h"

#define CONNECT_NS    10000000000ull
#define ADDRESSES_MAX 8u

/* ---- connecting ---- */

/* Wait for a connection that is under way.  0; -errno. */
static int
await(int fd, int watch_fd)
{
	uint64_t deadline = time_now_ns() + CONNECT_NS;
	struct pollfd p[] = {
		{ .fd = fd, .events = POLLOUT },
		{ .fd = watch_fd, .events = POLLRDHUP },
	};
	socklen_t n = sizeof(int);
	int error = 0;

	for (;;) {
		uint64_t now = time_now_ns();

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(p, ARRAY_LEN(p),
			(int)((deadline - now) / 1000000) + 1) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		if (p[1].revents != 0)
			return -ECANCELED;
		if (p[0].revents != 0)
			break;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		return -errno;
	return -error;
}

static int
connect_address_of(const struct sockaddr *a, socklen_t n, int watch_fd)
{
	int fd =
	    socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1;
	int r;

	if (fd < 0)
		return -errno;
	r = connect(fd, a, n) < 0 ? -errno : 0;
	if (r == -EINPROGRESS)
		r = await(fd, watch_fd);
	/* Requests are short, and the answers are waited for. */
	if (r == 0 && a->sa_family != AF_UNIX &&
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static int
connect_unix(const struct connector_address *a, int watch_fd)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", a->path);

	if (n < 0 || (size_t)n >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	return connect_address_of(
	    (const struct sockaddr *)&sun, sizeof(sun), watch_fd);
}

/* A numeric address and port; its length, or 0. */
static socklen_t
to_address(struct sockaddr_storage *out, const char *host, uint16_t port)
{
	union {
		struct sockaddr_storage any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} u = { 0 };
	socklen_t n = 0;

	if (inet_pton(AF_INET, host, &u.in.sin_addr) == 1) {
		u.in.sin_family = AF_INET;
		u.in.sin_port = htons(port);
		n = sizeof(u.in);
	} else if (inet_pton(AF_INET6, host, &u.in6.sin6_addr) == 1) {
		u.in6.sin6_family = AF_INET6;
		u.in6.sin6_port = htons(port);
		n = sizeof(u.in6);
	}
	*out = u.any;
	return n;
}

/* Start `getent ahosts HOST` and read from it. */
static FILE *
start_lookup(const char *host, pid_t *pid)
{
	int pair[2], null;
	FILE *in;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return NULL;
	*pid = fork();
	if (*pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, STDIN_FILENO);
		dup2(null, STDERR_FILENO);
		dup2(pair[1], STDOUT_FILENO);
		close_range(3, ~0u, 0);
		execlp("getent", "getent", "ahosts", "--", host, (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	in = *pid < 0 ? NULL : fdopen(pair[0], "r");
	if (in == NULL)
		close(pair[0]);
	return in;
}

/*
 * The addresses of a host.  A static program has no resolver that knows what
 * this machine's nsswitch.conf says; getent has.
 */
static unsigned
look_up(const char *host, uint16_t port,
    struct sockaddr_storage out[ADDRESSES_MAX], socklen_t length[ADDRESSES_MAX])
{
	char line[512], address[128], kind[16];
	pid_t pid = -1;
	unsigned n = 0;
	FILE *in;

	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	length[0] = to_address(&out[0], host, port);
	if (length[0] != 0)
		return 1;
	in = start_lookup(host, &pid);
	while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
		if (n == ADDRESSES_MAX ||
		    sscanf(line, "%127s %15s", address, kind) != 2 ||
		    strcmp(kind, "STREAM") != 0)
			continue;
		length[n] = to_address(&out[n], address, port);
		n += length[n] != 0;
	}
	if (in != NULL)
		fclose(in);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	return n;
}

int
connector_connect(const struct connector_address *a,
    const struct connector_means *means, int watch_fd)
{
	struct sockaddr_storage address[ADDRESSES_MAX];
	socklen_t length[ADDRESSES_MAX];
	int r = -ENOENT;
	unsigned n;

	if (a->switch_name != NULL)
		return switch_connect(
		    means->devhost, means->sandbox, a->switch_name);
	if (a->path != NULL)
		return connect_unix(a, watch_fd);
	n = look_up(
	    a->host, (uint16_t)strtoul(a->port, NULL, 10), address, length);
	for (unsigned i = 0; i < n && r < 0 && r != -ECANCELED; i++)
		r = connect_address_of(
		    (const struct sockaddr *)&address[i], length[i], watch_fd);
	return r;
}

/* ---- serving ---- */

static bool
send_answer(int fd, const struct connector_answer *answer, int connected)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct connector_answer copy = *answer;
	struct iovec iov = { &copy, sizeof(copy) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (connected >= 0) {
		struct cmsghdr *c;

		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &connected, sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(copy);
}

/* False: the other end is gone, or talks nonsense. */
static bool
serve_one(int fd, const struct connector_address *a,
    const struct connector_means *means)
{
	struct connector_request q;
	struct connector_answer answer;
	ssize_t n = recv(fd, &q, sizeof(q), MSG_TRUNC);
	bool sent;
	int r;

	if (n < 0 && errno == EINTR)
		return true;
	if (n != (ssize_t)sizeof(q))
		return false;
	r = connector_connect(a, means, fd);
	answer = (struct connector_answer){ q.cookie, r < 0 ? -r : 0 };
	sent = send_answer(fd, &answer, r);
	if (r >= 0)
		close(r);
	return sent;
}

NORETURN static void
run(int fd, const struct connector_address *a,
    const struct connector_means *means)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* The terminal's signals are not for us: the device's end is the end. */
	setsid();
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	prctl(PR_SET_NAME, "connector");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (null < 0 || fd < 0)
		_exit(1);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	dup2(fd, 3);
	close_range(4, ~0u, 0);
	while (serve_one(3, a, means))
		continue;
	_exit(0);
}

pid_t
connector_start(const struct connector_address *a,
    const struct connector_means *means, int *fd)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
		pid = -errno;
		goto out;
	}
	pid = fork();
	if (pid == 0)
		run(pair[1], a, means);
	if (pid < 0)
		pid = -errno;
out:
	close(pair[1]);
	if (pid < 0)
		close(pair[0]);
	else
		*fd = pair[0];
	return pid;
}
