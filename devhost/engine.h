/*
 * The engine under one device: its mappings, and the steps with their commits.
 * Internal to devhost/; one thread at a time (the host's lock).
 */
#ifndef DEVHOST_ENGINE_H
#define DEVHOST_ENGINE_H

#include "devhost/device.h"
#include "proto/packet.h"
#include "proto/ring.h"
#include "proto/store.h"
#include "proto/stream.h"

#define ENGINE_NAME_MAX 32u
#define ENGINE_LINE_MAX 160u

/* What Configure said, checked; strings are the message's. */
struct engine_config {
	const char *name;
	unsigned vcpus;
	struct device_placement placement;
	int64_t clock_offset_ns; /* guest time = CLOCK_MONOTONIC + this */
	bool icount; /* or rather that of the last request */
	bool has_ram;
	uint64_t ram_low, ram_high; /* bytes */
	uint32_t links, files; /* bits: those that are there */
	unsigned link_side;
	/* The last fd is a store with a state of another version. */
	bool converts;
	uint32_t from_version, from_size;
	const int *fds; /* as Configure orders them; stay the caller's */
	unsigned nfds;
	void *context; /* context_size bytes; stay the caller's */
	/* device_watch(); what it returns is the device's answer. */
	int (*watch)(void *watcher, int fd, uint32_t events);
	void *watcher;
};

struct engine_irq {
	int trigger, resample; /* resample: -1 for an edge */
	uint64_t level; /* as this process last made it */
};

struct engine_stream {
	struct stream *out, *in;
	int out_data, out_space, in_data, in_space;
	uint64_t in_pos; /* published as consumed */
};

struct engine_vector {
	int trigger;
	uint64_t sent; /* count as this process last heard it */
};

struct engine_link {
	struct packet_link *memory; /* NULL: nothing is at its end */
	struct packet_ring *tx, *rx;
	int rx_data, tx_space, tx_data, rx_space;
	uint64_t seen; /* rx head before link() was last called */
	bool full; /* tx had no space after the last work call */
};

struct device {
	const struct device_type *type;
	char name[ENGINE_NAME_MAX];
	struct device_placement placement;
	char region_names[DEVICE_REGIONS_MAX][ENGINE_NAME_MAX];
	unsigned vcpus;
	int64_t clock_offset_ns;
	bool icount, stuck; /* stuck: its output is full and stays so */
	uint64_t now_ns; /* with icount: guest time */
	struct store store;
	struct store old; /* to be converted from; base NULL: none */
	struct ring_set *rings;
	size_t rings_size;
	int kick;
	struct engine_irq irq[DEVICE_IRQS_MAX];
	struct engine_stream stream[DEVICE_STREAMS_MAX];
	struct engine_vector vector[DEVICE_VECTORS_MAX];
	struct engine_link link[DEVICE_LINKS_MAX];
	int doorbell[DEVICE_DOORBELLS_MAX]; /* eventfds */
	int file[DEVICE_FILES_MAX]; /* -1: not there */
	void *context;
	uint8_t *ram; /* NULL: none */
	uint64_t ram_low, ram_high;
	int (*watch)(void *watcher, int fd, uint32_t events);
	void *watcher;
	bool in_settle, in_access;
	bool unanswered; /* on purpose: the access just handled */
	/*
	 * In engine_serve() edges, messages and the word that there is output
	 * are put off, as bits, so that a burst of accesses tells them once.
	 */
	bool putting_off;
	uint32_t late_irqs, late_outputs;
	uint64_t late_vectors;
	unsigned until_sample; /* accesses until one is timed */
	uint32_t sample_seed;
	uint64_t timer_steps; /* run by engine_timer() */
	int error; /* first failure of a peer or the host; ends the loop */

	/* For the loop to send: it alone writes to the channel. */
	enum device_platform_event platform_event;
	uint64_t platform_cookie, platform_sent;
	char line[ENGINE_LINE_MAX]; /* "" if none */
	uint64_t line_ns;
};

/*
 * Check the fds and map them.  0; -EPROTO when they are not what the manifest
 * says (count, size, seals); -errno of the system.  On failure all is undone.
 */
