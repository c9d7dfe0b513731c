/* What the kernel knows of a process. */
#ifndef VMMD_PROC_H
#define VMMD_PROC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_memory {
	uint64_t ram_mapped; /* bytes of mappings of guest RAM */
	uint64_t private_bytes; /* of no one else's */
};

/* Open /proc, once and for all, until proc_close(): the functions that say so
 * need it. */
void proc_init(void);
void proc_close(void);
/* Needs /proc: is a uid of the host one that our user namespace has? */
bool proc_uid_is_mapped(uid_t uid);
/* Needs /proc: an fd that keeps its mount namespace; -1. */
int proc_hold_mounts(pid_t pid);
/* Needs /proc: zeroes for what cannot be read. */
void proc_memory(pid_t pid, struct proc_memory *out);
uint64_t proc_cpu_ns(pid_t pid);
uint64_t proc_thread_cpu_ns(pthread_t thread);

#endif
