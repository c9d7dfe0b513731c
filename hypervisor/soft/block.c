/*
 * The cache of decoded blocks.
 *
 * Blocks stand in an arena that is only ever emptied as a whole, and only
 * between blocks: a dropped block stays readable for whoever is running in it
 * or holds a pointer to it, and all its rows become op_block_stale.
 */
#include "hypervisor/soft/block.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "hypervisor/soft/int.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/mmu.h"

#define ARENA_SIZE ((size_t)96 << 20)
#define HASH_BITS  17u
#define PAGES_BITS 12u
#define MAIL_ALL   UINT32_MAX /* as a size: drop all blocks */
/* A block at its largest: bytes reach at most one page further. */
#define BLOCK_MAX                                                         \
	(sizeof(struct block) + (BLOCK_INSNS + 2) * sizeof(struct insn) + \
	    BLOCK_INSNS * 15u + 64u)

/* A frame with blocks of this vCPU. */
struct code_page {
	struct code_page *next;
	hv_gpa gpa;
	struct block *blocks; /* by page_next[] */
};

/* ---- which frames hold code ---- */

void
block_shared_init(struct block_shared *s)
{
	memset(s, 0, sizeof(*s));
	for (unsigned n = 0; n < BLOCK_CPUS; n++)
		pthread_mutex_init(&s->mail[n].lock, NULL);
}

void
block_shared_fini(struct block_shared *s)
{
	for (unsigned n = 0; n < ARRAY_LEN(s->map); n++)
		free((void *)(uintptr_t)s->map[n]);
	for (unsigned n = 0; n < BLOCK_CPUS; n++)
		pthread_mutex_destroy(&s->mail[n].lock);
}

/* The frame's word; NULL: none yet (and not to be made, or no memory). */
static _Atomic uint64_t *
frame_word(struct block_shared *s, hv_gpa gpa, bool make)
{
	uint64_t frame = gpa >> 12, top = frame >> BLOCK_L2_BITS;
	_Atomic uint64_t *l2, *none = NULL;

	if (top >= ARRAY_LEN(s->map))
		return NULL;
	l2 = atomic_load_explicit(&s->map[top], memory_order_acquire);
	if (l2 == NULL) {
		if (!make)
			return NULL;
		l2 = calloc(1u << BLOCK_L2_BITS, sizeof(*l2));
		if (l2 == NULL)
			return NULL;
		if (!atomic_compare_exchange_strong(&s->map[top], &none, l2)) {
			free((void *)(uintptr_t)l2);
			l2 = none;
		}
	}
	return &l2[frame & ((1u << BLOCK_L2_BITS) - 1)];
}

bool
machine_is_code(struct machine *m, hv_gpa gpa)
{
	_Atomic uint64_t *w = frame_word(machine_blocks(m), gpa, false);

	return w != NULL && atomic_load_explicit(w, memory_order_acquire) != 0;
}

static void
mail_send(struct machine *m, unsigned index, hv_gpa gpa, uint32_t size)
{
	struct block_mail *b = &machine_blocks(m)->mail[index];
	struct cpu *c = machine_cpu(m, index);

	pthread_mutex_lock(&b->lock);
	if (b->count == BLOCK_MAIL) {
		b->all = true;
	} else {
		b->what[b->count].gpa = gpa;
		b->what[b->count++].size = size;
	}
	pthread_mutex_unlock(&b->lock);
	/* It need not wake up for this: it reads before it runs. */
	if (c != NULL)
		atomic_fetch_or(&c->attention, ATT_CODE);
}

/*
 * By the vCPU that is about to decode: others may still have a way to write
 * there in their TLB.  They give it up at their next block; if they had one
 * they may have written since, and tell all to drop the page once more.
 */
static bool
mark_code(struct cpu *c, hv_gpa gpa)
{
	struct machine *m = c->machine;
	_Atomic uint64_t *w = frame_word(machine_blocks(m), gpa, true);
	uint64_t bit = 1ull << c->index, was;

	if (w == NULL)
		return false;
	was = atomic_fetch_or(w, bit);
	if (was & bit)
		return true;
	tlb_protect(c, gpa);
	if (was == 0) {
		for (unsigned n = 0; n < machine_cpus(m); n++) {
			if (n != c->index)
				mail_send(m, n, gpa, 0);
		}
	}
	return true;
}

