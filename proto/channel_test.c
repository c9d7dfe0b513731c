/* The control channel and its conversation table. */
#include "proto/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/channel_decode.h"
#include "tests/named_tests.h"

#define SENT_FDS_MAX 250u /* the kernel: 253 */
#define BODY(CASE)   BULKHEAD__ENVELOPE__BODY_##CASE

/* Two ends of one conversation, both in the same state. */
struct ends {
	struct channel broker, other;
};

static void
make(struct ends *e, enum channel_role broker, enum channel_state state)
{
	int pair[2];

	BUG_ON(socketpair(AF_UNIX,
		   SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0);
	channel_init(&e->broker, pair[0], broker);
	channel_init(
	    &e->other, pair[1], (enum channel_role)((unsigned)broker + 1));
	e->broker.state = e->other.state = state;
}

static void
destroy(struct ends *e)
{
	channel_close(&e->broker);
	channel_close(&e->other);
}

static int
lowest_fd(void)
{
	int fd = dup(0);

	BUG_ON(fd < 0);
	close(fd);
	return fd;
}

/* Bytes of an envelope with an empty body of that case. */
static size_t
empty_envelope(uint8_t *bytes, int body_case)
{
	unsigned tag = (unsigned)body_case << 3 | 2;
	size_t n = 0;

	if (tag >= 128)
		bytes[n++] = (uint8_t)(tag | 128);
	bytes[n++] = (uint8_t)(tag >= 128 ? tag >> 7 : tag);
	bytes[n++] = 0;
	return n;
}

/* Past the table, as a hostile peer would. */
static void
send_raw(int fd, const void *bytes, size_t n, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(SENT_FDS_MAX * sizeof(int))];
	} control = { .bytes = { 0 } };
	uint8_t copy[256];
	uint8_t *text = n <= sizeof(copy) ? copy : malloc(n);
	struct iovec iov = { .iov_base = text, .iov_len = n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	BUG_ON(text == NULL || nfds > SENT_FDS_MAX);
	if (n > 0)
		memcpy(text, bytes, n);
	if (nfds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		for (unsigned i = 0; i < nfds; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &(int){ 2 },
			    sizeof(int));
	}
	sent = sendmsg(fd, &msg, 0);
	CU_ASSERT_EQUAL(sent, (ssize_t)n);
	if (text != copy)
		free(text);
}

static void
a_message_arrives_with_its_fds(void)
{
	Bulkhead__Configure m;
	char name[] = "serial0";
	struct channel_message got;
	int fds[] = { 0, 1, 2 }, before = lowest_fd(), kept;
	struct ends e;

	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_GREETED);
	bulkhead__configure__init(&m);
	m.name = name;
	m.vcpus = 4;
	m.clock_offset_ns = -5;
	CU_ASSERT_EQUAL(
	    channel_send(&e.broker, BODY(CONFIGURE), &m, fds, 3, 0), 0);
	CU_ASSERT_EQUAL(e.broker.state, CHANNEL_CONFIGURED);
	CU_ASSERT_EQUAL_FATAL(channel_receive(&e.other, &got, -1), 1);
	CU_ASSERT_EQUAL(e.other.state, CHANNEL_CONFIGURED);
	CU_ASSERT_EQUAL(got.nfds, 3);
	CU_ASSERT_EQUAL(got.envelope->seq, 1);
	CU_ASSERT_EQUAL(got.envelope->body_case, BODY(CONFIGURE));
	CU_ASSERT_STRING_EQUAL(got.envelope->configure->name, "serial0");
	CU_ASSERT_EQUAL(got.envelope->configure->clock_offset_ns, -5);
	for (unsigned i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(fcntl(got.fds[i], F_GETFD), FD_CLOEXEC);
	kept = got.fds[1];
	got.fds[1] = -1;
	channel_free(&got);
	CU_ASSERT_EQUAL(fcntl(kept, F_GETFD), FD_CLOEXEC);
	close(kept);
	destroy(&e);
	CU_ASSERT_EQUAL(lowest_fd(), before);
}

