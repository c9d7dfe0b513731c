/*
 * For tests: a device type that uses all of the contract beyond registers, with
 * effects that a test can count.  To be included once per program.
 */
#ifndef DEVHOST_WORKER_H
#define DEVHOST_WORKER_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devhost/device.h"
#include "proto/base.h"
#include "proto/packet.h"

#define WORKER_BASE	 0xc0000000u
#define WORKER_SIZE	 0x1000u
#define WORKER_VECTORS	 3u
#define WORKER_DOORBELLS 4u
#define WORKER_BELLS_AT	 0x100u
#define WORKER_WAKE_SELF 3u /* the doorbell that makes its own fd ready */
#define WORKER_FROM	 0x1000u /* guest RAM: doorbell i reads 8 bytes here, */
#define WORKER_TO	 0x2000u /* and writes their complement here */
#define WORKER_FRAME	 64u

enum worker_register {
	WORKER_VALUE = 0,
	WORKER_BAR = 8, /* wires region 1 */
	WORKER_VECTOR = 16, /* wires vector 2: address; data is its low half */
	WORKER_RAISE = 24, /* sends the message of that vector */
	WORKER_BUSY = 32, /* not idle for so many ms; all ones: for ever */
	WORKER_QUEUE = 40, /* so many things to poll for */
};

struct worker_state {
	uint64_t value, rate;
	uint64_t rung[WORKER_DOORBELLS];
	uint64_t sent[WORKER_VECTORS];
	uint64_t busy_until_ns; /* 0: idle; UINT64_MAX: for ever */
	uint64_t queued, polled, readied, link_calls, starts;
	uint64_t taken; /* packets, of the link */
	uint16_t columns, rows;
};

struct worker_context {
	int fd;
	uint64_t zeroes[8];
};

static inline void
worker_reset(struct device *dev)
{
	struct worker_state *s = device_state(dev);

	s->rate = 1;
}

static inline void
worker_access(struct device *dev, struct device_access *a)
{
	struct worker_state *s = device_state(dev);

	if (!a->write) {
		a->data = s->value;
		return;
	}
	switch (a->addr) {
	case WORKER_VALUE:
		s->value = a->data;
		break;
	case WORKER_BAR:
		device_wire_bar(dev, 1, a->data);
		break;
	case WORKER_VECTOR:
		device_wire_vector(dev, 2, a->data, (uint32_t)a->data);
		break;
	case WORKER_RAISE:
		s->sent[a->data % WORKER_VECTORS]++;
		break;
	case WORKER_BUSY:
		s->busy_until_ns = a->data == UINT64_MAX
		    ? UINT64_MAX
		    : device_now(dev) + a->data * 1000000;
		break;
	case WORKER_QUEUE:
		s->queued += a->data % 1000;
		break;
	default:
		break;
	}
}

static inline uint64_t
worker_deadline(struct device *dev)
{
	const struct worker_state *s = device_state(dev);

	return s->busy_until_ns == 0 ? UINT64_MAX : s->busy_until_ns;
}

static inline void
worker_timer(struct device *dev, uint64_t now_ns UNUSED)
{
	struct worker_state *s = device_state(dev);

	s->busy_until_ns = 0;
}

static inline void
worker_stream(
    struct device *dev UNUSED, unsigned stream UNUSED, uint64_t now_ns UNUSED)
{
}

static inline void
worker_resize(
    struct device *dev, unsigned stream UNUSED, uint16_t columns, uint16_t rows)
{
	struct worker_state *s = device_state(dev);

	s->columns = columns;
	s->rows = rows;
}

static inline int
worker_reconfigure(struct device *dev, const char *key, const char *val)
{
	struct worker_state *s = device_state(dev);

	if (strcmp(key, "rate") != 0)
		return -ENOENT;
	if (val[0] < '0' || val[0] > '9')
		return -EINVAL;
	s->rate = (uint64_t)atoi(val);
	return 0;
}

static inline int
worker_prepare(const struct device_type *type UNUSED, void *context)
{
	struct worker_context *c = context;

	for (unsigned i = 0; i < ARRAY_LEN(c->zeroes); i++)
		BUG_ON(c->zeroes[i] != 0);
	c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return c->fd < 0 ? -errno : 0;
}

static inline int
worker_start(struct device *dev, bool fresh)
{
	const struct worker_context *c = device_context(dev);
	struct worker_state *s = device_state(dev);

	BUG_ON(fresh != (s->starts == 0));
	s->starts++;
	return device_watch(dev, c->fd, EPOLLIN);
}

