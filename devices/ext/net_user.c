/*
 * The user-mode network: NAT by libslirp, which needs no privilege.
 *
 * libslirp parses the guest's packets and holds the sockets; it is in a process
 * of its own that stays in the host's network namespace and sees no guest
 * memory.  Its connections live in the process: when it dies they are lost, the
 * guest finds them reset, and the port forwards come up again with its
 * successor.  Nothing else is.
 *
 * The position up to which frames were taken is in the log, and moves before a
 * frame is looked at: a frame that kills the process is not seen again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "devhost/device.h"
#include "devices/ext/net_user_calls.h"
#include "devices/ext/net_user_shim.h"
#include "devices/net/frame.h"
#include "devices/net/intake.h"
#include "devices/net/merge.h"
#include "devices/net/user_options.h"
#include "proto/base.h"
#include "proto/packet.h"

#define FDS	  512u /* sockets that it may have; 300 KiB each */
#define FD_MAX	  4096u /* highest number of one */
#define TIMERS	  4u
#define HEADROOM  64u /* slots that must be free to read from sockets */
#define WAIT_NS	  1000000u /* then look again for free slots */
#define NS_PER_MS 1000000u

enum counter {
	FROM_GUEST,
	TO_GUEST,
	MALFORMED, /* of the guest */
	DROPPED, /* the link was full */
	SOCKETS, /* open now */
	COUNTERS,
};

struct state {
	struct user_options options;
	/* From the first process: later ones may find another /etc. */
	char resolv[SHIM_RESOLV_MAX];
};

struct timer {
	SlirpTimerCb fire;
	void *opaque;
	uint64_t due_ns; /* UINT64_MAX: not running */
	bool used;
};

struct context {
	char resolv[SHIM_RESOLV_MAX];
	Slirp *slirp;
	struct timer timer[TIMERS];
	uint64_t due_ns; /* of libslirp's own timers */
	bool full; /* sockets are not read: the link has no space */
	/* What libslirp wants to hear of, in its order. */
	unsigned npolls;
	int poll_fd[FD_MAX];
	uint32_t ready; /* events of ready_fd */
	int ready_fd;
	/* By fd: wanted now, and asked of the host. */
	unsigned fds; /* highest fd seen, + 1 */
	uint8_t wanted[FD_MAX], watched[FD_MAX];
	uint8_t frame[FRAME_HEADER + FRAME_MAX]; /* of the guest */
	struct frame_merge merge; /* for it */
};

/* ---- what libslirp calls ---- */

static void
put(struct device *dev, const struct net_header *h, const void *frame, size_t n)
{
	struct packet_ring *r = device_link_tx(dev, INTAKE_LINK);
	struct iovec iov[2] = { { NULL, sizeof(*h) }, { NULL, n } };

	/* iovec has no const; packet_put() only reads. */
	memcpy(&iov[0].iov_base, &h, sizeof(h));
	memcpy(&iov[1].iov_base, &frame, sizeof(frame));
	if (r == NULL || packet_put(r, iov, 2) != 0) {
		device_count(dev, DROPPED, 1);
		return;
	}
	device_count(dev, TO_GUEST, 1);
	device_count_request(dev, n, 0, 0);
}

/* Put what was merged so far. */
static void
put_merged(struct device *dev)
{
	struct context *c = device_context(dev);
	struct net_header h;
	size_t n = frame_merge_take(&c->merge, &h);

	if (n > 0)
		put(dev, &h, c->merge.out, n);
}

/* libslirp cuts a stream into segments that the guest would be busy with. */
static ssize_t
send_packet(const void *frame, size_t n, void *opaque)
{
	struct context *c = device_context(opaque);
	/* It has computed all checksums. */
	const struct net_header h = { .flags = NET_DATA_VALID };

	if (frame_merge_add(&c->merge, frame, n))
		return (ssize_t)n;
	put_merged(opaque);
	if (!frame_merge_add(&c->merge, frame, n))
		put(opaque, &h, frame, n);
	return (ssize_t)n;
}

static void
guest_error(const char *msg UNUSED, void *opaque)
{
	device_count(opaque, MALFORMED, 1);
}

