/*
 * A comparison and the conditional jump behind it as one handler: one dispatch
 * less, and the condition is known by the operation.  The flags are set as
 * ever.  A miss of the TLB goes to the slow body, and from there to the jump
 * by itself.
 */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

#ifdef SOFT_TAIL_CALLS

/* i[1] is the jump, the rows behind it the ways on. */
ALWAYS_INLINE void
branch(struct cpu *c, const struct insn *i, unsigned cc)
{
	c->insns += i[1].imm2;
	if (lazy_cond(c, cc)) {
		jump_direct(c, &i[2], c->rip + i[1].imm);
		return;
	}
	jump_direct(c, &i[3], c->rip + i[1].offset + i[1].len);
}

#define CMP_BODY(name, size, a, b)                          \
	ALWAYS_INLINE bool name##_body(                     \
	    struct cpu *c, const struct insn *i, bool fast) \
	{                                                   \
		(void)fast;                                 \
		(void)alu_do(c, ALU_CMP, size, a, b);       \
		return true;                                \
	}
#define TEST_BODY(name, size, a, b)                              \
	ALWAYS_INLINE bool name##_body(                          \
	    struct cpu *c, const struct insn *i, bool fast)      \
	{                                                        \
		(void)fast;                                      \
		lazy_result(c, sign_extend((a) & (b), size), 0); \
		return true;                                     \
	}
#define MEM_BODY(name, size, set_flags)                          \
	ALWAYS_INLINE bool name##_body(                          \
	    struct cpu *c, const struct insn *i, bool fast)      \
	{                                                        \
		struct operand o;                                \
		uint64_t m;                                      \
		if (!operand_begin(c, i, &o, size, false, fast)) \
			return false;                            \
		m = operand_load(c, i, &o, size, fast);          \
		set_flags;                                       \
		return true;                                     \
	}
#define CMP_REG(size)                                                          \
	CMP_BODY(cmp_er_##size, size, GET_RM(c, i, size), GET_REG(c, i, size)) \
	CMP_BODY(cmp_re_##size, size, GET_REG(c, i, size), GET_RM(c, i, size)) \
	CMP_BODY(cmp_ei_##size, size, GET_RM(c, i, size), i->imm)              \
	TEST_BODY(                                                             \
	    test_er_##size, size, GET_RM(c, i, size), GET_REG(c, i, size))     \
	TEST_BODY(test_ei_##size, size, GET_RM(c, i, size), i->imm)
#define CMP_MEM(size)                                                       \
	MEM_BODY(cmp_mr_##size, size,                                       \
	    (void)alu_do(c, ALU_CMP, size, m, GET_REG(c, i, size)))         \
	MEM_BODY(cmp_rm_##size, size,                                       \
	    (void)alu_do(c, ALU_CMP, size, GET_REG(c, i, size), m))         \
	MEM_BODY(                                                           \
	    cmp_mi_##size, size, (void)alu_do(c, ALU_CMP, size, m, i->imm)) \
	MEM_BODY(test_mi_##size, size,                                      \
	    lazy_result(c, sign_extend(m & i->imm, size), 0))
CMP_REG(1)
CMP_REG(4)
CMP_REG(8)
CMP_MEM(1)
CMP_MEM(4)
CMP_MEM(8)

#define REG_FUSED(name, cc)                    \
	static OP(name##_jcc_##cc)             \
	{                                      \
		(void)name##_body(c, i, true); \
		branch(c, i, cc);              \
	}
#define MEM_FUSED(name, cc)                               \
	static OP(name##_jcc_##cc)                        \
	{                                                 \
		if (UNLIKELY(!name##_body(c, i, true))) { \
			name##_slow(c, i);                \
			return;                           \
		}                                         \
		branch(c, i, cc);                         \
	}
#define SLOW(name)                                       \
	static void __attribute__((noinline))            \
	name##_slow(struct cpu *c, const struct insn *i) \
	{                                                \
		(void)name##_body(c, i, false);          \
		NEXT(c, i);                              \
	}
/* clang-format off */
#define CONDITIONS(X, name) \
	X(name, 0) X(name, 1) X(name, 2) X(name, 3) X(name, 4) X(name, 5) \
	X(name, 6) X(name, 7) X(name, 8) X(name, 9) X(name, 10) X(name, 11) \
	X(name, 12) X(name, 13) X(name, 14) X(name, 15)
#define ROW(name, cc) name##_jcc_##cc,
#define REG_SET(name) \
	CONDITIONS(REG_FUSED, name) \
	static op_fn *const fused_##name[16] = { CONDITIONS(ROW, name) };
#define MEM_SET(name) \
	SLOW(name) \
	CONDITIONS(MEM_FUSED, name) \
	static op_fn *const fused_##name[16] = { CONDITIONS(ROW, name) };
#define REG_SETS(size) \
	REG_SET(cmp_er_##size) REG_SET(cmp_re_##size) REG_SET(cmp_ei_##size) \
	REG_SET(test_er_##size) REG_SET(test_ei_##size)
#define MEM_SETS(size) \
	MEM_SET(cmp_mr_##size) MEM_SET(cmp_rm_##size) MEM_SET(cmp_mi_##size) \
	MEM_SET(test_mi_##size)
REG_SETS(1)
REG_SETS(4)
REG_SETS(8)
MEM_SETS(1)
MEM_SETS(4)
MEM_SETS(8)

#define FUSE(set, slot, name) { set, slot, fused_##name }
#define FUSE_SIZE(n, size) \
	FUSE(set_alu_er[ALU_CMP], 2 * (n), cmp_er_##size), \
	FUSE(set_alu_re[ALU_CMP], 2 * (n), cmp_re_##size), \
	FUSE(set_alu_ei[ALU_CMP], 2 * (n), cmp_ei_##size), \
	FUSE(set_test_er, 2 * (n), test_er_##size), \
	FUSE(set_test_ei, 2 * (n), test_ei_##size), \
	FUSE(set_alu_er[ALU_CMP], 2 * (n) + 1, cmp_mr_##size), \
	FUSE(set_alu_re[ALU_CMP], 2 * (n) + 1, cmp_rm_##size), \
	FUSE(set_alu_ei[ALU_CMP], 2 * (n) + 1, cmp_mi_##size), \
	FUSE(set_test_ei, 2 * (n) + 1, test_mi_##size)
/* clang-format on */

static const struct fuse {
	op_fn *const *set; /* the comparison is set[slot] */
	unsigned slot;
	op_fn *const *to; /* by condition */
} fuses[] = { FUSE_SIZE(0, 1), FUSE_SIZE(2, 4), FUSE_SIZE(3, 8) };

op_fn *
fuse_compare(const struct insn *i)
{
	for (unsigned n = 0; n < ARRAY_LEN(fuses); n++) {
		if (fuses[n].set[fuses[n].slot] == i->fn)
			return fuses[n].to[i[1].opcode & 15];
	}
	return i->fn;
}

#else

op_fn *
fuse_compare(const struct insn *i)
{
	return i->fn;
}

#endif
