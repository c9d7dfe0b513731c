/* The ACPI tables of the platform.  Layouts: ACPI 6.4, section 5.2. */
#include "devices/acpi/tables.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/acpi/aml.h"
#include "proto/base.h"

#define LAPIC_BASE  0xfee00000u
#define IOAPIC_BASE 0xfec00000u

#define PACKED	    __attribute__((packed))

struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} PACKED;

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem[6];
	char oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} PACKED;

struct address { /* Generic Address Structure */
	uint8_t space; /* 1: system I/O */
	uint8_t bit_width, bit_offset;
	uint8_t access; /* 1 byte, 2 word, 3 dword */
	uint64_t address;
} PACKED;

struct fadt {
	struct header header;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate_control;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control;
	uint32_t pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length;
	uint8_t pm_timer_length, gpe0_length, gpe1_length, gpe1_base;
	uint8_t cst_control;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_revision;
	uint64_t x_facs, x_dsdt;
	struct address x_pm1a_event, x_pm1b_event, x_pm1a_control;
	struct address x_pm1b_control, x_pm2_control, x_pm_timer;
	struct address x_gpe0, x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor;
} PACKED;

struct facs {
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, global_lock, flags;
	uint64_t x_waking_vector;
	uint8_t version, reserved[31];
} PACKED;

struct madt_lapic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} PACKED;

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} PACKED;

struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} PACKED;

struct madt_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} PACKED;

struct madt {
	struct header header;
	uint32_t lapic, flags;
	struct madt_ioapic ioapic;
	struct madt_override timer, sci;
	struct madt_nmi nmi;
	struct madt_lapic lapics[ACPI_VCPUS_MAX];
} PACKED;

struct mcfg {
	struct header header;
	uint64_t reserved0;
	uint64_t base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved1;
} PACKED;

_Static_assert(sizeof(struct rsdp) == 36, "RSDP");
_Static_assert(sizeof(struct header) == 36, "table header");
_Static_assert(sizeof(struct fadt) == 276, "FADT");
_Static_assert(sizeof(struct facs) == 64, "FACS");

enum fadt_flags {
	FADT_WBINVD = 1u << 0,
	FADT_PROC_C1 = 1u << 2,
	FADT_SLP_BUTTON = 1u << 5, /* no fixed sleep button */
	FADT_FIX_RTC = 1u << 6, /* no RTC wake status in fixed registers */
	FADT_TMR_VAL_EXT = 1u << 8,
	FADT_RESET_REG_SUP = 1u << 10,
};

enum boot_arch {
	BOOT_LEGACY_DEVICES = 1u << 0,
	BOOT_8042 = 1u << 1,
	BOOT_NO_VGA = 1u << 2,
	BOOT_NO_RTC = 1u << 5,
};

/* Where acpi_build() is: tables follow each other in buf. */
struct builder {
	uint8_t *buf;
	size_t size, used;
	uint64_t gpa;
};

static uint8_t
checksum(const void *data, size_t n)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

static void
fill_header(
    struct header *h, const char *signature, uint8_t revision, size_t length)
{
	memcpy(h->signature, signature, 4);
	h->length = (uint32_t)length;
	h->revision = revision;
	memcpy(h->oem, "BULKHD", 6);
	memcpy(h->oem_table, "BULKHEAD", 8);
	h->oem_revision = 1;
	memcpy(h->creator, "BLKH", 4);
	h->creator_revision = 1;
}

/* Copy a table in, aligned, and checksum it; its address in the guest or 0. */
static uint64_t
place(struct builder *b, const void *table, size_t n, size_t align)
{
	size_t at = (b->used + align - 1) & ~(align - 1);

	if (at > b->size || n > b->size - at)
		return 0;
	memset(b->buf + b->used, 0, at - b->used);
	memcpy(b->buf + at, table, n);
	b->used = at + n;
	return b->gpa + at;
}

