/*
 * A disk on an NBD server that stalls, lies and goes away; the server is a
 * thread of this process, and so is the connector.
 */
#include <CUnit/Basic.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "devices/ext/nbd.h"
#include "proto/connector.h"
#include "tests/disk_guest.h"
#include "tests/named_tests.h"

#define DISK_SIZE (1u << 20)
#define IDLE	  50u /* ms, about */

/* ---- the server ---- */

enum trick {
	HONEST,
	STALL, /* no more answers */
	GARBAGE, /* an answer that is none */
	CUT, /* half an answer, then the end */
	CLOSE, /* the end instead of an answer */
	REFUSE, /* EIO */
	MUTE, /* not even a greeting */
	SHRUNK, /* half the size */
	FOREIGN, /* speaks another protocol */
};

/* What the next connections do, and after how many requests. */
static _Atomic int trick, after, connections, refuse_connections;
static uint8_t content[DISK_SIZE];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct __attribute__((packed)) option {
	uint64_t magic;
	uint32_t option, length;
};
struct __attribute__((packed)) option_reply {
	uint64_t magic;
	uint32_t option, type, length;
};
struct __attribute__((packed)) export_info {
	struct option_reply head;
	uint16_t info;
	uint64_t size;
	uint16_t flags;
	struct option_reply ack;
};
struct __attribute__((packed)) request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
};
struct __attribute__((packed)) reply {
	uint32_t magic, error;
	uint64_t cookie;
};

static bool
get(int fd, void *p, size_t n)
{
	return n == 0 || recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

static bool
put(int fd, const void *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static struct option_reply
option_reply(uint32_t option, uint32_t type, uint32_t length)
{
	return (struct option_reply){ htobe64(0x3e889045565a9ull), option,
		htobe32(type), htobe32(length) };
}

static bool
negotiate(int fd, int how)
{
	uint8_t hello[18] = "NBDMAGICIHAVEOPT\0\3", data[512];
	uint32_t flags;
	struct option o;

	if (how == FOREIGN)
		return put(fd, "220 mail.example ESMTP\r\n", 24) && false;
	if (!put(fd, hello, sizeof(hello)) || !get(fd, &flags, 4))
		return false;
	while (get(fd, &o, sizeof(o)) && be32toh(o.length) <= sizeof(data) &&
	    get(fd, data, be32toh(o.length))) {
		struct option_reply no = option_reply(o.option, 0x80000001u, 0);

		if (be32toh(o.option) == 7) { /* NBD_OPT_GO */
			struct export_info i = {
				.head = option_reply(o.option, 3, 12),
				.size = htobe64(
				    how == SHRUNK ? DISK_SIZE / 2 : DISK_SIZE),
				.flags = htobe16(1 | 4 | 8 | 32 | 64),
				.ack = option_reply(o.option, 1, 0),
			};
			return put(fd, &i, sizeof(i));
		}
		if (!put(fd, &no, sizeof(no)))
			return false;
	}
	return false;
}

static bool
serve(int fd, const struct request *q, int how)
{
	static uint8_t buf[DISK_SIZE];
	uint32_t n = be32toh(q->length);
	uint64_t at = be64toh(q->offset);
	struct reply r = { htobe32(0x67446698), 0, q->cookie };
	unsigned type = be16toh(q->type);
	bool ok = true, data = type == 0;

	if (at > DISK_SIZE || n > DISK_SIZE - at)
		return false;
	pthread_mutex_lock(&lock);
	if (type == 1 && !get(fd, buf, n))
		ok = false;
	else if (type == 1 && how != REFUSE)
		memcpy(content + at, buf, n);
	else if (type == 4 || type == 6)
		memset(content + at, 0, n);
	if (ok && how == REFUSE) {
		r.error = htobe32(EIO);
		data = false;
	}
	if (how == GARBAGE)
		r.magic = ~r.magic;
	if (how == CUT)
		ok = put(fd, &r, 7) && false;
	else if (how != STALL)
		ok = ok && how != CLOSE && put(fd, &r, sizeof(r)) &&
		    (!data || put(fd, content + at, n));
	pthread_mutex_unlock(&lock);
	return ok;
}

static void *
connection(void *arg)
{
	int fd = (int)(intptr_t)arg, how = trick, honest = after;
	struct request q;

	if (how == MUTE || negotiate(fd, how))
		for (int i = 0; get(fd, &q, sizeof(q)); i++) {
			if (how == MUTE || be16toh(q.type) == 2)
				break;
			if (!serve(fd, &q, i < honest ? HONEST : how))
				break;
		}
	close(fd);
	return NULL;
}

static void
start_thread(void *(*fn)(void *), int fd)
{
	pthread_t t;

	BUG_ON(pthread_create(&t, NULL, fn, (void *)(intptr_t)fd) != 0);
	pthread_detach(t);
}

/* A connection to a new server; our end. */
static int
connect_server(void)
{
	int p[2];

	BUG_ON(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0);
	connections++;
	start_thread(connection, p[1]);
	return p[0];
}

static void *
connector(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct connector_request q;

	while (recv(fd, &q, sizeof(q), 0) == (ssize_t)sizeof(q)) {
		struct connector_answer a = { q.cookie, 0 };
		union {
			struct cmsghdr head;
			char bytes[CMSG_SPACE(sizeof(int))];
		} c = { .bytes = { 0 } };
		struct iovec iov = { &a, sizeof(a) };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
		int s = -1;

		if (refuse_connections > 0) {
			refuse_connections--;
			a.error = ECONNREFUSED;
		} else {
			s = connect_server();
			m.msg_control = c.bytes;
			m.msg_controllen = sizeof(c.bytes);
			c.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)),
				SOL_SOCKET, SCM_RIGHTS };
			memcpy(CMSG_DATA(&c.head), &s, sizeof(s));
		}
		if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
			break;
		if (s >= 0)
			close(s);
	}
	close(fd);
	return NULL;
}

