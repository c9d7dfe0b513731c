/* Faults made on purpose: the client's plans go into the devices' stores. */
#include <errno.h>
#include <stdio.h>

#include "vmmd/vm.h"

static int
take_plan(
    const struct vm *vm, const Bulkhead__FaultPlan *m, struct fault_plan *p)
{
	int kind = fault_kind_parse(m->kind);
	uint64_t now = time_now_ns() + (uint64_t)vm->clock_offset_ns;

	if (kind < 0 || m->region > UINT16_MAX || m->queue > UINT16_MAX)
		return -EINVAL;
	*p = (struct fault_plan){
		.kind = (uint32_t)kind,
		.on = m->on,
		.after = m->after,
		.times = m->times,
		.per_million = m->per_million,
		.region = (uint16_t)m->region,
		.queue = (uint16_t)m->queue,
		.address = m->address,
		.value = m->value,
		.seed = m->seed,
		.until_ns = m->for_ns == 0 ? UINT64_MAX : now + m->for_ns,
	};
	return 0;
}

int
faults_inject(struct device *d, const Bulkhead__FaultPlan *plan)
{
	struct fault_plan p;
	int r;

	if (d->store.faults == NULL)
		return -EAGAIN;
	r = take_plan(d->vm, plan, &p);
	if (r == 0)
		r = fault_arm(d->store.faults, &p);
	return r < 0 ? r : 0;
}

void
faults_describe(struct client *c, uint64_t seq, struct device *d, bool clear)
{
	Bulkhead__FaultPlan plan[FAULT_PLANS], *plans[FAULT_PLANS];
	char kind[FAULT_PLANS][16];
	Bulkhead__Faults faults;

	bulkhead__faults__init(&faults);
	if (clear && d->store.faults != NULL)
		fault_disarm_all(d->store.faults);
	for (unsigned i = 0; d->store.faults != NULL && i < FAULT_PLANS; i++) {
		const struct fault_plan *p = &d->store.faults->plan[i];
		Bulkhead__FaultPlan *to = &plan[i];

		bulkhead__fault_plan__init(to);
		snprintf(
		    kind[i], sizeof(kind[i]), "%s", fault_kind_name(p->kind));
		to->kind = kind[i];
		to->on = p->on;
		to->after = p->after;
		to->times = p->times;
		to->per_million = p->per_million;
		to->region = p->region;
		to->queue = p->queue;
		to->address = p->address;
		to->value = p->value;
		to->seed = p->seed;
		to->seen = stats_get(&p->seen);
		to->fired = stats_get(&p->fired);
		to->armed = atomic_load(&p->armed) != 0;
		plans[i] = to;
		faults.n_plans++;
	}
	faults.plans = plans;
	channel_send(&c->channel, BULKHEAD__ENVELOPE__BODY_FAULTS, &faults,
	    NULL, 0, seq);
}
