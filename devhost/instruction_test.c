/*
 * Death at every instruction: a device is single-stepped through a script of
 * requests.  After each instruction its shared memory is looked at; each
 * state of it that ever stood is what a kill at that instruction leaves, and
 * from each a new device must come to the same end.
 */
#include <CUnit/Basic.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

#define STREAM_SEEN 1024u /* of a stream: its indices and first bytes */

static const struct {
	enum ring_op op;
	uint64_t addr;
	uint8_t data;
} script[] = {
	{ RING_WRITE, 2, 0x01 }, /* FIFO on */
	{ RING_WRITE, 1, 0x03 }, /* interrupts for both ways */
	{ RING_READ, 2, 0 },
	{ RING_READ, 0, 0 },
	{ RING_WRITE, 0, 'A' },
	{ RING_READ, 5, 0 },
	{ RING_WRITE_POSTED, 0, 'B' },
	{ RING_READ, 0, 0 },
	{ RING_WRITE, 0, 'C' },
	{ RING_READ, 2, 0 },
	{ RING_READ, 7, 0 },
};
#define REQUESTS ARRAY_LEN(script)
#define TYPED	 "0123456789abcdefghijklmnop"
#define SENT	 "ABC"

/* The memory that outlives the device. */
struct image {
	size_t store, rings;
	uint8_t *bytes; /* store, rings, output, input */
};

static size_t
image_size(const struct image *m)
{
	return m->store + m->rings + 2 * STREAM_SEEN;
}

static uint8_t *
part(const struct image *m, unsigned n)
{
	const size_t at[] = { 0, m->store, m->store + m->rings,
		m->store + m->rings + STREAM_SEEN };

	return m->bytes + at[n];
}

static void
image_init(struct image *m, const struct device_type *t)
{
	const struct store_shape shape = harness_shape(t, 1);

	m->store = store_size(&shape);
	m->rings = ring_set_size(1);
	m->bytes = malloc(image_size(m));
	BUG_ON(!m->bytes);
}

static void
image_save(struct image *m, const struct harness *h)
{
	memcpy(part(m, 0), h->store, m->store);
	memcpy(part(m, 1), h->rings, m->rings);
	memcpy(part(m, 2), h->out, STREAM_SEEN);
	memcpy(part(m, 3), h->in, STREAM_SEEN);
}

static void
image_load(const struct image *m, struct harness *h)
{
	memcpy(h->store, part(m, 0), m->store);
	memcpy(h->rings, part(m, 1), m->rings);
	memcpy(h->out, part(m, 2), STREAM_SEEN);
	memcpy(h->in, part(m, 3), STREAM_SEEN);
}

static bool
image_differs(const struct image *m, const struct harness *h)
{
	return memcmp(part(m, 0), h->store, m->store) != 0 ||
	    memcmp(part(m, 1), h->rings, m->rings) != 0 ||
	    memcmp(part(m, 2), h->out, STREAM_SEEN) != 0 ||
	    memcmp(part(m, 3), h->in, STREAM_SEEN) != 0;
}

/* What is to be the same however often the device died. */
struct outcome {
	uint64_t answers[REQUESTS];
	uint64_t consumed;
	bool raised;
};

/* Serve what is there; false if the device broke. */
static bool
serve_all(struct harness *h)
{
	int rc;

	do {
		rc = engine_serve(&h->dev, 0);
		engine_send_irqs(&h->dev);
		engine_send_outputs(&h->dev);
	} while (rc == 1);
	return rc == 0 && h->dev.error == 0;
}

static void
outcome_read(struct outcome *o, struct harness *h)
{
	memset(o, 0, sizeof(*o));
	memcpy(o->answers, h->rings->ring[0].answer, sizeof(o->answers));
	o->consumed = h->in->tail;
	o->raised = harness_irqs(h, 0) > 0;
}

