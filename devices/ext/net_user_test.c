/*
 * The user-mode network: libslirp for real, a guest in a few bytes of Ethernet,
 * and sockets on the loopback interface.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include "devhost/harness.h"
#include "devices/ext/net_user_shim.h"
#include "devices/net/frame.h"
#include "devices/net/user_options.h"
#include "proto/packet.h"
#include "tests/named_tests.h"

#define GUEST 0x0a00020fu /* 10.0.2.15 */
#define HOST  0x0a000202u
#define DNS   0x0a000203u
#define FDS   1024

static const uint8_t guest_mac[6] = { 2, 0, 0, 0, 0, 15 };

struct bench {
	struct harness h;
	uint64_t from, to;
	uint8_t host_mac[6];
	uint8_t got[FRAME_MAX]; /* the frame last received */
	size_t n;
	bool before[FDS]; /* those that are not the process's */
};

struct option {
	const char *key, *value;
};

static int
set_options(struct device *dev, void *ctx)
{
	const struct option *o = ctx;
	int rc = 0;

	for (; rc == 0 && o->key != NULL; o++)
		rc = dev->type->ops->configure(dev, o->key, o->value);
	return rc;
}

static int
start(struct bench *b, struct option *options)
{
	const struct device_type *t = device_type_find("net-user");
	const struct harness_want want = { .link_side = 1 };
	int rc;

	memset(b, 0, sizeof(*b));
	harness_make_want(&b->h, t, &want);
	for (int i = 0; i < FDS; i++)
		b->before[i] = fcntl(i, F_GETFD) >= 0;
	harness_prepare(&b->h, t);
	rc = engine_attach(&b->h.dev, t, &b->h.config);
	return rc < 0 ? rc : engine_start(&b->h.dev, set_options, options);
}

/* The process dies, and with it its sockets. */
static void
stop(struct bench *b)
{
	harness_stop(&b->h);
	for (int i = 0; i < FDS; i++)
		if (!b->before[i])
			close(i);
}

static void
restart(struct bench *b)
{
	const struct device_type *t = b->h.dev.type;

	stop(b);
	CU_ASSERT_EQUAL_FATAL(harness_start(&b->h, t), 1);
}

static void
put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void
put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

static void
send_frame(
    struct bench *b, const struct net_header *h, const uint8_t *f, size_t n)
{
	struct iovec iov[2] = { { NULL, sizeof(*h) }, { NULL, n } };

	memcpy(&iov[0].iov_base, &h, sizeof(h));
	memcpy(&iov[1].iov_base, &f, sizeof(f));
	BUG_ON(packet_put(b->h.link_to[0], iov, 2) != 0);
	b->to++;
	harness_run(&b->h);
}

/* 1: who has HOST? 2: we are GUEST. */
static void
say_arp(struct bench *b, unsigned operation)
{
	static const struct net_header plain;
	uint8_t f[42] = { 0 };

	memset(f, 255, 6);
	memcpy(f + 6, guest_mac, 6);
	put16(f + 12, 0x0806);
	put16(f + 14, 1);
	put16(f + 16, 0x0800);
	f[18] = 6;
	f[19] = 4;
	put16(f + 20, operation);
	memcpy(f + 22, guest_mac, 6);
	put32(f + 28, GUEST);
	put32(f + 38, HOST);
	send_frame(b, &plain, f, sizeof(f));
}

static bool
is_arp_question(const struct bench *b)
{
	return b->n >= 42 && b->got[12] == 8 && b->got[13] == 6 &&
	    b->got[21] == 1;
}

/* Take frames until one is of that kind. */
static bool
receive(struct bench *b, bool (*is)(const struct bench *b))
{
	uint64_t end = time_now_ns() + 20000000000ull;

	while (time_now_ns() < end) {
		const uint8_t *data;
		ssize_t n = packet_peek(b->h.link_from[0], b->from, &data);

		if (n < 0) {
			if (harness_run(&b->h) == 0)
				harness_ready(&b->h, 1);
			(void)engine_timer(&b->h.dev);
			continue;
		}
		b->n = (size_t)n - FRAME_HEADER;
		memcpy(b->got, data + FRAME_HEADER, b->n);
		packet_release(b->h.link_from[0], ++b->from);
		/* It says that its checksums are right. */
		CU_ASSERT_EQUAL(data[0], NET_DATA_VALID);
		if (is(b))
			return true;
		if (is_arp_question(b))
			say_arp(b, 2);
	}
	return false;
}

