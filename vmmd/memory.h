/* Memory that outlives a process: guest RAM and the devices' sealed memfds. */
#ifndef VMMD_MEMORY_H
#define VMMD_MEMORY_H

#include <stddef.h>

struct memory {
	int fd; /* -1: none */
	void *base; /* mapped shared; NULL: not mapped */
	size_t size; /* bytes */
};

#define MEMORY_NONE ((struct memory){ .fd = -1 })

/*
 * Make a zeroed memfd of size bytes (page-aligned), sealed against shrinking,
 * growing and unsealing, and map it.  A child of fork() does not see the
 * mapping.  0 or a negative errno.
 */
int memory_create(struct memory *m, const char *name, size_t size);
void memory_destroy(struct memory *m);

#endif
