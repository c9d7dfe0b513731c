/* Black boxes: written, read, and refused when they are damaged. */
#include "proto/blackbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/named_tests.h"

static _Alignas(64) uint8_t file[4096];

static size_t
make(const struct blackbox_part *parts, unsigned n)
{
	struct blackbox_header h = { .signal = 11, .syscall = -1 };
	int fd = memfd_create("box", MFD_CLOEXEC);
	ssize_t r;

	CU_ASSERT_EQUAL_FATAL(blackbox_write(fd, &h, parts, n), 0);
	r = pread(fd, file, sizeof(file), 0);
	close(fd);
	return r > 0 ? (size_t)r : 0;
}

static void
sections_are_what_was_written(void)
{
	const struct blackbox_part parts[] = {
		{ BLACKBOX_STORE, "store", 5 },
		{ BLACKBOX_RINGS, NULL, 0 },
		{ BLACKBOX_WORDS, "last words", 10 },
	};
	size_t size = make(parts, ARRAY_LEN(parts)), n;
	const struct blackbox_header *h = (const void *)file;
	const void *bytes;

	CU_ASSERT_EQUAL(blackbox_check(file, size), 0);
	CU_ASSERT_EQUAL(h->sections, 2);
	CU_ASSERT_EQUAL(h->signal, 11);
	bytes = blackbox_section(file, BLACKBOX_STORE, &n);
	CU_ASSERT(n == 5 && memcmp(bytes, "store", n) == 0);
	bytes = blackbox_section(file, BLACKBOX_WORDS, &n);
	CU_ASSERT(n == 10 && memcmp(bytes, "last words", n) == 0);
	CU_ASSERT_PTR_NULL(blackbox_section(file, BLACKBOX_RINGS, &n));
	CU_ASSERT_EQUAL(n, 0);
	CU_ASSERT_PTR_NULL(blackbox_section(file, BLACKBOX_CONFIGURE, &n));
}

static void
a_cut_file_is_refused(void)
{
	const struct blackbox_part part = { BLACKBOX_STORE, "store", 5 };
	size_t size = make(&part, 1);

	/* The last bytes only fill up. */
	for (size_t n = 0; n < size - (BLACKBOX_ALIGN - 5); n++)
		CU_ASSERT_EQUAL(blackbox_check(file, n), -EBADMSG);
	CU_ASSERT_EQUAL(blackbox_check(file, size), 0);
}

static void
a_damaged_head_is_refused(void)
{
	static const struct {
		size_t at;
		uint64_t value;
	} cases[] = {
		{ offsetof(struct blackbox_header, magic), 1 },
		{ offsetof(struct blackbox_header, version), 2 },
		{ sizeof(struct blackbox_header) +
			offsetof(struct blackbox_section, offset),
		    0 },
		{ sizeof(struct blackbox_header) +
			offsetof(struct blackbox_section, offset),
		    UINT64_MAX - 63 },
		{ sizeof(struct blackbox_header) +
			offsetof(struct blackbox_section, size),
		    UINT64_MAX },
	};
	static const size_t texts[] = {
		offsetof(struct blackbox_header, vm),
		offsetof(struct blackbox_header, device),
		offsetof(struct blackbox_header, type),
	};
	const struct blackbox_part part = { BLACKBOX_STORE, "store", 5 };
	size_t size;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size = make(&part, 1);
		memcpy(file + cases[i].at, &cases[i].value, 8);
		CU_ASSERT_EQUAL(blackbox_check(file, size), -EBADMSG);
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		size = make(&part, 1);
		memset(file + texts[i], 'x', 32);
		CU_ASSERT_EQUAL(blackbox_check(file, size), -EBADMSG);
	}
}

static void
too_much_is_not_written(void)
{
	struct blackbox_header h = { .signal = 0 };
	const struct blackbox_part part = { BLACKBOX_STORE, file,
		(size_t)BLACKBOX_SIZE_MAX + 1 };

	CU_ASSERT_EQUAL(blackbox_write(-1, &h, &part, 1), -EFBIG);
}

static void
a_file_that_cannot_be_written_is_an_error(void)
{
	struct blackbox_header h = { .signal = 0 };
	const struct blackbox_part part = { BLACKBOX_STORE, "x", 1 };

	CU_ASSERT_EQUAL(blackbox_write(-1, &h, &part, 1), -EBADF);
}

static const struct named_test tests[] = {
	NAMED_TEST(sections_are_what_was_written),
	NAMED_TEST(a_cut_file_is_refused),
	NAMED_TEST(a_damaged_head_is_refused),
	NAMED_TEST(too_much_is_not_written),
	NAMED_TEST(a_file_that_cannot_be_written_is_an_error),
};

int
main(void)
{
	return named_tests_run("blackbox", tests, ARRAY_LEN(tests));
}
