/* upgrade: another program for a device of a running VM. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"

/* Longer than the broker lets each part of it take. */
#define ANSWER_MS 15000

/* An exit code, after what there is to say. */
static int
upgrade(struct channel *c, const char *device, int program)
{
	Bulkhead__Upgrade u;
	const Bulkhead__Upgraded *done;
	struct channel_message m;
	int code = EXIT_ERROR, r;

	bulkhead__upgrade__init(&u);
	u.device = connect_text(device);
	r = channel_send(c, BULKHEAD__ENVELOPE__BODY_UPGRADE, &u, &program,
	    program >= 0 ? 1 : 0, 0);
	while (r >= 0) {
		r = channel_receive(c, &m, ANSWER_MS);
		if (r <= 0)
			break;
		if (m.envelope->body_case != BULKHEAD__ENVELOPE__BODY_EVENT)
			break;
		channel_free(&m);
	}
	if (r <= 0)
		return complain_code(EXIT_ERROR,
		    r == 0 ? "the VM has ended" : "the VM does not answer");
	if (m.envelope->body_case == BULKHEAD__ENVELOPE__BODY_UPGRADED) {
		done = m.envelope->upgraded;
		printf("%s: build %s, state version %u, paused for %llu us\n",
		    device, done->build, done->state_version,
		    (unsigned long long)done->pause_ns / 1000);
		code = EXIT_POWEROFF;
	} else if (m.envelope->body_case == BULKHEAD__ENVELOPE__BODY_FAILURE) {
		code = complain_code(connect_failure_code(m.envelope->failure),
		    "%s: %s", device, m.envelope->failure->text);
	} else {
		complain_code(EXIT_ERROR, "the VM has ended");
	}
	channel_free(&m);
	return code;
}

/* One after the other; those that cannot be do not keep us from the rest. */
static int
upgrade_all(struct channel *c, int program)
{
	struct channel_message m;
	const Bulkhead__Description *d;
	int code = connect_describe(c, &m), first = EXIT_POWEROFF;

	if (code != EXIT_POWEROFF)
		return code;
	d = m.envelope->description;
	for (size_t i = 0; i < d->n_devices; i++) {
		if (strcmp(d->devices[i]->placement, "isolated") != 0 ||
		    strcmp(d->devices[i]->state, "removed") == 0)
			continue;
		code = upgrade(c, d->devices[i]->name, program);
		if (first == EXIT_POWEROFF)
			first = code;
	}
	channel_free(&m);
	return first;
}

int
command_upgrade(int argc, char **argv)
{
	const char *vm = NULL, *device = NULL, *path = NULL;
	bool all = false;
	struct channel c;
	int program = -1, code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--program") == 0 && i + 1 < argc)
			path = argv[++i];
		else if (strncmp(argv[i], "--program=", 10) == 0)
			path = argv[i] + 10;
		else if (strcmp(argv[i], "--all") == 0)
			all = true;
		else if (argv[i][0] == '-' || device != NULL)
			return complain_code(EXIT_USAGE,
			    "upgrade: unknown option %s; known are: --all "
			    "--program",
			    argv[i]);
		else if (vm == NULL)
			vm = argv[i];
		else
			device = argv[i];
	}
	if (vm == NULL || (device != NULL) == all)
		return complain_code(EXIT_USAGE,
		    "upgrade: usage: vmmctl upgrade VM DEVICE|--all "
		    "[--program FILE]");
	if (path != NULL) {
		program = open(path, O_PATH | O_CLOEXEC);
		if (program < 0)
			return complain_code(EXIT_USAGE, "--program %s: %s",
			    path, strerror(errno));
	}
	code = connect_open(&c, vm);
	if (code == EXIT_POWEROFF) {
		code = all ? upgrade_all(&c, program)
			   : upgrade(&c, device, program);
		channel_close(&c);
	}
	if (program >= 0)
		close(program);
	return code;
}
