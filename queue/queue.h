/*
 * queue: durable mail. The interface; see README.md for the states of one message and what a
 * crash leaves.
 *
 * One writer thread owns all LMDB write transactions. Every other thread has a *port*:
 * operations handed to a port gather until queue_port_flush() (once per loop turn), the writer
 * puts all that wait in one transaction, commits, and gives each operation back to its port;
 * queue_port_run() then calls their `done`. Operations are embedded in their owner's objects and
 * must live until `done`; so must all that they point to. A `done` is never called before the
 * call that submitted it returned.
 *
 * Results: 0; -ENOSPC (quota, disk, map or transaction full, no memory: nothing of this
 * operation happened, try again later); -ENOENT; -EBADMSG (the record of this message is
 * damaged: nothing of this operation happened); -ESHUTDOWN (the store is poisoned: nothing more
 * is acknowledged, the process must exit and reopen). Reads are short transactions on the port's
 * own reader and may be done at any time by its thread.
 *
 * Nouns: message (id), recipient (its number in the message, from 0), lane (who shares a way:
 * tenant, domain, route name, source pool, priority), site (the next hop: what a lane leads to;
 * 0 = unresolved), entry (an open recipient in its lane, at its due time: the queue itself),
 * history (what happened to a recipient so far).
 */
#ifndef TRAM_QUEUE_H
#define TRAM_QUEUE_H

#include "mta/base/arena.h"
#include "mta/base/envelope.h"
#include "mta/base/reply.h"
#include "queue/record.h"

struct queue;
struct queue_port;

struct queue_config {
	const char *path;		/* directory; must exist */
	uint64_t map_size;		/* bytes of address space; 0: default (1 TB) */
	uint64_t max_size;		/* quota of live bytes */
	uint64_t min_free;		/* keep this many bytes of the disk free */
	unsigned readers;		/* ports + pool threads that may read at once */
	/* on the writer thread, once: log and make the process exit */
	void (*poisoned)(void *arg, const char *why);
	void *arg;
};

enum { QUEUE_ERROR_MAX = 512 };

/*
 * Opens and locks the store, recovers (sweeps drafts, marks what is in doubt), starts the
 * writer. On failure a negative errno and in error a sentence for the operator that says what to
 * do: -EBUSY (another tramd has it), -EPROTO (a newer or foreign format), -EBADMSG (damaged),
 * -EOPNOTSUPP (network file system) …
 */
int queue_open(const struct queue_config *config, struct queue **ret, char error[QUEUE_ERROR_MAX]);
/* All ports must be closed. Commits what waits, marks a clean stop (unless poisoned). */
void queue_close(struct queue *queue);
void queue_reconfigure(struct queue *queue, uint64_t max_size, uint64_t min_free);

struct queue_facts {			/* any thread; a snapshot */
	uint64_t messages, live_bytes, max_size, disk_free;
	uint64_t commits, operations;	/* since start */
	int64_t last_commit_us;		/* how long the last commit took */
	bool poisoned, clean_start;	/* clean_start: the last process stopped cleanly */
	uint64_t in_doubt;		/* messages marked uncertain at start */
	/* the latest wall time that earlier processes have stored or given an id for */
	int64_t latest_ms;
};
void queue_facts(const struct queue *queue, struct queue_facts *ret);
/*
 * Would a message of this size be accepted now? (quota, disk, poison). Any thread, no system
 * call.
 */
bool queue_has_room(const struct queue *queue, uint64_t size);

/* ---- ports -------------------------------------------------------------------------------- */

/*
 * wake(arg) is called by the writer when the port's list of done operations was empty:
 * uv_async_send it.
 */
int queue_port_open(struct queue *queue, void (*wake)(void *arg), void *arg,
		    struct queue_port **ret);
void queue_port_close(struct queue_port *port);		/* no operation may be outstanding */
void queue_port_flush(struct queue_port *port);
void queue_port_run(struct queue_port *port);
bool queue_port_busy(const struct queue_port *port);	/* operations outstanding */

struct queue_op {
	struct queue_op *next;
	struct queue_port *port;
	uint8_t kind;
	bool urgent;			/* somebody waits: wakes the writer at once */
	int result;
	void (*done)(struct queue_op *op);
};

