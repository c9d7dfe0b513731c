/*
 * What every packet process does at its end of a network device's link: take the
 * guest's frames in order, each at most once.
 *
 * The position up to which frames were taken is in the log and moves before a
 * frame is given away: one that a process died over is lost, as on a wire.
 */
#ifndef DEVICES_NET_INTAKE_H
#define DEVICES_NET_INTAKE_H

#include "devhost/device.h"

#define INTAKE_LINK  0u
#define INTAKE_BATCH 64u /* frames of one call */

/* The type's log begins with it. */
struct intake_log {
	_Atomic uint64_t taken; /* frames */
};

/* Take a frame, header included: it is the peer's memory, hostile.  False: not
 * now; it is offered again. */
typedef bool intake_take_fn(struct device *dev, const uint8_t *data, size_t n);

/* Process start: go on where the log says, on both rings. */
void intake_start(struct device *dev);
/* Is there a frame? */
bool intake_pending(struct device *dev);
/* Take up to INTAKE_BATCH frames.  False: one was refused. */
bool intake_run(struct device *dev, intake_take_fn *take);

/* For the operations that a process without registers must have. */
void intake_no_reset(struct device *dev);
void intake_no_access(struct device *dev, struct device_access *a);
void intake_no_settle(struct device *dev);

#endif
