/*
 * what_if: see what_if.h. In time order:
 *
 *	what_if_start [→ on_sender_mx] → tell_way → tls_check_find_way … (tls_check.c) →
 *	what_if_on_host for each host → what_if_conclude: site, limits, what holds it, result
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/inbound/verdict.h"
#include "mta/outbound/dispatcher_private.h"
#include "mta/outbound/explain/tls_check_private.h"
#include "mta/outbound/explain/what_if.h"

enum { PASSED_OVER_MOST = 20, AHEAD_MOST = 2000 };

struct what_if {			/* in the check's arena */
	struct what_if_message message;
	struct span first_host;		/* that mail would be tried with */
	size_t hosts, usable;
	bool refused;			/* at MAIL: for what its sender's domain says */
	bool waiting;			/* something holds it, or a look-up failed */
	bool nowhere;			/* it would come back */
	struct span why;		/* of these */
};

/* ---- by which route ----------------------------------------------------------------------- */

static void
passed_over(struct tls_check *c, const struct route *route, const struct route_fit *fit)
{
	const char *why = fit->other_user   ? "asks for another user" :
			  fit->other_sender ? "asks for another sender" :
					      "is less specific";
	json_t *row = tls_check_row(c, CHECK_NOTE, "not-route",
				    arena_printf(&c->arena, "route %.*s (line %d) %s",
						 SPAN_FMT(route->name), route->line, why));

	json_object_set_new(row, "route", tls_check_text(route->name));
	json_object_set_new(row, "why", json_string(why));
}

/* Those that lead there, too, but not for this message. */
static void
tell_others(struct tls_check *c, const struct route_facts *facts)
{
	const struct routes *routes = &c->config->access.routes;
	size_t told = 0;

	for (size_t i = 0; i < routes->count && told < PASSED_OVER_MOST; i++) {
		const struct route *route = &routes->routes[i];
		struct route_fit fit;

		if (route == c->route || !domain_pattern_matches(route->pattern, facts->domain))
			continue;
		fit = route_fit(route, facts);
		passed_over(c, route, &fit);
		told++;
	}
}

static struct span
deliver_text(const struct route *route, struct arena *arena)
{
	if (route->kind == DELIVER_MX && route->mx_port != 25)
		return arena_printf(arena, "to the domain's MX, port %u", (unsigned)route->mx_port);
	if (route->kind == DELIVER_MX)
		return SPAN("to the domain's MX");
	if (route->kind == DELIVER_DISCARD)
		return SPAN("it is discarded");
	return arena_printf(arena, "to %.*s%s",
			    SPAN_FMT(span_skip(site_key_place(route->site_key), 7)),
			    route->host_count > 1 ? ", in this order" : "");
}

static void
tell_route(struct tls_check *c)
{
	const struct what_if_message *m = &c->what_if->message;
	struct route_facts facts = { m->lane.domain, m->sender, m->user };
	struct route_fit fit = route_fit(c->route, &facts);
	struct buf text = { 0 };
	json_t *row;

	buf_printf(&text, "route %.*s (line %d): %.*s, tls = %s; ", SPAN_FMT(c->route->name),
		   c->route->line, SPAN_FMT(deliver_text(c->route, &c->arena)),
		   tls_check_route_word(c->route->tls));
	buf_printf(&text, "its pattern \"%.*s\" fits the domain", SPAN_FMT(c->route->pattern));
	if (fit.user.len > 0)
		buf_printf(&text, ", user %.*s its users", SPAN_FMT(fit.user));
	if (fit.sender.len > 0)
		buf_printf(&text, ", the sender its \"%.*s\"", SPAN_FMT(fit.sender));
	row = tls_check_row(c, CHECK_NOTE, "route", buf_span(&text));
	json_object_set_new(row, "route", tls_check_text(c->route->name));
	json_object_set_new(row, "line", json_integer(c->route->line));
	json_object_set_new(row, "pattern", tls_check_text(c->route->pattern));
	if (fit.user.len > 0)
		json_object_set_new(row, "user", tls_check_text(fit.user));
	if (fit.sender.len > 0)
		json_object_set_new(row, "sender", tls_check_text(fit.sender));
	buf_free(&text);
	tell_others(c, &facts);
}

