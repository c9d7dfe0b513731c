/* The console. */
#include "tests/driver.h"
#include "tests/lives.h"
#include "tests/named_tests.h"

#define F_SIZE	    (1ull << 0)
#define F_MULTIPORT (1ull << 1)
#define F_EMERG	    (1ull << 2)
#define CTL_RX	    2u
#define CTL_TX	    3u

enum {
	DEVICE_READY,
	PORT_ADD,
	PORT_REMOVE,
	PORT_READY,
	CONSOLE_PORT,
	RESIZE,
	PORT_OPEN,
	PORT_NAME
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct fixture {
	struct harness h;
	struct driver d;
	uint64_t tx_at, rx_at; /* buffers */
	char got[4096]; /* of input */
	size_t ngot;
};

static const char *const *options;

static int
set_options(struct device *dev, void *ctx UNUSED)
{
	for (const char *const *o = options; o && *o; o += 2) {
		int rc = dev->type->ops->configure(dev, o[0], o[1]);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
start_with(struct harness *h, const char *const *o)
{
	const struct device_type *t = device_type_find("virtio-console");
	int rc;

	options = o;
	harness_make(h, t, 1);
	harness_prepare(h, t);
	rc = engine_attach(&h->dev, t, &h->config);
	return rc < 0 ? rc : engine_start(&h->dev, set_options, NULL);
}

static void
open_with(struct fixture *f, uint64_t features, const char *const *o)
{
	memset(f, 0, sizeof(*f));
	BUG_ON(start_with(&f->h, o) != 0);
	driver_open(&f->d, &f->h, features);
	f->tx_at = driver_alloc(&f->d, 65536);
	f->rx_at = driver_alloc(&f->d, 65536);
}

/* The streams of a port, from this side. */
static struct stream *
out_of(struct fixture *f, unsigned port)
{
	return f->h.dev.stream[port].out;
}

static struct stream *
in_of(struct fixture *f, unsigned port)
{
	return f->h.dev.stream[port].in;
}

static const char *
output(struct fixture *f, unsigned port)
{
	static char text[8192];
	ssize_t n = stream_peek(out_of(f, port), 0, text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	return text;
}

static void
type(struct fixture *f, unsigned port, const char *text)
{
	uint64_t head = stream_head(in_of(f, port));

	BUG_ON(stream_put(in_of(f, port), head, text, strlen(text), &head));
	engine_stream(&f->h.dev, port);
}

/* Send text on a queue as one chain of two segments. */
static void
send(struct fixture *f, unsigned queue, const void *bytes, uint32_t n)
{
	struct driver_seg seg[] = { { f->tx_at, n / 2, false },
		{ f->tx_at + n / 2, n - n / 2, false } };

	memcpy(driver_at(&f->d, f->tx_at), bytes, n);
	BUG_ON(driver_put(&f->d, queue, n > 1 ? seg : seg + 1, n > 1 ? 2 : 1) ==
	    DRIVER_NONE);
	driver_kick(&f->d, queue);
	harness_run(&f->h);
	f->tx_at += 64;
}

static void
say(struct fixture *f, unsigned port, const char *text)
{
	send(f, port == 0 ? 1 : 2 * port + 3, text, (uint32_t)strlen(text));
}

static void
control(struct fixture *f, uint32_t id, unsigned event, unsigned value)
{
	struct control m = { id, (uint16_t)event, (uint16_t)value };

	send(f, CTL_TX, &m, sizeof(m));
}

static void
post(struct fixture *f, unsigned queue, unsigned n, uint32_t size)
{
	for (unsigned i = 0; i < n; i++, f->rx_at += 64) {
		struct driver_seg seg = { f->rx_at, size, true };

		BUG_ON(driver_put(&f->d, queue, &seg, 1) == DRIVER_NONE);
		/* So that a chain's id says where its buffer is. */
		memcpy(driver_at(&f->d, f->rx_at + 56), &f->rx_at, 8);
	}
	driver_kick(&f->d, queue);
	harness_run(&f->h);
}

/*
 * What came in on a queue, as text, in order.  Buffers were posted in order and
 * are used in order.
 */
static const char *
receive(struct fixture *f, unsigned queue, uint64_t first)
{
	uint16_t id;
	uint32_t len;

	while (driver_take(&f->d, queue, &id, &len)) {
		BUG_ON(f->ngot + len >= sizeof(f->got));
		memcpy(f->got + f->ngot, driver_at(&f->d, first), len);
		f->ngot += len;
		first += 64;
	}
	f->got[f->ngot] = '\0';
	return f->got;
}

static unsigned
messages(struct fixture *f, uint64_t first, struct control *m, unsigned max)
{
	uint16_t id;
	uint32_t len;
	unsigned n = 0;

	while (n < max && driver_take(&f->d, CTL_RX, &id, &len)) {
		memcpy(&m[n++], driver_at(&f->d, first), sizeof(*m));
		first += 64;
	}
	return n;
}

static const char *const four[] = { "ports", "4", "name1", "org.test.one",
	"name3", "three", NULL };

/* ---- tests ---- */

static void
puts_out_what_the_guest_writes_in_order(void)
{
	struct fixture f;
	uint16_t id;
	uint32_t len;

	open_with(&f, 0, NULL);
	say(&f, 0, "hello, ");
	say(&f, 0, "world");
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "hello, world");
	CU_ASSERT(driver_take(&f.d, 1, &id, &len));
	CU_ASSERT(driver_take(&f.d, 1, &id, &len));
	CU_ASSERT_FALSE(driver_take(&f.d, 1, &id, &len));
	CU_ASSERT(driver_interrupts(&f.d, 1) > 0);
	harness_restart(&f.h);
	say(&f, 0, "!");
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "hello, world!");
	harness_close(&f.h);
}

static void
a_full_stream_holds_the_chain_until_there_is_room(void)
{
	struct fixture f;
	struct stream *out;
	uint16_t id;
	uint32_t len;

	open_with(&f, 0, NULL);
	out = out_of(&f, 0);
	/* A reader that has left room for three bytes. */
	atomic_store(&out->attached, 1);
	atomic_store(&out->head, STREAM_BYTES - 3);
	say(&f, 0, "abcdef");
	CU_ASSERT_EQUAL(stream_head(out), STREAM_BYTES);
	CU_ASSERT_FALSE(driver_take(&f.d, 1, &id, &len));
	harness_restart(&f.h);
	harness_run(&f.h);
	CU_ASSERT_EQUAL(stream_head(out_of(&f, 0)), STREAM_BYTES);
	CU_ASSERT_FALSE(driver_take(&f.d, 1, &id, &len));
	stream_release(out_of(&f, 0), STREAM_BYTES);
	engine_stream(&f.h.dev, 0);
	CU_ASSERT_EQUAL(stream_head(out_of(&f, 0)), STREAM_BYTES + 3);
	CU_ASSERT(driver_take(&f.d, 1, &id, &len));
	CU_ASSERT_EQUAL(memcmp(out_of(&f, 0)->data, "def", 3), 0);
	harness_close(&f.h);
}

static void
gives_input_once_and_keeps_what_finds_no_buffer(void)
{
	struct fixture f;
	uint64_t first;

	open_with(&f, 0, NULL);
	first = f.rx_at;
	type(&f, 0, "0123456789");
	post(&f, 0, 2, 4);
	CU_ASSERT_STRING_EQUAL(receive(&f, 0, first), "01234567");
	harness_restart(&f.h);
	first = f.rx_at;
	post(&f, 0, 2, 4);
	type(&f, 0, "ab");
	CU_ASSERT_STRING_EQUAL(receive(&f, 0, first), "0123456789ab");
	CU_ASSERT_EQUAL(
	    atomic_load(&in_of(&f, 0)->tail), stream_head(in_of(&f, 0)));
	harness_close(&f.h);
}

static void
a_lone_port_without_a_name_offers_no_multiport(void)
{
	struct fixture f;

	open_with(&f, F_SIZE | F_MULTIPORT | F_EMERG, NULL);
	CU_ASSERT_EQUAL(
	    f.d.features & (F_SIZE | F_MULTIPORT | F_EMERG), F_SIZE | F_EMERG);
	CU_ASSERT_EQUAL(driver_config(&f.d, 4, 4), 1);
	harness_close(&f.h);
}

static void
sizes_of_a_lone_port_change_the_configuration(void)
{
	struct fixture f;
	uint64_t before;

	open_with(&f, F_SIZE, NULL);
	before = driver_read(&f.d, VIRTIO_REGION_REGISTERS, 0x15, 1);
	harness_msi(&f.h, 0);
	f.h.dev.type->ops->resize(&f.h.dev, 0, 132, 43);
	engine_stream(&f.h.dev, 0);
	CU_ASSERT_EQUAL(driver_config(&f.d, 0, 2), 132);
	CU_ASSERT_EQUAL(driver_config(&f.d, 2, 2), 43);
	CU_ASSERT_NOT_EQUAL(
	    driver_read(&f.d, VIRTIO_REGION_REGISTERS, 0x15, 1), before);
	CU_ASSERT_EQUAL(harness_msi(&f.h, 0), 1);
	harness_close(&f.h);
}

static void
ports_are_added_named_and_opened_on_request(void)
{
	struct fixture f;
	struct control m[16];
	uint64_t first;
	unsigned n;

	open_with(&f, F_SIZE | F_MULTIPORT, four);
	CU_ASSERT(f.d.features & F_MULTIPORT);
	CU_ASSERT_EQUAL(driver_config(&f.d, 4, 4), 4);
	first = f.rx_at;
	post(&f, CTL_RX, 16, 56);
	control(&f, 0, DEVICE_READY, 1);
	n = messages(&f, first, m, 16);
	CU_ASSERT_EQUAL(n, 4);
	for (unsigned i = 0; i < n; i++) {
		CU_ASSERT_EQUAL(m[i].id, i);
		CU_ASSERT_EQUAL(m[i].event, PORT_ADD);
	}
	first += 64 * n;
	control(&f, 0, PORT_READY, 1);
	control(&f, 1, PORT_READY, 1);
	harness_restart(&f.h);
	n = messages(&f, first, m, 16);
	CU_ASSERT_EQUAL(n, 4);
	CU_ASSERT(m[0].id == 0 && m[0].event == CONSOLE_PORT);
	CU_ASSERT(m[1].id == 0 && m[1].event == PORT_OPEN && m[1].value == 1);
	CU_ASSERT(m[2].id == 1 && m[2].event == PORT_NAME);
	CU_ASSERT(m[3].id == 1 && m[3].event == PORT_OPEN);
	CU_ASSERT_EQUAL(
	    memcmp(driver_at(&f.d, first + 128 + 8), "org.test.one", 12), 0);
	harness_close(&f.h);
}

static void
messages_wait_for_buffers(void)
{
	struct fixture f;
	struct control m[16];
	uint64_t first;

	open_with(&f, F_MULTIPORT, four);
	control(&f, 0, DEVICE_READY, 1);
	harness_restart(&f.h);
	first = f.rx_at;
	post(&f, CTL_RX, 2, 56);
	CU_ASSERT_EQUAL(messages(&f, first, m, 16), 2);
	first = f.rx_at;
	post(&f, CTL_RX, 8, 56);
	CU_ASSERT_EQUAL(messages(&f, first, m, 16), 2);
	CU_ASSERT(m[0].id == 2 && m[1].id == 3);
	harness_close(&f.h);
}

static void
sizes_go_out_as_messages_in_the_order_that_was_asked(void)
{
	static const char *const cols[] = { "ports", "2", "resize",
		"cols-first", NULL };
	static const char *const rows[] = { "ports", "2", NULL };

	for (unsigned k = 0; k < 2; k++) {
		struct fixture f;
		struct control m[16];
		uint64_t first;
		uint16_t size[2];

		open_with(&f, F_SIZE | F_MULTIPORT, k ? cols : rows);
		first = f.rx_at;
		post(&f, CTL_RX, 8, 56);
		control(&f, 0, PORT_OPEN, 1);
		f.h.dev.type->ops->resize(&f.h.dev, 0, 132, 43);
		f.h.dev.type->ops->resize(&f.h.dev, 1, 132, 43);
		CU_ASSERT_EQUAL(messages(&f, first, m, 16), 1);
		CU_ASSERT(m[0].id == 0 && m[0].event == RESIZE);
		memcpy(size, driver_at(&f.d, first + 8), sizeof(size));
		CU_ASSERT_EQUAL(size[0], k ? 132 : 43);
		CU_ASSERT_EQUAL(size[1], k ? 43 : 132);
		harness_close(&f.h);
	}
}

static void
ports_are_streams_of_their_own(void)
{
	struct fixture f;
	uint64_t first;

	open_with(&f, F_MULTIPORT, four);
	say(&f, 0, "zero");
	say(&f, 3, "three");
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "zero");
	CU_ASSERT_STRING_EQUAL(output(&f, 1), "");
	CU_ASSERT_STRING_EQUAL(output(&f, 3), "three");
	first = f.rx_at;
	post(&f, 6, 2, 8);
	type(&f, 2, "in");
	CU_ASSERT_STRING_EQUAL(receive(&f, 6, first), "");
	control(&f, 2, PORT_OPEN, 1);
	CU_ASSERT_STRING_EQUAL(receive(&f, 6, first), "in");
	control(&f, 2, PORT_OPEN, 0);
	type(&f, 2, "later");
	CU_ASSERT_STRING_EQUAL(receive(&f, 6, first + 64), "in");
	harness_close(&f.h);
}

static void
hostile_messages_are_counted_and_change_nothing(void)
{
	static const struct control bad[] = {
		{ 4, PORT_READY, 1 },
		{ UINT32_MAX, PORT_OPEN, 1 },
		{ 0, PORT_ADD, 1 },
		{ 0, 0xffff, 0xffff },
		{ 1, RESIZE, 0 },
	};
	struct fixture f;
	struct control m[4];
	uint64_t first;

	open_with(&f, F_MULTIPORT, four);
	first = f.rx_at;
	post(&f, CTL_RX, 8, 56);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		send(&f, CTL_TX, &bad[i], sizeof(bad[i]));
	send(&f, CTL_TX, "short", 5);
	CU_ASSERT_EQUAL(messages(&f, first, m, 4), 0);
	CU_ASSERT_EQUAL(
	    stats_get(&f.h.dev.store.stats->own[2]), ARRAY_LEN(bad) + 1);
	CU_ASSERT_FALSE(driver_status(&f.d) & VIRTIO_NEEDS_RESET);
	harness_close(&f.h);
}

static void
emergency_bytes_go_between_chains(void)
{
	struct fixture f;
	struct stream *out;
	char got[16] = "";
	uint64_t head;

	open_with(&f, F_EMERG, NULL);
	driver_write(&f.d, VIRTIO_REGION_REGISTERS, 0x2008, 4, '!');
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "!");
	say(&f, 0, "a");
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "!a");
	/* A chain that is half out keeps its bytes together. */
	out = out_of(&f, 0);
	atomic_store(&out->attached, 1);
	head = stream_head(out);
	atomic_store(&out->head, head + STREAM_BYTES - 5);
	atomic_store(&out->tail, head);
	say(&f, 0, "bcdefg");
	driver_write(&f.d, VIRTIO_REGION_REGISTERS, 0x2008, 1, '?');
	driver_write(&f.d, VIRTIO_REGION_REGISTERS, 0x2008, 1, '?');
	harness_restart(&f.h);
	head += STREAM_BYTES - 5;
	stream_release(out_of(&f, 0), head);
	engine_stream(&f.h.dev, 0);
	harness_run(&f.h);
	say(&f, 0, "h");
	stream_peek(out_of(&f, 0), head, got, sizeof(got) - 1);
	CU_ASSERT_STRING_EQUAL(got, "bcdefg??h");
	harness_close(&f.h);
}

