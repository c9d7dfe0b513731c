/*
 * Inside the software machine: what its own files (machine*.c) share.
 *
 *	machine.c       partitions, vCPUs, memory slots, dispatch of accesses
 *	machine_irq.c   lines, messages, irqfds, doorbells
 *	machine_time.c  clocks, timers, sleep
 *	machine_state.c saved state
 *	icount.c        time by instructions
 *
 * Locks, outermost first: slots_lock; lock (chips, lines, irqfds); bells_lock;
 * timer_lock; a LAPIC's own.  The access handler is called with none of them.
 */
#ifndef SOFT_MACHINE_IMPL_H
#define SOFT_MACHINE_IMPL_H

#include <pthread.h>
#include <time.h>

#include "hypervisor/soft/block.h"
#include "hypervisor/soft/ioapic.h"
#include "hypervisor/soft/lapic.h"
#include "hypervisor/soft/machine.h"
#include "hypervisor/soft/pic.h"
#include "hypervisor/soft/pit.h"

#define MACHINE_CPUS   64
#define MACHINE_GSIS   1024
#define MACHINE_LINES  24
#define MACHINE_IRQFDS 512
#define MACHINE_BELLS  512
#define MACHINE_ICOUNT 1000000 /* instructions per us, at most */

/* Where a vCPU's thread is; what memory_set() must wait for. */
enum machine_where { WHERE_OUT, WHERE_GUEST, WHERE_HANDLER };

struct hv_vcpu {
	struct cpu cpu; /* first: a struct cpu * is a struct hv_vcpu * */
	struct lapic lapic;
	_Atomic uint32_t where; /* enum machine_where */
	_Atomic uint32_t asleep;
	_Atomic uint64_t due_ns; /* of the LAPIC timer, for the timer thread */
	_Atomic uint32_t timer_told; /* ATT_TIMER is set: nothing more to do */
};

static inline struct hv_vcpu *
vcpu_of(struct cpu *c)
{
	return (struct hv_vcpu *)c;
}

/* Memory slots in order of address; replaced as a whole. */
struct slot_map {
	struct slot_map *older; /* freed once no vCPU can see it */
	unsigned count;
	struct mem_slot slot[SOFT_SLOTS];
};

struct msi_route {
	uint64_t addr;
	uint32_t data;
	bool used;
};

struct irqfd {
	int fd, resample; /* fd -1: unused */
	unsigned gsi;
	uint32_t generation;
};

struct doorbell {
	uint64_t addr, match;
	int fd;
	uint8_t len; /* 0: any */
	uint8_t space;
	bool has_match;
};

/* Who holds an interrupt line up. */
enum line_source { LINE_USER = 1, LINE_PIT = 2, LINE_IRQFD = 4 };

struct hv_partition {
	unsigned ncpus;
	struct hv_vcpu *_Atomic cpu[MACHINE_CPUS];

	pthread_mutex_t slots_lock;
	struct mem_slot slots[SOFT_SLOTS]; /* by number */
	struct slot_map *_Atomic map;

	pthread_mutex_t lock;
	struct pic pic;
	struct ioapic ioapic;
	struct pit pit;
	uint8_t line[MACHINE_LINES]; /* enum line_source */
	_Atomic uint32_t pic_out;
	struct msi_route route[MACHINE_GSIS];

	struct irqfd irqfd[MACHINE_IRQFDS];
	unsigned nirqfds; /* high-water mark */
	int epoll, epoll_stop; /* -1: no thread yet */
	pthread_t irqfd_thread;

	pthread_mutex_t bells_lock;
	struct doorbell bell[MACHINE_BELLS];
	_Atomic uint32_t nbells;

	int64_t tsc_offset; /* machine's TSC = host's + offset */
	uint32_t tsc_khz;
	/* Instructions per microsecond; 0: time is the host's.  The rest is
	 * the one vCPU's. */
	uint32_t icount;
	bool icount_told; /* a device has something to look at */
	uint64_t icount_skipped_ns; /* of sleep */
	uint64_t icount_device_ns; /* when a device wants to be asked */

	pthread_mutex_t timer_lock;
	pthread_t timer_thread;
	int timer_fd;
	bool timer_stop;
	_Atomic uint64_t timer_wake_ns; /* when the thread looks next */
	_Atomic uint64_t pit_due_ns;

	struct block_shared blocks;
};

/* struct machine of cpu.h is struct hv_partition under its name inside. */
static inline struct hv_partition *
partition_of(struct machine *m)
{
	return (struct hv_partition *)m;
}

/* ---- machine_irq.c ---- */
extern const struct lapic_env machine_lapic_env;
void machine_irq_init(struct hv_partition *p);
void machine_irq_fini(struct hv_partition *p);
/* The lock is held. */
void machine_line_set(
    struct hv_partition *p, unsigned gsi, unsigned source, bool level);
/* The PIC was written or read: tell the boot processor.  The lock is held. */
void machine_pic_changed(struct hv_partition *p);
void machine_send(
    struct hv_partition *p, struct cpu *from, const struct apic_msg *msg);
/* Does a doorbell take this write? */
bool machine_ring_bell(struct hv_partition *p, const struct hv_access *a);
int machine_irq_set(struct hv_partition *p, unsigned gsi, bool level);
int
machine_irqfd_bind(struct hv_partition *p, unsigned gsi, int fd, int resample);
int machine_irqfd_unbind(struct hv_partition *p, unsigned gsi, int fd);
int machine_msi_route(
    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data);
int machine_msi_send(struct hv_partition *p, uint64_t addr, uint32_t data);
int machine_bell_bind(struct hv_partition *p, enum hv_space space,
    uint64_t addr, unsigned len, const uint64_t *match, int fd);
int machine_bell_unbind(struct hv_partition *p, enum hv_space space,
    uint64_t addr, unsigned len, const uint64_t *match, int fd);

/* ---- machine_time.c ---- */
int machine_time_init(struct hv_partition *p);
void machine_time_fini(struct hv_partition *p);
/* The PIT was programmed: the lock is held. */
void machine_pit_changed(struct hv_partition *p);
/* lapic_due_ns() of v has changed; its own thread. */
void machine_timer_changed(struct hv_vcpu *v);
/* Guest time and TSC go on from these. */
void machine_time_set(struct hv_partition *p, uint64_t tsc);

/* Of a vCPU's timers; UINT64_MAX: none. */
uint64_t machine_due_ns(struct hv_partition *p, struct hv_vcpu *v);
/* Wait for attention, asleep, at most until the host's time `until`. */
void machine_wait(struct hv_vcpu *v, const struct timespec *until);

/* ---- icount.c: p->icount is not 0 ---- */
/* What all guest time is made from. */
uint64_t icount_ns(const struct hv_partition *p);
uint64_t icount_insns(struct hv_partition *p);
/* Have the vCPU look at the end of its block; its own thread. */
void icount_look_soon(struct hv_partition *p);
/* A doorbell was rung, or a level interrupt ended. */
void icount_tell(struct hv_partition *p);
void icount_sleep(struct hv_vcpu *v);
/* The thread of the irqfds: none with icount. */
void machine_irqfds_look(struct hv_partition *p);

/* ---- machine_state.c ---- */
int machine_vcpu_get(struct hv_vcpu *v, struct hv_vcpu_state *state);
int machine_vcpu_set(struct hv_vcpu *v, const struct hv_vcpu_state *state);
int machine_partition_get(struct hv_partition *p, void *buf, size_t size);
int machine_partition_set(struct hv_partition *p, const void *buf, size_t size);

#endif
