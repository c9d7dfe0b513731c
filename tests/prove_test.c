/*
 * A sample of the prover (tests/prove/prove.h; all of it is `make prove`): every
 * instruction of the small devices, and every so manieth state of the others.
 */
#include "tests/lives.h"
#include "tests/named_tests.h"
#include "tests/prove/prove.h"

#define SAMPLE 29u

static struct prover p;

static void
sample(bool small)
{
	struct explore_how how = { .step_first = small,
		.step_every = small ? 8 : 0,
		.sample = small ? 0 : SAMPLE,
		.limit = 20000 };
	struct tally t = { 0 };

	for (const struct scenario_set *const *set = __start_scenario_sets;
	     (uintptr_t)set < (uintptr_t)__stop_scenario_sets; set++)
		for (size_t i = 0; i < (*set)->n; i++) {
			const struct scenario *s = &(*set)->scenario[i];
			bool is_small = !s->type &&
			    (strcmp(s->device, "serial") == 0 ||
				strcmp(s->device, "pci-host") == 0);

			if (is_small == small)
				explore(s, &how, &p, &t);
		}
	printf("%llu instructions, %llu states, %llu deaths, %llu bad: ",
	    (unsigned long long)t.points, (unsigned long long)t.states,
	    (unsigned long long)t.runs, (unsigned long long)t.bad);
	CU_ASSERT(t.states > 30);
	CU_ASSERT_EQUAL(t.bad, 0);
	CU_ASSERT_FALSE(t.limited);
}

static void
small_devices_may_die_at_any_instruction(void)
{
	sample(true);
}

static void
every_device_comes_back_from_a_sample_of_deaths(void)
{
	sample(false);
}

static const struct named_test tests[] = {
	NAMED_TEST(small_devices_may_die_at_any_instruction),
	NAMED_TEST(every_device_comes_back_from_a_sample_of_deaths),
};

int
main(int argc UNUSED, char **argv)
{
#if defined(BULKHEAD_ASAN) || defined(BULKHEAD_TSAN)
	printf("the sanitizers' own signal handling is in the way\n");
	return argv ? 77 : 1;
#endif
	lives_init(argv);
	track_make_arena(&p);
	return named_tests_run("prove", tests, ARRAY_LEN(tests));
}
