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
 * A device that has queues in guest RAM also works outside of steps: in
 * start(), doorbell(), ready() and link(), the work calls; for a type with a
 * log, stream(), resize(), timer() and reconfigure() are work calls too.  There
 * it may touch guest RAM, its files, its links, its output streams and its log
 * as well as the state; the host commits and settles after each, and
 * device_commit() commits in the middle of one.  What makes such work safe
 * against death is the device's own protocol on the log
 * (devices/virtio/virtqueue.h has one), and that start() after a restart takes
 * up what the log says is unfinished.
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
struct device_type;
struct packet_ring;
struct sandbox_syscall;

#define DEVICE_REGIONS_MAX   8u
#define DEVICE_IRQS_MAX	     4u
#define DEVICE_STREAMS_MAX   4u
#define DEVICE_VECTORS_MAX   33u
#define DEVICE_DOORBELLS_MAX 33u
#define DEVICE_LINKS_MAX     1u
#define DEVICE_FILES_MAX     4u
#define DEVICE_COUNTERS_MAX  16u

/* Base of a PCI function's configuration region: whatever slot is free. */
#define DEVICE_PCI_ANY UINT64_MAX
/* Where a BAR is that decodes nothing. */
#define DEVICE_BAR_UNMAPPED UINT64_MAX

/* The least grade of access to guest RAM that the device can work with. */
enum device_dma {
	DEVICE_DMA_NONE,
	DEVICE_DMA_WINDOWED,
	DEVICE_DMA_FULL,
};

enum device_space {
	DEVICE_PIO,
	DEVICE_MMIO,
	DEVICE_PCI_CONFIG, /* base: bus << 20 | device << 15 | function << 12 */
};

/* A range of registers. */
struct device_region {
	const char *name;
	enum device_space space;
	bool posted; /* the vCPU does not wait for its writes */
	/*
	 * Memory of a PCI function: it lies where device_wire_bar() has said,
	 * in the 32-bit or the 64-bit window; size is a power of two and base
	 * is not used.
	 */
	bool bar;
	/* A write here may change the wiring: the broker looks after it. */
	bool wiring;
	uint64_t base;
	uint64_t size; /* bytes */
};

struct device_irq {
	uint32_t gsi;
	bool level; /* else edge */
	/* INTA# of the PCI function in regions[0]: the gsi follows from its
	 * slot, may be shared with other functions, and is level. */
	bool pci;
};

/*
 * Registers that are doorbells: a guest's write of any size to region +
 * offset + i * stride only wakes the device, which hears doorbell(i).
 */
struct device_doorbells {
	uint16_t region;
	uint32_t offset; /* bytes */
	uint32_t stride; /* bytes */
	uint16_t count; /* 0 to DEVICE_DOORBELLS_MAX */
};

/* The machine, for the ACPI nodes that a device writes. */
struct device_machine {
	uint64_t ram_low, ram_high; /* bytes from 0, and from 4 GiB */
	unsigned vcpus;
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
	/* Step: the terminal at the end of a stream has this size now. */
	void (*resize)(struct device *dev, unsigned stream, uint16_t columns,
	    uint16_t rows);
	/*
	 * Step: the user changes a parameter of the running device.  0;
	 * -ENOENT: no such key, or not one that can change; -EINVAL.
	 */
	int (*reconfigure)(
	    struct device *dev, const char *key, const char *val);
	/*
	 * Before the sandbox is entered, once per process, without a device:
	 * make in context what needs system calls that are not to be allowed
	 * later.  0 or -errno.
	 */
	int (*prepare)(const struct device_type *type, void *context);
	/*
	 * Work: the process is about to go on from the committed state, which
	 * is valid and settled; fresh: it has just been reset.  Take up what
	 * the log says is unfinished.  0; -errno ends the process.
	 */
	int (*start)(struct device *dev, bool fresh);
	/* Work: a doorbell was rung.  After a restart all of them are. */
	void (*doorbell)(struct device *dev, unsigned doorbell);
	/* Work: a watched fd is ready; events: EPOLLIN, ... */
	void (*ready)(struct device *dev, int fd, uint32_t events);
	/* Work: packets came over a link, or space for packets. */
	void (*link)(struct device *dev, unsigned link);
	/*
	 * Is there anything to do without a system call (a completion ring, a
	 * virtqueue with buffers)?  Asked while the host spins.  The answer
	 * true makes it call poll(), a work call.
	 */
	bool (*pending)(struct device *dev);
	void (*poll)(struct device *dev);
	/* May the process finish now?  Else it is asked again after work. */
	bool (*idle)(struct device *dev);
	/* Make the world agree with the committed state. */
	void (*settle)(struct device *dev);
	/* In the loader: write the device's nodes into the DSDT's \_SB. */
	void (*acpi)(struct aml *aml, const struct device_placement *placed,
	    const struct device_machine *machine);
};

