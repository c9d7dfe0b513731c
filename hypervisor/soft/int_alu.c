/* ADD to CMP, TEST, INC, DEC, NEG, NOT. */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

/* clang-format off */
#define ALU_SIZES(X, name, op) \
	X(name, op, 1) X(name, op, 2) X(name, op, 4) X(name, op, 8)
#define ALU_ALL(X)                  \
	ALU_SIZES(X, add, ALU_ADD)  \
	ALU_SIZES(X, or, ALU_OR)    \
	ALU_SIZES(X, adc, ALU_ADC)  \
	ALU_SIZES(X, sbb, ALU_SBB)  \
	ALU_SIZES(X, and, ALU_AND)  \
	ALU_SIZES(X, sub, ALU_SUB)  \
	ALU_SIZES(X, xor, ALU_XOR)  \
	ALU_SIZES(X, cmp, ALU_CMP)
/* clang-format on */

#define ALU_REG(name, op, size)                                               \
	static OP(name##_er_##size)                                           \
	{                                                                     \
		uint64_t r = alu_do(                                          \
		    c, op, size, GET_RM(c, i, size), GET_REG(c, i, size));    \
		if (op != ALU_CMP)                                            \
			SET_RM(c, i, size, r);                                \
		NEXT(c, i);                                                   \
	}                                                                     \
	static OP(name##_re_##size)                                           \
	{                                                                     \
		uint64_t r = alu_do(                                          \
		    c, op, size, GET_REG(c, i, size), GET_RM(c, i, size));    \
		if (op != ALU_CMP)                                            \
			SET_REG(c, i, size, r);                               \
		NEXT(c, i);                                                   \
	}                                                                     \
	static OP(name##_ei_##size)                                           \
	{                                                                     \
		uint64_t r = alu_do(c, op, size, GET_RM(c, i, size), i->imm); \
		if (op != ALU_CMP)                                            \
			SET_RM(c, i, size, r);                                \
		NEXT(c, i);                                                   \
	}

#define ALU_MEM_DEST(name, op, size, src)                                \
	ALWAYS_INLINE bool name##_body(                                  \
	    struct cpu *c, const struct insn *i, bool fast)              \
	{                                                                \
		struct operand o;                                        \
		uint64_t r;                                              \
		if (!operand_begin(c, i, &o, size, op != ALU_CMP, fast)) \
			return false;                                    \
		r = operand_load(c, i, &o, size, fast);                  \
		r = alu_do(c, op, size, r, src);                         \
		if (op != ALU_CMP)                                       \
			operand_store(c, i, &o, size, r, fast);          \
		return true;                                             \
	}                                                                \
	MEM_OP(name)

#define ALU_MEM(name, op, size)                                       \
	ALU_MEM_DEST(name##_mr_##size, op, size, GET_REG(c, i, size)) \
	ALU_MEM_DEST(name##_mi_##size, op, size, i->imm)              \
	ALWAYS_INLINE bool name##_rm_##size##_body(                   \
	    struct cpu *c, const struct insn *i, bool fast)           \
	{                                                             \
		struct operand o;                                     \
		uint64_t r;                                           \
		if (!operand_begin(c, i, &o, size, false, fast))      \
			return false;                                 \
		r = operand_load(c, i, &o, size, fast);               \
		r = alu_do(c, op, size, GET_REG(c, i, size), r);      \
		if (op != ALU_CMP)                                    \
			SET_REG(c, i, size, r);                       \
		return true;                                          \
	}                                                             \
	MEM_OP(name##_rm_##size)

ALU_ALL(ALU_REG)
ALU_ALL(ALU_MEM)

/* clang-format off */
#define SET(name, r, m) { \
	name##_##r##_1, name##_##m##_1, name##_##r##_2, name##_##m##_2, \
	name##_##r##_4, name##_##m##_4, name##_##r##_8, name##_##m##_8 }
#define SETS(r, m) { \
	SET(add, r, m), SET(or, r, m), SET(adc, r, m), SET(sbb, r, m), \
	SET(and, r, m), SET(sub, r, m), SET(xor, r, m), SET(cmp, r, m) }

op_set set_alu_er[8] = SETS(er, mr);
op_set set_alu_re[8] = SETS(re, rm);
op_set set_alu_ei[8] = SETS(ei, mi);
/* clang-format on */

#define TEST(size)                                                         \
	static OP(test_er_##size)                                          \
	{                                                                  \
		lazy_result(c,                                             \
		    sign_extend(                                           \
			GET_RM(c, i, size) & GET_REG(c, i, size), size),   \
		    0);                                                    \
		NEXT(c, i);                                                \
	}                                                                  \
	static OP(test_ei_##size)                                          \
	{                                                                  \
		lazy_result(                                               \
		    c, sign_extend(GET_RM(c, i, size) & i->imm, size), 0); \
		NEXT(c, i);                                                \
	}                                                                  \
	TEST_MEM(test_mr_##size, size, GET_REG(c, i, size))                \
	TEST_MEM(test_mi_##size, size, i->imm)

#define TEST_MEM(name, size, src)                                          \
	ALWAYS_INLINE bool name##_body(                                    \
	    struct cpu *c, const struct insn *i, bool fast)                \
	{                                                                  \
		struct operand o;                                          \
		if (!operand_begin(c, i, &o, size, false, fast))           \
			return false;                                      \
		lazy_result(c,                                             \
		    sign_extend(                                           \
			operand_load(c, i, &o, size, fast) & (src), size), \
		    0);                                                    \
		return true;                                               \
	}                                                                  \
	MEM_OP(name)

TEST(1)
TEST(2)
TEST(4)
TEST(8)
op_set set_test_er = SET(test, er, mr);
op_set set_test_ei = SET(test, ei, mi);

/* INC and DEC leave CF alone. */
ALWAYS_INLINE uint64_t
inc_do(struct cpu *c, unsigned size, uint64_t a)
{
	uint64_t r = sign_extend(a + 1, size);
	uint32_t fl = lazy_cf(c) ? FL_CF : 0;

	if (r == (uint64_t)(INT64_MIN >> (8 * (8 - size))))
		fl |= FL_OF;
	lazy_result(c, r, fl | ((r & 15) == 0 ? FL_AF : 0));
	return r;
}

ALWAYS_INLINE uint64_t
dec_do(struct cpu *c, unsigned size, uint64_t a)
{
	uint64_t r = sign_extend(a - 1, size);
	uint32_t fl = lazy_cf(c) ? FL_CF : 0;

	if (r == (uint64_t)INT64_MAX >> (8 * (8 - size)))
		fl |= FL_OF;
	lazy_result(c, r, fl | ((r & 15) == 15 ? FL_AF : 0));
	return r;
}

ALWAYS_INLINE uint64_t
neg_do(struct cpu *c, unsigned size, uint64_t a)
{
	return alu_do(c, ALU_SUB, size, 0, a);
}

ALWAYS_INLINE uint64_t
not_do(struct cpu *c, unsigned size, uint64_t a)
{
	(void)c;
	(void)size;
	return ~a;
}

#define UNARY(name, size)                                                   \
	static OP(name##_r_##size)                                          \
	{                                                                   \
		SET_RM(c, i, size, name##_do(c, size, GET_RM(c, i, size))); \
		NEXT(c, i);                                                 \
	}                                                                   \
	ALWAYS_INLINE bool name##_m_##size##_body(                          \
	    struct cpu *c, const struct insn *i, bool fast)                 \
	{                                                                   \
		struct operand o;                                           \
		uint64_t r;                                                 \
		if (!operand_begin(c, i, &o, size, true, fast))             \
			return false;                                       \
		r = operand_load(c, i, &o, size, fast);                     \
		r = name##_do(c, size, r);                                  \
		operand_store(c, i, &o, size, r, fast);                     \
		return true;                                                \
	}                                                                   \
	MEM_OP(name##_m_##size)
#define UNARY_SET(name)                                                       \
	UNARY(name, 1)                                                        \
	UNARY(name, 2)                                                        \
	UNARY(name, 4)                                                        \
	UNARY(name, 8)                                                        \
	op_set set_##name = { name##_r_1, name##_m_1, name##_r_2, name##_m_2, \
		name##_r_4, name##_m_4, name##_r_8, name##_m_8 };

UNARY_SET(inc)
UNARY_SET(dec)
UNARY_SET(neg)
UNARY_SET(not )

static uint64_t
alu_any(struct cpu *c, unsigned op, unsigned size, uint64_t a, uint64_t b)
{
	switch (size) {
	case 1:
		return alu_do(c, (enum alu)op, 1, a, b);
	case 2:
		return alu_do(c, (enum alu)op, 2, a, b);
	case 4:
		return alu_do(c, (enum alu)op, 4, a, b);
	default:
		return alu_do(c, (enum alu)op, 8, a, b);
	}
}

/* The flags are worked out anew by each try: ADC and SBB need the old CF. */
static void __attribute__((noinline))
lock_alu(struct cpu *c, const struct insn *i, unsigned op, uint64_t src)
{
	struct lazy_flags before = c->lf;
	unsigned size = i->opsize;
	struct locked l;
	uint64_t old, r;

	locked_begin(c, i, &l, size);
	old = locked_load(c, i, &l, size);
	do {
		c->lf = before;
		r = alu_any(c, op, size, old, src);
	} while (!locked_try(c, i, &l, size, &old, r));
	locked_end(c, &l, size);
}

OP(op_lock_alu_er)
{
	lock_alu(c, i, i->opcode >> 3, GET_REG(c, i, i->opsize));
	NEXT(c, i);
}

OP(op_lock_alu_ei)
{
	lock_alu(c, i, i->reg & 7, i->imm);
	NEXT(c, i);
}

OP(op_lock_inc_dec)
{
	bool cf = lazy_cf(c);

	lock_alu(c, i, i->reg & 1 ? ALU_SUB : ALU_ADD, 1);
	lazy_set_cf(c, cf);
	NEXT(c, i);
}

static void __attribute__((noinline))
lock_neg(struct cpu *c, const struct insn *i)
{
	unsigned size = i->opsize;
	struct locked l;
	uint64_t old;

	locked_begin(c, i, &l, size);
	old = locked_load(c, i, &l, size);
	while (!locked_try(c, i, &l, size, &old, 0 - old))
		;
	locked_end(c, &l, size);
	alu_any(c, ALU_SUB, size, 0, old);
}

OP(op_lock_neg)
{
	lock_neg(c, i);
	NEXT(c, i);
}

OP(op_lock_not)
{
	struct lazy_flags before = c->lf;

	lock_alu(c, i, ALU_XOR, UINT64_MAX);
	c->lf = before;
	NEXT(c, i);
}
