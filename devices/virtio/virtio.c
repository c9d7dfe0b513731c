/* Virtio devices: queues, interrupts, and what the host calls. */
#include <errno.h>
#include <string.h>

#include "devices/virtio/virtio_impl.h"
#include "proto/base.h"

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

	return q < virtio_queues(dev) && ctx->vq[q].ready ? &ctx->vq[q] : NULL;
}

void
virtio_close_queue(struct device *dev, unsigned i)
{
	struct virtio_context *ctx = device_context(dev);

	if (ctx->vq[i].ready) {
		if (virtio_class_of(dev)->quiesce != NULL)
			virtio_class_of(dev)->quiesce(dev, i);
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
	virtio_class_of(dev)->queue(dev, i);
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
	bool dropped;
	int rc;

	if (vq == NULL || !virtio_live(dev))
		return false;
	do {
		enum device_fault fault;

		rc = vq_pop(vq, c);
		fault = rc > 0 ? device_fault(dev, q) : DEVICE_FAULT_NONE;
		c->fail = fault == DEVICE_FAULT_ERROR;
		dropped = fault == DEVICE_FAULT_DROP;
	} while (dropped);
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
		if (vector != VIRTIO_NO_VECTOR)
			pci_raise_vector(dev, &s->pci, vector);
		return;
	}
	s->isr |= (uint8_t)isr;
	pci_set_intx(dev, &s->pci, true);
}

static void
signal_queues(struct device *dev)
{
	struct virtio_state *s = device_state(dev);
	struct virtio_context *ctx = device_context(dev);

	for (unsigned i = 0; i < virtio_queues(dev); i++) {
		if (ctx->vq[i].ready && (vq_wants_signal(&ctx->vq[i])))
			interrupt(dev, s->queue[i].vector, VIRTIO_ISR_QUEUE);
	}
}

