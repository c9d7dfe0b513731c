/* Configuration cycles: which function they reach, and where. */
#include "vmmd/pci.h"

#include <string.h>

#include "proto/base.h"
#include "tests/named_tests.h"

/* Every device answers with what it was asked. */
static atomic_bool stopping;
static struct ring_request seen[16];
static struct port *asked[16];
static unsigned nseen, nwritten;

static struct port *bridge, *blk;

static uint64_t
answer_offset(void *host, unsigned vcpu, const struct ring_request *request)
{
	(void)vcpu;
	if (nseen < ARRAY_LEN(seen)) {
		seen[nseen] = *request;
		asked[nseen++] = host;
	}
	return 0x2222222222222000u + request->addr;
}

static const struct placement_ops same_thread = { .access = answer_offset };

static void
note_write(void *ctx)
{
	(void)ctx;
	nwritten++;
}

static struct address_map map;
static struct pci pci;
static struct intercept ic;

/* A bridge in slot 0, a disk in slot 3. */
static void
set_up(void)
{
	struct port *const ports[] = { bridge, blk };

	memset(&map, 0, sizeof(map));
	memset(&pci, 0, sizeof(pci));
	memset(&ic, 0, sizeof(ic));
	ic.map = &map;
	for (unsigned i = 0; i < 2; i++) {
		ports[i]->inline_ops = &same_thread;
		ports[i]->inline_host = ports[i];
		ports[i]->stopping = &stopping;
		ports[i]->written = note_write;
	}
	CU_ASSERT_EQUAL_FATAL(pci_add_routes(&pci, address_map_edit(&map)), 0);
	address_map_publish(&map);
	pci_add_function(&pci, 0, bridge, 0, true);
	pci_add_function(&pci, 3, blk, 0, true);
	nseen = nwritten = 0;
}

static uint64_t
get(enum hv_space space, uint64_t addr, uint8_t size)
{
	struct hv_access a = { .addr = addr, .size = size, .space = space };

	intercept_access(&ic, &a);
	return a.data;
}

static void
put(enum hv_space space, uint64_t addr, uint8_t size, uint64_t data)
{
	struct hv_access a = {
		.addr = addr,
		.size = size,
		.space = space,
		.data = data,
		.write = true,
	};

	intercept_access(&ic, &a);
}

