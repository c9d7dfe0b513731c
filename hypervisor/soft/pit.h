/*
 * The 8254 interval timer, and port 0x61.  No locks, no clock of its own:
 * every function is given the time, and everything is computed from when a
 * counter was started, so nothing ticks while nobody looks.
 *
 * Specification: Intel 8254 data sheet (231164).
 */
#ifndef SOFT_PIT_H
#define SOFT_PIT_H

#include <stdbool.h>
#include <stdint.h>

#define PIT_HZ	  1193182u
#define PIT_NEVER UINT64_MAX

/* One counter; plain data, saved as it stands. */
struct pit_channel {
	uint64_t start_ns; /* when counting began, or was last gated on */
	uint64_t edges; /* channel 0: rising edges of OUT told so far */
	uint32_t count; /* 1 to 65536 (decimal mode: 10000) */
	uint32_t held; /* ticks counted before the gate stopped it */
	uint8_t mode; /* 0 to 5 */
	uint8_t access; /* 1: low byte, 2: high byte, 3: both */
	uint8_t bcd, gate;
	uint8_t loaded; /* a count was written since the mode was set */
	uint8_t counting; /* started (modes 1, 5: by the gate) and not held */
	uint8_t write_high, write_low; /* second byte is due; the first one */
	uint8_t read_high; /* second byte is due */
	uint8_t latches; /* bytes left of the latched count */
	uint8_t status_latched, status;
	uint16_t latch;
	uint8_t pad[2];
};

struct pit {
	struct pit_channel ch[3];
	uint8_t speaker; /* bits 1 to 0 of port 0x61 as written */
	uint8_t pad[7];
};

void pit_init(struct pit *p);
/* Is this port ours?  0x40 to 0x43, 0x61. */
bool pit_owns(uint64_t port);
uint8_t pit_read(struct pit *p, uint64_t port, uint64_t now_ns);
void pit_write(struct pit *p, uint64_t port, uint8_t value, uint64_t now_ns);
/* OUT of channel n, 0 to 2. */
bool pit_output(const struct pit *p, unsigned n, uint64_t now_ns);
/* The rising edges of OUT 0 (IRQ 0) since the last call. */
uint64_t pit_edges(struct pit *p, uint64_t now_ns);
/* When OUT 0 rises next after what pit_edges() has told; or PIT_NEVER. */
uint64_t pit_due_ns(const struct pit *p);

#endif
