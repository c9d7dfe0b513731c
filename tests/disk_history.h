/*
 * For tests: a history of overlapping reads and writes of a small disk, checked
 * sector by sector.
 *
 * Every write has a number, and fills its sectors with it.  A reader may find
 * write W in a sector unless a later one was answered before the reader asked:
 * one that was put after W in the same queue, or after W had been answered in
 * any other.
 */
#ifndef TESTS_DISK_HISTORY_H
#define TESTS_DISK_HISTORY_H

#include <CUnit/Basic.h>

#include "tests/disk_guest.h"

#define HISTORY_SECTORS 32u
#define HISTORY_OPS	8u /* in flight at once */
#define HISTORY_QUEUES	4u
#define HISTORY_WRITES	100000u

struct history_write {
	uint32_t put, answered; /* times; 0: not yet */
	uint64_t sector;
	unsigned sectors, queue;
};

struct history_op {
	struct guest_request r;
	uint32_t version, asked;
	uint64_t sector;
	unsigned sectors;
	bool write;
};

struct history {
	struct driver *d;
	uint32_t nwrites, ticks, seed, answers;
	struct history_op op[HISTORY_OPS];
	struct history_write write[HISTORY_WRITES];
};

static inline void
history_open(struct history *y, struct driver *d, uint32_t seed)
{
	y->d = d;
	y->nwrites = 1; /* 0: what was there at first, zeroes */
	y->ticks = y->answers = 0;
	y->seed = seed;
	for (unsigned i = 0; i < HISTORY_OPS; i++)
		guest_make(d, &y->op[i].r, 4 * 512);
}

static inline uint32_t
history_draw(struct history *y, uint32_t n)
{
	y->seed = y->seed * 1664525u + 1013904223u;
	return (y->seed >> 8) % n;
}

static inline bool
history_covers(const struct history_write *w, uint64_t sector)
{
	return sector >= w->sector && sector < w->sector + w->sectors;
}

/* May v be found although w was answered before the reader asked? */
static inline bool
history_may_outlive(
    const struct history_write *v, const struct history_write *w)
{
	if (v->queue == w->queue)
		return w->put < v->put;
	return v->answered == 0 || w->put < v->answered;
}

static inline bool
history_may_hold(
    const struct history *y, uint64_t sector, uint32_t v, uint32_t asked)
{
	if (v >= y->nwrites ||
	    (v != 0 && !history_covers(&y->write[v], sector)))
		return false;
	for (uint32_t i = 1; i < y->nwrites; i++) {
		const struct history_write *w = &y->write[i];

		if (i != v && history_covers(w, sector) && w->answered != 0 &&
		    w->answered < asked &&
		    (v == 0 || !history_may_outlive(&y->write[v], w)))
			return false;
	}
	return true;
}

/* What a reader who asked then has found. */
static inline void
history_check(struct history *y, uint64_t sector, unsigned n, const void *bytes,
    uint32_t asked)
{
	const uint32_t *data = bytes;

	for (unsigned i = 0; i < n; i++, data += 128) {
		CU_ASSERT_TRUE(history_may_hold(y, sector + i, data[0], asked));
		CU_ASSERT_EQUAL(data[0], data[127]);
	}
}

/* Put a request, if this one is free; its queue, or -1. */
static inline int
history_put(struct history *y, struct history_op *o)
{
	unsigned q = history_draw(y, HISTORY_QUEUES);
	struct history_write *w;

	if (o->r.id != DRIVER_NONE)
		return -1;
	o->write = history_draw(y, 3) != 0;
	o->sectors = 1 + history_draw(y, 4);
	o->sector = history_draw(y, HISTORY_SECTORS - o->sectors + 1);
	o->asked = ++y->ticks;
	if (o->write) {
		uint32_t *data =
		    harness_ram(y->d->h, o->r.data, 512 * o->sectors);

		BUG_ON(y->nwrites == HISTORY_WRITES);
		o->version = y->nwrites++;
		w = &y->write[o->version];
		*w = (struct history_write){ o->asked, 0, o->sector, o->sectors,
			q };
		for (unsigned i = 0; i < 128 * o->sectors; i++)
			data[i] = o->version;
	}
	guest_put(y->d, &o->r, q, o->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
	    o->sector, 512 * o->sectors, !o->write);
	return (int)q;
}

/* Take what was answered, and check it.  Requests still in flight. */
static inline unsigned
history_take(struct history *y)
{
	unsigned left = 0;
	uint16_t id;
	uint32_t len;

	for (unsigned q = 0; q < HISTORY_QUEUES; q++)
		while (driver_take(y->d, q, &id, &len)) {
			struct history_op *o = y->op;

			while (o->r.queue != q || o->r.id != id)
				o++;
			CU_ASSERT_EQUAL(guest_status(y->d, &o->r), 0);
			o->r.id = DRIVER_NONE;
			y->ticks++;
			y->answers++;
			if (o->write)
				y->write[o->version].answered = y->ticks;
			else
				history_check(y, o->sector, o->sectors,
				    driver_at(y->d, o->r.data), o->asked);
		}
	for (unsigned i = 0; i < HISTORY_OPS; i++)
		left += y->op[i].r.id != DRIVER_NONE;
	return left;
}

#endif
