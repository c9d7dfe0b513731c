/* When a device that died is started again. */
#include "vmmd/supervisor.h"

#include <errno.h>
#include <string.h>

#include "proto/base.h"

#define MINUTE_NS 60000000000u

void
budget_init(struct budget *b, uint32_t per_minute, uint64_t now_ns)
{
	b->per_minute = per_minute;
	b->credit_ns = MINUTE_NS;
	b->last_ns = now_ns;
}

bool
budget_take(struct budget *b, uint64_t now_ns)
{
	uint64_t price;

	if (b->per_minute == 0)
		return false;
	price = MINUTE_NS / b->per_minute;
	if (now_ns > b->last_ns)
		b->credit_ns = MIN(MINUTE_NS,
		    b->credit_ns +
			MIN(now_ns - b->last_ns, (uint64_t)MINUTE_NS));
	b->last_ns = now_ns;
	if (b->credit_ns < price)
		return false;
	b->credit_ns -= price;
	return true;
}

int
policy_parse(const char *name, enum policy *policy)
{
	static const char *const names[] = { "remove", "restart", "stop-vm" };

	*policy = POLICY_REMOVE;
	if (name[0] == '\0')
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0) {
			*policy = (enum policy)i;
			return 0;
		}
	return -EINVAL;
}

struct health
health_of(uint64_t deadline_ns)
{
	struct health h = { PING_NS, PONG_NS };

	if (deadline_ns == 0)
		return h;
	/* It may hang just after an answer: both together are the deadline. */
	h.every_ns = MIN(deadline_ns / 4, (uint64_t)PING_NS);
	h.answer_ns = deadline_ns - h.every_ns;
	return h;
}

uint64_t
backoff_next(struct backoff *b, uint64_t lived_ns)
{
	uint64_t delay = BACKOFF_MIN_NS;

	if (lived_ns >= EARLY_DEATH_NS) {
		b->early = 0;
		return 0;
	}
	for (unsigned i = 0; i < b->early && delay < BACKOFF_MAX_NS; i++)
		delay *= 2;
	b->early++;
	return MIN(delay, (uint64_t)BACKOFF_MAX_NS);
}

uint64_t
spare_delay_ns(unsigned lost)
{
	uint64_t delay = SPARE_MIN_NS;

	for (unsigned i = 0; i < lost && delay < SPARE_MAX_NS; i++)
		delay *= 4;
	return MIN(delay, (uint64_t)SPARE_MAX_NS);
}

struct verdict
supervisor_judge(struct budget *budget, struct backoff *backoff,
    enum policy policy, const struct death *death, uint64_t now_ns)
{
	struct verdict v = { .restart = true };

	if (death->hopeless)
		return (struct verdict){ .restart = false };
	if (death->ordered)
		return v;
	backoff->fruitless = death->fruitless ? backoff->fruitless + 1 : 0;
	v.restart = policy == POLICY_RESTART ||
	    (budget_take(budget, now_ns) && backoff->fruitless < FRUITLESS_MAX);
	v.delay_ns = backoff_next(backoff, death->lived_ns);
	return v;
}
