/*
 * sim: days of mail in seconds: the real dispatcher, window, lanes, connections, settlement,
 * reporter and queue, on a clock that is told what time it is, with hosts, DNS and an operator that
 * are made up from a seed.
 *
 *	machine.c	time, chance, events, the queue's writer: everything that is not decided by the seed is shut out here
 *	hosts.c		the other side: connections (struct delivery) and look-ups that answer as the world says
 *	ledger.c	what has been accepted and what became of it: most of the invariants
 *	shares.c	who gets how much of one host
 *	watch.c		what the dispatcher holds in memory: the others
 *	limits.c	what shapes allow, counted apart from how the dispatcher counts
 *	world.c		hosts, domains, what happens to them when; scenarios
 *	rules.c		hosts that say too much, and what rules make of it
 *	addresses.c	sources, pools, warm-up
 *	wishes.c	priorities, later release, times to be met by
 *	traffic.c	messages that are handed in, operators, reloads
 *	life.c		one life of the process: from the start of the dispatcher to its stop, or death
 *	main.c		command line; lives follow each other as processes, on one queue
 *
 * One thread. What outlives a life is in memory that the processes share (struct world); a seed
 * gives the same run again, event for event.
 */
#ifndef TRAM_SIM_H
#define TRAM_SIM_H

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include "mta/base/clock.h"
#include "mta/base/heap.h"
#include "mta/base/id.h"
#include "mta/delivery/delivery.h"
#include "mta/outbound/dispatcher_private.h"
#include "policy/measure.h"
#include "queue/writer.h"

#define FAR_MS (INT64_C(3650) * DAY)
enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

/* ---- machine.c ---------------------------------------------------------------------------- */

struct event {
	struct heap_node node;
	void (*happens)(struct event *event);
};

/* Streams of chance: one may be drawn from more often without a change to the others. */
enum dice { CHANCE_PRODUCT, CHANCE_TRAFFIC, CHANCE_HOSTS, CHANCE_DELAYS, CHANCE_FATE,
	    CHANCE_STREAMS };

uint64_t draw(enum dice stream, uint64_t below);
bool often(enum dice stream, uint32_t per_million);
/* exponential, at most 8 × the mean */
int64_t draw_around(enum dice stream, int64_t mean);

/* of those at one moment the first set comes first */
void event_in(struct event *event, int64_t ms);
void event_cancel(struct event *event);
void machine_start(struct reactor *home);
/* To the next moment at which anything happens, but not beyond `until` (monotonic). */
void machine_step(int64_t until);
/* the queue has nothing to do for us */
bool machine_quiet(void);
void machine_free(void);
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- world.c ------------------------------------------------------------------------------ */

enum { RCPTS_MANY = 12 };		/* of one message, at most */

/* REJECTS: 421 in the place of a greeting */
enum down { DOWN_NO, DOWN_REFUSES, DOWN_HANGS, DOWN_REJECTS };

/* Under which limits of ours a host stands: the name of its domain, for the patterns of shapes. */
enum class {
	CLASS_PLAIN, CLASS_PACED, CLASS_HOURLY, CLASS_DAILY, CLASS_BIG, CLASS_TENANTS,
	CLASS_RULED, CLASS_GROUP,	/* rules.c: each its own site; a provider */
	CLASS_SOURCES,			/* addresses.c */
	CLASSES
};
extern const char *const class_names[CLASSES];

/* at most so many in any such time: the times of the last ones */
struct gauge {
	uint32_t most, at;
	int64_t span_ms;
	int64_t *times;
};

enum { TENANTS_MAX = 16, SOURCES = 4, RECENT_S = 4 };

struct ban {				/* wall time */
	int64_t until, longest;		/* longest: if a crash has not made it forgotten */
	int64_t before, changed;	/* changed: monotonic; before that it was this */
};

struct bans {				/* of a site or provider: rules.c */
	/* the last source: the system's choice; never */
	struct ban all, source[SOURCES + 1], tenant[TENANTS_MAX];
	struct measure slow;		/* factor 0: none */
	int64_t slow_changed;
};

struct warm_day {			/* of a source at a site: addresses.c */
	int64_t day;
	uint32_t given, forgotten;	/* forgotten: by crashes, at most */
	uint32_t most, flying;		/* most: what may be counted */
	int64_t second;
	uint32_t recent[RECENT_S];	/* given in the last seconds */
};

