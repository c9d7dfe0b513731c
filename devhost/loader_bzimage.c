/*
 * bzImage by the 64-bit boot protocol: Documentation/arch/x86/boot.rst and
 * zero-page.rst of Linux.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#include "devhost/loader_parts.h"

#define HDR_OFFSET	  0x1f1u /* of the setup header in the file */
#define SECTOR		  512u
#define BOOT_FLAG	  0xaa55u
#define VERSION_MIN	  0x020cu /* the first with xloadflags */
#define ENTRY_64	  0x200u /* from the start of the loaded part */
#define LOADER_UNDEFINED  0xffu /* type_of_loader: none that is assigned */
#define VIDEO_NORMAL	  0xffffu
#define SETUP_SECTS_UNSET 4u /* what setup_sects 0 means */

_Static_assert(sizeof(struct boot_params) == 4096, "zero page");

/* The header, checked, and what follows from it. */
struct image {
	struct setup_header hdr;
	uint64_t offset, size; /* of the part to load, in the file */
	uint64_t base, end; /* of the room it needs, in the guest */
};

static int
refuse(const struct loader_job *job, const char *field, uint64_t value,
    const char *why)
{
	return loader_fail(job, -ENOEXEC, "kernel: bzImage: %s 0x%llx: %s",
	    field, (unsigned long long)value, why);
}

/* The header grows with the protocol: the byte at 0x201, the operand of the
 * jump over it, says how far it goes. */
static int
read_header(const struct loader_job *job, struct setup_header *hdr)
{
	const struct loader_source *kernel = &job->in->kernel;
	uint8_t magic[6], jump[2];
	uint64_t end;
	int err;

	err = loader_peek(job, kernel, "kernel", 0x202, magic, 4);
	if (err < 0 || memcmp(magic, "HdrS", 4) != 0) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: neither an ELF file nor a bzImage (header: no "
		    "\"HdrS\" at 0x202)");
	}
	err = loader_peek(job, kernel, "kernel", 0x200, jump, sizeof(jump));
	if (err < 0)
		return err;
	end = 0x202u + jump[1];
	if (end < HDR_OFFSET + offsetof(struct setup_header, init_size) + 4)
		return refuse(job, "jump", jump[1], "the header is too short");
	memset(hdr, 0, sizeof(*hdr));
	err = loader_peek(job, kernel, "kernel", HDR_OFFSET, hdr,
	    MIN(sizeof(*hdr), end - HDR_OFFSET));
	return err;
}

static int
check_header(const struct loader_job *job, const struct setup_header *h)
{
	if (h->boot_flag != BOOT_FLAG)
		return refuse(job, "boot_flag", h->boot_flag, "not 0xaa55");
	if (h->version < VERSION_MIN)
		return refuse(job, "version", h->version, "older than 2.12");
	if (!(h->loadflags & LOADED_HIGH)) {
		return refuse(
		    job, "loadflags", h->loadflags, "not a big kernel");
	}
	if (!(h->xloadflags & XLF_KERNEL_64)) {
		return refuse(
		    job, "xloadflags", h->xloadflags, "no 64-bit entry");
	}
	if (h->kernel_alignment == 0 ||
	    (h->kernel_alignment & (h->kernel_alignment - 1)) != 0) {
		return refuse(job, "kernel_alignment", h->kernel_alignment,
		    "not a power of two");
	}
	if (h->pref_address < LOADER_KERNEL_MIN) {
		return refuse(
		    job, "pref_address", h->pref_address, "below 1 MiB");
	}
	return 0;
}

/* Which part of the file is to be loaded. */
static int
find_payload(const struct loader_job *job, struct image *im)
{
	unsigned sects =
	    im->hdr.setup_sects == 0 ? SETUP_SECTS_UNSET : im->hdr.setup_sects;
	uint64_t file = job->in->kernel.size;

	im->offset = (sects + 1ull) * SECTOR;
	im->size = im->hdr.syssize * 16ull;
	if (im->offset > file) {
		return refuse(job, "setup_sects", im->hdr.setup_sects,
		    "beyond the end of the file: it is truncated");
	}
	if (im->size <= ENTRY_64)
		return refuse(job, "syssize", im->hdr.syssize, "too small");
	if (im->size > file - im->offset) {
		return refuse(job, "syssize", im->hdr.syssize,
		    "more than the file holds: it is truncated");
	}
	return 0;
}

