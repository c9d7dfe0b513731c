/*
 * Virtqueues: split and packed (virtio 1.2, 2.7 and 2.8), with indirect
 * descriptors, event index and in-order use, treated as hostile, and safe
 * against the death of the process at any instruction.
 *
 * A queue is in three places: what the driver set up and what was negotiated is
 * in the state; which buffers are taken but not yet used is in the in-flight
 * log, in shared memory; the rings are in guest RAM.  A chain that was taken is
 * noted in the log before anything is done for it, in the order in which it was
 * taken; the store of the used index (packed: of the used descriptor's flags) is
 * the commit point of its completion; then it is struck out of the log.  After a
 * restart vq_pop() gives again what the log has, in order, before anything new.
 *
 * Every guest value is read once, copied and checked.  A driver that breaks the
 * rules gets -EINVAL out of vq_pop() and the device NEEDS_RESET.
 */
#ifndef DEVICES_VIRTIO_VIRTQUEUE_H
#define DEVICES_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devhost/device.h"

#define VQ_SIZE_MAX	256u
#define VQ_SEGMENTS_MAX 130u /* of one chain: 128 of data, a head, a tail */

/* State of one queue; no pointers. */
struct vq_state {
	uint64_t desc, driver, device; /* guest physical addresses */
	uint16_t size; /* as the driver set it; split: a power of two */
	uint16_t vector; /* MSI-X; 0xffff: none */
	uint8_t enabled;
	uint8_t pad[3];
};

/*
 * The log of one queue; the memory is validated when it is taken up again.
 * A position is a count << 16 | where that is in the ring (packed: the index,
 * and the wrap counter in bit 15).
 */
struct vq_log_entry {
	uint64_t cookie; /* the device's own, set by vq_note() */
	uint64_t order; /* count of chains taken; 0: not in flight */
	uint16_t descs; /* descriptors that it takes in the ring */
	uint16_t first; /* packed: of its descriptors in the log */
	uint16_t completing; /* 1: among those that `busy` speaks of */
	uint16_t pad;
};

/* A descriptor as the driver wrote it: a packed ring forgets it. */
struct vq_log_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct vq_log {
	uint64_t epoch; /* of the queue that this is the log of; 0: none */
	uint64_t taken; /* position of the available side */
	uint64_t used; /* position of the used side */
	uint64_t busy; /* what `used` is about to become; 0: nothing */
	struct vq_log_entry entry[VQ_SIZE_MAX]; /* by id */
	struct vq_log_desc desc[VQ_SIZE_MAX]; /* packed */
};

/* What the process knows of a queue: cached, made from the two above. */
struct vq {
	struct device *dev;
	struct vq_log *log;
	uint64_t features; /* negotiated */
	unsigned index;
	uint16_t size;
	bool packed, event_idx;
	bool ready; /* mapped and enabled */
	bool armed; /* the driver was asked to ring */
	uint16_t replay_n, replay_i;
	uint16_t replay[VQ_SIZE_MAX]; /* ids that the log had, in order */
	void *desc, *driver, *device; /* mapped */
	uint64_t taken, nused; /* chains, ever */
	uint16_t avail, used; /* next positions */
	bool avail_wrap, used_wrap; /* packed */
	uint64_t log_free[VQ_SIZE_MAX / 64]; /* packed: bits of log->desc */
	/* Ring slots used since the last vq_wants_signal(). */
	uint32_t unsignalled;
};

/* One chain: memory of the driver's, device-readable segments first. */
struct vq_chain {
	uint16_t id;
	bool again; /* given for the second time: a process died over it */
	bool fail; /* on purpose: fail it as the device's kind fails */
	unsigned nout, nin; /* segments */
	uint32_t out_bytes, in_bytes;
	uint64_t cookie;
	struct iovec iov[VQ_SEGMENTS_MAX]; /* out, then in */
};

/* Is a size and are three addresses what a driver may set?  0 or -EINVAL. */
int vq_check(struct device *dev, const struct vq_state *s, uint64_t features);

/*
 * Take up a queue: check what the driver set up, map it, and go through its
 * log.  A log of another epoch is made empty, and the rings are at their
 * beginning.  0; -EINVAL: NEEDS_RESET.
 */
int vq_open(struct vq *q, struct device *dev, unsigned index,
    const struct vq_state *state, struct vq_log *log, uint64_t features,
    uint64_t epoch);
/* The driver has reset it. */
void vq_close(struct vq *q);

/* Take the next chain.  1; 0: there is none (and the driver was asked to ring
 * when there is); -EINVAL: the driver broke the rules. */
int vq_pop(struct vq *q, struct vq_chain *c);
/* Put back the chain last popped (for a receiver without a packet). */
void vq_unpop(struct vq *q, const struct vq_chain *c);
/* Is there a chain?  Cheap: for polling. */
bool vq_pending(const struct vq *q);
/* Keep a word with a chain in flight; a replayed chain brings it back. */
void vq_note(struct vq *q, const struct vq_chain *c, uint64_t cookie);
/* Use a chain: `written` bytes of its device-writable part are filled. */
void vq_push(struct vq *q, uint16_t id, uint32_t written);
/*
 * For receivers that spread a packet over several chains: n chains become
 * visible to the driver in one store.
 */
void vq_push_many(
    struct vq *q, const uint16_t *id, const uint32_t *written, unsigned n);
/* Must the driver be interrupted for what was used since the last call?  By
 * the flags or the event index. */
bool vq_wants_signal(struct vq *q);
/* Chains in flight. */
unsigned vq_in_flight(const struct vq *q);

/* Copy out of the readable part at an offset; how many bytes there were. */
size_t vq_read(const struct vq_chain *c, size_t offset, void *to, size_t n);
/* Copy into the writable part at an offset. */
size_t
vq_write(const struct vq_chain *c, size_t offset, const void *from, size_t n);
/* The segments of [offset, offset + n) of the readable or writable part; how
 * many, 0 if it is not that long. */
unsigned vq_slice(const struct vq_chain *c, bool writable, size_t offset,
    size_t n, struct iovec *out, unsigned max);

#endif
