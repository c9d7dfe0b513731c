/* ps, kill, shutdown: one question to a running VM. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"

#define END_NS 10000000000u

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
	if (connect_describe(&c, &m) == EXIT_POWEROFF) {
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

/* Until its name is free, so that another may have it. */
static int
await_end(const char *vm)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	uint64_t deadline = time_now_ns() + END_NS;
	struct channel c;

	while (connect_vm(&c, geteuid(), vm) == 0) {
		channel_close(&c);
		if (time_now_ns() > deadline)
			return complain_code(
			    EXIT_ERROR, "VM %s does not end", vm);
		nanosleep(&pause, NULL);
	}
	return EXIT_POWEROFF;
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
	return code == EXIT_POWEROFF && s.force ? await_end(vm) : code;
}