static bool
is_arp_answer(const struct bench *b)
{
	return b->n >= 42 && b->got[12] == 8 && b->got[13] == 6 &&
	    b->got[21] == 2;
}

static void
greet(struct bench *b)
{
	say_arp(b, 1);
	CU_ASSERT_TRUE_FATAL(receive(b, is_arp_answer));
	memcpy(b->host_mac, b->got + 22, 6);
}

/* An UDP datagram to HOST; the checksum as an offloading driver leaves it. */
static void
send_udp(
    struct bench *b, uint32_t to, uint16_t port, const char *text, bool offload)
{
	struct net_header h = {
		.flags = NET_NEEDS_CSUM,
		.csum_start = 34,
		.csum_offset = 6,
	};
	uint8_t f[1514] = { 0 };
	size_t length = strlen(text), n = 42 + length;
	uint16_t sum;

	memcpy(f, b->host_mac, 6);
	memcpy(f + 6, guest_mac, 6);
	put16(f + 12, 0x0800);
	f[14] = 0x45;
	put16(f + 16, (unsigned)(n - 14));
	f[22] = 64;
	f[23] = 17;
	put32(f + 26, GUEST);
	put32(f + 30, to);
	sum = (uint16_t)~frame_sum(f + 14, 20, 0);
	memcpy(f + 24, &sum, 2);
	put16(f + 34, 40000);
	put16(f + 36, port);
	put16(f + 38, (unsigned)(8 + length));
	memcpy(f + 42, text, length);
	sum = frame_sum(f + 26, 8, htons((uint16_t)(17 + 8 + length)));
	memcpy(f + 40, &sum, 2);
	if (!offload)
		frame_complete(&h, f, n);
	send_frame(b, &h, f, n);
}

static bool
is_udp(const struct bench *b)
{
	return b->n > 42 && b->got[12] == 8 && b->got[13] == 0 &&
	    b->got[23] == 17 && b->got[36] == 40000 >> 8 &&
	    b->got[37] == (40000 & 255);
}

static bool
is_reset(const struct bench *b)
{
	return b->n >= 54 && b->got[12] == 8 && b->got[13] == 0 &&
	    b->got[23] == 6 && (b->got[47] & 4);
}

static bool
is_syn(const struct bench *b)
{
	return b->n >= 54 && b->got[12] == 8 && b->got[13] == 0 &&
	    b->got[23] == 6 && (b->got[47] & 2);
}

/* A socket on 127.0.0.1, and its port in host byte order. */
static int
local_socket(int type, uint16_t *port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&a, n), 0);
	CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* ---- the tests ---- */

static void
datagrams_come_and_go(void)
{
	struct option none = { NULL, NULL };
	struct bench b;
	uint16_t port;
	int fd = local_socket(SOCK_DGRAM, &port);

	CU_ASSERT_EQUAL_FATAL(start(&b, &none), 0);
	greet(&b);
	for (unsigned i = 0; i < 4; i++) {
		struct sockaddr_in a;
		socklen_t n = sizeof(a);
		char text[32], got[64] = "";

		snprintf(text, sizeof(text), "question %u", i);
		send_udp(&b, HOST, port, text, i % 2);
		CU_ASSERT_EQUAL(recvfrom(fd, got, sizeof(got), 0,
				    (struct sockaddr *)&a, &n),
		    (ssize_t)strlen(text));
		CU_ASSERT_STRING_EQUAL(got, text);
		CU_ASSERT_EQUAL(
		    sendto(fd, "answer", 6, 0, (struct sockaddr *)&a, n), 6);
		CU_ASSERT_TRUE(receive(&b, is_udp));
		CU_ASSERT_EQUAL(memcmp(b.got + 42, "answer", 6), 0);
		CU_ASSERT_EQUAL(memcmp(b.got, guest_mac, 6), 0);
		/* Another process, another socket: the guest does not care. */
		restart(&b);
	}
	harness_close(&b.h);
	close(fd);
}

