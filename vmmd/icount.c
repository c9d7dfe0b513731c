/* Guest time by instructions; on the vCPU's thread. */
#include "vmmd/icount.h"

#include <sched.h>
#include <time.h>

#include "proto/base.h"

/* How long a device may take for what it has begun, before the guest goes on
 * and sees the end of it when it comes: host's time. */
#define BUSY_NS 2000000000u
/* How long the end may take that the guest has asked for. */
#define END_NS 5000000000u

void
icount_init(struct icount *ic, const struct hv_backend *hv,
    struct hv_partition *partition)
{
	*ic = (struct icount){
		.hv = hv,
		.partition = partition,
		.hash = 0x9e3779b97f4a7c15u,
	};
}

void
icount_add_port(struct icount *ic, struct port *port)
{
	BUG_ON(ic->nports == ICOUNT_PORTS);
	ic->port[ic->nports++] = port;
}

uint64_t
icount_now_ns(const struct icount *ic)
{
	return ic->hv->now_ns(ic->partition);
}

/* ---- what the guest has met ---- */

static void
mix(struct icount *ic, uint64_t v)
{
	uint64_t h = (ic->hash ^ v) * 0xff51afd7ed558ccdu;

	ic->hash = h ^ h >> 32;
}

static bool
stopping(const struct port *p)
{
	return atomic_load_explicit(p->stopping, memory_order_acquire);
}

static void
await_end(const struct port *p)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	uint64_t start = time_now_ns();

	while (!stopping(p) && time_now_ns() - start < END_NS)
		nanosleep(&ms, NULL);
}

void
icount_note(
    struct icount *ic, const struct hv_access *a, const struct port *port)
{
	if (ic->ended)
		return;
	ic->accesses++;
	ic->insns = ic->hv->icount(ic->partition);
	mix(ic, ic->insns);
	mix(ic, icount_now_ns(ic));
	mix(ic, a->addr);
	mix(ic, a->data);
	mix(ic,
	    (uint64_t)a->size << 2 | (uint64_t)a->write << 1 |
		(a->space == HV_MMIO));
	if (port == NULL || port->set == NULL ||
	    !atomic_load_explicit(&port->set->platform, memory_order_acquire))
		return;
	ic->ended = true;
	await_end(port);
}

/* ---- asking the devices ---- */

static bool
gone(const struct port *p)
{
	return p->set == NULL || atomic_load(&p->removed) || stopping(p);
}

static uint64_t
deadline(const struct port *p)
{
	return atomic_load_explicit(&p->set->deadline_ns, memory_order_acquire);
}

/* Until all that it has begun has ended; as far as the guest sees, at once. */
static void
ask(struct port *p, uint64_t now_ns)
{
	const struct ring_request request = {
		.op = RING_SYNC,
		.size = 1,
		.time_ns = now_ns,
	};
	uint64_t start = time_now_ns();

	while (port_access(p, 0, &request) != 0 && !gone(p) &&
	    time_now_ns() - start < BUSY_NS)
		sched_yield();
}

uint64_t
icount_settle(struct icount *ic, uint64_t now_ns, bool told)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < ic->nports; i++) {
		struct port *p = ic->port[i];

		if (gone(p))
			continue;
		if (told || deadline(p) <= now_ns)
			ask(p, now_ns);
		if (!gone(p))
			next = MIN(next, deadline(p));
	}
	return next;
}
