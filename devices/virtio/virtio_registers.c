/* The registers of a virtio device: status, features, queues; virtio 1.2,
 * 4.1.4.3 to 4.1.4.6. */
#include "devices/virtio/virtio_impl.h"
#include "proto/base.h"

#define CONFIG_MAX 1024u /* bytes of device-specific configuration */

#define STATUS_DRIVERS                                           \
	(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | \
	    VIRTIO_FEATURES_OK | VIRTIO_FAILED)

/* What the transport and the virtqueues do for every device. */
#define FEATURES_ALL                                                        \
	(VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | \
	    VIRTIO_F_RING_PACKED | VIRTIO_F_RING_RESET)

static uint64_t
offered(struct device *dev)
{
	const struct virtio_class *c = virtio_class_of(dev);
	const struct virtio_state *s = device_state(dev);
	uint64_t all = FEATURES_ALL & ~(s->split ? VIRTIO_F_RING_PACKED : 0);

	return all | (c->in_order ? VIRTIO_F_IN_ORDER : 0) |
	    (c->offered != NULL ? c->offered(dev) : c->features);
}

/* ---- the status machine ---- */

static void
reset_queue(struct virtio_state *s, unsigned i)
{
	s->queue[i] = (struct vq_state){
		.size = VQ_SIZE_MAX,
		.vector = VIRTIO_NO_VECTOR,
	};
}

void
virtio_reset_transport(struct device *dev)
{
	struct virtio_state *s = device_state(dev);

	s->driver_features = 0;
	s->device_feature_select = s->driver_feature_select = 0;
	s->queue_select = 0;
	s->config_vector = VIRTIO_NO_VECTOR;
	s->status = 0;
	s->isr = 0;
	pci_set_intx(dev, &s->pci, false);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		reset_queue(s, i);
}

/*
 * A step, but its first part is of the process: what is in flight must have
 * ended before the driver hears that the device is reset.  A process that dies
 * in the middle of it finds the queues enabled, and their log.
 */
void
virtio_driver_reset(struct device *dev)
{
	for (unsigned i = 0; i < virtio_queues(dev); i++)
		virtio_close_queue(dev, i);
	virtio_reset_transport(dev);
	if (virtio_class_of(dev)->driver_reset != NULL)
		virtio_class_of(dev)->driver_reset(dev);
}

static void
write_status(struct device *dev, uint8_t value)
{
	struct virtio_state *s = device_state(dev);
	uint8_t set;

	if (value == 0) {
		virtio_driver_reset(dev);
		return;
	}
	set = value & STATUS_DRIVERS & (uint8_t)~s->status;
	if (set & VIRTIO_FEATURES_OK) {
		/* 3.1.1: the bit stays clear if we cannot work like that. */
		if ((s->driver_features & ~offered(dev)) != 0 ||
		    !(s->driver_features & VIRTIO_F_VERSION_1))
			set &= (uint8_t)~VIRTIO_FEATURES_OK;
	}
	if ((set & VIRTIO_DRIVER_OK) &&
	    !((s->status | set) & VIRTIO_FEATURES_OK))
		set &= (uint8_t)~VIRTIO_DRIVER_OK;
	s->status |= set;
	if ((set & VIRTIO_DRIVER_OK) && virtio_class_of(dev)->driver_ok != NULL)
		virtio_class_of(dev)->driver_ok(dev);
}

/* ---- registers; 4.1.4.3 ---- */

enum common_register {
	DEVICE_FEATURE_SELECT = 0x00,
	DEVICE_FEATURE = 0x04,
	DRIVER_FEATURE_SELECT = 0x08,
	DRIVER_FEATURE = 0x0c,
	CONFIG_VECTOR = 0x10,
	NUM_QUEUES = 0x12,
	DEVICE_STATUS = 0x14,
	CONFIG_GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFF = 0x1e,
	QUEUE_DESC = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
	QUEUE_NOTIFY_DATA = 0x38,
	QUEUE_RESET = 0x3a,
};

const struct device_register virtio_registers[VIRTIO_REGISTERS] = {
	{ "device_feature_select", 1, DEVICE_FEATURE_SELECT, 4, false },
	{ "device_feature", 1, DEVICE_FEATURE, 4, true },
	{ "driver_feature_select", 1, DRIVER_FEATURE_SELECT, 4, false },
	{ "driver_feature", 1, DRIVER_FEATURE, 4, false },
	{ "config_msix_vector", 1, CONFIG_VECTOR, 2, false },
	{ "num_queues", 1, NUM_QUEUES, 2, true },
	{ "device_status", 1, DEVICE_STATUS, 1, false },
	{ "config_generation", 1, CONFIG_GENERATION, 1, true },
	{ "queue_select", 1, QUEUE_SELECT, 2, false },
	{ "queue_size", 1, QUEUE_SIZE, 2, false },
	{ "queue_msix_vector", 1, QUEUE_VECTOR, 2, false },
	{ "queue_enable", 1, QUEUE_ENABLE, 2, false },
	{ "queue_notify_off", 1, QUEUE_NOTIFY_OFF, 2, true },
	{ "queue_desc", 1, QUEUE_DESC, 8, false },
	{ "queue_driver", 1, QUEUE_DRIVER, 8, false },
	{ "queue_device", 1, QUEUE_DEVICE, 8, false },
	{ "queue_reset", 1, QUEUE_RESET, 2, false },
};

