/* What guest programs share: ports, MSRs, printing, the end. */
#ifndef GUESTS_GUEST_H
#define GUESTS_GUEST_H

#include <stdint.h>

#define COM1	 0x3f8
#define PM1A_CNT 0x604
#define PM_TIMER 0x608

/* Every guest program; start_info is PVH's. */
void guest_main(const void *start_info);
/* Power off, by whatever the machine has for it. */
void guest_end(void) __attribute__((noreturn));
/* To the first serial port; %d %u %x %s, l for 64 bits. */
void guest_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define PORT_ACCESS(suffix, type)                                             \
	static inline void out##suffix(uint16_t port, type v)                 \
	{                                                                     \
		__asm__ volatile("out" #suffix " %0, %1" ::"a"(v), "Nd"(port) \
				 : "memory");                                 \
	}                                                                     \
	static inline type in##suffix(uint16_t port)                          \
	{                                                                     \
		type v;                                                       \
		__asm__ volatile("in" #suffix " %1, %0"                       \
				 : "=a"(v)                                    \
				 : "Nd"(port)                                 \
				 : "memory");                                 \
		return v;                                                     \
	}
PORT_ACCESS(b, uint8_t)
PORT_ACCESS(w, uint16_t)
PORT_ACCESS(l, uint32_t)

static inline uint64_t
rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (uint64_t)hi << 32 | lo;
}

static inline uint64_t
rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static inline void
wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile(
	    "wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
	    : "memory");
}

#endif
