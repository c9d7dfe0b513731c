/*
 * ELF by the PVH protocol: an image with a Xen note that gives the 32-bit
 * entry.  Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h say
 * what the entry finds; the ELF format is that of the System V ABI.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "devhost/loader_parts.h"

#define SEGMENTS_MAX	 64u
#define NOTES_BYTES_MAX	 (64u << 10)
#define NOTE_PHYS32	 18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_INFO_MAGIC 0x336ec578u
#define MODULES_AT	 (LOADER_START_INFO + 0x40u)
#define MEMMAP_AT	 (LOADER_START_INFO + 0x80u)
#define CMDLINE_MAX	 0xffffu /* the protocol sets no limit, our room does */

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct module {
	uint64_t base, size, cmdline, reserved;
};

struct memmap_entry {
	uint64_t base, size;
	uint32_t type, reserved;
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info version 1");
_Static_assert(sizeof(struct module) == 32, "hvm_modlist_entry");
_Static_assert(sizeof(struct memmap_entry) == 24, "hvm_memmap_table_entry");

/* A program header of either class. */
struct segment {
	uint32_t type;
	uint64_t offset, filesz, memsz, paddr, align;
};

struct image {
	struct segment segments[SEGMENTS_MAX];
	unsigned nsegments;
	uint64_t entry; /* of the note; 0: not found yet */
};

static int
peek(const struct loader_job *job, uint64_t offset, void *to, size_t n)
{
	return loader_peek(job, &job->in->kernel, "kernel: ELF", offset, to, n);
}

static int
read_segment(
    const struct loader_job *job, bool wide, uint64_t offset, struct segment *s)
{
	int err;

	if (wide) {
		Elf64_Phdr p;

		err = peek(job, offset, &p, sizeof(p));
		if (err < 0)
			return err;
		*s = (struct segment){ p.p_type, p.p_offset, p.p_filesz,
			p.p_memsz, p.p_paddr, p.p_align };
	} else {
		Elf32_Phdr p;

		err = peek(job, offset, &p, sizeof(p));
		if (err < 0)
			return err;
		*s = (struct segment){ p.p_type, p.p_offset, p.p_filesz,
			p.p_memsz, p.p_paddr, p.p_align };
	}
	return 0;
}

static int
read_segments(const struct loader_job *job, struct image *im)
{
	unsigned char ident[EI_NIDENT];
	uint64_t phoff, offset;
	unsigned phentsize, phnum, machine, type;
	bool wide;
	int err;

	err = peek(job, 0, ident, sizeof(ident));
	if (err < 0)
		return err;
	wide = ident[EI_CLASS] == ELFCLASS64;
	if (!wide && ident[EI_CLASS] != ELFCLASS32) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: ELF: class %u is unknown", ident[EI_CLASS]);
	}
	if (ident[EI_DATA] != ELFDATA2LSB) {
		return loader_fail(
		    job, -ENOEXEC, "kernel: ELF: not little-endian");
	}
	if (wide) {
		Elf64_Ehdr e;

		err = peek(job, 0, &e, sizeof(e));
		if (err < 0)
			return err;
		phoff = e.e_phoff;
		phentsize = e.e_phentsize;
		phnum = e.e_phnum;
		machine = e.e_machine;
		type = e.e_type;
	} else {
		Elf32_Ehdr e;

		err = peek(job, 0, &e, sizeof(e));
		if (err < 0)
			return err;
		phoff = e.e_phoff;
		phentsize = e.e_phentsize;
		phnum = e.e_phnum;
		machine = e.e_machine;
		type = e.e_type;
	}
	if (machine != EM_X86_64 && (wide || machine != EM_386)) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: ELF: e_machine %u is not x86", machine);
	}
	if (type != ET_EXEC && type != ET_DYN) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: ELF: e_type %u is not a program", type);
	}
	if (phentsize != (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr))) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: ELF: e_phentsize %u is wrong", phentsize);
	}
	if (phnum == 0 || phnum > SEGMENTS_MAX) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: ELF: e_phnum %u is not 1 to %u", phnum,
		    SEGMENTS_MAX);
	}
	for (unsigned i = 0; i < phnum; i++) {
		if (__builtin_add_overflow(phoff, i * phentsize, &offset)) {
			return loader_fail(job, -ENOEXEC,
			    "kernel: ELF: e_phoff 0x%llx overflows",
			    (unsigned long long)phoff);
		}
		err = read_segment(job, wide, offset, &im->segments[i]);
		if (err < 0)
			return err;
	}
	im->nsegments = phnum;
	return 0;
}

