/* The options that make devices: --disk, --net and so on. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "vmmctl/fault.h"
#include "vmmctl/option_parse.h"

#define NBD_PORT	"10809"
#define DEADLINE_MAX_MS 3600000u

/* "-switch", the longest that is put behind the name of a network device. */
#define SUFFIX_MAX  7u
#define PORT_DIGITS 11u /* "_4294967295" */

static bool
name_taken(const struct run_options *o, const char *name)
{
	for (unsigned i = 0; i < o->ndevices; i++)
		if (strcmp(o->devices[i].name, name) == 0)
			return true;
	return false;
}

/*
 * A device of that type and name; name NULL: stem and the first number that is
 * free.  NULL after a complaint.
 */
static struct option_device *
add_device(struct option_parse *p, const char *option, const char *type,
    const char *stem, const char *name)
{
	struct run_options *o = p->o;
	struct option_device *d = &o->devices[o->ndevices];
	char numbered[OPTIONS_NAME];

	if (o->ndevices == OPTIONS_DEVICES) {
		option_complain(
		    p, "%s: more than %u devices", option, OPTIONS_DEVICES);
		return NULL;
	}
	for (unsigned i = 0; name == NULL; i++) {
		snprintf(numbered, sizeof(numbered), "%.20s%u", stem, i);
		if (!name_taken(o, numbered))
			name = numbered;
	}
	if (!options_name_ok(name)) {
		option_complain(p,
		    "%s: id=%s: a name is 1 to 31 of a-z A-Z 0-9 . _ -", option,
		    name);
		return NULL;
	}
	if (name_taken(o, name)) {
		option_complain(
		    p, "%s: the name %s is given twice", option, name);
		return NULL;
	}
	memset(d, 0, sizeof(*d));
	d->option = option;
	d->where = p->where;
	snprintf(d->type, sizeof(d->type), "%.31s", type);
	snprintf(d->name, sizeof(d->name), "%.31s", name);
	o->ndevices++;
	return d;
}

static const char *
find_value(const struct option_list *l, const char *key)
{
	for (unsigned i = 0; i < l->n; i++)
		if (strcmp(l->kv[i].key, key) == 0)
			return l->kv[i].value;
	return NULL;
}

/* Every key but these may be there once. */
static int
check_twice(
    struct option_parse *p, const char *option, const struct option_list *l)
{
	for (unsigned i = 0; i < l->n; i++)
		for (unsigned j = 0; j < i; j++)
			if (strcmp(l->kv[i].key, l->kv[j].key) == 0 &&
			    strcmp(l->kv[i].key, "hostfwd") != 0)
				return option_complain(p,
				    "%s: %s is given twice", option,
				    l->kv[i].key);
	return 0;
}

static int
add_param(struct option_parse *p, struct option_device *d, const char *key,
    const char *value)
{
	if (d->nparams == OPTIONS_PARAMS)
		return option_complain(
		    p, "%s: more than %u keys", d->option, OPTIONS_PARAMS);
	d->params[d->nparams].key = key;
	d->params[d->nparams++].value = value;
	return 0;
}

static int
set_restarts(struct option_parse *p, struct option_device *d, const char *value)
{
	uint64_t n;

	if (option_parse_number(value, &n) != 0 || n < 1 || n > 100000)
		return option_complain(p,
		    "%s%s%s: restarts=%s: not a number from 1 to 100000",
		    d->option, strcmp(d->option, "--device") == 0 ? " " : "",
		    strcmp(d->option, "--device") == 0 ? d->type : "", value);
	d->restarts = (uint32_t)n;
	return 0;
}

static int
set_spare(struct option_parse *p, struct option_device *d, const char *value)
{
	static const char *const values[] = { "auto", "off", "on" };

	for (unsigned i = 0; i < ARRAY_LEN(values); i++)
		if (strcmp(value, values[i]) == 0) {
			d->spare = i;
			return 0;
		}
	return option_complain(
	    p, "%s: spare=%s: not auto, off or on", d->option, value);
}

