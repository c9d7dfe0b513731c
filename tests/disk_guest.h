/* For tests: requests of a disk's driver, over tests/driver.h. */
#ifndef TESTS_DISK_GUEST_H
#define TESTS_DISK_GUEST_H

#include "devices/block/block.h"
#include "tests/driver.h"

#define GUEST_PENDING  0xeeu /* status of a request not yet answered */
#define GUEST_FEATURES (0x7fffull | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX)

struct guest_header {
	uint32_t type, ioprio;
	uint64_t sector;
};

struct guest_range {
	uint64_t sector;
	uint32_t sectors, flags;
};

struct guest_request {
	uint64_t header, status; /* where they are in guest RAM */
	uint64_t data;
	uint32_t len;
	unsigned queue;
	uint16_t id; /* DRIVER_NONE: not in flight */
};

/* Make room for requests with up to `max` bytes of data. */
static inline void
guest_make(struct driver *d, struct guest_request *r, uint32_t max)
{
	uint64_t page = driver_alloc(d, 4096);

	r->header = page;
	r->status = page + 256;
	r->data = driver_alloc(d, max ? max : 1);
	r->id = DRIVER_NONE;
}

/* Make a request available; `in`: the device writes the data. */
static inline void
guest_put(struct driver *d, struct guest_request *r, unsigned queue,
    uint32_t type, uint64_t sector, uint32_t len, bool in)
{
	struct guest_header h = { .type = type, .sector = sector };
	struct driver_seg s[3] = { { r->header, sizeof(h), false } };
	unsigned n = 1;

	memcpy(harness_ram(d->h, r->header, sizeof(h)), &h, sizeof(h));
	*(uint8_t *)driver_at(d, r->status) = GUEST_PENDING;
	if (len > 0)
		s[n++] = (struct driver_seg){ r->data, len, in };
	s[n++] = (struct driver_seg){ r->status, 1, true };
	r->len = len;
	r->queue = queue;
	r->id = driver_put(d, queue, s, n);
	BUG_ON(r->id == DRIVER_NONE);
}

static inline uint8_t
guest_status(struct driver *d, const struct guest_request *r)
{
	return *(uint8_t *)driver_at(d, r->status);
}

struct guest_wait {
	struct driver *d;
	const struct guest_request *r;
};

static inline bool
guest_answered(void *ctx)
{
	const struct guest_wait *w = ctx;

	return guest_status(w->d, w->r) != GUEST_PENDING;
}

/* Have a request done; its status, or GUEST_PENDING if it never came. */
static inline uint8_t
guest_do(struct driver *d, struct guest_request *r, uint32_t type,
    uint64_t sector, uint32_t len, bool in)
{
	struct guest_wait w = { d, r };
	uint16_t id;
	uint32_t written;

	guest_put(d, r, 0, type, sector, len, in);
	driver_kick(d, 0);
	if (!harness_run_until(d->h, guest_answered, &w))
		return GUEST_PENDING;
	if (!driver_take(d, 0, &id, &written) || id != r->id ||
	    written != (in ? len : 0) + 1)
		return GUEST_PENDING;
	r->id = DRIVER_NONE;
	return guest_status(d, r);
}

#endif
