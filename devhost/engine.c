/* The engine under one device: steps, commits, effects. */
#include "devhost/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base.h"

/* One line for the operator per this time. */
#define LINE_INTERVAL_NS 100000000u
/* A timer that is always due must not keep the loop from the rest. */
#define TIMER_STEPS_MAX 64

const struct device_type *
device_type_find(const char *name)
{
	DEVTYPE_FOREACH (t)
		if (strcmp((*t)->name, name) == 0)
			return *t;
	return NULL;
}

static void
fail(struct device *dev, int error)
{
	if (dev->error == 0)
		dev->error = error;
}

static void
signal_fd(struct device *dev, int fd)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is at its top, so the reader wakes anyway. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN &&
	    errno != EINTR)
		fail(dev, -errno);
}

static void
settle(struct device *dev)
{
	dev->in_settle = true;
	dev->type->ops->settle(dev);
	dev->in_settle = false;
}

static void
commit(struct device *dev)
{
	store_commit(&dev->store);
	settle(dev);
}

/* ---- steps ---- */

/* The access itself, on the working copy. */
static int
access_step(
    struct device *dev, const struct ring_request *req, uint64_t *answer)
{
	struct device_access a = {
		.addr = req->addr,
		.data = req->op == RING_READ ? UINT64_MAX : req->data,
		.time_ns = req->time_ns,
		.region = req->region,
		.size = req->size,
		.write = req->op != RING_READ,
		.vcpu = req->vcpu,
	};

	if (a.region >= dev->placement.nregions ||
	    a.addr >= dev->placement.regions[a.region].size)
		return -EPROTO;
	a.data &= ring_size_mask(a.size);
	dev->type->ops->access(dev, &a);
	*answer = a.write ? 0 : a.data & ring_size_mask(a.size);
	stats_add(a.write ? &dev->store.stats->writes
			    : &dev->store.stats->reads,
	    1);
	return 0;
}

int
engine_access(
    struct device *dev, const struct ring_request *req, uint64_t *answer)
{
	int rc = access_step(dev, req, answer);

	if (rc == 0)
		commit(dev);
	return rc;
}

int
engine_serve(struct device *dev, unsigned vcpu)
{
	struct ring *r = &dev->rings->ring[vcpu];
	struct store_position *p = &store_positions(&dev->store)[vcpu];
	struct ring_request req;
	uint64_t next, answer;
	int rc;

	rc = ring_take(r, vcpu, p->next, &req);
	if (rc <= 0)
		return rc;
	rc = access_step(dev, &req, &answer);
	if (rc != 0)
		return rc;
	next = p->next + 1;
	p->next = next;
	p->answer = answer;
	store_commit(&dev->store);
	ring_answer(r, next, answer);
	dev->putting_off = true;
	settle(dev);
	dev->putting_off = false;
	return 1;
}

void
engine_send_irqs(struct device *dev)
{
	for (unsigned i = 0; dev->late_irqs != 0; i++) {
		uint32_t bit = 1u << i;

		/* The guest may have seen to it meanwhile. */
		if ((dev->late_irqs & bit) && dev->irq[i].level) {
			signal_fd(dev, dev->irq[i].trigger);
			stats_add(&dev->store.stats->interrupts, 1);
		}
		dev->late_irqs &= ~bit;
	}
}

void
engine_send_outputs(struct device *dev)
{
	for (unsigned i = 0; dev->late_outputs != 0; i++) {
		uint32_t bit = 1u << i;

		if ((dev->late_outputs & bit) &&
		    stream_kick_consumer(dev->stream[i].out))
			signal_fd(dev, dev->stream[i].out_data);
		dev->late_outputs &= ~bit;
	}
}