static int
set_policy(struct option_parse *p, struct option_device *d, const char *value)
{
	if (!option_is_word("restart remove stop-vm", value))
		return option_complain(p,
		    "%s: policy=%s: unknown; known are: restart remove "
		    "stop-vm",
		    d->option, value);
	d->policy = value;
	return 0;
}

static int
set_deadline(struct option_parse *p, struct option_device *d, const char *value)
{
	uint64_t ns;

	if (fault_parse_time(value, &ns) != 0 || ns < 1000000 ||
	    ns / 1000000 > DEADLINE_MAX_MS)
		return option_complain(p,
		    "%s: deadline=%s: not a time from 1ms to an hour, such as "
		    "200ms",
		    d->option, value);
	d->deadline_ms = (uint32_t)(ns / 1000000);
	return 0;
}

/* What is left of the list after the keys of ours goes to the device. */
static int
add_params(struct option_parse *p, struct option_device *d,
    const struct option_list *l, const char *ours)
{
	int r = check_twice(p, d->option, l);

	for (unsigned i = 0; r == 0 && i < l->n; i++) {
		if (strcmp(l->kv[i].key, "restarts") == 0)
			r = set_restarts(p, d, l->kv[i].value);
		else if (strcmp(l->kv[i].key, "spare") == 0)
			r = set_spare(p, d, l->kv[i].value);
		else if (strcmp(l->kv[i].key, "policy") == 0)
			r = set_policy(p, d, l->kv[i].value);
		else if (strcmp(l->kv[i].key, "deadline") == 0)
			r = set_deadline(p, d, l->kv[i].value);
		else if (strcmp(l->kv[i].key, "id") != 0 &&
		    !option_is_word(ours, l->kv[i].key))
			r = add_param(p, d, l->kv[i].key, l->kv[i].value);
	}
	return r;
}

static struct option_file *
add_file(struct option_device *d, const char *name, enum option_file_kind kind,
    const char *what)
{
	struct option_file *f = &d->files[d->nfiles++];

	BUG_ON(d->nfiles > OPTIONS_FILES);
	*f = (struct option_file){ .name = name, .kind = kind, .what = what };
	return f;
}

/* ---- --device ---- */

int
option_set_device(struct option_parse *p, const struct option_list *l)
{
	const char *name = find_value(l, "name");
	struct option_device *d;

	if (l->word[0] == '\0' || strlen(l->word) >= OPTIONS_NAME)
		return option_complain(
		    p, "--device %s: no device type", l->word);
	if (name == NULL)
		name = find_value(l, "id");
	if (name != NULL && !options_name_ok(name))
		return option_complain(p,
		    "--device %s: name=%s: a name is 1 to 31 of a-z A-Z 0-9 . "
		    "_ -",
		    l->word, name);
	d = add_device(
	    p, "--device", l->word, NULL, name == NULL ? l->word : name);
	return d == NULL ? -EINVAL : add_params(p, d, l, "name");
}

/* ---- --disk ---- */

static int
from_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo the percent signs of n bytes.  NULL: they are wrong. */
static const char *
unescape(struct run_options *o, const char *text, size_t n)
{
	char *out = malloc(n + 1);
	const char *kept = NULL;
	size_t at = 0;

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		int hi, lo;

		if (text[i] != '%') {
			out[at++] = text[i];
			continue;
		}
		hi = i + 2 < n ? from_hex(text[i + 1]) : -1;
		lo = i + 2 < n ? from_hex(text[i + 2]) : -1;
		if (hi < 0 || lo < 0 || (hi | lo) == 0)
			goto out;
		out[at++] = (char)(hi << 4 | lo);
		i += 2;
	}
	kept = option_keep(o, out, at);
out:
	free(out);
	return kept;
}

/* A name or an address, and nothing that a program would take as an option. */
static bool
host_ok(const char *host)
{
	for (const char *s = host; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && strchr(".:_-", *s) == NULL)
			return false;
	return host[0] != '\0' && host[0] != '-';
}

static bool
parse_authority(struct run_options *o, const char *text, size_t n,
    struct connector_address *a)
{
	const char *end = text + n, *colon, *host_end;
	uint64_t port;

