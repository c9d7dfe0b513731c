/* Scenarios against whole VMs: what passes, what fails, and what is left. */
#include "tests/named_tests.h"
#include "tests/vm.h"

#define VM                                                 \
	"\"vm\": {\"kernel\": \"guests/experiment.elf\", " \
	"\"hypervisor\": \"soft\"}, \"timeout\": \"20s\""
#define READY "{\"wait\": \"experiment: ready\"}"

static const struct {
	const char *claim, *steps;
	int code;
	const char *says;
} cases[] = {
	{ "a_guest_that_is_left_alone_passes",
	    READY ", {\"wait\": \"wrong 0\"}, {\"send\": \"q\"}, {\"expect\": "
		  "\"end, 0 wrong\"}, {\"exit\": 0}",
	    EXIT_POWEROFF, "ok     exit 0" },
	{ "a_machine_that_is_still_there_is_ended", READY, EXIT_POWEROFF,
	    "ok     wait experiment: ready" },
	{ "text_that_does_not_come_fails",
	    READY ", {\"wait\": \"nowhere\", \"timeout\": \"50ms\"}, "
		  "{\"exit\": 0}",
	    EXIT_ERROR, "it did not come in time: nowhere" },
	{ "text_that_should_not_be_there_fails",
	    READY ", {\"expect-not\": \"ready\"}", EXIT_ERROR,
	    "it is there, at byte 12 of the console: ready" },
	{ "another_exit_code_fails",
	    READY ", {\"shutdown\": \"force\"}, {\"exit\": 0}", EXIT_ERROR,
	    "exit code 5, not 0" },
	{ "a_machine_that_ends_too_early_fails",
	    READY ", {\"send\": \"q\"}, {\"wait\": \"nowhere\"}", EXIT_ERROR,
	    "the VM ended with exit code 0" },
	{ "a_command_that_is_refused_fails", READY ", {\"kill\": \"nosuch\"}",
	    EXIT_ERROR, "no device nosuch" },
	{ "a_fault_that_never_fires_fails",
	    READY ", {\"fault\": \"rtc\", \"kind\": \"kill\", \"after\": "
		  "1000000000}, {\"fired\": \"rtc\", \"timeout\": \"50ms\"}",
	    EXIT_ERROR, "0, not at least 1" },
	{ "devices_are_upgraded_and_killed",
	    READY ", {\"upgrade\": \"--all\"}, {\"kill\": \"rtc\"}, "
		  "{\"restarts\": \"rtc\"}, {\"sleep\": \"300ms\"}, "
		  "{\"expect-not\": \"instead of\"}",
	    EXIT_POWEROFF, "ok     expect-not instead of" },
	{ "a_mistake_is_named_before_anything_is_started", "{\"wait\": 1}",
	    EXIT_USAGE, "step 1: wait: not a string" },
};

static void
ends_as_documented(void)
{
	static struct vm_run r;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		vm_start(&r, 90,
		    "f=$(mktemp); trap 'rm -f $f' EXIT; echo '{%s, \"steps\": "
		    "[%s]}' >$f; vmmctl/vmmctl scenario $f",
		    VM, cases[i].steps);
		vm_finish(&r, 1);
		CU_ASSERT(
		    vm_ended(&r, cases[i].claim, cases[i].code, cases[i].says));
		CU_ASSERT_EQUAL(vm_left_behind(10000), 0);
	}
}

static void
a_machine_that_does_not_start_says_why(void)
{
	static struct vm_run r;

	vm_start(&r, 60,
	    "f=$(mktemp); trap 'rm -f $f' EXIT; echo '{\"vm\": {\"kernel\": "
	    "\"/nonexistent\"}, \"steps\": []}' >$f; vmmctl/vmmctl scenario "
	    "$f --json /dev/stderr");
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(&r, "start", EXIT_ERROR,
	    "exit code 6: vmmctl: --kernel /nonexistent: No such file"));
	CU_ASSERT_PTR_NOT_NULL(strstr(r.text, "\"passed\": false"));
}

static const struct named_test tests[] = {
	NAMED_TEST(ends_as_documented),
	NAMED_TEST(a_machine_that_does_not_start_says_why),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "guests/experiment.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_scenario", tests, ARRAY_LEN(tests));
}
