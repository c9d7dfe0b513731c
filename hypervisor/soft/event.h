/* Events beyond what cpu.h declares: used by the run loop and sys_*.c. */
#ifndef SOFT_EVENT_H
#define SOFT_EVENT_H

#include "hypervisor/soft/cpu.h"

/*
 * Deliver the software interrupt `vector` of instruction i (int n, int3, into):
 * the address behind i is saved, and i's own where the delivery faults.
 * c->rip is the handler's on return.  privileged: int1, whose gate's DPL does
 * not matter.
 */
void event_soft(
    struct cpu *c, const struct insn *i, unsigned vector, bool privileged);

/* After IF, TPR or the interrupt controllers changed: set ATT_IRQ again if an
 * interrupt waits that may now be taken. */
void event_irq_window(struct cpu *c);

/* CPUID leaf 1 EAX, and EDX after reset: family 15, model 0x27, stepping 1. */
#define SOFT_CPUID_SIGNATURE 0x20f71u

/* Add to c->attention from the vCPU's own thread. */
static inline void
event_attend(struct cpu *c, uint32_t bits)
{
	atomic_fetch_or_explicit(&c->attention, bits, memory_order_acq_rel);
}

#endif
