/* Bytes to instructions: prefixes, opcode, ModRM, immediates. */
#include "hypervisor/soft/decode.h"

#include <string.h>

#include "hypervisor/soft/block.h"
#include "hypervisor/soft/mmu.h"

#define INSN_BYTES_MAX 15u

struct cursor {
	const uint8_t *p;
	unsigned at, limit;
	bool over;
};

static uint8_t
next8(struct cursor *k)
{
	if (k->at >= k->limit) {
		k->over = true;
		return 0;
	}
	return k->p[k->at++];
}

/* Little-endian, sign-extended. */
static uint64_t
next_bytes(struct cursor *k, unsigned size)
{
	uint64_t v = 0;

	for (unsigned n = 0; n < size; n++)
		v |= (uint64_t)next8(k) << (8 * n);
	switch (size) {
	case 1:
		return (uint64_t)(int8_t)v;
	case 2:
		return (uint64_t)(int16_t)v;
	case 4:
		return (uint64_t)(int32_t)v;
	default:
		return v;
	}
}

struct prefixes {
	unsigned rex, seg; /* rex 0: none; seg SEG_COUNT: none */
	uint8_t flags;
	bool addr;
};

/* Returns the first byte behind the prefixes. */
static uint8_t
take_prefixes(struct cursor *k, unsigned mode, struct prefixes *p)
{
	p->rex = 0;
	p->seg = SEG_COUNT;
	p->flags = 0;
	p->addr = false;
	for (;;) {
		uint8_t b = next8(k);

		switch (b) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			if (mode != 8)
				p->seg = (b >> 3) & 3u;
			break;
		case 0x64:
		case 0x65:
			p->seg = b & 1 ? GS : FS;
			break;
		case 0x66:
			p->flags |= INSN_OPSIZE;
			break;
		case 0x67:
			p->addr = true;
			break;
		case 0xf0:
			p->flags |= INSN_LOCK;
			break;
		case 0xf2:
			p->flags &= (uint8_t)~INSN_REP;
			p->flags |= INSN_REPNE;
			break;
		case 0xf3:
			p->flags &= (uint8_t)~INSN_REPNE;
			p->flags |= INSN_REP;
			break;
		default:
			if (mode != 8 || (b & 0xf0) != 0x40)
				return b;
			p->rex = b;
			b = next8(k);
			/* Only directly before the opcode does it count. */
			if ((b & 0xf0) == 0x40 || b == 0x26 || b == 0x2e ||
			    b == 0x36 || b == 0x3e || (b & 0xfc) == 0x64 ||
			    b == 0xf0 || b == 0xf2 || b == 0xf3) {
				p->rex = 0;
				if (k->over)
					return 0;
				k->at--;
				continue;
			}
			p->flags |= INSN_REX;
			if (p->rex & 8)
				p->flags |= INSN_REXW;
			return b;
		}
		if (k->over)
			return 0;
	}
}

static void
operand_16(struct cursor *k, struct insn *i, unsigned mod, unsigned rm)
{
	static const uint8_t bases[8] = { RBX, RBX, RBP, RBP, RSI, RDI, RBP,
		RBX };
	static const uint8_t indices[8] = { RSI, RDI, RSI, RDI, NO_REG, NO_REG,
		NO_REG, NO_REG };

	i->base = bases[rm];
	i->index = indices[rm];
	if (mod == 0 && rm == 6) {
		i->base = NO_REG;
		i->disp = (int16_t)next_bytes(k, 2);
	} else if (mod == 1) {
		i->disp = (int8_t)next8(k);
	} else if (mod == 2) {
		i->disp = (int16_t)next_bytes(k, 2);
	}
}

