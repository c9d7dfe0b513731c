/* The local APIC.  See lapic.h. */
#include "hypervisor/soft/lapic.h"

#include <errno.h>
#include <string.h>

#include "hypervisor/soft/machine.h"

/* Register numbers: offset / 16. */
enum {
	R_ID = 0x02,
	R_VERSION = 0x03,
	R_TPR = 0x08,
	R_APR = 0x09,
	R_PPR = 0x0a,
	R_EOI = 0x0b,
	R_LDR = 0x0d,
	R_DFR = 0x0e,
	R_SVR = 0x0f,
	R_ISR = 0x10,
	R_TMR = 0x18,
	R_IRR = 0x20,
	R_ESR = 0x28,
	R_CMCI = 0x2f,
	R_ICR = 0x30,
	R_ICR2 = 0x31,
	R_TIMER = 0x32,
	R_THERMAL = 0x33,
	R_PERF = 0x34,
	R_LINT0 = 0x35,
	R_LINT1 = 0x36,
	R_ERROR = 0x37,
	R_INITIAL = 0x38,
	R_CURRENT = 0x39,
	R_DIVIDE = 0x3e,
	R_SELF_IPI = 0x3f,
};

#define BASE_BSP	(1u << 8)
#define BASE_X2APIC	(1u << 10)
#define BASE_ENABLE	(1u << 11)
#define BASE_RESERVED	0xfff00000000002ffu
#define BASE_ADDRESS	0x000ffffffffff000u
#define LVT_MASKED	(1u << 16)
#define LVT_MODE(v)	((v) >> 8 & 7)
#define TIMER_MODE(v)	((v) >> 17 & 3)
#define TIMER_PERIODIC	1u
#define TIMER_DEADLINE	2u
#define SVR_ENABLE	(1u << 8)
#define ESR_SEND_VECTOR (1u << 5)
#define ESR_RECV_VECTOR (1u << 6)
#define ESR_REGISTER	(1u << 7)
#define VERSION		(0x14u | 5u << 16) /* six LVT entries */
#define MSR_X2APIC	0x800u

static bool
x2apic(const struct lapic *l)
{
	return l->base & BASE_X2APIC;
}

static void
bit_set(uint32_t *map, unsigned v)
{
	map[v >> 5] |= 1u << (v & 31);
}

static void
bit_clear(uint32_t *map, unsigned v)
{
	map[v >> 5] &= ~(1u << (v & 31));
}

static bool
bit_get(const uint32_t *map, unsigned v)
{
	return map[v >> 5] >> (v & 31) & 1;
}

/* The highest set bit; -1 if none. */
static int
bit_highest(const uint32_t *map)
{
	for (int n = 7; n >= 0; n--)
		if (map[n])
			return n * 32 + 31 - __builtin_clz(map[n]);
	return -1;
}

static unsigned
ppr(const struct lapic *l)
{
	int isr = bit_highest(&l->reg[R_ISR]);
	unsigned tpr = l->reg[R_TPR] & 0xff;
	unsigned served = isr < 0 ? 0 : (unsigned)isr & 0xf0;

	return (tpr & 0xf0) >= served ? tpr : served;
}

static bool
software_enabled(const struct lapic *l)
{
	return (l->base & BASE_ENABLE) && (l->reg[R_SVR] & SVR_ENABLE);
}

/* The vector to deliver now; -1: none. */
static int
deliverable(const struct lapic *l)
{
	int v = bit_highest(&l->reg[R_IRR]);

	if (v < 0 || !software_enabled(l))
		return -1;
	return ((unsigned)v & 0xf0) > (ppr(l) & 0xf0) ? v : -1;
}

static void raise_error(struct lapic *l, uint32_t bit);

