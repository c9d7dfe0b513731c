/*
 * For tests: a device on an engine in this process, with memfds and eventfds
 * as the broker would make them.
 */
#ifndef DEVHOST_HARNESS_H
#define DEVHOST_HARNESS_H

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devhost/engine.h"
#include "proto/base.h"

#define HARNESS_FDS_MAX 24u

struct harness {
	struct device dev;
	struct engine_config config;
	int fds[HARNESS_FDS_MAX];
	unsigned nfds;
	void *store;
	struct ring_set *rings;
	struct stream *out, *in; /* of stream 0; NULL if it has none */
	uint64_t pos; /* requests put into ring 0 */
	uint64_t now_ns; /* guest time of accesses; 0: the clock's */
};

static inline int
harness_memory(size_t size, void **map)
{
	int fd = memfd_create("harness", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	BUG_ON(fd < 0 || ftruncate(fd, (off_t)size) < 0);
	BUG_ON(fcntl(fd, F_ADD_SEALS,
		   F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0);
	*map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	BUG_ON(*map == MAP_FAILED);
	return fd;
}

static inline int
harness_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	BUG_ON(fd < 0);
	return fd;
}

/* Make what the device outlives its process in; attach nothing yet. */
static inline void
harness_make(struct harness *h, const struct device_type *t, unsigned vcpus)
{
	const struct store_shape shape = { vcpus, t->state_size, t->log_size,
		t->state_version };
	void *map;

	memset(h, 0, sizeof(*h));
	h->fds[h->nfds++] = harness_memory(store_size(&shape), &h->store);
	BUG_ON(store_format(h->store, store_size(&shape), &shape) != 0);
	h->fds[h->nfds++] = harness_memory(ring_set_size(vcpus), &map);
	h->rings = map;
	h->fds[h->nfds++] = harness_eventfd();
	for (unsigned i = 0; i < t->placements[0].nirqs; i++) {
		h->fds[h->nfds++] = harness_eventfd();
		if (t->placements[0].irqs[i].level)
			h->fds[h->nfds++] = harness_eventfd();
	}
	for (unsigned i = 0; i < t->nstreams; i++) {
		h->fds[h->nfds++] = harness_memory(STREAM_SIZE, &map);
		h->out = map;
		h->fds[h->nfds++] = harness_eventfd();
		h->fds[h->nfds++] = harness_eventfd();
		h->fds[h->nfds++] = harness_memory(STREAM_SIZE, &map);
		h->in = map;
		h->fds[h->nfds++] = harness_eventfd();
		h->fds[h->nfds++] = harness_eventfd();
	}
	h->config = (struct engine_config){
		.name = "test",
		.vcpus = vcpus,
		.placement = t->placements[0],
		.fds = h->fds,
		.nfds = h->nfds,
	};
}

/* Start, or after harness_stop() restart: what engine_start() returns. */
static inline int
harness_start(struct harness *h, const struct device_type *t)
{
	int rc = engine_attach(&h->dev, t, &h->config);

	return rc < 0 ? rc : engine_start(&h->dev, NULL, NULL);
}

/* As if the process had died: nothing is said to the device. */
static inline void
harness_stop(struct harness *h)
{
	engine_detach(&h->dev);
}

static inline void
harness_open(struct harness *h, const char *name)
{
	const struct device_type *t = device_type_find(name);

	BUG_ON(!t);
	harness_make(h, t, 1);
	BUG_ON(harness_start(h, t) != 0);
}

static inline void
harness_restart(struct harness *h)
{
	const struct device_type *t = h->dev.type;

	harness_stop(h);
	BUG_ON(harness_start(h, t) != 1);
}

static inline void
harness_close(struct harness *h)
{
	if (h->dev.type)
		harness_stop(h);
	/* The maps stay: test processes are short. */
	for (unsigned i = 0; i < h->nfds; i++)
		close(h->fds[i]);
}

static inline uint64_t
harness_access(struct harness *h, enum ring_op op, unsigned region,
    uint64_t addr, unsigned size, uint64_t data)
{
	struct ring_request r = {
		.addr = addr,
		.data = data,
		.time_ns = h->now_ns ? h->now_ns : device_now(&h->dev),
		.region = (uint16_t)region,
		.op = (uint8_t)op,
		.size = (uint8_t)size,
	};
	uint64_t answer = 0;

	BUG_ON(engine_access(&h->dev, &r, &answer) != 0);
	return answer;
}

static inline uint8_t
harness_in(struct harness *h, uint64_t addr)
{
	return (uint8_t)harness_access(h, RING_READ, 0, addr, 1, 0);
}

static inline void
harness_out(struct harness *h, uint64_t addr, uint8_t value)
{
	harness_access(h, RING_WRITE, 0, addr, 1, value);
}

/* Interrupts raised on a line since the last call. */
static inline unsigned
harness_irqs(struct harness *h, unsigned irq)
{
	uint64_t n = 0;

	if (read(h->dev.irq[irq].trigger, &n, sizeof(n)) < 0)
		return 0;
	return (unsigned)n;
}

/* Type bytes at the device. */
static inline void
harness_type(struct harness *h, const char *text)
{
	uint64_t head = stream_head(h->in);

	BUG_ON(stream_put(h->in, head, text, strlen(text), &head) != 0);
	engine_stream(&h->dev, 0);
}

/* What the device has put out from byte `from` on, as text. */
static inline const char *
harness_output(struct harness *h, uint64_t from)
{
	static char text[4096];
	ssize_t n = stream_peek(h->out, from, text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	return text;
}

#endif
