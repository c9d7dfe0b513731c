/*
 * The debug port of Bochs and QEMU: bytes written to port 0xe9 go to a log;
 * reading gives 0xe9, by which a guest knows that it is there.
 *
 * Output is exact, as in serial.c, as long as somebody takes it: a write is
 * posted and has no flow control, so bytes beyond the buffer of a log that a
 * reader holds up are dropped.
 */
#include <string.h>

#include "devhost/device.h"
#include "proto/base.h"

#define BUFFER 256u
#define HERE   0xe9u

struct debugport {
	uint64_t pos; /* in the stream, of bytes[0] */
	uint64_t dropped;
	uint16_t n;
	uint8_t bytes[BUFFER];
};

static void
advance(struct device *dev, struct debugport *s)
{
	uint64_t head = device_output_head(dev, 0);
	uint64_t gone = head > s->pos ? head - s->pos : 0;

	if (gone > s->n)
		gone = s->n;
	memmove(s->bytes, s->bytes + gone, s->n - gone);
	s->pos += gone;
	s->n = (uint16_t)(s->n - gone);
}

static void
debugport_access(struct device *dev, struct device_access *a)
{
	struct debugport *s = device_state(dev);

	advance(dev, s);
	if (!a->write)
		a->data = HERE;
	else if (s->n < BUFFER)
		s->bytes[s->n++] = (uint8_t)a->data;
	else
		s->dropped++;
}

static void
debugport_reset(struct device *dev)
{
	struct debugport *s = device_state(dev);

	s->pos = device_output_head(dev, 0);
}

static bool
debugport_valid(const void *state)
{
	const struct debugport *s = state;

	return s->n <= BUFFER;
}

static void
debugport_stream(
    struct device *dev, unsigned stream UNUSED, uint64_t now_ns UNUSED)
{
	advance(dev, device_state(dev));
}

static void
debugport_settle(struct device *dev)
{
	const struct debugport *s = device_state(dev);

	device_output(dev, 0, s->pos, s->bytes, s->n);
}

static const struct device_placement placements[] = {
	{
	    .regions = { { "port", DEVICE_PIO, true, .base = 0xe9,
		.size = 1 } },
	    .nregions = 1,
	},
};

static const struct device_register registers[] = {
	{ "DATA", 0, 0, 1, false },
};

static const char *const streams[] = { "log" };

static const struct device_ops ops = {
	.reset = debugport_reset,
	.valid = debugport_valid,
	.access = debugport_access,
	.stream = debugport_stream,
	.settle = debugport_settle,
};

static const struct device_type debugport = {
	.name = "debugport",
	.title = "debug output port 0xe9",
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct debugport),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.registers = registers,
	.nregisters = ARRAY_LEN(registers),
	.streams = streams,
	.nstreams = ARRAY_LEN(streams),
	.ops = &ops,
};
DEVTYPE_REGISTER(debugport);
