/* Work on an engine: RAM, doorbells, messages, wiring, links, statistics. */
#include "devhost/worker.h"

#include <CUnit/Basic.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

#define HIGH (1ull << 32)
#define KIB  1024ull

static const struct worker_state *
state(struct harness *h)
{
	return store_committed_state(&h->dev.store);
}

static void
write_register(struct harness *h, uint64_t addr, uint64_t value)
{
	harness_access(h, RING_WRITE, 0, addr, 8, value);
}

static void
ram_is_reached_in_its_two_parts_only(void)
{
	static const struct {
		uint64_t gpa;
		size_t n;
		bool there;
	} cases[] = {
		{ 0, 1, true },
		{ 0, 64 * KIB, true },
		{ 0, 64 * KIB + 1, false },
		{ 64 * KIB - 1, 1, true },
		{ 64 * KIB - 1, 2, false },
		{ 64 * KIB, 1, false },
		{ HIGH - 1, 1, false },
		{ HIGH - 1, 2, false },
		{ HIGH, 1, true },
		{ HIGH, 32 * KIB, true },
		{ HIGH, 32 * KIB + 1, false },
		{ HIGH + 32 * KIB - 1, 1, true },
		{ HIGH + 32 * KIB, 1, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX - 7, 8, false },
		{ 1, SIZE_MAX, false },
		{ HIGH + 1, SIZE_MAX, false },
		{ 64 * KIB, SIZE_MAX - 64 * KIB + 1, false },
	};
	const struct harness_want want = { .ram_low = 64 * KIB,
		.ram_high = 32 * KIB };
	struct harness h;
	uint8_t byte = 0;

	harness_open_want(&h, "worker", &want);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		void *p = device_dma_map(&h.dev, cases[i].gpa, cases[i].n);

		CU_ASSERT_EQUAL(p != NULL, cases[i].there);
		if (cases[i].n == 1)
			CU_ASSERT_EQUAL(
			    device_dma_read(&h.dev, cases[i].gpa, &byte, 1),
			    cases[i].there);
	}
	byte = 0xa5;
	CU_ASSERT(device_dma_write(&h.dev, HIGH + 5, &byte, 1));
	CU_ASSERT_EQUAL(h.ram[64 * KIB + 5], 0xa5);
	CU_ASSERT(device_dma_write(&h.dev, 5, &byte, 1));
	CU_ASSERT_EQUAL(h.ram[5], 0xa5);
	harness_close(&h);
}

static void
pages_given_back_read_as_zeroes(void)
{
	static const struct {
		uint64_t gpa;
		size_t n;
		bool done;
	} cases[] = {
		{ 0x3000, 4096, true },
		{ 0x3000, 0, true },
		{ 0x3001, 4096, false },
		{ 0x3000, 4095, false },
		{ HARNESS_RAM, 4096, false },
		{ HARNESS_RAM - 4096, 8192, false },
	};
	struct harness h;

	harness_open(&h, "worker");
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		memset(h.ram + 0x2000, 0x77, 0x3000);
		CU_ASSERT_EQUAL(
		    device_dma_discard(&h.dev, cases[i].gpa, cases[i].n),
		    cases[i].done);
		CU_ASSERT_EQUAL(
		    h.ram[0x3800], cases[i].done && cases[i].n > 0 ? 0 : 0x77);
		CU_ASSERT_EQUAL(h.ram[0x2fff], 0x77);
		CU_ASSERT_EQUAL(h.ram[0x4000], 0x77);
	}
	CU_ASSERT_EQUAL(h.dev.error, 0);
	harness_close(&h);
}

