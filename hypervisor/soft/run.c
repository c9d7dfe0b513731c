/* The run loop: attention, the next block, exceptions. */
#include "hypervisor/soft/block.h"
#include "hypervisor/soft/debug.h"
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
	if (UNLIKELY(
		(user && (c->rflags & FL_AC) && (c->cr0 & CR0_AM)) || c->watch))
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

/* A block whose instructions are counted; ATT_STEP is set all the time. */
static void
run_counted(struct cpu *c, struct insn *i)
{
	c->fault_insn = NULL;
	c->icount_cut = NULL;
	c->icount_first = i;
	execute(c, i);
	c->icount += c->icount_cut != NULL ? (uint64_t)(c->icount_cut - i)
					   : block_of(i)->count;
	c->icount_first = NULL;
}

/* The block that raised an exception, as far as it came. */
static void
count_raised(struct cpu *c)
{
	if (c->icount_first != NULL && c->fault_insn >= c->icount_first &&
	    c->fault_insn < c->icount_first + BLOCK_INSNS)
		c->icount += (uint64_t)(c->fault_insn - c->icount_first) + 1;
	c->icount_first = NULL;
}

/* One block, and no way on from it. */
static void
run_alone(struct cpu *c, struct insn *i)
{
	if (machine_counts(c->machine)) {
		run_counted(c, i);
		return;
	}
	atomic_fetch_or(&c->attention, ATT_STEP);
	execute(c, i);
	atomic_fetch_and(&c->attention, ~(uint32_t)ATT_STEP);
	c->link = NULL;
}

/*
 * One instruction, and the debug exceptions before and behind it.  held: they
 * are, as behind a load of SS; returns whether those of the next one are.
 */
static bool
run_single(struct cpu *c, bool held)
{
	bool trap = (c->rflags & FL_TF) != 0, rep;
	unsigned at = 0;
	uint64_t rip = c->rip;
	struct insn *i;
	op_fn *fn;

	if (UNLIKELY(debug_on(c)) && !held && !(c->rflags & FL_RF))
		at = debug_at(c);
	if (at != 0) {
		debug_deliver(c, at);
		return false;
	}
	i = block_find(c, true)->insn;
	fn = i->fn;
	rep = (i->flags & (INSN_REP | INSN_REPNE)) != 0;
	c->rflags &= ~FL_RF;
	c->shadow = false;
	if (software_interrupt(c, fn))
		trap = false;
	run_alone(c, i);
	/* The rest of a repeated one does not meet its breakpoint again. */
	if (rep && c->rip == rip)
		c->rflags |= FL_RF;
	if (c->shadow && fn != op_sti)
		return true;
	/* SYSCALL traps by the flags that it leaves. */
	if (fn == op_syscall && !(c->rflags & FL_TF))
		trap = false;
	if (trap || c->debug_hits != 0)
		debug_deliver(c, c->debug_hits | (trap ? DR6_BS : 0));
	return false;
}

static bool
waiting(const struct cpu *c)
{
	return c->halted || c->mp_state == HV_MP_WAIT_INIT ||
	    c->mp_state == HV_MP_WAIT_SIPI;
}

/* Can the block at rip run as a whole? */
static bool
meets_no_breakpoint(struct cpu *c)
{
	return !debug_on(c) || (!c->watch && !debug_in_page(c));
}

/* Returns when event_poll() says so, or by cpu_raise(). */
static void
run_loop(struct cpu *c)
{
	bool held = false, counts = machine_counts(c->machine);

	for (;;) {
		bool single = c->shadow;

		if (UNLIKELY(counts && c->icount >= c->icount_due))
			icount_look(c);
		if (UNLIKELY(atomic_load_explicit(
				 &c->attention, memory_order_relaxed) &
			~(uint32_t)ATT_STEP)) {
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
		if (UNLIKELY(single || c->shadow || (c->rflags & FL_TF) ||
			!meets_no_breakpoint(c))) {
			held = run_single(c, held);
		} else if (UNLIKELY(debug_on(c))) {
			c->rflags &= ~FL_RF;
			run_alone(c, next_block(c));
		} else if (UNLIKELY(counts)) {
			run_counted(c, next_block(c));
		} else {
			execute(c, next_block(c));
		}
	}
}

enum hv_stop
cpu_run(struct cpu *c)
{
	jmp_buf unwind;

	c->unwind = &unwind;
	if (setjmp(unwind) != 0) {
		if (machine_counts(c->machine))
			count_raised(c);
		else
			atomic_fetch_and(&c->attention, ~(uint32_t)ATT_STEP);
		c->link = NULL;
		c->shadow = false;
		c->debug_hits = 0;
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
