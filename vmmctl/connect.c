/* Finding programs and VMs, and talking to them. */
#include "vmmctl/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/exitcodes.h"

#define ANSWER_MS 5000

int
complain_code(int code, const char *fmt, ...)
{
	va_list ap;

	fputs("vmmctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

int
connect_find_program(const char *name, char path[PATH_MAX])
{
	/* In the build tree vmmd-inline is in vmmd's folder, and so on. */
	const char *folder = strncmp(name, "vmmd", 4) == 0 ? "vmmd" : "devhost";
	const char *forced = getenv("BULKHEAD_LIBEXEC");
	char self[PATH_MAX / 2], *slash;
	ssize_t n;

	if (forced != NULL) {
		snprintf(path, PATH_MAX, "%s/%s", forced, name);
		return access(path, X_OK) == 0 ? 0 : -ENOENT;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return -ENOENT;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return -ENOENT;
	*slash = '\0';
	snprintf(path, PATH_MAX, "%s/../libexec/bulkhead/%s", self, name);
	if (access(path, X_OK) == 0)
		return 0;
	snprintf(path, PATH_MAX, "%s/../%s/%s", self, folder, name);
	if (access(path, X_OK) == 0)
		return 0;
	snprintf(path, PATH_MAX, "%s/%s", self, name);
	return access(path, X_OK) == 0 ? 0 : -ENOENT;
}

int
connect_list_types(const char *devhost, struct known_type *types, unsigned room)
{
	int fds[2], status, n = 0;
	char line[1024];
	FILE *in;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return -EAGAIN;
	}
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		execl(devhost, "devhost", "--list", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	in = fdopen(fds[0], "r");
	if (in == NULL) {
		close(fds[0]);
		n = -ENOMEM;
	} else {
		while (fgets(line, sizeof(line), in) != NULL)
			if (n < (int)room &&
			    options_parse_type(&types[n], line))
				n++;
		fclose(in);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (n >= 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		return -EIO;
	return n == 0 ? -EIO : n;
}

socklen_t
connect_address(struct sockaddr_un *a, uid_t uid, const char *name)
{
	int n;

	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	n = snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, "bulkhead/%u/%s",
	    (unsigned)uid, name);
	return (
	    socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1u + (size_t)n);
}

int
connect_vm(struct channel *c, uid_t uid, const char *name)
{
	struct sockaddr_un a;
	socklen_t n;
	int fd;

	if (!options_name_ok(name))
		return -ENOENT;
	n = connect_address(&a, uid, name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&a, n) < 0) {
		int err = errno == ECONNREFUSED ? -ENOENT : -errno;

		close(fd);
		return err;
	}
	channel_init(c, fd, CHANNEL_CLIENT);
	return 0;
}

int
connect_ask(struct channel *c, int body_case, void *body,
    struct channel_message *m, struct channel_message *ended)
{
	int r = channel_send(c, body_case, body, NULL, 0, 0);

	if (r < 0)
		return r;
	for (;;) {
		r = channel_receive(c, m, ANSWER_MS);
		if (r != 1)
			return r;
		if (ended != NULL && ended->envelope == NULL &&
		    m->envelope->body_case == BULKHEAD__ENVELOPE__BODY_ENDED) {
			*ended = *m;
			continue;
		}
		if (m->envelope->body_case != BULKHEAD__ENVELOPE__BODY_EVENT)
			return r;
		channel_free(m);
	}
}

int
connect_failure_code(const Bulkhead__Failure *f)
{
	switch (f->error) {
	case EINVAL:
		return EXIT_USAGE;
	case ENOEXEC:
		return EXIT_INPUT;
	case ENODEV:
		return EXIT_NO_HYPERVISOR;
	case EPERM:
		return EXIT_SANDBOX;
	case ENOENT:
	case ESRCH:
		return EXIT_NO_VM;
	default:
		return EXIT_ERROR;
	}
}

char *
connect_text(const char *s)
{
	union {
		const char *in;
		char *out;
	} u = { .in = s };

	return u.out;
}

int
connect_open(struct channel *c, const char *vm)
{
	int r = connect_vm(c, geteuid(), vm);

	if (r == -ENOENT)
		return complain_code(EXIT_NO_VM, "no VM %s is running", vm);
	if (r < 0)
		return complain_code(EXIT_ERROR, "VM %s: %s", vm, strerror(-r));
	return EXIT_POWEROFF;
}

int
connect_question(struct channel *c, int body_case, void *body, int wanted,
    struct channel_message *m)
{
	int r = connect_ask(c, body_case, body, m, NULL), code;

	if (r != 1)
		return complain_code(EXIT_ERROR,
		    r == 0 ? "the VM has ended" : "the VM does not answer");
	if ((int)m->envelope->body_case == wanted)
		return EXIT_POWEROFF;
	if (m->envelope->body_case == BULKHEAD__ENVELOPE__BODY_FAILURE)
		code = complain_code(connect_failure_code(m->envelope->failure),
		    "%s", m->envelope->failure->text);
	else
		code = complain_code(EXIT_ERROR, "the VM has ended");
	channel_free(m);
	return code;
}

int
connect_describe_as(
    int argc, char **argv, struct channel_message *m, bool *table)
{
	const char *vm = NULL, *format = "table";
	struct channel c;
	int code;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--format") == 0 && i + 1 < argc)
			format = argv[++i];
		else if (strncmp(argv[i], "--format=", 9) == 0)
			format = argv[i] + 9;
		else if (argv[i][0] == '-')
			return complain_code(EXIT_USAGE,
			    "%s: unknown option %s; known is: --format",
			    argv[0], argv[i]);
		else if (vm == NULL)
			vm = argv[i];
		else
			return complain_code(EXIT_USAGE,
			    "%s: %s: one VM at a time", argv[0], argv[i]);
	}
	if (vm == NULL)
		return complain_code(EXIT_USAGE,
		    "%s: usage: vmmctl %s VM [--format table|json]", argv[0],
		    argv[0]);
	if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		return complain_code(EXIT_USAGE,
		    "--format %s: unknown; known are: table json", format);
	*table = format[0] == 't';
	code = connect_open(&c, vm);
	if (code != EXIT_POWEROFF)
		return code;
	code = connect_describe(&c, m);
	channel_close(&c);
	return code;
}

bool
connect_wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

int
connect_describe(struct channel *c, struct channel_message *m)
{
	Bulkhead__Describe d;

	bulkhead__describe__init(&d);
	return connect_question(c, BULKHEAD__ENVELOPE__BODY_DESCRIBE, &d,
	    BULKHEAD__ENVELOPE__BODY_DESCRIPTION, m);
}
