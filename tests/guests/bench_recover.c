/*
 * Reads the serial port's scratch register without pause for SECONDS seconds
 * and prints every wait longer than a quarter of a millisecond: what a guest
 * sees of the death of a device's process.
 */
#include "tests/guests/guest.h"

#define SECONDS 4u
#define GAPS	1024u

static uint64_t gap[GAPS];

void
guest_main(const void *start_info)
{
	uint32_t pm = inl(PM_TIMER) & 0xffffff, now;
	uint64_t tsc, start = rdtsc(), khz, threshold;
	unsigned n = 0;

	(void)start_info;
	guest_print("recover: measuring\n");
	/* A tenth of a second of the PM timer gives the TSC's rate. */
	pm = inl(PM_TIMER) & 0xffffff;
	start = rdtsc();
	do
		now = inl(PM_TIMER) & 0xffffff;
	while (((now - pm) & 0xffffff) < 357954);
	khz = (rdtsc() - start) / 100;
	threshold = khz / 4;
	guest_print("recover: go\n");
	start = rdtsc();
	do {
		uint64_t took;

		tsc = rdtsc();
		(void)inb(COM1 + 7);
		took = rdtsc() - tsc;
		if (took > threshold && n < GAPS)
			gap[n++] = took;
	} while (tsc - start < (uint64_t)SECONDS * 1000 * khz);
	for (unsigned i = 0; i < n; i++)
		guest_print("recover: gap_ns %lu\n", gap[i] * 1000000 / khz);
	guest_print("recover: end\n");
}
