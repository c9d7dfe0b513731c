/*
 * Exceptions and interrupts: raising, delivery through the IDT, attention.
 * AMD64 manual volume 2, chapter 8.
 */
#include "hypervisor/soft/event.h"
#include "hypervisor/soft/block.h"
#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/lapic.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/sys_seg.h"

/* One try at delivering an event; a fault inside lands here. */
struct delivery {
	jmp_buf unwind;
	unsigned vector;
	uint32_t error;
};

/* The delivery this vCPU's thread is in. */
static _Thread_local struct delivery *delivering;

struct event {
	enum event_kind kind;
	unsigned vector;
	bool has_error;
	bool any_dpl; /* the gate's DPL does not matter */
	uint32_t error;
	uint64_t rip; /* to save */
};

static bool
has_error_code(unsigned vector)
{
	return vector == EXC_DF || vector == EXC_AC ||
	    (vector >= EXC_TS && vector <= EXC_PF);
}

NORETURN void
cpu_raise(struct cpu *c, unsigned vector, uint32_t error)
{
	struct delivery *d = delivering;

	if (d != NULL) {
		d->vector = vector;
		d->error = error;
		longjmp(d->unwind, 1);
	}
	c->raised.vector = (uint8_t)vector;
	c->raised.error = error;
	c->raised.has_error = has_error_code(vector);
	longjmp(*c->unwind, 1);
}

NORETURN void
cpu_raise_ud(struct cpu *c, const struct insn *i)
{
	c->fault_insn = i;
	cpu_raise(c, EXC_UD, 0);
}

NORETURN void
cpu_raise_gp(struct cpu *c, const struct insn *i, uint32_t error)
{
	c->fault_insn = i;
	cpu_raise(c, EXC_GP, error);
}

NORETURN void
cpu_raise_pf(struct cpu *c, uint64_t lin, uint32_t error)
{
	c->cr2 = lin;
	cpu_raise(c, EXC_PF, error);
}

static void
deliver_real(struct cpu *c, const struct event *e)
{
	struct stack s = stack_current(c);
	uint16_t vec[2];

	if (e->vector * 4 + 3 > c->idt_limit)
		cpu_raise(c, EXC_GP, 0);
	sys_read(c, NULL, c->idt_base + e->vector * 4, vec, sizeof(vec));
	sys_push(c, NULL, &s, 2, flags_get(c));
	sys_push(c, NULL, &s, 2, c->seg[CS].sel);
	sys_push(c, NULL, &s, 2, e->rip);
	stack_commit(c, &s);
	c->rflags &= ~(FL_IF | FL_TF | FL_AC | FL_RF);
	seg_load_real(c, CS, vec[1]);
	c->rip = vec[0];
}

/* The gate of the IDT: low and, in long mode, high half; checked. */
static unsigned
gate_read(struct cpu *c, const struct event *e, uint64_t gate[2])
{
	unsigned size = cpu_long(c) ? 16 : 8;
	uint32_t ext = e->kind != EVENT_SOFT_INT;
	uint32_t error = e->vector * 8 + 2 + ext;
	unsigned type;

	gate[1] = 0;
	if (e->vector * size + size - 1 > c->idt_limit)
		cpu_raise(c, EXC_GP, error);
	gate[0] = sys_load(c, NULL, c->idt_base + e->vector * size, 8);
	if (size == 16)
		gate[1] =
		    sys_load(c, NULL, c->idt_base + e->vector * 16 + 8, 8);
	type = (gate[0] >> 40) & 0x1f;
	switch (type) {
	case DESC_INT:
	case DESC_TRAP:
		break;
	case DESC_TASK:
	case DESC_INT16:
	case DESC_TRAP16:
		if (!cpu_long(c))
			break;
		cpu_raise(c, EXC_GP, error);
	default:
		cpu_raise(c, EXC_GP, error);
	}
	if (e->kind == EVENT_SOFT_INT && !e->any_dpl &&
	    ATTR_DPL(gate[0] >> 40) < c->cpl)
		cpu_raise(c, EXC_GP, error);
	if (!((gate[0] >> 40) & ATTR_P))
		cpu_raise(c, EXC_NP, error);
	return type;
}

