/*
 * dispatcher_private: what the dispatcher's own files share. Home loop only.
 *
 *	dispatcher.c	arrivals, timers, reload, stop: the outside
 *	edits.c		what the operator changes waits for deliveries
 *	lanes.c		which lanes and sites are in memory, and how they leave
 *	wakes.c		whose sites come to memory, where not all can
 *	set_back.c	what waits for a clock that was ahead
 *	lane_routes.c	where a lane leads: its route, its destination (look-ups), its site
 *	lane_policy.c	… and by which MTA-STS policy
 *	jobs.c		what goes together in one attempt
 *	sending.c	what goes next, and over which connection
 *	connections.c	the deliveries it goes over
 *	backoff.c	what the answers of a site come to: its concurrency, its back-off
 *	settlement.c	outcomes → the queue
 *	reporter.c	reports that are owed; reporter_age.c: expiry, delay warnings
 *
 * shaping/, what limits it:
 *	shaping.c	the limits that are configured: who waits, and in which queue
 *	sources.c	from which of our addresses a message goes; who cannot be used now; warm-up
 *	measures.c	what rules make of replies: suspended, slowed
 *	concurrency.c	how many connections a site has shown that it takes
 *
 * explain/, what people are told:
 *	flights.c	where a recipient is now
 *	holds.c		what holds a lane or a site now
 *	top.c		where most happens now
 *	what_if.c	what would be done with a message; tls_check.c, dns_check.c: with a domain
 *
 * To follow a message: on_arrivals (dispatcher.c) → lane_load, lane_refill (lanes.c) → site_work
 * (sending.c) → on_job_returned (connections.c) → settle_job (settlement.c) → on_settled.
 */
#ifndef TRAM_DISPATCHER_PRIVATE_H
#define TRAM_DISPATCHER_PRIVATE_H

#include "mta/delivery/delivery.h"
#include "mta/outbound/dispatcher.h"
#include "mta/outbound/explain/hold_reason.h"
#include "mta/reactor/reactor.h"
#include "mta/delivery/tokens.h"
#include "mta/assurance/policies.h"
#include "mta/assurance/tls_reports.h"
#include "mta/assurance/trust.h"
#include "mta/outbound/shaping/shaping.h"
#include "mta/outbound/shaping/measures.h"
#include "mta/outbound/window.h"

enum {
	LANE_READY_MAX = 1000,		/* entries of one lane in memory */
	LANE_READY_LOW = 100,		/* refill below */
	PAGE = 200,			/* rows read at a time */
	SITE_LANES_PAGE = 200,
	SITE_READY_FAIR = 200,		/* of one site in a window that is half full */
	LINGER_MS = 10000,		/* an empty lane stays so long */
	STAY_MS = 30000,		/* a lane with nothing due for longer leaves */
	ROOM_MS = 250,			/* until a lane that found no room is read again */
	RECHECK_MS = 60000,		/* the longest the clock is trusted */
	SHARE_OF_SLOTS = 8,		/* times what is free, of connections and look-ups */
	IDLE_LANES = 32, IDLE_ENTRIES = 32,	/* looked through for an idle connection */
	PARK_MS = 60000,		/* a lane that waits for a source is looked at again */
	JOBS_AHEAD = 2,			/* per connection: one on its way, one behind it */
	/* … where they take no time: and one that comes meanwhile */
	JOBS_AHEAD_QUICK = 3,
	STUCK_MS = 1000,		/* behind one that takes longer none is given */
	QUICK_MS = 10,			/* that is no time … */
	QUICK_AFTER = 20,		/* … if so many in a row took no more */
	SITE_UNTIL_MIN_MS = 30000,	/* an MX answer counts so long at least */
	SITE_UNTIL_MAX_MS = 7 * 86400000,	/* … at most: later is of a clock that was ahead */
	SITE_UNTIL_STS_MS = 3600000,	/* … and at most, where an MTA-STS policy may appear */
};

