/*
 * The event loop of a device host.
 *
 * One thread: rings first, spinning for a bounded time after the last request,
 * then libevent for everything that has an fd or a time.  No signals, no
 * timerfd: fewer system calls to allow.
 */
#include "devhost/host_impl.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base.h"

/* How long the rings may keep the loop from everything else. */
#define SLICE_NS      500000u
#define SPIN_LOOK     32u /* polls between two looks at the clock */
#define IRQ_POLLS     16u /* quiet polls after which edges are sent */
#define IRQ_REQUESTS  64u /* without quiet ones, after that many requests */
#define SPIN_ALONE_NS 4000u /* quiet for that long: let others have the core */
#define SPIN_STRETCH  5u /* in a burst, spin that many times as long */
#define SPIN_WAKE_NS  30000u /* what a sleep may have cost the other side */
#define FINISH_NS     1000000000u /* until the device must have been idle */

static void
on_control(evutil_socket_t fd UNUSED, short what UNUSED, void *ctx)
{
	host_converse(ctx);
}

/* One look at every ring.  Requests handled, or a negative errno. */
static int
serve_once(struct host *h)
{
	int handled = 0, rc = 0;

	host_lock_inline(h);
	for (unsigned i = 0; i < h->dev.vcpus; i++) {
		for (unsigned n = 0; n < RING_SLOTS; n++) {
			rc = engine_serve(&h->dev, i);
			if (rc <= 0)
				break;
			handled++;
		}
		if (rc < 0)
			break;
	}
	if (h->dev.error < 0)
		rc = h->dev.error;
	host_unlock_inline(h);
	return rc < 0 ? rc : handled;
}

/*
 * A guest that fills a FIFO or drains one makes a burst of accesses, each with
 * an edge of its own: one eventfd write at its end tells of them all.
 */
static void
send_late(struct host *h, bool outputs)
{
	host_lock_inline(h);
	engine_send_irqs(&h->dev);
	if (outputs)
		engine_send_outputs(&h->dev);
	host_unlock_inline(h);
}

/*
 * Before each work call, so that a vCPU never waits for more than one of them.
 * False: nothing more is to be done.
 */
bool
host_before_work(struct host *h)
{
	int n;

	if (!h->running || h->done)
		return false;
	n = serve_once(h);
	if (n < 0)
		host_fail(h, n, "device");
	if (n > 0)
		send_late(h, false);
	return n >= 0;
}

/* What the device began may soon have an end that is seen by polling. */
void
host_after_work(struct host *h)
{
	if (h->works)
		h->last_request_ns = time_now_ns();
}

/* Links and the device's own polling.  Calls made, or a negative errno. */
static int
work_once(struct host *h)
{
	unsigned n;

	if (!h->works)
		return 0;
	host_lock_inline(h);
	n = engine_poll(&h->dev);
	host_unlock_inline(h);
	return h->dev.error < 0 ? h->dev.error : (int)n;
}

/* One look at everything that needs no system call. */
static int
look_once(struct host *h)
{
	int n = serve_once(h), calls;

	if (n < 0)
		return n;
	calls = work_once(h);
	return calls < 0 ? calls : n + calls;
}

/*
 * Poll the rings and the work until they have been quiet for the spinning time
 * (1), the slice is over (0), or something failed (negative errno).  The clock
 * is looked at every few turns only, and no more often than that a partner that
 * shares our core is let in.
 */
static int
poll_rings(struct host *h)
{
	uint64_t start = time_now_ns(), now;
	unsigned turns = 0, quiet = 0, requests = 0;
	bool busy = false;
	int n;

	for (;;) {
		n = look_once(h);
		if (n < 0)
			return n;
		if (n > 0) {
			busy = true;
			quiet = 0;
			requests += (unsigned)n;
		} else {
			cpu_relax();
			quiet++;
		}
		if (quiet == IRQ_POLLS || requests >= IRQ_REQUESTS) {
			send_late(h, false);
			requests = 0;
		}
		if (h->spin_ns > 0 && ++turns % SPIN_LOOK != 0)
			continue;
		now = time_now_ns();
		if (busy)
			h->last_request_ns = now;
		if (now - start > h->slice_ns)
			return 0;
		if (!busy && now - h->last_request_ns >= h->spin_now_ns)
			return 1;
		if (!busy && now - h->last_request_ns > SPIN_ALONE_NS)
			sched_yield();
		busy = false;
	}
}

/*
 * Called when the rings have a request after a quiet time: would spinning for
 * longer have saved the sleep?  A burst is thus slept through at most once.
 */