/* ---- accept ------------------------------------------------------------------------------- */

uint64_t queue_next_id(struct queue *queue);		/* grows; never reused; any thread */

/* a message being received; see draft functions below */
struct draft;

struct draft_config {
	struct queue_port *port;
	uint64_t id;
	void (*room)(void *arg);	/* draft_full() has become false: go on reading */
	void *arg;
};
/*
 * A message under one chunk stays in memory until commit; beyond it chunks of QUEUE_CHUNK octets
 * stream out.
 */
struct draft *draft_begin(const struct draft_config *config);
void draft_append(struct draft *draft, struct span body);	/* copied */
/* two chunks wait for the writer: stop reading */
bool draft_full(const struct draft *draft);
/* 0, or a chunk failed (-ENOSPC, -ESHUTDOWN): abort it */
int draft_error(const struct draft *draft);
size_t draft_memory(const struct draft *draft);			/* octets it holds in memory now */
/* Drops it: chunks already stored are deleted. The draft is gone when this returns. */
void draft_abort(struct draft *draft);

/*
 * A note: a small record that is not mail and outlives the process: a policy that was looked up,
 * counters of a day. Each kind has one owner, who knows what is in it and bounds how many there
 * are; this table as a whole is bounded too (160 MB; 80 for counts), apart from the quota of mail.
 * What a note says can be had again, or done without: salvage leaves it behind.
 */
enum note_kind { NOTE_STS_POLICY = 1, NOTE_TLS_REPORT = 2, NOTE_SUPPRESSION = 3,
		 NOTE_SOURCE_DAY = 7, NOTE_SHAPE = 8, NOTE_MEASURE = 9, NOTE_VERP_KEY = 10,
		 NOTE_DELIVERED = 11 };
enum { NOTE_KEY_MAX = 510, NOTE_VALUE_MAX = 64 << 10 };

struct queue_note {
	struct queue_op op;		/* unused as part of an accept */
	uint8_t kind;			/* enum note_kind */
	struct span key;		/* 1 to NOTE_KEY_MAX octets */
	struct span value;		/* at most NOTE_VALUE_MAX octets */
	bool remove;			/* no value; fine if it is not there */
	/* others, in the same transaction; must live until done, their own op and more unused */
	const struct queue_note *more;
	size_t more_count;
};
/*
 * Puts it, in the place of one of the same key, or removes it. Nobody waits for it unless
 * op.urgent is set: it rides with the next commit. -EMSGSIZE: key or value are too long, or
 * there is no key; -ENOSPC: no room.
 */
void queue_submit_note(struct queue_port *port, struct queue_note *note);

struct queue_accept {
	struct queue_op op;		/* op.done, set by the caller; op.result */
	uint64_t id;
	int64_t arrival_ms;
	const struct envelope *envelope;
	const struct lane_name *lanes;	/* one per recipient */
	struct span header;		/* the header block, Received on top, blank line included */
	/* facts kept for the operator: "client=… helo=… user=…", may be empty */
	struct span client;
	struct span user;		/* who logged in to hand it in; empty: nobody */
	uint32_t flags;			/* enum message_flags */
	struct draft *draft;		/* its body; gone once submitted. NULL: body below */
	struct span body;
	int64_t due_ms;			/* first due; arrival, usually */
	bool hold;			/* enters held */
	/* put or removed in the same transaction; must live until done */
	const struct queue_note *notes;
	size_t note_count;
};
/* 250 may be said when done is called with result 0, not before (invariant 1). */
void queue_submit_accept(struct queue_port *port, struct queue_accept *accept);

/* ---- deliver and settle ------------------------------------------------------------------- */

/*
 * Tells the store which messages were handed to deliveries, so that a crash knows what is in
 * doubt. Not waited for. Each id is taken back by the next settle of it, so that must be flushed
 * later than this.
 */
void queue_taken(struct queue_port *port, const uint64_t *ids, size_t count);

enum settle_kind {
	SETTLE_DELIVERED,		/* ended; nothing to report */
	/* stays, due again at due_ms in its lane; an attempt of its own is recorded */
	SETTLE_RETRY,
	/* stays as it is, not charged (site trouble, shutdown, NOT_TRIED); due_ms counts */
	SETTLE_AGAIN,
	/* the end, but a report is owed: entry goes, history says what and why */
	SETTLE_OWED,
	/* ended without a report (NOTIFY=NEVER, null sender, discarded): logged by the caller */
	SETTLE_ENDED,
};

