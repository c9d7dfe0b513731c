/* Configuration cycles. */
#include "vmmd/pci.h"

#define ENABLE	    0x80000000u
#define KEPT	    (ENABLE | 0x00fffffcu) /* bits of the latch; 3.2.2.3.2 */
#define BUS	    0x00ff0000u
#define REGISTER    0xfcu
#define SLOT_SHIFT  15u /* in ECAM; bits 11 to 15 of the latch */
#define CONFIG_SIZE 4096u

int
pci_add_routes(struct pci *pci, struct route_table *t)
{
	const struct route ecam = {
		.space = HV_MMIO,
		.base = PLATFORM_ECAM_BASE,
		.last = PLATFORM_ECAM_BASE + PLATFORM_ECAM_SIZE - 1,
		.pci = pci,
	};
	const struct route ports = {
		.space = HV_PIO,
		.base = PLATFORM_PCI_ADDRESS_PORT,
		.last = PLATFORM_PCI_DATA_PORT + 3,
		.pci = pci,
	};
	int r = route_table_add(t, &ecam);

	return r < 0 ? r : route_table_add(t, &ports);
}

void
pci_add_function(struct pci *pci, unsigned slot, struct port *port,
    uint16_t region, bool wiring)
{
	uint64_t base = PLATFORM_ECAM_BASE + ((uint64_t)slot << SLOT_SHIFT);

	pci->slot[slot] = (struct route){
		.space = HV_MMIO,
		.base = base,
		.last = base + CONFIG_SIZE - 1,
		.port = port,
		.region = region,
		.wiring = wiring,
	};
}

static void
nobody(struct hv_access *a)
{
	if (!a->write)
		a->data = ring_size_mask(a->size);
}

/* addr is an address in ECAM, and all of the access lies in there. */
static void
access_ecam(
    struct pci *pci, struct intercept *ic, struct hv_access *a, uint64_t addr)
{
	const struct route *r =
	    &pci->slot[(addr - PLATFORM_ECAM_BASE) >> SLOT_SHIFT];
	struct hv_access b = *a;

	/* Over the end of a function: what no bus does, nobody answers. */
	if (r->port == NULL || addr > r->last ||
	    a->size - 1u > r->last - addr) {
		nobody(a);
		return;
	}
	b.space = HV_MMIO;
	b.addr = addr;
	intercept_route(ic, r, &b);
	a->data = b.data;
}

static void
access_latch(struct pci *pci, struct hv_access *a)
{
	if (a->addr != PLATFORM_PCI_ADDRESS_PORT || a->size != 4)
		nobody(a);
	else if (a->write)
		atomic_store(&pci->address, (uint32_t)a->data & KEPT);
	else
		a->data = atomic_load(&pci->address);
}

void
pci_access(struct pci *pci, struct intercept *ic, struct hv_access *a)
{
	uint32_t latch;
	uint64_t offset;

	if (a->space == HV_MMIO) {
		access_ecam(pci, ic, a, a->addr);
		return;
	}
	if (a->addr < PLATFORM_PCI_DATA_PORT) {
		access_latch(pci, a);
		return;
	}
	latch = atomic_load(&pci->address);
	if ((latch & ENABLE) == 0 || (latch & BUS) != 0) {
		nobody(a);
		return;
	}
	/* Slot and function are three bits further up in ECAM. */
	offset = ((uint64_t)(latch & 0xff00) << 4) + (latch & REGISTER) +
	    (a->addr - PLATFORM_PCI_DATA_PORT);
	access_ecam(pci, ic, a, PLATFORM_ECAM_BASE + offset);
}
