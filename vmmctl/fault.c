/* fault: make a device of a running VM do wrong. */
#include "vmmctl/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "proto/exitcodes.h"
#include "proto/fault.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/option_parse.h"

#define MILLION 1000000u
#define SECOND	1000000000ull
/* Longer than this nothing is slow, but hung. */
#define SLOW_MAX_NS (3600 * SECOND)

static const char *const on_names[] = { "any", "read", "write", "queue" };

static const char usage[] =
    "fault: usage: vmmctl fault VM DEVICE KIND [KEY=VALUE...], "
    "vmmctl fault VM DEVICE list|clear";

/* ---- words ---- */

struct words {
	struct fault_words *out;
	bool said_on, said_times, said_value;
	bool registers; /* a key that is about registers was there */
	char *err;
	size_t size;
};

PRINTF_LIKE(2, 3)
static int
complain(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->err, w->size, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* "12.5" times scale, rounded down; what follows it in *end. */
static int
parse_scaled(const char *text, uint64_t scale, uint64_t *out, const char **end)
{
	uint64_t v = 0, part = scale;
	const char *s = text;

	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -EINVAL;
	if (s == text || __builtin_mul_overflow(v, scale, &v))
		return -EINVAL;
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++) {
			part /= 10;
			v += part * (uint64_t)(*s - '0');
		}
	*out = v;
	*end = s;
	return 0;
}

int
fault_parse_time(const char *text, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = {
		{ "ns", 1 },
		{ "us", 1000 },
		{ "ms", 1000000 },
		{ "s", SECOND },
		{ "m", 60 * SECOND },
	};
	size_t n = strspn(text, "0123456789.");
	const char *end;

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (strcmp(text + n, units[i].unit) == 0)
			return parse_scaled(text, units[i].ns, ns, &end) == 0 &&
				end == text + n
			    ? 0
			    : -EINVAL;
	return -EINVAL;
}

/* Decimal, or hexadecimal after 0x. */
static int
parse_any_number(const char *text, uint64_t *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
	return errno == 0 && *end == '\0' ? 0 : -EINVAL;
}

static int
set_on(struct words *w, const char *v)
{
	for (unsigned i = 0; i < ARRAY_LEN(on_names); i++)
		if (strcmp(v, on_names[i]) == 0) {
			w->out->plan.on = i;
			w->said_on = true;
			return 0;
		}
	return complain(
	    w, "on=%s: unknown; known are: any read write queue", v);
}

static int
set_rate(struct words *w, const char *v)
{
	uint64_t n;
	const char *end;

	/* A percent sign is ten thousand of a million. */
	if (parse_scaled(v, 10000, &n, &end) == 0 && strcmp(end, "%") == 0)
		;
	else if (parse_scaled(v, 1, &n, &end) != 0 || strcmp(end, "ppm") != 0)
		return complain(
		    w, "rate=%s: not a rate such as 5%% or 200ppm", v);
	if (n < 1 || n > MILLION)
		return complain(w, "rate=%s: not from 1ppm to 100%%", v);
	w->out->plan.per_million = (uint32_t)n;
	return 0;
}

static int
set_region(struct words *w, const char *v)
{
	uint64_t n;

	w->registers = true;
	if (parse_any_number(v, &n) != 0) {
		w->out->region = v;
		return 0;
	}
	if (n >= UINT16_MAX)
		return complain(w, "region=%s: no such region", v);
	w->out->plan.region = (uint32_t)n;
	return 0;
}

static int
set_value(struct words *w, const char *v)
{
	uint32_t kind = (uint32_t)fault_kind_parse(w->out->plan.kind);
	uint64_t *value = &w->out->plan.value;

	w->said_value = true;
	if (kind == FAULT_SLOW) {
		if (fault_parse_time(v, value) != 0 || *value == 0 ||
		    *value > SLOW_MAX_NS)
			return complain(w,
			    "value=%s: not a time such as 500us or 20ms, at "
			    "most an hour",
			    v);
		return 0;
	}
	if (kind != FAULT_CORRUPT)
		return complain(w,
		    "value is for slow (a time) and corrupt-answer (bits) "
		    "only");
	if (parse_any_number(v, value) != 0 || *value == 0)
		return complain(w, "value=%s: not bits such as 0x1 or 0xff", v);
	return 0;
}

static int
set_number(struct words *w, const char *key, const char *v)
{
	Bulkhead__FaultPlan *p = &w->out->plan;
	uint64_t n;

	if (parse_any_number(v, &n) != 0)
		return complain(w, "%s=%s: not a number", key, v);
	if (strcmp(key, "after") == 0) {
		p->after = n;
	} else if (strcmp(key, "times") == 0) {
		p->times = n;
		w->said_times = true;
	} else if (strcmp(key, "seed") == 0) {
		p->seed = n;
	} else if (strcmp(key, "address") == 0) {
		p->address = n;
		w->registers = true;
	} else {
		if (n >= UINT16_MAX)
			return complain(w, "queue=%s: no such queue", v);
		p->queue = (uint32_t)n;
	}
	return 0;
}

