/* The inside of a device host: shared by its conversation and its loop. */
#ifndef DEVHOST_HOST_IMPL_H
#define DEVHOST_HOST_IMPL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>

#include "devhost/engine.h"
#include "devhost/host.h"
#include "proto/channel.h"

struct host;

/* An event that stands for one of several like it. */
struct host_source {
	struct host *host;
	unsigned index;
	struct event event;
};

/* An fd that the device watches. */
struct host_watched {
	struct host *host;
	uint32_t events; /* 0: not now */
	struct event event;
};

struct host {
	const struct device_type *type;
	struct host_identity identity;
	struct channel channel; /* the loop's thread only */
	int fds[CHANNEL_FDS_MAX]; /* of Configure; owned */
	unsigned nfds;
	uint64_t spin_ns; /* after the last request; 0: never spin */
	uint64_t spin_now_ns; /* adapted: spin_ns to a few times that */
	bool slept; /* since the rings were last polled */

	/* Guards dev and running: the loop's thread and inline vCPUs. */
	pthread_mutex_t lock;
	struct device dev;
	bool running;
	uint64_t sleep_until_ns; /* guest time at which the loop wakes */

	void *context; /* the device's */
	bool takes_up; /* started on a committed store: engine_take_up() */
	bool works; /* the type has work that is polled for */
	uint64_t slice_ns; /* how long it spins without a look at its fds */
	uint64_t finish_by_ns; /* Finish came: at that time, idle or not */

	uint64_t last_request_ns;
	bool done;
	int status; /* enum host_exit, when done */
	int wake; /* inline: eventfd that wakes the loop; else -1 */
	pthread_t thread; /* inline */

	struct event_base *base;
	struct event control, kick, timer, waker;
	struct event resample[DEVICE_IRQS_MAX];
	struct event space[DEVICE_STREAMS_MAX], data[DEVICE_STREAMS_MAX];
	struct host_source doorbell[DEVICE_DOORBELLS_MAX];
	struct host_source rx_data[DEVICE_LINKS_MAX];
	struct host_source tx_space[DEVICE_LINKS_MAX];
	struct host_watched **watched; /* by fd; NULL where never watched */
	unsigned nwatched;
};

/* End the loop with that status, unless it has ended with another. */
void host_finish(struct host *h, int status);

/* End it with the status that fits a negative errno, and tell the broker. */
void host_fail(struct host *h, int error, const char *what);

/* Say Hello; 0 or a negative errno. */
int host_say_hello(struct host *h);

/*
 * Read and treat what the broker has sent, until nothing is there.  When it is
 * Configure, the device is attached and started, Ready is sent, and
 * host_add_events() is called.
 */
void host_converse(struct host *h);

/* ---- events.c ---- */

/* An event that only ends a sleep; clears the eventfd if it is of one. */
void host_on_wake(evutil_socket_t fd, short what, void *ctx);

/* Have fn called with ctx whenever fd can be read; 0 or -ENOMEM. */
int host_add_event(
    struct host *h, struct event *ev, int fd, event_callback_fn fn, void *ctx);

/* Watch the fds that Configure brought; 0 or -ENOMEM. */
int host_add_events(struct host *h);

/* device_watch() of the device of the host h. */
int host_watch(void *h, int fd, uint32_t events);

/* ---- loop.c ---- */

/*
 * Before each work call, so that a vCPU never waits for more than one of them.
 * False: nothing more is to be done.
 */
bool host_before_work(struct host *h);

/* After it: what the device began may soon have an end that polling sees. */
void host_after_work(struct host *h);

/* Finish came: end when the device is idle, or soon. */
void host_finish_idle(struct host *h);

/*
 * Only an inline device is touched by other threads than the loop's: without
 * one, the rings are polled without the lock.
 */
static inline void
host_lock_inline(struct host *h)
{
	if (h->wake >= 0)
		pthread_mutex_lock(&h->lock);
}

static inline void
host_unlock_inline(struct host *h)
{
	if (h->wake >= 0)
		pthread_mutex_unlock(&h->lock);
}

/* Send the platform event and the log line that the device has left. */
void host_flush(struct host *h);

#endif
