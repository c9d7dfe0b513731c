/* The relay. */
#include "vmmctl/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/relay.h"

#define CALLERS	  16u /* that have not said yet where to */
#define LINE	  32u
#define CALLER_NS 5000000000ull
#define CHUNK	  16384u
#define FDS	  (2 + CALLERS + RELAY_SLOTS)

/* A connection's socket. */
struct end {
	int fd; /* -1: none */
	uint32_t generation;
	uint64_t pos; /* in to_host, of what comes next */
	unsigned flags; /* ours, as told */
	bool accepted; /* by both sides */
	bool eof; /* nothing more to read from the socket */
	bool shut; /* its peer was told that nothing more comes */
};

struct caller {
	int fd;
	unsigned n;
	char line[LINE];
	uint64_t deadline_ns;
};

struct loop {
	const char *path;
	int listener, link;
	struct relay *r;
	struct end end[RELAY_SLOTS];
	struct caller caller[CALLERS];
	unsigned ncallers;
	bool changed; /* the device has something to see */
};

static void
tell(struct loop *l, unsigned i, unsigned flags)
{
	struct end *e = &l->end[i];

	e->flags = flags;
	l->changed |=
	    relay_tell(&l->r->slot[i].relay, relay_word(e->generation, flags));
}

static void
finish(struct loop *l, unsigned i)
{
	struct end *e = &l->end[i];

	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
	e->accepted = false;
	tell(l, i, 0);
}

/* A new life of a slot. */
static void
begin(struct loop *l, unsigned i, uint32_t generation, int fd)
{
	struct end *e = &l->end[i];
	struct stream *in = &l->r->slot[i].to_host;

	*e = (struct end){
		.fd = fd, .generation = generation, .pos = stream_head(in)
	};
	stream_release(in, e->pos);
	atomic_store_explicit(&in->attached, 1, memory_order_release);
}

/* ---- bytes ---- */

static void
set_flag(struct loop *l, unsigned i, unsigned flag)
{
	tell(l, i, l->end[i].flags | flag);
}

/* False: the device broke the rules. */
static bool
pump_out(struct loop *l, unsigned i)
{
	struct end *e = &l->end[i];
	struct stream *in = &l->r->slot[i].to_host;
	uint64_t before = e->pos;
	uint8_t chunk[CHUNK];

	for (;;) {
		ssize_t n = stream_peek(in, e->pos, chunk, sizeof(chunk));
		ssize_t done;

		if (n < 0)
			return false;
		if (n == 0)
			break;
		done = e->flags & RELAY_DEAF
		    ? n
		    : send(e->fd, chunk, (size_t)n, MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN && errno != EINTR) {
			set_flag(l, i, RELAY_DEAF);
			continue;
		}
		if (done <= 0)
			break;
		e->pos += (uint64_t)done;
	}
	if (e->pos != before) {
		stream_release(in, e->pos);
		l->changed = true;
	}
	return true;
}

static void
pump_in(struct loop *l, unsigned i)
{
	struct end *e = &l->end[i];
	struct stream *out = &l->r->slot[i].to_guest;
	uint8_t chunk[CHUNK];

	for (;;) {
		size_t space = MIN(stream_space(out), sizeof(chunk));
		uint64_t pos = stream_head(out), head = pos;
		ssize_t n;

		if (space == 0)
			return;
		n = read(e->fd, chunk, space);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			e->eof = true;
			set_flag(l, i, RELAY_NO_MORE);
			if (n < 0)
				set_flag(l, i, RELAY_DEAF);
			return;
		}
		/* There is space for all of it, unless the other side lies. */
		while (head < pos + (uint64_t)n) {
			uint64_t last = head;

			if (stream_put(out, pos, chunk, (size_t)n, &head) < 0 ||
			    head == last)
				break;
		}
		l->changed = true;
	}
}

static bool
drained(const struct loop *l, unsigned i)
{
	return stream_available(&l->r->slot[i].to_host, l->end[i].pos) <= 0;
}

static void
pump(struct loop *l, unsigned i, unsigned flags)
{
	struct end *e = &l->end[i];
	bool live = (flags & RELAY_LIVE) != 0;

	if (!pump_out(l, i) || !live) {
		finish(l, i);
		return;
	}
	if ((flags & RELAY_NO_MORE) && drained(l, i) && !e->shut) {
		shutdown(e->fd, SHUT_WR);
		e->shut = true;
	}
	if ((flags & RELAY_DEAF) && e->shut) {
		finish(l, i);
		return;
	}
	if (!e->eof && !(flags & RELAY_DEAF))
		pump_in(l, i);
}

/* ---- connections ---- */

