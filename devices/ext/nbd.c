/* A disk on a server that speaks NBD. */
#include "devices/ext/nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devhost/device.h"
#include "proto/base.h"
#include "proto/connector.h"

#define SECOND_NS   1000000000ull
#define PAUSE_FIRST (SECOND_NS / 10)
#define PAUSE_MAX   (10 * SECOND_NS)
#define POLL_MS	    100

static struct nbd *
from(struct block_backend *b)
{
	return (struct nbd *)((char *)b - offsetof(struct nbd, backend));
}

static const struct nbd *
from_const(const struct block_backend *b)
{
	return (const struct nbd *)((const char *)b -
	    offsetof(struct nbd, backend));
}

static void
enter(struct nbd *n, enum nbd_phase phase, uint64_t lasting_ns)
{
	n->phase = phase;
	n->until_ns = lasting_ns == UINT64_MAX
	    ? UINT64_MAX
	    : device_now(n->dev) + lasting_ns;
}

static void
append(struct block_io ***end, struct block_io *io)
{
	io->next = NULL;
	**end = io;
	*end = &io->next;
}

static void
finish(struct nbd *n, struct block_io *io, int64_t result)
{
	io->result = result;
	append(&n->done_end, io);
}

/* What waits for the server does so no longer. */
static void
fail_queue(struct nbd *n, int error)
{
	struct block_io *io;

	while ((io = n->queue) != NULL) {
		n->queue = io->next;
		finish(n, io, error);
	}
	n->queue_end = &n->queue;
}

static void
free_slot(struct nbd *n, struct nbd_slot *s)
{
	free(s->memory);
	memset(s, 0, sizeof(*s));
	n->busy--;
}

/* ---- connections ---- */

static void ask(struct nbd *n);
static void look(struct nbd *n);

static void
watch(struct nbd *n, int fd, uint32_t events)
{
	if (device_watch(n->dev, fd, events) < 0)
		device_log_line(n->dev, "nbd: out of memory");
}

static void
pause_then_ask(struct nbd *n)
{
	enter(n, NBD_PAUSE, n->pause_ns);
	n->pause_ns = MIN(2 * n->pause_ns, PAUSE_MAX);
}

/* Wait for the end of the old connection, then go on. */
static void
pass_fence(struct nbd *n)
{
	int rc;

	/* It may be closed in what follows. */
	if (n->fence.behind >= 0)
		watch(n, n->fence.behind, 0);
	rc = fence_poll(&n->fence);
	if (rc == 0) {
		watch(n, n->fence.behind, EPOLLIN);
		if (n->phase != NBD_FENCE)
			enter(n, NBD_FENCE, NBD_FENCE_NS);
		return;
	}
	if (rc < 0)
		device_log_line(
		    n->dev, "nbd: the fence is broken: %s", strerror(-rc));
	if (n->connector < 0) {
		device_log_line(n->dev,
		    "nbd: the connection is lost, with no other to get");
		enter(n, NBD_LOST, UINT64_MAX);
		fail_queue(n, -EIO);
		return;
	}
	ask(n);
}

/* The connection is of no use any more: ask again what was under way. */
static void
drop(struct nbd *n, const char *why)
{
	device_log_line(n->dev, "nbd: connection lost: %s", why);
	watch(n, n->fd, 0);
	nbd_close(n->h);
	n->h = NULL;
	n->fd = -1;
	for (unsigned i = 0; i < NBD_REQUESTS_MAX; i++)
		if (n->slot[i].io) {
			append(&n->queue_end, n->slot[i].io);
			free_slot(n, &n->slot[i]);
		}
	if (n->lost_ns == 0)
		n->lost_ns = device_now(n->dev);
	if (n->phase == NBD_READY)
		n->pause_ns = PAUSE_FIRST;
	else
		n->phase = NBD_READY; /* a new wait, if there is one */
	pass_fence(n);
}

