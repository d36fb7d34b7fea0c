/*
 * writer: what the files of this folder share about the writer thread. Read in this order: the
 * states in README.md, then `struct batch` here, message.c (what happens to a message), lane.c
 * (what happens to lanes and sites), writer.c.
 */
#ifndef TRAM_QUEUE_WRITER_H
#define TRAM_QUEUE_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "mta/base/list.h"
#include "mta/base/map.h"
#include "queue/key.h"
#include "queue/queue.h"
#include "queue/store.h"

enum op_kind {
	OP_ACCEPT,
	OP_CHUNK,
	OP_DRAFT_END,
	OP_REPORT,
	OP_SETTLE,
	OP_TAKEN,
	OP_LANE,
	OP_SITE,
	OP_CURSORS,
	OP_EDIT,
	OP_NOTE
};
/*
 * What is taken first into a batch. The order within a class is kept, so a draft's chunks come
 * before its accept.
 */
enum op_class { CLASS_ACCEPT, CLASS_SETTLE, CLASS_BULK, CLASS_COUNT };

enum {
	BATCH_OPERATIONS = 1000, BATCH_OCTETS = 4 << 20,
	CHUNKS_WAKE = 1 << 20,		/* so many octets of chunks wake the writer */
	IDLE_MS = 10,			/* what nobody waits for goes after this */
	ARRIVALS_MAX = 65536,
	EDIT_SLICE = 500,
	ORPHANS_MAX = 256,
	CACHED_LANES = 4096, CACHED_SITES = 4096,
};

struct op_list {
	struct queue_op *first, *last;
	size_t count;
};

struct arrivals {
	struct queue_arrival *at;
	size_t count, cap;
	size_t kept;			/* of a batch: those of transactions that were committed */
	bool overflow;
};

struct queue_port {
	struct queue *queue;
	struct list node;		/* in queue->ports */
	void (*wake)(void *arg);
	void *arg;
	struct txn reader;
	/* its own thread's */
	struct op_list gathered[CLASS_COUNT];
	bool urgent;
	size_t gathered_chunks;		/* octets */
	size_t outstanding;
	void (*on_arrivals)(void *arg, const struct queue_arrival *arrivals, size_t count,
			    bool overflow);
	void *arrivals_arg;
	/* under queue->lock */
	struct op_list done;
	struct arrivals arrivals;
	bool waking;			/* the writer is about to call wake() */
	struct queue_port *next_wake;
	/* the writer's */
	struct op_list finished;
};

/*
 * A message being received. The port's thread owns it until it was submitted, then the writer,
 * until it is done.
 */
struct draft {
	struct draft_config config;
	struct queue_op end;		/* deletes its chunks */
	char *at;			/* what was not handed over yet: len of cap octets */
	size_t len, cap;
	uint64_t size;
	uint32_t chunks;		/* handed over */
	unsigned waiting;		/* of them not stored yet */
	uint32_t *crcs;
	int error;			/* a chunk failed: seen by the port's thread */
	int failed;			/* the same, seen by the writer */
};

struct draft_chunk {
	struct queue_op op;
	struct draft *draft;
	char *at;
	size_t len;
	uint32_t n;			/* of the body record: from 1 */
};

struct taken_op {
	struct queue_op op;
	size_t count;
	uint64_t ids[];
};

/*
 * Lanes and sites that the writer used lately; those changed in the batch that is being built
 * are dirty.
 */
struct lane_node {
	struct map_node by_id, by_hash;
	struct list lru, dirty;
	uint64_t id;
	struct lane_record record;
	char *text;			/* of the back-off */
	char names[];
};

struct site_node {
	struct map_node by_id;
	struct list lru, dirty;
	uint64_t id;
	struct site_record record;
	char *texts;			/* of its state */
	char key[];
};

/*
 * Messages handed to deliveries: one row for each batch of the writer, gone when all of it is
 * settled.
 */
struct taken_batch {
	uint64_t number;
	size_t left, settling;
};

