/*
 * smtp/client_fates: what becomes of the recipients of a transaction.
 *
 * What a fate may be when all goes wrong: a 421, a protocol error or a lost connection never
 * makes it permanent; and once the end of the message has been put into the output, only a reply
 * can say that it was not taken, so without one the fate is uncertain.
 */
#include "mta/smtp/client_private.h"

enum { TEXT_MAX = 1000 };		/* octets of a reply that an outcome keeps */

/* A copy for an outcome, of bounded length; no UTF-8 character is cut in two. */
struct reply
client_keep_reply(struct arena *arena, const struct reply *reply)
{
	struct reply kept = *reply;

	if (kept.text.len > TEXT_MAX) {
		kept.text.len = TEXT_MAX;
		while (kept.text.len > TEXT_MAX - 3 &&
		       ((uint8_t)reply->text.at[kept.text.len] & 0xc0) == 0x80)
			kept.text.len--;
	}
	kept.text = arena_copy(arena, kept.text);
	return kept;
}

/* Accepted recipients are pending ones whose stage has moved on to DATA. */
static bool
is_accepted(const struct smtp_client_recipient *r)
{
	return r->fate == FATE_PENDING && r->stage == STAGE_DATA;
}

/* kept: by client_keep_reply(), so that many recipients may share it. */
void
client_settle(struct run *run, size_t i, enum smtp_fate fate, enum smtp_stage stage,
	      struct reply kept)
{
	struct smtp_client_recipient *r = &run->t->recipients[i];

	if (r->fate != FATE_PENDING)
		return;
	r->fate = fate;
	r->stage = stage;
	r->reply = kept;
	run->pending--;
}

void
client_settle_all(struct run *run, enum smtp_fate fate, enum smtp_stage stage,
		  const struct reply *reply)
{
	struct reply kept = run->pending > 0 ? client_keep_reply(run->t->arena, reply) : *reply;

	for (size_t i = 0; run->pending > 0 && i < run->count; i++)
		client_settle(run, i, fate, stage, kept);
}

enum smtp_fate
client_fate_of(const struct reply *reply)
{
	return reply_class(reply) == 2	 ? FATE_DELIVERED
	       : reply_class(reply) == 5 ? FATE_PERMANENT
					 : FATE_TEMPORARY;
}

enum smtp_stage
client_stage_of(const struct run *run)
{
	return run->streaming ? STAGE_BODY
	     : run->receiver.state == AT_END ? STAGE_DOT : client_states[run->receiver.state].stage;
}

void
client_finish(struct smtp_client *client, struct run *run)
{
	run->finished = true;
	run->streaming = false;
	if (run->mail_ok && !run->over && client->p->run_count == 1)
		client->p->needs_rset = true;	/* a run behind this one has seen to it itself */
}

/* The end of the message is out, and this is no answer to it. */
static void
settle_uncertain(struct run *run, const struct reply *reply)
{
	struct reply kept = client_keep_reply(run->t->arena, reply);

	for (size_t i = 0; i < run->count; i++)
		if (is_accepted(&run->t->recipients[i]))
			client_settle(run, i, FATE_UNCERTAIN, STAGE_DOT, kept);
}

void
client_fail(struct smtp_client *client, enum smtp_stage stage, const struct reply *reply)
{
	struct smtp_client_private *p = client->p;
	bool answered = reply->code != 0 && !p->unsolicited;

	if (p->closed)
		return;
	for (size_t i = 0; i < p->run_count; i++) {
		struct run *run = &p->runs[i];

		if (run->finished)
			continue;
		run->t->lost = reply->code == 0;
		if (run->handed_over && !answered)
			settle_uncertain(run, reply);
		client_settle_all(run, FATE_TEMPORARY, client_stage_of(run), reply);
		client_finish(client, run);
	}
	client->failure_stage = stage;
	client->failure = client_keep_reply(&client->arena, reply);
	buf_clear(&client->out);	/* what has not gone must not go: it may hold a final dot */
	p->closed = true;
}

void
client_fail_protocol(struct smtp_client *client, enum smtp_stage stage, struct span what,
		     const struct reply *reply)
{
	struct buf text = { 0 };
	struct reply ours = { 0 };

	buf_append(&text, what);
	buf_append(&text, SPAN(": "));
	reply_to_line(reply, &text);
	ours.text = buf_span(&text);
	client_fail(client, stage, &ours);
	buf_free(&text);
}