static void
adapt_spin(struct host *h, uint64_t now)
{
	uint64_t most = h->spin_ns * SPIN_STRETCH;

	if (now - h->last_request_ns < most + SPIN_WAKE_NS)
		h->spin_now_ns = most;
	else
		h->spin_now_ns = MAX(h->spin_now_ns / 2, h->spin_ns);
	if (h->spin_ns == 0)
		h->spin_now_ns = 0;
	h->last_request_ns = now;
}

/* Serve the rings.  True: they are armed and empty, the loop may sleep. */
static bool
serve(struct host *h)
{
	int n;

	if (h->slept) {
		n = serve_once(h);
		if (n < 0)
			goto fail;
		if (n > 0)
			adapt_spin(h, time_now_ns());
		h->slept = false;
	}
	n = poll_rings(h);
	send_late(h, true);
	if (n < 0)
		goto fail;
	if (n == 0)
		return false;

	/* Arm, look again, then sleep: pairs with ring_kick_needed(). */
	ring_arm(h->dev.rings);
	host_lock_inline(h);
	engine_arm(&h->dev);
	host_unlock_inline(h);
	n = look_once(h);
	if (n < 0)
		goto fail;
	if (n == 0) {
		h->slept = true;
		return true;
	}
	ring_disarm(h->dev.rings);
	adapt_spin(h, time_now_ns());
	return false;
fail:
	host_fail(h, n, "device");
	return false;
}

/* Run due timers; have libevent wake us for the next. */
static bool
set_timer(struct host *h)
{
	uint64_t wait, now, steps;
	struct timeval tv;

	if (h->dev.icount) {
		/* The vCPU asks for them. */
		engine_publish(&h->dev);
		if (h->finish_by_ns == 0) {
			event_del(&h->timer);
			return true;
		}
		tv = (struct timeval){ .tv_usec = 1000 };
		event_add(&h->timer, &tv);
		return true;
	}
	pthread_mutex_lock(&h->lock);
	steps = h->dev.timer_steps;
	wait = engine_timer(&h->dev);
	steps = h->dev.timer_steps - steps;
	h->sleep_until_ns =
	    wait == UINT64_MAX ? wait : device_now(&h->dev) + wait;
	pthread_mutex_unlock(&h->lock);
	/* What the steps did may be work to poll for. */
	if (wait == 0 || steps > 0)
		return false;
	if (h->finish_by_ns != 0) {
		now = time_now_ns();
		wait = MIN(
		    wait, h->finish_by_ns > now ? h->finish_by_ns - now : 1);
	}
	if (wait == UINT64_MAX) {
		event_del(&h->timer);
		return true;
	}
	tv.tv_sec = (time_t)(wait / 1000000000u);
	tv.tv_usec = (suseconds_t)(wait % 1000000000u / 1000u);
	event_add(&h->timer, &tv);
	return true;
}

