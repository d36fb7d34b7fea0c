/*
 * record: what is stored, and its form in octets (pure codec).
 *
 * A record is: version (1 octet), fields (length-prefixed, big-endian numbers), CRC-32C of all
 * before (4 octets). No octet from the wire is ever a delimiter. Decoding checks everything and
 * never trusts a length; decoded spans point into the arena (copied). A record of a newer
 * version is refused: -EPROTO; a damaged one: -EBADMSG. Version 2: a message with a user; 3: with a
 * priority or a time it is to be delivered by.
 */
#ifndef TRAM_QUEUE_RECORD_H
#define TRAM_QUEUE_RECORD_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/crc32c.h"
#include "mta/base/envelope.h"
#include "mta/base/reply.h"

enum {
	QUEUE_FORMAT = 2,			/* of the store as a whole, in meta */
	/* 16 pages less LMDB's page header: measured, see README.md */
	QUEUE_CHUNK = 65520,
	HISTORY_FIRST = 3, HISTORY_LAST = 10,	/* attempts kept */
};

/* A recipient on hold keeps its entry, at the end of its lane: found by its domain, never due. */
#define DUE_HELD INT64_MAX

/*
 * As stored: these two, which are older than MT-PRIORITY; or PRIORITY_MT + the sender's priority
 * (RFC 6710: -9 to 9, 0 is NORMAL).
 */
enum lane_priority { PRIORITY_NORMAL = 0, PRIORITY_REPORT = 1, PRIORITY_MT = 16 };
enum { PRIORITY_MT_MAX = 9 };

static inline uint8_t
priority_of_mt(int mt)
{
	return mt == 0 ? PRIORITY_NORMAL : (uint8_t)(PRIORITY_MT + mt);
}

/* Of a report, and of what a later tram may have stored: 0. */
static inline int
priority_mt(uint8_t stored)
{
	int mt = (int)stored - PRIORITY_MT;

	return mt >= -PRIORITY_MT_MAX && mt <= PRIORITY_MT_MAX ? mt : 0;
}

/* What goes first: 0 (9) to 18 (-9), reports behind. */
static inline unsigned
priority_rank(uint8_t stored)
{
	if (stored == PRIORITY_REPORT)
		return 2 * PRIORITY_MT_MAX + 1;
	return (unsigned)(PRIORITY_MT_MAX - priority_mt(stored));
}

struct lane_name {			/* known at RCPT; never changes */
	struct span tenant;		/* empty: none */
	struct span domain;		/* of the recipient, lower case */
	/* the route's label, "*" or "example.org": policy/route.h */
	struct span route;
	struct span pool;		/* source pool; empty: default */
	uint8_t priority;		/* enum lane_priority, or of an MT-PRIORITY */
};

enum message_flags {
	MESSAGE_REPORT = 1,		/* a bounce or notice of ours */
	MESSAGE_8BIT = 2,		/* content has octets above 127 */
	MESSAGE_HEADER_UTF8 = 4,	/* the header has them */
	MESSAGE_IMPORTED = 8,
	MESSAGE_REQUIRETLS = 16,	/* MAIL had it (RFC 8689 §2) */
	MESSAGE_TLS_REPORT = 32,	/* ours, of RFC 8460: its own sessions are not counted */
	MESSAGE_RELEASED = 128,		/* due_ms is when its sender wanted it to go (RFC 4865) */
	MESSAGE_TLS_OPTIONAL = 64,	/* the header has TLS-Required: No (RFC 8689 §3) */
};

struct message_record {
	uint64_t id, body;		/* body: id of the body records */
	int64_t arrival_ms;
	int64_t due_ms;			/* first due: the key of an entry that has no history yet */
	int64_t by_ms;			/* RFC 2852; 0: none. In version 3 only */
	uint8_t by_mode;		/* enum by_mode */
	uint32_t flags;
	uint64_t header_size, body_size;
	struct span client;		/* facts kept for the operator */
	/* who handed it in: its route may hang on that. Not by peek */
	struct span user;
	uint32_t *crcs;			/* CRC-32C of each body record, in their order */
	size_t crc_count;
};

struct backoff {
	int64_t next_ms;		/* wall time; 0: none */
	uint32_t failures;		/* in a row */
	struct span text;		/* why: the last reply or error, one line */
};

struct lane_record {
	struct lane_name name;
	uint64_t count;			/* entries */
	uint64_t site;			/* 0: unresolved */
	int64_t site_until_ms;		/* look up again then; 0: static */
	int64_t asleep_ms;		/* due time of its row in asleep; INT64_MAX: none */
	struct backoff backoff;
	bool hold;
};

struct site_state {
	struct backoff backoff;
	/* the last connection that failed */
	struct attempt_ref { int64_t at_ms; struct span host, text; } last;
	bool suspended;
	uint32_t concurrency;		/* reached before; a hint */
};

