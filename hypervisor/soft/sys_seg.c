/* Descriptors, selectors, stacks: see sys_seg.h. */
#include "hypervisor/soft/sys_seg.h"
#include "hypervisor/soft/mmu.h"

void
sys_need_protected(struct cpu *c, const struct insn *i)
{
	c->fault_insn = i;
	if (!cpu_protected(c))
		cpu_raise(c, EXC_UD, 0);
}

void
sys_need_cpl0(struct cpu *c, const struct insn *i)
{
	c->fault_insn = i;
	if (c->cpl != 0)
		cpu_raise(c, EXC_GP, 0);
}

uint64_t
sys_load(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size)
{
	const struct tlb_entry *e =
	    &c->tlb[0][(lin / PAGE_SIZE) & (TLB_SIZE - 1)];
	uint64_t v = 0;

	if (LIKELY((lin ^ e->read_tag) <= PAGE_SIZE - size))
		return host_load((void *)(e->host + lin), size);
	sys_read(c, i, lin, &v, size);
	return v;
}

void
sys_store(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size,
    uint64_t v)
{
	const struct tlb_entry *e =
	    &c->tlb[0][(lin / PAGE_SIZE) & (TLB_SIZE - 1)];

	if (LIKELY((lin ^ e->write_tag) <= PAGE_SIZE - size))
		host_store((void *)(e->host + lin), size, v);
	else
		sys_write(c, i, lin, &v, size);
}

/* Where sel's descriptor is, or 0 and false if its table does not hold size
 * bytes of it. */
static bool
desc_lin(const struct cpu *c, uint16_t sel, unsigned size, uint64_t *lin)
{
	uint64_t base = sel & 4 ? c->ldtr.base : c->gdt_base;
	uint32_t limit = sel & 4 ? c->ldtr.limit : c->gdt_limit;

	if ((sel & 4) && !(c->ldtr.attr & ATTR_P))
		return false;
	if ((sel & 0xfff8u) + size - 1 > limit)
		return false;
	*lin = base + (sel & 0xfff8u);
	if (!cpu_long(c))
		*lin = (uint32_t)*lin;
	return true;
}

bool
desc_read(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t *d)
{
	uint64_t lin;

	if (!desc_lin(c, sel, 8, &lin))
		return false;
	*d = sys_load(c, i, lin, 8);
	return true;
}

bool
desc_read_upper(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t *d)
{
	uint64_t lin;

	if (!desc_lin(c, sel, 16, &lin))
		return false;
	*d = sys_load(c, i, lin + 8, 8);
	return true;
}

void
desc_write_type(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d)
{
	uint8_t byte = (uint8_t)(d >> 40);
	uint64_t lin;

	if (desc_lin(c, sel, 8, &lin))
		sys_write(c, i, lin + 5, &byte, 1);
}

struct seg
desc_seg(uint16_t sel, uint64_t d)
{
	uint32_t limit = (uint32_t)((d & 0xffff) | ((d >> 32) & 0xf0000));
	uint16_t attr = desc_attr(d);

	if (attr & ATTR_G)
		limit = limit << 12 | 0xfff;
	return (struct seg){
		.base = ((d >> 16) & 0xffffff) | ((d >> 32) & 0xff000000),
		.limit = limit,
		.sel = sel,
		.attr = attr,
	};
}

struct seg
desc_load(struct cpu *c, const struct insn *i, uint16_t sel, uint64_t d)
{
	uint64_t accessed = (uint64_t)ATTR_ACCESSED << 40;

	if (!(d & accessed)) {
		d |= accessed;
		desc_write_type(c, i, sel, d);
	}
	return desc_seg(sel, d);
}

unsigned
stack_width(const struct cpu *c, const struct seg *ss)
{
	if (c->mode == 8)
		return 8;
	return ss->attr & ATTR_D ? 4 : 2;
}

struct stack
stack_current(const struct cpu *c)
{
	return (struct stack){
		.ss = c->seg[SS],
		.sp = c->reg[RSP],
		.width = stack_width(c, &c->seg[SS]),
		.vector = EXC_SS,
	};
}

