/* Statistics, as text. */
#include "vmmctl/stats_format.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <string.h>

#include "proto/base.h"

const struct stats_counter stats_device_counters[] = {
	{ "reads", "Register reads handled", false },
	{ "writes", "Register writes handled", false },
	{ "posted", "Register writes that the vCPU did not wait for", false },
	{ "commits", "Commits of the state", false },
	{ "interrupts", "Interrupts raised", false },
	{ "doorbells", "Wake-ups by a doorbell", false },
	{ "wakeups", "Sleeps that ended", false },
	{ "requests", "Queue requests done", false },
	{ "bytes_in", "Bytes from streams, disks and networks", false },
	{ "bytes_out", "Bytes to streams, disks and networks", false },
	{ "queue_depth", "Queue requests in flight", true },
	{ "queue_depth_max", "Most queue requests ever in flight", true },
	{ "recoveries", "Starts on a committed store", false },
	{ "syscalls", "System calls that the process may make", true },
	{ "sandbox", "Steps of the sandbox in force, as a bit set", true },
};
const unsigned stats_device_counter_count = ARRAY_LEN(stats_device_counters);
_Static_assert(ARRAY_LEN(stats_device_counters) ==
	offsetof(struct stats_device, own) / sizeof(uint64_t),
    "one name per counter");

const struct stats_counter stats_vcpu_counters[] = {
	{ "pio_reads", "Reads of ports", false },
	{ "pio_writes", "Writes of ports", false },
	{ "mmio_reads", "Reads of memory-mapped registers", false },
	{ "mmio_writes", "Writes of memory-mapped registers", false },
	{ "unclaimed", "Accesses that no device decodes", false },
	{ "kicks", "Runs that a kick ended", false },
};
const unsigned stats_vcpu_counter_count = ARRAY_LEN(stats_vcpu_counters);
_Static_assert(ARRAY_LEN(stats_vcpu_counters) ==
	sizeof(struct stats_vcpu) / sizeof(uint64_t),
    "one name per counter");

static uint64_t
value_at(const uint64_t *values, size_t n, size_t i)
{
	return i < n ? values[i] : 0;
}

uint64_t
stats_device_counter(const Bulkhead__DeviceStats *d, const char *name)
{
	for (unsigned i = 0; i < stats_device_counter_count; i++)
		if (strcmp(stats_device_counters[i].name, name) == 0)
			return value_at(d->counters, d->n_counters, i);
	return 0;
}

void
stats_from_message(struct stats_histogram *h, const Bulkhead__Histogram *m)
{
	memset(h, 0, sizeof(*h));
	if (m == NULL)
		return;
	stats_set(&h->count, m->count);
	stats_set(&h->sum_ns, m->sum_ns);
	stats_set(&h->max_ns, m->max_ns);
	for (unsigned i = 0; i < STATS_BUCKETS; i++)
		stats_set(&h->bucket[i], value_at(m->buckets, m->n_buckets, i));
}

const char *
stats_format_time(char out[16], uint64_t ns)
{
	double v = (double)ns;

	if (ns == 0)
		snprintf(out, 16, "-");
	else if (ns < 1000)
		snprintf(out, 16, "%uns", (unsigned)ns);
	else if (ns < 1000000)
		snprintf(out, 16, "%.1fus", v / 1e3);
	else if (ns < 1000000000)
		snprintf(out, 16, "%.1fms", v / 1e6);
	else
		snprintf(out, 16, "%.1fs", v / 1e9);
	return out;
}

