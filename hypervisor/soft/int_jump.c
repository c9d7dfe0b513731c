/* Jumps, calls, returns, loops. */
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

/*
 * The block's rows behind a direct jump hold the way on: the first that of the
 * taken branch, the second that of the fall-through.
 */
#define TAKEN(i)   (&(i)[1])
#define THROUGH(i) (&(i)[2])

static inline uint64_t
trunc_ip(const struct cpu *c, const struct insn *i, uint64_t ip)
{
	if (i->opsize == 2)
		return (uint16_t)ip;
	return c->mode == 8 ? ip : (uint32_t)ip;
}

/* A far-off target faults at the jump. */
static void
check_ip(struct cpu *c, const struct insn *i, uint64_t ip)
{
	if (c->mode == 8 ? !lin_canonical(ip) : ip > c->seg[CS].limit)
		cpu_raise_gp(c, i, 0);
}

/* clang-format off */
#define CONDITIONS(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) \
	X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
/* clang-format on */

#define JCC(cc)                                                          \
	static OP(jcc64_##cc)                                            \
	{                                                                \
		c->insns += i->imm2;                                     \
		if (lazy_cond(c, cc)) {                                  \
			jump_direct(c, TAKEN(i), c->rip + i->imm);       \
			return;                                          \
		}                                                        \
		jump_direct(c, THROUGH(i), c->rip + i->offset + i->len); \
	}                                                                \
	static OP(jcc_##cc)                                              \
	{                                                                \
		jump_if(c, i, lazy_cond(c, cc));                         \
	}

static void
jump_if(struct cpu *c, const struct insn *i, bool yes)
{
	uint64_t ip;

	c->insns += i->imm2;
	if (yes) {
		ip = trunc_ip(c, i, c->rip + i->imm);
		check_ip(c, i, ip);
	} else {
		ip = insn_next_ip(c, i);
	}
	jump_indirect(c, ip);
}

CONDITIONS(JCC)
#define ROW64(cc) jcc64_##cc,
#define ROW(cc)	  jcc_##cc,
op_fn *const jcc64[16] = { CONDITIONS(ROW64) };
op_fn *const jcc[16] = { CONDITIONS(ROW) };

OP(op_jmp64)
{
	c->insns += i->imm2;
	jump_direct(c, TAKEN(i), c->rip + i->imm);
}

OP(op_jmp)
{
	jump_if(c, i, true);
}

OP(op_block_end)
{
	c->insns += i->imm2;
	if (c->mode == 8) {
		jump_direct(c, i, c->rip + i->offset);
		return;
	}
	jump_indirect(c, insn_next_ip(c, i));
}

OP(op_block_stale)
{
	c->icount_cut = i;
	c->rip = insn_ip(c, i);
	END(c);
}

static void
jump_to(struct cpu *c, const struct insn *i, uint64_t ip)
{
	check_ip(c, i, ip);
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_jmp_rm)
{
	jump_to(c, i, trunc_ip(c, i, rm_load(c, i, i->opsize)));
}

OP(op_jmp_rm64)
{
	uint64_t ip;

	if (i->flags & INSN_MEM) {
		const void *host;

		if (!i->fast ||
		    (host = tlb_read(c, cpu_lin_fast(c, i), 8)) == NULL) {
			op_jmp_rm(c, i);
			return;
		}
		ip = host_load(host, 8);
	} else {
		ip = c->reg[i->rm];
	}
	if (UNLIKELY(!lin_canonical(ip))) {
		op_jmp_rm(c, i);
		return;
	}
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_call)
{
	uint64_t ip = trunc_ip(c, i, c->rip + i->imm);

	mem_probe_write(c, i,
	    stack_lin(c, i, c->reg[RSP] - i->opsize, i->opsize, true),
	    i->opsize);
	check_ip(c, i, ip);
	int_push(c, i, i->opsize, insn_next_ip(c, i));
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_call64)
{
	uint64_t rsp = c->reg[RSP] - 8;
	void *host = tlb_write(c, rsp, 8);

	if (UNLIKELY(host == NULL)) {
		op_call(c, i);
		return;
	}
	host_store(host, 8, c->rip + i->offset + i->len);
	c->reg[RSP] = rsp;
	c->insns += i->imm2;
	jump_direct(c, TAKEN(i), c->rip + i->imm);
}

OP(op_call_rm)
{
	uint64_t ip = trunc_ip(c, i, rm_load(c, i, i->opsize));

	mem_probe_write(c, i,
	    stack_lin(c, i, c->reg[RSP] - i->opsize, i->opsize, true),
	    i->opsize);
	check_ip(c, i, ip);
	int_push(c, i, i->opsize, insn_next_ip(c, i));
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_call_rm64)
{
	uint64_t ip, rsp = c->reg[RSP] - 8;
	const void *from;
	void *host;

	if (i->flags & INSN_MEM) {
		if (!i->fast ||
		    (from = tlb_read(c, cpu_lin_fast(c, i), 8)) == NULL) {
			op_call_rm(c, i);
			return;
		}
		ip = host_load(from, 8);
	} else {
		ip = c->reg[i->rm];
	}
	host = tlb_write(c, rsp, 8);
	if (UNLIKELY(host == NULL || !lin_canonical(ip))) {
		op_call_rm(c, i);
		return;
	}
	host_store(host, 8, c->rip + i->offset + i->len);
	c->reg[RSP] = rsp;
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_ret)
{
	uint64_t ip = trunc_ip(c, i, int_top(c, i, i->opsize));

	check_ip(c, i, ip);
	stack_set(c, c->reg[RSP] + i->opsize + (uint16_t)i->imm);
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_ret64)
{
	uint64_t ip, rsp = c->reg[RSP];
	const void *host = tlb_read(c, rsp, 8);

	if (UNLIKELY(host == NULL)) {
		op_ret(c, i);
		return;
	}
	ip = host_load(host, 8);
	if (UNLIKELY(!lin_canonical(ip))) {
		op_ret(c, i);
		return;
	}
	c->reg[RSP] = rsp + 8 + (uint16_t)i->imm;
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

/* E0 LOOPNE, E1 LOOPE, E2 LOOP: RCX by address size.  As AMD's processors do,
 * F2 and F3 choose the condition whatever the opcode says. */
OP(op_loop)
{
	uint64_t rcx = zero_extend(c->reg[RCX] - 1, i->addrsize), ip;
	bool yes = rcx != 0, zf = i->opcode == 0xe1;

	if (i->flags & (INSN_REP | INSN_REPNE))
		zf = (i->flags & INSN_REP) != 0;
	if (i->opcode != 0xe2)
		yes = yes && lazy_zf(c) == zf;
	ip = insn_next_ip(c, i);
	if (yes) {
		ip = trunc_ip(c, i, c->rip + i->imm);
		check_ip(c, i, ip);
	}
	reg_set(c, RCX, 0, i->addrsize, rcx);
	c->insns += i->imm2;
	jump_indirect(c, ip);
}

OP(op_jcxz)
{
	jump_if(c, i, zero_extend(c->reg[RCX], i->addrsize) == 0);
}
