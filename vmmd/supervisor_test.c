/* When a dead device comes back, and when it does not. */
#include "vmmd/supervisor.h"

#include <CUnit/Basic.h>

#include "proto/base.h"

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
		struct verdict v =
		    supervisor_judge(&budget, &backoff, &ordered, 0);

		CU_ASSERT_TRUE(v.restart);
		CU_ASSERT_EQUAL(v.delay_ns, 0);
	}
	CU_ASSERT_TRUE(supervisor_judge(&budget, &backoff, &own, 0).restart);
	CU_ASSERT_FALSE(supervisor_judge(&budget, &backoff, &own, 0).restart);
}

static void
hopeless_devices_are_removed_at_once(void)
{
	const struct death d = { .hopeless = true, .ordered = true };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, 100, 0);
	CU_ASSERT_FALSE(supervisor_judge(&budget, &backoff, &d, 0).restart);
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
		CU_ASSERT_TRUE(
		    supervisor_judge(&budget, &backoff, &poisoned, 0).restart);
	CU_ASSERT_TRUE(supervisor_judge(&budget, &backoff, &useful, 0).restart);
	for (unsigned i = 1; i < FRUITLESS_MAX; i++)
		CU_ASSERT_TRUE(
		    supervisor_judge(&budget, &backoff, &poisoned, 0).restart);
	CU_ASSERT_FALSE(
	    supervisor_judge(&budget, &backoff, &poisoned, 0).restart);
}

static void
the_default_budget_survives_fifty_kills_in_twenty_seconds(void)
{
	const struct death d = { .lived_ns = 300000000 };
	struct backoff backoff = { 0 };
	struct budget budget;

	budget_init(&budget, RESTARTS_PER_MINUTE, 0);
	for (unsigned i = 0; i < 60; i++)
		CU_ASSERT_TRUE(
		    supervisor_judge(&budget, &backoff, &d, i * SECOND / 3)
			.restart);
}

int
main(void)
{
	CU_pSuite s;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	s = CU_add_suite("supervisor", NULL, NULL);
	CU_add_test(s, "budget_allows_a_burst_of_a_minutes_worth",
	    budget_allows_a_burst_of_a_minutes_worth);
	CU_add_test(s, "budget_refills_steadily", budget_refills_steadily);
	CU_add_test(s, "budget_survives_a_clock_that_stands_or_steps_back",
	    budget_survives_a_clock_that_stands_or_steps_back);
	CU_add_test(s, "backoff_doubles_up_to_a_second_and_forgets",
	    backoff_doubles_up_to_a_second_and_forgets);
	CU_add_test(
	    s, "ordered_deaths_cost_nothing", ordered_deaths_cost_nothing);
	CU_add_test(s, "hopeless_devices_are_removed_at_once",
	    hopeless_devices_are_removed_at_once);
	CU_add_test(s, "a_request_that_kills_every_time_ends_the_device",
	    a_request_that_kills_every_time_ends_the_device);
	CU_add_test(s,
	    "the_default_budget_survives_fifty_kills_in_twenty_seconds",
	    the_default_budget_survives_fifty_kills_in_twenty_seconds);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
