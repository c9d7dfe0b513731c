/*
 * The prover: kills devices after every instruction, and counts.
 *
 *	prover [--verbose] [--step-every N] [--limit N] [--jobs N] [DEVICE...]
 *
 * The instructions of each scenario's first run are counted, one by one, and
 * those of every Nth recovery.  Of the other recoveries the stores to shared
 * memory are seen, which tries the same: between two of them a process may die
 * wherever it likes, it leaves the same.
 */
#include <getopt.h>
#include <sys/wait.h>

#include "tests/lives.h"
#include "tests/prove/prove.h"

#define LIMIT	    20000u
#define STEP_EVERY  256u
#define DEVICES_MAX 64u

static const struct option options[] = {
	{ "verbose", no_argument, NULL, 'v' },
	{ "step-every", required_argument, NULL, 's' },
	{ "limit", required_argument, NULL, 'l' },
	{ "jobs", required_argument, NULL, 'j' },
	{ NULL, 0, NULL, 0 },
};

static const char *devices[DEVICES_MAX];
static unsigned ndevices;

static const char *
device_of(const struct scenario *s)
{
	return s->type ? s->type->name : s->device;
}

static void
note_device(const char *name, char **asked)
{
	char **a = asked;

	for (unsigned i = 0; i < ndevices; i++)
		if (strcmp(devices[i], name) == 0)
			return;
	while (*a && strcmp(*a, name) != 0)
		a++;
	if (*asked && !*a)
		return;
	BUG_ON(ndevices == DEVICES_MAX);
	devices[ndevices++] = name;
}

static void
find_devices(char **asked)
{
	for (const struct scenario_set *const *set = __start_scenario_sets;
	     (uintptr_t)set < (uintptr_t)__stop_scenario_sets; set++)
		for (size_t i = 0; i < (*set)->n; i++)
			note_device(device_of(&(*set)->scenario[i]), asked);
}

static void
print_row(const char *name, const struct tally *t)
{
	printf("%-16s %9llu %12llu %10llu %9llu %10llu %6llu%s\n", name,
	    (unsigned long long)t->scenarios, (unsigned long long)t->points,
	    (unsigned long long)t->stores, (unsigned long long)t->states,
	    (unsigned long long)t->runs, (unsigned long long)t->bad,
	    t->limited ? "  (limited)" : "");
	fflush(stdout);
}

static void
add(struct tally *to, const struct tally *t)
{
	to->scenarios += t->scenarios;
	to->points += t->points;
	to->states += t->states;
	to->stores += t->stores;
	to->runs += t->runs;
	to->bad += t->bad;
	to->limited |= t->limited;
}

/* Scenarios of one device, wherever they are. */
static void
prove(const char *device, const struct explore_how *how, struct tally *t)
{
	static struct prover p;

	track_make_arena(&p);
	for (const struct scenario_set *const *set = __start_scenario_sets;
	     (uintptr_t)set < (uintptr_t)__stop_scenario_sets; set++)
		for (size_t i = 0; i < (*set)->n; i++)
			if (strcmp(device_of(&(*set)->scenario[i]), device) ==
			    0)
				explore(&(*set)->scenario[i], how, &p, t);
	print_row(device, t);
}

/* Wait for one of the children; a bad end of it is a bad thing found. */
static void
reap(struct tally *total)
{
	int status;

	BUG_ON(wait(&status) < 0);
	if (status != 0) {
		printf("  BAD: a prover ended with status %#x\n",
		    (unsigned)status);
		total->bad++;
	}
}

int
main(int argc, char **argv)
{
	struct explore_how how = {
		.step_first = true, .step_every = STEP_EVERY, .limit = LIMIT
	};
	long jobs = sysconf(_SC_NPROCESSORS_ONLN), running = 0;
	struct tally *tally, total = { 0 };
	int c;

	lives_init(argv);
	while ((c = getopt_long(argc, argv, "vs:l:j:", options, NULL)) >= 0) {
		if (c == 'v')
			how.verbose = true;
		else if (c == 's')
			how.step_every = (unsigned)atoi(optarg);
		else if (c == 'l')
			how.limit = (uint32_t)atoi(optarg);
		else if (c == 'j')
			jobs = atoi(optarg);
		else
			return 2;
	}
	find_devices(argv + optind);
	tally = mmap(NULL, DEVICES_MAX * sizeof(*tally), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	BUG_ON(tally == MAP_FAILED);
	printf("%-16s %9s %12s %10s %9s %10s %6s\n", "device", "scenarios",
	    "instructions", "stores", "states", "recoveries", "bad");
	for (unsigned i = 0; i < ndevices; i++) {
		fflush(stdout);
		if (running >= jobs) {
			reap(&total);
			running--;
		}
		running++;
		switch (fork()) {
		case -1:
			BUG_ON(true);
		case 0:
			prove(devices[i], &how, &tally[i]);
			_exit(0);
		default:
			break;
		}
	}
	for (; running > 0; running--)
		reap(&total);
	for (unsigned i = 0; i < ndevices; i++)
		add(&total, &tally[i]);
	print_row("all", &total);
	return total.bad > 0 || total.scenarios == 0;
}
