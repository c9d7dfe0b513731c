/* Saved state of the software machine. */
#include <errno.h>
#include <string.h>

#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/machine_impl.h"

#define MSR_TSC_ADJUST	 0x3bu
#define MSR_TSC_DEADLINE 0x6e0u
#define XSAVE_HEADER	 512
/* Above the vector in events.sipi_vector: messages not yet taken. */
#define SIPI_PENDING 0x100u
#define INIT_PENDING 0x200u

/* MSRs that are plain fields of struct cpu. */
#define FIELD(index, name)                        \
	{                                         \
		index, offsetof(struct cpu, name) \
	}
static const struct {
	uint32_t index;
	size_t offset;
} msr_fields[] = {
	FIELD(0x174, sysenter_cs),
	FIELD(0x175, sysenter_esp),
	FIELD(0x176, sysenter_eip),
	FIELD(0x1a0, misc_enable),
	FIELD(0x277, pat),
	FIELD(0x2ff, mtrr_def),
	FIELD(0x200, mtrr_base[0]),
	FIELD(0x201, mtrr_mask[0]),
	FIELD(0x202, mtrr_base[1]),
	FIELD(0x203, mtrr_mask[1]),
	FIELD(0x204, mtrr_base[2]),
	FIELD(0x205, mtrr_mask[2]),
	FIELD(0x206, mtrr_base[3]),
	FIELD(0x207, mtrr_mask[3]),
	FIELD(0x208, mtrr_base[4]),
	FIELD(0x209, mtrr_mask[4]),
	FIELD(0x20a, mtrr_base[5]),
	FIELD(0x20b, mtrr_mask[5]),
	FIELD(0x20c, mtrr_base[6]),
	FIELD(0x20d, mtrr_mask[6]),
	FIELD(0x20e, mtrr_base[7]),
	FIELD(0x20f, mtrr_mask[7]),
	FIELD(0x250, mtrr_fixed[0]),
	FIELD(0x258, mtrr_fixed[1]),
	FIELD(0x259, mtrr_fixed[2]),
	FIELD(0x268, mtrr_fixed[3]),
	FIELD(0x269, mtrr_fixed[4]),
	FIELD(0x26a, mtrr_fixed[5]),
	FIELD(0x26b, mtrr_fixed[6]),
	FIELD(0x26c, mtrr_fixed[7]),
	FIELD(0x26d, mtrr_fixed[8]),
	FIELD(0x26e, mtrr_fixed[9]),
	FIELD(0x26f, mtrr_fixed[10]),
	FIELD(0xc0000081, star),
	FIELD(0xc0000082, lstar),
	FIELD(0xc0000083, cstar),
	FIELD(0xc0000084, fmask),
	FIELD(0xc0000102, kernel_gs_base),
	FIELD(0xc0000103, tsc_aux),
	FIELD(0x4b564d00, kvm_wall_clock),
	FIELD(0x4b564d01, kvm_system_time),
};
_Static_assert(ARRAY_LEN(msr_fields) + 2 <= HV_MSRS_MAX, "too many MSRs");

static void
msrs_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	uint32_t n = 0;

	for (; n < ARRAY_LEN(msr_fields); n++) {
		s->msrs[n].index = msr_fields[n].index;
		memcpy(&s->msrs[n].value,
		    (const char *)&v->cpu + msr_fields[n].offset, 8);
	}
	s->msrs[n++] = (struct hv_msr){
		.index = MSR_TSC_ADJUST,
		.value = (uint64_t)v->cpu.tsc_offset,
	};
	s->msrs[n++] = (struct hv_msr){
		.index = MSR_TSC_DEADLINE,
		.value = lapic_deadline_get(&v->cpu),
	};
	s->nmsrs = n;
}

