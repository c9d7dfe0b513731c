/*
 * Inside the KVM backend.
 *
 *	kvm.c        partitions, memory slots, the table of operations
 *	kvm_irq.c    lines, message routes, irqfds, ioeventfds
 *	kvm_vcpu.c   vCPUs: running, kicking
 *	kvm_cpuid.c  what the guest sees of the processor
 *	kvm_state.c  saved state
 *	kvm_probe.c  can this KVM run an unmodified kernel?
 *
 * The interrupt controllers and the PIT are the kernel's.
 */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "hypervisor/hypervisor.h"
#include "proto/base.h"

#define KVM_GSIS  1024u
#define KVM_LINES 24u
#define KVM_CPUS  64u

struct hv_partition {
	int kvm, vm; /* fds */
	unsigned ncpus;
	size_t run_size; /* of the mapping shared with a vCPU */
	bool has_xcrs, has_resample;
	uint32_t nmsrs; /* those of kvm_state.c that this KVM has */
	uint32_t msrs[HV_MSRS_MAX];

	pthread_mutex_t lock; /* slots, routes */
	struct {
		hv_gpa gpa;
		uint64_t size;
		void *host;
		unsigned flags;
	} slot[32];
	struct {
		uint64_t addr;
		uint32_t data;
		bool used;
	} route[KVM_GSIS];
};

struct hv_vcpu {
	struct hv_partition *p;
	int fd;
	unsigned index;
	struct kvm_run *run;
	_Atomic pid_t thread; /* of the last vcpu_run() */
	_Atomic int inside; /* in KVM_RUN, or about to be */
	_Atomic int kicked;
	char error[160];
};

/* ioctl(), but -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);
int kvm_ioctl_value(int fd, unsigned long request, unsigned long value);

/* ---- kvm_irq.c ---- */
/* Set the routing table from p->route and the fixed lines; locked. */
int kvm_routes_set(struct hv_partition *p);
int kvm_irq_set(struct hv_partition *p, unsigned gsi, bool level);
int kvm_irqfd_bind(struct hv_partition *p, unsigned gsi, int fd, int resample);
int kvm_irqfd_unbind(struct hv_partition *p, unsigned gsi, int fd);
int kvm_msi_route(
    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data);
int kvm_msi_send(struct hv_partition *p, uint64_t addr, uint32_t data);
int kvm_doorbell_bind(struct hv_partition *p, enum hv_space space,
    uint64_t addr, unsigned len, const uint64_t *match, int fd);
int kvm_doorbell_unbind(struct hv_partition *p, enum hv_space space,
    uint64_t addr, unsigned len, const uint64_t *match, int fd);

/* ---- kvm_vcpu.c ---- */
/* The signal that interrupts KVM_RUN; its handler does nothing. */
int kvm_kick_signal(void);
int
kvm_vcpu_create(struct hv_partition *p, unsigned index, struct hv_vcpu **out);
void kvm_vcpu_destroy(struct hv_vcpu *v);
enum hv_stop kvm_vcpu_run(struct hv_vcpu *v, const struct hv_handler *handler);
void kvm_vcpu_kick(struct hv_vcpu *v);
const char *kvm_vcpu_error(struct hv_vcpu *v);

/* ---- kvm_cpuid.c ---- */
int kvm_cpuid_set(struct hv_vcpu *v);

/* ---- kvm_state.c ---- */
/* Find out which MSRs this KVM has; needs a vCPU. */
void kvm_msrs_find(struct hv_vcpu *v);
int kvm_vcpu_get(struct hv_vcpu *v, struct hv_vcpu_state *state);
int kvm_vcpu_set(struct hv_vcpu *v, const struct hv_vcpu_state *state);
int kvm_partition_get(struct hv_partition *p, void *buf, size_t size);
int kvm_partition_set(struct hv_partition *p, const void *buf, size_t size);
uint64_t kvm_now_ns(struct hv_partition *p);

/* ---- kvm_probe.c ---- */
int kvm_probe(char *why, size_t why_size);

#endif
