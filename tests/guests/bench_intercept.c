/*
 * What an access to a device costs, seen by the guest: reads and writes of the
 * serial port's scratch register, posted writes to the debug port, reads of a
 * port that nobody claims.  Prints p50, p99 and mean in nanoseconds.
 */
#include "tests/guests/guest.h"

#define ROUNDS	20000u
#define WARM_UP 2000u
#define BUCKETS 32768u
#define SHIFT	5 /* a bucket is 32 cycles wide */

static uint32_t bucket[BUCKETS];

enum access { READ, WRITE, POST, UNCLAIMED };

static inline void
access(enum access what)
{
	switch (what) {
	case READ:
		(void)inb(COM1 + 7);
		break;
	case WRITE:
		outb(COM1 + 7, 0x5a);
		break;
	case POST:
		outb(0xe9, 0);
		break;
	case UNCLAIMED:
		(void)inb(0x2f0);
		break;
	}
}

static uint64_t
percentile(unsigned percent)
{
	uint64_t want = (uint64_t)ROUNDS * percent / 100, sum = 0;
	unsigned i;

	for (i = 0; i < BUCKETS - 1 && sum + bucket[i] <= want; i++)
		sum += bucket[i];
	return ((uint64_t)i << SHIFT) + (1u << SHIFT) / 2;
}

static void
measure(const char *name, enum access what)
{
	uint64_t start, end, khz;
	uint32_t pm_start, pm_ticks;

	for (unsigned i = 0; i < BUCKETS; i++)
		bucket[i] = 0;
	for (unsigned i = 0; i < WARM_UP; i++)
		access(what);
	pm_start = inl(PM_TIMER);
	start = rdtsc();
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t before = rdtsc(), cycles;

		access(what);
		cycles = (rdtsc() - before) >> SHIFT;
		bucket[cycles < BUCKETS ? cycles : BUCKETS - 1]++;
	}
	end = rdtsc();
	pm_ticks = (inl(PM_TIMER) - pm_start) & 0xffffff;
	/* 3,579,545 ticks a second; without a PM timer, cycles are printed. */
	khz = pm_ticks == 0 || pm_ticks == 0xffffff
	    ? 1000000
	    : (end - start) * 3579545 / pm_ticks / 1000;
	guest_print("bench %s p50_ns %lu p99_ns %lu mean_ns %lu khz %lu\n",
	    name, percentile(50) * 1000000 / khz,
	    percentile(99) * 1000000 / khz,
	    (end - start) / ROUNDS * 1000000 / khz, khz);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	measure("read", READ);
	measure("write", WRITE);
	measure("post", POST);
	measure("unclaimed", UNCLAIMED);
}
