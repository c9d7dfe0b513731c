/*
 * libevent reads the wall clock by gettimeofday(), which is a system call of
 * its own where the vDSO cannot tell the time.  This one makes do with that of
 * clock_gettime(), so that no device's list needs both.
 */
#include <sys/time.h>
#include <time.h>

#include "proto/base.h"

int
gettimeofday(struct timeval *restrict tv, void *restrict zone UNUSED)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_REALTIME, &ts) < 0)
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}
