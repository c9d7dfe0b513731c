/*
 * Clocks, timers and sleep of the software machine.
 *
 * All guest time is the host's TSC, scaled by one exact ratio: the PIT, the
 * LAPIC timers and the guest's TSC can never disagree, so calibrating one
 * against another gives the true figure, however slow the guest runs.
 *
 * A vCPU that sleeps waits for its own timers.  For one that is in guest code
 * the timer thread sets ATT_TIMER when it is time.  The thread sleeps in a
 * timerfd: whoever has an earlier deadline sets that, and wakes nobody.
 */
#include "hypervisor/soft/machine_impl.h"

#include <cpuid.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <x86intrin.h>

#define NS_PER_KHZ_TICK 1000000u
#define CALIBRATE_NS	4000000u

static pthread_once_t tsc_once = PTHREAD_ONCE_INIT;
static uint32_t host_tsc_khz; /* 0: the TSC is no clock; use the system's */

static bool
tsc_is_invariant(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

/* The TSC and the system's clock at one moment: the closest of a few tries. */
static void
sample(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = __rdtsc(), now = time_now_ns();
		uint64_t after = __rdtsc();

		if (after - before < best) {
			best = after - before;
			*tsc = before + (after - before) / 2;
			*ns = now;
		}
	}
}

static void
calibrate(void)
{
	uint64_t tsc0 = 0, ns0 = 0, tsc1 = 0, ns1 = 0;

	if (!tsc_is_invariant())
		return;
	sample(&tsc0, &ns0);
	while (time_now_ns() - ns0 < CALIBRATE_NS)
		cpu_relax();
	sample(&tsc1, &ns1);
	if (tsc1 > tsc0 && ns1 > ns0)
		host_tsc_khz = (uint32_t)((unsigned __int128)(tsc1 - tsc0) *
		    NS_PER_KHZ_TICK / (ns1 - ns0));
}

static uint64_t
host_tsc(void)
{
	return host_tsc_khz ? __rdtsc() : time_now_ns();
}

/* What the machine's TSC is, but for its offset. */
static uint64_t
source(const struct hv_partition *p)
{
	return p->icount != 0 ? icount_ns(p) : host_tsc();
}

uint64_t
machine_tsc(struct machine *m)
{
	struct hv_partition *p = partition_of(m);

	return source(p) + (uint64_t)p->tsc_offset;
}

uint32_t
machine_tsc_khz(const struct machine *m)
{
	return ((const struct hv_partition *)m)->tsc_khz;
}

uint64_t
machine_now_ns(const struct machine *m)
{
	const struct hv_partition *p = (const struct hv_partition *)m;
	uint64_t tsc = source(p) + (uint64_t)p->tsc_offset;

	return (
	    uint64_t)((unsigned __int128)tsc * NS_PER_KHZ_TICK / p->tsc_khz);
}

void
machine_time_set(struct hv_partition *p, uint64_t tsc)
{
	p->tsc_offset = (int64_t)(tsc - source(p));
}

/* ---- timers ---- */

uint64_t
machine_due_ns(struct hv_partition *p, struct hv_vcpu *v)
{
	uint64_t due = atomic_load(&v->due_ns);

	if (v->cpu.index == 0)
		due = MIN(due, atomic_load(&p->pit_due_ns));
	return due;
}

static struct timespec
host_time_of(struct hv_partition *p, uint64_t due)
{
	uint64_t now = machine_now_ns((struct machine *)p);
	uint64_t at = time_now_ns() + (due > now ? due - now : 0);

	return (struct timespec){
		.tv_sec = (time_t)(at / 1000000000u),
		.tv_nsec = (long)(at % 1000000000u),
	};
}

/* When the thread looks next: due, which is not UINT64_MAX.  The lock is
 * held. */
static void
thread_set(struct hv_partition *p, uint64_t due)
{
	const struct itimerspec t = { .it_value = host_time_of(p, due) };

	BUG_ON(timerfd_settime(p->timer_fd, TFD_TIMER_ABSTIME, &t, NULL) < 0);
	atomic_store(&p->timer_wake_ns, due);
}

