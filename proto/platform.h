/*
 * The fixed part of the platform's address layout: what the broker decodes, the
 * loader describes and the host bridge announces.
 */
#ifndef PROTO_PLATFORM_H
#define PROTO_PLATFORM_H

#include <stdint.h>

/* Memory-mapped configuration space of bus 0; PCI Express 5.0, 7.2.2. */
#define PLATFORM_ECAM_BASE 0xe0000000u
#define PLATFORM_ECAM_SIZE (1u << 20)

/* The ports of configuration mechanism #1; PCI 3.0, 3.2.2.3.2. */
#define PLATFORM_PCI_ADDRESS_PORT 0xcf8u
#define PLATFORM_PCI_DATA_PORT	  0xcfcu

/* Where BARs below 4 GiB may lie. */
#define PLATFORM_PCI32_BASE 0xc0000000u
#define PLATFORM_PCI32_SIZE 0x20000000u

/* Where BARs above it may lie: behind RAM. */
#define PLATFORM_PCI64_SIZE (1ull << 34)
static inline uint64_t
platform_pci64_base(uint64_t ram_high)
{
	uint64_t end = (1ull << 32) + ram_high;

	return (end + PLATFORM_PCI64_SIZE - 1) & ~(PLATFORM_PCI64_SIZE - 1);
}

/* INTA# to INTD# of the slots are wired to the IOAPIC's last pins. */
#define PLATFORM_PCI_GSI_BASE 16u
#define PLATFORM_PCI_GSIS     8u
#define PLATFORM_PCI_SLOTS    32u
static inline unsigned
platform_pci_gsi(unsigned slot, unsigned pin /* 0: INTA# */)
{
	return PLATFORM_PCI_GSI_BASE + (slot + pin) % PLATFORM_PCI_GSIS;
}

#endif
