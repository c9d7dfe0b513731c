/*
 * ACPI fixed hardware (ACPI 6.5, 4.8): power management event and control
 * blocks, PM timer, power button, soft off, reset register.
 *
 * ACPI mode is always on: there is no SMI command port, and SCI_EN stands.
 */
#include "devhost/device.h"
#include "proto/base.h"

enum {
	REG_STATUS = 0x0, /* 2 bytes, write one to clear */
	REG_ENABLE = 0x2, /* 2 bytes */
	REG_CONTROL = 0x4, /* 2 bytes */
	REG_TIMER = 0x8, /* 4 bytes, read-only */
	REG_RESET = 0xc, /* 1 byte */
	REGS = 0x10,
};

#define STS_TIMER    0x0001u
#define STS_POWER    0x0100u
#define EN_ALL	     0x0721u
#define CNT_SCI_EN   0x0001u
#define CNT_SLP_EN   0x2000u
#define CNT_KEPT     0x1c06u /* BM_RLD, GBL_RLS, SLP_TYP */
#define SLP_TYP(cnt) ((cnt) >> 10 & 7u)
#define SLP_TYP_S5   5u /* as the DSDT's \_S5 says */
#define RESET_VALUE  1u /* as the FADT says */

#define TIMER_HZ     3579545u
#define TIMER_HALF   (1ull << 31) /* ticks from one carry to the next */

struct acpi_pm {
	uint64_t last_ns; /* guest time up to which status is right */
	uint64_t events; /* platform events asked for */
	uint32_t event; /* the last, enum device_platform_event */
	uint16_t status, enable, control;
};

static uint64_t
ticks(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * TIMER_HZ / 1000000000u);
}

/* Set TMR_STS when the timer's highest bit has changed. */
static void
advance(struct acpi_pm *s, uint64_t now_ns)
{
	if (now_ns <= s->last_ns)
		return;
	if (ticks(now_ns) / TIMER_HALF != ticks(s->last_ns) / TIMER_HALF)
		s->status |= STS_TIMER;
	s->last_ns = now_ns;
}

static void
ask(struct acpi_pm *s, enum device_platform_event event)
{
	s->event = (uint32_t)event;
	s->events++;
}

static uint8_t
read_reg(struct device *dev, const struct device_access *a, unsigned offset)
{
	const struct acpi_pm *s = device_state(dev);
	uint64_t words[2] = { 0, 0 };

	words[0] = s->status | (uint64_t)s->enable << 16 |
	    (uint64_t)(s->control | CNT_SCI_EN) << 32;
	words[1] = (uint32_t)ticks(a->time_ns);
	return (uint8_t)(words[offset / 8] >> (8 * (offset % 8)));
}

static void
write_reg(struct device *dev, const struct device_access *a UNUSED,
    unsigned offset, uint8_t value)
{
	struct acpi_pm *s = device_state(dev);
	unsigned shift = 8 * (offset & 1);
	uint16_t bits = (uint16_t)(value << shift);
	uint16_t mask = (uint16_t)(0xff << shift);

	switch (offset & ~1u) {
	case REG_STATUS:
		s->status &= (uint16_t)~bits;
		break;
	case REG_ENABLE:
		s->enable = (uint16_t)((s->enable & ~mask) | (bits & EN_ALL));
		break;
	case REG_CONTROL:
		s->control =
		    (uint16_t)((s->control & ~mask) | (bits & CNT_KEPT));
		if ((bits & CNT_SLP_EN) && SLP_TYP(s->control) == SLP_TYP_S5)
			ask(s, DEVICE_POWEROFF);
		break;
	case REG_RESET:
		if (offset == REG_RESET && value == RESET_VALUE)
			ask(s, DEVICE_RESET);
		break;
	default:
		break;
	}
}

static void
acpi_pm_access(struct device *dev, struct device_access *a)
{
	advance(device_state(dev), a->time_ns);
	device_access_bytes(dev, a, REGS, read_reg, write_reg);
}

static void
acpi_pm_reset(struct device *dev)
{
	struct acpi_pm *s = device_state(dev);

	s->last_ns = device_now(dev);
}

static uint64_t
acpi_pm_deadline(struct device *dev)
{
	const struct acpi_pm *s = device_state(dev);
	uint64_t carry;

	if (!(s->enable & STS_TIMER) || (s->status & STS_TIMER))
		return UINT64_MAX;
	carry = (ticks(s->last_ns) / TIMER_HALF + 1) * TIMER_HALF;
	/* Rounded up: at this time the carry has happened. */
	return (
	    uint64_t)(((unsigned __int128)carry * 1000000000u + TIMER_HZ - 1) /
	    TIMER_HZ);
}

static void
acpi_pm_timer(struct device *dev, uint64_t now_ns)
{
	advance(device_state(dev), now_ns);
}

static void
acpi_pm_power_button(struct device *dev)
{
	struct acpi_pm *s = device_state(dev);

	s->status |= STS_POWER;
}

static void
acpi_pm_settle(struct device *dev)
{
	const struct acpi_pm *s = device_state(dev);

	device_irq(dev, 0, (s->status & s->enable) != 0);
	device_platform(dev,
	    s->event == DEVICE_RESET ? DEVICE_RESET : DEVICE_POWEROFF,
	    s->events);
}

static const struct device_placement placements[] = {
	{
	    .regions = { { "pm", DEVICE_PIO, .base = 0x600, .size = REGS } },
	    .nregions = 1,
	    .irqs = { { .gsi = 9, .level = true } },
	    .nirqs = 1,
	},
};

static const struct device_register registers[] = {
	{ "PM1a_STS", 0, REG_STATUS, 2, false },
	{ "PM1a_EN", 0, REG_ENABLE, 2, false },
	{ "PM1a_CNT", 0, REG_CONTROL, 2, false },
	{ "PM_TMR", 0, REG_TIMER, 4, true },
	{ "RESET", 0, REG_RESET, 1, false },
};

static const struct device_ops ops = {
	.reset = acpi_pm_reset,
	.access = acpi_pm_access,
	.deadline = acpi_pm_deadline,
	.timer = acpi_pm_timer,
	.power_button = acpi_pm_power_button,
	.settle = acpi_pm_settle,
};

static const struct device_type acpi_pm = {
	.name = "acpi-pm",
	.title = "ACPI power management: timer, power button, soft off, reset",
	.platform = true,
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct acpi_pm),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.registers = registers,
	.nregisters = ARRAY_LEN(registers),
	.ops = &ops,
};
DEVTYPE_REGISTER(acpi_pm);
