/* The control channel. */
#include "proto/channel.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/channel_decode.h"

/*
 * What one datagram may unpack to.  The largest honest message, a create of 64
 * devices with parameters, takes a third of it; two bytes on the wire can ask
 * for a hundred in memory, so the datagram's size alone bounds nothing.
 */
#define UNPACKED_BYTES	(512u << 10)
#define UNPACKED_BLOCKS 8192u

static void *
bounded_alloc(void *data, size_t size)
{
	struct bounded_allocator *a = data;

	if (a->blocks_left == 0 || size > a->left)
		return NULL;
	a->blocks_left--;
	a->left -= size;
	return malloc(size);
}

static void
bounded_free(void *data, void *p)
{
	(void)data;
	free(p);
}

void
bounded_allocator_init(
    struct bounded_allocator *a, size_t bytes, unsigned blocks)
{
	a->base.alloc = bounded_alloc;
	a->base.free = bounded_free;
	a->base.allocator_data = a;
	a->left = bytes;
	a->blocks_left = blocks;
}

void
channel_init(struct channel *c, int fd, enum channel_role role)
{
	*c = (struct channel){ .fd = fd, .role = role, .state = CHANNEL_NEW };
}

void
channel_close(struct channel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* Roles come in pairs, the broker's end first. */
static enum channel_role
peer(enum channel_role role)
{
	return (enum channel_role)((unsigned)role ^ 1u);
}

/* The row that lets `sender` say this now, or NULL. */
static const struct conversation *
find(enum channel_role sender, enum channel_state state, int body_case,
    unsigned nfds, size_t bytes)
{
	for (unsigned i = 0; i < conversation_rows; i++) {
		const struct conversation *r = &conversation_table[i];

		if (r->body_case != body_case)
			continue;
		if ((r->senders & (1u << sender)) != 0 &&
		    (r->states & (1u << state)) != 0 && nfds >= r->min_fds &&
		    nfds <= r->max_fds && bytes <= r->max_bytes)
			return r;
		return NULL;
	}
	return NULL;
}

static void
move(struct channel *c, const struct conversation *row)
{
	if (row->next != CHANNEL_KEEP)
		c->state = row->next;
}

static int
send_datagram(int fd, void *bytes, size_t n, const int *fds, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = bytes, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;
	ssize_t sent;

	if (nfds > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		BUG_ON(cmsg == NULL);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
	}
	do
		sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

int
channel_send(struct channel *c, int body_case, void *body, const int *fds,
    unsigned nfds, uint64_t seq)
{
	Bulkhead__Envelope e = BULKHEAD__ENVELOPE__INIT;
	const struct conversation *row;
	uint8_t *bytes;
	size_t n;
	int r;

	if (c->fd < 0)
		return -EPIPE;
	e.seq = seq != 0 ? seq : c->seq + 1;
	e.body_case = (Bulkhead__Envelope__BodyCase)body_case;
	/* All members of the oneof are pointers in one union. */
	e.hello = body;
	n = bulkhead__envelope__get_packed_size(&e);
	row = find(c->role, c->state, body_case, nfds, n);
	if (row == NULL)
		return -EPROTO;
	bytes = malloc(n);
	if (bytes == NULL)
		return -ENOMEM;
	bulkhead__envelope__pack(&e, bytes);
	r = send_datagram(c->fd, bytes, n, fds, nfds);
	free(bytes);
	if (r < 0)
		return r;
	if (seq == 0)
		c->seq++;
	move(c, row);
	return 0;
}

int
channel_decode(struct channel *c, const uint8_t *bytes, size_t n, unsigned nfds,
    Bulkhead__Envelope **envelope)
{
	const struct conversation *row;
	struct bounded_allocator a;
	Bulkhead__Envelope *e;

	if (n == 0 || n > CHANNEL_BYTES_MAX)
		return -EPROTO;
	bounded_allocator_init(&a, UNPACKED_BYTES, UNPACKED_BLOCKS);
	e = bulkhead__envelope__unpack(&a.base, n, bytes);
	if (e == NULL)
		return -EPROTO;
	row = find(peer(c->role), c->state, (int)e->body_case, nfds, n);
	/* Any member of the union will do: is the body there? */
	if (row == NULL || e->hello == NULL) {
		bulkhead__envelope__free_unpacked(e, NULL);
		return -EPROTO;
	}
	move(c, row);
	*envelope = e;
	return 0;
}

static void
close_fds(struct channel_message *m)
{
	for (unsigned i = 0; i < m->nfds; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	m->nfds = 0;
}

/* Take over the fds of a datagram.  False: there was something else too. */
static bool
take_fds(struct msghdr *msg, struct channel_message *m)
{
	struct cmsghdr *cmsg;
	bool clean = true;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL;
	     cmsg = CMSG_NXTHDR(msg, cmsg)) {
		unsigned n;

		if (cmsg->cmsg_level != SOL_SOCKET ||
		    cmsg->cmsg_type != SCM_RIGHTS) {
			clean = false;
			continue;
		}
		n = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		/* The control buffer has room for no more. */
		BUG_ON(n > CHANNEL_FDS_MAX - m->nfds);
		memcpy(m->fds + m->nfds, CMSG_DATA(cmsg), n * sizeof(int));
		m->nfds += n;
	}
	return clean;
}

/* As channel_receive(), without waiting. */
static int
receive_now(struct channel *c, struct channel_message *m)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
	} control;
	/* Not on the stack, where it would be cleared and touched in full. */
	static _Thread_local uint8_t bytes[CHANNEL_BYTES_MAX];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	bool broken;
	ssize_t n;
	int r;

	m->envelope = NULL;
	m->nfds = 0;
	do
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		/* Reset: the peer died with data of ours unread. */
		if (errno == ECONNRESET || errno == ENOTCONN)
			return 0;
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	/* A datagram of no bytes and no fds cannot be told from the end. */
	broken = (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
	if (n == 0 && msg.msg_controllen == 0 && !broken)
		return 0;
	if (!take_fds(&msg, m) || broken)
		r = -EPROTO;
	else
		r = channel_decode(c, bytes, (size_t)n, m->nfds, &m->envelope);
	if (r < 0) {
		close_fds(m);
		return r;
	}
	return 1;
}

int
channel_receive(struct channel *c, struct channel_message *m, int timeout_ms)
{
	uint64_t deadline;
	int r;

	if (c->fd < 0) {
		*m = (struct channel_message){ .envelope = NULL };
		return 0;
	}
	r = receive_now(c, m);
	if (r != -EAGAIN || timeout_ms < 0)
		return r;
	deadline = time_now_ns() + (uint64_t)timeout_ms * 1000000u;
	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		uint64_t now = time_now_ns();

		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((deadline - now + 999999u) / 1000000u)) <
			0 &&
		    errno != EINTR)
			return -errno;
		r = receive_now(c, m);
		if (r != -EAGAIN)
			return r;
	}
}

void
channel_free(struct channel_message *m)
{
	close_fds(m);
	if (m->envelope != NULL)
		bulkhead__envelope__free_unpacked(m->envelope, NULL);
	m->envelope = NULL;
}
