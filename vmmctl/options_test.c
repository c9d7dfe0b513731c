/* The command line: every bad input and its exact complaint. */
#include "vmmctl/options.h"

#include <stdlib.h>
#include <string.h>

#include "tests/named_tests.h"
#include "vmmctl/option_parse.h"

#define MACHINE (16ull << 30)
#define ARGS	6

static const struct known_type types[] = {
	{ "serial", "a serial port", true, "", "", false, 0 },
	{ "rtc", "a clock", true, "base,drift", "", false, 0 },
	{ "debugport", "a port", false, "", "", false, 0 },
	{ "virtio-blk", "a disk", false, "serial,cache,read-only,bps",
	    "disk,?fence", false, 0 },
	{ "virtio-net", "a network card", false, "mac", "", false, 0 },
	{ "net-tap", "a tap", false, "", "tap", false, 0 },
	{ "virtio-vsock", "a socket", false, "cid", "relay,relay-link", false,
	    0 },
	{ "virtio-rng", "entropy", false, "", "", false, 0 },
	{ "virtio-balloon", "a balloon", false, "size", "", false, 0 },
	{ "virtio-console", "consoles", false, "ports", "", false, 0 },
	{ "virtio-blk-nbd", "a disk elsewhere", false, "export,read-only",
	    "socket,?connector", false, 1 },
	{ "net-user", "user network", false, "hostfwd", "", true, 1 },
};

struct complaint {
	const char *claim;
	const char *argv[ARGS];
	const char *error;
};

/* NULL: it is taken. */
static const struct complaint cases[] = {
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
	    "--memory --cpus --name --hypervisor --sandbox --wait-policy "
	    "--console --icount --blackbox --placement --device --disk --net "
	    "--vsock --virtio-console --rng --balloon --detach --no-console "
	    "--quiet --verbose --config --dry-run --help" },
	{ "refuses_unknown_backend", { "--hypervisor", "xen" },
	    "--hypervisor xen: unknown; known are: auto kvm soft" },
	{ "refuses_a_prefix_of_a_backend", { "--hypervisor", "so" },
	    "--hypervisor so: unknown; known are: auto kvm soft" },
	{ "refuses_unknown_sandbox", { "--sandbox", "maybe" },
	    "--sandbox maybe: unknown; known are: on best-effort off" },
	{ "refuses_unknown_policy", { "--wait-policy", "fast" },
	    "--wait-policy fast: unknown; known are: latency balanced "
	    "density" },
	{ "refuses_a_count_that_is_none", { "--icount=x" },
	    "--icount x: not a number from 1 to 1000000 (instructions per "
	    "microsecond)" },
	{ "refuses_a_count_of_zero", { "--icount=0" },
	    "--icount 0: not a number from 1 to 1000000 (instructions per "
	    "microsecond)" },
	{ "refuses_to_count_on_two_vcpus", { "--icount", "--cpus", "2" },
	    "--icount: only with one vCPU (--cpus 1)" },
	{ "refuses_to_count_on_kvm", { "--icount", "--hypervisor", "kvm" },
	    "--icount: kvm cannot count instructions; soft can" },
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
	    "debugport virtio-blk virtio-net net-tap virtio-vsock virtio-rng "
	    "virtio-balloon virtio-console virtio-blk-nbd net-user" },
	{ "refuses_an_empty_device", { "--device", "" },
	    "--device : no device type" },
	{ "refuses_an_option_without_value", { "--device", "rtc,base" },
	    "--device rtc: base: not KEY=VALUE" },
	{ "refuses_unknown_device_option", { "--device", "rtc,color=red" },
	    "--device rtc: unknown option color; known are: name restarts "
	    "policy deadline spare "
	    "base,drift" },
	{ "refuses_option_of_one_without", { "--device", "serial,x=1" },
	    "--device serial: unknown option x; known are: name restarts "
	    "policy deadline spare" },
	{ "refuses_a_bad_device_name", { "--device", "rtc,name=a b" },
	    "--device rtc: name=a b: a name is 1 to 31 of a-z A-Z 0-9 . _ -" },
	{ "refuses_the_name_of_another", { "--device", "rtc,name=serial" },
	    "--device rtc: the name serial is that of a serial" },
	{ "takes_policies_and_deadlines",
	    { "--disk", "path=/a,policy=stop-vm,deadline=200ms", "--device",
		"rtc,policy=restart,deadline=1.5s" },
	    NULL },
	{ "refuses_an_unknown_policy", { "--device", "rtc,policy=pray" },
	    "--device: policy=pray: unknown; known are: restart remove "
	    "stop-vm" },
	{ "refuses_a_deadline_without_a_unit", { "--device", "rtc,deadline=5" },
	    "--device: deadline=5: not a time from 1ms to an hour, such as "
	    "200ms" },
	{ "refuses_a_deadline_of_nothing", { "--device", "rtc,deadline=1us" },
	    "--device: deadline=1us: not a time from 1ms to an hour, such as "
	    "200ms" },
	{ "refuses_half_a_spare", { "--device", "rtc,spare=half" },
	    "--device: spare=half: not auto, off or on" },
	{ "refuses_no_restarts", { "--device", "rtc,restarts=0" },
	    "--device rtc: restarts=0: not a number from 1 to 100000" },
	{ "refuses_a_device_given_twice",
	    { "--device", "serial", "--device", "serial,restarts=2" },
	    "--device: the name serial is given twice" },
	{ "refuses_a_key_given_twice", { "--device", "rtc,base=1,base=2" },
	    "--device: base is given twice" },
	{ "refuses_a_device_without_its_file", { "--device", "virtio-blk" },
	    "--device virtio-blk: it needs a file, disk; see --disk, --net and "
	    "--vsock" },
	{ "refuses_inline_of_another_program",
	    { "--disk", "path=nbd://h/e", "--placement", "blk0=inline" },
	    "--placement blk0=inline: a virtio-blk-nbd has a program of its "
	    "own" },
	{ "refuses_console_and_none", { "--console", "serial", "--no-console" },
	    "--console and --no-console exclude each other" },
};

