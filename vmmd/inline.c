/* Devices on the vCPUs' own threads: only vmmd-inline links this. */
#include <errno.h>
#include <unistd.h>

#include "devhost/device.h"
#include "devhost/host.h"
#include "vmmd/vm.h"

static int
start(const char *name, int control, void **out)
{
	const struct device_type *type = device_type_find(name);
	struct host *host;
	int err;

	if (type == NULL) {
		close(control);
		return -ENOENT;
	}
	err = host_start_inline(type, control, &host);
	if (err == 0)
		*out = host;
	return err;
}

static uint64_t
access_device(void *host, unsigned vcpu, const struct ring_request *request)
{
	uint64_t answer;

	if (host_access(host, vcpu, request, &answer) < 0)
		return UINT64_MAX;
	return answer;
}

static const struct placement_ops ops = {
	.start = start,
	.access = access_device,
};

/* The broker's own files name no device: this one makes itself known. */
__attribute__((constructor)) static void
enrol(void)
{
	vm_register_inline(&ops);
}