static uint64_t
place_table(struct builder *b, struct header *h, size_t n)
{
	h->checksum = 0;
	h->checksum = checksum(h, n);
	return place(b, h, n, 16);
}

static struct address
io_register(const struct acpi_config *c, unsigned offset, unsigned bytes)
{
	return (struct address){
		.space = 1,
		.bit_width = (uint8_t)(8 * bytes),
		.access = bytes == 1 ? 1
		    : bytes == 2     ? 2
				     : 3,
		.address = c->pm_base + offset,
	};
}

static uint64_t
place_fadt(struct builder *b, const struct acpi_config *c, uint64_t facs,
    uint64_t dsdt)
{
	struct fadt f;

	memset(&f, 0, sizeof(f));
	fill_header(&f.header, "FACP", 6, sizeof(f));
	f.minor_revision = 3;
	f.facs = (uint32_t)facs;
	f.dsdt = (uint32_t)dsdt;
	f.x_dsdt = dsdt;
	f.sci = c->sci;
	f.pm1a_event = c->pm_base + ACPI_PM1_EVENT;
	f.pm1a_control = c->pm_base + ACPI_PM1_CONTROL;
	f.pm_timer = c->pm_base + ACPI_PM_TIMER;
	f.pm1_event_length = 4;
	f.pm1_control_length = 2;
	f.pm_timer_length = 4;
	f.x_pm1a_event = io_register(c, ACPI_PM1_EVENT, 4);
	f.x_pm1a_event.access = 2; /* two registers of a word each */
	f.x_pm1a_control = io_register(c, ACPI_PM1_CONTROL, 2);
	f.x_pm_timer = io_register(c, ACPI_PM_TIMER, 4);
	f.reset = io_register(c, ACPI_RESET, 1);
	f.reset_value = ACPI_RESET_VALUE;
	/* Above 100 and 1000 microseconds: there is no C2, no C3. */
	f.c2_latency = 0xfff;
	f.c3_latency = 0xfff;
	f.century = c->rtc ? 0x32 : 0;
	f.boot_arch = (uint16_t)(BOOT_LEGACY_DEVICES | BOOT_NO_VGA |
	    (c->i8042 ? BOOT_8042 : 0) | (c->rtc ? 0 : BOOT_NO_RTC));
	f.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
	    FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP;
	return place_table(b, &f.header, sizeof(f));
}

static uint64_t
place_madt(struct builder *b, const struct acpi_config *c)
{
	size_t unused = sizeof(struct madt_lapic) * (ACPI_VCPUS_MAX - c->vcpus);
	struct madt m;

	memset(&m, 0, sizeof(m));
	fill_header(&m.header, "APIC", 5, sizeof(m) - unused);
	m.lapic = LAPIC_BASE;
	m.flags = 1; /* there is a pair of 8259s too */
	m.ioapic =
	    (struct madt_ioapic){ 1, sizeof(m.ioapic), 0, 0, IOAPIC_BASE, 0 };
	m.timer = (struct madt_override){ 2, sizeof(m.timer), 0, 0, 2, 0 };
	/* active high (1), level (3 << 2) */
	m.sci = (struct madt_override){ 2, sizeof(m.sci), 0, c->sci, c->sci,
		1 | 3 << 2 };
	m.nmi = (struct madt_nmi){ 4, sizeof(m.nmi), 0xff, 0, 1 };
	for (unsigned i = 0; i < c->vcpus; i++) {
		m.lapics[i] = (struct madt_lapic){ 0, sizeof(m.lapics[i]),
			(uint8_t)i, (uint8_t)i, 1 };
	}
	return place_table(b, &m.header, sizeof(m) - unused);
}

static uint64_t
place_mcfg(struct builder *b, const struct acpi_config *c)
{
	struct mcfg m = { .base = c->ecam };

	fill_header(&m.header, "MCFG", 1, sizeof(m));
	return place_table(b, &m.header, sizeof(m));
}

