/* Checking and mapping the fds of a Configure. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "devhost/engine.h"
#include "proto/base.h"

/* Without these a peer could shrink the memory under us: SIGBUS. */
#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_GROW)

static int
map(int fd, size_t size, void **out)
{
	struct stat st;
	int seals;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || (size_t)st.st_size < size)
		return -EPROTO;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS_NEEDED) != SEALS_NEEDED)
		return -EPROTO;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*out = p;
	return 0;
}

/* Does it map guest RAM? */
static bool
maps_ram(const struct device_type *type, const struct engine_config *c)
{
	return type->dma != DEVICE_DMA_NONE && c->has_ram;
}

static bool
bit(uint32_t bits, unsigned i)
{
	return bits >> i & 1;
}

/* The fds that Configure brings, by the manifest and what it says itself. */
static unsigned
fds_expected(const struct device_type *type, const struct engine_config *c)
{
	unsigned n = 3 + 6 * type->nstreams + type->nvectors +
	    type->doorbells.count + maps_ram(type, c) + c->converts;

	for (unsigned i = 0; i < c->placement.nirqs; i++)
		n += c->placement.irqs[i].level ? 2 : 1;
	for (unsigned i = 0; i < type->nlinks; i++)
		n += bit(c->links, i) ? 5 : 0;
	for (unsigned i = 0; i < type->nfiles; i++)
		n += bit(c->files, i);
	return n;
}

static bool
is_sound(const struct device_type *type, const struct engine_config *c)
{
	const struct device_placement *pl = &c->placement;
	uint64_t ram;

	for (unsigned i = 0; i < type->nfiles; i++)
		if (!bit(c->files, i) && type->files[i][0] != '?')
			return false;
	return pl->nregions == type->placements[0].nregions &&
	    pl->nirqs == type->placements[0].nirqs &&
	    c->links >> type->nlinks == 0 && c->link_side <= 1 &&
	    c->files >> type->nfiles == 0 &&
	    !__builtin_add_overflow(c->ram_low, c->ram_high, &ram) &&
	    ram < UINT64_MAX / 2 && c->nfds == fds_expected(type, c);
}

static int
attach_streams(struct device *dev, const int *fds)
{
	int rc;

	for (unsigned i = 0; i < dev->type->nstreams; i++, fds += 6) {
		struct engine_stream *s = &dev->stream[i];
		void *p;

		rc = map(fds[0], STREAM_SIZE, &p);
		if (rc != 0)
			return rc;
		s->out = p;
		rc = map(fds[3], STREAM_SIZE, &p);
		if (rc != 0)
			return rc;
		s->in = p;
		s->in_pos = s->in->tail;
		s->out_data = fds[1];
		s->out_space = fds[2];
		s->in_data = fds[4];
		s->in_space = fds[5];
	}
	return 0;
}

static int
attach_ram(struct device *dev, const struct engine_config *c, int fd)
{
	void *p;
	int rc;

	if (c->ram_low + c->ram_high == 0)
		return -EPROTO;
	rc = map(fd, c->ram_low + c->ram_high, &p);
	if (rc != 0)
		return rc;
	dev->ram = p;
	dev->ram_low = c->ram_low;
	dev->ram_high = c->ram_high;
	return 0;
}

static int
attach_links(struct device *dev, const struct engine_config *c, const int *fds)
{
	int rc;

	for (unsigned i = 0; i < dev->type->nlinks; i++) {
		struct engine_link *l = &dev->link[i];
		void *p;

		if (!bit(c->links, i))
			continue;
		rc = map(fds[0], PACKET_LINK_SIZE, &p);
		if (rc != 0)
			return rc;
		l->memory = p;
		l->tx = &l->memory->ring[c->link_side];
		l->rx = &l->memory->ring[!c->link_side];
		l->rx_data = fds[1];
		l->tx_space = fds[2];
		l->tx_data = fds[3];
		l->rx_space = fds[4];
		/* What was put in a former life is news to this one. */
		l->seen = packet_tail(l->rx);
		fds += 5;
	}
	return 0;
}

static void
copy_config(struct device *dev, const struct device_type *type,
    const struct engine_config *c)
{
	dev->type = type;
	dev->vcpus = c->vcpus;
	dev->clock_offset_ns = c->clock_offset_ns;
	dev->icount = c->icount;
	dev->context = c->context;
	dev->watch = c->watch;
	dev->watcher = c->watcher;
	snprintf(dev->name, sizeof(dev->name), "%s", c->name);
	dev->placement = c->placement;
	for (unsigned i = 0; i < dev->placement.nregions; i++) {
		struct device_region *r = &dev->placement.regions[i];

		snprintf(dev->region_names[i], ENGINE_NAME_MAX, "%s", r->name);
		r->name = dev->region_names[i];
	}
}

