/* What outlives a device host, and how it is handed over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/packet.h"
#include "proto/stream.h"
#include "vmmd/vm.h"

static int
new_eventfd(int *fd)
{
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

static int
build_store(const struct device *d, const struct manifest *m,
    struct memory *mem, struct store *store)
{
	const struct store_shape shape = {
		.vcpus = d->vm->nvcpus,
		.state_size = m->state_size,
		.log_size = m->log_size,
		.state_version = m->state_version,
		.vectors = m->nvectors,
	};
	size_t size = store_size(&shape);
	int r;

	if (size == 0)
		return -EINVAL;
	r = memory_create(mem, "bulkhead-store", size);
	if (r == 0)
		r = store_format(mem->base, size, &shape);
	if (r == 0)
		r = store_attach(store, mem->base, size, &shape);
	return r;
}

int
device_make_store(const struct device *d, const struct manifest *m,
    struct memory *mem, struct store *store)
{
	int r = build_store(d, m, mem, store);

	if (r < 0) {
		memory_destroy(mem);
		*mem = MEMORY_NONE;
		return r;
	}
	memcpy(store->stats, d->store.stats, sizeof(*store->stats));
	memcpy(store->faults, d->store.faults, sizeof(*store->faults));
	return 0;
}

void
device_take_store(
    struct device *d, struct memory *mem, const struct store *store)
{
	struct memory old = d->store_mem;

	/* A vCPU may be looking at the wiring in it. */
	pthread_mutex_lock(&d->vm->wiring.lock);
	d->store_mem = *mem;
	d->store = *store;
	pthread_mutex_unlock(&d->vm->wiring.lock);
	memory_destroy(&old);
	*mem = MEMORY_NONE;
}

static int
build_rings(struct device *d)
{
	size_t size = ring_set_size(d->vm->nvcpus);
	struct ring_set *set;
	int r;

	size = (size + 4095) / 4096 * 4096;
	r = memory_create(&d->ring_mem, "bulkhead-rings", size);
	if (r == 0)
		r = new_eventfd(&d->kick_fd);
	if (r < 0)
		return r;
	set = d->ring_mem.base;
	set->vcpus = d->vm->nvcpus;
	d->port->set = set;
	d->port->kick_fd = d->kick_fd;
	return 0;
}

static int
build_stream(struct device_stream *s)
{
	int r = memory_create(&s->out, "bulkhead-output", STREAM_SIZE);

	if (r == 0)
		r = memory_create(&s->in, "bulkhead-input", STREAM_SIZE);
	if (r == 0)
		r = new_eventfd(&s->out_data);
	if (r == 0)
		r = new_eventfd(&s->out_space);
	if (r == 0)
		r = new_eventfd(&s->in_data);
	if (r == 0)
		r = new_eventfd(&s->in_space);
	return r;
}

static int
build_irq(struct device *d, unsigned i, const struct irq *irq)
{
	int r = new_eventfd(&d->irq[i].trigger);

	if (r == 0 && irq->level)
		r = new_eventfd(&d->irq[i].resample);
	if (r < 0)
		return r;
	return d->vm->hv->irqfd_bind(
	    d->vm->partition, irq->gsi, d->irq[i].trigger, d->irq[i].resample);
}

/* A message has no use for the fd but to be sent. */
static int
build_vector(struct device *d, unsigned i)
{
	int r = new_eventfd(&d->vector[i]);

	if (r < 0)
		return r;
	return d->vm->hv->irqfd_bind(
	    d->vm->partition, d->wiring.gsi + i, d->vector[i], -1);
}

static int
build_routes(struct device *d, const struct placement *p)
{
	struct route_table *t = address_map_edit(&d->vm->map);
	int r = 0;

	for (unsigned i = 0; i < p->nregions && r == 0; i++) {
		const struct region *region = &p->regions[i];
		const struct route route = {
			.space = region->space,
			.base = region->base,
			.last = region->base + (region->size - 1),
			.port = d->port,
			.region = (uint16_t)i,
			.posted = region->posted,
			.wiring = region->wiring,
		};

		if (region->config)
			pci_add_function(&d->vm->pci,
			    (unsigned)(region->base / MANIFEST_PCI_SLOT),
			    d->port, (uint16_t)i, region->wiring);
		else if (!region->bar)
			r = route_table_add(t, &route);
	}
	address_map_publish(&d->vm->map);
	return r;
}

