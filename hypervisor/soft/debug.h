/* Breakpoints by the debug registers. */
#ifndef SOFT_DEBUG_H
#define SOFT_DEBUG_H

#include "hypervisor/soft/cpu.h"

#define DR6_BD	    (1u << 13)
#define DR6_BS	    (1u << 14)
#define DR7_ENABLES 0xffu
#define DR7_LOCAL   0x155u /* what a task switch clears */
#define DR7_GD	    (1u << 13)

/* Any breakpoint enabled?  If not, nothing else here is called. */
static inline bool
debug_on(const struct cpu *c)
{
	return c->dr[7] & DR7_ENABLES;
}

/* The one way to set it. */
void debug_set_dr7(struct cpu *c, uint64_t v);

/* Breakpoints on execution: those at c->rip, as bits of DR6; and whether there
 * is one in its page. */
unsigned debug_at(const struct cpu *c);
bool debug_in_page(const struct cpu *c);

/* While c->watch is not 0: note in c->debug_hits which breakpoints on data or
 * on ports this access of size bytes meets. */
void debug_note(struct cpu *c, uint64_t lin, unsigned size, bool write);
void debug_note_port(struct cpu *c, uint16_t port, unsigned size);

/* #DB for these bits of DR6, with c->rip the address to save. */
void debug_deliver(struct cpu *c, uint32_t bits);

#endif
