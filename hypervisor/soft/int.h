/*
 * The integer instructions, for the decoder's tables.  A set is eight
 * handlers: [2 * log2(operand size) + (memory operand)].
 */
#ifndef SOFT_INT_H
#define SOFT_INT_H

#include "hypervisor/soft/cpu.h"

typedef op_fn *const op_set[8];

extern op_set set_alu_er[8], set_alu_re[8], set_alu_ei[8];
extern op_set set_test_er, set_test_ei, set_inc, set_dec, set_neg, set_not;
extern op_set set_mov_er, set_mov_re, set_mov_ei;
extern op_set set_movzx8, set_movzx16, set_movsx8, set_movsx16, set_movsxd;
extern op_set set_cmov[16], set_setcc[16];
extern op_set set_lea, set_push_r, set_pop_r;
/* By 1, by CL, by immediate; ModRM.reg */
extern op_set set_shift_1[8], set_shift_cl[8], set_shift_imm[8];
extern op_set set_imul_re, set_imul_imm;
extern op_fn *const jcc64[16], *const jcc[16];

/* A handler and its faster variant for memory operands without an index in a
 * flat segment; ends with NULL. */
struct op_pair {
	op_fn *fn, *base;
};
extern const struct op_pair base_pairs[];

/* Where i is a comparison before a 64-bit jcc i[1]: one handler for both, or
 * i->fn. */
op_fn *fuse_compare(const struct insn *i);

/* With LOCK. */
OP(op_lock_alu_er);
OP(op_lock_alu_ei);
OP(op_lock_inc_dec);
OP(op_lock_neg);
OP(op_lock_not);
OP(op_lock_bit);
OP(op_lock_xadd);
OP(op_lock_cmpxchg);

OP(op_xchg_r);
OP(op_xchg_mem);
OP(op_xchg_acc);
OP(op_xadd);
OP(op_cmpxchg);
OP(op_cmpxchg8b);
OP(op_push_r);
OP(op_pop_r);
OP(op_push_imm);
OP(op_push_rm);
OP(op_pop_rm);
OP(op_pusha);
OP(op_popa);
OP(op_enter);
OP(op_leave);
OP(op_bound);
OP(op_mov_moffs_load);
OP(op_mov_moffs_store);
OP(op_mov_ri);
OP(op_mov_ri8);
OP(op_bswap);
OP(op_cbw);
OP(op_cwd);
OP(op_xlat);
OP(op_lahf);
OP(op_sahf);
OP(op_salc);
OP(op_cmc);
OP(op_clc);
OP(op_stc);
OP(op_cld);
OP(op_std);
OP(op_nop);
OP(op_fwait);
OP(op_ud);
OP(op_too_long);
OP(op_movnti);

OP(op_jmp64);
OP(op_jmp);
OP(op_jmp_rm64);
OP(op_jmp_rm);
OP(op_call64);
OP(op_call);
OP(op_call_rm64);
OP(op_call_rm);
OP(op_ret64);
OP(op_ret);
OP(op_loop);
OP(op_jcxz);

OP(op_shld);
OP(op_shrd);
OP(op_mul);
OP(op_imul);
OP(op_div);
OP(op_idiv);
OP(op_daa);
OP(op_das);
OP(op_aaa);
OP(op_aas);
OP(op_aam);
OP(op_aad);

OP(op_bt);
OP(op_bt_imm);
OP(op_bsf);
OP(op_bsr);
OP(op_popcnt);

OP(op_movs);
OP(op_cmps);
OP(op_stos);
OP(op_lods);
OP(op_scas);

OP(op_block_stale); /* what a dropped block's rows become */

#endif