static void
emergency_bytes_need_no_driver(void)
{
	struct fixture f;

	memset(&f, 0, sizeof(f));
	BUG_ON(start_with(&f.h, NULL) != 0);
	f.d.h = &f.h;
	for (const char *p = "panic"; *p; p++)
		driver_write(
		    &f.d, VIRTIO_REGION_REGISTERS, 0x2008, 4, (uint8_t)*p);
	harness_restart(&f.h);
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "panic");
	harness_close(&f.h);
}

static void
a_reset_driver_starts_anew(void)
{
	struct fixture f;
	struct control m[16];
	uint64_t first;

	open_with(&f, F_MULTIPORT, four);
	first = f.rx_at;
	post(&f, CTL_RX, 16, 56);
	control(&f, 0, DEVICE_READY, 1);
	control(&f, 0, PORT_OPEN, 1);
	CU_ASSERT_EQUAL(messages(&f, first, m, 16), 4);
	say(&f, 0, "one");
	driver_open(&f.d, &f.h, F_MULTIPORT);
	f.tx_at = driver_alloc(&f.d, 65536);
	f.rx_at = first = driver_alloc(&f.d, 65536);
	post(&f, CTL_RX, 16, 56);
	control(&f, 0, DEVICE_READY, 1);
	CU_ASSERT_EQUAL(messages(&f, first, m, 16), 4);
	say(&f, 0, "two");
	CU_ASSERT_STRING_EQUAL(output(&f, 0), "onetwo");
	harness_close(&f.h);
}

