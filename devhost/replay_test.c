/* Black boxes made by hand, and made to happen again. */
#include "devhost/replay.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devhost/device.h"
#include "devhost/host.h"
#include "proto/base.h"
#include "proto/blackbox.h"
#include "proto/control.pb-c.h"
#include "proto/ring.h"
#include "proto/store.h"
#include "tests/named_tests.h"

/* ---- a device that dies of a write ---- */

#define SEGV_AT	 0x10u
#define ABORT_AT 0x20u
#define PLAIN_AT 0x00u

struct crasher_state {
	uint64_t writes;
	uint64_t valid;
};

static void
crasher_reset(struct device *dev)
{
	struct crasher_state *s = device_state(dev);

	s->valid = 1;
}

static bool
crasher_valid(const void *state)
{
	const struct crasher_state *s = state;

	return s->valid == 1;
}

/* The third write, and only that, dies: it is the state that says so. */
static void
crasher_access(struct device *dev, struct device_access *a)
{
	struct crasher_state *s = device_state(dev);

	if (!a->write) {
		a->data = s->writes;
		return;
	}
	s->writes++;
	if (s->writes != 3)
		return;
	if (a->addr == SEGV_AT)
		raise(SIGSEGV);
	if (a->addr == ABORT_AT)
		abort();
}

static void
crasher_settle(struct device *dev UNUSED)
{
}

static const struct device_placement crasher_placements[] = {
	{ .regions = { { .name = "regs",
	      .space = DEVICE_PIO,
	      .base = 0x5000,
	      .size = 64 } },
	    .nregions = 1 },
};
static const struct device_ops crasher_ops = {
	.reset = crasher_reset,
	.valid = crasher_valid,
	.access = crasher_access,
	.settle = crasher_settle,
};
static const struct device_type crasher = {
	.name = "crasher",
	.title = "a device that dies of a write",
	.state_version = 1,
	.state_size = sizeof(struct crasher_state),
	.placements = crasher_placements,
	.nplacements = ARRAY_LEN(crasher_placements),
	.ops = &crasher_ops,
};
DEVTYPE_REGISTER(crasher);

/* ---- boxes ---- */

struct box {
	const char *type;
	uint64_t writes, valid; /* of the committed state */
	uint64_t addr; /* of the write that waits */
	unsigned waiting; /* requests */
	int signal, status;
	bool fresh, fault;
};

struct file {
	void *bytes;
	size_t size;
};

static uint8_t *
pack_configure(size_t *size)
{
	Bulkhead__Configure c;
	Bulkhead__Placement p;
	Bulkhead__Region r, *regions[] = { &r };
	char name[] = "crasher0", regs[] = "regs";
	uint8_t *out;

	bulkhead__configure__init(&c);
	bulkhead__placement__init(&p);
	bulkhead__region__init(&r);
	r.name = regs;
	r.start = 0x5000;
	r.size = 64;
	p.regions = regions;
	p.n_regions = 1;
	c.name = name;
	c.vcpus = 1;
	c.placement = &p;
	*size = bulkhead__configure__get_packed_size(&c);
	out = malloc(*size);
	bulkhead__configure__pack(&c, out);
	return out;
}

static void
fill_store(void *base, size_t size, const struct store_shape *shape,
    const struct box *b)
{
	struct store_position *position;
	struct crasher_state *state;
	struct store s;

	store_format(base, size, shape);
	CU_ASSERT_EQUAL_FATAL(store_attach(&s, base, size, shape), 0);
	if (b->fault) {
		const struct fault_request write = { .on = FAULT_ON_WRITE };
		const struct fault_plan plan = { .kind = FAULT_KILL,
			.times = 1,
			.region = UINT16_MAX,
			.queue = UINT16_MAX,
			.address = UINT64_MAX,
			.until_ns = UINT64_MAX };

		CU_ASSERT_EQUAL(fault_arm(s.faults, &plan), 0);
		/* As the death left it. */
		CU_ASSERT_EQUAL(fault_match(s.faults, &write).kind, FAULT_KILL);
	}
	if (b->fresh)
		return;
	state = store_state(&s);
	state->writes = b->writes;
	state->valid = b->valid;
	position = store_positions(&s);
	position->next = 100;
	store_commit(&s);
}

static void
fill_rings(struct ring_set *set, const struct box *b)
{
	struct ring *r = &set->ring[0];
	uint64_t pos = b->fresh ? 0 : 100;

	atomic_store(&r->tail, pos);
	for (unsigned i = 0; i < b->waiting; i++) {
		const struct ring_request request = {
			.addr = b->addr, .data = 1, .op = RING_WRITE, .size = 1
		};

		CU_ASSERT_EQUAL(ring_put(r, &pos, &request), 0);
	}
}

static struct file
make_box(const struct box *b)
{
	const struct store_shape shape = { .vcpus = 1,
		.state_size = sizeof(struct crasher_state),
		.state_version = 1 };
	size_t store_bytes = store_size(&shape), rings_bytes = ring_set_size(1);
	struct blackbox_header h = {
		.signal = b->signal, .status = b->status, .syscall = -1
	};
	struct blackbox_part parts[] = {
		{ BLACKBOX_STORE, NULL, store_bytes },
		{ BLACKBOX_RINGS, NULL, rings_bytes },
		{ BLACKBOX_CONFIGURE, NULL, 0 },
	};
	uint8_t *store = calloc(1, store_bytes), *configure;
	struct ring_set *rings = aligned_alloc(64, rings_bytes);
	struct file f = { NULL, 0 };
	int fd = memfd_create("box", MFD_CLOEXEC);
	struct stat st;

	memset(rings, 0, rings_bytes);
	configure = pack_configure(&parts[2].size);
	fill_store(store, store_bytes, &shape, b);
	fill_rings(rings, b);
	parts[0].bytes = store;
	parts[1].bytes = rings;
	parts[2].bytes = configure;
	snprintf(h.type, sizeof(h.type), "%s", b->type);
	snprintf(h.device, sizeof(h.device), "crasher0");
	snprintf(h.build, sizeof(h.build), "%s", BULKHEAD_VERSION);
	CU_ASSERT_EQUAL_FATAL(
	    blackbox_write(fd, &h, parts, ARRAY_LEN(parts)), 0);
	CU_ASSERT_EQUAL_FATAL(fstat(fd, &st), 0);
	f.size = (size_t)st.st_size;
	f.bytes =
	    mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	free(store);
	free(rings);
	free(configure);
	return f;
}

