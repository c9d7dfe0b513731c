/*
 * The real-time clock and CMOS memory: Motorola MC146818A data sheet, at the
 * PC's ports 0x70 (index) and 0x71 (data).
 *
 * Real time is guest time plus an offset that is part of the state: nothing
 * ticks.  Each step first sets the flags of all that happened since the last,
 * so a guest that polls register C sees the same as one that is interrupted.
 */
#include <string.h>

#include "devhost/device.h"
#include "devices/acpi/aml.h"
#include "proto/base.h"

enum {
	SECONDS,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY, /* 1 is Sunday */
	DAY,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	CENTURY = 0x32, /* as the FADT says */
	CMOS_SIZE = 128,
};

enum {
	PORT_INDEX,
	PORT_DATA,
	PORTS,
};

#define A_UIP	     0x80u /* an update is near */
#define A_DEFAULT    0x26u /* 32768 Hz, 1024 interrupts per second */
#define B_SET	     0x80u /* the guest sets the time: no updates */
#define B_INTERRUPTS 0x70u /* periodic, alarm, update-ended */
#define B_BINARY     0x04u
#define B_24H	     0x02u
#define C_IRQ	     0x80u
#define C_PERIODIC   0x40u
#define C_ALARM	     0x20u
#define C_UPDATE     0x10u
#define D_VALID	     0x80u /* the battery is good */
#define HOUR_PM	     0x80u
#define ANY	     0xc0u /* in an alarm register: any value */

#define NS_PER_S     1000000000ull
#define UIP_NS	     244000u /* before the update */
#define CRYSTAL_HZ   32768u
#define DAY_S	     86400u
/* Late in 2554 the nanoseconds of 64 bits end. */
#define WALL_LAST_S 18446000000ull

struct rtc {
	uint64_t offset_ns; /* real time - guest time, modulo 2^64 */
	uint64_t last_ns; /* guest time up to which the flags are right */
	uint64_t rises; /* of the interrupt line */
	uint64_t alarm_ns; /* real time of the next alarm, if asked for */
	uint8_t index;
	uint8_t cmos[CMOS_SIZE];
};

struct calendar {
	unsigned year, month, day, weekday, hour, minute, second;
};

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t
days_from_civil(int64_t y, unsigned m, unsigned d)
{
	static const uint16_t before[] = { 0, 31, 59, 90, 120, 151, 181, 212,
		243, 273, 304, 334 };
	int64_t leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	int64_t p = y - 1;

	return p * 365 + p / 4 - p / 100 + p / 400 - 719162 + before[m - 1] +
	    (m > 2 ? leap : 0) + (int64_t)d - 1;
}

static struct calendar
to_calendar(uint64_t s)
{
	int64_t days = (int64_t)(s / DAY_S);
	unsigned rest = (unsigned)(s % DAY_S);
	struct calendar c = {
		.weekday = (unsigned)((days + 4) % 7) + 1,
		.hour = rest / 3600,
		.minute = rest / 60 % 60,
		.second = rest % 60,
		.month = 12,
	};
	int64_t year = 1970 + days / 366;

	while (days_from_civil(year + 1, 1, 1) <= days)
		year++;
	while (days_from_civil(year, c.month, 1) > days)
		c.month--;
	c.year = (unsigned)year;
	c.day = (unsigned)(days - days_from_civil(year, c.month, 1)) + 1;
	return c;
}

static uint8_t
encode(const struct rtc *r, unsigned n)
{
	return (uint8_t)(r->cmos[REG_B] & B_BINARY ? n : n / 10 << 4 | n % 10);
}

static unsigned
decode(const struct rtc *r, uint8_t v)
{
	return r->cmos[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15u);
}

static uint8_t
encode_hour(const struct rtc *r, unsigned hour)
{
	unsigned h12 = hour % 12 ? hour % 12 : 12;

	if (r->cmos[REG_B] & B_24H)
		return encode(r, hour);
	return (uint8_t)(encode(r, h12) | (hour >= 12 ? HOUR_PM : 0));
}

static unsigned
decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->cmos[REG_B] & B_24H)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

static uint64_t
wall_ns(const struct rtc *r, uint64_t guest_ns)
{
	return guest_ns + r->offset_ns;
}

static bool
stopped(const struct rtc *r)
{
	return r->cmos[REG_B] & B_SET;
}

/* The time registers as they stand at a real time. */
static void
show_time(struct rtc *r, uint64_t wall)
{
	struct calendar c = to_calendar(wall / NS_PER_S);

	r->cmos[SECONDS] = encode(r, c.second);
	r->cmos[MINUTES] = encode(r, c.minute);
	r->cmos[HOURS] = encode_hour(r, c.hour);
	r->cmos[WEEKDAY] = encode(r, c.weekday);
	r->cmos[DAY] = encode(r, c.day);
	r->cmos[MONTH] = encode(r, c.month);
	r->cmos[YEAR] = encode(r, c.year % 100);
	r->cmos[CENTURY] = encode(r, c.year / 100);
}

