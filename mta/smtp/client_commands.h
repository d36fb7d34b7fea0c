/*
 * smtp/client_commands: what smtp/client writes and reads that has no state: the lines of MAIL
 * and RCPT with their parameters, and what an EHLO reply offers. Pure.
 */
#ifndef TRAM_SMTP_CLIENT_COMMANDS_H
#define TRAM_SMTP_CLIENT_COMMANDS_H

#include "mta/smtp/client.h"

/* The text of a 2xx to EHLO; unknown keywords and bad numbers are passed over. */
void client_read_features(struct span text, struct smtp_features *ret);
/* The host's own name, at the start of its greeting; empty if what stands there is none. */
struct span client_greeting_name(struct span text);

/*
 * Parameters go only to a host that offered them. binary: over BDAT. converted: on its way, so that
 * its size is not known yet.
 */
void client_write_mail(const struct smtp_transaction *t, const struct smtp_features *features,
		       bool binary, bool converted, struct buf *out);
void client_write_rcpt(const struct smtp_transaction *t, const struct recipient *recipient,
		       const struct smtp_features *features, struct buf *out);

/*
 * How many of the recipients one transaction may name, by LIMITS RCPTMAX and RCPTDOMAINMAX (RFC
 * 9422).
 */
size_t client_recipients_allowed(const struct smtp_transaction *t,
				 const struct smtp_features *features);

/* Why this host cannot take the transaction; code 0: it can. */
struct reply client_refusal(const struct smtp_transaction *t, const struct smtp_features *features,
			    bool chunking);

#endif
