/* Two processors: start-up, work in parallel, interrupts to each other. */
#include "tests/guests/testing.h"

#define PING   0x80
#define PONG   0x81
#define ALL    0x82
#define ROUNDS 20000u
#define BALLS  200u

enum job { IDLE, ADD, PLAY, SLEEP };

static volatile uint64_t up, job, job_done, sum, ball, starts;
static volatile uint64_t pings, pongs, alls[2];
static volatile uint32_t ap_id;

static void
on_ping(struct trap_frame *f)
{
	(void)f;
	pings++;
	lapic_eoi(0);
}

static void
on_pong(struct trap_frame *f)
{
	(void)f;
	pongs++;
	lapic_eoi(0);
}

static void
on_all(struct trap_frame *f)
{
	(void)f;
	alls[lapic_read(LAPIC_ID) >> 24 & 1]++;
	lapic_eoi(0);
}

static void
add(void)
{
	for (unsigned i = 0; i < ROUNDS; i++)
		__asm__ volatile("lock incq %0" : "+m"(sum));
}

/* A ball that only ever goes on when the other has hit it. */
static void
play(uint64_t who)
{
	for (;;) {
		uint64_t now = ball;

		if (now >= BALLS)
			return;
		if ((now & 1) == who)
			ball = now + 1;
		__asm__ volatile("pause" ::: "memory");
	}
}

/* The second processor: do jobs as they are set; asleep, answer pings. */
static void
second(void)
{
	uint64_t seen = 0;

	traps_load();
	lapic_init();
	ap_id = lapic_read(LAPIC_ID) >> 24;
	starts++;
	up = 1;
	for (;;) {
		switch (job) {
		case ADD:
			add();
			job = IDLE;
			job_done = 1;
			break;
		case PLAY:
			play(1);
			job = IDLE;
			job_done = 1;
			break;
		case SLEEP:
			up = 2;
			while (pings == seen)
				interrupt_wait();
			seen = pings;
			lapic_ipi(0, PONG);
			break;
		default:
			__asm__ volatile("pause" ::: "memory");
			break;
		}
	}
}

static void
start(void)
{
	up = 0;
	ap_start(second);
	while (up == 0)
		__asm__ volatile("pause" ::: "memory");
}

static void
run_job(enum job what)
{
	job_done = 0;
	job = what;
	if (what == ADD)
		add();
	else
		play(0);
	while (job_done == 0)
		__asm__ volatile("pause" ::: "memory");
}

static void
wait_pongs(uint64_t n)
{
	while (pongs < n)
		interrupt_wait();
}

void
guest_main(const void *start_info)
{
	uint32_t a, b, c, d;

	(void)start_info;
	traps_init();
	pic_init();
	lapic_init();
	trap_set(PING, on_ping);
	trap_set(PONG, on_pong);
	trap_set(ALL, on_all);
	check("first_is_0", lapic_read(LAPIC_ID) >> 24, 0);
	check("first_is_bsp", rdmsr(0x1b) & 0x900, 0x900);
	start();
	check("second_starts", starts, 1);
	check("second_is_1", ap_id, 1);
	run_job(ADD);
	check("locked_adds_are_not_lost", sum, 2 * ROUNDS);
	run_job(PLAY);
	check("they_see_each_others_stores", ball, BALLS);

	job = SLEEP;
	while (up != 2)
		__asm__ volatile("pause" ::: "memory");
	for (uint64_t n = 1; n <= 50; n++) {
		lapic_ipi(1, PING);
		wait_pongs(n);
	}
	check("pings", pings, 50);
	check("pongs", pongs, 50);
	lapic_ipi(0, 0xc0000 | PING); /* all but self */
	wait_pongs(51);
	check("to_all_but_self", pings, 51);
	lapic_ipi(0, 0x40000 | PONG); /* self */
	wait_pongs(52);
	check("to_self", pongs, 52);
	lapic_ipi(0, 0x80000 | ALL);
	while (alls[0] == 0)
		interrupt_wait();
	while (alls[1] == 0)
		__asm__ volatile("pause" ::: "memory");
	check("to_all", alls[0] + alls[1], 2);
	/* Logical, flat: the second has bit 1, which is in no other's set. */
	lapic_write(LAPIC_DFR, 0xffffffff);
	lapic_write(LAPIC_LDR, 1u << 24);
	pongs = 0;
	lapic_ipi(1, 0x800 | PONG);
	wait_pongs(1);
	check("logical_to_self", pongs, 1);

	/* INIT and a second start, out of its sleep. */
	job = IDLE;
	start();
	check("second_starts_again", starts, 2);
	sum = 0;
	run_job(ADD);
	check("second_works_again", sum, 2 * ROUNDS);

	CPUID(1, a, b, c, d);
	if (!(c & 1u << 21)) {
		guest_print("skip x2apic: not in CPUID\n");
		return;
	}
	wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
	check("x2apic_id", rdmsr(0x802), 0);
	trap_set(PONG, NULL);
	trap_count_on(PING, NULL);
	wrmsr(0x83f, PING);
	while (trap_count[PING] < 1)
		interrupt_wait();
	wrmsr(0x80b, 0);
	check("x2apic_self_ipi", trap_count[PING], 1);
	wrmsr(0x830, 0x40000 | PING);
	while (trap_count[PING] < 2)
		interrupt_wait();
	wrmsr(0x80b, 0);
	check("x2apic_command", trap_count[PING], 2);
}
