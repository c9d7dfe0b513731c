/* Faults made on purpose: when they fire. */
#include "proto/fault.h"

#include <CUnit/Basic.h>
#include <errno.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static const struct fault_plan any_kill = {
	.kind = FAULT_KILL,
	.region = UINT16_MAX,
	.queue = UINT16_MAX,
	.address = UINT64_MAX,
	.until_ns = UINT64_MAX,
};

/* How many of n requests a plan fires on, alone. */
static unsigned
fired_of(
    const struct fault_plan *plan, const struct fault_request *r, unsigned n)
{
	struct fault_plans plans = { 0 };
	unsigned fired = 0;

	CU_ASSERT_EQUAL(fault_arm(&plans, plan), 0);
	for (unsigned i = 0; i < n; i++)
		fired +=
		    fault_match(&plans, r).kind == (enum fault_kind)plan->kind;
	return fired;
}

static void
fires_on_what_it_is_about(void)
{
	const struct fault_request read = {
		.on = FAULT_ON_READ, .region = 1, .address = 5
	};
	const struct fault_request queue = { .on = FAULT_ON_QUEUE, .queue = 2 };
	static const struct {
		uint32_t on;
		uint16_t region, queue;
		uint64_t address;
		unsigned reads, queues; /* of ten */
	} rows[] = {
		{ FAULT_ON_ANY, UINT16_MAX, UINT16_MAX, UINT64_MAX, 10, 10 },
		{ FAULT_ON_READ, UINT16_MAX, UINT16_MAX, UINT64_MAX, 10, 0 },
		{ FAULT_ON_WRITE, UINT16_MAX, UINT16_MAX, UINT64_MAX, 0, 0 },
		{ FAULT_ON_QUEUE, UINT16_MAX, UINT16_MAX, UINT64_MAX, 0, 10 },
		{ FAULT_ON_ANY, 1, 2, 5, 10, 10 },
		{ FAULT_ON_ANY, 0, 2, 5, 0, 10 },
		{ FAULT_ON_ANY, 1, 1, 5, 10, 0 },
		{ FAULT_ON_READ, 1, 2, 4, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fault_plan p = any_kill;

		p.on = rows[i].on;
		p.region = rows[i].region;
		p.queue = rows[i].queue;
		p.address = rows[i].address;
		CU_ASSERT_EQUAL(fired_of(&p, &read, 10), rows[i].reads);
		CU_ASSERT_EQUAL(fired_of(&p, &queue, 10), rows[i].queues);
	}
}

static void
counts_and_times_bound_it(void)
{
	const struct fault_request r = { .on = FAULT_ON_READ, .now_ns = 50 };
	static const struct {
		uint64_t after, times, until_ns;
		unsigned want; /* of ten */
	} rows[] = {
		{ 0, 0, UINT64_MAX, 10 },
		{ 3, 0, UINT64_MAX, 7 },
		{ 3, 2, UINT64_MAX, 2 },
		{ 10, 0, UINT64_MAX, 0 },
		{ 0, 1, UINT64_MAX, 1 },
		{ 0, 0, 50, 10 },
		{ 0, 0, 49, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fault_plan p = any_kill;

		p.after = rows[i].after;
		p.times = rows[i].times;
		p.until_ns = rows[i].until_ns;
		CU_ASSERT_EQUAL(fired_of(&p, &r, 10), rows[i].want);
	}
}

static void
chance_follows_the_seed_and_nothing_else(void)
{
	const struct fault_request r = { .on = FAULT_ON_WRITE };
	struct fault_plan p = any_kill;
	unsigned first, other;

	p.per_million = 100000;
	p.seed = 7;
	first = fired_of(&p, &r, 10000);
	CU_ASSERT(first > 800 && first < 1200);
	CU_ASSERT_EQUAL(fired_of(&p, &r, 10000), first);
	p.seed = 8;
	other = fired_of(&p, &r, 10000);
	CU_ASSERT(other > 800 && other < 1200 && other != first);
}

static void
a_death_does_not_fire_it_again(void)
{
	const struct fault_request r = { .on = FAULT_ON_READ };
	struct fault_plans plans = { 0 }, seen_by_the_next;
	struct fault_plan p = any_kill;

	p.times = 1;
	CU_ASSERT_EQUAL(fault_arm(&plans, &p), 0);
	CU_ASSERT_EQUAL(fault_match(&plans, &r).kind, FAULT_KILL);
	seen_by_the_next = plans;
	CU_ASSERT_EQUAL(fault_match(&seen_by_the_next, &r).kind, FAULT_NONE);
}

static void
refuses_impossible_plans_and_too_many(void)
{
	struct fault_plans plans = { 0 };
	struct fault_plan p = any_kill;

	p.kind = FAULT_CORRUPT + 1;
	CU_ASSERT_EQUAL(fault_arm(&plans, &p), -EINVAL);
	p = any_kill;
	p.on = FAULT_ON_QUEUE + 1;
	CU_ASSERT_EQUAL(fault_arm(&plans, &p), -EINVAL);
	p = any_kill;
	p.per_million = 1000001;
	CU_ASSERT_EQUAL(fault_arm(&plans, &p), -EINVAL);
	for (unsigned i = 0; i < FAULT_PLANS; i++)
		CU_ASSERT_EQUAL(fault_arm(&plans, &any_kill), (int)i);
	CU_ASSERT_EQUAL(fault_arm(&plans, &any_kill), -ENOSPC);
	fault_disarm_all(&plans);
	CU_ASSERT_EQUAL(fault_arm(&plans, &any_kill), 0);
}

static void
names_and_kinds_are_one(void)
{
	for (int i = FAULT_KILL; i <= FAULT_CORRUPT; i++)
		CU_ASSERT_EQUAL(
		    fault_kind_parse(fault_kind_name((unsigned)i)), i);
	CU_ASSERT_EQUAL(fault_kind_parse("none"), -EINVAL);
	CU_ASSERT_STRING_EQUAL(fault_kind_name(99), "?");
}

static const struct named_test tests[] = {
	NAMED_TEST(fires_on_what_it_is_about),
	NAMED_TEST(counts_and_times_bound_it),
	NAMED_TEST(chance_follows_the_seed_and_nothing_else),
	NAMED_TEST(a_death_does_not_fire_it_again),
	NAMED_TEST(refuses_impossible_plans_and_too_many),
	NAMED_TEST(names_and_kinds_are_one),
};

int
main(void)
{
	return named_tests_run("fault", tests, ARRAY_LEN(tests));
}
