/* What outlives a device host, and how it is handed over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "proto/stream.h"
#include "vmmd/vm.h"

static int
new_eventfd(int *fd)
{
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

static int
build_store(struct device *d)
{
	const struct store_shape shape = {
		.vcpus = d->vm->nvcpus,
		.state_size = d->manifest.state_size,
		.log_size = d->manifest.log_size,
		.state_version = d->manifest.state_version,
	};
	size_t size = store_size(&shape);
	int r;

	if (size == 0)
		return -EINVAL;
	r = memory_create(&d->store_mem, "bulkhead-store", size);
	if (r == 0)
		r = store_format(d->store_mem.base, size, &shape);
	if (r == 0)
		r = store_attach(&d->store, d->store_mem.base, size, &shape);
	return r;
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

static int
build_routes(struct device *d, const struct placement *p)
{
	for (unsigned i = 0; i < p->nregions; i++) {
		const struct region *region = &p->regions[i];
		const struct route route = {
			.space = region->space,
			.base = region->base,
			.last = region->base + region->size - 1,
			.port = d->port,
			.region = (uint16_t)i,
			.posted = region->posted,
		};
		int r = address_map_add(&d->vm->map, &route);

		if (r < 0)
			return r;
	}
	return 0;
}

int
device_build(struct device *d)
{
	const struct placement *p =
	    d->chosen < 0 ? NULL : &d->manifest.placements[d->chosen];
	int r;

	r = build_store(d);
	if (r == 0)
		r = build_rings(d);
	for (unsigned i = 0; i < d->manifest.nstreams && r == 0; i++)
		r = build_stream(&d->stream[i]);
	for (unsigned i = 0; p != NULL && i < p->nirqs && r == 0; i++)
		r = build_irq(d, i, &p->irqs[i]);
	if (r == 0 && p != NULL)
		r = build_routes(d, p);
	return r;
}

void
device_fill_placement(struct placement_message *m, struct device *d)
{
	struct placement *p;

	bulkhead__placement__init(&m->placement);
	if (d->chosen < 0)
		return;
	p = &d->manifest.placements[d->chosen];
	for (unsigned i = 0; i < p->nregions; i++) {
		bulkhead__region__init(&m->region[i]);
		m->region[i].name = p->regions[i].name;
		m->region[i].space = p->regions[i].space == HV_PIO
		    ? BULKHEAD__SPACE__PIO
		    : BULKHEAD__SPACE__MMIO;
		m->region[i].start = p->regions[i].base;
		m->region[i].size = p->regions[i].size;
		m->region[i].posted = p->regions[i].posted;
		m->regions[i] = &m->region[i];
	}
	for (unsigned i = 0; i < p->nirqs; i++) {
		bulkhead__irq__init(&m->irq[i]);
		m->irq[i].gsi = p->irqs[i].gsi;
		m->irq[i].level = p->irqs[i].level;
		m->irqs[i] = &m->irq[i];
	}
	m->placement.regions = m->regions;
	m->placement.n_regions = p->nregions;
	m->placement.irqs = m->irqs;
	m->placement.n_irqs = p->nirqs;
}

static unsigned
collect_fds(const struct device *d, int fds[CHANNEL_FDS_MAX])
{
	unsigned n = 0;

	fds[n++] = d->store_mem.fd;
	fds[n++] = d->ring_mem.fd;
	fds[n++] = d->kick_fd;
	for (unsigned i = 0; i < MANIFEST_IRQS; i++) {
		if (d->irq[i].trigger >= 0)
			fds[n++] = d->irq[i].trigger;
		if (d->irq[i].resample >= 0)
			fds[n++] = d->irq[i].resample;
	}
	for (unsigned i = 0; i < d->manifest.nstreams; i++) {
		const struct device_stream *s = &d->stream[i];

		fds[n++] = s->out.fd;
		fds[n++] = s->out_data;
		fds[n++] = s->out_space;
		fds[n++] = s->in.fd;
		fds[n++] = s->in_data;
		fds[n++] = s->in_space;
	}
	return n;
}

static int
send_configure(struct device *d)
{
	Bulkhead__Configure c;
	struct placement_message placement;
	int fds[CHANNEL_FDS_MAX];
	unsigned n = collect_fds(d, fds);

	bulkhead__configure__init(&c);
	device_fill_placement(&placement, d);
	c.name = d->name;
	c.vcpus = d->vm->nvcpus;
	c.placement = &placement.placement;
	c.params = d->config->params;
	c.n_params = d->config->n_params;
	c.spin_us = d->vm->device_spin_us;
	c.clock_offset_ns = d->vm->clock_offset_ns;
	return channel_send(
	    &d->channel, BULKHEAD__ENVELOPE__BODY_CONFIGURE, &c, fds, n, 0);
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
	int r;

	bulkhead__load__init(&load);
	placements = calloc(VM_DEVICES_MAX, sizeof(*placements));
	if (placements == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < vm->ndevices; i++) {
		bulkhead__placed_device__init(&placed[i]);
		device_fill_placement(&placements[i], &vm->device[i]);
		placed[i].type = vm->device[i].type;
		placed[i].name = vm->device[i].name;
		placed[i].placement = &placements[i].placement;
		list[i] = &placed[i];
	}
	load.has_initrd = vm->initrd_fd >= 0;
	load.cmdline = vm->config->cmdline;
	load.ram_low = vm->layout.low;
	load.ram_high = vm->layout.high;
	load.vcpus = vm->nvcpus;
	load.devices = list;
	load.n_devices = vm->ndevices;
	r = channel_send(&loader->channel, BULKHEAD__ENVELOPE__BODY_LOAD, &load,
	    fds, load.has_initrd ? 3 : 2, 0);
	free(placements);
	return r;
}

int
device_send_configuration(struct device *d)
{
	return d->loader ? send_load(d) : send_configure(d);
}
