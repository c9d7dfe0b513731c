/* What the parts of the transport share; of no use to anyone else. */
#ifndef DEVICES_VIRTIO_VIRTIO_IMPL_H
#define DEVICES_VIRTIO_VIRTIO_IMPL_H

#include "devices/virtio/virtio.h"

/* The registers' region; virtio.h says what is where. */
#define VIRTIO_COMMON_SIZE    0x40u
#define VIRTIO_ISR_AT	      0x1000u
#define VIRTIO_CONFIG_AT      0x2000u
#define VIRTIO_NOTIFY_AT      0x3000u
#define VIRTIO_NOTIFY_STRIDE  4u
#define VIRTIO_REGISTERS_SIZE 0x4000u

#define VIRTIO_NO_VECTOR      0xffffu

#define VIRTIO_ISR_QUEUE      1u
#define VIRTIO_ISR_CONFIG     2u

static inline const struct virtio_class *
virtio_class_of(const struct device *dev)
{
	return device_type(dev)->family;
}

static inline unsigned
virtio_queues(const struct device *dev)
{
	return virtio_class_of(dev)->queues;
}

/* ---- virtio.c ---- */

/* Nothing may touch the queue's buffers from here on. */
void virtio_close_queue(struct device *dev, unsigned i);

/* ---- virtio_registers.c ---- */

/* Step: the state that a driver finds, but for the class's own. */
void virtio_reset_transport(struct device *dev);
/* Step: the driver resets the device. */
void virtio_driver_reset(struct device *dev);
/* Step: an access to the registers' region. */
void virtio_registers_access(struct device *dev, struct device_access *a);

/* ---- virtio_pci.c ---- */

/* Step: power-on values of the PCI function. */
void virtio_pci_reset(struct device *dev);
/* Step: an access to the other two regions. */
void virtio_pci_access(struct device *dev, struct device_access *a);

#endif
