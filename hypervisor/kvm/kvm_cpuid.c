/*
 * The KVM backend: what the guest sees of the processor.  Everything that KVM
 * supports, with one package of single-threaded cores, without what belongs to
 * the host alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hypervisor/kvm/kvm.h"

#define ENTRIES		  256u

#define ECX1_MONITOR	  (1u << 3)
#define ECX1_VMX	  (1u << 5)
#define ECX1_X2APIC	  (1u << 21)
#define ECX1_TSC_DEADLINE (1u << 24)
#define ECX1_OSXSAVE	  (1u << 27)
#define ECX1_HYPERVISOR	  (1u << 31)
#define EDX1_HTT	  (1u << 28)
#define ECX81_SVM	  (1u << 2)
#define ECX81_CMP_LEGACY  (1u << 1)

/* Bits of an APIC id that number the cores. */
static unsigned
core_bits(unsigned cpus)
{
	unsigned bits = 0;

	while ((1u << bits) < cpus)
		bits++;
	return bits;
}

static void
leaf1(struct kvm_cpuid_entry2 *e, const struct hv_vcpu *v)
{
	unsigned cpus = v->p->ncpus;

	e->ebx =
	    (e->ebx & 0xffff) | v->index << 24 | 1u << core_bits(cpus) << 16;
	e->ecx &= ~(ECX1_MONITOR | ECX1_VMX | ECX1_OSXSAVE);
	e->ecx |= ECX1_X2APIC | ECX1_HYPERVISOR;
	if (kvm_ioctl_value(
		v->p->vm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		e->ecx |= ECX1_TSC_DEADLINE;
	e->edx &= ~EDX1_HTT;
	if (cpus > 1)
		e->edx |= EDX1_HTT;
}

/* Deterministic cache parameters: who shares, and cores in the package. */
static void
leaf4(struct kvm_cpuid_entry2 *e, const struct hv_vcpu *v)
{
	unsigned level = e->eax >> 5 & 7, cpus = v->p->ncpus;

	if (!(e->eax & 0x1f))
		return;
	e->eax &= 0x3fff;
	e->eax |= (cpus - 1) << 26;
	if (level >= 3)
		e->eax |= (cpus - 1) << 14;
}

static void
leaf_shape(struct kvm_cpuid_entry2 *e, const struct hv_vcpu *v)
{
	unsigned cpus = v->p->ncpus;

	switch (e->function) {
	case 1:
		leaf1(e, v);
		break;
	case 4:
		leaf4(e, v);
		break;
	case 0xa: /* the performance counters are the host's */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000001:
		e->ecx &= ~(ECX81_SVM | ECX81_CMP_LEGACY);
		if (cpus > 1)
			e->ecx |= ECX81_CMP_LEGACY;
		break;
	case 0x80000008:
		e->ecx = (cpus - 1) | core_bits(cpus) << 12;
		break;
	case 0x8000001e:
		e->eax = v->index;
		e->ebx = v->index & 0xff;
		e->ecx = 0;
		break;
	default:
		break;
	}
}

/* Extended topology: one thread per core, all cores in one package. */
static void
topology_add(struct kvm_cpuid2 *t, const struct hv_vcpu *v, uint32_t function)
{
	unsigned cpus = v->p->ncpus;
	const struct {
		uint32_t eax, ebx, ecx;
	} level[] = {
		{ 0, 1, 1u << 8 },
		{ core_bits(cpus), cpus, 1 | 2u << 8 },
		{ 0, 0, 2 },
	};

	for (uint32_t n = 0; n < ARRAY_LEN(level); n++) {
		struct kvm_cpuid_entry2 *e = &t->entries[t->nent++];

		memset(e, 0, sizeof(*e));
		e->function = function;
		e->index = n;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e->eax = level[n].eax;
		e->ebx = level[n].ebx;
		e->ecx = level[n].ecx;
		e->edx = v->index;
	}
}

int
kvm_cpuid_set(struct hv_vcpu *v)
{
	struct kvm_cpuid2 *t;
	bool leaf_b = false, leaf_1f = false;
	uint32_t kept = 0;
	int err;

	/* Room for the two topology leaves. */
	t = calloc(1, sizeof(*t) + (ENTRIES + 6) * sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	t->nent = ENTRIES;
	err = kvm_ioctl(v->p->kvm, KVM_GET_SUPPORTED_CPUID, t);
	if (err)
		goto out;
	for (uint32_t n = 0; n < t->nent; n++) {
		struct kvm_cpuid_entry2 *e = &t->entries[n];

		if (e->function == 0xb || e->function == 0x1f) {
			leaf_b |= e->function == 0xb;
			leaf_1f |= e->function == 0x1f;
			continue;
		}
		leaf_shape(e, v);
		t->entries[kept++] = *e;
	}
	t->nent = kept;
	if (leaf_b)
		topology_add(t, v, 0xb);
	if (leaf_1f)
		topology_add(t, v, 0x1f);
	err = kvm_ioctl(v->fd, KVM_SET_CPUID2, t);
out:
	free(t);
	return err;
}