static void
deliver_task(struct cpu *c, const struct event *e, uint16_t sel)
{
	uint32_t ext = e->kind != EVENT_SOFT_INT;
	uint64_t d;
	unsigned type;

	if ((sel & 4) || sel_error(sel) == 0 || !desc_read(c, NULL, sel, &d))
		cpu_raise(c, EXC_GP, sel_error(sel) | ext);
	type = (d >> 40) & 0x1f;
	if (type != DESC_TSS)
		cpu_raise(c, EXC_GP, sel_error(sel) | ext);
	if (!(desc_attr(d) & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel) | ext);
	task_switch(c, NULL, sel, d, TASK_GATE, e->rip, e->has_error, e->error);
}

/* The gate's code segment; *cpl: the privilege that the handler runs at. */
static uint64_t
gate_code(struct cpu *c, uint16_t sel, uint32_t ext, unsigned *cpl)
{
	uint64_t d;
	uint16_t attr;

	if (sel_error(sel) == 0)
		cpu_raise(c, EXC_GP, ext);
	if (!desc_read(c, NULL, sel, &d))
		cpu_raise(c, EXC_GP, sel_error(sel) | ext);
	attr = desc_attr(d);
	if ((attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) ||
	    ATTR_DPL(attr) > c->cpl)
		cpu_raise(c, EXC_GP, sel_error(sel) | ext);
	if (!(attr & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel) | ext);
	if (cpu_long(c) && (attr & (ATTR_L | ATTR_D)) != ATTR_L)
		cpu_raise(c, EXC_GP, sel_error(sel) | ext);
	*cpl = attr & ATTR_CE ? c->cpl : ATTR_DPL(attr);
	return d;
}

/* The stack that the handler runs on. */
static struct stack
gate_stack(struct cpu *c, unsigned cpl, unsigned ist, uint32_t ext)
{
	struct stack s;

	if (!cpu_long(c)) {
		if (cpl < c->cpl)
			return stack_inner(c, NULL, cpl, ext);
		s = stack_current(c);
		s.super = cpl < 3;
		s.error = ext;
		return s;
	}
	s = (struct stack){
		.ss = c->seg[SS],
		.sp = c->reg[RSP],
		.width = 8,
		.super = cpl < 3,
		.vector = EXC_SS,
		.error = ext,
	};
	if (ist != 0)
		s.sp = stack_tss64(c, NULL, 36 + 8 * (ist - 1), ext);
	else if (cpl < c->cpl)
		s.sp = stack_tss64(c, NULL, 4 + 8 * cpl, ext);
	if (cpl < c->cpl)
		s.ss = (struct seg){ .sel = (uint16_t)cpl };
	s.sp &= ~15ull;
	return s;
}

static void
deliver_gate(struct cpu *c, const struct event *e)
{
	uint32_t ext = e->kind != EVENT_SOFT_INT, fl = flags_get(c);
	uint64_t gate[2], code, rip;
	unsigned type, size, cpl;
	struct stack s;
	struct seg cs;
	uint16_t sel;
	bool inner;

	type = gate_read(c, e, gate);
	sel = (uint16_t)(gate[0] >> 16);
	if (type == DESC_TASK) {
		deliver_task(c, e, sel);
		return;
	}
	code = gate_code(c, sel, ext, &cpl);
	size = cpu_long(c) ? 8 : type & 8 ? 4 : 2;
	rip = (gate[0] & 0xffff) | gate[1] << 32;
	if (size != 2)
		rip |= (gate[0] >> 32) & 0xffff0000;
	inner = cpl < c->cpl;
	s = gate_stack(c, cpl, cpu_long(c) ? (gate[0] >> 32) & 7 : 0, ext);
	/* A fault's handler returns to the instruction itself, which must not
	 * hit its instruction breakpoint again. */
	if (e->kind == EVENT_EXCEPTION && e->vector != EXC_DB)
		fl |= FL_RF;
	if (inner || cpu_long(c)) {
		sys_push(c, NULL, &s, size, c->seg[SS].sel);
		sys_push(c, NULL, &s, size, c->reg[RSP]);
	}
	sys_push(c, NULL, &s, size, fl);
	sys_push(c, NULL, &s, size, c->seg[CS].sel);
	sys_push(c, NULL, &s, size, e->rip);
	if (e->has_error)
		sys_push(c, NULL, &s, size, e->error);
	cs = desc_load(c, NULL, (uint16_t)((sel & ~3u) | cpl), code);
	far_check_rip(c, NULL, &cs, rip);

	if (inner)
		c->seg[SS] = s.ss;
	stack_commit(c, &s);
	c->seg[CS] = cs;
	c->rip = rip;
	c->rflags &= ~(FL_TF | FL_NT | FL_RF | FL_VM);
	if (!(type & 1))
		c->rflags &= ~FL_IF;
	cpu_mode_changed(c);
}