static void
options_that_cannot_be_are_refused(void)
{
	static const struct {
		const char *o[5];
		int rc;
	} cases[] = {
		{ { "ports", "0", NULL }, -EINVAL },
		{ { "ports", "5", NULL }, -EINVAL },
		{ { "ports", "2x", NULL }, -EINVAL },
		{ { "consoles", "2", NULL }, -EINVAL },
		{ { "ports", "2", "consoles", "2", NULL }, 0 },
		{ { "name4", "x", NULL }, -ENOENT },
		{ { "name", "x", NULL }, -ENOENT },
		{ { "name0", "", NULL }, -EINVAL },
		{ { "resize", "up", NULL }, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct harness h;

		CU_ASSERT_EQUAL(start_with(&h, cases[i].o), cases[i].rc);
		harness_close(&h);
	}
}

/* ---- death ---- */

#define LINES 6u

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

struct scene {
	struct fixture f;
	uint64_t rx, ctl;
	char want[256];
};

/* Lines in both directions, and messages: all there for a life to treat. */
static void
set_scene(struct scene *s, uint64_t features)
{
	struct fixture *f = &s->f;
	struct stream *in;
	uint64_t head;
	char line[16];

	open_with(f, features | F_MULTIPORT, four);
	control(f, 0, PORT_OPEN, 1);
	s->ctl = f->rx_at;
	post(f, CTL_RX, 8, 56);
	s->rx = f->rx_at;
	post(f, 0, 4, 7);
	s->want[0] = '\0';
	for (unsigned i = 0; i < LINES; i++) {
		struct driver_seg seg[] = { { f->tx_at, 3, false },
			{ f->tx_at + 3, 9, false } };

		snprintf(line, sizeof(line), "line %06u\n", i);
		strcat(s->want, line);
		memcpy(driver_at(&f->d, f->tx_at), line, 12);
		driver_put(&f->d, 1, seg, 2);
		f->tx_at += 64;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct control ready = { i, PORT_READY, 1 };
		struct driver_seg seg = { f->tx_at, sizeof(ready), false };

		memcpy(driver_at(&f->d, f->tx_at), &ready, sizeof(ready));
		driver_put(&f->d, CTL_TX, &seg, 1);
		f->tx_at += 64;
	}
	in = in_of(f, 0);
	head = stream_head(in);
	stream_put(in, head, alphabet, sizeof(alphabet) - 1, &head);
	harness_stop(&f->h);
}

static void
check_scene(struct scene *s)
{
	const struct device_type *t = device_type_find("virtio-console");
	struct control m[16];

	(void)lives_run(&s->f.h, t, LIVES_TO_THE_END);
	BUG_ON(harness_start(&s->f.h, t) != 1);
	CU_ASSERT_STRING_EQUAL(output(&s->f, 0), s->want);
	CU_ASSERT_STRING_EQUAL(receive(&s->f, 0, s->rx), alphabet);
	CU_ASSERT_EQUAL(messages(&s->f, s->ctl, m, 16), 4);
	CU_ASSERT(m[0].id == 0 && m[0].event == CONSOLE_PORT);
	CU_ASSERT(m[1].id == 0 && m[1].event == PORT_OPEN);
	CU_ASSERT(m[2].id == 1 && m[2].event == PORT_NAME);
	CU_ASSERT(m[3].id == 1 && m[3].event == PORT_OPEN);
	harness_close(&s->f.h);
}

/* Twice: a life that takes up what the one before it left dies too. */
static void
die_at(uint64_t features, uint64_t first, uint64_t second)
{
	const struct device_type *t = device_type_find("virtio-console");
	struct scene s;

	set_scene(&s, features);
	(void)lives_run(&s.f.h, t, first);
	(void)lives_run(&s.f.h, t, second);
	check_scene(&s);
}

static void
loses_and_doubles_nothing_wherever_it_dies(void)
{
	static const uint64_t kinds[] = { 0, VIRTIO_F_EVENT_IDX,
		VIRTIO_F_RING_PACKED,
		VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX };
	const struct device_type *t = device_type_find("virtio-console");
	unsigned n = lives_deaths(LIVES_SLOW ? 1 : 3);

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i += LIVES_SLOW ? 3 : 1) {
		struct scene s;
		uint64_t all;

		set_scene(&s, kinds[i]);
		all = lives_run(&s.f.h, t, LIVES_TO_THE_END - 1);
		check_scene(&s);
		CU_ASSERT(all > 1000);
		for (unsigned k = 0; k < n; k++)
			die_at(kinds[i], all * (k + 1) / n - i * 7,
			    all * (n - k) / n / 2 + i);
	}
}

