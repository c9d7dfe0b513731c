/* A whole disk: every request, every option, every way for it to fail. */
#include <CUnit/Basic.h>
#include <errno.h>

#include "tests/disk_guest.h"
#include "tests/named_tests.h"

#define DISK_SIZE (1u << 20)
#define SECTORS	  (DISK_SIZE / 512)

struct options {
	const char *key[4], *value[4];
};

struct disk {
	struct harness h;
	struct driver d;
	struct guest_request r;
	int file; /* our own fd of it */
	struct options options;
};

static int
set_options(struct device *dev, void *ctx)
{
	const struct options *o = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 4 && o->key[i]; i++)
		rc = dev->type->ops->configure(dev, o->key[i], o->value[i]);
	return rc;
}

/* What starting a disk with these options on that file returns. */
static int
start_disk(struct disk *t, int file, bool fence, const struct options *o)
{
	const struct device_type *type = device_type_find("virtio-blk");
	struct harness_want want = { .file = { file, -1 } };
	int rc;

	memset(t, 0, sizeof(*t));
	t->file = dup(file);
	if (o)
		t->options = *o;
	if (fence)
		want.file[1] = fence_mailbox();
	harness_make_want(&t->h, type, &want);
	harness_prepare(&t->h, type);
	rc = engine_attach(&t->h.dev, type, &t->h.config);
	BUG_ON(rc != 0);
	return engine_start(&t->h.dev, set_options, &t->options);
}

static void
open_disk_on(struct disk *t, int file, bool fence, const struct options *o)
{
	BUG_ON(start_disk(t, file, fence, o) != 0);
	driver_open(&t->d, &t->h, GUEST_FEATURES);
	guest_make(&t->d, &t->r, 128 << 10);
}

static int
make_file(uint64_t size)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	BUG_ON(fd < 0 || ftruncate(fd, (off_t)size) < 0);
	return fd;
}

static void
open_disk(struct disk *t, bool fence, const struct options *o)
{
	open_disk_on(t, make_file(DISK_SIZE), fence, o);
}

static void
close_disk(struct disk *t)
{
	CU_ASSERT_EQUAL(t->h.dev.error, 0);
	harness_close(&t->h);
	close(t->file);
}

static uint8_t *
data_of(struct disk *t)
{
	return harness_ram(&t->h, t->r.data, 128 << 10);
}

static uint64_t
counter(struct disk *t, enum block_counter c)
{
	return stats_get(&t->h.dev.store.stats->own[c]);
}

/* Is the file's content at that sector all of this byte? */
static bool
file_has(struct disk *t, uint64_t sector, uint8_t byte)
{
	uint8_t buf[512];

	if (pread(t->file, buf, 512, (off_t)(sector * 512)) != 512)
		return false;
	for (unsigned i = 0; i < 512; i++)
		if (buf[i] != byte)
			return false;
	return true;
}

static uint8_t
write_bytes(struct disk *t, uint64_t sector, uint32_t len, uint8_t byte)
{
	memset(data_of(t), byte, len);
	return guest_do(&t->d, &t->r, VIRTIO_BLK_T_OUT, sector, len, false);
}

static uint8_t
read_bytes(struct disk *t, uint64_t sector, uint32_t len)
{
	memset(data_of(t), 0xcc, len);
	return guest_do(&t->d, &t->r, VIRTIO_BLK_T_IN, sector, len, true);
}

static uint8_t
do_range(
    struct disk *t, uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct guest_range range = { sector, n, flags };

	memcpy(data_of(t), &range, sizeof(range));
	return guest_do(&t->d, &t->r, type, 0, sizeof(range), false);
}

