/*
 * The device contract: what a device model is, and what it may ask for.
 *
 * A device is one file in devices/ that defines a struct device_type and
 * enrols it with DEVTYPE_REGISTER().  Nothing else names it.
 *
 * The life of a device is a sequence of steps.  A step changes the working
 * copy of the state (device_state()); the host then commits it, together with
 * the ring position and the answer, by one 8-byte store, and calls settle().
 * The process may be killed between any two instructions: it then starts
 * again on the committed state, calls settle(), and goes on.  So
 *
 *  - a step touches nothing but the state: what it wants of the world it
 *    writes down in the state;
 *  - settle() makes the world agree with the committed state, changes no
 *    state, and does the same when it is called again.
 *
 * All calls into one device are serialized.  The state is plain memory without
 * pointers; after a restart it is checked by valid() before it is used.
 */
#ifndef DEVHOST_DEVICE_H
#define DEVHOST_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct aml;
struct device;
struct sandbox_syscall;

#define DEVICE_REGIONS_MAX 8u
#define DEVICE_IRQS_MAX	   4u
#define DEVICE_STREAMS_MAX 2u

/* The least grade of access to guest RAM that the device can work with. */
enum device_dma {
	DEVICE_DMA_NONE,
	DEVICE_DMA_WINDOWED,
	DEVICE_DMA_FULL,
};

enum device_space {
	DEVICE_PIO,
	DEVICE_MMIO,
};

/* A range of registers. */
struct device_region {
	const char *name;
	enum device_space space;
	bool posted; /* the vCPU does not wait for its writes */
	uint64_t base;
	uint64_t size; /* bytes */
};

struct device_irq {
	uint32_t gsi;
	bool level; /* else edge */
};

/* One possible set of resources; the first that is free is taken. */
struct device_placement {
	struct device_region regions[DEVICE_REGIONS_MAX];
	unsigned nregions;
	struct device_irq irqs[DEVICE_IRQS_MAX];
	unsigned nirqs;
};

/* A register: for documentation, tests and fuzzers. */
struct device_register {
	const char *name;
	uint16_t region; /* index in the placement */
	uint16_t offset; /* bytes */
	uint8_t width; /* bytes */
	bool readonly;
};

/* A parameter that the user may set. */
struct device_option {
	const char *key;
	const char *help;
};

/* One access of a vCPU to a register. */
struct device_access {
	uint64_t addr; /* offset in the region, below its size */
	uint64_t data; /* written; for a read, filled in by the device */
	uint64_t time_ns; /* guest time */
	uint16_t region;
	uint8_t size; /* 1, 2, 4 or 8 bytes; may reach over the region's end */
	bool write;
	uint32_t vcpu;
};

enum device_platform_event {
	DEVICE_POWEROFF,
	DEVICE_RESET,
};

/* Only reset, access and settle must be there. */
struct device_ops {
	/* Step: fill the zeroed state with power-on values. */
	void (*reset)(struct device *dev);
	/*
	 * Step: apply an option, after reset().  0; -ENOENT: no such key;
	 * -EINVAL: no such value.
	 */
	int (*configure)(struct device *dev, const char *key, const char *val);
	/* Can this state, found after a restart, be worked on? */
	bool (*valid)(const void *state);
	/* Step: an access.  Any offset, size and value: the guest is hostile.
	 */
	void (*access)(struct device *dev, struct device_access *a);
	/* Guest time in ns at which timer() is to run; UINT64_MAX: never. */
	uint64_t (*deadline)(struct device *dev);
	/* Step: now_ns is the guest time, at or after the deadline. */
	void (*timer)(struct device *dev, uint64_t now_ns);
	/* Step: input bytes came, or space for output. */
	void (*stream)(struct device *dev, unsigned stream, uint64_t now_ns);
	/* Step: the user pressed the power button. */
	void (*power_button)(struct device *dev);
	/* Make the world agree with the committed state. */
	void (*settle)(struct device *dev);
	/* In the loader: write the device's nodes into the DSDT's \_SB. */
	void (*acpi)(struct aml *aml, const struct device_placement *placed);
};

