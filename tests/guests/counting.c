/*
 * Puts out a stream that depends on all that went before: on general, x87 and
 * SSE registers that run on at CPL3, on tokens read from the test, on two
 * timers that interrupt all the while, on an MSR and an IOAPIC entry that the
 * handler of one looks at.  The second processor puts out another, and sleeps
 * between the values until its timer wakes it.  They never end.
 */
#include "tests/guests/testing.h"

#define TIMER  0x70
#define SECOND 0x71
#define PIT_HZ 1193182u
#define MSR    0xc0000102u /* swapgs's, which nobody here uses */
#define KEPT   0x123456789aull
#define ENTRY  (0x55u | RTE_LEVEL | RTE_MASKED) /* of pin 9 */

static volatile uint64_t damage;

static void
on_timer(struct trap_frame *f)
{
	damage |= rdmsr(MSR) ^ KEPT;
	damage |= ioapic_low(9) ^ ENTRY;
	trap_count[f->vector]++;
	lapic_eoi(0);
}

/* Is pi where count() put it? */
static bool
x87_is_damaged(void)
{
	bool differs;

	__asm__ volatile("fldpi\n\t"
			 "fucomip %%st(1), %%st\n\t"
			 "setne %0"
			 : "=q"(differs)::"cc");
	return differs;
}

/* The compiler knows nothing of SSE and x87 here, so nothing else touches xmm6
 * and st(0). */
static uint64_t __attribute__((noreturn)) count(uint64_t x)
{
	uint64_t y = 0, ticks = 0, pits = 0;

	__asm__ volatile("fninit; fldpi");
	__asm__ volatile("movq %0, %%xmm6" ::"r"(y));
	for (;;) {
		for (unsigned i = 0; i < STREAM_ROUNDS; i++) {
			STREAM_STEP(x);
			__asm__ volatile("movq %0, %%xmm7\n\t"
					 "paddq %%xmm7, %%xmm6" ::"r"(x));
		}
		x ^= inl(TEST_TOKEN);
		x ^= damage | x87_is_damaged();
		__asm__ volatile("movq %%xmm6, %0" : "=r"(y));
		outl(TEST_STREAM_LO, (uint32_t)(x ^ y));
		outl(TEST_STREAM_HI, (uint32_t)((x ^ y) >> 32));
		/* The timers must go on too. */
		while (trap_count[TIMER] == ticks ||
		    trap_count[PIC_VECTOR] == pits)
			__asm__ volatile("pause");
		ticks = trap_count[TIMER];
		pits = trap_count[PIC_VECTOR];
	}
}

static void
second(void)
{
	uint64_t x = 2;

	traps_load();
	lapic_init();
	lapic_write(LAPIC_DIVIDE, 0xb);
	lapic_write(LAPIC_TIMER, SECOND | 0x20000);
	lapic_write(LAPIC_INITIAL, 2000000);
	for (;;) {
		for (unsigned i = 0; i < SECOND_ROUNDS; i++)
			STREAM_STEP(x);
		outl(TEST_SECOND_LO, (uint32_t)x);
		outl(TEST_SECOND_HI, (uint32_t)(x >> 32));
		trap_wait(SECOND, trap_count[SECOND] + 1);
	}
}

void
guest_main(const void *start_info)
{
	uint64_t cr0, cr4;

	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	__asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("movq %0, %%cr0" ::"r"((cr0 & ~4ull) | 2));
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("movq %0, %%cr4" ::"r"(cr4 | 0x600));
	trap_set(TIMER, on_timer);
	trap_count_on(SECOND, lapic_eoi);
	ap_start(second);
	lapic_write(LAPIC_DIVIDE, 0xb);
	lapic_write(LAPIC_TIMER, TIMER | 0x20000);
	lapic_write(LAPIC_INITIAL, 1000000);
	wrmsr(MSR, KEPT);
	ioapic_write(0x10 + 2 * 9, ENTRY);
	trap_count_on(PIC_VECTOR, pic_eoi);
	lapic_write(LAPIC_LINT0, 0x700);
	pic_mask(0xfffe);
	outb(0x43, 0x34);
	outb(0x40, (uint8_t)(PIT_HZ / 500));
	outb(0x40, (uint8_t)(PIT_HZ / 500 >> 8));
	user_call(count, 1, RFLAGS_ON);
}
