/*
 * A port of a switch: the process between a network device's link and the
 * switch, to which it has a SEQPACKET connection; a datagram is a frame with its
 * virtio_net_hdr.
 *
 * The position up to which frames were taken is in the log and moves before a
 * frame is sent: at most once.  When the switch ends, or this process had to be
 * replaced after a reconnection, a new connection is asked of the connector
 * (proto/connector.h), if there is one; frames are lost meanwhile, as on a wire.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devhost/device.h"
#include "devices/net/intake.h"
#include "proto/base.h"
#include "proto/connector.h"
#include "proto/packet.h"

#define ETHERNET 14u
#define RETRY_NS 200000000u /* from a failed connection to the next try */

enum { SWITCH, CONNECTOR }; /* files */

enum counter {
	FROM_GUEST,
	TO_GUEST,
	LOST, /* the switch did not take them, or there was none */
	RECONNECTIONS,
	COUNTERS,
};

struct context {
	int fd; /* of the connection; -1: there is none */
	bool own; /* it is not the one handed in */
	bool asked; /* the connector has been */
	uint32_t events; /* of fd, watched for */
	bool blocked; /* the switch takes no more now */
	uint64_t retry_ns; /* when to ask; UINT64_MAX: not */
};

static void
watch(struct device *dev)
{
	struct context *c = device_context(dev);
	struct packet_ring *to = device_link_tx(dev, INTAKE_LINK);
	uint32_t events = 0;

	if (to != NULL && packet_space(to) > 0)
		events |= EPOLLIN;
	if (c->blocked)
		events |= EPOLLOUT;
	if (c->fd >= 0 && events != c->events &&
	    device_watch(dev, c->fd, events) == 0)
		c->events = events;
	device_link_kick(dev, INTAKE_LINK);
}

/* ---- the connection ---- */

static void
ask(struct device *dev)
{
	struct context *c = device_context(dev);
	int fd = device_file(dev, CONNECTOR);

	c->retry_ns = UINT64_MAX;
	if (fd < 0 || c->asked)
		return;
	if (connector_ask(fd, 0) < 0 || device_watch(dev, fd, EPOLLIN) < 0)
		c->retry_ns = device_now(dev) + RETRY_NS;
	else
		c->asked = true;
}

static void
disconnect(struct device *dev)
{
	struct context *c = device_context(dev);

	if (c->fd < 0)
		return;
	(void)device_watch(dev, c->fd, 0);
	if (c->own)
		close(c->fd);
	c->fd = -1;
	c->events = 0;
	c->blocked = false;
	device_log_line(dev, "the switch is gone");
	ask(dev);
}

static void
hear_connector(struct device *dev)
{
	struct context *c = device_context(dev);
	struct connector_answer answer;
	int file = device_file(dev, CONNECTOR), fd;
	int r = connector_hear(file, &answer, &fd);

	if (r == -EAGAIN)
		return;
	if (r == -EPIPE) {
		/* It is gone, and with it the way back. */
		(void)device_watch(dev, file, 0);
		device_log_line(dev, "the connector is gone");
		return;
	}
	c->asked = false;
	if (r < 0 || answer.error != 0 || fd < 0 || c->fd >= 0) {
		if (fd >= 0)
			close(fd);
		if (c->fd < 0)
			c->retry_ns = device_now(dev) + RETRY_NS;
		return;
	}
	c->fd = fd;
	c->own = true;
	device_count(dev, RECONNECTIONS, 1);
}

/* ---- frames ---- */

/* From the switch to the guest. */
static void
receive(struct device *dev)
{
	struct packet_ring *r = device_link_tx(dev, INTAKE_LINK);
	struct context *c = device_context(dev);

	for (unsigned i = 0; r != NULL && i < INTAKE_BATCH; i++) {
		uint8_t *slot = packet_reserve(r);
		struct iovec iov = { slot, PACKET_BYTES_MAX };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		if (slot == NULL)
			return;
		n = recvmsg(c->fd, &m, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			disconnect(dev);
			return;
		}
		if (n < (ssize_t)(PACKET_HEADER + ETHERNET) ||
		    (m.msg_flags & MSG_TRUNC))
			continue;
		packet_commit(r, (uint32_t)n);
		device_count(dev, TO_GUEST, 1);
		device_count_request(dev, (uint64_t)n - PACKET_HEADER, 0, 0);
	}
}

