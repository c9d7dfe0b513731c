/*
 * A disk on a server that speaks NBD, by libnbd's asynchronous functions over
 * sockets that are handed in.
 *
 * When a connection is lost, or a server does not answer in time or says what
 * cannot be, the connection is closed, and the connector (proto/connector.h) is
 * asked for another one, with growing pauses; what was under way is asked
 * again.
 *
 * The fence is weaker than the kernel's: what a server has been asked cannot be
 * taken back.  Our side of the old connection is shut, and no new request is
 * made before the server has closed its own, which it does when it has ended
 * what it had read; but after NBD_FENCE_NS the wait is given up, and the log
 * says so.
 */
#ifndef DEVICES_EXT_NBD_H
#define DEVICES_EXT_NBD_H

#include <libnbd.h>

#include "devices/block/backend.h"
#include "devices/block/fence.h"

#define NBD_REQUESTS_MAX 64u /* with the server at once */
#define NBD_PIECE_MAX	 (1u << 20) /* bytes of one */
#define NBD_EXPORT_MAX	 256u
#define NBD_FENCE_NS	 5000000000u
#define NBD_GREET_NS	 10000000000u /* for the server's greeting */

struct device;

enum nbd_phase {
	NBD_FENCE, /* the old connection is not yet closed */
	NBD_ASKED, /* the connector */
	NBD_PAUSE, /* before asking again */
	NBD_GREET, /* connected, being negotiated */
	NBD_READY,
	NBD_LOST, /* there is no connector */
};

struct nbd_options {
	char export[NBD_EXPORT_MAX]; /* name; "": the server's default */
	uint32_t block_size; /* bytes that we ask for at least */
	uint32_t request_timeout_s; /* 0: wait as long as it takes */
	/* What waits for a connection fails after that time; 0: never. */
	uint32_t loss_timeout_s;
};

struct nbd_slot {
	struct block_io *io; /* NULL: free */
	uint8_t *memory; /* of our own; NULL: the guest's is used */
	uint32_t length; /* bytes of data */
	uint64_t sent_ns;
	int error; /* a positive errno */
	bool ended;
	bool flushing; /* the write is done, and is to be made durable */
};

struct nbd {
	struct block_backend backend;
	struct device *dev;
	struct nbd_options options;
	int connector; /* -1: none; the host's */
	struct fence fence;
	struct nbd_handle *h; /* NULL: no connection */
	int fd; /* its socket, watched */
	enum nbd_phase phase;
	uint64_t until_ns; /* guest time at which the phase has lasted enough */
	uint64_t pause_ns; /* the next one */
	uint64_t lost_ns; /* guest time of the loss; 0: not lost */
	uint32_t cookie; /* of the last request to the connector */
	int64_t size; /* bytes, as the server says; -ENOTCONN */
	bool can_flush, can_fua, can_trim, can_zero, read_only;
	struct block_io *queue, **queue_end; /* not with the server */
	struct block_io *done, **done_end;
	struct nbd_slot slot[NBD_REQUESTS_MAX];
	unsigned busy;
};

/* Begin without a connection.  mailbox and connector stay the host's; -1: there
 * is none. */
void nbd_init(struct nbd *n, struct device *dev,
    const struct nbd_options *options, int mailbox, int connector);

/*
 * The first connection: take up a copy of a fresh socket and negotiate,
 * sleeping for up to NBD_GREET_NS.  0; a negative errno, said in the log.
 */
int nbd_connect(struct nbd *n, int fd);

/* After a restart: whatever is on that socket is over.  Get another. */
void nbd_reconnect(struct nbd *n, int fd);

#endif
