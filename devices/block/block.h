/*
 * The block device model: virtio 1.2, 5.2, over any backend.
 *
 * Requests of one device may be done in any order, with these exceptions:
 *
 *  - a write, discard or write-zeroes request waits, before it is started, for
 *    older ones that overlap it and are not yet used.  Otherwise, after a
 *    death, starting the older one again would undo the newer, which the
 *    driver was told is on the disk;
 *  - a flush is answered after everything answered before it is durable.
 *
 * The in-flight log is the virtqueues'; chains that a dead process took are
 * started again, once the fence (devices/block/fence.h) says that nothing it
 * had started is left.  Status bytes and data are the same when they are
 * written again.
 *
 * A device type has a struct block_state at the start of its state and a struct
 * block_context at the start of its context, and uses block_class, whose start
 * and prepare it provides.
 */
#ifndef DEVICES_BLOCK_BLOCK_H
#define DEVICES_BLOCK_BLOCK_H

#include "devices/block/backend.h"
#include "devices/block/fence.h"
#include "devices/block/request.h"
#include "devices/block/throttle.h"
#include "devices/virtio/virtio.h"

#define BLOCK_QUEUES_MAX    16u
#define BLOCK_REQUESTS_MAX  1024u /* in flight at once */
#define BLOCK_STATE_VERSION 1u
#define BLOCK_SIZE_MAX	    (1ull << 62)

/* Requests whose memory is not aligned for O_DIRECT go through one of these, a
 * piece at a time. */
#define BLOCK_BOUNCES	  8u
#define BLOCK_BOUNCE_SIZE (256u << 10)

#define BLOCK_CONFIG_SIZE 60u

/* As QEMU's users know them; whoever opens the file opens it so. */
enum block_cache {
	BLOCK_CACHE_WRITEBACK,
	BLOCK_CACHE_NONE, /* O_DIRECT */
	BLOCK_CACHE_WRITETHROUGH, /* O_DSYNC */
	BLOCK_CACHE_DIRECTSYNC, /* O_DIRECT | O_DSYNC */
	BLOCK_CACHE_UNSAFE, /* flushes do nothing */
	BLOCK_CACHES,
};

struct block_state {
	struct virtio_state virtio;
	uint64_t size; /* bytes that the driver sees; 0: not yet known */
	uint64_t set_size; /* by the user; 0: as the backend says */
	struct throttle throttle;
	uint32_t block_size;
	uint16_t queues;
	uint8_t cache; /* enum block_cache */
	uint8_t read_only;
	uint8_t discard;
	uint8_t writeback; /* of the configuration space */
	uint8_t pad[6];
	char serial[BLOCK_ID_SIZE]; /* padded with zeroes */
	uint8_t pad2[4];
};

enum block_counter {
	BLOCK_COUNT_READS,
	BLOCK_COUNT_WRITES,
	BLOCK_COUNT_FLUSHES,
	BLOCK_COUNT_DISCARDS,
	BLOCK_COUNT_ZEROES,
	BLOCK_COUNT_ERRORS,
	BLOCK_COUNT_THROTTLED,
	BLOCK_COUNT_OVERLAPS,
	BLOCK_COUNT_BOUNCED,
	BLOCK_COUNT_AGAIN,
	BLOCK_COUNTERS,
};
extern const char *const block_counters[BLOCK_COUNTERS];

/* What a request waits for. */
enum block_place {
	BLOCK_FREE,
	BLOCK_TOKENS,
	BLOCK_OLDER, /* overlapping ones */
	BLOCK_BOUNCE,
	BLOCK_STARTED,
};

struct block_request {
	struct block_io io; /* the piece under way */
	struct block_job job;
	uint16_t queue;
	uint8_t place; /* enum block_place */
	bool dropped; /* its queue is being closed */
	bool sync_last; /* its last operation is a flush */
	bool by_zeroes; /* zeroes are written as data */
	uint16_t retries;
	unsigned at; /* range */
	uint64_t done; /* bytes of that range */
	unsigned blockers; /* older overlapping ones */
	int bounce; /* -1: none */
	uint64_t taken_ns;
	struct block_request *next; /* in the queue of its place */
	struct block_request *older, *newer; /* among those that write */
	struct vq_chain chain;
	struct iovec iov[VQ_SEGMENTS_MAX];
};

struct block_queue { /* of requests, by next */
	struct block_request *first, **last;
};

