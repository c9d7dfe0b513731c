/* Replaying a black box. */
#include "devhost/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devhost/engine.h"
#include "devhost/host.h"
#include "proto/base.h"
#include "proto/blackbox.h"
#include "proto/channel.h"
#include "proto/control.pb-c.h"

/* Of a file that the user does not name: as large as a disk may be. */
#define EMPTY_BYTES ((off_t)1 << 40)
#define FDS_MAX	    256u

struct replay {
	const struct blackbox_header *h;
	const struct device_type *type;
	Bulkhead__Configure *configure;
	uint8_t *store, *rings, *streams;
	size_t store_size, rings_size, streams_size;
	const struct replay_file *files;
	unsigned nfiles;
	int fd[FDS_MAX];
	unsigned nfds;
	FILE *out;
	struct device dev;
};

/* ---- what the broker hands over ---- */

/* A sealed memfd of that size, with those bytes or empty.  -1: no memory. */
static int
make_memory(const void *bytes, size_t size)
{
	int fd = memfd_create("replay", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t at = 0;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return fd;
	while (bytes != NULL && at < size) {
		ssize_t n = pwrite(
		    fd, (const uint8_t *)bytes + at, size - at, (off_t)at);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

static void
put(struct replay *r, int fd)
{
	if (r->nfds < FDS_MAX)
		r->fd[r->nfds++] = fd;
}

static void
put_events(struct replay *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put(r, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

static int
open_file(const struct replay *r, const char *name)
{
	int fd;

	for (unsigned i = 0; i < r->nfiles; i++)
		if (strcmp(r->files[i].name, name) == 0) {
			fd = open(r->files[i].path, O_RDWR | O_CLOEXEC);
			if (fd < 0)
				fprintf(r->out, "%s: %s\n", r->files[i].path,
				    strerror(errno));
			return fd;
		}
	fprintf(r->out, "file %s: none given, an empty one is used\n", name);
	fd = memfd_create("replay-file", MFD_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, EMPTY_BYTES) < 0)
		fprintf(r->out, "file %s: %s\n", name, strerror(errno));
	return fd;
}

/* As it was left, if the box has it. */
static int
make_stream(const struct replay *r, size_t i)
{
	return make_memory(r->streams_size / STREAM_SIZE > i
		? r->streams + i * STREAM_SIZE
		: NULL,
	    STREAM_SIZE);
}

/* In the order of control.proto. */
static void
collect_fds(struct replay *r)
{
	const struct device_type *t = r->type;
	const Bulkhead__Configure *c = r->configure;

	put(r, make_memory(r->store, r->store_size));
	put(r, make_memory(r->rings, r->rings_size));
	put_events(r, 1);
	for (unsigned i = 0; i < t->placements[0].nirqs; i++)
		put_events(r, t->placements[0].irqs[i].level ? 2 : 1);
	for (unsigned i = 0; i < t->nstreams; i++)
		for (unsigned j = 0; j < 2; j++) {
			put(r, make_stream(r, 2 * i + j));
			put_events(r, 2);
		}
	if (t->dma != DEVICE_DMA_NONE && c->has_ram)
		put(r, make_memory(NULL, c->ram_low + c->ram_high));
	put_events(r, t->nvectors + t->doorbells.count);
	for (unsigned i = 0; i < t->nlinks; i++)
		if (c->links >> i & 1) {
			put(r, make_memory(NULL, PACKET_LINK_SIZE));
			put_events(r, 4);
		}
	for (unsigned i = 0; i < t->nfiles; i++)
		if (c->files >> i & 1)
			put(r,
			    open_file(
				r, t->files[i] + (t->files[i][0] == '?')));
}

static int
watch(void *watcher UNUSED, int fd UNUSED, uint32_t events UNUSED)
{
	return 0;
}

static int
set_options(struct device *dev, void *ctx)
{
	const Bulkhead__Configure *c = ctx;
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < c->n_params; i++)
		rc = dev->type->ops->configure
		    ? dev->type->ops->configure(
			  dev, c->params[i]->key, c->params[i]->value)
		    : -ENOENT;
	return rc;
}

static int
fill_config(struct replay *r, struct engine_config *config)
{
	const Bulkhead__Configure *c = r->configure;
	const struct device_placement *own = &r->type->placements[0];
	struct device_placement *pl = &config->placement;

	if (!c->placement || c->placement->n_regions != own->nregions ||
	    c->placement->n_irqs != own->nirqs)
		return -EPROTO;
	*pl = *own;
	for (unsigned i = 0; i < pl->nregions; i++)
		pl->regions[i].base = c->placement->regions[i]->start;
	for (unsigned i = 0; i < pl->nirqs; i++)
		pl->irqs[i].gsi = c->placement->irqs[i]->gsi;
	config->name = r->h->device;
	config->vcpus = c->vcpus;
	/* Guest time goes on where it was. */
	config->clock_offset_ns = (int64_t)(r->h->guest_ns - time_now_ns());
	config->icount = c->icount;
	config->has_ram = c->has_ram;
	config->ram_low = c->ram_low;
	config->ram_high = c->ram_high;
	config->links = c->links;
	config->link_side = c->link_side;
	config->files = c->files;
	config->fds = r->fd;
	config->nfds = r->nfds;
	config->watch = watch;
	if (r->type->context_size > 0) {
		config->context = calloc(1, r->type->context_size);
		if (!config->context)
			return -ENOMEM;
	}
	return 0;
}

/* ---- faults ---- */

static enum fault_kind
kind_of_death(const struct blackbox_header *h)
{
	if (h->signal == 0 && h->status == HOST_EXIT_FAULT)
		return FAULT_KILL;
	if (strncmp(h->reason, "hung", 4) == 0)
		return FAULT_HANG;
	return FAULT_NONE;
}

/*
 * A fault made on purpose was counted before it happened, so that it would not
 * happen again: here it is to.
 */
static void
rewind_faults(struct replay *r)
{
	enum fault_kind kind = kind_of_death(r->h);
	struct store_shape shape;
	struct store s;

	if (kind == FAULT_NONE ||
	    store_read_shape(r->store, r->store_size, &shape) < 0 ||
	    store_attach(&s, r->store, r->store_size, &shape) < 0)
		return;
	for (unsigned i = 0; i < FAULT_PLANS; i++) {
		struct fault_plan *p = &s.faults->plan[i];
		uint64_t fired = stats_get(&p->fired);

		if (p->kind != (uint32_t)kind || fired == 0)
			continue;
		atomic_store(&p->fired, fired - 1);
		atomic_store(&p->seen, stats_get(&p->seen) - 1);
		atomic_store(&p->armed, 1);
		atomic_store(&s.faults->any, 1);
		fprintf(r->out, "fault plan %u (%s) is armed again\n", i,
		    fault_kind_name(p->kind));
	}
}

/* ---- running ---- */

static void
say_request(struct replay *r, const struct ring_request *req, uint64_t pos)
{
	static const char *const ops[] = { "read", "write", "posted write",
		"sync" };
	const struct device_placement *pl = &r->dev.placement;

	fprintf(r->out,
	    "vCPU %u request %" PRIu64 ": %s of %u at %s+0x%" PRIx64, req->vcpu,
	    pos, ops[req->op], req->size,
	    req->region < pl->nregions ? pl->regions[req->region].name : "?",
	    req->addr);
	if (req->op != RING_READ)
		fprintf(r->out, " = 0x%" PRIx64, req->data);
	fputc('\n', r->out);
}

/* Every request that waits, the vCPUs in turn.  How many; -EPROTO. */
static int
serve(struct replay *r)
{
	int n = 0, before;

	do {
		before = n;
		for (unsigned v = 0; v < r->dev.vcpus; v++) {
			const struct ring *ring = &r->dev.rings->ring[v];
			uint64_t pos = store_positions(&r->dev.store)[v].next;
			struct ring_request req;
			int rc = ring_take(ring, v, pos, &req);

			if (rc == 0)
				continue;
			if (rc > 0) {
				say_request(r, &req, pos);
				rc = engine_serve(&r->dev, v);
			}
			if (rc < 0)
				return rc;
			n++;
		}
	} while (n > before && r->dev.error == 0);
	return r->dev.error < 0 ? r->dev.error : n;
}

static int
fail(struct replay *r, const char *what, int error)
{
	fprintf(r->out, "%s: %s\n", what, strerrordesc_np(-error));
	if (error == -EBADMSG)
		return HOST_EXIT_STATE;
	if (error == -EPROTO)
		return HOST_EXIT_PROTOCOL;
	return error == -ENOENT || error == -EINVAL ? HOST_EXIT_CONFIG
						    : HOST_EXIT_RESOURCE;
}

static int
run(struct replay *r)
{
	struct engine_config config = { 0 };
	int rc;

	rewind_faults(r);
	collect_fds(r);
	rc = fill_config(r, &config);
	if (rc == 0 && r->type->ops->prepare)
		rc = r->type->ops->prepare(r->type, config.context);
	if (rc == 0)
		rc = engine_attach(&r->dev, r->type, &config);
	if (rc < 0)
		return fail(r, "what it was given", rc);
	fprintf(r->out, "starting on %s state\n",
	    store_is_fresh(&r->dev.store) ? "a fresh" : "the committed");
	rc = engine_start(&r->dev, set_options, r->configure);
	if (rc < 0)
		return fail(r, "state or options", rc);
	rc = serve(r);
	if (rc < 0)
		return fail(r, "device", rc);
	fprintf(r->out, "%d request%s handled; running what is due\n", rc,
	    rc == 1 ? "" : "s");
	engine_timer(&r->dev);
	fputs("it did not die\n", r->out);
	engine_detach(&r->dev);
	free(config.context);
	return HOST_EXIT_OK;
}

/* One that may be changed. */
static uint8_t *
section(void *file, unsigned kind, size_t *size)
{
	const uint8_t *at = blackbox_section(file, kind, size);

	return at ? (uint8_t *)file + (at - (const uint8_t *)file) : NULL;
}

int
replay_run(void *file, size_t size, const struct replay_file *files,
    unsigned nfiles, FILE *out)
{
	static struct replay r;
	size_t n;
	const void *configure;
	int status;

	memset(&r, 0, sizeof(r));
	r.out = out;
	r.files = files;
	r.nfiles = nfiles;
	if (blackbox_check(file, size) < 0) {
		fputs("this is no black box\n", out);
		return HOST_EXIT_USAGE;
	}
	r.h = file;
	r.type = device_type_find(r.h->type);
	if (!r.type) {
		fprintf(out, "no device type %s here\n", r.h->type);
		return HOST_EXIT_USAGE;
	}
	if (strcmp(r.h->build, BULKHEAD_VERSION) != 0)
		fprintf(out, "made by version %s, this is %s\n", r.h->build,
		    BULKHEAD_VERSION);
	configure = blackbox_section(file, BLACKBOX_CONFIGURE, &n);
	r.configure =
	    configure ? bulkhead__configure__unpack(NULL, n, configure) : NULL;
	r.store = section(file, BLACKBOX_STORE, &r.store_size);
	r.rings = section(file, BLACKBOX_RINGS, &r.rings_size);
	r.streams = section(file, BLACKBOX_STREAMS, &r.streams_size);
	if (!r.configure || r.store_size == 0 || r.rings_size == 0) {
		fputs("the box lacks the configuration, the store or the "
		      "rings\n",
		    out);
		return HOST_EXIT_USAGE;
	}
	status = run(&r);
	for (unsigned i = 0; i < r.nfds; i++)
		close(r.fd[i]);
	bulkhead__configure__free_unpacked(r.configure, NULL);
	return status;
}

int
replay_main(int argc, char **argv)
{
	struct replay_file files[DEVICE_FILES_MAX];
	int fd = open(argv[0], O_RDONLY | O_CLOEXEC), status;
	struct stat st = { 0 };
	void *file;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0) {
		fprintf(stderr, "devhost: %s: %s\n", argv[0],
		    fd < 0 ? strerror(errno) : "it is empty");
		return HOST_EXIT_USAGE;
	}
	for (int i = 1; i < argc; i++) {
		char *eq = strchr(argv[i], '=');

		if (!eq || i > (int)DEVICE_FILES_MAX) {
			fprintf(
			    stderr, "devhost: %s: not NAME=PATH\n", argv[i]);
			return HOST_EXIT_USAGE;
		}
		*eq = '\0';
		files[i - 1] = (struct replay_file){ argv[i], eq + 1 };
	}
	file = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE, fd, 0);
	close(fd);
	if (file == MAP_FAILED) {
		fprintf(stderr, "devhost: %s: %s\n", argv[0], strerror(errno));
		return HOST_EXIT_RESOURCE;
	}
	/* What is said before a death is to be read after it. */
	setvbuf(stdout, NULL, _IONBF, 0);
	status = replay_run(
	    file, (size_t)st.st_size, files, (unsigned)argc - 1, stdout);
	munmap(file, (size_t)st.st_size);
	return status;
}
