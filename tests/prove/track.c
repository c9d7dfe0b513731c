/* States of memory, and the process whose stores make them. */
#include <signal.h>
#include <ucontext.h>

#include "tests/prove/prove.h"

#define TRAP_FLAG     0x100
#define AT_ONCE	      2048u /* pages that one instruction or call may write */
#define RUBBISH	      0xa5
#define NO_CONTENT    0u

#define STATE_SLOTS   (PROVE_STATES * 4u)
#define CONTENT_SLOTS (PROVE_CONTENTS * 4u)

struct prove_arena {
	uint32_t nstates, ncontents, ndeltas;
	bool full;
	uint64_t steps, stores;
	struct outcome outcome;
	uint64_t raised[PROVE_FDS / 64]; /* by the process that runs */
	uint64_t used[PROVE_QUEUES];
	/* Of the process that runs: contents of pages, 0: as in state 0. */
	uint32_t now[PROVE_PAGES];
	uint32_t touched[PROVE_PAGES], ntouched;
	/* Of the scenario: contents of pages in state 0; 0: not looked at. */
	uint32_t first[PROVE_PAGES];
	struct prove_state state[PROVE_STATES];
	uint32_t state_slot[STATE_SLOTS]; /* index + 1 */
	uint32_t content_slot[CONTENT_SLOTS];
	uint64_t content_hash[PROVE_CONTENTS];
	uint32_t delta[PROVE_DELTAS];
	uint8_t content[PROVE_CONTENTS][PROVE_PAGE];
};

/* The process under observation. */
static struct prover *observed;
static bool on;
static struct prove_state here; /* its state */
static uint32_t pending[AT_ONCE]; /* pages that are writable now */
static unsigned npending;
static uint8_t front[64 * PROVE_PAGE];

/* ---- hashes and contents ---- */

static uint64_t
mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * 0x9e3779b97f4a7c15u;
	a ^= a >> 29;
	a *= 0xbf58476d1ce4e5b9u;
	return a ^ a >> 32;
}

uint64_t
track_hash(const void *bytes, size_t n)
{
	const uint8_t *b = bytes;
	uint64_t lane[4] = { 1, 2, 3, 4 }, word;
	size_t at = 0;

	for (; at + 32 <= n; at += 32)
		for (unsigned i = 0; i < 4; i++) {
			memcpy(&word, b + at + 8 * i, 8);
			lane[i] = (lane[i] ^ word) * 0x9e3779b97f4a7c15u;
			lane[i] ^= lane[i] >> 31;
		}
	for (; at < n; at++)
		lane[at % 4] = mix(lane[at % 4], b[at]);
	return mix(mix(lane[0], lane[1]), mix(lane[2], mix(lane[3], n)));
}

/* The number of a page's content; 0 if there is no room for it. */
static uint32_t
intern(struct prove_arena *a, const uint8_t *page)
{
	uint64_t hash = track_hash(page, PROVE_PAGE);
	uint32_t slot = (uint32_t)(hash % CONTENT_SLOTS), id;

	while ((id = a->content_slot[slot]) != 0) {
		if (a->content_hash[id - 1] == hash &&
		    memcmp(a->content[id - 1], page, PROVE_PAGE) == 0)
			return id;
		slot = (slot + 1) % CONTENT_SLOTS;
	}
	if (a->ncontents == PROVE_CONTENTS) {
		a->full = true;
		return NO_CONTENT;
	}
	id = a->ncontents++;
	memcpy(a->content[id], page, PROVE_PAGE);
	a->content_hash[id] = hash;
	a->content_slot[slot] = id + 1;
	return id + 1;
}

