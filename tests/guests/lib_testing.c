/* What the guest programs that test a backend share. */
#include "tests/guests/testing.h"

#define PROBE 0xef /* vector of lapic_keeps_in_service() */

extern const uint8_t trap_entries[256][32];
extern uint64_t guest_gdt[8];

struct idt_gate {
	uint16_t low, selector;
	uint8_t ist, type;
	uint16_t middle;
	uint32_t high, reserved;
};

volatile uint64_t trap_count[256];
volatile struct fault fault;
volatile uint64_t fault_resume, early_wakes;
struct tss guest_tss;

static bool in_service;
static struct idt_gate idt[256] __attribute__((aligned(16)));
static trap_handler *handlers[256];
static void (*eois[256])(uint8_t vector);

void guest_trap(struct trap_frame *f);

void
check(const char *name, uint64_t got, uint64_t want)
{
	if (got == want)
		guest_print("pass %s\n", name);
	else
		guest_print(
		    "fail %s: got 0x%lx, want 0x%lx\n", name, got, want);
}

void
check_least(const char *name, uint64_t got, uint64_t least)
{
	if (got >= least)
		guest_print("pass %s\n", name);
	else
		guest_print(
		    "fail %s: got %lu, want at least %lu\n", name, got, least);
}

uint64_t
test(enum test_command what, uint64_t a0, uint64_t a1, uint64_t a2)
{
	const uint64_t arg[3] = { a0, a1, a2 };

	for (unsigned i = 0; i < 3; i++) {
		outl(TEST_ARG(i), (uint32_t)arg[i]);
		outl(TEST_ARG(i) + 4, (uint32_t)(arg[i] >> 32));
	}
	outl(TEST_COMMAND, what);
	return inl(TEST_RESULT) | (uint64_t)inl(TEST_RESULT + 4) << 32;
}

/* ---- traps ---- */

void
guest_trap(struct trap_frame *f)
{
	uint8_t v = (uint8_t)f->vector;
	uint64_t cr2;

	/* STI holds interrupts off for one instruction, the HLT; a KVM that
	 * emulates kernel mode may let one in before it, and the HLT would
	 * then sleep for ever. */
	if (f->rip == (uintptr_t)interrupt_wait_hlt) {
		f->rip = (uintptr_t)interrupt_wait_end;
		early_wakes++;
	}
	if (handlers[v]) {
		handlers[v](f);
		return;
	}
	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	guest_print("fail trap: vector %lu error 0x%lx rip 0x%lx cs 0x%lx "
		    "cr2 0x%lx\n",
	    f->vector, f->error, f->rip, f->cs, cr2);
	guest_end();
}

static void
on_counted(struct trap_frame *f)
{
	uint8_t v = (uint8_t)f->vector;

	trap_count[v]++;
	if (eois[v])
		eois[v](v);
}

static void
on_int3(struct trap_frame *f)
{
	user_leave(f->rdi);
}

void
trap_set(uint8_t vector, trap_handler *handler)
{
	handlers[vector] = handler;
}

void
trap_count_on(uint8_t vector, void (*eoi)(uint8_t vector))
{
	eois[vector] = eoi;
	trap_count[vector] = 0;
	handlers[vector] = on_counted;
}

void
trap_wait(uint8_t vector, uint64_t n)
{
	while (trap_count[vector] < n)
		interrupt_wait();
}

void
traps_load(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = { sizeof(idt) - 1, (uintptr_t)idt };

	__asm__ volatile("lidt %0" ::"m"(idtr));
}

void
traps_init(void)
{
	uint64_t tss = (uintptr_t)&guest_tss;
	uint64_t limit = sizeof(guest_tss) - 1;

	for (unsigned v = 0; v < 256; v++) {
		uint64_t to = (uintptr_t)trap_entries[v];

		idt[v].low = (uint16_t)to;
		idt[v].middle = (uint16_t)(to >> 16);
		idt[v].high = (uint32_t)(to >> 32);
		idt[v].selector = 0x10;
		idt[v].type = v == 3 ? 0xee : 0x8e;
	}
	trap_set(3, on_int3);
	traps_load();
	guest_tss.bitmap_at = offsetof(struct tss, bitmap);
	guest_tss.bitmap[8192] = 0xff;
	guest_gdt[6] = (limit & 0xffff) | (tss & 0xffffff) << 16 |
	    0x89ull << 40 | (limit >> 16) << 48 | (tss >> 24 & 0xff) << 56;
	guest_gdt[7] = tss >> 32;
	__asm__ volatile("ltr %w0" ::"r"(0x30) : "memory");
}

