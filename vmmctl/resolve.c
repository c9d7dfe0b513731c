/* The devices that the user asked for, and those that every machine has. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmmctl/option_parse.h"

bool
options_parse_type(struct known_type *t, const char *line)
{
	char copy[1024], *save = copy, *field[8];

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
	snprintf(t->files, sizeof(t->files), "%.63s",
	    field[5] == NULL || strcmp(field[5], "-") == 0 ? "" : field[5]);
	t->network = field[7] != NULL && strcmp(field[7], "network") == 0;
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

bool
options_types_known(const struct run_options *o, const struct known_type *types,
    unsigned ntypes)
{
	for (unsigned i = 0; i < o->ndevices; i++)
		if (find_type(types, ntypes, o->devices[i].type) == NULL)
			return false;
	return true;
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

/* Is the word in a list with commas between? */
static bool
has_word(const char *w, const char *key)
{
	size_t n = strlen(key);

	while (*w != '\0') {
		if (strcspn(w, ", ") == n && strncmp(w, key, n) == 0)
			return true;
		w += strcspn(w, ", ");
		w += strspn(w, ", ");
	}
	return false;
}

/* What a complaint calls a device: "--device rtc", "--disk blk0". */
static const char *
called(const struct option_device *d)
{
	return strcmp(d->option, "--device") == 0 ? d->type : d->name;
}

static int
check_type(struct option_parse *p, const struct option_device *d,
    const struct known_type *types, unsigned ntypes)
{
	char known[1024];

	p->where = d->where;
	if (find_type(types, ntypes, d->type) != NULL)
		return 0;
	if (strcmp(d->option, "--device") != 0)
		return option_complain(p,
		    "%s: no device host here has the device type %s", d->option,
		    d->type);
	list_names(
	    known, sizeof(known), types[0].name, sizeof(types[0]), ntypes);
	return option_complain(p,
	    "--device %s: unknown device type; known are: %s", d->type, known);
}

/*
 * A key that the type does not know may be one of the process at the other end
 * of its link: the user need not know that these are two.
 */
static int
check_params(struct option_parse *p, struct option_device *d,
    struct option_device *peer, const struct known_type *types, unsigned ntypes)
{
	const struct known_type *t = find_type(types, ntypes, d->type);
	const struct known_type *u =
	    peer == NULL ? NULL : find_type(types, ntypes, peer->type);
	unsigned kept = 0;

	for (unsigned i = 0; i < d->nparams; i++) {
		const struct option_param param = d->params[i];

		if (has_word(t->options, param.key)) {
			d->params[kept++] = param;
			continue;
		}
		if (u != NULL && has_word(u->options, param.key) &&
		    peer->nparams < OPTIONS_PARAMS) {
			peer->params[peer->nparams++] = param;
			continue;
		}
		p->where = d->where;
		return option_complain(p,
		    "%s %s: unknown option %s; known are: name "
		    "restarts policy deadline spare%s%s%s%s",
		    d->option, called(d), param.key,
		    t->options[0] != '\0' ? " " : "", t->options,
		    u != NULL && u->options[0] != '\0' ? " " : "",
		    u != NULL ? u->options : "");
	}
	d->nparams = kept;
	return 0;
}

static bool
has_file(const struct option_device *d, const char *name)
{
	for (unsigned i = 0; i < d->nfiles; i++)
		if (strcmp(d->files[i].name, name) == 0)
			return true;
	return false;
}

/* A file that the user does not name, and those that only an option can. */
static int
check_files(
    struct option_parse *p, struct option_device *d, const struct known_type *t)
{
	static const char fence[] = "fence";
	const char *w = t->files;

