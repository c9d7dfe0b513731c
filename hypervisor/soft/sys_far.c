/*
 * Far transfers: jmp, call, ret, iret, the software interrupts; call gates and
 * changes of privilege.  Everything is read and checked before anything of the
 * processor changes.
 */
#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/event.h"
#include "hypervisor/soft/sys_seg.h"

static uint64_t
rip_mask(unsigned opsize, uint64_t rip)
{
	return rip & size_mask(opsize);
}

/* A far jump or call in real mode: the code segment it goes to. */
static struct seg
real_cs(const struct cpu *c, uint16_t sel)
{
	struct seg cs = c->seg[CS];

	cs.sel = sel;
	cs.base = (uint32_t)sel << 4;
	return cs;
}

/* The descriptor a far jump or call names. */
static uint64_t
far_desc(struct cpu *c, const struct insn *i, uint16_t sel)
{
	uint64_t d;

	c->fault_insn = i;
	if (sel_error(sel) == 0)
		cpu_raise(c, EXC_GP, 0);
	if (!desc_read(c, i, sel, &d))
		cpu_raise(c, EXC_GP, sel_error(sel));
	return d;
}

static void
need_present(struct cpu *c, uint16_t sel, uint64_t d)
{
	if (!(desc_attr(d) & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel));
}

/* A code segment may not be 64-bit and 32-bit at once. */
static bool
code_bits_ok(const struct cpu *c, uint16_t attr)
{
	return !cpu_long(c) || (attr & (ATTR_L | ATTR_D)) != (ATTR_L | ATTR_D);
}

/* Direct transfer to code at the same privilege. */
static struct seg
far_code(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d)
{
	uint16_t attr = desc_attr(d);
	bool bad;

	if (attr & ATTR_CE)
		bad = ATTR_DPL(attr) > c->cpl;
	else
		bad = ATTR_DPL(attr) != c->cpl || (sel & 3) > c->cpl;
	if (!(attr & ATTR_CODE) || bad || !code_bits_ok(c, attr))
		cpu_raise(c, EXC_GP, sel_error(sel));
	need_present(c, sel, d);
	return desc_load(c, i, (uint16_t)((sel & ~3u) | c->cpl), d);
}

/* A jump through gate or to a TSS: visible at CPL and RPL, present. */
static void
check_gate(struct cpu *c, uint16_t sel, uint64_t d)
{
	unsigned dpl = ATTR_DPL(desc_attr(d));

	if (dpl < c->cpl || dpl < (sel & 3u))
		cpu_raise(c, EXC_GP, sel_error(sel));
	need_present(c, sel, d);
}

static void
commit(struct cpu *c, const struct seg *cs, uint64_t rip)
{
	c->seg[CS] = *cs;
	c->rip = rip;
	cpu_mode_changed(c);
}

static void
call_same(struct cpu *c, const struct insn *i, const struct seg *cs,
    uint64_t rip, unsigned size)
{
	struct stack s = stack_current(c);

	/* Into 64-bit code from compatibility mode the stack widens only
	 * behind the transfer. */
	sys_push(c, i, &s, size, c->seg[CS].sel);
	sys_push(c, i, &s, size, insn_next_ip(c, i));
	far_check_rip(c, i, cs, rip);
	stack_commit(c, &s);
	commit(c, cs, rip);
}

