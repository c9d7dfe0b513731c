/* A device host's side of the conversation with the broker. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "devhost/host_impl.h"
#include "proto/base.h"

#define PLACEMENTS_MAX 8u
#define PARAMS_MAX     32u
#define BODY(name)     BULKHEAD__ENVELOPE__BODY_##name

struct placement_message {
	Bulkhead__Placement message;
	Bulkhead__Region region[DEVICE_REGIONS_MAX];
	Bulkhead__Region *regions[DEVICE_REGIONS_MAX];
	Bulkhead__Irq irq[DEVICE_IRQS_MAX];
	Bulkhead__Irq *irqs[DEVICE_IRQS_MAX];
};

/* The generated structs have no const; nothing writes through them here. */
static char *
unconst(const char *s)
{
	union {
		const char *in;
		char *out;
	} u = { .in = s };

	return u.out;
}

static Bulkhead__Space
space_of(const struct device_region *r)
{
	if (r->space == DEVICE_PCI_CONFIG)
		return BULKHEAD__SPACE__PCI_CONFIG;
	return r->space == DEVICE_PIO ? BULKHEAD__SPACE__PIO
				      : BULKHEAD__SPACE__MMIO;
}

static void
fill_placement(struct placement_message *m, const struct device_placement *pl)
{
	bulkhead__placement__init(&m->message);
	for (unsigned i = 0; i < pl->nregions; i++) {
		const struct device_region *from = &pl->regions[i];
		Bulkhead__Region *to = &m->region[i];

		bulkhead__region__init(to);
		to->name = unconst(from->name);
		to->space = space_of(from);
		to->start = from->base;
		to->size = from->size;
		to->posted = from->posted;
		to->bar = from->bar;
		to->wiring = from->wiring;
		m->regions[i] = to;
	}
	for (unsigned i = 0; i < pl->nirqs; i++) {
		bulkhead__irq__init(&m->irq[i]);
		m->irq[i].gsi = pl->irqs[i].gsi;
		m->irq[i].level = pl->irqs[i].level;
		m->irq[i].pci = pl->irqs[i].pci;
		m->irqs[i] = &m->irq[i];
	}
	m->message.n_regions = pl->nregions;
	m->message.regions = m->regions;
	m->message.n_irqs = pl->nirqs;
	m->message.irqs = m->irqs;
}

static size_t
fill_names(char **out, const char *const *names, unsigned n, unsigned max)
{
	BUG_ON(n > max);
	for (unsigned i = 0; i < n; i++)
		out[i] = unconst(names[i]);
	return n;
}

int
host_say_hello(struct host *h)
{
	const struct device_type *t = h->type;
	struct placement_message pm[PLACEMENTS_MAX];
	Bulkhead__Placement *placements[PLACEMENTS_MAX];
	char *streams[DEVICE_STREAMS_MAX], *links[DEVICE_LINKS_MAX];
	char *files[DEVICE_FILES_MAX], *counters[DEVICE_COUNTERS_MAX];
	Bulkhead__Doorbells doorbells;
	Bulkhead__Hello hello;

	BUG_ON(t->nplacements == 0 || t->nplacements > PLACEMENTS_MAX);
	bulkhead__hello__init(&hello);
	bulkhead__doorbells__init(&doorbells);
	for (unsigned i = 0; i < t->nplacements; i++) {
		fill_placement(&pm[i], &t->placements[i]);
		placements[i] = &pm[i].message;
	}
	hello.type = unconst(t->name);
	hello.build = unconst(BULKHEAD_VERSION);
	hello.state_version = t->state_version;
	hello.state_size = t->state_size;
	hello.log_size = t->log_size;
	hello.dma = (uint32_t)t->dma;
	hello.n_placements = t->nplacements;
	hello.placements = placements;
	hello.n_streams =
	    fill_names(streams, t->streams, t->nstreams, DEVICE_STREAMS_MAX);
	hello.streams = streams;
	hello.n_links =
	    fill_names(links, t->links, t->nlinks, DEVICE_LINKS_MAX);
	hello.links = links;
	hello.n_files =
	    fill_names(files, t->files, t->nfiles, DEVICE_FILES_MAX);
	hello.files = files;
	hello.n_counters = fill_names(
	    counters, t->counters, t->ncounters, DEVICE_COUNTERS_MAX);
	hello.counters = counters;
	if (t->doorbells.count > 0) {
		doorbells.region = t->doorbells.region;
		doorbells.offset = t->doorbells.offset;
		doorbells.stride = t->doorbells.stride;
		doorbells.count = t->doorbells.count;
		hello.doorbells = &doorbells;
	}
	hello.vectors = t->nvectors;
	hello.converts = t->convert != NULL;
	hello.syscalls = h->identity.syscalls;
	hello.sandbox = h->identity.sandbox;
	return channel_send(&h->channel, BODY(HELLO), &hello, NULL, 0, 0);
}

