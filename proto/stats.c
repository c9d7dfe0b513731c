/* Statistics: what is too long to be inline. */
#include "proto/stats.h"

uint64_t
stats_bucket_floor(unsigned bucket)
{
	unsigned log = bucket / 4u + 5u;

	if (bucket < 4)
		return bucket * 16ull;
	return (1ull << log) + ((uint64_t)(bucket & 3u) << (log - 2u));
}

void
stats_note(struct stats_histogram *h, uint64_t ns)
{
	stats_add(&h->count, 1);
	stats_add(&h->sum_ns, ns);
	if (ns > stats_get(&h->max_ns))
		stats_set(&h->max_ns, ns);
	stats_add(&h->bucket[stats_bucket(ns)], 1);
}

uint64_t
stats_percentile(const struct stats_histogram *h, unsigned per_mille)
{
	uint64_t total = 0, below = 0, want;

	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		total += stats_get(&h->bucket[i]);
	if (total == 0)
		return 0;
	want = (total * per_mille + 999) / 1000;
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		below += stats_get(&h->bucket[i]);
		if (below >= want)
			return i + 1 < STATS_BUCKETS ? stats_bucket_floor(i + 1)
						     : stats_get(&h->max_ns);
	}
	return stats_get(&h->max_ns);
}
