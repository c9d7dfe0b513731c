/* The command line: every bad input and its exact complaint. */
#include "vmmctl/options.h"

#include <CUnit/Basic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

#define MACHINE (16ull << 30)
#define ARGS	6

static const struct known_type types[] = {
	{ "serial", "a serial port", true, "" },
	{ "rtc", "a clock", true, "base,drift" },
	{ "debugport", "a port", false, "" },
};

/* NULL: it is taken. */
static const struct {
	const char *claim;
	const char *argv[ARGS];
	const char *error;
} cases[] = {
	{ "takes_nothing", { NULL }, NULL },
	{ "takes_value_after_equals", { "--memory=64M" }, NULL },
	{ "takes_all_words",
	    { "--hypervisor", "soft", "--sandbox", "best-effort" }, NULL },
	{ "takes_the_most_cpus", { "--cpus", "64" }, NULL },
	{ "takes_all_memory", { "--memory", "16G" }, NULL },
	{ "refuses_no_memory", { "--memory", "0" },
	    "--memory 0: the least is 1M" },
	{ "refuses_odd_memory", { "--memory", "1025K" },
	    "--memory 1025K: not a multiple of 4K" },
	{ "refuses_negative_memory", { "--memory", "-1" },
	    "--memory -1: not a size such as 256M or 2G" },
	{ "refuses_empty_memory", { "--memory", "" },
	    "--memory : not a size such as 256M or 2G" },
	{ "refuses_only_a_unit", { "--memory", "M" },
	    "--memory M: not a size such as 256M or 2G" },
	{ "refuses_unknown_unit", { "--memory", "1T" },
	    "--memory 1T: not a size such as 256M or 2G" },
	{ "refuses_more_than_the_machine", { "--memory", "17G" },
	    "--memory 17G: more than this machine has (16384M)" },
	{ "refuses_overflowing_memory", { "--memory", "99999999999999999999" },
	    "--memory 99999999999999999999: more than this machine has "
	    "(16384M)" },
	{ "refuses_overflowing_unit", { "--memory", "18014398509481984G" },
	    "--memory 18014398509481984G: more than this machine has "
	    "(16384M)" },
	{ "refuses_no_cpus", { "--cpus", "0" },
	    "--cpus 0: not a number from 1 to 64" },
	{ "refuses_too_many_cpus", { "--cpus", "65" },
	    "--cpus 65: not a number from 1 to 64" },
	{ "refuses_cpus_of_letters", { "--cpus", "two" },
	    "--cpus two: not a number from 1 to 64" },
	{ "refuses_trailing_garbage", { "--cpus", "2x" },
	    "--cpus 2x: not a number from 1 to 64" },
	{ "refuses_missing_value", { "--kernel" }, "--kernel needs a value" },
	{ "refuses_value_of_a_switch", { "--detach=yes" },
	    "--detach takes no value" },
	{ "refuses_a_bare_word", { "kernel" },
	    "kernel: not an option (they begin with --)" },
	{ "refuses_unknown_option", { "--foo" },
	    "unknown option --foo; known are: --kernel --initrd --cmdline "
	    "--memory --cpus --hypervisor --placement --device --name "
	    "--sandbox --wait-policy --console --detach --no-console --quiet "
	    "--verbose --help" },
	{ "refuses_unknown_backend", { "--hypervisor", "xen" },
	    "--hypervisor xen: unknown; known are: auto kvm soft" },
	{ "refuses_a_prefix_of_a_backend", { "--hypervisor", "so" },
	    "--hypervisor so: unknown; known are: auto kvm soft" },
	{ "refuses_unknown_sandbox", { "--sandbox", "maybe" },
	    "--sandbox maybe: unknown; known are: on best-effort off" },
	{ "refuses_unknown_policy", { "--wait-policy", "fast" },
	    "--wait-policy fast: unknown; known are: latency balanced "
	    "density" },
	{ "refuses_a_bad_name", { "--name", "a/b" },
	    "--name a/b: a name is 1 to 31 of a-z A-Z 0-9 . _ -" },
	{ "refuses_a_long_name",
	    { "--name", "12345678901234567890123456789012" },
	    "--name 12345678901234567890123456789012: a name is 1 to 31 of "
	    "a-z A-Z 0-9 . _ -" },
	{ "refuses_placement_without_where", { "--placement", "serial" },
	    "--placement serial: not DEVICE=isolated or DEVICE=inline" },
	{ "refuses_unknown_placement", { "--placement", "serial=moon" },
	    "--placement serial=moon: unknown placement; known are: isolated "
	    "inline" },
	{ "refuses_placement_of_no_device", { "--placement", "disk=inline" },
	    "--placement disk: no such device; known are: serial rtc" },
	{ "refuses_unknown_device", { "--device", "gpu" },
	    "--device gpu: unknown device type; known are: serial rtc "
	    "debugport" },
	{ "refuses_an_empty_device", { "--device", "" },
	    "--device : no device type" },
	{ "refuses_an_option_without_value", { "--device", "rtc,base" },
	    "--device rtc: base: not KEY=VALUE" },
	{ "refuses_unknown_device_option", { "--device", "rtc,color=red" },
	    "--device rtc: unknown option color; known are: name restarts "
	    "base,drift" },
	{ "refuses_option_of_one_without", { "--device", "serial,x=1" },
	    "--device serial: unknown option x; known are: name restarts" },
	{ "refuses_a_bad_device_name", { "--device", "rtc,name=a b" },
	    "--device rtc: name=a b: a name is 1 to 31 of a-z A-Z 0-9 . _ -" },
	{ "refuses_the_name_of_another", { "--device", "rtc,name=serial" },
	    "--device rtc: the name serial is that of a serial" },
	{ "refuses_no_restarts", { "--device", "rtc,restarts=0" },
	    "--device rtc: restarts=0: not a number from 1 to 100000" },
	{ "refuses_console_and_none", { "--console", "serial", "--no-console" },
	    "--console and --no-console exclude each other" },
};

