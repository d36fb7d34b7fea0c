/*
 * outcome: the class of what became of a recipient (policy/classify.h). Any thread.
 */
#ifndef TRAM_OUTCOME_H
#define TRAM_OUTCOME_H

#include <jansson.h>

#include "mta/delivery/delivery.h"
#include "policy/classify.h"
#include "queue/record.h"

/* Of a reply, or a failure (code 0), at this stage (enum smtp_stage, as stored). */
enum reply_class outcome_class(const struct config *config, unsigned stage,
			       const struct reply *reply, struct span host);

/* Sets the class of a recipient that was not delivered, once. */
void outcome_classify(const struct config *config, const struct job *job, struct job_recipient *r);

/*
 * What the rules say of it, or NULL; class: what it is of, unless the rule says otherwise. place:
 * the site's key; provider: of the site, or empty.
 */
const struct response_rule *outcome_rule(const struct config *config, unsigned stage,
					 const struct reply *reply, struct span host,
					 struct span place, struct span provider,
					 enum reply_class *class);
/* The same for a recipient that a host has answered, whose fate and class it may change. */
void outcome_respond(const struct config *config, const struct delivery *d, const struct job *job,
		     struct job_recipient *r);

/* The class of an attempt that was not a success, for the operator; "" if it was one. */
const char *outcome_of_attempt(const struct config *config, const struct attempt *attempt);

/* {"bad-mailbox": 3, …}: those that are not 0. */
json_t *outcome_counts_json(const uint32_t counts[REPLY_CLASSES]);

#endif
