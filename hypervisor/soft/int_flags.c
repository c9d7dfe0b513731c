/* Lazy arithmetic flags: what is not inlined. */
#include "hypervisor/soft/int_flags.h"

static uint64_t
carries(const struct lazy_flags *f)
{
	uint64_t a = f->src1, b = f->src2, r = f->result;

	if (f->op == LF_ADD || f->op == LF_ADC)
		return (a & b) | ((a | b) & ~r);
	return (~a & b) | ((~a | b) & r);
}

bool
lazy_cf_slow(const struct cpu *c)
{
	return carries(&c->lf) >> 63;
}

bool
lazy_of_slow(const struct cpu *c)
{
	uint64_t a = c->lf.src1, b = c->lf.src2, r = c->lf.result;

	if (c->lf.op == LF_ADD || c->lf.op == LF_ADC)
		return ((a ^ r) & (b ^ r)) >> 63;
	return ((a ^ b) & (a ^ r)) >> 63;
}

uint32_t
lazy_arith(const struct cpu *c)
{
	const struct lazy_flags *f = &c->lf;
	uint32_t fl;

	if (f->op == LF_FLAT)
		return f->arith & FL_ARITH;
	fl = (lazy_zf(c) ? FL_ZF : 0) | (lazy_sf(c) ? FL_SF : 0) |
	    (lazy_pf(c) ? FL_PF : 0);
	if (f->op == LF_RESULT)
		return fl | (f->arith & (FL_CF | FL_OF | FL_AF));
	return fl | (lazy_cf(c) ? FL_CF : 0) | (lazy_of(c) ? FL_OF : 0) |
	    ((f->src1 ^ f->src2 ^ f->result) & 0x10 ? FL_AF : 0);
}

uint32_t
flags_get(struct cpu *c)
{
	return (c->rflags & ~FL_ARITH) | lazy_arith(c) | 2;
}

void
flags_set_arith(struct cpu *c, uint32_t fl)
{
	c->lf.arith = fl & FL_ARITH;
	c->lf.op = LF_FLAT;
}

void
flags_set(struct cpu *c, uint32_t eflags)
{
	c->rflags = (eflags & ~FL_ARITH) | 2;
	flags_set_arith(c, eflags);
}
