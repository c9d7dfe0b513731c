/*
 * The fence: that a ring outlives its process, and that nothing outlives the
 * ring.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/block/fence.h"
#include "devices/block/uring.h"
#include "proto/base.h"
#include "tests/named_tests.h"

#define WRITES 64u
#define SIZE   (1u << 20) /* of each */

static struct uring ring;

/* Is it readable (or at its end)? */
static bool
is_ready(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/* Take steps 1 and 2 with a pipe of its own; its write end. */
static int
leave_pipe(struct fence *f)
{
	int p[2];

	BUG_ON(pipe2(p, O_CLOEXEC) < 0);
	CU_ASSERT_EQUAL(fence_leave(f, p[0]), 0);
	close(p[0]);
	return p[1];
}

static void
an_empty_mailbox_holds_nobody_up(void)
{
	int box = fence_mailbox();
	struct fence f;

	fence_open(&f, box, false);
	CU_ASSERT_EQUAL(fence_poll(&f), 1);
	CU_ASSERT_EQUAL(fence_wait(&f), 0);
	fence_open(&f, -1, false);
	CU_ASSERT_EQUAL(fence_poll(&f), 1);
	CU_ASSERT_EQUAL(fence_leave(&f, box), -EBADF);
	close(box);
}

static void
waits_until_the_predecessor_is_gone(void)
{
	int box = fence_mailbox(), end;
	struct fence a, b;

	fence_open(&a, box, false);
	end = leave_pipe(&a);
	fence_open(&b, box, false);
	CU_ASSERT_EQUAL(fence_poll(&b), 0);
	CU_ASSERT_FALSE(is_ready(b.behind, 0));
	close(end);
	CU_ASSERT_TRUE(is_ready(b.behind, 1000));
	CU_ASSERT_EQUAL(fence_poll(&b), 1);
	fence_close(&b);
	close(box);
}

/* Looking takes nothing away: the next one finds the same. */
static void
one_that_dies_waiting_leaves_the_fence_to_the_next(void)
{
	int box = fence_mailbox(), end, more;
	struct fence a, b, c;

	fence_open(&a, box, false);
	end = leave_pipe(&a);
	fence_open(&b, box, false);
	CU_ASSERT_EQUAL(fence_poll(&b), 0);
	fence_close(&b);
	fence_open(&c, box, false);
	/* One left by somebody who did not wait is waited for as well. */
	more = leave_pipe(&c);
	CU_ASSERT_EQUAL(fence_poll(&c), 0);
	close(end);
	CU_ASSERT_TRUE(is_ready(c.behind, 1000));
	CU_ASSERT_EQUAL(fence_poll(&c), 0);
	CU_ASSERT_FALSE(is_ready(c.behind, 0));
	close(more);
	CU_ASSERT_EQUAL(fence_wait(&c), 0);
	CU_ASSERT_EQUAL(fence_poll(&c), 1);
	close(box);
}

static void
junk_in_the_mailbox_is_passed_over(void)
{
	int box = fence_mailbox(), file = memfd_create("junk", MFD_CLOEXEC);
	struct fence f;

	fence_open(&f, box, false);
	CU_ASSERT_EQUAL(send(box, "x", 1, 0), 1);
	CU_ASSERT_EQUAL(send(box, "", 0, 0), 0);
	CU_ASSERT_EQUAL(fence_leave(&f, file), 0);
	CU_ASSERT_EQUAL(fence_poll(&f), 0);
	CU_ASSERT_EQUAL(fence_wait(&f), 0);
	CU_ASSERT_EQUAL(fence_poll(&f), 1);
	close(file);
	close(box);
}

static void
nobody_else_can_send_to_the_mailbox(void)
{
	int box = fence_mailbox(), other = socket(AF_UNIX, SOCK_DGRAM, 0);
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);

	CU_ASSERT_EQUAL(getsockname(box, (struct sockaddr *)&a, &n), 0);
	CU_ASSERT_EQUAL(sendto(other, "x", 1, 0, (struct sockaddr *)&a, n), -1);
	CU_ASSERT_EQUAL(errno, EPERM);
	close(other);
	close(box);
}

