/* virtio-net: both directions, the filter, the control queue, the hostile. */
#include <errno.h>

#include "tests/named_tests.h"
#include "tests/nic_bench.h"

#define BASE (VIRTIO_F_EVENT_IDX | NET_F_CTRL_VQ | NET_F_CTRL_RX)
#define OFFLOADS                                                               \
	(NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | \
	    NET_F_HOST_TSO4 | NET_F_HOST_TSO6)

static const struct {
	const char *name;
	uint64_t features;
} kinds[] = {
	{ "split", BASE },
	{ "split, in order", VIRTIO_F_IN_ORDER },
	{ "packed", BASE | VIRTIO_F_RING_PACKED },
	{ "packed, merged", BASE | VIRTIO_F_RING_PACKED | NET_F_MRG_RXBUF },
	{ "split, merged", NET_F_MRG_RXBUF },
};

static uint8_t frame[FRAME_MAX + 2];

/* ---- transmit ---- */

static void
frames_leave_as_the_guest_made_them(void)
{
	static const size_t sizes[] = { 14, 60, 1514, 9014, FRAME_MAX };
	static const size_t pieces[] = { 12, 100, 4096, BENCH_FRAME };
	const struct net_header h = { .hdr_len = 99, .num_buffers = 7 };

	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		struct bench b;

		bench_open(&b, kinds[k].features);
		for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
			for (unsigned p = 0; p < ARRAY_LEN(pieces); p++) {
				size_t n = sizes[i], piece = pieces[p];
				const uint8_t *data;
				uint8_t plain[FRAME_HEADER] = { 0 };

				if ((n + FRAME_HEADER) / piece >= 16)
					continue;
				bench_frame(frame, n, 2, 1, i * 4 + p);
				bench_send_at(
				    &b, TX0, b.buffer, &h, frame, n, piece);
				driver_kick(&b.d, TX0);
				harness_run(&b.h);
				CU_ASSERT_EQUAL_FATAL(bench_arrived(&b, &data),
				    (ssize_t)(n + FRAME_HEADER));
				plain[2] = 99;
				CU_ASSERT_EQUAL(
				    memcmp(data, plain, FRAME_HEADER), 0);
				CU_ASSERT_EQUAL(
				    memcmp(data + FRAME_HEADER, frame, n), 0);
				CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
			}
		}
		harness_close(&b.h);
	}
}

static void
what_is_no_frame_is_used_and_not_sent(void)
{
	static const struct {
		struct net_header h;
		size_t n;
		uint64_t features;
		bool sent;
	} rows[] = {
		{ { 0 }, 0, OFFLOADS, false },
		{ { 0 }, 13, OFFLOADS, false },
		{ { 0 }, 14, OFFLOADS, true },
		{ { 0 }, FRAME_MAX + 1, OFFLOADS, false },
		{ { 1, 0, 0, 0, 34, 16, 0 }, 60, OFFLOADS, true },
		{ { 1, 0, 0, 0, 34, 16, 0 }, 60, 0, false },
		{ { 1, 0, 0, 0, 34, 16, 0 }, 51, OFFLOADS, false },
		{ { 1, 1, 0, 1448, 34, 16, 0 }, 9000, OFFLOADS, true },
		{ { 1, 1, 0, 1448, 34, 16, 0 }, 9000, NET_F_CSUM, false },
		{ { 1, 1, 0, 1448, 34, 16, 0 }, 9000,
		    NET_F_CSUM | NET_F_HOST_TSO6, false },
		{ { 1, 0x81, 0, 1448, 34, 16, 0 }, 9000, OFFLOADS, false },
		{ { 1, 0x81, 0, 1448, 34, 16, 0 }, 9000,
		    OFFLOADS | NET_F_HOST_ECN, true },
		{ { 1, 3, 0, 1448, 34, 6, 0 }, 9000, OFFLOADS, false },
		{ { 1, 5, 0, 1448, 34, 6, 0 }, 9000, OFFLOADS, false },
		{ { 0xfe, 0, 0, 0, 0, 0, 0 }, 60, OFFLOADS, true },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		const uint8_t *data = NULL;
		ssize_t n;

		bench_open(&b, rows[i].features);
		bench_frame(frame, rows[i].n, 2, 1, i);
		bench_send(&b, &rows[i].h, frame, rows[i].n);
		n = bench_arrived(&b, &data);
		CU_ASSERT_EQUAL(n,
		    rows[i].sent ? (ssize_t)(rows[i].n + FRAME_HEADER)
				 : -EAGAIN);
		/* Only what may pass passes. */
		CU_ASSERT(n < 0 || (data[0] & ~NET_NEEDS_CSUM) == 0);
		CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
		CU_ASSERT_EQUAL(
		    bench_counter(&b, NIC_TX_MALFORMED), !rows[i].sent);
		CU_ASSERT_FALSE(driver_status(&b.d) & VIRTIO_NEEDS_RESET);
		harness_close(&b.h);
	}
}

