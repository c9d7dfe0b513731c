/*
 * For Linux guests: load a disk with direct asynchronous requests.
 *
 *	blockload DEVICE read|write|seqread|seqwrite BYTES DEPTH SECONDS
 *
 * Prints "blockload MODE BYTES DEPTH: REQUESTS requests in NS ns, p50 NS p99 NS".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX   64u
#define SAMPLES_MAX (1u << 20)

static uint64_t seed = 1, blocks, next_block;
static uint32_t *samples;

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t
choose(bool sequential)
{
	if (sequential)
		return next_block++ % blocks;
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 20) % blocks;
}

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int
fail(const char *what)
{
	fprintf(stderr, "blockload: %s: %s\n", what, strerror(errno));
	return 1;
}

int
main(int argc, char **argv)
{
	static struct iocb cb[DEPTH_MAX], *list[DEPTH_MAX];
	static struct io_event event[DEPTH_MAX];
	static uint64_t begun[DEPTH_MAX];
	uint64_t size, start, stop, done = 0;
	size_t bytes;
	unsigned depth, seconds, flying = 0;
	aio_context_t ctx = 0;
	bool write, sequential;
	uint8_t *buffer;
	int fd;

	if (argc != 6) {
		fprintf(stderr,
		    "usage: blockload DEVICE read|write|seqread|seqwrite BYTES "
		    "DEPTH SECONDS\n");
		return 2;
	}
	sequential = strncmp(argv[2], "seq", 3) == 0;
	write = strstr(argv[2], "write") != NULL;
	bytes = strtoul(argv[3], NULL, 0);
	depth = (unsigned)strtoul(argv[4], NULL, 0);
	seconds = (unsigned)strtoul(argv[5], NULL, 0);
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0)
		return fail(argv[1]);
	if (bytes == 0 || depth == 0 || depth > DEPTH_MAX || size < bytes ||
	    posix_memalign((void **)&buffer, 4096, bytes * depth) != 0)
		return fail("arguments");
	samples = malloc(SAMPLES_MAX * sizeof(*samples));
	if (samples == NULL || syscall(SYS_io_setup, DEPTH_MAX, &ctx) < 0)
		return fail("io_setup");
	blocks = size / bytes;
	memset(buffer, 0x5a, bytes * depth);
	start = now_ns();
	stop = start + seconds * 1000000000ull;
	for (unsigned i = 0; i < depth; i++) {
		cb[i].aio_fildes = (uint32_t)fd;
		cb[i].aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
		cb[i].aio_buf = (uint64_t)(uintptr_t)(buffer + i * bytes);
		cb[i].aio_nbytes = bytes;
		cb[i].aio_data = i;
		list[flying++] = &cb[i];
	}
	while (flying > 0) {
		unsigned n = flying;
		long got;

		for (unsigned i = 0; i < n; i++) {
			list[i]->aio_offset =
			    (int64_t)(choose(sequential) * bytes);
			begun[list[i]->aio_data] = now_ns();
		}
		if (n > 0 &&
		    syscall(SYS_io_submit, ctx, (long)n, list) != (long)n)
			return fail("io_submit");
		got = syscall(
		    SYS_io_getevents, ctx, 1L, (long)DEPTH_MAX, event, NULL);
		if (got < 0)
			return fail("io_getevents");
		flying = 0;
		for (long i = 0; i < got; i++) {
			uint64_t now = now_ns();

			if (event[i].res != (int64_t)bytes)
				return fail("request");
			if (done < SAMPLES_MAX)
				samples[done] =
				    (uint32_t)(now - begun[event[i].data]);
			done++;
			if (now < stop)
				list[flying++] = &cb[event[i].data];
		}
	}
	stop = now_ns();
	size = done < SAMPLES_MAX ? done : SAMPLES_MAX;
	qsort(samples, size, sizeof(*samples), compare);
	printf("blockload %s %zu %u: %llu requests in %llu ns, p50 %u p99 %u\n",
	    argv[2], bytes, depth, (unsigned long long)done,
	    (unsigned long long)(stop - start), samples[size / 2],
	    samples[size * 99 / 100]);
	return 0;
}
