/* Scenarios: entropy, network, console, balloon. */
#include "devices/net/nic.h"
#include "tests/prove/prove.h"

#define SPLIT	     VIRTIO_F_EVENT_IDX
#define SPLIT_PLAIN  0
#define PACKED	     (VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX)
#define PACKED_PLAIN VIRTIO_F_RING_PACKED

static uint64_t
put_bytes(struct prover *p, unsigned queue, const void *bytes, uint32_t n)
{
	uint64_t gpa = driver_alloc(&p->d, n);
	const struct driver_seg s[] = { { gpa, n / 2, false },
		{ gpa + n / 2, n - n / 2, false } };

	memcpy(harness_ram(&p->h, gpa, n), bytes, n);
	BUG_ON(driver_put(&p->d, queue, s, 2) == DRIVER_NONE);
	return gpa;
}

static uint64_t
put_buffer(struct prover *p, unsigned queue, uint32_t n)
{
	uint64_t gpa = driver_alloc(&p->d, n);
	const struct driver_seg s = { gpa, n, true };

	BUG_ON(driver_put(&p->d, queue, &s, 1) == DRIVER_NONE);
	return gpa;
}

static bool
holds(struct prover *p, uint64_t gpa, const void *bytes, size_t n)
{
	return memcmp(harness_ram(&p->h, gpa, n), bytes, n) == 0;
}

/* ---- entropy ---- */

static void
ask_entropy(struct prover *p)
{
	p->at[0] = put_buffer(p, 0, 16);
	put_buffer(p, 0, 24);
	put_buffer(p, 0, 8);
}

static bool
entropy_came(struct prover *p)
{
	static const uint8_t want[] = { 0x5a, 0x5a, 0x5a, 0x5a };

	return holds(p, p->at[0] + 12, want, 4) &&
	    track_outcome(p)->used[0] == 3;
}

#define ENTROPY(text, f)                                                      \
	{                                                                     \
		.device = "virtio-rng", .name = text, .features = f,          \
		.driver = true, .request = ask_entropy, .right = entropy_came \
	}

static const struct scenario entropy[] = {
	ENTROPY("requests", SPLIT),
	ENTROPY("requests, no event index", SPLIT_PLAIN),
	ENTROPY("requests, packed", PACKED),
	ENTROPY("requests, packed, no event index", PACKED_PLAIN),
};
SCENARIOS_REGISTER(entropy);

/* ---- network ---- */

#define FRAME  60u
#define RXQ    0u
#define TXQ    1u
#define CTL    2u
#define FRAMES 3u

static void
make_frame(uint8_t *f, unsigned mark)
{
	static const uint8_t head[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2,
		0x88, 0xb5 };

	memset(f, 0, FRAME_HEADER);
	f += FRAME_HEADER;
	for (unsigned i = 0; i < FRAME; i++)
		f[i] = (uint8_t)(mark * 31 + i * 7);
	memcpy(f, head, sizeof(head));
}

static void
send_frames(struct prover *p)
{
	uint8_t f[FRAME_HEADER + FRAME];

	for (unsigned i = 0; i < FRAMES; i++) {
		make_frame(f, i);
		put_bytes(p, TXQ, f, sizeof(f));
	}
}

static bool
frames_went(struct prover *p)
{
	return p->h.link_from[0]->head == FRAMES;
}

static void
arrive_frames(struct prover *p)
{
	uint8_t f[FRAME_HEADER + FRAME];
	const struct iovec v = { f, sizeof(f) };

	for (unsigned i = 0; i < FRAMES; i++) {
		make_frame(f, i);
		BUG_ON(packet_put(p->h.link_to[0], &v, 1) != 0);
	}
}

static void
receive_frames(struct prover *p)
{
	for (unsigned i = 0; i < FRAMES + 1; i++)
		put_buffer(p, RXQ, 128);
	arrive_frames(p);
}

/* Frames that need two buffers each. */
static void
receive_merged(struct prover *p)
{
	for (unsigned i = 0; i < 2 * FRAMES + 1; i++)
		put_buffer(p, RXQ, 40);
	arrive_frames(p);
}

static bool
frames_came(struct prover *p)
{
	return p->h.link_to[0]->tail == FRAMES &&
	    track_outcome(p)->used[RXQ] >= FRAMES;
}

static void
exchange_frames(struct prover *p)
{
	send_frames(p);
	receive_frames(p);
}

