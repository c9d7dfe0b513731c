/*
 * Atomic accesses: LOCK, XCHG, XADD, CMPXCHG.
 *
 * Aligned RAM is accessed by the host's atomic instructions at the host
 * address; what is misaligned or not RAM, under one lock.
 */
#include <pthread.h>

#include "hypervisor/soft/debug.h"
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/int_ops.h"
#include "hypervisor/soft/machine.h"

static pthread_mutex_t global_lock = PTHREAD_MUTEX_INITIALIZER;

/*
 * A handler whose body takes the address of a local: apart, for NEXT to stay a
 * tail call.
 */
#define OP_APART(name)                                    \
	static void __attribute__((noinline))             \
	name##_body(struct cpu *c, const struct insn *i); \
	OP(name)                                          \
	{                                                 \
		name##_body(c, i);                        \
		NEXT(c, i);                               \
	}                                                 \
	static void name##_body(struct cpu *c, const struct insn *i)

void
locked_begin_at(
    struct cpu *c, const struct insn *i, struct locked *l, unsigned size)
{
	l->code = false;
	l->host = NULL;
	if (UNLIKELY(c->watch))
		debug_note(c, l->lin, size, true);
	if ((l->lin & (size - 1)) == 0) {
		l->host = tlb_write(c, l->lin, size);
		if (l->host == NULL)
			l->host = mem_host_code(
			    c, i, l->lin, true, &l->gpa, &l->code);
	} else {
		/* All faults now: none may come under the lock. */
		mem_probe_write(c, i, l->lin, size);
		if (size <= 8)
			(void)mem_load(c, i, l->lin, size);
	}
	if (l->host == NULL)
		pthread_mutex_lock(&global_lock);
}

void
locked_begin(
    struct cpu *c, const struct insn *i, struct locked *l, unsigned size)
{
	l->lin = insn_lin(c, i, size, true);
	locked_begin_at(c, i, l, size);
}

uint64_t
locked_load(
    struct cpu *c, const struct insn *i, struct locked *l, unsigned size)
{
	if (l->host == NULL)
		return mem_load(c, i, l->lin, size);
	return host_load(l->host, size);
}

