/* The keyboard controller. */
#include <CUnit/Basic.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

enum port { DATA, COMMAND };

/* What is written, then what the status and the data port say. */
static const struct {
	const char *claim;
	struct {
		enum port port;
		uint8_t value;
	} writes[3];
	unsigned nwrites;
	uint8_t status, data;
	unsigned irq1, irq12, resets;
} cases[] = {
	{ "self test passes", { { COMMAND, 0xaa } }, 1, 0x1d, 0x55, 0, 0, 0 },
	{ "command byte reads back",
	    { { COMMAND, 0x60 }, { DATA, 0x47 }, { COMMAND, 0x20 } }, 3, 0x1d,
	    0x47, 1, 0, 0 },
	{ "keyboard port test passes", { { COMMAND, 0xab } }, 1, 0x1d, 0, 0, 0,
	    0 },
	{ "mouse port test fails", { { COMMAND, 0xa9 } }, 1, 0x1d, 2, 0, 0, 0 },
	{ "there is no keyboard", { { DATA, 0xf2 } }, 1, 0x55, 0xfe, 0, 0, 0 },
	{ "missing keyboard interrupts if asked to",
	    { { COMMAND, 0x60 }, { DATA, 0x01 }, { DATA, 0xed } }, 3, 0x51,
	    0xfe, 1, 0, 0 },
	{ "there is no mouse", { { COMMAND, 0xd4 }, { DATA, 0xf4 } }, 2, 0x75,
	    0xfe, 0, 0, 0 },
	{ "written output is read", { { COMMAND, 0xd2 }, { DATA, 0x1c } }, 2,
	    0x15, 0x1c, 0, 0, 0 },
	{ "pulse of bit 0 resets", { { COMMAND, 0xfe } }, 1, 0x1c, 0, 0, 0, 1 },
	{ "pulse of nothing resets nothing", { { COMMAND, 0xff } }, 1, 0x1c, 0,
	    0, 0, 0 },
	{ "output port resets", { { COMMAND, 0xd1 }, { DATA, 0x02 } }, 2, 0x14,
	    0, 0, 0, 1 },
	{ "output port of A20 resets nothing",
	    { { COMMAND, 0xd1 }, { DATA, 0xdf } }, 2, 0x14, 0, 0, 0, 0 },
};

static void
answers_as_the_chip(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct harness h;
		uint8_t status, data;

		harness_open(&h, "i8042");
		for (unsigned n = 0; n < cases[i].nwrites; n++)
			harness_access(&h, RING_WRITE, cases[i].writes[n].port,
			    0, 1, cases[i].writes[n].value);
		CU_ASSERT_EQUAL(harness_irqs(&h, 0), cases[i].irq1);
		CU_ASSERT_EQUAL(harness_irqs(&h, 1), cases[i].irq12);
		CU_ASSERT_EQUAL(h.dev.platform_cookie, cases[i].resets);
		harness_restart(&h);
		CU_ASSERT_EQUAL(h.dev.platform_cookie, cases[i].resets);
		status =
		    (uint8_t)harness_access(&h, RING_READ, COMMAND, 0, 1, 0);
		data = (uint8_t)harness_access(&h, RING_READ, DATA, 0, 1, 0);
		if (status != cases[i].status || data != cases[i].data)
			fprintf(stderr, "%s: 0x%x 0x%x\n", cases[i].claim,
			    status, data);
		CU_ASSERT_EQUAL(status, cases[i].status);
		CU_ASSERT_EQUAL(data, cases[i].data);
		status =
		    (uint8_t)harness_access(&h, RING_READ, COMMAND, 0, 1, 0);
		CU_ASSERT_EQUAL(status & 1, 0);
		harness_close(&h);
	}
}

static const struct named_test tests[] = {
	{ "answers_as_the_chip", answers_as_the_chip },
};

int
main(void)
{
	return named_tests_run("i8042", tests, ARRAY_LEN(tests));
}
