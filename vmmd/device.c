/* A device: the conversation with its host, its deaths, its spare. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmmd/blackbox.h"
#include "vmmd/upgrade.h"
#include "vmmd/vm.h"

#define LOGS_PER_SECOND	   20u
#define LOADER_DEADLINE_NS 30000000000u
#define HANG_UP_NS	   50000000u /* from closing to dying */
#define EXIT_NS		   200000000u /* from loaded to gone */

static const char *const state_names[] = {
	[DEVICE_STARTING] = "starting",
	[DEVICE_GREETED] = "starting",
	[DEVICE_CONFIGURED] = "starting",
	[DEVICE_RUNNING] = "running",
	[DEVICE_RESTARTING] = "restarting",
	[DEVICE_REMOVED] = "removed",
	[DEVICE_DONE] = "done",
};

const char *
device_state_name(const struct device *d)
{
	if (d->restarts > 0 && d->state <= DEVICE_CONFIGURED)
		return "restarting";
	return state_names[d->state];
}

void
device_init(struct device *d, struct vm *vm)
{
	*d = (struct device){
		.vm = vm,
		.now = &d->process[0],
		.spare = &d->process[1],
		.next = &d->process[2],
		.program = -1,
		.upgrade = { .program = -1, .mem = MEMORY_NONE },
		.mounts = -1,
		.chosen = -1,
		.store_mem = MEMORY_NONE,
		.ring_mem = MEMORY_NONE,
		.kick_fd = -1,
	};
	process_init(d->now, d);
	process_init(d->spare, d);
	process_init(d->next, d);
	for (unsigned i = 0; i < MANIFEST_IRQS; i++)
		d->irq[i].trigger = d->irq[i].resample = -1;
	for (unsigned i = 0; i < MANIFEST_STREAMS; i++)
		d->stream[i] = (struct device_stream){ MEMORY_NONE, MEMORY_NONE,
			-1, -1, -1, -1 };
	for (unsigned i = 0; i < MANIFEST_VECTORS; i++)
		d->vector[i] = -1;
	for (unsigned i = 0; i < MANIFEST_DOORBELLS; i++)
		d->wiring.bell_fd[i] = -1;
	for (unsigned i = 0; i < MANIFEST_FILES; i++)
		d->file[i] = -1;
	d->link = (struct device_link){ MEMORY_NONE, { -1, -1 }, { -1, -1 } };
}

static void
set_event(struct event *e, uint64_t ns)
{
	struct timeval tv = {
		.tv_sec = (time_t)(ns / 1000000000u),
		.tv_usec = (suseconds_t)(ns / 1000u % 1000000u),
	};

	event_add(e, &tv);
}

static void
set_timer(struct device *d, uint64_t ns)
{
	set_event(d->on_timer, ns);
}

static bool
was_ready(const struct device *d)
{
	return d->ready_ns != 0;
}

bool
device_has_host(const struct device *d)
{
	return process_is_there(d->now) || process_is_there(d->spare) ||
	    process_is_there(d->next);
}

void
device_kill(struct device *d, const char *why)
{
	process_kill(d->now, why);
}

void
device_finish(struct device *d)
{
	Bulkhead__Finish finish;

	bulkhead__finish__init(&finish);
	if (d->now->channel.fd < 0)
		return;
	d->finishing = true;
	if (channel_send(&d->now->channel, BULKHEAD__ENVELOPE__BODY_FINISH,
		&finish, NULL, 0, 0) < 0)
		device_kill(d, "the VM has ended");
}

/* It is to do its next step in that time. */
static void
set_deadline(struct device *d)
{
	set_timer(d,
	    d->loader		? LOADER_DEADLINE_NS
		: d->starts < 2 ? FIRST_READY_NS
				: READY_NS);
}

void
device_configure(struct device *d)
{
	if (device_send_configuration(d) < 0) {
		device_kill(d, "it does not take its configuration");
		return;
	}
	d->state = DEVICE_CONFIGURED;
	set_deadline(d);
}

