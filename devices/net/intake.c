/* Frames from the guest, for a packet process. */
#include "devices/net/intake.h"

#include <errno.h>

#include "proto/base.h"
#include "proto/packet.h"

void
intake_start(struct device *dev)
{
	struct packet_ring *tx = device_link_tx(dev, INTAKE_LINK);
	struct packet_ring *rx = device_link_rx(dev, INTAKE_LINK);
	struct intake_log *log = device_log(dev);

	if (tx != NULL)
		packet_resume_producer(tx);
	if (rx != NULL)
		log->taken = packet_resume(rx, log->taken);
}

bool
intake_pending(struct device *dev)
{
	const struct packet_ring *r = device_link_rx(dev, INTAKE_LINK);
	struct intake_log *log = device_log(dev);

	return r != NULL && packet_available(r, log->taken) > 0;
}

bool
intake_run(struct device *dev, intake_take_fn *take)
{
	struct packet_ring *r = device_link_rx(dev, INTAKE_LINK);
	struct intake_log *log = device_log(dev);
	const uint8_t *data;
	ssize_t n;

	for (unsigned i = 0; r != NULL && i < INTAKE_BATCH; i++) {
		n = packet_peek(r, log->taken, &data);
		if (n == -EAGAIN || n == -EPROTO)
			break;
		log->taken++;
		if (n > 0 && !take(dev, data, (size_t)n)) {
			log->taken--;
			return false;
		}
		packet_release(r, log->taken);
	}
	return true;
}

void
intake_no_reset(struct device *dev UNUSED)
{
	/* All that it knows is in its log. */
}

void
intake_no_access(struct device *dev UNUSED, struct device_access *a UNUSED)
{
	/* It has no registers. */
}

void
intake_no_settle(struct device *dev UNUSED)
{
	/* It does everything in work calls. */
}