struct connection {			/* the dispatcher's side of a delivery */
	struct list in_site;
	struct list idle;		/* dispatcher->idle */
	struct site *site;
	struct delivery *delivery;
	struct share *share;		/* whose mail it was opened for */
	size_t outstanding, given;
	/* a job has come back, or has been given to it when it had none */
	int64_t moved_ms;
	struct source_at *from;		/* NULL: the system's choice of address */
	struct span source;		/* its name; empty: none */
	/* of the source as it was configured then: source.h; 0: none */
	uint64_t mark;
	struct shaping_counter **counters;	/* that count it: shaping.c */
	size_t counter_count;
	bool up, quitting;		/* up: a job has come back tried */
	bool ended, aborted;		/* ended: freed once its last job is home */
	bool hopeless;			/* ended: no host will ever take what goes there */
};

struct dispatcher {
	struct reactor *home;
	struct reactor *reactors;
	unsigned reactor_count, next_reactor;
	struct window window;
	struct site *unresolved;	/* site 0 */
	uv_timer_t timer;
	int64_t wake_at_ms;		/* wall time: rows of `wake` to look at */
	struct list dirty;		/* sites that may have work, by work_node */
	/* sites that wait for a connection of any site to end */
	struct ring slots;		/* by tenant */
	struct list idle;		/* connections without a job, the longest idle first */
	struct letter work_letter;
	bool work_posted;
	size_t connections, lookups, flying, settling;
	size_t max_connections;		/* limits.deliveries, or what descriptors allow */
	/* settles that could not be committed: nothing begins meanwhile */
	unsigned stalled;
	bool sites_wait;		/* there was no room for one more in memory */
	struct wake_pass {		/* wakes.c: through the rows behind what found no room */
		bool under_way;
		struct queue_wake after;
		int64_t next_ms;	/* wall time: a page more, or not another one before */
		size_t rows;
	} pass;
	bool stopping, giving_up;	/* giving_up: results that cannot be kept are lost */
	uint64_t *taken;		/* handed to deliveries in this turn */
	size_t taken_count, taken_cap;
	void (*stopped)(void *arg);
	void *stopped_arg;
	struct dispatcher_edit *edits;	/* waiting for deliveries to end, the first first */
	uint64_t edits_checked;		/* so many looks at them */
	struct trust *trust;
	struct policies *policies;
	struct tokens *tokens;
	struct list checks;		/* tls_check */
	size_t checking;		/* their deliveries */
	struct source_book *sources;
	struct measures *measures;
	struct set_back *set_back;
	struct reporter *reporter;
	struct shaping *shaping;
	struct tls_reports *tls_reports;
	int64_t started_ms, last_wall_ms, last_mono_ms, calm_since_ms;
	struct tenants_seen *tenants;	/* top.c */
	uint64_t delivered, deferred, failed, uncertain, discarded, reports;
	uint32_t classes[REPLY_CLASSES];	/* of what was not delivered */
};

static inline struct config *
config_of(const struct dispatcher *d)
{
	return d->home->config;
}

/* dispatcher.c */
/* work_sites() at the end of this turn */
void dispatcher_touch(struct dispatcher *d);
/* … for every site: what held all of them is over */
void dispatcher_touch_all(struct dispatcher *d);
void site_touch(struct site *site);
void dispatcher_wake_at(struct dispatcher *d, int64_t wall_ms);	/* look at `wake` then */
/* look at `asleep` then, if not before */
void site_timer_by(struct site *site, int64_t wall_ms);
void dispatcher_rearm(struct dispatcher *d);
void dispatcher_check_stopped(struct dispatcher *d);
uint32_t chance(void);
void lane_read_again(struct lane *lane);		/* from its first entry on */
void dispatcher_read_again(struct dispatcher *d);	/* … all of them, and what sleeps */

/* set_back.c */
void set_back_start(struct dispatcher *d);
void set_back_begin(struct dispatcher *d);		/* the wall clock has been set back */
void set_back_go(struct dispatcher *d);			/* a page more */
bool set_back_wants(const struct dispatcher *d);	/* … soon */
void set_back_free(struct dispatcher *d);

/* edits.c: called whenever something has landed */
void dispatcher_check_edits(struct dispatcher *d);

/* lanes.c */
/* NULL: in back-off, gone, or no room */
struct site *site_load(struct dispatcher *d, uint64_t id);
void site_load_lanes(struct site *site);
/* False: its tenant has no room for it now. */
bool lane_load(struct site *site, uint64_t id);
void lane_refill(struct lane *lane);
size_t lane_room(const struct lane *lane);	/* for so many entries more in memory */
/* those that left their entries to the queue read them again */
void site_wake_lanes(struct site *site);
void lane_on_timer(struct lane *lane);
/* nothing in flight any more: may it leave, or move? */
void lane_settle_down(struct lane *lane);
void site_settle_down(struct site *site);
void site_leave(struct site *site);
void lane_submit(struct lane *lane);		/* lane->change → the queue */
void site_save(struct site *site, int64_t wake_ms);
/*
 * A limit of ours holds it until then, as the text says: it leaves memory, its entries stay in the
 * queue.
 */
