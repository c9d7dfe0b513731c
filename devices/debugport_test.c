/* The debug port. */
#include <CUnit/Basic.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

static void
writes_are_logged_in_order(void)
{
	struct harness h;

	harness_open(&h, "debugport");
	CU_ASSERT_EQUAL(harness_in(&h, 0), 0xe9);
	harness_out(&h, 0, 'o');
	harness_restart(&h);
	harness_out(&h, 0, 'k');
	CU_ASSERT_STRING_EQUAL(harness_output(&h, 0), "ok");
	harness_close(&h);
}

static void
waits_for_a_slow_reader_and_drops_beyond_its_buffer(void)
{
	struct harness h;

	harness_open(&h, "debugport");
	h.out->attached = 1;
	h.out->tail = stream_head(h.out) - STREAM_BYTES;
	for (unsigned i = 0; i < 300; i++)
		harness_out(&h, 0, (uint8_t)('a' + i % 26));
	CU_ASSERT_EQUAL(stream_head(h.out), 0);
	harness_restart(&h);
	stream_release(h.out, 0);
	engine_stream(&h.dev, 0);
	CU_ASSERT_EQUAL(stream_head(h.out), 256);
	harness_out(&h, 0, '!');
	CU_ASSERT_STRING_EQUAL(harness_output(&h, 256), "!");
	harness_close(&h);
}

static const struct named_test tests[] = {
	NAMED_TEST(writes_are_logged_in_order),
	NAMED_TEST(waits_for_a_slow_reader_and_drops_beyond_its_buffer),
};

int
main(void)
{
	return named_tests_run("debugport", tests, ARRAY_LEN(tests));
}
