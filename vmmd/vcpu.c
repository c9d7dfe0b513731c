/* vCPUs and their threads. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmmd/vm.h"

#define CR0_PE	  0x1u
#define CR0_ET	  0x10u
#define CR0_NE	  0x20u
#define CR0_PG	  0x80000000u
#define CR4_PAE	  0x20u
#define EFER_LME  0x100u
#define EFER_LMA  0x400u
#define ATTR_CODE 0xau /* execute, read */
#define ATTR_DATA 0x2u /* read, write */
#define ATTR_TSS  0xbu /* 32- or 64-bit TSS, busy */
#define ATTR_A	  0x1u
#define ATTR_S	  0x10u
#define ATTR_P	  0x80u
#define ATTR_L	  0x2000u
#define ATTR_DB	  0x4000u
#define ATTR_G	  0x8000u

static uint64_t
settle(void *ctx, uint64_t now_ns, bool told)
{
	struct intercept *ic = ctx;

	return icount_settle(ic->icount, now_ns, told);
}

/* Everything that a thread's beginning takes is behind it here. */
static void
wait_at_gate(struct vm *vm)
{
	pthread_mutex_lock(&vm->gate);
	vm->waiting++;
	pthread_cond_broadcast(&vm->gate_moved);
	while (!vm->gate_open)
		pthread_cond_wait(&vm->gate_moved, &vm->gate);
	pthread_mutex_unlock(&vm->gate);
}

void
vcpu_release_all(struct vm *vm)
{
	pthread_mutex_lock(&vm->gate);
	vm->gate_open = true;
	pthread_cond_broadcast(&vm->gate_moved);
	pthread_mutex_unlock(&vm->gate);
}

static void *
run(void *arg)
{
	struct vcpu *v = arg;
	struct vm *vm = v->vm;
	const struct hv_handler handler = {
		.access = intercept_access,
		.ctx = &v->intercept,
		.settle = v->intercept.icount != NULL ? settle : NULL,
	};
	enum hv_stop stop = HV_STOP_KICKED;
	uint64_t one = 1;
	int none = 0;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	prctl(PR_SET_NAME, name);
	wait_at_gate(vm);
	while (!atomic_load(&vm->stopping)) {
		stop = vm->hv->vcpu_run(v->hv, &handler);
		if (stop != HV_STOP_KICKED)
			break;
		stats_add(&v->intercept.stats.kicks, 1);
	}
	if (stop == HV_STOP_KICKED)
		return NULL;
	/* -1 holds the others off while the text is written. */
	if (!atomic_compare_exchange_strong(&vm->vcpu_stopped, &none, -1))
		return NULL;
	snprintf(vm->vcpu_text, sizeof(vm->vcpu_text), "vCPU %u: %s", v->index,
	    stop == HV_STOP_SHUTDOWN ? "triple fault"
				     : vm->hv->vcpu_error(v->hv));
	atomic_store(&vm->vcpu_stopped, (int)stop + 1);
	if (write(vm->notify_fd, &one, sizeof(one)) < 0)
		return NULL; /* full: it is readable already */
	return NULL;
}

int
vcpu_create_all(struct vm *vm, char *err, size_t size)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct vcpu *v = &vm->vcpu[i];
		int r;

		v->vm = vm;
		v->index = i;
		v->intercept = (struct intercept){
			.map = &vm->map,
			.vcpu = i,
			.icount = vm->config->icount != 0 ? &vm->icount : NULL,
		};
		r = vm->hv->vcpu_create(vm->partition, i, &v->hv);
		if (r < 0) {
			v->hv = NULL;
			snprintf(err, size, "vCPU %u: %s", i, strerror(-r));
			return r;
		}
	}
	return 0;
}

static struct hv_segment
flat(uint16_t selector, uint16_t attr)
{
	return (struct hv_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.attr = (uint16_t)(attr | ATTR_A | ATTR_S | ATTR_P | ATTR_G),
	};
}

int
vcpu_set_entry(struct vm *vm, const Bulkhead__Loaded *entry)
{
	static struct hv_vcpu_state s;
	struct hv_segment data = flat(0x18, ATTR_DATA | ATTR_DB);

	if (entry->mode != 64 && entry->mode != 32)
		return -EINVAL;
	hv_vcpu_state_reset(&s, 0);
	s.mp_state = HV_MP_RUNNABLE;
	s.rip = entry->rip;
	s.gpr[6] = entry->rsi;
	s.gpr[3] = entry->rbx;
	s.rflags = 2;
	s.ds = s.es = s.ss = data;
	s.fs = s.gs = flat(0, ATTR_DATA | ATTR_DB);
	s.ldtr = (struct hv_segment){ .unusable = 1 };
	s.tr = (struct hv_segment){
		.limit = 0x67,
		.attr = ATTR_TSS | ATTR_P,
	};
	s.gdtr.base = entry->gdt;
	s.gdtr.limit = entry->gdt != 0 ? 0x1f : 0;
	s.idtr.base = 0;
	s.idtr.limit = 0;
	if (entry->mode == 64) {
		s.cs = flat(0x10, ATTR_CODE | ATTR_L);
		s.cr0 = CR0_PG | CR0_PE | CR0_ET | CR0_NE;
		s.cr3 = entry->cr3;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
	} else {
		s.cs = flat(0x10, ATTR_CODE | ATTR_DB);
		s.cr0 = CR0_PE | CR0_ET;
		s.cr4 = 0;
		s.efer = 0;
	}
	return vm->hv->vcpu_set(vm->vcpu[0].hv, &s);
}

int
vcpu_start_all(struct vm *vm)
{
	sigset_t all, old;
	unsigned made = 0;
	int r = 0;

	/* Signals of the process are the main thread's. */
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < vm->nvcpus && r == 0; i++) {
		struct vcpu *v = &vm->vcpu[i];

		r = -pthread_create(&v->thread, NULL, run, v);
		if (r != 0)
			break;
		v->has_thread = true;
		made++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_mutex_lock(&vm->gate);
	while (vm->waiting < made)
		pthread_cond_wait(&vm->gate_moved, &vm->gate);
	pthread_mutex_unlock(&vm->gate);
	return r;
}

bool
vcpu_stop_all(struct vm *vm)
{
	uint64_t deadline = time_now_ns() + 5000000000u;
	bool all;

	atomic_store(&vm->stopping, true);
	vcpu_release_all(vm);
	for (;;) {
		all = true;
		for (unsigned i = 0; i < vm->nvcpus; i++)
			if (vm->vcpu[i].has_thread)
				vm->hv->vcpu_kick(vm->vcpu[i].hv);
		for (unsigned i = 0; i < vm->ndevices; i++)
			if (vm->device[i].port != NULL)
				port_wake(vm->device[i].port);
		for (unsigned i = 0; i < vm->nvcpus; i++) {
			struct vcpu *v = &vm->vcpu[i];
			struct timespec until;

			if (!v->has_thread)
				continue;
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 5000000;
			if (until.tv_nsec >= 1000000000) {
				until.tv_nsec -= 1000000000;
				until.tv_sec++;
			}
			if (pthread_timedjoin_np(v->thread, NULL, &until) == 0)
				v->has_thread = false;
			else
				all = false;
		}
		if (all || time_now_ns() >= deadline)
			return all;
	}
}

void
vcpu_destroy_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		if (vm->vcpu[i].hv != NULL)
			vm->hv->vcpu_destroy(vm->vcpu[i].hv);
		vm->vcpu[i].hv = NULL;
	}
}
