/* top: what the devices of a machine do, again and again. */
#include "vmmctl/top.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/stats.h"
#include "vmmctl/stats_format.h"

#define CTRL_C	     3
#define INTERVAL_MAX 3600.0

/* ---- rates ---- */

static const Bulkhead__DeviceStats *
find(const Bulkhead__Stats *s, const char *name)
{
	for (size_t i = 0; s != NULL && i < s->n_devices; i++)
		if (strcmp(s->devices[i]->name, name) == 0)
			return s->devices[i];
	return NULL;
}

static double
rate(uint64_t before, uint64_t now, double seconds)
{
	if (seconds <= 0)
		return 0;
	return (double)(now >= before ? now - before : now) / seconds;
}

struct pair {
	const Bulkhead__DeviceStats *before, *now; /* before may be NULL */
	double seconds;
};

static double
counter_rate(const struct pair *p, const char *name)
{
	return rate(
	    p->before == NULL ? 0 : stats_device_counter(p->before, name),
	    stats_device_counter(p->now, name), p->seconds);
}

/* The 99th percentile of what came between. */
static const char *
between(char out[16], const Bulkhead__Histogram *before,
    const Bulkhead__Histogram *now)
{
	struct stats_histogram a, b;

	stats_from_message(&a, before);
	stats_from_message(&b, now);
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		uint64_t was = stats_get(&a.bucket[i]),
			 is = stats_get(&b.bucket[i]);

		stats_set(&b.bucket[i], is >= was ? is - was : is);
	}
	return stats_format_time(out, stats_percentile(&b, 990));
}

static void
print_device(FILE *out, const struct pair *p, const char *eol)
{
	const Bulkhead__DeviceStats *d = p->now, *b = p->before;
	char in[16], to[16], handler[16], request[16], memory[16];

	fprintf(out,
	    "%-12.12s %-14.14s %9.0f %9.0f %9.0f %8s %8s %5llu %8s %8s %5.1f "
	    "%8s "
	    "%8u%s",
	    d->name, d->type,
	    counter_rate(p, "reads") + counter_rate(p, "writes"),
	    counter_rate(p, "requests"), counter_rate(p, "interrupts"),
	    stats_format_bytes(in, (uint64_t)counter_rate(p, "bytes_in")),
	    stats_format_bytes(to, (uint64_t)counter_rate(p, "bytes_out")),
	    (unsigned long long)stats_device_counter(d, "queue_depth"),
	    between(handler, b == NULL ? NULL : b->handler, d->handler),
	    between(request, b == NULL ? NULL : b->request, d->request),
	    rate(b == NULL ? 0 : b->cpu_ns, d->cpu_ns, p->seconds) / 1e7,
	    stats_format_bytes(memory, d->private_bytes), d->restarts, eol);
}

void
top_print(FILE *out, const char *vm, const Bulkhead__Stats *before,
    const Bulkhead__Stats *now, const char *eol)
{
	double seconds =
	    before == NULL ? 0 : rate(before->uptime_ns, now->uptime_ns, 1e9);
	double cpu = 0;

	for (size_t i = 0; before != NULL && i < now->n_vcpus; i++)
		cpu += rate(i < before->n_vcpus ? before->vcpus[i]->cpu_ns : 0,
			   now->vcpus[i]->cpu_ns, seconds) /
		    1e7;
	fprintf(out, "%s: up %.0f s, %zu vCPUs at %.0f%% together%s", vm,
	    (double)now->uptime_ns / 1e9, now->n_vcpus, cpu, eol);
	fprintf(out,
	    "%-12s %-14s %9s %9s %9s %8s %8s %5s %8s %8s %5s %8s %8s%s", "NAME",
	    "TYPE", "ACCESS/s", "REQ/s", "IRQ/s", "IN/s", "OUT/s", "DEPTH",
	    "HANDLER", "REQUEST", "CPU%", "MEMORY", "RESTARTS", eol);
	for (size_t i = 0; i < now->n_devices; i++) {
		const struct pair p = { find(before, now->devices[i]->name),
			now->devices[i], seconds };

		print_device(out, &p, eol);
	}
}

/* ---- the screen ---- */

static struct termios saved;
static bool taken;

static void
give_back(void)
{
	if (!taken)
		return;
	/* The cursor, and the screen as it was. */
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	taken = false;
}

static bool
take(void)
{
	struct termios t;

	if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
		return false;
	t = saved;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &t) < 0)
		return false;
	taken = true;
	atexit(give_back);
	fputs("\033[?1049h\033[?25l", stdout);
	return true;
}

/* Until the time has come; true: the user wants to leave. */
static bool
wait_key(int signals, int ms)
{
	struct pollfd p[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};
	uint64_t deadline = time_now_ns() + (uint64_t)ms * 1000000;
	char key;

	for (;;) {
		uint64_t now = time_now_ns();

		if (now >= deadline ||
		    poll(p, ARRAY_LEN(p), (int)((deadline - now) / 1000000)) <=
			0)
			return false;
		if (p[1].revents != 0 || read(STDIN_FILENO, &key, 1) != 1 ||
		    key == 'q' || key == CTRL_C)
			return true;
	}
}

static int
watch(struct channel *c, const char *vm, int ms)
{
	static struct stats_answer answers[2];
	struct stats_answer *now = &answers[0], *before = NULL;
	int signals, code;
	char why[STATS_WHY];
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signals = signalfd(-1, &mask, SFD_CLOEXEC);
	do {
		code = stats_ask(c, "", now, why);
		if (code != EXIT_POWEROFF)
			break;
		fputs("\033[H", stdout);
		top_print(stdout, vm, before == NULL ? NULL : before->stats,
		    now->stats, "\033[K\n");
		fputs("\033[J", stdout);
		fflush(stdout);
		if (before != NULL)
			stats_free(before);
		before = now;
		now = &answers[now == &answers[0]];
	} while (!wait_key(signals, ms));
	if (before != NULL)
		stats_free(before);
	give_back();
	close(signals);
	return code == EXIT_POWEROFF ? code
				     : complain_code(code, "%s: %s", vm, why);
}

int
command_top(int argc, char **argv)
{
	const char *vm = NULL, *interval = "1";
	struct channel c;
	double seconds;
	char *end;
	int code;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--interval") == 0 && i + 1 < argc)
			interval = argv[++i];
		else if (strncmp(argv[i], "--interval=", 11) == 0)
			interval = argv[i] + 11;
		else if (argv[i][0] == '-' || vm != NULL)
			return complain_code(EXIT_USAGE,
			    "top: unknown option %s; known is: --interval",
			    argv[i]);
		else
			vm = argv[i];
	}
	if (vm == NULL)
		return complain_code(EXIT_USAGE,
		    "top: usage: vmmctl top VM [--interval SECONDS]");
	seconds = strtod(interval, &end);
	if (end == interval || *end != '\0' ||
	    !(seconds >= 0.1 && seconds <= INTERVAL_MAX))
		return complain_code(EXIT_USAGE,
		    "--interval %s: not a number from 0.1 to 3600", interval);
	code = connect_open(&c, vm);
	if (code != EXIT_POWEROFF)
		return code;
	if (take())
		code = watch(&c, vm, (int)(seconds * 1000));
	else
		code = complain_code(EXIT_USAGE,
		    "top: this is not a terminal; see vmmctl stats");
	channel_close(&c);
	return code;
}
