/* Tests of the I/O APIC. */
#include "hypervisor/soft/ioapic.h"

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>

#include "proto/base.h"

static struct ioapic ioapic;
static struct apic_msg last;
static unsigned sent, ended;
static bool lower_on_eoi;

static void
deliver(void *ctx, const struct apic_msg *msg)
{
	(void)ctx;
	last = *msg;
	sent++;
}

static void
eoi(void *ctx, unsigned pin)
{
	(void)ctx;
	ended++;
	if (lower_on_eoi)
		ioapic_set(&ioapic, pin, false);
}

static void
reg_write(unsigned r, uint32_t v)
{
	ioapic_write(&ioapic, 0, r);
	ioapic_write(&ioapic, 0x10, v);
}

static uint32_t
reg_read(unsigned r)
{
	ioapic_write(&ioapic, 0, r);
	return ioapic_read(&ioapic, 0x10);
}

static void
start(unsigned pin, uint32_t low, uint32_t high)
{
	sent = ended = 0;
	lower_on_eoi = false;
	ioapic_init(&ioapic, deliver, eoi, NULL);
	reg_write(0x11 + 2 * pin, high);
	reg_write(0x10 + 2 * pin, low);
}

static void
has_24_masked_pins(void)
{
	start(0, 0x10000, 0);
	CU_ASSERT_EQUAL(reg_read(1) >> 16, 23);
	for (unsigned pin = 0; pin < 24; pin++) {
		CU_ASSERT_EQUAL(reg_read(0x10 + 2 * pin), 0x10000);
		ioapic_set(&ioapic, pin, true);
	}
	CU_ASSERT_EQUAL(sent, 0);
	reg_write(0, 0xff000000);
	CU_ASSERT_EQUAL(reg_read(0), 0x0f000000);
	CU_ASSERT_EQUAL(reg_read(0x40), 0);
}

static void
sends_each_edge_once(void)
{
	start(4, 0x0931, 0x03000000);
	ioapic_set(&ioapic, 4, true);
	ioapic_set(&ioapic, 4, true);
	CU_ASSERT_EQUAL(sent, 1);
	CU_ASSERT_EQUAL(last.vector, 0x31);
	CU_ASSERT_EQUAL(last.dest, 3);
	CU_ASSERT_EQUAL(last.mode, APIC_LOWEST);
	CU_ASSERT_TRUE(last.logical);
	CU_ASSERT_FALSE(last.level);
	ioapic_set(&ioapic, 4, false);
	ioapic_set(&ioapic, 4, true);
	CU_ASSERT_EQUAL(sent, 2);
}

static void
level_waits_for_its_end(void)
{
	start(10, 0x8041, 0);
	ioapic_set(&ioapic, 10, true);
	CU_ASSERT_EQUAL(sent, 1);
	CU_ASSERT_TRUE(last.level);
	CU_ASSERT_EQUAL(reg_read(0x24), 0xc041);
	ioapic_set(&ioapic, 10, false);
	ioapic_set(&ioapic, 10, true);
	CU_ASSERT_EQUAL(sent, 1);
	ioapic_end(&ioapic, 0x42); /* somebody else's */
	CU_ASSERT_EQUAL(sent, 1);
	ioapic_end(&ioapic, 0x41);
	CU_ASSERT_EQUAL(ended, 1);
	CU_ASSERT_EQUAL(sent, 2); /* the line is still up */
	lower_on_eoi = true;
	ioapic_write(&ioapic, 0x40, 0x41); /* by its own EOI register */
	CU_ASSERT_EQUAL(ended, 2);
	CU_ASSERT_EQUAL(sent, 2);
	CU_ASSERT_EQUAL(reg_read(0x24), 0x8041);
}

static void
unmasking_sends_a_level_that_is_up(void)
{
	start(7, 0x18041, 0);
	ioapic_set(&ioapic, 7, true);
	CU_ASSERT_EQUAL(sent, 0);
	reg_write(0x10 + 14, 0x8041);
	CU_ASSERT_EQUAL(sent, 1);
}

static void
status_bits_are_read_only(void)
{
	start(1, 0xffffffff, 0xffffffff);
	CU_ASSERT_EQUAL(reg_read(0x12), 0x1afff);
	CU_ASSERT_EQUAL(reg_read(0x13), 0xff000000);
}

int
main(void)
{
	static CU_TestInfo tests[] = {
		{ "has_24_masked_pins", has_24_masked_pins },
		{ "sends_each_edge_once", sends_each_edge_once },
		{ "level_waits_for_its_end", level_waits_for_its_end },
		{ "unmasking_sends_a_level_that_is_up",
		    unmasking_sends_a_level_that_is_up },
		{ "status_bits_are_read_only", status_bits_are_read_only },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "ioapic", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_run_tests();
	return CU_get_number_of_failures() ? 1 : 0;
}
