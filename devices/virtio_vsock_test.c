/* The vsock device and its relay. */
#include <sys/socket.h>
#include <sys/un.h>

#include "devices/vsock/vsock.h"
#include "tests/driver.h"
#include "tests/lives.h"
#include "tests/named_tests.h"
#include "vmmctl/relay.h"

#define RX	  0u
#define TX	  1u
#define CID	  3u
#define BUFFERS	  12u
#define BUFFER	  600u
#define PORT	  1024u /* of the host */
#define GUEST	  2000u /* of the guest */
#define GUEST_BUF 2048u /* the credit that it gives */

enum counter { OPENED, CLOSED, PACKETS_IN, PACKETS_OUT, BAD, RESETS, OVER };

struct guest {
	struct harness h;
	struct driver d;
	char dir[32], path[64];
	struct relay_fds fds;
	pid_t relay;
	uint64_t tx_at, rx_at, rx_next; /* buffers; the next that is used */
	uint32_t alloc, fwd; /* our credit */
	struct vsock_header last;
	char data[BUFFER];
	bool restart; /* before every turn */
};

static int
listen_at(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	BUG_ON(fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(fd, 4) < 0);
	return fd;
}

static int
listen_port(struct guest *g, uint32_t port)
{
	char path[80];

	snprintf(path, sizeof(path), "%s_%u", g->path, port);
	return listen_at(path);
}

