/*
 * Nobody sleeps through a chain: the device that asks to be rung, and the
 * driver that asks for an interrupt, each against the other, with the event
 * index, where the question is one of an index and not of a flag.
 */
#include "tests/litmus.h"
#include "tests/named_tests.h"
#include "tests/vq_bench.h"

struct side {
	struct bench b;
	struct driver_seg seg;
	bool have; /* the waiter has seen it */
	struct vq_chain c;
};

static void
open_side(struct side *x, unsigned kind)
{
	memset(x, 0, sizeof(*x));
	bench_open(&x->b, bench_kinds[kind].features, 8);
	x->seg = (struct driver_seg){ driver_alloc(&x->b.d, 64), 64, true };
}

static void
run(struct side *x, struct litmus *l)
{
	l->ctx = x;
	litmus_run(l);
	printf("(%llu rounds) ", (unsigned long long)l->rounds);
	CU_ASSERT(l->rounds > 0);
	CU_ASSERT_EQUAL(l->lost, 0);
	bench_close(&x->b);
}

/* ---- the driver makes a chain available, the device waits for it ---- */

static bool
make_available(void *ctx)
{
	struct side *x = ctx;
	struct driver *d = &x->b.d;
	uint16_t id;
	uint32_t len;
	bool kick;

	while (driver_take(d, 0, &id, &len))
		;
	BUG_ON(driver_put(d, 0, &x->seg, 1) == DRIVER_NONE);
	kick = driver_must_kick(d, 0);
	d->q[0].added = 0;
	return kick;
}

/* vq_pop() asks, and looks again. */
static void
ask_for_doorbell(void *ctx)
{
	struct side *x = ctx;

	x->have = vq_pop(&x->b.q, &x->c) == 1;
}

static bool
look_for_available(void *ctx)
{
	struct side *x = ctx;

	return x->have;
}

static void
use_it(void *ctx)
{
	struct side *x = ctx;

	BUG_ON(!x->have && vq_pop(&x->b.q, &x->c) != 1);
	vq_push(&x->b.q, x->c.id, 0);
}

static void
misses_no_chain(unsigned kind)
{
	static struct side x;
	struct litmus l = {
		.make = make_available,
		.arm = ask_for_doorbell,
		.look = look_for_available,
		.take = use_it,
	};

	open_side(&x, kind);
	run(&x, &l);
}

/* ---- the device uses a chain, the driver waits for it ---- */

static bool
make_used(void *ctx)
{
	struct side *x = ctx;

	BUG_ON(vq_pop(&x->b.q, &x->c) != 1);
	vq_push(&x->b.q, x->c.id, 0);
	return vq_wants_signal(&x->b.q);
}

static void
ask_for_interrupt(void *ctx)
{
	struct side *x = ctx;

	driver_arm(&x->b.d, 0);
}

static bool
look_for_used(void *ctx)
{
	struct side *x = ctx;
	uint16_t id;
	uint32_t len;

	if (!x->have)
		x->have = driver_take(&x->b.d, 0, &id, &len);
	return x->have;
}

static void
put_another(void *ctx)
{
	struct side *x = ctx;

	BUG_ON(!look_for_used(x));
	x->have = false;
	BUG_ON(driver_put(&x->b.d, 0, &x->seg, 1) == DRIVER_NONE);
}

static void
owes_no_interrupt(unsigned kind)
{
	static struct side x;
	struct litmus l = {
		.make = make_used,
		.arm = ask_for_interrupt,
		.look = look_for_used,
		.take = put_another,
	};

	open_side(&x, kind);
	BUG_ON(driver_put(&x.b.d, 0, &x.seg, 1) == DRIVER_NONE);
	run(&x, &l);
}

static void
a_split_queue_misses_no_chain(void)
{
	misses_no_chain(1);
}

static void
a_packed_queue_misses_no_chain(void)
{
	misses_no_chain(3);
}

static void
a_split_queue_owes_no_interrupt(void)
{
	owes_no_interrupt(1);
}

static void
a_packed_queue_owes_no_interrupt(void)
{
	owes_no_interrupt(3);
}

static const struct named_test tests[] = {
	NAMED_TEST(a_split_queue_misses_no_chain),
	NAMED_TEST(a_packed_queue_misses_no_chain),
	NAMED_TEST(a_split_queue_owes_no_interrupt),
	NAMED_TEST(a_packed_queue_owes_no_interrupt),
};

int
main(void)
{
	return named_tests_run("virtqueue litmus", tests, ARRAY_LEN(tests));
}
