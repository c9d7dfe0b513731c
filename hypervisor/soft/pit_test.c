/* Tests of the 8254 timer, in a time of their own. */
#include "hypervisor/soft/pit.h"

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>

#include "proto/base.h"

#define T0 1000000u

static struct pit pit;

/* The first nanosecond after T0 at which n ticks have passed. */
static uint64_t
at(uint64_t ticks)
{
	return T0 + (ticks * 1000000000u + PIT_HZ - 1) / PIT_HZ;
}

static void
program(unsigned n, unsigned mode, unsigned count)
{
	pit_init(&pit);
	pit_write(&pit, 0x61, 1, T0);
	pit_write(&pit, 0x43, (uint8_t)(n << 6 | 0x30 | mode << 1), T0);
	pit_write(&pit, 0x40 + n, (uint8_t)count, T0);
	pit_write(&pit, 0x40 + n, (uint8_t)(count >> 8), T0);
}

static unsigned
latched(unsigned n, uint64_t now)
{
	unsigned low;

	pit_write(&pit, 0x43, (uint8_t)(n << 6), now);
	low = pit_read(&pit, 0x40 + n, now);
	return low | (unsigned)pit_read(&pit, 0x40 + n, now) << 8;
}

static void
counts_and_outputs_as_its_mode_says(void)
{
	static const struct {
		unsigned mode, count;
		uint64_t tick;
		unsigned counter;
		bool out;
	} cases[] = {
		{ 0, 1000, 0, 1000, false },
		{ 0, 1000, 999, 1, false },
		{ 0, 1000, 1000, 0, true },
		{ 0, 1000, 1001, 65535, true },
		{ 0, 0, 65535, 1, false },
		{ 0, 0, 65536, 0, true },
		{ 2, 1000, 0, 1000, true },
		{ 2, 1000, 998, 2, true },
		{ 2, 1000, 999, 1, false },
		{ 2, 1000, 1000, 1000, true },
		{ 3, 1000, 0, 1000, true },
		{ 3, 1000, 499, 2, true },
		{ 3, 1000, 500, 1000, false },
		{ 3, 1000, 1000, 1000, true },
		{ 4, 1000, 999, 1, true },
		{ 4, 1000, 1000, 0, false },
		{ 4, 1000, 1001, 65535, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		program(2, cases[i].mode, cases[i].count);
		CU_ASSERT_EQUAL(
		    latched(2, at(cases[i].tick)), cases[i].counter);
		CU_ASSERT_EQUAL(
		    pit_output(&pit, 2, at(cases[i].tick)), cases[i].out);
		CU_ASSERT_EQUAL(
		    pit_read(&pit, 0x61, at(cases[i].tick)) >> 5, cases[i].out);
	}
}

static void
knows_when_it_is_due(void)
{
	static const struct {
		unsigned mode;
		uint64_t first, second;
	} cases[] = {
		{ 0, 1193, 0 },
		{ 2, 1193, 2386 },
		{ 3, 1193, 2386 },
		{ 4, 1194, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t due;

		program(0, cases[i].mode, 1193);
		due = pit_due_ns(&pit);
		CU_ASSERT_EQUAL(due, at(cases[i].first));
		CU_ASSERT_EQUAL(pit_edges(&pit, due - 1), 0);
		CU_ASSERT_EQUAL(pit_edges(&pit, due), 1);
		CU_ASSERT_EQUAL(pit_edges(&pit, due), 0);
		CU_ASSERT_EQUAL(pit_due_ns(&pit),
		    cases[i].second ? at(cases[i].second) : PIT_NEVER);
	}
	pit_init(&pit);
	CU_ASSERT_EQUAL(pit_due_ns(&pit), PIT_NEVER);
}

static void
gate_holds_and_triggers(void)
{
	program(2, 0, 1000);
	pit_write(&pit, 0x61, 0, at(300));
	CU_ASSERT_EQUAL(latched(2, at(5000)), 700);
	pit_write(&pit, 0x61, 1, at(5000));
	CU_ASSERT_EQUAL(latched(2, at(5000) + 100 * 838 + 800), 600);

	program(2, 1, 1000); /* one-shot: OUT is high until triggered */
	CU_ASSERT_TRUE(pit_output(&pit, 2, at(10)));
	pit_write(&pit, 0x61, 0, at(10));
	pit_write(&pit, 0x61, 1, at(20));
	CU_ASSERT_FALSE(pit_output(&pit, 2, at(30)));
	CU_ASSERT_TRUE(pit_output(&pit, 2, at(1030)));
}

static void
read_back_latches_status_and_count(void)
{
	program(0, 2, 0x1234);
	pit_write(&pit, 0x43, 0xc2, at(4)); /* both, of counter 0 */
	CU_ASSERT_EQUAL(pit_read(&pit, 0x40, at(9)), 0x80 | 0x30 | 2 << 1);
	CU_ASSERT_EQUAL(pit_read(&pit, 0x40, at(9)), 0x30);
	CU_ASSERT_EQUAL(pit_read(&pit, 0x40, at(9)), 0x12);
	pit_write(&pit, 0x43, 0x34, at(10));
	pit_write(&pit, 0x43, 0xe2, at(10));
	CU_ASSERT_EQUAL(pit_read(&pit, 0x40, at(10)) & 0x40, 0x40);
}

static void
counts_decimal(void)
{
	pit_init(&pit);
	pit_write(&pit, 0x61, 1, T0);
	pit_write(&pit, 0x43, 0xb1, T0);
	pit_write(&pit, 0x42, 0x00, T0);
	pit_write(&pit, 0x42, 0x10, T0);
	CU_ASSERT_EQUAL(latched(2, at(1)), 0x999);
	CU_ASSERT_TRUE(pit_output(&pit, 2, at(1000)));
}

int
main(void)
{
	static CU_TestInfo tests[] = {
		{ "counts_and_outputs_as_its_mode_says",
		    counts_and_outputs_as_its_mode_says },
		{ "knows_when_it_is_due", knows_when_it_is_due },
		{ "gate_holds_and_triggers", gate_holds_and_triggers },
		{ "read_back_latches_status_and_count",
		    read_back_latches_status_and_count },
		{ "counts_decimal", counts_decimal },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "pit", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_run_tests();
	return CU_get_number_of_failures() ? 1 : 0;
}
