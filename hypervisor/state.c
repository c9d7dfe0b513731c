/* The state of a processor after reset (Intel SDM volume 3, table 10-1). */
#include <string.h>

#include "hypervisor/hypervisor.h"

#define APIC_DEFAULT 0xfee00000u
#define APIC_ENABLE  (1u << 11)
#define APIC_BSP     (1u << 8)
#define LVT_MASKED   (1u << 16)
#define LVT_EXTINT   (7u << 8)

static void
lapic_put(struct hv_vcpu_state *s, unsigned offset, uint32_t value)
{
	memcpy(&s->lapic[offset], &value, sizeof(value));
}

static void
lapic_reset(struct hv_vcpu_state *s, unsigned index)
{
	lapic_put(s, 0x20, index << 24);
	lapic_put(s, 0x30, 0x50014);
	lapic_put(s, 0xe0, UINT32_MAX);
	lapic_put(s, 0xf0, 0xff);
	for (unsigned lvt = 0x320; lvt <= 0x370; lvt += 0x10)
		lapic_put(s, lvt, LVT_MASKED);
	/* The boot processor is wired to the PIC pair, as firmware leaves it:
	 * a kernel may be entered without any. */
	if (index == 0)
		lapic_put(s, 0x350, LVT_EXTINT);
}

void
hv_vcpu_state_reset(struct hv_vcpu_state *s, unsigned index)
{
	const struct hv_segment data = { .limit = 0xffff, .attr = 0x93 };
	uint16_t fcw = 0x37f; /* FNINIT's: what every kernel expects */
	uint32_t mxcsr = 0x1f80;

	memset(s, 0, sizeof(*s));
	s->gpr[2] = 0x600; /* rdx: family 6 */
	s->rip = 0xfff0;
	s->rflags = 2;
	s->es = s->ss = s->ds = s->fs = s->gs = data;
	s->cs = (struct hv_segment){ .base = 0xffff0000,
		.limit = 0xffff,
		.selector = 0xf000,
		.attr = 0x9b };
	s->ldtr = (struct hv_segment){ .limit = 0xffff, .attr = 0x82 };
	s->tr = (struct hv_segment){ .limit = 0xffff, .attr = 0x8b };
	s->gdtr.limit = s->idtr.limit = 0xffff;
	s->cr0 = 0x60000010;
	s->apic_base = APIC_DEFAULT | APIC_ENABLE | (index ? 0 : APIC_BSP);
	s->xcr0 = 1;
	s->dr[6] = 0xffff0ff0;
	s->dr[7] = 0x400;
	s->mp_state = index ? HV_MP_WAIT_INIT : HV_MP_RUNNABLE;
	memcpy(&s->xsave[0], &fcw, sizeof(fcw));
	memcpy(&s->xsave[24], &mxcsr, sizeof(mxcsr));
	s->xsave[512] = 3; /* XSTATE_BV: x87 and SSE stand */
	lapic_reset(s, index);
}
