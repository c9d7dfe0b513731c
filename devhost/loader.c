/* The loader as a library: which format, reading, and reaching guest RAM. */
#include "devhost/loader.h"

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "devhost/loader_parts.h"

#define GIB4	  (1ull << 32)
#define PAGE_MASK 0xfffu

int
loader_fail(const struct loader_job *job, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(job->err, job->err_size, fmt, ap);
	va_end(ap);
	return error;
}

void *
loader_ram(const struct loader_job *job, uint64_t gpa, uint64_t len)
{
	const struct loader_input *in = job->in;
	uint64_t end;

	if (__builtin_add_overflow(gpa, len, &end))
		return NULL;
	if (end <= in->ram_low)
		return in->ram + gpa;
	if (gpa >= GIB4 && end - GIB4 <= in->ram_high)
		return in->ram + in->ram_low + (gpa - GIB4);
	return NULL;
}

int
loader_peek(const struct loader_job *job, const struct loader_source *s,
    const char *what, uint64_t offset, void *to, size_t n)
{
	uint8_t *at = to;
	uint64_t end;

	if (__builtin_add_overflow(offset, n, &end) || end > s->size) {
		return loader_fail(job, -ENOEXEC,
		    "%s: truncated: %zu bytes wanted at offset 0x%llx of a "
		    "file of %llu",
		    what, n, (unsigned long long)offset,
		    (unsigned long long)s->size);
	}
	if (s->bytes != NULL) {
		memcpy(to, s->bytes + offset, n);
		return 0;
	}
	while (n > 0) {
		ssize_t got = pread(s->fd, at, n, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			int error = got < 0 ? -errno : -EIO;

			return loader_fail(job, error,
			    "%s: cannot read at offset 0x%llx: %s", what,
			    (unsigned long long)offset,
			    got < 0 ? strerror(-error) : "the file has shrunk");
		}
		at += got;
		offset += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

int
loader_read(const struct loader_job *job, const struct loader_source *s,
    const char *what, uint64_t offset, uint64_t gpa, uint64_t n)
{
	void *to = loader_ram(job, gpa, n);

	if (to == NULL) {
		return loader_fail(job, -EFBIG,
		    "%s: %llu bytes at address 0x%llx are not in memory", what,
		    (unsigned long long)n, (unsigned long long)gpa);
	}
	return loader_peek(job, s, what, offset, to, n);
}

static int
check_machine(const struct loader_job *job)
{
	const struct loader_input *in = job->in;
	uint64_t end;

	if (in->ram_low < LOADER_RAM_LOW_MIN ||
	    in->ram_low > LOADER_RAM_LOW_MAX ||
	    ((in->ram_low | in->ram_high) & PAGE_MASK) != 0 ||
	    __builtin_add_overflow(GIB4, in->ram_high, &end)) {
		return loader_fail(job, -EINVAL,
		    "memory: impossible sizes: 0x%llx below 4 GiB, 0x%llx "
		    "above",
		    (unsigned long long)in->ram_low,
		    (unsigned long long)in->ram_high);
	}
	if (in->ndevices > LOADER_DEVICES_MAX) {
		return loader_fail(job, -EINVAL,
		    "devices: %u, but at most %u have their place in the "
		    "tables",
		    in->ndevices, LOADER_DEVICES_MAX);
	}
	return 0;
}

int
loader_load(const struct loader_input *in, struct loader_result *out, char *err,
    size_t err_size)
{
	struct loader_job job = { in, out, err, err_size };
	uint8_t magic[SELFMAG];
	int error;

	memset(out, 0, sizeof(*out));
	error = check_machine(&job);
	if (error < 0)
		return error;
	if (in->has_initrd && in->initrd.size == 0)
		return loader_fail(&job, -EINVAL, "initrd: the file is empty");
	loader_fill_e820(&job);
	error = loader_put_acpi(&job);
	if (error < 0)
		return error;
	error =
	    loader_peek(&job, &in->kernel, "kernel", 0, magic, sizeof(magic));
	if (error < 0)
		return error;
	if (memcmp(magic, ELFMAG, SELFMAG) == 0)
		return loader_elf(&job);
	return loader_bzimage(&job);
}