static void
a_chain_shorter_than_a_header_is_used(void)
{
	struct bench b;
	const uint8_t *data;

	bench_open(&b, BASE);
	for (uint32_t n = 1; n < FRAME_HEADER; n++) {
		driver_put(
		    &b.d, TX0, &(struct driver_seg){ b.buffer, n, false }, 1);
		driver_kick(&b.d, TX0);
		harness_run(&b.h);
		CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
	}
	/* Nor does one that has nothing to read. */
	driver_put(&b.d, TX0, &(struct driver_seg){ b.buffer, 100, true }, 1);
	driver_kick(&b.d, TX0);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
	CU_ASSERT_EQUAL(bench_arrived(&b, &data), -EAGAIN);
	CU_ASSERT_EQUAL(bench_counter(&b, NIC_TX_MALFORMED), 12);
	harness_close(&b.h);
}

/* ---- receive ---- */

static void
a_frame_comes_as_the_peer_made_it(void)
{
	static const size_t sizes[] = { 14, 60, 1514 };
	const struct net_header h = { .num_buffers = 9 };

	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		struct bench b;

		bench_open(&b, kinds[k].features);
		for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
			size_t n = sizes[i];
			uint64_t gpa = bench_give_buffer(&b, RX0, 1526);
			struct net_header got;

			driver_kick(&b.d, RX0);
			bench_frame(frame, n, 1, 2, i);
			bench_peer_puts(&b, &h, frame, n);
			harness_run(&b.h);
			CU_ASSERT_EQUAL(
			    bench_take(&b, RX0), (int)(n + FRAME_HEADER));
			memcpy(&got, driver_at(&b.d, gpa), sizeof(got));
			CU_ASSERT_EQUAL(got.num_buffers, 1);
			CU_ASSERT_EQUAL(got.flags, 0);
			CU_ASSERT_EQUAL(
			    memcmp(
				driver_at(&b.d, gpa + FRAME_HEADER), frame, n),
			    0);
			CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), b.to);
		}
		harness_close(&b.h);
	}
}

static void
a_long_frame_is_spread_over_merged_buffers(void)
{
	static const uint32_t sizes[] = { 100, 12, 1, 500, 4000 };
	const struct net_header h = { 0 };
	uint8_t together[FRAME_HEADER + 4000];
	uint64_t gpa[ARRAY_LEN(sizes)];
	struct net_header got;
	struct bench b;
	size_t at = 0;

	bench_open(&b, BASE | NET_F_MRG_RXBUF);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++)
		gpa[i] = bench_give_buffer(&b, RX0, sizes[i]);
	driver_kick(&b.d, RX0);
	bench_frame(frame, 3000, 1, 2, 5);
	bench_peer_puts(&b, &h, frame, 3000);
	harness_run(&b.h);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		int n = bench_take(&b, RX0);

		CU_ASSERT_FATAL(n > 0);
		CU_ASSERT_EQUAL(
		    (size_t)n, MIN(sizes[i], sizeof(got) + 3000 - at));
		memcpy(together + at, driver_at(&b.d, gpa[i]), (size_t)n);
		at += (size_t)n;
	}
	CU_ASSERT_EQUAL(at, FRAME_HEADER + 3000);
	memcpy(&got, together, sizeof(got));
	CU_ASSERT_EQUAL(got.num_buffers, ARRAY_LEN(sizes));
	CU_ASSERT_EQUAL(memcmp(together + FRAME_HEADER, frame, 3000), 0);
	harness_close(&b.h);
}

static void
a_frame_waits_for_buffers_and_keeps_its_place(void)
{
	const struct net_header h = { 0 };

	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		bool merged = (kinds[k].features & NET_F_MRG_RXBUF) != 0;
		struct bench b;
		uint64_t gpa;

		bench_open(&b, kinds[k].features);
		for (unsigned i = 0; i < 3; i++) {
			bench_frame(frame, 1000, 1, 2, i);
			bench_peer_puts(&b, &h, frame, 1000);
		}
		harness_run(&b.h);
		CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 0);
		if (merged) {
			/* Too little for one: it is put back. */
			bench_give_buffer(&b, RX0, 600);
			driver_kick(&b.d, RX0);
			harness_run(&b.h);
			CU_ASSERT_EQUAL(bench_take(&b, RX0), -1);
			bench_give_buffer(&b, RX0, 500);
			driver_kick(&b.d, RX0);
			harness_run(&b.h);
			CU_ASSERT_EQUAL(bench_take(&b, RX0), 600);
			CU_ASSERT_EQUAL(bench_take(&b, RX0), 412);
		}
		for (unsigned i = merged; i < 3; i++) {
			gpa = bench_give_buffer(&b, RX0, 2000);
			driver_kick(&b.d, RX0);
			harness_run(&b.h);
			CU_ASSERT_EQUAL(bench_take(&b, RX0), 1012);
			CU_ASSERT_EQUAL(bench_take(&b, RX0), -1);
			bench_frame(frame, 1000, 1, 2, i);
			CU_ASSERT_EQUAL(
			    memcmp(driver_at(&b.d, gpa + FRAME_HEADER), frame,
				1000),
			    0);
		}
		CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 3);
		harness_close(&b.h);
	}
}

