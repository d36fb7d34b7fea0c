/*
 * delivery: one connection out, and the jobs that go over it. → mail goes out.
 *
 * Made by the dispatcher, lives on its reactor's loop. It and the dispatcher speak by letters:
 *
 *	dispatcher: delivery_start, delivery_give(job)…, delivery_quit or delivery_abort, and, once
 *	it has ended, delivery_release delivery: each job comes back once by job->returned, then
 *	`ended` once, when the connection is gone
 *
 * A job that arrives after the end comes back untried. Whoever holds the letter owns the object.
 */
#ifndef TRAM_DELIVERY_H
#define TRAM_DELIVERY_H

#include "dns/lookup.h"
#include "mta/net/stream.h"
#include "mta/reactor/reactor.h"
#include "mta/smtp/client.h"
#include "dns/facts_fetch.h"
#include "mta/delivery/destination.h"
#include "policy/classify.h"
#include "policy/shape.h"
#include "policy/source.h"
#include "policy/tls_event.h"

struct job_recipient {
	uint32_t recipient;		/* its number in the message */
	uint64_t lane;
	int64_t due_ms;			/* the key of its entry */
	void *entry;			/* the dispatcher's */
	bool skipped;			/* not open any more */
	bool suppressed;		/* not sent: its outcome is ours */
	bool classified;		/* class is set: it was not delivered */
	enum reply_class class;
	/* the delivery's config's, for its outcome; NULL: none */
	const struct response_rule *rule;
	/*
	 * a rule says so: another host is asked (moves: its outcome here counts if none takes it),
	 * or not
	 */
	bool moves, settled;
	struct smtp_client_recipient before;
	struct span host, address;	/* settled: who said that */
	struct smtp_client_recipient outcome;
};

/*
 * Of one address or host, on the way to the one that took us, or to none; in the delivery's arena.
 */
struct host_failure {
	const struct host_failure *next;	/* the one before it */
	enum smtp_stage stage;
	struct reply reply;		/* code 0: none came */
	struct span host;
};

struct job {				/* one message, some of its recipients, one attempt */
	struct letter letter;
	void (*returned)(struct job *job);	/* on the home loop */
	struct delivery *delivery;
	uint64_t id;
	struct job_recipient *recipients;
	size_t count;
	struct arena arena;		/* its memory, and all outcomes' */
	/* set by the delivery */
	bool tried;			/* MAIL was sent: it is charged for what happened */
	bool missing;			/* the message is not in the queue */
	bool damaged;			/* its content cannot be read */
	bool moved;			/* some of it was told by one host to try the next */
	bool elsewhere;			/* not for this host: the connection must end */
	bool dsn_passed, by_passed;
	struct span verp;		/* the sender that it had there instead; empty: its own */
	struct span host, address;	/* of the peer */
	struct span source;		/* the name of ours; empty: the system's choice */
	struct span tls;		/* of the connection; empty: none */
	const char *tls_policy;		/* … who asked for it */
	bool tls_resumed;
	struct queue_message message;
	struct smtp_transaction transaction;
	int64_t began_ms;		/* monotonic */
	const struct host_failure *failures;	/* since the delivery's last job came back */
	struct charge *charges;		/* the dispatcher's: which limits count it */
	int64_t asked_ms;		/* all of it has been sent; 0: not yet */
	int64_t latency_ms;		/* how long its answers took, without the way of the body */
};

struct cold_read;
struct delivery_auth;
struct delivery;

/* What a delivery meets, for who watches one without mail: see delivery.watch. */
enum delivery_event {
	WATCH_HOST,			/* host_name is looked at; or to.address */
	WATCH_DEMAND,			/* demand is made; dane, if it was asked for */
	WATCH_ADDRESSES,		/* of the host: address_count */
	WATCH_SECURED,			/* stream.tls is open; proven says if it will do */
	WATCH_READY,			/* it would take mail now */
	/* the same address is called again: in plain text, or afresh */
	WATCH_FALLS_BACK,
	WATCH_FAILED,			/* failure; of this address or host */
};

struct delivery_watch {
	void (*saw)(struct delivery_watch *watch, struct delivery *d, enum delivery_event event);
};

struct tls_reports;

/* How TLS went, to be told once for each domain whose mail the connection carries. */
struct delivery_report {
	bool judged, known;		/* of this connection; known: event is what counts */
	struct tlsrpt_event event;
	uint64_t told[32];		/* hashes of domains, the last so many */
	size_t told_count;
	/* tries that failed before there was a job: the first one's domains hear of them */
	struct tlsrpt_event pending[4];
	size_t pending_count;
};
struct tokens;

