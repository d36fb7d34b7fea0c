/*
 * traffic: messages that are handed in, one by one and in storms; what an operator does to them;
 * reloads; jumps of the wall clock. See sim.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { RCPTS_MAX = 4, LARGE = 30000 };

struct offer {				/* a message on its way into the queue */
	struct queue_accept accept;
	struct arena arena;
	struct envelope envelope;
	uint32_t number;
};

enum { EDIT_MESSAGES = 20 };

struct editing {			/* an operator's edit on its way */
	struct list node;		/* in the order in which they were asked for */
	struct dispatcher_edit edit;
	uint64_t ids[EDIT_MESSAGES];
	uint32_t messages[EDIT_MESSAGES];
	struct attempt attempt;
};

static struct reactor *home;
static uint32_t offers, edits;		/* not answered */
static struct list asked;

struct config *
config_make(void)
{
	const struct settings *s = &world->set;
	struct buf text = { 0 }, warnings = { 0 };
	char error[CONFIG_ERROR_MAX];
	struct config *config = NULL;
	uint32_t tight = world->reloads % 3 == 2 ? 2 : 1;	/* reloads change something */

	buf_printf(&text,
		   "hostname = \"relay.example.org\"\nresolver = {\"127.0.0.1:1\"}\nresolver-test "
		   "= \"off\"\n"
		   "mta-sts = no\ncheck-sender = no\n"
		   "queue { path = \"%s\" map-size = 8GB max-size = 4GB min-free = 1MB lifetime = "
		   "%llds }\n"
		   "limits { deliveries = %u connections-per-site = %u window-entries = %u "
		   "window-sites = %u }\n"
		   "listener smtp { address = \"127.0.0.1:25\" }\n"
		   "route \"*\" { deliver = \"mx\" tls = off }\n%s",
		   s->path, (long long)(s->lifetime_ms / 1000), s->deliveries / tight, s->per_site,
		   s->window_entries / tight, s->window_sites, s->config != NULL ? s->config : "");
	buf_append(&text, span_str(limits_config()));
	buf_append(&text, span_str(rules_config()));
	buf_append(&text, span_str(addresses_config()));
	/* the mark of every lane's label is another one */
	if (world->reloads % 2 == 1)
		buf_printf(&text, "route \"*\" { sender = \"t0@d0.example\" deliver = \"mx\" tls = "
				  "off }\n");
	if (config_parse(buf_span(&text), "sim", &config, error, &warnings) < 0 ||
	    config_open_files(config, error, &warnings) < 0)
		fail("%s", error);
	buf_free(&text);
	buf_free(&warnings);
	return config;
}

static void
on_accepted(struct queue_op *op)
{
	struct offer *offer = CONTAINER_OF(op, struct offer, accept.op);
	struct arena arena = offer->arena;

	offers--;
	if (op->result == 0)
		ledger_accepted(offer->number, offer->accept.id);
	else if (op->result == -ENOSPC)
		ledger_refused(offer->number);
	else
		fail("an accept says %s", strerror(-op->result));
	arena_free(&arena);
}

static void
offer_lane(struct offer *offer, struct lane_name *lane, struct span sender, struct span address,
	   uint32_t tenant)
{
	const struct routes *routes = &home->config->access.routes;
	struct route_facts facts = { .domain = address_domain_of(address), .sender = sender };

	lane->tenant = arena_printf(&offer->arena, "t%u", tenant);
	lane->domain = facts.domain;
	lane->pool = pool_chosen(&home->config->sources,
				 &(struct pool_facts){ .sender = sender, .tenant = lane->tenant });
	lane->route = route_label(routes, facts.domain, route_choose(routes, &facts), WISH_NONE,
				  &offer->arena);
}

static const char large[LARGE];

static void
submit(struct offer *offer, struct lane_name *lanes)
{
	struct message *m = &world->messages[offer->number];

	wishes_draw(m);
	m->offered = offer->accept.id;
	wishes_write(m, &offer->accept, &offer->envelope, lanes);
	offers++;
	world->handed_in++;
	queue_submit_accept(home->port, &offer->accept);
}