struct host {				/* one site: what its hosts do */
	enum class class;
	struct gauge sent, opened;	/* most 0: any number */
	/* as the dispatcher has them; 0: any number */
	uint32_t connections, most_connections;
	int64_t connect_ms, service_ms;
	uint32_t max_connections;	/* more get 421; 0: any number */
	uint32_t temporary, permanent;	/* per million recipients */
	/* per million messages: before the dot; after it, before the reply */
	uint32_t resets, losses;
	uint32_t per_minute;		/* messages; more get 450 4.7.1; 0: any number */
	enum down down;
	int64_t next_change;		/* up or down; 0: never */
	int64_t up_mean, down_mean;
	/* what has happened */
	int64_t ok_since;		/* monotonic: it takes mail since */
	uint32_t open, open_most, messages, refused;
	int64_t last_begun, last_refused;
	uint32_t refusals;		/* in a row */
	int64_t minute;			/* the one that is counted: */
	uint32_t in_minute;
	struct gauge by_tenant[TENANTS_MAX];
	uint32_t tenant_begun[TENANTS_MAX];
	uint32_t visits;		/* connections that the dispatcher has not done with */
	struct bans bans;
	uint32_t by_source[SOURCES + 1];	/* in_minute */
	/* wall: while it is slowed, the next message; the last before that */
	int64_t next_slowed, early;
	struct warm_day warm[SOURCES];
	struct gauge source_sent[SOURCES][2];
	uint32_t source_visits[SOURCES];
	/* since the last that was out of order; of reports */
	uint32_t turns[TENANTS_MAX + 1];
	/* for the scan */
	uint32_t waiting, peak;
	int64_t oldest;
};

struct domain {
	uint32_t host;
	bool unknown;			/* there is no such domain */
	bool silent;			/* its name servers do not answer now */
	int64_t next_change;
	int64_t ok_since;
	int64_t ttl_ms;
	struct ban ban;			/* wherever it leads */
};

enum rcpt_state { R_NONE,
	R_OFFERED, R_WAITING, R_GIVEN, R_FLYING, R_DELIVERED, R_FAILED, R_REPORTED, R_REMOVED,
		  R_UNKNOWN };

struct rcpt {
	uint32_t message, domain, place;	/* place: in world->open, + 1 */
	uint8_t state;
	bool doubt;			/* a crash was near: once more is no fault */
	bool held, was_held, releasing, warned, edited;
	bool hurried;			/* an operator has said: now */
	uint8_t last_source;		/* of its last try; + 1 */
	uint8_t passed_on;		/* reports that it has gone on */
	bool by_unknown;		/* … to a host that knows nothing of times */
	uint8_t deliveries, reports;
	/* a reload: it is tried anew in another lane, once or twice */
	uint8_t moves;
	uint16_t attempts;
	int64_t from, by;		/* monotonic: not to be tried before; due at the latest */
	int64_t changed;
};

struct message {
	uint64_t id;			/* 0: not accepted yet */
	uint64_t offered;		/* what it is then */
	uint32_t first, count, tenant;
	int64_t accepted;		/* monotonic */
	uint64_t others;		/* world->begun of tenant 0 by then */
	int8_t priority;
	uint8_t by_mode;		/* enum by_mode */
	int64_t release, deadline;	/* wall; 0: none */
};

struct settings {			/* of a run: the command line, then the scenario */
	uint64_t seed;
	const char *scenario, *path;
	int64_t days_ms;
	uint32_t hosts, domains, tenants, messages;
	int64_t lifetime_ms;
	uint32_t window_entries, window_sites, deliveries, per_site;
	/* per million hosts or domains */
	uint32_t dead, flapping, slow, moody, silent, unknown, providers;
	int64_t life_mean;		/* until a restart; 0: none */
	uint32_t crashes;		/* of these, deaths: per million */
	uint32_t storm;			/* messages of one tenant at once */
	uint32_t several;		/* one message in so many has a recipient more */
	int64_t reload_every, edit_every, jump_every;
	/* the third jump is of years, backwards; so is one of hours before the second life */
	bool far_jumps;
	int64_t slow_disk;		/* a commit takes up to this */
	int64_t flap_ms;		/* the longest mean of times up and down; 0: hours */
	uint32_t traced;		/* a recipient whose life is told */
	bool verbose;
	const char *config;		/* more of the configuration */
	uint32_t shaped;		/* per million hosts: our own limits hold there */
	/*
	 * all tenants at once, to one host, with one recipient, some or many: they share it by
	 * weight
	 */
	bool fair;
	bool spread;			/* the storm: each message goes to another domain */
	bool rules, sources;		/* rules.c, addresses.c */
	bool shared;			/* those who hand mail in live where it goes, too */
	uint32_t urgent, later, by;	/* per million messages: wishes.c */
	int64_t first_try_ms;		/* of tenants without a storm, where the host is well */
	/* … and so many messages of the storm may begin meanwhile; 0: any number */
	uint32_t first_try_others;
};