/*
 * With the last reference to a dead process's mount namespace its mounts go,
 * which can take milliseconds; whoever waits for its successor need not.
 */
static void
release_mounts(struct device *d)
{
	if (d->mounts >= 0)
		close(d->mounts);
	d->mounts = -1;
}

/* ---- messages ---- */

static void
on_hello(struct process *p, const Bulkhead__Hello *hello)
{
	struct device *d = p->device;
	struct manifest m;
	char why[96];

	if (manifest_from_hello(&m, hello, why, sizeof(why)) < 0) {
		process_kill(p, why);
		return;
	}
	if (strcmp(m.type, d->type) != 0) {
		process_kill(p, "it says it is of another type");
		return;
	}
	if (p == d->next) {
		p->greeted = true;
		snprintf(p->build, sizeof(p->build), "%.47s", hello->build);
		upgrade_greeted(d, &m);
		return;
	}
	if (d->greeted_once && !manifest_same_shape(&d->manifest, &m)) {
		d->reshaped |= p == d->now;
		process_kill(p, "it came back with another shape");
		return;
	}
	if (!d->loader && d->config->network && m.dma != 0) {
		process_kill(p, "it would have guest memory and a network");
		return;
	}
	p->greeted = true;
	snprintf(p->build, sizeof(p->build), "%.47s", hello->build);
	if (!d->greeted_once)
		d->manifest = m;
	/* All else is the same, and vCPUs may be reading it. */
	d->manifest.syscalls = m.syscalls;
	d->manifest.sandbox = m.sandbox;
	if (p == d->spare) {
		event_del(d->on_spare);
		return;
	}
	/* What it waits for now is not its own fault. */
	event_del(d->on_timer);
	d->greeted_once = true;
	d->state = DEVICE_GREETED;
	if (d->vm->stage >= VM_LOADING)
		device_configure(d);
}

/* ---- signs of life ---- */

/* Time to ask for one, or to have had one. */
static void
on_health(evutil_socket_t fd, short what, void *arg)
{
	struct device *d = arg;
	Bulkhead__Ping ping;

	(void)fd;
	(void)what;
	if (d->state != DEVICE_RUNNING || d->finishing)
		return;
	if (d->ping_ns != 0) {
		device_kill(d, "hung: no answer to a health check");
		return;
	}
	bulkhead__ping__init(&ping);
	if (channel_send(&d->now->channel, BULKHEAD__ENVELOPE__BODY_PING, &ping,
		NULL, 0, 0) == 0)
		d->ping_ns = time_now_ns();
	set_event(d->on_health,
	    d->ping_ns != 0 ? d->health.answer_ns : d->health.every_ns);
}

static void
start_health(struct device *d)
{
	if (d->is_inline || d->loader)
		return;
	if (d->on_health == NULL)
		d->on_health = evtimer_new(d->vm->base, on_health, d);
	d->ping_ns = 0;
	if (d->on_health == NULL)
		device_kill(d, "out of memory");
	else
		set_event(d->on_health, d->health.every_ns);
}

static void
on_pong(struct device *d)
{
	if (d->ping_ns != 0)
		start_health(d);
}

static void
on_ready(struct device *d)
{
	uint64_t one = 1;
	bool upgrading;
	ssize_t n;

	d->state = DEVICE_RUNNING;
	d->ready_ns = time_now_ns();
	event_del(d->on_timer);
	start_health(d);
	atomic_store(&d->port->ready_ns, d->ready_ns);
	upgrading = d->upgrade.stage != UPGRADE_NONE;
	upgrade_ready(d);
	/* A vCPU that waits for a write may be told of it only now. */
	wiring_apply(&d->wiring);
	if (d->starts < 2)
		return;
	/* The dead one may have taken the kick for a request with it. */
	n = write(d->kick_fd, &one, sizeof(one));
	(void)n; /* full: it is readable already */
	/* From now on its deadline counts. */
	port_wake(d->port);
	release_mounts(d);
	device_want_spare(d, spare_delay_ns(d->spares_lost));
	if (upgrading)
		return;
	client_event(d->vm, d->name, 2, "running again after %u us",
	    (unsigned)((d->ready_ns - d->died_ns) / 1000));
}

