/* Clients: the one that made the VM, and those that come by its name. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/stream.h"
#include "vmmd/upgrade.h"
#include "vmmd/vm.h"

/* Bytes that the kernel holds for a client before it gets no more events. */
#define UNREAD_MAX 65536

static void
release_console(struct client *c)
{
	struct device_stream *s;
	uint64_t one = 1;

	if (c->console == NULL)
		return;
	s = &c->console->stream[c->console_stream];
	/* Nobody reads now: let the device overwrite the oldest bytes. */
	stream_detach(s->out.base);
	if (write(s->out_space, &one, sizeof(one)) < 0 && errno != EAGAIN)
		client_event(c->vm, c->console->name, 1, "cannot be kicked");
	c->console = NULL;
}

static void
client_drop(struct client *c)
{
	struct vm *vm = c->vm;
	bool owner = c->owner;

	TAILQ_REMOVE(&vm->clients, c, link);
	vm->nclients--;
	release_console(c);
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].question.client == c)
			vm->device[i].question.client = NULL;
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].upgrade.client == c)
			vm->device[i].upgrade.client = NULL;
	if (c->on_message != NULL)
		event_free(c->on_message);
	channel_close(&c->channel);
	free(c);
	/* The last thing that an ended VM waits for. */
	if (owner && vm->stage == VM_ENDED)
		event_base_loopbreak(vm->base);
	if (owner && (!vm->detach || vm->stage < VM_RUNNING))
		vm_end(vm, BULKHEAD__END_REASON__END_STOPPED,
		    "the client that made the VM is gone");
}

void
client_drop_all(struct vm *vm)
{
	while (!TAILQ_EMPTY(&vm->clients))
		client_drop(TAILQ_FIRST(&vm->clients));
}

/* ---- what clients ask ---- */

static void
answer(struct client *c, uint64_t seq, int body_case, void *body,
    const int *fds, unsigned nfds)
{
	/* Who asks and does not read the answers has to ask again. */
	channel_send(&c->channel, body_case, body, fds, nfds, seq);
}

static void
answer_ok(struct client *c, uint64_t seq)
{
	Bulkhead__Ok ok;

	bulkhead__ok__init(&ok);
	answer(c, seq, BULKHEAD__ENVELOPE__BODY_OK, &ok, NULL, 0);
}

PRINTF_LIKE(4, 5)
static void
refuse(struct client *c, uint64_t seq, int error, const char *fmt, ...)
{
	Bulkhead__Failure f;
	char text[VM_TEXT];
	va_list ap;

	bulkhead__failure__init(&f);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	f.error = error;
	f.text = text;
	answer(c, seq, BULKHEAD__ENVELOPE__BODY_FAILURE, &f, NULL, 0);
}

void
client_answer(struct client *c, uint64_t seq, int error, const char *text)
{
	if (error == 0)
		answer_ok(c, seq);
	else
		refuse(c, seq, error, "%s", text);
}

/* The device of that name; if there is none, the client is told. */
static struct device *
find_device(struct client *c, uint64_t seq, const char *name)
{
	struct device *d = vm_find_device(c->vm, name);

	if (d == NULL)
		refuse(c, seq, ENOENT, "no device %.40s", name);
	return d;
}

static void
on_kill(struct client *c, uint64_t seq, const Bulkhead__DeviceKill *k)
{
	struct device *d = find_device(c, seq, k->device);
	int sig = k->signal == 0 ? SIGKILL : k->signal;

	if (d == NULL)
		return;
	if (sig < 1 || sig > SIGRTMAX) {
		refuse(c, seq, EINVAL, "no signal %d", sig);
		return;
	}
	if (d->now->pidfd < 0) {
		refuse(c, seq, ESRCH, "device %s has no process (%s)", d->name,
		    d->is_inline ? "inline" : device_state_name(d));
		return;
	}
	/* It may survive this one: only a sure death is an ordered one. */
	if (sig == SIGKILL)
		d->ordered = true;
	if (pidfd_send_signal(d->now->pidfd, sig, NULL, 0) < 0) {
		d->ordered = false;
		refuse(
		    c, seq, errno, "device %s: %s", d->name, strerror(errno));
		return;
	}
	answer_ok(c, seq);
}

