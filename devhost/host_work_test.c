/* Work in a device host: what its event loop hears, and how it ends. */
#include "devhost/worker.h"

#include <CUnit/Basic.h>
#include <poll.h>

#include "devhost/child.h"
#include "tests/named_tests.h"

/* Where Configure has the fds of a worker. */
enum worker_fds {
	FD_STREAM = 3,
	FD_RAM = FD_STREAM + 6,
	FD_VECTOR,
	FD_DOORBELL = FD_VECTOR + WORKER_VECTORS,
	FD_LINK = FD_DOORBELL + WORKER_DOORBELLS,
	FD_RX_DATA = FD_LINK + 1,
	FD_TX_SPACE,
	FD_TX_DATA,
	FD_RX_SPACE,
};

#define BUSY_MS 150u

static const enum how ways[] = { FORKED, INLINE };

static void
signal_one(const struct harness *h, unsigned fd)
{
	uint64_t one = 1;

	BUG_ON(write(h->fds[fd], &one, sizeof(one)) < 0);
}

/* Wait for an eventfd; what it counted, 0 if nothing came. */
static unsigned
await(const struct harness *h, unsigned fd)
{
	struct pollfd p = { .fd = h->fds[fd], .events = POLLIN };

	return poll(&p, 1, PATIENCE_MS) == 1 ? harness_count(p.fd) : 0;
}

static const struct worker_state *
committed(struct harness *h, struct store *s)
{
	const struct store_shape shape = harness_shape(&worker, 1);

	BUG_ON(store_attach(s, h->store, h->store_size, &shape) != 0);
	return store_committed_state(s);
}

/* Until a word that another process changes is at least that. */
static bool
becomes(const volatile uint64_t *word, uint64_t least)
{
	for (unsigned i = 0; i < PATIENCE_MS && *word < least; i++)
		poll(NULL, 0, 1);
	return *word >= least;
}

static bool
put_request(struct child *c, struct harness *h, uint64_t addr, uint64_t data)
{
	struct ring_request r = {
		.addr = addr, .data = data, .op = RING_WRITE, .size = 8
	};
	uint64_t answer;

	if (c->host)
		return host_access(c->host, 0, &r, &answer) == 0;
	if (ring_put(&h->rings->ring[0], &h->pos, &r) != 0)
		return false;
	if (ring_kick_needed(h->rings))
		signal_one(h, 2);
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		if (ring_poll_answer(&h->rings->ring[0], h->pos - 1, &answer) !=
		    0)
			return true;
		ring_wait(&h->rings->ring[0], h->pos - 1, 1000000);
	}
	return false;
}

static void
up(struct child *c, struct harness *h, enum how how, uint32_t spin_us)
{
	CU_ASSERT_FATAL(start_child(c, "worker", how));
	CU_ASSERT_EQUAL_FATAL(bring_up(c, h, spin_us), 0);
}

static void
down(struct child *c, struct harness *h)
{
	if (c->pid > 0)
		kill(c->pid, SIGKILL);
	reap(c);
	harness_close(h);
}

static void
hello_says_all_of_the_manifest(void)
{
	const Bulkhead__Hello *hello;
	struct channel_message m;
	struct child c;

	CU_ASSERT_FATAL(start_child(&c, "worker", FORKED));
	CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(HELLO));
	hello = m.envelope->hello;
	CU_ASSERT_EQUAL(hello->dma, 2);
	CU_ASSERT_EQUAL(hello->vectors, WORKER_VECTORS);
	CU_ASSERT_PTR_NOT_NULL_FATAL(hello->doorbells);
	CU_ASSERT_EQUAL(hello->doorbells->offset, WORKER_BELLS_AT);
	CU_ASSERT_EQUAL(hello->doorbells->stride, 4);
	CU_ASSERT_EQUAL(hello->doorbells->count, WORKER_DOORBELLS);
	CU_ASSERT_EQUAL_FATAL(hello->n_links, 1);
	CU_ASSERT_STRING_EQUAL(hello->links[0], "net");
	CU_ASSERT_EQUAL_FATAL(hello->n_files, 2);
	CU_ASSERT_STRING_EQUAL(hello->files[1], "?extra");
	CU_ASSERT_EQUAL_FATAL(hello->n_counters, 2);
	CU_ASSERT_STRING_EQUAL(hello->counters[0], "rung");
	CU_ASSERT_TRUE(hello->placements[0]->regions[0]->wiring);
	CU_ASSERT_FALSE(hello->placements[0]->regions[0]->bar);
	CU_ASSERT_TRUE(hello->placements[0]->regions[1]->bar);
	channel_free(&m);
	kill(c.pid, SIGKILL);
	reap(&c);
}

