/*
 * The core of the software processor by small guest programs: blocks, chains,
 * self-modification, paging, strings, atomics.  (Single instructions are
 * compared with the host's processor by tests/difftest.)
 */
#include <string.h>
#include <sys/mman.h>

#include "hypervisor/soft/block.h"
#include "hypervisor/soft/cpu.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/mmu.h"
#include "tests/named_tests.h"

#define RAM	  0x400000u
#define PML4	  0x1000u
#define PDPT	  0x2000u
#define PD	  0x3000u
#define PT	  0x4000u /* of 2 to 4 MiB, by 4 KiB */
#define IDT	  0x5000u
#define STUBS	  0x6000u
#define GDT	  0x7000u
#define CODE	  0x10000u
#define STACK	  0x80000u
#define DATA	  0x200000u
#define PORT_DONE 0x7fu
#define ENTRY_P	  1u
#define ENTRY_W	  2u
#define ENTRY_A	  0x20u
#define ENTRY_D	  0x40u
#define ENTRY_PS  0x80u
#define STEPS_MAX 1000u

/* A program: runs from its first byte, ends by writing to PORT_DONE. */
#define GUEST(name, text)                                             \
	__asm__(".pushsection .rodata\n" #name ":\n" text             \
		"\n\tout %al, $0x7f\n" #name "_end:\n.popsection\n"); \
	extern const uint8_t name[], name##_end[]

static struct {
	struct hv_partition *p;
	struct hv_vcpu *v;
	struct cpu *c;
	uint8_t *ram;
	struct hv_handler handler;
	int port; /* written last: an exception's vector, or PORT_DONE */
	unsigned steps; /* #DB taken */
} g;

static void
put64(uint32_t at, uint64_t v)
{
	memcpy(g.ram + at, &v, sizeof(v));
}

static uint64_t
get64(uint64_t at)
{
	uint64_t v;

	memcpy(&v, g.ram + at, sizeof(v));
	return v;
}

static void
access_port(void *ctx, struct hv_access *a)
{
	(void)ctx;
	if (a->space != HV_PIO || !a->write)
		return;
	g.port = (int)a->addr;
	if (a->addr == EXC_DB && ++g.steps < STEPS_MAX)
		return; /* the stub returns */
	hv_soft.vcpu_kick(g.v);
}

static struct seg
segment(uint16_t sel, uint16_t attr)
{
	return (struct seg){ .limit = UINT32_MAX, .sel = sel, .attr = attr };
}

static void
tables(void)
{
	static const uint8_t iret[] = { 0x48, 0xcf };

	memset(g.ram, 0, CODE);
	put64(PML4, PDPT | ENTRY_P | ENTRY_W);
	put64(PDPT, PD | ENTRY_P | ENTRY_W);
	put64(PD, 0 | ENTRY_P | ENTRY_W | ENTRY_PS);
	put64(PD + 8, PT | ENTRY_P | ENTRY_W);
	for (uint32_t n = 0; n < 512; n++)
		put64(PT + 8 * n, (DATA + n * 4096) | ENTRY_P | ENTRY_W);
	put64(GDT + 8, 0x00209b0000000000);
	put64(GDT + 16, 0x00cf93000000ffff);
	for (uint32_t n = 0; n < 32; n++) {
		uint32_t to = STUBS + 16 * n;

		put64(IDT + 16 * n,
		    (to & 0xffff) | 8u << 16 | (uint64_t)0x8e00 << 32);
		g.ram[to] = 0xe6;
		g.ram[to + 1] = (uint8_t)n;
		memcpy(g.ram + to + 2, iret, sizeof(iret));
	}
}

/* Long mode at CODE, with nothing cached. */
static void
start(const uint8_t *code, const uint8_t *end)
{
	struct cpu *c = g.c;

	cpu_reset(c, false);
	c->mp_state = HV_MP_RUNNABLE;
	tables();
	memcpy(g.ram + CODE, code, (size_t)(end - code));
	c->cr0 = CR0_PE | CR0_WP | CR0_NE | CR0_PG | 16;
	c->cr4 = CR4_PAE | CR4_PGE;
	c->efer = EFER_LME | EFER_LMA | EFER_NXE;
	c->cr3 = PML4;
	c->gdt_base = GDT;
	c->gdt_limit = 23;
	c->idt_base = IDT;
	c->idt_limit = 16 * 32 - 1;
	c->seg[CS] = segment(8, 0xa09b);
	c->seg[SS] = c->seg[DS] = c->seg[ES] = segment(16, 0xc093);
	c->rip = CODE;
	c->reg[RSP] = STACK;
	cpu_mode_changed(c);
	tlb_flush(c, true);
	block_flush(c);
	g.steps = 0;
}

static int
run(void)
{
	enum hv_stop stop;

	g.port = -1;
	stop = hv_soft.vcpu_run(g.v, &g.handler);
	return stop == HV_STOP_KICKED ? g.port : -1 - (int)stop;
}

#define RUN(name) (start(name, name##_end), run())

/* ---- blocks ---- */

GUEST(g_sum,
    "xor %eax, %eax; mov $1000, %ecx\n"
    "1: add %rcx, %rax; dec %ecx; jnz 1b\n"
    "mov $1000, %edx\n"
    "2: cmp $500, %edx; jb 3f; inc %rax; 3: dec %edx; jnz 2b\n");

static void
loops_run_through_chained_blocks(void)
{
	CU_ASSERT_EQUAL(RUN(g_sum), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RAX], 500500 + 501);
}