static void
without_a_grant_there_is_no_ram(void)
{
	const struct harness_want want = { .no_ram = true };
	struct harness h;
	uint8_t byte = 0;

	harness_open_want(&h, "worker", &want);
	CU_ASSERT_FALSE(device_dma_read(&h.dev, 0, &byte, 1));
	CU_ASSERT_FALSE(device_dma_write(&h.dev, 0, &byte, 1));
	CU_ASSERT_PTR_NULL(device_dma_map(&h.dev, 0, 1));
	CU_ASSERT_FALSE(device_dma_discard(&h.dev, 0, 4096));
	harness_ring(&h, 0);
	CU_ASSERT_EQUAL(state(&h)->rung[0], 1);
	harness_close(&h);
}

static void
a_doorbell_is_work_that_is_committed(void)
{
	uint64_t word = 0x1234;
	struct harness h;

	harness_open(&h, "worker");
	memcpy(harness_ram(&h, WORKER_FROM + 8, 8), &word, 8);
	harness_ring(&h, 1);
	memcpy(&word, harness_ram(&h, WORKER_TO + 8, 8), 8);
	CU_ASSERT_EQUAL(word, ~0x1234ull);
	CU_ASSERT_EQUAL(state(&h)->rung[1], 1);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 1);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 0);
	harness_close(&h);
}

static void
a_restart_rings_every_doorbell_and_says_messages_again(void)
{
	struct harness h;

	harness_open(&h, "worker");
	write_register(&h, WORKER_RAISE, 2);
	write_register(&h, WORKER_RAISE, 2);
	CU_ASSERT_EQUAL(harness_msi(&h, 2), 2);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 0);
	harness_restart(&h);
	/* Once, however many there were. */
	CU_ASSERT_EQUAL(harness_msi(&h, 2), 1);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 0);
	for (unsigned i = 0; i < WORKER_DOORBELLS; i++)
		CU_ASSERT_EQUAL(state(&h)->rung[i], 1);
	CU_ASSERT_EQUAL(state(&h)->starts, 2);
	harness_close(&h);
}

/* Requests waiting in ring 0, all the same. */
static void
put_requests(struct harness *h, unsigned n, uint64_t addr, uint64_t data)
{
	struct ring_request r = {
		.addr = addr, .data = data, .op = RING_WRITE, .size = 8
	};

	for (unsigned i = 0; i < n; i++)
		BUG_ON(ring_put(&h->rings->ring[0], &h->pos, &r) != 0);
}

static void
a_burst_of_accesses_sends_a_message_once(void)
{
	struct harness h;

	harness_open(&h, "worker");
	put_requests(&h, 10, WORKER_RAISE, 1);
	while (engine_serve(&h.dev, 0) == 1)
		CU_ASSERT_EQUAL(harness_msi(&h, 1), 0);
	engine_send_irqs(&h.dev);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 1);
	engine_send_irqs(&h.dev);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 0);
	CU_ASSERT_EQUAL(h.dev.store.stats->interrupts, 1);
	harness_close(&h);
}

static void
wiring_is_committed_when_the_answer_is_there(void)
{
	const struct store_wiring *w;
	struct harness h;
	uint64_t answer;

	harness_open(&h, "worker");
	put_requests(&h, 1, WORKER_BAR, 0xc8000000);
	put_requests(&h, 1, WORKER_VECTOR, 0xfee01004);
	/* The same once more is no change. */
	put_requests(&h, 1, WORKER_VECTOR, 0xfee01004);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(engine_serve(&h.dev, 0), 1);
		CU_ASSERT_EQUAL(
		    ring_poll_answer(&h.rings->ring[0], i, &answer), 1);
		w = store_committed_wiring(&h.dev.store);
		CU_ASSERT_EQUAL(w->generation, MIN(i + 1, 2));
		CU_ASSERT_EQUAL(w->bar[1], 0xc8000000);
		CU_ASSERT_EQUAL(w->bar[0], STORE_UNMAPPED);
		CU_ASSERT_EQUAL(w->vector[2].address, i > 0 ? 0xfee01004 : 0);
	}
	harness_restart(&h);
	w = store_committed_wiring(&h.dev.store);
	CU_ASSERT_EQUAL(w->bar[1], 0xc8000000);
	CU_ASSERT_EQUAL(w->vector[2].data, 0xfee01004);
	harness_close(&h);
}

