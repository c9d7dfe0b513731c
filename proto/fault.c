/* Faults made on purpose. */
#include "proto/fault.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"

#define MILLION 1000000u

static const char *const names[] = { "none", "kill", "hang", "slow", "error",
	"drop", "corrupt-answer" };

int
fault_kind_parse(const char *name)
{
	for (unsigned i = 1; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -EINVAL;
}

const char *
fault_kind_name(unsigned kind)
{
	return kind < ARRAY_LEN(names) ? names[kind] : "?";
}

/* The n-th of a sequence: it must not matter how often the process died. */
static uint64_t
random_at(uint64_t seed, uint64_t n)
{
	uint64_t x = seed + (n + 1) * 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static bool
is_about(const struct fault_plan *p, const struct fault_request *r)
{
	if (p->on != FAULT_ON_ANY && p->on != (uint32_t)r->on)
		return false;
	if (r->on == FAULT_ON_QUEUE)
		return p->queue == UINT16_MAX || p->queue == r->queue;
	return (p->region == UINT16_MAX || p->region == r->region) &&
	    (p->address == UINT64_MAX || p->address == r->address);
}

static uint64_t
add_one(_Atomic uint64_t *counter)
{
	uint64_t n = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, n + 1, memory_order_relaxed);
	return n;
}

static bool
fires(struct fault_plan *p, const struct fault_request *r)
{
	uint64_t nth;

	/* Pairs with the release in fault_arm(). */
	if (atomic_load_explicit(&p->armed, memory_order_acquire) == 0 ||
	    r->now_ns > p->until_ns || !is_about(p, r))
		return false;
	nth = add_one(&p->seen);
	if (nth < p->after)
		return false;
	if (p->per_million != 0 &&
	    random_at(p->seed, nth) % MILLION >= p->per_million)
		return false;
	/* Counted before it happens: a death is not to fire it again. */
	if (add_one(&p->fired) + 1 >= p->times && p->times != 0)
		atomic_store_explicit(&p->armed, 0, memory_order_relaxed);
	return true;
}

struct fault_hit
fault_match(struct fault_plans *plans, const struct fault_request *request)
{
	struct fault_hit hit = { .kind = FAULT_NONE };

	if (atomic_load_explicit(&plans->any, memory_order_relaxed) == 0)
		return hit;
	for (unsigned i = 0; i < FAULT_PLANS; i++) {
		struct fault_plan *p = &plans->plan[i];

		if (fires(p, request) && hit.kind == FAULT_NONE)
			hit = (struct fault_hit){
				.kind = (enum fault_kind)p->kind,
				.value = p->value,
			};
	}
	return hit;
}

int
fault_arm(struct fault_plans *plans, const struct fault_plan *plan)
{
	if (plan->kind == FAULT_NONE || plan->kind > FAULT_CORRUPT ||
	    plan->on > FAULT_ON_QUEUE || plan->per_million > MILLION)
		return -EINVAL;
	for (unsigned i = 0; i < FAULT_PLANS; i++) {
		struct fault_plan *p = &plans->plan[i];

		if (atomic_load_explicit(&p->armed, memory_order_relaxed) != 0)
			continue;
		*p = *plan;
		atomic_store_explicit(&p->seen, 0, memory_order_relaxed);
		atomic_store_explicit(&p->fired, 0, memory_order_relaxed);
		/* Pairs with the acquire in fires(). */
		atomic_store_explicit(&p->armed, 1, memory_order_release);
		atomic_store_explicit(&plans->any, 1, memory_order_release);
		return (int)i;
	}
	return -ENOSPC;
}

void
fault_disarm_all(struct fault_plans *plans)
{
	for (unsigned i = 0; i < FAULT_PLANS; i++)
		atomic_store_explicit(
		    &plans->plan[i].armed, 0, memory_order_relaxed);
	atomic_store_explicit(&plans->any, 0, memory_order_relaxed);
}