/* ---- blocks ---- */

static unsigned
hash_index(hv_gpa gpa, uint32_t key)
{
	uint64_t h = (gpa ^ key) * 0x9e3779b97f4a7c15ull;

	return (unsigned)(h >> (64 - HASH_BITS));
}

static struct code_page **
page_slot(struct block_cache *b, hv_gpa gpa)
{
	uint64_t h = (gpa >> 12) * 0x9e3779b97f4a7c15ull;

	return &b->pages[h >> (64 - PAGES_BITS)];
}

static struct code_page *
page_find(struct block_cache *b, hv_gpa gpa)
{
	struct code_page *p = *page_slot(b, gpa);

	gpa &= ~(hv_gpa)PAGE_OFFSET;
	while (p != NULL && p->gpa != gpa)
		p = p->next;
	return p;
}

static void *
arena_alloc(struct block_cache *b, size_t size)
{
	void *p = b->arena + b->arena_used;

	b->arena_used += (size + 15) & ~(size_t)15;
	BUG_ON(b->arena_used > ARENA_SIZE);
	return p;
}

int
block_cache_create(struct cpu *c)
{
	struct block_cache *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return -ENOMEM;
	b->hash = calloc(1u << HASH_BITS, sizeof(*b->hash));
	b->pages = calloc(1u << PAGES_BITS, sizeof(*b->pages));
	b->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->arena == MAP_FAILED)
		b->arena = NULL;
	c->blocks = b;
	if (b->hash == NULL || b->pages == NULL || b->arena == NULL) {
		block_cache_destroy(c);
		return -ENOMEM;
	}
	for (unsigned n = 0; n < TLB_SIZE; n++)
		b->no_tlb[n].read_tag = b->no_tlb[n].write_tag =
		    b->no_tlb[n].exec_tag = (uint64_t)(n ^ 1) << 12;
	tlb_flush(c, true);
	return 0;
}

void
block_cache_destroy(struct cpu *c)
{
	struct block_cache *b = c->blocks;

	if (b == NULL)
		return;
	if (b->arena != NULL)
		munmap(b->arena, ARENA_SIZE);
	free(b->hash);
	free(b->pages);
	free(b);
	c->blocks = NULL;
}

/*
 * An epoch for each half of the address space, so that code of the kernel, in
 * global pages, outlives the changes of CR3.  Code there in pages that are not
 * global makes that half go with every flush, too.
 */
static void
next_epoch(struct block_cache *b, unsigned half)
{
	b->local[half] = false;
	/* Twelve bits: when they are used up, empty it by hand. */
	if ((++b->epoch[half] & 0xfff) == 0)
		memset(b->jump, 0, sizeof(b->jump));
}

void
block_jump_flush(struct cpu *c, bool global_too)
{
	struct block_cache *b = c->blocks;

	if (b == NULL)
		return;
	next_epoch(b, 0);
	if (global_too || c->mode != 8 || b->local[1])
		next_epoch(b, 1);
	block_jump_key(c);
}

/* Bits 48 to 63 of a canonical address repeat bit 47: 16 bits for the key. */
void
block_jump_key(struct cpu *c)
{
	struct block_cache *b = c->blocks;
	uint64_t mode = (c->mode == 8	       ? 8u
				: c->mode == 4 ? 4u
					       : 0u) |
	    (c->cpl == 3 ? 2u : 0u) | 1;

	for (unsigned half = 0; half < 2; half++)
		b->jump_key[half] =
		    ((uint64_t)(b->epoch[half] & 0xfff) << 4 | mode) << 48;
}