static void
what_does_not_fit_is_lost_and_the_buffer_is_not(void)
{
	const struct net_header h = { 0 };
	struct bench b;

	bench_open(&b, BASE);
	bench_give_buffer(&b, RX0, 100);
	bench_peer_puts(&b, &h, frame, 89);
	bench_frame(frame, 88, 1, 2, 1);
	bench_peer_puts(&b, &h, frame, 88);
	driver_kick(&b.d, RX0);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, RX0), 100);
	CU_ASSERT_EQUAL(bench_counter(&b, NIC_RX_TOO_LONG), 1);
	harness_close(&b.h);
}

static void
frames_that_come_too_early_are_thrown_away(void)
{
	const struct net_header h = { 0 };
	struct bench b;

	bench_open(&b, BASE);
	driver_set_status(&b.d, 0);
	bench_peer_puts(&b, &h, frame, 60);
	bench_peer_puts(&b, &h, frame, 60);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), 2);
	CU_ASSERT_EQUAL(bench_counter(&b, NIC_RX_UNREADY), 2);
	harness_close(&b.h);
}

/* ---- a hostile peer ---- */

static void
a_peer_that_lies_harms_nobody(void)
{
	static const uint32_t lengths[] = { 0, 1, 11, 12, 25,
		PACKET_BYTES_MAX + 1, UINT32_MAX };
	const struct net_header h = { 0 };
	struct bench b;

	bench_open(&b, BASE);
	bench_give_buffer(&b, RX0, 2000);
	driver_kick(&b.d, RX0);
	for (unsigned i = 0; i < ARRAY_LEN(lengths); i++) {
		bench_peer_puts(&b, &h, frame, 60);
		b.h.link_to[0]->slot[i].length = lengths[i];
	}
	harness_run(&b.h);
	CU_ASSERT_EQUAL(packet_tail(b.h.link_to[0]), ARRAY_LEN(lengths));
	CU_ASSERT_EQUAL(
	    bench_counter(&b, NIC_RX_MALFORMED), ARRAY_LEN(lengths));
	/* An impossible index: it waits for another peer. */
	atomic_store(&b.h.link_to[0]->head, 1ull << 40);
	atomic_store(&b.h.link_from[0]->tail, 1ull << 50);
	harness_run(&b.h);
	bench_frame(frame, 60, 2, 1, 1);
	bench_send(&b, &h, frame, 60);
	CU_ASSERT_EQUAL(bench_take(&b, RX0), -1);
	CU_ASSERT(bench_counter(&b, NIC_PEER_BROKEN) > 0);
	/* The next peer takes up the rings, and all is well. */
	packet_resume_producer(b.h.link_to[0]);
	b.from = packet_resume(b.h.link_from[0], 0);
	bench_peer_puts(&b, &h, frame, 60);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, RX0), 72);
	harness_close(&b.h);
}

/* ---- offloads ---- */

/* An IPv4 TCP frame with a checksum that is still to be completed. */
static size_t
tcp_frame(uint8_t *f, size_t payload, struct net_header *h)
{
	size_t n = 54 + payload;
	uint16_t sum;

	bench_frame(f, n, 1, 2, 7);
	f[12] = 0x08;
	f[13] = 0x00;
	f[14] = 0x45;
	f[16] = (uint8_t)((n - 14) >> 8);
	f[17] = (uint8_t)(n - 14);
	f[20] = f[21] = 0;
	f[23] = 6;
	f[46] = 0x50;
	f[47] = 0x18;
	memset(f + 50, 0, 2);
	sum = frame_sum(
	    f + 26, 8, (uint16_t)__builtin_bswap16((uint16_t)(n - 34 + 6)));
	memcpy(f + 50, &sum, 2);
	*h = (struct net_header){
		.flags = NET_NEEDS_CSUM,
		.csum_start = 34,
		.csum_offset = 16,
	};
	return n;
}

static bool
tcp_is_right(const uint8_t *f, size_t n)
{
	uint16_t pseudo = frame_sum(
	    f + 26, 8, (uint16_t)__builtin_bswap16((uint16_t)(n - 34 + 6)));

	return frame_sum(f + 34, n - 34, pseudo) == 0xffff;
}

