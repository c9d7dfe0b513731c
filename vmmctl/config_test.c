/* The configuration file: what it says, and what is said of bad ones. */
#include "vmmctl/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/named_tests.h"

#define MACHINE (16ull << 30)

static int
parse(struct run_options *o, const char *text, char *err, size_t size)
{
	struct option_parse p = { o, MACHINE, "", err, size };

	memset(o, 0, sizeof(*o));
	return config_parse(&p, "vm.json", text, strlen(text));
}

/* NULL: it is taken. */
static const struct {
	const char *claim, *text, *error;
} cases[] = {
	{ "takes_an_empty_object", "{}", NULL },
	{ "takes_numbers_and_strings", "{\"memory\": \"1G\", \"cpus\": 2}",
	    NULL },
	{ "takes_a_bare_number_of_mebibytes", "{\"memory\": 64}", NULL },
	{ "takes_a_switch", "{\"detach\": true, \"quiet\": false}", NULL },
	{ "takes_one_object_for_a_list", "{\"disk\": {\"path\": \"/a\"}}",
	    NULL },
	{ "takes_true_for_what_needs_no_keys", "{\"rng\": true}", NULL },
	{ "takes_keys_that_look_like_more",
	    "{\"cmdline\": \"a\\\": {\\\"b\", \"cpus\": 1}", NULL },
	{ "refuses_nothing", "",
	    "vm.json:1: '[' or '{' expected near end of file" },
	{ "refuses_a_list", "[]", "vm.json:1: not an object" },
	{ "refuses_what_is_cut", "{\n\"cpus\": 1,\n",
	    "vm.json:3: string or '}' expected near end of file" },
	{ "refuses_trailing_words", "{} x",
	    "vm.json:1: end of file expected near 'x'" },
	{ "refuses_a_key_given_twice", "{\"cpus\": 1,\n\"cpus\": 2}",
	    "vm.json:2: duplicate object key near '\"cpus\"'" },
	{ "refuses_an_unknown_key", "{\n \"cpus\": 1,\n \"cpu\": 2\n}",
	    "vm.json:3: unknown key cpu" },
	{ "refuses_dashes", "{\"--cpus\": 1}",
	    "vm.json:1: unknown key --cpus" },
	{ "refuses_config_in_a_configuration", "{\"config\": \"x\"}",
	    "vm.json:1: unknown key config" },
	{ "refuses_a_bad_value", "{\n\n\"cpus\": 99}",
	    "vm.json:3: cpus 99: not a number from 1 to 64" },
	{ "refuses_a_negative_number", "{\"cpus\": -1}",
	    "vm.json:1: cpus -1: not a number from 1 to 64" },
	{ "refuses_a_fraction", "{\"cpus\": 1.5}",
	    "vm.json:1: cpus: not a string or a whole number" },
	{ "refuses_truth_for_a_text", "{\"cpus\": true}",
	    "vm.json:1: cpus: not a string or a whole number" },
	{ "refuses_a_text_for_a_switch", "{\"detach\": \"yes\"}",
	    "vm.json:1: detach: not true or false" },
	{ "refuses_null", "{\"kernel\": null}",
	    "vm.json:1: kernel: not a string or a whole number" },
	{ "refuses_a_disk_that_is_a_text", "{\"disk\": \"/a\"}",
	    "vm.json:1: disk: not a list of objects" },
	{ "refuses_a_list_of_texts", "{\"disk\": [\"/a\"]}",
	    "vm.json:1: disk: not a list of objects" },
	{ "refuses_true_for_what_needs_keys", "{\"disk\": true}",
	    "vm.json:1: disk: not a list of objects" },
	{ "refuses_a_disk_without_path",
	    "{\"disk\": [\n{\"path\": \"/a\"},\n{\n\"serial\": \"x\"}]}",
	    "vm.json:4: disk: path is missing" },
	{ "refuses_an_object_in_a_disk", "{\"disk\": [{\"path\": {}}]}",
	    "vm.json:1: disk: path: not a string, a whole number, true or "
	    "false" },
	{ "refuses_two_disks_of_one_name",
	    "{\"disk\": [{\"path\": \"/a\", \"id\": \"x\"},\n"
	    "{\"path\": \"/b\", \"id\": \"x\"}]}",
	    "vm.json:2: disk: the name x is given twice" },
	{ "refuses_a_network_without_type", "{\"net\": [{\"mac\": \"x\"}]}",
	    "vm.json:1: net: user, tap or switch:NAME is missing" },
	{ "refuses_placements_that_are_a_list", "{\"placement\": []}",
	    "vm.json:1: placement: not an object" },
	{ "refuses_an_unknown_place", "{\"placement\": {\n\"rtc\": \"moon\"}}",
	    "vm.json:2: placement rtc=moon: unknown placement; known are: "
	    "isolated inline" },
	{ "refuses_a_place_that_is_no_text", "{\"placement\": {\"rtc\": 1}}",
	    "vm.json:1: placement: rtc: not a string" },
	{ "refuses_zero_bytes", "{\"kernel\": \"a\\u0000b\"}",
	    "vm.json:1: \\u0000 is not allowed without JSON_ALLOW_NUL near "
	    "'\"a\\u0000b\"'" },
};

