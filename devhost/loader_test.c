/* The loader on synthetic images, whole and broken, and its layout. */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devhost/loader.h"
#include "proto/base.h"
#include "tests/named_tests.h"

#define MIB	  (1ull << 20)
#define RAM_LOW	  (64 * MIB)
#define RAM_HIGH  (32 * MIB)
#define FILE_SIZE 0x4000u
#define HDR	  0x1f1u
#define ERR_SIZE  320u

/* The machine of one test. */
static uint8_t *ram;
static uint8_t file[FILE_SIZE], initrd_file[10000];
static struct loader_result result;
static char err[ERR_SIZE];

static struct loader_input
machine(void)
{
	return (struct loader_input){
		.kernel = { .fd = -1, .bytes = file, .size = FILE_SIZE },
		.initrd = { .fd = -1,
		    .bytes = initrd_file,
		    .size = sizeof(initrd_file) },
		.has_initrd = true,
		.cmdline = "console=ttyS0",
		.ram = ram,
		.ram_low = RAM_LOW,
		.ram_high = RAM_HIGH,
		.vcpus = 2,
	};
}

static struct setup_header
good_header(void)
{
	return (struct setup_header){
		.setup_sects = 1,
		.syssize = (FILE_SIZE - 1024) / 16,
		.boot_flag = 0xaa55,
		.jump = 0x66eb,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.min_alignment = 21,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = 0x1000000,
		.init_size = 0x300000,
	};
}

static void
put_bzimage(const struct setup_header *h)
{
	for (unsigned i = 0; i < FILE_SIZE; i++)
		file[i] = (uint8_t)(i * 7 + i / 256);
	memcpy(file + HDR, h, sizeof(*h));
}

/* ---- bzImage ---- */

