/*
 * shaping_charges: what is counted: connections while they are there, messages when they are given
 * to one; and what is taken back if they were not sent. Home loop only.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/outbound/shaping/shaping_private.h"

/* ---- counting ----------------------------------------------------------------------------- */

void
shaping_connected(struct connection *c)
{
	const struct shaping_site *f = shaping_facts(c->site);
	int64_t now = f->count > 0 ? wall_ms() : 0;

	c->site->connect_wait.turn = NULL;
	shaping_wait_end(&c->site->connect_wait);
	if (f->count == 0)
		return;
	c->counters = xcalloc(f->count, sizeof(struct shaping_counter *));
	for (size_t i = 0; i < f->count; i++) {
		struct shaping_counter *counter;

		if (f->shapes[i]->of_lanes || !shaping_holds_for(f->shapes[i], NULL, c->source))
			continue;
		counter = shaping_counter_for(c->site, f->shapes[i], c->source, NULL);
		shape_connect(counter->shape, &counter->counts, now);
		counter->counts.open++;
		counter->refs++;
		c->counters[c->counter_count++] = counter;
	}
}

void
shaping_disconnected(struct connection *c)
{
	for (size_t i = 0; i < c->counter_count; i++) {
		struct shaping_counter *counter = c->counters[i];

		counter->counts.open--;
		counter->refs--;
		shaping_ended(counter->owner, &counter->connects);
	}
	free(c->counters);
	c->counters = NULL;
	c->counter_count = 0;
}

/* Its site wants no more of them when nothing is ready. */
bool
shaping_wants(const struct connection *c)
{
	if (c->counter_count == 0 || !ring_empty(&c->site->ring))
		return false;
	shaping_wait_end(&c->site->connect_wait);
	for (size_t i = 0; i < c->counter_count; i++)
		if (c->counters[i]->connects.count > 0 && c->counters[i]->shape != NULL &&
		    c->counters[i]->shape->limits[SHAPE_CONNECTIONS] > 0)
			return true;
	return false;
}

struct charge {				/* in the job's arena */
	struct charge *next;
	struct shaping_counter *counter;
	int64_t at_ms;
	size_t recipients;
};

static struct charge *
charge_for(struct job *job, struct shaping_counter *counter, int64_t now)
{
	struct charge *charge = job->charges;

	for (; charge != NULL; charge = charge->next)
		if (charge->counter == counter)
			return charge;
	charge = arena_alloc(&job->arena, sizeof(*charge));
	*charge = (struct charge){ .next = job->charges, .counter = counter, .at_ms = now };
	job->charges = charge;
	return charge;
}

static void
charge_lanes(struct job *job, struct site *site, const struct shape *shape, struct span source,
	     int64_t now)
{
	const struct lane *last = NULL;
	struct charge *charge = NULL;

	for (size_t i = 0; i < job->count; i++) {
		const struct lane *lane = ((const struct entry *)job->recipients[i].entry)->lane;

		if (lane != last)
			charge =
				shaping_holds_for(shape, lane, source)
					? charge_for(job,
						     shaping_counter_for(site, shape, source, lane),
						     now)
					: NULL;
		last = lane;
		if (charge != NULL)
			charge->recipients++;
	}
}

void
shaping_sent(struct job *job, struct site *site, struct span source)
{
	const struct shaping_site *f = shaping_facts(site);
	int64_t now = f->count > 0 ? wall_ms() : 0;

	site->wait.turn = NULL;
	if (f->count == 0)
		return;
	((const struct entry *)job->recipients[0].entry)->lane->wait.turn = NULL;
	for (size_t i = 0; i < f->count; i++) {
		if (f->shapes[i]->of_lanes)
			charge_lanes(job, site, f->shapes[i], source, now);
		else if (shaping_holds_for(f->shapes[i], NULL, source))
			charge_for(job, shaping_counter_for(site, f->shapes[i], source, NULL), now)
				->recipients = job->count;
	}
	for (struct charge *charge = job->charges; charge != NULL; charge = charge->next) {
		struct shaping_counter *c = charge->counter;

		c->refs++;
		c->counts.open += c->shape->of_lanes;
		shape_send(c->shape, &c->counts, now, charge->recipients);
		shaping_changed(c, now);
	}
}

void
shaping_back(struct job *job)
{
	int64_t now = job->charges != NULL ? wall_ms() : 0;

	for (struct charge *charge = job->charges; charge != NULL; charge = charge->next) {
		struct shaping_counter *c = charge->counter;

		c->refs--;
		if (c->of_lanes)
			c->counts.open--;
		if (!job->tried && c->shape != NULL) {
			shape_unsend(c->shape, &c->counts, charge->at_ms, now, charge->recipients);
			shaping_changed(c, now);
		}
		if (c->of_lanes || !job->tried)
			shaping_ended(c->owner, &c->sends);
	}
	job->charges = NULL;
}
