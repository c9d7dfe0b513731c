/*
 * Ethernet frames with a virtio_net_hdr in front (virtio 1.2, 5.1.6): what is
 * in them, and the work that an offload left undone: checksums, segmentation.
 *
 * Frames are bytes of strangers: every function takes any bytes of any length
 * and reads nothing behind them.  Nothing here may be called on memory that
 * somebody else can write meanwhile.
 */
#ifndef DEVICES_NET_FRAME_H
#define DEVICES_NET_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER   12u /* struct net_header */
#define FRAME_ETHERNET 14u /* destination, source, type */
#define FRAME_MAX      65548u /* of Ethernet: 14 + 65535, rounded down */
/* Headers that are looked at: Ethernet, VLAN, IPv6 with extensions, TCP. */
#define FRAME_LOOK     256u

#define NET_NEEDS_CSUM 1u
#define NET_DATA_VALID 2u

#define NET_GSO_NONE   0u
#define NET_GSO_TCPV4  1u
#define NET_GSO_TCPV6  4u
#define NET_GSO_ECN    0x80u

/* virtio_net_hdr; little-endian, and so are we. */
struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len; /* a hint */
	uint16_t gso_size; /* payload bytes per segment */
	uint16_t csum_start, csum_offset; /* from the frame's start; and on */
	uint16_t num_buffers;
};
_Static_assert(sizeof(struct net_header) == FRAME_HEADER, "header");

/* What lies where in a frame; offsets in bytes from its start. */
struct frame_layout {
	uint16_t l3; /* IP header */
	uint16_t l4; /* TCP or UDP header, behind all IP headers; 0: none */
	uint16_t payload; /* TCP only: behind its header */
	uint8_t version; /* 4, 6; 0: not IP */
	uint8_t protocol; /* 6 TCP, 17 UDP, ...; of an unfragmented packet */
	bool tagged; /* 802.1Q */
	uint16_t vlan; /* its ID */
};

/* Look into a frame, or its first FRAME_LOOK bytes. */
void frame_parse(const uint8_t *frame, size_t n, struct frame_layout *l);

/*
 * Is this a header that a sender may put before a frame of n bytes?  The gso
 * type is known and one of those allowed (bits 1 << NET_GSO_*), the checksum
 * lies in the frame.  0 or -EINVAL.
 */
int frame_check(const struct net_header *h, size_t n, unsigned gso_allowed);

/* Do what NET_NEEDS_CSUM asks and clear it; h has passed frame_check(). */
void frame_complete(struct net_header *h, uint8_t *frame, size_t n);

/* A large TCP segment on its way of being cut. */
struct frame_cut {
	const uint8_t *frame;
	size_t n, at; /* bytes; of them done */
	struct frame_layout layout;
	unsigned size; /* payload bytes per segment */
	unsigned count; /* segments made */
};

/*
 * Begin to cut a frame whose header has a gso type.  The frame stays the
 * caller's and must not change.  0; -EINVAL: it is not what the header says.
 */
int frame_cut_begin(struct frame_cut *c, const struct net_header *h,
    const uint8_t *frame, size_t n);
/*
 * The next segment, with all checksums, into out (FRAME_MAX bytes): its length,
 * 0: there are no more.
 */
size_t frame_cut_next(struct frame_cut *c, uint8_t *out);

/* A hash of the two ends of a flow: the same in both directions. */
uint32_t
frame_flow(const uint8_t *frame, size_t n, const struct frame_layout *l);

/* The internet checksum (RFC 1071) of n bytes and what was summed before; as
 * stored in memory, not yet complemented. */
uint16_t frame_sum(const void *bytes, size_t n, uint16_t before);

#endif
