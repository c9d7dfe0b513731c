/* The device store. */
#include "proto/store.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "proto/base.h"
#include "proto/ring.h"

#define PAGE 4096u

struct header {
	uint64_t magic;
	uint32_t layout;
	struct store_shape shape;
};

struct layout {
	size_t commit, stats, faults, slot[2], log, size;
};

static size_t
round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t
wiring_offset(const struct store_shape *sh)
{
	return sh->vcpus * sizeof(struct store_position);
}

static size_t
state_offset(const struct store_shape *sh)
{
	return wiring_offset(sh) + sizeof(struct store_wiring) +
	    sh->vectors * sizeof(struct store_vector);
}

static bool
lay_out(const struct store_shape *sh, struct layout *l)
{
	size_t slot;

	if (sh->vcpus == 0 || sh->vcpus > RING_MAX_VCPUS ||
	    sh->state_size > STORE_STATE_MAX || sh->log_size > STORE_LOG_MAX ||
	    sh->vectors > STORE_VECTORS)
		return false;
	slot = round_up(state_offset(sh) + sh->state_size, 64);
	l->commit = 64;
	l->stats = 128;
	l->faults = round_up(l->stats + sizeof(struct stats_device), 64);
	l->slot[0] = round_up(l->faults + sizeof(struct fault_plans), 64);
	l->slot[1] = l->slot[0] + slot;
	l->log = round_up(l->slot[1] + slot, PAGE);
	l->size = round_up(l->log + sh->log_size, PAGE);
	return true;
}

size_t
store_size(const struct store_shape *shape)
{
	struct layout l;

	return lay_out(shape, &l) ? l.size : 0;
}

int
store_format(void *base, size_t size, const struct store_shape *shape)
{
	struct header h = {
		.magic = STORE_MAGIC, .layout = STORE_LAYOUT, .shape = *shape
	};

	struct layout l;

	if (!lay_out(shape, &l) || size < l.size)
		return -EINVAL;
	memcpy(base, &h, sizeof(h));
	for (unsigned i = 0; i < 2; i++) {
		struct store_wiring *w =
		    (struct store_wiring *)(void *)((uint8_t *)base +
			l.slot[i] + wiring_offset(shape));

		for (unsigned r = 0; r < STORE_REGIONS; r++)
			w->bar[r] = STORE_UNMAPPED;
	}
	return 0;
}

int
store_attach(
    struct store *s, void *base, size_t size, const struct store_shape *shape)
{
	struct header h;
	struct layout l;

	if (!lay_out(shape, &l) || size < l.size)
		return -EINVAL;
	memcpy(&h, base, sizeof(h));
	if (h.magic != STORE_MAGIC || h.layout != STORE_LAYOUT ||
	    memcmp(&h.shape, shape, sizeof(*shape)) != 0)
		return -EPROTO;
	s->base = base;
	s->size = size;
	s->shape = *shape;
	s->commit = (_Atomic uint64_t *)(void *)(s->base + l.commit);
	s->stats = (struct stats_device *)(void *)(s->base + l.stats);
	s->faults = (struct fault_plans *)(void *)(s->base + l.faults);
	s->slot[0] = s->base + l.slot[0];
	s->slot[1] = s->base + l.slot[1];
	s->log = s->base + l.log;
	return 0;
}

int
store_read_shape(const void *base, size_t size, struct store_shape *shape)
{
	struct header h;
	struct layout l;

	if (size < sizeof(h))
		return -EPROTO;
	memcpy(&h, base, sizeof(h));
	if (h.magic != STORE_MAGIC || h.layout != STORE_LAYOUT ||
	    !lay_out(&h.shape, &l) || size < l.size)
		return -EPROTO;
	*shape = h.shape;
	return 0;
}

static uint64_t
commits(const struct store *s)
{
	/* Pairs with the release in store_commit(). */
	return atomic_load_explicit(s->commit, memory_order_acquire);
}

static uint8_t *
state_of(const struct store *s, uint8_t *slot)
{
	return slot + state_offset(&s->shape);
}

static size_t
slot_size(const struct store *s)
{
	return state_offset(&s->shape) + s->shape.state_size;
}

int
store_is_fresh(const struct store *s)
{
	return commits(s) == 0;
}

struct store_position *
store_positions(const struct store *s)
{
	return (struct store_position *)(void *)s->slot[(commits(s) + 1) & 1];
}

struct store_wiring *
store_wiring(const struct store *s)
{
	return (struct store_wiring *)(void *)(s->slot[(commits(s) + 1) & 1] +
	    wiring_offset(&s->shape));
}

void *
store_state(const struct store *s)
{
	return state_of(s, s->slot[(commits(s) + 1) & 1]);
}

const struct store_position *
store_committed_positions(const struct store *s)
{
	return (const struct store_position *)(void *)s->slot[commits(s) & 1];
}

const struct store_wiring *
store_committed_wiring(const struct store *s)
{
	return (const struct store_wiring *)(void *)(s->slot[commits(s) & 1] +
	    wiring_offset(&s->shape));
}

const void *
store_committed_state(const struct store *s)
{
	return state_of(s, s->slot[commits(s) & 1]);
}

void
store_recover(struct store *s)
{
	uint64_t n = commits(s);

	memcpy(s->slot[(n + 1) & 1], s->slot[n & 1], slot_size(s));
}

void
store_commit(struct store *s)
{
	uint64_t n = atomic_load_explicit(s->commit, memory_order_relaxed) + 1;

#ifdef BULKHEAD_BREAK_COMMIT
	/* In place: `make prove-broken` shows that this is found. */
	memcpy(s->slot[(n + 1) & 1], s->slot[n & 1], slot_size(s));
	n++;
#endif
	/*
	 * The commit.  Release: whoever sees the new count (a recovery, in
	 * commits()) sees the slot that it names complete.
	 */
	atomic_store_explicit(s->commit, n, memory_order_release);
	stats_set(&s->stats->commits, n);
	memcpy(s->slot[(n + 1) & 1], s->slot[n & 1], slot_size(s));
}
