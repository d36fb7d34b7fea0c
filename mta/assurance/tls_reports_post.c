/*
 * tls_reports_post: reports by HTTPS (RFC 8460 §5.4); see tls_reports.h. Home loop only. Each is a
 * note from the moment its counters went until it was taken, or a day has passed: when it is tried
 * again stands in it, so that a restart neither forgets nor hurries.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/https/https.h"
#include "mta/assurance/tls_reports_private.h"
#include "mta/tlsrpt/tlsrpt_report.h"

enum {
	TIMEOUT_MS = 60000,
	FIRST_MS = 300000, MOST_MS = 3600000,	/* between tries: doubled each time */
	WHY_MAX = 200,
};

struct posting {			/* in its arena */
	struct at_work work;
	struct arena arena;
	struct tlsrpt_post note;
	struct https_call *call;
	struct queue_note change;
	struct buf value;
};

/* The note: this day to be posted there. */
void
post_encode(struct span url, struct span report_id, int64_t now_ms, const struct tlsrpt_day *day,
	    struct buf *value)
{
	const struct tlsrpt_post post = { .begun_ms = now_ms, .next_ms = now_ms, .url = url,
					  .report_id = report_id, .day = *day };

	tlsrpt_post_encode(&post, value);
}

/* ---- one request -------------------------------------------------------------------------- */

static void
posting_end(struct posting *p)
{
	struct arena arena;

	https_cancel(p->call);
	work_end(&p->work);
	buf_free(&p->value);
	arena = p->arena;
	arena_free(&arena);
}

static void
posting_cancel(struct at_work *work)
{
	struct posting *p = CONTAINER_OF(work, struct posting, work);

	if (p->change.op.done == NULL)
		posting_end(p);
}

static void
on_changed(struct queue_op *op)
{
	posting_end(CONTAINER_OF(op, struct posting, change.op));
}

static void
posting_change(struct posting *p, bool remove)
{
	p->change = (struct queue_note){ .op.done = on_changed,
					 .kind = NOTE_TLS_REPORT,
					 .key = p->work.key,
					 .remove = remove };
	if (!remove) {
		tlsrpt_post_encode(&p->note, &p->value);
		p->change.value = buf_span(&p->value);
	}
	queue_submit_note(p->work.r->home->port, &p->change);
}

static void
posting_failed(struct posting *p, struct span why)
{
	const int64_t now = wall_ms();
	const int64_t doubled = (int64_t)FIRST_MS << (p->note.tries < 8 ? p->note.tries : 8);
	const bool over = now > p->note.begun_ms + REPORT_GIVE_UP_MS;

	p->note.tries++;
	p->note.next_ms = now + (doubled < MOST_MS ? doubled : MOST_MS);
	p->work.r->later += !over;
	reports_log(over ? LOG_WARNING : LOG_INFO, &p->note.day, p->note.url,
		    over ? "dropped" : "later", why);
	if (!over)
		walk_again_by(p->work.r, p->note.next_ms);
	posting_change(p, over);
}

static void
on_answer(void *arg, const struct https_answer *answer)
{
	struct posting *p = arg;
	char text[32];

	p->call = NULL;
	snprintf(text, sizeof(text), "status %u", answer->status);
	if (answer->failure != HTTPS_ANSWERED) {
		posting_failed(p, span_first(answer->why, WHY_MAX));
	} else if (answer->status < 200 || answer->status > 299) {
		posting_failed(p, span_str(text));
	} else {
		p->work.r->sent++;
		reports_log(LOG_INFO, &p->note.day, p->note.url, "posted", span_str(text));
		posting_change(p, true);
	}
}

static void
posting_ask(struct posting *p)
{
	const struct config *config = reports_config(p->work.r);
	const struct tlsrpt_facts facts = {
		.day = &p->note.day,
		.organization = config->tls_reports.organization,
		.hostname = config->hostname,
		.contact = config->tls_reports.contact,
		.report_id = p->note.report_id,
		.now_ms = wall_ms(),
	};
	struct https_request request = { .method = HTTPS_POST,
					 .url = p->note.url,
					 .content_type = SPAN("application/tlsrpt+gzip"),
					 .timeout_ms = TIMEOUT_MS,
					 .done = on_answer,
					 .arg = p };
	struct buf json = { 0 }, gzipped = { 0 };

	tlsrpt_json(&facts, &json);
	if (tlsrpt_gzip(buf_span(&json), &gzipped) == 0) {
		request.body = buf_span(&gzipped);
		p->call = https_request(p->work.r->home->https, &request);
	} else {
		posting_failed(p, SPAN("it could not be compressed"));
	}
	buf_free(&json);
	buf_free(&gzipped);
}

void
post_begin(struct tls_reports *r, struct span key, struct span value, int64_t now_ms)
{
	struct arena arena = { 0 };
	struct posting *p = arena_alloc(&arena, sizeof(*p));
	int rc;

	p->arena = arena;
	rc = tlsrpt_post_decode(value, &p->arena, &p->note);
	if (rc < 0 || !tls_reports_wanted(reports_config(r)) ||
	    ((!r->forced || r->second) && now_ms < p->note.next_ms)) {
		if (rc < 0 || now_ms > p->note.begun_ms + 2 * REPORT_GIVE_UP_MS)
			note_remove(r, key);
		else
			walk_again_by(r, p->note.next_ms > now_ms ? p->note.next_ms
								  : now_ms + FIRST_MS);
		arena = p->arena;
		arena_free(&arena);
		return;
	}
	work_begin(&p->work, r, arena_copy(&p->arena, key), posting_cancel);
	posting_ask(p);
}
