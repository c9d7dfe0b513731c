/*
 * An encoder of AML, the byte code of ACPI's DSDT, into a bounded buffer.
 *
 * Objects nest by begin/end pairs; the package length, which AML puts before
 * the content, is inserted by the end.  Nothing here fails on its own: a full
 * buffer, too deep a nesting or a malformed name is remembered, everything
 * after it does nothing, and aml_finish() tells.  Not thread-safe.
 *
 * ACPI Specification 6.4, section 20 (AML) and 6.4 (resource descriptors).
 */
#ifndef DEVICES_ACPI_AML_H
#define DEVICES_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH_MAX 16u

struct aml {
	uint8_t *buf; /* the caller's */
	size_t size, len;
	size_t
	    open[AML_DEPTH_MAX]; /* where each open object's content starts */
	unsigned depth;
	int error; /* 0 or a negative errno */
};

/* Start writing at buf, which stays the caller's. */
void aml_init(struct aml *a, void *buf, size_t size);

/*
 * Bytes written, or a negative errno: -ENOSPC the buffer is full, -EINVAL a
 * name is malformed or the pairs do not match, -E2BIG nested too deeply.
 */
int aml_finish(const struct aml *a);

/*
 * Paths are one to eight segments of one to four of A-Z, 0-9 and _, separated
 * by dots, with a leading backslash if they start at the root: "\\_SB.COM1".
 * Short segments are padded with _ as the specification says.
 */
void aml_scope_begin(struct aml *a, const char *path);
void aml_device_begin(struct aml *a, const char *name);
/* arguments: 0 to 7. */
void aml_method_begin(
    struct aml *a, const char *name, unsigned arguments, bool serialized);
/* Name(name, Package { elements }); elements: how many follow, 0 to 255. */
void aml_package_begin(struct aml *a, const char *name, unsigned elements);
/* A package as an element of another. */
void aml_element_package_begin(struct aml *a, unsigned elements);
/* Ends what the last begin started (but for aml_crs_begin). */
void aml_end(struct aml *a);

/* A bare integer: a package element. */
void aml_int(struct aml *a, uint64_t value);
/* Return(value), in a method. */
void aml_return_int(struct aml *a, uint64_t value);

/* Name(name, value). */
void aml_name_int(struct aml *a, const char *name, uint64_t value);
/* value: printable ASCII. */
void aml_name_string(struct aml *a, const char *name, const char *value);
/* Name(name, EISAID(id)): three letters, four hexadecimal digits. */
void aml_name_eisaid(struct aml *a, const char *name, const char *id);

/*
 * Name(_CRS, ResourceTemplate() { ... }).  Between the two only the resource
 * functions below.
 */
void aml_crs_begin(struct aml *a);
/* A fixed, 16-bit decoded I/O range; length 1 to 255. */
void aml_crs_io(struct aml *a, uint16_t base, uint8_t length);
/* A fixed, writable memory range below 4 GiB. */
void aml_crs_memory32(struct aml *a, uint32_t base, uint32_t length);
/* An interrupt by GSI, active high: level-triggered and shared, or edge. */
void aml_crs_irq(struct aml *a, uint32_t gsi, bool level);
/*
 * What a bridge passes on: bus numbers first to last; I/O ports; memory, not
 * prefetchable, below 4 GiB or of 64 bits.  length: at least 1.
 */
void aml_crs_bus(struct aml *a, uint16_t first, uint16_t last);
void aml_crs_window_io(struct aml *a, uint16_t base, uint32_t length);
void aml_crs_window_memory32(struct aml *a, uint32_t base, uint32_t length);
void aml_crs_window_memory64(struct aml *a, uint64_t base, uint64_t length);
void aml_crs_end(struct aml *a);

/*
 * Method(_OSC, 4) of a host bridge that takes note of what the operating system
 * supports and grants it no control; ACPI 6.4, 6.2.11.  uuid: that of the
 * capabilities, in text.
 */
void aml_method_osc(struct aml *a, const char *uuid);

#endif
