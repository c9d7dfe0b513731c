/* Message-signalled interrupts: sent, and routed from an eventfd. */
#include "tests/guests/testing.h"

#define DIRECT 0x60
#define ROUTED 0x61
#define OTHER  0x62
#define GSI    40

static void
other(void)
{
	uint64_t n = trap_count[OTHER];

	test(TEST_MSI_SEND, MSI_ADDRESS, OTHER, 0);
	trap_wait(OTHER, n + 1);
}

static void
on_nmi(struct trap_frame *f)
{
	trap_count[f->vector]++;
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	trap_count_on(DIRECT, lapic_eoi);
	trap_count_on(ROUTED, lapic_eoi);
	trap_count_on(OTHER, lapic_eoi);
	trap_set(2, on_nmi);
	test(TEST_MSI_SEND, MSI_ADDRESS, DIRECT, 0);
	trap_wait(DIRECT, 1);
	check("message", trap_count[DIRECT], 1);
	test(TEST_MSI_SEND, MSI_ADDRESS, DIRECT, 0);
	test(TEST_MSI_SEND, MSI_ADDRESS, DIRECT, 0);
	trap_wait(DIRECT, 2);
	other();
	check("messages_merge_while_pending", trap_count[DIRECT], 2);
	test(TEST_MSI_SEND, MSI_ADDRESS | 7u << 12, DIRECT, 0);
	other();
	check("message_to_nobody", trap_count[DIRECT], 2);

	check("route", test(TEST_MSI_ROUTE, GSI, MSI_ADDRESS, ROUTED), 0);
	check("bind", test(TEST_IRQFD_BIND, GSI, 0, 0), 0);
	test(TEST_IRQFD_SIGNAL, GSI, 0, 0);
	trap_wait(ROUTED, 1);
	check("routed_message", trap_count[ROUTED], 1);
	test(TEST_IRQFD_SIGNAL, GSI, 0, 0);
	trap_wait(ROUTED, 2);
	check("routed_message_again", trap_count[ROUTED], 2);
	check("route_again", test(TEST_MSI_ROUTE, GSI, MSI_ADDRESS, DIRECT), 0);
	test(TEST_IRQFD_SIGNAL, GSI, 0, 0);
	trap_wait(DIRECT, 3);
	check("route_moved", trap_count[ROUTED], 2);
	check("unbind", test(TEST_IRQFD_UNBIND, GSI, 0, 0), 0);

	/* Delivery mode NMI: it comes whatever IF is. */
	test(TEST_MSI_SEND_LATER, MSI_ADDRESS, 0x400, 10);
	while (trap_count[2] == 0)
		__asm__ volatile("cli; hlt" ::: "memory");
	check("message_as_nmi", trap_count[2], 1);
}
