/*
 * trust: see trust.h.
 */
#include "mta/assurance/trust.h"

#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "dns/facts_fetch.h"

struct trust {
	struct reactor *home;
	struct dns_resolver *asked;	/* which one the test is about */
	struct resolver_test test;
	struct arena names;		/* of the test: */
	struct span good, bad;
	struct arena arena;		/* of one round */
	struct facts facts;
	struct facts_needs needs;
	struct facts_fetch *fetch;
	uv_timer_t timer;
	/* no test, or no answer that would count: nobody is asked, and DANE is not to be had */
	bool off;
	bool settled;			/* a test of this resolver has ended */
	void (*changed)(void *arg);
	void *changed_arg;
};

static void arm(struct trust *trust);

static void
on_facts(void *arg)
{
	struct trust *trust = arg;
	bool changed = false, first = !trust->settled;

	trust->fetch = NULL;
	for (size_t i = 0; i < trust->needs.count; i++) {
		const struct facts_need *need = &trust->needs.need[i];
		const struct dns_answer *answer = facts_find(&trust->facts, need->name, need->type);

		if (answer != NULL)
			changed =
				resolver_test_answer(&trust->test, i, answer, mono_ms()) || changed;
	}
	if (changed && trust->test.trust == RESOLVER_VALIDATES)
		log_message(LOG_INFO, "resolver-trust", "%s", trust->test.text);
	else if (changed || first)
		log_message(LOG_WARNING, "resolver-trust", "%s", trust->test.text);
	arena_free(&trust->arena);
	trust->facts = (struct facts){ .arena = &trust->arena };
	trust->settled = true;
	arm(trust);
	if (changed || first)
		trust->changed(trust->changed_arg);
}

static void
on_timer(uv_timer_t *timer)
{
	struct trust *trust = timer->data;

	if (trust->fetch != NULL || trust->home->resolver == NULL)
		return;
	trust->needs = (struct facts_needs){ 0 };
	if (resolver_test_start(&trust->test, mono_ms(), &trust->needs))
		trust->fetch = facts_fetch(trust->home->resolver, &trust->facts, &trust->needs,
					   on_facts, trust);
	else
		arm(trust);
}

static void
arm(struct trust *trust)
{
	int64_t wait = trust->test.next_ms - mono_ms();

	uv_timer_start(&trust->timer, on_timer, (uint64_t)(wait > 0 ? wait : 0), 0);
}

static void
begin(struct trust *trust)
{
	const struct config *config = trust->home->config;
	struct resolver_test_name good = { .type = DNS_A }, bad = { .type = DNS_A };

	trust->asked = trust->home->resolver;
	trust->good = trust->bad = (struct span){ 0 };
	facts_fetch_cancel(trust->fetch);
	trust->fetch = NULL;
	uv_timer_stop(&trust->timer);
	arena_free(&trust->names);
	arena_free(&trust->arena);
	trust->facts = (struct facts){ .arena = &trust->arena };
	trust->off = config->resolver_test_count == 0 || trust->asked == NULL ||
		     !dns_resolver_trusted(trust->asked);
	trust->settled = trust->off;
	if (trust->off)
		return;
	good.name = trust->good = arena_copy(&trust->names, config->resolver_test[0]);
	if (config->resolver_test_count > 1)
		bad.name = trust->bad = arena_copy(&trust->names, config->resolver_test[1]);
	resolver_test_init(&trust->test, good, bad, mono_ms());
	arm(trust);
}

struct trust *
trust_start(struct reactor *home, void (*changed)(void *arg), void *arg)
{
	struct trust *trust = xcalloc(1, sizeof(*trust));

	trust->home = home;
	trust->changed = changed;
	trust->changed_arg = arg;
	uv_timer_init(&home->loop, &trust->timer);
	trust->timer.data = trust;
	begin(trust);
	return trust;
}

/* What has been shown holds on, unless it is about another resolver, or by other names. */
void
trust_reconfigure(struct trust *trust)
{
	const struct config *config = trust->home->config;
	size_t count = config->resolver_test_count;
	struct span good = count > 0 ? config->resolver_test[0] : SPAN("");
	struct span bad = count > 1 ? config->resolver_test[1] : SPAN("");

	if (trust->asked != trust->home->resolver || !span_eq(good, trust->good) ||
	    !span_eq(bad, trust->bad)) {
		begin(trust);
	} else if (!trust->off && trust->fetch == NULL &&
		   trust->test.trust != RESOLVER_VALIDATES) {
		resolver_test_hurry(&trust->test, mono_ms());
		arm(trust);
	}
}

bool
trust_settled(const struct trust *trust)
{
	return trust->settled;
}

enum resolver_trust
trust_now(const struct trust *trust)
{
	return trust->off ? RESOLVER_FAILS : trust->test.trust;
}

void
trust_close(struct trust *trust)
{
	facts_fetch_cancel(trust->fetch);
	trust->fetch = NULL;
	uv_close((uv_handle_t *)&trust->timer, NULL);
}

void
trust_free(struct trust *trust)
{
	arena_free(&trust->names);
	arena_free(&trust->arena);
	free(trust);
}
