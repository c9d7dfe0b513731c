/* ps, devices, kill, shutdown: one question to a running VM. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"

static int
ask_describe(struct channel *c, struct channel_message *m)
{
	Bulkhead__Describe d;

	bulkhead__describe__init(&d);
	return connect_question(c, BULKHEAD__ENVELOPE__BODY_DESCRIBE, &d,
	    BULKHEAD__ENVELOPE__BODY_DESCRIPTION, m);
}

/* ---- ps ---- */

static void
print_vm(const char *name, uid_t uid)
{
	struct channel_message m;
	const Bulkhead__Description *d;
	struct channel c;

	/* It may end while we look: then it is not shown. */
	if (connect_vm(&c, uid, name) < 0)
		return;
	if (ask_describe(&c, &m) == EXIT_POWEROFF) {
		d = m.envelope->description;
		printf("%-16s %8d %-6s %6" PRIu64 "M %4u %7u %-9s %10.1f\n",
		    d->name, d->pid, d->hypervisor, d->memory >> 20, d->vcpus,
		    (unsigned)d->n_devices, d->state,
		    (double)d->uptime_ns / 1e9);
		channel_free(&m);
	}
	channel_close(&c);
}

int
command_ps(int argc, char **argv)
{
	char line[512], name[128];
	unsigned flags, uid;
	FILE *f;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	if (argc > 1)
		return complain_code(
		    EXIT_USAGE, "ps: %s: it takes no arguments", argv[1]);
	/* Abstract sockets are in no folder; the kernel has the list. */
	f = fopen("/proc/net/unix", "re");
	if (f == NULL)
		return complain_code(
		    EXIT_ERROR, "/proc/net/unix: %s", strerror(errno));
	printf("%-16s %8s %-6s %7s %4s %7s %-9s %10s\n", "NAME", "PID", "HV",
	    "MEMORY", "CPUS", "DEVICES", "STATE", "UPTIME");
	while (fgets(line, sizeof(line), f) != NULL) {
		/* 0x10000: it listens; the accepted ones have the same name. */
		if (sscanf(line,
			"%*s %*s %*s %x %*s %*s %*s @bulkhead/%u/%127s", &flags,
			&uid, name) == 3 &&
		    (flags & 0x10000) != 0 &&
		    (uid == geteuid() || geteuid() == 0))
			print_vm(name, uid);
	}
	fclose(f);
	return EXIT_POWEROFF;
}

/* ---- devices ---- */

static const char *const dma_names[] = { "none", "windowed", "full" };

static const char *
dma_name(uint32_t dma)
{
	return dma < ARRAY_LEN(dma_names) ? dma_names[dma] : "?";
}

static void
print_resources(const Bulkhead__Placement *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n_regions; i++)
		printf(" %s:%" PRIx64 "+%" PRIx64,
		    p->regions[i]->space == BULKHEAD__SPACE__PIO ? "pio"
								 : "mmio",
		    p->regions[i]->start, p->regions[i]->size);
	for (size_t i = 0; i < p->n_irqs; i++)
		printf(" irq:%u", p->irqs[i]->gsi);
}

static void
print_table(const Bulkhead__Description *d)
{
	printf("%-12s %-10s %7s %-10s %-9s %8s %10s %10s %-8s %8s %7s %s\n",
	    "NAME", "TYPE", "PID", "STATE", "PLACEMENT", "RESTARTS", "READS",
	    "WRITES", "DMA", "SYSCALLS", "SANDBOX", "RESOURCES");
	for (size_t i = 0; i < d->n_devices; i++) {
		const Bulkhead__DeviceInfo *v = d->devices[i];

		printf("%-12s %-10s %7d %-10s %-9s %8u %10" PRIu64 " %10" PRIu64
		       " %-8s %8u %#7" PRIx64,
		    v->name, v->type, v->pid, v->state, v->placement,
		    v->restarts, v->reads, v->writes, dma_name(v->dma),
		    v->syscalls, v->sandbox);
		print_resources(v->resources);
		putchar('\n');
	}
}

