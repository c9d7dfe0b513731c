/*
 * One VM with the guest of experiments (tests/guests/experiment.c), which counts
 * its accesses and says when an answer was wrong; and vmmctl's word on it.
 */
#ifndef TESTS_EXPERIMENT_H
#define TESTS_EXPERIMENT_H

#include "tests/named_tests.h"
#include "tests/vm.h"

static struct vm_run vm, tool;
static char name[64];

static inline bool
start_vm(const char *options)
{
	static unsigned n;

	snprintf(name, sizeof(name), "experiment-%d-%u", (int)getpid(), n++);
	vm_start(&vm, 120,
	    "exec vmmctl/vmmctl run --hypervisor soft --verbose --kernel "
	    "guests/experiment.elf --name %s %s",
	    name, options);
	CU_ASSERT(vm_await(&vm, "experiment: ready", 30000));
	return strstr(vm.text, "experiment: ready") != NULL;
}

/* Run vmmctl with arguments after the VM's name: its exit code; what it says is
 * in tool.text. */
static inline int
tell(const char *command, const char *arguments)
{
	vm_start(
	    &tool, 60, "exec vmmctl/vmmctl %s %s %s", command, name, arguments);
	vm_finish(&tool, 1);
	return tool.code;
}

/* It goes on: it counts after this call. */
static inline bool
counts_on(void)
{
	uint64_t end = time_now_ns() + 20000000000u;
	size_t n = vm.n;

	while (strstr(vm.text + n, "accesses") == NULL && vm_step(&vm, 1) &&
	    time_now_ns() < end)
		continue;
	return strstr(vm.text + n, "accesses") != NULL;
}

static inline void
stop_vm(void)
{
	tell("shutdown", "--force");
	vm_finish(&vm, 1);
	CU_ASSERT_EQUAL(vm.code, EXIT_STOPPED);
	CU_ASSERT_EQUAL(vm_left_behind(5000), 0);
}

#endif
