/*
 * The virtual machine as the broker holds it.  Everything here belongs to the
 * main thread and its event loop, but for what a vCPU's thread is said to
 * touch.
 *
 * A VM is built in stages: the client's create message; every device host and
 * the loader are spawned and say hello; the layout is made; they are
 * configured; all are ready and the image is loaded; the vCPUs run.  It ends in
 * stages too: the vCPUs stop, the rings drain, the devices finish, the clients
 * are told, and their last questions answered until the owner hangs up.
 */
#ifndef VMMD_VM_H
#define VMMD_VM_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "hypervisor/hypervisor.h"
#include "proto/base.h"
#include "proto/channel.h"
#include "proto/exitcodes.h"
#include "sandbox/sandbox.h"
#include "vmmd/icount.h"
#include "vmmd/intercept.h"
#include "vmmd/layout.h"
#include "vmmd/manifest.h"
#include "vmmd/memory.h"
#include "vmmd/pci.h"
#include "vmmd/proc.h"
#include "vmmd/spawner.h"
#include "vmmd/supervisor.h"
#include "vmmd/wiring.h"

#define VM_DEVICES_MAX 32u
#define VM_CLIENTS_MAX 16u
#define VM_TEXT	       256u
#define VM_GSI_MSI     24u /* the first that is a message */
#define VM_GSI_END     1024u

struct vm;

/* ---- process.c: a device host's process ---- */

struct device;

struct process {
	struct device *device;
	pid_t pid; /* 0: none, or it is dead */
	int pidfd; /* -1: none */
	int mounts; /* its mount namespace; -1 */
	struct channel channel;
	struct event *on_message, *on_exit;
	bool greeted; /* it has said hello, and may be configured */
	bool hung_up;
	bool retired; /* a spare that is killed for no fault of its own */
	char kill_reason[96]; /* why the broker killed it; "" */
	int program; /* an fd, borrowed; -1: its device's */
	int signal, status; /* of its end: one of them is not 0, or both are */
	char failure[VM_TEXT]; /* its last words */
	char build[48]; /* as its hello says */
};

void process_init(struct process *p, struct device *d);
bool process_is_there(const struct process *p);
/* Tell the spawner what its process is.  0 or -errno. */
int process_prepare(struct device *d);
/* Start it; it is to say hello.  0, or -errno with err filled in or not: then
 * process_forget() is the caller's. */
int process_start(struct process *p, char *err, size_t size);
/* device_died() follows, at once for one that is inline. */
void process_kill(struct process *p, const char *why);
void process_forget(struct process *p);
/*
 * The host's uid and gid of a device's process, if we are root: each device has
 * its own, for as long as the VM lives, 0x70000000 + (the broker's pid, low 16
 * bits) * 256 + index; the loader's index is 255.  Where the user namespace has
 * no such uid: that of nobody.
 */
uid_t device_uid(pid_t broker, unsigned index);

/* What happens to it is the device's. */
void device_take(struct process *p, const Bulkhead__Envelope *e);
void device_hung_up(struct process *p);
void device_died(struct process *p, const char *how);

/* ---- device.c: one device, its host living or dead ---- */

enum device_state {
	DEVICE_STARTING, /* spawned, has not said hello */
	DEVICE_GREETED,
	DEVICE_CONFIGURED, /* configure or load went */
	DEVICE_RUNNING, /* ready */
	DEVICE_RESTARTING, /* dead; will be started again */
	DEVICE_REMOVED, /* dead for good */
	DEVICE_DONE, /* finished as asked; the loader: loaded */
};

struct device_stream {
	struct memory out, in;
	int out_data, out_space, in_data, in_space; /* eventfds */
};

/* Packets between two devices; side 0 is the one whose configuration names the
 * other.  By ring: 0 from side 0, 1 to it. */
struct device_link {
	struct memory mem;
	int data[2], space[2]; /* eventfds */
};

/* See vmmd/upgrade.h. */
enum upgrade_stage {
	UPGRADE_NONE,
	UPGRADE_STARTING, /* the new program has not said hello */
	UPGRADE_FINISHING, /* the old one has been told to finish */
	UPGRADE_TAKING_OVER, /* the new one is configured */
};

struct upgrade {
	enum upgrade_stage stage;
	struct event *on_timer;
	int program; /* fd of the new one; -1: the device's own */
	struct client *client; /* NULL: it is gone */
	uint64_t seq, finish_ns;
	struct manifest manifest; /* of the new one */
	struct memory mem; /* a store of another shape, to be converted to */
	struct store store;
};

/* A question of a client's that the device has not answered. */
struct device_question {
	struct client *client; /* NULL: none, or it is gone */
	uint64_t client_seq, seq;
	uint64_t asked_ns; /* 0: none */
};

struct device {
	struct vm *vm;
	char name[MANIFEST_NAME], type[MANIFEST_NAME];
	bool loader, is_inline;
	const Bulkhead__DeviceConfig *config; /* NULL: the loader */

