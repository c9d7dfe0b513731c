/*
 * Guest RAM: the one place where a guest physical address becomes a pointer.
 *
 * RAM below 4 GiB lies at its own offset in the mapping; the part from 4 GiB on
 * follows it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "devhost/engine.h"
#include "proto/base.h"

#define HIGH_BASE (1ull << 32)
#define PAGE_MASK 4095u

/* Is [at, at + n) inside [0, size)? */
static bool
inside(uint64_t at, uint64_t n, uint64_t size)
{
	return at <= size && n <= size - at;
}

static __attribute__((warn_unused_result)) uint8_t *
translate(struct device *dev, uint64_t gpa, size_t n)
{
	if (!dev->ram)
		return NULL;
	if (inside(gpa, n, dev->ram_low))
		return dev->ram + gpa;
	if (gpa >= HIGH_BASE && inside(gpa - HIGH_BASE, n, dev->ram_high))
		return dev->ram + dev->ram_low + (gpa - HIGH_BASE);
	return NULL;
}

bool
device_dma_read(struct device *dev, uint64_t gpa, void *to, size_t n)
{
	const uint8_t *p = translate(dev, gpa, n);

	if (!p)
		return false;
	memcpy(to, p, n);
	return true;
}

bool
device_dma_write(struct device *dev, uint64_t gpa, const void *from, size_t n)
{
	uint8_t *p = translate(dev, gpa, n);

	if (!p)
		return false;
	memcpy(p, from, n);
	return true;
}

void *
device_dma_map(struct device *dev, uint64_t gpa, size_t n)
{
	return translate(dev, gpa, n);
}

bool
device_dma_discard(struct device *dev, uint64_t gpa, size_t n)
{
	uint8_t *p = translate(dev, gpa, n);

	if (!p || (gpa & PAGE_MASK) != 0 || (n & PAGE_MASK) != 0)
		return false;
	if (n == 0)
		return true;
	/* A hole in the memfd: gone from everybody's mapping. */
	if (madvise(p, n, MADV_REMOVE) < 0) {
		engine_fail(dev, -errno);
		return false;
	}
	return true;
}
