/*
 * The files of the devices: opened here, with the user's authority, and handed
 * down as file descriptors.
 */
#ifndef VMMCTL_FILES_H
#define VMMCTL_FILES_H

#include <sys/types.h>

#include "proto/channel.h"
#include "vmmctl/connector.h"
#include "vmmctl/options.h"

struct files {
	int fd
	    [CHANNEL_FDS_MAX]; /* in the devices' order, then the recorder's */
	unsigned n;
	bool has_recorder;
	/* Connectors, relays and the recorder. */
	pid_t child[2 * OPTIONS_DEVICES + 1];
	unsigned nchildren;
	struct connector_means means;
	int relay_link; /* while a relay is being opened */
};

/*
 * Open everything that the devices of resolved options want.  EXIT_POWEROFF, or
 * another exit code after a complaint that names option, path and reason; either
 * way *f is to be left with files_leave().  devhost: the path of the program
 * that is the switch, too.
 */
int
files_open(struct files *f, const struct run_options *o, const char *devhost);

/* Close our copies: the broker has its own. */
void files_close(struct files *f);

/* The same, and wait until the connectors and relays have ended. */
void files_leave(struct files *f);

/*
 * Open a disk image or a block device, and lock it.  The fd, or -errno with the
 * reason in why: it is missing, empty, not of whole sectors, not writable, in
 * use, or neither file nor block device.
 */
int files_open_disk(const struct option_file *file, char *why, size_t size);

#endif
