/* The serial port. */
#include <CUnit/Basic.h>
#include <errno.h>

#include "devhost/harness.h"
#include "tests/named_tests.h"

#define LSR_READY 0x01u
#define LSR_EMPTY 0x60u

/* Steps of a register script. */
enum step_kind {
	END,
	OUT, /* write value to reg */
	IN, /* read reg, expect value */
	IRQ, /* expect value interrupts since the last look */
	TYPE, /* text arrives */
	TEXT, /* expect text to have been put out, since the start */
	RESTART, /* the process dies and comes back */
	FULL, /* a reader attaches to an output with `value` bytes of room */
	DRAIN, /* the reader takes everything */
};

struct step {
	enum step_kind kind;
	uint8_t reg, value;
	const char *text;
};

static const struct step scratch_register_keeps[] = {
	{ OUT, 7, 0xa5, NULL },
	{ IN, 7, 0xa5, NULL },
	{ RESTART, 0, 0, NULL },
	{ IN, 7, 0xa5, NULL },
	{ END, 0, 0, NULL },
};
static const struct step divisor_hides_behind_dlab[] = {
	{ OUT, 3, 0x80, NULL },
	{ IN, 0, 1, NULL },
	{ OUT, 0, 12, NULL },
	{ OUT, 1, 3, NULL },
	{ IN, 0, 12, NULL },
	{ IN, 1, 3, NULL },
	{ OUT, 3, 3, NULL },
	{ IN, 1, 0, NULL },
	{ TEXT, 0, 0, "" },
	{ END, 0, 0, NULL },
};
static const struct step sends_in_order[] = {
	{ OUT, 0, 'a', NULL },
	{ OUT, 0, 'b', NULL },
	{ IN, 5, LSR_EMPTY, NULL },
	{ OUT, 0, 'c', NULL },
	{ TEXT, 0, 0, "abc" },
	{ RESTART, 0, 0, NULL },
	{ TEXT, 0, 0, "abc" },
	{ OUT, 0, 'd', NULL },
	{ TEXT, 0, 0, "abcd" },
	{ END, 0, 0, NULL },
};
static const struct step transmitter_interrupts_when_enabled_and_empty[] = {
	{ IN, 2, 0x01, NULL },
	{ OUT, 1, 2, NULL },
	{ IRQ, 0, 1, NULL },
	{ IN, 2, 0x02, NULL },
	{ IN, 2, 0x01, NULL },
	{ OUT, 0, 'x', NULL },
	{ IRQ, 0, 1, NULL },
	{ OUT, 0, 'y', NULL }, /* while it is pending: it falls and rises */
	{ IRQ, 0, 1, NULL },
	{ OUT, 1, 0, NULL },
	{ IN, 2, 0x01, NULL },
	{ OUT, 1, 2, NULL },
	{ IRQ, 0, 1, NULL },
	{ END, 0, 0, NULL },
};
static const struct step high_line_is_raised_again_after_a_restart[] = {
	{ OUT, 1, 2, NULL },
	{ IRQ, 0, 1, NULL },
	{ RESTART, 0, 0, NULL },
	{ IRQ, 0, 1, NULL },
	{ IN, 2, 0x02, NULL },
	{ RESTART, 0, 0, NULL },
	{ IRQ, 0, 0, NULL },
	{ END, 0, 0, NULL },
};
static const struct step receives_without_fifo[] = {
	{ OUT, 1, 1, NULL },
	{ IRQ, 0, 0, NULL },
	{ TYPE, 0, 0, "hi" },
	{ IRQ, 0, 1, NULL },
	{ IN, 2, 0x04, NULL },
	{ IN, 5, LSR_EMPTY | LSR_READY, NULL },
	{ IN, 0, 'h', NULL },
	{ IN, 5, LSR_EMPTY | LSR_READY, NULL },
	{ RESTART, 0, 0, NULL },
	{ IN, 0, 'i', NULL },
	{ IN, 5, LSR_EMPTY, NULL },
	{ IN, 2, 0x01, NULL },
	{ END, 0, 0, NULL },
};
static const struct step fifo_tells_timeout_below_its_trigger[] = {
	{ OUT, 2, 0x41, NULL },
	{ OUT, 1, 1, NULL },
	{ TYPE, 0, 0, "abc" },
	{ IN, 2, 0xcc, NULL },
	{ TYPE, 0, 0, "d" },
	{ IN, 2, 0xc4, NULL },
	{ IN, 0, 'a', NULL },
	{ IN, 2, 0xcc, NULL },
	{ OUT, 2, 0x43, NULL }, /* clear the receive FIFO */
	{ IN, 2, 0xc1, NULL },
	{ END, 0, 0, NULL },
};
static const struct step long_input_waits_in_the_stream[] = {
	{ OUT, 2, 0x01, NULL },
	{ TYPE, 0, 0, "0123456789abcdefXY" },
	{ IN, 0, '0', NULL },
	{ RESTART, 0, 0, NULL },
	{ IN, 0, '1', NULL },
	{ IN, 0, '2', NULL },
	{ IN, 0, '3', NULL },
	{ IN, 0, '4', NULL },
	{ IN, 0, '5', NULL },
	{ IN, 0, '6', NULL },
	{ IN, 0, '7', NULL },
	{ IN, 0, '8', NULL },
	{ IN, 0, '9', NULL },
	{ IN, 0, 'a', NULL },
	{ IN, 0, 'b', NULL },
	{ IN, 0, 'c', NULL },
	{ IN, 0, 'd', NULL },
	{ IN, 0, 'e', NULL },
	{ IN, 0, 'f', NULL },
	{ RESTART, 0, 0, NULL },
	{ IN, 0, 'X', NULL },
	{ IN, 0, 'Y', NULL },
	{ IN, 0, 0, NULL },
	{ END, 0, 0, NULL },
};
static const struct step loopback_stays_inside[] = {
	{ OUT, 4, 0x1a, NULL },
	{ IN, 6, 0x90 | 0x02, NULL }, /* RTS as CTS, OUT2 as DCD; DSR fell */
	{ OUT, 0, 'q', NULL },
	{ IN, 5, LSR_EMPTY | LSR_READY, NULL },
	{ OUT, 0, 'r', NULL }, /* no FIFO: overrun */
	{ IN, 5, LSR_EMPTY | LSR_READY | 2, NULL },
	{ IN, 5, LSR_EMPTY | LSR_READY, NULL },
	{ IN, 0, 'q', NULL },
	{ OUT, 4, 0x00, NULL },
	{ IN, 6, 0xb0 | 0x02, NULL },
	{ IN, 6, 0xb0, NULL },
	{ TEXT, 0, 0, "" },
	{ END, 0, 0, NULL },
};
static const struct step line_status_outranks_data[] = {
	{ OUT, 4, 0x10, NULL },
	{ OUT, 1, 0x0f, NULL },
	{ OUT, 0, '1', NULL },
	{ OUT, 0, '2', NULL },
	{ IN, 2, 0x06, NULL },
	{ IN, 5, LSR_EMPTY | LSR_READY | 2, NULL },
	{ IN, 2, 0x04, NULL },
	{ IN, 0, '1', NULL },
	{ IN, 2, 0x02, NULL },
	{ IN, 2, 0x00, NULL },
	{ IN, 6, 0x0b, NULL },
	{ IN, 2, 0x01, NULL },
	{ END, 0, 0, NULL },
};
static const struct step full_output_holds_the_transmitter[] = {
	{ FULL, 0, 2, NULL },
	{ OUT, 1, 2, NULL },
	{ IN, 2, 0x02, NULL },
	{ IRQ, 0, 1, NULL },
	{ OUT, 0, 'a', NULL },
	{ OUT, 0, 'b', NULL },
	{ IN, 5, LSR_EMPTY, NULL },
	{ OUT, 0, 'c', NULL },
	{ IN, 5, 0, NULL },
	{ IN, 2, 0x01, NULL },
	{ RESTART, 0, 0, NULL },
	{ IN, 5, 0, NULL },
	{ IRQ, 0, 2, NULL },
	{ DRAIN, 0, 0, NULL },
	{ IRQ, 0, 1, NULL },
	{ IN, 5, LSR_EMPTY, NULL },
	{ TEXT, 0, 0, "abc" },
	{ END, 0, 0, NULL },
};