static void
operand_32(struct cursor *k, struct insn *i, unsigned mod, unsigned rm,
    unsigned rex, unsigned mode)
{
	unsigned sib;

	i->base = (uint8_t)(rm | (rex & 1) << 3);
	if (rm == 4) {
		sib = next8(k);
		i->scale = (uint8_t)(sib >> 6);
		i->index = (uint8_t)((sib >> 3 & 7) | (rex & 2) << 2);
		if (i->index == 4)
			i->index = NO_REG;
		rm = sib & 7;
		i->base = (uint8_t)(rm | (rex & 1) << 3);
		if (mod == 0 && rm == 5) {
			i->base = NO_REG;
			i->disp = (int32_t)next_bytes(k, 4);
		}
	} else if (mod == 0 && rm == 5) {
		i->base = mode == 8 ? RIP_REG : NO_REG;
		i->disp = (int32_t)next_bytes(k, 4);
	}
	if (mod == 1)
		i->disp = (int8_t)next8(k);
	else if (mod == 2)
		i->disp = (int32_t)next_bytes(k, 4);
}

static uint8_t
byte_reg(const struct insn *i, unsigned r)
{
	if (!(i->flags & INSN_REX) && r >= 4 && r < 8)
		return (uint8_t)((r - 4) * 8 + 1);
	return (uint8_t)(r * 8);
}

static unsigned
operand_size(unsigned mode, unsigned form, unsigned flags)
{
	if (form & F_BYTE)
		return 1;
	if (mode == 8) {
		if (flags & INSN_REXW)
			return 8;
		if (flags & INSN_OPSIZE)
			return 2;
		return form & (F_64 | F_BRANCH) ? 8 : 4;
	}
	return (mode == 4) == !(flags & INSN_OPSIZE) ? 4 : 2;
}

static void
take_immediates(struct cursor *k, struct insn *i, unsigned form)
{
	unsigned z = i->opsize == 2 ? 2 : 4;

	if (form & F_IMM16) {
		i->imm = (uint16_t)next_bytes(k, 2);
		if (form & F_IMM8)
			i->imm2 = next8(k);
	} else if (form & F_IMM8) {
		i->imm = next_bytes(k, 1);
	} else if (form & F_IMMZ) {
		i->imm = next_bytes(k, z);
	} else if (form & F_IMMV) {
		i->imm = next_bytes(k, i->opsize);
	} else if (form & F_MOFFS) {
		i->imm = next_bytes(k, i->addrsize);
		if (i->addrsize == 4)
			i->imm = (uint32_t)i->imm;
		else if (i->addrsize == 2)
			i->imm = (uint16_t)i->imm;
	} else if (form & F_FARPTR) {
		i->imm = next_bytes(k, z);
		i->imm = z == 2 ? (uint16_t)i->imm : (uint32_t)i->imm;
		i->imm2 = (uint16_t)next_bytes(k, 2);
	}
}

static unsigned
simd_prefix(unsigned flags)
{
	return flags & INSN_REP	  ? 2
	    : flags & INSN_REPNE  ? 3
	    : flags & INSN_OPSIZE ? 1
				  : 0;
}

/* Rows of other tables become one of ours. */
static struct core_op
simd_row(const struct opcode *o)
{
	struct core_op row = { .fn = o->fn, .form = o->form };

	return row;
}

/* By the prefix.  Where that one has none, the others tell how long the
 * instruction is: its bytes are fetched before it is refused. */
static struct core_op
prefix_row(const struct opcode o[4], unsigned prefix)
{
	struct core_op row = simd_row(&o[prefix]);

	for (unsigned n = 0; n < 4 && row.fn == NULL; n++)
		row.form |= o[n].form & (F_MODRM | F_IMM8 | F_IMM16);
	return row;
}

static struct core_op
row_0f(struct cursor *k, struct insn *i)
{
	struct core_op row;
	unsigned prefix = simd_prefix(i->flags);

	i->opcode = next8(k);
	if (i->opcode == 0x38 || i->opcode == 0x3a) {
		bool third = i->opcode == 0x3a;

		i->opcode = next8(k);
		return prefix_row(
		    third ? simd_0f3a[i->opcode] : simd_0f38[i->opcode],
		    prefix);
	}
	row = core_0f[i->opcode];
	if ((i->opcode == 0xb8 && prefix != 2) ||
	    (i->opcode == 0xc3 && prefix != 0))
		row.fn = NULL;
	if (row.fn == NULL && row.set == NULL && row.group == NULL &&
	    row.kind == K_NONE)
		return prefix_row(simd_0f[i->opcode], prefix);
	return row;
}

