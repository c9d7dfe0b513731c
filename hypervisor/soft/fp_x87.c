/*
 * The x87.  Whatever computes is run by the host's own x87 with the guest's
 * whole state loaded, control word included: results, flags, stack faults and
 * what an unmasked exception leaves behind are then the processor's.  The host
 * never sees the exception itself, for only waiting instructions report one
 * and FNSAVE, which reads the state back, does not wait.
 */
#include "hypervisor/soft/fp_ops.h"

/* FNSAVE's image in 64-bit mode. */
struct x87_image {
	uint16_t cw, pad0, sw, pad1, tw, pad2;
	uint32_t fip;
	uint16_t fcs, fop;
	uint32_t fdp;
	uint16_t fds, pad3;
	uint8_t st[8][10]; /* from the top of the stack on */
} __attribute__((packed));

/*
 * Every instruction D8 to DF followed by a return: 64 register forms of each
 * opcode, then the 8 memory forms of each, with the operand at (%rax).
 * soft_x87_run(image, stub, operand, flags) gives the flags afterwards.
 */
__asm__(".pushsection .text\n"
	".balign 4\n"
	".local soft_x87_reg_stubs, soft_x87_mem_stubs, soft_x87_run\n"
	"soft_x87_reg_stubs:\n"
	".set opcode, 0xd8\n"
	".rept 8\n"
	".set modrm, 0xc0\n"
	".rept 64\n"
	".byte opcode, modrm, 0xc3, 0xcc\n"
	".set modrm, modrm + 1\n"
	".endr\n"
	".set opcode, opcode + 1\n"
	".endr\n"
	"soft_x87_mem_stubs:\n"
	".set opcode, 0xd8\n"
	".rept 8\n"
	".set modrm, 0\n"
	".rept 8\n"
	".byte opcode, modrm, 0xc3, 0xcc\n"
	".set modrm, modrm + 8\n"
	".endr\n"
	".set opcode, opcode + 1\n"
	".endr\n"
	".balign 16\n"
	"soft_x87_run:\n"
	"frstor (%rdi)\n"
	"mov %rdx, %rax\n"
	"push %rcx\n"
	"popfq\n"
	"call *%rsi\n"
	"pushfq\n"
	"pop %rax\n"
	"fnsave (%rdi)\n"
	"ret\n"
	".popsection\n");
extern const char soft_x87_reg_stubs[], soft_x87_mem_stubs[];
uint64_t soft_x87_run(
    struct x87_image *image, const char *stub, void *operand, uint64_t flags);

#define STUB_SIZE    4u
#define FLAGS_ALWAYS 0x202u

static inline unsigned
top(const struct x87 *f)
{
	return f->sw >> X87_TOP_SHIFT & 7;
}

void
x87_summarize(struct x87 *f)
{
	f->sw &= (uint16_t) ~(X87_ES | X87_B);
	if (f->sw & ~f->cw & MXCSR_FLAGS)
		f->sw |= X87_ES | X87_B;
}

void
x87_init(struct cpu *c)
{
	struct x87 *f = &c->x87;

	f->cw = X87_CW_INIT;
	f->sw = 0;
	f->empty = 0xff;
	f->fop = f->fcs = f->fds = 0;
	f->fip = f->fdp = 0;
}

/* ---- checks ---- */
NORETURN static void
raise_at(struct cpu *c, const struct insn *i, unsigned vector)
{
	c->fault_insn = i;
	cpu_raise(c, vector, 0);
}

static inline void
enter_control(struct cpu *c, const struct insn *i)
{
	if (UNLIKELY(c->cr0 & (CR0_EM | CR0_TS)))
		raise_at(c, i, EXC_NM);
}

static inline void
enter_waiting(struct cpu *c, const struct insn *i)
{
	enter_control(c, i);
	if (UNLIKELY((c->x87.sw & X87_ES) && (c->cr0 & CR0_NE)))
		raise_at(c, i, EXC_MF);
}

/* ---- to the host and back ---- */
static void
image_from(struct x87_image *m, const struct x87 *f)
{
	unsigned n, t = top(f);

	memset(m, 0, offsetof(struct x87_image, st));
	m->cw = f->cw;
	m->sw = f->sw;
	/* Pending here only without CR0.NE, when it stops nothing: but it would
	 * stop the host. */
	if (UNLIKELY(f->sw & X87_ES))
		m->sw &= (uint16_t) ~(MXCSR_FLAGS | X87_ES | X87_B);
	for (n = 0; n < 8; n++) {
		if (f->empty & 1u << n)
			m->tw |= (uint16_t)(3u << 2 * n);
		memcpy(m->st[n], &f->st[(t + n) & 7], 10);
	}
}

