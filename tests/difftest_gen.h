/* A random instruction and the state it starts from. */
#ifndef TESTS_DIFFTEST_GEN_H
#define TESTS_DIFFTEST_GEN_H

#include <string.h>

#include "tests/difftest.h"

struct rng {
	uint64_t s;
};

static inline uint64_t
rnd(struct rng *r)
{
	uint64_t z = (r->s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 to n - 1. */
static inline uint32_t
below(struct rng *r, uint32_t n)
{
	return (uint32_t)((rnd(r) >> 32) * n >> 32);
}

static inline bool
one_in(struct rng *r, uint32_t n)
{
	return below(r, n) == 0;
}

/* ---- values ---- */
static inline uint64_t
gen_int(struct rng *r)
{
	static const uint64_t special[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff,
		0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
		0xffffffff80000000, 0xffffffffffff8000 };

	switch (below(r, 4)) {
	case 0:
		return special[below(r, sizeof(special) / 8)];
	case 1:
		return rnd(r) >> below(r, 64);
	case 2:
		return (uint64_t)((int64_t)rnd(r) >> below(r, 64));
	default:
		return rnd(r);
	}
}

static inline uint32_t
gen_float(struct rng *r)
{
	static const uint32_t special[] = { 0, 0x80000000, 1, 0x807fffff,
		0x00800000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
		0xffc00001, 0x7f800001, 0xffa00000, 0x3f800000, 0xbf800000,
		0x4f000000, 0xcf000000, 0x5f000000, 0x3f000000, 0x4effffff };

	switch (below(r, 4)) {
	case 0:
		return special[below(r, sizeof(special) / 4)];
	case 1:
		return (uint32_t)rnd(r);
	default: /* of ordinary size */
		return ((uint32_t)rnd(r) & 0x807fffff) |
		    (120 + below(r, 40)) << 23;
	}
}

static inline uint64_t
gen_double(struct rng *r)
{
	static const uint64_t special[] = { 0, 0x8000000000000000, 1,
		0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff,
		0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000,
		0xfff8000000000001, 0x7ff0000000000001, 0xfff4000000000000,
		0x3ff0000000000000, 0xbff0000000000000, 0x41e0000000000000,
		0xc1e0000000000000, 0x43e0000000000000, 0x3fe0000000000000,
		0x41dfffffffc00000, 0x38100000000fffff, 0x47efffffffffffff };

	switch (below(r, 4)) {
	case 0:
		return special[below(r, sizeof(special) / 8)];
	case 1:
		return rnd(r);
	default:
		return (rnd(r) & 0x800fffffffffffff) |
		    (uint64_t)(1000 + below(r, 90)) << 52;
	}
}

static inline void
gen_long_double(struct rng *r, uint8_t *p)
{
	static const struct {
		uint64_t mantissa;
		uint16_t exponent;
	} special[] = {
		{ 0, 0 },
		{ 0, 0x8000 },
		{ 0x8000000000000000, 0x7fff }, /* infinity */
		{ 0x8000000000000000, 0xffff },
		{ 0xc000000000000000, 0xffff }, /* quiet */
		{ 0xa000000000000000, 0x7fff }, /* signalling */
		{ 0xc000000000001234, 0x7fff },
		{ 1, 0 }, /* denormal */
		{ 0x7fffffffffffffff, 0x8000 },
		{ 0x8000000000000001, 0 }, /* pseudo-denormal */
		{ 0x0000000000000001, 0x3fff }, /* unnormal */
		{ 0x4000000000000000, 0x7fff }, /* pseudo-NaN */
		{ 0x8000000000000000, 0x3fff },
		{ 0x8000000000000000, 0xbfff },
		{ 0xffffffffffffffff, 0x7ffe },
		{ 0x8000000000000000, 1 },
		{ 0xffffffffffffffff, 0x403e },
		{ 0xc90fdaa22168c235, 0x4000 },
	};
	uint64_t m = rnd(r) | 0x8000000000000000;
	uint16_t e = (uint16_t)(0x3fff - 40 + below(r, 110));

	if (one_in(r, 2))
		e |= 0x8000;
	switch (below(r, 4)) {
	case 0: {
		unsigned n = below(r, sizeof(special) / sizeof(special[0]));

		m = special[n].mantissa;
		e = special[n].exponent;
		break;
	}
	case 1:
		if (one_in(r, 4))
			e = (uint16_t)rnd(r);
		if (one_in(r, 8))
			m = rnd(r);
		break;
	default:
		if (one_in(r, 2)) /* few bits: exact results */
			m &= ~(uint64_t)0 << below(r, 64);
		break;
	}
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

static inline uint32_t
gen_mxcsr(struct rng *r)
{
	uint32_t v;

	if (one_in(r, 3))
		return 0x1f80;
	v = (uint32_t)rnd(r) & 0xe07f;
	if (!one_in(r, 8))
		return v | 0x1f80;
	return v | ((uint32_t)rnd(r) & 0x1f80);
}

/* The legacy area: x87 and SSE state, with nothing pending that is unmasked
 * but for one case in 64. */
static inline void
gen_fx(struct rng *r, uint8_t *fx)
{
	uint16_t cw = 0x37f, sw;
	uint32_t mxcsr = gen_mxcsr(r);
	unsigned n;

	memset(fx, 0, 512);
	if (!one_in(r, 3))
		cw = (uint16_t)(0x40 | (rnd(r) & 0xf00) | 0x3f);
	if (one_in(r, 6))
		cw &= (uint16_t)(rnd(r) | 0xffc0);
	sw = (uint16_t)rnd(r) & 0x7f7f;
	if (one_in(r, 2))
		sw &= 0x7f00;
	if (!one_in(r, 64))
		sw &= (uint16_t)(cw | 0xffc0);
	if (sw & ~cw & 0x3f)
		sw |= 0x8080;
	memcpy(fx, &cw, 2);
	memcpy(fx + 2, &sw, 2);
	fx[4] = one_in(r, 3) ? (uint8_t)rnd(r) : 0xff;
	for (n = 6; n < 24 && (sw & 0x80); n++)
		fx[n] = (uint8_t)rnd(r);
	fx[7] &= 7;
	/* The upper halves of FIP and FDP: canonical. */
	memset(fx + 13, 0, 3);
	memset(fx + 21, 0, 3);
	memcpy(fx + 24, &mxcsr, 4);
	for (n = 0; n < 8; n++)
		gen_long_double(r, fx + 32 + 16 * n);
	for (n = 0; n < 16; n++) {
		uint64_t q[2];
		uint32_t *d = (uint32_t *)(void *)q;
		unsigned k;

		switch (below(r, 3)) {
		case 0:
			for (k = 0; k < 4; k++)
				d[k] = gen_float(r);
			break;
		case 1:
			for (k = 0; k < 2; k++)
				q[k] = gen_double(r);
			break;
		default:
			for (k = 0; k < 2; k++)
				q[k] = gen_int(r);
			break;
		}
		memcpy(fx + 160 + 16 * n, q, 16);
	}
}

/* The pages before each case. */
static inline void
gen_base(uint64_t seed, uint8_t *base)
{
	struct rng r = { seed ^ 0x5bd1e995 };
	unsigned n, page;

	for (n = 0; n < SCRATCH_SIZE + PAGE; n += 8) {
		uint64_t v;
		uint32_t f[2];

		switch (below(&r, 4)) {
		case 0:
			v = gen_double(&r);
			break;
		case 1:
			f[0] = gen_float(&r);
			f[1] = gen_float(&r);
			memcpy(&v, f, 8);
			break;
		default:
			v = gen_int(&r);
			break;
		}
		memcpy(base + n, &v, 8);
	}
	for (page = 0; page < SCRATCH_SIZE + PAGE; page += PAGE) {
		gen_fx(&r, base + page + FX_AT);
		for (n = 0; n < 16; n++) {
			uint32_t v = gen_mxcsr(&r);

			memcpy(base + page + MXCSR_AT + 4 * n, &v, 4);
		}
	}
}

/* An address for an operand: mostly in the two pages, often at their edges. */
static inline uint64_t
gen_target(struct rng *r)
{
	uint64_t a;

	switch (below(r, 24)) {
	case 0: /* across the two pages */
		a = SCRATCH_BASE + PAGE - 1 - below(r, 16);
		break;
	case 1: /* into the page that is not writable */
		a = READONLY_BASE - 1 - below(r, 16);
		break;
	case 2:
		a = READONLY_BASE + below(r, PAGE);
		break;
	case 3: /* behind it: nothing */
		a = READONLY_BASE + PAGE - 16 + below(r, 32);
		break;
	case 4:
		a = SCRATCH_BASE - below(r, 20);
		break;
	case 5:
		return rnd(r); /* hardly ever canonical */
	default:
		a = SCRATCH_BASE + 16 + below(r, SCRATCH_SIZE - 64);
		break;
	}
	return one_in(r, 3) ? a : a & ~(uint64_t)15;
}

/* ---- instructions ---- */
struct form {
	uint8_t map; /* 0: one byte; 1: 0F */
	uint8_t opcode, modrm;
	uint8_t prefix; /* mandatory prefix: 0 none, 1 66, 2 F3, 3 F2 */
	bool has_modrm;
	uint8_t rex;
	bool rep, lock, opsize, addrsize;
	uint8_t seg; /* FS or GS: 0x64, 0x65; else 0 */
};

static inline bool
one_byte_modrm(uint8_t b)
{
	if (b < 0x40)
		return (b & 7) < 4;
	return b == 0x63 || b == 0x69 || b == 0x6b || (b >= 0x80 && b < 0x90) ||
	    (b & 0xfe) == 0xc0 || (b & 0xfe) == 0xc6 ||
	    (b >= 0xd0 && b < 0xd4) || (b >= 0xd8 && b < 0xe0) ||
	    (b & 0xf6) == 0xf6;
}

static inline bool
two_byte_modrm(uint8_t b)
{
	return !((b >= 0x04 && b < 0x0d && b != 0x0d) || b == 0x0e ||
	    (b >= 0x30 && b < 0x38) || b == 0x77 || (b >= 0x80 && b < 0x90) ||
	    (b >= 0xa0 && b < 0xa3) || (b >= 0xa8 && b < 0xab) ||
	    (b >= 0xc8 && b < 0xd0));
}

/*
 * What cannot be compared, and why:
 *   prefixes and the escapes to VEX, EVEX, 0F 38 and 0F 3A;
 *   system calls (int n, syscall, sysenter): the host's kernel answers;
 *   far transfers, loads of segment registers, lar, lsl, verr, verw: they
 *     depend on the host's GDT;
 *   cpuid, rdtsc, rdpmc, rdrand, sgdt and the like: the host's own values;
 *   what the host declares in CPUID and the software processor does not
 *     (SSE3, SSE4A, XSAVE, BMI1, POPCNT, FSGSBASE, CLFLUSHOPT): #UD there;
 *   hypercalls;
 *   int1: below a hypervisor the rip saved is that of the instruction.
 */
static inline bool
excluded(const struct form *f)
{
	unsigned reg = f->modrm >> 3 & 7;
	bool mem = f->modrm < 0xc0;

	if (f->map == 0) {
		switch (f->opcode) {
		case 0x0f:
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x62:
		case 0x64:
		case 0x65:
		case 0x66:
		case 0x67:
		case 0x8e:
		case 0xc4:
		case 0xc5:
		case 0xca:
		case 0xcb:
		case 0xcd:
		case 0xcf:
		case 0xf0:
		case 0xf1:
		case 0xf2:
		case 0xf3:
			return true;
		case 0x8f: /* XOP */
			return reg != 0;
		case 0xdb:
		case 0xdd:
		case 0xdf: /* fisttp: SSE3 */
			return mem && reg == 1;
		case 0xff:
			return reg == 3 || reg == 5;
		default:
			return f->opcode >= 0x40 && f->opcode < 0x50;
		}
	}
	switch (f->opcode) {
	case 0x00:
		return reg < 2 || reg == 4 || reg == 5;
	case 0x01:
		return !mem || reg == 0 || reg == 1 || reg == 4;
	case 0x02:
	case 0x03:
	case 0x05:
	case 0x31:
	case 0x33:
	case 0x34:
	case 0x35:
	case 0x38:
	case 0x3a:
	case 0x7c:
	case 0x7d:
	case 0xa1:
	case 0xa2:
	case 0xa9:
	case 0xb2:
	case 0xb4:
	case 0xb5:
	case 0xd0:
		return true;
	case 0x12:
	case 0x16:
	case 0x2b:
		return f->prefix >= 2;
	case 0x78:
	case 0x79:
		return f->prefix == 1 || f->prefix == 3;
	case 0xae:
		return f->prefix || (mem && reg >= 4 && reg <= 6);
	case 0xb8:
	case 0xbc:
	case 0xbd:
		return f->prefix == 2;
	case 0xc7:
		return mem ? reg != 1 : reg >= 6;
	case 0xf0:
		return f->prefix == 3;
	default:
		return false;
	}
}

static inline bool
is_string(const struct form *f)
{
	return f->map == 0 &&
	    ((f->opcode >= 0xa4 && f->opcode < 0xa8) ||
		(f->opcode >= 0xaa && f->opcode < 0xb0) ||
		(f->opcode >= 0x6c && f->opcode < 0x70));
}

#define CF 1u
#define PF 4u
#define AF 16u
#define ZF 64u
#define SF 128u
#define OF 2048u

/* Flags that the manuals leave undefined after this instruction. */
static inline uint32_t
undefined_flags(const struct form *f, const struct job *j, uint8_t imm)
{
	unsigned reg = f->modrm >> 3 & 7, op = f->opcode, count;
	unsigned mask = f->rex & 8 ? 63 : 31;
	unsigned bits = !(op & 1) ? 8 : f->rex & 8 ? 64 : f->opsize ? 16 : 32;

	if (f->map == 0) {
		if (op < 0x40 && (op & 7) < 6) {
			unsigned alu = op >> 3;

			return alu == 1 || alu == 4 || alu == 6 ? AF : 0;
		}
		switch (op) {
		case 0x80:
		case 0x81:
		case 0x83:
			return reg == 1 || reg == 4 || reg == 6 ? AF : 0;
		case 0x84:
		case 0x85:
		case 0xa8:
		case 0xa9:
			return AF;
		case 0x69:
		case 0x6b:
			return SF | ZF | AF | PF;
		case 0xc0:
		case 0xc1:
		case 0xd0:
		case 0xd1:
		case 0xd2:
		case 0xd3:
			count = op < 0xd0 ? imm
			    : op < 0xd2	  ? 1
					  : (unsigned)j->gpr[1];
			count &= mask;
			if (!count)
				return 0;
			if (reg < 4)
				return count == 1 ? 0 : OF;
			return AF | (count == 1 ? 0 : OF) |
			    (count >= bits ? CF : 0);
		case 0xf6:
		case 0xf7:
			if (reg < 2)
				return AF;
			if (reg == 4 || reg == 5)
				return SF | ZF | AF | PF;
			return reg > 5 ? CF | PF | AF | ZF | SF | OF : 0;
		default:
			return 0;
		}
	}
	switch (op) {
	case 0xa3:
	case 0xab:
	case 0xb3:
	case 0xbb:
	case 0xba:
		return OF | SF | AF | PF;
	case 0xa4:
	case 0xac:
	case 0xa5:
	case 0xad:
		bits = f->rex & 8 ? 64 : f->opsize ? 16 : 32;
		count = (op & 1 ? (unsigned)j->gpr[1] : imm) & mask;
		if (!count)
			return 0;
		if (count > bits)
			return CF | PF | AF | ZF | SF | OF;
		return AF | (count == 1 ? 0 : OF);
	case 0xaf:
		return SF | ZF | AF | PF;
	case 0xbc:
	case 0xbd:
		return CF | OF | SF | AF | PF;
	default:
		return 0;
	}
}

/* Where the memory operand shall be; some instructions read more than
 * numbers. */
static inline uint64_t
operand_target(struct rng *r, const struct form *f)
{
	unsigned reg = f->modrm >> 3 & 7;
	uint64_t page = SCRATCH_BASE + PAGE * below(r, 3);

	if (f->map == 1 && f->opcode == 0xae && !one_in(r, 4)) {
		if (reg == 1)
			return page + FX_AT;
		if (reg == 2)
			return page + MXCSR_AT + 4 * below(r, 16);
	}
	return gen_target(r);
}

/* ModRM, SIB and displacement of a memory operand at target, for which
 * registers are set; the bytes go to p.  Returns their count. */
static inline unsigned
gen_memory(struct rng *r, const struct form *f, struct job *j, uint8_t *p,
    uint64_t target, uint64_t next_ip)
{
	unsigned mod = f->modrm >> 6, rm = f->modrm & 7, n = 0;
	unsigned base = rm | (f->rex & 1u) << 3, index = 16, scale = 0;
	int64_t disp = 0;
	unsigned disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	uint64_t rest = target;

	if (f->seg == 0x64)
		rest -= FS_BASE;
	else if (f->seg == 0x65)
		rest -= GS_BASE;
	p[n++] = f->modrm;
	if (rm == 4) {
		uint8_t sib = (uint8_t)rnd(r);

		p[n++] = sib;
		base = (sib & 7u) | (f->rex & 1u) << 3;
		index = (sib >> 3 & 7u) | (f->rex & 2u) << 2;
		scale = sib >> 6;
		if (index == 4)
			index = 16;
		if ((sib & 7) == 5 && mod == 0) {
			base = 16;
			disp_size = 4;
		}
	} else if (rm == 5 && mod == 0) {
		base = 17;
		disp_size = 4;
	}
	if (disp_size == 1)
		disp = (int8_t)rnd(r);
	else if (disp_size == 4)
		disp = one_in(r, 2) ? (int32_t)rnd(r) : (int16_t)rnd(r);
	if (index < 16) {
		if (index == 4 || !one_in(r, 3))
			j->gpr[index] = below(r, 256);
		if (index == base)
			j->gpr[index] =
			    (rest - (uint64_t)disp) / (1 + (1u << scale));
	}
	if (base >= 16) {
		if (base == 17)
			rest -= next_ip + n + 4;
		else if (index < 16)
			rest -= j->gpr[index] << scale;
		disp = (int32_t)rest;
	} else if (base != index) {
		rest -= (uint64_t)disp;
		if (index < 16)
			rest -= j->gpr[index] << scale;
		j->gpr[base] = rest;
		if (f->addrsize && one_in(r, 2))
			j->gpr[base] ^= rnd(r) << 32;
	}
	memcpy(p + n, &disp, disp_size);
	return n + disp_size;
}

static inline void
gen_form(struct rng *r, struct form *f, int map, int opcode)
{
	unsigned kind;

	memset(f, 0, sizeof(*f));
	do {
		f->modrm = (uint8_t)rnd(r);
		if (one_in(r, 3))
			f->modrm |= 0xc0;
		f->rex = one_in(r, 2) ? (uint8_t)(0x40 | below(r, 16)) : 0;
		f->rep = false;
		f->prefix = 0;
		f->opsize = one_in(r, 6);
		kind = below(r, 100);
		if (map >= 0) {
			f->map = (uint8_t)map;
			f->opcode = (uint8_t)opcode;
			kind = map == 0 ? 0 : 99;
		} else if (kind < 45) {
			f->map = 0;
			f->opcode = (uint8_t)rnd(r);
		} else if (kind < 60) {
			f->map = 0;
			f->opcode = (uint8_t)(0xd8 + below(r, 8));
		} else {
			f->map = 1;
			f->opcode = (uint8_t)rnd(r);
		}
		if (kind >= 60) { /* 0F: every mandatory prefix as often */
			f->prefix = (uint8_t)below(r, 4);
			f->opsize =
			    f->prefix == 1 || (f->prefix > 1 && one_in(r, 16));
		} else if (one_in(r, 8)) {
			f->prefix = (uint8_t)(2 + below(r, 2));
		} else if (f->opsize) {
			f->prefix = 1;
		}
		if (is_string(f) && one_in(r, 2))
			f->prefix = (uint8_t)(2 + below(r, 2));
		f->has_modrm = f->map ? two_byte_modrm(f->opcode)
				      : one_byte_modrm(f->opcode);
	} while (excluded(f));
	f->rep = f->prefix > 1;
	f->lock = one_in(r, 40);
	f->addrsize = one_in(r, 16);
	f->seg = one_in(r, 16) ? (uint8_t)(0x64 + below(r, 2)) : 0;
}

static inline void
gen_registers(struct rng *r, const struct form *f, struct job *j)
{
	unsigned n;

	for (n = 0; n < 16; n++)
		j->gpr[n] = one_in(r, 3) ? gen_target(r) : gen_int(r);
	j->gpr[4] = one_in(r, 16)
	    ? gen_target(r)
	    : SCRATCH_BASE + PAGE / 2 + 8 * below(r, PAGE / 8);
	j->gpr[5] = gen_target(r);
	if (is_string(f)) {
		j->gpr[6] = gen_target(r);
		j->gpr[7] = gen_target(r);
		if (f->seg)
			j->gpr[6] -= f->seg == 0x64 ? FS_BASE : GS_BASE;
		if (f->rep)
			j->gpr[1] = below(r, 24);
	}
	if (f->map == 0 && f->opcode == 0xd7)
		j->gpr[3] = gen_target(r) - (j->gpr[0] & 0xff);
	if (f->map == 1 && f->opcode == 0xf7)
		j->gpr[7] = gen_target(r);
	if (f->map == 0 && (f->opcode & 0xfe) == 0xf6 && !one_in(r, 3))
		j->gpr[2] = one_in(r, 2) ? 0 : below(r, 256);
}

static inline void
gen_flags(struct rng *r, struct job *j)
{
	j->rflags = 0x202 | ((uint32_t)rnd(r) & (CF | PF | AF | ZF | SF | OF));
	if (one_in(r, 8))
		j->rflags |= 1u << 10; /* DF */
	if (one_in(r, 64))
		j->rflags |= 1u << 18; /* AC */
}

/* map < 0: any instruction. */
static inline void
gen_case(uint64_t seed, uint64_t index, int map, int opcode, struct job *j)
{
	struct rng r = { seed * 0x2545f4914f6cdd1du +
		index * 0xd1342543de82ef95u };
	struct form f;
	uint8_t prefixes[8], *p = j->code;
	unsigned n = 0, k;
	uint64_t tail;

	rnd(&r);
	gen_form(&r, &f, map, opcode);
	gen_registers(&r, &f, j);
	gen_flags(&r, j);
	gen_fx(&r, j->fx);
	j->rip = CODE_BASE + SLOT * (index % BATCH);
	if (index % BATCH == BATCH - 1) /* across the end of what is mapped */
		j->rip = CODE_BASE + CODE_SIZE - 1 - below(&r, 14);

	if (f.prefix > 1)
		prefixes[n++] = f.prefix == 2 ? 0xf3 : 0xf2;
	if (f.opsize)
		prefixes[n++] = 0x66;
	if (f.addrsize)
		prefixes[n++] = 0x67;
	if (f.lock)
		prefixes[n++] = 0xf0;
	if (f.seg)
		prefixes[n++] = f.seg;
	if (one_in(&r, 64))
		prefixes[n++] = (uint8_t[]){ 0x26, 0x2e, 0x36,
			0x3e }[f.seg ? 0 : below(&r, 4)];
	for (; n; n--) { /* in any order */
		k = below(&r, n);
		*p++ = prefixes[k];
		prefixes[k] = prefixes[n - 1];
	}
	if (one_in(&r, 512)) /* too long */
		for (k = below(&r, 8); k && !f.rep; k--)
			*p++ = 0x3e;
	if (f.rex)
		*p++ = f.rex;
	if (f.map)
		*p++ = 0x0f;
	*p++ = f.opcode;
	tail = gen_int(&r) ^ (uint64_t)below(&r, 64);
	if (f.has_modrm) {
		if (f.modrm >= 0xc0)
			*p++ = f.modrm;
		else
			p += gen_memory(&r, &f, j, p, operand_target(&r, &f),
			    j->rip + (uint64_t)(p - j->code) +
				(f.map == 1 &&
				    (f.opcode == 0x70 || f.opcode == 0xc2 ||
					f.opcode == 0xc6)));
		/* A bit offset reaches far: keep most near. */
		k = (f.modrm >> 3 & 7u) | (f.rex & 4u) << 1;
		if (f.map == 1 && (f.opcode & 0xe7) == 0xa3 && f.modrm < 0xc0 &&
		    k != 4 && one_in(&r, 2))
			j->gpr[k] = (uint64_t)(int64_t)(int8_t)rnd(&r);
	} else if (f.map == 0 && f.opcode >= 0xa0 && f.opcode < 0xa4) {
		tail = gen_target(&r);
	}
	/* By more than the operand's bits the result is undefined. */
	if (f.map == 1 && f.opsize && !(f.rex & 8) &&
	    (f.opcode & 0xf6) == 0xa4) {
		tail &= 0xf;
		j->gpr[1] &= ~(uint64_t)0x10;
	}
	memcpy(p, &tail, 8);
	j->len = (uint8_t)(p + 8 - j->code > 24 ? 24 : p + 8 - j->code);
	j->rep = f.rep && is_string(&f);
	if (j->rep && j->gpr[1] > 64)
		j->gpr[1] = below(&r, 24);
	j->undefined = undefined_flags(&f, j, *p);
	j->key[0] = f.map;
	j->key[1] = f.opcode;
	j->key[2] = f.has_modrm ? f.modrm : 0;
}

#undef CF
#undef PF
#undef AF
#undef ZF
#undef SF
#undef OF
#endif
