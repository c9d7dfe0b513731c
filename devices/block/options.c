/* What the user and the driver set of a block device, and what they see. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/block/parts.h"
#include "proto/base.h"

/* Feature bits; 5.2.3. */
#define F_SEG_MAX      (1ull << 2)
#define F_RO	       (1ull << 5)
#define F_BLK_SIZE     (1ull << 6)
#define F_FLUSH	       (1ull << 9)
#define F_TOPOLOGY     (1ull << 10)
#define F_CONFIG_WCE   (1ull << 11)
#define F_MQ	       (1ull << 12)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

/* Segments of data in a chain: beside them a header and a status. */
#define SEG_MAX (VQ_SEGMENTS_MAX - 2)

/* The device's configuration; 5.2.4. */
struct config {
	uint64_t capacity; /* sectors */
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size; /* blocks */
	uint32_t opt_io_size;
	uint8_t writeback, unused;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused2[3];
} __attribute__((packed));
_Static_assert(sizeof(struct config) == BLOCK_CONFIG_SIZE, "5.2.4");

const char *const block_counters[BLOCK_COUNTERS] = {
	[BLOCK_COUNT_READS] = "reads",
	[BLOCK_COUNT_WRITES] = "writes",
	[BLOCK_COUNT_FLUSHES] = "flushes",
	[BLOCK_COUNT_DISCARDS] = "discards",
	[BLOCK_COUNT_ZEROES] = "write-zeroes",
	[BLOCK_COUNT_ERRORS] = "errors",
	[BLOCK_COUNT_THROTTLED] = "throttled",
	[BLOCK_COUNT_OVERLAPS] = "overlaps",
	[BLOCK_COUNT_BOUNCED] = "bounced",
	[BLOCK_COUNT_AGAIN] = "started-again",
};

static const char *const cache_names[BLOCK_CACHES] = {
	[BLOCK_CACHE_WRITEBACK] = "writeback",
	[BLOCK_CACHE_NONE] = "none",
	[BLOCK_CACHE_WRITETHROUGH] = "writethrough",
	[BLOCK_CACHE_DIRECTSYNC] = "directsync",
	[BLOCK_CACHE_UNSAFE] = "unsafe",
};

uint64_t
block_offered(struct device *dev)
{
	const struct block_state *s = device_state(dev);
	uint64_t f =
	    F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE | F_MQ;

	if (s->read_only)
		return f | F_RO;
	return f | F_WRITE_ZEROES | (s->discard ? F_DISCARD : 0);
}

/* The mode that the driver finds, and that it may change. */
uint8_t
block_first_writeback(const struct block_state *s)
{
	return s->cache != BLOCK_CACHE_WRITETHROUGH &&
	    s->cache != BLOCK_CACHE_DIRECTSYNC;
}

void
block_reset(struct device *dev)
{
	struct block_state *s = device_state(dev);

	s->queues = 1;
	s->block_size = BLOCK_SECTOR;
	s->cache = BLOCK_CACHE_WRITEBACK;
	s->discard = 1;
	s->writeback = 1;
}

static bool
bucket_valid(const struct throttle_bucket *b)
{
	return b->rate <= THROTTLE_RATE_MAX && b->burst <= THROTTLE_RATE_MAX;
}

bool
block_valid(const void *state)
{
	const struct block_state *s = state;

	return s->queues >= 1 && s->queues <= BLOCK_QUEUES_MAX &&
	    (s->block_size == 512 || s->block_size == 4096) &&
	    s->cache < BLOCK_CACHES && s->read_only <= 1 && s->discard <= 1 &&
	    s->writeback <= 1 && s->size <= BLOCK_SIZE_MAX &&
	    s->size % BLOCK_SECTOR == 0 && s->set_size <= BLOCK_SIZE_MAX &&
	    bucket_valid(&s->throttle.bytes) && bucket_valid(&s->throttle.ops);
}

