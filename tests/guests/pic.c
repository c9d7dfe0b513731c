/* Interrupts through the 8259 pair. */
#include "tests/guests/testing.h"

static unsigned order[8], norder;
static unsigned level_left;

static void
on_ordered(struct trap_frame *f)
{
	if (norder < 8)
		order[norder++] = (unsigned)f->vector;
}

/* A level interrupt: the device drops its line at the last one. */
static void
on_level(struct trap_frame *f)
{
	trap_count[f->vector]++;
	if (--level_left == 0)
		test(TEST_IRQ_SET, 10, 0, 0);
	pic_eoi((uint8_t)f->vector);
}

static uint8_t
pic_register(uint16_t port, uint8_t which)
{
	outb(port, which);
	return inb(port);
}

static void
edges(void)
{
	trap_count_on(0x24, pic_eoi);
	trap_count_on(0x25, pic_eoi);
	trap_count_on(0x2a, pic_eoi);
	pic_mask(0xffff & ~(1u << 4 | 1u << 2));
	test(TEST_IRQ_PULSE, 4, 0, 0);
	trap_wait(0x24, 1);
	check("edge_of_the_master", trap_count[0x24], 1);
	test(TEST_IRQ_PULSE, 4, 0, 0);
	trap_wait(0x24, 2);
	check("edge_again", trap_count[0x24], 2);
	pic_mask(0xffff & ~(1u << 10 | 1u << 2));
	test(TEST_IRQ_PULSE, 10, 0, 0);
	trap_wait(0x2a, 1);
	check("edge_of_the_slave", trap_count[0x2a], 1);
}

static void
masking(void)
{
	trap_count[0x24] = trap_count[0x25] = 0;
	pic_mask(0xffff & ~(1u << 5));
	test(TEST_IRQ_SET, 4, 1, 0);
	check("masked_is_in_irr", pic_register(0x20, 0x0a) & 0x30, 0x10);
	test(TEST_IRQ_PULSE, 5, 0, 0);
	trap_wait(0x25, 1);
	check("masked_stays_away", trap_count[0x24], 0);
	check("mask_reads_back", inb(0x21), 0xdf);
	pic_mask(0xffff & ~(1u << 4));
	trap_wait(0x24, 1);
	check("unmasked_arrives", trap_count[0x24], 1);
	test(TEST_IRQ_SET, 4, 0, 0);
}

static void
priorities(void)
{
	trap_set(0x23, on_ordered);
	trap_set(0x24, on_ordered);
	trap_set(0x25, on_ordered);
	pic_mask(0xffff & ~(1u << 3 | 1u << 4 | 1u << 5));
	test(TEST_IRQ_PULSE, 4, 0, 0);
	while (norder < 1)
		interrupt_wait();
	/* 4 is in service: 5 has to wait, 3 has not. */
	check("in_service", pic_register(0x20, 0x0b), 0x10);
	test(TEST_IRQ_PULSE, 5, 0, 0);
	test(TEST_IRQ_PULSE, 3, 0, 0);
	while (norder < 2)
		interrupt_wait();
	check("higher_interrupts_lower", order[1], 0x23);
	check("lower_waits", norder, 2);
	outb(0x20, 0x63); /* specific EOI of 3 */
	outb(0x20, 0x64);
	while (norder < 3)
		interrupt_wait();
	check("lower_after_eoi", order[2], 0x25);
	outb(0x20, 0x20);
	check("none_in_service", pic_register(0x20, 0x0b), 0);
}

static void
levels(void)
{
	trap_set(0x2a, on_level);
	trap_count[0x2a] = 0;
	level_left = 3;
	outb(0x4d1, 1u << 2);
	check("elcr_reads_back", inb(0x4d1), 1u << 2);
	pic_mask(0xffff & ~(1u << 10 | 1u << 2));
	test(TEST_IRQ_SET, 10, 1, 0);
	trap_wait(0x2a, 3);
	check("level_repeats_until_dropped", trap_count[0x2a], 3);
	/* Nothing more: another interrupt comes alone. */
	trap_count_on(0x25, pic_eoi);
	pic_mask(0xffff & ~(1u << 10 | 1u << 5 | 1u << 2));
	test(TEST_IRQ_PULSE, 5, 0, 0);
	trap_wait(0x25, 1);
	check("level_ends", trap_count[0x2a], 3);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	pic_init();
	/* First with the LAPIC as reset leaves it, then as kernels set it. */
	edges();
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_LINT0, 0x700);
	masking();
	priorities();
	levels();
}