static void
what_is_pending_is_polled_for(void)
{
	struct harness h;

	harness_open(&h, "worker");
	CU_ASSERT_EQUAL(harness_run(&h), 0);
	write_register(&h, WORKER_QUEUE, 7);
	CU_ASSERT_EQUAL(harness_run(&h), 7);
	CU_ASSERT_EQUAL(state(&h)->polled, 7);
	CU_ASSERT_EQUAL(harness_msi(&h, 2), 1);
	harness_close(&h);
}

static void
a_watched_fd_is_heard_until_the_watch_ends(void)
{
	struct worker_context *c;
	struct harness h;
	uint64_t one = 1;

	harness_open(&h, "worker");
	harness_ring(&h, WORKER_WAKE_SELF);
	CU_ASSERT_EQUAL(harness_run(&h), 1);
	CU_ASSERT_EQUAL(state(&h)->readied, 1);
	c = device_context(&h.dev);
	CU_ASSERT_EQUAL(device_watch(&h.dev, c->fd, 0), 0);
	BUG_ON(write(c->fd, &one, sizeof(one)) < 0);
	CU_ASSERT_EQUAL(harness_run(&h), 0);
	harness_close(&h);
}

/* ---- links ---- */

static int
put_packet(struct packet_ring *r, uint8_t mark)
{
	uint8_t frame[WORKER_FRAME];
	struct iovec iov = { frame, sizeof(frame) };

	memset(frame, mark, sizeof(frame));
	return packet_put(r, &iov, 1);
}

static void
packets_go_to_the_device_and_come_back(void)
{
	for (unsigned side = 0; side < 2; side++) {
		const struct harness_want want = { .link_side = side };
		const uint8_t *data;
		struct harness h;

		harness_open_want(&h, "worker", &want);
		CU_ASSERT_PTR_EQUAL(h.link_from[0], &h.link[0]->ring[side]);
		for (unsigned i = 0; i < 5; i++)
			CU_ASSERT_EQUAL(
			    put_packet(h.link_to[0], (uint8_t)i), 0);
		CU_ASSERT_EQUAL(harness_run(&h), 1);
		for (unsigned i = 0; i < 5; i++) {
			CU_ASSERT_EQUAL_FATAL(
			    packet_peek(h.link_from[0], i, &data),
			    (ssize_t)WORKER_FRAME);
			CU_ASSERT_EQUAL(data[20], i);
		}
		CU_ASSERT_EQUAL(packet_tail(h.link_to[0]), 5);
		CU_ASSERT_EQUAL(state(&h)->taken, 5);
		/* Nothing new: it is not asked again. */
		CU_ASSERT_EQUAL(harness_run(&h), 0);
		harness_close(&h);
	}
}

static void
a_full_link_is_heard_of_when_there_is_space(void)
{
	struct harness h;

	harness_open(&h, "worker");
	for (unsigned i = 0; i < PACKET_SLOTS; i++)
		BUG_ON(put_packet(h.link_to[0], 1) != 0);
	harness_run(&h);
	for (unsigned i = 0; i < 3; i++)
		BUG_ON(put_packet(h.link_to[0], 2) != 0);
	harness_run(&h);
	CU_ASSERT_EQUAL(state(&h)->taken, PACKET_SLOTS);
	CU_ASSERT_EQUAL(harness_run(&h), 0);
	engine_arm(&h.dev);
	packet_release(h.link_from[0], 2);
	CU_ASSERT(packet_kick_producer(h.link_from[0]));
	CU_ASSERT_EQUAL(harness_run(&h), 1);
	CU_ASSERT_EQUAL(state(&h)->taken, PACKET_SLOTS + 2);
	harness_close(&h);
}