static void
type_all(struct harness *h)
{
	uint64_t head;

	BUG_ON(stream_put(h->in, 0, TYPED, strlen(TYPED), &head) != 0);
}

/* The requests and, unless it comes late, the input, waiting for a device. */
static void
prepare(struct harness *h, const struct device_type *t, bool late)
{
	harness_make(h, t, 1);
	if (!late)
		type_all(h);
	for (unsigned i = 0; i < REQUESTS; i++) {
		struct ring_request r = { .addr = script[i].addr,
			.data = script[i].data,
			.op = (uint8_t)script[i].op,
			.size = 1 };

		BUG_ON(ring_put(&h->rings->ring[0], &h->pos, &r) != 0);
	}
}

/*
 * Start on what a kill has left, go on to the end, compare.  Late input comes
 * only now: the vCPU has seen the published answers, and they must stand.
 */
static bool
recovers(const struct image *m, struct harness *h, const struct device_type *t,
    const struct outcome *want, bool late)
{
	struct outcome got, before;
	uint64_t published;
	bool ok;

	harness_irqs(h, 0);
	image_load(m, h);
	published = h->rings->ring[0].tail;
	outcome_read(&before, h);
	/* What is consumed, the producer may have overwritten. */
	memset(h->in->data, '#', h->in->tail);
	if (late)
		type_all(h);
	if (harness_start(h, t) < 0)
		return false;
	ok = serve_all(h);
	outcome_read(&got, h);
	if (late)
		ok = ok &&
		    memcmp(got.answers, before.answers,
			published * sizeof(got.answers[0])) == 0;
	else
		ok = ok && memcmp(&got, want, sizeof(got)) == 0;
	ok = ok && strcmp(harness_output(h, 0), SENT) == 0;
	harness_stop(h);
	return ok;
}

static void
child_main(struct harness *h, const struct device_type *t)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(1);
	raise(SIGSTOP);
	_exit(harness_start(h, t) == 0 && serve_all(h) ? 0 : 1);
}

static void
step_through(bool late)
{
	const struct device_type *t = device_type_find("serial");
	unsigned long instructions = 0, states = 0, bad = 0;
	struct harness h, again, reference;
	struct outcome want;
	struct image m;
	int status;
	pid_t pid;

	prepare(&reference, t, late);
	BUG_ON(harness_start(&reference, t) != 0);
	CU_ASSERT_FATAL(serve_all(&reference));
	outcome_read(&want, &reference);
	CU_ASSERT(want.raised);
	CU_ASSERT_STRING_EQUAL(harness_output(&reference, 0), SENT);

	image_init(&m, t);
	prepare(&h, t, late);
	prepare(&again, t, late);
	image_save(&m, &h);
	pid = fork();
	BUG_ON(pid < 0);
	if (pid == 0)
		child_main(&h, t);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		if (image_differs(&m, &h)) {
			image_save(&m, &h);
			states++;
			bad += !recovers(&m, &again, t, &want, late);
		}
		instructions++;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
			break;
	}
	CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	printf("%lu instructions, %lu states of memory, %lu bad: ",
	    instructions, states, bad);
	CU_ASSERT(states > REQUESTS);
	CU_ASSERT_EQUAL(bad, 0);
	free(m.bytes);
	harness_close(&h);
	harness_close(&again);
	harness_close(&reference);
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
any_instruction_may_be_the_last(void)
{
	if (may_trace())
		step_through(false);
	else
		printf("skipped: ptrace is not allowed here: ");
}

static void
published_answers_stand_in_a_changed_world(void)
{
	if (may_trace())
		step_through(true);
	else
		printf("skipped: ptrace is not allowed here: ");
}

static const struct named_test tests[] = {
	NAMED_TEST(any_instruction_may_be_the_last),
	NAMED_TEST(published_answers_stand_in_a_changed_world),
};

int
main(void)
{
	return named_tests_run("instruction", tests, ARRAY_LEN(tests));
}