static int
set_key(struct words *w, const char *key, const char *v)
{
	if (strcmp(key, "on") == 0)
		return set_on(w, v);
	if (strcmp(key, "rate") == 0)
		return set_rate(w, v);
	if (strcmp(key, "region") == 0)
		return set_region(w, v);
	if (strcmp(key, "value") == 0)
		return set_value(w, v);
	if (strcmp(key, "for") == 0)
		return fault_parse_time(v, &w->out->plan.for_ns) == 0 &&
			w->out->plan.for_ns > 0
		    ? 0
		    : complain(w, "for=%s: not a time such as 30s", v);
	if (option_is_word("after times seed address queue", key))
		return set_number(w, key, v);
	return complain(w,
	    "unknown key %s; known are: on after times rate seed region "
	    "address queue value for",
	    key);
}

/* What the kind makes of what was not said, and what cannot be. */
static int
complete(struct words *w)
{
	Bulkhead__FaultPlan *p = &w->out->plan;
	uint32_t kind = (uint32_t)fault_kind_parse(p->kind);
	bool queue = p->queue != UINT16_MAX;

	if (queue && w->registers)
		return complain(w,
		    "queue is about queue requests, region and address about "
		    "registers");
	if (!w->said_on) {
		if (kind == FAULT_CORRUPT)
			p->on = FAULT_ON_READ;
		else if (kind == FAULT_ERROR || queue)
			p->on = FAULT_ON_QUEUE;
	}
	if (kind == FAULT_CORRUPT && p->on != FAULT_ON_READ)
		return complain(w, "corrupt-answer: only with on=read");
	if (kind == FAULT_ERROR && p->on != FAULT_ON_QUEUE)
		return complain(w, "error: only with on=queue");
	if (queue && p->on != FAULT_ON_QUEUE)
		return complain(w, "queue: only with on=queue");
	if (w->registers && p->on == FAULT_ON_QUEUE)
		return complain(w, "region and address: not with on=queue");
	if (kind == FAULT_SLOW && !w->said_value)
		return complain(w, "slow: value=TIME is missing");
	if (kind == FAULT_CORRUPT && !w->said_value)
		p->value = 1;
	/* One that comes back at once would be killed until it is removed. */
	if (!w->said_times && (kind == FAULT_KILL || kind == FAULT_HANG))
		p->times = 1;
	return 0;
}

int
fault_parse(struct fault_words *out, const char *kind, int n,
    const char *const *words, char *err, size_t size)
{
	struct words w = { .out = out, .err = err, .size = size };
	int r = 0;

	*out = (struct fault_words){ .region = NULL };
	bulkhead__fault_plan__init(&out->plan);
	if (fault_kind_parse(kind) < 0)
		return complain(&w,
		    "unknown fault %s; known are: kill hang slow error drop "
		    "corrupt-answer",
		    kind);
	out->plan.kind = connect_text(kind);
	out->plan.region = UINT16_MAX;
	out->plan.queue = UINT16_MAX;
	out->plan.address = UINT64_MAX;
	for (int i = 0; i < n && r == 0; i++) {
		const char *eq = strchr(words[i], '=');
		char key[16];

		if (eq == NULL || eq == words[i] ||
		    (size_t)(eq - words[i]) >= sizeof(key))
			return complain(&w, "%s: not KEY=VALUE", words[i]);
		snprintf(
		    key, sizeof(key), "%.*s", (int)(eq - words[i]), words[i]);
		r = set_key(&w, key, eq + 1);
	}
	return r == 0 ? complete(&w) : r;
}

/* ---- a VM ---- */

static const Bulkhead__Placement *
find_resources(const Bulkhead__Description *d, const char *device)
{
	for (size_t i = 0; i < d->n_devices; i++)
		if (strcmp(d->devices[i]->name, device) == 0)
			return d->devices[i]->resources;
	return NULL;
}

static int
look_up_region(struct channel *c, const char *device, struct fault_words *w)
{
	const Bulkhead__Placement *p;
	struct channel_message m;
	char known[256] = "";
	size_t n = 0;
	int code = connect_describe(c, &m);

	if (code != EXIT_POWEROFF)
		return code;
	p = find_resources(m.envelope->description, device);
	for (size_t i = 0; p != NULL && i < p->n_regions; i++) {
		if (strcmp(p->regions[i]->name, w->region) == 0) {
			w->plan.region = (uint32_t)i;
			w->region = NULL;
		}
		if (n < sizeof(known))
			n += (size_t)snprintf(known + n, sizeof(known) - n,
			    " %s", p->regions[i]->name);
	}
	if (p == NULL)
		code = complain_code(EXIT_NO_VM, "no device %s", device);
	else if (w->region != NULL)
		code = complain_code(EXIT_USAGE,
		    "fault: region=%s: unknown; known are:%s", w->region,
		    known);
	channel_free(&m);
	return code;
}

