/*
 * The ACPI tables of the platform: RSDP, XSDT, FADT, FACS, DSDT, MADT and, with
 * a PCI host bridge, MCFG (PCI Firmware Specification 3.3, 4.1.2).
 * ACPI Specification 6.4, section 5.2.
 */
#ifndef DEVICES_ACPI_TABLES_H
#define DEVICES_ACPI_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml;

/* Where the fixed registers stand, as offsets from acpi_config.pm_base. */
#define ACPI_PM1_EVENT	 0u /* 4 bytes: status, enable */
#define ACPI_PM1_CONTROL 4u /* 2 bytes */
#define ACPI_PM_TIMER	 8u /* 4 bytes, counts to 32 bits */
#define ACPI_RESET	 12u /* 1 byte */

#define ACPI_PM_BASE	 0x600u /* where no device says otherwise */
#define ACPI_SCI	 9u
#define ACPI_SLEEP_S5	 5u /* SLP_TYP that means soft off */
#define ACPI_RESET_VALUE 1u /* written to ACPI_RESET resets the machine */

#define ACPI_VCPUS_MAX	 64u

struct acpi_config {
	unsigned vcpus; /* 1 to ACPI_VCPUS_MAX; vCPU n has APIC id n */
	uint16_t pm_base; /* I/O port */
	uint8_t sci; /* GSI, level, active high */
	bool i8042, rtc; /* is there one */
	uint64_t ecam; /* configuration space of bus 0; 0: no PCI */
	/* Writes the devices' nodes into \_SB; may be NULL. */
	void (*devices)(struct aml *aml, void *ctx);
	void *ctx;
};

/*
 * Build the tables into buf, whose size bytes appear in the guest at gpa, a
 * multiple of 64 below 4 GiB.  The RSDP comes first, at gpa.  Bytes used;
 * -EINVAL: no such configuration, or a device wrote malformed AML; -ENOSPC:
 * they do not fit.
 */
int acpi_build(
    const struct acpi_config *config, void *buf, size_t size, uint64_t gpa);

#endif
