/*
 * The cache of decoded blocks of one vCPU, and what all vCPUs share to keep
 * the caches true to memory.
 *
 * A block is keyed by the physical address of its first byte and the decoding
 * mode, so it outlives every change of CR3.  Above it lies a direct-mapped
 * cache by rip, emptied with the TLB.
 */
#ifndef SOFT_BLOCK_H
#define SOFT_BLOCK_H

#include <pthread.h>

#include "hypervisor/soft/cpu.h"

#define BLOCK_INSNS 32
#define BLOCK_CPUS  64

/*
 * Which vCPUs hold decoded code of a page frame: a word of one bit per vCPU
 * for each frame, by two levels; and their mail.  machine.c holds one, made by
 * block_shared_init(), and gives it by machine_blocks().
 */
#define BLOCK_L1_BITS (SOFT_PHYS_BITS - 12 - 18)
#define BLOCK_L2_BITS 18
#define BLOCK_MAIL    64

struct block_mail {
	pthread_mutex_t lock;
	bool all; /* too much: drop everything */
	unsigned count;
	struct {
		hv_gpa gpa;
		uint32_t size; /* 0: the page at gpa holds code now */
	} what[BLOCK_MAIL];
};

struct block_shared {
	_Atomic uint64_t *_Atomic map[1u << BLOCK_L1_BITS];
	struct block_mail mail[BLOCK_CPUS];
};

void block_shared_init(struct block_shared *s);
void block_shared_fini(struct block_shared *s);
/* machine.c: the machine's. */
struct block_shared *machine_blocks(struct machine *m);

/* Sets c->blocks; 0 or -ENOMEM. */
int block_cache_create(struct cpu *c);
void block_cache_destroy(struct cpu *c);

#define BLOCK_NO_PAGE UINT64_MAX

struct block {
	struct block *hash_next, *page_next[2];
	hv_gpa page[2]; /* the second: or BLOCK_NO_PAGE */
	const uint8_t *bytes; /* as they were when decoded */
	uint32_t key; /* decoding mode */
	uint16_t start; /* offset in the first page */
	uint16_t size, count; /* bytes, instructions */
	bool stale;
	struct insn insn[]; /* count, the row of op_block_end, and one more
			       whose imm may be used */
};

/*
 * The direct-mapped cache.  Its tag is rip XOR jump_key; the key holds the
 * mode, the privilege and an epoch in bits that a canonical address does not
 * use, so that a change of the epoch empties the cache.
 */
#define JUMP_BITS 12
struct jump_entry {
	uint64_t tag;
	struct insn *insn; /* the first of the block */
};

struct block_cache {
	uint64_t jump_key[2]; /* by bit 63 of rip */
	struct jump_entry jump[1u << JUMP_BITS];
	uint32_t epoch[2];
	bool local[2]; /* code in pages that are not global was entered */
	uint64_t cs_base; /* for which jump[] holds */
	uint32_t cs_limit;
	struct block **hash;
	struct code_page **pages;
	uint8_t *arena;
	size_t arena_used;
	struct tlb_entry no_tlb[TLB_SIZE]; /* where every access shall miss */
};

static inline struct jump_entry *
block_jump_entry(struct block_cache *b, uint64_t rip)
{
	return &b->jump[(rip ^ (rip >> JUMP_BITS)) & ((1u << JUMP_BITS) - 1)];
}

/* What the tag of rip is now. */
static inline uint64_t
block_jump_tag(const struct block_cache *b, uint64_t rip)
{
	return rip ^ b->jump_key[rip >> 63];
}

/* The block at c->rip, decoded if need be; one instruction long if single.
 * Raises #PF, #GP. */
struct block *block_find(struct cpu *c, bool single);
/* Mappings changed: empty the jump cache, but for code in global pages. */
void block_jump_flush(struct cpu *c, bool global_too);
/* The mode or the privilege changed: c->blocks->jump_key. */
void block_jump_key(struct cpu *c);
/* An executable mapping of the frame at gpa is new: drop what devices have
 * overwritten meanwhile. */
void block_verify_page(struct cpu *c, hv_gpa gpa);
/* Drop all blocks (memory slots changed). */
void block_flush(struct cpu *c);
/* ATT_CODE: read the mail. */
void block_mail_read(struct cpu *c);

/* decode.c */
struct decoded {
	unsigned count, size; /* instructions, bytes */
};
/*
 * Decode up to max instructions from code, of which `have` bytes are there,
 * into out[max + 2].  count 0: have ends within the first instruction.
 * `start`: offset in its page, for the rule of chaining.
 */
struct decoded decode_block(struct insn *out, unsigned max, const uint8_t *code,
    unsigned have, unsigned mode, unsigned first_page);

#endif
