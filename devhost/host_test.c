/*
 * Device hosts as the broker sees them: processes that are configured by the
 * control channel, killed at any moment, and started again.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "devhost/harness.h"
#include "devhost/host.h"
#include "proto/channel.h"
#include "sandbox/sandbox.h"
#include "tests/named_tests.h"

#define BODY(name)	  BULKHEAD__ENVELOPE__BODY_##name
#define PATIENCE_MS	  20000
#define KILLS		  200u
#define SANDBOXED_KILLS	  12u
#define ANSWER_TIMEOUT_NS 20000000000ull

/* A device process, or a thread, and our end of its channel. */
struct child {
	struct channel channel;
	pid_t pid; /* 0: inline */
	int pidfd;
	struct host *host;
};

enum how { FORKED, SANDBOXED, INLINE };

static bool
spawn(struct child *c, const char *type, int fd)
{
	char name[16], program[4096], err[256] = "";
	char devhost[] = "devhost";
	char *argv[] = { devhost, name, NULL };
	struct sandbox_spawn s = { .argv = argv,
		.control_fd = fd,
		.mode = SANDBOX_BEST_EFFORT,
		.uid = 65534 };
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 16);
	char *slash;
	int rc;

	BUG_ON(n < 0);
	program[n] = '\0';
	slash = strrchr(program, '/');
	BUG_ON(!slash);
	strcpy(slash, "/devhost");
	snprintf(name, sizeof(name), "%s", type);
	s.exec_fd = open(program, O_RDONLY | O_CLOEXEC);
	if (s.exec_fd < 0) {
		printf("skipped: no %s\n", program);
		return false;
	}
	rc = sandbox_spawn(&s, &c->pid, &c->pidfd, err, sizeof(err));
	if (rc != 0)
		fprintf(stderr, "sandbox_spawn: %s\n", err);
	close(s.exec_fd);
	return rc == 0;
}

static bool
start_child(struct child *c, const char *type, enum how how)
{
	const struct host_identity nobody = { 0 };
	bool ok = true;
	int fds[2];

	memset(c, 0, sizeof(*c));
	c->pidfd = -1;
	BUG_ON(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0);
	channel_init(&c->channel, fds[0], CHANNEL_BROKER_TO_DEVICE);
	if (how == INLINE)
		return host_start_inline(
			   device_type_find(type), fds[1], &c->host) == 0;
	if (how == SANDBOXED) {
		ok = spawn(c, type, fds[1]);
	} else {
		c->pid = fork();
		BUG_ON(c->pid < 0);
		if (c->pid == 0) {
			struct host *h;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(fds[0]);
			if (host_open(device_type_find(type), fds[1], &h) < 0)
				_exit(HOST_EXIT_RESOURCE);
			_exit(host_run(h, &nobody));
		}
	}
	close(fds[1]);
	if (!ok)
		channel_close(&c->channel);
	return ok;
}

/* The next message; its body's number, 0 for the end. */
static int
hear(struct child *c, struct channel_message *m)
{
	int rc = channel_receive(&c->channel, m, PATIENCE_MS);

	return rc == 1 ? (int)m->envelope->body_case : 0;
}

static int
configure(struct child *c, const struct harness *h, uint32_t spin_us)
{
	Bulkhead__Configure message;
	struct channel_message m;
	int heard = hear(c, &m);
	char name[] = "test0";

	if (heard != BODY(HELLO))
		return heard;
	bulkhead__configure__init(&message);
	message.name = name;
	message.vcpus = h->config.vcpus;
	message.spin_us = spin_us;
	message.placement = m.envelope->hello->placements[0];
	if (channel_send(&c->channel, BODY(CONFIGURE), &message, h->fds,
		h->nfds, 0) != 0)
		heard = 0;
	channel_free(&m);
	return heard;
}

/* Through Hello and Configure to Ready: 1 recovered, 0 fresh, -1 neither. */
static int
bring_up(struct child *c, const struct harness *h, uint32_t spin_us)
{
	struct channel_message m;
	int rc = -1;

	if (configure(c, h, spin_us) != BODY(HELLO))
		return -1;
	if (hear(c, &m) != BODY(READY))
		return -1;
	rc = m.envelope->ready->recovered;
	channel_free(&m);
	return rc;
}

