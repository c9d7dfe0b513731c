/*
 * The software TLB, inlined.
 *
 * An entry whose tag does not match is invalid: the tag of an empty entry is
 * a page that belongs to another index, so that no address can match it.
 * Writes to pages that hold decoded code, accesses that cross a page and
 * everything that is not RAM miss on purpose and take the slow path (mem_*).
 */
#ifndef SOFT_MMU_H
#define SOFT_MMU_H

#include "hypervisor/soft/cpu.h"

#define PAGE_SIZE     4096u
#define PAGE_OFFSET   4095u

#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)
#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef uint16_t __attribute__((may_alias, aligned(1))) mem_u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) mem_u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) mem_u64;

/* Load and store guest memory, size 1, 2, 4 or 8, at any alignment. */
ALWAYS_INLINE uint64_t
host_load(const void *p, unsigned size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const mem_u16 *)p;
	case 4:
		return *(const mem_u32 *)p;
	default:
		return *(const mem_u64 *)p;
	}
}

ALWAYS_INLINE void
host_store(void *p, unsigned size, uint64_t v)
{
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(mem_u16 *)p = (uint16_t)v;
		break;
	case 4:
		*(mem_u32 *)p = (uint32_t)v;
		break;
	default:
		*(mem_u64 *)p = v;
		break;
	}
}

/* The host's address of [lin, lin + size), or NULL: take the slow path. */
ALWAYS_INLINE void *
tlb_read(const struct cpu *c, uint64_t lin, unsigned size)
{
	const struct tlb_entry *e =
	    &c->tlb_now[(lin / PAGE_SIZE) & (TLB_SIZE - 1)];

	if (LIKELY((lin ^ e->read_tag) <= PAGE_SIZE - size))
		return (void *)(e->host + lin);
	return NULL;
}

ALWAYS_INLINE void *
tlb_write(const struct cpu *c, uint64_t lin, unsigned size)
{
	const struct tlb_entry *e =
	    &c->tlb_now[(lin / PAGE_SIZE) & (TLB_SIZE - 1)];

	if (LIKELY((lin ^ e->write_tag) <= PAGE_SIZE - size))
		return (void *)(e->host + lin);
	return NULL;
}

/* Slow path, size 1, 2, 4 or 8; sets fault_insn. */
uint64_t
mem_load(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size);
void mem_store(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size,
    uint64_t v);

/* Where the memory at lin stands, to the end of its page; NULL: not RAM.
 * With write, also NULL for pages that hold decoded code.  Raises #PF. */
uint8_t *
mem_host(struct cpu *c, const struct insn *i, uint64_t lin, bool write);

/* As mem_host(), but with code pages: the caller of a write then calls
 * machine_code_written() if *code. */
uint8_t *mem_host_code(struct cpu *c, const struct insn *i, uint64_t lin,
    bool write, hv_gpa *gpa, bool *code);

/* Translate for a fetch at the current privilege; raises #PF. */
hv_gpa mmu_fetch(struct cpu *c, uint64_t lin, uint8_t **host);

/* No entry may be used to write to the frame at gpa any more.  True if one
 * was. */
bool tlb_protect(struct cpu *c, hv_gpa gpa);

/* Was the page that was just fetched from a global one? */
bool tlb_global(const struct cpu *c, uint64_t lin);

static inline bool
lin_canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

#endif
