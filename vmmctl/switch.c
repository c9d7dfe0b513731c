/* Finding and starting the switches. */
#include "vmmctl/switch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmmctl/connect.h"

#define TRIES 3

static int
try_connect(const struct sockaddr_un *a, socklen_t n)
{
	int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)a, n) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* The parent does not wait: the switch is nobody's child for long. */
NORETURN static void
run(const char *devhost, const char *sandbox, int listener)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	listener = fcntl(listener, F_DUPFD_CLOEXEC, 10);
	if (null < 0 || listener < 0)
		_exit(1);
	setsid();
	if (fork() != 0)
		_exit(0);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	dup2(listener, 3);
	close_range(4, ~0u, 0);
	execl(devhost, "devhost", "switch", sandbox, (char *)NULL);
	_exit(127);
}

/* 0: it listens, or another does. */
static int
start(const char *devhost, const char *sandbox, const struct sockaddr_un *a,
    socklen_t n)
{
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int r = 0;
	pid_t pid;

	if (listener < 0)
		return -errno;
	if (bind(listener, (const struct sockaddr *)a, n) < 0 ||
	    listen(listener, 16) < 0) {
		r = errno == EADDRINUSE ? 0 : -errno;
	} else {
		pid = fork();
		if (pid == 0)
			run(devhost, sandbox, listener);
		r = pid < 0 ? -errno : 0;
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	close(listener);
	return r;
}

int
switch_connect(const char *devhost, const char *sandbox, const char *name)
{
	char path[OPTIONS_NAME + 8];
	struct sockaddr_un a;
	socklen_t n;
	int r = -ECONNREFUSED;

	snprintf(path, sizeof(path), "switch/%.31s", name);
	n = connect_address(&a, geteuid(), path);
	/* One that is about to end, because nobody used it, may still listen. */
	for (int i = 0; i < TRIES && r == -ECONNREFUSED; i++) {
		r = try_connect(&a, n);
		if (r == -ECONNREFUSED && start(devhost, sandbox, &a, n) == 0)
			r = try_connect(&a, n);
	}
	return r;
}