/* ---- the device ---- */

struct disk {
	struct harness h;
	struct driver d;
	struct guest_request r;
};

struct options {
	const char *key[4], *value[4];
};

static int
set_options(struct device *dev, void *ctx)
{
	const struct options *o = ctx;
	int rc = 0;

	for (unsigned i = 0; o && rc == 0 && i < 4 && o->key[i]; i++)
		rc = dev->type->ops->configure(dev, o->key[i], o->value[i]);
	return rc;
}

static int
start_disk(struct disk *t, bool with_connector, const struct options *o)
{
	const struct device_type *type = device_type_find("virtio-blk-nbd");
	struct harness_want want = { .file = { 0, -1, -1 } };
	struct options copy = o ? *o : (struct options){ 0 };
	int p[2];

	memset(t, 0, sizeof(*t));
	connections = refuse_connections = 0;
	want.file[0] = connect_server();
	want.file[2] = fence_mailbox();
	if (with_connector) {
		BUG_ON(socketpair(
			   AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0);
		want.file[1] = p[0];
		start_thread(connector, p[1]);
	}
	harness_make_want(&t->h, type, &want);
	harness_prepare(&t->h, type);
	BUG_ON(engine_attach(&t->h.dev, type, &t->h.config) != 0);
	return engine_start(&t->h.dev, set_options, &copy);
}

/* A disk whose first connection plays a trick after n requests, and the later
 * ones another. */
static void
open_disk(struct disk *t, int first, int n, int later, bool with_connector,
    const struct options *o)
{
	trick = first;
	after = n;
	memset(content, 0, sizeof(content));
	CU_ASSERT_EQUAL_FATAL(start_disk(t, with_connector, o), 0);
	trick = later;
	after = 0;
	driver_open(&t->d, &t->h, GUEST_FEATURES);
	guest_make(&t->d, &t->r, 128 << 10);
}

static uint8_t *
data_of(struct disk *t)
{
	return harness_ram(&t->h, t->r.data, 128 << 10);
}

/* When nothing has happened for a while, go to the next deadline. */
static bool
has_answer(void *ctx)
{
	static unsigned idle;
	struct disk *t = ctx;
	uint64_t wait;

	if (guest_status(&t->d, &t->r) != GUEST_PENDING) {
		idle = 0;
		return true;
	}
	wait = engine_timer(&t->h.dev);
	if (idle++ >= IDLE && wait != UINT64_MAX) {
		t->h.dev.clock_offset_ns += (int64_t)wait;
		idle = 0;
	}
	return false;
}

static uint8_t
do_request(
    struct disk *t, uint32_t type, uint64_t sector, uint32_t len, bool in)
{
	uint16_t id;
	uint32_t written;

	guest_put(&t->d, &t->r, 0, type, sector, len, in);
	driver_kick(&t->d, 0);
	if (!harness_run_until(&t->h, has_answer, t))
		return GUEST_PENDING;
	CU_ASSERT_TRUE(driver_take(&t->d, 0, &id, &written));
	t->r.id = DRIVER_NONE;
	return guest_status(&t->d, &t->r);
}

/* The process's connections go with it. */
static void
forget_connection(struct disk *t)
{
	struct nbd *n = (struct nbd *)((char *)device_context(&t->h.dev) +
	    ((sizeof(struct block_context) + 7) & ~(size_t)7));

	nbd_close(n->h);
	fence_close(&n->fence);
}

static void
close_disk(struct disk *t)
{
	CU_ASSERT_EQUAL(t->h.dev.error, 0);
	forget_connection(t);
	harness_close(&t->h);
}

static void
does_every_request(void)
{
	struct options o = { { "cache", "serial" }, { "writethrough", "x" } };
	struct guest_range range = { 16, 8, 0 };
	struct disk t;

	for (unsigned i = 0; i < 2; i++) {
		range.sector = 16;
		open_disk(&t, HONEST, 0, HONEST, i == 0, i ? &o : NULL);
		CU_ASSERT_EQUAL(
		    driver_config(&t.d, 0, 8), DISK_SIZE / BLOCK_SECTOR);
		memset(data_of(&t), 0x5a, 128 << 10);
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_OUT, 8, 65536, false), 0);
		CU_ASSERT_EQUAL(content[8 * 512 - 1], 0);
		CU_ASSERT_EQUAL(content[8 * 512], 0x5a);
		CU_ASSERT_EQUAL(content[136 * 512 - 1], 0x5a);
		CU_ASSERT_EQUAL(content[136 * 512], 0);
		memset(data_of(&t), 0, 128 << 10);
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_IN, 10, 4096, true), 0);
		CU_ASSERT_EQUAL(data_of(&t)[4095], 0x5a);
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
		memcpy(data_of(&t), &range, sizeof(range));
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_DISCARD, 0, 16, false), 0);
		CU_ASSERT_EQUAL(content[16 * 512], 0);
		range.sector = 24;
		memcpy(data_of(&t), &range, sizeof(range));
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), 0);
		CU_ASSERT_EQUAL(content[24 * 512], 0);
		CU_ASSERT_EQUAL(content[32 * 512], 0x5a);
		CU_ASSERT_EQUAL(connections, 1);
		close_disk(&t);
	}
}

