/* The balloon. */
#include "tests/driver.h"
#include "tests/lives.h"
#include "tests/named_tests.h"

#define INFLATE	    0u
#define DEFLATE	    1u
#define STATS	    2u
#define PAGE	    4096u
#define PAGES	    32u
#define FIRST	    1024u /* page number of the pages that are given up */

#define F_STATS	    (1ull << 1)
#define F_OOM	    (1ull << 2)
#define F_REPORTING (1ull << 5)

enum counter {
	FREE_BYTES = 4,
	TOTAL_BYTES,
	TARGET = 10,
	ACTUAL,
	INFLATED,
	DEFLATED,
	REPORTED,
	BAD,
};

struct guest {
	struct harness h;
	struct driver d;
	uint64_t at; /* buffers */
};

static void
open_guest(struct guest *g, uint64_t features)
{
	memset(g, 0, sizeof(*g));
	harness_open(&g->h, "virtio-balloon");
	driver_open(&g->d, &g->h, features);
	g->at = driver_alloc(&g->d, 1u << 20);
}

/* Pages that the guest has written to. */
static void
dirty(struct guest *g)
{
	memset(
	    harness_ram(&g->h, FIRST * PAGE, PAGES * PAGE), 0xaa, PAGES * PAGE);
}

static bool
is(struct guest *g, unsigned page, uint8_t value)
{
	const uint8_t *p =
	    harness_ram(&g->h, (FIRST + page) * (uint64_t)PAGE, PAGE);

	return p[0] == value && p[PAGE - 1] == value &&
	    memcmp(p, p + 1, PAGE - 1) == 0;
}

static uint64_t
counter(struct guest *g, enum counter c)
{
	return stats_get(&g->h.dev.store.stats->own[c]);
}

/* A chain with these bytes; true: it was used. */
static bool
give(struct guest *g, unsigned queue, const void *bytes, uint32_t n)
{
	struct driver_seg seg[] = { { g->at, n / 2, false },
		{ g->at + n / 2, n - n / 2, false } };
	uint16_t id;
	uint32_t len;

	memcpy(driver_at(&g->d, g->at), bytes, n);
	BUG_ON(driver_put(&g->d, queue, seg, 2) == DRIVER_NONE);
	driver_kick(&g->d, queue);
	harness_run(&g->h);
	g->at += n;
	return driver_take(&g->d, queue, &id, &len);
}

/* ---- tests ---- */

