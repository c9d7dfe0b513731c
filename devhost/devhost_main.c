/*
 * devhost TYPE: one emulated device in a process of its own.
 *
 * Started by vmmd with the control channel as fd 3.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "devhost/host.h"
#include "devhost/loader.h"
#include "devhost/manifest.h"
#include "devhost/replay.h"
#include "devhost/switch.h"
#include "devhost/warm.h"
#include "proto/base.h"
#include "proto/channel.h"

#define CONTROL_FD     3
#define SWITCH_IDLE_MS 60000u
/*
 * Beside the fds of a Configure, which are all there once more while it is
 * received: 0 to 3, epoll, what prepare() made.
 */
#define FDS_MAX (CHANNEL_FDS_MAX + 96u)

/* A device maps its store, rings and streams; a link is 33 MiB. */
#define ADDRESS_SPACE	   ((rlim_t)128 << 20)
#define ADDRESS_SPACE_LINK ((rlim_t)1 << 30)
/* One that may map guest RAM hears only later how much that is. */
#define ADDRESS_SPACE_RAM ((rlim_t)1 << 42)
#if defined(BULKHEAD_ASAN) || defined(BULKHEAD_TSAN)
#undef ADDRESS_SPACE
#undef ADDRESS_SPACE_LINK
#define ADDRESS_SPACE	   0 /* shadow memory is terabytes */
#define ADDRESS_SPACE_LINK 0
#endif

/* Of the kernel's own, that do the requests of an io_uring which would block. */
#define KERNEL_THREADS_MAX 64u
/* Disk images may be larger than the sandbox's usual limit. */
#define FILE_BYTES_MAX ((rlim_t)1 << 50)

static void
print_usage(FILE *to)
{
	fputs("usage: devhost TYPE           run a device (started by vmmd)\n"
	      "       devhost loader         load a kernel (started by vmmd)\n"
	      "       devhost switch [MODE]  an Ethernet switch; sandbox MODE\n"
	      "                              on, best-effort or off\n"
	      "       devhost --list         the device types\n"
	      "       devhost --describe TYPE\n"
	      "       devhost --replay FILE [NAME=PATH...]\n"
	      "                              what a black box holds, again\n"
	      "       devhost --version | --help\n",
	    to);
}

static const struct device_type *
find(const char *name)
{
	const struct device_type *t = device_type_find(name);

	if (!t)
		fprintf(stderr,
		    "devhost: no device type '%s'; see devhost --list\n", name);
	return t;
}

/*
 * Its last words, in a signal handler: to the broker, who has them logged.
 * Packing takes neither memory nor locks.
 */
static void
on_denied(int nr, const char *name)
{
	Bulkhead__Envelope envelope;
	Bulkhead__Failure failure;
	uint8_t bytes[256];
	char text[96];
	struct iovec iov = { .iov_base = bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	bulkhead__envelope__init(&envelope);
	bulkhead__failure__init(&failure);
	snprintf(text, sizeof(text), "denied system call %.32s (%d)", name, nr);
	failure.error = EPERM;
	failure.text = text;
	/* No question has it. */
	envelope.seq = UINT64_MAX;
	envelope.body_case = BULKHEAD__ENVELOPE__BODY_FAILURE;
	envelope.failure = &failure;
	iov.iov_len = bulkhead__envelope__pack(&envelope, bytes);
	n = sendmsg(CONTROL_FD, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)n; /* nobody to tell */
}

static bool
uses_io_uring(const struct device_type *type)
{
	for (unsigned i = 0; i < type->nsyscalls; i++)
		if (type->syscalls[i].nr == __NR_io_uring_enter)
			return true;
	return false;
}

static rlim_t
address_space(const struct device_type *type)
{
	if (type->dma != DEVICE_DMA_NONE)
		return ADDRESS_SPACE_RAM;
	return type->nlinks > 0 ? ADDRESS_SPACE_LINK : ADDRESS_SPACE;
}

static int
run(const struct device_type *type)
{
	struct sandbox_syscall list[MANIFEST_SYSCALLS_MAX];
	struct sandbox_policy policy = {
		.mode = sandbox_inherited_mode(),
		.syscalls = list,
		.nsyscalls = manifest_syscalls(type, list),
		.max_as_bytes = address_space(type),
		.max_fds = FDS_MAX + type->fds,
		.network = type->network,
		.max_threads = uses_io_uring(type) ? KERNEL_THREADS_MAX : 0,
		.max_file_bytes = type->nfiles > 0 ? FILE_BYTES_MAX : 0,
		.denied = on_denied,
		.denied_status = HOST_EXIT_SECCOMP,
	};
	struct host_identity identity = { 0 };
	char err[256] = "";
	struct host *h;
	int rc;

	rc = host_open(type, CONTROL_FD, &h);
	if (rc != 0) {
		fprintf(stderr, "devhost %s: %s\n", type->name, strerror(-rc));
		return HOST_EXIT_RESOURCE;
	}
	warm_up();
	rc = sandbox_enter(&policy, &identity.sandbox, err, sizeof(err));
	if (err[0])
		fprintf(stderr, "devhost %s: sandbox: %s\n", type->name, err);
	if (rc != 0)
		return HOST_EXIT_SANDBOX;
	if (identity.sandbox & SANDBOX_SECCOMP)
		identity.syscalls = (unsigned)policy.nsyscalls;
	return host_run(h, &identity);
}

static int
run_switch(const char *mode_name)
{
	enum sandbox_mode mode;

	if (sandbox_mode_parse(mode_name, &mode) < 0) {
		print_usage(stderr);
		return HOST_EXIT_USAGE;
	}
	return switch_main(CONTROL_FD, mode, SWITCH_IDLE_MS);
}

int
main(int argc, char **argv)
{
	const struct device_type *type;
	const char *what = argc > 1 ? argv[1] : "";

	if (argc == 2 && strcmp(what, "--help") == 0) {
		print_usage(stdout);
	} else if (argc == 2 && strcmp(what, "--version") == 0) {
		printf("devhost (bulkhead) %s\n", BULKHEAD_VERSION);
	} else if (argc == 2 && strcmp(what, "--list") == 0) {
		manifest_list();
	} else if (argc >= 3 && strcmp(what, "--replay") == 0) {
		return replay_main(argc - 2, argv + 2);
	} else if (argc == 3 && strcmp(what, "--describe") == 0) {
		type = find(argv[2]);
		if (!type)
			return HOST_EXIT_USAGE;
		manifest_describe(type);
	} else if (argc == 2 && strcmp(what, "loader") == 0) {
		return loader_main(CONTROL_FD, sandbox_inherited_mode());
	} else if ((argc == 2 || argc == 3) && strcmp(what, "switch") == 0) {
		return run_switch(argc == 3 ? argv[2] : "on");
	} else if (argc == 2 && what[0] != '-') {
		type = find(what);
		return type ? run(type) : HOST_EXIT_USAGE;
	} else {
		print_usage(stderr);
		return HOST_EXIT_USAGE;
	}
	return HOST_EXIT_OK;
}
