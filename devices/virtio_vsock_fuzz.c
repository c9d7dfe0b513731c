/*
 * The vsock device between a hostile driver and a hostile relay.
 *
 * First byte: the kind of ring.  Then steps of a kind byte and its operands:
 * packets, buffers, words and positions of the relay's, deaths.
 */
#include <sys/socket.h>

#include "devices/vsock/vsock.h"
#include "tests/driver.h"

#define STEPS_MAX 200u
#define BUFFERS	  0x200000u /* guest RAM that chains may point at */
#define SPAN	  0x8000u

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

static struct relay *
fresh(struct harness *h, struct driver *d, uint64_t features)
{
	static struct relay *relay;
	static int link[2];
	const struct device_type *t = device_type_find("virtio-vsock");
	const struct store_shape shape = harness_shape(t, 1);

	if (h->nfds == 0) {
		struct harness_want want = { .vcpus = 1 };
		void *map;

		want.file[0] = harness_memory(RELAY_SIZE, &map);
		relay = map;
		BUG_ON(socketpair(AF_UNIX,
			   SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			   link) < 0);
		want.file[1] = link[0];
		harness_make_want(h, t, &want);
	}
	memset(h->store, 0, h->store_size);
	BUG_ON(store_format(h->store, h->store_size, &shape) != 0);
	for (unsigned i = 0; i < RELAY_SLOTS; i++) {
		struct relay_slot *s = &relay->slot[i];

		s->device = s->relay = 0;
		s->to_host.head = s->to_host.tail = 0;
		s->to_guest.head = s->to_guest.tail = 0;
	}
	BUG_ON(harness_start(h, t) != 0);
	driver_open_sized(d, h, features, 16);
	return relay;
}

/* What the end of a process would do: the device maps the relay's memory, first
 * in its context after what is every virtio device's. */
static void
unmap(struct harness *h)
{
	void *relay;

	memcpy(&relay, (uint8_t *)h->context + sizeof(struct virtio_context),
	    sizeof(relay));
	munmap(relay, RELAY_SIZE);
}

static void
put_packet(struct driver *d, struct input *in, unsigned kind)
{
	struct vsock_header header = {
		.src_cid = 3,
		.dst_cid = 2,
		.src_port = (uint32_t)take(in, 1) % 8,
		.dst_port = (uint32_t)take(in, 1) % 4,
		.type = 1,
		.op = (uint16_t)(take(in, 1) % 9),
		.flags = (uint32_t)take(in, 1),
		.buf_alloc = (uint32_t)take(in, 2) << (kind >> 5),
		.fwd_cnt = (uint32_t)take(in, 1),
	};
	struct driver_seg seg[] = { { BUFFERS, sizeof(header), false },
		{ BUFFERS + 64, 1 + (uint32_t)take(in, 2) % SPAN, false } };
	uint16_t id;
	uint32_t len;

	if (header.dst_port == 3)
		header.dst_port = 0x40000000u + (uint32_t)take(in, 1) % 4;
	header.len = kind & 8 ? seg[1].len : (uint32_t)take(in, 2);
	if (kind & 16)
		((uint8_t *)&header)[take(in, 1) % sizeof(header)] =
		    (uint8_t)take(in, 1);
	while (driver_take(d, 1, &id, &len))
		;
	memcpy(driver_at(d, BUFFERS), &header, sizeof(header));
	if (driver_put(d, 1, seg, kind & 8 || header.op == VSOCK_RW ? 2 : 1) !=
	    DRIVER_NONE)
		driver_kick(d, 1);
}

static void
post_buffer(struct driver *d, struct input *in)
{
	struct driver_seg seg = { BUFFERS + SPAN * 2,
		1 + (uint32_t)take(in, 1) * 8, true };
	uint16_t id;
	uint32_t len;

	while (driver_take(d, 0, &id, &len))
		;
	if (driver_put(d, 0, &seg, 1) != DRIVER_NONE)
		driver_kick(d, 0);
}

/* What a relay may do, and what it may not. */
static void
relay_step(struct relay *r, struct input *in, unsigned kind)
{
	unsigned slot = (unsigned)take(in, 1) % 4;
	struct relay_slot *s = &r->slot[kind & 8 ? slot : 32 + slot];
	uint64_t head;

	switch (kind >> 4 & 7) {
	case 0:
		atomic_store(&s->relay,
		    relay_word(
			(uint32_t)take(in, 1) % 4, (unsigned)take(in, 1)));
		break;
	case 1: /* accept what the device began */
		atomic_store(&s->relay,
		    relay_word(relay_generation(s->device),
			RELAY_LIVE | RELAY_ACCEPTED));
		break;
	case 2:
		atomic_store(&s->guest_port, (uint32_t)take(in, 1) % 8);
		atomic_store(&s->relay,
		    relay_word(relay_generation(s->device) + 1, RELAY_LIVE));
		break;
	case 3:
		head = stream_head(&s->to_guest);
		(void)stream_put(&s->to_guest, head, r, take(in, 2), &head);
		break;
	case 4:
		stream_release(&s->to_host, stream_head(&s->to_host));
		break;
	case 5:
		stream_release(&s->to_host, take(in, 8));
		break;
	case 6:
		atomic_store(&s->to_guest.head, take(in, 8));
		break;
	default:
		atomic_store(&s->to_host.attached, kind >> 7);
		break;
	}
}

static void
step(struct harness *h, struct driver *d, struct relay *r, struct input *in)
{
	unsigned kind = (unsigned)take(in, 1);

	switch (kind & 7) {
	case 0:
		unmap(h);
		harness_restart(h);
		break;
	case 1:
		h->dev.type->ops->timer(&h->dev, take(in, 1) << (kind >> 3));
		break;
	case 2:
	case 3:
		post_buffer(d, in);
		break;
	case 4:
	case 5:
		relay_step(r, in, kind);
		engine_ready(&h->dev, device_file(&h->dev, 1), EPOLLIN);
		break;
	default:
		put_packet(d, in, kind);
		break;
	}
	harness_run(h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct harness h;
	struct input in = { data, size };
	struct driver d;
	struct relay *r = fresh(&h, &d,
	    take(&in, 1) & 1 ? VIRTIO_F_RING_PACKED : VIRTIO_F_EVENT_IDX);

	for (unsigned n = 0; in.left > 0 && n < STEPS_MAX; n++)
		step(&h, &d, r, &in);
	unmap(&h);
	harness_stop(&h);
	return 0;
}
