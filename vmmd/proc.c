/* What the kernel knows of a process: read only when somebody asks. */
#include "vmmd/proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int proc_fd = -1;

void
proc_init(void)
{
	proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void
proc_close(void)
{
	if (proc_fd >= 0)
		close(proc_fd);
	proc_fd = -1;
}

static int
open_fd(pid_t pid, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
	return openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
}

int
proc_hold_mounts(pid_t pid)
{
	return open_fd(pid, "ns/mnt");
}

static FILE *
open_file(pid_t pid, const char *name)
{
	FILE *f;
	int fd = open_fd(pid, name);

	if (fd < 0)
		return NULL;
	f = fdopen(fd, "r");
	if (f == NULL)
		close(fd);
	return f;
}

bool
proc_uid_is_mapped(uid_t uid)
{
	unsigned inside, outside, count;
	bool found = false;
	FILE *f = open_file(getpid(), "uid_map");

	if (f == NULL)
		return false;
	while (!found && fscanf(f, "%u %u %u", &inside, &outside, &count) == 3)
		found = uid - inside < count;
	fclose(f);
	return found;
}

/* Of mappings of guest RAM, by the name that vm.c gives it. */
static uint64_t
bytes_of_ram(const char *line)
{
	uint64_t from, to;

	if (strstr(line, "/memfd:bulkhead-ram") == NULL ||
	    sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) != 2)
		return 0;
	return to - from;
}

static uint64_t
private_bytes(const char *line)
{
	uint64_t kib;

	if (sscanf(line, "Private_Clean: %" SCNu64, &kib) == 1 ||
	    sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1)
		return kib << 10;
	return 0;
}

/* What the lines of a file come to. */
static uint64_t
sum(pid_t pid, const char *name, uint64_t (*of)(const char *line))
{
	uint64_t total = 0;
	char line[512];
	FILE *f = open_file(pid, name);

	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		total += of(line);
	fclose(f);
	return total;
}

void
proc_memory(pid_t pid, struct proc_memory *out)
{
	*out = (struct proc_memory){ .ram_mapped = 0 };
	if (pid <= 0)
		return;
	out->ram_mapped = sum(pid, "maps", bytes_of_ram);
	out->private_bytes = sum(pid, "smaps_rollup", private_bytes);
}

static uint64_t
clock_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
proc_cpu_ns(pid_t pid)
{
	/* As clock_getcpuclockid() makes it, which asks the kernel first. */
	clockid_t clock = (clockid_t)(~(unsigned)pid << 3 | 2);

	return pid <= 0 ? 0 : clock_ns(clock);
}

uint64_t
proc_thread_cpu_ns(pthread_t thread)
{
	clockid_t clock;

	return pthread_getcpuclockid(thread, &clock) == 0 ? clock_ns(clock) : 0;
}
