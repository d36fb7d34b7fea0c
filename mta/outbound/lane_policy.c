/*
 * lane_policy: by which MTA-STS policy a lane's mail goes (RFC 8461 §5). Its hosts are known;
 * before it joins their site the domain's policy is asked for (policies.c), and what it says of the
 * hosts becomes part of the site's key: so mail that a policy binds never shares a connection with
 * mail that it does not, and domains with policies alike do. Home loop only.
 */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/outbound/dispatcher_private.h"

struct lane_asks {			/* the hosts are known, the policy is not */
	struct policy_wait wait;
	struct lane *lane;
	struct arena arena;
	const struct route *route;
	struct span key;
	int64_t until_ms;
};

/* The domain whose MX was asked for is the one that may have a policy. */
static struct span
next_hop_of(const struct route *route, struct span domain)
{
	return route != NULL ? destination_mx_domain(route, domain) : domain;
}

static enum route_tls
tls_of(const struct route *route)
{
	return route != NULL ? route->tls : ROUTE_TLS_AUTO;
}

static enum route_wish
site_wish(const struct site *site)
{
	struct arena arena = { 0 };
	struct site_tls tls;
	enum route_wish wish = site_key_tls(site->key, &arena, &tls) ? tls.wish : WISH_NONE;

	arena_free(&arena);
	return wish;
}

bool
lane_policy_fits(struct dispatcher *d, struct span domain, const struct route *route,
		 const struct site *site)
{
	struct arena arena = { 0 };
	bool fits = true;

	if (tls_asks_sts(tls_of(route), site_wish(site)) && span_starts(site->key, SPAN("mx:"))) {
		const struct sts_policy *policy =
			policies_known(d->policies, next_hop_of(route, domain));

		fits = span_eq(site_key_with_sts(site->key, policy, &arena), site->key);
	}
	arena_free(&arena);
	return fits;
}

static void
log_policy(const struct route *route, struct span domain, const struct sts_policy *policy,
	   struct span why)
{
	bool none = policy == NULL || policy->mode == STS_MODE_NONE;
	struct log_line l;

	if (none && tls_of(route) != ROUTE_TLS_MTA_STS)
		return;
	if (!log_begin(&l, LOG_INFO, none ? "sts-missing" : "sts-applies"))
		return;
	log_span(&l, "domain", domain);
	log_str(&l, "mode", policy != NULL ? sts_mode_text(policy->mode) : "none");
	log_span(&l, "why", why);
	log_end(&l);
}

/* Not longer than the policy holds; and one that there is none of now may appear. */
static int64_t
bounded_until(struct dispatcher *d, const struct route *route, struct span domain, bool none,
	      int64_t until_ms)
{
	bool waits = none && tls_of(route) == ROUTE_TLS_MTA_STS;
	int64_t most = wall_ms() + (waits ? SITE_UNTIL_MIN_MS : SITE_UNTIL_STS_MS);

	if (!config_of(d)->mta_sts)
		return until_ms;
	return policies_until(d->policies, domain, until_ms < most ? until_ms : most);
}

static void
lane_bound(struct lane *lane, const struct route *route, const struct sts_policy *policy,
	   struct span why, struct span key, int64_t until_ms)
{
	struct span domain = next_hop_of(route, lane->domain);
	bool none = policy == NULL || policy->mode == STS_MODE_NONE;
	struct arena arena = { 0 };
	struct span whole = site_key_with_sts(key, policy, &arena);

	if (!span_eq(whole, lane->site->key))
		log_policy(route, domain, policy, why);
	lane_found(lane, whole, bounded_until(lane->owner, route, domain, none, until_ms));
	arena_free(&arena);
}

static void
asks_free(struct lane_asks *asks)
{
	policies_cancel(&asks->wait);
	arena_free(&asks->arena);
	free(asks);
}

void
lane_asks_cancel(struct lane *lane)
{
	if (lane->asks != NULL)
		asks_free(lane->asks);
	lane->asks = NULL;
}

static void
on_policy(struct policy_wait *wait, const struct sts_policy *policy, struct span why)
{
	struct lane_asks *asks = CONTAINER_OF(wait, struct lane_asks, wait);
	struct lane *lane = asks->lane;
	struct dispatcher *d = lane->owner;

	lane->asks = NULL;
	site_touch(d->unresolved);
	if (!d->stopping)
		lane_bound(lane, asks->route, policy, why, asks->key, asks->until_ms);
	asks_free(asks);
	dispatcher_touch(d);
}

/* A reload cancels what is asked: until then the route is the configuration's. */
void
lane_ask_policy(struct lane *lane, const struct route *route, struct span key, int64_t until_ms)
{
	struct dispatcher *d = lane->owner;
	const struct sts_policy *policy;
	struct lane_asks *asks;
	struct span why;

	if (!tls_asks_sts(tls_of(route), route_label_wish(lane->route))) {
		lane_found(lane, key, until_ms);
		return;
	}
	asks = xcalloc(1, sizeof(*asks));
	asks->wait.done = on_policy;
	asks->lane = lane;
	asks->route = route;
	asks->key = arena_copy(&asks->arena, key);
	asks->until_ms = until_ms;
	if (policies_ask(d->policies, next_hop_of(route, lane->domain), &asks->wait, &policy,
			 &why)) {
		lane_bound(lane, route, policy, why, key, until_ms);
		asks_free(asks);
	} else {
		lane->asks = asks;
	}
}

void
lanes_policy_changed(void *dispatcher, struct span domain)
{
	struct dispatcher *d = dispatcher;

	for (size_t i = 0; i < d->window.lanes.size; i++)
		for (struct map_node *n = d->window.lanes.buckets[i]; n != NULL; n = n->next) {
			struct lane *lane = CONTAINER_OF(n, struct lane, node);
			const struct route *route = route_labelled(&config_of(d)->access.routes,
								   lane->domain, lane->route);

			if (lane->site_until_ms != 0 &&
			    span_ieq(next_hop_of(route, lane->domain), domain))
				lane->site_until_ms = 1;	/* it was long ago */
		}
}
