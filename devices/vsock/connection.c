/* Connections of a vsock device. */
#include <string.h>

#include "devices/vsock/vsock.h"
#include "proto/base.h"

/* Ports of the host for connections that it begins. */
#define PORT_FIRST 0x40000000u
#define PORT_LAST  0x7fffffffu

#define ANSWER_NS  10000000000ull /* for the guest to accept */
#define CLOSE_NS   8000000000ull /* for the guest to close after us */

#define BIT(op)	   ((uint8_t)(1u << (op)))

bool
vsock_valid(const struct vsock *v)
{
	if (v->nresets > VSOCK_RESETS)
		return false;
	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		if (v->conn[i].phase > VSOCK_CLOSING)
			return false;
	return true;
}

int
vsock_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < RELAY_SLOTS; i++) {
		const struct vsock_conn *c = &v->conn[i];

		/* One that closes and has nothing to say the guest forgot. */
		if (c->phase == VSOCK_FREE ||
		    (c->phase == VSOCK_CLOSING && !c->pending))
			continue;
		if (c->guest_port == guest_port && c->host_port == host_port)
			return (int)i;
	}
	return -1;
}

/* The guest's part is over; reset: tell it so. */
static void
end(struct vsock_conn *c, bool drain, bool reset)
{
	c->phase = VSOCK_CLOSING;
	c->draining = drain;
	c->pending = reset ? BIT(VSOCK_RST) : 0;
	c->deadline_ns = UINT64_MAX;
}

void
vsock_abort(struct vsock *v, int slot)
{
	end(&v->conn[slot], false, true);
}

bool
vsock_refuse(struct vsock *v, const struct vsock_header *h)
{
	if (v->nresets == VSOCK_RESETS)
		return false;
	v->reset[v->nresets++] =
	    (struct vsock_reset){ h->src_port, h->dst_port };
	return true;
}

static void
begin(struct vsock_conn *c, struct relay_slot *s, uint32_t generation)
{
	memset(c, 0, sizeof(*c));
	c->generation = generation;
	c->in_base = c->in_pos = stream_head(&s->to_guest);
	c->out_base = stream_head(&s->to_host);
	c->deadline_ns = UINT64_MAX;
}

static void
take_credit(struct vsock_conn *c, const struct vsock_header *h)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
}

static bool
guest_connects(struct vsock *v, struct relay *r, const struct vsock_header *h)
{
	for (unsigned i = 0; i < RELAY_HOST_SLOTS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->phase != VSOCK_FREE)
			continue;
		begin(c, &r->slot[i], c->generation + 1);
		c->phase = VSOCK_CONNECTING;
		c->guest_port = h->src_port;
		c->host_port = h->dst_port;
		take_credit(c, h);
		return true;
	}
	return false;
}

static void
guest_accepts(struct vsock_conn *c, struct relay_slot *s)
{
	c->phase = VSOCK_OPEN;
	c->deadline_ns = UINT64_MAX;
	c->in_base = c->in_pos = stream_head(&s->to_guest);
	c->out_base = stream_head(&s->to_host);
}

static void
guest_shuts(struct vsock_conn *c, unsigned flags)
{
	c->guest_shut |= flags & VSOCK_SHUTDOWN_BOTH;
	if (c->guest_shut == VSOCK_SHUTDOWN_BOTH)
		end(c, true, true);
}

