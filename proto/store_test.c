/* The device store. */
#include "proto/store.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/litmus.h"
#include "tests/named_tests.h"

static const struct store_shape shape = { .vcpus = 2,
	.state_size = 2048,
	.log_size = 4096,
	.state_version = 3,
	.vectors = 3 };

/* A state whose every word says which commit it is of. */
#define WORDS (2048 / sizeof(uint64_t))

static void *
make_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	BUG_ON(p == MAP_FAILED);
	return p;
}

static void
make(struct store *s)
{
	size_t size = store_size(&shape);
	void *p = make_memory(size);

	CU_ASSERT_EQUAL_FATAL(store_format(p, size, &shape), 0);
	CU_ASSERT_EQUAL_FATAL(store_attach(s, p, size, &shape), 0);
}

static void
destroy(struct store *s)
{
	munmap(s->base, s->size);
}

static void
set_state(struct store *s, uint64_t n)
{
	volatile uint64_t *w = store_state(s);

	store_positions(s)[0] =
	    (struct store_position){ .next = n, .answer = ~n };
	for (size_t i = 0; i < WORDS; i++)
		w[i] = n * (i + 1);
}

static bool
is_state(const struct store_position *pos, const void *state, uint64_t n)
{
	const uint64_t *w = state;

	if (pos->next != n || pos->answer != ~n)
		return false;
	for (size_t i = 0; i < WORDS; i++)
		if (w[i] != n * (i + 1))
			return false;
	return true;
}

static bool
committed_is(const struct store *s, uint64_t n)
{
	return is_state(
	    store_committed_positions(s), store_committed_state(s), n);
}

static void
refuses_impossible_shapes(void)
{
	static const struct store_shape rows[] = {
		{ .vcpus = 0, .state_size = 16 },
		{ .vcpus = 65, .state_size = 16 },
		{ .vcpus = UINT32_MAX, .state_size = 16 },
		{ .vcpus = 1, .state_size = STORE_STATE_MAX + 1 },
		{ .vcpus = 1, .state_size = UINT32_MAX },
		{ .vcpus = 1, .log_size = STORE_LOG_MAX + 1 },
		{ .vcpus = 1, .log_size = UINT32_MAX },
		{ .vcpus = 1, .vectors = STORE_VECTORS + 1 },
		{ .vcpus = 1, .vectors = UINT32_MAX },
	};
	struct store s;
	char byte = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		CU_ASSERT_EQUAL(store_size(&rows[i]), 0);
		CU_ASSERT_EQUAL(store_format(&byte, 1, &rows[i]), -EINVAL);
		CU_ASSERT_EQUAL(store_attach(&s, &byte, 1, &rows[i]), -EINVAL);
	}
}