static void
apply_wiring(void *wiring)
{
	wiring_apply(wiring);
}

static int
build_wiring(struct device *d)
{
	struct wiring *w = &d->wiring;
	struct vm *vm = d->vm;
	int r = 0;

	w->bus = &vm->wiring;
	w->store = &d->store;
	w->placed = &d->placed;
	w->doorbells = &d->manifest.doorbells;
	w->port = d->port;
	w->nvectors = d->manifest.nvectors;
	w->gsi = vm->next_gsi;
	if (w->nvectors > VM_GSI_END - vm->next_gsi)
		return -ENOSPC;
	vm->next_gsi += w->nvectors;
	for (unsigned i = 0; i < w->nvectors && r == 0; i++)
		r = build_vector(d, i);
	for (unsigned i = 0; i < w->doorbells->count && r == 0; i++)
		r = new_eventfd(&w->bell_fd[i]);
	d->port->written = apply_wiring;
	d->port->written_ctx = w;
	return r < 0 ? r : wiring_add(w);
}

static int
build_link(struct device_link *l)
{
	int r = memory_create(&l->mem, "bulkhead-link", PACKET_LINK_SIZE);

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		r = new_eventfd(&l->data[i]);
		if (r == 0)
			r = new_eventfd(&l->space[i]);
	}
	return r;
}

int
device_build(struct device *d)
{
	const struct placement *p = &d->placed;
	int r;

	r = build_store(d, &d->manifest, &d->store_mem, &d->store);
	if (r == 0)
		r = build_rings(d);
	for (unsigned i = 0; i < d->manifest.nstreams && r == 0; i++)
		r = build_stream(&d->stream[i]);
	for (unsigned i = 0; i < p->nirqs && r == 0; i++)
		r = build_irq(d, i, &p->irqs[i]);
	if (r == 0)
		r = build_routes(d, p);
	if (r == 0)
		r = build_wiring(d);
	if (r == 0 && d->link_peer != NULL && d->link_side == 0)
		r = build_link(&d->link);
	return r;
}

/* ---- what the configuration names ---- */

static bool
resolve_link(struct device *d)
{
	const Bulkhead__DeviceConfig *c = d->config;
	const char *name = c->n_links > 0 ? c->links[0] : "";
	struct device *peer = vm_find_device(d->vm, name);

	if (c->n_links > d->manifest.nlinks) {
		vm_fail(d->vm, EINVAL, "device %s has no such link", d->name);
		return false;
	}
	if (name[0] == '\0')
		return true;
	if (peer == NULL || peer == d || peer->manifest.nlinks == 0 ||
	    peer->link_peer != NULL || d->link_peer != NULL) {
		vm_fail(d->vm, EINVAL,
		    "device %s cannot be linked to %.40s: %s", d->name, name,
		    peer == NULL ? "there is no such device"
				 : "it has no free link");
		return false;
	}
	d->link_peer = peer;
	peer->link_peer = d;
	peer->link_side = 1;
	return true;
}

static int
find_file(const struct manifest *m, const char *name)
{
	for (unsigned i = 0; i < m->nfiles; i++)
		if (strcmp(m->files[i].name, name) == 0)
			return (int)i;
	return -1;
}

static bool
resolve_files(struct device *d)
{
	const struct manifest *m = &d->manifest;

	for (size_t i = 0; i < d->config->n_files; i++) {
		int at = find_file(m, d->config->files[i]);

		if (at < 0 || d->file[at] >= 0) {
			vm_fail(d->vm, EINVAL, "device %s takes no file %.40s",
			    d->name, d->config->files[i]);
			return false;
		}
		d->file[at] = d->files_in[i];
	}
	for (unsigned i = 0; i < m->nfiles; i++)
		if (d->file[i] < 0 && !m->files[i].optional) {
			vm_fail(d->vm, EINVAL, "device %s needs a file: %s",
			    d->name, m->files[i].name);
			return false;
		}
	return true;
}

