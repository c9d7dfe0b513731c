/*
 * The intercept ring.  The producer's functions run on a vCPU thread of the
 * broker, the consumer's on the device's only thread.
 */
#include "proto/ring.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * The futex word is the low half of tail.  A waiter can miss a tail that moved
 * by exactly 2^32 between its look and its sleep; it sleeps with a timeout.
 */
static uint32_t *
tail_word(struct ring *r)
{
	return (uint32_t *)((uintptr_t)r + offsetof(struct ring, tail));
}

static void
full_fence(void)
{
#ifdef BULKHEAD_TSAN
	/* TSan does not model fences: a locked add orders the same on x86. */
	static _Atomic int dummy;

	atomic_fetch_add(&dummy, 1);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

int
ring_put(struct ring *r, uint64_t *pos, const struct ring_request *req)
{
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
	uint64_t head = *pos;

	if (head - tail > RING_SLOTS)
		return -EPROTO;
	if (head - tail == RING_SLOTS)
		return -EAGAIN;
	r->req[head % RING_SLOTS] = *req;
	/* Pairs with the acquire of head in ring_take(). */
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	*pos = head + 1;
	return 0;
}

bool
ring_kick_needed(struct ring_set *set)
{
	/*
	 * Store head, fence, load armed; pairs with ring_arm(): store armed,
	 * fence, load head.  One of the two sees the other.
	 */
	full_fence();
	if (!atomic_load_explicit(&set->consumer_armed, memory_order_relaxed))
		return false;
	return atomic_exchange(&set->consumer_armed, 0) != 0;
}

int
ring_poll_answer(struct ring *r, uint64_t pos, uint64_t *answer)
{
	/* Pairs with the release of tail in ring_answer(). */
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (tail > head || head - tail > RING_SLOTS)
		return -EPROTO;
	if (tail <= pos)
		return 0;
	*answer = r->answer[pos % RING_SLOTS];
	return 1;
}

void
ring_wait(struct ring *r, uint64_t pos, uint64_t timeout_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / 1000000000u),
		.tv_nsec = (long)(timeout_ns % 1000000000u),
	};
	uint64_t tail;

	atomic_store_explicit(&r->producer_waits, 1, memory_order_relaxed);
	/*
	 * Store waits, fence, load tail; pairs with ring_answer(): store tail,
	 * fence, load waits.
	 */
	full_fence();
	tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	if (tail <= pos)
		syscall(SYS_futex, tail_word(r), FUTEX_WAIT, (uint32_t)tail,
		    &ts, NULL, 0);
	atomic_store_explicit(&r->producer_waits, 0, memory_order_relaxed);
}

void
ring_wake_producer(struct ring *r)
{
	syscall(SYS_futex, tail_word(r), FUTEX_WAKE, 1, NULL, NULL, 0);
}

int
ring_take(
    const struct ring *r, unsigned vcpu, uint64_t pos, struct ring_request *req)
{
	/* Pairs with the release of head in ring_put(). */
	uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);

	if (head - pos > RING_SLOTS)
		return -EPROTO;
	if (head == pos)
		return 0;
	*req = r->req[pos % RING_SLOTS];
	req->vcpu = vcpu;
	if (req->op > RING_SYNC || req->size == 0 || req->size > 8 ||
	    (req->size & (req->size - 1)) != 0)
		return -EPROTO;
	return 1;
}

void
ring_answer(struct ring *r, uint64_t pos, uint64_t answer)
{
	if (pos > 0)
		r->answer[(pos - 1) % RING_SLOTS] = answer;
	/* Pairs with the acquire of tail in ring_poll_answer(). */
	atomic_store_explicit(&r->tail, pos, memory_order_release);
	/* Store tail, fence, load waits; pairs with ring_wait(). */
	full_fence();
	if (atomic_load_explicit(&r->producer_waits, memory_order_relaxed))
		ring_wake_producer(r);
}

void
ring_arm(struct ring_set *set)
{
	atomic_store_explicit(&set->consumer_armed, 1, memory_order_relaxed);
	/* Store armed, fence, load head; pairs with ring_kick_needed(). */
	full_fence();
}

void
ring_disarm(struct ring_set *set)
{
	atomic_store_explicit(&set->consumer_armed, 0, memory_order_relaxed);
}
