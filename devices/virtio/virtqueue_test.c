/* Virtqueues of both kinds: what the driver sees, what a restart finds, and
 * what a hostile driver gets. */
#include <errno.h>

#include "tests/named_tests.h"
#include "tests/vq_bench.h"

#define KINDS ARRAY_LEN(bench_kinds)

static void
gives_chains_in_order_with_their_memory(void)
{
	for (unsigned k = 0; k < 2 * KINDS; k++) {
		struct bench b;
		uint64_t gpa;
		struct vq_chain c;
		uint16_t id, want;
		uint32_t len;
		char text[16] = { 0 };

		bench_open(&b, bench_kinds[k / 2].features, 8);
		gpa = driver_alloc(&b.d, 3 * 4096);
		for (unsigned i = 0; i < 50; i++) {
			struct driver_seg s[3] = { { gpa, 6, false },
				{ gpa + 4096, 5, false },
				{ gpa + 8192, 100, true } };

			memcpy(driver_at(&b.d, gpa), "hello ", 6);
			memcpy(driver_at(&b.d, gpa + 4096), "world", 5);
			want = k & 1 ? driver_put_indirect(&b.d, 0, s, 3)
				     : driver_put(&b.d, 0, s, 3);
			CU_ASSERT_FATAL(vq_pop(&b.q, &c) == 1);
			CU_ASSERT_EQUAL(c.id, want);
			CU_ASSERT_EQUAL(c.nout, 2);
			CU_ASSERT_EQUAL(c.nin, 1);
			CU_ASSERT_EQUAL(c.out_bytes, 11);
			CU_ASSERT_EQUAL(c.in_bytes, 100);
			CU_ASSERT_FALSE(c.again);
			CU_ASSERT_EQUAL(vq_read(&c, 0, text, 16), 11);
			CU_ASSERT_STRING_EQUAL(text, "hello world");
			CU_ASSERT_EQUAL(vq_read(&c, 4, text, 4), 4);
			CU_ASSERT_EQUAL(memcmp(text, "o wo", 4), 0);
			CU_ASSERT_EQUAL(vq_write(&c, 98, "abcd", 4), 2);
			CU_ASSERT_EQUAL(vq_write(&c, 100, "abcd", 4), 0);
			CU_ASSERT_EQUAL(vq_in_flight(&b.q), 1);
			CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 0);
			vq_push(&b.q, want, 42);
			CU_ASSERT_FATAL(driver_take(&b.d, 0, &id, &len));
			CU_ASSERT_EQUAL(id, want);
			CU_ASSERT_EQUAL(len, 42);
			CU_ASSERT_FALSE(driver_take(&b.d, 0, &id, &len));
			CU_ASSERT_EQUAL(vq_in_flight(&b.q), 0);
		}
		bench_close(&b);
	}
}

static void
cuts_slices_out_of_chains(void)
{
	uint8_t memory[64] = { 0 };
	struct iovec v[4];
	struct vq_chain c = { .nout = 2, .nin = 2 };

	for (unsigned i = 0; i < 4; i++)
		c.iov[i] = (struct iovec){ memory + 16 * i, 16 };
	CU_ASSERT_EQUAL(vq_slice(&c, false, 0, 32, v, 4), 2);
	CU_ASSERT_EQUAL(vq_slice(&c, false, 0, 33, v, 4), 0);
	CU_ASSERT_EQUAL(vq_slice(&c, true, 15, 2, v, 4), 2);
	CU_ASSERT_PTR_EQUAL(v[0].iov_base, memory + 47);
	CU_ASSERT_EQUAL(v[0].iov_len, 1);
	CU_ASSERT_PTR_EQUAL(v[1].iov_base, memory + 48);
	CU_ASSERT_EQUAL(vq_slice(&c, true, 15, 2, v, 1), 0);
	CU_ASSERT_EQUAL(vq_slice(&c, true, 32, 0, v, 4), 0);
	CU_ASSERT_EQUAL(vq_slice(&c, true, 40, 1, v, 4), 0);
}

/* ---- hostile drivers ---- */

