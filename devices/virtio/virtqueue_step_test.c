/*
 * Death at every instruction of a virtqueue: a process that serves one is
 * single-stepped.  Each state of guest RAM and log that ever stood is what a
 * kill leaves; from each, a new process must use every chain exactly once, with
 * the driver going on meanwhile or not.
 */
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "tests/named_tests.h"
#include "tests/vq_bench.h"

#define SIZE   8u
#define CHAINS 5u
#define RAM_AT DRIVER_RAM_START
#define RAM    (16u * 4096u)

struct image {
	uint8_t ram[RAM];
	struct vq_log log;
};

/* The rings and buffers of the test's chains: what of RAM is looked at. */
static uint8_t *
ram_of(struct bench *b)
{
	return harness_ram(&b->h, RAM_AT, RAM);
}

static void
image_save(struct image *m, struct bench *b)
{
	memcpy(m->ram, ram_of(b), RAM);
	m->log = *b->log;
}

static bool
image_differs(const struct image *m, struct bench *b)
{
	return memcmp(&m->log, b->log, sizeof(m->log)) != 0 ||
	    memcmp(m->ram, ram_of(b), RAM) != 0;
}

static uint64_t
buffer(unsigned i)
{
	return RAM_AT + RAM - 4096 + 64 * i;
}

/* Chain i: one to three descriptors, the last for the answer. */
static void
put_chain(struct bench *b, unsigned i)
{
	struct driver_seg s[3] = { { buffer(i), 8, false },
		{ buffer(i) + 8, 8, false }, { buffer(i) + 16, 8, true } };
	unsigned n = 1 + i % 3;

	BUG_ON(driver_put(&b->d, 0, s + 3 - n, n) == DRIVER_NONE);
}

/* What the device does with a chain. */
static void
serve(struct vq_chain *c)
{
	static const uint32_t mark = 0x11223344;

	vq_write(c, 0, &mark, sizeof(mark));
}

/* A life: chains are taken, one is put back, they are used out of order and
 * two at once, and what is left is used in order. */
static bool
live(struct bench *b)
{
	struct vq_chain c[SIZE];
	uint16_t ids[2];
	uint32_t written[2] = { 4, 4 };
	unsigned n = 0;

	if (bench_restart(b) != 0)
		return false;
	while (n < 4 && vq_pop(&b->q, &c[n]) == 1) {
		serve(&c[n]);
		vq_note(&b->q, &c[n], 5);
		n++;
	}
	if (n > 1) {
		vq_unpop(&b->q, &c[n - 1]);
		n--;
	}
	if (n > 2) {
		vq_push(&b->q, c[1].id, 4);
		ids[0] = c[2].id;
		ids[1] = c[0].id;
		vq_push_many(&b->q, ids, written, 2);
	} else {
		while (n > 0)
			vq_push(&b->q, c[--n].id, 4);
	}
	while (vq_pop(&b->q, &c[0]) == 1) {
		serve(&c[0]);
		vq_push(&b->q, c[0].id, 4);
	}
	vq_wants_signal(&b->q);
	return vq_in_flight(&b->q) == 0;
}

/* The driver takes what is used; how many.  A chain twice, or one that was not
 * put, ends the test (driver.h). */
static unsigned
take_all(struct bench *b, bool *ok)
{
	unsigned n = 0;
	uint16_t id;
	uint32_t len;

	while (driver_take(&b->d, 0, &id, &len)) {
		*ok = *ok && len == 4;
		n++;
	}
	return n;
}

/* Another life, with the driver looking on: chains are used one at a time, the
 * second first and then from the last on, and become visible one at a time. */
static bool
live_slowly(struct bench *b, unsigned *taken)
{
	struct vq_chain c;
	uint16_t id[SIZE];
	unsigned n = 0;
	bool ok = true;

	if (bench_restart(b) != 0)
		return false;
	*taken += take_all(b, &ok);
	while (n < SIZE && vq_pop(&b->q, &c) == 1)
		id[n++] = c.id;
	if (n > 1) {
		uint16_t second = id[1];

		id[1] = id[n - 1];
		id[n - 1] = second;
	}
	while (n > 0 && ok) {
		vq_push(&b->q, id[--n], 4);
		ok = take_all(b, &ok) == 1 && ok;
		++*taken;
	}
	return ok && vq_in_flight(&b->q) == 0;
}

