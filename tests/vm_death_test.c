/* The processes of a VM: whose they are, and what is left when one is killed. */
#include <sys/stat.h>

#include "tests/named_tests.h"
#include "tests/vm.h"

#define BUSY                                                         \
	"exec vmmctl/vmmctl run --hypervisor soft --quiet --kernel " \
	"guests/bench_recover.elf "

/* Real, effective, saved and file system id; false if they are not the same. */
static bool
read_id(pid_t pid, const char *which, unsigned *id)
{
	char path[64], line[256];
	unsigned ids[4];
	bool right = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, which, 4) == 0 &&
		    sscanf(line + 4, "%u %u %u %u", &ids[0], &ids[1], &ids[2],
			&ids[3]) == 4) {
			*id = ids[0];
			right = ids[0] == ids[1] && ids[0] == ids[2] &&
			    ids[0] == ids[3];
		}
	if (f != NULL)
		fclose(f);
	return right;
}

/* ---- the tests ---- */

static const char *const types[] = { "serial", "rtc", "i8042", "acpi-pm" };

static bool
has_all_uids(void)
{
	char line[64];
	unsigned in, out, n = 0;
	FILE *f = fopen("/proc/self/uid_map", "re");

	if (f == NULL)
		return false;
	if (fgets(line, sizeof(line), f) == NULL ||
	    sscanf(line, "%u %u %u", &in, &out, &n) != 3)
		n = 0;
	fclose(f);
	return geteuid() == 0 && n > 0x71000000u;
}