GUEST(g_fib,
    "mov $15, %edi; call 1f; jmp 9f\n"
    "1: cmp $2, %rdi; jae 2f; mov %rdi, %rax; ret\n"
    "2: push %rdi; dec %rdi; call 1b; pop %rdi; push %rax\n"
    "sub $2, %rdi; call 1b; pop %rcx; add %rcx, %rax; ret\n"
    "9:\n");

static void
calls_return_where_they_came_from(void)
{
	CU_ASSERT_EQUAL(RUN(g_fib), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RAX], 610);
	CU_ASSERT_EQUAL(g.c->reg[RSP], STACK);
}

/* A jump to a page's last bytes, where an instruction reaches into the next. */
GUEST(g_cross,
    "mov $0x10ffc, %eax; movb $0xb9, (%rax); movl $0x12345678, 1(%rax)\n"
    "movb $0xc3, 5(%rax); call *%rax; mov %ecx, %edx\n"
    "movl $0x11223344, 1(%rax); call *%rax\n");

static void
an_instruction_may_cross_a_page_and_be_rewritten(void)
{
	CU_ASSERT_EQUAL(RUN(g_cross), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RDX], 0x12345678);
	CU_ASSERT_EQUAL(g.c->reg[RCX], 0x11223344);
}

GUEST(g_smc,
    "xor %ebx, %ebx; mov $3, %ecx\n"
    "1: incl 2f+1(%rip)\n" /* the next instruction's immediate */
    "2: mov $7, %eax; add %rax, %rbx; dec %ecx; jnz 1b\n");

static void
code_that_rewrites_its_next_instruction_sees_it(void)
{
	CU_ASSERT_EQUAL(RUN(g_smc), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RBX], 8 + 9 + 10);
}

GUEST(g_beside,
    "mov $2000, %ecx\n"
    "1: incl 9f(%rip); dec %ecx; jnz 1b\n"
    "mov 9f(%rip), %eax; jmp 2f\n"
    "9: .long 5\n2:\n");

static void
data_beside_code_can_be_written(void)
{
	CU_ASSERT_EQUAL(RUN(g_beside), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RAX], 2005);
}

GUEST(g_device,
    "mov $0x210000, %ebx; call *%rbx; mov %eax, %esi\n"
    "out %al, $0x7e\n" /* now the test writes there, as a device does */
    "mov %cr3, %rax; mov %rax, %cr3\n"
    "call *%rbx\n");

static void
code_that_a_device_wrote_is_decoded_anew(void)
{
	static const uint8_t first[] = { 0xb8, 1, 0, 0, 0, 0xc3 };

	start(g_device, g_device_end);
	for (uint32_t n = 0; n < 512; n++)
		put64(PT + 8 * n, get64(PT + 8 * n) | 4);
	put64(PML4, get64(PML4) | 4);
	put64(PDPT, get64(PDPT) | 4);
	put64(PD + 8, get64(PD + 8) | 4);
	memcpy(g.ram + 0x210000, first, sizeof(first));
	CU_ASSERT_EQUAL(run(), 0x7e);
	g.ram[0x210001] = 2;
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RSI], 1);
	CU_ASSERT_EQUAL(g.c->reg[RAX], 2);
}