static void
rewatch(struct nbd *n)
{
	unsigned d = nbd_aio_get_direction(n->h);

	watch(n, n->fd,
	    (d & LIBNBD_AIO_DIRECTION_READ ? (uint32_t)EPOLLIN : 0) |
		(d & LIBNBD_AIO_DIRECTION_WRITE ? (uint32_t)EPOLLOUT : 0));
}

/* Begin to negotiate; fd is taken.  0 or a negative errno. */
static int
greet(struct nbd *n, int fd)
{
	n->h = nbd_create();
	if (!n->h) {
		close(fd);
		return -ENOMEM;
	}
	if (nbd_set_export_name(n->h, n->options.export) < 0 ||
	    nbd_set_tls(n->h, LIBNBD_TLS_DISABLE) < 0 ||
	    nbd_aio_connect_socket(n->h, fd) < 0) {
		const char *why = nbd_get_error();

		device_log_line(n->dev, "nbd: %s", why ? why : "no memory");
		nbd_close(n->h);
		n->h = NULL;
		return -ENOTCONN;
	}
	n->fd = fd;
	enter(n, NBD_GREET, NBD_GREET_NS);
	return 0;
}

/* What the server has told of itself; NULL, or why we cannot use it. */
static const char *
inspect(struct nbd *n)
{
	int64_t size = nbd_get_size(n->h), least;

	if (size < 0 || (n->size > 0 && size < n->size))
		return "the server's disk has shrunk";
	least = nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM);
	if (least > (int64_t)n->options.block_size)
		return "the server wants larger blocks: set block-size=4096";
	n->size = size;
	n->can_flush = nbd_can_flush(n->h) == 1;
	n->can_fua = nbd_can_fua(n->h) == 1;
	n->can_trim = nbd_can_trim(n->h) == 1;
	n->can_zero = nbd_can_zero(n->h) == 1;
	n->read_only = nbd_is_read_only(n->h) == 1;
	return NULL;
}

static void
become_ready(struct nbd *n)
{
	const char *why = inspect(n);
	int rc;

	if (why) {
		drop(n, why);
		return;
	}
	rc = n->fence.mailbox >= 0 ? fence_leave(&n->fence, n->fd) : 0;
	if (rc < 0) {
		drop(n, strerror(-rc));
		return;
	}
	if (n->lost_ns != 0)
		device_log_line(n->dev, "nbd: connected again");
	n->lost_ns = 0;
	n->pause_ns = PAUSE_FIRST;
	enter(n, NBD_READY, UINT64_MAX);
}

/* Ask the connector for a connection. */
static void
ask(struct nbd *n)
{
	int r = connector_ask(n->connector, ++n->cookie);

	if (r < 0) {
		device_log_line(n->dev, "nbd: the connector: %s", strerror(-r));
		pause_then_ask(n);
		return;
	}
	enter(n, NBD_ASKED, UINT64_MAX);
	watch(n, n->connector, EPOLLIN);
}

/* The connector has answered, perhaps a request of a dead process. */
static void
hear_connector(struct nbd *n)
{
	struct connector_answer a;
	int fd, r = connector_hear(n->connector, &a, &fd);

	if (r == -EAGAIN)
		return;
	if (r == 1 && (a.cookie != n->cookie || n->phase != NBD_ASKED)) {
		if (fd >= 0)
			close(fd);
		return;
	}
	watch(n, n->connector, 0);
	if (r == 1 && fd >= 0 && a.error == 0) {
		/* A quick server may have said all of it already. */
		if (greet(n, fd) == 0)
			look(n);
		else
			pause_then_ask(n);
		return;
	}
	if (fd >= 0)
		close(fd);
	if (r == 1) {
		device_log_line(n->dev, "nbd: no connection: %s",
		    strerror(a.error > 0 ? a.error : EPROTO));
		pause_then_ask(n);
		return;
	}
	device_log_line(n->dev, "nbd: the connector is gone");
	n->connector = -1;
	pass_fence(n);
}

/* ---- requests ---- */