void
vsock_receive(struct vsock *v, struct relay *r, const struct vsock_header *h,
    uint64_t now_ns UNUSED)
{
	int i = vsock_find(v, h->src_port, h->dst_port);
	struct vsock_conn *c = i < 0 ? NULL : &v->conn[i];
	bool good = true;

	if (!c) {
		if (h->op == VSOCK_REQUEST)
			good = guest_connects(v, r, h);
		else if (h->op != VSOCK_RST)
			good = false;
		if (!good)
			(void)vsock_refuse(v, h);
		return;
	}
	take_credit(c, h);
	switch (h->op) {
	case VSOCK_RESPONSE:
		good = c->phase == VSOCK_OFFERED;
		if (good)
			guest_accepts(c, &r->slot[i]);
		break;
	case VSOCK_RST:
		/* After the guest has sent all that it had to say. */
		end(c, c->phase == VSOCK_OPEN || c->draining, false);
		break;
	case VSOCK_SHUTDOWN:
		if (c->phase == VSOCK_OPEN)
			guest_shuts(c, h->flags);
		else if (c->phase != VSOCK_CLOSING)
			good = false;
		break;
	case VSOCK_CREDIT_UPDATE:
		break;
	case VSOCK_CREDIT_REQUEST:
		if (c->phase == VSOCK_OPEN)
			c->pending |= BIT(VSOCK_CREDIT_UPDATE);
		break;
	default: /* a second request, or what is none */
		good = false;
		break;
	}
	if (!good && c->phase != VSOCK_CLOSING)
		vsock_abort(v, i);
}

/* How far the relay has read; false: that can not be. */
static bool
forwarded(const struct vsock_conn *c, const struct relay_slot *s, uint64_t *at)
{
	uint64_t tail =
	    atomic_load_explicit(&s->to_host.tail, memory_order_acquire);
	uint64_t head = stream_head(&s->to_host);

	*at = tail;
	/* Before it was emptied for this connection it may lie behind. */
	if (tail < c->out_base)
		*at = c->out_base;
	return head - *at <= STREAM_BYTES;
}

bool
vsock_may_send(struct vsock *v, struct relay *r, int slot,
    const struct vsock_header *h, uint64_t pos)
{
	struct vsock_conn *c = &v->conn[slot];
	uint64_t end_pos = pos + h->len;
	uint64_t at;

	if (c->phase != VSOCK_OPEN || (c->guest_shut & VSOCK_SHUTDOWN_SEND) ||
	    !forwarded(c, &r->slot[slot], &at) ||
	    (end_pos > at && end_pos - at > STREAM_BYTES))
		return false;
	take_credit(c, h);
	return true;
}

/* ---- the relay's side ---- */

static void
relay_connects(struct vsock *v, struct relay *r, unsigned slot,
    uint32_t generation, uint64_t now_ns)
{
	struct vsock_conn *c = &v->conn[slot];
	uint32_t port = atomic_load_explicit(
	    &r->slot[slot].guest_port, memory_order_relaxed);

	begin(c, &r->slot[slot], generation);
	do {
		v->next_port =
		    v->next_port < PORT_FIRST || v->next_port >= PORT_LAST
		    ? PORT_FIRST
		    : v->next_port + 1;
	} while (vsock_find(v, port, v->next_port) >= 0);
	c->phase = VSOCK_OFFERED;
	c->guest_port = port;
	c->host_port = v->next_port;
	c->pending = BIT(VSOCK_REQUEST);
	c->deadline_ns = now_ns + ANSWER_NS;
}

/* Is it time to tell the guest how much we have forwarded? */
static bool
credit_is_low(const struct vsock_conn *c, const struct relay_slot *s)
{
	uint32_t received = (uint32_t)(stream_head(&s->to_host) - c->out_base);
	uint64_t at;

	if (!forwarded(c, s, &at))
		return false;
	return (uint32_t)(at - c->out_base) != c->fwd_told &&
	    received - c->fwd_told >= STREAM_BYTES / 2;
}

static void
scan_open(struct vsock_conn *c, struct relay_slot *s, unsigned flags)
{
	ssize_t waiting = stream_available(&s->to_guest, c->in_pos);
	uint64_t at;

	if (waiting < 0 || !forwarded(c, s, &at)) {
		end(c, false, true);
		return;
	}
	if (c->guest_shut & VSOCK_SHUTDOWN_RCV) {
		c->in_pos += (uint64_t)waiting;
		waiting = 0;
	}
	if (flags & RELAY_DEAF)
		c->host_shut |= VSOCK_SHUTDOWN_RCV;
	if ((flags & RELAY_NO_MORE) && waiting == 0)
		c->host_shut |= VSOCK_SHUTDOWN_SEND;
	if (c->host_shut != c->host_told)
		c->pending |= BIT(VSOCK_SHUTDOWN);
	if (credit_is_low(c, s))
		c->pending |= BIT(VSOCK_CREDIT_UPDATE);
}

