/*
 * flights: where a recipient is now, for people: with which delivery and how far that is, or behind
 * how many others. A delivery is its reactor's: a letter goes there and back. It finds the delivery
 * there, for that is let go only once its jobs are home, by a later letter. Home loop, but for
 * on_asked().
 */
#include "mta/outbound/dispatcher_private.h"

static void
on_answered(struct letter *letter)
{
	struct dispatcher_flight *f = CONTAINER_OF(letter, struct dispatcher_flight, letter);

	f->done(f);
}

static void
on_asked(struct letter *letter)
{
	struct dispatcher_flight *f = CONTAINER_OF(letter, struct dispatcher_flight, letter);
	struct reactor *r = f->delivery->reactor;

	delivery_find_flight(f->delivery, f->job, &f->flight);
	f->letter.open = on_answered;
	post_send(r->post, r->home, &f->letter);
}

bool
dispatcher_ask_flight(struct dispatcher *d, uint64_t id, uint32_t recipient,
		      struct dispatcher_flight *f)
{
	struct parcel *parcel = window_parcel(&d->window, id);

	if (parcel == NULL)
		return false;
	LIST_EACH(struct entry, entry, &parcel->entries, in_parcel)
		if (entry->recipient == recipient && entry->in_flight && entry->job != NULL) {
			f->owner = d;
			f->job = entry->job;
			f->delivery = entry->job->delivery;
			f->letter.open = on_asked;
			post_send(d->home->post, f->delivery->reactor->post, &f->letter);
			return true;
		}
	return false;
}

/* ---- in its lane -------------------------------------------------------------------------- */

static bool
is_same(const struct queue_entry *a, const struct queue_entry *b)
{
	return a->due_ms == b->due_ms && a->id == b->id && a->recipient == b->recipient;
}

void
dispatcher_place_in_lane(struct dispatcher *d, const struct queue_entry *entry,
			 struct dispatcher_place *ret)
{
	struct lane *lane = window_lane(&d->window, entry->lane);
	struct queue_entry page[PAGE], after = { 0 };
	size_t n = PAGE;

	*ret = (struct dispatcher_place){ 0 };
	if (lane != NULL) {
		ret->lanes = lane->site->ring.members;
		ret->tenants = lane->site->ring.tenants.count;
	}
	while (n == PAGE) {
		if (queue_read_entries(d->home->port, entry->lane, &after, page, PAGE, &n) < 0)
			return;
		for (size_t i = 0; i < n; i++) {
			if (is_same(&page[i], entry) || page[i].due_ms > entry->due_ms)
				return;
			if (ret->before == 0)
				ret->head_due_ms = page[i].due_ms;
			if (ret->before == LANE_BEFORE_MOST) {
				ret->more = true;
				return;
			}
			ret->before++;
		}
		if (n > 0)
			after = page[n - 1];
	}
}
