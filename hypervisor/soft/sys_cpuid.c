/*
 * CPUID: exactly what this processor implements.  The vendor is AMD because
 * kernels take every Intel family-6 part without RDCL_NO to need page-table
 * isolation, and a family below 0x17 because those come with fewer workarounds.
 */
#include <string.h>

#include "hypervisor/soft/event.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/sys_ctl.h"
#include "hypervisor/soft/sys_seg.h"

enum { EAX, EBX, ECX, EDX };

#define BIT(n) (1u << (n))

/* Leaf 1 EDX: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat
 * pse36 clflush mmx fxsr sse sse2. */
#define LEAF1_EDX                                                       \
	(BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | \
	    BIT(8) | BIT(9) | BIT(11) | BIT(12) | BIT(13) | BIT(14) |   \
	    BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | \
	    BIT(25) | BIT(26))
#define LEAF1_HTT BIT(28)
/* Leaf 1 ECX: cx16 x2apic popcnt tsc-deadline hypervisor. */
#define LEAF1_ECX (BIT(13) | BIT(21) | BIT(23) | BIT(24) | BIT(31))
/* Leaf 7: tsc-adjust smep erms smap; umip; fsrm arch-capabilities. */
#define LEAF7_EBX (BIT(1) | BIT(7) | BIT(9) | BIT(20))
#define LEAF7_ECX BIT(2)
#define LEAF7_EDX (BIT(4) | BIT(29))
/* Leaf 80000001h EDX: those that mirror leaf 1, and syscall nx pdpe1gb rdtscp
 * lm; ECX: lahf, and cmp-legacy with more than one vCPU. */
#define EXT1_MIRROR  0x0183f3ffu
#define EXT1_EDX     (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29))
#define EXT1_ECX     BIT(0)
#define EXT1_CMP_LEG BIT(1)
/* Leaf 80000008h EBX: IBRS (always on), SSB_NO. */
#define EXT8_EBX (BIT(14) | BIT(26))
/* KVM's features: NOP_IO_DELAY, CLOCKSOURCE2, CLOCKSOURCE_STABLE. */
#define KVM_FEATURES (BIT(1) | BIT(3) | BIT(24))

#define MAX_LEAF     0xbu
#define MAX_EXT	     0x80000021u
#define MAX_KVM	     0x40000010u

static const char brand[48] = "Bulkhead soft vCPU";

/* Bits of an APIC id that number the vCPUs. */
static unsigned
id_bits(unsigned cpus)
{
	unsigned n = 0;

	while ((1u << n) < cpus)
		n++;
	return n;
}

static void
text(uint32_t *out, const char *s)
{
	memcpy(out, s, 4);
}

static void
leaf1(const struct cpu *c, unsigned cpus, uint32_t out[4])
{
	out[EAX] = SOFT_CPUID_SIGNATURE;
	out[EBX] = (uint32_t)c->index << 24 | cpus << 16 | 8 << 8;
	out[ECX] = LEAF1_ECX;
	out[EDX] = LEAF1_EDX | (cpus > 1 ? LEAF1_HTT : 0);
}

/* Extended topology: one thread a core, all cores in one package. */
static void
leaf_topology(const struct cpu *c, unsigned cpus, uint32_t sub, uint32_t out[4])
{
	out[ECX] = sub & 0xff;
	out[EDX] = c->index;
	if (sub == 0) {
		out[EBX] = 1;
		out[ECX] |= 1 << 8;
	} else if (sub == 1) {
		out[EAX] = id_bits(cpus);
		out[EBX] = cpus;
		out[ECX] |= 2 << 8;
	}
}

static void
leaf_extended(unsigned cpus, uint32_t leaf, uint32_t out[4])
{
	switch (leaf) {
	case 0x80000000:
		out[EAX] = MAX_EXT;
		text(&out[EBX], "Auth");
		text(&out[EDX], "enti");
		text(&out[ECX], "cAMD");
		break;
	case 0x80000001:
		out[EAX] = SOFT_CPUID_SIGNATURE;
		out[ECX] = EXT1_ECX | (cpus > 1 ? EXT1_CMP_LEG : 0);
		out[EDX] = (LEAF1_EDX & EXT1_MIRROR) | EXT1_EDX;
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		memcpy(out, brand + (leaf - 0x80000002) * 16, 16);
		break;
	case 0x80000005: /* level 1: 32 KiB, 8 ways, lines of 64 bytes */
		out[ECX] = out[EDX] = 32 << 24 | 8 << 16 | 1 << 8 | 64;
		break;
	case 0x80000006: /* level 2: 512 KiB, 8 ways */
		out[ECX] = 512 << 16 | 6 << 12 | 1 << 8 | 64;
		break;
	case 0x80000007:
		out[EDX] = BIT(8); /* the TSC is invariant */
		break;
	case 0x80000008:
		out[EAX] = 48 << 8 | SOFT_PHYS_BITS;
		out[EBX] = EXT8_EBX;
		out[ECX] = id_bits(cpus) << 12 | (cpus - 1);
		break;
	case 0x80000021:
		out[EAX] = BIT(2) | BIT(6); /* lfence serializes; a null
					       selector clears the base */
		break;
	default:
		break;
	}
}

void
cpuid_read(struct cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	unsigned cpus = machine_cpus(c->machine);

	memset(out, 0, 4 * sizeof(out[0]));
	if (leaf >= 0x80000000) {
		leaf_extended(cpus, leaf, out);
		return;
	}
	switch (leaf) {
	case 0:
		out[EAX] = MAX_LEAF;
		text(&out[EBX], "Auth");
		text(&out[EDX], "enti");
		text(&out[ECX], "cAMD");
		break;
	case 1:
		leaf1(c, cpus, out);
		break;
	case 7:
		if (subleaf == 0) {
			out[EBX] = LEAF7_EBX;
			out[ECX] = LEAF7_ECX;
			out[EDX] = LEAF7_EDX;
		}
		break;
	case 0xb:
		leaf_topology(c, cpus, subleaf, out);
		break;
	case 0x40000000:
		out[EAX] = MAX_KVM;
		text(&out[EBX], "KVMK");
		text(&out[ECX], "VMKV");
		memcpy(&out[EDX], "M\0\0", 4);
		break;
	case 0x40000001:
		out[EAX] = KVM_FEATURES;
		break;
	case 0x40000010:
		out[EAX] = machine_tsc_khz(c->machine);
		out[EBX] = 1000000; /* the LAPIC timer's, kHz */
		break;
	default:
		break;
	}
}

static SYS_SLOW void
cpuid(struct cpu *c)
{
	uint32_t out[4];

	cpuid_read(c, (uint32_t)c->reg[RAX], (uint32_t)c->reg[RCX], out);
	c->reg[RAX] = out[EAX];
	c->reg[RBX] = out[EBX];
	c->reg[RCX] = out[ECX];
	c->reg[RDX] = out[EDX];
}

OP(op_cpuid)
{
	cpuid(c);
	NEXT(c, i);
}
