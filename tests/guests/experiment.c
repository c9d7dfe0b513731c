/*
 * The guest of fault experiments: writes a byte of the RTC's memory and reads it
 * back without pause, and says every fifth of a second how that went, until a q
 * comes in by the serial port.
 */
#include "tests/guests/guest.h"

#define CMOS_INDEX 0x70
#define CMOS_DATA  0x71
#define BYTE	   0x50 /* of the RTC's memory that the user may use */

static uint64_t
ticks_per_ms(void)
{
	uint32_t pm = inl(PM_TIMER) & 0xffffff;
	uint64_t start = rdtsc();

	while (((inl(PM_TIMER) - pm) & 0xffffff) < 357954)
		continue;
	return (rdtsc() - start) / 100;
}

/* One access of each kind.  How long the longer one took. */
static uint64_t
probe(uint8_t value, uint8_t *got)
{
	uint64_t t0, t1, t2;

	outb(CMOS_INDEX, BYTE);
	t0 = rdtsc();
	outb(CMOS_DATA, value);
	t1 = rdtsc();
	*got = inb(CMOS_DATA);
	t2 = rdtsc();
	return t1 - t0 > t2 - t1 ? t1 - t0 : t2 - t1;
}

void
guest_main(const void *start_info)
{
	uint64_t khz = ticks_per_ms(), said = rdtsc(), longest = 0;
	uint64_t accesses = 0, wrong = 0;

	(void)start_info;
	guest_print("experiment: ready\n");
	for (;;) {
		uint8_t value = (uint8_t)accesses, got;
		uint64_t took = probe(value, &got);

		accesses++;
		if (took > longest)
			longest = took;
		if (got != value && wrong++ < 5)
			guest_print("experiment: read 0x%x instead of 0x%x\n",
			    got, value);
		if (rdtsc() - said < 200 * khz)
			continue;
		guest_print(
		    "experiment: accesses %lu wrong %lu longest %lu us\n",
		    accesses, wrong, longest * 1000 / khz);
		longest = 0;
		said = rdtsc();
		if ((inb(COM1 + 5) & 1) && inb(COM1) == 'q')
			break;
	}
	guest_print("experiment: end, %lu wrong\n", wrong);
}
