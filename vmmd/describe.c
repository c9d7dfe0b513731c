/* Descriptions and statistics, put together when a client asks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmmd/vm.h"

static char none[] = "";
static char isolated[] = "isolated";
static char in_line[] = "inline";

struct info_arrays {
	Bulkhead__DeviceInfo info[VM_DEVICES_MAX], *infos[VM_DEVICES_MAX];
	struct placement_message resources[VM_DEVICES_MAX];
	char state[VM_DEVICES_MAX][16];
};

/* Of its process; of a spare, which is idle, the memory.  An inline device has
 * nothing of its own. */
static uint64_t
usage(const struct device *d, uint64_t *ram_mapped, uint64_t *cpu_ns)
{
	struct proc_memory now, spare;

	spawner_memory(&d->vm->spawner, d->now->pid, &now);
	spawner_memory(&d->vm->spawner, d->spare->pid, &spare);
	*ram_mapped = now.ram_mapped;
	*cpu_ns = proc_cpu_ns(d->now->pid);
	return now.private_bytes + spare.private_bytes;
}

static void
describe_device(struct info_arrays *a, unsigned i, struct device *d)
{
	Bulkhead__DeviceInfo *info = &a->info[i];

	bulkhead__device_info__init(info);
	a->infos[i] = info;
	snprintf(a->state[i], sizeof(a->state[i]), "%s", device_state_name(d));
	info->name = d->name;
	info->type = d->type;
	info->pid = d->is_inline ? d->vm->pid : d->now->pid;
	info->state = a->state[i];
	info->placement = d->is_inline ? in_line : isolated;
	info->restarts = d->restarts;
	info->syscalls = d->manifest.syscalls;
	info->sandbox = d->manifest.sandbox;
	info->dma = d->manifest.dma;
	info->last_death = d->last_death;
	if (d->store.stats != NULL) {
		info->reads = stats_get(&d->store.stats->reads);
		info->writes = stats_get(&d->store.stats->writes);
		info->recoveries = stats_get(&d->store.stats->recoveries);
	}
	info->private_bytes = usage(d, &info->ram_mapped, &info->cpu_ns);
	device_fill_placement(&a->resources[i], d);
	for (unsigned r = 0; r < d->placed.nregions; r++)
		if (d->placed.regions[r].bar)
			a->resources[i].region[r].start =
			    wiring_where(&d->wiring, r);
	info->resources = &a->resources[i].placement;
}

void
describe_vm(struct client *c, uint64_t seq)
{
	static const char *const stages[] = { "building", "building",
		"building", "running", "ending", "ending", "ended" };
	Bulkhead__Description d;
	struct vm *vm = c->vm;
	struct info_arrays *a = calloc(1, sizeof(*a));
	char hypervisor[32], state[16];

	bulkhead__description__init(&d);
	if (a == NULL || vm->config == NULL) {
		client_answer(c, seq, EAGAIN, "the VM is being built");
		free(a);
		return;
	}
	for (unsigned i = 0; i < vm->ndevices; i++)
		describe_device(a, i, &vm->device[i]);
	snprintf(hypervisor, sizeof(hypervisor), "%s",
	    vm->hv == NULL ? none : vm->hv->name);
	snprintf(state, sizeof(state), "%s", stages[vm->stage]);
	d.name = vm->config->name;
	d.pid = vm->pid;
	d.syscalls = vm->sandbox_calls;
	d.sandbox = vm->sandbox_steps;
	d.hypervisor = hypervisor;
	d.memory = vm->config->memory;
	d.vcpus = vm->nvcpus;
	d.devices = a->infos;
	d.n_devices = vm->ndevices;
	d.state = state;
	d.uptime_ns = vm->run_ns == 0 ? 0 : time_now_ns() - vm->run_ns;
	channel_send(&c->channel, BULKHEAD__ENVELOPE__BODY_DESCRIPTION, &d,
	    NULL, 0, seq);
	free(a);
}

/* ---- statistics ---- */

struct histogram {
	Bulkhead__Histogram message;
	uint64_t bucket[STATS_BUCKETS];
};

static Bulkhead__Histogram *
fill_histogram(struct histogram *out, const struct stats_histogram *in)
{
	unsigned n = 0;

	bulkhead__histogram__init(&out->message);
	out->message.count = stats_get(&in->count);
	out->message.sum_ns = stats_get(&in->sum_ns);
	out->message.max_ns = stats_get(&in->max_ns);
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		out->bucket[i] = stats_get(&in->bucket[i]);
		if (out->bucket[i] != 0)
			n = i + 1;
	}
	out->message.buckets = out->bucket;
	out->message.n_buckets = n;
	return &out->message;
}

/* struct stats_device up to own[] is nothing but counters. */
#define COUNTERS      (offsetof(struct stats_device, own) / sizeof(uint64_t))
#define VCPU_COUNTERS (sizeof(struct stats_vcpu) / sizeof(uint64_t))

