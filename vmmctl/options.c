/* The command line of vmmctl. */
#include "vmmctl/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmmctl/config.h"
#include "vmmctl/option_parse.h"

#define CPUS_MAX     64u
#define MEMORY_MIN   (1ull << 20)
#define CMDLINE_MAX  2047u
#define ICOUNT_USUAL 1000u
#define ICOUNT_MAX   1000000u

/* ---- what all of them need ---- */

struct option_text {
	struct option_text *next;
	char bytes[];
};

int
option_complain(struct option_parse *p, const char *fmt, ...)
{
	size_t n = (size_t)snprintf(p->err, p->size, "%s", p->where);
	va_list ap;

	if (n >= p->size)
		return -EINVAL;
	va_start(ap, fmt);
	vsnprintf(p->err + n, p->size - n, fmt, ap);
	va_end(ap);
	/* A key of a file is not written with dashes. */
	if (n > 0 && strncmp(p->err + n, "--", 2) == 0)
		memmove(p->err + n, p->err + n + 2, strlen(p->err + n + 2) + 1);
	return -EINVAL;
}

const char *
option_keep(struct run_options *o, const char *text, size_t n)
{
	struct option_text *t = malloc(sizeof(*t) + n + 1);

	if (t == NULL)
		return NULL;
	memcpy(t->bytes, text, n);
	t->bytes[n] = '\0';
	t->next = o->texts;
	o->texts = t;
	return t->bytes;
}

const char *
option_keep_format(struct run_options *o, const char *fmt, ...)
{
	const char *kept;
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	kept = option_keep(o, text, (size_t)n);
	free(text);
	return kept;
}

void
options_free(struct run_options *o)
{
	while (o->texts != NULL) {
		struct option_text *t = o->texts;

		o->texts = t->next;
		free(t);
	}
}

bool
options_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= OPTIONS_NAME)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) &&
		    strchr("._-", name[i]) == NULL)
			return false;
	return true;
}

static int
parse_digits(const char *text, size_t n, uint64_t *out)
{
	uint64_t v = 0;

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!isdigit((unsigned char)text[i]))
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
			return -ERANGE;
	}
	*out = v;
	return 0;
}

int
option_parse_number(const char *text, uint64_t *out)
{
	return parse_digits(text, strlen(text), out);
}

int
options_parse_size(const char *text, uint64_t *bytes)
{
	size_t n = strlen(text);
	unsigned shift = 20;
	int r;

	if (n > 0 && !isdigit((unsigned char)text[n - 1])) {
		switch (toupper((unsigned char)text[n - 1])) {
		case 'K':
			shift = 10;
			break;
		case 'M':
			shift = 20;
			break;
		case 'G':
			shift = 30;
			break;
		default:
			return -EINVAL;
		}
		n--;
	}
	r = parse_digits(text, n, bytes);
	if (r == 0 && __builtin_mul_overflow(*bytes, 1ull << shift, bytes))
		r = -ERANGE;
	return r;
}

bool
option_is_word(const char *words, const char *v)
{
	size_t n = strlen(v);

	for (const char *w = words; *w != '\0';) {
		size_t len = strcspn(w, " ");

		if (len == n && strncmp(w, v, n) == 0)
			return true;
		w += len;
		w += strspn(w, " ");
	}
	return false;
}

/* The part of text up to a single comma, with ",," undone; *end: behind it. */
static const char *
keep_part(struct option_parse *p, const char *text, const char **end)
{
	char *part = malloc(strlen(text) + 1);
	const char *kept;
	size_t n = 0;

	if (part == NULL)
		return NULL;
	while (*text != '\0' && (*text != ',' || text[1] == ',')) {
		text += *text == ',';
		part[n++] = *text++;
	}
	*end = text;
	kept = option_keep(p->o, part, n);
	free(part);
	return kept;
}