const char *
stats_format_bytes(char out[16], uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes;
	int unit = -1;

	while (v >= 1024 && unit + 1 < (int)sizeof(units) - 1) {
		v /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(out, 16, "%u", (unsigned)bytes);
	else
		snprintf(out, 16, "%.1f%c", v, units[unit]);
	return out;
}

/* ---- for people ---- */

static const char *
percentile(char out[16], const Bulkhead__Histogram *m, unsigned per_mille)
{
	struct stats_histogram h;

	stats_from_message(&h, m);
	return stats_format_time(out, stats_percentile(&h, per_mille));
}

void
stats_print_table(FILE *out, const Bulkhead__Stats *s)
{
	char t[7][16];

	fprintf(out,
	    "%-12s %-14s %10s %10s %10s %10s %8s %8s %5s %8s %8s %8s %8s %8s "
	    "%8s\n",
	    "NAME", "TYPE", "READS", "WRITES", "REQUESTS", "IRQS", "IN", "OUT",
	    "DEPTH", "HANDLER", "P99", "REQUEST", "P99", "CPU", "MEMORY");
	for (size_t i = 0; i < s->n_devices; i++) {
		const Bulkhead__DeviceStats *d = s->devices[i];

		fprintf(out,
		    "%-12s %-14s %10" PRIu64 " %10" PRIu64 " %10" PRIu64
		    " %10" PRIu64 " %8s %8s %5" PRIu64
		    " %8s %8s %8s %8s %7.2fs %8s\n",
		    d->name, d->type, stats_device_counter(d, "reads"),
		    stats_device_counter(d, "writes"),
		    stats_device_counter(d, "requests"),
		    stats_device_counter(d, "interrupts"),
		    stats_format_bytes(
			t[0], stats_device_counter(d, "bytes_in")),
		    stats_format_bytes(
			t[1], stats_device_counter(d, "bytes_out")),
		    stats_device_counter(d, "queue_depth"),
		    percentile(t[2], d->handler, 500),
		    percentile(t[3], d->handler, 990),
		    percentile(t[4], d->request, 500),
		    percentile(t[5], d->request, 990), (double)d->cpu_ns / 1e9,
		    stats_format_bytes(t[6], d->private_bytes));
	}
}

static void
print_value(FILE *out, const char *name, uint64_t v, const char *help)
{
	fprintf(out, "  %-20s %14" PRIu64 "  %s\n", name, v, help);
}

static void
print_histogram(
    FILE *out, const char *name, const Bulkhead__Histogram *m, const char *help)
{
	char p50[16], p90[16], p99[16], p999[16], max[16];

	fprintf(out,
	    "  %-20s %14" PRIu64
	    "  p50 %s, p90 %s, p99 %s, p99.9 %s, most %s: %s\n",
	    name, m == NULL ? 0 : m->count, percentile(p50, m, 500),
	    percentile(p90, m, 900), percentile(p99, m, 990),
	    percentile(p999, m, 999),
	    stats_format_time(max, m == NULL ? 0 : m->max_ns), help);
}

static void
print_device(FILE *out, const Bulkhead__DeviceStats *d)
{
	char name[32];

	fprintf(out, "%s (%s)\n", d->name, d->type);
	for (unsigned i = 0; i < stats_device_counter_count; i++)
		print_value(out, stats_device_counters[i].name,
		    value_at(d->counters, d->n_counters, i),
		    stats_device_counters[i].help);
	print_value(out, "restarts", d->restarts, "Starts after a death");
	print_value(out, "cpu_ns", d->cpu_ns, "CPU time");
	print_value(
	    out, "private_bytes", d->private_bytes, "Memory of its own");
	for (size_t i = 0; i < d->n_own; i++)
		print_value(out, i < d->n_own_names ? d->own_names[i] : "?",
		    d->own[i], "(the type's own)");
	print_histogram(
	    out, "handler", d->handler, "register accesses, in the device");
	print_histogram(
	    out, "request", d->request, "queue requests, taken to done");
	for (size_t i = 0; i < d->n_waits; i++) {
		const Bulkhead__WaitStats *w = d->waits[i];

		snprintf(name, sizeof(name), "vcpu%u.answer", w->vcpu);
		print_histogram(out, name, w->answer, "from exit to answer");
		snprintf(name, sizeof(name), "vcpu%u.accesses", w->vcpu);
		print_value(out, name, w->accesses, "Accesses of the vCPU");
		snprintf(name, sizeof(name), "vcpu%u.waited_ns", w->vcpu);
		print_value(out, name, w->waited_ns, "Time that it waited");
		snprintf(name, sizeof(name), "vcpu%u.sleeps", w->vcpu);
		print_value(out, name, w->sleeps, "Times that it slept");
	}
}

void
stats_print_details(FILE *out, const Bulkhead__Stats *s)
{
	for (size_t i = 0; i < s->n_devices; i++)
		print_device(out, s->devices[i]);
}

/* ---- JSON ---- */

static json_t *
whole(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *
histogram_json(const Bulkhead__Histogram *m)
{
	struct stats_histogram h;
	json_t *o = json_object(), *buckets = json_array();

	stats_from_message(&h, m);
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		json_t *b;

		if (stats_get(&h.bucket[i]) == 0)
			continue;
		b = json_object();
		json_object_set_new(b, "from_ns", whole(stats_bucket_floor(i)));
		json_object_set_new(b, "count", whole(stats_get(&h.bucket[i])));
		json_array_append_new(buckets, b);
	}
	json_object_set_new(o, "count", whole(stats_get(&h.count)));
	json_object_set_new(o, "sum_ns", whole(stats_get(&h.sum_ns)));
	json_object_set_new(o, "max_ns", whole(stats_get(&h.max_ns)));
	json_object_set_new(o, "p50_ns", whole(stats_percentile(&h, 500)));
	json_object_set_new(o, "p99_ns", whole(stats_percentile(&h, 990)));
	json_object_set_new(o, "buckets", buckets);
	return o;
}

static json_t *
counters_json(const struct stats_counter *table, unsigned count,
    const uint64_t *values, size_t n)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < count; i++)
		json_object_set_new(
		    o, table[i].name, whole(value_at(values, n, i)));
	return o;
}

