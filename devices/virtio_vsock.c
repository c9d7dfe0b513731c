/*
 * Stream sockets between guest and host: virtio 1.2, 5.10.
 *
 * The sockets are the relay's (proto/relay.h); this process has only memory and
 * a pair of kicks.  Everything that a connection is outlives it, and every byte
 * has a position, so connections go on when the process dies:
 *
 * From the guest: the position of a packet's first byte in the connection's
 * stream is noted in the in-flight log before the byte is put.  What the packet
 * did to the state is committed with the packet's number in its queue before
 * its chain is used; a packet that comes again is known by its number.
 *
 * To the guest: the packet is committed as an intent to be chain number N of
 * the queue; the queue's count of used chains tells whether it was sent (as in
 * virtio_console.c).  What was not is made anew from the state.
 *
 * A guest that keeps to its credit never waits for another connection: its
 * bytes fit into the stream.  One that does not has the connection reset.  The
 * event queue is left alone: nothing happens that the guest must know of.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "devices/vsock/vsock.h"
#include "proto/base.h"

#define RX	    0u
#define TX	    1u
#define QUEUES	    3u

#define F_STREAM    (1ull << 0)
#define CID_DEFAULT 3u
#define CID_MAX	    0xfffffffeu

enum file { MEMORY, LINK };

enum counter {
	OPENED,
	CLOSED,
	PACKETS_IN,
	PACKETS_OUT,
	BAD_PACKETS,
	RESETS_SENT,
	OVER_CREDIT,
};

/* What was to go out as chain number `chain`. */
struct intent {
	uint64_t epoch; /* of the queue */
	uint64_t chain;
	struct vsock_packet packet;
	uint32_t open;
};

struct state {
	struct virtio_state virtio;
	struct vsock vsock;
	struct intent intent;
	/* Chains of the transmit queue that are carried out, in that epoch. */
	uint64_t packets_done, packets_epoch;
};

struct context {
	struct virtio_context virtio;
	struct relay *relay;
	bool gone; /* the relay is */
	bool kick; /* it has something to see */
	unsigned next_slot; /* whose turn it is to send */
	struct iovec iov[VQ_SEGMENTS_MAX];
};

/* Tells the lives of a queue apart. */
static uint64_t
epoch(struct device *dev, unsigned queue)
{
	struct state *s = device_state(dev);

	return s->virtio.queue_epoch[queue];
}

/* ---- from the guest ---- */

/* Put a packet's bytes at their position. */
static void
put(struct context *ctx, struct stream *to, const struct vq_chain *c,
    uint32_t len, uint64_t pos)
{
	unsigned n = vq_slice(c, false, sizeof(struct vsock_header), len,
	    ctx->iov, VQ_SEGMENTS_MAX);
	uint64_t head, last;

	ctx->kick = true;
	for (unsigned i = 0; i < n; i++) {
		size_t size = ctx->iov[i].iov_len;

		head = stream_head(to);
		do {
			last = head;
			/* An impossible tail is seen by the next scan. */
			if (head >= pos + size ||
			    stream_put(
				to, pos, ctx->iov[i].iov_base, size, &head) < 0)
				break;
		} while (head != last);
		pos += size;
		if (stream_head(to) < pos)
			return;
	}
}

static void
take_data(struct device *dev, struct vq *q, const struct vq_chain *c,
    const struct vsock_header *h)
{
	struct state *s = device_state(dev);
	struct context *ctx = device_context(dev);
	int slot = vsock_find(&s->vsock, h->src_port, h->dst_port);
	struct stream *to;
	uint64_t pos;

	if (slot < 0) {
		(void)vsock_refuse(&s->vsock, h);
		return;
	}
	to = &ctx->relay->slot[slot].to_host;
	/* The cookie is the position + 1; 0: it was not noted yet. */
	pos = stream_head(to);
	if (c->cookie > 0)
		pos = MIN(pos, c->cookie - 1);
	else
		vq_note(q, c, pos + 1);
	if (vsock_may_send(&s->vsock, ctx->relay, slot, h, pos)) {
		put(ctx, to, c, h->len, pos);
		device_count_request(dev, 0, h->len, 0);
	} else if (s->vsock.conn[slot].phase != VSOCK_CLOSING) {
		device_count(dev, OVER_CREDIT, 1);
		vsock_abort(&s->vsock, slot);
	}
}