static void
on_shutdown(struct client *c, uint64_t seq, const Bulkhead__Shutdown *s)
{
	Bulkhead__PowerButton button;
	struct vm *vm = c->vm;
	unsigned pressed = 0;

	bulkhead__power_button__init(&button);
	if (s->force) {
		answer_ok(c, seq);
		vm_end(vm, BULKHEAD__END_REASON__END_STOPPED,
		    "stopped by request");
		return;
	}
	/* Those without a button take no notice. */
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].state == DEVICE_RUNNING &&
		    channel_send(&vm->device[i].now->channel,
			BULKHEAD__ENVELOPE__BODY_POWER_BUTTON, &button, NULL, 0,
			0) == 0)
			pressed++;
	if (pressed == 0)
		refuse(c, seq, EAGAIN, "no device is running");
	else
		answer_ok(c, seq);
}

static bool
console_taken(struct vm *vm, const struct device *d, unsigned stream)
{
	struct client *c;

	for (c = TAILQ_FIRST(&vm->clients); c != NULL;
	     c = TAILQ_NEXT(c, link)) {
		if (c->console == d && c->console_stream == stream)
			return true;
	}
	return false;
}

static struct device *
first_with_stream(struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].manifest.nstreams > 0)
			return &vm->device[i];
	return NULL;
}

/* The index of a stream of d, "" being the first.  If there is none, the client
 * is told, and it is the number of them. */
static unsigned
find_stream(
    struct client *c, uint64_t seq, const struct device *d, const char *name)
{
	unsigned i;

	for (i = 0; i < d->manifest.nstreams; i++)
		if (name[0] == '\0' ||
		    strcmp(name, d->manifest.streams[i]) == 0)
			return i;
	refuse(c, seq, ENOENT, "device %s has no byte stream %.40s", d->name,
	    name);
	return i;
}

static void
on_attach(struct client *c, uint64_t seq, const Bulkhead__AttachConsole *a)
{
	Bulkhead__Console console;
	struct vm *vm = c->vm;
	struct device *d = a->device[0] == '\0' ? first_with_stream(vm)
						: vm_find_device(vm, a->device);
	const struct device_stream *s;
	unsigned i;

	bulkhead__console__init(&console);
	if (vm->stage < VM_LOADING) {
		refuse(c, seq, EAGAIN, "the VM is being built");
		return;
	}
	if (d == NULL) {
		refuse(c, seq, ENOENT, "no device %.40s", a->device);
		return;
	}
	i = find_stream(c, seq, d, a->stream);
	if (i == d->manifest.nstreams)
		return;
	if (c->console != NULL || console_taken(vm, d, i)) {
		refuse(c, seq, EBUSY, "the console of %s is in use", d->name);
		return;
	}
	s = &d->stream[i];
	c->console = d;
	c->console_stream = i;
	console.device = d->name;
	answer(c, seq, BULKHEAD__ENVELOPE__BODY_CONSOLE, &console,
	    (const int[]){ s->out.fd, s->out_data, s->out_space, s->in.fd,
		s->in_data, s->in_space },
	    6);
}

static void
on_set_params(struct client *c, uint64_t seq, const Bulkhead__SetParams *set)
{
	struct device *d = find_device(c, seq, set->device);
	int r;

	if (d == NULL)
		return;
	r = device_reconfigure(d, c, seq, set);
	if (r == -EBUSY)
		refuse(c, seq, EBUSY, "device %s is being changed", d->name);
	else if (r < 0)
		refuse(c, seq, EAGAIN, "device %s is not running", d->name);
}

static void
on_inject_fault(
    struct client *c, uint64_t seq, const Bulkhead__InjectFault *inject)
{
	struct device *d = find_device(c, seq, inject->device);
	int r = -EINVAL;

	if (d == NULL)
		return;
	if (inject->plan != NULL)
		r = faults_inject(d, inject->plan);
	if (r == 0)
		answer_ok(c, seq);
	else
		refuse(c, seq, -r, "fault of %s: %s", d->name,
		    r == -ENOSPC       ? "it has as many plans as it can"
			: r == -EAGAIN ? "it is not built yet"
				       : "no such plan");
}

