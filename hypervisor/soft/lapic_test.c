/* Tests of the local APIC, in surroundings of their own. */
#include "hypervisor/soft/lapic.h"

#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <string.h>

#include "hypervisor/soft/machine.h"

#define NOW 5000000u

static struct cpu cpu;
static struct lapic lapic;
static uint64_t now;
static uint32_t attended;
static unsigned eois, messages, timer_sets, sipi;
static int extint;
static struct apic_msg last;

/* Time goes on a little with every look, as it does. */
static uint64_t step;

static uint64_t
env_now(void *ctx)
{
	(void)ctx;
	now += step;
	return now;
}

/* The TSC runs at 2 GHz. */
static uint64_t
env_tsc(void *ctx)
{
	(void)ctx;
	return now * 2;
}

static uint32_t
env_khz(void *ctx)
{
	(void)ctx;
	return 2000000;
}

static void
env_attend(void *ctx, uint32_t bits)
{
	(void)ctx;
	attended |= bits;
}

static void
env_startup(void *ctx, uint8_t vector)
{
	(void)ctx;
	sipi = vector;
}

static void
env_timer_set(void *ctx)
{
	(void)ctx;
	timer_sets++;
}

static void
env_send(void *ctx, const struct apic_msg *msg)
{
	(void)ctx;
	last = *msg;
	messages++;
}

static void
env_eoi(void *ctx, unsigned vector)
{
	(void)ctx;
	eois = vector;
}

static bool
env_extint_pending(void *ctx)
{
	(void)ctx;
	return extint >= 0;
}

static int
env_extint_take(void *ctx)
{
	int v = extint;

	(void)ctx;
	extint = -1;
	return v;
}

static const struct lapic_env env = { env_now, env_tsc, env_khz, env_attend,
	env_startup, env_timer_set, env_send, env_eoi, env_extint_pending,
	env_extint_take };

static void
start(unsigned id)
{
	now = NOW;
	extint = -1;
	messages = eois = sipi = 0;
	lapic_init(&lapic, &env, &cpu, id);
	cpu.lapic = &lapic;
	lapic_write(&lapic, 0xf0, 0x1ff);
	attended = 0;
}

static void
fixed(uint8_t vector, bool level)
{
	const struct apic_msg msg = { .vector = vector, .level = level };

	lapic_accept(&lapic, &msg);
}

static void
delivers_by_priority(void)
{
	start(0);
	CU_ASSERT_EQUAL(lapic_take(&cpu), -1);
	fixed(0x41, false);
	fixed(0x61, false);
	CU_ASSERT_EQUAL(attended, ATT_IRQ);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x61);
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0xa0), 0x60);
	CU_ASSERT_EQUAL(lapic_take(&cpu), -1);
	fixed(0x6f, false); /* the same class waits */
	CU_ASSERT_FALSE(lapic_pending(&cpu));
	fixed(0x70, false);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x70);
	lapic_write(&lapic, 0xb0, 0);
	CU_ASSERT_EQUAL(lapic_take(&cpu), -1);
	attended = 0;
	lapic_write(&lapic, 0xb0, 0);
	CU_ASSERT_EQUAL(attended, ATT_IRQ);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x6f);
	lapic_write(&lapic, 0xb0, 0);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x41);
}

static void
task_priority_holds_back(void)
{
	start(0);
	lapic_tpr_set(&cpu, 5);
	CU_ASSERT_EQUAL(lapic_tpr_get(&cpu), 5);
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0x80), 0x50);
	fixed(0x5f, false);
	CU_ASSERT_EQUAL(lapic_take(&cpu), -1);
	attended = 0;
	lapic_tpr_set(&cpu, 4);
	CU_ASSERT_EQUAL(attended, ATT_IRQ);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x5f);
}

static void
tells_the_end_of_level_interrupts_only(void)
{
	start(0);
	fixed(0x33, false);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x33);
	lapic_write(&lapic, 0xb0, 0);
	CU_ASSERT_EQUAL(eois, 0);
	fixed(0x33, true);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x33);
	lapic_write(&lapic, 0xb0, 0);
	CU_ASSERT_EQUAL(eois, 0x33);
}

static void
software_disable_drops_and_masks(void)
{
	start(1);
	lapic_write(&lapic, 0x350, 0x700);
	lapic_write(&lapic, 0xf0, 0xff);
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0x350), 0x10700);
	fixed(0x44, false);
	lapic_write(&lapic, 0xf0, 0x1ff);
	CU_ASSERT_EQUAL(lapic_take(&cpu), -1);
}

static void
leads_the_pic_through_lint0(void)
{
	start(0);
	extint = 0x28;
	lapic_lint0(&lapic, true);
	CU_ASSERT_EQUAL(attended, ATT_IRQ);
	CU_ASSERT_TRUE(lapic_pending(&cpu));
	lapic_write(&lapic, 0x350, 0x10700);
	CU_ASSERT_FALSE(lapic_pending(&cpu));
	CU_ASSERT_EQUAL(lapic_take(&cpu), -1);
	lapic_write(&lapic, 0x350, 0x700);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x28);
}