static void
complains_with_file_line_and_key(void)
{
	static struct run_options o;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char err[1024] = "";
		int r = parse(&o, cases[i].text, err, sizeof(err));
		bool right = cases[i].error == NULL
		    ? r == 0
		    : r < 0 && strcmp(err, cases[i].error) == 0;

		if (!right)
			printf("%s: %d \"%s\"\n", cases[i].claim, r, err);
		CU_ASSERT(right);
		options_free(&o);
	}
}

static const char whole[] =
    "{\n"
    "  \"kernel\": \"vmlinuz\",\n"
    "  \"cmdline\": \"console=ttyS0 a=\\\"b\\\"\",\n"
    "  \"memory\": \"512M\",\n"
    "  \"cpus\": 2,\n"
    "  \"no-console\": true,\n"
    "  \"disk\": [\n"
    "    { \"path\": \"/a,b\", \"readonly\": true, \"bps\": 1000 },\n"
    "    { \"path\": \"nbd+unix:///x?socket=/s\" }\n"
    "  ],\n"
    "  \"net\": { \"type\": \"user\",\n"
    "    \"hostfwd\": [\"tcp::1-:1\", \"tcp::2-:2\"] },\n"
    "  \"device\": [{ \"type\": \"debugport\", \"restarts\": 9 }],\n"
    "  \"placement\": { \"serial\": \"inline\" },\n"
    "  \"balloon\": { \"size\": \"64M\" }\n"
    "}\n";

static void
says_the_same_as_options(void)
{
	static struct run_options o;
	const struct option_device *d = o.devices;
	char err[1024];

	CU_ASSERT_EQUAL_FATAL(parse(&o, whole, err, sizeof(err)), 0);
	CU_ASSERT_STRING_EQUAL(o.kernel, "vmlinuz");
	CU_ASSERT_STRING_EQUAL(o.cmdline, "console=ttyS0 a=\"b\"");
	CU_ASSERT_EQUAL(o.memory, 512ull << 20);
	CU_ASSERT_EQUAL(o.cpus, 2);
	CU_ASSERT_TRUE(o.no_console);
	CU_ASSERT_EQUAL_FATAL(o.ndevices, 6);
	CU_ASSERT_STRING_EQUAL(d[0].type, "virtio-blk");
	CU_ASSERT_STRING_EQUAL(d[0].where, "vm.json:8: ");
	CU_ASSERT_STRING_EQUAL(d[0].files[0].what, "/a,b");
	CU_ASSERT_TRUE(d[0].files[0].readonly);
	CU_ASSERT_EQUAL(d[0].nparams, 2);
	CU_ASSERT_STRING_EQUAL(d[0].params[1].value, "1000");
	CU_ASSERT_STRING_EQUAL(d[1].type, "virtio-blk-nbd");
	CU_ASSERT_STRING_EQUAL(d[1].files[0].address.path, "/s");
	CU_ASSERT_STRING_EQUAL(d[2].link, "net0-user");
	CU_ASSERT_EQUAL_FATAL(d[2].nparams, 2);
	CU_ASSERT_STRING_EQUAL(d[2].params[0].value, "tcp::1-:1");
	CU_ASSERT_STRING_EQUAL(d[2].params[1].value, "tcp::2-:2");
	CU_ASSERT_STRING_EQUAL(d[3].type, "net-user");
	CU_ASSERT_EQUAL(d[4].restarts, 9);
	CU_ASSERT_STRING_EQUAL(d[5].params[0].value, "64");
	CU_ASSERT_EQUAL_FATAL(o.nplacements, 1);
	CU_ASSERT_STRING_EQUAL(o.placements[0].device, "serial");
	CU_ASSERT_TRUE(o.placements[0].is_inline);
	options_free(&o);
}

