/* Black boxes, made and sent. */
#include "vmmd/blackbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/blackbox.h"
#include "proto/stream.h"

#define SYSCALLS_MAX 1024

static bool
is_wanted(const struct device *d)
{
	return d->vm->recorder_fd >= 0 && d->store.base != NULL && !d->loader &&
	    !d->is_inline && !d->finishing && !vm_ending(d->vm) &&
	    d->state != DEVICE_DONE;
}

/* The one that its last words speak of; -1: they do not.  They are the dead
 * one's, and nobody relies on them. */
static int32_t
denied_call(const char *words)
{
	int nr;

	return sscanf(words, "denied system call %*32s (%d)", &nr) == 1 &&
		nr >= 0 && nr < SYSCALLS_MAX
	    ? nr
	    : -1;
}

static void
fill_header(
    struct blackbox_header *h, const struct process *p, uint64_t lived_ns)
{
	const struct device *d = p->device;
	struct timespec now;

	memset(h, 0, sizeof(*h));
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(h->vm, sizeof(h->vm), "%.31s", d->vm->config->name);
	snprintf(h->device, sizeof(h->device), "%s", d->name);
	snprintf(h->type, sizeof(h->type), "%s", d->type);
	snprintf(h->build, sizeof(h->build), "%s", p->build);
	snprintf(h->reason, sizeof(h->reason), "%s", p->kill_reason);
	h->signal = p->signal;
	h->status = p->status;
	h->syscall = denied_call(p->failure);
	h->restarts = d->restarts;
	h->realtime_ns =
	    (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	h->guest_ns = time_now_ns() + (uint64_t)d->vm->clock_offset_ns;
	if (d->vm->config->icount != 0 && d->port->set != NULL)
		h->guest_ns = atomic_load_explicit(
		    &d->port->set->now_ns, memory_order_relaxed);
	h->lived_ns = lived_ns;
}

/* Sorted by name, they are sorted by VM, device and time. */
static void
make_name(char out[BLACKBOX_NAME_MAX], const struct blackbox_header *h)
{
	time_t s = (time_t)(h->realtime_ns / 1000000000u);
	struct tm tm;

	gmtime_r(&s, &tm);
	/* A VM's name may begin with a dot. */
	snprintf(out, BLACKBOX_NAME_MAX,
	    "vm-%.31s-%.31s-%04u%02u%02uT%02u%02u%02u.%06u" BLACKBOX_SUFFIX,
	    h->vm, h->device, (unsigned)(tm.tm_year + 1900) % 10000,
	    (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100,
	    (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
	    (unsigned)tm.tm_sec % 100,
	    (unsigned)(h->realtime_ns / 1000 % 1000000));
}

static int
send_file(int recorder, const char *name, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	char text[BLACKBOX_NAME_MAX];
	struct iovec iov = { text, strlen(name) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	snprintf(text, sizeof(text), "%s", name);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(recorder, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno
								      : 0;
}

/* What it said and was told last; NULL and 0: it has no streams. */
static uint8_t *
copy_streams(const struct device *d, size_t *size)
{
	uint8_t *copy;

	*size = 2 * d->manifest.nstreams * STREAM_SIZE;
	copy = *size > 0 ? malloc(*size) : NULL;
	for (unsigned i = 0; copy != NULL && i < d->manifest.nstreams; i++) {
		const struct device_stream *s = &d->stream[i];

		memcpy(copy + 2 * i * STREAM_SIZE, s->out.base, STREAM_SIZE);
		memcpy(
		    copy + (2 * i + 1) * STREAM_SIZE, s->in.base, STREAM_SIZE);
	}
	return copy;
}

static int
record(struct device *d, const struct process *p, uint64_t lived_ns)
{
	struct blackbox_header h;
	char name[BLACKBOX_NAME_MAX];
	size_t configure_size;
	uint8_t *configure = device_pack_configure(d, &configure_size);
	size_t streams_size;
	uint8_t *streams = copy_streams(d, &streams_size);
	struct blackbox_part parts[] = {
		{ BLACKBOX_STORE, d->store.base, d->store.size },
		{ BLACKBOX_RINGS, d->port->set, ring_set_size(d->vm->nvcpus) },
		{ BLACKBOX_CONFIGURE, configure, configure_size },
		{ BLACKBOX_WORDS, p->failure, strlen(p->failure) },
		{ BLACKBOX_STREAMS, streams, streams_size },
	};
	int fd, r;

	if (configure == NULL || (streams == NULL && streams_size > 0)) {
		free(configure);
		free(streams);
		return -ENOMEM;
	}
	fill_header(&h, p, lived_ns);
	make_name(name, &h);
	fd = memfd_create("bulkhead-blackbox", MFD_CLOEXEC);
	r = fd < 0 ? -errno : blackbox_write(fd, &h, parts, ARRAY_LEN(parts));
	if (r == 0)
		r = send_file(d->vm->recorder_fd, name, fd);
	if (fd >= 0)
		close(fd);
	free(configure);
	free(streams);
	return r;
}

void
blackbox_record(const struct process *p, uint64_t lived_ns)
{
	struct device *d = p->device;
	int r;

	if (!is_wanted(d) || !budget_take(&d->vm->boxes, time_now_ns()))
		return;
	r = record(d, p, lived_ns);
	if (r < 0)
		client_event(d->vm, d->name, 1, "its black box is lost: %s",
		    strerror(-r));
}
