/* String instructions on ports and on device memory. */
#include "tests/guests/testing.h"

static uint8_t buffer[64] __attribute__((aligned(16)));
static uint8_t source[64];

#define STRING(insn, port, mem, count)                                     \
	({                                                                 \
		uint64_t di_ = (uintptr_t)(mem), si_ = di_, cx_ = (count); \
		__asm__ volatile(insn                                      \
				 : "+D"(di_), "+S"(si_), "+c"(cx_)         \
				 : "d"(port)                               \
				 : "memory", "cc");                        \
		left = cx_;                                                \
		moved_in = di_ - (uintptr_t)(mem);                         \
		moved_out = si_ - (uintptr_t)(mem);                        \
	})

static uint64_t left, moved_in, moved_out;

static void
reset(void)
{
	test(TEST_LOG_CLEAR, 0, 0, 0);
	for (unsigned i = 0; i < sizeof(buffer); i++) {
		buffer[i] = 0xee;
		source[i] = (uint8_t)(i * 5 + 1);
	}
}

static uint64_t
log_data(uint64_t i)
{
	return test(TEST_LOG_GET, i, 0, 0);
}

static uint64_t
log_count(void)
{
	return test(TEST_LOG_COUNT, 0, 0, 0);
}

static void
input(void)
{
	uint64_t bad = 0;

	reset();
	STRING("rep insb", TEST_SEQUENCE, buffer, 16);
	for (unsigned i = 0; i < 16; i++)
		bad += buffer[i] != i;
	check("rep_insb_data", bad, 0);
	check("rep_insb_end", buffer[16], 0xee);
	check("rep_insb_rcx", left, 0);
	check("rep_insb_rdi", moved_in, 16);
	check("rep_insb_accesses", log_count(), 16);
	reset();
	STRING("rep insw", TEST_SEQUENCE, buffer, 5);
	check("rep_insw_data", buffer[8] | buffer[9] << 8, 4);
	check("rep_insw_rdi", moved_in, 10);
	reset();
	STRING("rep insl", TEST_SEQUENCE, buffer, 3);
	check("rep_insl_data", *(uint32_t *)(void *)(buffer + 8), 2);
	check("rep_insl_rdi", moved_in, 12);
	reset();
	STRING("std; rep insb; cld", TEST_SEQUENCE, buffer + 15, 8);
	for (unsigned i = 0; i < 8; i++)
		bad += buffer[15 - i] != i;
	check("rep_insb_down_data", bad, 0);
	check("rep_insb_down_rdi", moved_in, (uint64_t)-8);
	reset();
	STRING("rep insb", TEST_SEQUENCE, buffer, 0);
	check("rep_insb_none", log_count(), 0);
	check("rep_insb_none_rdi", moved_in, 0);
	STRING("insb", TEST_SEQUENCE, buffer, 9);
	check("insb_once", log_count(), 1);
	check("insb_rcx", left, 9);
}

static void
output(void)
{
	uint64_t bad = 0;

	reset();
	STRING("rep outsb", 0x820, source, 20);
	check("rep_outsb_accesses", log_count(), 20);
	for (unsigned i = 0; i < 20; i++)
		bad += log_data(i) != source[i];
	check("rep_outsb_data", bad, 0);
	check("rep_outsb_rsi", moved_out, 20);
	reset();
	STRING("rep outsw", 0x820, source, 4);
	check("rep_outsw_data", log_data(3),
	    (uint64_t)(source[6] | source[7] << 8));
	reset();
	STRING("rep outsl", 0x820, source, 4);
	check("rep_outsl_data", log_data(1), *(uint32_t *)(void *)(source + 4));
	check("rep_outsl_accesses", log_count(), 4);
	reset();
	STRING("std; rep outsb; cld", 0x820, source + 7, 8);
	bad = 0;
	for (unsigned i = 0; i < 8; i++)
		bad += log_data(i) != source[7 - i];
	check("rep_outsb_down_data", bad, 0);
	check("rep_outsb_down_rsi", moved_out, (uint64_t)-8);
}

/* More than any buffer on the way would hold at once. */
static void
long_output(void)
{
	static uint8_t page[6000];
	uint64_t bad = 0;

	reset();
	for (unsigned i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(i * 3);
	STRING("rep outsb", 0x820, page, sizeof(page));
	check("rep_outsb_long", log_count(), sizeof(page));
	for (unsigned i = 0; i < sizeof(page); i += 501)
		bad += log_data(i) != page[i];
	check("rep_outsb_long_data", bad, 0);
	reset();
	STRING("rep insb", TEST_SEQUENCE, page, sizeof(page));
	for (unsigned i = 0; i < sizeof(page); i++)
		bad += page[i] != (uint8_t)i;
	check("rep_insb_long_data", bad, 0);
}

static void
memory(void)
{
	uint32_t *const mmio = (uint32_t *)(uintptr_t)(TEST_MMIO + 0x4000);
	uint64_t di, si, cx, bad = 0;

	reset();
	di = (uintptr_t)buffer;
	si = (uintptr_t)mmio;
	cx = 8;
	__asm__ volatile("rep movsl" : "+D"(di), "+S"(si), "+c"(cx)::"memory");
	for (unsigned i = 0; i < 32; i++)
		bad += buffer[i] != TEST_BYTE(TEST_MMIO + 0x4000 + i);
	check("movs_from_device", bad, 0);
	check("movs_from_device_accesses", log_count(), 8);
	reset();
	di = (uintptr_t)mmio;
	si = (uintptr_t)source;
	cx = 4;
	__asm__ volatile("rep movsq" : "+D"(di), "+S"(si), "+c"(cx)::"memory");
	for (unsigned i = 0; i < 4; i++)
		bad += log_data(i) != *(uint64_t *)(void *)(source + 8 * i);
	check("movs_to_device", bad, 0);
	check("movs_to_device_accesses", log_count(), 4);
	reset();
	di = (uintptr_t)mmio;
	cx = 6;
	__asm__ volatile("rep stosw"
			 : "+D"(di), "+c"(cx)
			 : "a"(0x4321)
			 : "memory");
	for (unsigned i = 0; i < 6; i++)
		bad += log_data(i) != 0x4321;
	check("stos_to_device", bad, 0);
	check("stos_to_device_accesses", log_count(), 6);
	si = (uintptr_t)mmio;
	__asm__ volatile("lodsl" : "+S"(si), "=a"(cx)::"memory");
	check("lods_from_device", (uint32_t)cx,
	    TEST_BYTE(TEST_MMIO + 0x4000) |
		(uint32_t)TEST_BYTE(TEST_MMIO + 0x4001) << 8 |
		(uint32_t)TEST_BYTE(TEST_MMIO + 0x4002) << 16 |
		(uint32_t)TEST_BYTE(TEST_MMIO + 0x4003) << 24);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	input();
	output();
	long_output();
	memory();
}
