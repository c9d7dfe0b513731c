/*
 * Packet links: when the device is called, and when its peer is kicked.
 *
 * The device keeps its own position; the host only notices that the peer's
 * index moved since link() was last called.  A device that cannot take a packet
 * now (no buffer) is thus not called again for the same one.
 */
#include "devhost/engine.h"
#include "proto/base.h"

bool
engine_link_pending(struct device *dev, unsigned link)
{
	struct engine_link *l = &dev->link[link];

	return l->memory &&
	    (packet_head(l->rx) != l->seen ||
		(l->full && packet_space(l->tx) > 0));
}

void
engine_link(struct device *dev, unsigned link)
{
	struct engine_link *l = &dev->link[link];

	/* Before the call: what is put from now on is news. */
	l->seen = packet_head(l->rx);
	if (!dev->type->ops->link)
		return;
	dev->type->ops->link(dev, link);
	engine_commit_work(dev);
}

void
engine_arm(struct device *dev)
{
	for (unsigned i = 0; i < dev->type->nlinks; i++) {
		struct engine_link *l = &dev->link[i];

		if (!l->memory)
			continue;
		packet_arm_consumer(l->rx);
		if (l->full)
			packet_arm_producer(l->tx);
	}
}

struct packet_ring *
device_link_tx(struct device *dev, unsigned link)
{
	BUG_ON(link >= dev->type->nlinks);
	return dev->link[link].tx;
}

struct packet_ring *
device_link_rx(struct device *dev, unsigned link)
{
	BUG_ON(link >= dev->type->nlinks);
	return dev->link[link].rx;
}

void
device_link_kick(struct device *dev, unsigned link)
{
	struct engine_link *l = &dev->link[link];

	BUG_ON(link >= dev->type->nlinks);
	if (!l->memory)
		return;
	if (packet_kick_consumer(l->tx))
		engine_signal(dev, l->tx_data);
	if (packet_kick_producer(l->rx))
		engine_signal(dev, l->rx_space);
}