static void
clear_marks(struct cpu *c)
{
	struct block_cache *b = c->blocks;
	struct block_shared *s = machine_blocks(c->machine);

	for (unsigned n = 0; n < 1u << PAGES_BITS; n++) {
		for (struct code_page *p = b->pages[n]; p != NULL;
		     p = p->next) {
			_Atomic uint64_t *w = frame_word(s, p->gpa, false);

			if (w != NULL)
				atomic_fetch_and(w, ~(1ull << c->index));
		}
	}
}

void
block_flush(struct cpu *c)
{
	struct block_cache *b = c->blocks;

	clear_marks(c);
	memset(b->hash, 0, sizeof(*b->hash) << HASH_BITS);
	memset(b->pages, 0, sizeof(*b->pages) << PAGES_BITS);
	memset(b->jump, 0, sizeof(b->jump));
	b->arena_used = 0;
	c->link = NULL;
	block_jump_flush(c, true);
}

static void
hash_remove(struct block_cache *b, struct block *k)
{
	struct block **p = &b->hash[hash_index(k->page[0] + k->start, k->key)];

	while (*p != NULL && *p != k)
		p = &(*p)->hash_next;
	if (*p == k)
		*p = k->hash_next;
}

/* Which of the block's two links is that of the list of the page? */
static unsigned
link_of(const struct block *k, hv_gpa page)
{
	return k->page[0] == page ? 0 : 1;
}

static void
page_remove(struct block_cache *b, struct block *k, hv_gpa page)
{
	struct code_page *p = page_find(b, page);
	struct block **at;

	if (p == NULL)
		return;
	at = &p->blocks;
	while (*at != NULL && *at != k)
		at = &(*at)->page_next[link_of(*at, page)];
	if (*at == k)
		*at = k->page_next[link_of(k, page)];
}

static void
block_drop(struct cpu *c, struct block *k)
{
	struct block_cache *b = c->blocks;

	hash_remove(b, k);
	page_remove(b, k, k->page[0]);
	if (k->page[1] != BLOCK_NO_PAGE)
		page_remove(b, k, k->page[1]);
	k->stale = true;
	for (unsigned n = 0; n <= k->count; n++) {
		k->insn[n].fn = op_block_stale;
		k->insn[n].fast = false;
	}
}

/* Does [from, to) of the page, offsets, touch the block? */
static bool
touches(const struct block *k, hv_gpa page, unsigned from, unsigned to)
{
	unsigned start = k->start, end = k->start + k->size;

	if (k->page[0] != page) {
		start = 0;
		end -= PAGE_SIZE;
	}
	return start < to && from < end;
}

static void
drop_range(struct cpu *c, hv_gpa gpa, unsigned size)
{
	struct block_cache *b = c->blocks;
	hv_gpa page = gpa & ~(hv_gpa)PAGE_OFFSET;
	unsigned from = (unsigned)(gpa & PAGE_OFFSET);
	struct code_page *p = page_find(b, page);
	struct block *k, *next;
	_Atomic uint64_t *w;

	if (p == NULL)
		return;
	for (k = p->blocks; k != NULL; k = next) {
		next = k->page_next[link_of(k, page)];
		if (touches(k, page, from, from + size))
			block_drop(c, k);
	}
	if (p->blocks == NULL) {
		w = frame_word(machine_blocks(c->machine), page, false);
		if (w != NULL)
			atomic_fetch_and(w, ~(1ull << c->index));
	}
}

void
machine_code_written(struct cpu *c, hv_gpa gpa, unsigned size)
{
	struct machine *m = c->machine;

	while (size > 0) {
		unsigned n = PAGE_SIZE - (unsigned)(gpa & PAGE_OFFSET);
		_Atomic uint64_t *w = frame_word(machine_blocks(m), gpa, false);
		uint64_t who = w == NULL ? 0 : atomic_load(w);

		n = MIN(n, size);
		if (who & (1ull << c->index))
			drop_range(c, gpa, n);
		who &= ~(1ull << c->index);
		while (who != 0) {
			mail_send(m, (unsigned)__builtin_ctzll(who), gpa, n);
			who &= who - 1;
		}
		gpa += n;
		size -= n;
	}
}

