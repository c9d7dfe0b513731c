/* The ACPI tables: checksums, references, contents; and what iasl says. */
#include "devices/acpi/tables.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devhost/device.h"
#include "devices/acpi/aml.h"
#include "proto/base.h"
#include "proto/platform.h"
#include "tests/named_tests.h"

#define GPA  0xe0000u
#define SIZE 0x10000u

static uint8_t buf[SIZE];

static uint64_t
le(const uint8_t *at, unsigned bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

static uint8_t
sum(const uint8_t *at, size_t n)
{
	uint8_t s = 0;

	while (n-- > 0)
		s = (uint8_t)(s + *at++);
	return s;
}

/* The table of that signature, by way of the XSDT; FACS and DSDT by the FADT.
 */
static const uint8_t *
find(const char *signature)
{
	const uint8_t *xsdt = buf + le(buf + 24, 8) - GPA;
	size_t n = (le(xsdt + 4, 4) - 36) / 8;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *t = buf + le(xsdt + 36 + 8 * i, 8) - GPA;

		if (memcmp(t, signature, 4) == 0)
			return t;
	}
	CU_FAIL_FATAL("no such table");
	return NULL;
}

static void
write_devices(struct aml *a, void *ctx)
{
	(void)ctx;
	aml_device_begin(a, "COM1");
	aml_name_eisaid(a, "_HID", "PNP0501");
	aml_name_int(a, "_UID", 0);
	aml_crs_begin(a);
	aml_crs_io(a, 0x3f8, 8);
	aml_crs_irq(a, 4, false);
	aml_crs_end(a);
	aml_end(a);
	aml_device_begin(a, "VIO0");
	aml_name_string(a, "_HID", "LNRO0005");
	aml_name_int(a, "_CCA", 1);
	aml_crs_begin(a);
	aml_crs_memory32(a, 0xd0000000, 0x1000);
	aml_crs_irq(a, 16, true);
	aml_crs_end(a);
	aml_method_begin(a, "_STA", 0, false);
	aml_return_int(a, 0xf);
	aml_end(a);
	aml_end(a);
	device_type_find("pci-host")
	    ->ops->acpi(a, NULL,
		&(struct device_machine){ .ram_low = 1 << 30, .vcpus = 3 });
}

static struct acpi_config
machine(void)
{
	return (struct acpi_config){
		.vcpus = 3,
		.pm_base = ACPI_PM_BASE,
		.sci = ACPI_SCI,
		.i8042 = true,
		.rtc = true,
		.ecam = PLATFORM_ECAM_BASE,
		.devices = write_devices,
	};
}

static void
gives_every_table_a_right_checksum(void)
{
	struct acpi_config c = machine();
	const uint8_t *fadt, *dsdt, *facs, *xsdt, *madt;
	int n;

	n = acpi_build(&c, buf, SIZE, GPA);
	CU_ASSERT_FATAL(n > 0 && n <= (int)SIZE);
	CU_ASSERT_EQUAL(memcmp(buf, "RSD PTR ", 8), 0);
	CU_ASSERT_EQUAL(buf[15], 2);
	CU_ASSERT_EQUAL(sum(buf, 20), 0);
	CU_ASSERT_EQUAL(sum(buf, 36), 0);
	xsdt = buf + le(buf + 24, 8) - GPA;
	fadt = find("FACP");
	madt = find("APIC");
	dsdt = buf + le(fadt + 140, 8) - GPA;
	facs = buf + le(fadt + 36, 4) - GPA;
	CU_ASSERT_EQUAL(sum(xsdt, le(xsdt + 4, 4)), 0);
	CU_ASSERT_EQUAL(sum(fadt, le(fadt + 4, 4)), 0);
	CU_ASSERT_EQUAL(sum(madt, le(madt + 4, 4)), 0);
	CU_ASSERT_EQUAL(sum(dsdt, le(dsdt + 4, 4)), 0);
	CU_ASSERT_EQUAL(memcmp(dsdt, "DSDT", 4), 0);
	CU_ASSERT_EQUAL(le(fadt + 40, 4), le(fadt + 140, 8));
	CU_ASSERT_EQUAL(memcmp(facs, "FACS", 4), 0);
	CU_ASSERT_EQUAL((facs - buf) % 64, 0);
}

