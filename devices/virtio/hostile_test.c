/*
 * Every virtio type under a driver that first does everything right and then
 * scribbles: chains of random segments and bytes, random words in the rings,
 * random accesses, resets, deaths.  Nothing may break but the guest's own data.
 */
#include <CUnit/Basic.h>

#include "tests/driver.h"
#include "tests/named_tests.h"

#define LIVES	 20u /* of each type: negotiations */
#define STEPS	 200u
#define SEGMENTS 6u
#define BUFFER	 8192u

static unsigned seed;

static unsigned
pick(unsigned n)
{
	return (unsigned)rand_r(&seed) % n;
}

static uint64_t
wild(void)
{
	static const uint64_t edges[] = { 0, 1, 4095, 4096, HARNESS_RAM - 1,
		HARNESS_RAM, UINT32_MAX, 1ull << 32, UINT64_MAX,
		UINT64_MAX - 4095 };

	if (pick(2))
		return edges[pick(ARRAY_LEN(edges))];
	return (uint64_t)rand_r(&seed) << pick(34);
}

static void
scribble(struct driver *d, uint64_t gpa, unsigned n)
{
	uint8_t *p = harness_ram(d->h, gpa, n);

	for (unsigned i = 0; i < n; i++)
		/* Requests are made of small numbers. */
		p[i] = (uint8_t)(pick(3) ? 0 : pick(4) ? pick(16) : pick(256));
}

static void
put_chain(struct driver *d, unsigned q, uint64_t buffers)
{
	struct driver_seg s[SEGMENTS];
	unsigned n = 1 + pick(SEGMENTS), out = pick(n + 1);

	for (unsigned i = 0; i < n; i++) {
		s[i].gpa = buffers + i * BUFFER + pick(64);
		s[i].len = pick(3) ? pick(BUFFER - 64)
				   : (uint32_t[]){ 1, 8, 16, 24, 512 }[pick(5)];
		s[i].in = i >= out;
		if (pick(64) == 0)
			s[i].gpa = wild();
		if (pick(64) == 0)
			s[i].len = (uint32_t)wild();
	}
	scribble(d, buffers, SEGMENTS * BUFFER / (pick(8) ? 64 : 1));
	driver_put(d, q, s, n);
}

/* A word of what the driver and the device share. */
static void
break_ring(struct driver *d, unsigned q)
{
	const uint64_t area[] = { d->q[q].desc, d->q[q].driver,
		d->q[q].device };

	*driver_word(d, area[pick(3)], pick(2u * d->q[q].size)) =
	    (uint16_t)(pick(2) ? wild() : pick(32));
}

static void
any_access(struct harness *h)
{
	const struct device_placement *pl = device_placement(&h->dev);
	unsigned region = pick(pl->nregions);
	uint64_t at = pick(2) ? pick(0x40) : pick(4096);

	if (region == VIRTIO_REGION_REGISTERS)
		at += 0x1000u * pick(4);
	at %= pl->regions[region].size;
	harness_access(h, pick(2) ? RING_WRITE : RING_READ, region, at,
	    1u << pick(4), pick(4) ? pick(256) : wild());
}

static void
step(struct driver *d, uint64_t buffers)
{
	struct harness *h = d->h;
	unsigned q = pick(d->nqueues);

	switch (pick(24)) {
	case 0:
		break_ring(d, q);
		break;
	case 1:
		any_access(h);
		break;
	case 2:
		harness_restart(h);
		break;
	case 3:
		engine_timer(&h->dev);
		break;
	case 4:
		if (h->in)
			harness_type(h, "typed");
		break;
	case 5:
		if (h->out)
			stream_release(h->out, stream_head(h->out));
		if (h->link[0])
			packet_release(
			    h->link_from[0], packet_head(h->link_from[0]));
		break;
	case 6:
		if (h->link[0]) {
			struct iovec iov = { driver_at(d, buffers),
				PACKET_HEADER + pick(4000) };

			packet_put(h->link_to[0], &iov, 1);
		}
		break;
	default:
		if (d->q[q].free >= SEGMENTS)
			put_chain(d, q, buffers);
		harness_ring(h, q);
		break;
	}
	harness_run(h);
	harness_ready(h, 0);
}

/* One negotiation and what follows. */
static void
live(struct harness *h)
{
	uint64_t features = 0, buffers;
	struct driver d;

	if (pick(2))
		features |= VIRTIO_F_RING_PACKED;
	if (pick(2))
		features |= VIRTIO_F_EVENT_IDX;
	if (pick(2))
		features |= VIRTIO_F_INDIRECT_DESC;
	if (pick(2))
		features |= 0x00ffffffu & (uint64_t)rand_r(&seed);
	driver_open_sized(&d, h, features, 256);
	buffers = driver_alloc(&d, SEGMENTS * BUFFER + 4096);
	for (unsigned i = 0; i < STEPS && d.nqueues > 0; i++)
		step(&d, buffers);
	CU_ASSERT_EQUAL(h->dev.error, 0);
}

static void
no_driver_breaks_a_device(void)
{
	unsigned types = 0;

	DEVTYPE_FOREACH (t) {
		struct harness h;

		if ((*t)->ops != &virtio_ops)
			continue;
		harness_open(&h, (*t)->name);
		types++;
		for (unsigned life = 0; life < LIVES; life++)
			live(&h);
		harness_close(&h);
	}
	printf("%u types, seed ends at %u: ", types, seed);
	CU_ASSERT(types > 0);
}

static const struct named_test tests[] = {
	NAMED_TEST(no_driver_breaks_a_device),
};

int
main(int argc, char **argv)
{
	seed = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
	return named_tests_run("hostile", tests, ARRAY_LEN(tests));
}
