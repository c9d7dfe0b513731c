/* The life of a block device's requests. */
#include "devices/block/block.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "devices/block/parts.h"
#include "proto/base.h"

static void
append(struct block_queue *q, struct block_request *r)
{
	r->next = NULL;
	*q->last = r;
	q->last = &r->next;
}

static struct block_request *
take_first(struct block_queue *q)
{
	struct block_request *r = q->first;

	if (!r)
		return NULL;
	q->first = r->next;
	if (!q->first)
		q->last = &q->first;
	return r;
}

static void
remove_from(struct block_queue *q, struct block_request *r)
{
	struct block_request **p = &q->first;

	while (*p != r)
		p = &(*p)->next;
	*p = r->next;
	if (q->last == &r->next)
		q->last = p;
}

static struct block_request *
allocate(struct block_context *c)
{
	struct block_request *r = c->free;

	if (r)
		c->free = r->next;
	else if (c->never_used < BLOCK_REQUESTS_MAX)
		r = &c->request[c->never_used++];
	else
		return NULL;
	c->nrequests++;
	return r;
}

static bool
overlap(const struct block_request *a, const struct block_request *b)
{
	return a->job.start < b->job.end && b->job.start < a->job.end;
}

static bool
writes(const struct block_request *r)
{
	return r->job.kind == BLOCK_JOB_IO &&
	    (r->job.op == BLOCK_WRITE || r->job.op == BLOCK_DISCARD ||
		r->job.op == BLOCK_ZEROES);
}

/*
 * Note a request that writes, and count the older ones that it must wait for.
 * There are BLOCK_REQUESTS_MAX at most, and seldom more than a few dozen.
 */
static void
note_write(struct block_context *c, struct block_request *r)
{
#ifndef BULKHEAD_BREAK_OVERLAP /* `make prove-broken` shows why */
	for (struct block_request *w = c->newest_write; w; w = w->older)
		r->blockers += overlap(w, r);
#endif
	r->older = c->newest_write;
	r->newer = NULL;
	if (r->older)
		r->older->newer = r;
	else
		c->oldest_write = r;
	c->newest_write = r;
}

static void start(struct device *dev, struct block_request *r);

static void
forget_write(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);
	struct block_request *w = r->newer;

	if (r->older)
		r->older->newer = r->newer;
	else
		c->oldest_write = r->newer;
	if (r->newer)
		r->newer->older = r->older;
	else
		c->newest_write = r->older;
	/* Starting one never ends it here, so the list stays as it is. */
	for (; w; w = w->newer)
		if (overlap(w, r) && --w->blockers == 0 &&
		    w->place == BLOCK_OLDER)
			start(dev, w);
}

/* Take a request out of everything; its chain is used, or given up. */
static void
release(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);

	block_release_bounce(c, r);
	if (r->place == BLOCK_STARTED)
		c->nstarted--;
	r->place = BLOCK_FREE;
	if (writes(r))
		forget_write(dev, r);
	r->next = c->free;
	c->free = r;
	c->nrequests--;
	device_queue_depth(dev, c->nrequests);
}

static void
count(struct device *dev, const struct block_request *r)
{
	static const unsigned counter[] = {
		[BLOCK_READ] = BLOCK_COUNT_READS,
		[BLOCK_WRITE] = BLOCK_COUNT_WRITES,
		[BLOCK_FLUSH] = BLOCK_COUNT_FLUSHES,
		[BLOCK_DISCARD] = BLOCK_COUNT_DISCARDS,
		[BLOCK_ZEROES] = BLOCK_COUNT_ZEROES,
	};
	uint64_t bytes = r->job.end - r->job.start;

	if (r->job.kind == BLOCK_JOB_IO)
		device_count(dev, counter[r->job.op], 1);
	device_count_request(dev, r->job.op == BLOCK_READ ? bytes : 0,
	    r->job.op == BLOCK_WRITE ? bytes : 0,
	    device_now(dev) - r->taken_ns);
}

