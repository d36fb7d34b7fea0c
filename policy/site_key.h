/*
 * site_key: the name of a site: where mail goes, and how safely. Two routes to the same hosts that
 * ask for different TLS, or another login, are two sites, so that a connection is never shared
 * between them. Pure.
 *
 *	"static:smtp:[127.0.0.1]:25", "mx:a.example,b.example>c.example:25", each with what its
 *	route says of TLS and login behind it: " tls=required", " tls=verify names=a.example
 *	user=anna login=0123456789abcdef" (a hash of how: where the secret is, not what it is); then
 *	what the messages ask for: " requiretls", " tls-required=no" (so that they never share a
 *	connection with others); and " mx=secure", " mx=implicit", where that matters. Last, what
 *	the domain's MTA-STS policy says of the hosts: " sts=enforce", " sts=testing", and those
 *	that it does not list: " unlisted=b.example". So domains whose policies say the same of the
 *	same hosts share a site.
 */
#ifndef TRAM_SITE_KEY_H
#define TRAM_SITE_KEY_H

#include "policy/mta_sts.h"
#include "policy/route.h"

/* How the hosts became known: what DANE may build on (RFC 7672 §2.2). */
enum site_mx { SITE_MX_INSECURE, SITE_MX_SECURE, SITE_MX_IMPLICIT };

/* Does it matter to such mail what the DNS vouches for? */
static inline bool
tls_asks_dane(enum route_tls tls, enum route_wish wish)
{
	return tls == ROUTE_TLS_AUTO || tls == ROUTE_TLS_DANE || wish == WISH_REQUIRETLS;
}

/* … and a policy of MTA-STS? */
static inline bool
tls_asks_sts(enum route_tls tls, enum route_wish wish)
{
	return tls == ROUTE_TLS_AUTO || tls == ROUTE_TLS_MTA_STS || wish == WISH_REQUIRETLS;
}

/*
 * flags: enum message_flags. A message without a sender is not lost for want of REQUIRETLS (RFC
 * 8689 §5): it goes as others do, with REQUIRETLS where that is offered.
 */
enum route_wish message_wish(uint32_t flags, struct span reverse_path);

/* place in the arena, or as it is. route may be NULL. */
struct span site_key_of(struct span place, const struct route *route, enum route_wish wish,
			enum site_mx mx, struct arena *arena);
struct span site_key_place(struct span key);
/* With what this policy says of the key's hosts, in the place of what is there. NULL: nothing. */
struct span site_key_with_sts(struct span key, const struct sts_policy *policy,
			      struct arena *arena);
/* Does the key still say of TLS what the route says? */
bool site_key_fits(struct span key, const struct route *route);

struct site_tls {
	enum route_tls tls;
	struct span *names;
	size_t name_count;
	bool login;			/* as somebody: who, its route says */
	enum route_wish wish;		/* of the messages */
	enum site_mx mx;
	enum sts_mode sts;		/* NONE: no policy holds */
	struct span *unlisted;		/* hosts that are not in it */
	size_t unlisted_count;
};
/* False: unknown words (a newer tram's): no TLS of ours is good enough for it. */
bool site_key_tls(struct span key, struct arena *arena, struct site_tls *ret);

#endif