/* The lock is held.  True: the processor is to be told. */
static bool
request(struct lapic *l, unsigned v, bool level)
{
	if (!software_enabled(l))
		return false;
	if (v < 16) {
		raise_error(l, ESR_RECV_VECTOR);
		return deliverable(l) >= 0;
	}
	bit_set(&l->reg[R_IRR], v);
	if (level)
		bit_set(&l->reg[R_TMR], v);
	else
		bit_clear(&l->reg[R_TMR], v);
	return true;
}

static void
raise_error(struct lapic *l, uint32_t bit)
{
	uint32_t lvt = l->reg[R_ERROR];

	l->errors |= bit;
	if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
		request(l, lvt & 0xff, false);
}

static void
tell(struct lapic *l, uint32_t bits)
{
	l->env->attend(l->ctx, bits);
}

void
lapic_restart(struct lapic *l, bool init)
{
	pthread_mutex_lock(&l->lock);
	memset(l->reg, 0, sizeof(l->reg));
	l->reg[R_VERSION] = VERSION;
	l->reg[R_DFR] = UINT32_MAX;
	l->reg[R_SVR] = 0xff;
	for (unsigned r = R_TIMER; r <= R_ERROR; r++)
		l->reg[r] = LVT_MASKED;
	l->icr_high = l->errors = 0;
	l->deadline = 0;
	if (!init) {
		l->base = LAPIC_BASE | BASE_ENABLE | (l->id ? 0 : BASE_BSP);
		/* The boot processor comes up wired to the PIC, as firmware
		 * would leave it: a kernel may be entered without any. */
		if (l->id == 0)
			l->reg[R_LINT0] = APIC_EXTINT << 8;
	}
	if (x2apic(l))
		l->reg[R_LDR] = (l->id >> 4) << 16 | 1u << (l->id & 15);
	pthread_mutex_unlock(&l->lock);
	l->env->timer_set(l->ctx);
}

void
lapic_init(struct lapic *l, const struct lapic_env *env, void *ctx, unsigned id)
{
	memset(l, 0, sizeof(*l));
	pthread_mutex_init(&l->lock, NULL);
	l->env = env;
	l->ctx = ctx;
	l->id = id;
	lapic_restart(l, false);
}

void
lapic_destroy(struct lapic *l)
{
	pthread_mutex_destroy(&l->lock);
}

/* ---- messages ---- */

static bool
logical_match(const struct lapic *l, const struct apic_msg *msg)
{
	uint32_t ldr = l->reg[R_LDR];

	if (x2apic(l)) {
		if (!msg->wide && msg->dest == 0xff)
			return true;
		return ldr >> 16 == msg->dest >> 16 &&
		    (ldr & msg->dest & 0xffff);
	}
	ldr >>= 24;
	if (l->reg[R_DFR] >> 28 == 0xf) /* flat */
		return ldr & msg->dest & 0xff;
	return (ldr >> 4 == msg->dest >> 4 || msg->dest >> 4 == 0xf) &&
	    (ldr & msg->dest & 0xf);
}

bool
lapic_matches(struct lapic *l, const struct apic_msg *msg)
{
	bool match;

	if (msg->dest == (msg->wide ? UINT32_MAX : 0xffu))
		return true;
	if (!msg->logical)
		return msg->dest == l->id;
	pthread_mutex_lock(&l->lock);
	match = logical_match(l, msg);
	pthread_mutex_unlock(&l->lock);
	return match;
}

void
lapic_accept(struct lapic *l, const struct apic_msg *msg)
{
	bool told = false;

	switch (msg->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		pthread_mutex_lock(&l->lock);
		told = request(l, msg->vector, msg->level);
		pthread_mutex_unlock(&l->lock);
		if (told)
			tell(l, ATT_IRQ);
		break;
	case APIC_NMI:
		tell(l, ATT_NMI);
		break;
	case APIC_INIT:
		/* Level de-assert only synchronizes arbitration. */
		if (!msg->level || msg->assert)
			tell(l, ATT_INIT);
		break;
	case APIC_STARTUP:
		l->env->startup(l->ctx, msg->vector);
		break;
	default: /* SMI: there is no system management mode */
		break;
	}
}

