/*
 * Statistics for Prometheus: its text exposition format, version 0.0.4.  All
 * samples of one metric stand together, below its HELP and TYPE.
 */
#include <inttypes.h>
#include <string.h>

#include "proto/base.h"
#include "vmmctl/stats_format.h"

struct writer {
	FILE *out;
	const char *vm;
};

static void
put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			fputc('\\', out);
		if (*value == '\n')
			fputs("\\n", out);
		else
			fputc(*value, out);
	}
	fputc('"', out);
}

static void
put_head(const struct writer *w, const char *name, const char *type,
    const char *help)
{
	fprintf(w->out, "# HELP bulkhead_%s %s.\n# TYPE bulkhead_%s %s\n", name,
	    help, name, type);
}

/* The labels of a device's sample; the brace stays open. */
static void
put_device(const struct writer *w, const char *name, const char *suffix,
    const Bulkhead__DeviceStats *d)
{
	fprintf(w->out, "bulkhead_%s%s{", name, suffix);
	put_label(w->out, "vm", w->vm);
	fputc(',', w->out);
	put_label(w->out, "device", d->name);
	fputc(',', w->out);
	put_label(w->out, "type", d->type);
}

static void
put_vcpu_label(const struct writer *w, int vcpu)
{
	if (vcpu >= 0)
		fprintf(w->out, ",vcpu=\"%d\"", vcpu);
}

/* Times are base units: seconds, exactly. */
static void
put_seconds(FILE *out, uint64_t ns)
{
	fprintf(out, "%" PRIu64 ".%09" PRIu64 "\n", ns / 1000000000,
	    ns % 1000000000);
}

/* One edge per power of two is enough for a rate over them. */
static void
put_histogram(const struct writer *w, const char *name,
    const Bulkhead__DeviceStats *d, int vcpu, const Bulkhead__Histogram *m)
{
	struct stats_histogram h;
	uint64_t below = 0;

	stats_from_message(&h, m);
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		uint64_t edge =
		    i + 1 < STATS_BUCKETS ? stats_bucket_floor(i + 1) : 0;

		below += stats_get(&h.bucket[i]);
		if (i % 4 != 3 || edge == 0)
			continue;
		put_device(w, name, "_bucket", d);
		put_vcpu_label(w, vcpu);
		fprintf(w->out,
		    ",le=\"%" PRIu64 ".%09" PRIu64 "\"} %" PRIu64 "\n",
		    edge / 1000000000, edge % 1000000000, below);
	}
	put_device(w, name, "_bucket", d);
	put_vcpu_label(w, vcpu);
	fprintf(w->out, ",le=\"+Inf\"} %" PRIu64 "\n", below);
	put_device(w, name, "_sum", d);
	put_vcpu_label(w, vcpu);
	fputs("} ", w->out);
	put_seconds(w->out, stats_get(&h.sum_ns));
	/* Counted from the same buckets: the owner counts on meanwhile. */
	put_device(w, name, "_count", d);
	put_vcpu_label(w, vcpu);
	fprintf(w->out, "} %" PRIu64 "\n", below);
}

static void
put_counters(const struct writer *w, const Bulkhead__Stats *s)
{
	char name[64];

	for (unsigned c = 0; c < stats_device_counter_count; c++) {
		const struct stats_counter *k = &stats_device_counters[c];

		snprintf(name, sizeof(name), "device_%s%s", k->name,
		    k->gauge ? "" : "_total");
		put_head(w, name, k->gauge ? "gauge" : "counter", k->help);
		for (size_t i = 0; i < s->n_devices; i++) {
			const Bulkhead__DeviceStats *d = s->devices[i];

			put_device(w, name, "", d);
			fprintf(w->out, "} %" PRIu64 "\n",
			    c < d->n_counters ? d->counters[c] : 0);
		}
	}
}

static void
put_process(const struct writer *w, const Bulkhead__Stats *s)
{
	put_head(w, "device_restarts_total", "counter", "Starts after a death");
	for (size_t i = 0; i < s->n_devices; i++) {
		put_device(w, "device_restarts_total", "", s->devices[i]);
		fprintf(w->out, "} %u\n", s->devices[i]->restarts);
	}
	put_head(w, "device_cpu_seconds_total", "counter",
	    "CPU time of the device's process");
	for (size_t i = 0; i < s->n_devices; i++) {
		put_device(w, "device_cpu_seconds_total", "", s->devices[i]);
		fputs("} ", w->out);
		put_seconds(w->out, s->devices[i]->cpu_ns);
	}
	put_head(w, "device_private_bytes", "gauge",
	    "Memory of the device's process that is its own");
	for (size_t i = 0; i < s->n_devices; i++) {
		put_device(w, "device_private_bytes", "", s->devices[i]);
		fprintf(
		    w->out, "} %" PRIu64 "\n", s->devices[i]->private_bytes);
	}
	put_head(w, "device_own", "untyped", "Counters of the device type");
	for (size_t i = 0; i < s->n_devices; i++) {
		const Bulkhead__DeviceStats *d = s->devices[i];

		for (size_t j = 0; j < MIN(d->n_own, d->n_own_names); j++) {
			put_device(w, "device_own", "", d);
			fputc(',', w->out);
			put_label(w->out, "counter", d->own_names[j]);
			fprintf(w->out, "} %" PRIu64 "\n", d->own[j]);
		}
	}
}

