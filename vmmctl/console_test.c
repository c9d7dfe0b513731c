/*
 * A console session on a terminal of our own: this process is the terminal's
 * other end, the broker and the device.
 */
#include "vmmctl/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "proto/base.h"
#include "proto/exitcodes.h"
#include "proto/stream.h"
#include "tests/named_tests.h"

#define WAIT_MS 20000

struct session {
	struct channel broker;
	int terminal; /* our side of it */
	int slave; /* kept open, so that its settings outlive the child */
	int fds[6];
	struct stream *out, *in;
	pid_t pid;
};

static struct stream *
make_stream(int *fd)
{
	void *p;

	*fd = memfd_create("stream", MFD_CLOEXEC);
	CU_ASSERT_FATAL(*fd >= 0);
	CU_ASSERT_EQUAL_FATAL(ftruncate(*fd, (off_t)STREAM_SIZE), 0);
	p = mmap(NULL, STREAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	CU_ASSERT_FATAL(p != MAP_FAILED);
	return p;
}

static void
resize(struct session *s, unsigned short columns, unsigned short rows)
{
	const struct winsize w = { .ws_col = columns, .ws_row = rows };

	CU_ASSERT_EQUAL(ioctl(s->terminal, TIOCSWINSZ, &w), 0);
}

static void
start(struct session *s, bool owner)
{
	const struct console_options o = {
		.attached = true,
		.owner = owner,
		.device = "console0",
		.stream = "port1",
	};
	struct channel c;
	int pair[2];

	CU_ASSERT_EQUAL_FATAL(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	CU_ASSERT_EQUAL_FATAL(
	    openpty(&s->terminal, &s->slave, NULL, NULL, NULL), 0);
	s->out = make_stream(&s->fds[0]);
	s->in = make_stream(&s->fds[3]);
	for (unsigned i = 0; i < 6; i++)
		if (i % 3 != 0)
			s->fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	resize(s, 80, 25);
	s->pid = fork();
	CU_ASSERT_FATAL(s->pid >= 0);
	if (s->pid == 0) {
		close(s->terminal);
		close(pair[0]);
		if (login_tty(s->slave) < 0)
			_exit(99);
		channel_init(&c, pair[1], CHANNEL_CLIENT);
		/* By exit(), as main() does it: the terminal is restored. */
		exit(console_run(&c, s->fds, &o));
	}
	close(pair[1]);
	channel_init(&s->broker, pair[0], CHANNEL_BROKER_TO_CLIENT);
}

/* Its exit code; -1: it had to be killed. */
static int
end(struct session *s)
{
	uint64_t deadline = time_now_ns() + WAIT_MS * 1000000ull;
	const struct timespec ms = { .tv_nsec = 1000000 };
	int status = -1;

	while (waitpid(s->pid, &status, WNOHANG) == 0) {
		nanosleep(&ms, NULL);
		if (time_now_ns() < deadline)
			continue;
		kill(s->pid, SIGKILL);
		waitpid(s->pid, &status, 0);
		break;
	}
	channel_close(&s->broker);
	close(s->terminal);
	close(s->slave);
	for (unsigned i = 0; i < 6; i++)
		close(s->fds[i]);
	munmap(s->out, STREAM_SIZE);
	munmap(s->in, STREAM_SIZE);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
type(struct session *s, const char *text)
{
	CU_ASSERT_EQUAL(
	    write(s->terminal, text, strlen(text)), (ssize_t)strlen(text));
}

/* Wait for a message of that kind. */
static bool
hear(struct session *s, int body_case, struct channel_message *m)
{
	return channel_receive(&s->broker, m, WAIT_MS) == 1 &&
	    (int)m->envelope->body_case == body_case;
}

static void
hear_size(struct session *s, unsigned columns, unsigned rows)
{
	struct channel_message m;

	CU_ASSERT_FATAL(hear(s, BULKHEAD__ENVELOPE__BODY_CONSOLE_SIZE, &m));
	CU_ASSERT_STRING_EQUAL(m.envelope->console_size->device, "console0");
	CU_ASSERT_STRING_EQUAL(m.envelope->console_size->stream, "port1");
	CU_ASSERT_EQUAL(m.envelope->console_size->columns, columns);
	CU_ASSERT_EQUAL(m.envelope->console_size->rows, rows);
	channel_free(&m);
}

static void
the_size_of_the_window_is_told(void)
{
	struct session s;

	start(&s, false);
	hear_size(&s, 80, 25);
	resize(&s, 100, 30);
	hear_size(&s, 100, 30);
	type(&s, "\x1dq");
	CU_ASSERT_EQUAL(end(&s), EXIT_POWEROFF);
}

/* Wait until the device has been typed that. */
static bool
typed(struct session *s, const char *text)
{
	struct pollfd p = { .fd = s->fds[4], .events = POLLIN };
	uint64_t deadline = time_now_ns() + WAIT_MS * 1000000ull;
	size_t n = strlen(text);
	char got[64] = "";

	stream_arm_consumer(s->in);
	while (
	    stream_available(s->in, 0) < (ssize_t)n && time_now_ns() < deadline)
		poll(&p, 1, 10);
	return stream_peek(s->in, 0, got, sizeof(got) - 1) == (ssize_t)n &&
	    strcmp(got, text) == 0;
}

static void
bytes_go_both_ways(void)
{
	static const char hello[] = "hello\r\n";
	const uint64_t one = 1;
	char got[16] = "";
	struct session s;
	uint64_t head;
	size_t n = 0;

	start(&s, false);
	hear_size(&s, 80, 25);
	CU_ASSERT_EQUAL(stream_put(s.out, 0, hello, 7, &head), 0);
	if (stream_kick_consumer(s.out))
		CU_ASSERT_EQUAL(write(s.fds[1], &one, 8), 8);
	while (n < 7) {
		struct pollfd p = { .fd = s.terminal, .events = POLLIN };
		ssize_t r;

		if (poll(&p, 1, WAIT_MS) != 1)
			break;
		r = read(s.terminal, got + n, 7 - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	CU_ASSERT_STRING_EQUAL(got, hello);
	/* Twice Ctrl-] is one, before another key it is itself. */
	type(&s, "a\x03\x1d\x1d\x1dz");
	CU_ASSERT(typed(&s, "a\x03\x1d\x1dz"));
	type(&s, "\x1dq");
	CU_ASSERT_EQUAL(end(&s), EXIT_POWEROFF);
}

static void
the_terminal_is_as_it_was(void)
{
	struct termios before, now;
	struct session s;

	start(&s, false);
	hear_size(&s, 80, 25);
	CU_ASSERT_EQUAL(tcgetattr(s.slave, &now), 0);
	CU_ASSERT_EQUAL(now.c_lflag & (ICANON | ECHO), 0);
	type(&s, "\x1dq");
	/* It ends, and what it changed is undone. */
	before = now;
	for (unsigned i = 0; i < WAIT_MS && !(before.c_lflag & ICANON); i++) {
		const struct timespec ms = { .tv_nsec = 1000000 };

		nanosleep(&ms, NULL);
		tcgetattr(s.slave, &before);
	}
	CU_ASSERT_EQUAL(
	    before.c_lflag & (ICANON | ECHO), (tcflag_t)(ICANON | ECHO));
	CU_ASSERT_EQUAL(end(&s), EXIT_POWEROFF);
}

static void
the_owner_asks_for_the_end(void)
{
	struct channel_message m;
	Bulkhead__Ended ended;
	struct session s;

	start(&s, true);
	hear_size(&s, 80, 25);
	type(&s, "\x1dq");
	CU_ASSERT_FATAL(hear(&s, BULKHEAD__ENVELOPE__BODY_SHUTDOWN, &m));
	CU_ASSERT(m.envelope->shutdown->force);
	channel_free(&m);
	bulkhead__ended__init(&ended);
	ended.reason = BULKHEAD__END_REASON__END_STOPPED;
	CU_ASSERT_EQUAL(channel_send(&s.broker, BULKHEAD__ENVELOPE__BODY_ENDED,
			    &ended, NULL, 0, 0),
	    0);
	CU_ASSERT_EQUAL(end(&s), EXIT_STOPPED);
}

static const struct named_test tests[] = {
	NAMED_TEST(the_size_of_the_window_is_told),
	NAMED_TEST(bytes_go_both_ways),
	NAMED_TEST(the_terminal_is_as_it_was),
	NAMED_TEST(the_owner_asks_for_the_end),
};

int
main(void)
{
	return named_tests_run("console", tests, ARRAY_LEN(tests));
}