bool
lapic_enabled(struct lapic *l)
{
	bool on;

	pthread_mutex_lock(&l->lock);
	on = software_enabled(l);
	pthread_mutex_unlock(&l->lock);
	return on;
}

unsigned
lapic_priority(struct lapic *l)
{
	unsigned p;

	pthread_mutex_lock(&l->lock);
	p = ppr(l);
	pthread_mutex_unlock(&l->lock);
	return p;
}

/* LINT0 leads the PIC's interrupts through. */
static bool
extint_open(const struct lapic *l)
{
	uint32_t lvt = l->reg[R_LINT0];

	return !(l->base & BASE_ENABLE) ||
	    (!(lvt & LVT_MASKED) && LVT_MODE(lvt) == APIC_EXTINT);
}

void
lapic_lint0(struct lapic *l, bool level)
{
	uint32_t lvt, bits = 0;

	pthread_mutex_lock(&l->lock);
	lvt = l->reg[R_LINT0];
	if (level && extint_open(l)) {
		bits = ATT_IRQ;
	} else if (level && !l->lint0 && !(lvt & LVT_MASKED)) {
		if (LVT_MODE(lvt) == APIC_NMI)
			bits = ATT_NMI;
		else if (LVT_MODE(lvt) == APIC_FIXED &&
		    request(l, lvt & 0xff, false))
			bits = ATT_IRQ;
	}
	l->lint0 = level;
	pthread_mutex_unlock(&l->lock);
	if (bits)
		tell(l, bits);
}

static void
send_ipi(struct lapic *l, uint32_t low, uint32_t dest, bool wide)
{
	struct apic_msg msg = {
		.dest = dest,
		.vector = (uint8_t)low,
		.mode = low >> 8 & 7,
		.shorthand = low >> 18 & 3,
		.logical = low >> 11 & 1,
		.assert = low >> 14 & 1,
		.level = low >> 15 & 1,
		.wide = wide,
	};

	if ((msg.mode == APIC_FIXED || msg.mode == APIC_LOWEST)) {
		/* Interprocessor interrupts of these modes are edges. */
		msg.level = false;
		if (msg.vector < 16) {
			pthread_mutex_lock(&l->lock);
			raise_error(l, ESR_SEND_VECTOR);
			pthread_mutex_unlock(&l->lock);
			return;
		}
	}
	l->env->send(l->ctx, &msg);
}

static void
end_of_interrupt(struct lapic *l)
{
	bool level, more;
	int v;

	pthread_mutex_lock(&l->lock);
	v = bit_highest(&l->reg[R_ISR]);
	level = v >= 0 && bit_get(&l->reg[R_TMR], (unsigned)v);
	if (v >= 0)
		bit_clear(&l->reg[R_ISR], (unsigned)v);
	more = deliverable(l) >= 0;
	pthread_mutex_unlock(&l->lock);
	if (level)
		l->env->eoi(l->ctx, (unsigned)v);
	if (more)
		tell(l, ATT_IRQ);
}

/* ---- timer ---- */

static unsigned
divider(const struct lapic *l)
{
	uint32_t v = l->reg[R_DIVIDE];

	return 1u << ((((v & 3) | (v >> 1 & 4)) + 1) & 7);
}

static uint64_t
period_ns(const struct lapic *l)
{
	return (uint64_t)l->reg[R_INITIAL] * divider(l) *
	    (1000000000u / LAPIC_BUS_HZ);
}

static uint32_t
current_count(const struct lapic *l)
{
	uint64_t gone, period = period_ns(l);
	unsigned mode = TIMER_MODE(l->reg[R_TIMER]);

	if (!l->timer_start_ns || !period || mode == TIMER_DEADLINE)
		return 0;
	gone = l->env->now_ns(l->ctx) - l->timer_start_ns;
	if (mode == TIMER_PERIODIC)
		gone %= period;
	else if (gone >= period)
		return 0;
	return (uint32_t)((period - gone) / divider(l));
}