static void
a_doorbell_wakes_the_device(void)
{
	for (unsigned i = 0; i < 2 * ARRAY_LEN(ways); i++) {
		uint64_t word = 42;
		struct harness h;
		struct child c;

		harness_make(&h, &worker, 1);
		up(&c, &h, ways[i / 2], i % 2 ? 50 : 0);
		memcpy(h.ram + WORKER_FROM + 16, &word, 8);
		signal_one(&h, FD_DOORBELL + 2);
		CU_ASSERT_EQUAL(await(&h, FD_VECTOR), 1);
		memcpy(&word, h.ram + WORKER_TO + 16, 8);
		CU_ASSERT_EQUAL(word, ~42ull);
		down(&c, &h);
	}
}

static void
a_watched_fd_wakes_the_device(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct harness h;
		struct child c;

		harness_make(&h, &worker, 1);
		up(&c, &h, ways[i], 0);
		signal_one(&h, FD_DOORBELL + WORKER_WAKE_SELF);
		CU_ASSERT_EQUAL(await(&h, FD_VECTOR + 1), 1);
		down(&c, &h);
	}
}

static void
packets_wake_the_device(void)
{
	uint8_t frame[WORKER_FRAME] = { 0 };
	struct iovec iov = { frame, sizeof(frame) };

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		const uint8_t *data;
		struct harness h;
		struct child c;

		harness_make(&h, &worker, 1);
		up(&c, &h, ways[i], 20);
		/* Its start has said something already. */
		CU_ASSERT(await(&h, FD_TX_DATA) > 0);
		for (unsigned n = 0; n < 1000; n++) {
			frame[40] = (uint8_t)n;
			CU_ASSERT_EQUAL(packet_put(h.link_to[0], &iov, 1), 0);
			if (packet_kick_consumer(h.link_to[0]))
				signal_one(&h, FD_RX_DATA);
			packet_arm_consumer(h.link_from[0]);
			while (packet_peek(h.link_from[0], n, &data) == -EAGAIN)
				if (await(&h, FD_TX_DATA) == 0)
					break;
			CU_ASSERT_EQUAL_FATAL(
			    packet_peek(h.link_from[0], n, &data),
			    (ssize_t)WORKER_FRAME);
			CU_ASSERT_EQUAL(data[40], (uint8_t)n);
			packet_release(h.link_from[0], n + 1);
			if (packet_kick_producer(h.link_from[0]))
				signal_one(&h, FD_TX_SPACE);
		}
		down(&c, &h);
	}
}

static void
what_an_access_queued_is_polled_for(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct harness h;
		struct child c;

		harness_make(&h, &worker, 1);
		up(&c, &h, ways[i], 0);
		CU_ASSERT(put_request(&c, &h, WORKER_QUEUE, 100));
		CU_ASSERT_EQUAL(await(&h, FD_VECTOR + 2), 1);
		down(&c, &h);
	}
}

static void
a_restarted_device_hears_every_doorbell(void)
{
	const struct worker_state *s;
	struct store store;
	struct harness h;
	struct child c;

	harness_make(&h, &worker, 1);
	up(&c, &h, FORKED, 0);
	kill(c.pid, SIGKILL);
	reap(&c);
	CU_ASSERT_FATAL(start_child(&c, "worker", FORKED));
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 1);
	CU_ASSERT(await(&h, FD_VECTOR) > 0);
	s = committed(&h, &store);
	CU_ASSERT(becomes(&s->rung[WORKER_DOORBELLS - 1], 1));
	down(&c, &h);
}

