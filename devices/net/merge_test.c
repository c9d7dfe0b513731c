/* Merging is the opposite of cutting. */
#include "devices/net/merge.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static void
store16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A large segment as a driver makes it; options: bytes of TCP's. */
static size_t
build(uint8_t *f, unsigned version, size_t options, size_t payload,
    uint16_t size, struct net_header *h)
{
	size_t l4 = version == 4 ? 34 : 54, data = l4 + 20 + options;
	size_t n = data + payload;
	uint8_t tail[4] = { 0, 6 };
	uint16_t sum;

	for (size_t i = 0; i < n; i++)
		f[i] = (uint8_t)(i * 7 + (i >> 8));
	store16(f + 12, version == 4 ? 0x0800 : 0x86dd);
	if (version == 4) {
		f[14] = 0x45;
		store16(f + 16, n - 14);
		store16(f + 20, 0x4000);
		f[23] = 6;
		store16(f + 24, 0);
		sum = (uint16_t)~frame_sum(f + 14, 20, 0);
		memcpy(f + 24, &sum, 2);
		sum = frame_sum(f + 26, 8, 0);
	} else {
		f[14] = 0x60;
		store16(f + 18, n - 54);
		f[20] = 6;
		sum = frame_sum(f + 22, 32, 0);
	}
	f[l4 + 12] = (uint8_t)((20 + options) / 4 << 4);
	f[l4 + 13] = 0x18; /* ACK, PSH */
	store16(tail + 2, n - l4);
	sum = frame_sum(tail, 4, sum);
	memcpy(f + l4 + 16, &sum, 2);
	*h = (struct net_header){
		.flags = NET_NEEDS_CSUM,
		.gso_type = version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6,
		.hdr_len = (uint16_t)data,
		.gso_size = size,
		.csum_start = (uint16_t)l4,
		.csum_offset = 16,
	};
	return n;
}

static void
what_was_cut_is_whole_again(void)
{
	static const struct {
		unsigned version;
		size_t options, payload;
		uint16_t size;
	} rows[] = {
		{ 4, 0, 3000, 1460 },
		{ 4, 0, 2920, 1460 },
		{ 4, 12, 65000, 1448 },
		{ 4, 0, 65490, 1000 },
		{ 6, 0, 5000, 1440 },
		{ 6, 20, 60000, 536 },
		{ 4, 0, 100, 1 },
	};
	static uint8_t f[FRAME_MAX], part[FRAME_MAX];
	static struct frame_merge m;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct net_header h, got;
		struct frame_cut cut;
		size_t n = build(f, rows[i].version, rows[i].options,
		    rows[i].payload, rows[i].size, &h);
		size_t bytes;

		CU_ASSERT_EQUAL_FATAL(frame_cut_begin(&cut, &h, f, n), 0);
		while ((bytes = frame_cut_next(&cut, part)) > 0)
			CU_ASSERT_TRUE(frame_merge_add(&m, part, bytes));
		CU_ASSERT_EQUAL(frame_merge_take(&m, &got), n);
		CU_ASSERT_EQUAL(memcmp(&got, &h, sizeof(h)), 0);
		CU_ASSERT_EQUAL(memcmp(m.out, f, n), 0);
		CU_ASSERT_EQUAL(frame_merge_take(&m, &got), 0);
	}
}

static void
one_segment_stays_as_it_was(void)
{
	static struct frame_merge m;
	uint8_t f[2000];
	struct net_header h, got;
	size_t n = build(f, 4, 0, 1000, 1000, &h);

	CU_ASSERT_TRUE(frame_merge_add(&m, f, n));
	CU_ASSERT_EQUAL(frame_merge_take(&m, &got), n);
	CU_ASSERT_EQUAL(got.flags, NET_DATA_VALID);
	CU_ASSERT_EQUAL(got.gso_type, NET_GSO_NONE);
	CU_ASSERT_EQUAL(memcmp(m.out, f, n), 0);
}