static int
on_end(void *user, int *error)
{
	struct nbd_slot *s = user;

	s->error = *error;
	s->ended = true;
	return 1; /* nobody will ask libnbd for it */
}

/* Is the connection over, by the server's closing or its nonsense? */
static bool
is_over(struct nbd *n)
{
	return nbd_aio_is_dead(n->h) || nbd_aio_is_closed(n->h);
}

static void
copy(const struct nbd_slot *s, bool to_guest)
{
	size_t left = s->length, at = 0;

	for (unsigned i = 0; i < s->io->niov && left > 0; i++) {
		size_t part = MIN(left, s->io->iov[i].iov_len);

		if (to_guest)
			memcpy(s->io->iov[i].iov_base, s->memory + at, part);
		else
			memcpy(s->memory + at, s->io->iov[i].iov_base, part);
		at += part;
		left -= part;
	}
}

/* Where the data of a read or write is, in one piece; NULL: no memory. */
static uint8_t *
contiguous(struct nbd_slot *s)
{
	struct block_io *io = s->io;

	s->length = (uint32_t)MIN(io->length, NBD_PIECE_MAX);
	if (io->iov[0].iov_len >= s->length)
		return io->iov[0].iov_base;
	s->memory = malloc(s->length);
	if (s->memory && io->op == BLOCK_WRITE)
		copy(s, false);
	return s->memory;
}

