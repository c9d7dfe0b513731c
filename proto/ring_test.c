/* The intercept ring. */
#include "proto/ring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/litmus.h"
#include "tests/named_tests.h"

static struct ring_set *
make_set(void)
{
	size_t size = (ring_set_size(1) + 63) / 64 * 64;
	struct ring_set *set = aligned_alloc(64, size);

	BUG_ON(set == NULL);
	memset(set, 0, size);
	return set;
}

static const struct ring_request read_request = {
	.addr = 5, .time_ns = 7, .region = 1, .op = RING_READ, .size = 4
};

static void
requests_come_out_in_order_with_their_answers(void)
{
	struct ring_set *set = make_set();
	struct ring *r = &set->ring[0];
	uint64_t head = 0;

	for (uint64_t n = 0; n < 3 * RING_SLOTS; n++) {
		struct ring_request in = read_request, out;
		uint64_t answer = 0;

		in.addr = n;
		in.vcpu = 77;
		CU_ASSERT_EQUAL(ring_put(r, &head, &in), 0);
		CU_ASSERT_EQUAL(head, n + 1);
		CU_ASSERT_EQUAL(ring_poll_answer(r, n, &answer), 0);
		CU_ASSERT_EQUAL(ring_take(r, 3, n, &out), 1);
		CU_ASSERT_EQUAL(out.addr, n);
		CU_ASSERT_EQUAL(out.vcpu, 3);
		ring_answer(r, n + 1, n * 3);
		CU_ASSERT_EQUAL(ring_poll_answer(r, n, &answer), 1);
		CU_ASSERT_EQUAL(answer, n * 3);
		CU_ASSERT_EQUAL(ring_take(r, 3, n + 1, &out), 0);
	}
	free(set);
}

static void
a_full_ring_takes_no_more(void)
{
	struct ring_set *set = make_set();
	uint64_t head = 0;

	for (unsigned i = 0; i < RING_SLOTS; i++)
		CU_ASSERT_EQUAL(
		    ring_put(&set->ring[0], &head, &read_request), 0);
	CU_ASSERT_EQUAL(ring_put(&set->ring[0], &head, &read_request), -EAGAIN);
	CU_ASSERT_EQUAL(head, RING_SLOTS);
	ring_answer(&set->ring[0], 1, 0);
	CU_ASSERT_EQUAL(ring_put(&set->ring[0], &head, &read_request), 0);
	free(set);
}

static void
a_restarted_consumer_sees_what_it_had_not_committed(void)
{
	struct ring_set *set = make_set();
	struct ring *r = &set->ring[0];
	struct ring_request out;
	uint64_t head = 0, answer;

	for (unsigned i = 0; i < 3; i++) {
		struct ring_request in = read_request;

		in.addr = i;
		CU_ASSERT_EQUAL(ring_put(r, &head, &in), 0);
	}
	/* It committed 1, and died before it published the answer. */
	ring_answer(r, 1, 11);
	ring_answer(r, 1, 11);
	CU_ASSERT_EQUAL(ring_poll_answer(r, 0, &answer), 1);
	CU_ASSERT_EQUAL(answer, 11);
	CU_ASSERT_EQUAL(ring_take(r, 0, 1, &out), 1);
	CU_ASSERT_EQUAL(out.addr, 1);
	free(set);
}

