/* Intercepts; on the vCPUs' threads, but for what the header says. */
#include "vmmd/intercept.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "vmmd/icount.h"
#include "vmmd/pci.h"

#define SLICE_NS   100000000u /* the longest sleep without a look around */
#define SPIN_LEAST 1000u /* below this, spinning is not worth it */
#define SPIN_LOOK  64u /* polls between two looks at the clock */
#define SPIN_RETRY 32u /* sleeps before spinning is tried again */
#define SPIN_ALONE 4000u /* from then on, let others have the core */
#define SPIN_USUAL 10000u /* covers a handler */
#define UNANSWERED UINT64_MAX

struct port *
port_new(unsigned vcpus)
{
	/* Of 64 bytes both, and so a multiple of the alignment. */
	size_t size = sizeof(struct port) + vcpus * sizeof(struct port_lane);
	struct port *p = aligned_alloc(64, size);

	if (p == NULL)
		return NULL;
	memset(p, 0, size);
	p->vcpus = vcpus;
	return p;
}

static void
kick(int fd)
{
	uint64_t one = 1;
	/* Fails only when the count is full: then it is readable anyway. */
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n;
}

/* A millisecond, by a system call that a vCPU's thread has anyway. */
static void
nap(void)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	uint32_t nobody = 0;

	syscall(SYS_futex, &nobody, FUTEX_WAIT_PRIVATE, 0, &ms, NULL, 0);
}

static bool
given_up(const struct port *p)
{
	return atomic_load_explicit(&p->removed, memory_order_acquire) ||
	    atomic_load_explicit(p->stopping, memory_order_acquire);
}

static void
report_fault(struct port *p, uint32_t generation)
{
	if (atomic_exchange(&p->fault, generation + 1) != generation + 1)
		kick(p->fault_fd);
}

/*
 * Bounded, and no longer than what answers have lately taken: it covers the
 * handler of a device that is awake on another core.  One that shares our core
 * gets it by the yield.
 */
static int
spin(struct port_lane *lane, struct ring *r, uint64_t pos, uint64_t max_ns,
    uint64_t *answer)
{
	uint64_t budget = lane->spin_ns, start, spent = 0;
	int done;

	if (budget < SPIN_LEAST) {
		if (max_ns < SPIN_LEAST || ++lane->sleeps % SPIN_RETRY != 0)
			return 0;
		budget = max_ns;
	}
	start = time_now_ns();
	while (spent < budget) {
		for (unsigned i = 0; i < SPIN_LOOK; i++) {
			done = ring_poll_answer(r, pos, answer);
			if (done != 0)
				goto answered;
			cpu_relax();
		}
		spent = time_now_ns() - start;
		if (spent > SPIN_ALONE)
			sched_yield();
	}
	/* It was in vain: half as long the next time. */
	lane->spin_ns = budget / 2;
	return 0;
answered:
	spent = MAX(spent * 4, (uint64_t)SPIN_USUAL);
	lane->spin_ns = MIN(spent, max_ns);
	return done;
}

/*
 * How long to sleep before the next look around; tells of a device that is over
 * its deadline.
 */
static uint64_t
next_slice(struct port *p, uint64_t since_ns)
{
	uint64_t ready =
	    atomic_load_explicit(&p->ready_ns, memory_order_acquire);
	uint32_t generation = atomic_load(&p->generation);
	uint64_t waited, now = time_now_ns();

	since_ns = MAX(since_ns, ready);
	waited = now > since_ns ? now - since_ns : 0;
	if (ready == 0 || p->deadline_ns == 0 ||
	    atomic_load(&p->overdue) == generation + 1)
		return SLICE_NS;
	if (waited < p->deadline_ns)
		return MIN(p->deadline_ns - waited, (uint64_t)SLICE_NS);
	atomic_store(&p->overdue, generation + 1);
	kick(p->fault_fd);
	return SLICE_NS;
}

/*
 * Sleep until position pos is answered.  The device may die and come back
 * meanwhile.
 */