void
engine_stream(struct device *dev, unsigned stream)
{
	struct engine_stream *s = &dev->stream[stream];
	uint64_t before;

	if (!dev->type->ops->stream)
		return;
	/* Arm, then look: a byte put after the look kicks us. */
	do {
		stream_arm_consumer(s->in);
		before = s->in_pos;
		dev->type->ops->stream(dev, stream, device_now(dev));
		commit(dev);
	} while (s->in_pos != before && stream_available(s->in, s->in_pos) > 0);
}

void
engine_power_button(struct device *dev)
{
	if (!dev->type->ops->power_button)
		return;
	dev->type->ops->power_button(dev);
	commit(dev);
}

void
engine_resample(struct device *dev, unsigned irq)
{
	/* The guest's EOI has let the line fall: raise it if it is high. */
	if (dev->irq[irq].level)
		signal_fd(dev, dev->irq[irq].trigger);
}

uint64_t
engine_timer(struct device *dev)
{
	const struct device_ops *ops = dev->type->ops;
	uint64_t due, now = 0;

	if (!ops->deadline)
		return UINT64_MAX;
	for (unsigned n = 0; n < TIMER_STEPS_MAX; n++) {
		due = ops->deadline(dev);
		if (due == UINT64_MAX)
			return UINT64_MAX;
		now = device_now(dev);
		if (due > now)
			return due - now;
		ops->timer(dev, now);
		commit(dev);
	}
	return 0;
}

int
engine_start(struct device *dev,
    int (*set_options)(struct device *dev, void *ctx), void *ctx)
{
	const struct device_ops *ops = dev->type->ops;
	const struct store_position *p;
	bool fresh = store_is_fresh(&dev->store);
	int rc;

	store_recover(&dev->store);
	if (fresh) {
		memset(store_state(&dev->store), 0, dev->type->state_size);
		ops->reset(dev);
		rc = set_options ? set_options(dev, ctx) : 0;
		if (rc < 0)
			return rc;
		store_commit(&dev->store);
	} else {
		if (ops->valid && !ops->valid(store_state(&dev->store)))
			return -EBADMSG;
		stats_add(&dev->store.stats->recoveries, 1);
	}
	settle(dev);
	p = store_positions(&dev->store);
	for (unsigned i = 0; i < dev->vcpus; i++)
		ring_answer(&dev->rings->ring[i], p[i].next, p[i].answer);
	for (unsigned i = 0; i < dev->type->nstreams; i++) {
		engine_stream(dev, i);
		/* A former life may have died between a byte and its word. */
		signal_fd(dev, dev->stream[i].out_data);
		signal_fd(dev, dev->stream[i].in_space);
	}
	return dev->error ? dev->error : !fresh;
}

/* ---- what a device may ask for ---- */

void *
device_state(struct device *dev)
{
	return store_state(&dev->store);
}

void
device_commit(struct device *dev)
{
	BUG_ON(dev->in_settle);
	store_commit(&dev->store);
}

const struct device_type *
device_type(const struct device *dev)
{
	return dev->type;
}

void *
device_log(struct device *dev)
{
	return dev->store.log;
}

const struct device_placement *
device_placement(const struct device *dev)
{
	return &dev->placement;
}

uint64_t
device_now(const struct device *dev)
{
	return time_now_ns() + (uint64_t)dev->clock_offset_ns;
}

uint64_t
device_wall_clock(const struct device *dev UNUSED)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void
device_irq(struct device *dev, unsigned irq, uint64_t level)
{
	struct engine_irq *q = &dev->irq[irq];

	BUG_ON(!dev->in_settle || irq >= dev->placement.nirqs);
	if (level == q->level)
		return;
	if (level && q->resample < 0 && dev->putting_off) {
		dev->late_irqs |= 1u << irq;
	} else if (level) {
		signal_fd(dev, q->trigger);
		stats_add(&dev->store.stats->interrupts, 1);
	}
	q->level = level;
}

uint64_t
device_output_head(struct device *dev, unsigned stream)
{
	BUG_ON(stream >= dev->type->nstreams);
	return stream_head(dev->stream[stream].out);
}

