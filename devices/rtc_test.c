/* The real-time clock. */
#include <CUnit/Basic.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

#define S  1000000000ull
#define T0 (1000000 * S) /* guest time at which the tests begin */

static uint8_t
get(struct harness *h, uint8_t reg)
{
	harness_out(h, 0, reg);
	return harness_in(h, 1);
}

static void
set(struct harness *h, uint8_t reg, uint8_t value)
{
	harness_out(h, 0, reg);
	harness_out(h, 1, value);
}

/* A clock that stands at T0 of guest time. */
static void
open_rtc(struct harness *h)
{
	harness_open(h, "rtc");
	/* The host's clock has started elsewhere: go to T0 from there. */
	h->now_ns = device_now(&h->dev) + T0;
}

/* century, year, month, day, hour, minute, second, as the registers hold */
static void
set_time(struct harness *h, uint8_t b, const uint8_t time[7])
{
	static const uint8_t reg[] = { 0x32, 9, 8, 7, 4, 2, 0 };

	set(h, 11, b | 0x80);
	for (unsigned i = 0; i < ARRAY_LEN(reg); i++)
		set(h, reg[i], time[i]);
	set(h, 11, b);
}

static void
keeps_the_time_it_is_set_to(void)
{
	static const struct {
		uint8_t b, set[7];
		uint64_t pass_s;
		uint8_t want[7], weekday;
	} table[] = {
		{ 0x02, { 0x20, 0x26, 0x11, 0x25, 0x12, 0x34, 0x56 }, 4,
		    { 0x20, 0x26, 0x11, 0x25, 0x12, 0x35, 0x00 }, 4 },
		{ 0x06, { 19, 99, 12, 31, 23, 59, 59 }, 1,
		    { 20, 0, 1, 1, 0, 0, 0 }, 7 },
		{ 0x00, { 0x20, 0x24, 0x02, 0x28, 0x91, 0x59, 0x59 }, 1,
		    { 0x20, 0x24, 0x02, 0x29, 0x12, 0x00, 0x00 }, 5 },
		{ 0x04, { 20, 23, 2, 28, 0x80 | 11, 59, 59 }, 86401,
		    { 20, 23, 3, 2, 12, 0, 0 }, 5 },
		{ 0x02, { 0x20, 0x00, 0x02, 0x28, 0x00, 0x00, 0x00 }, 86400,
		    { 0x20, 0x00, 0x02, 0x29, 0x00, 0x00, 0x00 }, 3 },
	};
	static const uint8_t reg[] = { 0x32, 9, 8, 7, 4, 2, 0 };

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct harness h;

		open_rtc(&h);
		set_time(&h, table[i].b, table[i].set);
		h.now_ns += table[i].pass_s * S;
		harness_restart(&h);
		for (unsigned n = 0; n < ARRAY_LEN(reg); n++)
			CU_ASSERT_EQUAL(get(&h, reg[n]), table[i].want[n]);
		CU_ASSERT_EQUAL(get(&h, 6), table[i].weekday);
		harness_close(&h);
	}
}

static void
starts_at_the_host_time(void)
{
	struct harness h;
	struct tm tm;
	time_t now;

	harness_open(&h, "rtc");
	set(&h, 11, 0x06);
	now = time(NULL);
	gmtime_r(&now, &tm);
	CU_ASSERT_EQUAL(get(&h, 0x32), (tm.tm_year + 1900) / 100);
	CU_ASSERT_EQUAL(get(&h, 9), tm.tm_year % 100);
	CU_ASSERT_EQUAL(get(&h, 13), 0x80);
	harness_close(&h);
}

static void
does_not_run_while_it_is_set(void)
{
	struct harness h;

	open_rtc(&h);
	set(&h, 11, 0x06);
	set(&h, 11, 0x86);
	set(&h, 0, 7);
	h.now_ns += 100 * S;
	CU_ASSERT_EQUAL(get(&h, 0), 7);
	CU_ASSERT_EQUAL(get(&h, 10) & 0x80, 0);
	set(&h, 11, 0x06);
	CU_ASSERT_EQUAL(get(&h, 0), 7);
	harness_close(&h);
}

