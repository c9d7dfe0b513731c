/*
 * What integer handlers are made of.
 *
 * A handler of a memory form has two bodies from one source: the fast one,
 * inlined TLB look-ups and no function calls, so that it needs no stack frame;
 * and the slow one, to which the fast one jumps on any miss before it has
 * changed anything.
 */
#ifndef SOFT_INT_OPS_H
#define SOFT_INT_OPS_H

#include "hypervisor/soft/block.h"
#include "hypervisor/soft/int_flags.h"

ALWAYS_INLINE uint64_t
sign_extend(uint64_t v, unsigned size)
{
	switch (size) {
	case 1:
		return (uint64_t)(int8_t)v;
	case 2:
		return (uint64_t)(int16_t)v;
	case 4:
		return (uint64_t)(int32_t)v;
	default:
		return v;
	}
}

ALWAYS_INLINE uint64_t
zero_extend(uint64_t v, unsigned size)
{
	switch (size) {
	case 1:
		return (uint8_t)v;
	case 2:
		return (uint16_t)v;
	case 4:
		return (uint32_t)v;
	default:
		return v;
	}
}

/* Registers by number r and, for bytes, their offset in reg[]. */
ALWAYS_INLINE uint64_t
reg_get(const struct cpu *c, unsigned r, unsigned byte, unsigned size)
{
	switch (size) {
	case 1:
		return ((const uint8_t *)c->reg)[byte];
	case 2:
		return (uint16_t)c->reg[r];
	case 4:
		return (uint32_t)c->reg[r];
	default:
		return c->reg[r];
	}
}

ALWAYS_INLINE void
reg_set(struct cpu *c, unsigned r, unsigned byte, unsigned size, uint64_t v)
{
	switch (size) {
	case 1:
		((uint8_t *)c->reg)[byte] = (uint8_t)v;
		break;
	case 2:
		*(mem_u16 *)&c->reg[r] = (uint16_t)v;
		break;
	case 4:
		c->reg[r] = (uint32_t)v;
		break;
	default:
		c->reg[r] = v;
		break;
	}
}

#define GET_REG(c, i, size)    reg_get(c, (i)->reg, (i)->breg, size)
#define SET_REG(c, i, size, v) reg_set(c, (i)->reg, (i)->breg, size, v)
#define GET_RM(c, i, size)     reg_get(c, (i)->rm, (i)->brm, size)
#define SET_RM(c, i, size, v)  reg_set(c, (i)->rm, (i)->brm, size, v)

ALWAYS_INLINE uint64_t
operand_lin(struct cpu *c, const struct insn *i, unsigned size, bool write)
{
	if (LIKELY(i->fast))
		return cpu_lin_fast(c, i);
	return insn_lin(c, i, size, write);
}

/* Of an operand that is a base register and a displacement, no more. */
ALWAYS_INLINE uint64_t
base_lin(const struct cpu *c, const struct insn *i)
{
	return cpu_word(c, i->base) + (uint64_t)(int64_t)i->disp;
}

/*
 * One memory operand.  In the fast body, operand_begin() false means: return
 * false.
 */
struct operand {
	uint64_t lin;
	void *host;
};

ALWAYS_INLINE bool
operand_begin(struct cpu *c, const struct insn *i, struct operand *o,
    unsigned size, bool write, bool fast)
{
	if (fast) {
		if (UNLIKELY(!i->fast))
			return false;
		o->lin = cpu_lin_fast(c, i);
		o->host = write ? tlb_write(c, o->lin, size)
				: tlb_read(c, o->lin, size);
		return LIKELY(o->host != NULL);
	}
	o->lin = insn_lin(c, i, size, write);
	if (write)
		mem_probe_write(c, i, o->lin, size);
	return true;
}

ALWAYS_INLINE uint64_t
operand_load(struct cpu *c, const struct insn *i, const struct operand *o,
    unsigned size, bool fast)
{
	return fast ? host_load(o->host, size) : mem_load(c, i, o->lin, size);
}

ALWAYS_INLINE void
operand_store(struct cpu *c, const struct insn *i, const struct operand *o,
    unsigned size, uint64_t v, bool fast)
{
	if (fast)
		host_store(o->host, size, v);
	else
		mem_store(c, i, o->lin, size, v);
}