static void
memory_of_inflated_pages_goes_back(void)
{
	static const struct {
		uint32_t pfn[6];
		unsigned n;
	} cases[] = {
		{ { FIRST }, 1 },
		{ { FIRST, FIRST + 1, FIRST + 2 }, 3 },
		{ { FIRST + 5, FIRST + 4, FIRST + 3 }, 3 },
		{ { FIRST + 9, FIRST + 2, FIRST + 30, FIRST + 31, FIRST }, 5 },
		{ { FIRST + 7, FIRST + 7, FIRST + 8 }, 3 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct guest g;
		bool gone[PAGES] = { false };

		open_guest(&g, i % 2 ? VIRTIO_F_RING_PACKED : 0);
		dirty(&g);
		CU_ASSERT(give(&g, INFLATE, cases[i].pfn, 4 * cases[i].n));
		for (unsigned k = 0; k < cases[i].n; k++)
			gone[cases[i].pfn[k] - FIRST] = true;
		for (unsigned k = 0; k < PAGES; k++)
			CU_ASSERT(is(&g, k, gone[k] ? 0 : 0xaa));
		CU_ASSERT_EQUAL(counter(&g, INFLATED), cases[i].n);
		CU_ASSERT_EQUAL(counter(&g, BAD), 0);
		harness_close(&g.h);
	}
}

static void
deflated_pages_are_left_alone(void)
{
	const uint32_t pfn[] = { FIRST, FIRST + 1 };
	struct guest g;

	open_guest(&g, 0);
	dirty(&g);
	CU_ASSERT(give(&g, DEFLATE, pfn, sizeof(pfn)));
	CU_ASSERT(is(&g, 0, 0xaa));
	CU_ASSERT_EQUAL(counter(&g, DEFLATED), 2);
	harness_close(&g.h);
}

static void
hostile_page_numbers_are_counted_and_ignored(void)
{
	const uint32_t pfn[] = { UINT32_MAX, 0x80000000, HARNESS_RAM / PAGE,
		FIRST, HARNESS_RAM / PAGE - 1, HARNESS_RAM / PAGE,
		HARNESS_RAM / PAGE + 1, 0xfffff, 0x100000 };
	struct guest g;

	open_guest(&g, 0);
	dirty(&g);
	CU_ASSERT(give(&g, INFLATE, pfn, sizeof(pfn)));
	CU_ASSERT(is(&g, 0, 0));
	CU_ASSERT(is(&g, 1, 0xaa));
	CU_ASSERT_EQUAL(counter(&g, INFLATED), 2);
	CU_ASSERT_EQUAL(counter(&g, BAD), 7);
	/* And bytes that make no number. */
	CU_ASSERT(give(&g, INFLATE, "abc", 3));
	CU_ASSERT_EQUAL(counter(&g, BAD), 7);
	CU_ASSERT_FALSE(driver_status(&g.d) & VIRTIO_NEEDS_RESET);
	harness_close(&g.h);
}

/* Reporting is queue 4 by the book; Linux leaves out what it does not use. */
static void
report_on(uint64_t features, unsigned queue)
{
	struct guest g;
	struct driver_seg seg[] = {
		{ (FIRST + 2) * PAGE, 2 * PAGE, true },
		{ (FIRST + 8) * PAGE, PAGE, true },
		{ (FIRST + 12) * PAGE + 512, PAGE, true },
	};
	uint16_t id;
	uint32_t len;

	open_guest(&g, features | F_REPORTING);
	dirty(&g);
	driver_put(&g.d, queue, seg, 3);
	driver_kick(&g.d, queue);
	harness_run(&g.h);
	CU_ASSERT(driver_take(&g.d, queue, &id, &len));
	for (unsigned k = 0; k < PAGES; k++)
		CU_ASSERT(is(&g, k, k == 2 || k == 3 || k == 8 ? 0 : 0xaa));
	CU_ASSERT_EQUAL(counter(&g, REPORTED), 3 * PAGE);
	CU_ASSERT_EQUAL(counter(&g, BAD), 1);
	harness_close(&g.h);
}

static void
memory_of_reported_pages_goes_back(void)
{
	report_on(0, 2);
	report_on(F_STATS, 3);
	report_on(F_STATS, 4);
	report_on(0, 4);
}

static void
pages_above_4_gib_can_be_reported(void)
{
	const struct harness_want want = {
		.vcpus = 1, .ram_low = 8u << 20, .ram_high = 8u << 20
	};
	const uint64_t page = (4ull << 30) + 3 * PAGE;
	struct driver_seg seg = { page, PAGE, true };
	struct guest g;
	uint8_t *p;

	memset(&g, 0, sizeof(g));
	harness_open_want(&g.h, "virtio-balloon", &want);
	driver_open(&g.d, &g.h, F_REPORTING);
	p = harness_ram(&g.h, page, PAGE);
	memset(p - PAGE, 0xaa, 3 * PAGE);
	driver_put(&g.d, 2, &seg, 1);
	driver_kick(&g.d, 2);
	CU_ASSERT(p[0] == 0 && p[PAGE - 1] == 0);
	CU_ASSERT(p[-1] == 0xaa && p[PAGE] == 0xaa);
	harness_close(&g.h);
}

struct stat_entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));

static void
statistics_are_asked_for_again_and_again(void)
{
	struct stat_entry e[] = { { 4, 1000 }, { 5, 2000 }, { 999, 7 } };
	struct guest g;
	uint16_t id;
	uint32_t len;

	open_guest(&g, F_STATS);
	/* The device keeps the buffer until it wants new ones. */
	CU_ASSERT_FALSE(give(&g, STATS, e, sizeof(e)));
	CU_ASSERT_EQUAL(counter(&g, FREE_BYTES), 1000);
	CU_ASSERT_EQUAL(counter(&g, TOTAL_BYTES), 2000);
	harness_restart(&g.h);
	CU_ASSERT_FALSE(driver_take(&g.d, STATS, &id, &len));
	CU_ASSERT(g.h.dev.type->ops->deadline(&g.h.dev) != UINT64_MAX);
	CU_ASSERT_EQUAL(
	    g.h.dev.type->ops->reconfigure(&g.h.dev, "interval", "0"), 0);
	CU_ASSERT_EQUAL(g.h.dev.type->ops->deadline(&g.h.dev), UINT64_MAX);
	g.h.dev.type->ops->timer(&g.h.dev, device_now(&g.h.dev));
	CU_ASSERT(driver_take(&g.d, STATS, &id, &len));
	e[0].value = 500;
	CU_ASSERT_FALSE(give(&g, STATS, e, sizeof(e)));
	CU_ASSERT_EQUAL(counter(&g, FREE_BYTES), 500);
	harness_close(&g.h);
}