int
option_split_list(struct option_parse *p, const struct option_row *row,
    const char *text, struct option_list *l)
{
	bool first = true;

	*l = (struct option_list){ .word = "" };
	/* Nothing at all is a list of nothing. */
	while (*text != '\0' || (first && row->word_key != NULL)) {
		const char *part = keep_part(p, text, &text), *eq;

		if (part == NULL)
			return option_complain(p, "out of memory");
		if (*text == ',')
			text++;
		eq = strchr(part, '=');
		if (first && row->word_key != NULL) {
			l->word = part;
			first = false;
			continue;
		}
		first = false;
		if (eq == NULL || eq == part)
			return option_complain(p, "--%s%s%s: %s: not KEY=VALUE",
			    row->name, l->word[0] != '\0' ? " " : "", l->word,
			    part);
		if (l->n == OPTIONS_PARAMS)
			return option_complain(p, "--%s: more than %u keys",
			    row->name, OPTIONS_PARAMS);
		l->kv[l->n].key = option_keep(p->o, part, (size_t)(eq - part));
		l->kv[l->n].value = eq + 1;
		if (l->kv[l->n++].key == NULL)
			return option_complain(p, "out of memory");
	}
	return 0;
}

/* ---- one function per option ---- */

static int
set_memory(struct option_parse *p, const char *v)
{
	uint64_t bytes;
	int r = options_parse_size(v, &bytes);

	if (r == -EINVAL)
		return option_complain(
		    p, "--memory %s: not a size such as 256M or 2G", v);
	if (r == -ERANGE || bytes > p->machine_bytes)
		return option_complain(p,
		    "--memory %s: more than this machine has (%lluM)", v,
		    (unsigned long long)p->machine_bytes >> 20);
	if (bytes < MEMORY_MIN)
		return option_complain(p, "--memory %s: the least is 1M", v);
	if (bytes % 4096 != 0)
		return option_complain(
		    p, "--memory %s: not a multiple of 4K", v);
	p->o->memory = bytes;
	return 0;
}

static int
set_cpus(struct option_parse *p, const char *v)
{
	uint64_t n;

	if (option_parse_number(v, &n) != 0 || n < 1 || n > CPUS_MAX)
		return option_complain(
		    p, "--cpus %s: not a number from 1 to %u", v, CPUS_MAX);
	p->o->cpus = (unsigned)n;
	return 0;
}

static int
set_icount(struct option_parse *p, const char *v)
{
	uint64_t n = ICOUNT_USUAL;

	if (v[0] != '\0' &&
	    (option_parse_number(v, &n) != 0 || n < 1 || n > ICOUNT_MAX))
		return option_complain(p,
		    "--icount %s: not a number from 1 to %u (instructions per "
		    "microsecond)",
		    v, ICOUNT_MAX);
	p->o->icount = (unsigned)n;
	return 0;
}

static int
set_name(struct option_parse *p, const char *v)
{
	if (!options_name_ok(v))
		return option_complain(
		    p, "--name %s: a name is 1 to 31 of a-z A-Z 0-9 . _ -", v);
	snprintf(p->o->name, sizeof(p->o->name), "%s", v);
	return 0;
}

static int
set_cmdline(struct option_parse *p, const char *v)
{
	if (strlen(v) > CMDLINE_MAX)
		return option_complain(
		    p, "--cmdline: longer than %u characters", CMDLINE_MAX);
	p->o->cmdline = v;
	return 0;
}

/* The words that an option knows, separated by spaces. */
static int
set_word(struct option_parse *p, const char *option, const char *words,
    const char *v, const char **out)
{
	if (!option_is_word(words, v))
		return option_complain(
		    p, "--%s %s: unknown; known are: %s", option, v, words);
	*out = v;
	return 0;
}

static int
set_hypervisor(struct option_parse *p, const char *v)
{
	return set_word(p, "hypervisor", "auto kvm soft", v, &p->o->hypervisor);
}

static int
set_sandbox(struct option_parse *p, const char *v)
{
	return set_word(p, "sandbox", "on best-effort off", v, &p->o->sandbox);
}

static int
set_wait_policy(struct option_parse *p, const char *v)
{
	return set_word(p, "wait-policy", "latency balanced density", v,
	    &p->o->wait_policy);
}

