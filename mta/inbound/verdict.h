/*
 * verdict: may this client send this, from here, to there? What MAIL and RCPT of a session are
 * answered by, and what `tramctl what-if` tells: one place, so that the two never differ. What is
 * counted over sessions (users' limits, local programs' rate) and what the DNS says of the sender
 * come behind it. Any reactor.
 */
#ifndef TRAM_VERDICT_H
#define TRAM_VERDICT_H

#include "dns/mx.h"
#include "mta/config/config.h"
#include "mta/reactor/reactor.h"

/*
 * A local program may name its user alone: who that is, is known here. In the arena, or as it is.
 */
struct span verdict_qualified(const struct config *config, const struct access_client *client,
			      struct span reverse_path, struct arena *arena);
/* 250, or why not. */
struct reply verdict_mail(const struct config *config, const struct access_client *client,
			  struct span reverse_path);
/* As access_rcpt(), and by what the message asks for. */
struct reply verdict_rcpt(const struct config *config, const struct access_client *client,
			  struct span reverse_path, bool requiretls, struct arena *arena,
			  struct span *address, const struct route **route);
/* Must the sender's domain be able to get mail (RFC 7505 §4.2)? Then it is to be looked up. */
bool verdict_asks_sender(const struct config *config, const struct access_client *client,
			 struct span reverse_path);
/* … and this is what was found: who says that it takes no mail cannot mean to send any. */
struct reply verdict_sender(const struct mx_set *set);
/* RFC 8689 §3: the header's field is there once, and its value is No; all else says nothing. */
bool verdict_tls_optional(struct span header);
/*
 * For whom the message is, by its user, sender and header: 250, or why its field is none. named:
 * the field is there, from who may say so. In the arena.
 */
struct reply verdict_tenant(const struct config *config, const struct access_client *client,
			    struct span reverse_path, struct span header, struct arena *arena,
			    struct span *tenant, bool *named);
/* The highest MT-PRIORITY that is granted there to this user (empty: who has not logged in). */
int verdict_max_priority(const struct config *config, const struct smtp_server_config *smtp,
			 struct span user);

#endif
