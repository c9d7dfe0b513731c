/* Scenarios: register accesses. */
#include "tests/prove/prove.h"

#define R(region, addr, size)                    \
	{                                        \
		RING_READ, region, size, addr, 0 \
	}
#define W(region, addr, size, data)                  \
	{                                            \
		RING_WRITE, region, size, addr, data \
	}
#define P(region, addr, data)                            \
	{                                                \
		RING_WRITE_POSTED, region, 1, addr, data \
	}

static const char typed[] = "0123456789abcdefghijklmnop";

static void
type_text(struct prover *p)
{
	uint64_t head = stream_head(p->h.in);

	BUG_ON(stream_put(p->h.in, head, typed, strlen(typed), &head) != 0);
}

static bool
sent_abc(struct prover *p)
{
	return p->h.out->head == 3 && memcmp(p->h.out->data, "ABC", 3) == 0;
}

/* ---- serial ---- */

static const struct prove_request serial_io[] = {
	W(0, 2, 1, 0x01),
	W(0, 1, 1, 0x03),
	R(0, 2, 1),
	R(0, 0, 1),
	W(0, 0, 1, 'A'),
	R(0, 5, 1),
	P(0, 0, 'B'),
	R(0, 0, 1),
	W(0, 0, 1, 'C'),
	R(0, 2, 1),
	R(0, 7, 1),
};
static const struct prove_request serial_setup[] = {
	W(0, 3, 1, 0x80),
	W(0, 0, 1, 12),
	W(0, 1, 1, 0),
	R(0, 0, 1),
	W(0, 3, 1, 0x03),
	W(0, 4, 1, 0x0b),
	R(0, 6, 1),
	W(0, 7, 1, 0xa5),
	R(0, 7, 1),
	R(0, 4, 1),
	R(0, 3, 1),
	W(0, 4, 1, 0x1b),
	R(0, 6, 1),
};
static const struct scenario serial[] = {
	{ .device = "serial",
	    .name = "bytes out and in",
	    .request = type_text,
	    .right = sent_abc,
	    .script = serial_io,
	    .nscript = ARRAY_LEN(serial_io) },
	{ .device = "serial",
	    .name = "from power-on, set-up",
	    .fresh = true,
	    .script = serial_setup,
	    .nscript = ARRAY_LEN(serial_setup) },
};
SCENARIOS_REGISTER(serial);

/* ---- clock, keyboard controller, power, debug port ---- */

static const struct prove_request rtc_set[] = {
	W(0, 0, 1, 11),
	W(0, 1, 1, 0x82),
	W(0, 0, 1, 9),
	W(0, 1, 1, 0x26),
	W(0, 0, 1, 4),
	W(0, 1, 1, 0x11),
	W(0, 0, 1, 11),
	W(0, 1, 1, 0x02),
	R(0, 1, 1),
	W(0, 0, 1, 9),
	R(0, 1, 1),
	W(0, 0, 1, 4),
	R(0, 1, 1),
};
static const struct prove_request rtc_alarm[] = {
	W(0, 0, 1, 1),
	W(0, 1, 1, 0xff),
	W(0, 0, 1, 3),
	W(0, 1, 1, 0xff),
	W(0, 0, 1, 5),
	W(0, 1, 1, 0xff),
	W(0, 0, 1, 11),
	W(0, 1, 1, 0x62),
	R(0, 1, 1),
	W(0, 0, 1, 12),
	R(0, 1, 1),
	R(0, 1, 1),
	W(0, 0, 1, 0x40),
	W(0, 1, 1, 0x5a),
	R(0, 1, 1),
	R(0, 0, 2),
};
static const struct scenario rtc[] = {
	{ .device = "rtc",
	    .name = "from power-on, set the time",
	    .fresh = true,
	    .script = rtc_set,
	    .nscript = ARRAY_LEN(rtc_set) },
	{ .device = "rtc",
	    .name = "alarm, periodic interrupt, RAM",
	    .script = rtc_alarm,
	    .nscript = ARRAY_LEN(rtc_alarm) },
};
SCENARIOS_REGISTER(rtc);