/* The linear address of size bytes at the stack pointer. */
static uint64_t
stack_lin(struct cpu *c, const struct stack *s, unsigned size)
{
	uint64_t sp = s->sp & size_mask(s->width), last = sp + size - 1;
	bool ok;

	if (s->width == 8) {
		if (!canonical(sp) || !canonical(last))
			cpu_raise(c, s->vector, s->error);
		return sp;
	}
	if (cpu_protected(c) && (s->ss.attr & ATTR_CE)) {
		uint64_t top = s->ss.attr & ATTR_D ? UINT32_MAX : 0xffff;

		ok = sp > s->ss.limit && last <= top;
	} else {
		ok = last <= s->ss.limit;
	}
	if (!ok || s->ss.attr == 0)
		cpu_raise(c, s->vector, s->error);
	return (uint32_t)(s->ss.base + sp);
}

void
stack_add(struct stack *s, uint64_t n)
{
	uint64_t mask = size_mask(s->width);

	s->sp = (s->sp & ~mask) | ((s->sp + n) & mask);
}

void
sys_push(struct cpu *c, const struct insn *i, struct stack *s, unsigned size,
    uint64_t v)
{
	uint64_t lin;

	c->fault_insn = i;
	stack_add(s, -(uint64_t)size);
	lin = stack_lin(c, s, size);
	if (s->super)
		sys_store(c, i, lin, size, v);
	else if (size == 8)
		mem_write64(c, i, lin, v);
	else if (size == 4)
		mem_write32(c, i, lin, (uint32_t)v);
	else
		mem_write16(c, i, lin, (uint16_t)v);
}

uint64_t
sys_pop(struct cpu *c, const struct insn *i, struct stack *s, unsigned size)
{
	uint64_t lin, v;

	c->fault_insn = i;
	lin = stack_lin(c, s, size);
	if (size == 8)
		v = mem_read64(c, i, lin);
	else
		v = size == 4 ? mem_read32(c, i, lin) : mem_read16(c, i, lin);
	stack_add(s, size);
	return v;
}

void
stack_commit(struct cpu *c, const struct stack *s)
{
	reg_write(c, RSP, s->width, s->sp);
}

struct seg
stack_segment(struct cpu *c, const struct insn *i, uint16_t sel, unsigned cpl,
    unsigned bad, uint32_t ext)
{
	uint32_t error = sel_error(sel) | ext;
	uint16_t attr;
	uint64_t d;

	c->fault_insn = i;
	if (sel_error(sel) == 0)
		cpu_raise(c, bad, ext);
	if ((sel & 3) != cpl || !desc_read(c, i, sel, &d))
		cpu_raise(c, bad, error);
	attr = desc_attr(d);
	if ((attr & (ATTR_S | ATTR_CODE | ATTR_RW)) != (ATTR_S | ATTR_RW) ||
	    ATTR_DPL(attr) != cpl)
		cpu_raise(c, bad, error);
	if (!(attr & ATTR_P))
		cpu_raise(c, EXC_SS, error);
	return desc_load(c, i, sel, d);
}

struct stack
stack_inner(struct cpu *c, const struct insn *i, unsigned cpl, uint32_t ext)
{
	bool wide = c->tr.attr & 8;
	uint32_t off = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
	uint32_t len = wide ? 6 : 4;
	struct stack s = { .super = cpl < 3, .vector = EXC_SS, .error = ext };
	uint16_t sel = 0;
	uint32_t sp = 0;

	c->fault_insn = i;
	if (off + len - 1 > c->tr.limit)
		cpu_raise(c, EXC_TS, sel_error(c->tr.sel) | ext);
	sys_read(c, i, (uint32_t)(c->tr.base + off), &sp, wide ? 4 : 2);
	sys_read(c, i, (uint32_t)(c->tr.base + off + (wide ? 4 : 2)), &sel, 2);
	s.ss = stack_segment(c, i, sel, cpl, EXC_TS, ext);
	s.sp = sp;
	s.width = s.ss.attr & ATTR_D ? 4 : 2;
	s.error = sel_error(sel) | ext;
	return s;
}

