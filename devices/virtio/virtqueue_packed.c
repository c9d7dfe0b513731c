/*
 * Packed virtqueues: virtio 1.2, 2.8.
 *
 * A used descriptor is written over available ones, perhaps over those of a
 * chain that is still in flight; so the log has a copy of all that are.
 */
#include <errno.h>

#include "devices/virtio/virtqueue_impl.h"
#include "proto/base.h"

/* Event suppression; 2.8.14. */
#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_DESC    2u
#define EVENT_WRAP    0x8000u

static uint16_t *
flags_of(const struct vq *q, unsigned slot)
{
	return (uint16_t *)q->desc + 8 * (size_t)slot + 7;
}

static uint16_t *
event_word(void *area, unsigned i)
{
	return (uint16_t *)area + i;
}

static void
sizes(unsigned size, size_t bytes[3])
{
	bytes[0] = 16 * (size_t)size;
	bytes[1] = 4;
	bytes[2] = 4;
}

static int
available(const struct vq *q)
{
	/* Pairs with the driver's write barrier before its store of the flags:
	 * the rest of the chain is seen. */
	uint16_t flags =
	    __atomic_load_n(flags_of(q, q->avail), __ATOMIC_ACQUIRE);

	return !!(flags & VQ_DESC_AVAIL) == q->avail_wrap &&
	    !!(flags & VQ_DESC_USED) != q->avail_wrap;
}

/* A free descriptor of the log, or VQ_NO_ENTRY. */
static uint16_t
claim_free(struct vq *q)
{
	for (unsigned i = 0; i < VQ_SIZE_MAX / 64; i++) {
		unsigned bit;

		if (q->log_free[i] == 0)
			continue;
		bit = (unsigned)__builtin_ctzll(q->log_free[i]);
		q->log_free[i] &= ~(1ull << bit);
		return (uint16_t)(64 * i + bit);
	}
	return VQ_NO_ENTRY;
}

void
vq_packed_free(struct vq *q, const struct vq_log_entry *e)
{
	unsigned at = e->first;

	for (unsigned i = 0; i < e->descs; i++) {
		BUG_ON(at >= VQ_SIZE_MAX);
		q->log_free[at / 64] |= 1ull << (at % 64);
		at = q->log->desc[at].next;
	}
}

int
vq_packed_claim(struct vq *q, const struct vq_log_entry *e)
{
	unsigned at = e->first;

	if (e->descs == 0 || e->descs > q->size)
		return -EINVAL;
	for (unsigned i = 0; i < e->descs; i++) {
		uint64_t bit = 1ull << (at % 64);

		if (at >= VQ_SIZE_MAX || !(q->log_free[at / 64] & bit))
			return -EINVAL;
		q->log_free[at / 64] &= ~bit;
		at = q->log->desc[at].next;
	}
	return 0;
}

static int
add(struct vq *q, struct vq_chain *c, const struct vq_log_desc *d)
{
	if (!(d->flags & VQ_DESC_INDIRECT))
		return vq_chain_add(q, c, d);
	if (d->flags & VQ_DESC_NEXT)
		return -EINVAL;
	return vq_chain_add_indirect(q, c, d);
}

static int
take(struct vq *q, struct vq_chain *c)
{
	struct vq_log_entry *e;
	struct vq_log_desc d;
	uint16_t first = 0, last = 0;
	unsigned n = 0, slot = q->avail;
	int rc;

	do {
		uint16_t here = claim_free(q);

		/* More in flight than the ring has room for. */
		if (here == VQ_NO_ENTRY || n == q->size)
			return -EINVAL;
		d = vq_desc_read(q, q->desc, slot);
		c->id = d.next;
		rc = add(q, c, &d);
		if (rc < 0)
			return rc;
		q->log->desc[here] = d;
		if (n == 0)
			first = here;
		else
			q->log->desc[last].next = here;
		last = here;
		n++;
		slot = slot + 1 == q->size ? 0 : slot + 1;
	} while (d.flags & VQ_DESC_NEXT);
	if (c->id >= q->size || q->log->entry[c->id].order != 0)
		return -EINVAL;
	e = &q->log->entry[c->id];
	e->first = first;
	return (int)n;
}