static int
parse(
    struct run_options *o, const char *const argv[ARGS], char *err, size_t size)
{
	char *copy[ARGS + 1] = { NULL };
	int argc = 0, r;

	while (argc < ARGS && argv[argc] != NULL) {
		copy[argc] = strdup(argv[argc]);
		argc++;
	}
	r = options_parse_run(o, argc, copy, MACHINE, err, size);
	if (r == 0)
		r = options_resolve_devices(
		    o, types, ARRAY_LEN(types), err, size);
	for (int i = 0; i < argc; i++)
		free(copy[i]);
	return r;
}

static void
complains_exactly(void)
{
	static struct run_options o;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char err[1024] = "";
		int r = parse(&o, cases[i].argv, err, sizeof(err));
		bool right = cases[i].error == NULL
		    ? r == 0
		    : r < 0 && strcmp(err, cases[i].error) == 0;

		if (!right)
			printf("%s: %d \"%s\"\n", cases[i].claim, r, err);
		CU_ASSERT(right);
	}
}

static void
merges_devices_with_the_platform(void)
{
	static const char *const argv[ARGS] = { "--device", "serial,restarts=7",
		"--device", "serial,name=com2", "--placement", "com2=inline" };
	static struct run_options o;
	char err[1024];

	CU_ASSERT_EQUAL_FATAL(parse(&o, argv, err, sizeof(err)), 0);
	CU_ASSERT_EQUAL_FATAL(o.ndevices, 3);
	CU_ASSERT_STRING_EQUAL(o.devices[0].name, "serial");
	CU_ASSERT_EQUAL(o.devices[0].restarts, 7);
	CU_ASSERT_FALSE(o.devices[0].is_inline);
	CU_ASSERT_STRING_EQUAL(o.devices[1].name, "rtc");
	CU_ASSERT_STRING_EQUAL(o.devices[2].name, "com2");
	CU_ASSERT_STRING_EQUAL(o.devices[2].type, "serial");
	CU_ASSERT_TRUE(o.devices[2].is_inline);
}

static void
reads_the_list_of_types(void)
{
	static const struct {
		const char *line;
		bool ok, platform;
		const char *options;
	} lines[] = {
		{ "rtc\ta clock\tplatform\tnone\tbase,drift\n", true, true,
		    "base,drift" },
		{ "rtc\ta clock\toptional\tnone\t-\n", true, false, "" },
		{ "rtc\ta clock\tplatform\n", true, true, "" },
		{ "rtc\ta clock\n", false, false, "" },
		{ "\ta clock\tplatform\n", false, false, "" },
		{ "", false, false, "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct known_type t;
		bool ok = options_parse_type(&t, lines[i].line);

		CU_ASSERT_EQUAL(ok, lines[i].ok);
		if (!ok)
			continue;
		CU_ASSERT_EQUAL(t.platform, lines[i].platform);
		CU_ASSERT_STRING_EQUAL(t.options, lines[i].options);
	}
}

int
main(void)
{
	CU_pSuite s;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	s = CU_add_suite("options", NULL, NULL);
	CU_add_test(s, "complains_exactly", complains_exactly);
	CU_add_test(s, "merges_devices_with_the_platform",
	    merges_devices_with_the_platform);
	CU_add_test(s, "reads_the_list_of_types", reads_the_list_of_types);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed != 0;
}
