/*
 * Device hosts as the broker sees them: processes that are configured by the
 * control channel, killed at any moment, and started again.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "devhost/child.h"
#include "tests/named_tests.h"

#define KILLS		  200u
#define SANDBOXED_KILLS	  12u
#define ANSWER_TIMEOUT_NS 20000000000ull

static void
kick(const struct harness *h)
{
	uint64_t one = 1;

	if (ring_kick_needed(h->rings))
		BUG_ON(write(h->fds[2], &one, sizeof(one)) < 0);
}

/* Make a request of vCPU 0 and wait for its answer. */
static bool
request(struct harness *h, const struct ring_request *req, uint64_t *answer)
{
	uint64_t pos = h->pos, deadline = time_now_ns() + ANSWER_TIMEOUT_NS;
	struct ring *r = &h->rings->ring[0];

	if (ring_put(r, &h->pos, req) != 0)
		return false;
	kick(h);
	while (ring_poll_answer(r, pos, answer) == 0) {
		if (time_now_ns() > deadline)
			return false;
		ring_wait(r, pos, 1000000);
	}
	return true;
}

static struct ring_request
access_of(enum ring_op op, uint64_t addr, uint64_t data)
{
	return (struct ring_request){ .addr = addr,
		.data = data,
		.op = (uint8_t)op,
		.size = 1,
		.time_ns = time_now_ns() };
}

static void
answers_ping_and_finishes(void)
{
	static const enum how ways[] = { FORKED, INLINE };

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		Bulkhead__Ping ping = BULKHEAD__PING__INIT;
		Bulkhead__Finish finish = BULKHEAD__FINISH__INIT;
		struct channel_message m;
		struct harness h;
		struct child c;

		harness_make(&h, device_type_find("rtc"), 2);
		CU_ASSERT_FATAL(start_child(&c, "rtc", ways[i]));
		CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
		ping.cookie = 77;
		channel_send(&c.channel, BODY(PING), &ping, NULL, 0, 0);
		CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(PONG));
		CU_ASSERT_EQUAL(m.envelope->pong->cookie, 77);
		channel_free(&m);
		channel_send(&c.channel, BODY(FINISH), &finish, NULL, 0, 0);
		CU_ASSERT_EQUAL(hear(&c, &m), 0);
		CU_ASSERT_EQUAL(reap(&c), 0);
		harness_close(&h);
	}
}

static void
ends_when_the_broker_is_gone(void)
{
	struct harness h;
	struct child c;
	int status;

	harness_make(&h, device_type_find("rtc"), 1);
	CU_ASSERT_FATAL(start_child(&c, "rtc", FORKED));
	CU_ASSERT_EQUAL(bring_up(&c, &h, 50), 0);
	channel_close(&c.channel);
	status = reap(&c);
	if (status != 0)
		fprintf(stderr, "status 0x%x\n", (unsigned)status);
	CU_ASSERT_EQUAL(status, 0);
	harness_close(&h);
}

static void
refuses_memory_that_can_shrink(void)
{
	struct channel_message m;
	struct harness h;
	struct child c;
	int status;

	harness_make(&h, device_type_find("rtc"), 1);
	close(h.fds[0]);
	h.fds[0] = memfd_create("bare", MFD_CLOEXEC);
	BUG_ON(ftruncate(h.fds[0], 1 << 20) < 0);
	CU_ASSERT_FATAL(start_child(&c, "rtc", FORKED));
	CU_ASSERT_EQUAL(configure(&c, &h, 0), BODY(HELLO));
	CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(FAILURE));
	CU_ASSERT_EQUAL(m.envelope->failure->error, -EPROTO);
	channel_free(&m);
	status = reap(&c);
	CU_ASSERT(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), HOST_EXIT_PROTOCOL);
	harness_close(&h);
}

static void
dies_of_an_impossible_ring(void)
{
	struct harness h;
	struct child c;
	uint64_t one = 1;
	int status;

	harness_make(&h, device_type_find("rtc"), 1);
	CU_ASSERT_FATAL(start_child(&c, "rtc", FORKED));
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
	h.rings->ring[0].head = RING_SLOTS + 1;
	BUG_ON(write(h.fds[2], &one, sizeof(one)) < 0);
	status = reap(&c);
	CU_ASSERT(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), HOST_EXIT_PROTOCOL);
	harness_close(&h);
}

