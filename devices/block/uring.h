/*
 * A disk in a file, by io_uring.
 *
 * The ring is made before the sandbox is entered, restricted to reading,
 * writing, syncing and allocating, and to putting a file into its table;
 * afterwards io_uring_enter is the only system call it needs.  The fence's write
 * end is in the ring's table from the start.
 */
#ifndef DEVICES_BLOCK_URING_H
#define DEVICES_BLOCK_URING_H

#include <liburing.h>

#include "devices/block/backend.h"
#include "devices/block/fence.h"

#define URING_ENTRIES 256u

struct uring {
	struct block_backend backend;
	struct io_uring ring;
	int error; /* of prepare(); 0: there is a ring */
	bool made;
	int fence_read_end; /* of our own pipe */
	int fd; /* of the file; the host's */
	unsigned queued; /* prepared, not yet submitted */
};

/* Before the sandbox.  0, or why there is no ring: a negative errno. */
int uring_prepare(struct uring *u);

/*
 * Take the disk's file, which stays the caller's; then watch u->ring.ring_fd,
 * which is readable while something has ended.  0; a negative errno: use another
 * backend.
 */
int uring_open(struct uring *u, int fd);

#endif
