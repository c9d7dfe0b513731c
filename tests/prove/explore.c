/* Every state that a kill may leave, and what becomes of it. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/prove/prove.h"

#define SAY_BAD	   5u /* of a scenario, with what differs */
#define CHILD_ENDS 120u /* seconds */

/* ---- the world before the request ---- */

static int
set_options(struct device *dev, void *ctx)
{
	const struct prover *p = ctx;
	const char *const *o = p->scenario->options;

	for (; o && *o; o += 2) {
		int rc = dev->type->ops->configure(dev, o[0], o[1]);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* A process's own memory.  What is made before the sandbox is left out: then a
 * disk uses plain system calls. */
static void
make_context(struct prover *p)
{
	size_t size = (p->type->context_size + 63u) / 64u * 64u;

	p->h.context = NULL;
	p->h.nwatched = 0;
	if (size > 0) {
		p->h.context = aligned_alloc(64, size);
		BUG_ON(!p->h.context);
		memset(p->h.context, 0, size);
	}
	p->h.config.context = p->h.context;
}

static void
add_regions(struct prover *p)
{
	struct harness *h = &p->h;
	struct stat st;

	for (unsigned i = 0; i < h->nfds; i++) {
		struct prove_region *r = &p->region[p->nregions];

		BUG_ON(fstat(h->fds[i], &st) < 0);
		if (!S_ISREG(st.st_mode))
			continue;
		BUG_ON(p->nregions == PROVE_REGIONS);
		r->fd = h->fds[i];
		r->size = ((size_t)st.st_size + PROVE_PAGE - 1) / PROVE_PAGE *
		    PROVE_PAGE;
		r->base = mmap(NULL, r->size, PROT_READ | PROT_WRITE,
		    MAP_SHARED, r->fd, 0);
		BUG_ON(r->base == MAP_FAILED);
		r->first = p->npages;
		p->npages += (uint32_t)(r->size / PROVE_PAGE);
		BUG_ON(p->npages > PROVE_PAGES);
		p->nregions++;
	}
}

static void
find_vectors(struct prover *p)
{
	struct harness *h = &p->h;

	for (unsigned v = 0; v < p->type->nvectors; v++)
		for (unsigned i = 0; i < h->nfds; i++)
			if (h->fds[i] == h->dev.vector[v].trigger)
				p->vector_fd[v] = (uint16_t)i;
}

static void
put_script(struct prover *p)
{
	const struct scenario *s = p->scenario;

	BUG_ON(s->nscript > PROVE_REQUESTS);
	for (unsigned i = 0; i < s->nscript; i++) {
		const struct ring_request r = {
			.addr = s->script[i].addr,
			.data = s->script[i].data,
			.time_ns = PROVE_NOW_NS,
			.region = s->script[i].region,
			.op = s->script[i].op,
			.size = s->script[i].size,
		};

		BUG_ON(ring_put(&p->h.rings->ring[0], &p->h.pos, &r) != 0);
	}
}

static void
set_up(struct prover *p, const struct scenario *s)
{
	struct harness_want want = { .vcpus = 1 };
	struct prove_arena *arena = p->arena;
	bool step = p->step;
	struct store_shape shape;

	memset(p, 0, sizeof(*p));
	p->arena = arena;
	p->step = step;
	p->scenario = s;
	p->type = s->type ? s->type : device_type_find(s->device);
	p->disk = -1;
	BUG_ON(!p->type);
	if (s->want)
		s->want(p, &want);
	harness_make_want(&p->h, p->type, &want);
	p->d.h = &p->h;
	p->d.next_gpa = DRIVER_RAM_START;
	make_context(p);
	BUG_ON(engine_attach(&p->h.dev, p->type, &p->h.config) != 0);
	find_vectors(p);
	if (!s->fresh) {
		BUG_ON(engine_start(&p->h.dev, set_options, p) != 0);
		if (s->driver)
			driver_open_sized(&p->d, &p->h, s->features,
			    s->queue_size ? s->queue_size : 16);
		if (s->prepare)
			s->prepare(p);
		harness_run(&p->h);
	}
	harness_stop(&p->h);
	add_regions(p);
	shape = harness_shape(p->type, 1);
	BUG_ON(store_attach(&p->store, p->region[0].base, p->region[0].size,
		   &shape) != 0);
	p->front =
	    (uint32_t)((size_t)(p->store.log - p->store.base) / PROVE_PAGE);
	if (s->request)
		s->request(p);
	put_script(p);
}

static void
tear_down(struct prover *p)
{
	struct harness *h = &p->h;

	for (unsigned i = 0; i < p->nregions; i++)
		munmap(p->region[i].base, p->region[i].size);
	harness_unmap(h->ram, h->ram_low + h->ram_high);
	harness_unmap(h->link[0], PACKET_LINK_SIZE);
	harness_unmap(h->store, h->store_size);
	for (unsigned i = 0; i < h->nfds; i++)
		close(h->fds[i]);
}

/* ---- a life ---- */

static unsigned
serve(struct harness *h)
{
	unsigned n = 0;
	int rc;

	while ((rc = engine_serve(&h->dev, 0)) == 1)
		n++;
	engine_send_irqs(&h->dev);
	engine_send_outputs(&h->dev);
	if (rc < 0)
		_exit(3);
	return n;
}

NORETURN static void
live(struct prover *p, uint32_t state)
{
	struct harness *h = &p->h;
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(CHILD_ENDS);
	outcome_used(p, track_used(p));
	make_context(p);
	track_observe(p, state);
	if (engine_attach(&h->dev, p->type, &h->config) != 0)
		_exit(2);
	track_start(p);
	rc = engine_start(&h->dev, set_options, p);
	if (rc < 0)
		_exit(2);
	if (rc == 1)
		engine_take_up(&h->dev);
	if (p->scenario->event)
		p->scenario->event(p);
	while (serve(h) + harness_run(h) > 0)
		;
	track_end(p);
	outcome_read(p, track_outcome(p));
	_exit(0);
}

/* NULL, or how it ended otherwise than well. */
static const char *
run(struct prover *p, uint32_t state)
{
	static char text[64];
	int status;
	pid_t pid;

	track_load(p, state);
	fflush(stdout);
	pid = fork();
	BUG_ON(pid < 0);
	if (pid == 0)
		live(p, state);
	BUG_ON(waitpid(pid, &status, 0) != pid);
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "it ended with signal %d",
		    WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "it ended with status %d",
		    WEXITSTATUS(status));
	return status == 0 ? NULL : text;
}

/* ---- the comparison ---- */

struct reference {
	struct outcome outcome;
	uint64_t raised[PROVE_FDS / 64];
	uint64_t used[PROVE_QUEUES];
};

/*
 * Interrupts that the first run raised are raised before the death or after;
 * those of chains that became used after it, after it.
 */
static const char *
lost_interrupt(struct prover *p, uint32_t state, const struct reference *want)
{
	const struct prove_state *s = track_state(p, state);
	const uint64_t *raised = track_raised(p);

	for (unsigned i = 0; i < PROVE_FDS / 64; i++)
		if (want->raised[i] & ~(s->raised[i] | raised[i]))
			return "an interrupt or a kick is lost";
	for (unsigned q = 0; q < p->d.nqueues; q++) {
		unsigned fd = p->vector_fd[q + 1];
		uint64_t bit = 1ull << (fd % 64);

		if (want->outcome.used[q] > track_used(p)[q] &&
		    (want->raised[fd / 64] & bit) && !(raised[fd / 64] & bit))
			return "an interrupt for used chains is lost";
	}
	return NULL;
}

static const char *
check(struct prover *p, uint32_t state, const struct reference *want)
{
	const char *why = run(p, state);

	if (!why)
		why = outcome_differs(&want->outcome, track_outcome(p));
	return why ? why : lost_interrupt(p, state, want);
}

/* State 0: nobody is killed. */
static const char *
refer(struct prover *p, struct reference *want)
{
	const char *why = run(p, 0);

	if (why)
		return why;
	want->outcome = *track_outcome(p);
	memcpy(want->raised, track_raised(p), sizeof(want->raised));
	if (want->outcome.error != 0)
		return "the device broke";
	if (want->outcome.answered != p->scenario->nscript)
		return "accesses were not answered";
	if (p->scenario->right && !p->scenario->right(p))
		return "the end without a kill is not as it should be";
	return NULL;
}

static void
say_bad(struct prover *p, struct tally *t, uint64_t before, uint32_t state,
    const char *why)
{
	t->bad++;
	if (t->bad - before <= SAY_BAD)
		printf("  BAD %s, %s: from state %u: %s\n", p->type->name,
		    p->scenario->name, state, why);
}

void
explore(const struct scenario *s, const struct explore_how *how,
    struct prover *p, struct tally *t)
{
	struct reference want = { .raised = { 0 } };
	uint64_t bad = t->bad, first_steps;
	uint32_t end, i;
	const char *why;

	p->step = how->step_first;
	set_up(p, s);
	track_begin(p);
	why = refer(p, &want);
	if (why)
		say_bad(p, t, bad, 0, why);
	track_restore(p);
	first_steps = track_steps(p);
	end = track_states(p);
	for (i = 1; !why && i < (how->sample ? end : track_states(p));
	     i += how->sample ? how->sample : 1) {
		const char *differs;

		if (i >= how->limit) {
			t->limited = true;
			printf("  limit of %u states: %s, %s\n", how->limit,
			    p->type->name, s->name);
			break;
		}
		p->step = how->step_every > 0 && i % how->step_every == 1;
		differs = check(p, i, &want);
		if (differs)
			say_bad(p, t, bad, i, differs);
		track_restore(p);
		t->runs++;
	}
	if (track_full(p)) {
		t->limited = true;
		printf("  no memory for more states: %s, %s\n", p->type->name,
		    s->name);
	}
	t->scenarios++;
	t->runs++;
	t->points += track_steps(p);
	t->stores += track_stores(p);
	t->states += track_states(p);
	if (how->verbose)
		printf("  %-14s %-34s %7llu %8llu %6u %6u %4llu\n",
		    p->type->name, s->name, (unsigned long long)first_steps,
		    (unsigned long long)track_steps(p), end, track_states(p),
		    (unsigned long long)(t->bad - bad));
	tear_down(p);
}
