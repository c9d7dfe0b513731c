/* What libslirp and glib get instead of the operating system. */
#include "devices/ext/net_user_shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base.h"

#define LINES_MAX 100u /* that the libraries may say in a process's life */

static char resolv[SHIM_RESOLV_MAX];
static char entropy[64];

/* The names that libslirp and glib import; no header has the latter. */
void g_log(const char *domain, int level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void g_return_if_fail_warning(
    const char *domain, const char *function, const char *expression);
void g_warn_message(const char *domain, const char *file, int line,
    const char *function, const char *expression);

FILE *
fopen64(const char *path, const char *mode)
{
	bool read_only = strcmp(mode, "r") == 0 || strcmp(mode, "rb") == 0;

	if (read_only && strcmp(path, "/etc/resolv.conf") == 0 &&
	    resolv[0] != '\0')
		return fmemopen(resolv, strlen(resolv), "r");
	if (read_only && strcmp(path, "/dev/urandom") == 0)
		return fmemopen(entropy, sizeof(entropy), "r");
	errno = ENOENT;
	return NULL;
}

/* libslirp compares two of them to see whether the file has changed. */
int
stat64(const char *path, struct stat64 *st)
{
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/etc/resolv.conf") == 0)
		return 0;
	errno = ENOENT;
	return -1;
}

static bool
may_speak(void)
{
	static unsigned lines;

	if (lines >= LINES_MAX)
		return false;
	lines++;
	return true;
}

void
g_log(const char *domain, int level UNUSED, const char *fmt, ...)
{
	va_list ap;

	if (!may_speak())
		return;
	fprintf(stderr, "%s: ", domain ? domain : "glib");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void
g_return_if_fail_warning(
    const char *domain, const char *function, const char *expression)
{
	if (may_speak())
		fprintf(stderr, "%s: %s: not %s\n", domain ? domain : "glib",
		    function, expression);
}

void
g_warn_message(const char *domain, const char *file, int line,
    const char *function UNUSED, const char *expression)
{
	if (may_speak())
		fprintf(stderr, "%s: %s:%d: %s\n", domain ? domain : "glib",
		    file, line, expression);
}

/* An address that can be parsed without asking for an interface's name. */
static bool
is_address(const char *text)
{
	unsigned char a[16];

	return inet_pton(AF_INET, text, a) == 1 ||
	    inet_pton(AF_INET6, text, a) == 1;
}

void
shim_filter_resolv(const char *text, char out[SHIM_RESOLV_MAX])
{
	size_t n = 0;

	out[0] = '\0';
	while (*text != '\0') {
		char line[128] = "", address[64] = "";
		size_t length = strcspn(text, "\n");

		if (length < sizeof(line)) {
			memcpy(line, text, length);
			if (sscanf(line, "nameserver %63s", address) == 1 &&
			    is_address(address) &&
			    n + strlen(address) + 13 < SHIM_RESOLV_MAX)
				n += (size_t)snprintf(out + n,
				    SHIM_RESOLV_MAX - n, "nameserver %s\n",
				    address);
		}
		text += length + (text[length] == '\n');
	}
}

void
shim_prepare(char text[SHIM_RESOLV_MAX])
{
	char file[4096] = "";
	int fd = open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;

	/* Without either, the guest has no names, or no luck: it may go on. */
	if (getrandom(entropy, sizeof(entropy), 0) < 0)
		entropy[0] = 1;
	if (fd >= 0) {
		n = read(fd, file, sizeof(file) - 1);
		close(fd);
	}
	file[MAX(n, 0)] = '\0';
	shim_filter_resolv(file, text);
}

void
shim_set_resolv(const char *text)
{
	snprintf(resolv, sizeof(resolv), "%s", text);
}
