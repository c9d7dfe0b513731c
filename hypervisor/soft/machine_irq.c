/* Interrupt lines, messages, irqfds and doorbells of the software machine. */
#include "hypervisor/soft/machine_impl.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- lines ---- */

void
machine_pic_changed(struct hv_partition *p)
{
	bool out = pic_output(&p->pic);
	struct hv_vcpu *v = atomic_load(&p->cpu[0]);

	atomic_store(&p->pic_out, out);
	if (v)
		lapic_lint0(&v->lapic, out);
}

/*
 * GSI 0 is the PIT: input 0 of the PIC pair and pin 2 of the IOAPIC, as on
 * every PC; pin 0 and input 2 lead nowhere.
 */
void
machine_line_set(
    struct hv_partition *p, unsigned gsi, unsigned source, bool level)
{
	bool was = p->line[gsi] != 0, is;

	p->line[gsi] =
	    (uint8_t)(level ? p->line[gsi] | source : p->line[gsi] & ~source);
	is = p->line[gsi] != 0;
	if (was == is || gsi == 2)
		return;
	if (gsi < 16)
		pic_set(&p->pic, gsi, is);
	ioapic_set(&p->ioapic, gsi ? gsi : 2, is);
	if (gsi < 16)
		machine_pic_changed(p);
}