/* The options that make devices; NULL: it is taken. */
static const struct complaint device_cases[] = {
	{ "takes_a_disk", { "--disk", "path=/a,readonly=on,id=d,cache=none" },
	    NULL },
	{ "takes_commas_in_a_path", { "--disk", "path=a,,b" }, NULL },
	{ "refuses_a_disk_of_nothing", { "--disk", "" },
	    "--disk: path is missing" },
	{ "refuses_a_disk_without_path", { "--disk", "readonly=on" },
	    "--disk: path is missing" },
	{ "refuses_a_bare_path", { "--disk", "/a" },
	    "--disk: /a: not KEY=VALUE" },
	{ "refuses_half_readonly", { "--disk", "path=/a,readonly=maybe" },
	    "--disk: readonly=maybe: unknown; known are: on off" },
	{ "refuses_an_unknown_cache", { "--disk", "path=/a,cache=fast" },
	    "--disk: cache=fast: unknown; known are: none writeback "
	    "writethrough directsync unsafe" },
	{ "refuses_a_long_serial",
	    { "--disk", "path=/a,serial=123456789012345678901" },
	    "--disk: serial=123456789012345678901: longer than 20 "
	    "characters" },
	{ "refuses_an_unknown_key_of_a_disk", { "--disk", "path=/a,color=red" },
	    "--disk blk0: unknown option color; known are: name restarts "
	    "policy "
	    "deadline spare "
	    "serial,cache,read-only,bps" },
	{ "refuses_two_disks_of_one_name",
	    { "--disk", "path=/a,id=x", "--disk", "path=/b,id=x" },
	    "--disk: the name x is given twice" },
	{ "refuses_the_name_of_a_platform_device",
	    { "--disk", "path=/a,id=rtc" },
	    "--disk rtc: the name rtc is that of a rtc" },
	{ "refuses_a_bad_id", { "--disk", "path=/a,id=b c" },
	    "--disk: id=b c: a name is 1 to 31 of a-z A-Z 0-9 . _ -" },
	{ "takes_nbd", { "--disk", "path=nbd://[::1]:9/x" }, NULL },
	{ "refuses_nbd_without_host", { "--disk", "path=nbd:///x" },
	    "--disk path=nbd:///x: not nbd://HOST[:PORT]/EXPORT or "
	    "nbd+unix:///EXPORT?socket=PATH" },
	{ "refuses_nbd_without_socket", { "--disk", "path=nbd+unix:///x" },
	    "--disk path=nbd+unix:///x: not nbd://HOST[:PORT]/EXPORT or "
	    "nbd+unix:///EXPORT?socket=PATH" },
	{ "takes_a_user_network",
	    { "--net", "user,hostfwd=tcp::2222-:22,hostfwd=tcp::80-:80" },
	    NULL },
	{ "takes_a_tap", { "--net", "tap,ifname=tap0,mac=52:54:00:0:0:1" },
	    "--net tap: mac=52:54:00:0:0:1: not the address of a station such "
	    "as 52:54:00:12:34:56" },
	{ "refuses_the_address_of_a_group",
	    { "--net", "user,mac=53:54:00:00:00:01" },
	    "--net user: mac=53:54:00:00:00:01: not the address of a station "
	    "such as 52:54:00:12:34:56" },
	{ "refuses_an_unknown_network", { "--net", "bridge" },
	    "--net bridge: unknown; known are: user tap switch:NAME" },
	{ "refuses_a_tap_without_a_name", { "--net", "tap" },
	    "--net tap: ifname=: not the name of an interface" },
	{ "refuses_a_long_interface",
	    { "--net", "tap,ifname=1234567890123456" },
	    "--net tap: ifname=1234567890123456: not the name of an "
	    "interface" },
	{ "refuses_an_interface_of_others", { "--net", "user,ifname=a" },
	    "--net user: ifname is for tap only" },
	{ "refuses_a_switch_without_a_name", { "--net", "switch:" },
	    "--net switch:: a name is 1 to 31 of a-z A-Z 0-9 . _ -" },
	{ "refuses_a_type_that_is_not_there", { "--net", "switch:lan" },
	    "--net: no device host here has the device type net-switch" },
	{ "refuses_an_unknown_key_of_a_network", { "--net", "user,speed=1" },
	    "--net net0: unknown option speed; known are: name restarts policy "
	    "deadline spare "
	    "mac "
	    "hostfwd" },
	{ "refuses_the_key_of_another_network",
	    { "--net", "tap,ifname=t,hostfwd=x" },
	    "--net net0: unknown option hostfwd; known are: name restarts "
	    "policy deadline spare "
	    "mac" },
	{ "takes_vsock", { "--vsock", "cid=3,socket=/s" }, NULL },
	{ "refuses_the_cid_of_the_host", { "--vsock", "cid=2,socket=/s" },
	    "--vsock: cid=2: not a number from 3 to 4294967294" },
	{ "refuses_vsock_without_socket", { "--vsock", "cid=3" },
	    "--vsock: socket is missing" },
	{ "refuses_a_long_socket",
	    { "--vsock",
		"cid=3,socket=/2345678901234567890123456789012345678901234567"
		"89012345678901234567890123456789012345678901234567" },
	    "--vsock: socket=/2345678901234567890123456789012345678901234567"
	    "89012345678901234567890123456789012345678901234567: longer than "
	    "96 characters" },
	{ "takes_rng_alone", { "--rng", "--quiet" }, NULL },
	{ "takes_rng_at_the_end", { "--rng" }, NULL },
	{ "takes_console_ports", { "--virtio-console", "ports=2" }, NULL },
	{ "takes_a_balloon", { "--balloon", "size=64M" }, NULL },
	{ "refuses_half_a_mebibyte", { "--balloon", "size=512K" },
	    "--balloon: size=512K: not a size such as 64M or 1G" },
	{ "refuses_a_missing_configuration", { "--config", "/nonexistent" },
	    "--config /nonexistent: No such file or directory" },
};

