/*
 * reporter_age: who has waited too long. Two cursors walk the messages by age and meet only what is
 * still there; those that were to go later than they came, or are to be there by a time (RFC 4865,
 * 2852), are met by the moments they ask for. Nothing expires before its site has had time for a
 * probe since the start or a jump of the clock. Home loop only.
 */
#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/outbound/reporter_private.h"

static const struct reply expired =
	REPLY_INIT(0, 4, 4, 7, "the message could not be delivered in time");
static const struct reply too_late =
	REPLY_INIT(0, 5, 4, 7, "it could not be there by the time its sender asked for");

static void
on_cursors(struct queue_op *op)
{
	struct reporter *r = CONTAINER_OF(op, struct reporter, cursors.op);

	(void)op;
	r->walking = false;
	r->d->settling--;
	dispatcher_check_stopped(r->d);
}

static void
save_cursors(struct reporter *r)
{
	if (r->walking)
		return;
	r->walking = true;
	r->d->settling++;
	r->cursors = (struct queue_cursor_set){ .op.done = on_cursors, .expiry_id = r->expiry_id,
						.delay_id = r->delay_id };
	queue_submit_cursors(r->d->home->port, &r->cursors);
}

static void
on_expired(struct dispatcher_edit *edit, int result)
{
	struct reporter *r = CONTAINER_OF(edit, struct reporter, expire);

	r->expiring = false;
	if (result == 0) {
		if (r->moment_cursor != NULL)
			*r->moment_cursor = r->next_at;
		else
			*r->expire_cursor = r->expire_next;
		save_cursors(r);
		if (edit->changed > 0)
			log_message(LOG_INFO, "expired", "%zu recipients were given up",
				    edit->changed);
	}
	reporter_soon(r);
	dispatcher_check_stopped(r->d);
}

/* Leaves those in the ids that have all these flags, and none of the others. */
static size_t
only_flagged(struct reporter *r, size_t n, uint32_t with, uint32_t without)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		struct arena arena = { 0 };
		struct queue_message message;

		if (queue_read_message(r->d->home->port, r->expire_ids[i], &arena, &message) == 0 &&
		    (message.record.flags & (with | without)) == with)
			r->expire_ids[kept++] = r->expire_ids[i];
		arena_free(&arena);
	}
	return kept;
}

/* Gives up the first n of the ids; a cursor of moments goes to next_at then. */
static void
give_up(struct reporter *r, int64_t now, size_t n, const struct reply *why,
	struct queue_moment *cursor)
{
	r->expiring = true;
	r->moment_cursor = cursor;
	r->expired = (struct attempt){ .at_ms = now, .status = why->status, .text = why->text };
	r->expire = (struct dispatcher_edit){ .done = on_expired };
	r->expire.edit = (struct queue_edit){ .kind = EDIT_FAIL,
					      .ids = r->expire_ids,
					      .count = n,
					      .only_recipient = UINT32_MAX,
					      .attempt = &r->expired };
	dispatcher_submit_edit(r->d, &r->expire);
}

/* Gives up what arrived before `before`, a page at a time, behind the cursor. */
static void
expire_before(struct reporter *r, int64_t now, int64_t before, uint64_t *cursor, bool reports)
{
	size_t n = 0;

	if (r->expiring ||
	    queue_walk_messages(r->d->home->port, *cursor, id_at(before), r->expire_ids, WALK_PAGE,
				&n) < 0 ||
	    n == 0)
		return;
	r->more = r->more || n == WALK_PAGE;
	r->expire_next = r->expire_ids[n - 1];
	n = only_flagged(r, n, reports ? MESSAGE_REPORT : 0, MESSAGE_RELEASED);
	if (n == 0) {
		*cursor = r->expire_next;
		return;
	}
	r->expire_cursor = cursor;
	give_up(r, now, n, &expired, NULL);
}

static size_t
read_moments(struct reporter *r, bool by, const struct queue_moment *after, int64_t until_ms,
	     struct queue_moment *page)
{
	size_t n = 0;

	if (queue_read_moments(r->d->home->port, by, after, until_ms, page, WALK_PAGE, &n) < 0)
		return 0;
	r->more = r->more || n == WALK_PAGE;
	return n;
}

/* What was to go later has its whole life from then on. */
static void
expire_released(struct reporter *r, int64_t now)
{
	struct queue_moment page[WALK_PAGE];
	size_t n = r->expiring
			   ? 0
			   : read_moments(r, false, &r->expired_at,
					  now - config_of(r->d)->queue.schedule.lifetime_ms, page);

	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++)
		r->expire_ids[i] = page[i].id;
	r->next_at = page[n - 1];
	give_up(r, now, n, &expired, &r->expired_at);
}

