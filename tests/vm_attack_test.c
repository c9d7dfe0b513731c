/*
 * VMs with a device that has been taken over: code of the attacker's in its
 * process, its sandbox and its fds.  Each case says what the attack can do at
 * most; beside that, in every one the guest is served by its other devices to
 * the end, the broker lives and answers, its memory stays small, and nothing is
 * left behind.
 */
#include <sys/stat.h>

#include "tests/named_tests.h"
#include "tests/vm.h"

#define TOGETHER   2u
#define BROKER_KIB (32u << 10) /* of its own, beside guest RAM */

/* "recover: end" is the guest's, after it has used the serial port for four
 * seconds without a pause. */
static const struct attack {
	const char *bound, *attack;
	const char *says[24]; /* all of them, in the VM's output */
} attacks[] = {
	{ "any_other_system_call_is_its_end_and_is_named", "calls",
	    { "denied system call openat", "denied system call socket",
		"denied system call execve", "denied system call clone",
		"denied system call kill", "denied system call ptrace",
		"denied system call process_vm_readv",
		"denied system call pidfd_getfd",
		"denied system call memfd_create", "denied system call mmap",
		"denied system call mprotect", "denied system call dup",
		"denied system call ftruncate", "denied system call unshare",
		"denied system call io_uring_setup", "denied system call bpf",
		"denied system call prctl", "denied system call rt_sigaction",
		"denied system call futex", "denied system call fcntl" } },
	{ "memory_is_its_limit_s", "memory",
	    { "rtc: attack: memory is bounded at MiB" } },
	{ "fds_are_those_that_it_was_given", "fds",
	    { "rtc: attack: fds are bounded at" } },
	{ "a_processor_is_the_scheduler_s_until_it_is_found_hung", "cpu",
	    { "rtc: died: signal 9 (Killed): hung: no answer to a health "
	      "check" } },
	{ "a_store_in_any_state_is_only_its_own_loss", "store", { "rtc" } },
	{ "rings_in_any_state_are_only_its_own_loss", "rings", { "rtc" } },
	{ "a_storm_of_interrupts_delays_and_no_more", "interrupts",
	    { "rtc: attack: interrupts" } },
	{ "full_eventfds_hold_nobody_up", "kicks",
	    { "rtc: attack: eventfds filled" } },
	{ "each_wrong_message_is_its_end", "messages",
	    { "broke the control protocol" } },
	{ "a_flood_of_messages_is_taken_in_turn", "flood",
	    { "rtc: attack: pongs" } },
	{ "fds_that_nobody_wants_are_closed", "fd-flood",
	    { "broke the control protocol" } },
};

static void
write_file(const char *folder, const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fputs(text, f);
	fclose(f);
	/* The device's process has a uid of its own. */
	chmod(path, 0666);
}

static void
set_stage(char folder[64], const char *attack)
{
	char command[3 * PATH_MAX], line[64];

	snprintf(folder, 64, "/tmp/bulkhead-attack-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	chmod(folder, 0755);
	snprintf(line, sizeof(line), "rtc %s\n", attack);
	write_file(folder, "hostile", line);
	write_file(folder, "starts", "0");
	snprintf(command, sizeof(command),
	    "cd %s && cp tests/attacker %s/devhost && "
	    "cp devhost/devhost %s/devhost.real && ln -s %s/vmmd/vmmd %s/vmmd",
	    vm_build, folder, folder, vm_build, folder);
	CU_ASSERT_EQUAL_FATAL(system(command), 0);
}

static void
clear_stage(const char *folder)
{
	char command[1024];

	snprintf(command, sizeof(command),
	    "rm -f %s/hostile %s/starts %s/devhost %s/devhost.real %s/vmmd "
	    "%s/said && rmdir %s",
	    folder, folder, folder, folder, folder, folder, folder);
	CU_ASSERT_EQUAL(system(command), 0);
}

/* What vmmctl said: apart, or it would stand in the middle of what the guest
 * prints. */
static void
add_said(struct vm_run *r, const char *folder)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/said", folder);
	f = fopen(path, "re");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	r->n += fread(r->text + r->n, 1, sizeof(r->text) - 1 - r->n, f);
	r->text[r->n] = '\0';
	fclose(f);
}

/* KiB of memory of its own; 0: it is not there. */
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

/* All that only looks must go on working. */
static void
ask(unsigned i)
{
	static const char *const questions[] = { "stats", "devices",
		"sandbox" };
	static struct vm_run r;

	for (size_t q = 0; q < ARRAY_LEN(questions); q++) {
		vm_start(&r, 20, "exec vmmctl/vmmctl %s attack-%d-%u",
		    questions[q], (int)getpid(), i);
		vm_finish(&r, 1);
		CU_ASSERT(vm_ended(&r, questions[q], EXIT_POWEROFF, "serial"));
	}
}

static void
attacks_stay_within_their_bounds(void)
{
	static struct vm_run runs[TOGETHER];
	static char folders[TOGETHER][64];
	unsigned fds = vm_count_fds();

	for (unsigned at = 0; at < ARRAY_LEN(attacks); at += TOGETHER) {
		unsigned n = MIN(TOGETHER, (unsigned)ARRAY_LEN(attacks) - at);

		for (unsigned i = 0; i < n; i++) {
			set_stage(folders[i], attacks[at + i].attack);
			vm_start(&runs[i], 90,
			    "BULKHEAD_LIBEXEC=%s exec vmmctl/vmmctl run "
			    "--verbose --hypervisor soft --memory 32M "
			    "--device rtc,restarts=2000 "
			    "--kernel guests/bench_recover.elf "
			    "--name attack-%d-%u 2>%s/said",
			    folders[i], (int)getpid(), at + i, folders[i]);
		}
		for (unsigned i = 0; i < n; i++) {
			pid_t broker;
			unsigned kib;

			CU_ASSERT(vm_await(&runs[i], "recover: go", 30000));
			ask(at + i);
			broker = vm_find_broker(&runs[i]);
			kib = memory_of(broker);
			if (kib == 0 || kib > BROKER_KIB)
				printf("\n%s: the broker has %u KiB\n",
				    attacks[at + i].bound, kib);
			CU_ASSERT(kib > 0);
#if !defined(BULKHEAD_ASAN) && !defined(BULKHEAD_TSAN)
			CU_ASSERT(kib <= BROKER_KIB);
#endif
		}
		vm_finish(runs, n);
		for (unsigned i = 0; i < n; i++) {
			const struct attack *a = &attacks[at + i];

			add_said(&runs[i], folders[i]);
			CU_ASSERT(vm_ended(
			    &runs[i], a->bound, EXIT_POWEROFF, "recover: end"));
			for (size_t s = 0;
			     s < ARRAY_LEN(a->says) && a->says[s] != NULL; s++)
				CU_ASSERT(vm_ended(&runs[i], a->bound,
				    EXIT_POWEROFF, a->says[s]));
			clear_stage(folders[i]);
		}
		CU_ASSERT_EQUAL(vm_left_behind(3000), 0);
	}
	CU_ASSERT_EQUAL(vm_count_fds(), fds);
}

static const struct named_test tests[] = {
	NAMED_TEST(attacks_stay_within_their_bounds),
};

int
main(void)
{
	static const char *const needed[] = { "vmmctl/vmmctl", "vmmd/vmmd",
		"devhost/devhost", "tests/attacker",
		"guests/bench_recover.elf" };

	if (vm_prepare(needed, ARRAY_LEN(needed)) != 0)
		return 77;
	return named_tests_run("vm_attack", tests, ARRAY_LEN(tests));
}