void
track_make_arena(struct prover *p)
{
	p->arena = mmap(NULL, sizeof(*p->arena), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	BUG_ON(p->arena == MAP_FAILED);
}

/* ---- regions ---- */

static struct prove_region *
region_of(struct prover *p, uint32_t page)
{
	for (unsigned i = 0; i < p->nregions; i++)
		if (page - p->region[i].first < p->region[i].size / PROVE_PAGE)
			return &p->region[i];
	BUG_ON(true);
}

static uint8_t *
page_at(struct prover *p, uint32_t page)
{
	struct prove_region *r = region_of(p, page);

	return r->base + (size_t)(page - r->first) * PROVE_PAGE;
}

/* ---- the store before its log ---- */

/* Counts of which only matters whether they are above zero: then they are one.
 * An interrupt too many is harmless, so at the end not even that matters. */
static void
make_plain(struct prover *p, uint8_t *slot, uint64_t one)
{
	size_t at = (size_t)((const uint8_t *)store_committed_state(&p->store) -
	    (const uint8_t *)store_committed_positions(&p->store));
	struct pci_state *s;

	if (p->type->dma == DEVICE_DMA_NONE || !p->type->family)
		return;
	s = (struct pci_state *)(void *)(slot + at);
	for (unsigned i = 0; i < DEVICE_VECTORS_MAX; i++)
		s->vector[i].sent = s->vector[i].sent > 0 ? one : 0;
	if (s->rises > 0)
		s->rises = 1;
	if (s->intx > 0)
		s->intx = 1;
}

/* What a successor may know of it. */
static void
make_front(struct prover *p, uint8_t *to)
{
	const struct store *s = &p->store;
	size_t size = (size_t)(s->slot[1] - s->slot[0]);
	uint64_t n = *s->commit;
	size_t at;

	memcpy(to, s->base, (size_t)p->front * PROVE_PAGE);
	at = (size_t)((uint8_t *)s->stats - s->base);
	memset(to + at, 0, sizeof(*s->stats));
	at = (size_t)((uintptr_t)s->commit - (uintptr_t)s->base);
	n = n > 0 ? 2 : 0;
	memcpy(to + at, &n, 8);
	at = (size_t)(s->slot[0] - s->base);
	memcpy(to + at, s->slot[*s->commit & 1], size);
	make_plain(p, to + at, 1);
	memset(to + at + size, RUBBISH, size);
}

uint64_t
track_committed(struct prover *p)
{
	const struct store *s = &p->store;
	const uint8_t *state = store_committed_state(s);
	size_t at =
	    (size_t)(state - (const uint8_t *)store_committed_positions(s));

	make_front(p, front);
	make_plain(p, front + (s->slot[0] - s->base), 0);
	return track_hash(
	    front + (s->slot[0] - s->base) + at, p->type->state_size);
}

/* ---- states ---- */

static uint64_t
part(const struct prove_arena *a, uint32_t page, uint32_t content)
{
	return content == a->first[page] ? 0 : mix(page + 1, (uint64_t)content);
}

static void
touch(struct prove_arena *a, uint32_t page, uint32_t content)
{
	if (a->now[page] == NO_CONTENT)
		a->touched[a->ntouched++] = page;
	a->now[page] = content;
}

static void
set_page(struct prove_arena *a, uint32_t page, uint32_t content)
{
	if (content == NO_CONTENT)
		return;
	here.hash ^= part(a, page, a->now[page]) ^ part(a, page, content);
	touch(a, page, content);
}

static void
update_front(struct prover *p)
{
	make_front(p, front);
	for (uint32_t i = 0; i < p->front; i++)
		set_page(p->arena, i,
		    intern(p->arena, front + (size_t)i * PROVE_PAGE));
}

static uint64_t
hash_of(const struct prove_state *s)
{
	uint64_t hash = s->hash;

	for (unsigned i = 0; i < PROVE_FDS / 64; i++)
		hash = mix(hash, s->raised[i]);
	return hash;
}

static void
keep_state(struct prove_arena *a)
{
	uint64_t hash = hash_of(&here);
	uint32_t slot = (uint32_t)(hash % STATE_SLOTS), id;
	struct prove_state *s;

	while ((id = a->state_slot[slot]) != 0) {
		if (hash_of(&a->state[id - 1]) == hash)
			return;
		slot = (slot + 1) % STATE_SLOTS;
	}
	if (a->nstates == PROVE_STATES ||
	    a->ndeltas + 2 * a->ntouched > PROVE_DELTAS) {
		a->full = true;
		return;
	}
	s = &a->state[a->nstates++];
	*s = here;
	s->delta = a->ndeltas;
	s->ndelta = 0;
	for (uint32_t i = 0; i < a->ntouched; i++) {
		uint32_t page = a->touched[i];

		if (a->now[page] == a->first[page])
			continue;
		a->delta[a->ndeltas++] = page;
		a->delta[a->ndeltas++] = a->now[page];
		s->ndelta++;
	}
	a->state_slot[slot] = a->nstates;
}

void
track_begin(struct prover *p)
{
	struct prove_arena *a = p->arena;

	a->nstates = a->ncontents = a->ndeltas = a->ntouched = 0;
	a->full = false;
	a->steps = a->stores = 0;
	memset(a->first, 0, sizeof(a->first));
	memset(a->now, 0, sizeof(a->now));
	memset(a->state_slot, 0, sizeof(a->state_slot));
	memset(a->content_slot, 0, sizeof(a->content_slot));
	memset(&here, 0, sizeof(here));
	BUG_ON(p->front * PROVE_PAGE > sizeof(front));
	make_front(p, front);
	memcpy(p->store.base, front, (size_t)p->front * PROVE_PAGE);
	for (uint32_t i = 0; i < p->front; i++)
		a->first[i] = intern(a, front + (size_t)i * PROVE_PAGE);
	keep_state(a);
}

void
track_load(struct prover *p, uint32_t i)
{
	struct prove_arena *a = p->arena;
	const struct prove_state *s = &a->state[i];

	for (uint32_t k = 0; k < p->front; k++)
		touch(a, k, a->first[k]);
	for (uint32_t k = 0; k < s->ndelta; k++) {
		uint32_t page = a->delta[s->delta + 2 * k];
		uint32_t content = a->delta[s->delta + 2 * k + 1];

		touch(a, page, content);
	}
	for (uint32_t k = 0; k < a->ntouched; k++)
		memcpy(page_at(p, a->touched[k]),
		    a->content[a->now[a->touched[k]] - 1], PROVE_PAGE);
}

void
track_restore(struct prover *p)
{
	struct prove_arena *a = p->arena;

	for (uint32_t k = 0; k < a->ntouched; k++) {
		uint32_t page = a->touched[k];

		memcpy(page_at(p, page), a->content[a->first[page] - 1],
		    PROVE_PAGE);
		a->now[page] = NO_CONTENT;
	}
	a->ntouched = 0;
}

uint32_t
track_states(const struct prover *p)
{
	return p->arena->nstates;
}

bool
track_full(const struct prover *p)
{
	return p->arena->full;
}

const struct prove_state *
track_state(const struct prover *p, uint32_t i)
{
	return &p->arena->state[i];
}

uint64_t
track_steps(const struct prover *p)
{
	return p->arena->steps;
}

uint64_t
track_stores(const struct prover *p)
{
	return p->arena->stores;
}

struct outcome *
track_outcome(const struct prover *p)
{
	return &p->arena->outcome;
}

const uint64_t *
track_raised(const struct prover *p)
{
	return p->arena->raised;
}

uint64_t *
track_used(const struct prover *p)
{
	return p->arena->used;
}

/* ---- observation ---- */

static void
protect(uint32_t page, int prot)
{
	struct prove_region *r = region_of(observed, page);

	if (r->live)
		BUG_ON(
		    mprotect(r->live + (size_t)(page - r->first) * PROVE_PAGE,
			PROVE_PAGE, prot) < 0);
}

/* A page is about to be written. */
static void
open_page(uint32_t page)
{
	struct prove_arena *a = observed->arena;

	for (unsigned i = 0; i < npending; i++)
		if (pending[i] == page)
			return;
	BUG_ON(npending == AT_ONCE);
	if (page >= observed->front && a->now[page] == NO_CONTENT) {
		if (a->first[page] == NO_CONTENT)
			a->first[page] = intern(a, page_at(observed, page));
		if (a->first[page] != NO_CONTENT)
			touch(a, page, a->first[page]);
	}
	protect(page, PROT_READ | PROT_WRITE);
	pending[npending++] = page;
}

/* They have been written. */
static void
close_pages(void)
{
	struct prove_arena *a = observed->arena;
	uint64_t before = here.hash;
	bool in_front = false;

	for (unsigned i = 0; i < npending; i++) {
		uint32_t page = pending[i];

		protect(page, PROT_READ);
		if (page < observed->front)
			in_front = true;
		else if (a->now[page] != NO_CONTENT)
			set_page(a, page, intern(a, page_at(observed, page)));
	}
	npending = 0;
	if (in_front)
		update_front(observed);
	if (here.hash == before)
		return;
	a->stores++;
	keep_state(a);
}

bool
track_on(void)
{
	return on;
}

static inline void
trap(bool set)
{
	if (set)
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
				 "pushfq\n\t"
				 "orq $0x100, (%%rsp)\n\t"
				 "popfq\n\t"
				 "lea 128(%%rsp), %%rsp" ::
				     : "memory", "cc");
	else
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
				 "pushfq\n\t"
				 "andq $~0x100, (%%rsp)\n\t"
				 "popfq\n\t"
				 "lea 128(%%rsp), %%rsp" ::
				     : "memory", "cc");
}