static void
take_packet(struct device *dev, struct vq *q, const struct vq_chain *c)
{
	struct state *s = device_state(dev);
	struct context *ctx = device_context(dev);
	struct vsock_header h;

	device_count(dev, PACKETS_IN, 1);
	if (vq_read(c, 0, &h, sizeof(h)) != sizeof(h) ||
	    h.len > c->out_bytes - sizeof(h) || h.src_cid != s->vsock.cid ||
	    h.dst_cid != VSOCK_CID_HOST) {
		device_count(dev, BAD_PACKETS, 1);
	} else if (h.type != VSOCK_STREAM || h.op == VSOCK_INVALID ||
	    h.op > VSOCK_CREDIT_REQUEST) {
		device_count(dev, BAD_PACKETS, 1);
		(void)vsock_refuse(&s->vsock, &h);
	} else if (h.op == VSOCK_RW) {
		take_data(dev, q, c, &h);
	} else {
		vsock_receive(&s->vsock, ctx->relay, &h, device_now(dev));
	}
}

static void
take_packets(struct device *dev)
{
	struct state *s = device_state(dev);
	struct vq *q = virtio_queue(dev, TX);
	struct vq_chain c;

	/* Each may need room for a reset, so the guest must take those. */
	while (virtio_live(dev) && q && s->vsock.nresets < VSOCK_RESETS &&
	    virtio_pop(dev, TX, &c)) {
		/* Chains are used in order: this one's number is their count.
		 */
		if (s->packets_epoch != epoch(dev, TX))
			s->packets_done = 0;
		s->packets_epoch = epoch(dev, TX);
		if (q->nused >= s->packets_done) {
			take_packet(dev, q, &c);
			s->packets_done = q->nused + 1;
			device_commit(dev);
			s = device_state(dev);
		}
		virtio_push(dev, TX, &c, 0);
	}
}

/* ---- to the guest ---- */

static void
sent(struct device *dev, const struct vsock_packet *p)
{
	struct state *s = device_state(dev);

	device_count(dev, PACKETS_OUT, 1);
	if (p->op == VSOCK_RST)
		device_count(dev, RESETS_SENT, 1);
	vsock_sent(&s->vsock, p, device_now(dev));
	s->intent.open = 0;
}

static void
settle_intent(struct device *dev)
{
	struct state *s = device_state(dev);
	struct vq *q = virtio_queue(dev, RX);

	if (!q || !s->intent.open)
		return;
	if (s->intent.epoch == epoch(dev, RX) && q->nused > s->intent.chain)
		sent(dev, &s->intent.packet);
	s->intent.open = 0;
}

/* Fill the chain; bytes written, 0: it is too small. */
static uint32_t
fill(struct device *dev, const struct vq_chain *c, struct vsock_packet *p)
{
	struct state *s = device_state(dev);
	struct context *ctx = device_context(dev);
	struct vsock_header h;
	uint64_t pos;
	uint32_t room;
	unsigned n;

	if (c->in_bytes < sizeof(h))
		return 0;
	room = c->in_bytes - (uint32_t)sizeof(h);
	p->len = MIN(p->len, room);
	if (p->op == VSOCK_RW && p->len == 0)
		return 0;
	vsock_header_fill(&s->vsock, ctx->relay, p, &h);
	vq_write(c, 0, &h, sizeof(h));
	if (p->op != VSOCK_RW)
		return sizeof(h);
	pos = s->vsock.conn[p->slot].in_pos;
	n = vq_slice(c, true, sizeof(h), p->len, ctx->iov, VQ_SEGMENTS_MAX);
	for (unsigned i = 0; i < n; i++) {
		/* They are there: vsock_next() has seen them. */
		(void)stream_peek(&ctx->relay->slot[p->slot].to_guest, pos,
		    ctx->iov[i].iov_base, ctx->iov[i].iov_len);
		pos += ctx->iov[i].iov_len;
	}
	device_count_request(dev, p->len, 0, 0);
	return (uint32_t)sizeof(h) + p->len;
}

