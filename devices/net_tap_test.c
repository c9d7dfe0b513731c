/* A tap interface's process; a socket pair stands for the interface. */
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>

#include "devhost/harness.h"
#include "proto/packet.h"
#include "tests/named_tests.h"

#define BYTES (PACKET_HEADER + 60u)

struct bench {
	struct harness h;
	int other; /* the interface's end */
	uint64_t from;
};

static void
open_bench(struct bench *b)
{
	struct harness_want want = { .link_side = 1 };
	int pair[2];

	memset(b, 0, sizeof(*b));
	BUG_ON(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0);
	want.file[0] = pair[0];
	b->other = pair[1];
	harness_open_want(&b->h, "net-tap", &want);
}

static void
close_bench(struct bench *b)
{
	harness_close(&b->h);
	if (b->other >= 0)
		close(b->other);
}

static void
fill(uint8_t *f, size_t n, unsigned mark)
{
	for (size_t i = 0; i < n; i++)
		f[i] = (uint8_t)(i * 3 + mark);
}

static void
guest_sends(struct bench *b, unsigned mark, size_t n)
{
	static uint8_t f[PACKET_BYTES_MAX];
	struct iovec iov = { f, n };

	fill(f, n, mark);
	BUG_ON(packet_put(b->h.link_to[0], &iov, 1) != 0);
}

static bool
interface_got(struct bench *b, unsigned mark, size_t n)
{
	static uint8_t f[PACKET_BYTES_MAX], got[PACKET_BYTES_MAX];

	fill(f, n, mark);
	return recv(b->other, got, sizeof(got), 0) == (ssize_t)n &&
	    memcmp(f, got, n) == 0;
}

static bool
guest_got(struct bench *b, unsigned mark, size_t n)
{
	static uint8_t f[PACKET_BYTES_MAX];
	const uint8_t *data;
	bool same;

	if (packet_peek(b->h.link_from[0], b->from, &data) != (ssize_t)n)
		return false;
	fill(f, n, mark);
	same = memcmp(data, f, n) == 0;
	packet_release(b->h.link_from[0], ++b->from);
	return same;
}

static void
frames_pass_in_both_directions(void)
{
	static const size_t sizes[] = { 26, 72, 1526, PACKET_BYTES_MAX };
	static uint8_t f[PACKET_BYTES_MAX];
	struct bench b;

	open_bench(&b);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		guest_sends(&b, i, sizes[i]);
		harness_run(&b.h);
		CU_ASSERT_TRUE(interface_got(&b, i, sizes[i]));
		fill(f, sizes[i], i + 100);
		CU_ASSERT_EQUAL(
		    send(b.other, f, sizes[i], 0), (ssize_t)sizes[i]);
		harness_run(&b.h);
		CU_ASSERT_TRUE(guest_got(&b, i + 100, sizes[i]));
	}
	close_bench(&b);
}

static void
a_frame_is_written_once_though_the_process_dies(void)
{
	struct bench b;

	open_bench(&b);
	for (unsigned i = 0; i < 300; i++) {
		guest_sends(&b, i, BYTES);
		if (i % 3 == 0)
			harness_restart(&b.h);
		harness_run(&b.h);
		if (i % 2 == 0)
			harness_restart(&b.h);
		CU_ASSERT_TRUE(interface_got(&b, i, BYTES));
	}
	CU_ASSERT_FALSE(interface_got(&b, 0, BYTES));
	close_bench(&b);
}

static void
what_is_no_frame_is_dropped(void)
{
	uint8_t f[25] = { 0 };
	struct bench b;

	open_bench(&b);
	for (size_t n = 1; n <= sizeof(f); n++)
		CU_ASSERT_EQUAL(send(b.other, f, n, 0), (ssize_t)n);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(packet_head(b.h.link_from[0]), 0);
	/* A slot that lies is passed over. */
	guest_sends(&b, 1, BYTES);
	b.h.link_to[0]->slot[0].length = 7;
	guest_sends(&b, 2, BYTES);
	harness_run(&b.h);
	CU_ASSERT_TRUE(interface_got(&b, 2, BYTES));
	close_bench(&b);
}

static void
a_full_link_leaves_frames_in_the_interface(void)
{
	uint8_t f[BYTES];
	struct bench b;
	unsigned sent = 0;

	open_bench(&b);
	for (unsigned i = 0; i < 100000; i++) {
		fill(f, BYTES, sent);
		if (send(b.other, f, BYTES, 0) < 0)
			break;
		sent++;
		harness_run(&b.h);
	}
	CU_ASSERT(sent > PACKET_SLOTS && sent < 100000);
	CU_ASSERT_EQUAL(packet_space(b.h.link_from[0]), 0);
	for (unsigned i = 0; i < sent; i++) {
		CU_ASSERT_TRUE(guest_got(&b, i, BYTES));
		harness_run(&b.h);
	}
	CU_ASSERT_FALSE(guest_got(&b, sent, BYTES));
	close_bench(&b);
}

static void
a_full_interface_leaves_frames_in_the_link(void)
{
	struct bench b;
	unsigned put = 0;

	open_bench(&b);
	while (packet_space(b.h.link_to[0]) > 0 && put < 100000) {
		guest_sends(&b, put++, BYTES);
		harness_run(&b.h);
	}
	CU_ASSERT(put > PACKET_SLOTS && put < 100000);
	for (unsigned i = 0; i < put; i++) {
		CU_ASSERT_TRUE(interface_got(&b, i, BYTES));
		harness_run(&b.h);
	}
	close_bench(&b);
}

static void
it_outlives_its_interface(void)
{
	struct bench b;

	open_bench(&b);
	close(b.other);
	b.other = -1;
	guest_sends(&b, 1, BYTES);
	CU_ASSERT(harness_run(&b.h) < 100);
	CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 1);
	close_bench(&b);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(frames_pass_in_both_directions),
		NAMED_TEST(a_frame_is_written_once_though_the_process_dies),
		NAMED_TEST(what_is_no_frame_is_dropped),
		NAMED_TEST(a_full_link_leaves_frames_in_the_interface),
		NAMED_TEST(a_full_interface_leaves_frames_in_the_link),
		NAMED_TEST(it_outlives_its_interface),
	};
	signal(SIGPIPE, SIG_IGN);
	return named_tests_run("net-tap", tests, ARRAY_LEN(tests));
}