struct settle_recipient {
	uint32_t recipient;
	enum settle_kind kind;
	uint64_t lane;
	int64_t old_due_ms;		/* the key of its entry */
	int64_t due_ms;			/* RETRY, AGAIN */
	bool uncertain;			/* the dot was sent and no answer came */
	enum report_action action;	/* OWED: failed, relayed, delivered */
	const struct attempt *attempt;	/* RETRY, OWED: recorded; may be NULL */
};

struct queue_settle {
	struct queue_op op;
	uint64_t id;
	const struct settle_recipient *recipients;
	size_t count;
	bool removed;			/* set: the last recipient ended and the message is gone */
};
/*
 * Nobody waits for a settle unless op.urgent is set. A recipient that is settled already is
 * passed over; old_due_ms and lane save a search, and are looked up where they are wrong.
 * -ENOSPC: nothing was settled; keep it in memory and submit again, and begin no delivery
 * meanwhile.
 */
void queue_submit_settle(struct queue_port *port, struct queue_settle *settle);

/*
 * A report (DSN) is made: one transaction queues it (accept, unless NULL: nobody to tell) and
 * ends those recipients of the message it speaks of (or, for delay warnings, marks them warned).
 */
struct queue_report {
	struct queue_op op;
	uint64_t id;			/* the message reported on */
	const uint32_t *recipients;
	size_t count;
	bool delay;			/* a warning: they stay, marked warned */
	struct queue_accept *accept;	/* the report itself, its own op unused; draft NULL */
	bool removed;
};
void queue_submit_report(struct queue_port *port, struct queue_report *report);

/* ---- what the dispatcher keeps ------------------------------------------------------------ */

/*
 * Entries that came to be by accept, report, release or re-route are told to one subscriber,
 * after their commit.
 */
struct queue_arrival {
	uint64_t id, lane, site;
	int64_t due_ms;
	uint32_t recipient;
};
/*
 * overflow: more came than was kept (65,536): lanes in memory must be read again from the store. An
 * arrival is told before the end of whatever has changed, moved or settled it since is told to the
 * same port: who edits what arrives knows of it by then.
 */
void queue_port_subscribe(struct queue_port *port,
			  void (*arrivals)(void *arg, const struct queue_arrival *arrivals,
					   size_t count, bool overflow),
			  void *arg);

/*
 * Changes a lane. Flags say which fields count. A site is named by its key (see record.h) and
 * made if it is new; site_id is set on return. due_ms: when the lane next wants attention (index
 * `asleep`); the writer moves it to the lane's first entry, or to the end of its back-off if
 * that is later, should it be later than that. With set_due a lane without entries is deleted
 * (unless it is on hold). On hold it is not in the index at all.
 */
struct queue_lane_change {
	struct queue_op op;
	uint64_t lane;
	bool set_site, set_due, set_backoff, set_hold;
	struct span site_key;		/* empty: back to site 0 */
	int64_t site_until_ms;		/* look up again then; 0: a static host */
	int64_t due_ms;
	struct backoff backoff;		/* DNS trouble of this lane's domain */
	bool hold;
	uint64_t site_id;		/* set */
	bool gone;			/* set: the lane had no entries left and was deleted */
};
void queue_submit_lane(struct queue_port *port, struct queue_lane_change *change);

/*
 * Changes a site's own state and when it next wants attention (`wake`); 0 deletes its row if no
 * lane is asleep in it.
 */
struct queue_site_change {
	struct queue_op op;
	uint64_t site;
	struct site_state state;
	/*
	 * Moved earlier where it is later than both the first lane asleep and
	 * state.backoff.next_ms. So what keeps a site back for another reason (a rate, no slot)
	 * must stand in next_ms too. A suspended site needs none.
	 */
	int64_t wake_ms;
	bool gone;			/* set: it had no lanes left and was deleted */
};
void queue_submit_site(struct queue_port *port, struct queue_site_change *change);

/* ---- what the operator does --------------------------------------------------------------- */

