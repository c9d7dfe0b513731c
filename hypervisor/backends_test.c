/*
 * Guest programs on every hypervisor backend that exists here, by
 * hypervisor.h alone: no devices, no processes.  The machine that they find is
 * below (see tests/guests/check.h), and a few actions that each asks for.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hypervisor/hypervisor.h"
#include "proto/base.h"
#include "tests/named_tests.h"

#define RAM_SIZE     (16u << 20)
#define CPUS_MAX     2u
#define TIMEOUT_S    30
#define NOTE_PHYS32  18u

#define PORT_FAIL    0xf0
#define PORT_END     0xf1
#define PORT_ACT     0xf2
#define PORT_SCRATCH 0x100
#define PORT_SIZE    0x120
#define PORT_FIFO    0x130
#define PORT_SUM     0x140
#define PORT_TIME    0x150
#define MMIO_BASE    0xd0000000u
#define ROM_BASE     0xd0010000u
#define SLOT_BASE    0xd0020000u
#define BELL_BASE    0xd0030000u
#define MAIL_BASE    0x8f000u
#define MSI_BASE     0xfee00000u

struct world;
typedef void action_fn(struct world *w, uint32_t n);

struct program {
	const char *name;
	unsigned cpus;
	action_fn *act;
	unsigned moves; /* how often the machine is moved while it runs */
};

struct cpu_thread {
	struct world *w;
	pthread_t thread;
	unsigned index;
};

struct world {
	const struct hv_backend *hv;
	const struct program *program;
	struct hv_partition *p;
	struct hv_vcpu *vcpu[CPUS_MAX];
	struct cpu_thread thread[CPUS_MAX];
	struct hv_handler handler;
	uint8_t *ram, *rom, *slot;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool ended, move_now, leave; /* leave: vCPU threads return */
	unsigned failures;

	uint8_t scratch[16], mmio[4096];
	unsigned last_size;
	uint32_t fifo, sum;
	int irqfd, resample, msifd, bell[4];
	pthread_t device; /* the one behind the resampling irqfd */
	bool has_device, device_wants;
	uint32_t bells_seen[4], bell_accesses;
};

static void
fail(struct world *w, const char *what, uint64_t where)
{
	w->failures++;
	printf("    %s on %s: %s %llu\n", w->program->name, w->hv->name, what,
	    (unsigned long long)where);
}

/* ---- the machine ---- */

