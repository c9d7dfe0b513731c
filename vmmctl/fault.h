/* Faults made on purpose (proto/fault.h), as the user words them. */
#ifndef VMMCTL_FAULT_H
#define VMMCTL_FAULT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/channel.h"

struct fault_words {
	Bulkhead__FaultPlan plan;
	const char *region; /* its name, to be looked up; NULL: no need */
};

/* "250ns", "5ms", "1.5s": a number and a unit.  0; -EINVAL. */
int fault_parse_time(const char *text, uint64_t *ns);

/*
 * A kind ("kill", ...) and n words KEY=VALUE.  0; -EINVAL with the complaint in
 * err.  The result points into the words.
 */
int fault_parse(struct fault_words *out, const char *kind, int n,
    const char *const *words, char *err, size_t size);

/* Send it to a device of a VM.  An exit code, after a complaint if there was a
 * failure. */
int fault_send(struct channel *c, const char *device, struct fault_words *w);

/* Ask for a device's plans, and disarm them first if `clear`.  EXIT_POWEROFF:
 * *m is to be freed; or an exit code after a complaint. */
int fault_query(struct channel *c, const char *device, bool clear,
    struct channel_message *m);

/* A table of plans. */
void fault_print(FILE *out, const Bulkhead__Faults *faults);

#endif
