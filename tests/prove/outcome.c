/* What the guest, and whoever else is outside, sees at the end. */
#include "proto/relay.h"
#include "tests/prove/prove.h"

#define DISK_SEEN (256u << 10)

static uint64_t
join(uint64_t a, uint64_t b)
{
	const uint64_t both[2] = { a, b };

	return track_hash(both, sizeof(both));
}

void
outcome_used(struct prover *p, uint64_t used[PROVE_QUEUES])
{
	struct driver d = p->d;
	uint32_t len;
	uint16_t id;

	for (unsigned q = 0; q < PROVE_QUEUES; q++)
		used[q] = 0;
	for (unsigned q = 0; q < d.nqueues; q++)
		while (driver_take(&d, q, &id, &len))
			used[q]++;
}

static int
compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void
read_used(struct prover *p, struct outcome *o)
{
	struct driver d = p->d;
	uint32_t len;
	uint16_t id;

	for (unsigned q = 0; q < d.nqueues; q++) {
		while (o->used[q] < PROVE_USED && driver_take(&d, q, &id, &len))
			o->element[q][o->used[q]++] =
			    (p->scenario->bag ? 0 : id) | (uint64_t)len << 32;
		if (!p->scenario->in_order)
			qsort(o->element[q], o->used[q], sizeof(uint64_t),
			    compare);
	}
}

/* Does the device write a ring there? */
static bool
is_ring(const struct driver *d, uint64_t gpa)
{
	for (unsigned q = 0; q < d->nqueues; q++)
		if (gpa == d->q[q].device ||
		    (driver_packed(d) && gpa == d->q[q].desc))
			return true;
	return false;
}

static uint64_t
read_ram(struct prover *p)
{
	uint64_t hash = 0;

	if (!p->h.ram)
		return 0;
	for (uint64_t gpa = DRIVER_RAM_START; gpa < p->d.next_gpa;
	     gpa += PROVE_PAGE)
		if (!is_ring(&p->d, gpa)) {
			uint64_t page = track_hash(
			    harness_ram(&p->h, gpa, PROVE_PAGE), PROVE_PAGE);

			hash =
			    p->scenario->bag ? hash + page : join(hash, page);
		}
	for (unsigned i = 0; i < p->nranges; i++)
		hash = join(hash,
		    track_hash(
			harness_ram(&p->h, p->range[i].gpa, p->range[i].n),
			p->range[i].n));
	return hash;
}

/* Bytes put, ever, and which; bytes taken. */
static uint64_t
read_stream(const struct stream *out, const struct stream *in)
{
	uint64_t head = out->head;

	return join(in->tail,
	    join(head, track_hash(out->data, MIN(head, STREAM_BYTES))));
}

static uint64_t
read_link(struct prover *p)
{
	const struct packet_ring *from = p->h.link_from[0];
	uint64_t hash;

	if (!p->h.link[0])
		return 0;
	hash = join(from->head, p->h.link_to[0]->tail);
	for (uint64_t i = 0; i < MIN(from->head, PACKET_SLOTS); i++) {
		const struct packet_slot *s = &from->slot[i];

		hash = join(hash,
		    track_hash(s->data, MIN(s->length, PACKET_BYTES_MAX)));
	}
	return hash;
}

static uint64_t
read_relay(struct prover *p)
{
	uint64_t hash = 0;

	for (unsigned i = 0; p->relay && i < RELAY_SLOTS; i++) {
		const struct relay_slot *s = &p->relay->slot[i];

		if (s->device == 0 && s->relay == 0)
			continue;
		hash = join(hash, join(s->device, s->host_port));
		hash = join(hash, read_stream(&s->to_host, &s->to_guest));
	}
	return hash;
}

static uint64_t
read_disk(struct prover *p)
{
	static uint8_t bytes[DISK_SEEN];

	if (p->disk < 0)
		return 0;
	BUG_ON(
	    pread(p->disk, bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes));
	return track_hash(bytes, sizeof(bytes));
}

void
outcome_read(struct prover *p, struct outcome *o)
{
	const struct ring *ring = &p->h.rings->ring[0];
	const struct store_wiring *w = store_committed_wiring(&p->store);

	memset(o, 0, sizeof(*o));
	o->error = p->h.dev.error;
	o->answered = ring->tail;
	memcpy(o->answers, ring->answer,
	    MIN(o->answered, PROVE_REQUESTS) * sizeof(o->answers[0]));
	read_used(p, o);
	o->ram = read_ram(p);
	for (unsigned i = 0; i < p->type->nstreams; i++)
		o->streams[i] =
		    read_stream(p->h.dev.stream[i].out, p->h.dev.stream[i].in);
	o->link = read_link(p);
	o->relay = read_relay(p);
	o->disk = read_disk(p);
	o->wiring = track_hash(w->bar, sizeof(w->bar));
	for (unsigned i = 0; i < p->type->nvectors; i++)
		o->wiring = join(
		    o->wiring, join(w->vector[i].address, w->vector[i].data));
	if (!p->scenario->hidden)
		o->state = track_committed(p);
}

const char *
outcome_differs(const struct outcome *a, const struct outcome *b)
{
	if (a->error != b->error)
		return "the device broke";
	if (a->answered != b->answered)
		return "how many accesses were answered";
	if (memcmp(a->answers, b->answers, sizeof(a->answers)) != 0)
		return "answers to accesses";
	if (memcmp(a->used, b->used, sizeof(a->used)) != 0)
		return "how many chains are used";
	if (memcmp(a->element, b->element, sizeof(a->element)) != 0)
		return "used elements";
	if (a->ram != b->ram)
		return "buffers";
	if (memcmp(a->streams, b->streams, sizeof(a->streams)) != 0)
		return "bytes of a stream";
	if (a->link != b->link)
		return "packets";
	if (a->relay != b->relay)
		return "the relay's connections";
	if (a->disk != b->disk)
		return "the disk";
	if (a->wiring != b->wiring)
		return "BARs and vectors";
	if (a->state != b->state)
		return "the committed state";
	return NULL;
}