static uint64_t
from_bytes(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static void
end(struct world *w)
{
	w->ended = true;
	pthread_cond_signal(&w->cond);
}

static bool
port_is(const struct hv_access *a, uint64_t port)
{
	return a->space == HV_PIO && a->addr == port;
}

static void
plain_memory(struct world *w, struct hv_access *a, uint8_t *bytes, uint64_t at)
{
	w->last_size = a->size;
	if (a->write)
		memcpy(bytes + at, &a->data, a->size);
	else
		a->data = from_bytes(bytes + at, a->size);
}

static void
control_port(struct world *w, struct hv_access *a)
{
	switch (a->addr) {
	case PORT_FAIL:
		fail(w, "a check failed in line", a->data);
		break;
	case PORT_END:
		end(w);
		break;
	case PORT_ACT:
		w->program->act(w, (uint32_t)a->data);
		break;
	default:
		break;
	}
}

static void
read_port(struct world *w, struct hv_access *a)
{
	if (port_is(a, PORT_SIZE)) {
		a->data = w->last_size;
	} else if (port_is(a, PORT_FIFO)) {
		a->data = ++w->fifo;
	} else if (port_is(a, PORT_FIFO + 1)) {
		/* Kicked in the middle of the access: it must be complete
		 * before the state is taken. */
		a->data = 0xfeedbeef;
		w->move_now = true;
		w->hv->vcpu_kick(w->vcpu[0]);
		pthread_cond_signal(&w->cond);
	} else if (port_is(a, PORT_TIME)) {
		a->data = time_now_ns() / 1000;
	} else if (port_is(a, PORT_SUM)) {
		a->data = w->sum;
		w->sum = 0;
	} else {
		a->data = UINT64_MAX;
	}
}

static void
access_handle(void *ctx, struct hv_access *a)
{
	struct world *w = ctx;

	pthread_mutex_lock(&w->lock);
	if (a->space == HV_PIO && a->addr >= PORT_SCRATCH &&
	    a->addr + a->size <= PORT_SCRATCH + sizeof(w->scratch))
		plain_memory(w, a, w->scratch, a->addr - PORT_SCRATCH);
	else if (a->space == HV_MMIO && a->addr - MMIO_BASE < sizeof(w->mmio))
		plain_memory(w, a, w->mmio, a->addr - MMIO_BASE);
	else if (a->space == HV_MMIO && a->write && a->addr - ROM_BASE < 4096)
		plain_memory(w, a, w->mmio, a->addr - ROM_BASE);
	else if (!a->write)
		read_port(w, a);
	else if (port_is(a, PORT_FIFO))
		w->sum += (uint32_t)a->data;
	else if (a->addr - BELL_BASE < 4096)
		w->bell_accesses++;
	else if (a->space == HV_PIO)
		control_port(w, a);
	pthread_mutex_unlock(&w->lock);
}

/* ---- actions ---- */

static void
must(struct world *w, const char *what, int err)
{
	if (err)
		fail(w, what, (uint64_t)-err);
}

static void
act_none(struct world *w, uint32_t n)
{
	fail(w, "no such action", n);
}

static void
act_access(struct world *w, uint32_t n)
{
	must(w, "memory_set fails with",
	    w->hv->memory_set(w->p, 2, SLOT_BASE, n == 1 ? 4096 : 0,
		n == 1 ? w->slot : NULL, 0));
}

static void
pulse(struct world *w, unsigned gsi)
{
	must(w, "irq_set fails with", w->hv->irq_set(w->p, gsi, true));
	must(w, "irq_set fails with", w->hv->irq_set(w->p, gsi, false));
}

static void
ring(struct world *w, int fd)
{
	must(w, "eventfd_write fails", eventfd_write(fd, 1) < 0 ? -errno : 0);
}

/* A device with a level interrupt: raises it again whenever the guest has
 * ended it, for as long as it wants something. */
static void *
device_loop(void *arg)
{
	struct world *w = arg;
	eventfd_t value;

	while (eventfd_read(w->resample, &value) == 0) {
		bool wants;

		pthread_mutex_lock(&w->lock);
		wants = w->device_wants;
		pthread_mutex_unlock(&w->lock);
		if (value > 1000000)
			break;
		if (wants)
			eventfd_write(w->irqfd, 1);
	}
	return NULL;
}

static void
level_device_start(struct world *w)
{
	w->irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->resample = eventfd(0, EFD_CLOEXEC);
	must(w, "irqfd_bind with resampling fails with",
	    w->hv->irqfd_bind(w->p, 10, w->irqfd, w->resample));
	w->device_wants = true;
	pthread_create(&w->device, NULL, device_loop, w);
	w->has_device = true;
	ring(w, w->irqfd);
}

static void
act_irq(struct world *w, uint32_t n)
{
	switch (n) {
	case 1:
		pulse(w, 5);
		break;
	case 2:
		pulse(w, 11);
		break;
	case 3:
		must(w, "msi_send fails with",
		    w->hv->msi_send(w->p, MSI_BASE, 0x61));
		break;
	case 4:
		if (w->msifd < 0) {
			w->msifd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			must(w, "msi_route fails with",
			    w->hv->msi_route(w->p, 40, MSI_BASE, 0x62));
			must(w, "irqfd_bind fails with",
			    w->hv->irqfd_bind(w->p, 40, w->msifd, -1));
		}
		ring(w, w->msifd);
		break;
	case 5:
		must(w, "irq_set fails with", w->hv->irq_set(w->p, 20, true));
		break;
	case 6: /* both level interrupts go away */
		must(w, "irq_set fails with", w->hv->irq_set(w->p, 20, false));
		w->device_wants = false;
		break;
	case 7:
		if (w->irqfd < 0) {
			w->irqfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			must(w, "irqfd_bind fails with",
			    w->hv->irqfd_bind(w->p, 6, w->irqfd, -1));
		}
		ring(w, w->irqfd);
		break;
	case 8:
		must(w, "irqfd_unbind fails with",
		    w->hv->irqfd_unbind(w->p, 6, w->irqfd));
		close(w->irqfd);
		level_device_start(w);
		break;
	case 9:
		must(w, "msi_send fails with",
		    w->hv->msi_send(w->p, MSI_BASE, 0x400));
		break;
	default:
		act_none(w, n);
	}
}

static const uint64_t bell_match = 3;

static const struct {
	enum hv_space space;
	uint64_t addr;
	unsigned len;
	const uint64_t *match;
	uint32_t rings; /* how often the guest rings it */
} bells[4] = {
	{ HV_MMIO, BELL_BASE, 0, NULL, 3 },
	{ HV_MMIO, BELL_BASE + 8, 4, NULL, 1 },
	{ HV_MMIO, BELL_BASE + 16, 2, &bell_match, 2 },
	{ HV_PIO, 0x160, 2, NULL, 2 },
};

static void
bells_bind(struct world *w)
{
	for (unsigned n = 0; n < ARRAY_LEN(bells); n++) {
		w->bell[n] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		must(w, "doorbell_bind fails with",
		    w->hv->doorbell_bind(w->p, bells[n].space, bells[n].addr,
			bells[n].len, bells[n].match, w->bell[n]));
	}
}

static void
act_bell(struct world *w, uint32_t n)
{
	if (n == 1) {
		if (w->bell_accesses != 2)
			fail(w, "accesses beside the bells:", w->bell_accesses);
		must(w, "doorbell_unbind fails with",
		    w->hv->doorbell_unbind(w->p, bells[1].space, bells[1].addr,
			bells[1].len, bells[1].match, w->bell[1]));
		return;
	}
	if (w->bell_accesses != 3)
		fail(w, "accesses beside the bells:", w->bell_accesses);
	for (unsigned b = 0; b < ARRAY_LEN(bells); b++) {
		eventfd_t value = 0;

		eventfd_read(w->bell[b], &value);
		if (value != bells[b].rings)
			fail(w, "bell rang", value);
	}
}

/* ---- running ---- */

static void *
cpu_loop(void *arg)
{
	struct cpu_thread *t = arg;
	struct world *w = t->w;
	struct hv_vcpu *v = w->vcpu[t->index];

	for (;;) {
		enum hv_stop stop = w->hv->vcpu_run(v, &w->handler);
		bool leave;

		pthread_mutex_lock(&w->lock);
		if (stop == HV_STOP_SHUTDOWN) {
			fail(w, "triple fault of processor", t->index);
		} else if (stop == HV_STOP_ERROR) {
			fail(w, w->hv->vcpu_error(v), t->index);
		}
		if (stop != HV_STOP_KICKED)
			end(w);
		leave = w->leave || stop != HV_STOP_KICKED;
		pthread_mutex_unlock(&w->lock);
		if (leave)
			return NULL;
	}
}

static void
cpus_start(struct world *w)
{
	w->leave = false;
	for (unsigned n = 0; n < w->program->cpus; n++) {
		w->thread[n].w = w;
		w->thread[n].index = n;
		pthread_create(
		    &w->thread[n].thread, NULL, cpu_loop, &w->thread[n]);
	}
}

static void
cpus_stop(struct world *w)
{
	pthread_mutex_lock(&w->lock);
	w->leave = true;
	pthread_mutex_unlock(&w->lock);
	for (unsigned n = 0; n < w->program->cpus; n++) {
		w->hv->vcpu_kick(w->vcpu[n]);
		pthread_join(w->thread[n].thread, NULL);
	}
}

static int
partition_make(struct world *w)
{
	const struct hv_config config = { .vcpus = w->program->cpus };
	int err = w->hv->partition_create(&config, &w->p);

	if (err)
		return err;
	err = w->hv->memory_set(w->p, 0, 0, RAM_SIZE, w->ram, 0);
	if (!err)
		err = w->hv->memory_set(
		    w->p, 1, ROM_BASE, 4096, w->rom, HV_SLOT_READONLY);
	for (unsigned n = 0; n < w->program->cpus && !err; n++)
		err = w->hv->vcpu_create(w->p, n, &w->vcpu[n]);
	return err;
}

static void
partition_drop(struct world *w)
{
	for (unsigned n = 0; n < w->program->cpus; n++)
		if (w->vcpu[n])
			w->hv->vcpu_destroy(w->vcpu[n]);
	if (w->p)
		w->hv->partition_destroy(w->p);
	w->p = NULL;
	memset(w->vcpu, 0, sizeof(w->vcpu));
}

/* Into a new partition, with all that hypervisor.h says a machine is. */
static void
move(struct world *w)
{
	static struct hv_vcpu_state state[CPUS_MAX];
	static uint8_t chips[HV_PARTITION_STATE_MAX];
	int size;

	cpus_stop(w);
	for (unsigned n = 0; n < w->program->cpus; n++)
		must(w, "vcpu_get fails with",
		    w->hv->vcpu_get(w->vcpu[n], &state[n]));
	size = w->hv->partition_get(w->p, chips, sizeof(chips));
	if (size < 0)
		must(w, "partition_get fails with", size);
	partition_drop(w);
	must(w, "the new partition fails with", partition_make(w));
	must(w, "partition_set fails with",
	    w->hv->partition_set(w->p, chips, (size_t)MAX(size, 0)));
	for (unsigned n = 0; n < w->program->cpus; n++)
		must(w, "vcpu_set fails with",
		    w->hv->vcpu_set(w->vcpu[n], &state[n]));
	++*(volatile uint32_t *)(void *)(w->ram + MAIL_BASE);
	cpus_start(w);
}

static bool
wait_until(struct world *w, bool *what, unsigned ms)
{
	struct timespec ts;
	int err = 0;
	bool done;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	pthread_mutex_lock(&w->lock);
	while (!*what && !w->ended && err == 0)
		err = pthread_cond_timedwait(&w->cond, &w->lock, &ts);
	done = *what;
	pthread_mutex_unlock(&w->lock);
	return done;
}

static void
watch(struct world *w)
{
	if (w->program->moves && wait_until(w, &w->move_now, 1000 * TIMEOUT_S))
		move(w);
	for (unsigned n = 1; n < w->program->moves && !w->ended; n++) {
		wait_until(w, &w->ended, 7 * n);
		if (!w->ended)
			move(w);
	}
	if (!wait_until(w, &w->ended, 1000 * TIMEOUT_S))
		fail(w, "no end within seconds:", TIMEOUT_S);
}

/* ---- loading ---- */

static bool
image_load(struct world *w, const uint8_t *file, size_t size, uint64_t *entry)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (size < sizeof(eh))
		return false;
	memcpy(&eh, file, sizeof(eh));
	for (unsigned n = 0; n < eh.e_phnum; n++) {
		memcpy(&ph, file + eh.e_phoff + n * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_LOAD) {
			if (ph.p_paddr + ph.p_memsz > RAM_SIZE)
				return false;
			memcpy(w->ram + ph.p_paddr, file + ph.p_offset,
			    ph.p_filesz);
		} else if (ph.p_type == PT_NOTE) {
			uint32_t note[5];

			/* Ours is the only one: sizes, type, "Xen", entry. */
			memcpy(note, file + ph.p_offset, sizeof(note));
			if (note[2] != NOTE_PHYS32)
				return false;
			*entry = note[4];
		}
	}
	return *entry != 0;
}

