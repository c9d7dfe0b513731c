/* When a dead device comes back, and when it does not. */
#include "vmmd/supervisor.h"

#include <errno.h>

#include "proto/base.h"
#include "tests/named_tests.h"

#define SECOND 1000000000ull
#define LONG   (10 * SECOND)

static void
budget_allows_a_burst_of_a_minutes_worth(void)
{
	static const uint32_t budgets[] = { 1, 2, 100, 100000 };

	for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
		struct budget b;
		uint32_t n = 0;

		budget_init(&b, budgets[i], SECOND);
		while (n <= budgets[i] && budget_take(&b, SECOND))
			n++;
		CU_ASSERT_EQUAL(n, budgets[i]);
	}
}

static void
budget_refills_steadily(void)
{
	struct budget b;

	budget_init(&b, 60, 0);
	while (budget_take(&b, 0))
		continue;
	CU_ASSERT_FALSE(budget_take(&b, SECOND / 2));
	CU_ASSERT_TRUE(budget_take(&b, SECOND));
	CU_ASSERT_FALSE(budget_take(&b, SECOND));
	/* A long quiet time gives a minute's worth, and no more. */
	for (unsigned i = 0; i < 60; i++)
		CU_ASSERT_TRUE(budget_take(&b, 1000000 * SECOND));
	CU_ASSERT_FALSE(budget_take(&b, 1000000 * SECOND));
}

static void
budget_survives_a_clock_that_stands_or_steps_back(void)
{
	struct budget b;

	budget_init(&b, 1, 100 * SECOND);
	CU_ASSERT_TRUE(budget_take(&b, 100 * SECOND));
	CU_ASSERT_FALSE(budget_take(&b, 50 * SECOND));
	CU_ASSERT_FALSE(budget_take(&b, 50 * SECOND));
}

static void
backoff_doubles_up_to_a_second_and_forgets(void)
{
	static const struct {
		uint64_t lived_ns, delay_ms;
	} steps[] = {
		{ LONG, 0 },
		{ 0, 10 },
		{ 1, 20 },
		{ EARLY_DEATH_NS - 1, 40 },
		{ 0, 80 },
		{ 0, 160 },
		{ 0, 320 },
		{ 0, 640 },
		{ 0, 1000 },
		{ 0, 1000 },
		{ EARLY_DEATH_NS, 0 },
		{ 0, 10 },
	};
	struct backoff b = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(steps); i++)
		CU_ASSERT_EQUAL(backoff_next(&b, steps[i].lived_ns),
		    steps[i].delay_ms * 1000000);
}

static void
ordered_deaths_cost_nothing(void)
{
	const struct death ordered = { .ordered = true };
	const struct death own = { .lived_ns = LONG };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, 1, 0);
	for (unsigned i = 0; i < 1000; i++) {
		struct verdict v = supervisor_judge(
		    &budget, &backoff, POLICY_REMOVE, &ordered, 0);

		CU_ASSERT_TRUE(v.restart);
		CU_ASSERT_EQUAL(v.delay_ns, 0);
	}
	CU_ASSERT_TRUE(
	    supervisor_judge(&budget, &backoff, POLICY_REMOVE, &own, 0)
		.restart);
	CU_ASSERT_FALSE(
	    supervisor_judge(&budget, &backoff, POLICY_REMOVE, &own, 0)
		.restart);
}

static void
hopeless_devices_are_removed_at_once(void)
{
	const struct death d = { .hopeless = true, .ordered = true };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, 100, 0);
	CU_ASSERT_FALSE(
	    supervisor_judge(&budget, &backoff, POLICY_REMOVE, &d, 0).restart);
}

static void
a_request_that_kills_every_time_ends_the_device(void)
{
	const struct death poisoned = { .lived_ns = LONG, .fruitless = true };
	const struct death useful = { .lived_ns = LONG };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, 100, 0);
	for (unsigned i = 1; i < FRUITLESS_MAX; i++)
		CU_ASSERT_TRUE(supervisor_judge(
		    &budget, &backoff, POLICY_REMOVE, &poisoned, 0)
				   .restart);
	CU_ASSERT_TRUE(
	    supervisor_judge(&budget, &backoff, POLICY_REMOVE, &useful, 0)
		.restart);
	for (unsigned i = 1; i < FRUITLESS_MAX; i++)
		CU_ASSERT_TRUE(supervisor_judge(
		    &budget, &backoff, POLICY_REMOVE, &poisoned, 0)
				   .restart);
	CU_ASSERT_FALSE(
	    supervisor_judge(&budget, &backoff, POLICY_REMOVE, &poisoned, 0)
		.restart);
}

