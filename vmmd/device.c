/* A device host: its process, its conversation, its death. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmmd/vm.h"

#define UID_BASE	   0x70000000u
#define UIDS_PER_VM	   256u
#define UID_NOBODY	   65534u
#define LOGS_PER_SECOND	   20u
#define MESSAGES_AT_ONCE   64u
#define LOADER_DEADLINE_NS 30000000000u
#define LAST_WORDS	   16u /* times MESSAGES_AT_ONCE */
#define HANG_UP_NS	   50000000u /* from closing to dying */
#define EXIT_NS		   200000000u /* from loaded to gone */

static void device_died(struct device *d, const char *how);

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
		.pidfd = -1,
		.channel = { .fd = -1 },
		.chosen = -1,
		.store_mem = MEMORY_NONE,
		.ring_mem = MEMORY_NONE,
		.kick_fd = -1,
	};
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
set_timer(struct device *d, uint64_t ns)
{
	struct timeval tv = {
		.tv_sec = (time_t)(ns / 1000000000u),
		.tv_usec = (suseconds_t)(ns / 1000u % 1000000u),
	};

	event_add(d->on_timer, &tv);
}

static bool
was_ready(const struct device *d)
{
	return d->ready_ns != 0;
}

void
device_kill(struct device *d, const char *why)
{
	if (d->kill_reason[0] == '\0')
		snprintf(d->kill_reason, sizeof(d->kill_reason), "%s", why);
	if (d->pidfd >= 0)
		pidfd_send_signal(d->pidfd, SIGKILL, NULL, 0);
	else if (d->is_inline && d->channel.fd >= 0)
		device_died(d, why);
}

void
device_finish(struct device *d)
{
	Bulkhead__Finish finish;

	bulkhead__finish__init(&finish);
	if (d->channel.fd < 0)
		return;
	d->finishing = true;
	if (channel_send(&d->channel, BULKHEAD__ENVELOPE__BODY_FINISH, &finish,
		NULL, 0, 0) < 0)
		device_kill(d, "the VM has ended");
}

