/* walk: see walk.h. */
#include "mta/control/walk.h"

#include <errno.h>

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/control/text.h"

void
walk_init(struct walk *w, const struct walk_source *source, const struct control_request *filter,
	  unsigned flags)
{
	*w = (struct walk){ .filter = filter, .source = *source, .now_ms = wall_ms() };
	w->whole = (flags & WALK_WHOLE_OK) != 0 && filter->domain.len == 0 &&
		   filter->recipient.len == 0 && filter->error.len == 0 &&
		   filter->state == CONTROL_STATE_ANY;
	w->domain =
		filter->recipient.len > 0 ? address_domain_of(filter->recipient) : filter->domain;
	if (filter->id_count > 0)
		w->phase = WALK_IDS;
	else if (filter->sender.len > 0 && !span_eq(filter->sender, SPAN("<>")))
		w->phase = WALK_SENDER;
	else if (w->domain.len > 0 && (flags & WALK_BY_MESSAGE) == 0)
		w->phase = filter->state == CONTROL_OWED ? WALK_OWED : WALK_DOMAIN;
	else if (filter->state == CONTROL_OWED)
		w->phase = WALK_OWED;
	else
		w->phase = WALK_MESSAGES;
	/* ids are never older than what they name */
	if (filter->newer_ms > 0 && w->phase == WALK_MESSAGES)
		w->after = id_at(w->now_ms - (int64_t)filter->newer_ms - 1);
}

void
walk_free(struct walk *w)
{
	arena_free(&w->message_arena);
	arena_free(&w->row_arena);
	buf_free(&w->trouble);
}

/* ---- pages -------------------------------------------------------------------------------- */

static int
next_page(struct walk *w)
{
	struct queue_port *port = w->source.port;
	const struct control_request *f = w->filter;
	int rc = 0;

	w->page_at = w->page_count = 0;
	switch (w->phase) {
	case WALK_IDS:
		while (w->page_count < WALK_PAGE && w->after < f->id_count)
			w->ids[w->page_count++] = f->ids[w->after++];
		break;
	case WALK_SENDER:
		rc = queue_walk_sender(port, f->sender, w->after, w->ids, WALK_PAGE,
				       &w->page_count);
		break;
	case WALK_MESSAGES:
		rc = queue_walk_messages(port, w->after, w->source.below, w->ids, WALK_PAGE,
					 &w->page_count);
		break;
	case WALK_DOMAIN:
		rc = queue_walk_recipient_domain(port, w->domain, f->recipient.len == 0,
						 &w->after_entry, w->entries, WALK_PAGE,
						 &w->page_count);
		break;
	case WALK_OWED:
		rc = queue_read_owed(port, &w->after_owed, w->owed, WALK_PAGE, &w->page_count);
		break;
	case WALK_END:
		break;
	}
	w->page_last = w->page_count < WALK_PAGE;
	if (w->page_count > 0 && (w->phase == WALK_SENDER || w->phase == WALK_MESSAGES))
		w->after = w->ids[w->page_count - 1];
	if (w->page_count > 0 && w->phase == WALK_DOMAIN)
		w->after_entry = w->entries[w->page_count - 1];
	if (w->page_count > 0 && w->phase == WALK_OWED)
		w->after_owed = w->owed[w->page_count - 1];
	return rc;
}

/* The next key; false at the end of the phase. */
static bool
next_key(struct walk *w, uint64_t *id, uint32_t *recipient, int *error)
{
	*error = 0;
	if (w->page_at == w->page_count) {
		if (w->page_last)
			return false;
		*error = next_page(w);
		if (*error < 0 || w->page_count == 0)
			return false;
	}
	*recipient = WALK_WHOLE;
	if (w->phase == WALK_DOMAIN) {
		*id = w->entries[w->page_at].id;
		*recipient = w->entries[w->page_at].recipient;
	} else if (w->phase == WALK_OWED) {
		*id = w->owed[w->page_at].id;
	} else {
		*id = w->ids[w->page_at];
	}
	w->page_at++;
	return true;
}

/* By domain, the waiting and the held are met first, then those whose report is owed. */
static void
next_phase(struct walk *w)
{
	bool owed_too = w->phase == WALK_DOMAIN && w->filter->state == CONTROL_STATE_ANY;

	w->phase = owed_too ? WALK_OWED : WALK_END;
	w->page_count = w->page_at = 0;
	w->page_last = w->phase == WALK_END;
}

static int
load(struct walk *w, uint64_t id)
{
	int rc;

	if (w->loaded == id)
		return 0;
	arena_free(&w->message_arena);
	w->loaded = 0;
	rc = queue_read_message(w->source.port, id, &w->message_arena, &w->message);
	if (rc == 0)
		w->loaded = id;
	return rc;
}

/* ---- filters ------------------------------------------------------------------------------ */

static bool
contains(struct span text, struct span part)
{
	for (; text.len >= part.len; text = span_skip(text, 1))
		if (span_istarts(text, part))
			return true;
	return false;
}

/* It, or one below it. */
static bool
domain_matches(struct span domain, struct span wanted)
{
	if (span_ieq(domain, wanted))
		return true;
	return domain.len > wanted.len && domain.at[domain.len - wanted.len - 1] == '.' &&
	       span_ieq(span_skip(domain, domain.len - wanted.len), wanted);
}

static bool
sender_matches(struct span sender, struct span wanted)
{
	if (span_eq(wanted, SPAN("<>")))
		return sender.len == 0;
	if (span_find(wanted, '@') != NULL)
		return span_ieq(sender, wanted);
	return domain_matches(address_domain_of(sender), wanted);
}