static json_t *
waits_json(const Bulkhead__DeviceStats *d)
{
	json_t *list = json_array();

	for (size_t i = 0; i < d->n_waits; i++) {
		const Bulkhead__WaitStats *w = d->waits[i];
		json_t *o = json_object();

		json_object_set_new(o, "vcpu", whole(w->vcpu));
		json_object_set_new(o, "accesses", whole(w->accesses));
		json_object_set_new(o, "waited_ns", whole(w->waited_ns));
		json_object_set_new(o, "sleeps", whole(w->sleeps));
		json_object_set_new(o, "answer", histogram_json(w->answer));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *
device_json(const Bulkhead__DeviceStats *d)
{
	json_t *o = json_object(), *own = json_object();

	for (size_t i = 0; i < MIN(d->n_own, d->n_own_names); i++)
		json_object_set_new(own, d->own_names[i], whole(d->own[i]));
	json_object_set_new(o, "name", json_string(d->name));
	json_object_set_new(o, "type", json_string(d->type));
	json_object_set_new(o, "counters",
	    counters_json(stats_device_counters, stats_device_counter_count,
		d->counters, d->n_counters));
	json_object_set_new(o, "own", own);
	json_object_set_new(o, "restarts", whole(d->restarts));
	json_object_set_new(o, "cpu_ns", whole(d->cpu_ns));
	json_object_set_new(o, "private_bytes", whole(d->private_bytes));
	json_object_set_new(o, "handler", histogram_json(d->handler));
	json_object_set_new(o, "request", histogram_json(d->request));
	json_object_set_new(o, "waits", waits_json(d));
	return o;
}

int
stats_print_json(FILE *out, const char *vm, const Bulkhead__Stats *s)
{
	json_t *o = json_object(), *devices = json_array(),
	       *vcpus = json_array();
	int r;

	for (size_t i = 0; i < s->n_devices; i++)
		json_array_append_new(devices, device_json(s->devices[i]));
	for (size_t i = 0; i < s->n_vcpus; i++) {
		const Bulkhead__VcpuStats *v = s->vcpus[i];
		json_t *c = json_object();

		json_object_set_new(c, "cpu_ns", whole(v->cpu_ns));
		json_object_set_new(c, "counters",
		    counters_json(stats_vcpu_counters, stats_vcpu_counter_count,
			v->counters, v->n_counters));
		json_array_append_new(vcpus, c);
	}
	json_object_set_new(o, "name", json_string(vm));
	json_object_set_new(o, "uptime_ns", whole(s->uptime_ns));
	json_object_set_new(o, "devices", devices);
	json_object_set_new(o, "vcpus", vcpus);
	r = json_dumpf(o, out, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(o);
	fputc('\n', out);
	return r < 0 ? -ENOMEM : 0;
}