static int
wait_answer(struct port *p, unsigned vcpu, uint64_t pos, uint64_t *answer)
{
	struct port_lane *lane = &p->lane[vcpu];
	struct ring *r = &p->set->ring[vcpu];
	uint32_t generation;
	int done = ring_poll_answer(r, pos, answer);
	uint64_t since;

	/*
	 * Also for one that must be woken first: if we slept too, it would be
	 * asleep again when we are awake, and so on through a whole burst.
	 */
	if (done == 0)
		done = spin(lane, r, pos, p->spin_max_ns, answer);
	if (done == 1)
		return 1;
	since = time_now_ns();
	atomic_store_explicit(
	    &lane->waiting_since_ns, since, memory_order_relaxed);
	for (;;) {
		generation =
		    atomic_load_explicit(&p->generation, memory_order_acquire);
		done = ring_poll_answer(r, pos, answer);
		if (done == 1 || given_up(p))
			break;
		if (done < 0) {
			report_fault(p, generation);
			nap();
		} else {
			stats_add(&lane->stats.sleeps, 1);
			ring_wait(r, pos, next_slice(p, since));
		}
		/*
		 * The head is ours to say, whatever the device wrote there;
		 * one that went to sleep on the wrong one must look again.
		 */
		atomic_store_explicit(&r->head,
		    atomic_load_explicit(&lane->pos, memory_order_relaxed),
		    memory_order_release);
		if (ring_kick_needed(p->set))
			kick(p->kick_fd);
	}
	atomic_store_explicit(&lane->waiting_since_ns, 0, memory_order_relaxed);
	return done == 1;
}

static uint64_t
ring_access(struct port *p, unsigned vcpu, const struct ring_request *request)
{
	struct port_lane *lane = &p->lane[vcpu];
	struct ring *r = &p->set->ring[vcpu];
	uint64_t answer, pos;
	int done;

	for (;;) {
		uint32_t generation =
		    atomic_load_explicit(&p->generation, memory_order_acquire);

		if (given_up(p))
			return UNANSWERED;
		pos = atomic_load_explicit(&lane->pos, memory_order_relaxed);
		done = ring_put(r, &pos, request);
		if (done == 0)
			break;
		if (done == -EAGAIN && pos >= RING_SLOTS) {
			/* Full of posted writes: wait for the oldest. */
			wait_answer(p, vcpu, pos - RING_SLOTS, &answer);
		} else {
			/* Full of less than its slots, or not even that. */
			report_fault(p, generation);
			nap();
		}
	}
	lane->sent[(pos - 1) % RING_SLOTS] = *request;
	/* Pairs with the acquire in port_recover(), which reads `sent`. */
	atomic_store_explicit(&lane->pos, pos, memory_order_release);
	if (ring_kick_needed(p->set))
		kick(p->kick_fd);
	if (request->op == RING_WRITE_POSTED)
		return 0;
	return wait_answer(p, vcpu, pos - 1, &answer) ? answer : UNANSWERED;
}

uint64_t
port_access(struct port *p, unsigned vcpu, const struct ring_request *request)
{
	if (p->inline_ops != NULL)
		return given_up(p)
		    ? UNANSWERED
		    : p->inline_ops->access(p->inline_host, vcpu, request);
	return ring_access(p, vcpu, request);
}

int
port_recover(struct port *p, const struct store *store)
{
	const struct store_position *committed =
	    store_committed_positions(store);

	for (unsigned v = 0; v < p->vcpus; v++) {
		struct port_lane *lane = &p->lane[v];
		struct ring *r = &p->set->ring[v];
		/* Read once: the memory is the dead device's, not ours. */
		uint64_t next = *(const volatile uint64_t *)&committed[v].next;
		uint64_t pos =
		    atomic_load_explicit(&lane->pos, memory_order_acquire);

		/* The vCPU may be between putting a request and counting it. */
		if (next > pos + 1 || pos + 1 - next > RING_SLOTS + 1)
			return -EPROTO;
		for (uint64_t i = next; i < pos; i++)
			r->req[i % RING_SLOTS] = lane->sent[i % RING_SLOTS];
		/* A vCPU that puts one just now says its head again. */
		atomic_store_explicit(&r->head, pos, memory_order_release);
		/* What was published a vCPU may be reading; what was not, none
		 * is.  It may have died before it woke the vCPU. */
		if (atomic_load_explicit(&r->tail, memory_order_acquire) ==
		    next)
			ring_wake_producer(r);
		else
			ring_answer(r, next, committed[v].answer);
	}
	atomic_fetch_add(&p->generation, 1);
	return 0;
}

