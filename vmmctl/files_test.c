/* Disks: what is opened, what is locked, and what is refused. */
#include "vmmctl/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static char folder[] = "/tmp/bulkhead-files-XXXXXX";
static char disk[64];

static int
open_disk(const char *path, bool readonly, char why[256])
{
	const struct option_file file = {
		.kind = OPTION_FILE_DISK,
		.what = path,
		.readonly = readonly,
	};

	return files_open_disk(&file, why, 256);
}

static void
a_disk_has_one_writer(void)
{
	char why[256];
	int first = open_disk(disk, false, why), copy;

	CU_ASSERT_FATAL(first >= 0);
	CU_ASSERT_EQUAL(open_disk(disk, false, why), -EBUSY);
	CU_ASSERT_STRING_EQUAL(why, "in use by a virtual machine");
	CU_ASSERT_EQUAL(open_disk(disk, true, why), -EBUSY);
	/* The lock is the open file's: it stays with the copy of the fd. */
	copy = dup(first);
	close(first);
	CU_ASSERT_EQUAL(open_disk(disk, false, why), -EBUSY);
	close(copy);
	first = open_disk(disk, false, why);
	CU_ASSERT(first >= 0);
	close(first);
}

static void
a_disk_has_many_readers(void)
{
	char why[256];
	int first = open_disk(disk, true, why),
	    second = open_disk(disk, true, why);

	CU_ASSERT(first >= 0);
	CU_ASSERT(second >= 0);
	CU_ASSERT_EQUAL(fcntl(first, F_GETFL) & O_ACCMODE, O_RDONLY);
	CU_ASSERT_EQUAL(open_disk(disk, false, why), -EBUSY);
	close(first);
	close(second);
}

static void
modes_are_those_of_open(void)
{
	const struct option_file file = {
		.kind = OPTION_FILE_DISK,
		.what = disk,
		.dsync = true,
	};
	char why[256];
	int fd = files_open_disk(&file, why, sizeof(why));

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	CU_ASSERT((fcntl(fd, F_GETFL) & O_DSYNC) != 0);
	CU_ASSERT((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	close(fd);
}

static void
refuses_what_is_no_disk(void)
{
	static const struct {
		const char *name;
		off_t size; /* -1: not made */
		const char *why;
	} files[] = {
		{ "missing", -1, "No such file or directory" },
		{ "empty", 0, "the file is empty" },
		{ "byte", 1, "1 bytes are not a multiple of a sector's 512" },
		{ "odd", 1025,
		    "1025 bytes are not a multiple of a sector's "
		    "512" },
	};
	char path[96], why[256];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, files[i].name);
		if (files[i].size >= 0) {
			int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

			CU_ASSERT_EQUAL(ftruncate(fd, files[i].size), 0);
			close(fd);
		}
		CU_ASSERT(open_disk(path, false, why) < 0);
		CU_ASSERT_STRING_EQUAL(why, files[i].why);
	}
	snprintf(path, sizeof(path), "%s/fifo", folder);
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	CU_ASSERT_EQUAL(open_disk(path, true, why), -EINVAL);
	CU_ASSERT_STRING_EQUAL(why, "not a regular file or block device");
	CU_ASSERT_EQUAL(open_disk(folder, true, why), -EINVAL);
	CU_ASSERT_STRING_EQUAL(why, "a directory");
}

static const struct named_test tests[] = {
	NAMED_TEST(a_disk_has_one_writer),
	NAMED_TEST(a_disk_has_many_readers),
	NAMED_TEST(modes_are_those_of_open),
	NAMED_TEST(refuses_what_is_no_disk),
};

int
main(void)
{
	char command[128];
	int rc, fd;

	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(disk, sizeof(disk), "%s/disk", folder);
	fd = open(disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
		return 1;
	close(fd);
	rc = named_tests_run("files", tests, ARRAY_LEN(tests));
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command) == 0 ? rc : 1;
}
