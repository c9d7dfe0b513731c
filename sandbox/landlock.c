/*
 * Landlock: a rule set that handles everything this kernel knows and allows
 * nothing (but the network to a process that lives by it).  It stands behind the empty root: it holds even for a directory fd
 * that somebody hands to the process.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/internal.h"

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_restrict_self  446
#endif

#define GET_VERSION 1u /* LANDLOCK_CREATE_RULESET_VERSION */

/* The kernel's struct landlock_ruleset_attr, of ABI 6. */
struct ruleset {
	uint64_t fs, net, scoped;
};

/* Access rights of each ABI: how many bits, of which field. */
static size_t
fill(struct ruleset *r, long abi)
{
	unsigned fs_bits = 13;

	if (abi >= 2)
		fs_bits = 14; /* refer */
	if (abi >= 3)
		fs_bits = 15; /* truncate */
	if (abi >= 5)
		fs_bits = 16; /* ioctl on a device opened from now on */
	r->fs = (1u << fs_bits) - 1;
	r->net = abi >= 4 ? 3 : 0; /* bind and connect TCP */
	r->scoped = abi >= 6 ? 3 : 0; /* abstract sockets, signals */
	if (abi >= 6)
		return sizeof(*r);
	return abi >= 4 ? offsetof(struct ruleset, scoped)
			: offsetof(struct ruleset, net);
}

int
sandbox_landlock(const struct sandbox_policy *p, const char **what)
{
	struct ruleset rules = { 0 };
	size_t size;
	long abi;
	int fd, r = 0;

	*what = "landlock";
	abi = syscall(__NR_landlock_create_ruleset, NULL, 0, GET_VERSION);
	if (abi < 0)
		return -errno;
	size = fill(&rules, abi);
	if (p->network)
		rules.net = 0;
	if (p->signals)
		rules.scoped &= 1; /* LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET */
	fd = (int)syscall(__NR_landlock_create_ruleset, &rules, size, 0);
	if (fd < 0)
		return -errno;
	if (syscall(__NR_landlock_restrict_self, fd, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}
