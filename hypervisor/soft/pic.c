/* The pair of 8259A interrupt controllers.  See pic.h. */
#include "hypervisor/soft/pic.h"

#include <string.h>

#define CASCADE	 2u
#define NO_INPUT 8u
/* Inputs 0, 1, 2 of the master and 8 (RTC), 13 (FPU) cannot be level. */
#define ELCR_MASK0 0xf8u
#define ELCR_MASK1 0xdeu

void
pic_init(struct pic *p, void (*eoi)(void *ctx, unsigned irq), void *ctx)
{
	memset(p, 0, sizeof(*p));
	p->chip[0].lowest = p->chip[1].lowest = 7;
	p->eoi = eoi;
	p->ctx = ctx;
}

/* The input of highest priority in mask; NO_INPUT if none. */
static unsigned
highest(const struct pic_chip *c, uint8_t mask)
{
	for (unsigned n = 1; n <= 8; n++) {
		unsigned in = (c->lowest + n) & 7;

		if (mask & (1u << in))
			return in;
	}
	return NO_INPUT;
}

/* How far input in is from the highest priority: 0 to 7; 8 for NO_INPUT. */
static unsigned
distance(const struct pic_chip *c, unsigned in)
{
	return in == NO_INPUT ? 8 : (in - c->lowest - 1) & 7;
}

/* The input that asks for service now; NO_INPUT if none. */
static unsigned
request(const struct pic_chip *c, bool master)
{
	uint8_t isr = c->isr;
	unsigned want = highest(c, (uint8_t)(c->irr & ~c->imr));

	if (want == NO_INPUT || c->icw)
		return NO_INPUT;
	if (c->special_mask)
		isr = (uint8_t)(isr & ~c->imr);
	/* In special fully nested mode the slave may interrupt itself. */
	if (master && c->fully_nested)
		isr = (uint8_t)(isr & ~(1u << CASCADE));
	if (c->special_mask)
		return isr & (1u << want) ? NO_INPUT : want;
	return distance(c, want) < distance(c, highest(c, isr)) ? want
								: NO_INPUT;
}

static void
input(struct pic_chip *c, unsigned in, bool level)
{
	uint8_t bit = (uint8_t)(1u << in);

	if (c->elcr & bit) {
		if (level)
			c->irr |= bit;
		else
			c->irr = (uint8_t)(c->irr & ~bit);
	} else if (level && !(c->lines & bit)) {
		c->irr |= bit;
	}
	c->lines = (uint8_t)(level ? c->lines | bit : c->lines & ~bit);
}

/* The slave's output is the master's input 2. */
static void
cascade(struct pic *p)
{
	bool want = request(&p->chip[1], false) != NO_INPUT;
	struct pic_chip *m = &p->chip[0];

	if (want && (m->isr & (1u << CASCADE)) && m->fully_nested)
		m->irr |= 1u << CASCADE;
	if (!want)
		m->irr = (uint8_t)(m->irr & ~(1u << CASCADE));
	else
		m->irr |= 1u << CASCADE;
}

void
pic_set(struct pic *p, unsigned irq, bool level)
{
	if (irq == CASCADE || irq > 15)
		return;
	input(&p->chip[irq >> 3], irq & 7, level);
	cascade(p);
}

bool
pic_output(const struct pic *p)
{
	return request(&p->chip[0], true) != NO_INPUT;
}

static void
end_of_interrupt(struct pic *p, unsigned n, unsigned in)
{
	struct pic_chip *c = &p->chip[n];
	bool was = c->isr & (1u << in);

	c->isr = (uint8_t)(c->isr & ~(1u << in));
	if (was && p->eoi && !(n == 0 && in == CASCADE))
		p->eoi(p->ctx, n * 8 + in);
}

/* Take the request of chip n; a spurious one is input 7. */
static unsigned
take(struct pic *p, unsigned n)
{
	struct pic_chip *c = &p->chip[n];
	unsigned in = request(c, n == 0);
	uint8_t bit;

	if (in == NO_INPUT)
		return NO_INPUT;
	bit = (uint8_t)(1u << in);
	c->isr |= bit;
	if (!(c->elcr & bit) && !(n == 0 && in == CASCADE))
		c->irr = (uint8_t)(c->irr & ~bit);
	if (c->auto_eoi) {
		end_of_interrupt(p, n, in);
		if (c->rotate_on_aeoi)
			c->lowest = (uint8_t)in;
	}
	return in;
}

