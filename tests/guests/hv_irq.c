/* Interrupts: lines by PIC and IOAPIC, messages, irqfds, resampling, NMI. */
#include "tests/guests/check.h"

static volatile uint32_t level_times;

static void
on_pic(struct trap_frame *f)
{
	pic_eoi((unsigned)f->vector - 0x20);
}

static void
on_apic(struct trap_frame *f)
{
	(void)f;
	lapic_eoi();
}

/* A level that the device holds until the third time round. */
static void
on_level(struct trap_frame *f)
{
	(void)f;
	if (++level_times == 3)
		act(6);
	lapic_eoi();
}

static void
on_nmi(struct trap_frame *f)
{
	(void)f;
}

static void
by_pic(void)
{
	pic_init(0xffff & ~(1u << 5 | 1u << 2 | 1u << 11));
	trap_handler[0x25] = trap_handler[0x2b] = on_pic;
	act(1); /* GSI 5 up and down */
	wait_for(0x25, 1);
	act(2); /* GSI 11 */
	wait_for(0x2b, 1);
	CHECK(trap_count[0x25] == 1);
	/* Masked: kept until it is unmasked. */
	outb(0x21, 0xff);
	act(1);
	CHECK(trap_count[0x25] == 1);
	outb(0x21, (uint8_t) ~(1u << 5 | 1u << 2));
	wait_for(0x25, 2);
	pic_init(0xffff);
}

static void
by_ioapic(void)
{
	trap_handler[0x41] = on_apic;
	trap_handler[0x52] = on_level;
	ioapic_route(5, 0x41, 0);
	act(1);
	wait_for(0x41, 1);
	act(1);
	wait_for(0x41, 2);
	ioapic_route(5, 0x10000, 0);
	act(1);
	CHECK(trap_count[0x41] == 2);
	/* Level: comes again after each EOI while the line is up. */
	ioapic_route(20, 0x8052, 0);
	act(5);
	wait_for(0x52, 3);
	CHECK(trap_count[0x52] == 3);
	ioapic_route(20, 0x10000, 0);
}

static void
by_message(void)
{
	trap_handler[0x61] = trap_handler[0x62] = on_apic;
	trap_handler[2] = on_nmi;
	act(3); /* sent: vector 0x61 */
	wait_for(0x61, 1);
	act(4); /* by irqfd through the route of GSI 40: vector 0x62 */
	wait_for(0x62, 1);
	act(4);
	wait_for(0x62, 2);
	act(9); /* as an NMI */
	while (trap_count[2] < 1)
		__asm__ volatile("hlt");
	CHECK(trap_count[2] == 1);
}

static void
by_irqfd(void)
{
	trap_handler[0x71] = on_apic;
	trap_handler[0x72] = on_level;
	ioapic_route(6, 0x71, 0);
	act(7);
	wait_for(0x71, 1);
	act(7);
	wait_for(0x71, 2);
	/* With resampling: the harness writes the irqfd again on each EOI it
	 * hears of, until act(6). */
	level_times = 0;
	ioapic_route(10, 0x8072, 0);
	act(8);
	wait_for(0x72, 3);
	CHECK(level_times == 3);
}

static void
task_priority(void)
{
	uint64_t tpr = 15, back;

	trap_handler[0x61] = on_apic;
	__asm__ volatile("cli; mov %0, %%cr8" ::"r"(tpr));
	act(3);
	__asm__ volatile("sti; nop; nop; cli");
	CHECK(trap_count[0x61] == 1);
	__asm__ volatile("mov %%cr8, %0" : "=r"(back));
	CHECK(back == 15);
	CHECK(*reg32(LAPIC + 0x80) == 0xf0);
	CHECK(*reg32(LAPIC + 0x200 + 0x10 * 3) == 1u << 1); /* IRR */
	tpr = 0;
	__asm__ volatile("mov %0, %%cr8" ::"r"(tpr));
	wait_for(0x61, 2);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	by_pic();
	lapic_init();
	by_ioapic();
	by_message();
	by_irqfd();
	task_priority();
	check_end();
}
