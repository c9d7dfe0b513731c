/*
 * A console: virtio 1.2, 5.3, with up to four ports, each of which is a byte
 * stream.
 *
 * Output is exact: the position of a chain's first byte in the output stream is
 * the stream's head when the chain is taken, because nobody else puts bytes
 * there and chains are put whole and in order.  It is noted in the in-flight log
 * before the first byte is put.  A process that finds the chain in the log puts
 * it at the same position again, which skips what is there.  The chain is used
 * when all of it is in the stream; until then a full stream holds it.
 *
 * Input is exact, and so are control messages to the driver.  What is about to
 * be used is committed first, as an intent: so many bytes from the position (or
 * this message), to go out as the queue's chain number N.  Whether it went out
 * is then told by the queue's own count of used chains, which changes with the
 * store of the used index: more than N, it did.  A new process settles the open
 * intent of each queue before anything else; what did not go out is sent again
 * from the same position, where the stream still has it, since the stream is
 * released only up to what is committed.
 *
 * Control messages from the driver are carried out, committed with the number
 * of their chain, and then used: one that comes again is known by its number.
 */
#include <errno.h>
#include <string.h>

#include "devices/virtio/virtio.h"
#include "proto/base.h"

#define PORTS	DEVICE_STREAMS_MAX
#define QUEUES	(2 * (PORTS + 1))
#define NAME	48u
#define EMERGE	64u
#define CTL_RX	2u
#define CTL_TX	3u
#define NOWHERE UINT64_MAX

/* More than that in one chain no driver sends: the rest is not put out. */
#define CHAIN_MAX     (16u << 20)

#define F_SIZE	      (1ull << 0)
#define F_MULTIPORT   (1ull << 1)
#define F_EMERG_WRITE (1ull << 2)

