/* Segment registers and the instructions that look at descriptors. */
#include "hypervisor/soft/sys_seg.h"

/*
 * Behind a load of seg: outside of 64-bit mode the block may count on the
 * segments, so it ends; a new SS holds interrupts for one instruction.
 */
static bool
load_ends(struct cpu *c, const struct insn *i, unsigned seg)
{
	if (seg == SS)
		c->shadow = true;
	else if (c->mode == 8)
		return false;
	c->rip = insn_next_ip(c, i);
	return true;
}

OP(op_mov_sreg_load)
{
	uint16_t sel;

	if (i->reg == CS || i->reg >= SEG_COUNT)
		cpu_raise_ud(c, i);
	if (i->flags & INSN_MEM)
		sel = mem_read16(c, i, insn_lin(c, i, 2, false));
	else
		sel = (uint16_t)c->reg[i->rm];
	seg_load(c, i, i->reg, sel);
	if (load_ends(c, i, i->reg))
		END(c);
	NEXT(c, i);
}

OP(op_mov_sreg_store)
{
	if (i->reg >= SEG_COUNT)
		cpu_raise_ud(c, i);
	if (i->flags & INSN_MEM)
		mem_write16(c, i, insn_lin(c, i, 2, true), c->seg[i->reg].sel);
	else
		reg_write(c, i->rm, i->opsize, c->seg[i->reg].sel);
	NEXT(c, i);
}

static SYS_SLOW void
pop_sreg(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	uint16_t sel = (uint16_t)sys_pop(c, i, &s, i->opsize);

	seg_load(c, i, i->reg, sel);
	/* The pointer moves by the width of the stack that was popped. */
	stack_commit(c, &s);
}

OP(op_pop_sreg)
{
	pop_sreg(c, i);
	if (load_ends(c, i, i->reg))
		END(c);
	NEXT(c, i);
}

static SYS_SLOW void
push_sreg(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);

	sys_push(c, i, &s, i->opsize, c->seg[i->reg].sel);
	stack_commit(c, &s);
}

OP(op_push_sreg)
{
	push_sreg(c, i);
	NEXT(c, i);
}

static SYS_SLOW void
load_pointer(struct cpu *c, const struct insn *i)
{
	uint64_t lin = insn_lin(c, i, i->opsize + 2u, false), off = 0;
	uint16_t sel;

	mem_read(c, i, lin, &off, i->opsize);
	sel = mem_read16(c, i, lin + i->opsize);
	seg_load(c, i, i->imm2, sel);
	reg_write(c, i->reg, i->opsize, off);
}

OP(op_lds)
{
	load_pointer(c, i);
	if (load_ends(c, i, i->imm2))
		END(c);
	NEXT(c, i);
}

static void
zf_set(struct cpu *c, bool zf)
{
	uint32_t fl = flags_get(c);

	flags_set_arith(c, zf ? fl | FL_ZF : fl & ~FL_ZF);
}

/* The selector operand of lar, lsl, verr, verw, lldt, ltr. */
static uint16_t
sel_operand(struct cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return mem_read16(c, i, insn_lin(c, i, 2, false));
	return (uint16_t)c->reg[i->rm];
}

/* Is the descriptor visible at CPL and sel's RPL? */
static bool
desc_visible(const struct cpu *c, uint16_t sel, uint16_t attr)
{
	if ((attr & (ATTR_S | ATTR_CODE | ATTR_CE)) ==
	    (ATTR_S | ATTR_CODE | ATTR_CE))
		return true;
	return ATTR_DPL(attr) >= c->cpl && ATTR_DPL(attr) >= (sel & 3u);
}

/* Does lar (or lsl) know this system type? */
static bool
type_known(const struct cpu *c, uint16_t attr, bool lsl)
{
	switch (attr & ATTR_TYPE) {
	case DESC_LDT:
	case DESC_TSS:
	case DESC_TSS_BUSY:
		return true;
	case DESC_TSS16:
	case DESC_TSS16_BUSY:
		return !cpu_long(c);
	case DESC_CALL:
		return !lsl;
	case DESC_CALL16:
	case DESC_TASK:
		return !lsl && !cpu_long(c);
	default:
		return false;
	}
}

/* Common to lar and lsl: the descriptor, if the instruction may see it. */
static bool
desc_query(struct cpu *c, const struct insn *i, bool lsl, uint64_t *d)
{
	uint16_t sel;

	sys_need_protected(c, i);
	sel = sel_operand(c, i);
	if (sel_error(sel) == 0 || !desc_read(c, i, sel, d))
		return false;
	if (!(desc_attr(*d) & ATTR_S) && !type_known(c, desc_attr(*d), lsl))
		return false;
	return desc_visible(c, sel, desc_attr(*d));
}

static SYS_SLOW void
load_attributes(struct cpu *c, const struct insn *i)
{
	uint64_t d;
	bool ok = desc_query(c, i, false, &d);

	if (ok)
		reg_write(c, i->reg, i->opsize,
		    (d >> 32) & (i->opsize == 2 ? 0xff00 : 0x00ffff00));
	zf_set(c, ok);
}

