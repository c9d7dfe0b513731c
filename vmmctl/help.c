/* What --help says. */
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "vmmctl/commands.h"

static const char general[] =
    "usage: vmmctl COMMAND [ARGUMENTS]\n"
    "  run       start a virtual machine\n"
    "  ps        list the running virtual machines\n"
    "  devices   show the devices of one\n"
    "  kill      kill a device; it comes back, the guest does not notice\n"
    "  console   attach to a serial console\n"
    "  shutdown  press the power button, or stop at once\n"
    "  layout    print the address layout that `run` would make\n"
    "vmmctl COMMAND --help says more; vmmctl --version.\n";

static const char run_options_help[] =
    "  --kernel FILE            bzImage or ELF with a PVH note\n"
    "  --initrd FILE            initial RAM disk\n"
    "  --cmdline TEXT           kernel command line\n"
    "  --memory SIZE            256M; K, M and G are known, bare is M\n"
    "  --cpus N                 1 to 64; 1\n"
    "  --name NAME              vm-PID\n"
    "  --hypervisor NAME        auto, kvm or soft; auto\n"
    "  --device TYPE[,KEY=VALUE...]  add a device, or set options of one of\n"
    "                           the platform's; name=NAME, restarts=N (per\n"
    "                           minute) and the type's own keys\n"
    "  --placement DEVICE=WHERE isolated (a process of its own) or inline\n"
    "  --sandbox MODE           on, best-effort or off; on\n"
    "  --wait-policy POLICY     latency, balanced or density: how long a vCPU\n"
    "                           spins before it sleeps; balanced\n"
    "  --console DEVICE         the serial device to attach to\n"
    "  --no-console             attach to none\n"
    "  --detach                 leave it running and return\n"
    "  --quiet, --verbose       fewer, more messages on standard error\n";

static const struct {
	const char *command, *text;
} texts[] = {
	{ "run",
	    "usage: vmmctl run --kernel FILE [OPTIONS]\n"
	    "Start a virtual machine and attach to its console.  On a "
	    "terminal,\n"
	    "Ctrl-] q leaves, which ends it; Ctrl-] Ctrl-] types one "
	    "Ctrl-].\n" },
	{ "layout",
	    "usage: vmmctl layout [OPTIONS OF run]\n"
	    "Print which addresses, ports and interrupts the devices get.\n" },
	{ "ps", "usage: vmmctl ps\nList the running virtual machines.\n" },
	{ "devices",
	    "usage: vmmctl devices VM [--format table|json]\n"
	    "Show the devices of a virtual machine.\n" },
	{ "kill",
	    "usage: vmmctl kill VM DEVICE [--signal SIGNAL]\n"
	    "Send a signal (KILL) to a device's process.  A device that is\n"
	    "killed is started again, and this does not count on its "
	    "budget.\n" },
	{ "console",
	    "usage: vmmctl console VM [DEVICE]\n"
	    "Attach to a serial console.  On a terminal, Ctrl-] q leaves and\n"
	    "Ctrl-] Ctrl-] types one Ctrl-].\n" },
	{ "shutdown",
	    "usage: vmmctl shutdown VM [--force]\n"
	    "Press the power button; with --force, stop it at once.\n" },
};

static const char exit_help[] =
    "Exit status: 0 done (of run: the guest powered off), 1 error, 2 usage,\n"
    "3 reset, 4 crash, 5 stopped by request, 6 bad kernel or initrd, 7 no\n"
    "hypervisor, 8 no sandbox, 9 no such VM or device.\n";

int
command_help(const char *command, int code)
{
	FILE *out = code == 0 ? stdout : stderr;

	if (command == NULL) {
		fputs(general, out);
		return code;
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (strcmp(texts[i].command, command) == 0)
			fputs(texts[i].text, out);
	if (strcmp(command, "run") == 0 || strcmp(command, "layout") == 0)
		fputs(run_options_help, out);
	fputs(exit_help, out);
	return code;
}
