/* A disk in a file, by io_uring. */
#include "devices/block/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"

#define CQ_ENTRIES 2048u
#define WORKERS	   16u /* threads of the kernel's for what may block */
#define FILES	   2u
#define FILE_FENCE 0
#define FILE_DISK  1
/* One operation moves at most this; a multiple of every block size. */
#define LENGTH_MAX (1u << 30)

/* All that this ring will ever do, whoever gets hold of it. */
static const uint8_t allowed[] = {
	IORING_OP_READ,
	IORING_OP_WRITE,
	IORING_OP_READV,
	IORING_OP_WRITEV,
	IORING_OP_FSYNC,
	IORING_OP_FALLOCATE,
	IORING_OP_FILES_UPDATE,
};

static struct uring *
from(struct block_backend *b)
{
	return (struct uring *)((char *)b - offsetof(struct uring, backend));
}

static const struct uring *
from_const(const struct block_backend *b)
{
	return (const struct uring *)((const char *)b -
	    offsetof(struct uring, backend));
}

static int
restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction r[ARRAY_LEN(allowed) + 1];

	memset(r, 0, sizeof(r));
	for (unsigned i = 0; i < ARRAY_LEN(allowed); i++) {
		r[i].opcode = IORING_RESTRICTION_SQE_OP;
		r[i].sqe_op = allowed[i];
	}
	r[ARRAY_LEN(allowed)].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[ARRAY_LEN(allowed)].sqe_flags = IOSQE_FIXED_FILE;
	/* liburing's own function for this is not in its shared library. */
	return io_uring_register((unsigned)ring->ring_fd,
	    IORING_REGISTER_RESTRICTIONS, r, ARRAY_LEN(r));
}

static int
make_ring(struct io_uring *ring)
{
	/* Without these the kernel interrupts us for every completion. */
	static const unsigned flags[] = {
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	struct io_uring_params p;
	int rc = -ENOSYS;

	for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
		memset(&p, 0, sizeof(p));
		p.flags = flags[i] | IORING_SETUP_R_DISABLED |
		    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
		p.cq_entries = CQ_ENTRIES;
		rc = io_uring_queue_init_params(URING_ENTRIES, ring, &p);
		if (rc != -EINVAL)
			break;
	}
	return rc;
}

int
uring_prepare(struct uring *u)
{
	unsigned workers[2] = { WORKERS, WORKERS };
	int files[FILES] = { [FILE_FENCE] = -1, [FILE_DISK] = -1 };
	int pipes[2] = { -1, -1 };
	int rc;

	memset(u, 0, sizeof(*u));
	u->fence_read_end = -1;
	u->fd = -1;
	rc = make_ring(&u->ring);
	if (rc != 0)
		goto out;
	if (pipe2(pipes, O_CLOEXEC) < 0) {
		rc = -errno;
		goto fail;
	}
	files[FILE_FENCE] = pipes[1];
	rc = restrict_ring(&u->ring);
	if (rc == 0)
		rc = io_uring_register_files(&u->ring, files, FILES);
	/* From here on the ring has the only reference. */
	close(pipes[1]);
	if (rc == 0)
		rc = io_uring_register((unsigned)u->ring.ring_fd,
		    IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (rc < 0)
		goto fail;
	/* Kernels before 5.15 cannot; they have other limits. */
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
	u->fence_read_end = pipes[0];
	u->made = true;
	return 0;
fail:
	if (pipes[0] >= 0)
		close(pipes[0]);
	io_uring_queue_exit(&u->ring);
out:
	u->error = rc;
	return rc;
}

/*
 * io_uring_enter fails only if the ring is broken.  What is under way is then
 * lost to us, and may still touch memory: the process ends, and its successor
 * has the fence.
 */
static void
check(int rc)
{
	if (rc < 0)
		fprintf(stderr, "io_uring: %s\n", strerror(-rc));
	BUG_ON(rc < 0);
}

static void
kick(struct block_backend *b)
{
	struct uring *u = from(b);
	int rc;

	while (u->queued > 0) {
		rc = io_uring_submit(&u->ring);
		if (rc == -EINTR)
			continue;
		if (rc == -EAGAIN || rc == -EBUSY) {
			/* Out of memory, or of room for completions: a
			 * completion must end first. */
			rc = io_uring_wait_cqe(
			    &u->ring, &(struct io_uring_cqe *){ NULL });
			if (rc == 0 || rc == -EINTR)
				continue;
		}
		check(rc);
		u->queued -= MIN(u->queued, (unsigned)rc);
	}
}

static struct io_uring_sqe *
get_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		kick(&u->backend);
		sqe = io_uring_get_sqe(&u->ring);
		BUG_ON(!sqe);
	}
	u->queued++;
	return sqe;
}