static void
a_connection_of_a_dead_process_is_reset(void)
{
	static const struct net_header plain;
	struct option none = { NULL, NULL };
	struct bench b;
	uint8_t f[54] = { 0 };
	uint16_t sum;

	CU_ASSERT_EQUAL_FATAL(start(&b, &none), 0);
	greet(&b);
	/* A segment of a connection that it does not know. */
	memcpy(f, b.host_mac, 6);
	memcpy(f + 6, guest_mac, 6);
	put16(f + 12, 0x0800);
	f[14] = 0x45;
	put16(f + 16, 40);
	f[22] = 64;
	f[23] = 6;
	put32(f + 26, GUEST);
	put32(f + 30, HOST);
	sum = (uint16_t)~frame_sum(f + 14, 20, 0);
	memcpy(f + 24, &sum, 2);
	put16(f + 34, 40001);
	put16(f + 36, 80);
	put32(f + 38, 1000);
	put32(f + 42, 2000);
	f[46] = 0x50;
	f[47] = 0x10;
	put16(f + 48, 1000);
	sum = frame_sum(f + 26, 8, htons(6 + 20));
	sum = (uint16_t)~frame_sum(f + 34, 20, sum);
	memcpy(f + 50, &sum, 2);
	send_frame(&b, &plain, f, sizeof(f));
	CU_ASSERT_TRUE(receive(&b, is_reset));
	harness_close(&b.h);
}

static bool
can_connect(uint16_t port, int *fd)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(*fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static void
forwards_are_there_again_after_a_restart(void)
{
	char text[64];
	struct option options[] = { { "hostfwd", text }, { NULL, NULL } };
	struct bench b;
	uint16_t port;
	int fd;

	close(local_socket(SOCK_STREAM, &port));
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u-10.0.2.15:22", port);
	CU_ASSERT_EQUAL_FATAL(start(&b, options), 0);
	for (unsigned i = 0; i < 3; i++) {
		greet(&b);
		CU_ASSERT_TRUE(can_connect(port, &fd));
		CU_ASSERT_TRUE(receive(&b, is_syn));
		CU_ASSERT_EQUAL(b.got[37], 22);
		close(fd);
		restart(&b);
	}
	stop(&b);
	CU_ASSERT_FALSE(can_connect(port, &fd));
	close(fd);
}

/* A name server of this machine answers for the virtual one. */
static void
names_are_asked_of_the_resolver(void)
{
	struct option options[] = { { "resolver", "127.0.0.1" },
		{ NULL, NULL } };
	struct bench b;
	struct sockaddr_in a = {
		.sin_family = AF_INET,
		.sin_port = htons(53),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char got[64] = "";

	CU_ASSERT_EQUAL_FATAL(start(&b, options), 0);
	greet(&b);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		printf("(port 53 is not ours: only half of it) ");
		send_udp(&b, DNS, 53, "name?", false);
	} else {
		send_udp(&b, DNS, 53, "name?", false);
		CU_ASSERT_EQUAL(recv(fd, got, sizeof(got), 0), 5);
		CU_ASSERT_STRING_EQUAL(got, "name?");
	}
	close(fd);
	harness_close(&b.h);
}

static void
garbage_is_dropped(void)
{
	static const struct {
		struct net_header h;
		size_t n;
	} rows[] = {
		{ { 0 }, 0 },
		{ { 0 }, 13 },
		{ { 1, 0, 0, 0, 65535, 65535, 0 }, 60 },
		{ { 1, 9, 0, 1, 14, 6, 0 }, 60 },
		{ { 0 }, 60 },
		{ { 0 }, FRAME_MAX },
	};
	static uint8_t f[FRAME_MAX];
	struct option none = { NULL, NULL };
	struct bench b;

	CU_ASSERT_EQUAL_FATAL(start(&b, &none), 0);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		for (unsigned type = 0; type < 256; type++) {
			f[12] = (uint8_t)(type & 1 ? 0x08 : 0x86);
			f[13] = (uint8_t)(type & 2 ? 0xdd : 0);
			f[14] = (uint8_t)type;
			send_frame(&b, &rows[i].h, f, rows[i].n);
		}
	}
	greet(&b);
	/* A peer that lies about its ring. */
	atomic_store(&b.h.link_to[0]->head, 1ull << 33);
	harness_run(&b.h);
	packet_resume_producer(b.h.link_to[0]);
	greet(&b);
	harness_close(&b.h);
}

