/* Whole VMs, by vmmctl: what a user sees of runs, deaths and ends. */
#include "tests/named_tests.h"
#include "tests/vm.h"

/* Run vmmctl to its end. */
static const struct vm_run *
run(const char *arguments)
{
	static struct vm_run r;

	vm_start(&r, 60, "exec vmmctl/vmmctl %s", arguments);
	vm_finish(&r, 1);
	return &r;
}

static const struct {
	const char *claim, *arguments;
	int code;
	const char *says;
} cases[] = {
	{ "a_guest_powers_off",
	    "run --hypervisor soft --kernel guests/hello.elf", EXIT_POWEROFF,
	    "hello from a guest" },
	{ "a_guest_runs_with_inline_devices",
	    "run --hypervisor soft --kernel guests/hello.elf "
	    "--placement serial=inline --placement acpi-pm=inline",
	    EXIT_POWEROFF, "hello from a guest" },
	{ "a_guest_has_more_vcpus_than_it_uses",
	    "run --hypervisor soft --cpus 4 --kernel guests/hello.elf",
	    EXIT_POWEROFF, "hello from a guest" },
	{ "a_file_that_is_no_kernel_is_refused",
	    "run --hypervisor soft --kernel tests/../vmmd/vmmd_main.d",
	    EXIT_INPUT, "loader" },
	{ "a_missing_kernel_is_named", "run --kernel /nonexistent", EXIT_INPUT,
	    "--kernel /nonexistent: No such file" },
	{ "an_unknown_option_is_a_usage_error", "run --bogus", EXIT_USAGE,
	    "unknown option --bogus" },
	{ "an_unknown_vm_is_named", "devices nobody", EXIT_NO_VM,
	    "no VM nobody is running" },
	{ "the_layout_names_the_devices", "layout", EXIT_POWEROFF, "serial" },
};

static void
ends_as_documented(void)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct vm_run *r = run(cases[i].arguments);

		CU_ASSERT(
		    vm_ended(r, cases[i].claim, cases[i].code, cases[i].says));
	}
}

/* The guest reads a register without pause for some seconds. */
#define BUSY_GUEST \
	"run --hypervisor soft --quiet --kernel guests/bench_recover.elf"

static void
no_output_is_lost_when_devices_are_killed(void)
{
	static const char *const devices[] = { "serial", "acpi-pm", "rtc",
		"i8042", "serial" };
	static struct vm_run r;
	unsigned killed = 0;
	char arguments[256], *at;

	vm_start(&r, 60, "exec vmmctl/vmmctl " BUSY_GUEST " --name kills-%d",
	    (int)getpid());
	CU_ASSERT(vm_await(&r, "measuring", 20000));
	for (unsigned i = 0; i < 25; i++) {
		snprintf(arguments, sizeof(arguments), "kill kills-%d %s",
		    (int)getpid(), devices[i % ARRAY_LEN(devices)]);
		if (run(arguments)->code == EXIT_POWEROFF)
			killed++;
		vm_sleep_ms(60);
		vm_step(&r, 1);
	}
	vm_finish(&r, 1);
	CU_ASSERT(killed > 0);
	CU_ASSERT_EQUAL(r.code, EXIT_POWEROFF);
	/* Each line once, in order, and between them only those of gaps. */
	at = strstr(r.text, "recover: measuring\n");
	CU_ASSERT_EQUAL(at, r.text);
	at = strstr(r.text, "recover: go\n");
	CU_ASSERT(at != NULL && strstr(at + 1, "recover: go\n") == NULL);
	at = strstr(r.text, "recover: end\n");
	CU_ASSERT(at != NULL && at[strlen("recover: end\n")] == '\0');
	if (r.code != EXIT_POWEROFF || at == NULL ||
	    at[strlen("recover: end\n")] != '\0')
		printf("exit %d\n%s\n", r.code, r.text);
}

static void
a_detached_vm_answers_and_stops(void)
{
	char arguments[256], name[64];
	const struct vm_run *r;

	snprintf(name, sizeof(name), "detached-%d", (int)getpid());
	snprintf(arguments, sizeof(arguments), BUSY_GUEST " --detach --name %s",
	    name);
	CU_ASSERT_EQUAL_FATAL(run(arguments)->code, EXIT_POWEROFF);
	r = run("ps");
	CU_ASSERT_EQUAL(r->code, EXIT_POWEROFF);
	CU_ASSERT_PTR_NOT_NULL(strstr(r->text, name));
	snprintf(
	    arguments, sizeof(arguments), "devices %s --format json", name);
	r = run(arguments);
	CU_ASSERT_EQUAL(r->code, EXIT_POWEROFF);
	CU_ASSERT_PTR_NOT_NULL(strstr(r->text, "\"name\": \"serial\""));
	snprintf(arguments, sizeof(arguments), "kill %s nosuch", name);
	CU_ASSERT_EQUAL(run(arguments)->code, EXIT_NO_VM);
	snprintf(arguments, sizeof(arguments), "shutdown %s --force", name);
	CU_ASSERT_EQUAL(run(arguments)->code, EXIT_POWEROFF);
	/* It takes its time to end, but it ends. */
	for (unsigned i = 0; i < 100; i++) {
		r = run("ps");
		if (strstr(r->text, name) == NULL)
			return;
		vm_sleep_ms(100);
	}
	CU_FAIL("it is still there");
}

static const struct named_test tests[] = {
	NAMED_TEST(ends_as_documented),
	NAMED_TEST(no_output_is_lost_when_devices_are_killed),
	NAMED_TEST(a_detached_vm_answers_and_stops),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"vmmd/vmmd-inline", "devhost/devhost", "guests/hello.elf",
		"guests/bench_recover.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_run", tests, ARRAY_LEN(tests));
}
