/*
 * The one place that knows what a sanitizer's runtime calls on its own: to
 * print its report, to look at its threads, to return memory.  A build without
 * one allows nothing of it.
 */
#include <sys/syscall.h>

#include "sandbox/internal.h"

#if defined(BULKHEAD_ASAN) || defined(BULKHEAD_TSAN) || defined(BULKHEAD_COV)
#define CALL(name, why)                          \
	{                                        \
		.nr = __NR_##name, .reason = why \
	}
const struct sandbox_syscall sandbox_sanitizer_group[] = {
	CALL(mmap, "shadow memory"),
	CALL(munmap, "shadow memory"),
	CALL(mremap, "shadow memory"),
	CALL(mprotect, "shadow memory"),
	CALL(madvise, "give shadow memory back"),
	CALL(brk, "heap"),
	CALL(sigaltstack, "reports on a stack of their own"),
	CALL(rt_sigaction, "reports on SIGSEGV"),
	CALL(rt_sigprocmask, "reports"),
	CALL(rt_sigreturn, "reports"),
	CALL(getpid, "reports"),
	CALL(gettid, "reports"),
	CALL(tgkill, "abort after a report"),
	CALL(write, "print a report"),
	CALL(read, "symbols for a report"),
	CALL(close, "symbols for a report"),
	CALL(fstat, "symbols for a report"),
	CALL(newfstatat, "symbols for a report"),
	CALL(lseek, "symbols for a report"),
	CALL(readlink, "symbols for a report"),
	CALL(ioctl, "is stderr a terminal?"),
	CALL(fcntl, "coverage: lock the file"),
	CALL(futex, "locks of the runtime"),
	CALL(sched_yield, "locks of the runtime"),
	CALL(nanosleep, "background thread"),
	CALL(clock_nanosleep, "background thread"),
	CALL(clock_gettime, "background thread"),
	CALL(getrusage, "background thread"),
	CALL(sched_getaffinity, "number of processors"),
	CALL(prlimit64, "stack size"),
	CALL(getrlimit, "stack size"),
	CALL(prctl, "names of threads"),
	CALL(exit_group, "end"),
	CALL(exit, "end of a thread"),
};
const size_t sandbox_sanitizer_calls = ARRAY_LEN(sandbox_sanitizer_group);
#else
const struct sandbox_syscall sandbox_sanitizer_group[] = { { .nr = -1,
    .reason = "none" } };
const size_t sandbox_sanitizer_calls = 0;
#endif
