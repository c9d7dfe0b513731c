/*
 * The broker's own sandbox.  Two steps, because threads get what their maker
 * has: everything but the filter before the partition makes its first thread,
 * and the filter, for all of them, when the VM is built and before its guest
 * runs.
 */
#ifndef VMMD_CONFINE_H
#define VMMD_CONFINE_H

#include <stddef.h>

struct vm;

/* System calls of the broker at most, whatever the hypervisor. */
#define CONFINE_CALLS_MAX 30u

/* Give up paths, capabilities and namespaces.  0, or -errno and why. */
int confine_begin(struct vm *vm, char *err, size_t size);
/* Give up all system calls but a few. */
int confine_finish(struct vm *vm, char *err, size_t size);

#endif
