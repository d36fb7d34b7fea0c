/*
 * tls_reports: how TLS went, counted by domain and day (policy/tlsrpt.h), kept in the store, and
 * told to those who want to know (RFC 8460). Home loop only, but for tls_reports_tell().
 *
 * What is counted gathers in memory and is written once a minute, and at a stop, as one note for
 * each domain and day: a crash loses what came since. All is bounded: memory (4 MB, then it is
 * written at once), the notes (16 MB), reports under way, how long one is tried. Who wants no
 * reports is found out when the day is over, and what was counted of him is dropped.
 *
 * A report by mail is queued in the transaction that removes its counters: it is made once. One by
 * HTTPS is a note of its own until the other side has taken it, or a day has passed: a crash
 * between its answer and our commit sends it again, under the same report-id.
 */
#ifndef TRAM_TLS_REPORTS_H
#define TRAM_TLS_REPORTS_H

#include <jansson.h>

#include "mta/reactor/reactor.h"
#include "policy/tlsrpt.h"

struct policies;
struct tls_reports;

bool tls_reports_wanted(const struct config *config);
/* rest(arg): what kept tls_reports_busy() true is over. */
struct tls_reports *tls_reports_start(struct reactor *home, struct policies *policies,
				      void (*rest)(void *arg), void *arg);
/*
 * Counts a session of this domain (any form of its name), today. From any reactor: its post, and
 * the home's. Copied.
 */
void tls_reports_tell(struct tls_reports *r, struct post *from, struct post *home,
		      struct span domain, const struct tlsrpt_event *event);

/* Begins nothing more, and writes what is counted; may be called again. */
void tls_reports_stop(struct tls_reports *r);
bool tls_reports_busy(const struct tls_reports *r);	/* something is with the queue */
/* The handles; before the resolver and https close. */
void tls_reports_close(struct tls_reports *r);
void tls_reports_free(struct tls_reports *r);

/*
 * What the operator asks for: done is called once, on this loop, at once or later. FLUSH: what is
 * counted is in the store. SEND: all of it, today's too, has been reported, or could not be.
 */
enum tls_reports_wish { TLS_REPORTS_FLUSH, TLS_REPORTS_SEND };
struct tls_reports_wait {
	void (*done)(struct tls_reports_wait *wait);
	struct tls_reports_wait *next;
	/* SEND, set: reports handed over; domains without a record; left for later */
	uint64_t sent, unwanted, later;
};
void tls_reports_ask(struct tls_reports *r, enum tls_reports_wish wish,
		     struct tls_reports_wait *wait);

/*
 * The counters and reports of one note as rows for the operator, appended to the array. after:
 * the key of the note before, as the last call left it; false: there are no more.
 */
bool tls_reports_rows(struct tls_reports *r, struct buf *after, json_t *array);

#endif