void
host_finish(struct host *h, int status)
{
	if (h->done)
		return;
	h->done = true;
	h->status = status;
}

void
host_fail(struct host *h, int error, const char *what)
{
	Bulkhead__Failure failure;
	char text[80];
	int status = HOST_EXIT_RESOURCE;

	if (h->done)
		return;
	if (error == -EPROTO)
		status = HOST_EXIT_PROTOCOL;
	else if (error == -EBADMSG)
		status = HOST_EXIT_STATE;
	else if (error == -ENOENT || error == -EINVAL)
		status = HOST_EXIT_CONFIG;
	snprintf(text, sizeof(text), "%s: %s", what, strerrordesc_np(-error));
	bulkhead__failure__init(&failure);
	failure.error = error;
	failure.text = text;
	/* The exit status says it too, so a failure to send is no matter. */
	(void)channel_send(&h->channel, BODY(FAILURE), &failure, NULL, 0, 0);
	host_finish(h, status);
}

static int
read_placement(const struct device_type *t, const Bulkhead__Placement *m,
    struct device_placement *pl)
{
	const struct device_placement *own = &t->placements[0];

	memset(pl, 0, sizeof(*pl));
	if (!m || m->n_regions != own->nregions || m->n_irqs != own->nirqs)
		return -EPROTO;
	pl->nregions = own->nregions;
	pl->nirqs = own->nirqs;
	for (unsigned i = 0; i < pl->nregions; i++) {
		/* The bases are the broker's choice, the rest is ours. */
		pl->regions[i] = own->regions[i];
		pl->regions[i].base = m->regions[i]->start;
		if (m->regions[i]->size != own->regions[i].size)
			return -EPROTO;
	}
	for (unsigned i = 0; i < pl->nirqs; i++) {
		pl->irqs[i] = own->irqs[i];
		pl->irqs[i].gsi = m->irqs[i]->gsi;
		if (!!m->irqs[i]->level != own->irqs[i].level)
			return -EPROTO;
	}
	return 0;
}