/* The strings are to be there until options_free(). */
static char *copies[ARGS + 1];

static int
parse(
    struct run_options *o, const char *const argv[ARGS], char *err, size_t size)
{
	int argc = 0, r;

	memset(copies, 0, sizeof(copies));
	while (argc < ARGS && argv[argc] != NULL) {
		copies[argc] = strdup(argv[argc]);
		argc++;
	}
	r = options_parse_run(o, argc, copies, MACHINE, err, size);
	if (r == 0)
		r = options_resolve_devices(
		    o, types, ARRAY_LEN(types), err, size);
	return r;
}

static void
forget(struct run_options *o)
{
	options_free(o);
	for (unsigned i = 0; i < ARGS; i++)
		free(copies[i]);
}

static void
run_table(const struct complaint *table, size_t n)
{
	static struct run_options o;

	for (size_t i = 0; i < n; i++) {
		char err[2048] = "";
		int r = parse(&o, table[i].argv, err, sizeof(err));
		bool right = table[i].error == NULL
		    ? r == 0
		    : r < 0 && strcmp(err, table[i].error) == 0;

		if (!right)
			printf("%s: %d \"%s\"\n", table[i].claim, r, err);
		CU_ASSERT(right);
		forget(&o);
	}
}

static void
complains_exactly(void)
{
	run_table(cases, ARRAY_LEN(cases));
}

