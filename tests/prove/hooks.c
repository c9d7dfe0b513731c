/*
 * System calls of the device under observation.  These functions stand before
 * the C library's: what the kernel writes to protected memory is let through
 * and seen, interrupts are noted, time stands still, and chance has no part.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "tests/prove/prove.h"

int
clock_gettime(clockid_t clock UNUSED, struct timespec *ts)
{
	ts->tv_sec = (time_t)(PROVE_NOW_NS / 1000000000u);
	ts->tv_nsec = (long)(PROVE_NOW_NS % 1000000000u);
	return 0;
}

void *
mmap(void *addr, size_t n, int prot, int flags, int fd, off_t offset)
{
	long at = syscall(SYS_mmap, addr, n, prot, flags, fd, offset);
	void *p;

	if (at == -1)
		return MAP_FAILED;
	memcpy(&p, &at, sizeof(p));
	if (fd >= 0)
		track_mapped(fd, p);
	return p;
}

ssize_t
write(int fd, const void *bytes, size_t n)
{
	bool on = track_on(), ours = false;

	if (on) {
		track_pause();
		ours = track_signal(fd);
		track_resume();
	}
	return ours ? (ssize_t)n : syscall(SYS_write, fd, bytes, n);
}

ssize_t
sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (track_on()) {
		track_pause();
		track_signal(fd);
		track_resume();
		return 1;
	}
	return syscall(SYS_sendmsg, fd, m, flags);
}

ssize_t
getrandom(void *to, size_t n, unsigned flags)
{
	const struct track_span span = { .at = to, .n = n };

	if (!track_on())
		return syscall(SYS_getrandom, to, n, flags);
	track_pause();
	track_before(&span);
	memset(to, 0x5a, n);
	track_after();
	track_resume();
	return (ssize_t)n;
}

ssize_t
preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	ssize_t done;

	if (!track_on())
		return syscall(SYS_preadv2, fd, iov, n, offset, 0, flags);
	track_pause();
	for (int i = 0; i < n; i++)
		track_before(&(struct track_span){
		    .at = iov[i].iov_base, .n = iov[i].iov_len });
	done = syscall(SYS_preadv2, fd, iov, n, offset, 0, flags);
	track_after();
	track_resume();
	return done;
}

ssize_t
pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	struct track_span span = { .fd = fd, .offset = (uint64_t)offset };
	ssize_t done;

	if (!track_on())
		return syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
	track_pause();
	for (int i = 0; i < n; i++)
		span.n += iov[i].iov_len;
	track_before(&span);
	done = syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
	track_after();
	track_resume();
	return done;
}

int
madvise(void *at, size_t n, int advice)
{
	const struct track_span span = { .at = at, .n = n };
	long rc;

	if (!track_on())
		return (int)syscall(SYS_madvise, at, n, advice);
	track_pause();
	track_before(&span);
	rc = syscall(SYS_madvise, at, n, advice);
	track_after();
	track_resume();
	return (int)rc;
}
