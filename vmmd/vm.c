/* Building a VM, running it, ending it. */
#include "vmmd/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmmd/confine.h"

#define MEMORY_MIN	 (1ull << 20)
#define MEMORY_MAX	 (1ull << 40)
#define TICK_MS		 100
#define END_TICK_MS	 2
#define CREATE_NS	 10000000000u
#define DRAIN_NS	 500000000u
#define FINISH_NS	 500000000u
#define GIVE_UP_NS	 3000000000u
#define BOXES_PER_MINUTE 60u /* a minute's worth at once */
#define LINGER_NS	 2000000000u
#define DEADLINE_MAX_MS	 3600000u

static const struct placement_ops *inline_ops;

void
vm_register_inline(const struct placement_ops *ops)
{
	inline_ops = ops;
}

const struct placement_ops *
vm_inline_ops(void)
{
	return inline_ops;
}

bool
vm_ending(const struct vm *vm)
{
	return vm->stage >= VM_DRAINING;
}

struct device *
vm_find_device(struct vm *vm, const char *name)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (strcmp(vm->device[i].name, name) == 0)
			return &vm->device[i];
	return NULL;
}

/* ---- ending ---- */

static void
set_stage(struct vm *vm, enum vm_stage stage)
{
	vm->stage = stage;
	vm->stage_ns = time_now_ns();
}

static void
set_tick(struct vm *vm, int ms)
{
	const struct timeval tv = { .tv_usec = ms * 1000 };

	event_add(vm->on_tick, &tv);
}

static void
report_icount(struct vm *vm)
{
	const struct icount *ic = &vm->icount;

	snprintf(vm->icount_text, sizeof(vm->icount_text),
	    "icount: %" PRIu64 " instructions, %" PRIu64
	    " accesses, hash %016" PRIx64,
	    ic->insns, ic->accesses, ic->hash);
}

void
vm_end(struct vm *vm, int reason, const char *fmt, ...)
{
	va_list ap;

	if (vm_ending(vm))
		return;
	vm->end_reason = reason;
	va_start(ap, fmt);
	vsnprintf(vm->end_text, sizeof(vm->end_text), fmt, ap);
	va_end(ap);
	set_stage(vm, VM_DRAINING);
	if (!vcpu_stop_all(vm))
		client_event(vm, "", 1, "a vCPU does not stop");
	else if (vm->run_ns != 0 && vm->config->icount != 0)
		report_icount(vm);
	set_tick(vm, END_TICK_MS);
}

void
vm_fail(struct vm *vm, int error, const char *fmt, ...)
{
	char text[VM_TEXT];
	va_list ap;

	if (vm_ending(vm))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	client_failed(vm, error, text);
	vm_end(vm, BULKHEAD__END_REASON__END_ERROR, "%s", text);
}

static bool
rings_empty(struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].state == DEVICE_RUNNING &&
		    port_busy(vm->device[i].port))
			return false;
	return true;
}

static bool
all_gone(struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (device_has_host(&vm->device[i]))
			return false;
	return !device_has_host(&vm->loader);
}

static void
finish_devices(struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++) {
		process_kill(vm->device[i].spare, "the VM has ended");
		process_kill(vm->device[i].next, "the VM has ended");
		if (vm->device[i].state == DEVICE_RUNNING)
			device_finish(&vm->device[i]);
		else
			device_kill(&vm->device[i], "the VM has ended");
	}
	device_kill(&vm->loader, "the VM has ended");
}

static void
kill_devices(struct vm *vm)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (!vm->device[i].is_inline)
			device_kill(&vm->device[i], "it does not finish");
	device_kill(&vm->loader, "it does not finish");
}