static void
does_every_request_on_both_backends(void)
{
	for (unsigned fence = 0; fence < 2; fence++) {
		struct disk t;
		struct options o = { { "serial" }, { "disk-0123456789abcde" } };

		open_disk(&t, fence, &o);
		CU_ASSERT_EQUAL(write_bytes(&t, 10, 4096, 0x5a), 0);
		CU_ASSERT_TRUE(file_has(&t, 10, 0x5a));
		CU_ASSERT_TRUE(file_has(&t, 17, 0x5a));
		CU_ASSERT_TRUE(file_has(&t, 18, 0));
		CU_ASSERT_EQUAL(read_bytes(&t, 16, 1536), 0);
		CU_ASSERT_EQUAL(data_of(&t)[1023], 0x5a);
		CU_ASSERT_EQUAL(data_of(&t)[1024], 0);
		CU_ASSERT_EQUAL(data_of(&t)[1535], 0);
		CU_ASSERT_EQUAL(data_of(&t)[1536], 0x5a);
		CU_ASSERT_EQUAL(
		    guest_do(&t.d, &t.r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
		CU_ASSERT_EQUAL(
		    guest_do(&t.d, &t.r, VIRTIO_BLK_T_GET_ID, 0, 20, true), 0);
		CU_ASSERT_EQUAL(
		    memcmp(data_of(&t), "disk-0123456789abcde", 20), 0);
		CU_ASSERT_EQUAL(
		    do_range(&t, VIRTIO_BLK_T_WRITE_ZEROES, 10, 2, 0), 0);
		CU_ASSERT_TRUE(file_has(&t, 11, 0));
		CU_ASSERT_TRUE(file_has(&t, 12, 0x5a));
		CU_ASSERT_EQUAL(
		    do_range(&t, VIRTIO_BLK_T_WRITE_ZEROES, 12, 2, 1), 0);
		CU_ASSERT_TRUE(file_has(&t, 13, 0));
		CU_ASSERT_TRUE(file_has(&t, 14, 0x5a));
		CU_ASSERT_EQUAL(
		    do_range(&t, VIRTIO_BLK_T_DISCARD, 14, 4, 0), 0);
		/* Zeroes of many pieces. */
		CU_ASSERT_EQUAL(write_bytes(&t, SECTORS - 1, 512, 1), 0);
		CU_ASSERT_EQUAL(
		    do_range(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, SECTORS, 0), 0);
		CU_ASSERT_TRUE(file_has(&t, SECTORS - 1, 0));
		CU_ASSERT_EQUAL(guest_do(&t.d, &t.r, 99, 0, 0, false), 2);
		CU_ASSERT_EQUAL(read_bytes(&t, SECTORS, 512), 1);
		CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_ERRORS), 2);
		CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_FLUSHES), 1);
		CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_DISCARDS), 1);
		close_disk(&t);
	}
}

static void
says_what_it_is(void)
{
	struct disk t;
	struct options o = { { "queues", "block-size" }, { "4", "4096" } };

	open_disk(&t, false, &o);
	CU_ASSERT_EQUAL(driver_config(&t.d, 0, 8), SECTORS);
	CU_ASSERT_EQUAL(driver_config(&t.d, 12, 4), 128);
	CU_ASSERT_EQUAL(driver_config(&t.d, 20, 4), 4096);
	CU_ASSERT_EQUAL(driver_config(&t.d, 32, 1), 1);
	CU_ASSERT_EQUAL(driver_config(&t.d, 34, 2), 4);
	CU_ASSERT_EQUAL(driver_config(&t.d, 40, 4), BLOCK_SEGMENTS_MAX);
	CU_ASSERT_EQUAL(driver_config(&t.d, 56, 1), 1);
	/* RO (5) is not offered; DISCARD and WRITE_ZEROES are. */
	CU_ASSERT_EQUAL(driver_offered(&t.d) & 0x7fff, 0x7e44);
	CU_ASSERT_EQUAL(write_bytes(&t, 8, 4096, 1), 0);
	CU_ASSERT_EQUAL(write_bytes(&t, 8, 512, 1), 1);
	close_disk(&t);
}

static void
a_read_only_disk_offers_and_does_no_writing(void)
{
	struct disk t;
	struct options o = { { "read-only" }, { "on" } };

	open_disk(&t, true, &o);
	CU_ASSERT_EQUAL(driver_offered(&t.d) & 0x7fff, 0x1e64);
	CU_ASSERT_EQUAL(write_bytes(&t, 0, 512, 1), 1);
	CU_ASSERT_EQUAL(do_range(&t, VIRTIO_BLK_T_DISCARD, 0, 8, 0), 2);
	CU_ASSERT_EQUAL(read_bytes(&t, 0, 512), 0);
	close_disk(&t);
}