/* Call through a gate to inner privilege. */
static void
call_inner(struct cpu *c, const struct insn *i, const struct seg *cs,
    uint64_t rip, unsigned size, unsigned params)
{
	unsigned cpl = ATTR_DPL(cs->attr), n;
	struct stack old = stack_current(c), s;
	uint64_t param[31];

	if (cpu_long(c)) {
		s = (struct stack){
			.sp = stack_tss64(c, i, 4 + 8 * cpl, 0),
			.width = 8,
			.super = true,
			.vector = EXC_SS,
			.ss = { .sel = (uint16_t)cpl },
		};
		params = 0;
	} else {
		s = stack_inner(c, i, cpl, 0);
	}
	for (n = 0; n < params; n++)
		param[n] = sys_pop(c, i, &old, size);
	sys_push(c, i, &s, size, c->seg[SS].sel);
	sys_push(c, i, &s, size, c->reg[RSP]);
	while (n-- > 0)
		sys_push(c, i, &s, size, param[n]);
	sys_push(c, i, &s, size, c->seg[CS].sel);
	sys_push(c, i, &s, size, insn_next_ip(c, i));
	far_check_rip(c, i, cs, rip);
	c->seg[SS] = s.ss;
	stack_commit(c, &s);
	commit(c, cs, rip);
}

static void
far_gate(
    struct cpu *c, const struct insn *i, uint16_t gate, uint64_t d, bool call)
{
	unsigned type = (d >> 40) & 0x1f, size, dpl;
	uint16_t sel = (uint16_t)(d >> 16), attr;
	uint64_t code, rip, upper = 0;
	struct seg cs;

	check_gate(c, gate, d);
	if (cpu_long(c)) {
		if (!desc_read_upper(c, i, gate, &upper) ||
		    (upper & 0x1f0000000000ull))
			cpu_raise_gp(c, i, sel_error(gate));
	}
	size = cpu_long(c) ? 8 : type == DESC_CALL ? 4 : 2;
	rip = d & 0xffff;
	if (size != 2)
		rip |= ((d >> 32) & 0xffff0000) | upper << 32;
	code = far_desc(c, i, sel);
	attr = desc_attr(code);
	dpl = ATTR_DPL(attr);
	if ((attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) ||
	    dpl > c->cpl ||
	    (cpu_long(c) && (attr & (ATTR_L | ATTR_D)) != ATTR_L))
		cpu_raise_gp(c, i, sel_error(sel));
	if (!call && !(attr & ATTR_CE) && dpl != c->cpl)
		cpu_raise_gp(c, i, sel_error(sel));
	c->fault_insn = i;
	need_present(c, sel, code);
	if (attr & ATTR_CE)
		dpl = c->cpl;
	cs = desc_load(c, i, (uint16_t)((sel & ~3u) | dpl), code);
	if (!call) {
		far_check_rip(c, i, &cs, rip);
		commit(c, &cs, rip);
	} else if (dpl < c->cpl) {
		call_inner(c, i, &cs, rip, size, (d >> 32) & 31);
	} else {
		call_same(c, i, &cs, rip, size);
	}
}

static void
far_task(
    struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d, bool call)
{
	check_gate(c, sel, d);
	if (((d >> 40) & 0x1f) == DESC_TASK) {
		sel = (uint16_t)(d >> 16);
		d = far_desc(c, i, sel);
		if ((sel & 4) || ((d >> 40) & 0x1f) != DESC_TSS)
			cpu_raise_gp(c, i, sel_error(sel));
		need_present(c, sel, d);
	} else if (sel & 4) {
		cpu_raise_gp(c, i, sel_error(sel));
	}
	task_switch(c, i, sel, d, call ? TASK_CALL : TASK_JMP,
	    insn_next_ip(c, i), false, 0);
}

static void
far_transfer(
    struct cpu *c, const struct insn *i, uint16_t sel, uint64_t rip, bool call)
{
	struct seg cs;
	uint64_t d;

	c->fault_insn = i;
	rip = rip_mask(i->opsize, rip);
	if (cpu_protected(c)) {
		d = far_desc(c, i, sel);
		switch ((d >> 40) & 0x1f) {
		case DESC_TSS:
		case DESC_TASK:
			if (cpu_long(c))
				cpu_raise(c, EXC_GP, sel_error(sel));
			far_task(c, i, sel, d, call);
			return;
		case DESC_CALL16:
			if (cpu_long(c))
				cpu_raise(c, EXC_GP, sel_error(sel));
			far_gate(c, i, sel, d, call);
			return;
		case DESC_CALL:
			far_gate(c, i, sel, d, call);
			return;
		default:
			if (!(desc_attr(d) & ATTR_S))
				cpu_raise(c, EXC_GP, sel_error(sel));
			cs = far_code(c, i, sel, d);
		}
	} else {
		cs = real_cs(c, sel);
	}
	if (call) {
		call_same(c, i, &cs, rip, i->opsize);
	} else {
		far_check_rip(c, i, &cs, rip);
		commit(c, &cs, rip);
	}
}

