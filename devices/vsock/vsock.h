/*
 * Connections of a vsock device: virtio 1.2, 5.10, on one side, the relay's
 * slots (proto/relay.h) on the other.
 *
 * All that a connection is lies in the state and in the relay's memory, both of
 * which outlive the process: a new one goes on where the dead one stopped.
 * These functions are work on the state, but vsock_settle(), which tells the
 * relay what is committed.
 */
#ifndef DEVICES_VSOCK_VSOCK_H
#define DEVICES_VSOCK_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/relay.h"

#define VSOCK_CID_HOST 2u
#define VSOCK_RESETS   64u

enum vsock_op {
	VSOCK_INVALID,
	VSOCK_REQUEST,
	VSOCK_RESPONSE,
	VSOCK_RST,
	VSOCK_SHUTDOWN,
	VSOCK_RW,
	VSOCK_CREDIT_UPDATE,
	VSOCK_CREDIT_REQUEST,
};

#define VSOCK_STREAM	    1u /* type */
#define VSOCK_SHUTDOWN_RCV  1u /* flags: will not receive */
#define VSOCK_SHUTDOWN_SEND 2u
#define VSOCK_SHUTDOWN_BOTH 3u

struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));

enum vsock_phase {
	VSOCK_FREE,
	VSOCK_CONNECTING, /* the guest asked; the relay is to answer */
	VSOCK_OFFERED, /* the relay asked; the guest is to answer */
	VSOCK_OPEN,
	VSOCK_CLOSING, /* the guest is done with it, the relay not yet */
};

struct vsock_conn {
	uint32_t generation;
	uint32_t guest_port, host_port;
	uint8_t phase;
	uint8_t pending; /* packets to send, 1 << op */
	uint8_t guest_shut, host_shut, host_told; /* VSOCK_SHUTDOWN_* */
	uint8_t draining; /* closing: the relay is to put out what it has */
	uint8_t pad[2];
	uint64_t in_base, in_pos; /* in to_guest: its start, what is next */
	uint64_t out_base; /* in to_host: its start */
	uint32_t peer_alloc, peer_fwd; /* the guest's credit */
	uint32_t fwd_told; /* ours, as the guest knows it */
	uint32_t pad2;
	uint64_t deadline_ns; /* when it is given up; UINT64_MAX */
};

struct vsock_reset {
	uint32_t guest_port, host_port;
};

struct vsock {
	uint64_t cid;
	uint32_t next_port; /* of the host, for those that the relay begins */
	uint32_t nresets;
	struct vsock_reset reset[VSOCK_RESETS]; /* for no connection of ours */
	struct vsock_conn conn[RELAY_SLOTS];
};

/* A packet for the guest. */
struct vsock_packet {
	uint32_t slot; /* RELAY_SLOTS: the first of the resets */
	uint16_t op;
	uint16_t flags;
	uint32_t len; /* of the data, most that may be sent */
};

/* Can this be?  Nothing in it leads out of bounds. */
bool vsock_valid(const struct vsock *v);

/* The slot of a connection that the guest knows; -1. */
int vsock_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port);

/*
 * A packet without data from the guest, whose addresses and type are right.
 * The caller has seen that there is room for a reset.
 */
void vsock_receive(struct vsock *v, struct relay *r,
    const struct vsock_header *h, uint64_t now_ns);
/* Answer with a reset; false: no room for one. */
bool vsock_refuse(struct vsock *v, const struct vsock_header *h);
/* May the guest send h->len bytes now that begin at position pos of to_host?
 * Takes its credit over. */
bool vsock_may_send(struct vsock *v, struct relay *r, int slot,
    const struct vsock_header *h, uint64_t pos);
/* The guest broke the rules: reset the connection. */
void vsock_abort(struct vsock *v, int slot);

/*
 * See what the relay did.  accept: the driver is there.  gone: there is no
 * relay any more.
 */
void vsock_scan(
    struct vsock *v, struct relay *r, bool accept, bool gone, uint64_t now_ns);
/* The next packet to send, looking from slot `from` on. */
bool vsock_next(
    struct vsock *v, struct relay *r, unsigned from, struct vsock_packet *p);
/* Its header. */
void vsock_header_fill(struct vsock *v, struct relay *r,
    const struct vsock_packet *p, struct vsock_header *h);
/* It was sent, with p->len bytes. */
void vsock_sent(struct vsock *v, const struct vsock_packet *p, uint64_t now_ns);

uint64_t vsock_deadline(const struct vsock *v);
/* Give up what is due. */
void vsock_timeout(struct vsock *v, uint64_t now_ns);
/* The driver reset the device: all connections end, without a word. */
void vsock_drop_all(struct vsock *v);

/* Tell the relay; true: something changed for it. */
bool vsock_settle(const struct vsock *v, struct relay *r);

#endif
