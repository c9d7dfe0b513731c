/*
 * Statistics, as text: a table, JSON, or Prometheus's exposition format 0.0.4.
 * Pure but for the output; the message comes from a broker and is not trusted to
 * be complete: what is missing counts as zero.
 */
#ifndef VMMCTL_STATS_FORMAT_H
#define VMMCTL_STATS_FORMAT_H

#include <stdio.h>

#include "proto/control.pb-c.h"
#include "proto/stats.h"

/* A counter of struct stats_device or struct stats_vcpu, in their order. */
struct stats_counter {
	const char *name;
	const char *help;
	bool gauge;
};
extern const struct stats_counter stats_device_counters[];
extern const unsigned stats_device_counter_count;
extern const struct stats_counter stats_vcpu_counters[];
extern const unsigned stats_vcpu_counter_count;

/* The device counter of that name; 0 if there is none. */
uint64_t stats_device_counter(const Bulkhead__DeviceStats *d, const char *name);

/* A message's histogram as one that stats_percentile() takes; NULL is empty. */
void
stats_from_message(struct stats_histogram *h, const Bulkhead__Histogram *m);

/* A line per device. */
void stats_print_table(FILE *out, const Bulkhead__Stats *s);
/* Everything of each device, a line per value. */
void stats_print_details(FILE *out, const Bulkhead__Stats *s);
/* 0; -ENOMEM. */
int stats_print_json(FILE *out, const char *vm, const Bulkhead__Stats *s);
void
stats_print_prometheus(FILE *out, const char *vm, const Bulkhead__Stats *s);

/* "812ns", "3.4us", "12ms", "1.5s"; "-" for 0.  Returns out. */
const char *stats_format_time(char out[16], uint64_t ns);
/* "512", "64K", "1.2G".  Returns out. */
const char *stats_format_bytes(char out[16], uint64_t bytes);

#endif
