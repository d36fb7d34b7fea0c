/*
 * allowance: may this user send one more message, and to how many? Asked of the home loop, which
 * counts over all sessions (mta/auth/quota.h), by a letter there and back. On the session's
 * reactor.
 */
#ifndef TRAM_ALLOWANCE_H
#define TRAM_ALLOWANCE_H

#include "mta/auth/quota.h"
#include "mta/inbound/receiver.h"

/* What the configuration allows each user. */
struct quota_limits allowance_limits(const struct config *config);
/*
 * False: there is nothing to ask, for nobody has logged in or no limit is set. Else the session
 * waits, and at MAIL message_go_on_mail(), behind a message message_submit() is next; or it is
 * refused.
 */
bool allowance_ask_mail(struct session *s);
bool allowance_ask_message(struct session *s);

#endif