static void
image_to(const struct x87_image *m, struct x87 *f)
{
	unsigned n, t;
	uint16_t kept = 0;

	if (UNLIKELY(f->sw & X87_ES))
		kept = f->sw & (MXCSR_FLAGS | X87_ES | X87_B);
	f->cw = m->cw;
	f->sw = m->sw | kept;
	t = top(f);
	f->empty = 0;
	for (n = 0; n < 8; n++) {
		if ((m->tw >> 2 * n & 3) == 3)
			f->empty |= (uint8_t)(1u << n);
		memcpy(&f->st[(t + n) & 7], m->st[n], 10);
	}
}

static void
note_insn(struct cpu *c, const struct insn *i)
{
	struct x87 *f = &c->x87;

	f->fip = insn_ip(c, i);
	f->fcs = c->seg[CS].sel;
	if (i->flags & INSN_MEM) {
		f->fdp = insn_ea(c, i);
		f->fds = c->seg[i->seg].sel;
	}
	/* The decoder keeps the whole ModRM byte there. */
	f->fop = (uint16_t)((i->opcode & 7u) << 8 | (i->imm2 & 0xffu));
}

static const char *
mem_stub(const struct insn *i)
{
	return soft_x87_mem_stubs +
	    STUB_SIZE * ((i->opcode & 7u) * 8 + (i->reg & 7u));
}

static void
run_reg(struct cpu *c, const struct insn *i)
{
	const char *stub = soft_x87_reg_stubs +
	    STUB_SIZE *
		((i->opcode & 7u) * 64 + (i->reg & 7u) * 8 + (i->rm & 7u));
	struct x87_image m;
	uint32_t fl = flags_get(c) & FL_ARITH, after;

	image_from(&m, &c->x87);
	after = (uint32_t)soft_x87_run(&m, stub, NULL, fl | FLAGS_ALWAYS) &
	    FL_ARITH;
	image_to(&m, &c->x87);
	if (after != fl)
		flags_set_arith(c, after);
	note_insn(c, i);
}

/* By the accessor of that size, for it checks the alignment. */
static void
operand_read(struct cpu *c, const struct insn *i, uint8_t *p, unsigned size)
{
	uint64_t lin = insn_lin(c, i, size, false), v;

	switch (size) {
	case 2:
		v = mem_read16(c, i, lin);
		break;
	case 4:
		v = mem_read32(c, i, lin);
		break;
	case 8:
		v = mem_read64(c, i, lin);
		break;
	default:
		fp_check_alignment(c, i, lin, 8);
		mem_read(c, i, lin, p, size);
		return;
	}
	memcpy(p, &v, 8);
}

static void
operand_write(struct cpu *c, const struct insn *i, uint64_t lin,
    const uint8_t *p, unsigned size)
{
	uint64_t v;

	memcpy(&v, p, 8);
	switch (size) {
	case 2:
		mem_write16(c, i, lin, (uint16_t)v);
		break;
	case 4:
		mem_write32(c, i, lin, (uint32_t)v);
		break;
	case 8:
		mem_write64(c, i, lin, v);
		break;
	default:
		mem_write(c, i, lin, p, size);
		break;
	}
}

static void
run_load(struct cpu *c, const struct insn *i, unsigned size)
{
	struct x87_image m;
	uint8_t operand[16];

	operand_read(c, i, operand, size);
	image_from(&m, &c->x87);
	soft_x87_run(&m, mem_stub(i), operand, FLAGS_ALWAYS);
	image_to(&m, &c->x87);
	note_insn(c, i);
}

/* An unmasked exception other than "inexact" keeps the memory as it was. */
static void
run_store(struct cpu *c, const struct insn *i, unsigned size)
{
	uint64_t lin = insn_lin(c, i, size, true);
	struct x87_image m;
	uint8_t operand[16];

	fp_check_alignment(c, i, lin, MIN(size, 8u));
	image_from(&m, &c->x87);
	soft_x87_run(&m, mem_stub(i), operand, FLAGS_ALWAYS);
	if (!(m.sw & ~m.cw & (MXCSR_FLAGS & ~FX_PE)))
		operand_write(c, i, lin, operand, size);
	else
		mem_probe_write(c, i, lin, size);
	image_to(&m, &c->x87);
	note_insn(c, i);
}

