/* Multiplication, division, decimal adjustment. */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

static void
mul_flags(struct cpu *c, uint64_t low, bool overflow)
{
	lazy_result(c, low, overflow ? FL_CF | FL_OF : 0);
}

static void
wide_put(struct cpu *c, unsigned size, uint64_t low, uint64_t high)
{
	if (size == 1) {
		reg_set(c, RAX, 0, 2, (low & 0xff) | high << 8);
		return;
	}
	reg_set(c, RAX, 0, size, low);
	reg_set(c, RDX, 0, size, high);
}

OP(op_mul)
{
	unsigned size = i->opsize, bits = 8 * size;
	u128 r = (u128)rm_load(c, i, size) * zero_extend(c->reg[RAX], size);
	uint64_t low = zero_extend((uint64_t)r, size);
	uint64_t high = (uint64_t)(r >> bits);

	wide_put(c, size, low, high);
	mul_flags(c, sign_extend(low, size), high != 0);
	NEXT(c, i);
}

OP(op_imul)
{
	unsigned size = i->opsize, bits = 8 * size;
	s128 r = (s128)(int64_t)sign_extend(rm_load(c, i, size), size) *
	    (int64_t)sign_extend(c->reg[RAX], size);
	uint64_t low = sign_extend((uint64_t)r, size);

	wide_put(c, size, low, (uint64_t)(r >> bits));
	mul_flags(c, low, r != (s128)(int64_t)low);
	NEXT(c, i);
}

