/*
 * For tests: the driver's side of a virtio device on a harness: registers,
 * MSI-X, queues of both kinds.
 *
 *	struct harness h;
 *	struct driver d;
 *
 *	harness_open(&h, "virtio-rng");
 *	driver_open(&d, &h, VIRTIO_F_RING_PACKED);	all queues, DRIVER_OK
 *	buf = driver_alloc(&d, 64);
 *	id = driver_put(&d, 0, &(struct driver_seg){ buf, 64, true }, 1);
 *	driver_kick(&d, 0);
 *	harness_run(&h);
 *	if (driver_take(&d, 0, &id, &len)) ...
 *
 * A restart of the device (harness_restart()) is nothing to the driver.
 */
#ifndef TESTS_DRIVER_H
#define TESTS_DRIVER_H

#include "devhost/harness.h"
#include "devices/virtio/virtio.h"

#define DRIVER_RAM_START 0x100000u /* where driver_alloc() begins */
#define DRIVER_NONE	 0xffffu
/* Where the tests let BARs lie; the harness has no broker that looks. */
#define DRIVER_BAR0 0x400000000ull
#define DRIVER_BAR2 0xc0000000u

struct driver_seg {
	uint64_t gpa;
	uint32_t len;
	bool in; /* the device may write it */
};

struct driver_queue {
	uint16_t size, free; /* free: descriptors */
	uint64_t desc, driver, device;
	uint16_t next; /* split: avail index; packed: next slot */
	uint16_t used; /* the same of the used side */
	bool wrap, used_wrap; /* packed */
	uint16_t added; /* since the last kick, in slots */
	uint16_t free_head; /* split: chain of free descriptors */
	uint16_t chain_len[VQ_SIZE_MAX]; /* by id; 0: not in flight */
	uint16_t chain_link[VQ_SIZE_MAX]; /* split: next of a descriptor */
};

struct driver {
	struct harness *h;
	uint64_t features;
	uint64_t next_gpa;
	unsigned nqueues;
	struct driver_queue q[VIRTIO_QUEUES_MAX];
};

static inline uint64_t
driver_read(struct driver *d, unsigned region, uint64_t at, unsigned size)
{
	return harness_access(d->h, RING_READ, region, at, size, 0);
}

static inline void
driver_write(struct driver *d, unsigned region, uint64_t at, unsigned size,
    uint64_t value)
{
	harness_access(d->h, RING_WRITE, region, at, size, value);
}

/* Guest RAM, aligned to a page, zeroed. */
static inline uint64_t
driver_alloc(struct driver *d, size_t n)
{
	uint64_t at = d->next_gpa;

	d->next_gpa += (n + 4095) & ~(size_t)4095;
	memset(harness_ram(d->h, at, n), 0, n);
	return at;
}

static inline void *
driver_at(struct driver *d, uint64_t gpa)
{
	return harness_ram(d->h, gpa, 1);
}

static inline uint16_t *
driver_word(struct driver *d, uint64_t area, unsigned i)
{
	return (uint16_t *)harness_ram(d->h, area + 2 * (uint64_t)i, 2);
}

static inline bool
driver_packed(const struct driver *d)
{
	return (d->features & VIRTIO_F_RING_PACKED) != 0;
}

static inline bool
driver_event(const struct driver *d)
{
	return (d->features & VIRTIO_F_EVENT_IDX) != 0;
}

/* ---- the life of the device ---- */

static inline uint8_t
driver_status(struct driver *d)
{
	return (uint8_t)driver_read(d, VIRTIO_REGION_REGISTERS, 0x14, 1);
}

static inline void
driver_set_status(struct driver *d, unsigned bits)
{
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x14, 1,
	    bits ? driver_status(d) | bits : 0);
}

