/* Exceptions of CPL3 code: vector, error code, CR2, where they happened. */
#include "tests/guests/testing.h"

#define NOWHERE 0x200000000000ull /* nothing is mapped there */

static uint64_t
divide(uint64_t arg)
{
	uint64_t q, r;

	__asm__ volatile("divq %4"
			 : "=a"(q), "=d"(r)
			 : "a"(arg), "d"(0ull), "r"(0ull));
	return q + r;
}

static uint64_t
divide_overflows(uint64_t arg)
{
	uint64_t q, r;

	__asm__ volatile("divq %4"
			 : "=a"(q), "=d"(r)
			 : "a"(arg), "d"(5ull), "r"(5ull));
	return q + r;
}

static uint64_t
undefined(uint64_t arg)
{
	__asm__ volatile("ud2");
	return arg;
}

static uint64_t
privileged_hlt(uint64_t arg)
{
	__asm__ volatile("hlt");
	return arg;
}

static uint64_t
privileged_cr3(uint64_t arg)
{
	__asm__ volatile("movq %%cr3, %0" : "=r"(arg));
	return arg;
}

static uint64_t
privileged_cli(uint64_t arg)
{
	__asm__ volatile("cli");
	return arg;
}

static uint64_t
load(uint64_t addr)
{
	return *(volatile uint64_t *)(uintptr_t)addr;
}

static uint64_t
store(uint64_t addr)
{
	*(volatile uint64_t *)(uintptr_t)addr = 1;
	return 0;
}

static uint64_t
jump(uint64_t addr)
{
	__asm__ volatile("callq *%0" ::"r"(addr) : "memory");
	return 0;
}

static const struct {
	const char *name;
	uint64_t (*f)(uint64_t);
	uint64_t arg, vector, error, cr2; /* cr2: for page faults */
} faults[] = {
	{ "divide_by_zero", divide, 5, 0, 0, 0 },
	{ "divide_overflow", divide_overflows, 5, 0, 0, 0 },
	{ "undefined_opcode", undefined, 0, 6, 0, 0 },
	{ "hlt_is_privileged", privileged_hlt, 0, 13, 0, 0 },
	{ "cr3_is_privileged", privileged_cr3, 0, 13, 0, 0 },
	{ "cli_is_privileged", privileged_cli, 0, 13, 0, 0 },
	{ "not_canonical", load, 0x8000000000000000, 13, 0, 0 },
	{ "load_from_nowhere", load, NOWHERE + 0x123, 14, 4, NOWHERE + 0x123 },
	{ "store_to_nowhere", store, NOWHERE + 0x456, 14, 6, NOWHERE + 0x456 },
	{ "jump_to_nowhere", jump, NOWHERE + 0x789, 14, 4, NOWHERE + 0x789 },
};

/* The opcode, 0xf7 of div with its prefix, where rip points. */
static void
fault_is_where_the_instruction_is(void)
{
	const uint8_t *at;

	fault_clear();
	user_call(divide, 5, RFLAGS_OFF);
	at = (const uint8_t *)(uintptr_t)fault.rip;
	check("fault_points_at_div", at[1], 0xf7);
	fault_clear();
	user_call(undefined, 0, RFLAGS_OFF);
	at = (const uint8_t *)(uintptr_t)fault.rip;
	check("fault_points_at_ud2", (uint64_t)(at[0] | at[1] << 8), 0x0b0f);
}

/* The same by kernel-mode code. */
static void
kernel(void)
{
	uint64_t v;

	fault_clear();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %1\n\t"
			 "movq (%2), %0\n"
			 "1:"
			 : "=&r"(v), "=m"(fault_resume)
			 : "r"(NOWHERE)
			 : "rax", "memory");
	check("kernel_load_vector", fault.vector, 14);
	check("kernel_load_error", fault.error, 0);
	check("kernel_load_cr2", fault.cr2, NOWHERE);
	fault_clear();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %0\n\t"
			 "movl $0xc0ffee, %%ecx\n\t"
			 "rdmsr\n"
			 "1:"
			 : "=m"(fault_resume)::"rax", "rcx", "rdx", "memory");
	check("unknown_msr", fault.vector, 13);
	fault_clear();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %0\n\t"
			 "movq %%cr0, %%rcx\n\t"
			 "btrq $0, %%rcx\n\t" /* paging without protection */
			 "movq %%rcx, %%cr0\n"
			 "1:"
			 : "=m"(fault_resume)::"rax", "rcx", "memory");
	check("impossible_cr0", fault.vector, 13);
	fault_clear();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, %0\n\t"
			 "ud2\n"
			 "1:"
			 : "=m"(fault_resume)::"rax", "memory");
	check("kernel_undefined_opcode", fault.vector, 6);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	faults_record();
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		fault_clear();
		user_call(faults[i].f, faults[i].arg, RFLAGS_OFF);
		if (fault.vector != faults[i].vector || fault.count != 1 ||
		    fault.cs != 0x2b)
			guest_print("fail %s: %lu faults, vector %lu, cs %lx\n",
			    faults[i].name, fault.count, fault.vector,
			    fault.cs);
		else if (faults[i].cr2 && fault.cr2 != faults[i].cr2)
			guest_print(
			    "fail %s: cr2 %lx\n", faults[i].name, fault.cr2);
		else
			check(faults[i].name, fault.error, faults[i].error);
	}
	fault_is_where_the_instruction_is();
	kernel();
}
