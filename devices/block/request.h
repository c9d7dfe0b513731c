/*
 * What a driver asks of a block device: virtio 1.2, 5.2.6.  Pure functions on a
 * hostile chain.
 */
#ifndef DEVICES_BLOCK_REQUEST_H
#define DEVICES_BLOCK_REQUEST_H

#include "devices/block/backend.h"
#include "devices/virtio/virtqueue.h"

#define BLOCK_SECTOR	   512u
#define BLOCK_ID_SIZE	   20u /* of a serial number */
#define BLOCK_SEGMENTS_MAX 16u /* of a discard or write-zeroes request */
#define BLOCK_HEADER_SIZE  16u
/* Sectors that one such segment may have: 1 GiB. */
#define BLOCK_RANGE_MAX_SECTORS (1u << 21)

/* 5.2.6: request types and status. */
#define VIRTIO_BLK_T_IN		  0u
#define VIRTIO_BLK_T_OUT	  1u
#define VIRTIO_BLK_T_FLUSH	  4u
#define VIRTIO_BLK_T_GET_ID	  8u
#define VIRTIO_BLK_T_GET_LIFETIME 10u
#define VIRTIO_BLK_T_DISCARD	  11u
#define VIRTIO_BLK_T_WRITE_ZEROES 13u
#define VIRTIO_BLK_T_SECURE_ERASE 14u
#define VIRTIO_BLK_S_OK		  0u
#define VIRTIO_BLK_S_IOERR	  1u
#define VIRTIO_BLK_S_UNSUPP	  2u

/* What the request is checked against. */
struct block_limits {
	uint64_t size; /* bytes */
	uint32_t block_size; /* 512 or 4096: every range is of such */
	bool read_only;
	bool discard, zeroes; /* negotiated */
};

struct block_range {
	uint64_t offset, length; /* bytes */
	bool unmap;
};

enum block_job_kind {
	BLOCK_JOB_DONE, /* only the status is to be said */
	BLOCK_JOB_ID, /* the serial number is to be given */
	BLOCK_JOB_IO,
};

struct block_job {
	enum block_job_kind kind;
	uint8_t status; /* of BLOCK_JOB_DONE */
	enum block_op op; /* of BLOCK_JOB_IO */
	unsigned nranges; /* 0 for a flush, 1 for reading and writing */
	struct block_range range[BLOCK_SEGMENTS_MAX];
	uint64_t start, end; /* bytes: all ranges lie in [start, end) */
};

/*
 * What a chain asks for.  0; -EPROTO: it has no room for a header and a status
 * byte, so that no answer is possible.  Nothing but the readable part is looked
 * at, once.
 */
int block_parse(const struct vq_chain *c, const struct block_limits *limits,
    struct block_job *job);

#endif