/* The second of two segments with one byte changed. */
static void
keeps_apart_what_does_not_belong_together(void)
{
	static const struct {
		const char *what;
		size_t at;
		uint8_t flip;
	} rows[] = {
		{ "destination", 0, 1 },
		{ "source", 11, 1 },
		{ "service", 15, 4 },
		{ "length", 17, 1 },
		{ "fragment", 20, 0x20 },
		{ "ttl", 22, 1 },
		{ "protocol", 23, 1 },
		{ "from", 26, 1 },
		{ "to", 33, 1 },
		{ "port", 34, 1 },
		{ "port", 37, 1 },
		{ "sequence", 41, 1 },
		{ "acknowledged", 45, 1 },
		{ "header", 46, 0x10 },
		{ "SYN", 47, 2 },
		{ "FIN", 47, 1 },
		{ "RST", 47, 4 },
		{ "URG", 47, 32 },
		{ "no ACK", 47, 16 },
		{ "window", 48, 1 },
		{ "urgent", 53, 1 },
		{ "options", 55, 1 },
	};
	static uint8_t f[8000], first[8000], second[8000];
	static struct frame_merge m;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct net_header h;
		struct frame_cut cut;
		size_t n = build(f, 4, 12, 2000, 1000, &h), a, b;

		CU_ASSERT_EQUAL(frame_cut_begin(&cut, &h, f, n), 0);
		a = frame_cut_next(&cut, first);
		b = frame_cut_next(&cut, second);
		second[rows[i].at] ^= rows[i].flip;
		CU_ASSERT_TRUE(frame_merge_add(&m, first, a));
		if (frame_merge_add(&m, second, b)) {
			fprintf(stderr, "%s\n", rows[i].what);
			CU_FAIL("merged");
		}
		CU_ASSERT_EQUAL(frame_merge_take(&m, &h), a);
	}
}

static void
nothing_follows_a_short_or_pushed_segment(void)
{
	static uint8_t f[8000], part[8000];
	static struct frame_merge m;
	struct net_header h;
	struct frame_cut cut;
	size_t n = build(f, 4, 0, 2500, 1000, &h), bytes;

	CU_ASSERT_EQUAL(frame_cut_begin(&cut, &h, f, n), 0);
	while ((bytes = frame_cut_next(&cut, part)) > 0)
		CU_ASSERT_TRUE(frame_merge_add(&m, part, bytes));
	CU_ASSERT_TRUE(m.closed);
	n = build(f, 4, 0, 500, 1000, &h);
	CU_ASSERT_FALSE(frame_merge_add(&m, f, n));
	(void)frame_merge_take(&m, &h);
}

static void
takes_no_more_than_a_packet_holds(void)
{
	static uint8_t f[FRAME_MAX], part[FRAME_MAX];
	static struct frame_merge m;
	struct net_header h;
	unsigned added = 0;
	uint32_t next = 0;

	/* 1460 bytes each, for ever. */
	(void)build(f, 4, 0, 1460, 1460, &h);
	f[47] = 0x10;
	for (unsigned i = 0; i < 100; i++) {
		memcpy(part, f, 1514);
		part[38] = (uint8_t)(next >> 24);
		part[39] = (uint8_t)(next >> 16);
		part[40] = (uint8_t)(next >> 8);
		part[41] = (uint8_t)next;
		next += 1460;
		if (!frame_merge_add(&m, part, 1514))
			break;
		added++;
	}
	CU_ASSERT_EQUAL(added, (65535 - 40) / 1460);
	CU_ASSERT_EQUAL(frame_merge_take(&m, &h), 54 + added * 1460u);
}

static void
other_frames_are_not_begun_with(void)
{
	static struct frame_merge m;
	static const size_t options[] = { 0, 12 };
	uint8_t f[200];
	struct net_header h;

	for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
		size_t n = build(f, 4, options[i], 50, 50, &h);

		/* Every prefix, padding, UDP, and one without data. */
		for (size_t k = 0; k < n; k++) {
			uint8_t *copy = malloc(MAX(k, 1u));

			memcpy(copy, f, k);
			CU_ASSERT_FALSE(frame_merge_add(&m, copy, k));
			free(copy);
		}
		CU_ASSERT_FALSE(frame_merge_add(&m, f, n + 1));
		f[23] = 17;
		CU_ASSERT_FALSE(frame_merge_add(&m, f, n));
		n = build(f, 4, options[i], 0, 50, &h);
		CU_ASSERT_FALSE(frame_merge_add(&m, f, n));
	}
	CU_ASSERT_EQUAL(frame_merge_take(&m, &h), 0);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(what_was_cut_is_whole_again),
		NAMED_TEST(one_segment_stays_as_it_was),
		NAMED_TEST(keeps_apart_what_does_not_belong_together),
		NAMED_TEST(nothing_follows_a_short_or_pushed_segment),
		NAMED_TEST(takes_no_more_than_a_packet_holds),
		NAMED_TEST(other_frames_are_not_begun_with),
	};
	return named_tests_run("merging", tests, ARRAY_LEN(tests));
}
