/* Configuration space, BARs, MSI-X and INTA# of a PCI function. */
#include "devices/pci/pci.h"

#include <string.h>

#include "proto/base.h"

/* PCI 3.0, 6.1. */
enum config_register {
	REG_VENDOR = 0x00,
	REG_COMMAND = 0x04,
	REG_STATUS = 0x06,
	REG_REVISION = 0x08,
	REG_CLASS = 0x09,
	REG_CACHE_LINE = 0x0c,
	REG_HEADER_TYPE = 0x0e,
	REG_BAR = 0x10,
	REG_SUBVENDOR = 0x2c,
	REG_CAPABILITIES = 0x34,
	REG_INTERRUPT_LINE = 0x3c,
	REG_INTERRUPT_PIN = 0x3d,
	CAPABILITIES_AT = 0x40,
};

#define COMMAND_MEMORY	     0x0002u
#define COMMAND_MASTER	     0x0004u
#define COMMAND_INTX_DISABLE 0x0400u
/* Parity and SERR# may be enabled too, though neither ever happens. */
#define COMMAND_WRITABLE    0x0546u

#define STATUS_INTERRUPT    0x0008u
#define STATUS_CAPABILITIES 0x0010u
#define STATUS_W1C	    0xf900u /* errors: write one to clear */

#define BAR_64		    0x4u
#define BAR_PREFETCHABLE    0x8u
#define BAR_FLAGS	    0xfu

enum capability_id {
	CAP_POWER = 0x01,
	CAP_EXPRESS = 0x10,
	CAP_MSIX = 0x11,
};

enum capability_size {
	MSIX_SIZE = 12,
	EXPRESS_SIZE = 60,
	POWER_SIZE = 8,
};

#define MSIX_CONTROL	  2u
#define MSIX_ENABLE	  0x8000u
#define MSIX_MASK_ALL	  0x4000u
#define MSIX_ENTRY	  16u
#define VECTOR_MASKED	  1u

#define EXPRESS_CONTROL	  8u
#define EXPRESS_FLR	  0x8000u

#define POWER_CONTROL	  4u
#define POWER_STATE	  0x3u
#define POWER_D3HOT	  3u
#define POWER_NO_SOFT_RST 0x8u