static void
the_size_can_change_while_it_runs(void)
{
	struct guest g;

	open_guest(&g, 0);
	CU_ASSERT_EQUAL(driver_config(&g.d, 0, 4), 0);
	harness_msi(&g.h, 0);
	CU_ASSERT_EQUAL(
	    g.h.dev.type->ops->reconfigure(&g.h.dev, "size", "64"), 0);
	harness_access(&g.h, RING_READ, 1, 0x2000, 4, 0);
	CU_ASSERT_EQUAL(driver_config(&g.d, 0, 4), 64 * 256);
	CU_ASSERT_EQUAL(harness_msi(&g.h, 0), 1);
	harness_restart(&g.h);
	CU_ASSERT_EQUAL(driver_config(&g.d, 0, 4), 64 * 256);
	driver_write(&g.d, VIRTIO_REGION_REGISTERS, 0x2004, 4, 99);
	CU_ASSERT_EQUAL(driver_config(&g.d, 4, 4), 99);
	CU_ASSERT_EQUAL(counter(&g, TARGET), 64 * 256);
	CU_ASSERT_EQUAL(counter(&g, ACTUAL), 99);
	driver_write(&g.d, VIRTIO_REGION_REGISTERS, 0x2000, 4, 1);
	CU_ASSERT_EQUAL(driver_config(&g.d, 0, 4), 64 * 256);
	harness_close(&g.h);
}

static void
options_that_cannot_be_are_refused(void)
{
	static const struct {
		const char *key, *value;
		int rc;
	} cases[] = {
		{ "size", "", -EINVAL },
		{ "size", "-1", -EINVAL },
		{ "size", "1x", -EINVAL },
		{ "size", "16777215", 0 },
		{ "size", "16777216", -EINVAL },
		{ "size", "512M", 0 },
		{ "size", "2G", 0 },
		{ "size", "16384G", -EINVAL },
		{ "size", "G", -EINVAL },
		{ "size", "1K", -EINVAL },
		{ "interval", "86401", -EINVAL },
		{ "reporting", "maybe", -EINVAL },
		{ "reporting", "off", 0 },
		{ "deflate-on-oom", "off", 0 },
		{ "colour", "red", -ENOENT },
	};
	struct guest g;

	open_guest(&g, 0);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
		CU_ASSERT_EQUAL(g.h.dev.type->ops->configure(
				    &g.h.dev, cases[i].key, cases[i].value),
		    cases[i].rc);
	CU_ASSERT_EQUAL(driver_offered(&g.d) & (F_OOM | F_REPORTING), 0);
	harness_close(&g.h);
}

static void
gives_all_pages_back_wherever_it_dies(void)
{
	const struct device_type *t = device_type_find("virtio-balloon");
	unsigned n = lives_deaths(LIVES_SLOW ? 2 : 6);
	uint64_t all = 0;

	for (unsigned k = 0; k <= n; k++) {
		struct guest g;
		uint16_t id;
		uint32_t len;
		unsigned used = 0;

		open_guest(&g, 0);
		dirty(&g);
		harness_stop(&g.h);
		for (uint32_t i = 0; i < PAGES / 2; i++) {
			uint32_t pfn = FIRST + 2 * i;
			struct driver_seg seg = { g.at, 4, false };

			memcpy(driver_at(&g.d, g.at), &pfn, 4);
			BUG_ON(
			    driver_put(&g.d, INFLATE, &seg, 1) == DRIVER_NONE);
			g.at += 4;
		}
		/* The first of them counts how long a life is. */
		if (k == 0)
			all = lives_run(&g.h, t, LIVES_TO_THE_END - 1);
		else
			(void)lives_run(&g.h, t, all * k / n + k);
		(void)lives_run(&g.h, t, LIVES_TO_THE_END);
		while (driver_take(&g.d, INFLATE, &id, &len))
			used++;
		CU_ASSERT_EQUAL(used, PAGES / 2);
		for (unsigned i = 0; i < PAGES; i++)
			CU_ASSERT(is(&g, i, i % 2 ? 0xaa : 0));
		harness_close(&g.h);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(memory_of_inflated_pages_goes_back),
	NAMED_TEST(deflated_pages_are_left_alone),
	NAMED_TEST(hostile_page_numbers_are_counted_and_ignored),
	NAMED_TEST(memory_of_reported_pages_goes_back),
	NAMED_TEST(pages_above_4_gib_can_be_reported),
	NAMED_TEST(statistics_are_asked_for_again_and_again),
	NAMED_TEST(the_size_can_change_while_it_runs),
	NAMED_TEST(options_that_cannot_be_are_refused),
	NAMED_TEST(gives_all_pages_back_wherever_it_dies),
};

int
main(int argc UNUSED, char **argv)
{
	lives_init(argv);
	return named_tests_run("virtio_balloon", tests, ARRAY_LEN(tests));
}