/* Ask the server; the cookie, -1 for a refusal of libnbd's. */
static int64_t
send_slot(struct nbd *n, struct nbd_slot *s)
{
	nbd_completion_callback end = { .callback = on_end, .user_data = s };
	struct block_io *io = s->io;
	uint8_t *data;

	if (s->flushing || io->op == BLOCK_FLUSH)
		return nbd_aio_flush(n->h, end, 0);
	if (io->op == BLOCK_DISCARD)
		return nbd_aio_trim(n->h, io->length, io->offset, end, 0);
	if (io->op == BLOCK_ZEROES)
		return nbd_aio_zero(n->h, io->length, io->offset, end,
		    io->flags & BLOCK_IO_UNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
	data = contiguous(s);
	if (!data)
		return -1;
	if (io->op == BLOCK_READ)
		return nbd_aio_pread(n->h, data, s->length, io->offset, end, 0);
	return nbd_aio_pwrite(n->h, data, s->length, io->offset, end,
	    (io->flags & BLOCK_IO_DURABLE) && n->can_fua ? LIBNBD_CMD_FLAG_FUA
							 : 0);
}

/* What need not or cannot be asked: 0 or a negative errno; 1: it can. */
static int
is_for_server(const struct nbd *n, const struct block_io *io)
{
	switch (io->op) {
	case BLOCK_FLUSH:
		return n->can_flush;
	case BLOCK_DISCARD:
		return n->can_trim ? 1 : -EOPNOTSUPP;
	case BLOCK_ZEROES:
		return n->can_zero ? 1 : -EOPNOTSUPP;
	case BLOCK_WRITE:
		return n->read_only ? -EROFS : 1;
	case BLOCK_READ:
	default:
		return 1;
	}
}

static void
issue(struct nbd *n)
{
	struct nbd_slot *s = n->slot;
	struct block_io *io;
	int rc;

	while (n->phase == NBD_READY && n->busy < NBD_REQUESTS_MAX &&
	    (io = n->queue) != NULL) {
		n->queue = io->next;
		if (!n->queue)
			n->queue_end = &n->queue;
		rc = is_for_server(n, io);
		if (rc <= 0) {
			finish(n, io, rc);
			continue;
		}
		while (s->io)
			s++;
		s->io = io;
		s->sent_ns = device_now(n->dev);
		n->busy++;
		if (send_slot(n, s) < 0 && !is_over(n)) {
			rc = nbd_get_errno();
			free_slot(n, s);
			finish(n, io, rc > 0 ? -rc : -EIO);
		}
	}
}

/* One that the server has ended. */
static void
collect_slot(struct nbd *n, struct nbd_slot *s)
{
	struct block_io *io = s->io;
	int64_t result = 0;

	s->ended = false;
	if (s->error != 0) {
		result = -s->error;
	} else if (io->op == BLOCK_READ || io->op == BLOCK_WRITE) {
		if (io->op == BLOCK_READ && s->memory)
			copy(s, true);
		result = s->length;
		if (io->op == BLOCK_WRITE && (io->flags & BLOCK_IO_DURABLE) &&
		    !n->can_fua && n->can_flush && !s->flushing) {
			s->flushing = true;
			if (send_slot(n, s) >= 0)
				return;
			result = -EIO;
		}
	}
	free_slot(n, s);
	finish(n, io, result);
}

static void
collect(struct nbd *n)
{
	for (unsigned i = 0; i < NBD_REQUESTS_MAX; i++)
		/* An error of a dead connection is not the server's answer. */
		if (n->slot[i].io && n->slot[i].ended &&
		    (n->slot[i].error == 0 || !is_over(n)))
			collect_slot(n, &n->slot[i]);
}

/* After anything that libnbd did. */
static void
look(struct nbd *n)
{
	if (!n->h)
		return;
	if (n->phase == NBD_GREET && nbd_aio_is_ready(n->h))
		become_ready(n);
	if (!n->h)
		return;
	collect(n);
	issue(n);
	if (is_over(n)) {
		const char *why =
		    nbd_aio_is_dead(n->h) ? nbd_get_error() : NULL;

		drop(n, why ? why : "closed by the server");
		return;
	}
	rewatch(n);
}

static void
notify(struct nbd *n, uint32_t events)
{
	if ((events & EPOLLIN) &&
	    (nbd_aio_get_direction(n->h) & LIBNBD_AIO_DIRECTION_READ))
		nbd_aio_notify_read(n->h);
	if ((events & EPOLLOUT) &&
	    (nbd_aio_get_direction(n->h) & LIBNBD_AIO_DIRECTION_WRITE))
		nbd_aio_notify_write(n->h);
	look(n);
}

/* ---- the backend ---- */

static void
submit(struct block_backend *b, struct block_io *io)
{
	struct nbd *n = from(b);

	b->in_flight++;
	append(&n->queue_end, io);
}

static bool
has_given_up(const struct nbd *n, uint64_t now_ns)
{
	if (n->phase == NBD_LOST)
		return true;
	return n->lost_ns != 0 && n->options.loss_timeout_s != 0 &&
	    now_ns >= n->lost_ns + n->options.loss_timeout_s * SECOND_NS;
}

static void
kick(struct block_backend *b)
{
	struct nbd *n = from(b);

	if (n->queue && has_given_up(n, device_now(n->dev)))
		fail_queue(n, -EIO);
	if (n->phase == NBD_READY && n->queue)
		look(n);
}

static bool
pending(const struct block_backend *b)
{
	return from_const(b)->done != NULL;
}

static struct block_io *
reap(struct block_backend *b)
{
	struct nbd *n = from(b);
	struct block_io *io = n->done;

	if (!io)
		return NULL;
	n->done = io->next;
	if (!n->done)
		n->done_end = &n->done;
	b->in_flight--;
	return io;
}

static int
wait_one(struct block_backend *b)
{
	struct nbd *n = from(b);
	uint64_t end = device_now(n->dev) + NBD_FENCE_NS;

	kick(b);
	while (!n->done && n->phase == NBD_READY && device_now(n->dev) < end) {
		if (nbd_poll(n->h, POLL_MS) < 0 && !is_over(n))
			break;
		look(n);
	}
	if (n->done)
		return 0;
	if (n->phase == NBD_READY)
		drop(n, "the driver has reset the device");
	fail_queue(n, -EIO);
	return -EIO;
}

static bool
ready(struct block_backend *b, int fd, uint32_t events)
{
	struct nbd *n = from(b);

	if (n->h && fd == n->fd)
		notify(n, events);
	else if (fd == n->connector)
		hear_connector(n);
	else if (n->phase == NBD_FENCE && fd == n->fence.behind)
		pass_fence(n);
	else
		return false;
	return true;
}

static uint64_t
oldest_ns(const struct nbd *n)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < NBD_REQUESTS_MAX; i++)
		if (n->slot[i].io)
			oldest = MIN(oldest, n->slot[i].sent_ns);
	return oldest;
}