static bool
program_load(struct world *w, uint64_t *entry)
{
	char path[256];
	const char *slash;
	char self[200];
	struct stat st;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	bool ok = false;
	void *file;
	int fd;

	if (n < 0)
		return false;
	self[n] = '\0';
	/* o/MODE/hypervisor/backends_test: programs are in o/MODE/guests. */
	slash = strstr(self, "/hypervisor/backends_test");
	if (!slash)
		return false;
	snprintf(path, sizeof(path), "%.*s/guests/%s.elf", (int)(slash - self),
	    self, w->program->name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (file == MAP_FAILED)
		return false;
	*entry = 0;
	ok = image_load(w, file, (size_t)st.st_size, entry);
	munmap(file, (size_t)st.st_size);
	return ok;
}

/* PVH's 32-bit protected mode; the other processors wait for INIT. */
static void
entry_set(struct world *w, uint64_t entry)
{
	static struct hv_vcpu_state s;
	const struct hv_segment data = { .limit = UINT32_MAX, .attr = 0xc093 };

	hv_vcpu_state_reset(&s, 0);
	s.rip = entry;
	s.cr0 = 0x31;
	s.cs = (struct hv_segment){ .limit = UINT32_MAX, .attr = 0xc09b };
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.tr.limit = 0x67;
	must(w, "vcpu_set fails with", w->hv->vcpu_set(w->vcpu[0], &s));
}

static uint8_t *
memory_get(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	BUG_ON(p == MAP_FAILED);
	return p;
}

static void
world_end(struct world *w)
{
	if (w->has_device) {
		eventfd_write(w->resample, 1u << 30);
		pthread_join(w->device, NULL);
	}
	partition_drop(w);
	munmap(w->ram, RAM_SIZE);
	munmap(w->rom, 4096);
	munmap(w->slot, 4096);
	for (unsigned n = 0; n < ARRAY_LEN(bells); n++)
		if (w->bell[n] >= 0)
			close(w->bell[n]);
	if (w->irqfd >= 0)
		close(w->irqfd);
	if (w->resample >= 0)
		close(w->resample);
	if (w->msifd >= 0)
		close(w->msifd);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
}

static unsigned
program_run(const struct hv_backend *hv, const struct program *program)
{
	struct world w = {
		.hv = hv,
		.program = program,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER,
		.irqfd = -1,
		.resample = -1,
		.msifd = -1,
		.bell = { -1, -1, -1, -1 },
	};
	uint64_t entry = 0;

	w.handler = (struct hv_handler){ access_handle, &w };
	w.ram = memory_get(RAM_SIZE);
	w.rom = memory_get(4096);
	w.slot = memory_get(4096);
	memcpy(w.rom + 4, "ROM ", 4);
	if (partition_make(&w)) {
		fail(&w, "no partition", 0);
	} else if (!program_load(&w, &entry)) {
		fail(&w, "no such program: make guests", 0);
	} else {
		if (program->act == act_bell)
			bells_bind(&w);
		entry_set(&w, entry);
		cpus_start(&w);
		watch(&w);
		cpus_stop(&w);
	}
	world_end(&w);
	return w.failures;
}

static void
on_every_backend(const struct program *program)
{
	for (unsigned n = 0; hv_backends[n]; n++) {
		const struct hv_backend *hv = hv_backends[n];
		const struct hv_config config = { .vcpus = 1 };
		struct hv_partition *p;
		int err = hv->partition_create(&config, &p);

		if (err) {
			printf("    skipped on %s: %s\n", hv->name,
			    strerror(-err));
			continue;
		}
		hv->partition_destroy(p);
		CU_ASSERT_EQUAL(program_run(hv, program), 0);
	}
}

static void
reaches_ports_and_memory_in_every_width(void)
{
	on_every_backend(&(struct program){ "hv_access", 1, act_access, 0 });
}

static void
delivers_interrupts_of_every_kind(void)
{
	on_every_backend(&(struct program){ "hv_irq", 1, act_irq, 0 });
}

static void
timers_fire(void)
{
	on_every_backend(&(struct program){ "hv_timer", 1, act_none, 0 });
}

static void
doorbells_ring(void)
{
	on_every_backend(&(struct program){ "hv_bell", 1, act_bell, 0 });
}

static void
two_processors_work_together(void)
{
	on_every_backend(&(struct program){ "hv_smp", 2, act_none, 0 });
}

static void
faults_reach_the_kernel(void)
{
	on_every_backend(&(struct program){ "hv_fault", 1, act_none, 0 });
}

static void
saved_state_goes_on_in_a_new_partition(void)
{
	on_every_backend(&(struct program){ "hv_save", 1, act_none, 4 });
}

static void
auto_takes_the_first_that_can_and_says_why_not_the_others(void)
{
	char why[300];
	const struct hv_backend *hv = hv_find("auto", why, sizeof(why));

	CU_ASSERT_PTR_NOT_NULL_FATAL(hv);
	printf("    %s%s%s\n", hv->name, why[0] ? "; " : "", why);
	for (unsigned n = 0; hv_backends[n]; n++) {
		char reason[200];
		int err = hv_backends[n]->probe(reason, sizeof(reason));

		CU_ASSERT(err == 0 || err == -ENOENT || err == -EACCES ||
		    err == -ENOTSUP);
		CU_ASSERT_EQUAL(err == 0, reason[0] == '\0');
		if (hv_backends[n] == hv)
			break;
		CU_ASSERT_PTR_NOT_NULL(strstr(why, hv_backends[n]->name));
	}
}

static void
names_what_it_does_not_know(void)
{
	char why[100];

	CU_ASSERT_PTR_NULL(hv_find("hurd", why, sizeof(why)));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "hurd"));
	CU_ASSERT_PTR_EQUAL(hv_find("soft", why, sizeof(why)), &hv_soft);
	CU_ASSERT_PTR_EQUAL(hv_find("kvm", why, sizeof(why)), &hv_kvm);
	CU_ASSERT_EQUAL(why[0], '\0');
}