static void
refuses_options_and_files_that_cannot_be(void)
{
	static const struct {
		struct options o;
		uint64_t size;
		int want;
	} table[] = {
		{ { { "queues" }, { "0" } }, DISK_SIZE, -EINVAL },
		{ { { "queues" }, { "17" } }, DISK_SIZE, -EINVAL },
		{ { { "queues" }, { "4x" } }, DISK_SIZE, -EINVAL },
		{ { { "queues" }, { "16" } }, DISK_SIZE, 0 },
		{ { { "serial" }, { "123456789012345678901" } }, DISK_SIZE,
		    -EINVAL },
		{ { { "cache" }, { "sometimes" } }, DISK_SIZE, -EINVAL },
		{ { { "discard" }, { "on" } }, DISK_SIZE, -EINVAL },
		{ { { "read-only" }, { "yes" } }, DISK_SIZE, -EINVAL },
		{ { { "block-size" }, { "1024" } }, DISK_SIZE, -EINVAL },
		{ { { "bps" }, { "-1" } }, DISK_SIZE, -EINVAL },
		{ { { "bps" }, { "10M" } }, DISK_SIZE, 0 },
		{ { { "iops" }, { "99999999999999999999" } }, DISK_SIZE,
		    -EINVAL },
		{ { { "colour" }, { "blue" } }, DISK_SIZE, -ENOENT },
		{ { { "size" }, { "64K" } }, DISK_SIZE, 0 },
		{ { { "size" }, { "2M" } }, DISK_SIZE, -EINVAL },
		{ { { "size" }, { "1000" } }, DISK_SIZE, -EINVAL },
		{ { { NULL }, { NULL } }, 0, -EINVAL },
		{ { { NULL }, { NULL } }, 1000, -EINVAL },
		{ { { NULL }, { NULL } }, 512, 0 },
		{ { { "block-size" }, { "4096" } }, 512, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		struct disk t;

		CU_ASSERT_EQUAL(start_disk(&t, make_file(table[i].size), false,
				    &table[i].o),
		    table[i].want);
		if (table[i].want != 0 && table[i].size != DISK_SIZE)
			CU_ASSERT_NOT_EQUAL(t.h.dev.line[0], '\0');
		harness_close(&t.h);
		close(t.file);
	}
}

static void
grows_and_shrinks_while_it_runs(void)
{
	static const char *const rescan[] = { "rescan" },
				 *const size[] = { "size" };
	static const char *const now[] = { "now" }, *const half[] = { "512K" },
				 *const big[] = { "1G" };
	struct disk t;
	unsigned bad;

	open_disk(&t, true, NULL);
	CU_ASSERT_EQUAL(read_bytes(&t, SECTORS, 512), 1);
	BUG_ON(ftruncate(t.file, 2 * DISK_SIZE) < 0);
	CU_ASSERT_EQUAL(read_bytes(&t, SECTORS, 512), 1);
	harness_msi(&t.h, 0);
	CU_ASSERT_EQUAL(engine_reconfigure(&t.h.dev, 1, rescan, now, &bad), 0);
	CU_ASSERT_EQUAL(harness_msi(&t.h, 0), 1);
	CU_ASSERT_EQUAL(driver_config(&t.d, 0, 8), 2 * SECTORS);
	CU_ASSERT_EQUAL(read_bytes(&t, SECTORS, 512), 0);
	CU_ASSERT_EQUAL(engine_reconfigure(&t.h.dev, 1, size, half, &bad), 0);
	CU_ASSERT_EQUAL(harness_msi(&t.h, 0), 1);
	CU_ASSERT_EQUAL(driver_config(&t.d, 0, 8), SECTORS / 2);
	CU_ASSERT_EQUAL(
	    engine_reconfigure(&t.h.dev, 1, size, big, &bad), -EINVAL);
	CU_ASSERT_EQUAL(driver_config(&t.d, 0, 8), SECTORS / 2);
	CU_ASSERT_EQUAL(harness_msi(&t.h, 0), 0);
	close_disk(&t);
}

static void
a_file_cut_off_under_it_gives_errors(void)
{
	for (unsigned fence = 0; fence < 2; fence++) {
		struct disk t;

		open_disk(&t, fence, NULL);
		BUG_ON(ftruncate(t.file, DISK_SIZE / 2 + 512) < 0);
		CU_ASSERT_EQUAL(read_bytes(&t, SECTORS - 8, 4096), 1);
		CU_ASSERT_EQUAL(read_bytes(&t, SECTORS / 2 - 7, 4608), 1);
		CU_ASSERT_EQUAL(read_bytes(&t, SECTORS / 2 - 7, 4096), 0);
		CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_ERRORS), 2);
		close_disk(&t);
	}
}

