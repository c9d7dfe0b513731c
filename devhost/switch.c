/* The Ethernet switch: which port a frame is for.  IEEE 802.1D, 7.8 and 7.9. */
#include "devhost/switch.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"

#define ETHERNET  14u
#define MULTICAST (1ull << 40) /* the first byte's lowest bit */

static uint64_t
mac_at(const uint8_t *p)
{
	uint64_t mac = 0;

	for (unsigned i = 0; i < 6; i++)
		mac = mac << 8 | p[i];
	return mac;
}

static struct switch_mac *
set_of(struct switch_table *t, uint64_t mac)
{
	uint64_t h = (mac ^ t->key) * 0x9e3779b97f4a7c15u;

	h = (h ^ h >> 32) * (t->key | 1);
	return t->mac[(h >> 40) % SWITCH_SETS];
}

static struct switch_mac *
find(struct switch_table *t, uint64_t mac, uint64_t now)
{
	struct switch_mac *set = set_of(t, mac);

	for (unsigned i = 0; i < SWITCH_WAYS; i++)
		if (set[i].mac == mac && now - set[i].seen_ns < SWITCH_AGE_NS)
			return &set[i];
	return NULL;
}

static void
forget(struct switch_table *t, struct switch_mac *m)
{
	t->port[m->port].nmacs--;
	m->mac = 0;
}

/* A place for an address that is not in the table; NULL: there is none. */
static struct switch_mac *
find_place(struct switch_table *t, uint64_t mac, uint64_t now)
{
	struct switch_mac *set = set_of(t, mac);

	for (unsigned i = 0; i < SWITCH_WAYS; i++) {
		if (set[i].mac != 0 && now - set[i].seen_ns >= SWITCH_AGE_NS)
			forget(t, &set[i]);
		if (set[i].mac == 0)
			return &set[i];
	}
	return NULL;
}

/* False: the frame claims to be from a station at another port. */
static bool
learn(struct switch_table *t, unsigned port, uint64_t mac, uint64_t now)
{
	struct switch_mac *m = find(t, mac, now);

	if (m != NULL && m->port != port) {
		if (now - m->seen_ns < SWITCH_KEEP_NS)
			return false;
		forget(t, m);
		m = NULL;
	}
	if (m == NULL && t->port[port].nmacs < SWITCH_MACS_PER_PORT) {
		m = find_place(t, mac, now);
		if (m != NULL) {
			m->mac = mac;
			m->port = port;
			t->port[port].nmacs++;
		}
	}
	if (m != NULL)
		m->seen_ns = now;
	return true;
}

/* A token of the port's for a frame to all. */
static bool
may_flood(struct switch_port *p, uint64_t now)
{
	const uint64_t cost = 1000000000u / SWITCH_FLOODS;

	if (p->flood_due_ns > now + SWITCH_FLOOD_BURST * cost)
		return false;
	p->flood_due_ns = MAX(p->flood_due_ns, now) + cost;
	return true;
}

int
switch_forward(struct switch_table *t, unsigned port, const uint8_t *frame,
    size_t n, uint64_t now)
{
	struct switch_port *p = &t->port[port];
	struct switch_mac *m = NULL;
	uint64_t to, from;

	BUG_ON(port >= SWITCH_PORTS || !p->used);
	p->frames++;
	if (n < ETHERNET)
		goto refuse;
	to = mac_at(frame);
	from = mac_at(frame + 6);
	if (from == 0 || (from & MULTICAST) || !learn(t, port, from, now))
		goto refuse;
	if (!(to & MULTICAST))
		m = find(t, to, now);
	if (m != NULL)
		return m->port == port ? SWITCH_NONE : (int)m->port;
	if (!may_flood(p, now))
		goto refuse;
	p->floods++;
	return SWITCH_ALL;
refuse:
	p->refused++;
	return SWITCH_NONE;
}

int
switch_add(struct switch_table *t)
{
	for (unsigned i = 0; i < SWITCH_PORTS; i++)
		if (!t->port[i].used) {
			t->port[i] = (struct switch_port){ .used = true };
			return (int)i;
		}
	return -ENOSPC;
}

void
switch_remove(struct switch_table *t, unsigned port)
{
	struct switch_mac *m = t->mac[0];

	for (unsigned i = 0; i < SWITCH_SETS * SWITCH_WAYS; i++)
		if (m[i].mac != 0 && m[i].port == port)
			m[i].mac = 0;
	t->port[port].used = false;
}
