/*
 * A control channel: one Envelope per SEQPACKET datagram, fds beside it, and
 * the conversation table that says who may send what, when, with how many fds.
 *
 * Not thread-safe: one thread per channel.  The peer is hostile: anything that
 * the table does not allow, a zero-length or truncated datagram, or a message
 * that the bounded allocator refuses to unpack is -EPROTO, and the owner of the
 * channel kills the peer.
 */
#ifndef PROTO_CHANNEL_H
#define PROTO_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/control.pb-c.h"

#define CHANNEL_FDS_MAX	  160u
#define CHANNEL_BYTES_MAX (64u << 10)

/* Who this end is. */
enum channel_role {
	CHANNEL_BROKER_TO_DEVICE,
	CHANNEL_DEVICE,
	CHANNEL_BROKER_TO_LOADER,
	CHANNEL_LOADER,
	CHANNEL_BROKER_TO_CLIENT,
	CHANNEL_CLIENT,
};

/* How far a conversation is; each message of the table moves it or keeps it. */
enum channel_state {
	CHANNEL_NEW, /* nothing said */
	CHANNEL_GREETED, /* hello came */
	CHANNEL_CONFIGURED, /* configure, load or create went */
	CHANNEL_RUNNING, /* ready, loaded or started came */
	CHANNEL_FINISHING, /* finish went, or ended came */
};

struct channel {
	int fd; /* owned; -1 when closed */
	enum channel_role role;
	enum channel_state state;
	uint64_t seq; /* of the last message sent */
};

/* Takes the fd. */
void channel_init(struct channel *c, int fd, enum channel_role role);
void channel_close(struct channel *c);

/*
 * Send a message whose oneof is `body_case` (BULKHEAD__ENVELOPE__BODY_...) and
 * whose body is `body`, a pointer to the generated struct; fds stay the
 * caller's.  seq 0: the channel's next; else the question's that this answers.
 * 0; -EPROTO when the table forbids it (a bug of ours); -EAGAIN when the peer
 * does not read; -EPIPE when it is gone.
 */
int channel_send(struct channel *c, int body_case, void *body, const int *fds,
    unsigned nfds, uint64_t seq);

struct channel_message {
	Bulkhead__Envelope *envelope;
	int fds[CHANNEL_FDS_MAX]; /* the receiver's; set one to -1 to keep it */
	unsigned nfds;
};

/*
 * Receive one message without waiting (the fd is non-blocking) or, with
 * timeout_ms >= 0, waiting that long.  1: *m is filled in, to be freed by
 * channel_free(); 0: the peer has closed; -EAGAIN, -ETIMEDOUT: nothing yet;
 * -EPROTO: kill it.
 */
int
channel_receive(struct channel *c, struct channel_message *m, int timeout_ms);
/* Closes the fds that were not taken, and frees the envelope. */
void channel_free(struct channel_message *m);

/* The protobuf-c allocator that bounds what one datagram may unpack to. */
struct bounded_allocator {
	ProtobufCAllocator base;
	size_t left; /* bytes */
	unsigned blocks_left;
};
void bounded_allocator_init(
    struct bounded_allocator *a, size_t bytes, unsigned blocks);

/* One row of the conversation table. */
struct conversation {
	int body_case;
	const char *name;
	unsigned senders; /* 1u << enum channel_role */
	unsigned states; /* 1u << enum channel_state: legal in */
	enum channel_state next; /* state after it; CHANNEL_KEEP: same */
	unsigned min_fds, max_fds;
	unsigned max_bytes;
};
#define CHANNEL_KEEP ((enum channel_state)99)

extern const struct conversation conversation_table[];
extern const unsigned conversation_rows;

#endif
