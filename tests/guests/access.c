/* Port and memory accesses of every width, as the handler sees them. */
#include "tests/guests/testing.h"

static uint64_t
pattern(uint64_t addr, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)TEST_BYTE(addr + i) << 8 * i;
	return v;
}

/* The log has one access more: this one. */
static void
check_log(const char *name, uint64_t index, uint32_t addr, uint32_t what,
    uint64_t data)
{
	uint64_t got = test(TEST_LOG_GET, index, 0, 0);

	if (inl(TEST_LOG_ADDR) != addr || inl(TEST_LOG_WHAT) != what)
		guest_print("fail %s: 0x%x at 0x%x, want 0x%x at 0x%x\n", name,
		    inl(TEST_LOG_WHAT), inl(TEST_LOG_ADDR), what, addr);
	else if (what & LOG_WRITE)
		check(name, got, data);
	else
		check(name, 0, 0);
}

static void
check_count(const char *name, uint64_t want)
{
	check(name, test(TEST_LOG_COUNT, 0, 0, 0), want);
}

static void
ports(void)
{
	uint64_t rax;

	test(TEST_LOG_CLEAR, 0, 0, 0);
	outb(0x801, 0xa5);
	outw(0x803, 0xbeef);
	outl(0x806, 0xdeadbeef);
	check_log("out_byte", 0, 0x801, 1 | LOG_WRITE, 0xa5);
	check_log("out_word_odd", 1, 0x803, 2 | LOG_WRITE, 0xbeef);
	check_log("out_dword_unaligned", 2, 0x806, 4 | LOG_WRITE, 0xdeadbeef);
	test(TEST_LOG_CLEAR, 0, 0, 0);
	check("in_byte", inb(0x811), pattern(0x811, 1));
	check("in_word_odd", inw(0x813), pattern(0x813, 2));
	check("in_dword_unaligned", inl(0x816), pattern(0x816, 4));
	check_log("in_byte_seen", 0, 0x811, 1, 0);
	check_log("in_word_seen", 1, 0x813, 2, 0);
	check_log("in_dword_seen", 2, 0x816, 4, 0);
	check_count("ports_nothing_more", 3);
	check("unclaimed_byte", inb(0x2f1), 0xff);
	check("unclaimed_dword", inl(0x2f4), 0xffffffff);
	/* An in of 8 or 16 bits keeps the rest of rax; of 32 clears it. */
	rax = 0x1122334455667788;
	__asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(0x811));
	check("in_byte_keeps_rax", rax, 0x1122334455667700 | pattern(0x811, 1));
	rax = 0x1122334455667788;
	__asm__ volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(0x811));
	check("in_word_keeps_rax", rax, 0x1122334455660000 | pattern(0x811, 2));
	rax = 0x1122334455667788;
	__asm__ volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(0x811));
	check("in_dword_clears_rax", rax, pattern(0x811, 4));
}

#define MMIO(type, addr) (*(volatile type *)(uintptr_t)(addr))

