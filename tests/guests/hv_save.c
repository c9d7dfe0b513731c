/*
 * Saved state: the harness moves the machine into a new partition again and
 * again, at moments of its own choice and once in the middle of an access; the
 * program sees nothing of it.  MAIL_BASE counts the moves.
 */
#include "tests/guests/check.h"

#define MOVES 4u

static volatile uint32_t *const moves = (volatile uint32_t *)MAIL_BASE;
static uint8_t user_stack[8192] __attribute__((aligned(16)));
static volatile uint64_t rounds;
static volatile uint32_t bad;

static void
on_tick(struct trap_frame *f)
{
	(void)f;
	check_lapic_eoi();
}

static void
on_pit(struct trap_frame *f)
{
	check_pic_eoi((unsigned)f->vector - 0x20);
}

static void
on_call(struct trap_frame *f)
{
	(void)f;
	check_ring3_leave();
}

/* Every register holds a pattern; none may change while time goes by. */
static void
user_loop(void)
{
	do {
		uint64_t wrong;

		__asm__ volatile(
		    "mov $0x1111111111111111, %%r8\n"
		    "mov $0x2222222222222222, %%r9\n"
		    "mov $0x3333333333333333, %%r10\n"
		    "mov $0x4444444444444444, %%r11\n"
		    "movq %%r8, %%xmm0\n"
		    "movq %%r11, %%xmm15\n"
		    "fninit\n"
		    "fldpi\n"
		    "mov $20000, %%ecx\n"
		    "1: add $1, %%rdx\n"
		    "dec %%ecx\n"
		    "jnz 1b\n"
		    "xor %%eax, %%eax\n"
		    "movq %%xmm0, %%rcx\n"
		    "sub %%r8, %%rcx\n"
		    "or %%rcx, %%rax\n"
		    "movq %%xmm15, %%rcx\n"
		    "sub %%r11, %%rcx\n"
		    "or %%rcx, %%rax\n"
		    "mov $0x3333333333333333, %%rcx\n"
		    "sub %%r10, %%rcx\n"
		    "or %%rcx, %%rax\n"
		    "mov %%r8, %%rcx\n"
		    "add %%rcx, %%rcx\n"
		    "sub %%r9, %%rcx\n"
		    "or %%rcx, %%rax\n"
		    "fldpi\n"
		    "fucomip %%st(1), %%st\n"
		    "setne %%cl\n"
		    "fstp %%st(0)\n"
		    "or %%cl, %%al\n"
		    : "=a"(wrong)
		    :
		    : "rcx", "rdx", "r8", "r9", "r10", "r11", "cc", "memory");
		bad += wrong != 0;
		rounds++;
	} while (*moves < MOVES);
	__asm__ volatile("int3");
}

void
guest_main(const void *start_info)
{
	uint64_t cr4, tsc = rdtsc();
	uint32_t ticks, pits;

	(void)start_info;
	check_init();
	check_lapic_init();
	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	cr4 |= 0x600;
	__asm__ volatile("mov %0, %%cr4" ::"r"(cr4));
	check_handler[0x81] = on_tick;
	check_handler[0x20] = on_pit;
	check_handler[3] = on_call;
	check_pic_init(0xfffe);
	outb(0x43, 0x34);
	outb(0x40, 11932 & 0xff);
	outb(0x40, 11932 >> 8);
	wrmsr(0xc0000102, 0x123456789a);
	*reg32(LAPIC + 0x3e0) = 0xb;
	*reg32(LAPIC + 0x320) = 0x20081;
	*reg32(LAPIC + 0x380) = 5000000;
	check_ioapic_route(9, 0x18055, 0);
	/* One move in the middle of this read. */
	CHECK(inl(PORT_FIFO + 1) == 0xfeedbeef);
	while (*moves == 0)
		__asm__ volatile("pause" ::: "memory");
	check_ring3_enter((uintptr_t)user_loop,
	    (uintptr_t)user_stack + sizeof(user_stack) - 8);
	CHECK(bad == 0);
	CHECK(rounds > 0);
	/* Both timers still tick. */
	ticks = check_count[0x81];
	pits = check_count[0x20];
	check_wait_for(0x81, ticks + 2);
	check_wait_for(0x20, pits + 2);
	CHECK(rdmsr(0xc0000102) == 0x123456789a);
	CHECK(rdtsc() > tsc);
	*reg32(IOAPIC) = 0x10 + 18;
	CHECK(*reg32(IOAPIC + 0x10) == 0x18055);
	*moves = 0;
	check_end();
}