OP(op_lar)
{
	load_attributes(c, i);
	NEXT(c, i);
}

static SYS_SLOW void
load_limit(struct cpu *c, const struct insn *i)
{
	uint64_t d;
	bool ok = desc_query(c, i, true, &d);

	if (ok)
		reg_write(c, i->reg, i->opsize, desc_seg(0, d).limit);
	zf_set(c, ok);
}

OP(op_lsl)
{
	load_limit(c, i);
	NEXT(c, i);
}

OP(op_arpl)
{
	uint64_t lin = 0;
	uint16_t dst, src = (uint16_t)c->reg[i->reg];
	bool low;

	sys_need_protected(c, i);
	if (i->flags & INSN_MEM) {
		lin = insn_lin(c, i, 2, true);
		mem_probe_write(c, i, lin, 2);
		dst = mem_read16(c, i, lin);
	} else {
		dst = (uint16_t)c->reg[i->rm];
	}
	low = (dst & 3) < (src & 3);
	if (low) {
		dst = (uint16_t)((dst & ~3u) | (src & 3u));
		if (i->flags & INSN_MEM)
			mem_write16(c, i, lin, dst);
		else
			reg_write(c, i->rm, 2, dst);
	}
	zf_set(c, low);
	NEXT(c, i);
}

/* verr, verw. */
static SYS_SLOW void
verify(struct cpu *c, const struct insn *i, bool write)
{
	uint16_t sel = sel_operand(c, i), attr;
	bool ok = false;
	uint64_t d;

	if (sel_error(sel) != 0 && desc_read(c, i, sel, &d)) {
		attr = desc_attr(d);
		ok = (attr & ATTR_S) && desc_visible(c, sel, attr);
		if (write)
			ok = ok && (attr & (ATTR_CODE | ATTR_RW)) == ATTR_RW;
		else
			ok = ok && (!(attr & ATTR_CODE) || (attr & ATTR_RW));
	}
	zf_set(c, ok);
}

/* The base of a system segment: 64 bits in long mode. */
static struct seg
system_seg(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d)
{
	struct seg s = desc_seg(sel, d);
	uint64_t upper;

	if (cpu_long(c)) {
		if (!desc_read_upper(c, i, sel, &upper))
			cpu_raise_gp(c, i, sel_error(sel));
		s.base |= upper << 32;
		if (!canonical(s.base) || (upper & 0x1f0000000000ull))
			cpu_raise_gp(c, i, sel_error(sel));
	}
	return s;
}

static SYS_SLOW void
load_ldt(struct cpu *c, const struct insn *i)
{
	uint16_t sel;
	uint64_t d;

	sys_need_cpl0(c, i);
	sel = sel_operand(c, i);
	if (sel_error(sel) == 0) {
		c->ldtr = (struct seg){ .sel = sel };
		return;
	}
	if ((sel & 4) || !desc_read(c, i, sel, &d) ||
	    ((d >> 40) & 0x1f) != DESC_LDT)
		cpu_raise_gp(c, i, sel_error(sel));
	c->fault_insn = i;
	if (!(desc_attr(d) & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel));
	c->ldtr = system_seg(c, i, sel, d);
}

static SYS_SLOW void
load_tr(struct cpu *c, const struct insn *i)
{
	uint16_t sel;
	uint64_t d;
	struct seg s;
	unsigned type;

	sys_need_cpl0(c, i);
	sel = sel_operand(c, i);
	if (sel_error(sel) == 0 || (sel & 4) || !desc_read(c, i, sel, &d))
		cpu_raise_gp(c, i, sel_error(sel));
	type = (d >> 40) & 0x1f;
	if (type != DESC_TSS && (type != DESC_TSS16 || cpu_long(c)))
		cpu_raise_gp(c, i, sel_error(sel));
	c->fault_insn = i;
	if (!(desc_attr(d) & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel));
	d |= 2ull << 40; /* busy */
	s = system_seg(c, i, sel, d);
	desc_write_type(c, i, sel, d);
	c->tr = s;
}

/* sldt, str: 16 bits to memory, the operand size to a register. */
static SYS_SLOW void
store_sel(struct cpu *c, const struct insn *i, uint16_t sel)
{
	c->fault_insn = i;
	if ((c->cr4 & CR4_UMIP) && c->cpl != 0)
		cpu_raise(c, EXC_GP, 0);
	if (i->flags & INSN_MEM)
		mem_write16(c, i, insn_lin(c, i, 2, true), sel);
	else
		reg_write(c, i->rm, i->opsize, sel);
}

OP(op_group6)
{
	sys_need_protected(c, i);
	switch (i->reg & 7) {
	case 0:
		store_sel(c, i, c->ldtr.sel);
		break;
	case 1:
		store_sel(c, i, c->tr.sel);
		break;
	case 2:
		load_ldt(c, i);
		break;
	case 3:
		load_tr(c, i);
		break;
	case 4:
	case 5:
		verify(c, i, (i->reg & 7) == 5);
		break;
	default:
		cpu_raise_ud(c, i);
	}
	NEXT(c, i);
}
