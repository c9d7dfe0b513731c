/*
 * The keyboard controller (Intel 8042, as in the IBM PC/AT) with nothing
 * plugged in: what is sent to the keyboard or the mouse comes back as the
 * time-out that the controller reports for an empty socket.  It is here for
 * the reset line and because some software waits for its self test.
 */
#include "devhost/device.h"
#include "proto/base.h"

enum {
	REGION_DATA, /* port 0x60 */
	REGION_COMMAND, /* port 0x64: status when read */
};

#define STATUS_FULL	0x01u
#define STATUS_SYSTEM	0x04u
#define STATUS_COMMAND	0x08u
#define STATUS_UNLOCKED 0x10u
#define STATUS_MOUSE	0x20u
#define STATUS_TIMEOUT	0x40u

#define CTR_KEYBOARD	0x01u /* interrupt */
#define CTR_MOUSE	0x02u
#define CTR_SYSTEM	0x04u
#define CTR_NO_KEYBOARD 0x10u
#define CTR_NO_MOUSE	0x20u

#define OUT_NO_RESET	0x01u
#define OUT_A20		0x02u
#define RESEND		0xfeu
#define SELF_TEST_OK	0x55u
#define PORT_OK		0x00u
#define PORT_STUCK	0x02u /* clock line high: nothing there */
#define INPUT_PORT	0xa0u /* not locked, no manufacturing jumper */

struct i8042 {
	uint64_t resets; /* asked of the platform */
	uint64_t rises[2]; /* of the keyboard's and the mouse's line */
	uint8_t ram[32]; /* ram[0] is the command byte */
	uint8_t pending; /* command that waits for its byte; 0: none */
	uint8_t out; /* output buffer */
	uint8_t out_status; /* FULL and where it came from */
	uint8_t port; /* output port */
	uint8_t last_command; /* the last write went to port 0x64 */
};

static void
put(struct i8042 *s, uint8_t value, uint8_t from)
{
	unsigned line = from & STATUS_MOUSE ? 1 : 0;

	s->out = value;
	s->out_status = STATUS_FULL | from;
	if (s->ram[0] & (line ? CTR_MOUSE : CTR_KEYBOARD))
		s->rises[line]++;
}

/* bits: the output port's new low bits; bit 0 low resets the machine. */
static void
set_port(struct i8042 *s, uint8_t bits)
{
	if (!(bits & OUT_NO_RESET))
		s->resets++;
	s->port = bits | OUT_NO_RESET;
}

static void
command(struct i8042 *s, uint8_t value)
{
	s->pending = 0;
	if (value >= 0x20 && value <= 0x3f) {
		put(s, s->ram[value & 0x1f], 0);
		return;
	}
	if (value >= 0x60 && value <= 0x7f) {
		s->pending = value;
		return;
	}
	/* Pulse those of the low bits that are 0. */
	if (value >= 0xf0) {
		if (!(value & OUT_NO_RESET))
			s->resets++;
		return;
	}
	switch (value) {
	case 0xa7:
		s->ram[0] |= CTR_NO_MOUSE;
		break;
	case 0xa8:
		s->ram[0] &= (uint8_t)~CTR_NO_MOUSE;
		break;
	case 0xa9:
		put(s, PORT_STUCK, 0);
		break;
	case 0xaa:
		s->ram[0] |= CTR_SYSTEM;
		put(s, SELF_TEST_OK, 0);
		break;
	case 0xab:
		put(s, PORT_OK, 0);
		break;
	case 0xad:
		s->ram[0] |= CTR_NO_KEYBOARD;
		break;
	case 0xae:
		s->ram[0] &= (uint8_t)~CTR_NO_KEYBOARD;
		break;
	case 0xc0:
		put(s, INPUT_PORT, 0);
		break;
	case 0xd0:
		put(s,
		    (uint8_t)(s->port |
			(s->out_status & STATUS_FULL ? 0x10 : 0)),
		    0);
		break;
	case 0xd1:
	case 0xd2:
	case 0xd3:
	case 0xd4:
		s->pending = value;
		break;
	default: /* as the chip: nothing */
		break;
	}
}

static void
data(struct i8042 *s, uint8_t value)
{
	uint8_t pending = s->pending;

	s->pending = 0;
	if (pending >= 0x60 && pending <= 0x7f) {
		s->ram[pending & 0x1f] = value;
		return;
	}
	switch (pending) {
	case 0xd1:
		set_port(s, value);
		break;
	case 0xd2:
		put(s, value, 0);
		break;
	case 0xd3:
		/* The socket is empty: nothing loops the byte back. */
	case 0xd4:
		put(s, RESEND, STATUS_MOUSE | STATUS_TIMEOUT);
		break;
	default:
		put(s, RESEND, STATUS_TIMEOUT);
		break;
	}
}

static void
i8042_access(struct device *dev, struct device_access *a)
{
	struct i8042 *s = device_state(dev);

	if (a->write) {
		s->last_command = a->region == REGION_COMMAND;
		if (s->last_command)
			command(s, (uint8_t)a->data);
		else
			data(s, (uint8_t)a->data);
	} else if (a->region == REGION_COMMAND) {
		a->data = s->out_status | STATUS_UNLOCKED |
		    (s->ram[0] & CTR_SYSTEM ? STATUS_SYSTEM : 0) |
		    (s->last_command ? STATUS_COMMAND : 0);
	} else {
		a->data = s->out;
		s->out_status = 0;
	}
}

static void
i8042_reset(struct device *dev)
{
	struct i8042 *s = device_state(dev);

	s->ram[0] = CTR_SYSTEM | CTR_NO_KEYBOARD | CTR_NO_MOUSE;
	s->port = OUT_NO_RESET | OUT_A20;
}

static void
i8042_settle(struct device *dev)
{
	const struct i8042 *s = device_state(dev);
	bool full = s->out_status & STATUS_FULL;
	bool mouse = s->out_status & STATUS_MOUSE;

	device_irq(dev, 0,
	    full && !mouse && (s->ram[0] & CTR_KEYBOARD) ? s->rises[0] : 0);
	device_irq(
	    dev, 1, full && mouse && (s->ram[0] & CTR_MOUSE) ? s->rises[1] : 0);
	device_platform(dev, DEVICE_RESET, s->resets);
}

static const struct device_placement placements[] = {
	{
	    .regions = { { "data", DEVICE_PIO, .base = 0x60, .size = 1 },
		{ "command", DEVICE_PIO, .base = 0x64, .size = 1 } },
	    .nregions = 2,
	    .irqs = { { .gsi = 1 }, { .gsi = 12 } },
	    .nirqs = 2,
	},
};

static const struct device_register registers[] = {
	{ "DATA", REGION_DATA, 0, 1, false },
	{ "STATUS/COMMAND", REGION_COMMAND, 0, 1, false },
};

/* No acpi(): the DSDT names keyboards and mice, and there are none. */
static const struct device_ops ops = {
	.reset = i8042_reset,
	.access = i8042_access,
	.settle = i8042_settle,
};

static const struct device_type i8042 = {
	.name = "i8042",
	.title = "keyboard controller without keyboard; resets the machine",
	.platform = true,
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct i8042),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.registers = registers,
	.nregisters = ARRAY_LEN(registers),
	.ops = &ops,
};
DEVTYPE_REGISTER(i8042);
