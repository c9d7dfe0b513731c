/*
 * A disk's process killed at any instruction: a real one, by SIGKILL, on a real
 * file, over io_uring with its fence, and over plain system calls.
 */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/disk_history.h"
#include "tests/named_tests.h"

#define KILLS 40u

struct disk {
	struct harness h;
	struct driver d;
	int file;
	int bell[HISTORY_QUEUES];
};

/* A process without a ring, in which the driver makes its queues. */
static void
open_disk(struct disk *t, bool fence, uint64_t features)
{
	const struct device_type *type = device_type_find("virtio-blk");
	char name[] = "kill_test.XXXXXX";
	struct harness_want want = { .file = { -1, -1 } };

	memset(t, 0, sizeof(*t));
	t->file = mkstemp(name);
	BUG_ON(t->file < 0 || unlink(name) < 0 ||
	    ftruncate(t->file, HISTORY_SECTORS * 512) < 0);
	want.file[0] = dup(t->file);
	if (fence)
		want.file[1] = fence_mailbox();
	harness_make_want(&t->h, type, &want);
	t->h.context = t->h.config.context =
	    aligned_alloc(64, (type->context_size + 63u) / 64u * 64u);
	BUG_ON(!t->h.context);
	memset(t->h.context, 0, type->context_size);
	BUG_ON(engine_attach(&t->h.dev, type, &t->h.config) != 0 ||
	    engine_start(&t->h.dev, NULL, NULL) != 0);
	driver_open_sized(&t->d, &t->h, features, 64);
	for (unsigned q = 0; q < HISTORY_QUEUES; q++)
		t->bell[q] = t->h.dev.doorbell[q];
	harness_stop(&t->h);
}

/* The device, for as long as it lives. */
static pid_t
spawn(struct disk *t)
{
	const struct device_type *type = device_type_find("virtio-blk");
	pid_t pid = fork();

	BUG_ON(pid < 0);
	if (pid > 0)
		return pid;
	BUG_ON(harness_start(&t->h, type) != 1);
	for (;;) {
		for (unsigned q = 0; q < HISTORY_QUEUES; q++)
			if (harness_count(t->bell[q]) > 0)
				harness_ring(&t->h, q);
		if (harness_run(&t->h) == 0)
			sched_yield();
		BUG_ON(t->h.dev.error != 0);
	}
}

static void
put(struct disk *t, struct history *y)
{
	int q = history_put(y, &y->op[history_draw(y, HISTORY_OPS)]);
	uint64_t one = 1;

	if (q < 0 || !driver_must_kick(&t->d, (unsigned)q))
		return;
	t->d.q[q].added = 0;
	BUG_ON(write(t->bell[q], &one, sizeof(one)) < 0);
}

static void
reap(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	BUG_ON(waitpid(pid, &status, 0) != pid);
	CU_ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
run(bool fence, bool direct, uint64_t features, uint32_t seed)
{
	static struct history y;
	static uint8_t content[HISTORY_SECTORS * 512];
	struct disk t;
	uint64_t give_up;
	uint32_t enough;
	pid_t pid;

	open_disk(&t, fence, features);
	if (direct && fcntl(t.file, F_SETFL, O_DIRECT) < 0)
		printf(" (no O_DIRECT here) ");
	history_open(&y, &t.d, seed);
	for (unsigned n = 0; n < KILLS; n++) {
		pid = spawn(&t);
		enough = y.answers + history_draw(&y, 60);
		give_up = time_now_ns() + 2000000000;
		do {
			put(&t, &y);
			if (history_take(&y) == HISTORY_OPS)
				sched_yield();
		} while (y.answers < enough && time_now_ns() < give_up);
		reap(pid);
	}
	pid = spawn(&t);
	give_up = time_now_ns() + 20000000000;
	while (history_take(&y) > 0 && time_now_ns() < give_up)
		usleep(100);
	CU_ASSERT_EQUAL(history_take(&y), 0);
	reap(pid);
	printf(" (%u answers) ", y.answers);
	if (direct)
		(void)fcntl(t.file, F_SETFL, 0);
	BUG_ON(pread(t.file, content, sizeof(content), 0) !=
	    (ssize_t)sizeof(content));
	history_check(&y, 0, HISTORY_SECTORS, content, ++y.ticks);
	harness_close(&t.h);
	close(t.file);
}

static void
io_uring_with_a_fence(void)
{
	run(true, true, 0, 1);
	run(true, false, VIRTIO_F_RING_PACKED, 2);
}

static void
plain_system_calls(void)
{
	run(false, false, 0, 3);
	run(false, true, VIRTIO_F_RING_PACKED, 4);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(io_uring_with_a_fence),
		NAMED_TEST(plain_system_calls),
	};

	return named_tests_run("killed disks", tests, ARRAY_LEN(tests));
}
