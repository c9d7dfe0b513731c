/*
 * A hostile guest: drives every register of every PCI function and of the
 * platform, and virtqueues full of whatever memory holds, at random from a seed
 * (the command line, a number).  It spares the registers that would end the
 * machine, and ends it itself.
 */
#include "tests/guests/guest.h"

#define STEPS	  60000u
#define ECAM	  0xe0000000ull
#define SLOTS	  8u
#define BARS	  0xc0000000ull
#define BAR_BYTES 0x10000u
#define ARENA	  (8ull << 20) /* guest memory for rings and buffers */
#define ARENA_LEN (16u << 20)
#define CMDLINE	  24 /* of PVH's start_info */

static uint64_t seed;

static uint32_t
any(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return below == 0 ? (uint32_t)(seed >> 16)
			  : (uint32_t)(seed >> 16) % below;
}

/* Small, large, one bit, anything. */
static uint32_t
value(void)
{
	switch (any(5)) {
	case 0:
		return any(256);
	case 1:
		return ~any(16);
	case 2:
		return 1u << any(32);
	case 3:
		return (uint32_t)ARENA + (any(ARENA_LEN) & ~15u);
	default:
		return any(0);
	}
}

static void
touch(uint64_t addr)
{
	switch (any(8)) {
	case 0:
		*(volatile uint8_t *)addr = (uint8_t)value();
		break;
	case 1:
		*(volatile uint16_t *)addr = (uint16_t)value();
		break;
	case 2:
	case 3:
		*(volatile uint32_t *)addr = value();
		break;
	case 4:
		*(volatile uint64_t *)addr = (uint64_t)value() << 32 | value();
		break;
	case 5:
		(void)*(volatile uint8_t *)addr;
		break;
	case 6:
		(void)*(volatile uint32_t *)addr;
		break;
	default:
		(void)*(volatile uint64_t *)addr;
		break;
	}
}

static void
touch_port(void)
{
	static const struct {
		uint16_t base, count;
	} ranges[] = { { 0x20, 2 }, { 0x40, 4 }, { 0x60, 1 }, { 0x70, 2 },
		{ 0xa0, 2 }, { 0x3f8, 8 }, { 0x4d0, 2 }, { 0x600, 16 },
		{ 0xcf8, 8 }, { 0, 0xffff } };
	unsigned r = any(10);
	uint16_t port = (uint16_t)(ranges[r].base + any(ranges[r].count));

	/* The power button's other side, and resets. */
	if ((port >= 0x601 && port <= 0x605) ||
	    (port >= 0xcf6 && port <= 0xcf9) || (port >= 0x61 && port <= 0x64))
		return;
	switch (any(6)) {
	case 0:
		outb(port, (uint8_t)value());
		break;
	case 1:
		outw(port, (uint16_t)value());
		break;
	case 2:
		outl(port, value());
		break;
	case 3:
		inb(port);
		break;
	case 4:
		inw(port);
		break;
	default:
		inl(port);
		break;
	}
}

static uint64_t
function(unsigned slot)
{
	return ECAM + ((uint64_t)slot << 15);
}

static uint64_t
bar(unsigned slot)
{
	return BARS + (uint64_t)slot * BAR_BYTES;
}

/* Where they are to be, and on. */
static void
decode(unsigned slot)
{
	volatile uint32_t *c = (volatile uint32_t *)function(slot);

	/* 64 bits each, or else half of them are where nothing is. */
	for (unsigned i = 4; i < 10; i += 2) {
		c[i] = (uint32_t)bar(slot) + (i - 4) * (BAR_BYTES / 8);
		c[i + 1] = 0;
	}
	c[1] = 0x406;
}

/* As a driver begins, with queues and a device that make no sense. */
static void
begin(unsigned slot)
{
	uint64_t at = bar(slot);
	volatile uint8_t *b = (volatile uint8_t *)at;

	decode(slot);
	b[0x14] = 0;
	b[0x14] = 3;
	*(volatile uint32_t *)(at + 8) = any(2);
	*(volatile uint32_t *)(at + 12) = any(4) == 0 ? value() : 1;
	*(volatile uint32_t *)(at + 8) = 0;
	*(volatile uint32_t *)(at + 12) = any(3) == 0 ? value() : 0;
	b[0x14] = 11;
	for (unsigned q = 0; q < 4; q++) {
		*(volatile uint16_t *)(at + 0x16) = (uint16_t)q;
		*(volatile uint16_t *)(at + 0x18) =
		    (uint16_t)(any(8) == 0 ? value() : 1u << any(9));
		*(volatile uint16_t *)(at + 0x1a) = (uint16_t)any(4);
		for (unsigned r = 0x20; r < 0x38; r += 8) {
			*(volatile uint32_t *)(at + r) =
			    (uint32_t)ARENA + (any(ARENA_LEN) & ~4095u);
			*(volatile uint32_t *)(at + r + 4) =
			    any(16) == 0 ? value() : 0;
		}
		*(volatile uint16_t *)(at + 0x1c) = 1;
	}
	b[0x14] = 15;
}

/* Something that may be a descriptor, an index, a request's header. */
static void
scribble(void)
{
	uint64_t at = ARENA + (any(ARENA_LEN - 65536) & ~15u);

	for (unsigned i = 0; i < 64; i++, at += 16) {
		*(volatile uint64_t *)at = ARENA + any(ARENA_LEN);
		*(volatile uint32_t *)(at + 8) = any(3) ? any(4096) : value();
		*(volatile uint32_t *)(at + 12) =
		    any(3) ? any(8) | any(16) << 16 : value();
	}
}

static void
step(void)
{
	unsigned slot = any(SLOTS);

	switch (any(10)) {
	case 0:
		touch(function(slot) + (any(4096) & ~7u));
		break;
	case 1:
		touch(function(slot) + any(64));
		break;
	case 2:
		touch_port();
		break;
	case 3:
		begin(slot);
		break;
	case 4:
	case 5:
		scribble();
		break;
	case 6:
		/* A doorbell. */
		*(volatile uint16_t *)(bar(slot) + 0x3000 + any(8) * 4) =
		    (uint16_t)any(8);
		break;
	case 7:
		touch(bar(slot) + (any(64) & ~3u));
		break;
	case 8:
		touch(BARS + any(SLOTS * BAR_BYTES));
		break;
	default:
		decode(slot);
		break;
	}
}

void
guest_main(const void *start_info)
{
	const char *s = (const char *)*(
	    const uint64_t *)((const char *)start_info + CMDLINE);

	seed = 88172645463325252ull;
	for (; s != 0 && *s >= '0' && *s <= '9'; s++)
		seed = seed * 10 + (uint64_t)(*s - '0');
	seed = seed * 0x9e3779b97f4a7c15ull | 1;
	guest_print("chaos: go\n");
	for (unsigned i = 0; i < STEPS; i++)
		step();
	guest_print("chaos: end\n");
	guest_end();
}