enum trick {
	GOOD,
	LOOP,
	NEXT_OUTSIDE,
	ZERO_LENGTH,
	OUTSIDE_RAM,
	OVER_RAM_END,
	ADDRESS_OVERFLOW,
	SUM_OVERFLOW,
	READABLE_LAST,
	INDIRECT_IN_INDIRECT,
	INDIRECT_AND_NEXT,
	INDIRECT_ODD,
	INDIRECT_EMPTY,
	INDIRECT_OUTSIDE,
	INDIRECT_LOOP,
	INDIRECT_NEXT_OUTSIDE,
	HEAD_OUTSIDE,
	HEAD_IN_FLIGHT,
	INDEX_TOO_FAR,
	TRICKS,
};

static const char *const trick_names[] = { "good", "loop", "next outside",
	"zero length", "outside RAM", "over the end of RAM", "address overflow",
	"sum of lengths overflows", "readable last", "indirect in indirect",
	"indirect and next", "odd indirect table", "empty indirect table",
	"indirect table outside RAM", "loop in a table",
	"next outside of a table", "head outside", "head in flight",
	"index too far" };

/* Play a trick with descriptors 0 and 1 and a table.  False: the kind of ring
 * has no such thing. */
static bool
play(struct driver *d, enum trick trick)
{
	struct driver_queue *q = &d->q[0];
	uint64_t gpa = driver_alloc(d, 4096), table = driver_alloc(d, 4096);
	bool packed = driver_packed(d);
	uint16_t available = packed ? 0x0080 : 0;
	uint16_t head = 0, idx = 1;

	/* addr, len, flags, next of descriptor 0, then 1, then in the table */
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} e[4] = { { gpa, 16, 1, 1 }, { gpa + 16, 16, 2, 0 },
		{ gpa, 16, packed ? 0 : 1, 1 }, { gpa + 16, 16, 2, 0 } };

	if (trick >= INDIRECT_IN_INDIRECT && trick <= INDIRECT_NEXT_OUTSIDE) {
		e[0].addr = table;
		e[0].len = 32;
		e[0].flags = 4;
		e[0].next = 0;
	}
	switch (trick) {
	case LOOP:
		e[1].flags = 1;
		if (packed)
			for (unsigned i = 2; i < q->size; i++)
				driver_put_desc(
				    d, q->desc, i, gpa, 16, 0x81, 0);
		break;
	case NEXT_OUTSIDE:
		if (packed)
			return false;
		e[0].next = q->size;
		break;
	case ZERO_LENGTH:
		e[1].len = 0;
		break;
	case OUTSIDE_RAM:
		e[1].addr = HARNESS_RAM;
		break;
	case OVER_RAM_END:
		e[1].addr = HARNESS_RAM - 15;
		break;
	case ADDRESS_OVERFLOW:
		e[1].addr = UINT64_MAX - 3;
		break;
	case SUM_OVERFLOW:
		e[0].flags = 3;
		e[0].len = e[1].len = UINT32_MAX;
		break;
	case READABLE_LAST:
		e[0].flags = 3;
		e[1].flags = 0;
		break;
	case INDIRECT_IN_INDIRECT:
		e[2].flags |= 4;
		break;
	case INDIRECT_AND_NEXT:
		e[0].flags = 5;
		e[0].next = 1;
		break;
	case INDIRECT_ODD:
		e[0].len = 33;
		break;
	case INDIRECT_EMPTY:
		e[0].len = 0;
		break;
	case INDIRECT_OUTSIDE:
		e[0].addr = HARNESS_RAM - 16;
		break;
	case INDIRECT_LOOP:
		if (packed)
			return false;
		e[3].flags = 3;
		break;
	case INDIRECT_NEXT_OUTSIDE:
		if (packed)
			return false;
		e[2].next = 2;
		break;
	case HEAD_OUTSIDE:
		head = q->size;
		e[1].next = q->size; /* packed: the id */
		break;
	case INDEX_TOO_FAR:
		if (packed)
			return false;
		idx = (uint16_t)(q->size + 1);
		break;
	case GOOD:
	case HEAD_IN_FLIGHT:
	case TRICKS:
	default:
		break;
	}
	driver_put_desc(
	    d, table, 0, e[2].addr, e[2].len, e[2].flags, e[2].next);
	driver_put_desc(
	    d, table, 1, e[3].addr, e[3].len, e[3].flags, e[3].next);
	driver_put_desc(d, q->desc, 1, e[1].addr, e[1].len,
	    e[1].flags | available, e[1].next);
	driver_put_desc(d, q->desc, 0, e[0].addr, e[0].len,
	    e[0].flags | available, packed ? e[1].next : e[0].next);
	if (packed && trick == HEAD_IN_FLIGHT)
		driver_put_desc(d, q->desc, 2, gpa, 4, 0x82, 0);
	if (!packed) {
		*driver_word(d, q->driver, 2) = head;
		if (trick == HEAD_IN_FLIGHT)
			*driver_word(d, q->driver, 3) = 0;
		*driver_word(d, q->driver, 1) =
		    trick == HEAD_IN_FLIGHT ? 2 : idx;
	}
	return true;
}