	/* Three processes at most: the one that is the device, a spare that
	 * has been started and waits to be configured, and the one that is to
	 * take over in an upgrade. */
	struct process process[3], *now, *spare, *next;
	int program; /* fd of the last upgrade's; -1: as configured */
	bool reprogrammed; /* it has been another than at the start */
	struct upgrade upgrade;
	struct event *on_timer, *on_spare, *on_health;
	unsigned spares_lost; /* in a row */
	int mounts; /* of the one that died last; -1 */

	/* Of the process that is the device. */
	enum device_state state;
	unsigned starts, restarts;
	uint64_t last_commit; /* the commit word when it last died */
	uint64_t died_ns, ready_ns;
	uint64_t ping_ns; /* when the unanswered ping went; 0: none */
	struct device_question question;
	uint64_t log_window_ns;
	unsigned logs; /* in the window */
	bool ordered, finishing, reshaped;
	char last_death[160];

	/* What outlives it. */
	bool greeted_once;
	struct manifest manifest;
	int chosen; /* placement; -1: none */
	struct placement placed;
	struct memory store_mem, ring_mem;
	struct store store;
	int kick_fd;
	struct {
		int trigger, resample;
	} irq[MANIFEST_IRQS];
	struct device_stream stream[MANIFEST_STREAMS];
	int vector[MANIFEST_VECTORS]; /* eventfds */
	struct wiring wiring;
	struct device *link_peer; /* NULL: none */
	unsigned link_side;
	struct device_link link; /* side 0 owns it */
	const int *files_in; /* as handed in; borrowed */
	int file[MANIFEST_FILES]; /* by the manifest; borrowed; -1: none */
	struct port *port;
	struct budget budget;
	struct backoff backoff;
	enum policy policy;
	struct health health;
};

void device_init(struct device *d, struct vm *vm);
/* Start its host.  A failure ends in the same place as an early death. */
void device_start(struct device *d);
/* A placement as a message. */
struct placement_message {
	Bulkhead__Placement placement;
	Bulkhead__Region region[MANIFEST_REGIONS], *regions[MANIFEST_REGIONS];
	Bulkhead__Irq irq[MANIFEST_IRQS], *irqs[MANIFEST_IRQS];
};
/* The chosen placement of d; it points into *m and into d. */
void device_fill_placement(struct placement_message *m, struct device *d);
/* After all have greeted: who is linked to whom, which file is which.  False:
 * the VM has failed. */
bool device_resolve(struct device *d);
/* After the layout: make what outlives it, and bind it.  0 or -errno. */
int device_build(struct device *d);
/* A store for a state as the manifest has it, with what is counted in the
 * present one.  0 or -errno. */
int device_make_store(const struct device *d, const struct manifest *m,
    struct memory *mem, struct store *store);
/* From now on it is the device's; *mem is emptied. */
void device_take_store(
    struct device *d, struct memory *mem, const struct store *store);
/* Its Configure, packed, to be freed; NULL: no memory. */
uint8_t *device_pack_configure(struct device *d, size_t *size);
/* Send configure or load, and see to it that it gets on with it. */
void device_configure(struct device *d);
/* 0 or -errno. */
int device_send_configuration(struct device *d);
/* Kill what there is of it. */
void device_kill(struct device *d, const char *why);
/* Send finish; if that cannot be, kill. */
void device_finish(struct device *d);
/* See to a spare after that time, if it is to have one and the VM runs. */
void device_want_spare(struct device *d, uint64_t delay_ns);
/* Has it a process? */
bool device_has_host(const struct device *d);
/* Every so often: has it broken the rules, or left a question? */
void device_check(struct device *d, uint64_t now_ns);
const char *device_state_name(const struct device *d);
/* Have the device change parameters, and its client answered.  0 or -errno. */
int device_reconfigure(struct device *d, struct client *c, uint64_t seq,
    const Bulkhead__SetParams *set);
/* What it has noted for the operator. */
void device_report(struct device *d);
void device_destroy(struct device *d);
/* The part of that which is in resources.c. */
void device_close_resources(struct device *d);

/* ---- client.c: those who talk to us ---- */

struct client {
	TAILQ_ENTRY(client) link;
	struct vm *vm;
	struct channel channel;
	struct event *on_message;
	bool owner; /* made the VM */
	struct device *console; /* whose stream it consumes; NULL */
	unsigned console_stream;
};

int client_add(struct vm *vm, int fd, bool owner);
void client_listen(struct vm *vm, int fd);
void client_drop_all(struct vm *vm);
/* Tell every client.  level: 0 error, 1 warning, 2 information, 3 debug. */
void client_event(struct vm *vm, const char *device, unsigned level,
    const char *fmt, ...) PRINTF_LIKE(4, 5);
/* The answer to a client's question: 0, or a positive errno and why. */
void client_answer(struct client *c, uint64_t seq, int error, const char *text);
bool client_owner_is_here(struct vm *vm);
void client_started(struct vm *vm);
void client_failed(struct vm *vm, int error, const char *text);
void client_ended(struct vm *vm);

