/* What a black box says, whatever is in it. */
#include "vmmctl/blackbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/blackbox.h"
#include "proto/control.pb-c.h"
#include "proto/ring.h"
#include "proto/store.h"
#include "tests/named_tests.h"

#define STATE 40u
#define POS   1000u

static const char registers[] = "thing: a thing\nregisters:\n"
				"  regs+0x4 1 byte read-only  STATUS\n"
				"  regs+0x8 4 bytes read-write CONTROL\n";

static uint8_t *
pack_configure(size_t *size)
{
	Bulkhead__Configure c;
	Bulkhead__Placement p;
	Bulkhead__Region r, *regions[] = { &r };
	Bulkhead__Param param, *params[] = { &param };
	char name[] = "thing0", regs[] = "regs", key[] = "size",
	     value[] = "5\x1b[2J";
	uint8_t *out;

	bulkhead__configure__init(&c);
	bulkhead__placement__init(&p);
	bulkhead__region__init(&r);
	bulkhead__param__init(&param);
	r.name = regs;
	r.start = 0x5000;
	r.size = 64;
	p.regions = regions;
	p.n_regions = 1;
	param.key = key;
	param.value = value;
	c.name = name;
	c.vcpus = 1;
	c.placement = &p;
	c.params = params;
	c.n_params = 1;
	*size = bulkhead__configure__get_packed_size(&c);
	out = malloc(*size);
	bulkhead__configure__pack(&c, out);
	return out;
}

static void
fill_store(void *base, size_t size, const struct store_shape *shape)
{
	struct store s;

	store_format(base, size, shape);
	CU_ASSERT_EQUAL_FATAL(store_attach(&s, base, size, shape), 0);
	memset(store_state(&s), 'S', STATE);
	store_positions(&s)[0] = (struct store_position){ POS, 0x77 };
	store_commit(&s);
	s.faults->plan[0].kind = FAULT_SLOW;
	s.faults->plan[0].value = 5000000;
	s.faults->plan[0].region = UINT16_MAX;
	s.faults->plan[0].queue = UINT16_MAX;
	s.faults->plan[0].address = UINT64_MAX;
}

static void
fill_rings(struct ring_set *set)
{
	static const struct ring_request done = {
		.addr = 4, .op = RING_READ, .size = 1
	};
	static const struct ring_request waits = {
		.addr = 8, .data = 0xabc, .op = RING_WRITE, .size = 4
	};
	uint64_t pos = POS - 1;

	atomic_store(&set->ring[0].tail, pos);
	CU_ASSERT_EQUAL(ring_put(&set->ring[0], &pos, &done), 0);
	CU_ASSERT_EQUAL(ring_put(&set->ring[0], &pos, &waits), 0);
}

/* A file, mapped so that it may be changed. */
static uint8_t *
make_box(const struct blackbox_header *head, size_t *size)
{
	const struct store_shape shape = { .vcpus = 1,
		.state_size = STATE,
		.log_size = 100,
		.state_version = 7 };
	struct blackbox_header h = *head;
	struct blackbox_part parts[] = {
		{ BLACKBOX_STORE, NULL, store_size(&shape) },
		{ BLACKBOX_RINGS, NULL, ring_set_size(1) },
		{ BLACKBOX_CONFIGURE, NULL, 0 },
		{ BLACKBOX_WORDS, "state: \x1b]bad", 12 },
	};
	uint8_t *store = calloc(1, parts[0].size), *configure, *file;
	struct ring_set *rings = aligned_alloc(64, parts[1].size);
	int fd = memfd_create("box", MFD_CLOEXEC);
	struct stat st;

	memset(rings, 0, parts[1].size);
	configure = pack_configure(&parts[2].size);
	fill_store(store, parts[0].size, &shape);
	fill_rings(rings);
	parts[0].bytes = store;
	parts[1].bytes = rings;
	parts[2].bytes = configure;
	CU_ASSERT_EQUAL_FATAL(
	    blackbox_write(fd, &h, parts, ARRAY_LEN(parts)), 0);
	CU_ASSERT_EQUAL_FATAL(fstat(fd, &st), 0);
	*size = (size_t)st.st_size;
	file = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	free(store);
	free(rings);
	free(configure);
	return file;
}

