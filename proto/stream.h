/*
 * The byte stream: a serial port's or console's bytes, in memory that outlives
 * both ends.
 *
 * A sealed memfd of STREAM_SIZE bytes.  One producer, one consumer.  head and
 * tail are free-running counts of bytes, so every byte has a position for ever,
 * and "put this byte at this position" is idempotent: that is what makes output
 * exactly-once when the producer dies between putting a byte and noting that
 * it did.  The producer's truth is head, not a count of its own.
 *
 * While no consumer is attached the producer overwrites the oldest bytes: the
 * ring is then a scroll-back of the newest STREAM_BACKLOG bytes.
 *
 * Each side checks the other's index; -EPROTO says it was impossible.
 */
#ifndef PROTO_STREAM_H
#define PROTO_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STREAM_BYTES   (64u << 10)
#define STREAM_BACKLOG (STREAM_BYTES / 2)
/* The most one stream_put() takes: what may still arrive after an attach. */
#define STREAM_PUT_MAX 4096u

struct stream {
	_Alignas(64) _Atomic uint64_t head; /* bytes put; producer's */
	_Atomic uint32_t producer_armed; /* wants a kick on space */
	_Alignas(64) _Atomic uint64_t tail; /* bytes taken; consumer's */
	_Atomic uint32_t consumer_armed; /* wants a kick on bytes */
	_Atomic uint32_t attached; /* a consumer is there */
	_Alignas(64) uint8_t data[STREAM_BYTES];
};

#define STREAM_SIZE ((sizeof(struct stream) + 4095u) / 4096u * 4096u)

/* Producer: bytes that the stream has accepted since it was made. */
uint64_t stream_head(const struct stream *s);

/*
 * Producer: put the bytes whose first has position pos, which must be at most
 * stream_head(); those before head are there already and are skipped.  Returns
 * the new head (pos + n if all went in).  -EPROTO for an impossible tail.
 */
int stream_put(struct stream *s, uint64_t pos, const void *bytes, size_t n,
    uint64_t *new_head);

/* Producer: bytes that fit now; STREAM_BYTES when nobody is attached. */
size_t stream_space(const struct stream *s);

/* Consumer: bytes that can be read from position pos (its own count). */
ssize_t stream_available(const struct stream *s, uint64_t pos);

/* Consumer: copy up to n bytes from pos.  Count, or -EPROTO. */
ssize_t
stream_peek(const struct stream *s, uint64_t pos, void *bytes, size_t n);

/* Consumer: publish that everything before pos is consumed. */
void stream_release(struct stream *s, uint64_t pos);

/* Consumer: take the stream; returns the position to read from. */
uint64_t stream_attach(struct stream *s);
void stream_detach(struct stream *s);

/*
 * Kicks.  Producer after putting: stream_kick_consumer(); consumer after
 * releasing: stream_kick_producer().  True: write the other's eventfd.  Arm,
 * look again, then sleep.
 */
bool stream_kick_consumer(struct stream *s);
bool stream_kick_producer(struct stream *s);
void stream_arm_consumer(struct stream *s);
void stream_arm_producer(struct stream *s);

#endif
