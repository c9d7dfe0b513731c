/* The connector: what it connects to, and that nothing of it is left behind. */
#include "vmmctl/connector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/connector.h"
#include "tests/named_tests.h"

#define WAIT_MS 20000

static char folder[] = "/tmp/bulkhead-connector-XXXXXX";

static const char *
in_folder(const char *name)
{
	static char path[4][96];
	static unsigned next;
	char *out = path[next++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", folder, name);
	return out;
}

static int
listen_unix(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	CU_ASSERT_EQUAL_FATAL(
	    bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 8), 0);
	return fd;
}

/* On a port of its own choice. */
static int
listen_tcp(char port[8])
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
	} a = { .in = { .sin_family = AF_INET } };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CU_ASSERT_EQUAL_FATAL(bind(fd, &a.any, sizeof(a.in)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 8), 0);
	CU_ASSERT_EQUAL_FATAL(getsockname(fd, &a.any, &n), 0);
	snprintf(port, 8, "%u", ntohs(a.in.sin_port));
	return fd;
}

/* Wait for an answer; *got: the socket beside it, or -1. */
static struct connector_answer
receive(int fd, int *got)
{
	struct connector_answer answer = { 0, -1 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { &answer, sizeof(answer) };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct cmsghdr *c;

	*got = -1;
	CU_ASSERT_EQUAL(poll(&p, 1, WAIT_MS), 1);
	CU_ASSERT_EQUAL(
	    recvmsg(fd, &m, MSG_CMSG_CLOEXEC), (ssize_t)sizeof(answer));
	c = CMSG_FIRSTHDR(&m);
	if (c != NULL && c->cmsg_type == SCM_RIGHTS)
		memcpy(got, CMSG_DATA(c), sizeof(int));
	return answer;
}

static struct connector_answer
ask(int fd, uint32_t cookie, int *got)
{
	const struct connector_request q = { cookie, 0 };

	CU_ASSERT_EQUAL(send(fd, &q, sizeof(q), 0), (ssize_t)sizeof(q));
	return receive(fd, got);
}

/* The end of a connector that has no reason to stay. */
static void
ends(pid_t pid)
{
	uint64_t deadline = time_now_ns() + WAIT_MS * 1000000ull;
	const struct timespec ms = { .tv_nsec = 1000000 };
	int status = -1;
	pid_t r;

	while ((r = waitpid(pid, &status, WNOHANG)) == 0 &&
	    time_now_ns() < deadline)
		nanosleep(&ms, NULL);
	CU_ASSERT_EQUAL(r, pid);
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Do the two ends belong together? */
static void
talk(int fd, int listener)
{
	int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char byte = 0;

	CU_ASSERT_FATAL(peer >= 0);
	CU_ASSERT((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	CU_ASSERT_EQUAL(write(peer, "x", 1), 1);
	CU_ASSERT_EQUAL(poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, WAIT_MS), 1);
	CU_ASSERT_EQUAL(read(fd, &byte, 1), 1);
	CU_ASSERT_EQUAL(byte, 'x');
	close(peer);
	close(fd);
}

static void
connects_to_a_path(void)
{
	const struct connector_address a = { .path = in_folder("s") };
	int listener = listen_unix(a.path), fd = -1, got;
	pid_t pid = connector_start(&a, NULL, &fd);
	struct connector_answer r;

	CU_ASSERT_FATAL(pid > 0);
	for (uint32_t i = 0; i < 3; i++) {
		r = ask(fd, 70 + i, &got);
		CU_ASSERT_EQUAL(r.cookie, 70 + i);
		CU_ASSERT_EQUAL(r.error, 0);
		talk(got, listener);
	}
	close(fd);
	ends(pid);
	close(listener);
}

static void
connects_by_tcp(void)
{
	char port[8];
	int listener = listen_tcp(port), fd = -1, got;
	const struct connector_address a = { .host = "localhost",
		.port = port };
	pid_t pid = connector_start(&a, NULL, &fd);
	struct connector_answer r;

	CU_ASSERT_FATAL(pid > 0);
	r = ask(fd, 9, &got);
	CU_ASSERT_EQUAL(r.error, 0);
	talk(got, listener);
	close(listener);
	r = ask(fd, 10, &got);
	CU_ASSERT_EQUAL(r.cookie, 10);
	CU_ASSERT_EQUAL(r.error, ECONNREFUSED);
	close(fd);
	ends(pid);
}

static void
answers_in_order(void)
{
	const struct connector_address a = { .path = in_folder("none") };
	int fd = -1, got;
	pid_t pid = connector_start(&a, NULL, &fd);

	CU_ASSERT_FATAL(pid > 0);
	for (uint32_t i = 0; i < CONNECTOR_WAITING; i++) {
		const struct connector_request q = { i, 0 };

		CU_ASSERT_EQUAL(send(fd, &q, sizeof(q), 0), (ssize_t)sizeof(q));
	}
	for (uint32_t i = 0; i < CONNECTOR_WAITING; i++)
		CU_ASSERT_EQUAL(receive(fd, &got).cookie, i);
	close(fd);
	ends(pid);
}

static void
ends_with_the_last_copy(void)
{
	const struct connector_address a = { .path = in_folder("none") };
	int fd = -1, copy, got;
	pid_t pid = connector_start(&a, NULL, &fd);

	CU_ASSERT_FATAL(pid > 0);
	copy = dup(fd);
	close(fd);
	CU_ASSERT_EQUAL(ask(copy, 1, &got).error, ENOENT);
	close(copy);
	ends(pid);
}

static void
ends_when_it_hears_nonsense(void)
{
	const struct connector_address a = { .path = in_folder("none") };
	int fd = -1;
	pid_t pid = connector_start(&a, NULL, &fd);

	CU_ASSERT_FATAL(pid > 0);
	CU_ASSERT_EQUAL(send(fd, "too long a request", 18, 0), 18);
	ends(pid);
	close(fd);
}

static void
says_who_it_does_not_know(void)
{
	const struct connector_address a = { .host = "nobody.invalid",
		.port = "1" };

	CU_ASSERT_EQUAL(connector_connect(&a, NULL, -1), -ENOENT);
}

static const struct named_test tests[] = {
	NAMED_TEST(connects_to_a_path),
	NAMED_TEST(connects_by_tcp),
	NAMED_TEST(answers_in_order),
	NAMED_TEST(ends_with_the_last_copy),
	NAMED_TEST(ends_when_it_hears_nonsense),
	NAMED_TEST(says_who_it_does_not_know),
};

int
main(void)
{
	char command[128];
	int rc;

	if (mkdtemp(folder) == NULL)
		return 1;
	rc = named_tests_run("connector", tests, ARRAY_LEN(tests));
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command) == 0 ? rc : 1;
}
