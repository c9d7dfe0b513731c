/*
 * The differential tester's parts: one random user-mode instruction at a time
 * is run by the host's processor and by the software one, from the same state.
 *
 *	difftest_gen.h     a case from (seed, index)
 *	difftest_native.h  on the host's processor, in a jailed child
 *	difftest_soft.h    on the software processor
 *	difftest_main.c    compare, report
 *
 * Both sides see the same linear addresses, all below 2 GiB.
 */
#ifndef TESTS_DIFFTEST_H
#define TESTS_DIFFTEST_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE	      4096u
#define CODE_BASE     0x10000000u
#define SLOT	      32u /* bytes of code per case */
#define BATCH	      512u /* cases that are given to a side at once */
#define CODE_SIZE     (SLOT * BATCH) /* what follows is not mapped */
#define SCRATCH_BASE  0x20000000u
#define SCRATCH_SIZE  (2 * PAGE) /* read and write */
#define READONLY_BASE (SCRATCH_BASE + SCRATCH_SIZE) /* one page */
#define FS_BASE	      (SCRATCH_BASE + 0x140)
#define GS_BASE	      (SCRATCH_BASE + 0xa80)
#define USER_CS	      0x33u
#define USER_SS	      0x2bu
#define DIFF_MAX      1024u
/* Where the scratch pages hold something worth loading. */
#define FX_AT	 0x400u /* in each page: an FXSAVE image */
#define MXCSR_AT 0x200u /* in each page: 16 values of MXCSR */

struct job {
	uint64_t gpr[16], rip;
	uint32_t rflags;
	uint32_t undefined; /* flags that the instruction leaves undefined */
	uint8_t code[48]; /* room to build in; 24 count */
	uint8_t len; /* of code; the instruction may be shorter */
	bool rep; /* steps at the same address are part of it */
	uint8_t key[3]; /* opcode map, opcode, ModRM or 0 */
	uint8_t fx[512] __attribute__((aligned(16)));
};

struct outcome {
	uint64_t gpr[16], rip, cr2; /* cr2: of a page fault, else 0 */
	uint32_t rflags, vector, error;
	uint32_t lo, hi; /* scratch bytes [lo, hi) differ from before */
	/* as they are now, from lo on */
	uint8_t bytes[DIFF_MAX] __attribute__((aligned(8)));
	uint8_t fx[512] __attribute__((aligned(16)));
};

/* Shared with the child. */
struct mailbox {
	uint32_t count;
	volatile uint32_t progress; /* the case at which the child is */
	uint8_t base[SCRATCH_SIZE + PAGE]; /* the scratch pages before */
	struct job job[BATCH];
	struct outcome native[BATCH];
};

/* FS belongs to the cases: nothing there may use it. */
#define UNPROTECTED                        \
	__attribute__((no_stack_protector, \
	    no_sanitize("address", "undefined", "thread")))

/* Note what a case changed in the scratch pages, and undo it. */
UNPROTECTED static inline void
scratch_collect(uint8_t *scratch, const uint8_t *base, struct outcome *o)
{
	uint64_t *now = (uint64_t *)(void *)scratch;
	const uint64_t *before = (const uint64_t *)(const void *)base;
	uint32_t n, lo = SCRATCH_SIZE, hi = 0;

	for (n = 0; n < SCRATCH_SIZE / 8; n++)
		if (now[n] != before[n]) {
			if (lo == SCRATCH_SIZE)
				lo = 8 * n;
			hi = 8 * n + 8;
		}
	o->lo = lo;
	o->hi = hi;
	for (n = lo / 8; n < hi / 8; n++) {
		if (8 * n - lo < DIFF_MAX)
			((uint64_t *)(void *)o->bytes)[n - lo / 8] = now[n];
		now[n] = before[n];
	}
}

#endif
