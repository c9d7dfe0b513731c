/* The address layout. */
#include "vmmd/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/platform.h"

/* A range of ports or addresses, and whose it is. */
struct range {
	enum hv_space space;
	uint64_t base, size;
	const char *owner, *name, *more;
};

/*
 * What no device can be given: what every backend decodes itself, and, if there
 * is a PCI function, what belongs to the bus.
 */
#define HELD  6u
#define PCI64 9u
static const struct range platform[] = {
	{ HV_PIO, 0x20, 2, "(hypervisor)", "pic", "" },
	{ HV_PIO, 0x40, 4, "(hypervisor)", "pit", "" },
	{ HV_PIO, 0xa0, 2, "(hypervisor)", "pic", "" },
	{ HV_PIO, 0x4d0, 2, "(hypervisor)", "pic", "" },
	{ HV_MMIO, 0xfec00000, 0x1000, "(hypervisor)", "ioapic", "" },
	{ HV_MMIO, 0xfee00000, 0x1000, "(hypervisor)", "lapic", "" },
	{ HV_PIO, PLATFORM_PCI_ADDRESS_PORT, 8, "(pci)", "config", "" },
	{ HV_MMIO, PLATFORM_ECAM_BASE, PLATFORM_ECAM_SIZE, "(pci)", "ecam",
	    "" },
	{ HV_MMIO, PLATFORM_PCI32_BASE, PLATFORM_PCI32_SIZE, "(pci)", "bars",
	    "" },
	/* Its base follows from the end of RAM. */
	[PCI64] = { HV_MMIO, 0, PLATFORM_PCI64_SIZE, "(pci)", "bars", "" },
};

static unsigned
platform_ranges(bool pci)
{
	return pci ? ARRAY_LEN(platform) : HELD;
}

static struct range
platform_range(unsigned i, const struct layout_ram *ram)
{
	struct range r = platform[i];

	if (i == PCI64)
		r.base = platform_pci64_base(ram->high);
	return r;
}

/* Held lines: the PIT's, and the cascade between the two PICs. */
static const unsigned held_gsi[] = { 0, 2 };

struct layout_ram
layout_split_ram(uint64_t memory)
{
	struct layout_ram ram = { .low = MIN(memory, LAYOUT_LOW_MAX) };

	ram.high = memory - ram.low;
	return ram;
}

static bool
overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a_size != 0 && b_size != 0 && a <= b + (b_size - 1) &&
	    b <= a + (a_size - 1);
}

/* Where its registers are is known: not those of a BAR. */
static bool
is_fixed(const struct region *r)
{
	return !r->config && !r->bar;
}

static bool
meets(const struct region *a, const struct region *b)
{
	if (a->config && b->config)
		return a->base == b->base;
	return is_fixed(a) && is_fixed(b) && a->space == b->space &&
	    overlap(a->base, a->size, b->base, b->size);
}

static const char *
region_taken(const struct region *r, const struct layout_item *items,
    unsigned n, const struct layout_ram *ram, bool pci)
{
	if (is_fixed(r)) {
		if (r->space == HV_MMIO &&
		    (overlap(r->base, r->size, 0, ram->low) ||
			overlap(r->base, r->size, LAYOUT_HIGH_BASE, ram->high)))
			return "memory";
		for (unsigned i = 0; i < platform_ranges(pci); i++) {
			struct range p = platform_range(i, ram);

			if (p.space == r->space &&
			    overlap(r->base, r->size, p.base, p.size))
				return i < HELD ? p.name : "pci";
		}
	}
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < items[i].placed.nregions; j++)
			if (meets(r, &items[i].placed.regions[j]))
				return items[i].name;
	return NULL;
}

static const char *
irq_taken(const struct irq *irq, const struct layout_item *items, unsigned n)
{
	for (unsigned i = 0; i < ARRAY_LEN(held_gsi); i++)
		if (held_gsi[i] == irq->gsi)
			return "the platform";
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < items[i].placed.nirqs; j++) {
			const struct irq *other = &items[i].placed.irqs[j];

			if (other->gsi == irq->gsi && !(other->pci && irq->pci))
				return items[i].name;
		}
	return NULL;
}

static bool
fits_itself(const struct placement *p)
{
	for (unsigned i = 0; i < p->nregions; i++)
		for (unsigned j = 0; j < i; j++)
			if (meets(&p->regions[i], &p->regions[j]))
				return false;
	for (unsigned i = 0; i < p->nirqs; i++)
		for (unsigned j = 0; j < i; j++)
			if (p->irqs[i].gsi == p->irqs[j].gsi)
				return false;
	return true;
}

/* The next free slot, for a function that has none; its line in either case.
 * Slot 0 is for the one that asks for it, the host bridge. */
static void
give_slot(struct placement *p, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram)
{
	struct region *r = &p->regions[0];
	unsigned slot;

	if (p->nregions == 0 || !r->config)
		return;
	if (r->base == MANIFEST_ANY_SLOT) {
		r->base = MANIFEST_PCI_SLOT;
		while (r->base < PLATFORM_ECAM_SIZE &&
		    region_taken(r, items, n, ram, true) != NULL)
			r->base += MANIFEST_PCI_SLOT;
	}
	slot = (unsigned)(r->base / MANIFEST_PCI_SLOT);
	for (unsigned i = 0; i < p->nirqs; i++)
		if (p->irqs[i].pci)
			p->irqs[i].gsi = platform_pci_gsi(slot, 0);
}

