/*
 * A request of a disk's driver against the parser: any bytes, cut into any
 * segments.  Bytes 0 to 4: size of the disk, limits, where to cut, bytes for
 * the device to write.
 */
#include <string.h>

#include "devices/block/request.h"
#include "proto/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BYTES_MAX 1024u
#define HEAD	  5u

static void
check(const struct block_job *j, const struct block_limits *l)
{
	BUG_ON(j->kind > BLOCK_JOB_IO);
	if (j->kind != BLOCK_JOB_IO)
		return;
	BUG_ON(j->op > BLOCK_ZEROES || j->nranges > BLOCK_SEGMENTS_MAX);
	BUG_ON((j->op == BLOCK_FLUSH) != (j->nranges == 0));
	BUG_ON(l->read_only && j->op != BLOCK_READ && j->op != BLOCK_FLUSH);
	for (unsigned i = 0; i < j->nranges; i++) {
		const struct block_range *r = &j->range[i];

		BUG_ON(r->length == 0 || r->offset % l->block_size != 0 ||
		    r->length % l->block_size != 0);
		BUG_ON(r->offset > l->size || r->length > l->size - r->offset);
		BUG_ON(r->offset < j->start || r->offset + r->length > j->end);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vq_chain c;
	static uint8_t bytes[BYTES_MAX];
	struct block_limits l;
	struct block_job job;
	size_t at = 0, n;

	if (size < HEAD)
		return 0;
	n = MIN(size - HEAD, BYTES_MAX);
	memcpy(bytes, data + HEAD, n);
	l.block_size = data[1] & 1 ? 4096 : 512;
	l.read_only = data[1] & 2;
	l.discard = data[1] & 4;
	l.zeroes = data[1] & 8;
	l.size = (uint64_t)l.block_size << (data[0] % 52);
	memset(&c, 0, sizeof(c));
	while (at < n && c.nout < VQ_SEGMENTS_MAX - 1) {
		size_t part = MIN(n - at, 1u + data[2] % 32u);

		if (c.nout == VQ_SEGMENTS_MAX - 2)
			part = n - at;
		c.iov[c.nout++] = (struct iovec){ bytes + at, part };
		at += part;
	}
	c.out_bytes = (uint32_t)at;
	c.in_bytes = data[3] | (uint32_t)data[4] << 8;
	if (block_parse(&c, &l, &job) == 0) {
		BUG_ON(c.out_bytes < BLOCK_HEADER_SIZE || c.in_bytes == 0);
		check(&job, &l);
	} else {
		BUG_ON(c.out_bytes >= BLOCK_HEADER_SIZE && c.in_bytes > 0);
	}
	return 0;
}
