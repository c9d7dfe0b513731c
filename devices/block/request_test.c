/* What a driver may ask for, and what it gets told. */
#include <CUnit/Basic.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "devices/block/request.h"
#include "proto/base.h"
#include "tests/named_tests.h"

#define DISK 1000u /* sectors */

struct segment {
	uint64_t sector;
	uint32_t sectors, flags;
};

static const struct block_limits usual = {
	.size = DISK * BLOCK_SECTOR,
	.block_size = 512,
	.discard = true,
	.zeroes = true,
};

static uint8_t memory[64 << 10];

/* A chain of a header and `out` more bytes of memory, and `in` to write. */
static void
make_chain(
    struct vq_chain *c, uint32_t type, uint64_t sector, size_t out, size_t in)
{
	uint32_t type_le = htole32(type);
	uint64_t sector_le = htole64(sector);

	memset(c, 0, sizeof(*c));
	memcpy(memory, &type_le, 4);
	memset(memory + 4, 0xff, 4); /* the priority, which says nothing */
	memcpy(memory + 8, &sector_le, 8);
	c->iov[0] = (struct iovec){ memory, 16 + out };
	c->nout = 1;
	c->out_bytes = (uint32_t)(16 + out);
	c->iov[1] = (struct iovec){ memory, in };
	c->nin = in > 0;
	c->in_bytes = (uint32_t)in;
}

static void
answers_as_the_specification_says(void)
{
	enum { OK = 0, IOERR = 1, UNSUPP = 2, DO = 8, ID = 9 };
	static const struct {
		uint32_t type;
		uint64_t sector;
		size_t out, in;
		int want;
	} table[] = {
		{ VIRTIO_BLK_T_IN, 0, 0, 513, DO },
		{ VIRTIO_BLK_T_IN, DISK - 1, 0, 513, DO },
		{ VIRTIO_BLK_T_IN, DISK - 1, 0, 1025, IOERR },
		{ VIRTIO_BLK_T_IN, DISK, 0, 513, IOERR },
		{ VIRTIO_BLK_T_IN, DISK, 0, 1, OK },
		{ VIRTIO_BLK_T_IN, DISK + 1, 0, 1, IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX, 0, 513, IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX / 512, 0, 513, IOERR },
		{ VIRTIO_BLK_T_IN, 1ull << 55, 0, 513, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, 512, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, 514, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 512, 1, DO },
		{ VIRTIO_BLK_T_OUT, 0, 4096, 1, DO },
		{ VIRTIO_BLK_T_OUT, 0, 511, 1, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 0, 1, OK },
		{ VIRTIO_BLK_T_OUT, DISK, 512, 1, IOERR },
		{ VIRTIO_BLK_T_FLUSH, 0, 0, 1, DO },
		{ VIRTIO_BLK_T_FLUSH, 77, 512, 513, DO },
		{ VIRTIO_BLK_T_GET_ID, 0, 0, 21, ID },
		{ VIRTIO_BLK_T_GET_ID, 0, 0, 1, ID },
		{ VIRTIO_BLK_T_GET_LIFETIME, 0, 0, 100, UNSUPP },
		{ VIRTIO_BLK_T_SECURE_ERASE, 0, 16, 1, UNSUPP },
		{ 2, 0, 0, 1, UNSUPP },
		{ UINT32_MAX, 0, 0, 1, UNSUPP },
		{ VIRTIO_BLK_T_DISCARD, 0, 0, 1, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, 15, 1, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, 17 * 16, 1, IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 17, 1, IOERR },
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct vq_chain c;
		struct block_job j;
		int got = -1;

		make_chain(&c, table[i].type, table[i].sector, table[i].out,
		    table[i].in);
		CU_ASSERT_EQUAL(block_parse(&c, &usual, &j), 0);
		if (j.kind == BLOCK_JOB_DONE)
			got = j.status;
		else
			got = j.kind == BLOCK_JOB_IO ? DO : ID;
		CU_ASSERT_EQUAL(got, table[i].want);
	}
}

static void
ranges_are_checked_each(void)
{
	static const struct {
		struct segment s[3];
		unsigned n;
		uint32_t type;
		int want; /* status; -1: to be done */
		uint64_t start, end; /* sectors */
	} table[] = {
		{ { { 8, 8, 0 } }, 1, VIRTIO_BLK_T_DISCARD, -1, 8, 16 },
		{ { { 8, 8, 1 } }, 1, VIRTIO_BLK_T_DISCARD, 2, 0, 0 },
		{ { { 8, 8, 1 } }, 1, VIRTIO_BLK_T_WRITE_ZEROES, -1, 8, 16 },
		{ { { 8, 8, 2 } }, 1, VIRTIO_BLK_T_WRITE_ZEROES, 2, 0, 0 },
		{ { { 8, 0, 0 } }, 1, VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, 0 },
		{ { { 100, 1, 0 }, { 50, 2, 0 }, { 7, 0, 0 } }, 3,
		    VIRTIO_BLK_T_DISCARD, -1, 50, 101 },
		{ { { 100, 1, 0 }, { DISK, 1, 0 } }, 2, VIRTIO_BLK_T_DISCARD, 1,
		    0, 0 },
		{ { { DISK - 1, 2, 0 } }, 1, VIRTIO_BLK_T_DISCARD, 1, 0, 0 },
		{ { { UINT64_MAX, 1, 0 } }, 1, VIRTIO_BLK_T_DISCARD, 1, 0, 0 },
		{ { { 0, UINT32_MAX, 0 } }, 1, VIRTIO_BLK_T_DISCARD, 1, 0, 0 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct vq_chain c;
		struct block_job j;

		memcpy(memory + 16, table[i].s,
		    table[i].n * sizeof(struct segment));
		make_chain(&c, table[i].type, 0,
		    table[i].n * sizeof(struct segment), 1);
		CU_ASSERT_EQUAL(block_parse(&c, &usual, &j), 0);
		if (table[i].want >= 0) {
			CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_DONE);
			CU_ASSERT_EQUAL(j.status, table[i].want);
			continue;
		}
		CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_IO);
		CU_ASSERT_EQUAL(j.start, table[i].start * 512);
		CU_ASSERT_EQUAL(j.end, table[i].end * 512);
	}
}

