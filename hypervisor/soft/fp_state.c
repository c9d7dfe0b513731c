/* FXSAVE, FXRSTOR, LDMXCSR, STMXCSR, CLFLUSH and the fences: 0F AE. */
#include "hypervisor/soft/fp_ops.h"

/*
 * FXSAVE and FXRSTOR of AMD's processors move the error pointers (FOP, FIP,
 * FDP) only while an unmasked x87 exception is pending; else zeros are saved
 * and nothing is loaded.  A saved image of ours always has them.
 */
#define FX_SIZE	 512u
#define FX_FCW	 0
#define FX_FSW	 2
#define FX_FTW	 4
#define FX_FOP	 6
#define FX_FIP	 8
#define FX_FDP	 16
#define FX_MXCSR 24
#define FX_MASK	 28
#define FX_ST	 32
#define FX_XMM	 160

/* The registers hold 57 bits. */
static uint64_t
pointer_extend(uint64_t v)
{
	return (uint64_t)((int64_t)(v << 7) >> 7);
}

static void
image_get(
    const struct cpu *c, uint8_t *p, bool wide, bool pointers, unsigned xmms)
{
	const struct x87 *f = &c->x87;
	const uint32_t mask = MXCSR_MASK;
	unsigned n, t = f->sw >> X87_TOP_SHIFT & 7;

	memset(p, 0, FX_XMM);
	memcpy(p + FX_FCW, &f->cw, 2);
	memcpy(p + FX_FSW, &f->sw, 2);
	p[FX_FTW] = (uint8_t)~f->empty;
	if (pointers) {
		memcpy(p + FX_FOP, &f->fop, 2);
		memcpy(p + FX_FIP, &f->fip, wide ? 8 : 4);
		memcpy(p + FX_FDP, &f->fdp, wide ? 8 : 4);
	}
	if (pointers && !wide) {
		memcpy(p + FX_FIP + 4, &f->fcs, 2);
		memcpy(p + FX_FDP + 4, &f->fds, 2);
	}
	memcpy(p + FX_MXCSR, &c->mxcsr, 4);
	memcpy(p + FX_MASK, &mask, 4);
	for (n = 0; n < 8; n++)
		memcpy(p + FX_ST + 16 * n, &f->st[(t + n) & 7], 10);
	for (n = 0; n < xmms; n++)
		memcpy(p + FX_XMM + 16 * n, &c->v[n], 16);
}

static void
image_set(
    struct cpu *c, const uint8_t *p, bool wide, bool pointers, unsigned xmms)
{
	struct x87 *f = &c->x87;
	unsigned n, t;

	memcpy(&f->cw, p + FX_FCW, 2);
	f->cw = (f->cw & 0x1f3f) | 0x40;
	memcpy(&f->sw, p + FX_FSW, 2);
	t = f->sw >> X87_TOP_SHIFT & 7;
	f->empty = (uint8_t)~p[FX_FTW];
	x87_summarize(f);
	if (pointers || (f->sw & X87_ES)) {
		memcpy(&f->fop, p + FX_FOP, 2);
		f->fop &= 0x7ff;
		f->fip = f->fdp = 0;
		f->fcs = f->fds = 0;
		memcpy(&f->fip, p + FX_FIP, wide ? 8 : 4);
		memcpy(&f->fdp, p + FX_FDP, wide ? 8 : 4);
		f->fip = pointer_extend(f->fip);
		f->fdp = pointer_extend(f->fdp);
		if (!wide) {
			memcpy(&f->fcs, p + FX_FIP + 4, 2);
			memcpy(&f->fds, p + FX_FDP + 4, 2);
		}
	}
	for (n = 0; n < 8; n++)
		memcpy(&f->st[(t + n) & 7], p + FX_ST + 16 * n, 10);
	for (n = 0; n < xmms; n++)
		memcpy(&c->v[n], p + FX_XMM + 16 * n, 16);
	if (xmms)
		memcpy(&c->mxcsr, p + FX_MXCSR, 4);
}

void
fp_image_get(const struct cpu *c, uint8_t *image)
{
	memset(image, 0, FX_SIZE);
	image_get(c, image, true, true, 16);
}

void
fp_image_set(struct cpu *c, const uint8_t *image)
{
	image_set(c, image, true, true, 16);
}

static unsigned
xmm_count(const struct cpu *c)
{
	if (!(c->cr4 & CR4_OSFXSR))
		return 0;
	return c->mode == 8 ? 16 : 8;
}

static uint64_t
enter_fx(struct cpu *c, const struct insn *i, bool write)
{
	uint64_t lin;

	c->fault_insn = i;
	if (c->cr0 & (CR0_EM | CR0_TS))
		cpu_raise(c, EXC_NM, 0);
	lin = insn_lin(c, i, FX_SIZE, write);
	fp_check_alignment(c, i, lin, 4);
	if (lin & 15)
		cpu_raise_gp(c, i, 0);
	return lin;
}

static void
fxsave(struct cpu *c, const struct insn *i)
{
	uint64_t lin = enter_fx(c, i, true);
	unsigned xmms = xmm_count(c);
	uint8_t image[FX_SIZE];

	mem_probe_write(c, i, lin, FX_SIZE);
	image_get(c, image, i->flags & INSN_REXW, c->x87.sw & X87_ES, xmms);
	mem_write(c, i, lin, image, FX_XMM + 16 * xmms);
}

static void
fxrstor(struct cpu *c, const struct insn *i)
{
	uint64_t lin = enter_fx(c, i, false);
	unsigned xmms = xmm_count(c);
	uint8_t image[FX_SIZE];
	uint32_t mxcsr;

	mem_read(c, i, lin, image, FX_SIZE);
	memcpy(&mxcsr, image + FX_MXCSR, 4);
	if (xmms && (mxcsr & ~MXCSR_MASK))
		cpu_raise_gp(c, i, 0);
	image_set(c, image, i->flags & INSN_REXW, false, xmms);
}

static void
ldmxcsr(struct cpu *c, const struct insn *i)
{
	uint32_t v;

	fp_enter_sse(c, i);
	v = mem_read32(c, i, insn_lin(c, i, 4, false));
	if (v & ~MXCSR_MASK)
		cpu_raise_gp(c, i, 0);
	c->mxcsr = v;
}

static void
stmxcsr(struct cpu *c, const struct insn *i)
{
	fp_enter_sse(c, i);
	mem_write32(c, i, insn_lin(c, i, 4, true), c->mxcsr);
}

static void
group15(struct cpu *c, const struct insn *i)
{
	bool mem = i->flags & INSN_MEM;

	switch ((i->reg & 7u) | (mem ? 0 : 8)) {
	case 0:
		fxsave(c, i);
		return;
	case 1:
		fxrstor(c, i);
		return;
	case 2:
		ldmxcsr(c, i);
		return;
	case 3:
		stmxcsr(c, i);
		return;
	case 7: /* CLFLUSH: a read of one byte, to every check */
		(void)mem_read8(c, i, insn_lin(c, i, 1, false));
		return;
	case 8 + 5:
	case 8 + 6:
	case 8 + 7: /* LFENCE, MFENCE, SFENCE */
		atomic_thread_fence(memory_order_seq_cst);
		return;
	default:
		cpu_raise_ud(c, i);
	}
}

OP(op_group15)
{
	group15(c, i);
	NEXT(c, i);
}
