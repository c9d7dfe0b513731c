/* What a device host may say of itself, and what not. */
#include "vmmd/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base.h"
#include "proto/store.h"
#include "tests/named_tests.h"

/* A PCI function: config space, a BAR with doorbells, INTA#, three lists. */
static struct hello {
	Bulkhead__Hello hello;
	Bulkhead__Placement placement, *placements[1];
	Bulkhead__Region region[3], *regions[9];
	Bulkhead__Irq irq, *irqs[5];
	Bulkhead__Doorbells doorbells;
	char *links[2], *files[5], *counters[17], *streams[5];
} h;

static char type[] = "blk", config[] = "config", bar[] = "bar", ports[] = "io",
	    text[] = "net", disk[] = "disk", fence[] = "?fence", bad[] = "a b";

static void
set_up(void)
{
	memset(&h, 0, sizeof(h));
	bulkhead__hello__init(&h.hello);
	bulkhead__placement__init(&h.placement);
	bulkhead__irq__init(&h.irq);
	bulkhead__doorbells__init(&h.doorbells);
	for (unsigned i = 0; i < 3; i++) {
		bulkhead__region__init(&h.region[i]);
		h.regions[i] = &h.region[i];
	}
	for (unsigned i = 3; i < ARRAY_LEN(h.regions); i++)
		h.regions[i] = &h.region[2];
	for (unsigned i = 0; i < ARRAY_LEN(h.irqs); i++)
		h.irqs[i] = &h.irq;
	h.region[0].name = config;
	h.region[0].space = BULKHEAD__SPACE__PCI_CONFIG;
	h.region[0].start = MANIFEST_ANY_SLOT;
	h.region[0].size = 4096;
	h.region[0].wiring = true;
	h.region[1].name = bar;
	h.region[1].space = BULKHEAD__SPACE__MMIO;
	h.region[1].size = 0x4000;
	h.region[1].bar = true;
	h.region[2].name = ports;
	h.region[2].start = 0x100;
	h.region[2].size = 8;
	h.irq.pci = true;
	h.placement.regions = h.regions;
	h.placement.n_regions = 3;
	h.placement.irqs = h.irqs;
	h.placement.n_irqs = 1;
	h.placements[0] = &h.placement;
	h.doorbells.region = 1;
	h.doorbells.offset = 0x3000;
	h.doorbells.stride = 4;
	h.doorbells.count = 33;
	for (unsigned i = 0; i < ARRAY_LEN(h.counters); i++)
		h.counters[i] = text;
	for (unsigned i = 0; i < ARRAY_LEN(h.streams); i++)
		h.streams[i] = text;
	for (unsigned i = 0; i < ARRAY_LEN(h.files); i++)
		h.files[i] = disk;
	h.links[0] = h.links[1] = text;
	h.files[1] = fence;
	h.hello.type = type;
	h.hello.placements = h.placements;
	h.hello.n_placements = 1;
	h.hello.doorbells = &h.doorbells;
	h.hello.vectors = 33;
	h.hello.dma = 2;
	h.hello.links = h.links;
	h.hello.n_links = 1;
	h.hello.files = h.files;
	h.hello.n_files = 4;
	h.hello.counters = h.counters;
	h.hello.n_counters = 16;
	h.hello.streams = h.streams;
	h.hello.n_streams = 4;
}

static void
takes_what_can_be(void)
{
	struct manifest m;
	char err[96] = "";

	set_up();
	CU_ASSERT_EQUAL_FATAL(
	    manifest_from_hello(&m, &h.hello, err, sizeof(err)), 0);
	CU_ASSERT_TRUE(m.placements[0].regions[0].config);
	CU_ASSERT_TRUE(m.placements[0].regions[0].wiring);
	CU_ASSERT_TRUE(m.placements[0].regions[1].bar);
	CU_ASSERT_TRUE(m.placements[0].irqs[0].pci);
	CU_ASSERT_TRUE(m.placements[0].irqs[0].level);
	CU_ASSERT_EQUAL(m.doorbells.count, 33);
	CU_ASSERT_EQUAL(m.nvectors, 33);
	CU_ASSERT_EQUAL(m.nfiles, 4);
	CU_ASSERT_FALSE(m.files[0].optional);
	CU_ASSERT_TRUE(m.files[1].optional);
	CU_ASSERT_STRING_EQUAL(m.files[1].name, "fence");
	CU_ASSERT_STRING_EQUAL(m.links[0], "net");
	CU_ASSERT_EQUAL(m.ncounters, 16);
	CU_ASSERT_EQUAL(m.nstreams, 4);
}

