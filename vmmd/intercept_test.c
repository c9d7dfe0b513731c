/* The address map, and what a vCPU gets from a device that misbehaves. */
#include "vmmd/intercept.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base.h"
#include "tests/named_tests.h"

/* ---- a device on the same thread ---- */

static atomic_bool stopping;
static struct ring_request seen[16];
static unsigned nseen;

static uint64_t
answer_offset(void *host, unsigned vcpu, const struct ring_request *request)
{
	(void)host;
	(void)vcpu;
	if (nseen < ARRAY_LEN(seen))
		seen[nseen++] = *request;
	return 0x1111111111111100u + request->addr;
}

static const struct placement_ops same_thread = {
	.access = answer_offset,
};

/* ---- the map ---- */

static struct route_table map;
static struct port *ports[4]; /* of one lane */

static int
add(enum hv_space space, uint64_t base, uint64_t last, unsigned port)
{
	const struct route r = {
		.space = space,
		.base = base,
		.last = last,
		.port = ports[port],
	};

	return route_table_add(&map, &r);
}

static void
finds_what_was_added_and_nothing_else(void)
{
	static const struct {
		enum hv_space space;
		uint64_t addr;
		int port; /* -1: none */
	} cases[] = {
		{ HV_PIO, 0x3f8, 0 },
		{ HV_PIO, 0x3ff, 0 },
		{ HV_PIO, 0x3f7, -1 },
		{ HV_PIO, 0x400, -1 },
		{ HV_PIO, 0x70, 1 },
		{ HV_PIO, 0, -1 },
		{ HV_PIO, UINT64_MAX, -1 },
		{ HV_MMIO, 0x70, -1 },
		{ HV_MMIO, 0, -1 },
		{ HV_MMIO, 0xd0000000, 2 },
		{ HV_MMIO, UINT64_MAX, 3 },
	};

	memset(&map, 0, sizeof(map));
	CU_ASSERT_EQUAL(add(HV_MMIO, UINT64_MAX - 15, UINT64_MAX, 3), 0);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x3f8, 0x3ff, 0), 0);
	CU_ASSERT_EQUAL(add(HV_MMIO, 0xd0000000, 0xd0000fff, 2), 0);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x70, 0x71, 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct route *r =
		    route_table_find(&map, cases[i].space, cases[i].addr);

		CU_ASSERT(cases[i].port < 0
			? r == NULL
			: r != NULL && r->port == ports[cases[i].port]);
	}
}

static void
refuses_overlap_and_overflow(void)
{
	memset(&map, 0, sizeof(map));
	CU_ASSERT_EQUAL(add(HV_PIO, 0x100, 0x10f, 0), 0);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x100, 0x10f, 1), -EEXIST);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x10f, 0x110, 1), -EEXIST);
	CU_ASSERT_EQUAL(add(HV_PIO, 0xff, 0x100, 1), -EEXIST);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x0, 0xffff, 1), -EEXIST);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x108, 0x108, 1), -EEXIST);
	CU_ASSERT_EQUAL(add(HV_MMIO, 0x100, 0x10f, 1), 0);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x110, 0x110, 1), 0);
	for (unsigned i = 0; map.n < INTERCEPT_ROUTES; i++)
		CU_ASSERT_EQUAL(add(HV_PIO, 0x1000 + i, 0x1000 + i, 1), 0);
	CU_ASSERT_EQUAL(add(HV_PIO, 0x5000, 0x5000, 1), -ENOSPC);
}