/* After the virtqueues' logs. */
struct block_log {
	/*
	 * 1: the backend may have requests under way; 0: it has none for
	 * certain, so that whoever comes after a death need not wait for the
	 * fence.
	 */
	uint64_t under_way;
};
#define BLOCK_LOG_SIZE \
	(VIRTIO_LOG_SIZE(BLOCK_QUEUES_MAX) + (uint32_t)sizeof(struct block_log))

/* The process's own. */
struct block_context {
	struct virtio_context virtio;
	struct block_backend *backend; /* NULL until block_start() */
	struct fence fence;
	int fence_read_end; /* to be left for the successor; -1: none */
	bool open; /* the fence is behind us: requests may start */
	bool starved; /* chains wait for a free request */
	bool due; /* the rates have changed */
	unsigned nrequests, nstarted, nbounces;
	struct block_request *oldest_write, *newest_write;
	struct block_request *free; /* by next; most recently used first */
	unsigned never_used; /* those from here on are not in the list */
	struct block_queue tokens, bounce;
	int free_bounce[BLOCK_BOUNCES];
	/* BLOCK_BOUNCES + 1 of them, aligned; the last one stays zeroes. */
	uint8_t (*bounces)[BLOCK_BOUNCE_SIZE];
	struct block_request request[BLOCK_REQUESTS_MAX];
	uint8_t memory[(BLOCK_BOUNCES + 1) * BLOCK_BOUNCE_SIZE + 4096];
};

/*
 * Of the class, start(): begin with that backend.  fence_read_end: to be left
 * for the successor, or -1 if the end of this process ends its requests.  The
 * backend must already say its size.  0; -EINVAL: it cannot be a disk, and the
 * log says why.
 */
int block_start(struct device *dev, struct block_backend *b, int mailbox,
    int fence_read_end);

/* The functions of a struct virtio_class; without those of the options. */
#define BLOCK_CLASS_BUT_OPTIONS                                             \
	.id = 2, .pci_class = 0x010000, .queues = BLOCK_QUEUES_MAX,         \
	.config_size = BLOCK_CONFIG_SIZE, .offered = block_offered,         \
	.reconfigure = block_reconfigure, .config_read = block_config_read, \
	.config_write = block_config_write,                                 \
	.driver_reset = block_driver_reset, .queue = block_queue,           \
	.quiesce = block_quiesce, .ready = block_ready,                     \
	.pending = block_pending, .poll = block_poll,                       \
	.deadline = block_deadline, .timer = block_timer, .idle = block_idle
#define BLOCK_CLASS                                                          \
	BLOCK_CLASS_BUT_OPTIONS, .reset = block_reset, .valid = block_valid, \
				 .configure = block_configure

uint64_t block_offered(struct device *dev);
void block_reset(struct device *dev);
bool block_valid(const void *state);
int block_configure(struct device *dev, const char *key, const char *val);
int block_reconfigure(struct device *dev, const char *key, const char *val);
void block_config_read(struct device *dev, void *config);
void block_config_write(
    struct device *dev, unsigned offset, unsigned n, uint64_t value);
void block_driver_reset(struct device *dev);
void block_queue(struct device *dev, unsigned q);
void block_quiesce(struct device *dev, unsigned q);
void block_ready(struct device *dev, int fd, uint32_t events);
bool block_pending(struct device *dev);
void block_poll(struct device *dev);
uint64_t block_deadline(struct device *dev);
void block_timer(struct device *dev, uint64_t now_ns);
bool block_idle(struct device *dev);

#define BLOCK_OPTIONS                                                         \
	{ "queues", "request queues, 1 to 16 (1)" },                          \
	    { "serial", "serial number, up to 20 characters" },               \
	    { "read-only", "on or off (off)" },                               \
	    { "cache",                                                        \
		    "none, writeback, writethrough, directsync or unsafe "    \
		    "(writeback)" },                                          \
	    { "discard", "unmap or ignore (unmap)" },                         \
	    { "block-size", "512 or 4096 bytes (512)" },                      \
	    { "size",                                                         \
		    "bytes of the disk, if not the file's size; may be "      \
		    "changed "                                                \
		    "while it runs" },                                        \
	    { "rescan", "while it runs, any value: look at the size again" }, \
	    { "bps", "most bytes per second; may be changed" },               \
	    { "bps-burst", "bytes that may go at once; may be changed" },     \
	    { "iops", "most requests per second; may be changed" },           \
	{                                                                     \
		"iops-burst", "requests that may go at once; may be changed"  \
	}

#endif
