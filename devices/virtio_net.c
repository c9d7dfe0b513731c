/*
 * The network device: virtio 1.2, 5.1.
 *
 * It parses the guest's descriptors and holds no socket: frames go over its link
 * to the process that does, with the virtio_net_hdr in front, so that checksum
 * and segmentation offload pass from end to end.  What the driver cannot take
 * is finished here (net/nic_rx.c).
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net/nic.h"
#include "proto/base.h"

#define MTU_MIN		68u /* RFC 791 */
#define MTU_MAX		65521u

#define STATUS_LINK_UP	1u
#define STATUS_ANNOUNCE 2u

/* Device-specific configuration; 5.1.4. */
struct config {
	uint8_t mac[6];
	uint16_t status;
	uint16_t pairs;
	uint16_t mtu;
};

/* ---- options ---- */

static int
hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c | 0x20) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* The address of a station, as 52:54:00:12:34:56. */
static int
parse_mac(const char *val, uint8_t mac[6])
{
	if (strlen(val) != 17)
		return -EINVAL;
	for (unsigned i = 0; i < 6; i++, val += 3) {
		int high = hex_digit(val[0]), low = hex_digit(val[1]);

		if (high < 0 || low < 0 || val[2] != (i < 5 ? ':' : '\0'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return mac[0] & 1 ? -EINVAL : 0;
}

/* A whole number with an optional k, M or G (of 1000). */
static int
parse_number(const char *val, uint64_t min, uint64_t max, uint64_t *out)
{
	static const char units[] = "kMG";
	unsigned long long n;
	const char *unit;
	char *end;

	if (*val < '0' || *val > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(val, &end, 10);
	if (errno != 0)
		return -EINVAL;
	if (*end != '\0') {
		unit = strchr(units, *end);
		if (unit == NULL || end[1] != '\0')
			return -EINVAL;
		for (const char *u = units; u <= unit; u++)
			if (__builtin_mul_overflow(n, 1000, &n))
				return -EINVAL;
	}
	if (n < min || n > max)
		return -EINVAL;
	*out = n;
	return 0;
}

static int
set_rate(struct nic_limit *l, const char *val)
{
	uint64_t rate;
	int rc = parse_number(val, 0, 1ull << 50, &rate);

	if (rc == 0)
		*l = (struct nic_limit){ .per_second = rate };
	return rc;
}

/* Options that a running device takes as well. */
static int
set_changeable(struct nic *s, const char *key, const char *val)
{
	if (strcmp(key, "bps") == 0)
		return set_rate(&s->bits, val);
	if (strcmp(key, "pps") == 0)
		return set_rate(&s->frames, val);
	if (strcmp(key, "link") != 0)
		return -ENOENT;
	if (strcmp(val, "up") != 0 && strcmp(val, "down") != 0)
		return -EINVAL;
	s->up = strcmp(val, "up") == 0;
	return 0;
}

static int
nic_configure(struct device *dev, const char *key, const char *val)
{
	struct nic *s = device_state(dev);
	uint64_t n;
	int rc;

	if (strcmp(key, "mac") == 0) {
		rc = parse_mac(val, s->own_mac);
		memcpy(s->mac, s->own_mac, 6);
		return rc;
	}
	if (strcmp(key, "mtu") == 0) {
		rc = parse_number(val, MTU_MIN, MTU_MAX, &n);
		if (rc == 0)
			s->mtu = (uint16_t)n;
		return rc;
	}
	if (strcmp(key, "queues") == 0) {
		rc = parse_number(val, 1, NIC_PAIRS_MAX, &n);
		if (rc == 0)
			s->pairs_max = (uint8_t)n;
		return rc;
	}
	return set_changeable(s, key, val);
}

static int
nic_reconfigure(struct device *dev, const char *key, const char *val)
{
	struct nic *s = device_state(dev);
	struct nic_context *c = device_context(dev);
	bool was_up = s->up;
	int rc = set_changeable(s, key, val);

	if (rc != 0)
		return rc;
	c->retry_ns = 0;
	c->rx_blocked = c->tx_blocked = false;
	if (s->up != was_up) {
		/* It may be at another switch now. */
		s->announce = s->up;
		virtio_config_changed(dev);
	}
	return 0;
}

/* ---- state ---- */

static void
nic_driver_reset(struct device *dev)
{
	struct nic *s = device_state(dev);

	memcpy(s->mac, s->own_mac, 6);
	s->pairs = 1;
	s->announce = false;
	/* A driver without a control queue must hear everything. */
	s->promiscuous = true;
	s->all_multicast = s->all_unicast = false;
	s->no_multicast = s->no_unicast = s->no_broadcast = false;
	s->nunicast = s->nmulticast = 0;
	s->many_unicast = s->many_multicast = false;
	s->all_vlans = true;
	memset(s->vlan, 0, sizeof(s->vlan));
	s->offloads = 0;
}

static void
nic_reset(struct device *dev)
{
	struct nic *s = device_state(dev);
	/* Any number that no other device has is good enough. */
	uint64_t random = device_wall_clock(dev) * 0x9e3779b97f4a7c15u;

	random = (random ^ random >> 29) * 0xbf58476d1ce4e5b9u;
	for (unsigned i = 1; i < 6; i++)
		s->own_mac[i] = (uint8_t)(random >> 8 * i);
	s->own_mac[0] = 0x02; /* locally administered */
	s->pairs_max = 1;
	s->up = true;
	nic_driver_reset(dev);
}

static bool
nic_valid(const void *state)
{
	const struct nic *s = state;
	const uint8_t *bytes = state;

	/* As bytes: a bool of another value is not one to be read. */
	for (size_t i = offsetof(struct nic, up);
	     i <= offsetof(struct nic, all_vlans); i++)
		if (bytes[i] > 1)
			return false;
	return s->pairs_max >= 1 && s->pairs_max <= NIC_PAIRS_MAX &&
	    s->pairs >= 1 && s->pairs <= s->pairs_max &&
	    s->nunicast <= NIC_MACS_MAX && s->nmulticast <= NIC_MACS_MAX &&
	    !(s->offloads & ~NIC_GUEST_OFFLOADS);
}

static void
nic_driver_ok(struct device *dev)
{
	struct nic *s = device_state(dev);

	s->offloads = s->virtio.driver_features & NIC_GUEST_OFFLOADS;
	s->all_vlans = !virtio_has(dev, NET_F_CTRL_VLAN);
}

#define FEATURES                                                              \
	(NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_CTRL_GUEST_OFFLOADS |          \
	    NET_F_MAC | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 |                 \
	    NET_F_GUEST_ECN | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 |             \
	    NET_F_HOST_ECN | NET_F_MRG_RXBUF | NET_F_STATUS | NET_F_CTRL_VQ | \
	    NET_F_CTRL_RX | NET_F_CTRL_VLAN | NET_F_CTRL_RX_EXTRA |           \
	    NET_F_GUEST_ANNOUNCE | NET_F_CTRL_MAC_ADDR)

static uint64_t
nic_offered(struct device *dev)
{
	const struct nic *s = device_state(dev);

	return FEATURES | (s->mtu ? NET_F_MTU : 0) |
	    (s->pairs_max > 1 ? NET_F_MQ : 0);
}

static void
nic_config_read(struct device *dev, void *config)
{
	const struct nic *s = device_state(dev);
	struct config c = { .pairs = s->pairs_max, .mtu = s->mtu };

	memcpy(c.mac, s->mac, 6);
	if (nic_is_up(dev))
		c.status |= STATUS_LINK_UP;
	if (s->announce && virtio_has(dev, NET_F_GUEST_ANNOUNCE))
		c.status |= STATUS_ANNOUNCE;
	memcpy(config, &c, sizeof(c));
}

/* ---- work ---- */

static int
nic_start(struct device *dev, bool fresh UNUSED)
{
	struct packet_ring *tx = device_link_tx(dev, NIC_LINK);

	if (tx != NULL)
		packet_resume_producer(tx);
	return 0;
}

static void
transmit_all(struct device *dev)
{
	struct nic_context *c = device_context(dev);
	unsigned control = nic_control_queue(dev);

	c->tx_blocked = false;
	for (unsigned q = 1; q < control; q += 2)
		nic_transmit(dev, q);
}

static void
nic_queue(struct device *dev, unsigned q)
{
	unsigned control = nic_control_queue(dev);

	if (q == control)
		nic_control(dev);
	else if (q < control && q % 2 == 1)
		nic_transmit(dev, q);
	else if (q < control)
		nic_receive(dev);
}

static void
nic_link(struct device *dev, unsigned link UNUSED)
{
	nic_receive(dev);
	transmit_all(dev);
}

/* Frames that were left because a batch was full. */
static bool
nic_pending(struct device *dev)
{
	const struct nic_context *c = device_context(dev);
	const struct packet_ring *r = device_link_rx(dev, NIC_LINK);

	return r != NULL && !c->rx_blocked &&
	    packet_available(r, nic_log(dev)->next) > 0;
}

static uint64_t
nic_deadline(struct device *dev)
{
	const struct nic_context *c = device_context(dev);

	return c->retry_ns ? c->retry_ns : UINT64_MAX;
}

static void
nic_timer(struct device *dev, uint64_t now_ns UNUSED)
{
	struct nic_context *c = device_context(dev);

	c->retry_ns = 0;
	nic_link(dev, NIC_LINK);
}

static const struct virtio_class class = {
	.id = 1,
	.pci_class = 0x020000,
	.queues = NIC_QUEUES_MAX,
	.features = FEATURES,
	.offered = nic_offered,
	.config_size = sizeof(struct config),
	.in_order = true,
	.reset = nic_reset,
	.valid = nic_valid,
	.configure = nic_configure,
	.reconfigure = nic_reconfigure,
	.config_read = nic_config_read,
	.driver_reset = nic_driver_reset,
	.driver_ok = nic_driver_ok,
	.start = nic_start,
	.queue = nic_queue,
	.link = nic_link,
	.pending = nic_pending,
	.poll = nic_receive,
	.deadline = nic_deadline,
	.timer = nic_timer,
};

static const char *const links[] = { "net" };

static const char *const counters[] = {
	[NIC_TX_FRAMES] = "tx_frames",
	[NIC_TX_BYTES] = "tx_bytes",
	[NIC_TX_MALFORMED] = "tx_malformed",
	[NIC_TX_UNPLUGGED] = "tx_unplugged",
	[NIC_RX_FRAMES] = "rx_frames",
	[NIC_RX_BYTES] = "rx_bytes",
	[NIC_RX_MALFORMED] = "rx_malformed",
	[NIC_RX_FILTERED] = "rx_filtered",
	[NIC_RX_UNREADY] = "rx_unready",
	[NIC_RX_TOO_LONG] = "rx_too_long",
	[NIC_PEER_BROKEN] = "peer_broken",
	[NIC_CONTROL] = "control_commands",
};
_Static_assert(ARRAY_LEN(counters) == NIC_COUNTERS, "names");

static const struct device_option options[] = {
	VIRTIO_OPTIONS,
	{ "mac", "its address; default: a random one" },
	{ "mtu", "the largest packet that the network takes, 68 to 65521" },
	{ "queues", "pairs of queues, 1 to 8" },
	{ "bps", "bits per second in each direction, k, M, G; 0: no bound" },
	{ "pps", "frames per second in each direction; 0: no bound" },
	{ "link", "up or down" },
};

static const struct device_type virtio_net = {
	.name = "virtio-net",
	.title = "virtio network device",
	VIRTIO_DEVICE_TYPE(
	    class, NIC_QUEUES_MAX, struct nic, struct nic_context),
	.state_version = 1,
	.log_size = NIC_LOG_SIZE,
	.links = links,
	.nlinks = ARRAY_LEN(links),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.options = options,
	.noptions = ARRAY_LEN(options),
};
DEVTYPE_REGISTER(virtio_net);