static void
removes_one_range_and_no_other(void)
{
	static const struct {
		enum hv_space space;
		uint64_t base;
		bool there[3]; /* afterwards */
	} cases[] = {
		{ HV_PIO, 0x100, { false, true, true } },
		{ HV_MMIO, 0x100, { true, false, true } },
		{ HV_MMIO, 0x200, { true, true, false } },
		{ HV_MMIO, 0x201, { true, true, true } },
		{ HV_PIO, 0x200, { true, true, true } },
		{ HV_PIO, 0, { true, true, true } },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		memset(&map, 0, sizeof(map));
		CU_ASSERT_EQUAL(add(HV_PIO, 0x100, 0x10f, 0), 0);
		CU_ASSERT_EQUAL(add(HV_MMIO, 0x100, 0x10f, 1), 0);
		CU_ASSERT_EQUAL(add(HV_MMIO, 0x200, 0x20f, 2), 0);
		route_table_remove(&map, cases[i].space, cases[i].base);
		CU_ASSERT_EQUAL(route_table_find(&map, HV_PIO, 0x105) != NULL,
		    cases[i].there[0]);
		CU_ASSERT_EQUAL(route_table_find(&map, HV_MMIO, 0x105) != NULL,
		    cases[i].there[1]);
		CU_ASSERT_EQUAL(route_table_find(&map, HV_MMIO, 0x205) != NULL,
		    cases[i].there[2]);
	}
}

/* ---- a map that changes while it is read ---- */

#define REMAPS	5000u
#define READERS 2u
#define BAR_A	0xc0000000u
#define BAR_B	0xd0000000u

struct reader_thread {
	struct intercept ic;
	const atomic_bool *done;
	uint64_t wrong, found;
};

/* The region says where the range has been put: a torn or freed route does
 * not. */
static void *
read_on(void *arg)
{
	struct reader_thread *t = arg;

	while (!atomic_load(t->done)) {
		static const uint64_t at[] = { BAR_A, BAR_B };

		for (unsigned i = 0; i < 2; i++) {
			struct route r;

			if (!intercept_find(&t->ic, HV_MMIO, at[i], &r))
				continue;
			t->found++;
			if (r.base != at[i] || r.last != at[i] + 0xfff ||
			    r.region != i || r.port != ports[i])
				t->wrong++;
		}
	}
	return NULL;
}

static void
is_whole_for_readers_while_it_changes(void)
{
	static struct address_map whole;
	static struct reader_thread reader[READERS];
	static atomic_bool done;
	pthread_t thread[READERS];

	memset(&whole, 0, sizeof(whole));
	for (unsigned i = 0; i < READERS; i++) {
		reader[i] =
		    (struct reader_thread){ .ic = { .map = &whole, .vcpu = i },
			    .done = &done };
		CU_ASSERT_EQUAL_FATAL(
		    pthread_create(&thread[i], NULL, read_on, &reader[i]), 0);
	}
	for (unsigned n = 0; n < REMAPS; n++) {
		const uint64_t base = (n & 1) != 0 ? BAR_B : BAR_A;
		const struct route r = {
			.space = HV_MMIO,
			.base = base,
			.last = base + 0xfff,
			.port = ports[n & 1],
			.region = n & 1,
		};
		struct route_table *t = address_map_edit(&whole);

		route_table_remove(t, HV_MMIO, BAR_A);
		route_table_remove(t, HV_MMIO, BAR_B);
		if (route_table_add(t, &r) != 0)
			CU_FAIL("a place that was made free is not free");
		address_map_publish(&whole);
		/* A table that nobody may be reading now: spoil it. */
		memset(
		    address_map_edit(&whole), 0xff, sizeof(struct route_table));
	}
	atomic_store(&done, true);
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(thread[i], NULL);
		CU_ASSERT_EQUAL(reader[i].wrong, 0);
	}
	CU_ASSERT(reader[0].found + reader[1].found > 0);
}

static void
forgets_a_guess_when_the_map_has_changed(void)
{
	static struct address_map whole;
	struct intercept ic = { .map = &whole };
	struct hv_access a = { .addr = 0x3f8, .size = 1, .space = HV_PIO };

	memset(&whole, 0, sizeof(whole));
	memset(&map, 0, sizeof(map));
	ports[0]->inline_ops = &same_thread;
	ports[0]->stopping = &stopping;
	CU_ASSERT_EQUAL_FATAL(add(HV_PIO, 0x3f8, 0x3ff, 0), 0);
	*address_map_edit(&whole) = map;
	address_map_publish(&whole);
	intercept_access(&ic, &a);
	CU_ASSERT_EQUAL(a.data, 0);
	route_table_remove(address_map_edit(&whole), HV_PIO, 0x3f8);
	address_map_publish(&whole);
	intercept_access(&ic, &a);
	CU_ASSERT_EQUAL(a.data, 0xff);
	CU_ASSERT_EQUAL(stats_get(&ic.stats.pio_reads), 2);
	CU_ASSERT_EQUAL(stats_get(&ic.stats.unclaimed), 1);
}

