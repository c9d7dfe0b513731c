/*
 * For Linux guests: write, read, flush, zero and discard a disk from several
 * threads, with overlaps, and keep an independent history of every sector: what
 * may be there, by what was acknowledged when.
 *
 *	sectors DEVICE SECONDS THREADS SECTORS SEED
 *
 * A value may be in a sector if its write began before the read ended and no
 * other write of the sector began after that write was acknowledged and was
 * itself acknowledged before the read began.  A value that was once read rules
 * out all others that had been acknowledged by then.
 *
 * Prints one line of counts; exit status 0 if there was no error and no wrong
 * sector.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SECTOR	    512u
#define SPAN_MAX    64u /* sectors of one request */
#define HISTORY	    24u /* writes of a sector that are remembered */
#define THREADS_MAX 32u
#define NEVER	    UINT64_MAX
#define ZEROES	    0u /* tag of a sector of zeroes */

struct past {
	uint64_t tag;
	uint64_t issued, acked; /* ticks; NEVER: not yet */
	uint64_t lost; /* something else was seen by that tick */
};

struct sector {
	struct past past[HISTORY];
	unsigned n;
};

static struct sector *sectors;
static uint64_t nsectors, ticks = 1, next_tag = 1, stop_ns, first_seed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t reads, writes, flushes, zeroings, discards, errors, wrong;
static int disk;
/* When the reads under way began; NEVER: none. */
static uint64_t reading[THREADS_MAX];

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t
random_next(uint64_t *seed)
{
	*seed += 0x9e3779b97f4a7c15u;
	return mix(*seed);
}

static void
fill(uint64_t *word, uint64_t sector, uint64_t tag)
{
	word[0] = tag;
	word[1] = sector;
	for (unsigned i = 2; i < SECTOR / 8; i++)
		word[i] = mix(tag * 64 + i + (sector << 32));
}

/* The tag that a sector read holds; false: it is no write of ours. */
static bool
parse(const uint64_t *word, uint64_t sector, uint64_t *tag)
{
	uint64_t want[SECTOR / 8] = { 0 };

	if (word[0] != 0)
		fill(want, sector, word[0]);
	*tag = word[0];
	return memcmp(word, want, SECTOR) == 0;
}

/* Must p be gone, to one who looks from tick `from` on? */
static bool
is_superseded(const struct sector *s, const struct past *p, uint64_t from)
{
	if (p->lost < from)
		return true;
	for (unsigned i = 0; i < s->n; i++)
		if (s->past[i].issued > p->acked && s->past[i].acked < from)
			return true;
	return false;
}

static void
forget(struct sector *s, unsigned i)
{
	memmove(
	    &s->past[i], &s->past[i + 1], (s->n - i - 1) * sizeof(s->past[0]));
	s->n--;
}

/* The tick from which on the earliest of the reads under way looks. */
static uint64_t
earliest(void)
{
	uint64_t first = ticks;

	for (unsigned i = 0; i < THREADS_MAX; i++)
		if (reading[i] < first)
			first = reading[i];
	return first;
}

/* Make room: what is gone for everybody.  False: the sector is busy. */
static bool
has_room(struct sector *s)
{
	uint64_t from = earliest();

	for (unsigned i = 0; i < s->n && s->n == HISTORY;)
		if (is_superseded(s, &s->past[i], from))
			forget(s, i);
		else
			i++;
	return s->n < HISTORY;
}

/* Note a write of n sectors as begun.  Its tag, or NEVER if one is busy. */
static uint64_t
begin(uint64_t first, unsigned n, bool zero)
{
	uint64_t tag = NEVER;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < n; i++)
		if (!has_room(&sectors[first + i]))
			goto out;
	tag = zero ? ZEROES : next_tag++;
	ticks++;
	for (unsigned i = 0; i < n; i++) {
		struct sector *s = &sectors[first + i];

		s->past[s->n++] = (struct past){ tag, ticks, NEVER, NEVER };
	}