/* Control messages; 5.3.6.2. */
enum {
	DEVICE_READY,
	PORT_ADD,
	PORT_REMOVE,
	PORT_READY,
	CONSOLE_PORT,
	RESIZE,
	PORT_OPEN,
	PORT_NAME,
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct config {
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
} __attribute__((packed));
#define CONFIG_EMERG_WR 8u

enum counter { CONTROL_IN, CONTROL_OUT, CONTROL_BAD, BYTES_LOST };

/* What was to go out as chain number `chain` of a queue. */
struct intent {
	uint64_t epoch; /* of the queue */
	uint64_t chain;
	uint32_t what; /* bytes; control: port and event */
	uint32_t open;
};

struct port {
	uint64_t in_pos; /* in the input stream, of what comes next */
	struct intent rx;
	uint16_t cols, rows;
	uint8_t pending; /* messages to send, 1 << event */
	uint8_t opened; /* by the driver */
	char name[NAME];
};

struct console {
	struct virtio_state virtio;
	struct port port[PORTS];
	struct intent control;
	/* Chains of the control queue that are carried out, in that epoch. */
	uint64_t controls_done, controls_epoch;
	uint64_t emerg_pos; /* in the output of port 0; or NOWHERE yet */
	uint8_t emerg[EMERGE];
	uint8_t emerg_n;
	uint8_t ports;
	uint8_t consoles; /* so many of them, from 0 */
	uint8_t cols_first; /* in RESIZE */
};

/* An output chain that is not all in its stream. */
struct output {
	struct vq_chain chain;
	uint64_t pos; /* of its first byte */
	bool held;
	bool placed; /* pos is noted */
};

struct context {
	struct virtio_context virtio;
	struct output out[PORTS];
};

static bool
multiport(struct device *dev)
{
	return virtio_has(dev, F_MULTIPORT);
}

static unsigned
rx_queue(unsigned port)
{
	return port == 0 ? 0 : 2 * port + 2;
}

/* Tells the lives of a queue apart. */
static uint64_t
epoch(struct device *dev, unsigned queue)
{
	struct console *s = device_state(dev);

	return s->virtio.queue_epoch[queue];
}

static void
intend(struct device *dev, struct intent *i, const struct vq *q, uint32_t what)
{
	i->epoch = epoch(dev, q->index);
	i->chain = q->nused;
	i->what = what;
	i->open = 1;
}

/* Close an intent; did it go out? */
static bool
intent_settle(struct device *dev, struct intent *i, const struct vq *q)
{
	bool done =
	    i->open && i->epoch == epoch(dev, q->index) && q->nused > i->chain;

	i->open = 0;
	return done;
}

/* ---- output ---- */

/*
 * Bytes written to the configuration go out between chains.  True: none is
 * left.
 */
static bool
emergency_put(struct device *dev)
{
	struct console *s = device_state(dev);
	uint64_t end;

	if (s->emerg_n == 0)
		return true;
	if (s->emerg_pos == NOWHERE) {
		s->emerg_pos = device_output_head(dev, 0);
		device_commit(dev);
		s = device_state(dev);
	}
	device_output(dev, 0, s->emerg_pos, s->emerg, s->emerg_n);
	end = s->emerg_pos + s->emerg_n;
	if (device_output_head(dev, 0) < end)
		return false;
	s->emerg_n = 0;
	return true;
}

static void
emergency_write(struct device *dev, uint8_t byte)
{
	struct console *s = device_state(dev);
	struct context *c = device_context(dev);
	uint64_t head = device_output_head(dev, 0);

	if (s->emerg_n > 0 && s->emerg_pos != NOWHERE &&
	    head >= s->emerg_pos + s->emerg_n)
		s->emerg_n = 0;
	if (s->emerg_n == 0)
		s->emerg_pos =
		    c->out[0].held && c->out[0].placed ? NOWHERE : head;
	if (s->emerg_n < EMERGE)
		s->emerg[s->emerg_n++] = byte;
	else
		device_count(dev, BYTES_LOST, 1);
}

/* True: all of the chain is in the stream. */
static bool
output_put(struct device *dev, unsigned port)
{
	struct output *o = &((struct context *)device_context(dev))->out[port];
	uint32_t left = MIN(o->chain.out_bytes, CHAIN_MAX);
	uint64_t pos = o->pos;

	for (unsigned i = 0; i < o->chain.nout && left > 0; i++) {
		size_t n = MIN(o->chain.iov[i].iov_len, left);

		if (device_output_head(dev, port) < pos + n)
			device_output(
			    dev, port, pos, o->chain.iov[i].iov_base, n);
		pos += n;
		left -= (uint32_t)n;
		if (device_output_head(dev, port) < pos)
			return false;
	}
	return true;
}

static void
output_take(struct device *dev, unsigned port)
{
	struct output *o = &((struct context *)device_context(dev))->out[port];

	o->held = true;
	/* The cookie is the position + 1; 0: it was not noted yet. */
	o->placed = o->chain.cookie > 0;
	if (o->placed)
		o->pos =
		    MIN(o->chain.cookie - 1, device_output_head(dev, port));
	if (o->chain.out_bytes > CHAIN_MAX)
		device_count(dev, BYTES_LOST, o->chain.out_bytes - CHAIN_MAX);
}

static void
output_run(struct device *dev, unsigned port)
{
	struct output *o = &((struct context *)device_context(dev))->out[port];
	unsigned index = rx_queue(port) + 1;
	struct vq *q = virtio_queue(dev, index);

	while (virtio_live(dev) && q) {
		if (!o->held) {
			if (!virtio_pop(dev, index, &o->chain))
				break;
			output_take(dev, port);
		}
		if (!o->placed) {
			if (port == 0 && !emergency_put(dev))
				return;
			o->pos = device_output_head(dev, port);
			vq_note(q, &o->chain, o->pos + 1);
			o->placed = true;
		}
		if (!output_put(dev, port))
			return;
		virtio_push(dev, index, &o->chain, 0);
		o->held = false;
	}
	if (port == 0 && !o->held)
		(void)emergency_put(dev);
}

/* ---- input ---- */

static void
input_settle(struct device *dev, unsigned port)
{
	struct port *p = &((struct console *)device_state(dev))->port[port];
	struct vq *q = virtio_queue(dev, rx_queue(port));

	if (q && intent_settle(dev, &p->rx, q))
		p->in_pos += p->rx.what;
}

static uint32_t
input_fill(struct device *dev, unsigned port, const struct vq_chain *c)
{
	struct port *p = &((struct console *)device_state(dev))->port[port];
	uint32_t n = 0;

	for (unsigned i = 0; i < c->nin; i++) {
		const struct iovec *v = &c->iov[c->nout + i];
		size_t got = device_input_peek(
		    dev, port, p->in_pos + n, v->iov_base, v->iov_len);

		n += (uint32_t)got;
		if (got < v->iov_len)
			break;
	}
	return n;
}

static struct port *
port_of(struct device *dev, unsigned port)
{
	return &((struct console *)device_state(dev))->port[port];
}

static void
input_run(struct device *dev, unsigned port)
{
	struct port *p = port_of(dev, port);
	unsigned index = rx_queue(port);
	struct vq *q = virtio_queue(dev, index);
	struct vq_chain c;
	uint8_t byte;
	uint32_t n;

	input_settle(dev, port);
	while (virtio_live(dev) && q && (p->opened || !multiport(dev))) {
		if (device_input_peek(dev, port, p->in_pos, &byte, 1) == 0 ||
		    !virtio_pop(dev, index, &c))
			return;
		n = input_fill(dev, port, &c);
		intend(dev, &p->rx, q, n);
		device_commit(dev);
		p = port_of(dev, port);
		virtio_push(dev, index, &c, n);
		p->in_pos += n;
		p->rx.open = 0;
	}
}

/* ---- control messages ---- */

/* What is sent first when several wait. */
static const uint8_t order[] = { PORT_ADD, CONSOLE_PORT, RESIZE, PORT_NAME,
	PORT_OPEN };

static bool
next_message(const struct console *s, unsigned *port, unsigned *event)
{
	for (unsigned i = 0; i < s->ports; i++)
		for (unsigned k = 0; k < ARRAY_LEN(order); k++)
			if (s->port[i].pending & 1u << order[k]) {
				*port = i;
				*event = order[k];
				return true;
			}
	return false;
}

static void
control_settle(struct device *dev)
{
	struct console *s = device_state(dev);
	struct vq *q = virtio_queue(dev, CTL_RX);
	uint32_t what = s->control.what;

	if (q && intent_settle(dev, &s->control, q))
		s->port[what >> 8].pending &= (uint8_t) ~(1u << (what & 7));
}

static uint32_t
message_fill(const struct console *s, unsigned port, unsigned event,
    const struct vq_chain *c)
{
	const struct port *p = &s->port[port];
	struct control m = { port, (uint16_t)event, 1 };
	const uint16_t size[] = { s->cols_first ? p->cols : p->rows,
		s->cols_first ? p->rows : p->cols };
	size_t n = vq_write(c, 0, &m, sizeof(m));

	if (event == RESIZE)
		n += vq_write(c, n, size, sizeof(size));
	else if (event == PORT_NAME)
		n += vq_write(c, n, p->name, strlen(p->name));
	return (uint32_t)n;
}

static void
control_send(struct device *dev)
{
	struct console *s = device_state(dev);
	struct vq *q = virtio_queue(dev, CTL_RX);
	unsigned port, event;
	struct vq_chain c;
	uint32_t n;

	control_settle(dev);
	while (virtio_live(dev) && q && multiport(dev) &&
	    next_message(s, &port, &event) && virtio_pop(dev, CTL_RX, &c)) {
		n = message_fill(s, port, event, &c);
		intend(dev, &s->control, q, port << 8 | event);
		device_commit(dev);
		s = device_state(dev);
		virtio_push(dev, CTL_RX, &c, n);
		s->control.open = 0;
		s->port[port].pending &= (uint8_t) ~(1u << event);
		device_count(dev, CONTROL_OUT, 1);
	}
}

static bool
control_do(struct console *s, const struct control *m)
{
	struct port *p;
	unsigned bits;

	if (m->event == DEVICE_READY) {
		for (unsigned i = 0; i < s->ports; i++)
			s->port[i].pending = m->value ? 1u << PORT_ADD : 0;
		return true;
	}
	if (m->id >= s->ports)
		return false;
	p = &s->port[m->id];
	switch (m->event) {
	case PORT_READY:
		/* value 0: the driver could not set it up. */
		if (!m->value)
			return true;
		bits = 1u << PORT_OPEN;
		if (m->id < s->consoles)
			bits |= 1u << CONSOLE_PORT;
		if (m->id < s->consoles && p->cols)
			bits |= 1u << RESIZE;
		if (p->name[0])
			bits |= 1u << PORT_NAME;
		p->pending |= (uint8_t)bits;
		return true;
	case PORT_OPEN:
		p->opened = m->value != 0;
		return true;
	default:
		return false;
	}
}

static void
control_take(struct device *dev)
{
	struct console *s = device_state(dev);
	struct vq *q = virtio_queue(dev, CTL_TX);
	struct vq_chain c;
	struct control m;

	while (virtio_live(dev) && q && virtio_pop(dev, CTL_TX, &c)) {
		/* Chains are used in order: this one's number is their count.
		 */
		if (s->controls_epoch != epoch(dev, CTL_TX))
			s->controls_done = 0;
		s->controls_epoch = epoch(dev, CTL_TX);
		if (q->nused >= s->controls_done) {
			device_count(dev, CONTROL_IN, 1);
			if (vq_read(&c, 0, &m, sizeof(m)) != sizeof(m) ||
			    !multiport(dev) || !control_do(s, &m))
				device_count(dev, CONTROL_BAD, 1);
			s->controls_done = q->nused + 1;
			device_commit(dev);
			s = device_state(dev);
		}
		virtio_push(dev, CTL_TX, &c, 0);
	}
}

/* ---- the class ---- */

static void
console_queue(struct device *dev, unsigned index)
{
	struct console *s = device_state(dev);
	unsigned port = index < 2 ? 0 : index / 2 - 1;

	if (index == CTL_TX)
		control_take(dev);
	if (index == CTL_TX || index == CTL_RX) {
		control_send(dev);
		/* A port may just have been opened. */
		for (unsigned i = 0; i < s->ports; i++)
			input_run(dev, i);
	} else if (port < s->ports && index % 2) {
		output_run(dev, port);
	} else if (port < s->ports) {
		input_run(dev, port);
	}
}

static void
console_quiesce(struct device *dev, unsigned index)
{
	struct context *c = device_context(dev);
	unsigned port = index < 2 ? 0 : index / 2 - 1;

	if (index == CTL_RX)
		control_settle(dev);
	else if (index != CTL_TX && index % 2)
		c->out[port].held = false;
	else if (index != CTL_TX)
		input_settle(dev, port);
}

static void
console_stream(struct device *dev, unsigned port, uint64_t now_ns UNUSED)
{
	struct console *s = device_state(dev);

	if (port >= s->ports)
		return;
	output_run(dev, port);
	input_run(dev, port);
}

static void
console_resize(
    struct device *dev, unsigned port, uint16_t columns, uint16_t rows)
{
	struct console *s = device_state(dev);
	struct port *p = &s->port[port];