/* Wait for its end: what waitpid() says, or the thread's status. */
static int
reap(struct child *c)
{
	int status = -1;

	if (c->host) {
		channel_close(&c->channel);
		return host_join_inline(c->host);
	}
	waitpid(c->pid, &status, 0);
	channel_close(&c->channel);
	if (c->pidfd >= 0)
		close(c->pidfd);
	return status;
}

static void
kick(const struct harness *h)
{
	uint64_t one = 1;

	if (ring_kick_needed(h->rings))
		BUG_ON(write(h->fds[2], &one, sizeof(one)) < 0);
}

/* Make a request of vCPU 0 and wait for its answer. */
static bool
request(struct harness *h, const struct ring_request *req, uint64_t *answer)
{
	uint64_t pos = h->pos, deadline = time_now_ns() + ANSWER_TIMEOUT_NS;
	struct ring *r = &h->rings->ring[0];

	if (ring_put(r, &h->pos, req) != 0)
		return false;
	kick(h);
	while (ring_poll_answer(r, pos, answer) == 0) {
		if (time_now_ns() > deadline)
			return false;
		ring_wait(r, pos, 1000000);
	}
	return true;
}

static struct ring_request
access_of(enum ring_op op, uint64_t addr, uint64_t data)
{
	return (struct ring_request){ .addr = addr,
		.data = data,
		.op = (uint8_t)op,
		.size = 1,
		.time_ns = time_now_ns() };
}

static void
answers_ping_and_finishes(void)
{
	static const enum how ways[] = { FORKED, INLINE };

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		Bulkhead__Ping ping = BULKHEAD__PING__INIT;
		Bulkhead__Finish finish = BULKHEAD__FINISH__INIT;
		struct channel_message m;
		struct harness h;
		struct child c;

		harness_make(&h, device_type_find("rtc"), 2);
		CU_ASSERT_FATAL(start_child(&c, "rtc", ways[i]));
		CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
		ping.cookie = 77;
		channel_send(&c.channel, BODY(PING), &ping, NULL, 0, 0);
		CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(PONG));
		CU_ASSERT_EQUAL(m.envelope->pong->cookie, 77);
		channel_free(&m);
		channel_send(&c.channel, BODY(FINISH), &finish, NULL, 0, 0);
		CU_ASSERT_EQUAL(hear(&c, &m), 0);
		CU_ASSERT_EQUAL(reap(&c), 0);
		harness_close(&h);
	}
}

static void
ends_when_the_broker_is_gone(void)
{
	struct harness h;
	struct child c;
	int status;

	harness_make(&h, device_type_find("rtc"), 1);
	CU_ASSERT_FATAL(start_child(&c, "rtc", FORKED));
	CU_ASSERT_EQUAL(bring_up(&c, &h, 50), 0);
	channel_close(&c.channel);
	status = reap(&c);
	if (status != 0)
		fprintf(stderr, "status 0x%x\n", (unsigned)status);
	CU_ASSERT_EQUAL(status, 0);
	harness_close(&h);
}

static void
refuses_memory_that_can_shrink(void)
{
	struct channel_message m;
	struct harness h;
	struct child c;
	int status;

	harness_make(&h, device_type_find("rtc"), 1);
	close(h.fds[0]);
	h.fds[0] = memfd_create("bare", MFD_CLOEXEC);
	BUG_ON(ftruncate(h.fds[0], 1 << 20) < 0);
	CU_ASSERT_FATAL(start_child(&c, "rtc", FORKED));
	CU_ASSERT_EQUAL(configure(&c, &h, 0), BODY(HELLO));
	CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(FAILURE));
	CU_ASSERT_EQUAL(m.envelope->failure->error, -EPROTO);
	channel_free(&m);
	status = reap(&c);
	CU_ASSERT(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), HOST_EXIT_PROTOCOL);
	harness_close(&h);
}

