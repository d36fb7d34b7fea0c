/* outcome: see outcome.h. */
#include "mta/delivery/outcome.h"

#include "policy/site_key.h"

static enum classify_stage
stage_of(unsigned stage)
{
	static const enum classify_stage stages[] = {
		[STAGE_CONNECT] = CLASSIFY_CONNECT, [STAGE_BANNER] = CLASSIFY_GREETING,
		[STAGE_EHLO] = CLASSIFY_GREETING,   [STAGE_TLS] = CLASSIFY_TLS,
		[STAGE_MAIL] = CLASSIFY_MAIL,	    [STAGE_RCPT] = CLASSIFY_RCPT,
		[STAGE_DATA] = CLASSIFY_DATA,	    [STAGE_BODY] = CLASSIFY_DATA,
		[STAGE_DOT] = CLASSIFY_DATA,	    [STAGE_QUIT] = CLASSIFY_GREETING,
		[STAGE_AUTH] = CLASSIFY_AUTH,
	};

	return stage < sizeof(stages) / sizeof(stages[0]) ? stages[stage] : CLASSIFY_DATA;
}

enum reply_class
outcome_class(const struct config *config, unsigned stage, const struct reply *reply,
	      struct span host)
{
	const struct classify_reply r = { stage_of(stage), reply->code, reply->status, reply->text,
					  host };

	return classify(config->classifier, &r);
}

void
outcome_classify(const struct config *config, const struct job *job, struct job_recipient *r)
{
	if (r->classified || r->outcome.fate == FATE_DELIVERED ||
	    r->outcome.fate == FATE_NOT_TRIED || r->outcome.fate == FATE_PENDING)
		return;
	r->class = outcome_class(config, r->outcome.stage, &r->outcome.reply, job->host);
	r->classified = true;
}

const struct response_rule *
outcome_rule(const struct config *config, unsigned stage, const struct reply *reply,
	     struct span host, struct span place, struct span provider, enum reply_class *class)
{
	struct response_reply r = { { stage_of(stage), reply->code, reply->status, reply->text,
				      host }, .provider = provider,
				    .class = *class, .place = site_key_place(place) };
	const struct response_rule *rule = response_rules_find(config->responses, &r);

	if (rule != NULL && rule->becomes != REPLY_CLASSES)
		*class = rule->becomes;
	return rule;
}

void
outcome_respond(const struct config *config, const struct delivery *d, const struct job *job,
		struct job_recipient *r)
{
	enum smtp_fate *fate = &r->outcome.fate;

	if (!r->classified || r->suppressed || *fate == FATE_DELIVERED)
		return;
	r->rule = outcome_rule(config, r->outcome.stage, &r->outcome.reply, job->host, d->site_key,
			       d->provider, &r->class);
	if (r->rule == NULL || r->outcome.stage < STAGE_MAIL || r->outcome.reply.code == 0)
		return;
	if (r->rule->fate == FATE_SOFTENED && *fate == FATE_PERMANENT)
		*fate = FATE_TEMPORARY;
	else if (r->rule->fate == FATE_HARDENED && *fate == FATE_TEMPORARY)
		*fate = FATE_PERMANENT;
}

const char *
outcome_of_attempt(const struct config *config, const struct attempt *a)
{
	const struct reply reply = { a->code, a->status, a->text };

	if (a->code / 100 == 2 || a->code / 100 == 3)
		return "";
	return reply_class_name(outcome_class(config, a->stage, &reply, a->host));
}

json_t *
outcome_counts_json(const uint32_t counts[REPLY_CLASSES])
{
	json_t *object = json_object();

	for (enum reply_class class = 0; class < REPLY_CLASSES; class++)
		if (counts[class] > 0)
			json_object_set_new(object, reply_class_name(class),
					    json_integer(counts[class]));
	return object;
}
