/* Running a scenario. */
#include "vmmctl/scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/exitcodes.h"
#include "vmmctl/commands.h"
#include "vmmctl/connect.h"
#include "vmmctl/fault.h"

#define START_NS    60000000000ull
#define LEAVE_NS    5000000000ull
#define LOOK_MS	    10 /* between two looks at what may have happened */
#define CONSOLE_MAX (64u << 20) /* bytes that are kept of it */
#define FILE_MAX    (1u << 20)

/* The VM, by a vmmctl of its own. */
struct machine {
	struct scenario *s;
	char name[OPTIONS_NAME];
	pid_t pid; /* 0: it has ended */
	int code; /* then; -1: by a signal */
	int in, out; /* -1: closed */
	char *errors; /* what it said on standard error */
	int err;
	size_t nerrors;
	size_t matched; /* of the console: where the last match ends */
};

/* ---- what it says ---- */

static bool
append(char **text, size_t *n, const char *bytes, size_t more)
{
	char *grown;

	if (*n + more > CONSOLE_MAX)
		return false;
	grown = realloc(*text, *n + more + 1);
	if (grown == NULL)
		return false;
	memcpy(grown + *n, bytes, more);
	*n += more;
	grown[*n] = '\0';
	*text = grown;
	return true;
}

static void
take_output(int *fd, char **text, size_t *n)
{
	char bytes[16384];
	ssize_t r = read(*fd, bytes, sizeof(bytes));

	if (r > 0) {
		append(text, n, bytes, (size_t)r);
	} else if (r == 0 || errno != EINTR) {
		close(*fd);
		*fd = -1;
	}
}

/* Take what comes within LOOK_MS, and see whether it lives. */
static void
look(struct machine *m)
{
	struct pollfd p[] = { { .fd = m->out, .events = POLLIN },
		{ .fd = m->err, .events = POLLIN } };
	int status;

	poll(p, ARRAY_LEN(p), LOOK_MS);
	if (m->out >= 0 && p[0].revents != 0)
		take_output(&m->out, &m->s->console, &m->s->nconsole);
	if (m->err >= 0 && p[1].revents != 0)
		take_output(&m->err, &m->errors, &m->nerrors);
	/* What it said is read before its end is seen. */
	if (m->pid > 0 && m->out < 0 &&
	    waitpid(m->pid, &status, WNOHANG) == m->pid) {
		m->pid = 0;
		m->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
}

/* ---- results ---- */

PRINTF_LIKE(2, 3)
static bool
fail(struct scenario_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&r->message, fmt, ap) < 0)
		r->message = NULL;
	va_end(ap);
	return false;
}

/* The last line that it said, for one that ended too early. */
static const char *
last_words(struct machine *m)
{
	char *end;

	if (m->errors == NULL)
		return "";
	end = m->errors + strlen(m->errors);
	while (end > m->errors && end[-1] == '\n')
		*--end = '\0';
	end = strrchr(m->errors, '\n');
	return end == NULL ? m->errors : end + 1;
}

static bool
fail_ended(struct machine *m, struct scenario_result *r)
{
	return fail(
	    r, "the VM ended with exit code %d: %s", m->code, last_words(m));
}

/* ---- start ---- */

static int
make_config(const struct scenario *s)
{
	int fd = memfd_create("scenario", 0);
	char *text = json_dumps(s->vm, 0);

	if (fd >= 0 &&
	    (text == NULL ||
		write(fd, text, strlen(text)) != (ssize_t)strlen(text))) {
		close(fd);
		fd = -1;
	}
	free(text);
	return fd;
}

