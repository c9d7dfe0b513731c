/*
 * What all vCPUs of a software machine share, and the interrupt controllers.
 *
 * Locks: machine.lock guards the PIC pair, the IOAPIC and the PIT; each LAPIC
 * has its own.  A vCPU that is to look up is told by an attention bit and, if
 * it sleeps, woken.
 */
#ifndef SOFT_MACHINE_H
#define SOFT_MACHINE_H

#include "hypervisor/soft/cpu.h"

#define SOFT_SLOTS	     32
#define SOFT_TSC_KHZ_DEFAULT 1000000u

struct mem_slot {
	hv_gpa gpa;
	uint64_t size; /* bytes; 0: unused */
	uint8_t *host;
	unsigned flags;
};

/* Guest-physical address to host, for RAM; NULL: not RAM (or read-only and
 * write).  *left: bytes from there to the end of the slot. */
uint8_t *machine_ram(struct machine *m, hv_gpa gpa, bool write, uint64_t *left);
/* An access to what is not RAM: LAPIC, IOAPIC, doorbells, then the handler. */
void machine_mmio(struct cpu *c, struct hv_access *a);
/* PIC, PIT, ELCR, port 0x61, then doorbells, then the handler. */
void machine_pio(struct cpu *c, struct hv_access *a);
/* Guest TSC base, ticks of machine_tsc_khz(). */
uint64_t machine_tsc(struct machine *m);
uint32_t machine_tsc_khz(const struct machine *m);
uint64_t machine_now_ns(const struct machine *m);
struct cpu *machine_cpu(struct machine *m, unsigned index);
unsigned machine_cpus(const struct machine *m);

/*
 * Self-modifying code: a bit per guest page frame that holds decoded code, of
 * any vCPU.  A write to such a page (mmu.c keeps its TLB entry unwritable)
 * calls machine_code_written(), which makes every vCPU drop its blocks there.
 */
bool machine_is_code(struct machine *m, hv_gpa gpa);
void machine_mark_code(struct machine *m, hv_gpa gpa);
void machine_code_written(struct cpu *c, hv_gpa gpa, unsigned size);

/* Sleep until attention or the next timer; HLT and wait-for-SIPI. */
void machine_sleep(struct cpu *c);
/* Set attention bits of a vCPU and wake it; any thread. */
void machine_attend(struct cpu *c, uint32_t bits);

/* ---- LAPIC ---- */
/* Highest interrupt that may be delivered now, acknowledged; -1: none. */
int lapic_take(struct cpu *c);
/* Is there one (of LAPIC or, through LINT0, the PIC)? */
bool lapic_pending(struct cpu *c);
uint64_t lapic_base_get(struct cpu *c); /* IA32_APIC_BASE */
int lapic_base_set(struct cpu *c, uint64_t value); /* 0 or -EINVAL: #GP */
int lapic_msr_read(struct cpu *c, uint32_t msr, uint64_t *value);
int lapic_msr_write(struct cpu *c, uint32_t msr, uint64_t value);
uint64_t lapic_tpr_get(struct cpu *c); /* CR8 */
void lapic_tpr_set(struct cpu *c, uint64_t value);
uint64_t lapic_deadline_get(struct cpu *c); /* IA32_TSC_DEADLINE */
void lapic_deadline_set(struct cpu *c, uint64_t value);
/* Does time follow instructions?  Then the run loop counts them (icount.c). */
bool machine_counts(const struct machine *m);
/* At a block's end, from c->icount_due on: timers, devices, interrupts. */
void icount_look(struct cpu *c);
/* Run what is due (LAPIC timers, PIT); called on ATT_TIMER and at sleep. */
void machine_timers(struct cpu *c);

#endif
