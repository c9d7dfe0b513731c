/*
 * MOVS, CMPS, STOS, LODS, SCAS.
 *
 * A repeated one goes on in chunks that stay within a page, by host addresses
 * where both sides are RAM; between chunks it looks for attention and, if there
 * is some, leaves with rip at itself.
 */
#include <string.h>

#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"

#define CHUNK_MAX 4096u /* elements */

struct string {
	unsigned size, asize;
	bool rep;
	uint64_t left; /* repetitions */
	uint64_t step; /* +size or -size */
};

static struct string
string_begin(const struct cpu *c, const struct insn *i)
{
	struct string s = { .size = i->opsize, .asize = i->addrsize };

	s.rep = (i->flags & (INSN_REP | INSN_REPNE)) != 0;
	s.left = s.rep ? zero_extend(c->reg[RCX], s.asize) : 1;
	s.step = c->rflags & FL_DF ? 0 - (uint64_t)s.size : s.size;
	return s;
}

static unsigned
src_seg(const struct insn *i)
{
	return i->seg == SEG_FLAT ? DS : i->seg;
}

static void
advance(struct cpu *c, const struct string *s, enum reg r, uint64_t n)
{
	reg_set(c, r, 0, s->asize, c->reg[r] + n * s->step);
}

static void
count_down(struct cpu *c, struct string *s, uint64_t n)
{
	s->left -= n;
	if (s->rep)
		reg_set(c, RCX, 0, s->asize, s->left);
}

/*
 * How many elements from seg:reg on are contiguous in one page and within the
 * segment; at least 1 is tried.  *lin: the first's linear address.
 */
static uint64_t
span(struct cpu *c, const struct insn *i, const struct string *s, unsigned seg,
    enum reg r, bool write, uint64_t *lin)
{
	uint64_t off = zero_extend(c->reg[r], s->asize), n, room;

	*lin = seg_lin(c, i, seg, off, s->size, write);
	/* With alignment checks each element has its own. */
	if (s->left == 1 || s->step != s->size ||
	    c->tlb_now == c->blocks->no_tlb)
		return 1;
	n = (PAGE_SIZE - (*lin & PAGE_OFFSET)) / s->size;
	if (c->mode != 8) {
		room = c->seg[seg].limit;
		room = room >= off ? (room - off + 1) / s->size : 0;
		n = MIN(n, room);
	}
	if (s->asize == 2)
		n = MIN(n, (0x10000 - off) / s->size);
	else if (s->asize == 4)
		n = MIN(n, (0x100000000 - off) / s->size);
	return n == 0 ? 1 : n;
}

/* After a chunk: true to go on; else *leave says whether rip stays here. */
static bool
go_on(struct cpu *c, const struct insn *i, const struct string *s, bool *leave)
{
	if (s->left == 0)
		return false;
	if (LIKELY(!atomic_load_explicit(&c->attention, memory_order_relaxed)))
		return true;
	*leave = true;
	c->icount_cut = i + 1;
	c->rip = insn_ip(c, i);
	return false;
}

static void
copy_forward(uint8_t *dst, const uint8_t *src, uint64_t n, unsigned size)
{
	uint64_t bytes = n * size;

	/* The destination runs over the source: repeats a pattern. */
	if ((uintptr_t)dst - (uintptr_t)src < bytes) {
		for (uint64_t k = 0; k < bytes; k += size)
			host_store(dst + k, size, host_load(src + k, size));
		return;
	}
	memmove(dst, src, bytes);
}

static void
movs_chunk(struct cpu *c, const struct insn *i, struct string *s)
{
	uint64_t from, to, n, m, v;
	uint8_t *src, *dst;

	/* Its faults come before all of the destination's. */
	n = span(c, i, s, src_seg(i), RSI, false, &from);
	v = mem_load(c, i, from, s->size);
	m = span(c, i, s, ES, RDI, true, &to);
	n = MIN(MIN(n, m), s->left);
	if (n > 1) {
		src = mem_host(c, i, from, false);
		dst = mem_host(c, i, to, true);
		if (src != NULL && dst != NULL)
			copy_forward(dst, src, n, s->size);
		else
			n = 1;
	}
	if (n == 1)
		mem_store(c, i, to, s->size, v);
	advance(c, s, RSI, n);
	advance(c, s, RDI, n);
	count_down(c, s, n);
}

