/* Frames: IPv4 RFC 791, IPv6 RFC 8200, TCP RFC 9293, checksums RFC 1071. */
#include "devices/net/frame.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"

#define TYPE_IPV4    0x0800u
#define TYPE_IPV6    0x86ddu
#define TYPE_VLAN    0x8100u

#define PROTOCOL_TCP 6u
#define PROTOCOL_UDP 17u

#define IPV4_MIN     20u
#define IPV6_HEADER  40u
#define TCP_MIN	     20u
#define UDP_HEADER   8u
#define EXTENSIONS   6u /* IPv6 extension headers that are followed */

#define TCP_FIN	     0x01u
#define TCP_PSH	     0x08u
#define TCP_CWR	     0x80u

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

static void
put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static uint16_t
fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint16_t
frame_sum(const void *bytes, size_t n, uint16_t before)
{
	const uint8_t *p = bytes;
	uint64_t sum = before;
	uint32_t word;
	uint16_t half;

	for (; n >= 4; n -= 4, p += 4) {
		memcpy(&word, p, 4);
		sum += word;
	}
	if (n >= 2) {
		memcpy(&half, p, 2);
		sum += half;
		p += 2;
		n -= 2;
	}
	if (n)
		sum += p[0]; /* the low byte: we are little-endian */
	return fold(sum);
}

static void
parse_l4(const uint8_t *f, size_t n, size_t at, struct frame_layout *l)
{
	size_t header;

	if (l->protocol == PROTOCOL_UDP && n - at >= UDP_HEADER)
		l->l4 = (uint16_t)at;
	if (l->protocol != PROTOCOL_TCP || n - at < TCP_MIN)
		return;
	header = (size_t)(f[at + 12] >> 4) * 4;
	if (header < TCP_MIN || n - at < header)
		return;
	l->l4 = (uint16_t)at;
	l->payload = (uint16_t)(at + header);
}

static void
parse_ipv4(const uint8_t *f, size_t n, size_t at, struct frame_layout *l)
{
	size_t header;

	if (n - at < IPV4_MIN || f[at] >> 4 != 4)
		return;
	header = (size_t)(f[at] & 15) * 4;
	if (header < IPV4_MIN || n - at < header)
		return;
	l->version = 4;
	l->l3 = (uint16_t)at;
	l->protocol = f[at + 9];
	/* No fragment has all of a TCP segment. */
	if ((get16(f + at + 6) & 0x3fff) == 0)
		parse_l4(f, n, at + header, l);
}

/* Hop-by-hop, routing and destination options. */
static bool
is_extension(unsigned next)
{
	return next == 0 || next == 43 || next == 60;
}

static void
parse_ipv6(const uint8_t *f, size_t n, size_t at, struct frame_layout *l)
{
	unsigned next;

	if (n - at < IPV6_HEADER || f[at] >> 4 != 6)
		return;
	l->version = 6;
	l->l3 = (uint16_t)at;
	next = f[at + 6];
	at += IPV6_HEADER;
	for (unsigned i = 0; i < EXTENSIONS && is_extension(next); i++) {
		if (n - at < 8)
			return;
		next = f[at];
		if (n - at < ((size_t)f[at + 1] + 1) * 8)
			return;
		at += ((size_t)f[at + 1] + 1) * 8;
	}
	l->protocol = (uint8_t)next;
	parse_l4(f, n, at, l);
}

void
frame_parse(const uint8_t *frame, size_t n, struct frame_layout *l)
{
	size_t at = FRAME_ETHERNET;
	unsigned type;

	memset(l, 0, sizeof(*l));
	if (n < FRAME_ETHERNET)
		return;
	/* Every offset fits into 16 bits. */
	n = MIN(n, FRAME_LOOK);
	type = get16(frame + 12);
	if (type == TYPE_VLAN && n >= FRAME_ETHERNET + 4) {
		l->tagged = true;
		l->vlan = get16(frame + 14) & 0xfff;
		type = get16(frame + 16);
		at += 4;
	}
	if (type == TYPE_IPV4)
		parse_ipv4(frame, n, at, l);
	else if (type == TYPE_IPV6)
		parse_ipv6(frame, n, at, l);
}

int
frame_check(const struct net_header *h, size_t n, unsigned gso_allowed)
{
	unsigned gso = h->gso_type & ~NET_GSO_ECN;

	if (n < FRAME_ETHERNET || n > FRAME_MAX)
		return -EINVAL;
	if ((h->flags & NET_NEEDS_CSUM) &&
	    (size_t)h->csum_start + h->csum_offset + 2 > n)
		return -EINVAL;
	if (gso == NET_GSO_NONE)
		return h->gso_type == NET_GSO_NONE ? 0 : -EINVAL;
	if (gso > NET_GSO_TCPV6 || !(gso_allowed & 1u << gso))
		return -EINVAL;
	/* 5.1.6.2: a segmented packet needs a checksum. */
	if (h->gso_size == 0 || !(h->flags & NET_NEEDS_CSUM))
		return -EINVAL;
	return 0;
}

