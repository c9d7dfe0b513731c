/* Paging, the software TLB and memory accesses. */
#include <string.h>

#include "hypervisor/soft/block.h"
#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/mmu.h"

/* Page table entry bits; the first five are those of the error code, too. */
#define PTE_P	  1ull
#define PTE_W	  2ull
#define PTE_U	  4ull
#define PTE_A	  0x20ull
#define PTE_D	  0x40ull
#define PTE_PS	  0x80ull
#define PTE_G	  0x100ull
#define PTE_NX	  (1ull << 63)
#define PTE_ADDR  (((1ull << SOFT_PHYS_BITS) - 1) & ~0xfffull)
#define PTE_HIGH  (((1ull << 52) - 1) & ~((1ull << SOFT_PHYS_BITS) - 1))

#define ERR_P	  1u
#define ERR_WRITE 2u
#define ERR_USER  4u
#define ERR_RSVD  8u
#define ERR_FETCH 16u
/* Not an error code bit: descriptor tables and the like, to which EFLAGS.AC
 * gives no right. */
#define ACC_SYSTEM 32u
/* Told apart from "no fault", as 0 is an error code. */
#define FAULT 64u

/* Bits in tlb_entry.gpa beside the frame. */
#define TLB_GLOBAL 1u
#define TLB_USER   2u

struct walk {
	hv_gpa gpa; /* of the page's frame (4 KiB) */
	bool writable; /* at this privilege, with the dirty bit set */
	bool global, user;
	bool keep; /* may stand in the TLB */
};

static uint64_t
entry_read(struct cpu *c, hv_gpa gpa, unsigned size, uint8_t **host)
{
	uint64_t left, v = 0;

	*host = machine_ram(c->machine, gpa, false, &left);
	if (*host != NULL)
		return size == 8 ? __atomic_load_n((uint64_t *)(void *)*host,
				       __ATOMIC_ACQUIRE)
				 : __atomic_load_n((uint32_t *)(void *)*host,
				       __ATOMIC_ACQUIRE);
	phys_read(c, gpa, &v, size);
	return v;
}

