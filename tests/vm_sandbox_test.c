/*
 * The processes of a running VM, from each one's own files in /proc: what they
 * can reach, which guest memory they map, and, from the filter that the kernel
 * holds, which system calls they can make.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/stat.h>

#include "tests/named_tests.h"
#include "tests/vm.h"

#define MEMORY	       (32ull << 20)
#define DEVICE_CALLS   20u
#define BROKER_CALLS   30u
#define CALL_NUMBERS   512u
#define PROGRAM_MAX    4096u
#define NAMESPACE_KIND 7u

static const char *const namespaces[NAMESPACE_KIND] = { "user", "mnt", "pid",
	"net", "ipc", "uts", "cgroup" };

/* Which types may see guest memory: all that do DMA, of those started here. */
static const char *const with_dma[] = { "virtio-rng", "virtio-console" };

static struct vm_run run;
static pid_t broker, hosts[VM_CHILDREN];
static unsigned nhosts;

static FILE *
open_of(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return fopen(path, "re");
}

/* The first word of a line of /proc/PID/status; "" if there is none. */
static void
status_of(pid_t pid, const char *key, char out[32])
{
	FILE *f = open_of(pid, "status");
	char line[256];
	size_t n = strlen(key);

	out[0] = '\0';
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, key, n) == 0 && line[n] == ':')
			sscanf(line + n + 1, "%31s", out);
	if (f != NULL)
		fclose(f);
}

static bool
says(pid_t pid, const char *key, const char *value)
{
	char is[32];

	status_of(pid, key, is);
	if (strcmp(is, value) != 0)
		printf("\nprocess %d: %s is %s, not %s\n", pid, key, is, value);
	return strcmp(is, value) == 0;
}

static bool
has_own(pid_t pid, const char *kind)
{
	char path[64], ours[64] = "", its[64] = "";

	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	if (readlink(path, ours, sizeof(ours) - 1) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
	return readlink(path, its, sizeof(its) - 1) > 0 &&
	    strcmp(ours, its) != 0;
}

/* Its root has nothing in it. */
static bool
root_is_empty(pid_t pid)
{
	char path[64];
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/root/.", pid);
	d = opendir(path);
	if (d == NULL)
		return false;
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n == 2;
}

static bool
has_folder_open(pid_t pid)
{
	char path[64], name[300];
	struct dirent *e;
	bool found = false;
	struct stat st;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	if (d == NULL)
		return true;
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%.200s", path, e->d_name);
		found |= stat(name, &st) == 0 && S_ISDIR(st.st_mode);
	}
	closedir(d);
	return found;
}

/* Bytes of guest memory that it maps; 1: some of it so that code could run. */
static uint64_t
ram_of(pid_t pid)
{
	FILE *f = open_of(pid, "maps");
	unsigned long from, to;
	char line[512], rights[8];
	uint64_t sum = 0;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strstr(line, "/memfd:bulkhead-ram") == NULL ||
		    sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3)
			continue;
		if (strchr(rights, 'x') != NULL)
			sum = 1;
		sum += to - from;
	}
	if (f != NULL)
		fclose(f);
	return sum;
}

static bool
does_dma(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(with_dma); i++)
		if (strcmp(with_dma[i], type) == 0)
			return true;
	return false;
}

/* ---- the filter, as the kernel has it ---- */

/*
 * Can a call of that number be allowed, with some arguments?  What the filter
 * loads of the arguments is unknown: both ways are gone.
 */
static bool
may_allow(const struct sock_filter *p, unsigned n, unsigned at, uint32_t a,
    bool known, uint32_t nr)
{
	while (at < n) {
		const struct sock_filter *i = &p[at++];
		bool yes;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			known = i->k == offsetof(struct seccomp_data, nr) ||
			    i->k == offsetof(struct seccomp_data, arch);
			/* AUDIT_ARCH_X86_64 */
			a = i->k == 0 ? nr : 0xc000003eu;
			break;
		case BPF_RET:
			return i->k == SECCOMP_RET_ALLOW;
		case BPF_ALU:
			known = false;
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_JA) {
				at += i->k;
				break;
			}
			if (!known) {
				if (may_allow(p, n, at + i->jt, a, false, nr))
					return true;
				at += i->jf;
				break;
			}
			yes = BPF_OP(i->code) == BPF_JEQ ? a == i->k
			    : BPF_OP(i->code) == BPF_JGE ? a >= i->k
			    : BPF_OP(i->code) == BPF_JGT ? a > i->k
							 : (a & i->k) != 0;
			at += yes ? i->jt : i->jf;
			break;
		default:
			return true;
		}
	}
	return true;
}