int engine_attach(struct device *dev, const struct device_type *type,
    const struct engine_config *config);
void engine_detach(struct device *dev);

/*
 * Bring a fresh store to its power-on state, or take up the committed one;
 * then settle, publish the committed answers again, and start the device's own
 * work.  1: recovered; 0: fresh; -EPROTO; -EBADMSG when the committed state is
 * not valid.  set_options is called in the reset step; its error (negative) is
 * returned, as is that of the device's start().  With a store of another version
 * the fresh one is made from that: 1, or -EBADMSG when it cannot be converted.
 */
int engine_start(struct device *dev,
    int (*set_options)(struct device *dev, void *ctx), void *ctx);

/*
 * After a start on a committed store: ring every doorbell and call link() for
 * every link, because the process that died may have heard and not acted.
 */
void engine_take_up(struct device *dev);

/*
 * Handle the next request of a vCPU's ring.  1; 0: none; -EPROTO.  Edges,
 * messages and the word that there is output wait for the two functions below:
 * call them soon, and before sleeping.
 */
int engine_serve(struct device *dev, unsigned vcpu);
void engine_send_irqs(struct device *dev);
void engine_send_outputs(struct device *dev);

/*
 * Does a request that was taken go wrong on purpose?  Death, hanging and
 * slowness happen in here; the rest is the caller's to do.
 */
struct fault_hit
engine_fault_armed(struct device *dev, const struct fault_request *request);
static inline struct fault_hit
engine_fault(struct device *dev, const struct fault_request *request)
{
	if (__builtin_expect(atomic_load_explicit(&dev->store.faults->any,
				 memory_order_relaxed) == 0,
		1))
		return (struct fault_hit){ .kind = FAULT_NONE };
	return engine_fault_armed(dev, request);
}

/* With icount: say in the ring set when the device wants to be asked next. */
void engine_publish(struct device *dev);

/* Handle a request that did not come by the ring.  0 or -EPROTO. */
int engine_access(
    struct device *dev, const struct ring_request *req, uint64_t *answer);

/* The other steps. */
void engine_stream(struct device *dev, unsigned stream);
void engine_power_button(struct device *dev);
void engine_resize(
    struct device *dev, unsigned stream, uint16_t columns, uint16_t rows);
void engine_resample(struct device *dev, unsigned irq);
/* Run timer() if its time has come.  Returns ns until the next; UINT64_MAX. */
uint64_t engine_timer(struct device *dev);
/*
 * Change n parameters, all of them or, if one is refused, none.  0; -ENOENT,
 * -EINVAL as the device says, with the index of the one refused in *bad.
 */
int engine_reconfigure(struct device *dev, unsigned n, const char *const *keys,
    const char *const *values, unsigned *bad);

/* The work calls. */
void engine_doorbell(struct device *dev, unsigned doorbell);
void engine_ready(struct device *dev, int fd, uint32_t events);
void engine_link(struct device *dev, unsigned link);
/*
 * Is there work that needs no system call to be seen: packets, space for them,
 * what the device's pending() says?  Do it: how many work calls were made.
 */
unsigned engine_poll(struct device *dev);
/* Ask the peers of the links for kicks.  Then engine_poll() once more, and
 * sleep if it returns 0. */
void engine_arm(struct device *dev);
/* May the process finish? */
bool engine_idle(struct device *dev);

/* ---- for the files of the engine ---- */

/* An access on the working copy; 0 or -EPROTO. */
int engine_access_step(
    struct device *dev, const struct ring_request *req, uint64_t *answer);
/* Commit and settle. */
void engine_commit(struct device *dev);
/* The rest of engine_serve() with icount. */
int engine_serve_counted(
    struct device *dev, unsigned vcpu, const struct ring_request *req);
/* Note the first failure. */
void engine_fail(struct device *dev, int error);
/* Write an eventfd. */
void engine_signal(struct device *dev, int fd);
/* Commit what a work call left, settle, and look whether the links are full. */
void engine_commit_work(struct device *dev);
/* Is there a packet not yet shown to link(), or space that it waits for? */
bool engine_link_pending(struct device *dev, unsigned link);

#endif