void
track_pause(void)
{
	trap(false);
	on = false;
}

void
track_resume(void)
{
	on = true;
	if (observed->step)
		trap(true);
}

void
track_before(const struct track_span *span)
{
	struct prover *p = observed;

	for (unsigned i = 0; i < p->nregions && span->n > 0; i++) {
		struct prove_region *r = &p->region[i];
		uint64_t at = span->offset, end;

		if (span->at) {
			if (!r->live || span->at < r->live ||
			    span->at >= r->live + r->size)
				continue;
			at = (uint64_t)(span->at - r->live);
		} else if (span->fd != r->fd) {
			continue;
		}
		end = MIN(at + span->n, r->size);
		for (; at < end; at = (at / PROVE_PAGE + 1) * PROVE_PAGE)
			open_page(r->first + (uint32_t)(at / PROVE_PAGE));
	}
}

void
track_after(void)
{
	close_pages();
}

void
track_mapped(int fd, void *at)
{
	if (!observed)
		return;
	for (unsigned i = 0; i < observed->nregions; i++)
		if (observed->region[i].fd == fd)
			observed->region[i].live = at;
	/* One that is made while it runs is observed from there on. */
	for (unsigned i = 0; on && i < observed->nregions; i++)
		if (observed->region[i].fd == fd)
			BUG_ON(mprotect(at, observed->region[i].size,
				   PROT_READ) < 0);
}