/* For the operator: what the device says, or is the reason for. */
static void
tell(struct device *d, unsigned level, const char *text)
{
	uint64_t now = time_now_ns();

	if (now - d->log_window_ns >= 1000000000u) {
		d->log_window_ns = now;
		d->logs = 0;
	}
	if (d->logs++ < LOGS_PER_SECOND)
		client_event(d->vm, d->name, level, "%.200s", text);
}

static void
check_wait(struct device *d)
{
	char why[64];

	if (d->is_inline || d->finishing)
		return;
	if (port_faulted(d->port)) {
		device_kill(d, "broke the ring's rules");
		return;
	}
	if (port_waited_ns(d->port, d->ready_ns, time_now_ns()) <
	    d->port->deadline_ns)
		return;
	snprintf(why, sizeof(why), "hung: a vCPU waited for more than %llu ms",
	    (unsigned long long)d->port->deadline_ns / 1000000);
	device_kill(d, why);
}

void
device_report(struct device *d)
{
	char text[WIRING_TEXT];

	check_wait(d);
	if (wiring_refusal(&d->wiring, text))
		tell(d, 1, text);
}

/* ---- a client's question ---- */

int
device_reconfigure(struct device *d, struct client *c, uint64_t seq,
    const Bulkhead__SetParams *set)
{
	Bulkhead__Reconfigure r;
	int err;

	if (d->state != DEVICE_RUNNING || d->finishing)
		return -EAGAIN;
	if (d->question.asked_ns != 0)
		return -EBUSY;
	bulkhead__reconfigure__init(&r);
	r.params = set->params;
	r.n_params = set->n_params;
	err = channel_send(&d->now->channel,
	    BULKHEAD__ENVELOPE__BODY_RECONFIGURE, &r, NULL, 0, 0);
	if (err < 0)
		return err;
	d->question = (struct device_question){
		.client = c,
		.client_seq = seq,
		.seq = d->now->channel.seq,
		.asked_ns = time_now_ns(),
	};
	return 0;
}

/* error: 0 or a positive errno. */
static void
answer_question(struct device *d, int error, const char *text)
{
	struct device_question q = d->question;

	d->question = (struct device_question){ .client = NULL };
	if (q.client != NULL)
		client_answer(q.client, q.client_seq, error, text);
}

static void
on_ok(struct device *d, uint64_t seq)
{
	if (d->question.asked_ns == 0 || seq != d->question.seq)
		device_kill(d, "it answers what nobody asked");
	else
		answer_question(d, 0, "");
}

static void
on_failure(struct process *p, uint64_t seq, const Bulkhead__Failure *f)
{
	struct device *d = p->device;

	if (p == d->now && d->question.asked_ns != 0 && seq == d->question.seq)
		answer_question(d, f->error > 0 ? f->error : EINVAL, f->text);
	else
		snprintf(p->failure, sizeof(p->failure), "%.200s", f->text);
}

static void
on_platform(struct device *d, const Bulkhead__PlatformEvent *p)
{
	/* Before the vCPUs run, the guest cannot have asked for anything. */
	if (d->vm->stage != VM_RUNNING)
		return;
	if (p->event == BULKHEAD__PLATFORM__POWEROFF)
		vm_end(d->vm, BULKHEAD__END_REASON__END_POWEROFF,
		    "the guest powered off");
	else if (p->event == BULKHEAD__PLATFORM__RESET)
		vm_end(d->vm, BULKHEAD__END_REASON__END_RESET,
		    "the guest asked for a reset");
	else
		device_kill(d, "unknown platform event");
}