/* What an ending VM waits for is looked at every few milliseconds. */
static void
end_step(struct vm *vm)
{
	uint64_t in_stage = time_now_ns() - vm->stage_ns;

	if (vm->stage == VM_DRAINING &&
	    (vm->run_ns == 0 || rings_empty(vm) || in_stage > DRAIN_NS)) {
		set_stage(vm, VM_FINISHING);
		finish_devices(vm);
		in_stage = 0;
	}
	if (vm->stage == VM_FINISHING) {
		if (in_stage > FINISH_NS)
			kill_devices(vm);
		if (all_gone(vm) || in_stage > GIVE_UP_NS) {
			set_stage(vm, VM_ENDED);
			client_ended(vm);
			in_stage = 0;
		}
	}
	/* The owner of a short-lived VM may not have its console yet. */
	if (vm->stage == VM_ENDED &&
	    (!client_owner_is_here(vm) || in_stage > LINGER_NS)) {
		event_base_loopbreak(vm->base);
		return;
	}
	set_tick(vm, END_TICK_MS);
}

/* ---- building ---- */

/* Programs, kernel, initrd, then the devices' files in their order. */
static int
take_fds(struct vm *vm)
{
	const Bulkhead__CreateVm *c = vm->config;
	size_t programs = MAX(c->programs, 1u);
	size_t n = programs + (c->has_initrd ? 2 : 1);

	for (size_t i = 0; i < c->n_devices; i++)
		n += c->devices[i]->n_files;
	n += c->has_recorder ? 1 : 0;
	if (vm->create.nfds != n)
		return -EINVAL;
	vm->nprograms = (unsigned)programs;
	vm->kernel_fd = vm->create.fds[programs];
	vm->initrd_fd = c->has_initrd ? vm->create.fds[programs + 1] : -1;
	vm->recorder_fd = c->has_recorder ? vm->create.fds[n - 1] : -1;
	budget_init(&vm->boxes, BOXES_PER_MINUTE, time_now_ns());
	return 0;
}

static int
take_config(struct vm *vm)
{
	const Bulkhead__CreateVm *c = vm->config;

	if (!manifest_name_ok(c->name)) {
		vm_fail(vm, EINVAL, "the VM's name is not a name");
		return -1;
	}
	if (c->memory < MEMORY_MIN || c->memory > MEMORY_MAX ||
	    c->memory % 4096 != 0) {
		vm_fail(vm, EINVAL, "the memory size is out of range");
		return -1;
	}
	if (c->vcpus < 1 || c->vcpus > RING_MAX_VCPUS) {
		vm_fail(vm, EINVAL, "the number of vCPUs is out of range");
		return -1;
	}
	if (c->icount > ICOUNT_PER_US_MAX || (c->icount != 0 && c->vcpus > 1)) {
		vm_fail(vm, EINVAL, "icount: %s",
		    c->vcpus > 1 ? "only with one vCPU" : "out of range");
		return -1;
	}
	if (c->n_devices > VM_DEVICES_MAX) {
		vm_fail(vm, EINVAL, "more than %u devices", VM_DEVICES_MAX);
		return -1;
	}
	if (sandbox_mode_parse(c->sandbox, &vm->sandbox) < 0) {
		vm_fail(vm, EINVAL, "unknown sandbox mode");
		return -1;
	}
	if (take_fds(vm) < 0) {
		vm_fail(vm, EINVAL, "file descriptors are missing");
		return -1;
	}
	vm->nvcpus = c->vcpus;
	vm->detach = c->detach;
	vm->layout = layout_split_ram(c->memory);
	return 0;
}

/*
 * How long to spin, on both sides.  A vCPU's covers a handler, not a wake-up; a
 * device's covers the way to the next access of a burst, which takes up to 25
 * us where exits are slow.  Where there is one processor, the other side cannot
 * run while we spin.
 */
static void
take_wait_policy(struct vm *vm)
{
	cpu_set_t cpus;
	bool alone = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 &&
	    CPU_COUNT(&cpus) < 2;

	vm->spin_ns = 50000;
	vm->device_spin_us = 30;
	if (strcmp(vm->config->wait_policy, "latency") == 0) {
		vm->spin_ns = 200000;
		vm->device_spin_us = 100;
	}
	if (alone || strcmp(vm->config->wait_policy, "density") == 0) {
		vm->spin_ns = 0;
		vm->device_spin_us = 0;
	}
}

