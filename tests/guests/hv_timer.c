/* Timers: PIT by PIC and by IOAPIC, LAPIC one-shot, periodic, deadline. */
#include "tests/guests/check.h"

#define VECTOR 0x81

static void
on_pic(struct trap_frame *f)
{
	check_pic_eoi((unsigned)f->vector - 0x20);
}

static void
on_apic(struct trap_frame *f)
{
	(void)f;
	check_lapic_eoi();
}

static void
pit_program(unsigned mode, unsigned count)
{
	outb(0x43, (uint8_t)(0x30 | mode << 1));
	outb(0x40, (uint8_t)count);
	outb(0x40, (uint8_t)(count >> 8));
}

/* How many TSC ticks 20 ms are, by counter 2 of the PIT. */
static uint64_t
calibrate(void)
{
	uint64_t start;

	outb(0x61, (uint8_t)((inb(0x61) & ~2u) | 1));
	outb(0x43, 0xb0);
	outb(0x42, 23864 & 0xff);
	outb(0x42, 23864 >> 8);
	start = rdtsc();
	while (!(inb(0x61) & 0x20))
		;
	return rdtsc() - start;
}

static void
pit(void)
{
	uint32_t start;

	calibrate();
	check_handler[0x20] = on_pic;
	check_pic_init(0xfffe);
	start = inl(PORT_TIME);
	pit_program(2, 11932); /* every 10 ms */
	check_wait_for(0x20, 1);
	check_wait_for(0x20, 4);
	/* 40 ms or later, never earlier; the clocks agree to a percent. */
	CHECK(inl(PORT_TIME) - start > 39600);
	pit_program(0, 1193);
	check_wait_for(0x20, check_count[0x20] + 1);
	check_pic_init(0xffff);
	check_handler[0x44] = on_apic;
	check_ioapic_route(2, 0x44, 0);
	pit_program(0, 1193);
	check_wait_for(0x44, 1);
	CHECK(check_count[0x44] >= 1);
	check_ioapic_route(2, 0x10000, 0);
}

static void
lapic(void)
{
	uint64_t ticks = calibrate(), start;
	uint32_t count;

	check_handler[VECTOR] = on_apic;
	*reg32(LAPIC + 0x3e0) = 0xb; /* by 1 */
	*reg32(LAPIC + 0x320) = VECTOR;
	*reg32(LAPIC + 0x380) = 2000000;
	CHECK(*reg32(LAPIC + 0x390) <= 2000000);
	check_wait_for(VECTOR, 1);
	CHECK(*reg32(LAPIC + 0x390) == 0);
	*reg32(LAPIC + 0x320) = VECTOR | 0x20000;
	*reg32(LAPIC + 0x380) = 3000000;
	check_wait_for(VECTOR, 6);
	*reg32(LAPIC + 0x380) = 0;
	count = check_count[VECTOR];
	/* Deadlines, one to come and one gone by. */
	*reg32(LAPIC + 0x320) = VECTOR | 0x40000;
	start = rdtsc();
	wrmsr(0x6e0, start + ticks / 4);
	check_wait_for(VECTOR, count + 1);
	CHECK(rdtsc() >= start + ticks / 4);
	CHECK(rdmsr(0x6e0) == 0);
	wrmsr(0x6e0, start);
	check_wait_for(VECTOR, count + 2);
	/* Cancelled. */
	wrmsr(0x6e0, rdtsc() + ticks);
	wrmsr(0x6e0, 0);
	calibrate();
	CHECK(check_count[VECTOR] == count + 2);
	*reg32(LAPIC + 0x320) = 0x10000;
}

static void
x2apic(void)
{
	uint32_t count = check_count[0x91];

	check_handler[0x91] = on_apic;
	/* Self-IPI by the shorthand. */
	*reg32(LAPIC + 0x300) = 0x44091;
	check_wait_for(0x91, count + 1);
	check_handler[0x91] = NULL;
	wrmsr(0x1b, rdmsr(0x1b) | 0x400);
	CHECK(rdmsr(0x802) == 0);
	wrmsr(0x83f, 0x91);
	check_wait_for(0x91, count + 2);
	wrmsr(0x80b, 0);
	wrmsr(0x830, 0x44091);
	check_wait_for(0x91, count + 3);
	wrmsr(0x80b, 0);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	check_init();
	check_lapic_init();
	pit();
	lapic();
	x2apic();
	check_end();
}
