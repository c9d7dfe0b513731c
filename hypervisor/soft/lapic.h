/*
 * The local APIC: xAPIC registers by MMIO, x2APIC registers by MSR.
 *
 * Threads: lapic_accept(), lapic_matches() and lapic_lint0() may be called
 * from any thread, everything else on the vCPU's own.  Each LAPIC has its own
 * lock, a leaf: it is not held while an environment function is called that
 * may take another.
 *
 * Specification: Intel SDM volume 3, chapter "APIC".  The interface for the
 * processor's side (lapic_take() and so on) is in machine.h.
 */
#ifndef SOFT_LAPIC_H
#define SOFT_LAPIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAPIC_BASE   0xfee00000u
#define LAPIC_SIZE   0x1000u
#define LAPIC_NEVER  UINT64_MAX
#define LAPIC_BUS_HZ 1000000000u /* the timer's clock before its divider */

enum apic_mode {
	APIC_FIXED = 0,
	APIC_LOWEST = 1,
	APIC_SMI = 2,
	APIC_NMI = 4,
	APIC_INIT = 5,
	APIC_STARTUP = 6,
	APIC_EXTINT = 7,
};

enum apic_shorthand { APIC_DEST, APIC_SELF, APIC_ALL, APIC_OTHERS };

/* An interrupt message between APICs. */
struct apic_msg {
	uint32_t dest;
	uint8_t vector;
	uint8_t mode; /* enum apic_mode */
	uint8_t shorthand; /* enum apic_shorthand; of interprocessor ones */
	bool logical, level, assert;
	bool wide; /* dest has 32 bits (x2APIC), else 8 */
};

/* What a LAPIC needs of its surroundings; ctx is that of lapic_init(). */
struct lapic_env {
	uint64_t (*now_ns)(void *ctx);
	uint64_t (*tsc)(void *ctx); /* the guest's TSC of this vCPU */
	uint32_t (*tsc_khz)(void *ctx);
	void (*attend)(void *ctx, uint32_t bits); /* enum attention */
	void (*startup)(void *ctx, uint8_t vector); /* a SIPI is here */
	void (*timer_set)(void *ctx); /* lapic_due_ns() has changed */
	void (*send)(void *ctx, const struct apic_msg *msg);
	void (*eoi)(void *ctx, unsigned vector); /* of a level interrupt */
	bool (*extint_pending)(void *ctx);
	int (*extint_take)(void *ctx); /* the PIC's vector, or -1 */
};

struct lapic {
	pthread_mutex_t lock;
	const struct lapic_env *env;
	void *ctx;
	uint32_t id;
	uint64_t base; /* IA32_APIC_BASE */
	uint32_t reg[64]; /* by offset / 16 */
	uint32_t icr_high;
	uint32_t errors; /* collected for the next write of ESR */
	bool lint0;
	uint64_t timer_start_ns; /* one-shot, periodic; 0 count: stopped */
	uint64_t deadline; /* IA32_TSC_DEADLINE; 0: disarmed */
};

void lapic_init(
    struct lapic *l, const struct lapic_env *env, void *ctx, unsigned id);
void lapic_destroy(struct lapic *l);
/* Power-on, or INIT, which leaves the base register alone. */
void lapic_restart(struct lapic *l, bool init);
/* Is this LAPIC an addressee of msg?  Shorthands are the sender's affair. */
bool lapic_matches(struct lapic *l, const struct apic_msg *msg);
/* Take a message: sets IRR, or calls attend. */
void lapic_accept(struct lapic *l, const struct apic_msg *msg);
/* May it take fixed interrupts, and its processor priority: the smallest one
 * takes a lowest-priority message. */
bool lapic_enabled(struct lapic *l);
unsigned lapic_priority(struct lapic *l);
/* Level of LINT0, which is the PIC's output on the boot processor. */
void lapic_lint0(struct lapic *l, bool level);

/* MMIO; offset below 4096, 32-bit registers at multiples of 16. */
uint32_t lapic_read(struct lapic *l, unsigned offset);
void lapic_write(struct lapic *l, unsigned offset, uint32_t value);
/* Is the MMIO page there, and where? */
bool lapic_mapped(const struct lapic *l, uint64_t *base);

/* The next time at which lapic_run() has something to do; or LAPIC_NEVER. */
uint64_t lapic_due_ns(struct lapic *l);
/* Fire the timer if it is due. */
void lapic_run(struct lapic *l);

/* The registers as a page of hv_vcpu_state, both ways.  The base and the
 * deadline are MSRs; set the base before. */
void lapic_save(struct lapic *l, uint8_t page[4096]);
void lapic_load(struct lapic *l, const uint8_t page[4096]);

#endif
