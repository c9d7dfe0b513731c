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
#include "vmmctl/broker.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/console.h"

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

struct terminal {
	char device[OPTIONS_NAME]; /* the broker's word for it */
	char stream[OPTIONS_NAME]; /* "": the first */
	int fds[6];
	struct channel_message ended; /* the VM has: envelope not NULL */
};

/* "DEVICE", "DEVICE:STREAM"; "": the first that there is. */
static void
split_name(struct terminal *t, const char *name)
{
	size_t n = strcspn(name, ":");

	snprintf(t->device, sizeof(t->device), "%.*s",
	    (int)MIN(n, (size_t)OPTIONS_NAME - 1), name);
	snprintf(t->stream, sizeof(t->stream), "%.31s",
	    name[n] == ':' ? name + n + 1 : "");
}

/* EXIT_POWEROFF, or a code after a complaint. */
static int
attach(struct channel *c, const char *name, struct terminal *t)
{
	Bulkhead__AttachConsole a;
	struct channel_message m;
	int code;

	memset(t, 0, sizeof(*t));
	split_name(t, name);
	bulkhead__attach_console__init(&a);
	a.device = t->device;
	a.stream = t->stream;
	if (connect_ask(c, BULKHEAD__ENVELOPE__BODY_ATTACH_CONSOLE, &a, &m,
		&t->ended) != 1)
		return complain_code(EXIT_ERROR, "the broker does not answer");
	if (m.envelope->body_case == BULKHEAD__ENVELOPE__BODY_CONSOLE) {
		for (unsigned i = 0; i < 6; i++) {
			t->fds[i] = m.fds[i];
			m.fds[i] = -1;
		}
		snprintf(t->device, sizeof(t->device), "%.31s",
		    m.envelope->console->device);
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

/* Be the terminal until the end; of the options, only what the user said. */
static int
be_terminal(
    struct channel *c, const char *name, const struct console_options *said)
{
	struct console_options o = *said;
	struct terminal t = { .ended = { 0 } };
	int code = o.attached ? attach(c, name, &t) : EXIT_POWEROFF;

	if (t.ended.envelope != NULL)
		o.ended = t.ended.envelope->ended;
	o.device = t.device;
	o.stream = t.stream;
	if (code == EXIT_POWEROFF)
		code = console_run(c, t.fds, &o);
	if (t.ended.envelope != NULL)
		channel_free(&t.ended);
	return code;
}

static int
stay(struct broker *b, const struct run_options *o)
{
	const struct console_options options = {
		.attached = !o->no_console,
		.owner = true,
		.quiet = o->quiet,
		.verbose = o->verbose,
	};

	return be_terminal(
	    &b->channel, o->console != NULL ? o->console : "", &options);
}

/*
 * The types of the device hosts.  The second is asked only if the first does not
 * know all that is wanted, for it takes its time to load; and it need not be
 * there.
 */
static int
list_types(const struct run_options *o, struct known_type types[KNOWN_TYPES],
    char program[BROKER_PROGRAMS][PATH_MAX], unsigned *ntypes)
{
	static const char *const names[BROKER_PROGRAMS] = { "devhost",
		"devhost-ext" };

	*ntypes = 0;
	for (unsigned i = 0; i < BROKER_PROGRAMS; i++) {
		int n;

		if (i > 0 && options_types_known(o, types, *ntypes))
			break;
		if (connect_find_program(names[i], program[i]) < 0) {
			program[i][0] = '\0';
			if (i > 0)
				continue;
			return complain_code(EXIT_ERROR,
			    "cannot find the program %s (see "
			    "BULKHEAD_LIBEXEC)",
			    names[i]);
		}
		n = connect_list_types(
		    program[i], types + *ntypes, KNOWN_TYPES - *ntypes);
		if (n < 0)
			return complain_code(EXIT_ERROR, "%s --list: %s",
			    program[i], strerror(-n));
		for (int j = 0; j < n; j++)
			types[*ntypes + (unsigned)j].program = i;
		*ntypes += (unsigned)n;
	}
	return EXIT_POWEROFF;
}

/* The second program is handed in only if a device wants it. */
static int
open_programs(struct broker_inputs *in, const struct run_options *o,
    char program[BROKER_PROGRAMS][PATH_MAX])
{
	unsigned n = 1;

	for (unsigned i = 0; i < o->ndevices; i++)
		n = MAX(n, o->devices[i].program + 1);
	for (; in->nprograms < n; in->nprograms++) {
		const char *path = program[in->nprograms];
		int fd = open(path, O_PATH | O_CLOEXEC);

		if (fd < 0)
			return complain_code(
			    EXIT_ERROR, "%s: %s", path, strerror(errno));
		in->program[in->nprograms] = fd;
	}
	return EXIT_POWEROFF;
}

/* What run, layout and config begin with: the devices, and their programs. */
static int
prepare(struct run_options *o, const char *command, char broker[PATH_MAX],
    struct broker_inputs *in, char program[BROKER_PROGRAMS][PATH_MAX])
{
	static struct known_type types[KNOWN_TYPES];
	const char *name = "vmmd";
	unsigned ntypes;
	char err[2048];
	int code = list_types(o, types, program, &ntypes);

	if (code != EXIT_POWEROFF)
		return code;
	if (options_resolve_devices(o, types, ntypes, err, sizeof(err)) < 0)
		return complain_code(EXIT_USAGE, "%s: %s", command, err);
	for (unsigned i = 0; i < o->ndevices; i++)
		if (o->devices[i].is_inline)
			name = "vmmd-inline";
	if (connect_find_program(name, broker) < 0)
		return complain_code(EXIT_ERROR,
		    "cannot find the program %s (see BULKHEAD_LIBEXEC)", name);
	return open_programs(in, o, program);
}

static int
parse(struct run_options *o, int argc, char **argv)
{
	char err[2048];

	if (options_parse_run(
		o, argc - 1, argv + 1, machine_bytes(), err, sizeof(err)) < 0)
		return complain_code(EXIT_USAGE, "%s: %s", argv[0], err);
	return EXIT_POWEROFF;
}

static int
open_images(struct broker_inputs *in, const struct run_options *o)
{
	if (o->kernel == NULL)
		return complain_code(EXIT_USAGE, "run: --kernel is missing");
	in->kernel = open_input("--kernel", o->kernel);
	if (in->kernel < 0)
		return EXIT_INPUT;
	if (o->initrd == NULL)
		return EXIT_POWEROFF;
	in->initrd = open_input("--initrd", o->initrd);
	return in->initrd < 0 ? EXIT_INPUT : EXIT_POWEROFF;
}

/* Of a layout: the types want their files, but nobody reads from them. */
static int
open_nothing(struct broker_inputs *in, const struct run_options *o)
{
	in->kernel = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < o->ndevices; i++)
		for (unsigned j = 0; j < o->devices[i].nfiles; j++)
			in->files.fd[in->files.n++] =
			    open("/dev/null", O_RDWR | O_CLOEXEC);
	return EXIT_POWEROFF;
}

/* Start a broker, have it do what it is to do, and see it through. */
static int
start(const struct run_options *o, const char *path, struct broker_inputs *in,
    bool layout, uint64_t start_ns)
{
	struct broker b;
	int code = broker_start(&b, o, path, layout);

	if (code != EXIT_POWEROFF)
		return code;
	if (broker_create(&b, o, in) < 0)
		code = complain_code(EXIT_ERROR, "the broker did not start");
	else
		code = broker_await(&b, o, start_ns);
	files_close(&in->files);
	if (code == EXIT_POWEROFF && o->detach && !layout) {
		printf("%s\n", o->name);
		return EXIT_POWEROFF;
	}
	if (code == EXIT_POWEROFF && !layout)
		code = stay(&b, o);
	broker_leave(&b);
	return code;
}

static int
make_vm(struct run_options *o, int argc, char **argv, bool layout)
{
	struct broker_inputs in = { .kernel = -1, .initrd = -1 };
	const uint64_t start_ns = time_now_ns();
	static char program[BROKER_PROGRAMS][PATH_MAX];
	char path[PATH_MAX];
	int code = parse(o, argc, argv);

	if (code != EXIT_POWEROFF)
		return code;
	if (o->help)
		return command_help(argv[0], EXIT_POWEROFF);
	if (!layout)
		code = open_images(&in, o);
	if (code == EXIT_POWEROFF)
		code = prepare(o, argv[0], path, &in, program);
	if (code != EXIT_POWEROFF)
		return code;
	code = layout ? open_nothing(&in, o)
		      : files_open(&in.files, o, program[0]);
	if (code == EXIT_POWEROFF && !o->dry_run) {
		if (strcmp(o->sandbox, "off") == 0 && !layout)
			fputs("vmmctl: warning: the devices run without a "
			      "sandbox\n",
			    stderr);
		o->detach = o->detach && !layout;
		code = start(o, path, &in, layout, start_ns);
	}
	/* The connectors of a machine that goes on go on, too. */
	if (code == EXIT_POWEROFF && o->detach && !o->dry_run)
		files_close(&in.files);
	else
		files_leave(&in.files);
	return code;
}

int
command_run(int argc, char **argv)
{
	static struct run_options o;
	int code = make_vm(&o, argc, argv, false);

	options_free(&o);
	return code;
}

int
command_layout(int argc, char **argv)
{
	static struct run_options o;
	int code = make_vm(&o, argc, argv, true);

	options_free(&o);
	return code;
}

/* config --check FILE: would `run` take it? */
int
command_config(int argc, char **argv)
{
	static char program[BROKER_PROGRAMS][PATH_MAX];
	static struct run_options o;
	char run[] = "run", config[] = "--config", path[PATH_MAX];
	struct broker_inputs in = { .kernel = -1, .initrd = -1 };
	char *arguments[] = { run, config, NULL };
	int code;

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0)
			return command_help(argv[0], EXIT_POWEROFF);
	if (argc != 3 || strcmp(argv[1], "--check") != 0)
		return complain_code(
		    EXIT_USAGE, "config: usage: vmmctl config --check FILE");
	arguments[2] = argv[2];
	code = parse(&o, ARRAY_LEN(arguments), arguments);
	if (code == EXIT_POWEROFF)
		code = prepare(&o, argv[0], path, &in, program);
	if (code == EXIT_POWEROFF)
		printf("%s: ok: %u devices\n", argv[2], o.ndevices);
	options_free(&o);
	return code;
}

int
command_console(int argc, char **argv)
{
	const struct console_options options = { .attached = true };
	struct channel c;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	if (argc < 2 || argc > 3)
		return complain_code(EXIT_USAGE,
		    "console: usage: vmmctl console VM [DEVICE[:STREAM]]");
	code = connect_open(&c, argv[1]);
	if (code != EXIT_POWEROFF)
		return code;
	code = be_terminal(&c, argc > 2 ? argv[2] : "", &options);
	channel_close(&c);
	return code;
}