/* The fds after the first three, in Configure's order. */
static int
attach_rest(struct device *dev, const struct engine_config *c, const int *fds)
{
	const struct device_type *type = dev->type;
	int rc;

	for (unsigned i = 0; i < dev->placement.nirqs; i++) {
		dev->irq[i].trigger = *fds++;
		dev->irq[i].resample =
		    dev->placement.irqs[i].level ? *fds++ : -1;
	}
	rc = attach_streams(dev, fds);
	fds += 6 * type->nstreams;
	if (rc == 0 && maps_ram(type, c))
		rc = attach_ram(dev, c, *fds++);
	if (rc != 0)
		return rc;
	for (unsigned i = 0; i < type->nvectors; i++)
		dev->vector[i].trigger = *fds++;
	for (unsigned i = 0; i < type->doorbells.count; i++)
		dev->doorbell[i] = *fds++;
	rc = attach_links(dev, c, fds);
	fds += 5 * __builtin_popcount(c->links);
	for (unsigned i = 0; i < type->nfiles; i++)
		dev->file[i] = bit(c->files, i) ? *fds++ : -1;
	return rc;
}

/* The store that the new one is to be made from. */
static int
attach_old(struct device *dev, const struct engine_config *c, int fd)
{
	const struct store_shape shape = {
		.vcpus = c->vcpus,
		.state_size = c->from_size,
		.log_size = dev->type->log_size,
		.state_version = c->from_version,
		.vectors = dev->type->nvectors,
	};
	size_t size = store_size(&shape);
	void *p;
	int rc;

	if (size == 0)
		return -EPROTO;
	rc = map(fd, size, &p);
	if (rc != 0)
		return rc;
	rc = store_attach(&dev->old, p, size, &shape);
	if (rc != 0)
		munmap(p, size);
	return rc;
}

int
engine_attach(struct device *dev, const struct device_type *type,
    const struct engine_config *config)
{
	const struct store_shape shape = {
		.vcpus = config->vcpus,
		.state_size = type->state_size,
		.log_size = type->log_size,
		.state_version = type->state_version,
		.vectors = type->nvectors,
	};
	size_t size = store_size(&shape);
	void *p;
	int rc;

	memset(dev, 0, sizeof(*dev));
	BUG_ON(type->nstreams > DEVICE_STREAMS_MAX ||
	    type->nvectors > DEVICE_VECTORS_MAX ||
	    type->doorbells.count > DEVICE_DOORBELLS_MAX ||
	    type->nlinks > DEVICE_LINKS_MAX || type->nfiles > DEVICE_FILES_MAX);
	if (size == 0 || !is_sound(type, config))
		return -EPROTO;
	copy_config(dev, type, config);
	rc = map(config->fds[0], size, &p);
	if (rc != 0)
		goto fail;
	rc = store_attach(&dev->store, p, size, &shape);
	if (rc != 0) {
		munmap(p, size);
		goto fail;
	}
	dev->rings_size = ring_set_size(config->vcpus);
	rc = map(config->fds[1], dev->rings_size, &p);
	if (rc != 0)
		goto fail;
	dev->rings = p;
	dev->now_ns =
	    atomic_load_explicit(&dev->rings->now_ns, memory_order_relaxed);
	dev->kick = config->fds[2];
	rc = attach_rest(dev, config, config->fds + 3);
	if (rc == 0 && config->converts)
		rc = attach_old(dev, config, config->fds[config->nfds - 1]);
	if (rc == 0)
		return 0;
fail:
	engine_detach(dev);
	return rc;
}

static void
unmap(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

void
engine_detach(struct device *dev)
{
	unmap(dev->store.base, dev->store.size);
	unmap(dev->old.base, dev->old.size);
	unmap(dev->rings, dev->rings_size);
	for (unsigned i = 0; i < DEVICE_STREAMS_MAX; i++) {
		unmap(dev->stream[i].out, STREAM_SIZE);
		unmap(dev->stream[i].in, STREAM_SIZE);
	}
	unmap(dev->ram, dev->ram_low + dev->ram_high);
	for (unsigned i = 0; i < DEVICE_LINKS_MAX; i++)
		unmap(dev->link[i].memory, PACKET_LINK_SIZE);
	memset(dev, 0, sizeof(*dev));
}
