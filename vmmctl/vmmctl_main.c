/* vmmctl: the user's tool.  It opens what the user names, and no more. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", command_run },
	{ "ps", command_ps },
	{ "devices", command_devices },
	{ "kill", command_kill },
	{ "console", command_console },
	{ "shutdown", command_shutdown },
	{ "layout", command_layout },
	{ "config", command_config },
	{ "stats", command_stats },
	{ "top", command_top },
	{ "set", command_set },
	{ "sandbox", command_sandbox },
	{ "fault", command_fault },
	{ "scenario", command_scenario },
	{ "upgrade", command_upgrade },
	{ "blackbox", command_blackbox },
};

int
main(int argc, char **argv)
{
	char known[256] = "";
	size_t n = 0;

	/* A reader of ours that leaves is an error of write(), not our end. */
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return command_help(NULL, EXIT_USAGE);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
		return command_help(NULL, EXIT_POWEROFF);
	if (strcmp(argv[1], "--version") == 0) {
		puts("vmmctl " BULKHEAD_VERSION);
		return EXIT_POWEROFF;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, argv[1]) == 0)
			return commands[i].run(argc - 1, argv + 1);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		n += (size_t)snprintf(
		    known + n, sizeof(known) - n, " %s", commands[i].name);
	return complain_code(
	    EXIT_USAGE, "unknown command %s; known are:%s", argv[1], known);
}