/* Set the clock to what the guest wrote; fields out of range are clamped. */
static void
take_time(struct rtc *r, uint64_t guest_ns)
{
	unsigned century = MIN(decode(r, r->cmos[CENTURY]), 99u);
	unsigned year = century * 100 + MIN(decode(r, r->cmos[YEAR]), 99u);
	unsigned month = MIN(MAX(decode(r, r->cmos[MONTH]), 1u), 12u);
	unsigned day = MIN(MAX(decode(r, r->cmos[DAY]), 1u), 31u);
	uint64_t s;

	s = (uint64_t)days_from_civil(MAX(year, 1970u), month, day) * DAY_S +
	    MIN(decode_hour(r, r->cmos[HOURS]), 23u) * 3600 +
	    MIN(decode(r, r->cmos[MINUTES]), 59u) * 60 +
	    MIN(decode(r, r->cmos[SECONDS]), 59u);
	r->offset_ns = MIN(s, WALL_LAST_S) * NS_PER_S - guest_ns;
}

/* Length of the periodic interrupt in crystal ticks; 0: none. */
static uint64_t
period_ticks(const struct rtc *r)
{
	unsigned rate = r->cmos[REG_A] & 15;

	if (rate == 0)
		return 0;
	return 1ull << (rate <= 2 ? rate + 6 : rate - 1);
}

static uint64_t
crystal(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * CRYSTAL_HZ / NS_PER_S);
}

static bool
alarm_takes(const struct rtc *r, unsigned reg, unsigned value)
{
	uint8_t v = r->cmos[reg];

	if (v >= ANY)
		return true;
	return (reg == HOURS_ALARM ? decode_hour(r, v) : decode(r, v)) == value;
}

/* Real time of the first alarm after wall; UINT64_MAX if it never comes. */
static uint64_t
next_alarm(const struct rtc *r, uint64_t wall)
{
	uint64_t s = wall / NS_PER_S + 1;
	uint64_t end = s + DAY_S;

	while (s < end) {
		unsigned t = (unsigned)(s % DAY_S);

		if (!alarm_takes(r, HOURS_ALARM, t / 3600))
			s += 3600 - t % 3600;
		else if (!alarm_takes(r, MINUTES_ALARM, t / 60 % 60))
			s += 60 - t % 60;
		else if (!alarm_takes(r, SECONDS_ALARM, t % 60))
			s++;
		else
			return s * NS_PER_S;
	}
	return UINT64_MAX;
}

static void
set_irq(struct rtc *r)
{
	uint8_t *c = &r->cmos[REG_C];
	bool high = *c & r->cmos[REG_B] & B_INTERRUPTS;

	if (high && !(*c & C_IRQ))
		r->rises++;
	*c = (uint8_t)((*c & ~C_IRQ) | (high ? C_IRQ : 0));
}

/* Set the flags of what happened until guest time now. */
static void
advance(struct rtc *r, uint64_t now)
{
	uint64_t ticks = period_ticks(r);
	uint8_t *c = &r->cmos[REG_C];
	uint64_t from, to;

	if (now <= r->last_ns)
		return;
	from = wall_ns(r, r->last_ns);
	to = wall_ns(r, now);
	if (ticks && crystal(now) / ticks != crystal(r->last_ns) / ticks)
		*c |= C_PERIODIC;
	if (!stopped(r)) {
		if (from / NS_PER_S != to / NS_PER_S)
			*c |= C_UPDATE;
		if (to >= r->alarm_ns) {
			*c |= C_ALARM;
			r->alarm_ns = next_alarm(r, to);
		}
	}
	r->last_ns = now;
	set_irq(r);
}

static bool
is_time(unsigned reg)
{
	return reg == SECONDS || reg == MINUTES || reg == HOURS ||
	    (reg >= WEEKDAY && reg <= YEAR) || reg == CENTURY;
}

static void
write_cmos(struct rtc *r, uint64_t now, uint8_t value)
{
	unsigned reg = r->index;
	bool was_stopped = stopped(r);

	switch (reg) {
	case REG_A:
		r->cmos[REG_A] = value & (uint8_t)~A_UIP;
		return;
	case REG_B:
		/* Setting SET stops the registers where they are. */
		if (!was_stopped && (value & B_SET))
			show_time(r, wall_ns(r, now));
		if (value & B_SET)
			value &= (uint8_t)~C_UPDATE;
		r->cmos[REG_B] = value;
		if (was_stopped && !(value & B_SET))
			take_time(r, now);
		break;
	case REG_C:
	case REG_D:
		return;
	default:
		if (is_time(reg) && !was_stopped)
			show_time(r, wall_ns(r, now));
		r->cmos[reg] = value;
		if (is_time(reg) && !was_stopped)
			take_time(r, now);
		break;
	}
	r->alarm_ns = next_alarm(r, wall_ns(r, now));
	set_irq(r);
}