static void
inline_access_needs_no_ring(void)
{
	struct ring_request out = access_of(RING_WRITE, 7, 0x5a);
	struct ring_request in = access_of(RING_READ, 7, 0);
	struct ring_request off = access_of(RING_READ, 8, 0);
	struct harness h;
	struct child c;
	uint64_t answer = 0;

	harness_make(&h, device_type_find("serial"), 1);
	CU_ASSERT_FATAL(start_child(&c, "serial", INLINE));
	CU_ASSERT_EQUAL(host_access(c.host, 0, &in, &answer), -ENOTCONN);
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
	CU_ASSERT_EQUAL(host_access(c.host, 0, &out, &answer), 0);
	CU_ASSERT_EQUAL(host_access(c.host, 0, &in, &answer), 0);
	CU_ASSERT_EQUAL(answer, 0x5a);
	CU_ASSERT_EQUAL(host_access(c.host, 0, &off, &answer), -EPROTO);
	CU_ASSERT_EQUAL(reap(&c), HOST_EXIT_OK);
	harness_close(&h);
}

static void
platform_event_reaches_the_broker(void)
{
	static const enum how ways[] = { FORKED, INLINE };

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct ring_request off = access_of(RING_WRITE, 5, 0x34);
		struct channel_message m;
		struct harness h;
		struct child c;
		uint64_t answer;

		harness_make(&h, device_type_find("acpi-pm"), 1);
		CU_ASSERT_FATAL(start_child(&c, "acpi-pm", ways[i]));
		CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
		if (ways[i] == INLINE) {
			CU_ASSERT_EQUAL(
			    host_access(c.host, 0, &off, &answer), 0);
		} else {
			CU_ASSERT(request(&h, &off, &answer));
		}
		CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(PLATFORM));
		CU_ASSERT_EQUAL(
		    m.envelope->platform->event, BULKHEAD__PLATFORM__POWEROFF);
		CU_ASSERT_EQUAL(m.envelope->platform->cookie, 1);
		channel_free(&m);
		if (ways[i] == FORKED)
			kill(c.pid, SIGKILL);
		reap(&c);
		harness_close(&h);
	}
}

/* ---- bytes across deaths ---- */

/* The guest: sends the low bytes of a count, and echoes count its input. */
struct guest {
	struct harness *h;
	_Atomic bool stop, failed;
	_Atomic uint64_t sent, received;
};

static uint8_t
pattern(uint64_t n)
{
	return (uint8_t)(n ^ n >> 8 ^ n >> 16);
}

static bool
guest_step(struct guest *g)
{
	struct ring_request lsr = access_of(RING_READ, 5, 0);
	struct ring_request rbr = access_of(RING_READ, 0, 0);
	struct ring_request thr;
	uint64_t status, byte;

	if (!request(g->h, &lsr, &status))
		return false;
	if (status & 0x20) {
		thr = access_of(g->sent & 1 ? RING_WRITE_POSTED : RING_WRITE, 0,
		    pattern(g->sent));
		if (thr.op == RING_WRITE && !request(g->h, &thr, &byte))
			return false;
		if (thr.op == RING_WRITE_POSTED) {
			if (ring_put(&g->h->rings->ring[0], &g->h->pos, &thr) !=
			    0)
				return false;
			kick(g->h);
		}
		g->sent++;
	}
	if (status & 0x01) {
		if (!request(g->h, &rbr, &byte) || byte != pattern(g->received))
			return false;
		g->received++;
	}
	return true;
}

static void *
guest_main(void *ctx)
{
	struct guest *g = ctx;

	while (!g->stop)
		if (!guest_step(g)) {
			g->failed = true;
			break;
		}
	return NULL;
}

/* The user: reads the output and types the input, checking the order. */
struct user {
	uint64_t read, typed;
	bool wrong;
};

