/*
 * The fence: how a disk's process knows that everything its predecessor asked
 * of the kernel has ended.
 *
 * The end of a process is not the end of its io_uring requests: a direct write
 * that the disk has not answered goes on without it.  What does end with them is
 * the ring, which the kernel frees when its last request is done, and with the
 * ring the files registered in it.  So every process makes a pipe whose write
 * end is in the ring's file table and nowhere else: the read end sees the end
 * of file when the ring is gone.
 *
 * The read end must outlive the process.  It is left, as a message with an fd
 * beside it, in a mailbox that whoever opens the disk hands in with it: a Unix
 * datagram socket that is connected to itself (fence_mailbox()).  The broker
 * keeps that socket for the VM's life, as any file.  A process
 *
 *  1. looks at the oldest message without taking it, waits for the end of file
 *     on what is beside it, then takes it; until there are none;
 *  2. leaves its own read end;
 *  3. starts requests.
 *
 * It may die between any two of these: a message is taken only when it says
 * nothing any more, and requests are started only after the own one is there.
 */
#ifndef DEVICES_BLOCK_FENCE_H
#define DEVICES_BLOCK_FENCE_H

#include <stdbool.h>

struct fence {
	int mailbox; /* -1: none */
	/*
	 * What is left are connections to a server, not pipes: our side of them
	 * is shut, and the end of the file is the server's closing of its own,
	 * when it has ended what it was asked.
	 */
	bool sockets;
	int behind; /* the predecessor's read end; -1: none looked at */
};

/*
 * For who hands the disk in: a new mailbox, CLOEXEC; to be handed in as the
 * file "fence".  An fd or a negative errno.
 */
int fence_mailbox(void);

/* mailbox stays the caller's; -1: there is none, and nothing to wait for. */
void fence_open(struct fence *f, int mailbox, bool sockets);

/*
 * Step 1, without sleeping.  1: nothing of a predecessor is left; 0: wait until
 * f->behind is readable and call again; a negative errno from recvmsg().
 */
int fence_poll(struct fence *f);
/* The same, sleeping.  0 or a negative errno. */
int fence_wait(struct fence *f);
/* Wait no longer for the one looked at. */
void fence_give_up(struct fence *f);

/* Step 2: leave a read end, which stays the caller's to close.  0 or a
 * negative errno. */
int fence_leave(struct fence *f, int read_end);

void fence_close(struct fence *f);

#endif
