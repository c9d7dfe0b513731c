/*
 * Where a disk's bytes are: the interface between the block device model and
 * what does its input and output.
 *
 * A backend belongs to one thread.  The caller owns every struct block_io and
 * its segments, and leaves them alone from submit() until reap() gives them
 * back.  Operations may end in any order; order between them is the caller's
 * business.
 */
#ifndef DEVICES_BLOCK_BACKEND_H
#define DEVICES_BLOCK_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH, /* all that has ended before is durable */
	BLOCK_DISCARD, /* the range's content does not matter any more */
	BLOCK_ZEROES, /* the range reads as zeroes */
};

#define BLOCK_IO_DURABLE 1u /* a write: durable when it ends */
#define BLOCK_IO_UNMAP	 2u /* zeroes: may deallocate */

struct block_io {
	enum block_op op;
	uint32_t flags; /* BLOCK_IO_* */
	uint64_t offset, length; /* bytes */
	const struct iovec *iov; /* read, write: of length bytes */
	unsigned niov;
	/*
	 * Of an ended one: bytes read or written, which may be fewer than
	 * asked for (0: the end of the disk); 0 for the other operations; a
	 * negative errno, -EOPNOTSUPP for what the backend cannot do.
	 */
	int64_t result;
	struct block_io *next; /* the backend's while it has the operation */
	uint64_t token; /* the backend's */
};

struct block_backend;

struct block_backend_ops {
	const char *name;
	/* Take an operation.  It may start at once or at the next kick(). */
	void (*submit)(struct block_backend *b, struct block_io *io);
	/* Start what was submitted. */
	void (*kick)(struct block_backend *b);
	/* Has something ended?  No system call. */
	bool (*pending)(const struct block_backend *b);
	/* One that has ended, or NULL. */
	struct block_io *(*reap)(struct block_backend *b);
	/*
	 * Sleep until something has ended.  0; a negative errno: nothing of
	 * what is under way will touch its memory any more, and reap() gives
	 * back all of it with that error.
	 */
	int (*wait)(struct block_backend *b);
	/* An fd that it watches (device_watch()) is ready; true: its own. */
	bool (*ready)(struct block_backend *b, int fd, uint32_t events);
	/* Guest time at which it wants timer(); UINT64_MAX: never.  NULL ok. */
	uint64_t (*deadline)(const struct block_backend *b);
	void (*timer)(struct block_backend *b, uint64_t now_ns);
	/* Size in bytes now, or a negative errno. */
	int64_t (*size)(struct block_backend *b);
};

struct block_backend {
	const struct block_backend_ops *ops;
	unsigned in_flight; /* submitted and not reaped */
};

#endif
