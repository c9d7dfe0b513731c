/*
 * The black box: a file that says why a device's process died and holds what is
 * needed to make it happen again.
 *
 * Written by the broker at every unplanned death from memory that outlives the
 * process; read by `vmmctl blackbox show` and `devhost --replay`.  All integers
 * are little-endian; the content of the sections is the dead device's, hostile.
 *
 *	struct blackbox_header
 *	struct blackbox_section [sections]
 *	bytes of each section, at its offset
 */
#ifndef PROTO_BLACKBOX_H
#define PROTO_BLACKBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLACKBOX_MAGIC	      0x584f424b4c42u /* "BLKBOX" */
#define BLACKBOX_ALIGN	      64u /* of the sections; bytes */
#define BLACKBOX_SUFFIX	      ".blackbox"
#define BLACKBOX_NAME_MAX     128u /* bytes, with the zero */
#define BLACKBOX_VERSION      1u
#define BLACKBOX_SECTIONS_MAX 8u
#define BLACKBOX_SIZE_MAX     (24u << 20)

enum blackbox_section_kind {
	BLACKBOX_STORE = 1, /* the whole store: committed state, log, ... */
	BLACKBOX_RINGS = 2, /* the intercept rings */
	BLACKBOX_CONFIGURE = 3, /* the Configure message, packed */
	BLACKBOX_WORDS = 4, /* its last words: text */
	/* Of each stream the memory of its output, then that of its input. */
	BLACKBOX_STREAMS = 5,
};

struct blackbox_header {
	uint64_t magic;
	uint32_t version;
	uint32_t sections;
	char vm[32], device[32], type[32];
	char build[48]; /* version of the device host */
	int32_t signal; /* that killed it; 0: it exited */
	int32_t status; /* exit status */
	int32_t syscall; /* that was denied; -1: none */
	uint32_t restarts; /* before this death */
	uint64_t realtime_ns; /* of the death, since 1970 */
	uint64_t guest_ns;
	uint64_t lived_ns; /* since Ready; 0: it was never ready */
	uint64_t fault_ip, fault_address; /* of a fatal signal; 0: unknown */
	char reason[160]; /* why the broker killed it, or "" */
};

struct blackbox_section {
	uint32_t kind;
	uint32_t pad;
	uint64_t offset, size; /* bytes */
};

/* Check a file of `size` bytes in memory: every section inside, no overlap of
 * the header.  0 or -EBADMSG. */
int blackbox_check(const void *file, size_t size);
/* A checked file's section; NULL and 0: it has none of that kind. */
const void *blackbox_section(const void *file, unsigned kind, size_t *size);

/* What a section is made of. */
struct blackbox_part {
	enum blackbox_section_kind kind;
	const void *bytes;
	size_t size;
};

/*
 * Write a file of n parts (at most BLACKBOX_SECTIONS_MAX), those of no bytes
 * left out; the header's magic, version and sections are filled in.  The bytes
 * may change meanwhile.  0; -EFBIG: more than BLACKBOX_SIZE_MAX; -errno.
 */
int blackbox_write(int fd, struct blackbox_header *h,
    const struct blackbox_part *parts, unsigned n);

/* May it be a black box's file name: of [A-Za-z0-9._-], no dot in front,
 * ".blackbox" behind, at most 127 bytes? */
bool blackbox_name_ok(const char *name);

#endif