	p->where = d->where;
	for (unsigned i = 0; i < d->nfiles; i++) {
		char optional[OPTIONS_NAME + 1];

		snprintf(
		    optional, sizeof(optional), "?%.31s", d->files[i].name);
		if (!has_word(t->files, d->files[i].name) &&
		    !has_word(t->files, optional))
			return option_complain(p, "%s: a %s takes no file %s",
			    d->option, d->type, d->files[i].name);
	}
	if (has_word(t->files, "?fence") && d->nfiles < OPTIONS_FILES)
		d->files[d->nfiles++] = (struct option_file){
			.name = fence,
			.kind = OPTION_FILE_MAILBOX,
			.what = d->name,
		};
	for (; *w != '\0'; w += *w == ',') {
		size_t n = strcspn(w, ",");
		char name[OPTIONS_NAME];

		snprintf(name, sizeof(name), "%.*s",
		    (int)MIN(n, (size_t)OPTIONS_NAME - 1), w);
		if (name[0] != '?' && !has_file(d, name))
			return option_complain(p,
			    "%s %s: it needs a file, %s; see --disk, --net and "
			    "--vsock",
			    d->option, called(d), name);
		w += n;
	}
	return 0;
}

static int
place(struct option_parse *p, struct option_device *all, unsigned n,
    const struct option_placement *pl)
{
	struct option_device *d = find_device(all, n, pl->device);
	char known[1024];

	p->where = pl->where;
	if (d == NULL) {
		list_names(
		    known, sizeof(known), all[0].name, sizeof(all[0]), n);
		return option_complain(p,
		    "--placement %s: no such device; known are: %s", pl->device,
		    known);
	}
	if (pl->is_inline && d->program != 0)
		return option_complain(p,
		    "--placement %s=inline: a %s has a program of its own",
		    pl->device, d->type);
	d->is_inline = pl->is_inline;
	return 0;
}

static int
merge(struct option_parse *p, struct option_device *all, unsigned *n,
    const struct option_device *d)
{
	struct option_device *same = find_device(all, *n, d->name);

	p->where = d->where;
	if (same != NULL && strcmp(same->type, d->type) != 0)
		return option_complain(p, "%s %s: the name %s is that of a %s",
		    d->option, called(d), d->name, same->type);
	if (same == NULL && *n == OPTIONS_DEVICES)
		return option_complain(
		    p, "%s: more than %u devices", d->option, OPTIONS_DEVICES);
	if (same == NULL)
		same = &all[(*n)++];
	*same = *d;
	return 0;
}

static int
resolve(struct option_parse *p, struct option_device *all, unsigned *n,
    const struct known_type *types, unsigned ntypes)
{
	struct run_options *o = p->o;

	for (unsigned i = 0; i < ntypes && *n < OPTIONS_DEVICES; i++) {
		if (!types[i].platform)
			continue;
		all[*n].option = "--device";
		all[*n].where = "";
		memcpy(all[*n].type, types[i].name, OPTIONS_NAME);
		memcpy(all[*n].name, types[i].name, OPTIONS_NAME);
		(*n)++;
	}
	for (unsigned i = 0; i < o->ndevices; i++)
		if (check_type(p, &o->devices[i], types, ntypes) < 0 ||
		    check_params(p, &o->devices[i],
			o->devices[i].link[0] == '\0'
			    ? NULL
			    : find_device(
				  o->devices, o->ndevices, o->devices[i].link),
			types, ntypes) < 0 ||
		    merge(p, all, n, &o->devices[i]) < 0)
			return -EINVAL;
	for (unsigned i = 0; i < *n; i++) {
		const struct known_type *t =
		    find_type(types, ntypes, all[i].type);

		BUG_ON(t == NULL);
		all[i].program = t->program;
		all[i].network = t->network;
		if (check_files(p, &all[i], t) < 0)
			return -EINVAL;
	}
	for (unsigned i = 0; i < o->nplacements; i++)
		if (place(p, all, *n, &o->placements[i]) < 0)
			return -EINVAL;
	return 0;
}

int
options_resolve_devices(struct run_options *o, const struct known_type *types,
    unsigned ntypes, char *err, size_t size)
{
	struct option_device *all = calloc(OPTIONS_DEVICES, sizeof(*all));
	struct option_parse p = { o, 0, "", err, size };
	unsigned n = 0;
	int r;

	if (all == NULL)
		return option_complain(&p, "out of memory");
	r = resolve(&p, all, &n, types, ntypes);
	if (r == 0) {
		memcpy(o->devices, all, sizeof(o->devices));
		o->ndevices = n;
	}
	free(all);
	return r;
}
