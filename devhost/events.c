/*
 * The fds of a device host: what is done when one is ready.
 *
 * The loop's thread only.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "devhost/host_impl.h"
#include "proto/base.h"

/* Spin between two looks at the fds of the work; where it can be polled for. */
#define LOOK_NS	       5000u
#define LOOK_POLLED_NS 20000u

static void
drain(evutil_socket_t fd)
{
	uint64_t count;

	/* Nothing there: somebody else's wake-up; the reader looks anyway. */
	if (read(fd, &count, sizeof(count)) < 0)
		return;
}

/* The loop looks at rings, deadlines and effects in every turn. */
void
host_on_wake(evutil_socket_t fd, short what, void *ctx UNUSED)
{
	if (!(what & EV_TIMEOUT))
		drain(fd);
}

static void
on_resample(evutil_socket_t fd, short what UNUSED, void *ctx)
{
	struct host *h = ctx;

	drain(fd);
	pthread_mutex_lock(&h->lock);
	for (unsigned i = 0; i < h->dev.placement.nirqs; i++)
		if (h->dev.irq[i].resample == fd)
			engine_resample(&h->dev, i);
	pthread_mutex_unlock(&h->lock);
}

static void
on_stream(evutil_socket_t fd, short what UNUSED, void *ctx)
{
	struct host *h = ctx;

	drain(fd);
	pthread_mutex_lock(&h->lock);
	for (unsigned i = 0; i < h->type->nstreams; i++)
		if (h->dev.stream[i].in_data == fd ||
		    h->dev.stream[i].out_space == fd)
			engine_stream(&h->dev, i);
	pthread_mutex_unlock(&h->lock);
}

int
host_add_event(
    struct host *h, struct event *ev, int fd, event_callback_fn fn, void *ctx)
{
	if (event_assign(ev, h->base, fd, EV_READ | EV_PERSIST, fn, ctx) < 0 ||
	    event_add(ev, NULL) < 0)
		return -ENOMEM;
	return 0;
}

static void
on_doorbell(evutil_socket_t fd, short what UNUSED, void *ctx)
{
	struct host_source *s = ctx;
	struct host *h = s->host;

	drain(fd);
	/* One that is to finish takes on nothing: the next process will. */
	if (h->finish_by_ns != 0 || !host_before_work(h))
		return;
	host_lock_inline(h);
	engine_doorbell(&h->dev, s->index);
	host_unlock_inline(h);
	host_after_work(h);
}

static void
on_link(evutil_socket_t fd, short what UNUSED, void *ctx)
{
	struct host_source *s = ctx;
	struct host *h = s->host;

	drain(fd);
	if (h->finish_by_ns != 0 || !host_before_work(h))
		return;
	host_lock_inline(h);
	if (engine_link_pending(&h->dev, s->index))
		engine_link(&h->dev, s->index);
	host_unlock_inline(h);
	host_after_work(h);
}

static void
on_ready(evutil_socket_t fd, short what, void *ctx)
{
	struct host_watched *w = ctx;
	struct host *h = w->host;
	uint32_t events = (what & EV_READ ? (uint32_t)EPOLLIN : 0) |
	    (what & EV_WRITE ? (uint32_t)EPOLLOUT : 0);

	/* A call before this one in the same turn may have ended the watch. */
	events &= w->events;
	if (!host_before_work(h) || events == 0)
		return;
	host_lock_inline(h);
	engine_ready(&h->dev, fd, events);
	host_unlock_inline(h);
	host_after_work(h);
}

/* Room for the watch of an fd, kept for the fds that get its number later. */
static struct host_watched *
watched_of(struct host *h, unsigned fd)
{
	if (fd >= h->nwatched) {
		unsigned n = MAX(fd + 1, 2 * h->nwatched);
		struct host_watched **more =
		    realloc(h->watched, n * sizeof(struct host_watched *));

		if (!more)
			return NULL;
		for (unsigned i = h->nwatched; i < n; i++)
			more[i] = NULL;
		h->watched = more;
		h->nwatched = n;
	}
	if (!h->watched[fd])
		h->watched[fd] = calloc(1, sizeof(struct host_watched));
	return h->watched[fd];
}

int
host_watch(void *ctx, int fd, uint32_t events)
{
	struct host *h = ctx;
	struct host_watched *w;
	short what = (short)(EV_PERSIST | (events & EPOLLIN ? EV_READ : 0) |
	    (events & EPOLLOUT ? EV_WRITE : 0));

	BUG_ON(fd < 0);
	w = watched_of(h, (unsigned)fd);
	if (!w)
		return -ENOMEM;
	if (w->events == events)
		return 0;
	if (w->events != 0)
		event_del(&w->event);
	w->host = h;
	w->events = events;
	if (events == 0)
		return 0;
	h->slice_ns = MIN(h->slice_ns, LOOK_POLLED_NS);
	if (event_assign(&w->event, h->base, fd, what, on_ready, w) < 0 ||
	    event_add(&w->event, NULL) < 0) {
		w->events = 0;
		return -ENOMEM;
	}
	return 0;
}

static int
watch_source(struct host *h, struct host_source *s, unsigned index, int fd,
    event_callback_fn fn)
{
	s->host = h;
	s->index = index;
	return host_add_event(h, &s->event, fd, fn, s);
}

int
host_add_events(struct host *h)
{
	struct device *d = &h->dev;
	int rc;

	rc = host_add_event(h, &h->kick, d->kick, host_on_wake, h);
	for (unsigned i = 0; rc == 0 && i < d->placement.nirqs; i++)
		if (d->irq[i].resample >= 0)
			rc = host_add_event(h, &h->resample[i],
			    d->irq[i].resample, on_resample, h);
	for (unsigned i = 0; rc == 0 && i < h->type->nstreams; i++) {
		rc = host_add_event(
		    h, &h->space[i], d->stream[i].out_space, on_stream, h);
		if (rc == 0)
			rc = host_add_event(
			    h, &h->data[i], d->stream[i].in_data, on_stream, h);
	}
	/* With icount the vCPU says when they are looked at. */
	for (unsigned i = 0;
	     rc == 0 && !d->icount && i < h->type->doorbells.count; i++)
		rc = watch_source(
		    h, &h->doorbell[i], i, d->doorbell[i], on_doorbell);
	for (unsigned i = 0; rc == 0 && i < h->type->nlinks; i++) {
		struct engine_link *l = &d->link[i];

		if (!l->memory)
			continue;
		rc = watch_source(h, &h->rx_data[i], i, l->rx_data, on_link);
		if (rc == 0)
			rc = watch_source(
			    h, &h->tx_space[i], i, l->tx_space, on_link);
	}
	h->works = h->type->ops->pending || h->type->nlinks > 0;
	if (h->works)
		h->slice_ns = LOOK_POLLED_NS;
	else if (h->type->doorbells.count > 0)
		h->slice_ns = LOOK_NS;
	return rc;
}