/* Of a spare, the conversation's table lets no more through than a hello, logs
 * and a failure. */
void
device_take(struct process *p, const Bulkhead__Envelope *e)
{
	struct device *d = p->device;

	switch ((int)e->body_case) {
	case BULKHEAD__ENVELOPE__BODY_HELLO:
		on_hello(p, e->hello);
		break;
	case BULKHEAD__ENVELOPE__BODY_READY:
		on_ready(d);
		break;
	case BULKHEAD__ENVELOPE__BODY_PONG:
		on_pong(d);
		break;
	case BULKHEAD__ENVELOPE__BODY_LOG:
		tell(d, e->log->level, e->log->text);
		break;
	case BULKHEAD__ENVELOPE__BODY_PLATFORM:
		on_platform(d, e->platform);
		break;
	case BULKHEAD__ENVELOPE__BODY_FAILURE:
		on_failure(p, e->seq, e->failure);
		break;
	case BULKHEAD__ENVELOPE__BODY_OK:
		on_ok(d, e->seq);
		break;
	case BULKHEAD__ENVELOPE__BODY_LOADED:
		d->state = DEVICE_DONE;
		/* It has all of the guest's memory: it is to go. */
		set_timer(d, EXIT_NS);
		vm_entry(d->vm, e->loaded);
		break;
	default:
		process_kill(p, "a message that a device does not send");
		break;
	}
}

/* Most likely it is about to be seen dead. */
void
device_hung_up(struct process *p)
{
	struct device *d = p->device;

	if (d->is_inline) {
		device_died(p, "its thread ended");
	} else if (p == d->spare || p == d->next) {
		process_kill(p, "it closed its channel");
	} else if (d->state != DEVICE_DONE && !d->finishing) {
		p->hung_up = true;
		set_timer(d, HANG_UP_NS);
	}
}

/* ---- the spare ---- */

static bool
wants_spare(const struct device *d)
{
	const struct vm *vm = d->vm;

	if (d->loader || d->is_inline || d->finishing ||
	    vm->stage != VM_RUNNING || d->state != DEVICE_RUNNING)
		return false;
	return d->config->spare == 2 ||
	    (d->config->spare == 0 &&
		strcmp(vm->config->wait_policy, "density") != 0);
}

/* Time to start one, or to give up the one that has not said hello. */
static void
on_spare(evutil_socket_t fd, short what, void *arg)
{
	struct device *d = arg;
	char err[VM_TEXT] = "";

	(void)fd;
	(void)what;
	if (process_is_there(d->spare)) {
		process_kill(d->spare, "it was not ready in time");
		return;
	}
	if (!wants_spare(d))
		return;
	set_event(d->on_spare, READY_NS);
	if (process_start(d->spare, err, sizeof(err)) < 0) {
		process_forget(d->spare);
		set_event(d->on_spare, spare_delay_ns(++d->spares_lost));
	}
}

void
device_want_spare(struct device *d, uint64_t delay_ns)
{
	if (d->on_spare == NULL)
		d->on_spare = evtimer_new(d->vm->base, on_spare, d);
	if (d->on_spare != NULL && wants_spare(d) &&
	    !process_is_there(d->spare))
		set_event(d->on_spare, delay_ns);
}

static void
spare_died(struct device *d, const char *how)
{
	bool retired = d->spare->retired;
	char text[160];

	const char *why = d->spare->kill_reason[0] != '\0'
	    ? d->spare->kill_reason
	    : d->spare->failure;

	snprintf(text, sizeof(text), "its spare died: %s%s%.100s", how,
	    why[0] != '\0' ? ": " : "", why);
	process_forget(d->spare);
	event_del(d->on_spare);
	if (vm_ending(d->vm) || d->state == DEVICE_REMOVED)
		return;
	if (!retired) {
		tell(d, 1, text);
		d->spares_lost++;
	}
	device_want_spare(d, spare_delay_ns(d->spares_lost));
}

