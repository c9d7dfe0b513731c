/* Reading what a process's sandbox is from /proc. */
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base.h"
#include "vmmctl/sandbox.h"

const char *const sandbox_view_namespaces[VIEW_NAMESPACES] = { "user", "mnt",
	"pid", "net", "ipc", "uts", "cgroup" };

static FILE *
open_of(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

static void
read_namespaces(struct sandbox_view *v, pid_t pid)
{
	for (unsigned i = 0; i < VIEW_NAMESPACES; i++) {
		char path[64], ours[64], its[64];
		ssize_t n, m;

		snprintf(path, sizeof(path), "/proc/self/ns/%s",
		    sandbox_view_namespaces[i]);
		n = readlink(path, ours, sizeof(ours));
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid,
		    sandbox_view_namespaces[i]);
		m = readlink(path, its, sizeof(its));
		if (n < 0 || m < 0)
			v->unread |= 1u << i;
		else if (n != m || memcmp(ours, its, (size_t)n) != 0)
			v->own |= 1u << i;
	}
}

static void
read_status(struct sandbox_view *v, pid_t pid)
{
	static const char *const caps[] = { "CapInh", "CapPrm", "CapEff",
		"CapAmb" };
	FILE *f = open_of(pid, "status");
	char line[256], key[64];
	uint64_t value;
	unsigned flag;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "Uid: %u", &v->uid) == 1 ||
		    sscanf(line, "Seccomp: %u", &v->seccomp) == 1 ||
		    sscanf(line, "Seccomp_filters: %u", &v->filters) == 1 ||
		    sscanf(line, "CapBnd: %" SCNx64, &v->bounding) == 1)
			continue;
		if (sscanf(line, "NoNewPrivs: %u", &flag) == 1)
			v->no_new_privs = flag == 1;
		if (sscanf(line, "%63[^:]: %" SCNx64, key, &value) != 2)
			continue;
		for (unsigned i = 0; i < ARRAY_LEN(caps); i++)
			if (strcmp(key, caps[i]) == 0)
				v->caps |= value;
	}
	if (f != NULL)
		fclose(f);
}

static void
read_fds(struct sandbox_view *v, pid_t pid)
{
	char path[64];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	v->fds = d == NULL ? -1 : 0;
	while (d != NULL && (e = readdir(d)) != NULL)
		v->fds += e->d_name[0] != '.';
	if (d != NULL)
		closedir(d);
}

/* The name is that of the broker's memfd. */
static void
read_maps(struct sandbox_view *v, pid_t pid)
{
	FILE *f = open_of(pid, "maps");
	char line[512], rights[5];
	uint64_t from, to;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strstr(line, "/memfd:bulkhead-ram") == NULL ||
		    sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to,
			rights) != 3)
			continue;
		v->ram_mapped += to - from;
		if (v->ram_rights[0] == '\0')
			memcpy(v->ram_rights, rights, sizeof(rights));
		/* Of several the most. */
		for (unsigned i = 0; i < 4; i++)
			if (rights[i] != '-')
				v->ram_rights[i] = rights[i];
	}
	if (f != NULL)
		fclose(f);
}

static void
read_limits(struct sandbox_view *v, pid_t pid)
{
	const struct {
		const char *name;
		uint64_t *value;
	} rows[] = {
		{ "Max open files", &v->max_fds },
		{ "Max address space", &v->max_as },
		{ "Max processes", &v->max_processes },
		{ "Max file size", &v->max_file },
	};
	FILE *f = open_of(pid, "limits");
	char line[256];

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		*rows[i].value = UINT64_MAX;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
			size_t n = strlen(rows[i].name);
			uint64_t value;

			if (strncmp(line, rows[i].name, n) == 0 &&
			    sscanf(line + n, " %" SCNu64, &value) == 1)
				*rows[i].value = value;
		}
	}
	if (f != NULL)
		fclose(f);
}

static void
read_cgroups(struct sandbox_view *v, pid_t pid)
{
	FILE *f = open_of(pid, "cgroup");
	char line[512], *group;
	size_t n;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		group = strrchr(line, ':');
		if (group == NULL || strstr(group, "bulkhead") == NULL)
			continue;
		n = strlen(v->cgroups);
		snprintf(v->cgroups + n, sizeof(v->cgroups) - n, "%s%.80s",
		    n > 0 ? " " : "", group + 1);
	}
	if (f != NULL)
		fclose(f);
}

