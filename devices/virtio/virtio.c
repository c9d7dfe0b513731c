/* The PCI transport of virtio: registers, status, queues, interrupts. */
#include "devices/virtio/virtio.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"

#define PCI_VENDOR    0x1af4u
#define PCI_DEVICE    0x1040u /* + virtio device ID */
#define PCI_SUBSYSTEM 0x1100u

/* The registers' region; virtio.h says what is where. */
#define COMMON_SIZE    0x40u
#define ISR_AT	       0x1000u
#define CONFIG_AT      0x2000u
#define NOTIFY_AT      0x3000u
#define NOTIFY_STRIDE  4u
#define REGISTERS_SIZE 0x4000u
#define CONFIG_MAX     1024u

#define BAR_REGISTERS  0u /* and 1: it is a 64-bit one */
#define BAR_MSIX       2u

#define NO_VECTOR      0xffffu
#define ISR_QUEUE      1u
#define ISR_CONFIG     2u

#define STATUS_DRIVERS                                           \
	(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | \
	    VIRTIO_FEATURES_OK | VIRTIO_FAILED)

/* What the transport and the virtqueues do for every device. */
#define FEATURES_ALL                                                        \
	(VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | \
	    VIRTIO_F_RING_PACKED | VIRTIO_F_RING_RESET)

static const struct virtio_class *
class_of(const struct device *dev)
{
	return device_type(dev)->family;
}

static unsigned
queues(const struct device *dev)
{
	return class_of(dev)->queues;
}

static uint64_t
offered(struct device *dev)
{
	const struct virtio_class *c = class_of(dev);

	return FEATURES_ALL | (c->in_order ? VIRTIO_F_IN_ORDER : 0) |
	    (c->offered != NULL ? c->offered(dev) : c->features);
}

/* ---- the PCI function ---- */

/* struct virtio_pci_cap, 4.1.4; the longest form. */
struct capability {
	uint8_t id, next, length, type;
	uint8_t bar, cap_id, pad[2];
	uint32_t offset, size;
	uint32_t more; /* notify: multiplier; PCI access: data */
};

_Static_assert(sizeof(struct capability) == 20, "virtio_pci_cap");

enum capability_type {
	CAP_COMMON = 1,
	CAP_NOTIFY = 2,
	CAP_ISR = 3,
	CAP_DEVICE = 4,
	CAP_PCI = 5,
	CAPS = 5,
};

static const uint8_t pci_access_writable[sizeof(struct capability)] = {
	[4] = 0xff, /* bar */
	[8] = 0xff,
	0xff,
	0xff,
	0xff, /* offset */
	[12] = 0xff,
	0xff,
	0xff,
	0xff, /* length */
};

/* A PCI function, made anew for each access to the registers of PCI: it
 * follows from the class. */
struct function {
	struct pci_function pci;
	struct pci_capability caps[CAPS];
	struct capability cap[CAPS];
	unsigned access; /* index of CAP_PCI */
};

static void
add_capability(struct function *f, enum capability_type type, uint32_t offset,
    uint32_t size, uint32_t more, bool longer)
{
	unsigned i = f->pci.ncaps++;
	uint8_t n = (uint8_t)(sizeof(f->cap[i]) - (longer ? 0 : 4));

	f->cap[i] = (struct capability){
		.id = 0x09, /* vendor specific */
		.length = n,
		.type = (uint8_t)type,
		.bar = BAR_REGISTERS,
		.offset = offset,
		.size = size,
		.more = more,
	};
	f->caps[i].bytes = (const uint8_t *)&f->cap[i];
	f->caps[i].size = n;
}

static void driver_reset(struct device *dev);

