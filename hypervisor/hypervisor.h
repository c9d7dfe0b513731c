/*
 * The hypervisor interface: partitions, memory slots, vCPUs, accesses,
 * interrupts, doorbells, saved state.  It knows nothing of devices or
 * processes.  A backend is one folder and one struct hv_backend.
 *
 * Threads: a vCPU is run by one thread of the caller's; hv_vcpu_kick() and
 * everything on the partition may be called from any thread.  All functions
 * that return int give 0 (or a count) or a negative errno.
 */
#ifndef HYPERVISOR_HYPERVISOR_H
#define HYPERVISOR_HYPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A guest physical address; never a pointer. */
typedef uint64_t hv_gpa;

struct hv_partition;
struct hv_vcpu;

enum hv_space { HV_PIO, HV_MMIO };

/* One access by a vCPU to what no memory slot backs. */
struct hv_access {
	uint64_t addr;
	uint64_t data; /* written; or, for a read, filled in by the handler */
	uint8_t size; /* 1, 2, 4 or 8 bytes */
	bool write;
	enum hv_space space;
};

/*
 * Called on the vCPU's thread, inside hv_vcpu_run(), for every access that no
 * doorbell takes; returns when the access is done.
 */
struct hv_handler {
	void (*access)(void *ctx, struct hv_access *a);
	void *ctx;
	/*
	 * With hv_config.icount, and may be NULL: guest time has come to
	 * now_ns.  On return devices have done all that was due, and, if
	 * `told`, all that doorbells and ends of interrupts have told them of.
	 * Gives the guest time at which to call again; UINT64_MAX: none.
	 */
	uint64_t (*settle)(void *ctx, uint64_t now_ns, bool told);
};

/* Why hv_vcpu_run() returned. */
enum hv_stop {
	HV_STOP_KICKED, /* hv_vcpu_kick(); run it again */
	HV_STOP_SHUTDOWN, /* triple fault */
	HV_STOP_ERROR, /* the backend cannot go on: hv_vcpu_error() says why */
};

struct hv_config {
	unsigned vcpus; /* 1 to 64 */
	/*
	 * Guest time follows instructions: so many are a microsecond, 1 to
	 * 1000000, and a halted vCPU goes on at once at the next timer.  One
	 * vCPU only, and only backends that have the operation icount.  0:
	 * guest time goes on like the host's.
	 */
	unsigned icount;
	/* The backend's device file, if the caller has opened it; it stays the
	 * caller's. */
	bool has_device;
	int device;
};

enum hv_slot_flags {
	HV_SLOT_READONLY = 1, /* guest writes go to the handler */
};

/* One segment register, or LDTR or TR, as the processor holds it. */
struct hv_segment {
	uint64_t base;
	uint32_t limit; /* bytes, granularity applied */
	uint16_t selector;
	uint16_t attr; /* descriptor bits 40..55: type S DPL P AVL L D/B G at
			* bits 0-3, 4, 5-6, 7, 12, 13, 14, 15 */
	uint8_t unusable, pad[7];
};

struct hv_msr {
	uint32_t index, pad;
	uint64_t value;
};

#define HV_MSRS_MAX 64u

/* Everything of a vCPU.  `xsave` is the standard-format XSAVE area, of which
 * the first 576 bytes (legacy region and header) always stand; lapic is the
 * 4 KiB register page. */
struct hv_vcpu_state {
	uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8 .. r15 */
	uint64_t rip, rflags;
	struct hv_segment es, cs, ss, ds, fs, gs, ldtr, tr;
	struct {
		uint64_t base;
		uint32_t limit, pad;
	} gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base, xcr0;
	uint64_t dr[8];
	uint32_t nmsrs, mp_state; /* mp_state: enum hv_mp_state */
	struct hv_msr msrs[HV_MSRS_MAX];
	uint8_t lapic[4096];
	uint8_t xsave[4096];
	struct {
		uint8_t exception_pending, exception_vector,
		    exception_has_error;
		uint8_t interrupt_pending, interrupt_vector, interrupt_soft;
		uint8_t nmi_pending, nmi_masked, interrupt_shadow, pad[7];
		uint32_t exception_error, sipi_vector;
	} events;
};

enum hv_mp_state {
	HV_MP_RUNNABLE,
	HV_MP_WAIT_INIT, /* an AP before its first INIT */
	HV_MP_WAIT_SIPI,
	HV_MP_HALTED,
};

/* What belongs to the partition and no vCPU: interrupt controllers, PIT, the
 * guest's clock.  Opaque, of the backend's own layout, with a version. */
#define HV_PARTITION_STATE_MAX 8192u