static void
hand_in(uint32_t tenant, const uint32_t *domains, uint32_t count)
{
	struct arena arena = { 0 };
	struct offer *offer = arena_alloc(&arena, sizeof(*offer));
	struct recipient *to = arena_alloc(&arena, count * sizeof(*to));
	struct lane_name *lanes = arena_alloc(&arena, count * sizeof(*lanes));

	offer->arena = arena;
	offer->number = ledger_offer(tenant, domains, count);
	offer->envelope = (struct envelope){ .recipients = to, .recipient_count = count };
	offer->envelope.reverse_path =
		arena_printf(&offer->arena, "t%u@d%u.example", tenant, tenant);
	for (uint32_t i = 0; i < count; i++) {
		to[i].address = arena_printf(&offer->arena, "r%u@d%u.example",
					     world->messages[offer->number].first + i, domains[i]);
		offer_lane(offer, &lanes[i], offer->envelope.reverse_path, to[i].address, tenant);
	}
	offer->accept = (struct queue_accept){
		.op = { .done = on_accepted, .urgent = true },
		.id = queue_next_id(home->queue),
		.arrival_ms = wall_ms(),
		.due_ms = wall_ms(),
		.envelope = &offer->envelope,
		.lanes = lanes,
		.header = SPAN("Subject: sim\r\n\r\n"),
		.body = world->set.fair &&
		tenant == 4 ? span_of(large, sizeof(large)) : SPAN("Hello\r\n"),
		.client = SPAN("sim"),
	};
	submit(offer, lanes);
}

/* As Zipf has it: as many in each octave. */
static uint32_t
draw_domain(void)
{
	const uint32_t first = world->set.tenants, most = world->set.domains - first;
	uint32_t octaves = 0, rank;

	while ((UINT32_C(1) << (octaves + 1)) <= most)
		octaves++;
	do {
		uint32_t low = UINT32_C(1) << draw(CHANCE_TRAFFIC, octaves + 1);

		rank = low + (uint32_t)draw(CHANCE_TRAFFIC, low) - 1;
	} while (rank >= most);
	return first + rank;
}

static void
hand_in_any(void)
{
	uint32_t domains[RCPTS_MAX], count = 1;

	while (count < RCPTS_MAX && draw(CHANCE_TRAFFIC, world->set.several) == 0)
		count++;
	for (uint32_t i = 0; i < count; i++)
		domains[i] = draw_domain();
	hand_in((uint32_t)draw(CHANCE_TRAFFIC, world->set.tenants), domains, count);
}

/* ---- the operator ------------------------------------------------------------------------- */

static void
edited(struct rcpt *r, enum edit_kind kind)
{
	static const char *const names[] = { "hold", "release", "retry", "remove", "return",
					     "move" };

	ledger_trace(r, names[kind]);
	if (r->state == R_FLYING)
		fail("r%u is edited while it is being sent", (unsigned)(r - world->rcpts));
	r->edited =
		r->edited || kind == EDIT_FAIL || (kind == EDIT_REMOVE && r->state == R_DELIVERED);
	if (kind == EDIT_REMOVE && (r->state == R_WAITING || r->state == R_FAILED))
		ledger_removed(r);
	if (r->state != R_WAITING)
		return;
	if (kind == EDIT_HOLD)
		r->held = r->was_held = true;
	else if (kind == EDIT_FAIL)
		ledger_failed(r);
	r->changed = world->mono;
	if (kind == EDIT_RELEASE || kind == EDIT_RETRY)
		r->from = 0;
	if (kind == EDIT_RETRY || (kind == EDIT_RELEASE && r->held))
		r->by = world->mono;
	if (kind == EDIT_RELEASE)
		r->held = r->releasing = false;
}

static bool
share_message(const struct editing *a, const struct editing *b)
{
	for (size_t i = 0; i < a->edit.edit.count; i++)
		for (size_t k = 0; k < b->edit.edit.count; k++)
			if (a->messages[i] == b->messages[k])
				return true;
	return false;
}