static void
scan_slot(struct vsock *v, struct relay *r, unsigned i, bool accept, bool gone,
    uint64_t now_ns)
{
	struct vsock_conn *c = &v->conn[i];
	struct relay_slot *s = &r->slot[i];
	uint64_t word = relay_look(&s->relay);
	uint32_t generation = relay_generation(word);
	bool ours = generation == c->generation;
	unsigned flags = gone ? 0 : relay_flags(word);

	switch (c->phase) {
	case VSOCK_FREE:
		if (i < RELAY_HOST_SLOTS || ours || flags != RELAY_LIVE)
			break;
		if (accept)
			relay_connects(v, r, i, generation, now_ns);
		else
			c->generation = generation;
		break;
	case VSOCK_CONNECTING:
		if ((ours && flags == 0) || gone) {
			end(c, false, true);
		} else if (ours && (flags & RELAY_ACCEPTED)) {
			c->phase = VSOCK_OPEN;
			c->pending |= BIT(VSOCK_RESPONSE);
			scan_open(c, s, flags);
		}
		break;
	case VSOCK_OFFERED:
		if (!ours || flags == 0)
			end(c, false, true);
		break;
	case VSOCK_OPEN:
		if (!ours || flags == 0)
			end(c, false, true);
		else
			scan_open(c, s, flags);
		break;
	default:
		/* The relay may not have seen the beginning yet. */
		if (c->pending == 0 && (gone || (ours && flags == 0)))
			c->phase = VSOCK_FREE;
		break;
	}
}

void
vsock_scan(
    struct vsock *v, struct relay *r, bool accept, bool gone, uint64_t now_ns)
{
	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		scan_slot(v, r, i, accept, gone, now_ns);
}

/* ---- packets for the guest ---- */

static uint32_t
sendable(const struct vsock_conn *c, const struct relay_slot *s)
{
	uint32_t sent = (uint32_t)(c->in_pos - c->in_base);
	uint32_t flight = sent - c->peer_fwd;
	ssize_t waiting;

	if (c->phase != VSOCK_OPEN || (c->guest_shut & VSOCK_SHUTDOWN_RCV) ||
	    flight >= c->peer_alloc)
		return 0;
	waiting = stream_available(&s->to_guest, c->in_pos);
	return waiting <= 0 ? 0
			    : MIN((uint32_t)waiting, c->peer_alloc - flight);
}

bool
vsock_next(
    struct vsock *v, struct relay *r, unsigned from, struct vsock_packet *p)
{
	static const uint8_t before[] = { VSOCK_RST, VSOCK_REQUEST,
		VSOCK_RESPONSE, VSOCK_CREDIT_UPDATE, VSOCK_SHUTDOWN };

	memset(p, 0, sizeof(*p));
	if (v->nresets > 0) {
		p->slot = RELAY_SLOTS;
		p->op = VSOCK_RST;
		return true;
	}
	for (unsigned n = 0; n < RELAY_SLOTS; n++) {
		unsigned i = (from + n) % RELAY_SLOTS;
		struct vsock_conn *c = &v->conn[i];

		p->slot = i;
		for (unsigned k = 0; k < ARRAY_LEN(before); k++)
			if (c->pending & BIT(before[k])) {
				p->op = before[k];
				if (p->op == VSOCK_SHUTDOWN)
					p->flags = c->host_shut;
				return true;
			}
		p->len = sendable(c, &r->slot[i]);
		if (p->len > 0) {
			p->op = VSOCK_RW;
			return true;
		}
	}
	return false;
}

