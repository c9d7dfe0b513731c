/*
 * Scenarios: a whole experiment in one file.  A VM is started, and steps are
 * taken one after the other, each a test case of its own.
 */
#ifndef VMMCTL_SCENARIO_H
#define VMMCTL_SCENARIO_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCENARIO_STEPS 256u
#define SCENARIO_WORDS 24u /* of a command of ours, with the NULL */

enum scenario_verb {
	SCENARIO_WAIT, /* for text on the console, from the last match on */
	SCENARIO_EXPECT, /* the same; says what is wanted, not when to go on */
	SCENARIO_EXPECT_NOT, /* text that is nowhere on the console so far */
	SCENARIO_SLEEP,
	SCENARIO_SEND, /* text to the console */
	SCENARIO_COMMAND, /* of vmmctl, on this VM: fault, kill, set, ... */
	SCENARIO_FIRED, /* until faults of a device fired so often */
	SCENARIO_RESTARTS, /* until a device was restarted so often */
	SCENARIO_EXIT, /* until the VM ends, with that exit code */
};

struct scenario_step {
	enum scenario_verb verb;
	char *name; /* of the test case; owned */
	const char *text; /* or the device; the file's */
	uint64_t ns; /* SCENARIO_SLEEP */
	uint64_t timeout_ns;
	uint64_t least; /* SCENARIO_FIRED, _RESTARTS */
	int code; /* SCENARIO_EXIT */
	/* SCENARIO_COMMAND: without the program, and NULL for the VM's name. */
	char *words[SCENARIO_WORDS]; /* owned */
	unsigned nwords;
};

enum scenario_outcome {
	SCENARIO_SKIPPED,
	SCENARIO_PASSED,
	SCENARIO_FAILED,
};

struct scenario_result {
	enum scenario_outcome outcome;
	char *message; /* owned; or NULL */
	double seconds;
};

struct scenario {
	json_t *root; /* what the texts point into */
	const char *name;
	json_t *vm; /* as a configuration file */
	struct scenario_step step[SCENARIO_STEPS];
	struct scenario_result result[SCENARIO_STEPS + 1]; /* 0: the start */
	unsigned nsteps;
	double seconds;
	char *console; /* all that came; owned */
	size_t nconsole;
};

/*
 * Read a scenario of n bytes of JSON.  0; -EINVAL with the complaint in err.  To
 * be freed either way.
 */
int scenario_parse(
    struct scenario *s, const char *text, size_t n, char *err, size_t size);
void scenario_free(struct scenario *s);

/* Run it: did all steps pass? */
bool scenario_run(struct scenario *s);

/* What to call a result: 0 is the start. */
const char *scenario_case_name(const struct scenario *s, unsigned i);

/* Write the results.  0; -errno. */
int scenario_write_junit(const struct scenario *s, const char *path);
int scenario_write_json(const struct scenario *s, const char *path);

#endif
