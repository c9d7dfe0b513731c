/* Interrupt lines driven by eventfds. */
#include "tests/guests/testing.h"

#define EDGE  0x50
#define LEVEL 0x52
#define OTHER 0x53

static void
other(void)
{
	uint64_t n = trap_count[OTHER];

	test(TEST_IRQ_PULSE, 23, 0, 0);
	trap_wait(OTHER, n + 1);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	trap_count_on(EDGE, lapic_eoi);
	trap_count_on(LEVEL, lapic_eoi);
	trap_count_on(OTHER, lapic_eoi);
	ioapic_route(21, EDGE);
	ioapic_route(22, LEVEL | RTE_LEVEL);
	ioapic_route(23, OTHER);

	check("bind_edge", test(TEST_IRQFD_BIND, 21, 0, 0), 0);
	for (uint64_t n = 1; n <= 3; n++) {
		test(TEST_IRQFD_SIGNAL, 21, 0, 0);
		trap_wait(EDGE, n);
	}
	other();
	check("edge_for_each_write", trap_count[EDGE], 3);
	check("unbind_edge", test(TEST_IRQFD_UNBIND, 21, 0, 0), 0);
	test(TEST_IRQFD_SIGNAL, 21, 0, 0);
	other();
	check("none_when_unbound", trap_count[EDGE], 3);

	check("bind_level", test(TEST_IRQFD_BIND, 22, 1, 0), 0);
	test(TEST_IRQFD_SIGNAL, 22, 0, 0);
	trap_wait(LEVEL, 1);
	check("eoi_resamples", test(TEST_IRQFD_RESAMPLES, 22, 0, 0), 1);
	other();
	check("level_is_down_after_eoi", trap_count[LEVEL], 1);
	test(TEST_IRQFD_SIGNAL, 22, 0, 0);
	trap_wait(LEVEL, 2);
	check("level_again", trap_count[LEVEL], 2);
	check("eoi_resamples_again", test(TEST_IRQFD_RESAMPLES, 22, 0, 0), 1);
	check("unbind_level", test(TEST_IRQFD_UNBIND, 22, 0, 0), 0);

	/* The same line through the PIC. */
	lapic_write(LAPIC_LINT0, 0x700);
	trap_count_on(0x25, pic_eoi);
	pic_mask(0xffff & ~(1u << 5));
	check("bind_isa", test(TEST_IRQFD_BIND, 5, 0, 0), 0);
	test(TEST_IRQFD_SIGNAL, 5, 0, 0);
	trap_wait(0x25, 1);
	check("edge_through_the_pic", trap_count[0x25], 1);
	check("unbind_isa", test(TEST_IRQFD_UNBIND, 5, 0, 0), 0);
}