static void
make_function(const struct device *dev, struct function *f)
{
	const struct virtio_class *c = class_of(dev);

	memset(f, 0, sizeof(*f));
	f->pci = (struct pci_function){
		.vendor = PCI_VENDOR,
		.device = (uint16_t)(PCI_DEVICE + c->id),
		.subvendor = PCI_VENDOR,
		.subsystem = PCI_SUBSYSTEM,
		.revision = 1,
		.class_code = c->pci_class,
		.express = true,
		.interrupt_pin = 1,
		.bars = {
			[BAR_REGISTERS] = { VIRTIO_REGION_REGISTERS, true,
			    false },
			[BAR_MSIX] = { VIRTIO_REGION_MSIX, false, false },
		},
		.msix = { BAR_MSIX, VIRTIO_REGION_MSIX, 0, 0x800 },
		.caps = f->caps,
		.function_reset = driver_reset,
	};
	add_capability(f, CAP_COMMON, 0, COMMON_SIZE, 0, false);
	add_capability(f, CAP_NOTIFY, NOTIFY_AT, NOTIFY_STRIDE * c->queues,
	    NOTIFY_STRIDE, true);
	add_capability(f, CAP_ISR, ISR_AT, 1, 0, false);
	if (c->config_size > 0)
		add_capability(
		    f, CAP_DEVICE, CONFIG_AT, c->config_size, 0, false);
	f->access = f->pci.ncaps;
	add_capability(f, CAP_PCI, 0, 0, 0, true);
	f->caps[f->access].writable = pci_access_writable;
}

/* ---- queues ---- */

bool
virtio_live(struct device *dev)
{
	const struct virtio_state *s = device_state(dev);

	return (s->status & VIRTIO_DRIVER_OK) &&
	    !(s->status & VIRTIO_NEEDS_RESET) && pci_master(&s->pci);
}

bool
virtio_has(struct device *dev, uint64_t feature)
{
	const struct virtio_state *s = device_state(dev);

	return (s->status & VIRTIO_FEATURES_OK) &&
	    (s->driver_features & feature) == feature;
}

struct vq *
virtio_queue(struct device *dev, unsigned q)
{
	struct virtio_context *ctx = device_context(dev);

	return q < queues(dev) && ctx->vq[q].ready ? &ctx->vq[q] : NULL;
}

/* Open the queues that the driver has enabled since we last looked. */
static void
open_queues(struct device *dev)
{
	struct virtio_state *s = device_state(dev);
	struct virtio_context *ctx = device_context(dev);
	struct vq_log *log = device_log(dev);

	for (unsigned i = 0; i < queues(dev) && virtio_live(dev); i++) {
		if (!s->queue[i].enabled || ctx->vq[i].ready ||
		    ctx->opened_epoch[i] == s->queue_epoch[i])
			continue;
		ctx->opened_epoch[i] = s->queue_epoch[i];
		ctx->left_at[i] = 0;
		if (vq_open(&ctx->vq[i], dev, i, &s->queue[i], &log[i],
			s->driver_features, s->queue_epoch[i]) < 0)
			virtio_broken(dev, "queue");
	}
}

/* Nothing may touch the queue's buffers from here on. */
static void
close_queue(struct device *dev, unsigned i)
{
	struct virtio_context *ctx = device_context(dev);

	if (ctx->vq[i].ready) {
		if (class_of(dev)->quiesce != NULL)
			class_of(dev)->quiesce(dev, i);
		vq_close(&ctx->vq[i]);
	}
	ctx->opened_epoch[i] = 0;
}

static void
run_queue(struct device *dev, unsigned i)
{
	struct virtio_context *ctx = device_context(dev);
	struct vq *q = &ctx->vq[i];

	if (!q->ready || !virtio_live(dev))
		return;
	class_of(dev)->queue(dev, i);
	/* What it left it does not want before something else happens. */
	ctx->left_at[i] = q->ready && vq_pending(q) ? q->taken + 1 : 0;
}

static bool
has_work(struct device *dev, unsigned i)
{
	const struct virtio_state *s = device_state(dev);
	struct virtio_context *ctx = device_context(dev);
	const struct vq *q = &ctx->vq[i];

	if (!q->ready)
		return s->queue[i].enabled &&
		    ctx->opened_epoch[i] != s->queue_epoch[i];
	return ctx->left_at[i] != q->taken + 1 && vq_pending(q);
}

bool
virtio_pop(struct device *dev, unsigned q, struct vq_chain *c)
{
	struct vq *vq = virtio_queue(dev, q);
	int rc;

	if (vq == NULL || !virtio_live(dev))
		return false;
	rc = vq_pop(vq, c);
	if (rc < 0)
		virtio_broken(dev, "descriptors");
	return rc > 0;
}

void
virtio_push(
    struct device *dev, unsigned q, const struct vq_chain *c, uint32_t written)
{
	virtio_push_id(dev, q, c->id, written);
}

