/* ACPI fixed hardware. */
#include <CUnit/Basic.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

static unsigned
get(struct harness *h, uint64_t addr, unsigned size)
{
	return (unsigned)harness_access(h, RING_READ, 0, addr, size, 0);
}

static void
set(struct harness *h, uint64_t addr, unsigned size, uint64_t value)
{
	harness_access(h, RING_WRITE, 0, addr, size, value);
}

static void
timer_counts_at_its_frequency(void)
{
	static const struct {
		uint64_t ns;
		uint32_t ticks;
	} table[] = {
		{ 1, 0 },
		{ 1000000000, 3579545 },
		{ 3600000000000, 0x00053ec4u },
		{ 1199864031881, 0xffffffffu },
	};
	struct harness h;

	harness_open(&h, "acpi-pm");
	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		uint32_t want = (uint32_t)((unsigned __int128)table[i].ns *
		    3579545 / 1000000000);

		h.now_ns = table[i].ns;
		CU_ASSERT_EQUAL(get(&h, 8, 4), want);
		CU_ASSERT_EQUAL(get(&h, 8, 1), want & 0xff);
		CU_ASSERT_EQUAL(get(&h, 10, 2), want >> 16);
	}
	h.now_ns = table[1].ns;
	CU_ASSERT_EQUAL(get(&h, 8, 4), table[1].ticks);
	harness_close(&h);
}

static void
power_button_interrupts_until_cleared(void)
{
	struct harness h;

	harness_open(&h, "acpi-pm");
	CU_ASSERT_EQUAL(get(&h, 4, 2), 1);
	engine_power_button(&h.dev);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 0);
	CU_ASSERT_EQUAL(get(&h, 0, 2), 0x100);
	set(&h, 2, 2, 0x100);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	engine_resample(&h.dev, 0); /* EOI without a clear */
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	harness_restart(&h);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	CU_ASSERT_EQUAL(get(&h, 0, 4), 0x01000100);
	set(&h, 0, 2, 0x100);
	engine_resample(&h.dev, 0);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 0);
	CU_ASSERT_EQUAL(get(&h, 0, 2), 0);
	harness_close(&h);
}

static void
carry_of_the_timer_interrupts(void)
{
	const struct device_ops *ops;
	struct harness h;
	uint64_t due;

	harness_open(&h, "acpi-pm");
	ops = h.dev.type->ops;
	h.now_ns = device_now(&h.dev) + 1000;
	CU_ASSERT_EQUAL(ops->deadline(&h.dev), UINT64_MAX);
	set(&h, 2, 2, 1);
	due = ops->deadline(&h.dev);
	CU_ASSERT(due > h.now_ns && due < h.now_ns + 600000000000ull);
	ops->timer(&h.dev, due - 1);
	CU_ASSERT_EQUAL(ops->deadline(&h.dev), due);
	ops->timer(&h.dev, due);
	CU_ASSERT_EQUAL(ops->deadline(&h.dev), UINT64_MAX);
	h.now_ns = due;
	CU_ASSERT_EQUAL(get(&h, 0, 2), 1);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	harness_close(&h);
}

static void
asks_for_the_end_once(void)
{
	static const struct {
		uint64_t addr, value;
		unsigned size, events;
		enum device_platform_event event;
	} table[] = {
		{ 4, 0x3400, 2, 1, DEVICE_POWEROFF },
		{ 5, 0x34, 1, 1, DEVICE_POWEROFF },
		{ 4, 0x1400, 2, 0, DEVICE_POWEROFF },
		{ 4, 0x2000, 2, 0, DEVICE_POWEROFF },
		{ 12, 1, 1, 1, DEVICE_RESET },
		{ 12, 0, 1, 0, DEVICE_POWEROFF },
		{ 13, 1, 1, 0, DEVICE_POWEROFF },
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct harness h;

		harness_open(&h, "acpi-pm");
		set(&h, table[i].addr, table[i].size, table[i].value);
		CU_ASSERT_EQUAL(h.dev.platform_cookie, table[i].events);
		CU_ASSERT_EQUAL(h.dev.platform_event, table[i].event);
		harness_restart(&h);
		CU_ASSERT_EQUAL(h.dev.platform_cookie, table[i].events);
		get(&h, 4, 2);
		CU_ASSERT_EQUAL(h.dev.platform_cookie, table[i].events);
		harness_close(&h);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(timer_counts_at_its_frequency),
	NAMED_TEST(power_button_interrupts_until_cleared),
	NAMED_TEST(carry_of_the_timer_interrupts),
	NAMED_TEST(asks_for_the_end_once),
};

int
main(void)
{
	return named_tests_run("acpi-pm", tests, ARRAY_LEN(tests));
}