/* How many system calls its filter lets through; -1: the kernel does not say. */
static int
calls_of(pid_t pid)
{
	static struct sock_filter program[PROGRAM_MAX];
	int count = -1, status;
	long n = -1;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return -1;
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 &&
	    waitpid(pid, &status, __WALL) == pid)
		n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, 0UL, program);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	if (n <= 0 || n > (long)PROGRAM_MAX)
		return -1;
	count = 0;
	for (uint32_t nr = 0; nr < CALL_NUMBERS; nr++)
		count += may_allow(program, (unsigned)n, 0, 0, false, nr);
	return count;
}

/* ---- the claims ---- */

static void
every_process_has_lost_what_it_does_not_need(void)
{
	static const char *const caps[] = { "CapInh", "CapPrm", "CapEff",
		"CapAmb" };
	char uid[32];

	for (unsigned i = 0; i <= nhosts; i++) {
		pid_t pid = i < nhosts ? hosts[i] : broker;

		for (size_t c = 0; c < ARRAY_LEN(caps); c++)
			CU_ASSERT(says(pid, caps[c], "0000000000000000"));
		CU_ASSERT(says(pid, "NoNewPrivs", "1"));
		CU_ASSERT(says(pid, "Seccomp", "2"));
		if (pid == broker)
			continue;
		CU_ASSERT(says(pid, "CapBnd", "0000000000000000"));
		for (unsigned n = 0; n < NAMESPACE_KIND; n++)
			CU_ASSERT(has_own(pid, namespaces[n]));
		CU_ASSERT(root_is_empty(pid));
		CU_ASSERT_FALSE(has_folder_open(pid));
		status_of(pid, "Uid", uid);
		if (geteuid() == 0)
			CU_ASSERT_NOT_EQUAL(atoi(uid), 0);
	}
}

static void
no_two_devices_share_a_uid(void)
{
	char a[32], b[32], type[32], other[32];

	if (geteuid() != 0)
		return;
	for (unsigned i = 0; i < nhosts; i++) {
		for (unsigned j = 0; j < i; j++) {
			vm_type_of(hosts[i], type);
			vm_type_of(hosts[j], other);
			/* A device and its spare do. */
			if (strcmp(type, other) == 0)
				continue;
			status_of(hosts[i], "Uid", a);
			status_of(hosts[j], "Uid", b);
			CU_ASSERT_STRING_NOT_EQUAL(a, b);
		}
	}
}

static void
the_broker_has_no_path(void)
{
	CU_ASSERT_FALSE(has_folder_open(broker));
	/* Others keep their root, and have no call that takes a path. */
	if (geteuid() != 0)
		return;
	CU_ASSERT(root_is_empty(broker));
	CU_ASSERT(has_own(broker, "mnt"));
	CU_ASSERT(has_own(broker, "net"));
}

static void
only_dma_maps_guest_memory_and_never_executable(void)
{
	unsigned dma = 0, other = 0;

	for (unsigned i = 0; i < nhosts; i++) {
		uint64_t ram = ram_of(hosts[i]);
		char type[32];

		vm_type_of(hosts[i], type);
		if (does_dma(type)) {
			/* All of it, or it is the spare. */
			CU_ASSERT(ram == MEMORY || ram == 0);
			dma += ram == MEMORY;
		} else {
			CU_ASSERT_EQUAL(ram, 0);
			other++;
		}
	}
	CU_ASSERT_EQUAL(dma, ARRAY_LEN(with_dma));
	CU_ASSERT(other >= 5);
	CU_ASSERT_EQUAL(ram_of(broker), MEMORY);
}

