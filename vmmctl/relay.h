/*
 * The relay (proto/relay.h): a child of ours that holds the sockets of a vsock
 * device's connections.
 *
 * The host's programs connect to the listening Unix socket, write "CONNECT
 * PORT\n", read "OK PORT\n" and are connected to that port of the guest.  The
 * guest's connections to PORT of the host go to the Unix socket PATH_PORT.
 */
#ifndef VMMCTL_RELAY_H
#define VMMCTL_RELAY_H

#include <sys/types.h>

/* What the device is handed: close on exec, the link not blocking. */
struct relay_fds {
	int memory, link;
};

/* Make the memory, and the two ends of the link; 0 or -errno. */
int relay_make(struct relay_fds *device, int *own_link);

/*
 * Be the relay until the other end of the link is closed everywhere.  The
 * listener must not block.  0, or -errno if it could not go on.
 */
int relay_run(const char *path, int listener, int memory, int link);

/*
 * Start a relay in a child, in a session of its own, with no other fd of ours.
 * listener is taken, also on failure.  Its pid, or -errno.  It removes the
 * listener's path at its end if that is still the same socket.
 */
pid_t relay_start(const char *path, int listener, struct relay_fds *device);

#endif
