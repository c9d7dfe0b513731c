/*
 * What the floating-point and SIMD handlers (fp_*.c) share: the checks before
 * an instruction, operands, and the lists from which handlers are made.
 *
 * The host is an x86-64 processor too, so an operation is done by the very
 * instruction it emulates, on the host's registers; only the operands, the
 * control bits and the exceptions are the guest's.
 */
#ifndef SOFT_FP_OPS_H
#define SOFT_FP_OPS_H

#include <emmintrin.h>
#include <string.h>

#include "hypervisor/soft/mmu.h"

/* MXCSR: the mask that FXSAVE reports; everything else is reserved. */
#define MXCSR_MASK	  0xffffu
#define MXCSR_DEFAULT	  0x1f80u
#define MXCSR_FLAGS	  0x003fu
#define MXCSR_MASKS_SHIFT 7
#define MXCSR_UM	  0x0800u
#define MXCSR_FTZ	  0x8000u
/* Rounding, flush to zero, denormals are zero. */
#define MXCSR_CONTROL 0xe040u

#define FX_IE	      0x01u
#define FX_DE	      0x02u
#define FX_ZE	      0x04u
#define FX_OE	      0x08u
#define FX_UE	      0x10u
#define FX_PE	      0x20u
/* Found before anything is computed: they hide those found after. */
#define FX_BEFORE (FX_IE | FX_DE | FX_ZE)

/* x87 status word. */
#define X87_SF	      0x40u
#define X87_ES	      0x80u
#define X87_C1	      0x200u
#define X87_B	      0x8000u
#define X87_TOP_SHIFT 11
#define X87_TOP	      (7u << X87_TOP_SHIFT)
#define X87_CW_INIT   0x37fu

/* ---- checks ---- */
/* Why the instruction may not run: #UD, #NM or #MF. */
NORETURN void fp_refuse_sse(struct cpu *c, const struct insn *i);
void fp_refuse_mmx(struct cpu *c, const struct insn *i);

static inline void
fp_enter_sse(struct cpu *c, const struct insn *i)
{
	if (UNLIKELY((c->cr0 & (CR0_EM | CR0_TS)) || !(c->cr4 & CR4_OSFXSR)))
		fp_refuse_sse(c, i);
}

static inline void
fp_enter_mmx(struct cpu *c, const struct insn *i)
{
	if (UNLIKELY((c->cr0 & (CR0_EM | CR0_TS)) || (c->x87.sw & X87_ES)))
		fp_refuse_mmx(c, i);
}

/* ---- registers ---- */
static inline __m128i
xmm_get(const struct cpu *c, unsigned n)
{
	return _mm_loadu_si128((const __m128i_u *)&c->v[n]);
}

static inline void
xmm_set(struct cpu *c, unsigned n, __m128i v)
{
	_mm_storeu_si128((__m128i_u *)&c->v[n], v);
}

static inline uint64_t
low64(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(v);
}

static inline __m128i
from64(uint64_t v)
{
	return _mm_cvtsi64_si128((int64_t)v);
}

/* MMX register n: the mantissa of physical x87 register n & 7. */
static inline uint64_t
mm_get(const struct cpu *c, unsigned n)
{
	uint64_t v;

	memcpy(&v, &c->x87.st[n & 7], sizeof(v));
	return v;
}

/* After the last thing that can fault: what every MMX instruction does to the
 * x87's stack. */
static inline void
mmx_mode(struct cpu *c)
{
	c->x87.sw &= (uint16_t)~X87_TOP;
	c->x87.empty = 0;
}

static inline void
mm_set(struct cpu *c, unsigned n, uint64_t v)
{
	static const uint16_t ones = 0xffff;
	char *p = (char *)&c->x87.st[n & 7];

	memcpy(p, &v, sizeof(v));
	memcpy(p + sizeof(v), &ones, sizeof(ones));
	mmx_mode(c);
}

/* EFLAGS.AC: what the accessors do for 2 to 8 bytes.  size: a power of 2. */
static inline void
fp_check_alignment(
    struct cpu *c, const struct insn *i, uint64_t lin, unsigned size)
{
	if (UNLIKELY(lin & (size - 1)) && c->cpl == 3 && (c->cr0 & CR0_AM) &&
	    (c->rflags & FL_AC)) {
		c->fault_insn = i;
		cpu_raise(c, EXC_AC, 0);
	}
}

