/* The software machine: partitions, vCPUs, memory slots, accesses. */
#include "hypervisor/soft/machine.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "hypervisor/soft/machine_impl.h"

#define PAGE_MASK 0xfffu

/* ---- memory ---- */

uint8_t *
machine_ram(struct machine *m, hv_gpa gpa, bool write, uint64_t *left)
{
	const struct slot_map *map =
	    atomic_load_explicit(&partition_of(m)->map, memory_order_acquire);
	unsigned low = 0, high = map->count;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		const struct mem_slot *s = &map->slot[mid];

		if (gpa < s->gpa) {
			high = mid;
		} else if (gpa - s->gpa >= s->size) {
			low = mid + 1;
		} else {
			if (write && (s->flags & HV_SLOT_READONLY))
				return NULL;
			*left = s->size - (gpa - s->gpa);
			return s->host + (gpa - s->gpa);
		}
	}
	return NULL;
}

static int
slot_compare(const void *a, const void *b)
{
	const struct mem_slot *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

static struct slot_map *
slot_map_build(const struct hv_partition *p)
{
	struct slot_map *map = calloc(1, sizeof(*map));

	if (!map)
		return NULL;
	for (unsigned n = 0; n < SOFT_SLOTS; n++)
		if (p->slots[n].size)
			map->slot[map->count++] = p->slots[n];
	qsort(map->slot, map->count, sizeof(map->slot[0]), slot_compare);
	return map;
}

/*
 * Make every vCPU forget what it knows of memory, and wait until it has: the
 * caller may unmap the old memory next.  One that is in the access handler (it
 * may be the one that calls us) forgets on its way back, handler_call().
 */
static void
slots_flush(struct hv_partition *p)
{
	for (unsigned n = 0; n < p->ncpus; n++) {
		struct hv_vcpu *v = atomic_load(&p->cpu[n]);

		if (v)
			machine_attend(&v->cpu, ATT_FLUSH);
	}
	for (unsigned n = 0; n < p->ncpus; n++) {
		struct hv_vcpu *v = atomic_load(&p->cpu[n]);

		while (v && atomic_load(&v->where) == WHERE_GUEST &&
		    (atomic_load(&v->cpu.attention) & ATT_FLUSH))
			sched_yield();
	}
}

static bool
overlaps(const struct hv_partition *p, unsigned slot, hv_gpa gpa, uint64_t size)
{
	for (unsigned n = 0; n < SOFT_SLOTS; n++) {
		const struct mem_slot *s = &p->slots[n];

		if (n != slot && s->size && gpa < s->gpa + s->size &&
		    s->gpa < gpa + size)
			return true;
	}
	return false;
}

static int
memory_set(struct hv_partition *p, unsigned slot, hv_gpa gpa, uint64_t size,
    void *host, unsigned flags)
{
	struct mem_slot old;
	struct slot_map *map, *was;
	uint64_t end;
	int err = 0;

	if (slot >= SOFT_SLOTS || ((gpa | size) & PAGE_MASK) ||
	    __builtin_add_overflow(gpa, size, &end) || (size && !host))
		return -EINVAL;
	pthread_mutex_lock(&p->slots_lock);
	old = p->slots[slot];
	if (size && overlaps(p, slot, gpa, size)) {
		err = -EEXIST;
		goto out;
	}
	p->slots[slot] = (struct mem_slot){ gpa, size, host, flags };
	map = slot_map_build(p);
	if (!map) {
		p->slots[slot] = old;
		err = -ENOMEM;
		goto out;
	}
	was = atomic_exchange(&p->map, map);
	slots_flush(p);
	/* A vCPU in its handler may look at the map it entered with, never at
	 * an older one; so the last one replaced is kept. */
	if (was) {
		free(was->older);
		was->older = NULL;
	}
	map->older = was;
out:
	pthread_mutex_unlock(&p->slots_lock);
	return err;
}

/* ---- accesses ---- */

static void
handler_call(struct cpu *c, struct hv_access *a)
{
	struct hv_vcpu *v = vcpu_of(c);

	if (!a->write)
		a->data = 0;
	atomic_store(&v->where, WHERE_HANDLER);
	c->handler->access(c->handler->ctx, a);
	atomic_store(&v->where, WHERE_GUEST);
	/* What was removed meanwhile must not be used by the rest of this
	 * block; the bit stays for the block's end. */
	if (atomic_load(&c->attention) & ATT_FLUSH)
		tlb_flush(c, true);
	if (!a->write && a->size < 8)
		a->data &= (1ull << a->size * 8) - 1;
}

static void
outside(struct cpu *c, struct hv_access *a)
{
	struct hv_partition *p = partition_of(c->machine);

	if (!machine_ring_bell(p, a)) {
		handler_call(c, a);
		if (p->icount != 0)
			icount_look_soon(p);
	} else if (p->icount != 0) {
		icount_tell(p);
	}
}

/* An access to one of the 32-bit registers at multiples of 16: `at` is its
 * offset in the page.  Narrower ones see their part of a register, as on the
 * processors that allow them. */
static void
lapic_access(struct cpu *c, struct hv_access *a, unsigned at)
{
	unsigned shift = (at & 3) * 8;

	if (a->write) {
		if (a->size >= 4 && shift == 0)
			lapic_write(c->lapic, at, (uint32_t)a->data);
		return;
	}
	a->data = lapic_read(c->lapic, at & ~3u) >> shift;
	if (a->size < 4)
		a->data &= (1u << a->size * 8) - 1;
}

static void
ioapic_access(struct cpu *c, struct hv_access *a, unsigned at)
{
	struct hv_partition *p = partition_of(c->machine);

	pthread_mutex_lock(&p->lock);
	if (a->write)
		ioapic_write(&p->ioapic, at, (uint32_t)a->data);
	else
		a->data = ioapic_read(&p->ioapic, at);
	pthread_mutex_unlock(&p->lock);
	if (!a->write && a->size < 4)
		a->data &= (1u << a->size * 8) - 1;
}

void
machine_mmio(struct cpu *c, struct hv_access *a)
{
	uint64_t base;

	a->space = HV_MMIO;
	if (lapic_mapped(c->lapic, &base) && a->addr - base < LAPIC_SIZE)
		lapic_access(c, a, (unsigned)(a->addr - base));
	else if (a->addr - IOAPIC_BASE < IOAPIC_SIZE)
		ioapic_access(c, a, (unsigned)(a->addr - IOAPIC_BASE));
	else
		outside(c, a);
}

static uint8_t
chip_read(struct hv_partition *p, uint64_t port)
{
	if (pic_owns(port))
		return pic_read(&p->pic, port);
	if (pit_owns(port))
		return pit_read(
		    &p->pit, port, machine_now_ns((struct machine *)p));
	return 0xff;
}

static void
chip_write(struct hv_partition *p, uint64_t port, uint8_t value)
{
	if (pic_owns(port)) {
		pic_write(&p->pic, port, value);
	} else if (pit_owns(port)) {
		pit_write(
		    &p->pit, port, value, machine_now_ns((struct machine *)p));
		machine_pit_changed(p);
	}
}

void
machine_pio(struct cpu *c, struct hv_access *a)
{
	struct hv_partition *p = partition_of(c->machine);

	a->space = HV_PIO;
	if (!pic_owns(a->addr) && !pit_owns(a->addr)) {
		outside(c, a);
		return;
	}
	/* The chips have eight data lines: wider accesses are split. */
	pthread_mutex_lock(&p->lock);
	if (!a->write)
		a->data = 0;
	for (unsigned n = 0; n < a->size; n++) {
		if (a->write)
			chip_write(p, a->addr + n, (uint8_t)(a->data >> n * 8));
		else
			a->data |= (uint64_t)chip_read(p, a->addr + n) << n * 8;
	}
	if (pic_owns(a->addr))
		machine_pic_changed(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- what the processor asks of the machine ---- */

struct cpu *
machine_cpu(struct machine *m, unsigned index)
{
	struct hv_partition *p = partition_of(m);
	struct hv_vcpu *v =
	    index < p->ncpus ? atomic_load(&p->cpu[index]) : NULL;

	return v ? &v->cpu : NULL;
}

unsigned
machine_cpus(const struct machine *m)
{
	return ((const struct hv_partition *)m)->ncpus;
}

struct block_shared *
machine_blocks(struct machine *m)
{
	return &partition_of(m)->blocks;
}

/* ---- partitions and vCPUs ---- */

static int
probe(char *why, size_t why_size)
{
	if (why_size)
		why[0] = '\0';
	return 0;
}

static int
partition_create(const struct hv_config *config, struct hv_partition **out)
{
	struct hv_partition *p;
	int err;

	if (config->vcpus < 1 || config->vcpus > MACHINE_CPUS ||
	    config->icount > MACHINE_ICOUNT ||
	    (config->icount != 0 && config->vcpus > 1))
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->ncpus = config->vcpus;
	p->icount = config->icount;
	p->map = slot_map_build(p);
	if (!p->map) {
		free(p);
		return -ENOMEM;
	}
	pthread_mutex_init(&p->slots_lock, NULL);
	block_shared_init(&p->blocks);
	machine_irq_init(p);
	err = machine_time_init(p);
	if (err) {
		machine_irq_fini(p);
		block_shared_fini(&p->blocks);
		pthread_mutex_destroy(&p->slots_lock);
		free(p->map);
		free(p);
		return err;
	}
	*out = p;
	return 0;
}

static void
vcpu_destroy(struct hv_vcpu *v)
{
	struct hv_partition *p = partition_of(v->cpu.machine);

	/* The timer thread and the lines find vCPUs under these. */
	pthread_mutex_lock(&p->lock);
	pthread_mutex_lock(&p->timer_lock);
	atomic_store(&p->cpu[v->cpu.index], NULL);
	pthread_mutex_unlock(&p->timer_lock);
	pthread_mutex_unlock(&p->lock);
	block_cache_destroy(&v->cpu);
	lapic_destroy(&v->lapic);
	free(v);
}

static void
partition_destroy(struct hv_partition *p)
{
	machine_time_fini(p);
	machine_irq_fini(p);
	for (unsigned n = 0; n < p->ncpus; n++)
		BUG_ON(atomic_load(&p->cpu[n]) != NULL);
	block_shared_fini(&p->blocks);
	pthread_mutex_destroy(&p->slots_lock);
	free(p->map->older);
	free(p->map);
	free(p);
}

static int
vcpu_create(struct hv_partition *p, unsigned index, struct hv_vcpu **out)
{
	struct hv_vcpu *v;
	int err;

	if (index >= p->ncpus)
		return -EINVAL;
	if (atomic_load(&p->cpu[index]))
		return -EEXIST;
	v = aligned_alloc(64, (sizeof(*v) + 63) & ~(size_t)63);
	if (!v)
		return -ENOMEM;
	memset(v, 0, sizeof(*v));
	v->cpu.machine = (struct machine *)p;
	v->cpu.lapic = &v->lapic;
	v->cpu.index = index;
	if (p->icount != 0)
		atomic_store(&v->cpu.attention, ATT_STEP);
	atomic_store(&v->due_ns, UINT64_MAX);
	err = block_cache_create(&v->cpu);
	if (err) {
		free(v);
		return err;
	}
	lapic_init(&v->lapic, &machine_lapic_env, &v->cpu, index);
	cpu_reset(&v->cpu, false);
	v->cpu.mp_state = index ? HV_MP_WAIT_INIT : HV_MP_RUNNABLE;
	atomic_store(&p->cpu[index], v);
	*out = v;
	return 0;
}

static enum hv_stop
vcpu_run(struct hv_vcpu *v, const struct hv_handler *handler)
{
	enum hv_stop stop;

	v->cpu.handler = handler;
	atomic_store(&v->where, WHERE_GUEST);
	stop = cpu_run(&v->cpu);
	atomic_store(&v->where, WHERE_OUT);
	return stop;
}

static void
vcpu_kick(struct hv_vcpu *v)
{
	machine_attend(&v->cpu, ATT_KICK);
}

static const char *
vcpu_error(struct hv_vcpu *v)
{
	return v->cpu.error;
}

static uint64_t
now_ns(struct hv_partition *p)
{
	return machine_now_ns((struct machine *)p);
}

/* Timers; level interrupts; beginnings of threads that were made before. */
static const int calls[] = { __NR_timerfd_settime, __NR_poll,
	__NR_set_robust_list, __NR_rseq };

const struct hv_backend hv_soft = {
	.name = "soft",
	.title = "software processor, runs everywhere",
	.calls = calls,
	.ncalls = ARRAY_LEN(calls),
	.probe = probe,
	.partition_create = partition_create,
	.partition_destroy = partition_destroy,
	.memory_set = memory_set,
	.irq_set = machine_irq_set,
	.irqfd_bind = machine_irqfd_bind,
	.irqfd_unbind = machine_irqfd_unbind,
	.msi_route = machine_msi_route,
	.msi_send = machine_msi_send,
	.doorbell_bind = machine_bell_bind,
	.doorbell_unbind = machine_bell_unbind,
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.vcpu_run = vcpu_run,
	.vcpu_kick = vcpu_kick,
	.vcpu_error = vcpu_error,
	.vcpu_get = machine_vcpu_get,
	.vcpu_set = machine_vcpu_set,
	.partition_get = machine_partition_get,
	.partition_set = machine_partition_set,
	.now_ns = now_ns,
	.icount = icount_insns,
};