static void
ecam_reaches_the_function_that_is_meant(void)
{
	static const struct {
		const char *claim;
		uint64_t offset;
		uint8_t size;
		struct port **port; /* NULL: absent */
		uint64_t at;
	} cases[] = {
		{ "the_bridge", 0, 4, &bridge, 0 },
		{ "a_byte", 0xd, 1, &bridge, 0xd },
		{ "the_last_dword", 0xffc, 4, &bridge, 0xffc },
		{ "another_slot", 3 << 15 | 0x10, 4, &blk, 0x10 },
		{ "eight_bytes", 3 << 15 | 0x10, 8, &blk, 0x10 },
		{ "another_function", 3 << 15 | 1 << 12, 4, NULL, 0 },
		{ "an_empty_slot", 4 << 15, 4, NULL, 0 },
		{ "the_last_slot", 31 << 15 | 0xffc, 4, NULL, 0 },
		{ "over_the_end_of_a_function", 0xffe, 4, NULL, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t mask = ring_size_mask(cases[i].size), got;

		set_up();
		got = get(HV_MMIO, PLATFORM_ECAM_BASE + cases[i].offset,
		    cases[i].size);
		CU_ASSERT_EQUAL(nseen, cases[i].port != NULL);
		if (cases[i].port == NULL) {
			CU_ASSERT_EQUAL(got, mask);
			continue;
		}
		CU_ASSERT_EQUAL(
		    got, (0x2222222222222000u + cases[i].at) & mask);
		CU_ASSERT_PTR_EQUAL(asked[0], *cases[i].port);
		CU_ASSERT_EQUAL(seen[0].addr, cases[i].at);
		CU_ASSERT_EQUAL(seen[0].size, cases[i].size);
	}
}

#define ADDRESS(slot, fn, reg) (0x80000000u | (slot) << 11 | (fn) << 8 | (reg))

static void
ports_reach_the_function_that_was_latched(void)
{
	static const struct {
		const char *claim;
		uint32_t latch;
		uint64_t data_port;
		uint8_t size;
		struct port **port; /* NULL: absent */
		uint64_t at;
	} cases[] = {
		{ "a_dword", ADDRESS(3u, 0u, 0x10u), 0xcfc, 4, &blk, 0x10 },
		{ "its_upper_word", ADDRESS(3u, 0u, 0x10u), 0xcfe, 2, &blk,
		    0x12 },
		{ "its_last_byte", ADDRESS(0u, 0u, 0xfcu), 0xcff, 1, &bridge,
		    0xff },
		{ "another_function", ADDRESS(3u, 1u, 0u), 0xcfc, 4, NULL, 0 },
		{ "an_empty_slot", ADDRESS(31u, 0u, 0u), 0xcfc, 4, NULL, 0 },
		{ "another_bus", ADDRESS(3u, 0u, 0u) | 1u << 16, 0xcfc, 4, NULL,
		    0 },
		{ "not_enabled", ADDRESS(3u, 0u, 0u) & ~0x80000000u, 0xcfc, 4,
		    NULL, 0 },
		{ "reserved_bits_are_not_latched",
		    ADDRESS(3u, 0u, 0x10u) | 0x7f000003u, 0xcfc, 4, &blk,
		    0x10 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t mask = ring_size_mask(cases[i].size), got;

		set_up();
		put(HV_PIO, 0xcf8, 4, cases[i].latch);
		got = get(HV_PIO, cases[i].data_port, cases[i].size);
		CU_ASSERT_EQUAL(nseen, cases[i].port != NULL);
		CU_ASSERT_EQUAL(got,
		    cases[i].port == NULL
			? mask
			: (0x2222222222222000u + cases[i].at) & mask);
		CU_ASSERT(cases[i].port == NULL || asked[0] == *cases[i].port);
	}
}

static void
the_latch_takes_whole_dwords_only(void)
{
	set_up();
	put(HV_PIO, 0xcf8, 4, 0xffffffff);
	CU_ASSERT_EQUAL(get(HV_PIO, 0xcf8, 4), 0x80fffffc);
	put(HV_PIO, 0xcf8, 2, 0);
	put(HV_PIO, 0xcf8, 1, 0);
	put(HV_PIO, 0xcf9, 1, 6);
	put(HV_PIO, 0xcfa, 2, 0);
	CU_ASSERT_EQUAL(get(HV_PIO, 0xcf8, 4), 0x80fffffc);
	CU_ASSERT_EQUAL(get(HV_PIO, 0xcf8, 2), 0xffff);
	CU_ASSERT_EQUAL(get(HV_PIO, 0xcf9, 1), 0xff);
}

static void
writes_reach_it_and_the_wiring_is_looked_at(void)
{
	set_up();
	put(HV_MMIO, PLATFORM_ECAM_BASE + (3 << 15) + 4, 2, 0x1234567);
	CU_ASSERT_EQUAL(nseen, 1);
	CU_ASSERT_EQUAL(seen[0].op, RING_WRITE);
	CU_ASSERT_EQUAL(seen[0].data, 0x4567);
	CU_ASSERT_EQUAL(nwritten, 1);
	put(HV_PIO, 0xcf8, 4, ADDRESS(3u, 0u, 4u));
	CU_ASSERT_EQUAL(nwritten, 1);
	put(HV_PIO, 0xcfd, 1, 0xab);
	CU_ASSERT_EQUAL(nseen, 2);
	CU_ASSERT_EQUAL(seen[1].addr, 5);
	CU_ASSERT_EQUAL(seen[1].data, 0xab);
	CU_ASSERT_EQUAL(nwritten, 2);
	get(HV_PIO, 0xcfd, 1);
	CU_ASSERT_EQUAL(nwritten, 2);
	/* Nobody is there to be written to. */
	put(HV_MMIO, PLATFORM_ECAM_BASE + (5 << 15), 4, 1);
	CU_ASSERT_EQUAL(nseen, 3);
}

static const struct named_test tests[] = {
	NAMED_TEST(ecam_reaches_the_function_that_is_meant),
	NAMED_TEST(ports_reach_the_function_that_was_latched),
	NAMED_TEST(the_latch_takes_whole_dwords_only),
	NAMED_TEST(writes_reach_it_and_the_wiring_is_looked_at),
};

int
main(void)
{
	bridge = port_new(1);
	blk = port_new(1);
	return named_tests_run("pci", tests, ARRAY_LEN(tests));
}
