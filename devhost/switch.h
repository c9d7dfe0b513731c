/*
 * An Ethernet switch in user space: `devhost switch`, a process that the VMs of
 * one user share.
 *
 * A port is a SEQPACKET connection; a datagram is a frame as in a packet link
 * (proto/packet.h): a virtio_net_hdr of 12 bytes and the frame.  The switch looks
 * at the two addresses and passes the rest on unread: each end checks what it is
 * given.  It learns which address is behind which port, and treats every port as
 * hostile:
 *
 *  - tables are bounded, and a port's share of them is: it can push out nothing
 *    of another's;
 *  - an address that another port has used a moment ago cannot be taken over;
 *  - a port that floods is bound to a rate, one that sends much takes turns;
 *  - what a port does not take in time is lost, to that port alone.
 */
#ifndef DEVHOST_SWITCH_H
#define DEVHOST_SWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox/sandbox.h"

#define SWITCH_PORTS	     64u
#define SWITCH_SETS	     1024u
#define SWITCH_WAYS	     4u
#define SWITCH_MACS_PER_PORT 128u
#define SWITCH_AGE_NS	     300000000000u
#define SWITCH_KEEP_NS	     2000000000u /* an address stays where it spoke */
#define SWITCH_FLOODS	     2000u /* per second and port */
#define SWITCH_FLOOD_BURST   500u

#define SWITCH_NONE	     -1
#define SWITCH_ALL	     -2

struct switch_mac {
	uint64_t mac; /* of 48 bits; 0: free */
	uint64_t seen_ns;
	unsigned port;
};

struct switch_port {
	bool used;
	unsigned nmacs;
	uint64_t flood_due_ns;
	uint64_t frames, lost, floods, refused;
};

struct switch_table {
	uint64_t key; /* of the hash: a stranger cannot choose a set */
	struct switch_port port[SWITCH_PORTS];
	struct switch_mac mac[SWITCH_SETS][SWITCH_WAYS];
};

/*
 * A frame (without its virtio_net_hdr) came in at a port: the port that it is
 * for, SWITCH_ALL for all others, SWITCH_NONE: nobody.  Learns its source.
 */
int switch_forward(struct switch_table *t, unsigned port, const uint8_t *frame,
    size_t n, uint64_t now_ns);

/* A port that is free, now in use; -ENOSPC. */
int switch_add(struct switch_table *t);
/* It is gone, with all that was learned there. */
void switch_remove(struct switch_table *t, unsigned port);

/*
 * The life of a switch: listener_fd is a listening SEQPACKET socket.  Started by
 * sandbox_spawn() it is the switch; otherwise it starts itself again that way, in
 * the given mode, and waits for its end.  It ends when there has been no port for
 * idle_ms.  An exit status.
 */
int switch_main(int listener_fd, enum sandbox_mode mode, unsigned idle_ms);

/* Its inner part, without a sandbox: for the test. */
int switch_run(int listener_fd, unsigned idle_ms);

#endif
