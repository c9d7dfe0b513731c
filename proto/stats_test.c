/* Statistics: what a histogram may say of the times that it was given. */
#include "proto/stats.h"

#include <CUnit/Basic.h>
#include <pthread.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

#define NOTES 200000u

static void
every_value_lies_in_its_bucket(void)
{
	for (unsigned bit = 0; bit < 33; bit++)
		for (int off = -2; off <= 2; off++) {
			uint64_t v = (1ull << bit) + (unsigned long long)off;
			unsigned b;

			if (v > 1ull << 33)
				continue;
			b = stats_bucket(v);
			CU_ASSERT_FATAL(b < STATS_BUCKETS);
			CU_ASSERT(stats_bucket_floor(b) <= v);
			if (b + 1 < STATS_BUCKETS)
				CU_ASSERT(v < stats_bucket_floor(b + 1));
		}
}

static void
buckets_have_no_gap_and_no_overlap(void)
{
	for (unsigned b = 0; b < STATS_BUCKETS; b++) {
		CU_ASSERT_EQUAL(stats_bucket(stats_bucket_floor(b)), b);
		if (b > 0)
			CU_ASSERT_EQUAL(
			    stats_bucket(stats_bucket_floor(b) - 1), b - 1);
	}
}

static void
a_bucket_is_at_most_a_quarter_wide(void)
{
	for (unsigned b = 4; b + 1 < STATS_BUCKETS; b++) {
		uint64_t from = stats_bucket_floor(b);

		CU_ASSERT((stats_bucket_floor(b + 1) - from) * 4 <= from);
	}
}

static void
the_last_bucket_takes_all_that_is_longer(void)
{
	CU_ASSERT_EQUAL(stats_bucket(UINT64_MAX), STATS_BUCKETS - 1);
	/* A second is not yet there. */
	CU_ASSERT(stats_bucket(1000000000) < STATS_BUCKETS - 1);
}

static void
an_empty_histogram_has_no_percentile(void)
{
	static const struct stats_histogram h;

	CU_ASSERT_EQUAL(stats_percentile(&h, 0), 0);
	CU_ASSERT_EQUAL(stats_percentile(&h, 500), 0);
	CU_ASSERT_EQUAL(stats_percentile(&h, 1000), 0);
}

static void
percentiles_bound_what_was_noted(void)
{
	static const struct {
		unsigned per_mille;
		uint64_t value; /* of 1 to 10000 ns, one each */
	} cases[] = { { 1, 10 }, { 500, 5000 }, { 900, 9000 }, { 990, 9900 },
		{ 1000, 10000 } };
	struct stats_histogram h;

	memset(&h, 0, sizeof(h));
	for (uint64_t ns = 1; ns <= 10000; ns++)
		stats_note(&h, ns);
	CU_ASSERT_EQUAL(h.count, 10000);
	CU_ASSERT_EQUAL(h.sum_ns, 50005000);
	CU_ASSERT_EQUAL(h.max_ns, 10000);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t p = stats_percentile(&h, cases[i].per_mille);

		/* Not below the truth, and not above by more than a bucket. */
		CU_ASSERT(p >= cases[i].value);
		CU_ASSERT(p <= cases[i].value + cases[i].value / 4 + 16);
	}
}

static void
a_higher_share_is_never_a_shorter_time(void)
{
	struct stats_histogram h;
	uint64_t last = 0;
	unsigned seed = 7;

	memset(&h, 0, sizeof(h));
	for (unsigned i = 0; i < 1000; i++)
		stats_note(&h, (uint64_t)rand_r(&seed) >> (rand_r(&seed) % 24));
	for (unsigned share = 0; share <= 1000; share++) {
		uint64_t p = stats_percentile(&h, share);

		CU_ASSERT(p >= last);
		last = p;
	}
}

static void
a_time_beyond_all_buckets_is_the_greatest_seen(void)
{
	struct stats_histogram h;

	memset(&h, 0, sizeof(h));
	stats_note(&h, 1ull << 50);
	CU_ASSERT_EQUAL(stats_percentile(&h, 500), 1ull << 50);
}

static void *
note_all(void *ctx)
{
	struct stats_histogram *h = ctx;
	unsigned seed = 3;

	for (unsigned i = 0; i < NOTES; i++)
		stats_note(h, (uint64_t)rand_r(&seed) % 100000);
	return NULL;
}

static void
a_reader_sees_counts_that_only_grow(void)
{
	static struct stats_histogram h;
	uint64_t count = 0, sum = 0, max = 0;
	pthread_t writer;

	BUG_ON(pthread_create(&writer, NULL, note_all, &h) != 0);
	while (count < NOTES) {
		uint64_t c = stats_get(&h.count), s = stats_get(&h.sum_ns);
		uint64_t m = stats_get(&h.max_ns);

		CU_ASSERT_FATAL(c >= count && s >= sum && m >= max);
		count = c;
		sum = s;
		max = m;
	}
	pthread_join(writer, NULL);
	count = 0;
	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		count += h.bucket[i];
	CU_ASSERT_EQUAL(count, NOTES);
}

static const struct named_test tests[] = {
	NAMED_TEST(every_value_lies_in_its_bucket),
	NAMED_TEST(buckets_have_no_gap_and_no_overlap),
	NAMED_TEST(a_bucket_is_at_most_a_quarter_wide),
	NAMED_TEST(the_last_bucket_takes_all_that_is_longer),
	NAMED_TEST(an_empty_histogram_has_no_percentile),
	NAMED_TEST(percentiles_bound_what_was_noted),
	NAMED_TEST(a_higher_share_is_never_a_shorter_time),
	NAMED_TEST(a_time_beyond_all_buckets_is_the_greatest_seen),
	NAMED_TEST(a_reader_sees_counts_that_only_grow),
};

int
main(void)
{
	return named_tests_run("stats", tests, ARRAY_LEN(tests));
}
