/*
 * VMs with a device host that misbehaves: the VM goes on, or it ends as
 * documented with words that name the device; nothing is left of it.
 */
#include <sys/stat.h>

#include "tests/named_tests.h"
#include "tests/vm.h"

#define HELLO  "hello from a guest"
#define ALWAYS 1000

struct hostile {
	const char *claim, *type, *behaviour;
	int first, end; /* the starts that misbehave */
	int code;
	const char *says;
	unsigned seconds;
};

/* Those that are seen at once. */
static const struct hostile quick[] = {
	{ "one_that_dies_at_start_up_is_tried_again", "serial", "die", 0, 2,
	    EXIT_POWEROFF, HELLO, 20 },
	{ "one_that_always_dies_is_named", "rtc", "die", 0, ALWAYS, EXIT_ERROR,
	    "device rtc: exit status 1", 20 },
	{ "one_that_crashes_is_named", "rtc", "crash", 0, ALWAYS, EXIT_ERROR,
	    "device rtc: signal", 20 },
	{ "garbage_is_refused", "i8042", "garbage", 0, ALWAYS, EXIT_ERROR,
	    "device i8042: signal 9 (Killed): broke the control protocol", 20 },
	{ "garbage_once_is_got_over", "i8042", "garbage", 0, 1, EXIT_POWEROFF,
	    HELLO, 20 },
	{ "an_empty_message_is_no_message", "rtc", "nothing", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: ", 20 },
	{ "an_oversized_message_is_refused", "rtc", "oversized", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): broke the control",
	    20 },
	{ "fds_that_nobody_wants_are_refused", "rtc", "fds", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): broke the control",
	    20 },
	{ "ready_before_hello_is_refused", "rtc", "ready-first", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): broke the control",
	    20 },
	{ "the_brokers_words_are_refused", "rtc", "brokers-word", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): broke the control",
	    20 },
	{ "one_that_hangs_up_is_killed", "rtc", "close", 0, ALWAYS, EXIT_ERROR,
	    "device rtc: signal 9 (Killed): it closed its channel", 20 },
	{ "another_type_is_refused", "rtc", "other-type", 0, ALWAYS, EXIT_ERROR,
	    "device rtc: signal 9 (Killed): it says it is of another", 20 },
	{ "a_range_that_ends_nowhere_is_refused", "rtc", "range", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): region", 20 },
	{ "a_size_that_cannot_be_is_refused", "rtc", "size", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): a size is out", 20 },
	{ "an_interrupt_that_is_not_there_is_refused", "rtc", "irq", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): interrupt 4000", 20 },
	{ "a_name_that_is_none_is_refused", "rtc", "name", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): the region's name",
	    20 },
	{ "registers_of_another_device_are_not_given", "rtc", "overlap", 0,
	    ALWAYS, EXIT_USAGE, "rtc", 20 },
	{ "the_loader_is_tried_again", "loader", "die", 0, 1, EXIT_POWEROFF,
	    HELLO, 20 },
	{ "a_loader_that_crashes_is_tried_again", "loader", "crash", 0, 1,
	    EXIT_POWEROFF, HELLO, 20 },
	{ "a_loader_that_always_dies_is_named", "loader", "die", 0, ALWAYS,
	    EXIT_ERROR, "loader: exit status 1", 20 },
	{ "a_loader_that_talks_garbage_is_named", "loader", "garbage", 0,
	    ALWAYS, EXIT_ERROR, "loader: signal 9 (Killed): broke", 20 },
	{ "an_impossible_entry_state_is_refused", "loader", "entry", 0, ALWAYS,
	    EXIT_INPUT, "the image's entry state is refused", 20 },
};

/* Those that are found out while the VM runs. */
static const struct hostile running[] = {
	{ "one_that_dies_when_ready_is_started_again", "serial", "die-ready", 0,
	    1, EXIT_POWEROFF, HELLO, 30 },
	{ "an_impossible_tail_is_got_over", "serial", "tail", 0, 1,
	    EXIT_POWEROFF, HELLO, 30 },
	{ "scribbled_rings_are_got_over", "serial", "rings", 0, 1,
	    EXIT_POWEROFF, HELLO, 30 },
	{ "one_that_hangs_is_killed", "serial", "hang", 0, 1, EXIT_POWEROFF,
	    HELLO, 30 },
	{ "one_that_loops_is_killed", "serial", "spin", 0, 1, EXIT_POWEROFF,
	    HELLO, 30 },
	{ "a_flood_of_logs_is_got_over", "serial", "flood", 0, 1, EXIT_POWEROFF,
	    HELLO, 30 },
	{ "a_flood_of_another_device_is_no_matter", "rtc", "flood", 0, ALWAYS,
	    EXIT_POWEROFF, HELLO, 30 },
	{ "garbage_when_running_is_got_over", "serial", "garbage-ready", 0, 1,
	    EXIT_POWEROFF, HELLO, 30 },
	{ "an_unknown_event_is_got_over", "serial", "event", 0, 1,
	    EXIT_POWEROFF, HELLO, 30 },
};

/* Those that take their time, by the deadlines of vmmd/supervisor.h. */
static const struct hostile slow[] = {
	{ "one_that_says_nothing_is_named", "rtc", "silent", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): it was not ready", 40 },
	{ "one_that_is_never_ready_is_named", "rtc", "never-ready", 0, ALWAYS,
	    EXIT_ERROR, "device rtc: signal 9 (Killed): it was not ready", 40 },
	{ "one_that_was_silent_once_is_got_over", "rtc", "silent", 0, 1,
	    EXIT_POWEROFF, HELLO, 40 },
	{ "one_that_always_hangs_is_removed", "serial", "hang", 0, ALWAYS,
	    EXIT_POWEROFF, "serial: removed: ", 50 },
};