static void
an_answer_carries_its_questions_number(void)
{
	Bulkhead__Ping ping = BULKHEAD__PING__INIT;
	Bulkhead__Pong pong = BULKHEAD__PONG__INIT;
	struct channel_message got;
	struct ends e;

	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_RUNNING);
	for (uint64_t n = 1; n < 4; n++) {
		CU_ASSERT_EQUAL(
		    channel_send(&e.broker, BODY(PING), &ping, NULL, 0, 0), 0);
		CU_ASSERT_EQUAL_FATAL(channel_receive(&e.other, &got, -1), 1);
		CU_ASSERT_EQUAL(got.envelope->seq, n);
		CU_ASSERT_EQUAL(channel_send(&e.other, BODY(PONG), &pong, NULL,
				    0, got.envelope->seq),
		    0);
		channel_free(&got);
		CU_ASSERT_EQUAL_FATAL(channel_receive(&e.broker, &got, -1), 1);
		CU_ASSERT_EQUAL(got.envelope->seq, n);
		channel_free(&got);
	}
	destroy(&e);
}

static void
the_table_has_every_message_once_and_makes_sense(void)
{
	/* From NOT_SET, 0, to ended, the last of the envelope's fields. */
	CU_ASSERT_EQUAL(
	    conversation_rows, bulkhead__envelope__descriptor.n_fields - 1);
	for (unsigned i = 0; i < conversation_rows; i++) {
		const struct conversation *r = &conversation_table[i];
		const ProtobufCFieldDescriptor *f =
		    protobuf_c_message_descriptor_get_field(
			&bulkhead__envelope__descriptor,
			(unsigned)r->body_case);

		CU_ASSERT_PTR_NOT_NULL_FATAL(f);
		CU_ASSERT_STRING_EQUAL(f->name, r->name);
		CU_ASSERT(r->senders != 0 && r->states != 0);
		CU_ASSERT(r->min_fds <= r->max_fds);
		CU_ASSERT(r->max_fds <= CHANNEL_FDS_MAX);
		CU_ASSERT(r->max_bytes <= CHANNEL_BYTES_MAX);
		for (unsigned j = 0; j < i; j++)
			CU_ASSERT_NOT_EQUAL(
			    conversation_table[j].body_case, r->body_case);
	}
}

/* Every message, in every state, by every sender, with every count of fds that
 * matters: sending and receiving allow what the table does, and no more. */
static void
sending_and_receiving_obey_the_table(void)
{
	unsigned wrong = 0, tried = 0;

	for (unsigned i = 0; i < conversation_rows; i++) {
		const struct conversation *r = &conversation_table[i];
		const unsigned counts[] = { 0, r->min_fds, r->max_fds,
			r->min_fds - 1, r->max_fds + 1 };

		for (unsigned x = 0; x < 6 * 5 * ARRAY_LEN(counts); x++) {
			unsigned role = x % 6, state = x / 6 % 5;
			unsigned nfds = counts[x / 30];
			bool legal = (r->senders & 1u << role) != 0 &&
			    (r->states & 1u << state) != 0 &&
			    nfds >= r->min_fds && nfds <= r->max_fds;
			enum channel_state after =
			    !legal || r->next == CHANNEL_KEEP
			    ? (enum channel_state)state
			    : r->next;
			Bulkhead__Envelope *e = NULL;
			struct channel c;
			uint8_t bytes[8];
			int got;

			if (nfds > CHANNEL_FDS_MAX)
				continue;
			channel_init(&c, -1, (enum channel_role)(role ^ 1u));
			c.state = (enum channel_state)state;
			got = channel_decode(&c, bytes,
			    empty_envelope(bytes, r->body_case), nfds, &e);
			wrong += got != (legal ? 0 : -EPROTO);
			wrong += c.state != after;
			if (e != NULL)
				bulkhead__envelope__free_unpacked(e, NULL);
			tried++;
		}
	}
	CU_ASSERT(tried > 1000);
	CU_ASSERT_EQUAL(wrong, 0);
}