/* A timer of a vCPU that is awake is new or earlier: does the thread look in
 * time?  Pairs with the store of UINT64_MAX in timer_scan(). */
static void
thread_tell(struct hv_partition *p, uint64_t due)
{
	if (p->icount != 0) {
		icount_look_soon(p);
		return;
	}
	if (due >= atomic_load(&p->timer_wake_ns))
		return;
	pthread_mutex_lock(&p->timer_lock);
	if (due < atomic_load(&p->timer_wake_ns))
		thread_set(p, due);
	pthread_mutex_unlock(&p->timer_lock);
}

/* Tell the vCPUs whose time has come, and sleep until the next one's. */
static void
timer_scan(struct hv_partition *p)
{
	uint64_t now = machine_now_ns((struct machine *)p);
	uint64_t next = UINT64_MAX;

	/* From here on thread_tell() takes the lock, which we hold: whoever
	 * changes a timer behind our back waits, and then looks again. */
	atomic_store(&p->timer_wake_ns, UINT64_MAX);
	for (unsigned n = 0; n < p->ncpus; n++) {
		struct hv_vcpu *v = atomic_load(&p->cpu[n]);
		uint64_t due;

		if (!v || atomic_load(&v->asleep) ||
		    atomic_load(&v->timer_told))
			continue;
		due = machine_due_ns(p, v);
		if (due <= now) {
			atomic_store(&v->timer_told, 1);
			machine_attend(&v->cpu, ATT_TIMER);
		} else {
			next = MIN(next, due);
		}
	}
	if (next != UINT64_MAX)
		thread_set(p, next);
}

static void *
timer_loop(void *arg)
{
	struct hv_partition *p = arg;
	bool stop = false;

	while (!stop) {
		uint64_t expired;
		ssize_t n = read(p->timer_fd, &expired, sizeof(expired));

		BUG_ON(n < 0 && errno != EINTR);
		pthread_mutex_lock(&p->timer_lock);
		stop = p->timer_stop;
		timer_scan(p);
		pthread_mutex_unlock(&p->timer_lock);
	}
	return NULL;
}

void
machine_timer_changed(struct hv_vcpu *v)
{
	struct hv_partition *p = partition_of(v->cpu.machine);
	uint64_t due = lapic_due_ns(&v->lapic);

	atomic_store(&v->due_ns, due);
	if (!atomic_load(&v->asleep))
		thread_tell(p, due);
}

void
machine_pit_changed(struct hv_partition *p)
{
	struct hv_vcpu *v = atomic_load(&p->cpu[0]);
	uint64_t due = pit_due_ns(&p->pit);

	atomic_store(&p->pit_due_ns, due);
	if (!v)
		return;
	if (atomic_load(&v->asleep))
		machine_attend(&v->cpu, ATT_TIMER);
	else
		thread_tell(p, due);
}

static void
pit_run(struct hv_partition *p)
{
	uint64_t now;

	pthread_mutex_lock(&p->lock);
	now = machine_now_ns((struct machine *)p);
	if (pit_edges(&p->pit, now)) {
		/* Edges that nobody saw are one interrupt. */
		machine_line_set(p, 0, LINE_PIT, false);
		machine_line_set(p, 0, LINE_PIT, true);
		machine_line_set(p, 0, LINE_PIT, false);
	}
	atomic_store(&p->pit_due_ns, pit_due_ns(&p->pit));
	pthread_mutex_unlock(&p->lock);
}

void
machine_timers(struct cpu *c)
{
	struct hv_vcpu *v = vcpu_of(c);
	struct hv_partition *p = partition_of(c->machine);

	atomic_store(&v->timer_told, 0);
	lapic_run(&v->lapic);
	if (c->index == 0 &&
	    atomic_load(&p->pit_due_ns) <= machine_now_ns((struct machine *)p))
		pit_run(p);
	atomic_store(&v->due_ns, lapic_due_ns(&v->lapic));
	if (!atomic_load(&v->asleep))
		thread_tell(p, machine_due_ns(p, v));
}

