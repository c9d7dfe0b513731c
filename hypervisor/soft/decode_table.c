/* The opcode tables of everything but x87, MMX and SSE. */
#include "hypervisor/soft/decode.h"

/* clang-format off */
#define RM	F_MODRM
#define B	F_BYTE
#define NO64	F_NO64

#define ALU(n) \
	[(n) * 8 + 0] = { .set = set_alu_er[n], .form = RM | B, .lock = (n) == 7 ? NULL : op_lock_alu_er }, \
	[(n) * 8 + 1] = { .set = set_alu_er[n], .form = RM, .lock = (n) == 7 ? NULL : op_lock_alu_er }, \
	[(n) * 8 + 2] = { .set = set_alu_re[n], .form = RM | B }, \
	[(n) * 8 + 3] = { .set = set_alu_re[n], .form = RM }, \
	[(n) * 8 + 4] = { .set = set_alu_ei[n], .form = F_IMM8 | B, .kind = K_ACC }, \
	[(n) * 8 + 5] = { .set = set_alu_ei[n], .form = F_IMMZ, .kind = K_ACC }
#define ALU_GROUP(n) { .set = set_alu_ei[n], .lock = (n) == 7 ? NULL : op_lock_alu_ei }
#define SREG(o, f, n) [o] = { .fn = f, .form = F_64 | F_END | ((n) < 4 ? NO64 : 0), .kind = K_SREG, .arg = n }
#define EIGHT(o, ...) \
	[(o) + 0] = __VA_ARGS__, [(o) + 1] = __VA_ARGS__, [(o) + 2] = __VA_ARGS__, \
	[(o) + 3] = __VA_ARGS__, [(o) + 4] = __VA_ARGS__, [(o) + 5] = __VA_ARGS__, \
	[(o) + 6] = __VA_ARGS__, [(o) + 7] = __VA_ARGS__
#define SIXTEEN(X, o) \
	X(o, 0) X(o, 1) X(o, 2) X(o, 3) X(o, 4) X(o, 5) X(o, 6) X(o, 7) \
	X(o, 8) X(o, 9) X(o, 10) X(o, 11) X(o, 12) X(o, 13) X(o, 14) X(o, 15)
#define JUMP	(F_BRANCH | F_END)

static const struct core_op group1[8] = {
	ALU_GROUP(0), ALU_GROUP(1), ALU_GROUP(2), ALU_GROUP(3),
	ALU_GROUP(4), ALU_GROUP(5), ALU_GROUP(6), ALU_GROUP(7),
};
#define SHIFT_GROUP(name, sets) \
	static const struct core_op name[8] = { \
		{ .set = sets[0] }, { .set = sets[1] }, { .set = sets[2] }, { .set = sets[3] }, \
		{ .set = sets[4] }, { .set = sets[5] }, { .set = sets[6] }, { .set = sets[7] } }
