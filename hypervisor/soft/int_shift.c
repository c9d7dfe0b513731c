/* ROL, ROR, RCL, RCR, SHL, SHR, SAR by ModRM.reg; SHLD, SHRD. */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

static inline uint32_t
flag_cf(uint64_t bit)
{
	return bit & 1 ? FL_CF : 0;
}

static inline uint32_t
flag_of(uint64_t bit)
{
	return bit & 1 ? FL_OF : 0;
}

/* CF and OF alone change. */
ALWAYS_INLINE void
set_cf_of(struct cpu *c, uint32_t fl)
{
	lazy_replace(c, FL_CF | FL_OF, fl);
}

ALWAYS_INLINE uint64_t
rotate_left(struct cpu *c, unsigned bits, uint64_t v, unsigned count)
{
	unsigned n = count & (bits - 1);
	uint64_t r = v;

	if (n != 0)
		r = v << n | v >> (bits - n);
	set_cf_of(c, flag_cf(r) | flag_of(r ^ (r >> (bits - 1))));
	return r;
}

ALWAYS_INLINE uint64_t
rotate_right(struct cpu *c, unsigned bits, uint64_t v, unsigned count)
{
	unsigned n = count & (bits - 1);
	uint64_t r = v;

	if (n != 0)
		r = v >> n | v << (bits - n);
	set_cf_of(c,
	    flag_cf(r >> (bits - 1)) |
		flag_of((r >> (bits - 1)) ^ (r >> (bits - 2))));
	return r;
}

/* Through the carry, bit by bit: rare. */
static uint64_t
rotate_carry(
    struct cpu *c, unsigned bits, uint64_t v, unsigned count, bool left)
{
	unsigned n = count % (bits + 1);
	uint64_t cf = lazy_cf(c), out;

	while (n-- > 0) {
		if (left) {
			out = (v >> (bits - 1)) & 1;
			v = v << 1 | cf;
		} else {
			out = v & 1;
			v = (v >> 1 & ((1ull << (bits - 1)) - 1)) |
			    cf << (bits - 1);
		}
		cf = out;
	}
	set_cf_of(c,
	    flag_cf(cf) |
		flag_of(left ? (v >> (bits - 1)) ^ cf
			     : (v >> (bits - 1)) ^ (v >> (bits - 2))));
	return v;
}

/* v is zero-extended; count is masked and not 0. */
ALWAYS_INLINE uint64_t
shift_do(struct cpu *c, unsigned op, unsigned size, uint64_t v, unsigned count)
{
	unsigned bits = 8 * size;
	uint64_t r, last;
	int64_t s;

	switch (op) {
	case 0:
		return rotate_left(c, bits, v, count);
	case 1:
		return rotate_right(c, bits, v, count);
	case 2:
		return rotate_carry(c, bits, v, count, true);
	case 3:
		return rotate_carry(c, bits, v, count, false);
	case 5:
		last = v >> (count - 1);
		r = last >> 1;
		lazy_result(c, sign_extend(r, size),
		    flag_cf(last) | flag_of(v >> (bits - 1)));
		return r;
	case 7:
		s = (int64_t)sign_extend(v, size) >> (count - 1);
		r = (uint64_t)(s >> 1);
		lazy_result(c, r, flag_cf((uint64_t)s));
		return r;
	default:
		/* The last bit out: 32-bit counts may exceed small operands. */
		last = v << (count - 1);
		r = last << 1;
		last >>= bits - 1;
		lazy_result(c, sign_extend(r, size),
		    flag_cf(last) | flag_of(last ^ (r >> (bits - 1))));
		return r;
	}
}