struct world {
	struct settings set;
	uint64_t chance[CHANCE_STREAMS];
	int64_t mono, wall_ahead;	/* wall = mono + wall_ahead */
	uint64_t events, turns, commits;
	struct host *hosts;
	struct domain *domains;
	struct rcpt *rcpts;
	struct message *messages;
	uint32_t rcpt_count, message_count, handed_in;
	uint32_t *open;			/* recipients that are not at their end */
	uint32_t open_count;
	/* of each lane, by tenant, domain and priority: the latest that was begun; monotonic */
	int64_t *last_due;
	int64_t began, traffic_ends;
	uint32_t life;
	/* recipients of each tenant, where they are to share one host */
	struct shares {
		uint32_t offered[16], given[16], first[16];
		bool counts;		/* all have had some: first, by then */
	} shares;
	uint64_t begun, life_others;	/* by tenant 0; when this life began */
	uint64_t delivered, temporary, failed, reports, warnings, refused, removed, crashed,
		reloads, edits, jumps;
	int64_t next_message, next_reload, next_edit, next_jump, storm_at;
	int64_t scanned, crowded;	/* crowded: a limit of all sites was reached last then */
	int64_t unsettled;		/* a jump of the clock: until then nobody is impatient */
	int64_t life_began, life_ends;
	bool draining, died;
	struct gauge big[3];		/* of all hosts of CLASS_BIG together */
	uint32_t big_connections, turn_sent;
	/* from accept to the first try: of tenant 0, of others; where the host is well */
	struct slowest { int64_t ms; uint32_t rcpt; } slowest[2];
	struct bans group;
	struct warm_day group_warm[SOURCES];
	uint64_t suspended, slowed, overflowed, overtaken, returned;
	char failure[1024];
};
extern struct world *world;

void world_make(const struct settings *settings);
/* Hosts and domains change; more happens at the time it returns. */
int64_t world_turn(void);
void world_heal(void);			/* all is well from now on */
bool scenario_apply(struct settings *settings);
const char *scenario_names(void);

/*
 * ---- limits.c: those that the configuration sets (shapes), kept apart from the product's own
 * counting ---
 */

void limits_make(struct host *host);
const char *limits_config(void);
void limits_sent(struct host *host, const struct job *job);
void limits_unsent(struct host *host, const struct job *job);
void limits_opened(struct host *host);
void limits_closed(struct host *host);
void limits_restart(bool died);
/* The longest that nothing may be sent to a host, with mail waiting. */
int64_t limits_patience(const struct host *host, int64_t plain);
int64_t limits_pace(const struct host *host);		/* one message each, in the long run */

/* Of one counter; what is more is told. */
void gauge_make(struct gauge *g, uint32_t most, int64_t span_ms);
void gauge_add(struct gauge *g, const char *what);
void gauge_take(struct gauge *g);
void gauge_restart(struct gauge *g, bool died);

/* ---- rules.c: replies that rules do something about: is it done, and over in time? --------- */

const char *rules_config(void);			/* and the file that it names */
/* What the host says to this message; NULL: nothing of that kind. */
const struct reply *rules_answer(struct host *host, const struct delivery *d);
bool rules_hold_for(const struct host *host);
void rules_opened(struct host *host);
void rules_given(struct host *host, const struct delivery *d, const struct job *job);
/* the dispatcher is about to hear of it */
void rules_back(struct host *host, const struct job *job);
void rules_refused(struct host *host, const struct delivery *d);
const struct reply *rules_busy(void);
void rules_restart(bool died);
/* Wall time: until then it may have to wait. 0: it need not. */
int64_t rules_free_at(const struct rcpt *r, struct host *host);
int64_t rules_source_free_at(struct host *host, size_t source);