static OP(op_x87_reg)
{
	enter_waiting(c, i);
	run_reg(c, i);
	NEXT(c, i);
}

#define DEFINE_MEM(size)              \
	static OP(op_x87_load##size)  \
	{                             \
		enter_waiting(c, i);  \
		run_load(c, i, size); \
		NEXT(c, i);           \
	}
#define DEFINE_STORE(size)             \
	static OP(op_x87_store##size)  \
	{                              \
		enter_waiting(c, i);   \
		run_store(c, i, size); \
		NEXT(c, i);            \
	}
DEFINE_MEM(2)
DEFINE_MEM(4)
DEFINE_MEM(8)
DEFINE_MEM(10)
DEFINE_STORE(2)
DEFINE_STORE(4)
DEFINE_STORE(8)
DEFINE_STORE(10)

/* ---- control ---- */
static OP(op_fninit)
{
	enter_control(c, i);
	x87_init(c);
	NEXT(c, i);
}

static OP(op_fnclex)
{
	enter_control(c, i);
	c->x87.sw &= 0x7f00;
	NEXT(c, i);
}

/* FNENI, FNDISI, FNSETPM: of the 8087 and the 80287. */
static OP(op_x87_nop)
{
	enter_control(c, i);
	NEXT(c, i);
}

static OP(op_fnstsw_ax)
{
	enter_control(c, i);
	c->reg[RAX] = (c->reg[RAX] & ~(uint64_t)0xffff) | c->x87.sw;
	NEXT(c, i);
}

static OP(op_fnstsw)
{
	enter_control(c, i);
	mem_write16(c, i, insn_lin(c, i, 2, true), c->x87.sw);
	NEXT(c, i);
}

static OP(op_fnstcw)
{
	enter_control(c, i);
	mem_write16(c, i, insn_lin(c, i, 2, true), c->x87.cw);
	NEXT(c, i);
}

static uint16_t
cw_legal(uint16_t cw)
{
	return (cw & 0x1f3f) | 0x40;
}

static OP(op_fldcw)
{
	enter_waiting(c, i);
	c->x87.cw = cw_legal(mem_read16(c, i, insn_lin(c, i, 2, false)));
	x87_summarize(&c->x87);
	NEXT(c, i);
}

/* The two tag bits of a register: 0 a number, 1 zero, 2 special, 3 empty. */
static unsigned
tag(const struct x87 *f, unsigned n)
{
	uint64_t mantissa;
	uint16_t exponent;

	if (f->empty & 1u << n)
		return 3;
	memcpy(&mantissa, &f->st[n], 8);
	memcpy(&exponent, (const char *)&f->st[n] + 8, 2);
	exponent &= 0x7fff;
	if (!exponent && !mantissa)
		return 1;
	return !exponent || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

static bool
is_real_mode(const struct cpu *c)
{
	return !(c->cr0 & CR0_PE) || (c->rflags & FL_VM);
}

static unsigned
env_size(const struct insn *i)
{
	return i->opsize == 2 ? 14 : 28;
}

/* The environment in one of its four formats: 14 or 28 bytes, real mode or
 * protected (AMD64 manual 2, 11.4.4). */
static void
env_get(const struct cpu *c, const struct insn *i, uint8_t *p)
{
	const struct x87 *f = &c->x87;
	uint32_t w[7];
	uint32_t ip = (uint32_t)f->fip, dp = (uint32_t)f->fdp;
	unsigned n, tags = 0;

	for (n = 0; n < 8; n++)
		tags |= tag(f, n) << 2 * n;
	w[0] = f->cw;
	w[1] = f->sw;
	w[2] = tags;
	if (is_real_mode(c)) {
		ip += (uint32_t)f->fcs << 4;
		dp += (uint32_t)f->fds << 4;
	}
	if (i->opsize == 2) {
		w[3] = ip;
		w[4] = f->fcs;
		w[5] = dp;
		w[6] = f->fds;
		if (is_real_mode(c)) {
			w[4] = (ip >> 16 & 0xf) << 12 | f->fop;
			w[6] = (dp >> 16 & 0xf) << 12;
		}
		for (n = 0; n < 7; n++)
			memcpy(p + 2 * n, &w[n], 2);
		return;
	}
	w[0] |= 0xffff0000;
	w[1] |= 0xffff0000;
	w[2] |= 0xffff0000;
	w[3] = ip;
	w[4] = f->fcs | (uint32_t)f->fop << 16;
	w[5] = dp;
	w[6] = f->fds | 0xffff0000;
	if (is_real_mode(c)) {
		w[3] = (ip & 0xffff) | 0xffff0000;
		w[4] = (ip >> 16) << 12 | f->fop;
		w[5] = (dp & 0xffff) | 0xffff0000;
		w[6] = (dp >> 16) << 12;
	}
	memcpy(p, w, sizeof(w));
}

static void
env_set(struct cpu *c, const struct insn *i, const uint8_t *p)
{
	struct x87 *f = &c->x87;
	uint32_t w[7] = { 0 };
	unsigned n;

	if (i->opsize == 2)
		for (n = 0; n < 7; n++)
			memcpy(&w[n], p + 2 * n, 2);
	else
		memcpy(w, p, sizeof(w));
	f->cw = cw_legal((uint16_t)w[0]);
	f->sw = (uint16_t)w[1];
	f->empty = 0;
	for (n = 0; n < 8; n++)
		if ((w[2] >> 2 * n & 3) == 3)
			f->empty |= (uint8_t)(1u << n);
	if (is_real_mode(c)) {
		f->fip = (w[3] & 0xffff) | (w[4] & ~0xfffu) << 4;
		f->fdp = (w[5] & 0xffff) | (w[6] & ~0xfffu) << 4;
		f->fop = w[4] & 0x7ff;
		f->fcs = f->fds = 0;
	} else {
		f->fip = w[3];
		f->fcs = (uint16_t)w[4];
		f->fdp = w[5];
		f->fds = (uint16_t)w[6];
		if (i->opsize != 2)
			f->fop = w[4] >> 16 & 0x7ff;
	}
	x87_summarize(f);
}

static void
image_write(
    struct cpu *c, const struct insn *i, const uint8_t *p, unsigned size)
{
	uint64_t lin = insn_lin(c, i, size, true);

	fp_check_alignment(c, i, lin, i->opsize == 2 ? 2 : 4);
	mem_write(c, i, lin, p, size);
}

static void
image_read(struct cpu *c, const struct insn *i, uint8_t *p, unsigned size)
{
	uint64_t lin = insn_lin(c, i, size, false);

	fp_check_alignment(c, i, lin, i->opsize == 2 ? 2 : 4);
	mem_read(c, i, lin, p, size);
}

static void
fnstenv(struct cpu *c, const struct insn *i)
{
	uint8_t env[28];
	unsigned size = env_size(i);

	env_get(c, i, env);
	image_write(c, i, env, size);
	c->x87.cw |= MXCSR_FLAGS;
	x87_summarize(&c->x87);
}

static OP(op_fnstenv)
{
	enter_control(c, i);
	fnstenv(c, i);
	NEXT(c, i);
}

static void
fldenv(struct cpu *c, const struct insn *i)
{
	uint8_t env[28];
	unsigned size = env_size(i);

	image_read(c, i, env, size);
	env_set(c, i, env);
}

static OP(op_fldenv)
{
	enter_waiting(c, i);
	fldenv(c, i);
	NEXT(c, i);
}

static void
fnsave(struct cpu *c, const struct insn *i)
{
	uint8_t image[28 + 80];
	unsigned n, env = env_size(i), t = top(&c->x87);

	env_get(c, i, image);
	for (n = 0; n < 8; n++)
		memcpy(image + env + 10 * n, &c->x87.st[(t + n) & 7], 10);
	image_write(c, i, image, env + 80);
	x87_init(c);
}

static OP(op_fnsave)
{
	enter_control(c, i);
	fnsave(c, i);
	NEXT(c, i);
}

static void
frstor(struct cpu *c, const struct insn *i)
{
	uint8_t image[28 + 80];
	unsigned n, env = env_size(i), t;

	image_read(c, i, image, env + 80);
	env_set(c, i, image);
	t = top(&c->x87);
	for (n = 0; n < 8; n++)
		memcpy(&c->x87.st[(t + n) & 7], image + env + 10 * n, 10);
}

static OP(op_frstor)
{
	enter_waiting(c, i);
	frstor(c, i);
	NEXT(c, i);
}

/* ---- the tables ---- */
#define R(name, fn)                \
	{                          \
		fn, F_MODRM, #name \
	}
#define NONE                  \
	{                     \
		NULL, 0, NULL \
	}

/* By opcode & 7 and ModRM.reg. */
static const struct opcode memory[8][8] = {
	{ R(fadd, op_x87_load4), R(fmul, op_x87_load4), R(fcom, op_x87_load4),
	    R(fcomp, op_x87_load4), R(fsub, op_x87_load4),
	    R(fsubr, op_x87_load4), R(fdiv, op_x87_load4),
	    R(fdivr, op_x87_load4) },
	{ R(fld, op_x87_load4), NONE, R(fst, op_x87_store4),
	    R(fstp, op_x87_store4), R(fldenv, op_fldenv), R(fldcw, op_fldcw),
	    R(fnstenv, op_fnstenv), R(fnstcw, op_fnstcw) },
	{ R(fiadd, op_x87_load4), R(fimul, op_x87_load4),
	    R(ficom, op_x87_load4), R(ficomp, op_x87_load4),
	    R(fisub, op_x87_load4), R(fisubr, op_x87_load4),
	    R(fidiv, op_x87_load4), R(fidivr, op_x87_load4) },
	{ R(fild, op_x87_load4), NONE, R(fist, op_x87_store4),
	    R(fistp, op_x87_store4), NONE, R(fld, op_x87_load10), NONE,
	    R(fstp, op_x87_store10) },
	{ R(fadd, op_x87_load8), R(fmul, op_x87_load8), R(fcom, op_x87_load8),
	    R(fcomp, op_x87_load8), R(fsub, op_x87_load8),
	    R(fsubr, op_x87_load8), R(fdiv, op_x87_load8),
	    R(fdivr, op_x87_load8) },
	{ R(fld, op_x87_load8), NONE, R(fst, op_x87_store8),
	    R(fstp, op_x87_store8), R(frstor, op_frstor), NONE,
	    R(fnsave, op_fnsave), R(fnstsw, op_fnstsw) },
	{ R(fiadd, op_x87_load2), R(fimul, op_x87_load2),
	    R(ficom, op_x87_load2), R(ficomp, op_x87_load2),
	    R(fisub, op_x87_load2), R(fisubr, op_x87_load2),
	    R(fidiv, op_x87_load2), R(fidivr, op_x87_load2) },
	{ R(fild, op_x87_load2), NONE, R(fist, op_x87_store2),
	    R(fistp, op_x87_store2), R(fbld, op_x87_load10),
	    R(fild, op_x87_load8), R(fbstp, op_x87_store10),
	    R(fistp, op_x87_store8) },
};

/* Where all eight register operands are one instruction: the same way. */
static const struct opcode registers[8][8] = {
	{ R(fadd, op_x87_reg), R(fmul, op_x87_reg), R(fcom, op_x87_reg),
	    R(fcomp, op_x87_reg), R(fsub, op_x87_reg), R(fsubr, op_x87_reg),
	    R(fdiv, op_x87_reg), R(fdivr, op_x87_reg) },
	{ R(fld, op_x87_reg), R(fxch, op_x87_reg), NONE, R(fstp, op_x87_reg),
	    NONE, NONE, NONE, NONE },
	{ R(fcmovb, op_x87_reg), R(fcmove, op_x87_reg), R(fcmovbe, op_x87_reg),
	    R(fcmovu, op_x87_reg), NONE, NONE, NONE, NONE },
	{ R(fcmovnb, op_x87_reg), R(fcmovne, op_x87_reg),
	    R(fcmovnbe, op_x87_reg), R(fcmovnu, op_x87_reg), NONE,
	    R(fucomi, op_x87_reg), R(fcomi, op_x87_reg), NONE },
	{ R(fadd, op_x87_reg), R(fmul, op_x87_reg), R(fcom, op_x87_reg),
	    R(fcomp, op_x87_reg), R(fsubr, op_x87_reg), R(fsub, op_x87_reg),
	    R(fdivr, op_x87_reg), R(fdiv, op_x87_reg) },
	{ R(ffree, op_x87_reg), R(fxch, op_x87_reg), R(fst, op_x87_reg),
	    R(fstp, op_x87_reg), R(fucom, op_x87_reg), R(fucomp, op_x87_reg),
	    NONE, NONE },
	{ R(faddp, op_x87_reg), R(fmulp, op_x87_reg), R(fcomp, op_x87_reg),
	    NONE, R(fsubrp, op_x87_reg), R(fsubp, op_x87_reg),
	    R(fdivrp, op_x87_reg), R(fdivp, op_x87_reg) },
	{ R(ffreep, op_x87_reg), R(fxch, op_x87_reg), R(fstp, op_x87_reg),
	    R(fstp, op_x87_reg), NONE, R(fucomip, op_x87_reg),
	    R(fcomip, op_x87_reg), NONE },
};

/* The rest has an instruction of its own for each: opcode, ModRM. */
static const struct {
	uint8_t opcode, modrm;
	struct opcode row;
} singles[] = {
	{ 0xd9, 0xd0, R(fnop, op_x87_reg) },
	{ 0xd9, 0xe0, R(fchs, op_x87_reg) },
	{ 0xd9, 0xe1, R(fabs, op_x87_reg) },
	{ 0xd9, 0xe4, R(ftst, op_x87_reg) },
	{ 0xd9, 0xe5, R(fxam, op_x87_reg) },
	{ 0xd9, 0xe8, R(fld1, op_x87_reg) },
	{ 0xd9, 0xe9, R(fldl2t, op_x87_reg) },
	{ 0xd9, 0xea, R(fldl2e, op_x87_reg) },
	{ 0xd9, 0xeb, R(fldpi, op_x87_reg) },
	{ 0xd9, 0xec, R(fldlg2, op_x87_reg) },
	{ 0xd9, 0xed, R(fldln2, op_x87_reg) },
	{ 0xd9, 0xee, R(fldz, op_x87_reg) },
	{ 0xd9, 0xf0, R(f2xm1, op_x87_reg) },
	{ 0xd9, 0xf1, R(fyl2x, op_x87_reg) },
	{ 0xd9, 0xf2, R(fptan, op_x87_reg) },
	{ 0xd9, 0xf3, R(fpatan, op_x87_reg) },
	{ 0xd9, 0xf4, R(fxtract, op_x87_reg) },
	{ 0xd9, 0xf5, R(fprem1, op_x87_reg) },
	{ 0xd9, 0xf6, R(fdecstp, op_x87_reg) },
	{ 0xd9, 0xf7, R(fincstp, op_x87_reg) },
	{ 0xd9, 0xf8, R(fprem, op_x87_reg) },
	{ 0xd9, 0xf9, R(fyl2xp1, op_x87_reg) },
	{ 0xd9, 0xfa, R(fsqrt, op_x87_reg) },
	{ 0xd9, 0xfb, R(fsincos, op_x87_reg) },
	{ 0xd9, 0xfc, R(frndint, op_x87_reg) },
	{ 0xd9, 0xfd, R(fscale, op_x87_reg) },
	{ 0xd9, 0xfe, R(fsin, op_x87_reg) },
	{ 0xd9, 0xff, R(fcos, op_x87_reg) },
	{ 0xda, 0xe9, R(fucompp, op_x87_reg) },
	{ 0xdb, 0xe0, R(fneni, op_x87_nop) },
	{ 0xdb, 0xe1, R(fndisi, op_x87_nop) },
	{ 0xdb, 0xe2, R(fnclex, op_fnclex) },
	{ 0xdb, 0xe3, R(fninit, op_fninit) },
	{ 0xdb, 0xe4, R(fnsetpm, op_x87_nop) },
	{ 0xde, 0xd9, R(fcompp, op_x87_reg) },
	{ 0xdf, 0xe0, R(fnstsw, op_fnstsw_ax) },
};

const struct opcode *
x87_opcode(unsigned opcode, unsigned modrm)
{
	unsigned n;

	if (modrm < 0xc0)
		return &memory[opcode & 7][modrm >> 3 & 7];
	for (n = 0; n < ARRAY_LEN(singles); n++)
		if ((singles[n].opcode & 7) == (opcode & 7) &&
		    singles[n].modrm == modrm)
			return &singles[n].row;
	return &registers[opcode & 7][modrm >> 3 & 7];
}