static void
refuses_to_send_what_the_table_forbids(void)
{
	static const struct {
		enum channel_role broker;
		enum channel_state state;
		bool by_broker;
		int body_case;
		unsigned nfds;
		int result;
	} rows[] = {
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_NEW, false, BODY(HELLO), 0,
		    0 },
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_NEW, true, BODY(HELLO), 0,
		    -EPROTO },
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_GREETED, false, BODY(HELLO),
		    0, -EPROTO },
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_NEW, true, BODY(CONFIGURE),
		    3, -EPROTO },
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_GREETED, true,
		    BODY(CONFIGURE), 2, -EPROTO },
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_GREETED, true, BODY(LOAD),
		    2, -EPROTO },
		{ CHANNEL_BROKER_TO_DEVICE, CHANNEL_RUNNING, true, BODY(PING),
		    1, -EPROTO },
		{ CHANNEL_BROKER_TO_LOADER, CHANNEL_GREETED, true, BODY(LOAD),
		    3, 0 },
		{ CHANNEL_BROKER_TO_CLIENT, CHANNEL_NEW, false, BODY(CREATE), 2,
		    0 },
		{ CHANNEL_BROKER_TO_CLIENT, CHANNEL_RUNNING, false,
		    BODY(CREATE), 2, -EPROTO },
		{ CHANNEL_BROKER_TO_CLIENT, CHANNEL_NEW, false, BODY(DESCRIBE),
		    0, 0 },
		{ CHANNEL_BROKER_TO_CLIENT, CHANNEL_NEW, true, BODY(STARTED), 0,
		    -EPROTO },
		{ CHANNEL_BROKER_TO_CLIENT, CHANNEL_NEW, true, BODY(_NOT_SET),
		    0, -EPROTO },
		{ CHANNEL_BROKER_TO_CLIENT, CHANNEL_NEW, true, 999, 0,
		    -EPROTO },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		/* A body with all fields zero packs for any of them. */
		union {
			Bulkhead__Hello hello;
			Bulkhead__Configure configure;
			Bulkhead__Load load;
			Bulkhead__Ping ping;
			Bulkhead__CreateVm create;
			Bulkhead__Describe describe;
			Bulkhead__Started started;
		} body;
		int fds[] = { 0, 1, 2 };
		struct channel *c;
		struct ends e;

		make(&e, rows[i].broker, rows[i].state);
		switch (rows[i].body_case) {
		case BODY(HELLO):
			bulkhead__hello__init(&body.hello);
			break;
		case BODY(CONFIGURE):
			bulkhead__configure__init(&body.configure);
			break;
		case BODY(LOAD):
			bulkhead__load__init(&body.load);
			break;
		case BODY(CREATE):
			bulkhead__create_vm__init(&body.create);
			break;
		case BODY(DESCRIBE):
			bulkhead__describe__init(&body.describe);
			break;
		case BODY(STARTED):
			bulkhead__started__init(&body.started);
			break;
		default:
			bulkhead__ping__init(&body.ping);
			break;
		}
		c = rows[i].by_broker ? &e.broker : &e.other;
		CU_ASSERT_EQUAL(channel_send(c, rows[i].body_case, &body, fds,
				    rows[i].nfds, 0),
		    rows[i].result);
		if (rows[i].result < 0)
			CU_ASSERT_EQUAL(c->state, rows[i].state);
		destroy(&e);
	}
}

static void
refuses_what_a_hostile_peer_sends_and_closes_its_fds(void)
{
	static uint8_t large[CHANNEL_BYTES_MAX + 1];
	static const uint8_t garbage[] = { 0xff, 0xff, 0xff, 0xff, 0xff };
	static const uint8_t cut[] = { 8, 1, 18, 100, 10 };
	static const uint8_t only_seq[] = { 8, 1 };
	static const uint8_t unknown[] = { 0xfa, 0x07, 0 };
	uint8_t hello[8], pong[8], huge_hello[32 << 10];
	const size_t hello_size = empty_envelope(hello, BODY(HELLO));
	const size_t pong_size = empty_envelope(pong, BODY(PONG));
	const struct {
		const void *bytes;
		size_t n;
		unsigned nfds;
	} rows[] = {
		{ hello, hello_size, 1 }, /* a fd too many */
		{ hello, hello_size, CHANNEL_FDS_MAX },
		{ hello, hello_size, CHANNEL_FDS_MAX + 1 },
		{ hello, hello_size, SENT_FDS_MAX }, /* control data cut off */
		{ pong, pong_size, 0 }, /* wrong state */
		{ pong, pong_size, 3 },
		{ hello, 0, 1 }, /* no bytes, but a fd */
		{ garbage, sizeof(garbage), 0 },
		{ garbage, sizeof(garbage), 5 }, { cut, sizeof(cut), 2 },
		{ only_seq, sizeof(only_seq), 0 },
		{ unknown, sizeof(unknown), 0 },
		{ large, sizeof(large), 0 }, /* cut off */
		{ large, sizeof(large), 4 },
		{ huge_hello, sizeof(huge_hello), 0 }, /* of 32 KiB */
	};
	int before = lowest_fd();

	/* hello { type: "000..." } in an envelope: lengths of three bytes. */
	memset(huge_hello, '0', sizeof(huge_hello));
	huge_hello[0] = BODY(HELLO) << 3 | 2;
	huge_hello[1] = (sizeof(huge_hello) - 4) % 128 | 128;
	huge_hello[2] = (sizeof(huge_hello) - 4) / 128 % 128 | 128;
	huge_hello[3] = (sizeof(huge_hello) - 4) >> 14;
	huge_hello[4] = 1 << 3 | 2;
	huge_hello[5] = (sizeof(huge_hello) - 8) % 128 | 128;
	huge_hello[6] = (sizeof(huge_hello) - 8) / 128 % 128 | 128;
	huge_hello[7] = (sizeof(huge_hello) - 8) >> 14;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct channel_message got;
		struct ends e;
		int r;

		make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_NEW);
		send_raw(e.other.fd, rows[i].bytes, rows[i].n, rows[i].nfds);
		r = channel_receive(&e.broker, &got, -1);
		if (r != -EPROTO)
			fprintf(stderr, "row %u: %d\n", i, r);
		CU_ASSERT_EQUAL(r, -EPROTO);
		CU_ASSERT_EQUAL(e.broker.state, CHANNEL_NEW);
		CU_ASSERT_EQUAL(got.nfds, 0);
		CU_ASSERT_PTR_NULL(got.envelope);
		destroy(&e);
		CU_ASSERT_EQUAL(lowest_fd(), before);
	}
}

