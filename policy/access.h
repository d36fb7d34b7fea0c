/*
 * access: may this client send this, to there? Facts in, verdict (a reply) out. Pure.
 */
#ifndef TRAM_POLICY_ACCESS_H
#define TRAM_POLICY_ACCESS_H

#include "mta/base/address.h"
#include "mta/base/netaddr.h"
#include "mta/base/reply.h"
#include "policy/route.h"

struct access_rules {
	struct network *relay_from;	/* may send to anywhere; exempt from per-client limits */
	size_t relay_from_count;
	struct span *relay_to;		/* domain patterns we accept for, from anyone */
	size_t relay_to_count;
	struct span hostname;		/* ours: where a bare "postmaster" belongs */
	struct span postmaster;		/* where mail for postmaster goes; empty: not configured */
	struct routes routes;
};

struct access_client {
	struct netaddr peer;
	struct netaddr server;		/* our end, for postmaster@[it]; family 0: unknown */
	bool local;			/* a local program, over the Unix socket */
	bool authenticated;		/* has logged in */
	bool trusted;			/* peer is in relay_from, or local: by access_greet */
	struct span user;		/* who has logged in; empty: nobody */
};

/* At connect: sets client->trusted. */
void access_greet(const struct access_rules *rules, struct access_client *client);

/* MAIL: 250 2.1.0, or why not. */
struct reply access_mail(const struct access_rules *rules, const struct access_client *client,
			 struct span reverse_path);

/*
 * RCPT: 250 2.1.5, or why not; on 250 *route is set (never of kind reject) and *address may have
 * been rewritten in the arena:
 *	postmaster, bare (any case), at our hostname or at our own address literal → the
 *	configured postmaster, accepted from anyone (RFC 5321 §4.5.1), else postmaster@hostname;
 *	a bare local part of a local program → at our hostname.
 * Trusted clients and those who have logged in may send wherever a route leads (else 550 5.4.4),
 * all others to relay-to domains (else 550 5.7.1). A route that rejects gives its own reply. The
 * local part is opaque: a%b, a!b or "a@b" route nowhere.
 */
struct reply access_rcpt(const struct access_rules *rules, const struct access_client *client,
			 struct span reverse_path, struct arena *arena, struct span *address,
			 const struct route **route);

#endif
