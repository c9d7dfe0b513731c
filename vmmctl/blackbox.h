/* A black box (proto/blackbox.h), printed for a person. */
#ifndef VMMCTL_BLACKBOX_H
#define VMMCTL_BLACKBOX_H

#include <stddef.h>
#include <stdio.h>

/*
 * What a file of `size` bytes says; they are hostile.  registers: the lines of
 * `devhost --describe`, for the names of registers; NULL: there are none.
 * 0; -EBADMSG: it is no black box.
 */
int
blackbox_print(FILE *out, const void *file, size_t size, const char *registers);

#endif
