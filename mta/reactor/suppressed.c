/* suppressed: see suppressed.h. */
#include "mta/reactor/suppressed.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/reactor/reactor.h"

enum {
	PAGE = 200, SWEEP_MS = 3600 * 1000, SWEEP_STEP_MS = 10,
	ROW_OCTETS = 64,		/* that the store needs beside key and value, about */
};

struct suppressed {
	struct reactor *home;
	struct suppression_filter *filter;
	uint64_t count, octets;
	uv_timer_t timer;
	/* a sweep under way: where it goes on, and what it has found */
	struct buf after;
	uint64_t sweep_count, sweep_octets;
};

static bool
expired(const struct suppression *s)
{
	return s->until_ms != 0 && s->until_ms <= wall_ms();
}

/* ---- asking ------------------------------------------------------------------------------- */

static bool
find(const struct suppressed *s, struct queue_port *port, struct span key, struct arena *arena,
     struct suppression *ret)
{
	struct buf octets = { 0 };
	bool found;

	if (key.len > NOTE_KEY_MAX || !suppression_filter_may_hold(s->filter, key))
		return false;
	found = queue_read_note(port, NOTE_SUPPRESSION, key, &octets) == 0 &&
		suppression_decode(buf_span(&octets), arena, ret) == 0 && !expired(ret);
	buf_free(&octets);
	return found;
}

bool
suppressed_find(const struct suppressed *s, struct queue_port *port, struct span address,
		struct arena *arena, struct suppression *ret)
{
	struct span domain = address_domain_of(address), key;
	char room[SUPPRESSION_KEY_MAX];

	if (address.len >= sizeof(room) || domain.len == 0)
		return false;
	for (size_t i = 0; i < address.len; i++)
		room[i] = ascii_lower(address.at[i]);
	key = span_of(room, address.len);
	if (find(s, port, key, arena, ret))
		return true;
	/* "@" stands before the domain there, too */
	return find(s, port, span_skip(key, address.len - domain.len - 1), arena, ret);
}

struct reply
suppressed_reply(const struct suppression *found, struct arena *arena)
{
	struct reply reply = REPLY(550, 5, 1, 1, "");

	reply.text = arena_printf(
		arena, "no mail is sent to this address, it is on the list of suppressed ones (%s)",
		reply_class_name(found->class));
	return reply;
}

/* ---- changing ----------------------------------------------------------------------------- */

static uint64_t
row_octets(struct span key, size_t value)
{
	return key.len + value + ROW_OCTETS;
}

static void
on_noted(struct queue_op *op)
{
	struct suppressed_change *c = CONTAINER_OF(op, struct suppressed_change, note.op);

	c->result = op->result;
	buf_free(&c->value);
	c->done(c);
}

static void
submit(struct suppressed *s, struct suppressed_change *c)
{
	c->note = (struct queue_note){ .op = { .urgent = c->urgent, .done = on_noted },
				       .kind = NOTE_SUPPRESSION,
				       .key = c->key,
				       .value = buf_span(&c->value),
				       .remove = c->remove };
	queue_submit_note(s->home->port, &c->note);
}

int
suppressed_submit(struct suppressed *s, struct suppressed_change *c)
{
	struct buf old = { 0 };
	bool there = queue_read_note(s->home->port, NOTE_SUPPRESSION, c->key, &old) == 0;
	uint64_t gone = there ? row_octets(c->key, buf_len(&old)) : 0, more = 0;

	buf_free(&old);
	if (c->remove && !there)
		return -ENOENT;
	if (!c->remove) {
		suppression_encode(&c->entry, &c->value);
		more = row_octets(c->key, buf_len(&c->value));
	}
	gone = gone < s->octets ? gone : s->octets;
	if (s->octets - gone + more > SUPPRESSED_OCTETS_MAX) {
		buf_free(&c->value);
		return -ENOSPC;
	}
	s->octets += more - gone;
	s->count += !c->remove;
	s->count -= there && s->count > 0;
	if (!c->remove)		/* now, and not when it is on disk: a look in vain does no harm */
		suppression_filter_add(s->filter, c->key);
	submit(s, c);
	return 0;
}

struct own_change {
	struct suppressed_change change;
	struct arena arena;
};

