/* The KVM backend: partitions and memory slots. */
#include "hypervisor/kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KVM_DEVICE "/dev/kvm"

/* Three pages below the BIOS, where VT-x without unrestricted guests keeps a
 * task state segment and a page table of its own. */
#define TSS_ADDRESS	 0xfffbd000u
#define IDENTITY_ADDRESS 0xfffbc000u

int
kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r = ioctl(fd, request, arg);

	return r < 0 ? -errno : r;
}

int
kvm_ioctl_value(int fd, unsigned long request, unsigned long value)
{
	int r = ioctl(fd, request, value);

	return r < 0 ? -errno : r;
}

static int
chips_create(struct hv_partition *p)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct kvm_reinject_control late = { .pit_reinject = 0 };
	__u64 identity = IDENTITY_ADDRESS;
	int err;

	err = kvm_ioctl(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (err)
		return err;
	err = kvm_ioctl_value(p->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS);
	if (err)
		return err;
	err = kvm_ioctl_value(p->vm, KVM_CREATE_IRQCHIP, 0);
	if (err)
		return err;
	err = kvm_ioctl(p->vm, KVM_CREATE_PIT2, &pit);
	if (err)
		return err;
	/* Ticks that the guest missed are one: kernels of today keep time by
	 * other clocks, and a burst of old ticks only disturbs them. */
	kvm_ioctl(p->vm, KVM_REINJECT_CONTROL, &late);
	return kvm_routes_set(p);
}

static void
partition_destroy(struct hv_partition *p)
{
	if (p->vm >= 0)
		close(p->vm);
	if (p->kvm >= 0)
		close(p->kvm);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int
partition_create(const struct hv_config *config, struct hv_partition **out)
{
	struct hv_partition *p;
	int r;

	if (config->vcpus < 1 || config->vcpus > KVM_CPUS)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->kvm = p->vm = -1;
	p->ncpus = config->vcpus;
	pthread_mutex_init(&p->lock, NULL);
	p->kvm = config->has_device ? fcntl(config->device, F_DUPFD_CLOEXEC, 0)
				    : open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	if (p->kvm < 0) {
		r = -errno;
		goto fail;
	}
	r = kvm_ioctl_value(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < 0)
		goto fail;
	p->run_size = (size_t)r;
	do
		r = kvm_ioctl_value(p->kvm, KVM_CREATE_VM, 0);
	while (r == -EINTR);
	if (r < 0)
		goto fail;
	p->vm = r;
	p->has_xcrs =
	    kvm_ioctl_value(p->vm, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
	p->has_resample = kvm_ioctl_value(p->vm, KVM_CHECK_EXTENSION,
			      KVM_CAP_IRQFD_RESAMPLE) > 0;
	r = chips_create(p);
	if (r < 0)
		goto fail;
	*out = p;
	return 0;
fail:
	partition_destroy(p);
	return r;
}

static int
region_set(struct hv_partition *p, unsigned slot, hv_gpa gpa, uint64_t size,
    void *host, unsigned flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = flags & HV_SLOT_READONLY ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	return kvm_ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static int
memory_set(struct hv_partition *p, unsigned slot, hv_gpa gpa, uint64_t size,
    void *host, unsigned flags)
{
	int err = 0;

	if (slot >= ARRAY_LEN(p->slot) || ((gpa | size) & 0xfff) ||
	    (size && !host))
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	/* KVM can move a slot, but neither resize it nor change its memory or
	 * its flags: remove it first. */
	if (p->slot[slot].size)
		err = region_set(p, slot, p->slot[slot].gpa, 0, NULL, 0);
	p->slot[slot].size = 0;
	if (!err && size) {
		err = region_set(p, slot, gpa, size, host, flags);
		if (!err) {
			p->slot[slot].gpa = gpa;
			p->slot[slot].size = size;
			p->slot[slot].host = host;
			p->slot[slot].flags = flags;
		}
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

static const unsigned long requests[] = { KVM_RUN, KVM_IRQFD, KVM_IOEVENTFD,
	KVM_SET_GSI_ROUTING, KVM_SIGNAL_MSI, KVM_IRQ_LINE, KVM_GET_REGS };

static const int calls[] = { __NR_gettid, __NR_getpid, __NR_tgkill,
	__NR_rt_sigreturn };

const struct hv_backend hv_kvm = {
	.name = "kvm",
	.title = "the kernel's KVM (VT-x, SVM)",
	.device = KVM_DEVICE,
	.requests = requests,
	.nrequests = ARRAY_LEN(requests),
	.calls = calls,
	.ncalls = ARRAY_LEN(calls),
	.probe = kvm_probe,
	.partition_create = partition_create,
	.partition_destroy = partition_destroy,
	.memory_set = memory_set,
	.irq_set = kvm_irq_set,
	.irqfd_bind = kvm_irqfd_bind,
	.irqfd_unbind = kvm_irqfd_unbind,
	.msi_route = kvm_msi_route,
	.msi_send = kvm_msi_send,
	.doorbell_bind = kvm_doorbell_bind,
	.doorbell_unbind = kvm_doorbell_unbind,
	.vcpu_create = kvm_vcpu_create,
	.vcpu_destroy = kvm_vcpu_destroy,
	.vcpu_run = kvm_vcpu_run,
	.vcpu_kick = kvm_vcpu_kick,
	.vcpu_error = kvm_vcpu_error,
	.vcpu_get = kvm_vcpu_get,
	.vcpu_set = kvm_vcpu_set,
	.partition_get = kvm_partition_get,
	.partition_set = kvm_partition_set,
	.now_ns = kvm_now_ns,
};
