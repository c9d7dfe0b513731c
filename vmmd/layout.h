/*
 * The address layout: which registers, ports and interrupt lines each device
 * gets.  A pure function of the configuration, and an ABI: guests and saved
 * states depend on it.  Golden files in tests/golden hold it.
 */
#ifndef VMMD_LAYOUT_H
#define VMMD_LAYOUT_H

#include <stdio.h>

#include "vmmd/manifest.h"

#define LAYOUT_LOW_MAX	 (3ull << 30) /* RAM below the 32-bit hole */
#define LAYOUT_HIGH_BASE (4ull << 30)

struct layout_ram {
	uint64_t low; /* bytes from 0 */
	uint64_t high; /* bytes from 4 GiB */
};

struct layout_item {
	const char *name;
	const struct manifest *manifest;
	int chosen; /* out: index of the placement; -1: it needs none */
	struct placement placed; /* out: that, with its slot and its line */
};

/* Split `memory` bytes around the hole below 4 GiB. */
struct layout_ram layout_split_ram(uint64_t memory);

/* Is any of those placed a PCI function? */
bool layout_has_pci(const struct layout_item *items, unsigned n);

/*
 * Choose for each device, in order, its first placement that overlaps neither
 * RAM, nor what the hypervisor holds itself, nor, if there is a PCI function,
 * what belongs to the bus (proto/platform.h), nor a device before it.  A PCI
 * function of no slot gets the next one that is free, and its line follows from
 * that; functions may share one.  BARs have no place here: the guest gives them
 * theirs.  0; -ENOSPC and the reason in err when none of a device's placements
 * fits.
 */
int layout_place(struct layout_item *items, unsigned n,
    const struct layout_ram *ram, char *err, size_t size);

/* Print a layout that layout_place() made. */
void layout_dump(FILE *out, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram);

#endif
