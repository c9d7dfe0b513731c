/*
 * Guest programs that check the hypervisor interface, with the harness
 * hypervisor/backends_test.c as their machine: it counts failed checks, does what it
 * is asked to, and ends the run.
 */
#ifndef GUESTS_CHECK_H
#define GUESTS_CHECK_H

#include <stddef.h>

#include "tests/guests/guest.h"

#define PORT_FAIL    0xf0 /* line of a check that failed */
#define PORT_END     0xf1
#define PORT_ACT     0xf2 /* the harness does its action of that number */
#define PORT_SCRATCH 0x100 /* 16 bytes that keep what is written */
#define PORT_SIZE    0x120 /* size of the last access to scratch or MMIO */
#define PORT_FIFO    0x130 /* reads count up from 1; writes are summed up */
#define PORT_SUM     0x140
#define PORT_TIME    0x150 /* the host's clock, in microseconds */

#define MMIO_BASE    0xd0000000u /* one page that keeps what is written */
#define ROM_BASE     0xd0010000u /* a read-only slot; writes: to MMIO_BASE */
#define SLOT_BASE    0xd0020000u /* a slot that comes and goes */
#define BELL_BASE    0xd0030000u
#define MAIL_BASE    0x8f000u /* RAM that the harness writes too */

#define LAPIC	     0xfee00000u
#define IOAPIC	     0xfec00000u

#define CHECK(ok)                                  \
	do {                                       \
		if (!(ok))                         \
			outl(PORT_FAIL, __LINE__); \
	} while (0)

static inline void
check_act(uint32_t n)
{
	outl(PORT_ACT, n);
}

/* Memory-mapped registers. */
static inline volatile uint32_t *
reg32(uint64_t at)
{
	return (volatile uint32_t *)(uintptr_t)at;
}

/* ---- traps (check_trap.S, lib_check.c) ---- */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx,
	    rcx, rax, vector, error, rip, cs, rflags, rsp, ss;
};
typedef void trap_fn(struct trap_frame *f);

extern volatile uint32_t check_count[256];
/* Called after counting; those without one that are exceptions end the run. */
extern trap_fn *check_handler[256];

/* IDT, TSS (with all ports open to CPL 3), interrupts still off. */
void check_init(void);
void check_idt_load(void); /* for other processors */
/* HLT with interrupts on until vector was taken n times. */
void check_wait_for(unsigned vector, uint32_t n);
void check_ring3_enter(uint64_t rip, uint64_t rsp);
void check_ring3_leave(void) __attribute__((noreturn));
void check_end(void) __attribute__((noreturn));

/* ---- interrupt controllers ---- */
void check_pic_init(uint16_t mask); /* vectors 0x20 to 0x2f; 1: masked */
void check_pic_eoi(unsigned irq);
void check_lapic_init(void); /* software-enabled, LINT0 as the PIC's */
void check_lapic_eoi(void);
void check_ioapic_route(unsigned pin, uint32_t low, uint32_t apic);

#endif
