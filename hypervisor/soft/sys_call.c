/* syscall, sysret, sysenter, sysexit: AMD64 manual volume 2, section 6.1. */
#include "hypervisor/soft/event.h"
#include "hypervisor/soft/sys_seg.h"

static void
go(struct cpu *c, struct seg cs, struct seg ss, uint64_t rip)
{
	c->seg[CS] = cs;
	c->seg[SS] = ss;
	c->rip = rip;
	cpu_mode_changed(c);
}

OP(op_syscall)
{
	uint16_t sel = (uint16_t)(c->star >> 32) & 0xfffc;
	uint64_t next = insn_next_ip(c, i), rip;
	uint32_t fl;

	if (!(c->efer & EFER_SCE) || !cpu_protected(c))
		cpu_raise_ud(c, i);
	if (cpu_long(c)) {
		fl = flags_get(c) & ~FL_RF;
		c->reg[RCX] = next;
		c->reg[11] = fl;
		rip = c->mode == 8 ? c->lstar : c->cstar;
		flags_set(c, (fl & ~(uint32_t)c->fmask) | 2);
		go(c, seg_flat(sel, true, 0, true, false),
		    seg_flat((uint16_t)(sel + 8), false, 0, false, true), rip);
	} else {
		c->reg[RCX] = next;
		c->rflags &= ~(FL_IF | FL_RF | FL_VM);
		go(c, seg_flat(sel, true, 0, false, true),
		    seg_flat((uint16_t)(sel + 8), false, 0, false, true),
		    (uint32_t)c->star);
	}
	END(c);
}

OP(op_sysret)
{
	uint16_t sel = (uint16_t)(c->star >> 48) & 0xfffc;
	bool wide = i->opsize == 8;
	uint64_t rip = wide ? c->reg[RCX] : (uint32_t)c->reg[RCX];
	struct seg ss =
	    seg_flat((uint16_t)((sel + 8) | 3), false, 3, false, true);
	bool open = c->rflags & FL_IF;
	uint32_t keep;

	if (!(c->efer & EFER_SCE) || !cpu_protected(c))
		cpu_raise_ud(c, i);
	sys_need_cpl0(c, i);
	if (wide && !canonical(rip))
		cpu_raise(c, EXC_GP, 0);
	if (cpu_long(c)) {
		keep = FL_RF | FL_VM;
		flags_set(c, ((uint32_t)c->reg[11] & 0x3c7fd7 & ~keep) | 2);
	} else {
		c->rflags |= FL_IF;
	}
	if (wide)
		sel = (uint16_t)(sel + 16);
	go(c, seg_flat(sel | 3, true, 3, wide, !wide), ss, rip);
	if (!open)
		event_irq_window(c);
	END(c);
}

/* As on AMD's processors these two are not there in long mode. */
static void
check_sysenter(struct cpu *c, const struct insn *i)
{
	if (cpu_long(c))
		cpu_raise_ud(c, i);
	c->fault_insn = i;
	if (!cpu_protected(c) || (c->sysenter_cs & 0xfffc) == 0)
		cpu_raise(c, EXC_GP, 0);
}

OP(op_sysenter)
{
	uint16_t sel = (uint16_t)c->sysenter_cs & 0xfffc;

	check_sysenter(c, i);
	c->rflags &= ~(FL_IF | FL_RF | FL_VM);
	c->reg[RSP] = (uint32_t)c->sysenter_esp;
	go(c, seg_flat(sel, true, 0, false, true),
	    seg_flat((uint16_t)(sel + 8), false, 0, false, true),
	    (uint32_t)c->sysenter_eip);
	END(c);
}

OP(op_sysexit)
{
	uint16_t sel = (uint16_t)c->sysenter_cs & 0xfffc;

	check_sysenter(c, i);
	sys_need_cpl0(c, i);
	c->reg[RSP] = (uint32_t)c->reg[RCX];
	go(c, seg_flat((uint16_t)((sel + 16) | 3), true, 3, false, true),
	    seg_flat((uint16_t)((sel + 24) | 3), false, 3, false, true),
	    (uint32_t)c->reg[RDX]);
	END(c);
}
