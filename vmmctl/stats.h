/* Asking a VM for its statistics. */
#ifndef VMMCTL_STATS_H
#define VMMCTL_STATS_H

#include "proto/channel.h"

#define STATS_DEVICES 64u
#define STATS_WHY     256u

struct stats_answer {
	Bulkhead__Stats *stats; /* points into what follows */
	Bulkhead__Stats all;
	Bulkhead__DeviceStats *devices[STATS_DEVICES];
	struct channel_message message[STATS_DEVICES];
	unsigned n; /* messages to be freed */
};

/*
 * device "": all, one by one if they do not fit into one message.
 * EXIT_POWEROFF: *a is to be left with stats_free(); or another exit code and
 * the complaint in why.
 */
int stats_ask(struct channel *c, const char *device, struct stats_answer *a,
    char why[STATS_WHY]);
void stats_free(struct stats_answer *a);

#endif
