/* The connector, as the device that asks it sees it. */
#include "proto/connector.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_TAKEN 4u /* so that what comes by mistake is seen and closed */

int
connector_ask(int fd, uint32_t cookie)
{
	struct connector_request request = { .cookie = cookie };
	struct iovec iov = { &request, sizeof(request) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* The fd that came with a message, or -1; any others are closed. */
static int
take_fd(struct msghdr *m)
{
	int fd = -1;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int got;

			memcpy(
			    &got, CMSG_DATA(h) + i * sizeof(int), sizeof(got));
			if (fd >= 0)
				close(fd);
			fd = got;
		}
	}
	return fd;
}

int
connector_hear(int fd, struct connector_answer *answer, int *connected)
{
	struct iovec iov = { answer, sizeof(*answer) };
	_Alignas(
	    struct cmsghdr) char control[CMSG_SPACE(FDS_TAKEN * sizeof(int))];
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	memset(answer, 0, sizeof(*answer));
	*connected = -1;
	n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0)
		return -EPIPE;
	*connected = take_fd(&m);
	return n == (ssize_t)sizeof(*answer) ? 1 : -EPROTO;
}
