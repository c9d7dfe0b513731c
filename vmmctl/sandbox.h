/*
 * What the kernel says of a machine's processes: which of the host's things
 * each can still reach.  Read from /proc with the user's authority; only how
 * many system calls a filter lets through is the process's own word.
 */
#ifndef VMMCTL_SANDBOX_H
#define VMMCTL_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "proto/control.pb-c.h"

#define SANDBOX_VIEW_NAME 48u
#define SANDBOX_VIEW_MAX  80u

/* Namespaces, in the order of the letters that a table shows. */
enum sandbox_view_namespace {
	VIEW_USER,
	VIEW_MNT,
	VIEW_PID,
	VIEW_NET,
	VIEW_IPC,
	VIEW_UTS,
	VIEW_CGROUP,
	VIEW_NAMESPACES,
};
extern const char *const sandbox_view_namespaces[VIEW_NAMESPACES];

struct sandbox_view {
	char name[SANDBOX_VIEW_NAME]; /* "broker", "spawner", "serial", ... */
	char type[SANDBOX_VIEW_NAME];
	pid_t pid;
	uid_t uid;
	unsigned own; /* 1 << enum sandbox_view_namespace: not ours */
	unsigned unread; /* the same: cannot be told */
	uint64_t caps; /* permitted, inheritable, effective, ambient */
	uint64_t bounding;
	unsigned seccomp; /* 0 none, 1 strict, 2 a filter */
	unsigned filters;
	unsigned syscalls; /* that it may make; 0: any */
	uint64_t steps; /* SANDBOX_* as it says */
	bool no_new_privs;
	int fds; /* -1: cannot be told */
	uint64_t ram_mapped; /* bytes of guest RAM */
	char ram_rights[5]; /* of all those mappings: "rw-s"; "" if none */
	uint64_t max_fds, max_as, max_processes, max_file; /* ~0: none */
	char cgroups[96]; /* its groups other than the root, "" */
};

/* Look at a process; name, type, syscalls and steps are the caller's. */
void sandbox_view_read(struct sandbox_view *v, pid_t pid);

void sandbox_print_table(FILE *out, const struct sandbox_view *v, unsigned n);
/* 0; -ENOMEM. */
int sandbox_print_json(
    FILE *out, const char *vm, const struct sandbox_view *v, unsigned n);

/* All processes of a VM; how many. */
unsigned sandbox_view_all(
    const Bulkhead__Description *d, struct sandbox_view v[SANDBOX_VIEW_MAX]);

#endif
