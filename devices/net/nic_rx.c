/* virtio-net, receive: from the link into the guest's buffers. */
#include <errno.h>
#include <string.h>

#include "devices/net/nic.h"
#include "proto/base.h"

#define BATCH	    256u /* frames of one call */
#define QUEUE_SHIFT 48u
#define USED_MASK   ((1ull << QUEUE_SHIFT) - 1)

enum fate {
	DONE, /* the frame is delivered, or thrown away */
	WAIT, /* there are no buffers for it now */
};

/* ---- which frames, and where to ---- */

static bool
listed(const uint8_t (*list)[6], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (memcmp(list[i], mac, 6) == 0)
			return true;
	return false;
}

static bool
wants_address(const struct nic *s, const uint8_t *to)
{
	static const uint8_t everybody[6] = { 255, 255, 255, 255, 255, 255 };

	if (s->promiscuous)
		return true;
	if (memcmp(to, everybody, 6) == 0)
		return !s->no_broadcast;
	if (to[0] & 1)
		return !s->no_multicast &&
		    (s->all_multicast || s->many_multicast ||
			listed(s->multicast, s->nmulticast, to));
	return !s->no_unicast &&
	    (s->all_unicast || s->many_unicast || memcmp(to, s->mac, 6) == 0 ||
		listed(s->unicast, s->nunicast, to));
}

bool
nic_wants(
    const struct nic *s, const uint8_t *frame, const struct frame_layout *l)
{
	/* ID 0 is a priority and no VLAN. */
	if (l->tagged && l->vlan != 0 && !s->all_vlans &&
	    !(s->vlan[l->vlan / 64] & 1ull << l->vlan % 64))
		return false;
	return wants_address(s, frame);
}

static unsigned
queue_of(struct device *dev, const uint8_t *look, size_t n,
    const struct frame_layout *l)
{
	const struct nic *s = device_state(dev);
	const struct nic_context *c = device_context(dev);
	unsigned pair;

	if (s->pairs == 1)
		return 0;
	pair = c->steer[frame_flow(look, n, l) % NIC_STEER];
	return pair < s->pairs ? 2 * pair : 0;
}

/* ---- delivering ---- */

static void
put_back(struct device *dev, unsigned q, unsigned n)
{
	struct nic_context *c = device_context(dev);
	struct vq_chain *chain = &c->more;

	while (n-- > 0) {
		chain->id = c->id[n];
		chain->again = c->again[n];
		vq_unpop(virtio_queue(dev, q), chain);
	}
}

static size_t
fill(const struct vq_chain *chain, size_t offset, const struct iovec *iov,
    unsigned pieces, size_t from)
{
	size_t done = 0;

	for (unsigned i = 0; i < pieces; i++) {
		size_t n;

		if (from >= iov[i].iov_len) {
			from -= iov[i].iov_len;
			continue;
		}
		n = vq_write(chain, offset + done,
		    (const uint8_t *)iov[i].iov_base + from,
		    iov[i].iov_len - from);
		done += n;
		if (n < iov[i].iov_len - from)
			break;
		from = 0;
	}
	return done;
}

/*
 * Fill one buffer or, if they may be merged, several; returns how many, 0 if
 * there are too few, negative if the frame can not be delivered at all.
 */
static int
fill_buffers(struct device *dev, unsigned q, struct net_header *h,
    const struct iovec *iov, unsigned pieces, size_t n)
{
	bool merge = virtio_has(dev, NET_F_MRG_RXBUF);
	struct nic_context *c = device_context(dev);
	struct vq_chain *chain = &c->first;
	size_t done = 0;
	unsigned count = 0;

	while (count == 0 || done < n) {
		size_t header = count == 0 ? FRAME_HEADER : 0;

		if (count == VQ_SIZE_MAX ||
		    !virtio_pop(dev, q, count == 0 ? chain : &c->more)) {
			put_back(dev, q, count);
			return count == VQ_SIZE_MAX ? -EMSGSIZE : 0;
		}
		if (count > 0)
			chain = &c->more;
		c->id[count] = chain->id;
		c->again[count++] = chain->again;
		if (chain->in_bytes < header ||
		    (!merge && chain->in_bytes < header + n)) {
			put_back(dev, q, count);
			return -EMSGSIZE;
		}
		c->written[count - 1] =
		    (uint32_t)(header + fill(chain, header, iov, pieces, done));
		done += c->written[count - 1] - header;
	}
	h->num_buffers = (uint16_t)count;
	(void)vq_write(&c->first, 0, h, sizeof(*h));
	return (int)count;
}

