/* The byte stream. */
#include "proto/stream.h"

#include <errno.h>
#include <string.h>

#include "tests/litmus.h"
#include "tests/named_tests.h"

static struct stream *
make(void)
{
	struct stream *s = aligned_alloc(64, sizeof(*s));

	BUG_ON(s == NULL);
	memset(s, 0, sizeof(*s));
	return s;
}

/* The byte of every position. */
static uint8_t
byte_at(uint64_t pos)
{
	return (uint8_t)(pos * 167 + (pos >> 8));
}

static uint64_t
put(struct stream *s, uint64_t pos, size_t n)
{
	uint8_t bytes[STREAM_PUT_MAX + 64];
	uint64_t head = 0;

	BUG_ON(n > sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		bytes[i] = byte_at(pos + i);
	CU_ASSERT_EQUAL(stream_put(s, pos, bytes, n, &head), 0);
	return head;
}

/* Take all there is at pos; the new position; counts what is wrong. */
static uint64_t
drain(struct stream *s, uint64_t pos, unsigned *wrong)
{
	uint8_t bytes[777];
	ssize_t n;

	while ((n = stream_peek(s, pos, bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			*wrong += bytes[i] != byte_at(pos + (uint64_t)i);
		pos += (uint64_t)n;
		stream_release(s, pos);
	}
	*wrong += n < 0;
	return pos;
}

static void
bytes_come_out_as_they_went_in(void)
{
	struct stream *s = make();
	uint64_t pos = stream_attach(s), head = 0;
	unsigned wrong = 0;

	for (size_t n = 1; n < STREAM_PUT_MAX; n += 61) {
		head = put(s, head, n);
		pos = drain(s, pos, &wrong);
		CU_ASSERT_EQUAL(pos, head);
	}
	CU_ASSERT(head > STREAM_BYTES);
	CU_ASSERT_EQUAL(stream_head(s), head);
	CU_ASSERT_EQUAL(wrong, 0);
	free(s);
}

static void
a_byte_put_again_is_there_once(void)
{
	static const struct {
		uint64_t pos;
		size_t n;
		uint64_t head;
	} rows[] = {
		{ 0, 10, 10 }, { 0, 10, 10 }, /* all again */
		{ 5, 10, 15 }, /* half of them */
		{ 0, 15, 15 }, { 0, 16, 16 }, /* all but one */
		{ 16, 0, 16 }, { 3, 2, 16 }, /* from the middle */
	};
	struct stream *s = make();
	uint64_t pos = stream_attach(s);
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		CU_ASSERT_EQUAL(put(s, rows[i].pos, rows[i].n), rows[i].head);
	CU_ASSERT_EQUAL(drain(s, pos, &wrong), 16);
	CU_ASSERT_EQUAL(wrong, 0);
	free(s);
}

static void
a_full_stream_takes_no_more(void)
{
	struct stream *s = make();
	uint64_t pos = stream_attach(s), head = 0;
	unsigned wrong = 0;

	while (head < STREAM_BYTES)
		head = put(s, head, STREAM_PUT_MAX);
	CU_ASSERT_EQUAL(stream_space(s), 0);
	CU_ASSERT_EQUAL(put(s, head, 1), head);
	stream_release(s, pos + 3);
	CU_ASSERT_EQUAL(stream_space(s), 3);
	CU_ASSERT_EQUAL(put(s, head, 10), head + 3);
	CU_ASSERT_EQUAL(drain(s, pos + 3, &wrong), head + 3);
	CU_ASSERT_EQUAL(wrong, 0);
	free(s);
}

static void
one_put_takes_no_more_than_it_says(void)
{
	struct stream *s = make();

	CU_ASSERT_EQUAL(put(s, 0, STREAM_PUT_MAX + 1), STREAM_PUT_MAX);
	free(s);
}

static void
without_a_reader_the_newest_bytes_stay(void)
{
	struct stream *s = make();
	uint64_t head = 0, pos;
	unsigned wrong = 0;

	while (head < 5 * STREAM_BYTES) {
		CU_ASSERT_EQUAL(stream_space(s), STREAM_BYTES);
		head = put(s, head, 1000);
	}
	pos = stream_attach(s);
	CU_ASSERT_EQUAL(pos, head - STREAM_BACKLOG);
	CU_ASSERT_EQUAL(stream_space(s), STREAM_BYTES - STREAM_BACKLOG);
	CU_ASSERT_EQUAL(drain(s, pos, &wrong), head);
	CU_ASSERT_EQUAL(wrong, 0);
	stream_detach(s);
	CU_ASSERT_EQUAL(stream_space(s), STREAM_BYTES);
	free(s);
}

static void
refuses_impossible_indices(void)
{
	static const struct {
		uint64_t head, tail, pos;
		int put, available;
	} rows[] = {
		{ 0, 1, 0, -EPROTO, 0 },
		{ 100, 101, 100, -EPROTO, 0 },
		{ STREAM_BYTES + 1, 0, 0, -EPROTO, -EPROTO },
		{ ~(uint64_t)0, 0, 0, -EPROTO, -EPROTO },
		{ 4, 4, 5, 0, -EPROTO },
		{ STREAM_BYTES, 0, 0, 0, (int)STREAM_BYTES },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct stream *s = make();
		uint64_t head;
		uint8_t byte = 0;

		(void)stream_attach(s);
		atomic_store(&s->head, rows[i].head);
		atomic_store(&s->tail, rows[i].tail);
		CU_ASSERT_EQUAL(
		    stream_available(s, rows[i].pos), rows[i].available);
		if (rows[i].available < 0)
			CU_ASSERT_EQUAL(
			    stream_peek(s, rows[i].pos, &byte, 1), -EPROTO);
		CU_ASSERT_EQUAL(
		    stream_put(s, rows[i].head, &byte, 1, &head), rows[i].put);
		if (rows[i].put < 0)
			CU_ASSERT_EQUAL(stream_space(s), 0);
		free(s);
	}
}

static void
kicks_once_per_sleep(void)
{
	struct stream *s = make();

	CU_ASSERT_FALSE(stream_kick_consumer(s));
	stream_arm_consumer(s);
	CU_ASSERT_FALSE(stream_kick_producer(s));
	CU_ASSERT_TRUE(stream_kick_consumer(s));
	CU_ASSERT_FALSE(stream_kick_consumer(s));
	stream_arm_producer(s);
	CU_ASSERT_TRUE(stream_kick_producer(s));
	CU_ASSERT_FALSE(stream_kick_producer(s));
	free(s);
}

struct side {
	struct stream *s;
	uint64_t head, pos;
};

static bool
make_byte(void *ctx)
{
	struct side *x = ctx;
	uint8_t byte = byte_at(x->head);

	BUG_ON(stream_put(x->s, x->head, &byte, 1, &x->head) != 0);
	return stream_kick_consumer(x->s);
}

static void
arm_consumer(void *ctx)
{
	struct side *x = ctx;

	stream_arm_consumer(x->s);
}

static bool
look_for_byte(void *ctx)
{
	struct side *x = ctx;

	return stream_available(x->s, x->pos) > 0;
}

static void
take_byte(void *ctx)
{
	struct side *x = ctx;

	stream_release(x->s, ++x->pos);
}

static void
no_wake_up_of_the_consumer_is_lost(void)
{
	struct side x = { .s = make() };
	struct litmus l = {
		.make = make_byte,
		.arm = arm_consumer,
		.look = look_for_byte,
		.take = take_byte,
		.ctx = &x,
	};

	x.pos = stream_attach(x.s);
	litmus_run(&l);
	printf("(%llu rounds) ", (unsigned long long)l.rounds);
	CU_ASSERT_EQUAL(l.lost, 0);
	free(x.s);
}

/* Here the item is space, and the consumer makes it. */
static bool
make_space(void *ctx)
{
	struct side *x = ctx;

	stream_release(x->s, ++x->pos);
	return stream_kick_producer(x->s);
}

static void
arm_producer(void *ctx)
{
	struct side *x = ctx;

	stream_arm_producer(x->s);
}

static bool
look_for_space(void *ctx)
{
	struct side *x = ctx;

	return stream_space(x->s) > 0;
}

static void
take_space(void *ctx)
{
	struct side *x = ctx;
	uint8_t byte = byte_at(x->head);

	BUG_ON(stream_put(x->s, x->head, &byte, 1, &x->head) != 0);
}

static void
no_wake_up_of_the_producer_is_lost(void)
{
	struct side x = { .s = make() };
	struct litmus l = {
		.make = make_space,
		.arm = arm_producer,
		.look = look_for_space,
		.take = take_space,
		.ctx = &x,
	};

	x.pos = stream_attach(x.s);
	while (x.head < STREAM_BYTES)
		x.head = put(x.s, x.head, STREAM_PUT_MAX);
	litmus_run(&l);
	printf("(%llu rounds) ", (unsigned long long)l.rounds);
	CU_ASSERT_EQUAL(l.lost, 0);
	free(x.s);
}

#define FLOW_BYTES (8u << 20)
#define FLOW_NS	   3000000000u

static void *
flow(void *arg)
{
	struct stream *s = arg;
	uint64_t seed = 88172645463325252u, head = 0;
	uint64_t end = time_now_ns() + FLOW_NS;
	uint8_t bytes[STREAM_PUT_MAX];
	unsigned spins = 0;

	while (head < FLOW_BYTES && time_now_ns() < end) {
		size_t n = 1 + litmus_random(&seed) % STREAM_PUT_MAX;
		/* As one that died and forgot how far it was. */
		uint64_t from = head - MIN(head, litmus_random(&seed) % 100);

		for (size_t i = 0; i < n; i++)
			bytes[i] = byte_at(from + i);
		BUG_ON(stream_put(s, from, bytes, n, &head) != 0);
		if (stream_space(s) == 0)
			litmus_spin(&spins);
	}
	return NULL;
}

static void
two_threads_lose_and_repeat_nothing(void)
{
	struct stream *s = make();
	uint64_t pos = stream_attach(s), end = time_now_ns() + FLOW_NS;
	unsigned wrong = 0, spins = 0;
	pthread_t t;

	BUG_ON(pthread_create(&t, NULL, flow, s) != 0);
	while (pos < FLOW_BYTES && time_now_ns() < end) {
		pos = drain(s, pos, &wrong);
		litmus_spin(&spins);
	}
	pthread_join(t, NULL);
	pos = drain(s, pos, &wrong);
	CU_ASSERT_EQUAL(pos, stream_head(s));
	CU_ASSERT_EQUAL(wrong, 0);
	free(s);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(bytes_come_out_as_they_went_in),
		NAMED_TEST(a_byte_put_again_is_there_once),
		NAMED_TEST(a_full_stream_takes_no_more),
		NAMED_TEST(one_put_takes_no_more_than_it_says),
		NAMED_TEST(without_a_reader_the_newest_bytes_stay),
		NAMED_TEST(refuses_impossible_indices),
		NAMED_TEST(kicks_once_per_sleep),
		NAMED_TEST(no_wake_up_of_the_consumer_is_lost),
		NAMED_TEST(no_wake_up_of_the_producer_is_lost),
		NAMED_TEST(two_threads_lose_and_repeat_nothing),
	};
	return named_tests_run("stream", tests, ARRAY_LEN(tests));
}
