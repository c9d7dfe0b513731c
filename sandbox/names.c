/* The names of modes and steps, and what the environment says of them. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/internal.h"

static const char *const step_names[] = {
	"fds",
	"userns",
	"namespaces",
	"root",
	"limits",
	"uid",
	"caps",
	"nnp",
	"landlock",
	"seccomp",
};

static const char *const mode_names[] = {
	[SANDBOX_ON] = "on",
	[SANDBOX_BEST_EFFORT] = "best-effort",
	[SANDBOX_OFF] = "off",
};

const char *
sandbox_step_name(unsigned bit)
{
	for (unsigned i = 0; i < ARRAY_LEN(step_names); i++)
		if (bit == 1u << i)
			return step_names[i];
	return "?";
}

const char *
sandbox_mode_name(enum sandbox_mode mode)
{
	return (unsigned)mode < ARRAY_LEN(mode_names) ? mode_names[mode] : "?";
}

int
sandbox_mode_parse(const char *name, enum sandbox_mode *mode)
{
	for (unsigned i = 0; i < ARRAY_LEN(mode_names); i++) {
		if (strcmp(name, mode_names[i]) == 0) {
			*mode = (enum sandbox_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

void
sandbox_inherited(struct inherited *in)
{
	const char *s = getenv(SANDBOX_VARIABLE);
	struct inherited told = { 0 };
	char mode[16];
	unsigned uid;

	*in = (struct inherited){ .mode = SANDBOX_ON, .uid = geteuid() };
	if (s == NULL ||
	    sscanf(s, "%15[^:]:%" SCNx64 ":%u", mode, &told.steps, &uid) != 3 ||
	    sandbox_mode_parse(mode, &told.mode) < 0)
		return;
	told.uid = uid;
	*in = told;
}

bool
sandbox_was_spawned(void)
{
	return getenv(SANDBOX_VARIABLE) != NULL;
}

enum sandbox_mode
sandbox_inherited_mode(void)
{
	struct inherited in;

	sandbox_inherited(&in);
	return in.mode;
}