static int64_t
clock_get_ns(void *opaque)
{
	return (int64_t)device_now(opaque);
}

static void *
timer_new(SlirpTimerCb fire, void *cb_opaque, void *opaque)
{
	struct context *c = device_context(opaque);

	for (unsigned i = 0; i < TIMERS; i++) {
		struct timer *t = &c->timer[i];

		if (t->used)
			continue;
		*t = (struct timer){ fire, cb_opaque, UINT64_MAX, true };
		return t;
	}
	BUG_ON(true); /* it has one: for router advertisements */
	return NULL;
}

static void
timer_free(void *timer, void *opaque UNUSED)
{
	struct timer *t = timer;

	t->used = false;
	t->due_ns = UINT64_MAX;
}

static void
timer_mod(void *timer, int64_t expire_ms, void *opaque UNUSED)
{
	struct timer *t = timer;

	t->due_ns = (uint64_t)MAX(expire_ms, 0) * NS_PER_MS;
}

static void
register_poll_fd(int fd UNUSED, void *opaque UNUSED)
{
	/* watch_sockets() asks for what is to be watched. */
}

static void
unregister_poll_fd(int fd, void *opaque)
{
	struct context *c = device_context(opaque);

	if (fd < 0 || fd >= (int)FD_MAX || c->watched[fd] == 0)
		return;
	(void)device_watch(opaque, fd, 0);
	c->watched[fd] = 0;
}

static void
notify(void *opaque UNUSED)
{
	/* There is one thread, and it looks after every call. */
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_get_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = register_poll_fd,
	.unregister_poll_fd = unregister_poll_fd,
	.notify = notify,
};

/* ---- sockets ---- */

static int
add_poll(int fd, int events, void *opaque)
{
	struct context *c = device_context(opaque);
	uint8_t wanted = 0;

	if (fd < 0 || fd >= (int)FD_MAX || c->npolls == FD_MAX)
		return -1;
	if ((events & SLIRP_POLL_IN) && !c->full)
		wanted |= EPOLLIN;
	if (events & SLIRP_POLL_OUT)
		wanted |= EPOLLOUT;
	c->wanted[fd] |= wanted;
	c->fds = MAX(c->fds, (unsigned)fd + 1);
	c->poll_fd[c->npolls] = fd;
	return (int)c->npolls++;
}

static int
get_revents(int index, void *opaque)
{
	struct context *c = device_context(opaque);
	int events = 0;

	if (index < 0 || index >= (int)c->npolls ||
	    c->poll_fd[index] != c->ready_fd)
		return 0;
	if (c->ready & EPOLLIN)
		events |= SLIRP_POLL_IN;
	if (c->ready & EPOLLOUT)
		events |= SLIRP_POLL_OUT;
	return events;
}

/* After all that may have changed a socket: ask the host for what libslirp
 * wants to hear of. */
static void
watch_sockets(struct device *dev)
{
	struct context *c = device_context(dev);
	struct packet_ring *r = device_link_tx(dev, INTAKE_LINK);
	uint32_t timeout = UINT32_MAX;
	unsigned fds = c->fds;

	put_merged(dev);
	c->full = r == NULL || packet_space(r) < (int)HEADROOM;
	c->npolls = 0;
	memset(c->wanted, 0, fds);
	slirp_pollfds_fill(c->slirp, &timeout, add_poll, dev);
	c->due_ns = timeout == UINT32_MAX
	    ? UINT64_MAX
	    : device_now(dev) + (uint64_t)timeout * NS_PER_MS;
	if (c->full)
		c->due_ns = MIN(c->due_ns, device_now(dev) + WAIT_NS);
	for (unsigned fd = 0; fd < c->fds; fd++) {
		if (c->wanted[fd] == c->watched[fd])
			continue;
		if (device_watch(dev, (int)fd, c->wanted[fd]) == 0)
			c->watched[fd] = c->wanted[fd];
	}
	device_gauge(dev, SOCKETS, c->npolls);
	device_link_kick(dev, INTAKE_LINK);
}

