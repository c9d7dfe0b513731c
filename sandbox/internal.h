/* What the files of this folder share. */
#ifndef SANDBOX_INTERNAL_H
#define SANDBOX_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base.h"
#include "sandbox/sandbox.h"

/* The variable by which sandbox_spawn() tells sandbox_enter() "MODE:STEPS:UID",
 * STEPS in hex. */
#define SANDBOX_VARIABLE "BULKHEAD_SANDBOX"

/* What it says; mode "on", no steps and our own uid if it says nothing. */
struct inherited {
	enum sandbox_mode mode;
	uint64_t steps;
	uid_t uid;
};
void sandbox_inherited(struct inherited *in);

/* System calls that the sanitizers' runtimes make on their own; none in a build
 * without them. */
extern const struct sandbox_syscall sandbox_sanitizer_group[];
extern const size_t sandbox_sanitizer_calls;

/* The single steps of sandbox_enter().  0, or a negative errno with the call
 * that failed in *what. */
int sandbox_landlock(const struct sandbox_policy *p, const char **what);
int sandbox_on_denied(const struct sandbox_policy *p, const char **what);
int sandbox_seccomp(const struct sandbox_policy *p, const char **what);

#endif
