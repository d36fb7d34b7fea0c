/*
 * shares: who gets how much of one host, where all tenants have mail for it (struct settings:
 * fair). See sim.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

/*
 * All tenants have mail for one host: each gets what its weight says, in recipients, within 5 %
 * (and one message: somebody is first), counted from when all have begun.
 */
static void
check_shares(void)
{
	static const uint32_t weights[16] = { [1] = 3, [3] = 10 };
	const struct shares *s = &world->shares;
	uint64_t total = 0, all = 0;

	for (uint32_t i = 0; i < world->set.tenants; i++) {
		total += s->given[i] - s->first[i];
		all += weights[i] > 0 ? weights[i] : 1;
		if (s->given[i] + 100 > s->offered[i])
			return;				/* it has not enough any more */
	}
	for (uint32_t i = 0; i < world->set.tenants; i++) {
		uint64_t due = total * (weights[i] > 0 ? weights[i] : 1) / all,
			 got = s->given[i] - s->first[i];

		if (total > 500 && (got + due / 20 + RCPTS_MANY + 3 < due ||
				    got > due + due / 20 + RCPTS_MANY + 3))
			fail("tenant %u has got %" PRIu64 " of %" PRIu64 ", %" PRIu64
			     " are its share",
			     i, got, total, due);
	}
}

void
shares_given(const struct job *job)
{
	const struct lane *lane =
		window_lane(&life_home->dispatcher->window, job->recipients[0].lane);
	struct shares *s = &world->shares;
	unsigned tenant = 0;
	bool all = true;

	if (lane == NULL || sscanf(lane->tenant_name.at, "t%u", &tenant) != 1)
		return;				/* a report */
	s->given[tenant % 16] += (uint32_t)job->count;
	for (uint32_t i = 0; i < world->set.tenants; i++)
		all = all && s->given[i] > 0;
	if (!all || !s->counts)
		memcpy(s->first, s->given, sizeof(s->first));
	s->counts = s->counts || all;
	if (s->counts)
		check_shares();
}