static void
check_order(const struct editing *e)
{
	LIST_EACH(struct editing, other, &asked, node) {
		if (other == e)
			return;
		if (share_message(e, other))
			fail("an edit is done before an earlier one of the same message");
	}
}

static void
on_edited(struct dispatcher_edit *edit, int result)
{
	struct editing *e = CONTAINER_OF(edit, struct editing, edit);

	check_order(e);
	list_remove(&e->node);
	edits--;
	if (result < 0)
		fail("an edit says %s", strerror(-result));
	for (size_t i = 0; i < e->edit.edit.count; i++) {
		const struct message *m = &world->messages[e->messages[i]];

		for (uint32_t n = 0; n < m->count; n++)
			edited(&world->rcpts[m->first + n], e->edit.edit.kind);
	}
	free(e);
}

/* It may be done before we are told: what is sent then need not wait any more. */
static void
may_go(const struct message *m, bool released)
{
	for (uint32_t n = 0; n < m->count; n++) {
		struct rcpt *r = &world->rcpts[m->first + n];

		ledger_trace(r, released ? "will be released" : "will be tried");
		r->releasing = r->releasing || released;
		r->hurried = true;
		r->from = 0;
	}
}

static void
edit_go(enum edit_kind kind, const uint32_t *messages, size_t count)
{
	struct editing *e = xcalloc(1, sizeof(*e));

	for (size_t i = 0; i < count; i++) {
		e->messages[i] = messages[i];
		e->ids[i] = world->messages[messages[i]].id;
		if (kind == EDIT_RELEASE || kind == EDIT_RETRY)
			may_go(&world->messages[messages[i]], kind == EDIT_RELEASE);
	}
	e->attempt = (struct attempt){ .at_ms = wall_ms(), .status = { 5, 0, 0 },
				       .text = SPAN("returned by the operator") };
	e->edit.done = on_edited;
	e->edit.edit = (struct queue_edit){ .kind = kind, .ids = e->ids, .count = count,
					    .only_recipient = UINT32_MAX,
					    .due_ms = wall_ms(),
					    .attempt = kind == EDIT_FAIL ? &e->attempt : NULL };
	list_add_last(&asked, &e->node);
	edits++;
	world->edits++;
	dispatcher_submit_edit(home->dispatcher, &e->edit);
}

static void
edit_any(void)
{
	static const enum edit_kind kinds[] = { EDIT_HOLD, EDIT_HOLD, EDIT_RELEASE, EDIT_RELEASE,
						EDIT_RETRY, EDIT_REMOVE, EDIT_FAIL };
	uint32_t messages[EDIT_MESSAGES];
	size_t count = 0, most = 1 + draw(CHANCE_TRAFFIC, EDIT_MESSAGES);

	for (size_t i = 0; i < most && world->open_count > 0; i++) {
		uint32_t message =
			world->rcpts[world->open[draw(CHANCE_TRAFFIC, world->open_count)]].message;
		bool twice = false;

		for (size_t k = 0; k < count; k++)
			twice = twice || messages[k] == message;
		if (!twice && world->messages[message].id != 0)
			messages[count++] = message;
	}
	if (count > 0)
		edit_go(kinds[draw(CHANCE_TRAFFIC, sizeof(kinds) / sizeof(kinds[0]))], messages,
			count);
}

void
traffic_release(void)
{
	if (edits > 0)
		return;
	for (uint32_t i = 0; i < world->open_count; i++) {
		const struct rcpt *r = &world->rcpts[world->open[i]];

		if (r->held && !wishes_too_late(r)) {
			edit_go(EDIT_RELEASE, &r->message, 1);
			return;
		}
	}
}

/* As mta/server_reload.c does it. */
static void
reload(void)
{
	struct config *old = home->config;

	world->reloads++;
	home->config = config_make();
	reactor_config_use(home, home->config);
	reactor_config_release(home, old);
	dispatcher_reconfigure(home->dispatcher);
	/* another label: what waits for its next try goes there at once */
	for (uint32_t i = 0; i < world->open_count; i++) {
		struct rcpt *r = &world->rcpts[world->open[i]];

		r->from = 0;
		r->moves = 2;
		if (r->by < world->mono + MINUTE)
			r->by = world->mono + MINUTE;
	}
}