static uint16_t
get16(const uint8_t *at)
{
	return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t
get32(const uint8_t *at)
{
	return get16(at) | (uint32_t)get16(at + 2) << 16;
}

static void
put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

static void
put32(uint8_t *at, uint32_t value)
{
	put16(at, value & 0xffff);
	put16(at + 2, value >> 16);
}

static unsigned
vectors(const struct device *dev)
{
	return device_type(dev)->nvectors;
}

static uint64_t
bar_size(struct device *dev, const struct pci_bar *bar)
{
	return device_placement(dev)->regions[bar->region].size;
}

static bool
is_awake(const struct pci_state *s)
{
	return s->power == 0 ||
	    (s->config[s->power + POWER_CONTROL] & POWER_STATE) == 0;
}

/* ---- the capability list ---- */

unsigned
pci_capability_offset(const struct pci_function *f, unsigned i)
{
	unsigned at = CAPABILITIES_AT;

	BUG_ON(i > f->ncaps || f->ncaps > PCI_CAPS_MAX);
	for (unsigned k = 0; k < i; k++)
		at = (at + f->caps[k].size + 3u) & ~3u;
	return at;
}

/* Append a capability; `link` is the pointer to fill in, moved on to the
 * capability's own. */
static uint8_t
append(struct pci_state *s, unsigned *link, unsigned *at, unsigned size)
{
	unsigned here = *at;

	BUG_ON(here + size > sizeof(s->config));
	s->config[*link] = (uint8_t)here;
	*link = here + 1;
	*at = (here + size + 3u) & ~3u;
	return (uint8_t)here;
}

static void
put_msix(const struct device *dev, const struct pci_function *f, uint8_t *cap)
{
	cap[0] = CAP_MSIX;
	put16(cap + MSIX_CONTROL, vectors(dev) - 1);
	put32(cap + 4, f->msix.table | f->msix.bar);
	put32(cap + 8, f->msix.pba | f->msix.bar);
}

/* PCI Express 5.0, 7.5.3: version 2, root complex integrated endpoint. */
static void
put_express(uint8_t *cap)
{
	cap[0] = CAP_EXPRESS;
	put16(cap + 2, 2 | 9 << 4);
	put32(cap + 4, 1u << 28 | 1u << 15); /* FLR, role-based errors */
	/* Relaxed ordering, no snoop, reads of 512 bytes. */
	put16(cap + EXPRESS_CONTROL, 0x2810);
}

static void
put_power(uint8_t *cap)
{
	cap[0] = CAP_POWER;
	put16(cap + 2, 3); /* version 1.2, only D0 and D3hot */
	put16(cap + POWER_CONTROL, POWER_NO_SOFT_RST);
}

static void
put_capabilities(
    struct device *dev, const struct pci_function *f, struct pci_state *s)
{
	unsigned link = REG_CAPABILITIES, at = CAPABILITIES_AT;

	for (unsigned i = 0; i < f->ncaps; i++) {
		const struct pci_capability *c = &f->caps[i];
		unsigned here = append(s, &link, &at, c->size);

		memcpy(s->config + here, c->bytes, c->size);
		s->config[here + 1] = 0;
	}
	if (vectors(dev) > 0) {
		s->msix = append(s, &link, &at, MSIX_SIZE);
		put_msix(dev, f, s->config + s->msix);
	}
	if (f->express) {
		s->express = append(s, &link, &at, EXPRESS_SIZE);
		put_express(s->config + s->express);
		s->power = append(s, &link, &at, POWER_SIZE);
		put_power(s->config + s->power);
	}
	if (at > CAPABILITIES_AT)
		put16(s->config + REG_STATUS, STATUS_CAPABILITIES);
}

/* ---- reset ---- */

static void
put_header(const struct pci_function *f, struct pci_state *s)
{
	uint8_t *c = s->config;

	put16(c + REG_VENDOR, f->vendor);
	put16(c + REG_VENDOR + 2, f->device);
	c[REG_REVISION] = f->revision;
	c[REG_CLASS] = (uint8_t)f->class_code;
	put16(c + REG_CLASS + 1, f->class_code >> 8);
	c[REG_HEADER_TYPE] = f->header_type;
	put16(c + REG_SUBVENDOR, f->subvendor);
	put16(c + REG_SUBVENDOR + 2, f->subsystem);
	c[REG_INTERRUPT_PIN] = f->interrupt_pin;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &f->bars[i];

		if (bar->region != 0) {
			c[REG_BAR + 4 * i] =
			    (uint8_t)((bar->is64 ? BAR_64 : 0) |
				(bar->prefetchable ? BAR_PREFETCHABLE : 0));
		}
	}
}

void
pci_reset(struct device *dev, const struct pci_function *f, struct pci_state *s)
{
	memset(s->config, 0, sizeof(s->config));
	s->msix = s->express = s->power = 0;
	s->pending = 0;
	s->intx = 0;
	put_header(f, s);
	put_capabilities(dev, f, s);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (f->bars[i].region != 0)
			device_wire_bar(
			    dev, f->bars[i].region, DEVICE_BAR_UNMAPPED);
	}
	for (unsigned i = 0; i < vectors(dev); i++) {
		s->vector[i] = (struct pci_vector){ .control = VECTOR_MASKED };
		device_wire_vector(dev, i, 0, 0);
	}
}

static bool
is_capability(unsigned at, unsigned size)
{
	return at == 0 ||
	    (at >= CAPABILITIES_AT && at % 4 == 0 &&
		at + size <= sizeof(((struct pci_state *)0)->config));
}

bool
pci_valid(const struct pci_state *s)
{
	return is_capability(s->msix, MSIX_SIZE) &&
	    is_capability(s->express, EXPRESS_SIZE) &&
	    is_capability(s->power, POWER_SIZE) &&
	    s->pending >> DEVICE_VECTORS_MAX == 0 && s->intx <= s->rises;
}

/* ---- interrupts ---- */

bool
pci_master(const struct pci_state *s)
{
	return (get16(s->config + REG_COMMAND) & COMMAND_MASTER) != 0 &&
	    is_awake(s);
}

bool
pci_msix_enabled(const struct pci_state *s)
{
	return s->msix != 0 &&
	    (get16(s->config + s->msix + MSIX_CONTROL) & MSIX_ENABLE) != 0;
}

/* May a vector send?  A message is a memory write, so only a bus master may. */
static bool
may_send(const struct pci_state *s, unsigned vector)
{
	return pci_msix_enabled(s) && pci_master(s) &&
	    !(get16(s->config + s->msix + MSIX_CONTROL) & MSIX_MASK_ALL) &&
	    !(s->vector[vector].control & VECTOR_MASKED);
}

