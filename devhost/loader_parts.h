/* What the parts of the loader share; of no use to anyone else. */
#ifndef DEVHOST_LOADER_PARTS_H
#define DEVHOST_LOADER_PARTS_H

#include "devhost/loader.h"
#include "proto/base.h"

/* One run of loader_load(). */
struct loader_job {
	const struct loader_input *in;
	struct loader_result *out;
	char *err;
	size_t err_size;
};

/* Put the text into err; returns error. */
int loader_fail(const struct loader_job *job, int error, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/*
 * The only way from a guest physical address to a pointer: NULL unless all of
 * [gpa, gpa + len) is RAM of one piece.
 */
void *loader_ram(const struct loader_job *job, uint64_t gpa, uint64_t len)
    __attribute__((warn_unused_result));

/* Copy n bytes at offset of a file, called `what` in errors, to private memory
 * or to guest RAM.  0 or a negative errno, with err filled in. */
int loader_peek(const struct loader_job *job, const struct loader_source *s,
    const char *what, uint64_t offset, void *to, size_t n)
    __attribute__((warn_unused_result));
int loader_read(const struct loader_job *job, const struct loader_source *s,
    const char *what, uint64_t offset, uint64_t gpa, uint64_t n)
    __attribute__((warn_unused_result));

/* The formats.  Each places kernel, initrd, command line and tables, and fills
 * in the entry state. */
int loader_bzimage(const struct loader_job *job);
int loader_elf(const struct loader_job *job);

/* ---- loader_tables.c ---- */

void loader_fill_e820(const struct loader_job *job);
/* `wide`: the code segment is a 64-bit one, else 32-bit. */
void loader_put_gdt(const struct loader_job *job, bool wide);
/* The first 4 GiB, identity, in 2 MiB pages. */
void loader_put_page_tables(const struct loader_job *job);
/* max: the longest that the kernel takes, without the final zero. */
int loader_put_cmdline(const struct loader_job *job, uint64_t max);
/* As high as possible below `limit` and the end of low RAM, above the kernel,
 * whose end must be known. */
int loader_put_initrd(const struct loader_job *job, uint64_t limit);
int loader_put_acpi(const struct loader_job *job);

#endif
