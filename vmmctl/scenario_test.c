/* Scenarios: what is taken, what is refused, and how results are written. */
#include "vmmctl/scenario.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/named_tests.h"

#define STEP(text) "{\"vm\": {}, \"steps\": [" text "]}"

static struct scenario s;

static int
parse(const char *text, char *err, size_t size)
{
	err[0] = '\0';
	return scenario_parse(&s, text, strlen(text), err, size);
}

static void
takes_every_verb(void)
{
	static const struct {
		const char *text;
		enum scenario_verb verb;
		const char *name;
		const char *words[SCENARIO_WORDS]; /* "": the VM's name */
	} cases[] = {
		{ STEP("{\"wait\": \"login:\"}"), SCENARIO_WAIT,
		    "wait login:", { NULL } },
		{ STEP("{\"expect\": \"x\", \"name\": \"it comes\"}"),
		    SCENARIO_EXPECT, "it comes", { NULL } },
		{ STEP("{\"expect-not\": \"x\"}"), SCENARIO_EXPECT_NOT,
		    "expect-not x", { NULL } },
		{ STEP("{\"send\": \"ls\\n\"}"), SCENARIO_SEND, "send ls\n",
		    { NULL } },
		{ STEP("{\"sleep\": \"1.5s\"}"), SCENARIO_SLEEP, "sleep 1.5s",
		    { NULL } },
		{ STEP("{\"exit\": 3}"), SCENARIO_EXIT, "exit 3", { NULL } },
		{ STEP("{\"fired\": \"rtc\", \"least\": 5}"), SCENARIO_FIRED,
		    "fired rtc", { NULL } },
		{ STEP("{\"restarts\": \"rtc\"}"), SCENARIO_RESTARTS,
		    "restarts rtc", { NULL } },
		{ STEP("{\"fault\": \"rtc\", \"kind\": \"kill\", \"after\": 9, "
		       "\"rate\": \"5%\"}"),
		    SCENARIO_COMMAND, "fault rtc kill",
		    { "fault", "", "rtc", "kill", "after=9", "rate=5%" } },
		{ STEP("{\"kill\": \"rtc\", \"signal\": \"STOP\"}"),
		    SCENARIO_COMMAND, "kill rtc",
		    { "kill", "", "rtc", "--signal=STOP" } },
		{ STEP("{\"set\": \"blk0\", \"iops\": 100}"), SCENARIO_COMMAND,
		    "set blk0", { "set", "", "blk0", "iops=100" } },
		{ STEP("{\"clear\": \"rtc\"}"), SCENARIO_COMMAND, "clear rtc",
		    { "fault", "", "rtc", "clear" } },
		{ STEP("{\"upgrade\": \"rtc\", \"program\": \"/p\"}"),
		    SCENARIO_COMMAND, "upgrade rtc",
		    { "upgrade", "", "rtc", "--program=/p" } },
		{ STEP("{\"upgrade\": \"--all\"}"), SCENARIO_COMMAND,
		    "upgrade --all", { "upgrade", "", "--all" } },
		{ STEP("{\"shutdown\": \"force\"}"), SCENARIO_COMMAND,
		    "shutdown force", { "shutdown", "", "--force" } },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char err[512];
		unsigned n = 0;

		CU_ASSERT_EQUAL(parse(cases[i].text, err, sizeof(err)), 0);
		if (err[0] != '\0')
			printf("%s: %s\n", cases[i].text, err);
		CU_ASSERT_EQUAL_FATAL(s.nsteps, 1);
		CU_ASSERT_EQUAL(s.step[0].verb, cases[i].verb);
		CU_ASSERT_STRING_EQUAL(s.step[0].name, cases[i].name);
		for (; cases[i].words[n] != NULL; n++)
			CU_ASSERT_STRING_EQUAL(s.step[0].words[n] != NULL
				? s.step[0].words[n]
				: "",
			    cases[i].words[n]);
		CU_ASSERT_EQUAL(s.step[0].nwords, n);
		scenario_free(&s);
	}
}

