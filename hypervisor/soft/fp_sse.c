/* SSE and SSE2 on floating-point numbers: moves, arithmetic, conversions. */
#include "hypervisor/soft/fp_ops.h"

/* ---- checks and memory operands ---- */
void
fp_refuse_sse(struct cpu *c, const struct insn *i)
{
	if ((c->cr0 & CR0_EM) || !(c->cr4 & CR4_OSFXSR))
		cpu_raise_ud(c, i);
	c->fault_insn = i;
	cpu_raise(c, EXC_NM, 0);
}

__m128i
fp_slow_load_a16(struct cpu *c, const struct insn *i)
{
	__m128i v;

	mem_read(c, i, insn_lin_a16(c, i, false), &v, sizeof(v));
	return v;
}

__m128i
fp_slow_load_16(struct cpu *c, const struct insn *i)
{
	uint64_t lin = insn_lin(c, i, 16, false);
	__m128i v;

	fp_check_alignment(c, i, lin, 16);
	mem_read(c, i, lin, &v, sizeof(v));
	return v;
}

__m128i
fp_slow_load_8(struct cpu *c, const struct insn *i)
{
	return from64(mem_read64(c, i, insn_lin(c, i, 8, false)));
}

__m128i
fp_slow_load_4(struct cpu *c, const struct insn *i)
{
	return from64(mem_read32(c, i, insn_lin(c, i, 4, false)));
}

void
fp_slow_store_a16(struct cpu *c, const struct insn *i, __m128i v)
{
	mem_write(c, i, insn_lin_a16(c, i, true), &v, sizeof(v));
}

void
fp_slow_store_16(struct cpu *c, const struct insn *i, __m128i v)
{
	uint64_t lin = insn_lin(c, i, 16, true);

	fp_check_alignment(c, i, lin, 16);
	mem_write(c, i, lin, &v, sizeof(v));
}

void
fp_slow_store_8(struct cpu *c, const struct insn *i, uint64_t v)
{
	mem_write64(c, i, insn_lin(c, i, 8, true), v);
}

void
fp_slow_store_4(struct cpu *c, const struct insn *i, uint32_t v)
{
	mem_write32(c, i, insn_lin(c, i, 4, true), v);
}

/* ---- arithmetic under the guest's MXCSR ---- */
static bool
any_denormal(__m128i v, enum fp_kind kind)
{
	union vreg u;
	unsigned n;

	_mm_storeu_si128((__m128i_u *)&u, v);
	if (kind == FP_PS || kind == FP_SS) {
		for (n = 0; n < (kind == FP_PS ? 4u : 1u); n++)
			if (!(u.d[n] & 0x7f800000u) && (u.d[n] & 0x7fffffu))
				return true;
	} else if (kind == FP_PD || kind == FP_SD) {
		for (n = 0; n < (kind == FP_PD ? 2u : 1u); n++)
			if (!(u.q[n] & 0x7ff0000000000000u) &&
			    (u.q[n] & 0xfffffffffffffu))
				return true;
	}
	return false;
}

/* The operation under the guest's control bits; the flags that it raises. */
static uint32_t
calculate(const struct cpu *c, const struct fp_job *job, __m128i *r)
{
	uint32_t run = (c->mxcsr & MXCSR_CONTROL) | MXCSR_DEFAULT, flags;

	/* Unmasked underflow turns flushing to zero off, and comes for every
	 * tiny result, where masked underflow is only for the inexact. */
	if (!(c->mxcsr & MXCSR_UM))
		run &= ~MXCSR_FTZ;
	_mm_setcsr(run);
	*r = job->calc(job->a, job->b);
	flags = _mm_getcsr() & MXCSR_FLAGS;
	_mm_setcsr(MXCSR_DEFAULT);
	if (!(c->mxcsr & MXCSR_UM) && any_denormal(*r, job->kind))
		flags |= FX_UE;
	return flags;
}

uint32_t
fp_lane_flags(
    const struct cpu *c, const struct fp_job *job, __m128i a, __m128i b)
{
	struct fp_job lane = *job;
	__m128i r;

	lane.a = a;
	lane.b = b;
	return calculate(c, &lane, &r);
}

