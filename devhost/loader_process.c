/* The loader as a process: its sandbox, and its side of the conversation. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devhost/host.h"
#include "devhost/loader.h"
#include "proto/base.h"
#include "proto/channel.h"

#define BODY(name)	BULKHEAD__ENVELOPE__BODY_##name
#define LOAD_TIMEOUT_MS 60000
#define ERR_SIZE	320u

static const struct sandbox_syscall calls[] = {
	{ .nr = __NR_pread64, .reason = "read the files" },
	{ .nr = __NR_newfstatat,
	    .reason = "fstat(): how long they are",
	    .nargs = 1,
	    .args = { { .arg = 3, .op = SANDBOX_EQ, .a = AT_EMPTY_PATH } } },
	{ .nr = __NR_fstat, .reason = "the same, on older C libraries" },
	{ .nr = __NR_mmap,
	    .reason = "guest RAM, large allocations; never executable",
	    .nargs = 1,
	    .args = { { .arg = 2,
		.op = SANDBOX_MASKED_EQ,
		.a = ~(uint64_t)(PROT_READ | PROT_WRITE) } } },
	{ .nr = __NR_munmap, .reason = "the same, given back" },
	{ .nr = __NR_brk, .reason = "malloc() of messages" },
	{ .nr = __NR_recvmsg, .reason = "the control channel" },
	{ .nr = __NR_sendmsg, .reason = "the control channel" },
	{ .nr = __NR_poll, .reason = "wait for Load" },
	{ .nr = __NR_restart_syscall, .reason = "poll() after a stop" },
	{ .nr = __NR_close, .reason = "fds that came with a message" },
	{ .nr = __NR_clock_gettime, .reason = "where there is no vDSO" },
	{ .nr = __NR_write,
	    .reason = "say what is broken before abort()",
	    .nargs = 1,
	    .args = { { .arg = 0, .op = SANDBOX_EQ, .a = STDERR_FILENO } } },
	{ .nr = __NR_rt_sigreturn, .reason = "signal handlers end" },
	{ .nr = __NR_exit_group, .reason = "the end" },
};

/* The generated structs have no const; nothing writes through them here. */
static char *
unconst(const char *s)
{
	union {
		const char *in;
		char *out;
	} u = { .in = s };

	return u.out;
}

static int
send_failure(struct channel *c, int error, char *text, uint64_t seq)
{
	Bulkhead__Failure failure;

	bulkhead__failure__init(&failure);
	failure.error = error;
	failure.text = text;
	return channel_send(c, BODY(FAILURE), &failure, NULL, 0, seq);
}

static int
send_hello(struct channel *c, uint64_t steps)
{
	Bulkhead__Hello hello;

	bulkhead__hello__init(&hello);
	hello.type = unconst("loader");
	hello.build = unconst(BULKHEAD_VERSION);
	hello.dma = DEVICE_DMA_FULL;
	if (steps & SANDBOX_SECCOMP)
		hello.syscalls = ARRAY_LEN(calls);
	hello.sandbox = steps;
	return channel_send(c, BODY(HELLO), &hello, NULL, 0, 0);
}

static int
send_loaded(struct channel *c, const struct loader_result *r, uint64_t seq)
{
	Bulkhead__Loaded loaded;

	bulkhead__loaded__init(&loaded);
	loaded.mode = r->mode;
	loaded.rip = r->rip;
	loaded.rsi = r->rsi;
	loaded.rbx = r->rbx;
	loaded.cr3 = r->cr3;
	loaded.gdt = r->gdt;
	loaded.format = unconst(r->format);
	return channel_send(c, BODY(LOADED), &loaded, NULL, 0, seq);
}

static int
open_source(const char *what, int fd, struct loader_source *s, char *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int error = -errno;

		snprintf(err, ERR_SIZE, "%s: fstat: %s", what,
		    strerrordesc_np(-error));
		return error;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(err, ERR_SIZE, "%s: not a regular file", what);
		return -EINVAL;
	}
	s->fd = fd;
	s->bytes = NULL;
	s->size = (uint64_t)st.st_size;
	return 0;
}

static int
map_ram(int fd, struct loader_input *in, char *err)
{
	uint64_t size;
	struct stat st;
	void *ram;

	/* Shorter than promised, it would kill us with SIGBUS. */
	if (__builtin_add_overflow(in->ram_low, in->ram_high, &size) ||
	    size == 0 || fstat(fd, &st) < 0 || size > (uint64_t)st.st_size) {
		snprintf(err, ERR_SIZE,
		    "memory: the memory object is smaller than 0x%llx + 0x%llx",
		    (unsigned long long)in->ram_low,
		    (unsigned long long)in->ram_high);
		return -EINVAL;
	}
	ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ram == MAP_FAILED) {
		int error = -errno;

		snprintf(
		    err, ERR_SIZE, "memory: mmap: %s", strerrordesc_np(-error));
		return error;
	}
	in->ram = ram;
	return 0;
}