static void
complains_exactly_of_devices(void)
{
	run_table(device_cases, ARRAY_LEN(device_cases));
}

static const struct option_device *
find(const struct run_options *o, const char *name)
{
	static const struct option_device none;

	for (unsigned i = 0; i < o->ndevices; i++)
		if (strcmp(o->devices[i].name, name) == 0)
			return &o->devices[i];
	CU_FAIL("no such device");
	return &none;
}

static bool
has_param(const struct option_device *d, const char *key, const char *value)
{
	for (unsigned i = 0; i < d->nparams; i++)
		if (strcmp(d->params[i].key, key) == 0 &&
		    strcmp(d->params[i].value, value) == 0)
			return true;
	return false;
}

static void
a_disk_is_a_file_and_its_keys(void)
{
	static const char *const argv[ARGS] = { "--disk",
		"path=/a,,b,read-only=on,cache=directsync", "--disk",
		"path=/c,id=second,bps=10M" };
	static struct run_options o;
	const struct option_device *d;
	char err[1024];

	CU_ASSERT_EQUAL_FATAL(parse(&o, argv, err, sizeof(err)), 0);
	d = find(&o, "blk0");
	CU_ASSERT_STRING_EQUAL(d->type, "virtio-blk");
	CU_ASSERT_EQUAL_FATAL(d->nfiles, 2);
	CU_ASSERT_STRING_EQUAL(d->files[1].name, "fence");
	CU_ASSERT_STRING_EQUAL(d->files[0].name, "disk");
	CU_ASSERT_STRING_EQUAL(d->files[0].what, "/a,b");
	CU_ASSERT(
	    d->files[0].readonly && d->files[0].direct && d->files[0].dsync);
	CU_ASSERT(has_param(d, "read-only", "on"));
	CU_ASSERT(has_param(d, "cache", "directsync"));
	CU_ASSERT_EQUAL(d->nparams, 2);
	d = find(&o, "second");
	CU_ASSERT(has_param(d, "bps", "10M"));
	CU_ASSERT_FALSE(d->files[0].readonly);
	forget(&o);
}

static void
a_network_is_two_processes(void)
{
	static const char *const argv[ARGS] = { "--net",
		"user,mac=52:54:00:12:34:56,hostfwd=tcp::2222-:22" };
	static struct run_options o;
	const struct option_device *d, *peer;
	char err[1024];

	CU_ASSERT_EQUAL_FATAL(parse(&o, argv, err, sizeof(err)), 0);
	d = find(&o, "net0");
	peer = find(&o, "net0-user");
	CU_ASSERT_STRING_EQUAL(d->link, "net0-user");
	CU_ASSERT_STRING_EQUAL(peer->link, "");
	CU_ASSERT_EQUAL(peer->program, 1);
	CU_ASSERT_TRUE(peer->network);
	CU_ASSERT_FALSE(d->network);
	CU_ASSERT(has_param(d, "mac", "52:54:00:12:34:56"));
	CU_ASSERT(has_param(peer, "hostfwd", "tcp::2222-:22"));
	CU_ASSERT_EQUAL(d->nparams, 1);
	forget(&o);
}

