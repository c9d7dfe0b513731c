/* Rates: the difference of two looks at the statistics; pure but for output. */
#ifndef VMMCTL_TOP_H
#define VMMCTL_TOP_H

#include <stdio.h>

#include "proto/control.pb-c.h"

/*
 * A head of two lines and a line per device of `now`, each ending in eol.
 * before: an earlier message of the same VM, or NULL for none, which makes all
 * rates 0; a device that it lacks, or whose counters went down, counts from 0.
 */
void top_print(FILE *out, const char *vm, const Bulkhead__Stats *before,
    const Bulkhead__Stats *now, const char *eol);

#endif
