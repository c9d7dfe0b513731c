/* The address layout. */
#include "vmmd/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base.h"

/* What every backend decodes itself: no access to it ever reaches a device. */
static const struct {
	enum hv_space space;
	uint64_t base, size;
	const char *name;
} held[] = {
	{ HV_PIO, 0x20, 2, "pic" },
	{ HV_PIO, 0x40, 4, "pit" },
	{ HV_PIO, 0xa0, 2, "pic" },
	{ HV_PIO, 0x4d0, 2, "pic" },
	{ HV_MMIO, 0xfec00000, 0x1000, "ioapic" },
	{ HV_MMIO, 0xfee00000, 0x1000, "lapic" },
};

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

static const char *
region_taken(const struct region *r, const struct layout_item *items,
    unsigned n, const struct layout_ram *ram)
{
	if (r->space == HV_MMIO &&
	    (overlap(r->base, r->size, 0, ram->low) ||
		overlap(r->base, r->size, LAYOUT_HIGH_BASE, ram->high)))
		return "memory";
	for (unsigned i = 0; i < ARRAY_LEN(held); i++)
		if (held[i].space == r->space &&
		    overlap(r->base, r->size, held[i].base, held[i].size))
			return held[i].name;
	for (unsigned i = 0; i < n; i++) {
		const struct placement *p;

		if (items[i].chosen < 0)
			continue;
		p = &items[i].manifest->placements[items[i].chosen];
		for (unsigned j = 0; j < p->nregions; j++)
			if (p->regions[j].space == r->space &&
			    overlap(r->base, r->size, p->regions[j].base,
				p->regions[j].size))
				return items[i].name;
	}
	return NULL;
}

static const char *
gsi_taken(unsigned gsi, const struct layout_item *items, unsigned n)
{
	for (unsigned i = 0; i < ARRAY_LEN(held_gsi); i++)
		if (held_gsi[i] == gsi)
			return "the platform";
	for (unsigned i = 0; i < n; i++) {
		const struct placement *p;

		if (items[i].chosen < 0)
			continue;
		p = &items[i].manifest->placements[items[i].chosen];
		for (unsigned j = 0; j < p->nirqs; j++)
			if (p->irqs[j].gsi == gsi)
				return items[i].name;
	}
	return NULL;
}

static bool
fits_itself(const struct placement *p)
{
	for (unsigned i = 0; i < p->nregions; i++)
		for (unsigned j = 0; j < i; j++)
			if (p->regions[i].space == p->regions[j].space &&
			    overlap(p->regions[i].base, p->regions[i].size,
				p->regions[j].base, p->regions[j].size))
				return false;
	for (unsigned i = 0; i < p->nirqs; i++)
		for (unsigned j = 0; j < i; j++)
			if (p->irqs[i].gsi == p->irqs[j].gsi)
				return false;
	return true;
}

/* Does it fit beside the first n items?  If not, why. */
static bool
fits(const struct placement *p, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram, char *err, size_t size)
{
	const char *by;

	if (!fits_itself(p)) {
		snprintf(err, size, "it overlaps itself");
		return false;
	}
	for (unsigned i = 0; i < p->nregions; i++) {
		by = region_taken(&p->regions[i], items, n, ram);
		if (by != NULL) {
			snprintf(err, size, "%s 0x%" PRIx64 " is taken by %s",
			    p->regions[i].space == HV_PIO ? "port" : "address",
			    p->regions[i].base, by);
			return false;
		}
	}
	for (unsigned i = 0; i < p->nirqs; i++) {
		by = gsi_taken(p->irqs[i].gsi, items, n);
		if (by != NULL) {
			snprintf(err, size, "interrupt %u is taken by %s",
			    p->irqs[i].gsi, by);
			return false;
		}
	}
	return true;
}

int
layout_place(struct layout_item *items, unsigned n,
    const struct layout_ram *ram, char *err, size_t size)
{
	char why[128] = "";

	for (unsigned i = 0; i < n; i++) {
		const struct manifest *m = items[i].manifest;

		items[i].chosen = -1;
		for (unsigned p = 0; p < m->nplacements; p++)
			if (fits(&m->placements[p], items, i, ram, why,
				sizeof(why))) {
				items[i].chosen = (int)p;
				break;
			}
		if (items[i].chosen < 0 && m->nplacements > 0) {
			snprintf(err, size,
			    "device %s (type %s) has no place: %s",
			    items[i].name, m->type, why);
			return -ENOSPC;
		}
	}
	return 0;
}

static void
dump_space(
    FILE *out, enum hv_space space, const struct layout_item *items, unsigned n)
{
	uint64_t from = 0;

	/* The next range from `from` on, until there is none. */
	for (;;) {
		uint64_t base = UINT64_MAX, last = 0;
		const char *owner = NULL, *name = "";
		bool posted = false;

		for (unsigned i = 0; i < ARRAY_LEN(held); i++)
			if (held[i].space == space && held[i].base >= from &&
			    held[i].base < base) {
				base = held[i].base;
				last = base + held[i].size - 1;
				owner = "(hypervisor)";
				name = held[i].name;
			}
		for (unsigned i = 0; i < n; i++) {
			const struct placement *p;

			if (items[i].chosen < 0)
				continue;
			p = &items[i].manifest->placements[items[i].chosen];
			for (unsigned j = 0; j < p->nregions; j++) {
				const struct region *r = &p->regions[j];

				if (r->space != space || r->base < from ||
				    r->base >= base)
					continue;
				base = r->base;
				last = base + r->size - 1;
				owner = items[i].name;
				name = r->name;
				posted = r->posted;
			}
		}
		if (owner == NULL)
			return;
		if (space == HV_PIO)
			fprintf(
			    out, "pio   %04" PRIx64 "-%04" PRIx64, base, last);
		else
			fprintf(out, "mmio  %012" PRIx64 "-%012" PRIx64, base,
			    last);
		fprintf(
		    out, "  %s %s%s\n", owner, name, posted ? " posted" : "");
		if (last == UINT64_MAX)
			return;
		from = last + 1;
	}
}

void
layout_dump(FILE *out, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram)
{
	fprintf(out, "ram   %012x-%012" PRIx64 "\n", 0, ram->low - 1);
	if (ram->high > 0)
		fprintf(out, "ram   %012llx-%012llx\n", LAYOUT_HIGH_BASE,
		    LAYOUT_HIGH_BASE + ram->high - 1);
	dump_space(out, HV_MMIO, items, n);
	dump_space(out, HV_PIO, items, n);
	for (unsigned gsi = 0; gsi < 24; gsi++) {
		for (unsigned i = 0; i < n; i++) {
			const struct placement *p;

			if (items[i].chosen < 0)
				continue;
			p = &items[i].manifest->placements[items[i].chosen];
			for (unsigned j = 0; j < p->nirqs; j++)
				if (p->irqs[j].gsi == gsi)
					fprintf(out, "irq   %-2u %s  %s\n", gsi,
					    p->irqs[j].level ? "level" : "edge",
					    items[i].name);
		}
	}
}