int
machine_irq_set(struct hv_partition *p, unsigned gsi, bool level)
{
	if (gsi >= MACHINE_LINES)
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	machine_line_set(p, gsi, LINE_USER, level);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* The guest has ended a level interrupt: the line falls, and whoever still
 * wants it raises it again through its irqfd. */
static void
resample(struct hv_partition *p, unsigned gsi)
{
	if (!(p->line[gsi] & LINE_IRQFD))
		return;
	machine_line_set(p, gsi, LINE_IRQFD, false);
	for (unsigned n = 0; n < p->nirqfds; n++) {
		struct irqfd *f = &p->irqfd[n];

		if (f->fd >= 0 && f->gsi == gsi && f->resample >= 0)
			eventfd_write(f->resample, 1);
	}
	if (p->icount != 0)
		icount_tell(p);
}

static void
pic_eoi(void *ctx, unsigned irq)
{
	resample(ctx, irq);
}

static void
ioapic_eoi(void *ctx, unsigned pin)
{
	resample(ctx, pin == 2 ? 0 : pin);
}

/* ---- messages ---- */

static void
send_to_one(struct hv_partition *p, const struct apic_msg *msg)
{
	struct hv_vcpu *best = NULL;
	unsigned lowest = UINT32_MAX;

	for (unsigned n = 0; n < p->ncpus; n++) {
		struct hv_vcpu *v = atomic_load(&p->cpu[n]);
		unsigned priority;

		if (!v || !lapic_matches(&v->lapic, msg) ||
		    !lapic_enabled(&v->lapic))
			continue;
		priority = lapic_priority(&v->lapic);
		if (priority < lowest) {
			lowest = priority;
			best = v;
		}
	}
	if (best)
		lapic_accept(&best->lapic, msg);
}

static bool
addressed(struct hv_vcpu *v, struct cpu *from, const struct apic_msg *msg)
{
	switch (msg->shorthand) {
	case APIC_SELF:
		return &v->cpu == from;
	case APIC_ALL:
		return true;
	case APIC_OTHERS:
		return &v->cpu != from;
	default:
		return lapic_matches(&v->lapic, msg);
	}
}

void
machine_send(
    struct hv_partition *p, struct cpu *from, const struct apic_msg *msg)
{
	if (msg->mode == APIC_LOWEST && msg->shorthand == APIC_DEST) {
		send_to_one(p, msg);
		return;
	}
	for (unsigned n = 0; n < p->ncpus; n++) {
		struct hv_vcpu *v = atomic_load(&p->cpu[n]);

		if (v && addressed(v, from, msg))
			lapic_accept(&v->lapic, msg);
	}
}

static void
ioapic_deliver(void *ctx, const struct apic_msg *msg)
{
	machine_send(ctx, NULL, msg);
}

int
machine_msi_send(struct hv_partition *p, uint64_t addr, uint32_t data)
{
	struct apic_msg msg = {
		.dest = (uint32_t)(addr >> 12 & 0xff),
		.logical = addr >> 2 & 1,
		.vector = (uint8_t)data,
		.mode = data >> 8 & 7,
		.level = data >> 15 & 1,
		.assert = data >> 14 & 1,
	};

	if (addr >> 20 != LAPIC_BASE >> 20)
		return -EINVAL;
	/* The redirection hint asks for one processor of the addressed. */
	if ((addr >> 3 & 1) && msg.logical && msg.mode == APIC_FIXED)
		msg.mode = APIC_LOWEST;
	machine_send(p, NULL, &msg);
	return 0;
}

int
machine_msi_route(
    struct hv_partition *p, unsigned gsi, uint64_t addr, uint32_t data)
{
	if (gsi < MACHINE_LINES || gsi >= MACHINE_GSIS)
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	p->route[gsi] = (struct msi_route){ addr, data, true };
	pthread_mutex_unlock(&p->lock);
	return 0;
}

/* ---- the LAPICs' surroundings; ctx is a struct cpu ---- */

static uint64_t
env_now_ns(void *ctx)
{
	struct cpu *c = ctx;

	return machine_now_ns(c->machine);
}

static uint64_t
env_tsc(void *ctx)
{
	struct cpu *c = ctx;

	return machine_tsc(c->machine) + (uint64_t)c->tsc_offset;
}

static uint32_t
env_tsc_khz(void *ctx)
{
	struct cpu *c = ctx;

	return machine_tsc_khz(c->machine);
}

static void
env_attend(void *ctx, uint32_t bits)
{
	machine_attend(ctx, bits);
}

static void
env_startup(void *ctx, uint8_t vector)
{
	struct cpu *c = ctx;

	__atomic_store_n(&c->sipi_vector, vector, __ATOMIC_RELEASE);
	machine_attend(c, ATT_SIPI);
}

static void
env_timer_set(void *ctx)
{
	machine_timer_changed(ctx);
}

static void
env_send(void *ctx, const struct apic_msg *msg)
{
	struct cpu *c = ctx;

	machine_send(partition_of(c->machine), c, msg);
}

static void
env_eoi(void *ctx, unsigned vector)
{
	struct cpu *c = ctx;
	struct hv_partition *p = partition_of(c->machine);

	pthread_mutex_lock(&p->lock);
	ioapic_end(&p->ioapic, vector);
	pthread_mutex_unlock(&p->lock);
}

static bool
env_extint_pending(void *ctx)
{
	struct cpu *c = ctx;

	return c->index == 0 && atomic_load(&partition_of(c->machine)->pic_out);
}

static int
env_extint_take(void *ctx)
{
	struct cpu *c = ctx;
	struct hv_partition *p = partition_of(c->machine);
	int vector = -1;

	pthread_mutex_lock(&p->lock);
	if (pic_output(&p->pic)) {
		vector = pic_acknowledge(&p->pic);
		machine_pic_changed(p);
	}
	pthread_mutex_unlock(&p->lock);
	return vector;
}

const struct lapic_env machine_lapic_env = {
	.now_ns = env_now_ns,
	.tsc = env_tsc,
	.tsc_khz = env_tsc_khz,
	.attend = env_attend,
	.startup = env_startup,
	.timer_set = env_timer_set,
	.send = env_send,
	.eoi = env_eoi,
	.extint_pending = env_extint_pending,
	.extint_take = env_extint_take,
};

/* ---- irqfds ---- */

static void
irqfd_fire(struct hv_partition *p, const struct irqfd *f)
{
	const struct msi_route *r = &p->route[f->gsi];

	if (f->gsi >= MACHINE_LINES) {
		if (r->used)
			machine_msi_send(p, r->addr, r->data);
	} else if (f->resample >= 0) {
		machine_line_set(p, f->gsi, LINE_IRQFD, true);
	} else {
		machine_line_set(p, f->gsi, LINE_IRQFD, true);
		machine_line_set(p, f->gsi, LINE_IRQFD, false);
	}
}

/* Something was written to the irqfd numbered so, if it is still bound. */
static void
irqfd_event(struct hv_partition *p, uint64_t tag)
{
	struct irqfd *f = &p->irqfd[tag & UINT32_MAX];
	struct pollfd pfd;
	eventfd_t value;

	pthread_mutex_lock(&p->lock);
	if (f->fd >= 0 && f->generation == tag >> 32) {
		/* The fd may be a blocking one, and its owner may have drained
		 * it: look before reading. */
		pfd = (struct pollfd){ .fd = f->fd, .events = POLLIN };
		if (poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN) &&
		    eventfd_read(f->fd, &value) == 0)
			irqfd_fire(p, f);
	}
	pthread_mutex_unlock(&p->lock);
}

