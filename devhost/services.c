/* What a device may ask of its engine, but for guest RAM and links. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "devhost/engine.h"
#include "proto/base.h"

/* One line for the operator per this time. */
#define LINE_INTERVAL_NS 100000000u

void *
device_state(struct device *dev)
{
	return store_state(&dev->store);
}

void
device_commit(struct device *dev)
{
	BUG_ON(dev->in_settle || dev->in_access);
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

void *
device_context(struct device *dev)
{
	return dev->context;
}

const struct device_placement *
device_placement(const struct device *dev)
{
	return &dev->placement;
}

uint64_t
device_now(const struct device *dev)
{
	if (dev->icount)
		return dev->now_ns;
	return time_now_ns() + (uint64_t)dev->clock_offset_ns;
}

uint64_t
device_wall_clock(const struct device *dev)
{
	struct timespec ts;

	/* Every run begins at the same time. */
	if (dev->icount)
		return ICOUNT_EPOCH_NS + dev->now_ns;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- interrupts and wiring ---- */

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
		engine_signal(dev, q->trigger);
		stats_add(&dev->store.stats->interrupts, 1);
	}
	q->level = level;
}

void
device_msi(struct device *dev, unsigned vector, uint64_t count)
{
	struct engine_vector *v = &dev->vector[vector];

	BUG_ON(!dev->in_settle || vector >= dev->type->nvectors);
	if (count == v->sent)
		return;
	v->sent = count;
	/* 0: the device was reset, and has sent nothing since. */
	if (count == 0)
		return;
	dev->late_vectors |= 1ull << vector;
	if (!dev->putting_off)
		engine_send_irqs(dev);
}

void
device_wire_bar(struct device *dev, unsigned region, uint64_t address)
{
	struct store_wiring *w = store_wiring(&dev->store);

	BUG_ON(dev->in_settle || region >= dev->placement.nregions);
	if (w->bar[region] == address)
		return;
	w->bar[region] = address;
	w->generation++;
}

void
device_wire_vector(
    struct device *dev, unsigned vector, uint64_t address, uint32_t data)
{
	struct store_wiring *w = store_wiring(&dev->store);
	struct store_vector *v = &w->vector[vector];

	BUG_ON(dev->in_settle || vector >= dev->type->nvectors);
	if (v->address == address && v->data == data)
		return;
	v->address = address;
	v->data = data;
	w->generation++;
}

void
device_platform(
    struct device *dev, enum device_platform_event event, uint64_t cookie)
{
	BUG_ON(!dev->in_settle);
	dev->platform_event = event;
	dev->platform_cookie = cookie;
}

/* ---- files and statistics ---- */

int
device_file(struct device *dev, unsigned i)
{
	BUG_ON(i >= dev->type->nfiles);
	return dev->file[i];
}

int
device_watch(struct device *dev, int fd, uint32_t events)
{
	BUG_ON(dev->in_settle || !dev->type->ops->ready);
	return dev->watch(dev->watcher, fd, events);
}

void
device_count(struct device *dev, unsigned counter, uint64_t n)
{
	BUG_ON(counter >= dev->type->ncounters);
	stats_add(&dev->store.stats->own[counter], n);
}

void
device_gauge(struct device *dev, unsigned counter, uint64_t value)
{
	BUG_ON(counter >= dev->type->ncounters);
	stats_set(&dev->store.stats->own[counter], value);
}

void
device_count_request(struct device *dev, uint64_t bytes_in, uint64_t bytes_out,
    uint64_t latency_ns)
{
	struct stats_device *st = dev->store.stats;

	stats_add(&st->requests, 1);
	stats_add(&st->bytes_in, bytes_in);
	stats_add(&st->bytes_out, bytes_out);
	if (latency_ns != 0)
		stats_note(&st->request, latency_ns);
}

void
device_queue_depth(struct device *dev, uint64_t n)
{
	struct stats_device *st = dev->store.stats;

	stats_set(&st->queue_depth, n);
	if (n > stats_get(&st->queue_depth_max))
		stats_set(&st->queue_depth_max, n);
}

/* ---- streams ---- */

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

	BUG_ON(dev->in_access || stream >= dev->type->nstreams);
	before = stream_head(s->out);
	/* The head is below pos only if the state and the stream disagree. */
	if (before < pos) {
		engine_fail(dev, -EPROTO);
		return;
	}
	head = before;
	while (head < pos + n) {
		uint64_t last = head;

		rc = stream_put(s->out, pos, bytes, n, &head);
		if (rc < 0) {
			engine_fail(dev, rc);
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
		engine_fail(dev, (int)got);
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
		engine_signal(dev, s->in_space);
}

/* ---- help ---- */

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
