/*
 * tls_check: see tls_check.h; the way to the hosts. What they are like is told by tls_check_rows.c.
 * In time order:
 *
 *	tls_check_start → look_up_sts → on_sts → find_way [→ lookup_mx → on_mx → on_policy] →
 *	call_hosts → on_saw (by the delivery) … → on_ended → over
 */
#include <stdlib.h>

#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"
#include "mta/outbound/explain/tls_check_private.h"

/* Last in whatever calls it: the check may be gone after it. */
void
tls_check_tell(struct tls_check *c)
{
	if (c->more != NULL)
		c->more(c->arg);
}

static void
check_free(struct tls_check *c)
{
	struct dispatcher *d = c->dispatcher;

	list_remove(&c->node);
	lookup_cancel(c->lookup);
	facts_fetch_cancel(c->fetch);
	policies_cancel(&c->wait);
	reactor_config_release(d->home, c->config);
	json_decref(c->rows);
	arena_free(&c->arena);
	free(c);
}

void
tls_check_finish(struct tls_check *c)
{
	c->over = true;
	if (c->what_if != NULL)
		what_if_conclude(c);
	else if (c->publishing == NULL)
		tls_check_conclude(c);
	c->bad += c->aborted;
	tls_check_tell(c);
}

/* ---- the hosts ---------------------------------------------------------------------------- */

static void
on_ended(struct delivery *delivery)
{
	struct tls_check *c = delivery->owner;
	struct dispatcher *d = c->dispatcher;

	c->delivery = NULL;
	d->checking--;
	delivery_release(delivery, d->home->post);
	if (c->released)
		check_free(c);
	else
		tls_check_finish(c);
	dispatcher_check_stopped(d);
}

static void
on_saw(struct delivery_watch *watch, struct delivery *delivery, enum delivery_event event)
{
	struct tls_check *c = CONTAINER_OF(watch, struct tls_check, watch);

	if (c->released)
		return;
	tls_check_tell_event(c, delivery, event);
	tls_check_tell(c);
}

static void
call_hosts(struct tls_check *c, struct span key)
{
	struct dispatcher *d = c->dispatcher;
	struct destination to;

	c->site = arena_copy(&c->arena, key);
	destination_read(key, &c->arena, &to);
	c->watch.saw = on_saw;
	c->delivery = delivery_new(d->home, c->config, c->route, &to, key, on_ended, c);
	c->delivery->watch = &c->watch;
	c->delivery->looks_only = c->what_if != NULL;
	c->delivery->trust = trust_now(d->trust);
	c->delivery->tokens = d->tokens;
	d->checking++;
	delivery_start(c->delivery, d->home->post);
}

/* ---- the way there ------------------------------------------------------------------------ */

static void
call_by_policy(struct tls_check *c, const struct sts_policy *policy, struct span why)
{
	tls_check_tell_policy(c, policy, why);
	call_hosts(c, site_key_with_sts(c->key, policy, &c->arena));
}

static void
on_policy(struct policy_wait *wait, const struct sts_policy *policy, struct span why)
{
	struct tls_check *c = CONTAINER_OF(wait, struct tls_check, wait);

	call_by_policy(c, policy, why);
	tls_check_tell(c);
}

static void
ask_policy(struct tls_check *c)
{
	const struct sts_policy *policy;
	struct span why;

	c->wait.done = on_policy;
	if (!tls_asks_sts(c->route->tls, c->wish))
		call_hosts(c, c->key);
	else if (policies_ask(c->dispatcher->policies, destination_mx_domain(c->route, c->domain),
			      &c->wait, &policy, &why))
		call_by_policy(c, policy, why);
}

static void
on_mx(void *arg, const struct mx_set *set)
{
	struct tls_check *c = arg;

	c->lookup = NULL;
	tls_check_tell_mx(c, set);
	if (set->count == 0) {
		if (c->what_if != NULL)
			what_if_no_mx(c, set);
		tls_check_finish(c);
		return;
	}
	c->key = destination_key_by_mx(c->route, set, c->wish, &c->arena);
	ask_policy(c);
	tls_check_tell(c);
}

static void
look_up_mx(struct tls_check *c)
{
	struct config *config = c->config;

	c->lookup = lookup_mx(c->dispatcher->home->resolver,
			      destination_mx_domain(c->route, c->domain), config->own_names,
			      config->own_name_count, config->allow_private, on_mx, c);
}

void
tls_check_find_way(struct tls_check *c)
{
	struct span key;

	key = destination_key(c->route, c->domain, c->wish, &c->arena);
	if (key.len > 0)
		call_hosts(c, key);
	else
		look_up_mx(c);
	tls_check_tell(c);
}