/* A write to a file sealed against writing is refused by the kernel. */
static void
what_the_host_refuses_is_an_error_of_the_request(void)
{
	for (unsigned fence = 0; fence < 2; fence++) {
		struct disk t;
		int fd = memfd_create("sealed", MFD_ALLOW_SEALING);

		BUG_ON(ftruncate(fd, DISK_SIZE) < 0 ||
		    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
		open_disk_on(&t, fd, fence, NULL);
		CU_ASSERT_EQUAL(write_bytes(&t, 0, 512, 1), 1);
		CU_ASSERT_EQUAL(read_bytes(&t, 0, 512), 0);
		close_disk(&t);
	}
}

static void
a_chain_that_cannot_be_answered_breaks_the_device(void)
{
	struct disk t;
	struct driver_seg s = { 0, 16, false };

	open_disk(&t, false, NULL);
	s.gpa = t.r.header;
	driver_put(&t.d, 0, &s, 1);
	driver_kick(&t.d, 0);
	harness_run(&t.h);
	CU_ASSERT_TRUE(driver_status(&t.d) & VIRTIO_NEEDS_RESET);
	/* And a reset makes it whole. */
	driver_open(&t.d, &t.h, GUEST_FEATURES);
	guest_make(&t.d, &t.r, 128 << 10);
	CU_ASSERT_EQUAL(write_bytes(&t, 1, 512, 7), 0);
	close_disk(&t);
}

static void
the_driver_chooses_when_writes_are_durable(void)
{
	struct disk t;
	struct options o = { { "cache" }, { "writethrough" } };

	open_disk(&t, true, &o);
	CU_ASSERT_EQUAL(driver_config(&t.d, 32, 1), 0);
	driver_write(&t.d, VIRTIO_REGION_REGISTERS, 0x2020, 1, 1);
	CU_ASSERT_EQUAL(driver_config(&t.d, 32, 1), 1);
	CU_ASSERT_EQUAL(write_bytes(&t, 1, 512, 7), 0);
	driver_write(&t.d, VIRTIO_REGION_REGISTERS, 0x2020, 1, 0);
	driver_write(&t.d, VIRTIO_REGION_REGISTERS, 0x2020, 1, 2);
	driver_write(&t.d, VIRTIO_REGION_REGISTERS, 0x2000, 1, 9);
	CU_ASSERT_EQUAL(driver_config(&t.d, 32, 1), 0);
	CU_ASSERT_EQUAL(driver_config(&t.d, 0, 8), SECTORS);
	CU_ASSERT_EQUAL(write_bytes(&t, 2, 512, 7), 0);
	CU_ASSERT_EQUAL(do_range(&t, VIRTIO_BLK_T_WRITE_ZEROES, 2, 1, 0), 0);
	CU_ASSERT_TRUE(file_has(&t, 2, 0));
	driver_set_status(&t.d, 0);
	CU_ASSERT_EQUAL(driver_config(&t.d, 32, 1), 0);
	close_disk(&t);
}

static void
unaligned_memory_is_bounced_for_direct_io(void)
{
	char name[] = "block_test.XXXXXX";
	struct options o = { { "cache" }, { "none" } };
	struct disk t;
	int fd = mkstemp(name);

	BUG_ON(fd < 0 || unlink(name) < 0 || ftruncate(fd, DISK_SIZE) < 0);
	if (fcntl(fd, F_SETFL, O_DIRECT) < 0)
		printf(" (no O_DIRECT here: bounced for nothing) ");
	for (unsigned fence = 0; fence < 2; fence++) {
		uint64_t base;

		open_disk_on(&t, dup(fd), fence, &o);
		base = t.r.data;
		for (unsigned odd = 0; odd < 3; odd++) {
			uint8_t *p;

			t.r.data = base + 512 + odd;
			p = harness_ram(&t.h, t.r.data, 75 << 10);
			memset(p, (int)(0x60 + odd), 75 << 10);
			CU_ASSERT_EQUAL(guest_do(&t.d, &t.r, VIRTIO_BLK_T_OUT,
					    8, 75 << 10, false),
			    0);
			memset(p, 0, 75 << 10);
			CU_ASSERT_EQUAL(guest_do(&t.d, &t.r, VIRTIO_BLK_T_IN, 8,
					    75 << 10, true),
			    0);
			CU_ASSERT_EQUAL(p[0], 0x60 + odd);
			CU_ASSERT_EQUAL(p[(75 << 10) - 1], 0x60 + odd);
		}
		CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_BOUNCED), 4);
		close_disk(&t);
	}
	close(fd);
}