static void
a_read_only_disk_is_not_written(void)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_OUT,
		VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	struct block_limits l = usual;

	l.read_only = true;
	memset(memory + 16, 0, 16);
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		struct vq_chain c;
		struct block_job j;

		make_chain(&c, types[i], 0,
		    types[i] == VIRTIO_BLK_T_OUT ? 512 : 16, 1);
		CU_ASSERT_EQUAL(block_parse(&c, &l, &j), 0);
		CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_DONE);
		CU_ASSERT_EQUAL(j.status, VIRTIO_BLK_S_IOERR);
	}
}

static void
what_was_not_negotiated_is_not_done(void)
{
	struct block_limits l = usual;
	struct vq_chain c;
	struct block_job j;

	l.discard = false;
	make_chain(&c, VIRTIO_BLK_T_DISCARD, 0, 16, 1);
	CU_ASSERT_EQUAL(block_parse(&c, &l, &j), 0);
	CU_ASSERT_EQUAL(j.status, VIRTIO_BLK_S_UNSUPP);
	l.zeroes = false;
	make_chain(&c, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 1);
	CU_ASSERT_EQUAL(block_parse(&c, &l, &j), 0);
	CU_ASSERT_EQUAL(j.status, VIRTIO_BLK_S_UNSUPP);
}

static void
large_blocks_want_whole_ones(void)
{
	struct block_limits l = usual;
	struct vq_chain c;
	struct block_job j;

	l.block_size = 4096;
	make_chain(&c, VIRTIO_BLK_T_IN, 8, 0, 4097);
	CU_ASSERT_EQUAL(block_parse(&c, &l, &j), 0);
	CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_IO);
	make_chain(&c, VIRTIO_BLK_T_IN, 4, 0, 4097);
	CU_ASSERT_EQUAL(block_parse(&c, &l, &j), 0);
	CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_DONE);
	make_chain(&c, VIRTIO_BLK_T_IN, 8, 0, 513);
	CU_ASSERT_EQUAL(block_parse(&c, &l, &j), 0);
	CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_DONE);
}

static void
chains_that_cannot_be_answered_break_the_rules(void)
{
	struct vq_chain c;
	struct block_job j;

	make_chain(&c, VIRTIO_BLK_T_IN, 0, 0, 0);
	CU_ASSERT_EQUAL(block_parse(&c, &usual, &j), -EPROTO);
	make_chain(&c, VIRTIO_BLK_T_IN, 0, 0, 513);
	c.iov[0].iov_len = c.out_bytes = 15;
	CU_ASSERT_EQUAL(block_parse(&c, &usual, &j), -EPROTO);
	c.nout = 0;
	c.out_bytes = 0;
	CU_ASSERT_EQUAL(block_parse(&c, &usual, &j), -EPROTO);
}

static void
a_header_may_be_cut_anywhere(void)
{
	struct vq_chain c;
	struct block_job j;

	make_chain(&c, VIRTIO_BLK_T_OUT, 3, 512, 1);
	for (size_t cut = 1; cut < 528; cut += 7) {
		c.iov[0] = (struct iovec){ memory, cut };
		c.iov[1] = (struct iovec){ memory + cut, 528 - cut };
		c.iov[2] = (struct iovec){ memory, 1 };
		c.nout = 2;
		CU_ASSERT_EQUAL(block_parse(&c, &usual, &j), 0);
		CU_ASSERT_EQUAL(j.kind, BLOCK_JOB_IO);
		CU_ASSERT_EQUAL(j.start, 3 * 512);
		CU_ASSERT_EQUAL(j.end, 4 * 512);
	}
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(answers_as_the_specification_says),
		NAMED_TEST(ranges_are_checked_each),
		NAMED_TEST(a_read_only_disk_is_not_written),
		NAMED_TEST(what_was_not_negotiated_is_not_done),
		NAMED_TEST(large_blocks_want_whole_ones),
		NAMED_TEST(chains_that_cannot_be_answered_break_the_rules),
		NAMED_TEST(a_header_may_be_cut_anywhere),
	};

	return named_tests_run("request", tests, ARRAY_LEN(tests));
}