/* Answer: the status byte, which is the last one, then the used ring. */
static void
finish(struct device *dev, struct block_request *r, uint8_t status)
{
	if (!r->dropped) {
		vq_write(&r->chain, r->chain.in_bytes - 1, &status, 1);
		virtio_push(dev, r->queue, &r->chain, r->chain.in_bytes);
		count(dev, r);
		if (status != VIRTIO_BLK_S_OK)
			device_count(dev, BLOCK_COUNT_ERRORS, 1);
	}
	release(dev, r);
}

/*
 * Note whether anything is under way, before it is and after it was.  What the
 * next process reads must have been true at this one's death, so the order of
 * the stores and of the system calls is all; the machine does not matter.
 */
static void
note_under_way(struct device *dev, bool is)
{
	uint8_t *log = device_log(dev);
	struct block_log *l = (struct block_log *)(void *)(log +
	    VIRTIO_LOG_SIZE(BLOCK_QUEUES_MAX));

	if (l->under_way != is)
		__atomic_store_n(&l->under_way, is, __ATOMIC_SEQ_CST);
}

static void
submit(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);

	note_under_way(dev, true);
	if (block_submit_piece(dev, r)) {
		r->place = BLOCK_STARTED;
		return;
	}
	/* Only before its first piece: later it has a buffer. */
	c->nstarted--;
	r->place = BLOCK_BOUNCE;
	append(&c->bounce, r);
}

static void
start(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);

	if (r->blockers > 0) {
		r->place = BLOCK_OLDER;
		device_count(dev, BLOCK_COUNT_OVERLAPS, 1);
		return;
	}
	c->nstarted++;
	submit(dev, r);
}

/* The backend has ended a piece. */
static void
ended(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);
	struct block_request *w;
	int rc = block_end_piece(dev, r);

	if (rc == 0 && !r->dropped) {
		submit(dev, r);
		return;
	}
	if (rc < 0)
		device_log_line(dev, "disk: %s at byte %llu: %s",
		    r->job.op == BLOCK_READ ? "read" : "write",
		    (unsigned long long)r->io.offset, strerror(-rc));
	finish(
	    dev, r, (uint8_t)(rc < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK));
	while (c->nbounces > 0 && (w = take_first(&c->bounce)) != NULL) {
		c->nstarted++;
		submit(dev, w);
	}
}

static void
reap(struct device *dev)
{
	struct block_context *c = device_context(dev);
	struct block_io *io;

	while ((io = c->backend->ops->reap(c->backend)) != NULL)
		ended(dev,
		    (struct block_request *)((char *)io -
			offsetof(struct block_request, io)));
}

/* Start what tokens have come for. */
static void
spend_tokens(struct device *dev, uint64_t now)
{
	struct block_context *c = device_context(dev);
	struct block_state *s = device_state(dev);

	c->due = false;
	while (throttle_may(&s->throttle, now)) {
		struct block_request *r = take_first(&c->tokens);

		if (!r)
			break;
		throttle_take(&s->throttle, r->job.end - r->job.start, now);
		start(dev, r);
	}
}

static void
give_id(struct device *dev, struct block_request *r)
{
	const struct block_state *s = device_state(dev);
	size_t n = MIN(r->chain.in_bytes - 1, BLOCK_ID_SIZE);

	vq_write(&r->chain, 0, s->serial, n);
	finish(dev, r, VIRTIO_BLK_S_OK);
}

