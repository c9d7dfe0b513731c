/*
 * Death at every instruction of virtio-net: a process that sends and receives is
 * single-stepped.  What stood in shared memory after each step that changed its
 * positions is what a kill leaves; from each, a new process must send every
 * frame exactly once and in order, and deliver every one exactly once.
 */
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "tests/named_tests.h"
#include "tests/nic_bench.h"

#define RAM_AT	DRIVER_RAM_START
#define RAM	(3u << 20)
#define FRAMES	3u
#define BYTES	100u
#define BUFFERS 8u
#define BUFFER	64u /* so that a frame needs two */

static const struct net_header plain;

/* The words whose change is looked for. */
struct digest {
	uint64_t head, tail, commit, next, delivering;
	uint64_t taken[2], used[2], busy[2], cookie[2];
	uint16_t ring[2];
};

static void
digest(struct bench *b, struct digest *d)
{
	const struct vq_log *log = device_log(&b->h.dev);
	const struct nic_log *nic = nic_log(&b->h.dev);

	memset(d, 0, sizeof(*d));
	d->head = b->h.link_from[0]->head;
	d->tail = b->h.link_to[0]->tail;
	d->commit = *b->h.dev.store.commit;
	d->next = nic->next;
	d->delivering = nic->delivering;
	for (unsigned i = 0; i < 2; i++) {
		d->taken[i] = log[i].taken;
		d->used[i] = log[i].used;
		d->busy[i] = log[i].busy;
		for (unsigned k = 0; k < 16; k++)
			d->cookie[i] += log[i].entry[k].cookie;
		d->ring[i] = driver_packed(&b->d)
		    ? *driver_word(&b->d, b->d.q[i].desc, 7)
		    : *driver_word(&b->d, b->d.q[i].device, 1);
	}
}

static void
load(struct bench *b)
{
	uint8_t f[BYTES];

	for (unsigned i = 0; i < BUFFERS; i++)
		bench_give_buffer(b, RX0, BUFFER);
	for (unsigned i = 0; i < FRAMES; i++) {
		uint64_t gpa = driver_alloc(&b->d, 4096);

		bench_frame(f, BYTES, 2, 1, i);
		BUG_ON(bench_send_at(b, TX0, gpa, &plain, f, BYTES, 60) ==
		    DRIVER_NONE);
		bench_frame(f, BYTES, 1, 2, 100 + i);
		bench_peer_puts(b, &plain, f, BYTES);
	}
}

/* As a kill leaves it: memory, and what driver and peer know. */
static void
copy(struct bench *to, struct bench *from)
{
	struct harness *h = &to->h;

	memcpy(h->ram + RAM_AT, from->h.ram + RAM_AT, RAM);
	memcpy(h->store, from->h.store, h->store_size);
	for (unsigned i = 0; i < 2; i++) {
		struct packet_ring *a = &h->link[0]->ring[i];
		const struct packet_ring *b = &from->h.link[0]->ring[i];

		a->head = b->head;
		a->tail = b->tail;
		for (unsigned k = 0; k < 2 * FRAMES; k++) {
			a->slot[k].length = b->slot[k].length;
			memcpy(a->slot[k].data, b->slot[k].data, 256);
		}
	}
	to->d = from->d;
	to->d.h = h;
	to->from = from->from;
	to->to = from->to;
}

static unsigned
check_sent(struct bench *b)
{
	uint8_t f[BYTES];
	const uint8_t *data;
	unsigned wrong = 0;

	for (unsigned i = 0; i < FRAMES; i++) {
		bench_frame(f, BYTES, 2, 1, i);
		wrong += bench_arrived(b, &data) != BYTES + FRAME_HEADER ||
		    memcmp(data + FRAME_HEADER, f, BYTES) != 0;
		wrong += bench_take(b, TX0) != 0;
	}
	return wrong + (bench_arrived(b, &data) >= 0) +
	    (bench_take(b, TX0) >= 0);
}

static unsigned
check_received(struct bench *b, uint64_t first_buffer)
{
	uint8_t f[BYTES], got[FRAME_HEADER + BYTES];
	unsigned wrong = 0;

	for (unsigned i = 0; i < FRAMES; i++) {
		uint64_t gpa = first_buffer + 2 * i * 4096ull;

		bench_frame(f, BYTES, 1, 2, 100 + i);
		wrong += bench_take(b, RX0) != BUFFER;
		wrong +=
		    bench_take(b, RX0) != (int)(FRAME_HEADER + BYTES - BUFFER);
		memcpy(got, driver_at(&b->d, gpa), BUFFER);
		memcpy(got + BUFFER, driver_at(&b->d, gpa + 4096),
		    sizeof(got) - BUFFER);
		wrong += memcmp(got + FRAME_HEADER, f, BYTES) != 0;
	}
	return wrong + (bench_take(b, RX0) >= 0) +
	    (packet_tail(b->h.link_to[0]) != FRAMES);
}

static unsigned
recovers(struct bench *from, struct bench *b, uint64_t first_buffer)
{
	harness_stop(&b->h);
	copy(b, from);
	if (harness_start(&b->h, device_type_find("virtio-net")) != 1)
		return 1;
	harness_run(&b->h);
	return check_sent(b) + check_received(b, first_buffer);
}

static void
child_main(struct bench *b)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(1);
	raise(SIGSTOP);
	harness_ring(&b->h, TX0);
	harness_ring(&b->h, RX0);
	harness_run(&b->h);
	_exit(0);
}

static bool
may_trace(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void
step_through(uint64_t features)
{
	unsigned long instructions = 0, states = 0, bad = 0;
	struct digest last, now;
	struct bench a, b;
	uint64_t first;
	int status;
	pid_t pid;

	if (!may_trace()) {
		printf("skipped: ptrace is not allowed here: ");
		return;
	}
	bench_open(&a, features | NET_F_MRG_RXBUF);
	bench_open(&b, features | NET_F_MRG_RXBUF);
	first = a.d.next_gpa;
	load(&a);
	BUG_ON(a.d.next_gpa > RAM_AT + RAM);
	digest(&a, &last);
	bad += recovers(&a, &b, first) != 0;
	pid = fork();
	BUG_ON(pid < 0);
	if (pid == 0)
		child_main(&a);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		digest(&a, &now);
		if (memcmp(&last, &now, sizeof(now)) != 0) {
			last = now;
			states++;
			bad += recovers(&a, &b, first) != 0;
		}
		instructions++;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
			break;
	}
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* And without a death. */
	CU_ASSERT_EQUAL(check_sent(&a) + check_received(&a, first), 0);
	printf("%lu instructions, %lu states, %lu bad; ", instructions, states,
	    bad);
	CU_ASSERT(states > 30);
	CU_ASSERT_EQUAL(bad, 0);
	harness_close(&a.h);
	harness_close(&b.h);
}

static void
it_may_die_anywhere_with_split_queues(void)
{
	step_through(VIRTIO_F_EVENT_IDX);
}

static void
it_may_die_anywhere_with_packed_queues(void)
{
	step_through(VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(it_may_die_anywhere_with_split_queues),
		NAMED_TEST(it_may_die_anywhere_with_packed_queues),
	};
	return named_tests_run("virtio-net step", tests, ARRAY_LEN(tests));
}
