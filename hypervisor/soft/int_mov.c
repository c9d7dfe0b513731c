/* Moves, conditional moves, the stack, LEA, and the little ones. */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

/* clang-format off */
#define SIZES(X) X(1) X(2) X(4) X(8)
#define SET(name) { \
	name##_r_1, name##_m_1, name##_r_2, name##_m_2, \
	name##_r_4, name##_m_4, name##_r_8, name##_m_8 }
/* clang-format on */

#define LOAD(name, size, put)                                    \
	ALWAYS_INLINE bool name##_body(                          \
	    struct cpu *c, const struct insn *i, bool fast)      \
	{                                                        \
		struct operand o;                                \
		uint64_t v;                                      \
		if (!operand_begin(c, i, &o, size, false, fast)) \
			return false;                            \
		v = operand_load(c, i, &o, size, fast);          \
		put;                                             \
		return true;                                     \
	}                                                        \
	MEM_OP(name)

#define STORE(name, size, value)                                          \
	ALWAYS_INLINE bool name##_body(                                   \
	    struct cpu *c, const struct insn *i, bool fast)               \
	{                                                                 \
		struct operand o;                                         \
		if (fast) {                                               \
			if (!operand_begin(c, i, &o, size, true, true))   \
				return false;                             \
			host_store(o.host, size, value);                  \
			return true;                                      \
		}                                                         \
		mem_store(c, i, insn_lin(c, i, size, true), size, value); \
		return true;                                              \
	}                                                                 \
	MEM_OP(name)