/*
 * Memory operands, zero-extended to 128 bits.  A hit in the TLB is inline; the
 * slow ones (fp_sse.c) do every check.  a16: #GP if not aligned.
 */
__m128i fp_slow_load_a16(struct cpu *c, const struct insn *i);
__m128i fp_slow_load_16(struct cpu *c, const struct insn *i);
__m128i fp_slow_load_8(struct cpu *c, const struct insn *i);
__m128i fp_slow_load_4(struct cpu *c, const struct insn *i);
void fp_slow_store_a16(struct cpu *c, const struct insn *i, __m128i v);
void fp_slow_store_16(struct cpu *c, const struct insn *i, __m128i v);
void fp_slow_store_8(struct cpu *c, const struct insn *i, uint64_t v);
void fp_slow_store_4(struct cpu *c, const struct insn *i, uint32_t v);

ALWAYS_INLINE const void *
fp_fast_read(
    const struct cpu *c, const struct insn *i, unsigned size, unsigned align)
{
	uint64_t lin;

	if (UNLIKELY(!i->fast))
		return NULL;
	lin = cpu_lin_fast(c, i);
	return lin & (align - 1) ? NULL : tlb_read(c, lin, size);
}

ALWAYS_INLINE void *
fp_fast_write(
    const struct cpu *c, const struct insn *i, unsigned size, unsigned align)
{
	uint64_t lin;

	if (UNLIKELY(!i->fast))
		return NULL;
	lin = cpu_lin_fast(c, i);
	return lin & (align - 1) ? NULL : tlb_write(c, lin, size);
}

#define FP_FAST_LOAD(name, size, align, load)                        \
	ALWAYS_INLINE __m128i fp_load_##name(                        \
	    struct cpu *c, const struct insn *i)                     \
	{                                                            \
		const void *p = fp_fast_read(c, i, size, align);     \
                                                                     \
		return LIKELY(p) ? load : fp_slow_load_##name(c, i); \
	}
FP_FAST_LOAD(a16, 16, 16, _mm_loadu_si128((const __m128i_u *)p))
FP_FAST_LOAD(16, 16, 1, _mm_loadu_si128((const __m128i_u *)p))
FP_FAST_LOAD(8, 8, 1, from64(host_load(p, 8)))
FP_FAST_LOAD(4, 4, 1, from64(host_load(p, 4)))

#define FP_FAST_STORE(name, size, align, type, store)       \
	ALWAYS_INLINE void fp_store_##name(                 \
	    struct cpu *c, const struct insn *i, type v)    \
	{                                                   \
		void *p = fp_fast_write(c, i, size, align); \
                                                            \
		if (LIKELY(p))                              \
			store;                              \
		else                                        \
			fp_slow_store_##name(c, i, v);      \
	}
FP_FAST_STORE(a16, 16, 16, __m128i, _mm_storeu_si128((__m128i_u *)p, v))
FP_FAST_STORE(16, 16, 1, __m128i, _mm_storeu_si128((__m128i_u *)p, v))
FP_FAST_STORE(8, 8, 1, uint64_t, host_store(p, 8, v))
FP_FAST_STORE(4, 4, 1, uint32_t, host_store(p, 4, v))

/* The source operand: xmm register or memory, read by load. */
#define XMM_SRC(c, i, load) \
	((i)->flags & INSN_MEM ? load(c, i) : xmm_get(c, (i)->rm))
#define MM_SRC(c, i) \
	((i)->flags & INSN_MEM ? low64(fp_load_8(c, i)) : mm_get(c, (i)->rm))

/* Of MOVD and the like: a general register or memory, of 4 bytes or 8. */
static inline uint64_t
fp_gpr_load(struct cpu *c, const struct insn *i)
{
	if (!(i->flags & INSN_MEM))
		return i->flags & INSN_REXW ? c->reg[i->rm]
					    : (uint32_t)c->reg[i->rm];
	return low64(i->flags & INSN_REXW ? fp_load_8(c, i) : fp_load_4(c, i));
}

