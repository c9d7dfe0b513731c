/*
 * The prover: kills devices after every instruction, and counts.
 *
 *	prover [--verbose] [--stores] [--limit N] [DEVICE...]
 *
 * --stores: in recoveries, count stores to shared memory instead of
 * instructions; what is tried is the same, and it takes a fraction of the time.
 */
#include <getopt.h>

#include "tests/lives.h"
#include "tests/prove/prove.h"

#define LIMIT 20000u

static const struct option options[] = {
	{ "verbose", no_argument, NULL, 'v' },
	{ "stores", no_argument, NULL, 's' },
	{ "limit", required_argument, NULL, 'l' },
	{ NULL, 0, NULL, 0 },
};

static bool
is_asked(const struct scenario *s, char **names)
{
	const char *device = s->type ? s->type->name : s->device;

	for (char **n = names; *n; n++)
		if (strcmp(*n, device) == 0)
			return true;
	return !*names;
}

static void
print_row(const char *name, const struct tally *t)
{
	printf("%-16s %9llu %12llu %10llu %9llu %6llu%s\n", name,
	    (unsigned long long)t->scenarios, (unsigned long long)t->points,
	    (unsigned long long)t->stores, (unsigned long long)t->states,
	    (unsigned long long)t->bad, t->limited ? "  (limited)" : "");
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
prove(const char *device, const struct explore_how *how, struct prover *p,
    struct tally *t)
{
	for (const struct scenario_set *const *set = __start_scenario_sets;
	     (uintptr_t)set < (uintptr_t)__stop_scenario_sets; set++)
		for (size_t i = 0; i < (*set)->n; i++) {
			const struct scenario *s = &(*set)->scenario[i];
			const char *name = s->type ? s->type->name : s->device;

			if (strcmp(name, device) == 0)
				explore(s, how, p, t);
		}
}

int
main(int argc, char **argv)
{
	struct explore_how how = { .step = true, .limit = LIMIT };
	static const char *done[64];
	static struct prover p;
	struct tally total = { 0 };
	unsigned ndone = 0;
	int c;

	lives_init(argv);
	while ((c = getopt_long(argc, argv, "vsl:", options, NULL)) >= 0) {
		if (c == 'v')
			how.verbose = true;
		else if (c == 's')
			how.step = false;
		else if (c == 'l')
			how.limit = (uint32_t)atoi(optarg);
		else
			return 2;
	}
	track_make_arena(&p);
	printf("%-16s %9s %12s %10s %9s %6s\n", "device", "scenarios",
	    "kill points", "stores", "states", "bad");
	for (const struct scenario_set *const *set = __start_scenario_sets;
	     (uintptr_t)set < (uintptr_t)__stop_scenario_sets; set++)
		for (size_t i = 0; i < (*set)->n; i++) {
			const struct scenario *s = &(*set)->scenario[i];
			const char *name = s->type ? s->type->name : s->device;
			struct tally t = { 0 };
			unsigned k = 0;

			while (k < ndone && strcmp(done[k], name) != 0)
				k++;
			if (k < ndone || !is_asked(s, argv + optind))
				continue;
			BUG_ON(ndone == ARRAY_LEN(done));
			done[ndone++] = name;
			prove(name, &how, &p, &t);
			print_row(name, &t);
			add(&total, &t);
		}
	print_row("all", &total);
	return total.bad > 0 || total.scenarios == 0;
}