static const struct prove_request i8042_keyboard[] = {
	W(1, 0, 1, 0xaa),
	R(1, 0, 1),
	R(0, 0, 1),
	W(1, 0, 1, 0x60),
	W(0, 0, 1, 0x47),
	W(1, 0, 1, 0x20),
	R(0, 0, 1),
	W(0, 0, 1, 0xf2),
	R(1, 0, 1),
	R(0, 0, 1),
	W(1, 0, 1, 0xd4),
	W(0, 0, 1, 0xf4),
	R(1, 0, 1),
	R(0, 0, 1),
	W(1, 0, 1, 0xd2),
	W(0, 0, 1, 0x1c),
	R(0, 0, 1),
};
static const struct prove_request i8042_reset[] = {
	W(1, 0, 1, 0xd1),
	W(0, 0, 1, 0x02),
	R(1, 0, 1),
	W(1, 0, 1, 0xfe),
};
static const struct scenario i8042[] = {
	{ .device = "i8042",
	    .name = "from power-on, keyboard",
	    .fresh = true,
	    .script = i8042_keyboard,
	    .nscript = ARRAY_LEN(i8042_keyboard) },
	{ .device = "i8042",
	    .name = "reset of the machine",
	    .script = i8042_reset,
	    .nscript = ARRAY_LEN(i8042_reset) },
};
SCENARIOS_REGISTER(i8042);

static void
press(struct prover *p)
{
	engine_power_button(&p->h.dev);
}

static const struct prove_request acpi_power[] = {
	R(0, 8, 4),
	W(0, 2, 2, 0x0120),
	R(0, 0, 2),
	W(0, 0, 2, 0x0001),
	R(0, 2, 2),
	W(0, 4, 2, 0x0001),
	R(0, 4, 2),
	W(0, 4, 2, 0x3401),
	R(0, 4, 2),
};
static const struct prove_request acpi_reset[] = {
	W(0, 12, 1, 6),
	R(0, 0, 4),
	R(0, 4, 4),
	R(0, 8, 4),
};
static const struct scenario acpi_pm[] = {
	{ .device = "acpi-pm",
	    .name = "timer, enables, power off",
	    .fresh = true,
	    .script = acpi_power,
	    .nscript = ARRAY_LEN(acpi_power) },
	{ .device = "acpi-pm",
	    .name = "reset of the machine",
	    .script = acpi_reset,
	    .nscript = ARRAY_LEN(acpi_reset) },
	{ .device = "acpi-pm",
	    .name = "power button",
	    .prepare = press,
	    .script = acpi_power,
	    .nscript = ARRAY_LEN(acpi_power) },
};
SCENARIOS_REGISTER(acpi_pm);

static const struct prove_request debug_text[] = {
	W(0, 0, 1, 'A'),
	R(0, 0, 1),
	P(0, 0, 'B'),
	W(0, 0, 1, 'C'),
};
static const struct scenario debugport[] = {
	{ .device = "debugport",
	    .name = "from power-on, text",
	    .hidden = true,
	    .fresh = true,
	    .right = sent_abc,
	    .script = debug_text,
	    .nscript = ARRAY_LEN(debug_text) },
};
SCENARIOS_REGISTER(debugport);

/* ---- PCI ---- */

static const struct prove_request host_config[] = {
	R(0, 0, 4),
	R(0, 4, 4),
	W(0, 4, 2, 0x0007),
	R(0, 4, 2),
	R(0, 8, 4),
	W(0, 0x10, 4, 0xffffffff),
	R(0, 0x10, 4),
	R(0, 0xffc, 4),
};
static const struct scenario pci_host[] = {
	{ .device = "pci-host",
	    .name = "from power-on, configuration",
	    .fresh = true,
	    .script = host_config,
	    .nscript = ARRAY_LEN(host_config) },
};
SCENARIOS_REGISTER(pci_host);