/* False: the switch takes no more now. */
static bool
send_frame(struct device *dev, const uint8_t *data, size_t n)
{
	struct context *c = device_context(dev);
	struct iovec iov = { NULL, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	/* iovec has no const; the kernel only reads. */
	memcpy(&iov.iov_base, &data, sizeof(data));
	if (c->fd >= 0 &&
	    sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
		device_count(dev, FROM_GUEST, 1);
		device_count_request(dev, 0, n - PACKET_HEADER, 0);
		return true;
	}
	if (c->fd >= 0 && errno == EAGAIN)
		return false;
	device_count(dev, LOST, 1);
	if (c->fd >= 0 && (errno == EPIPE || errno == ECONNRESET))
		disconnect(dev);
	return true;
}

/* From the guest to the switch. */
static void
transmit(struct device *dev)
{
	struct context *c = device_context(dev);

	c->blocked = !intake_run(dev, send_frame);
}

static void
port_ready(struct device *dev, int fd, uint32_t events)
{
	struct context *c = device_context(dev);

	if (fd == device_file(dev, CONNECTOR)) {
		hear_connector(dev);
	} else if (fd == c->fd) {
		if (events & EPOLLIN)
			receive(dev);
		if ((events & EPOLLOUT) && c->fd >= 0)
			transmit(dev);
	}
	watch(dev);
}

static void
port_link(struct device *dev, unsigned link UNUSED)
{
	transmit(dev);
	watch(dev);
}

static bool
port_pending(struct device *dev)
{
	const struct context *c = device_context(dev);

	return !c->blocked && intake_pending(dev);
}

static void
port_poll(struct device *dev)
{
	port_link(dev, INTAKE_LINK);
}

static uint64_t
port_deadline(struct device *dev)
{
	const struct context *c = device_context(dev);

	return c->retry_ns;
}

static void
port_timer(struct device *dev, uint64_t now_ns UNUSED)
{
	ask(dev);
}

static int
port_start(struct device *dev, bool fresh UNUSED)
{
	struct context *c = device_context(dev);

	c->fd = device_file(dev, SWITCH);
	c->retry_ns = UINT64_MAX;
	intake_start(dev);
	watch(dev);
	return 0;
}

static const struct device_placement placements[] = { { .nregions = 0 } };
static const char *const links[] = { "net" };
static const char *const files[] = {
	[SWITCH] = "switch",
	[CONNECTOR] = "?connector",
};
static const char *const counters[] = {
	[FROM_GUEST] = "from_guest",
	[TO_GUEST] = "to_guest",
	[LOST] = "lost",
	[RECONNECTIONS] = "reconnections",
};
_Static_assert(ARRAY_LEN(counters) == COUNTERS, "names");

static const struct device_ops ops = {
	.reset = intake_no_reset,
	.access = intake_no_access,
	.deadline = port_deadline,
	.timer = port_timer,
	.start = port_start,
	.ready = port_ready,
	.link = port_link,
	.pending = port_pending,
	.poll = port_poll,
	.settle = intake_no_settle,
};

static const struct device_type net_port = {
	.name = "net-switch",
	.title = "a port of a switch that machines share",
	.fds = 4, /* a connection, and what a connector may add by mistake */
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.log_size = sizeof(struct intake_log),
	.context_size = sizeof(struct context),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.links = links,
	.nlinks = ARRAY_LEN(links),
	.files = files,
	.nfiles = ARRAY_LEN(files),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.ops = &ops,
};
DEVTYPE_REGISTER(net_port);