static void
loads_a_bzimage(void)
{
	struct setup_header h = good_header();
	struct loader_input in = machine();
	const struct boot_params *bp;
	const uint64_t *gdt, *tables;

	put_bzimage(&h);
	CU_ASSERT_EQUAL(loader_load(&in, &result, err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(result.mode, 64);
	CU_ASSERT_EQUAL(result.rip, 0x1000200);
	CU_ASSERT_STRING_EQUAL(result.format, "bzImage");
	CU_ASSERT_EQUAL(
	    memcmp(ram + 0x1000000, file + 1024, FILE_SIZE - 1024), 0);
	CU_ASSERT_EQUAL(result.initrd_size, sizeof(initrd_file));
	CU_ASSERT_EQUAL(
	    memcmp(ram + result.initrd, initrd_file, sizeof(initrd_file)), 0);

	bp = (const void *)(ram + result.rsi);
	CU_ASSERT_EQUAL(bp->hdr.type_of_loader, 0xff);
	CU_ASSERT_EQUAL(bp->hdr.header, 0x53726448);
	CU_ASSERT_EQUAL(bp->hdr.ramdisk_image, result.initrd);
	CU_ASSERT_EQUAL(bp->hdr.ramdisk_size, result.initrd_size);
	CU_ASSERT_STRING_EQUAL(ram + bp->hdr.cmd_line_ptr, "console=ttyS0");
	CU_ASSERT_EQUAL(memcmp(ram + bp->acpi_rsdp_addr, "RSD PTR ", 8), 0);
	CU_ASSERT_EQUAL(bp->e820_entries, 4);
	CU_ASSERT_EQUAL(bp->sentinel, 0);

	gdt = (const void *)(ram + result.gdt);
	CU_ASSERT_EQUAL(gdt[2], 0x00af9b000000ffff);
	CU_ASSERT_EQUAL(gdt[3], 0x00cf93000000ffff);
	tables = (const void *)(ram + result.cr3);
	CU_ASSERT_EQUAL(tables[0], result.cr3 + 0x1003);
	CU_ASSERT_EQUAL(tables[512 + 3], result.cr3 + 0x5003);
	CU_ASSERT_EQUAL(tables[1024 + 2047], 0xffe00083);
}

/* A field of the header replaced. */
#define FIELD(f) \
	offsetof(struct setup_header, f), sizeof(((struct setup_header *)0)->f)

static const struct {
	const char *claim;
	size_t offset, size;
	uint64_t value;
	int error;
	const char *text; /* part of the message */
} bad_headers[] = {
	{ "refuses a wrong boot_flag", FIELD(boot_flag), 0x55aa, -ENOEXEC,
	    "boot_flag 0x55aa: not 0xaa55" },
	{ "refuses a file without HdrS", FIELD(header), 0x12345678, -ENOEXEC,
	    "neither an ELF file nor a bzImage" },
	{ "refuses a header that ends early", FIELD(jump), 0x20eb, -ENOEXEC,
	    "jump 0x20: the header is too short" },
	{ "refuses an old protocol", FIELD(version), 0x020b, -ENOEXEC,
	    "version 0x20b: older than 2.12" },
	{ "refuses a small kernel", FIELD(loadflags), 0, -ENOEXEC,
	    "loadflags 0x0: not a big kernel" },
	{ "refuses a 32-bit kernel", FIELD(xloadflags), 0, -ENOEXEC,
	    "xloadflags 0x0: no 64-bit entry" },
	{ "refuses setup beyond the file", FIELD(setup_sects), 200, -ENOEXEC,
	    "setup_sects 0xc8: beyond the end" },
	{ "refuses a truncated payload", FIELD(syssize),
	    (FILE_SIZE - 1024) / 16 + 1, -ENOEXEC,
	    "more than the file holds: it is truncated" },
	{ "refuses a huge syssize", FIELD(syssize), UINT32_MAX, -ENOEXEC,
	    "syssize 0xffffffff" },
	{ "refuses a payload without entry", FIELD(syssize), 0x20, -ENOEXEC,
	    "syssize 0x20: too small" },
	{ "refuses alignment 0", FIELD(kernel_alignment), 0, -ENOEXEC,
	    "kernel_alignment 0x0: not a power of two" },
	{ "refuses a crooked alignment", FIELD(kernel_alignment), 0x300000,
	    -ENOEXEC, "kernel_alignment 0x300000" },
	{ "refuses an alignment beyond memory", FIELD(kernel_alignment),
	    0x80000000, -EFBIG, "pref_address, init_size" },
	{ "refuses low addresses", FIELD(pref_address), 0x7000, -ENOEXEC,
	    "pref_address 0x7000: below 1 MiB" },
	{ "refuses addresses beyond memory", FIELD(pref_address), RAM_LOW,
	    -EFBIG, "needs memory from 0x4000000" },
	{ "refuses addresses in high memory", FIELD(pref_address), 1ull << 32,
	    -EFBIG, "needs memory from 0x100000000" },
	{ "refuses addresses that overflow", FIELD(pref_address), UINT64_MAX,
	    -ENOEXEC, "pref_address 0xffffffffffffffff: overflows" },
	{ "refuses an init_size beyond memory", FIELD(init_size), UINT32_MAX,
	    -EFBIG, "pref_address, init_size" },
	{ "refuses a longer command line than the kernel", FIELD(cmdline_size),
	    12, -EINVAL, "cmdline: 13 bytes, but the kernel takes 12" },
	{ "refuses an initrd above initrd_addr_max", FIELD(initrd_addr_max),
	    0x1300fff, -EFBIG, "initrd: 10000 bytes do not fit" },
	{ "refuses initrd_addr_max below the kernel", FIELD(initrd_addr_max), 0,
	    -EFBIG, "initrd: 10000 bytes do not fit" },
};

static void
refuses_corrupt_headers(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(bad_headers); i++) {
		struct setup_header h = good_header();
		struct loader_input in = machine();
		int got;

		memcpy((uint8_t *)&h + bad_headers[i].offset,
		    &bad_headers[i].value, bad_headers[i].size);
		put_bzimage(&h);
		got = loader_load(&in, &result, err, sizeof(err));
		if (got != bad_headers[i].error ||
		    strstr(err, bad_headers[i].text) == NULL) {
			printf("\n%s: %d \"%s\"\n", bad_headers[i].claim, got,
			    err);
			CU_FAIL("a corrupt header is not refused as claimed");
		}
	}
}

static void
refuses_every_truncation_of_a_bzimage(void)
{
	struct setup_header h = good_header();
	struct loader_input in = machine();

	put_bzimage(&h);
	for (in.kernel.size = 0; in.kernel.size < FILE_SIZE;
	     in.kernel.size += in.kernel.size < 0x300 ? 1 : 61) {
		CU_ASSERT_EQUAL(
		    loader_load(&in, &result, err, sizeof(err)), -ENOEXEC);
		CU_ASSERT_PTR_NOT_NULL(strstr(err, "kernel: "));
	}
}

/* ---- the machine ---- */

static void
takes_a_limit(struct loader_input *in, int error, const char *text)
{
	int got = loader_load(in, &result, err, sizeof(err));

	if (got != error || strstr(err, text) == NULL) {
		printf(
		    "\nwanted %d \"%s\": %d \"%s\"\n", error, text, got, err);
		CU_FAIL("not refused as claimed");
	}
}

static void
refuses_impossible_machines(void)
{
	static char longer[0x10001];
	struct setup_header h = good_header();
	struct loader_device pm = { .type = "acpi-pm" };
	struct loader_input in;

	put_bzimage(&h);
	in = machine();
	in.ram_low = 0x100000;
	takes_a_limit(&in, -EINVAL, "memory: impossible sizes");
	in.ram_low = 0xff000000;
	takes_a_limit(&in, -EINVAL, "memory: impossible sizes");
	in = machine();
	in.ram_high = 1;
	takes_a_limit(&in, -EINVAL, "memory: impossible sizes");
	in.ram_high = ~0xfffull;
	takes_a_limit(&in, -EINVAL, "memory: impossible sizes");
	in = machine();
	in.vcpus = 0;
	takes_a_limit(&in, -EINVAL, "ACPI tables for 0 vCPUs");
	in.vcpus = 65;
	takes_a_limit(&in, -EINVAL, "ACPI tables for 65 vCPUs");
	in = machine();
	in.initrd.size = 0;
	takes_a_limit(&in, -EINVAL, "initrd: the file is empty");
	in.initrd.size = RAM_LOW;
	takes_a_limit(&in, -EFBIG, "initrd: 67108864 bytes do not fit");
	in.initrd.size = UINT64_MAX;
	takes_a_limit(&in, -EFBIG, "initrd: ");
	in = machine();
	memset(longer, 'a', sizeof(longer) - 1);
	in.cmdline = longer;
	takes_a_limit(&in, -EINVAL, "cmdline: 65536 bytes");
	in = machine();
	pm.placed.nregions = 1;
	pm.placed.regions[0] = (struct device_region){
		.space = DEVICE_PIO, .base = 0xfff8, .size = 16
	};
	in.devices = &pm;
	in.ndevices = 1;
	takes_a_limit(&in, -EINVAL, "acpi-pm has no 13 I/O ports");
}

static void
says_when_a_file_cannot_be_read(void)
{
	struct loader_input in = machine();

	in.kernel.bytes = NULL;
	in.kernel.fd = -1;
	takes_a_limit(&in, -EBADF, "kernel: cannot read at offset 0x0");
}

/* ---- ELF ---- */

#define ENTRY 0x100040u

struct elf64_image {
	Elf64_Ehdr e;
	Elf64_Phdr p[3]; /* text, data with bss, notes */
	Elf64_Nhdr note;
	char name[4];
	uint64_t entry;
};

static struct elf64_image
good_elf(void)
{
	return (struct elf64_image){
		.e = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64,
			    ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_phoff = offsetof(struct elf64_image, p),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 3,
		},
		.p = {
			{ .p_type = PT_LOAD, .p_offset = 0x1000,
			    .p_paddr = 0x100000, .p_filesz = 0x1000,
			    .p_memsz = 0x1000 },
			{ .p_type = PT_LOAD, .p_offset = 0x2000,
			    .p_paddr = 0x102000, .p_filesz = 0x123,
			    .p_memsz = 0x2000 },
			{ .p_type = PT_NOTE,
			    .p_offset = offsetof(struct elf64_image, note),
			    .p_filesz = 24, .p_memsz = 24, .p_align = 4 },
		},
		.note = { 4, 8, 18 },
		.name = "Xen",
		.entry = ENTRY,
	};
}

