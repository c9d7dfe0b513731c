/*
 * Guest time by instructions (--icount): the vCPU's thread asks the devices,
 * and adds up what the guest has met.
 *
 * Everything but icount_report() is the vCPU's thread's.
 */
#ifndef VMMD_ICOUNT_H
#define VMMD_ICOUNT_H

#include "vmmd/intercept.h"

#define ICOUNT_PER_US_MAX 1000000u
#define ICOUNT_PORTS	  64u

struct icount {
	const struct hv_backend *hv;
	struct hv_partition *partition;
	struct port *port[ICOUNT_PORTS];
	unsigned nports;
	uint64_t insns, accesses; /* up to the last access */
	uint64_t hash; /* of every access and when it was */
	bool ended; /* the guest has asked for the end: nothing more counts */
};

void icount_init(struct icount *ic, const struct hv_backend *hv,
    struct hv_partition *partition);
void icount_add_port(struct icount *ic, struct port *port);

uint64_t icount_now_ns(const struct icount *ic);

/*
 * An access is done.  If its device has asked the platform for the end, waits
 * for it.  port: the device's, or NULL.
 */
void icount_note(
    struct icount *ic, const struct hv_access *a, const struct port *port);

/* hv_handler.settle(). */
uint64_t icount_settle(struct icount *ic, uint64_t now_ns, bool told);

#endif
