/* The manifests of the device types. */
#include "devhost/manifest.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "proto/base.h"

/*
 * What every device host does after it has entered its sandbox: greet, map
 * what it is handed, serve rings, sleep.  No open, no socket, no exec, no
 * signal, no thread, no executable memory.  Without signal handlers there is no
 * rt_sigreturn, and host_clock.c spares gettimeofday.
 */
static const struct sandbox_syscall common[] = {
	{ .nr = __NR_recvmsg, .reason = "control channel" },
	{ .nr = __NR_sendmsg, .reason = "control channel" },
	{ .nr = __NR_read, .reason = "clear an eventfd after a wake-up" },
	{ .nr = __NR_write,
	    .reason = "write an eventfd: interrupts, kicks; last words" },
	{ .nr = __NR_futex,
	    .reason = "wake a vCPU that waits for an answer",
	    .nargs = 1,
	    .args = { { 1, SANDBOX_EQ, FUTEX_WAKE, 0 } } },
	{ .nr = __NR_sched_yield, .reason = "let others have a shared core" },
	{ .nr = __NR_epoll_wait, .reason = "event loop: sleep" },
	{ .nr = __NR_epoll_ctl, .reason = "event loop: what to wake for" },
	{ .nr = __NR_mmap,
	    .reason = "map store, rings, streams; never executable",
	    .nargs = 1,
	    .args = { { 2, SANDBOX_MASKED_EQ,
		~(uint64_t)(PROT_READ | PROT_WRITE), 0 } } },
	{ .nr = __NR_munmap, .reason = "unmap them; free memory" },
	{ .nr = __NR_brk, .reason = "allocate memory" },
	{ .nr = __NR_newfstatat,
	    .reason = "size of a memfd; by fd, not by name",
	    .nargs = 1,
	    .args = { { 3, SANDBOX_EQ, AT_EMPTY_PATH, 0 } } },
	{ .nr = __NR_fcntl,
	    .reason = "seals of a memfd",
	    .nargs = 1,
	    .args = { { 1, SANDBOX_EQ, F_GET_SEALS, 0 } } },
	{ .nr = __NR_close, .reason = "fds of a message that was refused" },
	{ .nr = __NR_clock_gettime, .reason = "time, where there is no vDSO" },
	{ .nr = __NR_exit_group, .reason = "end" },
};

unsigned
manifest_syscalls(const struct device_type *type,
    struct sandbox_syscall out[MANIFEST_SYSCALLS_MAX])
{
	unsigned n = ARRAY_LEN(common);

	BUG_ON(n + type->nsyscalls > MANIFEST_SYSCALLS_MAX);
	memcpy(out, common, sizeof(common));
	for (unsigned i = 0; i < type->nsyscalls; i++)
		out[n++] = type->syscalls[i];
	return n;
}

static const char *
dma_name(enum device_dma dma)
{
	static const char *const name[] = { "none", "windowed", "full" };

	return name[dma];
}

static void
print_names(const char *const *names, unsigned n, char end)
{
	for (unsigned i = 0; i < n; i++)
		printf("%s%s", i ? "," : "", names[i]);
	printf("%s%c", n ? "" : "-", end);
}

void
manifest_list(void)
{
	DEVTYPE_FOREACH (t) {
		printf("%s\t%s\t%s\t%s\t", (*t)->name, (*t)->title,
		    (*t)->platform ? "platform" : "optional",
		    dma_name((*t)->dma));
		for (unsigned i = 0; i < (*t)->noptions; i++)
			printf("%s%s", i ? "," : "", (*t)->options[i].key);
		printf("%s\t", (*t)->noptions ? "" : "-");
		print_names((*t)->files, (*t)->nfiles, '\t');
		print_names((*t)->links, (*t)->nlinks, '\t');
		printf("%s\n", (*t)->network ? "network" : "-");
	}
}

static void
print_region(const struct device_region *r)
{
	static const char *const space[] = { "ports", "memory",
		"PCI function" };

	printf("  region %-8s %s ", r->name, space[r->space]);
	if (r->bar)
		printf("of a BAR");
	else if (r->space == DEVICE_PCI_CONFIG && r->base == DEVICE_PCI_ANY)
		printf("in any slot");
	else
		printf("0x%llx", (unsigned long long)r->base);
	printf(" size %llu%s%s\n", (unsigned long long)r->size,
	    r->posted ? " posted" : "", r->wiring ? " wiring" : "");
}

static void
print_placement(const struct device_placement *pl)
{
	for (unsigned i = 0; i < pl->nregions; i++)
		print_region(&pl->regions[i]);
	for (unsigned i = 0; i < pl->nirqs; i++)
		if (pl->irqs[i].pci)
			printf("  irq INTA# level\n");
		else
			printf("  irq %u %s\n", pl->irqs[i].gsi,
			    pl->irqs[i].level ? "level" : "edge");
}

static void
print_syscalls(const struct device_type *t)
{
	struct sandbox_syscall list[MANIFEST_SYSCALLS_MAX];
	unsigned n = manifest_syscalls(t, list);

	printf("system calls: %u\n", n);
	for (unsigned i = 0; i < n; i++) {
		char *name = seccomp_syscall_resolve_num_arch(
		    SCMP_ARCH_NATIVE, list[i].nr);

		printf("  %-14s %s%s\n", name ? name : "?", list[i].reason,
		    list[i].nargs ? " (arguments filtered)" : "");
		free(name);
	}
}

void
manifest_describe(const struct device_type *t)
{
	printf("%s: %s\n%s, DMA %s, state version %u, %u bytes, log %u "
	       "bytes\n",
	    t->name, t->title, t->platform ? "platform" : "optional",
	    dma_name(t->dma), t->state_version, t->state_size, t->log_size);
	for (unsigned i = 0; i < t->nplacements; i++) {
		printf("placement %u:\n", i);
		print_placement(&t->placements[i]);
	}
	printf("registers:\n");
	for (unsigned i = 0; i < t->nregisters; i++) {
		const struct device_register *r = &t->registers[i];

		printf("  %s+0x%x %u byte%s %s %s\n",
		    t->placements[0].regions[r->region].name, r->offset,
		    r->width, r->width > 1 ? "s" : "",
		    r->readonly ? "read-only " : "read-write", r->name);
	}
	if (t->network)
		printf("stays in the network namespace of its starter\n");
	if (t->nvectors > 0)
		printf("MSI-X vectors: %u\n", t->nvectors);
	if (t->doorbells.count > 0)
		printf("doorbells: %u, at %s+0x%x, every %u bytes\n",
		    t->doorbells.count,
		    t->placements[0].regions[t->doorbells.region].name,
		    t->doorbells.offset, t->doorbells.stride);
	for (unsigned i = 0; i < t->nstreams; i++)
		printf("stream %s\n", t->streams[i]);
	for (unsigned i = 0; i < t->nlinks; i++)
		printf("link %s\n", t->links[i]);
	for (unsigned i = 0; i < t->nfiles; i++)
		printf("file %s%s\n", t->files[i] + (t->files[i][0] == '?'),
		    t->files[i][0] == '?' ? " (optional)" : "");
	for (unsigned i = 0; i < t->ncounters; i++)
		printf("counter %s\n", t->counters[i]);
	for (unsigned i = 0; i < t->noptions; i++)
		printf(
		    "option %s: %s\n", t->options[i].key, t->options[i].help);
	print_syscalls(t);
}