static int
tag_compare(const void *a, const void *b)
{
	const struct epoll_event *x = a, *y = b;
	uint32_t m = (uint32_t)x->data.u64, n = (uint32_t)y->data.u64;

	return m < n ? -1 : m > n;
}

void
machine_irqfds_look(struct hv_partition *p)
{
	struct epoll_event ev[MACHINE_IRQFDS];
	int n;

	if (p->epoll < 0)
		return;
	n = epoll_wait(p->epoll, ev, ARRAY_LEN(ev), 0);
	if (n <= 0)
		return;
	/* Not in the order in which they were written: that is chance. */
	qsort(ev, (size_t)n, sizeof(ev[0]), tag_compare);
	for (int i = 0; i < n; i++)
		irqfd_event(p, ev[i].data.u64);
}

static void *
irqfd_loop(void *arg)
{
	struct hv_partition *p = arg;
	struct epoll_event ev[16];

	for (;;) {
		int n = epoll_wait(p->epoll, ev, ARRAY_LEN(ev), -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.u64 == UINT64_MAX)
				return NULL;
			irqfd_event(p, ev[i].data.u64);
		}
		if (n < 0 && errno != EINTR)
			return NULL;
	}
}

/* The lock is held. */
static int
irqfd_thread_start(struct hv_partition *p)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int err;

	if (p->epoll >= 0)
		return 0;
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	/* With icount the vCPU looks itself. */
	if (p->icount != 0)
		return p->epoll < 0 ? -errno : 0;
	p->epoll_stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ev.data.u64 = UINT64_MAX;
	if (p->epoll < 0 || p->epoll_stop < 0 ||
	    epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->epoll_stop, &ev) < 0)
		err = -errno;
	else
		err = -pthread_create(&p->irqfd_thread, NULL, irqfd_loop, p);
	if (err < 0) {
		if (p->epoll >= 0)
			close(p->epoll);
		if (p->epoll_stop >= 0)
			close(p->epoll_stop);
		p->epoll = p->epoll_stop = -1;
	}
	return err;
}

static int
irqfd_add(struct hv_partition *p, unsigned gsi, int fd, int resample_fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	unsigned n, slot = MACHINE_IRQFDS;
	struct irqfd *f;

	for (n = 0; n < MACHINE_IRQFDS; n++) {
		if (n >= p->nirqfds || p->irqfd[n].fd < 0) {
			if (slot == MACHINE_IRQFDS)
				slot = n;
		} else if (p->irqfd[n].fd == fd) {
			return -EBUSY;
		}
	}
	if (slot == MACHINE_IRQFDS)
		return -ENOSPC;
	f = &p->irqfd[slot];
	ev.data.u64 = (uint64_t)(f->generation + 1) << 32 | slot;
	if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	f->generation++;
	f->fd = fd;
	f->resample = resample_fd;
	f->gsi = gsi;
	p->nirqfds = MAX(p->nirqfds, slot + 1);
	return 0;
}

int
machine_irqfd_bind(
    struct hv_partition *p, unsigned gsi, int fd, int resample_fd)
{
	int err;