/*
 * At pref_address and nowhere else: a relocatable kernel put below it moves
 * itself up there, so that it needs the room there all the same.
 */
static int
find_room(const struct loader_job *job, struct image *im)
{
	uint64_t align = im->hdr.kernel_alignment - 1ull;
	uint64_t run, end;

	im->base = im->hdr.pref_address;
	run = im->base;
	if (im->hdr.relocatable_kernel &&
	    __builtin_add_overflow(run, align, &run))
		return refuse(job, "pref_address", im->base, "overflows");
	if (im->hdr.relocatable_kernel)
		run &= ~align;
	if (__builtin_add_overflow(im->base, im->size, &im->end) ||
	    __builtin_add_overflow(run, im->hdr.init_size, &end))
		return refuse(job, "pref_address", im->base, "overflows");
	im->end = MAX(im->end, end);
	if (im->end > job->in->ram_low) {
		return loader_fail(job, -EFBIG,
		    "kernel: bzImage: needs memory from 0x%llx to 0x%llx "
		    "(pref_address, init_size), but it ends at 0x%llx",
		    (unsigned long long)im->base, (unsigned long long)im->end,
		    (unsigned long long)job->in->ram_low);
	}
	return 0;
}

static void
put_boot_params(const struct loader_job *job, const struct image *im)
{
	struct boot_params *bp =
	    loader_ram(job, LOADER_BOOT_PARAMS, sizeof(*bp));
	const struct loader_result *out = job->out;

	BUG_ON(bp == NULL);
	memset(bp, 0, sizeof(*bp));
	bp->hdr = im->hdr;
	bp->hdr.type_of_loader = LOADER_UNDEFINED;
	bp->hdr.vid_mode = VIDEO_NORMAL;
	bp->hdr.setup_data = 0;
	bp->hdr.cmd_line_ptr = LOADER_CMDLINE;
	bp->hdr.ramdisk_image = (uint32_t)out->initrd;
	bp->hdr.ramdisk_size = (uint32_t)out->initrd_size;
	bp->acpi_rsdp_addr = LOADER_RSDP;
	bp->e820_entries = (uint8_t)out->ne820;
	for (unsigned i = 0; i < out->ne820; i++) {
		bp->e820_table[i].addr = out->e820[i].base;
		bp->e820_table[i].size = out->e820[i].size;
		bp->e820_table[i].type = out->e820[i].type;
	}
}

int
loader_bzimage(const struct loader_job *job)
{
	struct loader_result *out = job->out;
	struct image im = { .offset = 0 };
	int err;

	err = read_header(job, &im.hdr);
	if (err == 0)
		err = check_header(job, &im.hdr);
	if (err == 0)
		err = find_payload(job, &im);
	if (err == 0)
		err = find_room(job, &im);
	if (err < 0)
		return err;
	out->kernel = im.base;
	out->kernel_end = im.end;

	err = loader_put_cmdline(job, im.hdr.cmdline_size);
	if (err == 0)
		err = loader_put_initrd(job, im.hdr.initrd_addr_max + 1ull);
	if (err == 0) {
		err = loader_read(job, &job->in->kernel, "kernel", im.offset,
		    im.base, im.size);
	}
	if (err < 0)
		return err;
	put_boot_params(job, &im);
	loader_put_page_tables(job);
	loader_put_gdt(job, true);
	out->mode = 64;
	out->rip = im.base + ENTRY_64;
	out->rsi = LOADER_BOOT_PARAMS;
	out->cr3 = LOADER_PAGE_TABLES;
	out->gdt = LOADER_GDT;
	out->format = "bzImage";
	return 0;
}