out:
	pthread_mutex_unlock(&lock);
	return tag;
}

/* discarded: the old content may stay as well. */
static void
acknowledge(uint64_t first, unsigned n, uint64_t tag, bool discarded)
{
	pthread_mutex_lock(&lock);
	ticks++;
	for (unsigned i = 0; i < n; i++) {
		struct sector *s = &sectors[first + i];

		for (unsigned j = 0; j < s->n; j++)
			if (s->past[j].tag == tag &&
			    s->past[j].acked == NEVER) {
				s->past[j].acked = ticks;
				/* It supersedes nothing. */
				if (discarded)
					s->past[j].issued = 0;
				break;
			}
	}
	pthread_mutex_unlock(&lock);
}

static void
complain(uint64_t sector, const uint64_t *word, uint64_t from)
{
	const struct sector *s = &sectors[sector];

	printf("sectors: sector %" PRIu64 " holds tag %" PRIu64
	       " of sector %" PRIu64 ", read from tick %" PRIu64 ":\n",
	    sector, word[0], word[1], from);
	for (unsigned i = 0; i < s->n; i++)
		printf("sectors:   tag %" PRIu64 " ticks %" PRIu64
		       " to %" PRId64 "\n",
		    s->past[i].tag, s->past[i].issued,
		    (int64_t)s->past[i].acked);
}

static bool
check_one(uint64_t sector, const uint64_t *word, uint64_t from)
{
	struct sector *s = &sectors[sector];
	struct past *found = NULL;
	uint64_t tag;

	if (!parse(word, sector, &tag))
		return false;
	for (unsigned i = 0; i < s->n; i++)
		if (s->past[i].tag == tag &&
		    !is_superseded(s, &s->past[i], from))
			found = &s->past[i];
	if (found == NULL)
		return false;
	/* The others that were acknowledged before we looked have lost. */
	for (unsigned i = 0; i < s->n; i++)
		if (s->past[i].tag != tag && s->past[i].acked < from &&
		    s->past[i].lost == NEVER)
			s->past[i].lost = ticks;
	return true;
}

static void
check(uint64_t first, unsigned n, const uint8_t *data, uint64_t from)
{
	pthread_mutex_lock(&lock);
	ticks++;
	for (unsigned i = 0; i < n; i++) {
		uint64_t word[SECTOR / 8];

		memcpy(word, data + i * SECTOR, SECTOR);
		if (!check_one(first + i, word, from) && wrong++ < 10)
			complain(first + i, word, from);
	}
	pthread_mutex_unlock(&lock);
}

