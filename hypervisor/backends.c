/* The list of hypervisor backends, and the choice among them. */
#include <stdio.h>
#include <string.h>

#include "hypervisor/hypervisor.h"

const struct hv_backend *const hv_backends[] = { &hv_kvm, &hv_soft, NULL };

static void
append(char *why, size_t why_size, const char *name, const char *reason)
{
	size_t used = strnlen(why, why_size);

	if (used < why_size)
		snprintf(why + used, why_size - used, "%s%s: %s",
		    used ? "; " : "", name, reason);
}

static const struct hv_backend *
find_auto(char *why, size_t why_size)
{
	for (size_t n = 0; hv_backends[n]; n++) {
		char reason[200] = "";

		if (hv_backends[n]->probe(reason, sizeof(reason)) == 0)
			return hv_backends[n];
		append(why, why_size, hv_backends[n]->name, reason);
	}
	return NULL;
}

const struct hv_backend *
hv_find(const char *name, char *why, size_t why_size)
{
	if (why_size)
		why[0] = '\0';
	if (strcmp(name, "auto") == 0)
		return find_auto(why, why_size);
	for (size_t n = 0; hv_backends[n]; n++)
		if (strcmp(name, hv_backends[n]->name) == 0)
			return hv_backends[n];
	append(why, why_size, name, "no such hypervisor backend");
	return NULL;
}
