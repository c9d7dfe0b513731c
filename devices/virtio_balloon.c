/*
 * A memory balloon: virtio 1.2, 5.5.
 *
 * The driver gives pages up (inflate, free page reporting), and their memory
 * goes back to the host at once.  To do that again after a restart is harmless:
 * until its chain is used the page is not the guest's.  A page that comes back
 * (deflate) reads as zeroes when it is touched; nothing is to be done for it.
 *
 * The statistics queue holds one chain of the driver's, which is used when new
 * values are wanted, and comes back with them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "devices/virtio/virtio.h"
#include "proto/base.h"
#include "sandbox/sandbox.h"

#define QUEUES	     5u
#define PAGE	     4096u
#define PAGE_SHIFT   12
#define PAGES_MIB    256u
#define RAM_HIGH     (4ull << 30)
#define SECOND_NS    1000000000ull
#define INTERVAL     10u
#define INTERVAL_MAX 86400u
/* Page numbers of one chain that are looked at; drivers send 256. */
#define PAGES_MAX	 (1u << 16)
#define BATCH		 256u

#define F_STATS_VQ	 (1ull << 1)
#define F_DEFLATE_ON_OOM (1ull << 2)
#define F_REPORTING	 (1ull << 5)

struct config {
	uint32_t num_pages, actual;
};
#define CONFIG_ACTUAL 4u

/* A tag and a value; 5.5.6.4. */
struct stat_entry {
	uint16_t tag;
	uint64_t value;
} __attribute__((packed));
#define STATS_TAGS 10u
#define STATS_MAX  64u /* entries looked at */

/* The first ten are the tags. */
enum counter {
	SWAP_IN,
	SWAP_OUT,
	MAJOR_FAULTS,
	MINOR_FAULTS,
	FREE_BYTES,
	TOTAL_BYTES,
	AVAILABLE_BYTES,
	CACHE_BYTES,
	HUGE_ALLOCATED,
	HUGE_FAILED,
	TARGET_PAGES,
	ACTUAL_PAGES,
	INFLATED_PAGES,
	DEFLATED_PAGES,
	REPORTED_BYTES,
	BAD_PAGES,
};

struct balloon {
	struct virtio_state virtio;
	uint32_t num_pages; /* wanted */
	uint32_t actual; /* by the driver's account */
	uint64_t stats_due_ns; /* when to ask for new values */
	uint32_t interval; /* seconds; 0: never */
	uint8_t deflate_on_oom, reporting;
	uint8_t pad[2];
};

struct context {
	struct virtio_context virtio;
	uint32_t pfn[BATCH];
	struct vq_chain stats; /* held */
	bool stats_held;
};

enum role { NONE, INFLATE, DEFLATE, STATS, REPORTING };

/*
 * What a queue is for.  By the specification reporting has number 4; Linux and
 * QEMU leave out the queues that were not negotiated.
 */
static enum role
role(struct device *dev, unsigned index)
{
	bool stats = virtio_has(dev, F_STATS_VQ);

	if (index == 0)
		return INFLATE;
	if (index == 1)
		return DEFLATE;
	if (index == 2 && stats)
		return STATS;
	return virtio_has(dev, F_REPORTING) ? REPORTING : NONE;
}

/* ---- inflate, deflate, report ---- */

static bool
discard(struct device *dev, uint32_t pfn, uint32_t n)
{
	return device_dma_discard(
	    dev, (uint64_t)pfn << PAGE_SHIFT, (size_t)n * PAGE);
}

/* Give back [pfn, pfn + n): as one range, or what of it is RAM. */
static void
inflate_range(struct device *dev, uint32_t pfn, uint32_t n)
{
	uint32_t bad = 0;

	if (!discard(dev, pfn, n))
		for (uint32_t i = 0; i < n; i++)
			bad += !discard(dev, pfn + i, 1);
	device_count(dev, BAD_PAGES, bad);
	device_count(dev, INFLATED_PAGES, n - bad);
}

/* Runs of following numbers, up or down, are one range each. */
static void
inflate_batch(struct device *dev, const uint32_t *pfn, size_t n)
{
	for (size_t i = 0, k; i < n; i = k) {
		uint32_t low = pfn[i], high = pfn[i];

		for (k = i + 1; k < n; k++) {
			if (high != UINT32_MAX && pfn[k] == high + 1)
				high++;
			else if (low != 0 && pfn[k] == low - 1)
				low--;
			else
				break;
		}
		inflate_range(dev, low, high - low + 1);
	}
}

static void
inflate(struct device *dev, const struct vq_chain *c)
{
	struct context *ctx = device_context(dev);
	size_t n;

	for (size_t at = 0; at < PAGES_MAX; at += BATCH) {
		n = vq_read(
			c, at * sizeof(uint32_t), ctx->pfn, sizeof(ctx->pfn)) /
		    sizeof(uint32_t);
		inflate_batch(dev, ctx->pfn, n);
		if (n < BATCH)
			break;
	}
}