struct device_type {
	const char *name; /* of the type: "serial" */
	const char *title; /* one line */
	bool platform; /* part of the standard PC, added by default */
	enum device_dma dma;
	uint32_t state_version;
	uint32_t state_size; /* bytes, 0 to STORE_STATE_MAX */
	uint32_t log_size; /* bytes, 0 to STORE_LOG_MAX */
	const struct device_placement *placements;
	unsigned nplacements;
	const struct device_register *registers;
	unsigned nregisters;
	const char *const *streams; /* names of its byte-stream pairs */
	unsigned nstreams;
	const struct device_option *options;
	unsigned noptions;
	/* System calls that it needs beyond those of every device. */
	const struct sandbox_syscall *syscalls;
	unsigned nsyscalls;
	const struct device_ops *ops;
};

/*
 * Enrol a type: put its address into the linker section that DEVTYPE_FOREACH
 * walks.
 */
#define DEVTYPE_REGISTER(type)                                        \
	static const struct device_type *const device_enrolled_##type \
	    __attribute__((section("devtypes"), used)) = &type

extern const struct device_type *const __start_devtypes[];
extern const struct device_type *const __stop_devtypes[];

/* t: a const struct device_type *const *. */
#define DEVTYPE_FOREACH(t)                                          \
	for (const struct device_type *const *t = __start_devtypes; \
	     (uintptr_t)t < (uintptr_t)__stop_devtypes; t++)

/* The type of that name, or NULL. */
const struct device_type *device_type_find(const char *name);

/* ---- what a device may ask for ---- */

/* In a step: the working copy.  In settle(): the same bytes, committed. */
void *device_state(struct device *dev);

/* The in-flight log, log_size bytes; its rules are the device's own. */
void *device_log(struct device *dev);

/* The resources that it was given. */
const struct device_placement *device_placement(const struct device *dev);

/* Guest time, ns. */
uint64_t device_now(const struct device *dev);

/* Real time, ns since 1970 in UTC.  For reset() only: it is not replayable. */
uint64_t device_wall_clock(const struct device *dev);

/*
 * settle(): the level of interrupt line irq.  0 is low, all else high; another
 * high value than before says that the line fell and rose meanwhile.  A line
 * that is high when the process starts is raised again.
 */
void device_irq(struct device *dev, unsigned irq, uint64_t level);

/* Bytes that the output stream has accepted, ever: what is below is done. */
uint64_t device_output_head(struct device *dev, unsigned stream);
/* Bytes that it would take now. */
size_t device_output_space(struct device *dev, unsigned stream);
/*
 * settle(): put n bytes whose first has position pos (at most the head) into
 * the output stream.  What is there already is skipped, what does not fit is
 * left out: the head says how far it came, and stream() is called on space.
 */
void device_output(struct device *dev, unsigned stream, uint64_t pos,
    const void *bytes, size_t n);

/* reset(): the position at which to begin to read the input stream. */
uint64_t device_input_start(struct device *dev, unsigned stream);
/* Step: copy up to n bytes of input from position pos; how many. */
size_t device_input_peek(
    struct device *dev, unsigned stream, uint64_t pos, void *bytes, size_t n);
/* settle(): all input below pos is in the committed state. */
void device_input_consume(struct device *dev, unsigned stream, uint64_t pos);

/*
 * settle(): ask the broker for a platform event.  cookie is the count of such
 * requests, kept in the state: the same one again is the same event.  0: none.
 */
void device_platform(
    struct device *dev, enum device_platform_event event, uint64_t cookie);

/*
 * Handle an access to byte-wide registers: calls read or write for each byte
 * of it in turn, from low to high.  Bytes at or above size read as ones and
 * are not written.
 */
void
device_access_bytes(struct device *dev, struct device_access *a, unsigned size,
    uint8_t (*read)(
	struct device *dev, const struct device_access *a, unsigned offset),
    void (*write)(struct device *dev, const struct device_access *a,
	unsigned offset, uint8_t value));

/* A line for the operator's log; rate-limited. */
void device_log_line(struct device *dev, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