static void
timer_start(struct lapic *l, uint32_t count)
{
	l->reg[R_INITIAL] = count;
	l->timer_start_ns = count ? l->env->now_ns(l->ctx) : 0;
}

static void
timer_lvt(struct lapic *l, uint32_t v)
{
	unsigned was = TIMER_MODE(l->reg[R_TIMER]), mode = TIMER_MODE(v);

	l->reg[R_TIMER] = v;
	/* Going to or from deadline mode disarms the timer. */
	if ((was == TIMER_DEADLINE) != (mode == TIMER_DEADLINE)) {
		l->timer_start_ns = 0;
		l->reg[R_INITIAL] = 0;
		l->deadline = 0;
	}
}

/* The lock is held. */
static uint64_t
due_ns(const struct lapic *l)
{
	uint64_t tsc, now;

	if (!(l->base & BASE_ENABLE))
		return LAPIC_NEVER;
	if (TIMER_MODE(l->reg[R_TIMER]) == TIMER_DEADLINE) {
		if (!l->deadline)
			return LAPIC_NEVER;
		/* In this order: never before the deadline. */
		tsc = l->env->tsc(l->ctx);
		now = l->env->now_ns(l->ctx);
		if (tsc >= l->deadline)
			return now;
		return now +
		    (uint64_t)((unsigned __int128)(l->deadline - tsc) *
			1000000u / l->env->tsc_khz(l->ctx)) +
		    1;
	}
	return l->timer_start_ns ? l->timer_start_ns + period_ns(l)
				 : LAPIC_NEVER;
}

uint64_t
lapic_due_ns(struct lapic *l)
{
	uint64_t due;

	pthread_mutex_lock(&l->lock);
	due = due_ns(l);
	pthread_mutex_unlock(&l->lock);
	return due;
}

/* The lock is held.  A deadline is compared with the TSC itself: due_ns() has a
 * later now than ours. */
static bool
is_due(const struct lapic *l, uint64_t now)
{
	if (!(l->base & BASE_ENABLE))
		return false;
	if (TIMER_MODE(l->reg[R_TIMER]) == TIMER_DEADLINE)
		return l->deadline && l->env->tsc(l->ctx) >= l->deadline;
	return l->timer_start_ns && now >= l->timer_start_ns + period_ns(l);
}

void
lapic_run(struct lapic *l)
{
	uint64_t now = l->env->now_ns(l->ctx), period;
	bool told = false;
	uint32_t lvt;

	pthread_mutex_lock(&l->lock);
	lvt = l->reg[R_TIMER];
	if (is_due(l, now)) {
		period = period_ns(l);
		if (TIMER_MODE(lvt) == TIMER_DEADLINE)
			l->deadline = 0;
		else if (TIMER_MODE(lvt) == TIMER_PERIODIC)
			/* Periods that nobody saw are one interrupt. */
			l->timer_start_ns +=
			    (now - l->timer_start_ns) / period * period;
		else
			l->timer_start_ns = 0;
		if (!(lvt & LVT_MASKED))
			told = request(l, lvt & 0xff, false);
	}
	pthread_mutex_unlock(&l->lock);
	if (told)
		tell(l, ATT_IRQ);
}

/* ---- registers ---- */

/* Is there such a register to read?  x2APIC has no DFR and no ICR2. */
static bool
readable(unsigned r, bool msr)
{
	if (r >= R_ISR && r < R_ESR)
		return true;
	switch (r) {
	case R_ID:
	case R_VERSION:
	case R_TPR:
	case R_PPR:
	case R_LDR:
	case R_SVR:
	case R_ESR:
	case R_ICR:
	case R_TIMER:
	case R_THERMAL:
	case R_PERF:
	case R_LINT0:
	case R_LINT1:
	case R_ERROR:
	case R_INITIAL:
	case R_CURRENT:
	case R_DIVIDE:
		return true;
	case R_APR:
	case R_DFR:
	case R_ICR2:
		return !msr;
	default:
		return false;
	}
}

