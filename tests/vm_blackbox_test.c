/* Black boxes of whole VMs: written, bounded, shown, replayed. */
#include <sys/stat.h>

#include "tests/experiment.h"

static char folder[64];

static bool
start_recorded(const char *options)
{
	char all[128];

	snprintf(folder, sizeof(folder), "/tmp/blackbox-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return false;
	snprintf(all, sizeof(all), "--blackbox %s %s", folder, options);
	return start_vm(all);
}

/* How many there are, and the last of them. */
static unsigned
find_boxes(char path[512])
{
	char newest[256] = "";
	DIR *d = opendir(folder);
	struct dirent *e;
	unsigned n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		if (strcmp(e->d_name, newest) > 0)
			snprintf(newest, sizeof(newest), "%s", e->d_name);
	}
	if (d != NULL)
		closedir(d);
	snprintf(path, 512, "%s/%s", folder, newest);
	return n;
}

static bool
await_boxes(unsigned least, char path[512])
{
	for (unsigned i = 0; i < 500; i++) {
		if (find_boxes(path) >= least)
			return true;
		vm_step(&vm, 1);
		vm_sleep_ms(10);
	}
	return false;
}

/* Not through the broker: nobody ordered it. */
static bool
kill_from_outside(const char *device)
{
	char wanted[64];
	const char *at;
	int pid;

	snprintf(wanted, sizeof(wanted), "\"name\": \"%s\"", device);
	if (tell("devices", "--format json") != 0) {
		printf("devices: %s\n", tool.text);
		return false;
	}
	at = strstr(tool.text, wanted);
	at = at == NULL ? NULL : strstr(at, "\"pid\":");
	return at != NULL && sscanf(at, "\"pid\": %d", &pid) == 1 && pid > 0 &&
	    kill(pid, SIGKILL) == 0;
}

static void
remove_folder(void)
{
	vm_start(&tool, 60, "rm -r %s", folder);
	vm_finish(&tool, 1);
}

/* ---- the tests ---- */

static void
a_death_leaves_a_box_that_is_shown_and_replayed(void)
{
	static const char *const shown[] = { "device     rtc (type rtc) of VM ",
		"exit status 8: a fault made on purpose", "<- not done",
		"region     0 cmos at 0x70", "kill           write",
		"(DATA) = 0x" };
	char path[512];
	struct stat st;

	if (!start_recorded(""))
		return;
	CU_ASSERT_EQUAL(
	    tell("fault", "rtc kill on=write address=1 after=10"), 0);
	CU_ASSERT(await_boxes(1, path));
	stop_vm();
	CU_ASSERT_EQUAL(find_boxes(path), 1);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
	vm_start(&tool, 60, "exec vmmctl/vmmctl blackbox show %s", path);
	vm_finish(&tool, 1);
	CU_ASSERT_EQUAL(tool.code, EXIT_POWEROFF);
	for (size_t i = 0; i < ARRAY_LEN(shown); i++)
		CU_ASSERT_PTR_NOT_NULL(strstr(tool.text, shown[i]));
	vm_start(&tool, 60, "exec devhost/devhost --replay %s", path);
	vm_finish(&tool, 1);
	CU_ASSERT(
	    vm_ended(&tool, "it dies of the same request", 8, "cmos+0x1"));
	remove_folder();
}

static void
a_signal_from_outside_leaves_a_box_and_an_order_does_not(void)
{
	char path[512];

	if (!start_recorded(""))
		return;
	CU_ASSERT_EQUAL(tell("kill", "rtc"), 0);
	vm_await(&vm, "running again after", 10000);
	CU_ASSERT_EQUAL(find_boxes(path), 0);
	CU_ASSERT(kill_from_outside("serial"));
	CU_ASSERT(await_boxes(1, path));
	stop_vm();
	vm_start(&tool, 60, "exec vmmctl/vmmctl blackbox show %s", path);
	vm_finish(&tool, 1);
	CU_ASSERT(vm_ended(
	    &tool, "the signal is named", EXIT_POWEROFF, "signal 9 (Killed)"));
	vm_start(&tool, 60, "exec devhost/devhost --replay %s", path);
	vm_finish(&tool, 1);
	CU_ASSERT(
	    vm_ended(&tool, "there is no crash to find", 0, "it did not die"));
	remove_folder();
}

static void
a_device_that_dies_again_and_again_does_not_fill_the_disk(void)
{
	unsigned killed = 0;
	char path[512];

	if (!start_recorded("--device rtc,policy=restart"))
		return;
	for (unsigned i = 0; i < 90; i++) {
		killed += kill_from_outside("rtc");
		vm_step(&vm, 1);
		vm_sleep_ms(25);
	}
	CU_ASSERT(await_boxes(30, path));
	printf("%u deaths, %u boxes ", killed, find_boxes(path));
	CU_ASSERT(find_boxes(path) <= 64);
	stop_vm();
	remove_folder();
}

static void
without_the_option_there_is_nothing(void)
{
	vm_start(&tool, 60,
	    "exec vmmctl/vmmctl run --kernel guests/hello.elf --hypervisor "
	    "soft --blackbox /nonexistent/folder");
	vm_finish(&tool, 1);
	CU_ASSERT(vm_ended(&tool, "the folder is named", EXIT_ERROR,
	    "--blackbox /nonexistent/folder: No such file"));
	vm_start(
	    &tool, 60, "exec vmmctl/vmmctl blackbox show guests/hello.elf");
	vm_finish(&tool, 1);
	CU_ASSERT(vm_ended(&tool, "what is no box is said to be none",
	    EXIT_INPUT, "it is no black box"));
}

static const struct named_test tests[] = {
	NAMED_TEST(a_death_leaves_a_box_that_is_shown_and_replayed),
	NAMED_TEST(a_signal_from_outside_leaves_a_box_and_an_order_does_not),
	NAMED_TEST(a_device_that_dies_again_and_again_does_not_fill_the_disk),
	NAMED_TEST(without_the_option_there_is_nothing),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "guests/experiment.elf",
		"guests/hello.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_blackbox", tests, ARRAY_LEN(tests));
}
