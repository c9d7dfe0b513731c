/* The command line of vmmctl. */
#include "vmmctl/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base.h"

#define CPUS_MAX    64u
#define MEMORY_MIN  (1ull << 20)
#define CMDLINE_MAX 2047u

PRINTF_LIKE(3, 4)
static int
complain(char *err, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, size, fmt, ap);
	va_end(ap);
	return -EINVAL;
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

/* Decimal digits only: no sign, no space, no overflow. */
static int
parse_number(const char *text, size_t n, uint64_t *out)
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
	r = parse_number(text, n, bytes);
	if (r == 0 && __builtin_mul_overflow(*bytes, 1ull << shift, bytes))
		r = -ERANGE;
	return r;
}

/* ---- one function per option ---- */

struct parse {
	struct run_options *o;
	uint64_t machine_bytes;
	char *err;
	size_t size;
};

static int
set_memory(struct parse *p, const char *v)
{
	uint64_t bytes;
	int r = options_parse_size(v, &bytes);

	if (r == -EINVAL)
		return complain(p->err, p->size,
		    "--memory %s: not a size such as 256M or 2G", v);
	if (r == -ERANGE || bytes > p->machine_bytes)
		return complain(p->err, p->size,
		    "--memory %s: more than this machine has (%lluM)", v,
		    (unsigned long long)p->machine_bytes >> 20);
	if (bytes < MEMORY_MIN)
		return complain(
		    p->err, p->size, "--memory %s: the least is 1M", v);
	if (bytes % 4096 != 0)
		return complain(
		    p->err, p->size, "--memory %s: not a multiple of 4K", v);
	p->o->memory = bytes;
	return 0;
}

static int
set_cpus(struct parse *p, const char *v)
{
	uint64_t n;

	if (parse_number(v, strlen(v), &n) != 0 || n < 1 || n > CPUS_MAX)
		return complain(p->err, p->size,
		    "--cpus %s: not a number from 1 to %u", v, CPUS_MAX);
	p->o->cpus = (unsigned)n;
	return 0;
}

static int
set_name(struct parse *p, const char *v)
{
	if (!options_name_ok(v))
		return complain(p->err, p->size,
		    "--name %s: a name is 1 to 31 of a-z A-Z 0-9 . _ -", v);
	snprintf(p->o->name, sizeof(p->o->name), "%s", v);
	return 0;
}

static int
set_cmdline(struct parse *p, const char *v)
{
	if (strlen(v) > CMDLINE_MAX)
		return complain(p->err, p->size,
		    "--cmdline: longer than %u characters", CMDLINE_MAX);
	p->o->cmdline = v;
	return 0;
}

/* The words that an option knows, separated by spaces. */
static int
set_word(struct parse *p, const char *option, const char *words, const char *v,
    const char **out)
{
	size_t n = strlen(v);

	for (const char *w = words; *w != '\0';) {
		size_t len = strcspn(w, " ");

		if (len == n && strncmp(w, v, n) == 0) {
			*out = v;
			return 0;
		}
		w += len;
		w += strspn(w, " ");
	}
	return complain(
	    p->err, p->size, "%s %s: unknown; known are: %s", option, v, words);
}

static int
set_hypervisor(struct parse *p, const char *v)
{
	return set_word(
	    p, "--hypervisor", "auto kvm soft", v, &p->o->hypervisor);
}

static int
set_sandbox(struct parse *p, const char *v)
{
	return set_word(
	    p, "--sandbox", "on best-effort off", v, &p->o->sandbox);
}

static int
set_wait_policy(struct parse *p, const char *v)
{
	return set_word(p, "--wait-policy", "latency balanced density", v,
	    &p->o->wait_policy);
}

static int
set_placement(struct parse *p, const char *v)
{
	const char *eq = strchr(v, '=');
	struct option_placement *pl;

	if (eq == NULL || eq == v || (size_t)(eq - v) >= OPTIONS_NAME)
		return complain(p->err, p->size,
		    "--placement %s: not DEVICE=isolated or DEVICE=inline", v);
	if (strcmp(eq + 1, "isolated") != 0 && strcmp(eq + 1, "inline") != 0)
		return complain(p->err, p->size,
		    "--placement %s: unknown placement; known are: isolated "
		    "inline",
		    v);
	if (p->o->nplacements == OPTIONS_DEVICES)
		return complain(p->err, p->size, "--placement: more than %u",
		    OPTIONS_DEVICES);
	pl = &p->o->placements[p->o->nplacements++];
	memcpy(pl->device, v, (size_t)(eq - v));
	pl->device[eq - v] = '\0';
	pl->is_inline = strcmp(eq + 1, "inline") == 0;
	return 0;
}

static int
set_device_param(
    struct parse *p, struct option_device *d, const char *kv, size_t n)
{
	const char *eq = memchr(kv, '=', n);
	struct option_param param = { 0 };
	uint64_t restarts;