static void
on_query_faults(
    struct client *c, uint64_t seq, const Bulkhead__QueryFaults *query)
{
	struct device *d = find_device(c, seq, query->device);

	if (d != NULL)
		faults_describe(c, seq, d, query->clear);
}

static void
on_upgrade(struct client *c, struct channel_message *m)
{
	const Bulkhead__Envelope *e = m->envelope;
	struct device *d = find_device(c, e->seq, e->upgrade->device);
	int program = -1;

	if (d == NULL)
		return;
	if (m->nfds > 0) {
		program = m->fds[0];
		m->fds[0] = -1;
	}
	upgrade_begin(d, c, e->seq, program);
}

static void
on_console_size(
    struct client *c, uint64_t seq, const Bulkhead__ConsoleSize *size)
{
	struct device *d = find_device(c, seq, size->device);
	Bulkhead__Resize resize;
	unsigned i;

	if (d == NULL)
		return;
	i = find_stream(c, seq, d, size->stream);
	if (i == d->manifest.nstreams)
		return;
	bulkhead__resize__init(&resize);
	resize.stream = d->manifest.streams[i];
	resize.columns = size->columns;
	resize.rows = size->rows;
	if (d->state != DEVICE_RUNNING ||
	    channel_send(&d->now->channel, BULKHEAD__ENVELOPE__BODY_RESIZE,
		&resize, NULL, 0, 0) < 0)
		refuse(c, seq, EAGAIN, "device %s is not running", d->name);
	else
		answer_ok(c, seq);
}

static void
on_request(struct client *c, struct channel_message *m)
{
	const Bulkhead__Envelope *e = m->envelope;

	switch ((int)e->body_case) {
	case BULKHEAD__ENVELOPE__BODY_CREATE:
		if (c->owner && c->vm->stage == VM_EMPTY)
			vm_create(c->vm, m);
		else
			refuse(c, e->seq, EEXIST, "there is a VM already");
		break;
	case BULKHEAD__ENVELOPE__BODY_DESCRIBE:
		describe_vm(c, e->seq);
		break;
	case BULKHEAD__ENVELOPE__BODY_QUERY_STATS:
		describe_stats(c, e->seq, e->query_stats->device);
		break;
	case BULKHEAD__ENVELOPE__BODY_SET_PARAMS:
		on_set_params(c, e->seq, e->set_params);
		break;
	case BULKHEAD__ENVELOPE__BODY_INJECT_FAULT:
		on_inject_fault(c, e->seq, e->inject_fault);
		break;
	case BULKHEAD__ENVELOPE__BODY_QUERY_FAULTS:
		on_query_faults(c, e->seq, e->query_faults);
		break;
	case BULKHEAD__ENVELOPE__BODY_UPGRADE:
		on_upgrade(c, m);
		break;
	case BULKHEAD__ENVELOPE__BODY_CONSOLE_SIZE:
		on_console_size(c, e->seq, e->console_size);
		break;
	case BULKHEAD__ENVELOPE__BODY_KILL:
		on_kill(c, e->seq, e->kill);
		break;
	case BULKHEAD__ENVELOPE__BODY_SHUTDOWN:
		on_shutdown(c, e->seq, e->shutdown);
		break;
	case BULKHEAD__ENVELOPE__BODY_ATTACH_CONSOLE:
		on_attach(c, e->seq, e->attach_console);
		break;
	default:
		refuse(c, e->seq, ENOTSUP, "not a request");
		break;
	}
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	struct vm *vm = c->vm;
	struct channel_message m;
	int r;

	(void)fd;
	(void)what;
	/* One at a time: a client that floods us must not keep us from the
	 * others. */
	r = channel_receive(&c->channel, &m, -1);
	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		client_drop(c);
		return;
	}
	on_request(c, &m);
	channel_free(&m);
	vm_advance(vm);
}

/* ---- coming ---- */

