/*
 * What the comparison with the host's processor (tests/difftest) cannot reach:
 * the bits of CR0 and CR4, the formats of other modes, saved images.
 */
#include <CUnit/Basic.h>
#include <string.h>
#include <sys/mman.h>

#include "hypervisor/hypervisor.h"
#include "hypervisor/soft/fp_ops.h"
#include "proto/base.h"

#define MEM_SIZE 0x10000u
#define AT	 0x2000u /* the memory operand */
#define NO_EXC	 (-1)

static uint8_t *mem;
static struct hv_partition *partition;
static struct cpu *cpu;
static bool went_on;

static int
suite_init(void)
{
	const struct hv_config config = { .vcpus = 1 };
	struct hv_vcpu *v;

	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED ||
	    hv_soft.partition_create(&config, &partition) ||
	    hv_soft.memory_set(partition, 0, 0, MEM_SIZE, mem, 0) ||
	    hv_soft.vcpu_create(partition, 0, &v))
		return 1;
	cpu = (struct cpu *)v; /* a vCPU begins with it */
	return 0;
}

static int
suite_clean(void)
{
	hv_soft.vcpu_destroy((struct hv_vcpu *)cpu);
	hv_soft.partition_destroy(partition);
	munmap(mem, MEM_SIZE);
	return 0;
}

/* Flat 32-bit protected mode, all of SSE on. */
static void
reset(void)
{
	unsigned n;

	cpu_reset(cpu, false);
	for (n = 0; n < SEG_COUNT; n++) {
		cpu->seg[n].base = 0;
		cpu->seg[n].limit = 0xffffffff;
		cpu->seg[n].attr = n == CS ? 0xc09b : 0xc093;
		cpu->seg[n].sel = n == CS ? 8 : 16;
	}
	cpu->cr0 = CR0_PE | CR0_NE | CR0_MP;
	cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
	cpu_mode_changed(cpu);
	cpu->tlb_now = cpu->tlb[0];
	tlb_flush(cpu, true);
	cpu->mxcsr = MXCSR_DEFAULT;
	cpu->rip = 0x1000;
	x87_init(cpu);
	memset(mem, 0xaa, MEM_SIZE);
}

static OP(next_insn)
{
	(void)i;
	c->over = false;
	went_on = true;
}

/* Run one row; the exception's vector or NO_EXC. */
static int
run(const struct opcode *row, unsigned opcode, unsigned modrm, unsigned opsize)
{
	struct insn insn[2];
	jmp_buf unwind;

	memset(insn, 0, sizeof(insn));
	insn[0].fn = row->fn;
	insn[0].opcode = (uint8_t)opcode;
	insn[0].reg = modrm >> 3 & 7;
	insn[0].rm = modrm & 7;
	insn[0].imm2 = (uint16_t)modrm;
	insn[0].opsize = (uint8_t)opsize;
	insn[0].addrsize = 4;
	insn[0].len = 2;
	insn[0].base = insn[0].index = NO_REG;
	insn[0].seg = DS;
	insn[0].disp = AT;
	insn[0].flags = modrm < 0xc0 ? INSN_MEM : 0;
	insn[1].fn = next_insn;
	went_on = false;
	cpu->unwind = &unwind;
	if (setjmp(unwind))
		return cpu->raised.vector;
	insn[0].fn(cpu, insn);
#ifndef SOFT_TAIL_CALLS
	insn[1].fn(cpu, &insn[1]);
#endif
	return NO_EXC;
}

static int
run_x87(unsigned opcode, unsigned modrm, unsigned opsize)
{
	return run(x87_opcode(opcode, modrm), opcode, modrm, opsize);
}

static int
run_0f(unsigned opcode, unsigned prefix, unsigned modrm)
{
	return run(&simd_0f[opcode][prefix], opcode, modrm, 4);
}

static uint32_t
mem32(unsigned at)
{
	uint32_t v;

	memcpy(&v, mem + AT + at, 4);
	return v;
}