static const char *
space_name(const struct region *r)
{
	return r->config ? "pci" : r->space == HV_PIO ? "port" : "address";
}

/* Does it fit beside the first n items?  If not, why. */
static bool
fits(const struct placement *p, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram, bool pci, char *err, size_t size)
{
	const char *by;

	if (!fits_itself(p)) {
		snprintf(err, size, "it overlaps itself");
		return false;
	}
	for (unsigned i = 0; i < p->nregions; i++) {
		const struct region *r = &p->regions[i];

		if (r->config && r->base >= PLATFORM_ECAM_SIZE) {
			snprintf(err, size, "no pci slot is free");
			return false;
		}
		by = region_taken(r, items, n, ram, pci);
		if (by != NULL) {
			snprintf(err, size, "%s 0x%" PRIx64 " is taken by %s",
			    space_name(r), r->base, by);
			return false;
		}
	}
	for (unsigned i = 0; i < p->nirqs; i++) {
		by = irq_taken(&p->irqs[i], items, n);
		if (by != NULL) {
			snprintf(err, size, "interrupt %u is taken by %s",
			    p->irqs[i].gsi, by);
			return false;
		}
	}
	return true;
}

static bool
may_be_pci(const struct manifest *m)
{
	for (unsigned p = 0; p < m->nplacements; p++)
		if (m->placements[p].nregions > 0 &&
		    m->placements[p].regions[0].config)
			return true;
	return false;
}

bool
layout_has_pci(const struct layout_item *items, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (items[i].placed.nregions > 0 &&
		    items[i].placed.regions[0].config)
			return true;
	return false;
}

int
layout_place(struct layout_item *items, unsigned n,
    const struct layout_ram *ram, char *err, size_t size)
{
	char why[128] = "";
	bool pci = false;

	for (unsigned i = 0; i < n; i++)
		pci |= may_be_pci(items[i].manifest);
	for (unsigned i = 0; i < n; i++) {
		const struct manifest *m = items[i].manifest;
		struct placement *placed = &items[i].placed;

		items[i].chosen = -1;
		for (unsigned p = 0; p < m->nplacements; p++) {
			*placed = m->placements[p];
			give_slot(placed, items, i, ram);
			if (fits(
				placed, items, i, ram, pci, why, sizeof(why))) {
				items[i].chosen = (int)p;
				break;
			}
		}
		if (items[i].chosen >= 0)
			continue;
		memset(placed, 0, sizeof(*placed));
		if (m->nplacements > 0) {
			snprintf(err, size,
			    "device %s (type %s) has no place: %s",
			    items[i].name, m->type, why);
			return -ENOSPC;
		}
	}
	return 0;
}

#define LINES (ARRAY_LEN(platform) + 32u * MANIFEST_REGIONS)

static int
compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	if (x->space != y->space)
		return x->space == HV_MMIO ? -1 : 1;
	return x->base < y->base ? -1 : x->base > y->base;
}

static void
dump_ranges(FILE *out, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram)
{
	struct range lines[LINES];
	unsigned m = 0;

	while (m < platform_ranges(layout_has_pci(items, n))) {
		lines[m] = platform_range(m, ram);
		m++;
	}
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < items[i].placed.nregions; j++) {
			const struct region *r = &items[i].placed.regions[j];

			if (is_fixed(r) && m < LINES)
				lines[m++] = (struct range){ r->space, r->base,
					r->size, items[i].name, r->name,
					r->posted ? " posted" : "" };
		}
	qsort(lines, m, sizeof(lines[0]), compare_ranges);
	for (unsigned i = 0; i < m; i++) {
		const struct range *l = &lines[i];

		fprintf(out,
		    l->space == HV_PIO
			? "pio   %04" PRIx64 "-%04" PRIx64 "  %s %s%s\n"
			: "mmio  %012" PRIx64 "-%012" PRIx64 "  %s %s%s\n",
		    l->base, l->base + (l->size - 1), l->owner, l->name,
		    l->more);
	}
}

static void
dump_functions(FILE *out, const struct layout_item *items, unsigned n)
{
	for (unsigned slot = 0; slot < PLATFORM_PCI_SLOTS; slot++)
		for (unsigned i = 0; i < n; i++)
			if (items[i].placed.nregions > 0 &&
			    items[i].placed.regions[0].config &&
			    items[i].placed.regions[0].base ==
				slot * MANIFEST_PCI_SLOT)
				fprintf(out, "pci   00:%02x.0  %s\n", slot,
				    items[i].name);
}

void
layout_dump(FILE *out, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram)
{
	fprintf(out, "ram   %012x-%012" PRIx64 "\n", 0, ram->low - 1);
	if (ram->high > 0)
		fprintf(out, "ram   %012llx-%012llx\n", LAYOUT_HIGH_BASE,
		    LAYOUT_HIGH_BASE + ram->high - 1);
	dump_ranges(out, items, n, ram);
	dump_functions(out, items, n);
	for (unsigned gsi = 0; gsi < 24; gsi++)
		for (unsigned i = 0; i < n; i++)
			for (unsigned j = 0; j < items[i].placed.nirqs; j++)
				if (items[i].placed.irqs[j].gsi == gsi)
					fprintf(out, "irq   %-2u %s  %s\n", gsi,
					    items[i].placed.irqs[j].level
						? "level"
						: "edge",
					    items[i].name);
}