static void
dies_of_an_impossible_ring(void)
{
	struct harness h;
	struct child c;
	uint64_t one = 1;
	int status;

	harness_make(&h, device_type_find("rtc"), 1);
	CU_ASSERT_FATAL(start_child(&c, "rtc", FORKED));
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
	h.rings->ring[0].head = RING_SLOTS + 1;
	BUG_ON(write(h.fds[2], &one, sizeof(one)) < 0);
	status = reap(&c);
	CU_ASSERT(WIFEXITED(status));
	CU_ASSERT_EQUAL(WEXITSTATUS(status), HOST_EXIT_PROTOCOL);
	harness_close(&h);
}

static void
inline_access_needs_no_ring(void)
{
	struct ring_request out = access_of(RING_WRITE, 7, 0x5a);
	struct ring_request in = access_of(RING_READ, 7, 0);
	struct ring_request off = access_of(RING_READ, 8, 0);
	struct harness h;
	struct child c;
	uint64_t answer = 0;

	harness_make(&h, device_type_find("serial"), 1);
	CU_ASSERT_FATAL(start_child(&c, "serial", INLINE));
	CU_ASSERT_EQUAL(host_access(c.host, 0, &in, &answer), -ENOTCONN);
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
	CU_ASSERT_EQUAL(host_access(c.host, 0, &out, &answer), 0);
	CU_ASSERT_EQUAL(host_access(c.host, 0, &in, &answer), 0);
	CU_ASSERT_EQUAL(answer, 0x5a);
	CU_ASSERT_EQUAL(host_access(c.host, 0, &off, &answer), -EPROTO);
	CU_ASSERT_EQUAL(reap(&c), HOST_EXIT_OK);
	harness_close(&h);
}

static void
platform_event_reaches_the_broker(void)
{
	static const enum how ways[] = { FORKED, INLINE };

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct ring_request off = access_of(RING_WRITE, 5, 0x34);
		struct channel_message m;
		struct harness h;
		struct child c;
		uint64_t answer;

		harness_make(&h, device_type_find("acpi-pm"), 1);
		CU_ASSERT_FATAL(start_child(&c, "acpi-pm", ways[i]));
		CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
		if (ways[i] == INLINE) {
			CU_ASSERT_EQUAL(
			    host_access(c.host, 0, &off, &answer), 0);
		} else {
			CU_ASSERT(request(&h, &off, &answer));
		}
		CU_ASSERT_EQUAL_FATAL(hear(&c, &m), BODY(PLATFORM));
		CU_ASSERT_EQUAL(
		    m.envelope->platform->event, BULKHEAD__PLATFORM__POWEROFF);
		CU_ASSERT_EQUAL(m.envelope->platform->cookie, 1);
		channel_free(&m);
		if (ways[i] == FORKED)
			kill(c.pid, SIGKILL);
		reap(&c);
		harness_close(&h);
	}
}

/* ---- bytes across deaths ---- */

/* The guest: sends the low bytes of a count, and echoes count its input. */
struct guest {
	struct harness *h;
	_Atomic bool stop, failed;
	_Atomic uint64_t sent, received;
};

static uint8_t
pattern(uint64_t n)
{
	return (uint8_t)(n ^ n >> 8 ^ n >> 16);
}

static bool
guest_step(struct guest *g)
{
	struct ring_request lsr = access_of(RING_READ, 5, 0);
	struct ring_request rbr = access_of(RING_READ, 0, 0);
	struct ring_request thr;
	uint64_t status, byte;

	if (!request(g->h, &lsr, &status))
		return false;
	if (status & 0x20) {
		thr = access_of(g->sent & 1 ? RING_WRITE_POSTED : RING_WRITE, 0,
		    pattern(g->sent));
		if (thr.op == RING_WRITE && !request(g->h, &thr, &byte))
			return false;
		if (thr.op == RING_WRITE_POSTED) {
			if (ring_put(&g->h->rings->ring[0], &g->h->pos, &thr) !=
			    0)
				return false;
			kick(g->h);
		}
		g->sent++;
	}
	if (status & 0x01) {
		if (!request(g->h, &rbr, &byte) || byte != pattern(g->received))
			return false;
		g->received++;
	}
	return true;
}

static void *
guest_main(void *ctx)
{
	struct guest *g = ctx;

	while (!g->stop)
		if (!guest_step(g)) {
			g->failed = true;
			break;
		}
	return NULL;
}

/* The user: reads the output and types the input, checking the order. */
struct user {
	uint64_t read, typed;
	bool wrong;
};

