/* The checks on what a device host says of itself. */
#include "vmmd/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "proto/platform.h"
#include "proto/store.h"

#define GSI_PINS 24u

bool
manifest_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= MANIFEST_NAME)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) &&
		    strchr("._-", name[i]) == NULL)
			return false;
	return true;
}

static int
copy_name(char out[MANIFEST_NAME], const char *name, const char *what,
    char *err, size_t size)
{
	if (!manifest_name_ok(name)) {
		snprintf(err, size, "the %s is not a name", what);
		return -EPROTO;
	}
	memset(out, 0, MANIFEST_NAME);
	memcpy(out, name, strlen(name));
	return 0;
}

static int
refuse_region(const struct region *r, const char *why, char *err, size_t size)
{
	snprintf(err, size, "region %s: %s", r->name, why);
	return -EPROTO;
}

static int
take_region(
    struct region *out, const Bulkhead__Region *in, char *err, size_t size)
{
	uint64_t end;

	if (copy_name(out->name, in->name, "region's name", err, size) != 0)
		return -EPROTO;
	if (in->space != BULKHEAD__SPACE__PIO &&
	    in->space != BULKHEAD__SPACE__MMIO &&
	    in->space != BULKHEAD__SPACE__PCI_CONFIG)
		return refuse_region(out, "unknown space", err, size);
	out->space = in->space == BULKHEAD__SPACE__PIO ? HV_PIO : HV_MMIO;
	out->config = in->space == BULKHEAD__SPACE__PCI_CONFIG;
	out->base = in->bar ? 0 : in->start;
	out->size = in->size;
	out->posted = in->posted;
	out->bar = in->bar;
	out->wiring = in->wiring;
	if (out->wiring && out->posted)
		return refuse_region(
		    out, "writes to wiring are waited for", err, size);
	if (out->config) {
		if (out->size != MANIFEST_PCI_CONFIG || out->bar ||
		    out->posted ||
		    (out->base != MANIFEST_ANY_SLOT &&
			(out->base >= PLATFORM_ECAM_SIZE ||
			    out->base % MANIFEST_PCI_SLOT != 0)))
			return refuse_region(
			    out, "impossible PCI function", err, size);
		return 0;
	}
	if (out->bar &&
	    (out->space != HV_MMIO || out->size < 16 ||
		(out->size & (out->size - 1)) != 0))
		return refuse_region(out, "impossible BAR", err, size);
	if (out->size == 0 ||
	    __builtin_add_overflow(out->base, out->size, &end) ||
	    (out->space == HV_PIO && end > 0x10000))
		return refuse_region(out, "impossible range", err, size);
	return 0;
}

/* BARs and INTA# are those of a function, which is regions[0]. */
static bool
pci_is_whole(const struct placement *p)
{
	bool function = p->nregions > 0 && p->regions[0].config;

	for (unsigned i = 0; i < p->nregions; i++)
		if ((p->regions[i].config && i > 0) ||
		    (p->regions[i].bar && !function))
			return false;
	for (unsigned i = 0; i < p->nirqs; i++)
		if (p->irqs[i].pci && !function)
			return false;
	return true;
}

static int
take_placement(struct placement *out, const Bulkhead__Placement *in, char *err,
    size_t size)
{
	if (in->n_regions > MANIFEST_REGIONS || in->n_irqs > MANIFEST_IRQS) {
		snprintf(err, size, "too many regions or interrupts");
		return -EPROTO;
	}
	for (size_t i = 0; i < in->n_regions; i++)
		if (take_region(&out->regions[i], in->regions[i], err, size))
			return -EPROTO;
	for (size_t i = 0; i < in->n_irqs; i++) {
		if (in->irqs[i]->gsi >= GSI_PINS) {
			snprintf(err, size, "interrupt %u is out of range",
			    in->irqs[i]->gsi);
			return -EPROTO;
		}
		out->irqs[i].gsi = in->irqs[i]->gsi;
		out->irqs[i].pci = in->irqs[i]->pci;
		out->irqs[i].level = in->irqs[i]->level || in->irqs[i]->pci;
	}
	out->nregions = (unsigned)in->n_regions;
	out->nirqs = (unsigned)in->n_irqs;
	if (!pci_is_whole(out)) {
		snprintf(err, size, "a PCI function that is not one");
		return -EPROTO;
	}
	return 0;
}

static int
take_doorbells(
    struct manifest *m, const Bulkhead__Doorbells *in, char *err, size_t size)
{
	struct doorbells *d = &m->doorbells;
	bool fits = true;

