/*
 * The 82093AA I/O APIC, 24 pins, at 0xfec00000.  No locks: the owner holds
 * its own.
 */
#ifndef SOFT_IOAPIC_H
#define SOFT_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/soft/lapic.h"

#define IOAPIC_BASE 0xfec00000u
#define IOAPIC_SIZE 0x1000u
#define IOAPIC_PINS 24u

struct ioapic {
	uint64_t rte[IOAPIC_PINS]; /* redirection table entries */
	uint32_t lines; /* levels of the pins */
	uint32_t id, select;
	void (*deliver)(void *ctx, const struct apic_msg *msg);
	/* A level interrupt of that pin was ended by the processor. */
	void (*eoi)(void *ctx, unsigned pin);
	void *ctx;
};

void ioapic_init(struct ioapic *a,
    void (*deliver)(void *ctx, const struct apic_msg *msg),
    void (*eoi)(void *ctx, unsigned pin), void *ctx);
/* Level of a pin, 0 to 23. */
void ioapic_set(struct ioapic *a, unsigned pin, bool level);
/* An EOI message with that vector from a LAPIC. */
void ioapic_end(struct ioapic *a, unsigned vector);
/* MMIO; offset from IOAPIC_BASE, 32-bit registers. */
uint32_t ioapic_read(struct ioapic *a, unsigned offset);
void ioapic_write(struct ioapic *a, unsigned offset, uint32_t value);

#endif