size_t
device_output_space(struct device *dev, unsigned stream)
{
	BUG_ON(stream >= dev->type->nstreams);
	return stream_space(dev->stream[stream].out);
}

void
device_output(struct device *dev, unsigned stream, uint64_t pos,
    const void *bytes, size_t n)
{
	struct engine_stream *s = &dev->stream[stream];
	uint64_t before, head;
	bool armed = false;
	int rc;

	BUG_ON(stream >= dev->type->nstreams);
	before = stream_head(s->out);
	/* The head is below pos only if the state and the stream disagree. */
	if (before < pos) {
		fail(dev, -EPROTO);
		return;
	}
	head = before;
	while (head < pos + n) {
		uint64_t last = head;

		rc = stream_put(s->out, pos, bytes, n, &head);
		if (rc < 0) {
			fail(dev, rc);
			return;
		}
		if (head != last)
			continue;
		if (armed)
			break;
		stream_arm_producer(s->out);
		armed = true;
	}
	if (head == before)
		return;
	stats_add(&dev->store.stats->bytes_out, head - before);
	dev->late_outputs |= 1u << stream;
	if (!dev->putting_off)
		engine_send_outputs(dev);
}

uint64_t
device_input_start(struct device *dev, unsigned stream)
{
	struct stream *in;

	BUG_ON(stream >= dev->type->nstreams);
	in = dev->stream[stream].in;
	/* Attached: by us, in a life that ended before its first commit. */
	if (atomic_load_explicit(&in->attached, memory_order_relaxed))
		return atomic_load_explicit(&in->tail, memory_order_relaxed);
	return stream_attach(in);
}

size_t
device_input_peek(
    struct device *dev, unsigned stream, uint64_t pos, void *bytes, size_t n)
{
	ssize_t got;

	BUG_ON(stream >= dev->type->nstreams);
	got = stream_peek(dev->stream[stream].in, pos, bytes, n);
	if (got < 0) {
		fail(dev, (int)got);
		return 0;
	}
	return (size_t)got;
}

void
device_input_consume(struct device *dev, unsigned stream, uint64_t pos)
{
	struct engine_stream *s = &dev->stream[stream];

	BUG_ON(!dev->in_settle || stream >= dev->type->nstreams);
	if (pos == s->in_pos)
		return;
	stats_add(&dev->store.stats->bytes_in, pos - s->in_pos);
	s->in_pos = pos;
	stream_release(s->in, pos);
	if (stream_kick_producer(s->in))
		signal_fd(dev, s->in_space);
}

void
device_platform(
    struct device *dev, enum device_platform_event event, uint64_t cookie)
{
	BUG_ON(!dev->in_settle);
	dev->platform_event = event;
	dev->platform_cookie = cookie;
}

void
device_access_bytes(struct device *dev, struct device_access *a, unsigned size,
    uint8_t (*read_byte)(
	struct device *dev, const struct device_access *a, unsigned offset),
    void (*write_byte)(struct device *dev, const struct device_access *a,
	unsigned offset, uint8_t value))
{
	uint64_t data = 0;

	for (unsigned i = 0; i < a->size; i++) {
		uint64_t offset = a->addr + i;
		uint8_t byte = 0xff;

		if (a->write && offset < size)
			write_byte(dev, a, (unsigned)offset,
			    (uint8_t)(a->data >> (8 * i)));
		else if (!a->write && offset < size)
			byte = read_byte(dev, a, (unsigned)offset);
		data |= (uint64_t)byte << (8 * i);
	}
	if (!a->write)
		a->data = data;
}

void
device_log_line(struct device *dev, const char *fmt, ...)
{
	uint64_t now = time_now_ns();
	va_list ap;

	if (dev->line[0] || now - dev->line_ns < LINE_INTERVAL_NS)
		return;
	dev->line_ns = now;
	va_start(ap, fmt);
	vsnprintf(dev->line, sizeof(dev->line), fmt, ap);
	va_end(ap);
}