static int
retake(struct vq *q, struct vq_chain *c)
{
	const struct vq_log_entry *e = &q->log->entry[c->id];
	unsigned at = e->first;
	int rc = 0;

	for (unsigned i = 0; i < e->descs && rc == 0; i++) {
		struct vq_log_desc d = q->log->desc[at];

		rc = add(q, c, &d);
		at = d.next;
	}
	return rc;
}

static void
put_used(struct vq *q, unsigned slot, bool wrap, uint16_t id, uint32_t written)
{
	uint32_t *at = (uint32_t *)q->desc + 4 * (size_t)slot;

	__atomic_store_n(at + 2, written, __ATOMIC_RELAXED);
	__atomic_store_n((uint16_t *)(void *)(at + 3), id, __ATOMIC_RELAXED);
	/* Pairs with the driver's read barrier after its load of the flags: it
	 * then sees the element and what is in the buffers. */
	__atomic_store_n(flags_of(q, slot),
	    (uint16_t)((wrap ? VQ_DESC_AVAIL | VQ_DESC_USED : 0) |
		(written != 0 ? VQ_DESC_WRITE : 0)),
	    __ATOMIC_RELEASE);
}

/* The driver goes from one used descriptor to the next, so the first, written
 * last, makes all of them visible. */
static void
use(struct vq *q, const uint16_t *id, const uint32_t *written, unsigned n)
{
	uint16_t slot = q->used;
	bool wrap = q->used_wrap;

	for (unsigned i = 1; i < n; i++) {
		vq_packed_advance(
		    q, &slot, &wrap, q->log->entry[id[i - 1]].descs);
		put_used(q, slot, wrap, id[i], written[i]);
	}
	put_used(q, q->used, q->used_wrap, id[0], written[0]);
}

/* Does a slot look used in the lap of that wrap counter?  Not `as a used
 * descriptor': the driver may have made it available again for the next. */
static bool
looks_used(const struct vq *q, unsigned slot, bool wrap)
{
	uint16_t flags = __atomic_load_n(flags_of(q, slot), __ATOMIC_ACQUIRE);

	return !!(flags & VQ_DESC_USED) == wrap;
}

static void
make_unused(struct vq *q, unsigned slot, bool wrap)
{
	__atomic_store_n(flags_of(q, slot),
	    (uint16_t)(wrap ? VQ_DESC_AVAIL : VQ_DESC_USED), __ATOMIC_RELEASE);
}

static int
was_used(struct vq *q, uint64_t busy UNUSED)
{
	return looks_used(q, q->used, q->used_wrap);
}

static void
undo_use(struct vq *q)
{
	uint16_t slot = q->used;
	bool wrap = q->used_wrap;

	for (unsigned i = 0; i < q->size; i++) {
		if (slot == q->avail && wrap == q->avail_wrap)
			break;
		if (looks_used(q, slot, wrap))
			make_unused(q, slot, wrap);
		vq_packed_advance(q, &slot, &wrap, 1);
	}
}

static void
arm(struct vq *q, bool on)
{
	uint16_t flags = EVENT_DISABLE;

	if (on && q->event_idx) {
		__atomic_store_n(event_word(q->device, 0),
		    (uint16_t)(q->avail | (q->avail_wrap ? EVENT_WRAP : 0)),
		    __ATOMIC_RELAXED);
		flags = EVENT_DESC;
	} else if (on) {
		flags = EVENT_ENABLE;
	}
	/* The driver must not see the flags without the position. */
	__atomic_store_n(event_word(q->device, 1), flags, __ATOMIC_RELEASE);
}

static bool
wants_signal(struct vq *q)
{
	/* One load: the two belong together. */
	uint32_t both =
	    __atomic_load_n((const uint32_t *)q->driver, __ATOMIC_RELAXED);
	unsigned flags = both >> 16 & 3;
	unsigned at = both & 0x7fff;

	if (flags == EVENT_DISABLE)
		return false;
	if (flags != EVENT_DESC || !q->event_idx)
		return true;
	if (!!(both & EVENT_WRAP) != q->used_wrap)
		at -= q->size;
	return (uint16_t)(q->used - at - 1) < q->unsignalled;
}

const struct vq_ring vq_ring_packed = {
	.sizes = sizes,
	.available = available,
	.take = take,
	.retake = retake,
	.use = use,
	.was_used = was_used,
	.undo_use = undo_use,
	.arm = arm,
	.wants_signal = wants_signal,
};