/* ---- cases ---- */
enum unit {
	X87,
	FNINIT,
	MMX,
	EMMS,
	BAD_SHIFT,
	BAD_SSE_SHIFT,
	SSE,
	FXSAVE,
	LDMXCSR
};
static const struct {
	const char *claim;
	enum unit unit;
	uint64_t cr0, cr4_off;
	bool pending;
	int vector;
} gates[] = {
	{ "x87_runs", X87, 0, 0, false, NO_EXC },
	{ "x87_with_em_is_nm", X87, CR0_EM, 0, false, EXC_NM },
	{ "x87_with_ts_is_nm", X87, CR0_TS, 0, false, EXC_NM },
	{ "x87_reports_what_is_pending", X87, 0, 0, true, EXC_MF },
	{ "ts_comes_before_what_is_pending", X87, CR0_TS, 0, true, EXC_NM },
	{ "fninit_does_not_wait", FNINIT, 0, 0, true, NO_EXC },
	{ "fninit_with_ts_is_nm", FNINIT, CR0_TS, 0, false, EXC_NM },
	{ "mmx_with_em_is_ud", MMX, CR0_EM, 0, false, EXC_UD },
	{ "mmx_with_ts_is_nm", MMX, CR0_TS, 0, false, EXC_NM },
	{ "mmx_reports_what_is_pending", MMX, 0, 0, true, EXC_MF },
	{ "emms_reports_what_is_pending", EMMS, 0, 0, true, EXC_MF },
	{ "ud_of_a_shift_comes_before_what_is_pending", BAD_SHIFT, 0, 0, true,
	    EXC_UD },
	{ "ud_of_a_shift_comes_before_nm", BAD_SHIFT, CR0_TS, 0, false,
	    EXC_UD },
	{ "ud_of_an_sse_shift_comes_before_nm", BAD_SSE_SHIFT, CR0_TS, 0, false,
	    EXC_UD },
	{ "mmx_needs_no_osfxsr", MMX, 0, CR4_OSFXSR, false, NO_EXC },
	{ "sse_with_em_is_ud", SSE, CR0_EM, 0, false, EXC_UD },
	{ "sse_with_ts_is_nm", SSE, CR0_TS, 0, false, EXC_NM },
	{ "sse_without_osfxsr_is_ud", SSE, 0, CR4_OSFXSR, false, EXC_UD },
	{ "sse_does_not_care_for_the_x87", SSE, 0, 0, true, NO_EXC },
	{ "fxsave_with_em_is_nm", FXSAVE, CR0_EM, 0, false, EXC_NM },
	{ "fxsave_does_not_wait", FXSAVE, 0, 0, true, NO_EXC },
	{ "ldmxcsr_refuses_reserved_bits", LDMXCSR, 0, 0, false, EXC_GP },
	{ "ldmxcsr_without_osfxsr_is_ud", LDMXCSR, 0, CR4_OSFXSR, false,
	    EXC_UD },
};

static int
run_unit(enum unit unit)
{
	switch (unit) {
	case X87:
		return run_x87(0xd9, 0xe8, 4); /* fld1 */
	case FNINIT:
		return run_x87(0xdb, 0xe3, 4);
	case MMX:
		return run_0f(0xfc, 0, 0xc0);
	case EMMS:
		return run_0f(0x77, 0, 0xc0);
	case BAD_SHIFT:
		return run_0f(0x71, 0, 0xc8);
	case BAD_SSE_SHIFT:
		return run_0f(0x72, 1, 0xc8);
	case SSE:
		return run_0f(0x58, 0, 0xc0);
	case FXSAVE:
		return run_0f(0xae, 0, 0x05);
	case LDMXCSR:
	default:
		return run_0f(0xae, 0, 0x15);
	}
}

static void
control_bits_gate_the_units(void)
{
	unsigned n;

	for (n = 0; n < ARRAY_LEN(gates); n++) {
		int vector;

		reset();
		cpu->cr0 |= gates[n].cr0;
		cpu->cr4 &= ~gates[n].cr4_off;
		if (gates[n].pending) {
			cpu->x87.cw &= (uint16_t)~FX_ZE;
			cpu->x87.sw |= FX_ZE;
			x87_summarize(&cpu->x87);
		}
		vector = run_unit(gates[n].unit);
		if (vector != gates[n].vector || went_on != (vector == NO_EXC))
			printf("\n  %s: vector %d", gates[n].claim, vector);
		CU_ASSERT(vector == gates[n].vector);
		CU_ASSERT(went_on == (vector == NO_EXC));
	}
}

static void
without_ne_a_pending_exception_is_nobodys(void)
{
	reset();
	cpu->cr0 &= ~(uint64_t)CR0_NE;
	cpu->x87.cw &= (uint16_t)~FX_ZE;
	cpu->x87.sw |= FX_ZE;
	x87_summarize(&cpu->x87);
	CU_ASSERT(run_x87(0xd9, 0xe8, 4) == NO_EXC);
}