void
port_remove(struct port *p)
{
	atomic_store(&p->removed, true);
	port_wake(p);
}

bool
port_faulted(const struct port *p)
{
	return atomic_load(&p->fault) == atomic_load(&p->generation) + 1;
}

uint64_t
port_waited_ns(const struct port *p, uint64_t since_ns, uint64_t now)
{
	uint64_t longest = 0;

	for (unsigned v = 0; v < p->vcpus; v++) {
		uint64_t from = atomic_load_explicit(
		    &p->lane[v].waiting_since_ns, memory_order_relaxed);

		if (from == 0)
			continue;
		from = MAX(from, since_ns);
		if (now > from)
			longest = MAX(longest, now - from);
	}
	return longest;
}

bool
port_busy(const struct port *p)
{
	if (p->inline_ops != NULL)
		return false;
	for (unsigned v = 0; v < p->vcpus; v++)
		if (atomic_load_explicit(
			&p->set->ring[v].tail, memory_order_acquire) !=
		    atomic_load_explicit(&p->lane[v].pos, memory_order_acquire))
			return true;
	return false;
}

void
port_wake(struct port *p)
{
	if (p->set == NULL)
		return;
	for (unsigned v = 0; v < p->vcpus; v++)
		ring_wake_producer(&p->set->ring[v]);
}

/* ---- the map ---- */

static bool
before(enum hv_space space, uint64_t addr, const struct route *r)
{
	return space != r->space ? space < r->space : addr < r->base;
}