/* The selected queue, or NULL: there is none of that number. */
static struct vq_state *
selected(struct device *dev)
{
	struct virtio_state *s = device_state(dev);

	return s->queue_select < virtio_queues(dev) ? &s->queue[s->queue_select]
						    : NULL;
}

static uint32_t
feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static uint64_t
read_queue(struct device *dev, unsigned offset)
{
	const struct virtio_state *s = device_state(dev);
	const struct vq_state *q = selected(dev);

	if (q == NULL) /* a size of 0: not available */
		return offset == QUEUE_VECTOR ? VIRTIO_NO_VECTOR : 0;
	switch (offset) {
	case QUEUE_SIZE:
		return q->size;
	case QUEUE_VECTOR:
		return q->vector;
	case QUEUE_ENABLE:
		return q->enabled;
	case QUEUE_NOTIFY_OFF:
		return s->queue_select;
	case QUEUE_DESC:
		return q->desc;
	case QUEUE_DRIVER:
		return q->driver;
	case QUEUE_DEVICE:
		return q->device;
	default: /* QUEUE_RESET: it is done at once */
		return 0;
	}
}

static uint64_t
read_register(struct device *dev, unsigned offset)
{
	const struct virtio_state *s = device_state(dev);

	switch (offset) {
	case DEVICE_FEATURE_SELECT:
		return s->device_feature_select;
	case DEVICE_FEATURE:
		return feature_word(offered(dev), s->device_feature_select);
	case DRIVER_FEATURE_SELECT:
		return s->driver_feature_select;
	case DRIVER_FEATURE:
		return feature_word(
		    s->driver_features, s->driver_feature_select);
	case CONFIG_VECTOR:
		return s->config_vector;
	case NUM_QUEUES:
		return virtio_queues(dev);
	case DEVICE_STATUS:
		return s->status;
	case CONFIG_GENERATION:
		return s->generation;
	case QUEUE_SELECT:
		return s->queue_select;
	default:
		return read_queue(dev, offset);
	}
}

static void
enable_queue(struct device *dev, struct vq_state *q)
{
	struct virtio_state *s = device_state(dev);

	if (!(s->status & VIRTIO_FEATURES_OK))
		return;
	q->enabled = 1;
	s->queue_epoch[s->queue_select] = ++s->epoch;
}

static void
write_queue(struct device *dev, unsigned offset, uint64_t value)
{
	struct virtio_state *s = device_state(dev);
	struct vq_state *q = selected(dev);
	bool fixed;

	if (q == NULL)
		return;
	/* 4.1.4.3.2: the driver must not touch an enabled queue. */
	fixed = q->enabled != 0;
	if (offset == QUEUE_SIZE && !fixed && value > 0 && value <= VQ_SIZE_MAX)
		q->size = (uint16_t)value;
	else if (offset == QUEUE_VECTOR)
		q->vector = value < device_type(dev)->nvectors
		    ? (uint16_t)value
		    : VIRTIO_NO_VECTOR;
	else if (offset == QUEUE_ENABLE && !fixed && value == 1)
		enable_queue(dev, q);
	else if (offset == QUEUE_DESC && !fixed)
		q->desc = value;
	else if (offset == QUEUE_DRIVER && !fixed)
		q->driver = value;
	else if (offset == QUEUE_DEVICE && !fixed)
		q->device = value;
	else if (offset == QUEUE_RESET && fixed && value == 1 &&
	    virtio_has(dev, VIRTIO_F_RING_RESET)) {
		virtio_close_queue(dev, s->queue_select);
		reset_queue(s, s->queue_select);
	}
}

static void
write_features(struct virtio_state *s, uint32_t value)
{
	unsigned shift = 32 * s->driver_feature_select;

	/* Settled once FEATURES_OK is set. */
	if (s->driver_feature_select >= 2 || (s->status & VIRTIO_FEATURES_OK))
		return;
	s->driver_features &= ~(0xffffffffull << shift);
	s->driver_features |= (uint64_t)value << shift;
}

