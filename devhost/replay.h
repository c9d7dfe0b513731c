/*
 * A black box (proto/blackbox.h) made to happen again: its device, on its
 * committed state, does the requests that waited, in this process, without a
 * broker and without a sandbox.  For a debugger.
 *
 * Guest memory is not in the box: there it reads as zeroes, so that requests in
 * queues are not done again, only those to registers.
 */
#ifndef DEVHOST_REPLAY_H
#define DEVHOST_REPLAY_H

#include <stddef.h>
#include <stdio.h>

/* A file that the device is to have, as NAME=PATH; the others are empty. */
struct replay_file {
	const char *name, *path;
};

/*
 * Replay `size` bytes, which are hostile and may be changed.  Says on `out` what
 * it does, before it does it.  If the death happens again, this does not return,
 * or what the device host exits with is returned (enum host_exit); HOST_EXIT_OK:
 * it did not.  HOST_EXIT_USAGE: this is no black box, or not one of a type that
 * this program knows.
 */
int replay_run(void *file, size_t size, const struct replay_file *files,
    unsigned nfiles, FILE *out);

/* devhost --replay FILE [NAME=PATH...]: an exit status. */
int replay_main(int argc, char **argv);

#endif