/* Guest physical address of mapped RAM; false: it is none. */
static bool
address(struct device *dev, const void *p, size_t n, uint64_t *gpa)
{
	static const uint64_t base[] = { 0, RAM_HIGH };

	for (unsigned i = 0; i < ARRAY_LEN(base); i++) {
		void *first = device_dma_map(dev, base[i], PAGE);

		*gpa = base[i] + ((uintptr_t)p - (uintptr_t)first);
		if (first && (uintptr_t)p >= (uintptr_t)first &&
		    device_dma_map(dev, *gpa, n) == p)
			return true;
	}
	return false;
}

static void
report(struct device *dev, const struct vq_chain *c)
{
	for (unsigned i = 0; i < c->nin; i++) {
		const struct iovec *v = &c->iov[c->nout + i];
		uint64_t gpa;

		if (v->iov_len == 0)
			continue;
		if (address(dev, v->iov_base, v->iov_len, &gpa) &&
		    gpa % PAGE == 0 && v->iov_len % PAGE == 0 &&
		    device_dma_discard(dev, gpa, v->iov_len))
			device_count(dev, REPORTED_BYTES, v->iov_len);
		else
			device_count(dev, BAD_PAGES, 1);
	}
}

/* ---- statistics ---- */

static void
stats_read(struct device *dev, const struct vq_chain *c)
{
	struct stat_entry e;

	for (size_t i = 0; i < STATS_MAX; i++) {
		if (vq_read(c, i * sizeof(e), &e, sizeof(e)) != sizeof(e))
			break;
		if (e.tag < STATS_TAGS)
			device_gauge(dev, e.tag, e.value);
	}
}

static void
stats_take(struct device *dev, unsigned index)
{
	struct balloon *s = device_state(dev);
	struct context *c = device_context(dev);

	while (virtio_live(dev) && !c->stats_held &&
	    virtio_pop(dev, index, &c->stats)) {
		c->stats_held = true;
		stats_read(dev, &c->stats);
		s->stats_due_ns = device_now(dev) + s->interval * SECOND_NS;
	}
}

static uint64_t
balloon_deadline(struct device *dev)
{
	const struct balloon *s = device_state(dev);
	const struct context *c = device_context(dev);

	return c->stats_held && s->interval && virtio_live(dev)
	    ? s->stats_due_ns
	    : UINT64_MAX;
}

static void
balloon_timer(struct device *dev, uint64_t now_ns UNUSED)
{
	struct context *c = device_context(dev);

	virtio_push(dev, 2, &c->stats, 0);
	c->stats_held = false;
}

/* ---- the class ---- */

static void
balloon_queue(struct device *dev, unsigned index)
{
	enum role what = role(dev, index);
	struct vq_chain c;

	if (what == STATS) {
		stats_take(dev, index);
		return;
	}
	while (what != NONE && virtio_live(dev) && virtio_pop(dev, index, &c)) {
		if (what == INFLATE)
			inflate(dev, &c);
		else if (what == DEFLATE)
			device_count(dev, DEFLATED_PAGES,
			    MIN(c.out_bytes / sizeof(uint32_t), PAGES_MAX));
		else
			report(dev, &c);
		virtio_push(dev, index, &c, 0);
	}
}

static void
balloon_quiesce(struct device *dev, unsigned index)
{
	struct context *c = device_context(dev);

	if (role(dev, index) == STATS)
		c->stats_held = false;
}

static void
balloon_reset(struct device *dev)
{
	struct balloon *s = device_state(dev);

	s->interval = INTERVAL;
	s->deflate_on_oom = 1;
	s->reporting = 1;
}

static void
balloon_driver_reset(struct device *dev)
{
	struct balloon *s = device_state(dev);

	s->actual = 0;
}

static bool
balloon_valid(const void *state)
{
	const struct balloon *s = state;

	return s->interval <= INTERVAL_MAX && s->deflate_on_oom <= 1 &&
	    s->reporting <= 1;
}

static bool
number(const char *val, uint32_t max, uint32_t *out)
{
	unsigned long n;
	char *end;

	if (val[0] < '0' || val[0] > '9')
		return false;
	errno = 0;
	n = strtoul(val, &end, 10);
	if (errno || *end || n > max)
		return false;
	*out = (uint32_t)n;
	return true;
}

/* MiB, as "64", "64M" or "1G", in pages. */
static bool
size(const char *val, uint32_t *pages)
{
	char digits[16];
	size_t n = strspn(val, "0123456789");
	uint32_t scale = PAGES_MIB;

	if (n >= sizeof(digits))
		return false;
	memcpy(digits, val, n);
	digits[n] = '\0';
	if (strcmp(val + n, "G") == 0)
		scale *= 1024;
	else if (val[n] != '\0' && strcmp(val + n, "M") != 0)
		return false;
	if (!number(digits, UINT32_MAX / scale, pages))
		return false;
	*pages *= scale;
	return true;
}

