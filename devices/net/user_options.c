/* The options of the user-mode network. */
#include "devices/net/user_options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base.h"

#define HOST 2u
#define DNS  3u
#define DHCP 15u

static void
place(struct user_options *o)
{
	o->host = o->network | htonl(HOST);
	o->dns = o->network | htonl(DNS);
	o->dhcp = o->network | htonl(DHCP);
}

void
user_options_reset(struct user_options *o)
{
	memset(o, 0, sizeof(*o));
	o->network = htonl(0x0a000200);
	o->mask = htonl(0xffffff00);
	o->ipv6 = true;
	place(o);
}

static int
parse_address(const char *val, uint32_t *out)
{
	struct in_addr a;

	if (inet_pton(AF_INET, val, &a) != 1)
		return -EINVAL;
	*out = a.s_addr;
	return 0;
}

/* Decimal digits up to one of `ends`: where it ends, or NULL. */
static const char *
parse_digits(const char *p, const char *ends, unsigned max, unsigned *out)
{
	unsigned n = 0, digits = 0;

	for (; *p >= '0' && *p <= '9' && digits < 5; p++, digits++)
		n = n * 10 + (unsigned)(*p - '0');
	if (digits == 0 || n > max || strchr(ends, *p) == NULL)
		return NULL;
	*out = n;
	return p;
}

/* ADDRESS/BITS; room for the addresses that we place in it is needed. */
static int
parse_network(struct user_options *o, const char *val)
{
	char address[INET_ADDRSTRLEN];
	const char *slash = strchr(val, '/');
	unsigned bits = 24;
	uint32_t network, mask;

	if (slash != NULL) {
		if ((size_t)(slash - val) >= sizeof(address) ||
		    parse_digits(slash + 1, "", 27, &bits) == NULL || bits < 8)
			return -EINVAL;
		memcpy(address, val, (size_t)(slash - val));
		address[slash - val] = '\0';
		val = address;
	}
	if (parse_address(val, &network) < 0)
		return -EINVAL;
	mask = htonl(~0u << (32 - bits));
	if (network & ~mask)
		return -EINVAL;
	o->network = network;
	o->mask = mask;
	place(o);
	return 0;
}

/* [ADDR]:PORT; where it ends, or NULL. */
static const char *
parse_end(const char *p, const char *ends, uint32_t *address, uint16_t *port)
{
	const char *colon = strchr(p, ':');
	char text[INET_ADDRSTRLEN];
	unsigned n;

	if (colon == NULL || (size_t)(colon - p) >= sizeof(text))
		return NULL;
	*address = 0;
	if (colon != p) {
		memcpy(text, p, (size_t)(colon - p));
		text[colon - p] = '\0';
		if (parse_address(text, address) < 0)
			return NULL;
	}
	p = parse_digits(colon + 1, ends, 65535, &n);
	if (p == NULL || n == 0)
		return NULL;
	*port = htons((uint16_t)n);
	return p;
}

int
user_forward_parse(const char *text, struct user_forward *f)
{
	const char *p = text;

	memset(f, 0, sizeof(*f));
	if (strncmp(p, "tcp:", 4) == 0)
		p += 4;
	else if (strncmp(p, "udp:", 4) == 0)
		p += 4;
	else if (*p == ':')
		p++;
	else
		return -EINVAL;
	f->udp = text[0] == 'u';
	p = parse_end(p, "-", &f->host_address, &f->host_port);
	if (p == NULL || *p != '-')
		return -EINVAL;
	p = parse_end(p + 1, "", &f->guest_address, &f->guest_port);
	return p == NULL || *p != '\0' ? -EINVAL : 0;
}

static int
parse_switch(const char *val, bool *out)
{
	if (strcmp(val, "on") != 0 && strcmp(val, "off") != 0)
		return -EINVAL;
	*out = strcmp(val, "on") == 0;
	return 0;
}

int
user_options_set(struct user_options *o, const char *key, const char *val)
{
	struct user_forward f;

	if (strcmp(key, "network") == 0)
		return parse_network(o, val);
	if (strcmp(key, "host") == 0)
		return parse_address(val, &o->host);
	if (strcmp(key, "dns") == 0)
		return parse_address(val, &o->dns);
	if (strcmp(key, "dhcp") == 0)
		return parse_address(val, &o->dhcp);
	if (strcmp(key, "resolver") == 0)
		return parse_address(val, &o->resolver);
	if (strcmp(key, "restrict") == 0)
		return parse_switch(val, &o->restricted);
	if (strcmp(key, "ipv6") == 0)
		return parse_switch(val, &o->ipv6);
	if (strcmp(key, "hostfwd") != 0)
		return -ENOENT;
	if (user_forward_parse(val, &f) < 0)
		return -EINVAL;
	if (o->nforwards == USER_FORWARDS_MAX)
		return -ENOSPC;
	o->forward[o->nforwards++] = f;
	return 0;
}

static bool
inside(const struct user_options *o, uint32_t address)
{
	uint32_t in_net = address & ~o->mask;

	return (address & o->mask) == o->network && in_net != 0 &&
	    in_net != ~o->mask;
}

bool
user_options_valid(const struct user_options *o)
{
	for (uint32_t i = 0; i < MIN(o->nforwards, USER_FORWARDS_MAX); i++)
		if (o->forward[i].guest_address != 0 &&
		    !inside(o, o->forward[i].guest_address))
			return false;
	return o->nforwards <= USER_FORWARDS_MAX && inside(o, o->host) &&
	    inside(o, o->dns) && inside(o, o->dhcp) && o->host != o->dns &&
	    o->host != o->dhcp && o->dns != o->dhcp;
}
