/* PCI functions, seen through the entropy device and the host bridge. */
#include "devices/pci/pci.h"
#include "tests/driver.h"
#include "tests/named_tests.h"

static uint64_t
config(struct harness *h, unsigned at, unsigned size)
{
	return harness_access(h, RING_READ, 0, at, size, 0);
}

static void
set_config(struct harness *h, unsigned at, unsigned size, uint64_t value)
{
	harness_access(h, RING_WRITE, 0, at, size, value);
}

static uint64_t
bar(struct harness *h, unsigned region)
{
	return store_wiring(&h->dev.store)->bar[region];
}

static unsigned
find_capability(struct harness *h, unsigned id)
{
	unsigned at = (unsigned)config(h, 0x34, 1);

	for (unsigned n = 0; at != 0 && n < 48; n++) {
		if (config(h, at, 1) == id)
			return at;
		at = (unsigned)config(h, at + 1, 1);
	}
	CU_FAIL_FATAL("no such capability");
	return 0;
}

static void
says_what_it_is(void)
{
	struct harness h;

	harness_open(&h, "virtio-rng");
	CU_ASSERT_EQUAL(config(&h, 0, 4), 0x10441af4);
	CU_ASSERT_EQUAL(config(&h, 8, 4), 0x00ff0001);
	CU_ASSERT_EQUAL(config(&h, 0x2c, 4), 0x11001af4);
	CU_ASSERT_EQUAL(config(&h, 0x0e, 1), 0);
	CU_ASSERT_EQUAL(config(&h, 0x3d, 1), 1);
	CU_ASSERT_EQUAL(config(&h, 6, 2), 0x0010);
	/* Nothing of it can be written. */
	for (unsigned at = 0; at < 4; at++)
		set_config(&h, at, 1, 0xff);
	set_config(&h, 8, 4, 0xffffffff);
	set_config(&h, 0x2c, 4, 0xffffffff);
	CU_ASSERT_EQUAL(config(&h, 0, 4), 0x10441af4);
	CU_ASSERT_EQUAL(config(&h, 8, 4), 0x00ff0001);
	CU_ASSERT_EQUAL(config(&h, 0x2c, 4), 0x11001af4);
	harness_close(&h);

	harness_open(&h, "pci-host");
	CU_ASSERT_EQUAL(config(&h, 0, 4), 0x29c08086);
	CU_ASSERT_EQUAL(config(&h, 8, 4), 0x06000000);
	CU_ASSERT_EQUAL(config(&h, 6, 2), 0);
	CU_ASSERT_EQUAL(config(&h, 0x34, 1), 0);
	set_config(&h, 0x10, 4, 0xffffffff);
	CU_ASSERT_EQUAL(config(&h, 0x10, 4), 0);
	harness_close(&h);
}

static void
tells_the_size_of_its_bars(void)
{
	static const uint32_t wanted[6] = { 0xffffc004, 0xffffffff, 0xfffff000,
		0, 0, 0 };
	struct harness h;

	harness_open(&h, "virtio-rng");
	for (unsigned i = 0; i < 6; i++) {
		set_config(&h, 0x10 + 4 * i, 4, 0xffffffff);
		CU_ASSERT_EQUAL(config(&h, 0x10 + 4 * i, 4), wanted[i]);
	}
	set_config(&h, 0x30, 4, 0xffffffff);
	CU_ASSERT_EQUAL(config(&h, 0x30, 4), 0);
	harness_close(&h);
}

static void
decodes_its_bars_while_memory_is_on(void)
{
	struct harness h;

	harness_open(&h, "virtio-rng");
	set_config(&h, 0x10, 4, 0x12345678);
	set_config(&h, 0x14, 4, 0x4);
	set_config(&h, 0x18, 4, 0xc0001234);
	CU_ASSERT_EQUAL(bar(&h, 1), DEVICE_BAR_UNMAPPED);
	CU_ASSERT_EQUAL(bar(&h, 2), DEVICE_BAR_UNMAPPED);
	set_config(&h, 4, 2, 0x0002);
	CU_ASSERT_EQUAL(bar(&h, 1), 0x412344000);
	CU_ASSERT_EQUAL(bar(&h, 2), 0xc0001000);
	/* A byte at a time, and while it is decoded. */
	set_config(&h, 0x1b, 1, 0xd0);
	CU_ASSERT_EQUAL(bar(&h, 2), 0xd0001000);
	harness_restart(&h);
	CU_ASSERT_EQUAL(bar(&h, 1), 0x412344000);
	CU_ASSERT_EQUAL(bar(&h, 2), 0xd0001000);
	set_config(&h, 4, 1, 0);
	CU_ASSERT_EQUAL(bar(&h, 1), DEVICE_BAR_UNMAPPED);
	CU_ASSERT_EQUAL(bar(&h, 2), DEVICE_BAR_UNMAPPED);
	CU_ASSERT_EQUAL(config(&h, 0x10, 8), 0x412344004);
	harness_close(&h);
}

