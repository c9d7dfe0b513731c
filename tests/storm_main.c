/*
 * Kill the device processes of a running VM at random: one and several at a
 * time, every 1, 10, 100 and 1000 ms.
 *
 *	storm VM SEED KILLS [EXCEPT...]
 *
 * The processes are those that do a device's work at the moment, as the broker
 * says; devices named after KILLS are let live.  Ends when so many were killed
 * (0) or the VM has ended before (1), and prints how many of each.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/exitcodes.h"
#include "vmmctl/connect.h"

#define NAMES 32u

static const struct {
	unsigned ms, share; /* of each hundred kills */
} phases[] = { { 1, 50 }, { 10, 35 }, { 100, 13 }, { 1000, 2 } };

static struct {
	char name[32];
	unsigned kills;
} counts[NAMES];

static uint64_t
next_random(uint64_t *seed)
{
	uint64_t x = *seed += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void
count_kill(const char *name)
{
	for (unsigned i = 0; i < NAMES; i++) {
		if (counts[i].name[0] == '\0')
			snprintf(counts[i].name, sizeof(counts[i].name),
			    "%.31s", name);
		if (strcmp(counts[i].name, name) == 0) {
			counts[i].kills++;
			return;
		}
	}
}

static bool
is_spared(const char *name, char **except, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(except[i], name) == 0)
			return true;
	return false;
}

/* Kill up to `many` of those that live.  How many, or -1: the VM is gone. */
static int
strike(struct channel *c, uint64_t *seed, unsigned many, char **except, int n)
{
	const Bulkhead__Description *d;
	struct channel_message m;
	Bulkhead__Describe ask;
	int killed = 0;

	bulkhead__describe__init(&ask);
	if (connect_ask(c, BULKHEAD__ENVELOPE__BODY_DESCRIBE, &ask, &m, NULL) !=
	    1)
		return -1;
	if (m.envelope->body_case != BULKHEAD__ENVELOPE__BODY_DESCRIPTION) {
		channel_free(&m);
		return -1;
	}
	d = m.envelope->description;
	for (unsigned i = 0; i < many && d->n_devices > 0; i++) {
		const Bulkhead__DeviceInfo *info =
		    d->devices[next_random(seed) % d->n_devices];

		if (info->pid <= 0 || strcmp(info->state, "running") != 0 ||
		    strcmp(info->placement, "inline") == 0 ||
		    is_spared(info->name, except, n))
			continue;
		if (kill(info->pid, SIGKILL) == 0) {
			count_kill(info->name);
			killed++;
		}
	}
	channel_free(&m);
	return killed;
}

static unsigned
pause_ms(uint64_t r)
{
	unsigned share = (unsigned)(r % 100);

	for (unsigned i = 0; i < ARRAY_LEN(phases); i++) {
		if (share < phases[i].share)
			return phases[i].ms;
		share -= phases[i].share;
	}
	return 1;
}

int
main(int argc, char **argv)
{
	unsigned wanted, done = 0;
	struct channel c;
	uint64_t seed;

	if (argc < 4) {
		fprintf(stderr, "usage: storm VM SEED KILLS [EXCEPT...]\n");
		return 2;
	}
	seed = strtoull(argv[2], NULL, 0);
	wanted = (unsigned)strtoul(argv[3], NULL, 0);
	if (connect_open(&c, argv[1]) != EXIT_POWEROFF)
		return 1;
	while (done < wanted) {
		uint64_t r = next_random(&seed);
		unsigned ms = pause_ms(r), many = r >> 60 < 4 ? 4 : 1;
		const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };
		int n = strike(&c, &seed, many, argv + 4, argc - 4);

		if (n < 0)
			break;
		done += (unsigned)n;
		nanosleep(&ts, NULL);
	}
	channel_close(&c);
	printf("storm: %u kills:", done);
	for (unsigned i = 0; i < NAMES && counts[i].name[0] != '\0'; i++)
		printf(" %s %u", counts[i].name, counts[i].kills);
	printf("\n");
	return done < wanted;
}
