/* run and layout: open what the user names, start a broker, and stay. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/console.h"

#define START_MS 60000
#define LEAVE_NS 3000000000u

static uint64_t
machine_bytes(void)
{
	struct sysinfo si;

	if (sysinfo(&si) < 0)
		return UINT64_MAX;
	return (uint64_t)si.totalram * si.mem_unit;
}

/* Open a file for the VM.  The fd, or -1 after a complaint. */
static int
open_input(const char *option, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		complain_code(
		    EXIT_INPUT, "%s %s: %s", option, path, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		complain_code(
		    EXIT_INPUT, "%s %s: not a regular file", option, path);
		close(fd);
		return -1;
	}
	if (st.st_size == 0) {
		complain_code(
		    EXIT_INPUT, "%s %s: the file is empty", option, path);
		close(fd);
		return -1;
	}
	return fd;
}

struct broker {
	pid_t pid;
	struct channel channel;
};

struct files {
	int devhost, kernel, initrd;
};

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

static int
start_broker(struct broker *b, const struct run_options *o, const char *path,
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

/* What protobuf-c wants to write to, but does not. */
static char *
text(const char *s)
{
	union {
		const char *in;
		char *out;
	} u = { .in = s };

	return u.out;
}

struct device_messages {
	Bulkhead__DeviceConfig config[OPTIONS_DEVICES], *list[OPTIONS_DEVICES];
	Bulkhead__Param param[OPTIONS_DEVICES][OPTIONS_PARAMS],
	    *params[OPTIONS_DEVICES][OPTIONS_PARAMS];
};

static int
send_create(
    struct broker *b, const struct run_options *o, const struct files *f)
{
	struct device_messages *d = calloc(1, sizeof(*d));
	const int fds[] = { f->devhost, f->kernel, f->initrd };
	Bulkhead__CreateVm c;
	int r;

	if (d == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < o->ndevices; i++) {
		const struct option_device *od = &o->devices[i];

		bulkhead__device_config__init(&d->config[i]);
		d->config[i].type = text(od->type);
		d->config[i].name = text(od->name);
		d->config[i].placement =
		    text(od->is_inline ? "inline" : "isolated");
		d->config[i].restarts = od->restarts;
		for (unsigned j = 0; j < od->nparams; j++) {
			bulkhead__param__init(&d->param[i][j]);
			d->param[i][j].key = text(od->params[j].key);
			d->param[i][j].value = text(od->params[j].value);
			d->params[i][j] = &d->param[i][j];
		}
		d->config[i].params = d->params[i];
		d->config[i].n_params = od->nparams;
		d->list[i] = &d->config[i];
	}
	bulkhead__create_vm__init(&c);
	c.name = text(o->name);
	c.memory = o->memory;
	c.vcpus = o->cpus;
	c.hypervisor = text(o->hypervisor);
	c.cmdline = text(o->cmdline);
	c.has_initrd = f->initrd >= 0;
	c.devices = d->list;
	c.n_devices = o->ndevices;
	c.sandbox = text(o->sandbox);
	c.wait_policy = text(o->wait_policy);
	c.detach = o->detach;
	r = channel_send(&b->channel, BULKHEAD__ENVELOPE__BODY_CREATE, &c, fds,
	    c.has_initrd ? 3 : 2, 0);
	free(d);
	return r;
}

/*
 * Wait for what became of the create message.  EXIT_POWEROFF: it runs (or, of
 * `layout`, it is done); else the exit code, after a complaint.  start_ns is when
 * the user asked for it.
 */
static int
await_start(struct broker *b, const struct run_options *o, uint64_t start_ns)
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
			code = complain_code(
			    connect_failure_code(m.envelope->failure), "%s",
			    m.envelope->failure->text);
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

/* The console's six fds, and in *ended the VM's end if it has come to that.
 * EXIT_POWEROFF, or a code after a complaint. */
static int
attach(struct channel *c, const char *device, int fds[6],
    struct channel_message *ended)
{
	Bulkhead__AttachConsole a;
	struct channel_message m;
	int code;

	bulkhead__attach_console__init(&a);
	a.device = text(device);
	if (connect_ask(
		c, BULKHEAD__ENVELOPE__BODY_ATTACH_CONSOLE, &a, &m, ended) != 1)
		return complain_code(EXIT_ERROR, "the broker does not answer");
	if (m.envelope->body_case == BULKHEAD__ENVELOPE__BODY_CONSOLE) {
		for (unsigned i = 0; i < 6; i++) {
			fds[i] = m.fds[i];
			m.fds[i] = -1;
		}
		code = EXIT_POWEROFF;
	} else if (m.envelope->body_case == BULKHEAD__ENVELOPE__BODY_FAILURE) {
		code = complain_code(connect_failure_code(m.envelope->failure),
		    "%s", m.envelope->failure->text);
	} else {
		code = complain_code(EXIT_ERROR, "the VM has ended");
	}
	channel_free(&m);
	return code;
}

/* Leave nothing behind: the broker ends before we do. */
static void
leave(struct broker *b)
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

static int
stay(struct broker *b, const struct run_options *o)
{
	struct channel_message ended = { 0 };
	struct console_options options = {
		.attached = !o->no_console,
		.owner = true,
		.quiet = o->quiet,
		.verbose = o->verbose,
	};
	int fds[6], code = EXIT_POWEROFF;

	if (options.attached)
		code = attach(&b->channel, o->console != NULL ? o->console : "",
		    fds, &ended);
	if (ended.envelope != NULL)
		options.ended = ended.envelope->ended;
	if (code == EXIT_POWEROFF)
		code = console_run(&b->channel, fds, &options);
	if (ended.envelope != NULL)
		channel_free(&ended);
	return code;
}

static int
prepare(struct run_options *o, const char *command, char broker[PATH_MAX],
    struct files *f)
{
	struct known_type types[KNOWN_TYPES];
	char devhost[PATH_MAX], err[1024];
	const char *name = "vmmd";
	int n;

	if (connect_find_program("devhost", devhost) < 0)
		return complain_code(EXIT_ERROR,
		    "cannot find the program devhost (see BULKHEAD_LIBEXEC)");
	n = connect_list_types(devhost, types);
	if (n < 0)
		return complain_code(
		    EXIT_ERROR, "%s --list: %s", devhost, strerror(-n));
	if (options_resolve_devices(o, types, (unsigned)n, err, sizeof(err)) <
	    0)
		return complain_code(EXIT_USAGE, "%s: %s", command, err);
	for (unsigned i = 0; i < o->ndevices; i++)
		if (o->devices[i].is_inline)
			name = "vmmd-inline";
	if (connect_find_program(name, broker) < 0)
		return complain_code(EXIT_ERROR,
		    "cannot find the program %s (see BULKHEAD_LIBEXEC)", name);
	f->devhost = open(devhost, O_PATH | O_CLOEXEC);
	if (f->devhost < 0)
		return complain_code(
		    EXIT_ERROR, "%s: %s", devhost, strerror(errno));
	return EXIT_POWEROFF;
}

static int
parse(struct run_options *o, int argc, char **argv)
{
	char err[1024];

	if (options_parse_run(
		o, argc - 1, argv + 1, machine_bytes(), err, sizeof(err)) < 0)
		return complain_code(EXIT_USAGE, "%s: %s", argv[0], err);
	return EXIT_POWEROFF;
}

int
command_run(int argc, char **argv)
{
	static struct run_options o;
	struct files f = { -1, -1, -1 };
	const uint64_t start_ns = time_now_ns();
	char path[PATH_MAX];
	struct broker b;
	int code = parse(&o, argc, argv);

	if (code != EXIT_POWEROFF)
		return code;
	if (o.help)
		return command_help(argv[0], EXIT_POWEROFF);
	if (o.kernel == NULL)
		return complain_code(EXIT_USAGE, "run: --kernel is missing");
	f.kernel = open_input("--kernel", o.kernel);
	if (f.kernel < 0)
		return EXIT_INPUT;
	if (o.initrd != NULL) {
		f.initrd = open_input("--initrd", o.initrd);
		if (f.initrd < 0)
			return EXIT_INPUT;
	}
	code = prepare(&o, argv[0], path, &f);
	if (code != EXIT_POWEROFF)
		return code;
	if (strcmp(o.sandbox, "off") == 0)
		fputs("vmmctl: warning: the devices run without a sandbox\n",
		    stderr);
	code = start_broker(&b, &o, path, false);
	if (code != EXIT_POWEROFF)
		return code;
	if (send_create(&b, &o, &f) < 0)
		code = complain_code(EXIT_ERROR, "the broker did not start");
	else
		code = await_start(&b, &o, start_ns);
	if (code == EXIT_POWEROFF && o.detach) {
		printf("%s\n", o.name);
		return EXIT_POWEROFF;
	}
	if (code == EXIT_POWEROFF)
		code = stay(&b, &o);
	leave(&b);
	return code;
}

int
command_layout(int argc, char **argv)
{
	static struct run_options o;
	struct files f = { -1, -1, -1 };
	const uint64_t start_ns = time_now_ns();
	char path[PATH_MAX];
	struct broker b;
	int code = parse(&o, argc, argv);

	if (code != EXIT_POWEROFF)
		return code;
	if (o.help)
		return command_help(argv[0], EXIT_POWEROFF);
	code = prepare(&o, argv[0], path, &f);
	if (code != EXIT_POWEROFF)
		return code;
	/* No image is loaded, but the message has one. */
	f.kernel = open("/dev/null", O_RDONLY | O_CLOEXEC);
	o.detach = false;
	code = start_broker(&b, &o, path, true);
	if (code != EXIT_POWEROFF)
		return code;
	if (send_create(&b, &o, &f) < 0)
		code = complain_code(EXIT_ERROR, "the broker did not start");
	else
		code = await_start(&b, &o, start_ns);
	leave(&b);
	return code;
}

int
command_console(int argc, char **argv)
{
	struct console_options options = { .attached = true };
	struct channel_message ended = { 0 };
	const char *vm = argc > 1 ? argv[1] : NULL;
	struct channel c;
	int fds[6], code;

	if (vm != NULL && strcmp(vm, "--help") == 0)
		return command_help(argv[0], EXIT_POWEROFF);
	if (vm == NULL || argc > 3)
		return complain_code(
		    EXIT_USAGE, "console: usage: vmmctl console VM [DEVICE]");
	if (connect_vm(&c, geteuid(), vm) < 0)
		return complain_code(EXIT_NO_VM, "no VM %s is running", vm);
	code = attach(&c, argc > 2 ? argv[2] : "", fds, &ended);
	if (ended.envelope != NULL)
		options.ended = ended.envelope->ended;
	if (code == EXIT_POWEROFF)
		code = console_run(&c, fds, &options);
	if (ended.envelope != NULL)
		channel_free(&ended);
	channel_close(&c);
	return code;
}
