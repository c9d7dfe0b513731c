/* Black boxes: the checks that both readers need. */
#include "proto/blackbox.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

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
		    s->size > size - s->offset || s->offset % 8 != 0)
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