/* files: where its own begin among the fds of the create message. */
static int
take_device(struct vm *vm, const Bulkhead__DeviceConfig *c, const int *files)
{
	struct device *d = &vm->device[vm->ndevices];
	int r;

	device_init(d, vm);
	if (!manifest_name_ok(c->name) || !manifest_name_ok(c->type)) {
		vm_fail(vm, EINVAL, "a device's name or type is not a name");
		return -1;
	}
	if (vm_find_device(vm, c->name) != NULL) {
		vm_fail(vm, EINVAL, "two devices have the name %s", c->name);
		return -1;
	}
	snprintf(d->name, sizeof(d->name), "%s", c->name);
	snprintf(d->type, sizeof(d->type), "%s", c->type);
	d->config = c;
	d->files_in = files;
	if (c->program >= vm->nprograms) {
		vm_fail(vm, EINVAL, "device %s: no such program", d->name);
		return -1;
	}
	if (policy_parse(c->policy, &d->policy) < 0) {
		vm_fail(vm, EINVAL, "device %s: no policy %.20s", d->name,
		    c->policy);
		return -1;
	}
	if (c->deadline_ms > DEADLINE_MAX_MS) {
		vm_fail(vm, EINVAL, "device %s: the deadline is out of range",
		    d->name);
		return -1;
	}
	d->is_inline = strcmp(c->placement, "inline") == 0;
	if (d->is_inline && inline_ops == NULL) {
		vm_fail(vm, EINVAL,
		    "device %s: inline placement needs vmmd-inline", d->name);
		return -1;
	}
	if (d->is_inline && vm->config->icount != 0) {
		vm_fail(vm, EINVAL,
		    "device %s: inline placement does not go with icount",
		    d->name);
		return -1;
	}
	d->port = port_new(vm->nvcpus);
	if (d->port == NULL) {
		vm_fail(vm, ENOMEM, "out of memory");
		return -1;
	}
	d->port->kick_fd = -1;
	d->port->fault_fd = vm->notify_fd;
	d->port->spin_max_ns = vm->spin_ns;
	d->port->clock_offset_ns = vm->clock_offset_ns;
	d->port->stopping = &vm->stopping;
	d->port->deadline_ns =
	    c->deadline_ms != 0 ? c->deadline_ms * 1000000ull : HUNG_NS;
	d->health = health_of(c->deadline_ms * 1000000ull);
	d->port->inline_ops = d->is_inline ? inline_ops : NULL;
	r = d->is_inline ? 0 : process_prepare(d);
	if (r < 0) {
		vm_fail(vm, -r, "cannot prepare device %s: %s", d->name,
		    strerror(-r));
		return -1;
	}
	budget_init(&d->budget,
	    c->restarts != 0 ? c->restarts : RESTARTS_PER_MINUTE,
	    time_now_ns());
	vm->ndevices++;
	return 0;
}

static int
make_partition(struct vm *vm)
{
	struct hv_config config = {
		.vcpus = vm->nvcpus,
		.icount = vm->config->icount,
	};
	char err[VM_TEXT] = "";
	int r;

	vm->hv =
	    hv_find(vm->config->hypervisor, vm->hv_why, sizeof(vm->hv_why));
	if (vm->hv == NULL) {
		vm_fail(vm, ENODEV, "hypervisor %.20s: %s",
		    vm->config->hypervisor, vm->hv_why);
		return -1;
	}
	if (config.icount != 0 && vm->hv->icount == NULL) {
		vm_fail(vm, ENODEV,
		    "hypervisor %s: it cannot count "
		    "instructions; soft can",
		    vm->hv->name);
		return -1;
	}
	if (vm->hv->device != NULL) {
		config.device = open(vm->hv->device, O_RDWR | O_CLOEXEC);
		config.has_device = config.device >= 0;
	}
	r = confine_begin(vm, err, sizeof(err));
	if (r < 0) {
		vm_fail(vm, EPERM, "the broker's own sandbox: %s", err);
		return -1;
	}
	r = vm->hv->partition_create(&config, &vm->partition);
	if (config.has_device)
		close(config.device);
	if (r < 0) {
		vm->partition = NULL;
		vm_fail(vm, ENODEV,
		    "hypervisor %s: cannot make a partition: %s", vm->hv->name,
		    strerror(-r));
		return -1;
	}
	icount_init(&vm->icount, vm->hv, vm->partition);
	for (unsigned i = 0; i < vm->ndevices; i++)
		icount_add_port(&vm->icount, vm->device[i].port);
	r = memory_create(&vm->ram, "bulkhead-ram", vm->config->memory);
	if (r == 0)
		r = vm->hv->memory_set(
		    vm->partition, 0, 0, vm->layout.low, vm->ram.base, 0);
	if (r == 0 && vm->layout.high > 0)
		r = vm->hv->memory_set(vm->partition, 1, LAYOUT_HIGH_BASE,
		    vm->layout.high, (uint8_t *)vm->ram.base + vm->layout.low,
		    0);
	if (r < 0) {
		vm_fail(vm, ENOMEM, "cannot make %llu MiB of guest memory: %s",
		    (unsigned long long)vm->config->memory >> 20, strerror(-r));
		return -1;
	}
	if (vcpu_create_all(vm, err, sizeof(err)) < 0) {
		vm_fail(vm, ENODEV, "hypervisor %s: %s", vm->hv->name, err);
		return -1;
	}
	return 0;
}

