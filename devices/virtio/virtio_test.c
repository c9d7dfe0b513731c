/* The PCI transport of virtio, seen through the entropy device. */
#include "devices/virtio/virtio.h"
#include "tests/driver.h"
#include "tests/named_tests.h"

#define REGS VIRTIO_REGION_REGISTERS

static void
put_buffer(struct driver *d)
{
	driver_put(
	    d, 0, &(struct driver_seg){ driver_alloc(d, 64), 64, true }, 1);
}

static unsigned
take_all(struct driver *d)
{
	unsigned n = 0;
	uint16_t id;
	uint32_t len;

	while (driver_take(d, 0, &id, &len))
		n++;
	return n;
}

static void
begin(struct driver *d, struct harness *h)
{
	memset(d, 0, sizeof(*d));
	d->h = h;
	d->next_gpa = DRIVER_RAM_START;
	harness_open(h, "virtio-rng");
	driver_enable_pci(d);
}

static void
write_features(struct driver *d, uint64_t features)
{
	for (unsigned i = 0; i < 2; i++) {
		driver_write(d, REGS, 0x08, 4, i);
		driver_write(
		    d, REGS, 0x0c, 4, (uint32_t)(features >> (32 * i)));
	}
}

static void
refuses_features_that_it_did_not_offer(void)
{
	static const struct {
		uint64_t features;
		bool ok;
	} cases[] = {
		{ VIRTIO_F_VERSION_1, true },
		{ VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED |
			VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC |
			VIRTIO_F_RING_RESET | VIRTIO_F_IN_ORDER,
		    true },
		{ 0, false },
		{ VIRTIO_F_EVENT_IDX, false },
		{ VIRTIO_F_VERSION_1 | 1, false },
		{ VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM, false },
		{ UINT64_MAX, false },
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct harness h;
		struct driver d;

		begin(&d, &h);
		CU_ASSERT_EQUAL(driver_offered(&d),
		    VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED |
			VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC |
			VIRTIO_F_RING_RESET | VIRTIO_F_IN_ORDER);
		driver_set_status(&d, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
		write_features(&d, cases[i].features);
		driver_set_status(&d, VIRTIO_FEATURES_OK);
		CU_ASSERT_EQUAL(driver_status(&d), cases[i].ok ? 11 : 3);
		driver_set_status(&d, VIRTIO_DRIVER_OK);
		CU_ASSERT_EQUAL(driver_status(&d), cases[i].ok ? 15 : 3);
		/* What was agreed on stands. */
		write_features(&d, 0);
		CU_ASSERT_EQUAL(
		    virtio_has(&h.dev, VIRTIO_F_VERSION_1), cases[i].ok);
		harness_close(&h);
	}
}

static void
reads_and_writes_its_registers_as_the_driver_likes(void)
{
	struct harness h;
	struct driver d;

	begin(&d, &h);
	CU_ASSERT(driver_negotiate(&d, 0));
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x12, 2), 1);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x18, 2), VQ_SIZE_MAX);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1a, 2), 0xffff);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1e, 2), 0);
	/* 64-bit fields in halves and whole. */
	driver_write(&d, REGS, 0x20, 4, 0x1000);
	driver_write(&d, REGS, 0x24, 4, 0x2);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x20, 8), 0x200001000);
	driver_write(&d, REGS, 0x28, 8, 0x300002000);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x28, 4), 0x2000);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x2c, 4), 3);
	/* Several fields in one access. */
	CU_ASSERT_EQUAL(
	    driver_read(&d, REGS, 0x18, 8), VQ_SIZE_MAX | 0xffffull << 16);
	/* Impossible vectors and sizes. */
	driver_write(&d, REGS, 0x1a, 2, 1);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1a, 2), 1);
	driver_write(&d, REGS, 0x1a, 2, 2);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1a, 2), 0xffff);
	driver_write(&d, REGS, 0x10, 2, 40);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x10, 2), 0xffff);
	driver_write(&d, REGS, 0x18, 2, 0);
	driver_write(&d, REGS, 0x18, 2, VQ_SIZE_MAX + 1);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x18, 2), VQ_SIZE_MAX);
	/* A queue that is not there. */
	driver_write(&d, REGS, 0x16, 2, 1);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x18, 2), 0);
	driver_write(&d, REGS, 0x1c, 2, 1);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1c, 2), 0);
	/* An enabled one is left alone. */
	driver_enable_queue(&d, 0, 16);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1c, 2), 1);
	driver_write(&d, REGS, 0x18, 2, 8);
	driver_write(&d, REGS, 0x20, 8, 0x5000);
	driver_write(&d, REGS, 0x1c, 2, 0);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x18, 2), 16);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x20, 8), d.q[0].desc);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1c, 2), 1);
	harness_close(&h);
}

