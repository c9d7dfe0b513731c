/*
 * For tests: a device host as the broker sees it, in a process, in a sandbox,
 * or on a thread, with a harness as its memory.
 */
#ifndef DEVHOST_CHILD_H
#define DEVHOST_CHILD_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "devhost/harness.h"
#include "devhost/host.h"
#include "proto/channel.h"
#include "sandbox/sandbox.h"

#define BODY(name)  BULKHEAD__ENVELOPE__BODY_##name
#define PATIENCE_MS 20000

/* A device process, or a thread, and our end of its channel. */
struct child {
	struct channel channel;
	pid_t pid; /* 0: inline */
	int pidfd;
	struct host *host;
};

enum how { FORKED, SANDBOXED, INLINE };

static inline bool
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

static inline bool
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
static inline int
hear(struct child *c, struct channel_message *m)
{
	int rc = channel_receive(&c->channel, m, PATIENCE_MS);

	return rc == 1 ? (int)m->envelope->body_case : 0;
}

static inline int
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
	message.has_ram = h->config.has_ram;
	message.ram_low = h->config.ram_low;
	message.ram_high = h->config.ram_high;
	message.links = h->config.links;
	message.link_side = h->config.link_side;
	message.files = h->config.files;
	if (channel_send(&c->channel, BODY(CONFIGURE), &message, h->fds,
		h->nfds, 0) != 0)
		heard = 0;
	channel_free(&m);
	return heard;
}

/* Through Hello and Configure to Ready: 1 recovered, 0 fresh, -1 neither. */
static inline int
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
static inline int
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

#endif
