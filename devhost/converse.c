/* A device host's side of the conversation with the broker. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "devhost/host_impl.h"
#include "proto/base.h"

#define PLACEMENTS_MAX 8u
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

static void
fill_placement(struct placement_message *m, const struct device_placement *pl)
{
	bulkhead__placement__init(&m->message);
	for (unsigned i = 0; i < pl->nregions; i++) {
		const struct device_region *from = &pl->regions[i];
		Bulkhead__Region *to = &m->region[i];

		bulkhead__region__init(to);
		to->name = unconst(from->name);
		to->space = from->space == DEVICE_PIO ? BULKHEAD__SPACE__PIO
						      : BULKHEAD__SPACE__MMIO;
		to->start = from->base;
		to->size = from->size;
		to->posted = from->posted;
		m->regions[i] = to;
	}
	for (unsigned i = 0; i < pl->nirqs; i++) {
		bulkhead__irq__init(&m->irq[i]);
		m->irq[i].gsi = pl->irqs[i].gsi;
		m->irq[i].level = pl->irqs[i].level;
		m->irqs[i] = &m->irq[i];
	}
	m->message.n_regions = pl->nregions;
	m->message.regions = m->regions;
	m->message.n_irqs = pl->nirqs;
	m->message.irqs = m->irqs;
}

int
host_say_hello(struct host *h)
{
	const struct device_type *t = h->type;
	struct placement_message pm[PLACEMENTS_MAX];
	Bulkhead__Placement *placements[PLACEMENTS_MAX];
	char *streams[DEVICE_STREAMS_MAX];
	Bulkhead__Hello hello;

	BUG_ON(t->nplacements == 0 || t->nplacements > PLACEMENTS_MAX);
	BUG_ON(t->nstreams > DEVICE_STREAMS_MAX);
	bulkhead__hello__init(&hello);
	for (unsigned i = 0; i < t->nplacements; i++) {
		fill_placement(&pm[i], &t->placements[i]);
		placements[i] = &pm[i].message;
	}
	for (unsigned i = 0; i < t->nstreams; i++)
		streams[i] = unconst(t->streams[i]);
	hello.type = unconst(t->name);
	hello.build = unconst(BULKHEAD_VERSION);
	hello.state_version = t->state_version;
	hello.state_size = t->state_size;
	hello.log_size = t->log_size;
	hello.dma = (uint32_t)t->dma;
	hello.n_placements = t->nplacements;
	hello.placements = placements;
	hello.n_streams = t->nstreams;
	hello.streams = streams;
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
	config.fds = h->fds;
	config.nfds = h->nfds;
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
	bulkhead__ready__init(&ready);
	ready.recovered = rc;
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
	else if (what == BODY(FINISH))
		host_finish(h, HOST_EXIT_OK);
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
