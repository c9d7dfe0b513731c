/*
 * A device host: one device with its store, its rings and its event loop.
 *
 * Isolated placement: host_run() is all that the process does after it has
 * entered its sandbox.  Inline placement: the same loop runs on a thread of
 * the broker's process, and vCPU threads call host_access() instead of using
 * the ring.
 */
#ifndef DEVHOST_HOST_H
#define DEVHOST_HOST_H

#include <stdint.h>

#include "devhost/device.h"
#include "proto/ring.h"

/* Exit status of the devhost program. */
enum host_exit {
	HOST_EXIT_OK = 0, /* finished as asked, or the broker is gone */
	HOST_EXIT_USAGE = 2,
	HOST_EXIT_PROTOCOL = 3, /* the broker broke the protocol */
	HOST_EXIT_SANDBOX = 4, /* the sandbox could not be entered */
	HOST_EXIT_RESOURCE = 5, /* the host system failed us */
	HOST_EXIT_STATE = 6, /* the committed state is not valid */
	HOST_EXIT_CONFIG = 7, /* an option is not of this device */
	HOST_EXIT_FAULT = 8, /* a fault made on purpose */
	HOST_EXIT_SECCOMP = 9, /* it made a system call that it may not make */
};

/* What main() tells the host for its Hello. */
struct host_identity {
	unsigned syscalls; /* length of the seccomp list in force, or 0 */
	uint64_t sandbox; /* SANDBOX_* steps in force */
};

struct host;

/*
 * Make a host for host_run().  To be called before the sandbox is entered: the
 * event loop is opened here, and the device's prepare() is called, so that
 * their system calls need not be allowed.  control_fd is taken.  0 and *out,
 * one per process; -ENOMEM; what prepare() returned.
 */
int
host_open(const struct device_type *type, int control_fd, struct host **out);

/*
 * Hold the conversation on the control channel and run the device until the
 * broker says Finish or closes.  Returns an enum host_exit.
 */
int host_run(struct host *h, const struct host_identity *identity);

/*
 * Start the same on a thread of this process.  control_fd is taken, also on
 * failure.  0 and *out; -ENOMEM, -EAGAIN (no thread), -EMFILE; what the
 * device's prepare() returned.
 */
int host_start_inline(
    const struct device_type *type, int control_fd, struct host **out);

/*
 * Any thread, after the broker's end of the channel saw Ready: handle one
 * access and its effects.  req's region and address must lie in the placement.
 * 0 and *answer; -ENOTCONN when the device does not run (yet, or any more);
 * -EPROTO for an impossible request.
 */
int host_access(struct host *h, unsigned vcpu, const struct ring_request *req,
    uint64_t *answer);

/*
 * Wait for the thread, which ends by Finish or when the broker closes its end;
 * then free the host.  No host_access() may be under way.  Returns the thread's
 * enum host_exit.
 */
int host_join_inline(struct host *h);

#endif
