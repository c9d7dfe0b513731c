/* Doorbells; the harness counts what rang (see bells in backends_test.c). */
#include "tests/guests/check.h"

void
guest_main(const void *start_info)
{
	volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)BELL_BASE;

	(void)start_info;
	check_init();
	/* At 0: any length. */
	p[0] = 1;
	*(volatile uint16_t *)p = 1;
	*(volatile uint32_t *)p = 1;
	/* At 8: 4 bytes only; another length is an access. */
	*(volatile uint32_t *)(p + 8) = 5;
	*(volatile uint16_t *)(p + 8) = 5;
	/* At 16: 2 bytes, equal to 3; another value is an access. */
	*(volatile uint16_t *)(p + 16) = 3;
	*(volatile uint16_t *)(p + 16) = 4;
	*(volatile uint16_t *)(p + 16) = 3;
	/* A read is never a doorbell. */
	CHECK(*(volatile uint32_t *)(p + 8) == UINT32_MAX);
	outw(0x160, 7);
	outw(0x160, 7);
	check_act(1); /* takes the bell at 8 away, counts */
	*(volatile uint32_t *)(p + 8) = 5;
	check_act(2); /* counts again */
	check_end();
}