bool
device_resolve(struct device *d)
{
	return resolve_link(d) && resolve_files(d);
}

/* ---- handing over ---- */

void
device_fill_placement(struct placement_message *m, struct device *d)
{
	struct placement *p = &d->placed;

	bulkhead__placement__init(&m->placement);
	for (unsigned i = 0; i < p->nregions; i++) {
		bulkhead__region__init(&m->region[i]);
		m->region[i].name = p->regions[i].name;
		m->region[i].space = p->regions[i].config
		    ? BULKHEAD__SPACE__PCI_CONFIG
		    : p->regions[i].space == HV_PIO ? BULKHEAD__SPACE__PIO
						    : BULKHEAD__SPACE__MMIO;
		m->region[i].start = p->regions[i].base;
		m->region[i].size = p->regions[i].size;
		m->region[i].posted = p->regions[i].posted;
		m->region[i].bar = p->regions[i].bar;
		m->region[i].wiring = p->regions[i].wiring;
		m->regions[i] = &m->region[i];
	}
	for (unsigned i = 0; i < p->nirqs; i++) {
		bulkhead__irq__init(&m->irq[i]);
		m->irq[i].gsi = p->irqs[i].gsi;
		m->irq[i].level = p->irqs[i].level;
		m->irq[i].pci = p->irqs[i].pci;
		m->irqs[i] = &m->irq[i];
	}
	m->placement.regions = m->regions;
	m->placement.n_regions = p->nregions;
	m->placement.irqs = m->irqs;
	m->placement.n_irqs = p->nirqs;
}

struct fd_list {
	int fd[CHANNEL_FDS_MAX];
	unsigned n;
};

/* What is not there is left out; the message says so. */
static void
put(struct fd_list *l, const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (fds[i] >= 0)
			l->fd[l->n++] = fds[i];
}

static void
put_link(struct fd_list *l, const struct device *d)
{
	const struct device *owner = d->link_side == 0 ? d : d->link_peer;
	const struct device_link *k = &owner->link;
	unsigned tx = d->link_side, rx = !tx;

	put(l,
	    (const int[]){ k->mem.fd, k->data[rx], k->space[tx], k->data[tx],
		k->space[rx] },
	    5);
}

/* Does the process that is about to take over begin with the state of another
 * version? */
static bool
converts(const struct device *d)
{
	return d->upgrade.stage == UPGRADE_TAKING_OVER &&
	    d->upgrade.mem.fd >= 0;
}

/* At most 3 + 8 + 24 + 1 + 33 + 33 + 5 + 4 of them: the order is
 * control.proto's. */
static void
collect_fds(const struct device *d, struct fd_list *l)
{
	l->n = 0;
	put(l,
	    (const int[]){ converts(d) ? d->upgrade.mem.fd : d->store_mem.fd,
		d->ring_mem.fd, d->kick_fd },
	    3);
	for (unsigned i = 0; i < MANIFEST_IRQS; i++)
		put(l, (const int[]){ d->irq[i].trigger, d->irq[i].resample },
		    2);
	for (unsigned i = 0; i < d->manifest.nstreams; i++) {
		const struct device_stream *s = &d->stream[i];

		put(l,
		    (const int[]){ s->out.fd, s->out_data, s->out_space,
			s->in.fd, s->in_data, s->in_space },
		    6);
	}
	if (d->manifest.dma != 0)
		put(l, &d->vm->ram.fd, 1);
	put(l, d->vector, MANIFEST_VECTORS);
	put(l, d->wiring.bell_fd, MANIFEST_DOORBELLS);
	if (d->link_peer != NULL)
		put_link(l, d);
	put(l, d->file, MANIFEST_FILES);
	if (converts(d))
		put(l, &d->store_mem.fd, 1);
}

static void
fill_configure(Bulkhead__Configure *to, struct placement_message *placement,
    struct device *d)
{
	Bulkhead__Configure c;

