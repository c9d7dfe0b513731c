/* The KVM backend: lines, message routes, irqfds, doorbells. */
#include <errno.h>
#include <stdlib.h>

#include "hypervisor/kvm/kvm.h"

#define ENTRIES_MAX (KVM_GSIS + KVM_LINES)

static void
line_add(struct kvm_irq_routing *t, unsigned gsi, unsigned chip, unsigned pin)
{
	struct kvm_irq_routing_entry *e = &t->entries[t->nr++];

	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_IRQCHIP;
	e->u.irqchip.irqchip = chip;
	e->u.irqchip.pin = pin;
}

/* GSI 0 is the PIT: input 0 of the PIC pair and pin 2 of the IOAPIC, as on
 * every PC; pin 0 and input 2 lead nowhere. */
static void
lines_add(struct kvm_irq_routing *t)
{
	for (unsigned gsi = 0; gsi < KVM_LINES; gsi++) {
		if (gsi == 2)
			continue;
		if (gsi < 8)
			line_add(t, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi < 16)
			line_add(t, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8);
		line_add(t, gsi, KVM_IRQCHIP_IOAPIC, gsi ? gsi : 2);
	}
}

int
kvm_routes_set(struct hv_partition *p)
{
	struct kvm_irq_routing *t;
	int err;

	t = calloc(1, sizeof(*t) + ENTRIES_MAX * sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	lines_add(t);
	for (unsigned gsi = KVM_LINES; gsi < KVM_GSIS; gsi++) {
		struct kvm_irq_routing_entry *e = &t->entries[t->nr];

		if (!p->route[gsi].used)
			continue;
		e->gsi = gsi;
		e->type = KVM_IRQ_ROUTING_MSI;
		e->u.msi.address_lo = (uint32_t)p->route[gsi].addr;
		e->u.msi.address_hi = (uint32_t)(p->route[gsi].addr >> 32);
		e->u.msi.data = p->route[gsi].data;
		t->nr++;
	}
	err = kvm_ioctl(p->vm, KVM_SET_GSI_ROUTING, t);
	free(t);
	return err;
}

int
kvm_irq_set(struct hv_partition *p, unsigned gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	if (gsi >= KVM_LINES)
		return -EINVAL;
	return kvm_ioctl(p->vm, KVM_IRQ_LINE, &l);
}

int
kvm_irqfd_bind(struct hv_partition *p, unsigned gsi, int fd, int resample)
{
	struct kvm_irqfd f = { .fd = (uint32_t)fd, .gsi = gsi };

	if (gsi >= KVM_GSIS || fd < 0 || (resample >= 0 && gsi >= KVM_LINES))
		return -EINVAL;
	if (resample >= 0) {
		if (!p->has_resample)
			return -ENOTSUP;
		f.flags = KVM_IRQFD_FLAG_RESAMPLE;
		f.resamplefd = (uint32_t)resample;
	}
	return kvm_ioctl(p->vm, KVM_IRQFD, &f);
}

int
kvm_irqfd_unbind(struct hv_partition *p, unsigned gsi, int fd)
{
	struct kvm_irqfd f = {
		.fd = (uint32_t)fd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN
	};

	return kvm_ioctl(p->vm, KVM_IRQFD, &f);
}

int
kvm_msi_route(
    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data)
{
	int err;

	if (gsi < KVM_LINES || gsi >= KVM_GSIS)
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	p->route[gsi].addr = addr;
	p->route[gsi].data = data;
	p->route[gsi].used = true;
	err = kvm_routes_set(p);
	if (err)
		p->route[gsi].used = false;
	pthread_mutex_unlock(&p->lock);
	return err;
}

int
kvm_msi_send(struct hv_partition *p, uint64_t addr, uint32_t data)
{
	struct kvm_msi m = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = data,
	};
	int r = kvm_ioctl(p->vm, KVM_SIGNAL_MSI, &m);

	/* 0: the guest has blocked it; more: delivered. */
	return r < 0 ? r : 0;
}

static int
doorbell(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd, uint32_t flags)
{
	struct kvm_ioeventfd f = {
		.datamatch = match ? *match : 0,
		.addr = addr,
		.len = len,
		.fd = fd,
		.flags = flags,
	};

	if (match)
		f.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
	if (space == HV_PIO)
		f.flags |= KVM_IOEVENTFD_FLAG_PIO;
	return kvm_ioctl(p->vm, KVM_IOEVENTFD, &f);
}

int
kvm_doorbell_bind(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	return doorbell(p, space, addr, len, match, fd, 0);
}

int
kvm_doorbell_unbind(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	return doorbell(
	    p, space, addr, len, match, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