static void
print_string(const char *s)
{
	putchar('"');
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void
print_field(const char *key, const char *value)
{
	printf("\"%s\": ", key);
	print_string(value);
	printf(", ");
}

static void
print_device_json(const Bulkhead__DeviceInfo *v)
{
	const Bulkhead__Placement *p = v->resources;

	printf("{");
	print_field("name", v->name);
	print_field("type", v->type);
	print_field("state", v->state);
	print_field("placement", v->placement);
	print_field("dma", dma_name(v->dma));
	print_field("last_death", v->last_death);
	printf("\"pid\": %d, \"restarts\": %u, \"syscalls\": %u, "
	       "\"sandbox\": %" PRIu64 ", \"reads\": %" PRIu64
	       ", \"writes\": %" PRIu64 ", \"recoveries\": %" PRIu64
	       ", \"regions\": [",
	    v->pid, v->restarts, v->syscalls, v->sandbox, v->reads, v->writes,
	    v->recoveries);
	for (size_t i = 0; p != NULL && i < p->n_regions; i++) {
		printf("%s{", i == 0 ? "" : ", ");
		print_field("name", p->regions[i]->name);
		print_field("space",
		    p->regions[i]->space == BULKHEAD__SPACE__PIO ? "pio"
								 : "mmio");
		printf("\"base\": %" PRIu64 ", \"size\": %" PRIu64 "}",
		    p->regions[i]->start, p->regions[i]->size);
	}
	printf("], \"irqs\": [");
	for (size_t i = 0; p != NULL && i < p->n_irqs; i++)
		printf("%s%u", i == 0 ? "" : ", ", p->irqs[i]->gsi);
	printf("]}");
}

static void
print_json(const Bulkhead__Description *d)
{
	printf("{");
	print_field("name", d->name);
	print_field("hypervisor", d->hypervisor);
	print_field("state", d->state);
	printf("\"pid\": %d, \"memory\": %" PRIu64 ", \"vcpus\": %u, "
	       "\"uptime_ns\": %" PRIu64 ", \"devices\": [\n",
	    d->pid, d->memory, d->vcpus, d->uptime_ns);
	for (size_t i = 0; i < d->n_devices; i++) {
		printf("  ");
		print_device_json(d->devices[i]);
		printf("%s\n", i + 1 < d->n_devices ? "," : "");
	}
	printf("]}\n");
}

int
command_devices(int argc, char **argv)
{
	const char *vm = NULL, *format = "table";
	struct channel_message m;
	struct channel c;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--format") == 0 && i + 1 < argc)
			format = argv[++i];
		else if (strncmp(argv[i], "--format=", 9) == 0)
			format = argv[i] + 9;
		else if (argv[i][0] == '-')
			return complain_code(EXIT_USAGE,
			    "devices: unknown option %s; known is: --format",
			    argv[i]);
		else if (vm == NULL)
			vm = argv[i];
		else
			return complain_code(EXIT_USAGE,
			    "devices: %s: one VM at a time", argv[i]);
	}
	if (vm == NULL)
		return complain_code(EXIT_USAGE,
		    "devices: usage: vmmctl devices VM [--format table|json]");
	if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		return complain_code(EXIT_USAGE,
		    "--format %s: unknown; known are: table json", format);
	code = connect_open(&c, vm);
	if (code != EXIT_POWEROFF)
		return code;
	code = ask_describe(&c, &m);
	if (code == EXIT_POWEROFF) {
		if (format[0] == 't')
			print_table(m.envelope->description);
		else
			print_json(m.envelope->description);
		channel_free(&m);
	}
	channel_close(&c);
	return code;
}

/* ---- kill ---- */

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "KILL", SIGKILL },
	{ "STOP", SIGSTOP },
	{ "CONT", SIGCONT },
	{ "TERM", SIGTERM },
	{ "SEGV", SIGSEGV },
	{ "ABRT", SIGABRT },
};

/* A name, with or without SIG, or a number; -1: neither. */
static int
parse_signal(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end != text && *end == '\0')
		return n >= 1 && n <= 64 ? (int)n : -1;
	if (strncmp(text, "SIG", 3) == 0)
		text += 3;
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (strcmp(signals[i].name, text) == 0)
			return signals[i].number;
	return -1;
}

int
command_kill(int argc, char **argv)
{
	const char *arg[2] = { NULL, NULL };
	Bulkhead__DeviceKill k;
	struct channel_message m;
	struct channel c;
	int n = 0, sig = SIGKILL, code;
	char name[OPTIONS_NAME];

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;

		if (strcmp(argv[i], "--signal") == 0 && i + 1 < argc)
			value = argv[++i];
		else if (strncmp(argv[i], "--signal=", 9) == 0)
			value = argv[i] + 9;
		if (value != NULL) {
			sig = parse_signal(value);
			if (sig < 0)
				return complain_code(EXIT_USAGE,
				    "--signal %s: unknown; a number from 1 to "
				    "64 or KILL STOP CONT TERM SEGV ABRT",
				    value);
		} else if (argv[i][0] == '-' || n == 2) {
			return complain_code(
			    EXIT_USAGE, "kill: unknown option %s", argv[i]);
		} else {
			arg[n++] = argv[i];
		}
	}
	if (n != 2)
		return complain_code(EXIT_USAGE,
		    "kill: usage: vmmctl kill VM DEVICE [--signal SIGNAL]");
	code = connect_open(&c, arg[0]);
	if (code != EXIT_POWEROFF)
		return code;
	bulkhead__device_kill__init(&k);
	snprintf(name, sizeof(name), "%.31s", arg[1]);
	k.device = name;
	k.signal = sig;
	code = connect_question(&c, BULKHEAD__ENVELOPE__BODY_KILL, &k,
	    BULKHEAD__ENVELOPE__BODY_OK, &m);
	if (code == EXIT_POWEROFF)
		channel_free(&m);
	channel_close(&c);
	return code;
}

int
command_shutdown(int argc, char **argv)
{
	const char *vm = NULL;
	Bulkhead__Shutdown s;
	struct channel_message m;
	struct channel c;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	bulkhead__shutdown__init(&s);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--force") == 0)
			s.force = true;
		else if (argv[i][0] == '-' || vm != NULL)
			return complain_code(EXIT_USAGE,
			    "shutdown: unknown option %s; known is: --force",
			    argv[i]);
		else
			vm = argv[i];
	}
	if (vm == NULL)
		return complain_code(EXIT_USAGE,
		    "shutdown: usage: vmmctl shutdown VM [--force]");
	code = connect_open(&c, vm);
	if (code != EXIT_POWEROFF)
		return code;
	code = connect_question(&c, BULKHEAD__ENVELOPE__BODY_SHUTDOWN, &s,
	    BULKHEAD__ENVELOPE__BODY_OK, &m);
	if (code == EXIT_POWEROFF)
		channel_free(&m);
	channel_close(&c);
	return code;
}
