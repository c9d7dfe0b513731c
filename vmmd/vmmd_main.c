/*
 * vmmd, the broker of one virtual machine.  Started by vmmctl with its channel
 * as fd 3 and, as fd 4, the socket at which others find the VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmmd/vm.h"

#define CLIENT_FD 3
#define LISTEN_FD 4

static const char usage[] =
    "usage: vmmd [--layout-only]\n"
    "The broker of a virtual machine.  It is started by vmmctl, with a "
    "control\n"
    "channel as file descriptor 3 and a listening socket as 4; see vmmd(8).\n";

static bool
is_socket(int fd)
{
	int type;
	socklen_t n = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 &&
	    type == SOCK_SEQPACKET;
}

int
main(int argc, char **argv)
{
	bool layout_only = false;
	struct spawner spawner;
	struct vm *vm;
	int code;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			fputs(usage, stdout);
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0) {
			puts("vmmd " BULKHEAD_VERSION);
			return 0;
		}
		if (strcmp(argv[i], "--layout-only") != 0) {
			fprintf(stderr, "vmmd: unknown option %s\n%s", argv[i],
			    usage);
			return EXIT_USAGE;
		}
		layout_only = true;
	}
	if (!is_socket(CLIENT_FD) || !is_socket(LISTEN_FD)) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	fcntl(CLIENT_FD, F_SETFD, FD_CLOEXEC);
	fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC);
	signal(SIGPIPE, SIG_IGN);
	/* Before anybody is heard, and before there is anything that it could
	 * have of ours. */
	if (spawner_start(&spawner) < 0) {
		fputs("vmmd: cannot fork\n", stderr);
		return EXIT_ERROR;
	}
	fcntl(CLIENT_FD, F_SETFL, O_NONBLOCK);
	proc_init();
	vm = vm_new(layout_only, &spawner);
	if (vm == NULL || client_add(vm, CLIENT_FD, true) < 0) {
		fputs("vmmd: out of memory\n", stderr);
		return EXIT_ERROR;
	}
	client_listen(vm, LISTEN_FD);
	code = vm_loop(vm);
	vm_free(vm);
	return code;
}