static void
put_elf(const struct elf64_image *image)
{
	memset(file, 0xa5, sizeof(file));
	memcpy(file, image, sizeof(*image));
}

static void
loads_an_elf_with_a_pvh_note(void)
{
	struct elf64_image image = good_elf();
	struct loader_input in = machine();
	const uint32_t *info;
	const uint64_t *modules, *map;

	put_elf(&image);
	memset(ram + 0x102000, 0xee, 0x2000);
	CU_ASSERT_EQUAL(loader_load(&in, &result, err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(result.mode, 32);
	CU_ASSERT_EQUAL(result.rip, ENTRY);
	CU_ASSERT_EQUAL(result.kernel, 0x100000);
	CU_ASSERT_EQUAL(result.kernel_end, 0x104000);
	CU_ASSERT_STRING_EQUAL(result.format, "ELF/PVH");
	CU_ASSERT_EQUAL(memcmp(ram + 0x100000, file + 0x1000, 0x1000), 0);
	CU_ASSERT_EQUAL(ram[0x102122], 0xa5);
	CU_ASSERT_EQUAL(ram[0x102123], 0);
	CU_ASSERT_EQUAL(ram[0x103fff], 0);

	info = (const void *)(ram + result.rbx);
	CU_ASSERT_EQUAL(info[0], 0x336ec578);
	CU_ASSERT_EQUAL(info[1], 1);
	CU_ASSERT_EQUAL(info[3], 1);
	modules = (const void *)(ram + info[4]);
	CU_ASSERT_EQUAL(modules[0], result.initrd);
	CU_ASSERT_EQUAL(modules[1], sizeof(initrd_file));
	CU_ASSERT_STRING_EQUAL(ram + info[6], "console=ttyS0");
	CU_ASSERT_EQUAL(info[8], LOADER_RSDP);
	CU_ASSERT_EQUAL(info[12], 4);
	map = (const void *)(ram + info[10]);
	CU_ASSERT_EQUAL(map[3 * 3], 1ull << 32);
	CU_ASSERT_EQUAL(map[3 * 3 + 1], RAM_HIGH);
	CU_ASSERT_EQUAL(((const uint64_t *)(const void *)(ram + result.gdt))[2],
	    0x00cf9b000000ffff);
}

static void
loads_a_32_bit_elf(void)
{
	struct {
		Elf32_Ehdr e;
		Elf32_Phdr p[2];
		Elf32_Nhdr note;
		char name[4];
		uint32_t entry;
	} image = {
		.e = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32,
			    ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_386,
			.e_phoff = sizeof(Elf32_Ehdr),
			.e_phentsize = sizeof(Elf32_Phdr),
			.e_phnum = 2,
		},
		.p = {
			{ .p_type = PT_LOAD, .p_offset = 0x1000,
			    .p_paddr = 0x100000, .p_filesz = 0x1000,
			    .p_memsz = 0x1000 },
			{ .p_type = PT_NOTE,
			    .p_offset = sizeof(Elf32_Ehdr) +
			        2 * sizeof(Elf32_Phdr),
			    .p_filesz = 20 },
		},
		.note = { 4, 4, 18 },
		.name = "Xen",
		.entry = ENTRY,
	};
	struct loader_input in = machine();

	in.has_initrd = false;
	memset(file, 0x5a, sizeof(file));
	memcpy(file, &image, sizeof(image));
	CU_ASSERT_EQUAL(loader_load(&in, &result, err, sizeof(err)), 0);
	CU_ASSERT_EQUAL(result.rip, ENTRY);
	CU_ASSERT_EQUAL(result.initrd_size, 0);
	CU_ASSERT_EQUAL(((const uint32_t *)(ram + result.rbx))[3], 0);
}

#define ELF(f) \
	offsetof(struct elf64_image, f), sizeof(((struct elf64_image *)0)->f)

static const struct {
	const char *claim;
	size_t offset, size;
	uint64_t value;
	const char *text;
} bad_elves[] = {
	{ "refuses an unknown class", ELF(e.e_ident[EI_CLASS]), 7,
	    "class 7 is unknown" },
	{ "refuses big-endian", ELF(e.e_ident[EI_DATA]), ELFDATA2MSB,
	    "not little-endian" },
	{ "refuses other processors", ELF(e.e_machine), EM_AARCH64,
	    "e_machine 183 is not x86" },
	{ "refuses object files", ELF(e.e_type), ET_REL, "e_type 1" },
	{ "refuses odd header sizes", ELF(e.e_phentsize), 55,
	    "e_phentsize 55 is wrong" },
	{ "refuses no segments", ELF(e.e_phnum), 0, "e_phnum 0" },
	{ "refuses too many segments", ELF(e.e_phnum), 65, "e_phnum 65" },
	{ "refuses headers beyond the file", ELF(e.e_phoff), FILE_SIZE - 10,
	    "truncated: 56 bytes wanted at offset 0x3ff6" },
	{ "refuses headers whose offset overflows", ELF(e.e_phoff),
	    UINT64_MAX - 60,
	    "truncated: 56 bytes wanted at offset 0xffffffffffffffc3" },
	{ "refuses filesz above memsz", ELF(p[0].p_filesz), 0x1001,
	    "segment 0" },
	{ "refuses bytes of the file without memory", ELF(p[1].p_memsz), 0,
	    "is longer in the file" },
	{ "refuses a segment beyond the file", ELF(p[1].p_offset),
	    FILE_SIZE - 0x122, "ends beyond the file: it is truncated" },
	{ "refuses a file offset that overflows", ELF(p[1].p_offset),
	    UINT64_MAX - 1, "overflows" },
	{ "refuses an address that overflows", ELF(p[1].p_paddr),
	    UINT64_MAX - 0x1000, "overflows" },
	{ "refuses a size that overflows", ELF(p[1].p_memsz), UINT64_MAX,
	    "overflows" },
	{ "refuses addresses below 1 MiB", ELF(p[0].p_paddr), 0x7000,
	    "is below 1 MiB" },
	{ "refuses addresses beyond memory", ELF(p[1].p_paddr),
	    RAM_LOW - 0x1fff, "is beyond memory" },
	{ "refuses bss beyond memory", ELF(p[1].p_memsz), RAM_LOW,
	    "is beyond memory" },
	{ "refuses overlapping segments", ELF(p[1].p_paddr), 0x100fff,
	    "overlaps another" },
	{ "refuses an image without note", ELF(p[2].p_type), PT_NULL,
	    "no PVH entry" },
	{ "refuses a note of another type", ELF(note.n_type), 17,
	    "no PVH entry" },
	{ "refuses a note of another name", ELF(name), 0x006e6579,
	    "no PVH entry" },
	{ "refuses a note that is too long", ELF(note.n_descsz), UINT32_MAX,
	    "has a broken note" },
	{ "refuses a name that is too long", ELF(note.n_namesz), UINT32_MAX,
	    "has a broken note" },
	{ "refuses an entry of a wrong size", ELF(note.n_descsz), 2,
	    "an entry note of a wrong size" },
	{ "refuses too many notes", ELF(p[2].p_filesz), 1 << 20,
	    "has too many notes" },
	{ "refuses notes beyond the file", ELF(p[2].p_offset), FILE_SIZE,
	    "ends beyond the file" },
	{ "refuses an entry outside", ELF(entry), 0x101000,
	    "the PVH entry 0x101000 is in no segment" },
	{ "refuses an entry in bss", ELF(entry), 0x103000,
	    "the PVH entry 0x103000 is in no segment" },
};

static void
refuses_corrupt_elves(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(bad_elves); i++) {
		struct elf64_image image = good_elf();
		struct loader_input in = machine();
		int got;

		memcpy((uint8_t *)&image + bad_elves[i].offset,
		    &bad_elves[i].value, bad_elves[i].size);
		put_elf(&image);
		got = loader_load(&in, &result, err, sizeof(err));
		if (got != -ENOEXEC || strstr(err, bad_elves[i].text) == NULL ||
		    strncmp(err, "kernel: ", 8) != 0) {
			printf(
			    "\n%s: %d \"%s\"\n", bad_elves[i].claim, got, err);
			CU_FAIL("a corrupt ELF is not refused as claimed");
		}
	}
}