/* A chain has been taken: what is to be done with it? */
static void
begin(struct device *dev, struct block_request *r)
{
	struct block_context *c = device_context(dev);
	struct block_state *s = device_state(dev);

	if (r->chain.fail) {
		finish(dev, r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (r->job.kind == BLOCK_JOB_DONE) {
		finish(dev, r, r->job.status);
		return;
	}
	if (r->job.kind == BLOCK_JOB_ID) {
		give_id(dev, r);
		return;
	}
	if (r->job.op == BLOCK_FLUSH && s->cache == BLOCK_CACHE_UNSAFE) {
		finish(dev, r, VIRTIO_BLK_S_OK);
		return;
	}
	if (writes(r)) {
		/* Writes ask for it themselves; these cannot. */
		r->sync_last =
		    r->job.op != BLOCK_WRITE && block_is_durable(dev);
		note_write(c, r);
	}
	if (r->job.op != BLOCK_FLUSH && r->job.op != BLOCK_DISCARD) {
		if (c->tokens.first ||
		    !throttle_may(&s->throttle, r->taken_ns)) {
			r->place = BLOCK_TOKENS;
			append(&c->tokens, r);
			device_count(dev, BLOCK_COUNT_THROTTLED, 1);
			return;
		}
		throttle_take(
		    &s->throttle, r->job.end - r->job.start, r->taken_ns);
	}
	start(dev, r);
}

static void
take_chains(struct device *dev, unsigned q)
{
	struct block_context *c = device_context(dev);
	struct block_limits limits;
	struct block_request *r;
	uint64_t now = device_now(dev);

	block_get_limits(dev, &limits);
	while (virtio_live(dev)) {
		r = allocate(c);
		if (!r) {
			c->starved = true;
			return;
		}
		memset(r, 0, offsetof(struct block_request, chain));
		r->bounce = -1;
		r->queue = (uint16_t)q;
		r->taken_ns = now;
		if (!virtio_pop(dev, q, &r->chain)) {
			r->next = c->free;
			c->free = r;
			c->nrequests--;
			return;
		}
		if (r->chain.again)
			device_count(dev, BLOCK_COUNT_AGAIN, 1);
		if (block_parse(&r->chain, &limits, &r->job) != 0) {
			r->next = c->free;
			c->free = r;
			c->nrequests--;
			virtio_broken(dev,
			    "a disk request without room for its header or "
			    "status");
			return;
		}
		begin(dev, r);
	}
}

static bool
was_under_way(struct device *dev)
{
	uint8_t *log = device_log(dev);

	return ((struct block_log *)(void *)(log +
		    VIRTIO_LOG_SIZE(BLOCK_QUEUES_MAX)))
		   ->under_way != 0;
}

/* The end of all work: give the backend its batch, and tell what is there. */
static void
end_work(struct device *dev)
{
	struct block_context *c = device_context(dev);

	while (c->starved && c->nrequests < BLOCK_REQUESTS_MAX) {
		c->starved = false;
		for (unsigned q = 0; q < BLOCK_QUEUES_MAX; q++)
			if (virtio_queue(dev, q))
				take_chains(dev, q);
	}
	c->backend->ops->kick(c->backend);
	if (c->open && c->backend->in_flight == 0)
		note_under_way(dev, false);
	device_queue_depth(dev, c->nrequests);
}

static void
work(struct device *dev, uint64_t now)
{
	struct block_context *c = device_context(dev);

	if (!c->backend)
		return;
	do {
		reap(dev);
		spend_tokens(dev, now);
		end_work(dev);
		/* A synchronous backend has already ended what it was given. */
	} while (c->backend->ops->pending(c->backend));
}

void
block_queue(struct device *dev, unsigned q)
{
	struct block_context *c = device_context(dev);

	if (!c->backend || !c->open)
		return;
	take_chains(dev, q);
	end_work(dev);
}

/* The predecessor's requests have all ended. */
static int
open_fence(struct device *dev)
{
	struct block_context *c = device_context(dev);
	int rc = 0;

	if (c->fence_read_end >= 0)
		rc = fence_leave(&c->fence, c->fence_read_end);
	if (rc != 0)
		return rc;
	c->open = true;
	note_under_way(dev, false);
	/* Those that the driver has enabled meanwhile. */
	c->starved = true;
	return 0;
}

/* Look whether the fence is open; else have somebody call when it is. */
static int
try_fence(struct device *dev)
{
	struct block_context *c = device_context(dev);
	int rc;

	/* It may be closed in what follows. */
	if (c->fence.behind >= 0)
		(void)device_watch(dev, c->fence.behind, 0);
	rc = fence_poll(&c->fence);
	while (rc == 0 && !was_under_way(dev)) {
		fence_give_up(&c->fence);
		rc = fence_poll(&c->fence);
	}
	if (rc < 0)
		return rc;
	if (rc == 1)
		return open_fence(dev);
	return device_watch(dev, c->fence.behind, EPOLLIN);
}

int
block_start(struct device *dev, struct block_backend *b, int mailbox,
    int fence_read_end)
{
	struct block_context *c = device_context(dev);
	int rc;

	c->tokens.last = &c->tokens.first;
	c->bounce.last = &c->bounce.first;
	c->bounces = (uint8_t(*)[BLOCK_BOUNCE_SIZE])(
	    ((uintptr_t)c->memory + 4095) & ~(uintptr_t)4095);
	for (unsigned i = 0; i < BLOCK_BOUNCES; i++)
		c->free_bounce[c->nbounces++] = (int)i;
	c->fence_read_end = fence_read_end;
	fence_open(&c->fence, mailbox, false);
	rc = block_find_size(dev, b);
	if (rc != 0)
		return rc;
	c->backend = b;
	return try_fence(dev);
}

void
block_ready(struct device *dev, int fd, uint32_t events)
{
	struct block_context *c = device_context(dev);

	if (!c->backend)
		return;
	if (!c->open && fd == c->fence.behind) {
		if (try_fence(dev) < 0)
			device_log_line(dev, "disk: the fence is broken");
	} else {
		c->backend->ops->ready(c->backend, fd, events);
	}
	block_poll(dev);
}

bool
block_pending(struct device *dev)
{
	struct block_context *c = device_context(dev);

	return c->backend && (c->due || c->backend->ops->pending(c->backend));
}

void
block_poll(struct device *dev)
{
	work(dev, device_now(dev));
}

uint64_t
block_deadline(struct device *dev)
{
	struct block_context *c = device_context(dev);
	const struct block_state *s = device_state(dev);
	uint64_t when = UINT64_MAX;

	if (!c->backend)
		return when;
	if (c->backend->ops->deadline)
		when = c->backend->ops->deadline(c->backend);
	if (c->tokens.first)
		when = MIN(when, throttle_when(&s->throttle));
	return when;
}

void
block_timer(struct device *dev, uint64_t now_ns)
{
	struct block_context *c = device_context(dev);

	if (!c->backend)
		return;
	if (c->backend->ops->timer)
		c->backend->ops->timer(c->backend, now_ns);
	work(dev, now_ns);
}

/* Drop what has not been started of a queue: its chains stay in the log. */
static void
drop_waiting(struct device *dev, unsigned q)
{
	struct block_context *c = device_context(dev);

	for (unsigned i = 0; i < c->never_used; i++) {
		struct block_request *r = &c->request[i];

		if (r->place == BLOCK_FREE || r->queue != q)
			continue;
		r->dropped = true;
		if (r->place == BLOCK_STARTED)
			continue;
		if (r->place == BLOCK_TOKENS)
			remove_from(&c->tokens, r);
		else if (r->place == BLOCK_BOUNCE)
			remove_from(&c->bounce, r);
		release(dev, r);
	}
}

static bool
has_requests(const struct block_context *c, unsigned q)
{
	for (unsigned i = 0; i < c->never_used; i++)
		if (c->request[i].place != BLOCK_FREE &&
		    c->request[i].queue == q)
			return true;
	return false;
}

/* What a predecessor has started may touch the driver's buffers. */
static void
await_fence(struct device *dev)
{
	struct block_context *c = device_context(dev);

	if (c->open)
		return;
	if (c->fence.behind >= 0)
		(void)device_watch(dev, c->fence.behind, 0);
	if (fence_wait(&c->fence) == 0)
		(void)open_fence(dev);
}

void
block_driver_reset(struct device *dev)
{
	struct block_context *c = device_context(dev);
	struct block_state *s = device_state(dev);

	s->writeback = block_first_writeback(s);
	/* A queue that this process has not opened was not quiesced. */
	if (c->backend)
		await_fence(dev);
}

void
block_quiesce(struct device *dev, unsigned q)
{
	struct block_context *c = device_context(dev);

	if (!c->backend)
		return;
	await_fence(dev);
	drop_waiting(dev, q);
	while (has_requests(c, q)) {
		(void)c->backend->ops->wait(c->backend);
		reap(dev);
	}
	end_work(dev);
}

bool
block_idle(struct device *dev)
{
	const struct block_context *c = device_context(dev);

	return c->nstarted == 0;
}
