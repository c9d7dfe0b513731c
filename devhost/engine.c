/* The engine under one device: steps, work, commits, effects. */
#include "devhost/engine.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base.h"

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

void
engine_fail(struct device *dev, int error)
{
	if (dev->error == 0)
		dev->error = error;
}

void
engine_signal(struct device *dev, int fd)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is at its top, so the reader wakes anyway. */
	if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN &&
	    errno != EINTR)
		engine_fail(dev, -errno);
}

static void
settle(struct device *dev)
{
	dev->in_settle = true;
	dev->type->ops->settle(dev);
	dev->in_settle = false;
}

void
engine_commit(struct device *dev)
{
	store_commit(&dev->store);
	settle(dev);
}

/* ---- steps ---- */

/*
 * One in STATS_SAMPLE on the average, at no fixed distance: a driver's loop of
 * two registers must not show one of them only.
 */
static unsigned
next_sample(struct device *dev)
{
	dev->sample_seed = dev->sample_seed * 1664525u + 1013904223u;
	return 2 + (dev->sample_seed >> 16) % (2 * STATS_SAMPLE - 3);
}

static void
timed_access(struct device *dev, struct device_access *a)
{
	uint64_t begin = time_now_ns();

	dev->type->ops->access(dev, a);
	stats_note(&dev->store.stats->handler, time_now_ns() - begin);
	dev->until_sample = next_sample(dev);
}

/* The access itself, on the working copy. */
int
engine_access_step(
    struct device *dev, const struct ring_request *req, uint64_t *answer)
{
	struct stats_device *st = dev->store.stats;
	struct device_access a = {
		.addr = req->addr,
		.data = req->op == RING_READ ? UINT64_MAX : req->data,
		.time_ns = req->time_ns,
		.region = req->region,
		.size = req->size,
		.write = req->op != RING_READ,
		.vcpu = req->vcpu,
	};
	struct fault_hit hit;

	if (a.region >= dev->placement.nregions ||
	    a.addr >= dev->placement.regions[a.region].size)
		return -EPROTO;
	a.data &= ring_size_mask(a.size);
	hit = engine_fault(dev,
	    &(struct fault_request){
		.on = a.write ? FAULT_ON_WRITE : FAULT_ON_READ,
		.region = a.region,
		.address = a.addr,
		.now_ns = a.time_ns,
	    });
	dev->in_access = true;
	if (__builtin_expect(--dev->until_sample == 0, 0))
		timed_access(dev, &a);
	else
		dev->type->ops->access(dev, &a);
	dev->in_access = false;
	if (__builtin_expect(hit.kind == FAULT_CORRUPT, 0))
		a.data ^= hit.value;
	dev->unanswered = hit.kind == FAULT_DROP;
	*answer = a.write ? 0 : a.data & ring_size_mask(a.size);
	stats_add(a.write ? &st->writes : &st->reads, 1);
	if (req->op == RING_WRITE_POSTED)
		stats_add(&st->posted, 1);
	return 0;
}

int
engine_access(
    struct device *dev, const struct ring_request *req, uint64_t *answer)
{
	int rc = engine_access_step(dev, req, answer);

	if (rc == 0)
		engine_commit(dev);
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
	if (__builtin_expect(dev->icount, 0))
		return engine_serve_counted(dev, vcpu, &req);
	if (req.op == RING_SYNC)
		return -EPROTO;
	rc = engine_access_step(dev, &req, &answer);
	if (rc != 0)
		return rc;
	next = p->next + 1;
	p->next = next;
	p->answer = answer;
	store_commit(&dev->store);
	if (__builtin_expect(!dev->unanswered, 1))
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
			engine_signal(dev, dev->irq[i].trigger);
			stats_add(&dev->store.stats->interrupts, 1);
		}
		dev->late_irqs &= ~bit;
	}
	while (dev->late_vectors != 0) {
		unsigned i = (unsigned)__builtin_ctzll(dev->late_vectors);

		engine_signal(dev, dev->vector[i].trigger);
		stats_add(&dev->store.stats->interrupts, 1);
		dev->late_vectors &= dev->late_vectors - 1;
	}
}

void
engine_send_outputs(struct device *dev)
{
	for (unsigned i = 0; dev->late_outputs != 0; i++) {
		uint32_t bit = 1u << i;

		if ((dev->late_outputs & bit) &&
		    stream_kick_consumer(dev->stream[i].out))
			engine_signal(dev, dev->stream[i].out_data);
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
		engine_commit_work(dev);
	} while (s->in_pos != before && stream_available(s->in, s->in_pos) > 0);
}

void
engine_power_button(struct device *dev)
{
	if (!dev->type->ops->power_button)
		return;
	dev->type->ops->power_button(dev);
	engine_commit(dev);
}

void
engine_resize(
    struct device *dev, unsigned stream, uint16_t columns, uint16_t rows)
{
	BUG_ON(stream >= dev->type->nstreams);
	if (!dev->type->ops->resize)
		return;
	dev->type->ops->resize(dev, stream, columns, rows);
	engine_commit_work(dev);
}

