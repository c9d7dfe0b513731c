/*
 * virtio-blk-nbd: a virtio disk on an NBD server.
 *
 * Its outside effects are requests to the server; what makes them safe against
 * the death of the process is written in devices/block/block.h, and how far,
 * in devices/ext/nbd.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "devices/block/block.h"
#include "devices/ext/nbd.h"
#include "proto/base.h"
#include "sandbox/sandbox.h"

#define TIMEOUT_MAX_S 86400u

struct nbd_state {
	struct block_state block;
	char export[NBD_EXPORT_MAX];
	uint32_t request_timeout_s, loss_timeout_s;
	uint8_t fail_on_loss;
	uint8_t pad[7];
};

struct nbd_context {
	struct block_context block;
	struct nbd nbd;
};

enum { FILE_SOCKET, FILE_CONNECTOR, FILE_MAILBOX };

static void
reset(struct device *dev)
{
	struct nbd_state *s = device_state(dev);

	block_reset(dev);
	s->request_timeout_s = 30;
	s->loss_timeout_s = 30;
}

static bool
valid(const void *state)
{
	const struct nbd_state *s = state;

	return block_valid(state) && s->fail_on_loss <= 1 &&
	    s->request_timeout_s <= TIMEOUT_MAX_S &&
	    s->loss_timeout_s <= TIMEOUT_MAX_S &&
	    memchr(s->export, '\0', sizeof(s->export)) != NULL;
}

static int
parse_seconds(const char *val, uint32_t *out)
{
	unsigned long n;
	char *end;

	if (val[0] < '0' || val[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoul(val, &end, 10);
	if (errno != 0 || *end != '\0' || n > TIMEOUT_MAX_S)
		return -EINVAL;
	*out = (uint32_t)n;
	return 0;
}

static int
configure(struct device *dev, const char *key, const char *val)
{
	struct nbd_state *s = device_state(dev);

	if (strcmp(key, "export") == 0) {
		if (strlen(val) >= sizeof(s->export))
			return -EINVAL;
		memset(s->export, 0, sizeof(s->export));
		memcpy(s->export, val, strlen(val));
		return 0;
	}
	if (strcmp(key, "on-loss") == 0) {
		if (strcmp(val, "wait") != 0 && strcmp(val, "error") != 0)
			return -EINVAL;
		s->fail_on_loss = strcmp(val, "error") == 0;
		return 0;
	}
	if (strcmp(key, "loss-timeout") == 0)
		return parse_seconds(val, &s->loss_timeout_s);
	if (strcmp(key, "request-timeout") == 0)
		return parse_seconds(val, &s->request_timeout_s);
	return block_configure(dev, key, val);
}

static int
start(struct device *dev, bool fresh UNUSED)
{
	struct nbd_context *c = device_context(dev);
	struct nbd_state *s = device_state(dev);
	struct nbd_options o = {
		.block_size = s->block.block_size,
		.request_timeout_s = s->request_timeout_s,
		.loss_timeout_s =
		    s->fail_on_loss ? MAX(s->loss_timeout_s, 1u) : 0,
	};
	int fd = device_file(dev, FILE_SOCKET), rc = 0;

	memcpy(o.export, s->export, sizeof(o.export));
	nbd_init(&c->nbd, dev, &o, device_file(dev, FILE_MAILBOX),
	    device_file(dev, FILE_CONNECTOR));
	if (s->block.size == 0)
		rc = nbd_connect(&c->nbd, fd);
	else
		nbd_reconnect(&c->nbd, fd);
	if (rc < 0)
		return rc;
	/* Before the driver looks. */
	if (s->block.size == 0 && c->nbd.read_only)
		s->block.read_only = 1;
	return block_start(dev, &c->nbd.backend, -1, -1);
}

static const struct virtio_class class = {
	BLOCK_CLASS_BUT_OPTIONS,
	.reset = reset,
	.valid = valid,
	.configure = configure,
	.start = start,
};

static const char *const files[] = {
	[FILE_SOCKET] = "socket",
	[FILE_CONNECTOR] = "?connector",
	[FILE_MAILBOX] = "?fence",
};

static const struct device_option options[] = {
	VIRTIO_OPTIONS,
	BLOCK_OPTIONS,
	{ "export", "name of the server's export (its default one)" },
	{ "on-loss",
	    "wait for the server to come back, or give error after "
	    "loss-timeout "
	    "(wait)" },
	{ "loss-timeout", "seconds, with on-loss=error (30)" },
	{ "request-timeout",
	    "seconds after which a silent server is given up; 0: never (30)" },
};

static const struct sandbox_syscall syscalls[] = {
	{ .nr = __NR_sendto, .reason = "requests to the server" },
	{ .nr = __NR_recvfrom, .reason = "its answers" },
	{ .nr = __NR_shutdown, .reason = "end an old connection" },
	{ .nr = __NR_poll, .reason = "wait for the first greeting" },
	{ .nr = __NR_fcntl,
	    .reason = "copies of sockets, their flags",
	    .nargs = 1,
	    .args = { { 1, SANDBOX_MASKED_EQ, ~7ull, 0 } } },
};

static const struct device_type virtio_blk_nbd = {
	.name = "virtio-blk-nbd",
	.title = "virtio disk on an NBD server",
	.state_version = BLOCK_STATE_VERSION,
	VIRTIO_DEVICE_TYPE(
	    class, BLOCK_QUEUES_MAX, struct nbd_state, struct nbd_context),
	.log_size = BLOCK_LOG_SIZE,
	/* The connection, an old one, one that comes from the connector. */
	.fds = 4,
	.files = files,
	.nfiles = ARRAY_LEN(files),
	.counters = block_counters,
	.ncounters = BLOCK_COUNTERS,
	.options = options,
	.noptions = ARRAY_LEN(options),
	.syscalls = syscalls,
	.nsyscalls = ARRAY_LEN(syscalls),
};

DEVTYPE_REGISTER(virtio_blk_nbd);
