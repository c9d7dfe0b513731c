/*
 * SSE: was a result inexact that raised an unmasked overflow or underflow?
 *
 * The processor rounds such a result as if its exponent had no limit, and
 * reports by MXCSR.PE whether that lost anything.  The host's SSE, with all
 * masked, tells of the number that does have a limit.  The x87 has room for
 * the exponent of any of these results, and its precision can be set.
 */
#include "hypervisor/soft/fp_ops.h"

#define MXCSR_RC_SHIFT 13
#define CW_RC_SHIFT    10
#define CW_MASKED      0x03fu
#define CW_DOUBLE      0x200u /* 53 bits; without it 24 */

#define ON_X87(insn)                                              \
	__asm__ volatile("fnclex\n\t"                             \
			 "fldcw %2\n\t" insn " %%st(1), %%st\n\t" \
			 "fnstsw %1\n\t"                          \
			 "fldcw %3"                               \
			 : "+t"(a), "=m"(sw)                      \
			 : "m"(cw), "m"(host), "u"(b))

/* By an opcode's last byte. */
static bool
inexact(unsigned opcode, uint16_t cw, long double a, long double b)
{
	static const uint16_t host = X87_CW_INIT;
	uint16_t sw;

	switch (opcode) {
	case 0x59:
		ON_X87("fmul");
		break;
	case 0x5c:
		ON_X87("fsub");
		break;
	case 0x5e:
		ON_X87("fdiv");
		break;
	default: /* a conversion, of b, adds it to 0 */
		ON_X87("fadd");
		break;
	}
	return sw & FX_PE;
}

static long double
widen(const union vreg *v, unsigned n, bool is_double)
{
	return is_double ? (long double)v->sd[n] : (long double)v->ss[n];
}

/* The lane alone, in every place of a vector. */
static __m128i
splat(const union vreg *v, unsigned n, bool is_double)
{
	return is_double ? _mm_set1_epi64x((long long)v->q[n])
			 : _mm_set1_epi32((int)v->d[n]);
}

uint32_t
fp_exact_flags(struct cpu *c, const struct insn *i, const struct fp_job *job)
{
	bool convert = i->opcode == 0x5a;
	bool to_double = job->kind == FP_PD || job->kind == FP_SD;
	bool from_double = to_double != convert;
	bool packed = job->kind == FP_PS || job->kind == FP_PD;
	unsigned n, lanes = !packed ? 1 : from_double ? 2 : 4;
	uint16_t cw = (uint16_t)(CW_MASKED | (to_double ? CW_DOUBLE : 0) |
	    (c->mxcsr >> MXCSR_RC_SHIFT & 3) << CW_RC_SHIFT);
	union vreg a, b;
	uint32_t all = 0;

	_mm_storeu_si128((__m128i_u *)&a, job->a);
	_mm_storeu_si128((__m128i_u *)&b, job->b);
	for (n = 0; n < lanes; n++) {
		uint32_t flags = fp_lane_flags(c, job,
		    splat(&a, n, from_double), splat(&b, n, from_double));

		if (flags & job->open & (FX_OE | FX_UE)) {
			flags &= ~FX_PE;
			if (inexact(i->opcode, cw,
				convert ? 0 : widen(&a, n, from_double),
				widen(&b, n, from_double)))
				flags |= FX_PE;
		}
		all |= flags;
	}
	return all;
}
