/*
 * For tests: a device on an engine in this process, with memfds and eventfds
 * as the broker would make them.
 *
 * Work that a host would do in its event loop is done by harness_run().
 */
#ifndef DEVHOST_HARNESS_H
#define DEVHOST_HARNESS_H

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devhost/engine.h"
#include "proto/base.h"

#define HARNESS_FDS_MAX	    160u
#define HARNESS_WATCHED_MAX 64u
#define HARNESS_FDS_SCANNED 1024
#define HARNESS_RAM	    (16u << 20)
#define HARNESS_FILE	    (64u << 20)
#ifndef HARNESS_TURNS_MAX
#define HARNESS_TURNS_MAX 100000u
#endif

/* What a test may want otherwise than harness_make() does it. */
struct harness_want {
	unsigned vcpus; /* 0: 1 */
	uint64_t ram_low, ram_high; /* bytes; both 0: HARNESS_RAM below */
	bool no_ram; /* the broker grants none */
	bool no_links; /* nothing is at the other end */
	unsigned link_side;
	/*
	 * Files, taken by the harness; 0: a sealed memfd of HARNESS_FILE bytes
	 * if the type must have it, else none; -1: none.
	 */
	int file[DEVICE_FILES_MAX];
};

struct harness {
	struct device dev;
	struct engine_config config;
	int fds[HARNESS_FDS_MAX];
	unsigned nfds;
	void *store;
	size_t store_size;
	struct ring_set *rings;
	struct stream *out, *in; /* of the last stream; NULL: it has none */
	uint8_t *ram; /* guest RAM: low, then high; NULL: none */
	uint64_t ram_low, ram_high;
	/* Links: the test is the peer.  NULL: none. */
	struct packet_link *link[DEVICE_LINKS_MAX];
	struct packet_ring *link_to[DEVICE_LINKS_MAX]; /* to the device */
	struct packet_ring *link_from[DEVICE_LINKS_MAX]; /* from it */
	uint64_t pos; /* requests put into ring 0 */
	uint64_t now_ns; /* guest time of accesses; 0: the clock's */
	/* Of the process: made by harness_start(), gone by harness_stop(). */
	void *context;
	struct {
		int fd;
		uint32_t events;
	} watched[HARNESS_WATCHED_MAX];
	unsigned nwatched;
	bool prepared[HARNESS_FDS_SCANNED]; /* fds that prepare() opened */
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

/* How the store of a device of this type is shaped. */
static inline struct store_shape
harness_shape(const struct device_type *t, unsigned vcpus)
{
	return (struct store_shape){ .vcpus = vcpus,
		.state_size = t->state_size,
		.log_size = t->log_size,
		.state_version = t->state_version,
		.vectors = t->nvectors };
}

static inline void
harness_add(struct harness *h, int fd)
{
	BUG_ON(h->nfds >= HARNESS_FDS_MAX);
	h->fds[h->nfds++] = fd;
}

static inline void
harness_add_eventfds(struct harness *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		harness_add(h, harness_eventfd());
}

static inline void
harness_add_memory(struct harness *h, size_t size, void **map)
{
	harness_add(h, harness_memory(size, map));
}

static inline int
harness_file(void)
{
	void *map;
	int fd = harness_memory(HARNESS_FILE, &map);

	munmap(map, HARNESS_FILE);
	return fd;
}

static inline void
harness_add_ram(struct harness *h, const struct harness_want *want)
{
	void *map;

	h->ram_low = want->ram_low;
	h->ram_high = want->ram_high;
	if (h->ram_low + h->ram_high == 0)
		h->ram_low = HARNESS_RAM;
	harness_add_memory(h, h->ram_low + h->ram_high, &map);
	h->ram = map;
	h->config.has_ram = true;
	h->config.ram_low = h->ram_low;
	h->config.ram_high = h->ram_high;
}

static inline void
harness_add_links(struct harness *h, const struct device_type *t,
    const struct harness_want *want)
{
	void *map;

	h->config.link_side = want->link_side;
	for (unsigned i = 0; i < t->nlinks && !want->no_links; i++) {
		harness_add_memory(h, PACKET_LINK_SIZE, &map);
		h->link[i] = map;
		h->link_to[i] = &h->link[i]->ring[!want->link_side];
		h->link_from[i] = &h->link[i]->ring[want->link_side];
		harness_add_eventfds(h, 4);
		h->config.links |= 1u << i;
	}
}

static inline void
harness_add_files(struct harness *h, const struct device_type *t,
    const struct harness_want *want)
{
	for (unsigned i = 0; i < t->nfiles; i++) {
		int fd = want->file[i];

		if (fd == 0)
			fd = t->files[i][0] == '?' ? -1 : harness_file();
		if (fd < 0)
			continue;
		harness_add(h, fd);
		h->config.files |= 1u << i;
	}
}

static inline int
harness_watch(void *ctx, int fd, uint32_t events)
{
	struct harness *h = ctx;
	unsigned i;

	for (i = 0; i < h->nwatched && h->watched[i].fd != fd; i++)
		;
	if (i == h->nwatched) {
		if (events == 0)
			return 0;
		BUG_ON(i >= HARNESS_WATCHED_MAX);
		h->nwatched++;
	}
	h->watched[i].fd = fd;
	h->watched[i].events = events;
	if (events == 0)
		h->watched[i] = h->watched[--h->nwatched];
	return 0;
}

/*
 * Make what the device outlives its process in; attach nothing yet.  The
 * harness must not move from now on.
 */
static inline void
harness_make_want(struct harness *h, const struct device_type *t,
    const struct harness_want *want)
{
	unsigned vcpus = want->vcpus ? want->vcpus : 1;
	const struct store_shape shape = harness_shape(t, vcpus);
	void *map;

	memset(h, 0, sizeof(*h));
	h->config.name = "test";
	h->config.vcpus = vcpus;
	h->config.placement = t->placements[0];
	h->config.fds = h->fds;
	h->config.watch = harness_watch;
	h->config.watcher = h;
	h->store_size = store_size(&shape);
	harness_add_memory(h, h->store_size, &h->store);
	BUG_ON(store_format(h->store, h->store_size, &shape) != 0);
	harness_add_memory(h, ring_set_size(vcpus), &map);
	h->rings = map;
	harness_add_eventfds(h, 1);
	for (unsigned i = 0; i < t->placements[0].nirqs; i++)
		harness_add_eventfds(h, t->placements[0].irqs[i].level ? 2 : 1);
	for (unsigned i = 0; i < t->nstreams; i++) {
		harness_add_memory(h, STREAM_SIZE, &map);
		h->out = map;
		harness_add_eventfds(h, 2);
		harness_add_memory(h, STREAM_SIZE, &map);
		h->in = map;
		harness_add_eventfds(h, 2);
	}
	if (t->dma != DEVICE_DMA_NONE && !want->no_ram)
		harness_add_ram(h, want);
	harness_add_eventfds(h, t->nvectors + t->doorbells.count);
	harness_add_links(h, t, want);
	harness_add_files(h, t, want);
	h->config.nfds = h->nfds;
}

static inline void
harness_make(struct harness *h, const struct device_type *t, unsigned vcpus)
{
	const struct harness_want want = { .vcpus = vcpus };

	harness_make_want(h, t, &want);
}

/* Which of the first HARNESS_FDS_SCANNED fds are open, by one system call. */
static inline void
harness_scan(bool open[HARNESS_FDS_SCANNED])
{
	static struct pollfd p[HARNESS_FDS_SCANNED];
	int n = MIN(getdtablesize(), HARNESS_FDS_SCANNED);

	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = i };
	BUG_ON(poll(p, (nfds_t)n, 0) < 0);
	for (int i = 0; i < n; i++)
		open[i] = !(p[i].revents & POLLNVAL);
}

