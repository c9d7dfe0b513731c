/*
 * What the guest programs that test a backend share: checks, the test's
 * commands, traps, CPL3, the interrupt controllers.  Interrupts are off but in
 * interrupt_wait() and, if so wanted, at CPL3: not every KVM interrupts busy
 * kernel-mode code exactly.
 */
#ifndef GUESTS_TESTING_H
#define GUESTS_TESTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/guests/guest.h"
#include "tests/guests/protocol.h"

/* Print "pass name", or "fail name" with both values. */
void check(const char *name, uint64_t got, uint64_t want);
/* Print "pass name" if got >= least. */
void check_least(const char *name, uint64_t got, uint64_t least);

/* A command to the test; returns its result. */
uint64_t test(enum test_command what, uint64_t a0, uint64_t a1, uint64_t a2);

/* ---- traps ---- */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx,
	    rcx, rax, vector, error, rip, cs, rflags, rsp, ss;
};
typedef void trap_handler(struct trap_frame *f);

/* Set up the IDT, the TSS and its I/O bitmap, which opens every port. */
void traps_init(void);
/* Load the IDT on another processor. */
void traps_load(void);
void trap_set(uint8_t vector, trap_handler *handler);
/* Count interrupts of that vector in trap_count[] and end them by eoi. */
void trap_count_on(uint8_t vector, void (*eoi)(uint8_t vector));
extern volatile uint64_t trap_count[256];
/* Sleep until trap_count[vector] is at least n. */
void trap_wait(uint8_t vector, uint64_t n);
void interrupt_wait(void);
/* Interrupts that came between its STI and its HLT, where none should. */
extern volatile uint64_t early_wakes;
extern const char interrupt_wait_hlt[], interrupt_wait_end[];

/* Faults from now on are recorded in fault; then one of CPL3 ends the
 * user_call(), one of CPL0 goes on at fault_resume. */
struct fault {
	uint64_t count, vector, error, cr2, rip, cs;
};
extern volatile struct fault fault;
extern volatile uint64_t fault_resume;
void faults_record(void);
void fault_clear(void);

/* ---- CPL3 ---- */
#define RFLAGS_OFF 0x002u
#define RFLAGS_ON  0x202u /* interrupts on */
#define USER_FAULT 0xfa017ull /* what user_call() gives after a fault */
struct __attribute__((packed)) tss {
	uint32_t reserved0;
	uint64_t rsp[3], reserved1, ist[7], reserved2;
	uint16_t reserved3, bitmap_at;
	uint8_t bitmap[8193];
};
extern struct tss guest_tss;
/* f(arg) at CPL3; interrupts are off afterwards. */
uint64_t user_call(uint64_t (*f)(uint64_t), uint64_t arg, uint64_t rflags);
void user_leave(uint64_t result) __attribute__((noreturn));

/* ---- interrupt controllers ---- */
#define PIC_VECTOR 0x20
void pic_init(void); /* all masked */
void pic_mask(uint16_t mask);
void pic_eoi(uint8_t vector);

#define LAPIC_ID      0x20
#define LAPIC_TPR     0x80
#define LAPIC_EOI     0xb0
#define LAPIC_ISR     0x100
#define LAPIC_LDR     0xd0
#define LAPIC_DFR     0xe0
#define LAPIC_SVR     0xf0
#define LAPIC_ICR     0x300
#define LAPIC_ICR_TO  0x310
#define LAPIC_TIMER   0x320
#define LAPIC_LINT0   0x350
#define LAPIC_INITIAL 0x380
#define LAPIC_CURRENT 0x390
#define LAPIC_DIVIDE  0x3e0
#define LVT_MASKED    0x10000u
uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t v);
void lapic_init(void); /* enabled, LINT0 masked */
void lapic_eoi(uint8_t vector);
/*
 * Does an interrupt stay in service until its EOI?  A KVM that emulates kernel
 * mode may end it as it delivers it; if so, a line prints that.
 */
bool lapic_keeps_in_service(void);
void lapic_ipi(uint32_t to, uint32_t what); /* and wait until it is sent */

#define RTE_LEVEL      0x8000u
#define RTE_MASKED     0x10000u
#define RTE_REMOTE_IRR 0x4000u
uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t v);
void ioapic_route(unsigned pin, uint32_t low); /* to processor 0 */
uint32_t ioapic_low(unsigned pin);

#define MSI_ADDRESS 0xfee00000u

extern uint64_t pml4[512];
/* A second processor: 64-bit, on ap_stack, calls ap_main. */
extern void (*ap_main)(void);
extern const uint8_t ap_trampoline[], ap_trampoline_end[];
#define AP_START 0x8000u
void ap_start(void (*f)(void)); /* send it INIT and SIPI */

#define CPUID(leaf, a, b, c, d)                               \
	__asm__ volatile("cpuid"                              \
			 : "=a"(a), "=b"(b), "=c"(c), "=d"(d) \
			 : "a"(leaf), "c"(0))

#endif