/* Handler `name` of name##_body(c, i, fast). */
#define MEM_OP(name)                                      \
	static void __attribute__((noinline))             \
	name##_slow(struct cpu *c, const struct insn *i)  \
	{                                                 \
		(void)name##_body(c, i, false);           \
		NEXT(c, i);                               \
	}                                                 \
	static OP(name)                                   \
	{                                                 \
		if (UNLIKELY(!name##_body(c, i, true))) { \
			name##_slow(c, i);                \
			return;                           \
		}                                         \
		NEXT(c, i);                               \
	}

/* Registers or memory by INSN_MEM: for what is not hot. */
ALWAYS_INLINE uint64_t
rm_load(struct cpu *c, const struct insn *i, unsigned size)
{
	if (i->flags & INSN_MEM)
		return mem_load(c, i, insn_lin(c, i, size, false), size);
	return GET_RM(c, i, size);
}

/* Before the first change: where the result goes, checked. */
ALWAYS_INLINE uint64_t
rm_begin(struct cpu *c, const struct insn *i, unsigned size)
{
	uint64_t lin;

	if (!(i->flags & INSN_MEM))
		return 0;
	lin = insn_lin(c, i, size, true);
	mem_probe_write(c, i, lin, size);
	return lin;
}

ALWAYS_INLINE uint64_t
rm_get(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size)
{
	if (i->flags & INSN_MEM)
		return mem_load(c, i, lin, size);
	return GET_RM(c, i, size);
}

ALWAYS_INLINE void
rm_put(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size,
    uint64_t v)
{
	if (i->flags & INSN_MEM)
		mem_store(c, i, lin, size, v);
	else
		SET_RM(c, i, size, v);
}

enum alu {
	ALU_ADD,
	ALU_OR,
	ALU_ADC,
	ALU_SBB,
	ALU_AND,
	ALU_SUB,
	ALU_XOR,
	ALU_CMP
};

/* Sets the flags, gives the result. */
ALWAYS_INLINE uint64_t
alu_do(struct cpu *c, enum alu op, unsigned size, uint64_t a, uint64_t b)
{
	uint64_t r;

	a = sign_extend(a, size);
	b = sign_extend(b, size);
	switch (op) {
	case ALU_ADD:
		r = sign_extend(a + b, size);
		lazy_set(c, LF_ADD, r, a, b);
		break;
	case ALU_ADC:
		r = sign_extend(a + b + lazy_cf(c), size);
		lazy_set(c, LF_ADC, r, a, b);
		break;
	case ALU_SBB:
		r = sign_extend(a - b - lazy_cf(c), size);
		lazy_set(c, LF_SBB, r, a, b);
		break;
	case ALU_SUB:
	case ALU_CMP:
		r = sign_extend(a - b, size);
		lazy_set(c, LF_SUB, r, a, b);
		break;
	case ALU_OR:
		r = a | b;
		lazy_result(c, r, 0);
		break;
	case ALU_AND:
		r = a & b;
		lazy_result(c, r, 0);
		break;
	case ALU_XOR:
	default:
		r = a ^ b;
		lazy_result(c, r, 0);
		break;
	}
	return r;
}

/* ---- going on elsewhere ---- */

/* To the target of a jump whose block row is `row`. */
ALWAYS_INLINE void
jump_direct(struct cpu *c, const struct insn *row, uint64_t target)
{
	struct insn *to = (struct insn *)(uintptr_t)row->imm;

	c->rip = target;
	if (UNLIKELY(atomic_load_explicit(&c->attention, memory_order_relaxed)))
		END(c);
#ifdef SOFT_TAIL_CALLS
	if (LIKELY(to != NULL))
		return to->fn(c, to);
	if (!row->fast) {
		struct jump_entry *e = block_jump_entry(c->blocks, target);

		if (LIKELY(e->tag == block_jump_tag(c->blocks, target)))
			return e->insn->fn(c, e->insn);
		END(c);
	}
	c->link = (struct insn *)(uintptr_t)row;
#else
	(void)to;
#endif
	END(c);
}

ALWAYS_INLINE void
jump_indirect(struct cpu *c, uint64_t target)
{
	c->rip = target;
#ifdef SOFT_TAIL_CALLS
	struct jump_entry *e = block_jump_entry(c->blocks, target);

	if (LIKELY(e->tag == block_jump_tag(c->blocks, target)) &&
	    LIKELY(!atomic_load_explicit(&c->attention, memory_order_relaxed)))
		return e->insn->fn(c, e->insn);
#endif
	END(c);
}

/* ---- the stack ---- */

static inline unsigned
stack_size(const struct cpu *c)
{
	return c->mode == 8 ? 8 : c->seg[SS].attr & 0x4000 ? 4 : 2;
}

static inline void
stack_set(struct cpu *c, uint64_t rsp)
{
	unsigned size = stack_size(c);

	if (size == 2)
		*(mem_u16 *)&c->reg[RSP] = (uint16_t)rsp;
	else
		c->reg[RSP] = size == 4 ? (uint32_t)rsp : rsp;
}

static inline uint64_t
stack_lin(struct cpu *c, const struct insn *i, uint64_t rsp, unsigned size,
    bool write)
{
	return seg_lin(c, i, SS, zero_extend(rsp, stack_size(c)), size, write);
}

void int_push(struct cpu *c, const struct insn *i, unsigned size, uint64_t v);
/* At RSP; the caller moves RSP. */
uint64_t int_top(struct cpu *c, const struct insn *i, unsigned size);

/* ---- locked access (int_lock.c) ---- */
struct locked {
	uint64_t lin;
	void *host; /* NULL: under the global lock */
	hv_gpa gpa;
	bool code;
};

/* An atomic read-modify-write: begin, then load and try till it succeeds, then
 * end.  Nothing in between may raise. */
void locked_begin(
    struct cpu *c, const struct insn *i, struct locked *l, unsigned size);
/* With l->lin given. */
void locked_begin_at(
    struct cpu *c, const struct insn *i, struct locked *l, unsigned size);
uint64_t locked_load(
    struct cpu *c, const struct insn *i, struct locked *l, unsigned size);
bool locked_try(struct cpu *c, const struct insn *i, struct locked *l,
    unsigned size, uint64_t *old, uint64_t v);
void locked_end(struct cpu *c, struct locked *l, unsigned size);

#endif
