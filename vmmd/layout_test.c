/* The layout: what it must give, refuse, and never change. */
#include "vmmd/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

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
		items[i] =
		    (struct layout_item){ .name = "com", .manifest = &m };
	CU_ASSERT_EQUAL(layout_place(items, 4, &ram, err, sizeof(err)), 0);
	for (int i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(items[i].chosen, i);
	CU_ASSERT_EQUAL(
	    layout_place(items, 5, &ram, err, sizeof(err)), -ENOSPC);
}

/* A PCI function with a BAR and INTA#. */
static struct manifest
function(uint64_t base)
{
	struct manifest m = simple("pci", HV_MMIO, MANIFEST_PCI_CONFIG, 1,
	    &base, (const unsigned[]){ 0 });
	struct placement *p = &m.placements[0];

	p->regions[0].config = true;
	snprintf(p->regions[1].name, MANIFEST_NAME, "bar");
	p->regions[1].space = HV_MMIO;
	p->regions[1].size = 4096;
	p->regions[1].bar = true;
	p->nregions = 2;
	p->irqs[0] = (struct irq){ .level = true, .pci = true };
	return m;
}

static void
gives_each_function_a_slot_and_its_line(void)
{
	static const uint64_t want_slot[] = { 1, 2, 5, 0, 3 };
	struct manifest any = function(MANIFEST_ANY_SLOT);
	struct manifest bridge = function(0);
	struct manifest five = function(5 * MANIFEST_PCI_SLOT);
	struct layout_item items[] = {
		{ .name = "a", .manifest = &any },
		{ .name = "b", .manifest = &any },
		{ .name = "c", .manifest = &five },
		{ .name = "d", .manifest = &bridge },
		{ .name = "e", .manifest = &any },
	};
	struct layout_ram ram = layout_split_ram(256 * MIB);
	char err[256];

	CU_ASSERT_EQUAL_FATAL(
	    layout_place(items, 5, &ram, err, sizeof(err)), 0);
	CU_ASSERT_TRUE(layout_has_pci(items, 5));
	for (unsigned i = 0; i < 5; i++) {
		const struct placement *p = &items[i].placed;

		CU_ASSERT_EQUAL(
		    p->regions[0].base, want_slot[i] * MANIFEST_PCI_SLOT);
		CU_ASSERT_EQUAL(p->irqs[0].gsi, 16 + want_slot[i] % 8);
	}
	/* Two bridges cannot be. */
	items[0].manifest = &bridge;
	CU_ASSERT_EQUAL(
	    layout_place(items, 5, &ram, err, sizeof(err)), -ENOSPC);
}

