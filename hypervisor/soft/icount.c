/*
 * Guest time that follows instructions.
 *
 * The one vCPU owns the clock: time is what it has executed, and what it has
 * slept, which takes no time of the host's.  It runs block by block, ATT_STEP
 * being always set, and only between blocks, at counts that do not depend on
 * the host, it looks at timers and asks devices.  No thread of the machine's
 * runs beside it; what another thread brings (a device's input from outside)
 * comes when it comes.
 *
 * Counted are the instructions of the decoded blocks: without most NOPs, and
 * with each part of a repeated string instruction as one.
 */
#include "hypervisor/soft/machine_impl.h"

#include <string.h>

#define NS_PER_US 1000u
/* The least time between two times that a device wants to be asked. */
#define ASK_NS 1000u
/* How often a vCPU that nothing in the guest will wake looks outside. */
#define OUTSIDE_NS 1000000u

bool
machine_counts(const struct machine *m)
{
	return ((const struct hv_partition *)m)->icount != 0;
}

/* Inside a block: as far as the last row that has left a trace. */
static uint64_t
insns_of(const struct cpu *c)
{
	uint64_t n = c->icount;

	if (c->icount_first != NULL && c->fault_insn >= c->icount_first &&
	    c->fault_insn < c->icount_first + BLOCK_INSNS)
		n += (uint64_t)(c->fault_insn - c->icount_first);
	return n;
}

uint64_t
icount_insns(struct hv_partition *p)
{
	struct hv_vcpu *v = atomic_load(&p->cpu[0]);

	return v != NULL ? insns_of(&v->cpu) : 0;
}

uint64_t
icount_ns(const struct hv_partition *p)
{
	const struct hv_vcpu *v = atomic_load(&p->cpu[0]);
	uint64_t n = v != NULL ? insns_of(&v->cpu) : 0;

	return p->icount_skipped_ns +
	    (uint64_t)((unsigned __int128)n * NS_PER_US / p->icount);
}

void
icount_look_soon(struct hv_partition *p)
{
	struct hv_vcpu *v = atomic_load(&p->cpu[0]);

	if (v != NULL)
		v->cpu.icount_due = 0;
}

void
icount_tell(struct hv_partition *p)
{
	p->icount_told = true;
	icount_look_soon(p);
}

static uint64_t
due_ns(struct hv_partition *p, struct hv_vcpu *v)
{
	return MIN(machine_due_ns(p, v), p->icount_device_ns);
}

static void
ask_devices(struct hv_partition *p, const struct hv_handler *h, uint64_t now)
{
	bool told = p->icount_told;

	p->icount_told = false;
	p->icount_device_ns = UINT64_MAX;
	if (h->settle == NULL)
		return;
	p->icount_device_ns = MAX(h->settle(h->ctx, now, told), now + ASK_NS);
	/* What they have raised. */
	machine_irqfds_look(p);
}

void
icount_look(struct cpu *c)
{
	struct hv_vcpu *v = vcpu_of(c);
	struct hv_partition *p = partition_of(c->machine);
	uint64_t now = machine_now_ns(c->machine), due;
	unsigned __int128 wait;

	machine_irqfds_look(p);
	atomic_store(&v->where, WHERE_HANDLER);
	ask_devices(p, c->handler, now);
	atomic_store(&v->where, WHERE_GUEST);
	if (machine_due_ns(p, v) <= now)
		machine_timers(c);
	/* A timer that could not be run is looked at once a microsecond. */
	due = MAX(due_ns(p, v), now + 1);
	wait = (unsigned __int128)(due - now) * p->icount / NS_PER_US + 1;
	c->icount_due =
	    due == UINT64_MAX ? UINT64_MAX : c->icount + (uint64_t)wait;
}

/* Nothing in the guest will wake it. */
static void
wait_outside(struct hv_vcpu *v)
{
	uint64_t at = time_now_ns() + OUTSIDE_NS;
	const struct timespec ts = {
		.tv_sec = (time_t)(at / 1000000000u),
		.tv_nsec = (long)(at % 1000000000u),
	};

	machine_wait(v, &ts);
	icount_look(&v->cpu);
}

void
icount_sleep(struct hv_vcpu *v)
{
	struct hv_partition *p = partition_of(v->cpu.machine);

	icount_look(&v->cpu);
	while (!(atomic_load(&v->cpu.attention) & ~(uint32_t)ATT_STEP)) {
		uint64_t now = machine_now_ns(v->cpu.machine);
		uint64_t due = due_ns(p, v);

		if (due == UINT64_MAX) {
			wait_outside(v);
			continue;
		}
		if (due > now)
			p->icount_skipped_ns += due - now;
		icount_look(&v->cpu);
	}
}
