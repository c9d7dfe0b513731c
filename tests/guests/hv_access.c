/* Accesses of every width, string I/O, read-only and vanishing memory. */
#include "tests/guests/check.h"

static void
ports(void)
{
	for (unsigned i = 0; i < 16; i++) {
		outb((uint16_t)(PORT_SCRATCH + i), (uint8_t)(0x80 + i));
		CHECK(inb(PORT_SIZE) == 1);
	}
	CHECK(inb(PORT_SCRATCH + 3) == 0x83);
	CHECK(inw(PORT_SCRATCH + 4) == 0x8584);
	CHECK(inb(PORT_SIZE) == 2);
	CHECK(inl(PORT_SCRATCH + 8) == 0x8b8a8988);
	CHECK(inb(PORT_SIZE) == 4);
	outw(PORT_SCRATCH, 0x1234);
	outl(PORT_SCRATCH + 4, 0xcafe1234);
	CHECK(inl(PORT_SCRATCH) == 0x83821234);
	CHECK(inl(PORT_SCRATCH + 4) == 0xcafe1234);
	/* A read of one byte leaves the others of the register alone. */
	uint64_t rax = 0x1122334455667788;
	__asm__ volatile("inb %%dx, %%al" : "+a"(rax) : "d"(PORT_SCRATCH + 7));
	CHECK(rax == 0x11223344556677ca);
	rax = 0x1122334455667788;
	__asm__ volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(PORT_SCRATCH + 4));
	CHECK(rax == 0xcafe1234);
}

#define STRING(op, type, reg)                                \
	static void op(type *buf, unsigned n)                \
	{                                                    \
		uint64_t count = n;                          \
		uint16_t port = PORT_FIFO;                   \
		__asm__ volatile("cld; rep " #op             \
				 : "+" reg(buf), "+c"(count) \
				 : "d"(port)                 \
				 : "memory");                \
		CHECK(count == 0);                           \
	}
STRING(insb, uint8_t, "D")
STRING(insw, uint16_t, "D")
STRING(insl, uint32_t, "D")
STRING(outsb, uint8_t, "S")
STRING(outsw, uint16_t, "S")
STRING(outsl, uint32_t, "S")

static void
strings(void)
{
	static uint8_t b[8];
	static uint16_t w[8];
	static uint32_t l[8];

	insb(b, 5);
	insw(w, 5);
	insl(l, 5);
	for (unsigned i = 0; i < 5; i++) {
		CHECK(b[i] == 1 + i);
		CHECK(w[i] == 6 + i);
		CHECK(l[i] == 11 + i);
	}
	CHECK(b[5] == 0 && w[5] == 0 && l[5] == 0);
	w[0] = 0x1000;
	l[0] = 0x100000;
	(void)inl(PORT_SUM);
	outsb(b, 5);
	CHECK(inl(PORT_SUM) == 15);
	outsw(w, 2);
	CHECK(inl(PORT_SUM) == 0x1007);
	outsl(l, 3);
	CHECK(inl(PORT_SUM) == 0x10000c + 13);
}

static void
memory_mapped(void)
{
	volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)MMIO_BASE;

	*(volatile uint64_t *)p = 0x8877665544332211;
	CHECK(inb(PORT_SIZE) == 8);
	CHECK(p[0] == 0x11);
	CHECK(inb(PORT_SIZE) == 1);
	CHECK(*(volatile uint16_t *)(p + 2) == 0x4433);
	CHECK(inb(PORT_SIZE) == 2);
	CHECK(*(volatile uint32_t *)(p + 4) == 0x88776655);
	CHECK(inb(PORT_SIZE) == 4);
	CHECK(*(volatile uint64_t *)p == 0x8877665544332211);
	p[7] = 0x99;
	*(volatile uint16_t *)(p + 4) = 0xaaaa;
	*(volatile uint32_t *)p = 0xbbbbbbbb;
	CHECK(*(volatile uint64_t *)p == 0x9977aaaabbbbbbbb);
	/* Read, change and write of one instruction. */
	__asm__ volatile("addl $1, %0" : "+m"(*(volatile uint32_t *)p));
	CHECK(*(volatile uint32_t *)p == 0xbbbbbbbc);
	/* Sign and zero extension. */
	int64_t s;
	__asm__ volatile("movsbq %1, %0" : "=r"(s) : "m"(p[7]));
	CHECK(s == -0x67);
	/* Strings from RAM to a device and back. */
	static uint32_t from[4] = { 1, 2, 3, 4 }, to[4];
	void *src = from, *dst = (void *)(uintptr_t)(MMIO_BASE + 64);
	uint64_t n = 4;
	__asm__ volatile("rep movsl" : "+S"(src), "+D"(dst), "+c"(n)::"memory");
	src = (void *)(uintptr_t)(MMIO_BASE + 64);
	dst = to;
	n = 4;
	__asm__ volatile("rep movsl" : "+S"(src), "+D"(dst), "+c"(n)::"memory");
	for (unsigned i = 0; i < 4; i++)
		CHECK(to[i] == i + 1);
}

static void
slots(void)
{
	volatile uint32_t *rom = reg32(ROM_BASE), *slot = reg32(SLOT_BASE);

	CHECK(rom[1] == 0x204d4f52);
	rom[1] = 7; /* to the handler, which keeps it in the MMIO page */
	CHECK(rom[1] == 0x204d4f52);
	CHECK(*reg32(MMIO_BASE + 4) == 7);
	CHECK(*slot == UINT32_MAX); /* nobody's */
	for (uint32_t round = 1; round <= 3; round++) {
		check_act(1); /* the slot comes */
		*slot = round;
		CHECK(*slot == round);
		check_act(2); /* and goes */
		CHECK(*slot == UINT32_MAX);
	}
}

void
guest_main(const void *start_info)
{
	(void)start_info;
	check_init();
	ports();
	strings();
	memory_mapped();
	slots();
	check_end();
}