static int
call(struct guest *g, const char *line)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", g->path);
	BUG_ON(fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0);
	BUG_ON(send(fd, line, strlen(line), MSG_NOSIGNAL) < 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void
post_buffers(struct guest *g)
{
	for (unsigned i = 0; i < BUFFERS; i++) {
		uint64_t at = g->rx_at + i * BUFFER;
		struct driver_seg seg[] = { { at, 44, true },
			{ at + 44, BUFFER - 44, true } };

		BUG_ON(driver_put(&g->d, RX, seg, 2) == DRIVER_NONE);
	}
	driver_kick(&g->d, RX);
}

static void
open_guest(struct guest *g, uint64_t features)
{
	struct harness_want want = { .vcpus = 1 };

	memset(g, 0, sizeof(*g));
	snprintf(g->dir, sizeof(g->dir), "/tmp/vsock.XXXXXX");
	BUG_ON(!mkdtemp(g->dir));
	snprintf(g->path, sizeof(g->path), "%s/s", g->dir);
	g->relay = relay_start(g->path, listen_at(g->path), &g->fds);
	BUG_ON(g->relay < 0);
	want.file[0] = dup(g->fds.memory);
	want.file[1] = g->fds.link;
	harness_open_want(&g->h, "virtio-vsock", &want);
	driver_open_sized(&g->d, &g->h, features, 64);
	g->tx_at = driver_alloc(&g->d, 256u << 10);
	g->rx_at = driver_alloc(&g->d, (size_t)BUFFERS * BUFFER);
	g->alloc = GUEST_BUF;
	post_buffers(g);
}

static void
close_guest(struct guest *g)
{
	char command[64];

	/* The relay ends with the last copy of the device's end. */
	harness_close(&g->h);
	waitpid(g->relay, NULL, 0);
	close(g->fds.memory);
	snprintf(command, sizeof(command), "rm -r %s", g->dir);
	BUG_ON(system(command) != 0);
}

static uint64_t
counter(struct guest *g, enum counter c)
{
	return stats_get(&g->h.dev.store.stats->own[c]);
}

/* A packet of the guest's. */
static void
put_packet(struct guest *g, const struct vsock_header *h, const void *data)
{
	struct driver_seg seg[] = { { g->tx_at, 44, false },
		{ g->tx_at + 44, h->len, false } };
	uint16_t id;
	uint32_t len;

	while (driver_take(&g->d, TX, &id, &len))
		;
	memcpy(driver_at(&g->d, g->tx_at), h, 44);
	if (h->len)
		memcpy(driver_at(&g->d, g->tx_at + 44), data, h->len);
	BUG_ON(driver_put(&g->d, TX, seg, h->len ? 2 : 1) == DRIVER_NONE);
	if (g->h.dev.type)
		driver_kick(&g->d, TX);
	g->tx_at += 44 + h->len;
}

static void
put(struct guest *g, unsigned op, uint32_t guest_port, uint32_t host_port,
    const char *data, uint32_t n)
{
	const struct vsock_header h = {
		.src_cid = CID,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = guest_port,
		.dst_port = host_port,
		.len = data ? n : 0,
		.type = VSOCK_STREAM,
		.op = (uint16_t)op,
		.flags = data ? 0 : n,
		.buf_alloc = g->alloc,
		.fwd_cnt = g->fwd,
	};

	put_packet(g, &h, data);
}

/* Take the next packet that is for the guest, and put its buffer back. */
static bool
take(struct guest *g)
{
	uint64_t at = g->rx_at + g->rx_next * BUFFER;
	struct driver_seg seg[] = { { at, 44, true },
		{ at + 44, BUFFER - 44, true } };
	uint16_t id;
	uint32_t len;

	if (!driver_take(&g->d, RX, &id, &len))
		return false;
	memcpy(&g->last, driver_at(&g->d, at), 44);
	BUG_ON(len != 44 + g->last.len || g->last.len > BUFFER - 44);
	memcpy(g->data, driver_at(&g->d, at + 44), g->last.len);
	g->rx_next = (g->rx_next + 1) % BUFFERS;
	BUG_ON(driver_put(&g->d, RX, seg, 2) == DRIVER_NONE);
	if (g->h.dev.type)
		driver_kick(&g->d, RX);
	return true;
}

static bool
arrived(void *ctx)
{
	return take(ctx);
}

/* The next packet has this op; data ones give their credit back. */
static bool
expect(struct guest *g, unsigned op)
{
	if (g->restart)
		harness_restart(&g->h);
	/* That the host does not listen any more may be told at any time. */
	do {
		if (!harness_run_until(&g->h, arrived, g))
			return false;
	} while (g->last.op == VSOCK_SHUTDOWN &&
	    g->last.flags == VSOCK_SHUTDOWN_RCV);
	if (g->last.op == VSOCK_RW)
		g->fwd += g->last.len;
	if (g->last.op != op)
		printf("[op %u, not %u]", g->last.op, op);
	return g->last.op == op && g->last.src_cid == VSOCK_CID_HOST &&
	    g->last.dst_cid == CID && g->last.type == VSOCK_STREAM;
}

/* Nothing comes for a while, with the relay given time. */
static bool
quiet(struct guest *g)
{
	for (unsigned i = 0; i < 20; i++) {
		harness_run(&g->h);
		harness_ready(&g->h, 1);
	}
	return !take(g);
}

struct reading {
	int fd;
	char text[512];
	size_t n, want; /* want 0: to the end */
	bool end;
};

static bool
read_some(void *ctx)
{
	struct reading *r = ctx;
	ssize_t n = read(r->fd, r->text + r->n, sizeof(r->text) - 1 - r->n);

	if (n > 0)
		r->n += (size_t)n;
	r->end = n == 0 || (n < 0 && errno != EAGAIN);
	return r->end || (r->want && r->n >= r->want);
}

/* What comes out of a socket. */
static const char *
hear(struct guest *g, int fd, size_t want)
{
	static struct reading r;

	r = (struct reading){ .fd = fd, .want = want };
	if (g->restart)
		harness_restart(&g->h);
	if (!harness_run_until(&g->h, read_some, &r))
		return "(nothing)";
	r.text[r.n] = '\0';
	return r.text;
}

static void
say(struct guest *g, int fd, const char *text)
{
	if (g->restart)
		harness_restart(&g->h);
	BUG_ON(send(fd, text, strlen(text), MSG_NOSIGNAL) !=
	    (ssize_t)strlen(text));
}

static int
accept_at(int listener)
{
	int fd;

	for (unsigned i = 0; i < 10000; i++) {
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
		if (fd >= 0)
			return fd;
		usleep(1000);
	}
	return -1;
}

/* The guest calls port PORT; the host's socket. */
static int
connect_out(struct guest *g, int listener)
{
	put(g, VSOCK_REQUEST, GUEST, PORT, NULL, 0);
	CU_ASSERT(expect(g, VSOCK_RESPONSE));
	CU_ASSERT(g->last.src_port == PORT && g->last.dst_port == GUEST);
	CU_ASSERT_EQUAL(g->last.buf_alloc, STREAM_BYTES);
	return accept_at(listener);
}

/* The host calls port GUEST; the host's socket, and its port. */
static int
connect_in(struct guest *g, uint32_t *port)
{
	int fd = call(g, "CONNECT 2000\n");
	char want[32];

	CU_ASSERT(expect(g, VSOCK_REQUEST));
	CU_ASSERT_EQUAL(g->last.dst_port, GUEST);
	*port = g->last.src_port;
	put(g, VSOCK_RESPONSE, GUEST, *port, NULL, 0);
	snprintf(want, sizeof(want), "OK %u\n", *port);
	CU_ASSERT_STRING_EQUAL(hear(g, fd, strlen(want)), want);
	return fd;
}

/* ---- tests ---- */

static void
talk_from_the_guest(bool restart)
{
	struct guest g;
	int listener, fd;

	open_guest(&g, 0);
	g.restart = restart;
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	CU_ASSERT(fd >= 0);
	put(&g, VSOCK_RW, GUEST, PORT, "hello, ", 7);
	put(&g, VSOCK_RW, GUEST, PORT, "host", 4);
	CU_ASSERT_STRING_EQUAL(hear(&g, fd, 11), "hello, host");
	say(&g, fd, "hello, guest");
	CU_ASSERT(expect(&g, VSOCK_RW));
	CU_ASSERT_EQUAL(g.last.len, 12);
	CU_ASSERT_EQUAL(memcmp(g.data, "hello, guest", 12), 0);
	put(&g, VSOCK_RW, GUEST, PORT, "bye", 3);
	put(&g, VSOCK_SHUTDOWN, GUEST, PORT, NULL, VSOCK_SHUTDOWN_BOTH);
	CU_ASSERT(expect(&g, VSOCK_RST));
	CU_ASSERT_STRING_EQUAL(hear(&g, fd, 0), "bye");
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
guests_reach_programs_of_the_host(void)
{
	talk_from_the_guest(false);
}

static void
connections_of_the_guest_live_through_restarts(void)
{
	talk_from_the_guest(true);
}

static void
talk_from_the_host(bool restart)
{
	struct guest g;
	uint32_t port;
	int fd;

	open_guest(&g, VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX);
	g.restart = restart;
	fd = connect_in(&g, &port);
	say(&g, fd, "ping");
	CU_ASSERT(expect(&g, VSOCK_RW));
	CU_ASSERT_EQUAL(memcmp(g.data, "ping", 4), 0);
	put(&g, VSOCK_RW, GUEST, port, "pong", 4);
	CU_ASSERT_STRING_EQUAL(hear(&g, fd, 4), "pong");
	say(&g, fd, "last words");
	close(fd);
	CU_ASSERT(expect(&g, VSOCK_RW));
	CU_ASSERT_EQUAL(g.last.len, 10);
	CU_ASSERT(expect(&g, VSOCK_SHUTDOWN));
	CU_ASSERT(g.last.flags & VSOCK_SHUTDOWN_SEND);
	put(&g, VSOCK_RST, GUEST, port, NULL, 0);
	CU_ASSERT(quiet(&g));
	/* And the slot can be used again. */
	g.fwd = 0;
	fd = connect_in(&g, &port);
	close(fd);
	close_guest(&g);
}

static void
programs_of_the_host_reach_the_guest(void)
{
	talk_from_the_host(false);
}

static void
connections_of_the_host_live_through_restarts(void)
{
	talk_from_the_host(true);
}

static void
bytes_that_follow_the_call_are_for_the_guest(void)
{
	struct guest g;
	int fd;

	open_guest(&g, 0);
	fd = call(&g, "CONNECT 2000\nGET /\n");
	CU_ASSERT(expect(&g, VSOCK_REQUEST));
	put(&g, VSOCK_RESPONSE, GUEST, g.last.src_port, NULL, 0);
	CU_ASSERT(expect(&g, VSOCK_RW));
	CU_ASSERT_EQUAL(memcmp(g.data, "GET /\n", 6), 0);
	close(fd);
	close_guest(&g);
}

static void
half_of_a_connection_can_be_closed(void)
{
	struct guest g;
	int listener, fd;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	put(&g, VSOCK_RW, GUEST, PORT, "question", 8);
	put(&g, VSOCK_SHUTDOWN, GUEST, PORT, NULL, VSOCK_SHUTDOWN_SEND);
	CU_ASSERT_STRING_EQUAL(hear(&g, fd, 0), "question");
	say(&g, fd, "answer");
	shutdown(fd, SHUT_WR);
	CU_ASSERT(expect(&g, VSOCK_RW));
	CU_ASSERT_EQUAL(memcmp(g.data, "answer", 6), 0);
	CU_ASSERT(expect(&g, VSOCK_SHUTDOWN));
	CU_ASSERT(g.last.flags & VSOCK_SHUTDOWN_SEND);
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
refuses_where_nobody_listens(void)
{
	struct guest g;
	int fd;

	open_guest(&g, 0);
	put(&g, VSOCK_REQUEST, GUEST, PORT, NULL, 0);
	CU_ASSERT(expect(&g, VSOCK_RST));
	CU_ASSERT(g.last.src_port == PORT && g.last.dst_port == GUEST);
	fd = call(&g, "CONNECT 7\n");
	CU_ASSERT(expect(&g, VSOCK_REQUEST));
	put(&g, VSOCK_RST, 7, g.last.src_port, NULL, 0);
	CU_ASSERT_STRING_EQUAL(hear(&g, fd, 0), "");
	close(fd);
	close_guest(&g);
}

static void
hangs_up_on_callers_that_say_nonsense(void)
{
	static const char *const lines[] = { "CONNECT\n", "CONNECT x\n",
		"CONNECT 99999999999\n", "GET / HTTP/1.1\n", "\n",
		"CONNECT 1 2\n",
		"CONNECT 000000000000000000000000000000001\n" };
	struct guest g;

	open_guest(&g, 0);
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		int fd = call(&g, lines[i]);

		CU_ASSERT_STRING_EQUAL(hear(&g, fd, 0), "");
		close(fd);
	}
	CU_ASSERT(quiet(&g));
	close_guest(&g);
}

static void
packets_of_no_connection_are_reset(void)
{
	static const uint8_t ops[] = { VSOCK_RESPONSE, VSOCK_SHUTDOWN,
		VSOCK_CREDIT_UPDATE, VSOCK_CREDIT_REQUEST };
	struct guest g;

	open_guest(&g, 0);
	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		put(&g, ops[i], 5 + i, 6, NULL, 0);
		CU_ASSERT(expect(&g, VSOCK_RST));
		CU_ASSERT_EQUAL(g.last.dst_port, 5 + i);
	}
	put(&g, VSOCK_RW, 77, 6, "x", 1);
	CU_ASSERT(expect(&g, VSOCK_RST));
	/* But a reset is not answered by one. */
	put(&g, VSOCK_RST, 5, 6, NULL, 0);
	CU_ASSERT(quiet(&g));
	close_guest(&g);
}

static void
hostile_headers_are_counted(void)
{
	static const struct {
		struct vsock_header h;
		bool reset;
	} cases[] = {
		{ { .src_cid = 4, .dst_cid = 2, .type = 1, .op = 1 }, false },
		{ { .src_cid = 3, .dst_cid = 9, .type = 1, .op = 1 }, false },
		{ { .src_cid = 3, .dst_cid = 2, .type = 2, .op = 1 }, true },
		{ { .src_cid = 3, .dst_cid = 2, .type = 1, .op = 0 }, true },
		{ { .src_cid = 3, .dst_cid = 2, .type = 1, .op = 8 }, true },
	};
	struct guest g;
	struct driver_seg seg;

	open_guest(&g, 0);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		put_packet(&g, &cases[i].h, NULL);
		if (cases[i].reset)
			CU_ASSERT(expect(&g, VSOCK_RST));
		CU_ASSERT(quiet(&g));
		CU_ASSERT_EQUAL(counter(&g, BAD), i + 1);
	}
	/* Shorter than it says, and shorter than a header. */
	put(&g, VSOCK_REQUEST, 1, 1, NULL, 0);
	CU_ASSERT(expect(&g, VSOCK_RST));
	((struct vsock_header *)driver_at(&g.d, g.tx_at))->len = 10;
	seg = (struct driver_seg){ g.tx_at, 44, false };
	memcpy(driver_at(&g.d, g.tx_at),
	    &(struct vsock_header){ .src_cid = 3,
		.dst_cid = 2,
		.len = 10,
		.type = 1,
		.op = VSOCK_RW },
	    44);
	driver_put(&g.d, TX, &seg, 1);
	seg.len = 43;
	driver_put(&g.d, TX, &seg, 1);
	driver_kick(&g.d, TX);
	CU_ASSERT(quiet(&g));
	CU_ASSERT_EQUAL(counter(&g, BAD), ARRAY_LEN(cases) + 2);
	CU_ASSERT_FALSE(driver_status(&g.d) & VIRTIO_NEEDS_RESET);
	close_guest(&g);
}