/* The lock is held. */
static uint32_t
reg_read(struct lapic *l, unsigned r)
{
	switch (r) {
	case R_ID:
		return x2apic(l) ? l->id : l->id << 24;
	case R_PPR:
	case R_APR:
		return ppr(l);
	case R_ICR2:
		return l->icr_high;
	case R_CURRENT:
		return current_count(l);
	default:
		return l->reg[r];
	}
}

static void
write_svr(struct lapic *l, uint32_t v)
{
	l->reg[R_SVR] = v & 0x1ff;
	if (v & SVR_ENABLE)
		return;
	for (unsigned r = R_TIMER; r <= R_ERROR; r++)
		l->reg[r] |= LVT_MASKED;
}

static void
write_lvt(struct lapic *l, unsigned r, uint32_t v)
{
	static const uint32_t writable[] = {
		[R_TIMER - R_TIMER] = 0x700ff,
		[R_THERMAL - R_TIMER] = 0x107ff,
		[R_PERF - R_TIMER] = 0x107ff,
		[R_LINT0 - R_TIMER] = 0x1a7ff,
		[R_LINT1 - R_TIMER] = 0x1a7ff,
		[R_ERROR - R_TIMER] = 0x100ff,
	};

	v &= writable[r - R_TIMER];
	if (!(l->reg[R_SVR] & SVR_ENABLE))
		v |= LVT_MASKED;
	if (r == R_TIMER)
		timer_lvt(l, v);
	else
		l->reg[r] = v;
}

static void
write_divide(struct lapic *l, uint32_t v)
{
	uint32_t left = current_count(l), count = l->reg[R_INITIAL];
	uint64_t now;

	l->reg[R_DIVIDE] = v & 0xb;
	if (!l->timer_start_ns)
		return;
	/* The count goes on from where it is, at the new speed. */
	now = l->env->now_ns(l->ctx);
	l->timer_start_ns = now - (uint64_t)(count - left) * divider(l);
}

/* The lock is held.  What else is to be done once it is not: */
enum later { NOTHING, LATER_IRQ = 1, LATER_TIMER = 2 };

static unsigned
reg_write(struct lapic *l, unsigned r, uint32_t v)
{
	switch (r) {
	case R_TPR:
		l->reg[R_TPR] = v & 0xff;
		return LATER_IRQ;
	case R_LDR:
		l->reg[R_LDR] = v & 0xff000000;
		return NOTHING;
	case R_DFR:
		l->reg[R_DFR] = v | 0x0fffffff;
		return NOTHING;
	case R_SVR:
		write_svr(l, v);
		return LATER_IRQ;
	case R_ESR:
		l->reg[R_ESR] = l->errors;
		l->errors = 0;
		return NOTHING;
	case R_ICR2:
		l->icr_high = v;
		return NOTHING;
	case R_TIMER:
		write_lvt(l, r, v);
		return LATER_TIMER;
	case R_THERMAL:
	case R_PERF:
	case R_LINT0:
	case R_LINT1:
	case R_ERROR:
		write_lvt(l, r, v);
		return LATER_IRQ;
	case R_INITIAL:
		if (TIMER_MODE(l->reg[R_TIMER]) != TIMER_DEADLINE)
			timer_start(l, v);
		return LATER_TIMER;
	case R_DIVIDE:
		write_divide(l, v);
		return LATER_TIMER;
	default:
		if (!readable(r, false))
			raise_error(l, ESR_REGISTER);
		return NOTHING;
	}
}

static void
finish(struct lapic *l, unsigned later)
{
	if (later & LATER_TIMER)
		l->env->timer_set(l->ctx);
	if ((later & LATER_IRQ) && lapic_pending(l->ctx))
		tell(l, ATT_IRQ);
}

