/*
 * The software x86-64 processor: the architectural state of one vCPU and the
 * contract between its parts.
 *
 *	decode.c   bytes -> struct insn, by opcode tables
 *	block.c    cache of decoded blocks, self-modifying code
 *	mmu.c      paging, software TLB, memory accessors
 *	int_*.c    integer instructions
 *	sys_*.c    segments, control registers, MSRs, CPUID, far transfers
 *	event.c    exceptions and interrupts
 *	debug.c    breakpoints
 *	fp_*.c     x87, MMX, SSE, SSE2
 *	lapic.c ioapic.c pic.c pit.c  the interrupt controllers and the timer
 *	machine.c  the backend: partition, vCPU threads, doorbells, irqfds
 *
 * Everything here runs on the vCPU's thread unless it says otherwise.
 */
#ifndef SOFT_CPU_H
#define SOFT_CPU_H

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervisor/hypervisor.h"
#include "proto/base.h"

struct cpu;
struct insn;
struct machine; /* machine.h: what all vCPUs share */

/*
 * An instruction's handler.  It ends with NEXT(c, i) to go on to the
 * instruction behind it in the block, or END(c) after having set c->rip (jumps,
 * anything that changes mode, mappings or interrupts).  It must not take the
 * address of a local that lives at NEXT: the compiler would lose the tail call.
 */
typedef void op_fn(struct cpu *c, const struct insn *i);
#define OP(name) void name(struct cpu *c, const struct insn *i)

enum reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R15 = 15 };
enum segment { ES, CS, SS, DS, FS, GS, SEG_COUNT };
/* In 64-bit code the decoder turns ES, CS, SS and DS of memory operands into
 * this one, whose base is always 0. */
#define SEG_FLAT SEG_COUNT

/* A decoded instruction. */
struct insn {
	op_fn *fn;
	uint64_t imm; /* immediate, sign-extended to 64 bits; second immediate
			 (enter, far pointer's selector) in imm2 */
	int32_t disp; /* of the memory operand */
	uint16_t imm2;
	uint16_t offset; /* of this instruction from the block's first byte */
	uint8_t len; /* 1 to 15 */
	uint8_t opcode; /* last opcode byte */
	uint8_t reg; /* ModRM.reg with REX.R: 0 to 15 */
	uint8_t rm; /* ModRM.rm with REX.B, or the register in the opcode */
	uint8_t base, index,
	    scale; /* memory operand: registers, or NO_REG; scale 0-3;
				       base RIP_REG: rip-relative */
	uint8_t seg; /* memory operand: enum segment, or SEG_FLAT */
	uint8_t opsize; /* operand size, bytes: 1, 2, 4, 8 */
	uint8_t addrsize; /* address size, bytes: 2, 4, 8 */
	uint8_t flags; /* enum insn_flags */
	uint8_t fast; /* memory operand: 64-bit addressing, where cpu_lin_fast()
			 gives the linear address (disp of a rip-relative one
			 counts from the block's start) */
	uint8_t breg, brm; /* byte registers reg and rm: offset in reg[] */
};
/* Indices, like those of reg[], into the words at the head of struct cpu. */
#define RIP_REG 16
#define NO_REG	17

enum insn_flags {
	INSN_MEM = 1, /* ModRM names memory, not a register */
	INSN_LOCK = 2, /* F0 */
	INSN_REPNE = 4, /* F2 */
	INSN_REP = 8, /* F3 */
	INSN_OPSIZE = 16, /* 66 */
	INSN_REX = 32, /* any REX: byte registers 4-7 are SPL.. DIL */
	INSN_REXW = 64,
	INSN_LAST = 128, /* the last of its block */
};

/* One row of an opcode table. */
struct opcode {
	op_fn *fn; /* NULL: #UD */
	uint16_t form; /* enum opcode_form bits */
	const char *name;
};

