/* BT, BTS, BTR, BTC; BSF, BSR, POPCNT. */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

enum { BIT_TEST, BIT_SET, BIT_RESET, BIT_FLIP };

/* 0F A3 AB B3 BB with a register; 0F BA /4 to /7 with an immediate. */
static unsigned
bit_op(const struct insn *i)
{
	return i->opcode == 0xba ? i->reg & 3u : (i->opcode >> 3) & 3u;
}

static uint64_t
bit_apply(unsigned op, uint64_t v, uint64_t mask)
{
	return op == BIT_SET  ? v | mask
	    : op == BIT_RESET ? v & ~mask
	    : op == BIT_FLIP  ? v ^ mask
			      : v;
}

/* A bit offset in a register reaches beyond the operand, both ways. */
static uint64_t
bit_lin(struct cpu *c, const struct insn *i, bool write)
{
	unsigned size = i->opsize;
	int64_t bit = (int64_t)sign_extend(c->reg[i->reg], size);
	uint64_t ea = insn_ea(c, i), by;
	unsigned seg = i->seg;

	by = (uint64_t)(bit >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
	if (seg == SEG_FLAT)
		seg = i->base == RSP || i->base == RBP ? SS : DS;
	return seg_lin(
	    c, i, seg, zero_extend(ea + by, i->addrsize), size, write);
}

static void
bit_plain(struct cpu *c, const struct insn *i, uint64_t n, bool imm)
{
	unsigned size = i->opsize, op = bit_op(i);
	uint64_t v, mask, lin = 0;

	n &= 8u * size - 1;
	mask = 1ull << n;
	if (i->flags & INSN_MEM) {
		lin = imm ? insn_lin(c, i, size, op != BIT_TEST)
			  : bit_lin(c, i, op != BIT_TEST);
		if (op != BIT_TEST)
			mem_probe_write(c, i, lin, size);
	}
	v = rm_get(c, i, lin, size);
	if (op != BIT_TEST)
		rm_put(c, i, lin, size, bit_apply(op, v, mask));
	lazy_set_cf(c, (v & mask) != 0);
}

OP(op_bt)
{
	bit_plain(c, i, c->reg[i->reg], false);
	NEXT(c, i);
}

OP(op_bt_imm)
{
	bit_plain(c, i, i->imm, true);
	NEXT(c, i);
}

static void __attribute__((noinline))
lock_bit(struct cpu *c, const struct insn *i)
{
	unsigned size = i->opsize, op = bit_op(i);
	bool imm = i->opcode == 0xba;
	uint64_t n = (imm ? i->imm : c->reg[i->reg]) & (8u * size - 1);
	uint64_t old, mask = 1ull << n;
	struct locked l;

	l.lin = imm ? insn_lin(c, i, size, true) : bit_lin(c, i, true);
	locked_begin_at(c, i, &l, size);
	old = locked_load(c, i, &l, size);
	while (!locked_try(c, i, &l, size, &old, bit_apply(op, old, mask)))
		;
	locked_end(c, &l, size);
	lazy_set_cf(c, (old & mask) != 0);
}

OP(op_lock_bit)
{
	lock_bit(c, i);
	NEXT(c, i);
}

/* ZF by the source; the other flags as recent processors leave them. */
static void
scan_flags(struct cpu *c, bool zero)
{
	flags_set_arith(c, zero ? FL_ZF | FL_PF : 0);
}

OP(op_bsf)
{
	uint64_t v = rm_load(c, i, i->opsize);

	if (v != 0)
		SET_REG(c, i, i->opsize, (uint64_t)__builtin_ctzll(v));
	scan_flags(c, v == 0);
	NEXT(c, i);
}

OP(op_bsr)
{
	uint64_t v = rm_load(c, i, i->opsize);

	if (v != 0)
		SET_REG(c, i, i->opsize, (uint64_t)(63 - __builtin_clzll(v)));
	scan_flags(c, v == 0);
	NEXT(c, i);
}

OP(op_popcnt)
{
	uint64_t v = rm_load(c, i, i->opsize);

	SET_REG(c, i, i->opsize, (uint64_t)__builtin_popcountll(v));
	flags_set_arith(c, v == 0 ? FL_ZF : 0);
	NEXT(c, i);
}
