/*
 * The software processor's side: a machine in long mode with the same linear
 * addresses, whose exception handlers write to a port each and so end the run
 * with the vector and the stack frame.
 */
#ifndef TESTS_DIFFTEST_SOFT_H
#define TESTS_DIFFTEST_SOFT_H

#include <sys/mman.h>

#include "hypervisor/hypervisor.h"
#include "hypervisor/soft/block.h"
#include "hypervisor/soft/cpu.h"
#include "hypervisor/soft/fp_ops.h"
#include "hypervisor/soft/machine.h"
#include "tests/difftest.h"

#define RAM_SIZE   0x200000u
#define KERNEL	   0xffff800000000000u /* RAM, for the supervisor */
#define PML4_AT	   0x1000u
#define PDPT_LOW   0x2000u
#define PDPT_HIGH  0x3000u
#define PD_LOW	   0x4000u
#define PD_HIGH	   0x5000u
#define PT_CODE	   0x6000u
#define PT_SCRATCH 0x7000u
#define GDT_AT	   0x8000u
#define IDT_AT	   0x9000u
#define TSS_AT	   0xa000u
#define STUBS_AT   0xb000u
#define STACK_TOP  0xd000u
#define CODE_AT	   0x100000u
#define SCRATCH_AT 0x180000u
#define PORT	   0x80u /* + vector */

#define PTE_P	   1u
#define PTE_W	   2u
#define PTE_U	   4u
#define PTE_PS	   128u
#define PTE_NX	   ((uint64_t)1 << 63)

struct soft {
	struct hv_partition *p;
	struct hv_vcpu *v;
	struct cpu *c; /* the same: a vCPU begins with it */
	struct hv_handler handler;
	uint8_t *ram;
	int vector; /* of the exception that ended the run; -1: none */
};

static void
put64(struct soft *s, uint32_t at, uint64_t v)
{
	memcpy(s->ram + at, &v, 8);
}

static uint64_t
get64(const struct soft *s, uint32_t at)
{
	uint64_t v;

	memcpy(&v, s->ram + at, 8);
	return v;
}

static void
soft_access(void *ctx, struct hv_access *a)
{
	struct soft *s = ctx;

	if (a->space != HV_PIO || !a->write || a->addr < PORT ||
	    a->addr >= PORT + 32)
		return;
	s->vector = (int)(a->addr - PORT);
	hv_soft.vcpu_kick(s->v);
}

static void
soft_page_tables(struct soft *s)
{
	uint32_t n;

	put64(s, PML4_AT, PDPT_LOW | PTE_P | PTE_W | PTE_U);
	put64(s, PML4_AT + 8 * 256, PDPT_HIGH | PTE_P | PTE_W);
	put64(s, PDPT_LOW, PD_LOW | PTE_P | PTE_W | PTE_U);
	put64(s, PDPT_HIGH, PD_HIGH | PTE_P | PTE_W);
	put64(s, PD_HIGH, PTE_PS | PTE_P | PTE_W);
	put64(
	    s, PD_LOW + 8 * (CODE_BASE >> 21), PT_CODE | PTE_P | PTE_W | PTE_U);
	put64(s, PD_LOW + 8 * (SCRATCH_BASE >> 21),
	    PT_SCRATCH | PTE_P | PTE_W | PTE_U);
	for (n = 0; n < CODE_SIZE / PAGE; n++)
		put64(s, PT_CODE + 8 * n, (CODE_AT + n * PAGE) | PTE_P | PTE_U);
	for (n = 0; n < SCRATCH_SIZE / PAGE + 1; n++)
		put64(s, PT_SCRATCH + 8 * n,
		    (SCRATCH_AT + n * PAGE) | PTE_P | PTE_U | PTE_NX |
			(n < SCRATCH_SIZE / PAGE ? PTE_W : 0));
}

static void
soft_tables(struct soft *s)
{
	static const uint64_t gdt[] = { 0, 0, 0x00209b0000000000,
		0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff,
		0x0020fb0000000000 };
	const uint64_t tss = KERNEL + TSS_AT;
	uint32_t n;

	memcpy(s->ram + GDT_AT, gdt, sizeof(gdt));
	put64(s, GDT_AT + 0x40,
	    0x67 | (tss & 0xffffff) << 16 | (uint64_t)0x8b << 40 |
		(tss >> 24 & 0xff) << 56);
	put64(s, GDT_AT + 0x48, tss >> 32);
	put64(s, TSS_AT + 4, KERNEL + STACK_TOP);
	s->ram[TSS_AT + 102] = 0x68; /* no I/O bitmap */
	for (n = 0; n < 32; n++) {
		uint64_t to = KERNEL + STUBS_AT + 16 * n;
		/* Breakpoint and overflow may be called from user mode. */
		uint64_t type = n == 3 || n == 4 ? 0xee : 0x8e;
		const uint8_t stub[] = { 0xe6, (uint8_t)(PORT + n), 0xeb,
			0xfe };

		put64(s, IDT_AT + 16 * n,
		    (to & 0xffff) | (uint64_t)0x10 << 16 | type << 40 |
			(to >> 16 & 0xffff) << 48);
		put64(s, IDT_AT + 16 * n + 8, to >> 32);
		memcpy(s->ram + STUBS_AT + 16 * n, stub, sizeof(stub));
	}
}

