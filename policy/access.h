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
	struct span hostname;		/* ours: where a bare "postmaster" and our own literal belong */
	struct span postmaster;		/* where mail for postmaster goes; empty: not configured */
	struct routes routes;
};

struct access_client {
	struct netaddr peer;
	bool local;			/* a local program, over the Unix socket */
	bool trusted;			/* peer is in relay_from, or local: set once by access_greet */
};

/* At connect: sets client->trusted. */
void access_greet(const struct access_rules *rules, struct access_client *client);

/* MAIL: 250 2.1.0, or why not. */
struct reply access_mail(const struct access_rules *rules, const struct access_client *client, struct span reverse_path);

/*
 * RCPT: 250 2.1.5, or 550 5.7.1 (relaying denied), 550 5.1.1 … ; rewrites *address (bare postmaster → the configured
 * one, or postmaster@hostname; a bare local part of a local program gets @hostname) in the arena. *route is set on 250.
 */
struct reply access_rcpt(const struct access_rules *rules, const struct access_client *client, struct arena *arena,
			 struct span *address, const struct route **route);

#endif
