/*
 * MMX: the 64-bit forms.  They are done in the low half of an XMM register, so
 * that the host's own x87 stack is never touched.
 */
#include "hypervisor/soft/fp_ops.h"

void
fp_refuse_mmx(struct cpu *c, const struct insn *i)
{
	if (c->cr0 & CR0_EM)
		cpu_raise_ud(c, i);
	if (!(c->cr0 & CR0_TS) && !(c->cr0 & CR0_NE))
		return;
	c->fault_insn = i;
	cpu_raise(c, c->cr0 & CR0_TS ? EXC_NM : EXC_MF, 0);
}

#define DEFINE_MMX(name)                                     \
	OP(op_mmx_##name)                                    \
	{                                                    \
		__m128i a, b;                                \
                                                             \
		fp_enter_mmx(c, i);                          \
		b = from64(MM_SRC(c, i));                    \
		a = from64(mm_get(c, i->reg));               \
		__asm__(#name " %1, %0" : "+x"(a) : "x"(b)); \
		mm_set(c, i->reg, low64(a));                 \
		NEXT(c, i);                                  \
	}
FP_INT_LANES(DEFINE_MMX)

/* The low forms read but half of the source. */
#define DEFINE_UNPACK_LOW(name)                                     \
	OP(op_mmx_##name)                                           \
	{                                                           \
		__m128i a, b;                                       \
                                                                    \
		fp_enter_mmx(c, i);                                 \
		b = i->flags & INSN_MEM ? fp_load_4(c, i)           \
					: from64(mm_get(c, i->rm)); \
		a = from64(mm_get(c, i->reg));                      \
		__asm__(#name " %1, %0" : "+x"(a) : "x"(b));        \
		mm_set(c, i->reg, low64(a));                        \
		NEXT(c, i);                                         \
	}
FP_INT_UNPACK_LOW(DEFINE_UNPACK_LOW)

#define DEFINE_UNPACK_HIGH(name, low)                           \
	OP(op_mmx_##name)                                       \
	{                                                       \
		__m128i a, b;                                   \
                                                                \
		fp_enter_mmx(c, i);                             \
		b = from64(MM_SRC(c, i));                       \
		a = from64(mm_get(c, i->reg));                  \
		__asm__(#low " %1, %0" : "+x"(a) : "x"(b));     \
		mm_set(c, i->reg, low64(_mm_srli_si128(a, 8))); \
		NEXT(c, i);                                     \
	}
FP_INT_UNPACK_HIGH(DEFINE_UNPACK_HIGH)

#define DEFINE_PACK(name)                                             \
	OP(op_mmx_##name)                                             \
	{                                                             \
		__m128i a;                                            \
                                                                      \
		fp_enter_mmx(c, i);                                   \
		a = _mm_unpacklo_epi64(                               \
		    from64(mm_get(c, i->reg)), from64(MM_SRC(c, i))); \
		__asm__(#name " %0, %0" : "+x"(a));                   \
		mm_set(c, i->reg, low64(a));                          \
		NEXT(c, i);                                           \
	}
FP_INT_PACK(DEFINE_PACK)

OP(op_mmx_movd_load)
{
	fp_enter_mmx(c, i);
	mm_set(c, i->reg, fp_gpr_load(c, i));
	NEXT(c, i);
}

OP(op_mmx_movd_store)
{
	fp_enter_mmx(c, i);
	fp_gpr_store(c, i, mm_get(c, i->reg));
	mmx_mode(c);
	NEXT(c, i);
}

OP(op_mmx_movq_load)
{
	fp_enter_mmx(c, i);
	mm_set(c, i->reg, MM_SRC(c, i));
	NEXT(c, i);
}

OP(op_mmx_movq_store)
{
	fp_enter_mmx(c, i);
	if (i->flags & INSN_MEM) {
		fp_store_8(c, i, mm_get(c, i->reg));
		mmx_mode(c);
	} else {
		mm_set(c, i->rm, mm_get(c, i->reg));
	}
	NEXT(c, i);
}

OP(op_mmx_pshufw)
{
	uint64_t s, r = 0;
	unsigned n;

	fp_enter_mmx(c, i);
	s = MM_SRC(c, i);
	for (n = 0; n < 4; n++)
		r |= (s >> 16 * (i->imm >> 2 * n & 3) & 0xffff) << 16 * n;
	mm_set(c, i->reg, r);
	NEXT(c, i);
}

OP(op_mmx_pinsrw)
{
	uint64_t v;
	unsigned shift = 16 * (i->imm & 3);

	fp_enter_mmx(c, i);
	v = fp_word_load(c, i);
	mm_set(c, i->reg,
	    (mm_get(c, i->reg) & ~((uint64_t)0xffff << shift)) | v << shift);
	NEXT(c, i);
}

OP(op_mmx_pextrw)
{
	fp_enter_mmx(c, i);
	c->reg[i->reg] = (uint16_t)(mm_get(c, i->rm) >> 16 * (i->imm & 3));
	mmx_mode(c);
	NEXT(c, i);
}

OP(op_mmx_pmovmskb)
{
	fp_enter_mmx(c, i);
	c->reg[i->reg] = (uint32_t)_mm_movemask_epi8(from64(mm_get(c, i->rm)));
	mmx_mode(c);
	NEXT(c, i);
}

#define DEFINE_GROUP(group, legal)                                           \
	OP(op_mmx_##group)                                                   \
	{                                                                    \
		fp_check_shift(c, i, legal);                                 \
		fp_enter_mmx(c, i);                                          \
		mm_set(                                                      \
		    c, i->rm, low64(fp_shift(i, from64(mm_get(c, i->rm))))); \
		NEXT(c, i);                                                  \
	}
DEFINE_GROUP(group12, FP_SHIFTS_12)
DEFINE_GROUP(group13, FP_SHIFTS_13)
DEFINE_GROUP(group14, FP_SHIFTS_14)

OP(op_emms)
{
	fp_enter_mmx(c, i);
	mmx_mode(c);
	c->x87.empty = 0xff;
	NEXT(c, i);
}