void
block_mail_read(struct cpu *c)
{
	struct block_mail *b = &machine_blocks(c->machine)->mail[c->index];
	struct block_mail mine;

	atomic_fetch_and(&c->attention, ~(uint32_t)ATT_CODE);
	pthread_mutex_lock(&b->lock);
	mine.all = b->all;
	mine.count = b->count;
	memcpy(mine.what, b->what, b->count * sizeof(b->what[0]));
	b->all = false;
	b->count = 0;
	pthread_mutex_unlock(&b->lock);
	for (unsigned n = 0; n < mine.count; n++) {
		hv_gpa gpa = mine.what[n].gpa;

		if (mine.what[n].size == MAIL_ALL)
			block_flush(c);
		else if (mine.what[n].size > 0)
			drop_range(c, gpa, mine.what[n].size);
		else if (tlb_protect(c, gpa))
			machine_code_written(c, gpa, PAGE_SIZE);
	}
	if (mine.all) {
		/* Some was lost: forget all code, and all ways to write to
		 * others' code; what was written so, nobody can say. */
		block_flush(c);
		tlb_flush(c, true);
		for (unsigned n = 0; n < machine_cpus(c->machine); n++) {
			if (n != c->index)
				mail_send(c->machine, n, 0, MAIL_ALL);
		}
	}
}

static void
page_add(struct cpu *c, struct block *k, unsigned which)
{
	struct block_cache *b = c->blocks;
	hv_gpa page = k->page[which];
	struct code_page *p = page_find(b, page), **slot;

	if (p == NULL) {
		slot = page_slot(b, page);
		p = arena_alloc(b, sizeof(*p));
		p->gpa = page;
		p->blocks = NULL;
		p->next = *slot;
		*slot = p;
	}
	k->page_next[which] = p->blocks;
	p->blocks = k;
}

void
block_verify_page(struct cpu *c, hv_gpa gpa)
{
	hv_gpa page = gpa & ~(hv_gpa)PAGE_OFFSET;
	struct code_page *p;
	struct block *k, *next;
	const uint8_t *host;
	uint64_t left;

	p = page_find(c->blocks, page);
	if (p == NULL)
		return;
	host = machine_ram(c->machine, page, false, &left);
	if (host == NULL)
		return;
	for (k = p->blocks; k != NULL; k = next) {
		unsigned skip = 0, at = k->start, n = k->size;

		next = k->page_next[link_of(k, page)];
		if (k->page[0] != page) {
			skip = PAGE_SIZE - k->start;
			at = 0;
			n -= skip;
		} else if (at + n > PAGE_SIZE) {
			n = PAGE_SIZE - at;
		}
		if (memcmp(host + at, k->bytes + skip, n) != 0)
			block_drop(c, k);
	}
}

/* ---- finding and making ---- */

struct fetch {
	uint64_t lin, lin2;
	hv_gpa gpa, gpa2; /* gpa2: BLOCK_NO_PAGE if not needed */
	uint8_t *host, *host2;
};

static const struct insn fetch_insn; /* a fault while fetching: at rip */

static uint64_t
fetch_lin(struct cpu *c)
{
	if (c->mode == 8) {
		if (!lin_canonical(c->rip))
			cpu_raise(c, EXC_GP, 0);
		return c->rip;
	}
	if (c->rip > c->seg[CS].limit)
		cpu_raise(c, EXC_GP, 0);
	return (uint32_t)(c->seg[CS].base + c->rip);
}

/* The first page's bytes, and, if they hold no whole instruction, the second's
 * too.  Where there is no RAM, bytes one by one into buf. */