	if (eq == NULL || eq == kv || (size_t)(eq - kv) >= sizeof(param.key) ||
	    n - (size_t)(eq - kv) > sizeof(param.value))
		return complain(p->err, p->size,
		    "--device %s: %.*s: not KEY=VALUE", d->type, (int)n, kv);
	memcpy(param.key, kv, (size_t)(eq - kv));
	memcpy(param.value, eq + 1, n - (size_t)(eq - kv) - 1);
	if (strcmp(param.key, "name") == 0) {
		if (!options_name_ok(param.value))
			return complain(p->err, p->size,
			    "--device %s: name=%s: a name is 1 to 31 of a-z "
			    "A-Z 0-9 . _ -",
			    d->type, param.value);
		snprintf(d->name, sizeof(d->name), "%.31s", param.value);
		d->named = true;
		return 0;
	}
	if (strcmp(param.key, "restarts") == 0) {
		if (parse_number(param.value, strlen(param.value), &restarts) !=
			0 ||
		    restarts < 1 || restarts > 100000)
			return complain(p->err, p->size,
			    "--device %s: restarts=%s: not a number from 1 to "
			    "100000",
			    d->type, param.value);
		d->restarts = (uint32_t)restarts;
		return 0;
	}
	if (d->nparams == OPTIONS_PARAMS)
		return complain(p->err, p->size,
		    "--device %s: more than %u options", d->type,
		    OPTIONS_PARAMS);
	d->params[d->nparams++] = param;
	return 0;
}

static int
set_device(struct parse *p, const char *v)
{
	size_t n = strcspn(v, ",");
	struct option_device *d;

	if (n == 0 || n >= OPTIONS_NAME)
		return complain(
		    p->err, p->size, "--device %s: no device type", v);
	if (p->o->ndevices == OPTIONS_DEVICES)
		return complain(
		    p->err, p->size, "--device: more than %u", OPTIONS_DEVICES);
	d = &p->o->devices[p->o->ndevices++];
	memset(d, 0, sizeof(*d));
	memcpy(d->type, v, n);
	memcpy(d->name, v, n);
	while (v[n] == ',') {
		v += n + 1;
		n = strcspn(v, ",");
		if (set_device_param(p, d, v, n) < 0)
			return -EINVAL;
	}
	return 0;
}

static int
set_kernel(struct parse *p, const char *v)
{
	p->o->kernel = v;
	return 0;
}

static int
set_initrd(struct parse *p, const char *v)
{
	p->o->initrd = v;
	return 0;
}

static int
set_console(struct parse *p, const char *v)
{
	p->o->console = v;
	return 0;
}

static const struct {
	const char *name;
	int (*set)(struct parse *p, const char *value);
} with_value[] = {
	{ "--kernel", set_kernel },
	{ "--initrd", set_initrd },
	{ "--cmdline", set_cmdline },
	{ "--memory", set_memory },
	{ "--cpus", set_cpus },
	{ "--hypervisor", set_hypervisor },
	{ "--placement", set_placement },
	{ "--device", set_device },
	{ "--name", set_name },
	{ "--sandbox", set_sandbox },
	{ "--wait-policy", set_wait_policy },
	{ "--console", set_console },
};

static const struct {
	const char *name;
	size_t offset;
} switches[] = {
	{ "--detach", offsetof(struct run_options, detach) },
	{ "--no-console", offsetof(struct run_options, no_console) },
	{ "--quiet", offsetof(struct run_options, quiet) },
	{ "--verbose", offsetof(struct run_options, verbose) },
	{ "--help", offsetof(struct run_options, help) },
};

static int
unknown_option(struct parse *p, const char *arg, size_t n)
{
	char known[512] = "";
	size_t at = 0;

	for (size_t i = 0; i < ARRAY_LEN(with_value); i++)
		at += (size_t)snprintf(
		    known + at, sizeof(known) - at, " %s", with_value[i].name);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++)
		at += (size_t)snprintf(
		    known + at, sizeof(known) - at, " %s", switches[i].name);
	return complain(p->err, p->size, "unknown option %.*s; known are:%s",
	    (int)n, arg, known);
}

/* One option at argv[0].  Returns how many arguments it took, or -EINVAL. */
static int
parse_one(struct parse *p, int argc, char **argv)
{
	const char *arg = argv[0], *eq = strchr(arg, '=');
	size_t n = eq == NULL ? strlen(arg) : (size_t)(eq - arg);

	if (arg[0] != '-')
		return complain(p->err, p->size,
		    "%s: not an option (they begin with --)", arg);
	for (size_t i = 0; i < ARRAY_LEN(switches); i++) {
		bool on = true;

		if (strlen(switches[i].name) != n ||
		    strncmp(switches[i].name, arg, n) != 0)
			continue;
		if (eq != NULL)
			return complain(p->err, p->size, "%.*s takes no value",
			    (int)n, arg);
		memcpy((char *)p->o + switches[i].offset, &on, sizeof(on));
		return 1;
	}
	for (size_t i = 0; i < ARRAY_LEN(with_value); i++) {
		const char *value = eq == NULL ? argv[1] : eq + 1;

		if (strlen(with_value[i].name) != n ||
		    strncmp(with_value[i].name, arg, n) != 0)
			continue;
		if (eq == NULL && argc < 2)
			return complain(
			    p->err, p->size, "%s needs a value", arg);
		if (with_value[i].set(p, value) < 0)
			return -EINVAL;
		return eq == NULL ? 2 : 1;
	}
	return unknown_option(p, arg, n);
}