static void
user_ready(struct device *dev, int fd, uint32_t events)
{
	struct context *c = device_context(dev);

	c->ready_fd = fd;
	c->ready = events;
	slirp_pollfds_poll(c->slirp, 0, get_revents, dev);
	watch_sockets(dev);
}

/* ---- frames of the guest ---- */

static bool
give(struct device *dev, const uint8_t *data, size_t n)
{
	struct context *c = device_context(dev);
	struct net_header h;

	memcpy(c->frame, data, n);
	memcpy(&h, c->frame, sizeof(h));
	n -= FRAME_HEADER;
	if (frame_check(&h, n, 1u << NET_GSO_TCPV4 | 1u << NET_GSO_TCPV6) < 0) {
		device_count(dev, MALFORMED, 1);
		return true;
	}
	/*
	 * libslirp is the end of the connection: a large segment need not be
	 * cut for it, and it takes one of any size that IP has.
	 */
	frame_complete(&h, c->frame + FRAME_HEADER, n);
	device_count(dev, FROM_GUEST, 1);
	device_count_request(dev, 0, n, 0);
	slirp_input(c->slirp, c->frame + FRAME_HEADER, (int)n);
	return true;
}

static void
user_link(struct device *dev, unsigned link UNUSED)
{
	if (device_link_rx(dev, INTAKE_LINK) == NULL)
		return;
	(void)intake_run(dev, give);
	watch_sockets(dev);
}

static void
user_poll(struct device *dev)
{
	user_link(dev, INTAKE_LINK);
}

/* ---- time ---- */

static uint64_t
user_deadline(struct device *dev)
{
	const struct context *c = device_context(dev);
	uint64_t due = c->due_ns;

	for (unsigned i = 0; i < TIMERS; i++)
		if (c->timer[i].used)
			due = MIN(due, c->timer[i].due_ns);
	return c->slirp == NULL ? UINT64_MAX : due;
}

static void
user_timer(struct device *dev, uint64_t now_ns)
{
	struct context *c = device_context(dev);

	for (unsigned i = 0; i < TIMERS; i++) {
		struct timer *t = &c->timer[i];

		if (!t->used || t->due_ns > now_ns)
			continue;
		t->due_ns = UINT64_MAX;
		t->fire(t->opaque);
	}
	user_ready(dev, -1, 0);
}

/* ---- start ---- */

static ssize_t
send_nowhere(const void *buf UNUSED, size_t n, void *opaque UNUSED)
{
	return (ssize_t)n;
}

static int64_t
no_time(void *opaque UNUSED)
{
	return 0;
}

/* What the libraries do once, they do before the sandbox. */
static void
rehearse(void)
{
	static const SlirpCb nothing = {
		.send_packet = send_nowhere,
		.clock_get_ns = no_time,
	};
	const SlirpConfig config = {
		.version = 3,
		.in_enabled = true,
		.vnetwork.s_addr = htonl(0x0a000200),
		.vnetmask.s_addr = htonl(0xffffff00),
		.vhost.s_addr = htonl(0x0a000202),
	};
	Slirp *slirp = slirp_new(&config, &nothing, NULL);

	if (slirp != NULL)
		slirp_cleanup(slirp);
}

static int
user_prepare(const struct device_type *type UNUSED, void *context)
{
	struct context *c = context;

	/* Writing to a socket that the other end has closed is an error. */
	signal(SIGPIPE, SIG_IGN);
	/* The heap grows by brk() alone: no mremap() to be allowed. */
	mallopt(M_MMAP_MAX, 0);
	shim_prepare(c->resolv);
	rehearse();
	return 0;
}

static void
add_forward(struct device *dev, const struct user_forward *f)
{
	struct context *c = device_context(dev);
	struct in_addr host = { f->host_address }, guest = { f->guest_address };
	char text[INET_ADDRSTRLEN] = "";

	if (slirp_add_hostfwd(c->slirp, f->udp, host, ntohs(f->host_port),
		guest, ntohs(f->guest_port)) == 0)
		return;
	inet_ntop(AF_INET, &host, text, sizeof(text));
	device_log_line(dev, "cannot listen at %s:%s:%u: %s",
	    f->udp ? "udp" : "tcp", text, ntohs(f->host_port), strerror(errno));
}