/* Set bits in an entry that still holds old.  False: it changed. */
static bool
entry_mark(uint8_t *host, unsigned size, uint64_t old, uint64_t bits)
{
	uint32_t old32 = (uint32_t)old;

	if ((old & bits) == bits || host == NULL)
		return true;
	if (size == 8)
		return __atomic_compare_exchange_n((uint64_t *)(void *)host,
		    &old, old | bits, false, __ATOMIC_ACQ_REL,
		    __ATOMIC_RELAXED);
	return __atomic_compare_exchange_n((uint32_t *)(void *)host, &old32,
	    (uint32_t)(old | bits), false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

struct level {
	uint64_t entry;
	uint8_t *host;
};

struct rights {
	bool write, user, nx;
};

/* 0, or the error code: not to be had, at the leaf. */
static uint32_t
check_rights(const struct cpu *c, const struct rights *r, uint32_t access)
{
	bool user = (access & ERR_USER) != 0;

	if (user && !r->user)
		return ERR_P;
	if ((access & ERR_WRITE) && !r->write && (user || (c->cr0 & CR0_WP)))
		return ERR_P;
	if (access & ERR_FETCH) {
		if (r->nx || (!user && r->user && (c->cr4 & CR4_SMEP)))
			return ERR_P;
	} else if (!user && r->user && (c->cr4 & CR4_SMAP) &&
	    ((access & ACC_SYSTEM) || !(c->rflags & FL_AC))) {
		return ERR_P;
	}
	return 0;
}

static uint64_t
reserved_bits(const struct cpu *c, unsigned level, uint64_t e, bool lng)
{
	uint64_t bad = lng ? PTE_HIGH : PTE_HIGH | (0x7ffull << 52);

	if (!(c->efer & EFER_NXE))
		bad |= PTE_NX;
	if (level == 4)
		bad |= PTE_PS;
	if (!lng && level == 3) /* PDPTE: no W, U, NX */
		return bad | PTE_NX | 0x1e6;
	if ((e & PTE_PS) && level == 3)
		bad |= 0x3fffe000;
	if ((e & PTE_PS) && level == 2)
		bad |= 0x1fe000;
	return bad;
}

/* FAULT with the error code, or 0.  *again: an entry changed. */
static uint32_t
walk_tables(
    struct cpu *c, uint64_t lin, uint32_t access, struct walk *w, bool *again)
{
	bool lng = (c->efer & EFER_LMA) != 0;
	bool pae = lng || (c->cr4 & CR4_PAE);
	unsigned size = pae ? 8 : 4, bits = pae ? 9 : 10;
	unsigned level = lng ? 4 : pae ? 3 : 2, top = level;
	struct rights r = { true, true, false };
	struct level at[5] = { 0 };
	uint64_t e,
	    table = c->cr3 &
	    (lng	  ? PTE_ADDR
		    : pae ? 0xffffffe0u
			  : 0xfffff000u);
	uint64_t page, mask;
	uint32_t err;

	for (;; level--) {
		unsigned shift = 12 + bits * (level - 1);
		uint64_t n = (lin >> shift) & ((1u << bits) - 1);
		bool leaf = level == 1;

		if (!lng && pae && level == 3)
			n &= 3;
		e = entry_read(c, table + n * size, size, &at[level].host);
		at[level].entry = e;
		if (!(e & PTE_P))
			return FAULT | (access & ~ACC_SYSTEM);
		if (pae && (e & reserved_bits(c, level, e, lng)))
			return FAULT | (access & ~ACC_SYSTEM) | ERR_P |
			    ERR_RSVD;
		if (!(!lng && pae && level == 3)) {
			r.write &= (e & PTE_W) != 0;
			r.user &= (e & PTE_U) != 0;
			r.nx |= pae && (e & PTE_NX);
		}
		if ((e & PTE_PS) && level > 1 &&
		    (pae ? level <= 3 && (lng || level == 2)
			 : (c->cr4 & CR4_PSE) != 0))
			leaf = true;
		if (!leaf) {
			table = e & (pae ? PTE_ADDR : 0xfffff000u);
			continue;
		}
		mask = (1ull << shift) - 1;
		page = e & (pae ? PTE_ADDR : 0xfffff000u) & ~mask;
		if (!pae && level == 2) /* PSE-36 */
			page = (e & 0xffc00000u) | ((e & 0x1fe000u) << 19);
		page |= lin & mask & ~(uint64_t)PAGE_OFFSET;
		break;
	}
	err = check_rights(c, &r, access);
	if (err != 0)
		return FAULT | err | (access & ~ACC_SYSTEM);
	for (unsigned l = top; l > level; l--) {
		if (!lng && pae && l == 3)
			continue;
		if (!entry_mark(at[l].host, size, at[l].entry, PTE_A))
			*again = true;
	}
	if (!entry_mark(at[level].host, size, e,
		PTE_A | (access & ERR_WRITE ? PTE_D : 0)))
		*again = true;
	w->gpa = page & PTE_ADDR;
	w->writable = ((access & ERR_WRITE) || (e & PTE_D)) &&
	    (r.write || (!(access & ERR_USER) && !(c->cr0 & CR0_WP)));
	w->global = (e & PTE_G) && (c->cr4 & CR4_PGE);
	w->user = r.user;
	w->keep = (access & ERR_USER) || !r.user || !(c->cr4 & CR4_SMAP);
	return 0;
}

static void
walk(struct cpu *c, uint64_t lin, uint32_t access, struct walk *w)
{
	uint32_t err;
	bool again;

	if (!(c->cr0 & CR0_PG)) {
		w->gpa = lin & 0xfffff000u;
		w->writable = w->keep = w->user = true;
		w->global = false;
		return;
	}
	do {
		again = false;
		err = walk_tables(c, lin, access, w, &again);
	} while (again);
	if (err != 0) {
		if (!(c->efer & EFER_NXE) && !(c->cr4 & CR4_SMEP))
			err &= ~ERR_FETCH;
		cpu_raise_pf(c, lin, err & ~FAULT);
	}
}

static unsigned
tlb_index(uint64_t lin)
{
	return (unsigned)(lin / PAGE_SIZE) & (TLB_SIZE - 1);
}

static void
tlb_clear(struct tlb_entry *e, unsigned index)
{
	e->read_tag = e->write_tag = e->exec_tag = (uint64_t)(index ^ 1) << 12;
	e->gpa = 0;
}

/*
 * The frame of lin for that access, and in *host where it stands (NULL: not
 * RAM, or not to be written).  Fills the TLB.
 */
static hv_gpa
translate(struct cpu *c, uint64_t lin, uint32_t access, uint8_t **host)
{
	struct tlb_entry *e = &c->tlb[(access & ERR_USER) != 0][tlb_index(lin)];
	uint64_t page = lin & ~(uint64_t)PAGE_OFFSET, left;
	bool write = (access & ERR_WRITE) != 0;
	struct walk w = { 0 };

	if (!write && !(access & ERR_FETCH) && e->read_tag == page) {
		*host = (uint8_t *)(e->host + page);
		return e->gpa & PTE_ADDR;
	}
	if ((write && e->write_tag == page) ||
	    ((access & ERR_FETCH) && e->exec_tag == page)) {
		*host = (uint8_t *)(e->host + page);
		return e->gpa & PTE_ADDR;
	}
	walk(c, page | (lin & PAGE_OFFSET), access, &w);
	*host = machine_ram(c->machine, w.gpa, write, &left);
	if (*host == NULL || !w.keep)
		return w.gpa;
	if ((e->read_tag != page && e->write_tag != page &&
		e->exec_tag != page) ||
	    (e->gpa & PTE_ADDR) != w.gpa)
		tlb_clear(e, tlb_index(lin));
	e->host = (uintptr_t)*host - page;
	e->gpa = w.gpa | (w.global ? TLB_GLOBAL : 0) | (w.user ? TLB_USER : 0);
	if (access & ERR_FETCH) {
		if (w.user)
			block_verify_page(c, w.gpa);
		e->exec_tag = page;
		return w.gpa;
	}
	e->read_tag = page;
	if (w.writable && !machine_is_code(c->machine, w.gpa) &&
	    machine_ram(c->machine, w.gpa, true, &left) != NULL) {
		e->write_tag = page;
		/* Pairs with machine_mark_code(): whoever marks the page
		 * between the look above and this store writes mail to us,
		 * and we drop the entry then. */
		atomic_thread_fence(memory_order_seq_cst);
		if (machine_is_code(c->machine, w.gpa))
			e->write_tag = (uint64_t)(tlb_index(lin) ^ 1) << 12;
	}
	return w.gpa;
}

static uint32_t
cpu_access(const struct cpu *c)
{
	return c->cpl == 3 ? ERR_USER : 0;
}

hv_gpa
mmu_fetch(struct cpu *c, uint64_t lin, uint8_t **host)
{
	return translate(c, lin, cpu_access(c) | ERR_FETCH, host);
}

uint8_t *
mem_host_code(struct cpu *c, const struct insn *i, uint64_t lin, bool write,
    hv_gpa *gpa, bool *code)
{
	uint8_t *host;

	c->fault_insn = i;
	*gpa =
	    translate(c, lin, cpu_access(c) | (write ? ERR_WRITE : 0), &host);
	*gpa |= lin & PAGE_OFFSET;
	*code = host != NULL && write && machine_is_code(c->machine, *gpa);
	return host == NULL ? NULL : host + (lin & PAGE_OFFSET);
}

uint8_t *
mem_host(struct cpu *c, const struct insn *i, uint64_t lin, bool write)
{
	hv_gpa gpa;
	bool code;
	uint8_t *host = mem_host_code(c, i, lin, write, &gpa, &code);

	return code ? NULL : host;
}

/* After a write to RAM.  The fence pairs with the marking of a page before it
 * is decoded: either we see the mark, or the decoder sees the write. */
static void
tell_written(struct cpu *c, hv_gpa gpa, unsigned size)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (machine_is_code(c->machine, gpa))
		machine_code_written(c, gpa, size);
}

/* A write only reads buf. */
static void
phys_access(struct cpu *c, hv_gpa gpa, void *buf, unsigned size, bool write)
{
	uint8_t *p = buf;

	while (size > 0) {
		struct hv_access a = {
			.addr = gpa, .write = write, .space = HV_MMIO
		};
		uint64_t left;
		unsigned n = size;
		uint8_t *host = machine_ram(c->machine, gpa, write, &left);

		if (host != NULL) {
			if (left < n)
				n = (unsigned)left;
			if (write) {
				memcpy(host, p, n);
				tell_written(c, gpa, n);
			} else {
				memcpy(p, host, n);
			}
		} else {
			n = n >= 8 && !(gpa & 7)   ? 8
			    : n >= 4 && !(gpa & 3) ? 4
			    : n >= 2 && !(gpa & 1) ? 2
						   : 1;
			a.size = (uint8_t)n;
			if (write)
				memcpy(&a.data, p, n);
			machine_mmio(c, &a);
			if (!write)
				memcpy(p, &a.data, n);
		}
		gpa += n;
		p += n;
		size -= n;
	}
}

void
phys_read(struct cpu *c, hv_gpa gpa, void *buf, unsigned size)
{
	phys_access(c, gpa, buf, size, false);
}

void
phys_write(struct cpu *c, hv_gpa gpa, const void *buf, unsigned size)
{
	phys_access(c, gpa, (void *)(uintptr_t)buf, size, true);
}

/* The address behind, as the mode's arithmetic has it. */
static uint64_t
lin_wrap(const struct cpu *c, uint64_t lin)
{
	return c->efer & EFER_LMA && c->mode == 8 ? lin : (uint32_t)lin;
}

/* At most a page, and so over two at most; a write only reads buf. */
static void
access_range(struct cpu *c, const struct insn *i, uint64_t lin, void *buf,
    unsigned size, uint32_t access)
{
	uint8_t *p = buf, *host[2] = { 0 };
	bool write = (access & ERR_WRITE) != 0;
	unsigned first = PAGE_SIZE - (lin & PAGE_OFFSET);
	hv_gpa gpa[2] = { 0 };

	c->fault_insn = i;
	if (first > size)
		first = size;
	gpa[0] = translate(c, lin, access, &host[0]) | (lin & PAGE_OFFSET);
	if (first < size)
		gpa[1] =
		    translate(c, lin_wrap(c, lin + first), access, &host[1]);
	for (unsigned n = 0; n < 2; n++) {
		unsigned part = n == 0 ? first : size - first;

		if (part == 0)
			break;
		if (host[n] == NULL) {
			phys_access(c, gpa[n], p, part, write);
		} else if (!write) {
			memcpy(p, host[n] + (gpa[n] & PAGE_OFFSET), part);
		} else {
			memcpy(host[n] + (gpa[n] & PAGE_OFFSET), p, part);
			tell_written(c, gpa[n], part);
		}
		p += part;
	}
}

static void
check_alignment(
    struct cpu *c, const struct insn *i, uint64_t lin, unsigned size)
{
	if ((lin & (size - 1)) && c->cpl == 3 && (c->cr0 & CR0_AM) &&
	    (c->rflags & FL_AC)) {
		c->fault_insn = i;
		cpu_raise(c, EXC_AC, 0);
	}
}

uint64_t
mem_load(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size)
{
	const struct tlb_entry *e = &c->tlb[c->cpl == 3][tlb_index(lin)];
	uint64_t v = 0;

	if (UNLIKELY(c->watch))
		debug_note(c, lin, size, false);
	check_alignment(c, i, lin, size);
	if ((lin ^ e->read_tag) <= PAGE_SIZE - size) {
		memcpy(&v, (const void *)(e->host + lin), size);
		return v;
	}
	access_range(c, i, lin, &v, size, cpu_access(c));
	return v;
}

void
mem_store(struct cpu *c, const struct insn *i, uint64_t lin, unsigned size,
    uint64_t v)
{
	const struct tlb_entry *e = &c->tlb[c->cpl == 3][tlb_index(lin)];

	if (UNLIKELY(c->watch))
		debug_note(c, lin, size, true);
	check_alignment(c, i, lin, size);
	if ((lin ^ e->write_tag) <= PAGE_SIZE - size) {
		host_store((void *)(e->host + lin), size, v);
		return;
	}
	access_range(c, i, lin, &v, size, cpu_access(c) | ERR_WRITE);
}

uint8_t
mem_read8(struct cpu *c, const struct insn *i, uint64_t lin)
{
	return (uint8_t)mem_load(c, i, lin, 1);
}

uint16_t
mem_read16(struct cpu *c, const struct insn *i, uint64_t lin)
{
	return (uint16_t)mem_load(c, i, lin, 2);
}

uint32_t
mem_read32(struct cpu *c, const struct insn *i, uint64_t lin)
{
	return (uint32_t)mem_load(c, i, lin, 4);
}

uint64_t
mem_read64(struct cpu *c, const struct insn *i, uint64_t lin)
{
	return mem_load(c, i, lin, 8);
}

void
mem_write8(struct cpu *c, const struct insn *i, uint64_t lin, uint8_t v)
{
	mem_store(c, i, lin, 1, v);
}

void
mem_write16(struct cpu *c, const struct insn *i, uint64_t lin, uint16_t v)
{
	mem_store(c, i, lin, 2, v);
}

void
mem_write32(struct cpu *c, const struct insn *i, uint64_t lin, uint32_t v)
{
	mem_store(c, i, lin, 4, v);
}

void
mem_write64(struct cpu *c, const struct insn *i, uint64_t lin, uint64_t v)
{
	mem_store(c, i, lin, 8, v);
}

void
mem_read(
    struct cpu *c, const struct insn *i, uint64_t lin, void *buf, unsigned size)
{
	const struct tlb_entry *e = &c->tlb[c->cpl == 3][tlb_index(lin)];

	if (UNLIKELY(c->watch))
		debug_note(c, lin, size, false);
	if ((lin ^ e->read_tag) <= PAGE_SIZE - size)
		memcpy(buf, (const void *)(e->host + lin), size);
	else
		access_range(c, i, lin, buf, size, cpu_access(c));
}

void
mem_write(struct cpu *c, const struct insn *i, uint64_t lin, const void *buf,
    unsigned size)
{
	const struct tlb_entry *e = &c->tlb[c->cpl == 3][tlb_index(lin)];

	if (UNLIKELY(c->watch))
		debug_note(c, lin, size, true);
	if ((lin ^ e->write_tag) <= PAGE_SIZE - size)
		memcpy((void *)(e->host + lin), buf, size);
	else
		access_range(c, i, lin, (void *)(uintptr_t)buf, size,
		    cpu_access(c) | ERR_WRITE);
}

void
mem_probe_write(
    struct cpu *c, const struct insn *i, uint64_t lin, unsigned size)
{
	uint32_t access = cpu_access(c) | ERR_WRITE;
	uint8_t *host;

	c->fault_insn = i;
	/* The wider operands have alignments of their own. */
	if (size <= 8)
		check_alignment(c, i, lin, size);
	translate(c, lin, access, &host);
	if ((lin & PAGE_OFFSET) + size > PAGE_SIZE)
		translate(
		    c, lin_wrap(c, (lin | PAGE_OFFSET) + 1), access, &host);
}

void
sys_read(
    struct cpu *c, const struct insn *i, uint64_t lin, void *buf, unsigned size)
{
	access_range(c, i, lin, buf, size, ACC_SYSTEM);
}

void
sys_write(struct cpu *c, const struct insn *i, uint64_t lin, const void *buf,
    unsigned size)
{
	access_range(
	    c, i, lin, (void *)(uintptr_t)buf, size, ACC_SYSTEM | ERR_WRITE);
}

void
tlb_flush(struct cpu *c, bool global_too)
{
	for (unsigned n = 0; n < TLB_SIZE; n++) {
		if (global_too || !(c->tlb[0][n].gpa & TLB_GLOBAL))
			tlb_clear(&c->tlb[0][n], n);
		if (global_too || !(c->tlb[1][n].gpa & TLB_GLOBAL))
			tlb_clear(&c->tlb[1][n], n);
	}
	block_jump_flush(c, global_too);
}

void
tlb_flush_page(struct cpu *c, uint64_t lin)
{
	tlb_clear(&c->tlb[0][tlb_index(lin)], tlb_index(lin));
	tlb_clear(&c->tlb[1][tlb_index(lin)], tlb_index(lin));
	block_jump_flush(c, lin >> 63);
}

bool
tlb_global(const struct cpu *c, uint64_t lin)
{
	const struct tlb_entry *e = &c->tlb[c->cpl == 3][tlb_index(lin)];

	return e->exec_tag == (lin & ~(uint64_t)PAGE_OFFSET) &&
	    (e->gpa & TLB_GLOBAL);
}

bool
tlb_protect(struct cpu *c, hv_gpa gpa)
{
	bool was = false;

	for (unsigned n = 0; n < 2 * TLB_SIZE; n++) {
		struct tlb_entry *e = &c->tlb[n / TLB_SIZE][n % TLB_SIZE];
		uint64_t none = (uint64_t)((n % TLB_SIZE) ^ 1) << 12;

		if ((e->gpa & PTE_ADDR) != (gpa & PTE_ADDR) ||
		    e->write_tag == none)
			continue;
		e->write_tag = none;
		was = true;
	}
	return was;
}

uint64_t
insn_ea(const struct cpu *c, const struct insn *i)
{
	uint64_t ea = cpu_word(c, i->base) +
	    (cpu_word(c, i->index) << i->scale) + (uint64_t)(int64_t)i->disp;

	return i->addrsize == 8 ? ea
	    : i->addrsize == 4	? (uint32_t)ea
				: (uint16_t)ea;
}

static NORETURN void
raise_segment(struct cpu *c, const struct insn *i, unsigned seg)
{
	c->fault_insn = i;
	cpu_raise(c, seg == SS ? EXC_SS : EXC_GP, 0);
}

uint64_t
seg_lin(struct cpu *c, const struct insn *i, unsigned seg, uint64_t off,
    unsigned size, bool write)
{
	const struct seg *s = &c->seg[seg];
	uint64_t last;

	if (c->mode == 8) {
		uint64_t lin = off;

		if (seg == FS || seg == GS)
			lin += s->base;
		if (UNLIKELY(
			!lin_canonical(lin) || !lin_canonical(lin + size - 1)))
			raise_segment(c, i, seg);
		return lin;
	}
	off = (uint32_t)off;
	last = off + size - 1;
	if (c->cr0 & CR0_PE) {
		unsigned type = s->attr & 15;

		if (s->attr == 0 && !(c->rflags & FL_VM))
			raise_segment(c, i, seg);
		if (!(c->rflags & FL_VM) &&
		    (write ? (type & 8) || !(type & 2)
			   : (type & 8) && !(type & 2)))
			raise_segment(c, i, seg);
		if (!(type & 8) && (type & 4)) { /* expand-down */
			uint64_t top = s->attr & 0x4000 ? UINT32_MAX : 0xffff;

			if (off <= s->limit || last > top)
				raise_segment(c, i, seg);
			return (uint32_t)(s->base + off);
		}
	}
	if (last > s->limit)
		raise_segment(c, i, seg);
	return (uint32_t)(s->base + off);
}

uint64_t
insn_lin(struct cpu *c, const struct insn *i, unsigned size, bool write)
{
	unsigned seg = i->seg;

	if (seg == SEG_FLAT)
		seg = i->base == RSP || i->base == RBP ? SS : DS;
	return seg_lin(c, i, seg, insn_ea(c, i), size, write);
}

uint64_t
insn_lin_a16(struct cpu *c, const struct insn *i, bool write)
{
	/* Comes before #SS for an address that is not canonical. */
	if ((insn_ea(c, i) + c->seg[i->seg].base) & 15)
		cpu_raise_gp(c, i, 0);
	return insn_lin(c, i, 16, write);
}