/* cmp and test, fused with each condition, against setcc: twice the same. */
GUEST(g_conditions,
    ".macro one cc, op, a, b\n"
    "mov $\\a, %eax; mov $\\b, %ecx; xor %edx, %edx\n"
    "\\op %ecx, %eax; j\\cc 8f; inc %edx; 8: \\op %ecx, %eax; set\\cc %bl\n"
    "add %bl, %dl; cmp $1, %dl; jne 9f; inc %esi\n"
    ".endm\n"
    ".macro all op, a, b\n"
    ".irp cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g\n"
    "one \\cc, \\op, \\a, \\b\n.endr\n.endm\n"
    "xor %esi, %esi\n"
    "all cmp, 1, 2\nall cmp, 2, 1\nall cmp, 5, 5\nall cmp, 0x80000000, 1\n"
    "all cmp, 0x7fffffff, 0xffffffff\nall test, 1, 3\n"
    "all test, 0x80000000, 0xf0000000\nall test, 1, 2\n"
    "9:\n"
    ".purgem one\n.purgem all\n");

static void
fused_comparisons_agree_with_setcc(void)
{
	CU_ASSERT_EQUAL(RUN(g_conditions), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RSI], 8 * 16);
}

GUEST(g_step,
    "pushf; orl $0x100, (%rsp); popf\n"
    "nop; nop; mov $5, %ecx; 1: dec %ecx; jnz 1b\n"
    "pushf; andl $0xfffffeff, (%rsp); popf\n");

static void
the_trap_flag_traps_after_each_instruction(void)
{
	CU_ASSERT_EQUAL(RUN(g_step), PORT_DONE);
	/* nop nop mov, five times dec jnz, pushf and popf. */
	CU_ASSERT_EQUAL(g.steps, 3 + 10 + 3);
}

/* ---- paging ---- */

GUEST(g_fault, "mov $0x300000, %ebx; stc; addq $1, (%rbx)\n");

static void
a_fault_leaves_everything_as_it_was(void)
{
	start(g_fault, g_fault_end);
	put64(PT + 8 * 256, 0);
	g.c->reg[RCX] = 77;
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(g.c->cr2, 0x300000);
	/* Error code: a write. */
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP]), 2);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP] + 8), CODE + 6);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP] + 24) & FL_CF, FL_CF);
	CU_ASSERT_EQUAL(g.c->reg[RCX], 77);
}

GUEST(g_read, "mov $0x300000, %ebx; mov (%rbx), %rax\n");

static void
a_read_of_an_absent_page_faults_with_error_code_0(void)
{
	start(g_read, g_read_end);
	put64(PT + 8 * 256, 0);
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP]), 0);
}

static void
a_reserved_bit_faults(void)
{
	start(g_read, g_read_end);
	put64(PT + 8 * 256, 0x300000 | ENTRY_P | 1ull << 51);
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP]), 9);
}

GUEST(g_cross_write,
    "mov $0x300ffc, %ebx; mov $0x1122334455667788, %rax; mov %rax, (%rbx)\n");

static void
a_write_over_two_pages_is_all_or_nothing(void)
{
	start(g_cross_write, g_cross_write_end);
	put64(PT + 8 * 257, 0x301000 | ENTRY_P);
	put64(0x300ff8, 0);
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(g.c->cr2, 0x301000);
	CU_ASSERT_EQUAL(get64(0x300ff8), 0);
	put64(PT + 8 * 257, 0x302000 | ENTRY_P | ENTRY_W);
	start(g_cross_write, g_cross_write_end);
	put64(PT + 8 * 257, 0x302000 | ENTRY_P | ENTRY_W);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(get64(0x300ff8) >> 32, 0x55667788);
	CU_ASSERT_EQUAL((uint32_t)get64(0x302000), 0x11223344);
}

static void
accessed_and_dirty_are_set_when_they_should(void)
{
	start(g_read, g_read_end);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(get64(PT + 8 * 256) & (ENTRY_A | ENTRY_D), ENTRY_A);
	CU_ASSERT_EQUAL(get64(PD + 8) & ENTRY_A, ENTRY_A);
	start(g_cross_write, g_cross_write_end);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(
	    get64(PT + 8 * 256) & (ENTRY_A | ENTRY_D), ENTRY_A | ENTRY_D);
}

GUEST(g_remap,
    "mov $0x300000, %ebx; mov (%rbx), %rsi\n"
    "movq $0x301003, 0x4800\n"
    "mov (%rbx), %rdx; invlpg (%rbx); mov (%rbx), %rdi\n");