struct delivery {
	struct letter letter;
	struct letter quit_order, abort_order;	/* from the dispatcher */
	struct list node;		/* reactor->deliveries */
	void (*ended)(struct delivery *delivery);	/* on the home loop */
	void *owner;			/* the dispatcher's connection record */
	struct reactor *reactor;
	struct config *config;
	struct arena arena;
	struct span site_key;
	struct span provider;		/* the config's; empty: none. Set by the dispatcher */
	struct destination to;
	const struct route *route;	/* config's; NULL: there is none any more */
	struct delivery_auth *auth;	/* the login under way */
	/*
	 * Set before the start: no mail will come. Every host is called, one after the other, as if
	 * some had, but nobody logs in, no session is resumed, deliveries of mail learn nothing
	 * from it, and nothing takes longer than DELIVERY_WATCH_MS.
	 */
	struct delivery_watch *watch;
	bool looks_only;		/* … and no connection is made either: with watch */
	enum resolver_trust trust;	/* set by the dispatcher */
	/*
	 * Set before the start: config's; NULL: the system's choice of address, and the EHLO name
	 * of all.
	 */
	const struct source *source;
	struct tokens *tokens;		/* the same; home's */
	/* the same: what the site's shapes say; 0: as the configuration */
	struct shape_times times;
	const struct sts_policy *sts;	/* as the site's key has it; NULL: none holds */
	struct facts facts;		/* for the demand: */
	struct facts_fetch *fetch;
	const struct dane_verdict *dane;	/* … NULL: was not to be asked */
	struct tls_question question;	/* what was asked for: */
	struct tls_demand demand;	/* on TLS with the host that is being tried */
	bool proven;			/* … and met by the connection */

	/* where it is */
	/*
	 * the next ones; connections tried in this attempt; of these, to hosts that will never do
	 */
	size_t relay, host, tries, hopeless;
	struct netaddr *addresses;	/* of the host */
	size_t address_count, address;
	struct span host_name;
	struct lookup *lookup;
	struct stream stream;
	bool stream_open, failed_lookup, finished, quitting;
	/* a piece of the body that a pool thread reads for `current` */
	struct cold_read *cold;
	unsigned cold_reads;		/* under way, those that nobody waits for any more too */
	struct smtp_client client;
	struct smtp_client_config client_config;
	bool client_open;
	/* TLS failed with this address: now without, as it may be */
	bool plain;
	/* … failed when an earlier session was offered: now without that */
	bool offered_session, afresh;
	struct span tls_text;		/* of this connection, for log and explain; empty: none */
	bool tls_resumed;
	/* set by the dispatcher; NULL: nothing is counted */
	struct tls_reports *tls_reports;
	struct delivery_report report;

	/* its work */
	struct job *current;		/* being sent, or whose body is */
	struct job *waiting;		/* its final reply is awaited while current travels */
	struct letters todo;		/* jobs not begun */
	/* the first of them, for which a host was left that cannot take it (no SMTPUTF8, say) */
	struct job *misfit;
	bool moving;			/* this host is being left */
	bool leaving;			/* … as soon as nothing is under way here */
	uint64_t body_at;		/* offset of the content sent so far */
	bool streaming;			/* the body of current is wanted */
	size_t replies_seen;		/* client.replies when the deadline was set */
	uint64_t sent_seen;		/* … what had been sent … */
	int64_t wait_seen;		/* … and how long it was to be */
	bool deadline_set;

	/* how it went, for the dispatcher */
	bool was_ready;			/* the host has greeted us: it is alive */
	enum smtp_stage failure_stage;
	struct reply failure;		/* in the arena; 5xx: no host can ever be reached */
	struct span failure_host;
	/* that no job has taken along: rules look at each */
	const struct host_failure *failures;
	/*
	 * of the source, not of any host: it cannot be used now; or it has no address of the hosts'
	 * families
	 */
	bool source_broken, source_unfit;
	size_t jobs_done;
};

enum { DELIVERY_WATCH_MS = 20000 };

/* From the home loop. The destination and key are copied; route is config's, or NULL. */
struct delivery *delivery_new(struct reactor *reactor, struct config *config,
			      const struct route *route,
			      const struct destination *to, struct span site_key,
			      void (*ended)(struct delivery *delivery), void *owner);
void delivery_start(struct delivery *d, struct post *home);
void delivery_give(struct delivery *d, struct post *home, struct job *job);
void delivery_quit(struct delivery *d, struct post *home);	/* after what it has; once */
/* at once: outcomes are settled as lost; instead of quit */
void delivery_abort(struct delivery *d, struct post *home);
void delivery_release(struct delivery *d, struct post *home);	/* after ended */
/* The time that a shape gives it, or the usual one. */
static inline int64_t
delivery_time_ms(int64_t shaped_ms, int64_t usual_ms)
{
	return shaped_ms > 0 ? shaped_ms : usual_ms;
}
/* Where a job of it is: for `explain`. */
struct delivery_flight {
	bool there;			/* else it has just come back */
	char host[256], address[NETADDR_TEXT_MAX];	/* of the peer; empty: none yet */
	const char *waits_for;		/* of the connection */
	size_t before;			/* jobs of the connection that come first */
	int64_t began_ms;		/* monotonic; 0: it has not begun */
};
/* Its reactor only; job is looked for, not looked into, unless it is there. */
void delivery_find_flight(const struct delivery *d, const struct job *job,
			  struct delivery_flight *ret);
/* What it waits for: for `explain` and the log. Any thread may not: its reactor's only. */
const char *delivery_waiting_for(const struct delivery *d);

#endif