static void
refuses_options_that_contradict(void)
{
	static const struct option rows[][3] = {
		{ { "host", "10.0.3.1" }, { NULL, NULL } },
		{ { "dns", "10.0.2.2" }, { NULL, NULL } },
		{ { "hostfwd", "tcp::1-10.9.9.9:1" }, { NULL, NULL } },
		{ { "network", "10.0.2.0/30" }, { NULL, NULL } },
		{ { "hostfwd", "tcp::1" }, { NULL, NULL } },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct option o[3];
		struct bench b;

		memcpy(o, rows[i], sizeof(o));
		CU_ASSERT_EQUAL(start(&b, o), -EINVAL);
		harness_close(&b.h);
	}
}

static void
keeps_of_a_resolv_conf_what_is_safe(void)
{
	static const struct {
		const char *text, *kept;
	} rows[] = {
		{ "", "" },
		{ "nameserver 9.9.9.9\n", "nameserver 9.9.9.9\n" },
		{ "# a\nsearch x\nnameserver 1.2.3.4\nnameserver ::1",
		    "nameserver 1.2.3.4\nnameserver ::1\n" },
		{ "nameserver fe80::1%eth0\n", "" },
		{ "nameserver localhost\nnameserver\n", "" },
		{ "nameserver 1.1.1.1 trailing\n", "nameserver 1.1.1.1\n" },
	};
	char long_text[4096] = "", kept[SHIM_RESOLV_MAX];

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		shim_filter_resolv(rows[i].text, kept);
		CU_ASSERT_STRING_EQUAL(kept, rows[i].kept);
	}
	for (unsigned i = 0; i < 100; i++)
		strcat(long_text, "nameserver 123.123.123.123\n");
	shim_filter_resolv(long_text, kept);
	CU_ASSERT(strlen(kept) > 400 && strlen(kept) < sizeof(kept));
	CU_ASSERT_EQUAL(kept[strlen(kept) - 1], '\n');
}

static void
opens_nothing_by_name(void)
{
	FILE *f;
	char text[64] = "";

	shim_set_resolv("nameserver 1.2.3.4\n");
	CU_ASSERT_PTR_NULL(fopen64("/etc/passwd", "r"));
	CU_ASSERT_PTR_NULL(fopen64("/etc/resolv.conf", "r+"));
	f = fopen64("/etc/resolv.conf", "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_PTR_NOT_NULL(fgets(text, sizeof(text), f));
	CU_ASSERT_STRING_EQUAL(text, "nameserver 1.2.3.4\n");
	fclose(f);
	f = fopen64("/dev/urandom", "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL(fread(text, 16, 1, f), 1);
	fclose(f);
}

/* A process that dies leaves libslirp's memory to the kernel; here nobody takes
 * it. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(datagrams_come_and_go),
		NAMED_TEST(a_connection_of_a_dead_process_is_reset),
		NAMED_TEST(forwards_are_there_again_after_a_restart),
		NAMED_TEST(names_are_asked_of_the_resolver),
		NAMED_TEST(garbage_is_dropped),
		NAMED_TEST(refuses_options_that_contradict),
		NAMED_TEST(keeps_of_a_resolv_conf_what_is_safe),
		NAMED_TEST(opens_nothing_by_name),
	};
	return named_tests_run("net-user", tests, ARRAY_LEN(tests));
}
