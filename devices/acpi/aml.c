/* The AML encoder: ACPI 6.4, section 20.2 (grammar) and 6.4 (resources). */
#include "devices/acpi/aml.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"

enum aml_opcode {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_QWORD = 0x0e,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_DUAL_NAME = 0x2e,
	AML_MULTI_NAME = 0x2f,
	AML_EXT = 0x5b,
	AML_EXT_DEVICE = 0x82,
	AML_ARG0 = 0x68,
	AML_STORE = 0x70,
	AML_OR = 0x7d,
	AML_CREATE_DWORD = 0x8a,
	AML_LNOT = 0x92,
	AML_EQUAL = 0x93,
	AML_IF = 0xa0,
	AML_ELSE = 0xa1,
	AML_RETURN = 0xa4,
};

#define AML_SEGMENTS_MAX 8u
#define AML_PKG_MAX	 0x0fffffffu /* 28 bits of package length */

static void
fail(struct aml *a, int error)
{
	if (a->error == 0)
		a->error = error;
}

static void
put(struct aml *a, const void *data, size_t n)
{
	if (a->error != 0)
		return;
	if (n > a->size - a->len) {
		fail(a, -ENOSPC);
		return;
	}
	memcpy(a->buf + a->len, data, n);
	a->len += n;
}

static void
put8(struct aml *a, unsigned value)
{
	uint8_t byte = (uint8_t)value;

	put(a, &byte, 1);
}

/* Little endian, whatever the host is. */
static void
put_le(struct aml *a, uint64_t value, unsigned bytes)
{
	uint8_t le[8];

	for (unsigned i = 0; i < bytes; i++)
		le[i] = (uint8_t)(value >> (8 * i));
	put(a, le, bytes);
}

/* Make room for n bytes at `at` and put them there. */
static void
insert(struct aml *a, size_t at, const void *data, size_t n)
{
	if (a->error != 0)
		return;
	if (n > a->size - a->len) {
		fail(a, -ENOSPC);
		return;
	}
	memmove(a->buf + at + n, a->buf + at, a->len - at);
	memcpy(a->buf + at, data, n);
	a->len += n;
}

static void
open_object(struct aml *a)
{
	if (a->depth == AML_DEPTH_MAX)
		fail(a, -E2BIG);
	if (a->error == 0)
		a->open[a->depth++] = a->len;
}

static bool
is_name_char(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || c == '_' ||
	    (!first && c >= '0' && c <= '9');
}

/* One segment, padded to four; the characters taken, 0 if malformed. */
static size_t
parse_segment(const char *s, char out[4])
{
	size_t n = 0;

	memset(out, '_', 4);
	while (s[n] != '\0' && s[n] != '.') {
		if (n == 4 || !is_name_char(s[n], n == 0))
			return 0;
		out[n] = s[n];
		n++;
	}
	return n;
}

static void
put_path(struct aml *a, const char *path)
{
	char segments[AML_SEGMENTS_MAX][4];
	unsigned n = 0;

	if (*path == '\\') {
		put8(a, '\\');
		path++;
	}
	for (;;) {
		size_t taken;

		if (n == AML_SEGMENTS_MAX ||
		    (taken = parse_segment(path, segments[n])) == 0) {
			fail(a, -EINVAL);
			return;
		}
		n++;
		path += taken;
		if (*path == '\0')
			break;
		path++;
	}
	if (n == 2) {
		put8(a, AML_DUAL_NAME);
	} else if (n > 2) {
		put8(a, AML_MULTI_NAME);
		put8(a, n);
	}
	put(a, segments, (size_t)n * 4);
}

void
aml_init(struct aml *a, void *buf, size_t size)
{
	memset(a, 0, sizeof(*a));
	a->buf = buf;
	a->size = size;
}

int
aml_finish(const struct aml *a)
{
	if (a->error != 0)
		return a->error;
	if (a->depth != 0)
		return -EINVAL;
	return (int)a->len;
}

void
aml_scope_begin(struct aml *a, const char *path)
{
	put8(a, AML_SCOPE);
	open_object(a);
	put_path(a, path);
}

void
aml_device_begin(struct aml *a, const char *name)
{
	put8(a, AML_EXT);
	put8(a, AML_EXT_DEVICE);
	open_object(a);
	put_path(a, name);
}

void
aml_method_begin(
    struct aml *a, const char *name, unsigned arguments, bool serialized)
{
	if (arguments > 7)
		fail(a, -EINVAL);
	put8(a, AML_METHOD);
	open_object(a);
	put_path(a, name);
	put8(a, arguments | (serialized ? 8u : 0u));
}

void
aml_package_begin(struct aml *a, const char *name, unsigned elements)
{
	if (elements > 255)
		fail(a, -EINVAL);
	put8(a, AML_NAME);
	put_path(a, name);
	put8(a, AML_PACKAGE);
	open_object(a);
	put8(a, elements);
}

