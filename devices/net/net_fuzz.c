/*
 * Frames of strangers: through the code that completes checksums and cuts
 * segments, and through virtio-net between a hostile driver and a hostile peer.
 *
 * First byte: which, and with what features.
 */
#include <errno.h>

#include "devices/net/merge.h"
#include "tests/nic_bench.h"

#define STEPS_MAX 200u

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

static size_t
take_bytes(struct input *in, void *to, size_t n)
{
	n = MIN(n, in->left);
	memcpy(to, in->at, n);
	in->at += n;
	in->left -= n;
	return n;
}

/* ---- the frame code alone ---- */

/* Segments of whatever kind, merged or not: a merged frame may be sent. */
static void
merge(struct frame_merge *m, const uint8_t *segment, size_t n)
{
	struct net_header h;
	size_t bytes;

	if (frame_merge_add(m, segment, n))
		return;
	bytes = frame_merge_take(m, &h);
	BUG_ON(bytes > 0 && frame_check(&h, bytes, ~0u) != 0);
	(void)frame_merge_add(m, segment, n);
}

static void
fuzz_frame(struct input *in)
{
	static uint8_t out[FRAME_MAX];
	static struct frame_merge merged;
	struct frame_layout l;
	struct frame_cut cut;
	struct net_header h = { 0 };
	size_t extra, n, m;
	uint8_t *frame;

	take_bytes(in, &h, sizeof(h));
	extra = take(in, 2);
	/* Its very own memory: ASan sees a byte too far. */
	n = in->left + extra;
	frame = calloc(1, n + 1);
	BUG_ON(frame == NULL);
	take_bytes(in, frame, in->left);
	frame_parse(frame, n, &l);
	BUG_ON(l.l4 > n || l.payload > n || l.l3 > n);
	(void)frame_flow(frame, n, &l);
	if (frame_check(&h, n, ~0u) == 0) {
		if (frame_cut_begin(&cut, &h, frame, n) == 0) {
			size_t payload = 0;

			while ((m = frame_cut_next(&cut, out)) > 0) {
				BUG_ON(m > FRAME_MAX);
				payload += m - cut.layout.payload;
				merge(&merged, out, m);
			}
			BUG_ON(payload != n - cut.layout.payload);
		}
		merge(&merged, frame, n);
		frame_complete(&h, frame, n);
		BUG_ON(h.flags & NET_NEEDS_CSUM);
	}
	free(frame);
}

/* ---- virtio-net ---- */

static const uint64_t kinds[] = {
	VIRTIO_F_EVENT_IDX | NET_F_CTRL_VQ,
	VIRTIO_F_EVENT_IDX | NET_F_MRG_RXBUF | NET_F_CTRL_VQ | NET_F_CSUM |
	    NET_F_HOST_TSO4 | NET_F_CTRL_RX,
	~(VIRTIO_F_RING_PACKED | VIRTIO_F_ACCESS_PLATFORM | NET_F_MQ),
	~(VIRTIO_F_ACCESS_PLATFORM | NET_F_MQ),
};

static void
scribble(struct bench *b, struct input *in)
{
	struct packet_ring *r = &b->h.link[0]->ring[take(in, 1) % 2];
	uint64_t value = take(in, 1) % 2 ? take(in, 8) : r->tail + take(in, 1);

	switch (take(in, 1) % 4) {
	case 0:
		r->head = value;
		break;
	case 1:
		r->tail = value;
		break;
	case 2:
		r->slot[take(in, 1)].length = (uint32_t)value;
		break;
	default:
		packet_resume_producer(b->h.link_to[0]);
		b->from = packet_resume(b->h.link_from[0], b->from);
		break;
	}
}

/* A chain of up to four segments, anywhere and of any size. */
static void
put_chain(struct bench *b, struct input *in)
{
	unsigned q = (unsigned)take(in, 1) % 3, n = 1 + take(in, 1) % 4;
	struct driver_seg s[4];
	uint64_t gpa = DRIVER_RAM_START + 0x200000;
	bool in_part = q == RX0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t length = (uint32_t)take(in, 2);

		if (take(in, 1) == 255)
			length = (uint32_t)take(in, 4);
		in_part = in_part || (q == BENCH_CONTROL && i + 1 == n);
		s[i] =
		    (struct driver_seg){ gpa + 0x20000 * i, length, in_part };
		take_bytes(
		    in, driver_at(&b->d, s[i].gpa), MIN(length, take(in, 1)));
	}
	if (driver_put(&b->d, q, s, n) != DRIVER_NONE)
		harness_ring(&b->h, q);
}

static void
peer_frame(struct bench *b, struct input *in)
{
	static uint8_t bytes[PACKET_BYTES_MAX];
	size_t n = PACKET_HEADER + take(in, 2) % (PACKET_BYTES_MAX / 2);
	struct iovec iov = { bytes, n };

	memset(bytes, 0, MIN(n, 512u));
	take_bytes(in, bytes, take(in, 1));
	(void)packet_put(b->h.link_to[0], &iov, 1);
}

/* What comes out to the peer is a frame with a header that is no lie. */
static void
check_sent(struct bench *b)
{
	const uint8_t *data;
	struct net_header h;
	ssize_t n = packet_peek(b->h.link_from[0], b->from, &data);

	if (n == -EAGAIN || n == -EPROTO)
		return;
	if (n >= 0) {
		memcpy(&h, data, sizeof(h));
		b->from++;
		(void)frame_check(&h, (size_t)n - FRAME_HEADER, ~0u);
	} else {
		b->from++;
	}
	packet_release(b->h.link_from[0], b->from);
}

/* A device, made once, whose driver has just begun: to map it anew each time
 * would take the most of the time. */
static struct bench *
fresh(uint64_t features)
{
	static struct bench b;
	struct nic_log *log;

	if (b.h.nfds == 0)
		bench_open(&b, features);
	driver_set_status(&b.d, 0);
	for (unsigned i = 0; i < 2; i++) {
		b.h.link[0]->ring[i].head = 0;
		b.h.link[0]->ring[i].tail = 0;
	}
	log = nic_log(&b.h.dev);
	log->next = log->delivering = log->frame = 0;
	b.from = b.to = 0;
	driver_open_sized(&b.d, &b.h, features, 16);
	b.buffer = driver_alloc(&b.d, BENCH_FRAME);
	return &b;
}

static void
fuzz_nic(struct input *in, uint64_t features)
{
	struct bench *b = fresh(features);

	for (unsigned i = 0; i < STEPS_MAX && in->left > 0; i++) {
		uint16_t id;
		uint32_t len;

		switch (take(in, 1) % 8) {
		case 0:
		case 1:
			put_chain(b, in);
			break;
		case 2:
			peer_frame(b, in);
			break;
		case 3:
			scribble(b, in);
			break;
		case 4:
			harness_restart(&b->h);
			break;
		case 5:
			check_sent(b);
			break;
		case 6:
			(void)engine_timer(&b->h.dev);
			break;
		default:
			if (!(driver_status(&b->d) & VIRTIO_NEEDS_RESET))
				(void)driver_take(&b->d,
				    (unsigned)take(in, 1) % 3, &id, &len);
			break;
		}
		harness_run(&b->h);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint64_t which = take(&in, 1);

	if (which % 2 == 0)
		fuzz_frame(&in);
	else
		fuzz_nic(&in, kinds[which / 2 % ARRAY_LEN(kinds)]);
	return 0;
}
