/* Model-specific registers and the guest's paravirtual clock. */
#include <errno.h>
#include <string.h>

#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/sys_ctl.h"
#include "hypervisor/soft/sys_seg.h"

enum msr {
	MSR_TSC = 0x10,
	MSR_APIC_BASE = 0x1b,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48,
	MSR_MICROCODE = 0x8b,
	MSR_MTRR_CAP = 0xfe,
	MSR_ARCH_CAPABILITIES = 0x10a,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_DEBUGCTL = 0x1d9,
	MSR_MTRR_PHYS = 0x200,
	MSR_MTRR_PHYS_LAST = 0x20f,
	MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
	MSR_KVM_WALL_CLOCK = 0x4b564d00,
	MSR_KVM_SYSTEM_TIME = 0x4b564d01,
	MSR_EFER = (int)0xc0000080,
	MSR_STAR = (int)0xc0000081,
	MSR_LSTAR = (int)0xc0000082,
	MSR_CSTAR = (int)0xc0000083,
	MSR_FMASK = (int)0xc0000084,
	MSR_FS_BASE = (int)0xc0000100,
	MSR_GS_BASE = (int)0xc0000101,
	MSR_KERNEL_GS_BASE = (int)0xc0000102,
	MSR_TSC_AUX = (int)0xc0000103,
	MSR_SYSCFG = (int)0xc0010010,
	MSR_HWCR = (int)0xc0010015,
	MSR_TOP_MEM = (int)0xc001001a,
	MSR_TOP_MEM2 = (int)0xc001001d,
	MSR_PATCH_LOADER = (int)0xc0010020,
	MSR_INT_PENDING = (int)0xc0010055,
	MSR_DE_CFG = (int)0xc0011029,
};

#define EFER_ALL   (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define PHYS_MASK  ((1ull << SOFT_PHYS_BITS) - 1)
#define MTRR_CAP   0x508u /* 8 variable, fixed, write-combining */
#define CLOCK_BIT0 1u

/*
 * RDCL_NO, IBRS_ALL, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO,
 * SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO: this
 * processor does not speculate.
 */
#define ARCH_CAPABILITIES                                                      \
	(1u << 0 | 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | \
	    1u << 13 | 1u << 14 | 1u << 15 | 1u << 20 | 1u << 24 | 1u << 26 |  \
	    1u << 27)

/* The layout of KVM's clock structures, guest ABI. */
struct pvclock_time {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad2[2];
};
#define PVCLOCK_STABLE 1u

struct pvclock_wall {
	uint32_t version, sec, nsec;
};

/* The fixed-range MTRR's index, or -1. */
static int
mtrr_fixed(uint32_t msr)
{
	if (msr == MSR_MTRR_FIX64K)
		return 0;
	if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
		return (int)(1 + msr - MSR_MTRR_FIX16K);
	if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
		return (int)(3 + msr - MSR_MTRR_FIX4K);
	return -1;
}

/* UC, WC, WT, WP, WB; uc_minus: PAT's seventh. */
static bool
memory_type_ok(unsigned type, bool uc_minus)
{
	return type == 0 || type == 1 || (type >= 4 && type <= 6) ||
	    (uc_minus && type == 7);
}

static bool
memory_types_ok(uint64_t v, bool uc_minus)
{
	unsigned n;

	for (n = 0; n < 8; n++)
		if (!memory_type_ok((v >> (8 * n)) & 0xff, uc_minus))
			return false;
	return true;
}

/* Nanoseconds = (ticks shifted by tsc_shift) * mul / 2^32. */
static void
clock_scale(uint32_t khz, struct pvclock_time *t)
{
	uint64_t ns = 1000000, ticks = khz; /* in a millisecond */

	t->tsc_shift = 0;
	while (ns >= ticks) {
		ticks *= 2;
		t->tsc_shift++;
	}
	while (ns * 2 < ticks) {
		ns *= 2;
		t->tsc_shift--;
	}
	t->tsc_to_system_mul = (uint32_t)((ns << 32) / ticks);
}

/* The guest's time since the machine's TSC was 0, as its kvmclock counts. */
static uint64_t
clock_ns(struct cpu *c)
{
	struct pvclock_time t = { 0 };
	uint64_t tsc = machine_tsc(c->machine);

	clock_scale(machine_tsc_khz(c->machine), &t);
	tsc = t.tsc_shift < 0 ? tsc >> -t.tsc_shift : tsc << t.tsc_shift;
	return (uint64_t)(((unsigned __int128)tsc * t.tsc_to_system_mul) >> 32);
}

/*
 * Version is odd while the rest changes.  Every vCPU's clock counts from the
 * machine's TSC 0, so that all agree to the tick (the stable flag).
 */
