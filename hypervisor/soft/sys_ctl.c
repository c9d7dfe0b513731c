/*
 * Control and debug registers, descriptor-table registers, interrupt flag,
 * time stamp, halting.  AMD64 manual volume 2, chapters 3 and 6.
 */
#include "hypervisor/soft/sys_ctl.h"
#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/event.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/sys_seg.h"

#define CR0_ET (1u << 4)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_ALL                                                         \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | \
	    CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_MCE (1u << 6)
#define CR4_PCE (1u << 8)
#define CR4_ALL                                                               \
	(CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | \
	    CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_SMEP | CR4_SMAP)
#define CR4_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP)

/* The end of an instruction that changed what running code depends on. */
static void
next_block(struct cpu *c, const struct insn *i)
{
	c->rip = insn_next_ip(c, i);
}

static void
cr0_set(struct cpu *c, const struct insn *i, uint64_t v)
{
	uint64_t old = c->cr0, changed;

	if (v >> 32 || ((v & CR0_PG) && !(v & CR0_PE)) ||
	    ((v & CR0_NW) && !(v & CR0_CD)))
		cpu_raise_gp(c, i, 0);
	v = (v & CR0_ALL) | CR0_ET;
	changed = old ^ v;
	if ((changed & CR0_PG) && (v & CR0_PG) && (c->efer & EFER_LME)) {
		if (!(c->cr4 & CR4_PAE) || (c->seg[CS].attr & ATTR_L))
			cpu_raise_gp(c, i, 0);
		c->efer |= EFER_LMA;
	}
	if ((changed & CR0_PG) && !(v & CR0_PG)) {
		if (c->mode == 8)
			cpu_raise_gp(c, i, 0);
		c->efer &= ~(uint64_t)EFER_LMA;
	}
	/* The address behind counts in the mode before the change. */
	next_block(c, i);
	c->cr0 = v;
	if (changed & (CR0_PG | CR0_WP | CR0_PE))
		tlb_flush(c, true);
	if (changed & (CR0_PG | CR0_PE))
		cpu_mode_changed(c);
}

static void
cr3_set(struct cpu *c, const struct insn *i, uint64_t v)
{
	if (c->mode == 8 && v >> SOFT_PHYS_BITS)
		cpu_raise_gp(c, i, 0);
	c->cr3 = v;
	tlb_flush(c, false);
}

static void
cr4_set(struct cpu *c, const struct insn *i, uint64_t v)
{
	uint64_t changed = c->cr4 ^ v;

	if ((v & ~(uint64_t)CR4_ALL) || (cpu_long(c) && !(v & CR4_PAE)))
		cpu_raise_gp(c, i, 0);
	c->cr4 = v;
	if (changed & CR4_PAGING)
		tlb_flush(c, true);
}

/* A register that does not exist is refused before the privilege is. */
static void
cr_access(struct cpu *c, const struct insn *i)
{
	if (i->reg != 0 && i->reg != 8 && (i->reg < 2 || i->reg > 4))
		cpu_raise_ud(c, i);
	sys_need_cpl0(c, i);
}

OP(op_mov_cr_load)
{
	uint64_t v = c->mode == 8 ? c->reg[i->rm] : (uint32_t)c->reg[i->rm];

	cr_access(c, i);
	switch (i->reg) {
	case 0:
		cr0_set(c, i, v);
		END(c);
	case 2:
		c->cr2 = v;
		break;
	case 3:
		cr3_set(c, i, v);
		break;
	case 4:
		cr4_set(c, i, v);
		break;
	default:
		if (v > 15)
			cpu_raise_gp(c, i, 0);
		lapic_tpr_set(c, v);
		event_irq_window(c);
		break;
	}
	next_block(c, i);
	END(c);
}

OP(op_mov_cr_store)
{
	uint64_t v;

	cr_access(c, i);
	switch (i->reg) {
	case 0:
		v = c->cr0;
		break;
	case 2:
		v = c->cr2;
		break;
	case 3:
		v = c->cr3;
		break;
	case 4:
		v = c->cr4;
		break;
	default:
		v = lapic_tpr_get(c);
		break;
	}
	reg_write(c, i->rm, c->mode == 8 ? 8 : 4, v);
	NEXT(c, i);
}

