/* A device host's process: its start, its channel, its end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmmd/vm.h"

#define UID_BASE	 0x70000000u
#define UIDS_PER_VM	 256u
#define UID_NOBODY	 65534u
#define MESSAGES_AT_ONCE 64u
#define LAST_WORDS	 16u /* times MESSAGES_AT_ONCE */

void
process_init(struct process *p, struct device *d)
{
	*p = (struct process){
		.device = d,
		.pidfd = -1,
		.mounts = -1,
		.program = -1,
		.channel = { .fd = -1 },
	};
}

bool
process_is_there(const struct process *p)
{
	return p->pidfd >= 0 || (p->device->is_inline && p->channel.fd >= 0);
}

void
process_kill(struct process *p, const char *why)
{
	if (!process_is_there(p))
		return;
	if (p->kill_reason[0] == '\0')
		snprintf(p->kill_reason, sizeof(p->kill_reason), "%s", why);
	if (p->pidfd >= 0)
		pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
	else if (p->device->is_inline && p->channel.fd >= 0)
		device_died(p, why);
}

void
process_forget(struct process *p)
{
	struct event *events[] = { p->on_message, p->on_exit };

	for (unsigned i = 0; i < ARRAY_LEN(events); i++)
		if (events[i] != NULL)
			event_free(events[i]);
	channel_close(&p->channel);
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->mounts >= 0)
		close(p->mounts);
	process_init(p, p->device);
}

/* ---- events ---- */

/* Take the messages that are there.  False: the channel is at its end. */
static bool
drain(struct process *p)
{
	struct channel_message m;
	int r;

	/* One that floods us must not keep us from the others. */
	for (unsigned n = 0; n < MESSAGES_AT_ONCE; n++) {
		if (p->channel.fd < 0)
			return false;
		r = channel_receive(&p->channel, &m, -1);
		if (r == -EAGAIN)
			return true;
		if (r <= 0) {
			if (r < 0)
				process_kill(p, "broke the control protocol");
			return false;
		}
		device_take(p, m.envelope);
		channel_free(&m);
	}
	return true;
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;
	struct vm *vm = p->device->vm;

	(void)fd;
	(void)what;
	if (!drain(p) && p->channel.fd >= 0) {
		event_del(p->on_message);
		device_hung_up(p);
	}
	vm_advance(vm);
}

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
	struct process *p = arg;
	struct vm *vm = p->device->vm;
	siginfo_t si = { 0 };
	char how[64];

	(void)what;
	if (waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG) < 0 ||
	    si.si_pid == 0)
		return;
	p->pid = 0;
	describe_exit(&si, how, sizeof(how));
	p->signal = si.si_code == CLD_EXITED ? 0 : si.si_status;
	p->status = si.si_code == CLD_EXITED ? si.si_status : 0;
	/* Its last words may still be in the channel. */
	for (unsigned i = 0; i < LAST_WORDS && drain(p); i++)
		continue;
	device_died(p, how);
	vm_advance(vm);
}

/* ---- start ---- */

uid_t
device_uid(pid_t broker, unsigned index)
{
	uid_t uid = UID_BASE + ((uid_t)broker & 0xffffu) * UIDS_PER_VM +
	    index % UIDS_PER_VM;

	return proc_uid_is_mapped(uid) ? uid : UID_NOBODY;
}

static unsigned
spawner_index(const struct device *d)
{
	return d->loader ? VM_DEVICES_MAX : (unsigned)(d - d->vm->device);
}

static int
program_of(const struct process *p)
{
	const struct device *d = p->device;

	if (p->program >= 0)
		return p->program;
	if (d->program >= 0)
		return d->program;
	return d->vm->create.fds[d->loader ? 0 : d->config->program];
}

int
process_prepare(struct device *d)
{
	struct vm *vm = d->vm;
	struct spawner_program p = {
		.uid = device_uid(
		    vm->pid, d->loader ? UIDS_PER_VM - 1 : spawner_index(d)),
		.network = !d->loader && d->config->network,
		.mode = vm->sandbox,
	};

	snprintf(p.type, sizeof(p.type), "%s", d->type);
	return spawner_set(&vm->spawner, spawner_index(d), &p,
	    vm->create.fds[d->loader ? 0 : d->config->program]);
}

static int
spawn(struct process *p, int *channel, char *err, size_t size)
{
	struct device *d = p->device;
	struct vm *vm = d->vm;
	struct spawned s;
	int r = 0;

	/* From the first upgrade on, which program it is has to be said. */
	d->reprogrammed |= p->program >= 0;
	if (d->reprogrammed)
		r = spawner_set(
		    &vm->spawner, spawner_index(d), NULL, program_of(p));
	if (r == 0)
		r = spawner_spawn(
		    &vm->spawner, spawner_index(d), &s, err, size);
	if (r < 0)
		return r;
	p->pid = s.pid;
	p->pidfd = s.pidfd;
	p->mounts = s.mounts;
	*channel = s.channel;
	p->on_exit = event_new(
	    vm->base, p->pidfd, EV_READ | EV_PERSIST, on_exit_event, p);
	return p->on_exit == NULL ? -ENOMEM : event_add(p->on_exit, NULL);
}

static int
start_inline(struct device *d, int *channel)
{
	void *host = NULL;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, pair) < 0)
		return -errno;
	*channel = pair[0];
	r = vm_inline_ops()->start(d->type, pair[1], &host);
	if (r == 0)
		d->port->inline_host = host;
	return r;
}

int
process_start(struct process *p, char *err, size_t size)
{
	struct device *d = p->device;
	int channel = -1, r;

	r = d->is_inline ? start_inline(d, &channel)
			 : spawn(p, &channel, err, size);
	channel_init(&p->channel, channel,
	    d->loader ? CHANNEL_BROKER_TO_LOADER : CHANNEL_BROKER_TO_DEVICE);
	if (r < 0)
		return r;
	p->on_message = event_new(
	    d->vm->base, channel, EV_READ | EV_PERSIST, on_message, p);
	if (p->on_message == NULL || event_add(p->on_message, NULL) < 0)
		process_kill(p, "out of memory");
	return 0;
}
