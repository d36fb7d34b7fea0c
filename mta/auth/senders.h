/*
 * auth/senders: who may send as whom. Pure; any thread.
 *
 *	# user: addresses, comma between; several lines of one user add up
 *	anna@example.org: anna@example.org, anna+*@example.org, @lists.example.org
 *	printer: printer@example.org
 *	newsletter: @example.com, @.example.com
 *	*: info@example.org
 *
 * "a@b" is that address, "a+*@b" that one with any extension, "@b" all of a domain, "@.b" of all
 * below it, "*" any. User "*" is everybody who has logged in. ASCII case makes no difference. The
 * null reverse-path is always allowed. A user whose name is an address may always send as it.
 */
#ifndef TRAM_AUTH_SENDERS_H
#define TRAM_AUTH_SENDERS_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum { SENDERS_FILE_MAX = 64 << 20, SENDERS_LINE_MAX = 65536, SENDERS_PATTERNS_MAX = 5000000 };

struct senders;

/* As passwords_parse(). */
int senders_parse(struct span name, struct span content, struct buf *errors, struct senders **ret);
/* From configuration: one user's patterns, in a table begun with senders_new(). NULL or the fault. */
struct senders *senders_new(void);
const char *senders_add(struct senders *senders, struct span user, struct span pattern);
void senders_free(struct senders *senders);			/* NULL is fine */

/* senders NULL: nobody has a list. address: as address_text() gives it; empty: the null path. */
bool senders_allow(const struct senders *senders, struct span user, struct span address);

/*
 * The mailboxes of a From:, Sender: or Resent-From: field's value, folded as it came (RFC 5322
 * §3.4): calls `each` until it says false. Returns how many it saw; -EINVAL if the value cannot be
 * read without doubt (then refuse: what we do not understand somebody else may understand
 * differently).
 */
int senders_header_addresses(struct span value, bool (*each)(void *arg, struct span address),
			     void *arg);
/*
 * All From: and Resent-From: fields of a header block, and their every address, are the user's. A
 * block without From: passes. *culprit (may be NULL): the address, or the value that cannot be
 * read; part of the block, or in scratch.
 */
bool senders_allow_header(const struct senders *senders, struct span user, struct span block,
			  struct buf *scratch, struct span *culprit);

#endif
