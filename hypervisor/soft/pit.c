/* The 8254 interval timer.  See pit.h. */
#include "hypervisor/soft/pit.h"

#include <string.h>

#define NS_PER_S 1000000000u

static uint64_t
ticks_of_ns(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * PIT_HZ / NS_PER_S);
}

/* The first nanosecond at which that many ticks have passed. */
static uint64_t
ns_of_ticks(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * NS_PER_S + PIT_HZ - 1) /
	    PIT_HZ);
}

void
pit_init(struct pit *p)
{
	memset(p, 0, sizeof(*p));
	for (unsigned n = 0; n < 3; n++) {
		p->ch[n].count = 65536;
		p->ch[n].access = 3;
		p->ch[n].gate = n != 2;
	}
}

bool
pit_owns(uint64_t port)
{
	return (port >= 0x40 && port <= 0x43) || port == 0x61;
}

/* Ticks since the counter was loaded, time held by the gate left out. */
static uint64_t
elapsed(const struct pit_channel *c, uint64_t now)
{
	if (!c->counting || now < c->start_ns)
		return c->held;
	return c->held + ticks_of_ns(now - c->start_ns);
}

static bool
output(const struct pit_channel *c, uint64_t now)
{
	uint64_t d = elapsed(c, now);
	bool started = c->loaded && (c->counting || c->held);

	switch (c->mode) {
	case 0:
		return started && d >= c->count;
	case 1:
		return !started || d >= c->count;
	case 2:
		return !started || !c->gate || d % c->count != c->count - 1;
	case 3:
		return !started || !c->gate ||
		    d % c->count < (c->count + 1) / 2;
	default: /* 4, 5: a strobe of one tick */
		return !started || d != c->count;
	}
}

/* What the counting element shows. */
static uint16_t
counter(const struct pit_channel *c, uint64_t now)
{
	uint64_t d = elapsed(c, now);
	uint32_t wrap = c->bcd ? 10000 : 65536, v;

	if (c->mode == 2)
		v = (uint32_t)(c->count - d % c->count);
	else if (c->mode == 3)
		v = (uint32_t)(c->count - 2 * d % c->count);
	else
		v = (uint32_t)((c->count + wrap - d % wrap) % wrap);
	v %= wrap;
	if (c->bcd)
		v = (v / 1000 << 12) | (v / 100 % 10 << 8) |
		    (v / 10 % 10 << 4) | v % 10;
	return (uint16_t)v;
}

/* How many times OUT has risen since the counter was loaded. */
static uint64_t
rises(const struct pit_channel *c, uint64_t now)
{
	uint64_t d = elapsed(c, now);

	if (!c->loaded || !(c->counting || c->held))
		return 0;
	switch (c->mode) {
	case 2:
	case 3:
		return d / c->count;
	case 4:
	case 5:
		return d > c->count;
	default:
		return d >= c->count;
	}
}

static void
restart(struct pit_channel *c, uint64_t now)
{
	c->start_ns = now;
	c->held = 0;
	c->edges = 0;
	c->counting = 1;
}

static void
load(struct pit_channel *c, uint32_t value, uint64_t now)
{
	if (c->bcd)
		value = (value >> 12) * 1000 + (value >> 8 & 15) * 100 +
		    (value >> 4 & 15) * 10 + (value & 15);
	c->count = value ? value : c->bcd ? 10000 : 65536;
	/* A period of one tick does not exist on the chip. */
	if (c->count == 1 && (c->mode == 2 || c->mode == 3))
		c->count = 2;
	c->loaded = 1;
	if (c->mode == 1 || c->mode == 5)
		return; /* the gate's rising edge starts these */
	restart(c, now);
	c->counting = c->gate;
}

static void
gate_set(struct pit_channel *c, bool gate, uint64_t now)
{
	if (c->gate == gate)
		return;
	if (!gate) {
		if (c->mode == 1 || c->mode == 5) {
			c->gate = 0;
			return;
		}
		c->held = (uint32_t)elapsed(c, now);
		c->counting = 0;
		c->gate = 0;
		return;
	}
	c->gate = 1;
	if (!c->loaded)
		return;
	if (c->mode == 0 || c->mode == 4) {
		c->start_ns = now;
		c->counting = 1;
	} else {
		restart(c, now);
	}
}