	if (in == NULL || in->count == 0)
		return 0;
	d->region = in->region;
	d->offset = in->offset;
	d->stride = in->stride;
	d->count = in->count;
	fits = d->count <= MANIFEST_DOORBELLS && d->region < MANIFEST_REGIONS &&
	    (d->stride > 0 || d->count == 1);
	for (unsigned i = 0; fits && i < m->nplacements; i++)
		fits = d->region < m->placements[i].nregions &&
		    !m->placements[i].regions[d->region].config &&
		    d->offset + (d->count - 1) * d->stride <
			m->placements[i].regions[d->region].size;
	if (!fits) {
		snprintf(err, size, "impossible doorbells");
		return -EPROTO;
	}
	return 0;
}

/* The n names of a list that may have up to max. */
static int
take_names(char out[][MANIFEST_NAME], char *const *in, size_t n, unsigned max,
    const char *what, char *err, size_t size)
{
	if (n > max) {
		snprintf(err, size, "too many %ss", what);
		return -EPROTO;
	}
	for (size_t i = 0; i < n; i++)
		if (copy_name(out[i], in[i], what, err, size))
			return -EPROTO;
	return (int)n;
}

static int
take_lists(struct manifest *m, const Bulkhead__Hello *h, char *err, size_t size)
{
	char files[MANIFEST_FILES][MANIFEST_NAME];
	char *bare[MANIFEST_FILES];
	int n[4];

	n[0] = take_names(m->streams, h->streams, h->n_streams,
	    MANIFEST_STREAMS, "stream", err, size);
	n[1] = take_names(
	    m->links, h->links, h->n_links, MANIFEST_LINKS, "link", err, size);
	n[2] = take_names(m->counters, h->counters, h->n_counters,
	    MANIFEST_COUNTERS, "counter", err, size);
	for (size_t i = 0; i < MIN(h->n_files, MANIFEST_FILES); i++) {
		m->files[i].optional = h->files[i][0] == '?';
		bare[i] = h->files[i] + m->files[i].optional;
	}
	n[3] = take_names(
	    files, bare, h->n_files, MANIFEST_FILES, "file", err, size);
	for (unsigned i = 0; i < 4; i++)
		if (n[i] < 0)
			return n[i];
	m->nstreams = (unsigned)n[0];
	m->nlinks = (unsigned)n[1];
	m->ncounters = (unsigned)n[2];
	m->nfiles = (unsigned)n[3];
	for (unsigned i = 0; i < m->nfiles; i++)
		memcpy(m->files[i].name, files[i], MANIFEST_NAME);
	return 0;
}

int
manifest_from_hello(
    struct manifest *m, const Bulkhead__Hello *hello, char *err, size_t size)
{
	memset(m, 0, sizeof(*m));
	if (copy_name(m->type, hello->type, "type", err, size) != 0)
		return -EPROTO;
	if (hello->state_size > STORE_STATE_MAX ||
	    hello->log_size > STORE_LOG_MAX || hello->dma > 2 ||
	    hello->vectors > MANIFEST_VECTORS) {
		snprintf(err, size, "a size is out of range");
		return -EPROTO;
	}
	if (hello->n_placements > MANIFEST_PLACEMENTS) {
		snprintf(err, size, "too many placements");
		return -EPROTO;
	}
	for (size_t i = 0; i < hello->n_placements; i++)
		if (take_placement(
			&m->placements[i], hello->placements[i], err, size))
			return -EPROTO;
	m->nplacements = (unsigned)hello->n_placements;
	m->state_version = hello->state_version;
	m->converts = hello->converts;
	m->state_size = hello->state_size;
	m->log_size = hello->log_size;
	m->dma = hello->dma;
	m->nvectors = hello->vectors;
	m->syscalls = hello->syscalls;
	m->sandbox = hello->sandbox;
	if (take_lists(m, hello, err, size) < 0)
		return -EPROTO;
	return take_doorbells(m, hello->doorbells, err, size);
}

bool
manifest_same_shape(const struct manifest *first, const struct manifest *again)
{
	struct manifest a, b;

	/* Zeroed before they were filled in, padding and all. */
	memcpy(&a, first, sizeof(a));
	memcpy(&b, again, sizeof(b));
	/* These say how, not what. */
	a.converts = b.converts = false;
	a.syscalls = b.syscalls = 0;
	a.sandbox = b.sandbox = 0;
	return memcmp(&a, &b, sizeof(a)) == 0;
}
