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
    "  stats     show what they count, as a table, JSON or for Prometheus\n"
    "  top       watch them\n"
    "  sandbox   show what its processes can reach\n"
    "  set       change a parameter of a running device\n"
    "  kill      kill a device; it comes back, the guest does not notice\n"
    "  fault     make a device do wrong on purpose\n"
    "  upgrade   put another program in a device's place\n"
    "  scenario  run a whole experiment from a file\n"
    "  blackbox  show why a device died\n"
    "  console   attach to a console\n"
    "  shutdown  press the power button, or stop at once\n"
    "  layout    print the address layout that `run` would make\n"
    "  config    check a configuration file\n"
    "vmmctl COMMAND --help says more; vmmctl --version.\n";

static const char run_options_help[] =
    "  --config FILE            JSON that says the same; options override it\n"
    "  --kernel FILE            bzImage or ELF with a PVH note\n"
    "  --initrd FILE            initial RAM disk\n"
    "  --cmdline TEXT           kernel command line\n"
    "  --memory SIZE            256M; K, M and G are known, bare is M\n"
    "  --cpus N                 1 to 64; 1\n"
    "  --name NAME              vm-PID\n"
    "  --hypervisor NAME        auto, kvm or soft; auto\n"
    "  --disk path=FILE[,readonly=on][,cache=MODE][,serial=TEXT][,queues=N]\n"
    "         [,bps=N][,iops=N]  a raw image, a block device, or\n"
    "                           nbd://HOST[:PORT]/EXPORT or\n"
    "                           nbd+unix:///EXPORT?socket=PATH\n"
    "  --net user[,hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT]...[,mac=MAC]\n"
    "  --net tap,ifname=NAME[,mac=MAC]\n"
    "  --net switch:NAME[,mac=MAC]  a switch that your machines share\n"
    "  --vsock cid=N,socket=PATH  guest sockets; PATH and PATH_PORT on the "
    "host\n"
    "  --virtio-console[=ports=N]  virtio consoles\n"
    "  --rng                    entropy\n"
    "  --balloon[=size=SIZE]    a memory balloon\n"
    "  --device TYPE[,KEY=VALUE...]  add a device, or set options of one of\n"
    "                           the platform's\n"
    "                           All devices: id=NAME, restarts=N (per "
    "minute),\n"
    "                           policy=remove, restart or stop-vm (when those\n"
    "                           are spent), deadline=TIME (1s: hung when an\n"
    "                           answer takes longer), spare=on, off or auto\n"
    "  --placement DEVICE=WHERE isolated (a process of its own) or inline\n"
    "  --sandbox MODE           on, best-effort or off; on\n"
    "  --wait-policy POLICY     latency, balanced or density: how long a vCPU\n"
    "                           spins before it sleeps; balanced\n"
    "  --icount[=N]             guest time follows instructions, N of them a\n"
    "                           microsecond (1000); every run is the same\n"
    "  --console DEVICE[:STREAM]  the device to attach to\n"
    "  --no-console             attach to none\n"
    "  --blackbox FOLDER        keep a file there of every device that dies\n"
    "                           unasked; the last 64 and 256M; see blackbox\n"
    "  --detach                 leave it running and return\n"
    "  --dry-run                check and open everything, start nothing\n"
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
	{ "stats",
	    "usage: vmmctl stats VM [DEVICE] [--format "
	    "table|json|prometheus]\n"
	    "Show what its devices count.  Times are of a sample, one in "
	    "32.\n" },
	{ "top",
	    "usage: vmmctl top VM [--interval SECONDS]\n"
	    "Watch what its devices do.  q leaves.\n" },
	{ "set",
	    "usage: vmmctl set VM DEVICE KEY=VALUE...\n"
	    "Change parameters of a running device, such as a disk's bps and\n"
	    "iops or a balloon's size (MiB).\n" },
	{ "sandbox",
	    "usage: vmmctl sandbox VM [--format table|json]\n"
	    "Show what each of its processes can reach, as the kernel tells: "
	    "uid,\n"
	    "namespaces of its own (user mnt pid net ipc uTs cgroup),\n"
	    "capabilities, system calls allowed, fds, guest memory and "
	    "rights to\n"
	    "it, limits.\n" },
	{ "config",
	    "usage: vmmctl config --check FILE\n"
	    "Would `run --config FILE` take it?  Opens no file but that.\n" },
	{ "kill",
	    "usage: vmmctl kill VM DEVICE [--signal SIGNAL]\n"
	    "Send a signal (KILL) to a device's process.  A device that is\n"
	    "killed is started again, and this does not count on its "
	    "budget.\n" },
	{ "fault",
	    "usage: vmmctl fault VM DEVICE KIND [KEY=VALUE...]\n"
	    "       vmmctl fault VM DEVICE list|clear\n"
	    "Make a device do wrong on purpose: kill, hang, slow, error, drop "
	    "or\n"
	    "corrupt-answer.  list shows its plans and how often they fired; "
	    "clear\n"
	    "calls them off.\n"
	    "  on=any|read|write|queue  what it happens to: register reads or\n"
	    "                           writes, requests in queues; any\n"
	    "  after=N                  let N of them pass first\n"
	    "  times=N                  so often, 0: always; kill and hang: 1\n"
	    "  rate=N%|Nppm             the chance of each\n"
	    "  seed=N                   the same seed, the same ones\n"
	    "  region=NAME|N, address=N only that register\n"
	    "  queue=N                  only that queue\n"
	    "  value=TIME|BITS          of slow; the bits to flip of "
	    "corrupt-answer\n"
	    "  for=TIME                 call it off after that time\n"
	    "A time is a number and ns, us, ms, s or m.\n" },
	{ "upgrade",
	    "usage: vmmctl upgrade VM DEVICE|--all [--program FILE]\n"
	    "Put another program in the place of a running device's, without "
	    "the\n"
	    "guest's notice: FILE, a device host, or the one it has, anew.  If "
	    "the\n"
	    "new one refuses or dies, the old one goes on.\n" },
	{ "scenario",
	    "usage: vmmctl scenario FILE [--junit FILE] [--json FILE]\n"
	    "Start a virtual machine, do to it what the file says, and check "
	    "what it\n"
	    "says: see vmmctl(8).  Each step is a test case.  Exit status 0 if "
	    "all\n"
	    "passed, 1 if not.\n" },
	{ "blackbox",
	    "usage: vmmctl blackbox show FILE\n"
	    "Show why a device died and what it was doing: a file that `run\n"
	    "--blackbox FOLDER` kept.  `devhost --replay FILE` does it again, "
	    "in\n"
	    "one process, for a debugger.\n" },
	{ "console",
	    "usage: vmmctl console VM [DEVICE[:STREAM]]\n"
	    "Attach to a console.  On a terminal, Ctrl-] q leaves and\n"
	    "Ctrl-] Ctrl-] types one Ctrl-].\n" },
	{ "shutdown",
	    "usage: vmmctl shutdown VM [--force]\n"
	    "Press the power button; with --force, stop it at once and\n"
	    "wait for its end.\n" },
};

static const char exit_help[] =
    "Exit status: 0 done (of run: the guest powered off), 1 error, 2 usage,\n"
    "3 reset, 4 crash, 5 stopped by request, 6 bad kernel, initrd or disk,\n"
    "7 no hypervisor, 8 no sandbox, 9 no such VM or device.\n";

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
