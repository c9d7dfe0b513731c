/* devices: the processes of a machine. */
#include "vmmctl/devices.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/stats_format.h"

static const char *
dma_name(uint32_t dma)
{
	static const char *const names[] = { "none", "windowed", "full" };

	return dma < ARRAY_LEN(names) ? names[dma] : "?";
}

static const char *
space_name(const Bulkhead__Region *r)
{
	switch ((int)r->space) {
	case BULKHEAD__SPACE__PIO:
		return "pio";
	case BULKHEAD__SPACE__MMIO:
		return "mmio";
	case BULKHEAD__SPACE__PCI_CONFIG:
		return "pci";
	default:
		return "?";
	}
}

/* "00:02.0"; "-" if it is no PCI function. */
static const char *
pci_address(char out[16], const Bulkhead__DeviceInfo *v)
{
	const Bulkhead__Placement *p = v->resources;

	snprintf(out, 16, "-");
	for (size_t i = 0; p != NULL && i < p->n_regions; i++) {
		uint64_t at = p->regions[i]->start;

		if (p->regions[i]->space != BULKHEAD__SPACE__PCI_CONFIG)
			continue;
		snprintf(out, 16, "%02x:%02x.%x", (unsigned)(at >> 20 & 0xff),
		    (unsigned)(at >> 15 & 0x1f), (unsigned)(at >> 12 & 7));
		break;
	}
	return out;
}

/* Does it decode nothing now? */
static bool
is_unmapped(const Bulkhead__Region *r)
{
	return r->start == UINT64_MAX || (r->bar && r->start == 0);
}

static void
print_resources(FILE *out, const Bulkhead__Placement *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->n_regions; i++) {
		const Bulkhead__Region *r = p->regions[i];

		if (r->space == BULKHEAD__SPACE__PCI_CONFIG)
			continue;
		if (is_unmapped(r))
			fprintf(out, " %s:-+%" PRIx64, space_name(r), r->size);
		else
			fprintf(out, " %s:%" PRIx64 "+%" PRIx64, space_name(r),
			    r->start, r->size);
	}
	for (size_t i = 0; i < p->n_irqs; i++)
		fprintf(out, " irq:%u", p->irqs[i]->gsi);
}

void
devices_print_table(FILE *out, const Bulkhead__Description *d)
{
	char ram[16], own[16], pci[16];

	fprintf(out,
	    "%-12s %-14s %7s %-10s %-9s %8s %10s %10s %-8s %8s %8s %8s %-7s "
	    "%8s %7s %s\n",
	    "NAME", "TYPE", "PID", "STATE", "PLACEMENT", "RESTARTS", "READS",
	    "WRITES", "DMA", "RAM", "PRIVATE", "CPU", "PCI", "SYSCALLS",
	    "SANDBOX", "RESOURCES");
	for (size_t i = 0; i < d->n_devices; i++) {
		const Bulkhead__DeviceInfo *v = d->devices[i];

		fprintf(out,
		    "%-12s %-14s %7d %-10s %-9s %8u %10" PRIu64 " %10" PRIu64
		    " %-8s %8s %8s %7.2fs %-7s %8u %#7" PRIx64,
		    v->name, v->type, v->pid, v->state, v->placement,
		    v->restarts, v->reads, v->writes, dma_name(v->dma),
		    stats_format_bytes(ram, v->ram_mapped),
		    stats_format_bytes(own, v->private_bytes),
		    (double)v->cpu_ns / 1e9, pci_address(pci, v), v->syscalls,
		    v->sandbox);
		print_resources(out, v->resources);
		if (v->last_death[0] != '\0')
			fprintf(out, " (last death: %s)", v->last_death);
		fputc('\n', out);
	}
}

static void
set_text(json_t *o, const char *key, const char *value)
{
	json_object_set_new(o, key, json_string(value));
}

static void
set_whole(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void
add_resources(json_t *o, const Bulkhead__Placement *p)
{
	json_t *regions = json_array(), *irqs = json_array();

	for (size_t i = 0; p != NULL && i < p->n_regions; i++) {
		const Bulkhead__Region *r = p->regions[i];
		json_t *region = json_object();

		set_text(region, "name", r->name);
		set_text(region, "space", space_name(r));
		if (is_unmapped(r))
			json_object_set_new(region, "base", json_null());
		else
			set_whole(region, "base", r->start);
		set_whole(region, "size", r->size);
		json_array_append_new(regions, region);
	}
	for (size_t i = 0; p != NULL && i < p->n_irqs; i++)
		json_array_append_new(irqs, json_integer(p->irqs[i]->gsi));
	json_object_set_new(o, "regions", regions);
	json_object_set_new(o, "irqs", irqs);
}

static json_t *
device_json(const Bulkhead__DeviceInfo *v)
{
	json_t *o = json_object();
	char pci[16];

	set_text(o, "name", v->name);
	set_text(o, "type", v->type);
	set_text(o, "state", v->state);
	set_text(o, "placement", v->placement);
	set_text(o, "dma", dma_name(v->dma));
	set_text(o, "last_death", v->last_death);
	if (pci_address(pci, v)[0] != '-')
		set_text(o, "pci", pci);
	json_object_set_new(o, "pid", json_integer(v->pid));
	set_whole(o, "restarts", v->restarts);
	set_whole(o, "syscalls", v->syscalls);
	set_whole(o, "sandbox", v->sandbox);
	set_whole(o, "reads", v->reads);
	set_whole(o, "writes", v->writes);
	set_whole(o, "recoveries", v->recoveries);
	set_whole(o, "ram_mapped", v->ram_mapped);
	set_whole(o, "private_bytes", v->private_bytes);
	set_whole(o, "cpu_ns", v->cpu_ns);
	add_resources(o, v->resources);
	return o;
}

int
devices_print_json(FILE *out, const Bulkhead__Description *d)
{
	json_t *o = json_object(), *devices = json_array();
	int r;

	set_text(o, "name", d->name);
	set_text(o, "hypervisor", d->hypervisor);
	set_text(o, "state", d->state);
	json_object_set_new(o, "pid", json_integer(d->pid));
	set_whole(o, "memory", d->memory);
	set_whole(o, "vcpus", d->vcpus);
	set_whole(o, "uptime_ns", d->uptime_ns);
	for (size_t i = 0; i < d->n_devices; i++)
		json_array_append_new(devices, device_json(d->devices[i]));
	json_object_set_new(o, "devices", devices);
	r = json_dumpf(o, out, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(o);
	fputc('\n', out);
	return r < 0 ? -ENOMEM : 0;
}

int
command_devices(int argc, char **argv)
{
	struct channel_message m;
	bool table;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	code = connect_describe_as(argc, argv, &m, &table);
	if (code != EXIT_POWEROFF)
		return code;
	if (table)
		devices_print_table(stdout, m.envelope->description);
	else if (devices_print_json(stdout, m.envelope->description) < 0)
		code = complain_code(EXIT_ERROR, "out of memory");
	channel_free(&m);
	return code;
}