static bool
contributory(unsigned vector)
{
	return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP);
}

/* What becomes of e when delivering it raised `vector`; false: shutdown. */
static bool
escalate(struct event *e, unsigned vector, uint32_t error)
{
	bool hard = e->kind == EVENT_EXCEPTION;

	if (hard && e->vector == EXC_DF)
		return false;
	if (hard &&
	    ((contributory(e->vector) && contributory(vector)) ||
		(e->vector == EXC_PF &&
		    (vector == EXC_PF || contributory(vector))))) {
		vector = EXC_DF;
		error = 0;
	}
	e->kind = EVENT_EXCEPTION;
	e->vector = vector;
	e->has_error = has_error_code(vector);
	e->error = error;
	return true;
}

/* Deliver *e with c->rip the address to save where it faults. */
static void
deliver(struct cpu *c, struct event *e)
{
	const struct insn *insn = c->fault_insn;
	struct delivery d;

	c->fault_insn = NULL;
	c->halted = false;
	delivering = &d;
	if (setjmp(d.unwind) != 0) {
		if (!escalate(e, d.vector, d.error)) {
			c->stopped = true;
			event_attend(c, ATT_KICK);
			goto out;
		}
		e->rip = c->rip;
	}
	if (cpu_protected(c))
		deliver_gate(c, e);
	else
		deliver_real(c, e);
	if (e->kind == EVENT_NMI)
		c->nmi_masked = true;
	c->shadow = false;
out:
	delivering = NULL;
	c->fault_insn = insn;
}

void
event_deliver(struct cpu *c, enum event_kind kind, unsigned vector,
    bool has_error, uint32_t error)
{
	struct event e = {
		.kind = kind,
		.vector = vector,
		.has_error = has_error,
		.error = error,
		.rip = c->rip,
	};

	deliver(c, &e);
	c->fault_insn = NULL;
}

void
event_soft(
    struct cpu *c, const struct insn *i, unsigned vector, bool privileged)
{
	struct event e = {
		.kind = EVENT_SOFT_INT,
		.vector = vector,
		.any_dpl = privileged,
		.rip = insn_next_ip(c, i),
	};

	c->rip = insn_ip(c, i);
	deliver(c, &e);
	c->fault_insn = NULL;
}

void
event_irq_window(struct cpu *c)
{
	if ((c->rflags & FL_IF) && lapic_pending(c))
		event_attend(c, ATT_IRQ);
}

static void
attention_clear(struct cpu *c, uint32_t bits)
{
	atomic_fetch_and_explicit(&c->attention, ~bits, memory_order_acq_rel);
}

/* INIT and SIPI; false: the vCPU waits for its SIPI. */
static bool
poll_start(struct cpu *c, uint32_t att)
{
	if (att & ATT_INIT) {
		attention_clear(c, ATT_INIT);
		cpu_reset(c, true);
		lapic_restart(c->lapic, true);
		c->mp_state = c->index == 0 ? HV_MP_RUNNABLE : HV_MP_WAIT_SIPI;
	}
	if (att & ATT_SIPI) {
		attention_clear(c, ATT_SIPI);
		if (c->mp_state == HV_MP_WAIT_SIPI) {
			seg_load_real(
			    c, CS, (uint16_t)((unsigned)c->sipi_vector << 8));
			c->rip = 0;
			c->mp_state = HV_MP_RUNNABLE;
		}
	}
	return c->mp_state == HV_MP_RUNNABLE || c->mp_state == HV_MP_HALTED;
}

