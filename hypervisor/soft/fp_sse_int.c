/* SSE2 on integers, and the integer moves between the register files. */
#include "hypervisor/soft/fp_ops.h"

#define DEFINE_INT(name)                                     \
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
#define DEFINE_INT2(name, low) DEFINE_INT(name)
FP_INT_LANES(DEFINE_INT)
FP_INT_UNPACK_LOW(DEFINE_INT)
FP_INT_UNPACK_HIGH(DEFINE_INT2)
FP_INT_PACK(DEFINE_INT)

OP(op_movd_load)
{
	fp_enter_sse(c, i);
	xmm_set(c, i->reg, from64(fp_gpr_load(c, i)));
	NEXT(c, i);
}

OP(op_movd_store)
{
	fp_enter_sse(c, i);
	fp_gpr_store(c, i, c->v[i->reg].q[0]);
	NEXT(c, i);
}

OP(op_movq_load)
{
	fp_enter_sse(c, i);
	xmm_set(c, i->reg, _mm_move_epi64(XMM_SRC(c, i, fp_load_8)));
	NEXT(c, i);
}

OP(op_movq_store)
{
	fp_enter_sse(c, i);
	if (i->flags & INSN_MEM)
		fp_store_8(c, i, c->v[i->reg].q[0]);
	else
		xmm_set(c, i->rm, from64(c->v[i->reg].q[0]));
	NEXT(c, i);
}

OP(op_movq2dq)
{
	fp_enter_sse(c, i);
	fp_enter_mmx(c, i);
	xmm_set(c, i->reg, from64(mm_get(c, i->rm)));
	mmx_mode(c);
	NEXT(c, i);
}

OP(op_movdq2q)
{
	fp_enter_sse(c, i);
	fp_enter_mmx(c, i);
	mm_set(c, i->reg, c->v[i->rm].q[0]);
	NEXT(c, i);
}

/* dest's four words or double words, each chosen by two bits of imm. */
static void
pshufd(struct cpu *c, const struct insn *i, __m128i src)
{
	union vreg *d = &c->v[i->reg], s;
	unsigned n;

	_mm_storeu_si128((__m128i_u *)&s, src);
	for (n = 0; n < 4; n++)
		d->d[n] = s.d[i->imm >> 2 * n & 3];
}

static void
pshufw(struct cpu *c, const struct insn *i, __m128i src, unsigned half)
{
	union vreg *d = &c->v[i->reg], s;
	unsigned n;

	_mm_storeu_si128((__m128i_u *)&s, src);
	d->q[!half] = s.q[!half];
	for (n = 0; n < 4; n++)
		d->w[4 * half + n] = s.w[4 * half + (i->imm >> 2 * n & 3)];
}

OP(op_pshufd)
{
	fp_enter_sse(c, i);
	pshufd(c, i, XMM_SRC(c, i, fp_load_a16));
	NEXT(c, i);
}

OP(op_pshuflw)
{
	fp_enter_sse(c, i);
	pshufw(c, i, XMM_SRC(c, i, fp_load_a16), 0);
	NEXT(c, i);
}

OP(op_pshufhw)
{
	fp_enter_sse(c, i);
	pshufw(c, i, XMM_SRC(c, i, fp_load_a16), 1);
	NEXT(c, i);
}

OP(op_pinsrw)
{
	fp_enter_sse(c, i);
	c->v[i->reg].w[i->imm & 7] = fp_word_load(c, i);
	NEXT(c, i);
}

OP(op_pextrw)
{
	fp_enter_sse(c, i);
	c->reg[i->reg] = c->v[i->rm].w[i->imm & 7];
	NEXT(c, i);
}

OP(op_pmovmskb)
{
	fp_enter_sse(c, i);
	c->reg[i->reg] = (uint32_t)_mm_movemask_epi8(xmm_get(c, i->rm));
	NEXT(c, i);
}

/* Writes the bytes of src whose mask byte is negative, at DS:rDI.  As on AMD's
 * processors, all bytes must be writable. */
static void
maskmov(struct cpu *c, const struct insn *i, union vreg *src,
    const union vreg *mask, unsigned size)
{
	uint64_t off = c->reg[RDI], lin;
	unsigned n;

	if (i->addrsize < 8)
		off = i->addrsize == 4 ? (uint32_t)off : (uint16_t)off;
	lin = seg_lin(c, i, i->seg, off, size, true);
	fp_check_alignment(c, i, lin, 8);
	mem_probe_write(c, i, lin, size);
	for (n = 0; n < size; n++)
		if (mask->b[n] & 0x80)
			mem_write8(c, i, lin + n, src->b[n]);
}

OP(op_maskmovdqu)
{
	fp_enter_sse(c, i);
	maskmov(c, i, &c->v[i->reg], &c->v[i->rm], 16);
	NEXT(c, i);
}

static void
maskmovq(struct cpu *c, const struct insn *i)
{
	union vreg src, mask;

	src.q[0] = mm_get(c, i->reg);
	mask.q[0] = mm_get(c, i->rm);
	mmx_mode(c);
	maskmov(c, i, &src, &mask, 8);
}

OP(op_maskmovq)
{
	fp_enter_mmx(c, i);
	maskmovq(c, i);
	NEXT(c, i);
}

/* ---- shifts by an immediate: groups 12 to 14 ---- */
static void
shift_bytes(union vreg *v, unsigned count, bool left)
{
	union vreg s = *v;
	unsigned n;

	for (n = 0; n < 16; n++) {
		unsigned from = left ? n - count : n + count;

		v->b[n] = from < 16 ? s.b[from] : 0;
	}
}

#define BYTE_SHIFTS 0x88u /* ModRM.reg of PSRLDQ and PSLLDQ */

static void
group14(struct cpu *c, const struct insn *i)
{
	unsigned reg = i->reg & 7;

	if (BYTE_SHIFTS >> reg & 1)
		shift_bytes(&c->v[i->rm], i->imm & 0xff, reg == 7);
	else
		xmm_set(c, i->rm, fp_shift(i, xmm_get(c, i->rm)));
}

#define DEFINE_GROUP(group, legal)                                 \
	OP(op_##group)                                             \
	{                                                          \
		fp_check_shift(c, i, legal);                       \
		fp_enter_sse(c, i);                                \
		xmm_set(c, i->rm, fp_shift(i, xmm_get(c, i->rm))); \
		NEXT(c, i);                                        \
	}
DEFINE_GROUP(group12, FP_SHIFTS_12)
DEFINE_GROUP(group13, FP_SHIFTS_13)

OP(op_group14)
{
	fp_check_shift(c, i, FP_SHIFTS_14 | BYTE_SHIFTS);
	fp_enter_sse(c, i);
	group14(c, i);
	NEXT(c, i);
}
