/*
 * auth/senders: who may send as whom. Pure; any thread.
 *
 *	# user: addresses, comma between; several lines of one user add up
 *	anna@example.org: anna@example.org, anna+*@example.org, @lists.example.org
 *	printer: printer@example.org
 *	newsletter: @example.com, @.example.com
 *	*: info@example.org
 *
 * "a@b" is that address, "a+*@b" that one with any extension, "@b" all of a domain, "@.b" all of
 * the domains below it, "*" any. User "*" is everybody who has logged in. ASCII case makes no
 * difference, in names and in addresses. The null reverse-path is always allowed; and a user whose
 * name is an address may always send as it, with or without an extension.
 */
#ifndef TRAM_AUTH_SENDERS_H
#define TRAM_AUTH_SENDERS_H

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum {
	SENDERS_FILE_MAX = 64 << 20,	/* octets */
	SENDERS_LINE_MAX = 65536,
	SENDERS_PATTERNS_MAX = 2000000,
	SENDERS_HEADER_ADDRESSES = 1000,	/* in one field */
};

struct senders;

/* As passwords_parse(). */
int senders_parse(struct span name, struct span content, struct buf *errors, struct senders **ret);
struct senders *senders_new(void);
/* One more pattern. NULL, or the fault, as words. */
const char *senders_add(struct senders *senders, struct span user, struct span pattern);
void senders_free(struct senders *senders);			/* NULL is fine */

/* senders NULL: nobody has a list. address: as address_text() gives it; empty: the null path. */
bool senders_allow(const struct senders *senders, struct span user, struct span address);

/*
 * The mailboxes of a From: or Resent-From: field's value, folded as it came (RFC 5322 §3.4), as
 * address_text() gives them: calls `each` for one after the other until it says false. An address
 * that stands unquoted where a name belongs ("a@b <c@d>") is given, too. Returns how many were
 * given; -EINVAL if the value cannot be read without doubt: then refuse, for what we do not
 * understand somebody else may understand differently.
 */
int senders_header_addresses(struct span value, bool (*each)(void *arg, struct span address),
			     void *arg);
/*
 * Every address of one such field is the user's (the owner asks for each From: and Resent-From: of
 * the header). If not: culprit gets the address, or the value that cannot be read (at most 200
 * octets, as they came: for the log, which escapes them).
 */
bool senders_allow_field(const struct senders *senders, struct span user, struct span value,
			 struct buf *culprit);

#endif
