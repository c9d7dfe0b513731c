/* Parsing the requests of a block device's driver. */
#include "devices/block/request.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "proto/base.h"

struct header { /* virtio_blk_req */
	uint32_t type, ioprio;
	uint64_t sector;
};

struct segment { /* virtio_blk_discard_write_zeroes */
	uint64_t sector;
	uint32_t sectors, flags;
};

#define SEGMENT_UNMAP 1u

static void
done(struct block_job *job, uint8_t status)
{
	job->kind = BLOCK_JOB_DONE;
	job->status = status;
}

/* Add a range; false: it does not lie on the disk, in whole blocks. */
static bool
add(struct block_job *job, const struct block_limits *l, uint64_t sector,
    uint64_t bytes, bool unmap)
{
	uint64_t offset;

	if (sector > l->size / BLOCK_SECTOR)
		return false;
	offset = sector * BLOCK_SECTOR;
	if (bytes > l->size - offset || (offset | bytes) % l->block_size != 0)
		return false;
	if (bytes == 0)
		return true;
	if (job->nranges == 0 || offset < job->start)
		job->start = offset;
	job->end = MAX(job->end, offset + bytes);
	job->range[job->nranges++] =
	    (struct block_range){ offset, bytes, unmap };
	return true;
}

static void
parse_transfer(struct block_job *job, const struct block_limits *l,
    enum block_op op, uint64_t sector, uint64_t bytes)
{
	job->kind = BLOCK_JOB_IO;
	job->op = op;
	if ((op == BLOCK_WRITE && l->read_only) ||
	    !add(job, l, sector, bytes, false))
		done(job, VIRTIO_BLK_S_IOERR);
	else if (job->nranges == 0)
		done(job, VIRTIO_BLK_S_OK);
}

/* 5.2.6.2 on discard and write zeroes: the driver's and the device's duties. */
static void
parse_ranges(const struct vq_chain *c, struct block_job *job,
    const struct block_limits *l, enum block_op op)
{
	const uint32_t known = op == BLOCK_ZEROES ? SEGMENT_UNMAP : 0;
	size_t bytes = c->out_bytes - BLOCK_HEADER_SIZE;
	size_t n = bytes / sizeof(struct segment);
	struct segment s[BLOCK_SEGMENTS_MAX];

	job->kind = BLOCK_JOB_IO;
	job->op = op;
	if (l->read_only || n == 0 || n > BLOCK_SEGMENTS_MAX ||
	    bytes % sizeof(struct segment) != 0 ||
	    vq_read(c, BLOCK_HEADER_SIZE, s, bytes) != bytes) {
		done(job, VIRTIO_BLK_S_IOERR);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		uint32_t flags = le32toh(s[i].flags);
		uint32_t sectors = le32toh(s[i].sectors);

		if (flags & ~known) {
			done(job, VIRTIO_BLK_S_UNSUPP);
			return;
		}
		if (sectors > BLOCK_RANGE_MAX_SECTORS ||
		    !add(job, l, le64toh(s[i].sector),
			(uint64_t)sectors * BLOCK_SECTOR,
			flags & SEGMENT_UNMAP)) {
			done(job, VIRTIO_BLK_S_IOERR);
			return;
		}
	}
	if (job->nranges == 0)
		done(job, VIRTIO_BLK_S_OK);
}

int
block_parse(const struct vq_chain *c, const struct block_limits *l,
    struct block_job *job)
{
	struct header h;

	memset(job, 0, offsetof(struct block_job, range));
	job->start = job->end = 0;
	if (c->in_bytes < 1 || c->out_bytes < sizeof(h) ||
	    vq_read(c, 0, &h, sizeof(h)) != sizeof(h))
		return -EPROTO;
	switch (le32toh(h.type)) {
	case VIRTIO_BLK_T_IN:
		parse_transfer(
		    job, l, BLOCK_READ, le64toh(h.sector), c->in_bytes - 1);
		break;
	case VIRTIO_BLK_T_OUT:
		parse_transfer(job, l, BLOCK_WRITE, le64toh(h.sector),
		    c->out_bytes - BLOCK_HEADER_SIZE);
		break;
	case VIRTIO_BLK_T_FLUSH:
		job->kind = BLOCK_JOB_IO;
		job->op = BLOCK_FLUSH;
		break;
	case VIRTIO_BLK_T_GET_ID:
		job->kind = BLOCK_JOB_ID;
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (le32toh(h.type) == VIRTIO_BLK_T_DISCARD ? l->discard
							    : l->zeroes)
			parse_ranges(c, job, l,
			    le32toh(h.type) == VIRTIO_BLK_T_DISCARD
				? BLOCK_DISCARD
				: BLOCK_ZEROES);
		else
			done(job, VIRTIO_BLK_S_UNSUPP);
		break;
	default:
		done(job, VIRTIO_BLK_S_UNSUPP);
		break;
	}
	return 0;
}