static void
simd_exception_without_osxmmexcpt_is_ud(void)
{
	static const uint64_t off[] = { 0, CR4_OSXMMEXCPT };
	unsigned n;

	for (n = 0; n < 2; n++) {
		reset();
		cpu->cr4 &= ~off[n];
		cpu->mxcsr &= ~((uint32_t)FX_ZE << MXCSR_MASKS_SHIFT);
		cpu->v[0].d[0] = 0x3f800000;
		cpu->v[1].d[0] = 0;
		CU_ASSERT(run_0f(0x5e, 2, 0xc1) == (n ? EXC_UD : EXC_XM));
		CU_ASSERT(cpu->v[0].d[0] == 0x3f800000);
		CU_ASSERT((cpu->mxcsr & MXCSR_FLAGS) == FX_ZE);
	}
}

/* Two single numbers each, as bits. */
static const struct {
	const char *claim;
	unsigned opcode;
	uint32_t a, b, unmasked, flags;
} limits[] = {
	{ "exact_overflow", 0x59, 0x7f000000, 0x7f000000, FX_OE, FX_OE },
	{ "inexact_overflow", 0x59, 0x7f000001, 0x7f000001, FX_OE,
	    FX_OE | FX_PE },
	{ "masked_overflow_is_inexact", 0x59, 0x7f000000, 0x7f000000, FX_ZE,
	    FX_OE | FX_PE },
	{ "exact_underflow", 0x5e, 0x00800000, 0x40000000, FX_UE, FX_UE },
	{ "underflow_that_fits_a_wider_exponent", 0x59, 0x00800001, 0x3f000000,
	    FX_UE, FX_UE },
	{ "inexact_underflow", 0x59, 0x00800001, 0x3f000001, FX_UE,
	    FX_UE | FX_PE },
	{ "difference_overflows", 0x5c, 0x7f7fffff, 0xff7fffff, FX_OE, FX_OE },
	{ "sum_overflows", 0x58, 0x7f7fffff, 0x7f7fffff, FX_OE, FX_OE },
};

static void
inexact_is_told_as_if_the_exponent_had_no_limit(void)
{
	unsigned n, packed;

	for (n = 0; n < 2 * ARRAY_LEN(limits); n++) {
		unsigned k = n / 2;
		int vector;

		packed = n & 1;
		reset();
		cpu->mxcsr &= ~(limits[k].unmasked << MXCSR_MASKS_SHIFT);
		cpu->v[0].d[2 * packed] = limits[k].a;
		cpu->v[1].d[2 * packed] = limits[k].b;
		vector = limits[k].flags & limits[k].unmasked ? EXC_XM : NO_EXC;
		for (unsigned m = 0; m < 4; m++)
			if (m != 2 * packed) {
				cpu->v[0].d[m] = 0;
				cpu->v[1].d[m] = 0x3f800000;
			}
		CU_ASSERT(
		    run_0f(limits[k].opcode, packed ? 0 : 2, 0xc1) == vector);
		if ((cpu->mxcsr & MXCSR_FLAGS) != limits[k].flags)
			printf("\n  %s: flags %x", limits[k].claim,
			    cpu->mxcsr & MXCSR_FLAGS);
		CU_ASSERT((cpu->mxcsr & MXCSR_FLAGS) == limits[k].flags);
	}
}

/* The environment's words at these offsets. */
static const struct {
	const char *claim;
	bool real;
	unsigned opsize;
	uint32_t words[7]; /* or half as many of 32 bits */
} formats[] = {
	{ "protected_32", false, 4,
	    { 0xffff037f, 0xffff0000, 0xffffffff, 0x54321, 0x01230008, 0x98765,
		0xffff0010 } },
	{ "protected_16", false, 2,
	    { 0x0000037f, 0x4321ffff, 0x87650008, 0xaaaa0010 } },
	{ "real_32", true, 4,
	    { 0xffff037f, 0xffff0000, 0xffffffff, 0xffff43a1, 0x00005123,
		0xffff8865, 0x00009000 } },
	{ "real_16", true, 2,
	    { 0x0000037f, 0x43a1ffff, 0x88655123, 0xaaaa9000 } },
};

