/* A port of a switch; the test is the switch, and the connector. */
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

#include "devhost/harness.h"
#include "proto/connector.h"
#include "proto/packet.h"
#include "tests/named_tests.h"

#define BYTES (PACKET_HEADER + 60u)

struct bench {
	struct harness h;
	int wire; /* the switch's end; -1: it is gone */
	int connector; /* the connector's end; -1: none */
	uint64_t from;
};

static void
pair(int fds[2])
{
	BUG_ON(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds) < 0);
}

static void
open_bench(struct bench *b, bool connector)
{
	struct harness_want want = { .link_side = 1 };
	int fds[2];

	memset(b, 0, sizeof(*b));
	b->connector = -1;
	pair(fds);
	want.file[0] = fds[0];
	b->wire = fds[1];
	if (connector) {
		pair(fds);
		want.file[1] = fds[0];
		b->connector = fds[1];
	}
	harness_open_want(&b->h, "net-switch", &want);
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
close_bench(struct bench *b)
{
	harness_close(&b->h);
	close_fd(&b->wire);
	close_fd(&b->connector);
}

static void
guest_sends(struct bench *b, uint8_t mark)
{
	uint8_t f[BYTES];
	struct iovec iov = { f, sizeof(f) };

	memset(f, mark, sizeof(f));
	BUG_ON(packet_put(b->h.link_to[0], &iov, 1) != 0);
	harness_run(&b->h);
}

static bool
switch_got(struct bench *b, uint8_t mark)
{
	uint8_t f[BYTES + 1];

	return recv(b->wire, f, sizeof(f), 0) == BYTES && f[50] == mark;
}

static void
switch_sends(struct bench *b, uint8_t mark, size_t n)
{
	static uint8_t f[PACKET_BYTES_MAX + 9];

	memset(f, mark, n);
	CU_ASSERT_EQUAL(send(b->wire, f, n, MSG_NOSIGNAL), (ssize_t)n);
	harness_run(&b->h);
}

static bool
guest_got(struct bench *b, uint8_t mark, size_t n)
{
	const uint8_t *data;

	if (packet_peek(b->h.link_from[0], b->from, &data) != (ssize_t)n)
		return false;
	packet_release(b->h.link_from[0], ++b->from);
	return data[n - 1] == mark;
}

/* The request that waits, answered with this error, and n connections. */
static bool
answer(struct bench *b, int32_t error, unsigned n, bool whole)
{
	struct connector_request request;
	struct connector_answer a = { .error = error };
	struct iovec iov = { &a, whole ? sizeof(a) : 3 };
	_Alignas(
	    struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[2][2];

	if (recv(b->connector, &request, sizeof(request), 0) != sizeof(request))
		return false;
	for (unsigned i = 0; i < n; i++)
		pair(fds[i]);
	if (n > 0) {
		struct cmsghdr *h;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		*h = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET,
			SCM_RIGHTS };
		for (unsigned i = 0; i < n; i++)
			memcpy(CMSG_DATA(h) + i * sizeof(int), &fds[i][0],
			    sizeof(int));
	}
	a.cookie = request.cookie;
	CU_ASSERT(sendmsg(b->connector, &m, MSG_NOSIGNAL) > 0);
	for (unsigned i = 0; i < n; i++) {
		close(fds[i][0]);
		close_fd(&b->wire);
		b->wire = fds[i][1];
	}
	harness_run(&b->h);
	return true;
}

/* Time passes, until it asks again. */
static bool
asks_again(struct bench *b)
{
	struct pollfd p = { .fd = b->connector, .events = POLLIN };

	for (unsigned i = 0; i < 2000; i++) {
		if (poll(&p, 1, 10) == 1)
			return true;
		(void)engine_timer(&b->h.dev);
		harness_run(&b->h);
	}
	return false;
}

static unsigned
open_fds(void)
{
	unsigned n = 0;

	for (int i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static void
frames_pass_in_both_directions(void)
{
	struct bench b;

	open_bench(&b, false);
	for (uint8_t i = 1; i < 100; i++) {
		guest_sends(&b, i);
		CU_ASSERT_TRUE(switch_got(&b, i));
		switch_sends(&b, i, 26u + i);
		CU_ASSERT_TRUE(guest_got(&b, i, 26u + i));
		if (i % 7 == 0)
			harness_restart(&b.h);
	}
	switch_sends(&b, 1, PACKET_BYTES_MAX);
	CU_ASSERT_TRUE(guest_got(&b, 1, PACKET_BYTES_MAX));
	close_bench(&b);
}

static void
what_is_no_frame_is_dropped(void)
{
	struct bench b;

	open_bench(&b, false);
	switch_sends(&b, 1, 1);
	switch_sends(&b, 2, 25);
	switch_sends(&b, 3, PACKET_BYTES_MAX + 1);
	switch_sends(&b, 4, 26);
	CU_ASSERT_TRUE(guest_got(&b, 4, 26));
	CU_ASSERT_FALSE(guest_got(&b, 0, 0));
	close_bench(&b);
}

static void
a_switch_that_takes_nothing_holds_the_guest_back(void)
{
	struct bench b;
	unsigned put = 0;

	open_bench(&b, false);
	while (packet_space(b.h.link_to[0]) > 0 && put < 100000)
		guest_sends(&b, (uint8_t)put++);
	CU_ASSERT(put > PACKET_SLOTS && put < 100000);
	for (unsigned i = 0; i < put; i++) {
		CU_ASSERT_TRUE(switch_got(&b, (uint8_t)i));
		harness_run(&b.h);
	}
	close_bench(&b);
}

static void
without_a_connector_it_stays_alone(void)
{
	struct bench b;

	open_bench(&b, false);
	close_fd(&b.wire);
	for (unsigned i = 0; i < 1000; i++)
		guest_sends(&b, 1);
	CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 1000);
	CU_ASSERT(harness_run(&b.h) < 10);
	harness_restart(&b.h);
	guest_sends(&b, 1);
	CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 1001);
	close_bench(&b);
}

static void
it_comes_back_when_the_switch_does(void)
{
	static const struct {
		int32_t error;
		unsigned fds;
		bool whole;
	} failures[] = {
		{ ECONNREFUSED, 0, true },
		{ 0, 0, true }, /* without the connection */
		{ EPERM, 1, true }, { 0, 1, false }, /* half a message */
	};
	struct bench b;
	unsigned fds;

	open_bench(&b, true);
	close_fd(&b.wire);
	harness_run(&b.h);
	fds = open_fds();
	for (unsigned i = 0; i < ARRAY_LEN(failures); i++) {
		CU_ASSERT_TRUE(asks_again(&b));
		CU_ASSERT_TRUE(answer(
		    &b, failures[i].error, failures[i].fds, failures[i].whole));
		close_fd(&b.wire);
		/* Nothing is kept of what was not asked for. */
		CU_ASSERT_EQUAL(open_fds(), fds);
	}
	CU_ASSERT_TRUE(asks_again(&b));
	CU_ASSERT_TRUE(answer(&b, 0, 1, true));
	guest_sends(&b, 5);
	CU_ASSERT_TRUE(switch_got(&b, 5));
	switch_sends(&b, 6, 30);
	CU_ASSERT_TRUE(guest_got(&b, 6, 30));
	/* And again; of two connections it takes one. */
	close_fd(&b.wire);
	guest_sends(&b, 7);
	CU_ASSERT_TRUE(asks_again(&b));
	CU_ASSERT_TRUE(answer(&b, 0, 2, true));
	CU_ASSERT_EQUAL(open_fds(), fds + 2);
	guest_sends(&b, 8);
	CU_ASSERT_TRUE(switch_got(&b, 8));
	close_bench(&b);
}

static void
its_successor_asks_for_a_connection_of_its_own(void)
{
	struct bench b;

	open_bench(&b, true);
	close_fd(&b.wire);
	harness_run(&b.h);
	CU_ASSERT_TRUE(answer(&b, 0, 1, true));
	guest_sends(&b, 1);
	CU_ASSERT_TRUE(switch_got(&b, 1));
	/* The connection dies with the process. */
	harness_restart(&b.h);
	harness_run(&b.h);
	CU_ASSERT_TRUE(asks_again(&b));
	CU_ASSERT_TRUE(answer(&b, 0, 1, true));
	guest_sends(&b, 2);
	CU_ASSERT_TRUE(switch_got(&b, 2));
	close_bench(&b);
}

static void
it_outlives_its_connector(void)
{
	struct bench b;

	open_bench(&b, true);
	close_fd(&b.connector);
	close_fd(&b.wire);
	for (unsigned i = 0; i < 20; i++)
		guest_sends(&b, 1);
	CU_ASSERT(harness_run(&b.h) < 10);
	CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 20);
	close_bench(&b);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(frames_pass_in_both_directions),
		NAMED_TEST(what_is_no_frame_is_dropped),
		NAMED_TEST(a_switch_that_takes_nothing_holds_the_guest_back),
		NAMED_TEST(without_a_connector_it_stays_alone),
		NAMED_TEST(it_comes_back_when_the_switch_does),
		NAMED_TEST(its_successor_asks_for_a_connection_of_its_own),
		NAMED_TEST(it_outlives_its_connector),
	};
	signal(SIGPIPE, SIG_IGN);
	return named_tests_run("net-switch", tests, ARRAY_LEN(tests));
}
