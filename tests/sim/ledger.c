/*
 * ledger: every recipient that was handed in, and what became of it, as the world outside saw it.
 * What must never be is told by fail(). See sim.h.
 *
 *	nothing twice at once; nothing after its end (but for what a crash or a lost reply left in
 *	doubt) not before its time: the schedule of tries
 *	one end for each: delivered, or reported to its sender, or removed
 *	nobody waits for a host that takes mail longer than what waits before it explains
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

enum {
	PATIENCE = 3 * MINUTE,		/* of what could go at once */
	OVERTAKEN = 2 * MINUTE,		/* within a lane what is due first goes first */
	CROWD_PATIENCE = 40 * MINUTE,	/* … while a limit of all sites is reached */
	REPORT_PATIENCE = 16 * HOUR,	/* a report is tried again, too */
	REPORT_PATIENCE_SHARED = 4 * DAY,	/* … where its reader's host may be down */
	DOUBT_MS = 5 * SECOND,		/* what the queue may not have written yet */
};

/* ---- in the hands of the dispatcher: this life's ------------------------------------------ */

struct flight {
	struct map_node node;		/* by message id */
	uint32_t recipient;
};

static struct map flights;

static struct flight *
flight_of(uint64_t id, uint32_t recipient)
{
	for (struct map_node *node = map_find(&flights, id); node != NULL;
	     node = map_next_same(node)) {
		struct flight *flight = CONTAINER_OF(node, struct flight, node);

		if (flight->recipient == recipient)
			return flight;
	}
	return NULL;
}

void
ledger_given(struct job *job)
{
	if (job->count == 0)
		fail("a job without recipients");
	for (size_t i = 0; i < job->count; i++) {
		struct flight *flight = xcalloc(1, sizeof(*flight));

		if (flight_of(job->id, job->recipients[i].recipient) != NULL)
			fail("recipient %u of %" PRIx64 " is given twice at once",
			     job->recipients[i].recipient, job->id);
		flight->recipient = job->recipients[i].recipient;
		map_add(&flights, &flight->node, job->id);
	}
	if (world->set.fair)
		shares_given(job);
}

bool
ledger_is_given(const struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];

	return flight_of(m->offered, (uint32_t)(r - world->rcpts) - m->first) != NULL;
}

void
ledger_home(struct job *job)
{
	for (size_t i = 0; i < job->count; i++) {
		struct flight *flight = flight_of(job->id, job->recipients[i].recipient);

		if (flight == NULL)
			fail("a job comes home that was not given");
		map_remove(&flights, &flight->node);
		free(flight);
	}
	if (flights.count == 0)
		map_free(&flights);
	if (flights.count == 0)
		flights = (struct map){ 0 };
}

static const char *const state_names[] = { "none", "offered", "waiting", "given", "flying",
					   "delivered",
					   "failed", "reported", "removed", "unknown" };

static const char *
state_name(const struct rcpt *r)
{
	return state_names[r->state];
}

/* ---- handing in --------------------------------------------------------------------------- */

static uint32_t
number(const struct rcpt *r)
{
	return (uint32_t)(r - world->rcpts);
}

static void
open_add(struct rcpt *r)
{
	world->open[world->open_count] = number(r);
	r->place = ++world->open_count;
}

static void
open_remove(struct rcpt *r)
{
	uint32_t last;

	if (r->place == 0)
		return;
	last = world->open[--world->open_count];
	world->open[r->place - 1] = last;
	world->rcpts[last].place = r->place;
	r->place = 0;
}

static int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

uint32_t
ledger_offer(uint32_t tenant, const uint32_t *domains, uint32_t count)
{
	struct message *m = &world->messages[world->message_count];

	*m = (struct message){ .first = world->rcpt_count, .count = count, .tenant = tenant };
	for (uint32_t i = 0; i < count; i++)
		world->rcpts[world->rcpt_count++] = (struct rcpt){ .message = world->message_count,
								   .domain = domains[i],
								   .state = R_OFFERED };
	return world->message_count++;
}

void
ledger_accepted(uint32_t message, uint64_t id)
{
	struct message *m = &world->messages[message];

	m->id = id;
	m->accepted = world->mono;
	m->others = world->begun;
	for (uint32_t i = 0; i < m->count; i++) {
		struct rcpt *r = &world->rcpts[m->first + i];

		if (r->state != R_OFFERED)	/* it has been faster than we were told */
			continue;
		r->by = r->changed = world->mono;
		if (m->release > 0)
			r->by = later(r->by, m->release - world->wall_ahead);
		r->state = R_WAITING;
		open_add(r);
		ledger_trace(r, "accepted");
	}
}