static void
write_processors(struct aml *a, unsigned vcpus)
{
	char name[5];

	for (unsigned i = 0; i < vcpus; i++) {
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device_begin(a, name);
		aml_name_string(a, "_HID", "ACPI0007");
		aml_name_int(a, "_UID", i);
		aml_end(a);
	}
}

/* The DSDT is written in place: only the encoder knows how long it gets. */
static int
place_dsdt(struct builder *b, const struct acpi_config *c, uint64_t *gpa)
{
	size_t at = (b->used + 15) & ~(size_t)15;
	struct header h;
	struct aml a;
	int n;

	if (at > b->size || sizeof(h) > b->size - at)
		return -ENOSPC;
	memset(b->buf + b->used, 0, at - b->used);
	aml_init(&a, b->buf + at + sizeof(h), b->size - at - sizeof(h));
	aml_package_begin(&a, "\\_S5", 4);
	aml_int(&a, ACPI_SLEEP_S5);
	aml_int(&a, ACPI_SLEEP_S5);
	aml_int(&a, 0);
	aml_int(&a, 0);
	aml_end(&a);
	aml_scope_begin(&a, "\\_SB");
	write_processors(&a, c->vcpus);
	if (c->devices != NULL)
		c->devices(&a, c->ctx);
	aml_end(&a);
	n = aml_finish(&a);
	if (n < 0)
		return n == -ENOSPC ? n : -EINVAL;

	memset(&h, 0, sizeof(h));
	fill_header(&h, "DSDT", 2, sizeof(h) + (size_t)n);
	memcpy(b->buf + at, &h, sizeof(h));
	h.checksum = checksum(b->buf + at, h.length);
	memcpy(b->buf + at, &h, sizeof(h));
	b->used = at + h.length;
	*gpa = b->gpa + at;
	return 0;
}

int
acpi_build(
    const struct acpi_config *config, void *buf, size_t size, uint64_t gpa)
{
	struct builder b = { .buf = buf, .size = size, .gpa = gpa };
	struct {
		struct header header;
		uint64_t tables[3];
	} PACKED xsdt = { 0 };
	size_t length = sizeof(xsdt) - (config->ecam == 0 ? 8 : 0);
	struct facs facs = { .signature = "FACS", .length = 64, .version = 2 };
	struct rsdp rsdp = { .signature = "RSD PTR ", .oem = "BULKHD" };
	uint64_t facs_gpa, dsdt_gpa;
	int err;

	if (config->vcpus == 0 || config->vcpus > ACPI_VCPUS_MAX)
		return -EINVAL;
	if (gpa % 64 != 0 || gpa > UINT32_MAX || size > UINT32_MAX - gpa)
		return -EINVAL;
	/* The RSDP's place; it is filled in when all else is known. */
	if (place(&b, &rsdp, sizeof(rsdp), 16) == 0)
		return -ENOSPC;
	facs_gpa = place(&b, &facs, sizeof(facs), 64);
	if (facs_gpa == 0)
		return -ENOSPC;
	err = place_dsdt(&b, config, &dsdt_gpa);
	if (err < 0)
		return err;
	xsdt.tables[0] = place_fadt(&b, config, facs_gpa, dsdt_gpa);
	xsdt.tables[1] = place_madt(&b, config);
	if (config->ecam != 0)
		xsdt.tables[2] = place_mcfg(&b, config);
	if (xsdt.tables[0] == 0 || xsdt.tables[1] == 0 ||
	    (config->ecam != 0 && xsdt.tables[2] == 0))
		return -ENOSPC;
	fill_header(&xsdt.header, "XSDT", 1, length);
	rsdp.xsdt = place_table(&b, &xsdt.header, length);
	if (rsdp.xsdt == 0)
		return -ENOSPC;
	rsdp.revision = 2;
	rsdp.length = sizeof(rsdp);
	rsdp.checksum = checksum(&rsdp, 20);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(b.buf, &rsdp, sizeof(rsdp));
	return (int)b.used;
}