/* It is to do its next step in that time. */
static void
set_deadline(struct device *d)
{
	set_timer(d,
	    d->loader		   ? LOADER_DEADLINE_NS
		: d->restarts == 0 ? FIRST_READY_NS
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

/* ---- messages ---- */

static void
on_hello(struct device *d, const Bulkhead__Hello *hello)
{
	struct manifest m;
	char why[96];

	if (manifest_from_hello(&m, hello, why, sizeof(why)) < 0) {
		device_kill(d, why);
		return;
	}
	if (strcmp(m.type, d->type) != 0) {
		device_kill(d, "it says it is of another type");
		return;
	}
	if (d->greeted_once && !manifest_same_shape(&d->manifest, &m)) {
		d->reshaped = true;
		device_kill(d, "it came back with another shape");
		return;
	}
	if (!d->loader && d->config->network && m.dma != 0) {
		device_kill(d, "it would have guest memory and a network");
		return;
	}
	/* What it waits for now is not its own fault. */
	event_del(d->on_timer);
	d->manifest = m;
	d->greeted_once = true;
	d->state = DEVICE_GREETED;
	if (d->vm->stage >= VM_LOADING)
		device_configure(d);
}

static void
on_ready(struct device *d)
{
	uint64_t one = 1;

	d->state = DEVICE_RUNNING;
	d->ready_ns = time_now_ns();
	event_del(d->on_timer);
	/* A vCPU that waits for a write may be told of it only now. */
	wiring_apply(&d->wiring);
	if (d->restarts == 0)
		return;
	/* The dead one may have taken the kick for a request with it. */
	if (write(d->kick_fd, &one, sizeof(one)) < 0)
		return; /* full: it is readable already */
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

void
device_report(struct device *d)
{
	char text[WIRING_TEXT];

	if (port_faulted(d->port))
		device_kill(d, "broke the ring's rules");
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
	err = channel_send(
	    &d->channel, BULKHEAD__ENVELOPE__BODY_RECONFIGURE, &r, NULL, 0, 0);
	if (err < 0)
		return err;
	d->question = (struct device_question){
		.client = c,
		.client_seq = seq,
		.seq = d->channel.seq,
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
on_failure(struct device *d, uint64_t seq, const Bulkhead__Failure *f)
{
	if (d->question.asked_ns != 0 && seq == d->question.seq)
		answer_question(d, f->error > 0 ? f->error : EINVAL, f->text);
	else
		snprintf(d->failure, sizeof(d->failure), "%.200s", f->text);
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

static void
on_envelope(struct device *d, const Bulkhead__Envelope *e)
{
	switch ((int)e->body_case) {
	case BULKHEAD__ENVELOPE__BODY_HELLO:
		on_hello(d, e->hello);
		break;
	case BULKHEAD__ENVELOPE__BODY_READY:
		on_ready(d);
		break;
	case BULKHEAD__ENVELOPE__BODY_PONG:
		d->ping_ns = 0;
		break;
	case BULKHEAD__ENVELOPE__BODY_LOG:
		tell(d, e->log->level, e->log->text);
		break;
	case BULKHEAD__ENVELOPE__BODY_PLATFORM:
		on_platform(d, e->platform);
		break;
	case BULKHEAD__ENVELOPE__BODY_FAILURE:
		on_failure(d, e->seq, e->failure);
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
		device_kill(d, "a message that a device does not send");
		break;
	}
}

/* Take the messages that are there.  False: the channel is at its end. */
static bool
drain(struct device *d)
{
	struct channel_message m;
	int r;

	/* One that floods us must not keep us from the others. */
	for (unsigned n = 0; n < MESSAGES_AT_ONCE; n++) {
		if (d->channel.fd < 0)
			return false;
		r = channel_receive(&d->channel, &m, -1);
		if (r == -EAGAIN)
			return true;
		if (r <= 0) {
			if (r < 0)
				device_kill(d, "broke the control protocol");
			return false;
		}
		on_envelope(d, m.envelope);
		channel_free(&m);
	}
	return true;
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct device *d = arg;

	(void)fd;
	(void)what;
	if (!drain(d) && d->channel.fd >= 0) {
		event_del(d->on_message);
		if (d->is_inline)
			device_died(d, "its thread ended");
		else if (d->state != DEVICE_DONE && !d->finishing) {
			/* Most likely it is about to be seen dead. */
			d->hung_up = true;
			set_timer(d, HANG_UP_NS);
		}
	}
	vm_advance(d->vm);
}

/* ---- death ---- */

static void
describe_exit(const siginfo_t *si, char *out, size_t size)
{
	if (si->si_code == CLD_EXITED)
		snprintf(out, size, "exit status %d", si->si_status);
	else
		snprintf(out, size, "signal %d (%s)", si->si_status,
		    strsignal(si->si_status));
}

static void
on_exit_event(evutil_socket_t fd, short what, void *arg)
{
	struct device *d = arg;
	siginfo_t si = { 0 };
	char how[64];

	(void)what;
	if (waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG) < 0 ||
	    si.si_pid == 0)
		return;
	d->pid = 0;
	describe_exit(&si, how, sizeof(how));
	/* Its last words may still be in the channel. */
	for (unsigned i = 0; i < LAST_WORDS && drain(d); i++)
		continue;
	device_died(d, how);
	vm_advance(d->vm);
}

static void
forget_process(struct device *d)
{
	struct event **events[] = { &d->on_message, &d->on_exit };

	for (unsigned i = 0; i < ARRAY_LEN(events); i++) {
		if (*events[i] != NULL)
			event_free(*events[i]);
		*events[i] = NULL;
	}
	if (d->on_timer != NULL)
		event_del(d->on_timer);
	channel_close(&d->channel);
	if (d->pidfd >= 0)
		close(d->pidfd);
	d->pidfd = -1;
	d->pid = 0;
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
	client_event(d->vm, d->name, 0,
	    "removed: %s; its registers read as all ones from now on",
	    d->last_death);
}

/* It died while the VM is being built. */
static void
died_early(struct device *d)
{
	bool refused = strcmp(d->last_death, "exit status 4") == 0;

	/* A death from outside is worth another try; its own words are not. */
	if (d->failure[0] == '\0' && !refused && !d->reshaped &&
	    d->starts < (d->loader ? 2u : STARTS_MAX)) {
		d->state = DEVICE_RESTARTING;
		d->restarts++;
		set_timer(d, BACKOFF_MIN_NS);
		return;
	}
	d->state = DEVICE_REMOVED;
	vm_fail(d->vm,
	    refused			? EPERM
		: d->failure[0] == '\0' ? EIO
		: d->loader		? ENOEXEC
					: EINVAL,
	    "%s%s: %s", d->loader ? "" : "device ", d->name,
	    d->failure[0] != '\0' ? d->failure : d->last_death);
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

static void
device_died(struct device *d, const char *how)
{
	struct death death = {
		.ordered = d->ordered,
		.hopeless = d->is_inline || d->reshaped,
		.fruitless = made_nothing(d),
	};
	struct verdict verdict;

	d->died_ns = time_now_ns();
	if (was_ready(d))
		death.lived_ns = d->died_ns - d->ready_ns;
	snprintf(d->last_death, sizeof(d->last_death), "%s%s%s%s", how,
	    d->kill_reason[0] != '\0' ? ": " : "", d->kill_reason,
	    d->ordered ? " (ordered)" : "");
	d->ordered = false;
	d->kill_reason[0] = '\0';
	d->ready_ns = 0;
	forget_process(d);
	if (d->finishing || vm_ending(d->vm) || d->state == DEVICE_DONE) {
		d->state = DEVICE_DONE;
		return;
	}
	if (d->vm->stage < VM_RUNNING) {
		if (d->store.base != NULL && !d->is_inline)
			port_recover(d->port, &d->store);
		died_early(d);
		return;
	}
	if (!d->is_inline && port_recover(d->port, &d->store) < 0) {
		death.hopeless = true;
		snprintf(d->last_death, sizeof(d->last_death),
		    "%.60s: its store says what cannot be", how);
	}
	verdict = supervisor_judge(&d->budget, &d->backoff, &death, d->died_ns);
	if (!verdict.restart) {
		remove_device(d);
		return;
	}
	client_event(d->vm, d->name, 2, "died: %s", d->last_death);
	d->restarts++;
	d->state = DEVICE_RESTARTING;
	if (verdict.delay_ns == 0)
		device_start(d);
	else
		set_timer(d, verdict.delay_ns);
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
	else if (d->hung_up)
		device_kill(d, "it closed its channel");
	else
		device_kill(d,
		    d->loader ? "it did not load the image in time"
			      : "it was not ready in time");
}

/* ---- start ---- */

/* Is a uid of the host one that our user namespace has? */
static bool
uid_is_mapped(uid_t uid)
{
	unsigned inside, outside, count;
	bool found = false;
	FILE *f = fopen("/proc/self/uid_map", "re");

	if (f == NULL)
		return false;
	while (!found && fscanf(f, "%u %u %u", &inside, &outside, &count) == 3)
		found = uid - inside < count;
	fclose(f);
	return found;
}

uid_t
device_uid(pid_t broker, unsigned index)
{
	uid_t uid = UID_BASE + ((uid_t)broker & 0xffffu) * UIDS_PER_VM +
	    index % UIDS_PER_VM;

	return uid_is_mapped(uid) ? uid : UID_NOBODY;
}

static unsigned
index_of(const struct device *d)
{
	return d->loader ? UIDS_PER_VM - 1 : (unsigned)(d - d->vm->device);
}

static int
start_process(struct device *d, int theirs, char *err, size_t size)
{
	char program[] = "devhost";
	char *const argv[] = { program, d->type, NULL };
	const struct sandbox_spawn spawn = {
		.exec_fd =
		    d->vm->create.fds[d->loader ? 0 : d->config->program],
		.argv = argv,
		.control_fd = theirs,
		.mode = d->vm->sandbox,
		.uid = device_uid(getpid(), index_of(d)),
		.network = !d->loader && d->config->network,
	};
	int r = sandbox_spawn(&spawn, &d->pid, &d->pidfd, err, size);

	close(theirs);
	if (r < 0)
		return r;
	d->on_exit = event_new(
	    d->vm->base, d->pidfd, EV_READ | EV_PERSIST, on_exit_event, d);
	return d->on_exit == NULL ? -ENOMEM : event_add(d->on_exit, NULL);
}

void
device_start(struct device *d)
{
	char err[VM_TEXT] = "";
	int pair[2], r;

	d->starts++;
	d->state = DEVICE_STARTING;
	d->failure[0] = '\0';
	d->hung_up = false;
	if (d->on_timer == NULL)
		d->on_timer = evtimer_new(d->vm->base, on_timer, d);
	if (d->on_timer == NULL ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, pair) < 0) {
		r = -ENOMEM;
		goto fail;
	}
	channel_init(&d->channel, pair[0],
	    d->loader ? CHANNEL_BROKER_TO_LOADER : CHANNEL_BROKER_TO_DEVICE);
	if (d->is_inline) {
		void *host = NULL;

		r = vm_inline_ops()->start(d->type, pair[1], &host);
		if (r == 0)
			d->port->inline_host = host;
	} else {
		r = start_process(d, pair[1], err, sizeof(err));
	}
	if (r < 0)
		goto fail;
	d->on_message = event_new(
	    d->vm->base, pair[0], EV_READ | EV_PERSIST, on_message, d);
	if (d->on_message == NULL || event_add(d->on_message, NULL) < 0) {
		device_kill(d, "out of memory");
		return;
	}
	set_deadline(d);
	return;
fail:
	if (err[0] == '\0')
		snprintf(err, sizeof(err), "%s", strerror(-r));
	if (d->vm->stage < VM_RUNNING) {
		forget_process(d);
		d->state = DEVICE_REMOVED;
		vm_fail(d->vm, d->is_inline ? EINVAL : EPERM,
		    "cannot start %s: %s", d->name, err);
		return;
	}
	device_died(d, err);
}

void
device_check(struct device *d, uint64_t now_ns)
{
	Bulkhead__Ping ping;

	bulkhead__ping__init(&ping);
	if (d->state != DEVICE_RUNNING || d->is_inline || d->finishing)
		return;
	if (port_faulted(d->port)) {
		device_kill(d, "broke the ring's rules");
		return;
	}
	if (d->question.asked_ns != 0 &&
	    now_ns - d->question.asked_ns > PONG_NS) {
		device_kill(d, "hung: no answer to a question");
		return;
	}
	if (port_waited_ns(d->port, d->ready_ns, now_ns) > HUNG_NS) {
		device_kill(d, "hung: a vCPU waited for more than a second");
		return;
	}
	if (d->ping_ns == 0) {
		if (channel_send(&d->channel, BULKHEAD__ENVELOPE__BODY_PING,
			&ping, NULL, 0, 0) == 0)
			d->ping_ns = now_ns;
	} else if (now_ns - d->ping_ns > PONG_NS) {
		device_kill(d, "hung: no answer to a health check");
	}
}

void
device_destroy(struct device *d)
{
	forget_process(d);
	if (d->on_timer != NULL)
		event_free(d->on_timer);
	device_close_resources(d);
}
