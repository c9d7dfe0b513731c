/*
 * The committed wiring of three devices, as they could scribble it, against
 * wiring.c: every two bytes of the input put a BAR or a vector of one of them
 * somewhere.
 */
#include "vmmd/wiring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/platform.h"

#define DEVICES 3u
#define VECTORS 2u
#define BARS	3u /* regions 1 to 3 */
#define BELLS	4u
#define HELD	256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a partition that checks what it is told ---- */

static struct {
	uint64_t addr;
	int fd;
} bell[HELD];
static unsigned nbells;

static int
bind_bell(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	(void)p;
	(void)space;
	(void)len;
	(void)match;
	for (unsigned i = 0; i < nbells; i++)
		BUG_ON(bell[i].addr == addr || bell[i].fd == fd);
	BUG_ON(nbells == HELD);
	/* Now and then there is no room. */
	if (addr % 5 == 0)
		return -ENOSPC;
	bell[nbells].addr = addr;
	bell[nbells++].fd = fd;
	return 0;
}

static int
unbind_bell(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	(void)p;
	(void)space;
	(void)len;
	(void)match;
	for (unsigned i = 0; i < nbells; i++)
		if (bell[i].addr == addr && bell[i].fd == fd) {
			bell[i] = bell[--nbells];
			return 0;
		}
	return -ENOENT;
}

static int
route_message(
    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data)
{
	(void)p;
	(void)data;
	BUG_ON(gsi < 24 || gsi >= 24 + DEVICES * VECTORS);
	BUG_ON(addr >> 20 != 0xfee);
	return 0;
}

static const struct hv_backend fake = {
	.doorbell_bind = bind_bell,
	.doorbell_unbind = unbind_bell,
	.msi_route = route_message,
};

/* ---- the devices ---- */

static const uint64_t sizes[] = { 16, 0x1000, 0x4000 };
static const uint64_t places[] = { PLATFORM_PCI32_BASE,
	PLATFORM_PCI32_BASE + 0x1000, PLATFORM_PCI32_BASE + 0x4000,
	PLATFORM_PCI32_BASE + PLATFORM_PCI32_SIZE - 0x1000, 1ull << 34,
	(2ull << 34) - 0x4000, 0, UINT64_MAX - 15 };

static const struct store_shape shape = { .vcpus = 1, .vectors = VECTORS };
static const struct doorbells doorbells = { 2, 0x800, 4, BELLS };
static struct address_map map;
static struct wiring_bus bus;
static struct wiring wiring[DEVICES];
static struct store store[DEVICES];
static struct port *port[DEVICES];
static struct placement placed;

static void
set_up(void)
{
	size_t size = store_size(&shape);

	memset(&map, 0, sizeof(map));
	memset(wiring, 0, sizeof(wiring));
	nbells = 0;
	placed.nregions = 1 + BARS;
	placed.regions[0].config = true;
	for (unsigned i = 0; i < BARS; i++)
		placed.regions[1 + i] = (struct region){
			.space = HV_MMIO,
			.size = sizes[i],
			.bar = true,
		};
	wiring_bus_init(&bus, &fake, NULL, &map, 0, -1);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct wiring *w = &wiring[i];

		if (port[i] == NULL) {
			port[i] = port_new(1);
			store[i].base = aligned_alloc(4096, size);
			BUG_ON(port[i] == NULL || store[i].base == NULL);
		}
		memset(store[i].base, 0, size);
		BUG_ON(store_format(store[i].base, size, &shape) != 0 ||
		    store_attach(&store[i], store[i].base, size, &shape) != 0);
		store_recover(&store[i]);
		w->bus = &bus;
		w->store = &store[i];
		w->placed = &placed;
		w->doorbells = &doorbells;
		w->port = port[i];
		w->gsi = 24 + i * VECTORS;
		w->nvectors = VECTORS;
		for (unsigned b = 0; b < BELLS; b++)
			w->bell_fd[b] = (int)(i * BELLS + b);
		BUG_ON(wiring_add(w) != 0);
	}
}

/* What is mapped is what was asked for, and where it may be. */
static void
check(void)
{
	const struct route_table *t = &map.table[atomic_load(&map.version) & 1];
	unsigned mapped = 0;

	for (unsigned i = 0; i < t->n; i++) {
		const struct route *r = &t->routes[i];

		BUG_ON(i > 0 && t->routes[i - 1].last >= r->base);
		BUG_ON(r->last - r->base + 1 != sizes[r->region - 1]);
		BUG_ON(r->base % sizes[r->region - 1] != 0);
		BUG_ON(
		    !(r->base >= PLATFORM_PCI32_BASE &&
			r->last < PLATFORM_PCI32_BASE + PLATFORM_PCI32_SIZE) &&
		    !(r->base >= 1ull << 34 && r->last < 2ull << 34));
	}
	for (unsigned i = 0; i < DEVICES; i++)
		for (unsigned r = 1; r <= BARS; r++) {
			uint64_t at = wiring_where(&wiring[i], r);

			if (at == 0)
				continue;
			mapped++;
			BUG_ON(at != store_committed_wiring(&store[i])->bar[r]);
		}
	BUG_ON(mapped != t->n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	set_up();
	for (size_t i = 0; i + 1 < size; i += 2) {
		unsigned device = data[i] % DEVICES;
		unsigned what = data[i] / DEVICES % (BARS + VECTORS + 1);
		uint64_t at = places[data[i + 1] % ARRAY_LEN(places)] +
		    (uint64_t)(data[i + 1] / ARRAY_LEN(places)) * 0x800;
		struct store_wiring *w = store_wiring(&store[device]);

		if (what < BARS) {
			w->bar[1 + what] = at;
		} else if (what < BARS + VECTORS) {
			w->vector[what - BARS].address = (data[i + 1] & 1) != 0
			    ? 0xfee00000u + data[i + 1]
			    : at;
			w->vector[what - BARS].data++;
		} else {
			memset(w->bar, 0xff, sizeof(w->bar));
		}
		w->generation++;
		store_commit(&store[device]);
		wiring_apply(&wiring[device]);
		check();
	}
	return 0;
}
