/* Faults made on purpose in whole VMs: each happens, and the VM lives. */
#include <sys/stat.h>

#include "tests/experiment.h"

static void
fault(const char *arguments)
{
	tell("fault", arguments);
	if (tool.code != EXIT_POWEROFF)
		printf("\nfault %s: %s\n", arguments, tool.text);
	CU_ASSERT_EQUAL(tool.code, EXIT_POWEROFF);
}

/* The line of a device in a table. */
static bool
find_line(const char *table, const char *first, char *out, size_t size)
{
	const char *at = strstr(table, first);

	if (at == NULL)
		return false;
	snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
	return true;
}

static uint64_t
fired(const char *device, const char *kind)
{
	char arguments[64], line[256];
	unsigned long long n = 0;

	snprintf(arguments, sizeof(arguments), "%s list", device);
	tell("fault", arguments);
	if (!find_line(tool.text, kind, line, sizeof(line)) ||
	    sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &n) !=
		1)
		return UINT64_MAX;
	return n;
}

static bool
await_fired(const char *device, const char *kind, uint64_t least)
{
	for (unsigned i = 0; i < 300; i++) {
		uint64_t n = fired(device, kind);

		if (n != UINT64_MAX && n >= least)
			return true;
		vm_step(&vm, 1);
		vm_sleep_ms(20);
	}
	return false;
}

/* ---- the tests ---- */

static void
a_kill_happens_so_often_as_was_said(void)
{
	if (!start_vm(""))
		return;
	fault("rtc kill after=100 times=3");
	CU_ASSERT(await_fired("rtc", "kill", 3));
	CU_ASSERT(counts_on());
	CU_ASSERT_EQUAL(fired("rtc", "kill"), 3);
	CU_ASSERT_PTR_NOT_NULL(strstr(vm.text, "exit status 8"));
	CU_ASSERT_PTR_NULL(strstr(vm.text, "instead of"));
	stop_vm();
}

static void
a_hang_is_ended_at_the_deadline(void)
{
	const char *at;
	unsigned us = 0;

	if (!start_vm("--device rtc,deadline=100ms"))
		return;
	fault("rtc hang on=write");
	CU_ASSERT(await_fired("rtc", "hang", 1));
	CU_ASSERT(vm_await(&vm, "hung: ", 10000));
	CU_ASSERT(vm_await(&vm, "running again after", 10000));
	at = strstr(vm.text, "running again after");
	if (at != NULL)
		sscanf(at, "running again after %u us", &us);
	CU_ASSERT(counts_on());
	CU_ASSERT_PTR_NULL(strstr(vm.text, "instead of"));
	/* The guest's own measure: a wait of the deadline and little more. */
	at = strstr(vm.text, "longest 1");
	printf("recovered in %u us; the guest says %.24s ", us,
	    at != NULL ? at : "nothing");
	stop_vm();
}

static void
a_stopped_process_is_replaced_at_the_deadline(void)
{
	uint64_t start, took;

	if (!start_vm("--device rtc,deadline=200ms"))
		return;
	start = time_now_ns();
	tell("kill", "rtc --signal STOP");
	CU_ASSERT_EQUAL(tool.code, EXIT_POWEROFF);
	CU_ASSERT(vm_await(&vm, "running again after", 10000));
	took = time_now_ns() - start;
	printf("stopped, replaced and seen after %u ms ",
	    (unsigned)(took / 1000000));
	CU_ASSERT(counts_on());
	stop_vm();
}

static void
one_that_nobody_waits_for_is_asked_for_signs_of_life(void)
{
	uint64_t start, took;

	if (!start_vm("--rng id=rng0,deadline=200ms"))
		return;
	start = time_now_ns();
	tell("kill", "rng0 --signal STOP");
	CU_ASSERT_EQUAL(tool.code, EXIT_POWEROFF);
	CU_ASSERT(vm_await(&vm, "hung: no answer to a health check", 10000));
	took = time_now_ns() - start;
	printf("seen after %u ms ", (unsigned)(took / 1000000));
	CU_ASSERT(vm_await(&vm, "running again after", 10000));
	CU_ASSERT(counts_on());
	stop_vm();
}

static void
a_slow_answer_is_late_and_right(void)
{
	if (!start_vm(""))
		return;
	fault("rtc slow value=30ms on=read times=4");
	CU_ASSERT(await_fired("rtc", "slow", 4));
	CU_ASSERT(counts_on());
	CU_ASSERT_EQUAL(fired("rtc", "slow"), 4);
	CU_ASSERT_PTR_NULL(strstr(vm.text, "instead of"));
	CU_ASSERT_PTR_NULL(strstr(vm.text, "died"));
	stop_vm();
}

