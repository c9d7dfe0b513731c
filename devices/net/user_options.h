/*
 * The options of the user-mode network: addresses in text, and port forwards in
 * the syntax of QEMU's hostfwd.  The state that they make.
 */
#ifndef DEVICES_NET_USER_OPTIONS_H
#define DEVICES_NET_USER_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define USER_FORWARDS_MAX 16u

/* Addresses and ports in network byte order. */
struct user_forward {
	uint32_t host_address, guest_address; /* guest: 0: the first by DHCP */
	uint16_t host_port, guest_port;
	bool udp;
	uint8_t pad[3];
};

/* All addresses in network byte order. */
struct user_options {
	uint32_t network, mask;
	uint32_t host, dns, dhcp; /* as the guest sees them */
	uint32_t resolver; /* of the host; 0: what its resolv.conf says */
	uint32_t nforwards; /* at most USER_FORWARDS_MAX */
	bool restricted, ipv6;
	uint8_t pad[2];
	struct user_forward forward[USER_FORWARDS_MAX];
};

/* 10.0.2.0/24, host .2, dns .3, DHCP from .15. */
void user_options_reset(struct user_options *o);
/*
 * Take one option; `network` moves the three addresses with it.  0; -ENOENT: no
 * such key; -EINVAL; -ENOSPC: too many forwards.
 */
int user_options_set(struct user_options *o, const char *key, const char *val);
/* Is this a state that options can make, with addresses inside the network? */
bool user_options_valid(const struct user_options *o);

/* "tcp|udp:[ADDR]:PORT-[ADDR]:PORT"; 0 or -EINVAL. */
int user_forward_parse(const char *text, struct user_forward *f);

#endif