struct stage {
	char folder[64];
};

static void
write_file(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
	/* The device's process has a uid of its own. */
	chmod(path, 0666);
}

/* A folder of programs, in which one device host is not what it should be. */
static void
set_stage(struct stage *s, const char *type, const char *behaviour, int first,
    int end)
{
	char command[3 * PATH_MAX], line[128];

	snprintf(s->folder, sizeof(s->folder), "/tmp/bulkhead-hostile-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->folder));
	chmod(s->folder, 0755);
	snprintf(
	    line, sizeof(line), "%s %s %d %d\n", type, behaviour, first, end);
	write_file(s->folder, "hostile", line);
	write_file(s->folder, "starts", "0");
	snprintf(command, sizeof(command),
	    "cd %s && cp tests/hostile_devhost %s/devhost && "
	    "cp devhost/devhost %s/devhost.real && "
	    "ln -s %s/vmmd/vmmd %s/vmmd",
	    vm_build, s->folder, s->folder, vm_build, s->folder);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
}

static void
clear_stage(struct stage *s)
{
	static const char *const names[] = { "hostile", "starts", "devhost",
		"devhost.real", "vmmd" };
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", s->folder, names[i]);
		unlink(path);
	}
	rmdir(s->folder);
}

#define TOGETHER 4u

static void
run_cases(const struct hostile *cases, unsigned count)
{
	static struct stage stages[TOGETHER];
	static struct vm_run runs[TOGETHER];
	unsigned fds = vm_count_fds();
	char name[32];

	for (unsigned at = 0; at < count; at += TOGETHER) {
		unsigned n = MIN(TOGETHER, count - at);

		for (unsigned i = 0; i < n; i++) {
			const struct hostile *c = &cases[at + i];

			set_stage(&stages[i], c->type, c->behaviour, c->first,
			    c->end);
			vm_start(&runs[i], c->seconds,
			    "BULKHEAD_LIBEXEC=%s exec vmmctl/vmmctl run "
			    "--hypervisor soft --kernel guests/hello.elf "
			    "--name hostile-%d-%u",
			    stages[i].folder, (int)getpid(), at + i);
		}
		vm_finish(runs, n);
		for (unsigned i = 0; i < n; i++) {
			const struct hostile *c = &cases[at + i];

			CU_ASSERT(
			    vm_ended(&runs[i], c->claim, c->code, c->says));
			clear_stage(&stages[i]);
		}
		CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
	}
	CU_ASSERT_EQUAL(vm_count_fds(), fds);
	snprintf(name, sizeof(name), "hostile-%d-", (int)getpid());
	CU_ASSERT_FALSE(vm_has_socket(name));
}

static void
bad_starts_are_tried_again_or_named(void)
{
	run_cases(quick, ARRAY_LEN(quick));
}

static void
a_running_vm_goes_on(void)
{
	run_cases(running, ARRAY_LEN(running));
}

static void
deadlines_are_kept(void)
{
	run_cases(slow, ARRAY_LEN(slow));
}

/* Those that a killed device comes back as, while the guest uses it. */
static const struct {
	const char *claim, *behaviour, *says;
} returns[] = {
	{ "another_shape_is_removed", "shape",
	    "serial: removed: signal 9 (Killed): it came back with another" },
	{ "guest_memory_is_not_given_later", "dma",
	    "serial: removed: signal 9 (Killed): it came back with another" },
	{ "impossible_positions_are_removed", "positions",
	    "its store says what cannot be" },
	{ "a_scribbled_store_is_removed", "store", "serial: removed: " },
	{ "one_that_never_comes_back_is_removed", "die",
	    "serial: removed: exit status 1" },
};

static void
a_device_that_comes_back_wrong_is_removed(void)
{
	static struct vm_run runs[ARRAY_LEN(returns)], kill;
	static struct stage stages[ARRAY_LEN(returns)];

	for (unsigned i = 0; i < ARRAY_LEN(returns); i++) {
		set_stage(
		    &stages[i], "serial", returns[i].behaviour, 1, ALWAYS);
		vm_start(&runs[i], 60,
		    "BULKHEAD_LIBEXEC=%s exec vmmctl/vmmctl run "
		    "--hypervisor soft --kernel guests/bench_recover.elf "
		    "--name hostile-%d-%u",
		    stages[i].folder, (int)getpid(), i);
	}
	for (unsigned i = 0; i < ARRAY_LEN(returns); i++) {
		CU_ASSERT(vm_await(&runs[i], "measuring", 20000));
		vm_start(&kill, 20,
		    "exec vmmctl/vmmctl kill hostile-%d-%u serial",
		    (int)getpid(), i);
		vm_finish(&kill, 1);
		CU_ASSERT_EQUAL(kill.code, EXIT_POWEROFF);
	}
	vm_finish(runs, ARRAY_LEN(runs));
	for (unsigned i = 0; i < ARRAY_LEN(returns); i++) {
		CU_ASSERT(vm_ended(&runs[i], returns[i].claim, EXIT_POWEROFF,
		    returns[i].says));
		clear_stage(&stages[i]);
	}
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static const struct named_test tests[] = {
	NAMED_TEST(bad_starts_are_tried_again_or_named),
	NAMED_TEST(a_running_vm_goes_on),
	NAMED_TEST(deadlines_are_kept),
	NAMED_TEST(a_device_that_comes_back_wrong_is_removed),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "tests/hostile_devhost", "guests/hello.elf",
		"guests/bench_recover.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_hostile", tests, ARRAY_LEN(tests));
}