static void
environment_has_four_formats(void)
{
	unsigned n, k;

	for (n = 0; n < ARRAY_LEN(formats); n++) {
		unsigned words = formats[n].opsize == 2 ? 4 : 7;

		reset();
		if (formats[n].real)
			cpu->cr0 &= ~(uint64_t)CR0_PE;
		cpu->x87.fip = 0x54321;
		cpu->x87.fdp = 0x98765;
		cpu->x87.fcs = 8;
		cpu->x87.fds = 16;
		cpu->x87.fop = 0x123;
		CU_ASSERT(run_x87(0xd9, 0x35, formats[n].opsize) == NO_EXC);
		for (k = 0; k < words; k++) {
			if (mem32(4 * k) != formats[n].words[k])
				printf("\n  %s: word %u is %08x",
				    formats[n].claim, k, mem32(4 * k));
			CU_ASSERT(mem32(4 * k) == formats[n].words[k]);
		}
		/* It masks all exceptions, and comes back. */
		cpu->x87.cw = 0;
		CU_ASSERT(run_x87(0xd9, 0x25, formats[n].opsize) == NO_EXC);
		CU_ASSERT(cpu->x87.cw == X87_CW_INIT);
		CU_ASSERT(cpu->x87.empty == 0xff);
	}
}

static void
fxsave_of_32_bits_has_eight_registers(void)
{
	unsigned n;

	reset();
	for (n = 0; n < 16; n++)
		cpu->v[n].q[0] = cpu->v[n].q[1] = n;
	CU_ASSERT(run_0f(0xae, 0, 0x05) == NO_EXC);
	for (n = 0; n < 8; n++)
		CU_ASSERT(mem32(160 + 16 * n) == n);
	for (n = 288; n < 512; n += 4)
		CU_ASSERT(mem32(n) == 0xaaaaaaaa);
}

static void
fxsave_without_osfxsr_is_the_x87_alone(void)
{
	reset();
	cpu->cr4 &= ~(uint64_t)CR4_OSFXSR;
	CU_ASSERT(run_0f(0xae, 0, 0x05) == NO_EXC);
	CU_ASSERT(mem32(0) == X87_CW_INIT);
	CU_ASSERT(mem32(160) == 0xaaaaaaaa);
}

static void
saved_image_comes_back(void)
{
	uint8_t image[512], again[512];
	unsigned n;

	reset();
	for (n = 0; n < 16; n++)
		cpu->v[n].q[0] = 0x1111111111111111u * n;
	CU_ASSERT(run_x87(0xd9, 0xeb, 4) == NO_EXC); /* fldpi */
	cpu->mxcsr = 0x1fa1;
	fp_image_get(cpu, image);
	reset();
	fp_image_set(cpu, image);
	fp_image_get(cpu, again);
	CU_ASSERT(!memcmp(image, again, sizeof(image)));
	CU_ASSERT(cpu->x87.empty == 0x7f);
	CU_ASSERT(cpu->x87.fip == 0x1000);
}

static void
mmx_is_the_x87s_mantissas(void)
{
	reset();
	cpu->v[0].q[0] = 0x0123456789abcdef;
	CU_ASSERT(run_0f(0xd6, 3, 0xc8) == NO_EXC); /* movdq2q mm1, xmm0 */
	CU_ASSERT(cpu->x87.empty == 0);
	CU_ASSERT(mm_get(cpu, 1) == 0x0123456789abcdef);
	CU_ASSERT(((uint16_t *)(void *)&cpu->x87.st[1])[4] == 0xffff);
	CU_ASSERT(run_0f(0x77, 0, 0) == NO_EXC); /* emms */
	CU_ASSERT(cpu->x87.empty == 0xff);
}

#define TEST(name)          \
	{                   \
#name, name \
	}
static const struct {
	const char *name;
	CU_TestFunc fn;
} tests[] = {
	TEST(control_bits_gate_the_units),
	TEST(without_ne_a_pending_exception_is_nobodys),
	TEST(simd_exception_without_osxmmexcpt_is_ud),
	TEST(inexact_is_told_as_if_the_exponent_had_no_limit),
	TEST(environment_has_four_formats),
	TEST(fxsave_of_32_bits_has_eight_registers),
	TEST(fxsave_without_osfxsr_is_the_x87_alone),
	TEST(saved_image_comes_back),
	TEST(mmx_is_the_x87s_mantissas),
};

int
main(void)
{
	CU_pSuite suite;
	unsigned n, failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite("soft fp", suite_init, suite_clean);
	for (n = 0; n < ARRAY_LEN(tests); n++)
		CU_add_test(suite, tests[n].name, tests[n].fn);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	if (CU_get_error() != CUE_SUCCESS)
		failed++;
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