/* Memory and bus master on, all MSI-X vectors to messages 0x4000 + n. */
static inline void
driver_enable_pci(struct driver *d)
{
	unsigned n = d->h->dev.type->nvectors;
	uint64_t cap = driver_read(d, VIRTIO_REGION_CONFIG, 0x34, 1);

	driver_write(d, VIRTIO_REGION_CONFIG, 0x10, 4, DRIVER_BAR0 & ~0u);
	driver_write(d, VIRTIO_REGION_CONFIG, 0x14, 4, DRIVER_BAR0 >> 32);
	driver_write(d, VIRTIO_REGION_CONFIG, 0x18, 4, DRIVER_BAR2);
	driver_write(d, VIRTIO_REGION_CONFIG, 0x04, 2, 0x0006);
	while (cap != 0 && driver_read(d, VIRTIO_REGION_CONFIG, cap, 1) != 0x11)
		cap = driver_read(d, VIRTIO_REGION_CONFIG, cap + 1, 1);
	BUG_ON(cap == 0);
	for (unsigned i = 0; i < n; i++) {
		driver_write(d, VIRTIO_REGION_MSIX, 16 * i, 4, 0xfee00000);
		driver_write(d, VIRTIO_REGION_MSIX, 16 * i + 4, 4, 0);
		driver_write(d, VIRTIO_REGION_MSIX, 16 * i + 8, 4, 0x4000 + i);
		driver_write(d, VIRTIO_REGION_MSIX, 16 * i + 12, 4, 0);
	}
	driver_write(d, VIRTIO_REGION_CONFIG, cap + 2, 2, 0x8000);
}

static inline uint64_t
driver_offered(struct driver *d)
{
	uint64_t low, high;

	driver_write(d, VIRTIO_REGION_REGISTERS, 0x00, 4, 0);
	low = driver_read(d, VIRTIO_REGION_REGISTERS, 0x04, 4);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x00, 4, 1);
	high = driver_read(d, VIRTIO_REGION_REGISTERS, 0x04, 4);
	return low | high << 32;
}

/* Reset, then negotiate what of `wanted` is offered.  Is FEATURES_OK kept? */
static inline bool
driver_negotiate(struct driver *d, uint64_t wanted)
{
	driver_set_status(d, 0);
	driver_set_status(d, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	d->features = driver_offered(d) & (wanted | VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < 2; i++) {
		driver_write(d, VIRTIO_REGION_REGISTERS, 0x08, 4, i);
		driver_write(d, VIRTIO_REGION_REGISTERS, 0x0c, 4,
		    (uint32_t)(d->features >> (32 * i)));
	}
	driver_set_status(d, VIRTIO_FEATURES_OK);
	return (driver_status(d) & VIRTIO_FEATURES_OK) != 0;
}

/* Give the device a queue, with vector i + 1. */
static inline void
driver_enable_queue(struct driver *d, unsigned i, uint16_t size)
{
	struct driver_queue *q = &d->q[i];

	memset(q, 0, sizeof(*q));
	q->size = q->free = size;
	q->wrap = q->used_wrap = true;
	q->desc = driver_alloc(d, 16u * size);
	q->driver = driver_alloc(d, 6 + 2u * size);
	q->device = driver_alloc(d, 6 + 8u * size);
	for (unsigned k = 0; k < size; k++)
		q->chain_link[k] = (uint16_t)(k + 1);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x16, 2, i);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x18, 2, size);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x1a, 2, i + 1);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x20, 8, q->desc);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x28, 8, q->driver);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x30, 8, q->device);
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x1c, 2, 1);
}

/* All of it: queues of `size`, DRIVER_OK. */
static inline void
driver_open_sized(
    struct driver *d, struct harness *h, uint64_t wanted, uint16_t size)
{
	memset(d, 0, sizeof(*d));
	d->h = h;
	d->next_gpa = DRIVER_RAM_START;
	driver_enable_pci(d);
	BUG_ON(!driver_negotiate(d, wanted));
	driver_write(d, VIRTIO_REGION_REGISTERS, 0x10, 2, 0);
	d->nqueues = (unsigned)driver_read(d, VIRTIO_REGION_REGISTERS, 0x12, 2);
	for (unsigned i = 0; i < d->nqueues; i++)
		driver_enable_queue(d, i, size);
	driver_set_status(d, VIRTIO_DRIVER_OK);
	harness_run(h);
}

static inline void
driver_open(struct driver *d, struct harness *h, uint64_t wanted)
{
	driver_open_sized(d, h, wanted, 16);
}

/* Device-specific configuration. */
static inline uint64_t
driver_config(struct driver *d, unsigned at, unsigned size)
{
	return driver_read(d, VIRTIO_REGION_REGISTERS, 0x2000 + at, size);
}

/* ---- putting chains ---- */