static void
sizes_are_pages_and_hold_everything(void)
{
	static const struct store_shape rows[] = {
		{ .vcpus = 1 },
		{ .vcpus = 64, .state_size = 1 },
		{ .vcpus = 3, .state_size = 4097, .log_size = 1 },
		{ .vcpus = 64,
		    .state_size = STORE_STATE_MAX,
		    .log_size = STORE_LOG_MAX,
		    .vectors = STORE_VECTORS },
		{ .vcpus = 1, .state_size = 3, .vectors = 1 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		const struct store_shape *sh = &rows[i];
		size_t size = store_size(sh);
		void *p = make_memory(size);
		struct store s;
		const uint8_t *state;

		CU_ASSERT_EQUAL(size % 4096, 0);
		CU_ASSERT_EQUAL(store_format(p, size, sh), 0);
		CU_ASSERT_EQUAL(store_attach(&s, p, size, sh), 0);
		store_recover(&s);
		for (unsigned turn = 0; turn < 2; turn++) {
			state = store_state(&s);
			CU_ASSERT((const uint8_t *)(store_positions(&s) +
				      sh->vcpus) <=
			    (const uint8_t *)store_wiring(&s));
			CU_ASSERT((const uint8_t *)&store_wiring(&s)
				      ->vector[sh->vectors] <= state);
			CU_ASSERT_EQUAL((uintptr_t)state % 8, 0);
			CU_ASSERT(state + sh->state_size <= s.log);
			store_commit(&s);
		}
		CU_ASSERT(s.slot[0] + 64 <= s.slot[1]);
		CU_ASSERT((const uint8_t *)(s.stats + 1) <= s.slot[0]);
		CU_ASSERT(s.log + sh->log_size <= s.base + size);
		munmap(p, size);
	}
}

static void
refuses_a_header_that_disagrees(void)
{
	struct store_shape other[] = { shape, shape, shape, shape, shape };
	size_t size = store_size(&shape);
	struct store s, t;

	other[0].vcpus++;
	other[1].state_size--;
	other[2].log_size--;
	other[3].state_version++;
	other[4].vectors++;
	make(&s);
	CU_ASSERT_EQUAL(store_attach(&t, s.base, size - 1, &shape), -EINVAL);
	for (unsigned i = 0; i < ARRAY_LEN(other); i++)
		CU_ASSERT_EQUAL(
		    store_attach(&t, s.base, size * 2, &other[i]), -EPROTO);
	/* Every bit of it counts. */
	for (unsigned bit = 0; bit < 32 * 8; bit++) {
		s.base[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_EQUAL(
		    store_attach(&t, s.base, size, &shape), -EPROTO);
		s.base[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	CU_ASSERT_EQUAL(store_attach(&t, s.base, size, &shape), 0);
	destroy(&s);
}

static void
only_a_commit_changes_what_is_committed(void)
{
	struct store s;

	make(&s);
	CU_ASSERT_TRUE(store_is_fresh(&s));
	store_recover(&s);
	set_state(&s, 1);
	CU_ASSERT_TRUE(store_is_fresh(&s));
	CU_ASSERT_EQUAL(store_committed_positions(&s)->next, 0);
	for (uint64_t n = 1; n < 5; n++) {
		store_commit(&s);
		CU_ASSERT_FALSE(store_is_fresh(&s));
		CU_ASSERT_TRUE(committed_is(&s, n));
		/* The new working copy equals it. */
		CU_ASSERT_TRUE(
		    is_state(store_positions(&s), store_state(&s), n));
		set_state(&s, n + 1);
		CU_ASSERT_TRUE(committed_is(&s, n));
	}
	CU_ASSERT_EQUAL(atomic_load(&s.stats->commits), 4);
	destroy(&s);
}

static void
nothing_is_wired_at_first(void)
{
	struct store s;

	make(&s);
	store_recover(&s);
	CU_ASSERT_EQUAL(store_committed_wiring(&s)->generation, 0);
	for (unsigned i = 0; i < STORE_REGIONS; i++) {
		CU_ASSERT_EQUAL(
		    store_committed_wiring(&s)->bar[i], STORE_UNMAPPED);
		CU_ASSERT_EQUAL(store_wiring(&s)->bar[i], STORE_UNMAPPED);
	}
	for (unsigned i = 0; i < shape.vectors; i++)
		CU_ASSERT_EQUAL(
		    store_committed_wiring(&s)->vector[i].address, 0);
	destroy(&s);
}

static void
wiring_is_committed_with_the_state(void)
{
	struct store s;

	make(&s);
	store_recover(&s);
	set_state(&s, 1);
	for (uint64_t n = 1; n < 4; n++) {
		store_commit(&s);
		store_wiring(&s)->generation = n;
		store_wiring(&s)->bar[7] = n << 12;
		store_wiring(&s)->vector[2].data = (uint32_t)n;
		set_state(&s, n + 1);
		CU_ASSERT_EQUAL(store_committed_wiring(&s)->generation, n - 1);
		CU_ASSERT_TRUE(committed_is(&s, n));
	}
	store_commit(&s);
	CU_ASSERT_EQUAL(store_committed_wiring(&s)->generation, 3);
	CU_ASSERT_EQUAL(store_committed_wiring(&s)->bar[7], 3 << 12);
	CU_ASSERT_EQUAL(store_committed_wiring(&s)->vector[2].data, 3);
	CU_ASSERT_EQUAL(store_committed_wiring(&s)->bar[6], STORE_UNMAPPED);
	CU_ASSERT_TRUE(committed_is(&s, 4));
	destroy(&s);
}

static void
recovery_forgets_what_was_not_committed(void)
{
	struct store s, t;

	make(&s);
	store_recover(&s);
	set_state(&s, 7);
	store_commit(&s);
	set_state(&s, 8);
	CU_ASSERT_EQUAL(store_attach(&t, s.base, s.size, &shape), 0);
	/* It may itself be killed and begin again. */
	for (unsigned i = 0; i < 2; i++) {
		store_recover(&t);
		CU_ASSERT_TRUE(committed_is(&t, 7));
		CU_ASSERT_TRUE(
		    is_state(store_positions(&t), store_state(&t), 7));
	}
	destroy(&s);
}

static bool
commit_next(void *ctx)
{
	struct store *s = ctx;

	set_state(s, store_committed_positions(s)->next + 1);
	store_commit(s);
	return true;
}

/* Not the commit word's name: what it points at is what must be complete. */
struct reader {
	struct store s;
	uint64_t n, torn;
};

static bool
make_commit(void *ctx)
{
	struct reader *r = ctx;

	return commit_next(&r->s);
}

static void
arm_nothing(void *ctx UNUSED)
{
}

static bool
look_for_commit(void *ctx)
{
	struct reader *r = ctx;

	/* Its count, by the parity that store_committed_*() follow. */
	if (atomic_load_explicit(r->s.commit, memory_order_relaxed) == r->n)
		return false;
	r->torn += !committed_is(&r->s, r->n + 1);
	return true;
}

static void
take_commit(void *ctx)
{
	struct reader *r = ctx;

	r->n++;
	r->torn += !committed_is(&r->s, r->n);
}

static void
a_commit_that_is_seen_is_complete(void)
{
	struct reader r = { .n = 0 };
	struct litmus l = {
		.make = make_commit,
		.arm = arm_nothing,
		.look = look_for_commit,
		.take = take_commit,
		.ctx = &r,
	};

	make(&r.s);
	store_recover(&r.s);
	litmus_run(&l);
	printf("(%llu rounds) ", (unsigned long long)l.rounds);
	CU_ASSERT_EQUAL(r.torn, 0);
	CU_ASSERT_EQUAL(l.lost, 0);
	destroy(&r.s);
}

#define KILLS	2000
#define KILL_NS 9000000000u

static NORETURN void
commit_for_ever(void *base, size_t size)
{
	struct store s;

	if (store_attach(&s, base, size, &shape) < 0)
		_exit(1);
	store_recover(&s);
	for (;;)
		commit_next(&s);
}

/* One life and death of an owner.  False: the store was left in between. */
static bool
kill_one(struct store *s, uint64_t *seed, uint64_t *committed)
{
	uint64_t until, n;
	int status;
	pid_t pid = fork();

	BUG_ON(pid < 0);
	if (pid == 0)
		commit_for_ever(s->base, s->size);
	until = time_now_ns() + litmus_random(seed) % 1000000;
	while (time_now_ns() < until)
		sched_yield();
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		return false;
	n = store_committed_positions(s)->next;
	if (n < *committed)
		return false;
	*committed = n;
	return store_is_fresh(s) || committed_is(s, n);
}

static void
a_kill_leaves_the_commit_before_or_after(void)
{
	uint64_t seed = 88172645463325252u, committed = 0;
	uint64_t end = time_now_ns() + KILL_NS;
	unsigned kills, torn = 0;
	struct store s;

	make(&s);
	for (kills = 0; kills < KILLS && time_now_ns() < end; kills++)
		torn += !kill_one(&s, &seed, &committed);
	printf(
	    "(%u kills, %llu commits) ", kills, (unsigned long long)committed);
	CU_ASSERT_EQUAL(torn, 0);
	CU_ASSERT(committed > 0);
	destroy(&s);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(refuses_impossible_shapes),
		NAMED_TEST(sizes_are_pages_and_hold_everything),
		NAMED_TEST(refuses_a_header_that_disagrees),
		NAMED_TEST(only_a_commit_changes_what_is_committed),
		NAMED_TEST(nothing_is_wired_at_first),
		NAMED_TEST(wiring_is_committed_with_the_state),
		NAMED_TEST(recovery_forgets_what_was_not_committed),
		NAMED_TEST(a_commit_that_is_seen_is_complete),
		NAMED_TEST(a_kill_leaves_the_commit_before_or_after),
	};
	return named_tests_run("store", tests, ARRAY_LEN(tests));
}
