/* A second processor: INIT and SIPI, atomics, interrupts between the two. */
#include "tests/guests/check.h"

#define TRAMPOLINE 0x8000u
#define ROUNDS	   2000u

extern const uint8_t second_start[], second_end[];
extern uint8_t pml4[];
extern uint64_t guest_gdt[];
void second_main(void);

static volatile uint32_t ap_here, ap_done, counter, go;
static uint8_t ap_stack[8192] __attribute__((aligned(16)));

/* What the trampoline needs, at fixed places of its page. */
struct handover {
	uint32_t cr3, pad;
	uint64_t stack, entry;
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) gdt;
};

__asm__("	.section .rodata\n"
	"	.code16\n"
	"	.globl	second_start, second_end\n"
	"second_start:\n"
	"	cli\n"
	"	mov	%cs, %ax\n"
	"	mov	%ax, %ds\n"
	"	lgdtl	0xf18\n"
	"	mov	%cr4, %eax\n"
	"	or	$0x20, %eax\n"
	"	mov	%eax, %cr4\n"
	"	mov	0xf00, %eax\n"
	"	mov	%eax, %cr3\n"
	"	mov	$0xc0000080, %ecx\n"
	"	rdmsr\n"
	"	or	$0x100, %eax\n"
	"	wrmsr\n"
	"	mov	%cr0, %eax\n"
	"	or	$0x80000001, %eax\n"
	"	mov	%eax, %cr0\n"
	"	ljmpl	$0x10, $0x8000 + (1f - second_start)\n"
	"	.code64\n"
	"1:	mov	$0x18, %eax\n"
	"	mov	%eax, %ds\n"
	"	mov	%eax, %es\n"
	"	mov	%eax, %ss\n"
	"	mov	0x8f08, %rsp\n"
	"	mov	0x8f10, %rax\n"
	"	call	*%rax\n"
	"second_end:\n"
	"	.text\n");

static void
on_ipi(struct trap_frame *f)
{
	(void)f;
	check_lapic_eoi();
}

static void
count_up(void)
{
	for (unsigned n = 0; n < ROUNDS; n++)
		__asm__ volatile("lock incl %0" : "+m"(counter)::"memory");
}

void
second_main(void)
{
	check_idt_load();
	check_lapic_init();
	ap_here = 1 + (*reg32(LAPIC + 0x20) >> 24);
	while (!go)
		__asm__ volatile("pause" ::: "memory");
	count_up();
	/* Answer an interrupt with an interrupt. */
	check_wait_for(0xa1, 1);
	*reg32(LAPIC + 0x310) = 0;
	*reg32(LAPIC + 0x300) = 0x40a2;
	check_wait_for(0xa3, 1);
	ap_done = 1;
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void
ap_begin(void)
{
	volatile uint8_t *to = (volatile uint8_t *)(uintptr_t)TRAMPOLINE;
	struct handover *h = (struct handover *)(uintptr_t)(TRAMPOLINE + 0xf00);
	uint64_t cr3;

	for (unsigned n = 0; n < (unsigned)(second_end - second_start); n++)
		to[n] = second_start[n];
	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	h->cr3 = (uint32_t)cr3;
	h->stack = (uintptr_t)ap_stack + sizeof(ap_stack);
	h->entry = (uintptr_t)second_main;
	h->gdt.limit = 8 * 8 - 1;
	h->gdt.base = (uintptr_t)guest_gdt;
	*reg32(LAPIC + 0x310) = 1u << 24;
	*reg32(LAPIC + 0x300) = 0xc500; /* INIT, level, assert */
	*reg32(LAPIC + 0x310) = 1u << 24;
	*reg32(LAPIC + 0x300) = 0x8500; /* and de-assert */
	*reg32(LAPIC + 0x310) = 1u << 24;
	*reg32(LAPIC + 0x300) = 0x4600 | TRAMPOLINE >> 12;
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	check_init();
	check_lapic_init();
	check_handler[0xa1] = check_handler[0xa2] = check_handler[0xa3] =
	    on_ipi;
	ap_begin();
	while (!ap_here)
		__asm__ volatile("pause" ::: "memory");
	CHECK(ap_here == 2); /* its APIC id is 1 */
	go = 1;
	count_up();
	while (counter < 2 * ROUNDS)
		__asm__ volatile("pause" ::: "memory");
	CHECK(counter == 2 * ROUNDS);
	*reg32(LAPIC + 0x310) = 1u << 24;
	*reg32(LAPIC + 0x300) = 0x40a1;
	check_wait_for(0xa2, 1);
	*reg32(LAPIC + 0x300) = 0xc40a3; /* all but self */
	while (!ap_done)
		__asm__ volatile("pause" ::: "memory");
	CHECK(check_count[0xa3] == 1);
	check_end();
}