static void
system_time_write(struct cpu *c, uint64_t v)
{
	hv_gpa gpa = v & ~(uint64_t)CLOCK_BIT0;
	struct pvclock_time t = {
		.tsc_timestamp = (uint64_t)c->tsc_offset,
		.flags = PVCLOCK_STABLE,
	};
	uint32_t version;

	c->kvm_system_time = v;
	if (!(v & CLOCK_BIT0))
		return;
	clock_scale(machine_tsc_khz(c->machine), &t);
	phys_read(c, gpa, &version, sizeof(version));
	version = (version | 1) + 2;
	t.version = version;
	phys_write(c, gpa, &t.version, sizeof(t.version));
	atomic_thread_fence(memory_order_release);
	phys_write(c, gpa, &t, sizeof(t));
	atomic_thread_fence(memory_order_release);
	version++;
	phys_write(c, gpa, &version, sizeof(version));
}

static void
wall_clock_write(struct cpu *c, uint64_t v)
{
	struct timespec now;
	struct pvclock_wall w;
	uint64_t ns;

	c->kvm_wall_clock = v;
	if (v == 0)
		return;
	if (machine_counts(c->machine)) {
		ns = ICOUNT_EPOCH_NS;
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		ns = (uint64_t)now.tv_sec * 1000000000u +
		    (uint64_t)now.tv_nsec - clock_ns(c);
	}
	phys_read(c, v, &w.version, sizeof(w.version));
	w.version = (w.version | 1) + 2;
	w.sec = (uint32_t)(ns / 1000000000u);
	w.nsec = (uint32_t)(ns % 1000000000u);
	phys_write(c, v, &w, sizeof(w));
	w.version++;
	phys_write(c, v, &w.version, sizeof(w.version));
}

static int
efer_write(struct cpu *c, uint64_t v)
{
	uint64_t changed;

	if (v & ~(uint64_t)EFER_ALL)
		return -EINVAL;
	/* LMA follows LME and paging: the write does not change it. */
	v = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
	changed = c->efer ^ v;
	if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
		return -EINVAL;
	c->efer = v;
	if (changed & EFER_NXE)
		tlb_flush(c, true);
	return 0;
}

static int
address_write(uint64_t *reg, uint64_t v)
{
	if (!canonical(v))
		return -EINVAL;
	*reg = v;
	return 0;
}

static int
mtrr_write(struct cpu *c, uint32_t msr, uint64_t v)
{
	int n = mtrr_fixed(msr);

	if (n >= 0) {
		if (!memory_types_ok(v, false))
			return -EINVAL;
		c->mtrr_fixed[n] = v;
	} else if (msr == MSR_MTRR_DEF) {
		if ((v & ~0xcffull) || !memory_type_ok(v & 0xff, false))
			return -EINVAL;
		c->mtrr_def = v;
	} else if (msr & 1) {
		if (v & ~(PHYS_MASK & ~0x7ffull))
			return -EINVAL;
		c->mtrr_mask[(msr - MSR_MTRR_PHYS) / 2] = v;
	} else {
		if ((v & ~(PHYS_MASK & ~0xf00ull)) ||
		    !memory_type_ok(v & 0xff, false))
			return -EINVAL;
		c->mtrr_base[(msr - MSR_MTRR_PHYS) / 2] = v;
	}
	return 0;
}

static int
mtrr_read(const struct cpu *c, uint32_t msr, uint64_t *v)
{
	int n = mtrr_fixed(msr);

	if (n >= 0)
		*v = c->mtrr_fixed[n];
	else if (msr & 1)
		*v = c->mtrr_mask[(msr - MSR_MTRR_PHYS) / 2];
	else
		*v = c->mtrr_base[(msr - MSR_MTRR_PHYS) / 2];
	return 0;
}

static bool
is_mtrr_range(uint32_t msr)
{
	return mtrr_fixed(msr) >= 0 ||
	    (msr >= MSR_MTRR_PHYS && msr <= MSR_MTRR_PHYS_LAST);
}

/* Registers that are just storage of ours; NULL: not one of them. */
static uint64_t *
msr_plain(struct cpu *c, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_CS:
		return &c->sysenter_cs;
	case MSR_MISC_ENABLE:
		return &c->misc_enable;
	case (uint32_t)MSR_STAR:
		return &c->star;
	default:
		return NULL;
	}
}

/* Registers that hold a canonical address. */
static uint64_t *
msr_address(struct cpu *c, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_ESP:
		return &c->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &c->sysenter_eip;
	case (uint32_t)MSR_LSTAR:
		return &c->lstar;
	case (uint32_t)MSR_CSTAR:
		return &c->cstar;
	case (uint32_t)MSR_FS_BASE:
		return &c->seg[FS].base;
	case (uint32_t)MSR_GS_BASE:
		return &c->seg[GS].base;
	case (uint32_t)MSR_KERNEL_GS_BASE:
		return &c->kernel_gs_base;
	default:
		return NULL;
	}
}

