/*
 * A guest that looks at everything that tells the time: under --icount two
 * runs of it must be the same.  Three timers interrupt it while it computes and
 * while it sleeps, and it prints what it sees.
 */
#include "tests/guests/testing.h"

#define ROUNDS	    60u
#define TIMER	    0x70
#define RTC_VECTOR  (PIC_VECTOR + 8)
#define PIT_RELOAD  11931u /* 100 Hz */
#define RTC_64_HZ   0x2au
#define RTC_SECONDS 0
#define RTC_A	    0x0a
#define RTC_B	    0x0b
#define RTC_C	    0x0c
#define RTC_B_24H   0x42u /* periodic interrupt, 24 hours */

static uint8_t
rtc_read(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static void
rtc_write(uint8_t reg, uint8_t v)
{
	outb(0x70, reg);
	outb(0x71, v);
}

static void
rtc_eoi(uint8_t vector)
{
	(void)rtc_read(RTC_C);
	outb(0xa0, 0x20);
	pic_eoi(vector);
}

static void
timers_start(void)
{
	traps_init();
	pic_init();
	lapic_init();
	lapic_write(LAPIC_LINT0, 0x700);
	trap_count_on(PIC_VECTOR, pic_eoi);
	trap_count_on(RTC_VECTOR, rtc_eoi);
	trap_count_on(TIMER, lapic_eoi);
	outb(0x43, 0x34);
	outb(0x40, PIT_RELOAD & 0xff);
	outb(0x40, PIT_RELOAD >> 8);
	rtc_write(RTC_A, RTC_64_HZ);
	rtc_write(RTC_B, RTC_B_24H);
	(void)rtc_read(RTC_C);
	lapic_write(LAPIC_DIVIDE, 0xb);
	lapic_write(LAPIC_TIMER, 0x20000 | TIMER);
	lapic_write(LAPIC_INITIAL, 7000000);
	pic_mask((uint16_t)~0x105u);
}

/* Some time of the processor's, in which interrupts may come. */
static uint64_t
compute(uint64_t x)
{
	uint64_t n = 20000 + x % 30000;

	__asm__ volatile("sti" ::: "memory");
	for (uint64_t i = 0; i < n; i++)
		x = x & 1 ? x * 6364136223846793005u + 1442695040888963407u
			  : x >> 1 ^ i;
	__asm__ volatile("cli" ::: "memory");
	return x;
}

void
guest_main(const void *start_info)
{
	uint64_t x = 1;

	(void)start_info;
	timers_start();
	for (unsigned n = 0; n < ROUNDS; n++) {
		x = compute(x ^ rdtsc());
		interrupt_wait();
		guest_print("%u: tsc %lx pm %x rtc %x pit %lu rtc %lu "
			    "lapic %lu x %lx\n",
		    n, rdtsc(), inl(PM_TIMER), rtc_read(RTC_SECONDS),
		    trap_count[PIC_VECTOR], trap_count[RTC_VECTOR],
		    trap_count[TIMER], x);
	}
}