static void
invlpg_makes_a_new_mapping_count(void)
{
	start(g_remap, g_remap_end);
	put64(0x300000, 11);
	put64(0x301000, 22);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RSI], 11);
	CU_ASSERT_EQUAL(g.c->reg[RDI], 22);
}

GUEST(g_nx, "mov $0x300000, %ebx; jmp *%rbx\n");

static void
no_execute_holds(void)
{
	start(g_nx, g_nx_end);
	put64(PT + 8 * 256, 0x300000 | ENTRY_P | ENTRY_W | 1ull << 63);
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP]), 0x11);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP] + 8), 0x300000);
}

GUEST(g_canonical, "mov $0x123456789abcdef0, %rbx; mov (%rbx), %eax\n");

static void
an_address_that_is_not_canonical_faults(void)
{
	CU_ASSERT_EQUAL(RUN(g_canonical), EXC_GP);
}

/* ---- strings ---- */

GUEST(g_movs,
    "cld; mov $0x200f00, %esi; mov $0x201f80, %edi; mov $0x1800, %ecx\n"
    "rep movsb\n");

static void
rep_movs_copies_across_pages(void)
{
	bool same;

	start(g_movs, g_movs_end);
	for (unsigned n = 0; n < 0x3000; n++)
		g.ram[0x200f00 + n] = (uint8_t)(n * 7 + n / 256);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RCX], 0);
	CU_ASSERT_EQUAL(g.c->reg[RSI], 0x202700);
	CU_ASSERT_EQUAL(g.c->reg[RDI], 0x203780);
	/* The part that did not lie under the destination. */
	same = true;
	for (unsigned n = 0; n < 0x1080; n++)
		same &= g.ram[0x201f80 + n] == (uint8_t)(n * 7 + n / 256);
	CU_ASSERT_TRUE(same);
}

GUEST(g_pattern,
    "cld; mov $0x200000, %esi; mov $0x200003, %edi; mov $300, %ecx\n"
    "rep movsb; std; mov $0x200400, %esi; mov $0x200402, %edi\n"
    "mov $256, %ecx; rep movsw; cld\n");

static void
overlapping_rep_movs_repeats_a_pattern(void)
{
	bool same = true;

	start(g_pattern, g_pattern_end);
	memset(g.ram + 0x200000, 0, 0x1000);
	memcpy(g.ram + 0x200000, "abc", 3);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	for (unsigned n = 0; n < 300; n++)
		same &= g.ram[0x200000 + n] == "abc"[n % 3];
	CU_ASSERT_TRUE(same);
	CU_ASSERT_EQUAL(g.c->reg[RSI], 0x200200);
}

GUEST(g_scas,
    "cld; mov $0x200000, %edi; mov $-1, %rcx; xor %eax, %eax\n"
    "repne scasb; not %rcx; mov %rcx, %r8; dec %r8\n"
    "mov $0x200000, %esi; mov $0x201000, %edi; mov $100, %ecx\n"
    "repe cmpsb; mov %ecx, %ebx; seta %dl\n");

static void
scas_and_cmps_stop_where_they_should(void)
{
	start(g_scas, g_scas_end);
	memset(g.ram + 0x200000, 0, 0x2000);
	memcpy(g.ram + 0x200000, "hello, world", 12);
	memcpy(g.ram + 0x201000, "hello, World", 12);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[8], 12);
	CU_ASSERT_EQUAL(g.c->reg[RBX], 100 - 8);
	CU_ASSERT_EQUAL(g.c->reg[RDX] & 0xff, 1);
}

GUEST(g_stos,
    "cld; mov $0x2ffff8, %edi; mov $4, %ecx; mov $0x55, %eax\n"
    "rep stosq\n");

static void
a_fault_in_a_repeated_store_keeps_what_is_done(void)
{
	start(g_stos, g_stos_end);
	put64(PT + 8 * 256, 0);
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(g.c->cr2, 0x300000);
	CU_ASSERT_EQUAL(g.c->reg[RCX], 3);
	CU_ASSERT_EQUAL(g.c->reg[RDI], 0x300000);
	CU_ASSERT_EQUAL(get64(0x2ffff8), 0x55);
}

/* ---- atomics ---- */

