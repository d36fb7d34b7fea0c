/* returns: see returns.h. */
#include "mta/reactor/returns.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/reactor/reactor.h"

enum {
	PAGE = 200, SWEEP_MS = 3600 * 1000, SWEEP_STEP_MS = 10,
	ROW_OCTETS = 64,		/* that the store needs beside key and value, about */
	/* of the records of one message: 100,000 recipients, and some */
	MESSAGE_PAGES = 600,
};

struct returns {
	struct reactor *home;
	uint8_t key[VERP_KEY];
	struct returns_facts facts;
	struct map tenants;
	uv_timer_t timer;
	bool pruning;
	/* a sweep under way: where it goes on, and what it has found */
	struct buf after;
	uint64_t sweep_count, sweep_octets;
	void (*counted)(void *arg, uint64_t site, enum reply_class class);
	void *arg;
};

/* ---- finding ------------------------------------------------------------------------------ */

static bool
find_record(struct queue_port *port, uint64_t id, uint32_t recipient, struct arena *arena,
	    struct delivered *ret)
{
	char key[DELIVERED_KEY];
	struct buf octets = { 0 };
	bool found;

	delivered_key(id, recipient, key);
	found = queue_read_note(port, NOTE_DELIVERED, span_of(key, sizeof(key)), &octets) == 0 &&
		delivered_decode(span_of(key, sizeof(key)), buf_span(&octets), arena, ret) == 0;
	buf_free(&octets);
	return found;
}

static void
from_queue(struct queue_port *port, const struct queue_message *message, uint32_t recipient,
	   struct arena *arena, struct delivered *ret)
{
	struct lane_record lane = { 0 };

	*ret = (struct delivered){ message->record.id, recipient, message->envelope.reverse_path,
				   message->envelope.recipients[recipient].address, { 0 }, 0 };
	if (queue_read_lane(port, message->lanes[recipient], arena, &lane) < 0)
		return;
	ret->tenant = lane.name.tenant;
	ret->site = lane.site;
}

bool
returns_find(struct queue_port *port, uint64_t id, uint32_t recipient, struct arena *arena,
	     struct delivered *ret)
{
	struct queue_message message;

	if (find_record(port, id, recipient, arena, ret))
		return true;
	if (queue_read_message(port, id, arena, &message) < 0 ||
	    recipient >= message.envelope.recipient_count)
		return false;
	from_queue(port, &message, recipient, arena, ret);
	return true;
}

static bool
is_one_of(struct span address, const struct span *addresses, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (span_ieq(addresses[i], address))
			return true;
	return false;
}

/* A page of the records of one message. 0: there may be more; 1: found; -1: that was all. */
static int
search_page(struct queue_port *port, struct span id, const struct span *addresses,
	    size_t address_count, struct buf *after, struct arena *arena, struct delivered *ret)
{
	struct queue_note_row rows[PAGE];
	struct arena page = { 0 };		/* a message may have very many */
	struct delivered d;
	size_t count = 0;
	int found = 0;

	if (queue_read_notes(port, NOTE_DELIVERED, id, buf_span(after), &page, rows, PAGE, &count) <
		    0 ||
	    count == 0)
		found = -1;
	for (size_t i = 0; i < count && found == 0; i++)
		if (!rows[i].damaged &&
		    delivered_decode(rows[i].key, rows[i].value, &page, &d) == 0 &&
		    is_one_of(d.address, addresses, address_count))
			found = delivered_decode(rows[i].key, rows[i].value, arena, ret) == 0 ? 1
											      : -1;
	buf_clear(after);
	if (found == 0)
		buf_append(after, rows[count - 1].key);
	arena_free(&page);
	return found;
}

bool
returns_find_address(struct queue_port *port, uint64_t id, const struct span *addresses,
		     size_t count, struct arena *arena, struct delivered *ret)
{
	struct queue_message message;
	char key[DELIVERED_KEY];
	struct buf after = { 0 };
	int found = 0;

	delivered_key(id, 0, key);
	for (int i = 0; i < MESSAGE_PAGES && found == 0; i++)
		found = search_page(port, span_of(key, 8), addresses, count, &after, arena, ret);
	buf_free(&after);
	if (found == 1)
		return true;
	if (queue_read_message(port, id, arena, &message) < 0)
		return false;
	for (size_t i = 0; i < message.envelope.recipient_count; i++)
		if (is_one_of(message.envelope.recipients[i].address, addresses, count)) {
			from_queue(port, &message, (uint32_t)i, arena, ret);
			return true;
		}
	return false;
}

/* ---- keeping ------------------------------------------------------------------------------ */

struct keeping {
	struct queue_note note;
	struct buf value;
	char key[DELIVERED_KEY];
};