static void
refuses_what_a_hostile_driver_puts(void)
{
	for (unsigned k = 0; k < KINDS; k++) {
		for (enum trick t = GOOD; t < TRICKS; t++) {
			struct bench b;
			struct vq_chain c;
			int rc;

			bench_open(&b, bench_kinds[k].features, 8);
			if (!play(&b.d, t)) {
				bench_close(&b);
				continue;
			}
			rc = vq_pop(&b.q, &c);
			if (t == HEAD_IN_FLIGHT && rc == 1)
				rc = vq_pop(&b.q, &c);
			if (rc != (t == GOOD ? 1 : -EINVAL)) {
				printf("\n%s, %s: %d", bench_kinds[k].name,
				    trick_names[t], rc);
				CU_FAIL("accepted");
			}
			/* Nothing of it is in flight after a restart. */
			CU_ASSERT_EQUAL(bench_restart(&b), 0);
			CU_ASSERT_EQUAL(vq_in_flight(&b.q),
			    t == GOOD || t == HEAD_IN_FLIGHT);
			bench_close(&b);
		}
	}
}

static void
refuses_indirect_tables_that_were_not_negotiated(void)
{
	for (unsigned k = 0; k < KINDS; k++) {
		struct bench b;
		struct vq_chain c;
		struct driver_seg s;

		bench_open(
		    &b, bench_kinds[k].features & ~VIRTIO_F_INDIRECT_DESC, 8);
		s = (struct driver_seg){ driver_alloc(&b.d, 64), 64, true };
		driver_put_indirect(&b.d, 0, &s, 1);
		CU_ASSERT_EQUAL(vq_pop(&b.q, &c), -EINVAL);
		bench_close(&b);
	}
}

static void
refuses_impossible_queues(void)
{
	static const struct {
		struct vq_state s;
		bool split, packed; /* is it possible there */
	} cases[] = {
		{ { 0x10000, 0x11000, 0x12000, 8, 0, 1, { 0 } }, true, true },
		{ { 0x10000, 0x11000, 0x12000, 0, 0, 1, { 0 } }, false, false },
		{ { 0x10000, 0x11000, 0x12000, 6, 0, 1, { 0 } }, false, true },
		{ { 0x10000, 0x11000, 0x12000, 512, 0, 1, { 0 } }, false,
		    false },
		{ { 0x10008, 0x11000, 0x12000, 8, 0, 1, { 0 } }, false, false },
		{ { 0x10000, 0x11001, 0x12000, 8, 0, 1, { 0 } }, false, false },
		{ { 0x10000, 0x11002, 0x12000, 8, 0, 1, { 0 } }, true, false },
		{ { 0x10000, 0x11000, 0x12002, 8, 0, 1, { 0 } }, false, false },
		{ { HARNESS_RAM - 64, 0x11000, 0x12000, 8, 0, 1, { 0 } }, false,
		    false },
		{ { 0x10000, HARNESS_RAM, 0x12000, 8, 0, 1, { 0 } }, false,
		    false },
		{ { 0x10000, 0x11000, UINT64_MAX - 3, 8, 0, 1, { 0 } }, false,
		    false },
	};
	struct bench b;

	bench_open(&b, 0, 8);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		CU_ASSERT_EQUAL(
		    vq_check(&b.h.dev, &cases[i].s, 0) == 0, cases[i].split);
		CU_ASSERT_EQUAL(
		    vq_check(&b.h.dev, &cases[i].s, VIRTIO_F_RING_PACKED) == 0,
		    cases[i].packed);
	}
	bench_close(&b);
}

