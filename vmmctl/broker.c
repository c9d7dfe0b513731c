/* The broker's process. */
#include "vmmctl/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/connect.h"

#define START_MS 60000
#define LEAVE_NS 3000000000u

static void
run_broker(const char *path, int channel, int listener, bool layout, bool quiet)
{
	char program[] = "vmmd", option[] = "--layout-only";
	char *argv[] = { program, layout ? option : NULL, NULL };
	int null = open("/dev/null", O_RDWR);

	/* Out of the way of 3 and 4 first. */
	channel = fcntl(channel, F_DUPFD, 10);
	listener = fcntl(listener, F_DUPFD, 10);
	if (null < 0 || channel < 0 || listener < 0)
		_exit(EXIT_ERROR);
	dup2(null, STDIN_FILENO);
	if (quiet) {
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
	dup2(channel, 3);
	dup2(listener, 4);
	close_range(5, ~0u, 0);
	/* The terminal's signals are ours, not the broker's. */
	setsid();
	execv(path, argv);
	_exit(EXIT_ERROR);
}

int
broker_start(struct broker *b, const struct run_options *o, const char *path,
    bool layout)
{
	struct sockaddr_un a;
	socklen_t n = connect_address(&a, geteuid(), o->name);
	int pair[2], listener;

	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (listener < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return complain_code(
		    EXIT_ERROR, "cannot make a socket: %s", strerror(errno));
	if (bind(listener, (const struct sockaddr *)&a, n) < 0 ||
	    listen(listener, 8) < 0)
		return errno == EADDRINUSE
		    ? complain_code(EXIT_USAGE,
			  "--name %s: a VM of that name is running", o->name)
		    : complain_code(EXIT_ERROR, "cannot bind a socket: %s",
			  strerror(errno));
	b->pid = fork();
	if (b->pid < 0)
		return complain_code(
		    EXIT_ERROR, "cannot fork: %s", strerror(errno));
	if (b->pid == 0)
		run_broker(path, pair[1], listener, layout, o->detach);
	close(pair[1]);
	close(listener);
	channel_init(&b->channel, pair[0], CHANNEL_CLIENT);
	return EXIT_POWEROFF;
}

struct device_messages {
	Bulkhead__DeviceConfig config[OPTIONS_DEVICES], *list[OPTIONS_DEVICES];
	Bulkhead__Param param[OPTIONS_DEVICES][OPTIONS_PARAMS],
	    *params[OPTIONS_DEVICES][OPTIONS_PARAMS];
	char *files[OPTIONS_DEVICES][OPTIONS_FILES];
	char *link[OPTIONS_DEVICES];
};

static void
fill_device(
    struct device_messages *m, unsigned i, const struct option_device *d)
{
	Bulkhead__DeviceConfig *c = &m->config[i];

	bulkhead__device_config__init(c);
	m->list[i] = c;
	c->type = connect_text(d->type);
	c->name = connect_text(d->name);
	c->placement = connect_text(d->is_inline ? "inline" : "isolated");
	c->restarts = d->restarts;
	c->spare = d->spare;
	if (d->policy != NULL)
		c->policy = connect_text(d->policy);
	c->deadline_ms = d->deadline_ms;
	c->program = d->program;
	c->network = d->network;
	for (unsigned j = 0; j < d->nparams; j++) {
		bulkhead__param__init(&m->param[i][j]);
		m->param[i][j].key = connect_text(d->params[j].key);
		m->param[i][j].value = connect_text(d->params[j].value);
		m->params[i][j] = &m->param[i][j];
	}
	c->params = m->params[i];
	c->n_params = d->nparams;
	if (d->link[0] != '\0') {
		m->link[i] = connect_text(d->link);
		c->links = &m->link[i];
		c->n_links = 1;
	}
	for (unsigned j = 0; j < d->nfiles; j++)
		m->files[i][j] = connect_text(d->files[j].name);
	c->files = m->files[i];
	c->n_files = d->nfiles;
}

int
broker_create(struct broker *b, const struct run_options *o,
    const struct broker_inputs *in)
{
	struct device_messages *d = calloc(1, sizeof(*d));
	int fds[CHANNEL_FDS_MAX];
	Bulkhead__CreateVm c;
	unsigned n = 0;
	int r;

	if (d == NULL)
		return -ENOMEM;
	BUG_ON(in->files.n + BROKER_PROGRAMS + 2 > CHANNEL_FDS_MAX);
	for (unsigned i = 0; i < o->ndevices; i++)
		fill_device(d, i, &o->devices[i]);
	bulkhead__create_vm__init(&c);
	c.name = connect_text(o->name);
	c.memory = o->memory;
	c.vcpus = o->cpus;
	c.hypervisor = connect_text(o->hypervisor);
	c.cmdline = connect_text(o->cmdline);
	c.has_initrd = in->initrd >= 0;
	c.devices = d->list;
	c.n_devices = o->ndevices;
	c.sandbox = connect_text(o->sandbox);
	c.wait_policy = connect_text(o->wait_policy);
	c.detach = o->detach;
	c.icount = o->icount;
	c.programs = in->nprograms;
	c.has_recorder = in->files.has_recorder;
	for (unsigned i = 0; i < in->nprograms; i++)
		fds[n++] = in->program[i];
	fds[n++] = in->kernel;
	if (c.has_initrd)
		fds[n++] = in->initrd;
	for (unsigned i = 0; i < in->files.n; i++)
		fds[n++] = in->files.fd[i];
	r = channel_send(
	    &b->channel, BULKHEAD__ENVELOPE__BODY_CREATE, &c, fds, n, 0);
	free(d);
	return r;
}

/* Without a path nobody knows where to look. */
static int
complain_failure(const Bulkhead__Failure *f)
{
	int code = connect_failure_code(f);

	if (code == EXIT_NO_HYPERVISOR && strstr(f->text, "kvm") != NULL &&
	    strstr(f->text, "/dev/kvm") == NULL)
		return complain_code(code, "%s (/dev/kvm: %s)", f->text,
		    access("/dev/kvm", R_OK | W_OK) == 0 ? "accessible"
							 : strerror(errno));
	return complain_code(code, "%s", f->text);
}

int
broker_await(struct broker *b, const struct run_options *o, uint64_t start_ns)
{
	struct channel_message m;
	int code = -1, r;

	while (code < 0) {
		r = channel_receive(&b->channel, &m, START_MS);
		if (r <= 0)
			return complain_code(EXIT_ERROR,
			    r == 0 ? "the broker died while it started"
				   : "the broker does not answer");
		switch ((int)m.envelope->body_case) {
		case BULKHEAD__ENVELOPE__BODY_STARTED:
			if (m.envelope->started->why[0] != '\0' && !o->quiet)
				fprintf(stderr, "vmmctl: hypervisor %s: %s\n",
				    m.envelope->started->hypervisor,
				    m.envelope->started->why);
			if (o->verbose)
				fprintf(stderr,
				    "vmmctl: %s runs on %s: "
				    "first instruction after %.1f ms\n",
				    o->name, m.envelope->started->hypervisor,
				    (double)(time_now_ns() - start_ns) / 1e6);
			code = EXIT_POWEROFF;
			break;
		case BULKHEAD__ENVELOPE__BODY_FAILURE:
			code = complain_failure(m.envelope->failure);
			break;
		case BULKHEAD__ENVELOPE__BODY_EVENT:
			if (!o->quiet &&
			    m.envelope->event->level <= (o->verbose ? 3u : 1u))
				fprintf(stderr, "vmmctl: %s: %s\n",
				    m.envelope->event->device,
				    m.envelope->event->text);
			break;
		case BULKHEAD__ENVELOPE__BODY_ENDED:
			code = m.envelope->ended->reason ==
				BULKHEAD__END_REASON__END_POWEROFF
			    ? EXIT_POWEROFF
			    : complain_code(
				  EXIT_ERROR, "%s", m.envelope->ended->text);
			break;
		default:
			break;
		}
		channel_free(&m);
	}
	return code;
}

void
broker_leave(struct broker *b)
{
	uint64_t deadline = time_now_ns() + LEAVE_NS;

	channel_close(&b->channel);
	while (waitpid(b->pid, NULL, WNOHANG) == 0) {
		const struct timespec ms = { .tv_nsec = 1000000 };

		if (time_now_ns() > deadline) {
			kill(b->pid, SIGKILL);
			waitpid(b->pid, NULL, 0);
			return;
		}
		nanosleep(&ms, NULL);
	}
}
