/* Rings, faults and paging: user code whose faults come to ring 0. */
#include "tests/guests/check.h"

#define LOST 0x180000000u /* 6 GiB: not mapped */

static uint8_t user_stack[8192] __attribute__((aligned(16)));
static volatile uint64_t seen_vector, seen_error, seen_cr2, seen_cs;
static volatile uint64_t user_sum;

static void
on_fault(struct trap_frame *f)
{
	uint64_t cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	seen_vector = f->vector;
	seen_error = f->error;
	seen_cr2 = cr2;
	seen_cs = f->cs;
	check_ring3_leave();
}

static void
user(void (*code)(void))
{
	seen_vector = 0x100;
	check_ring3_enter(
	    (uintptr_t)code, (uintptr_t)user_stack + sizeof(user_stack) - 8);
	CHECK(seen_cs == 0x2b);
}

static void
user_int3(void)
{
	for (unsigned n = 0; n < 1000; n++)
		user_sum += n;
	__asm__ volatile("int3");
}

static void
user_ud2(void)
{
	__asm__ volatile("ud2");
}

static void
user_read_lost(void)
{
	(void)*(volatile uint8_t *)(uintptr_t)(LOST + 0x123);
}

static void
user_write_lost(void)
{
	*(volatile uint8_t *)(uintptr_t)(LOST + 0x456) = 1;
}

static void
user_cli(void)
{
	__asm__ volatile("cli");
}

static void
user_divide(void)
{
	__asm__ volatile("divb %b1" : : "a"(1), "c"(0));
}

static void
user_port(void)
{
	outb(PORT_SCRATCH, 0x5a);
	CHECK(inb(PORT_SCRATCH) == 0x5a);
	*(volatile uint32_t *)(uintptr_t)MMIO_BASE = 0x12345678;
	CHECK(*(volatile uint32_t *)(uintptr_t)MMIO_BASE == 0x12345678);
	__asm__ volatile("int3");
}

void
guest_main(const void *start_info)
{
	static const struct {
		void (*code)(void);
		uint64_t vector, error, cr2;
		uint32_t line;
	} cases[] = {
		{ user_int3, 3, 0, 0, __LINE__ },
		{ user_ud2, 6, 0, 0, __LINE__ },
		{ user_read_lost, 14, 4, LOST + 0x123, __LINE__ },
		{ user_write_lost, 14, 6, LOST + 0x456, __LINE__ },
		{ user_cli, 13, 0, 0, __LINE__ },
		{ user_divide, 0, 0, 0, __LINE__ },
		{ user_port, 3, 0, 0, __LINE__ },
	};

	(void)start_info;
	check_init();
	check_handler[0] = check_handler[3] = check_handler[6] = on_fault;
	check_handler[13] = check_handler[14] = on_fault;
	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		user(cases[n].code);
		if (seen_vector != cases[n].vector ||
		    seen_error != cases[n].error ||
		    (cases[n].vector == 14 && seen_cr2 != cases[n].cr2))
			outl(PORT_FAIL, cases[n].line);
	}
	CHECK(user_sum == 499500);
	check_end();
}
