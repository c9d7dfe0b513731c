/*
 * Death of a disk's process between any two completions, over a backend whose
 * requests end when the test says so.
 */
#include <CUnit/Basic.h>

#include "tests/disk_history.h"
#include "tests/named_tests.h"

#define SECTORS	 HISTORY_SECTORS
#define HELD_MAX 1024u

/* The disk, and what the kernel is doing to it: they outlive the process. */
static uint8_t content[SECTORS * 512];
static struct block_io *held[HELD_MAX];
static unsigned nheld, flushes;
static bool unfenced; /* the next process's fence stays shut */
static int boxes[1];

struct fake_context {
	struct block_context block;
	struct block_backend backend;
	struct block_io *ended;
};

static struct fake_context *
from(struct block_backend *b)
{
	return (struct fake_context *)((char *)b -
	    offsetof(struct fake_context, backend));
}

static const struct fake_context *
from_const(const struct block_backend *b)
{
	return (const struct fake_context *)((const char *)b -
	    offsetof(struct fake_context, backend));
}

static void
fake_submit(struct block_backend *b, struct block_io *io)
{
	BUG_ON(nheld == HELD_MAX);
	held[nheld++] = io;
	b->in_flight++;
}

static void
fake_kick(struct block_backend *b UNUSED)
{
}

static bool
fake_pending(const struct block_backend *b)
{
	return from_const(b)->ended != NULL;
}

static struct block_io *
fake_reap(struct block_backend *b)
{
	struct fake_context *c = from(b);
	struct block_io *io = c->ended;

	if (io) {
		c->ended = io->next;
		b->in_flight--;
	}
	return io;
}