/* The debug register that the instruction names; faults of dr access. */
static unsigned
dr_access(struct cpu *c, const struct insn *i)
{
	unsigned n = i->reg;

	c->fault_insn = i;
	if (n > 7 || ((n == 4 || n == 5) && (c->cr4 & CR4_DE)))
		cpu_raise(c, EXC_UD, 0);
	if (c->cpl != 0)
		cpu_raise(c, EXC_GP, 0);
	if (c->dr[7] & DR7_GD) {
		c->dr[7] &= ~(uint64_t)DR7_GD;
		c->dr[6] |= DR6_BD;
		cpu_raise(c, EXC_DB, 0);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

OP(op_mov_dr_load)
{
	unsigned n = dr_access(c, i);
	uint64_t v = c->mode == 8 ? c->reg[i->rm] : (uint32_t)c->reg[i->rm];

	if (n >= 6 && v >> 32)
		cpu_raise_gp(c, i, 0);
	if (n == 6)
		v = (v & 0xe00f) | 0xffff0ff0;
	else if (n == 7)
		v = (v & 0xffff23ff) | 0x400;
	if (n == 7) {
		debug_set_dr7(c, v);
		/* It may stand since a task switch. */
		c->rflags &= ~FL_RF;
	} else {
		c->dr[n] = v;
	}
	next_block(c, i);
	END(c);
}

OP(op_mov_dr_store)
{
	unsigned n = dr_access(c, i);

	reg_write(c, i->rm, c->mode == 8 ? 8 : 4, c->dr[n]);
	NEXT(c, i);
}

OP(op_clts)
{
	sys_need_cpl0(c, i);
	c->cr0 &= ~(uint64_t)CR0_TS;
	next_block(c, i);
	END(c);
}

/* Before sgdt, sidt, smsw. */
static void
check_umip(struct cpu *c, const struct insn *i)
{
	c->fault_insn = i;
	if ((c->cr4 & CR4_UMIP) && c->cpl != 0)
		cpu_raise(c, EXC_GP, 0);
}

static SYS_SLOW void
store_table(struct cpu *c, const struct insn *i, uint64_t base, uint32_t limit)
{
	unsigned size = c->mode == 8 ? 10 : 6;
	uint8_t buf[10];
	unsigned n;

	check_umip(c, i);
	buf[0] = (uint8_t)limit;
	buf[1] = (uint8_t)(limit >> 8);
	for (n = 0; n < 8; n++)
		buf[2 + n] = (uint8_t)(base >> (8 * n));
	mem_write(c, i, insn_lin(c, i, size, true), buf, size);
}

static SYS_SLOW void
load_table(struct cpu *c, const struct insn *i, uint64_t *base, uint32_t *limit)
{
	unsigned size = c->mode == 8 ? 10 : 6, n;
	uint8_t buf[10] = { 0 };
	uint64_t b = 0;

	sys_need_cpl0(c, i);
	mem_read(c, i, insn_lin(c, i, size, false), buf, size);
	for (n = 0; n < 8; n++)
		b |= (uint64_t)buf[2 + n] << (8 * n);
	if (c->mode != 8 && i->opsize == 2)
		b &= 0xffffff;
	if (c->mode == 8 && !canonical(b))
		cpu_raise_gp(c, i, 0);
	*base = b;
	*limit = buf[0] | (uint32_t)buf[1] << 8;
}

static void
smsw(struct cpu *c, const struct insn *i)
{
	check_umip(c, i);
	if (i->flags & INSN_MEM)
		mem_write16(c, i, insn_lin(c, i, 2, true), (uint16_t)c->cr0);
	else
		reg_write(c, i->rm, i->opsize, c->cr0);
}

static void
lmsw(struct cpu *c, const struct insn *i)
{
	uint64_t v;

	sys_need_cpl0(c, i);
	if (i->flags & INSN_MEM)
		v = mem_read16(c, i, insn_lin(c, i, 2, false));
	else
		v = c->reg[i->rm];
	/* It can set PE but not clear it. */
	cr0_set(c, i, (c->cr0 & ~0xeull) | (v & 0xf));
}

static void
swapgs(struct cpu *c, const struct insn *i)
{
	uint64_t base = c->seg[GS].base;

	if (c->mode != 8)
		cpu_raise_ud(c, i);
	sys_need_cpl0(c, i);
	c->seg[GS].base = c->kernel_gs_base;
	c->kernel_gs_base = base;
}

static void
rdtsc(struct cpu *c, const struct insn *i)
{
	uint64_t tsc;

	c->fault_insn = i;
	if ((c->cr4 & CR4_TSD) && c->cpl != 0 && cpu_protected(c))
		cpu_raise(c, EXC_GP, 0);
	tsc = sys_tsc(c);
	c->reg[RAX] = (uint32_t)tsc;
	c->reg[RDX] = tsc >> 32;
}

uint64_t
sys_tsc(struct cpu *c)
{
	return machine_tsc(c->machine) + (uint64_t)c->tsc_offset;
}

static void
invlpg(struct cpu *c, const struct insn *i)
{
	uint64_t lin = insn_ea(c, i);

	sys_need_cpl0(c, i);
	lin += c->seg[i->seg].base;
	tlb_flush_page(c, c->mode == 8 ? lin : (uint32_t)lin);
}

static void
ac_set(struct cpu *c, const struct insn *i, bool on)
{
	if (c->cpl != 0)
		cpu_raise_ud(c, i);
	c->rflags = on ? c->rflags | FL_AC : c->rflags & ~FL_AC;
}

/* The register forms of 0F 01 that are not smsw and lmsw. */
static void
group7_reg(struct cpu *c, const struct insn *i)
{
	switch ((i->reg & 7) << 3 | (i->rm & 7)) {
	case 012:
		ac_set(c, i, false);
		break;
	case 013:
		ac_set(c, i, true);
		break;
	case 070:
		swapgs(c, i);
		break;
	case 071:
		rdtsc(c, i);
		c->reg[RCX] = (uint32_t)c->tsc_aux;
		break;
	default:
		cpu_raise_ud(c, i);
	}
}

OP(op_group7)
{
	unsigned sub = i->reg & 7;

	if (sub == 4) {
		smsw(c, i);
	} else if (sub == 6) {
		lmsw(c, i);
		END(c);
	} else if (!(i->flags & INSN_MEM)) {
		group7_reg(c, i);
	} else if (sub == 0) {
		store_table(c, i, c->gdt_base, c->gdt_limit);
	} else if (sub == 1) {
		store_table(c, i, c->idt_base, c->idt_limit);
	} else if (sub == 2) {
		load_table(c, i, &c->gdt_base, &c->gdt_limit);
	} else if (sub == 3) {
		load_table(c, i, &c->idt_base, &c->idt_limit);
	} else if (sub == 7) {
		invlpg(c, i);
		next_block(c, i);
		END(c);
	} else {
		cpu_raise_ud(c, i);
	}
	NEXT(c, i);
}

OP(op_rdtsc)
{
	rdtsc(c, i);
	NEXT(c, i);
}

OP(op_rdpmc)
{
	cpu_raise_gp(c, i, 0); /* there are no counters */
	END(c);
}

OP(op_invd)
{
	sys_need_cpl0(c, i);
	NEXT(c, i);
}

OP(op_wbinvd)
{
	sys_need_cpl0(c, i);
	NEXT(c, i);
}

OP(op_hlt)
{
	sys_need_cpl0(c, i);
	next_block(c, i);
	c->halted = true;
	event_irq_window(c);
	END(c);
}

static void
check_iopl(struct cpu *c, const struct insn *i)
{
	c->fault_insn = i;
	if (c->cpl > cpu_iopl(c))
		cpu_raise(c, EXC_GP, 0);
}

OP(op_cli)
{
	check_iopl(c, i);
	c->rflags &= ~FL_IF;
	NEXT(c, i);
}

OP(op_sti)
{
	check_iopl(c, i);
	next_block(c, i);
	if (!(c->rflags & FL_IF)) {
		c->rflags |= FL_IF;
		c->shadow = true;
		event_irq_window(c);
	}
	END(c);
}

static SYS_SLOW void
pushf(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);

	sys_push(c, i, &s, i->opsize, flags_get(c) & ~(FL_RF | FL_VM));
	stack_commit(c, &s);
}

OP(op_pushf)
{
	pushf(c, i);
	NEXT(c, i);
}

/* True: the block must end. */
static SYS_SLOW bool
popf(struct cpu *c, const struct insn *i)
{
	struct stack s = stack_current(c);
	uint32_t fl = (uint32_t)sys_pop(c, i, &s, i->opsize);
	uint32_t mask = sys_flags_mask(c, i->opsize);
	uint32_t old = flags_get(c), new = (old & ~mask) | (fl & mask);

	stack_commit(c, &s);
	flags_set(c, new);
	if (!(old & FL_IF) && (new &FL_IF))
		event_irq_window(c);
	return (new &FL_TF) || (~old & new &FL_IF);
}

OP(op_popf)
{
	if (popf(c, i)) {
		next_block(c, i);
		END(c);
	}
	NEXT(c, i);
}
