/* Interrupts through the IOAPIC. */
#include "tests/guests/testing.h"

#define EDGE  0x50
#define OTHER 0x51
#define LEVEL 0x62

#define QUIET 4 /* see other() */
#define LONG  40

static unsigned level_left;
static uint32_t rte_in_handler; /* while the line was up */
static bool exact; /* interrupts stay in service until their EOI */

static void
on_level(struct trap_frame *f)
{
	trap_count[f->vector]++;
	if (level_left > 0) {
		rte_in_handler = ioapic_low(20);
		if (--level_left == 0)
			test(TEST_IRQ_SET, 20, 0, 0);
	}
	lapic_eoi(0);
}

static void
other_once(void)
{
	uint64_t n = trap_count[OTHER];

	test(TEST_IRQ_PULSE, 23, 0, 0);
	trap_wait(OTHER, n + 1);
}

/*
 * What else was to come has come when this has, for its priority is the lowest.
 * A KVM that ends an interrupt as it delivers it has another one pending as
 * long as the line is up, and may hold it back behind later ones of a lower
 * priority: there it has come when nothing has for a while.
 */
static void
other(void)
{
	unsigned quiet = 0;

	for (unsigned n = 0; n < LONG && quiet < QUIET; n++) {
		uint64_t before = trap_count[LEVEL];

		other_once();
		if (exact)
			return;
		quiet = trap_count[LEVEL] == before ? quiet + 1 : 0;
	}
}

static void
registers(void)
{
	check("has_24_pins", ioapic_read(1) >> 16 & 0xff, 23);
	ioapic_write(0, 5u << 24);
	check("id_reads_back", ioapic_read(0) >> 24 & 0xf, 5);
	ioapic_write(0, 0);
	check("masked_at_reset", ioapic_low(20) & RTE_MASKED, RTE_MASKED);
	ioapic_write(0x10 + 2 * 20, 0x1ffff);
	check("status_bits_are_read_only",
	    ioapic_low(20) & (RTE_REMOTE_IRR | 0x1000), 0);
	ioapic_write(0x11 + 2 * 20, 0xab000000);
	check("destination_reads_back", ioapic_read(0x11 + 2 * 20) >> 24, 0xab);
}

static void
edges(void)
{
	ioapic_route(20, EDGE);
	test(TEST_IRQ_PULSE, 20, 0, 0);
	trap_wait(EDGE, 1);
	check("edge", trap_count[EDGE], 1);
	test(TEST_IRQ_SET, 20, 1, 0);
	trap_wait(EDGE, 2);
	other();
	check("edge_that_stays_up_is_one", trap_count[EDGE], 2);
	check("edge_has_no_remote_irr", ioapic_low(20) & RTE_REMOTE_IRR, 0);
	test(TEST_IRQ_SET, 20, 0, 0);
	other();
	check("falling_edge_is_none", trap_count[EDGE], 2);
	ioapic_write(0x10 + 2 * 20, EDGE | RTE_MASKED);
	test(TEST_IRQ_PULSE, 20, 0, 0);
	other();
	check("masked_edge_stays_away", trap_count[EDGE], 2);
}

/* Level interrupts up to now; where they end early, one comes too many. */
static void
check_levels(const char *name, uint64_t want)
{
	if (exact)
		check(name, trap_count[LEVEL], want);
	else
		check_least(name, trap_count[LEVEL], want);
}

static void
levels(void)
{
	uint64_t n;

	trap_set(LEVEL, on_level);
	level_left = 3;
	ioapic_route(20, LEVEL | RTE_LEVEL);
	test(TEST_IRQ_SET, 20, 1, 0);
	trap_wait(LEVEL, 3);
	check_levels("level_repeats_until_dropped", 3);
	check("remote_irr_until_eoi", rte_in_handler & RTE_REMOTE_IRR,
	    RTE_REMOTE_IRR);
	other();
	check("no_remote_irr_after_eoi", ioapic_low(20) & RTE_REMOTE_IRR, 0);
	check_levels("level_ends", 3);
	n = trap_count[LEVEL];
	level_left = 1;
	ioapic_write(0x10 + 2 * 20, LEVEL | RTE_LEVEL | RTE_MASKED);
	test(TEST_IRQ_SET, 20, 1, 0);
	other();
	check("masked_level_stays_away", trap_count[LEVEL], n);
	ioapic_write(0x10 + 2 * 20, LEVEL | RTE_LEVEL);
	trap_wait(LEVEL, n + 1);
	other();
	check_levels("unmasked_level_arrives", n + 1);
	n = trap_count[LEVEL];
	other();
	check("unmasked_level_ends", trap_count[LEVEL], n);
}

static void
on_service(struct trap_frame *f)
{
	trap_count[f->vector]++;
}

/* What is in service keeps its class and those below away. */
static void
service(void)
{
	uint64_t n = trap_count[OTHER];

	trap_set(LEVEL, on_service);
	ioapic_route(20, LEVEL);
	ioapic_route(21, 0x92);
	trap_count_on(0x92, lapic_eoi);
	trap_count[LEVEL] = 0;
	test(TEST_IRQ_PULSE, 20, 0, 0);
	trap_wait(LEVEL, 1);
	test(TEST_IRQ_PULSE, 23, 0, 0);
	test(TEST_IRQ_PULSE, 21, 0, 0);
	trap_wait(0x92, 1);
	check("in_service_keeps_lower_away", trap_count[OTHER], n);
	check("processor_priority", lapic_read(0xa0), LEVEL & 0xf0);
	lapic_eoi(0);
	trap_wait(OTHER, n + 1);
	check("lower_after_eoi", trap_count[OTHER], n + 1);
}

/* A higher task priority keeps vectors of lower classes away. */
static void
task_priority(void)
{
	uint64_t n = trap_count[EDGE], cr8;

	ioapic_route(20, EDGE);
	ioapic_route(23, 0x81);
	trap_count_on(0x81, lapic_eoi);
	lapic_write(LAPIC_TPR, 0x60);
	test(TEST_IRQ_PULSE, 20, 0, 0);
	test(TEST_IRQ_PULSE, 23, 0, 0);
	trap_wait(0x81, 1);
	check("task_priority_keeps_lower_away", trap_count[EDGE], n);
	lapic_write(LAPIC_TPR, 0);
	trap_wait(EDGE, n + 1);
	check("task_priority_lowered", trap_count[EDGE], n + 1);

	/* CR8 is the same, by class. */
	cr8 = 6;
	__asm__ volatile("movq %0, %%cr8" ::"r"(cr8) : "memory");
	check("cr8_is_the_task_priority", lapic_read(LAPIC_TPR), 0x60);
	test(TEST_IRQ_PULSE, 20, 0, 0);
	test(TEST_IRQ_PULSE, 23, 0, 0);
	trap_wait(0x81, 2);
	check("cr8_keeps_lower_away", trap_count[EDGE], n + 1);
	__asm__ volatile("movq %%cr8, %0" : "=r"(cr8));
	check("cr8_reads_back", cr8, 6);
	cr8 = 0;
	__asm__ volatile("movq %0, %%cr8" ::"r"(cr8) : "memory");
	trap_wait(EDGE, n + 2);
	check("cr8_lowered", trap_count[EDGE], n + 2);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	trap_count_on(EDGE, lapic_eoi);
	trap_count_on(OTHER, lapic_eoi);
	exact = lapic_keeps_in_service();
	registers();
	ioapic_route(23, OTHER);
	edges();
	levels();
	if (exact)
		service();
	task_priority();
}
