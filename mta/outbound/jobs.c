/*
 * jobs: one message, some of its recipients, for one attempt: which of them go together. Home loop
 * only.
 */
#include "mta/base/clock.h"
#include "mta/outbound/shaping/shaping_private.h"

void
job_free(struct job *job)
{
	struct arena arena = job->arena;

	arena_free(&arena);		/* the job itself lives in it */
}

static struct job *
job_new(uint64_t id)
{
	struct arena arena = { 0 };
	struct job *job = arena_alloc(&arena, sizeof(*job));

	job->arena = arena;
	job->id = id;
	return job;
}

/*
 * To the same site, from the same pool (the source of the first is everybody's), if it might go by
 * itself.
 */
static bool
may_join(const struct entry *entry, const struct entry *first, struct span source, bool only)
{
	return !entry->in_flight && entry->lane->site == first->lane->site &&
	       (entry->lane == first->lane ||
		(!only && span_eq(entry->lane->pool, first->lane->pool) &&
		 lane_suspended_until(entry->lane) == 0 && shaping_may_join(entry->lane, source)));
}

static void
job_add(struct job *job, struct entry *entry)
{
	struct job_recipient *r = &job->recipients[job->count++];

	r->entry = entry;
	r->recipient = entry->recipient;
	r->lane = entry->lane->node.key;
	r->due_ms = entry->due_ms;
	entry_fly(entry);
}

/* Each of its recipients is told another sender (verp): one goes at a time. */
static bool
goes_alone(struct dispatcher *d, const struct lane *lane, struct job *job)
{
	struct queue_message message;

	if (config_of(d)->verp.count == 0 ||
	    queue_read_message(d->home->port, job->id, &job->arena, &message) < 0)
		return false;
	return verp_choose(&config_of(d)->verp,
			   &(struct verp_facts){ message.envelope.reverse_path, lane->route,
						 lane->tenant_name, lane->pool }) != NULL;
}

void
job_entries_fly(const struct job *job, const struct job *with)
{
	for (size_t i = 0; i < job->count; i++)
		((struct entry *)job->recipients[i].entry)->job = with;
}

struct entry *
lane_first_entry(const struct lane *lane)
{
	return CONTAINER_OF(lane->ready.next, struct entry, in_lane);
}

struct job *
take_message(struct entry *first, struct span source, size_t most, bool only)
{
	struct lane *lane = first->lane;
	struct parcel *parcel = first->parcel;
	struct job *job = job_new(parcel->node.key);
	/* of a lane all have one sender, or each its own */
	bool alike = only || config_of(lane->owner)->verp.count > 0;
	size_t n = 0;

	most = shaping_recipients(lane, source, most);
	LIST_EACH(struct entry, e, &parcel->entries, in_parcel)
		n += may_join(e, first, source, alike);
	if (n > 1 && goes_alone(lane->owner, lane, job))
		most = 1;
	n = n < most ? n : most;
	job->recipients = arena_alloc(&job->arena, n * sizeof(*job->recipients));
	if (!only)
		ring_served(&lane->turn, n);
	job_add(job, first);
	LIST_EACH(struct entry, entry, &parcel->entries, in_parcel)
		if (job->count < n && may_join(entry, first, source, alike))
			job_add(job, entry);
	lane->owner->flying++;
	if (lane->ready_count < LANE_READY_LOW && lane->more_due_ms <= wall_ms())
		lane_refill(lane);
	return job;
}

struct job *
take_job(struct dispatcher *d, struct site *site, struct lane *only)
{
	struct lane *lane = only != NULL ? only : site_next_lane(site, NULL, NULL);

	if (lane == NULL || lane->ready_count == 0)
		return NULL;
	return take_message(lane_first_entry(lane), SPAN(""),
			    config_of(d)->limits.recipients_per_delivery, only != NULL);
}
