/* Rate limits, on made-up time. */
#include <CUnit/Basic.h>

#include "devices/block/throttle.h"
#include "proto/base.h"
#include "tests/named_tests.h"

#define S 1000000000ull
#define T (1000 * S)

/* Send requests as early as they may go until `end`; how many went. */
static unsigned
run(struct throttle *t, uint64_t now, uint64_t end, uint64_t bytes)
{
	unsigned n = 0;

	for (;;) {
		if (!throttle_may(t, now)) {
			uint64_t when = throttle_when(t);

			CU_ASSERT(when > now);
			CU_ASSERT_TRUE(throttle_may(t, when));
			CU_ASSERT_FALSE(throttle_may(t, when - 1));
			now = when;
		}
		if (now >= end || n == 1000000)
			return n;
		throttle_take(t, bytes, now);
		n++;
	}
}

static void
gives_the_rate_and_the_burst(void)
{
	static const struct {
		struct throttle t;
		uint64_t bytes;
		unsigned least, most; /* in 10 s */
	} table[] = {
		/* 100 ms of the rate at first, then the rate */
		{ { .ops = { .rate = 100 } }, 4096, 1010, 1012 },
		{ { .ops = { .rate = 100, .burst = 50 } }, 4096, 1050, 1052 },
		{ { .ops = { .rate = 1 } }, 4096, 10, 12 },
		{ { .bytes = { .rate = 1 << 20 } }, 4096, 2585, 2588 },
		{ { .bytes = { .rate = 1 << 20, .burst = 10 << 20 } }, 4096,
		    5119, 5122 },
		/* larger than the burst: they go all the same, in their time */
		{ { .bytes = { .rate = 1 << 20, .burst = 4096 } }, 1 << 20, 10,
		    12 },
		/* both: the stricter one */
		{ { .bytes = { .rate = 1 << 20 }, .ops = { .rate = 10 } }, 512,
		    101, 102 },
		/* rates that give fractions of nanoseconds */
		{ { .ops = { .rate = 3, .burst = 1 } }, 0, 30, 32 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct throttle t = table[i].t;
		unsigned n = run(&t, T, T + 10 * S, table[i].bytes);

		CU_ASSERT(n >= table[i].least && n <= table[i].most);
	}
}

static void
without_limits_everything_goes(void)
{
	struct throttle t = { .ops = { .burst = 5 } };

	CU_ASSERT_EQUAL(run(&t, T, T + 1, 1 << 30), 1000000);
}

static void
a_pause_fills_no_more_than_the_burst(void)
{
	struct throttle t = { .ops = { .rate = 1000, .burst = 10 } };
	unsigned n;

	run(&t, T, T + S, 0);
	n = run(&t, T + 100 * S, T + 100 * S + 1, 0);
	CU_ASSERT(n >= 10 && n <= 11);
}

static void
a_jump_of_the_clock_holds_nobody_up(void)
{
	struct throttle t = { .ops = { .rate = 1 } };

	run(&t, T, T + 100 * S, 0);
	throttle_refill(&t, S);
	CU_ASSERT_TRUE(throttle_may(&t, S));
}

static void
numbers_at_their_limits_do_no_harm(void)
{
	struct throttle t = {
		.bytes = { .rate = 1, .burst = THROTTLE_RATE_MAX },
		.ops = { .rate = THROTTLE_RATE_MAX },
	};

	for (unsigned i = 0; i < 1000; i++)
		throttle_take(&t, UINT64_MAX, T);
	CU_ASSERT_FALSE(throttle_may(&t, T));
	CU_ASSERT(throttle_when(&t) > T);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(gives_the_rate_and_the_burst),
		NAMED_TEST(without_limits_everything_goes),
		NAMED_TEST(a_pause_fills_no_more_than_the_burst),
		NAMED_TEST(a_jump_of_the_clock_holds_nobody_up),
		NAMED_TEST(numbers_at_their_limits_do_no_harm),
	};

	return named_tests_run("throttle", tests, ARRAY_LEN(tests));
}