static void
tell_login(struct tls_check *c)
{
	const struct route *route = c->route;
	json_t *row;

	if (route->user.len == 0)
		return;
	row = tls_check_row(
		c, CHECK_NOTE, "login",
		arena_printf(&c->arena, "as %.*s, with the %s, %s", SPAN_FMT(route->user),
			     route->token_command_count > 0 ? "token that a command prints"
			     : route->token_file != NULL    ? "token in a file"
			     : route->password_file != NULL ? "password in a file"
							    : "password of the configuration",
			     route->auth_unverified ? "whoever the host is"
						    : "once it has shown who it is"));
	json_object_set_new(row, "user", tls_check_text(route->user));
}

static void
tell_wish(struct tls_check *c)
{
	if (c->wish == WISH_TLS_OPTIONAL)
		tls_check_row(c, CHECK_NOTE, "wish", SPAN("its header says TLS-Required: No"));
	if (c->wish == WISH_REQUIRETLS)
		tls_check_row(c, CHECK_NOTE, "wish", SPAN("REQUIRETLS"));
}

static void
tell_tenant(struct tls_check *c)
{
	struct span tenant = c->what_if->message.lane.tenant;
	uint32_t weight = tenant_weight(&c->config->tenants, tenant);
	json_t *row;

	row = tls_check_row(c, CHECK_NOTE, "tenant",
			    arena_printf(&c->arena, "%.*s, of weight %u",
					 SPAN_FMT(tenant.len > 0 ? tenant : SPAN("nobody's")),
					 weight));
	json_object_set_new(row, "tenant", tls_check_text(tenant));
	json_object_set_new(row, "weight", json_integer(weight));
}

/* Under which sender it would go out; what comes back there is read. */
static void
tell_verp(struct tls_check *c)
{
	const struct what_if_message *m = &c->what_if->message;
	const struct verp_rule *rule = verp_choose(
		&c->config->verp,
		&(struct verp_facts){ m->sender, m->lane.route, m->lane.tenant, m->lane.pool });
	json_t *row;

	if (rule == NULL)
		return;
	row = tls_check_row(c, CHECK_NOTE, "verp",
			    arena_printf(&c->arena, "it goes out from %.*s-...@%.*s",
					 SPAN_FMT(rule->prefix), SPAN_FMT(rule->domain)));
	json_object_set_new(row, "prefix", tls_check_text(rule->prefix));
	json_object_set_new(row, "domain", tls_check_text(rule->domain));
}

static void
tell_way(struct tls_check *c)
{
	tell_tenant(c);
	tell_route(c);
	tell_verp(c);
	tell_login(c);
	tell_wish(c);
	if (c->route->kind == DELIVER_DISCARD) {
		tls_check_finish(c);
		return;
	}
	if (tls_asks_dane(c->route->tls, c->wish) && !route_is_static(c->route))
		tls_check_tell_trust(c, trust_now(c->dispatcher->trust));
	tls_check_find_way(c);
}

/* ---- at each host ------------------------------------------------------------------------- */

static struct span
place_of(const struct delivery *d, struct arena *arena)
{
	char text[NETADDR_TEXT_MAX];

	if (d->host_name.len > 0)
		return arena_copy(arena, d->host_name);
	return arena_copy(arena, span_str(netaddr_format_port(&d->to.address, text)));
}

static void
usable(struct tls_check *c, const struct delivery *d)
{
	if (c->what_if->usable++ == 0)
		c->what_if->first_host = place_of(d, &c->arena);
}

/* What of it decides where mail goes; the rows themselves are told by tls_check_rows.c. */
void
what_if_on_host(struct tls_check *c, const struct delivery *d, enum delivery_event event)
{
	struct what_if *w = c->what_if;

	if (event == WATCH_HOST)
		w->hosts++;
	if (event == WATCH_ADDRESSES ||
	    (event == WATCH_DEMAND && d->demand.go == TLS_GO && d->to.address.family != 0))
		usable(c, d);
	if (event == WATCH_FAILED && w->usable == 0)
		w->why = arena_copy(&c->arena, d->failure.text);
}

