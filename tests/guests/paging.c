/*
 * Paging: permissions, accessed and dirty bits, both page sizes, INVLPG.  All
 * in a window of its own above what start.S maps.
 */
#include "tests/guests/testing.h"

#define WINDOW	 0x10000000000ull /* entry 2 of the PML4 */
#define LARGE	 (WINDOW + 0x200000)
#define LARGE_AT 0x2000000ull /* in RAM, aligned to 2 MiB */
#define P	 1u
#define W	 2u
#define U	 4u
#define A	 0x20u
#define D	 0x40u
#define PS	 0x80u
#define NX	 (1ull << 63)
#define PAGE	 4096

static uint64_t pdpt2[512] __attribute__((aligned(PAGE)));
static uint64_t pd[512] __attribute__((aligned(PAGE)));
static volatile uint64_t pt[512] __attribute__((aligned(PAGE)));
static uint64_t page_a[512] __attribute__((aligned(PAGE)));
static uint64_t page_b[512] __attribute__((aligned(PAGE)));

static void
invlpg(uint64_t addr)
{
	__asm__ volatile("invlpg (%0)" ::"r"(addr) : "memory");
}

static void
map(unsigned page, const void *to, uint64_t flags)
{
	pt[page] = (uintptr_t)to | flags;
	invlpg(WINDOW + page * (uint64_t)PAGE);
}

static uint64_t
at(unsigned page)
{
	return WINDOW + page * (uint64_t)PAGE;
}

static uint64_t
load(uint64_t addr)
{
	return *(volatile uint64_t *)(uintptr_t)addr;
}

static uint64_t
store(uint64_t addr)
{
	*(volatile uint64_t *)(uintptr_t)addr = 0x5709e;
	return 0;
}

static uint64_t
execute(uint64_t addr)
{
	uint64_t v;

	__asm__ volatile("callq *%1" : "=a"(v) : "r"(addr) : "memory");
	return v;
}

static uint64_t
user(uint64_t (*f)(uint64_t), uint64_t addr)
{
	fault_clear();
	return user_call(f, addr, RFLAGS_OFF);
}

/* Load or store by kernel-mode code; a fault is only recorded. */
static uint64_t
kernel_load(uint64_t addr)
{
	uint64_t v = 0;

	fault_clear();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %1\n\t"
			 "movq (%2), %0\n"
			 "1:"
			 : "+&r"(v), "=m"(fault_resume)
			 : "r"(addr)
			 : "rax", "memory");
	return v;
}

static void
kernel_store(uint64_t addr, uint64_t v)
{
	fault_clear();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %0\n\t"
			 "movq %2, (%1)\n"
			 "1:"
			 : "=m"(fault_resume)
			 : "r"(addr), "r"(v)
			 : "rax", "memory");
}

static void
check_fault(const char *name, uint64_t error, uint64_t cr2)
{
	if (fault.count != 1 || fault.vector != 14 || fault.cr2 != cr2)
		guest_print("fail %s: %lu faults, vector %lu, cr2 0x%lx\n",
		    name, fault.count, fault.vector, fault.cr2);
	else
		check(name, fault.error, error);
}

static void
write_protect(bool on)
{
	uint64_t cr0;

	__asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
	cr0 = on ? cr0 | 0x10000 : cr0 & ~0x10000ull;
	__asm__ volatile("movq %0, %%cr0" ::"r"(cr0) : "memory");
}

static void
permissions(void)
{
	page_a[0] = 0xa0a0;
	map(0, page_a, P | W | U);
	check("user_reads", user(load, at(0)), 0xa0a0);
	user(store, at(0));
	check("user_writes", page_a[0], 0x5709e);
	map(1, page_a, P | U);
	check("user_reads_read_only", user(load, at(1)), 0x5709e);
	user(store, at(1) + 8);
	check_fault("user_writes_read_only", 7, at(1) + 8);
	check("read_only_is_unchanged", page_a[1], 0);
	map(2, page_a, P | W);
	user(load, at(2));
	check_fault("user_reads_supervisor", 5, at(2));
	user(store, at(2));
	check_fault("user_writes_supervisor", 7, at(2));
	check("kernel_reads_supervisor", kernel_load(at(2)), 0x5709e);
	map(3, page_a, 0);
	user(load, at(3));
	check_fault("user_reads_absent", 4, at(3));
	kernel_load(at(3));
	check_fault("kernel_reads_absent", 0, at(3));
	write_protect(true);
	kernel_store(at(1), 1);
	check_fault("kernel_writes_read_only", 3, at(1));
	write_protect(false);
	kernel_store(at(1), 0xd0d0);
	check(
	    "kernel_writes_without_wp", fault.count << 32 | page_a[0], 0xd0d0);
	write_protect(true);
	/* The upper levels count too. */
	map(0, page_a, P | W | U);
	pd[0] &= ~(uint64_t)W;
	invlpg(at(0));
	user(store, at(0));
	check_fault("directory_is_read_only", 7, at(0));
	pd[0] |= W;
	invlpg(at(0));
	user(store, at(0));
	check("directory_is_writable", fault.count, 0);
}