/* Send what is pending and not held back. */
static void
send_pending(struct pci_state *s)
{
	if (!pci_msix_enabled(s))
		s->pending = 0;
	for (uint64_t left = s->pending; left != 0; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);

		if (!may_send(s, i))
			continue;
		s->pending &= ~(1ull << i);
		s->vector[i].sent++;
	}
}

/*
 * After a write that may have held vectors back or let them go.  One that is
 * held back has sent nothing, or a new process would send it again, maybe to
 * where nobody expects it any more.
 */
static void
update_vectors(struct pci_state *s)
{
	for (unsigned i = 0; i < DEVICE_VECTORS_MAX; i++) {
		if (!may_send(s, i))
			s->vector[i].sent = 0;
	}
	send_pending(s);
}

void
pci_raise_vector(struct device *dev, struct pci_state *s, unsigned vector)
{
	if (vector >= vectors(dev) || !pci_msix_enabled(s))
		return;
	s->pending |= 1ull << vector;
	send_pending(s);
}

void
pci_set_intx(struct device *dev UNUSED, struct pci_state *s, bool high)
{
	s->intx = high ? ++s->rises : 0;
}

void
pci_settle(struct device *dev, const struct pci_state *s)
{
	bool off = pci_msix_enabled(s) ||
	    (get16(s->config + REG_COMMAND) & COMMAND_INTX_DISABLE) != 0;

	if (device_placement(dev)->nirqs > 0)
		device_irq(dev, 0, off ? 0 : s->intx);
	for (unsigned i = 0; i < vectors(dev); i++)
		device_msi(dev, i, s->vector[i].sent);
}

/* ---- accesses to configuration space ---- */

static uint64_t
bar_address(const struct pci_function *f, const struct pci_state *s, unsigned i)
{
	const uint8_t *at = s->config + REG_BAR + 4 * i;
	uint64_t address = get32(at) & ~BAR_FLAGS;

	if (!(get16(s->config + REG_COMMAND) & COMMAND_MEMORY) || !is_awake(s))
		return DEVICE_BAR_UNMAPPED;
	if (f->bars[i].is64)
		address |= (uint64_t)get32(at + 4) << 32;
	return address;
}

/* Which bits the guest may write, but for those that a one clears. */
static void
fill_mask(struct device *dev, const struct pci_function *f,
    const struct pci_state *s, uint8_t mask[256])
{
	memset(mask, 0, 256);
	put16(mask + REG_COMMAND, COMMAND_WRITABLE);
	mask[REG_CACHE_LINE] = 0xff;
	mask[REG_INTERRUPT_LINE] = 0xff;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &f->bars[i];
		uint64_t bits;

		if (bar->region == 0)
			continue;
		bits = ~(bar_size(dev, bar) - 1) & ~(uint64_t)BAR_FLAGS;
		put32(mask + REG_BAR + 4 * i, (uint32_t)bits);
		if (bar->is64)
			put32(
			    mask + REG_BAR + 4 * i + 4, (uint32_t)(bits >> 32));
	}
	for (unsigned i = 0; i < f->ncaps; i++) {
		if (f->caps[i].writable != NULL)
			memcpy(mask + pci_capability_offset(f, i),
			    f->caps[i].writable, f->caps[i].size);
	}
	if (s->msix != 0)
		put16(
		    mask + s->msix + MSIX_CONTROL, MSIX_ENABLE | MSIX_MASK_ALL);
	if (s->express != 0)
		put16(
		    mask + s->express + EXPRESS_CONTROL, 0x78ffu | EXPRESS_FLR);
	if (s->power != 0)
		put16(mask + s->power + POWER_CONTROL, POWER_STATE);
}

/* What a write to the power state or to the FLR bit does beyond being kept. */
static void
after_write(struct device *dev, const struct pci_function *f,
    struct pci_state *s, unsigned power_before)
{
	if (s->power != 0) {
		uint8_t *at = &s->config[s->power + POWER_CONTROL];
		unsigned state = *at & POWER_STATE;

		/* D1 and D2 are not there: the write is for nothing. */
		if (state != 0 && state != POWER_D3HOT)
			*at = (uint8_t)((*at & ~POWER_STATE) | power_before);
	}
	if (s->express != 0) {
		uint8_t *at = s->config + s->express + EXPRESS_CONTROL;

		if (get16(at) & EXPRESS_FLR) {
			pci_reset(dev, f, s);
			if (f->function_reset != NULL)
				f->function_reset(dev);
		}
	}
}