static void
works_without_doorbells_while_it_is_polled(void)
{
	struct harness h;
	struct driver d;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, VIRTIO_F_EVENT_IDX);
	put_buffer(&d);
	CU_ASSERT(h.dev.type->ops->pending(&h.dev));
	harness_run(&h);
	CU_ASSERT_EQUAL(take_all(&d), 1);
	CU_ASSERT_FALSE(h.dev.type->ops->pending(&h.dev));
	harness_close(&h);
}

static void
breaks_when_the_driver_breaks_the_rules(void)
{
	struct harness h;
	struct driver d;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, 0);
	harness_msi(&h, 0);
	driver_put(&d, 0, &(struct driver_seg){ HARNESS_RAM, 64, true }, 1);
	driver_kick(&d, 0);
	CU_ASSERT_EQUAL(driver_status(&d), 15 | VIRTIO_NEEDS_RESET);
	CU_ASSERT_EQUAL(harness_msi(&h, 0), 1);
	/* It does nothing more, over a restart too, until it is reset. */
	harness_restart(&h);
	put_buffer(&d);
	harness_ring(&h, 0);
	harness_run(&h);
	CU_ASSERT_EQUAL(take_all(&d), 0);
	driver_open(&d, &h, 0);
	put_buffer(&d);
	driver_kick(&d, 0);
	CU_ASSERT_EQUAL(take_all(&d), 1);
	harness_close(&h);
}

static void
breaks_when_a_queue_lies_outside_of_ram(void)
{
	struct harness h;
	struct driver d;

	begin(&d, &h);
	CU_ASSERT(driver_negotiate(&d, 0));
	driver_write(&d, REGS, 0x20, 8, HARNESS_RAM);
	driver_write(&d, REGS, 0x1c, 2, 1);
	driver_set_status(&d, VIRTIO_DRIVER_OK);
	harness_run(&h);
	CU_ASSERT_EQUAL(driver_status(&d), 15 | VIRTIO_NEEDS_RESET);
	driver_set_status(&d, 0);
	CU_ASSERT_EQUAL(driver_status(&d), 0);
	harness_close(&h);
}

static void
interrupts_by_its_pin_without_msix(void)
{
	struct harness h;
	struct driver d;
	uint64_t cap;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, 0);
	cap = driver_read(&d, 0, 0x34, 1);
	while (driver_read(&d, 0, cap, 1) != 0x11)
		cap = driver_read(&d, 0, cap + 1, 1);
	driver_write(&d, 0, cap + 2, 2, 0);
	harness_irqs(&h, 0);
	for (unsigned i = 0; i < 3; i++) {
		put_buffer(&d);
		driver_kick(&d, 0);
		CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
		CU_ASSERT_EQUAL(driver_read(&d, 0, 6, 2) & 8, 8);
		CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1000, 1), 1);
		CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1000, 1), 0);
		CU_ASSERT_EQUAL(driver_read(&d, 0, 6, 2) & 8, 0);
		CU_ASSERT_EQUAL(take_all(&d), 1);
	}
	virtio_config_changed(&h.dev);
	driver_read(&d, 0, 0, 4);
	CU_ASSERT_EQUAL(harness_irqs(&h, 0), 1);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1000, 1), 2);
	CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x15, 1), 1);
	harness_close(&h);
}

static void
resets_one_queue_at_a_time(void)
{
	struct harness h;
	struct driver d;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, VIRTIO_F_RING_RESET);
	for (unsigned i = 0; i < 3; i++) {
		put_buffer(&d);
		driver_kick(&d, 0);
		CU_ASSERT_EQUAL(take_all(&d), 1);
		driver_write(&d, REGS, 0x16, 2, 0);
		driver_write(&d, REGS, 0x3a, 2, 1);
		CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x3a, 2), 0);
		CU_ASSERT_EQUAL(driver_read(&d, REGS, 0x1c, 2), 0);
		CU_ASSERT_PTR_NULL(virtio_queue(&h.dev, 0));
		if (i == 1)
			harness_restart(&h);
		driver_enable_queue(&d, 0, (uint16_t)(8 << i));
		harness_run(&h);
		CU_ASSERT_PTR_NOT_NULL(virtio_queue(&h.dev, 0));
	}
	harness_close(&h);
}

