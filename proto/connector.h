/*
 * The connector: how a sandboxed process gets a new connection.
 *
 * A child of vmmctl, with the user's authority, holds an address that the user
 * named and one end of a SEQPACKET socket pair; the device holds the other end
 * as one of its files, and can reach nothing but that address through it.
 *
 * The device sends a struct connector_request in one datagram; the connector
 * answers each with a struct connector_answer, in order, with the connected
 * socket beside it (SCM_RIGHTS) if error is 0.  A device that asks for more than
 * CONNECTOR_WAITING at once is not read on.  The connector ends when the other
 * end is closed everywhere.
 */
#ifndef PROTO_CONNECTOR_H
#define PROTO_CONNECTOR_H

#include <stdint.h>

#define CONNECTOR_WAITING 16u

struct connector_request {
	uint32_t cookie; /* comes back with the answer */
	uint32_t port; /* 0: an address has one place to connect to */
};

struct connector_answer {
	uint32_t cookie;
	int32_t error; /* 0, or a positive errno */
};

/* The device: ask for a connection.  0 or -errno; does not sleep. */
int connector_ask(int fd, uint32_t cookie);

/*
 * The device: take an answer.  1: *answer, and in *connected the socket that
 * came with it, the caller's, or -1.  -EAGAIN: none now; -EPIPE: the connector
 * is gone; -EPROTO: a datagram of another size, *connected as for 1.
 */
int connector_hear(int fd, struct connector_answer *answer, int *connected);

#endif
