/*
 * The engine under one device: its mappings, and the steps with their commits.
 * Internal to devhost/; one thread at a time (the host's lock).
 */
#ifndef DEVHOST_ENGINE_H
#define DEVHOST_ENGINE_H

#include "devhost/device.h"
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
	const int *fds; /* as Configure orders them; stay the caller's */
	unsigned nfds;
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

struct device {
	const struct device_type *type;
	char name[ENGINE_NAME_MAX];
	struct device_placement placement;
	char region_names[DEVICE_REGIONS_MAX][ENGINE_NAME_MAX];
	unsigned vcpus;
	int64_t clock_offset_ns;
	struct store store;
	struct ring_set *rings;
	size_t rings_size;
	int kick;
	struct engine_irq irq[DEVICE_IRQS_MAX];
	struct engine_stream stream[DEVICE_STREAMS_MAX];
	bool in_settle;
	/*
	 * In engine_serve() edges and the word that there is output are put off,
	 * as bits, so that a burst of accesses tells them once.
	 */
	bool putting_off;
	uint32_t late_irqs, late_outputs;
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
 * then settle and publish the committed answers again.  1: recovered; 0:
 * fresh; -EPROTO; -EBADMSG when the committed state is not valid.
 * set_options is called in the reset step; its error (negative) is returned.
 */
int engine_start(struct device *dev,
    int (*set_options)(struct device *dev, void *ctx), void *ctx);

/*
 * Handle the next request of a vCPU's ring.  1; 0: none; -EPROTO.  Edges and
 * the word that there is output wait for the two functions below: call them
 * soon, and before sleeping.
 */
int engine_serve(struct device *dev, unsigned vcpu);
void engine_send_irqs(struct device *dev);
void engine_send_outputs(struct device *dev);

/* Handle a request that did not come by the ring.  0 or -EPROTO. */
int engine_access(
    struct device *dev, const struct ring_request *req, uint64_t *answer);

/* The other steps. */
void engine_stream(struct device *dev, unsigned stream);
void engine_power_button(struct device *dev);
void engine_resample(struct device *dev, unsigned irq);
/* Run timer() if its time has come.  Returns ns until the next; UINT64_MAX. */
uint64_t engine_timer(struct device *dev);

#endif
