/*
 * Every device type under a hostile guest and a hostile peer: accesses, input,
 * doorbells, guest RAM, packets, timers, button and deaths in any order.
 *
 * First byte: the type.  Then steps of a kind byte and its operands.
 */
/* A file that is always ready would take all of them. */
#define HARNESS_TURNS_MAX 1000u
#include "devhost/harness.h"

#define TYPES_MAX 64u
#define STEPS_MAX 512u
#define RAM	  (64u << 10) /* below 4 GiB, and as much from there on */

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

/* Power-on memory, made once per type: memfds are dear.  NULL: no device. */
static struct harness *
fresh(unsigned index)
{
	static struct harness made[TYPES_MAX];
	const struct device_type *t = __start_devtypes[index];
	const struct store_shape shape = harness_shape(t, 1);
	const struct harness_want want = { .ram_low = RAM, .ram_high = RAM };
	struct harness *h = &made[index];

	/* Processes at the end of a link have no guest. */
	if (t->placements[0].nregions == 0)
		return NULL;
	if (h->nfds == 0)
		harness_make_want(h, t, &want);
	memset(h->store, 0, h->store_size);
	BUG_ON(store_format(h->store, h->store_size, &shape) != 0);
	if (h->ram)
		memset(h->ram, 0, 2 * RAM);
	for (unsigned i = 0; i < t->nlinks; i++)
		for (unsigned n = 0; n < 2; n++) {
			h->link[i]->ring[n].head = 0;
			h->link[i]->ring[n].tail = 0;
		}
	if (h->out)
		memset(h->out, 0, sizeof(*h->out));
	if (h->in)
		memset(h->in, 0, sizeof(*h->in));
	h->now_ns = 1000000000;
	BUG_ON(harness_start(h, t) != 0);
	return h;
}

/* The peer of a link puts a frame, whatever its length says, and takes all. */
static void
exchange_packet(struct harness *h, struct input *in)
{
	struct packet_ring *to = h->link_to[0], *from = h->link_from[0];
	struct packet_slot *slot = &to->slot[to->head % PACKET_SLOTS];

	slot->length = (uint32_t)take(in, 2);
	for (unsigned i = 0; i < 64; i++)
		slot->data[i] = (uint8_t)take(in, 1);
	to->head++;
	from->tail = from->head;
}

/* What is done beside registers. */
static void
work(struct harness *h, struct input *in, unsigned kind)
{
	const struct device_type *t = h->dev.type;
	uint64_t at, n;

	switch (kind) {
	case 0:
		if (h->link[0])
			exchange_packet(h, in);
		break;
	case 1:
	case 2:
		/* Bytes of guest RAM: rings, descriptors, requests. */
		if (!h->ram)
			break;
		at = take(in, 3) % (2 * RAM - 256);
		n = take(in, 1);
		for (uint64_t i = 0; i < n; i++)
			h->ram[at + i] = (uint8_t)take(in, 1);
		break;
	default:
		if (t->doorbells.count > 0)
			harness_ring(
			    h, (unsigned)take(in, 1) % t->doorbells.count);
		break;
	}
	harness_run(h);
}

static void
step(struct harness *h, struct input *in)
{
	unsigned kind = (unsigned)take(in, 1);
	unsigned region = (kind >> 3) % h->config.placement.nregions;
	uint64_t span = h->config.placement.regions[region].size;
	unsigned width = 1u << (kind >> 6 & 3);
	uint64_t addr;

	switch (kind & 7) {
	case 0:
		h->now_ns += take(in, 4) << (kind >> 3);
		break;
	case 1:
		if (h->in)
			harness_type(h, "fuzz");
		break;
	case 2:
		harness_restart(h);
		break;
	case 3:
		engine_power_button(&h->dev);
		engine_timer(&h->dev);
		break;
	case 4:
		if (!h->out)
			break;
		/* A reader that leaves so much room. */
		h->out->attached = kind >> 3 & 1;
		h->out->tail = stream_head(h->out) - STREAM_BYTES + take(in, 1);
		engine_stream(&h->dev, 0);
		break;
	case 5:
		addr = take(in, span > 256 ? 2 : 1) % span;
		harness_access(h, RING_READ, region, addr, width, 0);
		break;
	case 7:
		if (h->ram || h->link[0]) {
			work(h, in, kind >> 3 & 3);
			break;
		}
		__attribute__((fallthrough));
	default:
		addr = take(in, span > 256 ? 2 : 1) % span;
		harness_access(
		    h, RING_WRITE, region, addr, width, take(in, width));
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct harness *h;
	unsigned types = 0;

	DEVTYPE_FOREACH (t)
		types++;
	BUG_ON(types == 0 || types > TYPES_MAX);
	h = fresh((unsigned)take(&in, 1) % types);
	if (!h)
		return 0;
	for (unsigned n = 0; in.left > 0 && n < STEPS_MAX; n++)
		step(h, &in);
	BUG_ON(h->dev.error != 0);
	harness_stop(h);
	return 0;
}