static int
set_placement(struct option_parse *p, const char *v)
{
	const char *eq = strchr(v, '=');
	struct option_placement *pl;

	if (eq == NULL || eq == v || (size_t)(eq - v) >= OPTIONS_NAME)
		return option_complain(p,
		    "--placement %s: not DEVICE=isolated or DEVICE=inline", v);
	if (!option_is_word("isolated inline", eq + 1))
		return option_complain(p,
		    "--placement %s: unknown placement; known are: isolated "
		    "inline",
		    v);
	if (p->o->nplacements == OPTIONS_DEVICES)
		return option_complain(
		    p, "--placement: more than %u", OPTIONS_DEVICES);
	pl = &p->o->placements[p->o->nplacements++];
	pl->where = p->where;
	memcpy(pl->device, v, (size_t)(eq - v));
	pl->device[eq - v] = '\0';
	pl->is_inline = strcmp(eq + 1, "inline") == 0;
	return 0;
}

static int
set_kernel(struct option_parse *p, const char *v)
{
	p->o->kernel = v;
	return 0;
}

static int
set_initrd(struct option_parse *p, const char *v)
{
	p->o->initrd = v;
	return 0;
}

static int
set_terminal(struct option_parse *p, const char *v)
{
	p->o->console = v;
	return 0;
}

static int
set_blackbox(struct option_parse *p, const char *v)
{
	if (v[0] == '\0')
		return option_complain(p, "--blackbox: no folder");
	p->o->blackbox = v;
	return 0;
}

#define TEXT(name, set)                               \
	{                                             \
		name, OPTION_TEXT, 0, set, NULL, NULL \
	}
#define SWITCH(name, field)                                               \
	{                                                                 \
		name, OPTION_SWITCH, offsetof(struct run_options, field), \
		    NULL, NULL, NULL                                      \
	}

/* clang-format off */
static const struct option_row rows[] = {
	TEXT("kernel", set_kernel),
	TEXT("initrd", set_initrd),
	TEXT("cmdline", set_cmdline),
	TEXT("memory", set_memory),
	TEXT("cpus", set_cpus),
	TEXT("name", set_name),
	TEXT("hypervisor", set_hypervisor),
	TEXT("sandbox", set_sandbox),
	TEXT("wait-policy", set_wait_policy),
	TEXT("console", set_terminal),
	{ "icount", OPTION_BARE_TEXT, 0, set_icount, NULL, NULL },
	TEXT("blackbox", set_blackbox),
	{ "placement", OPTION_PAIRS, 0, set_placement, NULL, NULL },
	{ "device", OPTION_LIST, 0, NULL, option_set_device, "type" },
	{ "disk", OPTION_LIST, 0, NULL, option_set_disk, NULL },
	{ "net", OPTION_LIST, 0, NULL, option_set_net, "type" },
	{ "vsock", OPTION_LIST, 0, NULL, option_set_vsock, NULL },
	{ "virtio-console", OPTION_BARE_LIST, 0, NULL, option_set_console,
	    NULL },
	{ "rng", OPTION_BARE_LIST, 0, NULL, option_set_rng, NULL },
	{ "balloon", OPTION_BARE_LIST, 0, NULL, option_set_balloon, NULL },
	SWITCH("detach", detach),
	SWITCH("no-console", no_console),
	SWITCH("quiet", quiet),
	SWITCH("verbose", verbose),
};
/* clang-format on */

const struct option_row *
option_find(const char *name, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strlen(rows[i].name) == n &&
		    strncmp(rows[i].name, name, n) == 0)
			return &rows[i];
	return NULL;
}

static int
unknown_option(struct option_parse *p, const char *arg, size_t n)
{
	char known[512] = "";
	size_t at = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		at += (size_t)snprintf(
		    known + at, sizeof(known) - at, " --%s", rows[i].name);
	return option_complain(p,
	    "unknown option %.*s; known are:%s --config --dry-run --help",
	    (int)n, arg, known);
}

/* ---- the command line ---- */

static int
set_switch(
    struct option_parse *p, const char *arg, const char *eq, size_t offset)
{
	bool on = true;

	if (eq != NULL)
		return option_complain(
		    p, "%.*s takes no value", (int)(eq - arg), arg);
	memcpy((char *)p->o + offset, &on, sizeof(on));
	return 1;
}