/* ---- one thing wrong ---- */

#define WRONG(name, statement) \
	static void name(void) \
	{                      \
		statement;     \
	}
WRONG(type_is_no_name, h.hello.type = bad)
WRONG(state_too_large, h.hello.state_size = STORE_STATE_MAX + 1)
WRONG(log_too_large, h.hello.log_size = STORE_LOG_MAX + 1)
WRONG(grade_unknown, h.hello.dma = 3)
WRONG(too_many_vectors, h.hello.vectors = 34)
WRONG(too_many_placements, h.hello.n_placements = 17)
WRONG(too_many_regions, h.placement.n_regions = 9)
WRONG(too_many_irqs, h.placement.n_irqs = 5)
WRONG(too_many_streams, h.hello.n_streams = 5)
WRONG(too_many_links, h.hello.n_links = 2)
WRONG(too_many_files, h.hello.n_files = 5)
WRONG(too_many_counters, h.hello.n_counters = 17)
WRONG(file_is_no_name, h.files[2] = bad)
WRONG(counter_is_no_name, h.counters[15] = bad)
WRONG(irq_out_of_range, h.irq.gsi = 24)
WRONG(region_is_no_name, h.region[1].name = bad)
WRONG(space_unknown, h.region[2].space = (Bulkhead__Space)3)
WRONG(region_empty, h.region[2].size = 0)
WRONG(ports_too_high, h.region[2].start = 0xfff9)
WRONG(range_wraps, {
	h.region[2].space = BULKHEAD__SPACE__MMIO;
	h.region[2].start = UINT64_MAX - 6;
})
WRONG(wiring_is_posted, h.region[0].posted = true)
WRONG(config_too_large, h.region[0].size = 8192)
WRONG(config_is_bar, h.region[0].bar = true)
WRONG(config_between_slots, h.region[0].start = 0x1000)
WRONG(config_on_another_bus, h.region[0].start = 1u << 20)
WRONG(second_config, {
	h.region[2] = h.region[0];
	h.region[2].start = 0;
})
WRONG(bar_in_ports, h.region[1].space = BULKHEAD__SPACE__PIO)
WRONG(bar_not_a_power, h.region[1].size = 0x3000)
WRONG(bar_too_small, h.region[1].size = 8)
WRONG(bar_without_function, h.region[0].space = BULKHEAD__SPACE__MMIO;
      h.region[0].start = 0xd0000000)
WRONG(line_without_function, {
	h.regions[0] = &h.region[2];
	h.placement.n_regions = 1;
	h.hello.doorbells = NULL;
})
WRONG(too_many_doorbells, h.doorbells.count = 34)
WRONG(doorbells_of_no_region, h.doorbells.region = 3)
WRONG(doorbells_in_config, h.doorbells.region = 0)
WRONG(doorbells_over_the_end, h.doorbells.offset = 0x3f80)
WRONG(doorbells_far_over_the_end, {
	h.doorbells.offset = UINT32_MAX;
	h.doorbells.stride = UINT32_MAX;
})
WRONG(doorbells_on_one_spot, h.doorbells.stride = 0)

