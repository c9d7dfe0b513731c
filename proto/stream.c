/* The byte stream. */
#include "proto/stream.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"
#include "proto/wake.h"

uint64_t
stream_head(const struct stream *s)
{
	return atomic_load_explicit(&s->head, memory_order_relaxed);
}

/* Bytes that may be put, or -EPROTO. */
static ssize_t
room(const struct stream *s)
{
	uint64_t head = stream_head(s);
	uint64_t tail;

	/* Pairs with the release in stream_attach(). */
	if (!atomic_load_explicit(&s->attached, memory_order_acquire))
		return STREAM_BYTES;
	/* Pairs with the release in stream_release(). */
	tail = atomic_load_explicit(&s->tail, memory_order_acquire);
	if (head - tail > STREAM_BYTES)
		return -EPROTO;
	return (ssize_t)(STREAM_BYTES - (head - tail));
}

size_t
stream_space(const struct stream *s)
{
	ssize_t n = room(s);

	return n < 0 ? 0 : (size_t)n;
}

int
stream_put(struct stream *s, uint64_t pos, const void *bytes, size_t n,
    uint64_t *new_head)
{
	const uint8_t *from = bytes;
	uint64_t head = stream_head(s);
	ssize_t space = room(s);
	size_t skip, at, first;

	if (space < 0)
		return (int)space;
	BUG_ON(pos > head);
	*new_head = head;
	skip = head - pos;
	if (skip >= n)
		return 0;
	n = MIN(n - skip, MIN((size_t)space, STREAM_PUT_MAX));
	at = head % STREAM_BYTES;
	first = MIN(n, STREAM_BYTES - at);
	memcpy(s->data + at, from + skip, first);
	memcpy(s->data, from + skip + first, n - first);
	/* Pairs with the acquire in stream_available(). */
	atomic_store_explicit(&s->head, head + n, memory_order_release);
	*new_head = head + n;
	return 0;
}

ssize_t
stream_available(const struct stream *s, uint64_t pos)
{
	/* Pairs with the release in stream_put(). */
	uint64_t n = atomic_load_explicit(&s->head, memory_order_acquire) - pos;

	return n > STREAM_BYTES ? -EPROTO : (ssize_t)n;
}

ssize_t
stream_peek(const struct stream *s, uint64_t pos, void *bytes, size_t n)
{
	uint8_t *to = bytes;
	ssize_t have = stream_available(s, pos);
	size_t at = pos % STREAM_BYTES;
	size_t first;

	if (have < 0)
		return have;
	n = MIN(n, (size_t)have);
	first = MIN(n, STREAM_BYTES - at);
	memcpy(to, s->data + at, first);
	memcpy(to + first, s->data, n - first);
	return (ssize_t)n;
}

void
stream_release(struct stream *s, uint64_t pos)
{
	/* Pairs with the acquire of tail in room(). */
	atomic_store_explicit(&s->tail, pos, memory_order_release);
}

uint64_t
stream_attach(struct stream *s)
{
	uint64_t head = atomic_load_explicit(&s->head, memory_order_acquire);
	uint64_t tail = head - MIN(head, (uint64_t)STREAM_BACKLOG);

	/*
	 * A producer that has just seen nobody attached may still put
	 * STREAM_PUT_MAX bytes; with half of the ring as backlog they
	 * overwrite nothing that is still to be read.
	 */
	atomic_store_explicit(&s->tail, tail, memory_order_relaxed);
	/* Pairs with the acquire of attached in room(). */
	atomic_store_explicit(&s->attached, 1, memory_order_release);
	return tail;
}

void
stream_detach(struct stream *s)
{
	atomic_store_explicit(&s->attached, 0, memory_order_release);
}

bool
stream_kick_consumer(struct stream *s)
{
	return wake_needed(&s->consumer_armed);
}

bool
stream_kick_producer(struct stream *s)
{
	return wake_needed(&s->producer_armed);
}

void
stream_arm_consumer(struct stream *s)
{
	wake_arm(&s->consumer_armed);
}

void
stream_arm_producer(struct stream *s)
{
	wake_arm(&s->producer_armed);
}