/* The spare, if there is one, becomes the device. */
static bool
take_spare(struct device *d)
{
	struct process *spare = d->spare;

	if (spare->pidfd < 0 || spare->pid == 0 ||
	    spare->kill_reason[0] != '\0')
		return false;
	event_del(d->on_spare);
	d->spare = d->now;
	d->now = spare;
	d->spares_lost = 0;
	return true;
}

/* ---- death ---- */

static void
forget_process(struct device *d)
{
	release_mounts(d);
	d->mounts = d->now->mounts;
	d->now->mounts = -1;
	process_forget(d->now);
	if (d->on_timer != NULL)
		event_del(d->on_timer);
	if (d->on_health != NULL)
		event_del(d->on_health);
	d->ping_ns = 0;
	if (d->question.asked_ns != 0)
		answer_question(d, EAGAIN, "the device died");
}

static void
remove_device(struct device *d)
{
	d->state = DEVICE_REMOVED;
	if (d->port != NULL)
		port_remove(d->port);
	process_kill(d->spare, "its device is removed");
	process_kill(d->next, "its device is removed");
	if (d->policy == POLICY_STOP_VM) {
		vm_end(d->vm, BULKHEAD__END_REASON__END_ERROR,
		    "device %s is given up: %s", d->name, d->last_death);
		return;
	}
	client_event(d->vm, d->name, 0,
	    "removed: %s; its registers read as all ones from now on",
	    d->last_death);
}

/* It died while the VM is being built. */
static void
died_early(struct device *d, const char *failure)
{
	bool refused = strcmp(d->last_death, "exit status 4") == 0;

	/* A death from outside is worth another try; its own words are not. */
	if (failure[0] == '\0' && !refused && !d->reshaped &&
	    d->starts < (d->loader ? 2u : STARTS_MAX)) {
		d->state = DEVICE_RESTARTING;
		d->restarts++;
		set_timer(d, BACKOFF_MIN_NS);
		return;
	}
	d->state = DEVICE_REMOVED;
	vm_fail(d->vm,
	    refused		     ? EPERM
		: failure[0] == '\0' ? EIO
		: d->loader	     ? ENOEXEC
				     : EINVAL,
	    "%s%s: %s", d->loader ? "" : "device ", d->name,
	    failure[0] != '\0' ? failure : d->last_death);
}

/* Did it die with work to do, and without a commit since the last death? */
static bool
made_nothing(struct device *d)
{
	uint64_t commit, last = d->last_commit;

	if (d->store.base == NULL || d->is_inline)
		return false;
	commit = atomic_load_explicit(d->store.commit, memory_order_relaxed);
	d->last_commit = commit;
	return commit == last && port_busy(d->port);
}

