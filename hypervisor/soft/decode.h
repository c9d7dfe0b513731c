/*
 * The decoder's own tables (decode_table.c).  A row names one handler, or a
 * set of them by operand size and kind (int.h).
 */
#ifndef SOFT_DECODE_H
#define SOFT_DECODE_H

#include "hypervisor/soft/int.h"

struct core_op {
	op_fn *fn; /* or set; both NULL: #UD */
	op_fn *const *set;
	op_fn *lock; /* with LOCK and a memory destination; NULL: #UD */
	const struct core_op *group; /* by ModRM.reg, 8 rows: fn, set, lock and
					more form bits from there */
	uint16_t form; /* enum opcode_form */
	uint8_t kind; /* enum core_kind */
	uint8_t arg;
};

enum core_kind {
	K_NONE,
	K_OPREG, /* register in the opcode, into rm */
	K_ACC, /* rm is the accumulator */
	K_SREG, /* the segment arg into reg */
	K_MOVSREG, /* ModRM.reg is a segment: REX.R does not count */
	K_IMM2, /* arg into imm2 */
	K_JUMP, /* relative jump: imm from the block's start */
	K_CRDR, /* ModRM names registers whatever mod is */
	K_NOADDR, /* ModRM memory operand is address only: LEA */
};

extern const struct core_op core_1byte[256];
extern const struct core_op core_0f[256];

#endif