static void
an_armed_peer_is_kicked_once(void)
{
	struct harness h;
	int tx_data;

	harness_open(&h, "worker");
	tx_data = h.dev.link[0].tx_data;
	harness_count(tx_data);
	packet_arm_consumer(h.link_from[0]);
	put_packet(h.link_to[0], 1);
	harness_run(&h);
	CU_ASSERT_EQUAL(harness_count(tx_data), 1);
	put_packet(h.link_to[0], 1);
	harness_run(&h);
	CU_ASSERT_EQUAL(harness_count(tx_data), 0);
	harness_close(&h);
}

static void
a_restart_looks_at_its_links(void)
{
	struct harness h;

	harness_open(&h, "worker");
	put_packet(h.link_to[0], 1);
	harness_restart(&h);
	CU_ASSERT_EQUAL(state(&h)->taken, 1);
	CU_ASSERT_EQUAL(packet_head(h.link_from[0]), 1);
	/* A peer that slept over the death is woken. */
	CU_ASSERT(harness_count(h.dev.link[0].tx_data) > 0);
	CU_ASSERT(harness_count(h.dev.link[0].rx_space) > 0);
	harness_close(&h);
}

static void
a_link_may_have_nobody_at_its_end(void)
{
	const struct harness_want want = { .no_links = true };
	struct harness h;

	harness_open_want(&h, "worker", &want);
	CU_ASSERT_PTR_NULL(device_link_tx(&h.dev, 0));
	CU_ASSERT_PTR_NULL(device_link_rx(&h.dev, 0));
	device_link_kick(&h.dev, 0);
	CU_ASSERT_EQUAL(harness_run(&h), 0);
	harness_restart(&h);
	CU_ASSERT_EQUAL(state(&h)->link_calls, 0);
	harness_close(&h);
}

/* ---- files, parameters, statistics ---- */

static void
files_are_those_that_were_handed_in(void)
{
	struct harness_want want = { 0 };
	struct harness h;

	harness_open_want(&h, "worker", &want);
	CU_ASSERT(device_file(&h.dev, 0) >= 0);
	CU_ASSERT_EQUAL(device_file(&h.dev, 1), -1);
	harness_close(&h);
	want.file[1] = harness_file();
	harness_open_want(&h, "worker", &want);
	CU_ASSERT_EQUAL(device_file(&h.dev, 1), want.file[1]);
	harness_close(&h);
	/* The first is not optional. */
	want.file[0] = want.file[1] = -1;
	harness_make_want(&h, &worker, &want);
	CU_ASSERT_EQUAL(harness_start(&h, &worker), -EPROTO);
	harness_close(&h);
}

static void
an_fd_too_many_or_too_few_is_refused(void)
{
	static const struct {
		int fds;
		uint32_t links, files;
		unsigned side;
	} cases[] = {
		{ 1, 1, 1, 0 },
		{ -1, 1, 1, 0 },
		{ 0, 0, 1, 0 },
		{ 0, 3, 1, 0 },
		{ 0, 1, 3, 0 },
		{ 0, 1, 5, 0 },
		{ 0, 1, 1, 2 },
	};
	struct harness h;

	harness_make(&h, &worker, 1);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		h.config.nfds = (unsigned)((int)h.nfds + cases[i].fds);
		h.config.links = cases[i].links;
		h.config.files = cases[i].files;
		h.config.link_side = cases[i].side;
		CU_ASSERT_EQUAL(harness_start(&h, &worker), -EPROTO);
		harness_stop(&h);
	}
	harness_close(&h);
}

static void
parameters_change_all_or_none(void)
{
	static const struct {
		const char *keys[2], *values[2];
		int rc;
		unsigned bad;
		uint64_t rate;
	} cases[] = {
		{ { "rate", "rate" }, { "5", "6" }, 0, 1, 6 },
		{ { "rate", "shape" }, { "7", "round" }, -ENOENT, 1, 6 },
		{ { "rate", "rate" }, { "8", "fast" }, -EINVAL, 1, 6 },
		{ { "rate", "rate" }, { "fast", "8" }, -EINVAL, 0, 6 },
	};
	struct harness h;

	harness_open(&h, "worker");
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned bad = 9;

		CU_ASSERT_EQUAL(engine_reconfigure(&h.dev, 2, cases[i].keys,
				    cases[i].values, &bad),
		    cases[i].rc);
		CU_ASSERT_EQUAL(bad, cases[i].bad);
		CU_ASSERT_EQUAL(state(&h)->rate, cases[i].rate);
		write_register(&h, WORKER_VALUE, i);
		CU_ASSERT_EQUAL(state(&h)->rate, cases[i].rate);
	}
	harness_close(&h);
}

