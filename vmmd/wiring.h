/*
 * Wiring: where a device's BARs, doorbells and messages are, as its committed
 * state says (proto/store.h), made true in the address map and the partition.
 *
 * wiring_apply() may be called by any thread but from a handler of the map's
 * readers; a lock per VM orders the calls.  A vCPU calls it after a write to a
 * region marked `wiring` and before the guest sees that the write is done, so
 * that the guest's next access, from whichever vCPU, finds the BAR where it was
 * put.  Every field is checked: the store is the device's to scribble on.
 */
#ifndef VMMD_WIRING_H
#define VMMD_WIRING_H

#include <pthread.h>

#include "hypervisor/hypervisor.h"
#include "proto/store.h"
#include "vmmd/intercept.h"
#include "vmmd/manifest.h"

#define WIRING_DEVICES 32u
#define WIRING_TEXT    128u

struct wiring;

/* What the devices of a VM share. */
struct wiring_bus {
	pthread_mutex_t lock;
	const struct hv_backend *hv;
	struct hv_partition *partition;
	struct address_map *map;
	struct {
		uint64_t base, size;
	} window[2]; /* where BARs may lie */
	int notify_fd; /* borrowed eventfd: written when one was refused */
	struct wiring *device[WIRING_DEVICES];
	unsigned ndevices;
};

/* Of one device. */
struct wiring {
	struct wiring_bus *bus;
	const struct store *store;
	const struct placement *placed;
	const struct doorbells *doorbells;
	struct port *port;
	int bell_fd[MANIFEST_DOORBELLS]; /* owned by the caller */
	unsigned gsi, nvectors; /* vector i is bound to gsi + i */
	/* Under the lock, but for reading generation. */
	_Atomic uint64_t generation; /* the last that was applied */
	uint64_t want[MANIFEST_REGIONS], mapped[MANIFEST_REGIONS];
	struct store_vector vector[MANIFEST_VECTORS];
	char refused[WIRING_TEXT]; /* what has not been reported; "" */
};

/* ram_high: bytes from 4 GiB.  The map is empty but for what never moves. */
void wiring_bus_init(struct wiring_bus *bus, const struct hv_backend *hv,
    struct hv_partition *partition, struct address_map *map, uint64_t ram_high,
    int notify_fd);

/*
 * Add a device whose fields up to nvectors are set, and bind the doorbells of a
 * region that is not a BAR.  Before the vCPUs run.  0 or the backend's error.
 */
int wiring_add(struct wiring *w);

/* Make true what is committed, if it has changed. */
void wiring_apply(struct wiring *w);

/* Where the BAR of a region is mapped; 0: nowhere. */
uint64_t wiring_where(struct wiring *w, unsigned region);

/* Copy and forget what was refused last.  False: nothing. */
bool wiring_refusal(struct wiring *w, char text[WIRING_TEXT]);

#endif
