/*
 * walk: the recipients in the queue that a request selects, one after another, in bounded
 * slices.
 *
 * The walk keeps keys, never a transaction, so it may be left and taken up at any time; what has
 * gone meanwhile is passed over, what came after it began is not met. By id and by sender it
 * goes through the index of messages; by domain through the lanes' entries and then through the
 * few messages whose report is owed; otherwise through all messages. State, age and error are
 * filters. Pure but for its reads: the daemon walks on its home loop, tramctl a queue that no
 * daemon has.
 */
#ifndef TRAM_CONTROL_WALK_H
#define TRAM_CONTROL_WALK_H

#include <jansson.h>

#include "mta/control/protocol.h"
#include "queue/queue.h"

/* Where the queue is, and who knows what is on its way. */
struct walk_source {
	struct queue_port *port;
	uint64_t below;			/* ids from here on are not met */
	/* what its delivery waits for; NULL: it has none. The function may be NULL, too */
	const char *(*in_flight)(void *arg, uint64_t id, uint32_t recipient);
	void *arg;
};

enum { WALK_PAGE = 128, WALK_WHOLE = UINT32_MAX };

enum walk_phase { WALK_IDS, WALK_SENDER, WALK_MESSAGES, WALK_DOMAIN, WALK_OWED, WALK_END };

struct walk {
	const struct control_request *filter;
	struct walk_source source;
	bool whole;			/* a row per message: no filter is about its recipients */
	int64_t now_ms;			/* when it began */
	enum walk_phase phase;
	struct span domain;		/* WALK_DOMAIN */
	/* a page of keys, and where it goes on */
	uint64_t ids[WALK_PAGE];
	struct queue_entry entries[WALK_PAGE];
	struct queue_owed owed[WALK_PAGE];
	size_t page_count, page_at;
	bool page_last;
	uint64_t after;
	struct queue_entry after_entry;
	struct queue_owed after_owed;
	/* the message it is in */
	uint64_t loaded;		/* 0: none */
	struct arena message_arena, row_arena;
	struct queue_message message;
	uint32_t recipient, recipient_end;	/* still to be looked at */
	/*
	 * what the lane and site of the last row said, for rows that never had an attempt of their
	 * own
	 */
	uint64_t trouble_lane;
	struct buf trouble;
	int64_t trouble_until_ms;	/* its back-off; 0: none */
};

struct walk_row {			/* good until the next call */
	uint64_t id;
	const struct queue_message *message;
	uint32_t recipient;		/* WALK_WHOLE: all of it */
	struct history_record history;	/* as good as one: made up if it has none yet */
	uint64_t state;			/* enum control_state */
	const char *in_flight;		/* what its delivery waits for; NULL: none */
	struct span error;		/* the last one, its own or its way's; may be empty */
	/* when it can go at the earliest: its due time, or its way's back-off */
	int64_t next_ms;
};

enum walk_result { WALK_ROW, WALK_MISSING, WALK_PAUSE, WALK_DONE, WALK_ERROR };

enum walk_flags {
	/* a row per message will do where no filter is about its recipients */
	WALK_WHOLE_OK = 1,
	WALK_BY_MESSAGE = 2,		/* all rows of a message come together */
};
void walk_init(struct walk *walk, const struct walk_source *source,
	       const struct control_request *filter, unsigned flags);
/*
 * WALK_ROW; WALK_MISSING: row->id was asked for and is not there; WALK_PAUSE: *budget is used
 * up, go on later; WALK_ERROR: *error is the errno.
 */
enum walk_result walk_next(struct walk *walk, size_t *budget, struct walk_row *row, int *error);
void walk_free(struct walk *walk);

/*
 * {"id", "sender", "size", "arrival_ms", "recipient", "number", "state", "due_ms", "next_ms",
 * "error" …}
 */
json_t *walk_row_json(const struct walk_row *row);
json_t *walk_attempt_json(const struct attempt *attempt);
json_t *walk_attempts_json(const struct history_record *history);
json_t *walk_message_json(uint64_t id, const struct queue_message *message);
/*
 * For export: {"recipient": {"address", "orcpt", "notify", "state", "due_ms", "tenant", "pool",
 * "priority", "attempts", "tries" …}}. lane: that of its history; NULL: not known.
 */
json_t *walk_recipient_json(const struct recipient *recipient,
			    const struct history_record *history, const struct lane_name *lane);
/* The same, of a row that was just met. */
json_t *walk_exported_json(const struct walk *walk, const struct walk_row *row);

#endif
