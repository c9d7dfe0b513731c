/* Writes that go to an eventfd and not to the handler. */
#include "tests/guests/testing.h"

#define PORT		 0x900
#define MEM		 (TEST_MMIO + 0x8000)
#define MMIO(type, addr) (*(volatile type *)(uintptr_t)(addr))

static uint64_t
rings(unsigned index)
{
	return test(TEST_BELL_COUNT, index, 0, 0);
}

static uint64_t
bind(uint64_t addr, unsigned index, unsigned len, bool mmio)
{
	return test(
	    TEST_BELL_BIND, addr, 0, BELL(index, len, (unsigned)mmio, 0u));
}

static uint64_t
bind_match(uint64_t addr, unsigned index, unsigned len, bool mmio, uint64_t v)
{
	return test(
	    TEST_BELL_BIND, addr, v, BELL(index, len, (unsigned)mmio, 1u));
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	test(TEST_LOG_CLEAR, 0, 0, 0);
	check("bind_port", bind(PORT, 0, 2, false), 0);
	for (unsigned i = 0; i < 5; i++)
		outw(PORT, (uint16_t)i);
	check("port_rings", rings(0), 5);
	check("handler_sees_none", test(TEST_LOG_COUNT, 0, 0, 0), 0);
	outb(PORT, 1);
	outw(PORT + 2, 1);
	check("other_length_or_port_rings_not", rings(0), 0);
	check("handler_sees_those", test(TEST_LOG_COUNT, 0, 0, 0), 2);
	(void)inw(PORT);
	check("read_rings_not", rings(0), 0);
	check("handler_sees_the_read", test(TEST_LOG_COUNT, 0, 0, 0), 3);

	check("bind_match_7", bind_match(PORT + 8, 1, 4, false, 7), 0);
	check("bind_match_9", bind_match(PORT + 8, 2, 4, false, 9), 0);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	outl(PORT + 8, 7);
	outl(PORT + 8, 8);
	outl(PORT + 8, 9);
	outl(PORT + 8, 9);
	check("match_7_rings", rings(1), 1);
	check("match_9_rings", rings(2), 2);
	check("handler_sees_the_other", test(TEST_LOG_GET, 0, 0, 0), 8);
	check("handler_sees_only_it", test(TEST_LOG_COUNT, 0, 0, 0), 1);

	check("bind_any_length", bind(MEM, 3, 0, true), 0);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	MMIO(uint8_t, MEM) = 1;
	MMIO(uint16_t, MEM) = 2;
	MMIO(uint32_t, MEM) = 3;
	check("any_length_rings", rings(3), 3);
	MMIO(uint32_t, MEM + 4) = 3;
	check("any_length_is_of_one_address", rings(3), 0);
	check("handler_sees_the_next", test(TEST_LOG_COUNT, 0, 0, 0), 1);
	check("unbind_any_length",
	    test(TEST_BELL_UNBIND, MEM, 0, BELL(3u, 0u, 1u, 0u)), 0);

	check("bind_memory", bind(MEM, 4, 4, true), 0);
	check("bind_memory_match",
	    bind_match(MEM + 8, 5, 8, true, 0x1122334455667788), 0);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	MMIO(uint32_t, MEM) = 0xffffffff;
	MMIO(uint64_t, MEM + 8) = 0x1122334455667788;
	MMIO(uint64_t, MEM + 8) = 0x1122334455667789;
	check("memory_rings", rings(4), 1);
	check("memory_match_rings", rings(5), 1);
	check("memory_handler_sees_one", test(TEST_LOG_COUNT, 0, 0, 0), 1);
	check("unbind_memory",
	    test(TEST_BELL_UNBIND, MEM, 0, BELL(4u, 4u, 1u, 0u)), 0);
	MMIO(uint32_t, MEM) = 1;
	check("unbound_rings_not", rings(4), 0);
	check("unbound_is_the_handlers", test(TEST_LOG_COUNT, 0, 0, 0), 2);
	check("unbind_match",
	    test(TEST_BELL_UNBIND, PORT + 8, 7, BELL(1u, 4u, 0u, 1u)), 0);
	outl(PORT + 8, 7);
	outl(PORT + 8, 9);
	check("match_unbound_alone", rings(1) << 4 | rings(2), 1);
}
