/* Run a table of CUnit tests; main() of a test file returns what it says. */
#ifndef TESTS_NAMED_TESTS_H
#define TESTS_NAMED_TESTS_H

#include <CUnit/Basic.h>

struct named_test {
	const char *name;
	void (*run)(void);
};
#define NAMED_TEST(f) \
	{             \
#f, f \
	}

/* 0: all passed; 1. */
static inline int
named_tests_run(const char *suite_name, const struct named_test *t, size_t n)
{
	CU_pSuite suite;
	int bad;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite(suite_name, NULL, NULL);
	if (suite == NULL)
		return 1;
	for (size_t i = 0; i < n; i++)
		if (CU_add_test(suite, t[i].name, t[i].run) == NULL)
			return 1;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	bad = CU_get_number_of_failures() != 0;
	CU_cleanup_registry();
	fflush(stdout);
	return bad;
}

#endif