static void
send_packets(struct device *dev)
{
	struct state *s = device_state(dev);
	struct context *ctx = device_context(dev);
	struct vq *q = virtio_queue(dev, RX);
	struct vsock_packet p;
	struct vq_chain c;
	uint32_t n;

	while (virtio_live(dev) && q &&
	    vsock_next(&s->vsock, ctx->relay, ctx->next_slot, &p) &&
	    virtio_pop(dev, RX, &c)) {
		n = fill(dev, &c, &p);
		if (n == 0) {
			device_count(dev, BAD_PACKETS, 1);
			virtio_push(dev, RX, &c, 0);
			continue;
		}
		s->intent.epoch = epoch(dev, RX);
		s->intent.chain = q->nused;
		s->intent.packet = p;
		s->intent.open = 1;
		device_commit(dev);
		s = device_state(dev);
		virtio_push(dev, RX, &c, n);
		sent(dev, &p);
		ctx->next_slot = p.slot + 1;
	}
}

static unsigned
connections(const struct vsock *v)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		n += v->conn[i].phase == VSOCK_OPEN;
	return n;
}

/* All there is to do. */
static void
run(struct device *dev)
{
	struct state *s = device_state(dev);
	struct context *ctx = device_context(dev);
	unsigned before = connections(&s->vsock), after;
	bool full;

	if (!ctx->relay)
		return;
	settle_intent(dev);
	do {
		take_packets(dev);
		s = device_state(dev);
		full = s->vsock.nresets == VSOCK_RESETS;
		vsock_scan(&s->vsock, ctx->relay,
		    virtio_live(dev) && virtio_queue(dev, RX), ctx->gone,
		    device_now(dev));
		send_packets(dev);
		s = device_state(dev);
	} while (full && s->vsock.nresets < VSOCK_RESETS);
	after = connections(&s->vsock);
	if (after > before)
		device_count(dev, OPENED, after - before);
	else
		device_count(dev, CLOSED, before - after);
}

/* ---- the class ---- */

/* Without these the relay could shrink the memory under us: SIGBUS. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

static void
kick_relay(struct device *dev)
{
	uint8_t byte = 0;
	struct iovec v = { &byte, 1 };
	const struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	/* A full link wakes it as well; that it is gone ready() will see.  Not
	 * write(): no signal, please. */
	(void)!sendmsg(device_file(dev, LINK), &m, MSG_NOSIGNAL);
}

static int
vsock_start(struct device *dev, bool fresh UNUSED)
{
	struct context *ctx = device_context(dev);
	int fd = device_file(dev, MEMORY);
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (seals < 0 || (seals & SEALS) != SEALS ||
	    st.st_size < (off_t)RELAY_SIZE)
		return -EINVAL;
	p = mmap(NULL, RELAY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	ctx->relay = p;
	/* A former life may have died between a change and its kick; also when
	 * it had disarmed the relay for it. */
	kick_relay(dev);
	ctx->kick = true;
	wake_arm(&ctx->relay->device_armed);
	return device_watch(dev, device_file(dev, LINK), EPOLLIN);
}

static void
vsock_queue(struct device *dev, unsigned index)
{
	if (index == RX || index == TX)
		run(dev);
}

static void
vsock_ready(struct device *dev, int fd, uint32_t events UNUSED)
{
	struct context *ctx = device_context(dev);
	uint8_t kicks[64];
	ssize_t n = read(fd, kicks, sizeof(kicks));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		ctx->gone = true;
		device_watch(dev, fd, 0);
		device_log_line(dev, "the relay of the sockets is gone");
	}
	/* Arm, then look: pairs with the relay's wake_needed(). */
	wake_arm(&ctx->relay->device_armed);
	run(dev);
}