#define TRY(type)                                                            \
	{                                                                    \
		type expect = (type)*old;                                    \
		if (__atomic_compare_exchange_n((type *)l->host, &expect,    \
			(type)v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) \
			return true;                                         \
		*old = expect;                                               \
		return false;                                                \
	}

bool
locked_try(struct cpu *c, const struct insn *i, struct locked *l, unsigned size,
    uint64_t *old, uint64_t v)
{
	if (l->host == NULL) {
		mem_store(c, i, l->lin, size, v);
		return true;
	}
	switch (size) {
	case 1:
		TRY(uint8_t)
	case 2:
		TRY(uint16_t)
	case 4:
		TRY(uint32_t)
	default:
		TRY(uint64_t)
	}
}

void
locked_end(struct cpu *c, struct locked *l, unsigned size)
{
	if (l->host == NULL)
		pthread_mutex_unlock(&global_lock);
	else if (l->code)
		machine_code_written(c, l->gpa, size);
}

OP_APART(op_xchg_mem)
{
	unsigned size = i->opsize;
	struct locked l;
	uint64_t old, v = GET_REG(c, i, size);

	locked_begin(c, i, &l, size);
	old = locked_load(c, i, &l, size);
	while (!locked_try(c, i, &l, size, &old, v))
		;
	locked_end(c, &l, size);
	SET_REG(c, i, size, old);
}

static void
add_flags(struct cpu *c, unsigned size, uint64_t a, uint64_t b)
{
	a = sign_extend(a, size);
	b = sign_extend(b, size);
	lazy_set(c, LF_ADD, sign_extend(a + b, size), a, b);
}

OP(op_xadd)
{
	unsigned size = i->opsize;
	uint64_t lin = rm_begin(c, i, size), old = rm_get(c, i, lin, size);
	uint64_t v = GET_REG(c, i, size);

	/* In this order: with one register for both, the sum stays. */
	if (i->flags & INSN_MEM)
		rm_put(c, i, lin, size, old + v);
	SET_REG(c, i, size, old);
	if (!(i->flags & INSN_MEM))
		SET_RM(c, i, size, old + v);
	add_flags(c, size, old, v);
	NEXT(c, i);
}

OP_APART(op_lock_xadd)
{
	unsigned size = i->opsize;
	struct locked l;
	uint64_t old, v = GET_REG(c, i, size);

	locked_begin(c, i, &l, size);
	old = locked_load(c, i, &l, size);
	while (!locked_try(c, i, &l, size, &old, old + v))
		;
	locked_end(c, &l, size);
	SET_REG(c, i, size, old);
	add_flags(c, size, old, v);
}

static void
cmp_flags(struct cpu *c, unsigned size, uint64_t a, uint64_t b)
{
	a = sign_extend(a, size);
	b = sign_extend(b, size);
	lazy_set(c, LF_SUB, sign_extend(a - b, size), a, b);
}

OP(op_cmpxchg)
{
	unsigned size = i->opsize;
	uint64_t lin = rm_begin(c, i, size), old = rm_get(c, i, lin, size);
	uint64_t acc = zero_extend(c->reg[RAX], size);

	if (old == acc)
		rm_put(c, i, lin, size, GET_REG(c, i, size));
	else
		reg_set(c, RAX, 0, size, old);
	cmp_flags(c, size, acc, old);
	NEXT(c, i);
}

OP_APART(op_lock_cmpxchg)
{
	unsigned size = i->opsize;
	uint64_t acc = zero_extend(c->reg[RAX], size), old;
	struct locked l;

	locked_begin(c, i, &l, size);
	if (l.host != NULL) {
		old = acc;
		if (!locked_try(c, i, &l, size, &old, GET_REG(c, i, size)))
			reg_set(c, RAX, 0, size, old);
	} else {
		old = locked_load(c, i, &l, size);
		if (old == acc)
			mem_store(c, i, l.lin, size, GET_REG(c, i, size));
		else
			reg_set(c, RAX, 0, size, old);
	}
	locked_end(c, &l, size);
	cmp_flags(c, size, acc, old);
}

static bool
swap_8(struct locked *l, uint64_t *old, uint64_t v)
{
	return __atomic_compare_exchange_n((uint64_t *)l->host, old, v, false,
	    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* By assembly: the compiler calls a library for sixteen bytes. */
static bool
swap_16(struct locked *l, uint64_t old[2], const uint64_t v[2])
{
	bool done;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(done), "+m"(*(char(*)[16])l->host),
			 "+a"(old[0]), "+d"(old[1])
			 : "b"(v[0]), "c"(v[1])
			 : "memory");
	return done;
}

/* 0F C7 /1; with REX.W sixteen bytes, which must be aligned. */
OP_APART(op_cmpxchg8b)
{
	unsigned half = i->opsize == 8 ? 8 : 4, size = 2 * half;
	uint64_t old[2], v[2];
	struct locked l;
	bool same;

	l.lin =
	    size == 16 ? insn_lin_a16(c, i, true) : insn_lin(c, i, size, true);
	for (unsigned n = 0; n < 2; n++) {
		old[n] = zero_extend(c->reg[n == 0 ? RAX : RDX], half);
		v[n] = zero_extend(c->reg[n == 0 ? RBX : RCX], half);
	}
	locked_begin_at(c, i, &l, size);
	if (l.host == NULL) {
		uint64_t now[2];

		now[0] = mem_load(c, i, l.lin, half);
		now[1] = mem_load(c, i, l.lin + half, half);
		same = now[0] == old[0] && now[1] == old[1];
		if (same) {
			mem_store(c, i, l.lin, half, v[0]);
			mem_store(c, i, l.lin + half, half, v[1]);
		}
		old[0] = now[0];
		old[1] = now[1];
	} else if (half == 8) {
		same = swap_16(&l, old, v);
	} else {
		uint64_t was = old[0] | old[1] << 32;

		same = swap_8(&l, &was, v[0] | v[1] << 32);
		old[0] = (uint32_t)was;
		old[1] = was >> 32;
	}
	locked_end(c, &l, size);
	if (!same) {
		reg_set(c, RAX, 0, half, old[0]);
		reg_set(c, RDX, 0, half, old[1]);
	}
	flags_set_arith(c, (lazy_arith(c) & ~FL_ZF) | (same ? FL_ZF : 0));
}
