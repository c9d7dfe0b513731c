/*
 * A disk in a file, by plain system calls, one after the other: for hosts
 * where io_uring is forbidden, or where there is no fence.  The end of the
 * process ends all that it has asked for.
 *
 * It needs pread, pwrite and fdatasync of the kernel, and gives BLOCK_DISCARD
 * and BLOCK_ZEROES back with -EOPNOTSUPP.
 */
#ifndef DEVICES_BLOCK_SYNC_H
#define DEVICES_BLOCK_SYNC_H

#include "devices/block/backend.h"

struct sync {
	struct block_backend backend;
	int fd; /* the host's */
	struct block_io *first, **last; /* ended */
};

void sync_open(struct sync *s, int fd);

#endif
