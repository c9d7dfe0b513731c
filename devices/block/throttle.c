/* Token buckets. */
#include "devices/block/throttle.h"

#include "proto/base.h"

#define SECOND_NS 1000000000u

/* The time in which n units flow; saturates at a day. */
static uint64_t
time_of(const struct throttle_bucket *b, uint64_t n)
{
	unsigned __int128 t = (unsigned __int128)n * SECOND_NS / b->rate;

	return (uint64_t)MIN(t, (unsigned __int128)86400 * SECOND_NS);
}

static uint64_t
depth_ns(const struct throttle_bucket *b)
{
	return b->burst ? time_of(b, b->burst) : SECOND_NS / 10;
}

static uint64_t
when(const struct throttle_bucket *b)
{
	uint64_t depth;

	if (b->rate == 0)
		return 0;
	depth = depth_ns(b);
	return b->full_ns > depth ? b->full_ns - depth : 0;
}

static void
take(struct throttle_bucket *b, uint64_t n, uint64_t now_ns)
{
	if (b->rate == 0)
		return;
	b->full_ns = MAX(b->full_ns, now_ns) + time_of(b, n);
}

bool
throttle_may(const struct throttle *t, uint64_t now_ns)
{
	return now_ns >= throttle_when(t);
}

void
throttle_take(struct throttle *t, uint64_t bytes, uint64_t now_ns)
{
	take(&t->bytes, bytes, now_ns);
	take(&t->ops, 1, now_ns);
}

uint64_t
throttle_when(const struct throttle *t)
{
	uint64_t bytes = when(&t->bytes), ops = when(&t->ops);

	return MAX(bytes, ops);
}

void
throttle_refill(struct throttle *t, uint64_t now_ns)
{
	t->bytes.full_ns = MIN(t->bytes.full_ns, now_ns);
	t->ops.full_ns = MIN(t->ops.full_ns, now_ns);
}
