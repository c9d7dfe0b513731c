/*
 * For Linux guests: echo over vsock.
 *
 *	vsock_echo listen PORT COUNT	 echo COUNT connections, then end
 *	vsock_echo connect CID PORT BYTES  send BYTES, expect them back
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int
complain(const char *what)
{
	printf("vsock_echo: %s: %s\n", what, strerror(errno));
	return 1;
}

static bool
send_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, p, n);

		if (done <= 0)
			return false;
		p += done;
		n -= (size_t)done;
	}
	return true;
}

static int
echo(int fd)
{
	static uint8_t buffer[65536];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		if (!send_all(fd, buffer, (size_t)n))
			return complain("echo");
	close(fd);
	return n < 0 ? complain("read") : 0;
}

static int
serve(unsigned port, int count)
{
	const struct sockaddr_vm here = { .svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port };
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
	int bad = 0;

	if (listener < 0 ||
	    bind(listener, (const struct sockaddr *)&here, sizeof(here)) < 0 ||
	    listen(listener, 8) < 0)
		return complain("listen");
	while (count-- > 0) {
		int fd = accept(listener, NULL, NULL);

		bad |= fd < 0 ? complain("accept") : echo(fd);
	}
	return bad;
}

static uint8_t
byte_at(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7);
}

/* Chunk by chunk, so that both ways are in use and neither is full. */
static int
ask(unsigned cid, unsigned port, size_t bytes)
{
	const struct sockaddr_vm there = {
		.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	uint8_t out[4096], in[4096];

	if (fd < 0 ||
	    connect(fd, (const struct sockaddr *)&there, sizeof(there)) < 0)
		return complain("connect");
	for (size_t at = 0; at < bytes;) {
		size_t n = bytes - at < sizeof(out) ? bytes - at : sizeof(out);
		size_t got = 0;

		for (size_t i = 0; i < n; i++)
			out[i] = byte_at(at + i);
		if (!send_all(fd, out, n))
			return complain("write");
		while (got < n) {
			ssize_t r = read(fd, in + got, n - got);

			if (r <= 0)
				return complain("read");
			got += (size_t)r;
		}
		if (memcmp(in, out, n) != 0) {
			printf("vsock_echo: wrong bytes from %zu on\n", at);
			return 1;
		}
		at += n;
	}
	close(fd);
	return 0;
}

int
main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && strcmp(argv[1], "listen") == 0)
		return serve((unsigned)atoi(argv[2]), atoi(argv[3]));
	if (argc == 5 && strcmp(argv[1], "connect") == 0)
		return ask((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]),
		    strtoul(argv[4], NULL, 0));
	fprintf(stderr,
	    "usage: vsock_echo listen PORT COUNT | connect CID PORT BYTES\n");
	return 2;
}
