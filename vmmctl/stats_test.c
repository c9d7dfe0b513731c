/* What is printed of a canned Stats message. */
#include "vmmctl/stats_format.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static char disk[] = "blk0", disk_type[] = "virtio-blk", rtc[] = "rtc",
	    odd[] = "a\"b\\c\nd", flushes[] = "flushes", depth[] = "depth";

/* 10 of 100 ns to 111 ns, 1 of 1024 ns to 1279 ns. */
static uint64_t buckets[STATS_BUCKETS];

struct canned {
	Bulkhead__Stats stats;
	Bulkhead__DeviceStats device[2], *devices[2];
	Bulkhead__WaitStats wait, *waits[1];
	Bulkhead__VcpuStats vcpu, *vcpus[1];
	Bulkhead__Histogram histogram;
	uint64_t counters[15], own[2], vcpu_counters[6];
	char *own_names[2];
};

static Bulkhead__Stats *
make(struct canned *c)
{
	memset(buckets, 0, sizeof(buckets));
	buckets[stats_bucket(100)] = 10;
	buckets[stats_bucket(1024)] = 1;
	bulkhead__histogram__init(&c->histogram);
	c->histogram.count = 11;
	c->histogram.sum_ns = 2100;
	c->histogram.max_ns = 1100;
	c->histogram.buckets = buckets;
	c->histogram.n_buckets = stats_bucket(1024) + 1;
	for (unsigned i = 0; i < ARRAY_LEN(c->counters); i++)
		c->counters[i] = i + 1;
	c->counters[8] = 3 << 20; /* bytes_in */
	c->own[0] = 77;
	c->own[1] = 88;
	c->own_names[0] = flushes;
	c->own_names[1] = depth;
	for (unsigned i = 0; i < ARRAY_LEN(c->vcpu_counters); i++)
		c->vcpu_counters[i] = 100 + i;

	bulkhead__wait_stats__init(&c->wait);
	c->wait.vcpu = 3;
	c->wait.accesses = 40;
	c->wait.waited_ns = 1500000000;
	c->wait.sleeps = 2;
	c->wait.answer = &c->histogram;
	c->waits[0] = &c->wait;

	bulkhead__device_stats__init(&c->device[0]);
	c->device[0].name = disk;
	c->device[0].type = disk_type;
	c->device[0].counters = c->counters;
	c->device[0].n_counters = ARRAY_LEN(c->counters);
	c->device[0].own_names = c->own_names;
	c->device[0].n_own_names = 2;
	c->device[0].own = c->own;
	c->device[0].n_own = 2;
	c->device[0].handler = &c->histogram;
	c->device[0].waits = c->waits;
	c->device[0].n_waits = 1;
	c->device[0].restarts = 5;
	c->device[0].cpu_ns = 2500000000;
	c->device[0].private_bytes = 200 << 10;
	/* One that says next to nothing. */
	bulkhead__device_stats__init(&c->device[1]);
	c->device[1].name = rtc;
	c->device[1].type = odd;
	c->devices[0] = &c->device[0];
	c->devices[1] = &c->device[1];

	bulkhead__vcpu_stats__init(&c->vcpu);
	c->vcpu.counters = c->vcpu_counters;
	c->vcpu.n_counters = ARRAY_LEN(c->vcpu_counters);
	c->vcpu.cpu_ns = 1000000;
	c->vcpus[0] = &c->vcpu;

	bulkhead__stats__init(&c->stats);
	c->stats.devices = c->devices;
	c->stats.n_devices = 2;
	c->stats.vcpus = c->vcpus;
	c->stats.n_vcpus = 1;
	c->stats.uptime_ns = 12345678901;
	return &c->stats;
}

/* What f prints; to be freed. */
static char *
printed(void (*f)(FILE *out, const Bulkhead__Stats *s))
{
	struct canned c;
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	f(out, make(&c));
	fclose(out);
	return text;
}

static void
has_line(const char *text, const char *line)
{
	size_t n = strlen(line);
	bool found = false;

	for (const char *at = text; !found && (at = strstr(at, line)) != NULL;
	     at++)
		found = (at == text || at[-1] == '\n') &&
		    (at[n] == '\n' || at[n] == '\0');
	if (!found)
		printf("no line \"%s\"\n", line);
	CU_ASSERT(found);
}

static void
print_prometheus(FILE *out, const Bulkhead__Stats *s)
{
	stats_print_prometheus(out, "vm", s);
}

static void
prometheus_has_every_value(void)
{
	static const char *const lines[] = {
		"# HELP bulkhead_uptime_seconds Time since the machine's first "
		"instruction.",
		"# TYPE bulkhead_uptime_seconds gauge",
		"bulkhead_uptime_seconds{vm=\"vm\"} 12.345678901",
		"# TYPE bulkhead_device_reads_total counter",
		"bulkhead_device_reads_total{vm=\"vm\",device=\"blk0\","
		"type=\"virtio-blk\"} 1",
		"bulkhead_device_reads_total{vm=\"vm\",device=\"rtc\","
		"type=\"a\\\"b\\\\c\\nd\"} 0",
		"# TYPE bulkhead_device_queue_depth gauge",
		"bulkhead_device_queue_depth{vm=\"vm\",device=\"blk0\","
		"type=\"virtio-blk\"} 11",
		"bulkhead_device_restarts_total{vm=\"vm\",device=\"blk0\","
		"type=\"virtio-blk\"} 5",
		"bulkhead_device_cpu_seconds_total{vm=\"vm\",device=\"blk0\","
		"type=\"virtio-blk\"} 2.500000000",
		"bulkhead_device_own{vm=\"vm\",device=\"blk0\","
		"type=\"virtio-blk\",counter=\"flushes\"} 77",
		"# TYPE bulkhead_device_handler_seconds histogram",
		"bulkhead_device_wait_seconds_total{vm=\"vm\",device=\"blk0\","
		"type=\"virtio-blk\",vcpu=\"3\"} 1.500000000",
		"bulkhead_vcpu_kicks_total{vm=\"vm\",vcpu=\"0\"} 105",
		"bulkhead_vcpu_cpu_seconds_total{vm=\"vm\",vcpu=\"0\"} "
		"0.001000000",
	};
	char *text = printed(print_prometheus);

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		has_line(text, lines[i]);
	free(text);
}

