/*
 * Faults made on purpose: what a device is to do wrong, when.
 *
 * A plan lies in the device's store, written by the broker at the user's wish,
 * carried out by the device host at the point where a request has been taken and
 * not yet handled; so it outlives the deaths that it causes.  Device models know
 * nothing of it, but for FAULT_ERROR and FAULT_DROP of queue requests, which they
 * ask for by fault_request().
 *
 * Nobody pays for it while `armed` is 0: one relaxed load per request.
 */
#ifndef PROTO_FAULT_H
#define PROTO_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAULT_PLANS 4u /* that a device may have at once */

enum fault_kind {
	FAULT_NONE,
	FAULT_KILL, /* the process dies before it handles the request */
	FAULT_HANG, /* it stops answering, until it is replaced */
	FAULT_SLOW, /* the request takes value ns more */
	FAULT_ERROR, /* a queue request fails as the device's kind fails */
	FAULT_DROP, /* a queue request is never done; an answer never comes */
	FAULT_CORRUPT, /* the bits of value flip in a read's answer */
};

enum fault_on {
	FAULT_ON_ANY,
	FAULT_ON_READ, /* register reads */
	FAULT_ON_WRITE, /* register writes */
	FAULT_ON_QUEUE, /* queue requests */
};

struct fault_plan {
	/* The broker's; stored before armed. */
	uint32_t kind; /* enum fault_kind */
	uint32_t on; /* enum fault_on */
	uint64_t after; /* let so many matching requests pass first */
	uint64_t times; /* fire so often, then rest; 0: for ever */
	uint32_t per_million; /* chance of each matching request; 0: always */
	uint16_t region; /* for registers; 0xffff: any */
	uint16_t queue; /* for queue requests; 0xffff: any */
	uint64_t address; /* of the register; UINT64_MAX: any */
	uint64_t value; /* ns of FAULT_SLOW, bits of FAULT_CORRUPT */
	uint64_t seed; /* of per_million */
	uint64_t until_ns; /* guest time after which it rests; UINT64_MAX */
	_Atomic uint32_t armed; /* set last, by the broker; cleared by either */
	uint32_t pad;
	/* The device's. */
	_Atomic uint64_t seen; /* matching requests */
	_Atomic uint64_t fired;
};

struct fault_plans {
	_Atomic uint32_t any; /* some plan is armed */
	uint32_t pad;
	struct fault_plan plan[FAULT_PLANS];
};

/* What is asked about. */
struct fault_request {
	enum fault_on on; /* FAULT_ON_READ, _WRITE or _QUEUE */
	uint16_t region, queue;
	uint64_t address;
	uint64_t now_ns; /* guest time */
};

/*
 * The device's process: which plan fires on this request?  Counts it as seen
 * and fired before it returns, so that a death does not fire it again.  kind
 * FAULT_NONE: none.
 */
struct fault_hit {
	enum fault_kind kind;
	uint64_t value;
};
struct fault_hit
fault_match(struct fault_plans *plans, const struct fault_request *request);

/* The broker: put a plan into a free place and arm it: its index; -ENOSPC;
 * -EINVAL for what is out of range. */
int fault_arm(struct fault_plans *plans, const struct fault_plan *plan);
void fault_disarm_all(struct fault_plans *plans);

/* "kill", "hang", ...; -EINVAL. */
int fault_kind_parse(const char *name);
const char *fault_kind_name(unsigned kind);

#endif