static void
tells_where_the_registers_stand(void)
{
	struct acpi_config c = machine();
	const uint8_t *fadt;

	CU_ASSERT(acpi_build(&c, buf, SIZE, GPA) > 0);
	fadt = find("FACP");
	CU_ASSERT_EQUAL(le(fadt + 4, 4), 276);
	CU_ASSERT_EQUAL(le(fadt + 46, 2), 9); /* SCI_INT */
	CU_ASSERT_EQUAL(le(fadt + 48, 4), 0); /* SMI_CMD */
	CU_ASSERT_EQUAL(le(fadt + 56, 4), 0x600); /* PM1a_EVT_BLK */
	CU_ASSERT_EQUAL(le(fadt + 64, 4), 0x604); /* PM1a_CNT_BLK */
	CU_ASSERT_EQUAL(le(fadt + 76, 4), 0x608); /* PM_TMR_BLK */
	CU_ASSERT_EQUAL(fadt[88], 4);
	CU_ASSERT_EQUAL(fadt[89], 2);
	CU_ASSERT_EQUAL(fadt[91], 4);
	CU_ASSERT_EQUAL(fadt[108], 0x32); /* CENTURY */
	CU_ASSERT_EQUAL(le(fadt + 109, 2), 0x7); /* IAPC_BOOT_ARCH */
	/* Flags: no sleep button, wide timer, reset register. */
	CU_ASSERT_EQUAL(le(fadt + 112, 4), 0x565);
	CU_ASSERT_EQUAL(le(fadt + 120, 8), 0x60c);
	CU_ASSERT_EQUAL(fadt[128], ACPI_RESET_VALUE);
	CU_ASSERT_EQUAL(le(fadt + 148 + 4, 8), 0x600);
	CU_ASSERT_EQUAL(le(fadt + 172 + 4, 8), 0x604);
	CU_ASSERT_EQUAL(le(fadt + 208 + 4, 8), 0x608);

	c.pm_base = 0xb000;
	c.i8042 = c.rtc = false;
	CU_ASSERT(acpi_build(&c, buf, SIZE, GPA) > 0);
	fadt = find("FACP");
	CU_ASSERT_EQUAL(le(fadt + 64, 4), 0xb004);
	CU_ASSERT_EQUAL(fadt[108], 0);
	CU_ASSERT_EQUAL(le(fadt + 109, 2), 0x25);
}

static void
tells_where_the_configuration_space_is(void)
{
	struct acpi_config c = machine();
	const uint8_t *mcfg, *xsdt;

	CU_ASSERT(acpi_build(&c, buf, SIZE, GPA) > 0);
	mcfg = find("MCFG");
	CU_ASSERT_EQUAL(le(mcfg + 4, 4), 60);
	CU_ASSERT_EQUAL(sum(mcfg, 60), 0);
	CU_ASSERT_EQUAL(le(mcfg + 44, 8), PLATFORM_ECAM_BASE);
	CU_ASSERT_EQUAL(le(mcfg + 52, 8), 0); /* segment 0, bus 0 to 0 */
	/* Without PCI there is no such table. */
	c.ecam = 0;
	CU_ASSERT(acpi_build(&c, buf, SIZE, GPA) > 0);
	xsdt = buf + le(buf + 24, 8) - GPA;
	CU_ASSERT_EQUAL(le(xsdt + 4, 4), 36 + 2 * 8);
}

static void
lists_every_processor(void)
{
	struct acpi_config c = machine();

	for (c.vcpus = 1; c.vcpus <= ACPI_VCPUS_MAX; c.vcpus++) {
		const uint8_t *madt, *at, *end;
		unsigned seen = 0;

		CU_ASSERT(acpi_build(&c, buf, SIZE, GPA) > 0);
		madt = find("APIC");
		end = madt + le(madt + 4, 4);
		for (at = madt + 44; at < end; at += at[1]) {
			CU_ASSERT_FATAL(at[1] > 1);
			if (at[0] == 0)
				CU_ASSERT_EQUAL(at[3], seen++);
			if (at[0] == 1)
				CU_ASSERT_EQUAL(le(at + 4, 4), 0xfec00000);
			if (at[0] == 2 && at[3] == 0)
				CU_ASSERT_EQUAL(le(at + 4, 4), 2);
			if (at[0] == 2 && at[3] == 9)
				CU_ASSERT_EQUAL(le(at + 8, 2), 0xd);
			if (at[0] == 4)
				CU_ASSERT_EQUAL(at[5], 1);
		}
		CU_ASSERT_PTR_EQUAL(at, end);
		CU_ASSERT_EQUAL(seen, c.vcpus);
	}
}