void
ledger_refused(uint32_t message)
{
	const struct message *m = &world->messages[message];

	for (uint32_t i = 0; i < m->count; i++)
		world->rcpts[m->first + i].state = R_REMOVED;
}

struct rcpt *
ledger_rcpt(struct span address)
{
	char text[64];
	unsigned n;

	snprintf(text, sizeof(text), "%.*s", SPAN_FMT(address));
	if (text[0] != 'r')
		return NULL;
	if (sscanf(text, "r%u@", &n) != 1 || n >= world->rcpt_count)
		fail("mail for %s, who was never heard of", text);
	return &world->rcpts[n];
}

struct rcpt *
ledger_find(uint64_t id, uint32_t recipient)
{
	uint32_t low = 0, high = world->message_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (world->messages[middle].offered < id)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == world->message_count || world->messages[low].offered != id)
		return NULL;
	if (recipient >= world->messages[low].count)
		fail("%" PRIx64 " has no recipient %u", id, recipient);
	return &world->rcpts[world->messages[low].first + recipient];
}

/* The life of one recipient, on standard error (-r). */
void
ledger_trace(const struct rcpt *r, const char *what)
{
	if (r == NULL || number(r) != world->set.traced)
		return;
	fprintf(stderr, "%" PRId64 ".%03d %s: %s, %u tries, from %" PRId64 " by %" PRId64 "%s%s\n",
		(world->mono - world->began) / 1000, (int)(world->mono % 1000), what,
		state_names[r->state], r->attempts, (r->from - world->began) / 1000,
		(r->by - world->began) / 1000, r->held ? " held" : "", r->doubt ? " doubt" : "");
}

/* ---- tries -------------------------------------------------------------------------------- */

static bool
is_over(const struct rcpt *r)
{
	return r->state == R_DELIVERED || r->state == R_FAILED || r->state == R_REPORTED ||
	       r->state == R_REMOVED;
}

int64_t
wall(void)
{
	return world->mono + world->wall_ahead;
}

static int64_t
age(const struct rcpt *r)
{
	uint64_t id = world->messages[r->message].id;

	const struct message *m = &world->messages[r->message];

	return id == 0 ? 0 : wall() - (m->release > 0 ? m->release : id_time_ms(id));
}

static int64_t *
last_due(const struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];
	size_t way = (size_t)m->tenant * world->set.domains + r->domain;

	return &world->last_due[way * WISHED_PRIORITIES + wishes_priority(m)];
}

/* What is kept of its tries is what the hosts have seen: a limit of ours is none. */
static void
check_attempts(const struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];
	struct arena arena = { 0 };
	struct history_record h = { 0 };

	if (m->id != 0 && !r->doubt && !r->edited &&
	    queue_read_history(life_home->port, m->id, number(r) - m->first, &arena, &h) == 0 &&
	    h.attempt_count != r->attempts)
		fail("r%u has been tried %u times, and is charged for %u", number(r), r->attempts,
		     h.attempt_count);
	arena_free(&arena);
}

/*
 * Where the host is well, and nothing of ours is in the way, a first try does not wait for what
 * others send: it is counted from when it could go in this life.
 */
static void
check_turn(const struct rcpt *r, const struct host *host)
{
	const struct message *m = &world->messages[r->message];
	int64_t probe = life_home->config->queue.schedule.probe_max_ms * 12 / 10;
	int64_t waited = world->mono - later(m->accepted, world->life_began);
	uint64_t ahead =
		world->begun - (m->others > world->life_others ? m->others : world->life_others);
	bool other = m->tenant != 0;

	if (r->attempts > 0 || r->doubt || r->edited || r->was_held || m->accepted == 0 ||
	    host->class != CLASS_PLAIN || host->max_connections > 0 || host->service_ms > SECOND ||
	    m->accepted < host->ok_since + probe ||
	    m->accepted < world->domains[r->domain].ok_since + probe)
		return;
	if (waited > world->slowest[other].ms)
		world->slowest[other] = (struct slowest){ waited, number(r) };
	if (other && world->set.first_try_ms > 0 && waited > world->set.first_try_ms)
		fail("r%u of tenant %u waits %" PRId64 " s for its first try", number(r), m->tenant,
		     waited / 1000);
	if (other && world->set.first_try_others > 0 && ahead > world->set.first_try_others)
		fail("r%u of tenant %u waits for its first try behind %" PRIu64 " of tenant 0",
		     number(r), m->tenant, ahead);
}

