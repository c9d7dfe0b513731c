/* Split virtqueues: virtio 1.2, 2.7. */
#include <errno.h>

#include "devices/virtio/virtqueue_impl.h"
#include "proto/base.h"

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY	   1u

/* Word i of the available or used area. */
static uint16_t *
word(void *area, unsigned i)
{
	return (uint16_t *)area + i;
}

static uint16_t
load(const uint16_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void
sizes(unsigned size, size_t bytes[3])
{
	bytes[0] = 16 * (size_t)size;
	bytes[1] = 6 + 2 * (size_t)size;
	bytes[2] = 6 + 8 * (size_t)size;
}

static int
available(const struct vq *q)
{
	/* Pairs with the driver's write barrier before its store of the index:
	 * what it published is seen. */
	uint16_t idx = __atomic_load_n(word(q->driver, 1), __ATOMIC_ACQUIRE);
	uint16_t n = (uint16_t)(idx - q->avail);

	/* Those in flight take up room as well. */
	if (n > q->size)
		return -EINVAL;
	return n > 0;
}

static int
walk(struct vq *q, struct vq_chain *c)
{
	unsigned i = c->id, n = 0;
	struct vq_log_desc d;
	int rc;

	do {
		if (i >= q->size || n++ == q->size)
			return -EINVAL;
		d = vq_desc_read(q, q->desc, i);
		if ((d.flags & VQ_DESC_INDIRECT) && (d.flags & VQ_DESC_NEXT))
			return -EINVAL;
		rc = d.flags & VQ_DESC_INDIRECT
		    ? vq_chain_add_indirect(q, c, &d)
		    : vq_chain_add(q, c, &d);
		if (rc < 0)
			return rc;
		i = d.next;
	} while (d.flags & VQ_DESC_NEXT);
	return 0;
}

static int
take(struct vq *q, struct vq_chain *c)
{
	unsigned slot = q->avail % q->size;
	int rc;

	c->id = load(word(q->driver, 2 + slot));
	if (c->id >= q->size || q->log->entry[c->id].order != 0)
		return -EINVAL;
	rc = walk(q, c);
	return rc < 0 ? rc : 1;
}

static int
retake(struct vq *q, struct vq_chain *c)
{
	return walk(q, c);
}

static void
use(struct vq *q, const uint16_t *id, const uint32_t *written, unsigned n)
{
	uint32_t *ring = (uint32_t *)q->device + 1;

	for (unsigned i = 0; i < n; i++) {
		unsigned slot = (uint16_t)(q->used + i) % q->size;
		uint32_t *element = ring + 2 * (size_t)slot;

		__atomic_store_n(element, id[i], __ATOMIC_RELAXED);
		__atomic_store_n(element + 1, written[i], __ATOMIC_RELAXED);
	}
	/* Pairs with the driver's read barrier after its load of the index:
	 * it then sees the elements and what is in the buffers. */
	__atomic_store_n(
	    word(q->device, 1), (uint16_t)(q->used + n), __ATOMIC_RELEASE);
}

static int
was_used(struct vq *q, uint64_t busy)
{
	uint16_t idx = __atomic_load_n(word(q->device, 1), __ATOMIC_ACQUIRE);

	if (idx == (uint16_t)(busy >> 16))
		return 1;
	return idx == q->used ? 0 : -EINVAL;
}

/* Elements behind the index are nobody's. */
static void
undo_use(struct vq *q UNUSED)
{
}

static void
arm(struct vq *q, bool on)
{
	uint16_t *event = word(q->device, 2 + 4 * (unsigned)q->size);

	if (!q->event_idx)
		__atomic_store_n(word(q->device, 0), on ? 0 : USED_NO_NOTIFY,
		    __ATOMIC_RELAXED);
	else if (on)
		__atomic_store_n(event, q->avail, __ATOMIC_RELAXED);
}

static bool
wants_signal(struct vq *q)
{
	uint16_t event;

	if (!q->event_idx)
		return !(load(word(q->driver, 0)) & AVAIL_NO_INTERRUPT);
	event = load(word(q->driver, 2 + (unsigned)q->size));
	/* 2.7.10: did the used index pass the event? */
	return (uint16_t)(q->used - event - 1) < q->unsignalled;
}

const struct vq_ring vq_ring_split = {
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
