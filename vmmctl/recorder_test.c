/* The recorder's folder: bounded, and nothing else in it is touched. */
#include "vmmctl/recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/blackbox.h"
#include "tests/named_tests.h"

static char folder[64];

static int
make_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/recorder-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static unsigned
count_files(bool delete)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	unsigned n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_type != DT_REG)
			continue;
		n++;
		if (delete)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	if (delete)
		rmdir(folder);
	return n;
}

static int
make_content(off_t size)
{
	int fd = memfd_create("content", MFD_CLOEXEC);

	CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, size) == 0);
	return fd;
}

static void
names_stay_in_the_folder(void)
{
	static const struct {
		const char *name;
		int r;
	} cases[] = {
		{ "a.blackbox", 0 },
		{ "vm-x-serial-20260101T000000.000001.blackbox", 0 },
		{ "../a.blackbox", -EINVAL },
		{ "/tmp/a.blackbox", -EINVAL },
		{ ".a.blackbox", -EINVAL },
		{ ".blackbox", -EINVAL },
		{ "a", -EINVAL },
		{ "a.blackbox.sh", -EINVAL },
		{ "a b.blackbox", -EINVAL },
		{ "", -EINVAL },
	};
	int dir = make_folder(), content = make_content(100);
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		CU_ASSERT_EQUAL(
		    recorder_keep(dir, cases[i].name, content), cases[i].r);
	CU_ASSERT_EQUAL(fstatat(dir, "a.blackbox", &st, 0), 0);
	CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
	CU_ASSERT_EQUAL(st.st_size, 100);
	CU_ASSERT_EQUAL(count_files(true), 2);
	close(content);
	close(dir);
}

static void
the_oldest_go_first(void)
{
	int dir = make_folder(), content = make_content(4096), other;
	char name[64];
	struct stat st;

	other = openat(dir, "notes.txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (unsigned i = 0; i < RECORDER_FILES_MAX + 20; i++) {
		struct timespec times[2] = { { .tv_sec = 1000 + i },
			{ .tv_sec = 1000 + i } };

		snprintf(name, sizeof(name), "n%u.blackbox", i);
		CU_ASSERT_EQUAL(recorder_keep(dir, name, content), 0);
		utimensat(dir, name, times, 0);
	}
	CU_ASSERT_EQUAL(fstatat(dir, "n19.blackbox", &st, 0), -1);
	CU_ASSERT_EQUAL(fstatat(dir, "n20.blackbox", &st, 0), 0);
	CU_ASSERT_EQUAL(fstatat(dir, name, &st, 0), 0);
	/* What is not ours stays. */
	CU_ASSERT_EQUAL(fstatat(dir, "notes.txt", &st, 0), 0);
	CU_ASSERT_EQUAL(count_files(true), RECORDER_FILES_MAX + 1);
	close(other);
	close(content);
	close(dir);
}

static void
bytes_are_bounded_too(void)
{
	static const off_t size = 20 << 20;
	int dir = make_folder(), content = make_content(size);
	char name[64];

	for (unsigned i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "n%u.blackbox", i);
		CU_ASSERT_EQUAL(recorder_keep(dir, name, content), 0);
	}
	CU_ASSERT_EQUAL(count_files(true), RECORDER_BYTES_MAX / (unsigned)size);
	close(content);
	content = make_content((off_t)BLACKBOX_SIZE_MAX + 1);
	CU_ASSERT_EQUAL(recorder_keep(dir, "big.blackbox", content), -EFBIG);
	close(content);
	content = make_content(0);
	CU_ASSERT_EQUAL(recorder_keep(dir, "none.blackbox", content), -EFBIG);
	close(content);
	close(dir);
}

static bool
send_one(int socket, const char *name, int content)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	char text[64];
	struct iovec iov = { text, strlen(name) };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	snprintf(text, sizeof(text), "%s", name);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &content, sizeof(int));
	return sendmsg(socket, &m, MSG_NOSIGNAL) > 0;
}

static void
the_process_lives_as_long_as_its_socket(void)
{
	int dir = make_folder(), content = make_content(100), fd = -1, status;
	pid_t pid = recorder_start(folder, &fd);

	CU_ASSERT_FATAL(pid > 0);
	CU_ASSERT(send_one(fd, "../evil.blackbox", content));
	CU_ASSERT(send_one(fd, "good.blackbox", content));
	close(fd);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CU_ASSERT_EQUAL(count_files(true), 1);
	close(content);
	close(dir);
	CU_ASSERT_EQUAL(recorder_start("/nonexistent/folder", &fd), -ENOENT);
}

static const struct named_test tests[] = {
	NAMED_TEST(names_stay_in_the_folder),
	NAMED_TEST(the_oldest_go_first),
	NAMED_TEST(bytes_are_bounded_too),
	NAMED_TEST(the_process_lives_as_long_as_its_socket),
};

int
main(void)
{
	return named_tests_run("recorder", tests, ARRAY_LEN(tests));
}