int
fault_send(struct channel *c, const char *device, struct fault_words *w)
{
	Bulkhead__InjectFault inject;
	struct channel_message m;
	int code = EXIT_POWEROFF;

	if (w->region != NULL)
		code = look_up_region(c, device, w);
	if (code != EXIT_POWEROFF)
		return code;
	bulkhead__inject_fault__init(&inject);
	inject.device = connect_text(device);
	inject.plan = &w->plan;
	code = connect_question(c, BULKHEAD__ENVELOPE__BODY_INJECT_FAULT,
	    &inject, BULKHEAD__ENVELOPE__BODY_OK, &m);
	if (code == EXIT_POWEROFF)
		channel_free(&m);
	return code;
}

int
fault_query(struct channel *c, const char *device, bool clear,
    struct channel_message *m)
{
	Bulkhead__QueryFaults query;

	bulkhead__query_faults__init(&query);
	query.device = connect_text(device);
	query.clear = clear;
	return connect_question(c, BULKHEAD__ENVELOPE__BODY_QUERY_FAULTS,
	    &query, BULKHEAD__ENVELOPE__BODY_FAULTS, m);
}

static void
print_place(FILE *out, const Bulkhead__FaultPlan *p)
{
	char region[16] = "-", address[24] = "-", queue[16] = "-";

	if (p->region != UINT16_MAX)
		snprintf(region, sizeof(region), "%u", p->region);
	if (p->address != UINT64_MAX)
		snprintf(address, sizeof(address), "0x%" PRIx64, p->address);
	if (p->queue != UINT16_MAX)
		snprintf(queue, sizeof(queue), "%u", p->queue);
	fprintf(out, " %6s %8s %5s", region, address, queue);
}

static void
print_plan(FILE *out, const Bulkhead__FaultPlan *p)
{
	char times[24] = "always", rate[16] = "always", value[32] = "-";

	if (p->times != 0)
		snprintf(times, sizeof(times), "%" PRIu64, p->times);
	if (p->per_million != 0)
		snprintf(rate, sizeof(rate), "%uppm", p->per_million);
	if (strcmp(p->kind, fault_kind_name(FAULT_SLOW)) == 0)
		snprintf(
		    value, sizeof(value), "%" PRIu64 "us", p->value / 1000);
	else if (p->value != 0)
		snprintf(value, sizeof(value), "0x%" PRIx64, p->value);
	fprintf(out, "%-14s %-5s %8" PRIu64 " %6s %9s", p->kind,
	    p->on < ARRAY_LEN(on_names) ? on_names[p->on] : "?", p->after,
	    times, rate);
	print_place(out, p);
	fprintf(out, " %10s %10" PRIu64 " %6" PRIu64 " %s\n", value, p->seen,
	    p->fired, p->armed ? "armed" : "over");
}

void
fault_print(FILE *out, const Bulkhead__Faults *faults)
{
	fprintf(out, "%-14s %-5s %8s %6s %9s %6s %8s %5s %10s %10s %6s %s\n",
	    "KIND", "ON", "AFTER", "TIMES", "RATE", "REGION", "ADDRESS",
	    "QUEUE", "VALUE", "SEEN", "FIRED", "STATE");
	for (size_t i = 0; i < faults->n_plans; i++)
		if (fault_kind_parse(faults->plans[i]->kind) > 0)
			print_plan(out, faults->plans[i]);
}

static int
list(struct channel *c, const char *device, bool clear)
{
	struct channel_message m;
	int code = fault_query(c, device, clear, &m);

	if (code != EXIT_POWEROFF)
		return code;
	if (!clear)
		fault_print(stdout, m.envelope->faults);
	channel_free(&m);
	return EXIT_POWEROFF;
}

int
command_fault(int argc, char **argv)
{
	struct fault_words w;
	struct channel c;
	char err[256];
	bool clear, lists;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	if (argc < 4)
		return complain_code(EXIT_USAGE, "%s", usage);
	clear = strcmp(argv[3], "clear") == 0;
	lists = clear || strcmp(argv[3], "list") == 0;
	if (lists && argc > 4)
		return complain_code(
		    EXIT_USAGE, "fault: %s takes no arguments", argv[3]);
	if (!lists &&
	    fault_parse(&w, argv[3], argc - 4, (const char *const *)(argv + 4),
		err, sizeof(err)) < 0)
		return complain_code(EXIT_USAGE, "fault: %s", err);
	code = connect_open(&c, argv[1]);
	if (code != EXIT_POWEROFF)
		return code;
	code = lists ? list(&c, argv[2], clear) : fault_send(&c, argv[2], &w);
	channel_close(&c);
	return code;
}