static void
refuses_an_elf_with_nothing_to_load(void)
{
	struct elf64_image image = good_elf();
	struct loader_input in = machine();

	image.p[0].p_type = PT_NULL;
	image.p[1].p_memsz = image.p[1].p_filesz = 0;
	put_elf(&image);
	takes_a_limit(&in, -ENOEXEC, "no segment to load");
}

/* ---- the layout ---- */

/* The layout as text, to be compared with tests/golden/NAME. */
static void
check_golden(const char *name)
{
	char path[100], want[2048], got[2048];
	FILE *f = fmemopen(got, sizeof(got), "w");
	size_t n = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	for (unsigned i = 0; i < result.ne820; i++) {
		fprintf(f, "e820 %016llx-%016llx %s\n",
		    (unsigned long long)result.e820[i].base,
		    (unsigned long long)(result.e820[i].base +
			result.e820[i].size),
		    result.e820[i].type == LOADER_E820_RAM ? "RAM"
							   : "reserved");
	}
	fprintf(f, "format %s mode %u\n", result.format, result.mode);
	fprintf(f, "gdt 0x%llx\n", (unsigned long long)result.gdt);
	fprintf(f, "cr3 0x%llx\n", (unsigned long long)result.cr3);
	fprintf(f, "rsi 0x%llx\n", (unsigned long long)result.rsi);
	fprintf(f, "rbx 0x%llx\n", (unsigned long long)result.rbx);
	fprintf(f, "cmdline 0x%x\n", LOADER_CMDLINE);
	fprintf(f, "acpi 0x%x\n", LOADER_RSDP);
	fprintf(f, "kernel 0x%llx-0x%llx entry 0x%llx\n",
	    (unsigned long long)result.kernel,
	    (unsigned long long)result.kernel_end,
	    (unsigned long long)result.rip);
	fprintf(f, "initrd 0x%llx-0x%llx\n", (unsigned long long)result.initrd,
	    (unsigned long long)(result.initrd + result.initrd_size));
	fclose(f);
	snprintf(path, sizeof(path), "tests/golden/%s", name);
	f = fopen(path, "r");
	if (f != NULL) {
		n = fread(want, 1, sizeof(want) - 1, f);
		fclose(f);
	}
	want[n] = '\0';
	if (strcmp(want, got) != 0)
		printf("\n%s differs; it is now:\n%s", path, got);
	CU_ASSERT_STRING_EQUAL(want, got);
}