static void
on_config_unused(struct reactor *r, struct config *config)
{
	(void)r;
	config_free(config);
}

/* ---- time --------------------------------------------------------------------------------- */

/*
 * The dates that were stored are nearer now; or further away, and then what they were for is due.
 */
void
traffic_jump(int64_t by)
{
	world->jumps++;
	world->wall_ahead += by;
	if (world->unsettled < world->mono)
		world->unsettled = world->mono + HOUR;
	world->unsettled += HOUR;
	for (uint32_t i = 0; i < world->open_count; i++) {
		struct rcpt *r = &world->rcpts[world->open[i]];

		r->from = by > 0 ? r->from - by : 0;
	}
}

static void
jump(void)
{
	int64_t by = draw_around(CHANCE_TRAFFIC, HOUR) * (draw(CHANCE_TRAFFIC, 2) == 0 ? 1 : -1);

	traffic_jump(world->set.far_jumps && world->jumps == 2 ? -FAR_MS : by);
}

void
traffic_start(struct reactor *reactor)
{
	const struct settings *set = &world->set;

	home = reactor;
	home->config_unused = on_config_unused;
	offers = edits = 0;
	list_init(&asked);
	if (world->life > 0)
		return;
	world->next_message = world->began;
	world->next_edit = set->edit_every > 0 ? world->began + HOUR : INT64_MAX;
	world->next_reload = set->reload_every > 0 ? world->began + HOUR : INT64_MAX;
	world->next_jump = set->jump_every > 0 ? world->began + HOUR : INT64_MAX;
	world->storm_at = set->storm > 0 ? world->began + set->days_ms / 2 : INT64_MAX;
}

bool
traffic_idle(void)
{
	return offers == 0 && edits == 0;
}

/* Of tenant 2 each to many, of tenant 3 to one or some, of tenant 4 large ones. */
static void
hand_in_fair(uint32_t tenant, uint32_t domain)
{
	uint32_t domains[RCPTS_MANY], count = 1;

	if (tenant == 2)
		count = RCPTS_MANY;
	else if (tenant == 3)
		count += (uint32_t)draw(CHANCE_TRAFFIC, RCPTS_MAX);
	for (uint32_t i = 0; i < count; i++)
		domains[i] = domain;
	world->shares.offered[tenant % 16] += count;
	hand_in(tenant, domains, count);
}

/*
 * All of tenant 0, to the busiest domains, or to all there are; or of all tenants, to one; or as
 * ever.
 */
static void
storm(void)
{
	const uint32_t one = world->set.tenants;

	for (uint32_t i = 0; world->set.fair && world->message_count < world->set.messages; i++)
		hand_in_fair(i % one, one);
	for (uint32_t i = 0; i < world->set.storm && world->message_count < world->set.messages;
	     i++) {
		uint32_t domain =
			world->set.spread ? one + i % (world->set.domains - one) : draw_domain();

		if (world->set.rules)
			hand_in_any();
		else
			hand_in(0, &domain, 1);
	}
}

static bool
due(int64_t *at, int64_t every)
{
	if (*at > world->mono)
		return false;
	*at = every > 0 ? world->mono + draw_around(CHANCE_TRAFFIC, every) + 1 : INT64_MAX;
	return true;
}

int64_t
traffic_turn(void)
{
	const struct settings *set = &world->set;
	const int64_t *all[] = { &world->next_message, &world->next_edit, &world->next_reload,
				 &world->next_jump, &world->storm_at };
	int64_t mean = set->days_ms / (set->messages - set->storm + 1), next = INT64_MAX;

	if (world->message_count >= set->messages)
		world->next_message = INT64_MAX;
	if (due(&world->storm_at, 0))
		storm();
	if (due(&world->next_message, mean))
		hand_in_any();
	if (due(&world->next_edit, set->edit_every))
		edit_any();
	if (due(&world->next_reload, set->reload_every))
		reload();
	if (due(&world->next_jump, set->jump_every))
		jump();
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		next = *all[i] < next ? *all[i] : next;
	return next;
}
