/* What the system instructions share about time and MSRs. */
#ifndef SOFT_SYS_CTL_H
#define SOFT_SYS_CTL_H

#include "hypervisor/soft/cpu.h"

/* The vCPU's time stamp counter. */
uint64_t sys_tsc(struct cpu *c);

/* 0, or -EINVAL: there is no such MSR, or it may not hold that: #GP. */
int msr_read(struct cpu *c, uint32_t msr, uint64_t *value);
int msr_write(struct cpu *c, uint32_t msr, uint64_t value);

/* CPUID leaf, subleaf: out is EAX, EBX, ECX, EDX. */
void
cpuid_read(struct cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif
