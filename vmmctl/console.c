/* A console session. */
#include "vmmctl/console.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/exitcodes.h"
#include "proto/stream.h"
#include "vmmctl/connect.h"

#define ESCAPE	    0x1d /* Ctrl-] */
#define LEAVE	    'q'
#define END_WAIT_NS 5000000000u /* for Ended, after we asked for it */
#define CHUNK	    4096u

static struct termios saved;
static bool raw;

static void
restore_terminal(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	raw = false;
}

static void
make_raw(void)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
		return;
	atexit(restore_terminal);
	t = saved;
	cfmakeraw(&t);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0)
		raw = true;
}

struct session {
	struct channel *channel;
	const struct console_options *options;
	struct stream *out, *in;
	int out_data, out_space, in_data, in_space;
	uint64_t pos; /* of the next byte of output */
	uint8_t pending[2 * CHUNK]; /* typed, not in the stream yet */
	size_t npending;
	bool stdin_open, escaped, stdout_broken;
	bool done; /* code is final */
	int code;
	uint64_t asked_ns; /* when we asked for the end; 0: not */
};

static void
kick(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		return; /* full: it is readable already */
}

static void
clear(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		return; /* it was clear */
}

static void
finish(struct session *s, int code)
{
	if (!s->done)
		s->code = code;
	s->done = true;
}

static struct stream *
map_stream(int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)STREAM_SIZE)
		return NULL;
	p = mmap(NULL, STREAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static bool
write_all(int fd, const uint8_t *bytes, size_t n)
{
	while (n > 0) {
		ssize_t r = write(fd, bytes, n);

		if (r < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, 1000);
			continue;
		}
		if (r < 0 && errno != EINTR)
			return false;
		if (r > 0) {
			bytes += r;
			n -= (size_t)r;
		}
	}
	return true;
}

/* Copy what is there.  False: there was nothing. */
static bool
pump_output(struct session *s)
{
	uint8_t bytes[CHUNK];
	ssize_t n = stream_peek(s->out, s->pos, bytes, sizeof(bytes));

	if (n < 0) {
		restore_terminal();
		finish(s,
		    complain_code(
			EXIT_ERROR, "the console's stream is corrupt"));
		return false;
	}
	if (n == 0)
		return false;
	if (!s->stdout_broken && !write_all(STDOUT_FILENO, bytes, (size_t)n)) {
		s->stdout_broken = true;
		restore_terminal();
		finish(s,
		    complain_code(
			EXIT_ERROR, "standard output: %s", strerror(errno)));
	}
	s->pos += (uint64_t)n;
	stream_release(s->out, s->pos);
	if (stream_kick_producer(s->out))
		kick(s->out_space);
	return true;
}

static void
pump_input(struct session *s)
{
	uint64_t head, new_head;
	size_t n = MIN(s->npending, (size_t)STREAM_PUT_MAX);

	if (n == 0)
		return;
	head = stream_head(s->in);
	if (stream_put(s->in, head, s->pending, n, &new_head) < 0) {
		finish(s,
		    complain_code(
			EXIT_ERROR, "the console's stream is corrupt"));
		return;
	}
	n = (size_t)(new_head - head);
	s->npending -= n;
	memmove(s->pending, s->pending + n, s->npending);
	if (stream_kick_consumer(s->in))
		kick(s->in_data);
}

static void ask_for_end(struct session *s);

static void
type_byte(struct session *s, uint8_t byte)
{
	if (!raw) {
		s->pending[s->npending++] = byte;
		return;
	}
	if (!s->escaped && byte == ESCAPE) {
		s->escaped = true;
		return;
	}
	if (s->escaped && byte == LEAVE) {
		ask_for_end(s);
		return;
	}
	if (s->escaped && byte != ESCAPE)
		s->pending[s->npending++] = ESCAPE;
	s->escaped = false;
	s->pending[s->npending++] = byte;
}

static void
read_stdin(struct session *s)
{
	uint8_t bytes[CHUNK];
	/* A byte may become two: an escape that was none. */
	size_t room = (sizeof(s->pending) - s->npending) / 2;
	ssize_t n = read(STDIN_FILENO, bytes, MIN(room, sizeof(bytes)));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		s->stdin_open = false;
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		type_byte(s, bytes[i]);
}

/* The user leaves, or a signal came. */
static void
ask_for_end(struct session *s)
{
	Bulkhead__Shutdown shutdown;

	if (!s->options->owner) {
		finish(s, EXIT_POWEROFF);
		return;
	}
	if (s->asked_ns != 0)
		return;
	s->asked_ns = time_now_ns();
	bulkhead__shutdown__init(&shutdown);
	shutdown.force = true;
	if (channel_send(s->channel, BULKHEAD__ENVELOPE__BODY_SHUTDOWN,
		&shutdown, NULL, 0, 0) < 0)
		finish(s, EXIT_STOPPED);
}

static void
print_event(const struct session *s, const Bulkhead__Event *e)
{
	if (s->options->quiet || e->level > (s->options->verbose ? 3u : 1u))
		return;
	/* In raw mode a line feed only feeds a line. */
	fprintf(stderr, "%svmmctl: %s%s%s%s\n", raw ? "\r" : "", e->device,
	    e->device[0] != '\0' ? ": " : "", e->text, raw ? "\r" : "");
}

static void
on_ended(struct session *s, const Bulkhead__Ended *e)
{
	int code = EXIT_ERROR;

	switch ((int)e->reason) {
	case BULKHEAD__END_REASON__END_POWEROFF:
		code = EXIT_POWEROFF;
		break;
	case BULKHEAD__END_REASON__END_RESET:
		code = EXIT_RESET;
		break;
	case BULKHEAD__END_REASON__END_CRASH:
		code = EXIT_CRASH;
		break;
	case BULKHEAD__END_REASON__END_STOPPED:
		code = EXIT_STOPPED;
		break;
	default:
		break;
	}
	/* The last output comes before our last word. */
	while (s->out != NULL && !s->done && pump_output(s))
		continue;
	if (s->options->verbose && e->icount[0] != '\0')
		fprintf(stderr, "%svmmctl: %s%s\n", raw ? "\r" : "", e->icount,
		    raw ? "\r" : "");
	if (code != EXIT_POWEROFF && !s->options->quiet) {
		restore_terminal();
		complain_code(code, "the VM has ended: %s", e->text);
	}
	finish(s, code);
}

static void
on_channel(struct session *s)
{
	struct channel_message m;
	int r;

	while (!s->done) {
		r = channel_receive(s->channel, &m, -1);
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			while (s->out != NULL && !s->done && pump_output(s))
				continue;
			restore_terminal();
			finish(s,
			    complain_code(EXIT_ERROR,
				r == 0 ? "the broker is gone"
				       : "the broker broke the protocol"));
			return;
		}
		if (m.envelope->body_case == BULKHEAD__ENVELOPE__BODY_EVENT)
			print_event(s, m.envelope->event);
		else if (m.envelope->body_case ==
		    BULKHEAD__ENVELOPE__BODY_ENDED)
			on_ended(s, m.envelope->ended);
		channel_free(&m);
	}
}

/*
 * Tell the device how large the window is.  One that has no use for it says so,
 * and nobody minds.
 */
static void
send_size(struct session *s)
{
	Bulkhead__ConsoleSize size;
	struct winsize w;

	if (!raw || s->out == NULL || s->options->device == NULL ||
	    ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 ||
	    w.ws_row == 0)
		return;
	bulkhead__console_size__init(&size);
	size.device = connect_text(s->options->device);
	size.stream = connect_text(s->options->stream);
	size.columns = w.ws_col;
	size.rows = w.ws_row;
	/* If it does not get through, the next one may. */
	(void)channel_send(s->channel, BULKHEAD__ENVELOPE__BODY_CONSOLE_SIZE,
	    &size, NULL, 0, 0);
}

static void
on_signal(struct session *s, int fd)
{
	struct signalfd_siginfo si;

	if (read(fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	if (si.ssi_signo == SIGWINCH)
		send_size(s);
	else
		ask_for_end(s);
}

/* Arm before sleeping, then look again: pairs with the kicks of the device. */
static bool
ready_to_sleep(struct session *s)
{
	if (s->out == NULL)
		return true;
	stream_arm_consumer(s->out);
	if (stream_available(s->out, s->pos) != 0)
		return false;
	if (s->npending > 0) {
		stream_arm_producer(s->in);
		if (stream_space(s->in) > 0)
			return false;
	}
	return true;
}

static void
loop(struct session *s, int signals)
{
	while (!s->done) {
		struct pollfd p[] = {
			{ .fd = s->channel->fd, .events = POLLIN },
			{ .fd = signals, .events = POLLIN },
			{ .fd = s->out_data, .events = POLLIN },
			{ .fd = s->in_space, .events = POLLIN },
			{ .fd = s->stdin_open && s->npending < CHUNK
				? STDIN_FILENO
				: -1,
			    .events = POLLIN },
		};
		bool asleep = ready_to_sleep(s);

		if (poll(p, ARRAY_LEN(p), asleep ? 1000 : 0) < 0 &&
		    errno != EINTR)
			finish(s, complain_code(EXIT_ERROR, "poll failed"));
		if (p[2].revents != 0)
			clear(s->out_data);
		if (p[3].revents != 0)
			clear(s->in_space);
		if (p[4].revents != 0)
			read_stdin(s);
		if (s->out != NULL) {
			pump_input(s);
			pump_output(s);
		}
		if (p[0].revents != 0)
			on_channel(s);
		if (p[1].revents != 0)
			on_signal(s, signals);
		if (s->asked_ns != 0 &&
		    time_now_ns() - s->asked_ns > END_WAIT_NS)
			finish(s, EXIT_STOPPED);
	}
}

int
console_run(
    struct channel *c, const int fds[6], const struct console_options *o)
{
	static struct session s;
	sigset_t mask, old;
	int signals;

	s = (struct session){
		.channel = c,
		.options = o,
		.out_data = -1,
		.out_space = -1,
		.in_data = -1,
		.in_space = -1,
	};
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGQUIT);
	sigaddset(&mask, SIGWINCH);
	sigprocmask(SIG_BLOCK, &mask, &old);
	signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return complain_code(EXIT_ERROR, "out of file descriptors");
	if (o->attached) {
		s.out = map_stream(fds[0]);
		s.in = map_stream(fds[3]);
		s.out_data = fds[1];
		s.out_space = fds[2];
		s.in_data = fds[4];
		s.in_space = fds[5];
		if (s.out == NULL || s.in == NULL)
			return complain_code(
			    EXIT_ERROR, "the console cannot be mapped");
		s.stdin_open = true;
		make_raw();
		s.pos = stream_attach(s.out);
	}
	if (o->ended != NULL)
		on_ended(&s, o->ended);
	send_size(&s);
	loop(&s, signals);
	restore_terminal();
	if (s.out != NULL) {
		while (!s.stdout_broken && pump_output(&s))
			continue;
		stream_detach(s.out);
		kick(s.out_space);
		munmap(s.out, STREAM_SIZE);
		munmap(s.in, STREAM_SIZE);
		for (unsigned i = 0; i < 6; i++)
			close(fds[i]);
	}
	close(signals);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return s.code;
}