static void
make_resolv(struct device *dev)
{
	struct context *c = device_context(dev);
	struct state *s = device_state(dev);
	char address[INET_ADDRSTRLEN] = "";

	if (s->options.resolver != 0) {
		inet_ntop(
		    AF_INET, &s->options.resolver, address, sizeof(address));
		snprintf(
		    s->resolv, sizeof(s->resolv), "nameserver %s\n", address);
	} else {
		memcpy(s->resolv, c->resolv, sizeof(s->resolv));
	}
}

static int
user_start(struct device *dev, bool fresh)
{
	struct context *c = device_context(dev);
	struct state *s = device_state(dev);
	const struct user_options *o = &s->options;
	SlirpConfig config = {
		.version = 3,
		.restricted = o->restricted,
		.in_enabled = true,
		.vnetwork.s_addr = o->network,
		.vnetmask.s_addr = o->mask,
		.vhost.s_addr = o->host,
		.vdhcp_start.s_addr = o->dhcp,
		.vnameserver.s_addr = o->dns,
		.in6_enabled = o->ipv6,
		.vprefix_len = 64,
	};

	if (!user_options_valid(o))
		return -EINVAL;
	if (fresh)
		make_resolv(dev);
	shim_set_resolv(s->resolv);
	inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &config.vhost6);
	inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
	intake_start(dev);
	c->due_ns = UINT64_MAX;
	c->slirp = slirp_new(&config, &callbacks, dev);
	if (c->slirp == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < o->nforwards; i++)
		add_forward(dev, &o->forward[i]);
	watch_sockets(dev);
	return 0;
}

static void
user_reset(struct device *dev)
{
	struct state *s = device_state(dev);

	user_options_reset(&s->options);
}

static int
user_configure(struct device *dev, const char *key, const char *val)
{
	struct state *s = device_state(dev);

	return user_options_set(&s->options, key, val);
}

static bool
user_valid(const void *state)
{
	const struct state *s = state;

	return user_options_valid(&s->options) &&
	    memchr(s->resolv, '\0', sizeof(s->resolv)) != NULL;
}

/* ---- the type ---- */

static const struct device_placement placements[] = { { .nregions = 0 } };

static const char *const links[] = { "net" };

static const char *const counters[] = {
	[FROM_GUEST] = "from_guest",
	[TO_GUEST] = "to_guest",
	[MALFORMED] = "malformed",
	[DROPPED] = "dropped",
	[SOCKETS] = "sockets",
};
_Static_assert(ARRAY_LEN(counters) == COUNTERS, "names");

static const struct device_option options[] = {
	{ "network", "addresses of the guest's network; 10.0.2.0/24" },
	{ "host", "the host's address in it; .2" },
	{ "dns", "the name server's address in it; .3" },
	{ "dhcp", "the first address that is given to a guest; .15" },
	{ "resolver", "the name server that is asked; default: the host's" },
	{ "hostfwd",
	    "tcp|udp:[ADDR]:PORT-[ADDR]:PORT, host to guest; "
	    "may be given 16 times" },
	{ "restrict", "on: the guest reaches nothing but the forwards; off" },
	{ "ipv6", "on or off" },
};

static const struct device_ops ops = {
	.reset = user_reset,
	.configure = user_configure,
	.valid = user_valid,
	.access = intake_no_access,
	.deadline = user_deadline,
	.timer = user_timer,
	.prepare = user_prepare,
	.start = user_start,
	.ready = user_ready,
	.link = user_link,
	.pending = intake_pending,
	.poll = user_poll,
	.settle = intake_no_settle,
};

static const struct device_type net_user = {
	.name = "net-user",
	.title = "user-mode network (NAT); its connections do not survive it",
	.network = true,
	.fds = FDS,
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct state),
	.log_size = sizeof(struct intake_log),
	.context_size = sizeof(struct context),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.links = links,
	.nlinks = ARRAY_LEN(links),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.options = options,
	.noptions = ARRAY_LEN(options),
	.syscalls = net_user_syscalls,
	.nsyscalls = NET_USER_SYSCALLS,
	.ops = &ops,
};
DEVTYPE_REGISTER(net_user);