static void
run_script(const struct step *s)
{
	struct harness h;

	harness_open(&h, "serial");
	for (unsigned n = 0; s->kind != END; s++, n++) {
		unsigned got = s->value;

		switch (s->kind) {
		case OUT:
			harness_out(&h, s->reg, s->value);
			break;
		case IN:
			got = harness_in(&h, s->reg);
			break;
		case IRQ:
			got = harness_irqs(&h, 0);
			break;
		case TYPE:
			harness_type(&h, s->text);
			break;
		case TEXT:
			CU_ASSERT_STRING_EQUAL(harness_output(&h, 0), s->text);
			break;
		case RESTART:
			harness_restart(&h);
			break;
		case FULL:
			h.out->attached = 1;
			h.out->tail =
			    stream_head(h.out) + s->value - STREAM_BYTES;
			break;
		case DRAIN:
			stream_release(h.out, stream_head(h.out));
			engine_stream(&h.dev, 0);
			break;
		case END:
			break;
		}
		if (got != s->value)
			fprintf(stderr, "step %u: 0x%x, not 0x%x\n", n, got,
			    s->value);
		CU_ASSERT_EQUAL(got, s->value);
	}
	harness_close(&h);
}

static void
wide_access_is_bytes_and_ones(void)
{
	struct harness h;

	harness_open(&h, "serial");
	harness_access(&h, RING_WRITE, 0, 7, 4, 0x11223344);
	CU_ASSERT_EQUAL(harness_access(&h, RING_READ, 0, 7, 4, 0), 0xffffff44);
	CU_ASSERT_EQUAL(
	    harness_access(&h, RING_READ, 0, 4, 8, 0), 0xffffffff44b06000);
	harness_close(&h);
}