void lane_sleep(struct lane *lane, int64_t until_ms, struct span text);

/* wakes.c */
/* what is due in `wake` comes to memory … */
void wakes_scan(struct dispatcher *d, int64_t now);
/* … and, behind what finds no room, what others have there */
void wakes_pass(struct dispatcher *d, int64_t now);
int64_t wakes_next_ms(const struct dispatcher *d);
bool sites_are_many(const struct dispatcher *d);	/* so that none may stay without need */
/* May its tenant have one more? share: NULL if it has nothing. */
bool sites_have_room(const struct dispatcher *d, const struct share *share, uint8_t priority);
/* there was no room: `wake` is looked at soon */
void sites_wait(struct dispatcher *d);
/* site_load() for a lane of it, if its tenant has room. */
struct site *site_load_for(struct dispatcher *d, uint64_t id, uint64_t lane);

/* lane_routes.c */
/* Is its label what the routes of now say? If not its entries move to other lanes. */
bool lane_judged(struct dispatcher *d, const struct lane_record *record);
/* False: there is nothing that could be moved now. */
bool lane_reroute(struct dispatcher *d, uint64_t lane, const struct lane_record *record);
/* A name is kept, but what it says is read at each attempt: does it still say this site? */
bool lane_leads_elsewhere(struct dispatcher *d, const struct lane_record *record,
			  const struct site *site);
void lanes_resolve(struct dispatcher *d);	/* look-ups for the lanes of site 0 */
void lane_refresh(struct lane *lane);		/* its MX answer has expired: ask again */
void lane_look_cancel(struct lane *lane);	/* what it asks for will not come */
/* The destination is known, and whatever policy there is. */
void lane_found(struct lane *lane, struct span key, int64_t until_ms);

/* lane_policy.c: → lane_found, now or later */
void lane_ask_policy(struct lane *lane, const struct route *route, struct span key,
		     int64_t until_ms);
void lane_asks_cancel(struct lane *lane);
/* Does the policy that is known now still say this of the site's hosts? */
bool lane_policy_fits(struct dispatcher *d, struct span domain, const struct route *route,
		      const struct site *site);
/* Another policy holds for this domain: where its lanes lead is asked for anew. */
void lanes_policy_changed(void *dispatcher, struct span domain);

/* sending.c */
void site_work(struct site *site);
bool site_asks_dane(struct site *site);
/* Whose turn it is of those that wait for a connection of any site to end; NULL: nobody's. */
struct site *site_next_for_slot(struct dispatcher *d);
void site_leave_slots(struct site *site);

/* connections.c */
struct destination *site_destination(struct site *site);
size_t site_max_connections(const struct site *site);	/* what the configuration allows */
size_t site_messages(struct site *site, struct span source);	/* that one of them takes */
void connection_open(struct site *site, const struct lane *lane, const struct source *source);
void connection_give(struct connection *c, struct job *job);
void connection_quit(struct connection *c);		/* after what it has */
/* Nobody waits for one that is kept in case something comes for it. */
void connections_idle_one_quits(struct dispatcher *d);
/* all its connections, after what they have, or at once */
void site_quit(struct site *site, bool now);
void connections_quit(struct dispatcher *d, bool now);

/* backoff.c */
/* with so many connections, and nothing known */
void site_begins(struct site *site, size_t limit);
void site_probe_now(struct site *site);
/*
 * A limit of ours holds it until then, as the text says: it leaves memory once nothing is in
 * flight. It is a back-off without failures. Behind it nothing of the site is ready.
 */
void site_sleep(struct site *site, int64_t until_ms, struct span text);
void site_failed(struct site *site, const struct reply *reply, struct span host, size_t left);
void site_answered(struct site *site, const struct job *job);

/*
 * dispatcher_view.c: those of the sites asleep for which it says yes are due now; forget: with
 * nothing held against them.
 */