uint64_t
stack_tss64(struct cpu *c, const struct insn *i, unsigned offset, uint32_t ext)
{
	uint64_t sp;

	c->fault_insn = i;
	if (offset + 7 > c->tr.limit)
		cpu_raise(c, EXC_TS, sel_error(c->tr.sel) | ext);
	sp = sys_load(c, i, c->tr.base + offset, 8);
	if (!canonical(sp))
		cpu_raise(c, EXC_SS, ext);
	return sp;
}

void
seg_load_real(struct cpu *c, unsigned seg, uint16_t sel)
{
	struct seg *s = &c->seg[seg];

	s->sel = sel;
	s->base = (uint32_t)sel << 4;
	/* The limit stays, as on the processor: "unreal mode" lives on it. */
	if (s->attr == 0) {
		s->limit = 0xffff;
		s->attr = 0x93;
	}
}

/* A null selector in a data segment register. */
static void
load_null(struct cpu *c, const struct insn *i, unsigned seg, uint16_t sel)
{
	if (seg == SS && (c->mode != 8 || c->cpl == 3 || (sel & 3) != c->cpl))
		cpu_raise_gp(c, i, 0);
	c->seg[seg] = (struct seg){ .sel = sel };
}

void
seg_load(struct cpu *c, const struct insn *i, unsigned seg, uint16_t sel)
{
	uint16_t attr;
	uint64_t d;
	bool code;

	c->fault_insn = i;
	if (!cpu_protected(c)) {
		seg_load_real(c, seg, sel);
		return;
	}
	if (sel_error(sel) == 0) {
		load_null(c, i, seg, sel);
		return;
	}
	if (seg == SS) {
		c->seg[SS] = stack_segment(c, i, sel, c->cpl, EXC_GP, 0);
		return;
	}
	if (!desc_read(c, i, sel, &d))
		cpu_raise(c, EXC_GP, sel_error(sel));
	attr = desc_attr(d);
	code = attr & ATTR_CODE;
	if (!(attr & ATTR_S) || (code && !(attr & ATTR_RW)))
		cpu_raise(c, EXC_GP, sel_error(sel));
	if (!(code && (attr & ATTR_CE)) &&
	    (ATTR_DPL(attr) < c->cpl || ATTR_DPL(attr) < (sel & 3u)))
		cpu_raise(c, EXC_GP, sel_error(sel));
	if (!(attr & ATTR_P))
		cpu_raise(c, EXC_NP, sel_error(sel));
	c->seg[seg] = desc_load(c, i, sel, d);
}

struct seg
seg_flat(uint16_t sel, bool code, unsigned dpl, bool l, bool d)
{
	unsigned attr =
	    ATTR_G | ATTR_P | ATTR_S | ATTR_RW | ATTR_ACCESSED | dpl << 5;

	if (code)
		attr |= ATTR_CODE;
	if (l)
		attr |= ATTR_L;
	if (d)
		attr |= ATTR_D;
	return (struct seg){
		.limit = UINT32_MAX,
		.sel = sel,
		.attr = (uint16_t)attr,
	};
}

void
seg_drop_inner(struct cpu *c)
{
	static const uint8_t data[] = { ES, DS, FS, GS };
	unsigned n;

	for (n = 0; n < ARRAY_LEN(data); n++) {
		struct seg *s = &c->seg[data[n]];
		bool conforming =
		    (s->attr & (ATTR_CODE | ATTR_CE)) == (ATTR_CODE | ATTR_CE);

		if (s->attr != 0 && !conforming && ATTR_DPL(s->attr) < c->cpl)
			*s = (struct seg){ 0 };
	}
}

void
far_check_rip(
    struct cpu *c, const struct insn *i, const struct seg *cs, uint64_t rip)
{
	bool bad;

	c->fault_insn = i;
	if (cpu_long(c) && (cs->attr & ATTR_L))
		bad = !canonical(rip);
	else
		bad = rip > cs->limit;
	if (bad)
		cpu_raise(c, EXC_GP, 0);
}

uint32_t
sys_flags_mask(const struct cpu *c, unsigned opsize)
{
	uint32_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

	if (opsize > 2)
		mask |= FL_AC | FL_ID; /* RF: there are no breakpoints */
	if (c->cpl == 0)
		mask |= FL_IOPL;
	if (c->cpl <= cpu_iopl(c))
		mask |= FL_IF;
	return mask;
}