/* The 64-bit variants of near branches, and conditional jumps. */
static op_fn *
branch_fn(const struct core_op *row, const struct insn *i, unsigned mode)
{
	/* As on AMD's processors 66 makes 16-bit branches of them. */
	bool lng = mode == 8 && i->opsize == 8;

	if (row->kind == K_JUMP && row->fn == NULL)
		return lng ? jcc64[i->opcode & 15] : jcc[i->opcode & 15];
	if (!lng)
		return row->fn;
	return row->fn == op_jmp    ? op_jmp64
	    : row->fn == op_call    ? op_call64
	    : row->fn == op_ret	    ? op_ret64
	    : row->fn == op_jmp_rm  ? op_jmp_rm64
	    : row->fn == op_call_rm ? op_call_rm64
				    : row->fn;
}

static op_fn *
choose(const struct core_op *row, struct insn *i, unsigned mode)
{
	unsigned log = i->opsize == 1 ? 0
	    : i->opsize == 2	      ? 1
	    : i->opsize == 4	      ? 2
				      : 3;
	bool mem = (i->flags & INSN_MEM) != 0;
	unsigned form = row->form;

	if ((form & F_NO64) && mode == 8)
		return NULL;
	if (((form & F_MEMONLY) && !mem) || ((form & F_REGONLY) && mem))
		return NULL;
	if (i->flags & INSN_LOCK)
		return mem ? row->lock : NULL;
	if (row->fn == op_xchg_r && mem)
		return op_xchg_mem;
	if (row->fn == op_xchg_acc && i->rm == RAX)
		return op_nop;
	if (row->set != NULL)
		return row->set[2 * log + mem];
	return branch_fn(row, i, mode);
}

static op_fn *
base_variant(op_fn *fn)
{
	for (const struct op_pair *p = base_pairs; p->fn != NULL; p++) {
		if (p->fn == fn)
			return p->base;
	}
	return fn;
}

/* The default segment, and the sentinel that 64-bit code uses for it. */
static void
set_segment(struct insn *i, unsigned override, unsigned mode)
{
	if (override != SEG_COUNT)
		i->seg = (uint8_t) override;
	else if (mode == 8)
		i->seg = SEG_FLAT;
	else
		i->seg =
		    (i->flags & INSN_MEM) && (i->base == RSP || i->base == RBP)
		    ? SS
		    : DS;
}

