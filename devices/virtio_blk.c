/*
 * virtio-blk: a disk in a file or on a block device (virtio 1.2, 5.2).
 *
 * Its outside effects are writes to the file; what makes them safe against the
 * death of the process is written in devices/block/block.h and fence.h.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "devices/block/block.h"
#include "devices/block/sync.h"
#include "devices/block/uring.h"
#include "proto/base.h"
#include "sandbox/sandbox.h"

struct blk_context {
	struct block_context block;
	struct uring uring;
	struct sync sync;
};

#define PROBE 4096u

enum { FILE_DISK, FILE_MAILBOX };

static int
prepare(void *context)
{
	struct blk_context *c = context;

	/* Without a ring there is the other backend. */
	(void)uring_prepare(&c->uring);
	return 0;
}

/* Bytes that can be read at a multiple of PROBE: up to that many. */
static uint64_t
readable_at(int fd, uint64_t block)
{
	static _Alignas(PROBE) uint8_t buf[PROBE];
	struct iovec iov = { buf, sizeof(buf) };
	ssize_t n = preadv2(fd, &iov, 1, (off_t)(block * PROBE), 0);

	return n > 0 ? (uint64_t)n : 0;
}

/*
 * A block device does not say its size to fstat(), and what would is not worth
 * a system call that every disk may make: look where reading ends.
 */
static uint64_t
find_end(int fd)
{
	uint64_t good = 0, bad = 1, middle;

	if (readable_at(fd, 0) == 0)
		return 0;
	while (bad < BLOCK_SIZE_MAX / PROBE && readable_at(fd, bad) > 0) {
		good = bad;
		bad *= 2;
	}
	while (bad - good > 1) {
		middle = good + (bad - good) / 2;
		if (readable_at(fd, middle) > 0)
			good = middle;
		else
			bad = middle;
	}
	return good * PROBE + readable_at(fd, good);
}

static void
size_block_device(struct device *dev, int fd)
{
	struct block_state *s = device_state(dev);
	struct stat st;

	if (s->size == 0 && s->set_size == 0 && fstat(fd, &st) == 0 &&
	    S_ISBLK(st.st_mode))
		s->set_size = find_end(fd) & ~(uint64_t)(s->block_size - 1);
}

static int
start(struct device *dev, bool fresh UNUSED)
{
	struct blk_context *c = device_context(dev);
	int disk = device_file(dev, FILE_DISK);
	int mailbox = device_file(dev, FILE_MAILBOX);
	const char *why = "no fence was handed in";
	int rc;

	if (disk < 0) {
		device_log_line(dev, "disk: no file was handed in");
		return -EINVAL;
	}
	size_block_device(dev, disk);
	if (mailbox >= 0) {
		rc = uring_open(&c->uring, disk);
		if (rc == 0)
			rc = device_watch(dev, c->uring.ring.ring_fd, EPOLLIN);
		if (rc == 0)
			return block_start(dev, &c->uring.backend, mailbox,
			    c->uring.fence_read_end);
		why = strerror(-rc);
	}
	device_log_line(dev, "disk: not by io_uring: %s", why);
	sync_open(&c->sync, disk);
	return block_start(dev, &c->sync.backend, mailbox, -1);
}

static const struct virtio_class class = {
	BLOCK_CLASS,
	.prepare = prepare,
	.start = start,
};

static const char *const files[] = {
	[FILE_DISK] = "disk",
	[FILE_MAILBOX] = "?fence",
};

static const struct device_option options[] = { VIRTIO_OPTIONS, BLOCK_OPTIONS };

static const struct sandbox_syscall syscalls[] = {
	{ .nr = __NR_io_uring_enter,
	    .reason = "start requests; the ring allows nothing else" },
	{ .nr = __NR_preadv2,
	    .reason = "read, where io_uring is forbidden; find the end "
		      "of a block device" },
	{ .nr = __NR_pwritev2, .reason = "write, where io_uring is forbidden" },
	{ .nr = __NR_fdatasync,
	    .reason = "flush, where io_uring is forbidden" },
};

static const struct device_type virtio_blk = {
	.name = "virtio-blk",
	.title = "virtio disk",
	.state_version = BLOCK_STATE_VERSION,
	VIRTIO_DEVICE_TYPE(
	    class, BLOCK_QUEUES_MAX, struct block_state, struct blk_context),
	.log_size = BLOCK_LOG_SIZE,
	/* The ring, the fence's end, the predecessor's. */
	.fds = 4,
	.files = files,
	.nfiles = ARRAY_LEN(files),
	.counters = block_counters,
	.ncounters = BLOCK_COUNTERS,
	.options = options,
	.noptions = ARRAY_LEN(options),
	.syscalls = syscalls,
	.nsyscalls = ARRAY_LEN(syscalls),
};

DEVTYPE_REGISTER(virtio_blk);