static void
find_way(struct tls_check *c)
{
	if (c->host.len > 0)
		call_hosts(c, c->host);
	else if (!tls_check_tell_route(c))
		tls_check_finish(c);
	else
		tls_check_find_way(c);
}

static void
on_sts(void *arg)
{
	struct tls_check *c = arg;

	c->fetch = NULL;
	tls_check_tell_sts(c,
			   facts_find(&c->facts, sts_record_name(c->domain, &c->arena), DNS_TXT));
	find_way(c);
}

/* What is published for the domain, whether this route asks for it or not. */
static bool
look_up_sts(struct tls_check *c)
{
	struct facts_needs needs = { .count = 1 };

	needs.need[0] = (struct facts_need){ sts_record_name(c->domain, &c->arena), DNS_TXT };
	if (c->host.len > 0 || c->domain.at[0] == '[' || needs.need[0].name.len == 0)
		return false;
	c->fetch = facts_fetch(c->dispatcher->home->resolver, &c->facts, &needs, on_sts, c);
	return true;
}

/* ---- from outside ------------------------------------------------------------------------- */

/* The key of a site; empty: that is no host. */
static struct span
key_of_host(struct span host, struct arena *arena, const char **error)
{
	struct route route = { 0 };
	struct span text = arena_printf(arena, "smtp:%.*s", SPAN_FMT(host));

	/* brackets: the host itself, not its MX */
	if (host.len > 0 && host.at[0] != '[') {
		struct span name = span_cut(&host, ':');

		text = arena_printf(arena, "smtp:[%.*s]%s%.*s", SPAN_FMT(name),
				    host.len > 0 ? ":" : "", SPAN_FMT(host));
	}
	return route_parse_deliver(text, arena, &route, error) ? route.site_key
							       : (struct span){ 0 };
}

static bool
take_goal(struct tls_check *c, struct span domain, struct span host, const char **error)
{
	if (host.len > 0) {
		c->host = key_of_host(host, &c->arena, error);
		return c->host.len > 0;
	}
	*error = "That is not a domain.";
	c->domain = arena_copy(&c->arena, domain);
	return (domain.len > 2 && domain.at[0] == '[') ||
	       (domain.len > 0 && domain.at[0] != '*' &&
		domain_pattern_read(domain, &c->arena, &c->domain));
}

struct tls_check *
tls_check_new(struct dispatcher *d, struct span domain, struct span host, const char **error)
{
	struct tls_check *c = xcalloc(1, sizeof(*c));

	c->dispatcher = d;
	c->config = config_of(d);
	reactor_config_use(d->home, c->config);
	list_add_last(&d->checks, &c->node);
	c->facts.arena = &c->arena;
	c->rows = json_array();
	if (d->stopping)
		*error = "The server is stopping.";
	if (d->stopping || !take_goal(c, domain, host, error)) {
		check_free(c);
		return NULL;
	}
	return c;
}

struct tls_check *
tls_check_start(struct dispatcher *d, struct span domain, struct span host,
		void (*more)(void *arg), void *arg, const char **error)
{
	struct tls_check *c = tls_check_new(d, domain, host, error);

	if (c == NULL)
		return NULL;
	c->route = host.len > 0 ? NULL : route_find(&c->config->access.routes, c->domain);
	tls_check_tell_trust(c, trust_now(d->trust));
	if (!look_up_sts(c))
		find_way(c);
	c->more = more;
	c->arg = arg;
	return c;
}

json_t *
tls_check_next(struct tls_check *c)
{
	return c->at < json_array_size(c->rows) ? json_incref(json_array_get(c->rows, c->at++)) :
						  NULL;
}

bool
tls_check_over(const struct tls_check *c)
{
	return c->over && c->at == json_array_size(c->rows);
}

bool
tls_check_good(const struct tls_check *c)
{
	return c->bad == 0;
}

static void
cut_off(struct tls_check *c)
{
	if (!c->aborted)
		delivery_abort(c->delivery, c->dispatcher->home->post);
	c->aborted = true;
}

void
tls_check_release(struct tls_check *c)
{
	c->more = NULL;
	c->released = true;
	if (c->delivery == NULL)
		check_free(c);
	else
		cut_off(c);
}

void
tls_checks_stop(struct dispatcher *d)
{
	LIST_EACH(struct tls_check, c, &d->checks, node) {
		lookup_cancel(c->lookup);
		facts_fetch_cancel(c->fetch);
		policies_cancel(&c->wait);
		c->lookup = NULL;
		c->fetch = NULL;
		if (c->delivery != NULL)
			cut_off(c);
		c->aborted = true;
		if (c->delivery == NULL && !c->over)
			tls_check_finish(c);
	}
}