static int
msr_set(struct hv_vcpu *v, const struct hv_msr *msr)
{
	if (msr->index == MSR_TSC_ADJUST) {
		v->cpu.tsc_offset = (int64_t)msr->value;
		return 0;
	}
	if (msr->index == MSR_TSC_DEADLINE) {
		lapic_deadline_set(&v->cpu, msr->value);
		return 0;
	}
	for (size_t n = 0; n < ARRAY_LEN(msr_fields); n++) {
		if (msr_fields[n].index == msr->index) {
			memcpy((char *)&v->cpu + msr_fields[n].offset,
			    &msr->value, 8);
			return 0;
		}
	}
	return -EINVAL;
}

static struct hv_segment
segment_get(const struct seg *g)
{
	return (struct hv_segment){
		.base = g->base,
		.limit = g->limit,
		.selector = g->sel,
		.attr = g->attr,
		.unusable = g->attr == 0,
	};
}

static struct seg
segment_set(const struct hv_segment *s)
{
	return (struct seg){
		.base = s->base,
		.limit = s->limit,
		.sel = s->selector,
		.attr = s->unusable ? 0 : s->attr,
	};
}

static void
put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, 2);
}

static uint16_t
get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return v;
}

/* The legacy region of XSAVE is the 64-bit FXSAVE image. */
static void
xsave_get(const struct cpu *c, uint8_t area[4096])
{
	unsigned top = c->x87.sw >> 11 & 7;
	uint32_t mask = 0xffff;

	memset(area, 0, 4096);
	put16(area, c->x87.cw);
	put16(area + 2, c->x87.sw);
	area[4] = (uint8_t)~c->x87.empty;
	put16(area + 6, c->x87.fop);
	memcpy(area + 8, &c->x87.fip, 8);
	memcpy(area + 16, &c->x87.fdp, 8);
	memcpy(area + 24, &c->mxcsr, 4);
	memcpy(area + 28, &mask, 4);
	for (unsigned n = 0; n < 8; n++)
		memcpy(area + 32 + 16 * n, &c->x87.st[(top + n) & 7], 10);
	for (unsigned n = 0; n < 16; n++)
		memcpy(area + 160 + 16 * n, &c->v[n], 16);
	area[XSAVE_HEADER] = 3;
}

static void
xsave_set(struct cpu *c, const uint8_t area[4096])
{
	unsigned top;

	c->x87.cw = get16(area);
	c->x87.sw = get16(area + 2);
	c->x87.empty = (uint8_t)~area[4];
	c->x87.fop = get16(area + 6);
	memcpy(&c->x87.fip, area + 8, 8);
	memcpy(&c->x87.fdp, area + 16, 8);
	memcpy(&c->mxcsr, area + 24, 4);
	top = c->x87.sw >> 11 & 7;
	for (unsigned n = 0; n < 8; n++)
		memcpy(&c->x87.st[(top + n) & 7], area + 32 + 16 * n, 10);
	for (unsigned n = 0; n < 16; n++)
		memcpy(&c->v[n], area + 160 + 16 * n, 16);
}