enum edit_kind { EDIT_HOLD, EDIT_RELEASE, EDIT_RETRY, EDIT_REMOVE, EDIT_FAIL, EDIT_MOVE,
		 EDIT_PRIORITY };

/*
 * At most 500 recipients a go: set `resume` from the last result until `more` is false. None of
 * the ids may be in flight. RETRY: due now. FAIL: as SETTLE_OWED with the attempt given (bounce,
 * expiry). MOVE: to another lane, due as it was. PRIORITY: to the lane that has this priority and
 * is else the same, but for reports, which stay behind.
 */
struct queue_edit {
	struct queue_op op;
	enum edit_kind kind;
	const uint64_t *ids;
	size_t count;
	uint32_t only_recipient;	/* UINT32_MAX: all */
	int64_t due_ms;			/* RELEASE, RETRY */
	const struct attempt *attempt;	/* FAIL */
	const struct lane_name *lane;	/* MOVE */
	uint64_t from_lane;		/* MOVE: only recipients in this lane */
	uint8_t priority;		/* PRIORITY: as stored */
	size_t resume;			/* in/out: index of the next id */
	bool more;			/* set */
	size_t changed;			/* set: recipients changed in this go */
	size_t start;			/* the queue's own: resume, as it was submitted */
};
void queue_submit_edit(struct queue_port *port, struct queue_edit *edit);

/*
 * Cursors that walk `message` (expiry, delay warnings), kept in meta; and the reports that are
 * owed.
 */
struct queue_cursor_set {
	struct queue_op op;
	uint64_t expiry_id, delay_id;	/* 0: leave */
};
void queue_submit_cursors(struct queue_port *port, struct queue_cursor_set *set);

/* ---- reading: short transactions on the port's thread ------------------------------------- */

struct queue_message {			/* in the arena given */
	struct message_record record;
	struct envelope envelope;
	uint64_t *lanes;		/* per recipient, as it was at arrival */
	bool *open;			/* per recipient */
};

int queue_read_message(struct queue_port *port, uint64_t id, struct arena *arena,
		       struct queue_message *ret);

/*
 * Content of a message from an offset (header block first, then body): appends up to `most`
 * octets to out, never crossing a chunk. may_block false: -EAGAIN when it is not in memory (then
 * read it from a pool thread by queue_read_content_cold, which uses a reader of its own).
 * -EBADMSG: damaged. 0 and nothing appended: the end.
 */
int queue_read_content(struct queue_port *port, const struct message_record *record,
		       uint64_t offset, size_t most, bool may_block, struct buf *out);
/*
 * The same without a copy, and never blocking: visit is called once with them, unless that was the
 * end, and must have done with them when it returns. It reads nothing else from the queue.
 */
int queue_visit_content(struct queue_port *port, const struct message_record *record,
			uint64_t offset, size_t most, void (*visit)(void *arg, struct span part),
			void *arg);
int queue_read_content_cold(struct queue *queue, const struct message_record *record,
			    uint64_t offset, size_t most, struct buf *out);

struct queue_entry { uint64_t lane, id; int64_t due_ms; uint32_t recipient; };

/*
 * Pages: entries of a lane after a key (all zero: from the first), at most max; *ret_count <
 * max: that was all. Recipients on hold are not among them.
 */
int queue_read_entries(struct queue_port *port, uint64_t lane, const struct queue_entry *after,
		       struct queue_entry *ret, size_t max, size_t *ret_count);
int queue_read_lane(struct queue_port *port, uint64_t lane, struct arena *arena,
		    struct lane_record *ret);
int queue_find_lane(struct queue_port *port, const struct lane_name *name, uint64_t *ret);
int queue_read_site(struct queue_port *port, uint64_t site, struct arena *arena,
		    struct site_record *ret);
int queue_find_site(struct queue_port *port, struct span key, uint64_t *ret);
int queue_read_history(struct queue_port *port, uint64_t id, uint32_t recipient,
		       struct arena *arena, struct history_record *ret);