static void
on_fault(struct trap_frame *f)
{
	uint64_t cr2;

	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	fault.count++;
	fault.vector = f->vector;
	fault.error = f->error;
	fault.cr2 = cr2;
	fault.rip = f->rip;
	fault.cs = f->cs;
	if (f->cs & 3)
		user_leave(USER_FAULT);
	f->rip = fault_resume;
}

void
faults_record(void)
{
	for (unsigned v = 0; v < 32; v++)
		if (v != 2 && v != 3)
			trap_set((uint8_t)v, on_fault);
}

void
fault_clear(void)
{
	fault.count = fault.vector = fault.error = fault.cr2 = fault.rip = 0;
}

/* ---- interrupt controllers ---- */

void
pic_mask(uint16_t mask)
{
	outb(0x21, (uint8_t)mask);
	outb(0xa1, (uint8_t)(mask >> 8));
}

void
pic_init(void)
{
	outb(0x20, 0x11);
	outb(0x21, PIC_VECTOR);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, PIC_VECTOR + 8);
	outb(0xa1, 2);
	outb(0xa1, 1);
	pic_mask(0xffff);
}

void
pic_eoi(uint8_t vector)
{
	if (vector >= PIC_VECTOR + 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

static volatile uint32_t *
reg_at(uint64_t addr)
{
	return (volatile uint32_t *)(uintptr_t)addr;
}

uint32_t
lapic_read(unsigned reg)
{
	return *reg_at(0xfee00000ull + reg);
}

void
lapic_write(unsigned reg, uint32_t v)
{
	*reg_at(0xfee00000ull + reg) = v;
}

void
lapic_init(void)
{
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_LINT0, LVT_MASKED);
	lapic_write(LAPIC_TPR, 0);
}

void
lapic_eoi(uint8_t vector)
{
	(void)vector;
	lapic_write(LAPIC_EOI, 0);
}

static void
on_probe(struct trap_frame *f)
{
	uint8_t v = (uint8_t)f->vector;

	in_service = lapic_read(LAPIC_ISR + v / 32 * 0x10) >> v % 32 & 1;
	trap_count[v]++;
	lapic_write(LAPIC_EOI, 0);
}

bool
lapic_keeps_in_service(void)
{
	trap_set(PROBE, on_probe);
	trap_count[PROBE] = 0;
	lapic_ipi(0, 0x40000 | PROBE); /* to self */
	trap_wait(PROBE, 1);
	if (!in_service)
		guest_print("skip in_service: here an interrupt ends as it is "
			    "delivered\n");
	return in_service;
}

void
lapic_ipi(uint32_t to, uint32_t what)
{
	lapic_write(LAPIC_ICR_TO, to << 24);
	lapic_write(LAPIC_ICR, what);
	while (lapic_read(LAPIC_ICR) & 0x1000)
		;
}

uint32_t
ioapic_read(unsigned reg)
{
	*reg_at(0xfec00000ull) = reg;
	return *reg_at(0xfec00010ull);
}

void
ioapic_write(unsigned reg, uint32_t v)
{
	*reg_at(0xfec00000ull) = reg;
	*reg_at(0xfec00010ull) = v;
}

void
ioapic_route(unsigned pin, uint32_t low)
{
	ioapic_write(0x10 + 2 * pin, RTE_MASKED);
	ioapic_write(0x11 + 2 * pin, 0);
	ioapic_write(0x10 + 2 * pin, low);
}

uint32_t
ioapic_low(unsigned pin)
{
	return ioapic_read(0x10 + 2 * pin);
}

void
ap_start(void (*f)(void))
{
	uint8_t *to = (uint8_t *)(uintptr_t)AP_START;

	for (size_t i = 0; ap_trampoline + i < ap_trampoline_end; i++)
		to[i] = ap_trampoline[i];
	ap_main = f;
	lapic_ipi(1, 0x4500);
	lapic_ipi(1, 0x4600 | AP_START >> 12);
}
