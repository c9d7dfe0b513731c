/*
 * Linux on the software processor: Debian's kernel, with every device in a
 * process of its own.
 */
#include <sys/stat.h>

#include "tests/named_tests.h"
#include "tests/vm.h"

#define LINES	    2000u
#define CHUNK_LINES 25u
#define KILLS	    40u
#define SECONDS	    120u

static char folder[64], kernel[PATH_MAX / 2];

static const char mounts[] =
    "#!/bin/sh\n"
    "mount -t proc proc /proc; mount -t sysfs sys /sys\n"
    "mount -t devtmpfs dev /dev\n"
    "echo \"test: runs $(uname -s)\"\n";

static bool PRINTF_LIKE(1, 2) shell(const char *fmt, ...)
{
	char command[3 * PATH_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command) == 0;
}

static void
make_initramfs(const char *name, const char *script)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/init", folder);
	f = fopen(path, "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(mounts, f);
	fputs(script, f);
	fclose(f);
	CU_ASSERT_FATAL(shell("%s/../../scripts/make-initramfs %s/init %s/%s",
	    vm_build, folder, folder, name));
}

static void
start_linux(struct vm_run *r, const char *image, const char *name)
{
	vm_start(r, SECONDS,
	    "exec vmmctl/vmmctl run --hypervisor soft --quiet --kernel %s "
	    "--initrd %s/%s --name linux-%d --cmdline 'console=ttyS0 "
	    "cryptomgr.notests quiet panic=-1'",
	    image, folder, name, (int)getpid());
}

/* The ELF image in the kernel; "" after saying why there is none. */
static const char *
elf_image(void)
{
	static char path[PATH_MAX];

	if (path[0] != '\0')
		return path;
	snprintf(path, sizeof(path), "%s/vmlinux", folder);
	if (!shell("%s/../../scripts/extract-vmlinux %s %s", vm_build, kernel,
		path)) {
		printf("\nthe ELF image is not tested\n");
		path[0] = '\0';
	}
	return path;
}

/* ---- what Linux says of the machine ---- */

static const char look_round[] = "date=$(cat /sys/class/rtc/rtc0/date)\n"
				 "echo \"test: rtc $date $(hwclock -r -u)\"\n"
				 "dmesg\n"
				 "echo 'test: done'\n"
				 "poweroff -f\n";

static bool
is_complaint(const char *line)
{
	static const char *const words[] = { "BUG", "WARNING", "Firmware Bug",
		"FW Bug", "ACPI Error", "ACPI Warning", "ACPI BIOS", "Oops",
		"Call Trace", "invalid", "lockup", "unchecked MSR" };
	/* What a machine without firmware cannot help. */
	static const char *const fine[] = { "DMI not present or invalid",
		"invalidation policy" };

	for (size_t i = 0; i < ARRAY_LEN(fine); i++)
		if (strstr(line, fine[i]) != NULL)
			return false;
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strstr(line, words[i]) != NULL)
			return true;
	return false;
}

static unsigned
count_complaints(char *text)
{
	char *line, *save = text;
	unsigned n = 0;

	while ((line = strsep(&save, "\r\n")) != NULL)
		if (is_complaint(line)) {
			printf("\nLinux complains: %s\n", line);
			n++;
		}
	return n;
}

static void
boot_and_look(const char *image)
{
	static struct vm_run r;
	char today[32], yesterday[32];
	time_t now = time(NULL), before = now - 86400;
	struct tm tm;

	strftime(today, sizeof(today), "test: rtc %F", gmtime_r(&now, &tm));
	strftime(yesterday, sizeof(yesterday), "test: rtc %F",
	    gmtime_r(&before, &tm));
	start_linux(&r, image, "look");
	vm_finish(&r, 1);
	CU_ASSERT(
	    vm_ended(&r, "linux_powers_off", EXIT_POWEROFF, "test: done"));
	CU_ASSERT(
	    strstr(r.text, today) != NULL || strstr(r.text, yesterday) != NULL);
	CU_ASSERT_EQUAL(count_complaints(r.text), 0);
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
	printf("%.1f s ", (double)(r.ended_ns - r.started_ns) / 1e9);
}

static void
linux_boots_from_its_elf_image(void)
{
	make_initramfs("look", look_round);
	if (elf_image()[0] != '\0')
		boot_and_look(elf_image());
}

static void
linux_boots_from_a_bzimage(void)
{
	make_initramfs("look", look_round);
	boot_and_look(kernel);
}

