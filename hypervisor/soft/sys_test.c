/*
 * System instructions, exceptions and privilege, by guest programs that run on
 * the whole software processor.
 */
#include <CUnit/Basic.h>
#include <string.h>
#include <sys/mman.h>

#include "hypervisor/hypervisor.h"
#include "hypervisor/soft/sys_test_guest.h"
#include "proto/base.h"

#define MEM_SIZE  0x400000u
#define TRACE_MAX 64

extern const uint8_t g_ud[], g_int3[], g_noncanonical[], g_user_cli[],
    g_int_dpl[], g_cr[], g_msr[], g_pagefault[], g_double[], g_triple[],
    g_syscall[], g_user_io[], g_user_io_map[], g_lar[], g_compat[], g_popf[],
    g_gate[], g_seg[], g_cpuid[], g_ist[], g_smap[], g_tsd[], g_kvmclock[],
    g_rep_ins[], g_irq[], g_irq_hlt[], g_irq_popf[], g_step[], g32_sysenter[],
    g32_user[], g32_gate[], g32_task[], g32_fault[], g32_expand[], g16_int[],
    g16_to_long[];

enum start { REAL16, PROT32, LONG64 };

/* Expected values that are addresses: offsets from the program's start. */
#define AT(n)	     (1ull << 32 | (n))
#define END_OF_TRACE UINT64_MAX

struct program {
	const char *claim;
	const uint8_t *entry;
	enum start start;
	bool supervisor; /* the low 2 MiB are not the user's */
	enum hv_stop stop;
	uint64_t trace[24];
};

struct guest {
	uint8_t *mem;
	struct hv_partition *p;
	struct hv_vcpu *v;
	unsigned in, traced;
	uint32_t trace[TRACE_MAX];
};

static void
access_port(void *ctx, struct hv_access *a)
{
	struct guest *g = ctx;

	if (a->space != HV_PIO)
		return;
	if (a->addr == 0xf5 && a->write && g->traced < TRACE_MAX)
		g->trace[g->traced++] = (uint32_t)a->data;
	else if (a->addr == 0xf4 && a->write)
		hv_soft.vcpu_kick(g->v);
	else if (a->addr == 0x1f0 && !a->write)
		a->data = ++g->in;
}

static void
put(struct guest *g, uint32_t at, uint64_t v, unsigned size)
{
	memcpy(g->mem + at, &v, size);
}