static void
put_times(const struct writer *w, const Bulkhead__Stats *s)
{
	put_head(w, "device_handler_seconds", "histogram",
	    "Time of a register access in the device; one in 32 is measured");
	for (size_t i = 0; i < s->n_devices; i++)
		put_histogram(w, "device_handler_seconds", s->devices[i], -1,
		    s->devices[i]->handler);
	put_head(w, "device_request_seconds", "histogram",
	    "Time of a queue request, from taken to done");
	for (size_t i = 0; i < s->n_devices; i++)
		put_histogram(w, "device_request_seconds", s->devices[i], -1,
		    s->devices[i]->request);
	put_head(w, "device_answer_seconds", "histogram",
	    "Time from a vCPU's exit to the answer; one in 32 is measured");
	for (size_t i = 0; i < s->n_devices; i++)
		for (size_t j = 0; j < s->devices[i]->n_waits; j++)
			put_histogram(w, "device_answer_seconds", s->devices[i],
			    (int)s->devices[i]->waits[j]->vcpu,
			    s->devices[i]->waits[j]->answer);
}

static void
put_waits(const struct writer *w, const Bulkhead__Stats *s)
{
	static const struct {
		const char *name, *help;
		size_t offset;
	} k[] = {
		{ "device_wait_accesses_total", "Accesses of a vCPU",
		    offsetof(Bulkhead__WaitStats, accesses) },
		{ "device_wait_sleeps_total",
		    "Times that a vCPU slept until the answer",
		    offsetof(Bulkhead__WaitStats, sleeps) },
	};

	for (size_t c = 0; c < ARRAY_LEN(k); c++) {
		put_head(w, k[c].name, "counter", k[c].help);
		for (size_t i = 0; i < s->n_devices; i++) {
			const Bulkhead__DeviceStats *d = s->devices[i];

			for (size_t j = 0; j < d->n_waits; j++) {
				uint64_t v;

				memcpy(&v,
				    (const char *)d->waits[j] + k[c].offset,
				    sizeof(v));
				put_device(w, k[c].name, "", d);
				put_vcpu_label(w, (int)d->waits[j]->vcpu);
				fprintf(w->out, "} %" PRIu64 "\n", v);
			}
		}
	}
	put_head(w, "device_wait_seconds_total", "counter",
	    "Time that a vCPU waited, estimated from a sample");
	for (size_t i = 0; i < s->n_devices; i++) {
		const Bulkhead__DeviceStats *d = s->devices[i];

		for (size_t j = 0; j < d->n_waits; j++) {
			put_device(w, "device_wait_seconds_total", "", d);
			put_vcpu_label(w, (int)d->waits[j]->vcpu);
			fputs("} ", w->out);
			put_seconds(w->out, d->waits[j]->waited_ns);
		}
	}
}

static void
put_vcpus(const struct writer *w, const Bulkhead__Stats *s)
{
	char name[64];

	for (unsigned c = 0; c <= stats_vcpu_counter_count; c++) {
		bool time = c == stats_vcpu_counter_count;

		snprintf(name, sizeof(name), "vcpu_%s_total",
		    time ? "cpu_seconds" : stats_vcpu_counters[c].name);
		put_head(w, name, "counter",
		    time ? "CPU time of the vCPU's thread"
			 : stats_vcpu_counters[c].help);
		for (size_t i = 0; i < s->n_vcpus; i++) {
			const Bulkhead__VcpuStats *v = s->vcpus[i];

			fprintf(w->out, "bulkhead_%s{", name);
			put_label(w->out, "vm", w->vm);
			fprintf(w->out, ",vcpu=\"%zu\"} ", i);
			if (time)
				put_seconds(w->out, v->cpu_ns);
			else
				fprintf(w->out, "%" PRIu64 "\n",
				    c < v->n_counters ? v->counters[c] : 0);
		}
	}
}

void
stats_print_prometheus(FILE *out, const char *vm, const Bulkhead__Stats *s)
{
	const struct writer w = { out, vm };

	put_head(&w, "uptime_seconds", "gauge",
	    "Time since the machine's first instruction");
	fputs("bulkhead_uptime_seconds{", out);
	put_label(out, "vm", vm);
	fputs("} ", out);
	put_seconds(out, s->uptime_ns);
	put_counters(&w, s);
	put_process(&w, s);
	put_times(&w, s);
	put_waits(&w, s);
	put_vcpus(&w, s);
}
