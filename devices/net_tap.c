/*
 * A tap interface: the process between a network device's link and the host's
 * interface, whose file it was handed.
 *
 * The file is non-blocking, with IFF_NO_PI and IFF_VNET_HDR, a header of 12 bytes
 * (TUNSETVNETHDRSZ) and TUNSETOFFLOAD of checksums and TCP segmentation: what the
 * guest's driver cannot take, its device finishes.  The kernel copies and checks
 * what it is given; nothing is parsed here.
 *
 * The position up to which frames were taken is in the log and moves before a
 * frame is written: at most once.  A frame that was read and not yet put is lost
 * with the process, as on a wire.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devhost/device.h"
#include "devices/net/intake.h"
#include "proto/base.h"
#include "proto/packet.h"

#define ETHERNET 14u

enum counter {
	FROM_GUEST,
	TO_GUEST,
	REFUSED, /* by the kernel: not a frame */
	COUNTERS,
};

struct context {
	uint32_t events; /* watched for */
	bool write_blocked; /* the interface's queue is full */
	bool gone; /* so is the interface */
};

static void
watch(struct device *dev)
{
	struct context *c = device_context(dev);
	struct packet_ring *to = device_link_tx(dev, INTAKE_LINK);
	uint32_t events = 0;

	if (!c->gone && to != NULL && packet_space(to) > 0)
		events |= EPOLLIN;
	if (!c->gone && c->write_blocked)
		events |= EPOLLOUT;
	if (events != c->events &&
	    device_watch(dev, device_file(dev, 0), events) == 0)
		c->events = events;
	device_link_kick(dev, INTAKE_LINK);
}

static void
say_gone(struct device *dev, int error)
{
	struct context *c = device_context(dev);

	if (!c->gone)
		device_log_line(dev, "the interface: %s", strerror(error));
	c->gone = true;
}

/* From the interface to the guest. */
static void
receive(struct device *dev)
{
	struct packet_ring *r = device_link_tx(dev, INTAKE_LINK);

	for (unsigned i = 0; r != NULL && i < INTAKE_BATCH; i++) {
		uint8_t *slot = packet_reserve(r);
		ssize_t n;

		if (slot == NULL)
			return;
		n = read(device_file(dev, 0), slot, PACKET_BYTES_MAX);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			/* An interface has no end of file. */
			say_gone(dev, n < 0 ? errno : EBADFD);
			return;
		}
		if (n < (ssize_t)(PACKET_HEADER + ETHERNET)) {
			device_count(dev, REFUSED, 1);
			continue;
		}
		packet_commit(r, (uint32_t)n);
		device_count(dev, TO_GUEST, 1);
		device_count_request(dev, (uint64_t)n - PACKET_HEADER, 0, 0);
	}
}

/* False: the interface takes no more now. */
static bool
write_frame(struct device *dev, const uint8_t *data, size_t n)
{
	if (write(device_file(dev, 0), data, n) >= 0) {
		device_count(dev, FROM_GUEST, 1);
		device_count_request(dev, 0, n - PACKET_HEADER, 0);
		return true;
	}
	if (errno == EAGAIN)
		return false;
	/* It is the guest's fault, or the interface is down. */
	device_count(dev, REFUSED, 1);
	return true;
}

/* From the guest to the interface. */
static void
transmit(struct device *dev)
{
	struct context *c = device_context(dev);

	c->write_blocked = !intake_run(dev, write_frame);
}

static void
tap_ready(struct device *dev, int fd UNUSED, uint32_t events)
{
	if (events & EPOLLIN)
		receive(dev);
	if (events & EPOLLOUT)
		transmit(dev);
	watch(dev);
}

static void
tap_link(struct device *dev, unsigned link UNUSED)
{
	transmit(dev);
	watch(dev);
}

static bool
tap_pending(struct device *dev)
{
	const struct context *c = device_context(dev);

	return !c->write_blocked && intake_pending(dev);
}

static void
tap_poll(struct device *dev)
{
	tap_link(dev, INTAKE_LINK);
}

static int
tap_start(struct device *dev, bool fresh UNUSED)
{
	intake_start(dev);
	watch(dev);
	return 0;
}

static const struct device_placement placements[] = { { .nregions = 0 } };
static const char *const links[] = { "net" };
static const char *const files[] = { "tap" };
static const char *const counters[] = {
	[FROM_GUEST] = "from_guest",
	[TO_GUEST] = "to_guest",
	[REFUSED] = "refused",
};
_Static_assert(ARRAY_LEN(counters) == COUNTERS, "names");

static const struct device_ops ops = {
	.reset = intake_no_reset,
	.access = intake_no_access,
	.start = tap_start,
	.ready = tap_ready,
	.link = tap_link,
	.pending = tap_pending,
	.poll = tap_poll,
	.settle = intake_no_settle,
};

static const struct device_type net_tap = {
	.name = "net-tap",
	.title = "a tap interface of the host",
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
DEVTYPE_REGISTER(net_tap);
