/* A scenario of any bytes: it is taken, or refused with a complaint. */
#include "vmmctl/scenario.h"

#include "proto/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scenario s;
	char err[512] = "";

	if (scenario_parse(&s, (const char *)data, size, err, sizeof(err)) < 0)
		BUG_ON(err[0] == '\0');
	for (unsigned i = 0; err[0] == '\0' && i < s.nsteps; i++) {
		BUG_ON(s.step[i].name == NULL);
		BUG_ON(s.step[i].nwords >= SCENARIO_WORDS);
	}
	scenario_free(&s);
	return 0;
}
