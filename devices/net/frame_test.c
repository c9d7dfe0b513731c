/* Frames: what is in them, checksums, segments. */
#include "devices/net/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

/* ---- a slow and simple second opinion ---- */

static unsigned
be16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static unsigned
naive_sum(const uint8_t *p, size_t n, unsigned sum)
{
	for (size_t i = 0; i < n; i++)
		sum += (i % 2 ? p[i] : (unsigned)p[i] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Of a TCP or UDP packet: 0xffff if its checksum is right. */
static unsigned
transport_sum(const uint8_t *f, size_t n, const struct frame_layout *l)
{
	size_t bytes = n - l->l4;
	unsigned sum = (unsigned)bytes + l->protocol;

	sum = l->version == 4 ? naive_sum(f + l->l3 + 12, 8, sum)
			      : naive_sum(f + l->l3 + 8, 32, sum);
	return naive_sum(f + l->l4, bytes, sum);
}

/* ---- frames to look at ---- */

struct shape {
	const char *name;
	unsigned version, protocol;
	bool vlan;
	unsigned ip_options, tcp_options; /* bytes, of 4 */
	unsigned extensions; /* IPv6: destination options of 8 bytes */
	size_t payload;
};

static const struct shape shapes[] = {
	{ "IPv4 TCP", 4, 6, false, 0, 0, 0, 1000 },
	{ "IPv4 TCP, options", 4, 6, true, 12, 20, 0, 33 },
	{ "IPv4 UDP", 4, 17, false, 0, 0, 0, 1 },
	{ "IPv4 UDP, VLAN", 4, 17, true, 40, 0, 0, 0 },
	{ "IPv6 TCP", 6, 6, false, 0, 0, 0, 999 },
	{ "IPv6 TCP, extensions", 6, 6, true, 0, 40, 3, 60000 },
	{ "IPv6 UDP", 6, 17, false, 0, 0, 1, 77 },
	{ "IPv4 TCP, large", 4, 6, false, 0, 12, 0, 65000 },
	{ "IPv4 TCP, empty", 4, 6, false, 0, 0, 0, 0 },
};

static void
store16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Build one, with the pseudo-header's sum where a driver leaves it. */
static size_t
build(uint8_t *f, const struct shape *s, struct net_header *h)
{
	size_t l3 = s->vlan ? 18 : 14;
	size_t ip =
	    s->version == 4 ? 20 + s->ip_options : 40 + 8 * s->extensions;
	size_t l4 = l3 + ip;
	size_t transport = s->protocol == 6 ? 20 + s->tcp_options : 8;
	size_t n = l4 + transport + s->payload;
	unsigned sum;

	for (size_t i = 0; i < n; i++)
		f[i] = (uint8_t)(i * 7 + (i >> 8));
	if (s->vlan) {
		store16(f + 12, 0x8100);
		store16(f + 14, 0x6123);
	}
	store16(f + l3 - 2, s->version == 4 ? 0x0800 : 0x86dd);
	if (s->version == 4) {
		f[l3] = (uint8_t)(0x40 | (ip / 4));
		store16(f + l3 + 2, n - l3);
		store16(f + l3 + 6, 0x4000);
		f[l3 + 9] = (uint8_t)s->protocol;
	} else {
		f[l3] = 0x60;
		store16(f + l3 + 4, n - l3 - 40);
		f[l3 + 6] = (uint8_t)(s->extensions ? 60 : s->protocol);
		for (unsigned i = 0; i < s->extensions; i++) {
			uint8_t *x = f + l3 + 40 + 8 * (size_t)i;

			x[0] =
			    (uint8_t)(i + 1 < s->extensions ? 60 : s->protocol);
			x[1] = 0;
		}
	}
	if (s->protocol == 6) {
		f[l4 + 12] = (uint8_t)(transport / 4 << 4);
		f[l4 + 13] = 0x99; /* CWR, ACK, PSH, FIN */
	} else {
		store16(f + l4 + 4, n - l4);
	}
	*h = (struct net_header){
		.flags = NET_NEEDS_CSUM,
		.csum_start = (uint16_t)l4,
		.csum_offset = s->protocol == 6 ? 16 : 6,
	};
	sum = (unsigned)(n - l4) + s->protocol;
	sum = s->version == 4 ? naive_sum(f + l3 + 12, 8, sum)
			      : naive_sum(f + l3 + 8, 32, sum);
	store16(f + l4 + h->csum_offset, sum);
	return n;
}

static void
finds_the_headers(void)
{
	uint8_t *f = malloc(FRAME_MAX);

	for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct shape *s = &shapes[i];
		struct frame_layout l;
		struct net_header h;
		size_t n = build(f, s, &h);

		frame_parse(f, n, &l);
		CU_ASSERT_EQUAL(l.version, s->version);
		CU_ASSERT_EQUAL(l.protocol, s->protocol);
		CU_ASSERT_EQUAL(l.tagged, s->vlan);
		CU_ASSERT_EQUAL(l.vlan, s->vlan ? 0x123 : 0);
		CU_ASSERT_EQUAL(l.l4, h.csum_start);
		CU_ASSERT_EQUAL(l.payload,
		    s->protocol == 6 ? l.l4 + 20 + s->tcp_options : 0);
		CU_ASSERT_EQUAL(frame_check(&h, n, 0), 0);
	}
	free(f);
}

/* Each in memory of its very own, for ASan to see what is read. */
static void
no_prefix_is_read_beyond_its_end(void)
{
	uint8_t *f = malloc(FRAME_MAX);
	unsigned found = 0;

	for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
		struct net_header h;
		size_t n = build(f, &shapes[i], &h);

		for (size_t k = 0; k < MIN(n, 200u); k++) {
			uint8_t *part = malloc(MAX(k, 1u));
			struct frame_layout l;

			memcpy(part, f, k);
			frame_parse(part, k, &l);
			found += frame_flow(part, k, &l) != 0;
			CU_ASSERT(l.l4 <= k && l.payload <= k);
			free(part);
		}
	}
	CU_ASSERT(found > 0);
	free(f);
}

