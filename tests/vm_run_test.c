/* Whole VMs, by vmmctl: what a user sees of runs, deaths and ends. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/exitcodes.h"
#include "tests/named_tests.h"

/* The build folder: this program is in its tests/. */
static char build[PATH_MAX / 2];

struct result {
	int code; /* exit status; -1: a signal, or it did not run */
	char text[16384]; /* both outputs */
};

static FILE *
start(const char *arguments)
{
	char command[PATH_MAX];

	/* Nothing may hang the tests for ever. */
	snprintf(command, sizeof(command),
	    "cd %s && exec timeout 60 vmmctl/vmmctl %s </dev/null 2>&1", build,
	    arguments);
	return popen(command, "r");
}

static void
finish(FILE *f, struct result *r)
{
	size_t n = fread(r->text, 1, sizeof(r->text) - 1, f);
	int status;

	r->text[n] = '\0';
	status = pclose(f);
	r->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct result *
run(const char *arguments)
{
	static struct result r;
	FILE *f = start(arguments);

	r.code = -1;
	if (f != NULL)
		finish(f, &r);
	return &r;
}

static void
milliseconds(long n)
{
	const struct timespec ts = { n / 1000, n % 1000 * 1000000 };

	nanosleep(&ts, NULL);
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
		struct result *r = run(cases[i].arguments);
		bool right = r->code == cases[i].code &&
		    strstr(r->text, cases[i].says) != NULL;

		if (!right)
			printf("%s: exit %d\n%s\n", cases[i].claim, r->code,
			    r->text);
		CU_ASSERT(right);
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
	static struct result r;
	unsigned killed = 0;
	char arguments[256], *at;
	FILE *f;

	snprintf(arguments, sizeof(arguments), BUSY_GUEST " --name kills-%d",
	    (int)getpid());
	f = start(arguments);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	milliseconds(300);
	for (unsigned i = 0; i < 25; i++) {
		snprintf(arguments, sizeof(arguments), "kill kills-%d %s",
		    (int)getpid(), devices[i % ARRAY_LEN(devices)]);
		if (run(arguments)->code == EXIT_POWEROFF)
			killed++;
		milliseconds(60);
	}
	finish(f, &r);
	CU_ASSERT(killed > 0);
	CU_ASSERT_EQUAL(r.code, EXIT_POWEROFF);
	/* Each line once, in order, and between them only those of gaps. */
	at = strstr(r.text, "recover: measuring\n");
	CU_ASSERT_EQUAL(at, r.text);
	at = strstr(r.text, "recover: go\n");
	CU_ASSERT(at != NULL && strstr(at + 1, "recover: go\n") == NULL);
	at = strstr(r.text, "recover: end\n");
	CU_ASSERT(at != NULL && at[strlen("recover: end\n")] == '\0');
	if (r.code != EXIT_POWEROFF)
		printf("exit %d\n%s\n", r.code, r.text);
}

static void
a_detached_vm_answers_and_stops(void)
{
	char arguments[256], name[64];
	struct result *r;

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
		milliseconds(100);
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
	ssize_t n = readlink("/proc/self/exe", build, sizeof(build) - 1);
	char path[PATH_MAX];

	if (n < 0)
		return 1;
	build[n] = '\0';
	for (unsigned i = 0; i < 2; i++)
		*strrchr(build, '/') = '\0';
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		snprintf(path, sizeof(path), "%s/%s", build, needed[i]);
		if (access(path, R_OK) < 0) {
			printf("skipped: %s is not built\n", needed[i]);
			return 77;
		}
	}
	return named_tests_run("vm_run", tests, ARRAY_LEN(tests));
}
