/* The packet link. */
#include "proto/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/litmus.h"
#include "tests/named_tests.h"

/* Mapped, not allocated: most of it is never touched. */
static struct packet_ring *
make(void)
{
	void *p = mmap(NULL, sizeof(struct packet_ring), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	BUG_ON(p == MAP_FAILED);
	return p;
}

static void
drop(struct packet_ring *r)
{
	munmap(r, sizeof(*r));
}

static uint8_t
byte_at(uint64_t frame, size_t i)
{
	return (uint8_t)(frame * 167 + i * 13 + (i >> 8));
}

/* The length of every frame. */
static size_t
length_of(uint64_t frame)
{
	return PACKET_HEADER + (size_t)(frame * 7919 % 1503);
}

static int
put(struct packet_ring *r, uint64_t frame, size_t n)
{
	static uint8_t bytes[PACKET_BYTES_MAX + 1];
	struct iovec iov[3] = {
		{ bytes, n / 3 },
		{ bytes + n / 3, n / 2 - n / 3 },
		{ bytes + n / 2, n - n / 2 },
	};

	BUG_ON(n > sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		bytes[i] = byte_at(frame, i);
	return packet_put(r, iov, 3);
}

static unsigned
check(const struct packet_ring *r, uint64_t frame, size_t n)
{
	const uint8_t *data = NULL;
	unsigned wrong = packet_peek(r, frame, &data) != (ssize_t)n;

	for (size_t i = 0; wrong == 0 && i < n; i++)
		wrong += data[i] != byte_at(frame, i);
	return wrong;
}

static void
frames_come_out_as_they_went_in(void)
{
	struct packet_ring *r = make();
	uint64_t put_n = 0, taken = 0;
	unsigned wrong = 0;

	while (put_n < 3 * PACKET_SLOTS) {
		for (unsigned i = 0; i < 1 + put_n % 100; i++, put_n++)
			wrong += put(r, put_n, length_of(put_n)) != 0;
		CU_ASSERT_EQUAL(packet_head(r), put_n);
		CU_ASSERT_EQUAL(
		    packet_available(r, taken), (int)(put_n - taken));
		for (; taken < put_n; taken++)
			wrong += check(r, taken, length_of(taken));
		packet_release(r, taken);
		CU_ASSERT_EQUAL(packet_tail(r), taken);
		CU_ASSERT_EQUAL(packet_space(r), (int)PACKET_SLOTS);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	drop(r);
}

static void
takes_frames_of_every_legal_length(void)
{
	static const struct {
		size_t n;
		int result;
	} rows[] = {
		{ 0, -EMSGSIZE },
		{ PACKET_HEADER - 1, -EMSGSIZE },
		{ PACKET_HEADER, 0 },
		{ PACKET_HEADER + 1514, 0 },
		{ PACKET_BYTES_MAX - 1, 0 },
		{ PACKET_BYTES_MAX, 0 },
		{ PACKET_BYTES_MAX + 1, -EMSGSIZE },
	};
	struct packet_ring *r = make();
	const struct iovec huge[2] = { { NULL, 1 }, { NULL, SIZE_MAX } };
	uint64_t pos = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		CU_ASSERT_EQUAL(put(r, pos, rows[i].n), rows[i].result);
		if (rows[i].result == 0) {
			CU_ASSERT_EQUAL(check(r, pos, rows[i].n), 0);
			pos++;
		}
		CU_ASSERT_EQUAL(packet_head(r), pos);
	}
	CU_ASSERT_EQUAL(packet_put(r, huge, 2), -EMSGSIZE);
	drop(r);
}

static void
a_full_ring_takes_no_more(void)
{
	struct packet_ring *r = make();
	const uint8_t *data;

	CU_ASSERT_EQUAL(packet_peek(r, 0, &data), -EAGAIN);
	for (uint64_t i = 0; i < PACKET_SLOTS; i++)
		CU_ASSERT_EQUAL(put(r, i, 60), 0);
	CU_ASSERT_EQUAL(packet_space(r), 0);
	CU_ASSERT_EQUAL(put(r, PACKET_SLOTS, 60), -EAGAIN);
	CU_ASSERT_PTR_NULL(packet_reserve(r));
	packet_release(r, 2);
	CU_ASSERT_EQUAL(packet_space(r), 2);
	CU_ASSERT_EQUAL(put(r, PACKET_SLOTS, 61), 0);
	CU_ASSERT_EQUAL(check(r, 2, 60), 0);
	CU_ASSERT_EQUAL(check(r, PACKET_SLOTS, 61), 0);
	drop(r);
}

static void
a_reserved_slot_is_a_frame_once_committed(void)
{
	struct packet_ring *r = make();
	uint8_t *to;

	for (uint64_t i = 0; i < PACKET_SLOTS + 3; i++) {
		to = packet_reserve(r);
		CU_ASSERT_PTR_NOT_NULL_FATAL(to);
		for (size_t k = 0; k < 100; k++)
			to[k] = byte_at(i, k);
		CU_ASSERT_EQUAL(packet_available(r, i), 0);
		packet_commit(r, 100);
		CU_ASSERT_EQUAL(check(r, i, 100), 0);
		packet_release(r, i + 1);
	}
	drop(r);
}

static void
refuses_impossible_indices(void)
{
	static const struct {
		uint64_t head, tail, pos;
		int space, available;
	} rows[] = {
		{ 0, 1, 0, -EPROTO, 0 },
		{ 100, 101, 100, -EPROTO, 0 },
		{ PACKET_SLOTS + 1, 0, 0, -EPROTO, -EPROTO },
		{ ~(uint64_t)0, 0, 0, -EPROTO, -EPROTO },
		{ 4, 4, 5, PACKET_SLOTS, -EPROTO },
		{ PACKET_SLOTS, 0, 0, 0, PACKET_SLOTS },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct packet_ring *r = make();
		const uint8_t *data;

		atomic_store(&r->head, rows[i].head);
		atomic_store(&r->tail, rows[i].tail);
		CU_ASSERT_EQUAL(packet_space(r), rows[i].space);
		CU_ASSERT_EQUAL(
		    packet_available(r, rows[i].pos), rows[i].available);
		if (rows[i].space < 0) {
			CU_ASSERT_EQUAL(put(r, 0, 60), -EPROTO);
			CU_ASSERT_PTR_NULL(packet_reserve(r));
		}
		if (rows[i].available < 0)
			CU_ASSERT_EQUAL(
			    packet_peek(r, rows[i].pos, &data), -EPROTO);
		drop(r);
	}
}

static void
refuses_impossible_lengths(void)
{
	static const struct {
		uint32_t length;
		ssize_t result;
	} rows[] = {
		{ 0, -EMSGSIZE },
		{ PACKET_HEADER - 1, -EMSGSIZE },
		{ PACKET_HEADER, PACKET_HEADER },
		{ PACKET_BYTES_MAX, PACKET_BYTES_MAX },
		{ PACKET_BYTES_MAX + 1, -EMSGSIZE },
		{ UINT32_MAX, -EMSGSIZE },
	};
	struct packet_ring *r = make();
	const uint8_t *data;

	CU_ASSERT_EQUAL(put(r, 0, 60), 0);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		r->slot[0].length = rows[i].length;
		CU_ASSERT_EQUAL(packet_peek(r, 0, &data), rows[i].result);
	}
	drop(r);
}

static void
a_start_takes_up_a_ring_in_any_state(void)
{
	static const struct {
		uint64_t head, tail, pos;
		uint64_t new_head, new_pos;
	} rows[] = {
		{ 0, 0, 0, 0, 0 },
		{ 10, 4, 4, 10, 4 },
		{ PACKET_SLOTS, 0, 0, PACKET_SLOTS, 0 },
		{ PACKET_SLOTS + 1, 0, 0, 0, PACKET_SLOTS + 1 },
		{ 5, 9, 9, 9, 5 },
		{ ~(uint64_t)0, 7, 7, 7, ~(uint64_t)0 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct packet_ring *r = make();

		atomic_store(&r->head, rows[i].head);
		atomic_store(&r->tail, rows[i].tail);
		packet_resume_producer(r);
		CU_ASSERT_EQUAL(packet_head(r), rows[i].new_head);
		CU_ASSERT(packet_space(r) >= 0);
		atomic_store(&r->head, rows[i].head);
		CU_ASSERT_EQUAL(packet_resume(r, rows[i].pos), rows[i].new_pos);
		CU_ASSERT_EQUAL(packet_tail(r), rows[i].new_pos);
		CU_ASSERT(packet_available(r, rows[i].new_pos) >= 0);
		drop(r);
	}
}

static void
kicks_once_per_sleep(void)
{
	struct packet_ring *r = make();

	CU_ASSERT_FALSE(packet_kick_consumer(r));
	packet_arm_consumer(r);
	CU_ASSERT_FALSE(packet_kick_producer(r));
	CU_ASSERT_TRUE(packet_kick_consumer(r));
	CU_ASSERT_FALSE(packet_kick_consumer(r));
	packet_arm_producer(r);
	CU_ASSERT_TRUE(packet_kick_producer(r));
	CU_ASSERT_FALSE(packet_kick_producer(r));
	drop(r);
}

struct side {
	struct packet_ring *r;
	uint64_t head, pos;
};

static void
put_small(struct side *x)
{
	BUG_ON(put(x->r, x->head++, PACKET_HEADER) != 0);
}

static bool
make_frame(void *ctx)
{
	struct side *x = ctx;

	put_small(x);
	return packet_kick_consumer(x->r);
}

static void
arm_consumer(void *ctx)
{
	struct side *x = ctx;

	packet_arm_consumer(x->r);
}

static bool
look_for_frame(void *ctx)
{
	struct side *x = ctx;

	return packet_available(x->r, x->pos) > 0;
}

static void
take_frame(void *ctx)
{
	struct side *x = ctx;

	packet_release(x->r, ++x->pos);
}

static void
no_wake_up_of_the_consumer_is_lost(void)
{
	struct side x = { .r = make() };
	struct litmus l = {
		.make = make_frame,
		.arm = arm_consumer,
		.look = look_for_frame,
		.take = take_frame,
		.ctx = &x,
	};

	litmus_run(&l);
	printf("(%llu rounds) ", (unsigned long long)l.rounds);
	CU_ASSERT_EQUAL(l.lost, 0);
	drop(x.r);
}

/* Here the item is space, and the consumer makes it. */
static bool
make_space(void *ctx)
{
	struct side *x = ctx;

	packet_release(x->r, ++x->pos);
	return packet_kick_producer(x->r);
}

static void
arm_producer(void *ctx)
{
	struct side *x = ctx;

	packet_arm_producer(x->r);
}

static bool
look_for_space(void *ctx)
{
	struct side *x = ctx;

	return packet_space(x->r) > 0;
}

static void
take_space(void *ctx)
{
	put_small(ctx);
}

static void
no_wake_up_of_the_producer_is_lost(void)
{
	struct side x = { .r = make() };
	struct litmus l = {
		.make = make_space,
		.arm = arm_producer,
		.look = look_for_space,
		.take = take_space,
		.ctx = &x,
	};

	while (x.head < PACKET_SLOTS)
		put_small(&x);
	litmus_run(&l);
	printf("(%llu rounds) ", (unsigned long long)l.rounds);
	CU_ASSERT_EQUAL(l.lost, 0);
	drop(x.r);
}

#define FLOW_FRAMES 20000u
#define FLOW_NS	    3000000000u

static void *
flow(void *arg)
{
	struct packet_ring *r = arg;
	uint64_t end = time_now_ns() + FLOW_NS;
	unsigned spins = 0;

	for (uint64_t i = 0; i < FLOW_FRAMES && time_now_ns() < end;)
		if (put(r, i, length_of(i)) == 0)
			i++;
		else
			litmus_spin(&spins);
	return NULL;
}

static void
two_threads_lose_and_repeat_nothing(void)
{
	struct packet_ring *r = make();
	uint64_t pos = 0, end = time_now_ns() + FLOW_NS;
	unsigned wrong = 0, spins = 0;
	pthread_t t;

	BUG_ON(pthread_create(&t, NULL, flow, r) != 0);
	while (pos < FLOW_FRAMES && time_now_ns() < end) {
		if (packet_available(r, pos) <= 0) {
			litmus_spin(&spins);
			continue;
		}
		wrong += check(r, pos, length_of(pos));
		packet_release(r, ++pos);
	}
	pthread_join(t, NULL);
	for (; packet_available(r, pos) > 0; pos++)
		wrong += check(r, pos, length_of(pos));
	CU_ASSERT_EQUAL(pos, packet_head(r));
	CU_ASSERT_EQUAL(wrong, 0);
	drop(r);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(frames_come_out_as_they_went_in),
		NAMED_TEST(takes_frames_of_every_legal_length),
		NAMED_TEST(a_full_ring_takes_no_more),
		NAMED_TEST(a_reserved_slot_is_a_frame_once_committed),
		NAMED_TEST(refuses_impossible_indices),
		NAMED_TEST(refuses_impossible_lengths),
		NAMED_TEST(a_start_takes_up_a_ring_in_any_state),
		NAMED_TEST(kicks_once_per_sleep),
		NAMED_TEST(no_wake_up_of_the_consumer_is_lost),
		NAMED_TEST(no_wake_up_of_the_producer_is_lost),
		NAMED_TEST(two_threads_lose_and_repeat_nothing),
	};
	return named_tests_run("packet", tests, ARRAY_LEN(tests));
}