/* ---- accesses ---- */

static void
serves_reads_of_every_shape(void)
{
	static const struct {
		const char *claim;
		uint64_t addr;
		uint8_t size;
		uint64_t data;
		unsigned requests;
	} cases[] = {
		{ "one_byte", 0x3f8, 1, 0x00, 1 },
		{ "masks_to_the_size", 0x3f9, 2, 0x1101, 1 },
		{ "eight_bytes", 0x3f8, 8, 0x1111111111111100, 1 },
		{ "all_ones_where_nobody_is", 0x500, 4, 0xffffffff, 0 },
		{ "half_behind_the_end", 0x3ff, 2, 0xff07, 1 },
		{ "half_before_the_start", 0x3f7, 2, 0x00ff, 1 },
		{ "at_the_end_of_all", UINT64_MAX, 2, 0xffff, 0 },
	};
	static struct address_map whole;
	struct intercept ic = { .map = &whole };

	memset(&map, 0, sizeof(map));
	ports[0]->inline_ops = &same_thread;
	ports[0]->stopping = &stopping;
	CU_ASSERT_EQUAL_FATAL(add(HV_PIO, 0x3f8, 0x3ff, 0), 0);
	*address_map_edit(&whole) = map;
	address_map_publish(&whole);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct hv_access a = {
			.addr = cases[i].addr,
			.size = cases[i].size,
			.space = HV_PIO,
		};

		nseen = 0;
		intercept_access(&ic, &a);
		if (a.data != cases[i].data || nseen != cases[i].requests)
			printf("%s: %#llx\n", cases[i].claim,
			    (unsigned long long)a.data);
		CU_ASSERT_EQUAL(a.data, cases[i].data);
		CU_ASSERT_EQUAL(nseen, cases[i].requests);
	}
}

/* ---- a device behind a ring ---- */

#define PORT_VCPUS 1

static struct port *
new_port(void)
{
	struct port *p = port_new(PORT_VCPUS);
	size_t size = (ring_set_size(PORT_VCPUS) + 63) / 64 * 64;

	p->set = aligned_alloc(64, size);
	p->kick_fd = eventfd(0, EFD_NONBLOCK);
	p->fault_fd = eventfd(0, EFD_NONBLOCK);
	p->spin_max_ns = 20000;
	p->stopping = &stopping;
	memset(p->set, 0, size);
	return p;
}

static void
free_port(struct port *p)
{
	close(p->kick_fd);
	close(p->fault_fd);
	free(p->set);
	free(p);
}

static const struct ring_request read_one = { .op = RING_READ, .size = 1 };
static const struct ring_request post_one = { .op = RING_WRITE_POSTED,
	.size = 1 };

struct device_thread {
	struct port *port;
	void (*act)(struct port *p);
};

static void *
run_act(void *arg)
{
	struct device_thread *d = arg;
	const struct timespec ms = { .tv_nsec = 20000000 };

	/* Most likely the vCPU sleeps by then; right either way. */
	nanosleep(&ms, NULL);
	d->act(d->port);
	return NULL;
}

static void
answer_one(struct port *p)
{
	ring_answer(&p->set->ring[0], 1, 42);
}

static void
stop_vm(struct port *p)
{
	atomic_store(&stopping, true);
	port_wake(p);
}

/* Claim an impossible tail, wait to be found out, die, come back, answer. */
static void
lie_and_come_back(struct port *p)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	struct store_position committed = { 0 };
	struct store store;
	struct store_shape shape = { .vcpus = PORT_VCPUS };
	size_t size = store_size(&shape);
	void *base = aligned_alloc(4096, size);

	memset(base, 0, size);
	store_format(base, size, &shape);
	store_attach(&store, base, size, &shape);
	atomic_store(&p->set->ring[0].tail, 1000);
	while (!port_faulted(p))
		nanosleep(&ms, NULL);
	CU_ASSERT_EQUAL(port_recover(p, &store), 0);
	CU_ASSERT_FALSE(port_faulted(p));
	committed.next = 1;
	ring_answer(&p->set->ring[0], committed.next, 42);
	free(base);
}

