/*
 * A serial port: the 16550A UART (National Semiconductor PC16550D data sheet).
 *
 * Output is exact: the state holds the bytes of the transmit FIFO and the
 * position of the first of them in the output stream; the stream's head says
 * which of them have left.  Putting a byte at its position again does nothing,
 * so none is lost and none is sent twice, wherever the process dies.
 *
 * Input is exact: the position up to which the stream was read is part of the
 * state that has the bytes in its receive FIFO.
 *
 * There is no baud rate: what the stream takes is sent at once, and the
 * receive timeout, which tells of a FIFO below its trigger, is immediate.
 */
#include <string.h>

#include "devhost/device.h"
#include "devices/acpi/aml.h"
#include "proto/base.h"

#define FIFO 16u

enum {
	REG_DATA, /* RBR, THR; DLL with DLAB */
	REG_IER, /* DLM with DLAB */
	REG_IIR, /* FCR when written */
	REG_LCR,
	REG_MCR,
	REG_LSR,
	REG_MSR,
	REG_SCR,
	REGS,
};

#define IER_RX	      1u
#define IER_TX	      2u
#define IER_LINE      4u
#define IER_MODEM     8u
#define IIR_NONE      0x01u
#define IIR_MODEM     0x00u
#define IIR_TX	      0x02u
#define IIR_RX	      0x04u
#define IIR_LINE      0x06u
#define IIR_TIMEOUT   0x0cu
#define IIR_FIFOS     0xc0u
#define FCR_ENABLE    1u
#define FCR_CLEAR_RX  2u
#define FCR_CLEAR_TX  4u
#define LCR_DLAB      0x80u
#define MCR_LOOP      0x10u
#define MCR_MASK      0x1fu
#define LSR_READY     0x01u
#define LSR_OVERRUN   0x02u
#define LSR_TX_EMPTY  0x60u /* holding register and shifter */
#define MSR_CONNECTED 0xb0u /* DCD, DSR, CTS */
#define MSR_RI	      0x40u

struct serial {
	uint64_t tx_pos; /* in the output stream, of tx[0] */
	uint64_t rx_pos; /* in the input stream, of what is not in rx yet */
	uint64_t rises; /* times that the interrupt line rose */
	uint8_t tx[FIFO], rx[FIFO];
	uint8_t tx_n, rx_n;
	uint8_t tx_busy; /* the stream does not take all of tx */
	uint8_t tx_event; /* the transmitter became empty: for the IIR */
	uint8_t line; /* level of the interrupt line */
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	uint8_t overrun, msr_delta;
};