struct device_stats {
	Bulkhead__DeviceStats message;
	uint64_t counters[COUNTERS], own[STATS_OWN];
	char *own_names[MANIFEST_COUNTERS];
	struct histogram handler, request;
	struct {
		Bulkhead__WaitStats message;
		struct histogram answer;
	} wait[RING_MAX_VCPUS];
	Bulkhead__WaitStats *waits[RING_MAX_VCPUS];
};

struct vcpu_stats {
	Bulkhead__VcpuStats message;
	uint64_t counters[VCPU_COUNTERS];
};

struct all_stats {
	Bulkhead__Stats message;
	struct device_stats device[VM_DEVICES_MAX];
	Bulkhead__DeviceStats *devices[VM_DEVICES_MAX];
	struct vcpu_stats vcpu[RING_MAX_VCPUS];
	Bulkhead__VcpuStats *vcpus[RING_MAX_VCPUS];
};

static void
copy_counters(uint64_t *out, const _Atomic uint64_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = stats_get(&in[i]);
}

static void
fill_store_stats(struct device_stats *out, struct device *d)
{
	const struct stats_device *in = d->store.stats;
	Bulkhead__DeviceStats *m = &out->message;

	copy_counters(out->counters, &in->reads, COUNTERS);
	copy_counters(out->own, in->own, d->manifest.ncounters);
	for (unsigned i = 0; i < d->manifest.ncounters; i++)
		out->own_names[i] = d->manifest.counters[i];
	m->counters = out->counters;
	m->n_counters = COUNTERS;
	m->own = out->own;
	m->own_names = out->own_names;
	m->n_own = m->n_own_names = d->manifest.ncounters;
	m->handler = fill_histogram(&out->handler, &in->handler);
	m->request = fill_histogram(&out->request, &in->request);
}

/* Those of the vCPUs that have used it. */
static void
fill_waits(struct device_stats *out, const struct port *port)
{
	size_t n = 0;

	for (unsigned v = 0; v < port->vcpus; v++) {
		const struct stats_wait *in = &port->lane[v].stats;
		Bulkhead__WaitStats *m = &out->wait[v].message;

		if (stats_get(&in->accesses) == 0)
			continue;
		bulkhead__wait_stats__init(m);
		m->vcpu = v;
		m->accesses = stats_get(&in->accesses);
		m->waited_ns = stats_get(&in->waited_ns);
		m->sleeps = stats_get(&in->sleeps);
		m->answer = fill_histogram(&out->wait[v].answer, &in->answer);
		out->waits[n++] = m;
	}
	out->message.waits = out->waits;
	out->message.n_waits = n;
}

static void
fill_device_stats(struct device_stats *out, struct device *d)
{
	Bulkhead__DeviceStats *m = &out->message;
	uint64_t ram;

	bulkhead__device_stats__init(m);
	m->name = d->name;
	m->type = d->type;
	m->restarts = d->restarts;
	m->private_bytes = usage(d, &ram, &m->cpu_ns);
	if (d->store.stats != NULL)
		fill_store_stats(out, d);
	fill_waits(out, d->port);
}

static void
fill_vcpu_stats(struct vcpu_stats *out, struct vcpu *v)
{
	Bulkhead__VcpuStats *m = &out->message;

	bulkhead__vcpu_stats__init(m);
	copy_counters(
	    out->counters, &v->intercept.stats.pio_reads, VCPU_COUNTERS);
	m->counters = out->counters;
	m->n_counters = VCPU_COUNTERS;
	m->cpu_ns = v->has_thread ? proc_thread_cpu_ns(v->thread) : 0;
}

void
describe_stats(struct client *c, uint64_t seq, const char *device)
{
	struct vm *vm = c->vm;
	struct all_stats *a = calloc(1, sizeof(*a));
	Bulkhead__Stats *m = &a->message;

	if (a == NULL) {
		client_answer(c, seq, ENOMEM, "out of memory");
		return;
	}
	bulkhead__stats__init(m);
	for (unsigned i = 0; i < vm->ndevices; i++) {
		if (device[0] != '\0' &&
		    strcmp(device, vm->device[i].name) != 0)
			continue;
		fill_device_stats(&a->device[i], &vm->device[i]);
		a->devices[m->n_devices++] = &a->device[i].message;
	}
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		fill_vcpu_stats(&a->vcpu[i], &vm->vcpu[i]);
		a->vcpus[i] = &a->vcpu[i].message;
	}
	m->devices = a->devices;
	m->vcpus = a->vcpus;
	m->n_vcpus = vm->nvcpus;
	m->uptime_ns = vm->run_ns == 0 ? 0 : time_now_ns() - vm->run_ns;
	if (m->n_devices == 0 && device[0] != '\0')
		client_answer(c, seq, ENOENT, "no such device");
	else if (channel_send(&c->channel, BULKHEAD__ENVELOPE__BODY_STATS, m,
		     NULL, 0, seq) == -EPROTO)
		client_answer(c, seq, E2BIG,
		    "too much for one message: ask for one device at a time");
	free(a);
}
