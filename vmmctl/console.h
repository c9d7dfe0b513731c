/*
 * A console session: the terminal (or a plain file) on our side, a device's
 * byte stream on the other, and the control channel beside them.
 */
#ifndef VMMCTL_CONSOLE_H
#define VMMCTL_CONSOLE_H

#include <stdbool.h>

#include "proto/channel.h"

struct console_options {
	bool attached; /* false: no stream, only wait for the end */
	bool owner; /* ending the session is to end the VM */
	bool quiet, verbose; /* which events are printed */
	/* Whose window the terminal is, for changes of its size. */
	const char *device, *stream;
	const Bulkhead__Ended *ended; /* the VM has ended already; or NULL */
};

/*
 * Run until the VM ends, the user leaves (Ctrl-] q), or a signal comes.  fds:
 * the six of a Console message, taken; ignored if not attached.  Every byte of
 * output that the stream holds at the end has been written when it returns.
 * The terminal is as it was before, on every way out.  An enum exit_code.
 */
int console_run(
    struct channel *c, const int fds[6], const struct console_options *o);

#endif
