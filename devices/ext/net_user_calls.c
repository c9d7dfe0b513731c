/* The system calls of the user-mode network. */
#include "devices/ext/net_user_calls.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define FCNTL(command, why)                                  \
	{                                                    \
		.nr = __NR_fcntl, .reason = why, .nargs = 1, \
		.args = { { 1, SANDBOX_EQ, command, 0 } },   \
	}
#define SOCKET(family, why)                                   \
	{                                                     \
		.nr = __NR_socket, .reason = why, .nargs = 1, \
		.args = { { 0, SANDBOX_EQ, family, 0 } },     \
	}
#define IOCTL(command, why)                                  \
	{                                                    \
		.nr = __NR_ioctl, .reason = why, .nargs = 1, \
		.args = { { 1, SANDBOX_EQ, command, 0 } },   \
	}

const struct sandbox_syscall net_user_syscalls[NET_USER_SYSCALLS] = {
	SOCKET(AF_INET, "the guest's connections, IPv4"),
	SOCKET(AF_INET6, "the same, IPv6"),
	{ .nr = __NR_connect, .reason = "open one" },
	{ .nr = __NR_bind, .reason = "a port forward" },
	{ .nr = __NR_listen, .reason = "a port forward" },
	{ .nr = __NR_accept, .reason = "a connection to it" },
	{ .nr = __NR_sendto, .reason = "send() and sendto()" },
	{ .nr = __NR_recvfrom, .reason = "recv() and recvfrom()" },
	{ .nr = __NR_shutdown, .reason = "half-closed connections" },
	{ .nr = __NR_setsockopt, .reason = "TTL, no delay, address reuse" },
	{ .nr = __NR_getsockopt, .reason = "did the connection fail?" },
	{ .nr = __NR_getsockname, .reason = "the port of a forward" },
	{ .nr = __NR_getpeername, .reason = "the other end" },
	FCNTL(F_GETFL, "non-blocking sockets"),
	FCNTL(F_SETFL, "non-blocking sockets"),
	IOCTL(FIONREAD, "the size of a datagram"),
};