bool
event_poll(struct cpu *c)
{
	uint32_t att =
	    atomic_load_explicit(&c->attention, memory_order_acquire);
	int vector;

	if (c->stopped)
		return true;
	if (att & ATT_FLUSH) {
		attention_clear(c, ATT_FLUSH);
		tlb_flush(c, true);
		block_flush(c);
	}
	if (att & ATT_TIMER) {
		attention_clear(c, ATT_TIMER);
		machine_timers(c);
		att = atomic_load_explicit(&c->attention, memory_order_acquire);
	}
	if ((att & (ATT_INIT | ATT_SIPI)) || c->mp_state == HV_MP_WAIT_SIPI ||
	    c->mp_state == HV_MP_WAIT_INIT) {
		if (!poll_start(c, att)) {
			attention_clear(c, ATT_IRQ | ATT_NMI);
			goto kick;
		}
	}
	if (c->shadow && !c->halted) {
		c->shadow = false;
		goto kick;
	}
	if ((att & ATT_NMI) && !c->nmi_masked) {
		attention_clear(c, ATT_NMI);
		c->halted = false;
		event_deliver(c, EVENT_NMI, EXC_NMI, false, 0);
	} else if (att & ATT_IRQ) {
		/* Set again by event_irq_window() when IF is; with IF clear
		 * the bit would only slow the run loop down. */
		attention_clear(c, ATT_IRQ);
		if (c->rflags & FL_IF) {
			vector = lapic_take(c);
			if (vector >= 0) {
				c->halted = false;
				event_deliver(c, EVENT_INTERRUPT,
				    (unsigned)vector, false, 0);
				event_irq_window(c);
			}
		}
	}
kick:
	if (att & ATT_KICK) {
		attention_clear(c, ATT_KICK);
		return true;
	}
	return c->stopped;
}

void
cpu_mode_changed(struct cpu *c)
{
	uint16_t attr = c->seg[CS].attr;

	if (!cpu_protected(c)) {
		c->cpl = 0;
		c->mode = attr & ATTR_D ? 4 : 2;
		return;
	}
	if ((attr & (ATTR_CODE | ATTR_CE)) == (ATTR_CODE | ATTR_CE))
		c->cpl = c->seg[CS].sel & 3;
	else
		c->cpl = (uint8_t)ATTR_DPL(attr);
	if (cpu_long(c) && (attr & ATTR_L))
		c->mode = 8;
	else
		c->mode = attr & ATTR_D ? 4 : 2;
}

/* What INIT leaves as it is: caches, MTRRs, TSC, vector state. */
static void
reset_power_on(struct cpu *c)
{
	unsigned i;

	c->cr0 = 0x60000010;
	for (i = 0; i < ARRAY_LEN(c->v); i++)
		c->v[i] = (union vreg){ .q = { 0 } };
	c->x87 = (struct x87){ .cw = 0x40 };
	c->mxcsr = 0x1f80;
	c->star = c->lstar = c->cstar = c->fmask = c->kernel_gs_base = 0;
	c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
	c->pat = 0x0007040600070406ull;
	c->tsc_aux = 0;
	c->misc_enable = 1;
	c->mtrr_def = 0;
	for (i = 0; i < ARRAY_LEN(c->mtrr_fixed); i++)
		c->mtrr_fixed[i] = 0;
	for (i = 0; i < ARRAY_LEN(c->mtrr_base); i++)
		c->mtrr_base[i] = c->mtrr_mask[i] = 0;
	c->tsc_offset = 0;
	c->kvm_system_time = c->kvm_wall_clock = 0;
	c->mp_state = c->index == 0 ? HV_MP_RUNNABLE : HV_MP_WAIT_INIT;
	c->sipi_vector = 0;
	c->stopped = false;
	c->error[0] = '\0';
}

void
cpu_reset(struct cpu *c, bool init)
{
	unsigned i;

	if (init)
		c->cr0 = (c->cr0 & 0x60000000) | 0x10;
	else
		reset_power_on(c);
	for (i = 0; i < ARRAY_LEN(c->reg); i++)
		c->reg[i] = 0;
	c->reg[RDX] = SOFT_CPUID_SIGNATURE;
	for (i = 0; i < SEG_COUNT; i++)
		c->seg[i] = (struct seg){ .limit = 0xffff, .attr = 0x93 };
	c->seg[CS] = (struct seg){
		.base = 0xffff0000,
		.limit = 0xffff,
		.sel = 0xf000,
		.attr = 0x9b,
	};
	c->ldtr = (struct seg){ .limit = 0xffff, .attr = 0x82 };
	c->tr = (struct seg){ .limit = 0xffff, .attr = 0x8b };
	c->gdt_base = c->idt_base = 0;
	c->gdt_limit = c->idt_limit = 0xffff;
	c->rip = 0xfff0;
	flags_set(c, 2);
	c->cr2 = c->cr3 = c->cr4 = c->cr8 = c->efer = 0;
	for (i = 0; i < 4; i++)
		c->dr[i] = 0;
	c->dr[6] = 0xffff0ff0;
	debug_set_dr7(c, 0x400);
	c->debug_hits = 0;
	c->shadow = c->halted = c->nmi_masked = false;
	c->fault_insn = NULL;
	cpu_mode_changed(c);
	tlb_flush(c, true);
}
