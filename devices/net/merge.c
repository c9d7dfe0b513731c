/* Merging of TCP segments. */
#include "devices/net/merge.h"

#include <string.h>

#include "proto/base.h"

#define PROTOCOL_TCP 6u
#define IPV4_HEADER  20u
#define IPV6_HEADER  40u

#define TCP_ACK	     0x10u
#define TCP_PSH	     0x08u

#define IP_MAX	     65535u /* bytes of a packet */

static unsigned
get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void
put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* Nothing but headers that we know and data; no padding behind it. */
static bool
is_segment(const uint8_t *f, size_t n, const struct frame_layout *l)
{
	const uint8_t *ip = f + l->l3;
	size_t ip_bytes;

	if (l->payload == 0 || l->payload >= n || l->tagged ||
	    l->l4 - l->l3 != (int)(l->version == 4 ? IPV4_HEADER : IPV6_HEADER))
		return false;
	ip_bytes =
	    l->version == 4 ? get16(ip + 2) : get16(ip + 4) + IPV6_HEADER;
	return ip_bytes == n - l->l3 && (f[l->l4 + 13] & ~TCP_PSH) == TCP_ACK;
}

static bool
begin(struct frame_merge *m, const uint8_t *f, size_t n)
{
	const struct frame_layout *l = &m->layout;

	frame_parse(f, n, &m->layout);
	if (n > FRAME_MAX || !is_segment(f, n, l))
		return false;
	memcpy(m->out, f, n);
	m->n = n;
	m->count = 1;
	m->size = (uint16_t)(n - l->payload);
	m->next = get32(f + l->l4 + 4) + m->size;
	m->closed = (f[l->l4 + 13] & TCP_PSH) != 0;
	return true;
}

/* Are the bytes [from, to) of the headers the same? */
static bool
same(const struct frame_merge *m, const uint8_t *f, size_t from, size_t to)
{
	return memcmp(m->out + from, f + from, to - from) == 0;
}

static bool
same_headers(const struct frame_merge *m, const uint8_t *f)
{
	const struct frame_layout *l = &m->layout;
	size_t ip = l->l3, tcp = l->l4;

	if (!same(m, f, 0, ip))
		return false;
	/* All but the length, the ID and the checksum; all but the length. */
	if (l->version == 4 &&
	    !(same(m, f, ip, ip + 2) && same(m, f, ip + 6, ip + 10) &&
		same(m, f, ip + 12, tcp)))
		return false;
	if (l->version == 6 &&
	    !(same(m, f, ip, ip + 4) && same(m, f, ip + 6, tcp)))
		return false;
	/* Ports; acknowledgement and length; window; urgent, options. */
	return same(m, f, tcp, tcp + 4) && same(m, f, tcp + 8, tcp + 13) &&
	    same(m, f, tcp + 14, tcp + 16) && same(m, f, tcp + 18, l->payload);
}

bool
frame_merge_add(struct frame_merge *m, const uint8_t *f, size_t n)
{
	struct frame_layout l;
	size_t bytes;

	if (m->n == 0)
		return begin(m, f, n);
	frame_parse(f, n, &l);
	if (m->closed || l.version != m->layout.version ||
	    l.payload != m->layout.payload || l.l4 != m->layout.l4 ||
	    !is_segment(f, n, &l) || !same_headers(m, f))
		return false;
	bytes = n - l.payload;
	if (bytes > m->size || get32(f + l.l4 + 4) != m->next ||
	    m->n - l.l3 + bytes > IP_MAX || m->n + bytes > FRAME_MAX)
		return false;
	memcpy(m->out + m->n, f + l.payload, bytes);
	m->out[l.l4 + 13] |= f[l.l4 + 13];
	m->n += bytes;
	m->count++;
	m->next += (uint32_t)bytes;
	m->closed = bytes < m->size || (f[l.l4 + 13] & TCP_PSH);
	return true;
}

static void
finish(struct frame_merge *m)
{
	const struct frame_layout *l = &m->layout;
	uint8_t *ip = m->out + l->l3, *tcp = m->out + l->l4;
	size_t bytes = m->n - l->l4;
	uint8_t tail[4] = { 0, PROTOCOL_TCP };
	uint16_t sum;

	put16(tail + 2, bytes);
	if (l->version == 4) {
		put16(ip + 2, m->n - l->l3);
		put16(ip + 10, 0);
		sum = (uint16_t)~frame_sum(ip, IPV4_HEADER, 0);
		memcpy(ip + 10, &sum, 2);
		sum = frame_sum(ip + 12, 8, 0);
	} else {
		put16(ip + 4, m->n - l->l3 - IPV6_HEADER);
		sum = frame_sum(ip + 8, 32, 0);
	}
	/* The pseudo-header's; the rest is left to whoever cuts or reads. */
	sum = frame_sum(tail, sizeof(tail), sum);
	memcpy(tcp + 16, &sum, 2);
}

size_t
frame_merge_take(struct frame_merge *m, struct net_header *h)
{
	const struct frame_layout *l = &m->layout;
	size_t n = m->n;

	memset(h, 0, sizeof(*h));
	m->n = 0;
	if (n == 0)
		return 0;
	if (m->count == 1) {
		h->flags = NET_DATA_VALID;
		return n;
	}
	m->n = n;
	finish(m);
	m->n = 0;
	h->flags = NET_NEEDS_CSUM;
	h->gso_type = l->version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6;
	h->gso_size = m->size;
	h->hdr_len = l->payload;
	h->csum_start = l->l4;
	h->csum_offset = 16;
	return n;
}
