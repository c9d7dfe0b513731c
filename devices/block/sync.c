/* A disk in a file, by plain system calls. */
#include "devices/block/sync.h"

#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"

static struct sync *
from(struct block_backend *b)
{
	return (struct sync *)((char *)b - offsetof(struct sync, backend));
}

static int64_t
transfer(int fd, const struct block_io *io)
{
	ssize_t n;

	do {
		if (io->op == BLOCK_READ)
			n = preadv2(
			    fd, io->iov, (int)io->niov, (off_t)io->offset, 0);
		else
			n = pwritev2(fd, io->iov, (int)io->niov,
			    (off_t)io->offset,
			    io->flags & BLOCK_IO_DURABLE ? RWF_DSYNC : 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void
submit(struct block_backend *b, struct block_io *io)
{
	struct sync *s = from(b);

	switch (io->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		io->result = transfer(s->fd, io);
		break;
	case BLOCK_FLUSH:
		io->result = fdatasync(s->fd) < 0 ? -errno : 0;
		break;
	case BLOCK_DISCARD:
	case BLOCK_ZEROES:
		io->result = -EOPNOTSUPP;
		break;
	}
	io->next = NULL;
	*s->last = io;
	s->last = &io->next;
	b->in_flight++;
}

static void
kick(struct block_backend *b UNUSED)
{
}

static bool
pending(const struct block_backend *b)
{
	return b->in_flight > 0;
}

static struct block_io *
reap(struct block_backend *b)
{
	struct sync *s = from(b);
	struct block_io *io = s->first;

	if (!io)
		return NULL;
	s->first = io->next;
	if (!s->first)
		s->last = &s->first;
	b->in_flight--;
	return io;
}

static int
wait_one(struct block_backend *b UNUSED)
{
	return 0;
}

static bool
ready(struct block_backend *b UNUSED, int fd UNUSED, uint32_t events UNUSED)
{
	return false;
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
	.name = "synchronous",
	.submit = submit,
	.kick = kick,
	.pending = pending,
	.reap = reap,
	.wait = wait_one,
	.ready = ready,
	.size = size,
};

void
sync_open(struct sync *s, int fd)
{
	s->backend = (struct block_backend){ .ops = &ops };
	s->fd = fd;
	s->first = NULL;
	s->last = &s->first;
}
