/* The results of a scenario, for others' tools. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"
#include "vmmctl/scenario.h"

#define CONSOLE_TAIL (64u << 10) /* bytes of it in a report */

const char *
scenario_case_name(const struct scenario *s, unsigned i)
{
	return i == 0 ? "start" : s->step[i - 1].name;
}

static unsigned
count(const struct scenario *s, enum scenario_outcome outcome)
{
	unsigned n = 0;

	for (unsigned i = 0; i <= s->nsteps; i++)
		n += s->result[i].outcome == outcome;
	return n;
}

/* XML 1.0 knows few control characters, and the guest may send anything. */
static void
put_xml(FILE *f, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '<')
			fputs("&lt;", f);
		else if (c == '>')
			fputs("&gt;", f);
		else if (c == '&')
			fputs("&amp;", f);
		else if (c == '"')
			fputs("&quot;", f);
		else if (c < 0x80 && (c >= ' ' || c == '\n' || c == '\t'))
			fputc(c, f);
		else if (c != '\r')
			fputc('?', f);
	}
}

static size_t
tail_of(const struct scenario *s)
{
	return s->nconsole - MIN(s->nconsole, (size_t)CONSOLE_TAIL);
}

static void
put_case(FILE *f, const struct scenario *s, unsigned i)
{
	const struct scenario_result *r = &s->result[i];
	const char *name = scenario_case_name(s, i);
	char number[16];

	snprintf(number, sizeof(number), "%02u ", i);
	fputs("  <testcase classname=\"", f);
	put_xml(f, s->name, strlen(s->name));
	fprintf(f, "\" name=\"%s", number);
	put_xml(f, name, strlen(name));
	fprintf(f, "\" time=\"%.3f\">", r->seconds);
	if (r->outcome == SCENARIO_SKIPPED)
		fputs("<skipped/>", f);
	if (r->outcome == SCENARIO_FAILED) {
		fputs("<failure message=\"", f);
		if (r->message != NULL)
			put_xml(f, r->message, strlen(r->message));
		fputs("\"/>", f);
	}
	fputs("</testcase>\n", f);
}

static int
finish(FILE *f)
{
	int r = ferror(f) ? -EIO : 0;

	return fclose(f) != 0 ? -errno : r;
}

int
scenario_write_junit(const struct scenario *s, const char *path)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		return -errno;
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"",
	    f);
	put_xml(f, s->name, strlen(s->name));
	fprintf(f,
	    "\" tests=\"%u\" failures=\"%u\" skipped=\"%u\" errors=\"0\" "
	    "time=\"%.3f\">\n",
	    s->nsteps + 1, count(s, SCENARIO_FAILED),
	    count(s, SCENARIO_SKIPPED), s->seconds);
	for (unsigned i = 0; i <= s->nsteps; i++)
		put_case(f, s, i);
	fputs("  <system-out>", f);
	if (s->console != NULL)
		put_xml(f, s->console + tail_of(s), s->nconsole - tail_of(s));
	fputs("</system-out>\n</testsuite>\n", f);
	return finish(f);
}

/* jansson takes UTF-8 only. */
static json_t *
clean_text(const char *text, size_t n)
{
	json_t *v;
	char *copy = malloc(n + 1);

	if (copy == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
		copy[i] = text[i] > 0 ? text[i] : '?';
	v = json_stringn(copy, n);
	free(copy);
	return v;
}

int
scenario_write_json(const struct scenario *s, const char *path)
{
	static const char *const outcomes[] = { "skipped", "passed", "failed" };
	json_t *root = json_object(), *steps = json_array();
	FILE *f = fopen(path, "we");
	int r = 0;

	if (f == NULL) {
		r = -errno;
		goto out;
	}
	json_object_set_new(root, "name", json_string(s->name));
	json_object_set_new(root, "passed",
	    json_boolean(count(s, SCENARIO_PASSED) == s->nsteps + 1));
	json_object_set_new(root, "seconds", json_real(s->seconds));
	for (unsigned i = 0; i <= s->nsteps; i++) {
		const struct scenario_result *from = &s->result[i];
		json_t *step = json_object();

		json_object_set_new(
		    step, "name", json_string(scenario_case_name(s, i)));
		json_object_set_new(
		    step, "outcome", json_string(outcomes[from->outcome]));
		json_object_set_new(step, "seconds", json_real(from->seconds));
		if (from->message != NULL)
			json_object_set_new(step, "message",
			    clean_text(from->message, strlen(from->message)));
		json_array_append_new(steps, step);
	}
	json_object_set(root, "steps", steps);
	if (s->console != NULL)
		json_object_set_new(root, "console",
		    clean_text(
			s->console + tail_of(s), s->nconsole - tail_of(s)));
	if (json_dumpf(root, f, JSON_INDENT(2)) < 0)
		r = -EIO;
	fputc('\n', f);
	if (finish(f) < 0)
		r = -EIO;
out:
	json_decref(root);
	json_decref(steps);
	return r;
}