static void
refuses_impossible_indices(void)
{
	static const struct {
		uint64_t head, tail, pos;
		int put, take, poll;
	} rows[] = {
		/* A consumer ahead of the producer. */
		{ 0, 1, 0, -EPROTO, 0, -EPROTO },
		{ 5, 6, 5, -EPROTO, 0, -EPROTO },
		/* A producer too far ahead of the consumer. */
		{ RING_SLOTS + 1, 0, 0, -EPROTO, -EPROTO, -EPROTO },
		{ ~(uint64_t)0, 0, 0, -EPROTO, -EPROTO, -EPROTO },
		/* A producer behind what the consumer has committed. */
		{ 4, 4, 5, 0, -EPROTO, 0 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct ring_set *set = make_set();
		struct ring *r = &set->ring[0];
		uint64_t head = rows[i].head, answer;
		struct ring_request out;

		atomic_store(&r->head, rows[i].head);
		atomic_store(&r->tail, rows[i].tail);
		for (unsigned s = 0; s < RING_SLOTS; s++)
			r->req[s] = read_request;
		CU_ASSERT_EQUAL(
		    ring_take(r, 0, rows[i].pos, &out), rows[i].take);
		CU_ASSERT_EQUAL(
		    ring_poll_answer(r, rows[i].pos, &answer), rows[i].poll);
		CU_ASSERT_EQUAL(ring_put(r, &head, &read_request), rows[i].put);
		free(set);
	}
}

static void
refuses_malformed_requests(void)
{
	static const struct {
		uint8_t op, size;
		int result;
	} rows[] = {
		{ RING_READ, 1, 1 },
		{ RING_WRITE, 2, 1 },
		{ RING_WRITE_POSTED, 8, 1 },
		{ RING_SYNC + 1, 4, -EPROTO },
		{ 255, 4, -EPROTO },
		{ RING_READ, 0, -EPROTO },
		{ RING_READ, 3, -EPROTO },
		{ RING_READ, 6, -EPROTO },
		{ RING_READ, 16, -EPROTO },
		{ RING_READ, 255, -EPROTO },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct ring_set *set = make_set();
		struct ring_request in = read_request, out;
		uint64_t head = 0;

		in.op = rows[i].op;
		in.size = rows[i].size;
		CU_ASSERT_EQUAL(ring_put(&set->ring[0], &head, &in), 0);
		CU_ASSERT_EQUAL(
		    ring_take(&set->ring[0], 0, 0, &out), rows[i].result);
		free(set);
	}
}

static void
kicks_once_per_sleep(void)
{
	struct ring_set *set = make_set();

	CU_ASSERT_FALSE(ring_kick_needed(set));
	ring_arm(set);
	CU_ASSERT_TRUE(ring_kick_needed(set));
	CU_ASSERT_FALSE(ring_kick_needed(set));
	ring_arm(set);
	ring_disarm(set);
	CU_ASSERT_FALSE(ring_kick_needed(set));
	free(set);
}

static void
a_wait_ends_with_its_time(void)
{
	struct ring_set *set = make_set();
	uint64_t head = 0, start = time_now_ns();

	CU_ASSERT_EQUAL(ring_put(&set->ring[0], &head, &read_request), 0);
	ring_wait(&set->ring[0], 0, 2000000);
	CU_ASSERT(time_now_ns() - start >= 1000000);
	/* One that is answered does not wait at all. */
	ring_answer(&set->ring[0], 1, 0);
	ring_wait(&set->ring[0], 0, 3600u * (uint64_t)1000000000);
	free(set);
}

struct side {
	struct ring_set *set;
	uint64_t head, pos;
};

static bool
make_request(void *ctx)
{
	struct side *s = ctx;

	BUG_ON(ring_put(&s->set->ring[0], &s->head, &read_request) != 0);
	return ring_kick_needed(s->set);
}

static void
arm_consumer(void *ctx)
{
	struct side *s = ctx;

	ring_arm(s->set);
}

static bool
look_for_request(void *ctx)
{
	struct side *s = ctx;
	struct ring_request out;

	return ring_take(&s->set->ring[0], 0, s->pos, &out) == 1;
}

static void
answer_request(void *ctx)
{
	struct side *s = ctx;

	ring_disarm(s->set);
	ring_answer(&s->set->ring[0], ++s->pos, 0);
}

static void
no_wake_up_of_the_consumer_is_lost(void)
{
	struct side s = { .set = make_set() };
	struct litmus l = {
		.make = make_request,
		.arm = arm_consumer,
		.look = look_for_request,
		.take = answer_request,
		.ctx = &s,
	};

	litmus_run(&l);
	printf("(%llu rounds, %llu kicks) ", (unsigned long long)l.rounds,
	    (unsigned long long)atomic_load(&l.kicks));
	CU_ASSERT_EQUAL(l.lost, 0);
	free(s.set);
}

struct futex_side {
	struct ring_set *set;
	atomic_bool stop;
	_Atomic uint64_t answered_ns;
};

static void *
answerer(void *arg)
{
	struct futex_side *s = arg;
	uint64_t seed = 88172645463325252u, pos = 0;
	unsigned spins = 0;

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		struct ring_request out;

		if (ring_take(&s->set->ring[0], 0, pos, &out) != 1) {
			litmus_spin(&spins);
			continue;
		}
		litmus_delay(&seed, LITMUS_DELAY);
		pos++;
		ring_answer(&s->set->ring[0], pos, pos);
		atomic_store(&s->answered_ns, time_now_ns());
	}
	return NULL;
}