	if (n > 0 && text[0] == '[') {
		host_end = memchr(text, ']', n);
		if (host_end == NULL)
			return false;
		a->host =
		    option_keep(o, text + 1, (size_t)(host_end - text) - 1);
		host_end++;
		colon = host_end;
	} else {
		colon = memchr(text, ':', n);
		host_end = colon == NULL ? end : colon;
		a->host = option_keep(o, text, (size_t)(host_end - text));
		colon = host_end;
	}
	if (a->host == NULL || !host_ok(a->host))
		return false;
	a->port = NBD_PORT;
	if (colon == end)
		return true;
	if (*colon != ':')
		return false;
	a->port = option_keep(o, colon + 1, (size_t)(end - colon) - 1);
	return a->port != NULL && option_parse_number(a->port, &port) == 0 &&
	    port >= 1 && port <= 65535;
}

bool
option_parse_nbd(struct run_options *o, const char *uri,
    struct connector_address *a, const char **export_name)
{
	static const char tcp[] = "nbd://", local[] = "nbd+unix://",
			  key[] = "?socket=";
	bool is_local = strncmp(uri, local, sizeof(local) - 1) == 0;
	const char *at = uri + (is_local ? sizeof(local) : sizeof(tcp)) - 1;
	size_t n, query;

	*a = (struct connector_address){ 0 };
	if (!is_local && strncmp(uri, tcp, sizeof(tcp) - 1) != 0)
		return false;
	n = strcspn(at, "/?");
	if (is_local ? n != 0 : !parse_authority(o, at, n, a))
		return false;
	at += n;
	at += *at == '/';
	query = strcspn(at, "?");
	*export_name = unescape(o, at, query);
	if (*export_name == NULL)
		return false;
	at += query;
	if (!is_local)
		return *at == '\0';
	if (strncmp(at, key, sizeof(key) - 1) != 0)
		return false;
	at += sizeof(key) - 1;
	a->path = unescape(o, at, strlen(at));
	return a->path != NULL && a->path[0] != '\0';
}

static int
check_socket_path(
    struct option_parse *p, const char *option, const char *path, size_t suffix)
{
	const size_t room = sizeof(((struct sockaddr_un *)NULL)->sun_path);

	if (path[0] == '\0')
		return option_complain(p, "%s: socket is empty", option);
	if (strlen(path) + suffix >= room)
		return option_complain(p,
		    "%s: socket=%s: longer than %zu characters", option, path,
		    room - 1 - suffix);
	return 0;
}

/* Both spellings are in use elsewhere. */
static const char *
find_readonly(const struct option_list *l)
{
	const char *v = find_value(l, "readonly");

	return v != NULL ? v : find_value(l, "read-only");
}

static int
add_disk_params(struct option_parse *p, struct option_device *d,
    const struct option_list *l)
{
	const char *readonly = find_readonly(l);

	if (readonly != NULL && add_param(p, d, "read-only", readonly) < 0)
		return -EINVAL;
	return add_params(p, d, l, "path readonly read-only");
}

static int
set_nbd(struct option_parse *p, const char *uri, const struct option_list *l)
{
	const char *name = find_value(l, "id"), *export_name;
	struct connector_address a;
	struct option_device *d;

	if (!option_parse_nbd(p->o, uri, &a, &export_name))
		return option_complain(p,
		    "--disk path=%s: not nbd://HOST[:PORT]/EXPORT or "
		    "nbd+unix:///EXPORT?socket=PATH",
		    uri);
	if (a.path != NULL && check_socket_path(p, "--disk", a.path, 0) < 0)
		return -EINVAL;
	d = add_device(p, "--disk", "virtio-blk-nbd", "blk", name);
	if (d == NULL)
		return -EINVAL;
	add_file(d, "socket", OPTION_FILE_SOCKET, uri)->address = a;
	add_file(d, "connector", OPTION_FILE_CONNECTOR, uri)->address = a;
	if (export_name[0] != '\0' &&
	    add_param(p, d, "export", export_name) < 0)
		return -EINVAL;
	return add_disk_params(p, d, l);
}