SHIFT_GROUP(group2_imm, set_shift_imm);
SHIFT_GROUP(group2_1, set_shift_1);
SHIFT_GROUP(group2_cl, set_shift_cl);
static const struct core_op group1a[8] = {
	{ .fn = op_pop_rm, .form = F_64 },
};
static const struct core_op group3_byte[8] = {
	{ .set = set_test_ei, .form = F_IMM8 }, { .set = set_test_ei, .form = F_IMM8 },
	{ .set = set_not, .lock = op_lock_not }, { .set = set_neg, .lock = op_lock_neg },
	{ .fn = op_mul }, { .fn = op_imul }, { .fn = op_div }, { .fn = op_idiv },
};
static const struct core_op group3[8] = {
	{ .set = set_test_ei, .form = F_IMMZ }, { .set = set_test_ei, .form = F_IMMZ },
	{ .set = set_not, .lock = op_lock_not }, { .set = set_neg, .lock = op_lock_neg },
	{ .fn = op_mul }, { .fn = op_imul }, { .fn = op_div }, { .fn = op_idiv },
};
static const struct core_op group4[8] = {
	{ .set = set_inc, .lock = op_lock_inc_dec }, { .set = set_dec, .lock = op_lock_inc_dec },
};
/* CALL and JMP near: the decoder takes the 64-bit ones in 64-bit mode. */
static const struct core_op group5[8] = {
	{ .set = set_inc, .lock = op_lock_inc_dec }, { .set = set_dec, .lock = op_lock_inc_dec },
	{ .fn = op_call_rm, .form = JUMP }, { .fn = op_call_far_mem, .form = F_MEMONLY | F_END },
	{ .fn = op_jmp_rm, .form = JUMP }, { .fn = op_jmp_far_mem, .form = F_MEMONLY | F_END },
	{ .fn = op_push_rm, .form = F_64 },
};
static const struct core_op group8[8] = {
	[4] = { .fn = op_bt_imm },
	[5] = { .fn = op_bt_imm, .lock = op_lock_bit },
	[6] = { .fn = op_bt_imm, .lock = op_lock_bit },
	[7] = { .fn = op_bt_imm, .lock = op_lock_bit },
};
static const struct core_op group9[8] = {
	[1] = { .fn = op_cmpxchg8b, .form = F_MEMONLY, .lock = op_cmpxchg8b },
};
static const struct core_op group11[8] = {
	{ .set = set_mov_ei },
};

#define JCC8(o, cc) [(o) + (cc)] = { .fn = NULL, .form = F_IMM8 | JUMP, .kind = K_JUMP },
#define JCCZ(o, cc) [(o) + (cc)] = { .fn = NULL, .form = F_IMMZ | JUMP, .kind = K_JUMP },
#define CMOV(o, cc) [(o) + (cc)] = { .set = set_cmov[cc], .form = RM },
#define SETCC(o, cc) [(o) + (cc)] = { .set = set_setcc[cc], .form = RM | B },

