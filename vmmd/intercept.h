/*
 * Intercepts: from a vCPU's access to the device that answers it.
 *
 * The address map is made once, before the vCPUs run, and never changes.  A
 * port is the broker's end of one device; each of its lanes belongs to one
 * vCPU's thread.  The supervisor, on the main thread, restarts and removes the
 * device behind a port while vCPUs wait at it.
 */
#ifndef VMMD_INTERCEPT_H
#define VMMD_INTERCEPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/hypervisor.h"
#include "proto/ring.h"
#include "proto/store.h"

#define INTERCEPT_ROUTES 256u

/* How a device that runs in this process is reached (vmmd-inline only). */
struct placement_ops {
	/* Start it; control is its end of the channel, and becomes its own. */
	int (*start)(const char *type, int control, void **host);
	/* On a vCPU's thread: one access. */
	uint64_t (*access)(
	    void *host, unsigned vcpu, const struct ring_request *request);
};

/* One vCPU's side of a port. */
struct port_lane {
	_Alignas(64) _Atomic uint64_t pos; /* requests made */
	uint64_t spin_ns; /* how long to spin now */
	uint64_t sleeps; /* since it last answered in time */
	_Atomic uint64_t waiting_since_ns; /* 0: it does not sleep there */
	/* The last requests, as made: the ring's may have been scribbled on. */
	struct ring_request sent[RING_SLOTS];
};

struct port {
	struct ring_set *set;
	int kick_fd; /* borrowed */
	int fault_fd; /* borrowed eventfd: written when `fault` is set */
	unsigned vcpus;
	uint64_t spin_max_ns;
	int64_t clock_offset_ns;
	const atomic_bool *stopping; /* the VM ends: wait for nothing */
	atomic_bool removed;
	_Atomic uint32_t generation; /* counts the device's deaths */
	_Atomic uint32_t fault; /* generation + 1 of one that broke the rules */
	const struct placement_ops *inline_ops; /* NULL: it is a process */
	void *inline_host;
	struct port_lane lane[RING_MAX_VCPUS];
};

/* vCPU thread: make a request and wait as long as it must be.  All ones for a
 * read of a removed device. */
uint64_t
port_access(struct port *p, unsigned vcpu, const struct ring_request *request);

/*
 * Main thread, after the device is dead and before its successor starts: put
 * each ring where the committed state says it is.  0; -EPROTO when the store
 * holds positions that cannot be: nothing can go on from there.
 */
int port_recover(struct port *p, const struct store *store);

/* Main thread: the device comes back no more. */
void port_remove(struct port *p);

/* Main thread: has the present device broken the ring's rules? */
bool port_faulted(const struct port *p);

/* Main thread: the longest that a vCPU now sleeps at this port, ns since
 * `since_ns` at the earliest; 0: none. */
uint64_t port_waited_ns(const struct port *p, uint64_t since_ns, uint64_t now);

/* Main thread: does a request wait for an answer? */
bool port_busy(const struct port *p);

/* Any thread: wake every vCPU that sleeps at the port. */
void port_wake(struct port *p);

struct route {
	enum hv_space space;
	uint64_t base, last;
	struct port *port;
	uint16_t region;
	bool posted;
};

struct address_map {
	struct route routes[INTERCEPT_ROUTES]; /* by space, then by base */
	unsigned n;
};

/* Add a range that overlaps none there.  0; -ENOSPC; -EEXIST. */
int address_map_add(struct address_map *map, const struct route *route);
/* The route of that address, or NULL. */
const struct route *address_map_find(
    const struct address_map *map, enum hv_space space, uint64_t addr);

/* One vCPU's view: the ctx of intercept_access(). */
struct intercept {
	const struct address_map *map;
	unsigned vcpu;
	const struct route *last; /* a guess */
};

/*
 * The hv_handler of a vCPU.  What nobody decodes reads as all ones; an access
 * that reaches over the end of a range is made of single bytes.
 */
void intercept_access(void *ctx, struct hv_access *a);

#endif
