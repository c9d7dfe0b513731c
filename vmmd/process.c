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

static int
spawn(struct process *p, int theirs, char *err, size_t size)
{
	struct device *d = p->device;
	struct vm *vm = d->vm;
	char program[] = "devhost";
	char *const argv[] = { program, d->type, NULL };
	unsigned index =
	    d->loader ? UIDS_PER_VM - 1 : (unsigned)(d - vm->device);
	const struct sandbox_spawn s = {
		.exec_fd = vm->create.fds[d->loader ? 0 : d->config->program],
		.argv = argv,
		.control_fd = theirs,
		.mode = vm->sandbox,
		.uid = device_uid(getpid(), index),
		.network = !d->loader && d->config->network,
	};
	int r = sandbox_spawn(&s, &p->pid, &p->pidfd, err, size);

	close(theirs);
	if (r < 0)
		return r;
	p->mounts = proc_hold_mounts(p->pid);
	p->on_exit = event_new(
	    vm->base, p->pidfd, EV_READ | EV_PERSIST, on_exit_event, p);
	return p->on_exit == NULL ? -ENOMEM : event_add(p->on_exit, NULL);
}

static int
start_inline(struct device *d, int theirs)
{
	void *host = NULL;
	int r = vm_inline_ops()->start(d->type, theirs, &host);

	if (r == 0)
		d->port->inline_host = host;
	return r;
}

int
process_start(struct process *p, char *err, size_t size)
{
	struct device *d = p->device;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, pair) < 0)
		return -errno;
	channel_init(&p->channel, pair[0],
	    d->loader ? CHANNEL_BROKER_TO_LOADER : CHANNEL_BROKER_TO_DEVICE);
	r = d->is_inline ? start_inline(d, pair[1])
			 : spawn(p, pair[1], err, size);
	if (r < 0)
		return r;
	p->on_message = event_new(
	    d->vm->base, pair[0], EV_READ | EV_PERSIST, on_message, p);
	if (p->on_message == NULL || event_add(p->on_message, NULL) < 0)
		process_kill(p, "out of memory");
	return 0;
}
