/*
 * The intercept ring: how a vCPU's register accesses reach a device.
 *
 * One ring set per device, in a sealed memfd that both the broker and the
 * device map; in it, one single-producer single-consumer ring per vCPU.  The
 * producer is that vCPU's thread in the broker, the consumer is the device.
 *
 * Positions are free-running 64-bit counts of requests; the slot of position
 * n is n % RING_SLOTS.  The consumer's own position is not kept here but in
 * the device store, where it is committed together with the state and the
 * answer; `tail` only publishes it.  A restarted consumer therefore goes on
 * where the committed state says, whatever this memory holds.
 *
 * Each side treats the other as hostile: it reads an index once, checks the
 * difference against RING_SLOTS, copies a slot before it looks at it, and
 * takes no size from here.  -EPROTO means that the peer must be killed.
 */
#ifndef PROTO_RING_H
#define PROTO_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_SLOTS     64u
#define RING_MAX_VCPUS 64u

enum ring_op {
	RING_READ,
	RING_WRITE, /* the vCPU waits until it is handled */
	RING_WRITE_POSTED, /* the vCPU goes on at once */
	/*
	 * No access: all that the device has been told of and all that is due
	 * at time_ns is handled before the answer, with its effects.  The
	 * answer is 0, or 1 when something that was begun has not ended.
	 */
	RING_SYNC,
};

struct ring_request {
	uint64_t addr; /* offset in the region, bytes */
	uint64_t data; /* what is written; 0 for a read */
	uint64_t time_ns; /* guest time of the access */
	uint16_t region; /* index in the device's list of regions */
	uint8_t op; /* enum ring_op */
	uint8_t size; /* 1, 2, 4 or 8 bytes */
	uint32_t vcpu; /* filled in by ring_take(), never from memory */
};

struct ring {
	_Alignas(64) _Atomic uint64_t head; /* requests made; producer's */
	_Atomic uint32_t producer_waits; /* it sleeps on tail's low half */
	_Alignas(64) _Atomic uint64_t tail; /* requests answered; consumer's */
	_Alignas(64) struct ring_request req[RING_SLOTS];
	uint64_t answer[RING_SLOTS];
};

struct ring_set {
	_Atomic uint32_t consumer_armed; /* it sleeps: kick its eventfd */
	uint32_t vcpus; /* for tools; neither side trusts it */
	/*
	 * With --icount (docs/architecture.md) the device says here, before it
	 * answers: when it wants a RING_SYNC next (guest time; UINT64_MAX:
	 * never), what the time was, and whether it has asked the platform for
	 * an end.
	 */
	_Atomic uint64_t deadline_ns, now_ns;
	_Atomic uint32_t platform;
	_Alignas(64) struct ring ring[];
};

/* The bits that an access of size bytes (1 to 8) carries. */
static inline uint64_t
ring_size_mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
}

/* Bytes of a ring set for `vcpus` (1 to RING_MAX_VCPUS). */
static inline size_t
ring_set_size(unsigned vcpus)
{
	return sizeof(struct ring_set) + vcpus * sizeof(struct ring);
}

/*
 * Producer: put a request at *pos, the producer's private count, and advance
 * it.  0; -EAGAIN when RING_SLOTS requests wait (see ring_wait()); -EPROTO when
 * the consumer's index is impossible.  Call ring_kick_needed() afterwards.
 */
int ring_put(struct ring *r, uint64_t *pos, const struct ring_request *req);

/*
 * Producer: must the consumer's eventfd be written?  True at most once per
 * sleep of the consumer.
 */
bool ring_kick_needed(struct ring_set *set);

/*
 * Producer: has position pos been answered?  1 and *answer; 0 not yet;
 * -EPROTO when the index is impossible.
 */
int ring_poll_answer(struct ring *r, uint64_t pos, uint64_t *answer);

/*
 * Producer: sleep until the consumer's tail moves past pos, somebody calls
 * ring_wake_producer(), or timeout_ns passed.  May return early: look again.
 */
void ring_wait(struct ring *r, uint64_t pos, uint64_t timeout_ns);

/* Anybody: wake a producer that sleeps in ring_wait(). */
void ring_wake_producer(struct ring *r);

/*
 * Consumer: copy the request at pos, the committed position.  1 and *req; 0
 * when there is none; -EPROTO when head is impossible or the request is
 * malformed (op, size).
 */
int ring_take(const struct ring *r, unsigned vcpu, uint64_t pos,
    struct ring_request *req);

/*
 * Consumer: publish that everything before pos is handled; answer is that of
 * pos - 1.  Publishing again what was published changes nothing.  Wakes the
 * producer if it sleeps.
 */
void ring_answer(struct ring *r, uint64_t pos, uint64_t answer);

/*
 * Consumer: arm before sleeping, then look at every ring again, then sleep on
 * the eventfd.  Disarm after waking.
 */
void ring_arm(struct ring_set *set);
void ring_disarm(struct ring_set *set);

#endif