static void
limits_hold_requests_back_in_order(void)
{
	static const char *const key[] = { "iops" }, *const none[] = { "0" };
	struct options o = { { "iops", "iops-burst" }, { "1", "1" } };
	struct guest_request r[4];
	struct disk t;
	uint64_t wait;
	unsigned bad;

	open_disk(&t, false, &o);
	for (unsigned i = 0; i < 4; i++) {
		guest_make(&t.d, &r[i], 512);
		guest_put(&t.d, &r[i], 0, VIRTIO_BLK_T_IN, i, 512, true);
	}
	driver_kick(&t.d, 0);
	harness_run(&t.h);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[0]), 0);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[3]), GUEST_PENDING);
	CU_ASSERT(counter(&t, BLOCK_COUNT_THROTTLED) >= 2);
	wait = engine_timer(&t.h.dev);
	CU_ASSERT(wait <= 1000000000ull);
	/* Half a minute later they may all go, one second after the other. */
	t.h.dev.clock_offset_ns += 30000000000;
	engine_timer(&t.h.dev);
	harness_run(&t.h);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[1]), 0);
	/* Without the limit nothing is held back any more. */
	CU_ASSERT_EQUAL(engine_reconfigure(&t.h.dev, 1, key, none, &bad), 0);
	harness_run(&t.h);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[3]), 0);
	CU_ASSERT_EQUAL(engine_timer(&t.h.dev), UINT64_MAX);
	close_disk(&t);
}

static void
requests_held_back_outlive_the_process(void)
{
	struct options o = { { "iops" }, { "1" } };
	struct guest_request r[8];
	struct disk t;

	open_disk(&t, false, &o);
	for (unsigned i = 0; i < 4; i++) {
		guest_make(&t.d, &r[i], 512);
		memset(driver_at(&t.d, r[i].data), (int)i + 1, 512);
		guest_put(&t.d, &r[i], 0, VIRTIO_BLK_T_OUT, i, 512, false);
	}
	driver_kick(&t.d, 0);
	harness_run(&t.h);
	CU_ASSERT_EQUAL(guest_status(&t.d, &r[3]), GUEST_PENDING);
	for (unsigned i = 0; i < 10; i++) {
		harness_restart(&t.h);
		t.h.dev.clock_offset_ns += 1000000000;
		t.h.config.clock_offset_ns += 1000000000;
		engine_timer(&t.h.dev);
		harness_run(&t.h);
	}
	for (unsigned i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(guest_status(&t.d, &r[i]), 0);
		CU_ASSERT_TRUE(file_has(&t, i, (uint8_t)(i + 1)));
	}
	close_disk(&t);
}

static void
unsafe_flushes_do_nothing(void)
{
	struct options o = { { "cache" }, { "unsafe" } };
	struct disk t;

	open_disk(&t, true, &o);
	CU_ASSERT_EQUAL(
	    guest_do(&t.d, &t.r, VIRTIO_BLK_T_FLUSH, 0, 0, false), 0);
	CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_FLUSHES), 1);
	CU_ASSERT_EQUAL(counter(&t, BLOCK_COUNT_ERRORS), 0);
	close_disk(&t);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(does_every_request_on_both_backends),
		NAMED_TEST(says_what_it_is),
		NAMED_TEST(a_read_only_disk_offers_and_does_no_writing),
		NAMED_TEST(refuses_options_and_files_that_cannot_be),
		NAMED_TEST(grows_and_shrinks_while_it_runs),
		NAMED_TEST(a_file_cut_off_under_it_gives_errors),
		NAMED_TEST(what_the_host_refuses_is_an_error_of_the_request),
		NAMED_TEST(a_chain_that_cannot_be_answered_breaks_the_device),
		NAMED_TEST(the_driver_chooses_when_writes_are_durable),
		NAMED_TEST(unaligned_memory_is_bounced_for_direct_io),
		NAMED_TEST(limits_hold_requests_back_in_order),
		NAMED_TEST(requests_held_back_outlive_the_process),
		NAMED_TEST(unsafe_flushes_do_nothing),
	};

	return named_tests_run("block", tests, ARRAY_LEN(tests));
}
