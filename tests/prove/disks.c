/*
 * Scenarios: disks, with the back end of plain system calls, and with one that
 * does the newest request first, as a kernel may.
 */
#include <errno.h>
#include <sys/uio.h>

#include "tests/disk_guest.h"
#include "tests/prove/prove.h"

#define SECTORS	 64u /* that are looked at */
#define REQUESTS 4u

static struct guest_request request[REQUESTS];

/* ---- the back end that turns the order round ---- */

struct turned_context {
	struct block_context block;
	struct block_backend backend;
	struct block_io *newest;
	int fd;
};

static struct turned_context *
from(struct block_backend *b)
{
	return (struct turned_context *)(void *)((char *)b -
	    offsetof(struct turned_context, backend));
}

static void
turned_submit(struct block_backend *b, struct block_io *io)
{
	io->next = from(b)->newest;
	from(b)->newest = io;
	b->in_flight++;
}

static void
turned_kick(struct block_backend *b UNUSED)
{
}

static bool
turned_pending(const struct block_backend *b)
{
	return b->in_flight > 0;
}

static struct block_io *
turned_reap(struct block_backend *b)
{
	struct turned_context *c = from(b);
	struct block_io *io = c->newest;

	if (!io)
		return NULL;
	c->newest = io->next;
	b->in_flight--;
	if (io->op == BLOCK_READ)
		io->result = preadv2(
		    c->fd, io->iov, (int)io->niov, (off_t)io->offset, 0);
	else if (io->op == BLOCK_WRITE)
		io->result = pwritev2(
		    c->fd, io->iov, (int)io->niov, (off_t)io->offset, 0);
	else
		io->result = io->op == BLOCK_FLUSH ? 0 : -EOPNOTSUPP;
	return io;
}

static int
turned_wait(struct block_backend *b UNUSED)
{
	return 0;
}

static bool
turned_ready(struct block_backend *b UNUSED, int fd UNUSED, uint32_t ev UNUSED)
{
	return false;
}

static int64_t
turned_size(struct block_backend *b UNUSED)
{
	return HARNESS_FILE;
}

static const struct block_backend_ops turned_ops = {
	.name = "newest first",
	.submit = turned_submit,
	.kick = turned_kick,
	.pending = turned_pending,
	.reap = turned_reap,
	.wait = turned_wait,
	.ready = turned_ready,
	.size = turned_size,
};

static int
turned_start(struct device *dev, bool fresh UNUSED)
{
	struct turned_context *c = device_context(dev);

	c->backend.ops = &turned_ops;
	c->fd = device_file(dev, 0);
	return block_start(dev, &c->backend, -1, -1);
}

static const struct virtio_class turned_class = {
	BLOCK_CLASS,
	.start = turned_start,
};

static const char *const turned_files[] = { "disk" };

static const struct device_type turned = {
	.name = "newest-first",
	.title = "a disk that does the newest request first",
	.state_version = BLOCK_STATE_VERSION,
	VIRTIO_DEVICE_TYPE(turned_class, BLOCK_QUEUES_MAX, struct block_state,
	    struct turned_context),
	.log_size = BLOCK_LOG_SIZE,
	.files = turned_files,
	.nfiles = 1,
	.counters = block_counters,
	.ncounters = BLOCK_COUNTERS,
};

/* ---- requests ---- */

static void
fill(struct prover *p, uint64_t gpa, uint32_t n, uint8_t seed)
{
	uint8_t *at = harness_ram(&p->h, gpa, n);

	for (uint32_t i = 0; i < n; i++)
		at[i] = (uint8_t)(seed + i / 512);
}

/* A disk with something on it, and memory for requests. */
static void
prepare(struct prover *p)
{
	uint8_t sector[512];

	p->disk = device_file(&p->h.dev, 0);
	for (unsigned i = 0; i < SECTORS; i++) {
		memset(sector, (int)(0x80 + i), sizeof(sector));
		BUG_ON(pwrite(p->disk, sector, sizeof(sector), 512 * i) != 512);
	}
	for (unsigned i = 0; i < REQUESTS; i++)
		guest_make(&p->d, &request[i], 8 * 512);
}

static void
put(struct prover *p, unsigned i, uint32_t type, uint64_t sector,
    uint32_t sectors)
{
	bool in = type == VIRTIO_BLK_T_IN;

	if (type == VIRTIO_BLK_T_OUT)
		fill(p, request[i].data, 512 * sectors,
		    (uint8_t)(0x10 * (i + 1)));
	guest_put(&p->d, &request[i], 0, type, sector, 512 * sectors, in);
}

static bool
all_is_well(struct prover *p)
{
	for (unsigned i = 0; i < REQUESTS; i++)
		if (request[i].id != DRIVER_NONE &&
		    guest_status(&p->d, &request[i]) != VIRTIO_BLK_S_OK)
			return false;
	return track_outcome(p)->used[0] > 0;
}

