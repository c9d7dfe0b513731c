/* Memory slots that come, go, move and are read-only, as the guest runs. */
#include "tests/guests/testing.h"

#define SLOT  5
#define HERE  (TEST_MMIO + 0x100000)
#define THERE (TEST_MMIO + 0x180000)
#define HIGH  0x80000000u

static volatile uint32_t *
word(uint32_t addr)
{
	return (volatile uint32_t *)(uintptr_t)addr;
}

static uint64_t
accesses(void)
{
	uint64_t n = test(TEST_LOG_COUNT, 0, 0, 0);

	test(TEST_LOG_CLEAR, 0, 0, 0);
	return n;
}

static uint64_t
user_load(uint64_t addr)
{
	return *word((uint32_t)addr);
}

static uint64_t
user_store(uint64_t addr)
{
	*word((uint32_t)addr) = 0x05e2;
	return 0;
}

void
guest_main(const void *start_info)
{
	uint64_t bad = 0;

	(void)start_info;
	traps_init();
	test(TEST_LOG_CLEAR, 0, 0, 0);
	*word(HERE) = 1;
	(void)*word(HERE);
	check("nothing_is_there", accesses(), 2);
	check("add", test(TEST_SLOT_SET, SLOT, SLOT_RAM, HERE), 0);
	for (unsigned i = 0; i < SLOT_SIZE; i += 4)
		*word(HERE + i) = i * 7;
	for (unsigned i = 0; i < SLOT_SIZE; i += 4)
		bad += *word(HERE + i) != i * 7;
	check("is_memory", bad, 0);
	check("no_access_is_seen", accesses(), 0);
	check(
	    "user_reads_it", user_call(user_load, HERE + 8, RFLAGS_OFF), 8 * 7);
	(void)*word(HERE + SLOT_SIZE);
	check("ends_at_its_size", accesses(), 1);

	check("remove", test(TEST_SLOT_SET, SLOT, SLOT_NONE, HERE), 0);
	*word(HERE) = 99;
	(void)*word(HERE + 4);
	check("is_gone", accesses(), 2);
	user_call(user_store, HERE + 8, RFLAGS_OFF);
	check("is_gone_for_user_code", accesses(), 1);
	check("add_elsewhere", test(TEST_SLOT_SET, SLOT, SLOT_RAM, THERE), 0);
	check("content_is_kept", *word(THERE + 0x100), 0x100 * 7);
	check("write_that_missed_is_not_there", *word(THERE), 0);
	check("remove_again", test(TEST_SLOT_SET, SLOT, SLOT_NONE, THERE), 0);

	check("add_read_only", test(TEST_SLOT_SET, SLOT, SLOT_ROM, HERE), 0);
	check("read_only_reads", *word(HERE + 0x200), 0x200 * 7);
	check("read_only_reads_unseen", accesses(), 0);
	*word(HERE + 0x200) = 0xabcdef01;
	check("read_only_write_is_the_handlers", test(TEST_LOG_GET, 0, 0, 0),
	    0xabcdef01);
	check("read_only_write_is_one_access", accesses(), 1);
	user_call(user_store, HERE + 0x200, RFLAGS_OFF);
	check("read_only_for_user_code", accesses(), 1);
	check("read_only_is_unchanged", *word(HERE + 0x200), 0x200 * 7);
	check(
	    "remove_read_only", test(TEST_SLOT_SET, SLOT, SLOT_NONE, HERE), 0);

	/* Code in it runs; and is gone when it is. */
	check("add_high", test(TEST_SLOT_SET, SLOT, SLOT_RAM, HIGH), 0);
	*word(HIGH) = 0x00002ab8; /* movl $42, %eax; ret */
	*word(HIGH + 4) = 0xc300;
	check("code_runs", ((uint32_t(*)(void))(uintptr_t)HIGH)(), 42);
	*word(HIGH) = 0x00002bb8;
	check("changed_code_runs", ((uint32_t(*)(void))(uintptr_t)HIGH)(), 43);
	check("remove_high", test(TEST_SLOT_SET, SLOT, SLOT_NONE, HIGH), 0);
	check("high_is_gone", *word(HIGH), 0xffffffff);
}
