/*
 * A packet ring whose other side writes what it likes: what is put and taken
 * stays inside the ring, whatever the indices and lengths say.
 */
#include "proto/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "proto/base.h"

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

static void
put(struct packet_ring *r, struct input *in)
{
	static uint8_t frame[PACKET_BYTES_MAX + 64];
	size_t n = take(in, 3) % sizeof(frame);
	struct iovec iov[2] = { { frame, n / 2 }, { frame, n - n / 2 } };
	uint64_t head = packet_head(r);
	int space = packet_space(r), rc = packet_put(r, iov, 2);

	if (n < PACKET_HEADER || n > PACKET_BYTES_MAX)
		BUG_ON(rc != -EMSGSIZE);
	else if (space <= 0)
		BUG_ON(rc != (space < 0 ? space : -EAGAIN));
	else
		BUG_ON(rc != 0);
	BUG_ON(packet_head(r) != head + (rc == 0));
}

static void
reserve(struct packet_ring *r, struct input *in)
{
	uint8_t *slot = packet_reserve(r);

	BUG_ON((slot != NULL) != (packet_space(r) > 0));
	if (slot == NULL)
		return;
	BUG_ON(slot < r->slot[0].data ||
	    slot + PACKET_BYTES_MAX > (uint8_t *)(r + 1));
	slot[0] = slot[PACKET_BYTES_MAX - 1] = 1;
	packet_commit(r,
	    (uint32_t)(PACKET_HEADER +
		take(in, 2) % (PACKET_BYTES_MAX - PACKET_HEADER)));
}

static void
peek(struct packet_ring *r, uint64_t *pos)
{
	const uint8_t *data = NULL;
	ssize_t n = packet_peek(r, *pos, &data);

	if (n == -EAGAIN || n == -EPROTO)
		return;
	if (n >= 0) {
		BUG_ON(n < (ssize_t)PACKET_HEADER);
		BUG_ON(data < r->slot[0].data ||
		    data + n > (const uint8_t *)(r + 1));
	}
	packet_release(r, ++*pos);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct packet_ring *r;
	struct input in = { data, size };
	uint64_t pos = 0;

	if (r == NULL)
		r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BUG_ON(r == MAP_FAILED);
	atomic_store(&r->head, 0);
	atomic_store(&r->tail, 0);
	while (in.left > 0) {
		switch (take(&in, 1) % 8) {
		case 0:
			put(r, &in);
			break;
		case 1:
			reserve(r, &in);
			break;
		case 2:
			peek(r, &pos);
			break;
		case 3:
			atomic_store(&r->head, take(&in, 8));
			break;
		case 4:
			atomic_store(&r->tail, take(&in, 8));
			break;
		case 5:
			r->slot[take(&in, 1)].length = (uint32_t)take(&in, 4);
			break;
		case 6:
			packet_resume_producer(r);
			BUG_ON(packet_space(r) < 0);
			break;
		default:
			pos = packet_resume(r, pos);
			BUG_ON(packet_available(r, pos) < 0);
			break;
		}
	}
	return 0;
}
