/* virtio-net: what its parts share; the bounds on its rates. */
#include "devices/net/nic.h"

#include "proto/base.h"

struct nic_log *
nic_log(struct device *dev)
{
	uint8_t *log = device_log(dev);

	return (
	    struct nic_log *)(void *)(log + VIRTIO_LOG_SIZE(NIC_QUEUES_MAX));
}

bool
nic_is_up(struct device *dev)
{
	const struct nic *s = device_state(dev);

	return s->up && device_link_tx(dev, NIC_LINK) != NULL;
}

unsigned
nic_control_queue(struct device *dev)
{
	const struct nic *s = device_state(dev);

	return virtio_has(dev, NET_F_MQ) ? 2u * s->pairs_max : 2;
}

/* ---- rates ---- */

static bool
within(const struct nic_limit *l, enum nic_direction d, uint64_t now,
    uint64_t *retry)
{
	if (l->per_second == 0 || l->due_ns[d] <= now + NIC_BURST_NS)
		return true;
	*retry = MAX(*retry, l->due_ns[d] - NIC_BURST_NS);
	return false;
}

static void
use_up(struct nic_limit *l, enum nic_direction d, uint64_t now, uint64_t n)
{
	if (l->per_second == 0)
		return;
	l->due_ns[d] = MAX(l->due_ns[d], now) + n * 1000000000u / l->per_second;
}

bool
nic_allowed(struct device *dev, enum nic_direction d)
{
	const struct nic *s = device_state(dev);
	struct nic_context *c = device_context(dev);
	uint64_t now, retry = 0;

	if (s->bits.per_second == 0 && s->frames.per_second == 0)
		return true;
	now = device_now(dev);
	if (within(&s->bits, d, now, &retry) &&
	    within(&s->frames, d, now, &retry))
		return true;
	c->retry_ns = c->retry_ns ? MIN(c->retry_ns, retry) : retry;
	return false;
}

void
nic_charge(struct device *dev, enum nic_direction d, size_t n)
{
	struct nic *s = device_state(dev);
	uint64_t now;

	if (s->bits.per_second == 0 && s->frames.per_second == 0)
		return;
	now = device_now(dev);
	use_up(&s->bits, d, now, (uint64_t)n * 8);
	use_up(&s->frames, d, now, 1);
}
