/*
 * For tests: lives of a device process that end at any instruction.
 *
 * The driver is this process; a life is a child that attaches to the harness's
 * memory, takes up what it finds, does all the work there is, and ends: when it
 * is done, or killed after so many instructions, which it counts by itself with
 * the processor's trap flag.
 */
#ifndef TESTS_LIVES_H
#define TESTS_LIVES_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "devhost/harness.h"

#define LIVES_TO_THE_END UINT64_MAX

/* Builds whose lives have ten times as many instructions. */
#if defined(BULKHEAD_ASAN) || defined(BULKHEAD_TSAN) || defined(BULKHEAD_COV)
#define LIVES_SLOW 1
#else
#define LIVES_SLOW 0
#endif

/* Copies in loops of single bytes would cost a step for each. */
#define LIVES_TUNABLES                                  \
	"glibc.cpu.x86_rep_movsb_threshold=1073741824:" \
	"glibc.cpu.x86_rep_stosb_threshold=1073741824"

static uint64_t lives_left; /* instructions, in the child */

/* First thing in main(): start over with an environment for it. */
static inline void
lives_init(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", LIVES_TUNABLES, 1);
	execv("/proc/self/exe", argv);
}

/* How many deaths to die in a test: LIVES_DEATHS of the environment, or n. */
static inline unsigned
lives_deaths(unsigned n)
{
	const char *word = getenv("LIVES_DEATHS");

	return word && atoi(word) > 0 ? (unsigned)atoi(word) : n;
}

static void
lives_step(int signal_number UNUSED)
{
	if (--lives_left == 0)
		kill(getpid(), SIGKILL);
}

static inline void
lives_trap(bool on)
{
	if (on)
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
				 "pushfq\n\t"
				 "orq $0x100, (%%rsp)\n\t"
				 "popfq\n\t"
				 "lea 128(%%rsp), %%rsp" ::
				     : "memory", "cc");
	else
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
				 "pushfq\n\t"
				 "andq $~0x100, (%%rsp)\n\t"
				 "popfq\n\t"
				 "lea 128(%%rsp), %%rsp" ::
				     : "memory", "cc");
}

/* In the child: from engine_start() on everything counts. */
NORETURN static inline void
lives_child(
    struct harness *h, const struct device_type *t, uint64_t n, uint64_t *ran)
{
	struct sigaction sa = { .sa_handler = lives_step };
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	harness_prepare(h, t);
	if (engine_attach(&h->dev, t, &h->config) != 0)
		_exit(2);
	sigaction(SIGTRAP, &sa, NULL);
	lives_left = n;
	lives_trap(n != LIVES_TO_THE_END);
	rc = engine_start(&h->dev, NULL, NULL);
	if (rc >= 0) {
		engine_take_up(&h->dev);
		harness_run(h);
	}
	lives_trap(false);
	*ran = n - lives_left;
	_exit(rc < 0 ? 2 : 0);
}

/*
 * One life of at most n instructions; the harness must be stopped.  How many it
 * had before it was done (0 if they were not counted); n if it was killed.  A
 * life that ends otherwise than well is a bug.
 */
static inline uint64_t
lives_run(struct harness *h, const struct device_type *t, uint64_t n)
{
	uint64_t *ran = mmap(NULL, sizeof(*ran), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t done;
	int status;
	pid_t pid;

	BUG_ON(ran == MAP_FAILED);
	fflush(stdout);
	pid = fork();
	BUG_ON(pid < 0);
	if (pid == 0)
		lives_child(h, t, n, ran);
	BUG_ON(waitpid(pid, &status, 0) != pid);
	done = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? n : *ran;
	BUG_ON(!WIFSIGNALED(status) && status != 0);
	BUG_ON(WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL);
	munmap(ran, sizeof(*ran));
	return done;
}

#endif