static int
connect_port(const char *path, uint32_t port)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n = snprintf(
	    a.sun_path, sizeof(a.sun_path), "%s_%u", path, (unsigned)port);

	if (fd < 0)
		return -1;
	if (n < 0 || (size_t)n >= sizeof(a.sun_path) ||
	    connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
device_begins(struct loop *l, unsigned i, uint32_t generation)
{
	uint32_t port = atomic_load_explicit(
	    &l->r->slot[i].host_port, memory_order_relaxed);
	int fd = connect_port(l->path, port);

	begin(l, i, generation, fd);
	if (fd >= 0) {
		l->end[i].accepted = true;
		tell(l, i, RELAY_LIVE | RELAY_ACCEPTED);
	} else {
		tell(l, i, 0);
	}
}

static void
device_accepts(struct loop *l, unsigned i)
{
	struct end *e = &l->end[i];
	uint32_t port = atomic_load_explicit(
	    &l->r->slot[i].host_port, memory_order_relaxed);
	char text[LINE];
	int n = snprintf(text, sizeof(text), "OK %u\n", (unsigned)port);

	/* The first bytes in an empty socket: they fit, or it is gone. */
	if (send(e->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		finish(l, i);
	else
		e->accepted = true;
}

static void
look_at(struct loop *l, unsigned i)
{
	struct end *e = &l->end[i];
	uint64_t word = relay_look(&l->r->slot[i].device);
	uint32_t generation = relay_generation(word);
	unsigned flags = relay_flags(word);
	bool ours = generation == e->generation;

	if (e->fd < 0) {
		if (i < RELAY_HOST_SLOTS && !ours && (flags & RELAY_LIVE))
			device_begins(l, i, generation);
	} else if (!e->accepted) {
		/* Offered; until it is seen the word is an older one. */
		if (ours && (flags & RELAY_ACCEPTED))
			device_accepts(l, i);
		else if (ours && flags == 0)
			finish(l, i);
	}
	if (e->fd >= 0 && e->accepted)
		pump(l, i, generation == e->generation ? flags : 0);
}

/* Offer a caller's connection in a free slot. */
static void
offer(struct loop *l, int fd, uint32_t port)
{
	for (unsigned i = RELAY_HOST_SLOTS; i < RELAY_SLOTS; i++) {
		struct end *e = &l->end[i];
		uint64_t word = relay_look(&l->r->slot[i].device);

		if (e->fd >= 0 || word != relay_word(e->generation, 0))
			continue;
		begin(l, i, e->generation + 1, fd);
		atomic_store_explicit(
		    &l->r->slot[i].guest_port, port, memory_order_relaxed);
		tell(l, i, RELAY_LIVE);
		return;
	}
	close(fd);
}

/* ---- callers ---- */

static bool
parse_line(const char *line, uint32_t *port)
{
	unsigned long long n;
	char *end;

	if (strncasecmp(line, "CONNECT ", 8) != 0 || line[8] < '0' ||
	    line[8] > '9')
		return false;
	n = strtoull(line + 8, &end, 10);
	*port = (uint32_t)n;
	return n < UINT32_MAX &&
	    (strcmp(end, "\n") == 0 || strcmp(end, "\r\n") == 0);
}

/* Byte by byte: what follows the line is for the guest.  1: a line; 0: wait;
 * -1: it is none. */
static int
read_line(struct caller *c)
{
	while (c->n < LINE - 1) {
		ssize_t n = read(c->fd, c->line + c->n, 1);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0)
			return -1;
		if (c->line[c->n++] == '\n')
			return 1;
	}
	return -1;
}

static void
serve_callers(struct loop *l, uint64_t now)
{
	for (unsigned i = 0; i < l->ncallers;) {
		struct caller *c = &l->caller[i];
		uint32_t port;
		int rc = read_line(c);

		if (rc == 0 && now < c->deadline_ns) {
			i++;
			continue;
		}
		if (rc == 1 && parse_line(c->line, &port))
			offer(l, c->fd, port);
		else
			close(c->fd);
		*c = l->caller[--l->ncallers];
	}
}

static void
accept_callers(struct loop *l, uint64_t now)
{
	while (l->ncallers < CALLERS) {
		int fd = accept4(
		    l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		l->caller[l->ncallers++] = (struct caller){
			.fd = fd,
			.deadline_ns = now + CALLER_NS,
		};
	}
}

/* ---- the loop ---- */

/* What to wait for; -1 as fd if a hang-up must not wake us either. */
static struct pollfd
wanted(const struct loop *l, unsigned i)
{
	const struct end *e = &l->end[i];
	const struct relay_slot *s = &l->r->slot[i];
	struct pollfd p = { .fd = e->fd };
	bool hangup = e->eof && !(e->flags & RELAY_DEAF);

	if (!e->accepted) {
		p.fd = -1;
		return p;
	}
	if (!e->eof && stream_space(&s->to_guest) > 0 &&
	    !(relay_flags(relay_look(&s->device)) & RELAY_DEAF))
		p.events |= POLLIN;
	if (!(e->flags & RELAY_DEAF) && !drained(l, i))
		p.events |= POLLOUT;
	if (p.events == 0 && !hangup)
		p.fd = -1;
	return p;
}

static void
kick(struct loop *l)
{
	const uint8_t byte = 0;

	/* A full link wakes it as well. */
	if (l->changed && wake_needed(&l->r->device_armed))
		(void)!send(l->link, &byte, 1, MSG_NOSIGNAL);
	l->changed = false;
}

/* Sleep until there is something; false: the device's end is gone. */
static bool
sleep_once(struct loop *l)
{
	struct pollfd p[FDS];
	uint8_t kicks[64];
	unsigned n = 2;
	ssize_t got;

	p[0] = (struct pollfd){ .fd = l->link, .events = POLLIN };
	p[1] = (struct pollfd){
		.fd = l->ncallers < CALLERS ? l->listener : -1,
		.events = POLLIN,
	};
	for (unsigned i = 0; i < l->ncallers; i++)
		p[n++] =
		    (struct pollfd){ .fd = l->caller[i].fd, .events = POLLIN };
	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		p[n + i] = wanted(l, i);
	if (poll(p, n + RELAY_SLOTS, l->ncallers ? 1000 : -1) < 0)
		return errno == EINTR;
	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		if (p[n + i].fd >= 0 && (p[n + i].revents & POLLHUP) &&
		    l->end[i].eof)
			set_flag(l, i, RELAY_DEAF);
	do {
		got = read(l->link, kicks, sizeof(kicks));
	} while (got > 0);
	return got < 0 && (errno == EAGAIN || errno == EINTR);
}

int
relay_run(const char *path, int listener, int memory, int link_fd)
{
	struct loop *l = calloc(1, sizeof(*l));
	void *p = mmap(
	    NULL, RELAY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	int rc = p == MAP_FAILED ? -errno : 0;

	if (!l || rc < 0) {
		free(l);
		return rc < 0 ? rc : -ENOMEM;
	}
	l->path = path;
	l->listener = listener;
	l->link = link_fd;
	l->r = p;
	/* What a former relay left has lost its sockets. */
	for (unsigned i = 0; i < RELAY_SLOTS; i++) {
		const struct relay_slot *s = &l->r->slot[i];

		l->end[i].fd = -1;
		l->end[i].generation = relay_generation(relay_look(&s->relay));
		tell(l, i, 0);
	}
	do {
		uint64_t now = time_now_ns();

		/* Arm, then look: pairs with the device's wake_needed(). */
		wake_arm(&l->r->relay_armed);
		accept_callers(l, now);
		serve_callers(l, now);
		for (unsigned i = 0; i < RELAY_SLOTS; i++)
			look_at(l, i);
		kick(l);
	} while (sleep_once(l));
	munmap(p, RELAY_SIZE);
	free(l);
	return 0;
}

/* ---- the child ---- */

int
relay_make(struct relay_fds *device, int *own_link)
{
	int pair[2], rc;
	int fd = memfd_create("vsock relay", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)RELAY_SIZE) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) <
		0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		pair) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	*device = (struct relay_fds){ .memory = fd, .link = pair[0] };
	*own_link = pair[1];
	return 0;
}

NORETURN static void
child(const char *path, int listener, int memory, int link_fd)
{
	struct stat was, is;
	bool mine = lstat(path, &was) == 0 && S_ISSOCK(was.st_mode);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fds[] = { listener, memory, link_fd };

	/* The terminal's signals are not for us: the device's end is the end. */
	setsid();
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	prctl(PR_SET_NAME, "relay");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int i = 0; i < 3; i++) {
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
		if (fds[i] < 0 || null < 0)
			_exit(1);
	}
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	for (int i = 0; i < 3; i++)
		dup2(fds[i], 3 + i);
	close_range(6, ~0u, 0);
	(void)relay_run(path, 3, 4, 5);
	if (mine && lstat(path, &is) == 0 && is.st_dev == was.st_dev &&
	    is.st_ino == was.st_ino)
		unlink(path);
	_exit(0);
}

pid_t
relay_start(const char *path, int listener, struct relay_fds *device)
{
	int link_fd, rc = relay_make(device, &link_fd);
	pid_t pid;

	if (rc < 0) {
		close(listener);
		return rc;
	}
	pid = fork();
	if (pid == 0)
		child(path, listener, device->memory, link_fd);
	rc = pid < 0 ? -errno : pid;
	close(link_fd);
	close(listener);
	if (rc < 0) {
		close(device->memory);
		close(device->link);
	}
	return rc;
}