/* Index of the first route that lies behind addr. */
static unsigned
upper_bound(const struct route_table *t, enum hv_space space, uint64_t addr)
{
	unsigned lo = 0, hi = t->n;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (before(space, addr, &t->routes[mid]))
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

int
route_table_add(struct route_table *t, const struct route *route)
{
	unsigned i = upper_bound(t, route->space, route->last);

	if (t->n == INTERCEPT_ROUTES)
		return -ENOSPC;
	if (i > 0 && t->routes[i - 1].space == route->space &&
	    t->routes[i - 1].last >= route->base)
		return -EEXIST;
	memmove(&t->routes[i + 1], &t->routes[i],
	    (t->n - i) * sizeof(t->routes[0]));
	t->routes[i] = *route;
	t->n++;
	return 0;
}

void
route_table_remove(struct route_table *t, enum hv_space space, uint64_t base)
{
	unsigned i = upper_bound(t, space, base);

	if (i == 0 || t->routes[i - 1].space != space ||
	    t->routes[i - 1].base != base)
		return;
	t->n--;
	memmove(&t->routes[i - 1], &t->routes[i],
	    (t->n - (i - 1)) * sizeof(t->routes[0]));
}

const struct route *
route_table_find(
    const struct route_table *t, enum hv_space space, uint64_t addr)
{
	unsigned i = upper_bound(t, space, addr);

	if (i == 0 || t->routes[i - 1].space != space ||
	    t->routes[i - 1].last < addr)
		return NULL;
	return &t->routes[i - 1];
}

struct route_table *
address_map_edit(struct address_map *map)
{
	uint64_t version =
	    atomic_load_explicit(&map->version, memory_order_relaxed);
	struct route_table *next = &map->table[(version + 1) & 1];

	*next = map->table[version & 1];
	return next;
}

void
address_map_publish(struct address_map *map)
{
	/*
	 * Sequentially consistent, as is the load of `reading` below; pairs
	 * with the store of `reading` and then the load of `version` in
	 * intercept_find().  Either that load sees this version, or the loop
	 * sees that reader.
	 */
	atomic_fetch_add(&map->version, 1);
	for (unsigned i = 0; i < RING_MAX_VCPUS; i++)
		/* Acquire: what it read, it read before the next edit. */
		while (atomic_load(&map->reader[i].reading) != 0)
			sched_yield();
}

bool
intercept_find(
    struct intercept *ic, enum hv_space space, uint64_t addr, struct route *out)
{
	struct address_map *map = ic->map;
	_Atomic uint32_t *reading = &map->reader[ic->vcpu].reading;
	const struct route *r;

	/* Pairs with address_map_publish(). */
	atomic_store(reading, 1);
	ic->version = atomic_load(&map->version);
	r = route_table_find(&map->table[ic->version & 1], space, addr);
	if (r != NULL)
		*out = *r;
	atomic_store_explicit(reading, 0, memory_order_release);
	return r != NULL;
}

/* ---- accesses ---- */

static bool
inside(const struct route *r, const struct hv_access *a)
{
	return r->space == a->space && a->addr >= r->base && a->addr <= r->last;
}

/*
 * The route of an access; false: none.  The last one is as good as a look into
 * the map if that has not changed since: one that changes it just now may as
 * well come a moment later.
 */
static bool
find(struct intercept *ic, const struct hv_access *a)
{
	if ((ic->last.port != NULL || ic->last.pci != NULL) &&
	    inside(&ic->last, a) &&
	    atomic_load_explicit(&ic->map->version, memory_order_acquire) ==
		ic->version)
		return true;
	if (intercept_find(ic, a->space, a->addr, &ic->last))
		return true;
	ic->last.port = NULL;
	ic->last.pci = NULL;
	return false;
}

/* Two looks at the clock, of which one is needed anyway. */
static void
note_wait(struct stats_wait *stats, uint64_t since_ns)
{
	uint64_t ns = time_now_ns() - since_ns;

	stats_note(&stats->answer, ns);
	stats_add(&stats->waited_ns, ns * STATS_SAMPLE);
}

void
intercept_route(
    struct intercept *ic, const struct route *r, struct hv_access *a)
{
	struct port *port = r->port;
	struct stats_wait *stats = &port->lane[ic->vcpu].stats;
	struct ring_request request = {
		.addr = a->addr - r->base,
		.data = a->write ? a->data & ring_size_mask(a->size) : 0,
		.region = r->region,
		.op = (uint8_t)(!a->write ? RING_READ
			: r->posted	  ? RING_WRITE_POSTED
					  : RING_WRITE),
		.size = a->size,
		.vcpu = ic->vcpu,
	};
	uint64_t now = time_now_ns(), answer;

	request.time_ns = ic->icount != NULL
	    ? icount_now_ns(ic->icount)
	    : now + (uint64_t)port->clock_offset_ns;
	answer = port_access(port, ic->vcpu, &request);
	stats_add(&stats->accesses, 1);
	if (stats_get(&stats->accesses) % STATS_SAMPLE == 0)
		note_wait(stats, now);
	if (!a->write)
		a->data = answer & ring_size_mask(a->size);
	else if (r->wiring && port->written != NULL)
		port->written(port->written_ctx);
}

static void access_route(struct intercept *ic, struct hv_access *a);

/* It reaches over the end of a range: byte by byte, as on a narrow bus. */
static void
split_access(struct intercept *ic, struct hv_access *a)
{
	uint64_t data = 0;

	for (unsigned i = 0; i < a->size; i++) {
		struct hv_access b = {
			.addr = a->addr + i,
			.data = (a->data >> (i * 8)) & 0xff,
			.size = 1,
			.write = a->write,
			.space = a->space,
		};

		access_route(ic, &b);
		data |= (b.data & 0xff) << (i * 8);
	}
	if (!a->write)
		a->data = data;
}

static void
count(struct stats_vcpu *s, const struct hv_access *a)
{
	if (a->space == HV_PIO)
		stats_add(a->write ? &s->pio_writes : &s->pio_reads, 1);
	else
		stats_add(a->write ? &s->mmio_writes : &s->mmio_reads, 1);
}

static void
access_route(struct intercept *ic, struct hv_access *a)
{
	bool found = find(ic, a);
	struct route route;

	if (found && a->size - 1u <= ic->last.last - a->addr) {
		count(&ic->stats, a);
		if (ic->last.pci != NULL)
			pci_access(ic->last.pci, ic, a);
		else
			intercept_route(ic, &ic->last, a);
		return;
	}
	if (a->size > 1 &&
	    (found ||
		intercept_find(ic, a->space, a->addr + a->size - 1, &route))) {
		split_access(ic, a);
		return;
	}
	count(&ic->stats, a);
	stats_add(&ic->stats.unclaimed, 1);
	if (!a->write)
		a->data = ring_size_mask(a->size);
}

void
intercept_access(void *ctx, struct hv_access *a)
{
	struct intercept *ic = ctx;

	access_route(ic, a);
	if (ic->icount != NULL)
		icount_note(ic->icount, a, ic->last.port);
}