/* Longer than any scheduler makes a woken thread wait. */
#define LONG_NS	 5000000000u
#define GRACE_NS 3000000000u

static void
no_wake_up_of_the_producer_is_lost(void)
{
	struct futex_side s = { .set = make_set() };
	struct ring *r = &s.set->ring[0];
	uint64_t end = time_now_ns() + LITMUS_NS, seed = 2463534242u;
	uint64_t head = 0, answer = 0, rounds;
	unsigned lost = 0, wrong = 0;
	pthread_t t;

	BUG_ON(pthread_create(&t, NULL, answerer, &s) != 0);
	for (rounds = 0; rounds < LITMUS_ROUNDS && time_now_ns() < end;
	     rounds++) {
		uint64_t pos = head;

		BUG_ON(ring_put(r, &head, &read_request) != 0);
		litmus_delay(&seed, LITMUS_DELAY);
		while (ring_poll_answer(r, pos, &answer) == 0) {
			uint64_t before = time_now_ns();

			ring_wait(r, pos, LONG_NS);
			if (time_now_ns() - before >= LONG_NS &&
			    time_now_ns() - atomic_load(&s.answered_ns) >
				GRACE_NS)
				lost++;
		}
		wrong += answer != head;
	}
	atomic_store(&s.stop, true);
	pthread_join(t, NULL);
	printf("(%llu rounds) ", (unsigned long long)rounds);
	CU_ASSERT_EQUAL(lost, 0);
	CU_ASSERT_EQUAL(wrong, 0);
	free(s.set);
}

struct sleeper {
	struct ring_set *set;
	int kick;
	atomic_bool stop;
	unsigned slept, overslept;
};

static void *
sleeping_consumer(void *arg)
{
	struct sleeper *s = arg;
	struct ring *r = &s->set->ring[0];
	uint64_t pos = 0, count;

	while (!atomic_load(&s->stop)) {
		struct pollfd p = { .fd = s->kick, .events = POLLIN };
		struct ring_request out;

		ring_arm(s->set);
		if (ring_take(r, 0, pos, &out) != 1 && !atomic_load(&s->stop)) {
			s->slept++;
			if (poll(&p, 1, 5000) == 0)
				s->overslept++;
		}
		ring_disarm(s->set);
		if (read(s->kick, &count, sizeof(count)) < 0)
			BUG_ON(errno != EAGAIN);
		while (ring_take(r, 0, pos, &out) == 1) {
			pos++;
			ring_answer(r, pos, out.data + 1);
		}
	}
	return NULL;
}

static void
kick(const struct sleeper *s)
{
	uint64_t one = 1;

	BUG_ON(write(s->kick, &one, sizeof(one)) != sizeof(one));
}

static void
real_sleeps_on_both_sides_end(void)
{
	struct sleeper s = { .set = make_set() };
	struct ring *r = &s.set->ring[0];
	uint64_t end = time_now_ns() + 500000000u, head = 0, answer = 0;
	unsigned wrong = 0;
	pthread_t t;

	s.kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	BUG_ON(pthread_create(&t, NULL, sleeping_consumer, &s) != 0);
	while (time_now_ns() < end) {
		struct ring_request in = read_request;
		uint64_t pos = head;

		in.data = head;
		BUG_ON(ring_put(r, &head, &in) != 0);
		if (ring_kick_needed(s.set))
			kick(&s);
		while (ring_poll_answer(r, pos, &answer) == 0)
			ring_wait(r, pos, LONG_NS);
		wrong += answer != head;
	}
	atomic_store(&s.stop, true);
	kick(&s);
	pthread_join(t, NULL);
	printf("(%llu round trips, %u sleeps) ", (unsigned long long)head,
	    s.slept);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(s.overslept, 0);
	close(s.kick);
	free(s.set);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(requests_come_out_in_order_with_their_answers),
		NAMED_TEST(a_full_ring_takes_no_more),
		NAMED_TEST(a_restarted_consumer_sees_what_it_had_not_committed),
		NAMED_TEST(refuses_impossible_indices),
		NAMED_TEST(refuses_malformed_requests),
		NAMED_TEST(kicks_once_per_sleep),
		NAMED_TEST(a_wait_ends_with_its_time),
		NAMED_TEST(no_wake_up_of_the_consumer_is_lost),
		NAMED_TEST(no_wake_up_of_the_producer_is_lost),
		NAMED_TEST(real_sleeps_on_both_sides_end),
	};
	return named_tests_run("ring", tests, ARRAY_LEN(tests));
}