static void
one_shot_fires_once(void)
{
	start(0);
	lapic_write(&lapic, 0x3e0, 0x3); /* by 16 */
	lapic_write(&lapic, 0x320, 0x50);
	lapic_write(&lapic, 0x380, 1000);
	CU_ASSERT_EQUAL(lapic_due_ns(&lapic), NOW + 16000);
	now = NOW + 8000;
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0x390), 500);
	lapic_run(&lapic);
	CU_ASSERT_EQUAL(attended, 0);
	now = NOW + 16000;
	lapic_run(&lapic);
	CU_ASSERT_EQUAL(attended, ATT_IRQ);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x50);
	CU_ASSERT_EQUAL(lapic_due_ns(&lapic), LAPIC_NEVER);
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0x390), 0);
}

static void
periodic_merges_what_nobody_saw(void)
{
	start(0);
	lapic_write(&lapic, 0x3e0, 0xb); /* by 1 */
	lapic_write(&lapic, 0x320, 0x20050);
	lapic_write(&lapic, 0x380, 1000);
	now = NOW + 3500;
	lapic_run(&lapic);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x50);
	CU_ASSERT_EQUAL(lapic_due_ns(&lapic), NOW + 4000);
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0x390), 500);
	lapic_write(&lapic, 0x380, 0);
	CU_ASSERT_EQUAL(lapic_due_ns(&lapic), LAPIC_NEVER);
}

static void
deadline_is_in_tsc_ticks(void)
{
	start(0);
	lapic_deadline_set(&cpu, 1); /* dropped: not the mode */
	CU_ASSERT_EQUAL(lapic_deadline_get(&cpu), 0);
	lapic_write(&lapic, 0x320, 0x40051);
	lapic_deadline_set(&cpu, NOW * 2 + 2000);
	CU_ASSERT(lapic_due_ns(&lapic) >= NOW + 1000);
	CU_ASSERT(lapic_due_ns(&lapic) <= NOW + 1001);
	now = NOW + 999;
	lapic_run(&lapic);
	CU_ASSERT_EQUAL(attended, 0);
	now = NOW + 1000;
	lapic_run(&lapic);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x51);
	CU_ASSERT_EQUAL(lapic_deadline_get(&cpu), 0);
}

static void
deadline_gone_by_fires_however_time_runs(void)
{
	start(0);
	lapic_write(&lapic, 0x320, 0x40051);
	lapic_deadline_set(&cpu, NOW * 2 - 2);
	step = 10;
	lapic_run(&lapic);
	step = 0;
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x51);
	CU_ASSERT_EQUAL(lapic_due_ns(&lapic), LAPIC_NEVER);
}