static void
submit(struct block_backend *b, struct block_io *io)
{
	struct uring *u = from(b);
	struct io_uring_sqe *sqe = get_sqe(u);
	bool write = io->op == BLOCK_WRITE;
	int mode;

	switch (io->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		/* One segment needs no copy of a table of segments. */
		if (io->niov == 1)
			io_uring_prep_rw(
			    write ? IORING_OP_WRITE : IORING_OP_READ, sqe,
			    FILE_DISK, io->iov->iov_base,
			    (unsigned)MIN(io->length, LENGTH_MAX), io->offset);
		else
			io_uring_prep_rw(
			    write ? IORING_OP_WRITEV : IORING_OP_READV, sqe,
			    FILE_DISK, io->iov, io->niov, io->offset);
		if (write && (io->flags & BLOCK_IO_DURABLE))
			sqe->rw_flags = RWF_DSYNC;
		break;
	case BLOCK_FLUSH:
		io_uring_prep_fsync(sqe, FILE_DISK, IORING_FSYNC_DATASYNC);
		break;
	case BLOCK_DISCARD:
	case BLOCK_ZEROES:
		mode = FALLOC_FL_KEEP_SIZE |
		    (io->op == BLOCK_DISCARD || (io->flags & BLOCK_IO_UNMAP)
			    ? FALLOC_FL_PUNCH_HOLE
			    : FALLOC_FL_ZERO_RANGE);
		io_uring_prep_fallocate(
		    sqe, FILE_DISK, mode, (off_t)io->offset, (off_t)io->length);
		break;
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, io);
	b->in_flight++;
}

static bool
pending(const struct block_backend *b)
{
	const struct uring *u = from_const(b);
	unsigned flags;

	if (b->in_flight == 0)
		return false;
	/* Pairs with the kernel's release of the tail after the entry. */
	if (__atomic_load_n(u->ring.cq.ktail, __ATOMIC_ACQUIRE) !=
	    *u->ring.cq.khead)
		return true;
	flags = __atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED);
	return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static struct block_io *
reap(struct block_backend *b)
{
	struct uring *u = from(b);
	struct io_uring_cqe *cqe;
	struct block_io *io;

	if (b->in_flight == 0)
		return NULL;
	/* Enters the kernel if it says that it has completions to post. */
	if (io_uring_peek_cqe(&u->ring, &cqe) != 0)
		return NULL;
	io = io_uring_cqe_get_data(cqe);
	io->result = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	b->in_flight--;
	return io;
}

static int
wait_one(struct block_backend *b)
{
	struct uring *u = from(b);
	struct io_uring_cqe *cqe;
	int rc;

	kick(b);
	do {
		rc = io_uring_wait_cqe(&u->ring, &cqe);
	} while (rc == -EINTR || rc == -EAGAIN);
	check(rc);
	return rc;
}

/* The ring's own fd is readable while there are completions. */
static bool
ready(struct block_backend *b, int fd, uint32_t events UNUSED)
{
	return fd == from(b)->ring.ring_fd;
}

static int64_t
size(struct block_backend *b)
{
	struct stat st;

	if (fstat(from(b)->fd, &st) < 0)
		return -errno;
	return st.st_size;
}

static const struct block_backend_ops ops = {
	.name = "io_uring",
	.submit = submit,
	.kick = kick,
	.pending = pending,
	.reap = reap,
	.wait = wait_one,
	.ready = ready,
	.size = size,
};

int
uring_open(struct uring *u, int fd)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int rc;

	if (!u->made)
		return u->error ? u->error : -ENOSYS;
	u->backend.ops = &ops;
	u->backend.in_flight = 0;
	u->fd = fd;
	/* By an operation: registering would be a system call of its own. */
	sqe = io_uring_get_sqe(&u->ring);
	BUG_ON(!sqe);
	io_uring_prep_files_update(sqe, &fd, 1, FILE_DISK);
	rc = io_uring_submit_and_wait(&u->ring, 1);
	if (rc >= 0)
		rc = io_uring_wait_cqe(&u->ring, &cqe);
	if (rc < 0)
		return rc;
	rc = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	if (rc != 1)
		return rc < 0 ? rc : -EIO;
	return 0;
}