static const struct named_test wrong[] = {
	NAMED_TEST(type_is_no_name),
	NAMED_TEST(state_too_large),
	NAMED_TEST(log_too_large),
	NAMED_TEST(grade_unknown),
	NAMED_TEST(too_many_vectors),
	NAMED_TEST(too_many_placements),
	NAMED_TEST(too_many_regions),
	NAMED_TEST(too_many_irqs),
	NAMED_TEST(too_many_streams),
	NAMED_TEST(too_many_links),
	NAMED_TEST(too_many_files),
	NAMED_TEST(too_many_counters),
	NAMED_TEST(file_is_no_name),
	NAMED_TEST(counter_is_no_name),
	NAMED_TEST(irq_out_of_range),
	NAMED_TEST(region_is_no_name),
	NAMED_TEST(space_unknown),
	NAMED_TEST(region_empty),
	NAMED_TEST(ports_too_high),
	NAMED_TEST(range_wraps),
	NAMED_TEST(wiring_is_posted),
	NAMED_TEST(config_too_large),
	NAMED_TEST(config_is_bar),
	NAMED_TEST(config_between_slots),
	NAMED_TEST(config_on_another_bus),
	NAMED_TEST(second_config),
	NAMED_TEST(bar_in_ports),
	NAMED_TEST(bar_not_a_power),
	NAMED_TEST(bar_too_small),
	NAMED_TEST(bar_without_function),
	NAMED_TEST(line_without_function),
	NAMED_TEST(too_many_doorbells),
	NAMED_TEST(doorbells_of_no_region),
	NAMED_TEST(doorbells_in_config),
	NAMED_TEST(doorbells_over_the_end),
	NAMED_TEST(doorbells_far_over_the_end),
	NAMED_TEST(doorbells_on_one_spot),
};

static void
refuses_what_cannot_be(void)
{
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct manifest m;
		char err[96] = "";
		int r;

		set_up();
		wrong[i].run();
		r = manifest_from_hello(&m, &h.hello, err, sizeof(err));
		if (r != -EPROTO || err[0] == '\0')
			printf("%s: %d %s\n", wrong[i].name, r, err);
		CU_ASSERT_EQUAL(r, -EPROTO);
		CU_ASSERT(err[0] != '\0');
	}
}

/* ---- coming back ---- */

WRONG(another_log, h.hello.log_size = 8)
WRONG(another_grade, h.hello.dma = 0)
WRONG(fewer_vectors, h.hello.vectors = 32)
WRONG(no_doorbells, h.hello.doorbells = NULL)
WRONG(a_file_that_must_be, h.files[1] = text)
WRONG(a_bar_that_is_none, h.region[1].bar = false)
WRONG(no_line, h.placement.n_irqs = 0)
WRONG(another_counter, h.counters[0] = disk)
WRONG(no_link, h.hello.n_links = 0)

static const struct named_test reshaped[] = {
	NAMED_TEST(another_log),
	NAMED_TEST(another_grade),
	NAMED_TEST(fewer_vectors),
	NAMED_TEST(no_doorbells),
	NAMED_TEST(a_file_that_must_be),
	NAMED_TEST(a_bar_that_is_none),
	NAMED_TEST(no_line),
	NAMED_TEST(another_counter),
	NAMED_TEST(no_link),
};

static void
knows_another_shape(void)
{
	static struct manifest first, again;
	char err[96];

	set_up();
	manifest_from_hello(&first, &h.hello, err, sizeof(err));
	memset(&again, 0xff, sizeof(again));
	h.hello.syscalls = 7;
	h.hello.sandbox = 1;
	manifest_from_hello(&again, &h.hello, err, sizeof(err));
	CU_ASSERT_TRUE(manifest_same_shape(&first, &again));
	for (size_t i = 0; i < ARRAY_LEN(reshaped); i++) {
		set_up();
		reshaped[i].run();
		CU_ASSERT_EQUAL(
		    manifest_from_hello(&again, &h.hello, err, sizeof(err)), 0);
		CU_ASSERT_FALSE(manifest_same_shape(&first, &again));
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(takes_what_can_be),
	NAMED_TEST(refuses_what_cannot_be),
	NAMED_TEST(knows_another_shape),
};

int
main(void)
{
	return named_tests_run("manifest", tests, ARRAY_LEN(tests));
}