void
frame_complete(struct net_header *h, uint8_t *frame, size_t n)
{
	size_t at = (size_t)h->csum_start + h->csum_offset;
	uint16_t sum;

	if (!(h->flags & NET_NEEDS_CSUM))
		return;
	BUG_ON(at + 2 > n);
	sum = (uint16_t)~frame_sum(frame + h->csum_start, n - h->csum_start, 0);
	/* To UDP zero says that there is none; to TCP both are the same. */
	if (sum == 0)
		sum = 0xffff;
	memcpy(frame + at, &sum, 2);
	h->flags &= (uint8_t)~NET_NEEDS_CSUM;
	h->csum_start = h->csum_offset = 0;
}

int
frame_cut_begin(struct frame_cut *c, const struct net_header *h,
    const uint8_t *frame, size_t n)
{
	unsigned gso = h->gso_type & ~NET_GSO_ECN;

	if (n > FRAME_MAX || h->gso_size == 0)
		return -EINVAL;
	*c = (struct frame_cut){
		.frame = frame,
		.n = n,
		.size = h->gso_size,
	};
	frame_parse(frame, n, &c->layout);
	if (c->layout.payload == 0)
		return -EINVAL;
	if (!(gso == NET_GSO_TCPV4 && c->layout.version == 4) &&
	    !(gso == NET_GSO_TCPV6 && c->layout.version == 6))
		return -EINVAL;
	c->at = c->layout.payload;
	return 0;
}

/* The sum of the pseudo-header of a segment of that many bytes. */
static uint16_t
pseudo_sum(const uint8_t *out, const struct frame_layout *l, size_t bytes)
{
	uint8_t tail[8] = { 0 };

	tail[3] = PROTOCOL_TCP;
	put32(tail + 4, (uint32_t)bytes);
	return frame_sum(tail, sizeof(tail),
	    l->version == 4 ? frame_sum(out + l->l3 + 12, 8, 0)
			    : frame_sum(out + l->l3 + 8, 32, 0));
}

static void
fix_ip(uint8_t *ip, const struct frame_layout *l, size_t n, unsigned index)
{
	uint16_t sum;

	if (l->version == 6) {
		put16(ip + 4, n - IPV6_HEADER);
		return;
	}
	put16(ip + 2, n);
	put16(ip + 4, get16(ip + 4) + index);
	put16(ip + 10, 0);
	sum = (uint16_t)~frame_sum(ip, (size_t)(ip[0] & 15) * 4, 0);
	memcpy(ip + 10, &sum, 2);
}

size_t
frame_cut_next(struct frame_cut *c, uint8_t *out)
{
	const struct frame_layout *l = &c->layout;
	size_t headers = l->payload;
	size_t n = MIN(c->n - c->at, (size_t)c->size);
	uint8_t *tcp = out + l->l4;
	uint16_t sum;

	/* A segment without payload is one segment. */
	if (n == 0 && c->count > 0)
		return 0;
	memcpy(out, c->frame, headers);
	memcpy(out + headers, c->frame + c->at, n);
	fix_ip(out + l->l3, l, headers + n - l->l3, c->count);
	put32(tcp + 4, get32(tcp + 4) + (uint32_t)(c->at - headers));
	if (c->at + n < c->n)
		tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	if (c->count > 0)
		tcp[13] &= (uint8_t)~TCP_CWR;
	put16(tcp + 16, 0);
	sum = pseudo_sum(out, l, headers + n - l->l4);
	sum = (uint16_t)~frame_sum(tcp, headers + n - l->l4, sum);
	memcpy(tcp + 16, &sum, 2);
	c->at += n;
	c->count++;
	return headers + n;
}

/* To be the same in both directions, addresses and ports are added. */
uint32_t
frame_flow(const uint8_t *frame, size_t n, const struct frame_layout *l)
{
	size_t address = l->version == 4 ? 12 : 8;
	size_t size = l->version == 4 ? 4 : 16;
	uint32_t hash = l->protocol;

	if (l->version == 0 || n < l->l3 + address + 2 * size)
		return 0;
	for (size_t i = 0; i < size; i += 4)
		hash = hash * 31 + get32(frame + l->l3 + address + i) +
		    get32(frame + l->l3 + address + size + i);
	if (l->l4 != 0 && n >= l->l4 + 4u)
		hash =
		    hash * 31 + get16(frame + l->l4) + get16(frame + l->l4 + 2);
	hash *= 0x9e3779b1u;
	return hash ^ hash >> 15;
}
