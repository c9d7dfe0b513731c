/* The recorder. */
#include "vmmctl/recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/blackbox.h"

#define BUFFER (64u << 10)

/* ---- the folder ---- */

struct kept {
	char name[BLACKBOX_NAME_MAX];
	struct timespec time;
	uint64_t bytes;
};

static bool
is_older(const struct kept *a, const struct kept *b)
{
	if (a->time.tv_sec != b->time.tv_sec)
		return a->time.tv_sec < b->time.tv_sec;
	if (a->time.tv_nsec != b->time.tv_nsec)
		return a->time.tv_nsec < b->time.tv_nsec;
	return strcmp(a->name, b->name) < 0;
}

/* The oldest black box, how many there are, and their bytes. */
static unsigned
look_through(int folder, struct kept *oldest, uint64_t *bytes)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	unsigned n = 0;

	*bytes = 0;
	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((e = readdir(d)) != NULL) {
		struct kept k;
		struct stat st;

		if (!blackbox_name_ok(e->d_name) ||
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		snprintf(k.name, sizeof(k.name), "%.127s", e->d_name);
		k.time = st.st_mtim;
		k.bytes = (uint64_t)st.st_size;
		*bytes += k.bytes;
		if (n++ == 0 || is_older(&k, oldest))
			*oldest = k;
	}
	closedir(d);
	return n;
}

/* Room for one more of that size. */
static void
make_room(int folder, uint64_t size)
{
	struct kept oldest = { .bytes = 0 };
	uint64_t bytes;

	while (look_through(folder, &oldest, &bytes) >= RECORDER_FILES_MAX ||
	    bytes + size > RECORDER_BYTES_MAX)
		if (bytes == 0 || unlinkat(folder, oldest.name, 0) < 0)
			return;
}

static int
copy(int from, int to, uint64_t size)
{
	static uint8_t buffer[BUFFER];
	uint64_t at = 0;

	while (at < size) {
		ssize_t n = pread(from, buffer,
		    MIN((uint64_t)sizeof(buffer), size - at), (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		for (ssize_t done = 0; done < n;) {
			ssize_t w =
			    write(to, buffer + done, (size_t)(n - done));

			if (w < 0 && errno != EINTR)
				return -errno;
			done += MAX(w, (ssize_t)0);
		}
		at += (uint64_t)n;
	}
	return 0;
}

int
recorder_keep(int folder, const char *name, int content)
{
	char part[BLACKBOX_NAME_MAX + 8];
	struct stat st;
	int fd, r;

	if (!blackbox_name_ok(name))
		return -EINVAL;
	if (fstat(content, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    st.st_size > (off_t)BLACKBOX_SIZE_MAX)
		return -EFBIG;
	make_room(folder, (uint64_t)st.st_size);
	/* Under its name it is there as a whole, or not at all. */
	snprintf(part, sizeof(part), ".%s.part", name);
	fd = openat(folder, part,
	    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = copy(content, fd, (uint64_t)st.st_size);
	close(fd);
	if (r == 0 && renameat(folder, part, folder, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(folder, part, 0);
	return r;
}

/* ---- the process ---- */

/* False: the broker is gone. */
static bool
serve_one(int socket, int folder)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char name[BLACKBOX_NAME_MAX];
	struct iovec iov = { name, sizeof(name) - 1 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c;
	int fd;

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	name[n] = '\0';
	c = CMSG_FIRSTHDR(&m);
	if (c == NULL || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(int)))
		return false;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	/* A full disk is no reason to end. */
	if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		(void)recorder_keep(folder, name, fd);
	close(fd);
	return true;
}

NORETURN static void
run(int socket, int folder)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* The terminal's signals are not for us: the broker's end is the end. */
	setsid();
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	prctl(PR_SET_NAME, "recorder");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	socket = fcntl(socket, F_DUPFD_CLOEXEC, 10);
	folder = fcntl(folder, F_DUPFD_CLOEXEC, 10);
	if (null < 0 || socket < 0 || folder < 0)
		_exit(1);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	dup2(socket, 3);
	dup2(folder, 4);
	close_range(5, ~0u, 0);
	while (serve_one(3, 4))
		continue;
	_exit(0);
}

pid_t
recorder_start(const char *folder, int *fd)
{
	int pair[2], dir;
	pid_t pid;

	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return -errno;
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		pid = -errno;
		close(dir);
		return pid;
	}
	pid = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : fork();
	if (pid == 0)
		run(pair[1], dir);
	if (pid == -1)
		pid = -errno;
	close(pair[1]);
	close(dir);
	if (pid < 0)
		close(pair[0]);
	else
		*fd = pair[0];
	return pid;
}
