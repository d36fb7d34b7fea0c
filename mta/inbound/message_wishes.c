/*
 * message_wishes: how a message asks to be carried, once its header is known: for whom. That is in
 * the names of its lanes, so it is settled before the queue has it, and does not change. On the
 * session's reactor.
 */
#include "mta/inbound/receiver_private.h"
#include "mta/inbound/verdict.h"

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

bool
message_heed_tenant(struct session *s, struct reply *refusal)
{
	bool named = false;
	struct span tenant;

	*refusal = verdict_tenant(s->config, &s->client, s->server.envelope.reverse_path,
				  buf_span(&s->header.text), &s->server.arena, &tenant, &named);
	if (named)
		drop_field(s, s->config->tenants.header);
	for (size_t i = 0; i < s->server.envelope.recipient_count; i++)
		s->lanes[i].tenant = tenant;
	return refusal->code == 250;
}
