/*
 * Intercepts: from a vCPU's access to the device that answers it.
 *
 * The address map changes while vCPUs run, when a BAR moves.  A port is the
 * broker's end of one device; each of its lanes belongs to one vCPU's thread.
 * The supervisor, on the main thread, restarts and removes the device behind a
 * port while vCPUs wait at it.  A port is there as long as its VM.
 */
#ifndef VMMD_INTERCEPT_H
#define VMMD_INTERCEPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "hypervisor/hypervisor.h"
#include "proto/ring.h"
#include "proto/store.h"

#define INTERCEPT_ROUTES 288u

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
	struct stats_wait stats;
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
	/* A vCPU that waits longer than this for one that is ready tells
	 * fault_fd of it, once per life of the device. */
	uint64_t deadline_ns;
	_Atomic uint64_t ready_ns; /* since when it is ready; 0: it is not */
	_Atomic uint32_t overdue; /* generation + 1 of one that was told of */
	const struct placement_ops *inline_ops; /* NULL: it is a process */
	void *inline_host;
	/* On the vCPU's thread, after its write to a region marked `wiring`. */
	void (*written)(void *ctx);
	void *written_ctx;
	struct port_lane lane[]; /* vcpus of them */
};

/* A zeroed port with that many lanes, to be freed; NULL: no memory. */
struct port *port_new(unsigned vcpus);

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

struct pci;
struct icount;

struct route {
	enum hv_space space;
	uint64_t base, last;
	struct port *port;
	struct pci *pci; /* configuration cycles: no port */
	uint16_t region;
	bool posted, wiring;
};

struct route_table {
	struct route routes[INTERCEPT_ROUTES]; /* by space, then by base */
	unsigned n;
};

/* Add a range that overlaps none there.  0; -ENOSPC; -EEXIST. */
int route_table_add(struct route_table *t, const struct route *route);
/* Take out the route that begins there, if there is one. */
void
route_table_remove(struct route_table *t, enum hv_space space, uint64_t base);
/* The route of that address, or NULL. */
const struct route *route_table_find(
    const struct route_table *t, enum hv_space space, uint64_t addr);

/*
 * Two tables: one that vCPUs read, without locks, and one for the next change.
 * Who changes the map holds a lock of its own.
 */
struct address_map {
	struct route_table table[2];
	/* Counts the changes; its parity names the table to be read. */
	_Atomic uint64_t version;
	struct {
		_Alignas(64) _Atomic uint32_t reading;
	} reader[RING_MAX_VCPUS];
};

/* A copy of the present table, to be changed and published. */
struct route_table *address_map_edit(struct address_map *map);
/*
 * From now on it is what is read.  Not from a reader: waits until no vCPU
 * reads the other one.
 */
void address_map_publish(struct address_map *map);

/* One vCPU's view: the ctx of intercept_access(). */
struct intercept {
	struct address_map *map;
	unsigned vcpu;
	struct route last; /* a copy: a guess for the next access */
	uint64_t version; /* of the map, when it was taken */
	struct stats_vcpu stats;
	struct icount *icount; /* NULL: guest time is the host's */
};

/* Read the map: a copy of that address's route.  False: there is none. */
bool intercept_find(struct intercept *ic, enum hv_space space, uint64_t addr,
    struct route *out);

/*
 * The hv_handler of a vCPU.  What nobody decodes reads as all ones; an access
 * that reaches over the end of a range is made of single bytes.
 */
void intercept_access(void *ctx, struct hv_access *a);

/* An access that lies inside the range of a port's route. */
void intercept_route(
    struct intercept *ic, const struct route *route, struct hv_access *a);

#endif