static int
balloon_reconfigure(struct device *dev, const char *key, const char *val)
{
	struct balloon *s = device_state(dev);
	uint32_t n;

	if (strcmp(key, "size") == 0) {
		if (!size(val, &n))
			return -EINVAL;
		s->num_pages = n;
		virtio_config_changed(dev);
		return 0;
	}
	if (strcmp(key, "interval") == 0) {
		if (!number(val, INTERVAL_MAX, &n))
			return -EINVAL;
		s->interval = n;
		s->stats_due_ns = device_now(dev) + n * SECOND_NS;
		return 0;
	}
	return -ENOENT;
}

static bool
on_off(const char *val, uint8_t *out)
{
	*out = strcmp(val, "on") == 0;
	return *out || strcmp(val, "off") == 0;
}

static int
balloon_configure(struct device *dev, const char *key, const char *val)
{
	struct balloon *s = device_state(dev);

	if (strcmp(key, "deflate-on-oom") == 0)
		return on_off(val, &s->deflate_on_oom) ? 0 : -EINVAL;
	if (strcmp(key, "reporting") == 0)
		return on_off(val, &s->reporting) ? 0 : -EINVAL;
	return balloon_reconfigure(dev, key, val);
}

static uint64_t
balloon_offered(struct device *dev)
{
	const struct balloon *s = device_state(dev);

	return F_STATS_VQ | (s->deflate_on_oom ? F_DEFLATE_ON_OOM : 0) |
	    (s->reporting ? F_REPORTING : 0);
}

static void
balloon_config_read(struct device *dev, void *config)
{
	const struct balloon *s = device_state(dev);
	struct config *c = config;

	c->num_pages = s->num_pages;
	c->actual = s->actual;
}

static void
balloon_config_write(
    struct device *dev, unsigned offset, unsigned n, uint64_t value)
{
	struct balloon *s = device_state(dev);

	/* The specification has it written as the 32 bits that it is. */
	if (offset == CONFIG_ACTUAL && n == sizeof(s->actual))
		s->actual = (uint32_t)value;
}

static void
balloon_settle(struct device *dev)
{
	const struct balloon *s = device_state(dev);

	device_gauge(dev, TARGET_PAGES, s->num_pages);
	device_gauge(dev, ACTUAL_PAGES, s->actual);
}

static const struct virtio_class class = {
	.id = 5,
	.pci_class = 0x00ff00, /* unclassified */
	.queues = QUEUES,
	.features = F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING,
	.offered = balloon_offered,
	.config_size = sizeof(struct config),
	.in_order = true,
	.reset = balloon_reset,
	.valid = balloon_valid,
	.configure = balloon_configure,
	.reconfigure = balloon_reconfigure,
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.driver_reset = balloon_driver_reset,
	.queue = balloon_queue,
	.quiesce = balloon_quiesce,
	.deadline = balloon_deadline,
	.timer = balloon_timer,
	.settle = balloon_settle,
};

static const char *const counters[] = { "swap_in_bytes", "swap_out_bytes",
	"major_faults", "minor_faults", "free_bytes", "total_bytes",
	"available_bytes", "cache_bytes", "huge_allocated", "huge_failed",
	"target_pages", "actual_pages", "inflated_pages", "deflated_pages",
	"reported_bytes", "bad_pages" };
static const struct device_option options[] = {
	VIRTIO_OPTIONS,
	{ "size",
	    "memory to take from the guest, in MiB, or with M or G; "
	    "may change (0)" },
	{ "interval", "seconds between statistics, 0: never; may change (10)" },
	{ "deflate-on-oom",
	    "on or off: the guest may take pages back in need (on)" },
	{ "reporting", "on or off: free pages go back to the host (on)" },
};
static const struct sandbox_syscall syscalls[] = {
	{ .nr = __NR_madvise,
	    .reason = "give pages back to the host",
	    .nargs = 1,
	    .args = { { 2, SANDBOX_EQ, MADV_REMOVE, 0 } } },
};

static const struct device_type virtio_balloon = {
	VIRTIO_DEVICE_TYPE(class, QUEUES, struct balloon, struct context),
	.name = "virtio-balloon",
	.title = "virtio memory balloon",
	.state_version = 1,
	.log_size = VIRTIO_LOG_SIZE(QUEUES),
	.counters = counters,
	.ncounters = ARRAY_LEN(counters),
	.options = options,
	.noptions = ARRAY_LEN(options),
	.syscalls = syscalls,
	.nsyscalls = ARRAY_LEN(syscalls),
};
DEVTYPE_REGISTER(virtio_balloon);
