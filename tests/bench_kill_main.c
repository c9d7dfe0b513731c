/*
 * bench_kill PID: kill a device host whose guest asks it without pause, and
 * print how long it was until the next answer:
 *
 *	kill died_ns N answer_ns N
 *
 * both from SIGKILL on.  The answers are seen in the intercept ring, of which
 * the device has an fd.  Root, or the owner of the VM.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/ring.h"

#define GIVE_UP_NS 2000000000u

static const struct ring_set *
map_rings(const char *pid)
{
	char path[64], to[128], dir[32];
	const struct ring_set *set = MAP_FAILED;
	struct dirent *e;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%.10s/fd", pid);
	d = opendir(dir);
	while (d != NULL && set == MAP_FAILED && (e = readdir(d)) != NULL) {
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "%s/%.10s", dir, e->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n < 0)
			continue;
		to[n] = '\0';
		if (strstr(to, "bulkhead-rings") == NULL)
			continue;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		set =
		    mmap(NULL, ring_set_size(1), PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (d != NULL)
		closedir(d);
	return set == MAP_FAILED ? NULL : set;
}

int
main(int argc, char **argv)
{
	const struct timespec nap = { .tv_nsec = 10000 };
	const struct ring_set *set = argc == 2 ? map_rings(argv[1]) : NULL;
	struct pollfd p = { .events = POLLIN };
	uint64_t start, died, tail, now;

	if (set == NULL) {
		fprintf(stderr, "bench_kill: no rings\n");
		return 1;
	}
	p.fd = pidfd_open((pid_t)strtol(argv[1], NULL, 10), 0);
	start = time_now_ns();
	if (p.fd < 0 || pidfd_send_signal(p.fd, SIGKILL, NULL, 0) < 0) {
		perror("bench_kill");
		return 1;
	}
	while (poll(&p, 1, -1) != 1)
		continue;
	died = time_now_ns();
	/* What is dead answers nothing: the next change is its successor's. */
	tail = atomic_load(&set->ring[0].tail);
	do {
		nanosleep(&nap, NULL);
		now = time_now_ns();
	} while (atomic_load(&set->ring[0].tail) == tail &&
	    now - start < GIVE_UP_NS);
	printf("kill died_ns %" PRIu64 " answer_ns %" PRIu64 "\n", died - start,
	    now - start);
	return 0;
}
