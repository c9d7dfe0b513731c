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

/* The fds that Configure brings, by the manifest and the placement. */
static unsigned
fds_expected(
    const struct device_type *type, const struct device_placement *placement)
{
	unsigned n = 3 + 6 * type->nstreams;

	for (unsigned i = 0; i < placement->nirqs; i++)
		n += placement->irqs[i].level ? 2 : 1;
	return n;
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

int
engine_attach(struct device *dev, const struct device_type *type,
    const struct engine_config *config)
{
	const struct store_shape shape = {
		.vcpus = config->vcpus,
		.state_size = type->state_size,
		.log_size = type->log_size,
		.state_version = type->state_version,
	};
	const struct device_placement *pl = &config->placement;
	size_t size = store_size(&shape);
	const int *fds = config->fds;
	void *p;
	int rc;

	memset(dev, 0, sizeof(*dev));
	BUG_ON(type->nstreams > DEVICE_STREAMS_MAX);
	if (size == 0 || pl->nregions > DEVICE_REGIONS_MAX ||
	    pl->nirqs > DEVICE_IRQS_MAX ||
	    pl->nregions != type->placements[0].nregions ||
	    pl->nirqs != type->placements[0].nirqs ||
	    config->nfds != fds_expected(type, pl))
		return -EPROTO;
	dev->type = type;
	dev->vcpus = config->vcpus;
	dev->clock_offset_ns = config->clock_offset_ns;
	snprintf(dev->name, sizeof(dev->name), "%s", config->name);
	dev->placement = *pl;
	for (unsigned i = 0; i < pl->nregions; i++) {
		const char *name = pl->regions[i].name;

		snprintf(dev->region_names[i], ENGINE_NAME_MAX, "%s", name);
		dev->placement.regions[i].name = dev->region_names[i];
	}
	rc = map(fds[0], size, &p);
	if (rc != 0)
		goto fail;
	rc = store_attach(&dev->store, p, size, &shape);
	if (rc != 0) {
		munmap(p, size);
		goto fail;
	}
	dev->rings_size = ring_set_size(config->vcpus);
	rc = map(fds[1], dev->rings_size, &p);
	if (rc != 0)
		goto fail;
	dev->rings = p;
	dev->kick = fds[2];
	fds += 3;
	for (unsigned i = 0; i < pl->nirqs; i++) {
		dev->irq[i].trigger = *fds++;
		dev->irq[i].resample = pl->irqs[i].level ? *fds++ : -1;
	}
	rc = attach_streams(dev, fds);
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
	unmap(dev->rings, dev->rings_size);
	for (unsigned i = 0; i < DEVICE_STREAMS_MAX; i++) {
		unmap(dev->stream[i].out, STREAM_SIZE);
		unmap(dev->stream[i].in, STREAM_SIZE);
	}
	memset(dev, 0, sizeof(*dev));
}
