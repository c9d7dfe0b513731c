/*
 * The operations of one request: a request is done by one operation of the
 * backend at a time, most by only one.
 */
#include <errno.h>
#include <string.h>

#include "devices/block/parts.h"
#include "proto/base.h"

#define RETRIES_MAX 16u
/* Of an operation that writes zeroes as data. */
#define ZERO_SEGMENTS 32u

static bool
is_direct(const struct block_state *s)
{
	return s->cache == BLOCK_CACHE_NONE ||
	    s->cache == BLOCK_CACHE_DIRECTSYNC;
}

/* What open(2) says of O_DIRECT: address, length and offset. */
static bool
is_aligned(const struct iovec *iov, unsigned n, uint32_t align)
{
	for (unsigned i = 0; i < n; i++)
		if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) % align != 0)
			return false;
	return true;
}

/* Where the data of a request begins in its part of the chain. */
static size_t
data_start(const struct block_request *r)
{
	return r->job.op == BLOCK_WRITE ? BLOCK_HEADER_SIZE : 0;
}

/* Copy between a bounce buffer and the chain, from what is done on. */
static void
copy(struct block_context *c, struct block_request *r, size_t n)
{
	uint8_t *b = c->bounces[r->bounce];
	size_t at = data_start(r) + r->done;

	if (r->job.op == BLOCK_WRITE)
		BUG_ON(vq_read(&r->chain, at, b, n) != n);
	else
		BUG_ON(vq_write(&r->chain, at, b, n) != n);
}

/* The segments of a read or write; false: a bounce buffer must be waited for.
 */
static bool
prepare_data(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);
	const struct block_state *s = device_state(dev);
	struct block_io *io = &r->io;

	if (r->bounce < 0) {
		io->niov = vq_slice(&r->chain, r->job.op == BLOCK_READ,
		    data_start(r) + r->done, io->length, r->iov,
		    VQ_SEGMENTS_MAX);
		BUG_ON(io->niov == 0);
		if (!is_direct(s) ||
		    is_aligned(r->iov, io->niov, s->block_size))
			return true;
		if (c->nbounces == 0)
			return false;
		r->bounce = c->free_bounce[--c->nbounces];
		device_count(dev, BLOCK_COUNT_BOUNCED, 1);
	}
	io->length = MIN(io->length, BLOCK_BOUNCE_SIZE);
	if (io->op == BLOCK_WRITE)
		copy(c, r, io->length);
	r->iov[0].iov_base = c->bounces[r->bounce];
	r->iov[0].iov_len = io->length;
	io->niov = 1;
	return true;
}

static void
prepare_zeroes(struct block_context *c, struct block_request *r)
{
	struct block_io *io = &r->io;
	uint64_t left;

	io->op = BLOCK_WRITE;
	io->length =
	    MIN(io->length, (uint64_t)ZERO_SEGMENTS * BLOCK_BOUNCE_SIZE);
	left = io->length;
	for (io->niov = 0; left > 0; io->niov++) {
		r->iov[io->niov].iov_base = c->bounces[BLOCK_BOUNCES];
		r->iov[io->niov].iov_len = MIN(left, BLOCK_BOUNCE_SIZE);
		left -= r->iov[io->niov].iov_len;
	}
}

bool
block_submit_piece(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);
	const struct block_range *range = &r->job.range[r->at];
	struct block_io *io = &r->io;

	io->op = r->job.op;
	io->flags = 0;
	io->iov = r->iov;
	io->niov = 0;
	io->offset = io->length = 0;
	if (r->at == r->job.nranges) {
		io->op = BLOCK_FLUSH;
	} else {
		io->offset = range->offset + r->done;
		io->length = range->length - r->done;
	}
	if (io->op == BLOCK_WRITE || io->op == BLOCK_READ) {
		if (!prepare_data(dev, r))
			return false;
	} else if (io->op == BLOCK_ZEROES) {
		io->flags = range->unmap ? BLOCK_IO_UNMAP : 0;
		if (r->by_zeroes)
			prepare_zeroes(c, r);
	}
	if (io->op == BLOCK_WRITE && block_is_durable(dev))
		io->flags |= BLOCK_IO_DURABLE;
	c->backend->ops->submit(c->backend, io);
	return true;
}

/* 0: go on; 1: this one cannot be done so and is to be tried in another way; a
 * negative errno. */
static int
failed(struct block_request *r)
{
	int rc = (int)r->io.result;

	if ((rc == -EAGAIN || rc == -EINTR) && r->retries++ < RETRIES_MAX)
		return 1;
	if (rc != -EOPNOTSUPP)
		return rc;
	if (r->io.op == BLOCK_ZEROES && !r->by_zeroes) {
		r->by_zeroes = true;
		return 1;
	}
	/* Discarding is a wish. */
	return r->io.op == BLOCK_DISCARD ? 0 : rc;
}

int
block_end_piece(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);
	struct block_io *io = &r->io;
	bool data = io->op == BLOCK_READ || io->op == BLOCK_WRITE;
	int rc;

	if (io->result < 0) {
		rc = failed(r);
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	if (io->op == BLOCK_FLUSH)
		return 1;
	if (data) {
		/* The file has shrunk, or the backend is mad. */
		if (io->result <= 0 || (uint64_t)io->result > io->length)
			return -EIO;
		if (io->op == BLOCK_READ && r->bounce >= 0)
			copy(c, r, (size_t)io->result);
		r->done += (uint64_t)io->result;
	} else {
		r->done = r->job.range[r->at].length;
	}
	if (r->done < r->job.range[r->at].length)
		return 0;
	r->done = 0;
	r->at++;
	if (r->at < r->job.nranges)
		return 0;
	return r->sync_last ? 0 : 1;
}

void
block_release_bounce(struct block_context *c, struct block_request *r)
{
	if (r->bounce >= 0)
		c->free_bounce[c->nbounces++] = r->bounce;
	r->bounce = -1;
}