static void
what_the_driver_cannot_do_is_done_for_it(void)
{
	static const struct {
		uint64_t features;
		bool gso;
		unsigned frames;
		bool touched;
	} rows[] = {
		{ OFFLOADS, false, 1, false },
		{ OFFLOADS, true, 1, false },
		{ NET_F_GUEST_CSUM, false, 1, false },
		{ NET_F_GUEST_CSUM, true, 4, true },
		{ NET_F_GUEST_CSUM | NET_F_GUEST_TSO6, true, 4, true },
		{ 0, false, 1, true },
		{ 0, true, 4, true },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct net_header h, got;
		struct bench b;
		size_t n = tcp_frame(frame, 3500, &h);
		uint64_t gpa[5];
		unsigned frames = 0;
		int bytes;

		bench_open(&b, rows[i].features);
		for (unsigned k = 0; k < ARRAY_LEN(gpa); k++)
			gpa[k] = bench_give_buffer(&b, RX0, 4096);
		driver_kick(&b.d, RX0);
		if (rows[i].gso) {
			h.gso_type = NET_GSO_TCPV4;
			h.gso_size = 1000;
		}
		bench_peer_puts(&b, &h, frame, n);
		harness_run(&b.h);
		while ((bytes = bench_take(&b, RX0)) > 0) {
			const uint8_t *at = driver_at(&b.d, gpa[frames]);

			memcpy(&got, at, sizeof(got));
			CU_ASSERT_EQUAL(got.num_buffers, 1);
			if (rows[i].touched) {
				CU_ASSERT_EQUAL(got.flags, 0);
				CU_ASSERT_EQUAL(got.gso_type, 0);
				CU_ASSERT_TRUE(tcp_is_right(at + FRAME_HEADER,
				    (size_t)bytes - FRAME_HEADER));
			} else {
				CU_ASSERT_EQUAL(got.flags, h.flags);
				CU_ASSERT_EQUAL(got.gso_type, h.gso_type);
				CU_ASSERT_EQUAL(
				    memcmp(at + FRAME_HEADER, frame, n), 0);
			}
			frames++;
		}
		CU_ASSERT_EQUAL(frames, rows[i].frames);
		harness_close(&b.h);
	}
}

/* ---- the control queue ---- */

/* Give a command; its answer, or -1 if there was none. */
static int
command(struct bench *b, unsigned q, const void *bytes, uint32_t n)
{
	uint64_t gpa = driver_alloc(&b->d, 4096);
	struct driver_seg s[2] = { { gpa, n, false }, { gpa + 4000, 1, true } };
	int written;

	memcpy(driver_at(&b->d, gpa), bytes, n);
	*(uint8_t *)driver_at(&b->d, gpa + 4000) = 0x55;
	driver_put(&b->d, q, s, 2);
	driver_kick(&b->d, q);
	harness_run(&b->h);
	written = bench_take(b, q);
	return written == 1 ? *(uint8_t *)driver_at(&b->d, gpa + 4000) : -1;
}