struct queue_asleep {
	uint64_t tenant, lane;		/* tenant: tenant_mark() of its name */
	int64_t due_ms;
};
/*
 * Lanes of a site that are due until then, after a row (all zero: from the first), tenant by
 * tenant, each by due time, so that who has many hides nobody's. The due time may be too early,
 * never too late. *next_ms, INT64_MAX before the first page: the earliest of those that are due
 * later;
 * *tenants: how many have one. *ret_count < max: that was all. To pass the rest of a tenant over,
 * go on after its mark, lane UINT64_MAX, due INT64_MAX.
 */
int queue_read_asleep(struct queue_port *port, uint64_t site, const struct queue_asleep *after,
		      int64_t until_ms, struct queue_asleep *ret, size_t max, size_t *ret_count,
		      int64_t *next_ms, size_t *tenants);
struct queue_wake { uint64_t site; int64_t at_ms; };
int queue_read_wakes(struct queue_port *port, const struct queue_wake *after, int64_t until_ms,
		     struct queue_wake *ret, size_t max, size_t *ret_count);

/* Messages whose report is owed, by the time the first became owed. */
struct queue_owed { int64_t since_ms; uint64_t id; };
int queue_read_owed(struct queue_port *port, const struct queue_owed *after, struct queue_owed *ret,
		    size_t max, size_t *ret_count);
/*
 * Messages that ask for a moment, by it: when they may go (RELEASED), or by when they are to be
 * there; until then, after a row. As long as they are here.
 */
struct queue_moment { int64_t at_ms; uint64_t id; };
int queue_read_moments(struct queue_port *port, bool by, const struct queue_moment *after,
		       int64_t until_ms, struct queue_moment *ret, size_t max, size_t *ret_count);
int queue_read_cursors(struct queue_port *port, uint64_t *expiry_id, uint64_t *delay_id);
/* Ids after `after` and below `below`, in order. */
int queue_walk_messages(struct queue_port *port, uint64_t after, uint64_t below, uint64_t *ret,
			size_t max, size_t *ret_count);
/*
 * The same, by an index: recipient domain (and all below it if sub; those on hold have DUE_HELD,
 * and recipients whose report is owed have no entry: see queue_read_owed), or sender domain
 * (exactly) or address.
 */
int queue_walk_recipient_domain(struct queue_port *port, struct span domain, bool sub,
				const struct queue_entry *after, struct queue_entry *ret,
				size_t max, size_t *ret_count);
int queue_walk_sender(struct queue_port *port, struct span address_or_domain, uint64_t after,
		      uint64_t *ret, size_t max, size_t *ret_count);

/* Appends the value of a note: 0, -ENOENT, -EBADMSG. */
int queue_read_note(struct queue_port *port, enum note_kind kind, struct span key, struct buf *out);
struct queue_note_row {			/* in the arena given */
	struct span key, value;
	bool damaged;			/* no value; may be removed or put anew */
};
/*
 * Notes whose key starts with a prefix, in the order of their keys, behind the key `after`
 * (empty: from the first on), at most max and about 1 MB; *ret_count 0: there are no more.
 */
int queue_read_notes(struct queue_port *port, enum note_kind kind, struct span prefix,
		     struct span after, struct arena *arena, struct queue_note_row *ret, size_t max,
		     size_t *ret_count);

/* ---- the store as a whole ----------------------------------------------------------------- */

/*
 * Checks every invariant of the tables (offline or on the port's snapshot); prints faults by
 * report(); 0 or -EBADMSG.
 */
int queue_check(struct queue *queue, void (*report)(void *arg, const char *fault), void *arg);
/*
 * Reads what is left of a damaged data file, page by page (raw_scan.h), without the lock, and
 * writes nothing. In the order of ids.
 */
struct queue_salvaged {
	struct queue_message message;
	struct span content;		/* header and body */
	/* it, or some of its recipients, may be delivered already */
	bool doubtful;
	bool lost;			/* its content is damaged: there is none */
};
struct queue_salvage_facts {
	/* the last commit was found by its content: what it settled may be undone */
	bool guessed;
	uint64_t expected;		/* messages that the store counts; 0: not known */
	uint64_t messages;		/* salvaged; doubtful, of these */
	uint64_t doubtful, lost;
};
int queue_salvage(const char *path,
		  int (*message)(void *arg, const struct queue_salvaged *salvaged), void *arg,
		  struct queue_salvage_facts *ret, char error[QUEUE_ERROR_MAX]);

#endif