static void
vsock_quiesce(struct device *dev, unsigned index)
{
	if (index == RX)
		settle_intent(dev);
}

static uint64_t
deadline(struct device *dev)
{
	struct state *s = device_state(dev);

	return vsock_deadline(&s->vsock);
}

static void
timer(struct device *dev, uint64_t now_ns)
{
	struct state *s = device_state(dev);

	vsock_timeout(&s->vsock, now_ns);
	run(dev);
}

static void
reset(struct device *dev)
{
	struct state *s = device_state(dev);

	s->vsock.cid = CID_DEFAULT;
}

static void
driver_reset(struct device *dev)
{
	struct state *s = device_state(dev);

	vsock_drop_all(&s->vsock);
	s->intent.open = 0;
}

static bool
valid(const void *state)
{
	const struct state *s = state;

	return vsock_valid(&s->vsock) && s->intent.open <= 1 &&
	    s->intent.packet.slot <= RELAY_SLOTS &&
	    s->intent.packet.op <= VSOCK_CREDIT_REQUEST &&
	    (s->intent.packet.slot < RELAY_SLOTS || !s->intent.open ||
		s->vsock.nresets > 0);
}

static int
configure(struct device *dev, const char *key, const char *val)
{
	struct state *s = device_state(dev);
	unsigned long long cid;
	char *end;

	if (strcmp(key, "cid") != 0)
		return -ENOENT;
	errno = 0;
	cid = strtoull(val, &end, 10);
	if (val[0] < '0' || val[0] > '9' || *end != '\0' || errno ||
	    cid <= VSOCK_CID_HOST || cid > CID_MAX)
		return -EINVAL;
	s->vsock.cid = cid;
	return 0;
}

static void
config_read(struct device *dev, void *config)
{
	const struct state *s = device_state(dev);

	memcpy(config, &s->vsock.cid, sizeof(s->vsock.cid));
}

static void
settle(struct device *dev)
{
	const struct state *s = device_state(dev);
	struct context *ctx = device_context(dev);

	/* Before start() there is nothing to tell it with; it is called again.
	 */
	if (!ctx->relay)
		return;
	if (vsock_settle(&s->vsock, ctx->relay))
		ctx->kick = true;
	if (ctx->kick && wake_needed(&ctx->relay->relay_armed))
		kick_relay(dev);
	ctx->kick = false;
}

static const struct virtio_class class = {
	.id = 19,
	.pci_class = 0x078000, /* communication controller, other */
	.queues = QUEUES,
	.features = F_STREAM,
	.config_size = sizeof(uint64_t),
	.in_order = true,
	.reset = reset,
	.valid = valid,
	.configure = configure,
	.config_read = config_read,
	.driver_reset = driver_reset,
	.start = vsock_start,
	.queue = vsock_queue,
	.quiesce = vsock_quiesce,
	.ready = vsock_ready,
	.deadline = deadline,
	.timer = timer,
	.settle = settle,
};

static const char *const files[] = { "relay", "relay-link" };
static const char *const counters[] = { "opened", "closed", "packets_in",
	"packets_out", "bad_packets", "resets_sent", "over_credit" };
static const struct device_option options[] = {
	VIRTIO_OPTIONS,
	{ "cid", "context identifier of the guest, 3 or more (3)" },
};

static const struct device_type virtio_vsock = {
	VIRTIO_DEVICE_TYPE(class, QUEUES, struct state, struct context),
	.name = "virtio-vsock",
	.title = "virtio stream sockets between guest and host",
	.state_version = 1,
	.log_size = VIRTIO_LOG_SIZE(QUEUES),
	.files = files,
	.nfiles = ARRAY_LEN(files),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.options = options,
	.noptions = ARRAY_LEN(options),
};
DEVTYPE_REGISTER(virtio_vsock);
