/*
 * What a device host says of itself in Hello, in plain structs whose sizes and
 * counts have been checked.  Pure functions; any thread.
 */
#ifndef VMMD_MANIFEST_H
#define VMMD_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hypervisor/hypervisor.h"
#include "proto/channel.h"

#define MANIFEST_NAME	    32u /* bytes of a name, with its NUL */
#define MANIFEST_REGIONS    8u
#define MANIFEST_IRQS	    4u
#define MANIFEST_PLACEMENTS 16u
#define MANIFEST_STREAMS    4u
#define MANIFEST_VECTORS    33u
#define MANIFEST_DOORBELLS  33u
#define MANIFEST_LINKS	    1u
#define MANIFEST_FILES	    4u
#define MANIFEST_COUNTERS   16u

/* Configuration space of a PCI function: base is the slot << 15, or the layout
 * finds a slot. */
#define MANIFEST_PCI_CONFIG 4096u /* bytes */
#define MANIFEST_PCI_SLOT   0x8000u
#define MANIFEST_ANY_SLOT   UINT64_MAX

struct region {
	char name[MANIFEST_NAME];
	enum hv_space space;
	uint64_t base, size; /* bytes; the range does not wrap */
	bool posted;
	bool config; /* PCI configuration space; space is HV_MMIO */
	bool bar; /* of a size that is a power of two; base is not used */
	bool wiring; /* the wiring is looked at after a write; not posted */
};

struct irq {
	unsigned gsi; /* 0 to 23 */
	bool level;
	bool pci; /* gsi follows from the slot, once it is known */
};

/* Registers that are doorbells: all of them lie in the region. */
struct doorbells {
	unsigned region;
	uint64_t offset, stride; /* bytes */
	unsigned count; /* 0 to MANIFEST_DOORBELLS */
};

struct placement {
	struct region regions[MANIFEST_REGIONS];
	unsigned nregions;
	struct irq irqs[MANIFEST_IRQS];
	unsigned nirqs;
};

struct manifest {
	char type[MANIFEST_NAME];
	uint32_t state_version, state_size, log_size, dma;
	struct placement placements[MANIFEST_PLACEMENTS];
	unsigned nplacements;
	char streams[MANIFEST_STREAMS][MANIFEST_NAME];
	unsigned nstreams;
	struct doorbells doorbells;
	unsigned nvectors; /* of MSI-X */
	char links[MANIFEST_LINKS][MANIFEST_NAME];
	unsigned nlinks;
	struct {
		char name[MANIFEST_NAME];
		bool optional;
	} files[MANIFEST_FILES];
	unsigned nfiles;
	char counters[MANIFEST_COUNTERS][MANIFEST_NAME];
	unsigned ncounters;
	bool converts; /* states of other versions */
	uint32_t syscalls;
	uint64_t sandbox;
};

/*
 * Check a Hello and copy it.  0; -EPROTO with the reason in err when a count, a
 * size or a name is out of range.
 */
int manifest_from_hello(
    struct manifest *m, const Bulkhead__Hello *hello, char *err, size_t size);

/*
 * May a host that says `again` go on with the store, the rings and the
 * resources made for `first`?
 */
bool
manifest_same_shape(const struct manifest *first, const struct manifest *again);

/* May this be a VM's or a device's name?  1 to 31 of [A-Za-z0-9._-]. */
bool manifest_name_ok(const char *name);

#endif
