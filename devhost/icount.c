/*
 * Requests when guest time follows instructions (--icount): the vCPU waits for
 * every effect of a request, so that it meets all of them at the same
 * instruction in every run.  Effects come before the answer; a device that dies
 * between the two performs them again, as ever.
 */
#include <sched.h>
#include <unistd.h>

#include "devhost/engine.h"
#include "proto/base.h"

#define POLLS_MAX     64u
#define OUTPUT_ENOUGH 4096u /* bytes */
#define OUTPUT_NS     1000000000u /* how long its reader may take */

void
engine_publish(struct device *dev)
{
	const struct device_ops *ops = dev->type->ops;

	if (!dev->icount)
		return;
	atomic_store_explicit(&dev->rings->deadline_ns,
	    ops->deadline ? ops->deadline(dev) : UINT64_MAX,
	    memory_order_relaxed);
	if (dev->platform_cookie != dev->platform_sent)
		atomic_store_explicit(
		    &dev->rings->platform, 1, memory_order_relaxed);
}

static bool
was_told(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

/* Everything at hand.  Is something begun and not ended? */
static uint64_t
sync_step(struct device *dev)
{
	for (unsigned i = 0; i < dev->placement.nirqs; i++)
		if (dev->irq[i].resample >= 0 && was_told(dev->irq[i].resample))
			engine_resample(dev, i);
	for (unsigned i = 0; i < dev->type->doorbells.count; i++)
		if (was_told(dev->doorbell[i]))
			engine_doorbell(dev, i);
	engine_timer(dev);
	for (unsigned n = 0; n < POLLS_MAX && engine_poll(dev) > 0; n++)
		continue;
	return !engine_idle(dev);
}

/* Whether an output is full depends on its reader, which is given the time. */
static void
await_output(struct device *dev)
{
	uint64_t start = 0;

	for (unsigned i = 0; i < dev->type->nstreams; i++) {
		while (stream_space(dev->stream[i].out) < OUTPUT_ENOUGH) {
			if (dev->stuck)
				return;
			engine_send_outputs(dev);
			if (start == 0)
				start = time_now_ns();
			dev->stuck = time_now_ns() - start > OUTPUT_NS;
			sched_yield();
		}
	}
	dev->stuck = false;
}

int
engine_serve_counted(
    struct device *dev, unsigned vcpu, const struct ring_request *req)
{
	struct store_position *p;
	uint64_t next, answer = 0;
	int rc = 0;

	dev->now_ns = req->time_ns;
	atomic_store_explicit(
	    &dev->rings->now_ns, dev->now_ns, memory_order_relaxed);
	await_output(dev);
	dev->unanswered = false;
	if (req->op == RING_SYNC)
		answer = sync_step(dev);
	else
		rc = engine_access_step(dev, req, &answer);
	if (rc != 0)
		return rc;
	p = &store_positions(&dev->store)[vcpu];
	next = p->next + 1;
	p->next = next;
	p->answer = answer;
	engine_commit(dev);
	engine_send_irqs(dev);
	engine_publish(dev);
	if (!dev->unanswered)
		ring_answer(&dev->rings->ring[vcpu], next, answer);
	return 1;
}
