/*
 * The prover: a device's process is killed after every instruction of a
 * request, and after every instruction of each recovery, and the guest must
 * not be able to tell.
 *
 * What a kill leaves is the memory that outlives the process: store, rings,
 * streams, guest RAM, links, relay, disk.  A process under observation has all
 * of it write-protected, so that each store to it is seen; after each one the
 * memory is a state, which is kept if it was not known.  From every state a new
 * process must come to the same end as the first, and is observed as well, until
 * no new states turn up.  Two states that differ only in what no successor may
 * read are one: the working copy of the store (which is filled with rubbish
 * before every start, so that reading it is found), the statistics, and by how
 * much counters of interrupts are above zero.
 *
 * With single-stepping the instructions are counted as well: each of them is a
 * point at which the process may be killed, and leaves the state last seen.
 *
 * Nothing else changes meanwhile: the driver, the peer of a link and the relay
 * have done what they do before the request, and look at the end.
 */
#ifndef TESTS_PROVE_PROVE_H
#define TESTS_PROVE_PROVE_H

#include "tests/driver.h"

#define PROVE_PAGE     4096u
#define PROVE_REGIONS  24u
#define PROVE_PAGES    (64u << 10) /* of all regions */
#define PROVE_CONTENTS (96u << 10) /* different pages, ever */
#define PROVE_STATES   (64u << 10)
#define PROVE_DELTAS   (8u << 20)
#define PROVE_RANGES   4u
#define PROVE_REQUESTS 60u
#define PROVE_USED     24u
#define PROVE_QUEUES   VIRTIO_QUEUES_MAX
#define PROVE_FDS      192u
#define PROVE_NOW_NS   5000000000000ull /* the time that it always is */

struct prover;

struct prove_request {
	uint8_t op; /* enum ring_op */
	uint8_t region, size;
	uint16_t addr;
	uint64_t data;
};

/* One kind of request on one kind of device. */
struct scenario {
	const char *device; /* name of the type, or */
	const struct device_type *type; /* the type itself */
	const char *name;
	uint64_t features; /* of a virtio driver */
	bool in_order; /* chains are used in the order put */
	bool bag; /* which buffer got what does not matter */
	bool hidden; /* its state has what no guest ever sees: not compared */
	/* Before the first start: files and the like.  NULL: none. */
	void (*want)(struct prover *p, struct harness_want *want);
	const char *const *options; /* key, value, ..., NULL */
	bool fresh; /* the first start is observed too: no prepare() */
	bool driver; /* virtio: queues are set up and DRIVER_OK is set */
	uint16_t queue_size; /* 0: 16 */
	/* The running device, before the request. */
	void (*prepare)(struct prover *p);
	/* The device is down: the request. */
	void (*request)(struct prover *p);
	/* What the broker says to each new process. */
	void (*event)(struct prover *p);
	/* In the first run: is the end as it should be?  NULL: not asked. */
	bool (*right)(struct prover *p);
	/* Or requests of a vCPU. */
	const struct prove_request *script;
	unsigned nscript;
};

/* Enrol an array of them. */
#define SCENARIOS_REGISTER(array)                                        \
	static const struct scenario_set scenario_set_##array = { array, \
		ARRAY_LEN(array) };                                      \
	static const struct scenario_set *const scenarios_of_##array     \
	    __attribute__((section("scenario_sets"), used)) =            \
		&scenario_set_##array

struct scenario_set {
	const struct scenario *scenario;
	size_t n;
};
extern const struct scenario_set *const __start_scenario_sets[];
extern const struct scenario_set *const __stop_scenario_sets[];

/* Memory that outlives the process. */
struct prove_region {
	int fd;
	uint8_t *base; /* here, writable; the process's children have it too */
	uint8_t *live; /* where the process under observation has it; NULL */
	size_t size; /* bytes */
	uint32_t first; /* number of its first page */
};