static struct decoded
fetch_decode(struct cpu *c, struct fetch *f, struct insn *out, unsigned max,
    uint8_t *buf)
{
	unsigned off = (unsigned)(f->lin & PAGE_OFFSET);
	unsigned have = PAGE_SIZE - off;
	struct decoded d;

	if (f->host != NULL) {
		d = decode_block(out, max, f->host + off, have, c->mode, off);
		if (d.count > 0) {
			memcpy(buf, f->host + off, d.size);
			return d;
		}
		memcpy(buf, f->host + off, have);
	} else {
		max = 1;
		have = MIN(have, 16);
		for (unsigned n = 0; n < have; n++)
			phys_read(c, f->gpa + off + n, buf + n, 1);
		d = decode_block(out, 1, buf, have, c->mode, off);
		if (d.count > 0)
			return d;
	}
	/* The one instruction that crosses the page. */
	f->lin2 = (f->lin | PAGE_OFFSET) + 1;
	if (c->mode != 8)
		f->lin2 = (uint32_t)f->lin2;
	f->gpa2 = mmu_fetch(c, f->lin2, &f->host2);
	if (f->host2 != NULL)
		memcpy(buf + have, f->host2, 16);
	else
		phys_read(c, f->gpa2, buf + have, 16);
	return decode_block(out, 1, buf, have + 16, c->mode, off);
}

static struct block *
block_make(struct cpu *c, struct fetch *f, uint32_t key, bool single)
{
	struct block_cache *b = c->blocks;
	struct block *k;
	struct decoded d;
	unsigned off = (unsigned)(f->lin & PAGE_OFFSET);
	uint8_t buf[BLOCK_INSNS * 15 + 32];
	uint8_t *bytes;
	bool keep;

	if (b->arena_used + BLOCK_MAX + 2 * sizeof(struct code_page) >
	    ARENA_SIZE)
		block_flush(c);
	/* Marked before it is read: who writes after that tells us. */
	keep = f->host != NULL && mark_code(c, f->gpa);
	k = (void *)(b->arena + b->arena_used);
	f->gpa2 = BLOCK_NO_PAGE;
	d = fetch_decode(c, f, k->insn, single ? 1 : BLOCK_INSNS, buf);
	if (f->gpa2 != BLOCK_NO_PAGE && keep) {
		keep = f->host2 != NULL && mark_code(c, f->gpa2);
		if (keep)
			d = fetch_decode(c, f, k->insn, 1, buf);
	}
	BUG_ON(d.count == 0);
	k->page[0] = f->gpa;
	k->page[1] = f->gpa2;
	k->key = key;
	k->start = (uint16_t)off;
	k->size = (uint16_t)d.size;
	k->count = (uint16_t)d.count;
	k->stale = !keep;
	k->hash_next = NULL;
	(void)arena_alloc(b, sizeof(*k) + (d.count + 2) * sizeof(struct insn));
	bytes = arena_alloc(b, d.size);
	memcpy(bytes, buf, d.size);
	k->bytes = bytes;
	if (keep) {
		unsigned h = hash_index(f->gpa + off, key);

		k->hash_next = b->hash[h];
		b->hash[h] = k;
		page_add(c, k, 0);
		if (k->page[1] != BLOCK_NO_PAGE)
			page_add(c, k, 1);
	}
	return k;
}

/* A block over two pages counts only if the second is still mapped there. */
static bool
second_page(struct cpu *c, struct block *k, uint64_t lin)
{
	uint8_t *host;
	uint64_t next = (lin | PAGE_OFFSET) + 1;

	if (k->page[1] == BLOCK_NO_PAGE)
		return true;
	return mmu_fetch(c, c->mode == 8 ? next : (uint32_t)next, &host) ==
	    k->page[1];
}

struct block *
block_find(struct cpu *c, bool single)
{
	struct block_cache *b = c->blocks;
	uint32_t key = c->mode | (single ? 16u : 0u);
	struct fetch f = { 0 };
	struct block *k;

	c->fault_insn = &fetch_insn;
	f.lin = fetch_lin(c);
	f.gpa = mmu_fetch(c, f.lin, &f.host);
	k = b->hash[hash_index(f.gpa + (f.lin & PAGE_OFFSET), key)];
	while (k != NULL &&
	    (k->page[0] != f.gpa || k->start != (f.lin & PAGE_OFFSET) ||
		k->key != key))
		k = k->hash_next;
	if (k != NULL && second_page(c, k, f.lin))
		return k;
	if (k != NULL)
		block_drop(c, k);
	return block_make(c, &f, key, single);
}