static enum fate
deliver(struct device *dev, unsigned q, struct net_header *h,
    const struct iovec *iov, unsigned pieces, size_t n)
{
	struct nic_context *c = device_context(dev);
	struct nic_log *log = nic_log(dev);
	struct vq *vq = virtio_queue(dev, q);
	int count;

	if (vq == NULL)
		return DONE;
	count = fill_buffers(dev, q, h, iov, pieces, n);
	if (count == 0)
		return virtio_live(dev) ? WAIT : DONE;
	if (count < 0) {
		device_count(dev, NIC_RX_TOO_LONG, 1);
		return DONE;
	}
	log->frame = log->next;
	log->delivering =
	    (uint64_t)(q + 1) << QUEUE_SHIFT | (vq->nused & USED_MASK);
	vq_push_many(vq, c->id, c->written, (unsigned)count);
	device_count(dev, NIC_RX_FRAMES, 1);
	device_count(dev, NIC_RX_BYTES, n);
	device_count_request(dev, n, 0, 0);
	nic_charge(dev, NIC_RX, n);
	return DONE;
}

/* A frame that this driver cannot take as it is: finished by us. */
static enum fate
deliver_finished(struct device *dev, unsigned q, struct net_header *h,
    const uint8_t *data, size_t n, bool cut)
{
	struct nic_context *c = device_context(dev);
	struct frame_cut segments;
	struct iovec iov = { c->frame, n };
	enum fate fate = DONE;

	memcpy(c->frame, data, n);
	if (!cut) {
		frame_complete(h, c->frame, n);
		h->flags = 0;
		return deliver(dev, q, h, &iov, 1, n);
	}
	if (frame_cut_begin(&segments, h, c->frame, n) < 0) {
		device_count(dev, NIC_RX_MALFORMED, 1);
		return DONE;
	}
	iov.iov_base = c->segment;
	while ((n = frame_cut_next(&segments, c->segment)) > 0) {
		struct net_header plain = { 0 };

		iov.iov_len = n;
		fate = deliver(dev, q, &plain, &iov, 1, n);
		/* What has no buffer is lost, as on a wire; but nothing is
		 * lost of a frame that is still whole. */
		if (fate == WAIT)
			return segments.count > 1 ? DONE : WAIT;
	}
	return DONE;
}

static bool
must_cut(const struct nic *s, const struct net_header *h)
{
	unsigned gso = h->gso_type & ~NET_GSO_ECN;

	return (gso == NET_GSO_TCPV4 && !(s->offloads & NET_F_GUEST_TSO4)) ||
	    (gso == NET_GSO_TCPV6 && !(s->offloads & NET_F_GUEST_TSO6)) ||
	    ((h->gso_type & NET_GSO_ECN) && !(s->offloads & NET_F_GUEST_ECN));
}

