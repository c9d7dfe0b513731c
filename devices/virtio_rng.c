/*
 * Entropy device: virtio 1.2, 5.4.
 *
 * What the guest gets are random bytes of the host's kernel.  With a rate, it
 * gets no more than so many bytes per second, in bursts of up to one second's
 * worth; a request has to wait until there is something for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "devices/virtio/virtio.h"
#include "proto/base.h"
#include "sandbox/sandbox.h"

#define QUEUES	    1u
#define QUEUE	    0u
#define REQUEST_MAX 65536u /* bytes for one request; more is not owed to it */
#define RATE_MAX    (1ull << 30)
#define SECOND_NS   1000000000ull

enum counter {
	COUNT_BYTES,
	COUNT_WAITS,
};

struct rng_state {
	struct virtio_state virtio;
	uint64_t rate; /* bytes per second; 0: without limit */
	uint64_t credit; /* bytes that may be given now */
	uint64_t credit_ns; /* guest time up to which credit is right */
	uint64_t waiting; /* a request waits for credit */
};

struct rng_context {
	struct virtio_context virtio;
};

static void
rng_reset(struct device *dev)
{
	struct rng_state *s = device_state(dev);

	s->rate = s->credit = s->waiting = 0;
	s->credit_ns = device_now(dev);
}

static bool
rng_valid(const void *state)
{
	const struct rng_state *s = state;

	return s->rate <= RATE_MAX && s->credit <= s->rate;
}

static int
rng_configure(struct device *dev, const char *key, const char *val)
{
	struct rng_state *s = device_state(dev);
	unsigned long long rate;
	char *end;

	if (strcmp(key, "rate") != 0)
		return -ENOENT;
	errno = 0;
	rate = strtoull(val, &end, 10);
	if (errno != 0 || end == val || *end != '\0' || val[0] == '-' ||
	    rate > RATE_MAX)
		return -EINVAL;
	s->rate = rate;
	s->credit = rate;
	return 0;
}

/* Add what has come in since we last looked. */
static void
earn(struct rng_state *s, uint64_t now_ns)
{
	uint64_t passed, earned;

	if (now_ns <= s->credit_ns)
		return;
	passed = MIN(now_ns - s->credit_ns, SECOND_NS);
	earned = passed * s->rate / SECOND_NS;
	if (s->credit + earned >= s->rate) {
		s->credit = s->rate;
		s->credit_ns = now_ns;
		return;
	}
	/* Only whole bytes are paid; the time of the rest is kept. */
	s->credit += earned;
	if (earned > 0)
		s->credit_ns += (earned * SECOND_NS + s->rate - 1) / s->rate;
}

/* Random bytes straight into the buffers of the guest; how many. */
static uint32_t
fill(const struct vq_chain *c, uint32_t n)
{
	struct iovec v[VQ_SEGMENTS_MAX];
	unsigned count = vq_slice(c, true, 0, n, v, VQ_SEGMENTS_MAX);
	uint32_t done = 0;

	for (unsigned i = 0; i < count; i++) {
		uint8_t *to = v[i].iov_base;
		size_t left = v[i].iov_len;

		while (left > 0) {
			/* 256 bytes come whole, or it is early at boot. */
			ssize_t got = getrandom(to, MIN(left, 256u), 0);

			if (got <= 0)
				return done;
			to += got;
			left -= (size_t)got;
			done += (uint32_t)got;
		}
	}
	return done;
}

static void
rng_queue(struct device *dev, unsigned q)
{
	struct rng_state *s = device_state(dev);
	struct vq_chain c;

	s->waiting = 0;
	if (s->rate != 0)
		earn(s, device_now(dev));
	while (virtio_pop(dev, q, &c)) {
		uint32_t n = MIN(c.in_bytes, REQUEST_MAX);

		if (c.nin == 0) {
			virtio_broken(dev, "a request without a buffer");
			return;
		}
		if (s->rate != 0 && s->credit == 0) {
			vq_unpop(virtio_queue(dev, q), &c);
			s->waiting = 1;
			device_count(dev, COUNT_WAITS, 1);
			return;
		}
		if (s->rate != 0) {
			n = (uint32_t)MIN(n, s->credit);
			s->credit -= n;
		}
		n = fill(&c, n);
		virtio_push(dev, q, &c, n);
		device_count(dev, COUNT_BYTES, n);
		device_count_request(dev, n, 0, 0);
	}
}

static void
rng_driver_reset(struct device *dev)
{
	struct rng_state *s = device_state(dev);

	s->waiting = 0;
}

static uint64_t
rng_deadline(struct device *dev)
{
	const struct rng_state *s = device_state(dev);

	if (!s->waiting || s->rate == 0)
		return UINT64_MAX;
	return s->credit_ns + (SECOND_NS + s->rate - 1) / s->rate;
}

static void
rng_timer(struct device *dev, uint64_t now_ns)
{
	struct rng_state *s = device_state(dev);

	earn(s, now_ns);
	s->waiting = 0;
	if (virtio_queue(dev, QUEUE) != NULL)
		rng_queue(dev, QUEUE);
}

static const struct virtio_class class = {
	.id = 4,
	.pci_class = 0x00ff00, /* none of the classes that there are */
	.queues = QUEUES,
	.in_order = true,
	.reset = rng_reset,
	.valid = rng_valid,
	.configure = rng_configure,
	.driver_reset = rng_driver_reset,
	.queue = rng_queue,
	.deadline = rng_deadline,
	.timer = rng_timer,
};

static const struct sandbox_syscall syscalls[] = {
	{ .nr = __NR_getrandom,
	    .reason = "random bytes for the guest",
	    .nargs = 1,
	    .args = { { 2, SANDBOX_EQ, 0, 0 } } },
};

static const char *const counters[] = {
	[COUNT_BYTES] = "bytes",
	[COUNT_WAITS] = "waits",
};

static const struct device_option options[] = {
	VIRTIO_OPTIONS,
	{ "rate", "bytes per second that the guest may have; 0: any number" },
};

static const struct device_type virtio_rng = {
	VIRTIO_DEVICE_TYPE(class, QUEUES, struct rng_state, struct rng_context),
	.name = "virtio-rng",
	.title = "entropy",
	.state_version = 1,
	.log_size = VIRTIO_LOG_SIZE(QUEUES),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.options = options,
	.noptions = ARRAY_LEN(options),
	.syscalls = syscalls,
	.nsyscalls = ARRAY_LEN(syscalls),
};
DEVTYPE_REGISTER(virtio_rng);