static void
refuses_a_small_datagram_that_unpacks_to_a_lot(void)
{
	/* hello of 5000 placements of two bytes each: as many blocks. */
	enum { N = 5000, BODY_BYTES = 2 * N };
	uint8_t bytes[4 + BODY_BYTES] = { BODY(HELLO) << 3 | 2,
		BODY_BYTES % 128 | 128, BODY_BYTES / 128 };
	struct channel_message got;
	struct ends e;

	for (unsigned i = 0; i < N; i++)
		bytes[3 + 2 * i] = 7 << 3 | 2;
	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_NEW);
	send_raw(e.other.fd, bytes, 3 + BODY_BYTES, 0);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, -1), -EPROTO);
	destroy(&e);
}

static void
the_allocator_gives_no_more_than_its_bounds(void)
{
	struct bounded_allocator a;
	void *p[4];

	bounded_allocator_init(&a, 100, 4);
	p[0] = a.base.alloc(a.base.allocator_data, 60);
	p[1] = a.base.alloc(a.base.allocator_data, 41);
	p[2] = a.base.alloc(a.base.allocator_data, 40);
	p[3] = a.base.alloc(a.base.allocator_data, 1);
	CU_ASSERT_PTR_NOT_NULL(p[0]);
	CU_ASSERT_PTR_NULL(p[1]);
	CU_ASSERT_PTR_NOT_NULL(p[2]);
	CU_ASSERT_PTR_NULL(p[3]);
	CU_ASSERT_PTR_NULL(a.base.alloc(a.base.allocator_data, SIZE_MAX));
	for (unsigned i = 0; i < 4; i++)
		a.base.free(a.base.allocator_data, p[i]);
	bounded_allocator_init(&a, 100, 1);
	p[0] = a.base.alloc(a.base.allocator_data, 1);
	CU_ASSERT_PTR_NULL(a.base.alloc(a.base.allocator_data, 1));
	a.base.free(a.base.allocator_data, p[0]);
}

static void
tells_nothing_yet_from_closed(void)
{
	Bulkhead__Ping ping = BULKHEAD__PING__INIT;
	struct channel_message got;
	struct ends e;

	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_RUNNING);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, -1), -EAGAIN);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, 0), -ETIMEDOUT);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, 5), -ETIMEDOUT);
	channel_close(&e.other);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, -1), 0);
	CU_ASSERT_EQUAL(
	    channel_send(&e.broker, BODY(PING), &ping, NULL, 0, 0), -EPIPE);
	channel_close(&e.broker);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, -1), 0);
	CU_ASSERT_EQUAL(
	    channel_send(&e.broker, BODY(PING), &ping, NULL, 0, 0), -EPIPE);
	channel_free(&got);
}

static void
a_peer_that_dies_with_our_words_unread_is_closed(void)
{
	Bulkhead__Ping ping = BULKHEAD__PING__INIT;
	struct channel_message got;
	struct ends e;

	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_RUNNING);
	CU_ASSERT_EQUAL(
	    channel_send(&e.broker, BODY(PING), &ping, NULL, 0, 0), 0);
	channel_close(&e.other);
	CU_ASSERT_EQUAL(channel_receive(&e.broker, &got, 1000), 0);
	destroy(&e);
}