enum variant {
	AT_ONCE,
	SLOWLY,
	BUSY_DRIVER, /* takes what it sees, and puts as much again */
	VARIANTS,
};

/* Start on what a kill has left and go on to the end. */
static bool
recovers(const struct image *m, struct bench *b, const struct driver *d,
    enum variant variant)
{
	struct harness *h = &b->h;
	unsigned put = CHAINS, taken = 0;
	bool ok = true;

	memcpy(ram_of(b), m->ram, RAM);
	*b->log = m->log;
	b->d = *d;
	b->d.h = h;
	if (variant == BUSY_DRIVER) {
		taken = take_all(b, &ok);
		for (unsigned i = 0; i < taken; i++)
			put_chain(b, 0);
		put += taken;
	}
	ok = (variant == SLOWLY ? live_slowly(b, &taken) : live(b)) && ok;
	taken += take_all(b, &ok);
	return ok && taken == put;
}

static void
child_main(struct bench *b)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(1);
	raise(SIGSTOP);
	_exit(live(b) ? 0 : 1);
}

static bool
may_trace(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* Have the ring a few chains on, so that it wraps in what follows. */
static void
turn(struct bench *b, unsigned chains)
{
	struct vq_chain c;
	bool ok = true;

	for (unsigned i = 0; i < chains; i++) {
		put_chain(b, 1);
		BUG_ON(vq_pop(&b->q, &c) != 1);
		vq_push(&b->q, c.id, 4);
		BUG_ON(take_all(b, &ok) != 1);
	}
}

static void
step_through(uint64_t features, unsigned turned)
{
	unsigned long instructions = 0, states = 0, bad = 0;
	struct bench b, again;
	static struct image m;
	struct driver d;
	int status;
	pid_t pid;

	bench_open(&b, features, SIZE);
	bench_open(&again, features, SIZE);
	turn(&b, turned);
	/* Eight descriptors: 1 + 2 + 3 + 1 + 1. */
	for (unsigned i = 0; i < CHAINS; i++)
		put_chain(&b, i == 4 ? 0 : i);
	d = b.d;
	image_save(&m, &b);
	pid = fork();
	BUG_ON(pid < 0);
	if (pid == 0)
		child_main(&b);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		if (instructions == 0 || image_differs(&m, &b)) {
			image_save(&m, &b);
			states++;
			for (enum variant v = AT_ONCE; v < VARIANTS; v++)
				bad += !recovers(&m, &again, &d, v);
		}
		instructions++;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
			break;
	}
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	printf("%lu instructions, %lu states, %lu bad; ", instructions, states,
	    bad);
	CU_ASSERT(states > 30);
	CU_ASSERT_EQUAL(bad, 0);
	bench_close(&b);
	bench_close(&again);
}

static void
step_kind(unsigned kind)
{
	if (!may_trace()) {
		printf("skipped: ptrace is not allowed here: ");
		return;
	}
	step_through(bench_kinds[kind].features, 0);
	step_through(bench_kinds[kind].features, 3);
}

static void
a_split_queue_may_die_anywhere(void)
{
	step_kind(0);
}

static void
a_split_queue_with_event_index_may_die_anywhere(void)
{
	step_kind(1);
}

static void
a_packed_queue_may_die_anywhere(void)
{
	step_kind(2);
}

static void
a_packed_queue_with_event_index_may_die_anywhere(void)
{
	step_kind(3);
}

static const struct named_test tests[] = {
	NAMED_TEST(a_split_queue_may_die_anywhere),
	NAMED_TEST(a_split_queue_with_event_index_may_die_anywhere),
	NAMED_TEST(a_packed_queue_may_die_anywhere),
	NAMED_TEST(a_packed_queue_with_event_index_may_die_anywhere),
};

int
main(void)
{
	return named_tests_run("virtqueue step", tests, ARRAY_LEN(tests));
}