static uint8_t
modem_lines(const struct serial *s)
{
	uint8_t m = s->mcr;

	if (!(m & MCR_LOOP))
		return MSR_CONNECTED;
	/* Looped: RTS is CTS, DTR is DSR, OUT1 is RI, OUT2 is DCD. */
	return (
	    uint8_t)((m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4);
}

static unsigned
rx_trigger(const struct serial *s)
{
	static const uint8_t level[] = { 1, 4, 8, 14 };

	return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

/* The highest of the pending sources, as the IIR tells it. */
static uint8_t
pending(const struct serial *s)
{
	if ((s->ier & IER_LINE) && s->overrun)
		return IIR_LINE;
	if ((s->ier & IER_RX) && s->rx_n >= rx_trigger(s))
		return IIR_RX;
	if ((s->ier & IER_RX) && s->rx_n > 0)
		return IIR_TIMEOUT;
	if ((s->ier & IER_TX) && s->tx_event)
		return IIR_TX;
	if ((s->ier & IER_MODEM) && s->msr_delta)
		return IIR_MODEM;
	return IIR_NONE;
}

static void
set_line(struct serial *s)
{
	uint8_t level = pending(s) != IIR_NONE;

	if (level && !s->line)
		s->rises++;
	s->line = level;
}

/* Forget what has left, and see whether the rest is as good as gone. */
static void
tx_advance(struct device *dev, struct serial *s)
{
	uint64_t head = device_output_head(dev, 0);
	uint64_t gone = head > s->tx_pos ? head - s->tx_pos : 0;

	if (gone > s->tx_n)
		gone = s->tx_n;
	memmove(s->tx, s->tx + gone, s->tx_n - gone);
	s->tx_pos += gone;
	s->tx_n = (uint8_t)(s->tx_n - gone);
	/*
	 * Space never shrinks but by what we put, so what fits now will be
	 * taken after the commit: to the guest it is sent.
	 */
	if (s->tx_busy && device_output_space(dev, 0) >= s->tx_n) {
		s->tx_busy = 0;
		s->tx_event = 1;
	}
}

static void
rx_fill(struct device *dev, struct serial *s)
{
	unsigned room = s->fcr & FCR_ENABLE ? FIFO : 1;
	size_t n;

	if ((s->mcr & MCR_LOOP) || s->rx_n >= room)
		return;
	n = device_input_peek(
	    dev, 0, s->rx_pos, s->rx + s->rx_n, room - s->rx_n);
	s->rx_pos += n;
	s->rx_n = (uint8_t)(s->rx_n + n);
}

static void
write_data(struct device *dev, struct serial *s, uint8_t value)
{
	if (s->mcr & MCR_LOOP) {
		unsigned room = s->fcr & FCR_ENABLE ? FIFO : 1;

		if (s->rx_n < room)
			s->rx[s->rx_n++] = value;
		else
			s->overrun = 1;
		s->tx_event = 1;
		return;
	}
	s->tx_event = 0;
	set_line(s);
	/* A guest that writes to a full FIFO loses the byte, as it would. */
	if (s->tx_n < FIFO)
		s->tx[s->tx_n++] = value;
	s->tx_busy = 1;
	tx_advance(dev, s);
}

static uint8_t
read_data(struct device *dev, struct serial *s)
{
	uint8_t value = s->rx[0];

	if (s->rx_n == 0)
		return 0;
	memmove(s->rx, s->rx + 1, FIFO - 1);
	s->rx_n--;
	rx_fill(dev, s);
	return value;
}

static void
write_fcr(struct serial *s, uint8_t value)
{
	uint8_t changed = s->fcr ^ value;

	if (!(value & FCR_ENABLE))
		value = 0;
	if ((changed & FCR_ENABLE) || (value & FCR_CLEAR_RX))
		s->rx_n = 0;
	if (((changed & FCR_ENABLE) || (value & FCR_CLEAR_TX)) && s->tx_busy) {
		s->tx_n = 0;
		s->tx_busy = 0;
		s->tx_event = 1;
	}
	s->fcr = value & (0xc8u | FCR_ENABLE);
}

static void
write_reg(struct device *dev, const struct device_access *a UNUSED,
    unsigned offset, uint8_t value)
{
	struct serial *s = device_state(dev);
	uint8_t before;

	tx_advance(dev, s);
	switch (offset) {
	case REG_DATA:
		if (s->lcr & LCR_DLAB)
			s->dll = value;
		else
			write_data(dev, s, value);
		break;
	case REG_IER:
		if (s->lcr & LCR_DLAB) {
			s->dlm = value;
			break;
		}
		if ((value & ~s->ier & IER_TX) && !s->tx_busy)
			s->tx_event = 1;
		s->ier = value & 0x0f;
		break;
	case REG_IIR:
		write_fcr(s, value);
		rx_fill(dev, s);
		break;
	case REG_LCR:
		s->lcr = value;
		break;
	case REG_MCR:
		before = modem_lines(s);
		s->mcr = value & MCR_MASK;
		value = modem_lines(s);
		s->msr_delta |= (uint8_t)((before ^ value) >> 4 & 0x0b);
		/* The ring indicator tells only of its trailing edge. */
		if (before & ~value & MSR_RI)
			s->msr_delta |= MSR_RI >> 4;
		rx_fill(dev, s);
		break;
	case REG_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
	set_line(s);
}

static uint8_t
read_reg(
    struct device *dev, const struct device_access *a UNUSED, unsigned offset)
{
	struct serial *s = device_state(dev);
	uint8_t value = 0;

	tx_advance(dev, s);
	switch (offset) {
	case REG_DATA:
		value = s->lcr & LCR_DLAB ? s->dll : read_data(dev, s);
		break;
	case REG_IER:
		value = s->lcr & LCR_DLAB ? s->dlm : s->ier;
		break;
	case REG_IIR:
		value = pending(s);
		if (value == IIR_TX)
			s->tx_event = 0;
		if (s->fcr & FCR_ENABLE)
			value |= IIR_FIFOS;
		break;
	case REG_LCR:
		value = s->lcr;
		break;
	case REG_MCR:
		value = s->mcr;
		break;
	case REG_LSR:
		value = (uint8_t)((s->rx_n ? LSR_READY : 0) |
		    (s->overrun ? LSR_OVERRUN : 0) |
		    (s->tx_busy ? 0 : LSR_TX_EMPTY));
		s->overrun = 0;
		break;
	case REG_MSR:
		value = modem_lines(s) | s->msr_delta;
		s->msr_delta = 0;
		break;
	case REG_SCR:
		value = s->scr;
		break;
	default:
		break;
	}
	set_line(s);
	return value;
}

static void
serial_access(struct device *dev, struct device_access *a)
{
	device_access_bytes(dev, a, REGS, read_reg, write_reg);
}

static void
serial_reset(struct device *dev)
{
	struct serial *s = device_state(dev);

	s->tx_pos = device_output_head(dev, 0);
	s->rx_pos = device_input_start(dev, 0);
	s->dll = 1; /* 115200 baud */
	s->tx_event = 1;
}

static bool
serial_valid(const void *state)
{
	const struct serial *s = state;

	return s->tx_n <= FIFO && s->rx_n <= FIFO;
}

static void
serial_stream(
    struct device *dev, unsigned stream UNUSED, uint64_t now_ns UNUSED)
{
	struct serial *s = device_state(dev);

	tx_advance(dev, s);
	rx_fill(dev, s);
	set_line(s);
}

static void
serial_settle(struct device *dev)
{
	const struct serial *s = device_state(dev);

	device_output(dev, 0, s->tx_pos, s->tx, s->tx_n);
	device_input_consume(dev, 0, s->rx_pos);
	device_irq(dev, 0, s->line ? s->rises : 0);
}

static void
serial_acpi(struct aml *aml, const struct device_placement *placed,
    const struct device_machine *machine UNUSED)
{
	/* COM1 is unit 1, and so on; a port elsewhere is named by its base. */
	static const uint16_t com[] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
	uint64_t unit = placed->regions[0].base;
	char name[5];

	for (unsigned i = 0; i < ARRAY_LEN(com); i++)
		if (placed->regions[0].base == com[i])
			unit = i + 1;
	snprintf(name, sizeof(name), "U%03X", (unsigned)(unit & 0xfff));
	aml_device_begin(aml, name);
	aml_name_eisaid(aml, "_HID", "PNP0501");
	aml_name_int(aml, "_UID", unit);
	aml_crs_begin(aml);
	aml_crs_io(aml, (uint16_t)placed->regions[0].base, REGS);
	aml_crs_irq(aml, placed->irqs[0].gsi, placed->irqs[0].level);
	aml_crs_end(aml);
	aml_end(aml);
}

#define COM(port, line)                                                   \
	{                                                                 \
		.regions = { { "uart", DEVICE_PIO, .base = (port),        \
		    .size = REGS } },                                     \
		.nregions = 1, .irqs = { { .gsi = (line) } }, .nirqs = 1, \
	}
static const struct device_placement placements[] = {
	COM(0x3f8, 4),
	COM(0x2f8, 3),
	COM(0x3e8, 4),
	COM(0x2e8, 3),
};

static const struct device_register registers[] = {
	{ "RBR/THR/DLL", 0, REG_DATA, 1, false },
	{ "IER/DLM", 0, REG_IER, 1, false },
	{ "IIR/FCR", 0, REG_IIR, 1, false },
	{ "LCR", 0, REG_LCR, 1, false },
	{ "MCR", 0, REG_MCR, 1, false },
	{ "LSR", 0, REG_LSR, 1, true },
	{ "MSR", 0, REG_MSR, 1, true },
	{ "SCR", 0, REG_SCR, 1, false },
};

static const char *const streams[] = { "console" };

static const struct device_ops ops = {
	.reset = serial_reset,
	.valid = serial_valid,
	.access = serial_access,
	.stream = serial_stream,
	.settle = serial_settle,
	.acpi = serial_acpi,
};

static const struct device_type serial = {
	.name = "serial",
	.title = "16550A serial port (COM1 to COM4)",
	.platform = true,
	.dma = DEVICE_DMA_NONE,
	.state_version = 1,
	.state_size = sizeof(struct serial),
	.placements = placements,
	.nplacements = ARRAY_LEN(placements),
	.registers = registers,
	.nregisters = ARRAY_LEN(registers),
	.streams = streams,
	.nstreams = ARRAY_LEN(streams),
	.ops = &ops,
};
DEVTYPE_REGISTER(serial);