static void
filters_let_few_calls_through(void)
{
	int n = calls_of(broker);

	if (n < 0) {
		printf("\nthe kernel does not show filters to us\n");
		return;
	}
	printf("\nbroker: %d system calls\n", n);
#if defined(BULKHEAD_ASAN) || defined(BULKHEAD_TSAN)
	printf("the sanitizers need more\n");
#else
	CU_ASSERT(n > 0 && n <= (int)BROKER_CALLS);
	for (unsigned i = 0; i < nhosts; i++) {
		char type[32];

		n = calls_of(hosts[i]);
		vm_type_of(hosts[i], type);
		printf("%s: %d system calls\n", type, n);
		CU_ASSERT(n > 0 && n <= (int)DEVICE_CALLS);
	}
#endif
}

static void
vmmctl_says_the_same(void)
{
	static struct vm_run r;

	vm_start(&r, 20, "exec vmmctl/vmmctl sandbox sandbox-%d --format=json",
	    (int)getpid());
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(&r, "sandbox", EXIT_POWEROFF, "\"broker\""));
	for (unsigned i = 0; i < nhosts; i++) {
		char pid[32];

		snprintf(pid, sizeof(pid), "\"pid\": %d,", hosts[i]);
		CU_ASSERT_PTR_NOT_NULL(strstr(r.text, pid));
	}
	CU_ASSERT_PTR_NULL(strstr(r.text, "\"ram_rights\": \"rwx"));
}

/* The broker can still do all that a restart takes. */
static void
devices_come_back_all_the_same(void)
{
	static struct vm_run r;
	pid_t now = vm_find_device(&run, "rtc", 1000), next;
	uint64_t end = time_now_ns() + 10000000000u;

	vm_start(
	    &r, 20, "exec vmmctl/vmmctl kill sandbox-%d rtc", (int)getpid());
	vm_finish(&r, 1);
	CU_ASSERT(vm_ended(&r, "kill", EXIT_POWEROFF, ""));
	do
		next = vm_find_device(&run, "rtc", 1000);
	while ((next == now || next == 0) && time_now_ns() < end);
	CU_ASSERT_NOT_EQUAL(next, now);
	CU_ASSERT(says(next, "Seccomp", "2"));
	vm_start(&r, 20, "exec vmmctl/vmmctl shutdown sandbox-%d --force",
	    (int)getpid());
	vm_finish(&r, 1);
	vm_finish(&run, 1);
	CU_ASSERT(vm_ended(&run, "the VM", EXIT_STOPPED, ""));
	CU_ASSERT_EQUAL(vm_left_behind(2000), 0);
}

/* Once all hosts are there and in their sandboxes, spares too. */
static bool
start(void)
{
	uint64_t end = time_now_ns() + 20000000000u;
	pid_t children[VM_CHILDREN];

	vm_start(&run, 120,
	    "exec vmmctl/vmmctl run --hypervisor soft --memory 32M --rng "
	    "--virtio-console --kernel guests/counting.elf --name sandbox-%d",
	    (int)getpid());
	do {
		unsigned n;

		vm_step(&run, 1);
		broker = vm_find_broker(&run);
		n = broker == 0 ? 0 : vm_children_of(broker, children);
		nhosts = 0;
		for (unsigned i = 0; i < n; i++) {
			char type[32], filter[32];

			vm_type_of(children[i], type);
			status_of(children[i], "Seccomp", filter);
			/* The spawner is no host. */
			if (type[0] != '\0' && strcmp(type, "loader") != 0 &&
			    strcmp(filter, "2") == 0)
				hosts[nhosts++] = children[i];
		}
		if (nhosts == 2 * 7)
			return true;
	} while (time_now_ns() < end);
	printf("%u device hosts:\n%s\n", nhosts, run.text);
	return false;
}

static void
the_vm_runs(void)
{
	CU_ASSERT_FATAL(start());
}

static const struct named_test tests[] = {
	NAMED_TEST(the_vm_runs),
	NAMED_TEST(every_process_has_lost_what_it_does_not_need),
	NAMED_TEST(no_two_devices_share_a_uid),
	NAMED_TEST(the_broker_has_no_path),
	NAMED_TEST(only_dma_maps_guest_memory_and_never_executable),
	NAMED_TEST(filters_let_few_calls_through),
	NAMED_TEST(vmmctl_says_the_same),
	NAMED_TEST(devices_come_back_all_the_same),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "guests/counting.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_sandbox", tests, ARRAY_LEN(tests));
}