static void
keeps_its_layout(void)
{
	struct setup_header h = good_header();
	struct elf64_image image = good_elf();
	struct loader_input in = machine();

	put_bzimage(&h);
	CU_ASSERT_EQUAL(loader_load(&in, &result, err, sizeof(err)), 0);
	check_golden("loader-bzimage.txt");
	in.ram_high = 0;
	put_elf(&image);
	CU_ASSERT_EQUAL(loader_load(&in, &result, err, sizeof(err)), 0);
	check_golden("loader-elf.txt");
}

/* ---- a kernel of the real world ---- */

static void
loads_the_kernel_of_the_environment(void)
{
	const char *path = getenv("BULKHEAD_KERNEL");
	struct loader_input in = machine();
	struct stat st;

	if (path == NULL) {
		printf("(skipped: no BULKHEAD_KERNEL) ");
		return;
	}
	in.ram_low = 512 * MIB;
	in.ram = mmap(NULL, in.ram_low + in.ram_high, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CU_ASSERT_PTR_NOT_EQUAL_FATAL(in.ram, MAP_FAILED);
	in.kernel.bytes = NULL;
	in.kernel.fd = open(path, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_FATAL(in.kernel.fd >= 0 && fstat(in.kernel.fd, &st) == 0);
	in.kernel.size = (uint64_t)st.st_size;
	if (loader_load(&in, &result, err, sizeof(err)) != 0) {
		printf("\n%s\n", err);
		CU_FAIL("a real kernel is refused");
	}
	close(in.kernel.fd);
	munmap(in.ram, in.ram_low + in.ram_high);
}

static const struct named_test tests[] = {
	NAMED_TEST(loads_a_bzimage),
	NAMED_TEST(refuses_corrupt_headers),
	NAMED_TEST(refuses_every_truncation_of_a_bzimage),
	NAMED_TEST(refuses_impossible_machines),
	NAMED_TEST(says_when_a_file_cannot_be_read),
	NAMED_TEST(loads_an_elf_with_a_pvh_note),
	NAMED_TEST(loads_a_32_bit_elf),
	NAMED_TEST(refuses_corrupt_elves),
	NAMED_TEST(refuses_an_elf_with_nothing_to_load),
	NAMED_TEST(keeps_its_layout),
	NAMED_TEST(loads_the_kernel_of_the_environment),
};

int
main(void)
{
	ram = mmap(NULL, RAM_LOW + RAM_HIGH, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED) {
		printf("skipped: no memory for a guest\n");
		return 77;
	}
	memset(initrd_file, 0x77, sizeof(initrd_file));
	return named_tests_run("loader", tests, ARRAY_LEN(tests));
}