struct taken_id {
	struct map_node by_id;
	struct taken_batch *batch;
	struct taken_id *next_new, *next_settling;
	bool settling;
};

/* The transaction that is being built; all of it is undone by batch_abort(). */
struct batch {
	struct queue *queue;
	struct txn txn;
	struct meta_record meta;
	struct arena arena;
	struct buf record;		/* scratch */
	int64_t now_ms;
	unsigned kinds;			/* bits of enum op_kind, for the crash points */
	struct list lanes, sites;	/* dirty */
	struct arrivals arrivals;
	struct taken_batch *taken;	/* those of this batch */
	struct taken_id *taken_new, *taken_settling;
};

struct queue {
	struct store *store;
	struct queue_config config;
	pthread_t thread;
	_Atomic uint64_t last_id;
	_Atomic uint64_t max_size, min_free;
	_Atomic uint64_t room;		/* octets that would be accepted now; 0: none */

	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t work, woken;	/* for the writer; for ports that close */
	struct list ports;
	struct queue_port *subscriber;
	struct op_list inbox[CLASS_COUNT];
	size_t inbox_chunks;		/* octets */
	bool urgent, deep, stopping;	/* deep: the writer sleeps without a time */
	int64_t oldest_ms;		/* monotonic: when the inbox was last empty */
	struct queue_facts facts;

	/* the writer's own */
	struct batch batch;
	struct meta_record meta;	/* as committed */
	struct map lanes_by_id, lanes_by_hash, sites_by_id, taken_by_id;
	struct list lanes_lru, sites_lru;
	struct taken_id *taken_free;
	uint64_t orphans[ORPHANS_MAX];	/* drafts whose chunks could not be deleted */
	size_t orphan_count;
	int64_t disk_at_ms, full_until_ms;
	uint64_t quota, disk_free, commits, operations;
	int64_t last_commit_us;
	bool poisoned, disk_ok;
};

/* ---- writer.c ---- */
void batch_begin(struct queue *queue, struct batch *b);
int batch_commit(struct batch *b);
int writer_start(struct queue *queue);
void writer_stop(struct queue *queue);		/* when all that waits is done */
void writer_refresh_room(struct queue *queue, bool always);
void op_push(struct op_list *list, struct queue_op *op);
struct queue_op *op_pop(struct op_list *list);
void op_splice(struct op_list *to, struct op_list *from);

void arrivals_add(struct arrivals *arrivals, const struct queue_arrival *arrival);

/* ---- message.c: what happens to a message; each returns the operation's result ---- */
int accept_apply(struct batch *b, struct queue_accept *a, bool exempt);	/* exempt: from the quota */
int chunk_apply(struct batch *b, struct draft_chunk *chunk);
void draft_delete(struct batch *b, uint64_t id);
int settle_apply(struct batch *b, struct queue_settle *s);
int report_apply(struct batch *b, struct queue_report *report);
/* what counts of one record of `message` or `body` for the quota */
uint64_t stored_cost(uint64_t octets);

/* A message in the transaction: which recipients are open is kept here until message_finish(). */
struct message_state {
	uint64_t id;
	struct message_record record;
	struct envelope envelope;	/* reverse_path; the rest only if whole */
	uint64_t *lanes;		/* only if whole */
	size_t cost;			/* of its own record */
	size_t recipients, open_count;
	bool *open;
	bool changed;
	int64_t owed_since_ms;		/* 0: not looked for yet; INT64_MAX: none is owed */
};
int message_load(struct batch *b, uint64_t id, bool whole, struct message_state *m);
/* Writes what changed; deletes the message when no recipient is open: true then. */
bool message_finish(struct batch *b, struct message_state *m);
void message_end_recipient(struct message_state *m, uint32_t recipient);
/*
 * The history of a recipient, or what it would be: where its entry is. m must be whole if there
 * is none.
 */
bool history_get(struct batch *b, const struct message_state *m, uint32_t recipient,
		 struct history_record *h);