static void
write_locked(struct lapic *l, unsigned r, uint32_t v)
{
	unsigned later;

	pthread_mutex_lock(&l->lock);
	later = reg_write(l, r, v);
	pthread_mutex_unlock(&l->lock);
	finish(l, later);
}

uint32_t
lapic_read(struct lapic *l, unsigned offset)
{
	unsigned r = offset >> 4;
	uint32_t v = 0;

	if (offset & 0xf || r >= ARRAY_LEN(l->reg))
		return 0;
	pthread_mutex_lock(&l->lock);
	if (readable(r, false))
		v = reg_read(l, r);
	else
		raise_error(l, ESR_REGISTER);
	pthread_mutex_unlock(&l->lock);
	return v;
}

void
lapic_write(struct lapic *l, unsigned offset, uint32_t v)
{
	unsigned r = offset >> 4;

	if (offset & 0xf || r >= ARRAY_LEN(l->reg))
		return;
	if (r == R_EOI) {
		end_of_interrupt(l);
	} else if (r == R_ICR) {
		l->reg[R_ICR] = v & 0xcdfff & ~(1u << 12);
		send_ipi(l, v, l->icr_high >> 24, false);
	} else {
		write_locked(l, r, v);
	}
}

bool
lapic_mapped(const struct lapic *l, uint64_t *base)
{
	*base = l->base & BASE_ADDRESS;
	return (l->base & (BASE_ENABLE | BASE_X2APIC)) == BASE_ENABLE;
}

/* ---- the processor's side ---- */

int
lapic_take(struct cpu *c)
{
	struct lapic *l = c->lapic;
	bool open;
	int v;

	pthread_mutex_lock(&l->lock);
	open = extint_open(l);
	pthread_mutex_unlock(&l->lock);
	if (open && l->env->extint_pending(l->ctx)) {
		v = l->env->extint_take(l->ctx);
		if (v >= 0)
			return v;
	}
	pthread_mutex_lock(&l->lock);
	v = deliverable(l);
	if (v >= 0) {
		bit_clear(&l->reg[R_IRR], (unsigned)v);
		bit_set(&l->reg[R_ISR], (unsigned)v);
	}
	pthread_mutex_unlock(&l->lock);
	return v;
}

bool
lapic_pending(struct cpu *c)
{
	struct lapic *l = c->lapic;
	bool pending, open;

	pthread_mutex_lock(&l->lock);
	pending = deliverable(l) >= 0;
	open = extint_open(l);
	pthread_mutex_unlock(&l->lock);
	return pending || (open && l->env->extint_pending(l->ctx));
}

uint64_t
lapic_base_get(struct cpu *c)
{
	return c->lapic->base;
}

