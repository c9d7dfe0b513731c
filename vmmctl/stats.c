/* stats and set: what the devices count, and what may change as they run. */
#include <errno.h>
#include <string.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/stats.h"
#include "vmmctl/stats_format.h"

/* The answer to one question; 0, or an exit code, *error that of a failure. */
static int
ask_one(struct channel *c, int body_case, void *body, int wanted,
    struct channel_message *m, int *error, char why[STATS_WHY])
{
	int r = connect_ask(c, body_case, body, m, NULL), code = EXIT_ERROR;

	*error = 0;
	snprintf(why, STATS_WHY, "%s",
	    r < 0 ? "the VM does not answer" : "the VM has ended");
	if (r != 1)
		return code;
	if ((int)m->envelope->body_case == wanted)
		return EXIT_POWEROFF;
	if (m->envelope->body_case == BULKHEAD__ENVELOPE__BODY_FAILURE) {
		*error = m->envelope->failure->error;
		code = connect_failure_code(m->envelope->failure);
		snprintf(why, STATS_WHY, "%s", m->envelope->failure->text);
	}
	channel_free(m);
	return code;
}

static int
ask_stats(struct channel *c, const char *device, struct stats_answer *a,
    int *error, char why[STATS_WHY])
{
	Bulkhead__QueryStats q;
	int code;

	bulkhead__query_stats__init(&q);
	q.device = connect_text(device);
	code = ask_one(c, BULKHEAD__ENVELOPE__BODY_QUERY_STATS, &q,
	    BULKHEAD__ENVELOPE__BODY_STATS, &a->message[a->n], error, why);
	if (code == EXIT_POWEROFF)
		a->n++;
	return code;
}

/* A device at a time; the rest is that of the last message. */
static int
ask_each(struct channel *c, struct stats_answer *a, char why[STATS_WHY])
{
	struct channel_message names;
	Bulkhead__Describe d;
	size_t n = 0;
	int code, error;

	bulkhead__describe__init(&d);
	code = ask_one(c, BULKHEAD__ENVELOPE__BODY_DESCRIBE, &d,
	    BULKHEAD__ENVELOPE__BODY_DESCRIPTION, &names, &error, why);
	if (code != EXIT_POWEROFF)
		return code;
	for (size_t i = 0; code == EXIT_POWEROFF && n < STATS_DEVICES &&
	     i < names.envelope->description->n_devices;
	     i++) {
		const Bulkhead__Stats *s;

		code =
		    ask_stats(c, names.envelope->description->devices[i]->name,
			a, &error, why);
		if (code != EXIT_POWEROFF)
			break;
		s = a->message[a->n - 1].envelope->stats;
		a->all = *s;
		if (s->n_devices == 1)
			a->devices[n++] = s->devices[0];
	}
	channel_free(&names);
	a->all.devices = a->devices;
	a->all.n_devices = n;
	a->stats = &a->all;
	return code;
}

int
stats_ask(struct channel *c, const char *device, struct stats_answer *a,
    char why[STATS_WHY])
{
	int error, code;

	a->n = 0;
	bulkhead__stats__init(&a->all);
	code = ask_stats(c, device, a, &error, why);
	if (code == EXIT_POWEROFF)
		a->stats = a->message[0].envelope->stats;
	else if (error == E2BIG)
		code = ask_each(c, a, why);
	if (code != EXIT_POWEROFF)
		stats_free(a);
	return code;
}

void
stats_free(struct stats_answer *a)
{
	while (a->n > 0)
		channel_free(&a->message[--a->n]);
}

struct stats_options {
	const char *vm, *device, *format;
};

static int
parse(struct stats_options *o, int argc, char **argv)
{
	*o = (struct stats_options){ .format = "table" };
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--format") == 0 && i + 1 < argc)
			o->format = argv[++i];
		else if (strncmp(argv[i], "--format=", 9) == 0)
			o->format = argv[i] + 9;
		else if (argv[i][0] == '-')
			return complain_code(EXIT_USAGE,
			    "stats: unknown option %s; known is: --format",
			    argv[i]);
		else if (o->vm == NULL)
			o->vm = argv[i];
		else if (o->device == NULL)
			o->device = argv[i];
		else
			return complain_code(EXIT_USAGE,
			    "stats: %s: one device at a time", argv[i]);
	}
	if (o->vm == NULL)
		return complain_code(EXIT_USAGE,
		    "stats: usage: vmmctl stats VM [DEVICE] [--format "
		    "table|json|prometheus]");
	if (strcmp(o->format, "table") != 0 && strcmp(o->format, "json") != 0 &&
	    strcmp(o->format, "prometheus") != 0)
		return complain_code(EXIT_USAGE,
		    "--format %s: unknown; known are: table json prometheus",
		    o->format);
	return EXIT_POWEROFF;
}

static int
print(const struct stats_options *o, const Bulkhead__Stats *s)
{
	if (o->format[0] == 'p')
		stats_print_prometheus(stdout, o->vm, s);
	else if (o->format[0] == 'j' && stats_print_json(stdout, o->vm, s) < 0)
		return complain_code(EXIT_ERROR, "out of memory");
	else if (o->format[0] == 't' && o->device != NULL)
		stats_print_details(stdout, s);
	else if (o->format[0] == 't')
		stats_print_table(stdout, s);
	return EXIT_POWEROFF;
}

int
command_stats(int argc, char **argv)
{
	static struct stats_answer a;
	char why[STATS_WHY];
	struct stats_options o;
	struct channel c;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	code = parse(&o, argc, argv);
	if (code == EXIT_POWEROFF)
		code = connect_open(&c, o.vm);
	if (code != EXIT_POWEROFF)
		return code;
	code = stats_ask(&c, o.device == NULL ? "" : o.device, &a, why);
	if (code == EXIT_POWEROFF) {
		code = print(&o, a.stats);
		stats_free(&a);
	} else {
		complain_code(code, "%s", why);
	}
	channel_close(&c);
	return code;
}

/* ---- set ---- */

int
command_set(int argc, char **argv)
{
	Bulkhead__Param param[OPTIONS_PARAMS], *list[OPTIONS_PARAMS];
	Bulkhead__SetParams s;
	struct channel_message m;
	struct channel c;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	if (argc < 4)
		return complain_code(EXIT_USAGE,
		    "set: usage: vmmctl set VM DEVICE KEY=VALUE...");
	if (argc - 3 > (int)OPTIONS_PARAMS)
		return complain_code(
		    EXIT_USAGE, "set: more than %u keys", OPTIONS_PARAMS);
	bulkhead__set_params__init(&s);
	s.device = argv[2];
	for (int i = 3; i < argc; i++) {
		char *eq = strchr(argv[i], '=');

		if (eq == NULL || eq == argv[i])
			return complain_code(
			    EXIT_USAGE, "set: %s: not KEY=VALUE", argv[i]);
		*eq = '\0';
		bulkhead__param__init(&param[s.n_params]);
		param[s.n_params].key = argv[i];
		param[s.n_params].value = eq + 1;
		list[s.n_params] = &param[s.n_params];
		s.n_params++;
	}
	s.params = list;
	code = connect_open(&c, argv[1]);
	if (code != EXIT_POWEROFF)
		return code;
	code = connect_question(&c, BULKHEAD__ENVELOPE__BODY_SET_PARAMS, &s,
	    BULKHEAD__ENVELOPE__BODY_OK, &m);
	if (code == EXIT_POWEROFF)
		channel_free(&m);
	channel_close(&c);
	return code;
}
