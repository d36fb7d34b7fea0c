/* facts: a short list, searched from the start; see facts.h. */
#include "dns/facts.h"

void
facts_add(struct facts *facts, struct span name, enum dns_type type,
	  const struct dns_answer *answer)
{
	struct dns_answer *copy;
	struct fact *fact;

	if (facts->count >= FACTS_MAX || facts_find(facts, name, type) != NULL)
		return;
	fact = arena_alloc(facts->arena, sizeof(*fact));
	copy = &fact->answer;
	fact->name = arena_lower(facts->arena, name);
	fact->type = type;
	*copy = *answer;
	copy->text = arena_copy(facts->arena, answer->text);
	copy->canonical = arena_lower(facts->arena, answer->canonical);
	copy->records = NULL;
	if (answer->count > 0)
		copy->records =
			arena_alloc(facts->arena, answer->count * sizeof(*copy->records));
	for (size_t i = 0; i < answer->count; i++) {
		copy->records[i] = answer->records[i];
		copy->records[i].name = arena_copy(facts->arena, answer->records[i].name);
		copy->records[i].data = arena_copy(facts->arena, answer->records[i].data);
	}
	fact->next = facts->first;
	facts->first = fact;
	facts->count++;
}

void
facts_add_failure(struct facts *facts, struct span name, enum dns_type type, struct span why)
{
	struct dns_answer answer = { .outcome = DNS_TEMPORARY, .text = why, .canonical = name,
				     .rcode = DNS_RCODE_NONE };

	facts_add(facts, name, type, &answer);
}

const struct dns_answer *
facts_find(const struct facts *facts, struct span name, enum dns_type type)
{
	for (const struct fact *fact = facts->first; fact != NULL; fact = fact->next)
		if (fact->type == type && span_ieq(fact->name, name))
			return &fact->answer;
	return NULL;
}

const struct dns_answer *
facts_want(const struct facts *facts, struct span name, enum dns_type type,
	   struct facts_needs *needs)
{
	const struct dns_answer *known = facts_find(facts, name, type);

	if (known != NULL)
		return known;
	for (size_t i = 0; i < needs->count; i++)
		if (needs->need[i].type == type && span_ieq(needs->need[i].name, name))
			return NULL;
	if (needs->count < FACTS_NEEDS_MAX)
		needs->need[needs->count++] =
			(struct facts_need){ arena_lower(facts->arena, name), type };
	return NULL;
}