void
ledger_begun(struct rcpt *r, struct host *host, int64_t due_ms)
{
	const struct message *m = &world->messages[r->message];

	if (r->state == R_FLYING)
		fail("r%u is sent twice at once", number(r));
	if (is_over(r) && !r->doubt)
		fail("r%u is sent again, though it is %s", number(r), state_name(r));
	if (r->held && !r->releasing)
		fail("r%u is sent, though it is on hold", number(r));
	if (world->mono < r->from && !r->doubt)
		fail("r%u is sent %" PRId64 " ms too early after %u tries", number(r),
		     r->from - world->mono, r->attempts);
	check_attempts(r);
	check_turn(r, host);
	if (world->domains[r->domain].host != (uint32_t)(host - world->hosts))
		fail("r%u of d%u is sent to host %u, not %u", number(r), r->domain,
		     (uint32_t)(host - world->hosts), world->domains[r->domain].host);
	ledger_trace(r, "begun");
	if (r->place == 0)
		open_add(r);
	r->state = R_FLYING;
	r->changed = world->mono;
	due_ms =
		due_ms - world->wall_ahead < world->mono ? due_ms - world->wall_ahead : world->mono;
	if (due_ms > *last_due(r))
		*last_due(r) = due_ms;
	host->tenant_begun[m->tenant % 16]++;
	world->begun += m->tenant == 0;
}

static void
ends(struct rcpt *r, enum rcpt_state state)
{
	r->state = (uint8_t)state;
	r->changed = world->mono;
	open_remove(r);
}

void
ledger_delivered(struct rcpt *r)
{
	r->deliveries++;
	world->delivered++;
	ledger_trace(r, "delivered");
	if (r->deliveries > 1 && !r->doubt)
		fail("r%u has it twice", number(r));
	ends(r, R_DELIVERED);
}

void
ledger_temporary(struct rcpt *r)
{
	const struct schedule_config *schedule = &life_home->config->queue.schedule;
	uint32_t least = r->doubt ? 1 : ++r->attempts;

	if (r->doubt)
		r->attempts++;
	r->state = R_WAITING;
	r->changed = world->mono;
	r->from = schedule_retry(schedule, least, world->mono, 0);
	if (r->moves > 0) {
		r->moves--;
		r->from = 0;
	}
	r->by = schedule_retry(schedule, r->attempts, world->mono + SECOND, UINT32_MAX);
	world->temporary++;
	ledger_trace(r, "put off");
}

void
ledger_failed(struct rcpt *r)
{
	r->state = R_FAILED;
	r->changed = world->mono;
	world->failed++;
	ledger_trace(r, "failed");
}

void
ledger_removed(struct rcpt *r)
{
	world->removed++;
	ledger_trace(r, "removed");
	ends(r, R_REMOVED);
}

/* ---- reports ------------------------------------------------------------------------------ */

static void
reported(struct rcpt *r)
{
	bool may = r->state == R_FAILED || r->state == R_REMOVED || r->edited || r->doubt ||
		   world->domains[r->domain].unknown || age(r) >= world->set.lifetime_ms ||
		   wishes_too_late(r);

	ledger_trace(r, "reported");
	if (r->state == R_FLYING || r->state == R_DELIVERED || !may)
		if (!r->doubt)
			fail("r%u is reported as failed, though it is %s, %" PRId64 " s old",
			     number(r), state_name(r), age(r) / 1000);
	if (++r->reports > 1 && !r->doubt)
		fail("r%u is reported as failed twice", number(r));
	world->reports++;
	if (r->state != R_FLYING && r->state != R_DELIVERED)
		ends(r, R_REPORTED);
}

static void
warned(struct rcpt *r)
{
	if (r->warned && !r->doubt)
		fail("r%u is warned of twice", number(r));
	r->warned = true;
	world->warnings++;
}

void
ledger_report(struct span content)
{
	static const char final[] = "Final-Recipient: rfc822; ", action[] = "Action: ";
	size_t found = 0;
	const char *at = content.at, *end = content.at + content.len;

	while ((at = memmem(at, (size_t)(end - at), final, sizeof(final) - 1)) != NULL) {
		struct rcpt *r;
		const char *does = memmem(at, (size_t)(end - at), action, sizeof(action) - 1);

		at += sizeof(final) - 1;
		r = ledger_rcpt(span_first(span_of(at, (size_t)(end - at)), 40));
		if (r == NULL || does == NULL)
			fail("a report that cannot be read");
		does += sizeof(action) - 1;
		if (span_starts(span_of(does, (size_t)(end - does)), SPAN("delayed")))
			warned(r);
		else if (span_starts(span_of(does, (size_t)(end - does)), SPAN("relayed")))
			wishes_passed_on(r);
		else
			reported(r);
		found++;
	}
	if (found == 0)
		fail("a report of nobody");
}

