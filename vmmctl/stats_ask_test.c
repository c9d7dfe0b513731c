/* Asking for statistics: all at once, or one by one where that is too much. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base.h"
#include "proto/exitcodes.h"
#include "tests/named_tests.h"
#include "vmmctl/stats.h"

static char a[] = "a", b[] = "b", type[] = "rtc", text[] = "too much",
	    none[] = "no such device";
static bool too_much; /* for one message */

static void
answer_stats(struct channel *c, uint64_t seq, const char *device)
{
	Bulkhead__DeviceStats d[2], *list[2] = { &d[0], &d[1] };
	Bulkhead__Failure f;
	Bulkhead__Stats s;

	bulkhead__failure__init(&f);
	bulkhead__stats__init(&s);
	s.devices = list;
	s.uptime_ns = 77;
	for (unsigned i = 0; i < 2; i++) {
		bulkhead__device_stats__init(&d[i]);
		d[i].name = i == 0 ? a : b;
		d[i].type = type;
	}
	if (device[0] == '\0') {
		s.n_devices = 2;
	} else if (strcmp(device, a) == 0 || strcmp(device, b) == 0) {
		list[0] = &d[strcmp(device, b) == 0];
		s.n_devices = 1;
	}
	f.error = device[0] == '\0' ? E2BIG : ENOENT;
	f.text = device[0] == '\0' ? text : none;
	if (s.n_devices == 0 || (device[0] == '\0' && too_much))
		channel_send(
		    c, BULKHEAD__ENVELOPE__BODY_FAILURE, &f, NULL, 0, seq);
	else
		channel_send(
		    c, BULKHEAD__ENVELOPE__BODY_STATS, &s, NULL, 0, seq);
}

static void
answer_describe(struct channel *c, uint64_t seq)
{
	Bulkhead__DeviceInfo d[2], *list[2] = { &d[0], &d[1] };
	Bulkhead__Description all;

	bulkhead__description__init(&all);
	for (unsigned i = 0; i < 2; i++) {
		bulkhead__device_info__init(&d[i]);
		d[i].name = i == 0 ? a : b;
	}
	all.devices = list;
	all.n_devices = 2;
	channel_send(
	    c, BULKHEAD__ENVELOPE__BODY_DESCRIPTION, &all, NULL, 0, seq);
}

/* A broker in a child, with nothing but answers. */
static pid_t
start_broker(struct channel *client)
{
	struct channel_message m;
	struct channel c;
	int pair[2];
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	CU_ASSERT_FATAL(pid >= 0);
	if (pid != 0) {
		close(pair[1]);
		channel_init(client, pair[0], CHANNEL_CLIENT);
		return pid;
	}
	close(pair[0]);
	channel_init(&c, pair[1], CHANNEL_BROKER_TO_CLIENT);
	while (channel_receive(&c, &m, 20000) == 1) {
		const Bulkhead__Envelope *e = m.envelope;

		if (e->body_case == BULKHEAD__ENVELOPE__BODY_QUERY_STATS)
			answer_stats(&c, e->seq, e->query_stats->device);
		else
			answer_describe(&c, e->seq);
		channel_free(&m);
	}
	_exit(0);
}

static void
end_broker(struct channel *client, pid_t pid)
{
	channel_close(client);
	CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
}

static void
both_are_there(bool one_by_one)
{
	static struct stats_answer answer;
	struct channel c;
	char why[STATS_WHY];
	pid_t pid;

	too_much = one_by_one;
	pid = start_broker(&c);
	CU_ASSERT_EQUAL_FATAL(stats_ask(&c, "", &answer, why), EXIT_POWEROFF);
	CU_ASSERT_EQUAL(answer.n, one_by_one ? 2 : 1);
	CU_ASSERT_EQUAL(answer.stats->uptime_ns, 77);
	CU_ASSERT_EQUAL_FATAL(answer.stats->n_devices, 2);
	CU_ASSERT_STRING_EQUAL(answer.stats->devices[0]->name, "a");
	CU_ASSERT_STRING_EQUAL(answer.stats->devices[1]->name, "b");
	stats_free(&answer);
	end_broker(&c, pid);
}

static void
one_message_is_enough(void)
{
	both_are_there(false);
}

static void
too_much_for_one_message_comes_in_several(void)
{
	both_are_there(true);
}

static void
says_what_the_broker_says(void)
{
	static struct stats_answer answer;
	struct channel c;
	char why[STATS_WHY];
	pid_t pid = start_broker(&c);

	CU_ASSERT_EQUAL(stats_ask(&c, "b", &answer, why), EXIT_POWEROFF);
	CU_ASSERT_STRING_EQUAL(answer.stats->devices[0]->name, "b");
	stats_free(&answer);
	CU_ASSERT_EQUAL(stats_ask(&c, "c", &answer, why), EXIT_NO_VM);
	CU_ASSERT_STRING_EQUAL(why, none);
	end_broker(&c, pid);
}

static const struct named_test tests[] = {
	NAMED_TEST(one_message_is_enough),
	NAMED_TEST(too_much_for_one_message_comes_in_several),
	NAMED_TEST(says_what_the_broker_says),
};

int
main(void)
{
	return named_tests_run("stats_ask", tests, ARRAY_LEN(tests));
}