/* Is the first byte of each of these sectors that one? */
static bool
on_disk(struct prover *p, const uint8_t *bytes, unsigned n)
{
	uint8_t byte;

	for (unsigned i = 0; i < n; i++)
		if (pread(p->disk, &byte, 1, 512 * i) != 1 || byte != bytes[i])
			return false;
	return all_is_well(p);
}

static void
reads(struct prover *p)
{
	put(p, 0, VIRTIO_BLK_T_IN, 2, 3);
	put(p, 1, VIRTIO_BLK_T_IN, 9, 1);
}

static void
writes(struct prover *p)
{
	put(p, 0, VIRTIO_BLK_T_OUT, 0, 2);
	put(p, 1, VIRTIO_BLK_T_OUT, 4, 3);
}

static bool
writes_right(struct prover *p)
{
	static const uint8_t want[] = { 0x10, 0x11, 0x82, 0x83, 0x20, 0x21,
		0x22, 0x87 };

	return on_disk(p, want, ARRAY_LEN(want));
}

static void
overlaps(struct prover *p)
{
	put(p, 0, VIRTIO_BLK_T_OUT, 0, 4);
	put(p, 1, VIRTIO_BLK_T_OUT, 2, 4);
	put(p, 2, VIRTIO_BLK_T_OUT, 1, 2);
}

static bool
overlaps_right(struct prover *p)
{
	static const uint8_t want[] = { 0x10, 0x30, 0x31, 0x21, 0x22, 0x23,
		0x86 };

	return on_disk(p, want, ARRAY_LEN(want));
}

static void
flushes(struct prover *p)
{
	put(p, 0, VIRTIO_BLK_T_OUT, 3, 1);
	put(p, 1, VIRTIO_BLK_T_FLUSH, 0, 0);
	put(p, 2, VIRTIO_BLK_T_OUT, 3, 1);
}

static void
put_range(struct prover *p, unsigned i, uint32_t type, uint64_t sector,
    uint32_t sectors)
{
	const struct guest_range range = { sector, sectors, 0 };

	memcpy(harness_ram(&p->h, request[i].data, sizeof(range)), &range,
	    sizeof(range));
	guest_put(&p->d, &request[i], 0, type, 0, sizeof(range), false);
}

static void
zeroes(struct prover *p)
{
	put(p, 0, VIRTIO_BLK_T_OUT, 0, 4);
	put_range(p, 1, VIRTIO_BLK_T_WRITE_ZEROES, 2, 4);
}

static bool
zeroes_right(struct prover *p)
{
	static const uint8_t want[] = { 0x10, 0x11, 0, 0, 0, 0, 0x86 };

	return on_disk(p, want, ARRAY_LEN(want));
}

static void
discards(struct prover *p)
{
	put_range(p, 0, VIRTIO_BLK_T_DISCARD, 40, 8);
	put(p, 1, VIRTIO_BLK_T_OUT, 1, 1);
}

static void
identifies(struct prover *p)
{
	guest_put(&p->d, &request[0], 0, VIRTIO_BLK_T_GET_ID, 0, 20, true);
}

static const char *const serial[] = { "serial", "prove", NULL };

#define DISK_ON(dev, text, fn, check, f)                                    \
	{                                                                   \
		dev, .name = text, .features = GUEST_FEATURES | (f),        \
		     .driver = true, .options = serial, .prepare = prepare, \
		     .request = fn, .right = check                          \
	}
#define SPLIT  0
#define PACKED VIRTIO_F_RING_PACKED
#define PLAIN  .device = "virtio-blk"
#define TURNED .type = &turned

static const struct scenario disks[] = {
	DISK_ON(PLAIN, "reads", reads, all_is_well, SPLIT),
	DISK_ON(PLAIN, "reads, packed", reads, all_is_well, PACKED),
	DISK_ON(PLAIN, "writes", writes, writes_right, SPLIT),
	DISK_ON(PLAIN, "writes, packed", writes, writes_right, PACKED),
	DISK_ON(PLAIN, "overlapping writes", overlaps, overlaps_right, SPLIT),
	DISK_ON(PLAIN, "flush between writes", flushes, all_is_well, SPLIT),
	DISK_ON(PLAIN, "write zeroes", zeroes, zeroes_right, SPLIT),
	DISK_ON(PLAIN, "discard", discards, all_is_well, PACKED),
	DISK_ON(PLAIN, "get id", identifies, all_is_well, SPLIT),
	DISK_ON(TURNED, "reads", reads, all_is_well, SPLIT),
	DISK_ON(TURNED, "writes", writes, writes_right, PACKED),
	DISK_ON(TURNED, "overlapping writes", overlaps, overlaps_right, SPLIT),
	DISK_ON(TURNED, "overlapping writes, packed", overlaps, overlaps_right,
	    PACKED),
	DISK_ON(TURNED, "flush between writes", flushes, all_is_well, SPLIT),
	DISK_ON(TURNED, "write zeroes", zeroes, zeroes_right, PACKED),
};
SCENARIOS_REGISTER(disks);
