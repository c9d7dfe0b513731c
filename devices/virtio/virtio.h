/*
 * Virtio devices over PCI (virtio 1.2, 4.1), modern only: the transport that
 * all virtio device models share.
 *
 * A device model has a struct virtio_state at the start of its state, a struct
 * virtio_context at the start of its context, and a const struct virtio_class
 * as its type's family; its type uses VIRTIO_DEVICE_TYPE().  It hears the
 * functions of its class, pops and pushes chains, and never sees a register.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_H
#define DEVICES_VIRTIO_VIRTIO_H

#include "devices/pci/pci.h"
#include "devices/virtio/virtqueue.h"

#define VIRTIO_QUEUES_MAX 17u

/* Options of every virtio device; for the list of its own. */
#define VIRTIO_OPTIONS                                              \
	{                                                           \
		"packed", "offer packed virtqueues: on or off (on)" \
	}

/* Reserved feature bits; virtio 1.2, section 6. */
#define VIRTIO_F_INDIRECT_DESC	 (1ull << 28)
#define VIRTIO_F_EVENT_IDX	 (1ull << 29)
#define VIRTIO_F_VERSION_1	 (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ull << 33)
#define VIRTIO_F_RING_PACKED	 (1ull << 34)
#define VIRTIO_F_IN_ORDER	 (1ull << 35)
#define VIRTIO_F_ORDER_PLATFORM	 (1ull << 36)
#define VIRTIO_F_RING_RESET	 (1ull << 40)

/* Device status; 2.1. */
enum virtio_status {
	VIRTIO_ACKNOWLEDGE = 1,
	VIRTIO_DRIVER = 2,
	VIRTIO_DRIVER_OK = 4,
	VIRTIO_FEATURES_OK = 8,
	VIRTIO_NEEDS_RESET = 64,
	VIRTIO_FAILED = 128,
};

struct virtio_class {
	uint16_t id; /* virtio device ID: 1 network, 2 block, ... */
	uint32_t pci_class; /* class code, 24 bits */
	unsigned queues; /* 1 to VIRTIO_QUEUES_MAX */
	/* What it offers beyond what the transport does by itself: VERSION_1,
	 * INDIRECT_DESC, EVENT_IDX, RING_PACKED, IN_ORDER, RING_RESET. */
	uint64_t features;
	/* Features of this one device, by its state; NULL: `features`. */
	uint64_t (*offered)(struct device *dev);
	uint16_t config_size; /* bytes of device-specific configuration */
	bool in_order; /* it uses chains in the order in which it took them */

	/* Step: power-on values of its own state. */
	void (*reset)(struct device *dev);
	bool (*valid)(const void *state);
	/* Step: options before the start; and while it runs. */
	int (*configure)(struct device *dev, const char *key, const char *val);
	int (*reconfigure)(
	    struct device *dev, const char *key, const char *val);
	/* Fill in the whole device-specific configuration. */
	void (*config_read)(struct device *dev, void *config);
	/* Step: the guest wrote n bytes (1, 2, 4, 8) at offset; within size. */
	void (*config_write)(
	    struct device *dev, unsigned offset, unsigned n, uint64_t value);
	/* Step: the driver reset the device, after its queues were closed:
	 * own state back to what a driver finds. */
	void (*driver_reset)(struct device *dev);
	/* Step: DRIVER_OK was set. */
	void (*driver_ok)(struct device *dev);