	if (gsi >= MACHINE_GSIS || fd < 0 ||
	    (resample_fd >= 0 && gsi >= MACHINE_LINES))
		return -EINVAL;
	pthread_mutex_lock(&p->lock);
	err = irqfd_thread_start(p);
	if (err == 0)
		err = irqfd_add(p, gsi, fd, resample_fd);
	pthread_mutex_unlock(&p->lock);
	return err;
}

int
machine_irqfd_unbind(struct hv_partition *p, unsigned gsi, int fd)
{
	int err = -ENOENT;

	pthread_mutex_lock(&p->lock);
	for (unsigned n = 0; n < p->nirqfds; n++) {
		struct irqfd *f = &p->irqfd[n];

		if (f->fd != fd || f->fd < 0 || f->gsi != gsi)
			continue;
		epoll_ctl(p->epoll, EPOLL_CTL_DEL, fd, NULL);
		f->fd = -1;
		if (f->resample >= 0)
			machine_line_set(p, gsi, LINE_IRQFD, false);
		err = 0;
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

/* ---- doorbells ---- */

static bool
bell_is(const struct doorbell *b, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match)
{
	return b->space == space && b->addr == addr && b->len == len &&
	    b->has_match == (match != NULL) && (!match || b->match == *match);
}

int
machine_bell_bind(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	int err = 0;
	uint32_t n;

	if (len > 8 || (len & (len - 1)) || fd < 0 || (match && !len))
		return -EINVAL;
	pthread_mutex_lock(&p->bells_lock);
	n = atomic_load(&p->nbells);
	for (uint32_t i = 0; i < n; i++)
		if (bell_is(&p->bell[i], space, addr, len, match))
			err = -EEXIST;
	if (!err && n == MACHINE_BELLS)
		err = -ENOSPC;
	if (!err) {
		p->bell[n] = (struct doorbell){
			.addr = addr,
			.match = match ? *match : 0,
			.fd = fd,
			.len = (uint8_t)len,
			.space = (uint8_t)space,
			.has_match = match != NULL,
		};
		atomic_store(&p->nbells, n + 1);
	}
	pthread_mutex_unlock(&p->bells_lock);
	return err;
}

int
machine_bell_unbind(struct hv_partition *p, enum hv_space space, uint64_t addr,
    unsigned len, const uint64_t *match, int fd)
{
	int err = -ENOENT;
	uint32_t n;

	pthread_mutex_lock(&p->bells_lock);
	n = atomic_load(&p->nbells);
	for (uint32_t i = 0; i < n && err; i++) {
		if (p->bell[i].fd != fd ||
		    !bell_is(&p->bell[i], space, addr, len, match))
			continue;
		p->bell[i] = p->bell[n - 1];
		atomic_store(&p->nbells, n - 1);
		err = 0;
	}
	pthread_mutex_unlock(&p->bells_lock);
	return err;
}

bool
machine_ring_bell(struct hv_partition *p, const struct hv_access *a)
{
	bool rung = false;

	if (!a->write || !atomic_load(&p->nbells))
		return false;
	/* The fd is written under the lock, so that after an unbind nobody
	 * writes it any more. */
	pthread_mutex_lock(&p->bells_lock);
	for (uint32_t i = 0; i < atomic_load(&p->nbells) && !rung; i++) {
		const struct doorbell *b = &p->bell[i];

		if (b->addr != a->addr || b->space != a->space ||
		    (b->len && b->len != a->size) ||
		    (b->has_match && b->match != a->data))
			continue;
		eventfd_write(b->fd, 1);
		rung = true;
	}
	pthread_mutex_unlock(&p->bells_lock);
	return rung;
}

void
machine_irq_init(struct hv_partition *p)
{
	pic_init(&p->pic, pic_eoi, p);
	ioapic_init(&p->ioapic, ioapic_deliver, ioapic_eoi, p);
	p->epoll = p->epoll_stop = -1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->bells_lock, NULL);
}

void
machine_irq_fini(struct hv_partition *p)
{
	if (p->epoll_stop >= 0) {
		eventfd_write(p->epoll_stop, 1);
		pthread_join(p->irqfd_thread, NULL);
		close(p->epoll_stop);
	}
	if (p->epoll >= 0)
		close(p->epoll);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->bells_lock);
}