static void
count(uint64_t *what)
{
	__atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

static void
failed(const char *what, uint64_t first)
{
	count(&errors);
	printf("sectors: %s at sector %" PRIu64 ": %s\n", what, first,
	    strerror(errno));
}

static void
do_read(unsigned thread, uint64_t first, unsigned n, uint8_t *buffer)
{
	uint64_t from;

	pthread_mutex_lock(&lock);
	from = reading[thread] = ++ticks;
	pthread_mutex_unlock(&lock);
	if (pread(disk, buffer, n * SECTOR, (off_t)(first * SECTOR)) !=
	    (ssize_t)(n * SECTOR)) {
		failed("read", first);
	} else {
		check(first, n, buffer, from);
		count(&reads);
	}
	pthread_mutex_lock(&lock);
	reading[thread] = NEVER;
	pthread_mutex_unlock(&lock);
}

static void
do_write(uint64_t first, unsigned n, uint8_t *buffer)
{
	uint64_t tag = begin(first, n, false);

	if (tag == NEVER)
		return;
	for (unsigned i = 0; i < n; i++) {
		uint64_t word[SECTOR / 8];

		fill(word, first + i, tag);
		memcpy(buffer + i * SECTOR, word, SECTOR);
	}
	if (pwrite(disk, buffer, n * SECTOR, (off_t)(first * SECTOR)) !=
	    (ssize_t)(n * SECTOR)) {
		failed("write", first);
		return;
	}
	acknowledge(first, n, tag, false);
	count(&writes);
}

static void
do_zero(uint64_t first, unsigned n, bool discard)
{
	uint64_t range[2] = { first * SECTOR, n * SECTOR };

	if (begin(first, n, true) == NEVER)
		return;
	if (ioctl(disk, discard ? BLKDISCARD : BLKZEROOUT, range) < 0 &&
	    errno != EOPNOTSUPP) {
		failed(discard ? "discard" : "zero", first);
		return;
	}
	acknowledge(first, n, ZEROES, discard);
	count(discard ? &discards : &zeroings);
}

static void *
worker(void *arg)
{
	unsigned self = (unsigned)(uintptr_t)arg;
	uint64_t seed = first_seed * 1000 + self;
	uint8_t *buffer;

	if (posix_memalign((void **)&buffer, 4096, SPAN_MAX * SECTOR) != 0)
		abort();
	while (now_ns() < stop_ns && wrong < 100 && errors < 100) {
		uint64_t r = random_next(&seed);
		unsigned n = 1 + (unsigned)(r >> 8) % SPAN_MAX;
		uint64_t first = (r >> 20) % (nsectors - n + 1);
		unsigned what = (unsigned)(r % 100);

		if (what < 40)
			do_read(self, first, n, buffer);
		else if (what < 88)
			do_write(first, n, buffer);
		else if (what < 94)
			do_zero(first, n, what < 90);
		else if (fdatasync(disk) < 0)
			failed("flush", first);
		else
			count(&flushes);
	}
	free(buffer);
	return NULL;
}

int
main(int argc, char **argv)
{
	pthread_t thread[THREADS_MAX];
	uint8_t *buffer;
	unsigned threads;

	if (argc != 6) {
		fprintf(stderr,
		    "usage: sectors DEVICE SECONDS THREADS SECTORS SEED\n");
		return 2;
	}
	threads = (unsigned)atoi(argv[3]);
	nsectors = strtoull(argv[4], NULL, 0);
	disk = open(argv[1], O_RDWR | O_DIRECT);
	if (disk < 0 || threads < 1 || threads > THREADS_MAX ||
	    nsectors < SPAN_MAX) {
		fprintf(stderr, "sectors: %s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	first_seed = strtoull(argv[5], NULL, 0);
	memset(reading, 0xff, sizeof(reading));
	sectors = calloc(nsectors, sizeof(*sectors));
	if (sectors == NULL ||
	    posix_memalign((void **)&buffer, 4096, SPAN_MAX * SECTOR) != 0)
		return 2;
	/* Everything starts as zeroes. */
	for (uint64_t i = 0; i < nsectors; i += SPAN_MAX) {
		unsigned n = nsectors - i < SPAN_MAX ? (unsigned)(nsectors - i)
						     : SPAN_MAX;

		memset(buffer, 0, SPAN_MAX * SECTOR);
		if (pwrite(disk, buffer, n * SECTOR, (off_t)(i * SECTOR)) !=
		    (ssize_t)(n * SECTOR))
			failed("first write", i);
		if (begin(i, n, true) != NEVER)
			acknowledge(i, n, ZEROES, false);
	}
	stop_ns = now_ns() + strtoull(argv[2], NULL, 0) * 1000000000u;
	for (unsigned i = 0; i < threads; i++) {
		void *self = (void *)(uintptr_t)i;

		if (pthread_create(&thread[i], NULL, worker, self) != 0)
			return 2;
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	for (uint64_t i = 0; i + SPAN_MAX <= nsectors; i += SPAN_MAX)
		do_read(0, i, SPAN_MAX, buffer);
	printf("sectors: reads %" PRIu64 " writes %" PRIu64 " zeroings %" PRIu64
	       " discards %" PRIu64 " flushes %" PRIu64 " errors %" PRIu64
	       " wrong %" PRIu64 "\n",
	    reads, writes, zeroings, discards, flushes, errors, wrong);
	return errors != 0 || wrong != 0;
}