/* ---- describe.c: what clients ask and only reading answers ---- */

void describe_vm(struct client *c, uint64_t seq);
/* Of the device of that name, or of all if it is "". */
void describe_stats(struct client *c, uint64_t seq, const char *device);

/* ---- faults.c: faults made on purpose ---- */

/* Arm a plan.  0; -EAGAIN: the device is not built yet; -ENOSPC: it has as many
 * as it can; -EINVAL. */
int faults_inject(struct device *d, const Bulkhead__FaultPlan *plan);
/* Answer with the plans of a device; clear: disarm them first. */
void
faults_describe(struct client *c, uint64_t seq, struct device *d, bool clear);

/* ---- vcpu.c ---- */

struct vcpu {
	struct vm *vm;
	unsigned index;
	struct hv_vcpu *hv;
	pthread_t thread;
	bool has_thread;
	struct intercept intercept;
};

int vcpu_create_all(struct vm *vm, char *err, size_t size);
/* Put vCPU 0 at the loaded image's entry.  0 or -errno. */
int vcpu_set_entry(struct vm *vm, const Bulkhead__Loaded *entry);
/* Make their threads, which wait; and then let them run. */
int vcpu_start_all(struct vm *vm);
void vcpu_release_all(struct vm *vm);
/* Stop and join every vCPU thread.  False: one does not stop. */
bool vcpu_stop_all(struct vm *vm);
void vcpu_destroy_all(struct vm *vm);

/* ---- vm.c ---- */

enum vm_stage {
	VM_EMPTY, /* waits for create */
	VM_GREETING,
	VM_LOADING, /* placed and configured */
	VM_RUNNING,
	VM_DRAINING, /* vCPUs stopped, rings not empty yet */
	VM_FINISHING, /* devices are told to finish */
	VM_ENDED, /* the clients are told */
};

struct vm {
	struct event_base *base;
	struct event *on_listen, *on_notify, *on_tick, *on_signal;
	int signal_fd;
	TAILQ_HEAD(client_list, client) clients;
	unsigned nclients;
	bool layout_only, detach;
	struct spawner spawner;
	pid_t pid; /* our own */
	uid_t owner;
	/* Of our own sandbox; confine.h. */
	uint64_t sandbox_steps; /* SANDBOX_* */
	unsigned sandbox_calls;
	enum vm_stage stage;
	uint64_t made_ns, stage_ns, run_ns;
	int64_t clock_offset_ns;

	struct channel_message create; /* kept for its strings and its fds */
	const Bulkhead__CreateVm *config;
	unsigned nprograms; /* the first of those fds */
	int kernel_fd, initrd_fd; /* borrowed from there */
	int recorder_fd; /* borrowed; -1: no black boxes */
	struct budget boxes;
	enum sandbox_mode sandbox;
	uint64_t spin_ns;
	uint32_t device_spin_us;

	const struct hv_backend *hv;
	char hv_why[VM_TEXT];
	struct hv_partition *partition;
	struct memory ram;
	struct layout_ram layout;
	struct address_map map;
	struct pci pci;
	struct wiring_bus wiring;
	unsigned next_gsi;

	struct device device[VM_DEVICES_MAX];
	unsigned ndevices;
	struct device loader;
	bool loaded;

	struct vcpu vcpu[RING_MAX_VCPUS];
	unsigned nvcpus;
	struct icount icount; /* if config->icount is not 0 */

	/* Also of the vCPUs' threads. */
	atomic_bool stopping;
	/* vCPUs begin together. */
	pthread_mutex_t gate;
	pthread_cond_t gate_moved;
	unsigned waiting; /* at the gate */
	bool gate_open;
	int notify_fd;
	atomic_int vcpu_stopped; /* enum hv_stop + 1 of the first; 0: none */
	char vcpu_text[VM_TEXT]; /* written before vcpu_stopped */

	int end_reason; /* BULKHEAD__END_REASON__... */
	char end_text[VM_TEXT];
	char icount_text[VM_TEXT];
};

/* NULL: out of memory; *spawner is the VM's in any case. */
struct vm *vm_new(bool layout_only, struct spawner *spawner);
/* The owner's create message.  Takes what it needs of it. */
void vm_create(struct vm *vm, struct channel_message *m);
/* Something changed: go on to the next stage if all is there. */
void vm_advance(struct vm *vm);
void vm_entry(struct vm *vm, const Bulkhead__Loaded *entry);
/* It cannot be built: an errno (positive) that says of which kind, and why. */
void vm_fail(struct vm *vm, int error, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* End it; the first reason counts. */
void vm_end(struct vm *vm, int reason, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool vm_ending(const struct vm *vm);
struct device *vm_find_device(struct vm *vm, const char *name);
/* Run the event loop until the VM has ended; an enum exit_code. */
int vm_loop(struct vm *vm);
void vm_free(struct vm *vm);

/* ---- placement inside this process; vmmd-inline has it ---- */
void vm_register_inline(const struct placement_ops *ops);
const struct placement_ops *vm_inline_ops(void);

#endif