/* data: the slot, which the peer may be writing. */
static enum fate
receive_one(struct device *dev, const uint8_t *data, size_t n)
{
	const struct nic *s = device_state(dev);
	uint8_t look[FRAME_HEADER + FRAME_LOOK];
	size_t looked = MIN(n, sizeof(look));
	struct iovec iov[2] = {
		{ look + FRAME_HEADER, looked - FRAME_HEADER },
		{ NULL, n - looked },
	};
	struct frame_layout l;
	struct net_header h;
	bool cut;
	unsigned q;

	memcpy(look, data, looked);
	memcpy(&h, look, sizeof(h));
	n -= FRAME_HEADER;
	looked -= FRAME_HEADER;
	if (frame_check(&h, n, 1u << NET_GSO_TCPV4 | 1u << NET_GSO_TCPV6) < 0) {
		device_count(dev, NIC_RX_MALFORMED, 1);
		return DONE;
	}
	h.flags &= NET_NEEDS_CSUM | NET_DATA_VALID;
	frame_parse(look + FRAME_HEADER, looked, &l);
	if (!nic_wants(s, look + FRAME_HEADER, &l)) {
		device_count(dev, NIC_RX_FILTERED, 1);
		return DONE;
	}
	q = queue_of(dev, look + FRAME_HEADER, looked, &l);
	cut = must_cut(s, &h);
	data += FRAME_HEADER;
	if (cut ||
	    ((h.flags & NET_NEEDS_CSUM) && !(s->offloads & NET_F_GUEST_CSUM)))
		return deliver_finished(dev, q, &h, data, n, cut);
	if (!(s->offloads & NET_F_GUEST_CSUM))
		h.flags = 0;
	/* iovec has no const; fill() only reads. */
	memcpy(&iov[1].iov_base, &(const uint8_t *){ data + looked },
	    sizeof(void *));
	return deliver(dev, q, &h, iov, iov[1].iov_len ? 2 : 1, n);
}

/* ---- the position ---- */

static void
advance(struct nic_log *log, uint64_t next)
{
	log->next = next;
	log->delivering = 0;
}

/* Was the frame that the dead process was at delivered? */
static void
take_up(struct device *dev, struct packet_ring *r)
{
	struct nic_context *c = device_context(dev);
	struct nic_log *log = nic_log(dev);
	uint64_t word = log->delivering;
	unsigned q = (unsigned)(word >> QUEUE_SHIFT) - 1;
	struct vq *vq;

	c->resumed = true;
	if (word != 0 && log->frame == log->next && q < NIC_QUEUES_MAX) {
		vq = virtio_queue(dev, q);
		if (vq == NULL || (vq->nused & USED_MASK) != (word & USED_MASK))
			log->next++;
	}
	advance(log, packet_resume(r, log->next));
}

/* Nobody is there to receive: as on a cable. */
static void
throw_away(struct device *dev, struct packet_ring *r)
{
	struct nic_log *log = nic_log(dev);
	int n = packet_available(r, log->next);

	if (n <= 0)
		return;
	device_count(dev, NIC_RX_UNREADY, (uint64_t)n);
	advance(log, log->next + (uint64_t)n);
}

static void
receive(struct device *dev, struct packet_ring *r)
{
	struct nic_context *c = device_context(dev);
	struct nic_log *log = nic_log(dev);

	for (unsigned i = 0; i < BATCH; i++) {
		const uint8_t *data;
		ssize_t n = packet_peek(r, log->next, &data);

		if (n == -EAGAIN)
			return;
		if (n == -EPROTO) {
			device_count(dev, NIC_PEER_BROKEN, 1);
			c->rx_blocked = true;
			return;
		}
		if (n < 0)
			device_count(dev, NIC_RX_MALFORMED, 1);
		else if (!nic_allowed(dev, NIC_RX) ||
		    receive_one(dev, data, (size_t)n) == WAIT) {
			c->rx_blocked = true;
			return;
		}
		advance(log, log->next + 1);
	}
}

void
nic_receive(struct device *dev)
{
	struct packet_ring *r = device_link_rx(dev, NIC_LINK);
	struct nic_context *c = device_context(dev);

	if (r == NULL)
		return;
	if (!c->resumed)
		take_up(dev, r);
	c->rx_blocked = false;
	if (virtio_live(dev) && nic_is_up(dev))
		receive(dev, r);
	else
		throw_away(dev, r);
	packet_release(r, nic_log(dev)->next);
	device_link_kick(dev, NIC_LINK);
}
