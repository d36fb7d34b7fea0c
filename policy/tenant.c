/* tenant: see tenant.h. Pure; any thread. */
#include "policy/tenant.h"

#include <stdlib.h>

#include "mta/base/address.h"

bool
tenant_by_read(struct span wish, struct tenant_rules *rules)
{
	static const char *const words[] = { [TENANT_BY_NONE] = "none", [TENANT_BY_USER] = "user",
					     [TENANT_BY_SENDER_DOMAIN] = "sender-domain" };
	struct span name = wish;

	rules->wish = wish;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (span_eq(wish, span_str(words[i]))) {
			rules->by = (enum tenant_by)i;
			return true;
		}
	if (!span_eq(span_cut(&name, ':'), SPAN("header")) || name.len == 0 || name.len > 100)
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (name.at[i] <= ' ' || name.at[i] > '~' || name.at[i] == ':')
			return false;
	rules->by = TENANT_BY_HEADER;
	rules->header = name;
	return true;
}

static bool
name_octet(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
	       c == '.' || c == '@' || c == '+';
}

bool
tenant_name_valid(struct span name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!name_octet(name.at[i]))
			return false;
	return name.len > 0 && name.len <= TENANT_NAME_MAX;
}

static struct span
lower(struct span s, struct arena *arena)
{
	char *at;

	s = span_first(s, TENANT_NAME_MAX);
	at = arena_alloc(arena, s.len + 1);
	for (size_t i = 0; i < s.len; i++)
		at[i] = ascii_lower(s.at[i]);
	return (struct span){ at, s.len };
}

struct span
tenant_choose(const struct tenant_rules *rules, const struct tenant_facts *facts,
	      struct arena *arena)
{
	if (rules->by == TENANT_BY_NONE || !facts->may_relay)
		return (struct span){ 0 };
	if (rules->by == TENANT_BY_HEADER && facts->header.len > 0)
		return lower(facts->header, arena);
	if (rules->by != TENANT_BY_SENDER_DOMAIN && facts->user.len > 0)
		return lower(facts->user, arena);
	return lower(address_domain_of(facts->sender), arena);
}

int
tenant_order(const void *a, const void *b)
{
	const struct tenant *x = a, *y = b;
	size_t len = x->name.len < y->name.len ? x->name.len : y->name.len;
	int order = len > 0 ? memcmp(x->name.at, y->name.at, len) : 0;

	if (order != 0)
		return order;
	return (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

uint32_t
tenant_weight(const struct tenant_rules *rules, struct span name)
{
	const struct tenant key = { .name = name };
	const struct tenant *found = NULL;

	if (rules->count > 0)
		found = bsearch(&key, rules->tenants, rules->count, sizeof(key), tenant_order);
	return found != NULL ? found->weight : 1;
}