static void
expire_some(struct reporter *r, int64_t now)
{
	const struct schedule_config *schedule = &config_of(r->d)->queue.schedule;
	int64_t grace = schedule->probe_max_ms;

	if (grace > schedule->lifetime_ms / 4)
		grace = schedule->lifetime_ms / 4;
	if (mono_ms() - r->d->calm_since_ms < grace)
		return;
	expire_released(r, now);
	expire_before(r, now, now - schedule->lifetime_ms, &r->expiry_id, false);
	if (schedule->report_lifetime_ms < schedule->lifetime_ms)
		expire_before(r, now, now - schedule->report_lifetime_ms, &r->report_id, true);
}

/* warn_released() sees to it. */
static bool
goes_later(struct reporter *r, uint64_t id)
{
	struct arena arena = { 0 };
	struct queue_message message;
	bool later = queue_read_message(r->d->home->port, id, &arena, &message) == 0 &&
		     (message.record.flags & MESSAGE_RELEASED) != 0;

	arena_free(&arena);
	return later;
}

static void
warn_some(struct reporter *r, int64_t now)
{
	int64_t delay = config_of(r->d)->queue.schedule.delay_warning_ms;
	uint64_t ids[WALK_PAGE], before = r->delay_id;
	size_t n = 0;

	if (delay == 0 || queue_walk_messages(r->d->home->port, r->delay_id, id_at(now - delay),
					      ids, WALK_PAGE, &n) < 0)
		return;
	r->more = r->more || n == WALK_PAGE;
	for (size_t i = 0; i < n; i++) {
		struct parcel *parcel = window_parcel(&r->d->window, ids[i]);

		r->more = r->more || r->making.count >= AT_ONCE;
		if (r->making.count >= AT_ONCE || (parcel != NULL && parcel->in_flight > 0))
			break;				/* from here the next time */
		if (map_find(&r->making, ids[i]) == NULL && !goes_later(r, ids[i]))
			reporter_make(r, ids[i], true);
		r->delay_id = ids[i];
	}
	if (r->delay_id != before)
		save_cursors(r);
}

static bool
warn_one(struct reporter *r, uint64_t id)
{
	struct parcel *parcel = window_parcel(&r->d->window, id);

	if (r->making.count >= AT_ONCE || (parcel != NULL && parcel->in_flight > 0)) {
		r->more = true;
		return false;				/* from here the next time */
	}
	if (map_find(&r->making, id) == NULL)
		reporter_make(r, id, true);
	return true;
}

static void
warn_released(struct reporter *r, int64_t now)
{
	int64_t delay = config_of(r->d)->queue.schedule.delay_warning_ms;
	struct queue_moment page[WALK_PAGE];
	size_t n = delay == 0 ? 0 : read_moments(r, false, &r->warned_at, now - delay, page);

	for (size_t i = 0; i < n && warn_one(r, page[i].id); i++)
		r->warned_at = page[i];
}

/* RFC 2852: those who asked for it get it back, or are told, whatever holds it. */
static void
return_late(struct reporter *r, int64_t now)
{
	struct queue_moment page[WALK_PAGE];
	size_t n = r->expiring ? 0 : read_moments(r, true, &r->by_at, now, page), late = 0;

	for (size_t i = 0; i < n; i++) {
		struct arena arena = { 0 };
		struct queue_message message;
		bool here = queue_read_message(r->d->home->port, page[i].id, &arena, &message) == 0;

		if (here && message.record.by_mode == BY_RETURN) {
			r->expire_ids[late++] = page[i].id;
		} else if (here && !warn_one(r, page[i].id)) {
			n = i;
		}
		arena_free(&arena);
	}
	if (n == 0)
		return;
	r->next_at = page[n - 1];
	if (late > 0)
		give_up(r, now, late, &too_late, &r->by_at);
	else
		r->by_at = r->next_at;
}

static int64_t
walk_every(const struct reporter *r)
{
	int64_t every = config_of(r->d)->queue.schedule.lifetime_ms / 50;

	return every < 200 ? 200 : every > 30000 ? 30000 : every;
}

static void
on_walk(uv_timer_t *timer)
{
	struct reporter *r = timer->data;
	int64_t now = wall_ms();

	r->more = false;
	if (!r->stopping && r->d->stalled == 0) {
		return_late(r, now);
		expire_some(r, now);
		warn_some(r, now);
		warn_released(r, now);
	}
	uv_timer_start(timer, on_walk, r->more || r->expiring ? MORE_MS : (uint64_t)walk_every(r),
		       0);
}

void
reporter_begin_walk(struct reporter *r)
{
	uv_timer_start(&r->walker, on_walk, (uint64_t)walk_every(r), 0);
}
