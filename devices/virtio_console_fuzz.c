/*
 * The console under a hostile driver: control messages, output, buffers for
 * input, sizes and deaths in any order.
 *
 * First byte: features and the kind of ring.  Then steps of a kind byte and its
 * operands.
 */
#include "tests/driver.h"

#define STEPS_MAX 200u
#define QUEUES	  10u
#define BUFFERS	  0x200000u /* guest RAM that chains may point at */
#define SPAN	  0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

static uint64_t
take(struct input *in, size_t n)
{
	uint64_t value = 0;

	while (n-- > 0 && in->left > 0) {
		value = value << 8 | *in->at++;
		in->left--;
	}
	return value;
}

static int
set_options(struct device *dev, void *ctx UNUSED)
{
	int rc = dev->type->ops->configure(dev, "ports", "4");

	return rc < 0 ? rc : dev->type->ops->configure(dev, "name1", "fuzz");
}

/* Power-on memory, made once: memfds are dear. */
static void
fresh(struct harness *h, struct driver *d, uint64_t features)
{
	const struct device_type *t = device_type_find("virtio-console");
	const struct store_shape shape = harness_shape(t, 1);

	if (h->nfds == 0)
		harness_make(h, t, 1);
	memset(h->store, 0, h->store_size);
	BUG_ON(store_format(h->store, h->store_size, &shape) != 0);
	harness_prepare(h, t);
	BUG_ON(engine_attach(&h->dev, t, &h->config) != 0);
	for (unsigned i = 0; i < t->nstreams; i++) {
		memset(h->dev.stream[i].in, 0, sizeof(struct stream));
		memset(h->dev.stream[i].out, 0, sizeof(struct stream));
	}
	BUG_ON(engine_start(&h->dev, set_options, NULL) != 0);
	driver_open(d, h, features);
}

/* A chain of up to four segments of anything. */
static void
put(struct driver *d, struct input *in)
{
	unsigned queue = (unsigned)take(in, 1) % QUEUES;
	unsigned n = (unsigned)take(in, 1), nout = n >> 2 & 3;
	struct driver_seg seg[4];
	uint16_t id;
	uint32_t len;

	n = n % 4 + 1;
	while (driver_take(d, queue, &id, &len))
		;
	for (unsigned i = 0; i < n; i++) {
		seg[i].gpa = BUFFERS + (take(in, 2) % SPAN);
		seg[i].len = (uint32_t)take(in, 1) + 1;
		seg[i].in = i >= nout;
		for (unsigned k = 0; k < seg[i].len && k < 8 && !seg[i].in; k++)
			*(uint8_t *)driver_at(d, seg[i].gpa + k) =
			    (uint8_t)take(in, 1);
	}
	if (driver_put(d, queue, seg, n) != DRIVER_NONE)
		driver_kick(d, queue);
}

static void
step(struct harness *h, struct driver *d, struct input *in)
{
	unsigned kind = (unsigned)take(in, 1), port = kind >> 4 & 3;
	struct engine_stream *s = &h->dev.stream[port];
	uint64_t head;

	switch (kind & 7) {
	case 0:
		harness_restart(h);
		break;
	case 1:
		head = stream_head(s->in);
		BUG_ON(stream_put(s->in, head, "fuzzing", 1 + take(in, 1) % 7,
			   &head) != 0);
		engine_stream(&h->dev, port);
		break;
	case 2: /* a reader that leaves so much room */
		atomic_store(&s->out->attached, kind >> 3 & 1);
		stream_release(
		    s->out, stream_head(s->out) - STREAM_BYTES + take(in, 1));
		engine_stream(&h->dev, port);
		break;
	case 3:
		h->dev.type->ops->resize(&h->dev, port, (uint16_t)take(in, 1),
		    (uint16_t)take(in, 1));
		break;
	case 4:
		driver_write(d, VIRTIO_REGION_REGISTERS,
		    0x2000 + take(in, 1) % 16, 1u << (kind >> 6), take(in, 1));
		break;
	default:
		put(d, in);
		break;
	}
	harness_run(h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct harness h;
	struct input in = { data, size };
	uint64_t kind = take(&in, 1);
	struct driver d;

	fresh(&h, &d,
	    (kind & 7) | (kind & 8 ? VIRTIO_F_RING_PACKED : 0) |
		(kind & 16 ? VIRTIO_F_EVENT_IDX : 0));
	for (unsigned n = 0; in.left > 0 && n < STEPS_MAX; n++)
		step(&h, &d, &in);
	harness_stop(&h);
	return 0;
}