/* What the kernel does with one of them. */
static void
apply(struct block_io *io)
{
	uint64_t at = io->offset;

	BUG_ON(io->offset + io->length > sizeof(content));
	for (unsigned i = 0; i < io->niov; i++) {
		if (io->op == BLOCK_WRITE)
			memcpy(content + at, io->iov[i].iov_base,
			    io->iov[i].iov_len);
		else
			memcpy(io->iov[i].iov_base, content + at,
			    io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
	if (io->op == BLOCK_ZEROES || io->op == BLOCK_DISCARD)
		memset(content + at, 0, io->length);
	io->result = io->op == BLOCK_READ || io->op == BLOCK_WRITE
	    ? (int64_t)io->length
	    : 0;
	flushes += io->op == BLOCK_FLUSH;
}

static void
end(struct block_backend *b, unsigned i)
{
	struct fake_context *c = from(b);
	struct block_io *io = held[i];

	apply(io);
	memmove(&held[i], &held[i + 1], (--nheld - i) * sizeof(held[0]));
	io->next = c->ended;
	c->ended = io;
}

static int
fake_wait(struct block_backend *b)
{
	if (nheld > 0 && from(b)->ended == NULL)
		end(b, 0);
	return 0;
}

static bool
fake_ready(struct block_backend *b UNUSED, int fd UNUSED, uint32_t ev UNUSED)
{
	return false;
}

static int64_t
fake_size(struct block_backend *b UNUSED)
{
	return sizeof(content);
}

static const struct block_backend_ops fake_ops = {
	.name = "fake",
	.submit = fake_submit,
	.kick = fake_kick,
	.pending = fake_pending,
	.reap = fake_reap,
	.wait = fake_wait,
	.ready = fake_ready,
	.size = fake_size,
};

static int
fake_start(struct device *dev, bool fresh UNUSED)
{
	struct fake_context *c = device_context(dev);

	c->backend.ops = &fake_ops;
	return block_start(dev, &c->backend, unfenced ? boxes[0] : -1, -1);
}

static const struct virtio_class class = {
	BLOCK_CLASS,
	.start = fake_start,
};

static const struct device_type type = {
	.name = "fake-disk",
	.title = "a disk that does what the test says",
	.state_version = BLOCK_STATE_VERSION,
	VIRTIO_DEVICE_TYPE(
	    class, BLOCK_QUEUES_MAX, struct block_state, struct fake_context),
	.log_size = BLOCK_LOG_SIZE,
	.counters = block_counters,
	.ncounters = BLOCK_COUNTERS,
};

struct disk {
	struct harness h;
	struct driver d;
};

static struct block_backend *
backend(struct disk *t)
{
	struct fake_context *c = device_context(&t->h.dev);

	return &c->backend;
}

static void
open_disk(struct disk *t, uint64_t features)
{
	const struct harness_want want = { .vcpus = 1 };

	memset(content, 0, sizeof(content));
	nheld = flushes = 0;
	unfenced = false;
	memset(t, 0, sizeof(*t));
	harness_make_want(&t->h, &type, &want);
	BUG_ON(harness_start(&t->h, &type) != 0);
	driver_open_sized(&t->d, &t->h, GUEST_FEATURES | features, 64);
}

/* One of the held requests ends, and the device hears of it. */
static void
end_one(struct disk *t, unsigned i)
{
	end(backend(t), i);
	harness_run(&t->h);
}

/*
 * The process dies.  Of what it had started, the kernel still does those with
 * a bit in `done`, in some order, before the fence.
 */
static void
die(struct disk *t, uint64_t done, bool backwards)
{
	for (unsigned k = 0; k < nheld; k++) {
		unsigned i = backwards ? nheld - 1 - k : k;

		if (done >> (i % 64) & 1)
			apply(held[i]);
	}
	nheld = 0;
	harness_restart(&t->h);
	harness_run(&t->h);
}

static void
put_write(struct disk *t, struct guest_request *r, unsigned q, uint64_t sector,
    unsigned sectors, uint8_t byte)
{
	memset(harness_ram(&t->h, r->data, 512 * sectors), byte, 512 * sectors);
	guest_put(&t->d, r, q, VIRTIO_BLK_T_OUT, sector, 512 * sectors, false);
	driver_kick(&t->d, q);
	harness_run(&t->h);
}

static void
overlapping_writes_are_done_one_after_the_other(void)
{
	struct guest_request r[5];
	struct disk t;

	open_disk(&t, 0);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++)
		guest_make(&t.d, &r[i], 16384);
	put_write(&t, &r[0], 0, 0, 8, 1);
	put_write(&t, &r[1], 1, 7, 2, 2); /* waits for 0 */
	put_write(&t, &r[2], 2, 8, 8, 3); /* waits for 1 only */
	put_write(&t, &r[3], 3, 16, 4, 4); /* touches nobody */
	put_write(&t, &r[4], 0, 4, 16, 5); /* waits for all */
	CU_ASSERT_EQUAL(nheld, 2);
	end_one(&t, 1);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[3]), 0);
	CU_ASSERT_EQUAL(nheld, 1);
	end_one(&t, 0);
	CU_ASSERT_EQUAL(nheld, 1);
	CU_ASSERT_EQUAL(held[0]->offset, 7 * 512);
	end_one(&t, 0);
	CU_ASSERT_EQUAL(held[0]->offset, 8 * 512);
	end_one(&t, 0);
	CU_ASSERT_EQUAL(held[0]->offset, 4 * 512);
	end_one(&t, 0);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[4]), 0);
	CU_ASSERT_EQUAL(content[3 * 512], 1);
	CU_ASSERT_EQUAL(content[19 * 512], 5);
	harness_close(&t.h);
}

static void
reads_and_flushes_wait_for_nobody(void)
{
	struct guest_request r[3];
	struct disk t;

	open_disk(&t, 0);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++)
		guest_make(&t.d, &r[i], 4096);
	put_write(&t, &r[0], 0, 0, 8, 1);
	guest_put(&t.d, &r[1], 0, VIRTIO_BLK_T_IN, 0, 4096, true);
	guest_put(&t.d, &r[2], 0, VIRTIO_BLK_T_FLUSH, 0, 0, false);
	driver_kick(&t.d, 0);
	harness_run(&t.h);
	CU_ASSERT_EQUAL(nheld, 3);
	end_one(&t, 2);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[2]), 0);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[0]), GUEST_PENDING);
	harness_close(&t.h);
}