static void
user_step(struct user *u, struct harness *h)
{
	uint8_t bytes[4096];
	uint64_t one = 1, head = stream_head(h->in);
	ssize_t n = stream_peek(h->out, u->read, bytes, sizeof(bytes));

	if (n < 0)
		u->wrong = true;
	for (ssize_t i = 0; i < n; i++)
		if (bytes[i] != pattern(u->read++))
			u->wrong = true;
	stream_release(h->out, u->read);
	if (stream_kick_producer(h->out))
		BUG_ON(write(h->fds[6], &one, sizeof(one)) < 0);
	bytes[0] = pattern(u->typed);
	if (stream_space(h->in) > 0 &&
	    stream_put(h->in, head, bytes, 1, &head) == 0)
		u->typed++;
	if (stream_kick_consumer(h->in))
		BUG_ON(write(h->fds[8], &one, sizeof(one)) < 0);
}

static void
bytes_survive(enum how how, unsigned kills)
{
	struct harness h;
	struct guest g = { .h = &h };
	struct user u = { 0 };
	struct child c;
	pthread_t thread;
	unsigned seed = 12345, recovered = 0;

	harness_make(&h, device_type_find("serial"), 1);
	u.read = stream_attach(h.out);
	BUG_ON(pthread_create(&thread, NULL, guest_main, &g) != 0);
	for (unsigned i = 0; i <= kills && !g.failed && !u.wrong; i++) {
		struct timespec nap = { 0, rand_r(&seed) % 1500000 };
		uint64_t until;
		int rc;

		if (!start_child(&c, "serial", how))
			break;
		rc = bring_up(&c, &h, i % 2 ? 50 : 0);
		CU_ASSERT_NOT_EQUAL(rc, -1);
		recovered += rc == 1;
		until = time_now_ns() + (uint64_t)nap.tv_nsec;
		do
			user_step(&u, &h);
		while (time_now_ns() < until);
		if (i == kills)
			break;
		kill(c.pid, SIGKILL);
		reap(&c);
	}
	g.stop = true;
	pthread_join(thread, NULL);
	/* Whatever was sent must come out: the last host still runs. */
	for (unsigned i = 0; i < 2000 && u.read < g.sent; i++) {
		user_step(&u, &h);
		poll(NULL, 0, 1);
	}
	kill(c.pid, SIGKILL);
	reap(&c);
	CU_ASSERT_FALSE(g.failed);
	CU_ASSERT_FALSE(u.wrong);
	CU_ASSERT_EQUAL(u.read, g.sent);
	CU_ASSERT(g.received <= u.typed);
	CU_ASSERT_EQUAL(recovered, kills);
	printf("%u kills, %llu bytes out, %llu bytes in: ", kills,
	    (unsigned long long)u.read, (unsigned long long)g.received);
	harness_close(&h);
}

static void
no_byte_is_lost_or_doubled_by_a_kill(void)
{
	bytes_survive(FORKED, KILLS);
}

static void
no_byte_is_lost_or_doubled_in_the_sandbox(void)
{
	struct harness h;
	struct child c;

	harness_make(&h, device_type_find("serial"), 1);
	if (!start_child(&c, "serial", SANDBOXED))
		return;
	CU_ASSERT_EQUAL(bring_up(&c, &h, 0), 0);
	CU_ASSERT(h.dev.error == 0);
	kill(c.pid, SIGKILL);
	reap(&c);
	harness_close(&h);
	bytes_survive(SANDBOXED, SANDBOXED_KILLS);
}

static const struct named_test tests[] = {
	NAMED_TEST(answers_ping_and_finishes),
	NAMED_TEST(ends_when_the_broker_is_gone),
	NAMED_TEST(refuses_memory_that_can_shrink),
	NAMED_TEST(dies_of_an_impossible_ring),
	NAMED_TEST(inline_access_needs_no_ring),
	NAMED_TEST(platform_event_reaches_the_broker),
	NAMED_TEST(no_byte_is_lost_or_doubled_by_a_kill),
	NAMED_TEST(no_byte_is_lost_or_doubled_in_the_sandbox),
};

int
main(void)
{
	return named_tests_run("host", tests, ARRAY_LEN(tests));
}