static void
times_out_as_the_step_says_or_as_all_do(void)
{
	static const char text[] = "{\"vm\": {}, \"timeout\": \"5s\", "
				   "\"steps\": [{\"wait\": \"a\"}, {\"wait\": "
				   "\"a\", \"timeout\": \"9ms\"}]}";
	char err[512];

	CU_ASSERT_EQUAL(parse(text, err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(s.step[0].timeout_ns, 5000000000);
	CU_ASSERT_EQUAL(s.step[1].timeout_ns, 9000000);
	scenario_free(&s);
	CU_ASSERT_EQUAL(parse(STEP("{\"wait\": \"a\"}"), err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(s.step[0].timeout_ns, 30000000000);
	scenario_free(&s);
}

static void
refuses_with_the_step(void)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "line 1: " },
		{ "[]", "not an object" },
		{ "{\"vm\": {}, \"vm\": {}}", "line 1: " },
		{ "{\"steps\": []}", "vm: not an object" },
		{ "{\"vm\": {}}", "steps: not a list" },
		{ "{\"vm\": {}, \"steps\": [], \"x\": 1}",
		    "unknown key x; known are: name vm" },
		{ "{\"vm\": {}, \"steps\": [], \"name\": 1}",
		    "name: not a string" },
		{ STEP("{\"wait\": \"a\"}, 5"), "step 2: not an object" },
		{ STEP("{}"), "step 1: what is it to do? known are: wait" },
		{ STEP("{\"wait\": \"a\", \"send\": \"b\"}"),
		    "step 1: both wait and send" },
		{ STEP("{\"wait\": 5}"), "step 1: wait: not a string" },
		{ STEP("{\"wait\": \"\"}"), "step 1: wait: not a string" },
		{ STEP("{\"wait\": \"a\", \"colour\": 1}"),
		    "step 1: wait: unknown key colour" },
		{ STEP("{\"wait\": \"a\", \"timeout\": 5}"),
		    "step 1: timeout: not a time" },
		{ STEP("{\"sleep\": \"5\"}"), "step 1: sleep: not a time" },
		{ STEP("{\"exit\": \"0\"}"), "step 1: exit: not an exit code" },
		{ STEP("{\"exit\": 256}"), "step 1: exit: not an exit code" },
		{ STEP("{\"fired\": \"a\", \"least\": -1}"),
		    "step 1: least: not a whole number" },
		{ STEP("{\"fault\": \"rtc\"}"),
		    "step 1: fault: kind is missing" },
		{ STEP("{\"fault\": \"rtc\", \"kind\": \"burn\"}"),
		    "step 1: fault: unknown fault burn" },
		{ STEP("{\"fault\": \"rtc\", \"kind\": \"kill\", \"x\": 1}"),
		    "step 1: fault: unknown key x" },
		{ STEP("{\"fault\": \"rtc\", \"kind\": \"kill\", \"on\": []}"),
		    "step 1: on: not a string or a whole number" },
		{ STEP("{\"kill\": \"rtc\", \"signal\": 9}"),
		    "step 1: signal: not a string" },
		{ STEP("{\"shutdown\": \"now\"}"),
		    "step 1: shutdown: not button or force" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char err[512];

		CU_ASSERT_EQUAL(
		    parse(cases[i].text, err, sizeof(err)), -EINVAL);
		CU_ASSERT_EQUAL(
		    strncmp(err, cases[i].says, strlen(cases[i].says)), 0);
		if (strncmp(err, cases[i].says, strlen(cases[i].says)) != 0)
			printf("%s: %s\n", cases[i].text, err);
		scenario_free(&s);
	}
}

static void
counts_its_steps(void)
{
	char err[512];
	char *text = malloc(32u << 10);
	size_t n = (size_t)sprintf(text, "{\"vm\": {}, \"steps\": [");

	for (unsigned i = 0; i <= SCENARIO_STEPS; i++)
		n += (size_t)sprintf(
		    text + n, "%s{\"exit\": 0}", i == 0 ? "" : ",");
	sprintf(text + n, "]}");
	CU_ASSERT_EQUAL(parse(text, err, sizeof(err)), -EINVAL);
	CU_ASSERT_STRING_EQUAL(err, "more than 256 steps");
	scenario_free(&s);
	free(text);
}

/* A scenario of which two steps were taken, and what is written of it. */
static char *
report(int (*write_report)(const struct scenario *s, const char *path))
{
	static char text[8192];
	char path[] = "/tmp/scenario-XXXXXX", err[512];
	int fd = mkstemp(path);
	ssize_t n;

	CU_ASSERT_EQUAL_FATAL(
	    parse("{\"name\": \"a <b> & \\\"c\\\"\", \"vm\": {}, \"steps\": "
		  "[{\"wait\": \"<x>\"}, {\"exit\": 0}]}",
		err, sizeof(err)),
	    0);
	s.result[0] = (struct scenario_result){ SCENARIO_PASSED, NULL, 0.5 };
	s.result[1] = (struct scenario_result){ SCENARIO_FAILED,
		strdup("it said \x1b[1m & \xff"), 1 };
	s.console = strdup("boot\r\n\x01\x80]]>");
	s.nconsole = strlen(s.console);
	CU_ASSERT_EQUAL(write_report(&s, path), 0);
	n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
	unlink(path);
	scenario_free(&s);
	return text;
}

static void
writes_xml_that_is_one_whatever_was_said(void)
{
	static const char *const parts[] = {
		"<testsuite name=\"a &lt;b&gt; &amp; &quot;c&quot;\" tests",
		"tests=\"3\" failures=\"1\" skipped=\"1\"",
		"name=\"00 start\" time=\"0.500\"></testcase>",
		"name=\"01 wait &lt;x&gt;\"",
		"<failure message=\"it said ?[1m &amp; ?\"/>",
		"name=\"02 exit 0\" time=\"0.000\"><skipped/>",
		"<system-out>boot\n??]]&gt;</system-out>",
	};
	const char *text = report(scenario_write_junit);

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		CU_ASSERT_PTR_NOT_NULL(strstr(text, parts[i]));
		if (strstr(text, parts[i]) == NULL)
			printf("%s\nin %s\n", parts[i], text);
	}
}

static void
writes_json_that_is_one_whatever_was_said(void)
{
	const char *text = report(scenario_write_json);
	json_t *root = json_loads(text, 0, NULL), *steps;

	CU_ASSERT_PTR_NOT_NULL_FATAL(root);
	CU_ASSERT(json_is_false(json_object_get(root, "passed")));
	steps = json_object_get(root, "steps");
	CU_ASSERT_EQUAL(json_array_size(steps), 3);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(
				   json_array_get(steps, 1), "outcome")),
	    "failed");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(
				   json_array_get(steps, 2), "outcome")),
	    "skipped");
	json_decref(root);
}

static void
a_file_that_cannot_be_written_is_an_error(void)
{
	char err[512];

	CU_ASSERT_EQUAL(parse(STEP("{\"exit\": 0}"), err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(scenario_write_junit(&s, "/nonexistent/x"), -ENOENT);
	CU_ASSERT_EQUAL(scenario_write_json(&s, "/nonexistent/x"), -ENOENT);
	scenario_free(&s);
}

static const struct named_test tests[] = {
	NAMED_TEST(takes_every_verb),
	NAMED_TEST(times_out_as_the_step_says_or_as_all_do),
	NAMED_TEST(refuses_with_the_step),
	NAMED_TEST(counts_its_steps),
	NAMED_TEST(writes_xml_that_is_one_whatever_was_said),
	NAMED_TEST(writes_json_that_is_one_whatever_was_said),
	NAMED_TEST(a_file_that_cannot_be_written_is_an_error),
};

int
main(void)
{
	return named_tests_run("scenario", tests, ARRAY_LEN(tests));
}
