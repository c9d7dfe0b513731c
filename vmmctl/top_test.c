/* Rates between two looks at the statistics. */
#include "vmmctl/top.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "proto/stats.h"
#include "tests/named_tests.h"

struct look {
	Bulkhead__Stats stats;
	Bulkhead__DeviceStats device, *devices[1];
	Bulkhead__VcpuStats vcpu, *vcpus[1];
	Bulkhead__Histogram handler;
	uint64_t counters[15], buckets[STATS_BUCKETS];
	char name[16], type[16];
};

static void
make(struct look *l, uint64_t uptime_ns, uint64_t reads)
{
	memset(l, 0, sizeof(*l));
	snprintf(l->name, sizeof(l->name), "blk0");
	snprintf(l->type, sizeof(l->type), "virtio-blk");
	bulkhead__histogram__init(&l->handler);
	l->handler.buckets = l->buckets;
	l->handler.n_buckets = STATS_BUCKETS;
	bulkhead__device_stats__init(&l->device);
	l->device.name = l->name;
	l->device.type = l->type;
	l->device.counters = l->counters;
	l->device.n_counters = ARRAY_LEN(l->counters);
	l->device.handler = &l->handler;
	l->counters[0] = reads;
	l->devices[0] = &l->device;
	bulkhead__vcpu_stats__init(&l->vcpu);
	l->vcpus[0] = &l->vcpu;
	bulkhead__stats__init(&l->stats);
	l->stats.uptime_ns = uptime_ns;
	l->stats.devices = l->devices;
	l->stats.n_devices = 1;
	l->stats.vcpus = l->vcpus;
	l->stats.n_vcpus = 1;
}

/* The third line, which is the device's; to be freed. */
static char *
line_of(const struct look *before, const struct look *now)
{
	char *text = NULL, *line;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	top_print(out, "vm", before == NULL ? NULL : &before->stats,
	    &now->stats, "\n");
	fclose(out);
	line = strchr(text, '\n');
	line = line == NULL ? NULL : strchr(line + 1, '\n');
	CU_ASSERT_PTR_NOT_NULL_FATAL(line);
	memmove(text, line + 1, strlen(line + 1) + 1);
	return text;
}

/* The number in the column of accesses. */
static double
accesses(const char *line)
{
	double v = -1;

	CU_ASSERT_EQUAL(sscanf(line, "%*s %*s %lf", &v), 1);
	return v;
}

static void
rates_are_per_second(void)
{
	struct look before, now;
	char *line;

	make(&before, 1000000000, 1000);
	make(&now, 3000000000, 1500);
	now.device.cpu_ns = 1000000000;
	line = line_of(&before, &now);
	CU_ASSERT_EQUAL(accesses(line), 250);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, " 50.0 "));
	free(line);
}

static void
counters_that_went_down_count_from_zero(void)
{
	struct look before, now;
	char *line;

	make(&before, 1000000000, 1000);
	make(&now, 2000000000, 10);
	line = line_of(&before, &now);
	CU_ASSERT_EQUAL(accesses(line), 10);
	free(line);
}

static void
a_device_that_was_not_there_counts_from_zero(void)
{
	struct look before, now;
	char *line;

	make(&before, 1000000000, 0);
	make(&now, 2000000000, 7);
	snprintf(before.name, sizeof(before.name), "other");
	line = line_of(&before, &now);
	CU_ASSERT_EQUAL(accesses(line), 7);
	free(line);
}

static void
without_a_look_before_there_is_no_rate(void)
{
	struct look now;
	char *line;

	make(&now, 2000000000, 7);
	line = line_of(NULL, &now);
	CU_ASSERT_EQUAL(accesses(line), 0);
	free(line);
	make(&now, 0, 7);
	line = line_of(&now, &now);
	CU_ASSERT_EQUAL(accesses(line), 0);
	free(line);
}

static void
times_are_those_of_the_interval(void)
{
	struct look before, now;
	char *line;

	make(&before, 1000000000, 0);
	make(&now, 2000000000, 0);
	before.buckets[stats_bucket(1 << 20)] = 1000;
	now.buckets[stats_bucket(1 << 20)] = 1000;
	now.buckets[stats_bucket(100)] = 5;
	line = line_of(&before, &now);
	CU_ASSERT_PTR_NOT_NULL(strstr(line, " 112ns "));
	CU_ASSERT_PTR_NULL(strstr(line, "ms "));
	free(line);
}

static const struct named_test tests[] = {
	NAMED_TEST(rates_are_per_second),
	NAMED_TEST(counters_that_went_down_count_from_zero),
	NAMED_TEST(a_device_that_was_not_there_counts_from_zero),
	NAMED_TEST(without_a_look_before_there_is_no_rate),
	NAMED_TEST(times_are_those_of_the_interval),
};

int
main(void)
{
	return named_tests_run("top", tests, ARRAY_LEN(tests));
}