static inline void
worker_doorbell(struct device *dev, unsigned doorbell)
{
	const struct worker_context *c = device_context(dev);
	struct worker_state *s = device_state(dev);
	uint64_t word, one = 1;

	s->rung[doorbell]++;
	s->sent[0]++;
	if (device_dma_read(dev, WORKER_FROM + 8 * doorbell, &word, 8)) {
		word = ~word;
		device_dma_write(dev, WORKER_TO + 8 * doorbell, &word, 8);
	}
	if (doorbell == WORKER_WAKE_SELF)
		BUG_ON(write(c->fd, &one, sizeof(one)) < 0);
	device_count(dev, 0, 1);
	device_gauge(dev, 1, doorbell);
	device_count_request(dev, 8, 8, 1000);
}

static inline void
worker_ready(struct device *dev, int fd, uint32_t events)
{
	struct worker_state *s = device_state(dev);
	uint64_t n;

	BUG_ON(events != EPOLLIN);
	if (read(fd, &n, sizeof(n)) == (ssize_t)sizeof(n))
		s->readied++;
	s->sent[1]++;
}

/* Packets go back where they came from. */
static inline void
worker_link(struct device *dev, unsigned link)
{
	struct packet_ring *rx = device_link_rx(dev, link);
	struct packet_ring *tx = device_link_tx(dev, link);
	struct worker_state *s = device_state(dev);
	uint8_t frame[WORKER_FRAME];
	struct iovec iov = { frame, sizeof(frame) };
	const uint8_t *data;
	ssize_t n;

	s->link_calls++;
	while (packet_space(tx) > 0) {
		n = packet_peek(rx, s->taken, &data);
		if (n == -EAGAIN || n == -EPROTO)
			break;
		s->taken++;
		if (n != WORKER_FRAME)
			continue;
		memcpy(frame, data, sizeof(frame));
		packet_put(tx, &iov, 1);
	}
	packet_release(rx, s->taken);
	device_link_kick(dev, link);
}

static inline bool
worker_pending(struct device *dev)
{
	const struct worker_state *s = device_state(dev);

	return s->queued > 0;
}

static inline void
worker_poll(struct device *dev)
{
	struct worker_state *s = device_state(dev);

	BUG_ON(s->queued == 0);
	s->queued--;
	s->polled++;
	if (s->queued == 0)
		s->sent[2]++;
}

static inline bool
worker_idle(struct device *dev)
{
	const struct worker_state *s = device_state(dev);

	return s->busy_until_ns == 0;
}

static inline void
worker_settle(struct device *dev)
{
	const struct worker_state *s = device_state(dev);

	for (unsigned i = 0; i < WORKER_VECTORS; i++)
		device_msi(dev, i, s->sent[i]);
}

static const struct device_placement worker_placement = {
	.regions = { { .name = "main",
			 .space = DEVICE_MMIO,
			 .wiring = true,
			 .base = WORKER_BASE,
			 .size = WORKER_SIZE },
	    { .name = "bar",
		.space = DEVICE_MMIO,
		.bar = true,
		.size = 4096 } },
	.nregions = 2,
};

static const struct device_ops worker_ops = {
	.reset = worker_reset,
	.access = worker_access,
	.deadline = worker_deadline,
	.timer = worker_timer,
	.stream = worker_stream,
	.resize = worker_resize,
	.reconfigure = worker_reconfigure,
	.prepare = worker_prepare,
	.start = worker_start,
	.doorbell = worker_doorbell,
	.ready = worker_ready,
	.link = worker_link,
	.pending = worker_pending,
	.poll = worker_poll,
	.idle = worker_idle,
	.settle = worker_settle,
};

static const char *const worker_streams[] = { "text" };
static const char *const worker_links[] = { "net" };
static const char *const worker_files[] = { "disk", "?extra" };
static const char *const worker_counters[] = { "rung", "last" };

static const struct device_type worker = {
	.name = "worker",
	.title = "a device for tests",
	.dma = DEVICE_DMA_FULL,
	.state_version = 1,
	.state_size = sizeof(struct worker_state),
	.log_size = 4096,
	.context_size = sizeof(struct worker_context),
	.placements = &worker_placement,
	.nplacements = 1,
	.streams = worker_streams,
	.nstreams = 1,
	.doorbells = { 0, WORKER_BELLS_AT, 4, WORKER_DOORBELLS },
	.nvectors = WORKER_VECTORS,
	.links = worker_links,
	.nlinks = 1,
	.files = worker_files,
	.nfiles = 2,
	.counters = worker_counters,
	.ncounters = 2,
	.ops = &worker_ops,
};
DEVTYPE_REGISTER(worker);

#endif