/* One option at argv[0].  Returns how many arguments it took, or -EINVAL. */
static int
parse_one(struct option_parse *p, int argc, char **argv)
{
	const char *arg = argv[0], *eq = strchr(arg, '='), *value;
	size_t n = eq == NULL ? strlen(arg) : (size_t)(eq - arg);
	const struct option_row *row;
	struct option_list l;
	int r, used = eq == NULL ? 2 : 1;

	if (arg[0] != '-')
		return option_complain(
		    p, "%s: not an option (they begin with --)", arg);
	if (n == 6 && strncmp(arg, "--help", n) == 0)
		return set_switch(
		    p, arg, eq, offsetof(struct run_options, help));
	if (n == 9 && strncmp(arg, "--dry-run", n) == 0)
		return set_switch(
		    p, arg, eq, offsetof(struct run_options, dry_run));
	row = n > 2 && arg[1] == '-' ? option_find(arg + 2, n - 2) : NULL;
	if (row == NULL)
		return unknown_option(p, arg, n);
	if (row->kind == OPTION_SWITCH)
		return set_switch(p, arg, eq, row->offset);
	value = eq == NULL ? argv[1] : eq + 1;
	if (eq == NULL && (argc < 2 || argv[1][0] == '-') &&
	    row->kind == OPTION_BARE_LIST) {
		value = "";
		used = 1;
	} else if (eq == NULL && row->kind == OPTION_BARE_TEXT) {
		/* Its value is written behind a "=" or not at all. */
		value = "";
		used = 1;
	} else if (eq == NULL && argc < 2) {
		return option_complain(p, "%s needs a value", arg);
	}
	if (row->set_text != NULL) {
		r = row->set_text(p, value);
	} else {
		r = option_split_list(p, row, value, &l);
		if (r == 0)
			r = row->set_list(p, &l);
	}
	return r < 0 ? r : used;
}

/* Is there a --config at argv[0]?  Returns as parse_one(); 0: no. */
static int
parse_config(struct option_parse *p, int argc, char **argv, const char **path)
{
	if (strncmp(argv[0], "--config=", 9) == 0) {
		*path = argv[0] + 9;
		return 1;
	}
	if (strcmp(argv[0], "--config") != 0)
		return 0;
	if (argc < 2)
		return option_complain(p, "--config needs a value");
	*path = argv[1];
	return 2;
}

/*
 * The files first, then the rest, so that the command line has the last word.
 * An argument "--config" may be another option's value: only the walk over all
 * of them knows.
 */
static int
walk(struct option_parse *p, int argc, char **argv, bool files)
{
	struct run_options *scratch = NULL;
	struct option_parse q = *p;
	int n = 0;

	if (files) {
		scratch = calloc(1, sizeof(*scratch));
		if (scratch == NULL)
			return option_complain(p, "out of memory");
		q.o = scratch;
	}
	for (int i = 0; i < argc && n >= 0; i += n) {
		const char *path = NULL;

		n = parse_config(p, argc - i, argv + i, &path);
		if (n > 0 && files && config_load(p, path) < 0)
			n = -EINVAL;
		if (n == 0)
			n = parse_one(&q, argc - i, argv + i);
	}
	if (files) {
		options_free(scratch);
		free(scratch);
	}
	return n < 0 ? n : 0;
}

static bool
has_config(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (strncmp(argv[i], "--config", 8) == 0)
			return true;
	return false;
}

int
options_parse_run(struct run_options *o, int argc, char **argv,
    uint64_t machine_bytes, char *err, size_t size)
{
	struct option_parse p = { o, machine_bytes, "", err, size };
	int r = 0;

	*o = (struct run_options){
		.cmdline = "",
		.hypervisor = "auto",
		.sandbox = "on",
		.wait_policy = "balanced",
		.memory = 256ull << 20,
		.cpus = 1,
	};
	snprintf(o->name, sizeof(o->name), "vm-%d", (int)getpid());
	if (has_config(argc, argv))
		r = walk(&p, argc, argv, true);
	if (r == 0)
		r = walk(&p, argc, argv, false);
	if (r < 0)
		return r;
	if (o->icount != 0 && o->cpus > 1)
		return option_complain(
		    &p, "--icount: only with one vCPU (--cpus 1)");
	if (o->icount != 0 && strcmp(o->hypervisor, "kvm") == 0)
		return option_complain(
		    &p, "--icount: kvm cannot count instructions; soft can");
	if (o->icount != 0)
		o->hypervisor = "soft";
	if (o->console != NULL && o->no_console)
		return option_complain(
		    &p, "--console and --no-console exclude each other");
	return 0;
}