/* The newer of two overlapping writes was answered; nothing may undo it. */
static void
what_was_in_flight_is_started_again_in_order(void)
{
	struct guest_request r[3];
	struct disk t;

	for (unsigned packed = 0; packed < 2; packed++) {
		open_disk(&t, packed ? VIRTIO_F_RING_PACKED : 0);
		for (unsigned i = 0; i < ARRAY_LEN(r); i++)
			guest_make(&t.d, &r[i], 4096);
		put_write(&t, &r[0], 0, 0, 1, 1);
		put_write(&t, &r[1], 0, 0, 1, 2);
		put_write(&t, &r[2], 0, 1, 1, 3);
		CU_ASSERT_EQUAL(nheld, 2);
		die(&t, 3, false);
		CU_ASSERT_EQUAL(nheld, 2);
		CU_ASSERT_EQUAL(content[0], 1);
		end_one(&t, 0);
		die(&t, 0, false);
		CU_ASSERT_EQUAL(nheld, 2);
		while (nheld > 0)
			end_one(&t, 0);
		CU_ASSERT_EQUAL(content[0], 2);
		CU_ASSERT_EQUAL(content[512], 3);
		for (unsigned i = 0; i < ARRAY_LEN(r); i++)
			CU_ASSERT_EQUAL(guest_status(&t.d, &r[i]), 0);
		harness_close(&t.h);
	}
}

static bool
has_started(void *ctx UNUSED)
{
	return nheld > 0;
}

static void
nothing_is_started_before_the_fence(void)
{
	struct guest_request r;
	struct fence f;
	struct disk t;
	int p[2];

	open_disk(&t, 0);
	guest_make(&t.d, &r, 4096);
	put_write(&t, &r, 0, 0, 1, 1);
	boxes[0] = fence_mailbox();
	BUG_ON(pipe2(p, O_CLOEXEC) < 0);
	fence_open(&f, boxes[0], false);
	CU_ASSERT_EQUAL(fence_leave(&f, p[0]), 0);
	close(p[0]);
	unfenced = true;
	die(&t, 0, false);
	CU_ASSERT_EQUAL(nheld, 0);
	die(&t, 0, false);
	CU_ASSERT_EQUAL(nheld, 0);
	close(p[1]);
	CU_ASSERT_TRUE(harness_run_until(&t.h, has_started, NULL));
	end_one(&t, 0);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r), 0);
	CU_ASSERT_EQUAL(content[0], 1);
	harness_close(&t.h);
	close(boxes[0]);
}

static void
without_anything_under_way_the_fence_is_not_waited_for(void)
{
	struct guest_request r;
	struct fence f;
	struct disk t;
	int p[2], q[2];

	open_disk(&t, 0);
	guest_make(&t.d, &r, 4096);
	put_write(&t, &r, 0, 0, 1, 1);
	end_one(&t, 0);
	boxes[0] = fence_mailbox();
	BUG_ON(pipe2(p, O_CLOEXEC) < 0);
	fence_open(&f, boxes[0], false);
	CU_ASSERT_EQUAL(fence_leave(&f, p[0]), 0);
	close(p[0]);
	unfenced = true;
	die(&t, 0, false);
	put_write(&t, &r, 0, 0, 1, 2);
	CU_ASSERT_EQUAL(nheld, 1);
	/* One that dies itself while it waits has nothing to add. */
	BUG_ON(pipe2(q, O_CLOEXEC) < 0);
	CU_ASSERT_EQUAL(fence_leave(&f, q[0]), 0);
	die(&t, 0, false);
	die(&t, 0, false);
	CU_ASSERT_EQUAL(nheld, 0);
	harness_close(&t.h);
	close(boxes[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
}

static void
a_reset_waits_for_what_has_started_and_forgets_the_rest(void)
{
	struct guest_request r[3];
	struct disk t;

	open_disk(&t, 0);
	for (unsigned i = 0; i < ARRAY_LEN(r); i++)
		guest_make(&t.d, &r[i], 4096);
	put_write(&t, &r[0], 0, 0, 2, 1);
	put_write(&t, &r[1], 0, 1, 2, 2);
	put_write(&t, &r[2], 1, 2, 2, 3);
	CU_ASSERT_EQUAL(nheld, 1);
	driver_set_status(&t.d, 0);
	CU_ASSERT_EQUAL(nheld, 0);
	CU_ASSERT_EQUAL(content[0], 1);
	CU_ASSERT_EQUAL(backend(&t)->in_flight, 0);
	driver_open_sized(&t.d, &t.h, GUEST_FEATURES, 64);
	guest_make(&t.d, &r[0], 4096);
	put_write(&t, &r[0], 0, 5, 1, 9);
	CU_ASSERT_EQUAL(nheld, 1);
	end_one(&t, 0);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[0]), 0);
	harness_close(&t.h);
}

