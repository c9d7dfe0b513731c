/* The system calls of the user-mode network: what libslirp needs of sockets. */
#ifndef DEVICES_EXT_NET_USER_CALLS_H
#define DEVICES_EXT_NET_USER_CALLS_H

#include "sandbox/sandbox.h"

#define NET_USER_SYSCALLS 16u
extern const struct sandbox_syscall net_user_syscalls[NET_USER_SYSCALLS];

#endif
