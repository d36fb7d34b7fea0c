/*
 * message_wishes: how a message asks to be carried, once its header is known: for whom, how
 * urgently, not before when and by when (RFC 6710, 4865, 2852). For whom and how urgently is in the
 * names of its lanes, so it is settled before the queue has it, and does not change. On the
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

/* ---- how urgently ------------------------------------------------------------------------- */

/*
 * RFC 6758: through hosts that do not know MT-PRIORITY the field carries it. It counts where it
 * stands once. True: there is one, whatever it says.
 */
static bool
find_priority_field(struct session *s, bool *ret_read, int8_t *ret)
{
	struct span block = buf_span(&s->header.text), value;
	size_t count = 0;

	while (header_next_named(&block, SPAN("MT-Priority"), &value)) {
		*ret_read = count == 0 && wish_read_priority_field(value, ret);
		count++;
	}
	return count > 0;
}

/* A stranger's says nothing, but must not pass for ours at the next host (RFC 6758 §3.3, §7). */
bool
message_heed_wishes(struct session *s)
{
	const struct mail_wishes *w = &s->server.wishes;
	int8_t priority = 0, most = (int8_t)s->server.max_priority;
	bool read = false, stands;

	if (!s->server.config->offer_priority)
		return false;
	stands = find_priority_field(s, &read, &priority);
	if (stands)
		drop_field(s, SPAN("MT-Priority"));
	if (w->has_priority)
		priority = w->priority;
	else if (!read || !(s->client.trusted || s->client.authenticated))
		priority = 0;
	else if (priority > most)
		priority = most;
	s->server.envelope.priority = priority;
	for (size_t i = 0; i < s->server.envelope.recipient_count; i++)
		s->lanes[i].priority = priority_of_mt(priority);
	return stands || w->has_priority;
}

/* ---- when --------------------------------------------------------------------------------- */

void
message_heed_times(struct session *s, struct queue_accept *accept)
{
	const struct mail_wishes *w = &s->server.wishes;
	int64_t now = accept->arrival_ms, release = now + (int64_t)w->hold_for_s * 1000;

	if (w->hold_until_ms != 0)
		release = w->hold_until_ms;
	if (release > now) {
		accept->due_ms = release;
		accept->flags |= MESSAGE_RELEASED;
	}
	if (w->by_mode == BY_NONE)
		return;
	s->server.envelope.by_mode = w->by_mode;
	s->server.envelope.by_trace = w->by_trace;
	s->server.envelope.by_ms = now + w->by_s * 1000;
}