static void
matches_its_addresses(void)
{
	static const struct {
		uint32_t ldr, dfr, dest;
		bool logical, match;
	} cases[] = {
		{ 0, UINT32_MAX, 3, false, true },
		{ 0, UINT32_MAX, 4, false, false },
		{ 0, UINT32_MAX, 0xff, false, true },
		{ 0x08, UINT32_MAX, 0x0c, true, true },
		{ 0x08, UINT32_MAX, 0x04, true, false },
		{ 0x24, 0x0fffffff, 0x26, true, true },
		{ 0x24, 0x0fffffff, 0x23, true, false },
		{ 0x24, 0x0fffffff, 0x36, true, false },
		{ 0x24, 0x0fffffff, 0xf4, true, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct apic_msg msg = { .dest = cases[i].dest,
			.logical = cases[i].logical };

		start(3);
		lapic_write(&lapic, 0xd0, cases[i].ldr << 24);
		lapic_write(&lapic, 0xe0, cases[i].dfr);
		CU_ASSERT_EQUAL(lapic_matches(&lapic, &msg), cases[i].match);
	}
}

static void
sends_what_the_icr_says(void)
{
	start(0);
	lapic_write(&lapic, 0x310, 2u << 24);
	lapic_write(&lapic, 0x300, 0x4500);
	CU_ASSERT_EQUAL(messages, 1);
	CU_ASSERT_EQUAL(last.mode, APIC_INIT);
	CU_ASSERT_EQUAL(last.dest, 2);
	lapic_write(&lapic, 0x300, 0xc0099);
	CU_ASSERT_EQUAL(last.shorthand, APIC_OTHERS);
	CU_ASSERT_EQUAL(last.vector, 0x99);
	CU_ASSERT_EQUAL(messages, 2);
	lapic_write(&lapic, 0x300, 0x5); /* no such vector */
	CU_ASSERT_EQUAL(messages, 2);
	lapic_write(&lapic, 0x280, 0);
	CU_ASSERT_EQUAL(lapic_read(&lapic, 0x280), 1u << 5);
}

static void
passes_on_nmi_init_and_startup(void)
{
	const struct apic_msg nmi = { .mode = APIC_NMI };
	const struct apic_msg init = { .mode = APIC_INIT, .assert = true };
	const struct apic_msg deassert = { .mode = APIC_INIT, .level = true };
	const struct apic_msg startup = { .mode = APIC_STARTUP,
		.vector = 0x9f };

	start(1);
	lapic_accept(&lapic, &deassert);
	CU_ASSERT_EQUAL(attended, 0);
	lapic_accept(&lapic, &nmi);
	lapic_accept(&lapic, &init);
	CU_ASSERT_EQUAL(attended, ATT_NMI | ATT_INIT);
	lapic_accept(&lapic, &startup);
	CU_ASSERT_EQUAL(sipi, 0x9f);
}

static void
speaks_x2apic(void)
{
	uint64_t v = 0, base;

	start(0x21);
	CU_ASSERT_TRUE(lapic_mapped(&lapic, &base));
	CU_ASSERT_EQUAL(base, LAPIC_BASE);
	CU_ASSERT_NOT_EQUAL(lapic_msr_read(&cpu, 0x802, &v), 0);
	CU_ASSERT_EQUAL(lapic_base_set(&cpu, lapic_base_get(&cpu) | 0x400), 0);
	CU_ASSERT_FALSE(lapic_mapped(&lapic, &base));
	CU_ASSERT_EQUAL(lapic_msr_read(&cpu, 0x802, &v), 0);
	CU_ASSERT_EQUAL(v, 0x21);
	CU_ASSERT_EQUAL(lapic_msr_read(&cpu, 0x80d, &v), 0);
	CU_ASSERT_EQUAL(v, 0x20002);
	CU_ASSERT_EQUAL(lapic_msr_write(&cpu, 0x830, 0x500000045), 0);
	CU_ASSERT_EQUAL(last.dest, 5);
	CU_ASSERT_TRUE(last.wide);
	CU_ASSERT_EQUAL(lapic_msr_write(&cpu, 0x83f, 0x46), 0);
	CU_ASSERT_EQUAL(last.shorthand, APIC_SELF);
	CU_ASSERT_NOT_EQUAL(lapic_msr_write(&cpu, 0x80b, 1), 0);
	CU_ASSERT_NOT_EQUAL(lapic_msr_write(&cpu, 0x802, 1), 0);
	CU_ASSERT_NOT_EQUAL(lapic_msr_write(&cpu, 0x831, 1), 0);
	CU_ASSERT_NOT_EQUAL(lapic_msr_write(&cpu, 0x808, 0x100), 0);
	/* Back to xAPIC only through disabled. */
	CU_ASSERT_NOT_EQUAL(
	    lapic_base_set(&cpu, lapic_base_get(&cpu) & ~0x400ull), 0);
	CU_ASSERT_EQUAL(
	    lapic_base_set(&cpu, lapic_base_get(&cpu) & ~0xc00ull), 0);
	CU_ASSERT_NOT_EQUAL(
	    lapic_base_set(&cpu, lapic_base_get(&cpu) | 0xc00), 0);
}

static void
is_saved_in_mid_count(void)
{
	uint8_t page[4096], again[4096];

	start(0);
	lapic_write(&lapic, 0x3e0, 0xb);
	lapic_write(&lapic, 0x320, 0x50);
	lapic_write(&lapic, 0x380, 1000);
	fixed(0x41, true);
	fixed(0x81, false);
	lapic_take(&cpu);
	now += 400;
	lapic_save(&lapic, page);
	start(0);
	now = 9 * NOW;
	lapic_load(&lapic, page);
	lapic_save(&lapic, again);
	CU_ASSERT_EQUAL(memcmp(page, again, sizeof(page)), 0);
	CU_ASSERT_EQUAL(lapic_due_ns(&lapic), now + 600);
	lapic_write(&lapic, 0xb0, 0);
	CU_ASSERT_EQUAL(lapic_take(&cpu), 0x41);
}

int
main(void)
{
#define T(name)             \
	{                   \
#name, name \
	}
	static CU_TestInfo tests[] = {
		T(delivers_by_priority),
		T(task_priority_holds_back),
		T(tells_the_end_of_level_interrupts_only),
		T(software_disable_drops_and_masks),
		T(leads_the_pic_through_lint0),
		T(one_shot_fires_once),
		T(periodic_merges_what_nobody_saw),
		T(deadline_is_in_tsc_ticks),
		T(deadline_gone_by_fires_however_time_runs),
		T(matches_its_addresses),
		T(sends_what_the_icr_says),
		T(passes_on_nmi_init_and_startup),
		T(speaks_x2apic),
		T(is_saved_in_mid_count),
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "lapic", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	if (CU_initialize_registry() || CU_register_suites(suites))
		return 1;
	CU_basic_run_tests();
	return CU_get_number_of_failures() ? 1 : 0;
}