static void
fragments_have_no_transport(void)
{
	static const unsigned fields[] = { 0x2000, 0x0001, 0x3fff };
	uint8_t f[2048];
	struct net_header h;
	size_t n = build(f, &shapes[0], &h);

	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		struct frame_layout l;

		store16(f + 20, fields[i]);
		frame_parse(f, n, &l);
		CU_ASSERT_EQUAL(l.version, 4);
		CU_ASSERT_EQUAL(l.l4, 0);
		CU_ASSERT_EQUAL(l.payload, 0);
	}
}

static void
completes_checksums(void)
{
	uint8_t *f = malloc(FRAME_MAX);

	for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
		struct frame_layout l;
		struct net_header h;
		size_t n = build(f, &shapes[i], &h);

		frame_complete(&h, f, n);
		frame_parse(f, n, &l);
		CU_ASSERT_EQUAL(h.flags, 0);
		CU_ASSERT_EQUAL(transport_sum(f, n, &l), 0xffff);
	}
	free(f);
}

static void
a_checksum_of_zero_is_sent_as_ones(void)
{
	uint8_t f[64] = { 0 };
	struct net_header h = {
		.flags = NET_NEEDS_CSUM,
		.csum_start = 34,
		.csum_offset = 6,
	};

	f[34] = f[35] = 0xff;
	frame_complete(&h, f, sizeof(f));
	CU_ASSERT_EQUAL(be16(f + 40), 0xffff);
}

static void
sums_are_those_of_the_simple_way(void)
{
	uint8_t bytes[300];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 57 + 3);
	for (size_t n = 0; n < sizeof(bytes); n++) {
		uint16_t sum = frame_sum(bytes, n, 0);
		uint8_t stored[2];

		memcpy(stored, &sum, 2);
		CU_ASSERT_EQUAL(be16(stored), naive_sum(bytes, n, 0));
	}
}