/* ---- patience ----------------------------------------------------------------------------- */

int64_t
could_go_since(const struct rcpt *r)
{
	const struct domain *domain = &world->domains[r->domain];
	struct host *host = &world->hosts[domain->host];
	int64_t probe = life_home->config->queue.schedule.probe_max_ms * 11 / 10;

	if (r->state != R_WAITING || r->held || wishes_too_late(r) || domain->unknown ||
	    domain->silent || host->down != DOWN_NO)
		return INT64_MAX;
	return later(later(later(r->by, world->life_began),
			   later(host->ok_since, domain->ok_since) + probe),
		     later(rules_free_at(r, host), addresses_free_at(r, host)) - world->wall_ahead);
}

/* What queue and dispatcher know of a lane, and of its site. */
void
ledger_tell_lane(uint64_t id)
{
	struct queue_port *port = life_home->port;
	struct dispatcher *d = life_home->dispatcher;
	struct arena arena = { 0 };
	struct lane_record lane;
	struct site_record site;
	const struct lane *there = window_lane(&d->window, id);
	const struct site *its;

	if (queue_read_lane(port, id, &arena, &lane) < 0)
		return;
	fprintf(stderr,
		"lane %" PRIu64 " %.*s %.*s: %" PRIu64 " entries, site %" PRIu64 " until %" PRId64
		", asleep %" PRId64 "\n",
		id, SPAN_FMT(lane.name.domain), SPAN_FMT(lane.name.route), lane.count, lane.site,
		(lane.site_until_ms - wall_ms()) / 1000, (lane.asleep_ms - wall_ms()) / 1000);
	if (queue_read_site(port, lane.site, &arena, &site) == 0)
		fprintf(stderr, "site %.*s: wake %" PRId64 ", back-off %u, %" PRId64 "\n",
			SPAN_FMT(site.key), (site.wake_ms - wall_ms()) / 1000,
			site.state.backoff.failures,
			(site.state.backoff.next_ms - wall_ms()) / 1000);
	if (there != NULL)
		fprintf(stderr,
			"lane in memory: ready %zu, in flight %zu, more %" PRId64 ", timer %" PRId64
			", stale %d\n",
			there->ready_count, there->in_flight,
			(there->more_due_ms - wall_ms()) / 1000,
			(there->timer.at_ms - wall_ms()) / 1000, there->stale);
	its = there != NULL ? there->site : window_site(&d->window, lane.site);
	if (its != NULL)
		fprintf(stderr,
			"site in memory: %.*s id %" PRIu64 " mode %d, timer %d %" PRId64
			", connections %zu, %zu up\n",
			SPAN_FMT(its->key), its->id, its->mode, heap_holds(&its->timer),
			(its->timer.at_ms - wall_ms()) / 1000, its->connection_count,
			its->connection_count - its->connecting);
	fprintf(stderr, "dispatcher: wakes at %" PRId64 " s, %zu connections\n",
		(d->wake_at_ms - wall_ms()) / 1000, d->connections);
	arena_free(&arena);
}

void
ledger_explain(const struct rcpt *r)
{
	const struct message *m = &world->messages[r->message];
	struct arena arena = { 0 };
	struct queue_message message;
	struct history_record h;
	uint32_t n = number(r) - m->first;
	uint64_t id;

	fprintf(stderr, "r%u@d%u (%" PRIx64 ": %u) %s, from %" PRId64 " by %" PRId64 " s\n",
		number(r), r->domain, m->id, n, state_name(r), (r->from - world->mono) / 1000,
		(r->by - world->mono) / 1000);
	if (queue_read_message(life_home->port, m->id, &arena, &message) < 0) {
		fprintf(stderr, "it is not in the queue\n");
		return;
	}
	id = message.lanes[n];
	if (queue_read_history(life_home->port, m->id, n, &arena, &h) == 0) {
		fprintf(stderr, "history: state %u, due %" PRId64 " s, %u attempts\n", h.state,
			(h.due_ms - wall_ms()) / 1000, h.attempt_count);
		id = h.lane;
	}
	ledger_tell_lane(id);
	arena_free(&arena);
}