static const struct {
	const char *claim;
	void (*act)(struct port *p);
	uint64_t answer;
} waits[] = {
	{ "waits_for_a_late_answer", answer_one, 42 },
	{ "reads_all_ones_once_removed", port_remove, UINT64_MAX },
	{ "goes_on_when_the_vm_ends", stop_vm, UINT64_MAX },
	{ "outlives_a_device_that_lies", lie_and_come_back, 42 },
};

static void
waits_as_long_as_it_must(void)
{
	for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
		struct port *p = new_port();
		struct device_thread d = { p, waits[i].act };
		pthread_t thread;
		uint64_t answer;

		atomic_store(&stopping, false);
		CU_ASSERT_EQUAL_FATAL(
		    pthread_create(&thread, NULL, run_act, &d), 0);
		answer = port_access(p, 0, &read_one);
		pthread_join(thread, NULL);
		if (answer != waits[i].answer)
			printf("%s: %#llx\n", waits[i].claim,
			    (unsigned long long)answer);
		CU_ASSERT_EQUAL(answer, waits[i].answer);
		CU_ASSERT_EQUAL(port_waited_ns(p, 0, UINT64_MAX), 0);
		free_port(p);
	}
	atomic_store(&stopping, false);
}

static void
posted_writes_do_not_wait(void)
{
	struct port *p = new_port();

	for (unsigned i = 0; i < RING_SLOTS; i++)
		port_access(p, 0, &post_one);
	CU_ASSERT_TRUE(port_busy(p));
	CU_ASSERT_EQUAL(atomic_load(&p->lane[0].pos), RING_SLOTS);
	ring_answer(&p->set->ring[0], RING_SLOTS, 0);
	CU_ASSERT_FALSE(port_busy(p));
	free_port(p);
}

static void
recovers_only_from_positions_that_can_be(void)
{
	static const struct {
		uint64_t made, committed;
		int result;
	} cases[] = {
		{ 0, 0, 0 },
		{ 10, 10, 0 },
		{ 10, 3, 0 },
		{ RING_SLOTS, 0, 0 },
		/* The vCPU has put one that it has not counted yet. */
		{ 10, 11, 0 },
		{ 10, 12, -EPROTO },
		{ 200, 10, -EPROTO },
		{ 10, UINT64_MAX, -EPROTO },
	};
	struct store_shape shape = { .vcpus = PORT_VCPUS };
	size_t size = store_size(&shape);
	struct store_position *position;
	struct store store;
	void *base = aligned_alloc(4096, size);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct port *p = new_port();

		memset(base, 0, size);
		store_format(base, size, &shape);
		store_attach(&store, base, size, &shape);
		store_recover(&store);
		position = store_positions(&store);
		position->next = cases[i].committed;
		position->answer = 7;
		store_commit(&store);
		atomic_store(&p->lane[0].pos, cases[i].made);
		CU_ASSERT_EQUAL(port_recover(p, &store), cases[i].result);
		CU_ASSERT(cases[i].result != 0 ||
		    atomic_load(&p->set->ring[0].tail) == cases[i].committed);
		free_port(p);
	}
	free(base);
}

static const struct named_test tests[] = {
	NAMED_TEST(finds_what_was_added_and_nothing_else),
	NAMED_TEST(refuses_overlap_and_overflow),
	NAMED_TEST(removes_one_range_and_no_other),
	NAMED_TEST(is_whole_for_readers_while_it_changes),
	NAMED_TEST(forgets_a_guess_when_the_map_has_changed),
	NAMED_TEST(serves_reads_of_every_shape),
	NAMED_TEST(waits_as_long_as_it_must),
	NAMED_TEST(posted_writes_do_not_wait),
	NAMED_TEST(recovers_only_from_positions_that_can_be),
};

int
main(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(ports); i++)
		ports[i] = port_new(1);
	return named_tests_run("intercept", tests, ARRAY_LEN(tests));
}