	int (*prepare)(void *context);
	/* Work: process start, before any queue is opened. */
	int (*start)(struct device *dev, bool fresh);
	/*
	 * Work: queue q may have chains: take and treat them.  Called after a
	 * doorbell, while spinning, and, after a restart, once for every queue
	 * that is enabled.  It need not take all: chains that it leaves are not
	 * spoken of again before the next doorbell, so it must come back to
	 * them by itself.
	 */
	void (*queue)(struct device *dev, unsigned q);
	/*
	 * Queue q is about to be closed, by a write of the driver's (queue
	 * reset, device reset, function-level reset, bus master off): give up
	 * or finish all that is in flight in it, so that nothing touches its
	 * buffers after the return.  Called within the step of that write, but
	 * it may do what work may, and may push.  What the write changes is not
	 * committed yet: a process that dies here finds the queue and its log,
	 * and hears of the write again.  After bus master off and on again, or
	 * D3hot and D0, chains that were given up come again.
	 */
	void (*quiesce)(struct device *dev, unsigned q);
	void (*ready)(struct device *dev, int fd, uint32_t events);
	void (*link)(struct device *dev, unsigned link);
	void (*stream)(struct device *dev, unsigned stream, uint64_t now_ns);
	void (*resize)(struct device *dev, unsigned stream, uint16_t columns,
	    uint16_t rows);
	/* What the context has that needs no system call to see. */
	bool (*pending)(struct device *dev);
	void (*poll)(struct device *dev);
	uint64_t (*deadline)(struct device *dev);
	void (*timer)(struct device *dev, uint64_t now_ns);
	void (*settle)(struct device *dev);
	bool (*idle)(struct device *dev);
};

/* State; no pointers. */
struct virtio_state {
	struct pci_state pci;
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	uint8_t status; /* enum virtio_status bits */
	uint8_t generation; /* of the configuration */
	uint8_t isr; /* bit 0: queue, bit 1: configuration */
	uint8_t split; /* 1: packed virtqueues are not offered */
	uint64_t epoch; /* counts resets of queues, so that a process knows
			 * a queue anew */
	uint64_t queue_epoch[VIRTIO_QUEUES_MAX];
	struct vq_state queue[VIRTIO_QUEUES_MAX];
};

/* The process's own. */
struct virtio_context {
	struct vq vq[VIRTIO_QUEUES_MAX];
	uint64_t opened_epoch[VIRTIO_QUEUES_MAX];
	/* Chains taken when the class last left some in the queue, + 1. */
	uint64_t left_at[VIRTIO_QUEUES_MAX];
};

/* The log: one struct vq_log per queue, then the class's own. */
#define VIRTIO_LOG_SIZE(queues) ((uint32_t)((queues) * sizeof(struct vq_log)))

/* The queue, or NULL while the driver has not enabled it. */
struct vq *virtio_queue(struct device *dev, unsigned q);
/* Is the driver there (DRIVER_OK, no NEEDS_RESET), and may we touch RAM? */
bool virtio_live(struct device *dev);
bool virtio_has(struct device *dev, uint64_t feature); /* negotiated */
/* The driver broke the rules: NEEDS_RESET, and a configuration interrupt. */
void virtio_broken(struct device *dev, const char *why);
/* Step or work: the device-specific configuration changed. */
void virtio_config_changed(struct device *dev);
/* Pop that calls virtio_broken() for -EINVAL; true: *c is a chain. */
bool virtio_pop(struct device *dev, unsigned q, struct vq_chain *c);
/* Push.  The interrupt is decided when the work is done. */
void virtio_push(
    struct device *dev, unsigned q, const struct vq_chain *c, uint32_t written);
void
virtio_push_id(struct device *dev, unsigned q, uint16_t id, uint32_t written);

/* The functions behind every virtio type's struct device_ops. */
#define VIRTIO_REGISTERS 17u
extern const struct device_register virtio_registers[VIRTIO_REGISTERS];
extern const struct device_ops virtio_ops;

/* Regions of every virtio function: configuration; the registers (common at 0,
 * ISR at 0x1000, device at 0x2000, notify at 0x3000, 4 bytes per queue); the
 * MSI-X structures. */
#define VIRTIO_REGION_CONFIG	0u
#define VIRTIO_REGION_REGISTERS 1u
#define VIRTIO_REGION_MSIX	2u
extern const struct device_placement virtio_placement[1];

/* queues_: the class's number of queues, as a constant. */
#define VIRTIO_DEVICE_TYPE(class_, queues_, state_, context_)           \
	.dma = DEVICE_DMA_FULL, .placements = virtio_placement,         \
	.nplacements = 1, .state_size = sizeof(state_),                 \
	.context_size = sizeof(context_),                               \
	.doorbells = { VIRTIO_REGION_REGISTERS, 0x3000, 4, (queues_) }, \
	.nvectors = (queues_) + 1, .ops = &virtio_ops,                  \
	.registers = virtio_registers, .nregisters = VIRTIO_REGISTERS,  \
	.family = &(class_)

#endif