static void
answers_every_command(void)
{
	static const struct {
		uint64_t features;
		uint8_t bytes[32];
		uint32_t n;
		int answer;
	} rows[] = {
		{ 0, { 0, 0, 1 }, 3, 0 }, /* promiscuous */
		{ 0, { 0, 0 }, 2, 1 },
		{ 0, { 0 }, 1, 1 },
		{ 0, { 0, 0, 2 }, 3, 1 },
		{ 0, { 0, 1, 0 }, 3, 0 }, /* all multicast */
		{ 0, { 0, 2, 1 }, 3, 1 }, /* all unicast: extra */
		{ NET_F_CTRL_RX_EXTRA, { 0, 2, 1 }, 3, 0 },
		{ NET_F_CTRL_RX_EXTRA, { 0, 5, 1 }, 3, 0 },
		{ NET_F_CTRL_RX_EXTRA, { 0, 6, 1 }, 3, 1 },
		{ 0, { 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, 0 }, /* tables */
		{ 0, { 1, 0, 0, 0, 0, 0, 0, 0, 0 }, 9, 1 },
		{ 0, { 1, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0 }, 16,
		    0 },
		{ 0, { 1, 0, 2, 0, 0, 0, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0 }, 16,
		    1 },
		{ 0, { 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 10, 1 },
		{ 0, { 1, 1, 2, 0, 0, 0, 0, 9 }, 8, 1 }, /* the address */
		{ NET_F_CTRL_MAC_ADDR, { 1, 1, 2, 0, 0, 0, 0, 9 }, 8, 0 },
		{ NET_F_CTRL_MAC_ADDR, { 1, 1, 2, 0, 0, 0, 0 }, 7, 1 },
		{ 0, { 1, 2, 0 }, 3, 1 },
		{ NET_F_CTRL_VLAN, { 2, 0, 5, 0 }, 4, 0 }, /* VLANs */
		{ NET_F_CTRL_VLAN, { 2, 1, 5, 0 }, 4, 0 },
		{ NET_F_CTRL_VLAN, { 2, 2, 5, 0 }, 4, 1 },
		{ NET_F_CTRL_VLAN, { 2, 0, 0, 16 }, 4, 1 },
		{ NET_F_CTRL_VLAN, { 2, 0, 5 }, 3, 1 },
		{ 0, { 2, 0, 5, 0 }, 4, 1 },
		{ 0, { 3, 0 }, 2, 1 }, /* announced */
		{ NET_F_GUEST_ANNOUNCE, { 3, 0 }, 2, 0 },
		{ NET_F_GUEST_ANNOUNCE, { 3, 1 }, 2, 1 },
		{ 0, { 4, 0, 1, 0 }, 4, 1 }, /* pairs: not negotiated */
		{ NET_F_CTRL_GUEST_OFFLOADS | NET_F_GUEST_CSUM,
		    { 5, 0, 2, 0, 0, 0, 0, 0, 0, 0 }, 10, 0 },
		{ NET_F_CTRL_GUEST_OFFLOADS | NET_F_GUEST_CSUM,
		    { 5, 0, 130, 0, 0, 0, 0, 0, 0, 0 }, 10, 1 },
		{ NET_F_GUEST_CSUM, { 5, 0, 2, 0, 0, 0, 0, 0, 0, 0 }, 10, 1 },
		{ 0, { 6, 0, 0 }, 3, 1 },
		{ 0, { 255, 255, 255 }, 3, 1 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;

		bench_open(&b, BASE | rows[i].features);
		CU_ASSERT_EQUAL(
		    command(&b, BENCH_CONTROL, rows[i].bytes, rows[i].n),
		    rows[i].answer);
		/* What was accepted is committed: a successor has it. */
		if (rows[i].answer == 0) {
			struct nic before = *bench_state(&b);

			harness_restart(&b.h);
			CU_ASSERT_EQUAL(
			    memcmp(&before.mac, &bench_state(&b)->mac,
				sizeof(before) - offsetof(struct nic, mac)),
			    0);
		}
		CU_ASSERT_FALSE(driver_status(&b.d) & VIRTIO_NEEDS_RESET);
		harness_close(&b.h);
	}
}

static void
a_command_without_room_for_an_answer_breaks_the_device(void)
{
	struct bench b;

	bench_open(&b, BASE);
	driver_put(
	    &b.d, BENCH_CONTROL, &(struct driver_seg){ b.buffer, 3, false }, 1);
	driver_kick(&b.d, BENCH_CONTROL);
	harness_run(&b.h);
	CU_ASSERT_TRUE(driver_status(&b.d) & VIRTIO_NEEDS_RESET);
	harness_close(&b.h);
}

/* ---- the filter ---- */

static void
lets_in_what_was_asked_for(void)
{
	static const uint8_t own[6] = { 2, 0, 0, 0, 0, 1 };
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
	static const uint8_t group[6] = { 3, 0, 0, 0, 0, 1 };
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	static const struct {
		const uint8_t *to;
		struct nic s;
		bool wanted;
	} rows[] = {
		{ own, { .promiscuous = false }, true },
		{ own, { .no_unicast = true }, false },
		{ other, { .promiscuous = false }, false },
		{ other, { .promiscuous = true }, true },
		{ other, { .all_unicast = true }, true },
		{ other, { .many_unicast = true }, true },
		{ other, { .nunicast = 1, .unicast = { { 2, 0, 0, 0, 0, 9 } } },
		    true },
		{ other,
		    { .nmulticast = 1, .multicast = { { 2, 0, 0, 0, 0, 9 } } },
		    false },
		{ group, { .promiscuous = false }, false },
		{ group, { .all_multicast = true }, true },
		{ group, { .many_multicast = true }, true },
		{ group, { .all_multicast = true, .no_multicast = true },
		    false },
		{ group,
		    { .nmulticast = 1, .multicast = { { 3, 0, 0, 0, 0, 1 } } },
		    true },
		{ all, { .promiscuous = false }, true },
		{ all, { .no_broadcast = true }, false },
		{ all, { .no_multicast = true }, true },
	};
	static const struct {
		bool tagged;
		uint16_t vlan;
		struct nic s;
		bool wanted;
	} vlans[] = {
		{ false, 0, { .promiscuous = true }, true },
		{ true, 0, { .promiscuous = true }, true },
		{ true, 70, { .promiscuous = true }, false },
		{ true, 70, { .promiscuous = true, .all_vlans = true }, true },
		{ true, 70, { .promiscuous = true, .vlan = { 0, 64 } }, true },
		{ true, 71, { .promiscuous = true, .vlan = { 0, 64 } }, false },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct nic s = rows[i].s;
		const struct frame_layout l = { 0 };

		memcpy(s.mac, own, 6);
		CU_ASSERT_EQUAL(nic_wants(&s, rows[i].to, &l), rows[i].wanted);
	}
	for (unsigned i = 0; i < ARRAY_LEN(vlans); i++) {
		const struct frame_layout l = {
			.tagged = vlans[i].tagged,
			.vlan = vlans[i].vlan,
		};

		CU_ASSERT_EQUAL(
		    nic_wants(&vlans[i].s, own, &l), vlans[i].wanted);
	}
}

static void
the_filter_is_in_the_way_of_frames(void)
{
	static const uint8_t quiet[] = { 0, 0, 0 };
	const struct net_header h = { 0 };
	struct bench b;
	uint8_t mac[8] = { 1, 1, 2, 0, 0, 0, 0, 1 };

	bench_open(&b, BASE | NET_F_CTRL_MAC_ADDR);
	bench_give_buffer(&b, RX0, 2000);
	driver_kick(&b.d, RX0);
	CU_ASSERT_EQUAL(command(&b, BENCH_CONTROL, quiet, 3), 0);
	CU_ASSERT_EQUAL(command(&b, BENCH_CONTROL, mac, 8), 0);
	bench_frame(frame, 60, 9, 2, 1);
	bench_peer_puts(&b, &h, frame, 60);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, RX0), -1);
	CU_ASSERT_EQUAL(bench_counter(&b, NIC_RX_FILTERED), 1);
	bench_frame(frame, 60, 1, 2, 1);
	bench_peer_puts(&b, &h, frame, 60);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, RX0), 72);
	harness_close(&b.h);
}

