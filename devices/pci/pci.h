/*
 * The part that every PCI function has: configuration space, BARs, MSI-X.
 *
 * PCI Local Bus 3.0; PCI Express Base 5.0, chapter 7.  A PCI device model puts a
 * struct pci_state at the start of its state, describes itself in a const struct
 * pci_function, and gives accesses to regions[0] (its configuration space) and
 * to the MSI-X structures to the functions below.  They work on the state as
 * every step does; pci_settle() makes interrupts agree with it.
 */
#ifndef DEVICES_PCI_PCI_H
#define DEVICES_PCI_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "devhost/device.h"

#define PCI_CONFIG_SIZE 4096u
#define PCI_BARS	6u
#define PCI_CAPS_MAX	10u

/* A capability of the function's own: its bytes from the ID on; the pointer to
 * the next is filled in. */
struct pci_capability {
	const uint8_t *bytes;
	uint8_t size; /* 3 to 64 */
	/* Bits that the guest may write, by byte; NULL: none. */
	const uint8_t *writable;
};

struct pci_bar {
	uint16_t region; /* index in the device's placement; 0: no BAR */
	bool is64; /* takes the next BAR too */
	bool prefetchable;
};

/* Where the MSI-X table and pending bits are: in one region, which is a BAR
 * and marked `wiring`. */
struct pci_msix {
	uint8_t bar;
	uint16_t region; /* of that BAR */
	uint32_t table, pba; /* offsets, multiples of 8 */
};

struct pci_function {
	uint16_t vendor, device, subvendor, subsystem;
	uint8_t revision;
	uint32_t class_code; /* class << 16 | subclass << 8 | interface */
	uint8_t header_type; /* 0, or 0x80 for one of several functions */
	bool express; /* has a PCI Express capability: integrated endpoint */
	uint8_t interrupt_pin; /* 0: none, 1: INTA# */
	struct pci_bar bars[PCI_BARS];
	struct pci_msix msix; /* used if the type has vectors */
	const struct pci_capability *caps;
	unsigned ncaps;
	/* After FLR (PCI Express 5.0, 6.6.2): reset the device's own state. */
	void (*function_reset)(struct device *dev);
};

struct pci_vector {
	uint64_t address;
	uint32_t data, control; /* bit 0: masked */
	uint64_t sent; /* messages since it was last held back: what
			* device_msi() is told */
};

/* State; no pointers. */
struct pci_state {
	uint8_t config[256];
	uint64_t pending; /* MSI-X pending bits, by vector */
	uint64_t intx; /* level of INTA#: 0 low, else which rise it was */
	uint64_t rises; /* of INTA#, ever */
	/* Where these capabilities are in config; 0: there is none. */
	uint8_t msix, express, power;
	uint8_t pad[5];
	struct pci_vector vector[DEVICE_VECTORS_MAX];
};

/* Step: power-on values; BARs unmapped, everything disabled and masked. */
void pci_reset(
    struct device *dev, const struct pci_function *f, struct pci_state *s);
/* Is this a state that can be? */
bool pci_valid(const struct pci_state *s);

/* Where the function's own capability i begins. */
unsigned pci_capability_offset(const struct pci_function *f, unsigned i);

/* Step: an access to the configuration space (regions[0]). */
void pci_config_access(struct device *dev, const struct pci_function *f,
    struct pci_state *s, struct device_access *a);
/* Step: an access to the region of the MSI-X table; false: it is not in the
 * table or the pending bits. */
bool pci_msix_access(struct device *dev, const struct pci_function *f,
    struct pci_state *s, struct device_access *a);

/* May it read and write guest RAM (Bus Master Enable)? */
bool pci_master(const struct pci_state *s);
bool pci_msix_enabled(const struct pci_state *s);

/*
 * Step or work: raise an interrupt: a message if MSI-X is enabled (kept pending
 * while masked; an impossible vector does nothing).
 */
void pci_raise_vector(struct device *dev, struct pci_state *s, unsigned vector);
/* The level of INTA#, used while MSI-X is off.  high: it goes up, again if it
 * is up already. */
void pci_set_intx(struct device *dev, struct pci_state *s, bool high);

/* settle(): messages and INTA#. */
void pci_settle(struct device *dev, const struct pci_state *s);

#endif