void history_put(struct batch *b, uint64_t id, uint32_t recipient, const struct history_record *h);
void history_del(struct batch *b, uint64_t id, uint32_t recipient);
bool entry_del(struct batch *b, uint64_t lane, int64_t due_ms, uint64_t id, uint32_t recipient);
/* Also tells the subscriber, if tell is set. */
void entry_put(struct batch *b, struct lane_node *lane, int64_t due_ms, uint64_t id,
	       uint32_t recipient, bool tell);
void recipient_owe(struct batch *b, struct message_state *m, uint32_t recipient,
		   struct history_record *h, enum report_action action);
/* removes the timer if none is owed any more */
void recipient_unowe(struct batch *b, struct message_state *m);

/* ---- note.c ---- */
int note_apply(struct batch *b, const struct queue_note *note);
/* Would it be written? *octets: of those that are to be written before it, with this one added. */
int note_check(struct batch *b, const struct queue_note *note, uint64_t *octets);
void note_write(struct batch *b, const struct queue_note *note);

/* ---- edit.c ---- */
int edit_apply(struct batch *b, struct queue_edit *edit);

/* ---- lane.c ---- */
/* NULL: none, or the transaction failed */
struct lane_node *lane_get(struct batch *b, uint64_t id);
/* made if new; NULL: failed */
struct lane_node *lane_named(struct batch *b, const struct lane_name *name);
void lane_dirty(struct batch *b, struct lane_node *lane);
void lane_added(struct batch *b, struct lane_node *lane, int64_t due_ms);	/* an entry came */
void lane_removed(struct batch *b, struct lane_node *lane);			/* an entry went */
int lane_apply(struct batch *b, struct queue_lane_change *change);
int site_apply(struct batch *b, struct queue_site_change *change);
void lanes_write(struct batch *b);		/* the dirty ones, before the commit */
void lanes_keep(struct batch *b);		/* after it; forgets what was not used lately */
void lanes_drop(struct batch *b);		/* after an abort: the dirty ones are not true */
void lanes_forget(struct queue *queue);		/* all */

/* ---- lookup.c ---- */
bool lane_find_row(struct txn *txn, const struct lane_name *name, uint64_t *ret);
bool site_find_row(struct txn *txn, struct span key, uint64_t *ret);
/* INT64_MAX: none, or all are held */
int64_t first_due(struct txn *txn, uint64_t lane);
/*
 * The lanes asleep in a site that are due until then: tenant by tenant, each by due time. The first
 * one of a tenant that is due later counts for next_ms. Set all above cursor (from: key_id(site),
 * or behind which to go on), next_ms to INT64_MAX.
 */
struct asleep_walk {
	struct txn *txn;
	uint64_t site;
	int64_t until_ms;
	struct key from;
	struct cursor cursor;
	bool open;
	int64_t next_ms;
	size_t tenants;			/* met so far that have nothing more */
};
bool asleep_next(struct asleep_walk *walk, struct queue_asleep *ret);
void asleep_close(struct asleep_walk *walk);
int64_t first_asleep(struct txn *txn, uint64_t site);

/* ---- taken.c ---- */
void taken_apply(struct batch *b, const struct taken_op *op);
void taken_settled(struct batch *b, uint64_t id);
void taken_write(struct batch *b);
void taken_keep(struct batch *b);
void taken_drop(struct batch *b);
void taken_forget(struct queue *queue);

/* ---- read.c: also for check ---- */
int message_read_row(struct txn *txn, uint64_t id, struct arena *arena, struct queue_message *ret);
int content_read_row(struct txn *txn, const struct message_record *record, uint64_t offset,
		     size_t most, bool may_block, struct buf *out);

/* ---- recover.c: before the writer starts ---- */
int queue_recover(struct queue *queue, char error[QUEUE_ERROR_MAX]);

/*
 * ---- crash points: TRAM_CRASH_AT=name, or name:N for the N-th time; only where built with
 * -Dfaults=true ----
 */
#ifdef TRAM_FAULTS
void queue_crash_point(const char *name);
#else
static inline void
queue_crash_point(const char *name)
{
	(void)name;
}
#endif

#endif