/* ---- several queues ---- */

static void
a_flow_comes_back_to_the_pair_that_sends_it(void)
{
	struct bench_option options[] = { { "queues", "4" }, { NULL, NULL } };
	static const uint8_t pairs[] = { 4, 0, 4, 0 };
	static const uint8_t too_many[] = { 4, 0, 5, 0 };
	static const uint8_t none[] = { 4, 0, 0, 0 };
	struct net_header h;
	struct bench b;
	size_t n = tcp_frame(frame, 100, &h);
	const uint8_t *data;

	bench_open_with(&b, BASE | OFFLOADS | NET_F_MQ, 16, options);
	CU_ASSERT_EQUAL(driver_config(&b.d, 8, 2), 4);
	CU_ASSERT_EQUAL(command(&b, 8, too_many, 4), 1);
	CU_ASSERT_EQUAL(command(&b, 8, none, 4), 1);
	CU_ASSERT_EQUAL(command(&b, 8, pairs, 4), 0);
	for (unsigned q = 0; q < 8; q += 2) {
		bench_give_buffer(&b, q, 2000);
		driver_kick(&b.d, q);
	}
	bench_send_at(&b, 5, b.buffer, &h, frame, n, BENCH_FRAME);
	driver_kick(&b.d, 5);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_arrived(&b, &data), (ssize_t)n + 12);
	CU_ASSERT_EQUAL(bench_take(&b, 5), 0);
	bench_peer_puts(&b, &h, frame, n);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, 0), -1);
	CU_ASSERT_EQUAL(bench_take(&b, 4), (int)n + 12);
	harness_close(&b.h);
}

/* ---- options ---- */

static void
takes_its_options(void)
{
	static const struct {
		const char *key, *val;
		int result;
	} rows[] = {
		{ "mac", "52:54:00:12:34:56", 0 },
		{ "mac", "53:54:00:12:34:56", -EINVAL }, /* a group */
		{ "mac", "52:54:00:12:34:5", -EINVAL },
		{ "mac", "52:54:00:12:34:56:78", -EINVAL },
		{ "mac", "52-54-00-12-34-56", -EINVAL },
		{ "mac", "5 :54:00:12:34:56", -EINVAL },
		{ "mac", "52:54:00:12:34:-6", -EINVAL },
		{ "mac", "", -EINVAL },
		{ "mtu", "1500", 0 },
		{ "mtu", "9k", 0 },
		{ "mtu", "67", -EINVAL },
		{ "mtu", "65522", -EINVAL },
		{ "queues", "8", 0 },
		{ "queues", "9", -EINVAL },
		{ "queues", "0", -EINVAL },
		{ "bps", "100M", 0 },
		{ "bps", "-1", -EINVAL },
		{ "bps", "1T", -EINVAL },
		{ "bps", "99999999999999999999", -EINVAL },
		{ "bps", "9999999999999G", -EINVAL },
		{ "pps", "0", 0 },
		{ "pps", "1kk", -EINVAL },
		{ "link", "down", 0 },
		{ "link", "sideways", -EINVAL },
		{ "speed", "10", -ENOENT },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		const struct device_type *t = device_type_find("virtio-net");
		struct bench_option o[] = { { rows[i].key, rows[i].val },
			{ NULL, NULL } };
		struct harness h;

		harness_make(&h, t, 1);
		harness_prepare(&h, t);
		CU_ASSERT_EQUAL(engine_attach(&h.dev, t, &h.config), 0);
		CU_ASSERT_EQUAL(
		    engine_start(&h.dev, bench_set, o), rows[i].result);
		harness_close(&h);
	}
}

static void
tells_the_driver_what_it_is(void)
{
	struct bench_option o[] = { { "mac", "52:54:00:12:34:56" },
		{ "mtu", "9000" }, { "queues", "3" }, { NULL, NULL } };
	struct bench b;

	bench_open_with(&b, BASE | NET_F_STATUS | NET_F_MTU, 16, o);
	CU_ASSERT_EQUAL(driver_config(&b.d, 0, 4), 0x12005452);
	CU_ASSERT_EQUAL(driver_config(&b.d, 4, 2), 0x5634);
	CU_ASSERT_EQUAL(driver_config(&b.d, 6, 2), 1); /* link up */
	CU_ASSERT_EQUAL(driver_config(&b.d, 8, 2), 3);
	CU_ASSERT_EQUAL(driver_config(&b.d, 10, 2), 9000);
	CU_ASSERT_TRUE(driver_offered(&b.d) & NET_F_MQ);
	harness_close(&b.h);
	bench_open(&b, BASE);
	CU_ASSERT_FALSE(driver_offered(&b.d) & (NET_F_MTU | NET_F_MQ));
	/* A station's address, locally administered, and the same for ever. */
	CU_ASSERT_EQUAL(driver_config(&b.d, 0, 1) & 3, 2);
	CU_ASSERT_NOT_EQUAL(driver_config(&b.d, 1, 4), 0);
	{
		uint64_t mac = driver_config(&b.d, 1, 4);

		harness_restart(&b.h);
		CU_ASSERT_EQUAL(driver_config(&b.d, 1, 4), mac);
	}
	harness_close(&b.h);
}