/* The same where the address is a base register and a displacement. */
#define LOAD_BASE(name, size, put)                                    \
	static OP(name##_base)                                        \
	{                                                             \
		const void *host = tlb_read(c, base_lin(c, i), size); \
		uint64_t v;                                           \
		if (UNLIKELY(host == NULL)) {                         \
			name##_slow(c, i);                            \
			return;                                       \
		}                                                     \
		v = host_load(host, size);                            \
		put;                                                  \
		NEXT(c, i);                                           \
	}

#define STORE_BASE(name, size, value)                            \
	static OP(name##_base)                                   \
	{                                                        \
		void *host = tlb_write(c, base_lin(c, i), size); \
		if (UNLIKELY(host == NULL)) {                    \
			name##_slow(c, i);                       \
			return;                                  \
		}                                                \
		host_store(host, size, value);                   \
		NEXT(c, i);                                      \
	}

#define MOV(size)                                           \
	static OP(mov_er_r_##size)                          \
	{                                                   \
		SET_RM(c, i, size, GET_REG(c, i, size));    \
		NEXT(c, i);                                 \
	}                                                   \
	static OP(mov_re_r_##size)                          \
	{                                                   \
		SET_REG(c, i, size, GET_RM(c, i, size));    \
		NEXT(c, i);                                 \
	}                                                   \
	static OP(mov_ei_r_##size)                          \
	{                                                   \
		SET_RM(c, i, size, i->imm);                 \
		NEXT(c, i);                                 \
	}                                                   \
	STORE(mov_er_m_##size, size, GET_REG(c, i, size))   \
	LOAD(mov_re_m_##size, size, SET_REG(c, i, size, v)) \
	STORE(mov_ei_m_##size, size, i->imm)

#define MOV_BASE(size)                                           \
	STORE_BASE(mov_er_m_##size, size, GET_REG(c, i, size))   \
	LOAD_BASE(mov_re_m_##size, size, SET_REG(c, i, size, v)) \
	STORE_BASE(mov_ei_m_##size, size, i->imm)

SIZES(MOV)
SIZES(MOV_BASE)
op_set set_mov_er = SET(mov_er);
op_set set_mov_re = SET(mov_re);
op_set set_mov_ei = SET(mov_ei);

/* Source of size `from`; the set's size is the destination's. */
#define WIDEN(name, from, size, extend)                                \
	static OP(name##_r_##size)                                     \
	{                                                              \
		SET_REG(c, i, size, extend(GET_RM(c, i, from), from)); \
		NEXT(c, i);                                            \
	}                                                              \
	LOAD(name##_m_##size, from, SET_REG(c, i, size, extend(v, from)))
#define WIDEN_SET(name, from, extend)                                         \
	WIDEN(name, from, 2, extend)                                          \
	WIDEN(name, from, 4, extend)                                          \
	WIDEN(name, from, 8, extend)                                          \
	op_set set_##name = { NULL, NULL, name##_r_2, name##_m_2, name##_r_4, \
		name##_m_4, name##_r_8, name##_m_8 };

WIDEN_SET(movzx8, 1, zero_extend)
LOAD_BASE(movzx8_m_4, 1, SET_REG(c, i, 4, v))
WIDEN_SET(movzx16, 2, zero_extend)
WIDEN_SET(movsx8, 1, sign_extend)
WIDEN_SET(movsx16, 2, sign_extend)
WIDEN_SET(movsxd, 4, sign_extend)

#define BASE_ROW(name)            \
	{                         \
		name, name##_base \
	}
const struct op_pair base_pairs[] = {
	BASE_ROW(mov_er_m_1),
	BASE_ROW(mov_er_m_2),
	BASE_ROW(mov_er_m_4),
	BASE_ROW(mov_er_m_8),
	BASE_ROW(mov_re_m_1),
	BASE_ROW(mov_re_m_2),
	BASE_ROW(mov_re_m_4),
	BASE_ROW(mov_re_m_8),
	BASE_ROW(mov_ei_m_1),
	BASE_ROW(mov_ei_m_2),
	BASE_ROW(mov_ei_m_4),
	BASE_ROW(mov_ei_m_8),
	BASE_ROW(movzx8_m_4),
	{ NULL, NULL },
};

/* A 32-bit CMOVcc clears the upper half even if the condition is false. */
#define CMOV(cc, size)                           \
	static OP(cmov##cc##_r_##size)           \
	{                                        \
		uint64_t v = GET_RM(c, i, size); \
		if (!lazy_cond(c, cc))           \
			v = GET_REG(c, i, size); \
		SET_REG(c, i, size, v);          \
		NEXT(c, i);                      \
	}                                        \
	LOAD(cmov##cc##_m_##size, size,          \
	    SET_REG(c, i, size, lazy_cond(c, cc) ? v : GET_REG(c, i, size)))
#define SETCC(cc)                                  \
	CMOV(cc, 2)                                \
	CMOV(cc, 4)                                \
	CMOV(cc, 8)                                \
	static OP(setcc##cc##_r)                   \
	{                                          \
		SET_RM(c, i, 1, lazy_cond(c, cc)); \
		NEXT(c, i);                        \
	}                                          \
	STORE(setcc##cc##_m, 1, lazy_cond(c, cc))

/* clang-format off */
#define CONDITIONS(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) \
	X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
CONDITIONS(SETCC)
#define CMOV_ROW(cc) { NULL, NULL, cmov##cc##_r_2, cmov##cc##_m_2, \
	cmov##cc##_r_4, cmov##cc##_m_4, cmov##cc##_r_8, cmov##cc##_m_8 },
#define SETCC_ROW(cc) { setcc##cc##_r, setcc##cc##_m },
op_set set_cmov[16] = { CONDITIONS(CMOV_ROW) };
op_set set_setcc[16] = { CONDITIONS(SETCC_ROW) };
/* clang-format on */

static OP(lea_2)
{
	SET_REG(c, i, 2, insn_ea(c, i));
	NEXT(c, i);
}

static OP(lea_4)
{
	c->reg[i->reg] = (uint32_t)insn_ea(c, i);
	NEXT(c, i);
}

static OP(lea_8)
{
	uint64_t ea = cpu_word(c, i->base) +
	    (cpu_word(c, i->index) << i->scale) + (uint64_t)(int64_t)i->disp;

	c->reg[i->reg] = i->addrsize == 8 ? ea : insn_ea(c, i);
	NEXT(c, i);
}

op_set set_lea = { NULL, NULL, NULL, lea_2, NULL, lea_4, NULL, lea_8 };

OP(op_mov_moffs_load)
{
	unsigned size = i->opsize;
	uint64_t lin = seg_lin(
	    c, i, i->seg == SEG_FLAT ? DS : i->seg, i->imm, size, false);

	reg_set(c, RAX, 0, size, mem_load(c, i, lin, size));
	NEXT(c, i);
}

OP(op_mov_moffs_store)
{
	unsigned size = i->opsize;
	uint64_t lin =
	    seg_lin(c, i, i->seg == SEG_FLAT ? DS : i->seg, i->imm, size, true);

	mem_store(c, i, lin, size, c->reg[RAX]);
	NEXT(c, i);
}

OP(op_mov_ri)
{
	reg_set(c, i->rm, i->brm, i->opsize, i->imm);
	NEXT(c, i);
}

OP(op_mov_ri8)
{
	SET_RM(c, i, 1, i->imm);
	NEXT(c, i);
}

OP(op_movnti)
{
	unsigned size = i->opsize == 8 ? 8 : 4;

	mem_store(c, i, insn_lin(c, i, size, true), size, c->reg[i->reg]);
	NEXT(c, i);
}

/* ---- the stack ---- */

void
int_push(struct cpu *c, const struct insn *i, unsigned size, uint64_t v)
{
	uint64_t rsp = c->reg[RSP] - size;

	mem_store(c, i, stack_lin(c, i, rsp, size, true), size, v);
	stack_set(c, rsp);
}

uint64_t
int_top(struct cpu *c, const struct insn *i, unsigned size)
{
	return mem_load(c, i, stack_lin(c, i, c->reg[RSP], size, false), size);
}

ALWAYS_INLINE bool
push64_body(struct cpu *c, const struct insn *i, bool fast)
{
	uint64_t rsp = c->reg[RSP] - 8;
	void *host;

	if (!fast) {
		int_push(c, i, 8, c->reg[i->rm]);
		return true;
	}
	host = tlb_write(c, rsp, 8);
	if (UNLIKELY(host == NULL))
		return false;
	host_store(host, 8, c->reg[i->rm]);
	c->reg[RSP] = rsp;
	return true;
}
MEM_OP(push64)

ALWAYS_INLINE bool
pop64_body(struct cpu *c, const struct insn *i, bool fast)
{
	uint64_t v, rsp = c->reg[RSP];
	const void *host;

	if (fast) {
		host = tlb_read(c, rsp, 8);
		if (UNLIKELY(host == NULL))
			return false;
		v = host_load(host, 8);
	} else {
		v = int_top(c, i, 8);
	}
	c->reg[RSP] = rsp + 8;
	c->reg[i->rm] = v;
	return true;
}
MEM_OP(pop64)

static OP(push_r)
{
	int_push(c, i, i->opsize, c->reg[i->rm]);
	NEXT(c, i);
}

static OP(pop_r)
{
	uint64_t v = int_top(c, i, i->opsize);

	stack_set(c, c->reg[RSP] + i->opsize);
	reg_set(c, i->rm, 0, i->opsize, v);
	NEXT(c, i);
}

/* Eight bytes are pushed in 64-bit mode only. */
op_set set_push_r = { NULL, NULL, push_r, NULL, push_r, NULL, push64, NULL };
op_set set_pop_r = { NULL, NULL, pop_r, NULL, pop_r, NULL, pop64, NULL };

OP(op_push_imm)
{
	int_push(c, i, i->opsize, i->imm);
	NEXT(c, i);
}

OP(op_push_rm)
{
	int_push(c, i, i->opsize, rm_load(c, i, i->opsize));
	NEXT(c, i);
}

/* The address is that after the pop; a fault leaves RSP alone. */
OP(op_pop_rm)
{
	unsigned size = i->opsize;
	uint64_t v = int_top(c, i, size), rsp = c->reg[RSP], lin;

	if (!(i->flags & INSN_MEM)) {
		stack_set(c, rsp + size);
		reg_set(c, i->rm, 0, size, v);
		NEXT(c, i);
	}
	stack_set(c, rsp + size);
	if (i->base == RSP) {
		uint64_t after = c->reg[RSP];

		lin = insn_ea(c, i);
		c->reg[RSP] = rsp;
		lin = seg_lin(
		    c, i, i->seg == SEG_FLAT ? SS : i->seg, lin, size, true);
		mem_store(c, i, lin, size, v);
		c->reg[RSP] = after;
		NEXT(c, i);
	}
	c->reg[RSP] = rsp;
	mem_store(c, i, insn_lin(c, i, size, true), size, v);
	stack_set(c, rsp + size);
	NEXT(c, i);
}

OP(op_pusha)
{
	unsigned size = i->opsize;
	uint64_t rsp = c->reg[RSP], lin[8];

	for (unsigned n = 0; n < 8; n++) {
		lin[n] =
		    stack_lin(c, i, rsp - (uint64_t)(n + 1) * size, size, true);
		mem_probe_write(c, i, lin[n], size);
	}
	for (unsigned n = 0; n < 8; n++)
		mem_store(c, i, lin[n], size, c->reg[n]);
	stack_set(c, rsp - 8ull * size);
	NEXT(c, i);
}

OP(op_popa)
{
	unsigned size = i->opsize;
	uint64_t rsp = c->reg[RSP], v[8];

	for (unsigned n = 0; n < 8; n++)
		v[n] = mem_load(c, i,
		    stack_lin(c, i, rsp + (uint64_t)n * size, size, false),
		    size);
	for (unsigned n = 0; n < 8; n++) {
		if (7 - n != RSP)
			reg_set(c, 7 - n, 0, size, v[n]);
	}
	stack_set(c, rsp + 8ull * size);
	NEXT(c, i);
}

OP(op_enter)
{
	unsigned size = i->opsize, level = i->imm2 & 31;
	uint64_t rsp = c->reg[RSP], rbp = c->reg[RBP], frame;
	uint64_t down = (uint64_t)(level + 1) * size + (uint16_t)i->imm;

	/* All its accesses in their order, before the first change. */
	mem_probe_write(c, i, stack_lin(c, i, rsp - size, size, true), size);
	for (unsigned n = 1; n <= level; n++) {
		if (n < level)
			(void)mem_load(c, i,
			    stack_lin(
				c, i, rbp - (uint64_t)n * size, size, false),
			    size);
		mem_probe_write(c, i,
		    stack_lin(c, i, rsp - (n + 1ull) * size, size, true), size);
	}
	mem_probe_write(c, i, stack_lin(c, i, rsp - down, size, true), size);
	rsp -= size;
	mem_store(c, i, stack_lin(c, i, rsp, size, true), size, rbp);
	frame = rsp;
	for (unsigned n = 1; n < level; n++) {
		uint64_t v = mem_load(c, i,
		    stack_lin(c, i, rbp - (uint64_t)n * size, size, false),
		    size);

		rsp -= size;
		mem_store(c, i, stack_lin(c, i, rsp, size, true), size, v);
	}
	if (level > 0) {
		rsp -= size;
		mem_store(c, i, stack_lin(c, i, rsp, size, true), size, frame);
	}
	reg_set(c, RBP, 0, size, frame);
	stack_set(c, rsp - (uint16_t)i->imm);
	NEXT(c, i);
}

OP(op_leave)
{
	unsigned size = i->opsize;
	uint64_t rbp = c->reg[RBP];
	uint64_t v = mem_load(c, i, stack_lin(c, i, rbp, size, false), size);

	stack_set(c, rbp + size);
	reg_set(c, RBP, 0, size, v);
	NEXT(c, i);
}

OP(op_bound)
{
	unsigned size = i->opsize;
	uint64_t lin = insn_lin(c, i, 2 * size, false);
	int64_t low = (int64_t)sign_extend(mem_load(c, i, lin, size), size);
	int64_t high =
	    (int64_t)sign_extend(mem_load(c, i, lin + size, size), size);
	int64_t v = (int64_t)sign_extend(c->reg[i->reg], size);

	if (v < low || v > high) {
		c->fault_insn = i;
		cpu_raise(c, EXC_BR, 0);
	}
	NEXT(c, i);
}

/* ---- the little ones ---- */

OP(op_xchg_r)
{
	uint64_t a = GET_REG(c, i, i->opsize), b = GET_RM(c, i, i->opsize);

	SET_REG(c, i, i->opsize, b);
	SET_RM(c, i, i->opsize, a);
	NEXT(c, i);
}

OP(op_xchg_acc)
{
	uint64_t a = c->reg[RAX], b = c->reg[i->rm];

	reg_set(c, RAX, 0, i->opsize, b);
	reg_set(c, i->rm, 0, i->opsize, a);
	NEXT(c, i);
}

OP(op_bswap)
{
	if (i->opsize == 8)
		c->reg[i->rm] = __builtin_bswap64(c->reg[i->rm]);
	else if (i->opsize == 4)
		c->reg[i->rm] = __builtin_bswap32((uint32_t)c->reg[i->rm]);
	else
		reg_set(c, i->rm, 0, 2, 0);
	NEXT(c, i);
}

OP(op_cbw)
{
	reg_set(c, RAX, 0, i->opsize, sign_extend(c->reg[RAX], i->opsize / 2u));
	NEXT(c, i);
}

OP(op_cwd)
{
	bool minus = (int64_t)sign_extend(c->reg[RAX], i->opsize) < 0;

	reg_set(c, RDX, 0, i->opsize, minus ? UINT64_MAX : 0);
	NEXT(c, i);
}

OP(op_xlat)
{
	uint64_t ea =
	    zero_extend(c->reg[RBX] + (uint8_t)c->reg[RAX], i->addrsize);
	uint64_t lin =
	    seg_lin(c, i, i->seg == SEG_FLAT ? DS : i->seg, ea, 1, false);

	reg_set(c, RAX, 0, 1, mem_load(c, i, lin, 1));
	NEXT(c, i);
}

#define BYTE_AH 1u /* offset of AH in reg[] */

OP(op_lahf)
{
	reg_set(c, RAX, BYTE_AH, 1, (lazy_arith(c) & 0xd5) | 2);
	NEXT(c, i);
}

OP(op_sahf)
{
	uint32_t ah = (uint32_t)reg_get(c, RAX, BYTE_AH, 1);

	flags_set_arith(c, (lazy_arith(c) & FL_OF) | (ah & 0xd5));
	NEXT(c, i);
}

OP(op_salc)
{
	reg_set(c, RAX, 0, 1, lazy_cf(c) ? 0xff : 0);
	NEXT(c, i);
}

OP(op_cmc)
{
	lazy_set_cf(c, !lazy_cf(c));
	NEXT(c, i);
}

OP(op_clc)
{
	lazy_set_cf(c, false);
	NEXT(c, i);
}

OP(op_stc)
{
	lazy_set_cf(c, true);
	NEXT(c, i);
}

OP(op_cld)
{
	c->rflags &= ~FL_DF;
	NEXT(c, i);
}

OP(op_std)
{
	c->rflags |= FL_DF;
	NEXT(c, i);
}

OP(op_nop)
{
	NEXT(c, i);
}

OP(op_fwait)
{
	c->fault_insn = i;
	if ((c->cr0 & CR0_MP) && (c->cr0 & CR0_TS))
		cpu_raise(c, EXC_NM, 0);
	if (c->x87.sw & ~c->x87.cw & 0x3f)
		cpu_raise(c, EXC_MF, 0);
	NEXT(c, i);
}

OP(op_ud)
{
	cpu_raise_ud(c, i);
}

OP(op_too_long)
{
	cpu_raise_gp(c, i, 0);
}
