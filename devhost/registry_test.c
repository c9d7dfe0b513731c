/* The registry of device types: complete, and every manifest in its limits. */
#include <CUnit/Basic.h>
#include <ftw.h>

#include "devhost/harness.h"
#include "devhost/manifest.h"
#include "tests/named_tests.h"

#define SYSCALLS_LIMIT 20u

static unsigned registrations;

/* Count what a source file of a device enrols. */
static int
count_file(const char *path, const struct stat *st UNUSED, int type,
    struct FTW *ftw UNUSED)
{
	size_t n = strlen(path);
	char line[256];
	FILE *f;

	/* devices/ext/ is of another program. */
	if (type != FTW_F || n < 2 || strcmp(path + n - 2, ".c") != 0 ||
	    strstr(path, "_test.c") || strstr(path, "/ext/"))
		return 0;
	f = fopen(path, "re");
	BUG_ON(!f);
	while (fgets(line, sizeof(line), f))
		registrations += strncmp(line, "DEVTYPE_REGISTER(", 17) == 0;
	fclose(f);
	return 0;
}

/* What is linked by a table may vanish without a word. */
static void
every_type_is_enrolled_once(void)
{
	unsigned n = 0;

	DEVTYPE_FOREACH (t) {
		n++;
		CU_ASSERT_PTR_EQUAL(device_type_find((*t)->name), *t);
	}
	CU_ASSERT(n > 0);
	CU_ASSERT_PTR_NULL(device_type_find("toaster"));
	if (nftw("devices", count_file, 8, 0) != 0) {
		printf("not counted: the sources are not here: ");
		return;
	}
	CU_ASSERT_EQUAL(n, registrations);
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
check_wiring(const struct device_type *t)
{
	const struct device_doorbells *d = &t->doorbells;
	const struct device_region *r = t->placements[0].regions;

	CU_ASSERT(t->nvectors <= DEVICE_VECTORS_MAX);
	CU_ASSERT(t->nlinks <= DEVICE_LINKS_MAX);
	CU_ASSERT(t->nfiles <= DEVICE_FILES_MAX);
	CU_ASSERT(t->ncounters <= DEVICE_COUNTERS_MAX);
	CU_ASSERT_FATAL(d->count <= DEVICE_DOORBELLS_MAX);
	if (d->count > 0) {
		CU_ASSERT_PTR_NOT_NULL(t->ops->doorbell);
		CU_ASSERT_FATAL(d->region < t->placements[0].nregions);
		CU_ASSERT(
		    d->offset + (uint64_t)d->stride * (d->count - 1) + 4 <=
		    r[d->region].size);
	}
	for (unsigned i = 0; i < t->placements[0].nregions; i++) {
		/* Only a PCI function has BARs. */
		CU_ASSERT(!r[i].bar || r[0].space == DEVICE_PCI_CONFIG);
		CU_ASSERT(!r[i].bar || (r[i].size & (r[i].size - 1)) == 0);
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
		CU_ASSERT(!(*t)->ops->pending == !(*t)->ops->poll);
		CU_ASSERT((*t)->nlinks == 0 || (*t)->ops->link);
		check_wiring(*t);
	}
}

/* Whatever a guest does, and wherever the device dies, it goes on. */
static void
every_type_survives_any_access(void)
{
	unsigned seed = 42;

	DEVTYPE_FOREACH (t) {
		struct harness h;

		/* Processes at the end of a link have no registers. */
		if ((*t)->placements[0].nregions == 0)
			continue;
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
			if ((*t)->doorbells.count > 0 && rand_r(&seed) % 8 == 0)
				harness_ring(&h,
				    (unsigned)rand_r(&seed) %
					(*t)->doorbells.count);
			if (h.ram)
				h.ram[(unsigned)rand_r(&seed) % 65536] =
				    (uint8_t)rand_r(&seed);
			harness_run(&h);
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