uint8_t
pic_acknowledge(struct pic *p)
{
	unsigned in = take(p, 0), slave;

	if (in == NO_INPUT)
		return (uint8_t)(p->chip[0].base + 7);
	if (in != CASCADE) {
		return (uint8_t)(p->chip[0].base + in);
	}
	slave = take(p, 1);
	cascade(p);
	return (uint8_t)(p->chip[1].base + (slave == NO_INPUT ? 7 : slave));
}

bool
pic_owns(uint64_t port)
{
	return port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1 ||
	    port == 0x4d0 || port == 0x4d1;
}

static uint8_t
poll_read(struct pic *p, unsigned n)
{
	unsigned in;

	p->chip[n].poll = 0;
	in = take(p, n);
	cascade(p);
	return in == NO_INPUT ? 7 : (uint8_t)(0x80 | in);
}

uint8_t
pic_read(struct pic *p, uint64_t port)
{
	unsigned n = port == 0xa0 || port == 0xa1 || port == 0x4d1;
	struct pic_chip *c = &p->chip[n];

	if (port == 0x4d0 || port == 0x4d1)
		return c->elcr;
	if (c->poll)
		return poll_read(p, n);
	if (port & 1)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static void
icw1(struct pic_chip *c, uint8_t v)
{
	/* Level inputs that are up stay requested; edges are forgotten. */
	c->irr = c->lines & c->elcr;
	c->isr = c->imr = 0;
	c->lowest = 7;
	c->special_mask = c->poll = c->read_isr = 0;
	c->auto_eoi = c->rotate_on_aeoi = c->fully_nested = 0;
	c->need_icw4 = v & 1;
	c->icw = 2;
}

/* OCW2: end of interrupt and rotation. */
static void
ocw2(struct pic *p, unsigned n, uint8_t v)
{
	struct pic_chip *c = &p->chip[n];
	unsigned in = v & 7u, served;

	switch (v >> 5) {
	case 0: /* rotate in automatic EOI mode: off, on */
	case 4:
		c->rotate_on_aeoi = v >> 7;
		break;
	case 1: /* non-specific EOI, without and with rotation */
	case 5:
		served = highest(
		    c, c->special_mask ? (uint8_t)(c->isr & ~c->imr) : c->isr);
		if (served == NO_INPUT)
			break;
		if (v >> 7)
			c->lowest = (uint8_t)served;
		end_of_interrupt(p, n, served);
		break;
	case 3: /* specific EOI */
		end_of_interrupt(p, n, in);
		break;
	case 7:
		c->lowest = (uint8_t)in;
		end_of_interrupt(p, n, in);
		break;
	case 6: /* set priority */
		c->lowest = (uint8_t)in;
		break;
	default: /* 2: no operation */
		break;
	}
}

static void
write_data(struct pic_chip *c, uint8_t v)
{
	switch (c->icw) {
	case 2:
		c->base = v & 0xf8;
		c->icw = 3;
		break;
	case 3: /* the wiring of the cascade is fixed */
		c->icw = c->need_icw4 ? 4 : 0;
		break;
	case 4:
		c->auto_eoi = v >> 1 & 1;
		c->fully_nested = v >> 4 & 1;
		c->icw = 0;
		break;
	default:
		c->imr = v;
		break;
	}
}

void
pic_write(struct pic *p, uint64_t port, uint8_t v)
{
	unsigned n = port == 0xa0 || port == 0xa1 || port == 0x4d1;
	struct pic_chip *c = &p->chip[n];

	if (port == 0x4d0 || port == 0x4d1) {
		c->elcr = (uint8_t)(v & (n ? ELCR_MASK1 : ELCR_MASK0));
	} else if (port & 1) {
		write_data(c, v);
	} else if (v & 0x10) {
		icw1(c, v);
	} else if (v & 8) { /* OCW3 */
		if (v & 4)
			c->poll = 1;
		if (v & 2)
			c->read_isr = v & 1;
		if (v & 0x40)
			c->special_mask = v >> 5 & 1;
	} else {
		ocw2(p, n, v);
	}
	cascade(p);
}