int
client_add(struct vm *vm, int fd, bool owner)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		close(fd);
		return -ENOMEM;
	}
	c->vm = vm;
	c->owner = owner;
	channel_init(&c->channel, fd, CHANNEL_BROKER_TO_CLIENT);
	c->on_message =
	    event_new(vm->base, fd, EV_READ | EV_PERSIST, on_message, c);
	if (c->on_message == NULL || event_add(c->on_message, NULL) < 0) {
		if (c->on_message != NULL)
			event_free(c->on_message);
		channel_close(&c->channel);
		free(c);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&vm->clients, c, link);
	vm->nclients++;
	return 0;
}

static void
on_listen(evutil_socket_t fd, short what, void *arg)
{
	struct vm *vm = arg;
	struct ucred cred;
	socklen_t n = sizeof(cred);
	/* cppcheck-suppress nullPointer ; accept() takes NULL for "do not say" */
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (peer < 0)
		return;
	if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 ||
	    (cred.uid != vm->owner && cred.uid != 0) ||
	    vm->nclients >= VM_CLIENTS_MAX) {
		close(peer);
		return;
	}
	/* It closes the fd if it fails. */
	client_add(vm, peer, false);
}

void
client_listen(struct vm *vm, int fd)
{
	evutil_make_socket_nonblocking(fd);
	vm->on_listen =
	    event_new(vm->base, fd, EV_READ | EV_PERSIST, on_listen, vm);
	if (vm->on_listen != NULL)
		event_add(vm->on_listen, NULL);
}

/* ---- what clients are told ---- */

/* Is there room for an answer after what the client has not read yet? */
static bool
keeps_up(const struct client *c)
{
	int unread = 0;

	return ioctl(c->channel.fd, SIOCOUTQ, &unread) < 0 ||
	    unread < UNREAD_MAX;
}

void
client_event(
    struct vm *vm, const char *device, unsigned level, const char *fmt, ...)
{
	Bulkhead__Event e;
	char text[VM_TEXT], name[MANIFEST_NAME];
	struct client *c;
	va_list ap;

	bulkhead__event__init(&e);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(name, sizeof(name), "%s", device);
	e.device = name;
	e.text = text;
	e.level = level;
	for (c = TAILQ_FIRST(&vm->clients); c != NULL;
	     c = TAILQ_NEXT(c, link)) {
		if (keeps_up(c))
			channel_send(&c->channel,
			    BULKHEAD__ENVELOPE__BODY_EVENT, &e, NULL, 0, 0);
	}
}

static struct client *
owner_of(struct vm *vm)
{
	struct client *c;

	for (c = TAILQ_FIRST(&vm->clients); c != NULL;
	     c = TAILQ_NEXT(c, link)) {
		if (c->owner)
			return c;
	}
	return NULL;
}

bool
client_owner_is_here(struct vm *vm)
{
	return owner_of(vm) != NULL;
}

void
client_started(struct vm *vm)
{
	Bulkhead__Started s;
	struct client *c = owner_of(vm);
	char name[32];

	bulkhead__started__init(&s);
	if (c == NULL)
		return;
	snprintf(name, sizeof(name), "%s", vm->hv->name);
	s.hypervisor = name;
	s.why = vm->hv_why;
	s.first_run_ns = vm->run_ns - vm->made_ns;
	channel_send(
	    &c->channel, BULKHEAD__ENVELOPE__BODY_STARTED, &s, NULL, 0, 0);
}

void
client_failed(struct vm *vm, int error, const char *text)
{
	struct client *c = owner_of(vm);

	if (c != NULL)
		refuse(c, 0, error, "%s", text);
}

void
client_ended(struct vm *vm)
{
	Bulkhead__Ended e;
	struct client *c;

	bulkhead__ended__init(&e);
	e.reason = (Bulkhead__EndReason)vm->end_reason;
	e.text = vm->end_text;
	e.icount = vm->icount_text;
	for (c = TAILQ_FIRST(&vm->clients); c != NULL;
	     c = TAILQ_NEXT(c, link)) {
		channel_send(&c->channel, BULKHEAD__ENVELOPE__BODY_ENDED, &e,
		    NULL, 0, 0);
	}
}
