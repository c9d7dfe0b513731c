/* libFuzzer: any bytes as a kernel, by every route of the loader. */
#include <string.h>
#include <sys/mman.h>

#include "devhost/loader.h"
#include "proto/base.h"

#define RAM_LOW	 (20ull << 20) /* a kernel at 16 MiB fits, little more */
#define RAM_HIGH (1ull << 20)
#define GUARD	 (1ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Guest RAM between two guards: what is written outside of it faults. */
static uint8_t *
map_ram(void)
{
	uint8_t *at = mmap(NULL, RAM_LOW + RAM_HIGH + 2 * GUARD, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	BUG_ON(at == MAP_FAILED);
	BUG_ON(mprotect(at + GUARD, RAM_LOW + RAM_HIGH,
		   PROT_READ | PROT_WRITE) != 0);
	return at + GUARD;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *ram;
	struct loader_result result = { 0 };
	char err[320] = "";
	int got;

	if (size == 0)
		return 0;
	if (ram == NULL)
		ram = map_ram();
	struct loader_input in = {
		.kernel = { .fd = -1, .bytes = data, .size = size },
		.initrd = { .fd = -1, .bytes = data, .size = size },
		.has_initrd = (size & 1) != 0,
		.cmdline = "quiet",
		.ram = ram,
		.ram_low = RAM_LOW,
		.ram_high = RAM_HIGH,
		.vcpus = 1,
	};

	got = loader_load(&in, &result, err, sizeof(err));
	if (got < 0) {
		BUG_ON(err[0] == '\0');
		return 0;
	}
	/* What is accepted lies in RAM, and nothing covers anything. */
	BUG_ON(result.mode != 32 && result.mode != 64);
	BUG_ON(result.kernel < LOADER_KERNEL_MIN);
	BUG_ON(result.kernel_end > RAM_LOW);
	BUG_ON(result.rip < result.kernel || result.rip >= result.kernel_end);
	if (result.initrd_size != 0) {
		BUG_ON(result.initrd < result.kernel_end);
		BUG_ON(result.initrd + result.initrd_size > RAM_LOW);
	}
	/* Keep the memory small, whatever the images asked for. */
	madvise(ram, RAM_LOW + RAM_HIGH, MADV_DONTNEED);
	return 0;
}