#define SHIFT(name, op, size, count_expr)                                      \
	static OP(name##_r_##size)                                             \
	{                                                                      \
		unsigned count =                                               \
		    (unsigned)(count_expr) & ((size) == 8 ? 63 : 31);          \
		if (count != 0)                                                \
			SET_RM(c, i, size,                                     \
			    shift_do(c, op, size, GET_RM(c, i, size), count)); \
		else if ((size) == 4)                                          \
			SET_RM(c, i, size, GET_RM(c, i, size));                \
		NEXT(c, i);                                                    \
	}                                                                      \
	ALWAYS_INLINE bool name##_m_##size##_body(                             \
	    struct cpu *c, const struct insn *i, bool fast)                    \
	{                                                                      \
		unsigned count =                                               \
		    (unsigned)(count_expr) & ((size) == 8 ? 63 : 31);          \
		struct operand o;                                              \
		uint64_t r;                                                    \
		if (!operand_begin(c, i, &o, size, true, fast))                \
			return false;                                          \
		r = operand_load(c, i, &o, size, fast);                        \
		if (count == 0)                                                \
			return true;                                           \
		r = shift_do(c, op, size, r, count);                           \
		operand_store(c, i, &o, size, r, fast);                        \
		return true;                                                   \
	}                                                                      \
	MEM_OP(name##_m_##size)
/* clang-format off */
#define SHIFT_BY(name, op, how, count) \
	SHIFT(name##_##how, op, 1, count) SHIFT(name##_##how, op, 2, count) \
	SHIFT(name##_##how, op, 4, count) SHIFT(name##_##how, op, 8, count)
#define SHIFTS(name, op)                        \
	SHIFT_BY(name, op, by1, 1)              \
	SHIFT_BY(name, op, cl, c->reg[RCX])     \
	SHIFT_BY(name, op, imm, i->imm)
SHIFTS(rol, 0)
SHIFTS(ror, 1)
SHIFTS(rcl, 2)
SHIFTS(rcr, 3)
SHIFTS(shl, 4)
SHIFTS(shr, 5)
SHIFTS(sar, 7)

#define SET(name) { \
	name##_r_1, name##_m_1, name##_r_2, name##_m_2, \
	name##_r_4, name##_m_4, name##_r_8, name##_m_8 }
#define SETS(how) { \
	SET(rol_##how), SET(ror_##how), SET(rcl_##how), SET(rcr_##how), \
	SET(shl_##how), SET(shr_##how), SET(shl_##how), SET(sar_##how) }
op_set set_shift_1[8] = SETS(by1);
op_set set_shift_cl[8] = SETS(cl);
op_set set_shift_imm[8] = SETS(imm);
/* clang-format on */

/* 0F A4/A5, AC/AD: by immediate (even opcode) or CL. */
static void
shift_double(struct cpu *c, const struct insn *i, bool left)
{
	unsigned size = i->opsize, bits = 8 * size;
	unsigned count = (unsigned)(i->opcode & 1 ? c->reg[RCX] : i->imm) &
	    (size == 8 ? 63 : 31);
	uint64_t lin = rm_begin(c, i, size);
	uint64_t v = rm_get(c, i, lin, size), in = GET_REG(c, i, size), r;
	uint64_t last;

	if (count == 0) {
		if (size == 4 && !(i->flags & INSN_MEM))
			SET_RM(c, i, size, v);
		return;
	}
	if (count > bits) { /* 16-bit operands: undefined; as processors do */
		count -= bits;
		r = v;
		v = in;
		in = r;
	}
	if (left) {
		last = v >> (bits - count);
		r = count == bits ? in : v << count | in >> (bits - count);
	} else {
		last = v >> (count - 1);
		r = count == bits ? in : v >> count | in << (bits - count);
	}
	r = zero_extend(r, size);
	lazy_result(c, sign_extend(r, size),
	    flag_cf(last) | flag_of((r ^ v) >> (bits - 1)));
	rm_put(c, i, lin, size, r);
}

OP(op_shld)
{
	shift_double(c, i, true);
	NEXT(c, i);
}

OP(op_shrd)
{
	shift_double(c, i, false);
	NEXT(c, i);
}
