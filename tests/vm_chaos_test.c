/*
 * Hostile guests.  Whatever a guest does to registers, queues and its own
 * memory, no device dies of it, the broker lives and answers, and stays small.
 * What it did to itself is its own: it may not come to its end.
 */
#include "tests/named_tests.h"
#include "tests/vm.h"

#define SEEDS	   4u
#define SECONDS	   8 /* then it is stopped */
#define BROKER_KIB (32u << 10)

static unsigned
memory_of(pid_t pid)
{
	char path[64], line[256];
	unsigned kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "RssAnon: %u", &kib) == 1)
			break;
	if (f != NULL)
		fclose(f);
	return kib;
}

static void
drive(const char *hypervisor, unsigned seed)
{
	static struct vm_run r, other;
	unsigned kib;
	pid_t broker;

	vm_start(&r, 120,
	    "truncate -s 8M /tmp/bulkhead-chaos-%d.img && exec vmmctl/vmmctl "
	    "run --verbose --hypervisor %s --memory 32M --rng --balloon "
	    "--virtio-console --net user --disk "
	    "path=/tmp/bulkhead-chaos-%d.img --cmdline %u --kernel "
	    "guests/chaos.elf --name chaos-%d",
	    (int)getpid(), hypervisor, (int)getpid(), seed, (int)getpid());
	if (!vm_await(&r, "chaos: go", 20000)) {
		vm_finish(&r, 1);
		if (r.code == EXIT_NO_HYPERVISOR) {
			printf("\nno %s here\n", hypervisor);
			return;
		}
		CU_ASSERT(vm_ended(&r, "start", EXIT_POWEROFF, "chaos: go"));
		return;
	}
	vm_await(&r, "chaos: end", SECONDS * 1000);
	broker = vm_find_broker(&r);
	kib = broker == 0 ? 1 : memory_of(broker);
	if (r.pid != 0) {
		vm_start(&other, 30,
		    "exec vmmctl/vmmctl shutdown chaos-%d "
		    "--force",
		    (int)getpid());
		vm_finish(&other, 1);
	}
	vm_finish(&r, 1);
	if (r.code != EXIT_POWEROFF && r.code != EXIT_STOPPED &&
	    r.code != EXIT_CRASH && r.code != EXIT_RESET)
		printf("\n%s, seed %u: exit %d\n%.4000s\n", hypervisor, seed,
		    r.code, r.text);
	CU_ASSERT(r.code == EXIT_POWEROFF || r.code == EXIT_STOPPED ||
	    r.code == EXIT_CRASH || r.code == EXIT_RESET);
	if (strstr(r.text, " died: ") != NULL || strstr(r.text, "removed: "))
		printf("\n%s, seed %u:\n%.4000s\n", hypervisor, seed, r.text);
	CU_ASSERT_PTR_NULL(strstr(r.text, " died: "));
	CU_ASSERT_PTR_NULL(strstr(r.text, "removed: "));
#if !defined(BULKHEAD_ASAN) && !defined(BULKHEAD_TSAN)
	CU_ASSERT(kib <= BROKER_KIB);
#else
	(void)kib;
#endif
	CU_ASSERT_EQUAL(vm_left_behind(3000), 0);
}

static void
drive_seeds(const char *hypervisor)
{
	const char *only = getenv("CHAOS_SEED");
	char path[64];

	if (only != NULL)
		drive(hypervisor, (unsigned)atoi(only));
	for (unsigned seed = 1; only == NULL && seed <= SEEDS; seed++)
		drive(hypervisor, seed);
	snprintf(
	    path, sizeof(path), "/tmp/bulkhead-chaos-%d.img", (int)getpid());
	unlink(path);
}

static void
nothing_dies_of_a_guest_on_the_software_processor(void)
{
	drive_seeds("soft");
}

static void
nothing_dies_of_a_guest_on_kvm(void)
{
	drive_seeds("kvm");
}

static const struct named_test tests[] = {
	NAMED_TEST(nothing_dies_of_a_guest_on_the_software_processor),
	NAMED_TEST(nothing_dies_of_a_guest_on_kvm),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "devhost/devhost-ext", "guests/chaos.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_chaos", tests, ARRAY_LEN(tests));
}