static void
scattered_memory_is_gathered(void)
{
	struct driver_seg s[6];
	struct guest_header h = { VIRTIO_BLK_T_OUT, 0, 0 };
	struct disk t;
	uint16_t id;
	uint32_t len;

	open_disk(&t, HONEST, 0, HONEST, false, NULL);
	memcpy(driver_at(&t.d, t.r.header), &h, sizeof(h));
	s[0] = (struct driver_seg){ t.r.header, 16, false };
	for (unsigned i = 0; i < 4; i++) {
		s[1 + i] = (struct driver_seg){ t.r.data + 8192 * (3 - i), 1024,
			false };
		memset(driver_at(&t.d, s[1 + i].gpa), (int)i + 1, 1024);
	}
	s[5] = (struct driver_seg){ t.r.status, 1, true };
	*(uint8_t *)driver_at(&t.d, t.r.status) = GUEST_PENDING;
	driver_put(&t.d, 0, s, 6);
	driver_kick(&t.d, 0);
	CU_ASSERT_TRUE(harness_run_until(&t.h, has_answer, &t));
	CU_ASSERT_TRUE(driver_take(&t.d, 0, &id, &len));
	for (unsigned i = 0; i < 4; i++)
		CU_ASSERT_EQUAL(content[1024 * i + 1023], i + 1);
	close_disk(&t);
}

static void
a_request_survives_what_a_server_does(void)
{
	static const int tricks[] = { STALL, GARBAGE, CUT, CLOSE };

	for (unsigned i = 0; i < ARRAY_LEN(tricks); i++)
		for (int n = 0; n < 3; n++) {
			struct options o = { { "request-timeout" }, { "2" } };
			struct disk t;

			open_disk(&t, tricks[i], n, HONEST, true, &o);
			refuse_connections = n;
			for (unsigned k = 0; k < 4; k++) {
				memset(data_of(&t), (int)k + 1, 4096);
				CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_OUT,
						    8 * k, 4096, false),
				    0);
				CU_ASSERT_EQUAL(content[4096 * k], k + 1);
				CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_IN,
						    8 * k, 4096, true),
				    0);
				CU_ASSERT_EQUAL(data_of(&t)[4095], k + 1);
			}
			CU_ASSERT(connections >= 2);
			close_disk(&t);
		}
}