static void
refuses_headers_that_lie(void)
{
	static const struct {
		struct net_header h;
		size_t n;
		unsigned allowed;
		int result;
	} rows[] = {
		{ { 0 }, 13, 0, -EINVAL }, /* runt */
		{ { 0 }, 14, 0, 0 },
		{ { 0 }, FRAME_MAX, 0, 0 },
		{ { 0 }, FRAME_MAX + 1, 0, -EINVAL }, /* jumbo */
		{ { 1, 0, 0, 0, 34, 16, 0 }, 51, 0, -EINVAL },
		{ { 1, 0, 0, 0, 34, 16, 0 }, 52, 0, 0 },
		{ { 1, 0, 0, 0, 65535, 65535, 0 }, 1514, 0, -EINVAL },
		{ { 1, 1, 0, 1448, 34, 16, 0 }, 9000, 2, 0 },
		{ { 1, 1, 0, 1448, 34, 16, 0 }, 9000, 0, -EINVAL },
		{ { 1, 1, 0, 1448, 34, 16, 0 }, 9000, 16, -EINVAL },
		{ { 1, 4, 0, 1448, 34, 16, 0 }, 9000, 16, 0 },
		{ { 1, 0x81, 0, 1448, 34, 16, 0 }, 9000, 2, 0 },
		{ { 1, 0x80, 0, 0, 34, 16, 0 }, 9000, 2, -EINVAL },
		{ { 1, 1, 0, 0, 34, 16, 0 }, 9000, 2, -EINVAL },
		{ { 0, 1, 0, 1448, 34, 16, 0 }, 9000, 2, -EINVAL },
		{ { 1, 3, 0, 1448, 34, 16, 0 }, 9000, 2, -EINVAL },
		{ { 1, 5, 0, 1448, 34, 16, 0 }, 9000, ~0u, -EINVAL },
		{ { 1, 0x7f, 0, 1448, 34, 16, 0 }, 9000, ~0u, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		CU_ASSERT_EQUAL(
		    frame_check(&rows[i].h, rows[i].n, rows[i].allowed),
		    rows[i].result);
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* All segments of one frame: headers right, payload in order, nothing lost. */
static void
check_cut(const uint8_t *f, size_t n, const struct net_header *h)
{
	uint8_t *out = malloc(FRAME_MAX);
	struct frame_layout whole, l;
	struct frame_cut cut;
	size_t at, m;
	unsigned count = 0;

	frame_parse(f, n, &whole);
	at = whole.payload;
	CU_ASSERT_EQUAL_FATAL(frame_cut_begin(&cut, h, f, n), 0);
	while ((m = frame_cut_next(&cut, out)) > 0) {
		size_t bytes = m - whole.payload;
		bool last = at + bytes == n;
		uint8_t flags = out[whole.l4 + 13];

		frame_parse(out, m, &l);
		CU_ASSERT_EQUAL(l.payload, whole.payload);
		CU_ASSERT(bytes <= h->gso_size && at + bytes <= n);
		CU_ASSERT(last || bytes == h->gso_size);
		CU_ASSERT_EQUAL(
		    memcmp(out + l.payload, f + at, MIN(bytes, n - at)), 0);
		CU_ASSERT_EQUAL(be32(out + l.l4 + 4),
		    be32(f + l.l4 + 4) + at - whole.payload);
		CU_ASSERT_EQUAL((flags & 0x09) == 0x09, last);
		CU_ASSERT_EQUAL((flags & 0x80) != 0, count == 0);
		CU_ASSERT_EQUAL(transport_sum(out, m, &l), 0xffff);
		if (l.version == 4) {
			size_t ip = (out[l.l3] & 15u) * 4;

			CU_ASSERT_EQUAL(be16(out + l.l3 + 2), m - l.l3);
			CU_ASSERT_EQUAL(naive_sum(out + l.l3, ip, 0), 0xffff);
			CU_ASSERT_EQUAL(be16(out + l.l3 + 4),
			    (be16(f + l.l3 + 4) + count) & 0xffff);
		} else {
			CU_ASSERT_EQUAL(be16(out + l.l3 + 4), m - l.l3 - 40);
		}
		at += bytes;
		count++;
	}
	CU_ASSERT_EQUAL(at, n);
	CU_ASSERT(count > 0);
	free(out);
}

static void
cuts_large_segments(void)
{
	static const uint16_t sizes[] = { 100, 536, 1448, 60000 };
	uint8_t *f = malloc(FRAME_MAX);

	for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct shape *s = &shapes[i];
		struct net_header h;
		size_t n = build(f, s, &h);

		if (s->protocol != 6)
			continue;
		h.gso_type = s->version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6;
		for (unsigned k = 0; k < ARRAY_LEN(sizes); k++) {
			h.gso_size = sizes[k];
			check_cut(f, n, &h);
		}
	}
	free(f);
}

static void
refuses_to_cut_what_is_no_segment(void)
{
	uint8_t *f = malloc(FRAME_MAX);
	struct frame_cut cut;
	struct net_header h;
	size_t n;

	for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
		n = build(f, &shapes[i], &h);
		h.gso_size = 100;
		/* The other version. */
		h.gso_type =
		    shapes[i].version == 4 ? NET_GSO_TCPV6 : NET_GSO_TCPV4;
		CU_ASSERT_EQUAL(frame_cut_begin(&cut, &h, f, n), -EINVAL);
		h.gso_type ^= NET_GSO_TCPV4 ^ NET_GSO_TCPV6;
		CU_ASSERT_EQUAL(frame_cut_begin(&cut, &h, f, n),
		    shapes[i].protocol == 6 ? 0 : -EINVAL);
		h.gso_size = 0;
		CU_ASSERT_EQUAL(frame_cut_begin(&cut, &h, f, n), -EINVAL);
	}
	free(f);
}

static void
a_flow_is_the_same_in_both_directions(void)
{
	uint8_t f[2048], back[2048];

	for (unsigned i = 0; i < 2; i++) {
		const struct shape *s = &shapes[i == 0 ? 0 : 4];
		size_t size = s->version == 4 ? 4 : 16;
		struct frame_layout l;
		struct net_header h;
		size_t n = build(f, s, &h);
		uint8_t *from, *to;

		memcpy(back, f, n);
		frame_parse(f, n, &l);
		from = back + l.l3 + (s->version == 4 ? 12 : 8);
		to = from + size;
		for (size_t k = 0; k < size; k++) {
			uint8_t b = from[k];

			from[k] = to[k];
			to[k] = b;
		}
		memcpy(back + l.l4, f + l.l4 + 2, 2);
		memcpy(back + l.l4 + 2, f + l.l4, 2);
		CU_ASSERT_EQUAL(frame_flow(f, n, &l), frame_flow(back, n, &l));
		back[l.l4]++;
		CU_ASSERT_NOT_EQUAL(
		    frame_flow(f, n, &l), frame_flow(back, n, &l));
	}
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(finds_the_headers),
		NAMED_TEST(no_prefix_is_read_beyond_its_end),
		NAMED_TEST(fragments_have_no_transport),
		NAMED_TEST(completes_checksums),
		NAMED_TEST(a_checksum_of_zero_is_sent_as_ones),
		NAMED_TEST(sums_are_those_of_the_simple_way),
		NAMED_TEST(refuses_headers_that_lie),
		NAMED_TEST(cuts_large_segments),
		NAMED_TEST(refuses_to_cut_what_is_no_segment),
		NAMED_TEST(a_flow_is_the_same_in_both_directions),
	};
	return named_tests_run("frames", tests, ARRAY_LEN(tests));
}