GUEST(g_lock,
    "mov $0x200000, %ebx; movq $5, (%rbx); mov $3, %ecx\n"
    "lock xadd %rcx, (%rbx); lock incl (%rbx); lock btsl $7, (%rbx)\n"
    "mov (%rbx), %esi; xor %eax, %eax; mov $9, %edx\n"
    "lock cmpxchg %edx, (%rbx); mov %eax, %r8d; setz %r9b\n"
    "lock addl $1, 0xffe(%rbx); mov 0xffe(%rbx), %r10d\n"
    "mov 16(%rbx), %rax; mov 24(%rbx), %rdx; mov $1, %ebx\n"
    "mov $2, %ecx; lock cmpxchg16b 0x200010; setz %r11b\n");

static void
locked_instructions_compute_what_plain_ones_do(void)
{
	start(g_lock, g_lock_end);
	memset(g.ram + 0x200000, 0, 0x2000);
	put64(0x200ffe, 41);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(g.c->reg[RSI], (5 + 3 + 1) | 0x80);
	CU_ASSERT_EQUAL(g.c->reg[8], (5 + 3 + 1) | 0x80);
	CU_ASSERT_EQUAL(g.c->reg[9] & 0xff, 0);
	CU_ASSERT_EQUAL(g.c->reg[10], 42);
	CU_ASSERT_EQUAL(g.c->reg[11] & 0xff, 1);
	CU_ASSERT_EQUAL(get64(0x200010), 1);
	CU_ASSERT_EQUAL(get64(0x200018), 2);
}

GUEST(g_bad_lock, ".byte 0xf0; mov %eax, (%rbx)\n");
GUEST(g_long, ".fill 14, 1, 0x66\n\tmov %eax, %ebx\n");
/* LDDQU without its prefix is undefined, but has a ModRM byte all the same. */
GUEST(g_undefined, ".byte 0x0f, 0xf0, 0x80; .long 0\n");
GUEST(
    g_undefined_long, ".fill 9, 1, 0x3e\n\t.byte 0x0f, 0xf0, 0x80; .long 0\n");

static void
illegal_instructions_raise_what_the_manual_says(void)
{
	CU_ASSERT_EQUAL(RUN(g_bad_lock), EXC_UD);
	CU_ASSERT_EQUAL(RUN(g_long), EXC_GP);
	CU_ASSERT_EQUAL(get64(g.c->reg[RSP] + 8), CODE);
	CU_ASSERT_EQUAL(RUN(g_undefined), EXC_UD);
	CU_ASSERT_EQUAL(RUN(g_undefined_long), EXC_GP);
}

GUEST(g_enter,
    "mov $0x280000, %ebp; mov $0x301040, %esp\n"
    ".byte 0xc8, 0xff, 0xff, 16\n");

static void
enter_faults_at_its_pushes_before_the_space_below_them(void)
{
	start(g_enter, g_enter_end);
	put64(PT + 8 * 0x100, 0);
	put64(PT + 8 * 0xf1, 0);
	CU_ASSERT_EQUAL(run(), EXC_PF);
	CU_ASSERT_EQUAL(g.c->cr2, 0x300ff8);
}

/* ---- other modes ---- */

GUEST(g_real,
    ".code16\n"
    "mov $0x2000, %ax; mov %ax, %ds; mov %ax, %ss; mov $0, %sp\n"
    "movl $0x12345678, 0x10; push %eax; pop %ebx\n"
    "mov $3, %cx; xor %dx, %dx; 1: add %cx, %dx; loop 1b\n"
    "mov 0x10, %eax; mov $0xfff0, %bp; movw $7, (%bp)\n"
    ".code64\n");

static void
real_mode_runs_with_segments(void)
{
	struct cpu *c = g.c;

	start(g_real, g_real_end);
	c->cr0 = 16;
	c->cr4 = c->efer = 0;
	c->seg[CS] = (struct seg){
		.base = CODE, .sel = CODE >> 4, .limit = 0xffff, .attr = 0x9b
	};
	c->rip = 0;
	cpu_mode_changed(c);
	tlb_flush(c, true);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(c->reg[RAX], 0x12345678);
	CU_ASSERT_EQUAL((uint16_t)c->reg[RDX], 6);
	CU_ASSERT_EQUAL((uint32_t)get64(0x20010), 0x12345678);
	CU_ASSERT_EQUAL(g.ram[0x2fff0], 7);
}

GUEST(g_protected,
    ".code32\n"
    "mov $0x200000, %ebx; movl $0x11, (%ebx); incl (%ebx); mov (%ebx), %eax\n"
    "push %eax; pop %ecx; inc %ecx; pusha; popa; lea -1(%ecx,%ecx), %edx\n"
    "call 1f; 1: pop %esi; mov %esp, %ebp; enter $16, $2; leave; daa\n"
    ".code64\n");