void
aml_element_package_begin(struct aml *a, unsigned elements)
{
	if (elements > 255)
		fail(a, -EINVAL);
	put8(a, AML_PACKAGE);
	open_object(a);
	put8(a, elements);
}

void
aml_end(struct aml *a)
{
	uint8_t pkg[4];
	size_t start, length;
	unsigned n;

	if (a->error == 0 && a->depth == 0)
		fail(a, -EINVAL);
	if (a->error != 0)
		return;
	start = a->open[--a->depth];
	length = a->len - start;
	if (length > AML_PKG_MAX - 4) {
		fail(a, -ENOSPC);
		return;
	}
	/* The length counts its own bytes, so which form it takes depends on
	 * itself: one byte holds 6 bits, each further one 8 on top of 4. */
	if (length + 1 < 1u << 6) {
		pkg[0] = (uint8_t)(length + 1);
		n = 1;
	} else {
		n = length + 2 < 1u << 12 ? 2 : length + 3 < 1u << 20 ? 3 : 4;
		length += n;
		pkg[0] = (uint8_t)((n - 1) << 6 | (length & 0xf));
		for (unsigned i = 1; i < n; i++)
			pkg[i] = (uint8_t)(length >> (8 * i - 4));
	}
	insert(a, start, pkg, n);
}

void
aml_int(struct aml *a, uint64_t value)
{
	if (value <= 1) {
		put8(a, value == 0 ? AML_ZERO : AML_ONE);
	} else if (value <= UINT8_MAX) {
		put8(a, AML_BYTE);
		put_le(a, value, 1);
	} else if (value <= UINT16_MAX) {
		put8(a, AML_WORD);
		put_le(a, value, 2);
	} else if (value <= UINT32_MAX) {
		put8(a, AML_DWORD);
		put_le(a, value, 4);
	} else {
		put8(a, AML_QWORD);
		put_le(a, value, 8);
	}
}

void
aml_return_int(struct aml *a, uint64_t value)
{
	put8(a, AML_RETURN);
	aml_int(a, value);
}

void
aml_name_int(struct aml *a, const char *name, uint64_t value)
{
	put8(a, AML_NAME);
	put_path(a, name);
	aml_int(a, value);
}

void
aml_name_string(struct aml *a, const char *name, const char *value)
{
	for (const char *c = value; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			fail(a, -EINVAL);
	}
	put8(a, AML_NAME);
	put_path(a, name);
	put8(a, AML_STRING);
	put(a, value, strlen(value) + 1);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void
aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
	uint32_t packed = 0;

	if (strlen(id) != 7) {
		fail(a, -EINVAL);
		return;
	}
	for (unsigned i = 0; i < 7; i++) {
		int digit = i < 3 ? id[i] - 0x40 : hex_digit(id[i]);

		if (digit < 0 || (i < 3 && (digit < 1 || digit > 26))) {
			fail(a, -EINVAL);
			return;
		}
		packed = packed << (i < 3 ? 5 : 4) | (uint32_t)digit;
	}
	put8(a, AML_NAME);
	put_path(a, name);
	put8(a, AML_DWORD);
	/* An EISA id is big-endian, and AML's integers are not. */
	put_le(a, __builtin_bswap32(packed), 4);
}

void
aml_crs_begin(struct aml *a)
{
	put8(a, AML_NAME);
	put_path(a, "_CRS");
	put8(a, AML_BUFFER);
	open_object(a);
}

void
aml_crs_io(struct aml *a, uint16_t base, uint8_t length)
{
	put8(a, 0x47); /* I/O port descriptor, 7 bytes */
	put8(a, 1); /* decodes 16 bits */
	put_le(a, base, 2); /* lowest base */
	put_le(a, base, 2); /* highest base */
	put8(a, 1); /* alignment */
	put8(a, length);
}

void
aml_crs_memory32(struct aml *a, uint32_t base, uint32_t length)
{
	put8(a, 0x86); /* fixed 32-bit memory descriptor */
	put_le(a, 9, 2);
	put8(a, 1); /* writable */
	put_le(a, base, 4);
	put_le(a, length, 4);
}

void
aml_crs_irq(struct aml *a, uint32_t gsi, bool level)
{
	put8(a, 0x89); /* extended interrupt descriptor */
	put_le(a, 6, 2);
	/* bit 0 consumer, 1 edge, 2 active low, 3 shared */
	put8(a, level ? 0x9u : 0x3u);
	put8(a, 1); /* one interrupt */
	put_le(a, gsi, 4);
}

/* Address space descriptors; ACPI 6.4, 6.4.3.5. */
enum address_type {
	ADDRESS_MEMORY = 0,
	ADDRESS_IO = 1,
	ADDRESS_BUS = 2,
};