static void
has_a_sound_list_of_capabilities(void)
{
	struct harness h;
	unsigned at, last = 0x40, seen = 0;

	harness_open(&h, "virtio-rng");
	at = (unsigned)config(&h, 0x34, 1);
	CU_ASSERT_EQUAL(at, 0x40);
	while (at != 0) {
		CU_ASSERT_FATAL(at >= last && at <= 0xfc && at % 4 == 0);
		last = at + 2;
		seen |= 1u << config(&h, at, 1);
		at = (unsigned)config(&h, at + 1, 1);
	}
	CU_ASSERT_EQUAL(
	    seen, 1u << 0x09 | 1u << 0x11 | 1u << 0x10 | 1u << 0x01);
	at = find_capability(&h, 0x11);
	CU_ASSERT_EQUAL(config(&h, at + 2, 2), 1); /* two vectors */
	CU_ASSERT_EQUAL(config(&h, at + 4, 4), 2); /* in BAR 2 */
	CU_ASSERT_EQUAL(config(&h, at + 8, 4), 0x802);
	at = find_capability(&h, 0x10);
	CU_ASSERT_EQUAL(config(&h, at + 2, 2), 0x92);
	CU_ASSERT(config(&h, at + 4, 4) & 1u << 28);
	/* No extended ones. */
	for (at = 0x100; at < 0x1000; at += 4)
		CU_ASSERT_EQUAL(config(&h, at, 4), 0);
	harness_close(&h);
}

static void
answers_accesses_of_any_size_alike(void)
{
	struct harness h;

	harness_open(&h, "virtio-rng");
	for (unsigned at = 0; at < PCI_CONFIG_SIZE; at++) {
		for (unsigned size = 2; size <= 8; size *= 2) {
			uint64_t want = 0;

			for (unsigned i = 0; i < size; i++)
				want |= (at + i < PCI_CONFIG_SIZE
						? config(&h, at + i, 1)
						: 0xff)
				    << (8 * i);
			if (config(&h, at, size) != want)
				CU_FAIL("bytes differ from the whole");
		}
	}
	set_config(&h, 0x10, 8, 0x500004000);
	CU_ASSERT_EQUAL(config(&h, 0x10, 4), 0x00004004);
	CU_ASSERT_EQUAL(config(&h, 0x14, 4), 5);
	set_config(&h, 0xffc, 8, UINT64_MAX);
	CU_ASSERT_EQUAL(config(&h, 0xffc, 4), 0);
	harness_close(&h);
}

/* ---- messages ---- */

static void
set_vector(
    struct harness *h, unsigned i, uint64_t address, uint32_t data, bool masked)
{
	harness_access(h, RING_WRITE, 2, 16 * i, 8, address);
	harness_access(h, RING_WRITE, 2, 16 * i + 8, 4, data);
	harness_access(h, RING_WRITE, 2, 16 * i + 12, 4, masked);
}

static void
raise_vector(struct harness *h, unsigned i)
{
	pci_raise_vector(&h->dev, device_state(&h->dev), i);
	harness_access(h, RING_READ, 0, 0, 4, 0); /* commits, settles */
}