NORETURN static void
run_vm(const struct machine *m, int config, int in, int out, int err)
{
	char path[32], self[] = "/proc/self/exe";

	/* Whatever becomes of us, it does not stay. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", config);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execl(self, "vmmctl", "run", "--config", path, "--name", m->name,
	    (char *)NULL);
	_exit(EXIT_ERROR);
}

static bool
start_process(struct machine *m, struct scenario_result *r)
{
	int config = make_config(m->s), in[2] = { -1, -1 }, out[2] = { -1, -1 },
	    err[2] = { -1, -1 };
	bool made = config >= 0 && pipe2(in, O_CLOEXEC) == 0 &&
	    pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0;

	if (made) {
		m->pid = fork();
		if (m->pid == 0)
			run_vm(m, config, in[0], out[1], err[1]);
	}
	if (config >= 0)
		close(config);
	if (in[0] >= 0)
		close(in[0]);
	if (out[1] >= 0)
		close(out[1]);
	if (err[1] >= 0)
		close(err[1]);
	m->in = in[1];
	m->out = out[0];
	m->err = err[0];
	if (!made || m->pid < 0) {
		m->pid = 0;
		return fail(r, "cannot start: %s", strerror(errno));
	}
	return true;
}

/* Ask it; NULL: it does not answer so.  To be freed with channel_free(). */
static bool
ask(const struct machine *m, struct channel_message *answer)
{
	Bulkhead__Describe d;
	struct channel c;
	bool right = false;

	if (connect_vm(&c, geteuid(), m->name) < 0)
		return false;
	bulkhead__describe__init(&d);
	if (connect_ask(
		&c, BULKHEAD__ENVELOPE__BODY_DESCRIBE, &d, answer, NULL) == 1) {
		right = answer->envelope->body_case ==
		    BULKHEAD__ENVELOPE__BODY_DESCRIPTION;
		if (!right)
			channel_free(answer);
	}
	channel_close(&c);
	return right;
}

static bool
is_running(const struct machine *m)
{
	struct channel_message answer;
	bool running;

	if (!ask(m, &answer))
		return false;
	running = strcmp(answer.envelope->description->state, "running") == 0;
	channel_free(&answer);
	return running;
}

static bool
start(struct machine *m, struct scenario_result *r)
{
	const char *name = json_string_value(json_object_get(m->s->vm, "name"));
	uint64_t end = time_now_ns() + START_NS;

	if (name != NULL)
		snprintf(m->name, sizeof(m->name), "%.31s", name);
	else
		snprintf(
		    m->name, sizeof(m->name), "scenario-%d", (int)getpid());
	if (!start_process(m, r))
		return false;
	while (!is_running(m)) {
		look(m);
		/* A short one may have ended before it was looked at. */
		if (m->pid == 0)
			return m->s->nconsole > 0 || m->code == EXIT_POWEROFF
			    ? true
			    : fail_ended(m, r);
		if (time_now_ns() > end)
			return fail(r, "it does not start");
	}
	return true;
}

/* ---- steps ---- */

static bool
await_text(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	uint64_t end = time_now_ns() + step->timeout_ns;
	struct scenario *s = m->s;
	size_t n = strlen(step->text);

	for (;;) {
		const char *at = s->console == NULL
		    ? NULL
		    : memmem(s->console + m->matched, s->nconsole - m->matched,
			  step->text, n);

		if (at != NULL) {
			m->matched = (size_t)(at - s->console) + n;
			return true;
		}
		if (m->pid == 0)
			return fail_ended(m, r);
		if (time_now_ns() > end)
			return fail(
			    r, "it did not come in time: %s", step->text);
		look(m);
	}
}

static bool
expect_not(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	const char *at;

	look(m);
	at = m->s->console == NULL ? NULL
				   : memmem(m->s->console, m->s->nconsole,
					 step->text, strlen(step->text));
	if (at == NULL)
		return true;
	return fail(r, "it is there, at byte %zu of the console: %.*s",
	    (size_t)(at - m->s->console), (int)strcspn(at, "\r\n"), at);
}

static bool
sleep_for(struct machine *m, uint64_t ns)
{
	uint64_t end = time_now_ns() + ns;

	while (time_now_ns() < end)
		look(m);
	return true;
}

static bool
send_text(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	size_t n = strlen(step->text);

	if (m->pid == 0)
		return fail_ended(m, r);
	return write(m->in, step->text, n) == (ssize_t)n
	    ? true
	    : fail(r, "cannot be sent: %s", strerror(errno));
}

/* A vmmctl of its own: what it complains of is the message. */
static bool
run_command(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	char program[] = "vmmctl", self[] = "/proc/self/exe", *said = NULL;
	char *argv[SCENARIO_WORDS + 1] = { program };
	int fds[2], status = -1;
	uint64_t end = time_now_ns() + step->timeout_ns;
	size_t n = 0;
	pid_t pid;

	for (unsigned i = 0; i < step->nwords; i++)
		argv[i + 1] = i == 1 ? m->name : step->words[i];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return fail(r, "%s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		execv(self, argv);
		_exit(EXIT_ERROR);
	}
	close(fds[1]);
	while (pid > 0 && waitpid(pid, &status, WNOHANG) == 0) {
		look(m);
		if (time_now_ns() > end)
			kill(pid, SIGKILL);
	}
	while (fds[0] >= 0)
		take_output(&fds[0], &said, &n);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_POWEROFF) {
		free(said);
		return true;
	}
	fail(r, "%s", said != NULL ? said : "it failed");
	free(said);
	return false;
}