static uint64_t
descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	    (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
	    (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static void
build_gdt(struct guest *g, enum start start)
{
	static const struct {
		unsigned sel, access, flags;
	} rows[] = {
		{ SEL_CODE64, 0x9b, 0xa },
		{ SEL_DATA, 0x93, 0xc },
		{ SEL_CODE32, 0x9b, 0xc },
		{ SEL_UCODE32, 0xfb, 0xc },
		{ SEL_UDATA, 0xf3, 0xc },
		{ SEL_UCODE64, 0xfb, 0xa },
		{ SEL_ABSENT, 0x1b, 0xa },
		{ SEL_RODATA, 0x91, 0xc },
		{ SEL_CODE16, 0x9b, 0 },
		{ SEL_DATA16, 0x93, 0 },
	};
	const uint8_t *gate = start == LONG64 ? guest_gate64 : guest_gate32;
	uint64_t target = GUEST_AT(gate);

	for (unsigned n = 0; n < ARRAY_LEN(rows); n++)
		put(g, GUEST_GDT + rows[n].sel,
		    descriptor(0, 0xfffff, rows[n].access, rows[n].flags), 8);
	put(g, GUEST_GDT + SEL_TSS, descriptor(GUEST_TSS, 0x87, 0x8b, 0), 8);
	put(g, GUEST_GDT + SEL_TSS2, descriptor(GUEST_TSS2, 0x67, 0x89, 0), 8);
	put(g, GUEST_GDT + SEL_GATE,
	    (target & 0xffff) | (target >> 16) << 48 | 0xecull << 40 |
		(start == LONG64 ? (uint64_t)SEL_CODE64 << 16
				 : (uint64_t)SEL_CODE32 << 16 | 1ull << 32),
	    8);
}

static void
build_gate(struct guest *g, unsigned vector, uint32_t stub, bool wide,
    unsigned dpl, unsigned ist)
{
	uint64_t gate = (stub & 0xffff) | (uint64_t)(stub >> 16) << 48 |
	    (uint64_t)(0x8e | dpl << 5) << 40 | (uint64_t)ist << 32;

	gate |= (uint64_t)(wide ? SEL_CODE64 : SEL_CODE32) << 16;
	put(g, GUEST_IDT + vector * (wide ? 16 : 8), gate, 8);
}

static void
build_idt(struct guest *g, bool wide)
{
	uint32_t stubs = GUEST_AT(wide ? guest_stubs64 : guest_stubs32);

	for (unsigned n = 0; n < 32; n++)
		build_gate(
		    g, n, stubs + 16 * n, wide, n == 3 || n == 4 ? 3 : 0, 0);
	build_gate(g, 0x80, stubs + 16 * 32, wide, 3, 0);
	build_gate(g, 0x81, stubs + 16 * 33, wide, 0, 0);
	build_gate(g, 0x82, stubs + 16 * 34, wide, 3, wide ? 1 : 0);
}

static void
build_tss(struct guest *g, bool wide)
{
	put(g, GUEST_TSS + 0x66, 0x88, 2); /* no permission map */
	if (wide) {
		put(g, GUEST_TSS + 4, GUEST_RSP0, 8);
		put(g, GUEST_TSS + 36, GUEST_IST1, 8);
		return;
	}
	put(g, GUEST_TSS + 4, GUEST_RSP0, 4);
	put(g, GUEST_TSS + 8, SEL_DATA, 4);
	put(g, GUEST_TSS2 + 32, GUEST_AT(guest_task2), 4);
	put(g, GUEST_TSS2 + 36, 2, 4);
	put(g, GUEST_TSS2 + 52, 0xaa, 4); /* ebx */
	put(g, GUEST_TSS2 + 56, 0x9800, 4);
	for (unsigned n = 0; n < 6; n++)
		put(g, GUEST_TSS2 + 72 + 4 * n, n == 1 ? SEL_CODE32 : SEL_DATA,
		    4);
}

static void
build_paging(struct guest *g, bool supervisor)
{
	put(g, 0x1000, 0x2000 | 7, 8);
	put(g, 0x2000, 0x3000 | 7, 8);
	put(g, 0x3000, 0 | 0x83 | (supervisor ? 0 : 4), 8);
	put(g, 0x3008, 0x200000 | 0x87, 8);
}

static struct hv_segment
flat(unsigned sel, unsigned attr)
{
	return (struct hv_segment){
		.limit = UINT32_MAX,
		.selector = (uint16_t)sel,
		.attr = (uint16_t)attr,
	};
}

static void
set_state(struct guest *g, const struct program *t)
{
	struct hv_vcpu_state *s = calloc(1, sizeof(*s));

	hv_vcpu_state_reset(s, 0);
	s->gpr[4] = GUEST_KSTACK;
	s->rip = GUEST_AT(t->entry);
	if (t->start == REAL16) {
		s->cs.base = GUEST_CODE;
		s->cs.selector = GUEST_CODE >> 4;
		s->rip -= GUEST_CODE;
	} else {
		s->cr0 = 0x10011;
		s->cs = flat(SEL_CODE32, 0xc09b);
		s->ss = s->ds = s->es = s->fs = s->gs = flat(SEL_DATA, 0xc093);
		s->gdtr.base = GUEST_GDT;
		s->gdtr.limit = 0x7f;
		s->idtr.base = GUEST_IDT;
		s->idtr.limit = 0xfff;
		s->tr = (struct hv_segment){
			.base = GUEST_TSS,
			.limit = 0x87,
			.selector = SEL_TSS,
			.attr = 0x8b,
		};
	}
	if (t->start == LONG64) {
		s->cs = flat(SEL_CODE64, 0xa09b);
		s->cr0 |= 1u << 31;
		s->cr3 = 0x1000;
		s->cr4 = 1u << 5;
		s->efer = 0x500;
	}
	CU_ASSERT_EQUAL(hv_soft.vcpu_set(g->v, s), 0);
	free(s);
}

static void
check_trace(const struct guest *g, const struct program *t)
{
	unsigned n;

	for (n = 0; n < ARRAY_LEN(t->trace) && t->trace[n] != END_OF_TRACE;
	     n++) {
		uint32_t want = (uint32_t)t->trace[n];

		if (t->trace[n] >> 32)
			want += GUEST_OFFSET(t->entry);
		if (n < g->traced && g->trace[n] != want)
			printf("\n%s: value %u: %#x, want %#x (entry %#x)",
			    t->claim, n, g->trace[n], want,
			    GUEST_OFFSET(t->entry));
		CU_ASSERT(n < g->traced && g->trace[n] == want);
	}
	if (g->traced != n)
		printf("\n%s: %u values, want %u", t->claim, g->traced, n);
	CU_ASSERT_EQUAL(g->traced, n);
}

static void
run_program(const struct program *t)
{
	const struct hv_config config = { .vcpus = 1 };
	struct guest g = { 0 };
	const struct hv_handler handler = { .access = access_port, .ctx = &g };
	enum hv_stop stop;

	g.mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(g.mem, MAP_FAILED);
	memcpy(g.mem + GUEST_CODE, guest_blob, GUEST_OFFSET(guest_blob_end));
	build_gdt(&g, t->start);
	build_idt(&g, t->start == LONG64);
	build_tss(&g, t->start == LONG64);
	build_paging(&g, t->supervisor);
	CU_ASSERT_EQUAL_FATAL(hv_soft.partition_create(&config, &g.p), 0);
	CU_ASSERT_EQUAL(hv_soft.memory_set(g.p, 0, 0, MEM_SIZE, g.mem, 0), 0);
	CU_ASSERT_EQUAL_FATAL(hv_soft.vcpu_create(g.p, 0, &g.v), 0);
	set_state(&g, t);
	stop = hv_soft.vcpu_run(g.v, &handler);
	if (stop != t->stop)
		printf("\n%s: stopped by %d: %s", t->claim, stop,
		    hv_soft.vcpu_error(g.v));
	CU_ASSERT_EQUAL(stop, t->stop);
	check_trace(&g, t);
	hv_soft.vcpu_destroy(g.v);
	hv_soft.partition_destroy(g.p);
	munmap(g.mem, MEM_SIZE);
}

#define EOT END_OF_TRACE
#define P(claim, entry, start, ...)                          \
	{                                                    \
#claim, entry, start, false, HV_STOP_KICKED, \
		{                                            \
			__VA_ARGS__, EOT                     \
		}                                            \
	}

static const struct program programs[] = {
	P(undefined_saves_own_address, g_ud, LONG64, 6, 0, AT(7), 8),
	P(int3_saves_next_address, g_int3, LONG64, 3, 0, AT(8), 8),
	P(noncanonical_is_gp_or_ss_by_base, g_noncanonical, LONG64, 13, 0,
	    AT(17), 8, 12, 0, AT(30), 8),
	P(cli_at_ring_3_is_gp, g_user_cli, LONG64, 13, 0, AT(31), 0x33, 0xb000),
	P(int_obeys_gate_dpl, g_int_dpl, LONG64, 13, 0x40a, AT(31), 0x33, 0x80,
	    0, AT(66), 0x33),
	P(control_registers_refuse_bad_values, g_cr, LONG64, 13, 0, AT(15), 8,
	    13, 0, AT(33), 8, 13, 0, AT(51), 8, 0, 6, 0, AT(88), 8),
	P(msrs_refuse_bad_values, g_msr, LONG64, 13, 0, AT(17), 8, 13, 0,
	    AT(31), 8, 0x22222000, 0x500),
	P(page_fault_reports_user_write, g_pagefault, LONG64, 14, 6, AT(36),
	    0x33, 0x500010),
	P(fault_in_fault_is_double_fault, g_double, LONG64, 8, 0, AT(20), 8),
	{ "no_idt_is_shutdown", g_triple, LONG64, false, HV_STOP_SHUTDOWN,
	    { EOT } },
	P(syscall_and_sysret_change_rings, g_syscall, LONG64, 0, 8, 6, 0,
	    AT(95), 0x33, 0x33, 0x2b, 0x200),
	P(ports_at_ring_3_need_permission, g_user_io, LONG64, 13, 0, AT(31),
	    0x33),
	P(permission_map_opens_single_ports, g_user_io_map, LONG64, 0x77, 13, 0,
	    AT(92), 0x33),
	P(lar_lsl_verr_see_what_they_may, g_lar, LONG64, 0xcff300, 1,
	    0xffffffff, 0, 1, 0),
	P(far_return_reaches_compatibility_mode, g_compat, LONG64, 0xffffffff,
	    8),
	P(popf_at_ring_3_keeps_if_and_iopl, g_popf, LONG64, 6, 0, AT(39), 0x33,
	    0x201),
	P(call_gate_changes_stack_and_back, g_gate, LONG64, 8, 0xb000, 6, 0,
	    AT(42), 0x33, 0x33, 0xb000),
	P(segment_loads_check_descriptors, g_seg, LONG64, 13, 0x58, AT(12), 8,
	    13, 0x28, AT(26), 8, 13, 0x60, AT(40), 8, 11, 0x58, AT(54), 8, 13,
	    0x300, AT(68), 8, 0),
	P(cpuid_names_vendor_and_hypervisor, g_cpuid, LONG64, 0x68747541,
	    0x4b4d564b, 0x20000000),
	P(interrupt_stack_table_switches, g_ist, LONG64, 0x82, 0, AT(9), 8,
	    0xcfb8),
	{ "smap_guards_user_pages", g_smap, LONG64, true, HV_STOP_KICKED,
	    { 14, 1, AT(18), 8, 7, EOT } },
	P(tsd_forbids_rdtsc_at_ring_3, g_tsd, LONG64, 13, 0, AT(44), 0x33),
	P(kvmclock_structure_is_whole, g_kvmclock, LONG64, 0, 1, 1),
	P(string_ports_move_elements, g_rep_ins, LONG64, 0, 0x8003, 0x30201, 3,
	    2, 1, 0x7fff),
	P(sti_holds_interrupts_one_instruction, g_irq, LONG64, 1, 0x80, 0,
	    AT(60), 8),
	P(hlt_wakes_by_interrupt, g_irq_hlt, LONG64, 0x80, 0, AT(49), 8),
	P(popf_opens_interrupts_at_once, g_irq_popf, LONG64, 0x80, 0, AT(53),
	    8),
	P(trap_flag_steps_one_instruction, g_step, LONG64, 1, 0, AT(17), 8,
	    0x4000),
	P(sysenter_and_sysexit_change_rings, g32_sysenter, PROT32, 0x9800, 0x18,
	    6, 0, AT(71), 0x2b, 0x33),
	P(int_from_ring_3_in_32_bits, g32_user, PROT32, 0x80, 0, AT(27), 0x23,
	    0x9000),
	P(null_segment_is_gp, g32_fault, PROT32, 13, 0, AT(9), 0x18),
	P(call_gate_copies_parameters, g32_gate, PROT32, 0x1234, 0x18, 6, 0,
	    AT(43), 0x23, 0xb000, 0x23),
	P(task_switch_and_return, g32_task, PROT32, 0xaa, 0x68, 0x4000, 0x55,
	    0x38),
	P(real_mode_interrupt_and_iret, g16_int, REAL16, 0, 0x1112, 0x200),
	P(real_mode_reaches_long_mode, g16_to_long, REAL16, 32, 0x500,
	    0x12345678),
};

static void
runs_guest_programs(void)
{
	for (unsigned n = 0; n < ARRAY_LEN(programs); n++)
		run_program(&programs[n]);
}

int
main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite("soft_sys", NULL, NULL);
	if (suite == NULL ||
	    CU_add_test(suite, "runs_guest_programs", runs_guest_programs) ==
		NULL)
		return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