void
vm_create(struct vm *vm, struct channel_message *m)
{
	const int *files;
	int r;

	vm->create = *m;
	vm->config = m->envelope->create;
	m->envelope = NULL;
	m->nfds = 0;
	if (take_config(vm) < 0)
		return;
	take_wait_policy(vm);
	files =
	    vm->create.fds + vm->nprograms + (vm->config->has_initrd ? 2 : 1);
	for (size_t i = 0; i < vm->config->n_devices; i++) {
		if (take_device(vm, vm->config->devices[i], files) < 0)
			return;
		files += vm->config->devices[i]->n_files;
	}
	set_stage(vm, VM_GREETING);
	/* The hosts start while we make the partition. */
	for (unsigned i = 0; i < vm->ndevices && !vm_ending(vm); i++)
		device_start(&vm->device[i]);
	if (vm->layout_only || vm_ending(vm))
		return;
	snprintf(vm->loader.name, sizeof(vm->loader.name), "loader");
	snprintf(vm->loader.type, sizeof(vm->loader.type), "loader");
	vm->loader.loader = true;
	r = process_prepare(&vm->loader);
	if (r < 0) {
		vm_fail(vm, -r, "cannot prepare the loader: %s", strerror(-r));
		return;
	}
	device_start(&vm->loader);
	if (!vm_ending(vm))
		make_partition(vm);
}

static bool
all_in(struct vm *vm, enum device_state state)
{
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].state != state)
			return false;
	return true;
}

static int
place(struct vm *vm, struct layout_item *items)
{
	char err[VM_TEXT];

	for (unsigned i = 0; i < vm->ndevices; i++) {
		struct device *d = &vm->device[i];

		if (!vm->layout_only && !device_resolve(d))
			return -1;
		items[i].name = d->name;
		items[i].manifest = &d->manifest;
	}
	if (layout_place(items, vm->ndevices, &vm->layout, err, sizeof(err)) <
	    0) {
		vm_fail(vm, EINVAL, "%s", err);
		return -1;
	}
	for (unsigned i = 0; i < vm->ndevices; i++) {
		vm->device[i].chosen = items[i].chosen;
		vm->device[i].placed = items[i].placed;
	}
	return 0;
}

/* What devices are bound to, and those of them that it is made for. */
static int
build_bus(struct vm *vm, bool pci)
{
	int r = 0;

	wiring_bus_init(&vm->wiring, vm->hv, vm->partition, &vm->map,
	    vm->layout.high, vm->notify_fd);
	vm->next_gsi = VM_GSI_MSI;
	if (pci) {
		r = pci_add_routes(&vm->pci, address_map_edit(&vm->map));
		address_map_publish(&vm->map);
	}
	return r;
}