static void
tells_when_an_update_is_near(void)
{
	struct harness h;

	open_rtc(&h);
	/* Clearing SET starts a whole second. */
	set(&h, 11, 0x82);
	set(&h, 11, 0x02);
	h.now_ns += S - 245000;
	CU_ASSERT_EQUAL(get(&h, 10), 0x26);
	h.now_ns += 2000;
	CU_ASSERT_EQUAL(get(&h, 10), 0xa6);
	h.now_ns += 243000;
	CU_ASSERT_EQUAL(get(&h, 10), 0x26);
	harness_close(&h);
}

/* Events by the timer step, as the host calls it. */
static void
interrupts_once_until_it_is_read(void)
{
	static const struct {
		uint8_t enable, flag;
		uint64_t after_ns; /* the line rises within this time */
	} table[] = {
		{ 0x40, 0x40, S / 1024 + 1000 },
		{ 0x10, 0x10, S },
		{ 0x20, 0x20, 5 * S },
	};
	static const uint8_t noon[7] = { 20, 26, 1, 1, 12, 0, 0 };

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		const struct device_ops *ops;
		struct harness h;
		uint64_t due;

		open_rtc(&h);
		ops = h.dev.type->ops;
		set_time(&h, 0x06, noon);
		set(&h, 1, 5);
		set(&h, 3, 0xff);
		set(&h, 5, 0xc0);
		get(&h, 12);
		set(&h, 11, 0x06 | table[i].enable);
		CU_ASSERT_EQUAL(harness_irqs(&h, 0), 0);
		due = ops->deadline(&h.dev);
		CU_ASSERT(due > h.now_ns);
		CU_ASSERT(due <= h.now_ns + table[i].after_ns);
		h.now_ns = due;
		ops->timer(&h.dev, due);
		store_commit(&h.dev.store);
		harness_restart(&h);
		CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
		CU_ASSERT_EQUAL(ops->deadline(&h.dev), UINT64_MAX);
		CU_ASSERT_EQUAL(
		    get(&h, 12) & (0x80 | table[i].flag), 0x80 | table[i].flag);
		CU_ASSERT_EQUAL(get(&h, 12), 0);
		CU_ASSERT_NOT_EQUAL(ops->deadline(&h.dev), UINT64_MAX);
		harness_restart(&h);
		CU_ASSERT_EQUAL(harness_irqs(&h, 0), 0);
		harness_close(&h);
	}
}

static void
impossible_alarm_never_comes(void)
{
	struct harness h;

	open_rtc(&h);
	set(&h, 11, 0x22);
	set(&h, 1, 0x5f);
	set(&h, 3, 0x99);
	set(&h, 5, 0x45);
	CU_ASSERT_EQUAL(h.dev.type->ops->deadline(&h.dev), UINT64_MAX);
	harness_close(&h);
}

static void
takes_any_value_in_any_register(void)
{
	struct harness h;
	unsigned seed = 1;

	open_rtc(&h);
	for (unsigned i = 0; i < 20000; i++) {
		set(&h, (uint8_t)rand_r(&seed), (uint8_t)rand_r(&seed));
		h.now_ns += (uint64_t)rand_r(&seed) << (i % 32);
		get(&h, (uint8_t)rand_r(&seed));
	}
	set(&h, 0x40, 0x5a);
	CU_ASSERT_EQUAL(get(&h, 0xc0), 0x5a);
	harness_close(&h);
}

static const struct named_test tests[] = {
	NAMED_TEST(keeps_the_time_it_is_set_to),
	NAMED_TEST(starts_at_the_host_time),
	NAMED_TEST(does_not_run_while_it_is_set),
	NAMED_TEST(tells_when_an_update_is_near),
	NAMED_TEST(interrupts_once_until_it_is_read),
	NAMED_TEST(impossible_alarm_never_comes),
	NAMED_TEST(takes_any_value_in_any_register),
};

int
main(void)
{
	return named_tests_run("rtc", tests, ARRAY_LEN(tests));
}
