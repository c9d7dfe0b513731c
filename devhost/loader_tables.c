/* What the loader makes itself: memory map, descriptor and page tables,
 * command line, ACPI; and where the initrd goes. */
#include <errno.h>
#include <string.h>

#include "devhost/loader_parts.h"
#include "devices/acpi/aml.h"
#include "devices/acpi/tables.h"
#include "proto/platform.h"

#define LOW_RAM_END  0x9fc00u /* the extended BIOS data area of old starts */
#define CMDLINE_ROOM 0x10000u
#define PAGE	     4096u
#define PAGE_2M	     (1u << 21)

static const struct loader_device *
find_device(const struct loader_input *in, const char *type)
{
	for (unsigned i = 0; i < in->ndevices; i++) {
		if (strcmp(in->devices[i].type, type) == 0)
			return &in->devices[i];
	}
	return NULL;
}

void
loader_fill_e820(const struct loader_job *job)
{
	const struct loader_input *in = job->in;
	struct loader_result *out = job->out;

	out->e820[0] = (struct loader_range){ 0, LOW_RAM_END, LOADER_E820_RAM };
	out->e820[1] = (struct loader_range){ LOW_RAM_END,
		LOADER_KERNEL_MIN - LOW_RAM_END, LOADER_E820_RESERVED };
	out->e820[2] = (struct loader_range){ LOADER_KERNEL_MIN,
		in->ram_low - LOADER_KERNEL_MIN, LOADER_E820_RAM };
	out->ne820 = 3;
	if (find_device(in, "pci-host") != NULL) {
		out->e820[out->ne820++] =
		    (struct loader_range){ PLATFORM_ECAM_BASE,
			    PLATFORM_ECAM_SIZE, LOADER_E820_RESERVED };
	}
	if (in->ram_high != 0) {
		out->e820[out->ne820++] = (struct loader_range){ 1ull << 32,
			in->ram_high, LOADER_E820_RAM };
	}
}

void
loader_put_gdt(const struct loader_job *job, bool wide)
{
	const uint64_t gdt[4] = {
		0, 0,
		/* Flat, present, ring 0, accessed: 64-bit or 32-bit code. */
		wide ? 0x00af9b000000ffffu : 0x00cf9b000000ffffu,
		0x00cf93000000ffffu, /* data */
	};
	void *to = loader_ram(job, LOADER_GDT, sizeof(gdt));

	BUG_ON(to == NULL);
	memcpy(to, gdt, sizeof(gdt));
}

void
loader_put_page_tables(const struct loader_job *job)
{
	const uint64_t table = 0x3; /* present, writable */
	const uint64_t large = 0x83; /* and a page of 2 MiB */
	uint64_t *t = loader_ram(job, LOADER_PAGE_TABLES, 6ull * PAGE);

	BUG_ON(t == NULL);
	memset(t, 0, 6ull * PAGE);
	t[0] = (LOADER_PAGE_TABLES + PAGE) | table;
	for (unsigned i = 0; i < 4; i++)
		t[512 + i] = (LOADER_PAGE_TABLES + (2 + i) * PAGE) | table;
	for (uint64_t i = 0; i < 4 * 512; i++)
		t[1024 + i] = i * PAGE_2M | large;
}

int
loader_put_cmdline(const struct loader_job *job, uint64_t max)
{
	size_t n = strlen(job->in->cmdline);
	void *to;

	max = MIN(max, CMDLINE_ROOM - 1);
	if (n > max) {
		return loader_fail(job, -EINVAL,
		    "cmdline: %zu bytes, but the kernel takes %llu "
		    "(cmdline_size)",
		    n, (unsigned long long)max);
	}
	to = loader_ram(job, LOADER_CMDLINE, n + 1);
	BUG_ON(to == NULL);
	memcpy(to, job->in->cmdline, n + 1);
	return 0;
}

int
loader_put_initrd(const struct loader_job *job, uint64_t limit)
{
	const struct loader_input *in = job->in;
	struct loader_result *out = job->out;
	uint64_t size = in->initrd.size;
	uint64_t top = MIN(limit, in->ram_low);

	if (!in->has_initrd)
		return 0;
	if (size > top || ((top - size) & ~(PAGE - 1ull)) < out->kernel_end) {
		return loader_fail(job, -EFBIG,
		    "initrd: %llu bytes do not fit between the kernel's end "
		    "0x%llx and 0x%llx",
		    (unsigned long long)size,
		    (unsigned long long)out->kernel_end,
		    (unsigned long long)top);
	}
	out->initrd = (top - size) & ~(PAGE - 1ull);
	out->initrd_size = size;
	return loader_read(job, &in->initrd, "initrd", 0, out->initrd, size);
}

static void
write_devices(struct aml *aml, void *ctx)
{
	const struct loader_input *in = ctx;
	const struct device_machine machine = {
		.ram_low = in->ram_low,
		.ram_high = in->ram_high,
		.vcpus = in->vcpus,
	};

	for (unsigned i = 0; i < in->ndevices; i++) {
		const struct loader_device *d = &in->devices[i];

		if (d->acpi != NULL)
			d->acpi(aml, &d->placed, &machine);
	}
}

int
loader_put_acpi(const struct loader_job *job)
{
	const struct loader_input *in = job->in;
	const struct loader_device *pm = find_device(in, "acpi-pm");
	struct loader_input devices = *in;
	struct acpi_config config = {
		.vcpus = in->vcpus,
		.pm_base = ACPI_PM_BASE,
		.sci = ACPI_SCI,
		.i8042 = find_device(in, "i8042") != NULL,
		.rtc = find_device(in, "rtc") != NULL,
		.ecam = find_device(in, "pci-host") ? PLATFORM_ECAM_BASE : 0,
		.devices = write_devices,
		.ctx = &devices,
	};
	void *to = loader_ram(job, LOADER_RSDP, LOADER_ACPI_SIZE);
	int n;

	if (pm != NULL && pm->placed.nregions > 0) {
		const struct device_region *r = &pm->placed.regions[0];

		if (r->space != DEVICE_PIO || r->base == 0 ||
		    r->base > 0xffffu - ACPI_RESET || r->size <= ACPI_RESET) {
			return loader_fail(job, -EINVAL,
			    "devices: acpi-pm has no %u I/O ports",
			    ACPI_RESET + 1);
		}
		config.pm_base = (uint16_t)r->base;
		if (pm->placed.nirqs > 0)
			config.sci = (uint8_t)pm->placed.irqs[0].gsi;
	}
	BUG_ON(to == NULL);
	n = acpi_build(&config, to, LOADER_ACPI_SIZE, LOADER_RSDP);
	if (n < 0) {
		return loader_fail(job, n,
		    "devices: no ACPI tables for %u vCPUs and %u devices: %s",
		    in->vcpus, in->ndevices, strerror(-n));
	}
	job->out->acpi_size = (uint64_t)n;
	return 0;
}
