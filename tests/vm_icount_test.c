/* Time by instructions: runs that are the same, whatever the host does. */
#include "tests/named_tests.h"
#include "tests/vm.h"

#define RUNS	 4u
#define GUEST	 "--kernel guests/same.elf"
#define RUN_TEXT 160u

static struct vm_run runs[RUNS];

/* "N instructions, M accesses, hash H" of a run; "" if it does not say so. */
static const char *
counted(const struct vm_run *r)
{
	static char line[RUNS][RUN_TEXT];
	static unsigned turn;
	char *out = line[turn++ % RUNS];
	const char *at = strstr(r->text, "icount: ");

	snprintf(out, RUN_TEXT, "%.*s", at != NULL ? (int)strcspn(at, "\n") : 0,
	    at != NULL ? at : "");
	return out;
}

/* What the guest printed begins here. */
static const char *
printed(const struct vm_run *r)
{
	const char *at = strstr(r->text, "0: tsc");

	return at != NULL ? at : "";
}

static void
start(struct vm_run *r, const char *option)
{
	vm_start(r, 120,
	    "exec vmmctl/vmmctl run --verbose --hypervisor soft %s " GUEST,
	    option);
}

/* Keeps a processor busy until it is killed. */
static pid_t
make_load(void)
{
	pid_t pid = fork();

	while (pid == 0)
		cpu_relax();
	return pid;
}

static void
end_load(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Some at a time, beside each other and beside a load, and one alone. */
static void
runs_are_the_same_to_the_instruction(void)
{
	pid_t load[2] = { make_load(), make_load() };

	for (unsigned i = 1; i < RUNS; i++)
		start(&runs[i], "--icount");
	vm_finish(runs + 1, RUNS - 1);
	for (unsigned i = 0; i < ARRAY_LEN(load); i++)
		end_load(load[i]);
	start(&runs[0], "--icount --wait-policy density");
	vm_finish(runs, 1);
	for (unsigned i = 0; i < RUNS; i++) {
		CU_ASSERT(
		    vm_ended(&runs[i], "same.elf", EXIT_POWEROFF, "59: tsc"));
		CU_ASSERT_NOT_EQUAL(counted(&runs[i])[0], '\0');
		CU_ASSERT_STRING_EQUAL(counted(&runs[i]), counted(&runs[0]));
		CU_ASSERT_NOT_EQUAL(strlen(printed(&runs[0])), 0);
		CU_ASSERT_EQUAL(strncmp(printed(&runs[i]), printed(&runs[0]),
				    strcspn(printed(&runs[0]), "v")),
		    0);
	}
	printf(" %s ", counted(&runs[0]));
}

static void
another_speed_is_another_run(void)
{
	start(&runs[0], "--icount");
	start(&runs[1], "--icount=100");
	vm_finish(runs, 2);
	for (unsigned i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(runs[i].code, EXIT_POWEROFF);
		CU_ASSERT_NOT_EQUAL(counted(&runs[i])[0], '\0');
	}
	CU_ASSERT_STRING_NOT_EQUAL(counted(&runs[0]), counted(&runs[1]));
}

/* One that does not count differs from run to run, and says nothing. */
static void
without_the_option_nothing_is_counted(void)
{
	start(&runs[0], "");
	vm_finish(runs, 1);
	CU_ASSERT(vm_ended(&runs[0], "same.elf", EXIT_POWEROFF, "59: tsc"));
	CU_ASSERT_EQUAL(counted(&runs[0])[0], '\0');
}

static void
what_cannot_be_counted_is_refused(void)
{
	start(&runs[0], "--icount --cpus 2");
	start(&runs[1], "--icount --placement serial=inline");
	vm_finish(runs, 2);
	CU_ASSERT(
	    vm_ended(&runs[0], "two vCPUs", EXIT_USAGE, "only with one vCPU"));
	CU_ASSERT(vm_ended(&runs[1], "an inline device", EXIT_USAGE,
	    "inline placement does not go with icount"));
}

static const struct named_test tests[] = {
	NAMED_TEST(runs_are_the_same_to_the_instruction),
	NAMED_TEST(another_speed_is_another_run),
	NAMED_TEST(without_the_option_nothing_is_counted),
	NAMED_TEST(what_cannot_be_counted_is_refused),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"vmmd/vmmd-inline", "devhost/devhost", "guests/same.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_icount", tests, ARRAY_LEN(tests));
}
