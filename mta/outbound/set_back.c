/*
 * set_back: what is left behind by a wall clock that was ahead, once it has been set back: tries,
 * back-offs and suspensions that would have to wait until it is there again. Home loop only.
 *
 * What came, or was tried last, at a time that is still to come was stored by the clock of then,
 * and so was what would have to wait for longer than any next try does: it is due now, and what its
 * sender wants to go later as long from now as it was from its arrival. A walk through all
 * messages, and then through the sites, finds them, a page at a time, when the step is seen, and at
 * each start before a time that the queue knows: so a restart meanwhile misses nothing. Each site
 * and lane that waits is asked once more; what holds it for another reason holds it again.
 *
 * Not put right: the age of messages is that of their ids, which never go back (queue.h).
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"

enum { MESSAGES = 50 };			/* read in a turn */

struct set_back {
	struct dispatcher *owner;
	struct dispatcher_edit edit;
	bool under_way, editing;
	int64_t now_ms;			/* when it began */
	uint64_t cursor;		/* the messages up to here are done */
	int64_t longest_ms;		/* no next try is further away */
	struct queue_wake site;		/* then the sites up to here */
	uint64_t lane;			/* seen last */
	size_t changed;
	uint64_t ids[MESSAGES];
};

/* ---- lanes that wait ---------------------------------------------------------------------- */

struct lane_wake {
	struct queue_lane_change change;
	struct dispatcher *owner;
	struct arena arena;
};

static void
on_lane_woken(struct queue_op *op)
{
	struct lane_wake *wake = CONTAINER_OF(op, struct lane_wake, change.op);
	struct dispatcher *d = wake->owner;

	d->settling--;
	arena_free(&wake->arena);
	free(wake);
	dispatcher_check_stopped(d);
}

/* One that is in memory is leaving it, or has no back-off. An empty one is deleted. */
static void
wake_lane(struct set_back *s, uint64_t id, bool only_backoff)
{
	struct dispatcher *d = s->owner;
	struct lane_wake *wake;
	struct lane_record record;
	bool waits;

	if (id == s->lane || window_lane(&d->window, id) != NULL)
		return;
	s->lane = id;
	wake = xcalloc(1, sizeof(*wake));
	wake->owner = d;
	waits = queue_read_lane(d->home->port, id, &wake->arena, &record) == 0 && !record.hold;
	if (!waits || (only_backoff && record.backoff.next_ms <= s->now_ms)) {
		arena_free(&wake->arena);
		free(wake);
		return;
	}
	wake->change = (struct queue_lane_change){ .op.done = on_lane_woken, .lane = id,
						   .set_due = true,
						   .due_ms = s->now_ms, .set_backoff = true,
						   .backoff = record.backoff };
	if (record.backoff.next_ms > s->now_ms)
		wake->change.backoff.next_ms = s->now_ms;
	d->settling++;
	queue_submit_lane(d->home->port, &wake->change);
}

/* No try is as far away as these rows say: what they were for is due now, or gone. */
static void
wake_far_lanes(struct set_back *s, uint64_t site)
{
	struct queue_asleep page[PAGE], after = { 0 };
	int64_t next = INT64_MAX;
	size_t n = 0, tenants = 0;

	do {
		if (queue_read_asleep(s->owner->home->port, site, &after, INT64_MAX - 1, page, PAGE,
				      &n, &next, &tenants) < 0)
			return;
		for (size_t i = 0; i < n; i++) {
			after = page[i];
			if (page[i].due_ms > s->now_ms + s->longest_ms)
				wake_lane(s, page[i].lane, false);
		}
	} while (n == PAGE);
}

