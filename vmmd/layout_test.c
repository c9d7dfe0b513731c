/* The layout: what it must give, refuse, and never change. */
#include "vmmd/layout.h"

#include <CUnit/Basic.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* A device with one region and one interrupt in each placement. */
static struct manifest
simple(const char *type, enum hv_space space, uint64_t size, unsigned n,
    const uint64_t *bases, const unsigned *gsis)
{
	struct manifest m = { 0 };

	snprintf(m.type, sizeof(m.type), "%s", type);
	m.nplacements = n;
	for (unsigned i = 0; i < n; i++) {
		struct placement *p = &m.placements[i];

		snprintf(p->regions[0].name, MANIFEST_NAME, "regs");
		p->regions[0].space = space;
		p->regions[0].base = bases[i];
		p->regions[0].size = size;
		p->nregions = 1;
		p->irqs[0].gsi = gsis[i];
		p->nirqs = 1;
	}
	return m;
}

static struct manifest
serial(void)
{
	return simple("serial", HV_PIO, 8, 4,
	    (const uint64_t[]){ 0x3f8, 0x2f8, 0x3e8, 0x2e8 },
	    (const unsigned[]){ 4, 3, 5, 7 });
}

/* One placement, one region, one interrupt: does it fit beside nothing? */
static const struct {
	const char *claim;
	enum hv_space space;
	uint64_t base, size;
	unsigned gsi;
	uint64_t memory;
	const char *error; /* NULL: it fits */
} single[] = {
	{ "gives_a_free_port", HV_PIO, 0x3f8, 8, 4, 256 * MIB, NULL },
	{ "gives_the_last_port", HV_PIO, 0xffff, 1, 4, 256 * MIB, NULL },
	{ "gives_an_address_behind_ram", HV_MMIO, 256 * MIB, 4096, 5, 256 * MIB,
	    NULL },
	{ "gives_an_address_in_the_hole", HV_MMIO, 0xd0000000, 4096, 5, 8 * GIB,
	    NULL },
	{ "gives_the_last_address", HV_MMIO, UINT64_MAX - 4095, 4096, 5,
	    8 * GIB, NULL },
	{ "refuses_an_address_in_low_ram", HV_MMIO, 256 * MIB - 1, 4096, 5,
	    256 * MIB,
	    "device d (type t) has no place: address 0xfffffff is taken by "
	    "memory" },
	{ "refuses_an_address_in_high_ram", HV_MMIO, 4 * GIB, 4096, 5, 4 * GIB,
	    "device d (type t) has no place: address 0x100000000 is taken by "
	    "memory" },
	{ "refuses_the_pic", HV_PIO, 0x21, 1, 4, 256 * MIB,
	    "device d (type t) has no place: port 0x21 is taken by pic" },
	{ "refuses_the_pit", HV_PIO, 0x3f, 2, 4, 256 * MIB,
	    "device d (type t) has no place: port 0x3f is taken by pit" },
	{ "refuses_the_lapic", HV_MMIO, 0xfee00ff0, 16, 4, 256 * MIB,
	    "device d (type t) has no place: address 0xfee00ff0 is taken by "
	    "lapic" },
	{ "refuses_the_pits_line", HV_PIO, 0x3f8, 8, 0, 256 * MIB,
	    "device d (type t) has no place: interrupt 0 is taken by the "
	    "platform" },
	{ "refuses_the_cascade", HV_PIO, 0x3f8, 8, 2, 256 * MIB,
	    "device d (type t) has no place: interrupt 2 is taken by the "
	    "platform" },
};

static void
places_one_device(void)
{
	for (size_t i = 0; i < ARRAY_LEN(single); i++) {
		struct manifest m = simple("t", single[i].space, single[i].size,
		    1, &single[i].base, &single[i].gsi);
		struct layout_item item = { .name = "d", .manifest = &m };
		struct layout_ram ram = layout_split_ram(single[i].memory);
		char err[256] = "";
		int r = layout_place(&item, 1, &ram, err, sizeof(err));
		bool right = single[i].error == NULL
		    ? r == 0 && item.chosen == 0
		    : r == -ENOSPC && strcmp(err, single[i].error) == 0;

		if (!right)
			printf("%s: %d %s\n", single[i].claim, r, err);
		CU_ASSERT(right);
	}
}

