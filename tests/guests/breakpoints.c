/* Breakpoints by the debug registers: on execution, data and ports. */
#include "tests/guests/testing.h"

#define B(n)	  (1ull << (n))
#define BD	  (1ull << 13)
#define BS	  (1ull << 14)
#define GD	  (1ull << 13)
#define DR6_NONE  0xffff0ff0ull
#define TF	  0x100ull
#define RF	  0x10000ull
#define CR4_DE	  8ull
#define ON(n)	  (1ull << 2 * (n)) /* locally enabled */
#define EXECUTION 0ull
#define WRITE	  1ull
#define PORT	  2ull
#define ACCESS	  3ull
#define ONE	  0ull
#define FOUR	  3ull
#define EIGHT	  2ull
#define KIND(n, kind, length) \
	(ON(n) | ((kind) | (length) << 2) << (16 + 4 * (n)))

#define DR_SET(n, v) \
	__asm__ volatile("movq %0, %%dr" #n ::"r"((uint64_t)(v)) : "memory")
#define DR_GET(n)                                                              \
	({                                                                     \
		uint64_t dr_;                                                  \
		__asm__ volatile("movq %%dr" #n ", %0" : "=r"(dr_)::"memory"); \
		dr_;                                                           \
	})

static struct {
	uint64_t count, dr6, rip, rcx, rflags, cs;
} hit;
static volatile uint64_t watched[4];
static uint8_t bytes[64];

static void
on_debug(struct trap_frame *f)
{
	hit.count++;
	hit.dr6 = DR_GET(6);
	hit.rip = f->rip;
	hit.rcx = f->rcx;
	hit.rflags = f->rflags;
	hit.cs = f->cs;
	DR_SET(6, DR6_NONE);
	f->rflags = (f->rflags & ~TF) | RF;
}

static void
arm(uint64_t dr7)
{
	hit.count = hit.dr6 = hit.rip = 0;
	DR_SET(6, DR6_NONE);
	DR_SET(7, dr7);
}

/* Hits, and the bits of DR6 of the last. */
static void
check_hits(const char *name, uint64_t count, uint64_t bits)
{
	DR_SET(7, 0);
	if (hit.count != count)
		check(name, hit.count, count);
	else
		check(name, hit.dr6 & (BS | BD | 15), bits);
}

static uint64_t __attribute__((noinline)) target(uint64_t arg)
{
	__asm__ volatile("" : "+r"(arg));
	return arg + 1;
}

static void
execution(void)
{
	uint64_t left = 5, n = 0;

	DR_SET(0, target);
	arm(KIND(0, EXECUTION, ONE));
	check("breakpoint_lets_it_run", target(41), 42);
	check("breakpoint_is_a_fault", hit.rip, (uintptr_t)target);
	check("breakpoint_saves_no_rf", hit.rflags & RF, 0);
	check_hits("breakpoint_on_execution", 1, B(0));
	target(1);
	check_hits("disabled_is_silent", 1, B(0));

	DR_SET(3, target);
	arm(KIND(0, EXECUTION, ONE) | KIND(3, EXECUTION, ONE));
	target(1);
	target(2);
	check_hits("two_at_one_place", 2, B(0) | B(3));

	/* In a loop of the same page, and as often as it comes by. */
	__asm__ volatile("leaq 2f(%%rip), %%rax\n\t"
			 "movq %%rax, %%dr1\n\t"
			 "movq %2, %%dr7\n"
			 "1:\tincq %1\n"
			 "2:\tdecq %0\n\t"
			 "jnz 1b"
			 : "+r"(left), "+r"(n)
			 : "r"(KIND(1, EXECUTION, ONE)), "m"(hit)
			 : "rax", "cc", "memory");
	check("loop_goes_round", n, 5);
	check_hits("breakpoint_in_a_loop", 7, B(1));

	/* A long loop elsewhere. */
	arm(KIND(0, EXECUTION, ONE));
	for (left = 3000000; left; left--)
		__asm__ volatile("" : "+r"(left));
	check_hits("breakpoint_elsewhere", 0, 0);

	/* Once for a repeated instruction, however long it is. */
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %%dr2\n\t"
			 "movq %0, %%dr7\n\t"
			 "leaq %1, %%rdi\n\t"
			 "movl $64, %%ecx\n\t"
			 "xorl %%eax, %%eax\n"
			 "1:\trep stosb"
			 :
			 : "r"(KIND(2, EXECUTION, ONE)), "m"(bytes)
			 : "rax", "rcx", "rdi", "memory");
	check("repeated_has_not_begun", hit.rcx, 64);
	check_hits("breakpoint_on_a_repeated_one", 1, B(2));
}

static bool
data_meets(void)
{
	DR_SET(0, &watched[1]);
	arm(KIND(0, ACCESS, EIGHT));
	watched[1] = 1;
	DR_SET(7, 0);
	return hit.count != 0;
}

static uint64_t
user_store(uint64_t v)
{
	watched[1] = v;
	return watched[1];
}

static void
data(void)
{
	uint64_t after, v, di, cx;

	DR_SET(0, &watched[1]);
	arm(KIND(0, WRITE, EIGHT));
	__asm__ volatile("movq $7, %1\n"
			 "1:\tleaq 1b(%%rip), %0"
			 : "=r"(after), "=m"(watched[1]));
	check("write_is_done", watched[1], 7);
	check("write_traps_behind", hit.rip, after);
	v = watched[1];
	watched[0] = watched[2] = v;
	check_hits("write_alone", 1, B(0));

	arm(KIND(0, ACCESS, FOUR));
	v = watched[1];
	*(volatile uint32_t *)((uintptr_t)&watched[1] + 4) = 1;
	check_hits("read_of_four_bytes", 1, B(0));
	arm(KIND(0, WRITE, EIGHT));
	*(volatile uint64_t *)((uintptr_t)&watched[1] - 7) = v;
	*(volatile uint8_t *)((uintptr_t)&watched[1] + 7) = 1;
	check_hits("write_that_overlaps", 2, B(0));

	arm(KIND(0, WRITE, EIGHT));
	__asm__ volatile("lock incq %0" : "+m"(watched[1]));
	__asm__ volatile("addb $1, %0" : "+m"(watched[1]));
	__asm__ volatile("pushq %1\n\tpopq %0" : "=m"(watched[1]) : "r"(v));
	__asm__ volatile("xchgq %1, %0" : "+m"(watched[1]), "+r"(v));
	check_hits("each_kind_of_write", 4, B(0));

	arm(KIND(0, WRITE, EIGHT));
	check("user_store", user_call(user_store, 9, RFLAGS_OFF), 9);
	check("write_by_user_code", hit.cs & 3, 3);
	check_hits("write_by_user_code_once", 1, B(0));

	DR_SET(1, &bytes[20]);
	arm(KIND(1, WRITE, ONE));
	di = (uintptr_t)bytes;
	cx = 64;
	__asm__ volatile("rep stosb"
			 : "+D"(di), "+c"(cx)
			 : "a"(0x55)
			 : "memory");
	check("repeated_stops_behind_it", hit.rcx, 43);
	check("repeated_is_completed", cx | bytes[63], 0x55);
	check_hits("write_of_a_repeated_one", 1, B(1));

	/* Behind a load of SS not until the next one is done. */
	DR_SET(2, &watched[2]);
	watched[2] = 0x18;
	arm(KIND(2, ACCESS, EIGHT));
	__asm__ volatile("movw %1, %%ss\n\t"
			 "nop\n"
			 "1:\tleaq 1b(%%rip), %0"
			 : "=r"(after)
			 : "m"(watched[2]));
	check("load_of_ss_holds_it", hit.rip, after);
	check_hits("load_of_ss", 1, B(2));
}

static void
ports(void)
{
	uint64_t cr4;

	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("movq %0, %%cr4" ::"r"(cr4 | CR4_DE) : "memory");
	DR_SET(3, 0x812);
	arm(KIND(3, PORT, ONE));
	outb(0x812, 1);
	(void)inw(0x811);
	outb(0x813, 1);
	check_hits("port", 2, B(3));
	__asm__ volatile("movq %0, %%cr4" ::"r"(cr4) : "memory");
}

static void
protection(void)
{
	uint64_t at;

	arm(GD);
	__asm__ volatile("leaq 1f(%%rip), %0\n"
			 "1:\tmovq %%dr0, %%rax"
			 : "=r"(at)::"rax");
	check("protected_registers_fault", hit.rip, at);
	check("protection_is_off_in_the_handler", DR_GET(7) & GD, 0);
	check_hits("protected_registers", 1, BD);
}

/* The trap flag and a breakpoint are one exception. */
static void
trap_flag(void)
{
	DR_SET(0, &watched[1]);
	arm(KIND(0, WRITE, EIGHT));
	__asm__ volatile("pushfq\n\t"
			 "orq %1, (%%rsp)\n\t"
			 "popfq\n\t"
			 "movq $1, %0"
			 : "=m"(watched[1])
			 : "i"(TF)
			 : "cc");
	check_hits("with_the_trap_flag", 1, B(0) | BS);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	trap_set(1, on_debug);
	execution();
	protection();
	if (!data_meets()) {
		guest_print("skip data: here none is met in kernel mode\n");
		return;
	}
	data();
	ports();
	trap_flag();
}