/* What hv_vcpu_state_reset() says is what a processor takes, and gives back. */
static void
reset_state_is_taken_by_every_backend(void)
{
	for (unsigned n = 0; hv_backends[n]; n++) {
		const struct hv_backend *hv = hv_backends[n];
		const struct hv_config config = { .vcpus = 2 };
		static struct hv_vcpu_state set, got;
		struct hv_partition *p;
		struct hv_vcpu *v;

		if (hv->partition_create(&config, &p))
			continue;
		for (unsigned cpu = 0; cpu < 2; cpu++) {
			CU_ASSERT_EQUAL_FATAL(hv->vcpu_create(p, cpu, &v), 0);
			hv_vcpu_state_reset(&set, cpu);
			set.gpr[13] = 0x123456789abcdef0;
			CU_ASSERT_EQUAL(hv->vcpu_set(v, &set), 0);
			CU_ASSERT_EQUAL(hv->vcpu_get(v, &got), 0);
			CU_ASSERT_EQUAL(
			    memcmp(set.gpr, got.gpr, sizeof(set.gpr)), 0);
			CU_ASSERT_EQUAL(got.rip, set.rip);
			CU_ASSERT_EQUAL(got.rflags, set.rflags);
			CU_ASSERT_EQUAL(got.cs.base, set.cs.base);
			CU_ASSERT_EQUAL(got.cr0, set.cr0);
			CU_ASSERT_EQUAL(got.apic_base, set.apic_base);
			CU_ASSERT_EQUAL(got.mp_state, set.mp_state);
			hv->vcpu_destroy(v);
		}
		hv->partition_destroy(p);
	}
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(
		    auto_takes_the_first_that_can_and_says_why_not_the_others),
		NAMED_TEST(names_what_it_does_not_know),
		NAMED_TEST(reset_state_is_taken_by_every_backend),
		NAMED_TEST(reaches_ports_and_memory_in_every_width),
		NAMED_TEST(delivers_interrupts_of_every_kind),
		NAMED_TEST(timers_fire),
		NAMED_TEST(doorbells_ring),
		NAMED_TEST(two_processors_work_together),
		NAMED_TEST(faults_reach_the_kernel),
		NAMED_TEST(saved_state_goes_on_in_a_new_partition),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	return named_tests_run("backends", tests, ARRAY_LEN(tests));
}