const struct core_op core_1byte[256] = {
	ALU(0), ALU(1), ALU(2), ALU(3), ALU(4), ALU(5), ALU(6), ALU(7),
	SREG(0x06, op_push_sreg, ES), SREG(0x07, op_pop_sreg, ES),
	SREG(0x0e, op_push_sreg, CS),
	SREG(0x16, op_push_sreg, SS), SREG(0x17, op_pop_sreg, SS),
	SREG(0x1e, op_push_sreg, DS), SREG(0x1f, op_pop_sreg, DS),
	[0x27] = { .fn = op_daa, .form = NO64 },
	[0x2f] = { .fn = op_das, .form = NO64 },
	[0x37] = { .fn = op_aaa, .form = NO64 },
	[0x3f] = { .fn = op_aas, .form = NO64 },
	EIGHT(0x40, { .set = set_inc, .form = NO64, .kind = K_OPREG }),
	EIGHT(0x48, { .set = set_dec, .form = NO64, .kind = K_OPREG }),
	EIGHT(0x50, { .set = set_push_r, .form = F_64, .kind = K_OPREG }),
	EIGHT(0x58, { .set = set_pop_r, .form = F_64, .kind = K_OPREG }),
	[0x60] = { .fn = op_pusha, .form = NO64 },
	[0x61] = { .fn = op_popa, .form = NO64 },
	[0x62] = { .fn = op_bound, .form = RM | NO64 | F_MEMONLY },
	[0x63] = { .fn = op_arpl, .form = RM }, /* in 64-bit mode MOVSXD */
	[0x68] = { .fn = op_push_imm, .form = F_IMMZ | F_64 },
	[0x69] = { .set = set_imul_imm, .form = RM | F_IMMZ },
	[0x6a] = { .fn = op_push_imm, .form = F_IMM8 | F_64 },
	[0x6b] = { .set = set_imul_imm, .form = RM | F_IMM8 },
	[0x6c] = { .fn = op_ins, .form = B | F_END }, [0x6d] = { .fn = op_ins, .form = F_END },
	[0x6e] = { .fn = op_outs, .form = B | F_END }, [0x6f] = { .fn = op_outs, .form = F_END },
	SIXTEEN(JCC8, 0x70)
	[0x80] = { .group = group1, .form = RM | B | F_IMM8 },
	[0x81] = { .group = group1, .form = RM | F_IMMZ },
	[0x82] = { .group = group1, .form = RM | B | F_IMM8 | NO64 },
	[0x83] = { .group = group1, .form = RM | F_IMM8 },
	[0x84] = { .set = set_test_er, .form = RM | B },
	[0x85] = { .set = set_test_er, .form = RM },
	[0x86] = { .fn = op_xchg_r, .form = RM | B, .lock = op_xchg_mem },
	[0x87] = { .fn = op_xchg_r, .form = RM, .lock = op_xchg_mem },
	[0x88] = { .set = set_mov_er, .form = RM | B },
	[0x89] = { .set = set_mov_er, .form = RM },
	[0x8a] = { .set = set_mov_re, .form = RM | B },
	[0x8b] = { .set = set_mov_re, .form = RM },
	[0x8c] = { .fn = op_mov_sreg_store, .form = RM, .kind = K_MOVSREG },
	[0x8d] = { .set = set_lea, .form = RM | F_MEMONLY, .kind = K_NOADDR },
	[0x8e] = { .fn = op_mov_sreg_load, .form = RM | F_END, .kind = K_MOVSREG },
	[0x8f] = { .group = group1a, .form = RM },
	EIGHT(0x90, { .fn = op_xchg_acc, .kind = K_OPREG }),
	[0x98] = { .fn = op_cbw }, [0x99] = { .fn = op_cwd },
	[0x9a] = { .fn = op_call_far, .form = F_FARPTR | NO64 | F_END },
	[0x9b] = { .fn = op_fwait },
	[0x9c] = { .fn = op_pushf, .form = F_64 },
	[0x9d] = { .fn = op_popf, .form = F_64 | F_END },
	[0x9e] = { .fn = op_sahf }, [0x9f] = { .fn = op_lahf },
	[0xa0] = { .fn = op_mov_moffs_load, .form = B | F_MOFFS },
	[0xa1] = { .fn = op_mov_moffs_load, .form = F_MOFFS },
	[0xa2] = { .fn = op_mov_moffs_store, .form = B | F_MOFFS },
	[0xa3] = { .fn = op_mov_moffs_store, .form = F_MOFFS },
	[0xa4] = { .fn = op_movs, .form = B }, [0xa5] = { .fn = op_movs },
	[0xa6] = { .fn = op_cmps, .form = B }, [0xa7] = { .fn = op_cmps },
	[0xa8] = { .set = set_test_ei, .form = B | F_IMM8, .kind = K_ACC },
	[0xa9] = { .set = set_test_ei, .form = F_IMMZ, .kind = K_ACC },
	[0xaa] = { .fn = op_stos, .form = B }, [0xab] = { .fn = op_stos },
	[0xac] = { .fn = op_lods, .form = B }, [0xad] = { .fn = op_lods },
	[0xae] = { .fn = op_scas, .form = B }, [0xaf] = { .fn = op_scas },
	EIGHT(0xb0, { .fn = op_mov_ri8, .form = B | F_IMM8, .kind = K_OPREG }),
	EIGHT(0xb8, { .set = set_mov_ei, .form = F_IMMV, .kind = K_OPREG }),
	[0xc0] = { .group = group2_imm, .form = RM | B | F_IMM8 },
	[0xc1] = { .group = group2_imm, .form = RM | F_IMM8 },
	[0xc2] = { .fn = op_ret, .form = F_IMM16 | JUMP },
	[0xc3] = { .fn = op_ret, .form = JUMP },
	[0xc4] = { .fn = op_lds, .form = RM | NO64 | F_MEMONLY | F_END, .kind = K_IMM2, .arg = ES },
	[0xc5] = { .fn = op_lds, .form = RM | NO64 | F_MEMONLY | F_END, .kind = K_IMM2, .arg = DS },
	[0xc6] = { .group = group11, .form = RM | B | F_IMM8 },
	[0xc7] = { .group = group11, .form = RM | F_IMMZ },
	[0xc8] = { .fn = op_enter, .form = F_IMM16 | F_IMM8 | F_64 },
	[0xc9] = { .fn = op_leave, .form = F_64 },
	[0xca] = { .fn = op_retf, .form = F_IMM16 | F_END },
	[0xcb] = { .fn = op_retf, .form = F_END },
	[0xcc] = { .fn = op_int3, .form = F_END },
	[0xcd] = { .fn = op_int, .form = F_IMM8 | F_END },
	[0xce] = { .fn = op_into, .form = NO64 | F_END },
	[0xcf] = { .fn = op_iret, .form = F_END },
	[0xd0] = { .group = group2_1, .form = RM | B },
	[0xd1] = { .group = group2_1, .form = RM },
	[0xd2] = { .group = group2_cl, .form = RM | B },
	[0xd3] = { .group = group2_cl, .form = RM },
	[0xd4] = { .fn = op_aam, .form = F_IMM8 | NO64 },
	[0xd5] = { .fn = op_aad, .form = F_IMM8 | NO64 },
	[0xd6] = { .fn = op_salc, .form = NO64 },
	[0xd7] = { .fn = op_xlat },
	[0xe0] = { .fn = op_loop, .form = F_IMM8 | JUMP, .kind = K_JUMP },
	[0xe1] = { .fn = op_loop, .form = F_IMM8 | JUMP, .kind = K_JUMP },
	[0xe2] = { .fn = op_loop, .form = F_IMM8 | JUMP, .kind = K_JUMP },
	[0xe3] = { .fn = op_jcxz, .form = F_IMM8 | JUMP, .kind = K_JUMP },
	[0xe4] = { .fn = op_in, .form = B | F_IMM8 | F_END },
	[0xe5] = { .fn = op_in, .form = F_IMM8 | F_END },
	[0xe6] = { .fn = op_out, .form = B | F_IMM8 | F_END },
	[0xe7] = { .fn = op_out, .form = F_IMM8 | F_END },
	[0xe8] = { .fn = op_call, .form = F_IMMZ | JUMP, .kind = K_JUMP },
	[0xe9] = { .fn = op_jmp, .form = F_IMMZ | JUMP, .kind = K_JUMP },
	[0xea] = { .fn = op_jmp_far, .form = F_FARPTR | NO64 | F_END },
	[0xeb] = { .fn = op_jmp, .form = F_IMM8 | JUMP, .kind = K_JUMP },
	[0xec] = { .fn = op_in, .form = B | F_END, .kind = K_IMM2, .arg = 1 },
	[0xed] = { .fn = op_in, .form = F_END, .kind = K_IMM2, .arg = 1 },
	[0xee] = { .fn = op_out, .form = B | F_END, .kind = K_IMM2, .arg = 1 },
	[0xef] = { .fn = op_out, .form = F_END, .kind = K_IMM2, .arg = 1 },
	[0xf1] = { .fn = op_int1, .form = F_END },
	[0xf4] = { .fn = op_hlt, .form = F_END },
	[0xf5] = { .fn = op_cmc },
	[0xf6] = { .group = group3_byte, .form = RM | B },
	[0xf7] = { .group = group3, .form = RM },
	[0xf8] = { .fn = op_clc }, [0xf9] = { .fn = op_stc },
	[0xfa] = { .fn = op_cli, .form = F_END }, [0xfb] = { .fn = op_sti, .form = F_END },
	[0xfc] = { .fn = op_cld }, [0xfd] = { .fn = op_std },
	[0xfe] = { .group = group4, .form = RM | B },
	[0xff] = { .group = group5, .form = RM },
};

