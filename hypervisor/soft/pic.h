/*
 * The pair of 8259A interrupt controllers with the edge/level registers of a
 * PCI chipset.  No locks: the owner (machine.c) holds its own.
 *
 * Specification: Intel 8259A data sheet (231468), ELCR: 82371AB section 4.1.
 */
#ifndef SOFT_PIC_H
#define SOFT_PIC_H

#include <stdbool.h>
#include <stdint.h>

/* One 8259A; plain data, saved as it stands. */
struct pic_chip {
	uint8_t irr, isr, imr;
	uint8_t lines; /* levels of the input lines */
	uint8_t elcr; /* bit set: the input is level-triggered */
	uint8_t base; /* ICW2: vector of input 0 */
	uint8_t lowest; /* input of the lowest priority; 7 after reset */
	uint8_t icw; /* initialization: next ICW expected, 0: none */
	uint8_t need_icw4, auto_eoi, rotate_on_aeoi, fully_nested;
	uint8_t special_mask, poll, read_isr;
	uint8_t pad;
};

struct pic {
	struct pic_chip chip[2]; /* 0: master, 1: slave on input 2 */
	/* Called when an input's interrupt is acknowledged by EOI: 0 to 15. */
	void (*eoi)(void *ctx, unsigned irq);
	void *ctx;
};

void pic_init(struct pic *p, void (*eoi)(void *ctx, unsigned irq), void *ctx);
/* Level of input irq, 0 to 15; 2 is the cascade and ignored. */
void pic_set(struct pic *p, unsigned irq, bool level);
/* The INTR output of the pair. */
bool pic_output(const struct pic *p);
/* The acknowledge cycle: the vector, a spurious one (input 7) if the request
 * is gone. */
uint8_t pic_acknowledge(struct pic *p);
/* Is this port ours?  0x20 0x21 0xa0 0xa1 0x4d0 0x4d1. */
bool pic_owns(uint64_t port);
uint8_t pic_read(struct pic *p, uint64_t port);
void pic_write(struct pic *p, uint64_t port, uint8_t value);

#endif
