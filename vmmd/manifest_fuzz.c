/*
 * A Hello, as a device host could say it, against the checks of manifest.c and
 * the layout of three devices that say the same.
 */
#include "vmmd/manifest.h"

#include <string.h>

#include "proto/base.h"
#include "proto/platform.h"
#include "vmmd/layout.h"

#define DEVICES 3u
#define BYTES	(256u << 10)
#define BLOCKS	4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
fixed(const struct region *r)
{
	return !r->config && !r->bar;
}

/* Nothing may lie on anything else, nor outside of its space. */
static void
check_region(const struct region *r, const struct layout_item *items,
    unsigned device, unsigned index, const struct layout_ram *ram)
{
	BUG_ON(r->size == 0);
	BUG_ON(r->config && r->base >= PLATFORM_ECAM_SIZE);
	BUG_ON(r->wiring && r->posted);
	if (fixed(r)) {
		BUG_ON(r->base + (r->size - 1) < r->base);
		BUG_ON(r->space == HV_PIO && r->base + r->size > 0x10000);
		BUG_ON(r->space == HV_MMIO && r->base < ram->low);
	}
	for (unsigned i = 0; i <= device; i++) {
		const struct placement *p = &items[i].placed;

		for (unsigned j = 0; j < p->nregions; j++) {
			const struct region *q = &p->regions[j];

			if (i == device && j >= index)
				break;
			BUG_ON(r->config && q->config && r->base == q->base);
			BUG_ON(fixed(r) && fixed(q) && r->space == q->space &&
			    r->base <= q->base + (q->size - 1) &&
			    q->base <= r->base + (r->size - 1));
		}
	}
}

static void
check_layout(const struct layout_item *items, const struct layout_ram *ram)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		const struct placement *p = &items[i].placed;

		BUG_ON(p->nregions > MANIFEST_REGIONS);
		BUG_ON(p->nirqs > MANIFEST_IRQS);
		for (unsigned j = 0; j < p->nregions; j++)
			check_region(&p->regions[j], items, i, j, ram);
		for (unsigned j = 0; j < p->nirqs; j++) {
			BUG_ON(p->irqs[j].gsi >= 24);
			BUG_ON(p->irqs[j].pci &&
			    p->irqs[j].gsi < PLATFORM_PCI_GSI_BASE);
		}
	}
}

static void
check_manifest(const struct manifest *m)
{
	const struct doorbells *d = &m->doorbells;

	BUG_ON(m->nvectors > MANIFEST_VECTORS || m->dma > 2);
	BUG_ON(m->nlinks > MANIFEST_LINKS || m->nfiles > MANIFEST_FILES);
	for (unsigned i = 0; i < m->nplacements && d->count > 0; i++) {
		const struct placement *p = &m->placements[i];

		BUG_ON(d->region >= p->nregions);
		BUG_ON(d->offset + (d->count - 1) * d->stride >=
		    p->regions[d->region].size);
	}
	for (unsigned i = 0; i < m->nfiles; i++)
		BUG_ON(!manifest_name_ok(m->files[i].name));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct layout_item items[DEVICES];
	static struct manifest m;
	struct layout_ram ram = layout_split_ram(5ull << 30);
	struct bounded_allocator a;
	Bulkhead__Hello *hello;
	char err[256] = "";

	bounded_allocator_init(&a, BYTES, BLOCKS);
	hello = bulkhead__hello__unpack(&a.base, size, data);
	if (hello == NULL)
		return 0;
	if (manifest_from_hello(&m, hello, err, sizeof(err)) == 0) {
		check_manifest(&m);
		BUG_ON(!manifest_same_shape(&m, &m));
		for (unsigned i = 0; i < DEVICES; i++)
			items[i] =
			    (struct layout_item){ .name = "d", .manifest = &m };
		err[0] = '\0';
		if (layout_place(items, DEVICES, &ram, err, sizeof(err)) == 0)
			check_layout(items, &ram);
		else
			BUG_ON(err[0] == '\0');
	} else {
		BUG_ON(err[0] == '\0');
	}
	bulkhead__hello__free_unpacked(hello, NULL);
	return 0;
}
