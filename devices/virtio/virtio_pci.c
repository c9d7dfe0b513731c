/* A virtio device as a PCI function; virtio 1.2, 4.1.2 and 4.1.4. */
#include <string.h>

#include "devices/virtio/virtio_impl.h"
#include "proto/base.h"

#define PCI_VENDOR    0x1af4u
#define PCI_DEVICE    0x1040u /* + virtio device ID */
#define PCI_SUBSYSTEM 0x1100u

#define BAR_REGISTERS 0u /* and 1: it is a 64-bit one */
#define BAR_MSIX      2u

/* struct virtio_pci_cap, 4.1.4; the longest form. */
struct capability {
	uint8_t id, next, length, type;
	uint8_t bar, cap_id, pad[2];
	uint32_t offset, size;
	uint32_t more; /* notify: multiplier; PCI access: data */
};

_Static_assert(sizeof(struct capability) == 20, "virtio_pci_cap");

enum capability_type {
	CAP_COMMON = 1,
	CAP_NOTIFY = 2,
	CAP_ISR = 3,
	CAP_DEVICE = 4,
	CAP_PCI = 5,
	CAPS = 5,
};

static const uint8_t pci_access_writable[sizeof(struct capability)] = {
	[4] = 0xff, /* bar */
	[8] = 0xff,
	0xff,
	0xff,
	0xff, /* offset */
	[12] = 0xff,
	0xff,
	0xff,
	0xff, /* length */
};

/* A PCI function, made anew for each access to the registers of PCI: it
 * follows from the class. */
struct function {
	struct pci_function pci;
	struct pci_capability caps[CAPS];
	struct capability cap[CAPS];
	unsigned access; /* index of CAP_PCI */
};

static void
add_capability(struct function *f, enum capability_type type, uint32_t offset,
    uint32_t size, uint32_t more, bool longer)
{
	unsigned i = f->pci.ncaps++;
	uint8_t n = (uint8_t)(sizeof(f->cap[i]) - (longer ? 0 : 4));

	f->cap[i] = (struct capability){
		.id = 0x09, /* vendor specific */
		.length = n,
		.type = (uint8_t)type,
		.bar = BAR_REGISTERS,
		.offset = offset,
		.size = size,
		.more = more,
	};
	f->caps[i].bytes = (const uint8_t *)&f->cap[i];
	f->caps[i].size = n;
}

static void
make_function(const struct device *dev, struct function *f)
{
	const struct virtio_class *c = virtio_class_of(dev);

	memset(f, 0, sizeof(*f));
	f->pci = (struct pci_function){
		.vendor = PCI_VENDOR,
		.device = (uint16_t)(PCI_DEVICE + c->id),
		.subvendor = PCI_VENDOR,
		.subsystem = PCI_SUBSYSTEM,
		.revision = 1,
		.class_code = c->pci_class,
		.express = true,
		.interrupt_pin = 1,
		.bars = {
			[BAR_REGISTERS] = { VIRTIO_REGION_REGISTERS, true,
			    false },
			[BAR_MSIX] = { VIRTIO_REGION_MSIX, false, false },
		},
		.msix = { BAR_MSIX, VIRTIO_REGION_MSIX, 0, 0x800 },
		.caps = f->caps,
		.function_reset = virtio_driver_reset,
	};
	add_capability(f, CAP_COMMON, 0, VIRTIO_COMMON_SIZE, 0, false);
	add_capability(f, CAP_NOTIFY, VIRTIO_NOTIFY_AT,
	    VIRTIO_NOTIFY_STRIDE * c->queues, VIRTIO_NOTIFY_STRIDE, true);
	add_capability(f, CAP_ISR, VIRTIO_ISR_AT, 1, 0, false);
	if (c->config_size > 0)
		add_capability(
		    f, CAP_DEVICE, VIRTIO_CONFIG_AT, c->config_size, 0, false);
	f->access = f->pci.ncaps;
	add_capability(f, CAP_PCI, 0, 0, 0, true);
	f->caps[f->access].writable = pci_access_writable;
}

void
virtio_pci_reset(struct device *dev)
{
	struct virtio_state *s = device_state(dev);
	struct function f;

	make_function(dev, &f);
	pci_reset(dev, &f.pci, &s->pci);
}

/* 4.1.4.9: registers by way of the configuration space.  True: it was that. */
static bool
indirect_access(
    struct device *dev, const struct function *f, struct device_access *a)
{
	struct virtio_state *s = device_state(dev);
	unsigned cap = pci_capability_offset(&f->pci, f->access);
	unsigned data = cap + (unsigned)offsetof(struct capability, more);
	struct device_access to = *a;
	uint32_t offset, size;

	if (a->addr != data || a->size > 4)
		return false;
	memcpy(&offset, s->pci.config + cap + 8, 4);
	memcpy(&size, s->pci.config + cap + 12, 4);
	if (!a->write)
		a->data = 0;
	if (s->pci.config[cap + 4] != BAR_REGISTERS || offset % a->size != 0 ||
	    (size != 1 && size != 2 && size != 4) || size > a->size ||
	    offset >= VIRTIO_REGISTERS_SIZE)
		return true;
	to.region = VIRTIO_REGION_REGISTERS;
	to.addr = offset;
	to.size = (uint8_t)size;
	to.data &= (1ull << (8 * size)) - 1;
	virtio_registers_access(dev, &to);
	if (!a->write)
		a->data = to.data;
	return true;
}

void
virtio_pci_access(struct device *dev, struct device_access *a)
{
	struct virtio_state *s = device_state(dev);
	bool live = virtio_live(dev);
	struct function f;

	make_function(dev, &f);
	if (a->region == VIRTIO_REGION_MSIX) {
		if (!pci_msix_access(dev, &f.pci, &s->pci, a) && !a->write)
			a->data = 0;
		return;
	}
	if (indirect_access(dev, &f, a))
		return;
	pci_config_access(dev, &f.pci, &s->pci, a);
	/* No bus master any more: RAM is left alone until it is one again, and
	 * finds what was in flight in the log. */
	for (unsigned i = 0;
	     live && !virtio_live(dev) && i < virtio_queues(dev); i++)
		virtio_close_queue(dev, i);
}