static void
user_step(struct user *u, struct harness *h)
{
	uint8_t bytes[4096];
	uint64_t one = 1, head = stream_head(h->in);
	ssize_t n = stream_peek(h->out, u->read, bytes, sizeof(bytes));

	if (n < 0)
		u->wrong = true;
	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] != pattern(u->read++))
			u->wrong = true;
	stream_release(h->out, u->read);
	if (stream_kick_producer(h->out))
		BUG_ON(write(h->fds[6], &one, sizeof(one)) < 0);
	bytes[0] = pattern(u->typed);
	if (stream_space(h->in) > 0 &&
	    stream_put(h->in, head, bytes, 1, &head) == 0)
		u->typed++;
	if (stream_kick_consumer(h->in))
		BUG_ON(write(h->fds[8], &one, sizeof(one)) < 0);
}

static void
bytes_survive(enum how how, unsigned kills)
{
	struct harness h;
	struct guest g = { .h = &h };
	struct user u = { 0 };
	struct child c;
	pthread_t thread;
	unsigned seed = 12345, recovered = 0;

	harness_make(&h, device_type_find("serial"), 1);
	u.read = stream_attach(h.out);
	BUG_ON(pthread_create(&thread, NULL, guest_main, &g) != 0);
	for (unsigned i = 0; i <= kills && !g.failed && !u.wrong; i++) {
		struct timespec nap = { 0, rand_r(&seed) % 1500000 };
		uint64_t until;
		int rc;

		if (!start_child(&c, "serial", how))
			break;
		rc = bring_up(&c, &h, i % 2 ? 50 : 0);
		CU_ASSERT_NOT_EQUAL(rc, -1);
		recovered += rc == 1;
		until = time_now_ns() + (uint64_t)nap.tv_nsec;
		do
			user_step(&u, &h);
		while (time_now_ns() < until);
		if (i == kills)
			break;
		kill(c.pid, SIGKILL);
		reap(&c);
	}
	g.stop = true;
	pthread_join(thread, NULL);
	/* Whatever was sent must come out: the last host still runs. */
	for (unsigned i = 0; i < 2000 && u.read < g.sent; i++) {
		user_step(&u, &h);
		poll(NULL, 0, 1);
	}
	kill(c.pid, SIGKILL);
	reap(&c);
	CU_ASSERT_FALSE(g.failed);
	CU_ASSERT_FALSE(u.wrong);
	CU_ASSERT_EQUAL(u.read, g.sent);
	CU_ASSERT(g.received <= u.typed);
	CU_ASSERT_EQUAL(recovered, kills);
	printf("%u kills, %llu bytes out, %llu bytes in: ", kills,
	    (unsigned long long)u.read, (unsigned long long)g.received);
	harness_close(&h);
}

static void
no_byte_is_lost_or_doubled_by_a_kill(void)
{
	bytes_survive(FORKED, KILLS);
}

static void
no_byte_is_lost_or_doubled_in_the_sandbox(void)
{
	struct harness h;
	struct child c;

	harness_make(&h, device_type_find("serial"), 1);
	if (!start_child(&c, "serial", SANDBOXED))
		return;
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
	CU_ASSERT(h.dev.error == 0);
	kill(c.pid, SIGKILL);
	reap(&c);
	harness_close(&h);
	bytes_survive(SANDBOXED, SANDBOXED_KILLS);
}

static const struct named_test tests[] = {
	NAMED_TEST(answers_ping_and_finishes),
	NAMED_TEST(ends_when_the_broker_is_gone),
	NAMED_TEST(refuses_memory_that_can_shrink),
	NAMED_TEST(dies_of_an_impossible_ring),
	NAMED_TEST(inline_access_needs_no_ring),
	NAMED_TEST(platform_event_reaches_the_broker),
	NAMED_TEST(no_byte_is_lost_or_doubled_by_a_kill),
	NAMED_TEST(no_byte_is_lost_or_doubled_in_the_sandbox),
};

int
main(void)
{
	return named_tests_run("host", tests, ARRAY_LEN(tests));
}