struct hv_backend {
	const char *name;
	const char *title; /* one line for --help */
	const char *device; /* the file that it opens; NULL: none */
	/* What it asks the kernel by ioctl() once all vCPUs are made, but for
	 * saving and restoring: for a filter of system calls. */
	const unsigned long *requests;
	unsigned nrequests;
	/* The system calls beside that which only this backend makes then;
	 * tgkill of this process's threads. */
	const int *calls;
	unsigned ncalls;

	/*
	 * Can this backend run an unmodified kernel on this machine?  0, or a
	 * negative errno and the reason in why.  -ENOENT: not there; -EACCES:
	 * no permission; -ENOTSUP: there, but it cannot run a stock kernel
	 * (partition_create() may still succeed).
	 */
	int (*probe)(char *why, size_t why_size);

	int (*partition_create)(
	    const struct hv_config *config, struct hv_partition **out);
	void (*partition_destroy)(struct hv_partition *p);

	/*
	 * Back [gpa, gpa + size) by host memory that the caller keeps mapped
	 * shared; page-aligned.  slot is 0 to 31; size 0 removes it.  Works
	 * while vCPUs run.
	 */
	int (*memory_set)(struct hv_partition *p, unsigned slot, hv_gpa gpa,
	    uint64_t size, void *host, unsigned flags);

	/* Level of an interrupt line: GSI 0 to 23 of PIC pair and IOAPIC. */
	int (*irq_set)(struct hv_partition *p, unsigned gsi, bool level);
	/*
	 * Raise gsi whenever fd, an eventfd, is written.  With resample >= 0
	 * the line is level: it stays up until the guest's EOI, which writes
	 * resample.  Without, it is an edge.  The caller keeps both fds.
	 */
	int (*irqfd_bind)(
	    struct hv_partition *p, unsigned gsi, int fd, int resample);
	int (*irqfd_unbind)(struct hv_partition *p, unsigned gsi, int fd);
	/* Route gsi (24 and up, to 1023) to a message. */
	int (*msi_route)(
	    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data);
	int (*msi_send)(struct hv_partition *p, uint64_t addr, uint32_t data);
	/*
	 * A write of len bytes (0: any length) to addr, equal to *match if
	 * match is not NULL, writes eventfd fd and is done.
	 */
	int (*doorbell_bind)(struct hv_partition *p, enum hv_space space,
	    uint64_t addr, unsigned len, const uint64_t *match, int fd);
	int (*doorbell_unbind)(struct hv_partition *p, enum hv_space space,
	    uint64_t addr, unsigned len, const uint64_t *match, int fd);

	/* vCPU index is its APIC id; 0 is the boot processor. */
	int (*vcpu_create)(
	    struct hv_partition *p, unsigned index, struct hv_vcpu **out);
	void (*vcpu_destroy)(struct hv_vcpu *v);
	/* Run until kicked or ended.  An AP waits for INIT/SIPI in here; HLT
	 * sleeps in here. */
	enum hv_stop (*vcpu_run)(
	    struct hv_vcpu *v, const struct hv_handler *handler);
	void (*vcpu_kick)(struct hv_vcpu *v);
	const char *(*vcpu_error)(struct hv_vcpu *v);
	/* While the vCPU is not in vcpu_run(). */
	int (*vcpu_get)(struct hv_vcpu *v, struct hv_vcpu_state *state);
	int (*vcpu_set)(struct hv_vcpu *v, const struct hv_vcpu_state *state);

	/* Bytes written, at most HV_PARTITION_STATE_MAX. */
	int (*partition_get)(struct hv_partition *p, void *buf, size_t size);
	int (*partition_set)(
	    struct hv_partition *p, const void *buf, size_t size);
	/* Guest time in ns: stands still only as the backend says. */
	uint64_t (*now_ns)(struct hv_partition *p);
	/* With hv_config.icount, on the vCPU's thread or while it does not
	 * run: instructions done.  NULL: the backend cannot count. */
	uint64_t (*icount)(struct hv_partition *p);
};

extern const struct hv_backend hv_kvm;
extern const struct hv_backend hv_soft;

/* All backends, best first, NULL at the end. */
extern const struct hv_backend *const hv_backends[];

/*
 * The backend of that name; "auto": the first whose probe succeeds, and in
 * why the reasons against those before it ("" if none).  NULL: unknown or
 * none, with why.
 */
const struct hv_backend *hv_find(const char *name, char *why, size_t why_size);

/* The state of a boot processor after reset, and of an AP (WAIT_INIT). */
void hv_vcpu_state_reset(struct hv_vcpu_state *state, unsigned index);

#endif