static void
memory(void)
{
	const uint32_t m = TEST_MMIO + 0x1000;

	test(TEST_LOG_CLEAR, 0, 0, 0);
	MMIO(uint8_t, m + 1) = 0x5a;
	MMIO(uint16_t, m + 2) = 0x1234;
	MMIO(uint32_t, m + 4) = 0x89abcdef;
	MMIO(uint64_t, m + 8) = 0x0123456789abcdef;
	check_log("store_1", 0, m + 1, 1 | LOG_WRITE | LOG_MMIO, 0x5a);
	check_log("store_2", 1, m + 2, 2 | LOG_WRITE | LOG_MMIO, 0x1234);
	check_log("store_4", 2, m + 4, 4 | LOG_WRITE | LOG_MMIO, 0x89abcdef);
	check_log(
	    "store_8", 3, m + 8, 8 | LOG_WRITE | LOG_MMIO, 0x0123456789abcdef);
	check("load_1", MMIO(uint8_t, m + 0x11), pattern(m + 0x11, 1));
	check("load_2", MMIO(uint16_t, m + 0x12), pattern(m + 0x12, 2));
	check("load_4", MMIO(uint32_t, m + 0x14), pattern(m + 0x14, 4));
	check("load_8", MMIO(uint64_t, m + 0x18), pattern(m + 0x18, 8));
	check_log("load_1_seen", 4, m + 0x11, 1 | LOG_MMIO, 0);
	check_log("load_2_seen", 5, m + 0x12, 2 | LOG_MMIO, 0);
	check_log("load_4_seen", 6, m + 0x14, 4 | LOG_MMIO, 0);
	check_log("load_8_seen", 7, m + 0x18, 8 | LOG_MMIO, 0);
	check_count("memory_nothing_more", 8);
	check(
	    "load_2_unaligned", MMIO(uint16_t, m + 0x21), pattern(m + 0x21, 2));
	check(
	    "load_4_unaligned", MMIO(uint32_t, m + 0x23), pattern(m + 0x23, 4));
	check(
	    "load_8_unaligned", MMIO(uint64_t, m + 0x25), pattern(m + 0x25, 8));
	check("load_4_across_pages", MMIO(uint32_t, m + 0xffd),
	    pattern(m + 0xffd, 4));
	check("load_8_across_pages", MMIO(uint64_t, m + 0xffb),
	    pattern(m + 0xffb, 8));
}

/* Whatever the pieces of an unaligned store are, its bytes are the bytes. */
static void
store_in_pieces(const char *name, uint32_t addr, uint64_t v)
{
	uint64_t n, got = 0, bytes = 0;

	test(TEST_LOG_CLEAR, 0, 0, 0);
	MMIO(uint64_t, addr) = v;
	n = test(TEST_LOG_COUNT, 0, 0, 0);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t data = test(TEST_LOG_GET, i, 0, 0);
		uint32_t at = inl(TEST_LOG_ADDR), what = inl(TEST_LOG_WHAT);

		for (unsigned b = 0; b < (what & 0xff); b++, bytes++)
			if (at + b >= addr && at + b < addr + 8)
				got |= (data >> 8 * b & 0xff)
				    << 8 * (at + b - addr);
	}
	check(name, bytes == 8 ? got : bytes, v);
}

static void
instructions(void)
{
	const uint32_t m = TEST_MMIO + 0x3000;
	volatile uint32_t *p = &MMIO(uint32_t, m);
	uint64_t v;
	uint8_t below;

	test(TEST_LOG_CLEAR, 0, 0, 0);
	__asm__ volatile("orl $0x100ff00, %0" : "+m"(*p));
	check_log("or_reads", 0, m, 4 | LOG_MMIO, 0);
	check_log("or_writes", 1, m, 4 | LOG_WRITE | LOG_MMIO,
	    pattern(m, 4) | 0x100ff00);
	__asm__ volatile("addb $1, %0" : "+m"(*p));
	check_log("add_writes", 3, m, 1 | LOG_WRITE | LOG_MMIO,
	    (pattern(m, 1) + 1) & 0xff);
	__asm__ volatile("movzbl %1, %k0" : "=r"(v) : "m"(*p));
	check("movzx", v, pattern(m, 1));
	__asm__ volatile("movslq %1, %0" : "=r"(v) : "m"(*p));
	check("movsx", v, (uint64_t)(int64_t)(int32_t)pattern(m, 4));
	__asm__ volatile("cmpl %2, %1; setb %0"
			 : "=q"(below)
			 : "m"(*p), "r"((uint32_t)pattern(m, 4) + 1)
			 : "cc");
	check("cmp", below, 1);
	__asm__ volatile("movl $0x13572468, %0" : "=m"(*p));
	check_log(
	    "store_immediate", 7, m, 4 | LOG_WRITE | LOG_MMIO, 0x13572468);
	__asm__ volatile("xorl %1, %k0" : "=r"(v) : "m"(*p), "0"(0x5555ull));
	check("xor_from", v, pattern(m, 4) ^ 0x5555);
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	traps_init();
	ports();
	memory();
	store_in_pieces(
	    "store_8_unaligned", TEST_MMIO + 0x2003, 0x1122334455667788);
	store_in_pieces(
	    "store_8_across_pages", TEST_MMIO + 0x2ffd, 0x8877665544332211);
	instructions();
}