enum opcode_form {
	F_NONE = 0,
	F_MODRM = 1,
	F_IMM8 = 2, /* sign-extended 8-bit immediate */
	F_IMMZ = 4, /* 16 or 32 bits by operand size, sign-extended */
	F_IMM16 = 8,
	F_BYTE = 16, /* operand size is one byte */
	F_64 = 32, /* operand size defaults to 64 bits in long mode */
	F_LOCK = 64, /* LOCK is legal with a memory destination */
	F_END = 128, /* ends the block */
	F_MEMONLY = 256, /* #UD with a register operand */
	F_REGONLY = 512, /* #UD with a memory operand */
	F_IMMV = 1024, /* full-size immediate: 16, 32 or 64 bits */
	F_MOFFS = 2048, /* address-size displacement (mov al, moffs) */
	F_FARPTR = 4096, /* ptr16:16/32 */
	F_NO64 = 8192, /* #UD in 64-bit mode */
	F_NODISP = 16384,
	F_BRANCH = 32768, /* near branch: F_64, and imm2 counts instructions */
};

/*
 * The SIMD tables (fp_table.c): 0F xx by mandatory prefix: 0 none, 1 66,
 * 2 F3, 3 F2; and the groups 12, 13, 14 (0F 71-73) and 15 (0F AE) by
 * ModRM.reg inside their handlers.  The decoder asks these for every 0F xx
 * that its own table leaves NULL.
 */
extern const struct opcode simd_0f[256][4];
/* 0F 38 and 0F 3A: empty rows now; later extensions are rows, not surgery. */
extern const struct opcode simd_0f38[256][4];
extern const struct opcode simd_0f3a[256][4];
/* D8 to DF: by opcode & 7 and the whole ModRM byte. */
const struct opcode *x87_opcode(unsigned opcode, unsigned modrm);

struct seg {
	uint64_t base;
	uint32_t limit; /* bytes, granularity applied */
	uint16_t sel;
	uint16_t attr; /* as in struct hv_segment; 0: unusable (null) */
};

/* A vector register; laid out for 512 bits, of which SSE uses 128. */
union vreg {
	uint8_t b[64];
	uint16_t w[32];
	uint32_t d[16];
	uint64_t q[8];
	float ss[16];
	double sd[8];
};

struct x87 {
	long double st[8]; /* physical registers R0-R7; MMX = the mantissas */
	uint16_t cw, sw; /* TOP lives in sw */
	uint8_t empty; /* bit n: physical register n is empty */
	uint16_t fop, fcs, fds;
	uint64_t fip, fdp;
};

/* RFLAGS bits. */
#define FL_CF	       (1u << 0)
#define FL_PF	       (1u << 2)
#define FL_AF	       (1u << 4)
#define FL_ZF	       (1u << 6)
#define FL_SF	       (1u << 7)
#define FL_TF	       (1u << 8)
#define FL_IF	       (1u << 9)
#define FL_DF	       (1u << 10)
#define FL_OF	       (1u << 11)
#define FL_IOPL	       (3u << 12)
#define FL_NT	       (1u << 14)
#define FL_RF	       (1u << 16)
#define FL_VM	       (1u << 17)
#define FL_AC	       (1u << 18)
#define FL_ID	       (1u << 21)
#define FL_ARITH       (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

#define CR0_PE	       (1u << 0)
#define CR0_MP	       (1u << 1)
#define CR0_EM	       (1u << 2)
#define CR0_TS	       (1u << 3)
#define CR0_NE	       (1u << 5)
#define CR0_WP	       (1u << 16)
#define CR0_AM	       (1u << 18)
#define CR0_PG	       (1u << 31)
#define CR4_TSD	       (1u << 2)
#define CR4_DE	       (1u << 3)
#define CR4_PSE	       (1u << 4)
#define CR4_PAE	       (1u << 5)
#define CR4_PGE	       (1u << 7)
#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP       (1u << 11)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)
#define EFER_SCE       (1u << 0)
#define EFER_LME       (1u << 8)
#define EFER_LMA       (1u << 10)
#define EFER_NXE       (1u << 11)

enum vector {
	EXC_DE = 0,
	EXC_DB = 1,
	EXC_NMI = 2,
	EXC_BP = 3,
	EXC_OF = 4,
	EXC_BR = 5,
	EXC_UD = 6,
	EXC_NM = 7,
	EXC_DF = 8,
	EXC_TS = 10,
	EXC_NP = 11,
	EXC_SS = 12,
	EXC_GP = 13,
	EXC_PF = 14,
	EXC_MF = 16,
	EXC_AC = 17,
	EXC_XM = 19,
};

/* Lazy arithmetic flags: how the last instruction that set them left them.
 * int_flags.h has the rest; everybody else uses flags_get()/flags_set(). */