/* BARs sized and set, decoding, MSI-X entries: all that changes the wiring. */
static const struct prove_request function_config[] = {
	R(0, 0, 4),
	W(0, 0x10, 4, 0xffffffff),
	R(0, 0x10, 4),
	W(0, 0x14, 4, 0xffffffff),
	R(0, 0x14, 4),
	W(0, 0x10, 4, 0),
	W(0, 0x14, 4, 4),
	W(0, 0x18, 4, 0xc0000000),
	W(0, 4, 2, 6),
	R(0, 4, 2),
	R(0, 0x10, 4),
	R(0, 0x18, 4),
	W(2, 0, 4, 0xfee00000),
	W(2, 4, 4, 0),
	W(2, 8, 4, 0x4041),
	W(2, 12, 4, 0),
	R(2, 8, 4),
	W(2, 16, 4, 0xfee00000),
	W(2, 24, 4, 0x4042),
	W(2, 28, 4, 0),
	R(2, 28, 4),
	W(0, 4, 2, 0),
	R(0, 4, 2),
};
/* The registers of virtio: negotiation, a queue, and the reset of it all. */
static const struct prove_request negotiation[] = {
	W(1, 0x14, 1, 0),
	W(1, 0x14, 1, 3),
	W(1, 0x00, 4, 1),
	R(1, 0x04, 4),
	W(1, 0x08, 4, 1),
	W(1, 0x0c, 4, 1),
	W(1, 0x08, 4, 0),
	W(1, 0x0c, 4, 0),
	W(1, 0x14, 1, 11),
	R(1, 0x14, 1),
	R(1, 0x12, 2),
	W(1, 0x10, 2, 0),
	W(1, 0x16, 2, 0),
	R(1, 0x18, 2),
	W(1, 0x18, 2, 8),
	W(1, 0x1a, 2, 1),
	R(1, 0x1a, 2),
	W(1, 0x20, 8, 0x100000),
	W(1, 0x28, 8, 0x101000),
	W(1, 0x30, 8, 0x102000),
	W(1, 0x1c, 2, 1),
	W(1, 0x14, 1, 15),
	R(1, 0x14, 1),
	W(1, 0x14, 1, 0),
	R(1, 0x14, 1),
	R(1, 0x1c, 2),
};
static const struct prove_request queue_reset[] = {
	W(1, 0x16, 2, 0),
	R(1, 0x1c, 2),
	W(0, 4, 2, 2),
	R(0, 4, 2),
	W(0, 4, 2, 6),
	W(1, 0x14, 1, 0),
	R(1, 0x14, 1),
	R(1, 0x1c, 2),
	W(1, 0x14, 1, 1),
	R(1, 0x14, 1),
};

static void
enable_pci(struct prover *p)
{
	driver_enable_pci(&p->d);
}

#define FUNCTION(type)                                                \
	{ .device = type,                                             \
		.name = "from power-on, PCI configuration",           \
		.fresh = true,                                        \
		.script = function_config,                            \
		.nscript = ARRAY_LEN(function_config) },              \
	    { .device = type,                                         \
		    .name = "negotiation, a queue, reset",            \
		    .prepare = enable_pci,                            \
		    .script = negotiation,                            \
		    .nscript = ARRAY_LEN(negotiation) },              \
	{                                                             \
		.device = type, .name = "reset of a driver's queues", \
		.driver = true, .script = queue_reset,                \
		.nscript = ARRAY_LEN(queue_reset)                     \
	}

static const struct scenario functions[] = {
	FUNCTION("virtio-rng"),
	FUNCTION("virtio-blk"),
	FUNCTION("virtio-net"),
	FUNCTION("virtio-console"),
	FUNCTION("virtio-balloon"),
};
SCENARIOS_REGISTER(functions);