static void
own_end(struct own_change *own, int result)
{
	if (result < 0)
		log_message(LOG_WARNING, "suppress",
			    "the list of suppressed addresses could not be changed: %s",
			    strerror(-result));
	arena_free(&own->arena);
	free(own);
}

static void
on_own_change(struct suppressed_change *change)
{
	own_end(CONTAINER_OF(change, struct own_change, change), change->result);
}

void
suppressed_add(struct suppressed *s, struct span address, const struct suppression *entry)
{
	struct own_change *own = xcalloc(1, sizeof(*own));
	int rc = -EINVAL;

	own->change.done = on_own_change;
	own->change.entry = *entry;
	own->change.entry.reason =
		arena_copy(&own->arena, span_first(entry->reason, SUPPRESSION_REASON_MAX));
	if (suppression_key(address, &own->arena, &own->change.key))
		rc = suppressed_submit(s, &own->change);
	if (rc < 0)
		own_end(own, rc);
}

/* Whatever its record says. */
static void
remove_row(struct suppressed *s, struct span key)
{
	struct own_change *own = xcalloc(1, sizeof(*own));

	own->change.done = on_own_change;
	own->change.remove = true;
	own->change.key = arena_copy(&own->arena, key);
	submit(s, &own->change);
}

uint64_t
suppressed_count(const struct suppressed *s)
{
	return s->count;
}

/* ---- the list as a whole ------------------------------------------------------------------ */

/* A page; what has expired goes. 0: there may be more, 1: that was all, or negative errno. */
static int
sweep_page(struct suppressed *s)
{
	struct queue_note_row rows[PAGE];
	struct arena arena = { 0 };
	size_t count = 0;
	int rc = queue_read_notes(s->home->port, NOTE_SUPPRESSION, SPAN(""), buf_span(&s->after),
				  &arena, rows, PAGE, &count);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct suppression entry;
		bool good =
			!rows[i].damaged && suppression_decode(rows[i].value, &arena, &entry) == 0;

		if (!good || expired(&entry)) {
			remove_row(s, rows[i].key);
			continue;
		}
		suppression_filter_add(s->filter, rows[i].key);
		s->sweep_count++;
		s->sweep_octets += row_octets(rows[i].key, rows[i].value.len);
	}
	buf_clear(&s->after);
	if (rc == 0 && count > 0)
		buf_append(&s->after, rows[count - 1].key);
	arena_free(&arena);
	return rc < 0 ? rc : count == 0;
}

static void
sweep_begin(struct suppressed *s)
{
	buf_clear(&s->after);
	s->sweep_count = s->sweep_octets = 0;
}

static void
on_timer(uv_timer_t *timer)
{
	struct suppressed *s = timer->data;
	int rc;

	if (buf_len(&s->after) == 0)
		sweep_begin(s);
	rc = sweep_page(s);
	if (rc == 1) {
		s->count = s->sweep_count;
		s->octets = s->sweep_octets;
	}
	uv_timer_start(timer, on_timer, rc == 0 ? SWEEP_STEP_MS : SWEEP_MS, 0);
}

int
suppressed_open(struct reactor *home, struct suppressed **ret)
{
	struct suppressed *s = xcalloc(1, sizeof(*s));
	uint64_t seed = 0;
	int rc;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		/* only so that nobody can choose which addresses are looked up in vain */
		seed = (uint64_t)mono_ms();
	s->home = home;
	s->filter = suppression_filter_new(seed);
	uv_timer_init(&home->loop, &s->timer);
	s->timer.data = s;
	sweep_begin(s);
	do
		rc = sweep_page(s);
	while (rc == 0);
	s->count = s->sweep_count;
	s->octets = s->sweep_octets;
	buf_clear(&s->after);
	uv_timer_start(&s->timer, on_timer, SWEEP_MS, 0);
	*ret = s;
	return rc < 0 ? rc : 0;
}

void
suppressed_close(struct suppressed *s)
{
	uv_close((uv_handle_t *)&s->timer, NULL);
}

void
suppressed_free(struct suppressed *s)
{
	if (s == NULL)
		return;
	suppression_filter_free(s->filter);
	buf_free(&s->after);
	free(s);
}