static int
reconfigure(struct bench *b, const char *key, const char *val)
{
	const char *const keys[] = { key }, *const vals[] = { val };
	unsigned bad;

	return engine_reconfigure(&b->h.dev, 1, keys, vals, &bad);
}

static void
the_cable_can_be_pulled(void)
{
	const struct net_header h = { 0 };
	const uint8_t *data;
	struct bench b;

	bench_open(&b, BASE | NET_F_STATUS | NET_F_GUEST_ANNOUNCE);
	(void)harness_msi(&b.h, 0);
	bench_give_buffer(&b, RX0, 2000);
	driver_kick(&b.d, RX0);
	CU_ASSERT_EQUAL(reconfigure(&b, "link", "down"), 0);
	CU_ASSERT_EQUAL(harness_msi(&b.h, 0), 1);
	CU_ASSERT_EQUAL(driver_config(&b.d, 6, 2), 0);
	bench_frame(frame, 60, 1, 2, 1);
	bench_send(&b, &h, frame, 60);
	CU_ASSERT_EQUAL(bench_arrived(&b, &data), -EAGAIN);
	CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
	bench_peer_puts(&b, &h, frame, 60);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, RX0), -1);
	CU_ASSERT_EQUAL(reconfigure(&b, "link", "up"), 0);
	CU_ASSERT_EQUAL(harness_msi(&b.h, 0), 1);
	CU_ASSERT_EQUAL(driver_config(&b.d, 6, 2), 3); /* announce yourself */
	CU_ASSERT_EQUAL(
	    command(&b, BENCH_CONTROL, (const uint8_t[]){ 3, 0 }, 2), 0);
	CU_ASSERT_EQUAL(driver_config(&b.d, 6, 2), 1);
	bench_send(&b, &h, frame, 60);
	CU_ASSERT_EQUAL(bench_arrived(&b, &data), 72);
	CU_ASSERT_EQUAL(reconfigure(&b, "mac", "02:00:00:00:00:01"), -ENOENT);
	CU_ASSERT_EQUAL(reconfigure(&b, "link", "left"), -EINVAL);
	harness_close(&b.h);
}

static void
without_a_link_it_is_down(void)
{
	const struct harness_want want = { .no_links = true };
	const struct net_header h = { 0 };
	struct bench b;

	memset(&b, 0, sizeof(b));
	harness_open_want(&b.h, "virtio-net", &want);
	driver_open(&b.d, &b.h, BASE | NET_F_STATUS);
	b.buffer = driver_alloc(&b.d, BENCH_FRAME);
	CU_ASSERT_EQUAL(driver_config(&b.d, 6, 2), 0);
	bench_send(&b, &h, frame, 60);
	CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
	harness_close(&b.h);
}

/* ---- rates and back-pressure ---- */

static void
a_rate_is_kept(void)
{
	struct bench_option o[] = { { "pps", "100" }, { NULL, NULL } };
	const struct net_header h = { 0 };
	struct bench b;
	const uint8_t *data;
	unsigned sent = 0;
	uint64_t due;

	bench_open_with(&b, BASE, 16, o);
	bench_frame(frame, 60, 2, 1, 1);
	for (unsigned i = 0; i < 10; i++)
		bench_send(&b, &h, frame, 60);
	while (bench_arrived(&b, &data) > 0)
		sent++;
	/* One each 10 ms, and those of 20 ms at once. */
	CU_ASSERT(sent >= 3 && sent < 10);
	due = engine_timer(&b.h.dev);
	CU_ASSERT(due > 0 && due <= 10000000);
	/* All of them in the end: the device asks to be woken. */
	for (unsigned i = 0; i < 2000 && sent < 10; i++) {
		usleep(1000);
		(void)engine_timer(&b.h.dev);
		harness_run(&b.h);
		while (bench_arrived(&b, &data) > 0)
			sent++;
	}
	CU_ASSERT_EQUAL(sent, 10);
	harness_close(&b.h);
}

static void
a_full_link_holds_the_guest_back(void)
{
	const struct net_header h = { 0 };
	struct bench b;
	const uint8_t *data;
	unsigned sent = 0, wrong = 0;

	bench_open(&b, BASE);
	for (unsigned i = 0; i < PACKET_SLOTS; i++) {
		bench_frame(frame, 60, 2, 1, i);
		bench_send(&b, &h, frame, 60);
		wrong += bench_take(&b, TX0) != 0;
	}
	bench_frame(frame, 60, 2, 1, PACKET_SLOTS);
	bench_send(&b, &h, frame, 60);
	CU_ASSERT_EQUAL(bench_take(&b, TX0), -1);
	CU_ASSERT_EQUAL(bench_arrived(&b, &data), 72);
	harness_run(&b.h);
	CU_ASSERT_EQUAL(bench_take(&b, TX0), 0);
	for (sent = 1; bench_arrived(&b, &data) > 0; sent++) {
		bench_frame(frame, 60, 2, 1, sent);
		wrong += memcmp(data + FRAME_HEADER, frame, 60) != 0;
	}
	CU_ASSERT_EQUAL(sent, PACKET_SLOTS + 1);
	CU_ASSERT_EQUAL(wrong, 0);
	harness_close(&b.h);
}