/* Start WRITES direct writes of ones, say so, and wait to be killed. */
static void
write_and_die(int file, int box, int told)
{
	static struct block_io io[WRITES];
	static struct iovec iov[WRITES];
	struct fence f;
	void *ones = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	BUG_ON(ones == MAP_FAILED);
	memset(ones, 1, SIZE);
	fence_open(&f, box, false);
	if (uring_prepare(&ring) != 0 || uring_open(&ring, file) != 0 ||
	    fence_poll(&f) != 1 || fence_leave(&f, ring.fence_read_end) != 0)
		_exit(1);
	for (unsigned i = 0; i < WRITES; i++) {
		iov[i] = (struct iovec){ ones, SIZE };
		io[i] = (struct block_io){
			.op = BLOCK_WRITE,
			.offset = (uint64_t)i * SIZE,
			.length = SIZE,
			.iov = &iov[i],
			.niov = 1,
		};
		ring.backend.ops->submit(&ring.backend, &io[i]);
	}
	ring.backend.ops->kick(&ring.backend);
	BUG_ON(write(told, "k", 1) != 1);
	pause();
}

/* Pieces of the file that are written, looking past the page cache. */
static unsigned
count_written(int file, char *buf)
{
	unsigned n = 0;

	for (unsigned i = 0; i < WRITES; i++)
		if (pread(file, buf, 4096,
			(off_t)i * SIZE + (off_t)SIZE - 4096) == 4096)
			n += buf[4095] == 1;
	return n;
}

static void
nothing_of_a_killed_process_comes_after_the_fence(void)
{
	char name[] = "fence_test.XXXXXX", byte, *buf;
	int file, box = fence_mailbox(), told[2], status;
	unsigned at_death, at_fence, later;
	uint64_t died, fenced;
	struct fence f;
	pid_t pid;

	file = mkstemp(name);
	BUG_ON(file < 0 || unlink(name) < 0 || pipe(told) < 0);
	buf = aligned_alloc(4096, SIZE);
	BUG_ON(!buf);
	memset(buf, 0, SIZE);
	/* Written once, so that the second time nothing is allocated. */
	for (unsigned i = 0; i < WRITES; i++)
		BUG_ON(write(file, buf, SIZE) != SIZE);
	BUG_ON(fsync(file) < 0);
	if (fcntl(file, F_SETFL, O_DIRECT) < 0)
		printf("  (no O_DIRECT here: the fence holds, but there is "
		       "little behind it) ");
	pid = fork();
	if (pid == 0)
		write_and_die(file, box, told[1]);
	close(told[1]);
	if (read(told[0], &byte, 1) != 1) {
		printf("  (no io_uring here) ");
		waitpid(pid, &status, 0);
		return;
	}
	fence_open(&f, box, false);
	CU_ASSERT_EQUAL(fence_poll(&f), 0);
	CU_ASSERT_FALSE(is_ready(f.behind, 0));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	died = time_now_ns();
	at_death = count_written(file, buf);
	CU_ASSERT_EQUAL(fence_wait(&f), 0);
	fenced = time_now_ns();
	at_fence = count_written(file, buf);
	usleep(20000);
	later = count_written(file, buf);
	printf("  (of %u writes %u were done when the process was dead, %u at "
	       "the fence %.1f ms later, %u after) ",
	    WRITES, at_death, at_fence, (double)(fenced - died) / 1e6, later);
	CU_ASSERT_EQUAL(at_fence, later);
	free(buf);
	close(file);
	close(box);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(an_empty_mailbox_holds_nobody_up),
		NAMED_TEST(waits_until_the_predecessor_is_gone),
		NAMED_TEST(one_that_dies_waiting_leaves_the_fence_to_the_next),
		NAMED_TEST(junk_in_the_mailbox_is_passed_over),
		NAMED_TEST(nobody_else_can_send_to_the_mailbox),
		NAMED_TEST(nothing_of_a_killed_process_comes_after_the_fence),
	};

	return named_tests_run("fence", tests, ARRAY_LEN(tests));
}