static inline void
driver_put_desc(struct driver *d, uint64_t table, unsigned i, uint64_t gpa,
    uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t *at = harness_ram(d->h, table + 16 * (uint64_t)i, 16);
	unsigned at_flags = driver_packed(d) ? 48 : 32;
	uint64_t high = len | (uint64_t)flags << at_flags |
	    (uint64_t)next << (80 - at_flags);

	memcpy(at, &gpa, 8);
	memcpy(at + 8, &high, 8);
}

static inline uint16_t
driver_packed_flags(bool wrap)
{
	return wrap ? 0x0080 : 0x8000;
}

/* Make one head available whose n descriptors are described by segs; with
 * `indirect`, one descriptor for the table at that address. */
static inline uint16_t
driver_put_split(struct driver *d, struct driver_queue *q,
    const struct driver_seg *s, unsigned n, uint64_t indirect)
{
	uint16_t head = q->free_head, at = head;
	uint32_t bytes = 16 * n;
	unsigned descs = indirect ? 1 : n;

	if (q->free < descs)
		return DRIVER_NONE;
	for (unsigned i = 0; i < n && indirect; i++)
		driver_put_desc(d, indirect, i, s[i].gpa, s[i].len,
		    (uint16_t)((s[i].in ? 2 : 0) | (i + 1 < n)),
		    (uint16_t)(i + 1));
	for (unsigned i = 0; i < descs; i++) {
		uint16_t next = q->chain_link[at];

		if (indirect)
			driver_put_desc(d, q->desc, at, indirect, bytes, 4, 0);
		else
			driver_put_desc(d, q->desc, at, s[i].gpa, s[i].len,
			    (uint16_t)((s[i].in ? 2 : 0) | (i + 1 < n)), next);
		q->free_head = next;
		at = next;
	}
	q->free = (uint16_t)(q->free - descs);
	q->chain_len[head] = (uint16_t)descs;
	*driver_word(d, q->driver, 2u + q->next % q->size) = head;
	q->next++;
	__atomic_store_n(
	    driver_word(d, q->driver, 1), q->next, __ATOMIC_RELEASE);
	q->added++;
	return head;
}

static inline uint16_t
driver_put_packed(struct driver *d, struct driver_queue *q,
    const struct driver_seg *s, unsigned n, uint64_t indirect)
{
	uint16_t head = q->next, slot = head, id = 0, head_flags = 0;
	unsigned descs = indirect ? 1 : n;
	bool wrap = q->wrap;

	if (q->free < descs)
		return DRIVER_NONE;
	while (q->chain_len[id] != 0)
		id++;
	for (unsigned i = 0; i < n && indirect; i++)
		driver_put_desc(
		    d, indirect, i, s[i].gpa, s[i].len, s[i].in ? 2 : 0, 0);
	for (unsigned i = 0; i < descs; i++) {
		uint16_t flags = driver_packed_flags(wrap);

		if (indirect)
			flags |= 4;
		else
			flags |= (uint16_t)((s[i].in ? 2 : 0) | (i + 1 < n));
		if (i == 0)
			head_flags = flags;
		driver_put_desc(d, q->desc, slot,
		    indirect ? indirect : s[i].gpa,
		    indirect ? 16 * n : s[i].len,
		    i == 0 ? (uint16_t)(flags ^ 0x8080) : flags, id);
		if (++slot == q->size) {
			slot = 0;
			wrap = !wrap;
		}
	}
	q->next = slot;
	q->wrap = wrap;
	q->free = (uint16_t)(q->free - descs);
	q->chain_len[id] = (uint16_t)descs;
	q->added = (uint16_t)(q->added + descs);
	__atomic_store_n(driver_word(d, q->desc, 8u * head + 7), head_flags,
	    __ATOMIC_RELEASE);
	return id;
}

/* Make a chain available: device-readable segments first.  Its id, or
 * DRIVER_NONE: no room. */
static inline uint16_t
driver_put(struct driver *d, unsigned i, const struct driver_seg *s, unsigned n)
{
	return driver_packed(d) ? driver_put_packed(d, &d->q[i], s, n, 0)
				: driver_put_split(d, &d->q[i], s, n, 0);
}

/* The same with an indirect table, in guest RAM of its own. */
static inline uint16_t
driver_put_indirect(
    struct driver *d, unsigned i, const struct driver_seg *s, unsigned n)
{
	uint64_t table = driver_alloc(d, 16u * n);