#define IMUL(size)                                                             \
	ALWAYS_INLINE void imul_do_##size(                                     \
	    struct cpu *c, const struct insn *i, uint64_t a, uint64_t b)       \
	{                                                                      \
		int64_t r, x = (int64_t)sign_extend(a, size),                  \
			   y = (int64_t)sign_extend(b, size);                  \
		bool over = __builtin_mul_overflow(x, y, &r);                  \
		uint64_t low = sign_extend((uint64_t)r, size);                 \
		mul_flags(c, low, over || (int64_t)low != r);                  \
		SET_REG(c, i, size, low);                                      \
	}                                                                      \
	static OP(imul_re_r_##size)                                            \
	{                                                                      \
		imul_do_##size(c, i, GET_REG(c, i, size), GET_RM(c, i, size)); \
		NEXT(c, i);                                                    \
	}                                                                      \
	static OP(imul_imm_r_##size)                                           \
	{                                                                      \
		imul_do_##size(c, i, GET_RM(c, i, size), i->imm);              \
		NEXT(c, i);                                                    \
	}                                                                      \
	IMUL_MEM(imul_re_m_##size, size, GET_REG(c, i, size))                  \
	IMUL_MEM(imul_imm_m_##size, size, i->imm)
#define IMUL_MEM(name, size, src)                                              \
	ALWAYS_INLINE bool name##_body(                                        \
	    struct cpu *c, const struct insn *i, bool fast)                    \
	{                                                                      \
		struct operand o;                                              \
		if (!operand_begin(c, i, &o, size, false, fast))               \
			return false;                                          \
		imul_do_##size(c, i, operand_load(c, i, &o, size, fast), src); \
		return true;                                                   \
	}                                                                      \
	MEM_OP(name)
IMUL(2)
IMUL(4)
IMUL(8)
/* clang-format off */
#define SET(name) { NULL, NULL, name##_r_2, name##_m_2, \
	name##_r_4, name##_m_4, name##_r_8, name##_m_8 }
op_set set_imul_re = SET(imul_re);
op_set set_imul_imm = SET(imul_imm);
/* clang-format on */

static NORETURN void
raise_de(struct cpu *c, const struct insn *i)
{
	c->fault_insn = i;
	cpu_raise(c, EXC_DE, 0);
}

static u128
dividend(const struct cpu *c, unsigned size)
{
	if (size == 1)
		return (uint16_t)c->reg[RAX];
	return (u128)zero_extend(c->reg[RDX], size) << (8 * size) |
	    zero_extend(c->reg[RAX], size);
}

OP(op_div)
{
	unsigned size = i->opsize;
	uint64_t by = rm_load(c, i, size);
	u128 n, q;

	if (by == 0)
		raise_de(c, i);
	n = dividend(c, size);
	if (n >> 64 == 0) {
		uint64_t n64 = (uint64_t)n, q64 = n64 / by;

		if (zero_extend(q64, size) != q64)
			raise_de(c, i);
		wide_put(c, size, q64, n64 % by);
		NEXT(c, i);
	}
	if (n >> (8 * size) >= by)
		raise_de(c, i);
	q = n / by;
	wide_put(c, size, (uint64_t)q, (uint64_t)(n % by));
	NEXT(c, i);
}

OP(op_idiv)
{
	unsigned size = i->opsize, bits = 8 * size;
	int64_t by = (int64_t)sign_extend(rm_load(c, i, size), size);
	u128 n = dividend(c, size);
	s128 sn, q;

	if (by == 0)
		raise_de(c, i);
	sn = size == 8
	    ? (s128)n
	    : (s128)(int64_t)sign_extend((uint64_t)n, size == 4 ? 8 : 2 * size);
	/* The one quotient that 128 bits do not hold. */
	if (by == -1 && size == 8 && n == (u128)1 << 127)
		raise_de(c, i);
	q = sn / by;
	if (q < -((s128)1 << (bits - 1)) || q >= (s128)1 << (bits - 1))
		raise_de(c, i);
	wide_put(c, size, (uint64_t)q, (uint64_t)(sn % by));
	NEXT(c, i);
}

/* ---- decimal ---- */

static void
decimal(struct cpu *c, bool minus)
{
	uint8_t al = (uint8_t)c->reg[RAX], old = al;
	uint32_t fl = lazy_arith(c);
	bool cf = (fl & FL_CF) != 0, af = (fl & FL_AF) != 0, out = false;

	if ((al & 15) > 9 || af) {
		out = cf || (minus ? al < 6 : al > 0xf9);
		al = (uint8_t)(minus ? al - 6 : al + 6);
		af = true;
	} else {
		af = false;
	}
	if (old > 0x99 || cf) {
		al = (uint8_t)(minus ? al - 0x60 : al + 0x60);
		out = true;
	}
	reg_set(c, RAX, 0, 1, al);
	lazy_result(
	    c, sign_extend(al, 1), (out ? FL_CF : 0) | (af ? FL_AF : 0));
}

OP(op_daa)
{
	decimal(c, false);
	NEXT(c, i);
}

OP(op_das)
{
	decimal(c, true);
	NEXT(c, i);
}

static void
ascii(struct cpu *c, bool minus)
{
	uint16_t ax = (uint16_t)c->reg[RAX];
	bool adjust = (ax & 15) > 9 || (lazy_arith(c) & FL_AF);

	if (adjust)
		ax = (uint16_t)(minus ? ax - 0x106 : ax + 0x106);
	ax &= 0xff0f;
	reg_set(c, RAX, 0, 2, ax);
	lazy_result(c, sign_extend(ax, 1), adjust ? FL_CF | FL_AF : 0);
}

OP(op_aaa)
{
	ascii(c, false);
	NEXT(c, i);
}

OP(op_aas)
{
	ascii(c, true);
	NEXT(c, i);
}

OP(op_aam)
{
	uint8_t al = (uint8_t)c->reg[RAX], by = (uint8_t)i->imm;

	if (by == 0)
		raise_de(c, i);
	reg_set(c, RAX, 0, 2,
	    (uint64_t)(uint8_t)(al / by) << 8 | (uint8_t)(al % by));
	lazy_result(c, sign_extend(al % by, 1), 0);
	NEXT(c, i);
}

OP(op_aad)
{
	uint16_t ax = (uint16_t)c->reg[RAX];
	uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)i->imm);

	reg_set(c, RAX, 0, 2, al);
	lazy_result(c, sign_extend(al, 1), 0);
	NEXT(c, i);
}