static int
refuse_segment(const struct loader_job *job, unsigned i,
    const struct segment *s, const char *why)
{
	return loader_fail(job, -ENOEXEC,
	    "kernel: ELF: segment %u (offset 0x%llx, p_filesz 0x%llx, p_paddr "
	    "0x%llx, p_memsz 0x%llx) %s",
	    i, (unsigned long long)s->offset, (unsigned long long)s->filesz,
	    (unsigned long long)s->paddr, (unsigned long long)s->memsz, why);
}

static int
check_segment(const struct loader_job *job, const struct image *im, unsigned i)
{
	const struct segment *s = &im->segments[i];
	uint64_t file_end, end;

	if (s->filesz > s->memsz)
		return refuse_segment(job, i, s, "is longer in the file");
	if (__builtin_add_overflow(s->offset, s->filesz, &file_end) ||
	    __builtin_add_overflow(s->paddr, s->memsz, &end))
		return refuse_segment(job, i, s, "overflows");
	if (file_end > job->in->kernel.size) {
		return refuse_segment(
		    job, i, s, "ends beyond the file: it is truncated");
	}
	if (s->paddr < LOADER_KERNEL_MIN)
		return refuse_segment(job, i, s, "is below 1 MiB");
	if (end > job->in->ram_low)
		return refuse_segment(job, i, s, "is beyond memory");
	for (unsigned k = 0; k < i; k++) {
		const struct segment *o = &im->segments[k];

		if (o->type == PT_LOAD && o->memsz != 0 &&
		    s->paddr < o->paddr + o->memsz && o->paddr < end)
			return refuse_segment(job, i, s, "overlaps another");
	}
	return 0;
}

static int
check_segments(const struct loader_job *job, const struct image *im)
{
	struct loader_result *out = job->out;
	int err;

	out->kernel = UINT64_MAX;
	for (unsigned i = 0; i < im->nsegments; i++) {
		const struct segment *s = &im->segments[i];

		if (s->type != PT_LOAD || (s->memsz | s->filesz) == 0)
			continue;
		err = check_segment(job, im, i);
		if (err < 0)
			return err;
		out->kernel = MIN(out->kernel, s->paddr);
		out->kernel_end = MAX(out->kernel_end, s->paddr + s->memsz);
	}
	if (out->kernel_end == 0) {
		return loader_fail(
		    job, -ENOEXEC, "kernel: ELF: no segment to load");
	}
	return 0;
}

/* Look through one PT_NOTE segment. */
static int
find_entry(const struct loader_job *job, struct image *im, unsigned i)
{
	const struct segment *s = &im->segments[i];
	/* Names and descriptors are padded to 4, or in some segments to 8. */
	const uint64_t pad = s->align == 8 ? 7 : 3;
	uint64_t at = 0, file_end;
	int err;

	if (s->filesz > NOTES_BYTES_MAX)
		return refuse_segment(job, i, s, "has too many notes");
	if (__builtin_add_overflow(s->offset, s->filesz, &file_end) ||
	    file_end > job->in->kernel.size) {
		return refuse_segment(
		    job, i, s, "ends beyond the file: it is truncated");
	}
	while (s->filesz - at >= sizeof(Elf64_Nhdr)) {
		uint64_t name, desc, next;
		char text[4];
		Elf64_Nhdr n;

		err = peek(job, s->offset + at, &n, sizeof(n));
		if (err < 0)
			return err;
		/* 32-bit lengths in 64-bit sums cannot overflow. */
		name = at + sizeof(n);
		desc = (name + n.n_namesz + pad) & ~pad;
		next = (desc + n.n_descsz + pad) & ~pad;
		if (desc + n.n_descsz > s->filesz)
			return refuse_segment(job, i, s, "has a broken note");
		if (n.n_type == NOTE_PHYS32 && n.n_namesz == sizeof(text)) {
			uint64_t entry = 0;

			err = peek(job, s->offset + name, text, sizeof(text));
			if (err < 0)
				return err;
			if (memcmp(text, "Xen", sizeof(text)) == 0) {
				if (n.n_descsz != 4 && n.n_descsz != 8) {
					return refuse_segment(job, i, s,
					    "has an entry note of a wrong "
					    "size");
				}
				err = peek(
				    job, s->offset + desc, &entry, n.n_descsz);
				if (err < 0)
					return err;
				im->entry = entry;
				return 0;
			}
		}
		at = MIN(next, s->filesz);
	}
	return 0;
}

