/* The KVM backend: saved state. */
#include <errno.h>
#include <string.h>

#include "hypervisor/kvm/kvm.h"

#define MSR_TSC 0x10u

/* In the order in which they are set: the deadline behind the LAPIC. */
static const uint32_t msr_list[] = { MSR_TSC, 0x3b, 0x48, 0x174, 0x175, 0x176,
	0x1a0, 0x277, 0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207,
	0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f, 0x250, 0x258,
	0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff,
	0x6e0, 0xda0, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084,
	0xc0000102, 0xc0000103, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03,
	0x4b564d04, 0x4b564d05, 0x4b564d06 };
_Static_assert(ARRAY_LEN(msr_list) <= HV_MSRS_MAX, "too many MSRs");

/* struct kvm_msrs with room. */
struct msrs {
	uint32_t count, pad;
	struct kvm_msr_entry entry[HV_MSRS_MAX];
};
_Static_assert(offsetof(struct msrs, entry) == sizeof(struct kvm_msrs),
    "entries follow the head");

static int
msr_one(
    struct hv_vcpu *v, unsigned long request, uint32_t index, uint64_t *value)
{
	struct msrs m;
	int r;

	memset(&m, 0, sizeof(m));
	m.count = 1;
	m.entry[0].index = index;
	m.entry[0].data = *value;
	r = kvm_ioctl(v->fd, request, &m);
	if (r != 1)
		return r < 0 ? r : -EINVAL;
	*value = m.entry[0].data;
	return 0;
}

void
kvm_msrs_find(struct hv_vcpu *v)
{
	for (size_t n = 0; n < ARRAY_LEN(msr_list); n++) {
		uint64_t value = 0;

		if (msr_one(v, KVM_GET_MSRS, msr_list[n], &value) == 0)
			v->p->msrs[v->p->nmsrs++] = msr_list[n];
	}
}

static int
msrs_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct msrs m;
	int r;

	memset(&m, 0, sizeof(m));
	m.count = v->p->nmsrs;
	for (uint32_t n = 0; n < v->p->nmsrs; n++)
		m.entry[n].index = v->p->msrs[n];
	r = kvm_ioctl(v->fd, KVM_GET_MSRS, &m);
	if (r < 0)
		return r;
	if ((uint32_t)r != v->p->nmsrs)
		return -EIO;
	s->nmsrs = v->p->nmsrs;
	for (uint32_t n = 0; n < s->nmsrs; n++) {
		s->msrs[n].index = m.entry[n].index;
		s->msrs[n].value = m.entry[n].data;
	}
	return 0;
}

/* One that this KVM refuses is an error only if it says something: some have
 * a TSC that cannot be set, or lack an MSR that is zero. */
static int
msrs_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	for (uint32_t n = 0; n < s->nmsrs; n++) {
		uint64_t value = s->msrs[n].value;
		int err = msr_one(v, KVM_SET_MSRS, s->msrs[n].index, &value);

		if (err && value && s->msrs[n].index != MSR_TSC)
			return err;
	}
	return 0;
}

static struct hv_segment
segment_get(const struct kvm_segment *k)
{
	return (struct hv_segment){
		.base = k->base,
		.limit = k->limit,
		.selector = k->selector,
		.attr = (uint16_t)(k->type | k->s << 4 | k->dpl << 5 |
		    k->present << 7 | k->avl << 12 | k->l << 13 | k->db << 14 |
		    k->g << 15),
		.unusable = k->unusable,
	};
}

static struct kvm_segment
segment_set(const struct hv_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & 15,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15 & 1,
		.unusable = s->unusable,
	};
}

static int
regs_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_regs r;
	int err = kvm_ioctl(v->fd, KVM_GET_REGS, &r);

	if (err)
		return err;
	const uint64_t gpr[16] = { r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp,
		r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14,
		r.r15 };
	memcpy(s->gpr, gpr, sizeof(gpr));
	s->rip = r.rip;
	s->rflags = r.rflags;
	return 0;
}

static int
regs_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	const uint64_t *g = s->gpr;
	struct kvm_regs r = {
		.rax = g[0],
		.rcx = g[1],
		.rdx = g[2],
		.rbx = g[3],
		.rsp = g[4],
		.rbp = g[5],
		.rsi = g[6],
		.rdi = g[7],
		.r8 = g[8],
		.r9 = g[9],
		.r10 = g[10],
		.r11 = g[11],
		.r12 = g[12],
		.r13 = g[13],
		.r14 = g[14],
		.r15 = g[15],
		.rip = s->rip,
		.rflags = s->rflags,
	};

	return kvm_ioctl(v->fd, KVM_SET_REGS, &r);
}