static bool
message_matches(const struct walk *w, uint64_t id)
{
	const struct control_request *f = w->filter;
	int64_t age = w->now_ms - w->message.record.arrival_ms;

	if (w->phase != WALK_IDS && id >= w->source.below)
		return false;
	if (f->older_ms > 0 && age < (int64_t)f->older_ms)
		return false;
	if (f->newer_ms > 0 && age > (int64_t)f->newer_ms)
		return false;
	return f->sender.len == 0 || sender_matches(w->message.envelope.reverse_path, f->sender);
}

/* ---- one row ------------------------------------------------------------------------------ */

/* Why nothing goes this way, and until when. Kept for the lane of the last row. */
static void
learn_trouble(struct walk *w, uint64_t lane)
{
	struct lane_record record;
	struct site_record site;
	const struct backoff *b = NULL;

	if (lane == w->trouble_lane)
		return;
	buf_clear(&w->trouble);
	w->trouble_lane = lane;
	w->trouble_until_ms = 0;
	if (queue_read_lane(w->source.port, lane, &w->row_arena, &record) < 0)
		return;
	if (record.backoff.failures > 0)
		b = &record.backoff;
	else if (record.site != 0 &&
		 queue_read_site(w->source.port, record.site, &w->row_arena, &site) == 0 &&
		 site.state.backoff.failures > 0)
		b = &site.state.backoff;
	if (b == NULL)
		return;
	buf_append(&w->trouble, b->text);
	w->trouble_until_ms = b->next_ms;
}

static struct span
own_error(struct walk *w, const struct attempt *a)
{
	struct buf line = { 0 };
	struct span ret;

	if (a->code > 0)
		reply_to_line(&(struct reply){ a->code, a->status, a->text }, &line);
	else
		buf_append(&line, a->text);
	ret = arena_copy(&w->row_arena, buf_span(&line));
	buf_free(&line);
	return ret;
}

static int
fill_row(struct walk *w, uint32_t recipient, struct walk_row *row)
{
	struct history_record *h = &row->history;
	int rc = queue_read_history(w->source.port, w->loaded, recipient, &w->row_arena, h);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == -ENOENT)
		*h = (struct history_record){ .lane = w->message.lanes[recipient],
					      .due_ms = w->message.record.due_ms };
	row->recipient = recipient;
	if (w->source.in_flight != NULL)
		row->in_flight = w->source.in_flight(w->source.arg, w->loaded, recipient);
	row->state = h->state == HISTORY_HELD ? CONTROL_HELD
		     : h->state == HISTORY_OWED ? CONTROL_OWED
		     : row->in_flight != NULL ? CONTROL_IN_FLIGHT : CONTROL_WAITING;
	learn_trouble(w, h->lane);
	row->error = h->kept > 0 ? own_error(w, &h->attempts[h->kept - 1]) : buf_span(&w->trouble);
	row->next_ms = w->trouble_until_ms > h->due_ms ? w->trouble_until_ms : h->due_ms;
	return 0;
}

static bool
row_matches(const struct walk *w, const struct walk_row *row)
{
	const struct control_request *f = w->filter;
	struct span address = w->message.envelope.recipients[row->recipient].address;

	if (f->state != CONTROL_STATE_ANY && row->state != f->state)
		return false;
	/* was met before, by its domain */
	if (w->phase == WALK_OWED && row->state != CONTROL_OWED)
		return false;
	if (f->recipient.len > 0 && !span_ieq(address, f->recipient))
		return false;
	if (f->domain.len > 0 && !domain_matches(address_domain_of(address), f->domain))
		return false;
	return f->error.len == 0 || contains(row->error, f->error);
}

/* One recipient of the loaded message: 1 if it is wanted, 0 if not, or negative errno. */
static int
look_at(struct walk *w, uint32_t recipient, struct walk_row *row)
{
	int rc;

	*row = (struct walk_row){ .id = w->loaded, .message = &w->message };
	if (recipient >= w->message.envelope.recipient_count || !w->message.open[recipient])
		return 0;
	arena_free(&w->row_arena);
	rc = fill_row(w, recipient, row);
	if (rc < 0)
		return rc;
	return row_matches(w, row);
}

/*
 * Loads the next message: WALK_PAUSE means only that there was one, which may have been passed
 * over.
 */
static enum walk_result
next_message(struct walk *w, struct walk_row *row, int *error)
{
	uint32_t only;
	uint64_t id;

	if (!next_key(w, &id, &only, error)) {
		if (*error < 0)
			return WALK_ERROR;
		next_phase(w);
		return w->phase == WALK_END ? WALK_DONE : WALK_PAUSE;
	}
	*row = (struct walk_row){ .id = id, .message = &w->message, .recipient = WALK_WHOLE };
	*error = load(w, id);
	if (*error == -ENOENT)
		return w->phase == WALK_IDS ? WALK_MISSING : WALK_PAUSE;
	if (*error < 0)
		return WALK_ERROR;
	if (!message_matches(w, id))
		return WALK_PAUSE;
	if (w->whole)
		return WALK_ROW;
	w->recipient = only == WALK_WHOLE ? 0 : only;
	w->recipient_end =
		only == WALK_WHOLE ? (uint32_t)w->message.envelope.recipient_count : only + 1;
	return WALK_PAUSE;
}

enum walk_result
walk_next(struct walk *w, size_t *budget, struct walk_row *row, int *error)
{
	enum walk_result result = WALK_PAUSE;

	while (*budget > 0 && result == WALK_PAUSE) {
		--*budget;
		if (w->recipient < w->recipient_end) {
			*error = look_at(w, w->recipient++, row);
			result = *error < 0 ? WALK_ERROR : *error > 0 ? WALK_ROW : WALK_PAUSE;
		} else {
			result = next_message(w, row, error);
		}
	}
	return result;
}