static void
on_kept(struct queue_op *op)
{
	struct keeping *k = CONTAINER_OF(op, struct keeping, note.op);

	if (op->result < 0)
		log_message(LOG_WARNING, "returns",
			    "a delivered recipient could not be kept in mind: %s",
			    strerror(-op->result));
	buf_free(&k->value);
	free(k);
}

struct removing {
	struct returns *owner;
	struct queue_note notes[PAGE];
	struct arena arena;
};

static void
on_removed(struct queue_op *op)
{
	struct removing *g = CONTAINER_OF(op, struct removing, notes[0].op);

	g->owner->pruning = false;
	arena_free(&g->arena);
	free(g);
}

static uint64_t
row_octets(const struct queue_note_row *row)
{
	return row->key.len + row->value.len + ROW_OCTETS;
}

static void
forget(struct returns *r, const struct queue_note_row *rows, size_t count)
{
	struct removing *g;

	if (count == 0)
		return;
	g = xcalloc(1, sizeof(*g));
	g->owner = r;
	for (size_t i = 0; i < count; i++)
		g->notes[i] = (struct queue_note){ .kind = NOTE_DELIVERED, .remove = true,
						   .key = arena_copy(&g->arena, rows[i].key) };
	g->notes[0].op.done = on_removed;
	g->notes[0].more = &g->notes[1];
	g->notes[0].more_count = count - 1;
	r->pruning = true;
	queue_submit_note(r->home->port, &g->notes[0]);
}

/* Too many: the oldest go, a page at a time. */
static void
prune(struct returns *r)
{
	struct queue_note_row rows[PAGE];
	struct arena arena = { 0 };
	uint64_t octets = 0;
	size_t count = 0;

	if (r->pruning || r->facts.octets <= r->home->config->bounces.records)
		return;
	if (queue_read_notes(r->home->port, NOTE_DELIVERED, SPAN(""), SPAN(""), &arena, rows, PAGE,
			     &count) == 0) {
		for (size_t i = 0; i < count; i++)
			octets += row_octets(&rows[i]);
		forget(r, rows, count);
		r->facts.octets -= octets < r->facts.octets ? octets : r->facts.octets;
		r->facts.records -= count < r->facts.records ? count : r->facts.records;
	}
	arena_free(&arena);
}

void
returns_keep(struct returns *r, const struct delivered *d)
{
	struct keeping *k;

	if (r->home->config->bounces.records == 0)
		return;
	k = xcalloc(1, sizeof(*k));
	delivered_key(d->id, d->recipient, k->key);
	delivered_encode(d, &k->value);
	k->note = (struct queue_note){ .op = { .done = on_kept },
				       .kind = NOTE_DELIVERED,
				       .key = span_of(k->key, sizeof(k->key)),
				       .value = buf_span(&k->value) };
	r->facts.records++;
	r->facts.octets += sizeof(k->key) + buf_len(&k->value) + ROW_OCTETS;
	queue_submit_note(r->home->port, &k->note);
	prune(r);
}

/* ---- the records as a whole --------------------------------------------------------------- */

/* A page; what is too old goes. False: that was all. */
static bool
sweep_page(struct returns *r)
{
	int64_t oldest = wall_ms() - r->home->config->bounces.lifetime_ms;
	struct queue_note_row rows[PAGE], old[PAGE];
	struct arena arena = { 0 };
	size_t count = 0, gone = 0;
	int rc = queue_read_notes(r->home->port, NOTE_DELIVERED, SPAN(""), buf_span(&r->after),
				  &arena, rows, PAGE, &count);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct delivered d;

		if (rows[i].damaged ||
		    delivered_decode(rows[i].key, rows[i].value, &arena, &d) < 0 ||
		    id_time_ms(d.id) < oldest) {
			old[gone++] = rows[i];
			continue;
		}
		r->sweep_count++;
		r->sweep_octets += row_octets(&rows[i]);
	}
	forget(r, old, gone);
	buf_clear(&r->after);
	if (rc == 0 && count > 0)
		buf_append(&r->after, rows[count - 1].key);
	arena_free(&arena);
	return rc == 0 && count > 0;
}

static void
on_timer(uv_timer_t *timer)
{
	struct returns *r = timer->data;
	bool more;

	if (buf_len(&r->after) == 0)
		r->sweep_count = r->sweep_octets = 0;
	more = sweep_page(r);
	if (!more) {
		r->facts.records = r->sweep_count;
		r->facts.octets = r->sweep_octets;
		prune(r);		/* the limit may have been lowered */
	}
	uv_timer_start(timer, on_timer, more ? SWEEP_STEP_MS : SWEEP_MS, 0);
}

/* ---- the key ------------------------------------------------------------------------------ */

static void
on_key_written(struct queue_op *op)
{
	op->done = NULL;
}

