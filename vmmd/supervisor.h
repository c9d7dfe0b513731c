/*
 * When a device that died is started again.  Pure functions on plain structs:
 * the clock is an argument.
 */
#ifndef VMMD_SUPERVISOR_H
#define VMMD_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#define RESTARTS_PER_MINUTE 100u /* the default budget */
#define EARLY_DEATH_NS	    20000000u /* after Ready: a reason to back off */
#define BACKOFF_MIN_NS	    10000000u
#define BACKOFF_MAX_NS	    1000000000u
#define HUNG_NS		    1000000000u /* a vCPU waits longer: hung */
#define PING_NS		    100000000u /* between two health checks */
#define PONG_NS		    2000000000u /* no answer for that long: hung */
#define READY_NS	    2000000000u /* a restarted device says ready */
#define FIRST_READY_NS	    10000000000u /* ... and at the VM's start */
#define STARTS_MAX	    3u /* tries of a device that was never ready */
#define FRUITLESS_MAX	    8u /* tries at the same request */
#define SPARE_MIN_NS	    50000000u /* before a spare is started */
#define SPARE_MAX_NS	    60000000000u
#define SPARE_FIRST_NS	    300000000u /* at the VM's start */
#define SPARE_APART_NS	    20000000u

/* What becomes of a device when its budget is spent. */
enum policy {
	POLICY_REMOVE, /* it is removed, the VM goes on */
	POLICY_RESTART, /* the budget is never spent */
	POLICY_STOP_VM,
};

/* "remove" and "", "restart", "stop-vm".  0; -EINVAL. */
int policy_parse(const char *name, enum policy *policy);

/*
 * How often a device is asked for a sign of life, and how long it may take, so
 * that one which hangs is found out within its deadline.  deadline_ns 0: the
 * defaults.
 */
struct health {
	uint64_t every_ns, answer_ns;
};
struct health health_of(uint64_t deadline_ns);

/* A bucket that holds a minute's worth of restarts and fills up steadily. */
struct budget {
	uint32_t per_minute;
	uint64_t credit_ns; /* a restart costs 60 s / per_minute */
	uint64_t last_ns;
};

void budget_init(struct budget *b, uint32_t per_minute, uint64_t now_ns);
/* Pay for one restart.  False: the budget is spent. */
bool budget_take(struct budget *b, uint64_t now_ns);

/* How long to wait before the next start. */
struct backoff {
	unsigned early; /* early deaths in a row */
	unsigned fruitless; /* fruitless deaths in a row */
};

/* lived_ns: from Ready to death; 0: it was never ready. */
uint64_t backoff_next(struct backoff *b, uint64_t lived_ns);

/*
 * How long to wait before the next spare is started, after a restart, or the
 * loss of one.  lost: how many spares in a row have died waiting.
 */
uint64_t spare_delay_ns(unsigned lost);

struct death {
	bool ordered; /* through the broker, on purpose */
	bool hopeless; /* what it left behind cannot be gone on from */
	bool fruitless; /* a request waits, and none was handled */
	uint64_t lived_ns;
};

struct verdict {
	bool restart; /* else: remove it */
	uint64_t delay_ns;
};

struct verdict supervisor_judge(struct budget *budget, struct backoff *backoff,
    enum policy policy, const struct death *death, uint64_t now_ns);

#endif
