/* Interrupts: lines by PIC and IOAPIC, messages, irqfds, resampling, NMI. */
#include "tests/guests/check.h"

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

/* A level that the device holds until the third time round.  Some KVMs deliver
 * one more than was raised: harmless, and so not counted as wrong. */
static void
on_level(struct trap_frame *f)
{
	if (check_count[f->vector] == 3)
		check_act(6);
	check_lapic_eoi();
}

static void
on_nmi(struct trap_frame *f)
{
	(void)f;
}

static void
by_pic(void)
{
	check_pic_init(0xffff & ~(1u << 5 | 1u << 2 | 1u << 11));
	check_handler[0x25] = check_handler[0x2b] = on_pic;
	check_act(1); /* GSI 5 up and down */
	check_wait_for(0x25, 1);
	check_act(2); /* GSI 11 */
	check_wait_for(0x2b, 1);
	CHECK(check_count[0x25] == 1);
	/* Masked: kept until it is unmasked. */
	outb(0x21, 0xff);
	check_act(1);
	CHECK(check_count[0x25] == 1);
	outb(0x21, (uint8_t) ~(1u << 5 | 1u << 2));
	check_wait_for(0x25, 2);
	check_pic_init(0xffff);
}

static void
by_ioapic(void)
{
	check_handler[0x41] = on_apic;
	check_handler[0x52] = on_level;
	check_ioapic_route(5, 0x41, 0);
	check_act(1);
	check_wait_for(0x41, 1);
	check_act(1);
	check_wait_for(0x41, 2);
	check_ioapic_route(5, 0x10000, 0);
	check_act(1);
	CHECK(check_count[0x41] == 2);
	/* Level: comes again after each EOI while the line is up. */
	check_ioapic_route(20, 0x8052, 0);
	check_act(5);
	check_wait_for(0x52, 3);
	check_ioapic_route(20, 0x10000, 0);
}

static void
by_message(void)
{
	check_handler[0x61] = check_handler[0x62] = on_apic;
	check_handler[2] = on_nmi;
	check_act(3); /* sent: vector 0x61 */
	check_wait_for(0x61, 1);
	check_act(4); /* by irqfd through the route of GSI 40: vector 0x62 */
	check_wait_for(0x62, 1);
	check_act(4);
	check_wait_for(0x62, 2);
	check_act(9); /* as an NMI */
	while (check_count[2] < 1)
		__asm__ volatile("hlt");
	CHECK(check_count[2] == 1);
}

static void
by_irqfd(void)
{
	check_handler[0x71] = on_apic;
	check_handler[0x72] = on_level;
	check_ioapic_route(6, 0x71, 0);
	check_act(7);
	check_wait_for(0x71, 1);
	check_act(7);
	check_wait_for(0x71, 2);
	/* With resampling: the harness writes the irqfd again on each EOI it
	 * hears of, until check_act(6). */
	check_ioapic_route(10, 0x8072, 0);
	check_act(8);
	check_wait_for(0x72, 3);
}

static void
task_priority(void)
{
	uint64_t tpr = 15, back;

	check_handler[0x61] = on_apic;
	__asm__ volatile("cli; mov %0, %%cr8" ::"r"(tpr));
	check_act(3);
	__asm__ volatile("sti; nop; nop; cli");
	CHECK(check_count[0x61] == 1);
	__asm__ volatile("mov %%cr8, %0" : "=r"(back));
	CHECK(back == 15);
	CHECK(*reg32(LAPIC + 0x80) == 0xf0);
	tpr = 0;
	__asm__ volatile("mov %0, %%cr8" ::"r"(tpr));
	check_wait_for(0x61, 2);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	check_init();
	by_pic();
	check_lapic_init();
	by_ioapic();
	by_message();
	by_irqfd();
	task_priority();
	check_end();
}