void dispatcher_retry_asleep(struct dispatcher *d,
			     bool (*which)(struct dispatcher *d, struct span key, struct span arg),
			     struct span arg, bool forget);

/* holds.c: adds what holds a site that is in memory: every part that can says so there */
void dispatcher_holds(const struct dispatcher *d, struct hold_reasons *why);	/* all mail */
/* all that holds mail of a lane that does not exist, for this site */
void mail_held_by(struct dispatcher *d, struct span site_key, const struct lane_name *name,
		  struct arena *arena, struct hold_reasons *why);
void site_held_by(struct site *site, struct arena *arena, struct hold_reasons *why);

/* dispatcher_view.c */
json_t *dispatcher_site_json(struct site *site);
void dispatcher_add_asleep_site(struct dispatcher *d, uint64_t id, json_t *all);

/* One that is not in memory may go on now, whatever its back-off says. */
void site_retry_stored(struct dispatcher *d, uint64_t id);

/* top.c: one recipient more that ended so, of this lane */
void top_count(struct lane *lane, enum traffic_end end);
void top_free(struct dispatcher *d);

/*
 * sources.c: a source_at is what is known of a source at one site; NULL: the system's choice of
 * address, of which nothing is.
 */
struct source_at;
struct source_book *sources_start(struct dispatcher *d);
void sources_reconfigure(struct dispatcher *d);
void sources_stop(struct source_book *book);		/* what is to be kept is stored now */
bool sources_busy(const struct source_book *book);
void sources_close(struct source_book *book);
void sources_free(struct source_book *book);
/*
 * Which one this message goes from, now: *ret, NULL for the system's choice. False: none of its
 * pool can be used before then, for this message and all of its lane.
 */
bool source_pick(struct entry *entry, const struct source **ret, int64_t *until_ms);
/*
 * … of a message that is not there, to this recipient; NULL: the system's choice, or none can be
 * used now.
 */
const struct source *source_expected(struct dispatcher *d, const struct shaping_question *about,
				     struct span pool, struct span recipient, struct arena *arena);
struct source_at *source_opened(struct site *site, const struct source *source);
void source_closed(struct source_at *at);
struct span source_at_name(const struct source_at *at);	/* good as long as the process lives */
size_t source_room(struct source_at *at, size_t most);	/* recipients of one job: most, or fewer */
void source_gave(struct source_at *at, size_t recipients);
void source_returned(struct source_at *at, const struct job *job);
/* Did it fail for what the source is, and not for any host? */
bool source_failed(struct source_at *at, const struct delivery *delivery);
json_t *sources_at_json(const struct site *site);		/* sources_view.c */
/*
 * Why nothing of this pool goes there now; nothing is added if something can. False: nothing was.
 */
bool sources_held_by(struct dispatcher *d, struct span site_key, struct span pool,
		     struct arena *arena, struct hold_reasons *why);

/* settlement.c */
void settle_job(struct dispatcher *d, struct job *job);
/* A bounce or a complaint has come back from there. */
void settlement_returned(void *dispatcher, uint64_t site, enum reply_class class);
/*
 * Without a delivery: every recipient of the job gets this reply (no destination, discarded,
 * rejected).
 */
void settle_without_delivery(struct dispatcher *d, struct job *job, const struct reply *reply,
			     bool discard);

/* jobs.c */
/*
 * The lane whose turn it is gives its first message, with all its recipients that go the same way:
 * its tenant has got those. With only: that lane, and what is in it.
 */
struct job *take_job(struct dispatcher *d, struct site *site, struct lane *only);
/*
 * This message, with those of its recipients that go the same way, or (only) are in the same lane.
 */
struct job *take_message(struct entry *first, struct span source, size_t most, bool only);
struct entry *lane_first_entry(const struct lane *lane);	/* it has one */
/* A delivery has it, or (with NULL) none has it any more. */
void job_entries_fly(const struct job *job, const struct job *with);
void job_free(struct job *job);

/* reporter.c */
struct reporter *reporter_start(struct dispatcher *d);
void reporter_soon(struct reporter *r);		/* something became owed */
bool reporter_busy(const struct reporter *r);
void reporter_stop(struct reporter *r);		/* begins nothing more */
void reporter_close(struct reporter *r);	/* its handles */
void reporter_free(struct reporter *r);

#endif
