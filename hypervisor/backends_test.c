/* The list of backends, and the state that each takes a processor to start in.
 * What they do with guests: tests/guests_test.c. */
#include <errno.h>
#include <string.h>

#include "hypervisor/hypervisor.h"
#include "tests/named_tests.h"

static void
auto_takes_the_first_that_can_and_says_why_not_the_others(void)
{
	char why[300];
	const struct hv_backend *hv = hv_find("auto", why, sizeof(why));

	CU_ASSERT_PTR_NOT_NULL_FATAL(hv);
	printf("    %s%s%s\n", hv->name, why[0] ? "; " : "", why);
	for (unsigned n = 0; hv_backends[n]; n++) {
		char reason[200];
		int err = hv_backends[n]->probe(reason, sizeof(reason));

		CU_ASSERT(err == 0 || err == -ENOENT || err == -EACCES ||
		    err == -ENOTSUP);
		CU_ASSERT_EQUAL(err == 0, reason[0] == '\0');
		if (hv_backends[n] == hv)
			break;
		CU_ASSERT_PTR_NOT_NULL(strstr(why, hv_backends[n]->name));
	}
}

static void
names_what_it_does_not_know(void)
{
	char why[100];

	CU_ASSERT_PTR_NULL(hv_find("hurd", why, sizeof(why)));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "hurd"));
	CU_ASSERT_PTR_EQUAL(hv_find("soft", why, sizeof(why)), &hv_soft);
	CU_ASSERT_PTR_EQUAL(hv_find("kvm", why, sizeof(why)), &hv_kvm);
	CU_ASSERT_EQUAL(why[0], '\0');
}

/* What hv_vcpu_state_reset() says is what a processor takes, and gives back. */
static void
reset_state_is_taken_by_every_backend(void)
{
	for (unsigned n = 0; hv_backends[n]; n++) {
		const struct hv_backend *hv = hv_backends[n];
		const struct hv_config config = { .vcpus = 2 };
		static struct hv_vcpu_state set, got;
		struct hv_partition *p;
		struct hv_vcpu *v;

		if (hv->partition_create(&config, &p))
			continue;
		for (unsigned cpu = 0; cpu < 2; cpu++) {
			CU_ASSERT_EQUAL_FATAL(hv->vcpu_create(p, cpu, &v), 0);
			hv_vcpu_state_reset(&set, cpu);
			set.gpr[13] = 0x123456789abcdef0;
			CU_ASSERT_EQUAL(hv->vcpu_set(v, &set), 0);
			CU_ASSERT_EQUAL(hv->vcpu_get(v, &got), 0);
			CU_ASSERT_EQUAL(
			    memcmp(set.gpr, got.gpr, sizeof(set.gpr)), 0);
			CU_ASSERT_EQUAL(got.rip, set.rip);
			CU_ASSERT_EQUAL(got.rflags, set.rflags);
			CU_ASSERT_EQUAL(got.cs.base, set.cs.base);
			CU_ASSERT_EQUAL(got.cr0, set.cr0);
			CU_ASSERT_EQUAL(got.apic_base, set.apic_base);
			CU_ASSERT_EQUAL(got.mp_state, set.mp_state);
			hv->vcpu_destroy(v);
		}
		hv->partition_destroy(p);
	}
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(
		    auto_takes_the_first_that_can_and_says_why_not_the_others),
		NAMED_TEST(names_what_it_does_not_know),
		NAMED_TEST(reset_state_is_taken_by_every_backend),
	};

	return named_tests_run(
	    "backends", tests, sizeof(tests) / sizeof(tests[0]));
}
