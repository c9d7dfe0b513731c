/* Asking a VM for its statistics. */
#ifndef VMMCTL_STATS_H
#define VMMCTL_STATS_H

#include "proto/channel.h"

/*
 * device "": all.  EXIT_POWEROFF: m->envelope->stats is there, *m to be freed;
 * or another exit code after a complaint.
 */
int stats_ask(struct channel *c, const char *device, struct channel_message *m);

#endif