/* A decimal number with K, M, G or T for powers of 1024. */
static int
parse_number(const char *val, uint64_t max, uint64_t *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	uint64_t n;

	if (val[0] < '0' || val[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(val, &end, 10);
	if (errno != 0)
		return -EINVAL;
	if (*end != '\0') {
		unit = strchr(units, *end);
		if (!unit || end[1] != '\0')
			return -EINVAL;
		for (const char *u = units; u <= unit; u++)
			if (__builtin_mul_overflow(n, 1024u, &n))
				return -EINVAL;
	}
	if (n > max)
		return -EINVAL;
	*out = n;
	return 0;
}

static int
parse_flag(const char *val, const char *yes, const char *no, uint8_t *out)
{
	if (strcmp(val, yes) != 0 && strcmp(val, no) != 0)
		return -EINVAL;
	*out = strcmp(val, yes) == 0;
	return 0;
}

static int
parse_cache(struct block_state *s, const char *val)
{
	for (uint8_t i = 0; i < BLOCK_CACHES; i++) {
		if (strcmp(cache_names[i], val) != 0)
			continue;
		s->cache = i;
		s->writeback = block_first_writeback(s);
		return 0;
	}
	return -EINVAL;
}

static int
parse_serial(struct block_state *s, const char *val)
{
	size_t n = strlen(val);

	if (n > BLOCK_ID_SIZE)
		return -EINVAL;
	memset(s->serial, 0, sizeof(s->serial));
	memcpy(s->serial, val, n);
	return 0;
}

static int
parse_size(struct block_state *s, const char *val)
{
	uint64_t n;

	if (parse_number(val, BLOCK_SIZE_MAX, &n) != 0 || n == 0 ||
	    n % s->block_size != 0)
		return -EINVAL;
	s->set_size = n;
	return 0;
}

/* The rates: those that can change at any time.  -ENOENT: not one of them. */
static int
parse_rate(struct device *dev, const char *key, const char *val)
{
	struct block_state *s = device_state(dev);
	const struct {
		const char *key;
		uint64_t *to;
	} rates[] = {
		{ "bps", &s->throttle.bytes.rate },
		{ "bps-burst", &s->throttle.bytes.burst },
		{ "iops", &s->throttle.ops.rate },
		{ "iops-burst", &s->throttle.ops.burst },
	};

	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		if (strcmp(rates[i].key, key) != 0)
			continue;
		if (parse_number(val, THROTTLE_RATE_MAX, rates[i].to) != 0)
			return -EINVAL;
		throttle_refill(&s->throttle, device_now(dev));
		return 0;
	}
	return -ENOENT;
}

int
block_configure(struct device *dev, const char *key, const char *val)
{
	struct block_state *s = device_state(dev);
	uint64_t n = 0;
	int rc;

	if (strcmp(key, "queues") == 0) {
		rc = parse_number(val, BLOCK_QUEUES_MAX, &n);
		if (rc == 0 && n == 0)
			rc = -EINVAL;
		if (rc == 0)
			s->queues = (uint16_t)n;
		return rc;
	}
	if (strcmp(key, "block-size") == 0) {
		rc = parse_number(val, 4096, &n);
		if (rc == 0 && n != 512 && n != 4096)
			rc = -EINVAL;
		if (rc == 0)
			s->block_size = (uint32_t)n;
		return rc;
	}
	if (strcmp(key, "serial") == 0)
		return parse_serial(s, val);
	if (strcmp(key, "read-only") == 0)
		return parse_flag(val, "on", "off", &s->read_only);
	if (strcmp(key, "discard") == 0)
		return parse_flag(val, "unmap", "ignore", &s->discard);
	if (strcmp(key, "cache") == 0)
		return parse_cache(s, val);
	if (strcmp(key, "size") == 0)
		return parse_size(s, val);
	return parse_rate(dev, key, val);
}

/*
 * The size that a disk is to have, from the backend's and the user's.  Bytes,
 * or -EINVAL, and the log says why.
 */
static int64_t
find_size(struct device *dev, struct block_backend *b, uint64_t set)
{
	const struct block_state *s = device_state(dev);
	int64_t size = b->ops->size(b);

	if (size < 0) {
		device_log_line(dev, "disk: cannot tell its size: %s",
		    strerror((int)-size));
	} else if (set > 0 && size > 0 && set > (uint64_t)size) {
		device_log_line(dev,
		    "disk: size=%llu is more than the file's %lld bytes",
		    (unsigned long long)set, (long long)size);
	} else if (set > 0) {
		return (int64_t)set;
	} else if (size == 0) {
		device_log_line(dev, "disk: the file is empty");
	} else if (size % s->block_size != 0) {
		device_log_line(dev,
		    "disk: its size, %lld bytes, is not a multiple of %u",
		    (long long)size, s->block_size);
	} else if ((uint64_t)size <= BLOCK_SIZE_MAX) {
		return size;
	}
	return -EINVAL;
}

int
block_find_size(struct device *dev, struct block_backend *b)
{
	struct block_state *s = device_state(dev);
	int64_t size;

	if (s->size != 0)
		return 0;
	size = find_size(dev, b, s->set_size);
	if (size < 0)
		return (int)size;
	s->size = (uint64_t)size;
	return 0;
}

int
block_reconfigure(struct device *dev, const char *key, const char *val)
{
	struct block_context *c = device_context(dev);
	struct block_state *s = device_state(dev);
	uint64_t before = s->set_size;
	int64_t size;
	int rc;

	if (strcmp(key, "size") == 0) {
		rc = parse_size(s, val);
		if (rc != 0)
			return rc;
	} else if (strcmp(key, "rescan") != 0) {
		rc = parse_rate(dev, key, val);
		/* Who waits for tokens is to look again. */
		c->due = true;
		return rc;
	}
	if (!c->backend)
		return -EINVAL;
	size = find_size(dev, c->backend, s->set_size);
	if (size < 0) {
		s->set_size = before;
		return (int)size;
	}
	if (s->size != (uint64_t)size) {
		s->size = (uint64_t)size;
		virtio_config_changed(dev);
	}
	return 0;
}

void
block_config_read(struct device *dev, void *config)
{
	const struct block_state *s = device_state(dev);
	struct config c = {
		.capacity = htole64(s->size / BLOCK_SECTOR),
		.seg_max = htole32(SEG_MAX),
		.blk_size = htole32(s->block_size),
		.physical_block_exp = s->block_size == 4096 ? 0 : 3,
		.min_io_size = htole16((uint16_t)(4096 / s->block_size)),
		.writeback = s->writeback,
		.num_queues = htole16(s->queues),
		.max_discard_sectors = htole32(BLOCK_RANGE_MAX_SECTORS),
		.max_discard_seg = htole32(BLOCK_SEGMENTS_MAX),
		.discard_sector_alignment = htole32(4096 / BLOCK_SECTOR),
		.max_write_zeroes_sectors = htole32(BLOCK_RANGE_MAX_SECTORS),
		.max_write_zeroes_seg = htole32(BLOCK_SEGMENTS_MAX),
		.write_zeroes_may_unmap = s->discard,
	};

	memcpy(config, &c, sizeof(c));
}

void
block_config_write(
    struct device *dev, unsigned offset, unsigned n, uint64_t value)
{
	struct block_state *s = device_state(dev);

	/* The one field that a driver may write; 5.2.5.1: 0 or 1. */
	if (n == 1 && offset == offsetof(struct config, writeback) &&
	    value <= 1 && virtio_has(dev, F_CONFIG_WCE))
		s->writeback = (uint8_t)value;
}

bool
block_is_durable(struct device *dev)
{
	const struct block_state *s = device_state(dev);

	if (s->cache == BLOCK_CACHE_UNSAFE)
		return false;
	if (virtio_has(dev, F_CONFIG_WCE))
		return !s->writeback;
	/* 5.2.6.2: without flushes, or if it was so from the start. */
	return !virtio_has(dev, F_FLUSH) || !block_first_writeback(s);
}

void
block_get_limits(struct device *dev, struct block_limits *l)
{
	const struct block_state *s = device_state(dev);

	l->size = s->size;
	l->block_size = s->block_size;
	l->read_only = s->read_only;
	l->discard = virtio_has(dev, F_DISCARD);
	l->zeroes = virtio_has(dev, F_WRITE_ZEROES);
}
