/* Faults made on purpose (proto/fault.h), carried out. */
#include <stdlib.h>
#include <unistd.h>

#include "devhost/engine.h"
#include "devhost/host.h"
#include "proto/base.h"

/* Without a system call: none is on every list that would do. */
static void
waste(uint64_t ns)
{
	uint64_t start = time_now_ns();

	while (time_now_ns() - start < ns)
		cpu_relax();
}

struct fault_hit
engine_fault_armed(struct device *dev, const struct fault_request *request)
{
	struct fault_hit hit = fault_match(dev->store.faults, request);

	if (hit.kind == FAULT_KILL)
		_exit(HOST_EXIT_FAULT);
	if (hit.kind == FAULT_HANG)
		waste(UINT64_MAX);
	if (hit.kind == FAULT_SLOW)
		waste(hit.value);
	return hit;
}

enum device_fault
device_fault(struct device *dev, unsigned queue)
{
	const struct fault_request request = {
		.on = FAULT_ON_QUEUE,
		.queue = (uint16_t)queue,
		.now_ns = device_now(dev),
	};

	switch (engine_fault(dev, &request).kind) {
	case FAULT_ERROR:
		return DEVICE_FAULT_ERROR;
	case FAULT_DROP:
		return DEVICE_FAULT_DROP;
	case FAULT_NONE:
	case FAULT_KILL:
	case FAULT_HANG:
	case FAULT_SLOW:
	case FAULT_CORRUPT:
		break;
	}
	return DEVICE_FAULT_NONE;
}