static uint64_t
count_fired(const struct machine *m, const char *device)
{
	Bulkhead__QueryFaults query;
	struct channel_message answer;
	struct channel c;
	uint64_t fired = 0;

	if (connect_vm(&c, geteuid(), m->name) < 0)
		return 0;
	bulkhead__query_faults__init(&query);
	query.device = connect_text(device);
	if (connect_ask(&c, BULKHEAD__ENVELOPE__BODY_QUERY_FAULTS, &query,
		&answer, NULL) == 1) {
		const Bulkhead__Envelope *e = answer.envelope;

		if (e->body_case == BULKHEAD__ENVELOPE__BODY_FAULTS)
			for (size_t i = 0; i < e->faults->n_plans; i++)
				fired += e->faults->plans[i]->fired;
		channel_free(&answer);
	}
	channel_close(&c);
	return fired;
}

static uint64_t
count_restarts(const struct machine *m, const char *device)
{
	const Bulkhead__Description *d;
	struct channel_message answer;
	uint64_t n = 0;

	if (!ask(m, &answer))
		return 0;
	d = answer.envelope->description;
	for (size_t i = 0; i < d->n_devices; i++)
		if (strcmp(d->devices[i]->name, device) == 0)
			n = d->devices[i]->restarts;
	channel_free(&answer);
	return n;
}

static bool
await_count(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	uint64_t end = time_now_ns() + step->timeout_ns, n;

	for (;;) {
		n = step->verb == SCENARIO_FIRED
		    ? count_fired(m, step->text)
		    : count_restarts(m, step->text);
		if (n >= step->least)
			return true;
		if (m->pid == 0)
			return fail_ended(m, r);
		if (time_now_ns() > end)
			return fail(r, "%llu, not at least %llu",
			    (unsigned long long)n,
			    (unsigned long long)step->least);
		look(m);
	}
}

static bool
await_exit(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	uint64_t end = time_now_ns() + step->timeout_ns;

	while (m->pid != 0) {
		look(m);
		if (time_now_ns() > end)
			return fail(r, "it does not end");
	}
	return m->code == step->code ? true
				     : fail(r, "exit code %d, not %d: %s",
					   m->code, step->code, last_words(m));
}

static bool
take(struct machine *m, const struct scenario_step *step,
    struct scenario_result *r)
{
	switch (step->verb) {
	case SCENARIO_WAIT:
	case SCENARIO_EXPECT:
		return await_text(m, step, r);
	case SCENARIO_EXPECT_NOT:
		return expect_not(m, step, r);
	case SCENARIO_SLEEP:
		return sleep_for(m, step->ns);
	case SCENARIO_SEND:
		return send_text(m, step, r);
	case SCENARIO_COMMAND:
		return run_command(m, step, r);
	case SCENARIO_FIRED:
	case SCENARIO_RESTARTS:
		return await_count(m, step, r);
	case SCENARIO_EXIT:
		break;
	}
	return await_exit(m, step, r);
}

/* ---- all of it ---- */