int
machine_vcpu_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct cpu *c = &v->cpu;
	uint32_t att = atomic_load(&c->attention);

	memset(s, 0, sizeof(*s));
	memcpy(s->gpr, c->reg, sizeof(s->gpr));
	s->rip = c->rip;
	s->rflags = flags_get(c);
	s->es = segment_get(&c->seg[ES]);
	s->cs = segment_get(&c->seg[CS]);
	s->ss = segment_get(&c->seg[SS]);
	s->ds = segment_get(&c->seg[DS]);
	s->fs = segment_get(&c->seg[FS]);
	s->gs = segment_get(&c->seg[GS]);
	s->ldtr = segment_get(&c->ldtr);
	s->tr = segment_get(&c->tr);
	s->gdtr.base = c->gdt_base;
	s->gdtr.limit = c->gdt_limit;
	s->idtr.base = c->idt_base;
	s->idtr.limit = c->idt_limit;
	s->cr0 = c->cr0;
	s->cr2 = c->cr2;
	s->cr3 = c->cr3;
	s->cr4 = c->cr4;
	s->cr8 = lapic_tpr_get(c);
	s->efer = c->efer;
	s->apic_base = lapic_base_get(c);
	s->xcr0 = 1;
	memcpy(s->dr, c->dr, sizeof(s->dr));
	s->mp_state = c->halted ? HV_MP_HALTED : c->mp_state;
	lapic_save(&v->lapic, s->lapic);
	msrs_get(v, s);
	xsave_get(c, s->xsave);
	s->events.nmi_pending = (att & ATT_NMI) != 0;
	s->events.nmi_masked = c->nmi_masked;
	s->events.interrupt_shadow = c->shadow;
	s->events.sipi_vector = c->sipi_vector;
	if (att & ATT_SIPI)
		s->events.sipi_vector |= SIPI_PENDING;
	if (att & ATT_INIT)
		s->events.sipi_vector |= INIT_PENDING;
	return 0;
}

/* What a state may say at most; it comes from a file. */
static bool
state_is_sane(const struct hv_vcpu_state *s)
{
	return s->nmsrs <= HV_MSRS_MAX && s->mp_state <= HV_MP_HALTED &&
	    (!s->events.exception_pending || s->events.exception_vector < 32);
}

/* A pending event of another backend is delivered at once. */
static void
pending_deliver(struct cpu *c, const struct hv_vcpu_state *s)
{
	if (s->events.exception_pending)
		event_deliver(c, EVENT_EXCEPTION, s->events.exception_vector,
		    s->events.exception_has_error, s->events.exception_error);
	else if (s->events.interrupt_pending)
		event_deliver(c,
		    s->events.interrupt_soft ? EVENT_SOFT_INT : EVENT_INTERRUPT,
		    s->events.interrupt_vector, false, 0);
}

int
machine_vcpu_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct cpu *c = &v->cpu;
	uint32_t att = ATT_TIMER | ATT_IRQ;

	if (!state_is_sane(s))
		return -EINVAL;
	memcpy(c->reg, s->gpr, sizeof(c->reg));
	c->rip = s->rip;
	c->seg[ES] = segment_set(&s->es);
	c->seg[CS] = segment_set(&s->cs);
	c->seg[SS] = segment_set(&s->ss);
	c->seg[DS] = segment_set(&s->ds);
	c->seg[FS] = segment_set(&s->fs);
	c->seg[GS] = segment_set(&s->gs);
	c->ldtr = segment_set(&s->ldtr);
	c->tr = segment_set(&s->tr);
	c->gdt_base = s->gdtr.base;
	c->gdt_limit = s->gdtr.limit;
	c->idt_base = s->idtr.base;
	c->idt_limit = s->idtr.limit;
	c->cr0 = s->cr0;
	c->cr2 = s->cr2;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->efer = s->efer;
	memcpy(c->dr, s->dr, sizeof(c->dr));
	debug_set_dr7(c, s->dr[7]);
	c->debug_hits = 0;
	c->halted = s->mp_state == HV_MP_HALTED;
	c->mp_state = c->halted ? HV_MP_RUNNABLE : (uint8_t)s->mp_state;
	c->stopped = false;
	c->shadow = s->events.interrupt_shadow;
	c->nmi_masked = s->events.nmi_masked;
	c->sipi_vector = (uint8_t)s->events.sipi_vector;
	flags_set(c, (uint32_t)s->rflags);
	xsave_set(c, s->xsave);
	v->lapic.base = s->apic_base;
	lapic_load(&v->lapic, s->lapic);
	for (uint32_t n = 0; n < s->nmsrs; n++) {
		int err = msr_set(v, &s->msrs[n]);

		if (err)
			return err;
	}
	cpu_mode_changed(c);
	tlb_flush(c, true);
	pending_deliver(c, s);
	if (s->events.nmi_pending)
		att |= ATT_NMI;
	if (s->events.sipi_vector & SIPI_PENDING)
		att |= ATT_SIPI;
	if (s->events.sipi_vector & INIT_PENDING)
		att |= ATT_INIT;
	machine_attend(c, att);
	return 0;
}