/* ---- addresses.c: sources and pools ------------------------------------------------------- */

const char *addresses_config(void);
/* of its source; SOURCES: the system's choice */
size_t address_number(const struct delivery *d);
void addresses_make(struct host *host);
void addresses_opened(struct host *host, const struct delivery *d);
void addresses_closed(struct host *host, const struct delivery *d);
void addresses_given(struct host *host, const struct delivery *d, const struct job *job);
void addresses_back(struct host *host, const struct delivery *d, const struct job *job);
void addresses_restart(bool died);
/* As rules_free_at(); INT64_MAX: not today. */
int64_t addresses_free_at(const struct rcpt *r, struct host *host);

/* ---- wishes.c: RFC 6710, 4865, 2852 ------------------------------------------------------- */

enum { WISHED_PRIORITIES = 3 };
size_t wishes_priority(const struct message *m);	/* as a number below that */
void wishes_draw(struct message *m);
void wishes_write(const struct message *m, struct queue_accept *accept, struct envelope *envelope,
		  struct lane_name *lanes);
void wishes_given(struct host *host, const struct job *job);
void wishes_begun(struct rcpt *r, const struct host *host, struct job *job);
bool wishes_too_late(const struct rcpt *r);	/* to be sent at all */
void wishes_scan(struct rcpt *r);
void wishes_passed_on(struct rcpt *r);
void wishes_end(const struct rcpt *r);

/* ---- hosts.c ------------------------------------------------------------------------------ */

void hosts_restart(void);		/* all connections are gone */

/* ---- ledger.c ----------------------------------------------------------------------------- */

uint32_t ledger_offer(uint32_t tenant, const uint32_t *domains, uint32_t count);
void ledger_accepted(uint32_t message, uint64_t id);
void ledger_refused(uint32_t message);
void ledger_given(struct job *job);
bool ledger_is_given(const struct rcpt *r);
void ledger_home(struct job *job);	/* it goes back to the dispatcher */
/* The recipient of the ledger that a stored address means; NULL: none, it is a report's. */
struct rcpt *ledger_rcpt(struct span address);
struct rcpt *ledger_find(uint64_t id, uint32_t recipient);	/* the same */
/* the key of its entry; 0: it goes along with another */
void ledger_begun(struct rcpt *rcpt, struct host *host, int64_t due_ms);
/* sure: the other side knows that it has it, and so do we */
void ledger_delivered(struct rcpt *rcpt);
void ledger_temporary(struct rcpt *rcpt);
void ledger_failed(struct rcpt *rcpt);
void ledger_trace(const struct rcpt *rcpt, const char *what);
void ledger_removed(struct rcpt *rcpt);
void ledger_report(struct span content);	/* a report has reached its reader */
/*
 * Since when nothing of the world, or of rules, keeps it from going: monotonic. INT64_MAX:
 * something does.
 */
int64_t could_go_since(const struct rcpt *r);
int64_t wall(void);
void ledger_scan(void);			/* who waits too long? */
void ledger_tell_lane(uint64_t lane);	/* on standard error */
void ledger_explain(const struct rcpt *r);	/* … what is known of one who waits */
void ledger_died(void);			/* the process is gone, unasked */
void ledger_end(void);			/* all of it has come to its end */

/* ---- shares.c ----------------------------------------------------------------------------- */

void shares_given(const struct job *job);

/* ---- watch.c ------------------------------------------------------------------------------ */

void watch_step(struct dispatcher *d);	/* cheap */
void watch_deep(struct dispatcher *d);

/* ---- traffic.c ---------------------------------------------------------------------------- */

void traffic_start(struct reactor *home);
int64_t traffic_turn(void);		/* what is due now; when it wants to be called again */
bool traffic_idle(void);		/* nothing is with the queue or the dispatcher */
void traffic_release(void);		/* at the end: what is on hold */
void traffic_jump(int64_t by);		/* of the wall clock */
struct config *config_make(void);

/* ---- life.c ------------------------------------------------------------------------------- */

enum { LIFE_OVER = 0, LIFE_FAILED = 1, LIFE_RESTART = 10, LIFE_DIED = 11 };
int life_run(void);
extern struct reactor *life_home;

#endif