static int
set_options(struct device *dev, void *ctx)
{
	const Bulkhead__Configure *m = ctx;
	int rc;

	for (size_t i = 0; i < m->n_params; i++) {
		if (!dev->type->ops->configure)
			return -ENOENT;
		rc = dev->type->ops->configure(
		    dev, m->params[i]->key, m->params[i]->value);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void
configure(struct host *h, struct channel_message *m)
{
	Bulkhead__Configure *c = m->envelope->configure;
	struct engine_config config = { 0 };
	Bulkhead__Ready ready;
	int rc;

	rc = read_placement(h->type, c->placement, &config.placement);
	if (rc != 0) {
		host_fail(h, rc, "placement");
		return;
	}
	for (unsigned i = 0; i < m->nfds; i++) {
		h->fds[i] = m->fds[i];
		m->fds[i] = -1;
	}
	h->nfds = m->nfds;
	h->spin_ns = h->spin_now_ns = c->spin_us * 1000ull;
	config.name = c->name;
	config.vcpus = c->vcpus;
	config.clock_offset_ns = c->clock_offset_ns;
	config.icount = c->icount;
	config.has_ram = c->has_ram;
	config.ram_low = c->ram_low;
	config.ram_high = c->ram_high;
	config.links = c->links;
	config.link_side = c->link_side;
	config.files = c->files;
	config.converts = c->converts;
	config.from_version = c->from_version;
	config.from_size = c->from_size;
	config.fds = h->fds;
	config.nfds = h->nfds;
	config.context = h->context;
	config.watch = host_watch;
	config.watcher = h;
	rc = engine_attach(&h->dev, h->type, &config);
	if (rc != 0) {
		host_fail(h, rc, "memory");
		return;
	}
	rc = engine_start(&h->dev, set_options, c);
	if (rc < 0) {
		host_fail(h, rc, "state or options");
		return;
	}
	stats_set(&h->dev.store.stats->syscalls, h->identity.syscalls);
	stats_set(&h->dev.store.stats->sandbox, h->identity.sandbox);
	bulkhead__ready__init(&ready);
	ready.recovered = rc;
	h->takes_up = rc > 0;
	rc = host_add_events(h);
	if (rc == 0)
		rc = channel_send(&h->channel, BODY(READY), &ready, NULL, 0, 0);
	if (rc == -EPIPE)
		host_finish(h, HOST_EXIT_OK);
	else if (rc < 0)
		host_fail(h, rc, "ready");
	else
		h->running = true;
}

static void
pong(struct host *h, const struct channel_message *m)
{
	Bulkhead__Pong answer;

	bulkhead__pong__init(&answer);
	answer.cookie = m->envelope->ping->cookie;
	/* A broker that is gone is seen by the next receive. */
	(void)channel_send(
	    &h->channel, BODY(PONG), &answer, NULL, 0, m->envelope->seq);
}

static void
resize(struct host *h, const Bulkhead__Resize *m)
{
	/* A stream that is not there is a name that the user mistyped. */
	for (unsigned i = 0; h->running && i < h->type->nstreams; i++)
		if (strcmp(h->type->streams[i], m->stream) == 0)
			engine_resize(&h->dev, i,
			    (uint16_t)MIN(m->columns, UINT16_MAX),
			    (uint16_t)MIN(m->rows, UINT16_MAX));
}

static void
reconfigure(struct host *h, const struct channel_message *m)
{
	const Bulkhead__Reconfigure *r = m->envelope->reconfigure;
	const char *keys[PARAMS_MAX], *values[PARAMS_MAX];
	Bulkhead__Failure failure;
	Bulkhead__Ok ok;
	unsigned bad = 0;
	char text[80] = "too many parameters";
	int rc = -EINVAL;

	bulkhead__failure__init(&failure);
	bulkhead__ok__init(&ok);
	if (h->running && r->n_params <= PARAMS_MAX) {
		for (unsigned i = 0; i < r->n_params; i++) {
			keys[i] = r->params[i]->key;
			values[i] = r->params[i]->value;
		}
		rc = engine_reconfigure(
		    &h->dev, (unsigned)r->n_params, keys, values, &bad);
		if (rc < 0)
			snprintf(text, sizeof(text), "%.40s: %s", keys[bad],
			    rc == -ENOENT ? "not a parameter that can change"
					  : strerrordesc_np(-rc));
	}
	failure.error = rc;
	failure.text = text;
	/* A broker that is gone is seen by the next receive. */
	(void)channel_send(&h->channel, rc == 0 ? BODY(OK) : BODY(FAILURE),
	    rc == 0 ? (void *)&ok : (void *)&failure, NULL, 0,
	    m->envelope->seq);
}

static void
treat(struct host *h, struct channel_message *m)
{
	int what = (int)m->envelope->body_case;

	pthread_mutex_lock(&h->lock);
	if (what == BODY(CONFIGURE))
		configure(h, m);
	else if (what == BODY(PING))
		pong(h, m);
	else if (what == BODY(POWER_BUTTON) && h->running)
		engine_power_button(&h->dev);
	else if (what == BODY(RESIZE))
		resize(h, m->envelope->resize);
	else if (what == BODY(RECONFIGURE))
		reconfigure(h, m);
	else if (what == BODY(FINISH))
		host_finish_idle(h);
	pthread_mutex_unlock(&h->lock);
}

void
host_converse(struct host *h)
{
	struct channel_message m;
	int rc;

	while (!h->done) {
		rc = channel_receive(&h->channel, &m, -1);
		if (rc == -EAGAIN)
			return;
		if (rc == 0) {
			host_finish(h, HOST_EXIT_OK);
			return;
		}
		if (rc < 0) {
			host_fail(h, rc, "control channel");
			return;
		}
		treat(h, &m);
		channel_free(&m);
	}
}

void
host_flush(struct host *h)
{
	struct device *dev = &h->dev;
	Bulkhead__PlatformEvent event;
	Bulkhead__Log line;
	char text[ENGINE_LINE_MAX];
	bool send_event;

	bulkhead__platform_event__init(&event);
	bulkhead__log__init(&line);
	pthread_mutex_lock(&h->lock);
	send_event = dev->platform_cookie != dev->platform_sent;
	event.cookie = dev->platform_cookie;
	event.event = dev->platform_event == DEVICE_RESET
	    ? BULKHEAD__PLATFORM__RESET
	    : BULKHEAD__PLATFORM__POWEROFF;
	memcpy(text, dev->line, sizeof(text));
	dev->line[0] = '\0';
	pthread_mutex_unlock(&h->lock);

	/* Not sent for a full channel: the next turn of the loop tries again. */
	if (send_event &&
	    channel_send(&h->channel, BODY(PLATFORM), &event, NULL, 0, 0) ==
		0) {
		pthread_mutex_lock(&h->lock);
		dev->platform_sent = event.cookie;
		pthread_mutex_unlock(&h->lock);
	}
	if (text[0]) {
		line.level = 1;
		line.text = text;
		(void)channel_send(&h->channel, BODY(LOG), &line, NULL, 0, 0);
	}
}