struct device_type {
	const char *name; /* of the type: "serial" */
	const char *title; /* one line */
	bool platform; /* part of the standard PC, added by default */
	/* Its process talks to the network by itself: it stays in the network
	 * namespace of vmmd.  For no device that touches guest RAM. */
	bool network;
	/* Fds that it may have open beside the host's and those handed in. */
	unsigned fds;
	enum device_dma dma;
	uint32_t state_version;
	uint32_t state_size; /* bytes, 0 to STORE_STATE_MAX */
	/*
	 * Hot upgrade: make a state of this version out of one of another,
	 * which is hostile; new_state is zeroed.  False: that cannot be.  NULL:
	 * no other version will do.  The log stays as it is.
	 */
	bool (*convert)(uint32_t from_version, const void *old,
	    uint32_t old_size, void *new_state);
	uint32_t log_size; /* bytes, 0 to STORE_LOG_MAX */
	uint32_t context_size; /* bytes of the process's own memory */
	const struct device_placement *placements;
	unsigned nplacements;
	const struct device_register *registers;
	unsigned nregisters;
	const char *const *streams; /* names of its byte-stream pairs */
	unsigned nstreams;
	struct device_doorbells doorbells;
	unsigned nvectors; /* of MSI-X, 0 to DEVICE_VECTORS_MAX */
	const char *const *links; /* names of its packet links */
	unsigned nlinks;
	/* Names of files that the user must hand in, "?" in front: may. */
	const char *const *files;
	unsigned nfiles;
	const char *const *counters; /* names of its own counters */
	unsigned ncounters;
	const struct device_option *options;
	unsigned noptions;
	/* System calls that it needs beyond those of every device. */
	const struct sandbox_syscall *syscalls;
	unsigned nsyscalls;
	const struct device_ops *ops;
	const void *family; /* what the shared code of its kind wants to know */
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

/*
 * Work: make the state as it is now the committed one, before something that
 * can not be taken back is done.  settle() is called only at the end.  The
 * working copy is then in another place: ask device_state() again.
 */
void device_commit(struct device *dev);

/* The in-flight log, log_size bytes; its rules are the device's own. */
void *device_log(struct device *dev);

/* The process's own memory, context_size bytes, zeroed at its start. */
void *device_context(struct device *dev);

const struct device_type *device_type(const struct device *dev);

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

/*
 * settle(): the count of messages that vector has sent.  Another one than
 * before sends the message that device_wire_vector() described; in a new
 * process any but 0 does.  0 never does: the vector has been held back since.
 */
void device_msi(struct device *dev, unsigned vector, uint64_t count);

/*
 * Step: how the device is wired into the machine.  Part of the state; the
 * broker looks at what was committed before the guest sees the answer to a
 * write in a region marked `wiring`, and checks it: a BAR that lies outside the
 * windows or on another's is not decoded.
 */
void device_wire_bar(struct device *dev, unsigned region, uint64_t address);
void device_wire_vector(
    struct device *dev, unsigned vector, uint64_t address, uint32_t data);

/*
 * Guest RAM: the only way to it, for types whose grade is not none.  False or
 * NULL: not all of [gpa, gpa + n) is RAM, and nothing was done.  The memory
 * changes under our hands: read what matters once, into a copy.
 */
bool device_dma_read(struct device *dev, uint64_t gpa, void *to, size_t n);
bool
device_dma_write(struct device *dev, uint64_t gpa, const void *from, size_t n);
/* Contiguous RAM at a host address; valid for the life of the process. */
void *device_dma_map(struct device *dev, uint64_t gpa, size_t n);
/* Give pages back to the host; they read as zeroes.  gpa and n: of 4096. */
bool device_dma_discard(struct device *dev, uint64_t gpa, size_t n);

/* File i of the type's list; -1: not handed in.  Stays the host's. */
int device_file(struct device *dev, unsigned i);
/*
 * Work: have ready() called for an fd, level-triggered; events: EPOLLIN and
 * EPOLLOUT, of which an error or a hang-up sets both; 0: no more, to be said
 * before the fd is closed.  0 or -ENOMEM.
 */
int device_watch(struct device *dev, int fd, uint32_t events);

/*
 * The rings of a link (proto/packet.h).  NULL: nothing is at its end.  Kick
 * after putting (tx) or taking (rx); arming is done by the host.
 */
struct packet_ring *device_link_tx(struct device *dev, unsigned link);
struct packet_ring *device_link_rx(struct device *dev, unsigned link);
void device_link_kick(struct device *dev, unsigned link);

/*
 * Work: a queue request was taken.  Is it to fail, or never to be done, on
 * purpose?  Dying, hanging and being slow happen in here.
 */
enum device_fault {
	DEVICE_FAULT_NONE,
	DEVICE_FAULT_ERROR, /* fail it as this kind of device fails */
	DEVICE_FAULT_DROP, /* keep it and do nothing */
};
enum device_fault device_fault(struct device *dev, unsigned queue);

/* Add to a counter of the type's own list. */
void device_count(struct device *dev, unsigned counter, uint64_t n);
/* Set one that is a level, not a count. */
void device_gauge(struct device *dev, unsigned counter, uint64_t value);
/*
 * A request of the guest was done: for the counters that all devices have.
 * latency_ns 0: it was not measured.
 */
void device_count_request(struct device *dev, uint64_t bytes_in,
    uint64_t bytes_out, uint64_t latency_ns);
/* Requests that are in flight now. */
void device_queue_depth(struct device *dev, uint64_t n);

/* Bytes that the output stream has accepted, ever: what is below is done. */
uint64_t device_output_head(struct device *dev, unsigned stream);
/* Bytes that it would take now. */
size_t device_output_space(struct device *dev, unsigned stream);
/*
 * settle() or work: put n bytes whose first has position pos (at most the head) into
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
