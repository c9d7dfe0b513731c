/* Traps and interrupt controllers for the guest programs that check. */
#include "tests/guests/check.h"

#define IO_MAP_BYTES 8192

volatile uint32_t check_count[256];
trap_fn *check_handler[256];

extern const uint8_t check_stubs[];
extern uint64_t guest_gdt[];
extern uint8_t stack_top[];
void check_trap(struct trap_frame *f);

static struct {
	uint16_t low, selector;
	uint8_t ist, attr;
	uint16_t middle;
	uint32_t high, reserved;
} __attribute__((packed)) idt[256];

static struct {
	uint32_t reserved;
	uint64_t rsp[3], ist[8];
	uint64_t reserved2;
	uint16_t reserved3, io_map;
	uint8_t map[IO_MAP_BYTES + 1];
} __attribute__((packed)) tss;

static uint8_t trap_stack[16384] __attribute__((aligned(16)));

void
check_end(void)
{
	outl(PORT_END, 0);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void
check_trap(struct trap_frame *f)
{
	__atomic_fetch_add(&check_count[f->vector], 1, __ATOMIC_SEQ_CST);
	if (check_handler[f->vector]) {
		check_handler[f->vector](f);
	} else if (f->vector < 32) {
		outl(PORT_FAIL, 0x10000 + (uint32_t)f->vector);
		outl(PORT_FAIL, (uint32_t)f->rip);
		check_end();
	}
}

void
check_idt_load(void)
{
	const struct {
		uint16_t limit;
		const void *base;
	} __attribute__((packed)) pointer = { sizeof(idt) - 1, idt };

	__asm__ volatile("lidt %0" ::"m"(pointer));
}

void
check_init(void)
{
	uint64_t base = (uintptr_t)&tss;

	for (unsigned v = 0; v < 256; v++) {
		uint64_t at = (uintptr_t)check_stubs;

		/* Stubs are 16 bytes apart: at most 2 + 5 + 5 bytes long. */
		at += v * 16;
		idt[v].low = (uint16_t)at;
		idt[v].middle = (uint16_t)(at >> 16);
		idt[v].high = (uint32_t)(at >> 32);
		idt[v].selector = 0x10;
		idt[v].attr = v == 3 || v == 4 ? 0xee : 0x8e;
	}
	check_idt_load();
	tss.rsp[0] = (uintptr_t)trap_stack + sizeof(trap_stack);
	tss.io_map = offsetof(__typeof__(tss), map);
	tss.map[IO_MAP_BYTES] = 0xff;
	guest_gdt[6] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 |
	    0x89ull << 40 | (base >> 24 & 0xff) << 56;
	guest_gdt[7] = base >> 32;
	__asm__ volatile("ltr %w0" ::"r"(0x30));
}

void
check_wait_for(unsigned vector, uint32_t n)
{
	__asm__ volatile("cli");
	while (check_count[vector] < n)
		__asm__ volatile("sti; hlt; cli" ::: "memory");
}

void
check_pic_init(uint16_t mask)
{
	outb(0x20, 0x11);
	outb(0x21, 0x20);
	outb(0x21, 0x04);
	outb(0x21, 0x01);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 0x02);
	outb(0xa1, 0x01);
	outb(0x21, (uint8_t)mask);
	outb(0xa1, (uint8_t)(mask >> 8));
}

void
check_pic_eoi(unsigned irq)
{
	if (irq >= 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

void
check_lapic_init(void)
{
	*reg32(LAPIC + 0xf0) = 0x1ff;
	*reg32(LAPIC + 0x80) = 0;
	*reg32(LAPIC + 0x350) = 0x700;
}

void
check_lapic_eoi(void)
{
	*reg32(LAPIC + 0xb0) = 0;
}

void
check_ioapic_route(unsigned pin, uint32_t low, uint32_t apic)
{
	*reg32(IOAPIC) = 0x11 + 2 * pin;
	*reg32(IOAPIC + 0x10) = apic << 24;
	*reg32(IOAPIC) = 0x10 + 2 * pin;
	*reg32(IOAPIC + 0x10) = low;
}