static void
sends_no_more_than_the_guest_has_room_for(void)
{
	struct guest g;
	int listener, fd;
	char bytes[3 * GUEST_BUF];
	uint32_t got = 0;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 % 251);
	BUG_ON(send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes));
	/* Without a word of the guest's it stops at the guest's credit. */
	while (got < GUEST_BUF) {
		CU_ASSERT_FATAL(expect(&g, VSOCK_RW));
		CU_ASSERT_EQUAL(memcmp(bytes + got, g.data, g.last.len), 0);
		got += g.last.len;
	}
	CU_ASSERT_EQUAL(got, GUEST_BUF);
	CU_ASSERT(quiet(&g));
	harness_restart(&g.h);
	CU_ASSERT(quiet(&g));
	while (got < sizeof(bytes)) {
		put(&g, VSOCK_CREDIT_UPDATE, GUEST, PORT, NULL, 0);
		CU_ASSERT_FATAL(expect(&g, VSOCK_RW));
		CU_ASSERT_EQUAL(memcmp(bytes + got, g.data, g.last.len), 0);
		got += g.last.len;
	}
	CU_ASSERT_EQUAL(got, sizeof(bytes));
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
a_guest_over_its_credit_is_reset(void)
{
	static const char block[8192];
	struct guest g;
	int listener, fd, small = 4096;
	bool reset = false;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	/* Nobody reads: the socket fills, then the stream. */
	for (unsigned i = 0; i < 200 && !reset; i++) {
		if (i % 20 == 0)
			g.tx_at = driver_alloc(&g.d, 256u << 10);
		put(&g, VSOCK_RW, GUEST, PORT, block, sizeof(block));
		harness_run(&g.h);
		while (take(&g))
			reset |= g.last.op == VSOCK_RST;
	}
	CU_ASSERT(reset);
	CU_ASSERT(counter(&g, OVER) >= 1);
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
credit_comes_back_as_the_host_reads(void)
{
	static char block[16384];
	struct guest g;
	int listener, fd;
	uint32_t sent = 0, told = 0;
	size_t heard = 0;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	while (sent < 20 * sizeof(block)) {
		ssize_t n;

		if (sent - told + sizeof(block) <= STREAM_BYTES) {
			if (sent % (8 * sizeof(block)) == 0)
				g.tx_at = driver_alloc(&g.d, 256u << 10);
			put(&g, VSOCK_RW, GUEST, PORT, block, sizeof(block));
			sent += (uint32_t)sizeof(block);
		}
		harness_run(&g.h);
		harness_ready(&g.h, 1);
		while (take(&g)) {
			CU_ASSERT_EQUAL(g.last.op, VSOCK_CREDIT_UPDATE);
			told = g.last.fwd_cnt;
		}
		n = read(fd, block, sizeof(block));
		heard += n > 0 ? (size_t)n : 0;
	}
	CU_ASSERT(heard > 0);
	CU_ASSERT_EQUAL(counter(&g, OVER), 0);
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
a_driver_that_resets_the_device_ends_all_connections(void)
{
	struct guest g;
	int listener, fd;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	driver_set_status(&g.d, 0);
	CU_ASSERT_STRING_EQUAL(hear(&g, fd, 0), "");
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
a_relay_that_is_gone_resets_all_connections(void)
{
	struct guest g;
	int listener, fd;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	kill(g.relay, SIGKILL);
	CU_ASSERT(expect(&g, VSOCK_RST));
	put(&g, VSOCK_REQUEST, GUEST, PORT, NULL, 0);
	CU_ASSERT(expect(&g, VSOCK_RST));
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
many_connections_are_refused_when_there_are_too_many(void)
{
	struct guest g;
	unsigned accepted = 0, refused = 0;
	int listener;

	open_guest(&g, 0);
	listener = listen_port(&g, PORT);
	for (uint32_t i = 0; i < RELAY_HOST_SLOTS + 4; i++) {
		put(&g, VSOCK_REQUEST, 3000 + i, PORT, NULL, 0);
		do {
			CU_ASSERT_FATAL(harness_run_until(&g.h, arrived, &g));
		} while (g.last.dst_port != 3000 + i);
		accepted += g.last.op == VSOCK_RESPONSE;
		refused += g.last.op == VSOCK_RST;
		/* Room for the next in the queue of those that wait. */
		close(accept4(listener, NULL, NULL, 0));
	}
	CU_ASSERT_EQUAL(accepted, RELAY_HOST_SLOTS);
	CU_ASSERT_EQUAL(refused, 4);
	close(listener);
	close_guest(&g);
}

/* ---- death ---- */

#define BLOCKS 10u
#define BLOCK  500u

static char
pattern(unsigned i)
{
	return (char)(i * 13 % 241);
}

/*
 * Bytes in both directions at once, with a life that dies at some instruction
 * between every two looks of the guest.
 */
static void
echo_and_die(uint64_t features, uint64_t step)
{
	const struct device_type *t = device_type_find("virtio-vsock");
	const unsigned all = BLOCKS * BLOCK;
	struct guest g;
	unsigned got = 0, heard = 0, lives = 0;
	int listener, fd;
	char block[BLOCK], back[BLOCKS * BLOCK];

	open_guest(&g, features);
	listener = listen_port(&g, PORT);
	fd = connect_out(&g, listener);
	g.alloc = 2 * all;
	harness_stop(&g.h);
	for (unsigned i = 0; i < BLOCKS; i++) {
		for (unsigned k = 0; k < BLOCK; k++)
			block[k] = pattern(i * BLOCK + k);
		put(&g, VSOCK_RW, GUEST, PORT, block, BLOCK);
	}
	while ((got < all || heard < all) && lives < 2000) {
		ssize_t n = read(fd, back + heard, sizeof(back) - heard);

		if (n > 0) {
			BUG_ON(send(fd, back + heard, (size_t)n, 0) != n);
			heard += (unsigned)n;
		}
		lives_run(&g.h, t,
		    lives % 8 == 7 ? LIVES_TO_THE_END
				   : 1000 + (lives * step) % 30000);
		lives++;
		while (take(&g)) {
			CU_ASSERT_EQUAL(g.last.op, VSOCK_RW);
			for (unsigned k = 0; k < g.last.len; k++)
				CU_ASSERT_EQUAL_FATAL(
				    g.data[k], pattern(got + k));
			got += g.last.len;
		}
	}
	CU_ASSERT_EQUAL(got, all);
	CU_ASSERT_EQUAL(heard, all);
	for (unsigned k = 0; k < heard; k++)
		CU_ASSERT_EQUAL_FATAL(back[k], pattern(k));
	BUG_ON(harness_start(&g.h, t) != 1);
	close(fd);
	close(listener);
	close_guest(&g);
}

static void
echoes_exactly_wherever_it_dies(void)
{
	unsigned n = lives_deaths(LIVES_SLOW ? 1 : 2);

	for (unsigned i = 0; i < n; i++)
		echo_and_die(i % 2 ? VIRTIO_F_RING_PACKED : VIRTIO_F_EVENT_IDX,
		    7919 + 104 * i);
}

static const struct named_test tests[] = {
	NAMED_TEST(guests_reach_programs_of_the_host),
	NAMED_TEST(connections_of_the_guest_live_through_restarts),
	NAMED_TEST(programs_of_the_host_reach_the_guest),
	NAMED_TEST(connections_of_the_host_live_through_restarts),
	NAMED_TEST(bytes_that_follow_the_call_are_for_the_guest),
	NAMED_TEST(half_of_a_connection_can_be_closed),
	NAMED_TEST(refuses_where_nobody_listens),
	NAMED_TEST(hangs_up_on_callers_that_say_nonsense),
	NAMED_TEST(packets_of_no_connection_are_reset),
	NAMED_TEST(hostile_headers_are_counted),
	NAMED_TEST(sends_no_more_than_the_guest_has_room_for),
	NAMED_TEST(a_guest_over_its_credit_is_reset),
	NAMED_TEST(credit_comes_back_as_the_host_reads),
	NAMED_TEST(a_driver_that_resets_the_device_ends_all_connections),
	NAMED_TEST(a_relay_that_is_gone_resets_all_connections),
	NAMED_TEST(many_connections_are_refused_when_there_are_too_many),
	NAMED_TEST(echoes_exactly_wherever_it_dies),
};

int
main(int argc UNUSED, char **argv)
{
	lives_init(argv);
	return named_tests_run("virtio_vsock", tests, ARRAY_LEN(tests));
}