static void
takes_the_next_alternative(void)
{
	struct manifest m = serial();
	struct layout_item items[5];
	struct layout_ram ram = layout_split_ram(256 * MIB);
	char err[256];

	for (unsigned i = 0; i < 5; i++)
		items[i] = (struct layout_item){ "com", &m, -1 };
	CU_ASSERT_EQUAL(layout_place(items, 4, &ram, err, sizeof(err)), 0);
	for (int i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(items[i].chosen, i);
	CU_ASSERT_EQUAL(
	    layout_place(items, 5, &ram, err, sizeof(err)), -ENOSPC);
}

static void
refuses_a_placement_that_overlaps_itself(void)
{
	struct manifest m = serial();
	struct layout_item item = { "d", &m, -1 };
	struct layout_ram ram = layout_split_ram(256 * MIB);
	char err[256];

	m.nplacements = 1;
	m.placements[0].regions[1] = m.placements[0].regions[0];
	m.placements[0].regions[1].base += 7;
	m.placements[0].nregions = 2;
	CU_ASSERT_EQUAL(
	    layout_place(&item, 1, &ram, err, sizeof(err)), -ENOSPC);
}

static void
splits_ram_around_the_hole(void)
{
	static const struct {
		uint64_t memory, low, high;
	} cases[] = {
		{ 1 * MIB, 1 * MIB, 0 },
		{ 3 * GIB, 3 * GIB, 0 },
		{ 3 * GIB + 4096, 3 * GIB, 4096 },
		{ 64 * GIB, 3 * GIB, 61 * GIB },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct layout_ram ram = layout_split_ram(cases[i].memory);

		CU_ASSERT_EQUAL(ram.low, cases[i].low);
		CU_ASSERT_EQUAL(ram.high, cases[i].high);
	}
}

static struct manifest
none(void)
{
	struct manifest m = { 0 };

	snprintf(m.type, sizeof(m.type), "none");
	return m;
}

static char *
slurp(const char *path)
{
	static char text[8192];
	FILE *f = fopen(path, "r");
	size_t n;

	if (f == NULL)
		return NULL;
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

/* BULKHEAD_UPDATE_GOLDEN=1 writes the file anew: look at the difference. */
static void
keeps_to_the_golden_file(const char *path, uint64_t memory, unsigned serials)
{
	struct manifest com = serial(), nothing = none();
	struct manifest rtc = simple("rtc", HV_PIO, 2, 1,
	    (const uint64_t[]){ 0x70 }, (const unsigned[]){ 8 });
	struct manifest hpet = simple("hpet", HV_MMIO, 0x400, 1,
	    (const uint64_t[]){ 0xfed00000 }, (const unsigned[]){ 20 });
	struct layout_item items[8] = {
		{ "rtc", &rtc, -1 },
		{ "nothing", &nothing, -1 },
		{ "hpet", &hpet, -1 },
	};
	static const char *const names[] = { "com1", "com2", "com3", "com4" };
	struct layout_ram ram = layout_split_ram(memory);
	char err[256], *got = NULL, *want;
	size_t size;
	FILE *out;

	hpet.placements[0].irqs[0].level = true;
	com.placements[0].regions[0].posted = true;
	for (unsigned i = 0; i < serials; i++)
		items[3 + i] = (struct layout_item){ names[i], &com, -1 };
	CU_ASSERT_EQUAL_FATAL(
	    layout_place(items, 3 + serials, &ram, err, sizeof(err)), 0);
	out = getenv("BULKHEAD_UPDATE_GOLDEN") != NULL
	    ? fopen(path, "w")
	    : open_memstream(&got, &size);
	CU_ASSERT_FATAL(out != NULL);
	layout_dump(out, items, 3 + serials, &ram);
	fclose(out);
	want = slurp(path);
	CU_ASSERT_FATAL(want != NULL);
	CU_ASSERT(got == NULL || strcmp(got, want) == 0);
	free(got);
}

static void
is_an_abi(void)
{
	keeps_to_the_golden_file("tests/golden/layout-small.txt", 64 * MIB, 1);
	keeps_to_the_golden_file("tests/golden/layout-large.txt", 16 * GIB, 4);
}

int
main(void)
{
	CU_pSuite s;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	s = CU_add_suite("layout", NULL, NULL);
	CU_add_test(s, "places_one_device", places_one_device);
	CU_add_test(
	    s, "takes_the_next_alternative", takes_the_next_alternative);
	CU_add_test(s, "refuses_a_placement_that_overlaps_itself",
	    refuses_a_placement_that_overlaps_itself);
	CU_add_test(
	    s, "splits_ram_around_the_hole", splits_ram_around_the_hole);
	CU_add_test(s, "is_an_abi", is_an_abi);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
