/* Hot upgrades of a VM's devices under load. */
#include "tests/experiment.h"

/* It goes on, and was never told anything wrong. */
static bool
lives(void)
{
	return counts_on() && strstr(vm.text, "instead of") == NULL;
}

/* The longest of the pauses that the tool printed; 0: none. */
static unsigned
longest_pause(unsigned *count)
{
	unsigned longest = 0, us;

	*count = 0;
	for (const char *at = tool.text;
	     (at = strstr(at, "paused for ")) != NULL; at++)
		if (sscanf(at, "paused for %u us", &us) == 1) {
			++*count;
			longest = MAX(longest, us);
		}
	return longest;
}

static int
compare(const void *a, const void *b)
{
	const unsigned *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* ---- the tests ---- */

static void
all_devices_are_upgraded_under_load(void)
{
	static const char *const devices[] = { "serial", "rtc", "i8042",
		"acpi-pm", "rng0", "console0", "balloon0" };
	char expected[64];
	unsigned n;

	if (!start_vm("--rng --virtio-console --balloon=size=4M"))
		return;
	for (unsigned round = 0; round < 3; round++) {
		CU_ASSERT_EQUAL(tell("upgrade", "--all"), EXIT_POWEROFF);
		for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
			snprintf(expected, sizeof(expected), "%s: build ",
			    devices[i]);
			CU_ASSERT_PTR_NOT_NULL(strstr(tool.text, expected));
		}
		printf("\n    longest pause %u us of ", longest_pause(&n));
		printf("%u devices", n);
		CU_ASSERT(n >= ARRAY_LEN(devices));
		CU_ASSERT(lives());
	}
	CU_ASSERT_PTR_NULL(strstr(vm.text, "died"));
	/* They are as good as any: they die and come back. */
	CU_ASSERT_EQUAL(tell("kill", "rtc"), EXIT_POWEROFF);
	CU_ASSERT(lives());
	printf("\n  ");
	stop_vm();
}

static void
pauses_are_short(void)
{
	unsigned pause[60], n = 0, count;

	if (!start_vm(""))
		return;
	for (unsigned i = 0; i < ARRAY_LEN(pause); i++) {
		if (tell("upgrade", "rtc") != EXIT_POWEROFF)
			continue;
		pause[n++] = longest_pause(&count);
		vm_step(&vm, 1);
	}
	CU_ASSERT_EQUAL(n, ARRAY_LEN(pause));
	qsort(pause, n, sizeof(pause[0]), compare);
	if (n > 0)
		printf("p50 %u us, longest of %u: %u us ", pause[n / 2], n,
		    pause[n - 1]);
	CU_ASSERT(lives());
	stop_vm();
}

static void
another_program_takes_over_and_stays(void)
{
	if (!start_vm(""))
		return;
	CU_ASSERT_EQUAL(
	    tell("upgrade", "acpi-pm --program devhost/devhost"), 0);
	CU_ASSERT(lives());
	/* The program is what a later life has too. */
	CU_ASSERT_EQUAL(tell("kill", "acpi-pm"), 0);
	CU_ASSERT(lives());
	stop_vm();
}

static void
a_state_of_the_next_version_is_made_of_the_present_one(void)
{
	if (!start_vm(""))
		return;
	CU_ASSERT_EQUAL(
	    tell("upgrade", "rtc --program tests/next_devhost"), EXIT_POWEROFF);
	CU_ASSERT(
	    vm_ended(&tool, "the version", EXIT_POWEROFF, "state version 2"));
	CU_ASSERT(lives());
	for (unsigned i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(tell("kill", "rtc"), 0);
		CU_ASSERT(lives());
	}
	/* And again, now that nothing is to be converted. */
	CU_ASSERT_EQUAL(tell("upgrade", "rtc --program tests/next_devhost"), 0);
	CU_ASSERT(lives());
	/* There is no way back: version 1 does not know version 2. */
	CU_ASSERT_EQUAL(
	    tell("upgrade", "rtc --program devhost/devhost"), EXIT_ERROR);
	CU_ASSERT_PTR_NOT_NULL(strstr(tool.text, "it cannot convert"));
	CU_ASSERT(lives());
	stop_vm();
}

static void
a_program_that_refuses_leaves_the_old_one(void)
{
	static const struct {
		const char *arguments, *says;
		int code;
	} cases[] = {
		{ "rtc --program /bin/true", "the new program: exit status 0",
		    EXIT_ERROR },
		{ "rtc --program /bin/sleep", "the new program: ", EXIT_ERROR },
		{ "rtc --program guests/experiment.elf", "", EXIT_ERROR },
		{ "i8042 --program tests/next_devhost", "it cannot convert",
		    EXIT_ERROR },
		{ "serial --program tests/next_devhost", "the old one goes on",
		    EXIT_ERROR },
		{ "nosuch", "no device nosuch", EXIT_NO_VM },
		{ "rtc --program /nonexistent", "--program /nonexistent: No",
		    EXIT_USAGE },
		{ "rtc --all", "usage: vmmctl upgrade", EXIT_USAGE },
	};

	if (!start_vm(""))
		return;
	for (unsigned round = 0; round < 2; round++)
		for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
			tell("upgrade", cases[i].arguments);
			CU_ASSERT(vm_ended(&tool, cases[i].arguments,
			    cases[i].code, cases[i].says));
			CU_ASSERT(lives());
		}
	CU_ASSERT_EQUAL(tell("upgrade", "--all"), EXIT_POWEROFF);
	CU_ASSERT(lives());
	stop_vm();
}

static void
an_inline_device_is_not_upgraded(void)
{
	if (!start_vm("--placement rtc=inline"))
		return;
	tell("upgrade", "rtc");
	CU_ASSERT(vm_ended(&tool, "inline", EXIT_ERROR, "it is inline"));
	CU_ASSERT_EQUAL(tell("upgrade", "--all"), EXIT_POWEROFF);
	CU_ASSERT(lives());
	stop_vm();
}

static const struct named_test tests[] = {
	NAMED_TEST(all_devices_are_upgraded_under_load),
	NAMED_TEST(pauses_are_short),
	NAMED_TEST(another_program_takes_over_and_stays),
	NAMED_TEST(a_state_of_the_next_version_is_made_of_the_present_one),
	NAMED_TEST(a_program_that_refuses_leaves_the_old_one),
	NAMED_TEST(an_inline_device_is_not_upgraded),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"vmmd/vmmd-inline", "devhost/devhost", "tests/next_devhost",
		"guests/experiment.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_upgrade", tests, ARRAY_LEN(tests));
}