static uint8_t
read_cmos(struct rtc *r, uint64_t now)
{
	uint64_t wall = wall_ns(r, now);
	uint8_t value;

	if (is_time(r->index) && !stopped(r))
		show_time(r, wall);
	value = r->cmos[r->index];
	if (r->index == REG_A && !stopped(r) &&
	    wall % NS_PER_S >= NS_PER_S - UIP_NS)
		value |= A_UIP;
	if (r->index == REG_C)
		r->cmos[REG_C] = 0;
	return value;
}

static void
write_port(struct device *dev, const struct device_access *a, unsigned port,
    uint8_t value)
{
	struct rtc *r = device_state(dev);

	/* Bit 7 of the index port masks the NMI; there is none. */
	if (port == PORT_INDEX)
		r->index = value & (CMOS_SIZE - 1);
	else
		write_cmos(r, a->time_ns, value);
}

static uint8_t
read_port(struct device *dev, const struct device_access *a, unsigned port)
{
	/* The index cannot be read back. */
	if (port == PORT_INDEX)
		return 0xff;
	return read_cmos(device_state(dev), a->time_ns);
}

static void
rtc_access(struct device *dev, struct device_access *a)
{
	advance(device_state(dev), a->time_ns);
	device_access_bytes(dev, a, PORTS, read_port, write_port);
}

static void
rtc_reset(struct device *dev)
{
	struct rtc *r = device_state(dev);
	uint64_t now = device_now(dev);

	r->offset_ns = device_wall_clock(dev) - now;
	r->last_ns = now;
	r->cmos[REG_A] = A_DEFAULT;
	r->cmos[REG_B] = B_24H;
	r->cmos[REG_D] = D_VALID;
	r->alarm_ns = next_alarm(r, wall_ns(r, now));
}

static bool
rtc_valid(const void *state)
{
	const struct rtc *r = state;

	return r->index < CMOS_SIZE;
}

/* The guest time of the first enabled event that would raise the line. */
static uint64_t
rtc_deadline(struct device *dev)
{
	const struct rtc *r = device_state(dev);
	uint8_t b = r->cmos[REG_B];
	uint64_t ticks = period_ticks(r);
	uint64_t due = UINT64_MAX, next, wall;

	if (r->cmos[REG_C] & C_IRQ)
		return due;
	if ((b & C_PERIODIC) && ticks) {
		next = (crystal(r->last_ns) / ticks + 1) * ticks;
		/* Rounded up: at this time the tick has happened. */
		due = (uint64_t)(((unsigned __int128)next * NS_PER_S +
				     CRYSTAL_HZ - 1) /
		    CRYSTAL_HZ);
	}
	if (stopped(r))
		return due;
	wall = wall_ns(r, r->last_ns);
	if (b & C_UPDATE) {
		next = NS_PER_S - wall % NS_PER_S;
		due = MIN(due, r->last_ns + next);
	}
	if ((b & C_ALARM) && r->alarm_ns != UINT64_MAX)
		due = MIN(due, r->alarm_ns - r->offset_ns);
	return due;
}

static void
rtc_timer(struct device *dev, uint64_t now_ns)
{
	advance(device_state(dev), now_ns);
}

static void
rtc_settle(struct device *dev)
{
	const struct rtc *r = device_state(dev);

	device_irq(dev, 0, r->cmos[REG_C] & C_IRQ ? r->rises : 0);
}

static void
rtc_acpi(struct aml *aml, const struct device_placement *placed,
    const struct device_machine *machine UNUSED)
{
	aml_device_begin(aml, "RTC");
	aml_name_eisaid(aml, "_HID", "PNP0B00");
	aml_crs_begin(aml);
	aml_crs_io(aml, (uint16_t)placed->regions[0].base, PORTS);
	aml_crs_irq(aml, placed->irqs[0].gsi, placed->irqs[0].level);
	aml_crs_end(aml);
	aml_end(aml);
}

static const struct device_placement placements[] = {
	{
	    .regions = { { "cmos", DEVICE_PIO, .base = 0x70, .size = PORTS } },
	    .nregions = 1,
	    .irqs = { { .gsi = 8 } },
	    .nirqs = 1,
	},
};

static const struct device_register registers[] = {
	{ "INDEX", 0, PORT_INDEX, 1, false },
	{ "DATA", 0, PORT_DATA, 1, false },
};

static const struct device_ops ops = {
	.reset = rtc_reset,
	.valid = rtc_valid,
	.access = rtc_access,
	.deadline = rtc_deadline,
	.timer = rtc_timer,
	.settle = rtc_settle,
	.acpi = rtc_acpi,
};

static const struct device_type rtc = {
	.name = "rtc",
	.title = "MC146818 real-time clock and CMOS memory",
	.platform = true,
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct rtc),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.registers = registers,
	.nregisters = ARRAY_LEN(registers),
	.ops = &ops,
};
DEVTYPE_REGISTER(rtc);
