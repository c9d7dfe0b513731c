/* Ports: in, out, ins, outs, with their permissions. */
#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/mmu.h"
#include "hypervisor/soft/sys_seg.h"

#define TSS_IOMAP 0x66u

/* May the current privilege touch size ports from `port`?  Else #GP(0). */
static void
check_port(struct cpu *c, const struct insn *i, uint16_t port, unsigned size)
{
	uint16_t map, bits;
	uint32_t at;

	c->fault_insn = i;
	if (!cpu_protected(c) || c->cpl <= cpu_iopl(c))
		return;
	if ((c->tr.attr & (ATTR_P | 8)) != (ATTR_P | 8) ||
	    c->tr.limit < TSS_IOMAP + 1)
		cpu_raise(c, EXC_GP, 0);
	sys_read(c, i, c->tr.base + TSS_IOMAP, &map, sizeof(map));
	at = (uint32_t)map + port / 8u;
	/* Two bytes are always read: the ports may cross a byte. */
	if (at + 1 > c->tr.limit)
		cpu_raise(c, EXC_GP, 0);
	sys_read(c, i, c->tr.base + at, &bits, sizeof(bits));
	if (((unsigned)bits >> (port & 7)) & ((1u << size) - 1))
		cpu_raise(c, EXC_GP, 0);
}

/* in and out take at most 4 bytes. */
static unsigned
io_size(const struct insn *i)
{
	return MIN(i->opsize, 4u);
}

static SYS_SLOW uint32_t
pio_read(struct cpu *c, uint16_t port, unsigned size)
{
	struct hv_access a = {
		.addr = port,
		.size = (uint8_t)size,
		.space = HV_PIO,
	};

	if (UNLIKELY(c->watch))
		debug_note_port(c, port, size);
	machine_pio(c, &a);
	return (uint32_t)(a.data & size_mask(size));
}

static SYS_SLOW void
pio_write(struct cpu *c, uint16_t port, unsigned size, uint32_t v)
{
	struct hv_access a = {
		.addr = port,
		.data = v & size_mask(size),
		.size = (uint8_t)size,
		.write = true,
		.space = HV_PIO,
	};

	if (UNLIKELY(c->watch))
		debug_note_port(c, port, size);
	machine_pio(c, &a);
}

static uint16_t
io_port(const struct cpu *c, const struct insn *i)
{
	return i->imm2 ? (uint16_t)c->reg[RDX] : (uint8_t)i->imm;
}

static SYS_SLOW void
in(struct cpu *c, const struct insn *i)
{
	unsigned size = io_size(i);
	uint16_t port = io_port(c, i);
	uint32_t v;

	check_port(c, i, port, size);
	v = pio_read(c, port, size);
	if (size == 1)
		c->reg[RAX] = (c->reg[RAX] & ~0xffull) | v;
	else
		reg_write(c, RAX, size, v);
}

OP(op_in)
{
	in(c, i);
	NEXT(c, i);
}

static SYS_SLOW void
out(struct cpu *c, const struct insn *i)
{
	unsigned size = io_size(i);
	uint16_t port = io_port(c, i);

	check_port(c, i, port, size);
	pio_write(c, port, size, (uint32_t)c->reg[RAX]);
}

OP(op_out)
{
	out(c, i);
	NEXT(c, i);
}

/* Move an index register by an element. */
static void
advance(struct cpu *c, const struct insn *i, unsigned r, unsigned size)
{
	uint64_t step = c->rflags & FL_DF ? -(uint64_t)size : size;

	reg_write(c, r, i->addrsize, c->reg[r] + step);
}

static void
ins_element(struct cpu *c, const struct insn *i, unsigned size)
{
	uint64_t off = c->reg[RDI] & size_mask(i->addrsize), lin;
	uint32_t v;

	/* The port must not be read for memory that then faults. */
	lin = seg_lin(c, i, ES, off, size, true);
	mem_probe_write(c, i, lin, size);
	v = pio_read(c, (uint16_t)c->reg[RDX], size);
	mem_write(c, i, lin, &v, size);
	advance(c, i, RDI, size);
}

static void
outs_element(struct cpu *c, const struct insn *i, unsigned size)
{
	uint64_t off = c->reg[RSI] & size_mask(i->addrsize), lin;
	uint32_t v = 0;

	lin = seg_lin(c, i, i->seg, off, size, false);
	mem_read(c, i, lin, &v, size);
	pio_write(c, (uint16_t)c->reg[RDX], size, v);
	advance(c, i, RSI, size);
}

/* True: done; false: something wants attention between two elements. */
static SYS_SLOW bool
string_io(struct cpu *c, const struct insn *i,
    void (*element)(struct cpu *, const struct insn *, unsigned))
{
	unsigned size = io_size(i);
	bool rep = i->flags & (INSN_REP | INSN_REPNE);
	uint64_t count;

	check_port(c, i, (uint16_t)c->reg[RDX], size);
	if (!rep) {
		element(c, i, size);
		return true;
	}
	while ((count = c->reg[RCX] & size_mask(i->addrsize)) != 0) {
		element(c, i, size);
		reg_write(c, RCX, i->addrsize, count - 1);
		if (count > 1 &&
		    atomic_load_explicit(&c->attention, memory_order_relaxed) !=
			0)
			return false;
	}
	return true;
}

OP(op_ins)
{
	if (!string_io(c, i, ins_element)) {
		c->icount_cut = i + 1;
		c->rip = insn_ip(c, i);
		END(c);
	}
	NEXT(c, i);
}

OP(op_outs)
{
	if (!string_io(c, i, outs_element)) {
		c->icount_cut = i + 1;
		c->rip = insn_ip(c, i);
		END(c);
	}
	NEXT(c, i);
}
