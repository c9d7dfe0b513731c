/*
 * For tests of virtqueues: a queue without a device around it, a driver at its
 * other end, and a log that outlives the queue.
 *
 * The device type is there for its guest RAM only.
 */
#ifndef TESTS_VQ_BENCH_H
#define TESTS_VQ_BENCH_H

#include "tests/driver.h"

#define BENCH_DEVICE "virtio-rng"
#define BENCH_EPOCH  7u

struct bench {
	struct harness h;
	struct driver d;
	struct vq_state state;
	struct vq q;
	struct vq_log *log;
};

static inline int
bench_restart(struct bench *b)
{
	return vq_open(
	    &b->q, &b->h.dev, 0, &b->state, b->log, b->d.features, BENCH_EPOCH);
}

static inline void
bench_open(struct bench *b, uint64_t features, uint16_t size)
{
	void *log;

	memset(b, 0, sizeof(*b));
	harness_open(&b->h, BENCH_DEVICE);
	driver_open_sized(&b->d, &b->h, features, size);
	b->state = (struct vq_state){
		.desc = b->d.q[0].desc,
		.driver = b->d.q[0].driver,
		.device = b->d.q[0].device,
		.size = size,
	};
	close(harness_memory(sizeof(*b->log), &log));
	b->log = log;
	BUG_ON(bench_restart(b) != 0);
}

static inline void
bench_close(struct bench *b)
{
	munmap(b->log, sizeof(*b->log));
	harness_close(&b->h);
}

/* The kinds of ring that there are. */
static const struct {
	const char *name;
	uint64_t features;
} bench_kinds[] UNUSED = {
	{ "split", VIRTIO_F_INDIRECT_DESC },
	{ "split, event index", VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX },
	{ "packed", VIRTIO_F_INDIRECT_DESC | VIRTIO_F_RING_PACKED },
	{ "packed, event index",
	    VIRTIO_F_INDIRECT_DESC | VIRTIO_F_RING_PACKED |
		VIRTIO_F_EVENT_IDX },
};

#endif