bool
track_signal(int fd)
{
	struct harness *h = &observed->h;

	for (unsigned i = 0; i < h->nfds; i++)
		if (h->fds[i] == fd) {
			uint64_t bit = 1ull << (i % 64);

			observed->arena->raised[i / 64] |= bit;
			if (here.raised[i / 64] & bit)
				return true;
			here.raised[i / 64] |= bit;
			keep_state(observed->arena);
			return true;
		}
	return false;
}

static void
on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	uintptr_t at = (uintptr_t)info->si_addr;

	for (unsigned i = 0; on && i < observed->nregions; i++) {
		struct prove_region *r = &observed->region[i];
		uintptr_t live = (uintptr_t)r->live;

		if (live == 0 || at < live || at >= live + r->size)
			continue;
		open_page(r->first + (uint32_t)((at - live) / PROVE_PAGE));
		u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
		return;
	}
	/* Not ours: it is the device's, and ends it. */
	signal(sig, SIG_DFL);
}

static void
on_trap(int sig UNUSED, siginfo_t *info UNUSED, void *context)
{
	ucontext_t *u = context;

	if (observed->step)
		observed->arena->steps++;
	else
		u->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	if (npending > 0)
		close_pages();
}

void
track_observe(struct prover *p, uint32_t state)
{
	static uint8_t stack[256 << 10];
	const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction fault = { .sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction step = { .sa_sigaction = on_trap,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };

	here = p->arena->state[state];
	memset(p->arena->raised, 0, sizeof(p->arena->raised));
	observed = p;
	BUG_ON(sigaltstack(&alternate, NULL) < 0 ||
	    sigaction(SIGSEGV, &fault, NULL) < 0 ||
	    sigaction(SIGTRAP, &step, NULL) < 0);
}

void
track_start(struct prover *p)
{
	for (unsigned i = 0; i < p->nregions; i++)
		if (p->region[i].live)
			BUG_ON(mprotect(p->region[i].live, p->region[i].size,
				   PROT_READ) < 0);
	track_resume();
}

void
track_end(struct prover *p)
{
	track_pause();
	for (unsigned i = 0; i < p->nregions; i++)
		if (p->region[i].live)
			BUG_ON(mprotect(p->region[i].live, p->region[i].size,
				   PROT_READ | PROT_WRITE) < 0);
}