static int
sregs_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_sregs k;
	int err = kvm_ioctl(v->fd, KVM_GET_SREGS, &k);

	if (err)
		return err;
	s->es = segment_get(&k.es);
	s->cs = segment_get(&k.cs);
	s->ss = segment_get(&k.ss);
	s->ds = segment_get(&k.ds);
	s->fs = segment_get(&k.fs);
	s->gs = segment_get(&k.gs);
	s->ldtr = segment_get(&k.ldt);
	s->tr = segment_get(&k.tr);
	s->gdtr.base = k.gdt.base;
	s->gdtr.limit = k.gdt.limit;
	s->idtr.base = k.idt.base;
	s->idtr.limit = k.idt.limit;
	s->cr0 = k.cr0;
	s->cr2 = k.cr2;
	s->cr3 = k.cr3;
	s->cr4 = k.cr4;
	s->cr8 = k.cr8;
	s->efer = k.efer;
	s->apic_base = k.apic_base;
	return 0;
}

static int
sregs_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct kvm_sregs k = {
		.es = segment_set(&s->es),
		.cs = segment_set(&s->cs),
		.ss = segment_set(&s->ss),
		.ds = segment_set(&s->ds),
		.fs = segment_set(&s->fs),
		.gs = segment_set(&s->gs),
		.ldt = segment_set(&s->ldtr),
		.tr = segment_set(&s->tr),
		.gdt.base = s->gdtr.base,
		.gdt.limit = (uint16_t)s->gdtr.limit,
		.idt.base = s->idtr.base,
		.idt.limit = (uint16_t)s->idtr.limit,
		.cr0 = s->cr0,
		.cr2 = s->cr2,
		.cr3 = s->cr3,
		.cr4 = s->cr4,
		.cr8 = s->cr8,
		.efer = s->efer,
		.apic_base = s->apic_base,
	};

	return kvm_ioctl(v->fd, KVM_SET_SREGS, &k);
}

static int
xsave_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_xcrs x = { 0 };
	int err;

	_Static_assert(sizeof(struct kvm_xsave) == sizeof(s->xsave),
	    "KVM_GET_XSAVE fills one page");
	err = kvm_ioctl(v->fd, KVM_GET_XSAVE, s->xsave);
	if (err || !v->p->has_xcrs)
		return err;
	err = kvm_ioctl(v->fd, KVM_GET_XCRS, &x);
	s->xcr0 = x.nr_xcrs ? x.xcrs[0].value : 1;
	return err;
}

static int
xsave_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct kvm_xcrs x = { .nr_xcrs = 1 };
	struct kvm_xsave area;
	int err;

	x.xcrs[0].value = s->xcr0 | 1;
	if (v->p->has_xcrs) {
		err = kvm_ioctl(v->fd, KVM_SET_XCRS, &x);
		if (err)
			return err;
	}
	memcpy(&area, s->xsave, sizeof(area));
	return kvm_ioctl(v->fd, KVM_SET_XSAVE, &area);
}

static int
lapic_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_lapic_state l;
	int err = kvm_ioctl(v->fd, KVM_GET_LAPIC, &l);

	if (!err)
		memcpy(s->lapic, l.regs, sizeof(l.regs));
	return err;
}

static int
lapic_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct kvm_lapic_state l;

	memcpy(l.regs, s->lapic, sizeof(l.regs));
	return kvm_ioctl(v->fd, KVM_SET_LAPIC, &l);
}

static int
events_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_vcpu_events e = { 0 };
	int err = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e);

	if (err)
		return err;
	s->events.exception_pending = e.exception.injected;
	s->events.exception_vector = e.exception.nr;
	s->events.exception_has_error = e.exception.has_error_code;
	s->events.exception_error = e.exception.error_code;
	s->events.interrupt_pending = e.interrupt.injected;
	s->events.interrupt_vector = e.interrupt.nr;
	s->events.interrupt_soft = e.interrupt.soft;
	s->events.interrupt_shadow = e.interrupt.shadow != 0;
	s->events.nmi_pending = e.nmi.injected || e.nmi.pending;
	s->events.nmi_masked = e.nmi.masked;
	s->events.sipi_vector = e.sipi_vector;
	return 0;
}

static int
events_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct kvm_vcpu_events e = {
		.exception.injected = s->events.exception_pending,
		.exception.nr = s->events.exception_vector,
		.exception.has_error_code = s->events.exception_has_error,
		.exception.error_code = s->events.exception_error,
		.interrupt.injected = s->events.interrupt_pending,
		.interrupt.nr = s->events.interrupt_vector,
		.interrupt.soft = s->events.interrupt_soft,
		.interrupt.shadow =
		    s->events.interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0,
		.nmi.pending = s->events.nmi_pending,
		.nmi.masked = s->events.nmi_masked,
		.sipi_vector = s->events.sipi_vector & 0xff,
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
		    KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		    KVM_VCPUEVENT_VALID_SHADOW,
	};

	return kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e);
}

static int
debugregs_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_debugregs d = { 0 };
	int err = kvm_ioctl(v->fd, KVM_GET_DEBUGREGS, &d);

	for (unsigned n = 0; n < 4; n++)
		s->dr[n] = d.db[n];
	s->dr[6] = d.dr6;
	s->dr[7] = d.dr7;
	return err;
}