static void
place_and_configure(struct vm *vm)
{
	static struct layout_item items[VM_DEVICES_MAX];

	if (place(vm, items) < 0)
		return;
	if (vm->layout_only) {
		layout_dump(stdout, items, vm->ndevices, &vm->layout);
		fflush(stdout);
		vm_end(vm, BULKHEAD__END_REASON__END_POWEROFF, "laid out");
		return;
	}
	if (build_bus(vm, layout_has_pci(items, vm->ndevices)) < 0) {
		vm_fail(vm, EINVAL, "the PCI bus has no place");
		return;
	}
	for (unsigned i = 0; i < vm->ndevices; i++) {
		int r = device_build(&vm->device[i]);

		if (r < 0) {
			vm_fail(vm, ENOMEM, "device %s: %s", vm->device[i].name,
			    strerror(-r));
			return;
		}
	}
	set_stage(vm, VM_LOADING);
	device_configure(&vm->loader);
	for (unsigned i = 0; i < vm->ndevices; i++)
		device_configure(&vm->device[i]);
}

void
vm_entry(struct vm *vm, const Bulkhead__Loaded *entry)
{
	int r = vcpu_set_entry(vm, entry);

	if (r < 0) {
		vm_fail(vm, ENOEXEC, "the image's entry state is refused: %s",
		    strerror(-r));
		return;
	}
	vm->loaded = true;
}

/* The loader is done. */
static void
close_image(struct vm *vm)
{
	unsigned n = vm->nprograms + 1 + (vm->initrd_fd >= 0);

	/* The programs stay: an upgrade that is refused goes back to them. */
	for (unsigned i = vm->nprograms; i < n; i++) {
		close(vm->create.fds[i]);
		vm->create.fds[i] = -1;
	}
	vm->kernel_fd = vm->initrd_fd = -1;
}

static void
set_running(struct vm *vm)
{
	char err[VM_TEXT] = "";
	int r;

	vm->run_ns = time_now_ns();
	r = vcpu_start_all(vm);
	if (r < 0) {
		vm_fail(vm, -r, "cannot start the vCPUs: %s", strerror(-r));
		return;
	}
	close_image(vm);
	r = confine_finish(vm, err, sizeof(err));
	if (r < 0) {
		vm_fail(vm, EPERM, "the broker's own sandbox: %s", err);
		return;
	}
	set_stage(vm, VM_RUNNING);
	client_started(vm);
	vcpu_release_all(vm);
	for (unsigned i = 0; i < vm->ndevices; i++)
		device_want_spare(
		    &vm->device[i], SPARE_FIRST_NS + i * SPARE_APART_NS);
}

void
vm_advance(struct vm *vm)
{
	if (vm->stage == VM_GREETING && all_in(vm, DEVICE_GREETED) &&
	    (vm->layout_only || vm->loader.state == DEVICE_GREETED))
		place_and_configure(vm);
	if (vm->stage == VM_LOADING && vm->loaded && all_in(vm, DEVICE_RUNNING))
		set_running(vm);
}

/* ---- the loop ---- */

static void
on_notify(evutil_socket_t fd, short what, void *arg)
{
	struct vm *vm = arg;
	uint64_t n;
	int stopped;

	(void)what;
	if (read(fd, &n, sizeof(n)) < 0)
		return;
	stopped = atomic_load(&vm->vcpu_stopped);
	if (stopped > 0)
		vm_end(
		    vm, BULKHEAD__END_REASON__END_CRASH, "%s", vm->vcpu_text);
	for (unsigned i = 0; i < vm->ndevices; i++)
		if (vm->device[i].state == DEVICE_RUNNING)
			device_report(&vm->device[i]);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct vm *vm = arg;
	uint64_t now = time_now_ns();

	(void)fd;
	(void)what;
	if (vm_ending(vm)) {
		end_step(vm);
		return;
	}
	if (vm->stage == VM_EMPTY && now - vm->made_ns > CREATE_NS)
		vm_end(vm, BULKHEAD__END_REASON__END_ERROR,
		    "nobody said what to create");
	if (vm->stage == VM_RUNNING)
		for (unsigned i = 0; i < vm->ndevices; i++)
			device_check(&vm->device[i], now);
	set_tick(vm, vm_ending(vm) ? END_TICK_MS : TICK_MS);
}