static const struct named_test tests[] = {
	NAMED_TEST(puts_out_what_the_guest_writes_in_order),
	NAMED_TEST(a_full_stream_holds_the_chain_until_there_is_room),
	NAMED_TEST(gives_input_once_and_keeps_what_finds_no_buffer),
	NAMED_TEST(a_lone_port_without_a_name_offers_no_multiport),
	NAMED_TEST(sizes_of_a_lone_port_change_the_configuration),
	NAMED_TEST(ports_are_added_named_and_opened_on_request),
	NAMED_TEST(messages_wait_for_buffers),
	NAMED_TEST(sizes_go_out_as_messages_in_the_order_that_was_asked),
	NAMED_TEST(ports_are_streams_of_their_own),
	NAMED_TEST(hostile_messages_are_counted_and_change_nothing),
	NAMED_TEST(emergency_bytes_go_between_chains),
	NAMED_TEST(emergency_bytes_need_no_driver),
	NAMED_TEST(a_reset_driver_starts_anew),
	NAMED_TEST(options_that_cannot_be_are_refused),
	NAMED_TEST(loses_and_doubles_nothing_wherever_it_dies),
};

int
main(int argc UNUSED, char **argv)
{
	lives_init(argv);
	return named_tests_run("virtio_console", tests, ARRAY_LEN(tests));
}