/* Fills *i; false: it ends the block. k->over: not enough bytes. */
static bool
decode_one(struct cursor *k, struct insn *i, unsigned mode, unsigned index)
{
	struct prefixes p;
	struct core_op row;
	unsigned modrm = 0;

	i->base = i->index = NO_REG;
	i->opcode = take_prefixes(k, mode, &p);
	i->flags = p.flags;
	i->addrsize = (uint8_t)(mode == 8 ? (p.addr ? 4 : 8)
		: (mode == 4) == !p.addr  ? 4
					  : 2);
	if (i->opcode == 0x0f) {
		row = row_0f(k, i);
	} else if ((i->opcode & 0xf8) == 0xd8) {
		/* Peek: the row depends on the ModRM byte. */
		modrm = next8(k);
		if (k->over)
			return false;
		k->at--;
		row = simd_row(x87_opcode(i->opcode, modrm));
		row.form |= F_MODRM;
		i->imm2 = (uint16_t)modrm;
	} else {
		row = core_1byte[i->opcode];
		if (i->opcode == 0x63 && mode == 8) {
			row.fn = NULL;
			row.set = set_movsxd;
		}
	}
	i->rm = i->opcode & 7;
	i->rm |= (uint8_t)((p.rex & 1) << 3);
	if (row.form & F_MODRM) {
		modrm = next8(k);
		i->reg = (uint8_t)((modrm >> 3 & 7) | (p.rex & 4) << 1);
		i->rm = (uint8_t)((modrm & 7) | (p.rex & 1) << 3);
		if (row.group != NULL) {
			unsigned form = row.form;

			row = row.group[modrm >> 3 & 7];
			row.form |= (uint16_t)form;
		}
		if (row.kind != K_CRDR && modrm < 0xc0) {
			i->flags |= INSN_MEM;
			if (i->addrsize == 2)
				operand_16(k, i, modrm >> 6, modrm & 7);
			else
				operand_32(
				    k, i, modrm >> 6, modrm & 7, p.rex, mode);
		}
	}
	i->opsize = (uint8_t)operand_size(mode, row.form, i->flags);
	take_immediates(k, i, row.form);
	if (k->over)
		return false;
	i->len = (uint8_t)k->at;
	switch (row.kind) {
	case K_ACC:
		i->rm = RAX;
		break;
	case K_SREG:
		i->reg = row.arg;
		break;
	case K_CRDR:
		/* AMD's way to CR8 without REX. */
		if ((i->opcode & 0xfd) == 0x20 && (i->flags & INSN_LOCK) &&
		    i->reg == 0) {
			i->reg = 8;
			i->flags &= (uint8_t)~INSN_LOCK;
		}
		break;
	case K_MOVSREG:
		i->reg &= 7;
		break;
	case K_IMM2:
		i->imm2 = row.arg;
		break;
	case K_JUMP:
		i->imm += (uint64_t)i->offset + i->len;
		break;
	default:
		break;
	}
	if (row.form & F_BRANCH)
		i->imm2 = (uint16_t)(index + 1);
	i->breg = byte_reg(i, i->reg);
	i->brm = byte_reg(i, i->rm);
	set_segment(i, p.seg, mode);
	if (i->base == RIP_REG)
		i->disp = (int32_t)((uint32_t)i->disp + i->offset + i->len);
	i->fast = mode == 8 && i->addrsize == 8;
	i->fn = choose(&row, i, mode);
	if (i->fast && i->index == NO_REG && i->seg == SEG_FLAT)
		i->fn = base_variant(i->fn);
	if (i->fn == NULL) {
		i->fn = op_ud;
		return false;
	}
	return !(row.form & F_END);
}

/* May the way to that offset from the block's start be a pointer? */
static uint8_t
page_local(unsigned mode, unsigned first_page, uint64_t to)
{
	return mode == 8 && first_page + to < PAGE_SIZE;
}

struct decoded
decode_block(struct insn *out, unsigned max, const uint8_t *code, unsigned have,
    unsigned mode, unsigned first_page)
{
	struct decoded d = { 0, 0 };
	struct insn *end;
	bool more = true;

	while (more && d.count < max) {
		struct insn *i = &out[d.count];
		struct cursor k = { .p = code + d.size };

		k.limit = MIN(have - d.size, INSN_BYTES_MAX);
		memset(i, 0, sizeof(*i));
		i->offset = (uint16_t)d.size;
		more = decode_one(&k, i, mode, d.count);
		if (k.over) {
			if (k.limit < INSN_BYTES_MAX)
				break;
			i->fn = op_too_long;
			i->len = INSN_BYTES_MAX;
			more = false;
		}
		d.size += i->len;
		/* One that does nothing needs no row, but to be alone. */
		if (i->fn != op_nop || d.count == 0)
			d.count++;
	}
	if (d.count == 0)
		return d;
	out[d.count - 1].flags |= INSN_LAST;
	end = &out[d.count];
	memset(end, 0, 2 * sizeof(*end));
	end[0].fn = end[1].fn = op_block_end;
	end[0].offset = end[1].offset = (uint16_t)d.size;
	end[0].imm2 = end[1].imm2 = (uint16_t)d.count;
	end[0].fast = end[1].fast = page_local(mode, first_page, d.size);
	if (end[-1].fn == op_jmp64 || end[-1].fn == op_call64 ||
	    (mode == 8 && end[-1].fn == jcc64[end[-1].opcode & 15]))
		end[0].fast = page_local(mode, first_page, end[-1].imm);
	if (d.count > 1 && mode == 8 &&
	    end[-1].fn == jcc64[end[-1].opcode & 15])
		end[-2].fn = fuse_compare(&end[-2]);
	return d;
}