static struct seg
soft_segment(uint16_t sel, uint16_t attr, uint64_t base)
{
	return (struct seg){
		.base = base, .limit = 0xffffffff, .sel = sel, .attr = attr
	};
}

static int
soft_create(struct soft *s, const uint8_t *base)
{
	const struct hv_config config = { .vcpus = 1 };
	struct cpu *c;
	int err;

	s->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->ram == MAP_FAILED)
		return -errno;
	err = hv_soft.partition_create(&config, &s->p);
	if (err)
		return err;
	err = hv_soft.memory_set(s->p, 0, 0, RAM_SIZE, s->ram, 0);
	if (err)
		return err;
	err = hv_soft.vcpu_create(s->p, 0, &s->v);
	if (err)
		return err;
	s->handler = (struct hv_handler){ .access = soft_access, .ctx = s };
	s->c = c = (struct cpu *)s->v;
	soft_page_tables(s);
	soft_tables(s);
	memcpy(s->ram + SCRATCH_AT, base, SCRATCH_SIZE + PAGE);
	c->cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_AM | CR0_PG | 16;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	c->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	c->cr3 = PML4_AT;
	c->gdt_base = KERNEL + GDT_AT;
	c->gdt_limit = 0x4f;
	c->idt_base = KERNEL + IDT_AT;
	c->idt_limit = 16 * 32 - 1;
	c->tr = soft_segment(0x40, 0x8b, KERNEL + TSS_AT);
	c->tr.limit = 0x67;
	return 0;
}

/* Enter user mode: what an exception's delivery changed. */
static void
soft_user(struct cpu *c)
{
	c->seg[CS] = soft_segment(USER_CS, 0xa0fb, 0);
	c->seg[SS] = soft_segment(USER_SS, 0xc0f3, 0);
	c->seg[DS] = c->seg[ES] = (struct seg){ 0 };
	c->seg[FS] = (struct seg){ .base = FS_BASE };
	c->seg[GS] = (struct seg){ .base = GS_BASE };
	c->cpl = 3;
	cpu_mode_changed(c);
	c->shadow = false;
	c->halted = false;
}

/* The code of a batch has been replaced. */
static void
soft_code(struct soft *s, const uint8_t *code)
{
	memcpy(s->ram + CODE_AT, code, CODE_SIZE);
	tlb_flush(s->c, true);
	block_flush(s->c);
}

static bool
has_error_code(int vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

/* vector 255: the processor stopped, 254: the run ended for no reason. */
static void
soft_run(
    struct soft *s, const struct job *j, const uint8_t *base, struct outcome *o)
{
	struct cpu *c = s->c;
	uint64_t rip = j->rip, rflags = j->rflags | FL_TF;
	uint32_t frame, steps = 0;
	enum hv_stop stop;

	memcpy(c->reg, j->gpr, sizeof(j->gpr));
	fp_image_set(c, j->fx);
	c->cr2 = 0;
	do {
		c->rip = rip;
		flags_set(c, (uint32_t)rflags);
		soft_user(c);
		s->vector = -1;
		do {
			stop = hv_soft.vcpu_run(s->v, &s->handler);
		} while (stop == HV_STOP_KICKED && s->vector < 0);
		if (stop != HV_STOP_KICKED) {
			memset(o, 0, sizeof(*o));
			o->vector = stop == HV_STOP_SHUTDOWN ? 255 : 254;
			c->stopped = false;
			return;
		}
		frame = (uint32_t)(c->reg[RSP] - KERNEL);
		o->error = 0;
		if (has_error_code(s->vector)) {
			o->error = (uint32_t)get64(s, frame);
			frame += 8;
		}
		rip = get64(s, frame);
		rflags = get64(s, frame + 16);
		c->reg[RSP] = get64(s, frame + 24);
	} while (
	    j->rep && s->vector == 1 && rip == j->rip && ++steps < REP_STEPS);
	memcpy(o->gpr, c->reg, sizeof(o->gpr));
	o->rip = rip;
	o->rflags = (uint32_t)rflags;
	o->vector = (uint32_t)s->vector;
	o->cr2 = s->vector == 14 ? c->cr2 : 0;
	fp_image_get(c, o->fx);
	scratch_collect(s->ram + SCRATCH_AT, base, o);
}

#endif
