/*
 * allowance: see allowance.h. A question is counted in session->outcomes, so that the session lives
 * until its answer is back, whoever leaves meanwhile. A message is counted before it is committed:
 * of many that come at the same time no more are taken than may be.
 */
#include "mta/inbound/allowance.h"

#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/inbound/gate.h"
#include "mta/inbound/receiver_private.h"

static const struct reply too_many_messages =
	REPLY_INIT(451, 4, 7, 1, "too many messages from this user, try again later");
static const struct reply too_many_recipients =
	REPLY_INIT(451, 4, 7, 1, "too many recipients for this user, try again later");

/* It has copies of what it needs on the home loop. */
struct question {
	struct letter letter;
	struct session *session;
	struct quota_limits limits;
	struct buf user;
	bool complete;			/* the message, to be counted; else MAIL */
	uint64_t recipients;
	bool more;
	bool good;
	struct quota_verdict verdict;
};

static void
limit_log(const struct question *q, unsigned set, const char *state)
{
	for (unsigned i = 0; i < QUOTA_KINDS; i++) {
		struct log_line l;

		if ((set & 1u << i) == 0 || !log_begin(&l, LOG_WARNING, "user-limit"))
			continue;
		log_u64(&l, "session", q->session->number);
		log_span(&l, "user", buf_span(&q->user));
		log_str(&l, "limit", quota_name((enum quota_kind)i));
		log_str(&l, "state", state);
		log_u64(&l, "count", q->verdict.count[i]);
		log_u64(&l, "most", q->limits.most[i]);
		log_end(&l);
	}
}

static const struct reply *
refusal(const struct question *q)
{
	if (q->complete ? q->good : q->verdict.messages > 0 && q->verdict.recipients > 0)
		return NULL;
	return q->verdict.messages == 0 ? &too_many_messages : &too_many_recipients;
}

static void
on_answer(struct letter *letter)
{
	struct question *q = CONTAINER_OF(letter, struct question, letter);
	struct session *s = q->session;
	const struct reply *refused = refusal(q);
	bool complete = q->complete;

	s->recipients_left = q->verdict.recipients;
	buf_free(&q->user);
	free(q);
	s->outcomes--;
	if (session_gone(s) || s->stream.closing)
		return;
	s->waiting = false;
	if (refused != NULL) {
		message_drop(s);
		session_answered(s, refused);
	} else if (complete) {
		message_submit(s);
	} else {
		message_go_on_mail(s);
	}
}

static void
on_question(struct letter *letter)
{
	struct question *q = CONTAINER_OF(letter, struct question, letter);
	struct reactor *r = q->session->reactor;
	struct quota *quota = gate_quota(r->gate);

	if (q->complete)
		q->good = quota_charge(quota, &q->limits, buf_span(&q->user), q->recipients,
				       q->more, mono_ms(), &q->verdict);
	else
		q->verdict = quota_ask(quota, &q->limits, buf_span(&q->user), mono_ms());
	limit_log(q, q->verdict.near, "near");
	limit_log(q, q->verdict.exceeded, "exceeded");
	q->letter.open = on_answer;
	post_send(r->home, r->post, &q->letter);
}

struct quota_limits
allowance_limits(const struct config *config)
{
	const struct limits *limits = &config->limits;

	return (struct quota_limits){ {
		[QUOTA_MESSAGES_HOUR] = limits->user_messages_hour,
		[QUOTA_MESSAGES_DAY] = limits->user_messages_day,
		[QUOTA_RECIPIENTS_HOUR] = limits->user_recipients_hour,
		[QUOTA_RECIPIENTS_DAY] = limits->user_recipients_day,
	} };
}

static bool
ask(struct session *s, bool complete)
{
	/* the newest hold, also for sessions that began under older ones */
	struct quota_limits limits = allowance_limits(s->reactor->config);
	struct question *q;

	if (buf_len(&s->user) == 0 || !quota_any(&limits))
		return false;
	q = xcalloc(1, sizeof(*q));
	q->session = s;
	q->limits = limits;
	buf_append(&q->user, buf_span(&s->user));
	q->complete = complete;
	q->recipients = s->server.envelope.recipient_count;
	q->more = s->recipients_refused;
	s->outcomes++;
	s->waiting = true;
	stream_deadline(&s->stream, -1);	/* it is ours to answer */
	q->letter.open = on_question;
	post_send(s->reactor->post, s->reactor->home, &q->letter);
	return true;
}

bool
allowance_ask_mail(struct session *s)
{
	return ask(s, false);
}

bool
allowance_ask_message(struct session *s)
{
	return ask(s, true);
}