/* The sites that have lanes asleep, behind those that are done. False: that was all. */
static bool
walk_sites(struct set_back *s)
{
	struct queue_wake page[PAGE];
	size_t n = 0;

	if (s->site.at_ms == 0)
		wake_far_lanes(s, 0);
	if (queue_read_wakes(s->owner->home->port, &s->site, INT64_MAX, page, PAGE, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		s->site = page[i];
		wake_far_lanes(s, page[i].site);
	}
	return n == PAGE;
}

/* ---- messages ----------------------------------------------------------------------------- */

/* When one of its recipients was to go, stored by a clock that was ahead; 0: none was. */
static int64_t
recipient_due(struct set_back *s, const struct queue_message *m, uint32_t recipient,
	      struct arena *arena)
{
	int64_t due = m->record.due_ms, stored = m->record.arrival_ms;
	bool wished = (m->record.flags & MESSAGE_RELEASED) != 0;
	uint64_t lane = m->lanes[recipient];
	struct history_record h;

	if (queue_read_history(s->owner->home->port, m->record.id, recipient, arena, &h) == 0) {
		if (h.state != HISTORY_WAITING)
			return 0;
		due = h.due_ms;
		lane = h.lane;
		if (h.kept > 0)
			stored = h.attempts[h.kept - 1].at_ms;
	}
	wake_lane(s, lane, true);
	if (due <= s->now_ms ||
	    (stored <= s->now_ms && (wished || due < s->now_ms + s->longest_ms)))
		return 0;
	return wished && due > stored ? s->now_ms + (due - stored) : s->now_ms;
}

/* … the first that there is. */
static int64_t
message_due(struct set_back *s, uint64_t id)
{
	struct arena arena = { 0 };
	struct queue_message m;
	int64_t due = 0;

	if (queue_read_message(s->owner->home->port, id, &arena, &m) == 0)
		for (uint32_t i = 0; i < m.envelope.recipient_count; i++) {
			int64_t its = m.open[i] ? recipient_due(s, &m, i, &arena) : 0;

			if (its != 0 && (due == 0 || its < due))
				due = its;
		}
	arena_free(&arena);
	return due;
}

static void
on_edited(struct dispatcher_edit *edit, int result)
{
	struct set_back *s = CONTAINER_OF(edit, struct set_back, edit);

	if (result < 0)
		log_message(LOG_ERROR, "clock-jump",
			    "what waits for the clock of before stays so: tramctl queue retry");
	s->changed += edit->changed;
	s->editing = false;
	dispatcher_touch(s->owner);
}

/* Those of the page that are due together; the rest is read again. */
static void
walk_page(struct set_back *s, const uint64_t *page, size_t n)
{
	struct queue_edit *edit = &s->edit.edit;

	*edit = (struct queue_edit){ .kind = EDIT_RETRY, .ids = s->ids,
				     .only_recipient = UINT32_MAX };
	for (size_t i = 0; i < n; i++) {
		int64_t due = message_due(s, page[i]);

		if (due != 0 && edit->count > 0 && due != edit->due_ms)
			break;
		s->cursor = page[i];
		if (due == 0)
			continue;
		edit->due_ms = due;
		s->ids[edit->count++] = page[i];
	}
	s->edit.done = on_edited;
	s->editing = edit->count > 0;
	if (s->editing)
		dispatcher_submit_edit(s->owner, &s->edit);
}

void
set_back_go(struct dispatcher *d)
{
	struct set_back *s = d->set_back;
	uint64_t page[MESSAGES];
	size_t n = 0;

	if (!s->under_way || s->editing)
		return;
	if (queue_walk_messages(d->home->port, s->cursor, UINT64_MAX, page, MESSAGES, &n) == 0 &&
	    n > 0) {
		walk_page(s, page, n);
		return;
	}
	if (walk_sites(s))
		return;
	s->under_way = false;
	log_message(LOG_INFO, "clock-jump",
		    "%zu recipients that waited for the clock of before are due", s->changed);
	dispatcher_read_again(d);
}

bool
set_back_wants(const struct dispatcher *d)
{
	return d->set_back->under_way && !d->set_back->editing;
}

/* ---- the step ----------------------------------------------------------------------------- */

static void
site_set_back(struct site *site)
{
	site->pause_until_ms = site->next_message_ms = site->saved_ms = 0;
	site->rate = (struct site_rate){ 0 };
}

void
set_back_begin(struct dispatcher *d)
{
	struct set_back *s = d->set_back;

	s->under_way = true;
	s->now_ms = wall_ms();
	s->longest_ms = config_of(d)->queue.schedule.retry_max_ms / 10 * 12;
	s->cursor = s->lane = 0;
	s->site = (struct queue_wake){ 0 };
	s->changed = 0;
	for (size_t i = 0; i < d->window.sites_by_key.size; i++)
		for (struct map_node *n = d->window.sites_by_key.buckets[i]; n != NULL; n = n->next)
			site_set_back(CONTAINER_OF(n, struct site, by_key));
	measures_set_back(d->measures);
	sources_reconfigure(d);			/* their pauses end */
	dispatcher_retry_site(d, 0);
	dispatcher_read_again(d);
}

void
set_back_start(struct dispatcher *d)
{
	struct queue_facts facts;

	d->set_back = xcalloc(1, sizeof(*d->set_back));
	d->set_back->owner = d;
	queue_facts(d->home->queue, &facts);
	if (facts.latest_ms > wall_ms() + RECHECK_MS) {
		log_message(LOG_WARNING, "clock-jump",
			    "the wall clock is %lld s behind that of an earlier run",
			    (long long)((facts.latest_ms - wall_ms()) / 1000));
		set_back_begin(d);
	}
}

void
set_back_free(struct dispatcher *d)
{
	free(d->set_back);
}