/* ---- where it would wait, and for what ----------------------------------------------------- */

static void
number(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

static void
tell_limits(struct tls_check *c, const struct site *site, const struct shaping_question *question)
{
	const struct limits *limits = &c->config->limits;
	struct dispatcher *d = c->dispatcher;
	size_t most =
		c->route->connections > 0 ? c->route->connections : limits->connections_per_site;
	size_t messages = c->route->messages_per_connection > 0 ? c->route->messages_per_connection
								: limits->messages_per_connection;
	size_t shaped = shaping_messages_of(d, question, &c->arena);
	size_t now = site != NULL ? site->connection_count : 0;
	size_t allowed = site != NULL ? site->limit : CONCURRENCY_FIRST;
	json_t *row;

	if (allowed > most)
		allowed = most;
	if (shaped > 0 && shaped < messages)
		messages = shaped;
	row = tls_check_row(c, CHECK_NOTE, "limit",
			    arena_printf(&c->arena,
					 "connections to the site: %zu of %zu; as yet it takes %zu",
					 now, most, allowed));
	number(row, "connections", now);
	number(row, "most", most);
	number(row, "allowed", allowed);
	row = tls_check_row(
		c, CHECK_NOTE, "limit",
		arena_printf(&c->arena, "messages over one connection: %zu at most", messages));
	number(row, "messages_per_connection", messages);
	row = tls_check_row(c, CHECK_NOTE, "limit",
			    arena_printf(&c->arena, "connections to all sites: %zu of %zu",
					 d->connections, d->max_connections));
	number(row, "connections", d->connections);
	number(row, "most", d->max_connections);
}

static void
on_shaped(void *arg, const struct shaping_told *told)
{
	struct tls_check *c = arg;
	json_t *row = tls_check_row(
		c, CHECK_NOTE, "limit",
		arena_printf(&c->arena, "shape \"%.*s\", for %.*s: %s: %llu of %llu",
			     SPAN_FMT(told->shape), SPAN_FMT(told->who),
			     shape_limit_name(told->limit), (unsigned long long)told->used,
			     (unsigned long long)told->most));

	json_object_set_new(row, "shape", tls_check_text(told->shape));
	json_object_set_new(row, "limit", json_string(shape_limit_name(told->limit)));
	number(row, "used", told->used);
	number(row, "most", told->most);
}

static void
tell_provider(struct tls_check *c)
{
	struct span provider = shaping_provider_of(c->dispatcher, c->site, &c->arena);

	if (provider.len > 0)
		json_object_set_new(tls_check_row(c, CHECK_NOTE, "provider", provider), "provider",
				    tls_check_text(provider));
}

static struct site *
tell_site(struct tls_check *c)
{
	struct dispatcher *d = c->dispatcher;
	struct site *site = window_site_by_key(&d->window, c->site);
	uint64_t id = 0;
	bool stored = site == NULL && queue_find_site(d->home->port, c->site, &id) == 0;
	json_t *row;

	row = tls_check_row(c, CHECK_NOTE, "site",
			    arena_printf(&c->arena, "%.*s%s", SPAN_FMT(c->site),
					 site != NULL ? "" :
					 stored       ? "; not in memory, its mail is asleep" :
							"; not known yet"));
	json_object_set_new(row, "key", tls_check_text(c->site));
	if (site != NULL) {
		number(row, "ready", site->ready_count);
		number(row, "in_flight", site->in_flight);
	}
	return site;
}

/* Entries before a new one: the lane is read, as far as it is not too long. */
static size_t
entries_of(struct dispatcher *d, uint64_t lane)
{
	struct queue_entry page[PAGE], after = { 0 };
	size_t n = PAGE, total = 0;

	while (n == PAGE && total < AHEAD_MOST) {
		if (queue_read_entries(d->home->port, lane, &after, page, PAGE, &n) < 0 || n == 0)
			return total;
		total += n;
		after = page[n - 1];
	}
	return total;
}

static uint64_t
tell_lane(struct tls_check *c)
{
	struct dispatcher *d = c->dispatcher;
	uint64_t id = 0;
	size_t n;
	json_t *row;

	if (queue_find_lane(d->home->port, &c->what_if->message.lane, &id) < 0)
		return 0;
	n = entries_of(d, id);
	row = tls_check_row(c, CHECK_NOTE, "lane",
			    arena_printf(&c->arena, "%s%zu %s in its lane",
					 n >= AHEAD_MOST ? "at least " : "", n,
					 n == 1 ? "recipient is" : "recipients are"));
	number(row, "recipients", n);
	return id;
}

static void
tell_holds(struct tls_check *c, const struct hold_reasons *why)
{
	const struct hold_reason *first = hold_first(why);

	for (size_t i = 0; i < why->count; i++) {
		json_t *hold = hold_json(&why->list[i]);
		json_t *row = tls_check_row(c, CHECK_NOTE, "held", why->list[i].text);

		json_object_update_missing(row, hold);
		json_decref(hold);
	}
	if (why->count == 0) {
		tls_check_row(c, CHECK_GOOD, "held", SPAN("nothing holds it"));
		return;
	}
	c->what_if->waiting = first != NULL;
	c->what_if->why = arena_copy(&c->arena, (first != NULL ? first : &why->list[0])->text);
}

/* Which is known only now: it hangs on the site, too. */
static struct span
tell_source(struct tls_check *c, const struct shaping_question *about)
{
	const struct what_if_message *m = &c->what_if->message;
	const struct source *source =
		source_expected(c->dispatcher, about, m->lane.pool, m->recipient, &c->arena);
	struct buf text = { 0 };
	char address[NETADDR_TEXT_MAX];
	json_t *row;

	if (m->lane.pool.len == 0)
		buf_append(&text, SPAN("the system's choice of address"));
	else
		buf_printf(&text, "pool %.*s: %s%.*s", SPAN_FMT(m->lane.pool),
			   source != NULL ? "source " : "no source of it can be used now",
			   SPAN_FMT(source != NULL ? source->name : SPAN("")));
	for (size_t i = 0; source != NULL && i < source->address_count; i++)
		buf_printf(&text, "%s%s", i == 0 ? ", " : " and ",
			   netaddr_format(&source->addresses[i], address));
	row = tls_check_row(c, CHECK_NOTE, "source", buf_span(&text));
	buf_free(&text);
	json_object_set_new(row, "pool", tls_check_text(m->lane.pool));
	if (source != NULL)
		json_object_set_new(row, "source", tls_check_text(source->name));
	return source != NULL ? source->name : SPAN("");
}

/* The sender's own wish comes before whatever else would hold it then. */
static void
tell_release(struct tls_check *c)
{
	struct what_if *w = c->what_if;

	if (w->message.release_ms <= wall_ms())
		return;
	w->waiting = true;
	w->why = SPAN("for the time that its sender asks for");
}

static void
tell_waiting(struct tls_check *c)
{
	struct dispatcher *d = c->dispatcher;
	const struct lane_name *name = &c->what_if->message.lane;
	struct shaping_question question = { c->site, name->tenant, name->domain, SPAN("") };
	struct hold_reasons why = { 0 }, shaped = { 0 };
	struct site *site = tell_site(c);
	uint64_t lane;

	tell_provider(c);
	question.source = tell_source(c, &question);
	lane = tell_lane(c);
	tell_limits(c, site, &question);
	shaping_tell(d, &question, &c->arena, &shaped, on_shaped, c);
	if (lane != 0)
		dispatcher_held_by(d, lane, &c->arena, &why);
	if (why.count == 0)
		mail_held_by(d, c->site, name, &c->arena, &why);
	if (why.count == 0)
		why = shaped;			/* what the source alone is held by */
	tell_holds(c, &why);
	tell_release(c);
}

static void
tell_result(struct tls_check *c)
{
	const struct what_if *w = c->what_if;

	if (c->aborted)
		tls_check_row(c, CHECK_BAD, "result", SPAN("cut off: the server is stopping"));
	else if (w->refused)
		tls_check_row(c, CHECK_BAD, "result", SPAN("it would be refused"));
	else if (c->route->kind == DELIVER_DISCARD)
		tls_check_row(c, CHECK_NOTE, "result", SPAN("it would be taken, and discarded"));
	else if (w->nowhere)
		tls_check_row(c, CHECK_BAD, "result",
			      arena_printf(&c->arena, "it would be taken, and come back: %.*s",
					   SPAN_FMT(w->why)));
	else if (w->usable == 0)
		tls_check_row(c, CHECK_BAD, "result",
			      arena_printf(&c->arena,
					   "it would be taken, and wait: no host is to be "
					   "had%s%.*s",
					   w->why.len > 0 ? ": " : "", SPAN_FMT(w->why)));
	else if (w->waiting)
		tls_check_row(c, CHECK_NOTE, "result",
			      arena_printf(&c->arena, "it would be taken, and wait: %.*s",
					   SPAN_FMT(w->why)));
	else
		tls_check_row(c, CHECK_GOOD, "result",
			      arena_printf(&c->arena, "it would be taken, and go to %.*s at once",
					   SPAN_FMT(w->first_host)));
}

void
what_if_conclude(struct tls_check *c)
{
	c->at_host = (struct span){ 0 };
	if (!c->aborted && c->site.len > 0)
		tell_waiting(c);
	tell_result(c);
	/* a host that cannot be used is no harm while another can */
	if (!c->aborted && c->what_if->usable > 0)
		c->bad = 0;
}

/* No MX, or no answer: what would come of the mail. */
void
what_if_no_mx(struct tls_check *c, const struct mx_set *set)
{
	c->what_if->nowhere = reply_class(&set->failure) == 5;
	c->what_if->why = arena_copy(&c->arena, set->failure.text);
}

/* ---- from outside ------------------------------------------------------------------------- */

static void
on_sender_mx(void *arg, const struct mx_set *set)
{
	struct tls_check *c = arg;
	struct reply verdict = verdict_sender(set);
	struct buf line = { 0 };

	c->lookup = NULL;
	reply_to_line(&verdict, &line);
	tls_check_row(c, verdict.code == 250 ? CHECK_GOOD : CHECK_BAD, "sender-mx",
		      buf_span(&line));
	buf_free(&line);
	c->what_if->refused = verdict.code != 250;
	if (c->what_if->refused)
		tls_check_finish(c);
	else
		tell_way(c);
	tls_check_tell(c);
}

static void
copy_message(struct tls_check *c, const struct what_if_message *from)
{
	struct what_if_message *to = &c->what_if->message;

	*to = *from;
	to->lane.tenant = arena_copy(&c->arena, from->lane.tenant);
	to->lane.domain = arena_copy(&c->arena, from->lane.domain);
	to->lane.route = arena_copy(&c->arena, from->lane.route);
	to->lane.pool = arena_copy(&c->arena, from->lane.pool);
	to->sender = arena_copy(&c->arena, from->sender);
	to->user = arena_copy(&c->arena, from->user);
	to->recipient = arena_copy(&c->arena, from->recipient);
}

struct tls_check *
what_if_start(struct dispatcher *d, const struct what_if_message *message, void (*more)(void *arg),
	      void *arg, const char **error)
{
	struct tls_check *c = tls_check_new(d, message->lane.domain, (struct span){ 0 }, error);

	if (c == NULL)
		return NULL;
	c->what_if = arena_alloc(&c->arena, sizeof(*c->what_if));
	*c->what_if = (struct what_if){ 0 };
	copy_message(c, message);
	c->route = message->route;
	c->wish = message->wish;
	if (message->ask_sender.len > 0)
		c->lookup = lookup_mx(d->home->resolver, arena_copy(&c->arena, message->ask_sender),
				      NULL, 0, true, on_sender_mx, c);
	else
		tell_way(c);
	c->more = more;
	c->arg = arg;
	return c;
}
