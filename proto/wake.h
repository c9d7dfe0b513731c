/*
 * The flag that says "I sleep: kick me", one for each side that may sleep.
 *
 * Change, fence, load the flag on this side; store the flag, fence, look at what
 * changes on the other: one of the two sees the other.  The exchanges are the
 * fences.  Arm, look again, sleep; change, then kick if wake_needed().
 */
#ifndef PROTO_WAKE_H
#define PROTO_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* After a change: must the other be kicked?  True at most once per arming. */
static inline bool
wake_needed(_Atomic uint32_t *armed)
{
	return atomic_exchange(armed, 0) != 0;
}

static inline void
wake_arm(_Atomic uint32_t *armed)
{
	(void)atomic_exchange(armed, 1);
}

#endif