/* A process's own memory and fds, as before the sandbox. */
static inline void
harness_prepare(struct harness *h, const struct device_type *t)
{
	static bool before[HARNESS_FDS_SCANNED], after[HARNESS_FDS_SCANNED];

	h->context = NULL;
	h->nwatched = 0;
	if (t->context_size > 0) {
		size_t size = (t->context_size + 63u) / 64u * 64u;

		h->context = aligned_alloc(64, size);
		BUG_ON(!h->context);
		memset(h->context, 0, size);
	}
	h->config.context = h->context;
	if (!t->ops->prepare)
		return;
	harness_scan(before);
	BUG_ON(t->ops->prepare(t, h->context) < 0);
	harness_scan(after);
	for (int i = 0; i < HARNESS_FDS_SCANNED; i++)
		h->prepared[i] = !before[i] && after[i];
}

/* Start, or after harness_stop() restart: what engine_start() returns. */
static inline int
harness_start(struct harness *h, const struct device_type *t)
{
	int rc;

	harness_prepare(h, t);
	rc = engine_attach(&h->dev, t, &h->config);
	if (rc == 0)
		rc = engine_start(&h->dev, NULL, NULL);
	if (rc == 1)
		engine_take_up(&h->dev);
	return rc;
}

/* As if the process had died: nothing is said to the device. */
static inline void
harness_stop(struct harness *h)
{
	engine_detach(&h->dev);
	for (int i = 0; i < HARNESS_FDS_SCANNED; i++)
		if (h->prepared[i]) {
			close(i);
			h->prepared[i] = false;
		}
	free(h->context);
	h->context = h->config.context = NULL;
	h->nwatched = 0;
}

