/* The entropy device: bytes, rates, deaths. */
#include <errno.h>

#include "tests/driver.h"
#include "tests/named_tests.h"

static const uint64_t kinds[] = { 0, VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED,
	VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX,
	VIRTIO_F_INDIRECT_DESC | VIRTIO_F_IN_ORDER };

static bool
is_filled(const uint8_t *bytes, size_t n)
{
	size_t zeroes = 0;

	for (size_t i = 0; i < n; i++)
		zeroes += bytes[i] == 0;
	return zeroes < n / 2;
}

static void
fills_buffers_on_every_kind_of_ring(void)
{
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		struct harness h;
		struct driver d;

		harness_open(&h, "virtio-rng");
		driver_open(&d, &h, kinds[k]);
		CU_ASSERT_EQUAL(d.features, kinds[k] | VIRTIO_F_VERSION_1);
		for (unsigned i = 0; i < 100; i++) {
			uint64_t gpa = driver_alloc(&d, 8192);
			struct driver_seg s[2] = { { gpa, 100, true },
				{ gpa + 4096, 28, true } };
			uint16_t id, want;
			uint32_t len = 0;

			driver_arm(&d, 0);
			want = driver_put(&d, 0, s, 2);
			driver_kick(&d, 0);
			harness_run(&h);
			CU_ASSERT_FATAL(driver_take(&d, 0, &id, &len));
			CU_ASSERT_EQUAL(id, want);
			CU_ASSERT_EQUAL(len, 128);
			CU_ASSERT(is_filled(driver_at(&d, gpa), 100));
			CU_ASSERT(is_filled(driver_at(&d, gpa + 4096), 28));
			CU_ASSERT_EQUAL(driver_interrupts(&d, 0), 1);
			if (i % 7 == 0)
				harness_restart(&h);
			if (i % 7 == 0)
				CU_ASSERT(driver_interrupts(&d, 0) >= 1);
			d.next_gpa = gpa;
		}
		CU_ASSERT_EQUAL(h.dev.error, 0);
		harness_close(&h);
	}
}

static int
set_rate(struct device *dev, void *ctx)
{
	return dev->type->ops->configure(dev, "rate", ctx);
}

static void
keeps_to_its_rate(void)
{
	const struct device_type *t = device_type_find("virtio-rng");
	struct harness h;
	struct driver d;
	char rate[] = "1000";
	uint64_t gpa, total = 0;
	uint16_t id;
	uint32_t len;

	harness_make(&h, t, 1);
	harness_prepare(&h, t);
	CU_ASSERT_EQUAL_FATAL(engine_attach(&h.dev, t, &h.config), 0);
	CU_ASSERT_EQUAL_FATAL(engine_start(&h.dev, set_rate, rate), 0);
	driver_open(&d, &h, 0);
	gpa = driver_alloc(&d, 4096);
	/* The first second's worth comes at once, what is over it later. */
	for (unsigned i = 0; i < 8; i++) {
		driver_put(&d, 0, &(struct driver_seg){ gpa, 400, true }, 1);
		driver_kick(&d, 0);
	}
	harness_run(&h);
	while (driver_take(&d, 0, &id, &len))
		total += len;
	CU_ASSERT(total >= 1000 && total < 1400);
	CU_ASSERT_NOT_EQUAL(engine_timer(&h.dev), UINT64_MAX);
	harness_close(&h);
}

static void
refuses_impossible_rates(void)
{
	static const char *const bad[] = { "", "x", "-1", "12x", "9999999999",
		"99999999999999999999999" };
	const struct device_type *t = device_type_find("virtio-rng");
	struct harness h;

	harness_open(&h, "virtio-rng");
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		CU_ASSERT_EQUAL(
		    t->ops->configure(&h.dev, "rate", bad[i]), -EINVAL);
	CU_ASSERT_EQUAL(t->ops->configure(&h.dev, "speed", "1"), -ENOENT);
	CU_ASSERT_EQUAL(t->ops->configure(&h.dev, "rate", "0"), 0);
	harness_close(&h);
}

static const struct named_test tests[] = {
	NAMED_TEST(fills_buffers_on_every_kind_of_ring),
	NAMED_TEST(keeps_to_its_rate),
	NAMED_TEST(refuses_impossible_rates),
};

int
main(void)
{
	return named_tests_run("virtio-rng", tests, ARRAY_LEN(tests));
}