static void
everything_is_counted(void)
{
	const struct stats_device *st;
	struct harness h;

	harness_open(&h, "worker");
	st = h.dev.store.stats;
	for (unsigned i = 0; i < 64 * STATS_SAMPLE; i++)
		write_register(&h, WORKER_VALUE, i);
	harness_access(&h, RING_READ, 0, 0, 4, 0);
	harness_access(&h, RING_WRITE_POSTED, 0, 0, 4, 0);
	harness_ring(&h, 2);
	device_queue_depth(&h.dev, 9);
	device_queue_depth(&h.dev, 4);
	CU_ASSERT_EQUAL(st->writes, 64 * STATS_SAMPLE + 1);
	CU_ASSERT_EQUAL(st->posted, 1);
	CU_ASSERT_EQUAL(st->reads, 1);
	CU_ASSERT_EQUAL(st->doorbells, 1);
	CU_ASSERT_EQUAL(st->interrupts, 1);
	CU_ASSERT_EQUAL(st->requests, 1);
	CU_ASSERT_EQUAL(st->request.count, 1);
	CU_ASSERT_EQUAL(st->bytes_in, 8);
	CU_ASSERT_EQUAL(st->bytes_out, 8);
	CU_ASSERT_EQUAL(st->queue_depth, 4);
	CU_ASSERT_EQUAL(st->queue_depth_max, 9);
	CU_ASSERT_EQUAL(st->own[0], 1);
	CU_ASSERT_EQUAL(st->own[1], 2);
	/* About one in STATS_SAMPLE; the distance is never twice that. */
	CU_ASSERT(st->handler.count >= 32);
	CU_ASSERT(st->handler.count <= 64 * STATS_SAMPLE / 8);
	/* They outlive the process. */
	harness_restart(&h);
	CU_ASSERT_EQUAL(h.dev.store.stats->reads, 1);
	CU_ASSERT_EQUAL(h.dev.store.stats->recoveries, 1);
	harness_close(&h);
}

static const struct named_test tests[] = {
	NAMED_TEST(ram_is_reached_in_its_two_parts_only),
	NAMED_TEST(pages_given_back_read_as_zeroes),
	NAMED_TEST(without_a_grant_there_is_no_ram),
	NAMED_TEST(a_doorbell_is_work_that_is_committed),
	NAMED_TEST(a_restart_rings_every_doorbell_and_says_messages_again),
	NAMED_TEST(a_burst_of_accesses_sends_a_message_once),
	NAMED_TEST(wiring_is_committed_when_the_answer_is_there),
	NAMED_TEST(what_is_pending_is_polled_for),
	NAMED_TEST(a_watched_fd_is_heard_until_the_watch_ends),
	NAMED_TEST(packets_go_to_the_device_and_come_back),
	NAMED_TEST(a_full_link_is_heard_of_when_there_is_space),
	NAMED_TEST(an_armed_peer_is_kicked_once),
	NAMED_TEST(a_restart_looks_at_its_links),
	NAMED_TEST(a_link_may_have_nobody_at_its_end),
	NAMED_TEST(files_are_those_that_were_handed_in),
	NAMED_TEST(an_fd_too_many_or_too_few_is_refused),
	NAMED_TEST(parameters_change_all_or_none),
	NAMED_TEST(everything_is_counted),
};

int
main(void)
{
	return named_tests_run("work", tests, ARRAY_LEN(tests));
}