static int
check_disk(struct option_parse *p, const struct option_list *l)
{
	const char *readonly = find_readonly(l),
		   *cache = find_value(l, "cache"),
		   *serial = find_value(l, "serial");

	if (readonly != NULL && !option_is_word("on off", readonly))
		return option_complain(p,
		    "--disk: readonly=%s: unknown; known are: on off",
		    readonly);
	if (cache != NULL &&
	    !option_is_word(
		"none writeback writethrough directsync unsafe", cache))
		return option_complain(p,
		    "--disk: cache=%s: unknown; known are: none writeback "
		    "writethrough directsync unsafe",
		    cache);
	/* virtio 1.2, 5.2.6.1: VIRTIO_BLK_T_GET_ID. */
	if (serial != NULL && strlen(serial) > 20)
		return option_complain(
		    p, "--disk: serial=%s: longer than 20 characters", serial);
	return 0;
}

int
option_set_disk(struct option_parse *p, const struct option_list *l)
{
	const char *path = find_value(l, "path"), *readonly = find_readonly(l),
		   *cache = find_value(l, "cache");
	struct option_device *d;
	struct option_file *f;

	if (path == NULL || path[0] == '\0')
		return option_complain(p, "--disk: path is missing");
	if (check_disk(p, l) < 0)
		return -EINVAL;
	if (strncmp(path, "nbd", 3) == 0 && strstr(path, "://") != NULL)
		return set_nbd(p, path, l);
	d = add_device(p, "--disk", "virtio-blk", "blk", find_value(l, "id"));
	if (d == NULL)
		return -EINVAL;
	f = add_file(d, "disk", OPTION_FILE_DISK, path);
	f->readonly = readonly != NULL && strcmp(readonly, "on") == 0;
	f->direct = cache != NULL && option_is_word("none directsync", cache);
	f->dsync =
	    cache != NULL && option_is_word("writethrough directsync", cache);
	return add_disk_params(p, d, l);
}

/* ---- --net ---- */

static bool
mac_ok(const char *mac)
{
	for (unsigned i = 0; i < 6; i++, mac += 3) {
		if (from_hex(mac[0]) < 0 || from_hex(mac[1]) < 0 ||
		    mac[2] != (i < 5 ? ':' : '\0'))
			return false;
	}
	/* Bit 0 of the first byte: a group's. */
	return from_hex(mac[-17]) % 2 == 0;
}

static int
check_net(struct option_parse *p, const struct option_list *l, const char *kind)
{
	const char *mac = find_value(l, "mac"), *id = find_value(l, "id");

	if (mac != NULL && !mac_ok(mac))
		return option_complain(p,
		    "--net %s: mac=%s: not the address of a station such as "
		    "52:54:00:12:34:56",
		    kind, mac);
	if (id != NULL && strlen(id) + SUFFIX_MAX >= OPTIONS_NAME)
		return option_complain(p,
		    "--net %s: id=%s: longer than %u characters", kind, id,
		    OPTIONS_NAME - 1 - SUFFIX_MAX);
	return 0;
}

/* The process at the other end of the device's link. */
static struct option_device *
add_peer(struct option_parse *p, struct option_device *d, const char *kind)
{
	char name[OPTIONS_NAME + SUFFIX_MAX + 1], type[OPTIONS_NAME];
	struct option_device *peer;

	snprintf(name, sizeof(name), "%s-%.6s", d->name, kind);
	snprintf(type, sizeof(type), "net-%.6s", kind);
	peer = add_device(p, "--net", type, NULL, name);
	if (peer == NULL)
		return NULL;
	memcpy(d->link, peer->name, sizeof(d->link));
	return peer;
}

static void
add_switch(struct option_device *d, const char *name)
{
	const struct connector_address a = { .switch_name = name };

	add_file(d, "switch", OPTION_FILE_SOCKET, name)->address = a;
	add_file(d, "connector", OPTION_FILE_CONNECTOR, name)->address = a;
}