struct lazy_flags {
	uint64_t result, src1, src2;
	uint32_t op; /* 0: the flags stand in `arith` */
	uint32_t arith;
};

/* Physical address bits, as CPUID leaf 80000008h says. */
#define SOFT_PHYS_BITS 40

/* The software TLB: two ways of access (data by CPL class), see mmu.h. */
#define TLB_BITS 8
#define TLB_SIZE (1u << TLB_BITS)
struct tlb_entry {
	uint64_t read_tag, write_tag, exec_tag; /* page address */
	uintptr_t host; /* host address - linear page address */
	hv_gpa gpa;
};

/* What wants the vCPU's attention; bits of cpu.attention, set by any thread. */
enum attention {
	ATT_KICK = 1, /* leave vcpu_run() */
	ATT_IRQ = 2, /* LAPIC or PIC has an interrupt for us */
	ATT_NMI = 4,
	ATT_INIT = 8,
	ATT_SIPI = 16,
	ATT_TIMER = 32, /* the LAPIC timer or PIT is due */
	ATT_FLUSH = 64, /* memory slots changed: flush TLB and blocks */
	ATT_CODE = 128, /* block.c has mail about code pages (run.c's) */
	ATT_STEP = 256, /* stop behind one instruction (run.c's, this thread) */
};

struct cpu {
	uint64_t reg[16];
	uint64_t rip; /* of the block's start while a block runs */
	uint64_t zero; /* always 0: what NO_REG names */
	struct lazy_flags lf;
	uint32_t rflags; /* all but the arithmetic flags (which stand in lf) */
	uint8_t cpl;
	uint8_t mode; /* 2, 4 or 8: bytes of the code segment's size */
	bool shadow; /* interrupts are held for one instruction (sti, mov
			     ss) */
	bool halted;
	_Atomic uint32_t attention;
	uint8_t watch; /* enabled breakpoints on data or ports, by number */
	uint8_t debug_hits; /* of those, by the running instruction */

	struct seg seg[SEG_COUNT + 1], ldtr, tr; /* the last: SEG_FLAT */
	uint64_t gdt_base, idt_base;
	uint32_t gdt_limit, idt_limit;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer;
	uint64_t dr[8]; /* 7: by debug_set_dr7() */

	union vreg v[16];
	uint32_t mxcsr;
	struct x87 x87;

	uint64_t star, lstar, cstar, fmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, misc_enable;
	uint64_t mtrr_def, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	int64_t tsc_offset; /* guest TSC = machine's TSC + offset */
	uint64_t kvm_system_time, kvm_wall_clock; /* kvmclock MSRs */

	struct tlb_entry tlb[2][TLB_SIZE]; /* [user][page number] */
	struct tlb_entry *tlb_now; /* tlb[cpl == 3]: set where a block starts */

	/* While a block runs. */
	const struct insn *fault_insn; /* set before anything that may raise */
	jmp_buf *unwind; /* where cpu_raise() goes */
	/* What cpu_raise() leaves for the run loop, which sets rip to the
	 * address of fault_insn (if not NULL) and calls event_deliver(). */
	struct {
		bool has_error;
		uint8_t vector;
		uint32_t error;
	} raised;
	struct insn *link; /* row whose imm wants the next block's address */
	bool over; /* END() has been: for dispatch without tail calls */
	uint64_t insns; /* instructions done, roughly */
	/* icount.c: instructions done before the running block, its first row
	 * (NULL: none runs), the row before which it was left early, and the
	 * count from which on to look at the timers. */
	uint64_t icount, icount_due;
	const struct insn *icount_first, *icount_cut;

	struct machine *machine;
	struct lapic *lapic;
	struct block_cache *blocks;
	const struct hv_handler *handler;
	unsigned index;
	bool stopped; /* shutdown: triple fault */
	bool nmi_masked;
	uint8_t sipi_vector;
	uint8_t mp_state; /* enum hv_mp_state */
	char error[160];
};

/* ---- dispatch ---- */
#if defined(__OPTIMIZE__) && !defined(BULKHEAD_ASAN) && !defined(BULKHEAD_TSAN)
#define SOFT_TAIL_CALLS 1
#ifdef __clang__
#define NEXT(c, i) __attribute__((musttail)) return (i)[1].fn((c), (i) + 1)
#else
#define NEXT(c, i) return (i)[1].fn((c), (i) + 1)
#endif
#define END(c) return
#else
#define NEXT(c, i)         \
	do {               \
		(void)(c); \
		(void)(i); \
		return;    \
	} while (0)