int
engine_reconfigure(struct device *dev, unsigned n, const char *const *keys,
    const char *const *values, unsigned *bad)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		*bad = i;
		rc = dev->type->ops->reconfigure
		    ? dev->type->ops->reconfigure(dev, keys[i], values[i])
		    : -ENOENT;
	}
	if (rc != 0) {
		/* What was accepted before the refusal is undone. */
		store_recover(&dev->store);
		return rc;
	}
	engine_commit_work(dev);
	return 0;
}

void
engine_resample(struct device *dev, unsigned irq)
{
	/* The guest's EOI has let the line fall: raise it if it is high. */
	if (dev->irq[irq].level)
		engine_signal(dev, dev->irq[irq].trigger);
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
		engine_commit_work(dev);
		dev->timer_steps++;
	}
	return 0;
}

/* ---- work ---- */

void
engine_commit_work(struct device *dev)
{
	for (unsigned i = 0; i < dev->type->nlinks; i++) {
		struct engine_link *l = &dev->link[i];

		if (l->memory)
			l->full = packet_space(l->tx) <= 0;
	}
	engine_commit(dev);
}

void
engine_doorbell(struct device *dev, unsigned doorbell)
{
	BUG_ON(doorbell >= dev->type->doorbells.count);
	stats_add(&dev->store.stats->doorbells, 1);
	if (!dev->type->ops->doorbell)
		return;
	dev->type->ops->doorbell(dev, doorbell);
	engine_commit_work(dev);
}

void
engine_ready(struct device *dev, int fd, uint32_t events)
{
	dev->type->ops->ready(dev, fd, events);
	engine_commit_work(dev);
}

unsigned
engine_poll(struct device *dev)
{
	const struct device_ops *ops = dev->type->ops;
	unsigned calls = 0;

	for (unsigned i = 0; i < dev->type->nlinks; i++)
		if (engine_link_pending(dev, i)) {
			engine_link(dev, i);
			calls++;
		}
	if (ops->pending && ops->pending(dev)) {
		ops->poll(dev);
		engine_commit_work(dev);
		calls++;
	}
	return calls;
}

bool
engine_idle(struct device *dev)
{
	return !dev->type->ops->idle || dev->type->ops->idle(dev);
}

/* ---- start ---- */

/*
 * A former life may have died between a byte, a packet or an answer and its
 * word: say them again.
 */
static void
say_again(struct device *dev)
{
	const struct store_position *p = store_positions(&dev->store);

	for (unsigned i = 0; i < dev->vcpus; i++)
		ring_answer(&dev->rings->ring[i], p[i].next, p[i].answer);
	for (unsigned i = 0; i < dev->type->nstreams; i++) {
		engine_stream(dev, i);
		engine_signal(dev, dev->stream[i].out_data);
		engine_signal(dev, dev->stream[i].in_space);
	}
	for (unsigned i = 0; i < dev->type->nlinks; i++)
		if (dev->link[i].memory) {
			engine_signal(dev, dev->link[i].tx_data);
			engine_signal(dev, dev->link[i].rx_space);
		}
}

/* All that is committed in the old store, in this version's terms. */
static int
convert(struct device *dev)
{
	const struct store *old = &dev->old;
	struct store *s = &dev->store;

	memset(store_state(s), 0, dev->type->state_size);
	if (!dev->type->convert ||
	    !dev->type->convert(old->shape.state_version,
		store_committed_state(old), old->shape.state_size,
		store_state(s)))
		return -EBADMSG;
	memcpy(store_positions(s), store_committed_positions(old),
	    dev->vcpus * sizeof(struct store_position));
	memcpy(store_wiring(s), store_committed_wiring(old),
	    sizeof(struct store_wiring) +
		dev->type->nvectors * sizeof(struct store_vector));
	memcpy(s->log, old->log, dev->type->log_size);
	store_commit(s);
	return 0;
}

int
engine_start(struct device *dev,
    int (*set_options)(struct device *dev, void *ctx), void *ctx)
{
	const struct device_ops *ops = dev->type->ops;
	bool fresh = store_is_fresh(&dev->store);
	int rc = 0;

	/* Not the first access: that one is slow, whatever it does. */
	dev->sample_seed = (uint32_t)time_now_ns();
	dev->until_sample = next_sample(dev);
	store_recover(&dev->store);
	if (fresh && dev->old.base && !store_is_fresh(&dev->old)) {
		rc = convert(dev);
		fresh = false;
	}
	if (rc < 0)
		return rc;
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
	say_again(dev);
	if (ops->start) {
		rc = ops->start(dev, fresh);
		if (rc < 0)
			return rc;
		engine_commit_work(dev);
	}
	engine_publish(dev);
	return dev->error ? dev->error : !fresh;
}

void
engine_take_up(struct device *dev)
{
	for (unsigned i = 0; i < dev->type->doorbells.count; i++)
		engine_doorbell(dev, i);
	for (unsigned i = 0; i < dev->type->nlinks; i++)
		if (dev->link[i].memory)
			engine_link(dev, i);
}