static void
sends_messages_and_keeps_masked_ones(void)
{
	struct harness h;
	unsigned cap;

	harness_open(&h, "virtio-rng");
	cap = find_capability(&h, 0x11);
	set_config(&h, 4, 2, 6);
	set_vector(&h, 0, 0xfee01000, 0x4041, false);
	set_vector(&h, 1, 0xfee02000, 0x4042, true);
	CU_ASSERT_EQUAL(
	    store_wiring(&h.dev.store)->vector[0].address, 0xfee01000);
	CU_ASSERT_EQUAL(store_wiring(&h.dev.store)->vector[1].data, 0x4042);
	raise_vector(&h, 0);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 0); /* not enabled */
	set_config(&h, cap + 2, 2, 0x8000);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 0);
	raise_vector(&h, 0);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 1);
	/* An impossible one does nothing. */
	raise_vector(&h, 2);
	raise_vector(&h, 77);
	/* Masked: pending, over a restart too. */
	raise_vector(&h, 1);
	raise_vector(&h, 1);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 0);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 0x800, 8, 0), 2);
	harness_restart(&h);
	harness_msi(&h, 0);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 0x800, 8, 0), 2);
	set_vector(&h, 1, 0xfee02000, 0x4042, false);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 1);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 0x800, 8, 0), 0);
	/* The whole function masked. */
	set_config(&h, cap + 2, 2, 0xc000);
	raise_vector(&h, 0);
	raise_vector(&h, 1);
	CU_ASSERT_EQUAL(harness_msi(&h, 0) + harness_msi(&h, 1), 0);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 0x800, 8, 0), 3);
	set_config(&h, cap + 2, 2, 0x8000);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 1);
	CU_ASSERT_EQUAL(harness_msi(&h, 1), 1);
	/* What was sent is not sent again by a new process, once the vector
	 * has been held back. */
	harness_access(&h, RING_WRITE, 2, 12, 4, 1);
	set_config(&h, cap + 2, 2, 0);
	harness_restart(&h);
	CU_ASSERT_EQUAL(harness_msi(&h, 0) + harness_msi(&h, 1), 0);
	harness_access(&h, RING_WRITE, 2, 12, 4, 0);
	set_config(&h, cap + 2, 2, 0x8000);
	CU_ASSERT_EQUAL(harness_msi(&h, 0) + harness_msi(&h, 1), 0);
	/* No bus master sends no messages. */
	set_config(&h, 4, 2, 2);
	raise_vector(&h, 0);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 0);
	set_config(&h, 4, 2, 6);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 1);
	harness_close(&h);
}

static void
keeps_its_table_whatever_the_size_of_the_access(void)
{
	struct harness h;

	harness_open(&h, "virtio-rng");
	for (unsigned i = 0; i < 16; i++)
		harness_access(&h, RING_WRITE, 2, 16 + i, 1, 0xf0 + i);
	CU_ASSERT_EQUAL(
	    harness_access(&h, RING_READ, 2, 16, 8, 0), 0xf7f6f5f4f3f2f1f0);
	/* Of the control word only the mask is there. */
	CU_ASSERT_EQUAL(
	    harness_access(&h, RING_READ, 2, 24, 8, 0), 0x00000000fbfaf9f8);
	/* Over the end of an entry, and of the table. */
	harness_access(&h, RING_WRITE, 2, 12, 8, 0x1122334400000001);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 16, 4, 0), 0x11223344);
	harness_access(&h, RING_WRITE, 2, 28, 8, UINT64_MAX);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 32, 8, 0), 0);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 0xfff, 8, 0), 0);
	harness_close(&h);
}

/* ---- INTA# ---- */

static void
set_intx(struct harness *h, bool high)
{
	pci_set_intx(&h->dev, device_state(&h->dev), high);
	config(h, 0, 4);
}

static void
drives_its_pin(void)
{
	struct harness h;
	unsigned cap;

	harness_open(&h, "virtio-rng");
	set_intx(&h, true);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	CU_ASSERT_EQUAL(config(&h, 6, 2), 0x0018);
	set_intx(&h, true); /* again: it fell and rose */
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	set_intx(&h, false);
	CU_ASSERT_EQUAL(config(&h, 6, 2), 0x0010);
	/* Disabled: the status says it, the line does not. */
	set_config(&h, 4, 2, 0x0400);
	set_intx(&h, true);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 0);
	CU_ASSERT_EQUAL(config(&h, 6, 2), 0x0018);
	set_config(&h, 4, 2, 0);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	harness_restart(&h);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	/* With MSI-X the pin is not used. */
	cap = find_capability(&h, 0x11);
	set_config(&h, cap + 2, 2, 0x8000);
	set_intx(&h, true);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 0);
	harness_close(&h);
}