static int
read_device(const Bulkhead__PlacedDevice *m, struct loader_device *d, char *err)
{
	const struct device_type *type = device_type_find(m->type);
	const Bulkhead__Placement *p = m->placement;

	if (type == NULL) {
		snprintf(err, ERR_SIZE, "devices: no type \"%.40s\"", m->type);
		return -EINVAL;
	}
	d->type = type->name;
	d->acpi = type->ops->acpi;
	if (p == NULL)
		return 0;
	if (p->n_regions > DEVICE_REGIONS_MAX || p->n_irqs > DEVICE_IRQS_MAX) {
		snprintf(err, ERR_SIZE, "devices: %s has too many resources",
		    type->name);
		return -EINVAL;
	}
	for (unsigned i = 0; i < p->n_regions; i++) {
		const Bulkhead__Region *r = p->regions[i];

		d->placed.regions[i] = (struct device_region){
			.name = r->name,
			.space = r->space == BULKHEAD__SPACE__PIO ? DEVICE_PIO
								  : DEVICE_MMIO,
			.posted = r->posted,
			.base = r->start,
			.size = r->size,
		};
	}
	d->placed.nregions = (unsigned)p->n_regions;
	for (unsigned i = 0; i < p->n_irqs; i++) {
		d->placed.irqs[i] = (struct device_irq){
			.gsi = p->irqs[i]->gsi,
			.level = p->irqs[i]->level,
		};
	}
	d->placed.nirqs = (unsigned)p->n_irqs;
	return 0;
}

static int
load(const Bulkhead__Load *m, const int *fds, struct loader_result *out,
    char *err)
{
	static struct loader_device devices[LOADER_DEVICES_MAX];
	struct loader_input in = {
		.has_initrd = m->has_initrd,
		.cmdline = m->cmdline,
		.ram_low = m->ram_low,
		.ram_high = m->ram_high,
		.vcpus = m->vcpus,
		.devices = devices,
	};
	int error;

	if (m->n_devices > LOADER_DEVICES_MAX) {
		snprintf(err, ERR_SIZE, "devices: %zu, but at most %u can be",
		    m->n_devices, LOADER_DEVICES_MAX);
		return -EINVAL;
	}
	for (unsigned i = 0; i < m->n_devices; i++) {
		error = read_device(m->devices[i], &devices[i], err);
		if (error < 0)
			return error;
	}
	in.ndevices = (unsigned)m->n_devices;
	error = open_source("kernel", fds[0], &in.kernel, err);
	if (error == 0 && in.has_initrd)
		error = open_source("initrd", fds[2], &in.initrd, err);
	if (error == 0)
		error = map_ram(fds[1], &in, err);
	if (error < 0)
		return error;
	/* Mapped until the process ends, which is soon. */
	return loader_load(&in, out, err, ERR_SIZE);
}

/* Receive Load, load, answer. */
static int
converse(struct channel *c)
{
	struct channel_message m;
	struct loader_result result = { 0 };
	char err[ERR_SIZE] = "";
	const Bulkhead__Load *request;
	int got, error;

	got = channel_receive(c, &m, LOAD_TIMEOUT_MS);
	if (got == 0)
		return HOST_EXIT_OK;
	if (got < 0)
		return got == -EPROTO ? HOST_EXIT_PROTOCOL : HOST_EXIT_RESOURCE;
	if (m.envelope->body_case != BODY(LOAD)) {
		channel_free(&m);
		return HOST_EXIT_PROTOCOL;
	}
	request = m.envelope->load;
	if (m.nfds != (request->has_initrd ? 3u : 2u)) {
		channel_free(&m);
		return HOST_EXIT_PROTOCOL;
	}
	error = load(request, m.fds, &result, err);
	if (error < 0)
		error = send_failure(c, error, err, m.envelope->seq);
	else
		error = send_loaded(c, &result, m.envelope->seq);
	channel_free(&m);
	return error < 0 ? HOST_EXIT_RESOURCE : HOST_EXIT_OK;
}

int
loader_main(int control_fd, enum sandbox_mode mode)
{
	const struct sandbox_policy policy = {
		.mode = mode,
		.syscalls = calls,
		.nsyscalls = ARRAY_LEN(calls),
		.max_fds = 16,
	};
	char err[ERR_SIZE] = "";
	struct channel c;
	uint64_t steps = 0;
	int error, status;

	channel_init(&c, control_fd, CHANNEL_LOADER);
	error = sandbox_enter(&policy, &steps, err, sizeof(err));
	if (err[0] != '\0')
		fprintf(stderr, "devhost loader: sandbox: %s\n", err);
	if (error < 0) {
		/* The exit status says it too. */
		(void)send_failure(&c, error, err, 0);
		channel_close(&c);
		return HOST_EXIT_SANDBOX;
	}
	if (send_hello(&c, steps) < 0)
		status = HOST_EXIT_RESOURCE;
	else
		status = converse(&c);
	channel_close(&c);
	return status;
}
