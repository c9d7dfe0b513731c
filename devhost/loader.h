/*
 * The loader: a one-shot device host that turns a kernel image, an initrd and
 * a command line into the content of guest RAM and an entry state.
 *
 * The files are hostile.  They are read, never mapped; every field is checked
 * before it is used; and nothing is written but inside guest RAM.
 */
#ifndef DEVHOST_LOADER_H
#define DEVHOST_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devhost/device.h"
#include "sandbox/sandbox.h"

/* Where things stand in guest RAM (an ABI: see tests/golden/loader-*.txt). */
#define LOADER_GDT	   0x500u
#define LOADER_START_INFO  0x6000u /* mode 32: hvm_start_info, its lists */
#define LOADER_BOOT_PARAMS 0x7000u /* mode 64: the zero page */
#define LOADER_PAGE_TABLES 0x9000u /* mode 64: six pages */
#define LOADER_CMDLINE	   0x20000u
#define LOADER_RSDP	   0xe0000u
#define LOADER_ACPI_SIZE   0x10000u
#define LOADER_KERNEL_MIN  0x100000u /* kernels stand at or above this */

/* ram_low is at most this: the interrupt controllers come next. */
#define LOADER_RAM_LOW_MIN 0x200000u
#define LOADER_RAM_LOW_MAX 0xfec00000u
#define LOADER_DEVICES_MAX 64u
#define LOADER_E820_MAX	   8u

/* A file: bytes, or if that is NULL, fd.  size is in bytes. */
struct loader_source {
	int fd;
	const uint8_t *bytes;
	uint64_t size;
};

struct loader_device {
	const char *type;
	struct device_placement placed;
	/* struct device_ops.acpi of the type; may be NULL. */
	void (*acpi)(struct aml *aml, const struct device_placement *placed,
	    const struct device_machine *machine);
};

struct loader_input {
	struct loader_source kernel, initrd;
	bool has_initrd;
	const char *cmdline;
	uint8_t *ram; /* ram_low bytes from 0, then ram_high from 4 GiB */
	uint64_t ram_low, ram_high; /* multiples of 4096 */
	unsigned vcpus; /* 1 to 64 */
	const struct loader_device *devices;
	unsigned ndevices; /* up to LOADER_DEVICES_MAX */
};

enum loader_e820_type {
	LOADER_E820_RAM = 1,
	LOADER_E820_RESERVED = 2,
};

struct loader_range {
	uint64_t base, size;
	uint32_t type; /* enum loader_e820_type */
};

struct loader_result {
	/* The entry state; see Loaded in proto/control.proto. */
	uint32_t mode;
	uint64_t rip, rsi, rbx, cr3, gdt;
	const char *format; /* static */
	/* What stands where. */
	uint64_t kernel, kernel_end; /* with the room that it asks for */
	uint64_t initrd, initrd_size; /* 0: none */
	uint64_t acpi_size;
	struct loader_range e820[LOADER_E820_MAX];
	unsigned ne820;
};

/*
 * Load.  0, or a negative errno and in err a line for the user that names the
 * file, the field or the offset, and the cause: -ENOEXEC: the kernel is not
 * what it should be; -EFBIG: it or the initrd does not fit; -EINVAL: the
 * machine, the command line or a device is impossible; -EIO or another: the
 * file cannot be read.
 */
int loader_load(const struct loader_input *in, struct loader_result *out,
    char *err, size_t err_size);

/*
 * The whole life of a loader process on its control channel, whose fd it
 * takes: enter the sandbox, greet, load, answer.  An exit status: 0 if an
 * answer, Loaded or Failure, was sent.
 */
int loader_main(int control_fd, enum sandbox_mode mode);

#endif
