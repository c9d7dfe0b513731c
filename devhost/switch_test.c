/* The switch: where frames go; and a real one, in its sandbox. */
#include "devhost/switch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/packet.h"
#include "tests/named_tests.h"

#define S	    1000000000ull
#define PATIENCE_MS 20000

/* ---- the table ---- */

static struct switch_table *
table(unsigned ports)
{
	struct switch_table *t = calloc(1, sizeof(*t));

	BUG_ON(t == NULL);
	t->key = 0x123456789abcdef1u;
	for (unsigned i = 0; i < ports; i++)
		CU_ASSERT_EQUAL(switch_add(t), (int)i);
	return t;
}

static int
forward(struct switch_table *t, unsigned port, uint64_t to, uint64_t from,
    uint64_t now)
{
	uint8_t f[60] = { 0 };

	for (unsigned i = 0; i < 6; i++) {
		f[i] = (uint8_t)(to >> (40 - 8 * i));
		f[6 + i] = (uint8_t)(from >> (40 - 8 * i));
	}
	return switch_forward(t, port, f, sizeof(f), now);
}

#define A     0x020000000001u
#define B     0x020000000002u
#define C     0x020000000003u
#define ALL   0xffffffffffffu
#define GROUP 0x01005e000001u

static void
learns_who_is_where(void)
{
	static const struct {
		unsigned port;
		uint64_t to, from, at;
		int result;
	} rows[] = {
		{ 0, B, A, 0, SWITCH_ALL }, /* unknown */
		{ 1, A, B, 0, 0 }, /* learned */
		{ 0, B, A, 0, 1 }, { 0, ALL, A, 0, SWITCH_ALL },
		{ 0, GROUP, A, 0, SWITCH_ALL }, { 2, A, C, 0, 0 },
		{ 2, C, C, 0, SWITCH_NONE }, /* to where it came from */
		{ 1, C, B, 299 * S, 2 },
		{ 1, C, B, 300 * S, SWITCH_ALL }, /* aged */
		{ 2, B, C, 598 * S, 1 }, /* seen since */
	};
	struct switch_table *t = table(3);

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		CU_ASSERT_EQUAL(forward(t, rows[i].port, rows[i].to,
				    rows[i].from, rows[i].at),
		    rows[i].result);
	free(t);
}

static void
refuses_what_no_station_sends(void)
{
	struct switch_table *t = table(2);
	uint8_t runt[14] = { 0 };

	CU_ASSERT_EQUAL(forward(t, 0, B, 0, 0), SWITCH_NONE);
	CU_ASSERT_EQUAL(forward(t, 0, B, ALL, 0), SWITCH_NONE);
	CU_ASSERT_EQUAL(forward(t, 0, B, GROUP, 0), SWITCH_NONE);
	for (size_t n = 0; n < sizeof(runt); n++)
		CU_ASSERT_EQUAL(switch_forward(t, 0, runt, n, 0), SWITCH_NONE);
	CU_ASSERT_EQUAL(t->port[0].refused, 17);
	CU_ASSERT_EQUAL(t->port[0].nmacs, 0);
	free(t);
}

static void
an_address_in_use_cannot_be_taken_over(void)
{
	struct switch_table *t = table(3);

	(void)forward(t, 0, ALL, A, 10 * S);
	CU_ASSERT_EQUAL(forward(t, 1, ALL, A, 11 * S), SWITCH_NONE);
	CU_ASSERT_EQUAL(forward(t, 2, A, B, 11 * S), 0);
	/* A machine that has moved is heard after a while. */
	CU_ASSERT_EQUAL(forward(t, 1, ALL, A, 12 * S), SWITCH_ALL);
	CU_ASSERT_EQUAL(forward(t, 2, A, B, 12 * S), 1);
	CU_ASSERT_EQUAL(t->port[0].nmacs, 0);
	CU_ASSERT_EQUAL(t->port[1].nmacs, 1);
	free(t);
}

static void
a_port_that_is_gone_is_forgotten(void)
{
	struct switch_table *t = table(3);

	(void)forward(t, 0, ALL, A, 0);
	switch_remove(t, 0);
	CU_ASSERT_EQUAL(forward(t, 1, A, B, 0), SWITCH_ALL);
	CU_ASSERT_EQUAL(forward(t, 1, ALL, A, 0), SWITCH_ALL);
	CU_ASSERT_EQUAL(switch_add(t), 0);
	CU_ASSERT_EQUAL(t->port[0].nmacs, 0);
	free(t);
}

static void
a_port_fills_its_own_share_only(void)
{
	struct switch_table *t = table(2);
	uint64_t now = 0;

	(void)forward(t, 1, ALL, A, now);
	for (uint64_t i = 0; i < 100000; i++)
		(void)forward(t, 0, A, 0x060000000000u + i, now);
	CU_ASSERT_EQUAL(t->port[0].nmacs, SWITCH_MACS_PER_PORT);
	CU_ASSERT_EQUAL(forward(t, 0, A, B, now), 1);
	CU_ASSERT_EQUAL(t->port[1].nmacs, 1);
	free(t);
}