static void
the_default_budget_survives_fifty_kills_in_twenty_seconds(void)
{
	const struct death d = { .lived_ns = 300000000 };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, RESTARTS_PER_MINUTE, 0);
	for (unsigned i = 0; i < 60; i++)
		CU_ASSERT_TRUE(supervisor_judge(
		    &budget, &backoff, POLICY_REMOVE, &d, i * SECOND / 3)
				   .restart);
}

static void
spares_come_slower_the_more_of_them_are_lost(void)
{
	static const struct {
		unsigned lost;
		uint64_t delay_ms;
	} cases[] = {
		{ 0, 50 },
		{ 1, 200 },
		{ 2, 800 },
		{ 5, 51200 },
		{ 6, 60000 },
		{ UINT32_MAX, 60000 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		CU_ASSERT_EQUAL(
		    spare_delay_ns(cases[i].lost), cases[i].delay_ms * 1000000);
}

static void
a_device_that_is_to_be_restarted_always_is(void)
{
	const struct death poisoned = { .fruitless = true, .lived_ns = 1 };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, 1, 0);
	for (unsigned i = 0; i < 1000; i++) {
		struct verdict v = supervisor_judge(
		    &budget, &backoff, POLICY_RESTART, &poisoned, 0);

		CU_ASSERT_TRUE(v.restart);
		CU_ASSERT(v.delay_ns >= BACKOFF_MIN_NS &&
		    v.delay_ns <= BACKOFF_MAX_NS);
	}
}

static void
policies_have_names(void)
{
	static const struct {
		const char *name;
		int r;
		enum policy policy;
	} cases[] = {
		{ "", 0, POLICY_REMOVE },
		{ "remove", 0, POLICY_REMOVE },
		{ "restart", 0, POLICY_RESTART },
		{ "stop-vm", 0, POLICY_STOP_VM },
		{ "explode", -EINVAL, POLICY_REMOVE },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum policy policy;

		CU_ASSERT_EQUAL(
		    policy_parse(cases[i].name, &policy), cases[i].r);
		CU_ASSERT_EQUAL(policy, cases[i].policy);
	}
}

static void
a_hang_is_found_out_within_the_deadline(void)
{
	static const uint64_t deadlines[] = { 1000000, 10000000, 200000000,
		60ull * SECOND };

	for (size_t i = 0; i < ARRAY_LEN(deadlines); i++) {
		struct health h = health_of(deadlines[i]);

		CU_ASSERT(h.every_ns > 0 && h.answer_ns > 0);
		CU_ASSERT(h.every_ns <= PING_NS);
		CU_ASSERT_EQUAL(h.every_ns + h.answer_ns, deadlines[i]);
	}
	CU_ASSERT_EQUAL(health_of(0).answer_ns, PONG_NS);
}

static const struct named_test tests[] = {
	NAMED_TEST(budget_allows_a_burst_of_a_minutes_worth),
	NAMED_TEST(budget_refills_steadily),
	NAMED_TEST(budget_survives_a_clock_that_stands_or_steps_back),
	NAMED_TEST(backoff_doubles_up_to_a_second_and_forgets),
	NAMED_TEST(ordered_deaths_cost_nothing),
	NAMED_TEST(hopeless_devices_are_removed_at_once),
	NAMED_TEST(a_request_that_kills_every_time_ends_the_device),
	NAMED_TEST(the_default_budget_survives_fifty_kills_in_twenty_seconds),
	NAMED_TEST(a_device_that_is_to_be_restarted_always_is),
	NAMED_TEST(policies_have_names),
	NAMED_TEST(a_hang_is_found_out_within_the_deadline),
	NAMED_TEST(spares_come_slower_the_more_of_them_are_lost),
};

int
main(void)
{
	return named_tests_run("supervisor", tests, ARRAY_LEN(tests));
}