/* ---- restarts ---- */

static void
a_restart_between_any_two_steps_loses_nothing(void)
{
	const struct net_header h = { 0 };

	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		struct bench b;
		const uint8_t *data;
		unsigned wrong = 0;

		bench_open(&b, kinds[k].features);
		for (unsigned i = 0; i < 40; i++) {
			uint64_t gpa = bench_give_buffer(&b, RX0, 1600);

			if (i % 2)
				harness_restart(&b.h);
			driver_kick(&b.d, RX0);
			if (i % 3 == 0)
				harness_restart(&b.h);
			bench_frame(frame, 100 + i, 1, 2, i);
			bench_peer_puts(&b, &h, frame, 100 + i);
			if (i % 5 == 0)
				harness_restart(&b.h);
			harness_run(&b.h);
			if (i % 7 == 0)
				harness_restart(&b.h);
			wrong += bench_take(&b, RX0) != (int)(112 + i);
			wrong += bench_take(&b, RX0) != -1;
			wrong += memcmp(driver_at(&b.d, gpa + FRAME_HEADER),
				     frame, 100 + i) != 0;
			bench_send_at(
			    &b, TX0, b.buffer, &h, frame, 100 + i, BENCH_FRAME);
			if (i % 11 == 0)
				harness_restart(&b.h);
			driver_kick(&b.d, TX0);
			harness_restart(&b.h);
			harness_run(&b.h);
			wrong += bench_take(&b, TX0) != 0;
			wrong += bench_arrived(&b, &data) != (int)(112 + i);
			wrong += bench_arrived(&b, &data) != -EAGAIN;
		}
		CU_ASSERT_EQUAL(wrong, 0);
		harness_close(&b.h);
	}
}

static void
refuses_states_that_cannot_be(void)
{
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = {
		{ offsetof(struct nic, pairs_max), 0 },
		{ offsetof(struct nic, pairs_max), 9 },
		{ offsetof(struct nic, pairs), 0 },
		{ offsetof(struct nic, pairs), 2 },
		{ offsetof(struct nic, nunicast), NIC_MACS_MAX + 1 },
		{ offsetof(struct nic, nmulticast), NIC_MACS_MAX + 1 },
		{ offsetof(struct nic, offloads), 1 },
		{ offsetof(struct nic, up), 2 },
		{ offsetof(struct nic, promiscuous), 7 },
	};
	const struct virtio_class *class =
	    device_type_find("virtio-net")->family;
	struct bench b;

	bench_open(&b, BASE);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct nic bad = *bench_state(&b);

		CU_ASSERT_TRUE(class->valid(&bad));
		((uint8_t *)&bad)[rows[i].at] = rows[i].value;
		CU_ASSERT_FALSE(class->valid(&bad));
	}
	harness_close(&b.h);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(frames_leave_as_the_guest_made_them),
		NAMED_TEST(what_is_no_frame_is_used_and_not_sent),
		NAMED_TEST(a_chain_shorter_than_a_header_is_used),
		NAMED_TEST(a_frame_comes_as_the_peer_made_it),
		NAMED_TEST(a_long_frame_is_spread_over_merged_buffers),
		NAMED_TEST(a_frame_waits_for_buffers_and_keeps_its_place),
		NAMED_TEST(what_does_not_fit_is_lost_and_the_buffer_is_not),
		NAMED_TEST(frames_that_come_too_early_are_thrown_away),
		NAMED_TEST(a_peer_that_lies_harms_nobody),
		NAMED_TEST(what_the_driver_cannot_do_is_done_for_it),
		NAMED_TEST(answers_every_command),
		NAMED_TEST(
		    a_command_without_room_for_an_answer_breaks_the_device),
		NAMED_TEST(lets_in_what_was_asked_for),
		NAMED_TEST(the_filter_is_in_the_way_of_frames),
		NAMED_TEST(a_flow_comes_back_to_the_pair_that_sends_it),
		NAMED_TEST(takes_its_options),
		NAMED_TEST(tells_the_driver_what_it_is),
		NAMED_TEST(the_cable_can_be_pulled),
		NAMED_TEST(without_a_link_it_is_down),
		NAMED_TEST(a_rate_is_kept),
		NAMED_TEST(a_full_link_holds_the_guest_back),
		NAMED_TEST(a_restart_between_any_two_steps_loses_nothing),
		NAMED_TEST(refuses_states_that_cannot_be),
	};
	return named_tests_run("virtio-net", tests, ARRAY_LEN(tests));
}