static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct signalfd_siginfo si;
	int sig;

	(void)what;
	if (read(fd, &si, sizeof(si)) != sizeof(si))
		return;
	sig = (int)si.ssi_signo;
	vm_end(arg, BULKHEAD__END_REASON__END_STOPPED, "signal %d (%s)", sig,
	    strsignal(sig));
}

struct vm *
vm_new(bool layout_only, struct spawner *spawner)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct vm *vm = aligned_alloc(64, (sizeof(*vm) + 63) / 64 * 64);

	sigset_t set;

	if (vm == NULL) {
		spawner_stop(spawner);
		return NULL;
	}
	memset(vm, 0, sizeof(*vm));
	vm->spawner = *spawner;
	vm->pid = getpid();
	vm->owner = geteuid();
	pthread_mutex_init(&vm->gate, NULL);
	pthread_cond_init(&vm->gate_moved, NULL);
	TAILQ_INIT(&vm->clients);
	vm->layout_only = layout_only;
	vm->made_ns = vm->stage_ns = time_now_ns();
	/* Guest time begins at zero. */
	vm->clock_offset_ns = -(int64_t)vm->made_ns;
	vm->kernel_fd = vm->initrd_fd = vm->recorder_fd = -1;
	vm->notify_fd = vm->signal_fd = -1;
	vm->ram = MEMORY_NONE;
	device_init(&vm->loader, vm);
	vm->base = event_base_new();
	vm->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->base == NULL || vm->notify_fd < 0)
		goto fail;
	vm->on_tick = evtimer_new(vm->base, on_tick, vm);
	vm->on_notify = event_new(
	    vm->base, vm->notify_fd, EV_READ | EV_PERSIST, on_notify, vm);
	if (vm->on_tick == NULL || vm->on_notify == NULL)
		goto fail;
	event_add(vm->on_notify, NULL);
	/* By an fd: a handler would take more system calls. */
	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	vm->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (vm->signal_fd < 0)
		goto fail;
	vm->on_signal = event_new(
	    vm->base, vm->signal_fd, EV_READ | EV_PERSIST, on_signal, vm);
	if (vm->on_signal == NULL)
		goto fail;
	event_add(vm->on_signal, NULL);
	set_tick(vm, TICK_MS);
	return vm;
fail:
	vm_free(vm);
	return NULL;
}

int
vm_loop(struct vm *vm)
{
	static const int codes[] = {
		[BULKHEAD__END_REASON__END_POWEROFF] = EXIT_POWEROFF,
		[BULKHEAD__END_REASON__END_RESET] = EXIT_RESET,
		[BULKHEAD__END_REASON__END_CRASH] = EXIT_CRASH,
		[BULKHEAD__END_REASON__END_STOPPED] = EXIT_STOPPED,
		[BULKHEAD__END_REASON__END_ERROR] = EXIT_ERROR,
	};

	event_base_dispatch(vm->base);
	return codes[vm->end_reason];
}

void
vm_free(struct vm *vm)
{
	struct event *events[] = { vm->on_listen, vm->on_notify, vm->on_tick,
		vm->on_signal };
	bool running = false;

	for (unsigned i = 0; i < vm->nvcpus; i++)
		running |= vm->vcpu[i].has_thread;
	/* A vCPU that does not stop may touch any of it until we exit. */
	if (running)
		return;
	set_stage(vm, VM_ENDED);
	client_drop_all(vm);
	for (unsigned i = 0; i < vm->ndevices; i++)
		device_destroy(&vm->device[i]);
	device_destroy(&vm->loader);
	vcpu_destroy_all(vm);
	if (vm->partition != NULL)
		vm->hv->partition_destroy(vm->partition);
	memory_destroy(&vm->ram);
	if (vm->notify_fd >= 0)
		close(vm->notify_fd);
	if (vm->signal_fd >= 0)
		close(vm->signal_fd);
	spawner_stop(&vm->spawner);
	channel_free(&vm->create);
	for (unsigned i = 0; i < ARRAY_LEN(events); i++)
		if (events[i] != NULL)
			event_free(events[i]);
	if (vm->base != NULL)
		event_base_free(vm->base);
	free(vm);
}