static void
a_port_that_floods_is_bound(void)
{
	struct switch_table *t = table(2);
	unsigned passed = 0;

	for (unsigned i = 0; i < 10000; i++)
		passed += forward(t, 0, ALL, A, S) == SWITCH_ALL;
	CU_ASSERT(passed >= SWITCH_FLOOD_BURST);
	CU_ASSERT(passed <= SWITCH_FLOOD_BURST + 2);
	/* Not another's, and not what is for one. */
	CU_ASSERT_EQUAL(forward(t, 1, ALL, B, S), SWITCH_ALL);
	CU_ASSERT_EQUAL(forward(t, 0, B, A, S), 1);
	passed = 0;
	for (unsigned i = 0; i < 10000; i++)
		passed += forward(t, 0, ALL, A, 2 * S) == SWITCH_ALL;
	CU_ASSERT(passed >= SWITCH_FLOOD_BURST);
	CU_ASSERT(passed <= SWITCH_FLOODS);
	free(t);
}

static void
has_so_many_ports_and_no_more(void)
{
	struct switch_table *t = table(SWITCH_PORTS);

	CU_ASSERT_EQUAL(switch_add(t), -ENOSPC);
	switch_remove(t, 7);
	CU_ASSERT_EQUAL(switch_add(t), 7);
	free(t);
}

/* ---- the process ---- */

struct process {
	struct sockaddr_un address;
	socklen_t length;
	pid_t pid;
};

static bool
start(struct process *p, unsigned idle_ms)
{
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memset(p, 0, sizeof(*p));
	p->address.sun_family = AF_UNIX;
	snprintf(p->address.sun_path + 1, 64, "bulkhead-switch-test-%d-%u",
	    getpid(), idle_ms);
	p->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
	    strlen(p->address.sun_path + 1));
	CU_ASSERT_EQUAL_FATAL(
	    bind(listener, (struct sockaddr *)&p->address, p->length), 0);
	CU_ASSERT_EQUAL_FATAL(listen(listener, 16), 0);
	p->pid = fork();
	CU_ASSERT_FATAL(p->pid >= 0);
	if (p->pid == 0)
		_exit(switch_run(listener, idle_ms));
	close(listener);
	return true;
}

static int
attach(const struct process *p)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	CU_ASSERT_EQUAL_FATAL(
	    connect(fd, (const struct sockaddr *)&p->address, p->length), 0);
	return fd;
}

static void
end(struct process *p)
{
	int status;

	kill(p->pid, SIGKILL);
	CU_ASSERT_EQUAL(waitpid(p->pid, &status, 0), p->pid);
}

/* A frame of n bytes behind an empty header. */
static ssize_t
put(int fd, uint8_t to, uint8_t from, size_t n)
{
	static uint8_t f[PACKET_BYTES_MAX + 64];

	BUG_ON(n + PACKET_HEADER > sizeof(f));
	memset(f, 0, PACKET_HEADER + 14);
	memset(f + 12, to == 255 ? 255 : 0, 6);
	f[12] = to == 255 ? 255 : 2;
	f[17] = to;
	f[18] = 2;
	f[23] = from;
	return send(fd, f, n + PACKET_HEADER, MSG_NOSIGNAL);
}

/* The next datagram: its length; 0: the switch has hung up; -1: none comes. */
static ssize_t
get(int fd, uint8_t *from, int ms)
{
	static uint8_t f[PACKET_BYTES_MAX + 64];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, ms) != 1)
		return -1;
	n = recv(fd, f, sizeof(f), MSG_DONTWAIT);
	*from = f[23];
	return n < 0 ? 0 : n;
}

static void
frames_go_where_they_belong(void)
{
	struct process p;
	uint8_t from = 0;
	int a, b, c;

	start(&p, 60000);
	a = attach(&p);
	b = attach(&p);
	c = attach(&p);
	/* So that all three are there. */
	CU_ASSERT(put(c, 255, 3, 60) > 0);
	CU_ASSERT_EQUAL(get(a, &from, PATIENCE_MS), 72);
	CU_ASSERT_EQUAL(from, 3);
	CU_ASSERT_EQUAL(get(b, &from, PATIENCE_MS), 72);
	CU_ASSERT(put(a, 255, 1, 60) > 0);
	CU_ASSERT_EQUAL(get(b, &from, PATIENCE_MS), 72);
	CU_ASSERT_EQUAL(get(c, &from, PATIENCE_MS), 72);
	CU_ASSERT(put(b, 1, 2, 1514) > 0);
	CU_ASSERT_EQUAL(get(a, &from, PATIENCE_MS), 1526);
	CU_ASSERT_EQUAL(from, 2);
	CU_ASSERT(put(a, 2, 1, PACKET_BYTES_MAX - PACKET_HEADER) > 0);
	CU_ASSERT_EQUAL(get(b, &from, PATIENCE_MS), PACKET_BYTES_MAX);
	/* It was for b alone: what c hears next is what comes after it. */
	CU_ASSERT(put(a, 3, 1, 99) > 0);
	CU_ASSERT_EQUAL(get(c, &from, PATIENCE_MS), 111);
	close(a);
	close(b);
	close(c);
	end(&p);
}

