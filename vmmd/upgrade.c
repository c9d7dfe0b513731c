/* Hot upgrade. */
#include "vmmd/upgrade.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define FINISH_NS 2000000000u /* from finish to the exit */

static void
set_timer(struct device *d, uint64_t ns)
{
	const struct timeval tv = {
		.tv_sec = (time_t)(ns / 1000000000u),
		.tv_usec = (suseconds_t)(ns / 1000u % 1000000u),
	};

	event_add(d->upgrade.on_timer, &tv);
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* It is over.  error: 0, or a positive errno and why. */
static void
end(struct device *d, int error, const char *why)
{
	struct upgrade *u = &d->upgrade;
	struct client *c = u->client;

	if (u->on_timer != NULL)
		event_del(u->on_timer);
	memory_destroy(&u->mem);
	u->mem = MEMORY_NONE;
	close_fd(&u->program);
	u->stage = UPGRADE_NONE;
	u->client = NULL;
	if (error == 0)
		return;
	client_event(d->vm, d->name, 1, "not upgraded: %s", why);
	if (c != NULL)
		client_answer(c, u->seq, error, why);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct device *d = arg;

	(void)fd;
	(void)what;
	if (d->upgrade.stage == UPGRADE_STARTING)
		process_kill(d->next, "it did not say hello in time");
	else if (d->upgrade.stage == UPGRADE_FINISHING)
		device_kill(d, "it does not finish");
}

/* Why not; NULL: it may be. */
static const char *
refusal(const struct device *d)
{
	if (d->is_inline)
		return "it is inline";
	if (d->upgrade.stage != UPGRADE_NONE)
		return "it is being upgraded";
	if (d->state != DEVICE_RUNNING || d->finishing ||
	    d->vm->stage != VM_RUNNING)
		return "it is not running";
	return NULL;
}

void
upgrade_begin(struct device *d, struct client *c, uint64_t seq, int program)
{
	struct upgrade *u = &d->upgrade;
	const char *why = refusal(d);
	char err[VM_TEXT] = "";
	int r;

	if (why != NULL) {
		close_fd(&program);
		client_answer(c, seq, d->is_inline ? ENOTSUP : EAGAIN, why);
		return;
	}
	if (u->on_timer == NULL)
		u->on_timer = evtimer_new(d->vm->base, on_timer, d);
	if (u->on_timer == NULL) {
		close_fd(&program);
		client_answer(c, seq, ENOMEM, "out of memory");
		return;
	}
	u->stage = UPGRADE_STARTING;
	u->program = program;
	u->client = c;
	u->seq = seq;
	process_init(d->next, d);
	d->next->program = program;
	set_timer(d, READY_NS);
	r = process_start(d->next, err, sizeof(err));
	if (r < 0) {
		process_forget(d->next);
		end(d, EIO, err[0] != '\0' ? err : strerror(-r));
	}
}

void
upgrade_next_died(struct device *d, const char *how)
{
	const struct process *p = d->next;
	char why[VM_TEXT];

	snprintf(why, sizeof(why), "the new program: %.60s%s%.90s", how,
	    p->kill_reason[0] != '\0' || p->failure[0] != '\0' ? ": " : "",
	    p->kill_reason[0] != '\0' ? p->kill_reason : p->failure);
	process_forget(d->next);
	/* In later stages it is only a death of one that is not needed. */
	if (d->upgrade.stage == UPGRADE_STARTING)
		end(d, EIO, why);
}

/* Can it go on with a state of another version?  NULL: yes; or why not. */
static const char *
prepare_conversion(struct device *d, const struct manifest *m)
{
	struct manifest same = *m;

	same.state_version = d->manifest.state_version;
	same.state_size = d->manifest.state_size;
	if (!manifest_same_shape(&d->manifest, &same))
		return "its registers or resources are others";
	if (!m->converts)
		return "its state has another version, and it cannot convert";
	if (device_make_store(d, m, &d->upgrade.mem, &d->upgrade.store) < 0)
		return "no memory for its state";
	return NULL;
}

void
upgrade_greeted(struct device *d, const struct manifest *m)
{
	struct upgrade *u = &d->upgrade;
	Bulkhead__Finish finish;
	const char *why = NULL;

	if (u->stage != UPGRADE_STARTING || d->state != DEVICE_RUNNING) {
		process_kill(d->next, "its device is not running any more");
		return;
	}
	if (!manifest_same_shape(&d->manifest, m))
		why = prepare_conversion(d, m);
	if (why != NULL) {
		process_kill(d->next, why);
		return;
	}
	u->manifest = *m;
	u->stage = UPGRADE_FINISHING;
	u->finish_ns = time_now_ns();
	set_timer(d, FINISH_NS);
	bulkhead__finish__init(&finish);
	if (channel_send(&d->now->channel, BULKHEAD__ENVELOPE__BODY_FINISH,
		&finish, NULL, 0, 0) < 0)
		device_kill(d, "it does not take the order to finish");
}

/* However it died: what it left is what it committed. */
static bool
hand_over(struct device *d)
{
	struct process *old = d->now;

	event_del(d->upgrade.on_timer);
	/* It may be dead already, and not seen to be. */
	if (!process_is_there(d->next) || d->next->pid == 0 ||
	    d->next->kill_reason[0] != '\0') {
		end(d, EIO, "the new program died before it took over");
		return false;
	}
	d->upgrade.stage = UPGRADE_TAKING_OVER;
	d->now = d->next;
	d->next = old;
	d->starts++;
	d->state = DEVICE_GREETED;
	device_configure(d);
	return true;
}

bool
upgrade_takes_death(struct device *d, const char *how, const char *failure)
{
	char why[VM_TEXT];

	switch (d->upgrade.stage) {
	case UPGRADE_NONE:
		return false;
	case UPGRADE_STARTING:
		process_kill(d->next, "its device died meanwhile");
		return false;
	case UPGRADE_FINISHING:
		return hand_over(d);
	case UPGRADE_TAKING_OVER:
		break;
	}
	snprintf(why, sizeof(why),
	    "the new program: %.60s%s%.100s; the old one goes on", how,
	    failure[0] != '\0' ? ": " : "", failure);
	end(d, EIO, why);
	d->restarts++;
	device_start(d);
	return true;
}

void
upgrade_ready(struct device *d)
{
	struct upgrade *u = &d->upgrade;
	Bulkhead__Upgraded done;
	struct client *c = u->client;

	if (u->stage != UPGRADE_TAKING_OVER)
		return;
	if (u->mem.fd >= 0) {
		device_take_store(d, &u->mem, &u->store);
		d->manifest.state_version = u->manifest.state_version;
		d->manifest.state_size = u->manifest.state_size;
	}
	d->manifest.syscalls = u->manifest.syscalls;
	d->manifest.sandbox = u->manifest.sandbox;
	d->manifest.converts = u->manifest.converts;
	if (u->program >= 0) {
		close_fd(&d->program);
		d->program = u->program;
		u->program = -1;
	}
	bulkhead__upgraded__init(&done);
	done.device = d->name;
	done.pause_ns = d->ready_ns - u->finish_ns;
	done.build = d->now->build;
	done.state_version = d->manifest.state_version;
	end(d, 0, "");
	/* It waits to be the program that there was. */
	d->spare->retired = process_is_there(d->spare);
	process_kill(d->spare, "its program is an old one");
	client_event(d->vm, d->name, 2, "upgraded to build %s after %u us",
	    d->now->build, (unsigned)(done.pause_ns / 1000));
	if (c != NULL)
		channel_send(&c->channel, BULKHEAD__ENVELOPE__BODY_UPGRADED,
		    &done, NULL, 0, u->seq);
}

void
upgrade_forget(struct device *d)
{
	struct upgrade *u = &d->upgrade;

	if (u->stage != UPGRADE_NONE)
		end(d, EAGAIN, "the VM ends");
	process_forget(d->next);
	if (u->on_timer != NULL)
		event_free(u->on_timer);
	u->on_timer = NULL;
	close_fd(&d->program);
}
