/* The I/O APIC.  See ioapic.h. */
#include "hypervisor/soft/ioapic.h"

#include <string.h>

#define RTE_LOGICAL    (1u << 11)
#define RTE_REMOTE_IRR (1u << 14) /* read-only */
#define RTE_LEVEL      (1u << 15)
#define RTE_MASKED     (1u << 16)
#define RTE_LOW	       0x0001afffu /* writable bits of the low half */
#define RTE_HIGH       0xff000000u

#define REG_SELECT     0x00
#define REG_WINDOW     0x10
#define REG_EOI	       0x40
#define VERSION	       (0x20u | (IOAPIC_PINS - 1) << 16)

void
ioapic_init(struct ioapic *a,
    void (*deliver)(void *ctx, const struct apic_msg *msg),
    void (*eoi)(void *ctx, unsigned pin), void *ctx)
{
	memset(a, 0, sizeof(*a));
	for (unsigned n = 0; n < IOAPIC_PINS; n++)
		a->rte[n] = RTE_MASKED;
	a->deliver = deliver;
	a->eoi = eoi;
	a->ctx = ctx;
}

static void
send(struct ioapic *a, unsigned pin)
{
	uint64_t rte = a->rte[pin];
	struct apic_msg msg = {
		.dest = (uint32_t)(rte >> 56),
		.vector = (uint8_t)rte,
		.mode = rte >> 8 & 7,
		.logical = rte & RTE_LOGICAL,
		.level = rte & RTE_LEVEL,
		.assert = true,
	};

	if (msg.level)
		a->rte[pin] |= RTE_REMOTE_IRR;
	a->deliver(a->ctx, &msg);
}

/* A level pin that is up, unmasked and not in service is sent. */
static void
look(struct ioapic *a, unsigned pin)
{
	uint64_t rte = a->rte[pin];

	if ((a->lines & (1u << pin)) && (rte & RTE_LEVEL) &&
	    !(rte & (RTE_MASKED | RTE_REMOTE_IRR)))
		send(a, pin);
}

void
ioapic_set(struct ioapic *a, unsigned pin, bool level)
{
	bool was = a->lines & (1u << pin);

	if (!level) {
		a->lines &= ~(1u << pin);
		return;
	}
	a->lines |= 1u << pin;
	if (a->rte[pin] & RTE_LEVEL)
		look(a, pin);
	else if (!was && !(a->rte[pin] & RTE_MASKED))
		send(a, pin);
}

void
ioapic_end(struct ioapic *a, unsigned vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t rte = a->rte[pin];

		if ((uint8_t)rte != vector || !(rte & RTE_REMOTE_IRR))
			continue;
		a->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
		if (a->eoi)
			a->eoi(a->ctx, pin);
		look(a, pin);
	}
}

uint32_t
ioapic_read(struct ioapic *a, unsigned offset)
{
	unsigned r = a->select;

	if (offset == REG_SELECT)
		return a->select;
	if (offset != REG_WINDOW)
		return 0;
	if (r == 0 || r == 2) /* identification, arbitration */
		return a->id << 24;
	if (r == 1)
		return VERSION;
	if (r < 0x10 || r >= 0x10 + 2 * IOAPIC_PINS)
		return 0;
	return (uint32_t)(a->rte[(r - 0x10) / 2] >> (r & 1 ? 32 : 0));
}

static void
rte_write(struct ioapic *a, unsigned pin, bool high, uint32_t v)
{
	uint64_t rte = a->rte[pin];

	if (high)
		rte = (uint32_t)rte | (uint64_t)(v & RTE_HIGH) << 32;
	else
		rte = (rte & ~(uint64_t)RTE_LOW) | (v & RTE_LOW);
	/* Changing a pin to edge forgets the interrupt in service: the way in
	 * which systems without an EOI register clear it. */
	if (!(rte & RTE_LEVEL))
		rte &= ~(uint64_t)RTE_REMOTE_IRR;
	a->rte[pin] = rte;
	look(a, pin);
}

void
ioapic_write(struct ioapic *a, unsigned offset, uint32_t v)
{
	unsigned r = a->select;

	if (offset == REG_SELECT) {
		a->select = v & 0xff;
	} else if (offset == REG_EOI) {
		ioapic_end(a, v & 0xff);
	} else if (offset == REG_WINDOW) {
		if (r == 0)
			a->id = v >> 24 & 0xf;
		else if (r >= 0x10 && r < 0x10 + 2 * IOAPIC_PINS)
			rte_write(a, (r - 0x10) / 2, r & 1, v);
	}
}