static void
has_31_slots_and_lines_that_are_shared(void)
{
	static struct layout_item items[32];
	struct manifest any = function(MANIFEST_ANY_SLOT);
	struct layout_ram ram = layout_split_ram(256 * MIB);
	char err[256] = "";

	for (unsigned i = 0; i < 32; i++)
		items[i] =
		    (struct layout_item){ .name = "f", .manifest = &any };
	CU_ASSERT_EQUAL(layout_place(items, 31, &ram, err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(items[0].placed.irqs[0].gsi, 17);
	CU_ASSERT_EQUAL(items[8].placed.irqs[0].gsi, 17);
	CU_ASSERT_EQUAL(
	    layout_place(items, 32, &ram, err, sizeof(err)), -ENOSPC);
	CU_ASSERT_STRING_EQUAL(
	    err, "device f (type pci) has no place: no pci slot is free");
}

/* What is the bus's if there is one, and a device's if not. */
static void
keeps_devices_off_the_bus(void)
{
	static const struct {
		enum hv_space space;
		uint64_t base, size;
	} cases[] = {
		{ HV_PIO, 0xcf8, 1 },
		{ HV_PIO, 0xcff, 4 },
		{ HV_MMIO, 0xe00fffff, 1 },
		{ HV_MMIO, 0xc0000000, 4096 },
		{ HV_MMIO, 0xdfffffff, 1 },
		{ HV_MMIO, 1ull << 34, 4096 },
		{ HV_MMIO, (1ull << 35) - 1, 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct manifest any = function(MANIFEST_ANY_SLOT);
		struct manifest m = simple("t", cases[i].space, cases[i].size,
		    1, &cases[i].base, (const unsigned[]){ 4 });
		struct layout_item items[] = {
			{ .name = "d", .manifest = &m },
			{ .name = "f", .manifest = &any },
		};
		struct layout_ram ram = layout_split_ram(256 * MIB);
		char err[256];

		CU_ASSERT_EQUAL(
		    layout_place(items, 1, &ram, err, sizeof(err)), 0);
		CU_ASSERT_FALSE(layout_has_pci(items, 1));
		CU_ASSERT_EQUAL(
		    layout_place(items, 2, &ram, err, sizeof(err)), -ENOSPC);
	}
}

static void
refuses_a_placement_that_overlaps_itself(void)
{
	struct manifest m = serial();
	struct layout_item item = { .name = "d", .manifest = &m };
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
compare(const char *path, const struct layout_item *items, unsigned n,
    const struct layout_ram *ram)
{
	char *got = NULL, *want;
	size_t size;
	FILE *out;

	out = getenv("BULKHEAD_UPDATE_GOLDEN") != NULL
	    ? fopen(path, "w")
	    : open_memstream(&got, &size);
	CU_ASSERT_FATAL(out != NULL);
	layout_dump(out, items, n, ram);
	fclose(out);
	want = slurp(path);
	CU_ASSERT_FATAL(want != NULL);
	CU_ASSERT(got == NULL || strcmp(got, want) == 0);
	free(got);
}

static void
keeps_to_the_golden_file(const char *path, uint64_t memory, unsigned serials)
{
	struct manifest com = serial(), nothing = none();
	struct manifest rtc = simple("rtc", HV_PIO, 2, 1,
	    (const uint64_t[]){ 0x70 }, (const unsigned[]){ 8 });
	struct manifest hpet = simple("hpet", HV_MMIO, 0x400, 1,
	    (const uint64_t[]){ 0xfed00000 }, (const unsigned[]){ 20 });
	struct layout_item items[8] = {
		{ .name = "rtc", .manifest = &rtc },
		{ .name = "nothing", .manifest = &nothing },
		{ .name = "hpet", .manifest = &hpet },
	};
	static const char *const names[] = { "com1", "com2", "com3", "com4" };
	struct layout_ram ram = layout_split_ram(memory);
	char err[256];

	hpet.placements[0].irqs[0].level = true;
	com.placements[0].regions[0].posted = true;
	for (unsigned i = 0; i < serials; i++)
		items[3 + i] =
		    (struct layout_item){ .name = names[i], .manifest = &com };
	CU_ASSERT_EQUAL_FATAL(
	    layout_place(items, 3 + serials, &ram, err, sizeof(err)), 0);
	compare(path, items, 3 + serials, &ram);
}

static void
keeps_pci_to_the_golden_file(void)
{
	struct manifest com = serial(), bridge = function(0),
			blk = function(MANIFEST_ANY_SLOT);
	struct layout_item items[] = {
		{ .name = "blk0", .manifest = &blk },
		{ .name = "com1", .manifest = &com },
		{ .name = "pci", .manifest = &bridge },
		{ .name = "net0", .manifest = &blk },
	};
	struct layout_ram ram = layout_split_ram(8 * GIB);
	char err[256];

	CU_ASSERT_EQUAL_FATAL(
	    layout_place(items, ARRAY_LEN(items), &ram, err, sizeof(err)), 0);
	compare("tests/golden/layout-pci.txt", items, ARRAY_LEN(items), &ram);
}
static void
is_an_abi(void)
{
	keeps_to_the_golden_file("tests/golden/layout-small.txt", 64 * MIB, 1);
	keeps_to_the_golden_file("tests/golden/layout-large.txt", 16 * GIB, 4);
	keeps_pci_to_the_golden_file();
}

static const struct named_test tests[] = {
	NAMED_TEST(places_one_device),
	NAMED_TEST(takes_the_next_alternative),
	NAMED_TEST(gives_each_function_a_slot_and_its_line),
	NAMED_TEST(has_31_slots_and_lines_that_are_shared),
	NAMED_TEST(keeps_devices_off_the_bus),
	NAMED_TEST(refuses_a_placement_that_overlaps_itself),
	NAMED_TEST(splits_ram_around_the_hole),
	NAMED_TEST(is_an_abi),
};

int
main(void)
{
	return named_tests_run("layout", tests, ARRAY_LEN(tests));
}