/* ---- sleep ---- */

static long
futex(_Atomic uint32_t *word, int op, uint32_t value,
    const struct timespec *until)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, until,
	    NULL, FUTEX_BITSET_MATCH_ANY);
}

void
machine_attend(struct cpu *c, uint32_t bits)
{
	/* The vCPU stores asleep and then looks at attention; we store
	 * attention and then look at asleep. */
	atomic_fetch_or(&c->attention, bits);
	if (atomic_load(&vcpu_of(c)->asleep))
		futex(&c->attention, FUTEX_WAKE_BITSET, INT_MAX, NULL);
}

void
machine_wait(struct hv_vcpu *v, const struct timespec *until)
{
	uint32_t seen = ATT_STEP;

	atomic_store(&v->asleep, 1);
	if (atomic_load(&v->cpu.attention) == seen)
		futex(&v->cpu.attention, FUTEX_WAIT_BITSET, seen, until);
	atomic_store(&v->asleep, 0);
}

void
machine_sleep(struct cpu *c)
{
	struct hv_vcpu *v = vcpu_of(c);
	struct hv_partition *p = partition_of(c->machine);
	bool expired = false;

	if (p->icount != 0) {
		icount_sleep(v);
		return;
	}
	atomic_store(&v->asleep, 1);
	while (!expired && !atomic_load(&c->attention)) {
		uint64_t due = machine_due_ns(p, v);
		struct timespec ts;

		if (due == UINT64_MAX) {
			futex(&c->attention, FUTEX_WAIT_BITSET, 0, NULL);
		} else if (due <= machine_now_ns(c->machine)) {
			expired = true;
		} else {
			ts = host_time_of(p, due);
			futex(&c->attention, FUTEX_WAIT_BITSET, 0, &ts);
		}
	}
	/* First, or machine_attend() would wake us. */
	atomic_store(&v->asleep, 0);
	if (expired)
		machine_timers(c);
	else
		thread_tell(p, machine_due_ns(p, v));
}

int
machine_time_init(struct hv_partition *p)
{
	int err;

	if (p->icount != 0) {
		p->timer_fd = -1;
		p->tsc_khz = SOFT_TSC_KHZ_DEFAULT;
		p->tsc_offset = SOFT_TSC_KHZ_DEFAULT;
		atomic_store(&p->pit_due_ns, PIT_NEVER);
		pit_init(&p->pit);
		pthread_mutex_init(&p->timer_lock, NULL);
		return 0;
	}
	p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (p->timer_fd < 0)
		return -errno;
	pthread_once(&tsc_once, calibrate);
	p->tsc_khz = host_tsc_khz ? host_tsc_khz : SOFT_TSC_KHZ_DEFAULT;
	/* Not from 0: the chips take a start time of 0 for "stopped". */
	machine_time_set(p, p->tsc_khz);
	atomic_store(&p->timer_wake_ns, UINT64_MAX);
	atomic_store(&p->pit_due_ns, PIT_NEVER);
	pit_init(&p->pit);
	pthread_mutex_init(&p->timer_lock, NULL);
	err = pthread_create(&p->timer_thread, NULL, timer_loop, p);
	if (err) {
		pthread_mutex_destroy(&p->timer_lock);
		close(p->timer_fd);
	}
	return -err;
}

void
machine_time_fini(struct hv_partition *p)
{
	if (p->timer_fd >= 0) {
		pthread_mutex_lock(&p->timer_lock);
		p->timer_stop = true;
		thread_set(p, 0);
		pthread_mutex_unlock(&p->timer_lock);
		pthread_join(p->timer_thread, NULL);
		close(p->timer_fd);
	}
	pthread_mutex_destroy(&p->timer_lock);
}
