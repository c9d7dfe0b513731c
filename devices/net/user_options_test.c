/* The options of the user-mode network. */
#include "devices/net/user_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static void
takes_forwards_as_qemu_writes_them(void)
{
	static const struct {
		const char *text;
		bool udp;
		const char *host;
		unsigned host_port;
		const char *guest;
		unsigned guest_port;
	} rows[] = {
		{ "tcp::2222-:22", false, "0.0.0.0", 2222, "0.0.0.0", 22 },
		{ "::2222-:22", false, "0.0.0.0", 2222, "0.0.0.0", 22 },
		{ "udp:127.0.0.1:53-10.0.2.15:5353", true, "127.0.0.1", 53,
		    "10.0.2.15", 5353 },
		{ "tcp:255.255.255.255:65535-:1", false, "255.255.255.255",
		    65535, "0.0.0.0", 1 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct user_forward f;

		CU_ASSERT_EQUAL(user_forward_parse(rows[i].text, &f), 0);
		CU_ASSERT_EQUAL(f.udp, rows[i].udp);
		CU_ASSERT_EQUAL(f.host_address, inet_addr(rows[i].host));
		CU_ASSERT_EQUAL(f.guest_address, inet_addr(rows[i].guest));
		CU_ASSERT_EQUAL(ntohs(f.host_port), rows[i].host_port);
		CU_ASSERT_EQUAL(ntohs(f.guest_port), rows[i].guest_port);
	}
}

static void
refuses_other_forwards(void)
{
	static const char *const rows[] = { "", "tcp",
		"tcp:", "tcp::", "tcp::22", "tcp::22-", "tcp::22-22",
		"tcp::22-:", "sctp::1-:2", "tcp::0-:22", "tcp::22-:0",
		"tcp::65536-:22", "tcp::22-:99999", "tcp::22-:22 ",
		"tcp: :22-:22", "tcp:host:22-:22", "tcp:1.2.3:22-:22",
		"tcp:1.2.3.4.5:22-:22", "tcp:1.2.3.4444444444444444:22-:22",
		"tcp::-1-:22", "tcp::22-:22-:22", "tcp::000022-:22",
		"TCP::22-:22" };

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct user_forward f;

		CU_ASSERT_EQUAL(user_forward_parse(rows[i], &f), -EINVAL);
	}
}

static void
knows_its_keys_and_values(void)
{
	static const struct {
		const char *key, *val;
		int result;
		bool valid;
	} rows[] = {
		{ "network", "192.168.7.0/24", 0, true },
		{ "network", "172.16.0.0/12", 0, true },
		{ "network", "10.1.2.0", 0, true },
		{ "network", "10.1.2.0/27", 0, true },
		{ "network", "10.1.2.1/24", -EINVAL, true },
		{ "network", "10.1.2.0/28", -EINVAL, true },
		{ "network", "10.1.2.0/7", -EINVAL, true },
		{ "network", "10.1.2.0/", -EINVAL, true },
		{ "network", "fe80::/64", -EINVAL, true },
		{ "host", "10.0.2.9", 0, true },
		{ "host", "10.0.3.9", 0, false },
		{ "host", "10.0.2.3", 0, false }, /* is the name server */
		{ "host", "10.0.2.0", 0, false },
		{ "dns", "10.0.2.255", 0, false },
		{ "dns", "10.0.2.7", 0, true },
		{ "dhcp", "10.0.2.100", 0, true },
		{ "dhcp", "nonsense", -EINVAL, true },
		{ "resolver", "9.9.9.9", 0, true },
		{ "resolver", "dns.example", -EINVAL, true },
		{ "restrict", "on", 0, true },
		{ "restrict", "yes", -EINVAL, true },
		{ "ipv6", "off", 0, true },
		{ "hostfwd", "tcp::1-:2", 0, true },
		{ "hostfwd", "tcp::1-10.9.9.9:2", 0, false },
		{ "hostfwd", "tcp", -EINVAL, true },
		{ "smb", "/", -ENOENT, true },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct user_options o;

		user_options_reset(&o);
		CU_ASSERT_TRUE(user_options_valid(&o));
		CU_ASSERT_EQUAL(user_options_set(&o, rows[i].key, rows[i].val),
		    rows[i].result);
		CU_ASSERT_EQUAL(user_options_valid(&o), rows[i].valid);
	}
}

static void
the_network_moves_what_is_in_it(void)
{
	struct user_options o;

	user_options_reset(&o);
	CU_ASSERT_EQUAL(o.host, inet_addr("10.0.2.2"));
	CU_ASSERT_EQUAL(user_options_set(&o, "network", "192.168.7.0/24"), 0);
	CU_ASSERT_EQUAL(o.mask, inet_addr("255.255.255.0"));
	CU_ASSERT_EQUAL(o.host, inet_addr("192.168.7.2"));
	CU_ASSERT_EQUAL(o.dns, inet_addr("192.168.7.3"));
	CU_ASSERT_EQUAL(o.dhcp, inet_addr("192.168.7.15"));
}

static void
takes_so_many_forwards_and_no_more(void)
{
	struct user_options o;

	user_options_reset(&o);
	for (unsigned i = 0; i < USER_FORWARDS_MAX; i++)
		CU_ASSERT_EQUAL(user_options_set(&o, "hostfwd", "::1-:2"), 0);
	CU_ASSERT_EQUAL(user_options_set(&o, "hostfwd", "::1-:2"), -ENOSPC);
	CU_ASSERT_TRUE(user_options_valid(&o));
	o.nforwards++;
	CU_ASSERT_FALSE(user_options_valid(&o));
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(takes_forwards_as_qemu_writes_them),
		NAMED_TEST(refuses_other_forwards),
		NAMED_TEST(knows_its_keys_and_values),
		NAMED_TEST(the_network_moves_what_is_in_it),
		NAMED_TEST(takes_so_many_forwards_and_no_more),
	};
	return named_tests_run("user-mode network", tests, ARRAY_LEN(tests));
}
