/*
 * Guest programs, tests/guests/, on every backend that this machine has: each
 * checks one subject from within and says "pass" or "fail"; what it needs done
 * from outside it asks for by tests/guests/protocol.h.  And a guest whose state
 * is moved into new partitions while it runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "devhost/loader.h"
#include "hypervisor/hypervisor.h"
#include "proto/base.h"
#include "tests/guests/guest.h"
#include "tests/guests/protocol.h"
#include "tests/named_tests.h"

#define RAM_SIZE      (64ull << 20)
#define SECONDS	      20 /* a guest is stopped after that */
#define VCPUS_MAX     2u
#define GSIS	      64u
#define LATER_MAX     64u
#define LOG_MAX	      8192u
#define TEXT_MAX      16384u
#define STREAM_MAX    4096u
#define NS_PER_MS     1000000ull
#define STREAM_WANTED 100u
#define SECOND_WANTED 10u
#define MOVES_MAX     90u

struct later {
	struct rig *rig;
	pthread_t thread;
	uint64_t ms, addr;
	uint32_t data;
	bool msi;
};

/* What a guest puts out, 64 bits by 64. */
struct stream {
	uint64_t value[STREAM_MAX], low;
	unsigned n;
};

/* A machine and the test's devices in it. */
struct rig {
	const struct hv_backend *hv;
	struct hv_partition *partition;
	unsigned nvcpus;
	struct hv_vcpu *vcpu[VCPUS_MAX];
	pthread_t thread[VCPUS_MAX];
	uint8_t *ram, *extra; /* of RAM_SIZE, and SLOT_SIZE behind it */
	atomic_bool stop;
	struct hv_handler handler;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	unsigned running; /* vCPU threads */
	bool ended, broken; /* by the guest's wish, or not */
	uint32_t arg[8], log_addr, log_what, token;
	uint64_t result, sequence;
	struct hv_access log[LOG_MAX];
	unsigned nlog;
	int irqfd[GSIS], resample[GSIS], bell[BELLS];
	struct later later[LATER_MAX];
	unsigned nlater;
	char text[TEXT_MAX];
	size_t ntext;
	struct stream stream, second; /* of the processors */
	unsigned stream_stop; /* stop at that many; 0: never */
	uint32_t token_stop; /* while that one is read; 0: never */
	uint64_t stop_ms; /* stop after that; 0: never */
};

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- what the guests ask for ---- */

static uint64_t
arg(const struct rig *r, unsigned n)
{
	return r->arg[2 * n] | (uint64_t)r->arg[2 * n + 1] << 32;
}

static void *
later_main(void *ctx)
{
	struct later *l = ctx;
	const struct hv_backend *hv = l->rig->hv;
	struct timespec t = { .tv_nsec = (long)(l->ms * NS_PER_MS) };

	nanosleep(&t, NULL);
	if (l->msi) {
		hv->msi_send(l->rig->partition, l->addr, l->data);
	} else {
		/* Up and down at once, or the guest's next one is no edge. */
		pthread_mutex_lock(&l->rig->lock);
		hv->irq_set(l->rig->partition, l->data, true);
		hv->irq_set(l->rig->partition, l->data, false);
		pthread_mutex_unlock(&l->rig->lock);
	}
	return NULL;
}

static uint64_t
start_later(struct rig *r, bool msi, uint64_t addr, uint32_t data, uint64_t ms)
{
	struct later *l = &r->later[r->nlater];

	if (r->nlater == LATER_MAX || ms > 500)
		return (uint64_t)-EINVAL;
	*l = (struct later){
		.rig = r, .ms = ms, .addr = addr, .data = data, .msi = msi
	};
	if (pthread_create(&l->thread, NULL, later_main, l) != 0)
		return (uint64_t)-EAGAIN;
	r->nlater++;
	return 0;
}

