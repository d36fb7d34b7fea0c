/* facts_fetch: one query for each need; see facts_fetch.h. */
#include "dns/facts_fetch.h"

#include <assert.h>
#include <stdlib.h>

struct asked {
	struct facts_fetch *fetch;
	struct dns_query *query;	/* NULL: it is in the table */
	struct span name;
	enum dns_type type;
};

struct facts_fetch {
	struct dns_resolver *resolver;
	struct facts *facts;
	void (*done)(void *arg);
	void *arg;
	struct dns_grace grace;
	struct asked asked[FACTS_NEEDS_MAX];
	size_t count, open;
};

static void
finish(struct facts_fetch *fetch)
{
	void (*done)(void *arg) = fetch->done;
	void *arg = fetch->arg;

	dns_grace_end(&fetch->grace);
	free(fetch);
	done(arg);
}

static bool
is_address(enum dns_type type)
{
	return type == DNS_A || type == DNS_AAAA;
}

/* Is this open question one that can be done without: has the host an address of the other kind? */
static bool
dispensable(const struct facts_fetch *fetch, const struct asked *asked)
{
	enum dns_type other = asked->type == DNS_A ? DNS_AAAA : DNS_A;
	const struct dns_answer *have;

	if (!is_address(asked->type))
		return false;
	have = facts_find(fetch->facts, asked->name, other);
	return have != NULL && have->outcome == DNS_FOUND;
}

static void
on_grace_over(struct dns_grace *grace)
{
	struct facts_fetch *fetch = CONTAINER_OF(grace, struct facts_fetch, grace);

	for (size_t i = 0; i < fetch->count; i++) {
		struct asked *asked = &fetch->asked[i];

		if (asked->query == NULL)
			continue;
		dns_cancel(asked->query);
		asked->query = NULL;
		facts_add_failure(fetch->facts, asked->name, asked->type, SPAN("no answer yet"));
	}
	finish(fetch);
}

static bool
all_dispensable(const struct facts_fetch *fetch)
{
	for (size_t i = 0; i < fetch->count; i++)
		if (fetch->asked[i].query != NULL && !dispensable(fetch, &fetch->asked[i]))
			return false;
	return true;
}

static void
on_answer(void *arg, const struct dns_answer *answer)
{
	struct asked *asked = arg;
	struct facts_fetch *fetch = asked->fetch;

	asked->query = NULL;
	facts_add(fetch->facts, asked->name, asked->type, answer);
	if (--fetch->open == 0)
		finish(fetch);
	else if (!list_linked(&fetch->grace.node) && all_dispensable(fetch))
		dns_grace_begin(fetch->resolver, &fetch->grace, on_grace_over);
}

struct facts_fetch *
facts_fetch(struct dns_resolver *resolver, struct facts *facts, const struct facts_needs *needs,
	    void (*done)(void *arg), void *arg)
{
	struct facts_fetch *fetch = xcalloc(1, sizeof(*fetch));

	assert(needs->count > 0 && needs->count <= FACTS_NEEDS_MAX);
	fetch->resolver = resolver;
	fetch->facts = facts;
	fetch->done = done;
	fetch->arg = arg;
	fetch->count = fetch->open = needs->count;
	for (size_t i = 0; i < needs->count; i++) {
		struct asked *asked = &fetch->asked[i];

		asked->fetch = fetch;
		asked->name = arena_copy(facts->arena, needs->need[i].name);
		asked->type = needs->need[i].type;
		asked->query = dns_ask(resolver, asked->name, asked->type, on_answer, asked);
	}
	return fetch;
}

void
facts_fetch_cancel(struct facts_fetch *fetch)
{
	if (fetch == NULL)
		return;
	for (size_t i = 0; i < fetch->count; i++)
		dns_cancel(fetch->asked[i].query);
	dns_grace_end(&fetch->grace);
	free(fetch);
}