/* What the guest sees at the end. */
struct outcome {
	int error;
	uint64_t answered, answers[PROVE_REQUESTS];
	uint64_t used[PROVE_QUEUES], element[PROVE_QUEUES][PROVE_USED];
	uint64_t ram, streams[DEVICE_STREAMS_MAX], link, relay, disk, wiring;
	uint64_t state;
};

struct prove_state {
	uint64_t hash;
	uint32_t delta, ndelta; /* pairs of a page and its content */
	uint64_t raised[PROVE_FDS / 64]; /* eventfds written, by index */
};

struct prove_arena;

struct prover {
	const struct scenario *scenario;
	const struct device_type *type;
	struct harness h;
	struct driver d;
	struct store store; /* on our mapping of it */
	struct prove_region region[PROVE_REGIONS];
	unsigned nregions;
	uint32_t npages;
	uint32_t front; /* pages of the store before the log */
	bool step; /* count instructions */
	/* Ranges of guest RAM that the scenario looks at, beside what
	 * driver_alloc() gave. */
	struct {
		uint64_t gpa, n;
	} range[PROVE_RANGES];
	unsigned nranges;
	uint16_t vector_fd[DEVICE_VECTORS_MAX]; /* index among its fds */
	struct relay *relay; /* NULL: none */
	int disk; /* fd, -1 */
	uint64_t at[4]; /* the scenario's own */
	struct prove_arena *arena; /* shared with the children */
};

/* ---- track.c: states of memory ---- */

void track_make_arena(struct prover *p);
/* Take what is there now as state 0. */
void track_begin(struct prover *p);
/* Load state i (here). */
void track_load(struct prover *p, uint32_t i);
/* After a process has ended: what it changed is as before. */
void track_restore(struct prover *p);
uint32_t track_states(const struct prover *p);
bool track_full(const struct prover *p);
const struct prove_state *track_state(const struct prover *p, uint32_t i);
/* Instructions that were single-stepped, and stores that changed a state. */
uint64_t track_steps(const struct prover *p);
uint64_t track_stores(const struct prover *p);
struct outcome *track_outcome(const struct prover *p);
/* Eventfds written by the process that has just ended, and chains that were
 * used when it began. */
const uint64_t *track_raised(const struct prover *p);
uint64_t *track_used(const struct prover *p);
uint64_t track_hash(const void *bytes, size_t n);

/* The committed state, as a successor knows it. */
uint64_t track_committed(struct prover *p);

/* In the child: before and after the device is attached. */
void track_observe(struct prover *p, uint32_t state);
void track_start(struct prover *p);
void track_end(struct prover *p);

/* ---- hooks.c: what the device asks of the system ---- */

/* A system call that may write to what is observed. */
struct track_span {
	uint8_t *at; /* NULL: of a file that is not mapped */
	int fd;
	uint64_t offset, n;
};
/* Is a process observed here now? */
bool track_on(void);
void track_pause(void);
void track_resume(void);
void track_before(const struct track_span *span);
void track_after(void);
/* A mapping was made of that fd. */
void track_mapped(int fd, void *at);
/* True: it is an eventfd of the device's. */
bool track_signal(int fd);

/* ---- outcome.c ---- */

void outcome_read(struct prover *p, struct outcome *o);
/* Chains that a driver could take now, by queue. */
void outcome_used(struct prover *p, uint64_t used[PROVE_QUEUES]);
/* What differs, or NULL. */
const char *outcome_differs(const struct outcome *a, const struct outcome *b);

/* ---- explore.c ---- */

struct tally {
	uint64_t scenarios, points, states, runs, stores, bad;
	bool limited;
};

struct explore_how {
	bool step_first; /* count the instructions of the first run */
	unsigned step_every; /* and of every so manieth recovery; 0: none */
	unsigned sample; /* 0: all; else every so manieth state, no closure */
	uint32_t limit; /* states of a scenario */
	bool verbose;
};

void explore(const struct scenario *s, const struct explore_how *how,
    struct prover *p, struct tally *t);

#endif