#define END(c)                    \
	do {                      \
		(c)->over = true; \
		return;           \
	} while (0)
#endif
/* Every block ends with a row whose fn is op_block_end: it sets c->rip to the
 * address behind the block and returns to the run loop. */
OP(op_block_end);

/* The address of the instruction i of the running block, and behind it. */
static inline uint64_t
insn_ip(const struct cpu *c, const struct insn *i)
{
	return c->rip + i->offset;
}

static inline uint64_t
cpu_word(const struct cpu *c, unsigned n)
{
	return ((const uint64_t *)(const void *)c)[n];
}

static inline uint64_t
cpu_lin_fast(const struct cpu *c, const struct insn *i)
{
	return cpu_word(c, i->base) + (cpu_word(c, i->index) << i->scale) +
	    (uint64_t)(int64_t)i->disp + c->seg[i->seg].base;
}

static inline uint64_t
insn_next_ip(const struct cpu *c, const struct insn *i)
{
	uint64_t ip = c->rip + i->offset + i->len;

	return c->mode == 8 ? ip : c->mode == 4 ? (uint32_t)ip : (uint16_t)ip;
}

/* ---- flags (int_flags.c) ---- */
uint32_t flags_get(struct cpu *c); /* all of EFLAGS */
void flags_set_arith(struct cpu *c, uint32_t fl); /* the six, at once */
void flags_set(struct cpu *c, uint32_t eflags); /* all, no checks */

/* ---- exceptions (event.c) ---- */
/*
 * Raise: unwinds to the run loop, which delivers it with rip that of
 * c->fault_insn (nothing of the instruction may have been written yet).
 * c->fault_insn = i must be set before; the accessors below do it.
 */
NORETURN void cpu_raise(struct cpu *c, unsigned vector, uint32_t error);
NORETURN void cpu_raise_ud(struct cpu *c, const struct insn *i);
NORETURN void cpu_raise_gp(struct cpu *c, const struct insn *i, uint32_t error);
/* Page fault at lin: sets CR2. */
NORETURN void cpu_raise_pf(struct cpu *c, uint64_t lin, uint32_t error);

enum event_kind { EVENT_EXCEPTION, EVENT_INTERRUPT, EVENT_SOFT_INT, EVENT_NMI };
/*
 * Deliver through the IDT with c->rip the address to save.  Handles nested
 * faults: double fault, then c->stopped on a triple fault.
 */
void event_deliver(struct cpu *c, enum event_kind kind, unsigned vector,
    bool has_error, uint32_t error);
/* At a block's end with c->attention != 0: take INIT, SIPI, NMI or an
 * interrupt if the flags allow.  True: leave vcpu_run(). */
bool event_poll(struct cpu *c);
/* Recompute c->cpl, c->mode after a change of CS, CR0 or EFER, and flush what
 * depends on them. */
void cpu_mode_changed(struct cpu *c);
void cpu_reset(struct cpu *c, bool init); /* init: INIT#, else power-on */

/* ---- memory (mmu.c) ---- */
/* The linear address of i's memory operand + delta, segment base applied;
 * limits and canonical form checked for an access of size bytes. */
uint64_t
insn_lin(struct cpu *c, const struct insn *i, unsigned size, bool write);
/* The same of 16 bytes; #GP if not aligned. */
uint64_t insn_lin_a16(struct cpu *c, const struct insn *i, bool write);
/* The effective address alone (lea), truncated to the address size. */
uint64_t insn_ea(const struct cpu *c, const struct insn *i);
/* Linear address of seg:off, checked. */
uint64_t seg_lin(struct cpu *c, const struct insn *i, unsigned seg,
    uint64_t off, unsigned size, bool write);