/* ---- restarts ---- */

static void
gives_again_what_was_in_flight(void)
{
	for (unsigned k = 0; k < KINDS; k++) {
		struct bench b;
		struct vq_chain c;
		uint16_t ids[4], id;
		uint32_t len;
		uint64_t gpa;

		bench_open(&b, bench_kinds[k].features, 8);
		gpa = driver_alloc(&b.d, 4096);
		for (unsigned i = 0; i < 4; i++) {
			struct driver_seg s[2] = { { gpa + 64 * i, 8, false },
				{ gpa + 64 * i + 8, 8, true } };

			*(uint8_t *)driver_at(&b.d, gpa + 64 * i) =
			    (uint8_t)(1 + i);
			ids[i] = driver_put(&b.d, 0, s, 2);
			CU_ASSERT_EQUAL_FATAL(vq_pop(&b.q, &c), 1);
			vq_note(&b.q, &c, 100 + i);
		}
		/* The second is done first; a packed ring then has its used
		 * descriptor where the first one was. */
		vq_push(&b.q, ids[1], 8);
		CU_ASSERT(driver_take(&b.d, 0, &id, &len) && id == ids[1]);
		for (unsigned n = 0; n < 2; n++) {
			static const unsigned left[] = { 0, 2, 3 };

			CU_ASSERT_EQUAL_FATAL(bench_restart(&b), 0);
			CU_ASSERT_EQUAL(vq_in_flight(&b.q), 3);
			CU_ASSERT(vq_pending(&b.q));
			for (unsigned i = 0; i < 3; i++) {
				CU_ASSERT_EQUAL_FATAL(vq_pop(&b.q, &c), 1);
				CU_ASSERT(c.again);
				CU_ASSERT_EQUAL(c.id, ids[left[i]]);
				CU_ASSERT_EQUAL(c.cookie, 100 + left[i]);
				CU_ASSERT_EQUAL(
				    *(uint8_t *)c.iov[0].iov_base, 1 + left[i]);
			}
			vq_unpop(&b.q, &c);
			CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
			CU_ASSERT_EQUAL(c.id, ids[3]);
			CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 0);
		}
		vq_push_many(&b.q, (uint16_t[]){ ids[3], ids[0], ids[2] },
		    (uint32_t[]){ 3, 0, 2 }, 3);
		CU_ASSERT_EQUAL(vq_in_flight(&b.q), 0);
		CU_ASSERT_EQUAL(bench_restart(&b), 0);
		CU_ASSERT(driver_take(&b.d, 0, &id, &len) && id == ids[3]);
		CU_ASSERT_EQUAL(len, 3);
		CU_ASSERT(driver_take(&b.d, 0, &id, &len) && id == ids[0]);
		CU_ASSERT(driver_take(&b.d, 0, &id, &len) && id == ids[2]);
		CU_ASSERT_FALSE(driver_take(&b.d, 0, &id, &len));
		bench_close(&b);
	}
}

static void
begins_anew_with_another_epoch(void)
{
	for (unsigned k = 0; k < KINDS; k++) {
		struct bench b;
		struct vq_chain c;
		struct driver_seg s;

		bench_open(&b, bench_kinds[k].features, 8);
		s = (struct driver_seg){ driver_alloc(&b.d, 64), 64, true };
		driver_put(&b.d, 0, &s, 1);
		CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
		CU_ASSERT_EQUAL(vq_open(&b.q, &b.h.dev, 0, &b.state, b.log,
				    b.d.features, BENCH_EPOCH + 1),
		    0);
		CU_ASSERT_EQUAL(vq_in_flight(&b.q), 0);
		/* The ring has not moved, so the chain is new. */
		CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
		CU_ASSERT_FALSE(c.again);
		bench_close(&b);
	}
}

