/* Making the wiring true. */
#include "vmmd/wiring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/platform.h"

#define TRIES	 100u
#define MSI_BASE 0xfee00000u /* Intel SDM volume 3, 11.11.1 */
#define MSI_SIZE 0x100000u

/* The fields that are looked at, in memory of our own. */
struct copy {
	uint64_t generation;
	uint64_t bar[MANIFEST_REGIONS];
	struct store_vector vector[MANIFEST_VECTORS];
};

void
wiring_bus_init(struct wiring_bus *bus, const struct hv_backend *hv,
    struct hv_partition *partition, struct address_map *map, uint64_t ram_high,
    int notify_fd)
{
	*bus = (struct wiring_bus){
		.hv = hv,
		.partition = partition,
		.map = map,
		.window = { { PLATFORM_PCI32_BASE, PLATFORM_PCI32_SIZE },
		    { platform_pci64_base(ram_high), PLATFORM_PCI64_SIZE } },
		.notify_fd = notify_fd,
	};
	pthread_mutex_init(&bus->lock, NULL);
}

/* Acquire: no later load, and so not the second of the commit word, is done
 * before it. */
static uint64_t
load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void
read_vectors(struct copy *c, const struct store_wiring *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		c->vector[i].address = load(&s->vector[i].address);
		c->vector[i].data =
		    __atomic_load_n(&s->vector[i].data, __ATOMIC_ACQUIRE);
	}
}

/*
 * The device may be committing: what was read counts if it has not committed
 * meanwhile, for then the slot was not the one that it works on.  False: it
 * does so again and again; the next write looks again.
 */
static bool
read_committed(const struct wiring *w, struct copy *c, bool all)
{
	const struct store_wiring *s;
	uint64_t commit;

	for (unsigned i = 0; i < TRIES; i++) {
		/* Acquire: pairs with the release in store_commit(). */
		commit = atomic_load_explicit(
		    w->store->commit, memory_order_acquire);
		s = store_committed_wiring(w->store);
		c->generation = load(&s->generation);
		if (all) {
			for (unsigned r = 0; r < MANIFEST_REGIONS; r++)
				c->bar[r] = load(&s->bar[r]);
			read_vectors(c, s, w->nvectors);
		}
		if (atomic_load_explicit(
			w->store->commit, memory_order_relaxed) == commit)
			return true;
	}
	return false;
}

PRINTF_LIKE(2, 3)
static void
refuse(struct wiring *w, const char *fmt, ...)
{
	uint64_t one = 1;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->refused, sizeof(w->refused), fmt, ap);
	va_end(ap);
	if (write(w->bus->notify_fd, &one, sizeof(one)) < 0)
		return; /* full: it is readable already */
}

/* Bind or unbind the doorbells of a region that is mapped. */
static int
set_doorbells(struct wiring *w, unsigned region, bool bound)
{
	const struct doorbells *b = w->doorbells;
	const struct hv_backend *hv = w->bus->hv;
	int first = 0;

	for (unsigned i = 0; i < b->count && b->region == region; i++) {
		uint64_t addr = w->mapped[region] + b->offset + i * b->stride;
		int r = (bound ? hv->doorbell_bind : hv->doorbell_unbind)(
		    w->bus->partition, w->placed->regions[region].space, addr,
		    0, NULL, w->bell_fd[i]);

		first = first != 0 ? first : r;
	}
	return first;
}

static const char *
bar_refused(const struct wiring_bus *bus, uint64_t base, uint64_t size)
{
	if (base % size != 0)
		return "is not aligned";
	for (unsigned i = 0; i < ARRAY_LEN(bus->window); i++) {
		uint64_t off = base - bus->window[i].base;

		if (base >= bus->window[i].base && off < bus->window[i].size &&
		    size <= bus->window[i].size - off)
			return NULL;
	}
	return "is outside of the windows";
}

/* Map a BAR that is not, if it can be; else say why. */
static const char *
map_bar(struct wiring *w, unsigned r, struct route_table *t)
{
	const struct region *region = &w->placed->regions[r];
	const struct route route = {
		.space = HV_MMIO,
		.base = w->want[r],
		.last = w->want[r] + (region->size - 1),
		.port = w->port,
		.region = (uint16_t)r,
		.posted = region->posted,
		.wiring = region->wiring,
	};
	const char *why = bar_refused(w->bus, w->want[r], region->size);

	if (why != NULL)
		return why;
	if (route_table_add(t, &route) < 0)
		return "lies on another";
	w->mapped[r] = w->want[r];
	return NULL;
}

static bool
is_bar(const struct wiring *w, unsigned r)
{
	return r < w->placed->nregions && w->placed->regions[r].bar;
}

/* The regions, as bits, whose BAR is to be elsewhere. */
static unsigned
moved_bars(const struct wiring *w, const struct copy *c)
{
	unsigned moved = 0;

	for (unsigned r = 0; r < MANIFEST_REGIONS; r++)
		if (is_bar(w, r) && c->bar[r] != w->want[r])
			moved |= 1u << r;
	return moved;
}

/*
 * Each BAR that is wanted and not mapped gets its place, if it is free: also
 * those of others, that may have waited for it.
 */