static void
no_execute(void)
{
	static const uint8_t code[] = { 0xb8, 0x2a, 0, 0, 0, 0xc3 };

	for (unsigned i = 0; i < sizeof(code); i++)
		((uint8_t *)page_b)[i] = code[i];
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
	map(4, page_b, P | W | U);
	check("executes", user(execute, at(4)), 42);
	map(4, page_b, P | W | U | NX);
	user(execute, at(4));
	check_fault("no_execute", 0x15, at(4));
	check("no_execute_reads", user(load, at(4)) & 0xff, 0xb8);
	map(4, page_b, P | W | U);
	check("executes_again", user(execute, at(4)), 42);
	/* New code in the same place. */
	((uint8_t *)page_b)[1] = 43;
	check("executes_what_is_written", user(execute, at(4)), 43);
}

static void
accessed_and_dirty(void)
{
	map(5, page_a, P | W | U);
	user(load, at(5));
	check("read_sets_accessed", pt[5] & (A | D), A);
	user(store, at(5));
	check("write_sets_dirty", pt[5] & (A | D), A | D);
	map(5, page_a, P | W | U);
	check("bits_are_cleared", pt[5] & (A | D), 0);
	user(store, at(5));
	check("write_sets_both", pt[5] & (A | D), A | D);
	map(5, page_a, P | W | U);
	(void)kernel_load(at(5));
	check("kernel_read_sets_accessed", pt[5] & (A | D), A);
	kernel_store(at(5), 3);
	check("kernel_write_sets_dirty", pt[5] & (A | D), A | D);
	map(5, page_a, P | U);
	user(store, at(5));
	check("fault_sets_no_dirty", pt[5] & D, 0);
}

static void
invalidation(void)
{
	page_a[2] = 0xaaaa;
	page_b[2] = 0xbbbb;
	map(6, page_a, P | W | U);
	check("user_sees_a", user(load, at(6) + 16), 0xaaaa);
	map(6, page_b, P | W | U);
	check("user_sees_b_after_invlpg", user(load, at(6) + 16), 0xbbbb);
	check("kernel_sees_b", kernel_load(at(6) + 16), 0xbbbb);
	pt[6] = (uintptr_t)page_a | P | W | U;
	__asm__ volatile("movq %%cr3, %%rax\n\t"
			 "movq %%rax, %%cr3" ::
			     : "rax", "memory");
	check("user_sees_a_after_cr3", user(load, at(6) + 16), 0xaaaa);
	map(6, page_a, 0);
	user(load, at(6));
	check_fault("unmapped_faults", 4, at(6));
	/* From absent to present needs no invalidation. */
	pt[6] = (uintptr_t)page_b | P | W | U;
	check("present_without_invlpg", user(load, at(6) + 16), 0xbbbb);
}

static void
large_pages(void)
{
	uint64_t bad = 0;

	for (unsigned i = 0; i < 512; i++)
		*(volatile uint64_t *)(uintptr_t)(LARGE_AT + i * 4096ull) =
		    i * 3;
	pd[1] = LARGE_AT | P | W | U | PS;
	for (unsigned i = 0; i < 512; i += 73)
		bad += user(load, LARGE + i * 4096ull) != i * 3;
	check("large_page_maps_2_mib", bad, 0);
	check("large_read_sets_accessed", pd[1] & (A | D), A);
	user(store, LARGE + 0x1ff000);
	check("large_write_sets_dirty", pd[1] & (A | D), A | D);
	check("large_write_lands",
	    *(volatile uint64_t *)(uintptr_t)(LARGE_AT + 0x1ff000), 0x5709e);
	pd[1] = LARGE_AT | P | U | PS;
	invlpg(LARGE);
	user(store, LARGE + 0x3008);
	check_fault("large_read_only", 7, LARGE + 0x3008);
	/* From a large page to small ones at the same place. */
	map(3, page_b, P | W | U);
	pd[1] = (uintptr_t)pt | P | W | U;
	invlpg(LARGE);
	check("large_becomes_small", user(load, LARGE + 3 * PAGE + 16), 0xbbbb);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	faults_record();
	pdpt2[0] = (uintptr_t)pd | P | W | U;
	pd[0] = (uintptr_t)pt | P | W | U;
	pml4[2] = (uintptr_t)pdpt2 | P | W | U;
	permissions();
	no_execute();
	accessed_and_dirty();
	invalidation();
	large_pages();
}
