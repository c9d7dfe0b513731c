/* Page faults taken in advance. */
#include "devhost/warm.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE 4096u
/* What a message, its unpacking and the first requests take. */
#define STACK_BYTES (24u << 10)
#define HEAP_BYTES  (16u << 10)

/* The linker's: where the program begins, and where its data ends. */
extern const char __executable_start[], etext[], edata[], end[];

static void
populate(const char *from, const char *to, int advice)
{
	uintptr_t a = (uintptr_t)from / PAGE * PAGE;
	uintptr_t b = ((uintptr_t)to + PAGE - 1) / PAGE * PAGE;

	/* Its failure is the old kernel's, and costs time only. */
	(void)madvise((void *)a, b - a, advice);
}

static void __attribute__((noinline)) touch_stack(void)
{
	volatile uint8_t bytes[STACK_BYTES];

	for (size_t i = 0; i < sizeof(bytes); i += PAGE)
		bytes[i] = 0;
}

void
warm_up(void)
{
	volatile uint8_t *heap = malloc(HEAP_BYTES);

	populate(__executable_start, etext, MADV_POPULATE_READ);
	populate(etext, edata, MADV_POPULATE_READ);
	populate(edata, end, MADV_POPULATE_WRITE);
	touch_stack();
	if (!heap)
		return;
	for (size_t i = 0; i < HEAP_BYTES; i += PAGE)
		heap[i] = 0;
	free((void *)(uintptr_t)heap);
}