static void
interrupt_config(struct device *dev)
{
	struct virtio_state *s = device_state(dev);

	if (s->status & VIRTIO_DRIVER_OK)
		interrupt(dev, s->config_vector, VIRTIO_ISR_CONFIG);
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

/* Open the queues that the driver has enabled since we last looked. */
static void
open_queues(struct device *dev)
{
	struct virtio_state *s = device_state(dev);
	struct virtio_context *ctx = device_context(dev);
	struct vq_log *log = device_log(dev);

	for (unsigned i = 0; i < virtio_queues(dev) && virtio_live(dev); i++) {
		struct vq *q = &ctx->vq[i];

		if (!s->queue[i].enabled || q->ready ||
		    ctx->opened_epoch[i] == s->queue_epoch[i])
			continue;
		ctx->opened_epoch[i] = s->queue_epoch[i];
		ctx->left_at[i] = 0;
		if (vq_open(q, dev, i, &s->queue[i], &log[i],
			s->driver_features, s->queue_epoch[i]) < 0)
			virtio_broken(dev, "queue");
		else if (q->taken > 0)
			/* A process that died may have used chains and not
			 * said so. */
			interrupt(dev, s->queue[i].vector, VIRTIO_ISR_QUEUE);
	}
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
	signal_queues(dev);
}

static void
virtio_reset(struct device *dev)
{
	virtio_pci_reset(dev);
	virtio_reset_transport(dev);
	virtio_class_of(dev)->reset(dev);
}

static int
virtio_configure(struct device *dev, const char *key, const char *val)
{
	const struct virtio_class *c = virtio_class_of(dev);
	struct virtio_state *s = device_state(dev);

	if (strcmp(key, "packed") == 0) {
		s->split = strcmp(val, "off") == 0;
		return s->split || strcmp(val, "on") == 0 ? 0 : -EINVAL;
	}
	return c->configure != NULL ? c->configure(dev, key, val) : -ENOENT;
}

static int
virtio_reconfigure(struct device *dev, const char *key, const char *val)
{
	int rc;

	if (virtio_class_of(dev)->reconfigure == NULL)
		return -ENOENT;
	begin(dev);
	rc = virtio_class_of(dev)->reconfigure(dev, key, val);
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

static void
virtio_access(struct device *dev, struct device_access *a)
{
	if (a->region == VIRTIO_REGION_REGISTERS)
		virtio_registers_access(dev, a);
	else
		virtio_pci_access(dev, a);
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
	const struct virtio_class *c = virtio_class_of(dev);
	int rc = 0;

	/* The host has asked transport_valid(), which knows no class. */
	if (c->valid != NULL && !c->valid(device_state(dev)))
		return -EBADMSG;
	if (c->start != NULL)
		rc = c->start(dev, fresh);
	if (rc < 0)
		return rc;
	begin(dev);
	for (unsigned i = 0; i < virtio_queues(dev); i++)
		run_queue(dev, i);
	signal_queues(dev);
	return 0;
}

static void
virtio_doorbell(struct device *dev, unsigned doorbell)
{
	begin(dev);
	if (doorbell < virtio_queues(dev))
		run_queue(dev, doorbell);
	end(dev);
}

static void
virtio_ready(struct device *dev, int fd, uint32_t events)
{
	begin(dev);
	virtio_class_of(dev)->ready(dev, fd, events);
	end(dev);
}

static void
virtio_link(struct device *dev, unsigned link)
{
	begin(dev);
	virtio_class_of(dev)->link(dev, link);
	end(dev);
}

static void
virtio_stream(struct device *dev, unsigned stream, uint64_t now_ns)
{
	if (virtio_class_of(dev)->stream == NULL)
		return;
	begin(dev);
	virtio_class_of(dev)->stream(dev, stream, now_ns);
	end(dev);
}

static void
virtio_resize(
    struct device *dev, unsigned stream, uint16_t columns, uint16_t rows)
{
	if (virtio_class_of(dev)->resize == NULL)
		return;
	begin(dev);
	virtio_class_of(dev)->resize(dev, stream, columns, rows);
	end(dev);
}

static bool
virtio_pending(struct device *dev)
{
	const struct virtio_class *c = virtio_class_of(dev);

	if (c->pending != NULL && c->pending(dev))
		return true;
	if (!virtio_live(dev))
		return false;
	for (unsigned i = 0; i < virtio_queues(dev); i++) {
		if (has_work(dev, i))
			return true;
	}
	return false;
}

static void
virtio_poll(struct device *dev)
{
	begin(dev);
	if (virtio_class_of(dev)->poll != NULL)
		virtio_class_of(dev)->poll(dev);
	for (unsigned i = 0; i < virtio_queues(dev); i++) {
		if (has_work(dev, i))
			run_queue(dev, i);
	}
	end(dev);
}

static uint64_t
virtio_deadline(struct device *dev)
{
	const struct virtio_class *c = virtio_class_of(dev);

	return c->deadline != NULL ? c->deadline(dev) : UINT64_MAX;
}

static void
virtio_timer(struct device *dev, uint64_t now_ns)
{
	if (virtio_class_of(dev)->timer == NULL)
		return;
	begin(dev);
	virtio_class_of(dev)->timer(dev, now_ns);
	end(dev);
}

static bool
virtio_idle(struct device *dev)
{
	const struct virtio_class *c = virtio_class_of(dev);

	return c->idle == NULL || c->idle(dev);
}

static void
virtio_settle(struct device *dev)
{
	const struct virtio_state *s = device_state(dev);

	pci_settle(dev, &s->pci);
	if (virtio_class_of(dev)->settle != NULL)
		virtio_class_of(dev)->settle(dev);
}

const struct device_placement virtio_placement[1] = {
	{
	    .regions = {
		{ .name = "config", .space = DEVICE_PCI_CONFIG, .wiring = true,
		    .base = DEVICE_PCI_ANY, .size = PCI_CONFIG_SIZE },
		{ .name = "registers", .space = DEVICE_MMIO, .bar = true,
		    .size = VIRTIO_REGISTERS_SIZE },
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