void
device_died(struct process *p, const char *how)
{
	struct device *d = p->device;
	char failure[VM_TEXT], died[sizeof(d->last_death)];
	struct death death;
	struct verdict verdict;

	if (p == d->spare) {
		spare_died(d, how);
		return;
	}
	if (p == d->next) {
		upgrade_next_died(d, how);
		return;
	}
	death = (struct death){
		.ordered = d->ordered,
		.hopeless = d->is_inline || d->reshaped,
		.fruitless = made_nothing(d),
	};
	d->died_ns = time_now_ns();
	if (was_ready(d))
		death.lived_ns = d->died_ns - d->ready_ns;
	snprintf(d->last_death, sizeof(d->last_death), "%s%s%s%s", how,
	    p->kill_reason[0] != '\0' ? ": " : "", p->kill_reason,
	    d->ordered ? " (ordered)" : "");
	snprintf(failure, sizeof(failure), "%s", p->failure);
	/* Before anything of what it left is changed. */
	if (!d->ordered && !upgrade_is_finishing(d))
		blackbox_record(p, death.lived_ns);
	d->ordered = false;
	d->ready_ns = 0;
	if (d->port != NULL)
		atomic_store(&d->port->ready_ns, 0);
	forget_process(d);
	if (d->finishing || vm_ending(d->vm) || d->state == DEVICE_DONE) {
		d->state = DEVICE_DONE;
		return;
	}
	if (d->vm->stage < VM_RUNNING) {
		if (d->store.base != NULL && !d->is_inline)
			port_recover(d->port, &d->store);
		died_early(d, failure);
		return;
	}
	if (!d->is_inline && port_recover(d->port, &d->store) < 0) {
		death.hopeless = true;
		snprintf(d->last_death, sizeof(d->last_death),
		    "%.60s: its store says what cannot be", how);
	}
	if (!death.hopeless && upgrade_takes_death(d, how, failure))
		return;
	verdict = supervisor_judge(
	    &d->budget, &d->backoff, d->policy, &death, d->died_ns);
	if (!verdict.restart) {
		remove_device(d);
		return;
	}
	if (failure[0] != '\0' && !death.hopeless)
		snprintf(d->last_death, sizeof(d->last_death), "%.60s: %.90s",
		    how, failure);
	snprintf(died, sizeof(died), "%s", d->last_death);
	d->restarts++;
	d->state = DEVICE_RESTARTING;
	if (verdict.delay_ns == 0)
		device_start(d);
	else
		set_timer(d, verdict.delay_ns);
	/* A vCPU may be waiting: who listens comes second. */
	client_event(d->vm, d->name, 2, "died: %s", died);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct device *d = arg;

	(void)fd;
	(void)what;
	if (vm_ending(d->vm))
		return;
	if (d->state == DEVICE_RESTARTING)
		device_start(d);
	else if (d->state == DEVICE_DONE)
		device_kill(d, "it does not exit");
	else if (d->now->hung_up)
		device_kill(d, "it closed its channel");
	else
		device_kill(d,
		    d->loader ? "it did not load the image in time"
			      : "it was not ready in time");
}

/* ---- start ---- */

void
device_start(struct device *d)
{
	char err[VM_TEXT] = "";
	int r = -ENOMEM;

	d->starts++;
	d->state = DEVICE_STARTING;
	if (d->on_timer == NULL)
		d->on_timer = evtimer_new(d->vm->base, on_timer, d);
	if (d->on_timer != NULL && take_spare(d)) {
		if (d->now->greeted) {
			d->state = DEVICE_GREETED;
			device_configure(d);
		} else {
			set_deadline(d);
		}
		return;
	}
	if (d->on_timer != NULL)
		r = process_start(d->now, err, sizeof(err));
	if (r == 0) {
		set_deadline(d);
		return;
	}
	if (err[0] == '\0')
		snprintf(err, sizeof(err), "%s", strerror(-r));
	if (d->vm->stage < VM_RUNNING) {
		forget_process(d);
		d->state = DEVICE_REMOVED;
		vm_fail(d->vm, d->is_inline ? EINVAL : EPERM,
		    "cannot start %s: %s", d->name, err);
		return;
	}
	device_died(d->now, err);
}

void
device_check(struct device *d, uint64_t now_ns)
{
	if (d->state != DEVICE_RUNNING || d->is_inline || d->finishing)
		return;
	check_wait(d);
	if (d->question.asked_ns != 0 &&
	    now_ns - d->question.asked_ns > PONG_NS)
		device_kill(d, "hung: no answer to a question");
}

void
device_destroy(struct device *d)
{
	forget_process(d);
	release_mounts(d);
	process_forget(d->spare);
	upgrade_forget(d);
	if (d->on_timer != NULL)
		event_free(d->on_timer);
	if (d->on_spare != NULL)
		event_free(d->on_spare);
	if (d->on_health != NULL)
		event_free(d->on_health);
	device_close_resources(d);
}
