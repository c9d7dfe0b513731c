/*
 * Rate limits: a pair of token buckets, for bytes and for operations.
 *
 * Plain numbers without pointers, a pure function of the guest times that are
 * given: part of a device's state, so that its death grants nobody a new burst.
 * Each bucket is kept as the time at which it will be full again.
 */
#ifndef DEVICES_BLOCK_THROTTLE_H
#define DEVICES_BLOCK_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

struct throttle_bucket {
	uint64_t rate; /* units per second; 0: no limit */
	uint64_t burst; /* units that may go at once after a pause; 0: what
			 * the rate gives in 100 ms */
	uint64_t full_ns; /* guest time */
};

struct throttle {
	struct throttle_bucket bytes, ops;
};

#define THROTTLE_RATE_MAX (1ull << 50)

/*
 * May a request go at that time?  It may if the buckets are not empty; its cost
 * may then take them below zero, so that none is too large ever to go.
 */
bool throttle_may(const struct throttle *t, uint64_t now_ns);
/* It goes. */
void throttle_take(struct throttle *t, uint64_t bytes, uint64_t now_ns);
/* The earliest time at which throttle_may() holds. */
uint64_t throttle_when(const struct throttle *t);
/* The limits have changed, or time may have jumped: start with full buckets. */
void throttle_refill(struct throttle *t, uint64_t now_ns);

#endif
