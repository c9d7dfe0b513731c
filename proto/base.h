/* Small things that every part uses: invariants, times, minima. */
#ifndef PROTO_BASE_H
#define PROTO_BASE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ARRAY_LEN(a)	  (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	  ((a) < (b) ? (a) : (b))
#define MAX(a, b)	  ((a) > (b) ? (a) : (b))
#define UNUSED		  __attribute__((unused))
#define NORETURN	  __attribute__((noreturn))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

/*
 * A broken invariant of ours: never for what a guest, a peer or the host did.
 * Always compiled in; the process aborts and is restarted by its supervisor.
 */
#define BUG_ON(cond)                                                  \
	do {                                                          \
		if (__builtin_expect(!!(cond), 0)) {                  \
			fprintf(stderr, "%s:%d: bug: %s\n", __FILE__, \
			    __LINE__, #cond);                         \
			abort();                                      \
		}                                                     \
	} while (0)

/* Host time, CLOCK_MONOTONIC, in nanoseconds. */
static inline uint64_t
time_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* One step of a spin-wait. */
static inline void
cpu_relax(void)
{
	__builtin_ia32_pause();
}

/* The real time, since 1970, at which guest time 0 is with --icount: 2000-01-01
 * UTC. */
#define ICOUNT_EPOCH_NS 946684800000000000u

#endif
