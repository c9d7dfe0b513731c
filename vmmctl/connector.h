/*
 * The connector (proto/connector.h): a child of ours that connects to one
 * address for a device that may not.
 */
#ifndef VMMCTL_CONNECTOR_H
#define VMMCTL_CONNECTOR_H

#include <sys/types.h>

#include "vmmctl/options.h"

/* How to start a switch that is not there: the program, its --sandbox. */
struct connector_means {
	const char *devhost, *sandbox;
};

/*
 * Connect to the address.  The fd (close on exec, not blocking), or -errno;
 * -ETIMEDOUT after ten seconds, -ENOENT if the host's name is unknown,
 * -ECANCELED if watch_fd, not -1, hung up.
 */
int connector_connect(const struct connector_address *a,
    const struct connector_means *means, int watch_fd);

/*
 * Start a connector.  Its pid, and the device's end of the pair in *fd (close
 * on exec, not blocking); or -errno.  It lives until every copy of *fd is
 * closed, with no other fd of ours, in a session of its own.
 */
pid_t connector_start(const struct connector_address *a,
    const struct connector_means *means, int *fd);

#endif
