/*
 * A virtqueue whose driver writes anything into its rings at any moment, and
 * whose process dies now and then.
 *
 * First byte: the kind of ring and its size.  Then steps of a kind byte and its
 * operands; the rings and all that descriptors can usefully point at lie in one
 * page of guest RAM.
 */
#include "tests/vq_bench.h"

#define WINDOW	  4096u
#define DESC_AT	  0u
#define DRIVER_AT 1024u
#define DEVICE_AT 2048u
#define STEPS_MAX 400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

/* What the device holds. */
struct held {
	struct vq_chain last;
	bool can_unpop;
	uint16_t id[VQ_SIZE_MAX];
	unsigned n;
};

static uint8_t
take(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static struct bench *
fresh(uint64_t features, uint16_t size)
{
	static struct bench b;
	static bool made;

	if (!made)
		bench_open(&b, 0, 8);
	made = true;
	memset(harness_ram(&b.h, 0, WINDOW), 0, WINDOW);
	memset(b.log, 0, sizeof(*b.log));
	b.d.features = features;
	b.state = (struct vq_state){
		.desc = DESC_AT,
		.driver = DRIVER_AT,
		.device = DEVICE_AT,
		.size = size,
	};
	BUG_ON(bench_restart(&b) != 0);
	return &b;
}

/* All of a chain is RAM, as long as it says, and is touched. */
static void
check_chain(struct bench *b, const struct vq_chain *c)
{
	const uint8_t *ram = b->h.dev.ram;
	uint64_t out = 0, in = 0;
	uint8_t text[64];

	BUG_ON(c->nout + c->nin > VQ_SEGMENTS_MAX || c->id >= b->q.size);
	for (unsigned i = 0; i < c->nout + c->nin; i++) {
		const uint8_t *at = c->iov[i].iov_base;

		BUG_ON(at < ram || at + c->iov[i].iov_len > ram + HARNESS_RAM);
		*(i < c->nout ? &out : &in) += c->iov[i].iov_len;
	}
	BUG_ON(out != c->out_bytes || in != c->in_bytes);
	vq_read(c, 0, text, sizeof(text));
	if (c->in_bytes > 0)
		vq_write(c, c->in_bytes - 1, text, sizeof(text));
}

static void
pop(struct bench *b, struct held *held)
{
	held->can_unpop = false;
	if (vq_pop(&b->q, &held->last) != 1)
		return;
	check_chain(b, &held->last);
	held->id[held->n++] = held->last.id;
	held->can_unpop = true;
	BUG_ON(held->n > b->q.size);
}

static void
push(struct bench *b, struct held *held, struct input *in)
{
	uint16_t id[4];
	uint32_t written[4];
	unsigned n = 0, want = 1 + take(in) % 4;

	while (n < want && held->n > 0) {
		unsigned i = take(in) % held->n;

		written[n] = take(in);
		id[n++] = held->id[i];
		held->id[i] = held->id[--held->n];
	}
	vq_push_many(&b->q, id, written, n);
	held->can_unpop = false;
}

/* A restart on RAM that the driver has changed may be refused; a device would
 * then wait for its reset. */
static bool
restart(struct bench *b, struct held *held)
{
	unsigned n = vq_in_flight(&b->q);

	held->n = 0;
	held->can_unpop = false;
	if (bench_restart(b) != 0)
		return false;
	BUG_ON(
	    b->q.packed ? vq_in_flight(&b->q) != n : vq_in_flight(&b->q) > n);
	return true;
}

static bool
step(struct bench *b, struct held *held, struct input *in)
{
	unsigned kind = take(in), at, n;
	uint8_t *ram = harness_ram(&b->h, 0, WINDOW);

	switch (kind & 7) {
	case 0:
	case 1:
		at = take(in) | (take(in) & 15u) << 8;
		for (n = 1 + (kind >> 3); n > 0; n--)
			ram[at++ % WINDOW] = take(in);
		return true;
	case 2: /* a descriptor with an address that may be */
		at = DESC_AT + 16u * (take(in) % 32u);
		memset(ram + at, 0, 16);
		ram[at + 1] = take(in);
		ram[at + 8] = take(in);
		memcpy(
		    ram + at + 12, (uint8_t[]){ take(in), 0, take(in), 0 }, 4);
		return true;
	case 3: /* the available index, one on */
		ram[DRIVER_AT + 2]++;
		return true;
	case 4:
		push(b, held, in);
		return true;
	case 5:
		if (!held->can_unpop)
			return true;
		vq_unpop(&b->q, &held->last);
		held->n--;
		held->can_unpop = false;
		return true;
	case 6:
		(void)vq_wants_signal(&b->q);
		return kind >> 3 & 1 ? restart(b, held) : true;
	default:
		pop(b, held);
		return true;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t sizes[] = { 8, 1, 2, 32 };
	struct input in = { data, size };
	struct held held = { .n = 0 };
	unsigned kind = take(&in);
	struct bench *b;

	b = fresh(bench_kinds[kind & 3].features, sizes[kind >> 2 & 3]);
	for (unsigned n = 0; in.left > 0 && n < STEPS_MAX; n++) {
		if (!step(b, &held, &in))
			break;
	}
	return 0;
}
