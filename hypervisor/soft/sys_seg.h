/* Descriptors, selectors and stacks: what segment loads, far transfers and the
 * delivery of events share.  AMD64 manual volume 2, chapters 4 and 8. */
#ifndef SOFT_SYS_SEG_H
#define SOFT_SYS_SEG_H

#include "hypervisor/soft/cpu.h"

/*
 * For what an instruction's handler calls before NEXT(): a local whose address
 * is taken must not end up in the handler, which would lose its tail call.
 */
#define SYS_SLOW __attribute__((noinline))

/* Bits of seg.attr. */
#define ATTR_TYPE      0x000fu
#define ATTR_ACCESSED  0x0001u
#define ATTR_RW	       0x0002u /* code: readable, data: writable */
#define ATTR_CE	       0x0004u /* code: conforming, data: expand-down */
#define ATTR_CODE      0x0008u
#define ATTR_S	       0x0010u
#define ATTR_P	       0x0080u
#define ATTR_L	       0x2000u
#define ATTR_D	       0x4000u
#define ATTR_G	       0x8000u
#define ATTR_DPL(attr) (((attr) >> 5) & 3u)

/* Types of system descriptors. */
enum desc_type {
	DESC_TSS16 = 1,
	DESC_LDT = 2,
	DESC_TSS16_BUSY = 3,
	DESC_CALL16 = 4,
	DESC_TASK = 5,
	DESC_INT16 = 6,
	DESC_TRAP16 = 7,
	DESC_TSS = 9,
	DESC_TSS_BUSY = 11,
	DESC_CALL = 12,
	DESC_INT = 14,
	DESC_TRAP = 15,
};

static inline bool
cpu_protected(const struct cpu *c)
{
	return c->cr0 & CR0_PE;
}

static inline bool
cpu_long(const struct cpu *c)
{
	return c->efer & EFER_LMA;
}

static inline bool
canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

static inline unsigned
cpu_iopl(const struct cpu *c)
{
	return (c->rflags & FL_IOPL) >> 12;
}

/* Write the low `size` (1 is not meant) bytes of a register as x86 does. */
static inline void
reg_write(struct cpu *c, unsigned r, unsigned size, uint64_t v)
{
	if (size == 2)
		c->reg[r] = (c->reg[r] & ~0xffffull) | (v & 0xffff);
	else
		c->reg[r] = size == 4 ? (uint32_t)v : v;
}

static inline uint64_t
size_mask(unsigned size)
{
	return size == 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

/* c->fault_insn = i; then #UD unless in protected mode, #GP(0) unless CPL 0. */
void sys_need_cpl0(struct cpu *c, const struct insn *i);
void sys_need_protected(struct cpu *c, const struct insn *i);

/* sys_read() and sys_write() of 2, 4 or 8 bytes, fast. */
uint64_t
sys_load(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size);
void sys_store(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size,
    uint64_t v);

/* The 8 bytes of sel's descriptor; false: null LDT or beyond the table. */
bool desc_read(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t *d);
/* The upper 8 bytes of a 16-byte system descriptor (long mode). */
bool
desc_read_upper(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t *d);
/* Replace the type bits in memory (accessed, busy). */
void
desc_write_type(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d);
/* What a segment register holds of a descriptor; sel goes in as it is. */
struct seg desc_seg(uint16_t sel, uint64_t d);
/* desc_seg(), and mark the descriptor accessed if it is not. */
struct seg
desc_load(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d);

static inline uint16_t
desc_attr(uint64_t d)
{
	return (uint16_t)(d >> 40) & 0xf0ff;
}

static inline uint16_t
sel_error(uint16_t sel)
{
	return sel & 0xfffc;
}

/*
 * A stack being pushed to or popped from without having changed the processor:
 * sp is written back by stack_commit().  width: bytes of the stack pointer.
 */
struct stack {
	struct seg ss;
	uint64_t sp;
	unsigned width;
	bool super; /* push as the supervisor, whatever CPL is */
	unsigned vector; /* fault for a limit or canonical violation */
	uint32_t error;
};
/* The stack as it stands: SS:RSP at the current privilege. */
struct stack stack_current(const struct cpu *c);
void sys_push(struct cpu *c, const struct insn *i, struct stack *s,
    unsigned size, uint64_t v);
uint64_t
sys_pop(struct cpu *c, const struct insn *i, struct stack *s, unsigned size);
/* Add n to the pointer within its width. */
void stack_add(struct stack *s, uint64_t n);
/* RSP only; SS is the caller's. */
void stack_commit(struct cpu *c, const struct stack *s);
unsigned stack_width(const struct cpu *c, const struct seg *ss);

/*
 * SS descriptor for a switch to privilege cpl; raises vector bad with sel's
 * error | ext for what is wrong with it, #SS if it is not present.
 */
struct seg stack_segment(struct cpu *c, const struct insn *i, uint16_t sel,
    unsigned cpl, unsigned bad, uint32_t ext);
/* SS:SP of privilege cpl from the task state segment (legacy mode). */
struct stack
stack_inner(struct cpu *c, const struct insn *i, unsigned cpl, uint32_t ext);
/* A 64-bit stack pointer at the offset of the TSS (RSPn, ISTn). */
uint64_t
stack_tss64(struct cpu *c, const struct insn *i, unsigned offset, uint32_t ext);

/* Load a data or stack segment register with all checks. */
void seg_load(struct cpu *c, const struct insn *i, unsigned seg, uint16_t sel);
/* The real-mode contents of a segment register. */
void seg_load_real(struct cpu *c, unsigned seg, uint16_t sel);
/* Flat code (or data) of privilege dpl, as syscall and sysenter load them. */
struct seg seg_flat(uint16_t sel, bool code, unsigned dpl, bool l, bool d);
/* On a return to outer privilege: drop what it may not use. */
void seg_drop_inner(struct cpu *c);

/* Raise #GP(0) if rip cannot be the next address with code segment cs. */
void far_check_rip(
    struct cpu *c, const struct insn *i, const struct seg *cs, uint64_t rip);
/* The flags that iret and popf may write at the current CPL. */
uint32_t sys_flags_mask(const struct cpu *c, unsigned opsize);

/* How a task switch came about. */
enum task_switch { TASK_JMP, TASK_CALL, TASK_IRET, TASK_GATE };
/*
 * Switch to the 32-bit task of TSS selector sel, whose descriptor is d; rip is
 * the address to save in the old task.  c->rip is the new task's on return.
 */
void task_switch(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d,
    enum task_switch how, uint64_t rip, bool has_error, uint32_t error);

#endif
