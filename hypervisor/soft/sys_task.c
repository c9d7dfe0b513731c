/* The hardware task switch to a 32-bit TSS.  AMD64 volume 2, section 12. */
#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/sys_seg.h"

/* The part of a 32-bit TSS that a switch saves and loads. */
struct tss32 {
	uint32_t link, sp0[6], cr3;
	uint32_t eip, eflags, reg[8];
	uint32_t seg[6], ldt;
	uint32_t trap_iomap;
};
#define TSS_MIN 0x67u

static void
save_task(
    struct cpu *c, const struct insn *i, enum task_switch how, uint64_t rip)
{
	uint32_t fl = flags_get(c), dyn[16];
	unsigned n;

	if (how == TASK_IRET)
		fl &= ~FL_NT;
	dyn[0] = (uint32_t)rip;
	dyn[1] = fl;
	for (n = 0; n < 8; n++)
		dyn[2 + n] = (uint32_t)c->reg[n];
	for (n = 0; n < SEG_COUNT; n++)
		dyn[10 + n] = c->seg[n].sel;
	sys_write(c, i, (uint32_t)(c->tr.base + offsetof(struct tss32, eip)),
	    dyn, sizeof(dyn));
}

/* Faults from here on are the new task's: its segments are not there yet. */
static void
load_segments(struct cpu *c, const struct tss32 *t)
{
	static const uint8_t order[] = { ES, DS, FS, GS };
	uint16_t sel = (uint16_t)t->ldt, attr;
	uint64_t d;
	unsigned n;

	for (n = 0; n < SEG_COUNT; n++)
		c->seg[n] = (struct seg){ .sel = (uint16_t)t->seg[n] };
	c->ldtr = (struct seg){ .sel = sel };
	if (sel_error(sel) != 0) {
		if ((sel & 4) || !desc_read(c, NULL, sel, &d) ||
		    ((d >> 40) & 0x9f) != (DESC_LDT | ATTR_P))
			cpu_raise(c, EXC_TS, sel_error(sel));
		c->ldtr = desc_seg(sel, d);
	}
	sel = (uint16_t)t->seg[CS];
	c->cpl = sel & 3;
	if (sel_error(sel) == 0 || !desc_read(c, NULL, sel, &d))
		cpu_raise(c, EXC_TS, sel_error(sel));
	attr = desc_attr(d);
	if ((attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) ||
	    (attr & ATTR_CE ? ATTR_DPL(attr) > c->cpl
			    : ATTR_DPL(attr) != c->cpl))
		cpu_raise(c, EXC_TS, sel_error(sel));
	if (!(attr & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel));
	c->seg[CS] = desc_load(c, NULL, sel, d);
	cpu_mode_changed(c);
	c->seg[SS] =
	    stack_segment(c, NULL, (uint16_t)t->seg[SS], c->cpl, EXC_TS, 0);
	for (n = 0; n < ARRAY_LEN(order); n++)
		seg_load(c, NULL, order[n], (uint16_t)t->seg[order[n]]);
}

void
task_switch(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d,
    enum task_switch how, uint64_t rip, bool has_error, uint32_t error)
{
	struct seg tr = desc_seg(sel, d | 2ull << 40);
	uint16_t old = c->tr.sel;
	struct tss32 t;
	uint64_t od;
	unsigned n;

	c->fault_insn = i;
	if (tr.limit < TSS_MIN || c->tr.limit < TSS_MIN || !(c->tr.attr & 8))
		cpu_raise(c, EXC_TS, sel_error(sel));
	sys_read(c, i, (uint32_t)tr.base, &t, sizeof(t));
	save_task(c, i, how, rip);
	if ((how == TASK_JMP || how == TASK_IRET) && desc_read(c, i, old, &od))
		desc_write_type(c, i, old, od & ~(2ull << 40));
	if (how != TASK_IRET)
		desc_write_type(c, i, sel, d | 2ull << 40);
	if (how == TASK_CALL || how == TASK_GATE) {
		sys_write(c, i, (uint32_t)tr.base, &old, sizeof(old));
		t.eflags |= FL_NT;
	}

	c->tr = tr;
	c->cr0 |= CR0_TS;
	debug_set_dr7(c, c->dr[7] & ~(uint64_t)DR7_LOCAL);
	if (c->cr0 & CR0_PG) {
		c->cr3 = t.cr3;
		tlb_flush(c, false);
	}
	c->rip = t.eip;
	c->fault_insn = NULL;
	flags_set(c, (t.eflags & ~FL_VM) | 2);
	for (n = 0; n < 8; n++)
		c->reg[n] = t.reg[n];
	load_segments(c, &t);
	far_check_rip(c, NULL, &c->seg[CS], c->rip);
	if (has_error) {
		struct stack s = stack_current(c);

		sys_push(c, NULL, &s, 4, error);
		stack_commit(c, &s);
	}
}
