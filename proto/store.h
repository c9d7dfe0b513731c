/*
 * The device store: everything of a device that outlives its process.
 *
 * A sealed memfd per device, created by the broker, mapped by the broker and
 * the device:
 *
 *	header | commit word | statistics | fault plans | slot 0 | slot 1 | log
 *
 * A slot holds, per vCPU, the position of the next request and the answer of
 * the one before it, then how the device is wired into the machine, then the
 * device's state.  The commit word is a
 * free-running count; its parity names the committed slot.  The other slot is
 * the working copy: the device changes it as it likes and makes it the
 * committed one by a single aligned 8-byte store.  A process killed at any
 * instruction leaves the store at the commit before or at the commit after,
 * never between.
 *
 * The log is the device's in-flight log (disk requests and the like); its
 * layout and its rules are the device's own.
 *
 * One thread, the owner's, calls the functions that write.  A struct store is
 * private to its process and holds the checked sizes; nothing in the shared
 * memory is used as a size or an offset.
 */
#ifndef PROTO_STORE_H
#define PROTO_STORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/fault.h"
#include "proto/stats.h"

#define STORE_MAGIC	0x45524f5453484b42u /* "BKHSTORE" */
#define STORE_LAYOUT	3u
#define STORE_STATE_MAX (1u << 20)
#define STORE_LOG_MAX	(16u << 20)

#define STORE_REGIONS	8u
#define STORE_VECTORS	64u
#define STORE_UNMAPPED	UINT64_MAX

/* What the store of a device must be; both sides derive it from the manifest. */
struct store_shape {
	uint32_t vcpus; /* 1 to RING_MAX_VCPUS */
	uint32_t state_size; /* bytes, 0 to STORE_STATE_MAX */
	uint32_t log_size; /* bytes, 0 to STORE_LOG_MAX */
	uint32_t state_version; /* the device type's */
	uint32_t vectors; /* MSI-X, 0 to STORE_VECTORS */
};

/* Where a message-signalled interrupt goes; PCI 3.0, 6.8.2. */
struct store_vector {
	uint64_t address;
	uint32_t data;
	uint32_t pad;
};

/*
 * How the device is wired into the machine: part of what is committed, made
 * true by the broker, which checks every field.  generation changes with every
 * other field.
 */
struct store_wiring {
	uint64_t generation;
	uint64_t bar[STORE_REGIONS]; /* by region; STORE_UNMAPPED */
	struct store_vector vector[]; /* shape.vectors of them */
};

struct store_position {
	uint64_t next; /* the request to handle next */
	uint64_t answer; /* of request next - 1 */
};

struct store {
	uint8_t *base;
	size_t size;
	struct store_shape shape;
	_Atomic uint64_t *commit;
	struct stats_device *stats;
	struct fault_plans
	    *faults; /* the broker's plans, the device's counts */
	uint8_t *slot[2];
	uint8_t *log;
};

/* Bytes of a store of that shape, a multiple of the page size; 0 if the shape
 * is out of range. */
size_t store_size(const struct store_shape *shape);

/* Broker: lay out an empty store in zeroed memory of store_size() bytes. */
int store_format(void *base, size_t size, const struct store_shape *shape);

/*
 * Either side: attach to a formatted store.  0; -EINVAL for a shape out of
 * range or a size that does not fit it; -EPROTO when the header disagrees.
 */
int store_attach(
    struct store *s, void *base, size_t size, const struct store_shape *shape);

/*
 * For readers of a copy: the shape that the header tells of.  0; -EPROTO when it
 * is no store, or one that does not fit into size bytes.
 */
int store_read_shape(const void *base, size_t size, struct store_shape *shape);

/* Has anything been committed yet?  False: the device must reset its state. */
int store_is_fresh(const struct store *s);

/* The working copy: positions and state.  Valid after store_recover(). */
struct store_position *store_positions(const struct store *s);
struct store_wiring *store_wiring(const struct store *s);
void *store_state(const struct store *s);

/* The committed copy, for readers of a store whose owner is dead or quiet. */
const struct store_position *store_committed_positions(const struct store *s);
const struct store_wiring *store_committed_wiring(const struct store *s);
const void *store_committed_state(const struct store *s);

/* Make the working copy equal to the committed one (after a restart). */
void store_recover(struct store *s);

/* Make the working copy the committed one; the new working copy equals it. */
void store_commit(struct store *s);

#endif
