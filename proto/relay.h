/*
 * The relay: the host's end of a vsock device's connections.
 *
 * A process with the user's authority holds the sockets: it listens where the
 * host's programs connect, and connects to where the guest's may.  The device
 * never sees a socket.  Between the two is one sealed memfd with a slot per
 * connection, which outlives the device's process: a slot has two byte streams
 * (proto/stream.h), in which every byte has a position for ever, and a word of
 * each side.  So a connection lives through the death of the device, without a
 * byte lost or doubled.
 *
 * A word is a generation and flags.  The side that begins connections in a slot
 * (the device in those below RELAY_HOST_SLOTS, the relay in the others) does so
 * when both words have the same generation and no flags, with the next
 * generation and RELAY_LIVE.  The other answers with that generation and
 * RELAY_LIVE | RELAY_ACCEPTED, or, refusing, with no flags (RELAY_LIVE alone
 * says that it is not decided yet).  Bytes are put only after that.  The connection ends when both words are without flags; who takes
 * its flags back alone ends it, with bytes still in the streams lost.
 *
 *	device begins: empties to_guest, sets host_port, then LIVE; the relay
 *	    empties to_host, then accepts.
 *	relay begins: empties to_host, sets guest_port, then LIVE; the device
 *	    empties to_guest, sets host_port, then accepts.
 *
 * RELAY_NO_MORE: no byte will follow those that are put.  RELAY_DEAF: none will
 * be read.  A relay whose device has said both puts out the bytes that it still
 * has, and then takes its flags back.
 *
 * Beside the memory is a socket pair (SOCK_STREAM, non-blocking): a byte wakes
 * the other side, and its end says that the other side is gone for good.  Arm,
 * look, sleep; change, then wake if armed.  Each side treats the memory as
 * hostile.
 */
#ifndef PROTO_RELAY_H
#define PROTO_RELAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/stream.h"
#include "proto/wake.h"

#define RELAY_SLOTS	 64u
#define RELAY_HOST_SLOTS 32u /* from here on the relay begins */

#define RELAY_LIVE	 1u
#define RELAY_ACCEPTED	 2u
#define RELAY_NO_MORE	 4u
#define RELAY_DEAF	 8u
#define RELAY_FLAGS	 15u

struct relay_slot {
	_Alignas(64) _Atomic uint64_t device; /* generation << 32 | flags */
	_Atomic uint32_t host_port; /* device's: vsock port of the host */
	_Alignas(64) _Atomic uint64_t relay;
	_Atomic uint32_t guest_port; /* relay's: vsock port of the guest */
	struct stream to_host, to_guest;
};

struct relay {
	_Alignas(64) _Atomic uint32_t device_armed;
	_Alignas(64) _Atomic uint32_t relay_armed;
	struct relay_slot slot[RELAY_SLOTS];
};

#define RELAY_SIZE ((sizeof(struct relay) + 4095u) / 4096u * 4096u)

static inline uint64_t
relay_word(uint32_t generation, unsigned flags)
{
	return (uint64_t)generation << 32 | flags;
}

static inline uint32_t
relay_generation(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

static inline unsigned
relay_flags(uint64_t word)
{
	return (unsigned)word & RELAY_FLAGS;
}

/* Read the other's word, and what was written before it. */
static inline uint64_t
relay_look(const _Atomic uint64_t *word)
{
	/* Pairs with the release in relay_tell(). */
	return atomic_load_explicit(word, memory_order_acquire);
}

/* Set one's own word, after what belongs to it; true: it changed. */
static inline bool
relay_tell(_Atomic uint64_t *word, uint64_t value)
{
	if (atomic_load_explicit(word, memory_order_relaxed) == value)
		return false;
	/* Pairs with the acquire in relay_look(). */
	atomic_store_explicit(word, value, memory_order_release);
	return true;
}

#endif
