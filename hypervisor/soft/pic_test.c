/* Tests of the 8259A pair. */
#include "hypervisor/soft/pic.h"

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>

#include "proto/base.h"

static struct pic pic;
static unsigned ended; /* bit map of the inputs whose EOI was told */

static void
eoi(void *ctx, unsigned irq)
{
	(void)ctx;
	ended |= 1u << irq;
}

/* As every PC does it: vectors 0x20 and 0x28. */
static void
start(void)
{
	ended = 0;
	pic_init(&pic, eoi, NULL);
	pic_write(&pic, 0x20, 0x11);
	pic_write(&pic, 0x21, 0x20);
	pic_write(&pic, 0x21, 0x04);
	pic_write(&pic, 0x21, 0x01);
	pic_write(&pic, 0xa0, 0x11);
	pic_write(&pic, 0xa1, 0x28);
	pic_write(&pic, 0xa1, 0x02);
	pic_write(&pic, 0xa1, 0x01);
}

static void
pulse(unsigned irq)
{
	pic_set(&pic, irq, true);
	pic_set(&pic, irq, false);
}

static void
gives_the_vector_of_every_input(void)
{
	for (unsigned irq = 0; irq < 16; irq++) {
		if (irq == 2)
			continue;
		start();
		CU_ASSERT_FALSE(pic_output(&pic));
		pulse(irq);
		CU_ASSERT_TRUE(pic_output(&pic));
		CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x20 + irq);
		CU_ASSERT_FALSE(pic_output(&pic));
		if (irq >= 8)
			pic_write(&pic, 0xa0, 0x20);
		pic_write(&pic, 0x20, 0x20);
		CU_ASSERT_EQUAL(ended, 1u << irq);
	}
}

static void
serves_the_higher_priority_first(void)
{
	start();
	pulse(5);
	pulse(1);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x21);
	CU_ASSERT_FALSE(pic_output(&pic)); /* 5 waits for 1's end */
	pulse(0);
	CU_ASSERT_TRUE(pic_output(&pic)); /* 0 does not */
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x20);
	pic_write(&pic, 0x20, 0x20);
	CU_ASSERT_EQUAL(ended, 1u);
	pic_write(&pic, 0x20, 0x20);
	CU_ASSERT_EQUAL(ended, 3u);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x25);
}

static void
keeps_a_masked_edge(void)
{
	start();
	pic_write(&pic, 0x21, 0xff);
	pulse(3);
	CU_ASSERT_FALSE(pic_output(&pic));
	CU_ASSERT_EQUAL(pic_read(&pic, 0x21), 0xff);
	pic_write(&pic, 0x21, 0);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x23);
}

static void
level_input_asks_while_it_is_up(void)
{
	start();
	pic_write(&pic, 0x4d1, 0xff);
	CU_ASSERT_EQUAL(pic_read(&pic, 0x4d1), 0xde);
	pic_write(&pic, 0x4d0, 0xff);
	CU_ASSERT_EQUAL(pic_read(&pic, 0x4d0), 0xf8);
	pic_set(&pic, 11, true);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x2b);
	pic_write(&pic, 0xa0, 0x20);
	pic_write(&pic, 0x20, 0x20);
	CU_ASSERT_TRUE(pic_output(&pic));
	pic_set(&pic, 11, false);
	CU_ASSERT_FALSE(pic_output(&pic));
}

static void
request_that_is_gone_is_spurious(void)
{
	start();
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x27);
	pic_write(&pic, 0x20, 0x0b);
	CU_ASSERT_EQUAL(pic_read(&pic, 0x20), 0);
}

static void
rotates_and_sets_priorities(void)
{
	start();
	pic_write(&pic, 0x20, 0xc3); /* input 3 is the lowest */
	pulse(1);
	pulse(4);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x24);
	pic_write(&pic, 0x20, 0xa0); /* end, and 4 is the lowest */
	pulse(4);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x21);
	pic_write(&pic, 0x20, 0x61); /* specific end of 1 */
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x24);
}

static void
ends_by_itself_in_automatic_mode(void)
{
	start();
	pic_write(&pic, 0x20, 0x11);
	pic_write(&pic, 0x21, 0x40);
	pic_write(&pic, 0x21, 0x04);
	pic_write(&pic, 0x21, 0x03);
	pulse(6);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x46);
	CU_ASSERT_EQUAL(ended, 1u << 6);
	pulse(7);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x47);
}

static void
special_mask_lets_lower_ones_through(void)
{
	start();
	pulse(1);
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x21);
	pulse(6);
	CU_ASSERT_FALSE(pic_output(&pic));
	pic_write(&pic, 0x21, 0x02);
	pic_write(&pic, 0x20, 0x68);
	CU_ASSERT_TRUE(pic_output(&pic));
	CU_ASSERT_EQUAL(pic_acknowledge(&pic), 0x26);
}

static void
poll_command_acknowledges(void)
{
	start();
	pulse(4);
	pic_write(&pic, 0x20, 0x0c);
	CU_ASSERT_EQUAL(pic_read(&pic, 0x20), 0x84);
	CU_ASSERT_FALSE(pic_output(&pic));
	pic_write(&pic, 0x20, 0x0b);
	CU_ASSERT_EQUAL(pic_read(&pic, 0x20), 0x10);
}

int
main(void)
{
	static CU_TestInfo tests[] = {
		{ "gives_the_vector_of_every_input",
		    gives_the_vector_of_every_input },
		{ "serves_the_higher_priority_first",
		    serves_the_higher_priority_first },
		{ "keeps_a_masked_edge", keeps_a_masked_edge },
		{ "level_input_asks_while_it_is_up",
		    level_input_asks_while_it_is_up },
		{ "request_that_is_gone_is_spurious",
		    request_that_is_gone_is_spurious },
		{ "rotates_and_sets_priorities", rotates_and_sets_priorities },
		{ "ends_by_itself_in_automatic_mode",
		    ends_by_itself_in_automatic_mode },
		{ "special_mask_lets_lower_ones_through",
		    special_mask_lets_lower_ones_through },
		{ "poll_command_acknowledges", poll_command_acknowledges },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "pic", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_run_tests();
	return CU_get_number_of_failures() ? 1 : 0;
}