void
vsock_header_fill(struct vsock *v, struct relay *r,
    const struct vsock_packet *p, struct vsock_header *h)
{
	uint64_t at;

	*h = (struct vsock_header){
		.src_cid = VSOCK_CID_HOST,
		.dst_cid = v->cid,
		.len = p->len,
		.type = VSOCK_STREAM,
		.op = p->op,
		.flags = p->flags,
	};
	if (p->slot == RELAY_SLOTS) {
		h->src_port = v->reset[0].host_port;
		h->dst_port = v->reset[0].guest_port;
	} else {
		struct vsock_conn *c = &v->conn[p->slot];

		h->src_port = c->host_port;
		h->dst_port = c->guest_port;
		h->buf_alloc = STREAM_BYTES;
		if (forwarded(c, &r->slot[p->slot], &at))
			c->fwd_told = (uint32_t)(at - c->out_base);
		h->fwd_cnt = c->fwd_told;
	}
}

void
vsock_sent(struct vsock *v, const struct vsock_packet *p, uint64_t now_ns)
{
	struct vsock_conn *c;

	if (p->slot == RELAY_SLOTS) {
		v->nresets--;
		memmove(
		    v->reset, v->reset + 1, v->nresets * sizeof(v->reset[0]));
		return;
	}
	c = &v->conn[p->slot];
	if (p->op == VSOCK_RW) {
		c->in_pos += p->len;
		return;
	}
	c->pending &= (uint8_t)~BIT(p->op);
	if (p->op == VSOCK_SHUTDOWN) {
		c->host_told = (uint8_t)p->flags;
		if (c->host_told != c->host_shut)
			c->pending |= BIT(VSOCK_SHUTDOWN);
		if (c->host_told == VSOCK_SHUTDOWN_BOTH)
			c->deadline_ns = now_ns + CLOSE_NS;
	}
}

/* ---- time ---- */

uint64_t
vsock_deadline(const struct vsock *v)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		if (v->conn[i].phase != VSOCK_FREE)
			due = MIN(due, v->conn[i].deadline_ns);
	return due;
}

void
vsock_timeout(struct vsock *v, uint64_t now_ns)
{
	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		if (v->conn[i].phase != VSOCK_FREE &&
		    v->conn[i].deadline_ns <= now_ns)
			vsock_abort(v, (int)i);
}

void
vsock_drop_all(struct vsock *v)
{
	v->nresets = 0;
	for (unsigned i = 0; i < RELAY_SLOTS; i++)
		if (v->conn[i].phase != VSOCK_FREE)
			end(&v->conn[i], false, false);
}

/* ---- the word ---- */

static unsigned
own_flags(const struct vsock_conn *c)
{
	unsigned flags = RELAY_LIVE;

	switch (c->phase) {
	case VSOCK_FREE:
		return 0;
	case VSOCK_CLOSING:
		return c->draining
		    ? RELAY_LIVE | RELAY_ACCEPTED | RELAY_NO_MORE | RELAY_DEAF
		    : 0;
	case VSOCK_OPEN:
		flags |= RELAY_ACCEPTED;
		if (c->guest_shut & VSOCK_SHUTDOWN_SEND)
			flags |= RELAY_NO_MORE;
		if (c->guest_shut & VSOCK_SHUTDOWN_RCV)
			flags |= RELAY_DEAF;
		return flags;
	default:
		/* Offered: not accepted yet, and the relay is not to take
		 * silence for a refusal: this is an older generation's word. */
		return flags;
	}
}

bool
vsock_settle(const struct vsock *v, struct relay *r)
{
	bool changed = false;

	for (unsigned i = 0; i < RELAY_SLOTS; i++) {
		const struct vsock_conn *c = &v->conn[i];
		struct relay_slot *s = &r->slot[i];
		uint64_t tail = atomic_load_explicit(
		    &s->to_guest.tail, memory_order_relaxed);

		if (c->phase != VSOCK_FREE && tail != c->in_pos) {
			stream_release(&s->to_guest, c->in_pos);
			changed = true;
		}
		atomic_store_explicit(
		    &s->to_guest.attached, 1, memory_order_relaxed);
		if (c->phase != VSOCK_FREE)
			atomic_store_explicit(
			    &s->host_port, c->host_port, memory_order_relaxed);
		changed |= relay_tell(
		    &s->device, relay_word(c->generation, own_flags(c)));
	}
	return changed;
}