#define HANDLER(suffix)                                               \
	"bulkhead_device_handler_seconds" suffix "{vm=\"vm\",device=" \
	"\"blk0\",type=\"virtio-blk\""

static void
buckets_are_cumulative_and_in_seconds(void)
{
	static const char *const lines[] = {
		HANDLER("_bucket") ",le=\"0.000000064\"} 0",
		HANDLER("_bucket") ",le=\"0.000000128\"} 10",
		HANDLER("_bucket") ",le=\"0.000001024\"} 10",
		HANDLER("_bucket") ",le=\"0.000002048\"} 11",
		HANDLER("_bucket") ",le=\"+Inf\"} 11",
		HANDLER("_sum") "} 0.000002100",
		HANDLER("_count") "} 11",
	};
	char *text = printed(print_prometheus);

	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		has_line(text, lines[i]);
	free(text);
}

/* Each metric has one HELP, one TYPE, and its samples behind them. */
static void
samples_of_a_metric_stand_together(void)
{
	char *text = printed(print_prometheus), *save = NULL;
	char metric[128] = "", seen[8192] = "", key[160];
	unsigned metrics = 0;

	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "# HELP %127s", metric) == 1) {
			snprintf(key, sizeof(key), " %s ", metric);
			CU_ASSERT_PTR_NULL(strstr(seen, key));
			strncat(seen, key, sizeof(seen) - strlen(seen) - 1);
			metrics++;
		}
		if (line[0] != '#')
			CU_ASSERT_EQUAL(
			    strncmp(line, metric, strlen(metric)), 0);
	}
	CU_ASSERT(metrics > 25);
	free(text);
}

static void
table_has_a_line_per_device(void)
{
	char *text = printed(stats_print_table);

	has_line(text,
	    "blk0         virtio-blk              1          2          8"
	    "          5     3.0M       10    11    112ns    1.3us        -"
	    "        -    2.50s   200.0K");
	free(text);
}

static void
details_name_every_counter(void)
{
	char *text = printed(stats_print_details);

	for (unsigned i = 0; i < stats_device_counter_count; i++)
		CU_ASSERT_PTR_NOT_NULL(
		    strstr(text, stats_device_counters[i].name));
	CU_ASSERT_PTR_NOT_NULL(strstr(text,
	    "flushes                          "
	    "77"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "vcpu3.answer"));
	free(text);
}

static json_t *
parse_json(void)
{
	struct canned c;
	char *text = NULL;
	json_t *root;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	CU_ASSERT_EQUAL(stats_print_json(out, "vm", make(&c)), 0);
	fclose(out);
	root = json_loads(text, 0, NULL);
	free(text);
	return root;
}

static void
json_is_json_and_complete(void)
{
	json_t *root = parse_json(), *d, *h;

	CU_ASSERT_STRING_EQUAL(
	    json_string_value(json_object_get(root, "name")), "vm");
	CU_ASSERT_EQUAL(json_array_size(json_object_get(root, "devices")), 2);
	d = json_array_get(json_object_get(root, "devices"), 0);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(
			    json_object_get(d, "counters"), "bytes_in")),
	    3 << 20);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(
			    json_object_get(d, "own"), "flushes")),
	    77);
	h = json_object_get(d, "handler");
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(h, "count")), 11);
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(h, "p50_ns")), 112);
	CU_ASSERT_EQUAL(json_array_size(json_object_get(h, "buckets")), 2);
	d = json_array_get(json_object_get(root, "devices"), 1);
	CU_ASSERT_STRING_EQUAL(
	    json_string_value(json_object_get(d, "type")), odd);
	json_decref(root);
}

static void
units_are_short(void)
{
	static const struct {
		uint64_t v;
		const char *time, *bytes;
	} cases[] = {
		{ 0, "-", "0" },
		{ 999, "999ns", "999" },
		{ 1024, "1.0us", "1.0K" },
		{ 1536000, "1.5ms", "1.5M" },
		{ 5000000000, "5.0s", "4.7G" },
		{ UINT64_MAX, "18446744073.7s", "16.0E" },
	};
	char out[16];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CU_ASSERT_STRING_EQUAL(
		    stats_format_time(out, cases[i].v), cases[i].time);
		CU_ASSERT_STRING_EQUAL(
		    stats_format_bytes(out, cases[i].v), cases[i].bytes);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(prometheus_has_every_value),
	NAMED_TEST(buckets_are_cumulative_and_in_seconds),
	NAMED_TEST(samples_of_a_metric_stand_together),
	NAMED_TEST(table_has_a_line_per_device),
	NAMED_TEST(details_name_every_counter),
	NAMED_TEST(json_is_json_and_complete),
	NAMED_TEST(units_are_short),
};

int
main(void)
{
	return named_tests_run("stats", tests, ARRAY_LEN(tests));
}
