/*
 * What libslirp and glib would ask of the operating system by name, or say to
 * the user, and what they get instead.
 *
 * A sandboxed process opens nothing.  libslirp reads /etc/resolv.conf whenever
 * the guest asks for a name, glib reads /dev/urandom once: fopen64() and stat64()
 * of this program know these two, as memory, and nothing else.
 */
#ifndef DEVICES_EXT_NET_USER_SHIM_H
#define DEVICES_EXT_NET_USER_SHIM_H

#include <stddef.h>

#define SHIM_RESOLV_MAX 512u

/* Before the sandbox: fill the entropy, and read the name servers of this
 * system into text: "nameserver A\n" lines only; "" if there are none. */
void shim_prepare(char text[SHIM_RESOLV_MAX]);
/* What the process finds in /etc/resolv.conf from now on. */
void shim_set_resolv(const char *text);
/* Take from the text of a resolv.conf the lines that are kept. */
void shim_filter_resolv(const char *text, char out[SHIM_RESOLV_MAX]);

#endif
