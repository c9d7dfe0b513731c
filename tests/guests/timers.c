/*
 * The PIT, and the LAPIC's timer in its modes.  Times are only ever checked
 * from below: a busy host may make any wait longer.
 */
#include "tests/guests/testing.h"

#define TIMER	   0x70
#define OTHER	   0x71
#define PIT_HZ	   1193182u
#define NS_PER_SEC 1000000000ull

static uint64_t
now_ns(void)
{
	return test(TEST_TIME_NS, 0, 0, 0);
}

static void
pit_start(uint8_t mode, uint32_t ticks)
{
	outb(0x43, (uint8_t)(0x30 | mode << 1));
	outb(0x40, (uint8_t)ticks);
	outb(0x40, (uint8_t)(ticks >> 8));
}

static uint32_t
pit_latched(void)
{
	uint32_t low;

	outb(0x43, 0);
	low = inb(0x40);
	return low | (uint32_t)inb(0x40) << 8;
}

static void
other(void)
{
	uint64_t n = trap_count[OTHER];

	test(TEST_MSI_SEND_LATER, MSI_ADDRESS, OTHER, 30);
	trap_wait(OTHER, n + 1);
}

static void
pit(void)
{
	uint64_t start, took;
	uint32_t first, second;

	lapic_write(LAPIC_LINT0, 0x700);
	trap_count_on(PIC_VECTOR, pic_eoi);
	pic_mask(0xfffe);
	start = now_ns();
	pit_start(2, PIT_HZ / 100);
	trap_wait(PIC_VECTOR, 6);
	took = now_ns() - start;
	/* Ticks that fell due while we were away come at once: the first may
	 * be late by one period. */
	check_least("pit_periodic", took, 40000000);
	pic_mask(0xffff);
	pit_start(2, 0xffff);
	first = pit_latched();
	check_least("pit_counts_below_reload", 0xffff, first);
	do
		second = pit_latched();
	while (second == first);
	check("pit_counts", second != first, 1);

	/* Mode 0 raises its output once. */
	pit_start(0, PIT_HZ / 200);
	trap_count[PIC_VECTOR] = 0;
	pic_mask(0xfffe);
	trap_wait(PIC_VECTOR, 1);
	pic_mask(0xfffe);
	other();
	check("pit_one_shot", trap_count[PIC_VECTOR], 1);
	pic_mask(0xffff);
	lapic_write(LAPIC_LINT0, LVT_MASKED);

	/* The line is also pin 2 of the IOAPIC. */
	trap_count_on(TIMER, lapic_eoi);
	ioapic_route(2, TIMER);
	pit_start(2, PIT_HZ / 100);
	trap_wait(TIMER, 3);
	check_least("pit_through_the_ioapic", trap_count[TIMER], 3);
	ioapic_write(0x10 + 2 * 2, RTE_MASKED);
	pit_start(0, 0xffff);
}

/* Counter 2, as kernels use it to calibrate. */
static void
speaker(void)
{
	uint64_t start = now_ns();

	outb(0x61, (uint8_t)((inb(0x61) & ~2u) | 1));
	outb(0x43, 0xb0);
	outb(0x42, (uint8_t)(PIT_HZ / 100));
	outb(0x42, (uint8_t)(PIT_HZ / 100 >> 8));
	check("counter_2_starts_low", inb(0x61) & 0x20, 0);
	while (!(inb(0x61) & 0x20))
		;
	check_least("counter_2_takes_its_time", now_ns() - start, 8000000);
}

static void
lapic(void)
{
	uint64_t start;

	lapic_write(LAPIC_DIVIDE, 0xb);
	trap_count_on(TIMER, lapic_eoi);
	lapic_write(LAPIC_TIMER, TIMER);
	lapic_write(LAPIC_INITIAL, 10000000);
	trap_wait(TIMER, 1);
	check("one_shot_ends_at_0", lapic_read(LAPIC_CURRENT), 0);
	other();
	check("one_shot", trap_count[TIMER], 1);

	lapic_write(LAPIC_TIMER, TIMER | LVT_MASKED);
	lapic_write(LAPIC_INITIAL, 1000000);
	while (lapic_read(LAPIC_CURRENT) != 0)
		;
	other();
	check("masked_timer_counts_silently", trap_count[TIMER], 1);

	trap_count[TIMER] = 0;
	lapic_write(LAPIC_TIMER, TIMER | 0x20000);
	start = now_ns();
	lapic_write(LAPIC_INITIAL, 5000000);
	trap_wait(TIMER, 5);
	check_least("periodic", now_ns() - start, 15000000);
	check_least(
	    "current_below_initial", 5000000, lapic_read(LAPIC_CURRENT));
	lapic_write(LAPIC_INITIAL, 0);
	other();
	trap_count[TIMER] = 0;
	other();
	check("initial_count_0_stops", trap_count[TIMER], 0);
}

static void
deadline(void)
{
	uint32_t a, b, c, d;
	uint64_t start, until;

	CPUID(1, a, b, c, d);
	if (!(c & 1u << 24)) {
		guest_print("skip tsc_deadline: not in CPUID\n");
		return;
	}
	trap_count[TIMER] = 0;
	lapic_write(LAPIC_TIMER, TIMER | 0x40000);
	start = rdtsc();
	until = start + 10000000;
	wrmsr(0x6e0, until);
	trap_wait(TIMER, 1);
	check_least("deadline_is_not_early", rdtsc(), until);
	check("deadline_reads_0_after", rdmsr(0x6e0), 0);
	other();
	check("deadline", trap_count[TIMER], 1);
	wrmsr(0x6e0, 1);
	trap_wait(TIMER, 2);
	check("deadline_of_the_past", trap_count[TIMER], 2);
	wrmsr(0x6e0, rdtsc() + 1000000000000);
	check_least("deadline_reads_back", rdmsr(0x6e0), until);
	wrmsr(0x6e0, 0);
	other();
	check("deadline_disarmed", trap_count[TIMER], 2);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	trap_count_on(OTHER, lapic_eoi);
	pit();
	speaker();
	lapic();
	deadline();
}
