/* Scenarios: vsock.  The relay is played: its words and streams are set. */
#include <sys/socket.h>

#include "devices/vsock/vsock.h"
#include "tests/prove/prove.h"

#define RXQ	0u
#define TXQ	1u
#define CID	3u
#define GUEST	2000u
#define PORT	1024u
#define BUFFER	300u
#define BUFFERS 6u
#define PACKED	(VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX)

static void
want_relay(struct prover *p, struct harness_want *want)
{
	int pair[2];
	void *map;

	BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		   0, pair) < 0);
	want->file[0] = harness_memory(RELAY_SIZE, &map);
	want->file[1] = pair[0];
	p->relay = map;
}

static void
put_packet(struct prover *p, unsigned op, uint32_t flags, const char *data)
{
	const uint32_t n = (uint32_t)strlen(data);
	const struct vsock_header h = {
		.src_cid = CID,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = GUEST,
		.dst_port = p->at[1] ? (uint32_t)p->at[1] : PORT,
		.len = n,
		.type = VSOCK_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = 4096,
	};
	uint64_t gpa = driver_alloc(&p->d, 4096);
	const struct driver_seg s[] = { { gpa, sizeof(h), false },
		{ gpa + sizeof(h), n, false } };

	memcpy(harness_ram(&p->h, gpa, sizeof(h)), &h, sizeof(h));
	memcpy(harness_ram(&p->h, gpa + sizeof(h), n), data, n);
	BUG_ON(driver_put(&p->d, TXQ, s, n > 0 ? 2 : 1) == DRIVER_NONE);
}

static void
give_buffers(struct prover *p)
{
	for (unsigned i = 0; i < BUFFERS; i++) {
		uint64_t gpa = driver_alloc(&p->d, BUFFER);
		const struct driver_seg s[] = {
			{ gpa, sizeof(struct vsock_header), true },
			{ gpa + sizeof(struct vsock_header),
			    BUFFER - sizeof(struct vsock_header), true },
		};

		BUG_ON(driver_put(&p->d, RXQ, s, 2) == DRIVER_NONE);
	}
}

static struct relay_slot *
slot(struct prover *p)
{
	return &p->relay->slot[p->at[0]];
}

static void
tell(struct prover *p, unsigned flags)
{
	slot(p)->relay = relay_word(relay_generation(slot(p)->device), flags);
}

/* The first request that it sees asks for the relay's wake-up. */
static void
arm(struct prover *p)
{
	wake_arm(&p->relay->relay_armed);
}

static void
call(struct prover *p)
{
	put_packet(p, VSOCK_REQUEST, 0, "");
	arm(p);
}

static bool
slot_is_live(struct prover *p)
{
	return (relay_flags(p->relay->slot[0].device) & RELAY_LIVE) != 0;
}

static void
prepare_called(struct prover *p)
{
	give_buffers(p);
	put_packet(p, VSOCK_REQUEST, 0, "");
	harness_ring(&p->h, TXQ);
	harness_run(&p->h);
	BUG_ON(!slot_is_live(p));
}

static void
accept_call(struct prover *p)
{
	stream_release(&slot(p)->to_host, stream_attach(&slot(p)->to_host));
	tell(p, RELAY_LIVE | RELAY_ACCEPTED);
	arm(p);
}

static void
refuse_call(struct prover *p)
{
	tell(p, 0);
	arm(p);
}

static void
prepare_connected(struct prover *p)
{
	prepare_called(p);
	accept_call(p);
	harness_ring(&p->h, TXQ);
	harness_run(&p->h);
}

static void
send_data(struct prover *p)
{
	put_packet(p, VSOCK_RW, 0, "hello, ");
	put_packet(p, VSOCK_RW, 0, "host");
	arm(p);
}

static bool
data_is_out(struct prover *p)
{
	const struct stream *s = &slot(p)->to_host;

	return s->head == 11 && memcmp(s->data, "hello, host", 11) == 0;
}

static void
receive_data(struct prover *p)
{
	struct stream *s = &slot(p)->to_guest;
	char text[400];
	uint64_t head = stream_head(s);

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	BUG_ON(stream_put(s, head, text, sizeof(text), &head) != 0);
	arm(p);
}

static bool
data_is_in(struct prover *p)
{
	return slot(p)->to_guest.tail == 400;
}

static void
shut_down(struct prover *p)
{
	put_packet(p, VSOCK_RW, 0, "bye");
	put_packet(p, VSOCK_SHUTDOWN, VSOCK_SHUTDOWN_BOTH, "");
	arm(p);
}

static void
hang_up(struct prover *p)
{
	tell(p, 0);
	arm(p);
}

static void
close_half(struct prover *p)
{
	tell(p, RELAY_LIVE | RELAY_ACCEPTED | RELAY_NO_MORE);
	arm(p);
}

static void
send_to_nobody(struct prover *p)
{
	put_packet(p, VSOCK_RW, 0, "is anybody there?");
	put_packet(p, VSOCK_CREDIT_REQUEST, 0, "");
	arm(p);
}

static void
prepare_buffers(struct prover *p)
{
	give_buffers(p);
}

static bool
was_reset(struct prover *p)
{
	return track_outcome(p)->used[RXQ] > 0;
}

/* The host calls. */
static void
be_called(struct prover *p)
{
	p->at[0] = RELAY_HOST_SLOTS;
	slot(p)->guest_port = GUEST;
	slot(p)->relay =
	    relay_word(relay_generation(slot(p)->relay) + 1, RELAY_LIVE);
	arm(p);
}

static void
prepare_be_called(struct prover *p)
{
	struct vsock_header h;
	uint64_t gpa = p->d.next_gpa;

	give_buffers(p);
	be_called(p);
	harness_ring(&p->h, TXQ);
	harness_run(&p->h);
	memcpy(&h, harness_ram(&p->h, gpa, sizeof(h)), sizeof(h));
	BUG_ON(h.op != VSOCK_REQUEST);
	p->at[1] = h.src_port;
}

static void
answer_call(struct prover *p)
{
	put_packet(p, VSOCK_RESPONSE, 0, "");
	arm(p);
}

#define VSOCK(text, before, fn, check)                                \
	{ .device = "virtio-vsock",                                   \
		.name = text,                                         \
		.features = VIRTIO_F_EVENT_IDX,                       \
		.driver = true,                                       \
		.in_order = true,                                     \
		.want = want_relay,                                   \
		.prepare = before,                                    \
		.request = fn,                                        \
		.right = check },                                     \
	{                                                             \
		.device = "virtio-vsock", .name = text ", packed",    \
		.features = PACKED, .driver = true, .in_order = true, \
		.want = want_relay, .prepare = before, .request = fn, \
		.right = check                                        \
	}

static const struct scenario vsock[] = {
	VSOCK("call", prepare_buffers, call, slot_is_live),
	VSOCK("call accepted", prepare_called, accept_call, NULL),
	VSOCK("call refused", prepare_called, refuse_call, was_reset),
	VSOCK("data out", prepare_connected, send_data, data_is_out),
	VSOCK("data in", prepare_connected, receive_data, data_is_in),
	VSOCK("shutdown", prepare_connected, shut_down, NULL),
	VSOCK("host hangs up", prepare_connected, hang_up, was_reset),
	VSOCK("host says no more", prepare_connected, close_half, NULL),
	VSOCK("packets to nobody", prepare_buffers, send_to_nobody, was_reset),
	VSOCK("host calls", prepare_buffers, be_called, was_reset),
	VSOCK("host's call answered", prepare_be_called, answer_call, NULL),
};
SCENARIOS_REGISTER(vsock);