static void
each_device_has_a_uid_of_its_own(void)
{
	static struct vm_run r;
	unsigned uid[ARRAY_LEN(types)], gid, again;
	pid_t pid[ARRAY_LEN(types)], broker, next;

	vm_start(&r, 30, BUSY "--name uid-%d", (int)getpid());
	CU_ASSERT(vm_await(&r, "measuring", 10000));
	broker = vm_find_broker(&r);
	CU_ASSERT(broker != 0);
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		pid[i] = vm_find_device(&r, types[i], 5000);
		CU_ASSERT_FATAL(pid[i] != 0);
		CU_ASSERT(read_id(pid[i], "Uid:", &uid[i]));
		CU_ASSERT(read_id(pid[i], "Gid:", &gid));
		if (!has_all_uids())
			continue;
		CU_ASSERT_EQUAL(gid, uid[i]);
		CU_ASSERT_EQUAL(uid[i] - uid[i] % 256,
		    0x70000000u + ((unsigned)broker & 0xffff) * 256);
		for (unsigned j = 0; j < i; j++)
			CU_ASSERT(uid[i] != uid[j]);
	}
	/* Its successor is the same user. */
	kill(pid[1], SIGKILL);
	do
		next = vm_find_device(&r, types[1], 5000);
	while (next == pid[1]);
	CU_ASSERT(next != 0);
	CU_ASSERT(vm_await(&r, "go", 10000));
	CU_ASSERT(read_id(next, "Uid:", &again));
	CU_ASSERT_EQUAL(again, uid[1]);
	kill(r.pid, SIGTERM);
	vm_finish(&r, 1);
	CU_ASSERT_EQUAL(r.code, EXIT_STOPPED);
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static unsigned
count_fds_of(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

/* Kill it, and wait for its successor. */
static void
kill_and_await(const struct vm_run *r, const char *type)
{
	uint64_t end = time_now_ns() + 5000000000u;
	pid_t pid = vm_find_device(r, type, 5000), next;

	if (pid == 0)
		return;
	kill(pid, SIGKILL);
	do
		next = vm_find_device(r, type, 5);
	while ((next == 0 || next == pid) && time_now_ns() < end);
	CU_ASSERT(next != 0 && next != pid);
}

/* Once every device has its spare, which takes a moment. */
static unsigned
count_settled_fds_of(pid_t broker)
{
	unsigned n = count_fds_of(broker), same = 0;

	for (unsigned i = 0; i < 100 && same < 20; i++) {
		unsigned now;

		vm_sleep_ms(20);
		now = count_fds_of(broker);
		same = now == n ? same + 1 : 0;
		n = now;
	}
	return n;
}

static void
restarts_cost_the_broker_no_fd(void)
{
	static struct vm_run r;
	unsigned before, after;
	pid_t broker;

	vm_start(&r, 60, BUSY "--name fds-%d", (int)getpid());
	CU_ASSERT(vm_await(&r, "go", 20000));
	broker = vm_find_broker(&r);
	CU_ASSERT_FATAL(broker != 0);
	before = count_settled_fds_of(broker);
	for (unsigned i = 0; i < 12; i++)
		kill_and_await(&r, types[i % ARRAY_LEN(types)]);
	after = count_settled_fds_of(broker);
	CU_ASSERT_EQUAL(after, before);
	kill(r.pid, SIGTERM);
	vm_finish(&r, 1);
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static void
nothing_is_left_of_a_killed_vmmctl(void)
{
	static struct vm_run r;

	vm_start(&r, 30, BUSY "--name death-%d", (int)getpid());
	CU_ASSERT(vm_await(&r, "measuring", 10000));
	CU_ASSERT(vm_has_socket("death-"));
	kill(r.pid, SIGKILL);
	vm_finish(&r, 1);
	CU_ASSERT_EQUAL(r.code, -1);
	CU_ASSERT_EQUAL(vm_left_behind(5000), 0);
	CU_ASSERT_FALSE(vm_has_socket("death-"));
}

static void
nothing_is_left_of_a_killed_vmmctl_in_boot(void)
{
	static struct vm_run r;

	for (long ms = 0; ms < 60; ms += 6) {
		vm_start(&r, 30, BUSY "--name early-%d", (int)getpid());
		vm_sleep_ms(ms);
		kill(r.pid, SIGKILL);
		vm_finish(&r, 1);
		CU_ASSERT_EQUAL(vm_left_behind(5000), 0);
	}
	CU_ASSERT_FALSE(vm_has_socket("early-"));
}

static void
nothing_is_left_of_a_killed_broker(void)
{
	static struct vm_run r;
	pid_t broker;

	vm_start(&r, 30, BUSY "--name broker-%d", (int)getpid());
	CU_ASSERT(vm_await(&r, "measuring", 10000));
	broker = vm_find_broker(&r);
	CU_ASSERT_FATAL(broker != 0);
	kill(broker, SIGKILL);
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(&r, "a_killed_broker_is_noticed", EXIT_ERROR,
	    "the broker is gone"));
	CU_ASSERT_EQUAL(vm_left_behind(5000), 0);
	CU_ASSERT_FALSE(vm_has_socket("broker-"));
}

static void
signals_end_it_as_documented(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	static struct vm_run r;

	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		vm_start(&r, 30, BUSY "--name signal-%d", (int)getpid());
		CU_ASSERT(vm_await(&r, "measuring", 10000));
		kill(r.pid, signals[i]);
		vm_finish(&r, 1);
		CU_ASSERT(
		    vm_ended(&r, "signals_end_it", EXIT_STOPPED, "measuring"));
	}
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

/* The broker's processes of that type, oldest first, once there are n. */
static bool
await_processes(pid_t broker, const char *type, unsigned n, pid_t out[2])
{
	uint64_t end = time_now_ns() + 10000000000u;
	pid_t hosts[VM_CHILDREN];
	unsigned found;

	do {
		unsigned m = vm_children_of(broker, hosts);

		found = 0;
		for (unsigned i = 0; i < m; i++) {
			char name[32];

			vm_type_of(hosts[i], name);
			if (strcmp(name, type) != 0)
				continue;
			if (found < 2)
				out[found] = hosts[i];
			found++;
		}
		if (found == n)
			return true;
		vm_sleep_ms(5);
	} while (time_now_ns() < end);
	return false;
}

static void
a_spare_takes_over_and_gets_a_spare_itself(void)
{
	static struct vm_run r;
	pid_t broker, before[2] = { 0 }, after[2] = { 0 };

	vm_start(&r, 60, BUSY "--name spare-%d", (int)getpid());
	CU_ASSERT(vm_await(&r, "go", 20000));
	broker = vm_find_broker(&r);
	CU_ASSERT_FATAL(broker != 0);
	CU_ASSERT_FATAL(await_processes(broker, "serial", 2, before));
	/* A spare that is killed is replaced, and nobody waits for it. */
	kill(before[1], SIGKILL);
	CU_ASSERT(await_processes(broker, "serial", 1, after));
	CU_ASSERT_EQUAL(after[0], before[0]);
	CU_ASSERT_FATAL(await_processes(broker, "serial", 2, before));
	CU_ASSERT_EQUAL(after[0], before[0]);
	kill(before[0], SIGKILL);
	CU_ASSERT(await_processes(broker, "serial", 1, after));
	CU_ASSERT_EQUAL(after[0], before[1]);
	CU_ASSERT(await_processes(broker, "serial", 2, after));
	CU_ASSERT_EQUAL(after[0], before[1]);
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(&r, "a_spare", EXIT_POWEROFF, "recover: end"));
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static void
who_wants_no_spare_has_none(void)
{
	static struct vm_run r;
	pid_t broker, pid[2];

	vm_start(&r, 60,
	    BUSY "--device serial,spare=off --wait-policy density "
		 "--device rtc,spare=on --name nospare-%d",
	    (int)getpid());
	CU_ASSERT(vm_await(&r, "go", 20000));
	broker = vm_find_broker(&r);
	CU_ASSERT_FATAL(broker != 0);
	CU_ASSERT(await_processes(broker, "rtc", 2, pid));
	/* Later than theirs would be. */
	vm_sleep_ms(500);
	CU_ASSERT(await_processes(broker, "serial", 1, pid));
	CU_ASSERT(await_processes(broker, "i8042", 1, pid));
	kill(r.pid, SIGTERM);
	vm_finish(&r, 1);
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static void
a_stopped_device_is_started_again(void)
{
	static struct vm_run r;
	pid_t pid;

	vm_start(&r, 60,
	    "exec vmmctl/vmmctl run --hypervisor soft --kernel "
	    "guests/bench_recover.elf --name stop-%d",
	    (int)getpid());
	CU_ASSERT(vm_await(&r, "go", 20000));
	pid = vm_find_device(&r, "serial", 5000);
	CU_ASSERT_FATAL(pid != 0);
	kill(pid, SIGSTOP);
	/* Nobody waits for an answer of this one. */
	pid = vm_find_device(&r, "rtc", 5000);
	CU_ASSERT_FATAL(pid != 0);
	kill(pid, SIGSTOP);
	vm_finish(&r, 1);
	CU_ASSERT(
	    vm_ended(&r, "a_stopped_device", EXIT_POWEROFF, "recover: end"));
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static void
a_stopped_vmmctl_keeps_nobody_from_ending_the_vm(void)
{
	static struct vm_run r, shutdown;

	vm_start(&r, 60, BUSY "--name stopped-%d", (int)getpid());
	CU_ASSERT(vm_await(&r, "measuring", 20000));
	kill(r.pid, SIGSTOP);
	vm_start(&shutdown, 20,
	    "exec vmmctl/vmmctl shutdown stopped-%d --force", (int)getpid());
	vm_finish(&shutdown, 1);
	CU_ASSERT(vm_ended(&shutdown, "shutdown", EXIT_POWEROFF, ""));
	for (unsigned i = 0; i < 500 && vm_has_socket("/stopped-"); i++)
		vm_sleep_ms(10);
	CU_ASSERT_FALSE(vm_has_socket("/stopped-"));
	kill(r.pid, SIGCONT);
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(&r, "a_stopped_vmmctl", EXIT_STOPPED, "measuring"));
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

/* The guest is done before vmmctl has asked for its console. */
static void
a_slow_vmmctl_misses_nothing(void)
{
	static struct vm_run r;

	for (long ms = 4; ms < 80; ms += 6) {
		vm_start(&r, 30,
		    "exec vmmctl/vmmctl run --hypervisor soft --kernel "
		    "guests/hello.elf --name slow-%d",
		    (int)getpid());
		vm_sleep_ms(ms);
		kill(r.pid, SIGSTOP);
		vm_sleep_ms(200);
		kill(r.pid, SIGCONT);
		vm_finish(&r, 1);
		CU_ASSERT(vm_ended(&r, "a_slow_vmmctl_misses_nothing",
		    EXIT_POWEROFF, "hello from a guest"));
	}
	CU_ASSERT_EQUAL(vm_left_behind(5000), 0);
}

/* A VM whose RTC never says hello waits for it, and is in boot that long. */
static void
make_waiting_folder(char folder[64])
{
	char command[3 * PATH_MAX];

	snprintf(folder, 64, "/tmp/bulkhead-death-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	chmod(folder, 0755);
	snprintf(command, sizeof(command),
	    "cd %s && cp tests/hostile_devhost %s/devhost && "
	    "cp devhost/devhost %s/devhost.real && "
	    "ln -s %s/vmmd/vmmd %s/vmmd && "
	    "echo 'rtc silent 0 1' >%s/hostile && echo 0 >%s/starts && "
	    "chmod 666 %s/hostile %s/starts",
	    vm_build, folder, folder, vm_build, folder, folder, folder, folder,
	    folder);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
}

static void
devices_killed_in_boot_are_tried_again(void)
{
	static const char *const victims[] = { "serial", "loader", "acpi-pm",
		"rtc" };
	static struct vm_run r;
	char folder[64], command[128];

	make_waiting_folder(folder);
	vm_start(&r, 60,
	    "BULKHEAD_LIBEXEC=%s exec vmmctl/vmmctl run --hypervisor soft "
	    "--kernel guests/hello.elf --name boot-%d",
	    folder, (int)getpid());
	for (size_t i = 0; i < ARRAY_LEN(victims); i++) {
		pid_t pid = vm_find_device(&r, victims[i], 5000);

		CU_ASSERT(pid > 0);
		if (pid > 0)
			kill(pid, SIGKILL);
	}
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(
	    &r, "devices_killed_in_boot", EXIT_POWEROFF, "hello from a guest"));
	/* It did not wait for the one that would have said nothing. */
	CU_ASSERT(r.ended_ns - r.started_ns < 9000000000u);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	CU_ASSERT_EQUAL(system(command), 0);
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static const struct named_test tests[] = {
	NAMED_TEST(each_device_has_a_uid_of_its_own),
	NAMED_TEST(restarts_cost_the_broker_no_fd),
	NAMED_TEST(nothing_is_left_of_a_killed_vmmctl),
	NAMED_TEST(nothing_is_left_of_a_killed_vmmctl_in_boot),
	NAMED_TEST(nothing_is_left_of_a_killed_broker),
	NAMED_TEST(signals_end_it_as_documented),
	NAMED_TEST(a_spare_takes_over_and_gets_a_spare_itself),
	NAMED_TEST(who_wants_no_spare_has_none),
	NAMED_TEST(a_stopped_device_is_started_again),
	NAMED_TEST(a_stopped_vmmctl_keeps_nobody_from_ending_the_vm),
	NAMED_TEST(a_slow_vmmctl_misses_nothing),
	NAMED_TEST(devices_killed_in_boot_are_tried_again),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "tests/hostile_devhost", "guests/hello.elf",
		"guests/bench_recover.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_death", tests, ARRAY_LEN(tests));
}