/* Once in the life of a queue; nothing else uses the port yet. */
static int
make_key(struct returns *r)
{
	struct queue_note note = { .op = { .done = on_key_written, .urgent = true },
				   .kind = NOTE_VERP_KEY,
				   .key = SPAN("key"),
				   .value = span_of(r->key, VERP_KEY) };
	const struct timespec moment = { 0, 1000000 };

	if (getrandom(r->key, VERP_KEY, 0) != VERP_KEY)
		return -EIO;
	queue_submit_note(r->home->port, &note);
	queue_port_flush(r->home->port);
	while (note.op.done != NULL) {
		nanosleep(&moment, NULL);
		queue_port_run(r->home->port);
	}
	if (note.op.result == -ENOSPC) {
		log_message(LOG_WARNING, "returns",
			    "no room for the key of verp: what comes back after a restart "
			    "will not be known");
		return 0;
	}
	return note.op.result;
}

static int
read_key(struct returns *r)
{
	struct buf octets = { 0 };
	int rc = queue_read_note(r->home->port, NOTE_VERP_KEY, SPAN("key"), &octets);

	if (rc == 0 && buf_len(&octets) == VERP_KEY) {
		memcpy(r->key, buf_span(&octets).at, VERP_KEY);
	} else if (rc == -ENOENT || rc == 0 || rc == -EBADMSG || rc == -EPROTO) {
		/* mail goes on, whatever became of it */
		if (rc != -ENOENT)
			log_message(LOG_WARNING, "returns",
				    "the key of verp was damaged, there is a new one: what "
				    "comes back to senders made with the old one is refused");
		rc = make_key(r);
	}
	buf_free(&octets);
	return rc;
}

struct verp_keys
returns_keys(const struct returns *r, const struct config *config)
{
	return (struct verp_keys){ (const uint8_t (*)[VERP_KEY])config->verp_keys,
				   config->verp_key_count, r->key };
}

/* ---- counting ----------------------------------------------------------------------------- */

const char *
returns_name(enum returns_what what)
{
	static const char *const names[] = { "bounces", "delays", "complaints", "autoreplies",
					     "others", "unmatched" };

	return names[what];
}

const struct returns_facts *
returns_facts(const struct returns *r)
{
	return &r->facts;
}

void
returns_count(struct returns *r, enum returns_what what)
{
	r->facts.counts[what]++;
}

static struct returns_tenant *
tenant_of(struct returns *r, struct span name)
{
	uint64_t hash = hash_bytes(name.at, name.len, 0);
	struct returns_tenant *t;
	char *copy;

	for (struct map_node *n = map_find(&r->tenants, hash); n != NULL; n = map_next_same(n))
		if (span_eq(CONTAINER_OF(n, struct returns_tenant, node)->name, name))
			return CONTAINER_OF(n, struct returns_tenant, node);
	if (r->tenants.count >= RETURNS_TENANTS_MAX)
		return NULL;
	t = xcalloc(1, sizeof(*t) + name.len);
	copy = (char *)(t + 1);
	memcpy(copy, name.at, name.len);
	t->name = span_of(copy, name.len);
	t->next = (struct returns_tenant *)r->facts.tenants;
	r->facts.tenants = t;
	map_add(&r->tenants, &t->node, hash);
	return t;
}

void
returns_count_class(struct returns *r, enum reply_class class, struct span tenant, uint64_t site)
{
	struct returns_tenant *t = tenant.len > 0 ? tenant_of(r, tenant) : NULL;

	r->facts.classes[class]++;
	if (t != NULL)
		t->classes[class]++;
	if (site != 0 && r->counted != NULL)
		r->counted(r->arg, site, class);
}

void
returns_watch(struct returns *r, void (*counted)(void *arg, uint64_t site, enum reply_class class),
	      void *arg)
{
	r->counted = counted;
	r->arg = arg;
}

/* ---- life --------------------------------------------------------------------------------- */

int
returns_open(struct reactor *home, struct returns **ret)
{
	struct returns *r = xcalloc(1, sizeof(*r));
	int rc;

	r->home = home;
	uv_timer_init(&home->loop, &r->timer);
	r->timer.data = r;
	uv_timer_start(&r->timer, on_timer, 0, 0);
	rc = read_key(r);
	*ret = r;
	return rc;
}

void
returns_close(struct returns *r)
{
	uv_close((uv_handle_t *)&r->timer, NULL);
}

void
returns_free(struct returns *r)
{
	struct map_node *node;

	if (r == NULL)
		return;
	while ((node = map_any(&r->tenants)) != NULL) {
		map_remove(&r->tenants, node);
		free(CONTAINER_OF(node, struct returns_tenant, node));
	}
	map_free(&r->tenants);
	buf_free(&r->after);
	free(r);
}