static uint64_t
deadline(const struct block_backend *b)
{
	const struct nbd *n = from_const(b);
	uint64_t when = n->until_ns;

	if (n->busy > 0 && n->options.request_timeout_s != 0)
		when = MIN(when,
		    oldest_ns(n) + n->options.request_timeout_s * SECOND_NS);
	if (n->queue && n->lost_ns != 0 && n->options.loss_timeout_s != 0)
		when = MIN(
		    when, n->lost_ns + n->options.loss_timeout_s * SECOND_NS);
	return when;
}

static void
timer(struct block_backend *b, uint64_t now_ns)
{
	struct nbd *n = from(b);

	if (n->queue && has_given_up(n, now_ns))
		fail_queue(n, -EIO);
	if (n->busy > 0 && n->options.request_timeout_s != 0 &&
	    now_ns >= oldest_ns(n) + n->options.request_timeout_s * SECOND_NS) {
		drop(n, "no answer in time");
		return;
	}
	if (now_ns < n->until_ns)
		return;
	if (n->phase == NBD_GREET) {
		drop(n, "no greeting in time");
	} else if (n->phase == NBD_PAUSE) {
		ask(n);
	} else if (n->phase == NBD_FENCE) {
		int behind = n->fence.behind;

		device_log_line(
		    n->dev, "nbd: the server keeps the old connection open");
		watch(n, behind, 0);
		fence_give_up(&n->fence);
		enter(n, NBD_PAUSE, 0);
	}
}

static int64_t
size(struct block_backend *b)
{
	return from(b)->size;
}

static const struct block_backend_ops ops = {
	.name = "NBD",
	.submit = submit,
	.kick = kick,
	.pending = pending,
	.reap = reap,
	.wait = wait_one,
	.ready = ready,
	.deadline = deadline,
	.timer = timer,
	.size = size,
};

void
nbd_init(struct nbd *n, struct device *dev, const struct nbd_options *options,
    int mailbox, int connector)
{
	memset(n, 0, sizeof(*n));
	n->backend.ops = &ops;
	n->dev = dev;
	n->options = *options;
	n->connector = connector;
	fence_open(&n->fence, mailbox, true);
	n->fd = -1;
	n->size = -ENOTCONN;
	n->pause_ns = PAUSE_FIRST;
	n->phase = NBD_LOST;
	n->until_ns = UINT64_MAX;
	n->queue_end = &n->queue;
	n->done_end = &n->done;
}

int
nbd_connect(struct nbd *n, int fd)
{
	uint64_t end = device_now(n->dev) + NBD_GREET_NS;
	const char *why;
	int copy_fd = fcntl(fd, F_DUPFD, 0), rc;

	if (copy_fd < 0)
		return -errno;
	rc = greet(n, copy_fd);
	if (rc < 0)
		return rc;
	while (nbd_aio_is_connecting(n->h) && device_now(n->dev) < end)
		if (nbd_poll(n->h, POLL_MS) < 0)
			break;
	if (!nbd_aio_is_ready(n->h)) {
		why = nbd_get_error();
		device_log_line(
		    n->dev, "nbd: %s", why ? why : "no greeting in time");
		return -ENOTCONN;
	}
	why = inspect(n);
	if (why) {
		device_log_line(n->dev, "nbd: %s", why);
		return -EINVAL;
	}
	become_ready(n);
	rewatch(n);
	return 0;
}

void
nbd_reconnect(struct nbd *n, int fd)
{
	(void)shutdown(fd, SHUT_WR);
	n->lost_ns = device_now(n->dev);
	pass_fence(n);
}