/* A log full of anything: no crash, and no chain but from guest RAM. */
static void
survives_any_log(void)
{
	unsigned seed = 1;

	for (unsigned k = 0; k < KINDS; k++) {
		struct bench b;
		struct vq_chain c;
		struct driver_seg s;
		unsigned opened = 0;

		bench_open(&b, bench_kinds[k].features, 8);
		s = (struct driver_seg){ driver_alloc(&b.d, 64), 64, true };
		driver_put(&b.d, 0, &s, 1);
		driver_put(&b.d, 0, &s, 1);
		for (unsigned n = 0; n < 3000; n++) {
			uint8_t *bytes = (uint8_t *)b.log;

			memset(b.log, 0, sizeof(*b.log));
			b.log->epoch = BENCH_EPOCH;
			b.log->taken = (uint64_t)(rand_r(&seed) % 4) << 16;
			b.log->used = (uint64_t)(rand_r(&seed) % 3) << 16;
			if (!b.q.packed) {
				b.log->taken |= b.log->taken >> 16;
				b.log->used |= b.log->used >> 16;
			}
			for (unsigned i = 0; i < 8; i++)
				b.log->entry[i].order =
				    (uint64_t)rand_r(&seed) % 4;
			for (unsigned i = rand_r(&seed) & 3; i > 0; i--)
				bytes[16 + (unsigned)rand_r(&seed) % 300] =
				    (uint8_t)rand_r(&seed);
			if (n % 2)
				b.log->busy = b.log->used + 0x10001;
			if (bench_restart(&b) < 0)
				continue;
			opened++;
			while (vq_pop(&b.q, &c) > 0)
				;
		}
		CU_ASSERT(opened > 0);
		bench_close(&b);
	}
}

/* ---- notification suppression ---- */

static void
asks_for_kicks_only_when_it_found_nothing(void)
{
	for (unsigned k = 0; k < KINDS; k++) {
		struct bench b;
		struct vq_chain c;
		struct driver_seg s;

		bench_open(&b, bench_kinds[k].features, 8);
		s = (struct driver_seg){ driver_alloc(&b.d, 64), 64, true };
		for (unsigned i = 0; i < 20; i++) {
			uint16_t id;
			uint32_t len;

			CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 0);
			driver_put(&b.d, 0, &s, 1);
			CU_ASSERT(driver_must_kick(&b.d, 0));
			b.d.q[0].added = 0;
			driver_put(&b.d, 0, &s, 1);
			CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
			driver_put(&b.d, 0, &s, 1);
			CU_ASSERT_FALSE(driver_must_kick(&b.d, 0));
			vq_push(&b.q, c.id, 0);
			for (unsigned n = 0; n < 2; n++) {
				CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
				vq_push(&b.q, c.id, 0);
			}
			while (driver_take(&b.d, 0, &id, &len))
				;
		}
		bench_close(&b);
	}
}

static void
interrupts_as_the_driver_asked(void)
{
	for (unsigned k = 0; k < KINDS; k++) {
		struct bench b;
		struct vq_chain c;
		struct driver_seg s;
		uint16_t id;
		uint32_t len;

		bench_open(&b, bench_kinds[k].features, 8);
		s = (struct driver_seg){ driver_alloc(&b.d, 64), 64, true };
		for (unsigned i = 0; i < 20; i++) {
			CU_ASSERT_FALSE(vq_wants_signal(&b.q));
			driver_arm(&b.d, 0);
			for (unsigned n = 0; n < 2; n++) {
				driver_put(&b.d, 0, &s, 1);
				CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
				vq_push(&b.q, c.id, 0);
			}
			CU_ASSERT(vq_wants_signal(&b.q));
			CU_ASSERT_FALSE(vq_wants_signal(&b.q));
			/* Not armed again: with an event index, no more. */
			driver_put(&b.d, 0, &s, 1);
			CU_ASSERT_EQUAL(vq_pop(&b.q, &c), 1);
			vq_push(&b.q, c.id, 0);
			CU_ASSERT_EQUAL(
			    vq_wants_signal(&b.q), !driver_event(&b.d));
			while (driver_take(&b.d, 0, &id, &len))
				;
		}
		bench_close(&b);
	}
}

/* ---- everything at once ---- */

