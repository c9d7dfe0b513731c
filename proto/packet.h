/*
 * The packet link: Ethernet frames between a network device and the process
 * that holds its socket, in memory that outlives both.
 *
 * A sealed memfd of PACKET_LINK_SIZE bytes holds two rings, one per direction,
 * each with one producer and one consumer.  Positions are free-running counts
 * of slots, so every frame has a position for ever and the head is the truth of
 * how many were put; a producer that dies between putting a frame and noting it
 * looks at the head.  A slot holds one frame of at most PACKET_BYTES_MAX bytes:
 * a virtio_net_hdr (virtio 1.2, 5.1.6; 12 bytes, num_buffers 0) and the frame.
 *
 * Each side treats the other as hostile: the other's index is read once and
 * checked, the length of a slot is read once and checked, the frame is copied.
 * -EPROTO: the index was impossible.  The side that finds it waits for its peer
 * to be replaced; it does not die of it.
 */
#ifndef PROTO_PACKET_H
#define PROTO_PACKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define PACKET_SLOTS	 256u
#define PACKET_HEADER	 12u
#define PACKET_BYTES_MAX 65560u /* 12 + 14 + 65535, rounded down to 8 */
#define PACKET_SLOT_SIZE 65568u

struct packet_slot {
	uint32_t length; /* bytes of data, header included */
	uint32_t reserved;
	uint8_t data[PACKET_SLOT_SIZE - 8];
};

struct packet_ring {
	_Alignas(64) _Atomic uint64_t head; /* frames put; producer's */
	_Atomic uint32_t producer_armed; /* sleeps until there is space */
	_Alignas(64) _Atomic uint64_t tail; /* frames taken; consumer's */
	_Atomic uint32_t consumer_armed; /* sleeps until there is a frame */
	_Alignas(4096) struct packet_slot slot[PACKET_SLOTS];
};

struct packet_link {
	struct packet_ring ring[2]; /* [0]: from the device; [1]: to it */
};

#define PACKET_LINK_SIZE ((sizeof(struct packet_link) + 4095u) / 4096u * 4096u)

/* Producer: frames put so far. */
uint64_t packet_head(const struct packet_ring *r);
/* Consumer: frames taken so far (published; its own state is the truth). */
uint64_t packet_tail(const struct packet_ring *r);

/* Producer: slots free now; -EPROTO. */
int packet_space(const struct packet_ring *r);
/* Producer: put one frame gathered from n pieces.  0; -EAGAIN: full; -EPROTO;
 * -EMSGSIZE: longer than PACKET_BYTES_MAX or shorter than PACKET_HEADER. */
int packet_put(struct packet_ring *r, const struct iovec *iov, unsigned n);
/*
 * Producer, for those who would have the kernel write the frame: the next slot's
 * PACKET_BYTES_MAX bytes, or NULL (full, or an impossible index); then put it,
 * length bytes long (from PACKET_HEADER to PACKET_BYTES_MAX).  The memory is
 * shared: what was written there is not to be read back.
 */
uint8_t *packet_reserve(struct packet_ring *r);
void packet_commit(struct packet_ring *r, uint32_t length);

/* Consumer: frames that wait from position pos; -EPROTO. */
int packet_available(const struct packet_ring *r, uint64_t pos);
/*
 * Consumer: the frame at pos: its length, and in *data where it lies.  The
 * memory is the peer's: copy it out before looking at it.  -EAGAIN: none;
 * -EPROTO: impossible index; -EMSGSIZE: impossible length (skip it).
 */
ssize_t
packet_peek(const struct packet_ring *r, uint64_t pos, const uint8_t **data);
/* Consumer: everything before pos is taken. */
void packet_release(struct packet_ring *r, uint64_t pos);

/*
 * At the start of a process, before anything else: take the ring up again, also
 * one whose index the peer, or a former life, has made impossible; then the
 * frames in it are lost.  The producer; and the consumer, which gives the
 * position up to which it took and gets the one to go on from.
 */
void packet_resume_producer(struct packet_ring *r);
uint64_t packet_resume(struct packet_ring *r, uint64_t pos);

/* Kicks, as for a byte stream: arm, look again, sleep. */
bool packet_kick_consumer(struct packet_ring *r);
bool packet_kick_producer(struct packet_ring *r);
void packet_arm_consumer(struct packet_ring *r);
void packet_arm_producer(struct packet_ring *r);

#endif
