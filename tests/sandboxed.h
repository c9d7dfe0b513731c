/* What tests/sandboxed tells the test that starts it. */
#ifndef TESTS_SANDBOXED_H
#define TESTS_SANDBOXED_H

#include <stdint.h>

#include "sandbox/sandbox.h"

enum { SANDBOXED_DONE = 40, SANDBOXED_REFUSED, SANDBOXED_FAILED };

struct sandboxed_report {
	int result; /* of sandbox_enter() */
	uint64_t steps;
	char err[512];
};

#endif
