/* A million random instructions: the software processor against the host's. */
#include <CUnit/Basic.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"

/* The tester stands beside this program. */
static int
run_difftest(const char *seed, const char *cases)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
	char *slash;
	int status;
	pid_t pid;

	BUG_ON(n <= 0);
	path[n] = '\0';
	slash = strrchr(path, '/');
	BUG_ON(!slash);
	strcpy(slash + 1, "difftest");
	fflush(NULL);
	pid = fork();
	if (!pid) {
		execl(
		    path, path, "--seed", seed, "--cases", cases, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int result;

static void
agrees_with_the_processor(void)
{
	const char *cases = getenv("DIFFTEST_CASES");

	result = run_difftest("20260101", cases ? cases : "1000000");
	CU_ASSERT(result == 0 || result == 77);
}

int
main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite("difftest", NULL, NULL);
	CU_add_test(
	    suite, "agrees_with_the_processor", agrees_with_the_processor);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	if (!failed && result == 77)
		return 77;
	return failed ? 1 : 0;
}