__m128i
fp_eval_slow(struct cpu *c, const struct insn *i, fp_calc *calc, __m128i a,
    __m128i b, enum fp_kind kind)
{
	const struct fp_job job = {
		.calc = calc,
		.a = a,
		.b = b,
		.kind = kind,
		.open = ~(c->mxcsr >> MXCSR_MASKS_SHIFT) & MXCSR_FLAGS,
	};
	__m128i r;
	uint32_t flags = calculate(c, &job, &r);

	if (flags & job.open & FX_BEFORE)
		flags &= FX_BEFORE;
	else if (flags & job.open & (FX_OE | FX_UE))
		flags = fp_exact_flags(c, i, &job);
	c->mxcsr |= flags;
	if (flags & job.open) {
		c->fault_insn = i;
		cpu_raise(c, c->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
	}
	return r;
}

/* Volatile keeps an operation between the reads and writes of MXCSR. */
#define DEFINE_ARITH(name, load, kind)                                        \
	static __m128i name##_calc(__m128i a, __m128i b)                      \
	{                                                                     \
		__asm__ volatile(#name " %1, %0" : "+x"(a) : "x"(b));         \
		return a;                                                     \
	}                                                                     \
	OP(op_##name)                                                         \
	{                                                                     \
		__m128i b;                                                    \
                                                                              \
		fp_enter_sse(c, i);                                           \
		b = XMM_SRC(c, i, load);                                      \
		xmm_set(c, i->reg,                                            \
		    fp_eval(c, i, name##_calc, xmm_get(c, i->reg), b, kind)); \
		NEXT(c, i);                                                   \
	}
FP_ARITH(DEFINE_ARITH)

#define DEFINE_PREDICATE(name, n)                                              \
	static __m128i name##_calc##n(__m128i a, __m128i b)                    \
	{                                                                      \
		__asm__ volatile(#name " $" #n ", %1, %0" : "+x"(a) : "x"(b)); \
		return a;                                                      \
	}
#define DEFINE_COMPARE(name, load)                                            \
	DEFINE_PREDICATE(name, 0)                                             \
	DEFINE_PREDICATE(name, 1)                                             \
	DEFINE_PREDICATE(name, 2)                                             \
	DEFINE_PREDICATE(name, 3)                                             \
	DEFINE_PREDICATE(name, 4)                                             \
	DEFINE_PREDICATE(name, 5)                                             \
	DEFINE_PREDICATE(name, 6)                                             \
	DEFINE_PREDICATE(name, 7)                                             \
	OP(op_##name)                                                         \
	{                                                                     \
		static fp_calc *const calc[8] = { name##_calc0, name##_calc1, \
			name##_calc2, name##_calc3, name##_calc4,             \
			name##_calc5, name##_calc6, name##_calc7 };           \
		__m128i b;                                                    \
                                                                              \
		fp_enter_sse(c, i);                                           \
		b = XMM_SRC(c, i, load);                                      \
		xmm_set(c, i->reg,                                            \
		    fp_eval(c, i, calc[i->imm & 7], xmm_get(c, i->reg), b,    \
			FP_OTHER));                                           \
		NEXT(c, i);                                                   \
	}
FP_COMPARE(DEFINE_COMPARE)

/* The result is EFLAGS. */
#define DEFINE_COMIS(name, load)                                               \
	static __m128i name##_calc(__m128i a, __m128i b)                       \
	{                                                                      \
		bool zf, pf, cf;                                               \
                                                                               \
		__asm__ volatile(#name " %4, %3"                               \
				 : "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf)       \
				 : "x"(a), "x"(b));                            \
		return from64(                                                 \
		    (zf ? FL_ZF : 0) | (pf ? FL_PF : 0) | (cf ? FL_CF : 0));   \
	}                                                                      \
	OP(op_##name)                                                          \
	{                                                                      \
		__m128i b;                                                     \
                                                                               \
		fp_enter_sse(c, i);                                            \
		b = XMM_SRC(c, i, load);                                       \
		flags_set_arith(c,                                             \
		    (uint32_t)low64(fp_eval(                                   \
			c, i, name##_calc, xmm_get(c, i->reg), b, FP_OTHER))); \
		NEXT(c, i);                                                    \
	}
FP_COMIS(DEFINE_COMIS)

#define DEFINE_TO_GPR(name, load)                                         \
	static __m128i name##_calc32(__m128i a UNUSED, __m128i b)         \
	{                                                                 \
		uint32_t r;                                               \
                                                                          \
		__asm__ volatile(#name "l %1, %0" : "=r"(r) : "x"(b));    \
		return from64(r);                                         \
	}                                                                 \
	static __m128i name##_calc64(__m128i a UNUSED, __m128i b)         \
	{                                                                 \
		uint64_t r;                                               \
                                                                          \
		__asm__ volatile(#name "q %1, %0" : "=r"(r) : "x"(b));    \
		return from64(r);                                         \
	}                                                                 \
	OP(op_##name)                                                     \
	{                                                                 \
		__m128i b;                                                \
                                                                          \
		fp_enter_sse(c, i);                                       \
		b = XMM_SRC(c, i, load);                                  \
		if (i->flags & INSN_REXW)                                 \
			b = fp_eval(c, i, name##_calc64, b, b, FP_OTHER); \
		else                                                      \
			b = fp_eval(c, i, name##_calc32, b, b, FP_OTHER); \
		c->reg[i->reg] = low64(b);                                \
		NEXT(c, i);                                               \
	}
FP_TO_GPR(DEFINE_TO_GPR)

#define DEFINE_FROM_GPR(name, kind)                                    \
	static __m128i name##_calc32(__m128i a, __m128i b)             \
	{                                                              \
		uint32_t n = (uint32_t)low64(b);                       \
                                                                       \
		__asm__ volatile(#name "l %1, %0" : "+x"(a) : "r"(n)); \
		return a;                                              \
	}                                                              \
	static __m128i name##_calc64(__m128i a, __m128i b)             \
	{                                                              \
		uint64_t n = low64(b);                                 \
                                                                       \
		__asm__ volatile(#name "q %1, %0" : "+x"(a) : "r"(n)); \
		return a;                                              \
	}                                                              \
	OP(op_##name)                                                  \
	{                                                              \
		__m128i a, b;                                          \
                                                                       \
		fp_enter_sse(c, i);                                    \
		b = from64(fp_gpr_load(c, i));                         \
		a = xmm_get(c, i->reg);                                \
		if (i->flags & INSN_REXW)                              \
			a = fp_eval(c, i, name##_calc64, a, b, kind);  \
		else                                                   \
			a = fp_eval(c, i, name##_calc32, a, b, kind);  \
		xmm_set(c, i->reg, a);                                 \
		NEXT(c, i);                                            \
	}
FP_FROM_GPR(DEFINE_FROM_GPR)

/* ---- no exceptions: approximations, logic, shuffles ---- */
#define DEFINE_XMM(name)                                     \
	OP(op_##name)                                        \
	{                                                    \
		__m128i a, b;                                \
                                                             \
		fp_enter_sse(c, i);                          \
		b = XMM_SRC(c, i, fp_load_a16);              \
		a = xmm_get(c, i->reg);                      \
		__asm__(#name " %1, %0" : "+x"(a) : "x"(b)); \
		xmm_set(c, i->reg, a);                       \
		NEXT(c, i);                                  \
	}
FP_XMM_LANES(DEFINE_XMM)

OP(op_rcpss)
{
	__m128i a, b;

	fp_enter_sse(c, i);
	b = XMM_SRC(c, i, fp_load_4);
	a = xmm_get(c, i->reg);
	__asm__("rcpss %1, %0" : "+x"(a) : "x"(b));
	xmm_set(c, i->reg, a);
	NEXT(c, i);
}

OP(op_rsqrtss)
{
	__m128i a, b;

	fp_enter_sse(c, i);
	b = XMM_SRC(c, i, fp_load_4);
	a = xmm_get(c, i->reg);
	__asm__("rsqrtss %1, %0" : "+x"(a) : "x"(b));
	xmm_set(c, i->reg, a);
	NEXT(c, i);
}

static inline uint32_t
lane32(const union vreg *v, uint64_t selector)
{
	return v->d[selector & 3];
}

static void
shufps(struct cpu *c, const struct insn *i, __m128i src)
{
	union vreg *d = &c->v[i->reg], a = *d, b;

	_mm_storeu_si128((__m128i_u *)&b, src);
	d->d[0] = lane32(&a, i->imm);
	d->d[1] = lane32(&a, i->imm >> 2);
	d->d[2] = lane32(&b, i->imm >> 4);
	d->d[3] = lane32(&b, i->imm >> 6);
}

OP(op_shufps)
{
	fp_enter_sse(c, i);
	shufps(c, i, XMM_SRC(c, i, fp_load_a16));
	NEXT(c, i);
}

OP(op_shufpd)
{
	__m128i a, b, lo, hi;

	fp_enter_sse(c, i);
	b = XMM_SRC(c, i, fp_load_a16);
	a = xmm_get(c, i->reg);
	lo = i->imm & 1 ? _mm_unpackhi_epi64(a, a) : a;
	hi = i->imm & 2 ? _mm_unpackhi_epi64(b, b) : b;
	xmm_set(c, i->reg, _mm_unpacklo_epi64(lo, hi));
	NEXT(c, i);
}

/* ---- moves ---- */
OP(op_movups_load)
{
	fp_enter_sse(c, i);
	xmm_set(c, i->reg, XMM_SRC(c, i, fp_load_16));
	NEXT(c, i);
}

OP(op_movups_store)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		fp_store_16(c, i, xmm_get(c, i->reg));
	else
		xmm_set(c, i->rm, xmm_get(c, i->reg));
	NEXT(c, i);
}

OP(op_movaps_load)
{
	fp_enter_sse(c, i);
	xmm_set(c, i->reg, XMM_SRC(c, i, fp_load_a16));
	NEXT(c, i);
}

OP(op_movaps_store)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		fp_store_a16(c, i, xmm_get(c, i->reg));
	else
		xmm_set(c, i->rm, xmm_get(c, i->reg));
	NEXT(c, i);
}

/* From memory the rest becomes zero; from a register it stays. */
OP(op_movss_load)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		xmm_set(c, i->reg, fp_load_4(c, i));
	else
		c->v[i->reg].d[0] = c->v[i->rm].d[0];
	NEXT(c, i);
}

OP(op_movss_store)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		fp_store_4(c, i, c->v[i->reg].d[0]);
	else
		c->v[i->rm].d[0] = c->v[i->reg].d[0];
	NEXT(c, i);
}

OP(op_movsd_load)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		xmm_set(c, i->reg, fp_load_8(c, i));
	else
		c->v[i->reg].q[0] = c->v[i->rm].q[0];
	NEXT(c, i);
}

OP(op_movsd_store)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		fp_store_8(c, i, c->v[i->reg].q[0]);
	else
		c->v[i->rm].q[0] = c->v[i->reg].q[0];
	NEXT(c, i);
}

OP(op_movlps_load)
{
	fp_enter_sse(c, i);
	c->v[i->reg].q[0] =
	    i->flags & INSN_MEM ? low64(fp_load_8(c, i)) : c->v[i->rm].q[1];
	NEXT(c, i);
}

OP(op_movhps_load)
{
	fp_enter_sse(c, i);
	c->v[i->reg].q[1] =
	    i->flags & INSN_MEM ? low64(fp_load_8(c, i)) : c->v[i->rm].q[0];
	NEXT(c, i);
}

OP(op_movlps_store)
{
	fp_enter_sse(c, i);
	fp_store_8(c, i, c->v[i->reg].q[0]);
	NEXT(c, i);
}

OP(op_movhps_store)
{
	fp_enter_sse(c, i);
	fp_store_8(c, i, c->v[i->reg].q[1]);
	NEXT(c, i);
}

OP(op_movmskps)
{
	fp_enter_sse(c, i);
	c->reg[i->reg] =
	    (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(xmm_get(c, i->rm)));
	NEXT(c, i);
}

OP(op_movmskpd)
{
	fp_enter_sse(c, i);
	c->reg[i->reg] =
	    (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(xmm_get(c, i->rm)));
	NEXT(c, i);
}

/* ---- conversions with an MMX operand ---- */
static inline void
enter_both(struct cpu *c, const struct insn *i)
{
	fp_enter_sse(c, i);
	fp_enter_mmx(c, i);
}

/* From memory they leave the x87 alone; else its stack changes even if #XM
 * follows.  The unused upper half is zero: it raises nothing. */
static uint64_t
from_mmx(struct cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return low64(fp_load_8(c, i));
	fp_enter_mmx(c, i);
	mmx_mode(c);
	return mm_get(c, i->rm);
}

OP(op_cvtpi2ps)
{
	__m128i r;

	fp_enter_sse(c, i);
	r = fp_eval(c, i, cvtdq2ps_calc, _mm_setzero_si128(),
	    from64(from_mmx(c, i)), FP_OTHER);
	c->v[i->reg].q[0] = low64(r);
	NEXT(c, i);
}

OP(op_cvtpi2pd)
{
	__m128i r;

	fp_enter_sse(c, i);
	r = fp_eval(c, i, cvtdq2pd_calc, _mm_setzero_si128(),
	    from64(from_mmx(c, i)), FP_OTHER);
	xmm_set(c, i->reg, r);
	NEXT(c, i);
}

static void
to_mmx(struct cpu *c, const struct insn *i, __m128i src, fp_calc *calc)
{
	__m128i r;

	/* This much happens even if #XM follows. */
	mmx_mode(c);
	r = fp_eval_slow(c, i, calc, _mm_setzero_si128(), src, FP_OTHER);
	mm_set(c, i->reg, low64(r));
}

OP(op_cvtps2pi)
{
	enter_both(c, i);
	to_mmx(c, i, _mm_move_epi64(XMM_SRC(c, i, fp_load_8)), cvtps2dq_calc);
	NEXT(c, i);
}

OP(op_cvttps2pi)
{
	enter_both(c, i);
	to_mmx(c, i, _mm_move_epi64(XMM_SRC(c, i, fp_load_8)), cvttps2dq_calc);
	NEXT(c, i);
}

OP(op_cvtpd2pi)
{
	enter_both(c, i);
	to_mmx(c, i, XMM_SRC(c, i, fp_load_a16), cvtpd2dq_calc);
	NEXT(c, i);
}

OP(op_cvttpd2pi)
{
	enter_both(c, i);
	to_mmx(c, i, XMM_SRC(c, i, fp_load_a16), cvttpd2dq_calc);
	NEXT(c, i);
}