static void
map_bars(struct wiring_bus *bus, struct wiring *changed, unsigned moved,
    struct route_table *t, unsigned new_bars[WIRING_DEVICES])
{
	for (unsigned i = 0; i < bus->ndevices; i++) {
		struct wiring *w = bus->device[i];

		new_bars[i] = 0;
		for (unsigned r = 0; r < MANIFEST_REGIONS; r++) {
			const char *why;

			if (!is_bar(w, r) || w->want[r] == STORE_UNMAPPED ||
			    w->mapped[r] != STORE_UNMAPPED)
				continue;
			why = map_bar(w, r, t);
			if (why == NULL)
				new_bars[i] |= 1u << r;
			else if (w == changed && (moved & 1u << r) != 0)
				refuse(w,
				    "the BAR of %s at 0x%" PRIx64
				    " %s and is not decoded",
				    w->placed->regions[r].name, w->want[r],
				    why);
		}
	}
}

static void
move_bars(struct wiring *w, const struct copy *c, unsigned moved)
{
	struct wiring_bus *bus = w->bus;
	struct route_table *t = address_map_edit(bus->map);
	unsigned new_bars[WIRING_DEVICES];

	for (unsigned r = 0; r < MANIFEST_REGIONS; r++) {
		if ((moved & 1u << r) == 0)
			continue;
		w->want[r] = c->bar[r];
		if (w->mapped[r] == STORE_UNMAPPED)
			continue;
		set_doorbells(w, r, false);
		route_table_remove(t, HV_MMIO, w->mapped[r]);
		w->mapped[r] = STORE_UNMAPPED;
	}
	map_bars(bus, w, moved, t, new_bars);
	address_map_publish(bus->map);
	for (unsigned i = 0; i < bus->ndevices; i++)
		for (unsigned r = 0; r < MANIFEST_REGIONS; r++) {
			int err = 0;

			if ((new_bars[i] & 1u << r) != 0)
				err = set_doorbells(bus->device[i], r, true);
			/* They are registers then, which is slower. */
			if (err < 0)
				refuse(bus->device[i],
				    "its doorbells cannot be bound: %s",
				    strerror(-err));
		}
}

static void
route_vectors(struct wiring *w, const struct copy *c)
{
	for (unsigned i = 0; i < w->nvectors; i++) {
		const struct store_vector *v = &c->vector[i];
		int r;

		if (v->address == w->vector[i].address &&
		    v->data == w->vector[i].data)
			continue;
		w->vector[i] = *v;
		/* Only interrupts: a message elsewhere is a write to memory. */
		if (v->address - MSI_BASE >= MSI_SIZE)
			continue;
		r = w->bus->hv->msi_route(
		    w->bus->partition, w->gsi + i, v->address, v->data);
		if (r < 0)
			refuse(w, "vector %u cannot be routed: %s", i,
			    strerror(-r));
	}
}

int
wiring_add(struct wiring *w)
{
	struct wiring_bus *bus = w->bus;

	for (unsigned r = 0; r < MANIFEST_REGIONS; r++)
		w->want[r] = w->mapped[r] = STORE_UNMAPPED;
	if (bus->ndevices == WIRING_DEVICES)
		return -ENOSPC;
	bus->device[bus->ndevices++] = w;
	for (unsigned r = 0; r < w->placed->nregions; r++) {
		const struct region *region = &w->placed->regions[r];
		int err = 0;

		if (region->bar || region->config)
			continue;
		w->mapped[r] = region->base;
		err = set_doorbells(w, r, true);
		if (err < 0)
			return err;
	}
	return 0;
}

void
wiring_apply(struct wiring *w)
{
	struct copy c;
	unsigned moved;

	if (!read_committed(w, &c, false))
		return;
	/* Acquire: pairs with the release below; then it is done. */
	if (c.generation ==
	    atomic_load_explicit(&w->generation, memory_order_acquire))
		return;
	pthread_mutex_lock(&w->bus->lock);
	if (read_committed(w, &c, true) &&
	    c.generation !=
		atomic_load_explicit(&w->generation, memory_order_relaxed)) {
		moved = moved_bars(w, &c);
		if (moved != 0)
			move_bars(w, &c, moved);
		route_vectors(w, &c);
		atomic_store_explicit(
		    &w->generation, c.generation, memory_order_release);
	}
	pthread_mutex_unlock(&w->bus->lock);
}

uint64_t
wiring_where(struct wiring *w, unsigned region)
{
	uint64_t base;

	if (w->bus == NULL)
		return 0;
	pthread_mutex_lock(&w->bus->lock);
	base = w->mapped[region];
	pthread_mutex_unlock(&w->bus->lock);
	return base == STORE_UNMAPPED ? 0 : base;
}

bool
wiring_refusal(struct wiring *w, char text[WIRING_TEXT])
{
	pthread_mutex_lock(&w->bus->lock);
	memcpy(text, w->refused, WIRING_TEXT);
	w->refused[0] = '\0';
	pthread_mutex_unlock(&w->bus->lock);
	return text[0] != '\0';
}