static void
stos_chunk(struct cpu *c, const struct insn *i, struct string *s)
{
	uint64_t to, n = span(c, i, s, ES, RDI, true, &to);
	uint64_t v = c->reg[RAX];
	uint8_t *dst;

	n = MIN(n, s->left);
	if (n > 1) {
		dst = mem_host(c, i, to, true);
		if (dst == NULL) {
			n = 1;
		} else if (s->size == 1 || v == 0) {
			memset(dst, (int)(v & 0xff), n * s->size);
		} else {
			for (uint64_t k = 0; k < n; k++)
				host_store(dst + k * s->size, s->size, v);
		}
	}
	if (n == 1)
		mem_store(c, i, to, s->size, v);
	advance(c, s, RDI, n);
	count_down(c, s, n);
}

static void
lods_chunk(struct cpu *c, const struct insn *i, struct string *s)
{
	uint64_t from;

	(void)span(c, i, s, src_seg(i), RSI, false, &from);
	reg_set(c, RAX, 0, s->size, mem_load(c, i, from, s->size));
	advance(c, s, RSI, 1);
	count_down(c, s, 1);
}

/* Compare element by element; the flags are those of the last comparison.
 * True: the prefix's condition ended it. */
static bool
compare_chunk(struct cpu *c, const struct insn *i, struct string *s, bool scas)
{
	uint64_t la = 0, lb, n, m = UINT64_MAX, k, a = c->reg[RAX], b;
	const uint8_t *pa = NULL, *pb = NULL;
	bool until = (i->flags & INSN_REPNE) != 0, done = false;
	bool src_first = (i->flags & INSN_REP) && s->size == 1;

	/* As on AMD's processors the destination faults first but with REPE
	 * CMPSB. */
	if (!scas && src_first) {
		m = span(c, i, s, src_seg(i), RSI, false, &la);
		a = mem_load(c, i, la, s->size);
	}
	n = span(c, i, s, ES, RDI, false, &lb);
	b = mem_load(c, i, lb, s->size);
	if (!scas && !src_first) {
		m = span(c, i, s, src_seg(i), RSI, false, &la);
		a = mem_load(c, i, la, s->size);
	}
	a = zero_extend(a, s->size);
	n = MIN(MIN(n, m), s->left);
	n = MIN(n, CHUNK_MAX);
	if (n > 1) {
		pb = mem_host(c, i, lb, false);
		if (!scas)
			pa = mem_host(c, i, la, false);
		if (pb == NULL || (!scas && pa == NULL))
			n = 1;
	}
	if (n == 1) {
		k = 1;
		done = s->rep && (a == b) == until;
	} else {
		for (k = 0; k < n && !done;) {
			if (!scas)
				a = host_load(pa + k * s->size, s->size);
			b = host_load(pb + k * s->size, s->size);
			done = (a == b) == until;
			k++;
		}
	}
	if (!scas)
		advance(c, s, RSI, k);
	advance(c, s, RDI, k);
	count_down(c, s, k);
	a = sign_extend(a, s->size);
	b = sign_extend(b, s->size);
	lazy_set(c, LF_SUB, sign_extend(a - b, s->size), a, b);
	return done;
}

typedef void chunk_fn(struct cpu *, const struct insn *, struct string *);

/* False: leave the block. */
static bool
repeat(struct cpu *c, const struct insn *i, chunk_fn *chunk)
{
	struct string s = string_begin(c, i);
	bool leave = false;

	if (s.left == 0)
		return true;
	do
		chunk(c, i, &s);
	while (go_on(c, i, &s, &leave));
	return !leave;
}

static bool
repeat_compare(struct cpu *c, const struct insn *i, bool scas)
{
	struct string s = string_begin(c, i);
	bool leave = false;

	if (s.left == 0)
		return true;
	do {
		if (compare_chunk(c, i, &s, scas))
			return true;
	} while (go_on(c, i, &s, &leave));
	return !leave;
}

OP(op_movs)
{
	if (!repeat(c, i, movs_chunk))
		END(c);
	NEXT(c, i);
}

OP(op_stos)
{
	if (!repeat(c, i, stos_chunk))
		END(c);
	NEXT(c, i);
}

OP(op_lods)
{
	if (!repeat(c, i, lods_chunk))
		END(c);
	NEXT(c, i);
}

OP(op_cmps)
{
	if (!repeat_compare(c, i, false))
		END(c);
	NEXT(c, i);
}

OP(op_scas)
{
	if (!repeat_compare(c, i, true))
		END(c);
	NEXT(c, i);
}