static void
write_config(struct device *dev, const struct pci_function *f,
    struct pci_state *s, const struct device_access *a)
{
	uint64_t before[PCI_BARS];
	uint8_t mask[256];
	unsigned power = 0;

	for (unsigned i = 0; i < PCI_BARS; i++)
		before[i] = bar_address(f, s, i);
	if (s->power != 0)
		power = s->config[s->power + POWER_CONTROL] & POWER_STATE;
	fill_mask(dev, f, s, mask);
	for (unsigned i = 0; i < a->size && a->addr + i < 256; i++) {
		unsigned at = (unsigned)a->addr + i;
		uint8_t value = (uint8_t)(a->data >> (8 * i));
		uint8_t *byte = &s->config[at];

		if ((at & ~1u) == REG_STATUS)
			*byte &=
			    (uint8_t) ~(value & STATUS_W1C >> (8 * (at & 1)));
		else
			*byte =
			    (uint8_t)((*byte & ~mask[at]) | (value & mask[at]));
	}
	after_write(dev, f, s, power);
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t now = bar_address(f, s, i);

		if (f->bars[i].region != 0 && now != before[i])
			device_wire_bar(dev, f->bars[i].region, now);
	}
	update_vectors(s);
}

static uint8_t
read_config(const struct pci_state *s, uint64_t at)
{
	if (at >= PCI_CONFIG_SIZE)
		return 0xff;
	/* No extended capabilities: a zero header at 0x100 says so. */
	if (at >= sizeof(s->config))
		return 0;
	if (at == REG_STATUS && s->intx != 0)
		return s->config[at] | STATUS_INTERRUPT;
	return s->config[at];
}

void
pci_config_access(struct device *dev, const struct pci_function *f,
    struct pci_state *s, struct device_access *a)
{
	if (a->write) {
		write_config(dev, f, s, a);
		return;
	}
	a->data = 0;
	for (unsigned i = 0; i < a->size; i++)
		a->data |= (uint64_t)read_config(s, a->addr + i) << (8 * i);
}

/* ---- the MSI-X table and its pending bits ---- */

static void
entry_to_bytes(const struct pci_vector *v, uint8_t bytes[MSIX_ENTRY])
{
	put32(bytes, (uint32_t)v->address);
	put32(bytes + 4, (uint32_t)(v->address >> 32));
	put32(bytes + 8, v->data);
	put32(bytes + 12, v->control);
}

static void
write_entry(struct device *dev, struct pci_state *s, unsigned i,
    const uint8_t bytes[MSIX_ENTRY])
{
	struct pci_vector *v = &s->vector[i];
	uint64_t address = get32(bytes) | (uint64_t)get32(bytes + 4) << 32;
	uint32_t data = get32(bytes + 8);

	v->control = get32(bytes + 12) & VECTOR_MASKED;
	if (address == v->address && data == v->data)
		return;
	v->address = address;
	v->data = data;
	device_wire_vector(dev, i, address, data);
}

static void
table_access(struct device *dev, struct pci_state *s, struct device_access *a,
    uint64_t at, uint64_t size)
{
	uint8_t bytes[MSIX_ENTRY];

	for (unsigned i = 0; i < a->size && at + i < size;) {
		unsigned n = (unsigned)((at + i) / MSIX_ENTRY);
		unsigned offset = (unsigned)((at + i) % MSIX_ENTRY);

		entry_to_bytes(&s->vector[n], bytes);
		for (; i < a->size && offset < MSIX_ENTRY; i++, offset++) {
			if (a->write)
				bytes[offset] = (uint8_t)(a->data >> (8 * i));
			else
				a->data |= (uint64_t)bytes[offset] << (8 * i);
		}
		if (a->write)
			write_entry(dev, s, n, bytes);
	}
	if (a->write)
		update_vectors(s);
}

bool
pci_msix_access(struct device *dev, const struct pci_function *f,
    struct pci_state *s, struct device_access *a)
{
	uint64_t size = (uint64_t)vectors(dev) * MSIX_ENTRY;

	if (a->region != f->msix.region || size == 0)
		return false;
	if (a->addr >= f->msix.table && a->addr - f->msix.table < size) {
		if (!a->write)
			a->data = 0;
		table_access(dev, s, a, a->addr - f->msix.table, size);
		return true;
	}
	if (a->addr >= f->msix.pba && a->addr - f->msix.pba < 8) {
		if (!a->write)
			a->data = s->pending >> (8 * (a->addr - f->msix.pba));
		return true;
	}
	return false;
}