static int
open_base(struct host *h)
{
	struct event_config *cfg = event_config_new();

	if (!cfg)
		return -ENOMEM;
	event_config_set_flag(
	    cfg, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
	h->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (!h->base)
		return -ENOMEM;
	event_assign(&h->timer, h->base, -1, 0, host_on_wake, h);
	if (h->wake >= 0 &&
	    host_add_event(h, &h->waker, h->wake, host_on_wake, h) != 0)
		return -ENOMEM;
	return host_add_event(h, &h->control, h->channel.fd, on_control, h);
}

void
host_finish_idle(struct host *h)
{
	if (!h->running || engine_idle(&h->dev))
		host_finish(h, HOST_EXIT_OK);
	else
		h->finish_by_ns = time_now_ns() + FINISH_NS;
}

/* One turn of the running device.  True: the loop may sleep. */
static bool
turn(struct host *h)
{
	bool idle;

	/* With icount the answers that wait tell that it is done. */
	if (h->takes_up && (h->dev.icount || host_before_work(h))) {
		h->takes_up = false;
		host_lock_inline(h);
		engine_take_up(&h->dev);
		host_unlock_inline(h);
	}
	idle = serve(h);
	idle = set_timer(h) && idle;
	host_flush(h);
	if (h->finish_by_ns != 0) {
		host_lock_inline(h);
		if (engine_idle(&h->dev) || time_now_ns() >= h->finish_by_ns)
			host_finish(h, HOST_EXIT_OK);
		host_unlock_inline(h);
	}
	return idle;
}

static void
run(struct host *h)
{
	bool idle;

	while (!h->done) {
		idle = true;
		if (h->running)
			idle = turn(h);
		if (h->done)
			break;
		if (event_base_loop(h->base,
			EVLOOP_ONCE | (idle ? 0 : EVLOOP_NONBLOCK)) < 0)
			host_fail(h, -EIO, "event loop");
		if (idle && h->running)
			stats_add(&h->dev.store.stats->wakeups, 1);
	}
	/* What the last requests asked of the platform is still to be said. */
	if (h->running)
		host_flush(h);
}

/* Everything from Hello to the end. */
static void
live(struct host *h)
{
	int rc;

	rc = host_say_hello(h);
	if (rc == -EPIPE)
		host_finish(h, HOST_EXIT_OK);
	else if (rc != 0)
		host_fail(h, rc, "start");
	else
		run(h);

	pthread_mutex_lock(&h->lock);
	h->running = false;
	if (h->dev.type)
		engine_detach(&h->dev);
	pthread_mutex_unlock(&h->lock);
	if (h->base)
		event_base_free(h->base);
	for (unsigned i = 0; i < h->nwatched; i++)
		free(h->watched[i]);
	free(h->watched);
	for (unsigned i = 0; i < h->nfds; i++)
		close(h->fds[i]);
	channel_close(&h->channel);
	if (h->wake >= 0)
		close(h->wake);
	free(h->context);
}

static int
make_context(struct host *h)
{
	size_t size = h->type->context_size;

	if (size > 0) {
		/* Its own cache lines. */
		h->context = aligned_alloc(64, (size + 63) / 64 * 64);
		if (!h->context)
			return -ENOMEM;
		memset(h->context, 0, size);
	}
	return h->type->ops->prepare
	    ? h->type->ops->prepare(h->type, h->context)
	    : 0;
}

static int
init(struct host *h, const struct device_type *type, int control_fd, int wake)
{
	int rc;

	memset(h, 0, sizeof(*h));
	h->type = type;
	h->wake = wake;
	h->sleep_until_ns = UINT64_MAX;
	h->slice_ns = SLICE_NS;
	pthread_mutex_init(&h->lock, NULL);
	channel_init(&h->channel, control_fd, CHANNEL_DEVICE);
	rc = make_context(h);
	return rc < 0 ? rc : open_base(h);
}

int
host_open(const struct device_type *type, int control_fd, struct host **out)
{
	static struct host h;

	*out = &h;
	return init(&h, type, control_fd, -1);
}

int
host_run(struct host *h, const struct host_identity *identity)
{
	h->identity = *identity;
	live(h);
	return h->status;
}

static void *
inline_thread(void *ctx)
{
	live(ctx);
	return NULL;
}

int
host_start_inline(
    const struct device_type *type, int control_fd, struct host **out)
{
	struct host *h = calloc(1, sizeof(*h));
	int wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int rc = -ENOMEM;

	if (!h || wake < 0) {
		rc = h ? -errno : -ENOMEM;
		close(control_fd);
		goto fail;
	}
	rc = init(h, type, control_fd, wake);
	if (rc == 0)
		rc = -pthread_create(&h->thread, NULL, inline_thread, h);
	if (rc == 0) {
		*out = h;
		return 0;
	}
	if (h->base)
		event_base_free(h->base);
	channel_close(&h->channel);
	free(h->context);
fail:
	if (wake >= 0)
		close(wake);
	free(h);
	return rc;
}

int
host_access(struct host *h, unsigned vcpu, const struct ring_request *req,
    uint64_t *answer)
{
	const struct device_ops *ops = h->type->ops;
	struct ring_request r = *req;
	uint64_t one = 1;
	bool wake;
	int rc = -ENOTCONN;

	pthread_mutex_lock(&h->lock);
	if (h->running && h->dev.error == 0) {
		r.vcpu = vcpu;
		rc = engine_access(&h->dev, &r, answer);
		wake = h->dev.error != 0 || h->dev.line[0] ||
		    h->dev.platform_cookie != h->dev.platform_sent ||
		    (ops->deadline &&
			ops->deadline(&h->dev) < h->sleep_until_ns) ||
		    (ops->pending && ops->pending(&h->dev));
		if (wake && write(h->wake, &one, sizeof(one)) < 0 &&
		    errno != EAGAIN)
			rc = -errno;
	}
	pthread_mutex_unlock(&h->lock);
	return rc;
}

int
host_join_inline(struct host *h)
{
	int status;

	pthread_join(h->thread, NULL);
	status = h->status;
	pthread_mutex_destroy(&h->lock);
	free(h);
	return status;
}
