/* sandbox: what each process of a machine can still reach. */
#include "vmmctl/sandbox.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/stats_format.h"

/* Bits of the steps that a process reports: sandbox/sandbox.h. */
#define STEP_ROOT     8u
#define STEP_LANDLOCK 256u

/* One letter each, "-" for what it shares with us, "?" for what we may not
 * see. */
static const char *
namespace_letters(char out[VIEW_NAMESPACES + 1], const struct sandbox_view *v)
{
	static const char letters[] = "umpnitc";

	for (unsigned i = 0; i < VIEW_NAMESPACES; i++)
		out[i] = (v->own >> i & 1) != 0 ? letters[i]
		    : (v->unread >> i & 1) != 0 ? '?'
						: '-';
	out[VIEW_NAMESPACES] = '\0';
	return out;
}

static const char *
limit_text(char out[24], uint64_t value, bool bytes)
{
	if (value == UINT64_MAX)
		snprintf(out, 24, "-");
	else if (bytes && value >= 1024)
		stats_format_bytes(out, value);
	else
		snprintf(out, 24, "%" PRIu64, value);
	return out;
}

static const char *
count_text(char out[24], int64_t value, bool known)
{
	if (known)
		snprintf(out, 24, "%" PRId64, value);
	else
		snprintf(out, 24, "any");
	return out;
}

void
sandbox_print_table(FILE *out, const struct sandbox_view *v, unsigned n)
{
	char ns[VIEW_NAMESPACES + 1], calls[24], fds[24], ram[24];
	char max_fds[24], max_as[24], max_processes[24], caps[20];

	fprintf(out,
	    "%-20s %-14s %7s %10s %-7s %-4s %-7s %5s %4s %8s %-6s %-4s %-8s "
	    "%-3s %7s %8s %8s %s\n",
	    "PROCESS", "TYPE", "PID", "UID", "NAMESP", "CAPS", "SECCOMP",
	    "CALLS", "FDS", "RAM", "RIGHTS", "ROOT", "LANDLOCK", "NNP",
	    "MAXFDS", "MAXMEM", "MAXPROC", "CGROUPS");
	for (unsigned i = 0; i < n; i++) {
		const struct sandbox_view *p = &v[i];

		snprintf(
		    caps, sizeof(caps), "%s", p->caps == 0 ? "none" : "some");
		fprintf(out,
		    "%-20s %-14s %7d %10u %-7s %-4s %-7s %5s %4s %8s %-6s "
		    "%-4s %-8s %-3s %7s %8s %8s %s\n",
		    p->name, p->type, p->pid, p->uid, namespace_letters(ns, p),
		    caps, p->seccomp == 2 ? "filter" : "-",
		    count_text(calls, p->syscalls, p->syscalls > 0),
		    p->fds < 0 ? "?" : count_text(fds, p->fds, true),
		    stats_format_bytes(ram, p->ram_mapped),
		    p->ram_rights[0] != '\0' ? p->ram_rights : "-",
		    (p->steps & STEP_ROOT) != 0 ? "none" : "host",
		    (p->steps & STEP_LANDLOCK) != 0 ? "yes" : "-",
		    p->no_new_privs ? "yes" : "-",
		    limit_text(max_fds, p->max_fds, false),
		    limit_text(max_as, p->max_as, true),
		    limit_text(max_processes, p->max_processes, false),
		    p->cgroups[0] != '\0' ? p->cgroups : "-");
	}
}

/* ---- JSON ---- */

static void
set_whole(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key,
	    value == UINT64_MAX ? json_null()
				: json_integer((json_int_t)value));
}

static json_t *
namespaces_json(const struct sandbox_view *v)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < VIEW_NAMESPACES; i++)
		if ((v->own >> i & 1) != 0)
			json_array_append_new(
			    list, json_string(sandbox_view_namespaces[i]));
	return list;
}

static json_t *
process_json(const struct sandbox_view *v)
{
	json_t *o = json_object();
	char caps[20];

	json_object_set_new(o, "name", json_string(v->name));
	json_object_set_new(o, "type", json_string(v->type));
	set_whole(o, "pid", (uint64_t)v->pid);
	set_whole(o, "uid", v->uid);
	json_object_set_new(o, "own_namespaces", namespaces_json(v));
	snprintf(caps, sizeof(caps), "%016" PRIx64, v->caps);
	json_object_set_new(o, "capabilities", json_string(caps));
	snprintf(caps, sizeof(caps), "%016" PRIx64, v->bounding);
	json_object_set_new(o, "bounding", json_string(caps));
	set_whole(o, "seccomp", v->seccomp);
	set_whole(o, "seccomp_filters", v->filters);
	set_whole(o, "syscalls", v->syscalls == 0 ? UINT64_MAX : v->syscalls);
	set_whole(o, "sandbox", v->steps);
	json_object_set_new(o, "no_new_privs", json_boolean(v->no_new_privs));
	json_object_set_new(
	    o, "empty_root", json_boolean((v->steps & STEP_ROOT) != 0));
	json_object_set_new(
	    o, "landlock", json_boolean((v->steps & STEP_LANDLOCK) != 0));
	set_whole(o, "fds", v->fds < 0 ? UINT64_MAX : (uint64_t)v->fds);
	set_whole(o, "ram_mapped", v->ram_mapped);
	json_object_set_new(o, "ram_rights", json_string(v->ram_rights));
	set_whole(o, "max_fds", v->max_fds);
	set_whole(o, "max_address_space", v->max_as);
	set_whole(o, "max_processes", v->max_processes);
	set_whole(o, "max_file_size", v->max_file);
	json_object_set_new(o, "cgroups", json_string(v->cgroups));
	return o;
}

int
sandbox_print_json(
    FILE *out, const char *vm, const struct sandbox_view *v, unsigned n)
{
	json_t *o = json_object(), *list = json_array();
	int r;

	json_object_set_new(o, "name", json_string(vm));
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, process_json(&v[i]));
	json_object_set_new(o, "processes", list);
	r = json_dumpf(o, out, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(o);
	fputc('\n', out);
	return r < 0 ? -ENOMEM : 0;
}

/* ---- the command ---- */

static int
print_all(const Bulkhead__Description *d, bool table)
{
	static struct sandbox_view v[SANDBOX_VIEW_MAX];
	unsigned n = sandbox_view_all(d, v);

	if (table)
		sandbox_print_table(stdout, v, n);
	else if (sandbox_print_json(stdout, d->name, v, n) < 0)
		return complain_code(EXIT_ERROR, "out of memory");
	return EXIT_POWEROFF;
}

int
command_sandbox(int argc, char **argv)
{
	struct channel_message m;
	bool table;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	code = connect_describe_as(argc, argv, &m, &table);
	if (code != EXIT_POWEROFF)
		return code;
	code = print_all(m.envelope->description, table);
	channel_free(&m);
	return code;
}
