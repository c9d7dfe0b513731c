/*
 * Puts out a stream that depends on all that went before: on general and SSE
 * registers that run on at CPL3, on tokens read from the test, on a timer that
 * interrupts all the while.  The second processor puts out another, and sleeps
 * between the values until its timer wakes it.  They never end.
 */
#include "tests/guests/testing.h"

#define TIMER  0x70
#define SECOND 0x71

/* The compiler knows nothing of SSE here, so nothing else touches xmm6. */
static uint64_t __attribute__((noreturn)) count(uint64_t x)
{
	uint64_t y = 0, ticks = 0;

	__asm__ volatile("movq %0, %%xmm6" ::"r"(y));
	for (;;) {
		for (unsigned i = 0; i < STREAM_ROUNDS; i++) {
			STREAM_STEP(x);
			__asm__ volatile("movq %0, %%xmm7\n\t"
					 "paddq %%xmm7, %%xmm6" ::"r"(x));
		}
		x ^= inl(TEST_TOKEN);
		__asm__ volatile("movq %%xmm6, %0" : "=r"(y));
		outl(TEST_STREAM_LO, (uint32_t)(x ^ y));
		outl(TEST_STREAM_HI, (uint32_t)((x ^ y) >> 32));
		/* The timer must go on too. */
		while (trap_count[TIMER] == ticks)
			__asm__ volatile("pause");
		ticks = trap_count[TIMER];
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
	trap_count_on(TIMER, lapic_eoi);
	trap_count_on(SECOND, lapic_eoi);
	ap_start(second);
	lapic_write(LAPIC_DIVIDE, 0xb);
	lapic_write(LAPIC_TIMER, TIMER | 0x20000);
	lapic_write(LAPIC_INITIAL, 1000000);
	user_call(count, 1, RFLAGS_ON);
}