static void
refuses_what_cannot_be(void)
{
	struct acpi_config c = machine();
	int n = acpi_build(&c, buf, SIZE, GPA);

	for (size_t size = 0; size < (size_t)n; size++)
		CU_ASSERT_EQUAL(acpi_build(&c, buf, size, GPA), -ENOSPC);
	CU_ASSERT_EQUAL(acpi_build(&c, buf, (size_t)n, GPA), n);
	CU_ASSERT_EQUAL(acpi_build(&c, buf, SIZE, GPA + 16), -EINVAL);
	CU_ASSERT_EQUAL(acpi_build(&c, buf, SIZE, 1ull << 32), -EINVAL);
	c.vcpus = 0;
	CU_ASSERT_EQUAL(acpi_build(&c, buf, SIZE, GPA), -EINVAL);
	c.vcpus = ACPI_VCPUS_MAX + 1;
	CU_ASSERT_EQUAL(acpi_build(&c, buf, SIZE, GPA), -EINVAL);
}

/* Run iasl in dir; its exit status, 127 if there is none. */
static int
run_iasl(const char *dir, const char *option, const char *file)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (chdir(dir) == 0 &&
		    freopen("iasl.log", "a", stdout) != NULL &&
		    dup2(STDOUT_FILENO, STDERR_FILENO) >= 0)
			execlp("iasl", "iasl", option, file, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static void
is_understood_by_iasl(void)
{
	static const char *const wanted[] = { "Device (COM1)", "PNP0501",
		"IO (Decode16", "0x03F8", "Device (VIO0)", "0xD0000000",
		"Interrupt (ResourceConsumer, Level, ActiveHigh, Shared",
		"Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive",
		"Method (_STA, 0, NotSerialized)", "Device (C002)",
		"Name (\\_S5, Package (0x04)", "Device (PCI0)",
		"WordBusNumber (ResourceProducer, MinFixed, MaxFixed, "
		"PosDecode",
		"WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, "
		"EntireRange",
		"DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, "
		"NonCacheable, ReadWrite",
		"QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, "
		"NonCacheable, ReadWrite",
		"0x0000000400000000, // Range Minimum",
		"Name (_PRT, Package (0x80)", "Method (_OSC, 4, Serialized)",
		"33db4d5b-1ff7-401c-9657-7441c03dd766", "PNP0C02" };
	static char text[1 << 16];
	char dir[] = "/tmp/bulkhead-acpi-XXXXXX", path[64];
	struct acpi_config c = machine();
	const uint8_t *dsdt;
	size_t n = 0;
	FILE *f;
	int status;

	CU_ASSERT(acpi_build(&c, buf, SIZE, GPA) > 0);
	dsdt = buf + le(find("FACP") + 140, 8) - GPA;
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/dsdt.aml", dir);
	f = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	fwrite(dsdt, 1, le(dsdt + 4, 4), f);
	fclose(f);
	status = run_iasl(dir, "-d", "dsdt.aml");
	if (status == 127) {
		printf("(skipped: no iasl) ");
	} else {
		CU_ASSERT_EQUAL(status, 0);
		snprintf(path, sizeof(path), "%s/dsdt.dsl", dir);
		f = fopen(path, "r");
		if (f != NULL) {
			n = fread(text, 1, sizeof(text) - 1, f);
			fclose(f);
		}
		text[n] = '\0';
		for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
			if (strstr(text, wanted[i]) == NULL) {
				printf("\nno \"%s\" in\n%s", wanted[i], text);
				CU_FAIL("iasl reads another thing");
			}
		}
		/* And it compiles again without a complaint. */
		CU_ASSERT_EQUAL(run_iasl(dir, "-we", "dsdt.dsl"), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		static const char *const files[] = { "dsdt.aml", "dsdt.dsl",
			"iasl.log" };

		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
}

static const struct named_test tests[] = {
	NAMED_TEST(gives_every_table_a_right_checksum),
	NAMED_TEST(tells_where_the_registers_stand),
	NAMED_TEST(tells_where_the_configuration_space_is),
	NAMED_TEST(lists_every_processor),
	NAMED_TEST(refuses_what_cannot_be),
	NAMED_TEST(is_understood_by_iasl),
};

int
main(void)
{
	return named_tests_run("acpi tables", tests, ARRAY_LEN(tests));
}
