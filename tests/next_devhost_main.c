/*
 * A device host of a version to come, for tests of hot upgrades.  Of the RTC it
 * has a larger state of version 2, and can make it of version 1; of the serial
 * port it says so too, but when it comes to it, it cannot; of the i8042 it does
 * not say so.  All else is as it is.
 */
#include <stdio.h>
#include <string.h>

#include "devhost/host.h"
#include "devhost/manifest.h"
#include "proto/base.h"
#include "proto/channel.h"

#define CONTROL_FD 3
#define MORE	   64u /* bytes of state */

static bool
convert(uint32_t from, const void *old, uint32_t old_size, void *new_state)
{
	if (from != 1)
		return false;
	memcpy(new_state, old, old_size);
	return true;
}

static bool
convert_nothing(uint32_t from UNUSED, const void *old UNUSED,
    uint32_t old_size UNUSED, void *new_state UNUSED)
{
	return false;
}

int
main(int argc, char **argv)
{
	const struct device_type *present =
	    device_type_find(argc > 1 ? argv[1] : "");
	struct sandbox_syscall list[MANIFEST_SYSCALLS_MAX];
	struct host_identity identity = { 0 };
	static struct device_type type;
	char err[256] = "";
	struct host *h;

	if (!present)
		return HOST_EXIT_USAGE;
	type = *present;
	if (strcmp(type.name, "rtc") == 0) {
		type.state_version++;
		type.state_size += MORE;
		type.convert = convert;
	} else if (strcmp(type.name, "serial") == 0) {
		type.state_version++;
		type.convert = convert_nothing;
	} else if (strcmp(type.name, "i8042") == 0) {
		type.state_version++;
	}
	if (host_open(&type, CONTROL_FD, &h) != 0)
		return HOST_EXIT_RESOURCE;
	const struct sandbox_policy policy = {
		.mode = sandbox_inherited_mode(),
		.syscalls = list,
		.nsyscalls = manifest_syscalls(&type, list),
		.max_fds = CHANNEL_FDS_MAX + 96u,
	};
	if (sandbox_enter(&policy, &identity.sandbox, err, sizeof(err)) != 0)
		return HOST_EXIT_SANDBOX;
	if (identity.sandbox & SANDBOX_SECCOMP)
		identity.syscalls = (unsigned)policy.nsyscalls;
	return host_run(h, &identity);
}