OP(op_jmp_far)
{
	far_transfer(c, i, i->imm2, i->imm, false);
	END(c);
}

OP(op_call_far)
{
	far_transfer(c, i, i->imm2, i->imm, true);
	END(c);
}

static void
far_mem(struct cpu *c, const struct insn *i, bool call)
{
	uint64_t lin = insn_lin(c, i, i->opsize + 2u, false), off = 0;
	uint16_t sel;

	mem_read(c, i, lin, &off, i->opsize);
	sel = mem_read16(c, i, lin + i->opsize);
	far_transfer(c, i, sel, off, call);
}

OP(op_jmp_far_mem)
{
	far_mem(c, i, false);
	END(c);
}

OP(op_call_far_mem)
{
	far_mem(c, i, true);
	END(c);
}

/* The code segment that a far return goes to, at privilege sel & 3. */
static struct seg
return_code(struct cpu *c, const struct insn *i, uint16_t sel)
{
	unsigned rpl = sel & 3, dpl;
	uint64_t d = far_desc(c, i, sel);
	uint16_t attr = desc_attr(d);

	dpl = ATTR_DPL(attr);
	if (rpl < c->cpl ||
	    (attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) ||
	    (attr & ATTR_CE ? dpl > rpl : dpl != rpl) || !code_bits_ok(c, attr))
		cpu_raise(c, EXC_GP, sel_error(sel));
	need_present(c, sel, d);
	return desc_load(c, i, sel, d);
}

/* The stack segment that a return to privilege cpl pops. */
static struct seg
return_stack(struct cpu *c, const struct insn *i, const struct seg *cs,
    uint16_t sel, unsigned cpl)
{
	if (sel_error(sel) == 0 && cpu_long(c) && (cs->attr & ATTR_L) &&
	    cpl != 3 && (sel & 3) == cpl)
		return (struct seg){ .sel = sel };
	return stack_segment(c, i, sel, cpl, EXC_GP, 0);
}

/* RSP as a return leaves it on the stack segment it returns to. */
static void
return_rsp(struct cpu *c, uint64_t rsp)
{
	reg_write(c, RSP, stack_width(c, &c->seg[SS]), rsp);
}

OP(op_retf)
{
	struct stack s = stack_current(c);
	uint64_t rip = sys_pop(c, i, &s, i->opsize), rsp;
	uint16_t sel = (uint16_t)sys_pop(c, i, &s, i->opsize);
	struct seg cs, ss;
	uint16_t extra = (uint16_t)i->imm;

	if (!cpu_protected(c)) {
		cs = real_cs(c, sel);
		far_check_rip(c, i, &cs, rip);
		stack_add(&s, extra);
		stack_commit(c, &s);
		commit(c, &cs, rip);
		END(c);
	}
	cs = return_code(c, i, sel);
	stack_add(&s, extra);
	if ((sel & 3) == c->cpl) {
		far_check_rip(c, i, &cs, rip);
		stack_commit(c, &s);
		commit(c, &cs, rip);
		END(c);
	}
	rsp = sys_pop(c, i, &s, i->opsize);
	ss = return_stack(
	    c, i, &cs, (uint16_t)sys_pop(c, i, &s, i->opsize), sel & 3);
	far_check_rip(c, i, &cs, rip);
	c->seg[SS] = ss;
	commit(c, &cs, rip);
	return_rsp(c, rsp + extra);
	seg_drop_inner(c);
	END(c);
}