/* The device side of a random run: which chains it holds. */
struct soak {
	uint16_t held[VQ_SIZE_MAX];
	unsigned nheld;
	unsigned puts, takes;
};

static void
soak_device(struct bench *b, struct soak *s, unsigned *seed)
{
	struct vq_chain c;
	uint16_t ids[4];
	uint32_t written[4] = { 1, 2, 3, 4 };
	unsigned n = 0;

	switch (rand_r(seed) % 4) {
	case 0:
		CU_ASSERT_EQUAL_FATAL(bench_restart(b), 0);
		s->nheld = 0;
		break;
	case 1:
		if (vq_pop(&b->q, &c) != 1)
			break;
		if (rand_r(seed) % 4 == 0)
			vq_unpop(&b->q, &c);
		else
			s->held[s->nheld++] = c.id;
		break;
	default:
		while (n < 4 && s->nheld > 0 && rand_r(seed) % 4) {
			unsigned i = (unsigned)rand_r(seed) % s->nheld;

			ids[n++] = s->held[i];
			s->held[i] = s->held[--s->nheld];
		}
		vq_push_many(&b->q, ids, written, n);
		break;
	}
}

static void
soak_driver(struct bench *b, struct soak *s, unsigned *seed, uint64_t gpa)
{
	struct driver_seg seg[3] = { { gpa, 4, false }, { gpa + 64, 4, false },
		{ gpa + 128, 4, true } };
	unsigned n = 1 + (unsigned)rand_r(seed) % 3;
	uint64_t top = b->d.next_gpa;
	uint16_t id;
	uint32_t len;

	if (rand_r(seed) % 2) {
		s->puts += driver_put(&b->d, 0, seg + 3 - n, n) != DRIVER_NONE;
	} else if (driver_take(&b->d, 0, &id, &len)) {
		CU_ASSERT(len >= 1 && len <= 4);
		s->takes++;
	}
	b->d.next_gpa = top;
}

static void
loses_and_doubles_nothing_over_many_restarts(void)
{
	static const uint16_t sizes[] = { 1, 2, 8, 256, 7, 255 };

	for (unsigned k = 0; k < KINDS * ARRAY_LEN(sizes); k++) {
		struct bench b;
		struct soak s = { .nheld = 0 };
		unsigned seed = k;
		struct vq_chain c;
		uint16_t id;
		uint32_t len;
		uint16_t size = sizes[k / KINDS];
		uint64_t gpa;

		/* Only a packed ring may have any size. */
		if (size % 2 == 1 && size > 1 && k % KINDS < 2)
			continue;
		bench_open(&b, bench_kinds[k % KINDS].features, size);
		gpa = driver_alloc(&b.d, 4096);
		for (unsigned i = 0; i < 20000; i++) {
			if (rand_r(&seed) % 2)
				soak_device(&b, &s, &seed);
			else
				soak_driver(&b, &s, &seed, gpa);
		}
		while (s.nheld > 0)
			vq_push(&b.q, s.held[--s.nheld], 1);
		while (vq_pop(&b.q, &c) == 1)
			vq_push(&b.q, c.id, 1);
		while (driver_take(&b.d, 0, &id, &len))
			s.takes++;
		CU_ASSERT_EQUAL(s.puts, s.takes);
		CU_ASSERT(s.puts > 100);
		bench_close(&b);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(gives_chains_in_order_with_their_memory),
	NAMED_TEST(cuts_slices_out_of_chains),
	NAMED_TEST(refuses_what_a_hostile_driver_puts),
	NAMED_TEST(refuses_indirect_tables_that_were_not_negotiated),
	NAMED_TEST(refuses_impossible_queues),
	NAMED_TEST(gives_again_what_was_in_flight),
	NAMED_TEST(begins_anew_with_another_epoch),
	NAMED_TEST(survives_any_log),
	NAMED_TEST(asks_for_kicks_only_when_it_found_nothing),
	NAMED_TEST(interrupts_as_the_driver_asked),
	NAMED_TEST(loses_and_doubles_nothing_over_many_restarts),
};

int
main(void)
{
	return named_tests_run("virtqueue", tests, ARRAY_LEN(tests));
}