/* It may be left running by the last step, or by one that failed. */
static void
leave(struct machine *m)
{
	uint64_t end = time_now_ns() + LEAVE_NS;

	if (m->pid > 0)
		kill(m->pid, SIGTERM);
	while (m->pid > 0 && time_now_ns() < end)
		look(m);
	if (m->pid > 0) {
		kill(m->pid, SIGKILL);
		waitpid(m->pid, NULL, 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		int fd = i == 0 ? m->in : i == 1 ? m->out : m->err;

		if (fd >= 0)
			close(fd);
	}
	free(m->errors);
}

bool
scenario_run(struct scenario *s)
{
	struct machine m = { .s = s, .in = -1, .out = -1, .err = -1 };
	uint64_t begin = time_now_ns(), at;
	bool passed = true;

	for (unsigned i = 0; passed && i <= s->nsteps; i++) {
		struct scenario_result *r = &s->result[i];

		at = time_now_ns();
		passed = i == 0 ? start(&m, r) : take(&m, &s->step[i - 1], r);
		r->seconds = (double)(time_now_ns() - at) / 1e9;
		r->outcome = passed ? SCENARIO_PASSED : SCENARIO_FAILED;
		printf("%s %s (%.3f s)%s%s\n", passed ? "ok    " : "FAILED",
		    scenario_case_name(s, i), r->seconds,
		    r->message != NULL ? ": " : "",
		    r->message != NULL ? r->message : "");
		fflush(stdout);
	}
	leave(&m);
	s->seconds = (double)(time_now_ns() - begin) / 1e9;
	return passed;
}

static char *
read_file(const char *path, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;
	struct stat st;
	ssize_t r = -1;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_size <= (off_t)FILE_MAX)
		text = malloc((size_t)st.st_size + 1);
	else
		errno = EINVAL;
	if (text != NULL)
		r = read(fd, text, (size_t)st.st_size);
	close(fd);
	if (r < 0) {
		free(text);
		return NULL;
	}
	*n = (size_t)r;
	return text;
}

static int
run_file(const char *path, const char *junit, const char *json)
{
	static struct scenario s;
	char err[512];
	size_t n;
	char *text = read_file(path, &n);
	int code = EXIT_POWEROFF, r = 0;

	if (text == NULL)
		return complain_code(
		    EXIT_INPUT, "scenario %s: %s", path, strerror(errno));
	if (scenario_parse(&s, text, n, err, sizeof(err)) < 0)
		code = complain_code(EXIT_USAGE, "scenario %s: %s", path, err);
	else if (!scenario_run(&s))
		code = EXIT_ERROR;
	if (code != EXIT_USAGE && junit != NULL) {
		r = scenario_write_junit(&s, junit);
		if (r < 0)
			code = complain_code(
			    EXIT_ERROR, "--junit %s: %s", junit, strerror(-r));
	}
	if (code != EXIT_USAGE && json != NULL) {
		r = scenario_write_json(&s, json);
		if (r < 0)
			code = complain_code(
			    EXIT_ERROR, "--json %s: %s", json, strerror(-r));
	}
	scenario_free(&s);
	free(text);
	return code;
}

int
command_scenario(int argc, char **argv)
{
	const char *path = NULL, *junit = NULL, *json = NULL;

	if (connect_wants_help(argc, argv))
		return command_help(argv[0], EXIT_POWEROFF);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--junit") == 0 && i + 1 < argc)
			junit = argv[++i];
		else if (strncmp(argv[i], "--junit=", 8) == 0)
			junit = argv[i] + 8;
		else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
			json = argv[++i];
		else if (strncmp(argv[i], "--json=", 7) == 0)
			json = argv[i] + 7;
		else if (argv[i][0] == '-' || path != NULL)
			return complain_code(EXIT_USAGE,
			    "scenario: unknown option %s; known are: --junit "
			    "--json",
			    argv[i]);
		else
			path = argv[i];
	}
	if (path == NULL)
		return complain_code(EXIT_USAGE,
		    "scenario: usage: vmmctl scenario FILE [--junit FILE] "
		    "[--json FILE]");
	return run_file(path, junit, json);
}