static inline void
harness_open_want(
    struct harness *h, const char *name, const struct harness_want *want)
{
	const struct device_type *t = device_type_find(name);

	BUG_ON(!t);
	harness_make_want(h, t, want);
	BUG_ON(harness_start(h, t) != 0);
}

static inline void
harness_open(struct harness *h, const char *name)
{
	const struct harness_want want = { .vcpus = 1 };

	harness_open_want(h, name, &want);
}

static inline void
harness_restart(struct harness *h)
{
	const struct device_type *t = h->dev.type;

	harness_stop(h);
	BUG_ON(harness_start(h, t) != 1);
}

static inline void
harness_unmap(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

static inline void
harness_close(struct harness *h)
{
	harness_stop(h);
	/* The small maps stay: test processes are short. */
	harness_unmap(h->ram, h->ram_low + h->ram_high);
	for (unsigned i = 0; i < DEVICE_LINKS_MAX; i++)
		harness_unmap(h->link[i], PACKET_LINK_SIZE);
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

/* ---- work ---- */

static inline unsigned
harness_count(int fd)
{
	uint64_t n = 0;

	if (read(fd, &n, sizeof(n)) < 0)
		return 0;
	return (unsigned)n;
}

/* Interrupts raised on a line since the last call. */
static inline unsigned
harness_irqs(struct harness *h, unsigned irq)
{
	return harness_count(h->dev.irq[irq].trigger);
}

/* Messages sent by a vector since the last call. */
static inline unsigned
harness_msi(struct harness *h, unsigned vector)
{
	return harness_count(h->dev.vector[vector].trigger);
}

/* The guest writes to a doorbell. */
static inline void
harness_ring(struct harness *h, unsigned doorbell)
{
	engine_doorbell(&h->dev, doorbell);
}

/* Where guest RAM at gpa lies here; n bytes of it must be there. */
static inline void *
harness_ram(struct harness *h, uint64_t gpa, size_t n)
{
	if (gpa >= 1ull << 32) {
		gpa -= 1ull << 32;
		BUG_ON(gpa + n > h->ram_high);
		return h->ram + h->ram_low + gpa;
	}
	BUG_ON(gpa + n > h->ram_low);
	return h->ram + gpa;
}

/* Call ready() for the fds that are, waiting for up to ms.  How many. */
static inline unsigned
harness_ready(struct harness *h, int ms)
{
	struct pollfd p[HARNESS_WATCHED_MAX];
	unsigned n = h->nwatched, calls = 0;

	for (unsigned i = 0; i < n; i++) {
		p[i].fd = h->watched[i].fd;
		p[i].events = (short)h->watched[i].events;
	}
	if (poll(p, n, ms) <= 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		uint32_t events = (uint32_t)p[i].revents;

		if (events & (EPOLLHUP | EPOLLERR))
			events |= EPOLLIN | EPOLLOUT;
		events &= (uint32_t)p[i].events & (EPOLLIN | EPOLLOUT);
		if (events == 0)
			continue;
		engine_ready(&h->dev, p[i].fd, events);
		calls++;
	}
	return calls;
}

/* Do all the work that can be done without waiting.  Work calls made. */
static inline unsigned
harness_run(struct harness *h)
{
	unsigned calls = 0, n;

	do {
		n = engine_poll(&h->dev) + harness_ready(h, 0);
		calls += n;
	} while (n > 0 && calls < HARNESS_TURNS_MAX);
	return calls;
}

/*
 * Work until done(ctx) or for as long as a slow machine may need.  False: it
 * did not come to be.
 */
static inline bool
harness_run_until(struct harness *h, bool (*done)(void *ctx), void *ctx)
{
	uint64_t end = time_now_ns() + 20000000000ull;

	while (!done(ctx)) {
		if (time_now_ns() > end)
			return false;
		if (harness_run(h) == 0)
			harness_ready(h, 1);
	}
	return true;
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