static void
control_nic(struct prover *p)
{
	static const uint8_t command[][16] = {
		{ 3, 0, 0, 1 }, /* promiscuous */
		{ 8, 1, 1, 2, 0, 0, 0, 0, 9 }, /* the address */
		{ 16, 1, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7, 0, 0, 0 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(command); i++) {
		uint64_t gpa = driver_alloc(&p->d, 64);
		const struct driver_seg s[] = { { gpa, command[i][0], false },
			{ gpa + 40, 1, true } };

		memcpy(harness_ram(&p->h, gpa, 16), command[i] + 1, 15);
		*(uint8_t *)harness_ram(&p->h, gpa + 40, 1) = 0xee;
		BUG_ON(driver_put(&p->d, CTL, s, 2) == DRIVER_NONE);
		p->at[i] = gpa + 40;
	}
}

static bool
controlled(struct prover *p)
{
	for (unsigned i = 0; i < 3; i++)
		if (!holds(p, p->at[i], "", 1))
			return false;
	return true;
}

#define NET_F (NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_MAC_ADDR)
#define NET(text, fn, check, f)                                                \
	{                                                                      \
		.device = "virtio-net", .name = text, .features = NET_F | (f), \
		.driver = true, .request = fn, .right = check                  \
	}

static const struct scenario net[] = {
	NET("send", send_frames, frames_went, SPLIT),
	NET("send, packed", send_frames, frames_went, PACKED),
	NET("receive", receive_frames, frames_came, SPLIT),
	NET("receive, packed", receive_frames, frames_came, PACKED),
	NET("receive, merged buffers", receive_merged, frames_came,
	    SPLIT | NET_F_MRG_RXBUF),
	NET("receive, merged buffers, packed", receive_merged, frames_came,
	    PACKED | NET_F_MRG_RXBUF),
	NET("both ways", exchange_frames, frames_came, SPLIT_PLAIN),
	NET("control", control_nic, controlled, SPLIT),
	NET("control, packed", control_nic, controlled, PACKED),
};
SCENARIOS_REGISTER(net);

/* ---- console ---- */

#define F_MULTIPORT (1ull << 1)
#define F_EMERGENCY (1ull << 2)
#define PORT_RX	    0u
#define PORT_TX	    1u
#define CONTROL_RX  2u
#define CONTROL_TX  3u

/* Of port 0: after the store and the rings. */
static struct stream *
port_stream(struct prover *p, bool in)
{
	return (struct stream *)(void *)p->region[2 + in].base;
}

static void
write_text(struct prover *p)
{
	put_bytes(p, PORT_TX, "hello, ", 7);
	put_bytes(p, PORT_TX, "world", 5);
	put_bytes(p, PORT_TX, "!\n", 2);
}

static bool
text_is_out(struct prover *p)
{
	const struct stream *s = port_stream(p, false);

	return s->head == 14 && memcmp(s->data, "hello, world!\n", 14) == 0;
}

static void
read_text(struct prover *p)
{
	struct stream *s = port_stream(p, true);
	uint64_t head = stream_head(s);

	for (unsigned i = 0; i < 4; i++)
		p->at[i] = put_buffer(p, PORT_RX, 8);
	BUG_ON(stream_put(s, head, "echo hello, world", 17, &head) != 0);
}

static bool
text_is_in(struct prover *p)
{
	return holds(p, p->at[0], "echo hel", 8) &&
	    holds(p, p->at[2], "d", 1) && track_outcome(p)->used[PORT_RX] == 3;
}

static void
control_ports(struct prover *p)
{
	static const uint8_t message[][8] = {
		{ 0, 0, 0, 0, 0, 0, 1, 0 }, /* the driver is ready */
		{ 0, 0, 0, 0, 3, 0, 1, 0 }, /* the port is */
		{ 0, 0, 0, 0, 6, 0, 1, 0 }, /* it is open */
	};

	for (unsigned i = 0; i < 6; i++)
		put_buffer(p, CONTROL_RX, 64);
	for (unsigned i = 0; i < ARRAY_LEN(message); i++)
		put_bytes(p, CONTROL_TX, message[i], 8);
}

static bool
ports_answered(struct prover *p)
{
	return track_outcome(p)->used[CONTROL_TX] == 3 &&
	    track_outcome(p)->used[CONTROL_RX] >= 2;
}

static void
change_size(struct prover *p)
{
	engine_resize(&p->h.dev, 0, 132, 43);
}

static const struct prove_request emergency[] = {
	{ RING_WRITE, 1, 4, 0x2008, 'A' },
	{ RING_READ, 1, 4, 0x2000, 0 },
	{ RING_WRITE, 1, 4, 0x2008, 'B' },
};

#define CONSOLE(text, fn, check, f)                                      \
	{                                                                \
		.device = "virtio-console", .name = text, .features = f, \
		.driver = true, .request = fn, .right = check            \
	}

static const char *const two[] = { "ports", "2", NULL };

#define CONTROL(text, f)                                                    \
	{                                                                   \
		.device = "virtio-console", .name = text,                   \
		.features = (f) | F_MULTIPORT, .driver = true, .bag = true, \
		.hidden = true, .options = two, .request = control_ports,   \
		.right = ports_answered                                     \
	}

static const struct scenario console[] = {
	CONSOLE("bytes out", write_text, text_is_out, SPLIT),
	CONSOLE("bytes out, packed", write_text, text_is_out, PACKED),
	CONSOLE("bytes in", read_text, text_is_in, SPLIT),
	CONSOLE("bytes in, packed", read_text, text_is_in, PACKED),
	CONTROL("control", SPLIT),
	CONTROL("control, packed", PACKED),
	{ .device = "virtio-console",
	    .name = "emergency bytes",
	    .hidden = true,
	    .features = F_EMERGENCY,
	    .driver = true,
	    .script = emergency,
	    .nscript = ARRAY_LEN(emergency) },
	{ .device = "virtio-console",
	    .name = "the window's size",
	    .features = SPLIT | 1,
	    .driver = true,
	    .event = change_size },
};
SCENARIOS_REGISTER(console);

/* ---- balloon ---- */

#define INFLATE	    0u
#define DEFLATE	    1u
#define STATS	    2u
#define REPORTING   2u
#define F_STATS	    (1ull << 1)
#define F_REPORTING (1ull << 5)
#define FIRST	    1024u /* page that is given up first */

static void
dirty_pages(struct prover *p)
{
	p->range[0].gpa = FIRST * PROVE_PAGE;
	p->range[0].n = 8 * PROVE_PAGE;
	p->nranges = 1;
	memset(harness_ram(&p->h, p->range[0].gpa, p->range[0].n), 0xaa,
	    p->range[0].n);
}

static void
inflate(struct prover *p)
{
	static const uint32_t page[] = { FIRST + 4, FIRST, FIRST + 1 };
	static const uint32_t more[] = { FIRST + 6 };

	put_bytes(p, INFLATE, page, sizeof(page));
	put_bytes(p, INFLATE, more, sizeof(more));
}

static bool
inflated(struct prover *p)
{
	return holds(p, FIRST * PROVE_PAGE, "\0", 1) &&
	    holds(p, (FIRST + 6) * PROVE_PAGE, "\0", 1) &&
	    holds(p, (FIRST + 2) * PROVE_PAGE, "\xaa", 1);
}

static void
deflate(struct prover *p)
{
	static const uint32_t page[] = { FIRST + 4, FIRST };

	put_bytes(p, DEFLATE, page, sizeof(page));
}

static void
tell_statistics(struct prover *p)
{
	static const uint8_t stat[] = { 4, 0, 232, 3, 0, 0, 0, 0, 0, 0, 5, 0,
		208, 7, 0, 0, 0, 0, 0, 0 };

	put_bytes(p, STATS, stat, sizeof(stat));
}

/* Its time has come: it asks for new ones. */
static void
let_time_pass(struct prover *p)
{
	struct device *dev = &p->h.dev;

	if (dev->type->ops->deadline(dev) == UINT64_MAX)
		return;
	dev->type->ops->timer(dev, PROVE_NOW_NS + 100000000000ull);
	engine_commit_work(dev);
}

static bool
statistics_asked_for(struct prover *p)
{
	return track_outcome(p)->used[STATS] == 1;
}

static void
report(struct prover *p)
{
	const struct driver_seg s[] = {
		{ (FIRST + 2) * PROVE_PAGE, 2 * PROVE_PAGE, true },
		{ (FIRST + 5) * PROVE_PAGE, PROVE_PAGE, true },
	};

	BUG_ON(driver_put(&p->d, REPORTING, s, 2) == DRIVER_NONE);
}

#define BALLOON(text, fn, check, f)                                      \
	{                                                                \
		.device = "virtio-balloon", .name = text, .features = f, \
		.driver = true, .prepare = dirty_pages, .request = fn,   \
		.right = check                                           \
	}

static const struct scenario balloon[] = {
	BALLOON("inflate", inflate, inflated, SPLIT),
	BALLOON("inflate, packed", inflate, inflated, PACKED),
	BALLOON("deflate", deflate, NULL, SPLIT),
	BALLOON("deflate, packed", deflate, NULL, PACKED),
	BALLOON("statistics kept", tell_statistics, NULL, SPLIT | F_STATS),
	{ .device = "virtio-balloon",
	    .name = "statistics asked for",
	    .features = SPLIT | F_STATS,
	    .driver = true,
	    .request = tell_statistics,
	    .event = let_time_pass,
	    .right = statistics_asked_for },
	{ .device = "virtio-balloon",
	    .name = "statistics asked for, packed",
	    .features = PACKED | F_STATS,
	    .driver = true,
	    .request = tell_statistics,
	    .event = let_time_pass,
	    .right = statistics_asked_for },
	BALLOON("reporting", report, NULL, SPLIT | F_REPORTING),
};
SCENARIOS_REGISTER(balloon);