/* A file with that text, for the command line to name. */
static bool
write_file(char path[64], const char *text)
{
	size_t n = strlen(text);
	int fd;
	bool written;

	snprintf(path, 64, "/tmp/bulkhead-config-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return false;
	written = write(fd, text, n) == (ssize_t)n;
	close(fd);
	return written;
}

static void
the_command_line_has_the_last_word(void)
{
	static struct run_options o;
	char path[64], err[1024],
	    cpus[] = "--cpus", four[] = "4", disk[] = "--disk=path=/b",
	    config[] = "--config", cmdline[] = "--cmdline", quiet[] = "--quiet";
	/* Before the file, behind it, and an option's value of that name. */
	char *argv[] = { cpus, four, config, path, disk, cmdline, config,
		quiet };

	CU_ASSERT_FATAL(write_file(path,
	    "{\"cpus\": 2, \"memory\": \"64M\", \"cmdline\": \"x\","
	    "\"disk\": {\"path\": \"/a\"}}"));
	CU_ASSERT_EQUAL(options_parse_run(&o, ARRAY_LEN(argv), argv, MACHINE,
			    err, sizeof(err)),
	    0);
	CU_ASSERT_EQUAL(o.cpus, 4);
	CU_ASSERT_EQUAL(o.memory, 64ull << 20);
	CU_ASSERT_STRING_EQUAL(o.cmdline, "--config");
	CU_ASSERT_TRUE(o.quiet);
	CU_ASSERT_EQUAL_FATAL(o.ndevices, 2);
	CU_ASSERT_STRING_EQUAL(o.devices[0].files[0].what, "/a");
	CU_ASSERT_STRING_EQUAL(o.devices[1].files[0].what, "/b");
	CU_ASSERT_STRING_EQUAL(o.devices[1].name, "blk1");
	options_free(&o);
	unlink(path);
}

static void
refuses_files_that_are_none(void)
{
	static const struct {
		const char *path, *error;
	} files[] = {
		{ "/nonexistent",
		    "--config /nonexistent: No such file or directory" },
		{ "/tmp",
		    "--config /tmp: not a regular file of at most 1048576 "
		    "bytes" },
		{ "/dev/null",
		    "--config /dev/null: not a regular file of at most 1048576 "
		    "bytes" },
	};
	static struct run_options o;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char err[1024] = "";
		struct option_parse p = { &o, MACHINE, "", err, sizeof(err) };

		CU_ASSERT_EQUAL(config_load(&p, files[i].path), -EINVAL);
		CU_ASSERT_STRING_EQUAL(err, files[i].error);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(complains_with_file_line_and_key),
	NAMED_TEST(says_the_same_as_options),
	NAMED_TEST(the_command_line_has_the_last_word),
	NAMED_TEST(refuses_files_that_are_none),
};

int
main(void)
{
	return named_tests_run("config", tests, ARRAY_LEN(tests));
}