static void
write_register(struct device *dev, unsigned offset, uint64_t value)
{
	struct virtio_state *s = device_state(dev);

	switch (offset) {
	case DEVICE_FEATURE_SELECT:
		s->device_feature_select = (uint32_t)value;
		break;
	case DRIVER_FEATURE_SELECT:
		s->driver_feature_select = (uint32_t)value;
		break;
	case DRIVER_FEATURE:
		write_features(s, (uint32_t)value);
		break;
	case CONFIG_VECTOR:
		s->config_vector = value < device_type(dev)->nvectors
		    ? (uint16_t)value
		    : VIRTIO_NO_VECTOR;
		break;
	case DEVICE_STATUS:
		write_status(dev, (uint8_t)value);
		break;
	case QUEUE_SELECT:
		s->queue_select = (uint16_t)value;
		break;
	default:
		write_queue(dev, offset, value);
		break;
	}
}

/* Bytes of `value` at `offset` of a register, replaced by those written. */
static uint64_t
merge(
    uint64_t old, unsigned width, uint64_t from, const struct device_access *a)
{
	for (unsigned i = 0; i < a->size; i++) {
		uint64_t at = a->addr + i;
		unsigned shift;

		if (at < from || at >= from + width)
			continue;
		shift = 8 * (unsigned)(at - from);
		old &= ~(0xffull << shift);
		old |= (a->data >> (8 * i) & 0xff) << shift;
	}
	return old;
}

static uint64_t
extract(uint64_t value, unsigned width, uint64_t from,
    const struct device_access *a)
{
	uint64_t data = 0;

	for (unsigned i = 0; i < a->size; i++) {
		uint64_t at = a->addr + i;

		if (at >= from && at < from + width)
			data |= (value >> (8 * (at - from)) & 0xff) << (8 * i);
	}
	return data;
}

static void
common_access(struct device *dev, struct device_access *a)
{
	uint64_t data = 0;

	for (unsigned i = 0; i < VIRTIO_REGISTERS; i++) {
		const struct device_register *r = &virtio_registers[i];
		uint64_t value;

		if (a->addr + a->size <= r->offset ||
		    a->addr >= (uint64_t)r->offset + r->width)
			continue;
		value = read_register(dev, r->offset);
		if (!a->write)
			data |= extract(value, r->width, r->offset, a);
		else if (!r->readonly)
			write_register(dev, r->offset,
			    merge(value, r->width, r->offset, a));
	}
	if (!a->write)
		a->data = data;
}

static void
isr_access(struct device *dev, struct device_access *a)
{
	struct virtio_state *s = device_state(dev);

	if (a->write)
		return;
	a->data = 0;
	if (a->addr != VIRTIO_ISR_AT)
		return;
	a->data = s->isr;
	s->isr = 0;
	if (s->pci.intx != 0)
		pci_set_intx(dev, &s->pci, false);
}

static void
config_access(struct device *dev, struct device_access *a)
{
	const struct virtio_class *c = virtio_class_of(dev);
	uint8_t config[CONFIG_MAX] = { 0 };
	uint64_t at = a->addr - VIRTIO_CONFIG_AT;

	BUG_ON(c->config_size > CONFIG_MAX);
	if (a->write) {
		if (c->config_write != NULL && at < c->config_size &&
		    a->size <= c->config_size - at)
			c->config_write(dev, (unsigned)at, a->size, a->data);
		return;
	}
	if (c->config_read != NULL)
		c->config_read(dev, config);
	a->data = 0;
	for (unsigned i = 0; i < a->size && at + i < c->config_size; i++)
		a->data |= (uint64_t)config[at + i] << (8 * i);
}

/* Doorbells are heard without this, but for those by way of the configuration
 * space: pending() then says that there is work. */
static void
notify_access(struct device *dev, struct device_access *a)
{
	struct virtio_context *ctx = device_context(dev);
	uint64_t i = (a->addr - VIRTIO_NOTIFY_AT) / VIRTIO_NOTIFY_STRIDE;

	if (!a->write)
		a->data = 0;
	else if (i < virtio_queues(dev))
		ctx->left_at[i] = 0;
}

void
virtio_registers_access(struct device *dev, struct device_access *a)
{
	if (a->addr < VIRTIO_COMMON_SIZE)
		common_access(dev, a);
	else if (a->addr >= VIRTIO_ISR_AT && a->addr < VIRTIO_CONFIG_AT)
		isr_access(dev, a);
	else if (a->addr >= VIRTIO_CONFIG_AT && a->addr < VIRTIO_NOTIFY_AT)
		config_access(dev, a);
	else if (a->addr >= VIRTIO_NOTIFY_AT)
		notify_access(dev, a);
	else if (!a->write)
		a->data = 0;
}