	bulkhead__configure__init(&c);
	device_fill_placement(placement, d);
	c.name = d->name;
	c.vcpus = d->vm->nvcpus;
	c.placement = &placement->placement;
	c.params = d->config->params;
	c.n_params = d->config->n_params;
	c.spin_us = d->vm->device_spin_us;
	c.clock_offset_ns = d->vm->clock_offset_ns;
	c.icount = d->vm->config->icount != 0;
	c.ram_low = d->vm->layout.low;
	c.ram_high = d->vm->layout.high;
	c.has_ram = d->manifest.dma != 0;
	c.links = d->link_peer != NULL;
	c.link_side = d->link_side;
	c.converts = converts(d);
	c.from_version = d->manifest.state_version;
	c.from_size = d->manifest.state_size;
	for (unsigned i = 0; i < MANIFEST_FILES; i++)
		c.files |= (uint32_t)(d->file[i] >= 0) << i;
	*to = c;
}

uint8_t *
device_pack_configure(struct device *d, size_t *size)
{
	Bulkhead__Configure c;
	struct placement_message placement;
	uint8_t *out;

	fill_configure(&c, &placement, d);
	*size = bulkhead__configure__get_packed_size(&c);
	out = malloc(*size + 1);
	if (out != NULL)
		bulkhead__configure__pack(&c, out);
	return out;
}

static int
send_configure(struct device *d)
{
	Bulkhead__Configure c;
	struct placement_message placement;
	struct fd_list fds;

	fill_configure(&c, &placement, d);
	collect_fds(d, &fds);
	return channel_send(&d->now->channel,
	    BULKHEAD__ENVELOPE__BODY_CONFIGURE, &c, fds.fd, fds.n, 0);
}

static int
send_load(struct device *loader)
{
	Bulkhead__Load load;
	struct vm *vm = loader->vm;
	Bulkhead__PlacedDevice placed[VM_DEVICES_MAX];
	Bulkhead__PlacedDevice *list[VM_DEVICES_MAX];
	struct placement_message *placements;
	const int fds[] = { vm->kernel_fd, vm->ram.fd, vm->initrd_fd };
	unsigned n = 0;
	int r;

	bulkhead__load__init(&load);
	placements = calloc(VM_DEVICES_MAX, sizeof(*placements));
	if (placements == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < vm->ndevices; i++) {
		/* A packet process is no part of the machine, and the loader
		 * knows the types of its own program, the first. */
		if (vm->device[i].placed.nregions == 0 ||
		    vm->device[i].config->program != 0)
			continue;
		bulkhead__placed_device__init(&placed[n]);
		device_fill_placement(&placements[n], &vm->device[i]);
		placed[n].type = vm->device[i].type;
		placed[n].name = vm->device[i].name;
		placed[n].placement = &placements[n].placement;
		list[n] = &placed[n];
		n++;
	}
	load.has_initrd = vm->initrd_fd >= 0;
	load.cmdline = vm->config->cmdline;
	load.ram_low = vm->layout.low;
	load.ram_high = vm->layout.high;
	load.vcpus = vm->nvcpus;
	load.devices = list;
	load.n_devices = n;
	r = channel_send(&loader->now->channel, BULKHEAD__ENVELOPE__BODY_LOAD,
	    &load, fds, load.has_initrd ? 3 : 2, 0);
	free(placements);
	return r;
}

int
device_send_configuration(struct device *d)
{
	return d->loader ? send_load(d) : send_configure(d);
}

/* ---- the end ---- */

static void
close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

void
device_close_resources(struct device *d)
{
	for (unsigned i = 0; i < MANIFEST_IRQS; i++)
		close_all(
		    (const int[]){ d->irq[i].trigger, d->irq[i].resample }, 2);
	for (unsigned i = 0; i < MANIFEST_STREAMS; i++) {
		struct device_stream *s = &d->stream[i];

		close_all((const int[]){ s->out_data, s->out_space, s->in_data,
			      s->in_space },
		    4);
		memory_destroy(&s->out);
		memory_destroy(&s->in);
	}
	close_all(d->vector, MANIFEST_VECTORS);
	close_all(d->wiring.bell_fd, MANIFEST_DOORBELLS);
	close_all(d->link.data, 2);
	close_all(d->link.space, 2);
	memory_destroy(&d->link.mem);
	close_all(&d->kick_fd, 1);
	memory_destroy(&d->store_mem);
	memory_destroy(&d->ring_mem);
	free(d->port);
}
