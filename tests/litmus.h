/*
 * A litmus loop for "store, fence, load" on both sides of a sleep: one thread
 * makes an item and asks whether to kick, the other arms, looks again and
 * waits, both after random delays.  A wake-up is lost when the maker has
 * decided not to kick and the waiter has seen nothing.
 *
 * Nobody really sleeps, so a loop runs a million rounds in a second or two, and
 * a lost wake-up is a fact and not a matter of time.
 */
#ifndef TESTS_LITMUS_H
#define TESTS_LITMUS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "proto/base.h"

#define LITMUS_ROUNDS 1000000u
#define LITMUS_NS     3000000000u
/* Steps, of about a cycle: some times the way of a cache line between cores. */
#define LITMUS_DELAY 1024u

struct litmus {
	bool (*make)(void *ctx); /* one item; true: kick */
	void (*arm)(void *ctx);
	bool (*look)(void *ctx); /* is it there? */
	void (*take)(void *ctx);
	void *ctx;
	/* The loop's own. */
	_Atomic uint64_t made, taken, kicks;
	atomic_bool stop;
	uint64_t lost, rounds;
};

static inline uint64_t
litmus_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static inline void
litmus_delay(uint64_t *state, unsigned max)
{
	for (uint64_t n = litmus_random(state) % max; n > 0; n--)
		__asm__ volatile("" ::: "memory");
}

/* The other thread may need this very processor. */
static inline void
litmus_spin(unsigned *n)
{
	cpu_relax();
	if (++*n % 128 == 0)
		sched_yield();
}

static inline void *
litmus_maker(void *arg)
{
	struct litmus *l = arg;
	uint64_t seed = 88172645463325252u;

	for (uint64_t n = 1;; n++) {
		unsigned spins = 0;

		while (atomic_load_explicit(&l->taken, memory_order_acquire) !=
		    n - 1) {
			if (atomic_load_explicit(
				&l->stop, memory_order_relaxed))
				return NULL;
			litmus_spin(&spins);
		}
		litmus_delay(&seed, LITMUS_DELAY);
		if (l->make(l->ctx))
			atomic_fetch_add_explicit(
			    &l->kicks, 1, memory_order_relaxed);
		atomic_store_explicit(&l->made, n, memory_order_release);
	}
}

/* Waiter's round n: has the wake-up been lost? */
static inline bool
litmus_wait(struct litmus *l, uint64_t n, uint64_t kicks_before)
{
	unsigned spins = 0;

	for (;;) {
		uint64_t made =
		    atomic_load_explicit(&l->made, memory_order_acquire);

		if (atomic_load_explicit(&l->kicks, memory_order_relaxed) !=
		    kicks_before)
			return false;
		if (made >= n)
			return true;
		litmus_spin(&spins);
	}
}

static inline void
litmus_run(struct litmus *l)
{
	uint64_t seed = 2463534242u, end = time_now_ns() + LITMUS_NS;
	uint64_t kicks = 0;
	pthread_t maker;

	BUG_ON(pthread_create(&maker, NULL, litmus_maker, l) != 0);
	for (uint64_t n = 1; n <= LITMUS_ROUNDS; n++) {
		unsigned spins = 0;

		litmus_delay(&seed, LITMUS_DELAY);
		l->arm(l->ctx);
		if (!l->look(l->ctx) && litmus_wait(l, n, kicks))
			l->lost++;
		while (atomic_load_explicit(&l->made, memory_order_acquire) < n)
			litmus_spin(&spins);
		kicks = atomic_load_explicit(&l->kicks, memory_order_relaxed);
		l->take(l->ctx);
		l->rounds = n;
		if (n % 1024 == 0 && time_now_ns() > end)
			break;
		atomic_store_explicit(&l->taken, n, memory_order_release);
	}
	atomic_store_explicit(&l->taken, ~(uint64_t)0, memory_order_release);
	atomic_store(&l->stop, true);
	pthread_join(maker, NULL);
}

#endif
