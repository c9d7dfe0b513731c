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
	uint64_t v;

	fp_enter_mmx(c, i);
	if (!(i->flags & INSN_MEM))
		v = i->flags & INSN_REXW ? c->reg[i->rm]
					 : (uint32_t)c->reg[i->rm];
	else
		v = low64(
		    i->flags & INSN_REXW ? fp_load_8(c, i) : fp_load_4(c, i));
	mm_set(c, i->reg, v);
	NEXT(c, i);
}

OP(op_mmx_movd_store)
{
	uint64_t v;

	fp_enter_mmx(c, i);
	v = mm_get(c, i->reg);
	if (!(i->flags & INSN_MEM))
		c->reg[i->rm] = i->flags & INSN_REXW ? v : (uint32_t)v;
	else if (i->flags & INSN_REXW)
		fp_store_8(c, i, v);
	else
		fp_store_4(c, i, (uint32_t)v);
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

static uint16_t
word_src(struct cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? mem_read16(c, i, insn_lin(c, i, 2, false))
				   : (uint16_t)c->reg[i->rm];
}

OP(op_mmx_pinsrw)
{
	uint64_t v;
	unsigned shift = 16 * (i->imm & 3);

	fp_enter_mmx(c, i);
	v = word_src(c, i);
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

/* By an immediate: which shift is op_mmx_* with the count as the source. */
#define SHIFT(name) __asm__(#name " %1, %0" : "+x"(v) : "x"(count))
#define DEFINE_GROUP(group, legal, right, arith, left)              \
	static void group##_do(struct cpu *c, const struct insn *i) \
	{                                                           \
		__m128i v = from64(mm_get(c, i->rm));               \
		__m128i count = from64(i->imm & 0xff);              \
                                                                    \
		switch (i->reg & 7) {                               \
		case 2:                                             \
			SHIFT(right);                               \
			break;                                      \
			arith;                                      \
		case 6:                                             \
			SHIFT(left);                                \
			break;                                      \
		default:                                            \
			cpu_raise_ud(c, i);                         \
		}                                                   \
		mm_set(c, i->rm, low64(v));                         \
	}                                                           \
	OP(op_mmx_##group)                                          \
	{                                                           \
		fp_check_shift(c, i, legal);                        \
		fp_enter_mmx(c, i);                                 \
		group##_do(c, i);                                   \
		NEXT(c, i);                                         \
	}
#define ARITH(name)          \
	case 4:              \
		SHIFT(name); \
		break
#define NO_ARITH
DEFINE_GROUP(group12, 0x54, psrlw, ARITH(psraw), psllw)
DEFINE_GROUP(group13, 0x54, psrld, ARITH(psrad), pslld)
DEFINE_GROUP(group14, 0x44, psrlq, NO_ARITH, psllq)

OP(op_emms)
{
	fp_enter_mmx(c, i);
	mmx_mode(c);
	c->x87.empty = 0xff;
	NEXT(c, i);
}