/* What an iret from the current privilege changes of the flags. */
static uint32_t
iret_mask(struct cpu *c, const struct insn *i)
{
	uint32_t mask = sys_flags_mask(c, i->opsize);

	/* RF only where somebody will clear it. */
	return i->opsize > 2 && debug_on(c) ? mask | FL_RF : mask;
}

static void
iret_flags(struct cpu *c, uint32_t mask, uint64_t fl)
{
	bool open = c->rflags & FL_IF;

	flags_set(c, (flags_get(c) & ~mask) | ((uint32_t)fl & mask));
	c->nmi_masked = false;
	if (!open)
		event_irq_window(c);
}

static void
iret_real(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	uint64_t rip = sys_pop(c, i, &s, i->opsize);
	struct seg cs = real_cs(c, (uint16_t)sys_pop(c, i, &s, i->opsize));
	uint64_t fl = sys_pop(c, i, &s, i->opsize);

	far_check_rip(c, i, &cs, rip);
	stack_commit(c, &s);
	commit(c, &cs, rip);
	iret_flags(c, iret_mask(c, i), fl);
}

/* Back to the task in the TSS's link. */
static void
iret_task(struct cpu *c, const struct insn *i)
{
	uint64_t d;
	uint16_t sel;

	if (cpu_long(c))
		cpu_raise_gp(c, i, 0);
	sys_read(c, i, (uint32_t)c->tr.base, &sel, sizeof(sel));
	c->fault_insn = i;
	if ((sel & 4) || sel_error(sel) == 0 || !desc_read(c, i, sel, &d) ||
	    ((d >> 40) & 0x1f) != DESC_TSS_BUSY)
		cpu_raise(c, EXC_TS, sel_error(sel));
	need_present(c, sel, d);
	task_switch(c, i, sel, d, TASK_IRET, insn_next_ip(c, i), false, 0);
}

static void
iret_protected(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	uint64_t rip = sys_pop(c, i, &s, i->opsize), rsp = 0;
	uint16_t sel = (uint16_t)sys_pop(c, i, &s, i->opsize), ss_sel;
	uint64_t fl = sys_pop(c, i, &s, i->opsize);
	uint32_t mask = iret_mask(c, i);
	bool outer, pop;
	struct seg cs, ss = c->seg[SS];

	if (i->opsize > 2 && (fl & FL_VM) && c->cpl == 0 && !cpu_long(c))
		cpu_raise_gp(c, i, 0); /* no virtual-8086 mode */
	cs = return_code(c, i, sel);
	outer = (sel & 3) > c->cpl;
	pop = outer || c->mode == 8;
	if (pop) {
		rsp = sys_pop(c, i, &s, i->opsize);
		ss_sel = (uint16_t)sys_pop(c, i, &s, i->opsize);
		ss = return_stack(c, i, &cs, ss_sel, sel & 3);
	}
	far_check_rip(c, i, &cs, rip);

	if (!pop)
		stack_commit(c, &s);
	c->seg[SS] = ss;
	commit(c, &cs, rip);
	if (pop)
		return_rsp(c, rsp);
	if (outer)
		seg_drop_inner(c);
	iret_flags(c, mask, fl);
}

OP(op_iret)
{
	c->fault_insn = i;
	if (!cpu_protected(c))
		iret_real(c, i);
	else if (c->rflags & FL_NT)
		iret_task(c, i);
	else
		iret_protected(c, i);
	END(c);
}

OP(op_int3)
{
	event_soft(c, i, EXC_BP, false);
	END(c);
}

OP(op_int)
{
	event_soft(c, i, (uint8_t)i->imm, false);
	END(c);
}

OP(op_int1)
{
	event_soft(c, i, EXC_DB, true);
	END(c);
}

OP(op_into)
{
	if (flags_get(c) & FL_OF) {
		event_soft(c, i, EXC_OF, false);
		END(c);
	}
	NEXT(c, i);
}
