/* The run loop: attention, the next block, exceptions. */
#include "hypervisor/soft/block.h"
#include "hypervisor/soft/int.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/mmu.h"

static enum hv_stop
stop_reason(const struct cpu *c)
{
	if (c->error[0] != '\0')
		return HV_STOP_ERROR;
	return c->stopped ? HV_STOP_SHUTDOWN : HV_STOP_KICKED;
}

static void
execute(struct cpu *c, const struct insn *i)
{
#ifdef SOFT_TAIL_CALLS
	i->fn(c, i);
#else
	c->over = false;
	for (; !c->over; i++)
		i->fn(c, i);
#endif
}

/* What blocks take as given: the mode, the privilege, the code segment. */
static void
set_context(struct cpu *c)
{
	struct block_cache *b = c->blocks;
	bool user = c->cpl == 3;

	c->tlb_now = c->tlb[user];
	if (UNLIKELY(user && (c->rflags & FL_AC) && (c->cr0 & CR0_AM)))
		c->tlb_now = b->no_tlb;
	if (c->mode != 8 &&
	    (c->seg[CS].base != b->cs_base ||
		c->seg[CS].limit != b->cs_limit)) {
		b->cs_base = c->seg[CS].base;
		b->cs_limit = c->seg[CS].limit;
		block_jump_flush(c, true);
	}
	block_jump_key(c);
}

/* The block that insn is the first of. */
static struct block *
block_of(struct insn *insn)
{
	return (struct block *)(void *)((char *)insn -
	    offsetof(struct block, insn));
}

static struct insn *
next_block(struct cpu *c)
{
	struct jump_entry *e = block_jump_entry(c->blocks, c->rip);
	struct insn *from = c->link;
	struct block *k;

	c->link = NULL;
	if (e->tag == block_jump_tag(c->blocks, c->rip) &&
	    e->insn->fn != op_block_stale) {
		k = block_of(e->insn);
	} else {
		k = block_find(c, false);
		if (k->stale)
			return k->insn;
		c->blocks->local[c->rip >> 63] |= !tlb_global(c, c->rip);
		e->tag = block_jump_tag(c->blocks, c->rip);
		e->insn = k->insn;
	}
	if (from != NULL && k->page[1] == BLOCK_NO_PAGE)
		from->imm = (uintptr_t)k->insn;
	return k->insn;
}

/* Its delivery clears TF: no trap is left for behind it. */
static bool
software_interrupt(struct cpu *c, op_fn *fn)
{
	return fn == op_int3 || fn == op_int || fn == op_int1 ||
	    (fn == op_into && (flags_get(c) & FL_OF));
}

static void
run_single(struct cpu *c, bool trap)
{
	struct insn *i = block_find(c, true)->insn;
	op_fn *fn = i->fn;

	c->shadow = false;
	if (software_interrupt(c, fn))
		trap = false;
	atomic_fetch_or(&c->attention, ATT_STEP);
	execute(c, i);
	atomic_fetch_and(&c->attention, ~(uint32_t)ATT_STEP);
	c->link = NULL;
	/* SYSCALL traps by the flags that it leaves. */
	if (fn == op_syscall && !(c->rflags & FL_TF))
		trap = false;
	if (trap) {
		c->dr[6] |= 1u << 14;
		event_deliver(c, EVENT_EXCEPTION, EXC_DB, false, 0);
	}
}

static bool
waiting(const struct cpu *c)
{
	return c->halted || c->mp_state == HV_MP_WAIT_INIT ||
	    c->mp_state == HV_MP_WAIT_SIPI;
}

/* Returns when event_poll() says so, or by cpu_raise(). */
static void
run_loop(struct cpu *c)
{
	for (;;) {
		bool single = c->shadow;

		if (UNLIKELY(atomic_load_explicit(
			&c->attention, memory_order_relaxed))) {
			c->link = NULL;
			if (atomic_load(&c->attention) & ATT_CODE)
				block_mail_read(c);
			if (event_poll(c))
				return;
		}
		if (UNLIKELY(waiting(c))) {
			machine_sleep(c);
			continue;
		}
		set_context(c);
		if (LIKELY(!single && !c->shadow && !(c->rflags & FL_TF)))
			execute(c, next_block(c));
		else
			run_single(c, (c->rflags & FL_TF) != 0);
	}
}

enum hv_stop
cpu_run(struct cpu *c)
{
	jmp_buf unwind;

	c->unwind = &unwind;
	if (setjmp(unwind) != 0) {
		atomic_fetch_and(&c->attention, ~(uint32_t)ATT_STEP);
		c->link = NULL;
		c->shadow = false;
		if (c->fault_insn != NULL)
			c->rip = insn_ip(c, c->fault_insn);
		c->fault_insn = NULL;
		event_deliver(c, EVENT_EXCEPTION, c->raised.vector,
		    c->raised.has_error, c->raised.error);
	}
	run_loop(c);
	c->unwind = NULL;
	return stop_reason(c);
}