static void
a_port_that_breaks_the_rules_is_closed(void)
{
	static const size_t bad[] = { 0, 1, PACKET_HEADER,
		PACKET_BYTES_MAX + 1 };
	static uint8_t junk[PACKET_BYTES_MAX + 1];
	struct process p;
	uint8_t from;
	int good, other;

	start(&p, 60001);
	good = attach(&p);
	other = attach(&p);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		int fd = attach(&p);

		CU_ASSERT_EQUAL(
		    send(fd, junk, bad[i], MSG_NOSIGNAL), (ssize_t)bad[i]);
		CU_ASSERT_EQUAL(get(fd, &from, PATIENCE_MS), 0);
		close(fd);
	}
	CU_ASSERT(put(good, 255, 1, 60) > 0);
	CU_ASSERT_EQUAL(get(other, &from, PATIENCE_MS), 72);
	close(good);
	close(other);
	end(&p);
}

static void
a_port_that_takes_nothing_holds_nobody_up(void)
{
	struct process p;
	uint8_t from;
	int deaf, a, b;
	unsigned got = 0;

	start(&p, 60002);
	deaf = attach(&p);
	a = attach(&p);
	b = attach(&p);
	CU_ASSERT(put(b, 255, 2, 60) > 0);
	CU_ASSERT_EQUAL(get(a, &from, PATIENCE_MS), 72);
	for (unsigned i = 0; i < 400; i++) {
		CU_ASSERT(put(a, 255, 1, 9000) > 0);
		got += get(b, &from, PATIENCE_MS) == 9012;
	}
	CU_ASSERT_EQUAL(got, 400);
	close(deaf);
	close(a);
	close(b);
	end(&p);
}

static void
fds_that_are_sent_to_it_are_not_kept(void)
{
	struct process p;
	uint8_t f[72] = { 0 }, from;
	struct iovec iov = { f, sizeof(f) };
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	int pipes[2], a, b;
	char byte;

	start(&p, 60003);
	CU_ASSERT_EQUAL_FATAL(pipe(pipes), 0);
	a = attach(&p);
	b = attach(&p);
	CU_ASSERT(put(b, 255, 2, 60) > 0);
	CU_ASSERT_EQUAL(get(a, &from, PATIENCE_MS), 72);
	memset(f + 12, 255, 6);
	f[18] = 2;
	*h = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(h), &pipes[1], sizeof(int));
	CU_ASSERT_EQUAL(sendmsg(a, &m, MSG_NOSIGNAL), 72);
	CU_ASSERT_EQUAL(get(b, &from, PATIENCE_MS), 72);
	/* Nobody but us has it open. */
	close(pipes[1]);
	CU_ASSERT_EQUAL(
	    poll(&(struct pollfd){ .fd = pipes[0] }, 1, PATIENCE_MS), 1);
	CU_ASSERT_EQUAL(read(pipes[0], &byte, 1), 0);
	close(pipes[0]);
	close(a);
	close(b);
	end(&p);
}

static void
it_ends_when_it_has_no_ports(void)
{
	struct process p;
	int status = -1, fd;

	start(&p, 300);
	fd = attach(&p);
	usleep(600000);
	CU_ASSERT_EQUAL(waitpid(p.pid, &status, WNOHANG), 0);
	close(fd);
	CU_ASSERT_EQUAL(waitpid(p.pid, &status, 0), p.pid);
	CU_ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(learns_who_is_where),
		NAMED_TEST(refuses_what_no_station_sends),
		NAMED_TEST(an_address_in_use_cannot_be_taken_over),
		NAMED_TEST(a_port_that_is_gone_is_forgotten),
		NAMED_TEST(a_port_fills_its_own_share_only),
		NAMED_TEST(a_port_that_floods_is_bound),
		NAMED_TEST(has_so_many_ports_and_no_more),
		NAMED_TEST(frames_go_where_they_belong),
		NAMED_TEST(a_port_that_breaks_the_rules_is_closed),
		NAMED_TEST(a_port_that_takes_nothing_holds_nobody_up),
		NAMED_TEST(fds_that_are_sent_to_it_are_not_kept),
		NAMED_TEST(it_ends_when_it_has_no_ports),
	};
	return named_tests_run("switch", tests, ARRAY_LEN(tests));
}
