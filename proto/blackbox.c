/* Black boxes: the checks that both readers need. */
#include "proto/blackbox.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proto/base.h"

static bool
is_text(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

int
blackbox_check(const void *file, size_t size)
{
	const struct blackbox_section *section;
	struct blackbox_header h;
	size_t table;

	if (size < sizeof(h) || size > BLACKBOX_SIZE_MAX)
		return -EBADMSG;
	memcpy(&h, file, sizeof(h));
	if (h.magic != BLACKBOX_MAGIC || h.version != BLACKBOX_VERSION ||
	    h.sections > BLACKBOX_SECTIONS_MAX ||
	    !is_text(h.vm, sizeof(h.vm)) ||
	    !is_text(h.device, sizeof(h.device)) ||
	    !is_text(h.type, sizeof(h.type)) ||
	    !is_text(h.build, sizeof(h.build)) ||
	    !is_text(h.reason, sizeof(h.reason)))
		return -EBADMSG;
	table = sizeof(h) + h.sections * sizeof(*section);
	if (table > size)
		return -EBADMSG;
	section = (const void *)((const uint8_t *)file + sizeof(h));
	for (unsigned i = 0; i < h.sections; i++) {
		const struct blackbox_section *s = &section[i];

		if (s->offset < table || s->offset > size ||
		    s->size > size - s->offset ||
		    s->offset % BLACKBOX_ALIGN != 0)
			return -EBADMSG;
	}
	return 0;
}

const void *
blackbox_section(const void *file, unsigned kind, size_t *size)
{
	const struct blackbox_header *h = file;
	const struct blackbox_section *section =
	    (const void *)((const uint8_t *)file + sizeof(*h));

	for (unsigned i = 0; i < h->sections; i++)
		if (section[i].kind == kind) {
			*size = section[i].size;
			return (const uint8_t *)file + section[i].offset;
		}
	*size = 0;
	return NULL;
}

static size_t
padded(size_t n)
{
	return (n + BLACKBOX_ALIGN - 1) / BLACKBOX_ALIGN * BLACKBOX_ALIGN;
}

/* By write(): the broker's list of system calls has no other. */
static int
write_all(int fd, const struct iovec *iov, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *at = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left > 0) {
			ssize_t wrote = write(fd, at, left);

			if (wrote < 0 && errno == EINTR)
				continue;
			if (wrote < 0)
				return -errno;
			at += wrote;
			left -= (size_t)wrote;
		}
	}
	return 0;
}

int
blackbox_write(int fd, struct blackbox_header *h,
    const struct blackbox_part *parts, unsigned n)
{
	static const uint8_t zeroes[BLACKBOX_ALIGN];
	struct blackbox_section section[BLACKBOX_SECTIONS_MAX] = { 0 };
	struct iovec iov[3 + 2 * BLACKBOX_SECTIONS_MAX];
	union {
		const void *in;
		void *out;
	} pad = { .in = zeroes };
	unsigned used = 0, at = 3;
	size_t table, offset;

	BUG_ON(n > BLACKBOX_SECTIONS_MAX);
	h->magic = BLACKBOX_MAGIC;
	h->version = BLACKBOX_VERSION;
	h->sections = 0;
	for (unsigned i = 0; i < n; i++)
		h->sections += parts[i].size > 0;
	table = sizeof(*h) + h->sections * sizeof(section[0]);
	offset = padded(table);
	for (unsigned i = 0; i < n; i++) {
		size_t size = parts[i].size;
		union {
			const void *in;
			void *out;
		} bytes = { .in = parts[i].bytes };

		if (size == 0)
			continue;
		if (size > BLACKBOX_SIZE_MAX)
			return -EFBIG;
		section[used++] = (struct blackbox_section){
			.kind = parts[i].kind,
			.offset = offset,
			.size = size,
		};
		iov[at++] = (struct iovec){ bytes.out, size };
		iov[at++] = (struct iovec){ pad.out, padded(size) - size };
		offset += padded(size);
	}
	if (offset > BLACKBOX_SIZE_MAX)
		return -EFBIG;
	iov[0] = (struct iovec){ h, sizeof(*h) };
	iov[1] = (struct iovec){ section, used * sizeof(section[0]) };
	iov[2] = (struct iovec){ pad.out, padded(table) - table };
	return write_all(fd, iov, at);
}

bool
blackbox_name_ok(const char *name)
{
	static const char suffix[] = BLACKBOX_SUFFIX;
	size_t n = strlen(name);

	if (n < sizeof(suffix) || n >= BLACKBOX_NAME_MAX || name[0] == '.' ||
	    strcmp(name + n - (sizeof(suffix) - 1), suffix) != 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) &&
		    strchr("._-", name[i]) == NULL)
			return false;
	return true;
}
