/*
 * message_wishes: how a message asks to be carried, once its header is known: for whom. That is in
 * the names of its lanes, so it is settled before the queue has it, and does not change. On the
 * session's reactor.
 */
#include "mta/inbound/receiver_private.h"
#include "policy/tenant.h"

static const struct reply bad_tenant =
	REPLY_INIT(550, 5, 6, 0, "the field that names the tenant must be there once, with letters, digits and - _ . @ + only");

static bool
may_relay(const struct session *s)
{
	return s->client.trusted || s->client.authenticated;
}

/* ---- for whom ----------------------------------------------------------------------------- */

/* What names the tenant is for us alone: it does not go on. */
static void
drop_field(struct session *s, struct span name)
{
	struct buf rest = { 0 };

	header_copy_without(buf_span(&s->header.text), name, &rest);
	buf_free(&s->header.text);
	s->header.text = rest;
}

/* False: what the field says is no name. Empty: it is not there. */
static bool
read_tenant_field(struct session *s, struct span wanted, struct span *ret)
{
	struct span rest = buf_span(&s->header.text), name, value;
	size_t seen = 0;

	*ret = (struct span){ 0 };
	while (header_next(&rest, &name, &value))
		if (span_ieq(name, wanted)) {
			char *at = arena_alloc(&s->server.arena, value.len + 1);

			seen++;
			for (size_t i = 0; i < value.len; i++)
				at[i] = ascii_lower(value.at[i]);
			*ret = span_trim((struct span){ at, value.len });
		}
	if (seen == 0)
		return true;
	drop_field(s, wanted);
	return seen == 1 && tenant_name_valid(*ret);
}

bool
message_heed_tenant(struct session *s, struct reply *refusal)
{
	const struct tenant_rules *rules = &s->config->tenants;
	struct tenant_facts facts = {
		.may_relay = may_relay(s),
		.user = buf_span(&s->user),
		.sender = s->server.envelope.reverse_path,
	};
	struct span tenant;

	*refusal = bad_tenant;
	if (rules->by == TENANT_BY_HEADER && facts.may_relay &&
	    !read_tenant_field(s, rules->header, &facts.header))
		return false;
	tenant = tenant_choose(rules, &facts, &s->server.arena);
	for (size_t i = 0; i < s->server.envelope.recipient_count; i++)
		s->lanes[i].tenant = tenant;
	return true;
}