static void
reads_addresses_of_nbd(void)
{
	static const struct {
		const char *uri;
		bool ok;
		const char *path, *host, *port, *name;
	} uris[] = {
		{ "nbd://h", true, NULL, "h", "10809", "" },
		{ "nbd://h/", true, NULL, "h", "10809", "" },
		{ "nbd://1.2.3.4:99/a/b", true, NULL, "1.2.3.4", "99", "a/b" },
		{ "nbd://[fe80::1]/x", true, NULL, "fe80::1", "10809", "x" },
		{ "nbd://h/a%20b", true, NULL, "h", "10809", "a b" },
		{ "nbd+unix:///x?socket=/s", true, "/s", NULL, NULL, "x" },
		{ "nbd+unix:///?socket=/a%3f", true, "/a?", NULL, NULL, "" },
		{ "nbd+unix://?socket=s", true, "s", NULL, NULL, "" },
		{ "nbd://h:0/", false, NULL, NULL, NULL, NULL },
		{ "nbd://h:65536/", false, NULL, NULL, NULL, NULL },
		{ "nbd://h:/", false, NULL, NULL, NULL, NULL },
		{ "nbd://h:1x/", false, NULL, NULL, NULL, NULL },
		{ "nbd://-h/", false, NULL, NULL, NULL, NULL },
		{ "nbd://a b/", false, NULL, NULL, NULL, NULL },
		{ "nbd://[::1/", false, NULL, NULL, NULL, NULL },
		{ "nbd://[::1]x/", false, NULL, NULL, NULL, NULL },
		{ "nbd://h/%", false, NULL, NULL, NULL, NULL },
		{ "nbd://h/%0", false, NULL, NULL, NULL, NULL },
		{ "nbd://h/%00", false, NULL, NULL, NULL, NULL },
		{ "nbd://h/x?y=1", false, NULL, NULL, NULL, NULL },
		{ "nbd+unix://h/x?socket=/s", false, NULL, NULL, NULL, NULL },
		{ "nbd+unix:///x?socket=", false, NULL, NULL, NULL, NULL },
		{ "nbds://h/", false, NULL, NULL, NULL, NULL },
	};
	static struct run_options o;

	for (size_t i = 0; i < ARRAY_LEN(uris); i++) {
		const char *name = NULL;
		struct connector_address a;
		bool ok = option_parse_nbd(&o, uris[i].uri, &a, &name);

		if (ok != uris[i].ok)
			printf("%s: %d\n", uris[i].uri, ok);
		CU_ASSERT_EQUAL(ok, uris[i].ok);
		if (!ok || !uris[i].ok)
			continue;
		CU_ASSERT_STRING_EQUAL(name, uris[i].name);
		if (uris[i].path != NULL) {
			CU_ASSERT_STRING_EQUAL(a.path, uris[i].path);
			continue;
		}
		CU_ASSERT_PTR_NULL(a.path);
		CU_ASSERT_STRING_EQUAL(a.host, uris[i].host);
		CU_ASSERT_STRING_EQUAL(a.port, uris[i].port);
	}
	options_free(&o);
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
	forget(&o);
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

static const struct named_test tests[] = {
	NAMED_TEST(complains_exactly),
	NAMED_TEST(complains_exactly_of_devices),
	NAMED_TEST(merges_devices_with_the_platform),
	NAMED_TEST(a_disk_is_a_file_and_its_keys),
	NAMED_TEST(a_network_is_two_processes),
	NAMED_TEST(reads_addresses_of_nbd),
	NAMED_TEST(reads_the_list_of_types),
};

int
main(void)
{
	return named_tests_run("options", tests, ARRAY_LEN(tests));
}