	if (p->cols == columns && p->rows == rows)
		return;
	p->cols = columns;
	p->rows = rows;
	if (port == 0 && !multiport(dev))
		virtio_config_changed(dev);
	/* One that is not set up yet hears of it when it is. */
	if (port < s->consoles && multiport(dev) && p->opened) {
		p->pending |= 1u << RESIZE;
		control_send(dev);
	}
}

static void
console_reset(struct device *dev)
{
	struct console *s = device_state(dev);

	s->ports = 1;
	s->consoles = 1;
	s->emerg_pos = NOWHERE;
	for (unsigned i = 0; i < PORTS; i++)
		s->port[i].in_pos = device_input_start(dev, i);
}

static void
console_driver_reset(struct device *dev)
{
	struct console *s = device_state(dev);

	for (unsigned i = 0; i < PORTS; i++) {
		s->port[i].pending = 0;
		s->port[i].opened = 0;
	}
}

static bool
intent_valid(const struct intent *i, uint32_t max)
{
	return i->open <= 1 && i->what <= max;
}

static bool
console_valid(const void *state)
{
	const struct console *s = state;

	if (s->ports < 1 || s->ports > PORTS || s->consoles > s->ports ||
	    s->emerg_n > EMERGE ||
	    !intent_valid(&s->control, (PORTS - 1) << 8 | 7))
		return false;
	for (unsigned i = 0; i < PORTS; i++)
		if (!memchr(s->port[i].name, '\0', NAME) ||
		    !intent_valid(&s->port[i].rx, UINT32_MAX))
			return false;
	return true;
}

static bool
digit(const char *val, unsigned min, unsigned max, uint8_t *out)
{
	unsigned n = (unsigned)val[0] - '0';

	if (n < min || n > max || val[1] != '\0')
		return false;
	*out = (uint8_t)n;
	return true;
}

static int
console_configure(struct device *dev, const char *key, const char *val)
{
	struct console *s = device_state(dev);
	struct port *p;

	if (strcmp(key, "ports") == 0)
		return digit(val, 1, PORTS, &s->ports) &&
			s->consoles <= s->ports
		    ? 0
		    : -EINVAL;
	if (strcmp(key, "consoles") == 0)
		return digit(val, 0, s->ports, &s->consoles) ? 0 : -EINVAL;
	if (strcmp(key, "resize") == 0) {
		s->cols_first = strcmp(val, "cols-first") == 0;
		return s->cols_first || strcmp(val, "rows-first") == 0
		    ? 0
		    : -EINVAL;
	}
	if (strncmp(key, "name", 4) != 0 || key[4] < '0' ||
	    key[4] >= '0' + (int)PORTS || key[5] != '\0')
		return -ENOENT;
	p = &s->port[key[4] - '0'];
	if (val[0] == '\0' || strlen(val) >= NAME)
		return -EINVAL;
	snprintf(p->name, sizeof(p->name), "%s", val);
	return 0;
}

/* A lone port without a name needs no messages, and its size is then told by
 * the configuration, on whose order of fields all agree. */
static uint64_t
console_offered(struct device *dev)
{
	const struct console *s = device_state(dev);
	bool many = s->ports > 1 || s->consoles == 0 || s->port[0].name[0];

	return F_SIZE | F_EMERG_WRITE | (many ? F_MULTIPORT : 0);
}

static void
console_config_read(struct device *dev, void *config)
{
	const struct console *s = device_state(dev);
	struct config *c = config;

	c->cols = s->port[0].cols;
	c->rows = s->port[0].rows;
	c->max_nr_ports = s->ports;
	c->emerg_wr = 0;
}

static void
console_config_write(
    struct device *dev, unsigned offset, unsigned n UNUSED, uint64_t value)
{
	if (offset == CONFIG_EMERG_WR)
		emergency_write(dev, (uint8_t)value);
}

static void
console_settle(struct device *dev)
{
	const struct console *s = device_state(dev);

	for (unsigned i = 0; i < PORTS; i++)
		device_input_consume(dev, i, s->port[i].in_pos);
	if (s->emerg_n > 0 && s->emerg_pos != NOWHERE)
		device_output(dev, 0, s->emerg_pos, s->emerg, s->emerg_n);
}

static const struct virtio_class class = {
	.id = 3,
	.pci_class = 0x078000, /* communication controller, other */
	.queues = QUEUES,
	.features = F_SIZE | F_MULTIPORT | F_EMERG_WRITE,
	.offered = console_offered,
	.config_size = sizeof(struct config),
	.in_order = true,
	.reset = console_reset,
	.valid = console_valid,
	.configure = console_configure,
	.config_read = console_config_read,
	.config_write = console_config_write,
	.driver_reset = console_driver_reset,
	.queue = console_queue,
	.quiesce = console_quiesce,
	.stream = console_stream,
	.resize = console_resize,
	.settle = console_settle,
};

static const char *const streams[] = { "port0", "port1", "port2", "port3" };
static const char *const counters[] = { "control_in", "control_out",
	"control_bad", "bytes_lost" };
static const struct device_option options[] = {
	VIRTIO_OPTIONS,
	{ "ports", "number of ports, 1 to 4 (1)" },
	{ "consoles", "how many of them, from port 0, are consoles (1)" },
	{ "name0", "name of port 0" },
	{ "name1", "name of port 1" },
	{ "name2", "name of port 2" },
	{ "name3", "name of port 3" },
	{ "resize",
	    "sizes in messages: rows-first, as Linux before 6.15 reads them, "
	    "or cols-first, as specified (rows-first)" },
};

static const struct device_type virtio_console = {
	VIRTIO_DEVICE_TYPE(class, QUEUES, struct console, struct context),
	.name = "virtio-console",
	.title = "virtio console with up to four ports",
	.state_version = 1,
	.log_size = VIRTIO_LOG_SIZE(QUEUES),
	.streams = streams,
	.nstreams = ARRAY_LEN(streams),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.options = options,
	.noptions = ARRAY_LEN(options),
};
DEVTYPE_REGISTER(virtio_console);