	return driver_packed(d) ? driver_put_packed(d, &d->q[i], s, n, table)
				: driver_put_split(d, &d->q[i], s, n, table);
}

/* Does the device want the doorbell for what was added? */
static inline bool
driver_must_kick(struct driver *d, unsigned i)
{
	struct driver_queue *q = &d->q[i];
	uint16_t event, flags;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!driver_packed(d)) {
		if (!driver_event(d))
			return !(*driver_word(d, q->device, 0) & 1);
		event = *driver_word(d, q->device, 2 + 4u * q->size);
		return (uint16_t)(q->next - event - 1) < q->added;
	}
	event = *driver_word(d, q->device, 0);
	flags = *driver_word(d, q->device, 1);
	if (flags != 2)
		return flags == 0;
	if (!!(event & 0x8000) != q->wrap)
		event = (uint16_t)((event & 0x7fff) - q->size);
	else
		event &= 0x7fff;
	return (uint16_t)(q->next - event - 1) < q->added;
}

/* Ring the doorbell if the device wants it; did it? */
static inline bool
driver_kick(struct driver *d, unsigned i)
{
	bool must = d->q[i].added > 0 && driver_must_kick(d, i);

	d->q[i].added = 0;
	if (must)
		harness_ring(d->h, i);
	return must;
}

/* ---- taking what was used ---- */

static inline bool
driver_take_split(
    struct driver *d, struct driver_queue *q, uint16_t *id, uint32_t *len)
{
	uint32_t element[2];
	uint16_t at;

	if (__atomic_load_n(driver_word(d, q->device, 1), __ATOMIC_ACQUIRE) ==
	    q->used)
		return false;
	memcpy(element,
	    harness_ram(d->h, q->device + 4 + 8u * (q->used % q->size), 8), 8);
	q->used++;
	*id = (uint16_t)element[0];
	*len = element[1];
	BUG_ON(element[0] >= q->size || q->chain_len[*id] == 0);
	at = *id;
	for (unsigned i = 1; i < q->chain_len[*id]; i++)
		at = q->chain_link[at];
	q->chain_link[at] = q->free_head;
	q->free_head = *id;
	return true;
}

static inline bool
driver_take_packed(
    struct driver *d, struct driver_queue *q, uint16_t *id, uint32_t *len)
{
	uint16_t flags = __atomic_load_n(
	    driver_word(d, q->desc, 8u * q->used + 7), __ATOMIC_ACQUIRE);

	if (!!(flags & 0x80) != q->used_wrap ||
	    !!(flags & 0x8000) != q->used_wrap)
		return false;
	memcpy(len, harness_ram(d->h, q->desc + 16u * q->used + 8, 4), 4);
	*id = *driver_word(d, q->desc, 8u * q->used + 6);
	BUG_ON(*id >= q->size || q->chain_len[*id] == 0);
	q->used = (uint16_t)(q->used + q->chain_len[*id]);
	if (q->used >= q->size) {
		q->used = (uint16_t)(q->used - q->size);
		q->used_wrap = !q->used_wrap;
	}
	return true;
}

/* Take the next used chain; false: there is none. */
static inline bool
driver_take(struct driver *d, unsigned i, uint16_t *id, uint32_t *len)
{
	struct driver_queue *q = &d->q[i];

	if (!(driver_packed(d) ? driver_take_packed(d, q, id, len)
			       : driver_take_split(d, q, id, len)))
		return false;
	q->free = (uint16_t)(q->free + q->chain_len[*id]);
	q->chain_len[*id] = 0;
	return true;
}

/* Ask for an interrupt when the next chain is used (EVENT_IDX), or for one
 * after each (without). */
static inline void
driver_arm(struct driver *d, unsigned i)
{
	struct driver_queue *q = &d->q[i];

	if (driver_packed(d)) {
		*driver_word(d, q->driver, 0) =
		    (uint16_t)(q->used | (q->used_wrap ? 0x8000 : 0));
		*driver_word(d, q->driver, 1) = driver_event(d) ? 2 : 0;
	} else if (driver_event(d)) {
		*driver_word(d, q->driver, 2u + q->size) = q->used;
	} else {
		*driver_word(d, q->driver, 0) = 0;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Interrupts of a queue since the last call. */
static inline unsigned
driver_interrupts(struct driver *d, unsigned i)
{
	return harness_msi(d->h, i + 1);
}

#endif
