/*
 * Configuration cycles: from a vCPU's access to ECAM (PCI Express 5.0, 7.2.2)
 * or to the ports of mechanism #1 (PCI 3.0, 3.2.2.3.2) to the configuration
 * region of the function that is meant.  All that is held here is the address
 * latch.
 *
 * The functions are set before the vCPUs run; pci_access() is called on their
 * threads.
 */
#ifndef VMMD_PCI_H
#define VMMD_PCI_H

#include "proto/platform.h"
#include "vmmd/intercept.h"

struct pci {
	_Atomic uint32_t address; /* what was written to the address port */
	/* Function 0 of each slot; base is of the slot, in ECAM; port NULL:
	 * absent. */
	struct route slot[PLATFORM_PCI_SLOTS];
};

/* Add the routes of ECAM and of the ports.  0; -ENOSPC; -EEXIST. */
int pci_add_routes(struct pci *pci, struct route_table *t);

/* The function of a slot (below PLATFORM_PCI_SLOTS). */
void pci_add_function(struct pci *pci, unsigned slot, struct port *port,
    uint16_t region, bool wiring);

/*
 * An access that lies inside one of those routes.  Of a function that is not
 * there all ones are read.  The address port takes aligned accesses of 4 bytes;
 * others there are nobody's.
 */
void pci_access(struct pci *pci, struct intercept *ic, struct hv_access *a);

#endif
