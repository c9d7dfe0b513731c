/* The AML encoder against byte sequences worked out by hand. */
#include "devices/acpi/aml.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static uint8_t buf[1 << 21];
static struct aml a;

static void
start(void)
{
	memset(buf, 0xee, 4096);
	aml_init(&a, buf, sizeof(buf));
}

#define IS(...)                                                      \
	do {                                                         \
		static const uint8_t want[] = { __VA_ARGS__ };       \
		CU_ASSERT_EQUAL(aml_finish(&a), (int)sizeof(want));  \
		CU_ASSERT_EQUAL(memcmp(buf, want, sizeof(want)), 0); \
		start();                                             \
	} while (0)

static void
encodes_integers_as_short_as_possible(void)
{
	start();
	aml_int(&a, 0);
	IS(0x00);
	aml_int(&a, 1);
	IS(0x01);
	aml_int(&a, 255);
	IS(0x0a, 0xff);
	aml_int(&a, 256);
	IS(0x0b, 0x00, 0x01);
	aml_int(&a, 0x12345678);
	IS(0x0c, 0x78, 0x56, 0x34, 0x12);
	aml_int(&a, 0x123456789a);
	IS(0x0e, 0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0, 0);
}

static void
encodes_paths(void)
{
	start();
	aml_name_int(&a, "_UID", 0);
	IS(0x08, '_', 'U', 'I', 'D', 0);
	aml_name_int(&a, "\\_S5", 0);
	IS(0x08, '\\', '_', 'S', '5', '_', 0);
	aml_name_int(&a, "A.B1", 0);
	IS(0x08, 0x2e, 'A', '_', '_', '_', 'B', '1', '_', '_', 0);
	aml_name_int(&a, "\\A.B.C", 0);
	IS(0x08, '\\', 0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C',
	    '_', '_', '_', 0);
}

static void
encodes_names(void)
{
	start();
	aml_name_eisaid(&a, "_HID", "PNP0501");
	IS(0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01);
	aml_name_string(&a, "_HID", "AB");
	IS(0x08, '_', 'H', 'I', 'D', 0x0d, 'A', 'B', 0);
}

static void
encodes_objects(void)
{
	start();
	aml_device_begin(&a, "X");
	aml_method_begin(&a, "_STA", 1, true);
	aml_return_int(&a, 15);
	aml_end(&a);
	aml_end(&a);
	IS(0x5b, 0x82, 15, 'X', '_', '_', '_', 0x14, 9, '_', 'S', 'T', 'A', 9,
	    0xa4, 0x0a, 15);
	aml_scope_begin(&a, "\\_SB");
	aml_end(&a);
	IS(0x10, 6, '\\', '_', 'S', 'B', '_');
	aml_package_begin(&a, "_S5", 2);
	aml_int(&a, 5);
	aml_int(&a, 0);
	aml_end(&a);
	IS(0x08, '_', 'S', '5', '_', 0x12, 5, 2, 0x0a, 5, 0);
	aml_crs_begin(&a);
	aml_crs_io(&a, 0x3f8, 8);
	aml_crs_end(&a);
	IS(0x08, '_', 'C', 'R', 'S', 0x11, 0x0d, 0x0a, 10, 0x47, 1, 0xf8, 3,
	    0xf8, 3, 1, 8, 0x79, 0);
}

static void
encodes_what_a_bridge_passes_on(void)
{
	start();
	aml_crs_begin(&a);
	aml_crs_bus(&a, 0, 3);
	aml_crs_end(&a);
	IS(0x08, '_', 'C', 'R', 'S', 0x11, 0x15, 0x0a, 18, 0x88, 13, 0, 2, 0xc,
	    0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0x79, 0);
	aml_crs_begin(&a);
	aml_crs_window_memory32(&a, 0xc0000000, 0x40000000);
	aml_crs_end(&a);
	IS(0x08, '_', 'C', 'R', 'S', 0x11, 0x1f, 0x0a, 28, 0x87, 23, 0, 0, 0xc,
	    1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0,
	    0, 0, 0x40, 0x79, 0);
	aml_package_begin(&a, "P", 1);
	aml_element_package_begin(&a, 1);
	aml_int(&a, 7);
	aml_end(&a);
	aml_end(&a);
	IS(0x08, 'P', '_', '_', '_', 0x12, 7, 1, 0x12, 4, 1, 0x0a, 7);
}

