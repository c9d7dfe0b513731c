/* A machine's devices, as text; pure but for the output. */
#ifndef VMMCTL_DEVICES_H
#define VMMCTL_DEVICES_H

#include <stdio.h>

#include "proto/control.pb-c.h"

void devices_print_table(FILE *out, const Bulkhead__Description *d);
/* 0; -ENOMEM. */
int devices_print_json(FILE *out, const Bulkhead__Description *d);

#endif