/* ---- resets and power ---- */

static void
forgets_all_on_a_function_level_reset(void)
{
	struct harness h;
	struct driver d;
	unsigned cap;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, 0);
	CU_ASSERT_EQUAL(driver_status(&d), 15);
	cap = find_capability(&h, 0x10);
	set_config(&h, cap + 8, 2, 0x8000);
	CU_ASSERT_EQUAL(config(&h, cap + 8, 2) & 0x8000, 0);
	CU_ASSERT_EQUAL(config(&h, 4, 2), 0);
	CU_ASSERT_EQUAL(config(&h, 0x10, 8), 4);
	CU_ASSERT_EQUAL(bar(&h, 1), DEVICE_BAR_UNMAPPED);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 2, 12, 4, 0), 1);
	CU_ASSERT_EQUAL(driver_status(&d), 0);
	CU_ASSERT_PTR_NULL(virtio_queue(&h.dev, 0));
	harness_restart(&h);
	driver_open(&d, &h, 0);
	CU_ASSERT_EQUAL(driver_status(&d), 15);
	harness_close(&h);
}

static void
sleeps_in_d3hot_and_remembers(void)
{
	struct harness h;
	struct driver d;
	unsigned cap;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, 0);
	cap = find_capability(&h, 0x01);
	CU_ASSERT_EQUAL(bar(&h, 1), DRIVER_BAR0);
	set_config(&h, cap + 4, 2, 1); /* no D1 */
	CU_ASSERT_EQUAL(config(&h, cap + 4, 2) & 3, 0);
	set_config(&h, cap + 4, 2, 3);
	CU_ASSERT_EQUAL(config(&h, cap + 4, 2) & 3, 3);
	CU_ASSERT_EQUAL(bar(&h, 1), DEVICE_BAR_UNMAPPED);
	CU_ASSERT_FALSE(virtio_live(&h.dev));
	set_config(&h, cap + 4, 2, 2); /* no D2: stays */
	CU_ASSERT_EQUAL(config(&h, cap + 4, 2) & 3, 3);
	set_config(&h, cap + 4, 2, 0);
	CU_ASSERT_EQUAL(bar(&h, 1), DRIVER_BAR0);
	CU_ASSERT(virtio_live(&h.dev));
	CU_ASSERT_EQUAL(driver_status(&d), 15);
	harness_close(&h);
}

static void
refuses_states_that_cannot_be(void)
{
	static struct pci_state s;
	struct harness h;

	harness_open(&h, "virtio-rng");
	s = *(struct pci_state *)device_state(&h.dev);
	CU_ASSERT(pci_valid(&s));
	s.msix = 0xfc;
	CU_ASSERT_FALSE(pci_valid(&s));
	s = *(struct pci_state *)device_state(&h.dev);
	s.express = 0x44;
	s.power = 0xfd;
	CU_ASSERT_FALSE(pci_valid(&s));
	s.power = 0;
	CU_ASSERT(pci_valid(&s));
	s.express = 0x20;
	CU_ASSERT_FALSE(pci_valid(&s));
	s = *(struct pci_state *)device_state(&h.dev);
	s.pending = 1ull << 40;
	CU_ASSERT_FALSE(pci_valid(&s));
	harness_close(&h);
}

static const struct named_test tests[] = {
	NAMED_TEST(says_what_it_is),
	NAMED_TEST(tells_the_size_of_its_bars),
	NAMED_TEST(decodes_its_bars_while_memory_is_on),
	NAMED_TEST(has_a_sound_list_of_capabilities),
	NAMED_TEST(answers_accesses_of_any_size_alike),
	NAMED_TEST(sends_messages_and_keeps_masked_ones),
	NAMED_TEST(keeps_its_table_whatever_the_size_of_the_access),
	NAMED_TEST(drives_its_pin),
	NAMED_TEST(forgets_all_on_a_function_level_reset),
	NAMED_TEST(sleeps_in_d3hot_and_remembers),
	NAMED_TEST(refuses_states_that_cannot_be),
};

int
main(void)
{
	return named_tests_run("pci", tests, ARRAY_LEN(tests));
}