static void
an_answer_is_corrupted_in_the_bits_that_were_said(void)
{
	unsigned got, value;
	const char *at;

	if (!start_vm(""))
		return;
	fault("rtc corrupt-answer value=0x81 address=1 times=2");
	CU_ASSERT(await_fired("rtc", "corrupt-answer", 2));
	CU_ASSERT(counts_on());
	at = strstr(vm.text, "experiment: read 0x");
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	CU_ASSERT_EQUAL(
	    sscanf(at, "experiment: read %x instead of %x", &got, &value), 2);
	CU_ASSERT_EQUAL(got ^ value, 0x81);
	CU_ASSERT_PTR_NULL(strstr(vm.text, "died"));
	stop_vm();
}

static void
an_answer_that_is_dropped_comes_from_the_next_life(void)
{
	if (!start_vm("--device rtc,deadline=50ms"))
		return;
	fault("rtc drop on=read times=1");
	CU_ASSERT(await_fired("rtc", "drop", 1));
	CU_ASSERT(vm_await(&vm, "running again after", 10000));
	CU_ASSERT(counts_on());
	CU_ASSERT_PTR_NULL(strstr(vm.text, "instead of"));
	stop_vm();
}

static void
a_rate_is_a_rate_and_clear_clears(void)
{
	uint64_t n;

	if (!start_vm(""))
		return;
	fault("rtc corrupt-answer rate=1% seed=7");
	CU_ASSERT(await_fired("rtc", "corrupt-answer", 10));
	fault("rtc clear");
	CU_ASSERT(counts_on());
	n = fired("rtc", "corrupt-answer");
	CU_ASSERT(counts_on());
	CU_ASSERT_EQUAL(fired("rtc", "corrupt-answer"), n);
	stop_vm();
}

static void
mistakes_are_named(void)
{
	static const struct {
		const char *arguments;
		int code;
		const char *says;
	} cases[] = {
		{ "rtc kill region=nowhere", EXIT_USAGE,
		    "region=nowhere: unknown; known are:" },
		{ "nosuch kill", EXIT_NO_VM, "no device nosuch" },
		{ "rtc", EXIT_USAGE, "usage: vmmctl fault" },
		{ "rtc list x", EXIT_USAGE, "list takes no arguments" },
		{ "rtc burn", EXIT_USAGE, "unknown fault burn" },
	};

	if (!start_vm(""))
		return;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		tell("fault", cases[i].arguments);
		CU_ASSERT(vm_ended(
		    &tool, cases[i].arguments, cases[i].code, cases[i].says));
	}
	/* Four places, and no more. */
	for (unsigned i = 0; i < 4; i++)
		fault("serial kill after=1000000000");
	tell("fault", "serial kill");
	CU_ASSERT(vm_ended(&tool, "a_fifth_plan", EXIT_ERROR,
	    "it has as many plans as it can"));
	stop_vm();
}

static void
a_policy_says_what_becomes_of_a_device_that_is_given_up(void)
{
	/* Every request kills: the budget does not matter. */
	if (!start_vm("--device rtc,policy=stop-vm"))
		return;
	fault("rtc kill times=0");
	vm_finish(&vm, 1);
	CU_ASSERT(vm_ended(
	    &vm, "stop-vm", EXIT_ERROR, "device rtc is given up: exit"));
	CU_ASSERT_EQUAL(vm_left_behind(5000), 0);
	if (!start_vm("--device rtc,policy=remove"))
		return;
	fault("rtc kill times=0");
	CU_ASSERT(vm_await(&vm, "removed: exit status 8", 20000));
	CU_ASSERT(vm_await(&vm, "read 0xff instead of", 20000));
	stop_vm();
	if (!start_vm("--device rtc,policy=restart,restarts=1"))
		return;
	fault("rtc kill times=10");
	CU_ASSERT(await_fired("rtc", "kill", 10));
	CU_ASSERT(counts_on());
	CU_ASSERT_PTR_NULL(strstr(vm.text, "instead of"));
	stop_vm();
}

static const struct named_test tests[] = {
	NAMED_TEST(a_kill_happens_so_often_as_was_said),
	NAMED_TEST(a_hang_is_ended_at_the_deadline),
	NAMED_TEST(a_stopped_process_is_replaced_at_the_deadline),
	NAMED_TEST(one_that_nobody_waits_for_is_asked_for_signs_of_life),
	NAMED_TEST(a_slow_answer_is_late_and_right),
	NAMED_TEST(an_answer_is_corrupted_in_the_bits_that_were_said),
	NAMED_TEST(an_answer_that_is_dropped_comes_from_the_next_life),
	NAMED_TEST(a_rate_is_a_rate_and_clear_clears),
	NAMED_TEST(mistakes_are_named),
	NAMED_TEST(a_policy_says_what_becomes_of_a_device_that_is_given_up),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "guests/experiment.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_fault", tests, ARRAY_LEN(tests));
}
