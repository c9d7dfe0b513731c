/*
 * Lazy arithmetic flags.
 *
 * Operands and result are kept sign-extended to 64 bits, which preserves both
 * orders, carries and the sign: no formula below needs the operand size.
 *
 * LF_FLAT	the six flags stand in arith
 * LF_RESULT	ZF, SF, PF by result; CF, OF, AF in arith
 * LF_ADD LF_SUB	of src1, src2; LF_ADC, LF_SBB: with a carry in
 */
#ifndef SOFT_INT_FLAGS_H
#define SOFT_INT_FLAGS_H

#include "hypervisor/soft/mmu.h"

enum lazy { LF_FLAT, LF_RESULT, LF_ADD, LF_SUB, LF_ADC, LF_SBB };

uint32_t lazy_arith(const struct cpu *c); /* the six flags */
bool lazy_cf_slow(const struct cpu *c);
bool lazy_of_slow(const struct cpu *c);

ALWAYS_INLINE void
lazy_set(
    struct cpu *c, enum lazy op, uint64_t result, uint64_t src1, uint64_t src2)
{
	c->lf.result = result;
	c->lf.src1 = src1;
	c->lf.src2 = src2;
	c->lf.op = op;
}

/* ZF, SF, PF by result, the others as given. */
ALWAYS_INLINE void
lazy_result(struct cpu *c, uint64_t result, uint32_t cf_of_af)
{
	c->lf.result = result;
	c->lf.op = LF_RESULT;
	c->lf.arith = cf_of_af;
}

ALWAYS_INLINE bool
lazy_zf(const struct cpu *c)
{
	if (UNLIKELY(c->lf.op == LF_FLAT))
		return (c->lf.arith & FL_ZF) != 0;
	return c->lf.result == 0;
}

ALWAYS_INLINE bool
lazy_sf(const struct cpu *c)
{
	if (UNLIKELY(c->lf.op == LF_FLAT))
		return (c->lf.arith & FL_SF) != 0;
	return (int64_t)c->lf.result < 0;
}

ALWAYS_INLINE bool
lazy_pf(const struct cpu *c)
{
	if (UNLIKELY(c->lf.op == LF_FLAT))
		return (c->lf.arith & FL_PF) != 0;
	return !__builtin_parity((unsigned)c->lf.result & 0xff);
}

ALWAYS_INLINE bool
lazy_cf(const struct cpu *c)
{
	if (LIKELY(c->lf.op == LF_SUB))
		return c->lf.src1 < c->lf.src2;
	if (c->lf.op <= LF_RESULT)
		return (c->lf.arith & FL_CF) != 0;
	return lazy_cf_slow(c);
}

ALWAYS_INLINE bool
lazy_of(const struct cpu *c)
{
	if (c->lf.op <= LF_RESULT)
		return (c->lf.arith & FL_OF) != 0;
	return lazy_of_slow(c);
}

/* SF != OF */
ALWAYS_INLINE bool
lazy_less(const struct cpu *c)
{
	if (LIKELY(c->lf.op == LF_SUB))
		return (int64_t)c->lf.src1 < (int64_t)c->lf.src2;
	return lazy_sf(c) != lazy_of(c);
}

/* Condition code cc of jcc, setcc, cmovcc. */
ALWAYS_INLINE bool
lazy_cond(const struct cpu *c, unsigned cc)
{
	bool yes;

	switch (cc >> 1) {
	case 0:
		yes = lazy_of(c);
		break;
	case 1:
		yes = lazy_cf(c);
		break;
	case 2:
		yes = lazy_zf(c);
		break;
	case 3:
		if (LIKELY(c->lf.op == LF_SUB))
			yes = c->lf.src1 <= c->lf.src2;
		else
			yes = lazy_cf(c) || lazy_zf(c);
		break;
	case 4:
		yes = lazy_sf(c);
		break;
	case 5:
		yes = lazy_pf(c);
		break;
	case 6:
		yes = lazy_less(c);
		break;
	default:
		if (LIKELY(c->lf.op == LF_SUB))
			yes = (int64_t)c->lf.src1 <= (int64_t)c->lf.src2;
		else
			yes = lazy_less(c) || lazy_zf(c);
		break;
	}
	return yes != (cc & 1);
}

/* Replace those of CF, OF and AF that are in mask. */
ALWAYS_INLINE void
lazy_replace(struct cpu *c, uint32_t mask, uint32_t fl)
{
	if (UNLIKELY(c->lf.op > LF_RESULT)) {
		c->lf.arith = lazy_arith(c);
		c->lf.op = LF_FLAT;
	}
	c->lf.arith = (c->lf.arith & ~mask) | fl;
}

static inline void
lazy_set_cf(struct cpu *c, bool cf)
{
	lazy_replace(c, FL_CF, cf ? FL_CF : 0);
}

#endif