static uint64_t
drain(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n = 0;

	if (fd < 0 || poll(&p, 1, timeout_ms) != 1 ||
	    read(fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

static uint64_t
do_irqfd(struct rig *r, uint32_t what, uint32_t gsi)
{
	const uint64_t one = 1;

	if (gsi >= GSIS)
		return (uint64_t)-EINVAL;
	switch (what) {
	case TEST_IRQFD_BIND:
		if (r->irqfd[gsi] < 0)
			r->irqfd[gsi] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (arg(r, 1) && r->resample[gsi] < 0)
			r->resample[gsi] =
			    eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		return (uint64_t)r->hv->irqfd_bind(r->partition, gsi,
		    r->irqfd[gsi], arg(r, 1) ? r->resample[gsi] : -1);
	case TEST_IRQFD_SIGNAL:
		return write(r->irqfd[gsi], &one, sizeof(one)) == sizeof(one)
		    ? 0
		    : (uint64_t)-errno;
	case TEST_IRQFD_RESAMPLES:
		return drain(r->resample[gsi], 2000);
	default:
		return (uint64_t)r->hv->irqfd_unbind(
		    r->partition, gsi, r->irqfd[gsi]);
	}
}

static uint64_t
do_bell(struct rig *r, bool bind)
{
	uint64_t bell = arg(r, 2), match = arg(r, 1);
	unsigned index = bell & 0xff, len = bell >> 8 & 0xff;
	enum hv_space space = bell >> 16 & 0xff ? HV_MMIO : HV_PIO;
	const uint64_t *with = bell >> 24 & 0xff ? &match : NULL;

	if (index >= BELLS)
		return (uint64_t)-EINVAL;
	if (bind) {
		r->bell[index] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		return (uint64_t)r->hv->doorbell_bind(
		    r->partition, space, arg(r, 0), len, with, r->bell[index]);
	}
	return (uint64_t)r->hv->doorbell_unbind(
	    r->partition, space, arg(r, 0), len, with, r->bell[index]);
}

static uint64_t
log_get(struct rig *r, uint64_t i)
{
	const struct hv_access *a = &r->log[i];

	if (i >= r->nlog) {
		r->log_addr = r->log_what = 0;
		return UINT64_MAX;
	}
	r->log_addr = (uint32_t)a->addr;
	r->log_what = a->size | (a->write ? LOG_WRITE : 0u) |
	    (a->space == HV_MMIO ? LOG_MMIO : 0u);
	return a->data;
}

static uint64_t
command(struct rig *r, uint32_t what)
{
	const struct hv_backend *hv = r->hv;
	struct hv_partition *p = r->partition;
	uint32_t a0 = r->arg[0], a1 = r->arg[2];

	switch (what) {
	case TEST_LOG_CLEAR:
		r->nlog = 0;
		r->sequence = 0;
		return 0;
	case TEST_LOG_COUNT:
		return r->nlog;
	case TEST_LOG_GET:
		return log_get(r, arg(r, 0));
	case TEST_IRQ_SET:
		return (uint64_t)hv->irq_set(p, a0, a1);
	case TEST_IRQ_PULSE:
		hv->irq_set(p, a0, true);
		return (uint64_t)hv->irq_set(p, a0, false);
	case TEST_IRQ_PULSE_LATER:
		return start_later(r, false, 0, a0, a1);
	case TEST_MSI_SEND:
		return (uint64_t)hv->msi_send(p, arg(r, 0), a1);
	case TEST_MSI_SEND_LATER:
		return start_later(r, true, arg(r, 0), a1, arg(r, 2));
	case TEST_MSI_ROUTE:
		return (uint64_t)hv->msi_route(p, a0, arg(r, 1), r->arg[4]);
	case TEST_IRQFD_BIND:
	case TEST_IRQFD_SIGNAL:
	case TEST_IRQFD_RESAMPLES:
	case TEST_IRQFD_UNBIND:
		return do_irqfd(r, what, a0);
	case TEST_BELL_BIND:
	case TEST_BELL_UNBIND:
		return do_bell(r, what == TEST_BELL_BIND);
	case TEST_BELL_COUNT:
		return a0 < BELLS ? drain(r->bell[a0], 0) : UINT64_MAX;
	case TEST_TIME_NS:
		return now_ns();
	case TEST_SLOT_SET:
		return a1 > 1
		    ? (uint64_t)hv->memory_set(p, a0, arg(r, 2), 0, NULL, 0)
		    : (uint64_t)hv->memory_set(p, a0, arg(r, 2), SLOT_SIZE,
			  r->extra, a1 ? HV_SLOT_READONLY : 0);
	default:
		return (uint64_t)-ENOSYS;
	}
}

static void
stop(struct rig *r)
{
	atomic_store(&r->stop, true);
	for (unsigned i = 0; i < r->nvcpus; i++)
		r->hv->vcpu_kick(r->vcpu[i]);
	pthread_cond_broadcast(&r->changed);
}

static void
stream_put(struct stream *s, uint32_t high)
{
	if (s->n < STREAM_MAX)
		s->value[s->n++] = s->low | (uint64_t)high << 32;
}

static void
port_write(struct rig *r, uint64_t port, uint32_t v)
{
	if (port == COM1) {
		if (r->ntext < TEXT_MAX - 1)
			r->text[r->ntext++] = (char)v;
	} else if (port == PM1A_CNT) {
		r->ended = true;
		stop(r);
	} else if (port >= TEST_ARG(0) && port < TEST_ARG(4)) {
		r->arg[(port - TEST_ARG(0)) / 4] = v;
	} else if (port == TEST_COMMAND) {
		r->result = command(r, v);
	} else if (port == TEST_STREAM_LO) {
		r->stream.low = v;
	} else if (port == TEST_STREAM_HI) {
		stream_put(&r->stream, v);
		if (r->stream.n == r->stream_stop)
			stop(r);
	} else if (port == TEST_SECOND_LO) {
		r->second.low = v;
	} else if (port == TEST_SECOND_HI) {
		stream_put(&r->second, v);
	}
}

static uint64_t
port_read(struct rig *r, uint64_t port)
{
	switch (port) {
	case TEST_RESULT:
		return (uint32_t)r->result;
	case TEST_RESULT + 4:
		return r->result >> 32;
	case TEST_LOG_ADDR:
		return r->log_addr;
	case TEST_LOG_WHAT:
		return r->log_what;
	case TEST_TOKEN:
		if (++r->token == r->token_stop)
			stop(r);
		return r->token;
	default:
		return UINT64_MAX;
	}
}

static bool
logged(const struct hv_access *a)
{
	return a->space == HV_PIO
	    ? a->addr >= TEST_PORTS && a->addr < TEST_PORTS_END
	    : a->addr >= TEST_MMIO && a->addr < TEST_MMIO_END;
}

static void
access_logged(struct rig *r, struct hv_access *a)
{
	if (!a->write && a->space == HV_PIO && a->addr == TEST_SEQUENCE) {
		a->data = r->sequence++;
	} else if (!a->write) {
		a->data = 0;
		for (unsigned i = 0; i < a->size; i++)
			a->data |= (uint64_t)TEST_BYTE(a->addr + i) << 8 * i;
	}
	if (r->nlog < LOG_MAX)
		r->log[r->nlog++] = *a;
}

static void
on_access(void *ctx, struct hv_access *a)
{
	struct rig *r = ctx;

	pthread_mutex_lock(&r->lock);
	if (a->size != 1 && a->size != 2 && a->size != 4 && a->size != 8) {
		r->broken = true;
		stop(r);
	}
	if (logged(a))
		access_logged(r, a);
	else if (a->space == HV_PIO && a->write)
		port_write(r, a->addr, (uint32_t)a->data);
	else if (a->space == HV_PIO)
		a->data = port_read(r, a->addr);
	else if (!a->write)
		a->data = UINT64_MAX;
	pthread_mutex_unlock(&r->lock);
}

/* ---- the machine ---- */

static struct hv_segment
flat(uint16_t selector, uint16_t attr)
{
	return (struct hv_segment){
		.limit = UINT32_MAX, .selector = selector, .attr = attr
	};
}

/* The 32-bit entry state of PVH. */
static void
entry_state(struct hv_vcpu_state *s, const struct loader_result *entry)
{
	hv_vcpu_state_reset(s, 0);
	s->rip = entry->rip;
	s->gpr[3] = entry->rbx;
	s->cs = flat(0x10, 0xc09b);
	s->ds = s->es = s->ss = flat(0x18, 0xc093);
	s->fs = s->gs = flat(0, 0xc093);
	s->ldtr = (struct hv_segment){ .unusable = 1 };
	s->tr = (struct hv_segment){ .limit = 0x67, .attr = 0x8b };
	s->gdtr.base = entry->gdt;
	s->gdtr.limit = 0x1f;
	s->cr0 = 0x11;
}

static int
load(struct rig *r, const char *guest, struct loader_result *entry)
{
	const char *build = getenv("BULKHEAD_BUILD");
	char path[512], err[200] = "";
	struct loader_input in = { .cmdline = "",
		.ram = r->ram,
		.ram_low = RAM_SIZE,
		.vcpus = r->nvcpus };
	int e;

	snprintf(path, sizeof(path), "%s/guests/%s.elf",
	    build ? build : "o/rel", guest);
	in.kernel.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (in.kernel.fd < 0) {
		printf("\n    %s: %s\n", path, strerror(errno));
		return -errno;
	}
	in.kernel.size = (uint64_t)lseek(in.kernel.fd, 0, SEEK_END);
	e = loader_load(&in, entry, err, sizeof(err));
	if (e < 0)
		printf("\n    %s: %s\n", path, err);
	close(in.kernel.fd);
	return e;
}

static void
rig_destroy(struct rig *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < r->nlater; i++)
		pthread_join(r->later[i].thread, NULL);
	for (unsigned i = 0; i < VCPUS_MAX; i++)
		if (r->vcpu[i])
			r->hv->vcpu_destroy(r->vcpu[i]);
	if (r->partition)
		r->hv->partition_destroy(r->partition);
	for (unsigned i = 0; i < GSIS; i++) {
		if (r->irqfd[i] >= 0)
			close(r->irqfd[i]);
		if (r->resample[i] >= 0)
			close(r->resample[i]);
	}
	for (unsigned i = 0; i < BELLS; i++)
		if (r->bell[i] >= 0)
			close(r->bell[i]);
	if (r->ram)
		munmap(r->ram, RAM_SIZE + SLOT_SIZE);
	free(r);
}

/* A machine with empty RAM; NULL, with a line, if that fails. */
static struct rig *
rig_create(const struct hv_backend *hv, unsigned nvcpus)
{
	const struct hv_config config = { .vcpus = nvcpus };
	struct rig *r = calloc(1, sizeof(*r));
	void *ram;
	int e;

	if (!r)
		return NULL;
	r->hv = hv;
	r->nvcpus = nvcpus;
	r->handler = (struct hv_handler){ .access = on_access, .ctx = r };
	memset(r->irqfd, 0xff, sizeof(r->irqfd));
	memset(r->resample, 0xff, sizeof(r->resample));
	memset(r->bell, 0xff, sizeof(r->bell));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	ram = mmap(NULL, RAM_SIZE + SLOT_SIZE, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r->ram = ram == MAP_FAILED ? NULL : ram;
	r->extra = r->ram ? r->ram + RAM_SIZE : NULL;
	e = r->ram ? hv->partition_create(&config, &r->partition) : -ENOMEM;
	if (e == 0)
		e = hv->memory_set(r->partition, 0, 0, RAM_SIZE, r->ram, 0);
	for (unsigned i = 0; e == 0 && i < nvcpus; i++)
		e = hv->vcpu_create(r->partition, i, &r->vcpu[i]);
	if (e == 0)
		return r;
	printf(
	    "\n    %s: cannot create a machine: %s\n", hv->name, strerror(-e));
	rig_destroy(r);
	return NULL;
}

/* The same, with that guest about to start. */
static struct rig *
rig_load(const struct hv_backend *hv, const char *guest, unsigned nvcpus)
{
	static struct hv_vcpu_state state;
	struct rig *r = rig_create(hv, nvcpus);
	struct loader_result entry = { 0 };
	int e;

	if (!r)
		return NULL;
	e = load(r, guest, &entry);
	if (e == 0) {
		entry_state(&state, &entry);
		e = hv->vcpu_set(r->vcpu[0], &state);
		if (e < 0)
			printf("\n    vcpu_set: %s\n", strerror(-e));
	}
	if (e == 0)
		return r;
	rig_destroy(r);
	return NULL;
}

struct vcpu_arg {
	struct rig *rig;
	unsigned index;
};

static void *
vcpu_main(void *ctx)
{
	const struct vcpu_arg *a = ctx;
	struct rig *r = a->rig;
	struct hv_vcpu *v = r->vcpu[a->index];
	enum hv_stop why = HV_STOP_KICKED;

	while (why == HV_STOP_KICKED && !atomic_load(&r->stop))
		why = r->hv->vcpu_run(v, &r->handler);
	pthread_mutex_lock(&r->lock);
	if (why != HV_STOP_KICKED) {
		printf("\n    vCPU %u: %s\n", a->index,
		    why == HV_STOP_SHUTDOWN ? "triple fault"
					    : r->hv->vcpu_error(v));
		r->broken = true;
	}
	r->running--;
	stop(r);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static void
wait_changed(struct rig *r, uint64_t ms)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += (long)(ms % 1000 * NS_PER_MS);
	t.tv_sec += (time_t)(ms / 1000) + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&r->changed, &r->lock, &t);
}

/* Run the vCPUs until the guest ends, or r->stop; false: it took too long. */
static bool
rig_run(struct rig *r)
{
	struct vcpu_arg args[VCPUS_MAX];
	uint64_t ms = r->stop_ms ? r->stop_ms : SECONDS * 1000;
	uint64_t end = now_ns() + ms * NS_PER_MS, late;
	bool in_time;

	atomic_store(&r->stop, false);
	r->running = r->nvcpus;
	for (unsigned i = 0; i < r->nvcpus; i++) {
		args[i] = (struct vcpu_arg){ r, i };
		if (pthread_create(&r->thread[i], NULL, vcpu_main, &args[i]))
			abort();
	}
	pthread_mutex_lock(&r->lock);
	while (!atomic_load(&r->stop) && now_ns() < end)
		wait_changed(r, r->stop_ms ? 1 : 1000);
	in_time = r->stop_ms || atomic_load(&r->stop);
	atomic_store(&r->stop, true);
	late = now_ns() + SECONDS * 1000 * NS_PER_MS;
	/* A kick may come before the thread is in vcpu_run() at all. */
	while (r->running > 0 && now_ns() < late) {
		for (unsigned i = 0; i < r->nvcpus; i++)
			r->hv->vcpu_kick(r->vcpu[i]);
		wait_changed(r, 20);
	}
	if (r->running > 0) {
		printf("\n    a kick does not stop the vCPU\n");
		fflush(stdout);
		_exit(1);
	}
	pthread_mutex_unlock(&r->lock);
	for (unsigned i = 0; i < r->nvcpus; i++)
		pthread_join(r->thread[i], NULL);
	return in_time;
}

/* ---- the tests ---- */

static const struct {
	const char *name;
	unsigned vcpus;
	bool greets; /* checks nothing, prints one line */
} guests[] = {
	{ "hello", 1, true },
	{ "access", 1, false },
	{ "string_io", 1, false },
	{ "slots", 1, false },
	{ "doorbells", 1, false },
	{ "pic", 1, false },
	{ "ioapic", 1, false },
	{ "messages", 1, false },
	{ "irqfd", 1, false },
	{ "timers", 1, false },
	{ "halt", 1, false },
	{ "processors", 2, false },
	{ "faults", 1, false },
	{ "rings", 1, false },
	{ "paging", 1, false },
	{ "breakpoints", 1, false },
};

static const struct hv_backend *
backend_of(const char *test_name)
{
	for (unsigned n = 0; hv_backends[n]; n++) {
		size_t length = strlen(hv_backends[n]->name);

		if (strncmp(test_name, hv_backends[n]->name, length) == 0 &&
		    test_name[length] == '_')
			return hv_backends[n];
	}
	return NULL;
}

/* Count the lines that begin so; print those that fail. */
static unsigned
lines(const struct rig *r, const char *word)
{
	unsigned n = 0;
	size_t length = strlen(word);

	for (const char *at = r->text; *at;) {
		size_t end = strcspn(at, "\n");

		if (strncmp(at, word, length) == 0) {
			n++;
			if (strcmp(word, "pass") != 0)
				printf("\n    %.*s", (int)end, at);
		}
		at += end + (at[end] != '\0');
	}
	return n;
}

static void
print_last_lines(const struct rig *r)
{
	size_t from = r->ntext > 300 ? r->ntext - 300 : 0;

	printf("\n    the guest did not end; the last it said:\n%s\n",
	    r->text + from);
}

static void
guest_passes(void)
{
	const char *name = CU_get_current_test()->pName;
	const struct hv_backend *hv = backend_of(name);
	const char *guest = name + strlen(hv->name) + 1;
	struct rig *r;
	unsigned g = 0;

	while (strcmp(guests[g].name, guest) != 0)
		g++;
	r = rig_load(hv, guest, guests[g].vcpus);
	CU_ASSERT_PTR_NOT_NULL(r);
	if (!r)
		return;
	CU_ASSERT_TRUE(rig_run(r));
	CU_ASSERT_FALSE(r->broken);
	CU_ASSERT_TRUE(r->ended);
	if (!r->ended)
		print_last_lines(r);
	CU_ASSERT_EQUAL(lines(r, "fail"), 0);
	/* Ours has everything. */
	CU_ASSERT_TRUE(lines(r, "skip") == 0 || hv != &hv_soft);
	CU_ASSERT_NOT_EQUAL(lines(r, guests[g].greets ? "hello" : "pass"), 0);
	rig_destroy(r);
}

/* ---- saved state ---- */

/* A new machine that goes on where the old one, which is destroyed, was. */
static struct rig *
rig_move(struct rig *old)
{
	static struct hv_vcpu_state state[VCPUS_MAX];
	static uint8_t rest[HV_PARTITION_STATE_MAX];
	const struct hv_backend *hv = old->hv;
	struct rig *r = NULL;
	int size, e = 0;

	for (unsigned i = 0; e == 0 && i < old->nvcpus; i++)
		e = hv->vcpu_get(old->vcpu[i], &state[i]);
	CU_ASSERT_EQUAL(e, 0);
	size = hv->partition_get(old->partition, rest, sizeof(rest));
	CU_ASSERT_TRUE(size > 0);
	if (e == 0 && size > 0)
		r = rig_create(hv, old->nvcpus);
	if (r) {
		memcpy(r->ram, old->ram, RAM_SIZE);
		r->stream = old->stream;
		r->second = old->second;
		memcpy(r->arg, old->arg, sizeof(r->arg));
		r->token = old->token;
		memcpy(r->text, old->text, sizeof(r->text));
		r->ntext = old->ntext;
		e = hv->partition_set(r->partition, rest, (size_t)size);
		for (unsigned i = 0; e == 0 && i < r->nvcpus; i++)
			e = hv->vcpu_set(r->vcpu[i], &state[i]);
		CU_ASSERT_EQUAL(e, 0);
	}
	rig_destroy(old);
	return r;
}

/* The stream of tests/guests/counting.c. */
static unsigned
check_stream(const struct rig *r)
{
	uint64_t x = 1, y = 0;
	unsigned bad = 0;

	for (unsigned n = 0; n < r->stream.n; n++) {
		for (unsigned i = 0; i < STREAM_ROUNDS; i++) {
			STREAM_STEP(x);
			y += x;
		}
		x ^= n + 1; /* the token */
		if (r->stream.value[n] != (x ^ y) && bad++ == 0)
			printf("\n    value %u of %u: 0x%llx, want 0x%llx\n", n,
			    r->stream.n, (unsigned long long)r->stream.value[n],
			    (unsigned long long)(x ^ y));
	}
	return bad;
}

static unsigned
check_second(const struct rig *r)
{
	uint64_t x = 2;
	unsigned bad = 0;

	for (unsigned n = 0; n < r->second.n; n++) {
		for (unsigned i = 0; i < SECOND_ROUNDS; i++)
			STREAM_STEP(x);
		bad += r->second.value[n] != x;
	}
	return bad;
}

/*
 * Move the guest in turn when it has just written a value; when a millisecond
 * or more has passed, wherever it is then; and in the middle of a read.
 */
static void
state_moves(void)
{
	const struct hv_backend *hv = backend_of(CU_get_current_test()->pName);
	struct rig *r = rig_load(hv, "counting", 2);
	unsigned moves = 0;

	CU_ASSERT_PTR_NOT_NULL(r);
	while (r && r->stream.n < STREAM_WANTED && moves < MOVES_MAX) {
		r->stop_ms = moves % 3 == 1 ? 1 + moves % 7 : 0;
		r->stream_stop = moves % 3 == 0 ? r->stream.n + 7 : 0;
		r->token_stop = moves % 3 == 2 ? r->token + 5 : 0;
		CU_ASSERT_TRUE(rig_run(r));
		CU_ASSERT_FALSE(r->broken);
		CU_ASSERT_EQUAL(lines(r, "fail"), 0);
		if (r->broken || r->stream.n < r->stream_stop)
			break;
		r = rig_move(r);
		CU_ASSERT_PTR_NOT_NULL(r);
		moves++;
	}
	if (!r)
		return;
	CU_ASSERT_TRUE(r->stream.n >= STREAM_WANTED);
	CU_ASSERT_EQUAL(check_stream(r), 0);
	CU_ASSERT_TRUE(r->second.n >= SECOND_WANTED);
	CU_ASSERT_EQUAL(check_second(r), 0);
	if (r->stream.n < STREAM_WANTED)
		print_last_lines(r);
	rig_destroy(r);
}

/* Can the backend make a machine here?  If not, say why not. */
static bool
usable(const struct hv_backend *hv)
{
	const struct hv_config config = { .vcpus = 1 };
	struct hv_partition *p = NULL;
	int e = hv->partition_create(&config, &p);

	if (e < 0) {
		printf("%s is skipped: %s\n", hv->name, strerror(-e));
		return false;
	}
	hv->partition_destroy(p);
	return true;
}

int
main(int argc, char **argv)
{
	static struct named_test tests[2 * (ARRAY_LEN(guests) + 1)];
	static char names[ARRAY_LEN(tests)][40];
	size_t n = 0;

	for (unsigned b = 0; b < 2 && hv_backends[b]; b++) {
		if (!usable(hv_backends[b]))
			continue;
		for (size_t g = 0; g <= ARRAY_LEN(guests); g++) {
			bool last = g == ARRAY_LEN(guests);

			snprintf(names[n], sizeof(names[n]), "%s_%s",
			    hv_backends[b]->name,
			    last ? "state_moves" : guests[g].name);
			/* A name, or the beginning of one, may be given. */
			if (argc > 1 &&
			    strncmp(names[n], argv[1], strlen(argv[1])) != 0)
				continue;
			tests[n].name = names[n];
			tests[n].run = last ? state_moves : guest_passes;
			n++;
		}
	}
	if (n == 0) {
		printf("no backend can make a machine here\n");
		return 77;
	}
	return named_tests_run("guests", tests, n);
}
