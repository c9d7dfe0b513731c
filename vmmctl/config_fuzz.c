/*
 * A configuration file of any bytes: it is taken or refused with a complaint,
 * and the devices that it makes can be resolved.
 */
#include <string.h>

#include "vmmctl/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct known_type types[] = {
	{ "serial", "", true, "", "", false, 0 },
	{ "virtio-blk", "", false, "serial,cache,read-only", "disk,?fence",
	    false, 0 },
	{ "virtio-blk-nbd", "", false, "export,read-only", "socket,?connector",
	    false, 1 },
	{ "virtio-net", "", false, "mac", "", false, 0 },
	{ "net-user", "", false, "hostfwd", "", true, 1 },
	{ "virtio-vsock", "", false, "cid", "relay,relay-link", false, 0 },
	{ "virtio-rng", "", false, "", "", false, 0 },
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run_options o;
	char err[2048] = "";
	struct option_parse p = { &o, 1ull << 34, "", err, sizeof(err) };

	memset(&o, 0, sizeof(o));
	if (config_parse(&p, "fuzz", (const char *)data, size) < 0)
		BUG_ON(err[0] == '\0');
	else if (options_resolve_devices(
		     &o, types, ARRAY_LEN(types), err, sizeof(err)) < 0)
		BUG_ON(err[0] == '\0');
	BUG_ON(o.ndevices > OPTIONS_DEVICES);
	options_free(&o);
	return 0;
}
