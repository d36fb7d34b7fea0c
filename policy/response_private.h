/* response_private: what the files of response_rules share. */
#ifndef TRAM_POLICY_RESPONSE_PRIVATE_H
#define TRAM_POLICY_RESPONSE_PRIVATE_H

#include "policy/response_rules.h"

/*
 * The actions at the start of a line, with commas between them; line is what follows. NULL, or what
 * is wrong with the word at *at.
 */
const char *response_actions_read(struct response_rule *rule, struct span *line, struct span *at);
/* Do they go together, and with the conditions? */
const char *response_actions_judge(const struct response_rule *rule);

#endif