static void
a_peer_that_does_not_read_blocks_nobody(void)
{
	Bulkhead__Ping ping = BULKHEAD__PING__INIT;
	struct ends e;
	uint64_t seq;
	int r = 0;

	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_RUNNING);
	for (unsigned i = 0; i < 100000 && r == 0; i++) {
		seq = e.broker.seq;
		r = channel_send(&e.broker, BODY(PING), &ping, NULL, 0, 0);
	}
	CU_ASSERT_EQUAL(r, -EAGAIN);
	/* What did not go has no number. */
	CU_ASSERT_EQUAL(e.broker.seq, seq);
	destroy(&e);
}

/* A device's whole life, from its own thread. */
static void *
device_life(void *arg)
{
	Bulkhead__Hello hello;
	Bulkhead__Ready ready = BULKHEAD__READY__INIT;
	Bulkhead__Pong pong = BULKHEAD__PONG__INIT;
	Bulkhead__Log log;
	struct channel *c = arg;
	struct channel_message m;
	int r;

	bulkhead__hello__init(&hello);
	bulkhead__log__init(&log);
	r = channel_send(c, BODY(HELLO), &hello, NULL, 0, 0);
	while (r == 0 && channel_receive(c, &m, 10000) == 1) {
		int body_case = (int)m.envelope->body_case;
		uint64_t seq = m.envelope->seq;

		channel_free(&m);
		if (body_case == BODY(CONFIGURE))
			r = channel_send(c, BODY(READY), &ready, NULL, 0, seq);
		else if (body_case == BODY(PING))
			r = channel_send(c, BODY(PONG), &pong, NULL, 0, seq);
		else
			break;
	}
	if (r == 0)
		r = channel_send(c, BODY(LOG), &log, NULL, 0, 0);
	channel_close(c);
	return NULL;
}

static void
a_device_lives_a_whole_life(void)
{
	Bulkhead__Configure configure;
	Bulkhead__Ping ping = BULKHEAD__PING__INIT;
	Bulkhead__Finish finish = BULKHEAD__FINISH__INIT;
	static const int heard[] = { BODY(HELLO), BODY(READY), BODY(PONG),
		BODY(LOG) };
	int fds[] = { 0, 1, 2 }, r = 0;
	struct channel_message m;
	struct ends e;
	pthread_t t;

	make(&e, CHANNEL_BROKER_TO_DEVICE, CHANNEL_NEW);
	bulkhead__configure__init(&configure);
	BUG_ON(pthread_create(&t, NULL, device_life, &e.other) != 0);
	for (unsigned i = 0; i < ARRAY_LEN(heard); i++) {
		r = channel_receive(&e.broker, &m, 10000);
		CU_ASSERT_EQUAL(r, 1);
		if (r != 1)
			break;
		CU_ASSERT_EQUAL((int)m.envelope->body_case, heard[i]);
		channel_free(&m);
		if (i == 0)
			r = channel_send(
			    &e.broker, BODY(CONFIGURE), &configure, fds, 3, 0);
		else if (i == 1)
			r = channel_send(
			    &e.broker, BODY(PING), &ping, NULL, 0, 0);
		else if (i == 2)
			r = channel_send(
			    &e.broker, BODY(FINISH), &finish, NULL, 0, 0);
		CU_ASSERT(r >= 0);
	}
	if (r == 1)
		CU_ASSERT_EQUAL(channel_receive(&e.broker, &m, 10000), 0);
	CU_ASSERT_EQUAL(e.broker.state, CHANNEL_FINISHING);
	channel_close(&e.broker);
	pthread_join(t, NULL);
}

int
main(void)
{
	static const struct named_test tests[] = {
		NAMED_TEST(a_message_arrives_with_its_fds),
		NAMED_TEST(an_answer_carries_its_questions_number),
		NAMED_TEST(the_table_has_every_message_once_and_makes_sense),
		NAMED_TEST(sending_and_receiving_obey_the_table),
		NAMED_TEST(refuses_to_send_what_the_table_forbids),
		NAMED_TEST(
		    refuses_what_a_hostile_peer_sends_and_closes_its_fds),
		NAMED_TEST(refuses_a_small_datagram_that_unpacks_to_a_lot),
		NAMED_TEST(the_allocator_gives_no_more_than_its_bounds),
		NAMED_TEST(tells_nothing_yet_from_closed),
		NAMED_TEST(a_peer_that_dies_with_our_words_unread_is_closed),
		NAMED_TEST(a_peer_that_does_not_read_blocks_nobody),
		NAMED_TEST(a_device_lives_a_whole_life),
	};
	return named_tests_run("channel", tests, ARRAY_LEN(tests));
}