static char *
print(const void *file, size_t size, int *r)
{
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	*r = blackbox_print(out, file, size, registers);
	fclose(out);
	return text;
}

static void
says_all_that_there_is(void)
{
	static const char *const says[] = {
		"signal 11 (Segmentation fault)",
		"last words state: ?]bad",
		"options    size=5?[2J",
		"region     0 regs at 0x5000, 64 bytes",
		"state      version 7, 40 bytes, commit 1",
		"53 53 53 53 53 53 53 53  SSSSSSSSSSSSSSSS",
		"slow",
		"5000us",
		"vCPU 0     1001 requests made, 1000 committed",
		"999 0.000000 s read of 1 at regs+0x4 (STATUS) -> 0x77",
		"1000 0.000000 s write of 4 at regs+0x8 (CONTROL) = 0xabc",
		"= 0xabc   <- not done",
	};
	const struct blackbox_header h = { .signal = 11, .syscall = -1 };
	size_t size;
	uint8_t *file = make_box(&h, &size);
	int r;
	char *text = print(file, size, &r);

	CU_ASSERT_EQUAL(r, 0);
	for (size_t i = 0; i < ARRAY_LEN(says); i++) {
		CU_ASSERT_PTR_NOT_NULL(strstr(text, says[i]));
		if (strstr(text, says[i]) == NULL)
			printf("%s\nin %s\n", says[i], text);
	}
	CU_ASSERT_PTR_NULL(strchr(text, '\x1b'));
	free(text);
	munmap(file, size);
}

static void
causes_are_named(void)
{
	static const struct {
		struct blackbox_header h;
		const char *says;
	} cases[] = {
		{ { .status = 8 }, "exit status 8: a fault made on purpose" },
		{ { .status = 6 }, "the committed state is not valid" },
		{ { .status = 9, .syscall = 41 }, "denied     system call 41" },
		{ { .status = 9 }, "a system call that is not on its list" },
		{ { .status = 99 }, "exit status 99: unknown" },
		{ { .status = -1 }, "exit status -1: unknown" },
		{ { .signal = 9, .reason = "hung: of a sort" },
		    "the broker killed it: hung: of a sort" },
		{ { .signal = 31 }, "a system call that is not on its list" },
		{ { .lived_ns = 0 }, "it was never ready" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t size;
		uint8_t *file = make_box(&cases[i].h, &size);
		int r;
		char *text = print(file, size, &r);

		CU_ASSERT_PTR_NOT_NULL(strstr(text, cases[i].says));
		free(text);
		munmap(file, size);
	}
}

static void
damage_does_no_harm(void)
{
	const struct blackbox_header h = { .signal = 11 };
	uint64_t seed = 1;

	for (unsigned i = 0; i < 2000; i++) {
		size_t size;
		uint8_t *file = make_box(&h, &size);
		int r;
		char *text;

		for (unsigned j = 0; j < 1 + i % 4; j++) {
			seed =
			    seed * 6364136223846793005u + 1442695040888963407u;
			file[(seed >> 33) % size] ^=
			    (uint8_t)(1u << (seed >> 20) % 8);
		}
		text = print(file, size - (i % 3 == 0 ? seed % size : 0), &r);
		CU_ASSERT(r == 0 || r == -EBADMSG);
		free(text);
		munmap(file, size);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(says_all_that_there_is),
	NAMED_TEST(causes_are_named),
	NAMED_TEST(damage_does_no_harm),
};

int
main(void)
{
	return named_tests_run("blackbox_print", tests, ARRAY_LEN(tests));
}