static void
explain_host(uint32_t host)
{
	for (uint32_t i = 0; i < world->open_count; i++) {
		const struct rcpt *r = &world->rcpts[world->open[i]];

		if (world->domains[r->domain].host == host &&
		    could_go_since(r) == world->hosts[host].oldest) {
			ledger_explain(r);
			return;
		}
	}
}

static void
scan_one(struct rcpt *r)
{
	int64_t report = world->set.shared ? REPORT_PATIENCE_SHARED : REPORT_PATIENCE;
	struct host *host = &world->hosts[world->domains[r->domain].host];
	int64_t since = could_go_since(r);

	wishes_scan(r);
	if (r->state == R_FAILED && world->mono - r->changed > report)
		fail("r%u has failed, and its sender was not told", number(r));
	if (!r->held && world->mono > world->unsettled &&
	    age(r) > world->set.lifetime_ms + report && !r->doubt)
		fail("r%u is %s, and past its lifetime", number(r), state_name(r));
	if (since == INT64_MAX || since > world->mono || world->mono < world->unsettled ||
	    age(r) > world->set.lifetime_ms)
		return;
	if (since + OVERTAKEN < *last_due(r) && !ledger_is_given(r)) {
		ledger_explain(r);
		fail("r%u could go since %" PRId64 " s, and what was due %" PRId64
		     " s later has gone before it",
		     number(r), (world->mono - since) / 1000, (*last_due(r) - since) / 1000);
	}
	host->waiting++;
	if (host->oldest == 0 || since < host->oldest)
		host->oldest = since;
}

/*
 * How long the one that waits longest may: behind all others, over one connection, at a quarter of
 * the speed (some come twice).
 */
static int64_t
patience_of(const struct host *h, int64_t plain)
{
	int64_t most = limits_patience(h, plain) + (int64_t)h->peak * h->service_ms * 4;

	if (h->class != CLASS_PLAIN || h->max_connections > 0)
		most += limits_patience(h, plain) +
			(int64_t)h->peak * (MINUTE + limits_pace(h) * 2);
	if (world->set.shared)			/* reports go there, too */
		most += h->service_ms * 30;
	return most;
}

void
ledger_scan(void)
{
	bool crowd = world->crowded > 0 && world->mono - world->crowded < CROWD_PATIENCE;
	int64_t patience = crowd ? CROWD_PATIENCE : PATIENCE;

	for (uint32_t i = 0; i < world->set.hosts; i++) {
		world->hosts[i].waiting = 0;
		world->hosts[i].oldest = 0;
	}
	for (uint32_t i = 0; i < world->open_count; i++)
		scan_one(&world->rcpts[world->open[i]]);
	for (uint32_t i = 0; i < world->set.hosts; i++) {
		struct host *host = &world->hosts[i];
		int64_t most = limits_patience(host, patience) + host->service_ms * 9;

		if (host->waiting == 0 || host->waiting > host->peak)
			host->peak = host->waiting;
		if (host->waiting == 0)
			continue;
		if (world->mono - host->oldest > patience_of(host, patience)) {
			explain_host(i);
			fail("host %u takes mail, %u wait, %u at most, the first since %" PRId64
			     " s: others go before it",
			     i, host->waiting, host->peak, (world->mono - host->oldest) / 1000);
		}
		if (world->mono - host->oldest > most && world->mono - host->last_begun > most) {
			explain_host(i);
			fail("host %u takes mail, %u wait, the first since %" PRId64
			     " s: none has gone for %" PRId64 " s",
			     i, host->waiting, (world->mono - host->oldest) / 1000,
			     (world->mono - host->last_begun) / 1000);
		}
	}
}

/* ---- the end ------------------------------------------------------------------------------ */

void
ledger_died(void)
{
	for (uint32_t i = 0; i < world->rcpt_count; i++) {
		struct rcpt *r = &world->rcpts[i];
		bool flew = r->state == R_FLYING || r->state == R_GIVEN;

		if (r->state == R_OFFERED)
			r->state = R_UNKNOWN;
		if (flew)
			r->state = R_WAITING;
		if (flew || world->mono - r->changed < DOUBT_MS)
			r->doubt = true;
	}
	world->crashed++;
}

void
ledger_end(void)
{
	for (uint32_t i = 0; i < world->rcpt_count; i++) {
		const struct rcpt *r = &world->rcpts[i];

		if (r->state != R_UNKNOWN && r->state != R_DELIVERED && r->state != R_REPORTED &&
		    r->state != R_REMOVED)
			fail("r%u is lost: %s", i, state_name(r));
		wishes_end(r);
	}
}