/* width: bytes of each address: 2, 4, 8. */
static void
put_window(struct aml *a, enum address_type type, unsigned width,
    uint64_t first, uint64_t last)
{
	put8(a, width == 2 ? 0x88u : width == 4 ? 0x87u : 0x8au);
	put_le(a, 3 + 5ull * width, 2);
	put8(a, (unsigned)type);
	put8(a, 0xc); /* a producer's; fixed at both ends; decodes all of it */
	/* Memory can be written; of I/O ports all are passed on. */
	put8(a, type == ADDRESS_MEMORY ? 1u : type == ADDRESS_IO ? 3u : 0u);
	put_le(a, 0, width); /* granularity */
	put_le(a, first, width);
	put_le(a, last, width);
	put_le(a, 0, width); /* translation */
	put_le(a, last - first + 1, width);
}

static void
window(struct aml *a, enum address_type type, unsigned width, uint64_t base,
    uint64_t length)
{
	uint64_t top = width == 8 ? UINT64_MAX : (1ull << (8 * width)) - 1;

	if (length == 0 || length - 1 > top - base) {
		fail(a, -EINVAL);
		return;
	}
	put_window(a, type, width, base, base + length - 1);
}

void
aml_crs_bus(struct aml *a, uint16_t first, uint16_t last)
{
	if (last < first)
		fail(a, -EINVAL);
	put_window(a, ADDRESS_BUS, 2, first, last);
}

void
aml_crs_window_io(struct aml *a, uint16_t base, uint32_t length)
{
	window(a, ADDRESS_IO, 2, base, length);
}

void
aml_crs_window_memory32(struct aml *a, uint32_t base, uint32_t length)
{
	window(a, ADDRESS_MEMORY, 4, base, length);
}

void
aml_crs_window_memory64(struct aml *a, uint64_t base, uint64_t length)
{
	window(a, ADDRESS_MEMORY, 8, base, length);
}

void
aml_crs_end(struct aml *a)
{
	uint8_t count[8];
	struct aml size;
	int n;

	put8(a, 0x79); /* end tag */
	put8(a, 0); /* checksum: none */
	if (a->error == 0 && a->depth == 0)
		fail(a, -EINVAL);
	if (a->error != 0)
		return;
	aml_init(&size, count, sizeof(count));
	aml_int(&size, a->len - a->open[a->depth - 1]);
	n = aml_finish(&size);
	BUG_ON(n < 0);
	insert(a, a->open[a->depth - 1], count, (size_t)n);
	aml_end(a);
}

/* ---- _OSC ---- */

/* A UUID as ToUUID() stores it: the first three groups little endian. */
static void
put_uuid(struct aml *a, const char *uuid)
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11,
		12, 13, 14, 15 };
	uint8_t bytes[16], stored[16];
	unsigned n = 0;

	for (; *uuid != '\0' && n < 32; uuid++) {
		char upper = (char)(*uuid >= 'a' ? *uuid - 'a' + 'A' : *uuid);
		int digit = hex_digit(upper);

		if (*uuid == '-')
			continue;
		if (digit < 0)
			break;
		bytes[n / 2] =
		    (uint8_t)(n % 2 ? bytes[n / 2] << 4 | digit : digit);
		n++;
	}
	if (n != 32 || *uuid != '\0') {
		fail(a, -EINVAL);
		return;
	}
	for (unsigned i = 0; i < 16; i++)
		stored[i] = bytes[order[i]];
	put8(a, AML_BUFFER);
	open_object(a);
	aml_int(a, 16);
	put(a, stored, 16);
	aml_end(a);
}

/* CreateDWordField(Arg3, offset, name) */
static void
put_dword_field(struct aml *a, unsigned offset, const char *name)
{
	put8(a, AML_CREATE_DWORD);
	put8(a, AML_ARG0 + 3);
	aml_int(a, offset);
	put_path(a, name);
}

/* name |= bits */
static void
put_or(struct aml *a, const char *name, unsigned bits)
{
	put8(a, AML_OR);
	put_path(a, name);
	aml_int(a, bits);
	put_path(a, name);
}

void
aml_method_osc(struct aml *a, const char *uuid)
{
	aml_method_begin(a, "_OSC", 4, true);
	put_dword_field(a, 0, "STS0");
	put8(a, AML_IF);
	open_object(a);
	put8(a, AML_EQUAL);
	put8(a, AML_ARG0);
	put_uuid(a, uuid);
	put_dword_field(a, 8, "CTL0");
	put8(a, AML_IF);
	open_object(a);
	put8(a, AML_LNOT);
	put8(a, AML_EQUAL);
	put_path(a, "CTL0");
	aml_int(a, 0);
	put_or(a, "STS0", 0x10); /* what was asked for is not all granted */
	aml_end(a);
	put8(a, AML_STORE);
	aml_int(a, 0);
	put_path(a, "CTL0");
	aml_end(a);
	put8(a, AML_ELSE);
	open_object(a);
	put_or(a, "STS0", 0x4); /* no such UUID */
	aml_end(a);
	put8(a, AML_RETURN);
	put8(a, AML_ARG0 + 3);
	aml_end(a);
}
