/* For tests: a virtio-net device, its driver, and the peer of its link. */
#ifndef TESTS_NIC_BENCH_H
#define TESTS_NIC_BENCH_H

#include "devices/net/nic.h"
#include "tests/driver.h"

#define RX0	      0u
#define TX0	      1u
#define BENCH_CONTROL 2u /* without MQ */
#define BENCH_FRAME   (FRAME_HEADER + FRAME_MAX)

struct bench {
	struct harness h;
	struct driver d;
	uint64_t from, to; /* positions of the peer: taken, put */
	uint64_t buffer; /* guest RAM for frames to be sent */
};

struct bench_option {
	const char *key, *value;
};

static inline int
bench_set(struct device *dev, void *ctx)
{
	const struct bench_option *o = ctx;
	int rc = 0;

	for (; rc == 0 && o->key != NULL; o++)
		rc = dev->type->ops->configure(dev, o->key, o->value);
	return rc;
}

/* options end with a NULL key. */
static inline void
bench_open_with(struct bench *b, uint64_t features, uint16_t size,
    struct bench_option *options)
{
	const struct device_type *t = device_type_find("virtio-net");

	memset(b, 0, sizeof(*b));
	harness_make(&b->h, t, 1);
	harness_prepare(&b->h, t);
	BUG_ON(engine_attach(&b->h.dev, t, &b->h.config) != 0);
	BUG_ON(engine_start(&b->h.dev, bench_set, options) != 0);
	driver_open_sized(&b->d, &b->h, features, size);
	b->buffer = driver_alloc(&b->d, BENCH_FRAME);
}

static inline void
bench_open(struct bench *b, uint64_t features)
{
	struct bench_option none = { NULL, NULL };

	bench_open_with(b, features, 16, &none);
}

static inline struct nic *
bench_state(struct bench *b)
{
	return device_state(&b->h.dev);
}

static inline uint64_t
bench_counter(struct bench *b, enum nic_counter i)
{
	return stats_get(&b->h.dev.store.stats->own[i]);
}

/* A frame of n bytes between two stations, with contents that tell it. */
static inline void
bench_frame(uint8_t *f, size_t n, uint8_t to, uint8_t from, unsigned mark)
{
	for (size_t i = 0; i < n; i++)
		f[i] = (uint8_t)(mark * 31 + i * 7 + (i >> 8));
	memset(f, 0, MIN(n, 12u));
	if (n >= 14) {
		f[0] = f[6] = 2;
		f[5] = to;
		f[11] = from;
		f[12] = 0x88; /* 88b5: for local experiments */
		f[13] = 0xb5;
	}
}

/* ---- the guest sends ---- */

/* Header and frame in memory at gpa, in pieces of at most `piece` bytes. */
static inline uint16_t
bench_send_at(struct bench *b, unsigned q, uint64_t gpa,
    const struct net_header *h, const void *frame, size_t n, size_t piece)
{
	struct driver_seg s[VQ_SEGMENTS_MAX];
	size_t bytes = FRAME_HEADER + n, at = 0;
	unsigned segs = 0;

	memcpy(driver_at(&b->d, gpa), h, FRAME_HEADER);
	memcpy(driver_at(&b->d, gpa + FRAME_HEADER), frame, n);
	while (at < bytes) {
		size_t part = MIN(bytes - at, piece);

		s[segs++] =
		    (struct driver_seg){ gpa + at, (uint32_t)part, false };
		at += part;
	}
	return driver_put(&b->d, q, s, segs);
}

static inline void
bench_send(
    struct bench *b, const struct net_header *h, const void *frame, size_t n)
{
	BUG_ON(bench_send_at(b, TX0, b->buffer, h, frame, n, BENCH_FRAME) ==
	    DRIVER_NONE);
	driver_kick(&b->d, TX0);
	harness_run(&b->h);
}

/* The next frame that came to the peer; -EAGAIN: none. */
static inline ssize_t
bench_arrived(struct bench *b, const uint8_t **data)
{
	ssize_t n = packet_peek(b->h.link_from[0], b->from, data);

	if (n >= 0)
		packet_release(b->h.link_from[0], ++b->from);
	return n;
}

/* ---- the guest receives ---- */

static inline uint64_t
bench_give_buffer(struct bench *b, unsigned q, uint32_t n)
{
	uint64_t gpa = driver_alloc(&b->d, n);

	BUG_ON(driver_put(&b->d, q, &(struct driver_seg){ gpa, n, true }, 1) ==
	    DRIVER_NONE);
	return gpa;
}

/* The peer puts a frame. */
static inline void
bench_peer_puts(
    struct bench *b, const struct net_header *h, const void *frame, size_t n)
{
	struct iovec iov[2] = { { NULL, FRAME_HEADER }, { NULL, n } };

	memcpy(&iov[0].iov_base, &h, sizeof(h));
	memcpy(&iov[1].iov_base, &frame, sizeof(frame));
	BUG_ON(packet_put(b->h.link_to[0], iov, 2) != 0);
	b->to++;
}

/* The next used buffer of a queue: its bytes, or -1. */
static inline int
bench_take(struct bench *b, unsigned q)
{
	uint16_t id;
	uint32_t n;

	return driver_take(&b->d, q, &id, &n) ? (int)n : -1;
}

#endif