/* Replay in a child.  Its status, and what it said. */
static int
replay(const struct file *f, char *said, size_t size)
{
	FILE *out = tmpfile();
	int status = -1;
	size_t n;
	pid_t pid;

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		setvbuf(out, NULL, _IONBF, 0);
		_exit(replay_run(f->bytes, f->size, NULL, 0, out));
	}
	waitpid(pid, &status, 0);
	rewind(out);
	n = fread(said, 1, size - 1, out);
	said[n] = '\0';
	fclose(out);
	return status;
}

/* ---- the tests ---- */

static void
a_death_happens_again(void)
{
	static const struct {
		const char *claim;
		struct box box;
		int signal, status;
		const char *says;
	} cases[] = {
		{ "the same signal",
		    { .type = "crasher",
			.writes = 2,
			.valid = 1,
			.addr = SEGV_AT,
			.waiting = 1,
			.signal = SIGSEGV },
		    SIGSEGV, 0, "write of 1 at regs+0x10 = 0x1" },
		{ "of the second request that waits",
		    { .type = "crasher",
			.writes = 1,
			.valid = 1,
			.addr = ABORT_AT,
			.waiting = 2,
			.signal = SIGABRT },
		    SIGABRT, 0, "request 101: write" },
		{ "from the beginning",
		    { .type = "crasher",
			.addr = ABORT_AT,
			.waiting = 3,
			.fresh = true,
			.signal = SIGABRT },
		    SIGABRT, 0, "starting on a fresh state" },
		{ "an invalid state",
		    { .type = "crasher",
			.writes = 1,
			.valid = 2,
			.status = HOST_EXIT_STATE },
		    0, HOST_EXIT_STATE, "state or options" },
		{ "a fault made on purpose",
		    { .type = "crasher",
			.valid = 1,
			.waiting = 1,
			.status = HOST_EXIT_FAULT,
			.fault = true },
		    0, HOST_EXIT_FAULT, "fault plan 0 (kill) is armed again" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct file f = make_box(&cases[i].box);
		char said[4096];
		int status = replay(&f, said, sizeof(said));

		if (cases[i].signal != 0) {
			/* A sanitizer makes an exit of it. */
			CU_ASSERT(WIFSIGNALED(status) ||
			    WEXITSTATUS(status) != HOST_EXIT_OK);
			if (WIFSIGNALED(status))
				CU_ASSERT_EQUAL(
				    WTERMSIG(status), cases[i].signal);
		} else {
			CU_ASSERT(WIFEXITED(status));
			CU_ASSERT_EQUAL(WEXITSTATUS(status), cases[i].status);
		}
		CU_ASSERT_PTR_NOT_NULL(strstr(said, cases[i].says));
		if (strstr(said, cases[i].says) == NULL)
			printf("%s: %s\n", cases[i].claim, said);
		munmap(f.bytes, f.size);
	}
}

static void
what_does_not_die_is_said_to_live(void)
{
	static const struct box box = { .type = "crasher",
		.writes = 2,
		.valid = 1,
		.addr = PLAIN_AT,
		.waiting = 5,
		.signal = SIGKILL };
	struct file f = make_box(&box);
	char said[4096];
	int status = replay(&f, said, sizeof(said));

	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == HOST_EXIT_OK);
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "5 requests handled"));
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "it did not die"));
	munmap(f.bytes, f.size);
}

static void
what_is_no_box_is_refused(void)
{
	static const struct box unknown = { .type = "nosuch", .valid = 1 },
				known = { .type = "crasher",
					.valid = 1,
					.waiting = 1 };
	char said[4096];
	struct file f = make_box(&unknown), part;

	CU_ASSERT_EQUAL(
	    WEXITSTATUS(replay(&f, said, sizeof(said))), HOST_EXIT_USAGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "no device type nosuch"));
	munmap(f.bytes, f.size);
	f = make_box(&known);
	for (size_t size = 0; size < f.size; size += 97) {
		part = (struct file){ f.bytes, size };
		CU_ASSERT(WEXITSTATUS(replay(&part, said, sizeof(said))) !=
		    HOST_EXIT_OK);
	}
	munmap(f.bytes, f.size);
}

/* Every byte of the head and of the tables may be anything. */
static void
a_damaged_box_does_no_harm(void)
{
	static const struct box known = {
		.type = "crasher", .valid = 1, .waiting = 1
	};
	char said[4096];

	for (size_t at = 0; at < 560; at += 3) {
		struct file f = make_box(&known);
		int status;

		((uint8_t *)f.bytes)[at] ^= 0x81;
		status = replay(&f, said, sizeof(said));
		CU_ASSERT(WIFEXITED(status));
		munmap(f.bytes, f.size);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(a_death_happens_again),
	NAMED_TEST(what_does_not_die_is_said_to_live),
	NAMED_TEST(what_is_no_box_is_refused),
	NAMED_TEST(a_damaged_box_does_no_harm),
};

int
main(void)
{
	return named_tests_run("replay", tests, ARRAY_LEN(tests));
}
