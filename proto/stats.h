/*
 * Statistics: counters and latency histograms in shared memory.
 *
 * Written by their one owner with plain (relaxed atomic) stores, read by anyone
 * who maps them: no locks, nothing to pay when nobody looks.  They only ever
 * grow, and outlive the process that counts: a restarted device goes on where
 * the dead one stopped.  Readers take differences.
 *
 * Times are measured on a sample of the requests (one in STATS_SAMPLE), so that
 * the two looks at the clock cost next to nothing; counts are exact.
 */
#ifndef PROTO_STATS_H
#define PROTO_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define STATS_SAMPLE 64u /* a power of two */
#define STATS_OWN    16u /* counters of the device type's own */

/*
 * A histogram of nanoseconds: bucket i holds values v with
 * stats_bucket(v) == i.  Four buckets per power of two from 64 ns on: a value is
 * known to 19 %.
 */
#define STATS_BUCKETS 112u

struct stats_histogram {
	_Atomic uint64_t count;
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t max_ns;
	_Atomic uint64_t bucket[STATS_BUCKETS];
};

/* Of a device; in its store, owned by its process. */
struct stats_device {
	_Atomic uint64_t reads; /* register reads handled */
	_Atomic uint64_t writes; /* register writes handled */
	_Atomic uint64_t posted; /* of them, posted */
	_Atomic uint64_t commits; /* commits made */
	_Atomic uint64_t interrupts; /* interrupts raised */
	_Atomic uint64_t doorbells; /* doorbell wake-ups */
	_Atomic uint64_t wakeups; /* sleeps that ended */
	_Atomic uint64_t requests; /* queue requests done */
	_Atomic uint64_t bytes_in; /* from streams, disks, networks */
	_Atomic uint64_t bytes_out; /* to them */
	_Atomic uint64_t queue_depth; /* now in flight */
	_Atomic uint64_t queue_depth_max;
	_Atomic uint64_t recoveries; /* starts on a committed store */
	_Atomic uint64_t syscalls; /* allowed system calls, by seccomp list */
	_Atomic uint64_t sandbox; /* SANDBOX_* steps that are in force */
	_Atomic uint64_t own[STATS_OWN];
	struct stats_histogram handler; /* a register access, in the device */
	struct stats_histogram
	    request; /* a queue request, from taken to done */
};

/* Of a vCPU's waiting for one device; in the broker, owned by the vCPU. */
struct stats_wait {
	_Atomic uint64_t accesses;
	_Atomic uint64_t waited_ns; /* estimated from the sample */
	_Atomic uint64_t sleeps; /* times that it had to sleep */
	struct stats_histogram answer; /* from exit to answer */
};

/* Of a vCPU; in the broker, owned by the vCPU's thread. */
struct stats_vcpu {
	_Atomic uint64_t pio_reads, pio_writes;
	_Atomic uint64_t mmio_reads, mmio_writes;
	_Atomic uint64_t unclaimed; /* accesses that no device decodes */
	_Atomic uint64_t kicks; /* runs ended by a kick */
};

/* The owner adds to a counter. */
static inline void
stats_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter,
	    atomic_load_explicit(counter, memory_order_relaxed) + n,
	    memory_order_relaxed);
}

/* The owner sets a level. */
static inline void
stats_set(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline uint64_t
stats_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The bucket of a value: linear steps of 16 below 64, then four per octave. */
static inline unsigned
stats_bucket(uint64_t ns)
{
	unsigned log, i;

	if (ns < 64)
		return (unsigned)(ns >> 4);
	log = 63u - (unsigned)__builtin_clzll(ns);
	i = (log - 5u) * 4u + ((unsigned)(ns >> (log - 2u)) & 3u);
	return i < STATS_BUCKETS ? i : STATS_BUCKETS - 1;
}

/* The least value of a bucket. */
uint64_t stats_bucket_floor(unsigned bucket);

/* The owner notes a time. */
void stats_note(struct stats_histogram *h, uint64_t ns);

/*
 * A copy's percentile: the value below which that share (0 to 1000 per mille)
 * of them lies, to the bucket's width; 0 of an empty one.
 */
uint64_t stats_percentile(const struct stats_histogram *h, unsigned per_mille);

#endif