void
virtio_push_id(struct device *dev, unsigned q, uint16_t id, uint32_t written)
{
	struct vq *vq = virtio_queue(dev, q);

	if (vq != NULL)
		vq_push(vq, id, written);
}

/* ---- interrupts ---- */

static void
interrupt(struct device *dev, uint16_t vector, unsigned isr)
{
	struct virtio_state *s = device_state(dev);

	if (pci_msix_enabled(&s->pci)) {
		if (vector != NO_VECTOR)
			pci_raise_vector(dev, &s->pci, vector);
		return;
	}
	s->isr |= (uint8_t)isr;
	pci_set_intx(dev, &s->pci, true);
}

static void
signal_queues(struct device *dev, bool all)
{
	struct virtio_state *s = device_state(dev);
	struct virtio_context *ctx = device_context(dev);

	for (unsigned i = 0; i < queues(dev); i++) {
		if (ctx->vq[i].ready && (vq_wants_signal(&ctx->vq[i]) || all))
			interrupt(dev, s->queue[i].vector, ISR_QUEUE);
	}
}

static void
interrupt_config(struct device *dev)
{
	struct virtio_state *s = device_state(dev);

	if (s->status & VIRTIO_DRIVER_OK)
		interrupt(dev, s->config_vector, ISR_CONFIG);
}

void
virtio_broken(struct device *dev, const char *why)
{
	struct virtio_state *s = device_state(dev);

	if (s->status & VIRTIO_NEEDS_RESET)
		return;
	device_log_line(dev, "the driver broke the rules: %s", why);
	s->status |= VIRTIO_NEEDS_RESET;
	interrupt_config(dev);
}

void
virtio_config_changed(struct device *dev)
{
	struct virtio_state *s = device_state(dev);

	s->generation++;
	interrupt_config(dev);
}

/* ---- the status machine ---- */

static void
reset_queue(struct virtio_state *s, unsigned i)
{
	s->queue[i] = (struct vq_state){
		.size = VQ_SIZE_MAX,
		.vector = NO_VECTOR,
	};
}

