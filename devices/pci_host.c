/*
 * The PCI host bridge, 00:00.0: what the operating system finds in the DSDT
 * and at the first function of the bus.
 *
 * PCI Firmware Specification 3.3; ACPI 6.4, 6.2 and 6.4.
 */
#include "devhost/device.h"
#include "devices/acpi/aml.h"
#include "devices/pci/pci.h"
#include "proto/base.h"
#include "proto/platform.h"

struct pci_host {
	struct pci_state pci;
};

static const struct pci_function function = {
	.vendor = 0x8086,
	.device = 0x29c0,
	.subvendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x060000,
};

static void
host_reset(struct device *dev)
{
	struct pci_host *s = device_state(dev);

	pci_reset(dev, &function, &s->pci);
}

static bool
host_valid(const void *state)
{
	const struct pci_host *s = state;

	return pci_valid(&s->pci);
}

static void
host_access(struct device *dev, struct device_access *a)
{
	struct pci_host *s = device_state(dev);

	pci_config_access(dev, &function, &s->pci, a);
}

static void
host_settle(struct device *dev)
{
	const struct pci_host *s = device_state(dev);

	pci_settle(dev, &s->pci);
}

/* ---- the DSDT ---- */

#define OSC_UUID "33db4d5b-1ff7-401c-9657-7441c03dd766"

static void
write_windows(struct aml *aml, const struct device_machine *machine)
{
	aml_crs_begin(aml);
	aml_crs_bus(aml, 0, 0);
	aml_crs_io(aml, PLATFORM_PCI_ADDRESS_PORT, 8);
	aml_crs_window_io(aml, 0, PLATFORM_PCI_ADDRESS_PORT);
	aml_crs_window_io(aml, PLATFORM_PCI_ADDRESS_PORT + 8,
	    0x10000u - PLATFORM_PCI_ADDRESS_PORT - 8);
	aml_crs_window_memory32(aml, PLATFORM_PCI32_BASE, PLATFORM_PCI32_SIZE);
	aml_crs_window_memory64(
	    aml, platform_pci64_base(machine->ram_high), PLATFORM_PCI64_SIZE);
	aml_crs_end(aml);
}

static void
write_routing(struct aml *aml)
{
	aml_package_begin(aml, "_PRT", PLATFORM_PCI_SLOTS * 4);
	for (unsigned slot = 0; slot < PLATFORM_PCI_SLOTS; slot++) {
		for (unsigned pin = 0; pin < 4; pin++) {
			aml_element_package_begin(aml, 4);
			aml_int(aml, slot << 16 | 0xffff);
			aml_int(aml, pin);
			aml_int(aml, 0);
			aml_int(aml, platform_pci_gsi(slot, pin));
			aml_end(aml);
		}
	}
	aml_end(aml);
}

static void
host_acpi(struct aml *aml, const struct device_placement *placed UNUSED,
    const struct device_machine *machine)
{
	aml_device_begin(aml, "PCI0");
	aml_name_eisaid(aml, "_HID", "PNP0A08");
	aml_name_eisaid(aml, "_CID", "PNP0A03");
	aml_name_int(aml, "_SEG", 0);
	aml_name_int(aml, "_BBN", 0);
	aml_name_int(aml, "_UID", 0);
	aml_name_int(aml, "_CCA", 1);
	write_windows(aml, machine);
	write_routing(aml);
	/* Control of native features is not granted: there are none. */
	aml_method_osc(aml, OSC_UUID);
	aml_end(aml);

	/* What no one may be given: the memory of the configuration space. */
	aml_device_begin(aml, "MRES");
	aml_name_eisaid(aml, "_HID", "PNP0C02");
	aml_name_int(aml, "_UID", 0);
	aml_crs_begin(aml);
	aml_crs_memory32(aml, PLATFORM_ECAM_BASE, PLATFORM_ECAM_SIZE);
	aml_crs_end(aml);
	aml_end(aml);
}

static const struct device_placement placements[] = {
	{
	    .regions = { { .name = "config",
		.space = DEVICE_PCI_CONFIG,
		.wiring = true,
		.base = 0,
		.size = PCI_CONFIG_SIZE } },
	    .nregions = 1,
	},
};

static const struct device_register registers[] = {
	{ "vendor", 0, 0x00, 2, true },
	{ "device", 0, 0x02, 2, true },
	{ "command", 0, 0x04, 2, false },
	{ "status", 0, 0x06, 2, false },
	{ "class", 0, 0x08, 4, true },
};

static const struct device_ops ops = {
	.reset = host_reset,
	.valid = host_valid,
	.access = host_access,
	.settle = host_settle,
	.acpi = host_acpi,
};

static const struct device_type pci_host = {
	.name = "pci-host",
	.title = "PCI host bridge: configuration space, windows, interrupts",
	.platform = true,
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct pci_host),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.registers = registers,
	.nregisters = ARRAY_LEN(registers),
	.ops = &ops,
};
DEVTYPE_REGISTER(pci_host);
