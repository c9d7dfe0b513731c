/* Reading a scenario. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "vmmctl/fault.h"
#include "vmmctl/option_parse.h"
#include "vmmctl/scenario.h"

#define TIMEOUT_NS 30000000000ull

struct parse {
	struct scenario *s;
	unsigned index; /* of the step, from 1; 0: none */
	json_t *timeout; /* of all; or NULL */
	char *err;
	size_t size;
};

PRINTF_LIKE(2, 3)
static int
complain(struct parse *p, const char *fmt, ...)
{
	size_t n = 0;
	va_list ap;

	if (p->index > 0)
		n = (size_t)snprintf(p->err, p->size, "step %u: ", p->index);
	va_start(ap, fmt);
	vsnprintf(p->err + n, p->size - n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* ---- values ---- */

/* Owned; NULL: no memory. */
PRINTF_LIKE(1, 2)
static char *
format(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : text;
}

static int
add_word(struct parse *p, struct scenario_step *step, char *word)
{
	if (word == NULL)
		return complain(p, "out of memory");
	if (step->nwords == SCENARIO_WORDS - 1) {
		free(word);
		return complain(p, "too many keys");
	}
	step->words[step->nwords++] = word;
	return 0;
}

/* A scalar as KEY=VALUE. */
static int
add_pair(struct parse *p, struct scenario_step *step, const char *key,
    const json_t *v)
{
	if (json_is_string(v))
		return add_word(
		    p, step, format("%s=%s", key, json_string_value(v)));
	if (json_is_integer(v))
		return add_word(p, step,
		    format("%s=%" JSON_INTEGER_FORMAT, key,
			json_integer_value(v)));
	return complain(p, "%s: not a string or a whole number", key);
}

static int
take_time(struct parse *p, const char *key, const json_t *v, uint64_t *ns)
{
	if (!json_is_string(v) ||
	    fault_parse_time(json_string_value(v), ns) < 0)
		return complain(p, "%s: not a time such as \"500ms\"", key);
	return 0;
}

static int
take_count(struct parse *p, const char *key, const json_t *v, uint64_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return complain(p, "%s: not a whole number from 0", key);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

/* ---- verbs ---- */

static int
take_text(struct parse *p, struct scenario_step *step, json_t *v)
{
	(void)p;
	step->text = json_string_value(v);
	return 0;
}

static int
take_sleep(struct parse *p, struct scenario_step *step, json_t *v)
{
	return take_time(p, "sleep", v, &step->ns);
}

static int
take_exit(struct parse *p, struct scenario_step *step, json_t *v)
{
	uint64_t code;

	if (take_count(p, "exit", v, &code) < 0 || code > 255)
		return complain(p, "exit: not an exit code from 0 to 255");
	step->code = (int)code;
	return 0;
}

/* "VERB VM DEVICE ..." with the VM's name left out. */
static int
take_command(struct parse *p, struct scenario_step *step, const char *command,
    const json_t *device)
{
	if (add_word(p, step, strdup(command)) < 0)
		return -EINVAL;
	step->words[step->nwords++] = NULL;
	return device == NULL
	    ? 0
	    : add_word(p, step, strdup(json_string_value(device)));
}

static int
take_fault(struct parse *p, struct scenario_step *step, json_t *object)
{
	const json_t *kind = json_object_get(object, "kind");
	const char *key, *const *words;
	struct fault_words w;
	unsigned first;
	char err[192];
	json_t *v;

	if (!json_is_string(kind))
		return complain(p, "fault: kind is missing");
	if (take_command(p, step, "fault", json_object_get(object, "fault")) <
		0 ||
	    add_word(p, step, strdup(json_string_value(kind))) < 0)
		return -EINVAL;
	first = step->nwords;
	json_object_foreach(object, key, v)
	{
		if (option_is_word("fault kind name timeout", key))
			continue;
		if (add_pair(p, step, key, v) < 0)
			return -EINVAL;
	}
	words = (const char *const *)&step->words[first];
	if (fault_parse(&w, json_string_value(kind),
		(int)(step->nwords - first), words, err, sizeof(err)) < 0)
		return complain(p, "fault: %s", err);
	return 0;
}

static int
take_set(struct parse *p, struct scenario_step *step, json_t *object)
{
	const char *key;
	json_t *v;

	if (take_command(p, step, "set", json_object_get(object, "set")) < 0)
		return -EINVAL;
	json_object_foreach(object, key, v)
	{
		if (!option_is_word("set name timeout", key) &&
		    add_pair(p, step, key, v) < 0)
			return -EINVAL;
	}
	return 0;
}

static int
take_kill(struct parse *p, struct scenario_step *step, json_t *object)
{
	const json_t *signal = json_object_get(object, "signal");

	if (take_command(p, step, "kill", json_object_get(object, "kill")) < 0)
		return -EINVAL;
	if (signal == NULL)
		return 0;
	if (!json_is_string(signal))
		return complain(p, "signal: not a string");
	return add_word(
	    p, step, format("--signal=%s", json_string_value(signal)));
}

static int
take_clear(struct parse *p, struct scenario_step *step, json_t *object)
{
	if (take_command(p, step, "fault", json_object_get(object, "clear")) <
	    0)
		return -EINVAL;
	return add_word(p, step, strdup("clear"));
}

static int
take_upgrade(struct parse *p, struct scenario_step *step, json_t *object)
{
	const json_t *program = json_object_get(object, "program");
	const json_t *device = json_object_get(object, "upgrade");
	bool all = strcmp(json_string_value(device), "--all") == 0;

	if (take_command(p, step, "upgrade", all ? NULL : device) < 0 ||
	    (all && add_word(p, step, strdup("--all")) < 0))
		return -EINVAL;
	if (program == NULL)
		return 0;
	if (!json_is_string(program))
		return complain(p, "program: not a string");
	return add_word(
	    p, step, format("--program=%s", json_string_value(program)));
}

static int
take_shutdown(struct parse *p, struct scenario_step *step, json_t *object)
{
	const char *how =
	    json_string_value(json_object_get(object, "shutdown"));

	if (!option_is_word("button force", how))
		return complain(p, "shutdown: not button or force");
	if (take_command(p, step, "shutdown", NULL) < 0)
		return -EINVAL;
	return strcmp(how, "force") == 0 ? add_word(p, step, strdup("--force"))
					 : 0;
}

static int
take_least(struct parse *p, struct scenario_step *step, json_t *object)
{
	const json_t *least = json_object_get(object, "least");

	step->least = 1;
	return least == NULL ? 0 : take_count(p, "least", least, &step->least);
}

static const struct {
	const char *key;
	enum scenario_verb verb;
	bool string; /* its value is one */
	/* Of its value; or of the whole step. */
	int (*take)(struct parse *p, struct scenario_step *step, json_t *v);
	int (*take_all)(
	    struct parse *p, struct scenario_step *step, json_t *object);
	const char *others; /* keys that may be there; NULL: any */
} verbs[] = {
	{ "wait", SCENARIO_WAIT, true, take_text, NULL, "" },
	{ "expect", SCENARIO_EXPECT, true, take_text, NULL, "" },
	{ "expect-not", SCENARIO_EXPECT_NOT, true, take_text, NULL, "" },
	{ "send", SCENARIO_SEND, true, take_text, NULL, "" },
	{ "sleep", SCENARIO_SLEEP, true, take_sleep, NULL, "" },
	{ "exit", SCENARIO_EXIT, false, take_exit, NULL, "" },
	{ "fired", SCENARIO_FIRED, true, take_text, take_least, "least" },
	{ "restarts", SCENARIO_RESTARTS, true, take_text, take_least, "least" },
	{ "fault", SCENARIO_COMMAND, true, NULL, take_fault, NULL },
	{ "set", SCENARIO_COMMAND, true, NULL, take_set, NULL },
	{ "kill", SCENARIO_COMMAND, true, NULL, take_kill, "signal" },
	{ "clear", SCENARIO_COMMAND, true, NULL, take_clear, "" },
	{ "upgrade", SCENARIO_COMMAND, true, NULL, take_upgrade, "program" },
	{ "shutdown", SCENARIO_COMMAND, true, NULL, take_shutdown, "" },
};

/* ---- steps ---- */

/* Exactly one verb.  Its index, or -EINVAL. */
static int
find_verb(struct parse *p, const json_t *object)
{
	char known[256] = "";
	size_t n = 0;
	int found = -1;

	for (unsigned i = 0; i < ARRAY_LEN(verbs); i++) {
		n += (size_t)snprintf(
		    known + n, sizeof(known) - n, " %s", verbs[i].key);
		if (json_object_get(object, verbs[i].key) == NULL)
			continue;
		if (found >= 0)
			return complain(p, "both %s and %s", verbs[found].key,
			    verbs[i].key);
		found = (int)i;
	}
	return found >= 0
	    ? found
	    : complain(p, "what is it to do? known are:%s", known);
}

static int
check_keys(struct parse *p, json_t *object, unsigned verb)
{
	const char *key;
	json_t *v;

	json_object_foreach(object, key, v)
	{
		if (verbs[verb].others != NULL &&
		    strcmp(key, verbs[verb].key) != 0 &&
		    !option_is_word("name timeout", key) &&
		    !option_is_word(verbs[verb].others, key))
			return complain(
			    p, "%s: unknown key %s", verbs[verb].key, key);
	}
	return 0;
}

/* What it is called if the user says nothing: "wait login:". */
static char *
describe(const json_t *object, unsigned verb)
{
	const json_t *v = json_object_get(object, verbs[verb].key);
	const json_t *kind = json_object_get(object, "kind");
	const json_t *name = json_object_get(object, "name");

	if (json_is_string(name))
		return format("%s", json_string_value(name));
	if (json_is_integer(v))
		return format("%s %" JSON_INTEGER_FORMAT, verbs[verb].key,
		    json_integer_value(v));
	return format("%s %s%s%s", verbs[verb].key, json_string_value(v),
	    json_is_string(kind) ? " " : "",
	    json_is_string(kind) ? json_string_value(kind) : "");
}

static int
take_step(struct parse *p, struct scenario_step *step, json_t *object)
{
	json_t *timeout, *v;
	int verb, r = 0;

	if (!json_is_object(object))
		return complain(p, "not an object");
	verb = find_verb(p, object);
	if (verb < 0 || check_keys(p, object, (unsigned)verb) < 0)
		return -EINVAL;
	v = json_object_get(object, verbs[verb].key);
	if (verbs[verb].string &&
	    (!json_is_string(v) || json_string_value(v)[0] == '\0'))
		return complain(p, "%s: not a string", verbs[verb].key);
	step->verb = verbs[verb].verb;
	step->timeout_ns = TIMEOUT_NS;
	timeout = json_object_get(object, "timeout");
	if (timeout == NULL)
		timeout = p->timeout;
	if (timeout != NULL)
		r = take_time(p, "timeout", timeout, &step->timeout_ns);
	if (r == 0 && verbs[verb].take != NULL)
		r = verbs[verb].take(p, step, v);
	if (r == 0 && verbs[verb].take_all != NULL)
		r = verbs[verb].take_all(p, step, object);
	if (r < 0)
		return r;
	step->name = describe(object, (unsigned)verb);
	return step->name == NULL ? complain(p, "out of memory") : 0;
}

static int
take_head(struct parse *p)
{
	struct scenario *s = p->s;
	const json_t *name = json_object_get(s->root, "name");
	const char *key;
	json_t *v;

	json_object_foreach(s->root, key, v)
	{
		if (!option_is_word("name vm timeout steps", key))
			return complain(p,
			    "unknown key %s; known are: name vm timeout steps",
			    key);
	}
	if (name != NULL && !json_is_string(name))
		return complain(p, "name: not a string");
	s->name = name != NULL ? json_string_value(name) : "scenario";
	s->vm = json_object_get(s->root, "vm");
	p->timeout = json_object_get(s->root, "timeout");
	if (!json_is_object(s->vm))
		return complain(p, "vm: not an object");
	if (!json_is_array(json_object_get(s->root, "steps")))
		return complain(p, "steps: not a list");
	if (json_array_size(json_object_get(s->root, "steps")) > SCENARIO_STEPS)
		return complain(p, "more than %u steps", SCENARIO_STEPS);
	return 0;
}

int
scenario_parse(
    struct scenario *s, const char *text, size_t n, char *err, size_t size)
{
	struct parse p = { .s = s, .err = err, .size = size };
	json_error_t error;
	json_t *step;
	size_t i;

	memset(s, 0, sizeof(*s));
	s->root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
	if (s->root == NULL)
		return complain(&p, "line %d: %s", error.line, error.text);
	if (!json_is_object(s->root))
		return complain(&p, "not an object");
	if (take_head(&p) < 0)
		return -EINVAL;
	json_array_foreach(json_object_get(s->root, "steps"), i, step)
	{
		p.index = (unsigned)i + 1;
		s->nsteps++;
		if (take_step(&p, &s->step[i], step) < 0)
			return -EINVAL;
	}
	return 0;
}

void
scenario_free(struct scenario *s)
{
	for (unsigned i = 0; i < s->nsteps; i++) {
		for (unsigned j = 0; j < s->step[i].nwords; j++)
			free(s->step[i].words[j]);
		free(s->step[i].name);
	}
	for (unsigned i = 0; i <= s->nsteps; i++)
		free(s->result[i].message);
	free(s->console);
	json_decref(s->root);
	memset(s, 0, sizeof(*s));
}