/* At the current privilege.  Raise #PF; reach MMIO through the handler. */
uint8_t mem_read8(struct cpu *c, const struct insn *i, uint64_t lin);
uint16_t mem_read16(struct cpu *c, const struct insn *i, uint64_t lin);
uint32_t mem_read32(struct cpu *c, const struct insn *i, uint64_t lin);
uint64_t mem_read64(struct cpu *c, const struct insn *i, uint64_t lin);
void mem_write8(struct cpu *c, const struct insn *i, uint64_t lin, uint8_t v);
void mem_write16(struct cpu *c, const struct insn *i, uint64_t lin, uint16_t v);
void mem_write32(struct cpu *c, const struct insn *i, uint64_t lin, uint32_t v);
void mem_write64(struct cpu *c, const struct insn *i, uint64_t lin, uint64_t v);
/* Any size, 1 to 512 bytes; a write checks the whole range before it writes
 * any of it. */
void mem_read(struct cpu *c, const struct insn *i, uint64_t lin, void *buf,
    unsigned size);
void mem_write(struct cpu *c, const struct insn *i, uint64_t lin,
    const void *buf, unsigned size);
/* Raise #PF now if [lin, lin + size) could not be written. */
void mem_probe_write(
    struct cpu *c, const struct insn *i, uint64_t lin, unsigned size);
/* As the supervisor, whatever CPL is: descriptor tables, TSS, IDT.  i may be
 * NULL (delivery of an event). */
void sys_read(struct cpu *c, const struct insn *i, uint64_t lin, void *buf,
    unsigned size);
void sys_write(struct cpu *c, const struct insn *i, uint64_t lin,
    const void *buf, unsigned size);
void tlb_flush(struct cpu *c, bool global_too);
void tlb_flush_page(struct cpu *c, uint64_t lin);
/* Physical memory; MMIO through the handler (LAPIC and IOAPIC inside). */
void phys_read(struct cpu *c, hv_gpa gpa, void *buf, unsigned size);
void phys_write(struct cpu *c, hv_gpa gpa, const void *buf, unsigned size);

/* ---- byte registers ---- */
static inline uint8_t
reg8_get(const struct cpu *c, const struct insn *i, unsigned r)
{
	if (!(i->flags & INSN_REX) && r >= 4 && r < 8)
		return (uint8_t)(c->reg[r - 4] >> 8);
	return (uint8_t)c->reg[r];
}

/* ---- the run loop (run.c) ---- */
enum hv_stop cpu_run(struct cpu *c);

/* ---- system instructions (sys_*.c), rows of the core's opcode tables ---- */
OP(op_mov_sreg_load); /* 8E */
OP(op_mov_sreg_store); /* 8C */
OP(op_pop_sreg); /* 07 17 1F, 0F A1, 0F A9: segment in i->reg */
OP(op_push_sreg); /* 06 0E 16 1E, 0F A0, 0F A8 */
OP(op_lds); /* C4 C5 0F B2 B4 B5: segment in i->imm2 */
OP(op_jmp_far); /* EA: imm, imm2 */
OP(op_call_far); /* 9A */
OP(op_jmp_far_mem); /* FF /5 */
OP(op_call_far_mem); /* FF /3 */
OP(op_retf); /* CB, CA: imm */
OP(op_iret);
OP(op_int3);
OP(op_int); /* CD: imm */
OP(op_into);
OP(op_int1); /* F1 */
OP(op_syscall);
OP(op_sysret);
OP(op_sysenter);
OP(op_sysexit);
OP(op_hlt);
OP(op_cli);
OP(op_sti);
OP(op_pushf);
OP(op_popf);
OP(op_mov_cr_load); /* 0F 22 */
OP(op_mov_cr_store); /* 0F 20 */
OP(op_mov_dr_load); /* 0F 23 */
OP(op_mov_dr_store); /* 0F 21 */
OP(op_clts);
OP(op_group6); /* 0F 00: sldt str lldt ltr verr verw */
OP(op_group7); /* 0F 01: sgdt sidt lgdt lidt smsw lmsw invlpg swapgs rdtscp
		  clac stac */
OP(op_lar);
OP(op_lsl);
OP(op_arpl);
OP(op_rdmsr);
OP(op_wrmsr);
OP(op_rdtsc);
OP(op_rdpmc);
OP(op_cpuid);
OP(op_invd);
OP(op_wbinvd);
OP(op_in); /* E4 E5 (imm8), EC ED (dx: i->imm2 = 1) */
OP(op_out); /* E6 E7, EE EF */
OP(op_ins); /* 6C 6D, with rep */
OP(op_outs);

#endif
