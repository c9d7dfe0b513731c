/* The checks on what a device host says of itself. */
#include "vmmd/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

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
take_region(
    struct region *out, const Bulkhead__Region *in, char *err, size_t size)
{
	uint64_t end;

	if (copy_name(out->name, in->name, "region's name", err, size) != 0)
		return -EPROTO;
	if (in->space != BULKHEAD__SPACE__PIO &&
	    in->space != BULKHEAD__SPACE__MMIO) {
		snprintf(err, size, "region %s: unknown space", out->name);
		return -EPROTO;
	}
	out->space = in->space == BULKHEAD__SPACE__PIO ? HV_PIO : HV_MMIO;
	out->base = in->start;
	out->size = in->size;
	out->posted = in->posted;
	if (in->size == 0 ||
	    __builtin_add_overflow(in->start, in->size, &end) ||
	    (out->space == HV_PIO && end > 0x10000)) {
		snprintf(err, size, "region %s: impossible range", out->name);
		return -EPROTO;
	}
	return 0;
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
		out->irqs[i].level = in->irqs[i]->level;
	}
	out->nregions = (unsigned)in->n_regions;
	out->nirqs = (unsigned)in->n_irqs;
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
	    hello->log_size > STORE_LOG_MAX || hello->dma > 2) {
		snprintf(err, size, "a size is out of range");
		return -EPROTO;
	}
	if (hello->n_placements > MANIFEST_PLACEMENTS ||
	    hello->n_streams > MANIFEST_STREAMS) {
		snprintf(err, size, "too many placements or streams");
		return -EPROTO;
	}
	for (size_t i = 0; i < hello->n_placements; i++)
		if (take_placement(
			&m->placements[i], hello->placements[i], err, size))
			return -EPROTO;
	for (size_t i = 0; i < hello->n_streams; i++)
		if (copy_name(m->streams[i], hello->streams[i], "stream's name",
			err, size))
			return -EPROTO;
	m->nplacements = (unsigned)hello->n_placements;
	m->nstreams = (unsigned)hello->n_streams;
	m->state_version = hello->state_version;
	m->state_size = hello->state_size;
	m->log_size = hello->log_size;
	m->dma = hello->dma;
	m->syscalls = hello->syscalls;
	m->sandbox = hello->sandbox;
	return 0;
}

static bool
same_placement(const struct placement *a, const struct placement *b)
{
	if (a->nregions != b->nregions || a->nirqs != b->nirqs)
		return false;
	for (unsigned i = 0; i < a->nregions; i++) {
		const struct region *x = &a->regions[i], *y = &b->regions[i];

		if (x->space != y->space || x->base != y->base ||
		    x->size != y->size || x->posted != y->posted)
			return false;
	}
	for (unsigned i = 0; i < a->nirqs; i++)
		if (a->irqs[i].gsi != b->irqs[i].gsi ||
		    a->irqs[i].level != b->irqs[i].level)
			return false;
	return true;
}

bool
manifest_same_shape(const struct manifest *first, const struct manifest *again)
{
	if (strcmp(first->type, again->type) != 0 ||
	    first->state_version != again->state_version ||
	    first->state_size != again->state_size ||
	    first->log_size != again->log_size || first->dma != again->dma ||
	    first->nplacements != again->nplacements ||
	    first->nstreams != again->nstreams)
		return false;
	for (unsigned i = 0; i < first->nplacements; i++)
		if (!same_placement(
			&first->placements[i], &again->placements[i]))
			return false;
	for (unsigned i = 0; i < first->nstreams; i++)
		if (strcmp(first->streams[i], again->streams[i]) != 0)
			return false;
	return true;
}