static int
check_entry(const struct loader_job *job, struct image *im)
{
	for (unsigned i = 0; i < im->nsegments && im->entry == 0; i++) {
		int err;

		if (im->segments[i].type != PT_NOTE)
			continue;
		err = find_entry(job, im, i);
		if (err < 0)
			return err;
	}
	if (im->entry == 0) {
		return loader_fail(job, -ENOEXEC,
		    "kernel: ELF: no PVH entry (a note \"Xen\" of type 18)");
	}
	for (unsigned i = 0; i < im->nsegments; i++) {
		const struct segment *s = &im->segments[i];

		if (s->type == PT_LOAD && im->entry >= s->paddr &&
		    im->entry - s->paddr < s->filesz)
			return 0;
	}
	return loader_fail(job, -ENOEXEC,
	    "kernel: ELF: the PVH entry 0x%llx is in no segment",
	    (unsigned long long)im->entry);
}

static int
put_segments(const struct loader_job *job, const struct image *im)
{
	for (unsigned i = 0; i < im->nsegments; i++) {
		const struct segment *s = &im->segments[i];
		void *rest;
		int err;

		if (s->type != PT_LOAD || s->memsz == 0)
			continue;
		err = loader_read(job, &job->in->kernel, "kernel: ELF",
		    s->offset, s->paddr, s->filesz);
		if (err < 0)
			return err;
		rest =
		    loader_ram(job, s->paddr + s->filesz, s->memsz - s->filesz);
		BUG_ON(rest == NULL);
		memset(rest, 0, s->memsz - s->filesz);
	}
	return 0;
}

static void
put_start_info(const struct loader_job *job)
{
	const struct loader_result *out = job->out;
	struct start_info info = {
		.magic = START_INFO_MAGIC,
		.version = 1,
		.nr_modules = out->initrd_size != 0 ? 1 : 0,
		.modlist = out->initrd_size != 0 ? MODULES_AT : 0,
		.cmdline = LOADER_CMDLINE,
		.rsdp = LOADER_RSDP,
		.memmap = MEMMAP_AT,
		.memmap_entries = out->ne820,
	};
	struct module initrd = { out->initrd, out->initrd_size, 0, 0 };
	struct memmap_entry map[LOADER_E820_MAX] = { 0 };
	void *to;

	for (unsigned i = 0; i < out->ne820; i++) {
		map[i] = (struct memmap_entry){ out->e820[i].base,
			out->e820[i].size, out->e820[i].type, 0 };
	}
	to = loader_ram(job, LOADER_START_INFO, sizeof(info));
	BUG_ON(to == NULL);
	memcpy(to, &info, sizeof(info));
	to = loader_ram(job, MODULES_AT, sizeof(initrd));
	BUG_ON(to == NULL);
	memcpy(to, &initrd, sizeof(initrd));
	to = loader_ram(job, MEMMAP_AT, sizeof(map));
	BUG_ON(to == NULL);
	memcpy(to, map, sizeof(map));
}

int
loader_elf(const struct loader_job *job)
{
	struct loader_result *out = job->out;
	struct image im = { .entry = 0 };
	int err;

	err = read_segments(job, &im);
	if (err == 0)
		err = check_segments(job, &im);
	if (err == 0)
		err = check_entry(job, &im);
	if (err == 0)
		err = loader_put_cmdline(job, CMDLINE_MAX);
	if (err == 0)
		err = loader_put_initrd(job, UINT64_MAX);
	if (err == 0)
		err = put_segments(job, &im);
	if (err < 0)
		return err;
	put_start_info(job);
	loader_put_gdt(job, false);
	out->mode = 32;
	out->rip = im.entry;
	out->rbx = LOADER_START_INFO;
	out->gdt = LOADER_GDT;
	out->format = "ELF/PVH";
	return 0;
}