/* ---- the partition ---- */

#define PARTITION_MAGIC 0x31736d62u /* "bms1" */

struct partition_state {
	uint32_t magic, size;
	uint64_t tsc, now_ns;
	uint32_t tsc_khz;
	uint32_t ioapic_lines, ioapic_id, ioapic_select;
	uint64_t rte[IOAPIC_PINS];
	struct pic_chip pic[2];
	struct pit pit;
	uint8_t line[MACHINE_LINES];
};
_Static_assert(
    sizeof(struct partition_state) <= HV_PARTITION_STATE_MAX, "too large");

int
machine_partition_get(struct hv_partition *p, void *buf, size_t size)
{
	struct partition_state s;

	if (size < sizeof(s))
		return -ENOSPC;
	memset(&s, 0, sizeof(s));
	s.magic = PARTITION_MAGIC;
	s.size = sizeof(s);
	pthread_mutex_lock(&p->lock);
	s.tsc = machine_tsc((struct machine *)p);
	s.now_ns = machine_now_ns((struct machine *)p);
	s.tsc_khz = p->tsc_khz;
	s.ioapic_lines = p->ioapic.lines;
	s.ioapic_id = p->ioapic.id;
	s.ioapic_select = p->ioapic.select;
	memcpy(s.rte, p->ioapic.rte, sizeof(s.rte));
	memcpy(s.pic, p->pic.chip, sizeof(s.pic));
	s.pit = p->pit;
	memcpy(s.line, p->line, sizeof(s.line));
	pthread_mutex_unlock(&p->lock);
	memcpy(buf, &s, sizeof(s));
	return (int)sizeof(s);
}

static bool
partition_state_is_sane(const struct partition_state *s)
{
	if (s->magic != PARTITION_MAGIC || s->size != sizeof(*s) || !s->tsc_khz)
		return false;
	for (unsigned n = 0; n < 3; n++) {
		const struct pit_channel *c = &s->pit.ch[n];

		if (c->mode > 5 || c->access < 1 || c->access > 3 ||
		    c->latches > 2 || c->count < 1 || c->count > 65536)
			return false;
		if (c->count < 2 && (c->mode == 2 || c->mode == 3))
			return false;
	}
	return s->pic[0].lowest < 8 && s->pic[1].lowest < 8;
}

int
machine_partition_set(struct hv_partition *p, const void *buf, size_t size)
{
	struct partition_state s;
	uint64_t tsc;

	if (size < sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (!partition_state_is_sane(&s))
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	/* On a host of another frequency time goes on, and the TSC jumps. */
	tsc = s.tsc_khz == p->tsc_khz
	    ? s.tsc
	    : (uint64_t)((unsigned __int128)s.now_ns * p->tsc_khz / 1000000u);
	machine_time_set(p, tsc);
	p->ioapic.lines = s.ioapic_lines;
	p->ioapic.id = s.ioapic_id;
	p->ioapic.select = s.ioapic_select;
	memcpy(p->ioapic.rte, s.rte, sizeof(s.rte));
	memcpy(p->pic.chip, s.pic, sizeof(s.pic));
	p->pit = s.pit;
	memcpy(p->line, s.line, sizeof(s.line));
	machine_pic_changed(p);
	machine_pit_changed(p);
	pthread_mutex_unlock(&p->lock);
	/* The LAPIC timers were set by another clock. */
	for (unsigned n = 0; n < p->ncpus; n++) {
		struct hv_vcpu *v = atomic_load(&p->cpu[n]);

		if (v)
			machine_attend(&v->cpu, ATT_TIMER);
	}
	return 0;
}