static void
linux_reboots(void)
{
	static struct vm_run r;
	const char *image = elf_image();

	make_initramfs("reboot", "reboot -f\n");
	start_linux(&r, image[0] != '\0' ? image : kernel, "reboot");
	vm_finish(&r, 1);
	CU_ASSERT(
	    vm_ended(&r, "linux_reboots", EXIT_RESET, "test: runs Linux"));
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

/* ---- while its devices are killed ---- */

static const char print_lines[] =
    "echo 'test: printing'\n"
    "awk 'BEGIN { for (i = 1; i <= 2000; i++) {\n"
    "	print \"line\", i, \"abcdefghij\"\n"
    "	if (i % 25 == 0) {\n"
    "		fflush(); getline t <\"/sys/class/rtc/rtc0/since_epoch\"\n"
    "		close(\"/sys/class/rtc/rtc0/since_epoch\")\n"
    "		print \"time\", t; fflush(); system(\"sleep 0.1\")\n"
    "	}\n"
    "} }'\n"
    "echo 'test: printed'\n"
    "poweroff -f\n";

/* Every line once, in order, and whole. */
static void
check_lines(char *text)
{
	unsigned next = 1, wrong = 0, times = 0;
	unsigned long last = 0;
	char *line, *save = text, want[64];

	while ((line = strsep(&save, "\r\n")) != NULL) {
		if (strncmp(line, "time ", 5) == 0) {
			unsigned long t = strtoul(line + 5, NULL, 10);

			wrong += t < last;
			last = t;
			times += t > 0;
		}
		if (strncmp(line, "line ", 5) != 0)
			continue;
		snprintf(want, sizeof(want), "line %u abcdefghij", next++);
		if (strcmp(line, want) != 0) {
			printf("\n\"%s\", not \"%s\"\n", line, want);
			next = (unsigned)strtoul(line + 5, NULL, 10) + 1;
			wrong++;
		}
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(next, LINES + 1);
	CU_ASSERT_EQUAL(times, LINES / CHUNK_LINES);
}

static void
kill_device(struct vm_run *r, const char *type)
{
	uint64_t end = time_now_ns() + 2000000000u;
	pid_t pid = vm_find_device(r, type, 2000);

	if (pid == 0 || kill(pid, SIGKILL) < 0)
		return;
	/* Until its successor is there. */
	while (time_now_ns() < end) {
		pid_t next = vm_find_device(r, type, 0);

		if (next != 0 && next != pid)
			return;
		vm_step(r, 1);
	}
}

static void
nothing_is_lost_when_every_device_is_killed(void)
{
	static const char *const types[] = { "serial", "rtc", "i8042",
		"acpi-pm" };
	static struct vm_run r;
	const char *image = elf_image();
	unsigned kills = 0;

	make_initramfs("lines", print_lines);
	start_linux(&r, image[0] != '\0' ? image : kernel, "lines");
	CU_ASSERT(vm_await(&r, "test: printing", SECONDS * 1000));
	while (kills < KILLS && strstr(r.text, "test: printed") == NULL &&
	    r.pid != 0) {
		kill_device(&r, types[kills % ARRAY_LEN(types)]);
		kills++;
		vm_step(&r, 1);
	}
	vm_finish(&r, 1);
	CU_ASSERT(
	    vm_ended(&r, "nothing_is_lost", EXIT_POWEROFF, "test: printed"));
	printf("%u kills ", kills);
	/* A machine that is very slow may not get as far. */
	CU_ASSERT(kills >= KILLS / 4);
	check_lines(r.text);
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

static const struct named_test tests[] = {
	NAMED_TEST(linux_boots_from_its_elf_image),
	NAMED_TEST(linux_reboots),
	NAMED_TEST(nothing_is_lost_when_every_device_is_killed),
	NAMED_TEST(linux_boots_from_a_bzimage),
};

/* Take that one: by a path that is good in every folder. */
static bool
is_kernel(const char *path)
{
	char *real = realpath(path, NULL);

	snprintf(kernel, sizeof(kernel), "%s", real != NULL ? real : "");
	free(real);
	return access(kernel, R_OK) == 0;
}

/* Debian's kernel: given by BULKHEAD_KERNEL, or fetched. */
static bool
fetch_kernel(void)
{
	const char *given = getenv("BULKHEAD_KERNEL");
	const char *where = getenv("BULKHEAD_KERNEL_DIR");
	char command[3 * PATH_MAX], path[PATH_MAX / 2];
	FILE *f;

	if (given != NULL)
		return is_kernel(given);
	if (where != NULL)
		snprintf(command, sizeof(command),
		    "%s/../../scripts/fetch-kernel %s", vm_build, where);
	else
		snprintf(command, sizeof(command),
		    "%s/../../scripts/fetch-kernel %s/../kernel", vm_build,
		    vm_build);
	f = popen(command, "r");
	if (f == NULL)
		return false;
	if (fgets(path, sizeof(path), f) == NULL)
		path[0] = '\0';
	path[strcspn(path, "\n")] = '\0';
	return pclose(f) == 0 && is_kernel(path);
}

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost" };
	int bad;

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	if (!fetch_kernel()) {
		printf("skipped: there is no kernel (scripts/fetch-kernel)\n");
		return 77;
	}
	if (!shell("test -x /bin/busybox -o -x /usr/bin/busybox") ||
	    !shell("command -v cpio >/dev/null")) {
		printf("skipped: busybox-static or cpio is not installed\n");
		return 77;
	}
	snprintf(folder, sizeof(folder), "/tmp/bulkhead-linux-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	bad = named_tests_run("vm_linux", tests, ARRAY_LEN(tests));
	if (!shell("rm -r %s", folder))
		printf("%s is left\n", folder);
	return bad;
}