int
lapic_base_set(struct cpu *c, uint64_t value)
{
	struct lapic *l = c->lapic;
	uint64_t both = BASE_ENABLE | BASE_X2APIC;

	if (value & BASE_RESERVED)
		return -EINVAL;
	if ((value & both) == BASE_X2APIC)
		return -EINVAL;
	/* From disabled to x2APIC, and from x2APIC to xAPIC, there is no way
	 * (SDM, "x2APIC State Transitions"). */
	if ((value & both) == both && !(l->base & BASE_ENABLE))
		return -EINVAL;
	if ((value & both) == BASE_ENABLE && x2apic(l))
		return -EINVAL;
	if (!(value & BASE_ENABLE) && (l->base & BASE_ENABLE)) {
		l->base = value;
		lapic_restart(l, true);
		return 0;
	}
	pthread_mutex_lock(&l->lock);
	l->base = value;
	if (x2apic(l))
		l->reg[R_LDR] = (l->id >> 4) << 16 | 1u << (l->id & 15);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

int
lapic_msr_read(struct cpu *c, uint32_t msr, uint64_t *value)
{
	struct lapic *l = c->lapic;
	unsigned r = msr - MSR_X2APIC;

	if (!x2apic(l) || r >= ARRAY_LEN(l->reg) || !readable(r, true))
		return -EINVAL;
	pthread_mutex_lock(&l->lock);
	*value = reg_read(l, r);
	if (r == R_ICR)
		*value |= (uint64_t)l->icr_high << 32;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

/* Bits that must be zero in a write of that register by MSR. */
static uint64_t
msr_reserved(unsigned r)
{
	switch (r) {
	case R_TPR:
	case R_SELF_IPI:
		return ~(uint64_t)0xff;
	case R_EOI:
	case R_ESR:
		return ~(uint64_t)0;
	default:
		return r == R_ICR ? 0 : ~(uint64_t)UINT32_MAX;
	}
}

int
lapic_msr_write(struct cpu *c, uint32_t msr, uint64_t value)
{
	struct lapic *l = c->lapic;
	unsigned r = msr - MSR_X2APIC;

	if (!x2apic(l) || r >= ARRAY_LEN(l->reg) || (value & msr_reserved(r)))
		return -EINVAL;
	if (r == R_EOI) {
		end_of_interrupt(l);
	} else if (r == R_ICR) {
		l->icr_high = (uint32_t)(value >> 32);
		l->reg[R_ICR] = (uint32_t)value & 0xccfff;
		send_ipi(l, (uint32_t)value, l->icr_high, true);
	} else if (r == R_SELF_IPI) {
		send_ipi(l, (uint32_t)value | APIC_SELF << 18, 0, true);
	} else if (!readable(r, true) || r == R_ID || r == R_VERSION ||
	    r == R_PPR || r == R_LDR || r == R_CURRENT ||
	    (r >= R_ISR && r < R_ESR)) {
		return -EINVAL;
	} else {
		write_locked(l, r, (uint32_t)value);
	}
	return 0;
}

uint64_t
lapic_tpr_get(struct cpu *c)
{
	return c->lapic->reg[R_TPR] >> 4 & 0xf;
}

void
lapic_tpr_set(struct cpu *c, uint64_t value)
{
	write_locked(c->lapic, R_TPR, (uint32_t)(value & 0xf) << 4);
}

uint64_t
lapic_deadline_get(struct cpu *c)
{
	return c->lapic->deadline;
}

void
lapic_deadline_set(struct cpu *c, uint64_t value)
{
	struct lapic *l = c->lapic;

	pthread_mutex_lock(&l->lock);
	/* In another mode a write is dropped (SDM, "TSC-Deadline Mode"). */
	if (TIMER_MODE(l->reg[R_TIMER]) == TIMER_DEADLINE)
		l->deadline = value;
	pthread_mutex_unlock(&l->lock);
	l->env->timer_set(l->ctx);
}

/* ---- saved state ---- */

void
lapic_save(struct lapic *l, uint8_t page[4096])
{
	memset(page, 0, 4096);
	pthread_mutex_lock(&l->lock);
	for (unsigned r = 0; r < ARRAY_LEN(l->reg); r++) {
		uint32_t v = readable(r, false) ? reg_read(l, r) : 0;

		memcpy(page + r * 16, &v, sizeof(v));
	}
	pthread_mutex_unlock(&l->lock);
}

void
lapic_load(struct lapic *l, const uint8_t page[4096])
{
	uint32_t left;

	pthread_mutex_lock(&l->lock);
	for (unsigned r = 0; r < ARRAY_LEN(l->reg); r++)
		memcpy(&l->reg[r], page + r * 16, sizeof(l->reg[r]));
	l->icr_high = l->reg[R_ICR2];
	l->reg[R_VERSION] = VERSION;
	left = l->reg[R_CURRENT];
	l->timer_start_ns = 0;
	if (left && left <= l->reg[R_INITIAL])
		l->timer_start_ns = l->env->now_ns(l->ctx) -
		    (uint64_t)(l->reg[R_INITIAL] - left) * divider(l);
	pthread_mutex_unlock(&l->lock);
	l->env->timer_set(l->ctx);
}
