/*
 * The manifests of the device types, for people and for the sandbox: the
 * system calls that a device's process may make, and the text of --list and
 * --describe.
 */
#ifndef DEVHOST_MANIFEST_H
#define DEVHOST_MANIFEST_H

#include "devhost/device.h"
#include "sandbox/sandbox.h"

/* The most that a device's list, those of every device included, may have. */
#define MANIFEST_SYSCALLS_MAX 64u

/*
 * The system calls of a device of this type: those that every device host
 * needs, then the type's own.  Returns how many; at most
 * MANIFEST_SYSCALLS_MAX.
 */
unsigned manifest_syscalls(const struct device_type *type,
    struct sandbox_syscall out[MANIFEST_SYSCALLS_MAX]);

/*
 * One line per type, of columns with a tab between them: name, title, platform
 * or optional, DMA, option keys, files ("?" in front: optional), links,
 * "network" or "-".  Options, files and links are lists with commas, "-" when
 * empty.
 */
void manifest_list(void);

/* All that the type declares. */
void manifest_describe(const struct device_type *type);

#endif