int
option_set_net(struct option_parse *p, const struct option_list *l)
{
	const char *word = l->word, *ifname = find_value(l, "ifname"),
		   *kind = word;
	struct option_device *d, *peer;

	if (word[0] == '\0')
		return option_complain(
		    p, "--net: user, tap or switch:NAME is missing");
	if (strncmp(word, "switch:", 7) == 0)
		kind = "switch";
	else if (!option_is_word("user tap", word))
		return option_complain(p,
		    "--net %s: unknown; known are: user tap switch:NAME", word);
	if (kind[0] == 's' && !options_name_ok(word + 7))
		return option_complain(p,
		    "--net %s: a name is 1 to 31 of a-z A-Z 0-9 . _ -", word);
	if (kind[0] == 't' &&
	    (ifname == NULL || ifname[0] == '\0' || strlen(ifname) > 15 ||
		strpbrk(ifname, "/ %") != NULL))
		return option_complain(p,
		    "--net tap: ifname=%s: not the name of an interface",
		    ifname == NULL ? "" : ifname);
	if (kind[0] != 't' && ifname != NULL)
		return option_complain(
		    p, "--net %s: ifname is for tap only", word);
	if (check_net(p, l, kind) < 0)
		return -EINVAL;
	d = add_device(p, "--net", "virtio-net", "net", find_value(l, "id"));
	peer = d == NULL ? NULL : add_peer(p, d, kind);
	if (peer == NULL)
		return -EINVAL;
	if (kind[0] == 't')
		add_file(peer, "tap", OPTION_FILE_TAP, ifname);
	else if (kind[0] == 's')
		add_switch(peer, word + 7);
	return add_params(p, d, l, "ifname");
}

/* ---- the rest ---- */

int
option_set_vsock(struct option_parse *p, const struct option_list *l)
{
	const char *cid = find_value(l, "cid"), *path = find_value(l, "socket");
	struct option_device *d;
	uint64_t n;

	/* virtio 1.2, 5.10.4: 0 to 2 and the upper 32 bits are reserved. */
	if (cid == NULL || option_parse_number(cid, &n) != 0 || n < 3 ||
	    n > UINT32_MAX - 1)
		return option_complain(p,
		    "--vsock: cid=%s: not a number from 3 to 4294967294",
		    cid == NULL ? "" : cid);
	if (path == NULL)
		return option_complain(p, "--vsock: socket is missing");
	if (check_socket_path(p, "--vsock", path, PORT_DIGITS) < 0)
		return -EINVAL;
	d = add_device(
	    p, "--vsock", "virtio-vsock", "vsock", find_value(l, "id"));
	if (d == NULL)
		return -EINVAL;
	add_file(d, "relay", OPTION_FILE_RELAY, path);
	add_file(d, "relay-link", OPTION_FILE_RELAY_LINK, path);
	return add_params(p, d, l, "socket");
}

static int
set_simple(struct option_parse *p, const struct option_list *l,
    const char *option, const char *type, const char *stem)
{
	struct option_device *d =
	    add_device(p, option, type, stem, find_value(l, "id"));

	return d == NULL ? -EINVAL : add_params(p, d, l, "");
}

int
option_set_console(struct option_parse *p, const struct option_list *l)
{
	return set_simple(
	    p, l, "--virtio-console", "virtio-console", "console");
}

int
option_set_rng(struct option_parse *p, const struct option_list *l)
{
	return set_simple(p, l, "--rng", "virtio-rng", "rng");
}

int
option_set_balloon(struct option_parse *p, const struct option_list *l)
{
	const char *size = find_value(l, "size");
	struct option_device *d;
	uint64_t bytes = 0;

	if (size != NULL &&
	    (options_parse_size(size, &bytes) != 0 || bytes % (1 << 20) != 0))
		return option_complain(p,
		    "--balloon: size=%s: not a size such as 64M or 1G", size);
	d = add_device(
	    p, "--balloon", "virtio-balloon", "balloon", find_value(l, "id"));
	if (d == NULL)
		return -EINVAL;
	/* The device counts in MiB. */
	if (size != NULL) {
		size = option_keep_format(
		    p->o, "%llu", (unsigned long long)bytes >> 20);
		if (size == NULL)
			return option_complain(p, "out of memory");
		if (add_param(p, d, "size", size) < 0)
			return -EINVAL;
	}
	return add_params(p, d, l, "size");
}
