/* virtio-net, transmit: from the guest's chains into the link. */
#include <string.h>

#include "devices/net/nic.h"
#include "proto/base.h"

#define BATCH 256u /* chains of one call */

static unsigned
gso_negotiated(struct device *dev)
{
	unsigned allowed = 0;

	if (virtio_has(dev, NET_F_HOST_TSO4))
		allowed |= 1u << NET_GSO_TCPV4;
	if (virtio_has(dev, NET_F_HOST_TSO6))
		allowed |= 1u << NET_GSO_TCPV6;
	return allowed;
}

static bool
header_is_sound(struct device *dev, struct net_header *h, size_t n)
{
	if (frame_check(h, n, gso_negotiated(dev)) < 0)
		return false;
	if ((h->flags & NET_NEEDS_CSUM) && !virtio_has(dev, NET_F_CSUM))
		return false;
	if ((h->gso_type & NET_GSO_ECN) && !virtio_has(dev, NET_F_HOST_ECN))
		return false;
	h->flags &= NET_NEEDS_CSUM;
	h->num_buffers = 0;
	return true;
}

/* What comes back over this flow goes to the queue pair that sends it. */
static void
remember_flow(struct device *dev, unsigned q, const uint8_t *look, size_t n)
{
	const struct nic *s = device_state(dev);
	struct nic_context *c = device_context(dev);
	struct frame_layout l;

	if (s->pairs == 1)
		return;
	frame_parse(look, n, &l);
	c->steer[frame_flow(look, n, &l) % NIC_STEER] = (uint8_t)(q / 2);
}

/* Put the frame of a chain into the link: false: there is no space. */
static bool
put(struct device *dev, unsigned q, const struct vq_chain *chain)
{
	struct packet_ring *r = device_link_tx(dev, NIC_LINK);
	struct nic_context *c = device_context(dev);
	uint64_t head = packet_head(r);
	uint8_t look[FRAME_HEADER + FRAME_LOOK];
	struct net_header h;
	size_t n, looked;
	unsigned pieces;

	/* It was put by a process that died before it could say so. */
	if (chain->again && chain->cookie != 0 && chain->cookie - 1 < head)
		return true;
	looked = vq_read(chain, 0, look, sizeof(look));
	n = chain->out_bytes - FRAME_HEADER;
	if (looked < FRAME_HEADER) {
		device_count(dev, NIC_TX_MALFORMED, 1);
		return true;
	}
	memcpy(&h, look, sizeof(h));
	if (!header_is_sound(dev, &h, n)) {
		device_count(dev, NIC_TX_MALFORMED, 1);
		return true;
	}
	pieces = vq_slice(
	    chain, false, FRAME_HEADER, n, c->iov + 1, VQ_SEGMENTS_MAX);
	c->iov[0] = (struct iovec){ &h, sizeof(h) };
	vq_note(virtio_queue(dev, q), chain, head + 1);
	if (packet_put(r, c->iov, pieces + 1) != 0)
		return false;
	remember_flow(dev, q, look + FRAME_HEADER, looked - FRAME_HEADER);
	device_count(dev, NIC_TX_FRAMES, 1);
	device_count(dev, NIC_TX_BYTES, n);
	device_count_request(dev, 0, n, 0);
	nic_charge(dev, NIC_TX, n);
	return true;
}

/* True: a chain was done away with. */
static bool
transmit_one(struct device *dev, unsigned q)
{
	struct packet_ring *r = device_link_tx(dev, NIC_LINK);
	struct nic_context *c = device_context(dev);
	bool up = nic_is_up(dev);
	int space = up ? packet_space(r) : 1;

	if (space <= 0) {
		if (space < 0)
			device_count(dev, NIC_PEER_BROKEN, 1);
		c->tx_blocked = true;
		return false;
	}
	if (!virtio_pop(dev, q, &c->first))
		return false;
	if (!up || c->first.fail) {
		device_count(dev, NIC_TX_UNPLUGGED, 1);
	} else if (!nic_allowed(dev, NIC_TX) || !put(dev, q, &c->first)) {
		vq_unpop(virtio_queue(dev, q), &c->first);
		c->tx_blocked = true;
		return false;
	}
	virtio_push(dev, q, &c->first, 0);
	return true;
}

void
nic_transmit(struct device *dev, unsigned q)
{
	if (virtio_queue(dev, q) == NULL)
		return;
	for (unsigned i = 0; i < BATCH; i++)
		if (!transmit_one(dev, q))
			break;
	device_link_kick(dev, NIC_LINK);
}