/* 32-bit paging of both kinds: entry `size` bytes. */
static void protected(unsigned size)
{
	struct cpu *c = g.c;

	start(g_protected, g_protected_end);
	memset(g.ram + PML4, 0, 0x4000);
	if (size == 8) {
		put64(PML4, PD | ENTRY_P);
		put64(PD, 0 | ENTRY_P | ENTRY_W | ENTRY_PS);
		put64(PD + 8, PT | ENTRY_P | ENTRY_W);
		put64(PT, DATA | ENTRY_P | ENTRY_W);
	} else {
		put64(PML4, PT | ENTRY_P | ENTRY_W);
		for (uint32_t n = 0; n < 1024; n++) {
			uint32_t e = n * 4096 | ENTRY_P | ENTRY_W;

			memcpy(g.ram + PT + 4 * n, &e, 4);
		}
	}
	c->cr4 = size == 8 ? CR4_PAE : CR4_PSE;
	c->efer = 0;
	c->seg[CS] = segment(8, 0xc09b);
	cpu_mode_changed(c);
	tlb_flush(c, true);
	CU_ASSERT_EQUAL(run(), PORT_DONE);
	CU_ASSERT_EQUAL(c->reg[RAX] & 0xff, 0x12);
	CU_ASSERT_EQUAL(c->reg[RCX], 0x13);
	CU_ASSERT_EQUAL(c->reg[RDX], 0x25);
	CU_ASSERT_EQUAL(c->reg[RSP], STACK);
	CU_ASSERT_EQUAL((uint32_t)get64(DATA), 0x12);
}

static void
protected_mode_runs_with_32_bit_paging(void)
{
	protected(4);
}

static void
protected_mode_runs_with_pae_paging(void)
{
	protected(8);
}

static int
open_machine(void)
{
	const struct hv_config config = { .vcpus = 1 };

	g.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	g.handler.access = access_port;
	if (g.ram == MAP_FAILED || hv_soft.partition_create(&config, &g.p) ||
	    hv_soft.memory_set(g.p, 0, 0, RAM, g.ram, 0) ||
	    hv_soft.vcpu_create(g.p, 0, &g.v))
		return 1;
	g.c = machine_cpu((struct machine *)g.p, 0);
	return 0;
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(loops_run_through_chained_blocks),
		NAMED_TEST(calls_return_where_they_came_from),
		NAMED_TEST(an_instruction_may_cross_a_page_and_be_rewritten),
		NAMED_TEST(code_that_rewrites_its_next_instruction_sees_it),
		NAMED_TEST(data_beside_code_can_be_written),
		NAMED_TEST(code_that_a_device_wrote_is_decoded_anew),
		NAMED_TEST(fused_comparisons_agree_with_setcc),
		NAMED_TEST(the_trap_flag_traps_after_each_instruction),
		NAMED_TEST(a_fault_leaves_everything_as_it_was),
		NAMED_TEST(a_read_of_an_absent_page_faults_with_error_code_0),
		NAMED_TEST(a_reserved_bit_faults),
		NAMED_TEST(a_write_over_two_pages_is_all_or_nothing),
		NAMED_TEST(accessed_and_dirty_are_set_when_they_should),
		NAMED_TEST(invlpg_makes_a_new_mapping_count),
		NAMED_TEST(no_execute_holds),
		NAMED_TEST(an_address_that_is_not_canonical_faults),
		NAMED_TEST(rep_movs_copies_across_pages),
		NAMED_TEST(overlapping_rep_movs_repeats_a_pattern),
		NAMED_TEST(scas_and_cmps_stop_where_they_should),
		NAMED_TEST(a_fault_in_a_repeated_store_keeps_what_is_done),
		NAMED_TEST(locked_instructions_compute_what_plain_ones_do),
		NAMED_TEST(illegal_instructions_raise_what_the_manual_says),
		NAMED_TEST(
		    enter_faults_at_its_pushes_before_the_space_below_them),
		NAMED_TEST(real_mode_runs_with_segments),
		NAMED_TEST(protected_mode_runs_with_32_bit_paging),
		NAMED_TEST(protected_mode_runs_with_pae_paging),
	};
	int bad;

	if (open_machine())
		return 1;
	bad = named_tests_run("int", tests, ARRAY_LEN(tests));
	hv_soft.vcpu_destroy(g.v);
	hv_soft.partition_destroy(g.p);
	munmap(g.ram, RAM);
	return bad;
}