static inline void
fp_gpr_store(struct cpu *c, const struct insn *i, uint64_t v)
{
	if (!(i->flags & INSN_MEM))
		c->reg[i->rm] = i->flags & INSN_REXW ? v : (uint32_t)v;
	else if (i->flags & INSN_REXW)
		fp_store_8(c, i, v);
	else
		fp_store_4(c, i, (uint32_t)v);
}

/* Of PINSRW. */
static inline uint16_t
fp_word_load(struct cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? mem_read16(c, i, insn_lin(c, i, 2, false))
				   : (uint16_t)c->reg[i->rm];
}

/* ---- shifts by an immediate: groups 12 to 14 ---- */
#define FP_SHIFTS_12 0x54u /* ModRM.reg of those lane by lane */
#define FP_SHIFTS_13 0x54u
#define FP_SHIFTS_14 0x44u
#define FP_SHIFT(name, opcode, reg)                              \
	case (opcode) << 3 | (reg):                              \
		__asm__(#name " %1, %0" : "+x"(v) : "x"(count)); \
		break

/* #UD comes first if bit ModRM.reg of legal is clear. */
static inline void
fp_check_shift(struct cpu *c, const struct insn *i, unsigned legal)
{
	if (UNLIKELY(!(legal >> (i->reg & 7) & 1)))
		cpu_raise_ud(c, i);
}

/* One of FP_SHIFTS_12 to 14. */
static inline __m128i
fp_shift(const struct insn *i, __m128i v)
{
	__m128i count = from64(i->imm & 0xff);

	switch (i->opcode << 3 | (i->reg & 7)) {
		FP_SHIFT(psrlw, 0x71, 2);
		FP_SHIFT(psraw, 0x71, 4);
		FP_SHIFT(psllw, 0x71, 6);
		FP_SHIFT(psrld, 0x72, 2);
		FP_SHIFT(psrad, 0x72, 4);
		FP_SHIFT(pslld, 0x72, 6);
		FP_SHIFT(psrlq, 0x73, 2);
		FP_SHIFT(psllq, 0x73, 6);
	default:
		BUG_ON(true);
	}
	return v;
}

/* ---- arithmetic under the guest's MXCSR ---- */
typedef __m128i fp_calc(__m128i a, __m128i b);
/* What a result is made of: for underflow that is exact but not masked. */
enum fp_kind { FP_OTHER, FP_PS, FP_PD, FP_SS, FP_SD };

/* calc under any MXCSR; raises #XM, with nothing written but the flags. */
__m128i fp_eval_slow(struct cpu *c, const struct insn *i, fp_calc *calc,
    __m128i a, __m128i b, enum fp_kind kind);

struct fp_job {
	fp_calc *calc;
	__m128i a, b;
	enum fp_kind kind;
	uint32_t open; /* flags whose exceptions are not masked */
};

/* What job would raise of these operands (fp_sse.c). */
uint32_t fp_lane_flags(
    const struct cpu *c, const struct fp_job *job, __m128i a, __m128i b);
/* All that job raises, of i, where an unmasked overflow or underflow is among
 * it (fp_exact.c). */
uint32_t
fp_exact_flags(struct cpu *c, const struct insn *i, const struct fp_job *job);

/*
 * The common case is the host's own MXCSR (nearest, all masked), and flags
 * which stand in the guest's already: then nothing has to be loaded or merged.
 */
static inline __attribute__((always_inline)) __m128i
fp_eval(struct cpu *c, const struct insn *i, fp_calc *calc, __m128i a,
    __m128i b, enum fp_kind kind)
{
	if (__builtin_expect((c->mxcsr & ~MXCSR_FLAGS) == MXCSR_DEFAULT, 1)) {
		__m128i r = calc(a, b);

		if (__builtin_expect(
			!(_mm_getcsr() & ~c->mxcsr & MXCSR_FLAGS), 1))
			return r;
	}
	return fp_eval_slow(c, i, calc, a, b, kind);
}

/* ---- the lists ---- */
/* clang-format never agrees with itself about such lists. */
/* clang-format off */
/* Lane by lane, of 64 and of 128 bits: op_X and op_mmx_X. */
#define FP_INT_LANES(X)                                                        \
	X(paddb)                                                               \
	X(paddw)                                                               \
	X(paddd)                                                               \
	X(paddq)                                                               \
	X(psubb)                                                               \
	X(psubw)                                                               \
	X(psubd)                                                               \
	X(psubq)                                                               \
	X(paddsb) X(paddsw) X(paddusb) X(paddusw) X(psubsb) X(psubsw)          \
	    X(psubusb) X(psubusw) X(pmullw) X(pmulhw) X(pmulhuw) X(pmuludq)    \
		X(pmaddwd) X(psadbw) X(pavgb) X(pavgw) X(pminub) X(pminsw)     \
		    X(pmaxub) X(pmaxsw) X(pand) X(pandn) X(por) X(pxor)        \
			X(pcmpeqb) X(pcmpeqw) X(pcmpeqd) X(pcmpgtb) X(pcmpgtw) \
			    X(pcmpgtd) X(psrlw) X(psrld) X(psrlq) X(psraw)     \
				X(psrad) X(psllw) X(pslld) X(psllq)
/* Of 128 bits as above; of 64 bits they meet different bytes. */
#define FP_INT_UNPACK_LOW(X) X(punpcklbw) X(punpcklwd) X(punpckldq)
#define FP_INT_UNPACK_HIGH(X)   \
	X(punpckhbw, punpcklbw) \
	X(punpckhwd, punpcklwd) \
	X(punpckhdq, punpckldq)
#define FP_INT_PACK(X) X(packsswb) X(packssdw) X(packuswb)
/* Of 128 bits alone; any bits will do, so no exceptions. */
#define FP_XMM_LANES(X) \
	X(punpcklqdq)   \
	X(punpckhqdq)   \
	X(andps)        \
	X(andnps)       \
	X(orps)         \
	X(xorps)        \
	X(unpcklps) X(unpckhps) X(unpcklpd) X(unpckhpd) X(rcpps) X(rsqrtps)
/* Two operands, or one: dest = f(dest, src), with exceptions. */
#define FP_ARITH(X)                                                            \
	X(addps, fp_load_a16, FP_PS)                                           \
	X(addpd, fp_load_a16, FP_PD)                                           \
	X(addss, fp_load_4, FP_SS)                                             \
	X(addsd, fp_load_8, FP_SD)                                             \
	X(mulps, fp_load_a16, FP_PS)                                           \
	X(mulpd, fp_load_a16, FP_PD)                                           \
	X(mulss, fp_load_4, FP_SS)                                             \
	X(mulsd, fp_load_8, FP_SD)                                             \
	X(subps, fp_load_a16, FP_PS) X(subpd, fp_load_a16, FP_PD) X(           \
	    subss, fp_load_4, FP_SS) X(subsd, fp_load_8, FP_SD) X(divps,       \
	    fp_load_a16, FP_PS) X(divpd, fp_load_a16, FP_PD) X(divss,          \
	    fp_load_4, FP_SS) X(divsd, fp_load_8, FP_SD) X(minps, fp_load_a16, \
	    FP_OTHER) X(minpd, fp_load_a16, FP_OTHER) X(minss, fp_load_4,      \
	    FP_OTHER) X(minsd, fp_load_8, FP_OTHER) X(maxps, fp_load_a16,      \
	    FP_OTHER) X(maxpd, fp_load_a16, FP_OTHER) X(maxss, fp_load_4,      \
	    FP_OTHER) X(maxsd, fp_load_8, FP_OTHER) X(sqrtps, fp_load_a16,     \
	    FP_OTHER) X(sqrtpd, fp_load_a16, FP_OTHER)                         \
	    X(sqrtss, fp_load_4, FP_OTHER) X(sqrtsd, fp_load_8, FP_OTHER) X(   \
		cvtps2pd, fp_load_8, FP_OTHER) X(cvtpd2ps, fp_load_a16, FP_PS) \
		X(cvtss2sd, fp_load_4, FP_OTHER) X(cvtsd2ss, fp_load_8, FP_SS) \
		    X(cvtdq2ps, fp_load_a16, FP_OTHER)                         \
			X(cvtps2dq, fp_load_a16, FP_OTHER)                     \
			    X(cvttps2dq, fp_load_a16, FP_OTHER)                \
				X(cvttpd2dq, fp_load_a16, FP_OTHER)            \
				    X(cvtpd2dq, fp_load_a16, FP_OTHER)         \
					X(cvtdq2pd, fp_load_8, FP_OTHER)
#define FP_COMPARE(X)         \
	X(cmpps, fp_load_a16) \
	X(cmppd, fp_load_a16) X(cmpss, fp_load_4) X(cmpsd, fp_load_8)
#define FP_COMIS(X)           \
	X(ucomiss, fp_load_4) \
	X(ucomisd, fp_load_8) X(comiss, fp_load_4) X(comisd, fp_load_8)
/* Scalar to a general register. */
#define FP_TO_GPR(X)           \
	X(cvtss2si, fp_load_4) \
	X(cvttss2si, fp_load_4) X(cvtsd2si, fp_load_8) X(cvttsd2si, fp_load_8)
#define FP_FROM_GPR(X) X(cvtsi2ss, FP_OTHER) X(cvtsi2sd, FP_OTHER)
/* clang-format on */

#define FP_DECLARE_BOTH(name) \
	OP(op_##name);        \
	OP(op_mmx_##name);
#define FP_DECLARE_BOTH2(name, low) FP_DECLARE_BOTH(name)
#define FP_DECLARE(name)	    OP(op_##name);
#define FP_DECLARE2(name, a)	    OP(op_##name);
#define FP_DECLARE3(name, a, b)	    OP(op_##name);
FP_INT_LANES(FP_DECLARE_BOTH)
FP_INT_UNPACK_LOW(FP_DECLARE_BOTH)
FP_INT_UNPACK_HIGH(FP_DECLARE_BOTH2)
FP_INT_PACK(FP_DECLARE_BOTH)
FP_XMM_LANES(FP_DECLARE)
FP_ARITH(FP_DECLARE3)
FP_COMPARE(FP_DECLARE2)
FP_COMIS(FP_DECLARE2)
FP_TO_GPR(FP_DECLARE2)
FP_FROM_GPR(FP_DECLARE2)

/* ---- fp_sse.c: moves and the odd ones ---- */
OP(op_movups_load);
OP(op_movups_store);
OP(op_movaps_load);
OP(op_movaps_store);
OP(op_movss_load);
OP(op_movss_store);
OP(op_movsd_load);
OP(op_movsd_store);
OP(op_movlps_load); /* or movhlps */
OP(op_movhps_load); /* or movlhps */
OP(op_movlps_store);
OP(op_movhps_store);
OP(op_movmskps);
OP(op_movmskpd);
OP(op_rcpss);
OP(op_rsqrtss);
OP(op_shufps);
OP(op_shufpd);
OP(op_cvtpi2ps);
OP(op_cvtpi2pd);
OP(op_cvtps2pi);
OP(op_cvttps2pi);
OP(op_cvtpd2pi);
OP(op_cvttpd2pi);

/* ---- fp_sse_int.c ---- */
OP(op_movd_load);
OP(op_movd_store);
OP(op_movq_load);
OP(op_movq_store);
OP(op_pshufd);
OP(op_pshuflw);
OP(op_pshufhw);
OP(op_pinsrw);
OP(op_pextrw);
OP(op_pmovmskb);
OP(op_maskmovdqu);
OP(op_group12);
OP(op_group13);
OP(op_group14);
OP(op_movq2dq);
OP(op_movdq2q);

/* ---- fp_mmx.c ---- */
OP(op_mmx_movd_load);
OP(op_mmx_movd_store);
OP(op_mmx_movq_load);
OP(op_mmx_movq_store);
OP(op_mmx_pshufw);
OP(op_mmx_pinsrw);
OP(op_mmx_pextrw);
OP(op_mmx_pmovmskb);
OP(op_maskmovq);
OP(op_mmx_group12);
OP(op_mmx_group13);
OP(op_mmx_group14);
OP(op_emms);

/* ---- fp_state.c ---- */
OP(op_group15); /* 0F AE without a prefix */

/* The legacy area of XSAVE, 512 bytes: what FXSAVE64 writes, all XMM. */
void fp_image_get(const struct cpu *c, uint8_t *image);
/* The opposite; reserved bits of MXCSR must be 0. */
void fp_image_set(struct cpu *c, const uint8_t *image);

/* ---- fp_x87.c ---- */
/* As FNINIT does. */
void x87_init(struct cpu *c);
/* Recompute ES and B from flags and masks. */
void x87_summarize(struct x87 *f);

#endif
