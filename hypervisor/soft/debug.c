/*
 * Breakpoints by the debug registers.
 *
 * While one is enabled the run loop takes instructions one by one, but for
 * blocks in whose page no breakpoint on execution lies while there is none on
 * data.  For one on data the fast ways to memory are closed (set_context(), as
 * for alignment checks), so that mem_load() and its like see every access.
 */
#include "hypervisor/soft/debug.h"

#include "hypervisor/soft/mmu.h"

enum kind { ON_EXECUTION, ON_WRITE, ON_PORT, ON_ACCESS };

static bool
enabled(const struct cpu *c, unsigned n)
{
	return c->dr[7] >> 2 * n & 3;
}

static enum kind
kind_of(const struct cpu *c, unsigned n)
{
	return (enum kind)(c->dr[7] >> (16 + 4 * n) & 3);
}

static bool
meets(const struct cpu *c, unsigned n, uint64_t at, unsigned size)
{
	static const uint8_t sizes[4] = { 1, 2, 8, 4 };
	unsigned wide = sizes[c->dr[7] >> (18 + 4 * n) & 3];
	uint64_t from = c->dr[n] & ~(uint64_t)(wide - 1);

	return at - from < wide || from - at < size;
}

void
debug_set_dr7(struct cpu *c, uint64_t v)
{
	c->dr[7] = v;
	c->watch = 0;
	for (unsigned n = 0; n < 4; n++)
		if (enabled(c, n) && kind_of(c, n) != ON_EXECUTION)
			c->watch |= (uint8_t)(1u << n);
}

/* Where the next instruction is fetched. */
static uint64_t
fetch_lin(const struct cpu *c)
{
	return c->mode == 8 ? c->rip : (uint32_t)(c->seg[CS].base + c->rip);
}

unsigned
debug_at(const struct cpu *c)
{
	uint64_t lin = fetch_lin(c);
	unsigned hits = 0;

	for (unsigned n = 0; n < 4; n++)
		if (enabled(c, n) && kind_of(c, n) == ON_EXECUTION &&
		    c->dr[n] == lin)
			hits |= 1u << n;
	return hits;
}

bool
debug_in_page(const struct cpu *c)
{
	uint64_t lin = fetch_lin(c);

	for (unsigned n = 0; n < 4; n++)
		if (enabled(c, n) && kind_of(c, n) == ON_EXECUTION &&
		    (c->dr[n] ^ lin) < PAGE_SIZE)
			return true;
	return false;
}

void
debug_note(struct cpu *c, uint64_t lin, unsigned size, bool write)
{
	for (unsigned n = 0; n < 4; n++) {
		enum kind k = kind_of(c, n);

		if ((c->watch >> n & 1) &&
		    (k == ON_ACCESS || (k == ON_WRITE && write)) &&
		    meets(c, n, lin, size))
			c->debug_hits |= (uint8_t)(1u << n);
	}
}

void
debug_note_port(struct cpu *c, uint16_t port, unsigned size)
{
	if (!(c->cr4 & CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++)
		if ((c->watch >> n & 1) && kind_of(c, n) == ON_PORT &&
		    meets(c, n, port, size))
			c->debug_hits |= (uint8_t)(1u << n);
}

void
debug_deliver(struct cpu *c, uint32_t bits)
{
	c->dr[6] |= bits;
	c->dr[7] &= ~(uint64_t)DR7_GD;
	c->debug_hits = 0;
	event_deliver(c, EVENT_EXCEPTION, EXC_DB, false, 0);
}
