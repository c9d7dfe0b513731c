/* What the parts of the virtqueue code share; of no use to anyone else. */
#ifndef DEVICES_VIRTIO_VIRTQUEUE_IMPL_H
#define DEVICES_VIRTIO_VIRTQUEUE_IMPL_H

#include <stdatomic.h>
#include <string.h>

#include "devices/virtio/virtqueue.h"

/* Descriptor flags; virtio 1.2, 2.7.5 and 2.8.1. */
#define VQ_DESC_NEXT	 0x0001u
#define VQ_DESC_WRITE	 0x0002u
#define VQ_DESC_INDIRECT 0x0004u
#define VQ_DESC_AVAIL	 0x0080u
#define VQ_DESC_USED	 0x8000u

#define VQ_NO_ENTRY	 UINT16_MAX

/*
 * A descriptor is read once, whole: the driver may change it while we look.
 * An indirect table need not be aligned.
 */
static inline struct vq_log_desc
vq_desc_read(const struct vq *q, const void *table, unsigned i)
{
	struct vq_log_desc d;

	memcpy(&d, (const uint8_t *)table + sizeof(d) * i, sizeof(d));
	/* What is used from here on is the copy. */
	atomic_signal_fence(memory_order_seq_cst);
	/* A packed one has the id before the flags. */
	if (q->packed) {
		uint16_t id = d.flags;

		d.flags = d.next;
		d.next = id;
	}
	return d;
}

/*
 * One step of the log's protocol: a process that dies has made all steps up to
 * one and none after it.  What it must outlive is this process, not the
 * machine, so the order of the stores is all; the partner is vq_open() of the
 * next process.
 */
static inline void
vq_step(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	/* Nor may the compiler move up what comes after. */
	atomic_signal_fence(memory_order_seq_cst);
}

static inline uint64_t
vq_position(uint64_t count, uint16_t at)
{
	return count << 16 | at;
}

/* Add the memory of a descriptor to the chain.  0 or -EINVAL. */
int vq_chain_add(struct vq *q, struct vq_chain *c, const struct vq_log_desc *d);
/* Add all that an indirect table has. */
int vq_chain_add_indirect(
    struct vq *q, struct vq_chain *c, const struct vq_log_desc *d);

/*
 * The two kinds of ring.  Positions are those of struct vq; the log's entries
 * are written by virtqueue.c, except for the copies of descriptors.
 */
struct vq_ring {
	/* Bytes of the three areas; their alignment is in vq_open(). */
	void (*sizes)(unsigned size, size_t bytes[3]);
	/* Is there a chain at the available position?  -EINVAL: the driver's
	 * index is impossible. */
	int (*available)(const struct vq *q);
	/* Read it into *c and its log entry, in-flight mark apart.  Its
	 * descriptors in the ring, or -EINVAL. */
	int (*take)(struct vq *q, struct vq_chain *c);
	/* The same for a chain in the log. */
	int (*retake)(struct vq *q, struct vq_chain *c);
	/* Write used elements behind the used position, visible all at once
	 * by the last store. */
	void (*use)(struct vq *q, const uint16_t *id, const uint32_t *written,
	    unsigned n);
	/* After a restart: was use() done up to its last store, for a step from
	 * the used position to `busy`?  1, 0, -EINVAL. */
	int (*was_used)(struct vq *q, uint64_t busy);
	/* After a restart: take back elements that never became visible. */
	void (*undo_use)(struct vq *q);
	/* Ask the driver to ring, or not to. */
	void (*arm)(struct vq *q, bool on);
	/* Does the driver want an interrupt for the slots used? */
	bool (*wants_signal)(struct vq *q);
};

extern const struct vq_ring vq_ring_split, vq_ring_packed;

static inline const struct vq_ring *
vq_ring_of(const struct vq *q)
{
	return q->packed ? &vq_ring_packed : &vq_ring_split;
}

/* Packed: give log descriptors of an entry back to the free ones. */
void vq_packed_free(struct vq *q, const struct vq_log_entry *e);
/* Packed, after a restart: claim those of an entry.  0 or -EINVAL. */
int vq_packed_claim(struct vq *q, const struct vq_log_entry *e);

/* An index of a packed ring, and its wrap counter, moved on or back. */
static inline void
vq_packed_advance(const struct vq *q, uint16_t *at, bool *wrap, unsigned n)
{
	unsigned to = *at + n;

	if (to >= q->size) {
		to -= q->size;
		*wrap = !*wrap;
	}
	*at = (uint16_t)to;
}

static inline void
vq_packed_retreat(const struct vq *q, uint16_t *at, bool *wrap, unsigned n)
{
	unsigned from = *at;

	if (from < n) {
		from += q->size;
		*wrap = !*wrap;
	}
	*at = (uint16_t)(from - n);
}

#endif