#define NOP { .fn = op_nop, .form = RM }
#define BIT(o) [o] = { .fn = op_bt, .form = RM, .lock = (o) == 0xa3 ? NULL : op_lock_bit }

const struct core_op core_0f[256] = {
	[0x00] = { .fn = op_group6, .form = RM | F_END },
	[0x01] = { .fn = op_group7, .form = RM | F_END },
	[0x02] = { .fn = op_lar, .form = RM }, [0x03] = { .fn = op_lsl, .form = RM },
	[0x05] = { .fn = op_syscall, .form = F_END },
	[0x06] = { .fn = op_clts, .form = F_END },
	[0x07] = { .fn = op_sysret, .form = F_END },
	[0x08] = { .fn = op_invd, .form = F_END }, [0x09] = { .fn = op_wbinvd, .form = F_END },
	[0x0d] = { .fn = op_nop, .form = RM | F_MEMONLY },
	EIGHT(0x18, NOP),
	[0x20] = { .fn = op_mov_cr_store, .form = RM | F_END, .kind = K_CRDR },
	[0x21] = { .fn = op_mov_dr_store, .form = RM | F_END, .kind = K_CRDR },
	[0x22] = { .fn = op_mov_cr_load, .form = RM | F_END, .kind = K_CRDR },
	[0x23] = { .fn = op_mov_dr_load, .form = RM | F_END, .kind = K_CRDR },
	[0x30] = { .fn = op_wrmsr, .form = F_END }, [0x31] = { .fn = op_rdtsc, .form = F_END },
	[0x32] = { .fn = op_rdmsr, .form = F_END }, [0x33] = { .fn = op_rdpmc, .form = F_END },
	[0x34] = { .fn = op_sysenter, .form = F_END }, [0x35] = { .fn = op_sysexit, .form = F_END },
	SIXTEEN(CMOV, 0x40)
	SIXTEEN(JCCZ, 0x80)
	SIXTEEN(SETCC, 0x90)
	SREG(0xa0, op_push_sreg, FS), SREG(0xa1, op_pop_sreg, FS),
	[0xa2] = { .fn = op_cpuid, .form = F_END },
	BIT(0xa3), BIT(0xab), BIT(0xb3), BIT(0xbb),
	[0xa4] = { .fn = op_shld, .form = RM | F_IMM8 }, [0xa5] = { .fn = op_shld, .form = RM },
	SREG(0xa8, op_push_sreg, GS), SREG(0xa9, op_pop_sreg, GS),
	[0xac] = { .fn = op_shrd, .form = RM | F_IMM8 }, [0xad] = { .fn = op_shrd, .form = RM },
	[0xaf] = { .set = set_imul_re, .form = RM },
	[0xb0] = { .fn = op_cmpxchg, .form = RM | B, .lock = op_lock_cmpxchg },
	[0xb1] = { .fn = op_cmpxchg, .form = RM, .lock = op_lock_cmpxchg },
	[0xb2] = { .fn = op_lds, .form = RM | F_MEMONLY | F_END, .kind = K_IMM2, .arg = SS },
	[0xb4] = { .fn = op_lds, .form = RM | F_MEMONLY | F_END, .kind = K_IMM2, .arg = FS },
	[0xb5] = { .fn = op_lds, .form = RM | F_MEMONLY | F_END, .kind = K_IMM2, .arg = GS },
	[0xb6] = { .set = set_movzx8, .form = RM }, [0xb7] = { .set = set_movzx16, .form = RM },
	[0xb8] = { .fn = op_popcnt, .form = RM }, /* F3 only */
	[0xba] = { .group = group8, .form = RM | F_IMM8 },
	[0xbc] = { .fn = op_bsf, .form = RM }, [0xbd] = { .fn = op_bsr, .form = RM },
	[0xbe] = { .set = set_movsx8, .form = RM }, [0xbf] = { .set = set_movsx16, .form = RM },
	[0xc0] = { .fn = op_xadd, .form = RM | B, .lock = op_lock_xadd },
	[0xc1] = { .fn = op_xadd, .form = RM, .lock = op_lock_xadd },
	[0xc3] = { .fn = op_movnti, .form = RM | F_MEMONLY }, /* no prefix only */
	[0xc7] = { .group = group9, .form = RM },
	EIGHT(0xc8, { .fn = op_bswap, .kind = K_OPREG }),
};
/* clang-format on */
