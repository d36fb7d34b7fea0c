/*
 * tls_reports_private: what the files of tls_reports share. Home loop only.
 *
 *	tls_reports.c		counting, writing
 *	tls_reports_send.c	which days are over; a record looked up; the report as mail
 *	tls_reports_post.c	reports by HTTPS
 *	tls_reports_view.c	what the operator sees
 *
 * Keys of the notes: 'c', day, domain: counters. 'p', day, report, number: to be posted.
 */
#ifndef TRAM_TLS_REPORTS_PRIVATE_H
#define TRAM_TLS_REPORTS_PRIVATE_H

#include "mta/base/list.h"
#include "mta/base/log.h"
#include "mta/base/map.h"
#include "mta/assurance/tls_reports.h"

enum {
	KEY_COUNTERS = 'c', KEY_POST = 'p',
	KEY_DOMAIN_AT = 5,		/* behind kind and day */
	REPORTS_AT_ONCE = 8,
};
#define DAY_MS INT64_C(86400000)
#define REPORT_GIVE_UP_MS INT64_C(86400000)	/* after the moment it was due, or first tried */

struct tls_reports {
	struct reactor *home;
	struct policies *policies;
	void (*rest)(void *arg);
	void *arg;
	bool stopping;

	/* tls_reports.c */
	uv_timer_t flush_timer;
	struct map days;		/* of struct counted */
	struct list order, flushing;	/* of the same; flushing: being written */
	size_t octets;			/* of those in order */
	size_t writing;			/* notes with the queue */
	uint64_t stored;		/* octets of the notes, roughly */
	uint64_t dropped;		/* sessions that found no room, since it was last said */
	/* for the next flush to end; for the one that goes on */
	struct tls_reports_wait *waiting, *served;

	/* tls_reports_send.c */
	uv_timer_t walk_timer;
	struct buf cursor;		/* the walk: the key of the last note seen */
	int64_t next_ms;		/* wall time: the next walk has something to do then */
	uint64_t walked;		/* octets of the notes seen in this walk */
	bool walking, forced;		/* forced: whatever the time */
	bool posts_new;			/* a report was made that is to be posted: */
	bool second;			/* the walk goes through these again */
	struct tls_reports_wait flushed;	/* before a forced walk: */
	bool flushing_first;
	struct list making;		/* of struct making and struct posting */
	size_t making_count;
	struct tls_reports_wait *forcing, *sending;
	uint64_t sent, unwanted, later;	/* of the forced walk */
};

/* What is being worked on, by its key: not begun twice. */
struct at_work {
	struct list node;
	struct tls_reports *r;
	struct span key;
	void (*cancel)(struct at_work *work);	/* frees it, unless it is with the queue */
};

static inline const struct config *
reports_config(const struct tls_reports *r)
{
	return r->home->config;
}

/* tls_reports.c */
void reports_flush(struct tls_reports *r);
void reports_put_day(struct buf *key, char kind, uint32_t day);
uint32_t reports_key_day(struct span key);

/* tls_reports_send.c */
void walk_start(struct tls_reports *r);
void walk_stop(struct tls_reports *r);
void walk_soon(struct tls_reports *r);		/* forced */
void walk_again_by(struct tls_reports *r, int64_t wall_ms);
void work_begin(struct at_work *work, struct tls_reports *r, struct span key,
		void (*cancel)(struct at_work *work));
void work_end(struct at_work *work);		/* the walk may go on */
void reports_log(enum log_level level, const struct tlsrpt_day *day, struct span to,
		 const char *outcome, struct span why);
void note_remove(struct tls_reports *r, struct span key);

/* tls_reports_post.c */
void post_encode(struct span url, struct span report_id, int64_t now_ms,
		 const struct tlsrpt_day *day, struct buf *value);
void post_begin(struct tls_reports *r, struct span key, struct span value, int64_t now_ms);

#endif
