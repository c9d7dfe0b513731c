/*
 * How long it takes from a guest's doorbell to the device that sleeps on it,
 * and from a device's interrupt to a guest that sleeps in HLT.
 *
 *	bench_wake BACKEND
 *
 * Prints p50, p99 in nanoseconds.  Exits 77 where the backend cannot run.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "hypervisor/hypervisor.h"
#include "proto/base.h"

#define ROUNDS	   2000u
#define RAM_BYTES  (1u << 20)
#define ENTRY	   0x1000u
#define HANDLER	   0x1100u
#define STACK	   0x8000u
#define VECTOR	   0x30u
#define MSI_GSI	   24u
#define APIC_BASE  0xfee00000u
#define PORT_BELL  0x500u
#define PORT_READY 0x501u /* the guest is about to ring */
#define PORT_TAKEN 0x502u /* the guest has the interrupt */
#define PAUSE_NS   100000 /* for the other side to fall asleep */

struct bench {
	const struct hv_backend *hv;
	struct hv_partition *partition;
	struct hv_vcpu *vcpu;
	uint8_t *ram;
	int fd;
	sem_t woken;
	_Atomic uint64_t rung_ns, taken_ns;
	_Atomic bool done;
	uint64_t took[ROUNDS];
};

/* 16-bit code; DS is the local APIC's page. */
static const uint8_t ringing[] = {
	0xba, 0x01, 0x05, /* mov dx, PORT_READY */
	0xee, /* out dx, al */
	0xba, 0x00, 0x05, /* mov dx, PORT_BELL */
	0xee, /* out dx, al */
	0xeb, 0xf6, /* jmp ringing */
};
static const uint8_t halting[] = {
	0x66, 0xc7, 0x06, 0xf0, 0x00, 0xff, 0x01, 0x00, 0x00, /* SVR: on */
	0xfb, /* sti */
	0xf4, /* hlt */
	0xeb, 0xfd, /* jmp to hlt */
};
static const uint8_t taking[] = {
	0xba, 0x02, 0x05, /* mov dx, PORT_TAKEN */
	0xee, /* out dx, al */
	0x66, 0xc7, 0x06, 0xb0, 0x00, 0x00, 0x00, 0x00, 0x00, /* EOI */
	0xcf, /* iret */
};

static void
pause_ns(long ns)
{
	const struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

static void
on_access(void *ctx, struct hv_access *a)
{
	struct bench *b = ctx;

	if (!a->write) {
		a->data = UINT64_MAX;
	} else if (a->addr == PORT_TAKEN) {
		b->taken_ns = time_now_ns();
		sem_post(&b->woken);
	} else if (a->addr == PORT_READY) {
		sem_wait(&b->woken);
		pause_ns(PAUSE_NS);
		b->rung_ns = time_now_ns();
	}
}

static void *
run_vcpu(void *ctx)
{
	struct bench *b = ctx;
	const struct hv_handler handler = { .access = on_access, .ctx = b };

	while (!b->done) {
		if (b->hv->vcpu_run(b->vcpu, &handler) == HV_STOP_KICKED)
			continue;
		fprintf(stderr, "bench_wake: the guest ended: %s\n",
		    b->hv->vcpu_error(b->vcpu));
		exit(1);
	}
	return NULL;
}

static void
check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench_wake: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void
make_guest(struct bench *b, const uint8_t *code, size_t n)
{
	const uint8_t entry[] = { HANDLER & 0xff, HANDLER >> 8, 0, 0 };
	const struct hv_config config = { .vcpus = 1 };
	struct hv_vcpu_state state;

	check(b->hv->partition_create(&config, &b->partition), "partition");
	b->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(b->ram == MAP_FAILED ? -ENOMEM : 0, "memory");
	memcpy(b->ram + ENTRY, code, n);
	memcpy(b->ram + HANDLER, taking, sizeof(taking));
	memcpy(b->ram + VECTOR * 4, entry, sizeof(entry));
	check(b->hv->memory_set(b->partition, 0, 0, RAM_BYTES, b->ram, 0),
	    "memory slot");
	check(b->hv->vcpu_create(b->partition, 0, &b->vcpu), "vCPU");
	hv_vcpu_state_reset(&state, 0);
	state.cs.base = 0;
	state.cs.selector = 0;
	state.ds.base = APIC_BASE;
	state.rip = ENTRY;
	state.gpr[4] = STACK;
	check(b->hv->vcpu_set(b->vcpu, &state), "state");
	b->fd = eventfd(0, EFD_CLOEXEC);
	check(b->fd < 0 ? -errno : 0, "eventfd");
	sem_init(&b->woken, 0, 0);
}

static int
compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
report(struct bench *b, const char *what)
{
	qsort(b->took, ROUNDS, sizeof(b->took[0]), compare);
	printf("wake %s p50_ns %llu p99_ns %llu\n", what,
	    (unsigned long long)b->took[ROUNDS / 2],
	    (unsigned long long)b->took[ROUNDS * 99 / 100]);
	fflush(stdout);
}

/* The vCPU may be on its way into the guest when it is kicked first. */
static void
stop(struct bench *b, pthread_t thread)
{
	struct timespec ts;

	b->done = true;
	sem_post(&b->woken);
	do {
		b->hv->vcpu_kick(b->vcpu);
		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_sec++;
	} while (pthread_timedjoin_np(thread, NULL, &ts) != 0);
	b->hv->vcpu_destroy(b->vcpu);
	b->hv->partition_destroy(b->partition);
	munmap(b->ram, RAM_BYTES);
	close(b->fd);
	sem_destroy(&b->woken);
}

static void
bench_doorbell(const struct hv_backend *hv)
{
	static struct bench b;
	pthread_t thread;
	eventfd_t value;

	b.hv = hv;
	make_guest(&b, ringing, sizeof(ringing));
	check(hv->doorbell_bind(b.partition, HV_PIO, PORT_BELL, 1, NULL, b.fd),
	    "doorbell");
	check(-pthread_create(&thread, NULL, run_vcpu, &b), "thread");
	for (unsigned i = 0; i < ROUNDS; i++) {
		sem_post(&b.woken);
		if (eventfd_read(b.fd, &value) < 0)
			check(-errno, "doorbell's eventfd");
		b.took[i] = time_now_ns() - b.rung_ns;
	}
	report(&b, "doorbell");
	stop(&b, thread);
}

static void
bench_interrupt(const struct hv_backend *hv)
{
	static struct bench b;
	pthread_t thread;

	b.hv = hv;
	make_guest(&b, halting, sizeof(halting));
	check(hv->msi_route(b.partition, MSI_GSI, APIC_BASE, VECTOR), "route");
	check(hv->irqfd_bind(b.partition, MSI_GSI, b.fd, -1), "irqfd");
	check(-pthread_create(&thread, NULL, run_vcpu, &b), "thread");
	/* It starts up, and turns its APIC on. */
	pause_ns(100000000);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t start;

		pause_ns(PAUSE_NS);
		start = time_now_ns();
		if (eventfd_write(b.fd, 1) < 0)
			check(-errno, "interrupt's eventfd");
		sem_wait(&b.woken);
		b.took[i] = b.taken_ns - start;
	}
	report(&b, "interrupt");
	stop(&b, thread);
}

int
main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "soft";
	char why[256] = "";
	const struct hv_backend *hv = hv_find(name, why, sizeof(why));

	if (hv == NULL) {
		fprintf(stderr, "bench_wake: %s: %s\n", name, why);
		return 77;
	}
	bench_doorbell(hv);
	bench_interrupt(hv);
	return 0;
}