static void
latch_count(struct pit_channel *c, uint64_t now)
{
	if (c->latches)
		return;
	c->latch = counter(c, now);
	c->latches = c->access == 3 ? 2 : 1;
}

static void
latch_status(struct pit_channel *c, uint64_t now)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)((output(c, now) ? 0x80 : 0) |
	    (c->loaded ? 0 : 0x40) | c->access << 4 | c->mode << 1 | c->bcd);
	c->status_latched = 1;
}

static void
control(struct pit *p, uint8_t v, uint64_t now)
{
	unsigned n = v >> 6;
	struct pit_channel *c;

	if (n == 3) { /* read-back */
		for (n = 0; n < 3; n++) {
			if (!(v & (2u << n)))
				continue;
			if (!(v & 0x20))
				latch_count(&p->ch[n], now);
			if (!(v & 0x10))
				latch_status(&p->ch[n], now);
		}
		return;
	}
	c = &p->ch[n];
	if (!(v & 0x30)) {
		latch_count(c, now);
		return;
	}
	c->access = v >> 4 & 3;
	c->mode = v >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3;
	c->bcd = v & 1;
	c->loaded = c->counting = 0;
	c->held = 0;
	c->edges = 0;
	c->write_high = c->read_high = c->latches = c->status_latched = 0;
}

uint8_t
pit_read(struct pit *p, uint64_t port, uint64_t now)
{
	struct pit_channel *c;
	uint16_t v;
	bool high;

	if (port == 0x61)
		/* Bit 4 is the refresh clock: it toggles every 15.085 us. */
		return (uint8_t)(p->speaker | (now / 15085 & 1) << 4 |
		    (unsigned)output(&p->ch[2], now) << 5);
	if (port == 0x43)
		return 0xff;
	c = &p->ch[port - 0x40];
	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	v = c->latches ? c->latch : counter(c, now);
	high = c->access == 2 || (c->access == 3 && c->read_high);
	if (c->access == 3)
		c->read_high ^= 1;
	if (c->latches)
		c->latches--;
	return (uint8_t)(high ? v >> 8 : v);
}

void
pit_write(struct pit *p, uint64_t port, uint8_t v, uint64_t now)
{
	struct pit_channel *c;

	if (port == 0x61) {
		p->speaker = v & 3;
		gate_set(&p->ch[2], v & 1, now);
		return;
	}
	if (port == 0x43) {
		control(p, v, now);
		return;
	}
	c = &p->ch[port - 0x40];
	if (c->access == 1) {
		load(c, v, now);
	} else if (c->access == 2) {
		load(c, (uint32_t)v << 8, now);
	} else if (!c->write_high) {
		c->write_low = v;
		c->write_high = 1;
		/* In mode 0 the first byte stops the counting. */
		if (c->mode == 0)
			c->loaded = c->counting = 0;
	} else {
		c->write_high = 0;
		load(c, (uint32_t)v << 8 | c->write_low, now);
	}
}

bool
pit_output(const struct pit *p, unsigned n, uint64_t now)
{
	return output(&p->ch[n], now);
}

uint64_t
pit_edges(struct pit *p, uint64_t now)
{
	struct pit_channel *c = &p->ch[0];
	uint64_t all = rises(c, now), new = all - c->edges;

	if (all < c->edges)
		return 0;
	c->edges = all;
	return new;
}

uint64_t
pit_due_ns(const struct pit *p)
{
	const struct pit_channel *c = &p->ch[0];
	uint64_t tick;

	if (!c->loaded || !c->counting)
		return PIT_NEVER;
	if (c->mode == 2 || c->mode == 3)
		tick = (c->edges + 1) * c->count;
	else if (c->edges)
		return PIT_NEVER;
	else
		tick = (uint64_t)c->count + (c->mode >= 4);
	if (tick < c->held)
		return PIT_NEVER;
	return c->start_ns + ns_of_ticks(tick - c->held);
}