/* Without bus master it leaves RAM alone, and goes on when it is one again. */
static void
keeps_its_hands_off_ram_unless_bus_master(void)
{
	struct harness h;
	struct driver d;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, VIRTIO_F_RING_PACKED);
	driver_write(&d, 0, 4, 2, 2);
	put_buffer(&d);
	harness_ring(&h, 0);
	harness_run(&h);
	CU_ASSERT_EQUAL(take_all(&d), 0);
	harness_restart(&h);
	harness_run(&h);
	CU_ASSERT_EQUAL(take_all(&d), 0);
	driver_write(&d, 0, 4, 2, 6);
	harness_run(&h);
	CU_ASSERT_EQUAL(take_all(&d), 1);
	harness_close(&h);
}

/* 4.1.4.9: a BIOS does it like that. */
static void
lends_its_registers_to_the_configuration_space(void)
{
	struct harness h;
	struct driver d;
	uint64_t cap;

	harness_open(&h, "virtio-rng");
	driver_open(&d, &h, 0);
	cap = driver_read(&d, 0, 0x34, 1);
	while (driver_read(&d, 0, cap, 1) != 9 ||
	    driver_read(&d, 0, cap + 3, 1) != 5)
		cap = driver_read(&d, 0, cap + 1, 1);
	driver_write(&d, 0, cap + 4, 1, 0);
	driver_write(&d, 0, cap + 8, 4, 0x14);
	driver_write(&d, 0, cap + 12, 4, 1);
	CU_ASSERT_EQUAL(driver_read(&d, 0, cap + 16, 1), 15);
	driver_write(&d, 0, cap + 16, 1, 0);
	CU_ASSERT_EQUAL(driver_status(&d), 0);
	driver_write(&d, 0, cap + 8, 4, 0x12);
	driver_write(&d, 0, cap + 12, 4, 2);
	CU_ASSERT_EQUAL(driver_read(&d, 0, cap + 16, 2), 1);
	/* Outside, or of a size that is none. */
	driver_write(&d, 0, cap + 8, 4, 0x4000);
	CU_ASSERT_EQUAL(driver_read(&d, 0, cap + 16, 2), 0);
	driver_write(&d, 0, cap + 8, 4, 0);
	driver_write(&d, 0, cap + 12, 4, 3);
	CU_ASSERT_EQUAL(driver_read(&d, 0, cap + 16, 4), 0);
	harness_close(&h);
}

static void
may_be_reset_at_any_moment(void)
{
	unsigned seed = 3;
	struct harness h;
	struct driver d;

	harness_open(&h, "virtio-rng");
	for (unsigned n = 0; n < 300; n++) {
		driver_open(&d, &h, n & 1 ? VIRTIO_F_RING_PACKED : 0);
		for (int i = rand_r(&seed) % 5; i > 0; i--)
			put_buffer(&d);
		if (rand_r(&seed) % 2)
			driver_kick(&d, 0);
		if (rand_r(&seed) % 4 == 0)
			harness_restart(&h);
		driver_set_status(&d, 0);
		CU_ASSERT_EQUAL(driver_status(&d), 0);
		if (rand_r(&seed) % 4 == 0)
			harness_restart(&h);
		harness_ring(&h, 0);
		CU_ASSERT_PTR_NULL(virtio_queue(&h.dev, 0));
	}
	CU_ASSERT_EQUAL(h.dev.error, 0);
	harness_close(&h);
}

static const struct named_test tests[] = {
	NAMED_TEST(refuses_features_that_it_did_not_offer),
	NAMED_TEST(reads_and_writes_its_registers_as_the_driver_likes),
	NAMED_TEST(works_without_doorbells_while_it_is_polled),
	NAMED_TEST(breaks_when_the_driver_breaks_the_rules),
	NAMED_TEST(breaks_when_a_queue_lies_outside_of_ram),
	NAMED_TEST(interrupts_by_its_pin_without_msix),
	NAMED_TEST(resets_one_queue_at_a_time),
	NAMED_TEST(keeps_its_hands_off_ram_unless_bus_master),
	NAMED_TEST(lends_its_registers_to_the_configuration_space),
	NAMED_TEST(may_be_reset_at_any_moment),
};

int
main(void)
{
	return named_tests_run("virtio", tests, ARRAY_LEN(tests));
}
