/* The packet link. */
#include "proto/packet.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"
#include "proto/wake.h"

_Static_assert(
    PACKET_BYTES_MAX <= PACKET_SLOT_SIZE - 8, "a frame fits into its slot");

uint64_t
packet_head(const struct packet_ring *r)
{
	return atomic_load_explicit(&r->head, memory_order_relaxed);
}

uint64_t
packet_tail(const struct packet_ring *r)
{
	return atomic_load_explicit(&r->tail, memory_order_relaxed);
}

/* Slots free when so many frames were put, or -EPROTO. */
static int
space_at(const struct packet_ring *r, uint64_t head)
{
	/* Pairs with the release in packet_release(). */
	uint64_t used =
	    head - atomic_load_explicit(&r->tail, memory_order_acquire);

	return used > PACKET_SLOTS ? -EPROTO : (int)(PACKET_SLOTS - used);
}

int
packet_space(const struct packet_ring *r)
{
	return space_at(r, packet_head(r));
}

static void
publish(struct packet_ring *r, uint64_t head, uint32_t length)
{
	r->slot[head % PACKET_SLOTS].length = length;
	/* Pairs with the acquire in packet_available(). */
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

int
packet_put(struct packet_ring *r, const struct iovec *iov, unsigned n)
{
	uint64_t head = packet_head(r);
	int space = space_at(r, head);
	uint8_t *to = r->slot[head % PACKET_SLOTS].data;
	size_t length = 0;

	for (unsigned i = 0; i < n; i++) {
		if (iov[i].iov_len > PACKET_BYTES_MAX - length)
			return -EMSGSIZE;
		length += iov[i].iov_len;
	}
	if (length < PACKET_HEADER)
		return -EMSGSIZE;
	if (space <= 0)
		return space < 0 ? space : -EAGAIN;
	for (unsigned i = 0; i < n; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	publish(r, head, (uint32_t)length);
	return 0;
}

uint8_t *
packet_reserve(struct packet_ring *r)
{
	uint64_t head = packet_head(r);

	if (space_at(r, head) <= 0)
		return NULL;
	return r->slot[head % PACKET_SLOTS].data;
}

void
packet_commit(struct packet_ring *r, uint32_t length)
{
	BUG_ON(length < PACKET_HEADER || length > PACKET_BYTES_MAX);
	publish(r, packet_head(r), length);
}

int
packet_available(const struct packet_ring *r, uint64_t pos)
{
	/* Pairs with the release in publish(). */
	uint64_t n = atomic_load_explicit(&r->head, memory_order_acquire) - pos;

	return n > PACKET_SLOTS ? -EPROTO : (int)n;
}

ssize_t
packet_peek(const struct packet_ring *r, uint64_t pos, const uint8_t **data)
{
	const struct packet_slot *slot = &r->slot[pos % PACKET_SLOTS];
	int n = packet_available(r, pos);
	uint32_t length;

	if (n <= 0)
		return n < 0 ? n : -EAGAIN;
	/* Once: the peer may change it under us. */
	length = *(const volatile uint32_t *)&slot->length;
	if (length < PACKET_HEADER || length > PACKET_BYTES_MAX)
		return -EMSGSIZE;
	*data = slot->data;
	return (ssize_t)length;
}

void
packet_release(struct packet_ring *r, uint64_t pos)
{
	/* Pairs with the acquire in space_at(). */
	atomic_store_explicit(&r->tail, pos, memory_order_release);
}

void
packet_resume_producer(struct packet_ring *r)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);

	if (packet_head(r) - tail > PACKET_SLOTS)
		atomic_store_explicit(&r->head, tail, memory_order_release);
}

uint64_t
packet_resume(struct packet_ring *r, uint64_t pos)
{
	uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);

	if (head - pos > PACKET_SLOTS)
		pos = head;
	packet_release(r, pos);
	return pos;
}

bool
packet_kick_consumer(struct packet_ring *r)
{
	return wake_needed(&r->consumer_armed);
}

bool
packet_kick_producer(struct packet_ring *r)
{
	return wake_needed(&r->producer_armed);
}

void
packet_arm_consumer(struct packet_ring *r)
{
	wake_arm(&r->consumer_armed);
}

void
packet_arm_producer(struct packet_ring *r)
{
	wake_arm(&r->producer_armed);
}