static void
more_requests_than_it_takes_wait_in_the_ring(void)
{
	enum { N = 160 };
	static struct guest_request r[BLOCK_QUEUES_MAX][N / 2];
	struct disk t;
	unsigned taken;

	open_disk(&t, 0);
	driver_open_sized(&t.d, &t.h, GUEST_FEATURES, 256);
	for (unsigned q = 0; q < BLOCK_QUEUES_MAX; q++) {
		for (unsigned i = 0; i < N / 2; i++) {
			guest_make(&t.d, &r[q][i], 512);
			guest_put(&t.d, &r[q][i], q, VIRTIO_BLK_T_OUT,
			    i % SECTORS, 512, false);
		}
		driver_kick(&t.d, q);
	}
	harness_run(&t.h);
	taken = (unsigned)stats_get(&t.h.dev.store.stats->queue_depth);
	CU_ASSERT_EQUAL(taken, BLOCK_REQUESTS_MAX);
	while (nheld > 0)
		end_one(&t, 0);
	for (unsigned q = 0; q < BLOCK_QUEUES_MAX; q++)
		for (unsigned i = 0; i < N / 2; i++)
			CU_ASSERT_EQUAL(guest_status(&t.d, &r[q][i]), 0);
	harness_close(&t.h);
}

/* ---- histories ---- */

#define STEPS 4000u

static void
run_history(uint64_t features, uint32_t seed)
{
	static struct history y;
	struct disk t;
	int q;

	open_disk(&t, features);
	history_open(&y, &t.d, seed);
	for (unsigned n = 0; n < STEPS; n++) {
		struct history_op *o = &y.op[history_draw(&y, HISTORY_OPS)];

		if (history_draw(&y, 2) == 0) {
			q = history_put(&y, o);
			if (q >= 0)
				driver_kick(&t.d, (unsigned)q);
			harness_run(&t.h);
		} else if (nheld > 0 && history_draw(&y, 3) != 0) {
			end_one(&t, history_draw(&y, nheld));
		} else if (nheld > 0 && history_draw(&y, 3) == 0) {
			/* Dies after the end and before the answer. */
			end(backend(&t), history_draw(&y, nheld));
		}
		if (history_draw(&y, 20) == 0)
			die(&t,
			    (uint64_t)history_draw(&y, 1 << 16)
				<< history_draw(&y, 48),
			    history_draw(&y, 2) == 0);
		history_take(&y);
	}
	harness_run(&t.h);
	while (nheld > 0)
		end_one(&t, 0);
	CU_ASSERT_EQUAL(history_take(&y), 0);
	history_check(&y, 0, SECTORS, content, ++y.ticks);
	harness_close(&t.h);
}

static void
no_sector_ever_goes_back(void)
{
	static const uint64_t kinds[] = { 0, VIRTIO_F_RING_PACKED };

	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++)
		for (uint32_t i = 1; i <= 4; i++)
			run_history(kinds[k], i);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(overlapping_writes_are_done_one_after_the_other),
		NAMED_TEST(reads_and_flushes_wait_for_nobody),
		NAMED_TEST(what_was_in_flight_is_started_again_in_order),
		NAMED_TEST(nothing_is_started_before_the_fence),
		NAMED_TEST(
		    without_anything_under_way_the_fence_is_not_waited_for),
		NAMED_TEST(
		    a_reset_waits_for_what_has_started_and_forgets_the_rest),
		NAMED_TEST(more_requests_than_it_takes_wait_in_the_ring),
		NAMED_TEST(no_sector_ever_goes_back),
	};

	return named_tests_run("recovery", tests, ARRAY_LEN(tests));
}
