/*
 * wishes: what senders ask for with a message: a priority (RFC 6710), a time before which it must
 * not go (4865), one by which it is to be there (2852). See sim.h.
 *
 *	nothing leaves before its time, whatever happens to the process, the configuration or the
 *	clock what is late is returned, or its sender is told, soon after the time
 *	of one tenant, at one site, what is more urgent is not overtaken by what has become ready
 *	later, but for one turn in RING_LOWER_EVERY; reports come last of all, but for one in
 *	RING_LAST_EVERY
 */
#include "policy/source.h"
#include "tests/sim/sim.h"

enum {
	STEP = 4,			/* between priorities: -4, 0, 4 */
	READY_MS = 2 * MINUTE,		/* so long ready it is in memory, too */
	/* a walk each 30 s; twice what may be in flight is waited for */
	TOLD_MS = 20 * MINUTE,
};

size_t
wishes_priority(const struct message *m)
{
	return (size_t)(m->priority / STEP + 1);
}

void
wishes_draw(struct message *m)
{
	const struct settings *s = &world->set;

	if (often(CHANCE_TRAFFIC, s->urgent))
		m->priority = (int8_t)((int)draw(CHANCE_TRAFFIC, WISHED_PRIORITIES) * STEP - STEP);
	if (often(CHANCE_TRAFFIC, s->later))
		m->release =
			wall() + MINUTE + (int64_t)draw(CHANCE_TRAFFIC, (uint64_t)s->days_ms / 2);
	if (!often(CHANCE_TRAFFIC, s->by))
		return;
	m->by_mode = draw(CHANCE_TRAFFIC, 2) == 0 ? BY_RETURN : BY_NOTIFY;
	m->deadline = (m->release > 0 ? m->release : wall()) + MINUTE +
		      (int64_t)draw(CHANCE_TRAFFIC, 4 * HOUR);
}

void
wishes_write(const struct message *m, struct queue_accept *accept, struct envelope *envelope,
	     struct lane_name *lanes)
{
	envelope->priority = m->priority;
	for (size_t i = 0; i < envelope->recipient_count; i++)
		lanes[i].priority = priority_of_mt(m->priority);
	if (m->release > 0) {
		accept->due_ms = m->release;
		accept->flags |= MESSAGE_RELEASED;
	}
	envelope->by_mode = m->by_mode;
	envelope->by_ms = m->deadline;
}

/* ---- order -------------------------------------------------------------------------------- */

static bool
is_ready(const struct rcpt *w)
{
	int64_t since = could_go_since(w);

	return since != INT64_MAX && since + READY_MS < world->mono;
}

/* One that waits at this host and should go before r (NULL: before a report). */
static const struct rcpt *
who_is_first(const struct host *host, const struct rcpt *r)
{
	for (uint32_t i = 0; i < world->open_count; i++) {
		const struct rcpt *w = &world->rcpts[world->open[i]];
		const struct message *m = &world->messages[w->message],
				     *its = r != NULL ? &world->messages[r->message] : NULL;

		if (&world->hosts[world->domains[w->domain].host] != host ||
		    w->state != R_WAITING || w->doubt)
			continue;
		if (r != NULL &&
		    (m->tenant != its->tenant || m->priority <= its->priority || r->by <= w->by))
			continue;
		if (is_ready(w) && !ledger_is_given(w))
			return w;
	}
	return NULL;
}

void
wishes_given(struct host *host, const struct job *job)
{
	const struct rcpt *r = ledger_find(job->id, job->recipients[0].recipient), *first;
	uint32_t *turns =
		&host->turns[r != NULL ? world->messages[r->message].tenant : TENANTS_MAX];
	uint32_t least = r != NULL ? RING_LOWER_EVERY : RING_LAST_EVERY;

	if (world->set.urgent == 0)
		return;
	if (r != NULL)
		host->turns[TENANTS_MAX]++;
	first = who_is_first(host, r);
	if (first == NULL) {
		(*turns)++;
		return;
	}
	if (*turns + 1 < least) {
		ledger_explain(first);
		fail("r%u of priority %d waits for host %u since %lld s, and %s goes before it, "
		     "after %u turns",
		     (unsigned)(first - world->rcpts), world->messages[first->message].priority,
		     (unsigned)(host - world->hosts),
		     (long long)(world->mono - could_go_since(first)) / 1000,
		     r != NULL ? "what is less urgent" : "a report", *turns);
	}
	*turns = 0;
	world->overtaken++;
}

/* ---- times -------------------------------------------------------------------------------- */

void
wishes_begun(struct rcpt *r, const struct host *host, struct job *job)
{
	const struct message *m = &world->messages[r->message];

	job->by_passed = (host - world->hosts) % 2 == 0;
	r->by_unknown = m->by_mode != BY_NONE && !job->by_passed;
	if (m->release > 0 && wall() < m->release && !r->hurried)
		fail("r%u leaves %lld s before its time", (unsigned)(r - world->rcpts),
		     (long long)(m->release - wall()) / 1000);
}

bool
wishes_too_late(const struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];

	return m->by_mode == BY_RETURN && wall() >= m->deadline;
}

/* What the queue says: a report that is due may be on its way to its reader for long. */
static bool
is_seen_to(const struct rcpt *r, bool *given_up)
{
	const struct message *m = &world->messages[r->message];
	uint32_t n = (uint32_t)(r - world->rcpts) - m->first;
	struct arena arena = { 0 };
	struct queue_message message;
	struct history_record h = { 0 };
	bool there = queue_read_message(life_home->port, m->id, &arena, &message) == 0 &&
		     message.open[n];

	if (there)
		queue_read_history(life_home->port, m->id, n, &arena, &h);
	*given_up = !there || h.state == HISTORY_OWED;
	arena_free(&arena);
	return *given_up || (m->by_mode == BY_NOTIFY && h.warned);
}

void
wishes_scan(struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];
	bool given_up = false;

	if (m->by_mode == BY_NONE || r->state != R_WAITING || wall() < m->deadline + TOLD_MS ||
	    world->mono < world->life_began + TOLD_MS || world->mono < world->unsettled)
		return;
	if (!is_seen_to(r, &given_up)) {
		ledger_explain(r);
		fail("r%u was to be there %lld s ago, and its sender %s",
		     (unsigned)(r - world->rcpts), (long long)(wall() - m->deadline) / 1000,
		     m->by_mode == BY_RETURN ? "does not get it back" : "is not told");
	}
	if (given_up)
		ledger_failed(r);
}

void
wishes_passed_on(struct rcpt *r)
{
	if (!r->by_unknown && !r->doubt)
		fail("r%u is told to have gone on, and nobody wanted to know",
		     (unsigned)(r - world->rcpts));
	if (++r->passed_on > 1 && !r->doubt)
		fail("r%u is told twice to have gone on", (unsigned)(r - world->rcpts));
}

void
wishes_end(const struct rcpt *r)
{
	if (r->state == R_DELIVERED && r->by_unknown && r->passed_on == 0 && !r->doubt &&
	    !r->edited)
		fail("r%u has gone on to a host that knows nothing of times, and its sender was "
		     "not told",
		     (unsigned)(r - world->rcpts));
}