void
sandbox_view_read(struct sandbox_view *v, pid_t pid)
{
	v->pid = pid;
	read_status(v, pid);
	read_namespaces(v, pid);
	read_fds(v, pid);
	read_maps(v, pid);
	read_limits(v, pid);
	read_cgroups(v, pid);
}

/* ---- which processes ---- */

static struct sandbox_view *
add(struct sandbox_view *v, unsigned *n, pid_t pid, const char *name,
    const char *type)
{
	struct sandbox_view *to;

	if (pid <= 0 || *n == SANDBOX_VIEW_MAX)
		return NULL;
	to = &v[(*n)++];
	memset(to, 0, sizeof(*to));
	snprintf(to->name, sizeof(to->name), "%s", name);
	snprintf(to->type, sizeof(to->type), "%s", type);
	sandbox_view_read(to, pid);
	return to;
}

/* The device of which a child of the broker that the description does not name
 * is the spare, by its command line: "devhost TYPE", and by its uid if it has
 * one of its own.  NULL: it is no device host. */
static const Bulkhead__DeviceInfo *
spare_of(const Bulkhead__Description *d, pid_t pid,
    const struct sandbox_view *v, unsigned n)
{
	const Bulkhead__DeviceInfo *first = NULL;
	struct sandbox_view self = { .pid = pid };
	char line[128] = "";
	FILE *f = open_of(pid, "cmdline");
	size_t got = f == NULL ? 0 : fread(line, 1, sizeof(line) - 1, f);
	const char *type = line + strlen(line) + 1;

	if (f != NULL)
		fclose(f);
	if (type >= line + got)
		return NULL;
	read_status(&self, pid);
	for (size_t i = 0; i < d->n_devices; i++) {
		if (strcmp(d->devices[i]->type, type) != 0)
			continue;
		if (first == NULL)
			first = d->devices[i];
		for (unsigned j = 0; j < n; j++)
			if (v[j].pid == d->devices[i]->pid &&
			    v[j].uid == self.uid)
				return d->devices[i];
	}
	return first;
}

static bool
is_named(const Bulkhead__Description *d, pid_t pid)
{
	for (size_t i = 0; i < d->n_devices; i++)
		if (d->devices[i]->pid == pid)
			return true;
	return false;
}

static void
add_children(
    const Bulkhead__Description *d, struct sandbox_view *v, unsigned *n)
{
	char path[64];
	FILE *f;
	int pid;

	snprintf(
	    path, sizeof(path), "/proc/%d/task/%d/children", d->pid, d->pid);
	f = fopen(path, "re");
	while (f != NULL && fscanf(f, "%d", &pid) == 1) {
		const Bulkhead__DeviceInfo *of;
		struct sandbox_view *to;
		char name[SANDBOX_VIEW_NAME];

		if (is_named(d, pid))
			continue;
		of = spare_of(d, pid, v, *n);
		if (of == NULL) {
			add(v, n, pid, "spawner", "-");
			continue;
		}
		snprintf(name, sizeof(name), "%.32s (spare)", of->name);
		to = add(v, n, pid, name, of->type);
		if (to != NULL) {
			/* The same program, with the same list. */
			to->syscalls = of->syscalls;
			to->steps = of->sandbox;
		}
	}
	if (f != NULL)
		fclose(f);
}

unsigned
sandbox_view_all(
    const Bulkhead__Description *d, struct sandbox_view v[SANDBOX_VIEW_MAX])
{
	struct sandbox_view *to;
	unsigned n = 0;

	to = add(v, &n, d->pid, "broker", "-");
	if (to != NULL) {
		to->syscalls = d->syscalls;
		to->steps = d->sandbox;
	}
	for (size_t i = 0; i < d->n_devices; i++) {
		const Bulkhead__DeviceInfo *info = d->devices[i];

		if (info->pid == d->pid)
			continue; /* inline */
		to = add(v, &n, info->pid, info->name, info->type);
		if (to != NULL) {
			to->syscalls = info->syscalls;
			to->steps = info->sandbox;
		}
	}
	add_children(d, v, &n);
	return n;
}