static void
parameters_are_answered_for(void)
{
	static const struct {
		const char *key, *value;
		int body, error;
	} cases[] = {
		{ "rate", "17", BODY(OK), 0 },
		{ "rate", "much", BODY(FAILURE), -EINVAL },
		{ "colour", "red", BODY(FAILURE), -ENOENT },
	};

	for (unsigned w = 0; w < ARRAY_LEN(ways); w++) {
		struct harness h;
		struct child c;

		harness_make(&h, &worker, 1);
		up(&c, &h, ways[w], 0);
		for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
			Bulkhead__Reconfigure r;
			Bulkhead__Param param, *params[] = { &param };
			struct channel_message m;
			char key[16], value[16];

			bulkhead__reconfigure__init(&r);
			bulkhead__param__init(&param);
			snprintf(key, sizeof(key), "%s", cases[i].key);
			snprintf(value, sizeof(value), "%s", cases[i].value);
			param.key = key;
			param.value = value;
			r.n_params = 1;
			r.params = params;
			CU_ASSERT_EQUAL(channel_send(&c.channel,
					    BODY(RECONFIGURE), &r, NULL, 0, 0),
			    0);
			CU_ASSERT_EQUAL_FATAL(hear(&c, &m), cases[i].body);
			CU_ASSERT_EQUAL(m.envelope->seq, c.channel.seq);
			if (cases[i].error != 0)
				CU_ASSERT_EQUAL(
				    m.envelope->failure->error, cases[i].error);
			channel_free(&m);
		}
		down(&c, &h);
	}
}

static void
the_size_of_a_terminal_is_told(void)
{
	char text[] = "text", none[] = "none";
	Bulkhead__Ping ping = BULKHEAD__PING__INIT;
	struct channel_message m;
	struct store store;
	struct harness h;
	struct child c;

	harness_make(&h, &worker, 1);
	up(&c, &h, FORKED, 0);
	for (unsigned i = 0; i < 2; i++) {
		Bulkhead__Resize r;

		bulkhead__resize__init(&r);
		r.stream = i == 0 ? text : none;
		r.columns = i == 0 ? 132 : 1;
		r.rows = i == 0 ? 70000 : 1;
		CU_ASSERT_EQUAL(
		    channel_send(&c.channel, BODY(RESIZE), &r, NULL, 0, 0), 0);
	}
	channel_send(&c.channel, BODY(PING), &ping, NULL, 0, 0);
	CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(PONG));
	channel_free(&m);
	CU_ASSERT_EQUAL(committed(&h, &store)->columns, 132);
	CU_ASSERT_EQUAL(committed(&h, &store)->rows, UINT16_MAX);
	down(&c, &h);
}

/* How long the device takes to end after Finish. */
static uint64_t
finish(struct child *c)
{
	Bulkhead__Finish message = BULKHEAD__FINISH__INIT;
	uint64_t begin = time_now_ns();
	struct channel_message m;

	CU_ASSERT_EQUAL(
	    channel_send(&c->channel, BODY(FINISH), &message, NULL, 0, 0), 0);
	CU_ASSERT_EQUAL(hear(c, &m), 0);
	return time_now_ns() - begin;
}

static void
finish_waits_for_a_busy_device_but_not_for_ever(void)
{
	static const struct {
		uint64_t busy_ms, at_least_ns;
	} cases[] = {
		{ 0, 0 },
		{ BUSY_MS, 0 },
		{ UINT64_MAX, 900000000 },
	};

	for (unsigned w = 0; w < ARRAY_LEN(ways); w++)
		for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
			uint64_t begin = time_now_ns();
			struct store store;
			struct harness h;
			struct child c;

			harness_make(&h, &worker, 1);
			up(&c, &h, ways[w], 0);
			if (cases[i].busy_ms > 0)
				CU_ASSERT(put_request(
				    &c, &h, WORKER_BUSY, cases[i].busy_ms));
			CU_ASSERT(finish(&c) >= cases[i].at_least_ns);
			CU_ASSERT_EQUAL(reap(&c), 0);
			if (cases[i].busy_ms == BUSY_MS) {
				CU_ASSERT_EQUAL(
				    committed(&h, &store)->busy_until_ns, 0);
				CU_ASSERT(time_now_ns() - begin >=
				    BUSY_MS * 1000000ull);
			}
			harness_close(&h);
		}
}

static const struct named_test tests[] = {
	NAMED_TEST(hello_says_all_of_the_manifest),
	NAMED_TEST(a_doorbell_wakes_the_device),
	NAMED_TEST(a_watched_fd_wakes_the_device),
	NAMED_TEST(packets_wake_the_device),
	NAMED_TEST(what_an_access_queued_is_polled_for),
	NAMED_TEST(a_restarted_device_hears_every_doorbell),
	NAMED_TEST(parameters_are_answered_for),
	NAMED_TEST(the_size_of_a_terminal_is_told),
	NAMED_TEST(finish_waits_for_a_busy_device_but_not_for_ever),
};

int
main(void)
{
	return named_tests_run("host_work", tests, ARRAY_LEN(tests));
}