static void
refuses_a_state_that_overflows(void)
{
	const struct device_type *t = device_type_find("serial");
	struct harness h;

	harness_open(&h, "serial");
	memset(device_state(&h.dev), 0xff, t->state_size);
	store_commit(&h.dev.store);
	harness_stop(&h);
	CU_ASSERT_EQUAL(harness_start(&h, t), -EBADMSG);
	harness_close(&h);
}

#define SCRIPT(name)                 \
	static void run_##name(void) \
	{                            \
		run_script(name);    \
	}
#define SCRIPTS(X)                                       \
	X(scratch_register_keeps)                        \
	X(divisor_hides_behind_dlab)                     \
	X(sends_in_order)                                \
	X(transmitter_interrupts_when_enabled_and_empty) \
	X(high_line_is_raised_again_after_a_restart)     \
	X(receives_without_fifo)                         \
	X(fifo_tells_timeout_below_its_trigger)          \
	X(long_input_waits_in_the_stream)                \
	X(loopback_stays_inside)                         \
	X(line_status_outranks_data)                     \
	X(full_output_holds_the_transmitter)

SCRIPTS(SCRIPT)

#define ENTRY(name) { #name, run_##name },
static const struct named_test tests[] = {
	SCRIPTS(ENTRY){
	    "wide_access_is_bytes_and_ones", wide_access_is_bytes_and_ones },
	{ "refuses_a_state_that_overflows", refuses_a_state_that_overflows },
};

int
main(void)
{
	return named_tests_run("serial", tests, ARRAY_LEN(tests));
}