/* The state that a driver finds. */
static void
reset_transport(struct device *dev)
{
	struct virtio_state *s = device_state(dev);

	s->driver_features = 0;
	s->device_feature_select = s->driver_feature_select = 0;
	s->queue_select = 0;
	s->config_vector = NO_VECTOR;
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
static void
driver_reset(struct device *dev)
{
	for (unsigned i = 0; i < queues(dev); i++)
		close_queue(dev, i);
	reset_transport(dev);
	if (class_of(dev)->driver_reset != NULL)
		class_of(dev)->driver_reset(dev);
}

static void
write_status(struct device *dev, uint8_t value)
{
	struct virtio_state *s = device_state(dev);
	uint8_t set;

	if (value == 0) {
		driver_reset(dev);
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
	if ((set & VIRTIO_DRIVER_OK) && class_of(dev)->driver_ok != NULL)
		class_of(dev)->driver_ok(dev);
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

	return s->queue_select < queues(dev) ? &s->queue[s->queue_select]
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
		return offset == QUEUE_VECTOR ? NO_VECTOR : 0;
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
		return queues(dev);
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
		q->vector = value < device_type(dev)->nvectors ? (uint16_t)value
							       : NO_VECTOR;
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
		close_queue(dev, s->queue_select);
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
		    : NO_VECTOR;
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
	if (a->addr != ISR_AT)
		return;
	a->data = s->isr;
	s->isr = 0;
	if (s->pci.intx != 0)
		pci_set_intx(dev, &s->pci, false);
}

static void
config_access(struct device *dev, struct device_access *a)
{
	const struct virtio_class *c = class_of(dev);
	uint8_t config[CONFIG_MAX] = { 0 };
	uint64_t at = a->addr - CONFIG_AT;

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
	uint64_t i = (a->addr - NOTIFY_AT) / NOTIFY_STRIDE;

	if (!a->write)
		a->data = 0;
	else if (i < queues(dev))
		ctx->left_at[i] = 0;
}

static void
registers_access(struct device *dev, struct device_access *a)
{
	if (a->addr < COMMON_SIZE)
		common_access(dev, a);
	else if (a->addr >= ISR_AT && a->addr < CONFIG_AT)
		isr_access(dev, a);
	else if (a->addr >= CONFIG_AT && a->addr < NOTIFY_AT)
		config_access(dev, a);
	else if (a->addr >= NOTIFY_AT)
		notify_access(dev, a);
	else if (!a->write)
		a->data = 0;
}

/* ---- the PCI side ---- */

/* 4.1.4.9: registers by way of the configuration space.  True: it was that. */
static bool
indirect_access(
    struct device *dev, const struct function *f, struct device_access *a)
{
	struct virtio_state *s = device_state(dev);
	unsigned cap = pci_capability_offset(&f->pci, f->access);
	unsigned data = cap + (unsigned)offsetof(struct capability, more);
	struct device_access to = *a;
	uint32_t offset, size;

	if (a->addr != data || a->size > 4)
		return false;
	memcpy(&offset, s->pci.config + cap + 8, 4);
	memcpy(&size, s->pci.config + cap + 12, 4);
	if (!a->write)
		a->data = 0;
	if (s->pci.config[cap + 4] != BAR_REGISTERS || offset % a->size != 0 ||
	    (size != 1 && size != 2 && size != 4) || size > a->size ||
	    offset >= REGISTERS_SIZE)
		return true;
	to.region = VIRTIO_REGION_REGISTERS;
	to.addr = offset;
	to.size = (uint8_t)size;
	to.data &= (1ull << (8 * size)) - 1;
	registers_access(dev, &to);
	if (!a->write)
		a->data = to.data;
	return true;
}

static void
pci_side_access(struct device *dev, struct device_access *a)
{
	struct virtio_state *s = device_state(dev);
	bool live = virtio_live(dev);
	struct function f;

	make_function(dev, &f);
	if (a->region == VIRTIO_REGION_MSIX) {
		if (!pci_msix_access(dev, &f.pci, &s->pci, a) && !a->write)
			a->data = 0;
		return;
	}
	if (indirect_access(dev, &f, a))
		return;
	pci_config_access(dev, &f.pci, &s->pci, a);
	/* No bus master any more: RAM is left alone until it is one again, and
	 * finds what was in flight in the log. */
	for (unsigned i = 0; live && !virtio_live(dev) && i < queues(dev); i++)
		close_queue(dev, i);
}

/* ---- what the host calls ---- */

/* Around all that may touch queues. */
static void
begin(struct device *dev)
{
	open_queues(dev);
}

static void
end(struct device *dev)
{
	signal_queues(dev, false);
}

static void
virtio_reset(struct device *dev)
{
	struct virtio_state *s = device_state(dev);
	struct function f;

	make_function(dev, &f);
	pci_reset(dev, &f.pci, &s->pci);
	reset_transport(dev);
	class_of(dev)->reset(dev);
}

static int
virtio_configure(struct device *dev, const char *key, const char *val)
{
	const struct virtio_class *c = class_of(dev);

	return c->configure != NULL ? c->configure(dev, key, val) : -ENOENT;
}

static int
virtio_reconfigure(struct device *dev, const char *key, const char *val)
{
	int rc;

	if (class_of(dev)->reconfigure == NULL)
		return -ENOENT;
	begin(dev);
	rc = class_of(dev)->reconfigure(dev, key, val);
	end(dev);
	return rc;
}

static bool
transport_valid(const void *state)
{
	const struct virtio_state *s = state;

	if (!pci_valid(&s->pci))
		return false;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		const struct vq_state *q = &s->queue[i];

		if (q->size == 0 || q->size > VQ_SIZE_MAX || q->enabled > 1 ||
		    s->queue_epoch[i] > s->epoch ||
		    (q->enabled && s->queue_epoch[i] == 0))
			return false;
	}
	return true;
}

static bool
virtio_valid(struct device *dev, const void *state)
{
	const struct virtio_class *c = class_of(dev);

	return transport_valid(state) && (c->valid == NULL || c->valid(state));
}

static void
virtio_access(struct device *dev, struct device_access *a)
{
	if (a->region == VIRTIO_REGION_REGISTERS)
		registers_access(dev, a);
	else
		pci_side_access(dev, a);
}

static int
virtio_prepare(const struct device_type *type, void *context)
{
	const struct virtio_class *c = type->family;

	return c->prepare != NULL ? c->prepare(context) : 0;
}

static int
virtio_start(struct device *dev, bool fresh)
{
	const struct virtio_class *c = class_of(dev);
	int rc = c->start != NULL ? c->start(dev, fresh) : 0;

	if (rc < 0)
		return rc;
	if (!virtio_valid(dev, device_state(dev)))
		return -EBADMSG;
	begin(dev);
	for (unsigned i = 0; i < queues(dev); i++)
		run_queue(dev, i);
	/* The dead process may have used chains and not said so. */
	signal_queues(dev, !fresh);
	return 0;
}

static void
virtio_doorbell(struct device *dev, unsigned doorbell)
{
	begin(dev);
	if (doorbell < queues(dev))
		run_queue(dev, doorbell);
	end(dev);
}

static void
virtio_ready(struct device *dev, int fd, uint32_t events)
{
	begin(dev);
	class_of(dev)->ready(dev, fd, events);
	end(dev);
}

static void
virtio_link(struct device *dev, unsigned link)
{
	begin(dev);
	class_of(dev)->link(dev, link);
	end(dev);
}

static void
virtio_stream(struct device *dev, unsigned stream, uint64_t now_ns)
{
	if (class_of(dev)->stream == NULL)
		return;
	begin(dev);
	class_of(dev)->stream(dev, stream, now_ns);
	end(dev);
}

static void
virtio_resize(
    struct device *dev, unsigned stream, uint16_t columns, uint16_t rows)
{
	if (class_of(dev)->resize == NULL)
		return;
	begin(dev);
	class_of(dev)->resize(dev, stream, columns, rows);
	end(dev);
}

static bool
virtio_pending(struct device *dev)
{
	const struct virtio_class *c = class_of(dev);

	if (c->pending != NULL && c->pending(dev))
		return true;
	if (!virtio_live(dev))
		return false;
	for (unsigned i = 0; i < queues(dev); i++) {
		if (has_work(dev, i))
			return true;
	}
	return false;
}

static void
virtio_poll(struct device *dev)
{
	begin(dev);
	if (class_of(dev)->poll != NULL)
		class_of(dev)->poll(dev);
	for (unsigned i = 0; i < queues(dev); i++) {
		if (has_work(dev, i))
			run_queue(dev, i);
	}
	end(dev);
}

static uint64_t
virtio_deadline(struct device *dev)
{
	const struct virtio_class *c = class_of(dev);

	return c->deadline != NULL ? c->deadline(dev) : UINT64_MAX;
}

static void
virtio_timer(struct device *dev, uint64_t now_ns)
{
	if (class_of(dev)->timer == NULL)
		return;
	begin(dev);
	class_of(dev)->timer(dev, now_ns);
	end(dev);
}

static bool
virtio_idle(struct device *dev)
{
	const struct virtio_class *c = class_of(dev);

	return c->idle == NULL || c->idle(dev);
}

static void
virtio_settle(struct device *dev)
{
	const struct virtio_state *s = device_state(dev);

	pci_settle(dev, &s->pci);
	if (class_of(dev)->settle != NULL)
		class_of(dev)->settle(dev);
}

const struct device_placement virtio_placement[1] = {
	{
	    .regions = {
		{ .name = "config", .space = DEVICE_PCI_CONFIG, .wiring = true,
		    .base = DEVICE_PCI_ANY, .size = PCI_CONFIG_SIZE },
		{ .name = "registers", .space = DEVICE_MMIO, .bar = true,
		    .size = REGISTERS_SIZE },
		{ .name = "msix", .space = DEVICE_MMIO, .bar = true,
		    .wiring = true, .size = 0x1000 },
	    },
	    .nregions = 3,
	    .irqs = { { .level = true, .pci = true } },
	    .nirqs = 1,
	},
};

const struct device_ops virtio_ops = {
	.reset = virtio_reset,
	.configure = virtio_configure,
	.reconfigure = virtio_reconfigure,
	.valid = transport_valid,
	.access = virtio_access,
	.deadline = virtio_deadline,
	.timer = virtio_timer,
	.stream = virtio_stream,
	.resize = virtio_resize,
	.prepare = virtio_prepare,
	.start = virtio_start,
	.doorbell = virtio_doorbell,
	.ready = virtio_ready,
	.link = virtio_link,
	.pending = virtio_pending,
	.poll = virtio_poll,
	.idle = virtio_idle,
	.settle = virtio_settle,
};
