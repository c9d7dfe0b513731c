/* HLT, and what wakes it. */
#include "tests/guests/testing.h"

#define WAKE 0x50

static uint64_t woken_at;

static void
on_wake(struct trap_frame *f)
{
	trap_count[f->vector]++;
	woken_at = f->rip;
	lapic_eoi(0);
}

static void
on_nmi(struct trap_frame *f)
{
	trap_count[f->vector]++;
	woken_at = f->rip;
}

void
guest_main(const void *start_info)
{
	const uint64_t after = (uintptr_t)interrupt_wait_end;
	uint64_t start;
	bool exact;

	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	exact = lapic_keeps_in_service();
	trap_set(WAKE, on_wake);
	trap_set(2, on_nmi);
	ioapic_route(20, WAKE);

	start = test(TEST_TIME_NS, 0, 0, 0);
	test(TEST_IRQ_PULSE_LATER, 20, 20, 0);
	interrupt_wait();
	check("interrupt_wakes", trap_count[WAKE], 1);
	check("returns_after_hlt", woken_at, after);
	check_least(
	    "sleeps_until_then", test(TEST_TIME_NS, 0, 0, 0) - start, 20000000);

	/* One that is pending comes after HLT, not between STI and HLT. */
	test(TEST_IRQ_PULSE, 20, 0, 0);
	interrupt_wait();
	check("pending_wakes", trap_count[WAKE], 2);

	test(TEST_MSI_SEND_LATER, MSI_ADDRESS, WAKE, 5);
	interrupt_wait();
	check("message_wakes", trap_count[WAKE], 3);

	test(TEST_MSI_SEND_LATER, MSI_ADDRESS, 0x400, 10);
	__asm__ volatile("cli; hlt" ::: "memory");
	check("nmi_wakes_with_interrupts_off", trap_count[2], 1);

	for (unsigned i = 0; i < 200; i++) {
		test(TEST_IRQ_PULSE, 20, 0, 0);
		interrupt_wait();
	}
	check("none_lost_in_200", trap_count[WAKE], 203);
	if (exact)
		check("sti_holds_for_one_instruction", early_wakes, 0);
}
