/* The registry of device types: complete, and every manifest in its limits. */
#include <CUnit/Basic.h>

#include "devhost/harness.h"
#include "devhost/manifest.h"
#include "tests/named_tests.h"

#define SYSCALLS_LIMIT 20u

static const char *const expected[] = { "acpi-pm", "debugport", "i8042", "rtc",
	"serial" };

static void
every_type_is_enrolled_once(void)
{
	unsigned n = 0;

	DEVTYPE_FOREACH (t) {
		n++;
		CU_ASSERT_PTR_EQUAL(device_type_find((*t)->name), *t);
	}
	CU_ASSERT_EQUAL(n, ARRAY_LEN(expected));
	for (unsigned i = 0; i < ARRAY_LEN(expected); i++)
		CU_ASSERT_PTR_NOT_NULL(device_type_find(expected[i]));
	CU_ASSERT_PTR_NULL(device_type_find("toaster"));
}

static void
no_type_needs_many_system_calls(void)
{
	DEVTYPE_FOREACH (t) {
		struct sandbox_syscall list[MANIFEST_SYSCALLS_MAX];
		unsigned n = manifest_syscalls(*t, list);

		CU_ASSERT(n <= SYSCALLS_LIMIT);
		for (unsigned i = 0; i < n; i++)
			CU_ASSERT_PTR_NOT_NULL(list[i].reason);
	}
}

static void
manifests_are_consistent(void)
{
	DEVTYPE_FOREACH (t) {
		const struct device_placement *p = (*t)->placements;
		const struct store_shape shape = harness_shape(*t, 1);

		CU_ASSERT_NOT_EQUAL(store_size(&shape), 0);
		CU_ASSERT_FATAL((*t)->nplacements > 0);
		for (unsigned i = 1; i < (*t)->nplacements; i++) {
			CU_ASSERT_EQUAL(p[i].nregions, p[0].nregions);
			CU_ASSERT_EQUAL(p[i].nirqs, p[0].nirqs);
		}
		for (unsigned i = 0; i < (*t)->nregisters; i++) {
			const struct device_register *r = &(*t)->registers[i];

			CU_ASSERT_FATAL(r->region < p->nregions);
			CU_ASSERT((uint64_t)r->offset + r->width <=
			    p->regions[r->region].size);
		}
		CU_ASSERT((*t)->nstreams == 0 || (*t)->ops->stream);
		CU_ASSERT(!(*t)->ops->deadline == !(*t)->ops->timer);
	}
}

/* Whatever a guest does, and wherever the device dies, it goes on. */
static void
every_type_survives_any_access(void)
{
	unsigned seed = 42;

	DEVTYPE_FOREACH (t) {
		struct harness h;

		harness_open(&h, (*t)->name);
		for (unsigned i = 0; i < 20000; i++) {
			unsigned n = (*t)->placements[0].nregions;
			unsigned region = (unsigned)rand_r(&seed) % n;
			uint64_t size =
			    (*t)->placements[0].regions[region].size;

			harness_access(&h,
			    rand_r(&seed) & 1 ? RING_WRITE : RING_READ, region,
			    (uint64_t)rand_r(&seed) % size,
			    1u << (rand_r(&seed) & 3),
			    (uint64_t)rand_r(&seed) << (rand_r(&seed) & 31));
			if (h.in && rand_r(&seed) % 4 == 0)
				harness_type(&h, "x");
			if (rand_r(&seed) % 64 == 0)
				engine_timer(&h.dev);
			if (rand_r(&seed) % 1024 == 0)
				harness_restart(&h);
			if (h.out)
				stream_release(h.out, stream_head(h.out));
		}
		CU_ASSERT_EQUAL(h.dev.error, 0);
		harness_close(&h);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(every_type_is_enrolled_once),
	NAMED_TEST(no_type_needs_many_system_calls),
	NAMED_TEST(manifests_are_consistent),
	NAMED_TEST(every_type_survives_any_access),
};

int
main(void)
{
	return named_tests_run("registry", tests, ARRAY_LEN(tests));
}
