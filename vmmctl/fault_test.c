/* Faults as the user words them. */
#include "vmmctl/fault.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"
#include "proto/fault.h"
#include "tests/named_tests.h"

#define WORDS 6

static void
times_have_a_unit(void)
{
	static const struct {
		const char *text;
		int r;
		uint64_t ns;
	} cases[] = {
		{ "0ns", 0, 0 },
		{ "250ns", 0, 250 },
		{ "5ms", 0, 5000000 },
		{ "1.5s", 0, 1500000000 },
		{ "2m", 0, 120000000000 },
		{ "0.25us", 0, 250 },
		{ "5", -EINVAL, 0 },
		{ "ms", -EINVAL, 0 },
		{ "-1s", -EINVAL, 0 },
		{ "1.2.3s", -EINVAL, 0 },
		{ "99999999999999999999s", -EINVAL, 0 },
		{ "99999999999s", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t ns = 0;
		int r = fault_parse_time(cases[i].text, &ns);

		CU_ASSERT_EQUAL(r, cases[i].r);
		if (r == 0)
			CU_ASSERT_EQUAL(ns, cases[i].ns);
	}
}

static void
what_was_not_said_follows_from_the_kind(void)
{
	static const struct {
		const char *kind, *words[WORDS];
		uint32_t on;
		uint64_t times, value;
		uint32_t ppm;
	} cases[] = {
		{ "kill", { NULL }, FAULT_ON_ANY, 1, 0, 0 },
		{ "hang", { NULL }, FAULT_ON_ANY, 1, 0, 0 },
		{ "kill", { "times=0", "rate=5%" }, FAULT_ON_ANY, 0, 0, 50000 },
		{ "slow", { "value=5ms", "on=write" }, FAULT_ON_WRITE, 0,
		    5000000, 0 },
		{ "error", { "rate=200ppm" }, FAULT_ON_QUEUE, 0, 0, 200 },
		{ "drop", { "queue=1" }, FAULT_ON_QUEUE, 0, 0, 0 },
		{ "corrupt-answer", { NULL }, FAULT_ON_READ, 0, 1, 0 },
		{ "corrupt-answer", { "value=0xf0", "address=0x5" },
		    FAULT_ON_READ, 0, 0xf0, 0 },
		{ "error", { "rate=0.01%" }, FAULT_ON_QUEUE, 0, 0, 100 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fault_words w;
		char err[256] = "";
		int n = 0;

		while (cases[i].words[n] != NULL)
			n++;
		CU_ASSERT_EQUAL(fault_parse(&w, cases[i].kind, n,
				    cases[i].words, err, sizeof(err)),
		    0);
		CU_ASSERT_STRING_EQUAL(err, "");
		CU_ASSERT_EQUAL(w.plan.on, cases[i].on);
		CU_ASSERT_EQUAL(w.plan.times, cases[i].times);
		CU_ASSERT_EQUAL(w.plan.value, cases[i].value);
		CU_ASSERT_EQUAL(w.plan.per_million, cases[i].ppm);
	}
}

static void
what_cannot_be_is_refused_by_name(void)
{
	static const struct {
		const char *kind, *words[WORDS], *says;
	} cases[] = {
		{ "burn", { NULL }, "unknown fault burn; known are: kill" },
		{ "kill", { "on=never" }, "on=never: unknown" },
		{ "kill", { "after" }, "after: not KEY=VALUE" },
		{ "kill", { "=1" }, "=1: not KEY=VALUE" },
		{ "kill", { "after=x" }, "after=x: not a number" },
		{ "kill", { "colour=red" }, "unknown key colour" },
		{ "kill", { "a-key-longer-than-any=1" }, "not KEY=VALUE" },
		{ "kill", { "rate=101%" }, "not from 1ppm to 100%" },
		{ "kill", { "rate=0%" }, "not from 1ppm to 100%" },
		{ "kill", { "rate=5" }, "not a rate such as" },
		{ "kill", { "value=1" }, "value is for slow" },
		{ "kill", { "for=0s" }, "not a time such as" },
		{ "kill", { "queue=1", "region=0" }, "queue is about" },
		{ "kill", { "queue=70000" }, "no such queue" },
		{ "kill", { "region=70000" }, "no such region" },
		{ "kill", { "queue=1", "on=read" }, "only with on=queue" },
		{ "kill", { "address=4", "on=queue" }, "not with on=queue" },
		{ "slow", { NULL }, "value=TIME is missing" },
		{ "slow", { "value=9" }, "not a time such as" },
		{ "slow", { "value=2000m" }, "at most an hour" },
		{ "error", { "on=read" }, "only with on=queue" },
		{ "corrupt-answer", { "on=write" }, "only with on=read" },
		{ "corrupt-answer", { "value=0" }, "not bits such as" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fault_words w;
		char err[256] = "";
		int n = 0;

		while (cases[i].words[n] != NULL)
			n++;
		CU_ASSERT_EQUAL(fault_parse(&w, cases[i].kind, n,
				    cases[i].words, err, sizeof(err)),
		    -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(err, cases[i].says));
		if (strstr(err, cases[i].says) == NULL)
			printf("%s: %s\n", cases[i].says, err);
	}
}

static void
a_region_may_be_a_name(void)
{
	static const char *const words[] = { "region=uart", "address=5" };
	struct fault_words w;
	char err[256];

	CU_ASSERT_EQUAL_FATAL(
	    fault_parse(&w, "kill", 2, words, err, sizeof(err)), 0);
	CU_ASSERT_STRING_EQUAL(w.region, "uart");
	CU_ASSERT_EQUAL(w.plan.address, 5);
}

static const struct named_test tests[] = {
	NAMED_TEST(times_have_a_unit),
	NAMED_TEST(what_was_not_said_follows_from_the_kind),
	NAMED_TEST(what_cannot_be_is_refused_by_name),
	NAMED_TEST(a_region_may_be_a_name),
};

int
main(void)
{
	return named_tests_run("fault", tests, ARRAY_LEN(tests));
}
