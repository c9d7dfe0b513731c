/* When a device that died is started again. */
#include "vmmd/supervisor.h"

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
    const struct death *death, uint64_t now_ns)
{
	struct verdict v = { .restart = true };

	if (death->hopeless)
		return (struct verdict){ .restart = false };
	if (death->ordered)
		return v;
	backoff->fruitless = death->fruitless ? backoff->fruitless + 1 : 0;
	v.restart =
	    budget_take(budget, now_ns) && backoff->fruitless < FRUITLESS_MAX;
	v.delay_ns = backoff_next(backoff, death->lived_ns);
	return v;
}