static void
refuses_windows_and_uuids_that_cannot_be(void)
{
	static const char *const uuids[] = { "",
		"33db4d5b-1ff7-401c-9657-7441c03dd76",
		"33db4d5b-1ff7-401c-9657-7441c03dd7666",
		"33db4d5b-1ff7-401c-9657-7441c03dd7xx" };

	for (unsigned i = 0; i < 5; i++) {
		start();
		aml_crs_begin(&a);
		if (i == 0)
			aml_crs_bus(&a, 2, 1);
		else if (i == 1)
			aml_crs_window_io(&a, 0xff00, 0x101);
		else if (i == 2)
			aml_crs_window_memory32(&a, 0, 0);
		else if (i == 3)
			aml_crs_window_memory32(&a, 1, UINT32_MAX);
		else
			aml_crs_window_memory64(&a, 2, UINT64_MAX);
		aml_crs_end(&a);
		/* Only the fourth just fits. */
		CU_ASSERT_EQUAL(aml_finish(&a) > 0, i == 3);
	}
	for (unsigned i = 0; i < ARRAY_LEN(uuids); i++) {
		start();
		aml_method_osc(&a, uuids[i]);
		CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
	}
}

/* Every length at which the package length changes its form. */
static void
encodes_package_lengths(void)
{
	static const struct {
		unsigned content; /* bytes, 5 and up: the scope's name */
		unsigned bytes; /* of the length */
	} cases[] = { { 5, 1 }, { 62, 1 }, { 63, 2 }, { 4093, 2 }, { 4094, 3 },
		{ 0xffffc, 3 }, { 0xffffd, 4 } };

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned total = cases[i].content + cases[i].bytes, got;

		start();
		aml_scope_begin(&a, "\\_SB");
		for (unsigned n = 5; n < cases[i].content; n++)
			aml_int(&a, 0);
		aml_end(&a);
		CU_ASSERT_EQUAL(aml_finish(&a), (int)total + 1);
		CU_ASSERT_EQUAL(buf[1] >> 6, cases[i].bytes - 1);
		got = buf[1] & (cases[i].bytes == 1 ? 0x3f : 0xf);
		for (unsigned n = 1; n < cases[i].bytes; n++)
			got |= (unsigned)buf[1 + n] << (8 * n - 4);
		CU_ASSERT_EQUAL(got, total);
		CU_ASSERT_EQUAL(buf[1 + cases[i].bytes], '\\');
	}
}

static void
never_writes_beyond_the_buffer(void)
{
	int whole = 0;

	for (size_t size = 200; size < 201; size--) {
		uint8_t small[201];

		memset(small, 0xee, sizeof(small));
		aml_init(&a, small, size);
		aml_device_begin(&a, "DEVI");
		aml_name_string(&a, "_HID", "LNRO0005");
		aml_crs_begin(&a);
		aml_crs_memory32(&a, 0xd0000000, 4096);
		aml_crs_irq(&a, 5, true);
		aml_crs_end(&a);
		aml_end(&a);
		if (whole == 0)
			whole = aml_finish(&a);
		CU_ASSERT_EQUAL(
		    aml_finish(&a), size >= (size_t)whole ? whole : -ENOSPC);
		CU_ASSERT_EQUAL(small[size], 0xee);
	}
}

static void
refuses_malformed_names(void)
{
	static const char *const names[] = { "", "\\", "abc", "1ABC", "ABCDE",
		"A..B", "A.", "A.B.C.D.E.F.G.H.I", "A B" };
	static const char *const ids[] = { "", "PNP050", "PNP05011", "pnp0501",
		"PNP05G1", "P[P0501" };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		start();
		aml_name_int(&a, names[i], 0);
		CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
	}
	for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
		start();
		aml_name_eisaid(&a, "_HID", ids[i]);
		CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
	}
	start();
	aml_name_string(&a, "_HID", "\x80");
	CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
}

static void
refuses_pairs_that_do_not_match(void)
{
	start();
	aml_end(&a);
	CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
	start();
	aml_crs_end(&a);
	CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
	start();
	aml_scope_begin(&a, "\\_SB");
	CU_ASSERT_EQUAL(aml_finish(&a), -EINVAL);
	start();
	for (unsigned i = 0; i <= AML_DEPTH_MAX; i++)
		aml_scope_begin(&a, "\\_SB");
	CU_ASSERT_EQUAL(aml_finish(&a), -E2BIG);
}

static const struct named_test tests[] = {
	NAMED_TEST(encodes_integers_as_short_as_possible),
	NAMED_TEST(encodes_paths),
	NAMED_TEST(encodes_names),
	NAMED_TEST(encodes_objects),
	NAMED_TEST(encodes_what_a_bridge_passes_on),
	NAMED_TEST(refuses_windows_and_uuids_that_cannot_be),
	NAMED_TEST(encodes_package_lengths),
	NAMED_TEST(never_writes_beyond_the_buffer),
	NAMED_TEST(refuses_malformed_names),
	NAMED_TEST(refuses_pairs_that_do_not_match),
};

int
main(void)
{
	return named_tests_run("aml", tests, ARRAY_LEN(tests));
}
