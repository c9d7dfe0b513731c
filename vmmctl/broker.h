/* The broker's process: started, told what to make, and seen through. */
#ifndef VMMCTL_BROKER_H
#define VMMCTL_BROKER_H

#include "proto/channel.h"
#include "vmmctl/files.h"
#include "vmmctl/options.h"

struct broker {
	pid_t pid;
	struct channel channel;
};

#define BROKER_PROGRAMS 2u

/* What goes with the order to make a VM. */
struct broker_inputs {
	int program[BROKER_PROGRAMS]; /* device hosts, as O_PATH */
	unsigned nprograms;
	int kernel, initrd; /* initrd -1: none */
	struct files files;
};

/*
 * Start the program at path.  EXIT_POWEROFF; or another exit code after a
 * complaint.
 */
int broker_start(struct broker *b, const struct run_options *o,
    const char *path, bool layout);

/* Tell it what to make.  0; -ENOMEM, or as channel_send(). */
int broker_create(struct broker *b, const struct run_options *o,
    const struct broker_inputs *in);

/*
 * Wait for what became of it.  EXIT_POWEROFF: it runs (or, of `layout`, it is
 * done); else the exit code, after a complaint.  start_ns is when the user asked
 * for it.
 */
int
broker_await(struct broker *b, const struct run_options *o, uint64_t start_ns);

/* Leave nothing behind: the broker ends before this returns. */
void broker_leave(struct broker *b);

#endif
