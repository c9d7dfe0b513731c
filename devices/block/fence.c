/* The fence between a disk's process and its predecessor. */
#include "devices/block/fence.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

union control {
	struct cmsghdr head; /* aligns */
	char bytes[CMSG_SPACE(sizeof(int))];
};

int
fence_mailbox(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	socklen_t n = sizeof(a);
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/*
	 * Only the family: the kernel picks an unused abstract name.  Once it
	 * is connected to itself, nobody else can send to it.
	 */
	if (bind(fd, (const struct sockaddr *)&a, sizeof(a.sun_family)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) < 0 ||
	    connect(fd, (const struct sockaddr *)&a, n) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

void
fence_open(struct fence *f, int mailbox, bool sockets)
{
	f->sockets = sockets;
	f->mailbox = mailbox;
	f->behind = -1;
}

/*
 * The oldest message, taken or only looked at.  1 and *fd (-1: none was beside
 * it); 0: there is none; a negative errno.
 */
static int
receive(struct fence *f, bool take, int *fd)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union control c;
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = c.bytes,
		.msg_controllen = sizeof(c.bytes),
	};
	struct cmsghdr *h;

	*fd = -1;
	if (recvmsg(f->mailbox, &m,
		MSG_DONTWAIT | MSG_CMSG_CLOEXEC | (take ? 0 : MSG_PEEK)) < 0)
		return errno == EAGAIN ? 0 : -errno;
	h = CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
	    h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(h), sizeof(int));
	return 1;
}

/* Read to the end of file.  1: it is there; 0: not yet. */
static int
at_end(int fd, bool sleep)
{
	char junk[4096];
	ssize_t n;

	do {
		n = read(fd, junk, sizeof(junk));
	} while (n < 0 && errno == EINTR && sleep);
	/* What cannot be read at all is no pipe, and holds nobody up. */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return 1;
	return 0;
}

/* The message looked at has nothing more to say. */
static int
take(struct fence *f)
{
	int fd, rc;

	if (f->behind >= 0)
		close(f->behind);
	f->behind = -1;
	rc = receive(f, true, &fd);
	if (fd >= 0)
		close(fd);
	return rc;
}

static int
pass(struct fence *f, bool sleep)
{
	int rc;

	if (f->mailbox < 0)
		return 1;
	for (;;) {
		if (f->behind < 0) {
			rc = receive(f, false, &f->behind);
			if (rc <= 0)
				return rc < 0 ? rc : 1;
			if (f->behind >= 0 && f->sockets)
				(void)shutdown(f->behind, SHUT_WR);
			/* Whoever reads must ask first whether it may. */
			if (f->behind >= 0 && !sleep)
				return 0;
		}
		if (f->behind >= 0 && !at_end(f->behind, sleep)) {
			if (sleep)
				continue;
			return 0;
		}
		rc = take(f);
		if (rc < 0)
			return rc;
	}
}

void
fence_give_up(struct fence *f)
{
	if (f->behind >= 0)
		(void)take(f);
}

int
fence_poll(struct fence *f)
{
	return pass(f, false);
}

int
fence_wait(struct fence *f)
{
	int rc = pass(f, true);

	return rc < 0 ? rc : 0;
}

int
fence_leave(struct fence *f, int read_end)
{
	char byte = 'f';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union control c = { .bytes = { 0 } };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = c.bytes,
		.msg_controllen = sizeof(c.bytes),
	};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	if (f->mailbox < 0)
		return -EBADF;
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &read_end, sizeof(int));
	if (sendmsg(f->mailbox, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

void
fence_close(struct fence *f)
{
	if (f->behind >= 0)
		close(f->behind);
	f->behind = -1;
}
