/*
 * Merging of TCP segments that follow one another into one large frame, which
 * frame_cut_next() would cut into the same segments again: a guest then has one
 * packet to treat instead of dozens.
 *
 * For frames whose checksums are known to be right, as those that we made.
 */
#ifndef DEVICES_NET_MERGE_H
#define DEVICES_NET_MERGE_H

#include "devices/net/frame.h"

struct frame_merge {
	size_t n; /* bytes in out; 0: nothing */
	struct frame_layout layout;
	unsigned count; /* segments */
	uint16_t size; /* payload of the first: the largest */
	uint32_t next; /* sequence number that may follow */
	bool closed; /* nothing may follow */
	uint8_t out[FRAME_MAX];
};

/*
 * Add a frame behind those that are there.  False: it does not belong to them
 * (or is nothing that can be merged, if there are none): take them first.
 */
bool frame_merge_add(struct frame_merge *m, const uint8_t *frame, size_t n);

/*
 * Finish the frame in m->out, and its header: its bytes, 0 if there is none.
 * From now on there is none; out stays as it is until the next is added.
 */
size_t frame_merge_take(struct frame_merge *m, struct net_header *h);

#endif