int
options_parse_run(struct run_options *o, int argc, char **argv,
    uint64_t machine_bytes, char *err, size_t size)
{
	struct parse p = { o, machine_bytes, err, size };

	*o = (struct run_options){
		.cmdline = "",
		.hypervisor = "auto",
		.sandbox = "on",
		.wait_policy = "balanced",
		.memory = 256ull << 20,
		.cpus = 1,
	};
	snprintf(o->name, sizeof(o->name), "vm-%d", (int)getpid());
	for (int i = 0; i < argc;) {
		int n = parse_one(&p, argc - i, argv + i);

		if (n < 0)
			return n;
		i += n;
	}
	if (o->console != NULL && o->no_console)
		return complain(
		    err, size, "--console and --no-console exclude each other");
	return 0;
}

bool
options_parse_type(struct known_type *t, const char *line)
{
	char copy[512], *save = copy, *field[5];

	memset(t, 0, sizeof(*t));
	if (strlen(line) >= sizeof(copy))
		return false;
	memcpy(copy, line, strlen(line) + 1);
	copy[strcspn(copy, "\n")] = '\0';
	for (unsigned i = 0; i < ARRAY_LEN(field); i++)
		field[i] = strsep(&save, "\t");
	if (field[2] == NULL || !options_name_ok(field[0]))
		return false;
	snprintf(t->name, sizeof(t->name), "%.31s", field[0]);
	snprintf(t->title, sizeof(t->title), "%.95s", field[1]);
	t->platform = strcmp(field[2], "platform") == 0;
	snprintf(t->options, sizeof(t->options), "%.255s",
	    field[4] == NULL || strcmp(field[4], "-") == 0 ? "" : field[4]);
	return true;
}

static const struct known_type *
find_type(const struct known_type *types, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

static struct option_device *
find_device(struct option_device *d, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(d[i].name, name) == 0)
			return &d[i];
	return NULL;
}

static void
list_names(char *out, size_t size, const char *names, size_t stride, unsigned n)
{
	size_t at = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < n && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%s",
		    i == 0 ? "" : " ", names + i * stride);
}

static int
check_params(const struct option_device *d, const struct known_type *t,
    char *err, size_t size)
{
	for (unsigned i = 0; i < d->nparams; i++) {
		const char *key = d->params[i].key;
		size_t n = strlen(key);
		const char *w = t->options;

		while (*w != '\0' &&
		    !(strcspn(w, ", ") == n && strncmp(w, key, n) == 0)) {
			w += strcspn(w, ", ");
			w += strspn(w, ", ");
		}
		if (*w == '\0')
			return complain(err, size,
			    "--device %s: unknown option %s; known are: name "
			    "restarts%s%s",
			    d->type, key, t->options[0] != '\0' ? " " : "",
			    t->options);
	}
	return 0;
}

int
options_resolve_devices(struct run_options *o, const struct known_type *types,
    unsigned ntypes, char *err, size_t size)
{
	struct option_device all[OPTIONS_DEVICES];
	unsigned n = 0;
	char known[512];

	for (unsigned i = 0; i < ntypes && n < OPTIONS_DEVICES; i++) {
		if (!types[i].platform)
			continue;
		memset(&all[n], 0, sizeof(all[n]));
		memcpy(all[n].type, types[i].name, OPTIONS_NAME);
		memcpy(all[n].name, types[i].name, OPTIONS_NAME);
		n++;
	}
	for (unsigned i = 0; i < o->ndevices; i++) {
		struct option_device *d = &o->devices[i], *same;
		const struct known_type *t = find_type(types, ntypes, d->type);

		if (t == NULL) {
			list_names(known, sizeof(known), types[0].name,
			    sizeof(types[0]), ntypes);
			return complain(err, size,
			    "--device %s: unknown device type; known are: %s",
			    d->type, known);
		}
		if (check_params(d, t, err, size) < 0)
			return -EINVAL;
		same = find_device(all, n, d->name);
		if (same != NULL && strcmp(same->type, d->type) != 0)
			return complain(err, size,
			    "--device %s: the name %s is that of a %s", d->type,
			    d->name, same->type);
		if (same == NULL && n == OPTIONS_DEVICES)
			return complain(err, size, "--device: more than %u",
			    OPTIONS_DEVICES);
		if (same == NULL)
			same = &all[n++];
		*same = *d;
	}
	for (unsigned i = 0; i < o->nplacements; i++) {
		struct option_device *d =
		    find_device(all, n, o->placements[i].device);

		if (d == NULL) {
			list_names(known, sizeof(known), all[0].name,
			    sizeof(all[0]), n);
			return complain(err, size,
			    "--placement %s: no such device; known are: %s",
			    o->placements[i].device, known);
		}
		d->is_inline = o->placements[i].is_inline;
	}
	memcpy(o->devices, all, sizeof(all));
	o->ndevices = n;
	return 0;
}
