/* virtio-net, the control queue; virtio 1.2, 5.1.6.5. */
#include <string.h>

#include "devices/net/nic.h"
#include "proto/base.h"

enum class {
	CLASS_RX,
	CLASS_MAC,
	CLASS_VLAN,
	CLASS_ANNOUNCE,
	CLASS_MQ,
	CLASS_OFFLOADS,
};

enum {
	RX_PROMISC,
	RX_ALLMULTI,
	RX_ALLUNI,
	RX_NOMULTI,
	RX_NOUNI,
	RX_NOBCAST,
};

enum {
	MAC_TABLE_SET,
	MAC_ADDR_SET,
};

enum {
	VLAN_ADD,
	VLAN_DEL,
};

#define ANNOUNCE_ACK	  0u
#define MQ_PAIRS_SET	  0u
#define OFFLOADS_SET	  0u
#define ACK_OK		  0u
#define ACK_ERROR	  1u
#define COMMAND_HEADER	  2u /* class, command */
#define COMMANDS_PER_CALL 64u

/* Copy the command's data: false: it is shorter than that. */
static bool
data_at(const struct vq_chain *c, size_t offset, void *to, size_t n)
{
	return vq_read(c, COMMAND_HEADER + offset, to, n) == n;
}

static bool
set_rx(struct device *dev, const struct vq_chain *c, unsigned command)
{
	struct nic *s = device_state(dev);
	bool *const flag[] = {
		[RX_PROMISC] = &s->promiscuous,
		[RX_ALLMULTI] = &s->all_multicast,
		[RX_ALLUNI] = &s->all_unicast,
		[RX_NOMULTI] = &s->no_multicast,
		[RX_NOUNI] = &s->no_unicast,
		[RX_NOBCAST] = &s->no_broadcast,
	};
	uint64_t feature =
	    command <= RX_ALLMULTI ? NET_F_CTRL_RX : NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (command >= ARRAY_LEN(flag) || !virtio_has(dev, feature) ||
	    !data_at(c, 0, &on, 1) || on > 1)
		return false;
	*flag[command] = on;
	return true;
}

/*
 * One of the two tables of a command: its entries, or `all` if they are more
 * than we keep.  False: the command ends in it.
 */
static bool
read_table(const struct vq_chain *c, size_t *at, uint8_t (*macs)[6],
    uint8_t *count, bool *all)
{
	uint32_t n;
	size_t bytes;

	if (!data_at(c, *at, &n, sizeof(n)))
		return false;
	*at += sizeof(n);
	bytes = (size_t)n * 6;
	if (bytes > c->out_bytes || COMMAND_HEADER + *at + bytes > c->out_bytes)
		return false;
	*all = n > NIC_MACS_MAX;
	*count = *all ? 0 : (uint8_t)n;
	if (!*all && !data_at(c, *at, macs, bytes))
		return false;
	*at += bytes;
	return true;
}

static bool
set_mac(struct device *dev, const struct vq_chain *c, unsigned command)
{
	struct nic *s = device_state(dev);
	uint8_t unicast[NIC_MACS_MAX][6] = { 0 };
	uint8_t multicast[NIC_MACS_MAX][6] = { 0 };
	uint8_t mac[6], nunicast, nmulticast;
	bool too_many[2];
	size_t at = 0;

	if (command == MAC_ADDR_SET) {
		if (!virtio_has(dev, NET_F_CTRL_MAC_ADDR) ||
		    !data_at(c, 0, mac, 6))
			return false;
		memcpy(s->mac, mac, 6);
		return true;
	}
	if (command != MAC_TABLE_SET || !virtio_has(dev, NET_F_CTRL_RX))
		return false;
	if (!read_table(c, &at, unicast, &nunicast, &too_many[0]) ||
	    !read_table(c, &at, multicast, &nmulticast, &too_many[1]))
		return false;
	memcpy(s->unicast, unicast, sizeof(unicast));
	memcpy(s->multicast, multicast, sizeof(multicast));
	s->nunicast = nunicast;
	s->nmulticast = nmulticast;
	s->many_unicast = too_many[0];
	s->many_multicast = too_many[1];
	return true;
}

static bool
set_vlan(struct device *dev, const struct vq_chain *c, unsigned command)
{
	struct nic *s = device_state(dev);
	uint64_t bit;
	uint16_t id;

	if (!virtio_has(dev, NET_F_CTRL_VLAN) || command > VLAN_DEL ||
	    !data_at(c, 0, &id, sizeof(id)) || id >= NIC_VLANS)
		return false;
	bit = 1ull << id % 64;
	if (command == VLAN_ADD)
		s->vlan[id / 64] |= bit;
	else
		s->vlan[id / 64] &= ~bit;
	return true;
}

static bool
set_pairs(struct device *dev, const struct vq_chain *c, unsigned command)
{
	struct nic *s = device_state(dev);
	uint16_t pairs;

	if (command != MQ_PAIRS_SET || !virtio_has(dev, NET_F_MQ) ||
	    !data_at(c, 0, &pairs, sizeof(pairs)) || pairs == 0 ||
	    pairs > s->pairs_max)
		return false;
	s->pairs = (uint8_t)pairs;
	return true;
}

static bool
set_offloads(struct device *dev, const struct vq_chain *c, unsigned command)
{
	struct nic *s = device_state(dev);
	uint64_t offloads;

	if (command != OFFLOADS_SET ||
	    !virtio_has(dev, NET_F_CTRL_GUEST_OFFLOADS) ||
	    !data_at(c, 0, &offloads, sizeof(offloads)) ||
	    (offloads & ~(s->virtio.driver_features & NIC_GUEST_OFFLOADS)))
		return false;
	s->offloads = offloads;
	return true;
}

static bool
obey(struct device *dev, const struct vq_chain *c)
{
	struct nic *s = device_state(dev);
	uint8_t header[COMMAND_HEADER];

	if (vq_read(c, 0, header, sizeof(header)) != sizeof(header))
		return false;
	switch (header[0]) {
	case CLASS_RX:
		return set_rx(dev, c, header[1]);
	case CLASS_MAC:
		return set_mac(dev, c, header[1]);
	case CLASS_VLAN:
		return set_vlan(dev, c, header[1]);
	case CLASS_ANNOUNCE:
		if (header[1] != ANNOUNCE_ACK ||
		    !virtio_has(dev, NET_F_GUEST_ANNOUNCE))
			return false;
		s->announce = false;
		return true;
	case CLASS_MQ:
		return set_pairs(dev, c, header[1]);
	case CLASS_OFFLOADS:
		return set_offloads(dev, c, header[1]);
	default:
		return false;
	}
}

void
nic_control(struct device *dev)
{
	unsigned q = nic_control_queue(dev);
	struct nic_context *c = device_context(dev);
	uint8_t ack;

	if (virtio_queue(dev, q) == NULL)
		return;
	for (unsigned i = 0; i < COMMANDS_PER_CALL; i++) {
		if (!virtio_pop(dev, q, &c->first))
			return;
		if (c->first.in_bytes == 0) {
			virtio_broken(dev,
			    "a command without a place for its "
			    "answer");
			return;
		}
		ack = (uint8_t)(obey(dev, &c->first) ? ACK_OK : ACK_ERROR);
		device_count(dev, NIC_CONTROL, 1);
		/* Before the driver sees the answer; a command that is given
		 * again says the same. */
		device_commit(dev);
		(void)vq_write(&c->first, 0, &ack, 1);
		virtio_push(dev, q, &c->first, 1);
	}
}