struct site_record {
	/* "static:smtp:[127.0.0.1]:2525", "mx:a.example,b.example" */
	struct span key;
	uint64_t lanes;			/* that lead here */
	int64_t wake_ms;		/* its row in wake; INT64_MAX: none */
	struct site_state state;
};

enum history_state { HISTORY_WAITING = 0, HISTORY_HELD = 1, HISTORY_OWED = 2 };
enum report_action {
	REPORT_NONE = 0,
	REPORT_FAILED,
	REPORT_RELAYED,
	REPORT_DELIVERED,
	REPORT_EXPANDED
};

struct attempt {			/* one of a recipient's own attempts */
	int64_t at_ms;
	struct span host;		/* name of the host spoken to; empty: none was reached */
	struct span address;		/* "192.0.2.1:25" */
	uint8_t stage;			/* enum smtp_stage, as a number */
	uint16_t code;			/* of the reply; 0: none came */
	struct status status;
	struct span text;		/* reply or error, one line, at most 1000 octets */
	/* of the connection; all empty: it had no TLS, or the record is of version 1 */
	struct span tls;		/* version, cipher, group, how verified */
	struct span tls_policy;		/* who asked for it: "dane" */
	bool tls_resumed;
	/* of ours, by its name; empty: the system's choice, or version 1 or 2 */
	struct span source;
};

struct history_record {
	uint8_t state;			/* enum history_state */
	bool uncertain, warned;
	uint64_t lane;
	/* the key of its entry; HELD: DUE_HELD; OWED: it has none */
	int64_t due_ms;
	int64_t owed_since_ms;		/* OWED */
	uint8_t action;			/* enum report_action */
	uint32_t attempt_count;		/* in all */
	struct attempt *attempts;	/* the first 3 and the last 10 */
	size_t kept;
};

struct meta_record {			/* of the store as a whole: written with each commit */
	uint64_t last_id;		/* no id up to here is used again */
	uint64_t messages, live_bytes;
	uint64_t next_lane, next_site, next_batch;
	uint64_t expiry_id, delay_id;	/* the two cursors that walk `message` */
	int64_t last_commit_ms;
	bool clean;			/* the last process stopped cleanly */
};

/* Encoding appends a whole record to out. Decoding: 0, -EPROTO, -EBADMSG. */
void message_record_encode(const struct message_record *r, const struct envelope *envelope,
			   const uint64_t *lanes, struct buf *out);
int message_record_decode(struct span octets, struct arena *arena, struct message_record *ret,
			  struct envelope *ret_envelope, uint64_t **ret_lanes);
/*
 * The same without recipients and CRCs, and without a copy: spans point into octets. For those
 * who settle.
 */
int message_record_peek(struct span octets, struct message_record *ret,
			struct span *ret_reverse_path, uint32_t *ret_recipients);
/* Lanes and sites only: with arena NULL nothing is copied, spans point into octets. */
void lane_record_encode(const struct lane_record *r, struct buf *out);
int lane_record_decode(struct span octets, struct arena *arena, struct lane_record *ret);
void site_record_encode(const struct site_record *r, struct buf *out);
int site_record_decode(struct span octets, struct arena *arena, struct site_record *ret);
void history_record_encode(const struct history_record *r, struct buf *out);
int history_record_decode(struct span octets, struct arena *arena, struct history_record *ret);
void meta_record_encode(const struct meta_record *r, struct buf *out);
int meta_record_decode(struct span octets, struct meta_record *ret);
/* Adds an attempt, dropping the middle ones. */
void history_add_attempt(struct history_record *r, const struct attempt *attempt,
			 struct arena *arena);

/* A note's value; decoded without a copy. */
void note_record_encode(struct span value, struct buf *out);
int note_record_decode(struct span octets, struct span *ret_value);

/* Open recipients of a message to several: a set of numbers below count. */
void left_encode(const bool *open, size_t count, struct buf *out);
int left_decode(struct span octets, size_t count, bool *open);
bool left_valid(struct span octets);	/* it is such a record, of whatever count */

/*
 * How many body records a message of these sizes has: one if both fit a chunk, else the header
 * and its chunks.
 */
uint64_t body_record_count(uint64_t header_size, uint64_t body_size);
/*
 * "example.org" → "org.example." (so that a domain and all below it are one range); and a hash
 * of the five names.
 */
void domain_reversed(struct span domain, struct buf *out);
void lane_name_hash(const struct lane_name *name, uint8_t ret[16]);
void site_key_hash(struct span key, uint8_t ret[16]);
/* Of a tenant's name, for where rows stand by tenant; 0: no tenant. Stored: it never changes. */
uint64_t tenant_mark(struct span tenant);
bool lane_name_eq(const struct lane_name *a, const struct lane_name *b);

#endif