int
msr_read(struct cpu *c, uint32_t msr, uint64_t *v)
{
	const uint64_t *reg = msr_plain(c, msr);

	if (reg == NULL)
		reg = msr_address(c, msr);
	if (reg != NULL) {
		*v = *reg;
		return 0;
	}
	if (is_mtrr_range(msr))
		return mtrr_read(c, msr, v);
	if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST)
		return lapic_msr_read(c, msr, v);
	switch (msr) {
	case MSR_TSC:
		*v = sys_tsc(c);
		return 0;
	case MSR_APIC_BASE:
		*v = lapic_base_get(c);
		return 0;
	case MSR_TSC_ADJUST:
		*v = (uint64_t)c->tsc_offset;
		return 0;
	case MSR_MICROCODE:
		*v = 0x01000065;
		return 0;
	case MSR_MTRR_CAP:
		*v = MTRR_CAP;
		return 0;
	case MSR_MTRR_DEF:
		*v = c->mtrr_def;
		return 0;
	case MSR_ARCH_CAPABILITIES:
		*v = ARCH_CAPABILITIES;
		return 0;
	case MSR_PAT:
		*v = c->pat;
		return 0;
	case MSR_TSC_DEADLINE:
		*v = lapic_deadline_get(c);
		return 0;
	case MSR_KVM_WALL_CLOCK:
		*v = c->kvm_wall_clock;
		return 0;
	case MSR_KVM_SYSTEM_TIME:
		*v = c->kvm_system_time;
		return 0;
	case (uint32_t)MSR_EFER:
		*v = c->efer;
		return 0;
	case (uint32_t)MSR_FMASK:
		*v = c->fmask;
		return 0;
	case (uint32_t)MSR_TSC_AUX:
		*v = c->tsc_aux;
		return 0;
	case (uint32_t)MSR_DE_CFG:
		*v = 2; /* LFENCE serializes */
		return 0;
	case MSR_FEATURE_CONTROL:
	case MSR_SPEC_CTRL:
	case MSR_MCG_CAP:
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL:
	case (uint32_t)MSR_SYSCFG:
	case (uint32_t)MSR_HWCR:
	case (uint32_t)MSR_TOP_MEM:
	case (uint32_t)MSR_TOP_MEM2:
	case (uint32_t)MSR_INT_PENDING:
		*v = 0;
		return 0;
	default:
		return -EINVAL;
	}
}

int
msr_write(struct cpu *c, uint32_t msr, uint64_t v)
{
	uint64_t *reg = msr_plain(c, msr);

	if (reg != NULL) {
		*reg = v;
		return 0;
	}
	reg = msr_address(c, msr);
	if (reg != NULL)
		return address_write(reg, v);
	if (is_mtrr_range(msr) || msr == MSR_MTRR_DEF)
		return mtrr_write(c, msr, v);
	if (msr >= MSR_X2APIC && msr <= MSR_X2APIC_LAST)
		return lapic_msr_write(c, msr, v);
	switch (msr) {
	case MSR_TSC:
		c->tsc_offset = (int64_t)(v - machine_tsc(c->machine));
		return 0;
	case MSR_APIC_BASE:
		return lapic_base_set(c, v);
	case MSR_TSC_ADJUST:
		c->tsc_offset = (int64_t)v;
		return 0;
	case MSR_PAT:
		if (!memory_types_ok(v, true))
			return -EINVAL;
		c->pat = v;
		return 0;
	case MSR_TSC_DEADLINE:
		lapic_deadline_set(c, v);
		return 0;
	case MSR_KVM_WALL_CLOCK:
		wall_clock_write(c, v);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
		system_time_write(c, v);
		return 0;
	case (uint32_t)MSR_EFER:
		return efer_write(c, v);
	case (uint32_t)MSR_FMASK:
		c->fmask = (uint32_t)v;
		return 0;
	case (uint32_t)MSR_TSC_AUX:
		if (v >> 32)
			return -EINVAL;
		c->tsc_aux = v;
		return 0;
	/* Written by kernels, of no effect here. */
	case MSR_SPEC_CTRL:
		return v & ~7ull ? -EINVAL : 0;
	case MSR_MICROCODE:
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL:
	case (uint32_t)MSR_SYSCFG:
	case (uint32_t)MSR_HWCR:
	case (uint32_t)MSR_TOP_MEM:
	case (uint32_t)MSR_TOP_MEM2:
	case (uint32_t)MSR_PATCH_LOADER:
	case (uint32_t)MSR_INT_PENDING:
	case (uint32_t)MSR_DE_CFG:
		return 0;
	default:
		return -EINVAL;
	}
}

static SYS_SLOW void
read_msr(struct cpu *c, const struct insn *i)
{
	uint64_t v = 0;

	sys_need_cpl0(c, i);
	if (msr_read(c, (uint32_t)c->reg[RCX], &v) != 0)
		cpu_raise_gp(c, i, 0);
	c->reg[RAX] = (uint32_t)v;
	c->reg[RDX] = v >> 32;
}

OP(op_rdmsr)
{
	read_msr(c, i);
	NEXT(c, i);
}

OP(op_wrmsr)
{
	uint64_t v = (uint32_t)c->reg[RAX] | c->reg[RDX] << 32;

	sys_need_cpl0(c, i);
	if (msr_write(c, (uint32_t)c->reg[RCX], v) != 0)
		cpu_raise_gp(c, i, 0);
	c->rip = insn_next_ip(c, i);
	END(c);
}