static void
servers_that_cannot_be_used_are_not(void)
{
	static const int tricks[] = { SHRUNK, MUTE, FOREIGN };

	for (unsigned i = 0; i < ARRAY_LEN(tricks); i++) {
		struct options o = { { "on-loss", "loss-timeout" },
			{ "error", "60" } };
		struct disk t;

		open_disk(&t, CLOSE, 0, tricks[i], true, &o);
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_IN, 0, 4096, true), 1);
		CU_ASSERT(connections >= 3);
		/* Once there is a good one again, all is well. */
		trick = HONEST;
		for (unsigned k = 0; k < 1000; k++) {
			if (do_request(&t, VIRTIO_BLK_T_IN, 0, 512, true) == 0)
				break;
			t.h.dev.clock_offset_ns += 1000000000;
			engine_timer(&t.h.dev);
			harness_ready(&t.h, 1);
		}
		CU_ASSERT_EQUAL(
		    do_request(&t, VIRTIO_BLK_T_IN, 0, 4096, true), 0);
		close_disk(&t);
	}
}

static void
a_server_s_error_is_the_request_s(void)
{
	struct disk t;

	open_disk(&t, REFUSE, 1, HONEST, true, NULL);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_OUT, 0, 512, false), 0);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_OUT, 0, 512, false), 1);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_IN, 0, 512, true), 1);
	CU_ASSERT_EQUAL(connections, 1);
	close_disk(&t);
}

static void
without_a_connector_a_loss_is_for_good(void)
{
	struct disk t;

	open_disk(&t, CLOSE, 1, HONEST, false, NULL);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_IN, 0, 512, true), 0);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_IN, 0, 512, true), 1);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_OUT, 0, 512, false), 1);
	close_disk(&t);
}

static void
a_reset_gives_up_what_a_silent_server_has(void)
{
	struct disk t;

	open_disk(&t, STALL, 0, HONEST, true, NULL);
	guest_put(&t.d, &t.r, 0, VIRTIO_BLK_T_IN, 0, 4096, true);
	driver_kick(&t.d, 0);
	harness_run(&t.h);
	driver_set_status(&t.d, 0);
	driver_open(&t.d, &t.h, GUEST_FEATURES);
	guest_make(&t.d, &t.r, 128 << 10);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_IN, 0, 4096, true), 0);
	close_disk(&t);
}

static void
a_new_process_gets_a_connection_of_its_own(void)
{
	struct disk t;

	open_disk(&t, STALL, 2, HONEST, true, NULL);
	memset(data_of(&t), 7, 4096);
	CU_ASSERT_EQUAL(do_request(&t, VIRTIO_BLK_T_OUT, 0, 4096, false), 0);
	for (unsigned i = 0; i < 5; i++) {
		memset(data_of(&t), (int)i + 8, 4096);
		guest_put(&t.d, &t.r, 0, VIRTIO_BLK_T_OUT, i, 512, false);
		driver_kick(&t.d, 0);
		harness_run(&t.h);
		forget_connection(&t);
		harness_restart(&t.h);
		CU_ASSERT_TRUE(harness_run_until(&t.h, has_answer, &t));
		CU_ASSERT_EQUAL(guest_status(&t.d, &t.r), 0);
		CU_ASSERT_EQUAL(content[512 * i], i + 8);
		BUG_ON(
		    !driver_take(&t.d, 0, &(uint16_t){ 0 }, &(uint32_t){ 0 }));
	}
	CU_ASSERT(connections >= 2);
	close_disk(&t);
}

static void
refuses_a_first_server_that_is_none(void)
{
	struct options bad = { { "on-loss" }, { "panic" } },
		       worse = { { "request-timeout" }, { "99999999" } };
	struct disk t;

	trick = FOREIGN;
	CU_ASSERT_EQUAL(start_disk(&t, false, NULL), -ENOTCONN);
	CU_ASSERT_NOT_EQUAL(t.h.dev.line[0], '\0');
	forget_connection(&t);
	harness_close(&t.h);
	trick = HONEST;
	CU_ASSERT_EQUAL(start_disk(&t, false, &bad), -EINVAL);
	harness_close(&t.h);
	CU_ASSERT_EQUAL(start_disk(&t, false, &worse), -EINVAL);
	harness_close(&t.h);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(does_every_request),
		NAMED_TEST(scattered_memory_is_gathered),
		NAMED_TEST(a_request_survives_what_a_server_does),
		NAMED_TEST(servers_that_cannot_be_used_are_not),
		NAMED_TEST(a_server_s_error_is_the_request_s),
		NAMED_TEST(without_a_connector_a_loss_is_for_good),
		NAMED_TEST(a_reset_gives_up_what_a_silent_server_has),
		NAMED_TEST(a_new_process_gets_a_connection_of_its_own),
		NAMED_TEST(refuses_a_first_server_that_is_none),
	};

	return named_tests_run("nbd", tests, ARRAY_LEN(tests));
}