static int
debugregs_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct kvm_debugregs d = { .dr6 = s->dr[6], .dr7 = s->dr[7] };

	for (unsigned n = 0; n < 4; n++)
		d.db[n] = s->dr[n];
	return kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &d);
}

static const uint32_t mp_states[] = {
	[HV_MP_RUNNABLE] = KVM_MP_STATE_RUNNABLE,
	[HV_MP_WAIT_INIT] = KVM_MP_STATE_UNINITIALIZED,
	[HV_MP_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
	[HV_MP_HALTED] = KVM_MP_STATE_HALTED,
};

/* Reading it makes KVM take pending INITs and SIPIs: first of all. */
static int
mp_state_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	struct kvm_mp_state m = { 0 };
	int err = kvm_ioctl(v->fd, KVM_GET_MP_STATE, &m);

	s->mp_state = HV_MP_RUNNABLE;
	for (uint32_t n = 0; n < ARRAY_LEN(mp_states); n++)
		if (mp_states[n] == m.mp_state)
			s->mp_state = n;
	return err;
}

static int
mp_state_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	struct kvm_mp_state m;

	if (s->mp_state >= ARRAY_LEN(mp_states))
		return -EINVAL;
	m.mp_state = mp_states[s->mp_state];
	return kvm_ioctl(v->fd, KVM_SET_MP_STATE, &m);
}

int
kvm_vcpu_get(struct hv_vcpu *v, struct hv_vcpu_state *s)
{
	static int (*const parts[])(struct hv_vcpu * v,
	    struct hv_vcpu_state * s) = { mp_state_get, regs_get, sregs_get,
		xsave_get, msrs_get, lapic_get, events_get, debugregs_get };
	int err = 0;

	memset(s, 0, sizeof(*s));
	for (size_t n = 0; n < ARRAY_LEN(parts) && !err; n++)
		err = parts[n](v, s);
	return err;
}

int
kvm_vcpu_set(struct hv_vcpu *v, const struct hv_vcpu_state *s)
{
	/* The APIC's base (sregs) before its registers, these before the
	 * deadline (MSRs), events behind the registers that they depend on. */
	static int (*const parts[])(struct hv_vcpu * v,
	    const struct hv_vcpu_state *s) = { regs_set, sregs_set, xsave_set,
		lapic_set, msrs_set, debugregs_set, mp_state_set, events_set };
	int err = 0;

	if (s->nmsrs > HV_MSRS_MAX)
		return -EINVAL;
	for (size_t n = 0; n < ARRAY_LEN(parts) && !err; n++)
		err = parts[n](v, s);
	return err;
}

/* ---- the partition ---- */

#define PARTITION_MAGIC 0x316b6d62u /* "bmk1" */

struct partition_state {
	uint32_t magic, size;
	uint64_t clock_ns;
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
};
_Static_assert(
    sizeof(struct partition_state) <= HV_PARTITION_STATE_MAX, "too large");

uint64_t
kvm_now_ns(struct hv_partition *p)
{
	struct kvm_clock_data c = { 0 };

	return kvm_ioctl(p->vm, KVM_GET_CLOCK, &c) ? time_now_ns() : c.clock;
}

int
kvm_partition_get(struct hv_partition *p, void *buf, size_t size)
{
	struct partition_state s;
	int err = 0;

	if (size < sizeof(s))
		return -ENOSPC;
	memset(&s, 0, sizeof(s));
	s.magic = PARTITION_MAGIC;
	s.size = sizeof(s);
	s.clock_ns = kvm_now_ns(p);
	for (uint32_t n = 0; n < 3 && !err; n++) {
		s.chip[n].chip_id = n;
		err = kvm_ioctl(p->vm, KVM_GET_IRQCHIP, &s.chip[n]);
	}
	if (!err)
		err = kvm_ioctl(p->vm, KVM_GET_PIT2, &s.pit);
	if (err)
		return err;
	memcpy(buf, &s, sizeof(s));
	return (int)sizeof(s);
}

int
kvm_partition_set(struct hv_partition *p, const void *buf, size_t size)
{
	struct kvm_clock_data c = { 0 };
	struct partition_state s;
	int err = 0;

	if (size < sizeof(s))
		return -EINVAL;
	memcpy(&s, buf, sizeof(s));
	if (s.magic != PARTITION_MAGIC || s.size != sizeof(s))
		return -EINVAL;
	for (uint32_t n = 0; n < 3 && !err; n++) {
		s.chip[n].chip_id = n;
		err = kvm_ioctl(p->vm, KVM_SET_IRQCHIP, &s.chip[n]);
	}
	if (!err)
		err = kvm_ioctl(p->vm, KVM_SET_PIT2, &s.pit);
	c.clock = s.clock_ns;
	return err ? err : kvm_ioctl(p->vm, KVM_SET_CLOCK, &c);
}
